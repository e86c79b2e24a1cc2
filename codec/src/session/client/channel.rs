//! The two directions of an association: what goes out is sealed here, what comes in is sorted and opened here.

use alloc::vec::Vec;

use super::config::{Config, Protection};
use super::event::{Dropped, Push};
use crate::apdu::ciphered::{GENERAL_CIPHERING, GENERAL_DED, Scope, Service};
use crate::apdu::{self, Apdu, SYSTEM_TITLE_LEN};
use crate::security::association::{Envelope, Incoming, Outgoing, Refusal};
use crate::security::counter::{
    CounterVerdict, CounterWindow, Invocation, Replay, ReserveFirst, RisingCounter, SendCounter,
};
use crate::security::keys::{AssociationKeys, Key, KeyUse};
use crate::security::{CryptoProvider, KEY_LEN, Scratch};

use super::error::Error;

/// Most bytes that protection adds to an APDU: tag, title with its length, length, control, counter, tag.
const OVERHEAD: usize = 1 + 1 + SYSTEM_TITLE_LEN + 3 + 5 + 12;
/// An event-notification under the global key.
const GLO_EVENT: u8 = Service::EventNotificationRequest.ciphered_tag(Scope::Global);
/// An event-notification under the dedicated key.
const DED_EVENT: u8 = Service::EventNotificationRequest.ciphered_tag(Scope::Dedicated);
/// The first counter under a dedicated key. Meters that begin with 0 as the last one seen refuse a 0.
const FIRST_DEDICATED: u32 = 1;

/// What came in, sorted.
pub(super) enum Inbound {
    /// An answer, opened where the association is ciphered.
    Reply {
        /// The APDU in the clear.
        apdu: Vec<u8>,
        /// Whether it was verified, or the association asks for nothing like that.
        proven: bool,
    },
    Pushed(Push),
    Dropped(Dropped),
}

/// Which key an APDU goes out under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    /// The global one, whatever else there is: for what comes before the association is open.
    Global,
    /// The dedicated one where there is one.
    Association,
}

pub(super) struct Channel {
    counter: SendCounter,
    secured: Option<Secured>,
    scratch: Scratch,
}

/// What an association with protection has besides.
struct Secured {
    outgoing: Outgoing,
    keys: AssociationKeys,
    remembered: RisingCounter,
    /// Once it is known whom the association is with.
    incoming: Option<Incoming>,
    /// With the counter of the dedicated key.
    dedicated: Option<SendCounter>,
    /// Counters of the pushes under the dedicated key.
    pushes: CounterWindow,
    envelope: Envelope,
}

impl Channel {
    pub(super) fn new(config: &Config, counter: SendCounter) -> Self {
        let secured = config.protection.as_ref().map(|protection| Secured::new(config, protection));
        Self { counter, secured, scratch: Scratch::new() }
    }

    /// Back to before the association, with the same counters.
    pub(super) fn reset(&mut self) {
        if let Some(secured) = &mut self.secured {
            secured.remembered = secured.received();
            secured.incoming = None;
            secured.keys.set_dedicated(None);
            secured.dedicated = None;
            secured.pushes = CounterWindow::new();
            secured.envelope = Envelope::Service;
        }
    }

    /// A dedicated key was proposed; APDUs go out under it from when the association is open.
    pub(super) fn set_dedicated(&mut self, key: [u8; KEY_LEN]) {
        if let Some(secured) = &mut self.secured {
            secured.keys.set_dedicated(Some(Key::new(key)));
            let mut counter = SendCounter::of_session();
            while counter.next() < FIRST_DEDICATED && counter.take().is_ok() {}
            secured.dedicated = Some(counter);
        }
    }

    /// The association is with the meter of this title.
    pub(super) fn meet(&mut self, title: [u8; SYSTEM_TITLE_LEN]) {
        if let Some(secured) = &mut self.secured {
            let protect = secured.outgoing.protect;
            secured.incoming = Some(Incoming::new(title, protect, secured.remembered));
        }
    }

