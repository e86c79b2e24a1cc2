//! Power cuts under load: the disk keeps what was synced and little else. What was confirmed before a cut is there
//! after it, once, and the money is what the separate model says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::crash::{check_books, provision_with, wait_for_published};
use crate::harness::{
    Broker, Disks, FleetRun, Served, evidence, full, seeded, shared_deadline, skip, wait_for,
};
use crate::lake::duckdb_agrees;

/// Meters of the fleet.
const METERS: &str = "60";
/// Room on the disk.
const MEGABYTES: u64 = 768;
/// One cut in so many falls into the start that follows another one.
const INTO_RECOVERY: u32 = 5;
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/power-cuts.toml");

fn cuts() -> u32 {
    if full() { 50 } else { 4 }
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_over_power_cuts_under_mixed_load() {
    let Some(mut disks) = Disks::new(MEGABYTES) else { return };
    let data = disks.path().join("data");
    // Outside of the disk: the fleet and its truth, the broker, the logs.
    let (log, out) = (disks.outside().join("serve.log"), disks.outside().join("fleet"));
    let (seed, mut random) = seeded("powercuts");
    provision_with(&data, &out, seed, METERS, &["--config", CONFIG]);
    let broker = Broker::start(&disks.outside().join("broker"));
    let mqtt: Vec<String> = broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]).collect();
    let extra: Vec<&str> = ["--config", CONFIG].into_iter().chain(mqtt.iter().map(String::as_str)).collect();
    let mut served = Served::begin(&data, &extra, &log);
    served.wait_ready();
    // A broker keeps nothing for a session that was never made.
    wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
    let doors = [("--tcp", served.address("tcp")), ("--udp", served.address("udp"))];
    let doors = doors.map(|(door, address)| [door.to_owned(), address.to_string()]);
    let again: Vec<&str> = extra.iter().copied().chain(doors.iter().flatten().map(String::as_str)).collect();
    let mut to = vec![format!("tcp://{}", doors[0][1]), format!("udp://{}", doors[1][1])];
    to.extend(broker.as_ref().map(Broker::url));
    let (seed_text, out_text) = (seed.to_string(), out.display().to_string());
    let mut args =
        vec!["--meters", METERS, "--seed", &seed_text, "--out", &out_text, "--days", "4000", "--drive"];
    to.iter().for_each(|address| args.extend(["--to", address]));
    let mut fleet = FleetRun::start(&data, &args);
    let mut tally = Tally::default();
    // A few cuts may all fall where everything was synced: then there are some more. The large count goes on until
    // journal, lake and checkpoints have been hit.
    let mut numbers = 1..=3 * cuts();
    while tally.cuts < cuts() || !tally.is_enough() {
        let number =
            numbers.next().unwrap_or_else(|| panic!("cuts fell where nothing could be lost: {tally}"));
        let into_recovery = number % INTO_RECOVERY == INTO_RECOVERY - 1;
        let at_sync = at_a_sync(number, into_recovery, &mut random);
        let span = match (into_recovery, at_sync) {
            (true, Some(_)) => 1,
            (true, None) => 600,
            (false, _) => 1500,
        };
        shared_deadline(Duration::from_millis(random() % span));
        assert!(!fleet.is_done(), "the fleet ended early");
        let moment = cut_power(&mut disks, served, at_sync);
        println!("cut {number}: {moment:?}");
        tally.add(&moment);
        served = Served::begin(&data, &again, &log);
        // Otherwise the next cut falls into this start.
        if (number + 1) % INTO_RECOVERY != INTO_RECOVERY - 1 {
            served.wait_ready();
        }
    }
    if served.ready.is_null() {
        served.wait_ready();
    }
    fleet.terminate();
    let summary = fleet.finish();
    assert!(summary["confirmed"].as_u64().unwrap() > 200, "{summary}");
    wait_for_published(&served, &out.join("truth.jsonl"));
    check_books(&served, &out.join("truth.jsonl"));
    assert_eq!(served.terminate(), 0);
    let rows = duckdb_agrees(&data);
    assert!(rows.is_some() || !full(), "every table was to be read by DuckDB");
    let rows = rows.map_or_else(|| "no".to_owned(), |rows| rows.to_string());
    let result = format!("{} frames confirmed, {rows} rows equal in DuckDB; {tally}", summary["confirmed"]);
    evidence(
        "confirmed frames survive power cuts, each key once, balances as the model's, every table readable",
        seed,
        tally.cuts,
        &result,
    );
}

/// Two of three cuts fall between a write and the sync that was to follow it: which of the calls, and how many of them
/// from now. In the journal and the registry it is the one, in lake, checkpoints and directories the other.
fn at_a_sync(
    number: u32,
    into_recovery: bool,
    random: &mut impl FnMut() -> u64,
) -> Option<(&'static str, u64)> {
    let (data, all) = if into_recovery { (4, 8) } else { (20, 60) };
    match number % 3 {
        0 => None,
        1 => Some(("fdatasync", 1 + random() % data)),
        _ => Some(("fsync", 1 + random() % all)),
    }
}

