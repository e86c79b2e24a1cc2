//! Frames out of a byte stream that may hold anything between them.
//!
//! Whatever the stream holds, finding the next frame looks at each byte a few times at most
//! ([`Deframer::examined`], [`Deframer::MOST_EXAMINED`]): behind a frame whose head is right and whose content is spoilt the
//! search goes on at its closing flag, and not at each flag within, where every one could claim two kilobytes again.

use super::{CHECK_LEN, FLAG, Frame, MAX_FRAME_LEN, MIN_LENGTH, announced};
use crate::error::{Error, ErrorKind};

/// Longest head of a frame: format, two addresses, control.
pub const MAX_HEAD: usize = 2 + 4 + 4 + 1;
/// Bytes that are looked at to know how long a frame wants to be: flag and format.
const FORMAT: usize = 3;

/// Delimits frames in a byte stream, and finds the next one behind bytes that are none.
///
/// It owns no bytes: look at the front of the buffer with [`next`](Self::next), then take off what the answer
/// says. A closing flag may open the next frame too, which is why this remembers one.
#[derive(Clone, Copy, Debug)]
pub struct Deframer {
    max_length: usize,
    /// The byte before the buffer is a flag that closed a frame, and may open the next.
    after_flag: bool,
    examined: usize,
}

/// What stands at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame.
    Frame {
        /// What it says.
        frame: Frame<'a>,
        /// Bytes to take off, its closing flag included.
        length: usize,
        /// Whether its opening flag is the closing one of the frame before, and not among these bytes.
        shared_flag: bool,
    },
    /// Bytes that belong to no frame.
    Skip {
        /// Bytes to take off.
        length: usize,
        /// What is wrong with them; `None` for flags that only fill the line.
        error: Option<Error>,
    },
    /// More bytes are needed; from the front of the buffer so many, as far as is known.
    More(usize),
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new(MAX_FRAME_LEN)
    }
}

impl Deframer {
    /// Takes frames of up to `max_length` bytes, flags included.
    #[must_use]
    pub const fn new(max_length: usize) -> Self {
        Self { max_length, after_flag: false, examined: 0 }
    }

    /// Most bytes that are looked at for each one that is taken off, and for each call that asks for more.
    pub const MOST_EXAMINED: usize = 8;

    /// Bytes that were looked at so far, each as often as that was done: the work of it, without a clock.
    #[must_use]
    pub const fn examined(&self) -> usize {
        self.examined
    }

    /// Looks at the front of `buffer`. The caller takes off what [`Step::Frame`] and [`Step::Skip`] say before it
    /// looks again.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Step<'a> {
        self.examined = self.examined.saturating_add(1);
        let Some(&first) = buffer.first() else {
            return Step::More(1);
        };
        if first == FLAG {
            // Where a flag has just closed a frame, another one is fill only if no frame follows it.
            return self.behind_flag(buffer, 1);
        }
        if self.after_flag {
            return self.behind_flag(buffer, 0);
        }
        self.skip(buffer, 0, Error::new(ErrorKind::HdlcFlag(first), 0))
    }

    /// `skip` is 1 where the opening flag is in the buffer.
    fn behind_flag<'a>(&mut self, buffer: &'a [u8], skip: usize) -> Step<'a> {
        let inner = buffer.get(skip..).unwrap_or_default();
        if skip == 1 && inner.first() == Some(&FLAG) {
            return Step::Skip { length: 1, error: None };
        }
        let &[high, low, ..] = inner else {
            return match inner.first() {
                Some(&high) if high >> 4 != 0xa => {
                    self.skip(buffer, skip, Error::new(ErrorKind::HdlcFormat(high), skip))
                }
                _ => Step::More(skip + 2),
            };
        };
        self.examined = self.examined.saturating_add(FORMAT);
        let (length, _) = match announced(high, low) {
            Ok(announced) => announced,
            Err(error) => return self.skip(buffer, skip, error.shifted(skip)),
        };
        let total = skip + length + 1;
        if length < MIN_LENGTH || length + 2 > self.max_length {
            let error = Error::new(ErrorKind::HdlcLength(length as u16), skip);
            return self.skip(buffer, skip, error);
        }
        let Some(bytes) = buffer.get(skip..total) else {
            return Step::More(total);
        };
        let frame = Frame::between(bytes, skip);
        self.examined = self.examined.saturating_add(match &frame {
            Ok(_) => total,
            // A check stands behind all that it covers; the closing flag is looked at before anything else.
            Err(Error { kind: ErrorKind::HdlcCheck(_), offset }) => offset - skip.min(*offset) + CHECK_LEN,
            Err(Error { kind: ErrorKind::HdlcFlag(_), .. }) => 1,
            Err(_) => MAX_HEAD,
        });
        match frame {
            Ok(frame) => {
                self.after_flag = true;
                Step::Frame { frame, length: total, shared_flag: skip == 0 }
            }
            // A check this far behind is that of the content, and the one of the head before it was right: so are the
            // length and both flags. What is inside was data, and is not taken for frames.
            Err(error) if is_behind_head(&error, skip) => {
                self.after_flag = false;
                Step::Skip { length: total - 1, error: Some(error) }
            }
            Err(error) => self.skip(buffer, skip, error),
        }
    }

    /// Up to the next flag, which may open a frame; a frame that is spoilt takes none behind it along.
    fn skip<'a>(&mut self, buffer: &'a [u8], from: usize, error: Error) -> Step<'a> {
        self.after_flag = false;
        let from = from.max(1);
        let rest = buffer.get(from..).unwrap_or_default();
        let length = from + rest.iter().position(|&byte| byte == FLAG).unwrap_or(rest.len());
        self.examined = self.examined.saturating_add(length);
        Step::Skip { length, error: Some(error) }
    }
}

