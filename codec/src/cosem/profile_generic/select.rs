//! What to read of a buffer: the parameters of selective access.

use super::super::{Field, List, Member, Place, ValueError, ValueErrorKind, Wire};
use super::{CLASS, CaptureObject};
use crate::axdr::{DateTime, Value, Writer};

/// Rows whose restricting column lies within two values, both included. Selector 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeDescriptor<'a> {
    /// The column that restricts; the clock, or the sequence number of an event log.
    pub restricting: CaptureObject,
    /// The smallest value.
    pub from: Bound<'a>,
    /// The largest value.
    pub to: Bound<'a>,
    /// The columns to give; empty is all.
    pub columns: List<'a, CaptureObject>,
}

/// An end of a range: a value that holds no others, for neither is such a one compared nor may it deepen a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a>(Value<'a>);

impl<'a> Bound<'a> {
    /// `None` where `value` is an array or a structure.
    #[must_use]
    pub const fn of(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Array(_) | Value::Structure(_) | Value::CompactArray(_) => None,
            simple => Some(Self(simple)),
        }
    }

    /// The value as on the wire.
    #[must_use]
    pub const fn value(&self) -> Value<'a> {
        self.0
    }
}

/// A time, as an octet-string of 12 bytes.
impl<'a> From<&'a DateTime> for Bound<'a> {
    fn from(time: &'a DateTime) -> Self {
        Self(Value::OctetString(&time.0))
    }
}

/// The number of an event in its log, and other counts.
impl From<u32> for Bound<'_> {
    fn from(number: u32) -> Self {
        Self(Value::U32(number))
    }
}

/// The code of an event.
impl From<u16> for Bound<'_> {
    fn from(code: u16) -> Self {
        Self(Value::U16(code))
    }
}

impl<'a> Wire<'a> for Bound<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        Self::of(field.value()).ok_or(field.mismatch("simple value"))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

structure! {
    /// Rows and columns by number, all from 1 and included. Selector 2.
    pub struct EntryDescriptor {
        /// First row.
        pub from_entry: u32,
        /// Last row; 0 is the last there is.
        pub to_entry: u32,
        /// First column.
        pub from_column: u16,
        /// Last column; 0 is the last there is.
        pub to_column: u16,
    }
}

impl EntryDescriptor {
    /// The number of its selector.
    pub const SELECTOR: u8 = 2;

    /// All columns of the rows from `from` to `to`.
    #[must_use]
    pub const fn rows(from: u32, to: u32) -> Self {
        Self { from_entry: from, to_entry: to, from_column: 1, to_column: 0 }
    }
}

impl<'a> RangeDescriptor<'a> {
    /// The number of its selector.
    pub const SELECTOR: u8 = 1;

    /// All columns of the rows from `from` to `to` by the clock `clock`. The times go as octet-strings.
    #[must_use]
    pub fn times(clock: CaptureObject, from: &'a DateTime, to: &'a DateTime) -> Self {
        Self { restricting: clock, from: from.into(), to: to.into(), columns: List::new(&[]) }
    }
}

impl<'a> Wire<'a> for RangeDescriptor<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let [restricting, from, to, columns] = field.fields()?;
        Ok(Self {
            restricting: Wire::read(restricting)?,
            from: Wire::read(from)?,
            to: Wire::read(to)?,
            columns: Wire::read(columns)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.structure(4);
        self.restricting.write(writer);
        self.from.write(writer);
        self.to.write(writer);
        self.columns.write(writer);
    }
}

/// What a request selects of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection<'a> {
    /// By value.
    Range(RangeDescriptor<'a>),
    /// By number.
    Entry(EntryDescriptor),
}

impl<'a> Selection<'a> {
    /// The selection of `selector` with `parameter`, as a meter receives it.
    ///
    /// # Errors
    /// [`ValueErrorKind::Range`] for a selector that there is not, else as any value.
    pub fn read(selector: u8, parameter: Value<'a>) -> Result<Self, ValueError> {
        let field = Field::new(parameter, Place::new(CLASS, Member::Selector(selector), "buffer"));
        match selector {
            RangeDescriptor::SELECTOR => Wire::read(field).map(Self::Range),
            EntryDescriptor::SELECTOR => Wire::read(field).map(Self::Entry),
            _ => Err(field.error(ValueErrorKind::Range("a selector of class 7"))),
        }
    }

    /// The number of the selector.
    #[must_use]
    pub const fn selector(&self) -> u8 {
        match self {
            Self::Range(_) => RangeDescriptor::SELECTOR,
            Self::Entry(_) => EntryDescriptor::SELECTOR,
        }
    }

    /// Appends the parameter; the selector goes before it.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Range(range) => range.write(writer),
            Self::Entry(entry) => entry.write(writer),
        }
    }
}
