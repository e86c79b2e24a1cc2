//! Class 7, Profile Generic: a buffer of rows, each with the values of the capture objects.
//!
//! The order of the columns is the meter's affair: read the capture objects once per model and firmware, and never
//! assume them.

mod rows;
mod select;

use super::{ClassId, Field, List, LogicalName, NoData, ValueError, Wire};
use crate::axdr::{Elements, Value, Writer};

pub use rows::{Cell, Column, Rows};
pub use select::{Bound, EntryDescriptor, RangeDescriptor, Selection};

class! {
    7
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The rows.
        2 Buffer buffer: Buffer<'a>,
        /// The columns.
        3 CaptureObjects capture_objects: List<'a, CaptureObject>,
        /// Seconds from one row to the next; 0 where something else captures.
        4 CapturePeriod capture_period: u32,
        /// The order of the rows.
        5 SortMethod sort_method: SortMethod,
        /// The column that they are sorted by; null, or zeros, where the time decides.
        6 SortObject sort_object: Option<CaptureObject>,
        /// Rows there are.
        7 EntriesInUse entries_in_use: u32,
        /// Rows there can be.
        8 ProfileEntries profile_entries: u32,
    }
    methods {
        /// Empties the buffer.
        1 Reset reset: NoData,
        /// Captures a row now.
        2 Capture capture: NoData,
    }
    calls Call
}

structure! {
    /// A column: an attribute of an object.
    pub struct CaptureObject {
        /// Class of the object.
        pub class: ClassId,
        /// Name of the object.
        pub name: LogicalName,
        /// Number of the attribute; 0 is all of them.
        pub attribute: i8,
        /// Which element of a structured attribute, from 1; 0 is the whole of it.
        pub data_index: u16,
    }
}

impl CaptureObject {
    /// The whole of an attribute.
    #[must_use]
    pub const fn whole(class: ClassId, name: LogicalName, attribute: i8) -> Self {
        Self { class, name, attribute, data_index: 0 }
    }

    /// The time of a clock.
    #[must_use]
    pub const fn clock(name: LogicalName) -> Self {
        Self::whole(super::clock::CLASS, name, 2)
    }
}

codes! {
    /// The order of the rows.
    pub enum SortMethod {
        /// Oldest first.
        Fifo = 1,
        /// Newest first.
        Lifo = 2,
        /// Largest first.
        Largest = 3,
        /// Smallest first.
        Smallest = 4,
        /// Nearest to zero first.
        NearestToZero = 5,
        /// Farthest from zero first.
        FarthestFromZero = 6,
    }
}

/// The rows as they stand in the bytes: an array, or a compact array, of structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer<'a> {
    rows: Elements<'a>,
    field: Field<'a>,
}

impl<'a> Buffer<'a> {
    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as they are, with nulls and deltas.
    #[must_use]
    pub const fn raw(&self) -> Elements<'a> {
        self.rows
    }

    /// The rows with their nulls, deltas and missing clocks made good; `period_s` is the capture period.
    #[must_use]
    pub fn rows(&self, columns: impl IntoIterator<Item = Column>, period_s: u32) -> Rows<'a> {
        Rows::new(self.rows, self.field, columns, period_s)
    }

    /// The rows of a piece of a buffer that came another way, as in a push.
    ///
    /// # Errors
    /// [`ValueError`] when `value` is no array.
    pub fn of(value: Value<'a>) -> Result<Self, ValueError> {
        buffer(value)
    }
}

impl<'a> Wire<'a> for Buffer<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        Ok(Self { rows: field.array()?, field })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        Value::Array(self.rows).write(writer);
    }
}
