//! AES-128-GCM of AWS-LC behind the codec's [`CryptoProvider`]; must never know anything but bytes and keys.
//!
//! [`AwsLc`] does what [`codec::security::RustCrypto`] does, in about half the time: with a million meters every APDU has
//! another key, and this library sets keys up quickly. Its safe interfaces take tags of 16 bytes only, while those of
//! DLMS/COSEM have 12; so this crate calls its C interface. All unsafe code is in the module `aead`, and nothing gets there
//! but slices of the caller and arrays whose lengths are in their types.

mod aead;

use codec::security::{CryptoProvider, IV_LEN, KEY_LEN, TAG_LEN, TagMismatch};

/// The provider: AWS-LC, which uses what the processor has for AES and for the tag.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl CryptoProvider for AwsLc {
    fn open(
        &self,
        key: &[u8; KEY_LEN],
        iv: &[u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), TagMismatch> {
        if aead::open(key, iv, aad, data, tag) { Ok(()) } else { Err(TagMismatch) }
    }

    fn seal(&self, key: &[u8; KEY_LEN], iv: &[u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        aead::seal(key, iv, aad, data).expect("an apdu is far below the 64 GiB that the mode can protect")
    }
}
