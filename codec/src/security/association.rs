//! Ciphered APDUs inside an association, for both sides: [`Outgoing`] seals, [`Incoming`] opens.
//!
//! What comes in goes through one door, in this order, and the first fault ends it:
//!
//! 1. lengths and types of the APDU's head,
//! 2. the title of the sender, if the APDU names one, is the one this association is with,
//! 3. the security control is the one agreed: nothing weaker and nothing else,
//! 4. the tag,
//! 5. the content is that of the service that was announced: the tag does not cover the byte that says so,
//! 6. the counter is above the last one under the same key.
//!
//! Only then is there an [`Authentic`], and nothing else gives the content out: it cannot be parsed before.
//! What is refused uses up no counter: neither a forged frame nor a genuine one whose first byte was changed on the
//! way makes a replay of the frame that comes behind it.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroize;

use super::counter::{Invocation, Replay, RisingCounter};
use super::keys::{AssociationKeys, Key, KeyUse, WrappedKey};
use super::{
    AAD_LEN, Authentic, CryptoProvider, KEY_LEN, Scratch, SecurityControl, SecurityError, TAG_LEN, iv,
    open_covered,
};
use crate::apdu::ciphered::{self, Content, KeyInfo, Scope, Service};
use crate::apdu::{self, Apdu, SYSTEM_TITLE_LEN};
use crate::error::Error;

/// The broadcast bit of a security control.
const BROADCAST: u8 = 0x40;
/// An exception-response may stand in for any other answer.
const EXCEPTION_RESPONSE: u8 = 0xd8;

/// How every APDU of an association is protected. Weaker forms than these prove nothing and do not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protect {
    /// Control 0x10: a tag, content in the clear.
    Authenticated,
    /// Control 0x30: a tag, content encrypted.
    AuthenticatedEncrypted,
}

impl Protect {
    /// The security control of an APDU under this key.
    #[must_use]
    pub const fn control(self, key: KeyUse) -> SecurityControl {
        let SecurityControl(control) = match self {
            Self::Authenticated => SecurityControl::AUTHENTICATED,
            Self::AuthenticatedEncrypted => SecurityControl::AUTHENTICATED_ENCRYPTED,
        };
        SecurityControl(if matches!(key, KeyUse::Broadcast) { control | BROADCAST } else { control })
    }
}

/// What is put around an APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// The ciphered form of its service: glo-* or ded-*.
    Service,
    /// general-glo- or general-ded-ciphering with the title of the sender: for any APDU.
    General,
}

/// Why an APDU was not sealed: this side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// There is no such key.
    NoKey(KeyUse),
    /// There is no master key to wrap another with.
    NoMasterKey,
    /// The APDU with this tag has no ciphered form of its own; none when there is no APDU.
    NoService(Option<u8>),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey(key) => write!(f, "there is no {key}"),
            Self::NoMasterKey => f.write_str("there is no master key"),
            Self::NoService(Some(tag)) => write!(f, "apdu 0x{tag:02x} has no ciphered form of its own"),
            Self::NoService(None) => f.write_str("an empty apdu"),
        }
    }
}

impl core::error::Error for SealError {}

/// The sending side of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// System title of this side.
    pub title: [u8; SYSTEM_TITLE_LEN],
    /// How its APDUs are protected.
    pub protect: Protect,
}

