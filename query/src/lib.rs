//! SQL over everything Urja knows, at one pinned position: the lake's tables (files and hot rows), meters, accounts
//! and balances, and the views of `views/*.sql`.
//!
//! This crate must never know DLMS or how money is computed, and it changes nothing: statements that are not
//! questions are refused before they are planned. What it needs from the rest of the process it asks for through
//! [`Pins`].
//!
//! * [`Engine::query`] answers one statement within its limits of time, memory, rows and concurrency.
//! * [`router`] is the same over HTTP; [`format`] turns answers into JSON, CSV and a table for people.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod engine;
mod error;
pub mod format;
mod functions;
mod gate;
mod http;
mod interrupt;
mod pin;
mod session;
mod tables;

pub use engine::{Answer, Engine, Options};
pub use error::{QueryError, StartError};
pub use http::router;
pub use pin::{AccountEntry, MeterEntry, PinError, Pinned, Pins, SupplyEntry, Wants};
