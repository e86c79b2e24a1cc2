//! A-XDR data of DLMS/COSEM: every type, read in place.
//!
//! [`parse`] walks a whole [`Value`] tree once and proves it sound: known tags, lengths and counts inside
//! the bytes, nesting up to [`MAX_DEPTH`], at most [`ELEMENTS_PER_BYTE`] and [`MAX_ELEMENTS`] elements. After that no accessor can
//! fail or panic, so iteration gives values, not results. Nothing allocates and nothing recurses: the
//! check keeps a fixed stack of open containers, and skipping a container only counts what is pending.
//!
//! Floats stay the bits that were on the wire, and scalers are somebody else's work.
//!
//! | tag | type | body |
//! |---|---|---|
//! | 00 | null | – |
//! | 01, 02 | array, structure | count, elements |
//! | 03 | boolean | 1 byte, 00 is false |
//! | 04 | bit-string | number of **bits**, then the bytes that hold them |
//! | 05, 06 | i32, u32 | 4 |
//! | 09, 0A, 0C | octet, visible, UTF-8 string | length, bytes |
//! | 0D | bcd | 1 |
//! | 0F, 10, 14 | i8, i16, i64 | 1, 2, 8 |
//! | 11, 12, 15 | u8, u16, u64 | 1, 2, 8 |
//! | 13 | compact array | type description, length in bytes, rows without tags |
//! | 16 | enum | 1 |
//! | 17, 18 | float32, float64 | 4, 8 |
//! | 19, 1A, 1B | date-time, date, time | 12, 5, 4 |
//! | 1C … 1E, 1F … 21 | delta i8, i16, i32, u8, u16, u32 | 1, 2, 4 |
//! | FF | don't care | – |

mod check;
mod data;
mod date_time;
mod elements;
mod known;
mod shape;
mod value;
mod writer;

pub use check::check;
pub(crate) use check::check_within;
pub use data::Data;
pub use date_time::DateTime;
pub use elements::{Elements, Iter};
pub use known::Known;
pub use shape::Shape;
pub use value::{BitString, Value};
pub use writer::Writer;

use crate::error::Error;

/// Containers open at once, the outermost included.
pub const MAX_DEPTH: usize = 16;

/// Elements in one [`check`]ed value, containers and the types of empty arrays included. More than an
/// APDU of 64 KiB can hold, unless a compact array blows it up.
pub const MAX_ELEMENTS: usize = 65_536;

/// Most elements of a compact array for each of its bytes: what a short one claims to hold is work for whoever reads it.
/// Tagged elements take a byte each at least, so this is the most for any value.
pub const ELEMENTS_PER_BYTE: usize = 4;

/// Tags of the wire, as in the table of the module's documentation.
pub mod tag {
    #![allow(missing_docs, reason = "the module's table is the documentation")]
    pub const NULL: u8 = 0x00;
    pub const ARRAY: u8 = 0x01;
    pub const STRUCTURE: u8 = 0x02;
    pub const BOOL: u8 = 0x03;
    pub const BIT_STRING: u8 = 0x04;
    pub const I32: u8 = 0x05;
    pub const U32: u8 = 0x06;
    pub const OCTET_STRING: u8 = 0x09;
    pub const VISIBLE_STRING: u8 = 0x0a;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const BCD: u8 = 0x0d;
    pub const I8: u8 = 0x0f;
    pub const I16: u8 = 0x10;
    pub const U8: u8 = 0x11;
    pub const U16: u8 = 0x12;
    pub const COMPACT_ARRAY: u8 = 0x13;
    pub const I64: u8 = 0x14;
    pub const U64: u8 = 0x15;
    pub const ENUM: u8 = 0x16;
    pub const F32: u8 = 0x17;
    pub const F64: u8 = 0x18;
    pub const DATE_TIME: u8 = 0x19;
    pub const DATE: u8 = 0x1a;
    pub const TIME: u8 = 0x1b;
    pub const DELTA_I8: u8 = 0x1c;
    pub const DELTA_I16: u8 = 0x1d;
    pub const DELTA_I32: u8 = 0x1e;
    pub const DELTA_U8: u8 = 0x1f;
    pub const DELTA_U16: u8 = 0x20;
    pub const DELTA_U32: u8 = 0x21;
    pub const DONT_CARE: u8 = 0xff;
}

/// Checks the value at the start of `bytes` and gives it with the bytes behind it.
///
/// # Errors
/// As [`check`].
pub fn parse(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), Error> {
    let (value, rest) = bytes.split_at(check(bytes)?);
    Ok((value::whole(value)?, rest))
}

#[cfg(test)]
mod tests;
