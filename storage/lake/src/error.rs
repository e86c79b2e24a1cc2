//! What can go wrong in the lake.

use std::io;
use std::path::{Path, PathBuf};

use deltalake_core::DeltaTableError;
use model::{Position, Record};

use crate::Table;

/// A fault of the lake. Each says which file or table it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A sync failed. What was written may be lost although it can still be read: the process must stop, and the sync
    /// must not be tried again on the same file.
    #[error("cannot sync {}: {source}", path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A commit failed at a point after which only a new start can tell what is on disk.
    #[error("a commit failed before and left the tables in doubt: start again")]
    Halted,
    /// A data file cannot be read or written as Parquet.
    #[error("parquet file {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: parquet::errors::ParquetError,
    },
    /// Columns do not fit together.
    #[error("columns of table {table}: {source}")]
    Arrow {
        /// The table.
        table: Table,
        /// The fault.
        source: arrow::error::ArrowError,
    },
    /// The Delta library reports a fault.
    #[error("delta table {table}: {source}")]
    Delta {
        /// The table.
        table: Table,
        /// The fault.
        source: Box<DeltaTableError>,
    },
    /// The runtime of the Delta library is gone or could not be made.
    #[error("runtime of the delta library: {0}")]
    Runtime(String),
    /// A path that cannot be a table's address.
    #[error("{} is no address of a table", .0.display())]
    Address(PathBuf),
    /// A file that a synced sidecar names is not as it was written: refused, since starting would lose what it holds.
    #[error("table {table}: {}: {fault}; it was synced with version {version}, so it is lost or changed, not torn", path.display())]
    Damaged {
        /// The table.
        table: Table,
        /// The file.
        path: PathBuf,
        /// Version whose sidecar names the file.
        version: i64,
        /// What is wrong.
        fault: Fault,
    },
    /// There are more versions above the last sidecar than one commit can leave.
    #[error(
        "table {table}: versions {first} to {last} have no sidecar; a crash leaves one at most, so another program \
         wrote the table or its sidecars were removed"
    )]
    Uncovered {
        /// The table.
        table: Table,
        /// First version without a sidecar.
        first: i64,
        /// Last version of the log.
        last: i64,
    },
    /// The position in the log is not the one of the last sidecar: the application id is another one.
    #[error(
        "table {table} holds everything up to {sealed} by its sidecars, but up to {position} for application id {app_id}"
    )]
    OtherWriter {
        /// The table.
        table: Table,
        /// The application id asked for.
        app_id: String,
        /// Position the log has for it.
        position: Position,
        /// Position of the last sidecar.
        sealed: Position,
    },
    /// Another program committed to the table.
    #[error("table {table}: version {version} exists already: another program wrote the table")]
    Contended {
        /// The table.
        table: Table,
        /// The version that was to be written.
        version: i64,
    },
    /// The table on disk has other columns than this version of the program.
    #[error("table {table}: column {column} is {found} on disk and {expected} in this program")]
    Schema {
        /// The table.
        table: Table,
        /// The column that differs.
        column: String,
        /// What this program has.
        expected: String,
        /// What the table has.
        found: String,
    },
    /// A commit was asked for up to a record that was not absorbed.
    #[error("cannot commit up to {upto}: rows are absorbed up to {absorbed}")]
    NotAbsorbed {
        /// The position asked for.
        upto: Position,
        /// The position absorbed.
        absorbed: Position,
    },
    /// A commit was asked for inside of what was absorbed at once.
    #[error("cannot commit up to {0}: it is not the end of an absorbed group")]
    NotAGroupEnd(Position),
    /// Rows were absorbed across a committed position, so some of them cannot be told from rows already there.
    #[error(
        "table {table}: rows up to {upto} were absorbed at once across the committed position {committed}; a replay \
         has to absorb group by group"
    )]
    Straddled {
        /// The table.
        table: Table,
        /// Position its files hold.
        committed: Position,
        /// End of what was absorbed at once.
        upto: Position,
    },
    /// A value in a file is none that the program writes.
    #[error("table {table}: column {column} holds {value:?} at position {position}")]
    Value {
        /// The table.
        table: Table,
        /// The column.
        column: &'static str,
        /// The value.
        value: String,
        /// The row.
        position: i64,
    },
    /// A file has not the column it must have.
    #[error("table {table}: column {column} is missing or of another type")]
    NoColumn {
        /// The table.
        table: Table,
        /// The column.
        column: String,
    },
    /// A reading's frame is not in table `frame`.
    #[error("the frame at position {0} is not in table frame")]
    NoFrame(Position),
    /// No table gives the record back.
    #[error("no table gives back the record at position {0}")]
    NoRecord(Position),
    /// A record was asked for that is not committed in every table.
    #[error("records are asked for up to {upto} but committed up to {committed}")]
    NotCommitted {
        /// The position asked for.
        upto: Position,
        /// The position every table holds.
        committed: Position,
    },
    /// A row of table `fact` is no record.
    #[error("the record at position {position} in table fact: {source}")]
    Record {
        /// The record.
        position: Position,
        /// The fault.
        source: model::DecodeError,
    },
}

/// How a file differs from what its sidecar says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It cannot be read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// It is shorter or longer.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// Bytes written.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// Its bytes are others.
    #[error("its digest differs from the one written")]
    Digest,
    /// It has no content.
    #[error("empty")]
    Empty,
    /// A sidecar that is not as it was written.
    #[error("not a sidecar as it was written")]
    NotASidecar,
    /// A version of the log without a sidecar.
    #[error("version {0} has no sidecar")]
    NoSidecar(i64),
    /// The log entry names other files than the sidecar.
    #[error("the log entry names other files than the sidecar")]
    OtherFiles,
    /// No version of the table refers to it.
    #[error("no version of the table refers to it")]
    Unreferenced,
}

impl Error {
    /// Whether the process must stop and start again: after a failed sync, and where another program wrote the table,
    /// only that tells what is on disk.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Sync { .. } | Error::Halted | Error::Contended { .. } | Error::Uncovered { .. })
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }

    pub(crate) fn parquet(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Error {
        let path = path.to_owned();
        move |source| Error::Parquet { path, source }
    }

    pub(crate) fn arrow(table: Table) -> impl FnOnce(arrow::error::ArrowError) -> Error {
        move |source| Error::Arrow { table, source }
    }

    pub(crate) fn delta(table: Table) -> impl FnOnce(DeltaTableError) -> Error {
        move |source| Error::Delta { table, source: Box::new(source) }
    }
}

/// The iterator's item when a table is read back as records.
pub type RecordResult = Result<Record, Error>;
