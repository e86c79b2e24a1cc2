//! The lake, read by another engine.

use std::path::Path;

use serde_json::Value;

use crate::crash::provision;
use crate::harness::{FleetRun, Served, peer, seeded, urja_ok};

const TABLES: [&str; 9] = [
    "frame",
    "interval_reading",
    "interval_revision",
    "daily_reading",
    "instant_reading",
    "event",
    "quarantine",
    "ledger_posting",
    "fact",
];

#[test]
fn duckdb_reads_every_table_from_disk_and_agrees_row_for_row() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("duckdb");
    provision(&data, &out, seed, "12");
    let served = Served::start(&data, &[]);
    let (seed_text, out_text, to) =
        (seed.to_string(), out.display().to_string(), served.address("tcp").to_string());
    let args =
        ["--meters", "12", "--seed", &seed_text, "--out", &out_text, "--days", "3", "--drive", "--to", &to];
    FleetRun::start(&data, &args).finish();
    // The last checkpoint puts every row into files.
    assert_eq!(served.terminate(), 0);
    let Some(rows) = duckdb_agrees(&data) else { return };
    assert!(rows > 1000, "only {rows} rows were compared");
}

/// Compares every row of every table on disk, as DuckDB reads it, with what we say; `None` without DuckDB.
pub fn duckdb_agrees(data: &Path) -> Option<usize> {
    let mut rows = 0;
    for table in TABLES {
        let path = data.join("lake").join(table).display().to_string();
        let theirs = peer("peers/duckdb_read.py", &["duckdb", "pytz"], &[&path])?;
        let mut theirs: Vec<Value> = String::from_utf8(theirs.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut ours = urja_ok(data, &["sql", &format!("SELECT * FROM {table}")]).as_array().unwrap().clone();
        let key = |row: &Value| canonical(row);
        theirs.sort_by_key(key);
        ours.sort_by_key(key);
        assert_eq!(ours.len(), theirs.len(), "{table}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(canonical(ours), canonical(theirs), "{table}");
        }
        rows += ours.len();
    }
    Some(rows)
}

/// A row as text: keys in order, without keys that have no value, instants as microseconds.
fn canonical(row: &Value) -> String {
    let object = row.as_object().unwrap();
    let plain = |value: &Value| {
        let instant = value.as_str().filter(|text| text.ends_with('Z')).and_then(|text| text.parse().ok());
        instant.map_or_else(
            || value.to_string(),
            |instant: jiff::Timestamp| instant.as_microsecond().to_string(),
        )
    };
    let mut parts: Vec<String> = object
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    parts.sort();
    parts.join(" ")
}