    /// The meter takes general-glo and general-ded.
    pub(super) fn use_general(&mut self) {
        if let Some(secured) = &mut self.secured {
            secured.envelope = Envelope::General;
        }
    }

    pub(super) const fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    pub(super) const fn counter(&self) -> &SendCounter {
        &self.counter
    }

    pub(super) const fn counter_mut(&mut self) -> &mut SendCounter {
        &mut self.counter
    }

    pub(super) fn into_counter(self) -> SendCounter {
        self.counter
    }

    /// What was accepted under the global key.
    pub(super) fn received(&self) -> RisingCounter {
        self.secured.as_ref().map_or(RisingCounter::new(), Secured::received)
    }

    /// Counters of the global key that an APDU uses up.
    pub(super) fn cost(&self, under: Under) -> u32 {
        match &self.secured {
            None => 0,
            Some(secured) => u32::from(under == Under::Global || secured.dedicated.is_none()),
        }
    }

    /// Bytes that an APDU in the clear may have, so that it is at most `max_pdu` when it goes out.
    pub(super) fn room(&self, max_pdu: u16) -> usize {
        let max_pdu = if max_pdu == 0 { u16::MAX } else { max_pdu };
        usize::from(max_pdu).saturating_sub(if self.is_secured() { OVERHEAD } else { 0 })
    }

    /// One counter of the global key.
    pub(super) fn take(&mut self) -> Result<Invocation, ReserveFirst> {
        self.counter.take()
    }

