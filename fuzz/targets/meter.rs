//! What the targets of sessions begin with: a meter, its keys, and who may ask it.

use codec::apdu::acse::Mechanism;
use codec::apdu::initiate::Conformance;
use codec::security::Keys;
use codec::security::hls::Secret;
use codec::security::keys::{AssociationKeys, Key};
use codec::session::server::{Offer, ServerSecurity};

pub(crate) const METER: [u8; 8] = *b"URJ\0\0\0\0\x01";
pub(crate) const HEAD_END: [u8; 8] = *b"HES\0\0\0\0\x09";
pub(crate) const SECRET: &[u8] = b"0123456789ABCDEF";
/// Encryption, authentication, master.
pub(crate) const KEYS: [[u8; 16]; 3] = [[1; 16], [2; 16], [3; 16]];

/// The global keys.
pub(crate) fn global_keys() -> Keys {
    let [guek, gak, _] = KEYS;
    Keys::new(guek, gak)
}

/// The same as a client has them.
pub(crate) fn keys() -> AssociationKeys {
    AssociationKeys::new(global_keys())
}

/// An association of that client that conforms to everything, in the clear and ciphered.
pub(crate) fn offer(client: u16, mechanism: Mechanism, secret: &[u8]) -> Offer {
    let (secret, conformance) = (Secret::new(secret.to_vec()), Conformance::from_bytes([0xff; 3]));
    Offer { client, plain: true, ciphered: true, mechanism, secret, conformance }
}

/// What the meter keeps of keys and counters.
pub(crate) fn security(offers: Vec<Offer>) -> ServerSecurity {
    let [guek, gak, master] = KEYS.map(Key::new);
    ServerSecurity::new(METER, guek, gak, master, 100, offers)
}
