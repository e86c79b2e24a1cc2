//! Security suite 0: opening and sealing general-glo-ciphering APDUs.
//!
//! | control | additional data | on the wire |
//! |---|---|---|
//! | 0x10 | control ‖ authentication key ‖ plaintext | plaintext ‖ tag |
//! | 0x20 | none | ciphertext |
//! | 0x30 | control ‖ authentication key | ciphertext ‖ tag |
//!
//! AES-128-GCM with the global unicast encryption key; the initialisation vector is the sender's system
//! title (8) ‖ counter (4); the tag is cut to 12 bytes. 0x20 is counter mode and proves nothing.
//!
//! What was verified is a type: an [`Authentic`] can be made in this module only. The [`Policy`] of the
//! meter is looked at before any key is used, and anything weaker is refused. Checking that a counter was
//! not seen before is the caller's, who remembers counters.
//!
//! That is the push path. What an association needs besides stands in files of its own: [`association`] seals
//! and opens its APDUs, [`ciphering`] is their form with a head, [`counter`] remembers counters, [`keys`] wraps new keys,
//! [`hls`] proves who is there.
//!
//! The cryptography is behind [`CryptoProvider`]; [`RustCrypto`] is the safe default.

use alloc::vec::Vec;
use core::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes128;
use aes_gcm::{AesGcm, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::apdu::{self, Apdu, GeneralGlo, SYSTEM_TITLE_LEN};
use crate::error::Error;

pub mod association;
pub mod ciphering;
pub mod counter;
pub mod hls;
pub mod keys;

/// Bytes of a key of suite 0.
pub const KEY_LEN: usize = 16;
/// Bytes of the initialisation vector.
pub const IV_LEN: usize = 12;
/// Bytes of the tag on the wire.
pub const TAG_LEN: usize = 12;

/// Security control ‖ authentication key.
const AAD_LEN: usize = 1 + KEY_LEN;

/// The global unicast keys of one meter, wiped when dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    guek: [u8; KEY_LEN],
    gak: [u8; KEY_LEN],
}

impl Keys {
    /// `guek` is the global unicast encryption key, `gak` the global authentication key.
    #[must_use]
    pub const fn new(guek: [u8; KEY_LEN], gak: [u8; KEY_LEN]) -> Self {
        Self { guek, gak }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// The security control byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecurityControl(pub u8);

impl SecurityControl {
    /// Suite 0, authenticated, in the clear.
    pub const AUTHENTICATED: Self = Self(0x10);
    /// Suite 0, encrypted, without a tag.
    pub const ENCRYPTED: Self = Self(0x20);
    /// Suite 0, authenticated and encrypted.
    pub const AUTHENTICATED_ENCRYPTED: Self = Self(0x30);

    /// Number of the security suite.
    #[must_use]
    pub const fn suite(&self) -> u8 {
        self.0 & 0x0f
    }

    /// A tag follows the content.
    #[must_use]
    pub const fn authenticated(&self) -> bool {
        self.0 & 0x10 != 0
    }

    /// The content is ciphertext.
    #[must_use]
    pub const fn encrypted(&self) -> bool {
        self.0 & 0x20 != 0
    }

    /// The broadcast key is used instead of the unicast key.
    #[must_use]
    pub const fn broadcast(&self) -> bool {
        self.0 & 0x40 != 0
    }

    /// The content was compressed before.
    #[must_use]
    pub const fn compressed(&self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl fmt::Display for SecurityControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02x}", self.0)
    }
}

/// What a meter's APDUs must carry to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// A tag: control 0x10 or 0x30, nothing else.
    Authenticated,
    /// The link binds the meter: plain APDUs and control 0x20 too, though nothing they say is authentic.
    Transport,
}

/// Whether this policy takes an APDU without any ciphering.
#[must_use]
pub const fn plain_allowed(policy: Policy) -> bool {
    matches!(policy, Policy::Transport)
}

/// The tag does not fit the content, the keys, the sender or the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagMismatch;

impl fmt::Display for TagMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tag mismatch")
    }
}

impl core::error::Error for TagMismatch {}

