//! What bytes of strangers may take: memory of at most [`PER_BYTE`] times their length, and as many steps, counted and not
//! timed. Shared by the fuzz target, by the test that replays its corpus and by the tests of the worst streams.

use codec::apdu::block_transfer::{Assembly, BlockControl, BlockTransferRepr};
use codec::apdu::{self, Apdu};
use codec::hdlc::{self, Deframer, Step};
use codec::mbus;
use codec::security::association::{Incoming, Protect};
use codec::security::counter::RisingCounter;
use codec::security::keys::AssociationKeys;
use codec::security::{Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl, open, seal};
use codec::wrapper::{Wrapper, WrapperRepr};

/// Most bytes of memory at once, and most steps, for each byte that came.
pub(crate) const PER_BYTE: u64 = 8;
/// What the first element of a list or a map takes, whatever came.
pub(crate) const FIRST: u64 = 512;
/// Most bytes that are put together to an APDU.
const MAX_APDU: usize = 1 << 16;

/// The stream through everything that a stream goes through: each way within the bounds.
#[track_caller]
pub(crate) fn bounds(stream: &[u8]) {
    for take_in in [wrappers, segments, long_frames, blocks, ciphered] {
        let mut steps = 0;
        let taken = allocation_counter::measure(|| steps = take_in(stream));
        let most = FIRST + PER_BYTE * stream.len() as u64;
        assert!(taken.bytes_max <= most, "{} bytes at once for {}", taken.bytes_max, stream.len());
        assert!(steps <= most, "{steps} steps for {} bytes", stream.len());
    }
}

/// Frames in the wrapper, and the whole as one APDU; a step is a byte that was given to be read.
fn wrappers(stream: &[u8]) -> u64 {
    let (mut rest, mut steps) = (stream, 0);
    let mut assembly = Assembly::new(MAX_APDU);
    while let Ok(frame) = Wrapper::new_checked(rest) {
        apdu(frame.apdu(), &mut assembly);
        steps += frame.total_len() as u64;
        rest = &rest[frame.total_len()..];
    }
    apdu(stream, &mut Assembly::new(MAX_APDU));
    steps + stream.len() as u64
}

