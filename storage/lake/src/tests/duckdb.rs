//! DuckDB reads the tables from disk: its reader of the log and of Parquet is not ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::sample::Market;
use super::{expected, folder, open};
use crate::Table;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/duckdb_read.py");

/// Whether DuckDB can be asked; in CI it must be.
fn there() -> bool {
    let import = "import duckdb, duckdb_extension_delta, pytz";
    let there =
        Command::new("python3").args(["-c", import]).output().is_ok_and(|output| output.status.success());
    if !there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "not there: duckdb with its extension delta, and pytz"
        );
        println!("skipped: not there: duckdb with its extension delta, and pytz");
    }
    there
}

fn ask(table: &Path, statement: &str) -> Vec<String> {
    let output = Command::new("python3").arg(SCRIPT).arg(table).arg(statement).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(canonical).collect()
}

/// The line as the tests write it.
fn canonical(line: &str) -> String {
    let object: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    serde_json::to_string(&object).unwrap()
}

#[test]
fn duckdb_reads_every_table_with_the_rows_that_went_in() {
    if !there() {
        return;
    }
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(61).groups(300);
    for part in groups.chunks(50) {
        part.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        lake.commit(part.last().unwrap().upto).unwrap();
    }
    let expected = expected(&groups);
    for table in Table::ALL {
        let folder: PathBuf = dir.path().join(table.name());
        let mut rows = ask(&folder, "SELECT * FROM t");
        rows.sort();
        assert!(rows.len() > 10, "{table}");
        assert_eq!(rows, expected[&table], "{table}");
    }
    let balanced =
        ask(&dir.path().join("ledger_posting"), "SELECT sum(amount_paise)::BIGINT AS paise FROM t");
    assert_eq!(balanced, [r#"{"paise":0}"#]);
}
