//! What a meter tells by itself that is no data-notification, in each form that it may have; and what is no push at all. The
//! table of `docs/dlms-differences.md` in tests.

use bytes::Bytes;
use codec::apdu::{AttributeDescriptor, EventNotification};
use codec::axdr::{Data, DateTime, Writer};
use codec::cosem::{ClassId, LogicalName};
use codec::security::association::{Envelope, Outgoing, Protect};
use codec::security::ciphering::{self, MessageKey};
use codec::security::counter::{Invocation, SendCounter};
use codec::security::keys::{AssociationKeys, Key, KeyUse};
use codec::security::{Keys, RustCrypto, SecurityControl};
use ingest::{Disposition, Framing, Received};
use model::{Channel, EventWord, Fact, Quality, QuarantineReason, Row, Source};

use crate::frames::{Meter, june};
use crate::world::{World, within};

const EVENT_WORD: (u16, [u8; 6], i8) = (1, [0, 0, 94, 91, 18, 255], 2);
const VOLTAGE: (u16, [u8; 6], i8) = (3, [1, 0, 12, 7, 0, 255], 2);

/// Noon of 5 June 2026 in India.
const NOON: DateTime = DateTime::new(2026, 6, 5, 5, 12, 0, 0, 0, 330, 0);

fn event((class, instance, attribute): (u16, [u8; 6], i8), time: Option<DateTime>, value: &[u8]) -> Vec<u8> {
    let attribute = AttributeDescriptor { class: ClassId(class), instance: LogicalName(instance), attribute };
    let mut out = Vec::new();
    EventNotification { time, attribute, value: Data::new(value).unwrap() }.emit(&mut out);
    out
}

/// An event status word with this first byte.
pub(crate) fn word(first_byte: u8) -> Vec<u8> {
    let (mut value, mut bits) = (Vec::new(), [0; 16]);
    bits[0] = first_byte;
    Writer::new(&mut value).bit_string(128, &bits);
    event(EVENT_WORD, None, &value)
}

fn voltage(time: Option<DateTime>) -> Vec<u8> {
    let mut value = Vec::new();
    Writer::new(&mut value).u16(2301);
    event(VOLTAGE, time, &value)
}

fn invocation(counter: u32) -> Invocation {
    let mut counters = SendCounter::resume(counter);
    counters.reserved(counter + 1);
    counters.take().unwrap()
}

fn keys(meter: &Meter) -> AssociationKeys {
    let mut keys = AssociationKeys::new(Keys::new(meter.guek, meter.gak))
        .with_broadcast(Key::new([0xbb; 16]))
        .with_master(Key::new([0xcc; 16]));
    keys.set_dedicated(Some(Key::new([0xdd; 16])));
    keys
}

/// The ciphered form of its service, or general, under this key.
pub(crate) fn sealed(meter: &Meter, key: KeyUse, envelope: Envelope, counter: u32, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Outgoing { title: meter.title.0, protect: Protect::AuthenticatedEncrypted }
        .seal(&RustCrypto, &keys(meter), key, envelope, invocation(counter), plain, &mut out)
        .unwrap();
    out
}

fn general_ciphering(meter: &Meter, key: MessageKey<'_>, counter: u32, plain: &[u8]) -> Vec<u8> {
    let head = ciphering::Head {
        transaction_id: &[1],
        originator: &meter.title.0,
        recipient: &[],
        date_time: &[],
        other_information: &[],
    };
    let (protect, keys) = (Protect::AuthenticatedEncrypted, keys(meter));
    let mut out = Vec::new();
    ciphering::seal(&RustCrypto, protect, &head, key, &keys, invocation(counter), plain, &mut out).unwrap();
    out
}

/// With the title left out.
pub(crate) fn untitled(mut general_glo: Vec<u8>) -> Vec<u8> {
    general_glo.drain(2..10);
    general_glo[1] = 0;
    general_glo
}

/// What becomes of an APDU that comes over a link of this meter, or of nobody.
async fn told(world: &World, link: Option<&Meter>, apdu: Vec<u8>) -> Disposition {
    let received = Received {
        source: Source::Mqtt,
        received_at: june(5, 12, 0),
        framing: Framing::Apdu,
        bytes: Bytes::from(apdu),
        identity: link.map(|meter| meter.title),
    };
    within(world.pipeline.submit(received).await.unwrap()).await.unwrap().disposition
}

