//! The elements of a container, tagged or typed by the description of a compact array.

use core::fmt;
use core::iter::FusedIterator;

use super::{Shape, Value, tag, value};
use crate::cursor::Cursor;
use crate::error::Error;

/// Elements of an array, a structure or a compact array. Iterating cannot fail: the tree was checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Elements<'a> {
    len: usize,
    layout: Layout<'a>,
}

/// Where the types of the elements stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout<'a> {
    /// Before each element.
    Tagged(&'a [u8]),
    /// In a description: one type for all elements (`repeat`) or one for each.
    Typed { types: &'a [u8], repeat: bool, contents: &'a [u8] },
}

impl<'a> Elements<'a> {
    pub(crate) const EMPTY: Self = Self::tagged(0, &[]);

    #[inline]
    pub(super) const fn tagged(len: usize, bytes: &'a [u8]) -> Self {
        Self { len, layout: Layout::Tagged(bytes) }
    }

    pub(super) const fn typed(len: usize, types: &'a [u8], repeat: bool, contents: &'a [u8]) -> Self {
        Self { len, layout: Layout::Typed { types, repeat, contents } }
    }

    /// Number of elements; of a compact array, number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    #[must_use]
    #[inline]
    pub fn iter(&self) -> Iter<'a> {
        let source = match self.layout {
            Layout::Tagged(bytes) => Source::Tagged(Cursor::new(bytes)),
            Layout::Typed { types, repeat, contents } => {
                Source::Typed(Typed { types: Cursor::new(types), repeat, contents: Cursor::new(contents) })
            }
        };
        Iter { left: self.len, source }
    }

    /// Bytes of all elements together, without the count before them.
    pub(crate) const fn encoded_len(&self) -> usize {
        match self.layout {
            Layout::Tagged(bytes) => bytes.len(),
            Layout::Typed { contents, .. } => contents.len(),
        }
    }
}

impl fmt::Debug for Elements<'_> {
    /// How many and how long; the elements themselves are not printed, for they nest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements")
            .field("len", &self.len)
            .field("bytes", &self.encoded_len())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for Elements<'a> {
    type Item = Value<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Elements<'a> {
    type Item = Value<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Gives the elements one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    left: usize,
    source: Source<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Tagged(Cursor<'a>),
    Typed(Typed<'a>),
}

/// Elements without tags, and their types.
#[derive(Clone, Copy, Debug)]
struct Typed<'a> {
    types: Cursor<'a>,
    repeat: bool,
    contents: Cursor<'a>,
}

impl<'a> Typed<'a> {
    #[inline(never)]
    fn next(mut self) -> (Result<Value<'a>, Error>, Self) {
        let first = self.types;
        let value = value::typed(&mut self.types, &mut self.contents);
        if self.repeat {
            self.types = first;
        }
        (value, self)
    }
}

impl<'a> Iter<'a> {
    /// The shape of the element to come, where it is a structure of plain values with tags.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        match &self.source {
            Source::Tagged(cursor) if self.left > 0 => Shape::of(cursor.rest()),
            _ => None,
        }
    }

    /// The bytes of the element to come, where it has this shape; then it is passed.
    #[inline]
    pub fn next_of(&mut self, shape: &Shape) -> Option<&'a [u8]> {
        let Source::Tagged(cursor) = &mut self.source else { return None };
        let left = self.left.checked_sub(1)?;
        let row = shape.row(cursor.rest())?;
        cursor.take(row.len()).ok()?;
        self.left = left;
        Some(row)
    }

    /// The element to come, where it is an integer of at most 32 bits (or an enum) with its tag; then it is passed.
    ///
    /// Nearly all that meters push are such numbers, and this makes no [`Value`] of them on the way.
    #[inline]
    pub fn next_short(&mut self) -> Option<i64> {
        let Source::Tagged(cursor) = &mut self.source else { return None };
        let left = self.left.checked_sub(1)?;
        let (number, length) = match *cursor.rest() {
            [tag::U16, a, b, ..] => (i64::from(u16::from_be_bytes([a, b])), 3),
            [tag::U32, a, b, c, d, ..] => (i64::from(u32::from_be_bytes([a, b, c, d])), 5),
            [tag::U8 | tag::ENUM, a, ..] => (i64::from(a), 2),
            [tag::I8, a, ..] => (i64::from(a.cast_signed()), 2),
            [tag::I16, a, b, ..] => (i64::from(i16::from_be_bytes([a, b])), 3),
            [tag::I32, a, b, c, d, ..] => (i64::from(i32::from_be_bytes([a, b, c, d])), 5),
            _ => return None,
        };
        cursor.take(length).ok()?;
        self.left = left;
        Some(number)
    }

    /// Bytes of the elements given so far.
    pub(crate) const fn consumed(&self) -> usize {
        match &self.source {
            Source::Tagged(cursor) => cursor.position(),
            Source::Typed(typed) => typed.contents.position(),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Value<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = match &mut self.source {
            Source::Tagged(cursor) => value::tagged(cursor, self.left == 0),
            Source::Typed(typed) => {
                let (value, behind) = typed.next();
                *typed = behind;
                value
            }
        };
        debug_assert!(value.is_ok(), "the tree was checked");
        value.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}
