//! Long frames of M-Bus (EN 13757) as meters push them: an APDU cut over several.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | start, 0x68 |
//! | 2 | length of what lies between, twice |
//! | 1 | start again |
//! | 1 | control |
//! | 1 | address |
//! | 1 | control information: the number of the frame in its low 4 bits, and a bit on the last one |
//! | 2 | service access points of the sender and of the receiver |
//! | n | a part of the APDU |
//! | 1 | sum of control to data |
//! | 1 | stop, 0x16 |
//!
//! After [`Frame::new_checked`] no accessor can panic.

use alloc::vec::Vec;
use core::fmt;

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Opens a frame.
pub const START: u8 = 0x68;
/// Closes a frame.
pub const STOP: u8 = 0x16;
/// Longest part of an APDU in a frame.
pub const MAX_DATA: usize = u8::MAX as usize - HEAD_LEN;
/// Frames of one APDU, at most: their numbers have 4 bits.
pub const MAX_FRAMES: usize = 16;

/// Control, address, control information, two access points.
const HEAD_LEN: usize = 5;
/// Control information above this is no transport of DLMS.
const MAX_INFORMATION: u8 = 0x1f;
const LAST: u8 = 0x10;
const NUMBER: u8 = 0x0f;

/// A borrowed view of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    repr: FrameRepr,
    data: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with; whatever follows it is left alone (see [`total_len`](Self::total_len)).
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`], [`ErrorKind::MbusDelimiter`], [`ErrorKind::MbusLength`],
    /// [`ErrorKind::MbusSequence`] for control information that is no transport of DLMS,
    /// [`ErrorKind::MbusChecksum`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        delimiter(&mut cursor, START)?;
        let [length, again] = *cursor.array()?;
        if length != again || usize::from(length) < HEAD_LEN {
            return Err(Error::new(ErrorKind::MbusLength(again), 2));
        }
        delimiter(&mut cursor, START)?;
        let mut inside = cursor.split(usize::from(length))?;
        let sum = inside.rest().iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        let [control, address] = *inside.array()?;
        let at = inside;
        let information = inside.u8()?;
        let [source, destination] = *inside.array()?;
        if information > MAX_INFORMATION {
            return Err(at.error(ErrorKind::MbusSequence(information)));
        }
        let at = cursor;
        let checksum = cursor.u8()?;
        if checksum != sum {
            return Err(at.error(ErrorKind::MbusChecksum(checksum)));
        }
        delimiter(&mut cursor, STOP)?;
        let (number, last) = (information & NUMBER, information & LAST != 0);
        let repr = FrameRepr { control, address, number, last, source, destination };
        Ok(Self { repr, data: inside.rest() })
    }

    /// What the frame says around its data.
    #[must_use]
    pub const fn head(&self) -> FrameRepr {
        self.repr
    }

    /// A part of the APDU.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Where the data starts in the frame.
    #[must_use]
    pub const fn data_offset(&self) -> usize {
        4 + HEAD_LEN
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.data_offset() + self.data.len() + 2
    }
}

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameRepr { number, source, destination, last, .. } = self.repr;
        write!(f, "m-bus {source} -> {destination} frame {number}, {} bytes", self.data.len())?;
        if last { f.write_str(", last") } else { Ok(()) }
    }
}

fn delimiter(cursor: &mut Cursor<'_>, expected: u8) -> Result<(), Error> {
    let at = *cursor;
    let found = cursor.u8()?;
    if found == expected { Ok(()) } else { Err(at.error(ErrorKind::MbusDelimiter(found))) }
}

/// The head of a frame to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRepr {
    /// Control field; 0x53 in a push.
    pub control: u8,
    /// Address; 0xff is everybody.
    pub address: u8,
    /// Number of the frame, from 0; its low 4 bits count.
    pub number: u8,
    /// No frame of this APDU follows.
    pub last: bool,
    /// Service access point of the sender.
    pub source: u8,
    /// Service access point of the receiver.
    pub destination: u8,
}

impl FrameRepr {
    /// Appends the frame with `data` to `out`.
    ///
    /// # Panics
    /// When `data` is longer than [`MAX_DATA`]; it is the caller's to cut.
    pub fn emit(&self, data: &[u8], out: &mut Vec<u8>) {
        assert!(data.len() <= MAX_DATA, "data of an m-bus frame is at most {MAX_DATA} bytes");
        let length = (HEAD_LEN + data.len()) as u8;
        out.extend_from_slice(&[START, length, length, START]);
        let start = out.len();
        let information = self.number & NUMBER | if self.last { LAST } else { 0 };
        out.extend_from_slice(&[self.control, self.address, information, self.source, self.destination]);
        out.extend_from_slice(data);
        let covered = out.get(start..).unwrap_or_default();
        let sum = covered.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        out.extend_from_slice(&[sum, STOP]);
    }
}

/// Appends `apdu` to `out` as the frames of a push; false, and nothing is written, where it needs more than
/// [`MAX_FRAMES`].
pub fn emit_push(head: FrameRepr, apdu: &[u8], out: &mut Vec<u8>) -> bool {
    let frames = apdu.len().div_ceil(MAX_DATA);
    if frames > MAX_FRAMES {
        return false;
    }
    for (number, data) in (0..).zip(apdu.chunks(MAX_DATA)) {
        let last = usize::from(number) + 1 == frames;
        FrameRepr { number, last, ..head }.emit(data, out);
    }
    true
}

/// Puts the parts of one APDU together in a buffer that the caller owns: at most [`MAX_FRAMES`] of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reassembly {
    /// Frames so far and between whom.
    open: Option<(u8, u8, u8)>,
}

impl Reassembly {
    /// Nothing so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { open: None }
    }

    /// Whether parts are there and more will come.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Appends a frame's part to `out`, which is cleared for the first one. True: the APDU is whole.
    ///
    /// # Errors
    /// [`ErrorKind::MbusSequence`] for a frame that is not the next, or between others; the next frame begins
    /// anew.
    pub fn push(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
        let FrameRepr { number, last, source, destination, .. } = frame.head();
        let expected = match self.open.take() {
            Some((next, from, to)) => next == number && (from, to) == (source, destination),
            None => number == 0,
        };
        if !expected {
            return Err(Error::new(ErrorKind::MbusSequence(number), 6));
        }
        if number == 0 {
            out.clear();
        }
        out.extend_from_slice(frame.data());
        if !last && usize::from(number) + 1 >= MAX_FRAMES {
            return Err(Error::new(ErrorKind::MbusSequence(number), 6));
        }
        if !last {
            self.open = Some((number + 1, source, destination));
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const HEAD: FrameRepr =
        FrameRepr { control: 0x53, address: 0xff, number: 1, last: true, source: 1, destination: 103 };

    fn frame() -> Vec<u8> {
        let mut out = vec![];
        HEAD.emit(&[0x0f, 1, 2], &mut out);
        out
    }

    #[test]
    fn a_frame_is_written_byte_by_byte_and_reads_back() {
        let expected = [0x68, 8, 8, 0x68, 0x53, 0xff, 0x11, 1, 103, 0x0f, 1, 2, 0xdd, 0x16];
        assert_eq!(frame(), expected);
        let frame = Frame::new_checked(&expected).unwrap();
        assert_eq!((frame.head(), frame.data(), frame.total_len()), (HEAD, &[0x0f, 1, 2][..], 14));
        assert_eq!(frame.to_string(), "m-bus 1 -> 103 frame 1, 3 bytes, last");
    }

    #[test]
    fn every_cut_is_truncated_and_every_flipped_bit_is_found() {
        let frame = frame();
        for cut in 0..frame.len() {
            assert_eq!(Frame::new_checked(&frame[..cut]).unwrap_err().kind, ErrorKind::Truncated);
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::new_checked(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn parts_out_of_sequence_are_refused_and_the_next_begins_anew() {
        let mut bytes = vec![];
        assert!(emit_push(HEAD, &[7; 600], &mut bytes));
        let mut frames = vec![];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let frame = Frame::new_checked(rest).unwrap();
            rest = &rest[frame.total_len()..];
            frames.push(frame);
        }
        let (mut reassembly, mut out) = (Reassembly::new(), vec![]);
        assert_eq!(reassembly.push(&frames[0], &mut out), Ok(false));
        let error = Error::new(ErrorKind::MbusSequence(2), 6);
        assert_eq!(reassembly.push(&frames[2], &mut out), Err(error));
        assert!(reassembly.push(&frames[1], &mut out).is_err());
        for (frame, whole) in frames.iter().zip([false, false, true]) {
            assert_eq!(reassembly.push(frame, &mut out), Ok(whole));
        }
        assert_eq!(out, [7; 600]);
        assert!(!reassembly.is_open());
        assert!(!emit_push(HEAD, &[0; 4001], &mut vec![]));
    }

    proptest! {
        #[test]
        fn what_is_cut_is_put_together_again(apdu in prop::collection::vec(any::<u8>(), 1..4000)) {
            let mut bytes = vec![];
            prop_assert!(emit_push(HEAD, &apdu, &mut bytes));
            let (mut reassembly, mut out, mut rest) = (Reassembly::new(), vec![], &bytes[..]);
            while !rest.is_empty() {
                let frame = Frame::new_checked(rest).unwrap();
                rest = &rest[frame.total_len()..];
                prop_assert_eq!(reassembly.push(&frame, &mut out), Ok(rest.is_empty()));
            }
            prop_assert_eq!(out, apdu);
        }

        #[test]
        fn random_frames_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let length = bytes.len() as u8;
            let mut frame = vec![START, length, length, START];
            frame.extend_from_slice(&bytes);
            let _ = Frame::new_checked(&frame);
            let _ = Frame::new_checked(&bytes);
        }
    }
}