/// AES-128-GCM with 12-byte tags, the key set up for each call: with a million meters, expanded keys would
/// cost more in cache misses than they save.
pub trait CryptoProvider {
    /// Verifies `tag` over `aad` and `data` in constant time, then decrypts `data` in place.
    ///
    /// # Errors
    /// [`TagMismatch`]; `data` is then not to be looked at.
    fn open(
        &self,
        key: &[u8; KEY_LEN],
        iv: &[u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), TagMismatch>;

    /// Encrypts `data` in place and gives the tag over `aad` and the ciphertext.
    fn seal(&self, key: &[u8; KEY_LEN], iv: &[u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN];

    /// Applies the key stream of counter mode, which both encrypts and decrypts, and proves nothing.
    fn apply_keystream(&self, key: &[u8; KEY_LEN], iv: &[u8; IV_LEN], data: &mut [u8]) {
        // Sealing applies the same counter blocks; the tag it makes besides is of no use here.
        let _unused_tag = self.seal(key, iv, &[], data);
    }
}

/// The safe default: RustCrypto's `aes-gcm`, which takes 12-byte tags as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct RustCrypto;

type Aes128Gcm12 = AesGcm<Aes128, U12, U12>;

impl CryptoProvider for RustCrypto {
    #[inline]
    fn open(
        &self,
        key: &[u8; KEY_LEN],
        iv: &[u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), TagMismatch> {
        Aes128Gcm12::new(key.into())
            .decrypt_inout_detached(iv.into(), aad, data.into(), tag.into())
            .map_err(|_| TagMismatch)
    }

    #[inline]
    fn seal(&self, key: &[u8; KEY_LEN], iv: &[u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        Aes128Gcm12::new(key.into())
            .encrypt_inout_detached(iv.into(), aad, data.into())
            .expect("an apdu is far below the 64 GiB that the mode can protect")
            .into()
    }
}

/// Something whose tag was verified. Only this module can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentic<T>(T);

impl<T> Authentic<T> {
    /// What was verified, no longer marked so.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// A look at what was verified.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

impl Authentic<&[u8]> {
    /// A copy to be kept.
    #[must_use]
    pub fn to_vec(self) -> Authentic<Vec<u8>> {
        Authentic(self.0.to_vec())
    }
}

impl Authentic<Vec<u8>> {
    /// What was copied.
    #[must_use]
    pub fn as_slice(&self) -> Authentic<&[u8]> {
        Authentic(&self.0)
    }
}

impl<'a> Authentic<&'a [u8]> {
    /// The APDU in verified bytes is as authentic as they are.
    ///
    /// # Errors
    /// As [`apdu::parse`].
    pub fn parse(self) -> Result<Authentic<Apdu<'a>>, Error> {
        apdu::parse(self.0).map(Authentic)
    }
}

/// The buffer that plaintext is made in; reused, it allocates nothing once it has grown.
#[derive(Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// An empty buffer, which grows with the first APDUs.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A buffer that does not grow for APDUs of up to `apdu_len` bytes.
    #[must_use]
    pub fn with_capacity(apdu_len: usize) -> Self {
        Self(Vec::with_capacity(AAD_LEN + apdu_len))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch(..)")
    }
}

/// The plaintext of a ciphered APDU: itself an APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<'s> {
    /// Control 0x10 or 0x30, and the tag was right.
    Authentic(Authentic<&'s [u8]>),
    /// Control 0x20: decrypted, but anybody could have changed it.
    Unauthenticated(&'s [u8]),
}

/// Why a ciphered APDU was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityError {
    /// The protection is weaker than the policy of the meter asks for: a downgrade.
    Policy {
        /// What the APDU has.
        control: SecurityControl,
        /// What the meter must have.
        policy: Policy,
    },
    /// A security suite other than 0.
    Suite(u8),
    /// The broadcast key, which a meter may not push with.
    Broadcast,
    /// Compressed content.
    Compressed,
    /// A key that travels with the APDU under the master key, which a meter may not push with.
    WrappedKey,
    /// A key that both sides derive, as suites 1 and 2 do.
    AgreedKey,
    /// It does not say which key it is under.
    KeyNotNamed,
    /// Too few bytes to hold a tag.
    Length(usize),
    /// The tag is wrong: keys, sender, counter or content.
    Tag,
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { control, policy } => {
                let policy = match policy {
                    Policy::Authenticated => "authenticated",
                    Policy::Transport => "transport",
                };
                write!(f, "security control {control} is refused by policy {policy}")
            }
            Self::Suite(suite) => write!(f, "security suite {suite} is not supported"),
            Self::Broadcast => f.write_str("broadcast key is refused"),
            Self::Compressed => f.write_str("compressed content is refused"),
            Self::WrappedKey => f.write_str("a key wrapped under the master key is refused"),
            Self::AgreedKey => f.write_str("an agreed key is not supported"),
            Self::KeyNotNamed => f.write_str("it does not say which key it is under"),
            Self::Length(length) => write!(f, "{length} ciphered bytes cannot hold a tag"),
            Self::Tag => f.write_str("authentication tag is wrong"),
        }
    }
}

impl core::error::Error for SecurityError {}

impl From<TagMismatch> for SecurityError {
    fn from(TagMismatch: TagMismatch) -> Self {
        Self::Tag
    }
}

/// How the content of an accepted security control is protected.
#[derive(Clone, Copy)]
enum Protection {
    Authenticated,
    Encrypted,
    AuthenticatedEncrypted,
}

/// The rules that need no key.
fn admit(control: SecurityControl, policy: Policy) -> Result<Protection, SecurityError> {
    if control.suite() != 0 {
        return Err(SecurityError::Suite(control.suite()));
    }
    if control.broadcast() {
        return Err(SecurityError::Broadcast);
    }
    if control.compressed() {
        return Err(SecurityError::Compressed);
    }
    match (control.authenticated(), control.encrypted(), policy) {
        (true, true, _) => Ok(Protection::AuthenticatedEncrypted),
        (true, false, _) => Ok(Protection::Authenticated),
        (false, true, Policy::Transport) => Ok(Protection::Encrypted),
        (false, _, _) => Err(SecurityError::Policy { control, policy }),
    }
}

/// Opens a ciphered APDU into `scratch`: policy first, then lengths, then the tag.
///
/// # Errors
/// [`SecurityError`]; nothing of the content is then given out.
pub fn open<'s>(
    provider: &impl CryptoProvider,
    glo: &GeneralGlo<'_>,
    keys: &Keys,
    policy: Policy,
    scratch: &'s mut Scratch,
) -> Result<Opened<'s>, SecurityError> {
    let protection = admit(glo.security_control(), policy)?;
    let iv = iv(glo.title(), glo.invocation_counter());
    let buffer = &mut scratch.0;
    buffer.clear();
    match protection {
        Protection::AuthenticatedEncrypted => {
            let (content, tag) = split_tag(glo.ciphered())?;
            buffer.extend_from_slice(content);
            let mut aad = aad(glo.security_control(), keys);
            let opened = provider.open(&keys.guek, &iv, &aad, buffer, tag);
            aad.zeroize();
            opened?;
            Ok(Opened::Authentic(Authentic(buffer)))
        }
        Protection::Authenticated => {
            let (content, tag) = split_tag(glo.ciphered())?;
            buffer.extend_from_slice(&aad(glo.security_control(), keys));
            buffer.extend_from_slice(content);
            let opened = provider.open(&keys.guek, &iv, buffer, &mut [], tag);
            let (aad, content) = buffer.split_at_mut(AAD_LEN);
            aad.zeroize();
            opened?;
            Ok(Opened::Authentic(Authentic(content)))
        }
        Protection::Encrypted => {
            buffer.extend_from_slice(glo.ciphered());
            provider.apply_keystream(&keys.guek, &iv, buffer);
            Ok(Opened::Unauthenticated(buffer))
        }
    }
}

