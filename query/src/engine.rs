//! The engine: one statement, one session, one position.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use model::Position;

use crate::{Pins, QueryError};

/// Limits of the engine and its place on disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for all running statements together, bytes.
    pub memory_bytes: usize,
    /// Longest run of a statement, planning, waiting for its turn and reading its rows included.
    pub timeout: Duration,
    /// Most rows of an answer; what is beyond is cut and the answer says so.
    pub max_rows: usize,
    /// Most bytes of an answer in memory; what is beyond is cut and the answer says so.
    pub max_answer_bytes: usize,
    /// Statements that run at a time; four times as many may wait for their turn.
    pub max_statements: usize,
    /// The utility's zone, by its name in the IANA database.
    pub zone: String,
    /// Directory for intermediate results that do not fit into memory; `None`: such statements fail.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes in `spill_dir`.
    pub spill_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memory_bytes: 512 << 20,
            timeout: Duration::from_secs(30),
            max_rows: 1_000_000,
            max_answer_bytes: 256 << 20,
            max_statements: 4,
            zone: "Asia/Kolkata".to_owned(),
            spill_dir: None,
            spill_bytes: 2 << 30,
        }
    }
}

/// The rows of one statement.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// The position everything in the answer is as of.
    pub position: Position,
    /// Time from the call to the last row.
    pub elapsed: Duration,
    /// Whether rows were cut at [`Options::max_rows`] or [`Options::max_answer_bytes`].
    pub truncated: bool,
}

impl Answer {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
