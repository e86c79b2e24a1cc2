//! The meter's side of its associations.
//!
//! One [`ServerSession`] stands for one connection and holds an association for each client on it. It is given whole
//! APDUs with the address of the client, and writes the answer:
//!
//! 1. [`ServerSession::handle`] takes what came, looks at keys and counters in the meter's [`ServerSecurity`], asks the
//!    meter's [`Objects`], and leaves the answer in `out`; an empty `out` means that there is none;
//!    behind it, [`ServerSession::poll_more`] leaves the blocks that stream, where a client asked in blocks of a general
//!    transfer,
//! 2. [`ServerSession::deadline`] says when an association that nobody uses ends; the next `handle` after it ends it.
//!
//! What is behind the session, it does not know: [`Objects`] is asked by class, logical name and number, and decides
//! by the [`Caller`] what may be seen. Only the passes of a high-level authentication are the session's own.
//!
//! An answer is protected as its request was: glo- for glo-, ded- for ded-, general for general. Under the broadcast key,
//! where the meter was given one, it takes set and action, with counters of their own; if they ask to be confirmed, the
//! answer goes out under the unicast key. What cannot be taken
//! in is answered with an exception-response in the clear; a counter that was used before with the lowest that would
//! be taken. Long values go and come in blocks, each direction a state of its own. Requests that do not ask to be
//! confirmed are done and not answered, but for a get, which would have no sense otherwise.
//!
//! Of each client, by what it sends and by what happens besides:
//!
//! | state | AARQ | pass 3 | other request | RLRQ | cannot be taken in | `inactivity` without use | new keys in force |
//! |---|---|---|---|---|---|---|---|
//! | none | AARE: accepted → open, or → pending where passes follow; refused → none | exception | exception | exception | exception | – | – |
//! | pending | the same, from none | right: pass 4 → open; wrong: denied → none | exception | RLRE → none | exception | → none | exception → none |
//! | open | the same, from none | a method like others | answer | RLRE → none | exception | → none | exception → none |
//!
//! A cell without an arrow leaves the state as it is. *Cannot be taken in* is whatever does not parse, is not protected as the
//! association asks, or was sent under a counter that was used: anybody could have sent it, so it ends nothing. New keys are in
//! force from the next ciphered AARQ of any client on.
//!
//! Inside of an open association, by the long value that is under way:
//!
//! | long value | answer too long for one APDU | next block asked for | first block | further block |
//! |---|---|---|---|---|
//! | none | block 1 → going | refused: none in progress | → coming; whole: done → none | refused: none in progress |
//! | going | block 1 of the new one → going | the next; the last one again, as often as it is asked for; another number: refused → none | → coming, the other is over | refused: none in progress |
//! | coming | block 1 → going, the other is over | refused → none | → coming anew | → coming; whole: done → none; wrong number or over [`MAX_LONG_VALUE`]: refused → none |

mod blocks;
mod opening;
mod security;
mod service;
#[cfg(test)]
mod tests;
mod transfer;

pub use security::{Offer, ServerSecurity};

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::blocks::Exchange;
use crate::Error;
use crate::ErrorKind;
use crate::apdu::acse::{AARQ, ApplicationContext, Mechanism, RLRQ};
use crate::apdu::ciphered::{GENERAL_CIPHERING, GENERAL_DED};
use crate::apdu::initiate::Conformance;
use crate::apdu::{
    self, ActionResult, AttributeDescriptor, DataAccessResult, ExceptionResponse, GENERAL_GLO,
    MethodDescriptor, SelectiveAccess, ServiceError, StateError,
};
use crate::axdr::Data;
use crate::security::association::{Envelope, Incoming, Outgoing, Refusal};
use crate::security::counter::SendCounter;
use crate::security::hls::{CHALLENGE_LEN, Challenge};
use crate::security::keys::{AssociationKeys, KeyUse};
use crate::security::{CryptoProvider, Scratch};
use transfer::Transfer;

/// Most bytes of a value that comes in blocks.
pub const MAX_LONG_VALUE: usize = 64 * 1024;
/// Most bytes of an answer that goes in blocks.
pub const MAX_LONG_ANSWER: usize = 2 * 1024 * 1024;
/// Most attributes or methods in one request.
pub const MAX_REFERENCES: usize = 64;
/// Most associations on one connection.
pub const MAX_ASSOCIATIONS: usize = 8;
/// The shortest APDU that a client must be able to take.
pub const MIN_PDU: u16 = 64;

/// Bytes that ciphering adds at most: general-glo with a title, two lengths, control, counter and tag.
const CIPHERING: usize = 30;

/// What a meter is made of, as far as its clients may know. It never hears of a request that was not let in.
pub trait Objects {
    /// Keys, counters and who may open an association.
    fn security(&mut self) -> &mut ServerSecurity;

