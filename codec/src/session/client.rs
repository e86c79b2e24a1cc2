//! The client's side of an association: what a head-end does with one meter.
//!
//! A [`ClientSession`] owns no socket and no clock. `now` is the time since any fixed moment; what is random is given
//! in. Drive it in this order, after every call of a command or a handler:
//!
//! 1. [`poll_event`](ClientSession::poll_event) until there is none,
//! 2. [`poll_reserve`](ClientSession::poll_reserve): store the bound, then [`reserved`](ClientSession::reserved),
//! 3. [`poll_transmit`](ClientSession::poll_transmit) until there is nothing, each APDU onto the line,
//! 4. wait for bytes ([`handle_apdu`](ClientSession::handle_apdu)), for
//!    [`poll_timeout`](ClientSession::poll_timeout) ([`handle_timeout`](ClientSession::handle_timeout)) or for the
//!    end of the connection ([`handle_disconnected`](ClientSession::handle_disconnected)).
//!
//! | state | command | answer | exception: counter | timeout | disconnected |
//! |---|---|---|---|---|---|
//! | closed | `associate` → opening | dropped | dropped | – | – |
//! | opening: AARQ sent | busy | AARE → proving or open; refused → closed | raised, → opening, once; then → closed | AARQ again; then → closed | → closed |
//! | proving: pass 3 sent | busy | pass 4 right → open; wrong → closed | as above | → closed | → closed |
//! | open | request → asking; `release` → releasing | dropped | dropped | – | → closed |
//! | asking, a read | busy | → open; block → asking | raised, → opening, then asked again, once; then → open, failed | asked again; then → open, failed | → closed, failed |
//! | asking, a write or action | busy | → open; block → asking | raised, → open, failed | → open, failed, effect unknown | → closed, failed, effect unknown |
//! | releasing | busy | RLRE → closed | → closed | → closed | → closed |
//!
//! Where both sides agreed to general block transfer and [`Config::block_window`] says so, what is asked goes in blocks, and
//! so does its answer:
//!
//! | asking, in blocks | block that is new, streaming | block that is new, not streaming | the last that was missing | copy, or no block of this answer | timeout |
//! |---|---|---|---|---|---|
//! | request not whole with the meter | kept | its next blocks | – | dropped; what came is asked for anew | its blocks again, as they were |
//! | request with the meter | kept | what is missing is asked for | as an answer in one piece | dropped; what came is asked for anew | a read, or once an answer has begun: again; a write or action in its last block: → open, failed, effect unknown |
//!
//! An APDU is sealed once, whatever is lost of it: what comes again has the same counter, and does nothing twice.
//!
//! In every state a push is handed out as an event and changes nothing. So does whatever is not protected as the
//! association asks: it is counted ([`Event::Dropped`]) and the wait goes on, because anybody can send rubbish; at
//! [`MAX_DROPPED`] the request ends. Refusals that a meter cannot cipher (exception-response, confirmed-service-error)
//! are taken as they are, but after one of those a write or action has an unknown effect.
//!
//! An exception-response names no request. Once the receipt of a push went out beside the session
//! ([`receipt_sent`](ClientSession::receipt_sent)), a meter that does not know receipts may refuse that instead of what
//! was asked. What cannot be about a receipt is the answer as ever: counter and length are at fault in requests only, and
//! what was verified answers what was ciphered, as no receipt is. Any other exception is dropped as the receipt's
//! ([`Dropped::Receipt`]), one for each receipt, and the wait goes on: the answer comes, or the time, by which a read is
//! asked again and anything else ends with that exception and an unknown effect. An answer to what was sent after a receipt
//! says that the meter is past it.
//!
//! | state | exception that a receipt may have brought |
//! |---|---|
//! | closed, open | dropped |
//! | opening, proving, asking, releasing | dropped, the wait goes on; at its end the exception is the reason |
//!
//! Nothing that is ciphered under a global key goes out under a counter that was not stored as used beforehand.

mod channel;
mod config;
mod error;
mod event;
mod opening;
mod request;
#[cfg(test)]
mod tests;

pub use config::{Authentication, Config, Protection, Timing};
pub use error::{CommandError, Error};
pub use event::{Answer, Dropped, Effect, Event, Negotiated, Outcome, OwnedData, Push, RequestId};
pub use opening::RANDOM_LEN;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::time::Duration;

use crate::apdu::acse::{ReleaseRequestReason, Rlrq};
use crate::apdu::initiate::Conformance;
use crate::apdu::{
    self, ActionRequest, ActionRequestBody, Apdu, ExceptionResponse, GetRequest, GetRequestBody, InvokeId,
    List, MethodDescriptor, Pairs, SelectedAttribute, ServiceError, SetRequest, SetRequestBody,
};
use crate::axdr::Data;
use crate::cursor::write_length;
use crate::security::counter::{Exhausted, RisingCounter, SendCounter};
use crate::security::{CryptoProvider, RustCrypto};
use crate::session::blocks::{Exchange, Step};
use channel::{Channel, Inbound, SealFault, Under};
use opening::{Opening, Proving, Verdict};
use request::{Next, Request, Rooms};

