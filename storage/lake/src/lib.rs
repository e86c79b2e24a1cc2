//! The lake: rows of the fold in a hot buffer, then as Parquet in Delta tables that survive a power cut.
//!
//! This crate must never know DLMS, a tariff, a socket or SQL, and it links no query engine.
//!
//! * [`Lake::absorb`] takes the rows of a journal group; they can be read at once.
//! * [`Lake::commit`] writes them as Parquet, adds them to the Delta tables and syncs all of it. Each table keeps the
//!   position it holds as its application transaction, so that rows that come again are dropped.
//! * [`Lake::snapshot`] is one atomic view: files of one version a table, and the hot rows that are not in them.
//! * [`rebuild::records`] gives the records back that the tables were made of.
//!
//! On disk a table is a folder with the Delta log in `_delta_log`, data files (in `usage_date=…` where partitioned) and
//! sidecars in `_urja`, which say what was synced. Any reader of Delta can read it; only this crate may write it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod column;
mod decode;
mod delta;
mod disk;
mod error;
mod file;
mod gather;
mod hot;
mod lake;
mod lookup;
mod open;
mod order;
mod pack;
mod parallel;
mod readings;
pub mod rebuild;
mod rows;
mod scan;
mod sidecar;
pub mod table;
#[cfg(test)]
mod tests;
mod verify;
#[cfg(test)]
mod witness;

pub use error::{Error, Fault, RecordResult};
pub use lake::{
    CommitReport, DataFile, Difference, Frozen, IntegerEncoding, Lake, Options, Snapshot, TableCommit,
    TableInfo, TablePosition, TableSnapshot, VerifyReport, Version,
};
pub use table::{Column, Table};
pub use verify::verify;