    /// Appends the value of an attribute to `out`, which is empty: one encoded value.
    ///
    /// # Errors
    /// Why there is none.
    fn get(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult>;

    /// Writes an attribute.
    ///
    /// # Errors
    /// Why it was not written.
    fn set(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult>;

    /// Invokes a method. What it returns, if anything, is appended to `out`, which is empty.
    ///
    /// # Errors
    /// Why it was not done.
    fn act(
        &mut self,
        caller: &Caller,
        method: &MethodDescriptor,
        parameters: Option<Data<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), ActionResult>;
}

/// Who asks: a client and what was agreed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Address of the client.
    pub client: u16,
    /// How objects are named, and whether APDUs are ciphered.
    pub context: ApplicationContext,
    /// How the client proved who it is.
    pub mechanism: Mechanism,
    /// Services that may be used.
    pub conformance: Conformance,
    /// Longest APDU that the client takes.
    pub client_pdu: u16,
    /// Longest APDU that the meter takes.
    pub server_pdu: u16,
    /// System title of the client, where APDUs are ciphered.
    pub client_title: Option<[u8; apdu::SYSTEM_TITLE_LEN]>,
}

/// What came of an APDU, for whoever keeps a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an association now, or there is once passes 3 and 4 are done.
    Opened {
        /// Whether these passes have to follow.
        pending: bool,
    },
    /// An association was refused.
    Refused,
    /// Passes 3 and 4 are done.
    Authenticated,
    /// The answer to the challenge was wrong, and the association is over.
    NotAuthenticated,
    /// The association is over.
    Released,
    /// A service was done, or its result says why not.
    Served,
    /// The APDU could not be taken in.
    Exception(ServiceError),
}

/// The associations of one connection; see the head of this module.
#[derive(Debug)]
pub struct ServerSession<P> {
    provider: P,
    max_pdu: u16,
    inactivity: Duration,
    associations: Vec<Association>,
    scratch: Scratch,
    /// Blocks that go out besides the answer.
    more: VecDeque<Vec<u8>>,
}

/// One association.
#[derive(Debug)]
struct Association {
    caller: Caller,
    /// Whether anything is answered at all.
    confirmed: bool,
    stage: Stage,
    ciphering: Option<Ciphering>,
    transfer: Transfer,
    /// The last request that came in blocks of a general transfer, and its answer.
    exchange: Option<Exchange>,
    /// The answer goes in such blocks, and needs no other.
    in_blocks: bool,
    used: Duration,
}

#[derive(Debug)]
enum Stage {
    /// The AARE went out; pass 3 is awaited.
    Pending { theirs: Vec<u8>, ours: Challenge },
    /// Everything agreed may be used.
    Open,
}

/// What a ciphered association needs besides.
#[derive(Debug)]
struct Ciphering {
    incoming: Incoming,
    outgoing: Outgoing,
    keys: AssociationKeys,
    dedicated: SendCounter,
    epoch: u32,
}

/// How an answer is to be wrapped: as its request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    key: KeyUse,
    envelope: Envelope,
}

impl Style {
    /// An association is opened and released with one meter, and not with all that have a key.
    fn of_one_meter(self) -> Result<(), ExceptionResponse> {
        if self.key == KeyUse::Broadcast { Err(not_allowed()) } else { Ok(()) }
    }
}

impl<P: CryptoProvider> ServerSession<P> {
    /// A connection without an association. The meter takes APDUs of `max_pdu` bytes and ends an association that is
    /// not used for `inactivity`.
    #[must_use]
    pub const fn new(provider: P, max_pdu: u16, inactivity: Duration) -> Self {
        Self {
            provider,
            max_pdu,
            inactivity,
            associations: Vec::new(),
            scratch: Scratch::new(),
            more: VecDeque::new(),
        }
    }

    /// The clients that have an association, or are about to.
    pub fn clients(&self) -> impl Iterator<Item = &Caller> {
        self.associations.iter().map(|association| &association.caller)
    }

    /// When the first of the associations ends, if nothing comes.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.associations.iter().map(|association| association.used.saturating_add(self.inactivity)).min()
    }

    /// Takes one APDU from `client` and leaves the answer in `out`. `now` is the time since any moment that stays the
    /// same; `random` is used for a challenge, and never twice.
    pub fn handle(
        &mut self,
        client: u16,
        apdu: &[u8],
        now: Duration,
        random: [u8; CHALLENGE_LEN],
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Outcome {
        out.clear();
        self.more.clear();
        let inactivity = self.inactivity;
        self.associations.retain(|association| now.saturating_sub(association.used) <= inactivity);
        let done = match apdu.first() {
            Some(&AARQ) => self.open(client, apdu, now, random, meter, out),
            Some(&RLRQ) => self.release(client, apdu, meter, out),
            Some(&apdu::GENERAL_BLOCK_TRANSFER) => self.block(client, apdu, now, meter, out),
            _ => self.serve(client, apdu, now, meter, out),
        };
        done.unwrap_or_else(|exception| {
            out.clear();
            exception.emit(out);
            Outcome::Exception(exception.service)
        })
    }

    /// Leaves the next block in `out` that goes out behind the last answer without being asked for; false: there is none.
    pub fn poll_more(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.more.pop_front().is_some_and(|block| {
            out.extend_from_slice(&block);
            true
        })
    }

    /// What a client's association went over is gone, as its data link, and the association with it.
    pub fn disconnected(&mut self, client: u16) {
        self.close(client);
    }

    fn find(&mut self, client: u16) -> Result<&mut Association, ExceptionResponse> {
        let found = self.associations.iter_mut().find(|association| association.caller.client == client);
        found.ok_or(not_allowed())
    }

    fn close(&mut self, client: u16) {
        self.associations.retain(|association| association.caller.client != client);
    }
}