/// Most APDUs that may come and be dropped while one answer is waited for.
pub const MAX_DROPPED: u8 = 16;
/// Most events that wait to be polled; pushes beyond it are dropped, and none of them was acknowledged.
pub const MAX_EVENTS: usize = 64;
/// Most elements of a list.
pub const MAX_LIST: usize = 64;
/// Fewest bytes that a meter must take for anything to be sent to it in blocks.
const MIN_ROOM: usize = 64;
/// Longest request that goes in blocks of a general transfer, in the clear.
const MAX_REQUEST: usize = 64 * 1024;
/// Longest answer in blocks of a general transfer, as it comes.
const MAX_SEALED_ANSWER: usize = request::MAX_ANSWER + 1024;
/// Last, number and length of a block.
const BLOCK_HEAD: usize = 1 + 4 + 3;

/// One client of one meter, over one connection; see the module's head for how it is driven.
pub struct ClientSession<P = RustCrypto> {
    core: Core<P>,
    state: State,
}

enum State {
    Closed,
    Opening(Opening),
    Proving(Proving),
    Open(Open),
    Asking(Open, Request),
    Releasing,
}

/// An association that is open.
struct Open {
    negotiated: Negotiated,
    /// To open it again when the counters have come apart; once.
    again: Option<Opening>,
}

/// What all states share.
struct Core<P> {
    provider: P,
    config: Config,
    channel: Channel,
    events: VecDeque<Event>,
    /// The state has something to send.
    due: bool,
    deadline: Option<Duration>,
    /// How often that was sent.
    tries: u8,
    /// What was dropped meanwhile.
    dropped: u8,
    /// Receipts of pushes that the meter may still refuse.
    receipts: Receipts,
    /// The request and its answer, where they go in blocks of a general transfer.
    exchange: Option<Exchange>,
    /// Blocks that are due.
    blocks: VecDeque<Vec<u8>>,
    /// With the next of them the wait for the answer begins anew.
    patient: bool,
    last_dropped: Option<Dropped>,
    requests: u32,
}

/// Receipts of pushes that went out beside the requests, and may be refused by an exception of their own.
#[derive(Clone, Copy, Default)]
struct Receipts {
    /// Sent before the request that is waited for.
    before: u8,
    /// Sent since.
    since: u8,
}

impl Receipts {
    const fn sent(&mut self) {
        self.since = self.since.saturating_add(1);
    }

    /// A request goes out.
    const fn asked(&mut self) {
        self.before = self.before.saturating_add(self.since);
        self.since = 0;
    }

    /// The request was answered: the meter, which takes one after the other, is past what came before it.
    const fn answered(&mut self) {
        self.before = 0;
    }

    /// Takes one of them for refused, if there is one.
    const fn refused(&mut self) -> bool {
        let oldest = if self.before > 0 { &mut self.before } else { &mut self.since };
        let any = *oldest > 0;
        *oldest = oldest.saturating_sub(1);
        any
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No association.
    Closed,
    /// One is being opened.
    Opening,
    /// There is one, and nothing is waited for.
    Open,
    /// An answer is waited for.
    Asking,
    /// The end of it is waited for.
    Releasing,
}

impl ClientSession<RustCrypto> {
    /// A session that has no association yet. `counter` is the client's under the global key, and stays with whoever
    /// made it: [`into_counter`](Self::into_counter).
    #[must_use]
    pub fn new(config: Config, counter: SendCounter) -> Self {
        Self::with_provider(RustCrypto, config, counter)
    }
}

/// Looking.
impl<P> ClientSession<P> {
    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Opening(_) | State::Proving(_) => Phase::Opening,
            State::Open(_) => Phase::Open,
            State::Asking(..) => Phase::Asking,
            State::Releasing => Phase::Releasing,
        }
    }

    /// What both sides agreed to, while there is an association.
    #[must_use]
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        match &self.state {
            State::Open(open) | State::Asking(open, _) => Some(&open.negotiated),
            _ => None,
        }
    }

    /// What it was made with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.core.config
    }

    /// The cryptography that it uses.
    #[must_use]
    pub const fn provider(&self) -> &P {
        &self.core.provider
    }

    /// The sending counter.
    #[must_use]
    pub const fn counter(&self) -> &SendCounter {
        self.core.channel.counter()
    }

    /// The last counter that was accepted from the meter under the global key, to be remembered.
    #[must_use]
    pub fn received(&self) -> RisingCounter {
        self.core.channel.received()
    }

    /// The sending counter, for the next session.
    #[must_use]
    pub fn into_counter(self) -> SendCounter {
        self.core.channel.into_counter()
    }
}

