//! Frames out of a byte stream that may hold anything between them.

use super::{FLAG, Frame, MAX_FRAME_LEN, MIN_LENGTH, announced};
use crate::error::{Error, ErrorKind};

/// Delimits frames in a byte stream, and finds the next one behind bytes that are none.
///
/// It owns no bytes: look at the front of the buffer with [`next`](Self::next), then take off what the answer
/// says. A closing flag may open the next frame too, which is why this remembers one.
#[derive(Clone, Copy, Debug)]
pub struct Deframer {
    max_length: usize,
    /// The byte before the buffer is a flag that closed a frame, and may open the next.
    after_flag: bool,
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
        Self { max_length, after_flag: false }
    }

    /// Looks at the front of `buffer`. The caller takes off what [`Step::Frame`] and [`Step::Skip`] say before it
    /// looks again.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Step<'a> {
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
        match Frame::between(bytes, skip) {
            Ok(frame) => {
                self.after_flag = true;
                Step::Frame { frame, length: total, shared_flag: skip == 0 }
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
        Step::Skip { length, error: Some(error) }
    }
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
