//! COSEM objects: the class says what an object is, the logical name which one.
//!
//! One module a class. Each has its attributes and methods as enumerations with their numbers, a reader for every
//! attribute (`clock::time(value)?`), all attributes behind one `read`, all parameters of methods behind one `call`,
//! and writes both: a head-end reads attributes and writes parameters, a meter the other way round, by the same types.
//! Lists are proven when they are read and then iterated in place. A value that is not what the class has there gives
//! a [`ValueError`], which names the attribute, the element, and both types.

//! ```
//! # use codec::axdr::{self, Writer};
//! # use codec::cosem::register::{self, ScalerUnit, Unit};
//! // Attribute 3 of a register, as a meter sends it: kilo and watt-hours.
//! let (value, _) = axdr::parse(&[2, 2, 0x0f, 3, 0x16, 30])?;
//! let scale = register::scaler_unit(value)?;
//! assert_eq!((scale.unit, scale.scaled(847, 0)), (Unit::WattHour, Some(847_000)));
//! let mut out = Vec::new();
//! register::AttributeValue::ScalerUnit(ScalerUnit { scaler: 0, ..scale }).write(&mut Writer::new(&mut out));
//! assert_eq!(out, [2, 2, 0x0f, 0, 0x16, 30]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[macro_use]
mod macros;

mod error;
mod wire;

pub mod activity_calendar;
pub mod association;
pub mod clock;
pub mod data;
pub mod demand_register;
pub mod disconnect_control;
pub mod extended_register;
pub mod image_transfer;
pub mod india;
pub mod limiter;
pub mod profile_generic;
pub mod push_setup;
pub mod register;
pub mod sap_assignment;
pub mod script_table;
pub mod security_setup;
pub mod single_action_schedule;

use core::fmt;
use core::str::FromStr;

pub use error::{MAX_PATH, Member, Place, ValueError, ValueErrorKind, type_name};
pub use wire::{Date, Field, List, ListIter, NoData, Number, SecretOctets, Time, Wire};

/// Number of an interface class; whether a meter has objects of it is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u16);

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A logical name: the six value groups A to F of an OBIS code, written `1.0.99.1.0.255`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalName(pub [u8; 6]);

impl LogicalName {
    /// The logical name that an octet-string of exactly 6 bytes carries.
    #[must_use]
    pub fn from_octets(bytes: &[u8]) -> Option<Self> {
        <[u8; 6]>::try_from(bytes).ok().map(Self)
    }
}

impl fmt::Display for LogicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a}.{b}.{c}.{d}.{e}.{last}")
    }
}

/// The text is not six numbers from 0 to 255 with dots between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalNameError;

impl fmt::Display for LogicalNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a logical name is six numbers from 0 to 255 with dots between them")
    }
}

impl core::error::Error for LogicalNameError {}

impl FromStr for LogicalName {
    type Err = LogicalNameError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else: no sign, no space, no leading zero.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut name = [0; 6];
        let mut groups = text.split('.');
        for group in &mut name {
            let digits = groups.next().ok_or(LogicalNameError)?;
            if digits.starts_with('+') || (digits.len() > 1 && digits.starts_with('0')) {
                return Err(LogicalNameError);
            }
            *group = digits.parse().map_err(|_| LogicalNameError)?;
        }
        match groups.next() {
            None => Ok(Self(name)),
            Some(_) => Err(LogicalNameError),
        }
    }
}

#[cfg(test)]
mod shapes;

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_logical_name_is_written_and_read_with_dots() {
        let block_load = LogicalName([1, 0, 99, 1, 0, 255]);
        assert_eq!(block_load.to_string(), "1.0.99.1.0.255");
        assert_eq!("1.0.99.1.0.255".parse(), Ok(block_load));
        assert_eq!(LogicalName::from_octets(&[1, 0, 99, 1, 0, 255]), Some(block_load));
        assert_eq!(LogicalName::from_octets(&[1, 0, 99, 1, 0]), None);
        assert_eq!(ClassId(7).to_string(), "7");
    }

    #[test]
    fn what_is_no_logical_name_is_refused() {
        for text in [
            "",
            "1.0.99.1.0",
            "1.0.99.1.0.255.",
            "1.0.99.1.0.255.1",
            "1.0.99.1.0.256",
            "1.0.99.1.0.-1",
            "1.0.99.1.0.+1",
            "1.0.99.1.0.01",
            "1.0.99.1..255",
            "1.0.99.1.0.255 ",
            "1-0:99.1.0.255",
        ] {
            assert_eq!(text.parse::<LogicalName>(), Err(LogicalNameError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_logical_name_reads_back(bytes: [u8; 6]) {
            let name = LogicalName(bytes);
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }
    }
}
