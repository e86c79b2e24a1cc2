//! What whole-system tests share: the binary as a process, its answers, foreign programs, and waiting for a state.

mod broker;
mod process;
mod python;

use std::time::{Duration, Instant};

pub use broker::Broker;
pub use process::{FleetRun, Served, urja, urja_ok};
pub use python::{peer, python, shared};

/// Longest time to wait for a state before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `found` gives a value; fails with `what` at the deadline.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Says why a test cannot run here; fails instead where everything must be there.
pub fn skip(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: {what}");
    println!("skipped: not there: {what}");
    // The gate collects these lines at its end.
    if let Ok(path) = std::env::var("URJA_SKIPS") {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "skipped: not there: {what}"));
    }
}
