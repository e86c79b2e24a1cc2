//! What faces meters: listeners, MQTT, normalization and the commit pipeline. It must never know SQL, HTTP, how a charge
//! is computed, or how a table is written.
//!
//! The way of a frame:
//!
//! 1. A listener ([`serve_tcp`], [`serve_udp`], [`serve_mqtt`]) delimits it and gives it to [`Pipeline::submit`].
//! 2. There, on the listener's task, it is checked and decoded: lengths, title, policy, tag, then [`normalize`].
//! 3. The thread `journal` tells redeliveries by digest, judges the invocation counter, makes one fact of it, appends
//!    it with all others that wait, and syncs them once. Only then its [`Ticket`] is answered, and only an answered
//!    ticket is acknowledged to the sender.
//! 4. The thread `fold` applies the records in their order and hands rows to the [`Lake`].
//! 5. The thread `resolver` looks contested readings up and appends the answers; the thread `checkpoint` commits the
//!    lake, writes the state and lets the journal go.
//!
//! Nothing acknowledged is ever shed. Every queue is bounded; when one is full, senders are slowed (TCP, MQTT) or
//! refused and counted (UDP). What proves nothing is kept within bounds ([`EvidenceOptions`]), so that nobody without keys can
//! fill the disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admission;
mod clock;
mod decode;
mod evidence;
#[cfg(test)]
mod framed;
mod framing;
mod gather;
mod judge;
mod keys;
mod lake;
mod memory;
mod mqtt;
pub mod normalize;
mod parts;
mod pipeline;
mod print;
mod queue;
mod received;
mod reply;
mod resolve;
mod session;
pub mod supply;
mod tcp;
mod telemetry;
mod udp;
mod windows;

pub use admission::{Admission, Admitted, Place};
pub use clock::Clock;
pub use evidence::EvidenceOptions;
pub use gather::Publishes;
pub use lake::{BoxError, Lake, LakeVersion};
pub use mqtt::{MqttError, MqttFraming, MqttOptions, serve_mqtt};
pub use pipeline::{
    Applied, Failure, Pipeline, PipelineError, PipelineOptions, Readiness, Replay, StartError, Stats,
    Submitter,
};
pub use received::{Acked, Disposition, Framing, Lost, Received, Refused, Ticket};
pub use session::{
    Client, LinkError, MeterLink, MeterSession, NodeTopic, PollFraming, PollOptions, RelayMove, RelayState,
    SessionError, SessionOptions, Sessions, serve_polls, shown,
};
pub use tcp::{TcpOptions, serve_tcp};
pub use telemetry::describe as describe_metrics;
pub use udp::{UdpOptions, serve_udp};

use model::Digest;

/// First 16 bytes of the BLAKE3 hash: what a frame, or the text of a tariff, is told by.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    Digest(digest)
}
