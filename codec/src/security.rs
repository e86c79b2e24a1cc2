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
    fn seal(
        &self,
        key: &[u8; KEY_LEN],
        iv: &[u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> [u8; TAG_LEN];

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
    fn seal(
        &self,
        key: &[u8; KEY_LEN],
        iv: &[u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> [u8; TAG_LEN] {
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
                write!(
                    f,
                    "security control {control} is refused by policy {policy}"
                )
            }
            Self::Suite(suite) => write!(f, "security suite {suite} is not supported"),
            Self::Broadcast => f.write_str("broadcast key is refused"),
            Self::Compressed => f.write_str("compressed content is refused"),
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
    let content = if control.authenticated() {
        split_tag(glo.ciphered())?.0
    } else {
        glo.ciphered()
    };
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
#[expect(
    clippy::too_many_arguments,
    reason = "one argument an input of the suite"
)]
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
            let aad = aad(control, keys);
            provider.seal(&keys.guek, &iv, &aad, out.split_at_mut(content).1)
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
    ciphered
        .split_last_chunk()
        .ok_or(SecurityError::Length(ciphered.len()))
}
