//! The two keys of a meter, and what makes a key weak.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Global unicast encryption key and authentication key of a meter (suite 0). Wiped when dropped, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MeterKeys {
    /// Global unicast encryption key.
    pub guek: [u8; 16],
    /// Global authentication key.
    pub gak: [u8; 16],
}

impl fmt::Debug for MeterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeterKeys(..)")
    }
}

/// Why a key is refused: anyone could guess it or look it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// All bytes are the same.
    #[error("all bytes are equal")]
    Constant,
    /// Every byte is the one before plus the same number: counting up or down.
    #[error("the bytes count in equal steps")]
    Counting,
    /// A short pattern repeats.
    #[error("the first {0} bytes repeat")]
    Pattern(usize),
    /// Letters and digits only: a word somebody typed.
    #[error("the key is text, not random bytes")]
    Text,
    /// Printed in a standard or a test suite.
    #[error("the key is a published test key")]
    Published,
}

/// Keys in print that the rules do not find by themselves. Those of the DLMS Green Book (000102..0F, D0D1..DF) and of
/// RFC 3394 (00112233..FF) count in equal steps.
const PUBLISHED: [[u8; 16]; 2] = [
    // FIPS 197 and NIST SP 800-38A.
    [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c],
    // The GCM specification's test cases.
    [0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08],
];

/// Refuses a key that is no secret. A random key is refused with a probability below 10⁻⁹.
pub(crate) fn check_strength(key: &[u8; 16]) -> Result<(), WeakKey> {
    let step = key[1].wrapping_sub(key[0]);
    if key.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        return Err(if step == 0 { WeakKey::Constant } else { WeakKey::Counting });
    }
    if let Some(length) = [2, 4, 8].into_iter().find(|&length| key[length..] == key[..16 - length]) {
        return Err(WeakKey::Pattern(length));
    }
    if key.iter().all(u8::is_ascii_alphanumeric) {
        return Err(WeakKey::Text);
    }
    if PUBLISHED.contains(key) {
        return Err(WeakKey::Published);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> [u8; 16] {
        let mut key = [0; 16];
        hex::decode_to_slice(text, &mut key).unwrap();
        key
    }

    #[test]
    fn keys_that_can_be_guessed_are_refused() {
        for (text, reason) in [
            ("00000000000000000000000000000000", WeakKey::Constant),
            ("ffffffffffffffffffffffffffffffff", WeakKey::Constant),
            ("000102030405060708090a0b0c0d0e0f", WeakKey::Counting),
            ("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf", WeakKey::Counting),
            ("0f0e0d0c0b0a09080706050403020100", WeakKey::Counting),
            ("00112233445566778899aabbccddeeff", WeakKey::Counting),
            ("f8f9fafbfcfdfeff0001020304050607", WeakKey::Counting),
            ("0123456789abcdef0123456789abcdef", WeakKey::Pattern(8)),
            ("deadbeefdeadbeefdeadbeefdeadbeef", WeakKey::Pattern(4)),
            ("31323334353637383930313233343536", WeakKey::Text),
            ("2b7e151628aed2a6abf7158809cf4f3c", WeakKey::Published),
        ] {
            assert_eq!(check_strength(&key(text)), Err(reason), "{text}");
        }
    }

    #[test]
    fn random_keys_pass() {
        for text in ["411a36e7fa67784cd3d2c52e656e5644", "5f0017d36bcf9185daaad6cb7271d511"] {
            assert_eq!(check_strength(&key(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn keys_are_never_printed() {
        let keys = MeterKeys { guek: [7; 16], gak: [9; 16] };
        assert_eq!(format!("{keys:?}"), "MeterKeys(..)");
    }
}
