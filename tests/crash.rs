//! What holds after any crash: what was confirmed is there, once, and the money is what the separate model says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::harness::{FleetRun, Served, evidence, peer, seeded, try_for, urja_ok};

/// Registers what `urja fleet --provision` made.
pub fn provision(data: &Path, out: &Path, seed: u64, meters: &str) {
    provision_with(data, out, seed, meters, &[]);
}

/// [`provision`] by a head-end with these arguments: the first segment of the journal is made by it.
pub fn provision_with(data: &Path, out: &Path, seed: u64, meters: &str, args: &[&str]) {
    let (seed, out_text) = (seed.to_string(), out.display().to_string());
    let served = Served::start(data, args);
    urja_ok(data, &["fleet", "--provision", "--meters", meters, "--seed", &seed, "--out", &out_text]);
    register(data, out);
    assert_eq!(served.terminate(), 0);
}

/// Registers the accounts and the meters of a fleet's folder with the head-end that serves.
pub fn register(data: &Path, out: &Path) {
    urja_ok(data, &["clock", "2026-04-01T00:00:00+05:30"]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(data, &["tariff", "apply", tariff]);
    }
    urja_ok(data, &["account", "import", &out.join("accounts.csv").display().to_string()]);
    urja_ok(data, &["meter", "import", &out.join("meters.csv").display().to_string()]);
}

/// Digests of the frames that the truth file says were acknowledged: `confirmed` by the head-end, or `published`.
pub fn digests(truth: &Path, how: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(truth).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["line"] == "acknowledged" && line["how"] == how)
        .map(|line| line["digest"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until everything that the broker took on is stored.
pub fn wait_for_published(served: &Served, truth: &Path) {
    let published = digests(truth, "published");
    let mut missing = published.clone();
    let stored = try_for(|| {
        let stored = served.sql("SELECT DISTINCT digest FROM frame");
        let stored: BTreeSet<String> =
            stored.iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect();
        missing = published.difference(&stored).cloned().collect();
        missing.is_empty().then_some(())
    });
    assert!(
        stored.is_some(),
        "{} of {} published frames are not stored, the first {:?}; conservation {:?}; quarantine {:?}",
        missing.len(),
        published.len(),
        missing.first(),
        served.sql("SELECT * FROM conservation"),
        served
            .sql("SELECT reason, source, count(*) AS n, min(detail) AS detail FROM quarantine GROUP BY 1, 2")
    );
}

/// Closes one more day, so that what came after the last close is booked as well.
pub fn settle(served: &Served, truth: &Path) {
    let text = std::fs::read_to_string(truth).unwrap();
    let day = |line: &Value, key: &str| line[key].as_str().unwrap().parse::<model::CivilDay>().unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // On a slow machine a small run may end before its first day is over.
    let next = lines.fold(None, |next, line| match line["line"].as_str() {
        Some("fleet") => Some(day(&line, "from")),
        Some("day_closed") => Some(day(&line, "day").next()),
        _ => next,
    });
    let next = next.expect("a truth begins with its fleet");
    urja_ok(&served.data, &["clock", &format!("{}T06:00:00+05:30", next.next())]);
    let mut file = std::fs::OpenOptions::new().append(true).open(truth).unwrap();
    std::io::Write::write_all(
        &mut file,
        format!("{{\"line\":\"day_closed\",\"day\":\"{next}\"}}\n").as_bytes(),
    )
    .unwrap();
}

/// What holds after any run in which everything was delivered in the end.
pub fn check_books(served: &Served, truth: &Path) {
    settle(served, truth);
    assert_eq!(served.number("SELECT count(*) FROM (SELECT meter_id, interval_end FROM interval_reading GROUP BY 1, 2 HAVING count(*) > 1) AS twice"), 0);
    assert_eq!(served.number("SELECT count(*) FROM (SELECT meter_id, read_at FROM daily_reading GROUP BY 1, 2 HAVING count(*) > 1) AS twice"), 0);
    assert_eq!(served.number("SELECT count(*) FROM (SELECT position, line FROM ledger_posting GROUP BY 1, 2 HAVING count(*) > 1) AS twice"), 0);
    assert_eq!(served.number("SELECT coalesce(sum(amount_paise), 0) FROM ledger_posting"), 0);
    assert_eq!(served.number("SELECT count(*) FROM (SELECT position, account_id FROM ledger_posting GROUP BY 1, 2 HAVING sum(amount_paise) <> 0) AS unbalanced"), 0);
    served.wait_number("SELECT cast(sum(contested) AS bigint) FROM source_tally", 0);
    assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
    let stored: BTreeSet<String> = served
        .sql("SELECT digest FROM frame")
        .iter()
        .map(|row| row["digest"].as_str().unwrap().to_owned())
        .collect();
    let lost: Vec<String> = digests(truth, "confirmed").difference(&stored).cloned().collect();
    assert!(lost.is_empty(), "confirmed and not stored: {lost:?}");
    check_balances(served, truth);
}

/// Balances and charges equal the separate model's, which reads the truth file and the tariffs alone.
pub fn check_balances(served: &Served, truth: &Path) {
    let tariffs = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tariffs");
    let truth = truth.display().to_string();
    let Some(out) = peer("model/balances.py", &[], &["--truth", &truth, "--tariffs", tariffs]) else {
        return;
    };
    let model: Value = serde_json::from_slice(&out.stdout).unwrap();
    let ours: BTreeMap<String, (i64, i64)> = served
        .sql("SELECT a.account_number, s.booked_paise, s.accrued_paise FROM account_state s JOIN account a USING (account_id)")
        .iter()
        .map(|row| {
            let number = row["account_number"].as_str().unwrap().to_owned();
            (number, (row["booked_paise"].as_i64().unwrap(), row["accrued_paise"].as_i64().unwrap()))
        })
        .collect();
    let accounts = model["accounts"].as_object().unwrap();
    assert_eq!(accounts.len(), ours.len());
    for (number, balance) in accounts {
        let expected =
            (balance["booked_paise"].as_i64().unwrap(), balance["accrued_paise"].as_i64().unwrap());
        assert_eq!(ours[number], expected, "booked and accrued of {number}: ours, model");
    }
}

#[test]
fn a_deleted_checkpoint_is_rebuilt_from_the_lake_with_the_same_balances_and_windows() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("rebuild");
    provision(&data, &out, seed, "20");
    let served = Served::start(&data, &[]);
    let (seed_text, out_text, to) =
        (seed.to_string(), out.display().to_string(), served.address("tcp").to_string());
    let args =
        ["--meters", "20", "--seed", &seed_text, "--out", &out_text, "--days", "33", "--drive", "--to", &to];
    FleetRun::start(&data, &args).finish();
    let statement = "SELECT account_id, booked_paise, accrued_paise FROM account_state ORDER BY 1";
    let before = served.sql(statement);
    assert_eq!(served.terminate(), 0);
    let rebuilt = urja_ok(&data, &["rebuild"]);
    assert_eq!(rebuilt["compared"], true, "{rebuilt}");
    assert_eq!(rebuilt["differences"].as_array().map(Vec::len), Some(0), "{rebuilt}");
    std::fs::remove_dir_all(data.join("checkpoint")).unwrap();
    let rebuilt = urja_ok(&data, &["rebuild"]);
    assert_eq!(rebuilt["written"], true, "{rebuilt}");
    let served = Served::start(&data, &[]);
    assert_eq!(served.sql(statement), before);
    check_books(&served, &out.join("truth.jsonl"));
    evidence(
        "the lake alone gives the same balances and windows",
        seed,
        1,
        "checkpoint deleted, rebuilt, equal",
    );
}
