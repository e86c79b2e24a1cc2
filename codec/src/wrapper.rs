//! The wrapper of IEC 62056-47: an 8-byte header before each APDU on TCP and UDP.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | version, always 1 |
//! | 2..4 | source port: of a push, the server's (usually 1) |
//! | 4..6 | destination port: of a push, the client's (16, 48, 64, …) |
//! | 6..8 | length of the APDU, without the header |
//!
//! All fields are big-endian. A peer with a wrong version or an excessive length cannot be
//! synchronised again: close its connection. After [`Wrapper::new_checked`] no accessor can panic.

use alloc::vec::Vec;
use core::fmt;

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The only version there is.
pub const VERSION: u16 = 1;

/// A borrowed view of one whole frame.
///
/// ```
/// # use codec::wrapper::{Wrapper, WrapperRepr};
/// let mut bytes = Vec::new();
/// WrapperRepr { source: 48, destination: 1 }.emit(&[0xc0, 1], &mut bytes);
/// let frame = Wrapper::new_checked(&bytes)?;
/// assert_eq!((frame.source(), frame.destination(), frame.apdu()), (48, 1, &[0xc0, 1][..]));
/// assert!(Wrapper::new_checked(&bytes[..9]).is_err());
/// # Ok::<(), codec::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapper<'a> {
    source: u16,
    destination: u16,
    apdu: &'a [u8],
}

impl<'a> Wrapper<'a> {
    /// The first frame in `bytes`; whatever follows it is left alone (see [`total_len`](Self::total_len)).
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when the frame is not complete, [`ErrorKind::WrapperVersion`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        check_version(&mut cursor)?;
        let source = cursor.u16()?;
        let destination = cursor.u16()?;
        let length = cursor.u16()?;
        let apdu = cursor.take(usize::from(length))?;
        Ok(Self { source, destination, apdu })
    }

    /// Port of the sender.
    #[must_use]
    pub const fn source(&self) -> u16 {
        self.source
    }

    /// Port of the receiver.
    #[must_use]
    pub const fn destination(&self) -> u16 {
        self.destination
    }

    /// The APDU: what follows the header.
    #[must_use]
    pub const fn apdu(&self) -> &'a [u8] {
        self.apdu
    }

    /// Bytes of the whole frame, header included; the next frame of a stream starts there.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.apdu.len()
    }
}

impl fmt::Display for Wrapper<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, length) = (self.source, self.destination, self.apdu.len());
        write!(f, "wrapper {source} -> {destination}, {length} bytes")
    }
}

/// Looks at the start of a stream: `Some` is the length of the frame, header included; `None` says that
/// the header is not complete yet.
///
/// `max_apdu` is the most bytes the receiver takes in one APDU.
///
/// # Errors
/// [`ErrorKind::WrapperVersion`] as soon as two bytes are there, [`ErrorKind::FrameTooLong`].
pub fn frame_len(head: &[u8], max_apdu: usize) -> Result<Option<usize>, Error> {
    if head.len() < 2 {
        return Ok(None);
    }
    check_version(&mut Cursor::new(head))?;
    let Some(&[_, _, _, _, _, _, high, low]) = head.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    if usize::from(length) > max_apdu {
        return Err(Error::new(ErrorKind::FrameTooLong(length), 6));
    }
    Ok(Some(HEADER_LEN + usize::from(length)))
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    match cursor.u16()? {
        VERSION => Ok(()),
        other => Err(Error::new(ErrorKind::WrapperVersion(other), 0)),
    }
}

/// The header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapperRepr {
    /// Port of the sender.
    pub source: u16,
    /// Port of the receiver.
    pub destination: u16,
}

impl WrapperRepr {
    /// What a parsed frame says.
    #[must_use]
    pub const fn parse(frame: &Wrapper<'_>) -> Self {
        Self { source: frame.source, destination: frame.destination }
    }

    /// Appends the header and `apdu` to `out`.
    ///
    /// # Panics
    /// When `apdu` is longer than the 65,535 bytes that the header can say; it is the caller's to cut.
    pub fn emit(&self, apdu: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(apdu.len()).expect("an apdu in a wrapper is at most 65,535 bytes");
        out.reserve(HEADER_LEN + apdu.len());
        for field in [VERSION, self.source, self.destination, length] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(apdu);
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const FRAME: [u8; 11] = [0, 1, 0, 1, 0, 48, 0, 3, 0x0f, 1, 2];

    #[test]
    fn a_frame_shows_its_fields_and_leaves_what_follows() {
        let mut stream = FRAME.to_vec();
        stream.extend_from_slice(&FRAME);
        let frame = Wrapper::new_checked(&stream).unwrap();
        assert_eq!((frame.source(), frame.destination()), (1, 48));
        assert_eq!(frame.apdu(), &[0x0f, 1, 2]);
        assert_eq!(frame.total_len(), FRAME.len());
        assert_eq!(frame.to_string(), "wrapper 1 -> 48, 3 bytes");
    }

    #[test]
    fn every_cut_of_a_frame_is_truncated_and_every_cut_of_a_header_is_unfinished() {
        for cut in 0..FRAME.len() {
            let error = Wrapper::new_checked(&FRAME[..cut]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Truncated, "cut at {cut}");
            let expected = (cut >= HEADER_LEN).then_some(FRAME.len());
            assert_eq!(frame_len(&FRAME[..cut], 3), Ok(expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_version_is_refused_at_the_second_byte() {
        for bytes in [&[0x7e, 0xa0][..], &[0, 2], &[0, 2, 0, 1, 0, 1, 0, 0]] {
            let version = u16::from_be_bytes([bytes[0], bytes[1]]);
            let error = Error::new(ErrorKind::WrapperVersion(version), 0);
            assert_eq!(frame_len(bytes, 100), Err(error));
            assert_eq!(Wrapper::new_checked(bytes), Err(error));
        }
        assert_eq!(frame_len(&[0x7e], 100), Ok(None));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_with_its_offset() {
        let error = Error::new(ErrorKind::FrameTooLong(3), 6);
        assert_eq!(frame_len(&FRAME, 2), Err(error));
        assert_eq!(frame_len(&FRAME, 3), Ok(Some(11)));
    }

    #[test]
    fn emission_writes_every_byte_and_keeps_what_was_there() {
        let mut out = vec![0xa5; 64];
        out.truncate(5);
        WrapperRepr { source: 1, destination: 48 }.emit(&[0x0f, 1, 2], &mut out);
        assert_eq!(&out[..5], &[0xa5; 5]);
        assert_eq!(&out[5..], &FRAME);
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(source: u16, destination: u16, apdu in prop::collection::vec(any::<u8>(), 0..300)) {
            let repr = WrapperRepr { source, destination };
            let mut out = vec![];
            repr.emit(&apdu, &mut out);
            let frame = Wrapper::new_checked(&out).unwrap();
            prop_assert_eq!(WrapperRepr::parse(&frame), repr);
            prop_assert_eq!(frame.apdu(), &apdu[..]);
            prop_assert_eq!(frame_len(&out, apdu.len()), Ok(Some(out.len())));
        }
    }
}
