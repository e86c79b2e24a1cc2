//! Selective access: the rows of a profile by range or by entry.
//!
//! On the wire it is a selector and data. What they mean depends on the class and the attribute, so the
//! wire form is kept, and [`SelectiveAccess::range`] and [`SelectiveAccess::entries`] read it as a profile
//! buffer does: selector 1 is a range, selector 2 are entries.

use alloc::vec::Vec;

use super::field::{Field, Reader};
use crate::axdr::{Data, DateTime, Elements, Value, Writer};
use crate::cosem::{ClassId, LogicalName};
use crate::error::Error;

/// Selector of a range in a profile buffer.
pub const BY_RANGE: u8 = 1;
/// Selector of entries in a profile buffer.
pub const BY_ENTRY: u8 = 2;

/// A selector with its parameters, as they stand in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectiveAccess<'a> {
    /// How is selected.
    pub selector: u8,
    /// What is selected.
    pub parameters: Data<'a>,
}

impl<'a> SelectiveAccess<'a> {
    /// The range in a profile buffer, if that is what it is.
    #[must_use]
    pub fn range(&self) -> Option<Range<'a>> {
        let (BY_RANGE, Value::Structure(fields)) = (self.selector, self.parameters.value()) else {
            return None;
        };
        let [restricting, from, to, Value::Array(selected)] = exactly(fields)? else {
            return None;
        };
        let restricting = CaptureObject::of(restricting)?;
        let all_known = selected.iter().all(|column| CaptureObject::of(column).is_some());
        all_known.then_some(Range { restricting, from, to, selected })
    }

    /// The entries of a profile buffer, if that is what it is.
    #[must_use]
    pub fn entries(&self) -> Option<EntryRange> {
        let (BY_ENTRY, Value::Structure(fields)) = (self.selector, self.parameters.value()) else {
            return None;
        };
        match exactly(fields)? {
            [
                Value::U32(from_entry),
                Value::U32(to_entry),
                Value::U16(from_column),
                Value::U16(to_column),
            ] => Some(EntryRange { from_entry, to_entry, from_column, to_column }),
            _ => None,
        }
    }
}

/// The elements, if there are so many.
fn exactly<const N: usize>(elements: Elements<'_>) -> Option<[Value<'_>; N]> {
    let mut values = [Value::Null; N];
    let mut iter = elements.iter();
    for value in &mut values {
        *value = iter.next()?;
    }
    iter.next().is_none().then_some(values)
}

impl<'a> Field<'a> for SelectiveAccess<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (selector, parameters) = (reader.field()?, reader.field()?);
        Ok(Self { selector, parameters })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.selector.write(out);
        self.parameters.write(out);
    }
}

/// A column of a profile, or the one that a range restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CaptureObject {
    /// Class of the object.
    pub class: ClassId,
    /// Which object.
    pub instance: LogicalName,
    /// Which attribute.
    pub attribute: i8,
    /// Which element of the attribute, from 1; 0 is the whole.
    pub data_index: u16,
}

impl CaptureObject {
    /// The column that a structure of class, logical name, attribute and data index names.
    #[must_use]
    pub fn of(value: Value<'_>) -> Option<Self> {
        let Value::Structure(fields) = value else {
            return None;
        };
        match exactly(fields)? {
            [
                Value::U16(class),
                Value::OctetString(instance),
                Value::I8(attribute),
                Value::U16(data_index),
            ] => Some(Self {
                class: ClassId(class),
                instance: LogicalName::from_octets(instance)?,
                attribute,
                data_index,
            }),
            _ => None,
        }
    }

    /// Appends the column as such a structure.
    pub fn write(&self, writer: &mut Writer<'_>) {
        writer
            .structure(4)
            .u16(self.class.0)
            .octet_string(&self.instance.0)
            .i8(self.attribute)
            .u16(self.data_index);
    }
}

/// A received range: rows whose restricting column lies from one value to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<'a> {
    restricting: CaptureObject,
    from: Value<'a>,
    to: Value<'a>,
    selected: Elements<'a>,
}

impl<'a> Range<'a> {
    /// The column that is compared.
    #[must_use]
    pub const fn restricting(&self) -> CaptureObject {
        self.restricting
    }

    /// The least value.
    #[must_use]
    pub const fn from(&self) -> Value<'a> {
        self.from
    }

    /// The greatest value.
    #[must_use]
    pub const fn to(&self) -> Value<'a> {
        self.to
    }

    /// The columns that are wanted; none means all.
    pub fn selected(&self) -> impl Iterator<Item = CaptureObject> + use<'a> {
        self.selected.iter().filter_map(CaptureObject::of)
    }
}

/// An end of a range that is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// A time, sent as an octet-string of 12 bytes.
    Time(DateTime),
    /// An unsigned.
    U8(u8),
    /// A long-unsigned, as event codes are.
    U16(u16),
    /// A double-long-unsigned.
    U32(u32),
    /// A long64-unsigned.
    U64(u64),
}

impl Bound {
    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Time(time) => writer.octet_string(&time.0),
            Self::U8(number) => writer.u8(*number),
            Self::U16(number) => writer.u16(*number),
            Self::U32(number) => writer.u32(*number),
            Self::U64(number) => writer.u64(*number),
        };
    }
}