/// The content as far as it can be read without checking its tag, for showing it to a person: `None` when
/// it is encrypted and there is no key.
pub(crate) fn read_unverified<'s>(
    provider: &impl CryptoProvider,
    glo: &GeneralGlo<'_>,
    guek: Option<&[u8; KEY_LEN]>,
    scratch: &'s mut Scratch,
) -> Result<Option<&'s [u8]>, SecurityError> {
    let control = glo.security_control();
    let content = if control.authenticated() { split_tag(glo.ciphered())?.0 } else { glo.ciphered() };
    let buffer = &mut scratch.0;
    buffer.clear();
    buffer.extend_from_slice(content);
    match (admit(control, Policy::Transport)?, guek) {
        (Protection::Authenticated, _) => Ok(Some(buffer)),
        (_, None) => Ok(None),
        (_, Some(guek)) => {
            let iv = iv(glo.title(), glo.invocation_counter());
            provider.apply_keystream(guek, &iv, buffer);
            Ok(Some(buffer))
        }
    }
}

/// Appends a general-glo-ciphering APDU that protects `apdu` as `control` says: bits 0x10 and 0x20 choose
/// tag and encryption, the byte itself goes out as it is.
pub fn seal(
    provider: &impl CryptoProvider,
    control: SecurityControl,
    system_title: &[u8; SYSTEM_TITLE_LEN],
    counter: u32,
    keys: &Keys,
    apdu: &[u8],
    out: &mut Vec<u8>,
) {
    let tag_len = if control.authenticated() { TAG_LEN } else { 0 };
    apdu::emit_general_glo_head(system_title, control, counter, apdu.len() + tag_len, out);
    let content = out.len();
    out.extend_from_slice(apdu);
    let iv = iv(system_title, counter);
    let tag = match (control.authenticated(), control.encrypted()) {
        (false, false) => return,
        (false, true) => {
            provider.apply_keystream(&keys.guek, &iv, out.split_at_mut(content).1);
            return;
        }
        (true, true) => {
            let mut aad = aad(control, keys);
            let tag = provider.seal(&keys.guek, &iv, &aad, out.split_at_mut(content).1);
            aad.zeroize();
            tag
        }
        (true, false) => {
            let mut aad = aad(control, keys).to_vec();
            aad.extend_from_slice(apdu);
            let tag = provider.seal(&keys.guek, &iv, &aad, &mut []);
            aad.zeroize();
            tag
        }
    };
    out.extend_from_slice(&tag);
}

