//! Whole-system tests: the binary, run as a user would.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod workspace;
