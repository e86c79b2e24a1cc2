//! A fleet that runs.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{CivilDay, Instant};
use profiles::Profile;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{self, MissedTickBehavior};

use crate::link::{Answering, Link, Place};
use crate::meter::{Door, SimulatedClock};
use crate::options::{FleetOptions, Target};
use crate::provision::{SimulatedMeter, provision, write_accounts, write_meters};
use crate::schedule::{Pace, Schedule};
use crate::spell;
use crate::stats::{Counters, Stats};
use crate::{Error, Redirect, Truth};

/// How often the caller hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Longest spread of pushes: below the shortest capture period.
const MAX_SPREAD_S: u32 = 600;
/// Shortest time between two instantaneous pushes: a day has counters for no more.
const MIN_INSTANT_S: u32 = 60;
const DAY_S: u32 = 86_400;

/// Simulated meters that push to their targets.
///
/// Time is what the caller says: [`Fleet::push_day`] and [`Fleet::push_until`] send everything that is due up to a
/// moment as fast as it is acknowledged; [`Fleet::live`] lets time pass. All three end early, without an error, when
/// the options' `shutdown` is cancelled; do not drop their futures instead, for the connections go with them.
#[derive(Debug)]
pub struct Fleet {
    options: FleetOptions,
    meters: Vec<Arc<SimulatedMeter>>,
    links: Vec<Link>,
    redirect: Redirect,
    counters: Arc<Counters>,
    truth: Truth,
}

impl Fleet {
    /// Makes the meters and opens the truth file. Nothing is sent yet.
    ///
    /// # Errors
    /// When the options contradict each other, or the truth file cannot be used.
    pub fn new(options: FleetOptions) -> Result<Fleet, Error> {
        check(&options)?;
        let meters = provision(options.seed, options.meters, options.from, &options.mix);
        let truth = match &options.truth {
            Some(path) => Truth::open(path, &options, &meters)?,
            None => Truth::default(),
        };
        for (meter, moves) in truth.moves()? {
            meters.get(meter as usize).into_iter().for_each(|meter| meter.supply.restore(moves.clone()));
        }
        let meters: Vec<Arc<SimulatedMeter>> = meters.into_iter().map(Arc::new).collect();
        let counters = Arc::new(Counters::default());
        let redirect = Redirect::new(options.targets.len());
        let links = links(&options, &meters, &redirect, &counters, &truth)?;
        Ok(Fleet { options, meters, links, redirect, counters, truth })
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &FleetOptions {
        &self.options
    }

    /// The meters, by their number.
    #[must_use]
    pub fn meters(&self) -> &[Arc<SimulatedMeter>] {
        &self.meters
    }

    /// Writes `accounts.csv` and `meters.csv` for the registry into a directory, and where meters change their keys
    /// `rekey.csv` with the new ones. The last two hold keys.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_registry_files(&self, dir: &Path) -> Result<(), Error> {
        let write = |name: &str, write: fn(&[Arc<SimulatedMeter>], std::fs::File) -> std::io::Result<()>| {
            let path = dir.join(name);
            let written = std::fs::File::create(&path).and_then(|file| write(&self.meters, file));
            written.map_err(|source| Error::Write { path, source })
        };
        write("accounts.csv", |meters, file| write_accounts(meters, std::io::BufWriter::new(file)))?;
        write("meters.csv", |meters, file| write_meters(meters, std::io::BufWriter::new(file)))?;
        let (new_keys, path) = (self.new_keys(None), dir.join("rekey.csv"));
        if new_keys.is_empty() {
            return Ok(());
        }
        std::fs::write(&path, new_keys).map_err(|source| Error::Write { path, source })
    }

    /// The lines that `urja meter rekey` reads, of the meters that go over to new keys on that day, or on any. They
    /// hold the keys; empty where there are none.
    #[must_use]
    pub fn new_keys(&self, day: Option<CivilDay>) -> Vec<u8> {
        new_keys(&self.options, &self.meters, day)
    }

    /// The truth file, for what only the driver knows: recharges and closed days.
    #[must_use]
    pub fn truth(&self) -> Truth {
        self.truth.clone()
    }

