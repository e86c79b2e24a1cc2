//! The lists of with-list services.

use alloc::vec::Vec;
use core::fmt;
use core::iter::FusedIterator;

use super::field::{Field, Reader};
use crate::axdr::Data;
use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};

/// A list in an APDU: the bytes it was received in, checked whole, or a slice that is to be sent.
///
/// Iterating allocates nothing and cannot fail. Two lists are equal when their elements are.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Source<'a, T>);

#[derive(Clone, Copy)]
enum Source<'a, T> {
    /// So many elements, encoded.
    Encoded(usize, &'a [u8]),
    Slice(&'a [T]),
}

impl<T> List<'_, T> {
    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match &self.0 {
            Source::Encoded(count, _) => *count,
            Source::Slice(elements) => elements.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T> List<'a, T> {
    /// A list to be sent.
    #[must_use]
    pub const fn new(elements: &'a [T]) -> Self {
        Self(Source::Slice(elements))
    }

    /// The elements in order.
    #[must_use]
    pub const fn iter(&self) -> ListIter<'a, T> {
        ListIter(match self.0 {
            Source::Encoded(count, bytes) => Rest::Encoded(count, Reader::new(Cursor::new(bytes))),
            Source::Slice(elements) => Rest::Slice(elements),
        })
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(elements: &'a [T]) -> Self {
        Self::new(elements)
    }
}

impl<'a, T: Field<'a>> Field<'a> for List<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let count = reader.count()?;
        let start = reader.cursor();
        for _ in 0..count {
            reader.field::<T>()?;
        }
        Ok(Self(Source::Encoded(count, reader.cursor().since(&start))))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.len(), out);
        match self.0 {
            Source::Encoded(_, bytes) => out.extend_from_slice(bytes),
            Source::Slice(elements) => elements.iter().for_each(|element| element.write(out)),
        }
    }
}

impl<'a, T> PartialEq for List<'a, T>
where
    ListIter<'a, T>: Iterator<Item = T>,
    T: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T> Eq for List<'a, T>
where
    ListIter<'a, T>: Iterator<Item = T>,
    T: Eq,
{
}

impl<'a, T> fmt::Debug for List<'a, T>
where
    ListIter<'a, T>: Iterator<Item = T>,
    T: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T> IntoIterator for List<'a, T>
where
    ListIter<'a, T>: Iterator<Item = T>,
{
    type Item = T;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

/// Gives the elements of a [`List`] one after the other.
#[derive(Clone, Debug)]
pub struct ListIter<'a, T>(Rest<'a, T>);

#[derive(Clone, Debug)]
enum Rest<'a, T> {
    Encoded(usize, Reader<'a>),
    Slice(&'a [T]),
}

impl<'a, T: Field<'a> + Copy> Iterator for ListIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Rest::Encoded(left, reader) => {
                *left = left.checked_sub(1)?;
                let element = reader.field();
                debug_assert!(element.is_ok(), "the list was checked");
                element.ok()
            }
            Rest::Slice(elements) => {
                let (&first, rest) = elements.split_first()?;
                *elements = rest;
                Some(first)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Rest::Encoded(left, _) => *left,
            Rest::Slice(elements) => elements.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Field<'a> + Copy> ExactSizeIterator for ListIter<'a, T> {}
impl<'a, T: Field<'a> + Copy> FusedIterator for ListIter<'a, T> {}

/// Names, each with the value that belongs to it: on the wire two lists of one length.
#[derive(Clone, Copy)]
pub struct Pairs<'a, T> {
    names: List<'a, T>,
    values: List<'a, Data<'a>>,
}

impl<'a, T> Pairs<'a, T> {
    /// Joins two lists, if they are of one length.
    #[must_use]
    pub const fn new(names: List<'a, T>, values: List<'a, Data<'a>>) -> Option<Self> {
        if names.len() == values.len() { Some(Self { names, values }) } else { None }
    }

    /// Number of pairs.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names alone.
    #[must_use]
    pub const fn names(&self) -> &List<'a, T> {
        &self.names
    }

    /// The values alone.
    #[must_use]
    pub const fn values(&self) -> &List<'a, Data<'a>> {
        &self.values
    }

    /// Each name with its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (T, Data<'a>)> + use<'a, T>
    where
        ListIter<'a, T>: Iterator<Item = T>,
    {
        self.names.iter().zip(self.values.iter())
    }
}

impl<'a, T: Field<'a>> Field<'a> for Pairs<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let names = reader.field()?;
        let at = reader.cursor();
        let values: List<'a, Data<'a>> = reader.field()?;
        let mismatch = at.error(ErrorKind::ListMismatch(values.len()));
        Self::new(names, values).ok_or(mismatch)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.names.write(out);
        self.values.write(out);
    }
}

impl<'a, T> PartialEq for Pairs<'a, T>
where
    List<'a, T>: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.values == other.values
    }
}

impl<'a, T> Eq for Pairs<'a, T> where List<'a, T>: Eq {}

impl<'a, T> fmt::Debug for Pairs<'a, T>
where
    List<'a, T>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("names", &self.names).field("values", &self.values).finish()
    }
}
