//! What both sides of a link agree on: longest information field and window, in each direction.

use alloc::vec::Vec;

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

const FORMAT: u8 = 0x81;
const GROUP: u8 = 0x80;
const MAX_INFO_TRANSMIT: u8 = 5;
const MAX_INFO_RECEIVE: u8 = 6;
const WINDOW_TRANSMIT: u8 = 7;
const WINDOW_RECEIVE: u8 = 8;

/// Largest window: numbers are counted modulo 8.
pub const MAX_WINDOW: u8 = 7;
/// Information that every station takes, bytes.
pub const DEFAULT_MAX_INFO: u16 = 128;
/// Information that a frame can hold with the longest addresses, bytes.
pub const MAX_INFO: u16 = 2030;

/// The parameters of SNRM and UA, as the sender of the frame sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Longest information field that the sender of the frame sends.
    pub max_info_transmit: u16,
    /// Longest information field that it takes.
    pub max_info_receive: u16,
    /// I frames that it sends before it waits.
    pub window_transmit: u8,
    /// I frames that it takes at once.
    pub window_receive: u8,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_info_transmit: DEFAULT_MAX_INFO,
            max_info_receive: DEFAULT_MAX_INFO,
            window_transmit: 1,
            window_receive: 1,
        }
    }
}

impl Parameters {
    /// Reads the information field of SNRM or UA; what is left out has its default, what is not known is passed
    /// over.
    ///
    /// # Errors
    /// [`ErrorKind::HdlcParameters`] for another format, a value of no or of more than 4 bytes, or one that is
    /// zero or more than a frame or a window can hold.
    pub fn parse(information: &[u8]) -> Result<Self, Error> {
        let mut parameters = Self::default();
        let mut cursor = Cursor::new(information);
        if information.is_empty() {
            return Ok(parameters);
        }
        if *cursor.array()? != [FORMAT, GROUP] {
            return Err(Error::new(ErrorKind::HdlcParameters, 0));
        }
        let length = cursor.u8()?;
        let mut group = cursor.split(usize::from(length))?;
        while group.remaining() > 0 {
            let at = group;
            let wrong = || at.error(ErrorKind::HdlcParameters);
            let id = group.u8()?;
            let length = group.u8()?;
            let bytes = group.take(usize::from(length))?;
            if !(MAX_INFO_TRANSMIT..=WINDOW_RECEIVE).contains(&id) {
                continue;
            }
            if bytes.is_empty() || bytes.len() > 4 {
                return Err(wrong());
            }
            let value = bytes.iter().fold(0_u32, |value, &byte| value << 8 | u32::from(byte));
            let info = || u16::try_from(value).ok().filter(|info| *info > 0).ok_or_else(wrong);
            let window = || {
                let window = u8::try_from(value).ok();
                window.filter(|window| (1..=MAX_WINDOW).contains(window)).ok_or_else(wrong)
            };
            match id {
                MAX_INFO_TRANSMIT => parameters.max_info_transmit = info()?.min(MAX_INFO),
                MAX_INFO_RECEIVE => parameters.max_info_receive = info()?.min(MAX_INFO),
                WINDOW_TRANSMIT => parameters.window_transmit = window()?,
                _ => parameters.window_receive = window()?,
            }
        }
        Ok(parameters)
    }

    /// Appends the information field of SNRM or UA.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FORMAT, GROUP, 0]);
        let group = out.len();
        for (id, info) in
            [(MAX_INFO_TRANSMIT, self.max_info_transmit), (MAX_INFO_RECEIVE, self.max_info_receive)]
        {
            match u8::try_from(info) {
                Ok(info) => out.extend_from_slice(&[id, 1, info]),
                Err(_) => {
                    out.extend_from_slice(&[id, 2]);
                    out.extend_from_slice(&info.to_be_bytes());
                }
            }
        }
        for (id, window) in [(WINDOW_TRANSMIT, self.window_transmit), (WINDOW_RECEIVE, self.window_receive)] {
            out.extend_from_slice(&[id, 4, 0, 0, 0, window]);
        }
        let length = (out.len() - group) as u8;
        if let Some(byte) = out.get_mut(group - 1) {
            *byte = length;
        }
    }

    /// What is agreed on, seen from here, when the other side says `theirs`: nobody sends more than the other
    /// takes.
    #[must_use]
    pub fn agreed(&self, theirs: &Self) -> Self {
        Self {
            max_info_transmit: self.max_info_transmit.min(theirs.max_info_receive),
            max_info_receive: self.max_info_receive.min(theirs.max_info_transmit),
            window_transmit: self.window_transmit.min(theirs.window_receive),
            window_receive: self.window_receive.min(theirs.window_transmit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn parameters_are_written_as_they_are_read() {
        let parameters = Parameters {
            max_info_transmit: 128,
            max_info_receive: 1024,
            window_transmit: 1,
            window_receive: 7,
        };
        let mut out = vec![];
        parameters.emit(&mut out);
        let expected = [0x81, 0x80, 0x13, 5, 1, 128, 6, 2, 4, 0, 7, 4, 0, 0, 0, 1, 8, 4, 0, 0, 0, 7];
        assert_eq!(out, expected);
        assert_eq!(Parameters::parse(&out), Ok(parameters));
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_passed_over() {
        assert_eq!(Parameters::parse(&[]), Ok(Parameters::default()));
        let read = Parameters::parse(&[0x81, 0x80, 6, 9, 1, 1, 6, 1, 60]).unwrap();
        assert_eq!(read, Parameters { max_info_receive: 60, ..Parameters::default() });
    }

    #[test]
    fn a_field_that_makes_no_sense_is_refused_at_its_byte() {
        for (bytes, offset) in [
            (&[0x82, 0x80, 0][..], 0),
            (&[0x81, 0x80, 2, 5, 0], 3),
            (&[0x81, 0x80, 3, 5, 1, 0], 3),
            (&[0x81, 0x80, 7, 5, 5, 0, 0, 0, 0, 1], 3),
            (&[0x81, 0x80, 6, 5, 1, 9, 7, 1, 8], 6),
        ] {
            let error = Parameters::parse(bytes).unwrap_err();
            assert_eq!(error, Error::new(ErrorKind::HdlcParameters, offset), "{bytes:02x?}");
        }
        assert_eq!(Parameters::parse(&[0x81, 0x80, 9, 5]).unwrap_err().kind, ErrorKind::Truncated);
    }

    #[test]
    fn nobody_sends_more_than_the_other_takes() {
        let client = Parameters {
            max_info_transmit: 512,
            max_info_receive: 1024,
            window_transmit: 1,
            window_receive: 7,
        };
        let server = Parameters {
            max_info_transmit: 256,
            max_info_receive: 128,
            window_transmit: 3,
            window_receive: 1,
        };
        let (ours, theirs) = (client.agreed(&server), server.agreed(&client));
        assert_eq!((ours.max_info_transmit, ours.max_info_receive), (128, 256));
        assert_eq!((ours.window_transmit, ours.window_receive), (1, 3));
        assert_eq!((theirs.max_info_transmit, theirs.max_info_receive), (256, 128));
        assert_eq!((theirs.window_transmit, theirs.window_receive), (3, 1));
    }
}