/// Commands.
impl<P: CryptoProvider> ClientSession<P> {
    /// As [`new`](ClientSession::new), with another cryptography.
    #[must_use]
    pub fn with_provider(provider: P, config: Config, counter: SendCounter) -> Self {
        let channel = Channel::new(&config, counter);
        let core = Core {
            provider,
            config,
            channel,
            events: VecDeque::new(),
            due: false,
            deadline: None,
            tries: 0,
            dropped: 0,
            receipts: Receipts::default(),
            exchange: None,
            blocks: VecDeque::new(),
            patient: false,
            last_dropped: None,
            requests: 0,
        };
        Self { core, state: State::Closed }
    }

    /// Goes to the counter that the meter is known to expect, never back.
    ///
    /// # Errors
    /// As [`SendCounter::raise_to`].
    pub fn raise_counter(&mut self, next: u32) -> Result<(), Exhausted> {
        self.core.channel.counter_mut().raise_to(next)
    }

    /// Opens an association. `random` makes challenge and dedicated key; it is to be used once.
    ///
    /// # Errors
    /// [`CommandError::Associated`] and [`CommandError::Busy`].
    pub fn associate(&mut self, random: &[u8; RANDOM_LEN]) -> Result<(), CommandError> {
        match self.state {
            State::Closed => {}
            State::Open(_) => return Err(CommandError::Associated),
            _ => return Err(CommandError::Busy),
        }
        self.core.send();
        self.state = State::Opening(Opening::new(random));
        Ok(())
    }

