//! Consumer API and pages: what a person sees of their meter and their money, and the status of the whole.
//!
//! This crate must never know DLMS, the files of the lake or how a charge is computed. It knows the ledger and the
//! meters through two traits, [`Consumers`] and [`Status`], which the binary implements. The JSON of the API is made
//! here and nowhere else; the pages use that API alone.
//!
//! There is no sign-in yet: the consumer API and page are mounted for a demonstration only ([`Options::demo`]), and
//! then the listener must be bound to loopback.
//!
//! Every text a person reads comes from the Fluent catalogues in `locales/`, on the server and, as JSON, in the page.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod locale;
mod outlook;
mod pages;
mod ports;
mod problem;
mod server;
mod wire;

pub use ports::{
    AccountEntry, AppError, Card, Consumers, DayUsage, LedgerTotals, MeterCounts, Positions, RechargeOutcome,
    Status, StatusView, TableRows,
};
pub use server::{Options, router};
