//! One civil day of a large fleet, over all three transports, with a kill in the middle: every row once, every
//! balance and every day's usage as the fleet's truth has it.
//!
//! The gate runs a small fleet; `./test --full million` a million meters on the release build. `URJA_METERS` chooses
//! another number. What it prints is what `docs/sizing.md` is made from.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fleet::{Cadence, Faults, Fleet, FleetOptions, MqttTarget, Stats, Target};
use model::CivilDay;
use serde_json::Value;

use crate::harness::{
    Broker, Served, evidence, full, peer, peer_into, root, seeded, urja_into, urja_ok, wait_for, wait_within,
};

/// The first day of a month, so that the day's charge is the month's.
const DAY: &str = "2026-04-01";
/// Meters of a file: no more lines are taken at once.
const IMPORT: usize = 200_000;
/// Longest time for one step of a million meters on two cores.
const PATIENCE: Duration = Duration::from_secs(3600);

fn meters() -> u32 {
    let chosen = std::env::var("URJA_METERS").ok().and_then(|text| text.parse().ok());
    chosen.unwrap_or(if full() { 1_000_000 } else { 1_500 })
}

/// What it took.
#[derive(Default)]
struct Cost {
    peak_bytes: u64,
    steps: String,
}

impl Cost {
    /// Does a step and notes its time.
    fn step<T>(&mut self, name: &str, step: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = step();
        let seconds = begun.elapsed().as_secs_f64();
        println!("million: {name}: {seconds:.1} s");
        let _ = write!(self.steps, "{name} {seconds:.0} s, ");
        done
    }

    fn look_at(&mut self, served: &Served) {
        self.peak_bytes = self.peak_bytes.max(served.peak_memory());
    }
}

fn options(meters: u32, seed: u64, truth: &Path) -> FleetOptions {
    let day: CivilDay = DAY.parse().unwrap();
    let mut options = FleetOptions::new(seed, meters, day);
    options.last = Some(day);
    options.truth = Some(truth.to_owned());
    options.truth_of_frames = false;
    options.links_at_once = 96;
    options.window = 64;
    options.cadence = Cadence { instant_s: 0, ..Cadence::default() };
    options.faults = Faults {
        duplicate_ppm: 20_000,
        late_ppm: 10_000,
        late_max_s: 12 * 3600,
        reordered_ppm: 50_000,
        ..Faults::NONE
    };
    options
}

fn targets(served: &Served, broker: Option<&Broker>, meters: u32) -> Vec<Target> {
    // A concentrator has up to 1,000 meters; a small fleet still has a few connections.
    let meters_per_connection = (meters / 30).clamp(1, 1_000);
    let mut targets = vec![
        Target::Tcp { address: served.address("tcp"), meters_per_connection },
        Target::Udp { address: served.address("udp"), meters_per_connection },
    ];
    targets.extend(broker.map(|broker| {
        let target = MqttTarget::new("127.0.0.1", broker.address.port());
        Target::Mqtt(MqttTarget { meters_per_connection, ..target })
    }));
    targets
}

fn register(data: &Path, dir: &Path, options: &FleetOptions) {
    let meters = fleet::provision(options.seed, options.meters, options.from, &options.mix);
    let (accounts, keys) = (dir.join("accounts.csv"), dir.join("meters.csv"));
    let create = |path| std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for part in meters.chunks(IMPORT) {
        fleet::write_accounts(part, create(&accounts)).unwrap();
        fleet::write_meters(part, create(&keys)).unwrap();
        urja_ok(data, &["account", "import", &accounts.display().to_string()]);
        urja_ok(data, &["meter", "import", &keys.display().to_string()]);
    }
}

/// Sends the day, and kills the head-end when a part of it is acknowledged.
fn send(options: FleetOptions, served: Served, args: &[&str], cost: &mut Cost) -> (Served, Stats) {
    let (tcp, udp) = (served.address("tcp"), served.address("udp"));
    let mut fleet = Fleet::new(options).unwrap();
    let counters = fleet.counters();
    // Four blocks and a register, and what goes alone because something happens to it on the way.
    let part = u64::from(fleet.options().meters) * 3;
    let until = fleet.options().calendar.end_of(DAY.parse().unwrap()).plus_seconds(86_400);
    let sender = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(fleet.push_until(until, |_| ())).unwrap()
    });
    wait_within(PATIENCE, "a part of the day is acknowledged", || {
        let stats = counters.stats();
        (stats.confirmed + stats.published >= part || sender.is_finished()).then_some(())
    });
    assert!(!sender.is_finished(), "the kill fell after the day");
    cost.look_at(&served);
    let data = served.kill();
    let served = cost.step("start again", || Served::again(&data, args, tcp, udp));
    (served, sender.join().unwrap())
}

