//! Whole-system tests: the binary, run as a user would.
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` says what a module offers to the others"
)]

mod bill;
mod broker;
mod browser;
mod collections;
mod command;
mod counters;
mod crash;
mod credit;
mod demo;
mod fleet_faults;
mod flips;
mod harness;
mod interop;
mod interop_session;
mod kills;
mod lake;
mod meter_faults;
mod million;
mod operation;
mod powercuts;
mod relay;
mod sessions;
mod shadow;
mod storms;
mod supply;
mod syscalls;
mod tariff;
mod workspace;
