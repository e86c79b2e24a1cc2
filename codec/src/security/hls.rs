//! Who is there: passwords and challenges when an association opens.
//!
//! | mechanism | what is sent |
//! |---|---|
//! | 1, low level | the password, in the AARQ |
//! | 2, high level as in India | AES-128 of the other's challenge under the secret |
//! | 5, GMAC | control 0x10 ‖ counter ‖ tag over control ‖ authentication key ‖ the other's challenge |
//!
//! At high level each side sends a challenge, in AARQ and AARE, and answers the other's: the client in pass 3,
//! the server in pass 4. Randomness is an argument. A side that gets its own challenge back is talked to by
//! someone who wants it to compute its own answer: [`Challenge::is_reflected`]. Answers are compared in
//! constant time.

use alloc::vec::Vec;
use core::fmt;

use aes_gcm::KeyInit;
use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::counter::Invocation;
use super::{AAD_LEN, CryptoProvider, KEY_LEN, Keys, SecurityControl, TAG_LEN, iv};
use crate::apdu::SYSTEM_TITLE_LEN;

/// Bytes of a challenge that is sent. Implementations of mechanism 2 agree on this length only.
pub const CHALLENGE_LEN: usize = 16;
/// Most bytes of a challenge that is answered.
pub const MAX_CHALLENGE: usize = 64;
/// Bytes of an answer of mechanism 5.
pub const GMAC_ANSWER_LEN: usize = 5 + TAG_LEN;

const BLOCK_LEN: usize = 16;

/// A password or the secret of an association, wiped when dropped, never printed, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret that these bytes are.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for those that must store or send them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the password that came. How long the secret is may show in the time that takes, what
    /// it is does not.
    #[must_use]
    pub fn is_password(&self, received: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.ct_eq(received))
    }

    /// As an AES key: filled up with zeros; a longer one is none.
    fn key(&self) -> Result<PaddedKey, HlsError> {
        let mut key = PaddedKey([0; KEY_LEN]);
        match key.0.get_mut(..self.0.len()) {
            Some(start) if !self.0.is_empty() => start.copy_from_slice(&self.0),
            _ => return Err(HlsError::SecretLength(self.0.len())),
        }
        Ok(key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(ZeroizeOnDrop)]
struct PaddedKey([u8; KEY_LEN]);

/// Why a challenge cannot be answered, or an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HlsError {
    /// A challenge that is empty or over [`MAX_CHALLENGE`].
    ChallengeLength(usize),
    /// A secret that is empty or longer than a key.
    SecretLength(usize),
    /// An answer of the wrong length or form.
    Form,
    /// The answer is wrong: another secret, or another challenge.
    Wrong,
}

impl fmt::Display for HlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChallengeLength(length) => write!(f, "challenge of {length} bytes"),
            Self::SecretLength(length) => write!(f, "secret of {length} bytes is no key"),
            Self::Form => f.write_str("malformed answer to a challenge"),
            Self::Wrong => f.write_str("wrong answer to a challenge"),
        }
    }
}

impl core::error::Error for HlsError {}

/// The challenge of this side: 16 bytes, for one association only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge([u8; CHALLENGE_LEN]);

impl Challenge {
    /// The challenge that these random bytes are.
    #[must_use]
    pub const fn new(random: [u8; CHALLENGE_LEN]) -> Self {
        Self(random)
    }

    /// What goes into the AARQ or AARE.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; CHALLENGE_LEN] {
        &self.0
    }

    /// Whether the other side sent this challenge back as its own. Such an association is to be given up:
    /// the answer would be the one that this side waits for.
    #[must_use]
    pub fn is_reflected(&self, theirs: &[u8]) -> bool {
        self.0 == theirs
    }

    /// Checks an answer of mechanism 2.
    ///
    /// # Errors
    /// [`HlsError`]; the other side is then not who it says.
    pub fn verify_aes(&self, secret: &Secret, answer: &[u8]) -> Result<(), HlsError> {
        let expected = answer_aes(secret, &self.0)?;
        if answer.len() != expected.len() {
            return Err(HlsError::Form);
        }
        if bool::from(expected.ct_eq(answer)) { Ok(()) } else { Err(HlsError::Wrong) }
    }

    /// Checks an answer of mechanism 5 from the side with this title, and gives its counter. That need not
    /// rise against the APDU around it; what makes the answer fresh is the challenge.
    ///
    /// # Errors
    /// [`HlsError`]; the other side is then not who it says.
    pub fn verify_gmac(
        &self,
        provider: &impl CryptoProvider,
        keys: &Keys,
        their_title: &[u8; SYSTEM_TITLE_LEN],
        answer: &[u8],
    ) -> Result<u32, HlsError> {
        verify_gmac(provider, keys, their_title, &self.0, answer)
    }
}

