#![no_main]

#[path = "../targets/budget.rs"]
mod budget;
#[path = "../targets/meter.rs"]
mod meter;
#[path = "../targets/client.rs"]
mod client_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| client_target::client(bytes));
