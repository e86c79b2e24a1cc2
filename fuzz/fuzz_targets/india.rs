#![no_main]

#[path = "../targets/meter.rs"]
mod meter;
#[path = "../targets/india.rs"]
mod india_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| india_target::india(bytes));
