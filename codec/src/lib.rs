//! DLMS/COSEM wire views, A-XDR and security suites; must never know sockets, clocks, files, money or the other crates.
//!
//! The way of a push from bytes to values:
//!
//! 1. [`wrapper`] delimits one frame of IEC 62056-47 in a byte stream or a datagram; [`hdlc`] and [`mbus`] do so for
//!    theirs and put segments together,
//! 2. [`apdu`] shows the APDU inside it as a borrowed view; where it is a block of one,
//!    [`apdu::block_transfer`] puts them together,
//! 3. [`security`] opens a general-glo-ciphering APDU; only a verified tag gives an [`security::Authentic`],
//! 4. [`axdr`] walks the data of the notification, typed and without copying.
//!
//! [`session`] asks meters instead of listening to them: associations as state machines.
//!
//! [`tree`] describes the same bytes for a human reader; it allocates and is not on that way.
//!
//! Nothing here panics on bytes received, recurses on their nesting, or allocates per APDU once its
//! buffers have grown. Lengths, counts and nesting are capped by named constants, and every [`Error`]
//! says what was wrong and at which byte.

#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cursor;

pub mod apdu;
pub mod axdr;
pub mod cosem;
pub mod error;
pub mod fragment;
pub mod hdlc;
pub mod mbus;
pub mod security;
pub mod session;
pub mod tree;
pub mod wrapper;

pub use error::{Error, ErrorKind};

/// Steps of all parsers so far: fields that were read, words of rows that were compared. Counted where inputs are fuzzed,
/// and nowhere else.
#[cfg(fuzzing)]
#[doc(hidden)]
#[must_use]
pub fn steps() -> u64 {
    cursor::STEPS.load(core::sync::atomic::Ordering::Relaxed)
}

/// The examples of the README, which compile and hold.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
