//! The way of a push from frame to values allocates nothing once the buffer has grown; what strangers send takes at most
//! eight times its length, in memory and in steps.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use codec::apdu::{
    self, Apdu, AttributeDescriptor, DataNotificationRepr, GetRequest, GetRequestBody, InvokeId,
    LongInvokeId, SelectedAttribute, SetRequest, SetRequestBody,
};
use codec::axdr::{Value, Writer};
use codec::cosem::{ClassId, LogicalName};
use codec::security::association::{Envelope, Outgoing, Protect};
use codec::security::counter::SendCounter;
use codec::security::keys::{AssociationKeys, KeyUse};
use codec::security::{Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl, open, seal};
use codec::session::client::{Answer, ClientSession, Config, Event, RANDOM_LEN};
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
fn a_push_and_a_request_are_written_and_sealed_without_allocating_once_buffers_have_grown() {
    let (mut body, mut plain, mut sealed, mut framed) = (vec![], vec![], vec![], vec![]);
    let mut write = |counter: u32| {
        [&mut body, &mut plain, &mut sealed, &mut framed].into_iter().for_each(Vec::clear);
        let mut writer = Writer::new(&mut body);
        writer.structure(3).octet_string(b"HXH6500005").u32(counter).null();
        let head = DataNotificationRepr { invoke_id: LongInvokeId(1), date_time: None };
        head.emit(&body, &mut plain);
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        seal(&RustCrypto, control, b"HXE00005", counter, &keys(), &plain, &mut sealed);
        WrapperRepr { source: 1, destination: 64 }.emit(&sealed, &mut framed);
    };
    write(1);
    assert_eq!(allocation_counter::measure(|| write(2)).count_total, 0);

    let (keys, mut counters) = (AssociationKeys::new(keys()), SendCounter::of_session());
    let outgoing = Outgoing { title: *b"URJ\0\0\0\0\x01", protect: Protect::AuthenticatedEncrypted };
    let mut ask = || {
        plain.clear();
        sealed.clear();
        READ.emit(&mut plain);
        let (key, envelope) = (KeyUse::Unicast, Envelope::Service);
        let invocation = counters.take().unwrap();
        outgoing.seal(&RustCrypto, &keys, key, envelope, invocation, &plain, &mut sealed).unwrap();
    };
    ask();
    // What the tag covers besides is put together for it: one piece, which is wiped.
    assert_eq!(allocation_counter::measure(ask).count_total, 1);
}

/// What a session takes for a question and its answer, after the first: the number is a fact and no bound, and one that
/// grows is looked at.
#[test]
fn a_read_in_a_session_allocates_no_more_than_it_is_known_to() {
    let mut client = ClientSession::new(Config::public(*b"HES\0\0\0\0\x01"), SendCounter::resume(0));
    client.associate(&[0x5a; RANDOM_LEN]).unwrap();
    let drive = |client: &mut ClientSession| {
        let mut told = None;
        loop {
            told = client.poll_event().or(told);
            if let Some(bound) = client.poll_reserve() {
                client.reserved(bound);
            }
            match client.poll_transmit(Duration::ZERO) {
                Some(apdu) if apdu[0] == 0x60 => client.handle_apdu(&AGREED),
                Some(apdu) => client.handle_apdu(&[0xc4, 1, apdu[2], 0, 6, 0, 0, 0xca, 0xfe]),
                None => return told,
            }
        }
    };
    assert!(matches!(drive(&mut client), Some(Event::Associated(_))));
    let GetRequestBody::Normal(attribute) = READ.body else { unreachable!() };
    let mut read = || {
        client.get(attribute).unwrap();
        assert!(matches!(drive(&mut client), Some(Event::Answered(_, Answer::Value(_)))));
    };
    read();
    let allocated = allocation_counter::measure(read);
    assert_eq!((allocated.count_total, allocated.count_current), (5, 0));
}

/// An AARE in the clear that agrees to get, set and action.
const AGREED: [u8; 43] = [
    0x61, 0x29, 0xa1, 0x09, 0x06, 0x07, 0x60, 0x85, 0x74, 0x05, 0x08, 0x01, 0x01, 0xa2, 0x03, 0x02, 0x01,
    0x00, 0xa3, 0x05, 0xa1, 0x03, 0x02, 0x01, 0x00, 0xbe, 0x10, 0x04, 0x0e, 0x08, 0x00, 0x06, 0x5f, 0x1f,
    0x04, 0x00, 0x00, 0x12, 0x14, 0x02, 0xee, 0x00, 0x07,
];

const READ: GetRequest<'_> = GetRequest {
    invoke_id: InvokeId::new(1, true, true),
    body: GetRequestBody::Normal(SelectedAttribute::whole(AttributeDescriptor {
        class: ClassId(3),
        instance: LogicalName([1, 0, 1, 8, 0, 255]),
        attribute: 2,
    })),
};

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
