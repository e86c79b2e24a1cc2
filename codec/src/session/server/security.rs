//! What a meter keeps for all its connections: keys, counters, and who may open an association.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::other_reason;
use crate::apdu::acse::Mechanism;
use crate::apdu::initiate::Conformance;
use crate::apdu::{ExceptionResponse, SYSTEM_TITLE_LEN};
use crate::security::Keys;
use crate::security::association::Protect;
use crate::security::counter::{Invocation, RisingCounter, SendCounter};
use crate::security::hls::Secret;
use crate::security::keys::{AssociationKeys, Key, KeyId, KeyTransfer, UnwrapError};

/// An association that a client may open.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Address of the client.
    pub client: u16,
    /// Whether it may be without ciphering.
    pub plain: bool,
    /// Whether it may be ciphered.
    pub ciphered: bool,
    /// How the client proves who it is.
    pub mechanism: Mechanism,
    /// Password or secret; of no use to mechanisms without one.
    pub secret: Secret,
    /// Services that may be used.
    pub conformance: Conformance,
}

/// Keys, counters and offers of one meter. All connections of the meter share it.
pub struct ServerSecurity {
    title: [u8; SYSTEM_TITLE_LEN],
    protect: Protect,
    guek: Key,
    gak: Key,
    /// Under which what is for many meters comes, where one was given.
    gbek: Option<Key>,
    master: Key,
    staged: BTreeMap<u8, Key>,
    epoch: u32,
    send: SendCounter,
    received: BTreeMap<u16, RisingCounter>,
    /// The counter under the broadcast key, whoever sends.
    broadcast: RisingCounter,
    offers: Vec<Offer>,
}

impl ServerSecurity {
    /// A meter of this title with its keys, that sends its next APDU under `counter`. APDUs of ciphered associations
    /// are authenticated and encrypted.
    #[must_use]
    pub fn new(
        title: [u8; SYSTEM_TITLE_LEN],
        guek: Key,
        gak: Key,
        master: Key,
        counter: u32,
        offers: Vec<Offer>,
    ) -> Self {
        let mut send = SendCounter::resume(counter);
        send.reserved(u32::MAX);
        Self {
            title,
            protect: Protect::AuthenticatedEncrypted,
            guek,
            gak,
            gbek: None,
            master,
            staged: BTreeMap::new(),
            epoch: 0,
            send,
            received: BTreeMap::new(),
            broadcast: RisingCounter::after(0),
            offers,
        }
    }

    /// System title of the meter.
    #[must_use]
    pub const fn title(&self) -> &[u8; SYSTEM_TITLE_LEN] {
        &self.title
    }

    /// How APDUs of ciphered associations are protected.
    #[must_use]
    pub const fn protect(&self) -> Protect {
        self.protect
    }

    /// The global keys in use.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys::new(*self.guek.expose(), *self.gak.expose())
    }

    /// What an association has of them: with the broadcast key, where there is one.
    pub(super) fn association_keys(&self) -> AssociationKeys {
        let keys = AssociationKeys::new(self.keys());
        match &self.gbek {
            Some(key) => keys.with_broadcast(key.clone()),
            None => keys,
        }
    }

    /// The same meter with a broadcast key, whose counters begin.
    #[must_use]
    pub fn with_broadcast(mut self, key: Key) -> Self {
        self.gbek = Some(key);
        self.broadcast = RisingCounter::after(0);
        self
    }

    /// The last counter under the broadcast key.
    #[must_use]
    pub const fn received_broadcast(&self) -> RisingCounter {
        self.broadcast
    }

    pub(super) const fn heard_broadcast(&mut self, counter: RisingCounter) {
        self.broadcast = counter;
    }

    /// How often keys were replaced.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What a client may open.
    #[must_use]
    pub fn offer(&self, client: u16) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.client == client)
    }

    /// The same, to change its secret.
    pub fn offer_mut(&mut self, client: u16) -> Option<&mut Offer> {
        self.offers.iter_mut().find(|offer| offer.client == client)
    }

    /// The last counter of a client, as its invocation counter object tells it.
    #[must_use]
    pub fn received(&self, client: u16) -> RisingCounter {
        self.received.get(&client).copied().unwrap_or(RisingCounter::after(0))
    }

    /// Everything up to `last` counts as seen from that client.
    pub fn seen(&mut self, client: u16, last: u32) {
        self.heard(client, RisingCounter::after(last));
    }

    pub(super) fn heard(&mut self, client: u16, counter: RisingCounter) {
        // Only clients with an offer get here, so this is as small as the offers.
        self.received.insert(client, counter);
    }

    /// The counter that the meter uses next.
    #[must_use]
    pub const fn next_counter(&self) -> u32 {
        self.send.next()
    }

    /// A counter of the global unicast key.
    pub(super) fn take(&mut self) -> Result<Invocation, ExceptionResponse> {
        self.send.take().map_err(|_| other_reason())
    }

    /// Unwraps the keys of a transfer. They are used from the next ciphered association on; all of them or none.
    ///
    /// # Errors
    /// When one of them was not wrapped under the master key.
    pub fn stage(&mut self, transfer: &KeyTransfer<'_>) -> Result<(), UnwrapError> {
        let mut fresh = Vec::new();
        for (id, wrapped) in transfer.iter() {
            fresh.push((id.code(), self.master.unwrap(&wrapped)?));
        }
        self.staged.extend(fresh);
        Ok(())
    }

    /// Goes over to the keys that were transferred. Associations under the old ones are over then; the meter's own
    /// counter goes on, so that none is used twice whatever the new key is.
    pub(super) fn take_staged(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        for (id, key) in core::mem::take(&mut self.staged) {
            match KeyId::from_code(id) {
                Some(KeyId::Guek) => self.guek = key,
                Some(KeyId::Gak) => self.gak = key,
                Some(KeyId::Kek) => self.master = key,
                Some(KeyId::Gbek) => {
                    self.gbek = Some(key);
                    self.broadcast = RisingCounter::after(0);
                }
                None => {}
            }
        }
        self.epoch = self.epoch.wrapping_add(1);
    }
}

impl fmt::Debug for ServerSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSecurity")
            .field("title", &self.title)
            .field("epoch", &self.epoch)
            .field("send", &self.send)
            .field("received", &self.received)
            .field("broadcast", &self.broadcast)
            .finish_non_exhaustive()
    }
}
