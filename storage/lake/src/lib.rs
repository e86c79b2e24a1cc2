//! The lake: rows of the fold in a hot buffer, then as Parquet in Delta tables that survive a power cut.
//!
//! This crate must never know DLMS, a tariff, a socket or SQL, and it links no query engine.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod lake;
pub mod rebuild;
pub mod table;

pub use error::{Error, Fault, RecordResult};
pub use lake::{
    CommitReport, DataFile, Difference, Lake, Options, Snapshot, TableCommit, TableInfo, TableSnapshot, Version,
    VerifyReport,
};
pub use table::{Column, Table};