fn apdu(apdu: &[u8], assembly: &mut Assembly) {
    match apdu::parse(apdu) {
        Ok(Apdu::GeneralBlockTransfer(block)) => _ = assembly.push(&block),
        Ok(Apdu::GeneralGlo(glo)) => {
            let keys = Keys::new([7; 16], [9; 16]);
            let mut scratch = Scratch::new();
            let opened = open(&RustCrypto, &glo, &keys, Policy::Transport, &mut scratch);
            if let Ok(Opened::Unauthenticated(plain)) = opened {
                let _read_or_refused = apdu::parse(plain);
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// Frames of HDLC with their segments; a step is a byte that was looked at to find a frame.
fn segments(stream: &[u8]) -> u64 {
    let (mut deframer, mut reassembly, mut information) =
        (Deframer::default(), hdlc::Reassembly::new(MAX_APDU), Vec::new());
    let mut rest = stream;
    while !rest.is_empty() {
        let length = match deframer.next(rest) {
            Step::Frame { frame, length, .. } => {
                let _whole_or_not = reassembly.push(&frame, &mut information);
                length
            }
            Step::Skip { length, .. } => length,
            Step::More(_) => break,
        };
        rest = &rest[length..];
    }
    deframer.examined() as u64
}

/// Long frames of M-Bus; a step is a byte of one.
fn long_frames(stream: &[u8]) -> u64 {
    let (mut reassembly, mut apdu, mut rest) = (mbus::Reassembly::new(), Vec::new(), stream);
    while let Ok(frame) = mbus::Frame::new_checked(rest) {
        let _whole_or_not = reassembly.push(&frame, &mut apdu);
        rest = &rest[frame.total_len()..];
    }
    (stream.len() - rest.len()) as u64
}

/// Blocks of a general-block-transfer of three bytes each, as long as their frame would be; a step is a block that is
/// looked for, or goes to its place.
fn blocks(stream: &[u8]) -> u64 {
    let (mut assembly, mut steps) = (Assembly::new(MAX_APDU), 0);
    let mut written = Vec::with_capacity(stream.len().min(64));
    for step in stream.chunks_exact(8) {
        let control = BlockControl::new(step[1] & 1 == 1, true, 0);
        let number = u16::from_be_bytes([step[2] & 0x0f, step[0]]);
        written.clear();
        BlockTransferRepr { control, number, acknowledged: 0 }
            .emit(&step[4..4 + usize::from(step[3] & 3)], &mut written);
        let before = assembly.in_sequence();
        if let Ok(Apdu::GeneralBlockTransfer(block)) = apdu::parse(&written) {
            let _taken_or_refused = assembly.push(&block);
        }
        steps += 1 + u64::from(assembly.in_sequence() - before);
    }
    steps
}

/// The bytes as the content of a push, and of an answer in an association, with a right tag and a wrong one; a step is a byte
/// that a tag covers.
fn ciphered(stream: &[u8]) -> u64 {
    let (keys, title, mut sealed) = (Keys::new([7; 16], [9; 16]), *b"FUZ00001", Vec::new());
    seal(&RustCrypto, SecurityControl::AUTHENTICATED_ENCRYPTED, &title, 1, &keys, stream, &mut sealed);
    let mut steps = 0;
    for spoilt in [true, false] {
        if let Some(last) = sealed.last_mut() {
            *last ^= 1;
        }
        let mut scratch = Scratch::new();
        if let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(&sealed) {
            let opened = open(&RustCrypto, &glo, &keys, Policy::Authenticated, &mut scratch);
            assert_eq!(opened.is_err(), spoilt);
        }
        let all = AssociationKeys::new(keys.clone());
        let mut incoming = Incoming::new(title, Protect::AuthenticatedEncrypted, RisingCounter::new());
        let mut scratch = Scratch::new();
        assert_eq!(incoming.receive(&RustCrypto, &all, &sealed, &mut scratch).is_err(), spoilt);
        steps += 2 * sealed.len() as u64;
    }
    steps
}

/// A block of a general-block-transfer in a frame of its own.
fn block_frame(number: u16, data: &[u8], out: &mut Vec<u8>) {
    let mut apdu = vec![];
    let control = BlockControl::new(false, true, 0);
    BlockTransferRepr { control, number, acknowledged: 0 }.emit(data, &mut apdu);
    WrapperRepr { source: 1, destination: 64 }.emit(&apdu, out);
}

/// Streams that were made to take as much as can be.
#[allow(dead_code, reason = "of use to the tests alone")]
pub(crate) fn worst() -> Vec<Vec<u8>> {
    let mut worst = vec![];
    // One byte to a block, in order and, as far as is taken, each but the first.
    for first in [1, 2] {
        let mut blocks = vec![];
        (first..2000).for_each(|number| block_frame(number, &[7], &mut blocks));
        worst.push(blocks);
    }
    let mut segments = vec![];
    for number in 0..200_u8 {
        let frame = hdlc::FrameRepr {
            segmented: true,
            destination: hdlc::Address::one(1),
            source: hdlc::Address::one(1),
            control: hdlc::Control::Information { send: number & 7, receive: 0, poll: false },
        };
        frame.emit(&[7], &mut segments);
    }
    worst.push(segments);
    // Frames within frames, each with a right head and two kilobytes behind it whose check is wrong.
    let mut head = vec![0xa7, 0xfa, 3, 3, 0x13];
    head.extend_from_slice(&hdlc::check_sequence(&head).to_le_bytes());
    let unit = [&[hdlc::FLAG][..], &head, &[0; 1]].concat();
    worst.extend([unit.repeat(500), vec![hdlc::FLAG; 4000], [hdlc::FLAG, 0xa7, 0xff].repeat(1300)]);
    worst
}
