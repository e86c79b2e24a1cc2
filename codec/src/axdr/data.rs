//! The encoding of one value, known to be sound.

use core::fmt;

use super::{Value, check, value};
use crate::error::{Error, ErrorKind};

/// The bytes of exactly one value, checked: it can be sent as it is, and looked into without a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    /// null-data.
    pub const NULL: Self = Self(&[super::tag::NULL]);

    /// Takes `bytes`, one encoded value and nothing behind it.
    ///
    /// # Errors
    /// As [`check`], and [`ErrorKind::TrailingBytes`] at the byte behind the value.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        match check(bytes)? {
            length if length == bytes.len() => Ok(Self(bytes)),
            length => Err(Error::new(ErrorKind::TrailingBytes, length)),
        }
    }

    /// For bytes that a check has just found to be one value.
    pub(crate) const fn checked(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The encoded value.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// What the bytes say.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        let value = value::whole(self.0);
        debug_assert!(value.is_ok(), "the value was checked");
        value.unwrap_or(Value::DontCare)
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Data").field(&self.value()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_one_value_and_nothing_behind_it() {
        let data = Data::new(&[2, 2, 0x11, 7, 0]).unwrap();
        let Value::Structure(elements) = data.value() else {
            panic!("not a structure");
        };
        assert!(elements.iter().eq([Value::U8(7), Value::Null]));
        assert_eq!(data.bytes(), [2, 2, 0x11, 7, 0]);
        assert_eq!(Data::new(&[0]), Ok(Data::NULL));
        assert_eq!(Data::new(&[0, 0]), Err(Error::new(ErrorKind::TrailingBytes, 1)));
        assert_eq!(Data::new(&[]), Err(Error::new(ErrorKind::Truncated, 0)));
        assert_eq!(Data::new(&[0x77]), Err(Error::new(ErrorKind::UnknownTag(0x77), 0)));
    }
}
