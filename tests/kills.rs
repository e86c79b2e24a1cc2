//! kill -9 under load over every transport: each kill is counted by where it fell, and nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::crash::{check_books, provision_with, wait_for_published};
use crate::harness::{
    Broker, FleetRun, Place, Remains, Served, Witness, evidence, full, root, seeded, shared_deadline,
    wait_for,
};

/// Meters of the fleet.
const METERS: &str = "60";
/// Kills on one partition.
const ROUND: u32 = 60;
/// One kill in so many is followed by another one while the next process starts.
const AGAIN_EVERY: u32 = 6;

/// A head-end with small segments and frequent commits, and a fleet that pushes to it over TCP, UDP and, where there
/// is a broker, MQTT.
pub struct Load {
    dir: tempfile::TempDir,
    /// The head-end's data directory.
    pub data: PathBuf,
    /// What the fleet writes down.
    pub truth: PathBuf,
    /// The fleet.
    pub fleet: FleetRun,
    args: Vec<String>,
    doors: (SocketAddr, SocketAddr),
    _broker: Option<Broker>,
}

impl Load {
    /// Registers so many meters and starts everything, with a configuration of `tests/harness/`.
    pub fn start(seed: u64, meters: &str, config: &str) -> (Load, Served) {
        let mut dir = tempfile::tempdir().unwrap();
        // The files of a failure are worth a look: URJA_KEEP leaves them.
        dir.disable_cleanup(std::env::var_os("URJA_KEEP").is_some());
        let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
        provision_with(&data, &out, seed, meters, &["--config", &config_file(config)]);
        Load::on(dir, data, seed, meters, config)
    }

    /// Waits until something more was sent.
    pub fn goes_on(&mut self) {
        let truth = &self.truth;
        let length = || std::fs::metadata(truth).map_or(0, |file| file.len());
        let before = length();
        wait_for("the fleet sends", || {
            assert!(!self.fleet.is_done(), "the fleet ended early");
            (length() > before).then_some(())
        });
    }

    /// Starts everything on a data directory in which the meters are registered.
    pub fn on(
        dir: tempfile::TempDir,
        data: PathBuf,
        seed: u64,
        meters: &str,
        config: &str,
    ) -> (Load, Served) {
        let broker = Broker::start(&dir.path().join("broker"));
        let mut args = vec!["--config".to_owned(), config_file(config)];
        args.extend(broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]));
        let served = Served::start(&data, &texts(&args));
        // A broker keeps nothing for a session that was never made.
        wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
        let (tcp, udp) = (served.address("tcp"), served.address("udp"));
        let out = dir.path().join("fleet");
        let fleet = start_fleet(&data, &out, seed, meters, (tcp, udp), broker.as_ref());
        let truth = out.join("truth.jsonl");
        (Load { dir, data, truth, fleet, args, doors: (tcp, udp), _broker: broker }, served)
    }

    /// Starts the head-end again at the same addresses.
    pub fn again(&self) -> Served {
        Served::again(&self.data, &texts(&self.args), self.doors.0, self.doors.1)
    }

    /// Starts it and kills it at that moment of its start; gives what it logged.
    pub fn again_and_kill(&self, moment: Duration) -> String {
        Served::start_and_kill(&self.data, &texts(&self.args), moment)
    }

    /// Stops the fleet once a day was closed, waits for what it has sent, checks the books and stops the head-end. Gives
    /// the fleet's summary.
    pub fn finish(mut self, served: Served) -> Value {
        let is_closed = |line: &str| line.contains("\"day_closed\"");
        while !std::fs::read_to_string(&self.truth).unwrap().lines().any(is_closed) {
            self.goes_on();
        }
        // The directory stays until nobody writes to it any more.
        let Load { dir, truth, mut fleet, .. } = self;
        fleet.terminate();
        let summary = fleet.finish();
        wait_for_published(&served, &truth);
        check_books(&served, &truth);
        assert_eq!(served.terminate(), 0);
        drop(dir);
        summary
    }
}

/// A configuration of `tests/harness/`.
pub fn config_file(name: &str) -> String {
    root().join("tests/harness").join(name).display().to_string()
}