/// The answer of mechanism 2 to `challenge`: each block of it encrypted by itself, the last filled up with
/// zeros. At 16 bytes all implementations agree; other lengths are answered as far as they can be.
///
/// # Errors
/// [`HlsError::ChallengeLength`] and [`HlsError::SecretLength`].
pub fn answer_aes(secret: &Secret, challenge: &[u8]) -> Result<Vec<u8>, HlsError> {
    if !(1..=MAX_CHALLENGE).contains(&challenge.len()) {
        return Err(HlsError::ChallengeLength(challenge.len()));
    }
    let cipher = Aes128::new((&secret.key()?.0).into());
    let mut answer = Vec::with_capacity(challenge.len().next_multiple_of(BLOCK_LEN));
    for chunk in challenge.chunks(BLOCK_LEN) {
        let mut block = [0; BLOCK_LEN];
        block.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        cipher.encrypt_block((&mut block).into());
        answer.extend_from_slice(&block);
    }
    Ok(answer)
}

/// The answer of mechanism 5 to `challenge`, from the side with this title. The counter is one of the global
/// unicast key.
///
/// # Errors
/// [`HlsError::ChallengeLength`].
#[allow(clippy::needless_pass_by_value, reason = "a counter is used up by what is made with it")]
pub fn answer_gmac(
    provider: &impl CryptoProvider,
    keys: &Keys,
    own_title: &[u8; SYSTEM_TITLE_LEN],
    invocation: Invocation,
    challenge: &[u8],
) -> Result<[u8; GMAC_ANSWER_LEN], HlsError> {
    let counter = invocation.counter();
    let mut aad = gmac_data(keys, challenge)?;
    let tag = provider.seal(&keys.guek, &iv(own_title, counter), &aad, &mut []);
    aad.zeroize();
    let mut answer = [0; GMAC_ANSWER_LEN];
    let (head, tail) = answer.split_at_mut(5);
    let (control, number) = head.split_at_mut(1);
    control.copy_from_slice(&[SecurityControl::AUTHENTICATED.0]);
    number.copy_from_slice(&counter.to_be_bytes());
    tail.copy_from_slice(&tag);
    Ok(answer)
}

fn verify_gmac(
    provider: &impl CryptoProvider,
    keys: &Keys,
    their_title: &[u8; SYSTEM_TITLE_LEN],
    challenge: &[u8],
    answer: &[u8],
) -> Result<u32, HlsError> {
    let Some((&[control, a, b, c, d], tag)) = answer.split_first_chunk() else {
        return Err(HlsError::Form);
    };
    let tag: &[u8; TAG_LEN] = tag.try_into().map_err(|_| HlsError::Form)?;
    if SecurityControl(control) != SecurityControl::AUTHENTICATED {
        return Err(HlsError::Form);
    }
    let counter = u32::from_be_bytes([a, b, c, d]);
    let mut aad = gmac_data(keys, challenge)?;
    let verified = provider.open(&keys.guek, &iv(their_title, counter), &aad, &mut [], tag);
    aad.zeroize();
    verified.map(|()| counter).map_err(|_| HlsError::Wrong)
}

