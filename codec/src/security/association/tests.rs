use std::format;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::super::counter::SendCounter;
use super::super::keys::Key;
use super::super::{Keys, RustCrypto};
use super::*;
use crate::error::ErrorKind;

const CLIENT: [u8; 8] = [0x4d, 0x4d, 0x4d, 0, 0, 0xbc, 0x61, 0x4e];
const COUNTER: u32 = 0x0123_4567;
const GET: &str = "c0010000080000010000ff0200";
const INITIATE: &str = "01011000112233445566778899aabbccddeeff0000065f1f0400007e1f04b0";
const BOTH: Protect = Protect::AuthenticatedEncrypted;
const USES: [KeyUse; 3] = [KeyUse::Unicast, KeyUse::Broadcast, KeyUse::Dedicated];

/// 000102…0F and D0D1…DF, with two more.
fn keys() -> AssociationKeys {
    let count_from = |first: u8| core::array::from_fn(|index| first + index as u8);
    let mut keys =
        AssociationKeys::new(Keys::new(count_from(0), count_from(0xd0))).with_broadcast(Key::new([0xbb; 16]));
    keys.set_dedicated(Some(Key::new([0xdd; 16])));
    keys
}

fn invocation(counter: u32) -> Invocation {
    let mut counters = SendCounter::resume(counter);
    counters.reserved(counter.saturating_add(1));
    counters.take().unwrap()
}

fn sealed(protect: Protect, key: KeyUse, envelope: Envelope, counter: u32, apdu: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa5; 3];
    Outgoing { title: CLIENT, protect }
        .seal(&RustCrypto, &keys(), key, envelope, invocation(counter), apdu, &mut out)
        .unwrap();
    assert_eq!(&out[..3], [0xa5; 3]);
    out.split_off(3)
}

fn get(counter: u32) -> Vec<u8> {
    sealed(BOTH, KeyUse::Unicast, Envelope::Service, counter, &hex::decode(GET).unwrap())
}

fn incoming(protect: Protect) -> Incoming {
    Incoming::new(CLIENT, protect, RisingCounter::new())
}

fn received(incoming: &mut Incoming, apdu: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut scratch = Scratch::new();
    let received = incoming.receive(&RustCrypto, &keys(), apdu, &mut scratch)?;
    Ok(received.apdu.into_inner().to_vec())
}

#[track_caller]
fn vector(protect: Protect, plain: &str, expected: &str) {
    let plain = hex::decode(plain).unwrap();
    let apdu = sealed(protect, KeyUse::Unicast, Envelope::Service, COUNTER, &plain);
    assert_eq!(hex::encode(&apdu), expected);
    assert_eq!(received(&mut incoming(protect), &apdu), Ok(plain));
}

#[test]
fn green_book_vector_of_a_whole_glo_get_request() {
    let expected = "c81e3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b";
    vector(BOTH, GET, expected);
}

#[test]
fn green_book_vector_of_a_glo_get_request_in_the_clear() {
    vector(Protect::Authenticated, GET, &format!("c81e1001234567{GET}06725d910f9221d263877516"));
}

#[test]
fn green_book_vector_of_a_glo_initiate_request() {
    let expected = "21303001234567801302ff8a7874133d414ced25b42534d28db0047720606b175bd52211be68\
                    41db204d39ee6fdb8e356855";
    vector(BOTH, INITIATE, expected);
}

/// The encrypted-only vector is genuine, and an association has no use for it.
#[test]
fn green_book_vector_without_a_tag_is_a_downgrade() {
    let apdu = hex::decode("c8122001234567411312ff935a47566827c467bc").unwrap();
    for protect in [Protect::Authenticated, BOTH] {
        let required = protect.control(KeyUse::Unicast);
        let refused = Refusal::Control { control: SecurityControl::ENCRYPTED, required };
        assert_eq!(received(&mut incoming(protect), &apdu), Err(refused));
    }
}