impl Association {
    /// Bytes that an answer in the clear may have.
    fn room(&self) -> usize {
        if self.in_blocks {
            return MAX_LONG_ANSWER;
        }
        let most = usize::from(self.caller.client_pdu);
        most.saturating_sub(if self.ciphering.is_some() { CIPHERING } else { 0 })
    }
}

impl Ciphering {
    /// Opens what came from `client`, with the counters that the meter remembers, and remembers the new ones.
    fn receive<'s>(
        &mut self,
        provider: &impl CryptoProvider,
        client: u16,
        apdu: &[u8],
        security: &mut ServerSecurity,
        scratch: &'s mut Scratch,
    ) -> Result<(Style, &'s [u8]), ExceptionResponse> {
        self.incoming.rekeyed(KeyUse::Unicast, security.received(client));
        self.incoming.rekeyed(KeyUse::Broadcast, security.received_broadcast());
        let received = self.incoming.receive(provider, &self.keys, apdu, scratch);
        let received = received.map_err(|refusal| refused(&refusal))?;
        security.heard(client, self.incoming.counter(KeyUse::Unicast));
        security.heard_broadcast(self.incoming.counter(KeyUse::Broadcast));
        let envelope = match apdu.first() {
            Some(&(GENERAL_GLO | GENERAL_DED | GENERAL_CIPHERING)) => Envelope::General,
            _ => Envelope::Service,
        };
        Ok((Style { key: received.key, envelope }, received.apdu.into_inner()))
    }

    /// Appends `plain` in the style of its request; under the meter's own key where that was for many meters.
    fn seal(
        &mut self,
        provider: &impl CryptoProvider,
        style: Style,
        plain: &[u8],
        security: &mut ServerSecurity,
        out: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        let Style { key, envelope } = style;
        let (key, invocation) = match key {
            KeyUse::Dedicated => (key, self.dedicated.take().map_err(|_| other_reason())?),
            KeyUse::Unicast | KeyUse::Broadcast => (KeyUse::Unicast, security.take()?),
        };
        self.outgoing
            .seal(provider, &self.keys, key, envelope, invocation, plain, out)
            .map_err(|_| other_reason())
    }
}

const fn exception(state: StateError, service: ServiceError) -> ExceptionResponse {
    ExceptionResponse { state, service }
}

const fn not_allowed() -> ExceptionResponse {
    exception(StateError::ServiceNotAllowed, ServiceError::OperationNotPossible)
}

const fn other_reason() -> ExceptionResponse {
    exception(StateError::ServiceNotAllowed, ServiceError::OtherReason)
}

const fn not_supported() -> ExceptionResponse {
    exception(StateError::ServiceUnknown, ServiceError::ServiceNotSupported)
}

const fn too_long() -> ExceptionResponse {
    exception(StateError::ServiceNotAllowed, ServiceError::PduTooLong)
}

/// What a ciphered APDU that was not let in is answered with.
fn refused(refusal: &Refusal) -> ExceptionResponse {
    match refusal {
        Refusal::Malformed(error) => malformed(error),
        Refusal::NotCiphered(_) => not_allowed(),
        Refusal::Replay(replay) => {
            let lowest = replay.lowest.unwrap_or(u32::MAX);
            exception(StateError::ServiceNotAllowed, ServiceError::InvocationCounter(lowest))
        }
        Refusal::Sender
        | Refusal::Control { .. }
        | Refusal::NoKey(_)
        | Refusal::KeyInfo
        | Refusal::NoMasterKey
        | Refusal::WrappedKey
        | Refusal::Security(_)
        | Refusal::Content { .. } => exception(StateError::ServiceNotAllowed, ServiceError::Deciphering),
    }
}

/// What bytes that do not parse are answered with.
fn malformed(error: &Error) -> ExceptionResponse {
    match error.kind {
        ErrorKind::UnsupportedApdu(_) | ErrorKind::UnknownChoice(_) => not_supported(),
        _ => other_reason(),
    }
}
