//! What is due, meter by meter, in the order in which it reaches the head-end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::{Calendar, CivilDay, Instant};
use profiles::Profile;

use crate::encode::{Encoder, Frame};
use crate::options::{Cadence, FleetOptions};
use crate::plan::{Content, Measured, Plan, PlannedFrame, Planner};
use crate::program::Numbered;
use crate::provision::SimulatedMeter;
use crate::rng::Rng;
use crate::stats::{self, Counters, count};
use crate::truth::Struck;
use crate::weather::key;
use crate::{Error, Truth};

const PURPOSE_UPLINK: u64 = 18;

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Days are loaded as fast as they are taken: neighbouring intervals go out together.
    Loading,
    /// Every push by itself, when it is due.
    Live,
}

/// A push that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The push.
    pub frame: Frame,
    /// Whether these bytes were due before: the second copy of a duplicate.
    pub copy: bool,
}

/// The pushes of some meters of a fleet, in order. It sends nothing and knows no clock.
#[derive(Debug)]
pub struct Schedule {
    meters: Vec<Worker>,
    calendar: Calendar,
    last: Option<CivilDay>,
    cadence: Cadence,
    due: BTreeMap<Key, Planned>,
    /// Intervals that are waiting to go out together, by place of the meter, and the end of their window.
    merging: BTreeMap<usize, Vec<Planned>>,
    window_end: Option<Instant>,
    ready: VecDeque<(usize, Planned)>,
    uplink: Uplink,
    counters: Arc<Counters>,
    truth: Truth,
}

/// A meter and what makes its pushes.
#[derive(Debug)]
struct Worker {
    planner: Planner,
    encoder: Encoder,
    /// The day that was planned last, until it is over.
    today: Option<Arc<Measured>>,
}

/// The way from the meters to the head-end.
#[derive(Debug)]
struct Uplink {
    seed: u64,
    /// Chance of a failure on a day; 0 for what is no concentrator.
    newest_first_ppm: u32,
    /// Spans in which it fails, by time, as far as days are planned.
    failures: VecDeque<(Instant, Instant)>,
}

impl Uplink {
    /// Draws whether it fails on that day.
    fn plan(&mut self, first_meter: u32, day: CivilDay, begins: Instant) -> Option<Struck> {
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_UPLINK, u64::from(first_meter), key(day)]);
        let fails = self.newest_first_ppm > 0 && rng.chance(self.newest_first_ppm);
        let from = begins.plus_seconds(rng.between(3600, 23 * 3600));
        let until = from.plus_seconds(rng.between(2 * 3600, 20 * 3600));
        // A failure that goes on into the next day is one.
        let is_over = self.failures.back().is_none_or(|(_, before)| *before < from);
        if !(fails && is_over) {
            return None;
        }
        while self.failures.front().is_some_and(|(_, over)| *over < begins) && self.failures.len() > 1 {
            self.failures.pop_front();
        }
        self.failures.push_back((from, until));
        Some(Struck::new("newest_first", from, until))
    }

    /// When what is sent at `at` gets through, if the way fails then.
    fn through(&self, at: Instant) -> Option<Instant> {
        self.failures.iter().find(|(from, until)| *from <= at && at < *until).map(|(_, until)| *until)
    }
}

/// Order of pushes: by time, then meter, then counter; the second copy behind the first. What was held back goes before
/// all else of its time, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: Instant,
    /// 0, or the time by which it was held back.
    held: i64,
    meter: usize,
    counter: u32,
    copy: bool,
}

#[derive(Clone, Debug)]
struct Planned {
    measured: Arc<Measured>,
    /// The day in whose plan it is: that of the measurements, but for what comes after a silence.
    planned_on: CivilDay,
    frame: PlannedFrame,
}

impl Schedule {
    /// The pushes of these meters, from their first day on. Where they are several, they share a concentrator.
    ///
    /// # Errors
    /// When a meter's profile is not known.
    pub fn new(options: &FleetOptions, meters: &[Arc<SimulatedMeter>]) -> Result<Schedule, Error> {
        let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
        Schedule::with(options, meters, &profiles, meters.len() > 1, Arc::default(), Truth::default())
    }

    pub(crate) fn with(
        options: &FleetOptions,
        meters: &[Arc<SimulatedMeter>],
        profiles: &[Arc<Profile>],
        share_concentrator: bool,
        counters: Arc<Counters>,
        truth: Truth,
    ) -> Result<Schedule, Error> {
        let worker = |meter: &Arc<SimulatedMeter>| {
            let (calendar, meter) = (options.calendar.clone(), Arc::clone(meter));
            let encoder =
                Encoder::new(options.seed, Arc::clone(&meter), calendar.clone(), options.faults, profiles)?;
            let planner = Planner::new(options.seed, meter, calendar, options.faults, options.cadence);
            Ok(Worker { planner, encoder, today: None })
        };
        let newest_first_ppm = if share_concentrator { options.faults.newest_first_ppm } else { 0 };
        Ok(Schedule {
            uplink: Uplink { seed: options.seed, newest_first_ppm, failures: VecDeque::new() },
            meters: meters.iter().map(worker).collect::<Result<_, Error>>()?,
            calendar: options.calendar.clone(),
            last: options.last,
            cadence: options.cadence,
            due: BTreeMap::new(),
            merging: BTreeMap::new(),
            window_end: None,
            ready: VecDeque::new(),
            counters,
            truth,
        })
    }

