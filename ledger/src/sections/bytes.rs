//! Little-endian fields of a section, written and read back with the section's name in every fault.

use crate::FoldError;

/// Appends fields.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    pub(super) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }
    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }
    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }
    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }
    pub(super) fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }
    pub(super) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }
    pub(super) fn zeros(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, 0);
    }
    /// Length as u32, then the bytes.
    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.raw(text.as_bytes());
    }
    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("tables of a partition are bounded below 2^32"));
    }
}

/// Takes fields off the front.
pub(super) struct Reader<'a> {
    pub(super) section: &'static str,
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn raw(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], FoldError> {
        let (head, tail) = self.bytes.split_at_checked(length).ok_or_else(|| self.malformed(field))?;
        self.bytes = tail;
        Ok(head)
    }
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FoldError> {
        let bytes = self.raw(N, field)?;
        bytes.try_into().map_err(|_| self.malformed(field))
    }
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, FoldError> {
        self.array::<1>(field).map(|[byte]| byte)
    }
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, FoldError> {
        self.array(field).map(u16::from_le_bytes)
    }
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, FoldError> {
        self.array(field).map(u32::from_le_bytes)
    }
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, FoldError> {
        self.array(field).map(u64::from_le_bytes)
    }
    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, FoldError> {
        self.array(field).map(i32::from_le_bytes)
    }
    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, FoldError> {
        self.array(field).map(i64::from_le_bytes)
    }
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, FoldError> {
        let length = self.u32(field)? as usize;
        let bytes = self.raw(length, field)?;
        str::from_utf8(bytes).map_err(|_| self.malformed(field))
    }
    pub(super) fn malformed(&self, field: &'static str) -> FoldError {
        FoldError::Malformed { section: self.section, field }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