impl Outgoing {
    /// Appends `apdu`, protected with the key for this use. The invocation is one of that key's counter and
    /// is used up, even by a failure.
    ///
    /// # Errors
    /// [`SealError`]; nothing is appended then.
    #[allow(
        clippy::too_many_arguments,
        reason = "each of them differs between calls, and none has a default"
    )]
    #[allow(clippy::needless_pass_by_value, reason = "a counter is used up by what is made with it")]
    pub fn seal(
        &self,
        provider: &impl CryptoProvider,
        keys: &AssociationKeys,
        key: KeyUse,
        envelope: Envelope,
        invocation: Invocation,
        apdu: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let encryption = keys.encryption(key).ok_or(SealError::NoKey(key))?;
        let (control, counter) = (self.protect.control(key), invocation.counter());
        let scope = if key == KeyUse::Dedicated { Scope::Dedicated } else { Scope::Global };
        match envelope {
            Envelope::Service => {
                let tag = apdu.first().copied();
                let service = tag.and_then(Service::from_tag).ok_or(SealError::NoService(tag))?;
                out.push(service.ciphered_tag(scope));
            }
            Envelope::General => {
                out.push(if scope == Scope::Dedicated { ciphered::GENERAL_DED } else { apdu::GENERAL_GLO });
                out.push(SYSTEM_TITLE_LEN as u8);
                out.extend_from_slice(&self.title);
            }
        }
        ciphered::emit_content_head(control, counter, apdu.len() + TAG_LEN, out);
        let content = out.len();
        out.extend_from_slice(apdu);
        let iv = iv(&self.title, counter);
        let tag = match self.protect {
            Protect::AuthenticatedEncrypted => {
                let mut aad = additional_data(control, keys, &[], &[]);
                let tag = provider.seal(encryption, &iv, &aad, out.split_at_mut(content).1);
                aad.zeroize();
                tag
            }
            Protect::Authenticated => {
                let mut aad = additional_data(control, keys, &[], apdu);
                let tag = provider.seal(encryption, &iv, &aad, &mut []);
                aad.zeroize();
                tag
            }
        };
        out.extend_from_slice(&tag);
        Ok(())
    }
}

/// Why an APDU was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its head makes no sense.
    Malformed(Error),
    /// It is not ciphered; this is its tag.
    NotCiphered(u8),
    /// It names another sender than this association is with.
    Sender,
    /// Its security control is not the one agreed.
    Control {
        /// What it has.
        control: SecurityControl,
        /// What was agreed.
        required: SecurityControl,
    },
    /// It is protected with a key that this side does not have.
    NoKey(KeyUse),
    /// It is protected with a key of a kind that is not supported, or does not say which.
    KeyInfo,
    /// Its key travels with it, and there is no master key that it could be wrapped under.
    NoMasterKey,
    /// Its key travels with it, and was not wrapped under the master key.
    WrappedKey,
    /// It cannot be opened.
    Security(SecurityError),
    /// It is genuine, and was received before.
    Replay(Replay),
    /// It is genuine, new or not, and its content is not of the service that its tag says.
    Content {
        /// The service that was announced.
        announced: Service,
        /// The tag of the content; none when it is empty.
        found: Option<u8>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::NotCiphered(tag) => write!(f, "apdu 0x{tag:02x} is not ciphered"),
            Self::Sender => f.write_str("system title of another sender"),
            Self::Control { control, required } => {
                write!(f, "security control {control} instead of {required}")
            }
            Self::NoKey(key) => write!(f, "there is no {key}"),
            Self::KeyInfo => f.write_str("kind of key is not supported"),
            Self::NoMasterKey => f.write_str("there is no master key to unwrap its key with"),
            Self::WrappedKey => f.write_str("its key was not wrapped under the master key"),
            Self::Security(error) => error.fmt(f),
            Self::Replay(replay) => replay.fmt(f),
            Self::Content { announced, found: Some(found) } => {
                write!(f, "apdu 0x{found:02x} inside a ciphered {announced}")
            }
            Self::Content { announced, found: None } => write!(f, "nothing inside a ciphered {announced}"),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<SecurityError> for Refusal {
    fn from(error: SecurityError) -> Self {
        Self::Security(error)
    }
}

/// What came through the door.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Received<'s> {
    /// The key it was protected with.
    pub key: KeyUse,
    /// Its counter under that key; the highest now.
    pub counter: u32,
    /// The APDU; [`Authentic::parse`] gives its view.
    pub apdu: Authentic<&'s [u8]>,
}

/// The content may hold a key and is not printed.
impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("key", &self.key)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// The receiving side of an association: whom it is with, how APDUs must be protected, and the last counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    title: [u8; SYSTEM_TITLE_LEN],
    protect: Protect,
    unicast: RisingCounter,
    broadcast: RisingCounter,
    dedicated: RisingCounter,
}

