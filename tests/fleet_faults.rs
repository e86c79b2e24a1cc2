//! A fleet on which everything comes down: voltage sags, clocks that drift, stamps that are garbage, concentrators that
//! flush newest first, new keys, weeks of silence. In the end the books are those of the separate model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::crash::{check_balances, provision, settle};
use crate::harness::{Broker, FleetRun, Served, evidence, full, peer, seeded, urja_ok, wait_for};

/// Long enough for the longest silence to end.
const DAYS: &str = "47";
/// Seconds of the zone ahead of UTC.
const ZONE_S: i64 = 19_800;
const DAY_S: i64 = 86_400;
const KINDS: [&str; 6] =
    ["voltage_sag", "garbage_time", "newest_first", "clock_drift", "key_change", "silence"];

fn meters() -> &'static str {
    if full() { "300" } else { "36" }
}

#[test]
fn under_every_fault_of_a_fleet_nothing_is_lost_or_doubled_and_the_books_are_the_models() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("fleet_faults");
    provision(&data, &out, seed, meters());
    let broker = Broker::start(&dir.path().join("broker"));
    let mqtt: Vec<String> = broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]).collect();
    let served = Served::start(&data, &mqtt.iter().map(String::as_str).collect::<Vec<_>>());
    // A broker keeps nothing for a session that was never made.
    wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
    let summary = run(&served, &out, seed, broker.as_ref());
    let file = out.join("truth.jsonl");
    let truth = Truth::read(&file);
    check_kept(&served, &truth);
    settle(&served, &file);
    check_once(&served);
    check_values(&served, &truth);
    check_balances(&served, &file);
    check_charges(&served, &file);
    let seen = check_effects(&served, &truth);
    check_rebuilt(served);
    let injected: usize = KINDS.iter().map(|kind| truth.struck(kind).count()).sum();
    let result = format!("{}: {seen}; {} frames confirmed", truth.counts(), summary["confirmed"]);
    evidence(
        "under every fault of a fleet nothing is lost or doubled, charges and balances as the model's",
        seed,
        u32::try_from(injected).unwrap(),
        &result,
    );
}

/// The lake alone gives the same state, counter windows of both key epochs included.
fn check_rebuilt(served: Served) {
    let data = served.data.clone();
    assert_eq!(served.terminate(), 0);
    let rebuilt = urja_ok(&data, &["rebuild", "--check"]);
    assert_eq!(rebuilt["compared"], true, "{rebuilt}");
    assert_eq!(rebuilt["differences"].as_array().map(Vec::len), Some(0), "{rebuilt}");
}

fn run(served: &Served, out: &Path, seed: u64, broker: Option<&Broker>) -> Value {
    let (seed, out) = (seed.to_string(), out.display().to_string());
    let mut to = vec![format!("tcp://{}", served.address("tcp")), format!("udp://{}", served.address("udp"))];
    to.extend(broker.map(Broker::url));
    let mut args = vec!["--meters", meters(), "--seed", &seed, "--out", &out, "--days", DAYS, "--drive"];
    args.extend(["--faults", "storm"]);
    to.iter().for_each(|address| args.extend(["--to", address]));
    let summary = FleetRun::start(&served.data, &args).finish();
    let faults = summary["faults"].as_object().unwrap();
    for (fault, count) in faults {
        assert!(count.as_u64().unwrap() > 0, "no {fault} in {summary}");
    }
    summary
}

/// What the fleet wrote down.
#[derive(Default)]
struct Truth {
    /// Serial number of each meter of the fleet.
    serials: BTreeMap<i64, String>,
    frames: BTreeMap<String, Sent>,
    acknowledged: BTreeSet<String>,
    /// Kind, meter, from, until.
    struck: BTreeSet<(String, i64, i64, i64)>,
}

struct Sent {
    meter: i64,
    kind: String,
    rank: Rank,
    garbage: Option<String>,
    /// End and import, Wh.
    values: Vec<(i64, i64)>,
}