/// Files that say what is stored, and the comparison with the truth.
fn compare(served: &Served, dir: &Path, truth: &Path) -> Option<Value> {
    let file = |name: &str| dir.join(name).display().to_string();
    let sql = |statement: &str, name: &str| {
        urja_into(&served.data, &["sql", "--csv", statement], &dir.join(name));
    };
    sql("SELECT meter_id, serial FROM meter", "ids.csv");
    sql("SELECT meter_id, usage_date, import_kwh FROM daily_usage", "usage.csv");
    sql(
        "SELECT a.account_number, s.booked_paise, s.accrued_paise FROM account_state s JOIN account a USING (account_id)",
        "balances.csv",
    );
    let start = FleetOptions::new(0, 1, DAY.parse().unwrap());
    let start = start.calendar.start_of(start.from).seconds();
    let rows = format!(
        "SELECT meter_id, count(*) AS n, count(DISTINCT interval_end) AS ends, sum(import_wh)::BIGINT AS wh, \
         sum(import_wh * ((epoch(interval_end)::BIGINT - {start}) // 900))::BIGINT AS weighed FROM t GROUP BY meter_id"
    );
    let table = served.data.join("lake/interval_reading").display().to_string();
    let read = ["duckdb", "duckdb_extension_delta", "pytz"];
    peer_into("peers/duckdb_read.py", &read, &[&table, &rows], &dir.join("rows.jsonl"))?;
    let tariffs = root().join("ledger/tariffs").display().to_string();
    let files = [file("ids.csv"), file("rows.jsonl"), file("usage.csv"), file("balances.csv")];
    let [ids, rows, usage, balances] = &files;
    let truth = truth.display().to_string();
    let args = ["--truth", &truth, "--tariffs", &tariffs, "--meters", ids, "--rows", rows, "--usage", usage];
    let out = peer("model/one_day.py", &[], &[&args[..], &["--balances", balances]].concat())?;
    Some(serde_json::from_slice(&out.stdout).unwrap())
}

#[test]
fn a_day_of_the_whole_fleet_is_stored_once_and_charged_as_its_truth_says() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (seed, _) = seeded("million");
    let truth = dir.path().join("truth.jsonl");
    let options = options(meters(), seed, &truth);
    let mut cost = Cost::default();
    let broker = Broker::start(&dir.path().join("broker"));
    assert!(broker.is_some() || !full(), "the fleet is to send over MQTT too");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/million.toml");
    let mut args = vec!["--config".to_owned(), config.to_owned()];
    args.extend(broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let served = Served::start(&data, &args);
    wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
    urja_ok(&data, &["clock", &format!("{DAY}T00:00:00+05:30")]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(&data, &["tariff", "apply", tariff]);
    }
    cost.step("register", || register(&data, dir.path(), &options));
    // All of it arrives after the day, within the hour before its close.
    let next = options.from.next();
    urja_ok(&data, &["clock", &format!("{next}T00:45:00+05:30")]);
    let targets = targets(&served, broker.as_ref(), options.meters);
    let options = FleetOptions { targets, ..options };

    let begun = Instant::now();
    let (served, stats) = send(options, served, &args, &mut cost);
    let rows = i64::try_from(stats.intervals).unwrap();
    cost.step("take in what the broker still holds", || {
        wait_within(PATIENCE, "every interval is stored", || {
            (served.number("SELECT count(*) FROM interval_reading") >= rows).then_some(())
        });
    });
    let taken_in = begun.elapsed().as_secs_f64();
    cost.step("close the day", || urja_ok(&data, &["clock", &format!("{next}T06:00:00+05:30")]));
    cost.look_at(&served);
    cost.step("commit", || served.checkpoint());
    assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
    assert_eq!(served.number("SELECT coalesce(sum(amount_paise), 0) FROM ledger_posting"), 0);
    let compared = cost.step("compare", || compare(&served, dir.path(), &truth));
    cost.look_at(&served);
    let Some(compared) = compared else { return };
    assert_eq!((&compared["differences"], &compared["rows"]), (&0.into(), &rows.into()), "{compared}");

    let bytes = bytes_of(&data.join("lake/interval_reading"));
    let frames = stats.confirmed + stats.published;
    let result = format!(
        "{} meters, {rows} rows in {frames} frames, {:.0} rows/s, peak {} MiB, {:.2} bytes a row; {}{} duplicates, {} late",
        compared["meters"],
        rows as f64 / taken_in,
        cost.peak_bytes >> 20,
        bytes as f64 / rows as f64,
        cost.steps,
        stats.planned.duplicates,
        stats.planned.late,
    );
    let injected = u32::try_from(1 + stats.planned.duplicates + stats.planned.late + stats.planned.reordered);
    evidence(
        "one civil day of the fleet over TCP, UDP and MQTT with a kill in the middle: every row once, every balance and daily_usage as the truth",
        seed,
        injected.unwrap_or(u32::MAX),
        &result,
    );
}

/// Bytes of the Parquet files in a folder.
fn bytes_of(table: &Path) -> u64 {
    let mut folders = vec![table.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                bytes += entry.metadata().unwrap().len();
            }
        }
    }
    bytes
}
