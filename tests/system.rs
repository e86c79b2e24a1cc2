//! Whole-system tests: the binary, run as a user would.
#![allow(clippy::unwrap_used, missing_docs)]

mod broker;
mod command;
mod crash;
mod demo;
mod harness;
mod lake;
mod operation;
mod workspace;
