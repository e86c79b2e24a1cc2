//! The encoder: tagged values, one call each.

use alloc::vec::Vec;

use super::{DateTime, tag};
use crate::cursor::write_length;

/// Appends encoded values. A container is its count, then as many further calls.
///
/// Nothing is checked: a count without its elements makes bytes that [`check`](super::check) refuses.
#[derive(Debug)]
pub struct Writer<'v>(&'v mut Vec<u8>);

impl<'v> Writer<'v> {
    /// Writes behind what `out` holds.
    pub const fn new(out: &'v mut Vec<u8>) -> Self {
        Self(out)
    }

    /// null-data.
    pub fn null(&mut self) -> &mut Self {
        self.fixed(tag::NULL, [])
    }

    /// array of `count` elements, which follow.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.container(tag::ARRAY, count)
    }

    /// structure of `count` elements, which follow.
    pub fn structure(&mut self, count: usize) -> &mut Self {
        self.container(tag::STRUCTURE, count)
    }

    /// compact array: an encoded type description, and the rows without tags.
    pub fn compact_array(&mut self, types: &[u8], contents: &[u8]) -> &mut Self {
        self.0.push(tag::COMPACT_ARRAY);
        self.0.extend_from_slice(types);
        write_length(contents.len(), self.0);
        self.0.extend_from_slice(contents);
        self
    }

    /// boolean; true is written as 01.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.fixed(tag::BOOL, [u8::from(value)])
    }

    /// bit-string of `bits` bits. Of `bytes` as many are written as the bits need, missing ones as zeros.
    pub fn bit_string(&mut self, bits: usize, bytes: &[u8]) -> &mut Self {
        self.container(tag::BIT_STRING, bits);
        let padding = core::iter::repeat(&0);
        self.0.extend(bytes.iter().chain(padding).take(bits.div_ceil(8)));
        self
    }

    /// integer.
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.fixed(tag::I8, value.to_be_bytes())
    }

    /// long.
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.fixed(tag::I16, value.to_be_bytes())
    }

    /// double-long.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.fixed(tag::I32, value.to_be_bytes())
    }

    /// long64.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.fixed(tag::I64, value.to_be_bytes())
    }

    /// unsigned.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.fixed(tag::U8, [value])
    }

    /// long-unsigned.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(tag::U16, value.to_be_bytes())
    }

    /// double-long-unsigned.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(tag::U32, value.to_be_bytes())
    }

    /// long64-unsigned.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(tag::U64, value.to_be_bytes())
    }

    /// enum.
    pub fn enum_(&mut self, value: u8) -> &mut Self {
        self.fixed(tag::ENUM, [value])
    }

    /// float32, as the bits of the number.
    pub fn f32_bits(&mut self, bits: u32) -> &mut Self {
        self.fixed(tag::F32, bits.to_be_bytes())
    }

    /// float64, as the bits of the number.
    pub fn f64_bits(&mut self, bits: u64) -> &mut Self {
        self.fixed(tag::F64, bits.to_be_bytes())
    }

    /// octet-string.
    pub fn octet_string(&mut self, bytes: &[u8]) -> &mut Self {
        self.string(tag::OCTET_STRING, bytes)
    }

    /// visible-string.
    pub fn visible_string(&mut self, bytes: &[u8]) -> &mut Self {
        self.string(tag::VISIBLE_STRING, bytes)
    }

    /// utf8-string.
    pub fn utf8_string(&mut self, bytes: &[u8]) -> &mut Self {
        self.string(tag::UTF8_STRING, bytes)
    }

    /// bcd: two decimal digits in one byte.
    pub fn bcd(&mut self, value: u8) -> &mut Self {
        self.fixed(tag::BCD, [value])
    }

    /// date-time with its own tag. Meters mostly send times as [`octet_string`](Self::octet_string) instead.
    pub fn date_time(&mut self, time: DateTime) -> &mut Self {
        self.fixed(tag::DATE_TIME, time.0)
    }

    /// date.
    pub fn date(&mut self, date: [u8; 5]) -> &mut Self {
        self.fixed(tag::DATE, date)
    }

    /// time.
    pub fn time(&mut self, time: [u8; 4]) -> &mut Self {
        self.fixed(tag::TIME, time)
    }

    /// delta-integer.
    pub fn delta_i8(&mut self, value: i8) -> &mut Self {
        self.fixed(tag::DELTA_I8, value.to_be_bytes())
    }

    /// delta-long.
    pub fn delta_i16(&mut self, value: i16) -> &mut Self {
        self.fixed(tag::DELTA_I16, value.to_be_bytes())
    }

    /// delta-double-long.
    pub fn delta_i32(&mut self, value: i32) -> &mut Self {
        self.fixed(tag::DELTA_I32, value.to_be_bytes())
    }

    /// delta-unsigned.
    pub fn delta_u8(&mut self, value: u8) -> &mut Self {
        self.fixed(tag::DELTA_U8, [value])
    }

    /// delta-long-unsigned.
    pub fn delta_u16(&mut self, value: u16) -> &mut Self {
        self.fixed(tag::DELTA_U16, value.to_be_bytes())
    }

    /// delta-double-long-unsigned.
    pub fn delta_u32(&mut self, value: u32) -> &mut Self {
        self.fixed(tag::DELTA_U32, value.to_be_bytes())
    }

    /// dont-care.
    pub fn dont_care(&mut self) -> &mut Self {
        self.fixed(tag::DONT_CARE, [])
    }

    fn fixed<const N: usize>(&mut self, tag: u8, body: [u8; N]) -> &mut Self {
        self.0.push(tag);
        self.0.extend_from_slice(&body);
        self
    }

    fn container(&mut self, tag: u8, count: usize) -> &mut Self {
        self.0.push(tag);
        write_length(count, self.0);
        self
    }

    fn string(&mut self, tag: u8, bytes: &[u8]) -> &mut Self {
        self.container(tag, bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }
}