/// Whether a wrong check is that of the content of a frame with its opening flag before `begin`: the head had its own,
/// which was right.
fn is_behind_head(error: &Error, begin: usize) -> bool {
    matches!(error.kind, ErrorKind::HdlcCheck(_)) && error.offset > begin + MAX_HEAD
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::super::{Address, Control, FrameRepr};
    use super::*;

    fn repr() -> FrameRepr {
        FrameRepr {
            segmented: false,
            destination: Address::PUBLIC_CLIENT,
            source: Address::MANAGEMENT,
            control: Control::UnnumberedInformation { poll: true },
        }
    }

    fn frame(information: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        repr().emit(information, &mut out);
        out
    }

    /// The information of all frames, the bytes skipped, and what is left.
    fn all(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, usize, usize) {
        let (mut deframer, mut buffer) = (Deframer::default(), vec![]);
        let (mut frames, mut skipped) = (vec![], 0);
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                let taken = match deframer.next(&buffer) {
                    Step::Frame { frame, length, .. } => {
                        frames.push(frame.information().to_vec());
                        length
                    }
                    Step::Skip { length, error } => {
                        skipped += if error.is_some() { length } else { 0 };
                        length
                    }
                    Step::More(needed) => {
                        assert!(needed > buffer.len());
                        break;
                    }
                };
                assert!(taken > 0);
                buffer.drain(..taken);
            }
        }
        (frames, skipped, buffer.len())
    }

    #[test]
    fn a_flag_between_two_frames_may_be_one_or_two_or_many() {
        let (one, two) = (frame(b"one"), frame(b"two"));
        for between in 0..4 {
            let mut stream = one.clone();
            match between {
                0 => stream.extend_from_slice(&two[1..]),
                _ => {
                    stream.extend(vec![FLAG; between - 1]);
                    stream.extend_from_slice(&two);
                }
            }
            let (frames, skipped, left) = all(&[&stream]);
            assert_eq!(frames, [b"one", b"two"], "{between}");
            assert_eq!((skipped, left), (0, 0), "{between}");
        }
    }

    #[test]
    fn a_spoilt_frame_costs_itself_only() {
        let mut stream = frame(b"one");
        let mut spoilt = frame(b"~two~");
        spoilt[6] ^= 1;
        stream.extend_from_slice(&spoilt[1..]);
        stream.extend_from_slice(&frame(b"three")[1..]);
        let (frames, skipped, left) = all(&[&stream]);
        assert_eq!(frames, [&b"one"[..], b"three"]);
        assert!(skipped > 0);
        assert_eq!(left, 0);
    }

    #[test]
    fn the_content_of_a_spoilt_frame_is_not_taken_for_frames() {
        let inner = frame(b"inner");
        let mut stream = frame(b"one");
        let mut spoilt = frame(&[b"before", &inner[..], b"behind"].concat());
        let last = spoilt.len() - 4;
        spoilt[last] ^= 1;
        let total = spoilt.len();
        stream.extend_from_slice(&spoilt);
        stream.extend_from_slice(&frame(b"three")[1..]);
        let (frames, skipped, left) = all(&[&stream]);
        assert_eq!(frames, [&b"one"[..], b"three"]);
        assert_eq!((skipped, left), (total - 1, 0), "its closing flag opens the next");
    }

    /// Frames within frames: each has a right head, a closing flag where it should be, and two kilobytes to check.
    #[test]
    fn the_work_for_the_worst_stream_is_a_few_times_its_length() {
        let mut unit = frame(&[0; 4]);
        let pieces = 2040 / 9;
        let length = u16::try_from(9 * pieces - 1).unwrap();
        unit[1..3].copy_from_slice(&(0xa000 | length).to_be_bytes());
        let check = super::super::check_sequence(&unit[1..6]);
        unit[6..8].copy_from_slice(&check.to_le_bytes());
        let unit = [&unit[..8], &[0]].concat();
        for stream in
            [unit.repeat(1000), vec![FLAG; 3000], [FLAG, 0xa0].repeat(2000), [FLAG, 0xa7, 0xff].repeat(2000)]
        {
            let (mut deframer, mut rest, mut calls) = (Deframer::default(), &stream[..], 0);
            while let Step::Skip { length, .. } | Step::Frame { length, .. } = deframer.next(rest) {
                rest = &rest[length..];
                calls += 1;
                if rest.is_empty() {
                    break;
                }
            }
            let taken = stream.len() - rest.len();
            assert!(calls > 1 && taken > 900, "{calls} calls, {taken} bytes");
            assert!(
                deframer.examined() <= Deframer::MOST_EXAMINED * (taken + 1),
                "{} for {taken}",
                deframer.examined()
            );
        }
    }

    #[test]
    fn garbage_before_and_between_frames_is_skipped_and_named() {
        let mut deframer = Deframer::default();
        let mut stream = b"hello".to_vec();
        stream.extend_from_slice(&frame(b"one"));
        let error = Error::new(ErrorKind::HdlcFlag(b'h'), 0);
        assert_eq!(deframer.next(&stream), Step::Skip { length: 5, error: Some(error) });
        let Step::Frame { length, shared_flag: false, .. } = deframer.next(&stream[5..]) else {
            panic!("no frame");
        };
        assert_eq!(length, stream.len() - 5);
        let error = Error::new(ErrorKind::HdlcFormat(b'x'), 0);
        assert_eq!(deframer.next(b"xyz"), Step::Skip { length: 3, error: Some(error) });
        let error = Error::new(ErrorKind::HdlcFlag(b'y'), 0);
        assert_eq!(deframer.next(b"y"), Step::Skip { length: 1, error: Some(error) });
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_first_bytes() {
        let bytes = frame(&[0; 100]);
        let error = Error::new(ErrorKind::HdlcLength(109), 1);
        let skip = Step::Skip { length: 3, error: Some(error) };
        assert_eq!(Deframer::new(110).next(&bytes[..3]), skip);
        assert_eq!(Deframer::new(111).next(&bytes[..3]), Step::More(111));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_frames_come_out(
            informations in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cut in 1..30_usize,
            shared: bool,
        ) {
            let mut stream: Vec<u8> = vec![];
            for information in &informations {
                let frame = frame(information);
                let from = usize::from(shared && !stream.is_empty());
                stream.extend_from_slice(&frame[from..]);
            }
            let chunks: Vec<&[u8]> = stream.chunks(cut).collect();
            let (frames, skipped, left) = all(&chunks);
            prop_assert_eq!(frames, informations);
            prop_assert_eq!((skipped, left), (0, 0));
        }

        #[test]
        fn random_bytes_end(bytes in prop::collection::vec(prop::sample::select(&[FLAG, 0xa0, 0xa8, 9, 3, 0x13, 1][..]), 0..200)) {
            let (_, _, left) = all(&[&bytes]);
            prop_assert!(left <= bytes.len());
        }
    }
}
