//! Keys beyond the two of the push path, and how new ones get into a meter.
//!
//! A new key travels wrapped under the master key (RFC 3394), as parameter of method 2 (key transfer) of the
//! meter's security setup: an array of structures of key id and wrapped key. Everything secret here is wiped
//! when dropped, compared in constant time and never printed.

use alloc::vec::Vec;
use core::fmt;

use aes_kw::{KeyInit, KwAes128};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{KEY_LEN, Keys};
use crate::axdr::{Elements, Iter, Value, Writer};

/// Bytes of a wrapped key.
pub const WRAPPED_LEN: usize = KEY_LEN + aes_kw::IV_LEN;
/// Most keys in one transfer: one of each id.
pub const MAX_TRANSFERRED: usize = 4;

/// One key of suite 0, wiped when dropped and never printed.
///
/// ```
/// # use codec::security::keys::Key;
/// let (master, new) = (Key::new([1; 16]), Key::new([2; 16]));
/// let travelling = master.wrap(&new);
/// assert_eq!(master.unwrap(&travelling)?, new);
/// assert!(Key::new([3; 16]).unwrap(&travelling).is_err());
/// # Ok::<(), codec::security::keys::UnwrapError>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_LEN]);

impl Key {
    /// The key that these bytes are; random ones are the caller's to make.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The key in a slice of the right length, such as a dedicated key in an initiate-request.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, for those that must store or send them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// `key` wrapped under this one.
    #[must_use]
    pub fn wrap(&self, key: &Self) -> WrappedKey {
        let mut wrapped = [0; WRAPPED_LEN];
        KwAes128::new((&self.0).into())
            .wrap_key(&key.0, &mut wrapped)
            .expect("a key of two blocks and its wrapped form have the lengths that the algorithm asks for");
        WrappedKey(wrapped)
    }

    /// The key that was wrapped under this one.
    ///
    /// # Errors
    /// [`UnwrapError`] when it was wrapped under another or was changed on the way.
    pub fn unwrap(&self, wrapped: &WrappedKey) -> Result<Self, UnwrapError> {
        // Wiped when it is dropped, with whatever a failed attempt left in it.
        let mut key = Self([0; KEY_LEN]);
        match KwAes128::new((&self.0).into()).unwrap_key(&wrapped.0, &mut key.0) {
            Ok(_) => Ok(key),
            Err(_) => Err(UnwrapError),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A key as it travels; useless without the master key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WrappedKey(pub [u8; WRAPPED_LEN]);

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappedKey(..)")
    }
}

/// The wrapped key does not fit the key that it should be wrapped under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwrapError;

impl fmt::Display for UnwrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped key does not fit the master key")
    }
}

impl core::error::Error for UnwrapError {}

/// Which key of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyId {
    /// Global unicast encryption key.
    Guek,
    /// Global broadcast encryption key.
    Gbek,
    /// Global authentication key.
    Gak,
    /// Master key, under which the others travel.
    Kek,
}

impl KeyId {
    /// The id that a number on the wire means.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Guek),
            1 => Some(Self::Gbek),
            2 => Some(Self::Gak),
            3 => Some(Self::Kek),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Guek => 0,
            Self::Gbek => 1,
            Self::Gak => 2,
            Self::Kek => 3,
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guek => "global unicast encryption key",
            Self::Gbek => "global broadcast encryption key",
            Self::Gak => "global authentication key",
            Self::Kek => "master key",
        })
    }
}

/// Appends the parameter of the key transfer: one encoded value.
pub fn emit_key_transfer(keys: &[(KeyId, WrappedKey)], out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    writer.array(keys.len());
    for (id, wrapped) in keys {
        writer.structure(2).enum_(id.code()).octet_string(&wrapped.0);
    }
}

/// The parameter of a key transfer, checked as a whole: a meter changes all of these keys or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTransfer<'a>(Elements<'a>);

impl<'a> KeyTransfer<'a> {
    /// The transfer that this value is: one to four keys, no id twice, each of them known.
    #[must_use]
    pub fn parse(parameter: Value<'a>) -> Option<Self> {
        let Value::Array(elements) = parameter else {
            return None;
        };
        if elements.is_empty() || elements.len() > MAX_TRANSFERRED {
            return None;
        }
        let mut ids = [false; MAX_TRANSFERRED];
        for element in elements.iter() {
            let (id, _) = transferred(element)?;
            let seen = ids.get_mut(usize::from(id.code()))?;
            if core::mem::replace(seen, true) {
                return None;
            }
        }
        Some(Self(elements))
    }

    /// The keys in the order they came.
    #[must_use]
    pub fn iter(&self) -> TransferredKeys<'a> {
        TransferredKeys(self.0.iter())
    }
}

/// The keys of a [`KeyTransfer`].
#[derive(Clone, Debug)]
pub struct TransferredKeys<'a>(Iter<'a>);

impl Iterator for TransferredKeys<'_> {
    type Item = (KeyId, WrappedKey);

    fn next(&mut self) -> Option<Self::Item> {
        transferred(self.0.next()?)
    }
}

fn transferred(element: Value<'_>) -> Option<(KeyId, WrappedKey)> {
    let Value::Structure(fields) = element else {
        return None;
    };
    let mut fields = fields.iter();
    match (fields.next(), fields.next(), fields.next()) {
        (Some(Value::Enum(id)), Some(Value::OctetString(wrapped)), None) => {
            Some((KeyId::from_code(id)?, WrappedKey(wrapped.try_into().ok()?)))
        }
        _ => None,
    }
}

