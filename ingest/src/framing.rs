//! Pushes out of a byte stream: in the wrapper, in HDLC or in long frames of M-Bus, told from the first bytes, in one frame
//! or in several.
//!
//! Before a frame a vendor's modem may say who it is or that it is alive: up to [`HEARTBEAT`] bytes are passed over, and
//! counted, if what follows them begins a frame. What never does is evidence, and so are frames of a push whose others do
//! not come, and what HDLC has to skip to find its next frame.

use bytes::{Bytes, BytesMut};
use codec::hdlc::{self, Control, Deframer, Step};
use codec::wrapper::{self, HEADER_LEN, Wrapper};
use codec::{Error, ErrorKind, apdu, mbus};
use metrics::counter;

use crate::parts::Parts;
use crate::received::Framing;
use crate::telemetry;

/// Bytes kept as evidence of a stream that cannot be read.
const EVIDENCE: usize = 4096;
/// Longest message of a vendor before a frame.
const HEARTBEAT: usize = 256;
/// Bytes of frames that one push may take besides its APDU, with the smallest blocks and segments that make sense.
const FRAMES: usize = 64 * 1024;
/// Flag and format of HDLC, and the length in that.
const HDLC_FORMAT: usize = 3;
const HDLC_LENGTH: u16 = 0x07ff;
/// What begins so is spoken by something that is no meter, and no frame will follow.
const STRANGERS: [&[u8]; 8] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"SSH-", b"\x16\x03"];

/// What came out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The frames of a push, or of what may be one.
    Push(Bytes, Framing),
    /// A frame of a data link in HDLC, while answers are waited for.
    Link(Bytes),
    /// A frame that others have to follow.
    Part,
}

/// A stream that cannot be read on.
#[derive(Debug)]
pub(crate) struct NoFrame {
    /// What is wrong.
    pub(crate) error: Error,
    /// What was received, as far as it is kept.
    pub(crate) received: Bytes,
}

/// Delimits the pushes of one connection.
#[derive(Debug)]
pub(crate) struct StreamDecoder {
    /// Longest APDU taken.
    max_apdu: usize,
    /// The connection speaks HDLC.
    deframer: Option<Deframer>,
    /// A push of which frames are here and others are not.
    open: Option<Open>,
    heartbeat: Heartbeat,
    /// Bytes and places that were looked at; see [`steps`](Self::steps).
    steps: u64,
    /// Answers are waited for.
    answering: bool,
}

/// How far it is known that what stands before a frame is none: nothing is looked at twice for nothing.
#[derive(Debug, Default)]
struct Heartbeat {
    /// Places before this one were looked at.
    looked: usize,
    /// Those of them at which a frame may begin, if more comes.
    open: Vec<u16>,
    /// So many bytes have to be there for that to be decided.
    needed: usize,
}

/// Whether a frame stands somewhere.
enum Begins {
    /// So many bytes were looked at to see that.
    Yes(usize),
    /// The same.
    No(usize),
    /// So many bytes are needed to say.
    Needs(usize),
}

/// Frames of one push, as received.
#[derive(Debug)]
struct Open {
    parts: Parts,
    raw: Vec<u8>,
    framing: Framing,
}

impl StreamDecoder {
    pub(crate) fn new(max_apdu: usize) -> StreamDecoder {
        StreamDecoder {
            max_apdu,
            deframer: None,
            open: None,
            heartbeat: Heartbeat::default(),
            steps: 0,
            answering: false,
        }
    }

    /// Whether answers are waited for: what is not unnumbered in HDLC is one of them then, else it may be a push.
    pub(crate) const fn set_answering(&mut self, answering: bool) {
        self.answering = answering;
    }

    /// The work so far, without a clock: bytes that were looked at, each as often as that was done, and calls.
    #[allow(dead_code, reason = "asserted by the fuzz target, and by the test that replays its corpus")]
    pub(crate) fn steps(&self) -> u64 {
        let examined = self.deframer.as_ref().map_or(0, Deframer::examined);
        self.steps + u64::try_from(examined).unwrap_or(u64::MAX)
    }

    /// Length of the frame that has begun but is not whole, once its header says it.
    pub(crate) fn begun(&self, buffer: &[u8]) -> Option<usize> {
        if self.deframer.is_some() {
            return None;
        }
        wrapper::frame_len(buffer, self.max_apdu).ok().flatten().filter(|length| *length > buffer.len())
    }

