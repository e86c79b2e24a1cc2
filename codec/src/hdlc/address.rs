//! Addresses of HDLC: the lowest bit of each byte is one in the last byte only.

use alloc::vec::Vec;
use core::fmt;

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// An address of 1, 2 or 4 bytes.
///
/// A client has one byte. A server has an upper part (the logical device) and, with 2 and 4 bytes, a lower
/// one (the physical device).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    upper: u16,
    lower: u16,
    length: u8,
}

impl Address {
    /// Largest part of an address of 1 or 2 bytes.
    pub const MAX_SHORT: u8 = 0x7f;
    /// Largest part of an address of 4 bytes.
    pub const MAX_LONG: u16 = 0x3fff;
    /// The public client.
    pub const PUBLIC_CLIENT: Self = Self::one(16);
    /// The management logical device of a server.
    pub const MANAGEMENT: Self = Self::one(1);

    /// One byte: a client, or a server with its upper part only. The low 7 bits count.
    #[must_use]
    pub const fn one(upper: u8) -> Self {
        Self { upper: (upper & Self::MAX_SHORT) as u16, lower: 0, length: 1 }
    }

    /// Two bytes; the low 7 bits of each part count.
    #[must_use]
    pub const fn two(upper: u8, lower: u8) -> Self {
        let (upper, lower) = (upper & Self::MAX_SHORT, lower & Self::MAX_SHORT);
        Self { upper: upper as u16, lower: lower as u16, length: 2 }
    }

    /// Four bytes; the low 14 bits of each part count.
    #[must_use]
    pub const fn four(upper: u16, lower: u16) -> Self {
        Self { upper: upper & Self::MAX_LONG, lower: lower & Self::MAX_LONG, length: 4 }
    }

    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Error> {
        let start = *cursor;
        let mut bytes = [0; 4];
        for (length, byte) in (1..).zip(&mut bytes) {
            *byte = cursor.u8()?;
            if *byte & 1 == 0 {
                continue;
            }
            let [a, b, c, d] = bytes.map(|byte| u16::from(byte >> 1));
            return match length {
                1 => Ok(Self { upper: a, lower: 0, length }),
                2 => Ok(Self { upper: a, lower: b, length }),
                4 => Ok(Self { upper: a << 7 | b, lower: c << 7 | d, length }),
                _ => Err(start.error(ErrorKind::HdlcAddress)),
            };
        }
        Err(start.error(ErrorKind::HdlcAddress))
    }

    /// The logical device of a server, the service access point of a client.
    #[must_use]
    pub const fn upper(&self) -> u16 {
        self.upper
    }

    /// The physical device of a server; 0 where there is none.
    #[must_use]
    pub const fn lower(&self) -> u16 {
        self.lower
    }

    /// Bytes on the line: 1, 2 or 4.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Never: an address has at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let low = |part: u16| ((part & 0x7f) as u8) << 1;
        let high = |part: u16| low(part >> 7);
        match self.length {
            1 => out.push(low(self.upper) | 1),
            2 => out.extend_from_slice(&[low(self.upper), low(self.lower) | 1]),
            _ => out.extend_from_slice(&[
                high(self.upper),
                low(self.upper),
                high(self.lower),
                low(self.lower) | 1,
            ]),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.upper)?;
        if self.length > 1 { write!(f, "/{}", self.lower) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use super::*;

    #[test]
    fn every_form_of_address_is_written_as_it_is_read() {
        for (address, bytes, text) in [
            (Address::MANAGEMENT, &[0x03][..], "1"),
            (Address::PUBLIC_CLIENT, &[0x21], "16"),
            (Address::two(1, 17), &[0x02, 0x23], "1/17"),
            (Address::two(0x67, 0x7f), &[0xce, 0xff], "103/127"),
            (Address::four(1, 0x3fff), &[0x00, 0x02, 0xfe, 0xff], "1/16383"),
            (Address::four(0x1234, 0x0102), &[0x48, 0x68, 0x04, 0x05], "4660/258"),
        ] {
            let mut out = vec![];
            address.emit(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(out.len(), address.len());
            assert_eq!(Address::parse(&mut Cursor::new(bytes)), Ok(address));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn three_bytes_and_more_than_four_are_no_address() {
        for bytes in [&[2, 2, 3][..], &[2, 2, 2, 2, 3]] {
            let error = Address::parse(&mut Cursor::new(bytes)).unwrap_err();
            assert_eq!(error, Error::new(ErrorKind::HdlcAddress, 0));
        }
        let error = Address::parse(&mut Cursor::new(&[2, 2])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated);
    }
}
