//! A push that comes in several frames: segments of HDLC, long frames of M-Bus, blocks of a general-block-transfer, or
//! blocks in such frames.
//!
//! What the journal keeps of such a push is its frames one behind the other, each from its first byte to its last, in
//! the order in which they came. So what they make is a function of the bytes that are kept, and can be found out
//! again: [`apdu_of`] is that function, and [`Parts`] says of a stream of frames where a push ends.

use std::borrow::Cow;

use codec::apdu::block_transfer::{Assembly, AssemblyError, Taken};
use codec::apdu::{self, Apdu, GENERAL_BLOCK_TRANSFER};
use codec::hdlc::{self, Address, Control, Deframer, ReassemblyError, Step};
use codec::wrapper::{HEADER_LEN, Wrapper};
use codec::{Error, ErrorKind, mbus};

use crate::received::Framing;

/// The APDU in the bytes of a push, and where it begins in them if it lies there in one piece (else 0).
pub(crate) fn apdu_of(
    bytes: &[u8],
    framing: Framing,
    max_apdu: usize,
) -> Result<(Cow<'_, [u8]>, usize), Error> {
    match framing {
        Framing::Apdu => Ok((Cow::Borrowed(bytes), 0)),
        Framing::Wrapper => {
            let frame = Wrapper::new_checked(bytes)?;
            if !is_block(frame.apdu()) {
                let end = frame.total_len();
                let trailing = Error { kind: ErrorKind::TrailingBytes, offset: end };
                return if end < bytes.len() {
                    Err(trailing)
                } else {
                    Ok((Cow::Borrowed(frame.apdu()), HEADER_LEN))
                };
            }
            in_wrappers(bytes, max_apdu)
        }
        Framing::Hdlc => in_hdlc(bytes, max_apdu),
        Framing::Mbus => in_mbus(bytes, max_apdu),
    }
}

fn in_wrappers(bytes: &[u8], max_apdu: usize) -> Result<(Cow<'static, [u8]>, usize), Error> {
    let mut parts = Parts::new(max_apdu);
    let mut offset = 0;
    while offset < bytes.len() {
        let rest = bytes.get(offset..).unwrap_or_default();
        let frame = Wrapper::new_checked(rest).map_err(|error| shifted(error, offset))?;
        let whole = parts.wrapper(&frame).map_err(|part| part.error(offset))?;
        offset += frame.total_len();
        if whole {
            return parts.finish(bytes.len() - offset, offset);
        }
    }
    Err(parts.unfinished(offset))
}

fn in_hdlc(bytes: &[u8], max_apdu: usize) -> Result<(Cow<'static, [u8]>, usize), Error> {
    let mut parts = Parts::new(max_apdu);
    let (mut deframer, mut offset) = (Deframer::default(), 0);
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match deframer.next(rest) {
            Step::Frame { frame, length, .. } => {
                let whole = parts.hdlc(&frame).map_err(|part| part.error(offset))?;
                offset += length;
                if whole {
                    return parts.finish(bytes.len() - offset, offset);
                }
            }
            Step::Skip { error: Some(error), .. } => return Err(shifted(error, offset)),
            Step::Skip { length, error: None } => offset += length,
            Step::More(_) => return Err(Error { kind: ErrorKind::Truncated, offset: bytes.len() }),
        }
    }
    Err(parts.unfinished(offset))
}

fn in_mbus(bytes: &[u8], max_apdu: usize) -> Result<(Cow<'static, [u8]>, usize), Error> {
    let mut parts = Parts::new(max_apdu);
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let frame = mbus::Frame::new_checked(rest).map_err(|error| shifted(error, offset))?;
        let whole = parts.mbus(&frame).map_err(|part| part.error(offset))?;
        offset += frame.total_len();
        if whole {
            return parts.finish(bytes.len() - offset, offset);
        }
    }
    Err(parts.unfinished(offset))
}

/// Whether an APDU is a block of another.
fn is_block(apdu: &[u8]) -> bool {
    apdu.first() == Some(&GENERAL_BLOCK_TRANSFER)
}

fn shifted(error: Error, by: usize) -> Error {
    Error { kind: error.kind, offset: error.offset + by }
}

/// Between whom the frames of a push go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Ports(u16, u16),
    Stations(Address, Address),
    /// Access points of M-Bus; its frames have no prefix before the APDU.
    Points(u8, u8),
}

/// Why a frame does not continue the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPart {
    /// It is between others, or no part at all while one is awaited.
    Other,
    /// It carries nothing that could be pushed.
    Empty,
    Segment(ReassemblyError),
    Block(AssemblyError),
    Apdu(Error),
}