    /// Reads an attribute, or the part of it that a selective access names.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn get(&mut self, attribute: SelectedAttribute<'_>) -> Result<RequestId, CommandError> {
        let open = self.open(Conformance::GET)?;
        selective(open, &[attribute])?;
        let (id, invoke_id) = self.core.next_request();
        let mut plain = Vec::new();
        GetRequest { invoke_id, body: GetRequestBody::Normal(attribute) }.emit(&mut plain);
        self.fits(plain.len())?;
        Ok(self.ask(Request::get(id, invoke_id, None, plain)))
    }

    /// Reads several attributes at once.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn get_with_list(&mut self, attributes: &[SelectedAttribute<'_>]) -> Result<RequestId, CommandError> {
        let open = self.open(Conformance::GET.union(Conformance::MULTIPLE_REFERENCES))?;
        selective(open, attributes)?;
        listed(attributes.len())?;
        let (id, invoke_id) = self.core.next_request();
        let mut plain = Vec::new();
        GetRequest { invoke_id, body: GetRequestBody::WithList(List::new(attributes)) }.emit(&mut plain);
        self.fits(plain.len())?;
        Ok(self.ask(Request::get(id, invoke_id, Some(attributes.len()), plain)))
    }

    /// Writes an attribute, in blocks where the value is long. It is sent once: without an answer its effect is unknown.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn set(
        &mut self,
        attribute: SelectedAttribute<'_>,
        value: Data<'_>,
    ) -> Result<RequestId, CommandError> {
        let open = self.open(Conformance::SET)?;
        selective(open, &[attribute])?;
        let (id, invoke_id) = self.core.next_request();
        let plain = set_request(invoke_id, SetRequestBody::Normal(attribute, value));
        let head = plain.len() - value.bytes().len();
        let request = match self.fits(plain.len()) {
            Ok(()) => Request::set(id, invoke_id, None, plain),
            Err(too_long) => {
                let rooms = self.rooms(Conformance::BLOCK_TRANSFER_WITH_SET, head, too_long)?;
                let value = (value.bytes().to_vec(), rooms);
                Request::set_in_blocks(id, invoke_id, None, value, |block| {
                    set_request(invoke_id, SetRequestBody::FirstBlock(attribute, block))
                })
            }
        };
        Ok(self.ask(request))
    }

    /// Writes several attributes, in blocks where that is long.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn set_with_list(
        &mut self,
        attributes: &[SelectedAttribute<'_>],
        values: &[Data<'_>],
    ) -> Result<RequestId, CommandError> {
        let open = self.open(Conformance::SET.union(Conformance::MULTIPLE_REFERENCES))?;
        selective(open, attributes)?;
        listed(attributes.len())?;
        let pairs = Pairs::new(List::new(attributes), List::new(values));
        let pairs = pairs.ok_or(CommandError::List(values.len()))?;
        let (id, invoke_id) = self.core.next_request();
        let plain = set_request(invoke_id, SetRequestBody::WithList(pairs));
        let list = encoded_list(values);
        let head = plain.len() - list.len();
        let count = Some(attributes.len());
        let request = match self.fits(plain.len()) {
            Ok(()) => Request::set(id, invoke_id, count, plain),
            Err(too_long) => {
                let rooms = self.rooms(Conformance::BLOCK_TRANSFER_WITH_SET, head, too_long)?;
                Request::set_in_blocks(id, invoke_id, count, (list, rooms), |block| {
                    set_request(invoke_id, SetRequestBody::WithListFirstBlock(List::new(attributes), block))
                })
            }
        };
        Ok(self.ask(request))
    }

    /// Invokes a method, its parameters in blocks where they are long. It is sent once: without an answer its effect
    /// is unknown.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn action(
        &mut self,
        method: MethodDescriptor,
        parameters: Option<Data<'_>>,
    ) -> Result<RequestId, CommandError> {
        self.open(Conformance::ACTION)?;
        let (id, invoke_id) = self.core.next_request();
        let plain = action_request(invoke_id, ActionRequestBody::Normal(method, parameters));
        let value = parameters.map_or(&[][..], |data| data.bytes());
        let head = plain.len() - value.len();
        let request = match self.fits(plain.len()) {
            Ok(()) => Request::action(id, invoke_id, None, plain),
            Err(too_long) => {
                let rooms = self.rooms(Conformance::BLOCK_TRANSFER_WITH_ACTION, head, too_long)?;
                Request::action_in_blocks(id, invoke_id, None, (value.to_vec(), rooms), |block| {
                    action_request(invoke_id, ActionRequestBody::FirstBlock(method, block))
                })
            }
        };
        Ok(self.ask(request))
    }

    /// Invokes several methods, each with its parameters ([`Data::NULL`] where it has none).
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn action_with_list(
        &mut self,
        methods: &[MethodDescriptor],
        parameters: &[Data<'_>],
    ) -> Result<RequestId, CommandError> {
        self.open(Conformance::ACTION.union(Conformance::MULTIPLE_REFERENCES))?;
        listed(methods.len())?;
        let pairs = Pairs::new(List::new(methods), List::new(parameters));
        let pairs = pairs.ok_or(CommandError::List(parameters.len()))?;
        let (id, invoke_id) = self.core.next_request();
        let plain = action_request(invoke_id, ActionRequestBody::WithList(pairs));
        let list = encoded_list(parameters);
        let head = plain.len() - list.len();
        let count = Some(methods.len());
        let request = match self.fits(plain.len()) {
            Ok(()) => Request::action(id, invoke_id, count, plain),
            Err(too_long) => {
                let rooms = self.rooms(Conformance::BLOCK_TRANSFER_WITH_ACTION, head, too_long)?;
                Request::action_in_blocks(id, invoke_id, count, (list, rooms), |block| {
                    action_request(
                        invoke_id,
                        ActionRequestBody::WithListFirstBlock(List::new(methods), block),
                    )
                })
            }
        };
        Ok(self.ask(request))
    }

    /// Ends the association. Without one there is nothing to do.
    ///
    /// # Errors
    /// [`CommandError::Busy`] while an answer is waited for, [`CommandError::NotAssociated`].
    pub fn release(&mut self) -> Result<(), CommandError> {
        self.open(Conformance::NONE)?;
        self.core.send();
        self.state = State::Releasing;
        Ok(())
    }

    fn open(&self, services: Conformance) -> Result<&Open, CommandError> {
        match &self.state {
            State::Open(open) if open.negotiated.conformance.contains(services) => Ok(open),
            State::Open(_) => Err(CommandError::NotNegotiated(services)),
            State::Closed => Err(CommandError::NotAssociated),
            _ => Err(CommandError::Busy),
        }
    }

    /// Whether requests go in blocks of a general transfer.
    fn in_blocks(&self) -> bool {
        let agreed =
            |negotiated: &Negotiated| negotiated.conformance.contains(Conformance::GENERAL_BLOCK_TRANSFER);
        self.core.config.block_window > 0 && self.negotiated().is_some_and(agreed)
    }

    /// Bytes in the clear that can be sent at once.
    fn room(&self) -> usize {
        if self.in_blocks() {
            return MAX_REQUEST;
        }
        let max_pdu = self.negotiated().map_or(0, |negotiated| negotiated.max_pdu);
        self.core.channel.room(max_pdu)
    }

    fn fits(&self, length: usize) -> Result<(), CommandError> {
        let room = self.room();
        if length <= room { Ok(()) } else { Err(CommandError::TooLong { length, room }) }
    }

    /// How much of a value each block takes, if the meter takes blocks at all.
    fn rooms(
        &self,
        service: Conformance,
        head: usize,
        too_long: CommandError,
    ) -> Result<Rooms, CommandError> {
        self.open(service)?;
        // Kind, invoke id and tag are all that the blocks behind the first have before their head.
        let room = |head: usize| self.room().checked_sub(head + BLOCK_HEAD).filter(|room| *room > 0);
        match (room(head), room(3)) {
            (Some(first), Some(other)) => Ok(Rooms { first, other }),
            _ => Err(too_long),
        }
    }

    fn ask(&mut self, request: Request) -> RequestId {
        let id = request.id;
        if let State::Open(open) = mem::replace(&mut self.state, State::Closed) {
            self.state = State::Asking(open, request);
            self.core.send();
        }
        id
    }
}

