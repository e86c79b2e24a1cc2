//! The way of a push from frame to values allocates nothing once the buffer has grown; what strangers send takes at most
//! eight times its length.
#![allow(clippy::unwrap_used)]

use codec::apdu::block_transfer::{Assembly, BlockControl, BlockTransferRepr};
use codec::apdu::{self, Apdu, DataNotificationRepr, LongInvokeId, SetRequest, SetRequestBody};
use codec::axdr::{Value, Writer};
use codec::hdlc::{self, Deframer, Step};
use codec::mbus;
use codec::security::{Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl, open, seal};
use codec::wrapper::{Wrapper, WrapperRepr};
use proptest::prelude::*;

/// What the first element of a list or a map takes, whatever came.
const FIRST: u64 = 512;
/// Most bytes that are put together to an APDU.
const MAX_APDU: usize = 1 << 16;

fn keys() -> Keys {
    Keys::new([7; 16], [9; 16])
}

fn frame(control: SecurityControl) -> Vec<u8> {
    let (mut body, mut apdu, mut sealed, mut frame) = (vec![], vec![], vec![], vec![]);
    let mut writer = Writer::new(&mut body);
    writer.structure(5).octet_string(b"HXH6500005").null().f32_bits(1).bit_string(128, &[1; 16]);
    writer.compact_array(&[2, 2, 0x11, 0x12], &[1, 0, 2, 3, 0, 4]);
    let head = DataNotificationRepr { invoke_id: LongInvokeId(1), date_time: None };
    head.emit(&body, &mut apdu);
    seal(&RustCrypto, control, b"HXE00005", 1, &keys(), &apdu, &mut sealed);
    WrapperRepr { source: 1, destination: 64 }.emit(&sealed, &mut frame);
    frame
}

fn values(value: Value<'_>) -> usize {
    match value {
        Value::Array(inner) | Value::Structure(inner) | Value::CompactArray(inner) => {
            inner.iter().map(values).sum()
        }
        _ => 1,
    }
}

fn decode(frame: &[u8], keys: &Keys, scratch: &mut Scratch) -> usize {
    let frame = Wrapper::new_checked(frame).unwrap();
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(frame.apdu()) else {
        panic!("not general-glo-ciphering");
    };
    let plaintext = match open(&RustCrypto, &glo, keys, Policy::Transport, scratch).unwrap() {
        Opened::Authentic(plaintext) => plaintext.into_inner(),
        Opened::Unauthenticated(plaintext) => plaintext,
    };
    let Ok(Apdu::DataNotification(push)) = apdu::parse(plaintext) else {
        panic!("not a data-notification");
    };
    values(push.body())
}

#[test]
fn a_push_is_decoded_without_allocating() {
    let mut scratch = Scratch::with_capacity(256);
    for control in [0x10, 0x20, 0x30] {
        let (frame, keys) = (frame(SecurityControl(control)), keys());
        let allocated = allocation_counter::measure(|| {
            assert_eq!(decode(&frame, &keys, &mut scratch), 8);
        });
        assert_eq!(allocated.count_total, 0, "control 0x{control:02x}");
    }
}

