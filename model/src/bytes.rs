//! Little-endian writing and bounded reading of the records' bytes.

use crate::{CivilDay, Instant, Values};

/// Bytes that are not the record they should be. Every variant says what was being read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside of a field.
    #[error("record ends inside {0}")]
    Truncated(&'static str),
    /// More bytes follow than the record has.
    #[error("{0} bytes follow the end of the record")]
    Trailing(usize),
    /// A record of a kind this version does not know.
    #[error("unknown record kind {0}")]
    UnknownKind(u8),
    /// A known kind in a layout this version does not know.
    #[error("unknown version {version} of record kind {kind:?}")]
    UnknownVersion {
        /// Name of the kind.
        kind: &'static str,
        /// The version found.
        version: u8,
    },
    /// A field holds what it must not.
    #[error("{0} has no such value")]
    Invalid(&'static str),
}

/// Appends little-endian fields to a buffer.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    /// Length as u32, then the bytes.
    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.raw(bytes);
    }
    pub(crate) fn instant(&mut self, instant: Instant) {
        self.i64(instant.0);
    }
    pub(crate) fn day(&mut self, day: CivilDay) {
        self.raw(&day.0.to_le_bytes());
    }
    /// Presence byte, then the value.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
    pub(crate) fn values(&mut self, values: &Values) {
        self.u64(values.set());
        let (at, values) = (self.0.len(), values.as_slice());
        self.0.resize(at + size_of_val(values), 0);
        for (place, value) in self.0[at..].chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Takes little-endian fields from bytes; the name of the field goes into the error.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn raw(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.0 = tail;
        Ok(head)
    }
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.raw(N, field)?;
        bytes.try_into().map_err(|_| DecodeError::Truncated(field))
    }
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(field)),
        }
    }
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }
    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_le_bytes)
    }
    pub(crate) fn blob(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u32(field)?;
        self.raw(usize::try_from(length).map_err(|_| DecodeError::Invalid(field))?, field)
    }
    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.blob(field)?;
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Invalid(field))
    }
    pub(crate) fn instant(&mut self, field: &'static str) -> Result<Instant, DecodeError> {
        self.i64(field).map(Instant)
    }
    pub(crate) fn day(&mut self, field: &'static str) -> Result<CivilDay, DecodeError> {
        self.array(field).map(i32::from_le_bytes).map(CivilDay)
    }
    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }
    pub(crate) fn values(&mut self, field: &'static str) -> Result<Values, DecodeError> {
        let set = self.u64(field)?;
        let mut values = [0; u64::BITS as usize];
        let values = &mut values[..set.count_ones() as usize];
        for value in values.iter_mut() {
            *value = self.i64(field)?;
        }
        Values::from_parts(set, values).ok_or(DecodeError::Invalid(field))
    }
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}
