//! A checked read position in a byte slice.

use crate::error::{Error, ErrorKind};

/// Reads big-endian fields; every read is checked and an error names the byte where the field starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline]
    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    #[inline]
    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// What is not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// What was read since `start`.
    #[inline]
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.position).unwrap_or_default()
    }

    /// A cursor over the next `count` bytes with the same offsets; this one moves behind them.
    pub(crate) fn split(&mut self, count: usize) -> Result<Self, Error> {
        let position = self.position;
        self.take(count)?;
        Ok(Self { bytes: self.bytes.get(..self.position).unwrap_or_default(), position })
    }

    pub(crate) const fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.position)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        match self.rest().get(..count) {
            Some(taken) => {
                self.position += count;
                Ok(taken)
            }
            None => Err(self.error(ErrorKind::Truncated)),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        match self.rest().first_chunk::<N>() {
            Some(taken) => {
                self.position += N;
                Ok(taken)
            }
            None => Err(self.error(ErrorKind::Truncated)),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|&[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A length or count of A-XDR: one byte below 0x80, else the number of big-endian bytes that follow (1 to 4).
    #[inline]
    pub(crate) fn length(&mut self) -> Result<usize, Error> {
        let start = *self;
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        self.long_length(first).map_err(|kind| start.error(kind))
    }

    fn long_length(&mut self, first: u8) -> Result<usize, ErrorKind> {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return Err(ErrorKind::LengthForm(first));
        }
        let bytes = self.take(count).map_err(|error| error.kind)?;
        Ok(bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)))
    }
}

/// Appends `length` in the shortest form that [`Cursor::length`] reads.
pub(crate) fn write_length(length: usize, out: &mut alloc::vec::Vec<u8>) {
    if length < 0x80 {
        out.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let used = bytes.get(zeros..).unwrap_or_default();
    out.push(0x80 | used.len() as u8);
    out.extend_from_slice(used);
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_length_form_reads_and_the_others_are_refused() {
        for (bytes, expected) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x81, 0x80], 128),
            (&[0x81, 0x05], 5),
            (&[0x82, 0x01, 0x00], 256),
            (&[0x83, 0x01, 0x00, 0x00], 65_536),
            (&[0x84, 0x01, 0x00, 0x00, 0x00], 16_777_216),
        ] {
            assert_eq!(Cursor::new(bytes).length(), Ok(expected), "{bytes:x?}");
            for cut in 0..bytes.len() {
                let error = Cursor::new(&bytes[..cut]).length().unwrap_err();
                assert_eq!(error, Error::new(ErrorKind::Truncated, 0), "{bytes:x?} cut at {cut}");
            }
        }
        for first in [0x80, 0x85, 0xff] {
            let bytes = [first, 1, 1, 1, 1, 1, 1, 1, 1];
            let error = Cursor::new(&bytes).length().unwrap_err();
            assert_eq!(error, Error::new(ErrorKind::LengthForm(first), 0));
        }
    }

    #[test]
    fn a_written_length_reads_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 16_777_216, u32::MAX as usize] {
            let mut out = Vec::new();
            write_length(length, &mut out);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.length(), Ok(length));
            assert_eq!(cursor.remaining(), 0);
        }
    }

    #[test]
    fn a_split_keeps_offsets_and_cannot_read_past_its_end() {
        let mut outer = Cursor::new(&[1, 2, 3, 4]);
        outer.u8().unwrap();
        let mut inner = outer.split(2).unwrap();
        assert_eq!((inner.u8(), inner.u8()), (Ok(2), Ok(3)));
        assert_eq!(inner.u8(), Err(Error::new(ErrorKind::Truncated, 3)));
        assert_eq!(outer.u8(), Ok(4));
    }
}