impl Truth {
    fn read(file: &Path) -> Truth {
        let mut truth = Truth::default();
        for line in std::fs::read_to_string(file).unwrap().lines() {
            truth.line(&serde_json::from_str(line).unwrap());
        }
        truth
    }

    fn line(&mut self, line: &Value) {
        let number = |key: &str| line[key].as_i64().unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        match line["line"].as_str().unwrap() {
            "meter" => {
                self.serials.insert(number("meter"), text("serial"));
            }
            "fault" => {
                self.struck.insert((text("kind"), number("meter"), number("from"), number("until")));
            }
            "acknowledged" => {
                self.acknowledged.insert(text("digest"));
            }
            "frame" => {
                let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
                let ends = of(&line["ends"]).into_iter().zip(of(&line["values"]["import_wh"]));
                let sent = Sent {
                    meter: number("meter"),
                    kind: text("kind"),
                    rank: (number("key_epoch"), line["counter"].as_i64().unwrap_or(0), text("digest")),
                    garbage: line["garbage"].as_str().map(str::to_owned),
                    values: ends.map(|(end, wh)| (end.as_i64().unwrap(), wh.as_i64().unwrap())).collect(),
                };
                self.frames.insert(text("digest"), sent);
            }
            _ => {}
        }
    }

    fn struck(&self, kind: &str) -> impl Iterator<Item = (i64, i64, i64)> {
        self.struck
            .iter()
            .filter(move |(of, ..)| of == kind)
            .map(|(_, meter, from, until)| (*meter, *from, *until))
    }

    fn counts(&self) -> String {
        let counts = KINDS.map(|kind| format!("{} × {kind}", self.struck(kind).count()));
        counts.join(", ")
    }

    fn garbage(&self, kinds: &[&str]) -> i64 {
        let of = |sent: &&Sent| sent.garbage.as_deref().is_some_and(|garbage| kinds.contains(&garbage));
        i64::try_from(self.frames.values().filter(of).count()).unwrap()
    }
}

impl Sent {
    /// Whether it must be evidence: its stamp is no time, or one decades ahead.
    fn is_refused(&self) -> bool {
        self.garbage.as_deref().is_some_and(|of| ["far_ahead", "unspecified", "impossible"].contains(&of))
    }
}

/// Every frame stands where it belongs: among the frames, or in quarantine with the reason that it deserves.
fn check_kept(served: &Served, truth: &Truth) {
    let expected: BTreeSet<&String> =
        truth.frames.iter().filter(|(_, sent)| !sent.is_refused()).map(|(digest, _)| digest).collect();
    assert!(truth.acknowledged.len() >= truth.frames.len(), "not all was acknowledged");
    wait_for("every frame is stored", || {
        let stored = served.sql("SELECT DISTINCT digest FROM frame");
        let stored: BTreeSet<String> =
            stored.iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect();
        let found = expected.iter().filter(|digest| stored.contains(**digest)).count();
        assert!(stored.iter().all(|digest| expected.contains(digest)), "a frame that nobody sent");
        (found == expected.len()).then_some(())
    });
    let reason = |reason: &str| format!("SELECT count(*) FROM quarantine WHERE reason = '{reason}'");
    served.wait_number(&reason("far_ahead"), truth.garbage(&["far_ahead"]));
    served.wait_number(&reason("profile_mismatch"), truth.garbage(&["unspecified", "impossible"]));
    let refused = truth.garbage(&["far_ahead", "unspecified", "impossible"]);
    assert_eq!(served.number("SELECT count(*) FROM quarantine"), refused);
    assert!(refused > 0 && truth.garbage(&["past"]) > 0 && truth.garbage(&["ahead"]) > 0);
}

