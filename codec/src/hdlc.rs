//! HDLC of IEC 62056-46, frame format type 3: frames with addresses, checks and a link underneath.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | flag, 0x7e |
//! | 2 | format: 0xa, then one bit for "more segments follow" and 11 bits of length (all but the flags) |
//! | 1, 2 or 4 | destination [`Address`] |
//! | 1, 2 or 4 | source [`Address`] |
//! | 1 | [`Control`] |
//! | 2 | check of the header, only if information follows |
//! | n | information; of an APDU the first segment begins with the prefix of the logical link control |
//! | 2 | check of the frame |
//! | 1 | flag, which may open the next frame too |
//!
//! Nothing is stuffed: a flag inside is data, the length says where a frame ends. [`Deframer`] finds frames in
//! a stream, [`Reassembly`] puts segments together, [`Link`] is the data link of either side, [`ClientLine`] and
//! [`ServerLine`] are all links of a connection. After
//! [`Frame::new_checked`] no accessor can panic.

mod address;
mod control;
mod crc;
mod line;
mod link;
mod parameters;
mod reassembly;
mod stream;

use alloc::vec::Vec;
use core::fmt;

pub use address::Address;
pub use control::Control;
pub use crc::check_sequence;
pub use line::{
    ClientEvent, ClientLine, ClientLineOptions, MAX_LINKS, ServerEvent, ServerLine, ServerLineOptions,
};
pub use link::{Closed, Event, Link, LinkError, LinkOptions, Role};
pub use parameters::{DEFAULT_MAX_INFO, MAX_INFO, MAX_WINDOW, Parameters};
pub use reassembly::{Reassembly, ReassemblyError};
pub use stream::{Deframer, MAX_HEAD, Step};

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Opens and closes a frame.
pub const FLAG: u8 = 0x7e;
/// Prefix of an APDU from a client.
pub const LLC_REQUEST: [u8; 3] = [0xe6, 0xe6, 0x00];
/// Prefix of an APDU from a server, and of a push.
pub const LLC_RESPONSE: [u8; 3] = [0xe6, 0xe7, 0x00];
/// Longest frame, both flags included.
pub const MAX_FRAME_LEN: usize = LENGTH as usize + 2;

/// Format, two addresses, control, check.
const MIN_LENGTH: usize = 2 + 2 + 1 + 2;
const CHECK_LEN: usize = 2;
const TYPE_3: u8 = 0xa;
const SEGMENTED: u16 = 0x0800;
const LENGTH: u16 = 0x07ff;

/// Whether more segments follow, and the length, out of the two bytes of a format field.
fn announced(high: u8, low: u8) -> Result<(usize, bool), Error> {
    if high >> 4 != TYPE_3 {
        return Err(Error::new(ErrorKind::HdlcFormat(high), 0));
    }
    let format = u16::from_be_bytes([high, low]);
    Ok((usize::from(format & LENGTH), format & SEGMENTED != 0))
}

