//! What a client brings to an association.

use core::fmt;
use core::time::Duration;

use crate::apdu::SYSTEM_TITLE_LEN;
use crate::apdu::acse::{ApplicationContext, Mechanism};
use crate::apdu::initiate::Conformance;
use crate::security::association::Protect;
use crate::security::counter::RisingCounter;
use crate::security::hls::Secret;
use crate::security::keys::AssociationKeys;

/// Everything that is proposed in an AARQ, and how long is waited for answers.
#[derive(Clone, Debug)]
pub struct Config {
    /// System title of the client. Counters belong to it: two associations under one key and one title need one counter.
    pub title: [u8; SYSTEM_TITLE_LEN],
    /// System title of the meter where it is known; otherwise the one in its answer is believed.
    pub meter_title: Option<[u8; SYSTEM_TITLE_LEN]>,
    /// How the client proves who it is.
    pub authentication: Authentication,
    /// How APDUs are protected; none is an association in the clear.
    pub protection: Option<Protection>,
    /// Services that the client would use. With [`Conformance::GENERAL_PROTECTION`] APDUs are sent as general-glo and
    /// general-ded, if the meter agrees.
    pub conformance: Conformance,
    /// Longest APDU that the client takes; 0 is no limit.
    pub max_pdu: u16,
    /// Blocks of a general transfer that the client takes at once. With [`Conformance::GENERAL_BLOCK_TRANSFER`], and if the
    /// meter agrees, requests and their answers go in such blocks instead of those of each service; 0: they never do.
    pub block_window: u8,
    /// Patience.
    pub timing: Timing,
    /// Counters that are reserved at once; see [`poll_reserve`](super::ClientSession::poll_reserve).
    pub reserve: u32,
    /// A release carries a ciphered initiate-request, which some meters insist on.
    pub release_ciphered: bool,
}

impl Config {
    /// Longest APDU that a client takes unless it says otherwise.
    pub const MAX_PDU: u16 = 1200;
    /// Counters that are reserved at once unless it says otherwise.
    pub const RESERVE: u32 = 1000;

    /// In the clear and without any proof, as the public client of Indian meters: good for clock, names and counters.
    #[must_use]
    pub fn public(title: [u8; SYSTEM_TITLE_LEN]) -> Self {
        Self {
            title,
            meter_title: None,
            authentication: Authentication::None,
            protection: None,
            conformance: reading(),
            max_pdu: Self::MAX_PDU,
            block_window: 0,
            timing: Timing::default(),
            reserve: Self::RESERVE,
            release_ciphered: false,
        }
    }

    /// In the clear and without any proof, and yet with all that this side can do: for meters without security.
    #[must_use]
    pub fn plain(title: [u8; SYSTEM_TITLE_LEN]) -> Self {
        Self { conformance: reading().union(writing()), ..Self::public(title) }
    }

    /// Ciphered; proposes all that this side can do.
    #[must_use]
    pub fn ciphered(
        title: [u8; SYSTEM_TITLE_LEN],
        authentication: Authentication,
        protection: Protection,
    ) -> Self {
        Self { authentication, protection: Some(protection), ..Self::plain(title) }
    }

    /// The same, and proposes to transfer requests and answers in blocks, of which it takes so many at once; 0: it does not.
    #[must_use]
    pub fn in_blocks(self, window: u8) -> Self {
        let proposed = self.conformance.union(Conformance::GENERAL_BLOCK_TRANSFER);
        let conformance = if window > 0 { proposed } else { self.conformance };
        Self { conformance, block_window: window, ..self }
    }

    /// The application context that is asked for.
    #[must_use]
    pub const fn context(&self) -> ApplicationContext {
        match self.protection {
            Some(_) => ApplicationContext::LogicalNameCiphered,
            None => ApplicationContext::LogicalName,
        }
    }
}

fn reading() -> Conformance {
    Conformance::GET
        .union(Conformance::BLOCK_TRANSFER_WITH_GET)
        .union(Conformance::SELECTIVE_ACCESS)
        .union(Conformance::MULTIPLE_REFERENCES)
}

fn writing() -> Conformance {
    Conformance::SET
        .union(Conformance::ACTION)
        .union(Conformance::BLOCK_TRANSFER_WITH_SET)
        .union(Conformance::BLOCK_TRANSFER_WITH_ACTION)
}

/// How the client proves who it is.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Not at all.
    None,
    /// With a password, which travels as it is.
    Password(Secret),
    /// Mechanism 2, as in India: both sides answer a challenge with AES under this secret.
    Aes(Secret),
    /// Mechanism 5: both sides answer a challenge with a tag under the global keys.
    Gmac,
}

impl Authentication {
    /// Its number on the wire.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        match self {
            Self::None => Mechanism::Lowest,
            Self::Password(_) => Mechanism::LowLevel,
            Self::Aes(_) => Mechanism::Manufacturer,
            Self::Gmac => Mechanism::Gmac,
        }
    }
}

/// The keys of the meter and what is done with them.
#[derive(Clone)]
pub struct Protection {
    /// Global keys. A dedicated key is made by the session.
    pub keys: AssociationKeys,
    /// How every APDU is protected, in both directions.
    pub protect: Protect,
    /// Whether a key for this association is proposed, under which everything after the proof travels.
    pub dedicated: bool,
    /// What is remembered of the meter's counter under its global key from earlier associations. Without a challenge
    /// it is all that tells answers of today from recorded ones.
    pub received: RisingCounter,
}

impl Protection {
    /// Authenticated and encrypted under the global keys.
    #[must_use]
    pub const fn new(keys: AssociationKeys) -> Self {
        Self {
            keys,
            protect: Protect::AuthenticatedEncrypted,
            dedicated: false,
            received: RisingCounter::new(),
        }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("protect", &self.protect)
            .field("dedicated", &self.dedicated)
            .finish_non_exhaustive()
    }
}

/// How long an answer is waited for, and how often a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From sending to giving the answer up.
    pub answer: Duration,
    /// Times that a question is sent in all; what changes the meter is sent once, whatever stands here.
    pub tries: u8,
}

impl Default for Timing {
    fn default() -> Self {
        Self { answer: Duration::from_secs(10), tries: 3 }
    }
}
