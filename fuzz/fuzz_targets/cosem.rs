#![no_main]

#[path = "../targets/codec.rs"]
#[allow(dead_code, reason = "one of several targets")]
mod codec_targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| codec_targets::cosem(bytes));
