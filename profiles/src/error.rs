//! What is wrong with a profile's text.

use std::path::PathBuf;

use crate::MAX_FILES;

/// A fault in a profile, at a line and key of its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {key}: {fault}")]
pub struct Error {
    /// Line of the text, from 1.
    pub line: usize,
    /// The key that is wrong; empty where the text breaks off outside of any.
    pub key: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a directory of profiles: which file, and in it line and key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file or the directory.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no profile.
    #[error("{}: {error}", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and where.
        error: Error,
    },
    /// Another profile has its name.
    #[error("{}: name: there is another profile named {name:?}", file.display())]
    Twice {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// There are more files than profiles can be.
    #[error("{}: more than {MAX_FILES} profiles", directory.display())]
    TooMany {
        /// The directory.
        directory: PathBuf,
    },
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not TOML, an unknown or missing key, or a value of another type; in the words of the TOML reader.
    #[error("{0}")]
    Toml(String),
    /// A variant has to say everything that a profile without `base` says.
    #[error("is missing")]
    Missing,
    /// No built-in profile of that name.
    #[error("no built-in profile named {0:?}")]
    UnknownBase(String),
    /// A name is made of small letters, digits and hyphens.
    #[error("a name is made of small letters, digits and hyphens: {0:?}")]
    Name(String),
    /// There are meters of 1 and of 3 phases.
    #[error("1 or 3 phases, not {0}")]
    Phases(u8),
    /// A capture period divides the day and is at least a minute.
    #[error("{0} s is no capture period: at least 60 s, and it divides the day")]
    Period(u32),
    /// An APDU has room for something.
    #[error("{0} bytes are no APDU: from 64 to 65535")]
    MaxPdu(i64),
    /// Not an OBIS code.
    #[error("an OBIS code is six numbers from 0 to 255 with dots between them: {0:?}")]
    Obis(String),
    /// Neither a channel nor `event_word` nor `ignore`.
    #[error("neither a channel nor event_word nor ignore: {0:?}")]
    Target(String),
    /// A push without columns, or a profile without pushes.
    #[error("is empty")]
    Empty,
    /// A setup, or a target within one push, that is there twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// A power of ten beyond any real meter.
    #[error("a power of ten from -9 to 9, not {0}")]
    Scaler(i8),
    /// The event status word is pushed as kind `event`, and alone.
    #[error("event_word belongs to a push of kind event, which holds nothing else")]
    EventWord,
}
