//! What can go wrong, and what the caller does about it.

use std::io;
use std::path::PathBuf;

use model::Position;

/// A failure of the journal. [`Error::Full`] and [`Error::GroupTooLarge`] leave it usable; after any other error of
/// an append or a sync the process stops, and a new one starts from what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something other than a sync.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed. Nobody knows what is on disk, and a second sync of the same file would lie.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write or sync failed; this journal object does nothing any more.
    #[error("the journal has failed before and takes nothing more")]
    Poisoned,
    /// No space for the next segment. Nothing was written; the same group can be appended when there is space.
    #[error("no space for another journal segment")]
    Full {
        /// What the system said.
        source: io::Error,
    },
    /// The group does not fit into one segment. Nothing was written.
    #[error("a group of {bytes} bytes is larger than the {limit} bytes a segment can hold")]
    GroupTooLarge {
        /// Header and records.
        bytes: u64,
        /// What [`crate::Journal::max_group_bytes`] says.
        limit: u64,
    },
    /// Not a size a segment can have.
    #[error(
        "journal segments of {bytes} bytes: must be a multiple of 4096 from {} to {}",
        crate::MIN_SEGMENT_BYTES,
        crate::MAX_SEGMENT_BYTES
    )]
    SegmentBytes {
        /// What [`crate::Options::segment_bytes`] said.
        bytes: u64,
    },
    /// A file with a segment's name is not that segment.
    #[error("damaged segment header in {} at offset 0: {fault}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// Segments before and after it are there, this one is not.
    #[error("segment {sequence} is missing in {}", dir.display())]
    MissingSegment {
        /// The journal's directory.
        dir: PathBuf,
        /// Number of the segment.
        sequence: u64,
    },
    /// A group that was synced once cannot be read any more.
    #[error("hole in {} at offset {offset}: {fault}", path.display())]
    Hole {
        /// The segment.
        path: PathBuf,
        /// Where the group should begin.
        offset: u64,
        /// What is there instead.
        fault: Fault,
    },
    /// The records asked for were trimmed.
    #[error("records after {after} were asked for, the journal begins at {first}")]
    Trimmed {
        /// Position after which to read.
        after: Position,
        /// First position that is still there.
        first: Position,
    },
    /// Trimmed and recycled while it was being read.
    #[error("{} was recycled while it was read", path.display())]
    Recycled {
        /// The segment that was.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// [`Error::Full`] where the system says that there is no space, else [`Error::Io`].
    pub(crate) fn space(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| match source {
            source if is_full(&source) => Error::Full { source },
            source => Error::Io { action, path, source },
        }
    }

    pub(crate) fn sync(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Sync { path, source }
    }
}

/// Whether the system says that there is no space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why bytes are not the group or the segment header they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Fewer bytes than a header has.
    #[error("no room for a header")]
    TooShort,
    /// The magic of a group is not there.
    #[error("no group begins here")]
    NoGroup,
    /// Written by another version.
    #[error("unknown version {0}")]
    Version(u16),
    /// Belongs to another life of the file.
    #[error("another generation of the file")]
    Generation,
    /// Counts more sources than this version knows.
    #[error("counts of {0} sources, more than are known")]
    Sources(u16),
    /// Ends beyond the end of the segment.
    #[error("longer than what is left")]
    Length,
    /// The crc32c does not match.
    #[error("checksum does not match")]
    Checksum,
    /// The records do not fill the group exactly.
    #[error("records do not fill the group")]
    Records,
    /// Positions that no writer writes: zero, beyond 2⁶⁴, or durable before they were written.
    #[error("impossible positions")]
    Positions,
    /// Another position should follow.
    #[error("position {expected} should follow, not {found}")]
    Gap {
        /// First position expected.
        expected: Position,
        /// First position found.
        found: Position,
    },
    /// The hash of the group before is not that of the group before.
    #[error("does not follow the group before it")]
    Chain,
    /// The magic of a segment is not there.
    #[error("not a journal segment")]
    NotASegment,
    /// Another number than the name says.
    #[error("is segment {0}")]
    Sequence(u64),
    /// Another size than the header says.
    #[error("should be {0} bytes long")]
    Size(u64),
    /// Not there between others.
    #[error("the segment is missing")]
    Missing,
}

impl Fault {
    /// Nothing of this generation is here, so nothing need have been lost here.
    pub(crate) fn is_blank(self) -> bool {
        matches!(self, Fault::TooShort | Fault::NoGroup | Fault::Generation)
    }
}
