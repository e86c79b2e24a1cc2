//! Associations as state machines that do no IO: bytes in, bytes out; time and randomness are arguments.
//!
//! One file for each role. [`client`] is the head-end: it opens an association, asks and is answered;
//! [`india`] is the way into an Indian meter with it. [`server`] is the meter: it lets in and answers. A role owns
//! neither socket nor clock nor file: it says what it would send, until when it waits, and what must be stored
//! before it goes on; the shell around it does that and tells.
//!
//! What a machine is given are whole APDUs: the [`wrapper`](crate::wrapper) and its addresses belong to the shell.

mod blocks;
pub mod client;
pub mod india;
pub mod server;