impl NoPart {
    fn error(self, offset: usize) -> Error {
        match self {
            NoPart::Other | NoPart::Empty | NoPart::Segment(ReassemblyError::Interleaved) => {
                Error { kind: ErrorKind::Segments, offset }
            }
            NoPart::Segment(ReassemblyError::TooLong(length)) => {
                Error { kind: ErrorKind::FrameTooLong(u16::try_from(length).unwrap_or(u16::MAX)), offset }
            }
            NoPart::Block(error) => {
                let kind = match error {
                    AssemblyError::Number(number)
                    | AssemblyError::Conflict(number)
                    | AssemblyError::BehindLast(number)
                    | AssemblyError::TooFarAhead(number) => ErrorKind::Block(number),
                    AssemblyError::TooLong(length) => {
                        ErrorKind::FrameTooLong(u16::try_from(length).unwrap_or(u16::MAX))
                    }
                };
                Error { kind, offset }
            }
            NoPart::Apdu(error) => shifted(error, offset),
        }
    }
}

/// The frames of one push so far, as far as they are needed to tell its end.
#[derive(Debug)]
pub(crate) struct Parts {
    max_apdu: usize,
    between: Option<Between>,
    segments: hdlc::Reassembly,
    long_frames: mbus::Reassembly,
    information: Vec<u8>,
    blocks: Option<Assembly>,
}

impl Parts {
    pub(crate) fn new(max_apdu: usize) -> Parts {
        let segments = hdlc::Reassembly::new(max_apdu.saturating_add(hdlc::LLC_RESPONSE.len()));
        let long_frames = mbus::Reassembly::new();
        Parts { max_apdu, between: None, segments, long_frames, information: Vec::new(), blocks: None }
    }

    /// Takes a frame in the wrapper; true: the push is whole.
    pub(crate) fn wrapper(&mut self, frame: &Wrapper<'_>) -> Result<bool, NoPart> {
        self.same(Between::Ports(frame.source(), frame.destination()))?;
        self.apdu(frame.apdu())
    }

    /// Takes a frame of HDLC; true: the push is whole.
    pub(crate) fn hdlc(&mut self, frame: &hdlc::Frame<'_>) -> Result<bool, NoPart> {
        let carries =
            matches!(frame.control(), Control::UnnumberedInformation { .. } | Control::Information { .. });
        if !carries || frame.information().is_empty() {
            return Err(NoPart::Empty);
        }
        self.same(Between::Stations(frame.destination(), frame.source()))?;
        let mut information = std::mem::take(&mut self.information);
        let pushed = self.segments.push(frame, &mut information).map_err(NoPart::Segment);
        let taken = match pushed {
            Ok(true) => {
                let apdu = hdlc::strip_llc(&information);
                // Only blocks after the first go without the prefix; else these are segments without their beginning.
                if apdu.len() == information.len() && !is_block(apdu) {
                    Err(NoPart::Empty)
                } else {
                    self.apdu(apdu)
                }
            }
            Ok(false) => Ok(false),
            Err(refused) => Err(refused),
        };
        self.information = information;
        taken
    }

    /// Takes a long frame of M-Bus; true: the push is whole.
    pub(crate) fn mbus(&mut self, frame: &mbus::Frame<'_>) -> Result<bool, NoPart> {
        let mbus::FrameRepr { source, destination, number, last, .. } = frame.head();
        if last && number == 0 && frame.data().is_empty() {
            return Err(NoPart::Empty);
        }
        self.same(Between::Points(source, destination))?;
        let mut information = std::mem::take(&mut self.information);
        let before = if self.long_frames.is_open() { information.len() } else { 0 };
        let length = before + frame.data().len();
        let taken = if length > self.max_apdu {
            Err(NoPart::Segment(ReassemblyError::TooLong(length)))
        } else {
            match self.long_frames.push(frame, &mut information) {
                Ok(true) => self.apdu(&information),
                Ok(false) => Ok(false),
                Err(error) => Err(NoPart::Apdu(error)),
            }
        };
        self.information = information;
        taken
    }

    fn same(&mut self, between: Between) -> Result<(), NoPart> {
        match self.between {
            Some(known) if known != between => Err(NoPart::Other),
            _ => {
                self.between = Some(between);
                Ok(())
            }
        }
    }

    fn apdu(&mut self, bytes: &[u8]) -> Result<bool, NoPart> {
        if !is_block(bytes) {
            return match self.blocks {
                Some(_) => Err(NoPart::Other),
                None => Ok(true),
            };
        }
        let block = match apdu::parse(bytes) {
            Ok(Apdu::GeneralBlockTransfer(block)) => block,
            Ok(_) => return Err(NoPart::Other),
            Err(error) => return Err(NoPart::Apdu(error)),
        };
        let blocks = self.blocks.get_or_insert_with(|| Assembly::new(self.max_apdu));
        Ok(blocks.push(&block).map_err(NoPart::Block)? == Taken::Complete)
    }

