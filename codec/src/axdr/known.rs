//! Bodies that were checked before: meters of one kind push the same tags and lengths at the same places.

use alloc::vec::Vec;

use super::check::{self, mark_structure};
use super::shape::{Masked, WORD};
use super::{Value, value};
use crate::error::Error;

/// Bodies whose structure is kept, at most one of each length modulo this number.
const KEPT: usize = 8;
/// Longest body whose structure is kept, bytes.
const MAX_LEN: usize = 1024;

/// The structures of bodies that were checked. Bytes that have the same tags, lengths and counts at the same places are as
/// sound, which takes a few comparisons instead of a walk. It allocates when it learns, not when it knows.
#[derive(Debug, Default)]
pub struct Known([Option<Structure>; KEPT]);

#[derive(Debug)]
struct Structure {
    len: usize,
    /// Tags, lengths and counts, word by word.
    words: Vec<Masked>,
    /// The same for the last word of the body, which begins where no other does.
    last: Masked,
}

impl Known {
    /// Nothing known.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { None }; KEPT])
    }

    /// As [`parse`](super::parse): the same values, the same errors.
    ///
    /// # Errors
    /// As [`check`](super::check).
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Result<(Value<'a>, &'a [u8]), Error> {
        let kept = self.0.get_mut(bytes.len() % KEPT);
        if let Some(Some(structure)) = &kept
            && structure.is_that_of(bytes)
        {
            return Ok((value::whole(bytes)?, &[]));
        }
        let (value, rest) = bytes.split_at(check::check(bytes)?);
        if let Some(kept) = kept
            && rest.is_empty()
        {
            *kept = Structure::of(value);
        }
        Ok((value::whole(value)?, rest))
    }
}

impl Structure {
    /// Of bytes that were checked.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut mask = [0; MAX_LEN];
        let mask = mask.get_mut(..bytes.len())?;
        mark_structure(bytes, mask)?;
        let words = mask.as_chunks().0.iter().zip(bytes.as_chunks().0);
        Some(Self {
            len: bytes.len(),
            words: words.map(|(mask, bytes)| Masked::new(*mask, *bytes)).collect(),
            last: Masked::new(*mask.last_chunk()?, *bytes.last_chunk()?),
        })
    }

    #[inline]
    fn is_that_of(&self, bytes: &[u8]) -> bool {
        let Some(last) = bytes.last_chunk::<WORD>() else { return false };
        let words = self.words.iter().zip(bytes.as_chunks().0);
        let differ =
            words.fold(self.last.differ(*last), |differ, (word, bytes)| differ | word.differ(*bytes));
        bytes.len() == self.len && differ == 0
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::axdr::{Writer, parse};

    fn body(numbers: &[u64], compact: bool) -> Vec<u8> {
        let mut bytes = vec![];
        let mut writer = Writer::new(&mut bytes);
        writer.structure(numbers.len() + usize::from(compact));
        if compact {
            writer.compact_array(&[2, 2, 0x11, 0x09], &[1, 2, 9, 9, 3, 1, 9]);
        }
        for &number in numbers {
            match number % 7 {
                0 => writer.u16(number as u16),
                1 => writer.octet_string(&number.to_be_bytes()[..(number >> 8) as usize % 9]),
                2 => writer.structure(2).i8(number as i8).enum_(30),
                3 => writer.array(1).structure(1).u32(number as u32),
                4 => writer.bit_string(
                    (number >> 8) as usize % 17,
                    &[0; 3][..((number >> 8) as usize % 17).div_ceil(8)],
                ),
                5 => writer.u64(number),
                _ => writer.null(),
            };
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_known_parses_as_what_is_not(
            numbers in prop::collection::vec(any::<u64>(), 0..40),
            compact in prop::bool::weighted(0.2),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), -2..3_i8), 0..60),
        ) {
            let mut known = Known::new();
            let sound = body(&numbers, compact);
            prop_assert_eq!(known.parse(&sound), parse(&sound));
            for (at, byte, longer) in changes {
                // One byte changed, by a little or to anything, and a length that may differ, after what is sound.
                let mut bytes = sound.clone();
                let at = at.index(bytes.len());
                bytes[at] = if byte % 2 == 0 { byte } else { bytes[at].wrapping_add(byte % 4) };
                bytes.resize(bytes.len().saturating_add_signed(longer.into()), byte);
                prop_assert_eq!(known.parse(&bytes), parse(&bytes));
                prop_assert_eq!(known.parse(&sound), parse(&sound));
            }
        }
    }

    #[test]
    fn what_was_seen_is_known_whatever_its_values_are() {
        let write = |number: u32, name: [u8; 6]| {
            let mut bytes = vec![];
            Writer::new(&mut bytes).structure(2).octet_string(&name).u32(number);
            bytes
        };
        let structure = Structure::of(&write(1, [0; 6])).unwrap();
        assert!(structure.is_that_of(&write(u32::MAX, [9; 6])));
        let mut other = write(1, [0; 6]);
        *other.get_mut(10).unwrap() = 5;
        assert!(!structure.is_that_of(&other), "a signed number in place of an unsigned one");
        assert!(
            Structure::of(&body(&[], true)).is_none(),
            "rows of a compact array have lengths of their own"
        );
        assert!(Structure::of(&body(&[5; 200], false)).is_none(), "too long to be kept");
    }
}
