//! What can go wrong.

use std::io;
use std::path::PathBuf;

use model::Position;

/// A failure of a checkpoint or of the lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed. What was written may be lost although it can still be read: the process must stop, and the sync
    /// must not be tried again on the same file.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A checkpoint is not what was written.
    #[error("damaged checkpoint {} at offset {offset}: {fault}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// A newer checkpoint is there; what was to be written would never be read.
    #[error("a checkpoint at {newest} is there, {position} lies before it")]
    Behind {
        /// Position that was to be written.
        position: Position,
        /// Position of the newest checkpoint.
        newest: Position,
    },
    /// The sections cannot be written in this format.
    #[error("section {name}: {reason}")]
    Section {
        /// Name of the section; empty when there are too many.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another process owns the data directory.
    #[error("{} is in use{}", path.display(), by.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that said so in it.
        by: Option<u32>,
    },
}

impl Error {
    /// Whether the process must stop and start again: after a failed sync only that tells what is on disk.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Sync { .. })
    }

    pub(crate) fn sync(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Sync { path, source }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The magic is not there.
    #[error("not a checkpoint")]
    NotACheckpoint,
    /// Written by another version.
    #[error("unknown version {0}")]
    Version(u16),
    /// The file ends too early or too late.
    #[error("should be {0} bytes long")]
    Size(u64),
    /// The checksum of header and table does not match.
    #[error("checksum of the header does not match")]
    Header,
    /// A header with a right checksum that no writer writes.
    #[error("impossible table of sections")]
    Table,
    /// Another position than the name says.
    #[error("is the checkpoint at {0}")]
    Position(Position),
    /// The checksum of a section does not match.
    #[error("checksum of section {0} does not match")]
    Section(String),
}
