//! Frames over MQTT as one Indian binding cuts them (dlms.md 1.3): a frame in the wrapper goes out in one or several
//! publishes, each with a head of its own. No standard has it.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | length of the frame that is cut, without these heads |
//! | 2 | number of fragments |
//! | 3 | number of this one, from 1 |
//! | 4..6 | id of the frame, which an answer repeats |
//! | 6.. | this part of the frame |
//!
//! All fields are little-endian. After [`Fragment::new_checked`] no accessor can panic.

use alloc::vec::Vec;

use crate::error::{Error, ErrorKind};

/// Bytes of the head.
pub const HEADER_LEN: usize = 6;

/// A borrowed view of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    length: u16,
    count: u8,
    number: u8,
    id: u16,
    part: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragment that these bytes are.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] without a whole head, [`ErrorKind::FragmentNumber`] where its number is not one of its
    /// frame's.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let Some((&[l0, l1, count, number, i0, i1], part)) = bytes.split_first_chunk() else {
            return Err(Error { kind: ErrorKind::Truncated, offset: bytes.len() });
        };
        if number == 0 || number > count {
            return Err(Error { kind: ErrorKind::FragmentNumber(number), offset: 3 });
        }
        let [length, id] = [[l0, l1], [i0, i1]].map(u16::from_le_bytes);
        Ok(Self { length, count, number, id, part })
    }

    /// Id of the frame.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }
}

/// A frame in publishes of at most `most` bytes; `None` where 255 of them, or a length of 65,535, are not enough.
#[must_use]
pub fn cut(id: u16, frame: &[u8], most: usize) -> Option<Vec<Vec<u8>>> {
    let room = most.saturating_sub(HEADER_LEN).max(1);
    let length = u16::try_from(frame.len()).ok()?.to_le_bytes();
    let count = u8::try_from(frame.len().div_ceil(room)).ok()?;
    let fragment = |(number, part): (u8, &[u8])| {
        let mut out = Vec::with_capacity(HEADER_LEN + part.len());
        out.extend_from_slice(&length);
        out.extend_from_slice(&[count, number]);
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(part);
        out
    };
    Some((1..=count).zip(frame.chunks(room)).map(fragment).collect())
}

/// Puts the fragments of one frame together. What it holds is never longer than a frame can be.
#[derive(Debug, Default)]
pub struct Assembly {
    id: u16,
    count: u8,
    got: u8,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Takes the next fragment; gives the frame once it is whole. The first of a frame ends what was open, one that was
    /// had before is passed over, and one that continues nothing, or is too much, ends it too.
    pub fn take(&mut self, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        let Fragment { length, count, number, id, part } = *fragment;
        if number == 1 {
            *self = Self { id, count, got: 0, bytes: Vec::new() };
        }
        let continues = self.got > 0 || number == 1;
        if !continues || (id, count) != (self.id, self.count) {
            *self = Self::default();
            return None;
        }
        if number <= self.got {
            return None;
        }
        if number - 1 != self.got || self.bytes.len() + part.len() > usize::from(length) {
            *self = Self::default();
            return None;
        }
        self.bytes.extend_from_slice(part);
        self.got = number;
        if number < count {
            return None;
        }
        let whole = core::mem::take(self).bytes;
        (whole.len() == usize::from(length)).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn taken(assembly: &mut Assembly, bytes: &[u8]) -> Option<Vec<u8>> {
        assembly.take(&Fragment::new_checked(bytes).unwrap())
    }

    #[test]
    fn a_frame_is_cut_with_little_endian_heads_and_put_together_again() {
        let cuts = cut(0x0102, &[9, 8, 7, 6, 5], HEADER_LEN + 2).unwrap();
        assert_eq!(
            cuts,
            [vec![5, 0, 3, 1, 2, 1, 9, 8], vec![5, 0, 3, 2, 2, 1, 7, 6], vec![5, 0, 3, 3, 2, 1, 5]]
        );
        let mut assembly = Assembly::default();
        assert_eq!(taken(&mut assembly, &cuts[0]), None);
        assert_eq!(taken(&mut assembly, &cuts[1]), None);
        assert_eq!(taken(&mut assembly, &cuts[1]), None, "the same again");
        assert_eq!(taken(&mut assembly, &cuts[2]), Some(vec![9, 8, 7, 6, 5]));
        assert_eq!(taken(&mut assembly, &cuts[2]), None, "it is through");
    }

    #[test]
    fn what_does_not_belong_together_is_nothing() {
        let [one, other] = [1, 2].map(|id| cut(id, &[9, 8, 7, 6, 5], HEADER_LEN + 2).unwrap());
        for wrong in [&other[1], &one[2]] {
            let mut assembly = Assembly::default();
            taken(&mut assembly, &one[0]);
            assert_eq!(taken(&mut assembly, wrong), None);
            assert_eq!(taken(&mut assembly, &one[2]), None);
        }
        // More, or less, than was announced.
        assert_eq!(taken(&mut Assembly::default(), &[1, 0, 1, 1, 0, 0, 7, 7]), None);
        assert_eq!(taken(&mut Assembly::default(), &[3, 0, 1, 1, 0, 0, 7, 7]), None);
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        for (bytes, kind) in [
            (&[1, 0, 1, 1, 0][..], ErrorKind::Truncated),
            (&[1, 0, 1, 0, 0, 0, 7], ErrorKind::FragmentNumber(0)),
            (&[1, 0, 1, 2, 0, 0, 7], ErrorKind::FragmentNumber(2)),
        ] {
            assert_eq!(Fragment::new_checked(bytes).unwrap_err().kind, kind);
        }
        assert_eq!(cut(1, &[0; 256], HEADER_LEN + 1), None);
        assert_eq!(cut(1, &[0; 65_536], 4096), None);
    }
}
