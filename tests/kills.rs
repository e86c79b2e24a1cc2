//! kill -9 under load over every transport: each kill is counted by where it fell, and nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::crash::{check_books, provision, wait_for_published};
use crate::harness::{
    Broker, FleetRun, Place, Remains, Served, Witness, evidence, seeded, shared_deadline, wait_for,
};

/// Meters of the fleet.
const METERS: &str = "60";
/// One kill in so many is followed by another one while the next process starts.
const AGAIN_EVERY: u64 = 6;

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
    /// Arguments of every start.
    pub args: Vec<String>,
    _broker: Option<Broker>,
}

impl Load {
    /// Registers so many meters and starts everything.
    pub fn start(seed: u64, meters: &str) -> (Load, Served) {
        let mut dir = tempfile::tempdir().unwrap();
        // The files of a failure are worth a look: URJA_KEEP leaves them.
        dir.disable_cleanup(std::env::var_os("URJA_KEEP").is_some());
        let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
        provision(&data, &out, seed, meters);
        Load::on(dir, data, seed, meters)
    }

    /// Starts everything on a data directory in which the meters are registered.
    pub fn on(dir: tempfile::TempDir, data: PathBuf, seed: u64, meters: &str) -> (Load, Served) {
        let broker = Broker::start(&dir.path().join("broker"));
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/quick-commits.toml");
        let mut args = vec!["--config".to_owned(), config.to_owned()];
        args.extend(broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]));
        let served = Served::start(&data, &texts(&args));
        // A broker keeps nothing for a session that was never made.
        wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
        let (tcp, udp) = (served.address("tcp"), served.address("udp"));
        args.extend(["--tcp".to_owned(), tcp.to_string(), "--udp".to_owned(), udp.to_string()]);
        let out = dir.path().join("fleet");
        let fleet = start_fleet(&data, &out, seed, meters, (tcp, udp), broker.as_ref());
        let truth = out.join("truth.jsonl");
        (Load { dir, data, truth, fleet, args, _broker: broker }, served)
    }

    /// Starts the head-end again at the same addresses.
    pub fn again(&self) -> Served {
        Served::start(&self.data, &texts(&self.args))
    }

    /// Starts it and kills it at that moment of its start; gives what it logged.
    pub fn again_and_kill(&self, moment: Duration) -> String {
        Served::start_and_kill(&self.data, &texts(&self.args), moment)
    }

    /// Stops the fleet, waits for what it has sent, and checks the books. Gives the fleet's summary.
    pub fn finish(self, served: &Served) -> Value {
        let Load { dir, truth, mut fleet, .. } = self;
        fleet.terminate();
        let summary = fleet.finish();
        wait_for_published(served, &truth);
        check_books(served, &truth);
        drop(dir);
        summary
    }
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
    let mut args = vec!["--meters", meters, "--seed", &seed, "--out", &out, "--days", "4000", "--drive"];
    to.iter().for_each(|address| args.extend(["--to", address]));
    FleetRun::start(data, &args)
}

/// What the kills of a run fell into.
#[derive(Default)]
struct Count {
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
    fn add(&mut self, remains: &Remains, witness: &Witness, stored: &BTreeSet<String>) {
        *self.places.entry(remains.place(witness)).or_default() += 1;
        let waiting = [
            ("tcp", witness.under_way("tcp")),
            ("udp", witness.under_way("udp")),
            ("mqtt", witness.published.difference(stored).count()),
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
    fn add_start(&mut self, log: &str) {
        let reached = if log.contains("partition open") {
            "after replay"
        } else if log.contains("journal open") {
            "in replay"
        } else {
            "before replay"
        };
        *self.starts.entry(reached).or_default() += 1;
    }

    fn describe(&self) -> String {
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
    if std::env::var_os("URJA_FULL").is_some() { 300 } else { 20 }
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_over_kill_9_under_mixed_load() {
    let (seed, mut random) = seeded("kills");
    let (mut load, mut served) = Load::start(seed, METERS);
    let mut witness = Witness::new(&load.truth);
    let mut stored = BTreeSet::new();
    let mut count = Count::default();
    let (mut injected, mut last) = (0, 0);
    while injected < kills() {
        shared_deadline(Duration::from_millis(100 + random() % 900));
        assert!(!load.fleet.is_done(), "the fleet ended early");
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
        if random().is_multiple_of(AGAIN_EVERY) && injected < kills() {
            count.add_start(&load.again_and_kill(Duration::from_millis(random() % 400)));
            count.either += u32::from(remains.last > remains.committed);
            injected += 1;
        }
        served = load.again();
    }
    count.torn = u32::try_from(served.log().matches("torn tail").count()).unwrap();
    let result = count.describe();
    println!("kills: {result}");
    assert!(count.either >= kills() * 8 / 10, "void: too few kills fell into a window: {result}");
    assert!(!count.starts.is_empty(), "void: no kill fell into a start");
    let summary = load.finish(&served);
    assert!(summary["confirmed"].as_u64().unwrap() > 200, "{summary}");
    let result =
        format!("{} frames confirmed, {} published; {result}", summary["confirmed"], summary["published"]);
    evidence(
        "confirmed frames survive kill -9, each key once, balances as the model's",
        seed,
        injected,
        &result,
    );
}
