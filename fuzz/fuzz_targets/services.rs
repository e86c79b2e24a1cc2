#![no_main]

#[path = "../targets/codec.rs"]
#[allow(dead_code, reason = "one of several targets")]
mod codec_targets;
#[path = "../targets/services.rs"]
mod services_target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| services_target::services(bytes));