#[test]
fn a_refused_push_allocates_nothing_either() {
    let mut frame = frame(SecurityControl(0x30));
    *frame.last_mut().unwrap() ^= 1;
    let (keys, mut scratch) = (keys(), Scratch::with_capacity(256));
    let allocated = allocation_counter::measure(|| {
        let frame = Wrapper::new_checked(&frame).unwrap();
        let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(frame.apdu()) else {
            panic!("not general-glo-ciphering");
        };
        assert!(open(&RustCrypto, &glo, &keys, Policy::Authenticated, &mut scratch).is_err());
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_list_is_checked_and_walked_without_allocating() {
    let name = [0, 8, 0, 0, 1, 0, 0, 255, 2, 0];
    let request = [&[0xc1, 4, 0xc1, 2][..], &name, &name, &[2, 0x11, 7, 0x12, 0, 9]].concat();
    let allocated = allocation_counter::measure(|| {
        let Ok(Apdu::SetRequest(SetRequest { body: SetRequestBody::WithList(pairs), .. })) =
            apdu::parse(&request)
        else {
            panic!("not a list");
        };
        let clocks = pairs.iter().filter(|(name, _)| name.attribute.class.0 == 8);
        assert_eq!(clocks.map(|(_, data)| values(data.value())).sum::<usize>(), 2);
    });
    assert_eq!(allocated.count_total, 0);
}

/// Everything that a stream from a stranger goes through, with buffers that have not grown yet.
fn take_in(stream: &[u8]) {
    let mut rest = stream;
    let mut assembly = Assembly::new(MAX_APDU);
    while let Ok(frame) = Wrapper::new_checked(rest) {
        take_in_apdu(frame.apdu(), &mut assembly);
        rest = &rest[frame.total_len()..];
    }
    take_in_apdu(stream, &mut Assembly::new(MAX_APDU));
}

fn take_in_apdu(apdu: &[u8], assembly: &mut Assembly) {
    match apdu::parse(apdu) {
        Ok(Apdu::GeneralBlockTransfer(block)) => _ = assembly.push(&block),
        Ok(Apdu::GeneralGlo(glo)) => {
            let mut scratch = Scratch::new();
            let opened = open(&RustCrypto, &glo, &keys(), Policy::Transport, &mut scratch);
            if let Ok(Opened::Unauthenticated(plain)) = opened {
                let _read_or_refused = apdu::parse(plain);
            }
        }
        Ok(_) | Err(_) => {}
    }
}

fn take_in_hdlc(stream: &[u8]) {
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
            Step::More(_) => return,
        };
        rest = &rest[length..];
    }
}

fn take_in_mbus(stream: &[u8]) {
    let (mut reassembly, mut apdu, mut rest) = (mbus::Reassembly::new(), Vec::new(), stream);
    while let Ok(frame) = mbus::Frame::new_checked(rest) {
        let _whole_or_not = reassembly.push(&frame, &mut apdu);
        rest = &rest[frame.total_len()..];
    }
}

#[track_caller]
fn bounded(stream: &[u8]) {
    for take_in in [take_in, take_in_hdlc, take_in_mbus] {
        let allocated = allocation_counter::measure(|| take_in(stream));
        let most = FIRST + 8 * stream.len() as u64;
        assert!(allocated.bytes_max <= most, "{} bytes for {}", allocated.bytes_max, stream.len());
    }
}

/// A block of a general-block-transfer in a frame of its own.
fn block_frame(number: u16, data: &[u8], out: &mut Vec<u8>) {
    let mut apdu = vec![];
    let control = BlockControl::new(false, true, 0);
    BlockTransferRepr { control, number, acknowledged: 0 }.emit(data, &mut apdu);
    WrapperRepr { source: 1, destination: 64 }.emit(&apdu, out);
}

#[test]
fn memory_for_a_stream_is_at_most_eight_times_its_length_where_it_is_worst() {
    // One byte to a block, in order and, as far as is taken, each but the first.
    for first in [1, 2] {
        let mut blocks = vec![];
        (first..2000).for_each(|number| block_frame(number, &[7], &mut blocks));
        bounded(&blocks);
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
    bounded(&segments);
    for control in [0x10, 0x20, 0x30] {
        bounded(&frame(SecurityControl(control)));
    }
}

proptest! {
    #[test]
    fn memory_for_any_stream_is_at_most_eight_times_its_length(
        source in prop::sample::select(corpus()),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
    ) {
        let mut stream = source;
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        bounded(&stream);
    }
}

/// The committed inputs of the fuzz targets that take streams and APDUs.
fn corpus() -> Vec<Vec<u8>> {
    let folder = |name| format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = ["wrapper", "apdu", "association", "hdlc", "mbus", "axdr"]
        .into_iter()
        .flat_map(|name| std::fs::read_dir(folder(name)).unwrap());
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).filter(|bytes| !bytes.is_empty()).collect()
}