/// A borrowed view of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    segmented: bool,
    destination: Address,
    source: Address,
    control: Control,
    information: &'a [u8],
    information_offset: usize,
    total_len: usize,
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, from flag to flag; whatever follows it is left alone (see
    /// [`total_len`](Self::total_len)).
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`], [`ErrorKind::HdlcFlag`], [`ErrorKind::HdlcFormat`], [`ErrorKind::HdlcLength`],
    /// [`ErrorKind::HdlcAddress`], [`ErrorKind::HdlcControl`], [`ErrorKind::HdlcCheck`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        let flag = cursor.u8()?;
        if flag != FLAG {
            return Err(Error::new(ErrorKind::HdlcFlag(flag), 0));
        }
        let [high, low] = *cursor.array()?;
        let (length, _) = announced(high, low).map_err(|error| error.shifted(1))?;
        if length < MIN_LENGTH {
            return Err(Error::new(ErrorKind::HdlcLength(length as u16), 1));
        }
        let Some(inner) = bytes.get(1..length + 2) else {
            return Err(Error::new(ErrorKind::Truncated, bytes.len()));
        };
        Self::between(inner, 1)
    }

    /// The frame in `bytes`, from its format field to its closing flag; they are as many as the field says, and
    /// `offset` is where they begin in what errors speak of.
    fn between(bytes: &'a [u8], offset: usize) -> Result<Self, Error> {
        Self::checked(bytes, offset).map_err(|error| error.shifted(offset))
    }

    fn checked(bytes: &'a [u8], offset: usize) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        let [high, low] = *cursor.array()?;
        let (length, segmented) = announced(high, low)?;
        let mut inside = Cursor::new(bytes).split(length)?;
        let closing = Cursor::new(bytes.get(length..).unwrap_or_default()).u8()?;
        if closing != FLAG {
            return Err(Error::new(ErrorKind::HdlcFlag(closing), length));
        }
        inside.take(2)?;
        let destination = Address::parse(&mut inside)?;
        let source = Address::parse(&mut inside)?;
        let at = inside;
        let byte = inside.u8()?;
        let control = Control::from_byte(byte).ok_or_else(|| at.error(ErrorKind::HdlcControl(byte)))?;
        let header = bytes.get(..inside.position()).unwrap_or_default();
        if inside.remaining() > CHECK_LEN {
            check(header, &mut inside)?;
        }
        let Some(count) = inside.remaining().checked_sub(CHECK_LEN) else {
            return Err(inside.error(ErrorKind::Truncated));
        };
        let information_offset = offset + inside.position();
        let information = inside.take(count)?;
        let covered = bytes.get(..inside.position()).unwrap_or_default();
        check(covered, &mut inside)?;
        let total_len = offset + length + 1;
        Ok(Self { segmented, destination, source, control, information, information_offset, total_len })
    }

    /// More segments of the same information follow.
    #[must_use]
    pub const fn segmented(&self) -> bool {
        self.segmented
    }

    /// The receiver.
    #[must_use]
    pub const fn destination(&self) -> Address {
        self.destination
    }

    /// The sender.
    #[must_use]
    pub const fn source(&self) -> Address {
        self.source
    }

    /// What kind of frame it is.
    #[must_use]
    pub const fn control(&self) -> Control {
        self.control
    }

    /// What it carries.
    #[must_use]
    pub const fn information(&self) -> &'a [u8] {
        self.information
    }

    /// Where the information begins in the bytes that were given.
    #[must_use]
    pub const fn information_offset(&self) -> usize {
        self.information_offset
    }

    /// Bytes of the frame up to its closing flag, which is included.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len
    }
}

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, control, .. } = self;
        write!(f, "hdlc {source} -> {destination} {control}, {} bytes", self.information.len())?;
        if self.segmented { f.write_str(", more follow") } else { Ok(()) }
    }
}

fn check(covered: &[u8], cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let at = *cursor;
    let found = u16::from_le_bytes(*cursor.array()?);
    if found == check_sequence(covered) { Ok(()) } else { Err(at.error(ErrorKind::HdlcCheck(found))) }
}

/// Information without the prefix of the logical link control, which segments and blocks after the first do
/// not have.
#[must_use]
pub fn strip_llc(information: &[u8]) -> &[u8] {
    let stripped = information.strip_prefix(&LLC_RESPONSE);
    stripped.or_else(|| information.strip_prefix(&LLC_REQUEST)).unwrap_or(information)
}

/// The head of a frame to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRepr {
    /// More segments of the same information follow.
    pub segmented: bool,
    /// The receiver.
    pub destination: Address,
    /// The sender.
    pub source: Address,
    /// What kind of frame it is.
    pub control: Control,
}

impl FrameRepr {
    /// What a parsed frame says, without its information.
    #[must_use]
    pub const fn parse(frame: &Frame<'_>) -> Self {
        let Frame { segmented, destination, source, control, .. } = *frame;
        Self { segmented, destination, source, control }
    }

    /// Bytes of the frame without information.
    const fn overhead(&self) -> usize {
        MIN_LENGTH - 2 + self.destination.len() + self.source.len()
    }

    /// Appends the frame with both flags.
    ///
    /// # Panics
    /// When `information` is longer than [`MAX_INFO`], which a frame can hold with any addresses; it is the caller's
    /// to cut.
    pub fn emit(&self, information: &[u8], out: &mut Vec<u8>) {
        out.push(FLAG);
        self.emit_following(information, out);
    }

    /// As [`emit`](Self::emit) without the opening flag: the closing flag of the frame before serves.
    ///
    /// # Panics
    /// As [`emit`](Self::emit).
    pub fn emit_following(&self, information: &[u8], out: &mut Vec<u8>) {
        assert!(
            information.len() <= usize::from(MAX_INFO),
            "information of a frame is at most {MAX_INFO} bytes"
        );
        let header_check = if information.is_empty() { 0 } else { CHECK_LEN };
        let length = (self.overhead() + header_check + information.len()) as u16;
        let start = out.len();
        let format = u16::from(TYPE_3) << 12 | if self.segmented { SEGMENTED } else { 0 } | length;
        out.extend_from_slice(&format.to_be_bytes());
        self.destination.emit(out);
        self.source.emit(out);
        out.push(self.control.to_byte());
        let check = |out: &mut Vec<u8>| {
            let value = check_sequence(out.get(start..).unwrap_or_default());
            out.extend_from_slice(&value.to_le_bytes());
        };
        if !information.is_empty() {
            check(out);
            out.extend_from_slice(information);
        }
        check(out);
        out.push(FLAG);
    }
}

/// Appends `apdu` of a server as frames of unnumbered information: a push, cut into segments of `max_info`
/// bytes (at least one).
pub fn emit_push(destination: Address, source: Address, apdu: &[u8], max_info: u16, out: &mut Vec<u8>) {
    let mut information = Vec::with_capacity(LLC_RESPONSE.len() + apdu.len());
    information.extend_from_slice(&LLC_RESPONSE);
    information.extend_from_slice(apdu);
    emit_unnumbered(destination, source, &information, max_info, out);
}

fn emit_unnumbered(
    destination: Address,
    source: Address,
    information: &[u8],
    max_info: u16,
    out: &mut Vec<u8>,
) {
    let max_info = usize::from(max_info.clamp(1, MAX_INFO));
    let mut segments = information.chunks(max_info).peekable();
    while let Some(segment) = segments.next() {
        let segmented = segments.peek().is_some();
        let control = Control::UnnumberedInformation { poll: true };
        FrameRepr { segmented, destination, source, control }.emit(segment, out);
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    /// A public capture's smallest frame, and one with flags among its information.
    const EMPTY: [u8; 10] = [0x7e, 0xa0, 0x08, 0x01, 0x02, 0x01, 0x10, 0x37, 0x8d, 0x7e];

    fn address() -> impl Strategy<Value = Address> {
        prop_oneof![
            (0..0x80_u8).prop_map(Address::one),
            (0..0x80_u8, 0..0x80_u8).prop_map(|(upper, lower)| Address::two(upper, lower)),
            (0..0x4000_u16, 0..0x4000_u16).prop_map(|(upper, lower)| Address::four(upper, lower)),
        ]
    }

    #[test]
    fn a_frame_without_information_has_one_check() {
        let frame = Frame::new_checked(&EMPTY).unwrap();
        assert_eq!(frame.to_string(), "hdlc 1/0 -> 0 I send 0 receive 0 poll, 0 bytes");
        assert_eq!(frame.total_len(), EMPTY.len());
        let mut out = vec![0xa5; 3];
        FrameRepr::parse(&frame).emit(&[], &mut out);
        assert_eq!(&out[3..], EMPTY);
    }

    #[test]
    fn every_cut_of_a_frame_is_truncated_and_every_flipped_bit_is_found() {
        let mut frame = vec![];
        emit_push(Address::PUBLIC_CLIENT, Address::two(1, 17), &[0x0f, 1, 2, 3], 128, &mut frame);
        for cut in 0..frame.len() {
            let error = Frame::new_checked(&frame[..cut]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Truncated, "cut at {cut}");
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::new_checked(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_fault_is_named_at_its_byte() {
        let with = |at: usize, byte: u8| {
            let mut bytes = EMPTY;
            bytes[at] = byte;
            Frame::new_checked(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 0), Error::new(ErrorKind::HdlcFlag(0), 0));
        assert_eq!(with(1, 0x90), Error::new(ErrorKind::HdlcFormat(0x90), 1));
        assert_eq!(with(2, 6), Error::new(ErrorKind::HdlcLength(6), 1));
        assert_eq!(with(2, 7), Error::new(ErrorKind::HdlcFlag(0x8d), 8));
        assert_eq!(with(6, 0x07), Error::new(ErrorKind::HdlcControl(0x07), 6));
        assert_eq!(with(7, 0x38), Error::new(ErrorKind::HdlcCheck(0x8d38), 7));
        assert_eq!(with(9, 0), Error::new(ErrorKind::HdlcFlag(0), 9));
    }

    #[test]
    fn a_long_push_is_cut_into_segments_that_say_so() {
        let apdu = [0x0f; 300];
        let mut out = vec![];
        emit_push(Address::PUBLIC_CLIENT, Address::MANAGEMENT, &apdu, 128, &mut out);
        let (mut deframer, mut rest, mut reassembly) = (Deframer::default(), &out[..], Reassembly::new(400));
        let (mut information, mut lengths) = (vec![], vec![]);
        while let Step::Frame { frame, length, .. } = deframer.next(rest) {
            lengths.push(frame.information().len());
            let whole = reassembly.push(&frame, &mut information).unwrap();
            rest = &rest[length..];
            assert_eq!(whole, rest.is_empty());
        }
        assert_eq!(lengths, [128, 128, 47]);
        assert_eq!(strip_llc(&information), apdu);
    }

    #[test]
    fn the_longest_information_fits_with_the_longest_addresses() {
        let address = Address::four(Address::MAX_LONG, Address::MAX_LONG);
        let control = Control::UnnumberedInformation { poll: false };
        let repr = FrameRepr { segmented: true, destination: address, source: address, control };
        let mut out = vec![];
        repr.emit(&[FLAG; MAX_INFO as usize], &mut out);
        assert!(out.len() <= MAX_FRAME_LEN, "{}", out.len());
        let frame = Frame::new_checked(&out).unwrap();
        assert_eq!((FrameRepr::parse(&frame), frame.information().len()), (repr, usize::from(MAX_INFO)));
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(
            segmented: bool,
            destination in address(),
            source in address(),
            control in any::<u8>().prop_filter_map("no control field", Control::from_byte),
            information in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let repr = FrameRepr { segmented, destination, source, control };
            let mut out = vec![0xa5; 2];
            repr.emit(&information, &mut out);
            out.push(0x11);
            let frame = Frame::new_checked(&out[2..]).unwrap();
            prop_assert_eq!(FrameRepr::parse(&frame), repr);
            prop_assert_eq!(frame.information(), &information[..]);
            prop_assert_eq!(frame.total_len(), out.len() - 3);
            let from = frame.information_offset() + 2;
            prop_assert!(information.is_empty() || out[from..].starts_with(&information));
        }

        #[test]
        fn random_frames_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut frame = vec![FLAG, 0xa0, bytes.len() as u8 + 2];
            frame.extend_from_slice(&bytes);
            frame.push(FLAG);
            let _ = Frame::new_checked(&frame);
            let _ = Frame::new_checked(&bytes);
        }
    }
}
