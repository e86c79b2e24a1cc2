//! One value as it stands in the bytes.

use super::check::{self, tagged_len, walk_typed};
use super::{DateTime, Elements, MAX_ELEMENTS, tag};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// One A-XDR value, borrowed from the bytes it was read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing; in a profile row "as in the row before".
    Null,
    /// Elements of one kind.
    Array(Elements<'a>),
    /// Elements of any kind.
    Structure(Elements<'a>),
    /// A truth value; any byte but 00 is true.
    Bool(bool),
    /// Bits, first bit first.
    BitString(BitString<'a>),
    /// integer.
    I8(i8),
    /// long.
    I16(i16),
    /// double-long.
    I32(i32),
    /// long64.
    I64(i64),
    /// unsigned.
    U8(u8),
    /// long-unsigned.
    U16(u16),
    /// double-long-unsigned.
    U32(u32),
    /// long64-unsigned.
    U64(u64),
    /// enum.
    Enum(u8),
    /// The bits of an IEEE 754 single.
    F32(u32),
    /// The bits of an IEEE 754 double.
    F64(u64),
    /// Bytes of any meaning; times and logical names usually come so.
    OctetString(&'a [u8]),
    /// ASCII text, not checked to be so.
    VisibleString(&'a [u8]),
    /// UTF-8 text, not checked to be so.
    Utf8String(&'a [u8]),
    /// Two decimal digits.
    Bcd(u8),
    /// A date-time with its own tag.
    DateTime(DateTime),
    /// Year (2), month, day, weekday.
    Date([u8; 5]),
    /// Hour, minute, second, hundredths.
    Time([u8; 4]),
    /// The rows of a compact array.
    CompactArray(Elements<'a>),
    /// To be added to the same column of the row before.
    Delta(i64),
    /// The sender says that it does not matter.
    DontCare,
}

impl Value<'_> {
    /// The date-time in this value: its own tag, or an octet-string of 12 bytes.
    #[must_use]
    pub fn date_time(&self) -> Option<DateTime> {
        match self {
            Self::DateTime(time) => Some(*time),
            Self::OctetString(bytes) => DateTime::from_octets(bytes),
            _ => None,
        }
    }
}

/// A bit-string: bit 0 is the most significant bit of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitString<'a> {
    bits: usize,
    bytes: &'a [u8],
}

impl<'a> BitString<'a> {
    /// Number of bits.
    #[must_use]
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// The bytes that hold the bits; what is behind the last bit means nothing.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bit `index`, or `None` past the end.
    #[must_use]
    pub fn bit(&self, index: usize) -> Option<bool> {
        if index >= self.bits {
            return None;
        }
        let byte = self.bytes.get(index / 8)?;
        Some(byte & (0x80 >> (index % 8)) != 0)
    }
}

/// Reads the tagged value that `bytes` are: its tree was checked and nothing follows.
pub(super) fn whole(bytes: &[u8]) -> Result<Value<'_>, Error> {
    let mut cursor = Cursor::new(bytes);
    let mut inside = cursor;
    match inside.u8()? {
        tag @ (tag::ARRAY | tag::STRUCTURE) => {
            let count = inside.length()?;
            Ok(container(tag, Elements::tagged(count, inside.rest())))
        }
        _ => tagged(&mut cursor, true),
    }
}

/// Reads a tagged value whose tree was checked. `is_last`: nothing follows it in these bytes, so that the end of a container
/// need not be looked for.
#[inline(always)]
pub(super) fn tagged<'a>(cursor: &mut Cursor<'a>, is_last: bool) -> Result<Value<'a>, Error> {
    let at = *cursor;
    match cursor.u8()? {
        tag @ (tag::ARRAY | tag::STRUCTURE) => {
            let count = cursor.length()?;
            let length = if is_last { Some(cursor.remaining()) } else { tagged_len(cursor.rest(), count) };
            let Some(length) = length else {
                return Err(at.error(ErrorKind::Truncated));
            };
            Ok(container(tag, Elements::tagged(count, cursor.take(length)?)))
        }
        tag::COMPACT_ARRAY => {
            let (value, behind) = compact_array(*cursor)?;
            *cursor = behind;
            Ok(value)
        }
        tag => scalar(cursor, tag, at),
    }
}

#[inline(always)]
const fn container(tag: u8, elements: Elements<'_>) -> Value<'_> {
    if tag == tag::ARRAY { Value::Array(elements) } else { Value::Structure(elements) }
}

#[inline(never)]
fn compact_array(mut cursor: Cursor<'_>) -> Result<(Value<'_>, Cursor<'_>), Error> {
    let start = cursor;
    check::skip_type(&mut cursor, &mut { MAX_ELEMENTS })?;
    let types = cursor.since(&start);
    let length = cursor.length()?;
    let contents = cursor.take(length)?;
    let rows = check::count_rows(types, contents)?;
    Ok((Value::CompactArray(Elements::typed(rows, types, true, contents)), cursor))
}

/// Reads a value without tag, whose type is at `types`, and leaves both cursors behind it.
pub(super) fn typed<'a>(types: &mut Cursor<'a>, contents: &mut Cursor<'a>) -> Result<Value<'a>, Error> {
    let start = *contents;
    let mut budget = MAX_ELEMENTS;
    match types.u8()? {
        tag::STRUCTURE => {
            let count = types.length()?;
            let fields = types.rest();
            for _ in 0..count {
                walk_typed(types, contents, &mut budget)?;
            }
            let elements = Elements::typed(count, fields, false, contents.since(&start));
            Ok(Value::Structure(elements))
        }
        tag::ARRAY => {
            let count = usize::from(types.u16()?);
            let element = *types;
            check::skip_type(types, &mut { MAX_ELEMENTS })?;
            for _ in 0..count {
                walk_typed(&mut element.clone(), contents, &mut budget)?;
            }
            let elements = Elements::typed(count, element.rest(), true, contents.since(&start));
            Ok(Value::Array(elements))
        }
        tag => scalar(contents, tag, start),
    }
}

#[inline(always)]
fn scalar<'a>(cursor: &mut Cursor<'a>, tag: u8, at: Cursor<'a>) -> Result<Value<'a>, Error> {
    Ok(match tag {
        tag::NULL => Value::Null,
        tag::BOOL => Value::Bool(cursor.u8()? != 0),
        tag::BIT_STRING => {
            let bits = cursor.length()?;
            let bytes = cursor.take(bits.div_ceil(8))?;
            Value::BitString(BitString { bits, bytes })
        }
        tag::I32 => Value::I32(i32::from_be_bytes(*cursor.array()?)),
        tag::U32 => Value::U32(cursor.u32()?),
        tag::OCTET_STRING => Value::OctetString(string(cursor)?),
        tag::VISIBLE_STRING => Value::VisibleString(string(cursor)?),
        tag::UTF8_STRING => Value::Utf8String(string(cursor)?),
        tag::BCD => Value::Bcd(cursor.u8()?),
        tag::I8 => Value::I8(i8::from_be_bytes(*cursor.array()?)),
        tag::I16 => Value::I16(i16::from_be_bytes(*cursor.array()?)),
        tag::U8 => Value::U8(cursor.u8()?),
        tag::U16 => Value::U16(cursor.u16()?),
        tag::I64 => Value::I64(i64::from_be_bytes(*cursor.array()?)),
        tag::U64 => Value::U64(u64::from_be_bytes(*cursor.array()?)),
        tag::ENUM => Value::Enum(cursor.u8()?),
        tag::F32 => Value::F32(cursor.u32()?),
        tag::F64 => Value::F64(u64::from_be_bytes(*cursor.array()?)),
        tag::DATE_TIME => Value::DateTime(DateTime(*cursor.array()?)),
        tag::DATE => Value::Date(*cursor.array()?),
        tag::TIME => Value::Time(*cursor.array()?),
        tag::DELTA_I8 => Value::Delta(i64::from(i8::from_be_bytes(*cursor.array()?))),
        tag::DELTA_I16 => Value::Delta(i64::from(i16::from_be_bytes(*cursor.array()?))),
        tag::DELTA_I32 => Value::Delta(i64::from(i32::from_be_bytes(*cursor.array()?))),
        tag::DELTA_U8 => Value::Delta(i64::from(cursor.u8()?)),
        tag::DELTA_U16 => Value::Delta(i64::from(cursor.u16()?)),
        tag::DELTA_U32 => Value::Delta(i64::from(cursor.u32()?)),
        tag::DONT_CARE => Value::DontCare,
        unknown => return Err(at.error(ErrorKind::UnknownTag(unknown))),
    })
}

#[inline]
fn string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    let length = cursor.length()?;
    cursor.take(length)
}