/// Which encryption key protects an APDU; the authentication key is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// The global unicast key.
    Unicast,
    /// The global broadcast key: from the head-end to many meters.
    Broadcast,
    /// The dedicated key of the association.
    Dedicated,
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unicast => "global unicast key",
            Self::Broadcast => "global broadcast key",
            Self::Dedicated => "dedicated key",
        })
    }
}

/// The keys of one meter in an association, wiped when dropped and never printed.
#[derive(Clone)]
pub struct AssociationKeys {
    global: Keys,
    broadcast: Option<Key>,
    dedicated: Option<Key>,
    master: Option<Key>,
}

impl AssociationKeys {
    /// Only the global unicast keys.
    #[must_use]
    pub const fn new(global: Keys) -> Self {
        Self { global, broadcast: None, dedicated: None, master: None }
    }

    /// And the broadcast key.
    #[must_use]
    pub fn with_broadcast(mut self, key: Key) -> Self {
        self.broadcast = Some(key);
        self
    }

    /// And the master key, under which keys of single messages travel.
    #[must_use]
    pub fn with_master(mut self, key: Key) -> Self {
        self.master = Some(key);
        self
    }

    /// From here on there is this dedicated key, or none. Its counters begin anew: tell
    /// [`Incoming::rekeyed`](super::association::Incoming::rekeyed).
    pub fn set_dedicated(&mut self, key: Option<Key>) {
        self.dedicated = key;
    }

    /// The global unicast keys.
    #[must_use]
    pub const fn global(&self) -> &Keys {
        &self.global
    }

    pub(super) const fn master(&self) -> Option<&Key> {
        self.master.as_ref()
    }

    pub(super) fn encryption(&self, key: KeyUse) -> Option<&[u8; KEY_LEN]> {
        match key {
            KeyUse::Unicast => Some(&self.global.guek),
            KeyUse::Broadcast => self.broadcast.as_ref().map(Key::expose),
            KeyUse::Dedicated => self.dedicated.as_ref().map(Key::expose),
        }
    }

    pub(super) const fn authentication(&self) -> &[u8; KEY_LEN] {
        &self.global.gak
    }
}

impl fmt::Debug for AssociationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssociationKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::axdr;

    const KEK: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const WRAPPED: &str = "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5";

    /// 00112233…FF.
    fn new_key() -> Key {
        Key::new(core::array::from_fn(|index| 0x11 * index as u8))
    }

    #[test]
    fn rfc_3394_vector_wraps_and_unwraps() {
        let kek = Key::new(KEK);
        let wrapped = kek.wrap(&new_key());
        assert_eq!(hex::encode(wrapped.0), WRAPPED);
        assert_eq!(kek.unwrap(&wrapped), Ok(new_key()));
    }

    #[test]
    fn a_changed_wrapped_key_or_another_master_key_unwraps_nothing() {
        let wrapped = Key::new(KEK).wrap(&new_key());
        for bit in 0..WRAPPED_LEN * 8 {
            let mut flipped = wrapped;
            flipped.0[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(Key::new(KEK).unwrap(&flipped), Err(UnwrapError), "bit {bit}");
        }
        assert_eq!(new_key().unwrap(&wrapped), Err(UnwrapError));
    }

    #[test]
    fn a_key_transfer_is_written_as_meters_expect_it() {
        let wrapped = Key::new(KEK).wrap(&new_key());
        let mut out = vec![];
        emit_key_transfer(&[(KeyId::Guek, wrapped)], &mut out);
        assert_eq!(hex::encode(&out), format!("01010202160009 18{WRAPPED}").replace(' ', ""));
        let (value, rest) = axdr::parse(&out).unwrap();
        assert!(rest.is_empty());
        let transfer = KeyTransfer::parse(value).unwrap();
        assert!(transfer.iter().eq([(KeyId::Guek, wrapped)]));
    }

    #[test]
    fn a_transfer_with_anything_odd_is_refused_as_a_whole() {
        let wrapped = Key::new(KEK).wrap(&new_key());
        let parsed = |out: &[u8]| KeyTransfer::parse(axdr::parse(out).unwrap().0).is_some();
        let mut good = vec![];
        emit_key_transfer(&[(KeyId::Gak, wrapped), (KeyId::Kek, wrapped)], &mut good);
        assert!(parsed(&good));
        for (at, byte, what) in
            [(0, 2, "no array"), (5, 4, "id 4"), (5, 3, "an id twice"), (4, 0x11, "no enum")]
        {
            let mut odd = good.clone();
            odd[at] = byte;
            assert!(!parsed(&odd), "{what}");
        }
        let mut short = vec![];
        Writer::new(&mut short).array(1).structure(2).enum_(0).octet_string(&[0; 23]);
        assert!(!parsed(&short));
        let mut long = vec![];
        Writer::new(&mut long).array(1).structure(3).enum_(0).octet_string(&[0; 24]).null();
        assert!(!parsed(&long));
        assert!(!parsed(&[1, 0]));
        let mut five = vec![];
        emit_key_transfer(&[(KeyId::Guek, wrapped); 5], &mut five);
        assert!(!parsed(&five));
    }

    #[test]
    fn keys_are_not_printed() {
        let key = Key::new([7; 16]);
        let keys = AssociationKeys::new(Keys::new([7; 16], [7; 16])).with_broadcast(key.clone());
        let text = format!("{key:?} {:?} {keys:?}", Key::new(KEK).wrap(&key));
        assert_eq!(text, "Key(..) WrappedKey(..) AssociationKeys(..)");
    }

    proptest! {
        #[test]
        fn what_is_wrapped_unwraps(kek: [u8; 16], key: [u8; 16]) {
            let (kek, key) = (Key::new(kek), Key::new(key));
            prop_assert_eq!(kek.unwrap(&kek.wrap(&key)), Ok(key));
        }
    }
}