fn check_once(served: &Served) {
    served.wait_number("SELECT cast(sum(contested) AS bigint) FROM source_tally", 0);
    for (table, key) in [
        ("interval_reading", "meter_id, interval_end"),
        ("daily_reading", "meter_id, read_at"),
        ("frame", "digest"),
        ("ledger_posting", "position, line"),
    ] {
        let twice = format!(
            "SELECT count(*) FROM (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1) AS t"
        );
        assert_eq!(served.number(&twice), 0, "{table}");
    }
    assert_eq!(served.number("SELECT coalesce(sum(amount_paise), 0) FROM ledger_posting"), 0);
    assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
}

/// What decides between values of a key: key epoch, counter, digest.
type Rank = (i64, i64, String);

/// Keys and energy of each meter and day, as they are in force.
type Days = BTreeMap<(String, i64), (i64, i64)>;

/// Of every key the value of the highest rank is in force, and no key is there that was not sent.
fn check_values(served: &Served, truth: &Truth) {
    for (kind, view) in [("interval", "interval"), ("daily", "daily_register")] {
        let mut keys: BTreeMap<(i64, i64), (&Rank, i64)> = BTreeMap::new();
        for sent in truth.frames.values().filter(|sent| sent.kind == kind && !sent.is_refused()) {
            for (end, wh) in &sent.values {
                let known = keys.entry((sent.meter, *end)).or_insert((&sent.rank, *wh));
                *known = (*known).max((&sent.rank, *wh));
            }
        }
        let mut expected = Days::new();
        for ((meter, end), (_, wh)) in keys {
            let day = (end - 1 + ZONE_S).div_euclid(DAY_S);
            let sum = expected.entry((truth.serials[&meter].clone(), day)).or_default();
            *sum = (sum.0 + 1, sum.1 + wh);
        }
        let statement = format!(
            "SELECT m.serial, CAST(CAST(v.usage_date AS INT) AS BIGINT) AS day, count(*) AS keys, \
             CAST(sum(v.import_wh) AS BIGINT) AS wh FROM {view} AS v JOIN meter AS m USING (meter_id) GROUP BY 1, 2"
        );
        let number = |row: &Value, key: &str| row[key].as_i64().unwrap();
        let found: Days = served
            .sql(&statement)
            .iter()
            .map(|row| {
                let serial = row["serial"].as_str().unwrap().to_owned();
                ((serial, number(row, "day")), (number(row, "keys"), number(row, "wh")))
            })
            .collect();
        let differing: Vec<_> = expected
            .keys()
            .chain(found.keys())
            .filter(|day| expected.get(*day) != found.get(*day))
            .map(|day| (day, expected.get(day), found.get(day)))
            .collect();
        assert!(differing.is_empty(), "{kind}: sent, found: {:?}", &differing[..differing.len().min(5)]);
    }
}

/// What was booked, by account, month and head, equals the separate model's.
fn check_charges(served: &Served, truth: &Path) {
    let tariffs = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tariffs");
    let truth = truth.display().to_string();
    let Some(out) = peer("model/balances.py", &[], &["--truth", &truth, "--tariffs", tariffs]) else {
        return;
    };
    let model: Value = serde_json::from_slice(&out.stdout).unwrap();
    let statement = "SELECT a.account_number, to_char(p.usage_date, '%Y-%m') AS month, p.head, \
        CAST(sum(p.amount_paise) AS BIGINT) AS paise FROM ledger_posting AS p JOIN account AS a USING (account_id) \
        WHERE p.kind IN ('usage', 'correction') AND p.head <> 'consumer' GROUP BY 1, 2, 3";
    let booked: BTreeMap<(String, String, String), i64> = served
        .sql(statement)
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            ((text("account_number"), text("month"), text("head")), row["paise"].as_i64().unwrap())
        })
        .collect();
    let mut months = 0;
    for (account, charges) in model["charges"].as_object().unwrap() {
        for (month, heads) in charges.as_object().unwrap() {
            months += 1;
            for (head, paise) in heads.as_object().unwrap() {
                let key = (account.clone(), month.clone(), head.clone());
                let ours = booked.get(&key).copied().unwrap_or(0);
                assert_eq!(Some(ours), paise.as_i64(), "{key:?}: ours, model");
            }
        }
    }
    assert!(months > 0, "the model charged nothing");
}