/// Verifies a tag over control ‖ authentication key ‖ head, and the content as it stands or is encrypted; decrypts it then.
fn open_covered<'s>(
    provider: &impl CryptoProvider,
    encryption: &[u8; KEY_LEN],
    iv: &[u8; IV_LEN],
    (control, authentication, head): (SecurityControl, &[u8; KEY_LEN], &[u8]),
    payload: &[u8],
    encrypted: bool,
    Scratch(buffer): &'s mut Scratch,
) -> Result<Authentic<&'s [u8]>, SecurityError> {
    let (payload, tag) = split_tag(payload)?;
    // Nothing of an earlier APDU is left behind when the buffer has to grow.
    buffer.zeroize();
    buffer.reserve(AAD_LEN + head.len() + payload.len());
    buffer.push(control.0);
    buffer.extend_from_slice(authentication);
    buffer.extend_from_slice(head);
    let covered = buffer.len();
    buffer.extend_from_slice(payload);
    let opened = if encrypted {
        let (aad, data) = buffer.split_at_mut(covered);
        provider.open(encryption, iv, aad, data, tag)
    } else {
        provider.open(encryption, iv, buffer, &mut [], tag)
    };
    if let Err(mismatch) = opened {
        buffer.zeroize();
        return Err(mismatch.into());
    }
    let (aad, plain) = buffer.split_at_mut(covered);
    aad.zeroize();
    Ok(Authentic(plain))
}

fn iv(system_title: &[u8; SYSTEM_TITLE_LEN], counter: u32) -> [u8; IV_LEN] {
    let mut iv = [0; IV_LEN];
    let (title, number) = iv.split_at_mut(SYSTEM_TITLE_LEN);
    title.copy_from_slice(system_title);
    number.copy_from_slice(&counter.to_be_bytes());
    iv
}

fn aad(control: SecurityControl, keys: &Keys) -> [u8; AAD_LEN] {
    let mut aad = [control.0; AAD_LEN];
    aad.split_at_mut(1).1.copy_from_slice(&keys.gak);
    aad
}

