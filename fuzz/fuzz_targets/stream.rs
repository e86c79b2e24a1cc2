#![no_main]

//! The listener's bytes without the listener: the module of `ingest` and what it needs, so that neither sockets nor the
//! registry are built with coverage instrumentation.

#[path = "../../ingest/src/framing.rs"]
#[allow(dead_code, reason = "the target uses what the listener does not")]
mod framing;
#[path = "../../ingest/src/parts.rs"]
#[allow(dead_code, reason = "what reads the journal again is not used here")]
mod parts;
#[path = "../targets/stream.rs"]
mod stream_target;

mod received {
    /// As in `ingest`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(dead_code, reason = "a stream has no bare APDUs")]
    pub enum Framing {
        Wrapper,
        Hdlc,
        Mbus,
        Apdu,
    }
}

mod telemetry {
    pub(crate) const TCP_HEARTBEATS: &str = "urja_tcp_heartbeats_total";
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stream_target::stream(bytes));