/// Each fault left its trace; what was seen of it.
fn check_effects(served: &Served, truth: &Truth) -> String {
    let meters = |kind: &str| -> i64 {
        let struck: BTreeSet<i64> = truth.struck(kind).map(|(meter, ..)| meter).collect();
        i64::try_from(struck.len()).unwrap()
    };
    let drifting = "SELECT count(DISTINCT meter_id) FROM interval_reading WHERE quality & 4 = 4";
    assert_eq!(served.number(drifting), meters("clock_drift"));
    assert!(served.number("SELECT count(*) FROM interval_reading WHERE quality & 512 = 512") > 0);
    let rekeyed = "SELECT count(DISTINCT meter_id) FROM frame WHERE key_epoch = 2";
    assert_eq!(served.number(rekeyed), meters("key_change"));
    let in_flight = served.number(
        "SELECT count(*) FROM frame AS f JOIN (SELECT meter_id, min(position) AS first FROM frame WHERE key_epoch = 2 \
         GROUP BY 1) AS n USING (meter_id) WHERE f.key_epoch = 1 AND f.position > n.first",
    );
    let late = served.number("SELECT count(*) FROM frame WHERE late AND source = 'tcp'");
    assert!(late > 0, "a flush that is newest first is late but for its first");
    check_silences(served, truth);
    let (raised, restored, low) = sags(served, truth);
    format!(
        "{raised} sags told, {restored} restorations, {low} seen in blocks, {in_flight} frames under replaced keys, {late} late by counter"
    )
}

/// During a silence nothing is heard, and its days are there afterwards.
fn check_silences(served: &Served, truth: &Truth) {
    for (meter, from, until) in truth.struck("silence") {
        let serial = &truth.serials[&meter];
        // What left the meter before may be with the broker for a while.
        let during = format!(
            "SELECT count(*) FROM frame JOIN meter AS m USING (meter_id) WHERE m.serial = '{serial}' \
             AND received_at >= to_timestamp({}) AND received_at < to_timestamp({until})",
            from + DAY_S
        );
        assert_eq!(served.number(&during), 0, "heard during its silence: {serial}");
    }
    let weeks = "SELECT count(*) FROM interval_reading AS r JOIN frame AS f ON f.position = r.position \
        WHERE f.received_at > r.interval_end + INTERVAL '12 days' AND r.quality & 8 = 0";
    assert!(served.number(weeks) > 48);
}

/// Sags that were told, that were told to be over, and that show in the blocks.
fn sags(served: &Served, truth: &Truth) -> (i64, i64, usize) {
    let all: Vec<_> = truth.struck("voltage_sag").collect();
    let told = |occurred: bool| {
        served.number(&format!("SELECT count(*) FROM event WHERE bit = 4 AND occurred = {occurred}"))
    };
    let (raised, restored) = (told(true), told(false));
    // Some are lost with the link, or fall into a silence.
    let expected = i64::try_from(all.len()).unwrap() / 2;
    assert!(raised >= expected && restored >= expected, "{raised} and {restored} of {}", all.len());
    let statement = "SELECT m.serial, CAST(date_part('epoch', interval_end) AS BIGINT) AS at FROM interval \
        JOIN meter AS m USING (meter_id) WHERE coalesce(voltage_dv, voltage_r_dv) BETWEEN 1 AND 1750";
    let low: BTreeSet<(String, i64)> = served
        .sql(statement)
        .iter()
        .map(|row| (row["serial"].as_str().unwrap().to_owned(), row["at"].as_i64().unwrap()))
        .collect();
    let shows = |(meter, from, until): &&(i64, i64, i64)| {
        let serial = truth.serials[meter].clone();
        low.range((serial.clone(), *from)..(serial, until + 1800 + 600)).next().is_some()
    };
    let shown = all.iter().filter(shows).count();
    assert!(shown * 3 >= all.len(), "{shown} of {} sags show", all.len());
    (raised, restored, shown)
}