#[test]
fn any_control_but_the_agreed_one_is_refused_before_a_key_is_used() {
    for protect in [Protect::Authenticated, BOTH] {
        for control in 0..=0xff {
            let mut apdu = get(1);
            apdu[2] = control;
            let control = SecurityControl(control);
            let key = if control.broadcast() { KeyUse::Broadcast } else { KeyUse::Unicast };
            let required = protect.control(key);
            let expected = if control == required {
                Refusal::Security(SecurityError::Tag)
            } else {
                Refusal::Control { control, required }
            };
            if (control, protect) != (SecurityControl::AUTHENTICATED_ENCRYPTED, BOTH) {
                assert_eq!(received(&mut incoming(protect), &apdu), Err(expected));
            }
        }
    }
}

#[test]
fn a_plain_apdu_is_no_reply() {
    for apdu in [&[0x0f, 0, 0, 0, 1, 0, 0][..], &hex::decode(INITIATE).unwrap(), &[0x63, 0]] {
        let refused = received(&mut incoming(BOTH), apdu);
        assert_eq!(refused, Err(Refusal::NotCiphered(apdu[0])));
    }
    let empty = received(&mut incoming(BOTH), &[]);
    assert_eq!(empty, Err(Refusal::Malformed(Error::new(ErrorKind::Truncated, 0))));
}

#[test]
fn the_genuine_next_apdu_is_accepted_after_forged_ones_with_the_highest_counter() {
    let mut incoming = incoming(BOTH);
    assert!(received(&mut incoming, &get(5)).is_ok());
    let mut forged = get(6);
    forged[3..7].copy_from_slice(&[0xff; 4]);
    for _ in 0..3 {
        let refused = received(&mut incoming, &forged);
        assert_eq!(refused, Err(Refusal::Security(SecurityError::Tag)));
    }
    assert_eq!(incoming.counter(KeyUse::Unicast).last(), Some(5));
    assert!(received(&mut incoming, &get(6)).is_ok());
    assert_eq!(incoming.counter(KeyUse::Unicast).last(), Some(6));
}

#[test]
fn an_equal_or_lower_counter_is_a_replay_and_a_gap_is_none() {
    let mut incoming = Incoming::new(CLIENT, BOTH, RisingCounter::after(4));
    let replay = |counter, lowest| Err(Refusal::Replay(Replay { counter, lowest: Some(lowest) }));
    assert_eq!(received(&mut incoming, &get(4)), replay(4, 5));
    assert!(received(&mut incoming, &get(5)).is_ok());
    assert_eq!(received(&mut incoming, &get(5)), replay(5, 6));
    assert!(received(&mut incoming, &get(1000)).is_ok());
    assert_eq!(received(&mut incoming, &get(999)), replay(999, 1001));
}

#[test]
fn each_key_has_a_counter_of_its_own() {
    let mut incoming = incoming(BOTH);
    for key in USES {
        for envelope in [Envelope::Service, Envelope::General] {
            let counter = if envelope == Envelope::Service { 7 } else { 8 };
            let apdu = sealed(BOTH, key, envelope, counter, &[0xc0, 1, 2]);
            assert_eq!(received(&mut incoming, &apdu), Ok(vec![0xc0, 1, 2]), "{key} {envelope:?}");
            assert!(matches!(received(&mut incoming, &apdu), Err(Refusal::Replay(_))));
        }
    }
    incoming.rekeyed(KeyUse::Dedicated, RisingCounter::new());
    let again = sealed(BOTH, KeyUse::Dedicated, Envelope::Service, 0, &[0xc0]);
    assert!(received(&mut incoming, &again).is_ok());
}

#[test]
fn tags_say_key_and_service() {
    let tag = |key, envelope| sealed(BOTH, key, envelope, 1, &[0xc4])[0];
    assert_eq!(tag(KeyUse::Unicast, Envelope::Service), 0xcc);
    assert_eq!(tag(KeyUse::Broadcast, Envelope::Service), 0xcc);
    assert_eq!(tag(KeyUse::Dedicated, Envelope::Service), 0xd4);
    assert_eq!(tag(KeyUse::Unicast, Envelope::General), 0xdb);
    assert_eq!(tag(KeyUse::Dedicated, Envelope::General), 0xdc);
    assert_eq!(sealed(BOTH, KeyUse::Broadcast, Envelope::Service, 1, &[0xc0])[2], 0x70);
}

