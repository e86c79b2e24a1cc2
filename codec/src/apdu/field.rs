//! What service APDUs are made of, read and written by one rule each.
//!
//! A field in the wire's terms is a Rust type: an optional one an [`Option`] (presence byte), data or the
//! reason for its lack a [`Result`] (choice byte), a sequence a [`List`](super::List).

use alloc::vec::Vec;

use crate::axdr::{Data, MAX_ELEMENTS, check_within};
use crate::cosem::{ClassId, LogicalName};
use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};

/// Reads the fields of one APDU; all data in it shares one budget of [`MAX_ELEMENTS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    cursor: Cursor<'a>,
    budget: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, budget: MAX_ELEMENTS }
    }

    pub(crate) const fn position(&self) -> usize {
        self.cursor.position()
    }

    pub(crate) fn field<T: Field<'a>>(&mut self) -> Result<T, Error> {
        T::read(self)
    }

    /// The kind of the service and its invoke id, with the error for a kind that is not known.
    pub(super) fn choice(&mut self) -> Result<(u8, Error), Error> {
        let at = self.cursor;
        let choice = self.cursor.u8()?;
        Ok((choice, at.error(ErrorKind::UnknownChoice(choice))))
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        super::finished(&self.cursor)
    }

    /// A count of elements that take at least a byte each.
    pub(crate) fn count(&mut self) -> Result<usize, Error> {
        let at = self.cursor;
        let count = self.cursor.length()?;
        if count > self.cursor.remaining() {
            return Err(at.error(ErrorKind::CountTooLarge(count)));
        }
        Ok(count)
    }

    pub(super) const fn cursor(&self) -> Cursor<'a> {
        self.cursor
    }
}

/// One field.
pub(crate) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error>;

    /// Appends what [`read`](Self::read) reads.
    fn write(&self, out: &mut Vec<u8>);
}

impl Field<'_> for u8 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.u8()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
}

impl Field<'_> for i8 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.array().copied().map(Self::from_be_bytes)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Field<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.u32()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

/// Any byte but 00 is true.
impl Field<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.u8().map(|byte| byte != 0)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// An octet-string: a length, the bytes.
impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let length = reader.cursor.length()?;
        reader.cursor.take(length)
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.len(), out);
        out.extend_from_slice(self);
    }
}

impl Field<'_> for ClassId {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.u16().map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

impl Field<'_> for LogicalName {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.cursor.array().copied().map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl<'a> Field<'a> for Data<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let at = reader.cursor.position();
        let length =
            check_within(reader.cursor.rest(), &mut reader.budget).map_err(|error| error.shifted(at))?;
        reader.cursor.take(length).map(Self::checked)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes());
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let at = reader.cursor;
        match reader.cursor.u8()? {
            0 => Ok(None),
            1 => T::read(reader).map(Some),
            other => Err(at.error(ErrorKind::Presence(other))),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(field) = self {
            field.write(out);
        }
    }
}

impl<'a, T: Field<'a>, E: Field<'a>> Field<'a> for Result<T, E> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let at = reader.cursor;
        match reader.cursor.u8()? {
            0 => T::read(reader).map(Ok),
            1 => E::read(reader).map(Err),
            other => Err(at.error(ErrorKind::UnknownChoice(other))),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_err()));
        match self {
            Ok(field) => field.write(out),
            Err(field) => field.write(out),
        }
    }
}
