//! Keys at rest: the data key under the key-encryption key, meters' keys under the data key (RFC 3394).

use std::fmt;

use aes_kw::{KeyInit, KwAes256};
use model::SystemTitle;
use zeroize::Zeroizing;

use crate::access::{MAX_PASSWORD, MAX_SECRET};
use crate::{Error, Kek, MeterKeys, MeterSecrets};

/// What RFC 3394 adds to what it wraps.
const OVERHEAD: usize = aes_kw::IV_LEN;
/// Title 8, key epoch 2, zeros 6, encryption key 16, authentication key 16.
const PLAIN: usize = 48;
/// Length of a meter's wrapped keys.
const WRAPPED: usize = PLAIN + OVERHEAD;
/// Title 8, password and secret each with their length and filled up with zeros, whether there is a master key, that
/// key, zeros: always of one length, so that the length of a password does not show.
const SECRETS: usize = 80;
const PASSWORD_AT: usize = 8;
const SECRET_AT: usize = PASSWORD_AT + 1 + MAX_PASSWORD;
const MASTER_AT: usize = SECRET_AT + 1 + MAX_SECRET;

/// The data key, ready for use.
pub(crate) struct Vault {
    wrapper: KwAes256,
    digest_key: Zeroizing<[u8; 32]>,
    seal_key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// A new random data key, and what to store of it.
    pub(crate) fn make(kek: &Kek) -> Result<(Vault, Vec<u8>), Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(Error::Random)?;
        let mut wrapped = vec![0; key.len() + OVERHEAD];
        wrap(&wrapper(&kek.0), key.as_slice(), &mut wrapped);
        Ok((Vault::new(&key), wrapped))
    }

    /// The data key as stored; `None` when it was not wrapped under this key-encryption key.
    pub(crate) fn unwrap(kek: &Kek, wrapped: &[u8]) -> Option<Vault> {
        let mut key = Zeroizing::new([0; 32]);
        let length = wrapper(&kek.0).unwrap_key(wrapped, key.as_mut_slice()).ok()?.len();
        (length == key.len()).then(|| Vault::new(&key))
    }

    fn new(key: &[u8; 32]) -> Vault {
        let digest_key = Zeroizing::new(blake3::derive_key("urja registry: digest of a meter's key", key));
        let seal_key = Zeroizing::new(blake3::derive_key("urja registry: seal of a supply command", key));
        Vault { wrapper: wrapper(key), digest_key, seal_key }
    }

    /// The meter's keys, bound to its title and to the epoch they are in force in.
    pub(crate) fn wrap_keys(&self, title: SystemTitle, key_epoch: u16, keys: &MeterKeys) -> Vec<u8> {
        let mut plain = Zeroizing::new([0; PLAIN]);
        plain[..16].copy_from_slice(&binding(title, key_epoch));
        plain[16..32].copy_from_slice(&keys.guek);
        plain[32..].copy_from_slice(&keys.gak);
        let mut wrapped = vec![0; WRAPPED];
        wrap(&self.wrapper, plain.as_slice(), &mut wrapped);
        wrapped
    }

    /// The keys of this meter and epoch; an error where they are another's.
    pub(crate) fn unwrap_keys(
        &self,
        title: SystemTitle,
        key_epoch: u16,
        wrapped: &[u8],
    ) -> Result<MeterKeys, Error> {
        let damaged = |what| Error::Damaged(format!("the keys of meter {title} {what}"));
        let mut plain = Zeroizing::new([0; PLAIN]);
        let length = self
            .wrapper
            .unwrap_key(wrapped, plain.as_mut_slice())
            .map_err(|_| damaged("cannot be unwrapped"))?
            .len();
        if length != PLAIN || plain[..16] != binding(title, key_epoch) {
            return Err(damaged("are those of another meter or epoch"));
        }
        let mut keys = MeterKeys { guek: [0; 16], gak: [0; 16] };
        keys.guek.copy_from_slice(&plain[16..32]);
        keys.gak.copy_from_slice(&plain[32..]);
        Ok(keys)
    }

    /// The secrets of a meter's clients, bound to its title.
    pub(crate) fn wrap_secrets(&self, title: SystemTitle, secrets: &MeterSecrets) -> Vec<u8> {
        let mut plain = Zeroizing::new([0; SECRETS]);
        plain[..PASSWORD_AT].copy_from_slice(&title.0);
        for (at, secret) in [(PASSWORD_AT, &secrets.password), (SECRET_AT, &secrets.hls)] {
            plain[at] = u8::try_from(secret.len()).expect("an import takes no longer one");
            plain[at + 1..][..secret.len()].copy_from_slice(secret);
        }
        if let Some(master) = &secrets.master {
            plain[MASTER_AT] = 1;
            plain[MASTER_AT + 1..][..master.len()].copy_from_slice(master);
        }
        let mut wrapped = vec![0; SECRETS + OVERHEAD];
        wrap(&self.wrapper, plain.as_slice(), &mut wrapped);
        wrapped
    }

    /// The secrets of this meter; an error where they are another's.
    pub(crate) fn unwrap_secrets(&self, title: SystemTitle, wrapped: &[u8]) -> Result<MeterSecrets, Error> {
        let damaged = |what| Error::Damaged(format!("the secrets of meter {title} {what}"));
        let mut plain = Zeroizing::new([0; SECRETS]);
        let length = self
            .wrapper
            .unwrap_key(wrapped, plain.as_mut_slice())
            .map_err(|_| damaged("cannot be unwrapped"))?
            .len();
        if length != SECRETS || plain[..PASSWORD_AT] != title.0 {
            return Err(damaged("are those of another meter"));
        }
        let field = |at: usize, most: usize| {
            let length = usize::from(plain[at]);
            if length > most { Err(damaged("have no sense")) } else { Ok(plain[at + 1..][..length].to_vec()) }
        };
        let mut secrets = MeterSecrets {
            password: field(PASSWORD_AT, MAX_PASSWORD)?,
            hls: field(SECRET_AT, MAX_SECRET)?,
            master: None,
        };
        if plain[MASTER_AT] == 1 {
            let mut master = [0; 16];
            master.copy_from_slice(&plain[MASTER_AT + 1..][..16]);
            secrets.master = Some(master);
        }
        Ok(secrets)
    }

    /// The seal of a supply command: who cannot read the data key cannot make one.
    pub(crate) fn seal(&self, said: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.seal_key, said)
    }

    /// Tells equal keys from different ones, and nothing else.
    pub(crate) fn digest(&self, key: &[u8; 16]) -> [u8; 32] {
        *blake3::keyed_hash(&self.digest_key, key).as_bytes()
    }
}