#[test]
fn what_has_no_ciphered_form_or_no_key_is_not_sealed() {
    let outgoing = Outgoing { title: CLIENT, protect: BOTH };
    let only_global = AssociationKeys::new(Keys::new([1; 16], [2; 16]));
    let mut out = vec![];
    let mut seal = |keys: &AssociationKeys, key, apdu: &[u8]| {
        outgoing.seal(&RustCrypto, keys, key, Envelope::Service, invocation(1), apdu, &mut out)
    };
    assert_eq!(seal(&only_global, KeyUse::Dedicated, &[0xc0]), Err(SealError::NoKey(KeyUse::Dedicated)));
    assert_eq!(seal(&only_global, KeyUse::Broadcast, &[0xc0]), Err(SealError::NoKey(KeyUse::Broadcast)));
    assert_eq!(seal(&keys(), KeyUse::Unicast, &[0x0f]), Err(SealError::NoService(Some(0x0f))));
    assert_eq!(seal(&keys(), KeyUse::Unicast, &[]), Err(SealError::NoService(None)));
    assert!(out.is_empty());
    let apdu = sealed(BOTH, KeyUse::Dedicated, Envelope::Service, 1, &[0xc0]);
    let mut scratch = Scratch::new();
    let refused = incoming(BOTH).receive(&RustCrypto, &only_global, &apdu, &mut scratch);
    assert_eq!(refused, Err(Refusal::NoKey(KeyUse::Dedicated)));
}

#[test]
fn another_title_is_refused_and_a_left_out_one_is_the_known_one() {
    let mut apdu = sealed(BOTH, KeyUse::Unicast, Envelope::General, 1, &[0x0f, 1]);
    let mut other = Incoming::new(*b"HXE00005", BOTH, RisingCounter::new());
    assert_eq!(received(&mut other, &apdu), Err(Refusal::Sender));
    assert_eq!(received(&mut other, &get(1)), Err(Refusal::Security(SecurityError::Tag)));
    apdu.drain(2..10);
    apdu[1] = 0;
    assert_eq!(received(&mut incoming(BOTH), &apdu), Ok(vec![0x0f, 1]));
}

#[test]
fn the_tag_outside_must_say_what_the_content_is() {
    let mut incoming = incoming(BOTH);
    let mut changed = get(1);
    changed[0] = 0xcb;
    let refused = Refusal::Content { announced: Service::ActionRequest, found: Some(0xc0) };
    assert_eq!(received(&mut incoming, &changed), Err(refused));
    assert_eq!(received(&mut incoming, &get(1)), Ok(hex::decode(GET).unwrap()), "no replay of it");
    let reseal = |counter, plain: &[u8]| {
        let mut apdu = sealed(BOTH, KeyUse::Unicast, Envelope::General, counter, plain);
        apdu.drain(1..10);
        apdu[0] = 0xcc;
        apdu
    };
    for (counter, error) in [(2, &[0xd8, 1, 1][..]), (3, &[0x0e, 1, 6, 1])] {
        assert_eq!(received(&mut incoming, &reseal(counter, error)), Ok(error.to_vec()));
    }
    for (counter, question) in [(4, 0xc8), (5, 0xcb), (6, 0x26)] {
        let mut apdu = reseal(counter, &[0x0e, 1, 6, 1]);
        apdu[0] = question;
        let announced = Service::from_ciphered_tag(question).unwrap().1;
        let refused = Refusal::Content { announced, found: Some(0x0e) };
        assert_eq!(received(&mut incoming, &apdu), Err(refused), "no question is an error");
    }
    let empty = Refusal::Content { announced: Service::GetResponse, found: None };
    assert_eq!(received(&mut incoming, &reseal(4, &[])), Err(empty));
    assert_eq!(empty.to_string(), "nothing inside a ciphered get-response");
}

