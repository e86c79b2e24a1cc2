//! A shadow run: another system's charges are held against ours, and what was changed in them is what is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::crash::provision;
use crate::harness::{FleetRun, Served, evidence, full, seeded, urja, written};

const HEADS: [&str; 8] = ["energy", "fixed", "subsidy", "surcharge", "duty", "rebate", "minimum", "green"];

/// A charge as the other system has it, paise and Wh.
#[derive(Clone, Default)]
struct Charge {
    heads: [i64; 8],
    total: i64,
    wh: i64,
}

/// Charges by account and day: with everything that came late, and as they were when the day was closed.
fn charges(served: &Served) -> BTreeMap<(String, String), [Charge; 2]> {
    let mut all: BTreeMap<(String, String), [Charge; 2]> = BTreeMap::new();
    for row in served.sql(
        "SELECT account_number, usage_date, kind, head, amount_paise, energy_wh FROM ledger_posting \
         JOIN account USING (account_id) WHERE kind IN ('usage', 'correction')",
    ) {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let both = all.entry((text("account_number"), text("usage_date"))).or_default();
        let late = if text("kind") == "usage" { 2 } else { 1 };
        for charge in &mut both[..late] {
            let paise = row["amount_paise"].as_i64().unwrap();
            match HEADS.iter().position(|head| *head == text("head")) {
                Some(head) => charge.heads[head] += paise,
                None => {
                    (charge.total, charge.wh) =
                        (charge.total - paise, charge.wh + row["energy_wh"].as_i64().unwrap())
                }
            }
        }
    }
    all
}

fn rupees(paise: i64) -> String {
    format!("{}{}.{:02}", if paise < 0 { "-" } else { "" }, paise.abs() / 100, paise.abs() % 100)
}

#[test]
fn a_shadow_run_tells_each_difference_by_its_cause_and_what_agrees_as_agreeing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, mut random) = seeded("shadow");
    let (meters, days) = if full() { ("400", "40") } else { ("40", "6") };
    provision(&data, &out, seed, meters);
    let served = Served::start(&data, &[]);
    let (seed_text, to, out) =
        (seed.to_string(), served.address("tcp").to_string(), out.display().to_string());
    let args =
        ["--meters", meters, "--seed", &seed_text, "--out", &out, "--days", days, "--drive", "--to", &to];
    FleetRun::start(&data, &args).finish();

    let mut csv = "account_number,usage_date,energy_kwh,total_rupees".to_owned();
    HEADS.iter().for_each(|head| write!(csv, ",{head}_rupees").unwrap());
    csv.push('\n');
    let mut expected: BTreeMap<(String, String), String> = BTreeMap::new();
    let (mut rows, mut late) = (0, 0);
    let all = charges(&served);
    for ((account, day), [now, at_close]) in &all {
        let key = (account.clone(), day.clone());
        let was_late = now.total != at_close.total;
        let mut theirs = now.clone();
        let mut cause = None;
        // What of theirs is other than ours, with everything that follows from it or not.
        match random() >> 8 & 15 {
            0 => (theirs.wh, cause) = (theirs.wh + 1_000, Some("quantity")),
            1 if was_late => (theirs, cause) = (at_close.clone(), Some("late_data")),
            2 => {
                theirs.heads[0] += 100;
                theirs.heads[4] += 5;
                cause = Some("energy");
            }
            3 => {
                theirs.heads[1] -= 300;
                theirs.heads[5] += 6;
                cause = Some("fixed");
            }
            4 => (theirs.heads[4], cause) = (theirs.heads[4] + 2, Some("duty")),
            5 => (theirs.heads[2], cause) = (theirs.heads[2] - 50, Some("subsidy")),
            6 => (theirs.total, cause) = (theirs.total + 7, Some("their_sum")),
            7 => {
                expected.insert(key, "not_booked_there".to_owned());
                continue;
            }
            // Rounding.
            8 => (theirs.heads[4], theirs.wh) = (theirs.heads[4] + 1, theirs.wh + 9),
            _ => {}
        }
        late += u32::from(cause == Some("late_data"));
        if cause != Some("their_sum") {
            theirs.total = theirs.heads.iter().sum();
        }
        expected.extend(cause.map(|cause| (key, cause.to_owned())));
        let kwh = format!("{}.{:03}", theirs.wh / 1000, theirs.wh % 1000);
        write!(csv, "{account},{day},{kwh},{}", rupees(theirs.total)).unwrap();
        theirs.heads.iter().for_each(|head| write!(csv, ",{}", rupees(*head)).unwrap());
        csv.push('\n');
        rows += 1;
    }
    let (account, day) = all.keys().next().unwrap().clone();
    for (account, day, cause) in
        [("PUVVNL9999999999", day.as_str(), "unknown_account"), (&account, "2026-03-31", "not_booked_here")]
    {
        writeln!(csv, "{account},{day},1.000,5.00,,,,,,,,").unwrap();
        expected.insert((account.to_owned(), day.to_owned()), cause.to_owned());
        rows += 1;
    }
    let (file, found) = (written(dir.path(), "theirs.csv", &csv), dir.path().join("differ.csv"));
    let args = ["--json", "shadow", "compare", &file, "--limit", "100000", "--out", found.to_str().unwrap()];
    let said = urja(&data, &args);
    assert_eq!(said.status.code(), Some(2), "{}", String::from_utf8_lossy(&said.stderr));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let told: BTreeMap<(String, String), String> = report["different"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            // That intervals of the day are missing here is said of another energy.
            let cause = text(row, "cause").replace("incomplete_here", "quantity");
            ((text(row, "account_number"), text(row, "usage_date")), cause)
        })
        .collect();
    let wrong: Vec<_> = told.iter().filter(|(key, cause)| expected.get(*key) != Some(*cause)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(told.len(), expected.len());
    assert_eq!((&report["account_days"], &report["differ"]), (&rows.into(), &expected.len().into()));
    let theirs: i64 = report["theirs_paise"].as_i64().unwrap() - report["ours_paise"].as_i64().unwrap();
    let causes = report["causes"].as_array().unwrap();
    let by_cause: i64 = causes.iter().map(|cause| cause["difference_paise"].as_i64().unwrap()).sum();
    let rounding = theirs - by_cause;
    assert!((0..=rows).contains(&rounding), "what differs adds up but for a paisa a day: {rounding}");
    let lines = std::fs::read_to_string(&found).unwrap().lines().count();
    assert_eq!(lines, expected.len() + 1);

    let bad = written(dir.path(), "bad.csv", "account_number,usage_date,total_rupees\nA,2026-06-31,1\n");
    let refused = urja(&data, &["shadow", "compare", &bad]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("bad.csv: line 2, usage_date"), "{said}");
    let injected = u32::try_from(expected.len()).unwrap();
    let result = format!(
        "{injected} of {rows} charges differ, each told by its cause ({late} by late data), nothing else"
    );
    evidence("a shadow run tells what differs and why", seed, injected, &result);
}