fn split_tag(ciphered: &[u8]) -> Result<(&[u8], &[u8; TAG_LEN]), SecurityError> {
    ciphered.split_last_chunk().ok_or(SecurityError::Length(ciphered.len()))
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const TITLE: [u8; 8] = [0x4d, 0x4d, 0x4d, 0, 0, 0xbc, 0x61, 0x4e];
    const COUNTER: u32 = 0x0123_4567;
    const ALL: [SecurityControl; 3] = [
        SecurityControl::AUTHENTICATED,
        SecurityControl::ENCRYPTED,
        SecurityControl::AUTHENTICATED_ENCRYPTED,
    ];

    /// 000102…0F and D0D1…DF.
    fn keys() -> Keys {
        let count_from = |first: u8| core::array::from_fn(|index| first + index as u8);
        Keys::new(count_from(0), count_from(0xd0))
    }

    fn sealed(control: SecurityControl, apdu: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        seal(&RustCrypto, control, &TITLE, COUNTER, &keys(), apdu, &mut out);
        out
    }

    fn glo(apdu: &[u8]) -> GeneralGlo<'_> {
        match apdu::parse(apdu) {
            Ok(Apdu::GeneralGlo(glo)) => glo,
            other => panic!("not general-glo-ciphering: {other:?}"),
        }
    }

    fn refusal(apdu: &[u8], policy: Policy) -> SecurityError {
        open(&RustCrypto, &glo(apdu), &keys(), policy, &mut Scratch::new()).unwrap_err()
    }

    /// The vectors of the Green Book: general-glo content is the same as glo-get-request content.
    #[track_caller]
    fn vector(control: SecurityControl, plaintext: &str, content: &str) {
        let plaintext = hex::decode(plaintext).unwrap();
        let apdu = sealed(control, &plaintext);
        let mut expected = vec![control.0];
        expected.extend_from_slice(&COUNTER.to_be_bytes());
        expected.extend_from_slice(&hex::decode(content).unwrap());
        assert_eq!(hex::encode(&apdu[11..]), hex::encode(&expected));
        assert_eq!(usize::from(apdu[10]), expected.len());
        let mut scratch = Scratch::new();
        let opened = open(&RustCrypto, &glo(&apdu), &keys(), Policy::Transport, &mut scratch);
        match opened.unwrap() {
            Opened::Authentic(content) => {
                assert!(control.authenticated());
                assert_eq!(content.into_inner(), plaintext);
            }
            Opened::Unauthenticated(content) => {
                assert!(!control.authenticated());
                assert_eq!(content, plaintext);
            }
        }
    }

    const GET: &str = "c0010000080000010000ff0200";
    const INITIATE: &str = "01011000112233445566778899aabbccddeeff0000065f1f0400007e1f04b0";

    #[test]
    fn green_book_vector_authenticated_only() {
        let content = format!("{GET}06725d910f9221d263877516");
        vector(SecurityControl::AUTHENTICATED, GET, &content);
    }

    #[test]
    fn green_book_vector_encrypted_only() {
        vector(SecurityControl::ENCRYPTED, GET, "411312ff935a47566827c467bc");
    }

    #[test]
    fn green_book_vector_authenticated_and_encrypted() {
        let content = "411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b";
        vector(SecurityControl::AUTHENTICATED_ENCRYPTED, GET, content);
    }

    #[test]
    fn green_book_vector_initiate_request() {
        let content = "801302ff8a7874133d414ced25b42534d28db0047720606b175bd52211be68\
                       41db204d39ee6fdb8e356855";
        vector(SecurityControl::AUTHENTICATED_ENCRYPTED, INITIATE, content);
    }

    #[test]
    fn an_authenticated_meter_is_not_believed_without_a_tag() {
        for control in [SecurityControl::ENCRYPTED, SecurityControl(0)] {
            let policy = Policy::Authenticated;
            let error = refusal(&sealed(control, &[0x0f]), policy);
            assert_eq!(error, SecurityError::Policy { control, policy });
        }
        assert!(!plain_allowed(Policy::Authenticated));
        assert!(plain_allowed(Policy::Transport));
    }

    #[test]
    fn content_without_any_protection_is_no_ciphered_apdu_for_anyone() {
        let (control, policy) = (SecurityControl(0), Policy::Transport);
        let error = refusal(&sealed(control, &[0x0f]), policy);
        assert_eq!(error, SecurityError::Policy { control, policy });
        let words = "security control 0x00 is refused by policy transport";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn other_suites_broadcast_and_compression_are_refused_before_any_key_is_used() {
        for policy in [Policy::Authenticated, Policy::Transport] {
            for control in 0..=0xff {
                let expected = match SecurityControl(control) {
                    control if control.suite() != 0 => SecurityError::Suite(control.suite()),
                    control if control.broadcast() => SecurityError::Broadcast,
                    control if control.compressed() => SecurityError::Compressed,
                    _ => continue,
                };
                let apdu = sealed(SecurityControl(control), &[0x0f, 1, 2, 3]);
                assert_eq!(refusal(&apdu, policy), expected, "control 0x{control:02x}");
            }
        }
    }

    #[test]
    fn content_too_short_for_a_tag_is_refused() {
        for control in [0x10, 0x30] {
            for length in 0..TAG_LEN {
                let mut apdu = vec![0xdb, 8, 1, 2, 3, 4, 5, 6, 7, 8, 5 + length as u8, control];
                apdu.resize(16 + length, 0);
                assert_eq!(refusal(&apdu, Policy::Transport), SecurityError::Length(length));
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_an_authenticated_apdu_is_refused() {
        let plaintext = hex::decode(GET).unwrap();
        for control in [SecurityControl::AUTHENTICATED, SecurityControl::AUTHENTICATED_ENCRYPTED] {
            let apdu = sealed(control, &plaintext);
            let mut scratch = Scratch::new();
            for bit in 0..apdu.len() * 8 {
                let mut flipped = apdu.clone();
                flipped[bit / 8] ^= 0x80 >> (bit % 8);
                let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(&flipped) else {
                    continue;
                };
                let opened = open(&RustCrypto, &glo, &keys(), Policy::Authenticated, &mut scratch);
                assert!(opened.is_err(), "bit {bit} of control {control}");
            }
        }
    }

    #[test]
    fn wrong_keys_open_nothing() {
        let apdu = sealed(SecurityControl::AUTHENTICATED_ENCRYPTED, &[0x0f; 40]);
        let Keys { guek, gak } = &keys();
        for wrong in [Keys::new([0; 16], *gak), Keys::new(*guek, [0; 16])] {
            let mut scratch = Scratch::new();
            let opened = open(&RustCrypto, &glo(&apdu), &wrong, Policy::Transport, &mut scratch);
            assert_eq!(opened, Err(SecurityError::Tag));
        }
    }

    #[test]
    fn verified_bytes_give_a_verified_apdu() {
        let push = [0x0f, 0, 0, 0, 1, 0, 0x11, 7];
        let apdu = sealed(SecurityControl::AUTHENTICATED, &push);
        let mut scratch = Scratch::new();
        let opened = open(&RustCrypto, &glo(&apdu), &keys(), Policy::Authenticated, &mut scratch);
        let Ok(Opened::Authentic(bytes)) = opened else {
            panic!("not authentic: {opened:?}");
        };
        assert_eq!(bytes.get(), &push);
        let parsed = bytes.parse().unwrap();
        assert!(matches!(parsed.get(), Apdu::DataNotification(_)));
    }

    #[test]
    fn the_authentication_key_does_not_stay_in_the_buffer() {
        let Keys { gak, .. } = &keys();
        let mut apdu = sealed(SecurityControl::AUTHENTICATED, &[0x0f; 40]);
        for _ in 0..2 {
            let mut scratch = Scratch::with_capacity(40);
            let opened = open(&RustCrypto, &glo(&apdu), &keys(), Policy::Transport, &mut scratch);
            let _verified_or_not = opened.is_ok();
            assert!(!scratch.0.windows(16).any(|window| window == gak));
            *apdu.last_mut().unwrap() ^= 1;
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", keys()), "Keys(..)");
        assert_eq!(format!("{:?}", Scratch(vec![1])), "Scratch(..)");
    }

    #[test]
    fn sealing_writes_every_byte_and_keeps_what_was_there() {
        for control in ALL {
            let mut out = vec![0xa5; 256];
            out.truncate(4);
            seal(&RustCrypto, control, &TITLE, COUNTER, &keys(), &[7; 130], &mut out);
            assert_eq!(&out[..4], [0xa5; 4]);
            assert_eq!(&out[4..], sealed(control, &[7; 130]));
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            guek: [u8; 16],
            gak: [u8; 16],
            title: [u8; 8],
            counter: u32,
            control in prop::sample::select(&ALL[..]),
            apdu in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let keys = Keys::new(guek, gak);
            let mut out = vec![];
            seal(&RustCrypto, control, &title, counter, &keys, &apdu, &mut out);
            let glo = glo(&out);
            prop_assert_eq!(glo.system_title(), &title);
            prop_assert_eq!(glo.invocation_counter(), counter);
            let mut scratch = Scratch::new();
            let content = match open(&RustCrypto, &glo, &keys, Policy::Transport, &mut scratch).unwrap() {
                Opened::Authentic(content) => content.into_inner(),
                Opened::Unauthenticated(content) => content,
            };
            prop_assert_eq!(content, &apdu[..]);
        }

        #[test]
        fn any_flipped_bit_of_an_authenticated_push_is_refused(
            apdu in prop::collection::vec(any::<u8>(), 0..300),
            encrypted: bool,
            bit in any::<prop::sample::Index>(),
        ) {
            let control = SecurityControl(if encrypted { 0x30 } else { 0x10 });
            let mut flipped = sealed(control, &apdu);
            let bit = bit.index(flipped.len() * 8);
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(&flipped) {
                let mut scratch = Scratch::new();
                let opened = open(&RustCrypto, &glo, &keys(), Policy::Authenticated, &mut scratch);
                prop_assert!(opened.is_err());
            }
        }
    }
}