    fn finish(self, left: usize, offset: usize) -> Result<(Cow<'static, [u8]>, usize), Error> {
        if left > 0 {
            return Err(Error { kind: ErrorKind::TrailingBytes, offset });
        }
        let unfinished = self.unfinished(offset);
        let apdu = match self.blocks {
            Some(blocks) => blocks.into_apdu().ok_or(unfinished)?,
            None if matches!(self.between, Some(Between::Points(..))) => self.information,
            None => hdlc::strip_llc(&self.information).to_vec(),
        };
        Ok((Cow::Owned(apdu), 0))
    }

    /// What is missing: a block, or the rest of the segments.
    fn unfinished(&self, offset: usize) -> Error {
        let missing = self.blocks.as_ref().and_then(|blocks| blocks.missing().next());
        Error { kind: missing.map_or(ErrorKind::Segments, ErrorKind::MissingBlock), offset }
    }
}

#[cfg(test)]
mod tests {
    use codec::apdu::block_transfer::BlockSender;

    use super::*;
    use crate::framed::{in_hdlc, in_mbus, in_wrapper};

    /// The blocks of an APDU, each in a frame.
    fn blocks(apdu: &[u8], block_len: usize) -> Vec<Vec<u8>> {
        let mut sender = BlockSender::unconfirmed(apdu, block_len).unwrap();
        let mut frames = Vec::new();
        loop {
            let mut block = Vec::new();
            if !sender.emit_next(&mut block) {
                return frames;
            }
            frames.push(in_wrapper(&block));
        }
    }

    #[test]
    fn the_frames_of_a_push_give_its_apdu_in_any_order_and_twice() {
        let mut frames = blocks(b"abcdefgh", 3);
        frames.swap(0, 1);
        frames.insert(1, frames[1].clone());
        let bytes = frames.concat();
        let (apdu, at) = apdu_of(&bytes, Framing::Wrapper, 100).unwrap();
        assert_eq!((&apdu[..], at), (&b"abcdefgh"[..], 0));
    }

    #[test]
    fn what_is_missing_or_left_over_is_named() {
        let frames = blocks(b"abcdefgh", 3);
        let error = |bytes: &[u8]| apdu_of(bytes, Framing::Wrapper, 100).unwrap_err().kind;
        assert_eq!(error(&frames[..2].concat()), ErrorKind::MissingBlock(3));
        assert_eq!(error(&[&frames[0][..], &frames[2]].concat()), ErrorKind::MissingBlock(2));
        assert_eq!(error(&[&frames.concat()[..], &frames[0]].concat()), ErrorKind::TrailingBytes);
        assert_eq!(
            apdu_of(&frames.concat(), Framing::Wrapper, 7).unwrap_err().kind,
            ErrorKind::FrameTooLong(8)
        );
    }

    #[test]
    fn segments_give_their_apdu_and_a_spoilt_one_none() {
        let mut bytes = in_hdlc(&[0x0f; 300]);
        let (apdu, _) = apdu_of(&bytes, Framing::Hdlc, 300).unwrap();
        assert_eq!(apdu, vec![0x0f; 300]);
        bytes[40] ^= 1;
        assert!(matches!(apdu_of(&bytes, Framing::Hdlc, 300).unwrap_err().kind, ErrorKind::HdlcCheck(_)));
        bytes[40] ^= 1;
        let first = bytes.len() - 60;
        assert!(apdu_of(&bytes[..first], Framing::Hdlc, 300).is_err());
    }

    #[test]
    fn long_frames_give_their_apdu_and_a_missing_one_is_named() {
        let apdu: Vec<u8> = (0..600_u32).map(|at| if at == 0 { 0x0f } else { at as u8 }).collect();
        let bytes = in_mbus(&apdu);
        assert_eq!(apdu_of(&bytes, Framing::Mbus, 600).unwrap(), (Cow::Owned(apdu), 0));
        let error = |bytes: &[u8]| apdu_of(bytes, Framing::Mbus, 600).unwrap_err();
        let first = mbus::Frame::new_checked(&bytes).unwrap().total_len();
        assert_eq!(error(&bytes[..first]), Error { kind: ErrorKind::Segments, offset: first });
        assert_eq!(error(&bytes[first..]).kind, ErrorKind::MbusSequence(1));
        assert_eq!(error(&[&bytes[..], &bytes[..first]].concat()).kind, ErrorKind::TrailingBytes);
        assert_eq!(apdu_of(&bytes, Framing::Mbus, 599).unwrap_err().kind, ErrorKind::FrameTooLong(600));
    }
}
