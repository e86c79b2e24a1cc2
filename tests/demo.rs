//! The demo, as a newcomer runs it.

use std::process::{Command, Stdio};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_urja");

fn demo(args: &[&str]) -> Value {
    let out = Command::new(BINARY)
        .args(["--json"])
        .args(args)
        .args(["demo", "--exit", "--http", "127.0.0.1:0", "--meters", "24", "--days", "8"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    })
}

#[test]
fn the_demo_ends_with_a_summary_in_which_everything_adds_up() {
    let report = demo(&[]);
    assert_eq!(report["sum_of_postings_paise"], 0, "{report}");
    assert_eq!(report["conservation_difference"], 0, "{report}");
    assert_eq!(report["state"]["meters_heard"], 24, "{report}");
    for source in ["tcp", "udp", "mqtt"] {
        assert!(report["frames_by_source"][source].as_u64().unwrap() > 0, "{source}: {report}");
    }
    assert!(report["interval_rows"].as_i64().unwrap() > 24 * 7 * 40, "{report}");
    assert!(report["charged_paise"].as_i64().unwrap() > 0, "{report}");
    assert!(report["recharged_paise"].as_i64().unwrap() > 0, "{report}");
}

#[test]
fn a_second_start_on_the_same_data_goes_on_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo").display().to_string();
    let first = demo(&["--data", &data]);
    let second = demo(&["--data", &data]);
    let number = |report: &Value, key: &str| report[key].as_i64().unwrap();
    assert!(number(&second, "interval_rows") >= number(&first, "interval_rows"), "{first}\n{second}");
    assert!(number(&second, "postings") >= number(&first, "postings"), "{first}\n{second}");
    assert!(number(&second, "days") <= 2, "{second}");
    assert_eq!(second["sum_of_postings_paise"], 0);
    assert_eq!(second["conservation_difference"], 0);
}
