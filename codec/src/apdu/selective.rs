//! Selective access: a selector and what belongs to it, as they stand in the bytes.
//!
//! What they mean depends on the class and the attribute. Those of a profile's buffer are a
//! [`Selection`](crate::cosem::profile_generic::Selection), which [`SelectiveAccess::of_buffer`] reads and
//! [`SelectiveAccess::encode`] writes.

use alloc::vec::Vec;

use super::field::{Field, Reader};
use crate::axdr::{Data, Writer};
use crate::cosem::ValueError;
use crate::cosem::profile_generic::Selection;
use crate::error::Error;

/// A selector with its parameters, as they stand in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectiveAccess<'a> {
    /// How is selected.
    pub selector: u8,
    /// What is selected.
    pub parameters: Data<'a>,
}

impl<'a> SelectiveAccess<'a> {
    /// What it selects of the buffer of a profile.
    ///
    /// # Errors
    /// [`ValueError`] where a profile has no such selector, or it has other parameters.
    pub fn of_buffer(&self) -> Result<Selection<'a>, ValueError> {
        Selection::read(self.selector, self.parameters.value())
    }

    /// The access that asks for `selection`; its parameters take the place of what `buffer` holds.
    pub fn encode(selection: &Selection<'_>, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        selection.write(&mut Writer::new(buffer));
        Self { selector: selection.selector(), parameters: Data::checked(buffer) }
    }
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

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::axdr::DateTime;
    use crate::cosem::profile_generic::{Bound, CaptureObject, EntryDescriptor, RangeDescriptor};
    use crate::cosem::{ClassId, List, LogicalName};

    const CLOCK: CaptureObject = CaptureObject::clock(LogicalName([0, 0, 1, 0, 0, 255]));
    const FROM: DateTime = DateTime::new(2026, 6, 1, 1, 0, 0, 0, 0, 330, 0);
    const TO: DateTime = DateTime::new(2026, 6, 2, 2, 0, 0, 0, 0, 330, 0);

    #[test]
    fn a_range_of_time_is_laid_out_as_profiles_read_it() {
        let columns = [CLOCK];
        let range =
            RangeDescriptor { columns: List::new(&columns), ..RangeDescriptor::times(CLOCK, &FROM, &TO) };
        let mut buffer = vec![0xa5; 3];
        let access = SelectiveAccess::encode(&Selection::Range(range), &mut buffer);
        let clock = "020412000809060000010000ff0f02120000";
        let text = hex::encode(access.parameters.bytes());
        let times = "090c07ea06010100000000014a00090c07ea06020200000000014a00";
        assert_eq!(text, std::format!("0204{clock}{times}0101{clock}"));
        assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
        assert_eq!(access.of_buffer(), Ok(Selection::Range(range)));
    }

    #[test]
    fn what_is_no_selection_is_not_taken_for_one() {
        let (from, to) = (Bound::from(1_u16), Bound::from(9_u16));
        let range = RangeDescriptor { restricting: CLOCK, from, to, columns: List::new(&[]) };
        let mut buffer = vec![];
        let access = SelectiveAccess::encode(&Selection::Range(range), &mut buffer);
        assert!(access.of_buffer().is_ok());
        assert!(SelectiveAccess { selector: 2, ..access }.of_buffer().is_err());
        assert!(SelectiveAccess { selector: 3, ..access }.of_buffer().is_err());
        assert!(SelectiveAccess { parameters: Data::NULL, ..access }.of_buffer().is_err());
        let mut bytes = access.parameters.bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[last] = 1;
        bytes.push(0);
        let parameters = Data::new(&bytes).unwrap();
        assert!(SelectiveAccess { parameters, ..access }.of_buffer().is_err(), "null is no column");
    }

    proptest! {
        #[test]
        fn entries_and_ranges_read_back(
            entries: (u32, u32, u16, u16),
            columns in prop::collection::vec(any::<(u16, [u8; 6], i8, u16)>(), 1..20),
            ends: (u16, u32),
        ) {
            let (from_entry, to_entry, from_column, to_column) = entries;
            let entries = Selection::Entry(EntryDescriptor { from_entry, to_entry, from_column, to_column });
            let mut buffer = vec![0xa5; 64];
            let access = SelectiveAccess::encode(&entries, &mut buffer);
            prop_assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
            prop_assert_eq!(access.of_buffer(), Ok(entries));
            let columns: Vec<CaptureObject> = columns.iter()
                .map(|&(class, name, attribute, data_index)| CaptureObject {
                    class: ClassId(class),
                    name: LogicalName(name),
                    attribute,
                    data_index,
                })
                .collect();
            let range = Selection::Range(RangeDescriptor {
                restricting: columns[0],
                from: ends.0.into(),
                to: ends.1.into(),
                columns: List::new(&columns),
            });
            let access = SelectiveAccess::encode(&range, &mut buffer);
            prop_assert_eq!(Data::new(access.parameters.bytes()), Ok(access.parameters));
            prop_assert_eq!(access.of_buffer(), Ok(range));
        }
    }
}