    /// Bytes held of a push that is not whole.
    pub(crate) fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.raw.len())
    }

    /// Most bytes that are held of a push that is not whole.
    pub(crate) fn most_held(&self) -> usize {
        self.max_apdu + FRAMES
    }

    /// What is left of a push, or of a message before a frame, when nothing more comes.
    pub(crate) fn end(&mut self, buffer: &BytesMut) -> Option<(Bytes, Framing)> {
        if let Some(open) = self.open.take() {
            return Some((Bytes::from(open.raw), open.framing));
        }
        let mbus = may_be_mbus(buffer) && buffer.len() >= MBUS_HEAD;
        let heartbeat = self.deframer.is_none() && !buffer.is_empty() && !may_be_wrapper(buffer) && !mbus;
        heartbeat.then(|| (kept(buffer), Framing::Wrapper))
    }

    /// The next of the stream; `None`: more bytes are needed. What a peer claims is no reason to make room: that is the
    /// caller's business.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, NoFrame> {
        loop {
            self.steps += 1;
            if buffer.is_empty() {
                return Ok(None);
            }
            if self.deframer.is_some() {
                match self.hdlc(buffer) {
                    Some(item) => return Ok(item),
                    None => continue,
                }
            }
            if buffer.first() == Some(&hdlc::FLAG) {
                self.deframer = Some(Deframer::default());
                continue;
            }
            if may_be_wrapper(buffer) {
                return self.wrapper(buffer);
            }
            if may_be_mbus(buffer) {
                return if buffer.len() < MBUS_HEAD { Ok(None) } else { self.mbus(buffer) };
            }
            let Some(length) = self.heartbeat(buffer)? else { return Ok(None) };
            counter!(telemetry::TCP_HEARTBEATS).increment(1);
            let _passed_over = buffer.split_to(length);
        }
    }

    /// Length of a vendor's message with a frame behind it; `None`: it cannot be said yet.
    fn heartbeat(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, NoFrame> {
        let found = u16::from_be_bytes([buffer[0], buffer.get(1).copied().unwrap_or_default()]);
        let error = Error { kind: ErrorKind::WrapperVersion(found), offset: 0 };
        if STRANGERS.iter().any(|begins| buffer.starts_with(begins)) {
            return Err(refuse(buffer, error));
        }
        let Heartbeat { looked, open, needed } = &mut self.heartbeat;
        let end = buffer.len().min(HEARTBEAT + 1);
        let known = if buffer.len() >= *needed { std::mem::take(open) } else { Vec::new() };
        let again = known.into_iter().map(usize::from);
        let fresh = (*looked).max(1)..end;
        if !open.is_empty() && fresh.is_empty() {
            return Ok(None);
        }
        if open.is_empty() {
            *needed = usize::MAX;
        }
        for place in again.chain(fresh) {
            self.steps += 1;
            match begins_frame(&buffer[place..], self.max_apdu) {
                Begins::Yes(examined) => {
                    self.steps += examined as u64;
                    self.heartbeat = Heartbeat::default();
                    return Ok(Some(place));
                }
                Begins::No(examined) => self.steps += examined as u64,
                Begins::Needs(more) => {
                    open.push(u16::try_from(place).unwrap_or(u16::MAX));
                    *needed = (*needed).min(place + more);
                }
            }
        }
        *looked = end;
        if buffer.len() <= HEARTBEAT || !open.is_empty() {
            return Ok(None);
        }
        self.heartbeat = Heartbeat::default();
        Err(refuse(buffer, error))
    }

    fn wrapper(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, NoFrame> {
        match wrapper::frame_len(buffer, self.max_apdu) {
            Ok(Some(length)) if buffer.len() >= length => {
                let bytes = buffer.split_to(length).freeze();
                let Ok(frame) = Wrapper::new_checked(&bytes) else {
                    return Ok(Some(Item::Push(bytes, Framing::Wrapper)));
                };
                // Pushes in one frame may come between those in several.
                if frame.apdu().first() != Some(&apdu::GENERAL_BLOCK_TRANSFER) {
                    return Ok(Some(Item::Push(bytes, Framing::Wrapper)));
                }
                Ok(Some(self.part(&bytes, Framing::Wrapper, |parts| parts.wrapper(&frame).ok())))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(refuse(buffer, error)),
        }
    }

    fn mbus(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, NoFrame> {
        let length = mbus_len(buffer);
        match mbus::Frame::new_checked(buffer) {
            Ok(frame) => {
                let raw = buffer.get(..frame.total_len()).unwrap_or_default().to_vec();
                let _taken = buffer.split_to(raw.len());
                let take = |parts: &mut Parts| parts.mbus(&mbus::Frame::new_checked(&raw).ok()?).ok();
                Ok(Some(self.part(&raw, Framing::Mbus, take)))
            }
            Err(error) if error.kind == ErrorKind::Truncated => Ok(None),
            // What is spoilt inside says all the same where it ends.
            Err(error) if matches!(error.kind, ErrorKind::MbusChecksum(_) | ErrorKind::MbusSequence(_)) => {
                let spoilt = buffer.split_to(length.min(buffer.len()));
                let mut raw = self.open.take().map(|open| open.raw).unwrap_or_default();
                raw.extend_from_slice(&spoilt);
                Ok(Some(Item::Push(Bytes::from(raw), Framing::Mbus)))
            }
            Err(error) => Err(refuse(buffer, error)),
        }
    }

    /// One step in HDLC; `Some(None)`: more bytes are needed, `None`: look again.
    fn hdlc(&mut self, buffer: &mut BytesMut) -> Option<Option<Item>> {
        let mut deframer = self.deframer.take()?;
        let step = deframer.next(buffer);
        self.deframer = Some(deframer);
        match step {
            Step::Frame { frame, length, shared_flag } => {
                let mut raw = Vec::with_capacity(length + 1);
                if shared_flag {
                    raw.push(hdlc::FLAG);
                }
                raw.extend_from_slice(buffer.get(..length)?);
                if self.answering && !matches!(frame.control(), Control::UnnumberedInformation { .. }) {
                    let _taken = buffer.split_to(length);
                    return Some(Some(Item::Link(Bytes::from(raw))));
                }
                let item = self.part(&raw, Framing::Hdlc, |parts| parts.hdlc(&frame).ok());
                let _taken = buffer.split_to(length);
                Some(Some(item))
            }
            Step::Skip { length, error: None } => {
                let _fill = buffer.split_to(length);
                None
            }
            Step::Skip { length, error: Some(_) } => {
                let skipped = buffer.split_to(length);
                let mut raw = self.open.take().map(|open| open.raw).unwrap_or_default();
                raw.extend_from_slice(&skipped[..skipped.len().min(EVIDENCE)]);
                Some(Some(Item::Push(Bytes::from(raw), Framing::Hdlc)))
            }
            Step::More(_) => Some(None),
        }
    }

    /// Takes a frame that may be one of several. One that does not continue what is open ends that, as evidence; it is
    /// then looked at as the first of another.
    fn part(&mut self, raw: &[u8], framing: Framing, take: impl Fn(&mut Parts) -> Option<bool>) -> Item {
        let most = self.most_held();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open { parts: Parts::new(self.max_apdu), raw: Vec::new(), framing },
        };
        let fits = open.raw.len() + raw.len() <= most;
        match take(&mut open.parts).filter(|_| fits) {
            Some(whole) => {
                open.raw.extend_from_slice(raw);
                if whole {
                    return Item::Push(Bytes::from(open.raw), framing);
                }
                self.open = Some(open);
                Item::Part
            }
            // It is no part of anything.
            None if open.raw.is_empty() => Item::Push(Bytes::copy_from_slice(raw), framing),
            None => {
                let mut next = Open { parts: Parts::new(self.max_apdu), raw: raw.to_vec(), framing };
                match take(&mut next.parts) {
                    Some(false) => self.open = Some(next),
                    // Whole or hopeless: kept with what it ended, for it was there in its place.
                    Some(true) | None => open.raw.extend_from_slice(raw),
                }
                Item::Push(Bytes::from(open.raw), open.framing)
            }
        }
    }
}

/// Whether the version of a wrapper stands there, as far as it is there.
fn may_be_wrapper(buffer: &[u8]) -> bool {
    let version = wrapper::VERSION.to_be_bytes();
    version.iter().zip(buffer).all(|(expected, found)| expected == found)
}

/// Bytes by which a long frame of M-Bus is told from a message that begins with the same letter.
const MBUS_HEAD: usize = 4;

/// Whether the head of a long frame of M-Bus stands there, as far as it is there.
fn may_be_mbus(buffer: &[u8]) -> bool {
    match *buffer {
        [mbus::START] | [mbus::START, _] => true,
        [mbus::START, one, two] => one == two,
        [mbus::START, one, two, again, ..] => one == two && again == mbus::START,
        _ => false,
    }
}

/// Length of the long frame that begins there: head, what lies between, sum and stop.
fn mbus_len(buffer: &[u8]) -> usize {
    MBUS_HEAD + usize::from(buffer.get(1).copied().unwrap_or_default()) + 2
}

/// Whether a frame stands there: a header with an APDU that can be pushed, a frame of HDLC whose head has its check, or the
/// head of one of M-Bus. That its content is spoilt is for those to find who read it.
fn begins_frame(bytes: &[u8], max_apdu: usize) -> Begins {
    match *bytes {
        [hdlc::FLAG] => Begins::Needs(HDLC_FORMAT),
        [hdlc::FLAG, ..] => match hdlc::Frame::new_checked(bytes) {
            Ok(_) => Begins::Yes(hdlc_len(bytes)),
            Err(error) => match error.kind {
                ErrorKind::Truncated if bytes.len() < hdlc_len(bytes) => Begins::Needs(hdlc_len(bytes)),
                ErrorKind::HdlcCheck(_) if error.offset > 1 + hdlc::MAX_HEAD => Begins::Yes(hdlc_len(bytes)),
                ErrorKind::HdlcFormat(_) | ErrorKind::HdlcLength(_) | ErrorKind::HdlcFlag(_) => Begins::No(0),
                _ => Begins::No(hdlc::MAX_HEAD),
            },
        },
        // Its whole is not waited for: a message of many such letters would be looked at again with every byte.
        [mbus::START, ..] if may_be_mbus(bytes) && bytes.len() < MBUS_HEAD => Begins::Needs(MBUS_HEAD),
        [mbus::START, ..] if may_be_mbus(bytes) => Begins::Yes(MBUS_HEAD),
        _ if !may_be_wrapper(bytes) => Begins::No(0),
        _ => match bytes.get(HEADER_LEN) {
            None => Begins::Needs(HEADER_LEN + 1),
            Some(tag) => {
                let pushed = [apdu::DATA_NOTIFICATION, apdu::GENERAL_GLO, apdu::GENERAL_BLOCK_TRANSFER];
                match wrapper::frame_len(bytes, max_apdu).is_ok() && pushed.contains(tag) {
                    true => Begins::Yes(HEADER_LEN + 1),
                    false => Begins::No(0),
                }
            }
        },
    }
}

/// Bytes that a frame of HDLC wants to have, as far as it says so already.
fn hdlc_len(bytes: &[u8]) -> usize {
    match bytes {
        [_, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low]) & HDLC_LENGTH) + 2,
        _ => HDLC_FORMAT,
    }
}

