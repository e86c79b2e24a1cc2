//! The names of COSEM objects: the class says what an object is, the logical name which one.

use core::fmt;
use core::str::FromStr;

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
