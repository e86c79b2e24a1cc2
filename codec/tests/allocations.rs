//! The way of a push from frame to values allocates nothing once the buffer has grown; what strangers send takes at most
//! eight times its length, in memory and in steps.
#![allow(clippy::unwrap_used)]

use codec::apdu::{self, Apdu, DataNotificationRepr, LongInvokeId, SetRequest, SetRequestBody};
use codec::axdr::{Value, Writer};
use codec::security::{Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl, open, seal};
use codec::wrapper::{Wrapper, WrapperRepr};
use proptest::prelude::*;

#[path = "../../fuzz/targets/bounds.rs"]
mod bounds_target;

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

#[test]
fn memory_and_steps_for_a_stream_are_at_most_eight_times_its_length_where_it_is_worst() {
    for stream in bounds_target::worst() {
        bounds_target::bounds(&stream);
    }
    for control in [0x10, 0x20, 0x30] {
        bounds_target::bounds(&frame(SecurityControl(control)));
    }
}

#[test]
fn the_bounds_corpus_holds() {
    for stream in corpus() {
        bounds_target::bounds(&stream);
    }
}

proptest! {
    #[test]
    fn memory_and_steps_for_any_stream_are_at_most_eight_times_its_length(
        source in prop::sample::select(corpus()),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
    ) {
        let mut stream = source;
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        bounds_target::bounds(&stream);
    }
}

/// The committed inputs of the fuzz targets that take streams and APDUs, and of the one for the bounds.
fn corpus() -> Vec<Vec<u8>> {
    let folder = |name| format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = ["bounds", "wrapper", "apdu", "association", "hdlc", "mbus", "axdr"]
        .into_iter()
        .flat_map(|name| std::fs::read_dir(folder(name)).unwrap());
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).filter(|bytes| !bytes.is_empty()).collect()
}
