//! What faces meters, whole: real journal, real registry, real sockets; only the lake is a list of rows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod durable;
mod fixtures;
mod frames;
mod lake;
mod lines;
mod mqtt;
mod pipeline;
mod puback;
mod session;
mod tcp;
mod told;
mod udp;
mod world;