/// What comes in.
impl<P: CryptoProvider> ClientSession<P> {
    /// One whole APDU that came from the meter.
    pub fn handle_apdu(&mut self, apdu: &[u8]) {
        if apdu.first() != Some(&apdu::GENERAL_BLOCK_TRANSFER) || !self.in_blocks() {
            return self.handle_whole(apdu);
        }
        if self.core.exchange.is_none() {
            // Of an answer that is whole already.
            return self.dropped(Dropped::Late);
        }
        let block = match apdu::parse(apdu) {
            Ok(Apdu::GeneralBlockTransfer(block)) => block,
            Ok(_) => return,
            Err(error) => return self.dropped(Dropped::Malformed(error)),
        };
        let Some(exchange) = &mut self.core.exchange else { return };
        let before = exchange.progress();
        match exchange.take(&block) {
            Ok(Step::Whole) => {
                let whole = exchange.heard().unwrap_or_default().to_vec();
                let exchange = self.core.exchange.take();
                self.core.blocks.clear();
                self.handle_whole(&whole);
                let waits = matches!(self.state, State::Asking(..)) && !self.core.due;
                if let Some(exchange) = exchange.filter(|_| waits && self.core.deadline.is_some()) {
                    self.core.exchange = Some(exchange);
                    self.forget_blocks();
                }
            }
            Ok(Step::Turn) if exchange.progress() > before => {
                let turn = exchange.turn();
                self.core.blocks = turn.into();
                (self.core.tries, self.core.dropped, self.core.patient) = (1, 0, true);
            }
            // A copy. If our turn was lost, the time says so; to answer each would make more of them.
            Ok(Step::Turn) => self.dropped(Dropped::Late),
            Ok(Step::Wait) => {}
            Err(_) => {
                self.forget_blocks();
                self.dropped(Dropped::Unexpected(apdu::GENERAL_BLOCK_TRANSFER));
            }
        }
    }

    /// Blocks of an earlier answer, or of nobody's, are among those that came: they are asked for anew.
    fn forget_blocks(&mut self) {
        if let Some(exchange) = &mut self.core.exchange {
            exchange.forget();
            self.core.blocks = exchange.again().into();
        }
    }

    fn handle_whole(&mut self, apdu: &[u8]) {
        let (plain, proven) = match self.core.channel.sort(&self.core.provider, apdu) {
            Inbound::Pushed(push) => return self.core.pushed(push),
            Inbound::Dropped(dropped) => return self.dropped(dropped),
            Inbound::Reply { apdu, proven } => (apdu, proven),
        };
        match apdu::parse(&plain) {
            Ok(answer) => self.handle_answer(answer, plain.first().copied().unwrap_or_default(), proven),
            // A proven answer will not come better; anything else may be somebody's noise.
            Err(error) if proven && self.core.channel.is_secured() => self.fail(Error::Malformed(error)),
            Err(error) => self.dropped(Dropped::Malformed(error)),
        }
    }

    fn handle_answer(&mut self, answer: Apdu<'_>, tag: u8, proven: bool) {
        if let Apdu::ExceptionResponse(exception) = answer
            && self.core.may_refuse_receipt(exception, proven)
        {
            return self.dropped(Dropped::Receipt(exception));
        }
        let core = &mut self.core;
        match mem::replace(&mut self.state, State::Closed) {
            State::Opening(opening) if core.sent() => {
                let verdict = opening.handle(&core.provider, &core.config, &mut core.channel, answer, tag);
                self.judge(verdict);
            }
            State::Proving(proving) if core.sent() => {
                let verdict = proving.handle(&core.provider, &core.config, answer, tag);
                self.judge(verdict);
            }
            State::Asking(open, request) if core.sent() => match answer {
                Apdu::ExceptionResponse(exception) => {
                    if let ServiceError::InvocationCounter(least) = exception.service {
                        return self.resynchronise(open, request, Error::Exception(exception), least, proven);
                    }
                    self.refused(open, &request, Error::Exception(exception), proven);
                }
                Apdu::ConfirmedServiceError(error) => {
                    self.refused(open, &request, Error::Service(error), proven);
                }
                answer => {
                    let id = request.id;
                    self.advance(open, id, request.handle(answer, tag));
                }
            },
            State::Releasing if core.sent() => match answer {
                Apdu::ReleaseResponse(_) => self.close(None),
                Apdu::ExceptionResponse(exception) => self.close(Some(Error::Exception(exception))),
                _ => {
                    self.state = State::Releasing;
                    self.dropped(Dropped::Unexpected(tag));
                }
            },
            state => {
                self.state = state;
                self.dropped(Dropped::Unexpected(tag));
            }
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Prove(proving) => {
                self.core.receipts.answered();
                self.state = State::Proving(proving);
                self.core.send();
            }
            Verdict::Open { negotiated, again, then } => self.opened(Open { negotiated, again }, then),
            Verdict::Again { opening, least, error } => {
                self.core.channel.reset();
                self.reopen(opening, least, error);
            }
            Verdict::Wait(state, dropped) => {
                self.state = state;
                self.dropped(dropped);
            }
            Verdict::Failed { error, then } => {
                if let Some(request) = then {
                    self.core.failed(&request, error, request.effect());
                }
                self.close(Some(error));
            }
        }
    }