impl Incoming {
    /// From the side with this title; `unicast` is what is remembered of its counter under the global
    /// unicast key, from earlier associations.
    #[must_use]
    pub const fn new(title: [u8; SYSTEM_TITLE_LEN], protect: Protect, unicast: RisingCounter) -> Self {
        Self { title, protect, unicast, broadcast: RisingCounter::new(), dedicated: RisingCounter::new() }
    }

    /// System title of the other side.
    #[must_use]
    pub const fn title(&self) -> &[u8; SYSTEM_TITLE_LEN] {
        &self.title
    }

    /// What was accepted under a key, to be remembered.
    #[must_use]
    pub const fn counter(&self, key: KeyUse) -> RisingCounter {
        match key {
            KeyUse::Unicast => self.unicast,
            KeyUse::Broadcast => self.broadcast,
            KeyUse::Dedicated => self.dedicated,
        }
    }

    /// The key for this use is a new one, or what is remembered of its counter is `counter`.
    pub const fn rekeyed(&mut self, key: KeyUse, counter: RisingCounter) {
        match key {
            KeyUse::Unicast => self.unicast = counter,
            KeyUse::Broadcast => self.broadcast = counter,
            KeyUse::Dedicated => self.dedicated = counter,
        }
    }

    /// Opens an APDU into `scratch`, by the rule in the head of this module.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of the content is given out then.
    pub fn receive<'s>(
        &mut self,
        provider: &impl CryptoProvider,
        keys: &AssociationKeys,
        apdu: &[u8],
        scratch: &'s mut Scratch,
    ) -> Result<Received<'s>, Refusal> {
        let title = self.title;
        let message = Message::parse(apdu, &title)?;
        if message.title != &title {
            return Err(Refusal::Sender);
        }
        let control = message.content.control;
        let required = message.required(self.protect);
        if control != required {
            return Err(Refusal::Control { control, required });
        }
        let own = message.own_key(keys)?;
        let named = || keys.encryption(message.key).ok_or(Refusal::NoKey(message.key));
        let encryption = own.as_ref().map_or_else(named, |own| Ok(own.expose()))?;
        let plain = message.open(provider, encryption, keys, self.protect, scratch)?;
        let counter = message.content.counter;
        message.expect(plain.0)?;
        self.counter_mut(message.key).accept(counter).map_err(Refusal::Replay)?;
        Ok(Received { key: message.key, counter, apdu: plain })
    }

    const fn counter_mut(&mut self, key: KeyUse) -> &mut RisingCounter {
        match key {
            KeyUse::Unicast => &mut self.unicast,
            KeyUse::Broadcast => &mut self.broadcast,
            KeyUse::Dedicated => &mut self.dedicated,
        }
    }
}

/// The head of a ciphered APDU of any form.
struct Message<'a> {
    title: &'a [u8; SYSTEM_TITLE_LEN],
    key: KeyUse,
    /// The broadcast bit is only used where nothing else says which key it is.
    key_in_control: bool,
    content: Content<'a>,
    /// What a general-ciphering APDU adds to what the tag covers.
    head: &'a [u8],
    /// A key of this message alone, as it travels.
    wrapped: Option<&'a [u8]>,
    announced: Option<Service>,
}

