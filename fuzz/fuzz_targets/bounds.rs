#![no_main]

#[path = "../targets/bounds.rs"]
mod bounds_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bounds_target::bounds(bytes));
