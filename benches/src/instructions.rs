//! Instructions of an operation, counted by callgrind: `benches/instructions` runs the benches under it.

use std::hint::black_box;

/// The operation to count, or `list` for the names of all.
const WANTED: &str = "URJA_BENCH_COUNT";

/// Whether something is to be counted, and nothing timed.
#[must_use]
pub fn are_wanted() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// Counts one operation over so many APDUs, if it is the one: first a run in which buffers grow, then the one that
/// callgrind looks at.
pub fn count(id: &str, apdus: usize, work: &mut dyn FnMut()) {
    match std::env::var(WANTED) {
        Ok(wanted) if wanted == "list" => println!("{id} {apdus}"),
        Ok(wanted) if wanted == id => {
            work();
            counted(work);
        }
        _ => {}
    }
}

/// What callgrind counts: it is told this name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Something comes behind it, so that this does not become a jump.
    black_box(());
}
