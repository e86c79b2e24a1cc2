//! Wrapper frames out of a byte stream.

use bytes::{Bytes, BytesMut};
use codec::wrapper;
use tokio_util::codec::Decoder;

/// Bytes kept as evidence of a stream that cannot be read.
const EVIDENCE: usize = 4096;

/// Delimits frames of IEC 62056-47: several in a segment, one over several segments. Their contents are not looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrapperDecoder {
    /// Longest APDU taken.
    pub(crate) max_apdu: usize,
}

impl WrapperDecoder {
    /// Length of the frame that has begun but is not whole, once its header says it.
    pub(crate) fn begun(&self, buffer: &[u8]) -> Option<usize> {
        wrapper::frame_len(buffer, self.max_apdu).ok().flatten().filter(|length| *length > buffer.len())
    }
}

/// A stream that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FramingError {
    /// What stands where a header should be: the peer cannot be synchronised again.
    #[error("{error}")]
    NoFrame {
        /// What is wrong.
        error: codec::Error,
        /// What was received, as far as it is kept.
        received: Bytes,
    },
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
}

impl Decoder for WrapperDecoder {
    type Item = Bytes;
    type Error = FramingError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
        match wrapper::frame_len(buffer, self.max_apdu) {
            Ok(Some(length)) if buffer.len() >= length => Ok(Some(buffer.split_to(length).freeze())),
            // What a peer claims is no reason to make room: that is the caller's business.
            Ok(_) => Ok(None),
            Err(error) => {
                let kept = buffer.len().min(EVIDENCE);
                let received = buffer.split_to(kept).freeze();
                buffer.clear();
                Err(FramingError::NoFrame { error, received })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use codec::wrapper::WrapperRepr;
    use proptest::prelude::*;

    use super::*;

    fn frame(apdu: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        WrapperRepr { source: 1, destination: 48 }.emit(apdu, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_no_frame_is_handed_out_as_evidence_and_nothing_after_it_is_read() {
        let mut decoder = WrapperDecoder { max_apdu: 100 };
        let mut stream = BytesMut::from(&frame(b"one")[..]);
        stream.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(decoder.decode(&mut stream).unwrap().unwrap(), frame(b"one"));
        let Err(FramingError::NoFrame { error, received }) = decoder.decode(&mut stream) else { panic!() };
        assert_eq!(error.to_string(), "wrapper version 18245 instead of 1 at byte 0");
        assert_eq!((&received[..], stream.len()), (&b"GET / HTTP/1.1\r\n"[..], 0));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
        let mut decoder = WrapperDecoder { max_apdu: 100 };
        let mut stream = BytesMut::from(&frame(&[0; 101])[..8]);
        assert!(matches!(decoder.decode(&mut stream), Err(FramingError::NoFrame { .. })));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_frames_come_out(
            apdus in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(1..30_usize, 1..20),
        ) {
            let stream: Vec<u8> = apdus.iter().flat_map(|apdu| frame(apdu)).collect();
            let mut decoder = WrapperDecoder { max_apdu: 40 };
            let (mut buffer, mut out, mut rest) = (BytesMut::new(), Vec::new(), &stream[..]);
            for cut in cuts.into_iter().cycle() {
                let (segment, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                buffer.extend_from_slice(segment);
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    out.push(frame.to_vec());
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
