//! What the rows of a profile buffer have in common: meters write row after row with the same tags and lengths.

use super::tag;
use crate::cursor::{Cursor, count_steps};

/// Longest row that is compared as a whole, bytes.
const MAX_LEN: usize = 128;
/// Most cells of such a row.
const MAX_CELLS: usize = 24;
pub(super) const WORD: usize = size_of::<u64>();
const WORDS: usize = MAX_LEN / WORD;

/// The tags, lengths and count of one structure of plain values, and where they stand. Bytes in which they stand at the
/// same places are a sound structure too, with cells of the same types at the same places; that takes a few comparisons
/// instead of a walk.
#[derive(Clone, Debug)]
pub struct Shape {
    len: usize,
    /// What must be the same, word by word.
    words: [Masked; WORDS],
    /// The same for the last word of the row, which begins where no other does.
    last: Masked,
    cells: usize,
    /// Where each cell's content begins and ends.
    contents: [(u8, u8); MAX_CELLS],
}

/// Bits that are compared, and what they must be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Masked {
    mask: u64,
    bits: u64,
}

impl Masked {
    pub(super) fn new(mask: [u8; WORD], bytes: [u8; WORD]) -> Masked {
        let mask = u64::from_ne_bytes(mask);
        Masked { mask, bits: u64::from_ne_bytes(bytes) & mask }
    }

    /// Bits that are not what they must be.
    #[inline]
    pub(super) const fn differ(self, bytes: [u8; WORD]) -> u64 {
        (u64::from_ne_bytes(bytes) & self.mask) ^ self.bits
    }
}

impl Shape {
    /// The shape of the structure that `bytes` begin with, which need not have been checked; `None` where it is none, is too
    /// long, or holds anything but plain values with lengths of one byte.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Shape> {
        let mut cursor = Cursor::new(bytes);
        let mut mask = [0; MAX_LEN];
        let mut contents = [(0, 0); MAX_CELLS];
        fixed(&mut mask, &mut cursor).filter(|tag| *tag == tag::STRUCTURE)?;
        let cells = usize::from(fixed(&mut mask, &mut cursor)?);
        for content in contents.get_mut(..cells)? {
            let width = match fixed(&mut mask, &mut cursor)? {
                tag::NULL | tag::DONT_CARE => 0,
                tag::I8 | tag::U8 | tag::ENUM | tag::BOOL | tag::BCD | tag::DELTA_I8 | tag::DELTA_U8 => 1,
                tag::I16 | tag::U16 | tag::DELTA_I16 | tag::DELTA_U16 => 2,
                tag::I32 | tag::U32 | tag::F32 | tag::DELTA_I32 | tag::DELTA_U32 => 4,
                tag::I64 | tag::U64 | tag::F64 => 8,
                tag::DATE_TIME => 12,
                tag::OCTET_STRING => {
                    usize::from(fixed(&mut mask, &mut cursor).filter(|length| *length < 0x80)?)
                }
                _ => return None,
            };
            let begin = cursor.position();
            cursor.take(width).ok()?;
            *content = (u8::try_from(begin).ok()?, u8::try_from(cursor.position()).ok()?);
        }
        let len = cursor.position();
        let (row, mask) = (bytes.get(..len)?, mask.get(..len)?);
        let mut words = [Masked::default(); WORDS];
        for (word, (mask, bytes)) in words.iter_mut().zip(mask.as_chunks().0.iter().zip(row.as_chunks().0)) {
            *word = Masked::new(*mask, *bytes);
        }
        let last = Masked::new(*mask.last_chunk()?, *row.last_chunk()?);
        Some(Shape { len, words, last, cells, contents })
    }

    /// Number of cells.
    #[must_use]
    pub const fn cells(&self) -> usize {
        self.cells
    }

    /// Where in a row each cell's content stands, without tag and length.
    pub fn contents(&self) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
        self.contents.iter().take(self.cells).map(|&(begin, end)| usize::from(begin)..usize::from(end))
    }

    /// The row of this shape that `bytes` begin with.
    #[inline]
    #[must_use]
    pub fn row<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let row = bytes.get(..self.len)?;
        count_steps(self.len.div_ceil(WORD));
        let mut differ = self.last.differ(*row.last_chunk()?);
        for (word, bytes) in self.words.iter().zip(row.as_chunks().0) {
            differ |= word.differ(*bytes);
        }
        (differ == 0).then_some(row)
    }
}

/// Takes a byte that all rows of the shape must have there.
fn fixed(mask: &mut [u8; MAX_LEN], cursor: &mut Cursor<'_>) -> Option<u8> {
    *mask.get_mut(cursor.position())? = 0xff;
    cursor.u8().ok()
}