fn kept(buffer: &BytesMut) -> Bytes {
    Bytes::copy_from_slice(&buffer[..buffer.len().min(EVIDENCE)])
}

fn refuse(buffer: &mut BytesMut, error: Error) -> NoFrame {
    let received = kept(buffer);
    buffer.clear();
    NoFrame { error, received }
}

#[cfg(test)]
#[path = "../../fuzz/targets/stream.rs"]
mod stream_target;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framed::{in_hdlc, in_mbus, in_wrapper as frame};

    fn push(item: Option<Item>) -> Vec<u8> {
        match item {
            Some(Item::Push(bytes, _)) => bytes.to_vec(),
            other => panic!("no push: {other:?}"),
        }
    }

    #[test]
    fn a_vendors_message_is_passed_over_where_a_frame_follows_and_only_there() {
        for frame in [frame(&[0x0f; 20]), in_hdlc(&[0x0f; 20]), in_mbus(&[0x0f; 20])] {
            let mut decoder = StreamDecoder::new(100);
            let mut stream = BytesMut::new();
            for piece in [&b"IMEI 860000000000000"[..], b"\r\n", &frame[..5], &frame[5..]] {
                assert_eq!(decoder.decode(&mut stream).unwrap(), None);
                stream.extend_from_slice(piece);
            }
            assert_eq!(push(decoder.decode(&mut stream).unwrap()), frame);
            assert!(stream.is_empty());
        }
        let mut decoder = StreamDecoder::new(100);
        let mut stream = BytesMut::from(&[b'a'; HEARTBEAT][..]);
        assert_eq!(decoder.decode(&mut stream).unwrap(), None);
        assert_eq!(decoder.end(&stream), Some((Bytes::from(vec![b'a'; HEARTBEAT]), Framing::Wrapper)));
        stream.extend_from_slice(b"a");
        assert!(decoder.decode(&mut stream).is_err());
    }

    #[test]
    fn the_stream_corpus_holds() {
        let folder = format!("{}/../fuzz/corpus/stream", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            println!("{}", file.display());
            stream_target::stream(&std::fs::read(file).unwrap());
        }
    }

    #[test]
    fn a_message_that_ends_in_a_spoilt_frame_is_passed_over_and_the_frame_is_evidence() {
        let mut spoilt = in_hdlc(&[0x0f; 20]);
        let last = spoilt.len() - 4;
        spoilt[last] ^= 1;
        let mut decoder = StreamDecoder::new(100);
        let mut stream = BytesMut::from(&[b"IMEI 860000000000000\r\n", &spoilt[..]].concat()[..]);
        // Its closing flag may open another.
        assert_eq!(push(decoder.decode(&mut stream).unwrap()), spoilt[..spoilt.len() - 1]);
    }

    /// Of what streams are made that cost much.
    const PIECES: [&[u8]; 8] = [
        &[0x7e],
        &[0x7e, 0xa0],
        &[0x7e, 0xa7, 0xff],
        &[0x7e, 0xa0, 8, 3, 3],
        &[0, 1],
        &[0, 1, 0, 1, 0, 1, 0, 9, 0x0f],
        b"IMEI",
        &[0xe0, 0x40, 0, 1, 0, 0],
    ];

    proptest! {
        #[test]
        fn whatever_comes_memory_and_steps_are_bounded(
            pieces in prop::collection::vec(
                prop::sample::select(&PIECES[..]),
                0..600,
            ),
            cut: u8,
        ) {
            stream_target::stream(&[&[cut][..], &pieces.concat()].concat());
        }
    }

    #[test]
    fn segments_and_blocks_become_one_push_and_what_is_not_whole_is_handed_out() {
        let mut stream = BytesMut::new();
        let mut bytes = in_hdlc(&[0x0f; 300]);
        stream.extend_from_slice(&bytes);
        let mut decoder = StreamDecoder::new(400);
        assert_eq!(decoder.decode(&mut stream).unwrap(), Some(Item::Part));
        assert_eq!(decoder.decode(&mut stream).unwrap(), Some(Item::Part));
        assert_eq!(push(decoder.decode(&mut stream).unwrap()), bytes);
        // The middle one is spoilt: what is before it and itself are evidence, what is behind it may be a push.
        bytes[160] ^= 1;
        stream.extend_from_slice(&bytes);
        let mut out = Vec::new();
        while let Some(item) = decoder.decode(&mut stream).unwrap() {
            if let Item::Push(bytes, Framing::Hdlc) = item {
                out.extend_from_slice(&bytes);
            }
        }
        out.extend(decoder.end(&stream).into_iter().flat_map(|(bytes, _)| bytes));
        let without_flags = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != hdlc::FLAG).count();
        assert_eq!(without_flags(&out), without_flags(&bytes));
    }

    #[test]
    fn long_frames_become_one_push_wherever_they_are_cut_and_a_spoilt_one_is_evidence() {
        let mut stream = [in_mbus(&[0x0f; 600]), frame(&[0x0f; 9]), in_mbus(&[0x0f; 3])];
        for cut in 1..stream[0].len() {
            let mut decoder = StreamDecoder::new(700);
            let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
            for piece in stream.concat().chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                    if let Item::Push(bytes, framing) = item {
                        out.push((bytes.to_vec(), framing));
                    }
                }
            }
            let framings = [Framing::Mbus, Framing::Wrapper, Framing::Mbus];
            assert_eq!(out, stream.iter().cloned().zip(framings).collect::<Vec<_>>(), "cut by {cut}");
        }
        // The sum of the second of three is wrong: it and the first are evidence, and so is the third, which is alone.
        stream[0][300] ^= 1;
        let mut decoder = StreamDecoder::new(700);
        let mut buffer = BytesMut::from(&stream.concat()[..]);
        let mut out = Vec::new();
        while let Some(item) = decoder.decode(&mut buffer).unwrap() {
            if let Item::Push(bytes, _) = item {
                out.push(bytes.to_vec());
            }
        }
        assert_eq!(out.len(), 4);
        assert_eq!(out[..2].concat(), stream[0]);
        assert_eq!(out[2..], stream[1..]);
    }

    #[test]
    fn a_message_that_begins_as_a_long_frame_does_is_passed_over_as_any_other() {
        let mut decoder = StreamDecoder::new(100);
        let mut stream = BytesMut::new();
        for piece in [&b"h"[..], b"i", b" from 17\r\n"] {
            stream.extend_from_slice(piece);
            assert_eq!(decoder.decode(&mut stream).unwrap(), None);
        }
        stream.extend_from_slice(&frame(&[0x0f; 20]));
        assert_eq!(push(decoder.decode(&mut stream).unwrap()), frame(&[0x0f; 20]));
        stream.extend_from_slice(b"h");
        assert_eq!(decoder.decode(&mut stream).unwrap(), None);
        assert_eq!(decoder.end(&stream), Some((Bytes::from_static(b"h"), Framing::Wrapper)));
    }

    #[test]
    fn what_is_no_frame_is_handed_out_as_evidence_and_nothing_after_it_is_read() {
        let mut decoder = StreamDecoder::new(100);
        let mut stream = BytesMut::from(&frame(b"one")[..]);
        stream.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(push(decoder.decode(&mut stream).unwrap()), frame(b"one"));
        let Err(NoFrame { error, received }) = decoder.decode(&mut stream) else { panic!() };
        assert_eq!(error.to_string(), "wrapper version 18245 instead of 1 at byte 0");
        assert_eq!((&received[..], stream.len()), (&b"GET / HTTP/1.1\r\n"[..], 0));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
        let mut decoder = StreamDecoder::new(100);
        let mut stream = BytesMut::from(&frame(&[0; 101])[..8]);
        assert!(decoder.decode(&mut stream).is_err());
    }

    #[test]
    fn the_pushes_of_india_come_out_whole_however_they_are_cut() {
        let path = format!("{}/../../shared/fixtures/india_push.jsonl", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            assert!(std::env::var_os("CI").is_none(), "{path}");
            println!("skipped: not there: {path}");
            return;
        };
        for line in text.lines() {
            let push: serde_json::Value = serde_json::from_str(line).unwrap();
            let bytes = hex::decode(push["hex"].as_str().unwrap()).unwrap();
            let plain = hex::decode(push["plain_apdu"].as_str().unwrap()).unwrap();
            for cut in [1, 7, 100, bytes.len()] {
                let (mut decoder, mut buffer) = (StreamDecoder::new(0xffff), BytesMut::new());
                let mut out = Vec::new();
                for piece in bytes.chunks(cut) {
                    buffer.extend_from_slice(piece);
                    while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                        if let Item::Push(bytes, framing) = item {
                            out.push((bytes, framing));
                        }
                    }
                }
                let [(whole, framing)] = &out[..] else { panic!("{}: {} pushes", push["id"], out.len()) };
                assert_eq!((&whole[..], buffer.len(), decoder.held()), (&bytes[..], 0, 0), "{}", push["id"]);
                assert_eq!(Framing::of_stored(whole), *framing);
                let (apdu, _) = crate::parts::apdu_of(whole, *framing, 0xffff).unwrap();
                if push["cipher"] == "plain" {
                    assert_eq!(apdu, plain, "{}", push["id"]);
                } else {
                    let title = hex::decode(push["system_title"].as_str().unwrap()).unwrap();
                    assert_eq!((apdu[0], &apdu[2..10]), (0xdb, &title[..]), "{}", push["id"]);
                    assert!(apdu.len() > plain.len());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_frames_come_out(
            apdus in prop::collection::vec(prop::collection::vec(0..0xe0_u8, 0..40), 0..6),
            cuts in prop::collection::vec(1..30_usize, 1..20),
        ) {
            let stream: Vec<u8> = apdus.iter().flat_map(|apdu| frame(apdu)).collect();
            let mut decoder = StreamDecoder::new(40);
            let (mut buffer, mut out, mut rest) = (BytesMut::new(), Vec::new(), &stream[..]);
            for cut in cuts.into_iter().cycle() {
                let (segment, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                buffer.extend_from_slice(segment);
                while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                    out.push(push(Some(item)));
                }
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> = apdus.iter().map(|apdu| frame(apdu)).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