/// Control ‖ authentication key ‖ challenge.
fn gmac_data(keys: &Keys, challenge: &[u8]) -> Result<Vec<u8>, HlsError> {
    if !(1..=MAX_CHALLENGE).contains(&challenge.len()) {
        return Err(HlsError::ChallengeLength(challenge.len()));
    }
    let mut data = Vec::with_capacity(AAD_LEN + challenge.len());
    data.push(SecurityControl::AUTHENTICATED.0);
    data.extend_from_slice(&keys.gak);
    data.extend_from_slice(challenge);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::super::RustCrypto;
    use super::super::counter::SendCounter;
    use super::*;

    const CLIENT: [u8; 8] = [0x4d, 0x4d, 0x4d, 0, 0, 0, 0, 1];
    const SERVER: [u8; 8] = [0x4d, 0x4d, 0x4d, 0, 0, 0xbc, 0x61, 0x4e];

    fn keys() -> Keys {
        let count_from = |first: u8| core::array::from_fn(|index| first + index as u8);
        Keys::new(count_from(0), count_from(0xd0))
    }

    fn invocation(counter: u32) -> Invocation {
        let mut counters = SendCounter::resume(counter);
        counters.reserved(counter + 1);
        counters.take().unwrap()
    }

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(bytes.to_vec())
    }

    #[test]
    fn aes_vector_of_a_16_byte_challenge() {
        let secret = secret(b"0123456789ABCDEF");
        let answer = answer_aes(&secret, b"ABCDEFGHIJKLMNOP").unwrap();
        assert_eq!(hex::encode(&answer), "707641a423a7904cf44884719b8d25df");
        assert_eq!(Challenge::new(*b"ABCDEFGHIJKLMNOP").verify_aes(&secret, &answer), Ok(()));
    }

    #[test]
    fn aes_challenges_of_other_lengths_are_answered_block_by_block() {
        let secret = secret(b"0123456789ABCDEF");
        let short = answer_aes(&secret, b"ABC").unwrap();
        assert_eq!(short, answer_aes(&secret, b"ABC\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap());
        let twice = answer_aes(&secret, b"ABCDEFGHIJKLMNOPABCDEFGHIJKLMNOP").unwrap();
        assert_eq!(twice.len(), 32);
        assert_eq!(twice[..16], twice[16..]);
        for length in [0, MAX_CHALLENGE + 1] {
            let refused = answer_aes(&secret, &vec![7; length]);
            assert_eq!(refused, Err(HlsError::ChallengeLength(length)));
        }
    }

    #[test]
    fn a_short_secret_is_filled_up_and_a_long_or_empty_one_is_no_key() {
        let padded = answer_aes(&secret(b"12345678\0\0\0\0\0\0\0\0"), b"x").unwrap();
        assert_eq!(answer_aes(&secret(b"12345678"), b"x").unwrap(), padded);
        for length in [0, 17] {
            let refused = answer_aes(&secret(&vec![1; length]), b"x");
            assert_eq!(refused, Err(HlsError::SecretLength(length)));
        }
    }

    #[test]
    fn a_wrong_aes_answer_is_refused() {
        let (secret, challenge) = (secret(b"0123456789ABCDEF"), Challenge::new([9; 16]));
        let answer = answer_aes(&secret, challenge.bytes()).unwrap();
        for bit in 0..128 {
            let mut flipped = answer.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(challenge.verify_aes(&secret, &flipped), Err(HlsError::Wrong));
        }
        for cut in 0..16 {
            assert_eq!(challenge.verify_aes(&secret, &answer[..cut]), Err(HlsError::Form));
        }
        assert_eq!(challenge.verify_aes(&secret, &[]), Err(HlsError::Form));
    }

    #[track_caller]
    fn gmac_vector(title: [u8; 8], counter: u32, challenge: &str, expected: &str) {
        let challenge = hex::decode(challenge).unwrap();
        let answer = answer_gmac(&RustCrypto, &keys(), &title, invocation(counter), &challenge).unwrap();
        assert_eq!(hex::encode(answer), format!("10{counter:08x}{expected}"));
        assert_eq!(verify_gmac(&RustCrypto, &keys(), &title, &challenge, &answer), Ok(counter));
        for bit in 0..answer.len() * 8 {
            let mut flipped = answer;
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(verify_gmac(&RustCrypto, &keys(), &title, &challenge, &flipped).is_err(), "bit {bit}");
        }
        for cut in 0..answer.len() {
            let refused = verify_gmac(&RustCrypto, &keys(), &title, &challenge, &answer[..cut]);
            assert_eq!(refused, Err(HlsError::Form));
        }
    }

    #[test]
    fn green_book_gmac_vector_of_the_client() {
        gmac_vector(CLIENT, 1, "503677524a323146", "1a52fe7dd3e72748973c1e28");
    }

    #[test]
    fn green_book_gmac_vector_of_the_server() {
        gmac_vector(SERVER, 0x0123_4567, "4b35366956616759", "fe1466afb3dbcd4f9389e2b7");
    }

    #[test]
    fn an_answer_of_another_title_or_to_another_challenge_is_wrong() {
        let challenge = Challenge::new([3; 16]);
        let answer = answer_gmac(&RustCrypto, &keys(), &SERVER, invocation(5), challenge.bytes()).unwrap();
        assert_eq!(challenge.verify_gmac(&RustCrypto, &keys(), &SERVER, &answer), Ok(5));
        let wrong = Err(HlsError::Wrong);
        assert_eq!(challenge.verify_gmac(&RustCrypto, &keys(), &CLIENT, &answer), wrong);
        assert_eq!(Challenge::new([4; 16]).verify_gmac(&RustCrypto, &keys(), &SERVER, &answer), wrong);
    }

    #[test]
    fn a_challenge_that_comes_back_is_noticed() {
        let challenge = Challenge::new([3; 16]);
        assert!(challenge.is_reflected(&[3; 16]));
        assert!(!challenge.is_reflected(&[3; 15]));
        assert!(!challenge.is_reflected(&[4; 16]));
    }

    #[test]
    fn a_password_fits_only_itself() {
        let password = secret(b"12345678");
        assert!(password.is_password(b"12345678"));
        for wrong in [&b""[..], b"1234567", b"123456789", b"12345679"] {
            assert!(!password.is_password(wrong));
        }
        assert!(!secret(b"").is_password(b""), "no password is no proof");
    }

    #[test]
    fn secrets_and_errors_show_no_secret() {
        assert_eq!(format!("{:?}", secret(b"hunter2")), "Secret(..)");
        assert_eq!(HlsError::SecretLength(17).to_string(), "secret of 17 bytes is no key");
    }

    proptest! {
        #[test]
        fn what_is_answered_verifies(
            bytes in prop::collection::vec(any::<u8>(), 1..=16),
            random: [u8; 16],
            title: [u8; 8],
            counter in 0..u32::MAX,
        ) {
            let (secret, challenge) = (Secret::new(bytes), Challenge::new(random));
            let answer = answer_aes(&secret, challenge.bytes()).unwrap();
            prop_assert_eq!(challenge.verify_aes(&secret, &answer), Ok(()));
            let answer = answer_gmac(&RustCrypto, &keys(), &title, invocation(counter), &random).unwrap();
            prop_assert_eq!(challenge.verify_gmac(&RustCrypto, &keys(), &title, &answer), Ok(counter));
        }
    }
}
