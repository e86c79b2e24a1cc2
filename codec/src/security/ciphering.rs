//! General-ciphering: APDUs whose head says who sends to whom, and under which key.
//!
//! | key info | key | who has it |
//! |---|---|---|
//! | identified, 0 | the global unicast key | [`AssociationKeys::new`] |
//! | identified, 1 | the global broadcast key | [`AssociationKeys::with_broadcast`] |
//! | wrapped, 0 | a key of this message alone, which travels with it under the master key | [`AssociationKeys::with_master`] |
//! | agreed | a key that both sides derive: suites 1 and 2 only | refused by name |
//! | none | not said | refused by name |
//!
//! The tag covers control ‖ authentication key ‖ the five fields of the head as they stand, with their lengths, and the
//! content where that is not encrypted. The key info is outside of it: another key opens nothing.
//!
//! Inside an association such an APDU comes in through [`Incoming::receive`](super::association::Incoming::receive) like any
//! other. A key that travels with its message proves no freshness of its own, so what is under it counts in the stream of
//! the global unicast key: a recorded one is a replay there. A push that comes without an association is opened by [`open`],
//! which takes the unicast key only: whoever keeps the keys of a million meters has no master key at hand.

use alloc::vec::Vec;

use zeroize::Zeroize;

use super::association::{Protect, SealError, additional_data};
use super::counter::Invocation;
use super::keys::{AssociationKeys, Key, KeyUse};
use super::{
    CryptoProvider, Keys, Opened, Policy, Protection, Scratch, SecurityError, TAG_LEN, admit, iv,
    open_covered,
};
use crate::apdu::SYSTEM_TITLE_LEN;
use crate::apdu::ciphered::{self, GENERAL_CIPHERING, GeneralCiphering, KeyInfo};
use crate::cursor::write_length;

/// The five fields before the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Which exchange it belongs to.
    pub transaction_id: &'a [u8],
    /// System title of the sender.
    pub originator: &'a [u8; SYSTEM_TITLE_LEN],
    /// System title of who it is for, or empty.
    pub recipient: &'a [u8],
    /// When it was made, or empty.
    pub date_time: &'a [u8],
    /// Anything else, or empty.
    pub other_information: &'a [u8],
}

impl Head<'_> {
    fn emit(&self, out: &mut Vec<u8>) {
        let fields =
            [self.transaction_id, self.originator, self.recipient, self.date_time, self.other_information];
        for field in fields {
            write_length(field.len(), out);
            out.extend_from_slice(field);
        }
    }
}

/// The key that an APDU is sealed with.
#[derive(Clone, Copy, Debug)]
pub enum MessageKey<'k> {
    /// The global unicast key, by its name.
    Unicast,
    /// The global broadcast key, by its name.
    Broadcast,
    /// This one, which is made for the message and travels with it under the master key.
    Wrapped(&'k Key),
}

/// Appends `apdu` as general-ciphering. The invocation is one of the key's counter, of the global unicast key where the
/// key is wrapped, and is used up even by a failure.
///
/// # Errors
/// [`SealError`]; nothing is appended then.
#[allow(clippy::too_many_arguments, reason = "each of them differs between calls, and none has a default")]
#[allow(clippy::needless_pass_by_value, reason = "a counter is used up by what is made with it")]
pub fn seal(
    provider: &impl CryptoProvider,
    protect: Protect,
    head: &Head<'_>,
    key: MessageKey<'_>,
    keys: &AssociationKeys,
    invocation: Invocation,
    apdu: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    let named = |key| keys.encryption(key).ok_or(SealError::NoKey(key));
    let (encryption, key_info) = match key {
        MessageKey::Unicast => (named(KeyUse::Unicast)?, Vec::from([1, 0, 0])),
        MessageKey::Broadcast => (named(KeyUse::Broadcast)?, Vec::from([1, 0, 1])),
        MessageKey::Wrapped(key) => {
            let wrapped = keys.master().ok_or(SealError::NoMasterKey)?.wrap(key);
            let mut info = Vec::from([1, 1, 0]);
            write_length(wrapped.0.len(), &mut info);
            info.extend_from_slice(&wrapped.0);
            (key.expose(), info)
        }
    };
    let (control, counter) = (protect.control(KeyUse::Unicast), invocation.counter());
    let mut fields = Vec::new();
    head.emit(&mut fields);
    out.push(GENERAL_CIPHERING);
    out.extend_from_slice(&fields);
    out.extend_from_slice(&key_info);
    ciphered::emit_content_head(control, counter, apdu.len() + TAG_LEN, out);
    let content = out.len();
    out.extend_from_slice(apdu);
    let iv = iv(head.originator, counter);
    let tag = match protect {
        Protect::AuthenticatedEncrypted => {
            let mut aad = additional_data(control, keys, &fields, &[]);
            let tag = provider.seal(encryption, &iv, &aad, out.split_at_mut(content).1);
            aad.zeroize();
            tag
        }
        Protect::Authenticated => {
            let mut aad = additional_data(control, keys, &fields, apdu);
            let tag = provider.seal(encryption, &iv, &aad, &mut []);
            aad.zeroize();
            tag
        }
    };
    out.extend_from_slice(&tag);
    Ok(())
}