    /// The next push that is due at or before `until`.
    ///
    /// # Errors
    /// When the truth cannot be written.
    pub fn next(&mut self, until: Instant, pace: Pace) -> Result<Option<Due>, Error> {
        let Some((meter, planned, copy)) = self.advance(until, pace, true)? else { return Ok(None) };
        let Worker { planner, encoder, .. } = &self.meters[meter];
        let frame = encoder.encode(&planner.measured(&planned.measured), &planned.frame)?;
        Ok(Some(Due { frame, copy }))
    }

    /// Goes on to `until` and leaves out everything that is due before, as sent by an earlier run.
    ///
    /// # Errors
    /// None but for a profile that lacks a push.
    pub fn skip(&mut self, until: Instant) -> Result<(), Error> {
        while self.advance(until, Pace::Live, false)?.is_some() {}
        Ok(())
    }

    /// When the next push is due, as far as days are planned.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(key, _)| key.at)
    }

    fn advance(
        &mut self,
        until: Instant,
        pace: Pace,
        note: bool,
    ) -> Result<Option<(usize, Planned, bool)>, Error> {
        for place in 0..self.meters.len() {
            let meter = self.meters[place].planner.meter();
            meter.supply.pass(until);
            if let Some(since) = meter.program.pass(until) {
                self.plan_again(place, since);
            }
        }
        loop {
            if let Some((meter, planned)) = self.ready.pop_front() {
                return Ok(Some((meter, planned, false)));
            }
            self.plan_until(until, note)?;
            let first = self.next_due().filter(|at| *at <= until);
            let closes = self.window_end.map(|end| end.plus_seconds(i64::from(self.cadence.spread_s)));
            match (first, closes) {
                (_, Some(_)) if pace == Pace::Live => self.part(),
                (Some(at), Some(close)) if close < at => self.merge(close),
                (None, Some(close)) if close <= until => self.merge(close),
                (None, _) => return Ok(None),
                (Some(_), _) => {
                    let Some((key, planned)) = self.due.pop_first() else { return Ok(None) };
                    let Some(planned) = self.get_through(key, planned) else { continue };
                    if let Some(due) = self.take(key, planned, pace) {
                        return Ok(Some(due));
                    }
                }
            }
        }
    }

    /// Puts a push off whose way fails; gives back any other. Second copies come behind all that was held back.
    fn get_through(&mut self, key: Key, mut planned: Planned) -> Option<Planned> {
        let Some(through) = self.uplink.through(key.at) else { return Some(planned) };
        planned.frame.sent = through;
        let held = if key.copy { 0 } else { -key.at.0 };
        count(&self.counters.held_back, 1);
        self.due.insert(Key { at: through, held, ..key }, planned);
        None
    }

    /// What is to be done with a push whose time has come: send it, let it wait for its neighbours, or leave it out.
    fn take(&mut self, key: Key, planned: Planned, pace: Pace) -> Option<(usize, Planned, bool)> {
        let flat = self.meters[key.meter].planner.meter().flat;
        let merges = pace == Pace::Loading
            && self.cadence.loading_block_s > 0
            && !flat
            && planned.frame.is_mergeable();
        if merges {
            self.window_end = Some(self.window_end_of(&planned));
            self.merging.entry(key.meter).or_default().push(planned);
            return None;
        }
        if pace == Pace::Loading && self.is_left_out(&planned) {
            return None;
        }
        Some((key.meter, planned, key.copy))
    }

    /// Plans the days that begin before the next push, or before `until` where there is none.
    fn plan_until(&mut self, until: Instant, note: bool) -> Result<(), Error> {
        loop {
            let Some(day) = self.meters.first().map(|worker| worker.planner.next_day()) else {
                return Ok(());
            };
            let begins = self.calendar.start_of(day);
            if note && begins <= until {
                self.end_day()?;
            }
            if self.last.is_some_and(|last| day > last) {
                return Ok(());
            }
            if begins > until || self.next_due().is_some_and(|at| at < begins) {
                return Ok(());
            }
            self.plan_day(note)?;
        }
    }

    /// The day that was planned last is over: the truth is told of meters with a relay, whose use was not known before.
    fn end_day(&mut self) -> Result<(), Error> {
        for worker in &mut self.meters {
            let meter = worker.planner.meter();
            let Some(measured) = worker.today.take().filter(|_| meter.supply.is_live()) else { continue };
            self.truth.used(meter.index, &worker.planner.measured(&measured))?;
        }
        Ok(())
    }

    fn plan_day(&mut self, note: bool) -> Result<(), Error> {
        self.plan_uplink(note)?;
        for (place, worker) in self.meters.iter_mut().enumerate() {
            let plan = worker.planner.plan();
            self.counters.planned(&plan.faults);
            worker.today = Some(Arc::clone(&plan.measured));
            if note {
                if !worker.planner.meter().supply.is_live() {
                    self.truth.used(worker.planner.meter().index, &plan.measured)?;
                }
                for struck in &plan.struck {
                    self.truth.struck(worker.planner.meter().index, struck)?;
                }
            }
            enter(&mut self.due, worker, place, plan, None);
        }
        Ok(())
    }

    /// The program of a meter is another from `since` on: what it pushes behind that is planned anew.
    fn plan_again(&mut self, place: usize, since: Instant) {
        let worker = &mut self.meters[place];
        let day = self.calendar.day_of(since);
        // A day that is not planned yet will have it.
        if worker.planner.next_day() != day.next() {
            return;
        }
        self.due.retain(|key, planned| {
            key.meter != place || planned.planned_on != day || planned.frame.due <= since
        });
        let plan = worker.planner.plan_again();
        worker.today = Some(Arc::clone(&plan.measured));
        enter(&mut self.due, worker, place, plan, Some(since));
    }

    fn plan_uplink(&mut self, note: bool) -> Result<(), Error> {
        let Some(first) = self.meters.first() else { return Ok(()) };
        let (index, day) = (first.planner.meter().index, first.planner.next_day());
        let Some(struck) = self.uplink.plan(index, day, self.calendar.start_of(day)) else { return Ok(()) };
        self.counters.planned(&stats::Planned { newest_first: 1, ..stats::Planned::default() });
        if note { self.truth.struck(index, &struck) } else { Ok(()) }
    }

    /// The end of the window of intervals that go out together, which holds the push.
    fn window_end_of(&self, planned: &Planned) -> Instant {
        let used = &planned.measured.used;
        let block = i64::from(self.cadence.loading_block_s);
        let into = planned.frame.due.seconds() - used.start.seconds() - i64::from(self.cadence.spread_s);
        let windows = (into + block - 1).div_euclid(block).max(1);
        used.start.plus_seconds(windows * block).min(used.end())
    }

    fn is_left_out(&self, planned: &Planned) -> bool {
        let Content::Moment(at) = planned.frame.content else { return false };
        let every = i64::from(self.cadence.instant_s);
        let kept_every = i64::from(self.cadence.loading_instant_s);
        let number = (at.seconds() - planned.measured.used.start.seconds()) / every.max(1);
        kept_every == 0 || (number + 1) * every % kept_every != 0
    }

    /// The window is over: its intervals go out together, under the counter of the last.
    fn merge(&mut self, at: Instant) {
        self.window_end = None;
        for (meter, waiting) in std::mem::take(&mut self.merging) {
            let slots: Vec<usize> =
                waiting.iter().filter_map(|planned| slot_of(&planned.frame.content)).collect();
            let Some(mut last) = waiting.into_iter().next_back() else { continue };
            if slots.len() > 1 {
                last.frame.content = Content::Intervals(slots);
            }
            let key = Key { at, held: 0, meter, counter: last.frame.counter, copy: false };
            let through = self.get_through(key, last);
            self.ready.extend(through.map(|last| (meter, last)));
        }
    }

    /// Time passes as it does: what waited for its neighbours goes out by itself.
    fn part(&mut self) {
        self.window_end = None;
        for (meter, waiting) in std::mem::take(&mut self.merging) {
            self.ready.extend(waiting.into_iter().map(|planned| (meter, planned)));
        }
    }
}

