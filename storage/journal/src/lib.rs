//! The journal of facts: groups of opaque records, appended to segment files and synced before anything is
//! acknowledged. It must never know what a record means, and links no Arrow, no DLMS and no async runtime.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | segment | [`MIN_SEGMENT_BYTES`] to [`MAX_SEGMENT_BYTES`], a multiple of 4096; [`Options::segment_bytes`] |
//! | group | one segment less its header, see [`Journal::max_group_bytes`]; a larger one is [`Error::GroupTooLarge`] |
//! | record | what a group can hold |
//! | segments kept | [`Options::keep`], [`Options::keep_bytes`]; never less than what [`Journal::trim`] was not asked for |
//! | blank files | the reserve and one more |
//! | threads | one at a time, which makes the next segment ahead |
//!
//! # Files
//!
//! | name | what |
//! |---|---|
//! | `00000000000000000001.segment` | part of the journal; the number is dense and rises |
//! | `blank-…` | right size, no content that counts: the reserve, and the next segment's place |
//! | `making-…` | being filled with zeros; removed at the next start |
//!
//! A file is filled with zeros, synced, given a segment header, synced, renamed and its directory synced before the
//! first group goes in, so that an append changes no metadata and a sync costs the same for 4 KB and 4 MB. A trimmed
//! segment becomes a blank file and later, under a new number and a new generation, a segment again.
//!
//! # Bytes
//!
//! All integers are little-endian. A segment begins with 64 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `URJASEG\0` |
//! | 8 | 2 | version, 1 |
//! | 10 | 6 | zero |
//! | 16 | 8 | number of the segment, as in its name |
//! | 24 | 8 | generation: drawn at random when the file became this segment |
//! | 32 | 8 | size of the file |
//! | 40 | 20 | zero |
//! | 60 | 4 | crc32c of the 60 bytes before |
//!
//! Groups follow, each at the next multiple of 8 after the one before; zeros lie between.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `UJGR` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | `s`, number of sources counted below |
//! | 8 | 8 | generation of the segment |
//! | 16 | 8 | first position: that of the first record, or of the next one when there is none |
//! | 24 | 8 | `durable_upto`: every record at or below it was synced before this group was written |
//! | 32 | 4 | count of records |
//! | 36 | 4 | length of all records, bytes |
//! | 40 | 16 | hash of the group before (header and records, BLAKE3, first 16 bytes); zeros in the very first |
//! | 56 | 4 | crc32c of the header without these four bytes, and of the records |
//! | 60 | 4 | zero |
//! | 64 | 24·s | by source: frames received, redelivered, refused, 8 bytes each |
//! | 64 + 24·s | | records: length in 4 bytes, then the bytes |
//!
//! # What the files prove
//!
//! * A group is valid as a whole or not at all, and only with its segment's generation and the hash of the group
//!   before it. The generation cannot be guessed by who sends frames, so bytes inside of a record never pass for a
//!   group, and neither do the old contents of a recycled file.
//! * A bad group that no later group vouches for is a torn tail: it was never acknowledged, and is cut. A bad group
//!   that a later one vouches for is a hole: [`Error::Hole`], nothing is changed and nothing starts.
//! * A group vouches for everything at or below its `durable_upto`. A segment is synced before the next one gets its
//!   first group, and a group without records before any group after it; so the last group of a segment and a group
//!   without records are vouched for by whatever comes after them.
//! * What was synced last is vouched for by nobody until something follows: append an empty group when going idle.
//!
//! One assumption is left: a device writes a sector (512 bytes) whole or not at all. A group may share its first
//! sector with the one before, and writes the other's bytes again unchanged.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod disk;
mod error;
mod group;
mod journal;
mod read;
mod segment;
mod verify;
mod walk;

pub use error::{Error, Fault};
pub use group::{GROUP_HEADER_BYTES, Group, GroupHeader, Records, parse_group};
pub use journal::{Cut, Durable, Journal, Options, Recovery, SegmentInfo};
pub use model::{Position, Source, SourceCounts};
pub use read::{GroupView, Reader, read};
pub use segment::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
pub use verify::{FaultAt, Report, verify, verify_with};