    /// What to turn when a target has moved.
    #[must_use]
    pub fn redirect(&self) -> Redirect {
        self.redirect.clone()
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// The counters, to be read while the fleet runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Goes on to `until` without sending: an earlier run of the same fleet sent everything that was due before.
    ///
    /// # Errors
    /// When a profile lacks a push.
    pub fn skip_until(&mut self, until: Instant) -> Result<(), Error> {
        self.links.iter_mut().try_for_each(|link| link.skip(until))
    }

    /// The moment up to which [`Fleet::push_day`] sends: the end of the day and the spread of pushes after it.
    #[must_use]
    pub fn day_is_pushed_at(&self, day: CivilDay) -> Instant {
        // Daily registers follow the last interval by two seconds.
        self.options.calendar.end_of(day).plus_seconds(i64::from(self.options.cadence.spread_s) + 2)
    }

    /// Sends everything that is due up to the end of that day, its midnight registers included, as
    /// [`Fleet::push_until`] does.
    ///
    /// # Errors
    /// As [`Fleet::push_until`].
    pub async fn push_day(&mut self, day: CivilDay, progress: impl FnMut(Stats)) -> Result<Stats, Error> {
        self.push_until(self.day_is_pushed_at(day), progress).await
    }

    /// Sends everything that is due up to `until` in simulated time, as fast as it is acknowledged, and returns when
    /// it is. Neighbouring intervals go out together in one push. `progress` is called ten times a second.
    ///
    /// # Errors
    /// When the truth cannot be written. What goes wrong on the way is retried.
    pub async fn push_until(
        &mut self,
        until: Instant,
        mut progress: impl FnMut(Stats),
    ) -> Result<Stats, Error> {
        self.keep_moves();
        let mut running = JoinSet::new();
        let turns = Arc::new(Semaphore::new(self.options.links_at_once));
        for mut link in self.links.drain(..) {
            let turns = Arc::clone(&turns);
            running.spawn(async move {
                let _turn = turns.acquire().await;
                let result = link.run(until, Pace::Loading).await;
                (link, result)
            });
        }
        self.gather(running, &mut progress).await
    }

    /// Lets these meters answer requests on the connections of their pushes, in [`Fleet::live`]: those that have a TCP
    /// connection or an MQTT client of their own. It stays open, and is opened again where it breaks.
    pub fn dial_in(&mut self, doors: &mut [Door], clock: SimulatedClock) {
        for link in &mut self.links {
            let find = |meter: u32| {
                let door = doors.iter().find(|door| door.identity.index == meter)?;
                Some(Answering { meter: Arc::clone(&door.meter), clock })
            };
            if let Some(node) = link.answer(find)
                && let Some(door) = doors.iter_mut().find(|door| door.identity.serial == node)
            {
                door.node = Some(node);
            }
        }
    }

    /// Lets time pass: the simulated clock shows `now` and goes `speed` times as fast as time, until shutdown. Each
    /// push is sent when it is due; what is overdue at the start is sent at once.
    ///
    /// # Errors
    /// When the truth cannot be written. What goes wrong on the way is retried.
    pub async fn live(&mut self, now: Instant, speed: u32) -> Result<Stats, Error> {
        self.keep_moves();
        let mut running = JoinSet::new();
        for mut link in self.links.drain(..) {
            running.spawn(async move {
                let result = link.live(now, speed).await;
                (link, result)
            });
        }
        self.gather(running, &mut |_| {}).await
    }

    /// The truth is told of the relays of meters that answer.
    fn keep_moves(&self) {
        self.meters.iter().for_each(|meter| meter.supply.keep(&self.truth, meter.index));
    }

    /// Takes the links back as they end, and gives the first error.
    async fn gather(
        &mut self,
        mut running: JoinSet<(Link, Result<(), Error>)>,
        progress: &mut dyn FnMut(Stats),
    ) -> Result<Stats, Error> {
        let mut tick = time::interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut outcome = Ok(());
        loop {
            let joined = tokio::select! {
                joined = running.join_next() => joined,
                _ = tick.tick() => {
                    progress(self.counters.stats());
                    continue;
                }
            };
            match joined {
                Some(Ok((link, result))) => {
                    self.links.push(link);
                    outcome = outcome.and(result);
                }
                Some(Err(_)) => outcome = outcome.and(Err(Error::SenderPanicked)),
                None => break,
            }
        }
        self.links.sort_by_key(Link::link);
        let stats = self.counters.stats();
        progress(stats);
        outcome.map(|()| stats)
    }
}

/// As [`Fleet::new_keys`], of these meters.
#[must_use]
pub fn new_keys(
    options: &FleetOptions,
    meters: &[impl Borrow<SimulatedMeter>],
    day: Option<CivilDay>,
) -> Vec<u8> {
    let FleetOptions { seed, faults, calendar, .. } = options;
    if faults.key_change_ppm == 0 {
        return Vec::new();
    }
    let changes = |meter: &&SimulatedMeter| {
        let change = spell::key_change(*seed, meter, faults, calendar);
        change.is_some_and(|(on, _)| day.is_none_or(|day| day == on))
    };
    let lines = meters.iter().map(Borrow::borrow).filter(changes).map(|meter| {
        let (guek, gak) = spell::second_keys(*seed, meter.index);
        format!("{},{},{}\n", meter.title, hex::encode(guek), hex::encode(gak))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { Vec::new() } else { format!("system_title,guek,gak\n{lines}").into_bytes() }
}

fn check(options: &FleetOptions) -> Result<(), Error> {
    let cadence = &options.cadence;
    let divides = |part: u32, whole: u32| part == 0 || whole.is_multiple_of(part);
    let faults: [(bool, &'static str); 6] = [
        (options.targets.is_empty(), "a fleet needs a target"),
        (cadence.spread_s > MAX_SPREAD_S, "pushes are spread over at most 600 s"),
        (
            cadence.instant_s != 0
                && (cadence.instant_s < MIN_INSTANT_S || !divides(cadence.instant_s, DAY_S)),
            "instantaneous pushes are at least 60 s apart, a divisor of a day",
        ),
        (
            !divides(cadence.instant_s, cadence.loading_instant_s),
            "instantaneous pushes while loading are a part of all",
        ),
        (!divides(cadence.loading_block_s, DAY_S), "intervals that go out together divide a day"),
        (options.calendar.start_of(options.from).0 < 0, "the first day lies before 1970"),
    ];
    faults.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, fault)| Err(Error::Options(fault)))
}

/// Deals the meters out to the targets and to their connections.
fn links(
    options: &FleetOptions,
    meters: &[Arc<SimulatedMeter>],
    redirect: &Redirect,
    counters: &Arc<Counters>,
    truth: &Truth,
) -> Result<Vec<Link>, Error> {
    let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
    let mut links = Vec::new();
    for (number, target) in options.targets.iter().enumerate() {
        let own: Vec<_> = meters.iter().skip(number).step_by(options.targets.len()).cloned().collect();
        for shared in own.chunks(meters_per_connection(target)) {
            let share_concentrator = matches!(target, Target::Tcp { .. }) && shared.len() > 1;
            let (counters, truth) = (Arc::clone(counters), truth.clone());
            let schedule = Schedule::with(
                options,
                shared,
                &profiles,
                share_concentrator,
                Arc::clone(&counters),
                truth.clone(),
            )?;
            let alone = shared.first().filter(|_| shared.len() == 1).map(|meter| meter.index);
            let place = Place {
                target: target.clone(),
                number,
                link: links.len(),
                redirect: redirect.clone(),
                alone,
                hdlc: options.mix.hdlc,
                answering: None,
            };
            links.push(Link::new(place, schedule, options, counters, truth));
        }
    }
    Ok(links)
}

fn meters_per_connection(target: &Target) -> usize {
    let (Target::Tcp { meters_per_connection: meters, .. }
    | Target::Udp { meters_per_connection: meters, .. }) = target
    else {
        let Target::Mqtt(target) = target else { return 1 };
        return target.meters_per_connection.max(1) as usize;
    };
    (*meters).max(1) as usize
}