/// A range to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeRepr<'a> {
    /// The column that is compared.
    pub restricting: CaptureObject,
    /// The least value.
    pub from: Bound,
    /// The greatest value.
    pub to: Bound,
    /// The columns that are wanted; none means all.
    pub selected: &'a [CaptureObject],
}

impl RangeRepr<'_> {
    /// The selective access that asks for it; its parameters take the place of what `buffer` holds.
    pub fn encode<'b>(&self, buffer: &'b mut Vec<u8>) -> SelectiveAccess<'b> {
        buffer.clear();
        let mut writer = Writer::new(buffer);
        self.restricting.write(writer.structure(4));
        self.from.write(&mut writer);
        self.to.write(&mut writer);
        writer.array(self.selected.len());
        self.selected.iter().for_each(|column| column.write(&mut writer));
        SelectiveAccess { selector: BY_RANGE, parameters: Data::checked(buffer) }
    }
}

/// Entries of a profile buffer by their numbers, both ends included and counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRange {
    /// The first entry.
    pub from_entry: u32,
    /// The last entry; 0 is the last one there is.
    pub to_entry: u32,
    /// The first column.
    pub from_column: u16,
    /// The last column; 0 is the last one there is.
    pub to_column: u16,
}

impl EntryRange {
    /// The selective access that asks for them; its parameters take the place of what `buffer` holds.
    pub fn encode<'b>(&self, buffer: &'b mut Vec<u8>) -> SelectiveAccess<'b> {
        buffer.clear();
        Writer::new(buffer)
            .structure(4)
            .u32(self.from_entry)
            .u32(self.to_entry)
            .u16(self.from_column)
            .u16(self.to_column);
        SelectiveAccess { selector: BY_ENTRY, parameters: Data::checked(buffer) }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const CLOCK: CaptureObject = CaptureObject {
        class: ClassId(8),
        instance: LogicalName([0, 0, 1, 0, 0, 255]),
        attribute: 2,
        data_index: 0,
    };
    const FROM: DateTime = DateTime::new(2026, 6, 1, 1, 0, 0, 0, 0, 330, 0);
    const TO: DateTime = DateTime::new(2026, 6, 2, 2, 0, 0, 0, 0, 330, 0);

    #[test]
    fn a_range_of_time_is_laid_out_as_profiles_read_it() {
        let repr = RangeRepr {
            restricting: CLOCK,
            from: Bound::Time(FROM),
            to: Bound::Time(TO),
            selected: &[CLOCK],
        };
        let mut buffer = vec![0xa5; 3];
        let access = repr.encode(&mut buffer);
        let clock = "020412000809060000010000ff0f02120000";
        let text = hex::encode(access.parameters.bytes());
        let times = "090c07ea06010100000000014a00090c07ea06020200000000014a00";
        assert_eq!(text, std::format!("0204{clock}{times}0101{clock}"));
        assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
        let range = access.range().unwrap();
        assert_eq!(range.restricting(), CLOCK);
        assert_eq!((range.from().date_time(), range.to().date_time()), (Some(FROM), Some(TO)));
        assert!(range.selected().eq([CLOCK]));
        assert_eq!(access.entries(), None);
    }

    #[test]
    fn what_is_no_range_is_not_taken_for_one() {
        let repr = RangeRepr { restricting: CLOCK, from: Bound::U16(1), to: Bound::U16(9), selected: &[] };
        let mut buffer = vec![];
        let access = repr.encode(&mut buffer);
        assert!(access.range().is_some());
        assert_eq!(SelectiveAccess { selector: 2, ..access }.range(), None);
        assert_eq!(SelectiveAccess { parameters: Data::NULL, ..access }.range(), None);
        let mut bytes = access.parameters.bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[last] = 1;
        bytes.push(0);
        let parameters = Data::new(&bytes).unwrap();
        assert_eq!(SelectiveAccess { parameters, ..access }.range(), None, "null is no column");
    }

    proptest! {
        #[test]
        fn entries_and_ranges_read_back(
            entries: (u32, u32, u16, u16),
            columns in prop::collection::vec(any::<(u16, [u8; 6], i8, u16)>(), 1..20),
            ends: (u64, u32),
        ) {
            let (from_entry, to_entry, from_column, to_column) = entries;
            let entries = EntryRange { from_entry, to_entry, from_column, to_column };
            let mut buffer = vec![0xa5; 64];
            let access = entries.encode(&mut buffer);
            prop_assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
            prop_assert_eq!(access.entries(), Some(entries));
            prop_assert_eq!(access.range(), None);
            let columns: Vec<CaptureObject> = columns.iter()
                .map(|&(class, instance, attribute, data_index)| CaptureObject {
                    class: ClassId(class),
                    instance: LogicalName(instance),
                    attribute,
                    data_index,
                })
                .collect();
            let (from, to) = (Bound::U64(ends.0), Bound::U32(ends.1));
            let repr = RangeRepr { restricting: columns[0], from, to, selected: &columns };
            let access = repr.encode(&mut buffer);
            prop_assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
            let range = access.range().unwrap();
            prop_assert_eq!(range.restricting(), columns[0]);
            prop_assert_eq!((range.from(), range.to()), (Value::U64(ends.0), Value::U32(ends.1)));
            prop_assert!(range.selected().eq(columns.iter().copied()));
        }
    }
}