fn texts(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn start_fleet(
    data: &Path,
    out: &Path,
    seed: u64,
    meters: &str,
    (tcp, udp): (SocketAddr, SocketAddr),
    broker: Option<&Broker>,
) -> FleetRun {
    let (seed, out) = (seed.to_string(), out.display().to_string());
    let mut to = vec![format!("tcp://{tcp}"), format!("udp://{udp}")];
    to.extend(broker.map(Broker::url));
    // What a datagram loses is sent again soon, so that the next fault meets a load.
    let mut args = vec!["--meters", meters, "--seed", &seed, "--out", &out, "--days", "4000", "--drive"];
    args.extend(["--confirm-timeout", "0.5"]);
    to.iter().for_each(|address| args.extend(["--to", address]));
    FleetRun::start(data, &args)
}

/// What the kills of a run fell into.
#[derive(Default)]
pub struct Count {
    kills: u32,
    places: BTreeMap<Place, u32>,
    /// Kills with something under way on a transport.
    transports: BTreeMap<&'static str, u32>,
    /// Frames were sent and not acknowledged, or written and not proven to be synced.
    unsynced: u32,
    /// Records were in the journal and not in the lake.
    uncommitted: u32,
    either: u32,
    starts: BTreeMap<&'static str, u32>,
    torn: u32,
}

impl Count {
    /// A kill under load, by what it left, what was under way by then and the frames that are in the journal.
    pub fn add(&mut self, remains: &Remains, witness: &Witness, stored: &BTreeSet<String>) {
        self.kills += 1;
        *self.places.entry(remains.place(witness)).or_default() += 1;
        let waiting = [
            ("tcp", witness.under_way("tcp")),
            ("udp", witness.under_way("udp")),
            ("mqtt", witness.published.difference(stored).count() + witness.under_way("mqtt")),
        ];
        let mut unsynced = false;
        for (transport, _) in waiting.iter().filter(|(_, frames)| *frames > 0) {
            *self.transports.entry(transport).or_default() += 1;
            unsynced = true;
        }
        let uncommitted = remains.last > remains.committed;
        self.unsynced += u32::from(unsynced);
        self.uncommitted += u32::from(uncommitted);
        self.either += u32::from(unsynced || uncommitted);
    }

    /// A kill during a start, by what the process had logged.
    fn add_start(&mut self, log: &str, remains: &Remains) {
        self.kills += 1;
        let uncommitted = u32::from(remains.last > remains.committed);
        self.uncommitted += uncommitted;
        self.either += uncommitted;
        let reached = if log.contains("partition open") {
            "after replay"
        } else if log.contains("journal open") {
            "in replay"
        } else {
            "before replay"
        };
        *self.starts.entry(reached).or_default() += 1;
    }

    /// A run is void where less than 80 % of its kills fell into a window in which something could be lost.
    pub fn assert_not_void(&self) {
        assert!(
            self.either * 10 >= self.kills * 8,
            "void: too few kills fell into a window: {}",
            self.describe()
        );
    }

    /// The counts, for the evidence.
    pub fn describe(&self) -> String {
        let list = |counts: Vec<(String, u32)>| {
            let parts: Vec<String> =
                counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
            parts.join(", ")
        };
        let named = |counts: &BTreeMap<&'static str, u32>| {
            list(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
        };
        format!(
            "{} unsynced, {} uncommitted, {} in either window; fell {}; under way {}; during a start {}; torn tails {}",
            self.unsynced,
            self.uncommitted,
            self.either,
            list(
                self.places
                    .iter()
                    .map(|(place, count)| (format!("{place:?}").to_lowercase(), *count))
                    .collect()
            ),
            named(&self.transports),
            named(&self.starts),
            self.torn,
        )
    }
}

fn kills() -> u32 {
    if full() { 300 } else { 20 }
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_over_kill_9_under_mixed_load() {
    let (seed, mut random) = seeded("kills");
    let mut count = Count::default();
    let (mut confirmed, mut published, mut injected) = (0, 0, 0);
    while injected < kills() {
        // A fresh partition now and then: with a commit every 300 ms a lake of many versions takes long to open.
        let part = ROUND.min(kills() - injected);
        let summary = round(seed + u64::from(injected), &mut random, part, &mut count);
        injected += part;
        confirmed += summary["confirmed"].as_u64().unwrap();
        published += summary["published"].as_u64().unwrap();
    }
    let result = format!("{confirmed} frames confirmed, {published} published; {}", count.describe());
    count.assert_not_void();
    assert!(!count.starts.is_empty(), "void: no kill fell into a start: {result}");
    assert!(!full() || count.transports.len() == 3, "void: not every transport was interrupted: {result}");
    assert!(confirmed > 200, "{result}");
    evidence(
        "confirmed frames survive kill -9, each key once, balances as the model's",
        seed,
        injected,
        &result,
    );
}

/// So many kills on one partition, and its books; gives the fleet's summary.
fn round(seed: u64, random: &mut impl FnMut() -> u64, kills: u32, count: &mut Count) -> Value {
    let (mut load, mut served) = Load::start(seed, METERS, "quick-commits.toml");
    let mut witness = Witness::new(&load.truth);
    let mut stored = BTreeSet::new();
    let (mut injected, mut last) = (0, 0);
    while injected < kills {
        load.goes_on();
        shared_deadline(Duration::from_millis(random() % 700));
        let mark = witness.mark();
        served.kill();
        witness.follow(mark);
        injected += 1;
        let remains = Remains::of(&load.data, last);
        last = remains.last;
        stored.extend(remains.frames.iter().map(|(_, digest)| digest.clone()));
        let lost: Vec<&String> = witness.confirmed.difference(&stored).collect();
        assert!(lost.is_empty(), "kill {injected}: confirmed and not in the journal: {lost:?}");
        count.add(&remains, &witness, &stored);
        // It is told apart in the count: what such a kill interrupts is the start, not the load.
        if injected.is_multiple_of(AGAIN_EVERY) && injected < kills {
            let log = load.again_and_kill(Duration::from_millis(random() % 900));
            count.add_start(&log, &Remains::of(&load.data, last));
            injected += 1;
        }
        served = load.again();
    }
    count.torn += u32::try_from(served.log().matches("torn tail").count()).unwrap();
    println!("{injected} kills on one partition; so far {}", count.describe());
    load.finish(served)
}