/// There is no vector; what the tag covers is written out here by itself.
#[test]
fn general_ciphering_with_a_named_key_opens_and_its_fields_are_covered() {
    let head = [&[2, 7, 7, 8][..], &CLIENT, &[0, 0, 1, 9]].concat();
    for (key, id) in [(KeyUse::Unicast, 0), (KeyUse::Broadcast, 1)] {
        let keys = keys();
        let mut content = vec![0x0f, 1, 2, 3];
        let aad = [&[0x30][..], keys.authentication(), &head].concat();
        let encryption = keys.encryption(key).unwrap();
        let tag = RustCrypto.seal(encryption, &iv(&CLIENT, 9), &aad, &mut content);
        let apdu = [&[0xdd][..], &head, &[1, 0, id, 21, 0x30, 0, 0, 0, 9], &content, &tag].concat();
        assert_eq!(received(&mut incoming(BOTH), &apdu), Ok(vec![0x0f, 1, 2, 3]));
        for bit in 0..apdu.len() * 8 {
            let mut flipped = apdu.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(received(&mut incoming(BOTH), &flipped).is_err(), "bit {bit}");
        }
        let mut wrapped = apdu.clone();
        wrapped[head.len() + 1] = 0;
        wrapped.drain(head.len() + 2..head.len() + 4);
        assert_eq!(received(&mut incoming(BOTH), &wrapped), Err(Refusal::KeyInfo));
    }
}

#[test]
fn nothing_of_an_apdu_that_is_refused_stays_in_the_buffer() {
    let (keys, mut scratch) = (keys(), Scratch::new());
    for protect in [Protect::Authenticated, BOTH] {
        let plain = [&[0xc0][..], &[0x77; 40]].concat();
        let mut apdu = sealed(protect, KeyUse::Unicast, Envelope::Service, 1, &plain);
        *apdu.last_mut().unwrap() ^= 1;
        let refused = incoming(protect).receive(&RustCrypto, &keys, &apdu, &mut scratch);
        assert_eq!(refused, Err(Refusal::Security(SecurityError::Tag)));
        assert!(scratch.0.iter().all(|&byte| byte == 0));
        *apdu.last_mut().unwrap() ^= 1;
        let opened = incoming(protect).receive(&RustCrypto, &keys, &apdu, &mut scratch);
        assert!(opened.is_ok());
        assert!(!scratch.0.windows(16).any(|window| window == keys.authentication()));
    }
}

#[test]
fn what_was_received_is_not_printed() {
    let (mut incoming, mut scratch) = (incoming(BOTH), Scratch::new());
    let apdu = get(9);
    let received = incoming.receive(&RustCrypto, &keys(), &apdu, &mut scratch).unwrap();
    assert_eq!(format!("{received:?}"), "Received { key: Unicast, counter: 9, .. }");
}

proptest! {
    #[test]
    fn what_is_sealed_is_received_once_and_never_with_a_flipped_bit_or_a_cut(
        tag_only: bool,
        key in prop::sample::select(&USES[..]),
        general: bool,
        counter in 0..u32::MAX,
        service in prop::sample::select(Service::ALL),
        rest in prop::collection::vec(any::<u8>(), 0..200),
        bit in any::<prop::sample::Index>(),
    ) {
        let protect = if tag_only { Protect::Authenticated } else { BOTH };
        let envelope = if general { Envelope::General } else { Envelope::Service };
        let plain = [&[service.tag()][..], &rest].concat();
        let apdu = sealed(protect, key, envelope, counter, &plain);
        let mut incoming = incoming(protect);
        let mut flipped = apdu.clone();
        let bit = bit.index(apdu.len() * 8);
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        let mut scratch = Scratch::new();
        let refused = incoming.receive(&RustCrypto, &keys(), &flipped, &mut scratch);
        // No tag covers the first byte: a genuine error is heard as that error under that of another answer.
        let is_error = service == Service::ConfirmedServiceError && envelope == Envelope::Service;
        let answer = Service::from_ciphered_tag(flipped[0]).is_some_and(|(_, service)| service.is_answer());
        if bit < 8 && is_error && answer {
            prop_assert_eq!(refused.unwrap().apdu.into_inner(), &plain[..]);
            return Ok(());
        }
        prop_assert!(refused.is_err());
        for cut in 0..apdu.len() {
            prop_assert!(received(&mut incoming, &apdu[..cut]).is_err());
        }
        // Not even where only the first byte was changed, which the tag does not cover.
        prop_assert_eq!(received(&mut incoming, &apdu), Ok(plain));
        let again = received(&mut incoming, &apdu);
        prop_assert!(matches!(again, Err(Refusal::Replay(_))));
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), tag: u8) {
        let tagged = [&[tag][..], &bytes].concat();
        for input in [&bytes, &tagged] {
            prop_assert!(received(&mut incoming(BOTH), input).is_err());
        }
    }
}
