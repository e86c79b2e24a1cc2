//! CPU time of other processes.

use std::fs;

/// Ticks a second in which the system counts the time of other processes.
const TICKS: f64 = 100.0;

/// CPU time of a process and of its children that have ended and were waited for, ns.
#[must_use]
pub fn cpu_with_reaped(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    // After the name: utime, stime, cutime and cstime are fields 12 to 15.
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS * 1e9
}

/// CPU time of a process alone, ns, to the nanosecond.
#[must_use]
pub fn cpu_of(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.flatten().map(of).sum()
}

/// The processes that a process started and that still run.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|field| field.parse().ok()).collect()
}