impl<'a> Message<'a> {
    fn parse(apdu: &'a [u8], peer: &'a [u8; SYSTEM_TITLE_LEN]) -> Result<Self, Refusal> {
        let global = |title, content: Content<'a>, announced| Self {
            title,
            key: if content.control.broadcast() { KeyUse::Broadcast } else { KeyUse::Unicast },
            key_in_control: true,
            content,
            head: &[],
            wrapped: None,
            announced,
        };
        let dedicated = |title, content, announced| Self {
            title,
            key: KeyUse::Dedicated,
            key_in_control: false,
            content,
            head: &[],
            wrapped: None,
            announced,
        };
        match apdu::parse_with_title(apdu, Some(peer)).map_err(Refusal::Malformed)? {
            Apdu::Ciphered(ciphered) => {
                let announced = Some(ciphered.service());
                Ok(match ciphered.scope() {
                    Scope::Global => global(peer, ciphered.content(), announced),
                    Scope::Dedicated => dedicated(peer, ciphered.content(), announced),
                })
            }
            Apdu::GeneralGlo(glo) => {
                let content = Content {
                    control: glo.security_control(),
                    counter: glo.invocation_counter(),
                    payload: glo.ciphered(),
                    offset: glo.ciphered_offset(),
                };
                Ok(global(glo.title(), content, None))
            }
            Apdu::GeneralDed(ded) => Ok(dedicated(ded.system_title(), ded.content(), None)),
            Apdu::GeneralCiphering(general) => {
                let (key, wrapped) = match general.key_info() {
                    Some(KeyInfo::Unicast) => (KeyUse::Unicast, None),
                    Some(KeyInfo::Broadcast) => (KeyUse::Broadcast, None),
                    // Its counter is one of the global key: see the head of `ciphering`.
                    Some(KeyInfo::Wrapped(wrapped)) => (KeyUse::Unicast, Some(wrapped)),
                    Some(KeyInfo::Agreed { .. }) | None => return Err(Refusal::KeyInfo),
                };
                Ok(Self {
                    title: general.originator(),
                    key,
                    key_in_control: false,
                    content: general.content(),
                    head: general.head(),
                    wrapped,
                    announced: None,
                })
            }
            _ => Err(Refusal::NotCiphered(apdu.first().copied().unwrap_or_default())),
        }
    }

    /// The key that travels with it, if one does.
    fn own_key(&self, keys: &AssociationKeys) -> Result<Option<Key>, Refusal> {
        let Some(wrapped) = self.wrapped else { return Ok(None) };
        let master = keys.master().ok_or(Refusal::NoMasterKey)?;
        let wrapped = wrapped.try_into().map(WrappedKey).map_err(|_| Refusal::WrappedKey)?;
        master.unwrap(&wrapped).map(Some).map_err(|_| Refusal::WrappedKey)
    }

    const fn required(&self, protect: Protect) -> SecurityControl {
        protect.control(if self.key_in_control { self.key } else { KeyUse::Unicast })
    }

    /// Verifies the tag, and decrypts.
    fn open<'s>(
        &self,
        provider: &impl CryptoProvider,
        encryption: &[u8; KEY_LEN],
        keys: &AssociationKeys,
        protect: Protect,
        scratch: &'s mut Scratch,
    ) -> Result<Authentic<&'s [u8]>, SecurityError> {
        let iv = iv(self.title, self.content.counter);
        let covered = (self.content.control, keys.authentication(), self.head);
        let encrypted = protect == Protect::AuthenticatedEncrypted;
        open_covered(provider, encryption, &iv, covered, self.content.payload, encrypted, scratch)
    }

    /// The tag outside is not covered by the one that was verified, so it must say what the content says,
    /// or announce an answer in whose place an error may stand.
    fn expect(&self, plain: &[u8]) -> Result<(), Refusal> {
        let Some(announced) = self.announced else {
            return Ok(());
        };
        let found = plain.first().copied();
        let errors = [EXCEPTION_RESPONSE, Service::ConfirmedServiceError.tag()];
        match found {
            Some(tag) if tag == announced.tag() => Ok(()),
            Some(tag) if errors.contains(&tag) && announced.is_answer() => Ok(()),
            _ => Err(Refusal::Content { announced, found }),
        }
    }
}

/// Control ‖ authentication key ‖ head ‖ what is not encrypted.
pub(super) fn additional_data(
    control: SecurityControl,
    keys: &AssociationKeys,
    head: &[u8],
    plain: &[u8],
) -> Vec<u8> {
    let mut data = Vec::with_capacity(AAD_LEN + head.len() + plain.len());
    data.push(control.0);
    data.extend_from_slice(keys.authentication());
    data.extend_from_slice(head);
    data.extend_from_slice(plain);
    data
}

#[cfg(test)]
mod tests;
