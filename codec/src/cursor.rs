//! A checked read position in a byte slice.

use crate::error::{Error, ErrorKind};

/// Fields that were read so far, and pieces of eight bytes that were compared: the steps of every parser here.
#[cfg(fuzzing)]
pub(crate) static STEPS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Counts steps where inputs are fuzzed.
#[inline(always)]
pub(crate) fn count_steps(_steps: usize) {
    #[cfg(fuzzing)]
    STEPS.fetch_add(_steps as u64, core::sync::atomic::Ordering::Relaxed);
}

/// Reads big-endian fields; every read is checked and an error names the byte where the field starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// Offset of the end of `rest` in the bytes that the first cursor was made for.
    end: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: bytes.len() }
    }

    #[inline]
    pub(crate) const fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Bytes not read yet.
    #[inline]
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is not read yet.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What this cursor has passed since it was `earlier`.
    #[inline]
    pub(crate) fn since(&self, earlier: &Self) -> &'a [u8] {
        let passed = earlier.rest.len().saturating_sub(self.rest.len());
        earlier.rest.get(..passed).unwrap_or_default()
    }

    /// A cursor over the next `count` bytes with the same offsets; this one moves behind them.
    #[inline]
    pub(crate) fn split(&mut self, count: usize) -> Result<Self, Error> {
        let rest = self.take(count)?;
        Ok(Self { rest, end: self.position() })
    }

    #[inline]
    pub(crate) const fn error(self, kind: ErrorKind) -> Error {
        Error::new(kind, self.position())
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        // What has no bytes is not read.
        count_steps(count.min(1));
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.error(ErrorKind::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        count_steps(1);
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error(ErrorKind::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        count_steps(1);
        let Some((&first, rest)) = self.rest.split_first() else {
            return Err(self.error(ErrorKind::Truncated));
        };
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(*self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(*self.array()?))
    }

    /// A length or count of A-XDR: one byte below 0x80, else the number of big-endian bytes that follow (1 to 4).
    #[inline]
    pub(crate) fn length(&mut self) -> Result<usize, Error> {
        let start = *self;
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        let count = usize::from(first & 0x7f);
        match (long_length(self.rest, count), self.rest.get(count..)) {
            (Some(length), Some(rest)) => {
                self.rest = rest;
                Ok(length)
            }
            _ if (1..=4).contains(&count) => Err(start.error(ErrorKind::Truncated)),
            _ => Err(start.error(ErrorKind::LengthForm(first))),
        }
    }
}

/// Out of line and in registers: long lengths are rare, and the loops that read short ones are hot.
#[inline(never)]
fn long_length(bytes: &[u8], count: usize) -> Option<usize> {
    if !(1..=4).contains(&count) {
        return None;
    }
    let bytes = bytes.get(..count)?;
    Some(bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)))
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