    fn opened(&mut self, open: Open, then: Option<Request>) {
        self.core.receipts.answered();
        if self.core.channel.room(open.negotiated.max_pdu) < MIN_ROOM {
            let error = Error::NoRoom(open.negotiated.max_pdu);
            if let Some(request) = then {
                self.core.failed(&request, error, Effect::None);
            }
            return self.close(Some(error));
        }
        if open.negotiated.conformance.contains(Conformance::GENERAL_PROTECTION) {
            self.core.channel.use_general();
        }
        self.core.settled();
        self.core.tell(Event::Associated(open.negotiated));
        match then {
            Some(request) => {
                self.state = State::Asking(open, request);
                self.core.send();
            }
            None => self.state = State::Open(open),
        }
    }

    /// Goes to the counter that the meter wants, and opens the association with it.
    fn reopen(&mut self, opening: Opening, least: u32, error: Error) {
        let counter = self.core.channel.counter_mut();
        let before = counter.next();
        let fault = match counter.raise_to(least) {
            Err(exhausted) => Some(Error::Counter(exhausted)),
            // It takes what was sent: to do the same again would bring the same.
            Ok(()) if least < before => Some(error),
            Ok(()) => None,
        };
        if let Some(error) = fault {
            if let Some(request) = &opening.then {
                self.core.failed(request, error, request.effect());
            }
            return self.close(Some(error));
        }
        let next = counter.next();
        self.core.tell(Event::Resynchronised { next });
        self.state = State::Opening(opening);
        self.core.send();
    }

    /// A request met a counter error: a question is asked again in a new association, anything else is not.
    fn resynchronise(&mut self, mut open: Open, request: Request, error: Error, least: u32, proven: bool) {
        match open.again.take() {
            Some(mut opening) if request.restartable() => {
                opening.then = Some(request);
                self.core.channel.reset();
                self.reopen(opening, least, error);
            }
            again => {
                open.again = again;
                // The next request is not to meet it too. A number beyond all sense is left alone.
                let _ = self.core.channel.counter_mut().raise_to(least);
                self.refused(open, &request, error, proven);
            }
        }
    }

    /// The meter would not take the request in. If that is not proven, it may have taken it in all the same.
    fn refused(&mut self, open: Open, request: &Request, error: Error, proven: bool) {
        let effect = if proven { Effect::None } else { request.effect() };
        self.core.settled();
        self.core.failed(request, error, effect);
        self.state = State::Open(open);
    }

    fn advance(&mut self, open: Open, id: RequestId, next: Next) {
        if !matches!(next, Next::Wait(..)) {
            self.core.receipts.answered();
        }
        match next {
            Next::Send(request) => {
                self.state = State::Asking(open, request);
                self.core.send();
            }
            Next::Wait(request, dropped) => {
                self.state = State::Asking(open, request);
                self.dropped(dropped);
            }
            Next::Done(result, effect) => {
                self.core.settled();
                self.core.tell(match result {
                    Ok(answer) => Event::Answered(id, answer),
                    Err(error) => Event::Failed { request: id, error, effect },
                });
                self.state = State::Open(open);
            }
        }
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.core.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.core.deadline = None;
        if self.repeat_blocks(now) {
            return;
        }
        let repeatable = match &self.state {
            State::Opening(_) => true,
            State::Asking(_, request) => request.repeatable(),
            _ => false,
        };
        if repeatable && self.core.tries < self.core.config.timing.tries {
            self.core.tell(Event::Repeated);
            self.core.due = true;
            return;
        }
        if matches!(self.state, State::Releasing) {
            // Many meters say nothing to a release.
            return self.close(None);
        }
        self.fail(match self.core.last_dropped {
            // It was the answer after all, or there is none.
            Some(Dropped::Receipt(exception)) => Error::Exception(exception),
            dropped => Error::Timeout { tries: self.core.tries, dropped },
        });
    }

