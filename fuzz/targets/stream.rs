//! What must hold of the bytes of a connection, as the listener takes them apart: shared by the fuzz target and the test that
//! replays its corpus. The first byte says how the rest is cut into what arrives at once.

use bytes::BytesMut;

use crate::framing::{Item, StreamDecoder};

/// Longest APDU taken.
const MAX_APDU: usize = 2048;
/// Most bytes of memory at once, and most steps, for each byte that came; a piece that arrives counts as a byte.
const PER_BYTE: u64 = 8;
/// What the first element of a list takes, and the list of places at which a frame may begin.
const FIRST: u64 = 2048;

/// Nothing that came is lost or made up: what is handed out is what came, in order, but for what a vendor said before a frame,
/// fill of HDLC and what is beyond the evidence that is kept. Memory and steps are in proportion to what came.
pub(crate) fn stream(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (mut steps, mut pieces) = (0, 0);
    let taken = allocation_counter::measure(|| (steps, pieces) = decode(bytes, usize::from(cut) + 1));
    let most = FIRST + PER_BYTE * (bytes.len() as u64 + pieces);
    assert!(taken.bytes_max <= most, "{} bytes at once for {}", taken.bytes_max, bytes.len());
    assert!(steps <= most, "{steps} steps for {} bytes in {pieces} pieces", bytes.len());
}

fn decode(bytes: &[u8], cut: usize) -> (u64, u64) {
    let (mut decoder, mut buffer) = (StreamDecoder::new(MAX_APDU), BytesMut::new());
    let (mut handed_out, mut pieces) = (0, 0);
    for piece in bytes.chunks(cut) {
        buffer.extend_from_slice(piece);
        pieces += 1;
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Item::Push(push, _) | Item::Link(push))) => {
                    assert!(!push.is_empty());
                    handed_out += push.len();
                    pieces += 1;
                }
                Ok(Some(Item::Part)) => pieces += 1,
                Ok(None) => break,
                Err(refused) => {
                    assert!(buffer.is_empty() && bytes.len() >= refused.received.len());
                    return (decoder.steps(), pieces);
                }
            }
        }
        assert!(decoder.held() <= decoder.most_held());
        assert!(decoder.begun(&buffer).is_none_or(|length| length > buffer.len() && length <= MAX_APDU + 8));
    }
    handed_out += decoder.end(&buffer).map_or(0, |(left, _)| left.len());
    // A flag that closes one frame and opens the next is handed out with both.
    assert!(handed_out <= bytes.len() + usize::try_from(pieces).unwrap_or(usize::MAX));
    (decoder.steps(), pieces)
}
