#![no_main]

#[path = "../targets/journal.rs"]
mod journal_targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| journal_targets::group(bytes));
