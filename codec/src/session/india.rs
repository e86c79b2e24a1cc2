//! The Indian way into a meter: ask as public client where the counter of a client stands, then associate as that
//! client, ciphered, one above it (dlms.md 4.4, 6.1).
//!
//! What the public client is told is not proven; a forged number can move the sending counter up, as far as
//! [`SendCounter::raise_to`](crate::security::counter::SendCounter::raise_to) lets it, and never back: the bound that
//! was stored holds where it is higher. A meter that does not tell is tried with what is known; it says itself when
//! that is too low.
//!
//! An [`IndianSession`] is driven as a [`ClientSession`], with the address of the client beside each APDU.
//!
//! | state | `associate` | answer | refusal | timeout | disconnected |
//! |---|---|---|---|---|---|
//! | closed | the meter shows the client's counter → opening as public client; else → the client's opening | dropped | dropped | – | – |
//! | opening as public client | busy | AARE → asking | → the client's opening | AARQ again; then → closed, told | → closed, told |
//! | asking for the counter | busy | a number: raised → leaving, none left → closed, told; something else → leaving | → leaving | asked again; then → closed, told | → closed, told |
//! | leaving the public client | busy | RLRE → the client's opening | → the client's opening | → the client's opening | → closed, told |
//! | the client's opening and all behind it | as in the table of [`ClientSession`](super::client) | | | | |
//!
//! A push is handed out in every state. What is for the client while the public one is still there changes nothing.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use zeroize::Zeroizing;

use super::client::{
    Answer, ClientSession, CommandError, Config, Error, Event, MAX_EVENTS, Phase, RANDOM_LEN,
};
use crate::apdu::{AttributeDescriptor, SYSTEM_TITLE_LEN, SelectedAttribute};
use crate::axdr::Value;
use crate::cosem::india::association::{Association, PUBLIC};
use crate::cosem::{ClassId, LogicalName};
use crate::security::counter::SendCounter;
use crate::security::{CryptoProvider, RustCrypto};

const DATA_CLASS: ClassId = ClassId(1);
const VALUE: i8 = 2;

/// A client of an Indian meter.
#[derive(Debug)]
pub struct IndianSession<P = RustCrypto> {
    association: Association,
    /// While the counter is asked for.
    asking: Option<Asking<P>>,
    main: ClientSession<P>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Asking<P> {
    public: ClientSession<P>,
    counter: LogicalName,
    /// For the association that is meant.
    random: Zeroizing<[u8; RANDOM_LEN]>,
    /// The counter was told, or will not be.
    settled: bool,
}

impl IndianSession<RustCrypto> {
    /// A session as the client of `association`, which is not open yet.
    #[must_use]
    pub fn new(association: Association, config: Config, counter: SendCounter) -> Self {
        Self { association, asking: None, main: ClientSession::new(config, counter), events: VecDeque::new() }
    }
}

impl<P> IndianSession<P> {
    /// The session with the association that is meant; commands are given to it once it is open.
    #[must_use]
    pub const fn client(&mut self) -> &mut ClientSession<P> {
        &mut self.main
    }

    /// Where it stands; asking for the counter is a part of opening.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        if self.asking.is_some() { Phase::Opening } else { self.main.phase() }
    }

    /// The session alone, with its counters.
    #[must_use]
    pub fn into_client(self) -> ClientSession<P> {
        self.main
    }
}

impl<P: CryptoProvider + Clone> IndianSession<P> {
    /// Opens the association. Where it is ciphered and the meter shows the client's counter, that is asked for first.
    ///
    /// # Errors
    /// As [`ClientSession::associate`].
    pub fn associate(&mut self, random: &[u8; RANDOM_LEN]) -> Result<(), CommandError> {
        if self.asking.is_some() {
            return Err(CommandError::Busy);
        }
        let counter = self.association.invocation_counter.filter(|_| self.main.config().protection.is_some());
        let (Some(counter), Phase::Closed) = (counter, self.main.phase()) else {
            return self.main.associate(random);
        };
        let Config { timing, max_pdu, .. } = *self.main.config();
        // In the clear and without proof: title, challenge and key are never sent.
        let config = Config { timing, max_pdu, ..Config::public([0; SYSTEM_TITLE_LEN]) };
        let provider = self.main.provider().clone();
        let mut public = ClientSession::with_provider(provider, config, SendCounter::resume(0));
        public.associate(&[0; RANDOM_LEN])?;
        self.asking = Some(Asking { public, counter, random: Zeroizing::new(*random), settled: false });
        Ok(())
    }