/// The detail of the last frame in quarantine.
fn detail(world: &World) -> String {
    let last = world.journaled().into_iter().rev().find_map(|(fact, _)| match fact {
        Fact::Quarantined(kept) => Some(kept.detail),
        _ => None,
    });
    last.unwrap()
}

fn words(world: &World) -> Vec<EventWord> {
    let facts = world.journaled().into_iter();
    facts
        .filter_map(|(fact, _)| match fact {
            Fact::Frame(frame) => frame.event_word,
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_taken_in_whatever_form_it_has_and_its_counter_is_one_of_the_pushes() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let (link, nobody) = (Some(&meter), None);
    let glo = |counter, apdu: &[u8]| meter.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, counter, apdu);
    let forms = [
        (nobody, glo(1, &word(1))),
        (link, untitled(glo(2, &word(2)))),
        (link, sealed(&meter, KeyUse::Unicast, Envelope::Service, 3, &word(3))),
        (nobody, general_ciphering(&meter, MessageKey::Unicast, 4, &word(4))),
    ];
    for (number, (link, apdu)) in (1..).zip(&forms) {
        assert_eq!(told(&world, *link, apdu.clone()).await, Disposition::Accepted, "form {number}");
        assert_eq!(words(&world).last().unwrap().0[0], number);
        assert_eq!(told(&world, *link, apdu.clone()).await, Disposition::Redelivered, "form {number}");
        // Under this counter it said something else before.
        let other = glo(number.into(), &word(0x80));
        let reused = Disposition::Quarantined(QuarantineReason::CounterReused);
        assert_eq!(told(&world, nobody, other).await, reused, "form {number}");
        let mut flipped = apdu.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let wrong = Disposition::Quarantined(QuarantineReason::TagMismatch);
        assert_eq!(told(&world, *link, flipped).await, wrong, "form {number}");
    }
    // A data-notification may come so too.
    let block = meter.block(june(5, 11, 30), 100);
    let general = general_ciphering(&meter, MessageKey::Unicast, 5, &block);
    assert_eq!(told(&world, nobody, general).await, Disposition::Accepted);
    assert_eq!(told(&world, link, untitled(glo(6, &block))).await, Disposition::Accepted);
    let window = world.look(|fold| fold.counter_windows().next()).await.unwrap().1;
    assert_eq!(window.high, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_the_clear_is_the_links_and_is_taken_where_the_policy_takes_that() {
    let (strict, loose) = (Meter::new(1), Meter::of_transport(2));
    let world = World::of(&[&strict, &loose]).await;
    let refused = |reason| Disposition::Quarantined(reason);
    assert_eq!(told(&world, Some(&loose), word(7)).await, Disposition::Accepted);
    assert_eq!(words(&world).last().unwrap().0[0], 7);
    assert_eq!(told(&world, Some(&strict), word(7)).await, Disposition::Redelivered, "the same bytes");
    assert_eq!(told(&world, Some(&strict), word(8)).await, refused(QuarantineReason::PolicyRefused));
    assert_eq!(told(&world, None, word(9)).await, refused(QuarantineReason::UnknownTitle));
    assert_eq!(
        detail(&world),
        "event-notification-request names no sender, and the link belongs to no meter"
    );
    let stranger = Meter::new(3);
    assert_eq!(told(&world, Some(&stranger), word(10)).await, refused(QuarantineReason::UnknownTitle));
    assert_eq!(detail(&world), format!("system title {} is not registered", stranger.title));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_instantaneous_value_is_a_reading_and_one_that_the_profile_does_not_have_is_named() {
    let meter = Meter::of_transport(1);
    let world = World::of(&[&meter]).await;
    let link = Some(&meter);
    assert_eq!(told(&world, link, voltage(Some(NOON))).await, Disposition::Accepted);
    let rows = world.rows().await;
    let read = rows.iter().find_map(|row| match row {
        Row::Instant(row) => Some((row.values.get(Channel::VoltageDv), row.quality)),
        _ => None,
    });
    let (value, quality) = read.unwrap();
    assert_eq!((value, quality.has(Quality::UNAUTHENTICATED)), (Some(2301), true));
    let mismatch = Disposition::Quarantined(QuarantineReason::ProfileMismatch);
    assert_eq!(told(&world, link, voltage(None)).await, mismatch, "without a time");
    let unknown = event((3, [1, 0, 99, 7, 0, 255], 2), Some(NOON), &[0x11, 1]);
    assert_eq!(told(&world, link, unknown).await, mismatch);
    let said = detail(&world);
    assert!(said.contains("1.0.99.7.0.255") && said.contains("events or instantaneous values"), "{said}");
    let short = event(EVENT_WORD, None, &[4, 8, 0xff]);
    assert_eq!(told(&world, link, short).await, mismatch);
    let far = DateTime::new(2031, 6, 5, 4, 12, 0, 0, 0, 330, 0);
    let ahead = Disposition::Quarantined(QuarantineReason::FarAhead);
    assert_eq!(told(&world, link, voltage(Some(far))).await, ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_here_is_kept_with_its_reason() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let (link, own) = (Some(&meter), Key::new([0x77; 16]));
    let plain = word(1);
    let [first, second] =
        [9, 10].map(|counter| sealed(&meter, KeyUse::Unicast, Envelope::Service, counter, &plain));
    let general_glo = meter.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, 9, &plain);
    let general = |key: MessageKey<'_>| general_ciphering(&meter, key, 9, &plain);
    let dedicated = |envelope| sealed(&meter, KeyUse::Dedicated, envelope, 9, &plain);
    let stranger = Meter::new(2);
    let cases = [
        (None, first, QuarantineReason::UnknownTitle, "names no sender"),
        (None, untitled(general_glo.clone()), QuarantineReason::UnknownTitle, "without a system title"),
        (Some(&stranger), second, QuarantineReason::UnknownTitle, "is not registered"),
        (
            None,
            general_ciphering(&stranger, MessageKey::Unicast, 9, &plain),
            QuarantineReason::UnknownTitle,
            "originator",
        ),
        (
            Some(&stranger),
            general(MessageKey::Unicast),
            QuarantineReason::IdentityMismatch,
            "the link belongs to",
        ),
        (link, general(MessageKey::Broadcast), QuarantineReason::Undecodable, "broadcast key"),
        (link, general(MessageKey::Wrapped(&own)), QuarantineReason::Undecodable, "master key"),
        (link, dedicated(Envelope::General), QuarantineReason::Unasked, "general-ded-ciphering"),
        (link, dedicated(Envelope::Service), QuarantineReason::Unasked, "ded-event-notification-request"),
        (link, vec![0xdd, 0, 8, 1, 2], QuarantineReason::Undecodable, "truncated"),
        (link, vec![0xca, 0x1e, 0x30], QuarantineReason::Undecodable, "truncated"),
        (link, vec![0xdb, 0, 0x1e], QuarantineReason::Undecodable, "truncated"),
        (link, vec![0xd9, 0, 0, 0, 0], QuarantineReason::Undecodable, "0xd9"),
        (link, vec![0xdf, 0, 0, 0, 0], QuarantineReason::Undecodable, "0xdf"),
    ];
    for (link, apdu, reason, says) in cases {
        let tag = apdu[0];
        assert_eq!(told(&world, link, apdu).await, Disposition::Quarantined(reason), "{tag:02x} {says}");
        let said = detail(&world);
        assert!(said.to_lowercase().contains(says), "{tag:02x}: {said}");
    }
    assert!(words(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_into_an_association_is_unasked_and_said_by_name_even_under_the_keys() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let unasked = Disposition::Quarantined(QuarantineReason::Unasked);
    let clock = "0008 0000010000ff 02 00".replace(' ', "");
    for (hex, says) in [
        (format!("c001c1{clock}"), "get-request"),
        (format!("c101c1{clock}0f00"), "set-request"),
        (format!("c301c1{clock}"), "action-request"),
        ("c401c1000600000001".to_owned(), "get-response"),
        ("c501c100".to_owned(), "set-response"),
        ("c701c10000".to_owned(), "action-response"),
        ("d80101".to_owned(), "exception-response service-not-allowed"),
        ("0e010601".to_owned(), "confirmed-service-error"),
        ("104000000700".to_owned(), "data-notification-confirm"),
        ("0800065f1f040000101402ee0007".to_owned(), "initiate-response"),
        ("6303800100".to_owned(), "RLRE"),
        ("6203800100".to_owned(), "RLRQ"),
        ("cc0d30000000010102030405060708".to_owned(), "glo-get-response"),
    ] {
        let apdu = hex::decode(&hex).unwrap();
        assert_eq!(told(&world, None, apdu).await, unasked, "{hex}");
        let said = detail(&world);
        assert!(said.contains(says) && said.contains("nobody asked for"), "{hex}: {said}");
    }
    let response = hex::decode("c401c1000600000001").unwrap();
    let under = meter.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, 3, &response);
    assert_eq!(told(&world, None, under).await, unasked);
    assert_eq!(detail(&world), "in plaintext: get-response, which nobody asked for");
}
