#![no_main]

#[path = "../targets/budget.rs"]
mod budget;
#[path = "../targets/meter.rs"]
mod meter;
#[path = "../targets/server.rs"]
mod server_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server_target::server(bytes));