/// As [`security::open`](super::open), for a push in general-ciphering.
///
/// # Errors
/// [`SecurityError`]; nothing of the content is given out then.
pub fn open<'s>(
    provider: &impl CryptoProvider,
    general: &GeneralCiphering<'_>,
    keys: &Keys,
    policy: Policy,
    scratch: &'s mut Scratch,
) -> Result<Opened<'s>, SecurityError> {
    let content = general.content();
    let protection = admit(content.control, policy)?;
    match general.key_info() {
        Some(KeyInfo::Unicast) => {}
        Some(KeyInfo::Broadcast) => return Err(SecurityError::Broadcast),
        Some(KeyInfo::Wrapped(_)) => return Err(SecurityError::WrappedKey),
        Some(KeyInfo::Agreed { .. }) => return Err(SecurityError::AgreedKey),
        None => return Err(SecurityError::KeyNotNamed),
    }
    let iv = iv(general.originator(), content.counter);
    let encrypted = match protection {
        Protection::AuthenticatedEncrypted => true,
        Protection::Authenticated => false,
        Protection::Encrypted => {
            let Scratch(buffer) = scratch;
            buffer.clear();
            buffer.extend_from_slice(content.payload);
            provider.apply_keystream(&keys.guek, &iv, buffer);
            return Ok(Opened::Unauthenticated(buffer));
        }
    };
    let covered = (content.control, &keys.gak, general.head());
    open_covered(provider, &keys.guek, &iv, covered, content.payload, encrypted, scratch)
        .map(Opened::Authentic)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::super::association::{Incoming, Refusal};
    use super::super::counter::{RisingCounter, SendCounter};
    use super::super::{RustCrypto, SecurityControl};
    use super::*;
    use crate::apdu::{self, Apdu};
    use crate::security;

    const METER: [u8; 8] = *b"PXR\0\0\0\0\x07";
    const HEAD: Head<'static> = Head {
        transaction_id: &[7, 7],
        originator: &METER,
        recipient: b"URJ\0\0\0\0\x30",
        date_time: &[],
        other_information: &[9],
    };
    const BOTH: Protect = Protect::AuthenticatedEncrypted;
    const PUSH: [u8; 8] = [0x0f, 0, 0, 0, 1, 0, 0x11, 5];

    fn global() -> Keys {
        let count_from = |first: u8| core::array::from_fn(|index| first + index as u8);
        Keys::new(count_from(0), count_from(0xd0))
    }

    fn keys() -> AssociationKeys {
        AssociationKeys::new(global()).with_broadcast(Key::new([0xbb; 16])).with_master(Key::new([0xcc; 16]))
    }

    fn invocation(counter: u32) -> Invocation {
        let mut counters = SendCounter::resume(counter);
        counters.reserved(counter.saturating_add(1));
        counters.take().unwrap()
    }

    fn sealed(protect: Protect, key: MessageKey<'_>, counter: u32, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0xa5; 3];
        seal(&RustCrypto, protect, &HEAD, key, &keys(), invocation(counter), plain, &mut out).unwrap();
        assert_eq!(&out[..3], [0xa5; 3]);
        out.split_off(3)
    }

    fn received(incoming: &mut Incoming, keys: &AssociationKeys, apdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut scratch = Scratch::new();
        let received = incoming.receive(&RustCrypto, keys, apdu, &mut scratch)?;
        Ok(received.apdu.into_inner().to_vec())
    }

    fn incoming() -> Incoming {
        Incoming::new(METER, BOTH, RisingCounter::new())
    }

    fn general(apdu: &[u8]) -> GeneralCiphering<'_> {
        match apdu::parse(apdu) {
            Ok(Apdu::GeneralCiphering(general)) => general,
            other => panic!("not general-ciphering: {other:?}"),
        }
    }

    fn pushed(apdu: &[u8], policy: Policy) -> Result<Vec<u8>, SecurityError> {
        let mut scratch = Scratch::new();
        match open(&RustCrypto, &general(apdu), &global(), policy, &mut scratch)? {
            Opened::Authentic(plain) => Ok(plain.into_inner().to_vec()),
            Opened::Unauthenticated(plain) => Ok(plain.to_vec()),
        }
    }

    /// There is no vector of it; but content and tag of a glo- APDU are those of the standard's vectors, and what is added
    /// here is what the tag covers besides, written out by itself.
    #[test]
    fn it_is_the_content_of_glo_with_the_head_covered_too() {
        let apdu = sealed(BOTH, MessageKey::Unicast, 9, &PUSH);
        let head = [&[2, 7, 7, 8][..], &METER, &[8], b"URJ\0\0\0\0\x30", &[0, 1, 9]].concat();
        let mut content = PUSH;
        let aad =
            [&[0x30][..], &core::array::from_fn::<u8, 16, _>(|index| 0xd0 + index as u8), &head].concat();
        let key = core::array::from_fn(|index| index as u8);
        let tag = RustCrypto.seal(&key, &iv(&METER, 9), &aad, &mut content);
        let length = 5 + PUSH.len() as u8 + 12;
        let expected = [&[0xdd][..], &head, &[1, 0, 0, length, 0x30, 0, 0, 0, 9], &content, &tag].concat();
        assert_eq!(hex::encode(apdu), hex::encode(expected));
        // Ciphertexts of one key, title and counter are one, whatever form they have.
        let mut glo = vec![];
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        security::seal(&RustCrypto, control, &METER, 9, &global(), &PUSH, &mut glo);
        assert_eq!(glo[16..16 + PUSH.len()], content);
    }

    #[test]
    fn each_form_of_key_that_suite_0_has_goes_and_comes() {
        let own = Key::new([0x77; 16]);
        for protect in [Protect::Authenticated, BOTH] {
            let mut incoming = Incoming::new(METER, protect, RisingCounter::new());
            for (counter, key) in
                (1..).zip([MessageKey::Unicast, MessageKey::Broadcast, MessageKey::Wrapped(&own)])
            {
                let apdu = sealed(protect, key, counter, &PUSH);
                assert_eq!(received(&mut incoming, &keys(), &apdu), Ok(PUSH.to_vec()), "{key:?}");
                let again = received(&mut incoming, &keys(), &apdu);
                assert!(matches!(again, Err(Refusal::Replay(_))), "{key:?}: {again:?}");
            }
        }
    }

    #[test]
    fn a_key_that_travels_with_its_message_makes_no_old_message_new() {
        let own = Key::new([0x77; 16]);
        let mut incoming = incoming();
        assert!(received(&mut incoming, &keys(), &sealed(BOTH, MessageKey::Unicast, 100, &PUSH)).is_ok());
        let old = received(&mut incoming, &keys(), &sealed(BOTH, MessageKey::Wrapped(&own), 99, &PUSH));
        assert!(matches!(old, Err(Refusal::Replay(_))), "{old:?}");
        assert!(
            received(&mut incoming, &keys(), &sealed(BOTH, MessageKey::Wrapped(&own), 101, &PUSH)).is_ok()
        );
    }

    #[test]
    fn a_wrapped_key_needs_the_master_key_it_was_wrapped_under() {
        let own = Key::new([0x77; 16]);
        let apdu = sealed(BOTH, MessageKey::Wrapped(&own), 1, &PUSH);
        let none = AssociationKeys::new(global());
        assert_eq!(received(&mut incoming(), &none, &apdu), Err(Refusal::NoMasterKey));
        let other = AssociationKeys::new(global()).with_master(Key::new([0xcd; 16]));
        assert_eq!(received(&mut incoming(), &other, &apdu), Err(Refusal::WrappedKey));
        let mut out = vec![];
        let key = MessageKey::Wrapped(&own);
        let refused = seal(&RustCrypto, BOTH, &HEAD, key, &none, invocation(1), &PUSH, &mut out);
        assert_eq!((refused, out.len()), (Err(SealError::NoMasterKey), 0));
    }

    #[test]
    fn a_push_opens_under_the_unicast_key_and_is_refused_by_name_under_any_other() {
        let own = Key::new([0x77; 16]);
        let push = sealed(BOTH, MessageKey::Unicast, 3, &PUSH);
        for policy in [Policy::Authenticated, Policy::Transport] {
            assert_eq!(pushed(&push, policy), Ok(PUSH.to_vec()));
            let clear = sealed(Protect::Authenticated, MessageKey::Unicast, 3, &PUSH);
            assert_eq!(pushed(&clear, policy), Ok(PUSH.to_vec()));
            let broadcast = sealed(BOTH, MessageKey::Broadcast, 3, &PUSH);
            assert_eq!(pushed(&broadcast, policy), Err(SecurityError::Broadcast));
            let wrapped = sealed(BOTH, MessageKey::Wrapped(&own), 3, &PUSH);
            assert_eq!(pushed(&wrapped, policy), Err(SecurityError::WrappedKey));
        }
        let at = 1 + push[1..].windows(3).position(|window| window == [1, 0, 0]).unwrap();
        let agreed = [&push[..at], &[1, 2, 1, 2, 2, 3, 4], &push[at + 3..]].concat();
        assert_eq!(pushed(&agreed, Policy::Transport), Err(SecurityError::AgreedKey));
        let unsaid = [&push[..at], &[0], &push[at + 3..]].concat();
        assert_eq!(pushed(&unsaid, Policy::Transport), Err(SecurityError::KeyNotNamed));
        // Encrypted alone: only where the link is trusted.
        let mut encrypted = push[..push.len() - TAG_LEN].to_vec();
        encrypted[at + 3] -= TAG_LEN as u8;
        encrypted[at + 4] = 0x20;
        assert_eq!(pushed(&encrypted, Policy::Transport), Ok(PUSH.to_vec()));
        assert!(matches!(pushed(&encrypted, Policy::Authenticated), Err(SecurityError::Policy { .. })));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_never_with_a_flipped_bit_or_a_cut(
            tag_only: bool,
            which in 0..3_usize,
            counter in 0..u32::MAX,
            plain in prop::collection::vec(any::<u8>(), 0..200),
            bit in any::<prop::sample::Index>(),
        ) {
            let own = Key::new([0x77; 16]);
            let protect = if tag_only { Protect::Authenticated } else { BOTH };
            let key = [MessageKey::Unicast, MessageKey::Broadcast, MessageKey::Wrapped(&own)][which];
            let apdu = sealed(protect, key, counter, &plain);
            let mut incoming = Incoming::new(METER, protect, RisingCounter::new());
            let mut flipped = apdu.clone();
            let bit = bit.index(apdu.len() * 8);
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            prop_assert!(received(&mut incoming, &keys(), &flipped).is_err());
            if let Ok(Apdu::GeneralCiphering(general)) = apdu::parse(&flipped) {
                let opened = open(&RustCrypto, &general, &global(), Policy::Authenticated, &mut Scratch::new())
                    .map(|_| ());
                prop_assert!(opened.is_err());
            }
            for cut in 0..apdu.len() {
                prop_assert!(received(&mut incoming, &keys(), &apdu[..cut]).is_err());
            }
            prop_assert_eq!(received(&mut incoming, &keys(), &apdu), Ok(plain));
        }
    }
}