    /// Sends blocks again, as they were; false: that would not help, or must not be. Nothing is done before a request is
    /// whole, and an acknowledgement does nothing; a whole one that does something goes out once.
    fn repeat_blocks(&mut self, now: Duration) -> bool {
        let State::Asking(_, request) = &self.state else { return false };
        let Core { exchange: Some(exchange), config, tries, .. } = &mut self.core else { return false };
        let harmless = request.repeatable() || exchange.is_answered() || !exchange.is_said();
        if !harmless || *tries >= config.timing.tries {
            return false;
        }
        *tries += 1;
        let blocks = exchange.again();
        self.core.blocks = blocks.into();
        self.core.deadline = Some(now.saturating_add(self.core.config.timing.answer));
        self.core.tell(Event::Repeated);
        true
    }

    /// The connection ended.
    pub fn handle_disconnected(&mut self) {
        match mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Releasing => self.close(None),
            State::Asking(_, request) => {
                // What waits to be sent again was sent before; what waits the first time was not.
                let effect = if self.core.sent() { request.effect() } else { request.effect_before() };
                self.core.failed(&request, Error::Disconnected, effect);
                self.close(Some(Error::Disconnected));
            }
            State::Opening(Opening { then: Some(request), .. })
            | State::Proving(Proving { then: Some(request), .. }) => {
                self.core.failed(&request, Error::Disconnected, request.effect());
                self.close(Some(Error::Disconnected));
            }
            _ => self.close(Some(Error::Disconnected)),
        }
    }

    /// The receipt of a push goes out over the same line, or may have: the meter may refuse it by an exception that names
    /// no request.
    pub const fn receipt_sent(&mut self) {
        self.core.receipts.sent();
    }

    /// The bound of [`poll_reserve`](Self::poll_reserve) is stored, and will be found after a power cut.
    pub fn reserved(&mut self, bound: u32) {
        self.core.channel.counter_mut().reserved(bound);
    }

    fn dropped(&mut self, dropped: Dropped) {
        self.core.tell(Event::Dropped(dropped));
        if self.core.deadline.is_none() {
            return;
        }
        self.core.last_dropped = Some(dropped);
        self.core.dropped = self.core.dropped.saturating_add(1);
        if self.core.dropped >= MAX_DROPPED {
            self.fail(Error::Flooded(dropped));
        }
    }

    /// Ends what goes on: a request alone, or the association that is being opened.
    fn fail(&mut self, error: Error) {
        match mem::replace(&mut self.state, State::Closed) {
            State::Asking(open, request) => {
                self.core.settled();
                self.core.failed(&request, error, request.effect());
                self.state = State::Open(open);
            }
            State::Opening(Opening { then, .. }) | State::Proving(Proving { then, .. }) => {
                if let Some(request) = then {
                    self.core.failed(&request, error, request.effect());
                }
                self.close(Some(error));
            }
            State::Releasing => self.close(Some(error)),
            state @ (State::Open(_) | State::Closed) => self.state = state,
        }
    }

    fn close(&mut self, error: Option<Error>) {
        self.state = State::Closed;
        self.core.settled();
        self.core.channel.reset();
        self.core.tell(Event::Closed(error));
    }
}

/// What goes out.
impl<P: CryptoProvider> ClientSession<P> {
    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    /// The bound to be stored as used before anything more is sent; then call [`reserved`](Self::reserved).
    #[must_use]
    pub fn poll_reserve(&self) -> Option<u32> {
        let cost = self.cost();
        let counter = self.counter();
        if !self.core.due || counter.left() >= cost {
            return None;
        }
        counter.bound_after(self.core.config.reserve.max(cost)).ok()
    }