/// Cuts the power of the disk under a running process.
fn cut_power(disks: &mut Disks, mut served: Served, at_sync: Option<(&'static str, u64)>) -> Moment {
    let stopped = at_sync.is_some_and(|(sync, count)| served.freeze_at_sync(sync, count));
    if at_sync.is_some() && !stopped {
        skip("strace");
    }
    if !stopped {
        served.freeze();
    }
    let copy = disks.copy();
    let starting = !served.log_of_this_start().contains(" ready");
    served.kill();
    // What the process had written is still to be seen on the disk that lost its power only in our mind.
    let before = disks.exchange(copy);
    let at_sync = at_sync.filter(|_| stopped);
    Moment::between(&before.path().join("data"), &disks.path().join("data"), starting, at_sync)
}

/// Where a cut fell: what was written and what of it was on the disk.
#[derive(Debug)]
struct Moment {
    /// The sync that it stopped at.
    at_sync: Option<(&'static str, u64)>,
    /// Before the process was ready.
    starting: bool,
    /// Records after the newest checkpoint.
    uncommitted_records: u64,
    /// Records of groups that were written and not on the disk.
    lost_records: u64,
    torn_group: bool,
    /// Some table was further than another, or than its sidecar.
    open_commit: bool,
    /// A checkpoint was being written.
    open_checkpoint: bool,
    /// Files of the lake and checkpoints that were gone or shorter on the disk.
    lost_files: usize,
}

impl Moment {
    fn between(written: &Path, kept: &Path, starting: bool, at_sync: Option<(&'static str, u64)>) -> Moment {
        let journals = [written, kept].map(|data| journal::verify(&data.join("journal")).unwrap());
        let [before, after] = &journals;
        let checkpoint = state::latest(&written.join("checkpoint")).unwrap();
        let checkpoint = checkpoint.map_or(0, |checkpoint| checkpoint.position.0);
        let tables = lake::Table::ALL.map(|table| table_at(&written.join("lake").join(table.name())));
        let (written_files, kept_files) = (files(written), files(kept));
        let lost = written_files.iter().filter(|(name, bytes)| kept_files.get(*name) != Some(bytes));
        Moment {
            at_sync,
            starting,
            uncommitted_records: before.last.0.saturating_sub(checkpoint),
            lost_records: before.last.0.saturating_sub(after.last.0),
            torn_group: after.torn.is_some(),
            open_commit: tables.iter().any(|table| *table != tables[0] || table.is_none()),
            open_checkpoint: written_files.keys().any(|name| name.ends_with(".checkpoint.new")),
            lost_files: lost.count(),
        }
    }
}

/// Position of a table; none while there is a log entry without its sidecar.
fn table_at(dir: &Path) -> Option<u64> {
    let newest = |folder: &str| {
        let names = std::fs::read_dir(dir.join(folder)).ok()?.flatten().map(|entry| entry.file_name());
        let version = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".json")?.parse::<u64>().ok();
        names.filter_map(version).max()
    };
    let version = newest("_delta_log").filter(|version| newest("_urja") == Some(*version))?;
    let sidecar = std::fs::read(dir.join(format!("_urja/{version:020}.json"))).unwrap();
    serde_json::from_slice::<serde_json::Value>(&sidecar).unwrap()["sidecar"]["position"].as_u64()
}

/// Files of lake and checkpoints with their lengths.
fn files(data: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![data.join("lake"), data.join("checkpoint")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(data).unwrap().display().to_string();
                found.insert(name, metadata.len());
            }
        }
    }
    found
}

/// How many cuts fell where.
#[derive(Debug, Default)]
struct Tally {
    cuts: u32,
    at_sync: u32,
    starting: u32,
    uncommitted: u32,
    unsynced_group: u32,
    open_commit: u32,
    open_checkpoint: u32,
    lost_files: u32,
    lost_something: u32,
}

impl Tally {
    /// Whether cuts fell where they are to fall.
    fn is_enough(&self) -> bool {
        let everywhere = [self.unsynced_group, self.open_commit, self.open_checkpoint];
        self.lost_something > 0 && (!full() || everywhere.iter().all(|count| *count > 0))
    }

    fn add(&mut self, moment: &Moment) {
        let unsynced = moment.lost_records > 0 || moment.torn_group;
        self.cuts += 1;
        self.at_sync += u32::from(moment.at_sync.is_some());
        self.starting += u32::from(moment.starting);
        self.uncommitted += u32::from(moment.uncommitted_records > 0);
        self.unsynced_group += u32::from(unsynced);
        self.open_commit += u32::from(moment.open_commit);
        self.open_checkpoint += u32::from(moment.open_checkpoint);
        self.lost_files += u32::from(moment.lost_files > 0);
        self.lost_something += u32::from(unsynced || moment.lost_files > 0);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} cuts {} fell into uncommitted rows, {} into an open lake commit, {} into an open checkpoint, {} \
             took an unsynced group, {} unsynced files, {} fell into a start; {} stopped at a sync",
            self.cuts,
            self.uncommitted,
            self.open_commit,
            self.open_checkpoint,
            self.unsynced_group,
            self.lost_files,
            self.starting,
            self.at_sync
        )
    }
}
