//! What whole-system tests share: the binary as a process, its answers, foreign programs, and waiting for a state.

mod broker;
mod disk;
pub mod load;
mod process;
mod python;
mod remains;
mod strace;

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

pub use broker::Broker;
pub use disk::Disks;
pub use process::{FleetRun, Served, urja, urja_begun, urja_into, urja_ok};
pub use python::{peer, peer_into, python, root, shared};
pub use remains::{Place, Remains, Witness};
pub use strace::{Fault, Strace, file_of};

/// Longest time to wait for a state before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `found` gives a value; fails with `what` at the deadline.
pub fn wait_for<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, found)
}

/// As [`wait_for`], with a deadline of its own.
pub fn wait_within<T>(deadline: Duration, what: &str, found: impl FnMut() -> Option<T>) -> T {
    try_within(deadline, found).unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// Polls until `found` gives a value, or until the deadline.
pub fn try_for<T>(found: impl FnMut() -> Option<T>) -> Option<T> {
    try_within(DEADLINE, found)
}

fn try_within<T>(deadline: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    while Instant::now() < end {
        if let Some(value) = found() {
            return Some(value);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    None
}

/// Lets the run go on until a seeded moment: the fault is the point here, not a state.
pub fn shared_deadline(moment: Duration) {
    let end = Instant::now() + moment;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

thread_local! {
    /// When the test of this thread began.
    static BEGUN: Cell<Instant> = Cell::new(Instant::now());
}

/// Whether the large counts of `./test --full` are asked for.
pub fn full() -> bool {
    std::env::var_os("URJA_FULL").is_some()
}

/// Writes a file of a directory; gives its path as an argument.
pub fn written(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// The seed of a test and numbers drawn from it; `URJA_SEED` repeats a run. Called first: evidence tells the time since.
pub fn seeded(test: &str) -> (u64, impl FnMut() -> u64) {
    BEGUN.set(Instant::now());
    let drawn = || UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 / 1_000;
    let seed =
        std::env::var("URJA_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(drawn) % 1_000_000;
    println!("{test}: URJA_SEED={seed}");
    let mut state = seed.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (seed, next)
}

/// A line of the evidence that `./test --full` writes down: promise, seed, faults, seconds, result.
pub fn evidence(promise: &str, seed: u64, injected: u32, result: &str) {
    assert!(injected > 0, "{promise}: no fault was injected");
    let seconds = BEGUN.get().elapsed().as_secs();
    println!("evidence: {promise}: {injected} faults, {seconds} s: {result}");
    if let Ok(path) = std::env::var("URJA_EVIDENCE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let line = format!("{promise}\t{seed}\t{injected}\t{seconds}\t{result}\n");
        file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes())).unwrap();
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
