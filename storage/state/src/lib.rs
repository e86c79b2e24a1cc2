//! Checkpoint files: the whole state at one position, and the lock that makes a data directory one process's own.
//! It must never know what the sections mean, and links no Arrow, no DLMS and no async runtime.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | sections of a checkpoint | [`MAX_SECTIONS`] |
//! | name of a section | [`MAX_NAME_BYTES`] |
//! | checkpoints kept | the newest and the one before it |
//! | memory | [`latest`] holds the whole state, as its caller will; [`inspect`] and [`verify`] 1 MiB |
//!
//! # Files
//!
//! `00000000000000000042.checkpoint` holds the state after position 42. It is written as `….checkpoint.new`, synced,
//! renamed, and its directory synced: a file with the final name is whole, or it is damaged, never unfinished.
//!
//! # Bytes
//!
//! All integers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `URJASTA\0` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | number of sections |
//! | 16 | 8 | position |
//! | 24 | 8 | size of the file |
//! | 32 | 4 | bytes of the table of sections |
//! | 36 | 4 | crc32c of the 36 bytes before and of the table |
//! | 40 | | the table, then the bytes of the sections in its order, nothing between |
//!
//! A section in the table:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | bytes of the section |
//! | 8 | 4 | crc32c of them |
//! | 12 | 4 | bytes of one record |
//! | 16 | 2 | version of the record's layout |
//! | 18 | 2 | bytes of the name |
//! | 20 | | the name, UTF-8 |
//!
//! The first crc32c covers those of the sections, and so the whole file.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod error;
mod layout;
mod lock;

pub use checkpoint::{Checked, Checkpoint, SectionSummary, Summary, inspect, latest, verify, write};
pub use error::{Error, Fault};
pub use layout::{MAX_NAME_BYTES, MAX_SECTIONS};
pub use lock::DirLock;
pub use model::{Position, Section};