    /// The next APDU to be put on the line, and with it the time that its answer is waited for begins. Nothing while
    /// counters must be reserved first.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        if let Some(block) = self.core.blocks.pop_front() {
            if mem::take(&mut self.core.patient) {
                self.core.deadline = Some(now.saturating_add(self.core.config.timing.answer));
            }
            return Some(block);
        }
        if !self.core.due {
            return None;
        }
        let (cost, counter) = (self.cost(), self.counter());
        if counter.left() < cost {
            if let Err(exhausted) = counter.bound_after(cost) {
                self.core.due = false;
                self.fail(Error::Counter(exhausted));
            }
            return None;
        }
        match self.sealed() {
            Ok(apdu) => {
                self.core.due = false;
                if !self.core.sent() {
                    self.core.receipts.asked();
                }
                self.core.tries = self.core.tries.saturating_add(1);
                self.core.deadline = Some(now.saturating_add(self.core.config.timing.answer));
                if !self.in_blocks() || !matches!(self.state, State::Asking(..)) {
                    return Some(apdu);
                }
                let max_pdu = self.negotiated().map_or(0, |negotiated| negotiated.max_pdu);
                let mut exchange = Exchange::new(self.core.config.block_window, MAX_SEALED_ANSWER);
                // As many blocks as the meter takes it says in its first; a request is not longer than blocks can be many.
                let _ = exchange.say(apdu, max_pdu, 1);
                self.core.blocks = exchange.turn().into();
                self.core.exchange = Some(exchange);
                self.core.blocks.pop_front()
            }
            Err(SealFault::Reserve) => None,
            Err(SealFault::Seal(error)) => {
                self.core.due = false;
                self.fail(error);
                None
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if no answer comes before.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Duration> {
        self.core.deadline
    }

    /// Counters of the global key that the next APDU uses up.
    fn cost(&self) -> u32 {
        let channel = &self.core.channel;
        match &self.state {
            State::Closed | State::Open(_) => 0,
            State::Opening(_) => channel.cost(Under::Global),
            State::Proving(_) => {
                let gmac = matches!(self.core.config.authentication, Authentication::Gmac);
                channel.cost(Under::Global) + u32::from(gmac)
            }
            State::Asking(..) => channel.cost(Under::Association),
            State::Releasing if self.core.config.release_ciphered => channel.cost(Under::Global),
            State::Releasing => 0,
        }
    }

    fn sealed(&mut self) -> Result<Vec<u8>, SealFault> {
        let Core { provider, config, channel, .. } = &mut self.core;
        match &mut self.state {
            State::Closed | State::Open(_) => Ok(Vec::new()),
            State::Opening(opening) => opening.request(provider, config, channel),
            State::Proving(proving) => proving.request(provider, config, channel),
            State::Asking(_, request) => channel.seal(provider, Under::Association, request.plain()),
            State::Releasing => {
                let information = match config.release_ciphered && channel.is_secured() {
                    true => {
                        let initiate = opening::initiate(config, None);
                        Some(channel.seal(provider, Under::Global, &initiate)?)
                    }
                    false => None,
                };
                let mut out = Vec::new();
                let reason = Some(ReleaseRequestReason::Normal);
                Rlrq { reason, user_information: information.as_deref() }.emit(&mut out);
                Ok(out)
            }
        }
    }
}

impl<P> Core<P> {
    /// The state has something new to send.
    fn send(&mut self) {
        self.settled();
        self.due = true;
    }

    /// Nothing is waited for any more.
    fn settled(&mut self) {
        self.due = false;
        self.deadline = None;
        self.tries = 0;
        self.exchange = None;
        self.blocks.clear();
        self.patient = false;
        self.dropped = 0;
        self.last_dropped = None;
    }

    /// Whether what the state has to send was sent at least once.
    const fn sent(&self) -> bool {
        self.tries > 0
    }

    /// Whether an exception is not taken for an answer, because a receipt may have brought it; then one less may.
    fn may_refuse_receipt(&mut self, exception: ExceptionResponse, proven: bool) -> bool {
        let of_request =
            matches!(exception.service, ServiceError::InvocationCounter(_) | ServiceError::PduTooLong);
        let answers_ciphered = proven && self.channel.is_secured();
        !of_request && !answers_ciphered && self.receipts.refused()
    }

    fn next_request(&mut self) -> (RequestId, InvokeId) {
        self.requests = self.requests.wrapping_add(1);
        // Neighbours differ in the 4 bits that an answer repeats, so that a late answer is known as one.
        let id = (self.requests & 0x0f) as u8;
        (RequestId(self.requests), InvokeId::new(id, true, true))
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn failed(&mut self, request: &Request, error: Error, effect: Effect) {
        self.tell(Event::Failed { request: request.id, error, effect });
    }

    fn pushed(&mut self, push: Push) {
        if self.events.len() < MAX_EVENTS {
            self.tell(Event::Pushed(push));
        }
    }
}

impl<P> fmt::Debug for ClientSession<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

fn set_request(invoke_id: InvokeId, body: SetRequestBody<'_>) -> Vec<u8> {
    let mut plain = Vec::new();
    SetRequest { invoke_id, body }.emit(&mut plain);
    plain
}

fn action_request(invoke_id: InvokeId, body: ActionRequestBody<'_>) -> Vec<u8> {
    let mut plain = Vec::new();
    ActionRequest { invoke_id, body }.emit(&mut plain);
    plain
}

fn selective(open: &Open, attributes: &[SelectedAttribute<'_>]) -> Result<(), CommandError> {
    let needed = Conformance::SELECTIVE_ACCESS;
    let asked = attributes.iter().any(|attribute| attribute.access.is_some());
    if asked && !open.negotiated.conformance.contains(needed) {
        return Err(CommandError::NotNegotiated(needed));
    }
    Ok(())
}

fn listed(count: usize) -> Result<(), CommandError> {
    if (1..=MAX_LIST).contains(&count) { Ok(()) } else { Err(CommandError::List(count)) }
}

/// The values of a list as they stand in an APDU.
fn encoded_list(values: &[Data<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_length(values.len(), &mut out);
    values.iter().for_each(|value| out.extend_from_slice(value.bytes()));
    out
}