    /// `plain` as it goes out. The counter was reserved before.
    pub(super) fn seal(
        &mut self,
        provider: &impl CryptoProvider,
        under: Under,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealFault> {
        let Some(secured) = &mut self.secured else {
            return Ok(plain.to_vec());
        };
        let (key, invocation) = match &mut secured.dedicated {
            Some(counter) if under == Under::Association => (KeyUse::Dedicated, counter.take()),
            _ => (KeyUse::Unicast, self.counter.take()),
        };
        let invocation = invocation.map_err(|ReserveFirst| SealFault::Reserve)?;
        let envelope = if under == Under::Global { Envelope::Service } else { secured.envelope };
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        secured
            .outgoing
            .seal(provider, &secured.keys, key, envelope, invocation, plain, &mut out)
            .map_err(|error| SealFault::Seal(error.into()))?;
        Ok(out)
    }

    /// Opens what must be protected, or it is nothing.
    pub(super) fn open(&mut self, provider: &impl CryptoProvider, apdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        let not_ciphered = Refusal::NotCiphered(apdu.first().copied().unwrap_or_default());
        let secured = self.secured.as_mut().ok_or(not_ciphered)?;
        let incoming = secured.incoming.as_mut().ok_or(Refusal::Sender)?;
        let received = incoming.receive(provider, &secured.keys, apdu, &mut self.scratch)?;
        Ok(received.apdu.into_inner().to_vec())
    }

    /// Tells answers from pushes. Pushes have a stream of counters of their own under each key, so the counters of the
    /// answers never hear of them. One under a global key is given out as it came; one under the dedicated key, which
    /// nobody else has, is opened and judged here.
    pub(super) fn sort(&mut self, provider: &impl CryptoProvider, apdu: &[u8]) -> Inbound {
        let tag = apdu.first().copied().unwrap_or_default();
        match tag {
            _ if is_push(tag) || tag == GLO_EVENT => return Inbound::Pushed(Push::Received(apdu.to_vec())),
            apdu::GENERAL_GLO | GENERAL_CIPHERING => match self.is_general_push(provider, apdu) {
                Ok(false) => {}
                Ok(true) => return Inbound::Pushed(Push::Received(apdu.to_vec())),
                Err(refusal) => return Inbound::Dropped(Dropped::Refused(refusal)),
            },
            GENERAL_DED | DED_EVENT => match self.dedicated_push(provider, apdu) {
                Ok(Some(push)) => return Inbound::Pushed(push),
                Ok(None) => {}
                Err(refusal) => return Inbound::Dropped(Dropped::Refused(refusal)),
            },
            apdu::acse::AARE
            | apdu::acse::RLRE
            | apdu::EXCEPTION_RESPONSE
            | apdu::CONFIRMED_SERVICE_ERROR => {
                return Inbound::Reply { apdu: apdu.to_vec(), proven: !self.is_secured() };
            }
            _ => {}
        }
        if !self.is_secured() {
            return Inbound::Reply { apdu: apdu.to_vec(), proven: true };
        }
        match self.open(provider, apdu) {
            Ok(plain) => Inbound::Reply { apdu: plain, proven: true },
            Err(refusal) => Inbound::Dropped(Dropped::Refused(refusal)),
        }
    }

    /// The push under the dedicated key that an APDU is; `None`: it is an answer. Without such a key it is given out as it
    /// came, as evidence.
    fn dedicated_push(
        &mut self,
        provider: &impl CryptoProvider,
        apdu: &[u8],
    ) -> Result<Option<Push>, Refusal> {
        let as_it_came = || Ok(Some(Push::Received(apdu.to_vec())));
        let Some(Secured { incoming: Some(incoming), keys, pushes, dedicated: Some(_), .. }) =
            &mut self.secured
        else {
            return as_it_came();
        };
        // A copy without memory: what its counter is worth depends on what it is.
        let mut probe = *incoming;
        probe.rekeyed(KeyUse::Dedicated, RisingCounter::new());
        let received = probe.receive(provider, keys, apdu, &mut self.scratch)?;
        if !is_push(received.apdu.get().first().copied().unwrap_or_default()) {
            return Ok(None);
        }
        let counter = received.counter;
        match pushes.accept(counter) {
            CounterVerdict::Fresh | CounterVerdict::InWindow => {
                Ok(Some(Push::Opened(received.apdu.to_vec())))
            }
            // Below the window nothing is known of it, and the key ends with the association: it is not late for anything.
            CounterVerdict::Seen | CounterVerdict::Late => {
                let lowest = pushes.high().and_then(|high| high.checked_add(1));
                Err(Refusal::Replay(Replay { counter, lowest }))
            }
        }
    }

    /// Whether an APDU under the global key of its sender is a push: anybody else's is, and the meter's is when its
    /// content says so.
    fn is_general_push(&mut self, provider: &impl CryptoProvider, apdu: &[u8]) -> Result<bool, Refusal> {
        let Some(Secured { incoming: Some(incoming), keys, .. }) = &self.secured else {
            return Ok(true);
        };
        let sender = match apdu::parse_with_title(apdu, Some(incoming.title())).map_err(Refusal::Malformed)? {
            Apdu::GeneralGlo(glo) => *glo.title(),
            Apdu::GeneralCiphering(general) => *general.originator(),
            _ => *incoming.title(),
        };
        if sender != *incoming.title() {
            return Ok(true);
        }
        // A copy without memory: only the tag is asked, and the counter is nobody's yet.
        let mut probe = *incoming;
        probe.rekeyed(KeyUse::Unicast, RisingCounter::new());
        probe.rekeyed(KeyUse::Broadcast, RisingCounter::new());
        let received = probe.receive(provider, keys, apdu, &mut self.scratch)?;
        Ok(is_push(received.apdu.get().first().copied().unwrap_or_default()))
    }
}

/// Why an APDU did not go out.
pub(super) enum SealFault {
    /// No counter is reserved: ask for one and come again.
    Reserve,
    Seal(Error),
}

impl Secured {
    fn new(config: &Config, protection: &Protection) -> Self {
        Self {
            outgoing: Outgoing { title: config.title, protect: protection.protect },
            keys: protection.keys.clone(),
            remembered: protection.received,
            incoming: None,
            dedicated: None,
            pushes: CounterWindow::new(),
            envelope: Envelope::Service,
        }
    }

    fn received(&self) -> RisingCounter {
        self.incoming.as_ref().map_or(self.remembered, |incoming| incoming.counter(KeyUse::Unicast))
    }
}

const fn is_push(tag: u8) -> bool {
    matches!(tag, apdu::DATA_NOTIFICATION | apdu::EVENT_NOTIFICATION_REQUEST)
}