fn wrapper(key: &[u8; 32]) -> KwAes256 {
    KwAes256::new(key.into())
}

fn binding(title: SystemTitle, key_epoch: u16) -> [u8; 16] {
    let mut binding = [0; 16];
    binding[..8].copy_from_slice(&title.0);
    binding[8..10].copy_from_slice(&key_epoch.to_be_bytes());
    binding
}

fn wrap(wrapper: &KwAes256, plain: &[u8], wrapped: &mut [u8]) {
    wrapper.wrap_key(plain, wrapped).expect("the lengths are constants that RFC 3394 allows");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLE: SystemTitle = SystemTitle(*b"HXE\x00\x01\x02\x03\x04");

    fn vault() -> Vault {
        Vault::new(&[0x5a; 32])
    }

    fn keys() -> MeterKeys {
        MeterKeys {
            guek: *b"\x41\x1a\x36\xe7\xfa\x67\x78\x4c\xd3\xd2\xc5\x2e\x65\x6e\x56\x44",
            gak: [0xc3; 16],
        }
    }

    #[test]
    fn key_wrap_agrees_with_the_published_vector() {
        let kek: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let key: [u8; 16] = std::array::from_fn(|index| u8::try_from(index * 0x11).unwrap());
        let mut wrapped = [0; 24];
        aes_kw::KwAes128::new(&kek.into()).wrap_key(&key, &mut wrapped).unwrap();
        assert_eq!(hex::encode_upper(wrapped), "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5");
    }

    #[test]
    fn keys_come_back_for_their_meter_and_epoch_only() {
        let vault = vault();
        let wrapped = vault.wrap_keys(TITLE, 1, &keys());
        let back = vault.unwrap_keys(TITLE, 1, &wrapped).unwrap();
        assert_eq!((back.guek, back.gak), (keys().guek, keys().gak));
        assert!(vault.unwrap_keys(SystemTitle(*b"HXE\x00\x01\x02\x03\x05"), 1, &wrapped).is_err());
        assert!(vault.unwrap_keys(TITLE, 2, &wrapped).is_err());
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let vault = vault();
        let wrapped = vault.wrap_keys(TITLE, 1, &keys());
        for index in 0..wrapped.len() {
            let mut bad = wrapped.clone();
            bad[index] ^= 1;
            assert!(vault.unwrap_keys(TITLE, 1, &bad).is_err(), "byte {index}");
        }
        for length in [0, 7, 8, 40, 55, 64] {
            assert!(vault.unwrap_keys(TITLE, 1, &vec![0; length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_stored_data_key_opens_under_its_own_kek_only() {
        let kek = Kek::from_hex(&"17".repeat(32)).unwrap();
        let (made, stored) = Vault::make(&kek).unwrap();
        let read = Vault::unwrap(&kek, &stored).unwrap();
        assert_eq!(made.digest(&[1; 16]), read.digest(&[1; 16]));
        assert!(Vault::unwrap(&Kek::from_hex(&"18".repeat(32)).unwrap(), &stored).is_none());
        assert!(Vault::unwrap(&kek, &stored[..stored.len() - 8]).is_none());
    }

    #[test]
    fn digests_tell_keys_apart_and_depend_on_the_data_key() {
        let (one, other) = (vault(), Vault::new(&[0x5b; 32]));
        assert_eq!(one.digest(&[1; 16]), one.digest(&[1; 16]));
        assert_ne!(one.digest(&[1; 16]), one.digest(&[2; 16]));
        assert_ne!(one.digest(&[1; 16]), other.digest(&[1; 16]));
    }
}
