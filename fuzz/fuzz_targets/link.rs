#![no_main]

#[path = "../targets/link.rs"]
mod link_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| link_target::link(bytes));
