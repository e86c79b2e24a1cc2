//! Why a statement was not answered.

use std::io;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::PinError;

/// Why a statement was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL.
    #[error("not a statement: {0}")]
    Syntax(String),
    /// The text is SQL that is not answered here: it would change something, or it is not one statement.
    #[error("refused: {0}")]
    Refused(String),
    /// The statement is larger than the bounds written in this crate.
    #[error("the statement is too large: {0}")]
    TooLarge(String),
    /// It names a table, column or function that is not there, or types that do not go together.
    #[error("{0}")]
    Invalid(String),
    /// Values did not suit what was asked, for example a division by zero.
    #[error("{0}")]
    Failed(String),
    /// It needs more memory or spill space than statements may use.
    #[error("the statement needs more memory than there is for statements: {0}")]
    OutOfMemory(String),
    /// It ran longer than statements may.
    #[error("the statement did not end within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// As many statements as allowed run and wait already.
    #[error("{running} statements are running and {waiting} waiting; try again")]
    Busy {
        /// Statements that may run at a time.
        running: usize,
        /// Statements that may wait for their turn.
        waiting: usize,
    },
    /// The tables could not be pinned at a position.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A fault of ours; the text is for the log.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl QueryError {
    /// A word for metrics and for the type of a problem document.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            QueryError::Syntax(_) => "syntax",
            QueryError::Refused(_) => "refused",
            QueryError::TooLarge(_) => "too_large",
            QueryError::Invalid(_) => "invalid",
            QueryError::Failed(_) => "failed",
            QueryError::OutOfMemory(_) => "out_of_memory",
            QueryError::Timeout(_) => "timeout",
            QueryError::Busy { .. } => "busy",
            QueryError::Pin(PinError::Behind { .. }) => "behind",
            QueryError::Pin(PinError::Unavailable(_)) => "unavailable",
            QueryError::Internal(_) => "internal",
        }
    }

    /// Whether the same statement may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, QueryError::Busy { .. } | QueryError::Pin(_) | QueryError::OutOfMemory(_))
    }
}

/// An error of a function whose call exceeds a bound, on its way through DataFusion.
pub(crate) fn too_large(what: String) -> DataFusionError {
    DataFusionError::External(Box::new(QueryError::TooLarge(what)))
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> QueryError {
        let text = || error.strip_backtrace();
        if is_exhausted(&error) {
            return QueryError::OutOfMemory(text().split(" Please ").next().unwrap_or_default().to_owned());
        }
        match error.find_root() {
            DataFusionError::External(inner) => match inner.downcast_ref::<QueryError>() {
                Some(QueryError::TooLarge(what)) => QueryError::TooLarge(what.clone()),
                _ => QueryError::Internal(text()),
            },
            DataFusionError::SQL(..) => QueryError::Syntax(text()),
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_) => QueryError::Invalid(text()),
            DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => QueryError::Failed(text()),
            _ => QueryError::Internal(text()),
        }
    }
}

/// Whether memory or spill space ran out. A full spill directory comes as an error of input and output without a kind
/// of its own; nothing else here writes.
fn is_exhausted(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => true,
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::IoError(_, error) => {
                [io::ErrorKind::Other, io::ErrorKind::StorageFull].contains(&error.kind())
            }
            _ => false,
        },
        _ => false,
    }
}

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such zone.
    #[error(transparent)]
    Zone(#[from] model::time::TimeError),
    /// The directory for intermediate results, or another option, cannot be used.
    #[error("statements cannot be run: {0}")]
    Runtime(String),
    /// A view of this crate is not a statement that would be let in.
    #[error("a view cannot be read: {0}")]
    View(QueryError),
}