    /// One APDU that came, for the client of this address.
    pub fn handle_apdu(&mut self, client_sap: u16, apdu: &[u8]) {
        match &mut self.asking {
            // What is for another client can be a push, and is told from an answer by the session that expects none.
            Some(asking) if client_sap == u16::from(PUBLIC.client_sap) => asking.public.handle_apdu(apdu),
            _ => self.main.handle_apdu(apdu),
        }
        self.turn();
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.asking {
            Some(asking) => asking.public.handle_timeout(now),
            None => self.main.handle_timeout(now),
        }
        self.turn();
    }

    /// The connection ended.
    pub fn handle_disconnected(&mut self) {
        if let Some(Asking { public, .. }) = &mut self.asking {
            public.handle_disconnected();
            self.turn();
        }
        self.main.handle_disconnected();
        self.turn();
    }

    /// The receipt of a push goes out over the same line, or may have; see [`ClientSession::receipt_sent`].
    pub const fn receipt_sent(&mut self) {
        match &mut self.asking {
            Some(asking) => asking.public.receipt_sent(),
            None => self.main.receipt_sent(),
        }
    }

    /// The bound of [`poll_reserve`](Self::poll_reserve) is stored.
    pub fn reserved(&mut self, bound: u32) {
        self.main.reserved(bound);
    }

    /// The next APDU, with the address of the client that sends it.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(u16, Vec<u8>)> {
        let (sap, apdu) = match &mut self.asking {
            Some(asking) => (PUBLIC.client_sap, asking.public.poll_transmit(now)),
            None => (self.association.client_sap, self.main.poll_transmit(now)),
        };
        self.turn();
        apdu.map(|apdu| (u16::from(sap), apdu))
    }

    /// What happened, but for what the public client only did to find the counter.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.turn();
        self.events.pop_front().or_else(|| self.main.poll_event())
    }

    /// The bound to be stored; see [`ClientSession::poll_reserve`].
    #[must_use]
    pub fn poll_reserve(&self) -> Option<u32> {
        self.main.poll_reserve()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Duration> {
        match &self.asking {
            Some(asking) => asking.public.poll_timeout(),
            None => self.main.poll_timeout(),
        }
    }

    /// Takes the next step of asking for the counter.
    fn turn(&mut self) {
        while let Some(asking) = &mut self.asking {
            let Some(event) = asking.public.poll_event() else {
                return;
            };
            match event {
                Event::Associated(_) => {
                    let attribute =
                        AttributeDescriptor { class: DATA_CLASS, instance: asking.counter, attribute: VALUE };
                    if asking.public.get(SelectedAttribute::whole(attribute)).is_err() {
                        asking.leave();
                    }
                }
                Event::Answered(_, Answer::Value(value)) => {
                    let last = number(value.data().value());
                    asking.leave();
                    if let Some(next) = last.map(|last| last.saturating_add(1))
                        && let Err(exhausted) = self.main.raise_counter(next)
                    {
                        self.give_up(Error::Counter(exhausted));
                    }
                }
                // A meter that was reached and does not tell is tried all the same.
                Event::Failed { error: Error::Access(_) | Error::Exception(_), .. } | Event::Answered(..) => {
                    asking.leave()
                }
                Event::Failed { error, .. } => self.give_up(error),
                Event::Closed(None | Some(Error::Rejected { .. })) => self.proceed(),
                Event::Closed(Some(_)) if asking.settled => self.proceed(),
                Event::Closed(Some(error)) => self.give_up(error),
                event if self.events.len() < MAX_EVENTS => self.events.push_back(event),
                _ => {}
            }
        }
    }

    /// On to the association that is meant.
    fn proceed(&mut self) {
        if let Some(asking) = self.asking.take() {
            // It was closed when this began, and nothing but this opens it.
            let _ = self.main.associate(&asking.random);
        }
    }

    fn give_up(&mut self, error: Error) {
        self.asking = None;
        self.events.push_back(Event::Closed(Some(error)));
    }
}

impl<P: CryptoProvider> Asking<P> {
    /// Ends the public association, if there is one.
    fn leave(&mut self) {
        self.settled = true;
        // Without an association it has closed, and said so.
        let _ = self.public.release();
    }
}

fn number(value: Value<'_>) -> Option<u32> {
    match value {
        Value::U32(number) => Some(number),
        Value::U16(number) => Some(number.into()),
        Value::U8(number) => Some(number.into()),
        _ => None,
    }
}