/// Puts the pushes of a plan in their place, those that are due after `since`.
fn enter(
    due: &mut BTreeMap<Key, Planned>,
    worker: &Worker,
    meter: usize,
    plan: Plan,
    since: Option<Instant>,
) {
    let measured = plan.measured;
    let planned_on = measured.used.day;
    let today = plan.frames.into_iter().map(|frame| (Arc::clone(&measured), frame));
    let backlog = plan
        .backlog
        .into_iter()
        .flat_map(|(measured, frames)| frames.into_iter().map(move |frame| (Arc::clone(&measured), frame)));
    let program = &worker.planner.meter().program;
    let mut numbered = Vec::new();
    for (measured, frame) in today.chain(backlog) {
        let PlannedFrame { key_epoch, counter, due: at, .. } = frame;
        if program.is_live() {
            numbered.push(Numbered { at, key_epoch, counter });
        }
        if since.is_some_and(|since| at <= since) {
            continue;
        }
        let planned = Planned { measured, planned_on, frame };
        let key = Key { at: planned.frame.sent, held: 0, meter, counter, copy: false };
        if let Some(again) = planned.frame.again {
            due.insert(Key { at: again, copy: true, ..key }, planned.clone());
        }
        due.insert(key, planned);
    }
    program.number(measured.used.start, numbered);
}

fn slot_of(content: &Content) -> Option<usize> {
    match content {
        Content::Interval(slot) => Some(*slot),
        _ => None,
    }
}
