//! Import of accounts and meters from CSV: all or nothing, in one transaction.
//!
//! The file is read in chunks, so that memory does not grow with it but for what finds repeats within it. Every fault
//! is told by line, column and reason; after the first one nothing is written any more, but the rest of the file is
//! still checked. A line that says what is registered already counts as unchanged, one with another address or
//! other secrets of a registered meter as updated; one that says anything else of a registered account or meter is refused: terms are changed by orders, not by an import, and keys by a file of new keys.

mod accounts;
mod collections;
mod decimal;
mod meters;
mod rekey;
mod statement;
mod table;

use std::fmt;

use model::OutboxId;

use crate::Error;

pub use collections::{CollectionBatch, CollectionError};
pub use statement::{BankRow, StatementRow, read_bank, read_statement};
pub use table::{MAX_IMPORT_BYTES, MAX_IMPORT_LINES};

/// Faults that are listed one by one; of more, only the number is told.
pub const MAX_LISTED_FAULTS: usize = 200;
/// Lines that are looked up and written with one statement.
const CHUNK_LINES: usize = 500;
/// Names that are listed where a name is not among the known ones.
const MAX_LISTED_NAMES: usize = 20;

/// What the rest of the system knows, and a meter may name.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Names of the meter profiles, each with the capture period of its intervals in seconds.
    pub profiles: &'a [(&'a str, u32)],
}

/// What an import, or a change of keys, did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Accounts or meters that are new, or have new keys.
    pub added: usize,
    /// Registered meters whose address or secrets are other ones now, and accounts whose transformer was not said before: that
    /// is no fact, and in force at once.
    pub updated: usize,
    /// Lines that say what is registered already.
    pub unchanged: usize,
    /// The last fact that was written: the import is in force once the fold has applied it. `None` when nothing was
    /// added.
    pub outbox: Option<OutboxId>,
}

/// Why an import changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Lines of the file cannot be taken.
    #[error("nothing was imported: {0}")]
    Lines(BadLines),
    /// The file has more lines than one import takes.
    #[error("nothing was imported: the file has more than {MAX_IMPORT_LINES} lines; split it")]
    TooManyLines,
    /// The file is longer than one import takes.
    #[error("nothing was imported: the file is longer than {MAX_IMPORT_BYTES} bytes; split it")]
    TooLong,
    /// The file cannot be read.
    #[error("nothing was imported: the file cannot be read")]
    Read(#[source] csv::Error),
    /// The registry fails.
    #[error(transparent)]
    Registry(#[from] Error),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> ImportError {
        ImportError::Registry(Error::Database(error))
    }
}

/// The faults of a file, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadLines {
    /// The first [`MAX_LISTED_FAULTS`].
    pub listed: Vec<BadLine>,
    /// All of them.
    pub total: usize,
}

/// The first fault and how many there are; the list is for the caller to print.
impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.listed.first(), self.total) {
            (Some(first), 1) => first.fmt(f),
            (Some(first), total) => write!(f, "{first} (and {} more faults)", total.saturating_sub(1)),
            (None, total) => write!(f, "{total} faults"),
        }
    }
}

impl BadLines {
    fn add(&mut self, line: u64, column: &'static str, reason: impl fmt::Display) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED_FAULTS {
            self.listed.push(BadLine { line, column, reason: reason.to_string() });
        }
    }

    fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// One fault of a file. It never shows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Number of the line in the file, from 1.
    pub line: u64,
    /// Name of the column; empty where the whole line is meant.
    pub column: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            "" => write!(f, "line {}: {}", self.line, self.reason),
            column => write!(f, "line {}, {column}: {}", self.line, self.reason),
        }
    }
}

/// The known names for a message, cut where they are many.
fn known_names<'a>(names: impl IntoIterator<Item = &'a str>, total: usize) -> String {
    let mut text: Vec<&str> = names.into_iter().take(MAX_LISTED_NAMES).collect();
    if text.is_empty() {
        return "none is known".to_owned();
    }
    let rest = total.saturating_sub(text.len());
    let more = format!("{rest} more");
    if rest > 0 {
        text.push(&more);
    }
    format!("known are {}", text.join(", "))
}

#[cfg(test)]
mod tests;
