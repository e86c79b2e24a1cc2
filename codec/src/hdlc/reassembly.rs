//! Information that was cut into segments.

use alloc::vec::Vec;
use core::fmt;

use super::{Address, Frame};

/// Puts segments together in a buffer that the caller owns.
#[derive(Clone, Copy, Debug)]
pub struct Reassembly {
    max_bytes: usize,
    /// Destination and source of the segments so far, where some are there and more will come.
    between: Option<(Address, Address)>,
}

/// Why a segment does not continue what is there; the segments so far are worth nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReassemblyError {
    /// More bytes than the receiver allows.
    TooLong(usize),
    /// The segment is between other stations than those before it.
    Interleaved,
}

impl fmt::Display for ReassemblyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "{length} bytes of segments are over the limit"),
            Self::Interleaved => f.write_str("a segment between other stations"),
        }
    }
}

impl core::error::Error for ReassemblyError {}

impl Reassembly {
    /// Takes up to `max_bytes` of information.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, between: None }
    }

    /// Whether segments are there and more will come.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.between.is_some()
    }

    /// Forgets the segments so far.
    pub const fn reset(&mut self) {
        self.between = None;
    }

    /// Appends a frame's information to `out`, which is cleared for the first segment. True: it is whole, the
    /// prefix of the logical link control included (see [`strip_llc`](super::strip_llc)).
    ///
    /// # Errors
    /// [`ReassemblyError`]; the next frame begins anew.
    pub fn push(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<bool, ReassemblyError> {
        let between = (frame.destination(), frame.source());
        match self.between.take() {
            Some(before) if before != between => return Err(ReassemblyError::Interleaved),
            Some(_) => {}
            None => out.clear(),
        }
        let length = out.len().saturating_add(frame.information().len());
        if length > self.max_bytes {
            return Err(ReassemblyError::TooLong(length));
        }
        out.extend_from_slice(frame.information());
        if frame.segmented() {
            self.between = Some(between);
        }
        Ok(!frame.segmented())
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::super::{Control, FrameRepr};
    use super::*;

    fn segment(segmented: bool, source: Address, information: &[u8]) -> Vec<u8> {
        let control = Control::UnnumberedInformation { poll: false };
        let repr = FrameRepr { segmented, destination: Address::PUBLIC_CLIENT, source, control };
        let mut out = vec![];
        repr.emit(information, &mut out);
        out
    }

    #[test]
    fn segments_become_one_and_the_next_begins_anew() {
        let (mut reassembly, mut out) = (Reassembly::new(10), vec![0xa5; 3]);
        for (segmented, information, whole) in [
            (true, &b"abc"[..], None),
            (true, b"def", None),
            (false, b"gh", Some(&b"abcdefgh"[..])),
            (false, b"next", Some(b"next")),
        ] {
            let bytes = segment(segmented, Address::MANAGEMENT, information);
            let frame = Frame::new_checked(&bytes).unwrap();
            assert_eq!(reassembly.push(&frame, &mut out), Ok(whole.is_some()));
            assert_eq!(reassembly.is_open(), segmented);
            if let Some(whole) = whole {
                assert_eq!(out, whole);
            }
        }
    }

    #[test]
    fn more_than_the_cap_and_another_sender_are_refused_and_forgotten() {
        let (mut reassembly, mut out) = (Reassembly::new(4), vec![]);
        let first = segment(true, Address::MANAGEMENT, b"abc");
        let first = Frame::new_checked(&first).unwrap();
        assert_eq!(reassembly.push(&first, &mut out), Ok(false));
        assert_eq!(reassembly.push(&first, &mut out), Err(ReassemblyError::TooLong(6)));
        assert!(!reassembly.is_open());
        assert_eq!(reassembly.push(&first, &mut out), Ok(false));
        let other = segment(false, Address::one(2), b"d");
        let other = Frame::new_checked(&other).unwrap();
        assert_eq!(reassembly.push(&other, &mut out), Err(ReassemblyError::Interleaved));
        assert!(!reassembly.is_open());
        assert!(out.len() <= 4);
    }
}
