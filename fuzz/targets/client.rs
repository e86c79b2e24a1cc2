//! What must hold for a head-end's session whatever it does and whatever happens on the line: shared by the fuzz target
//! and the test that replays its corpus.
//!
//! The input is a sequence of steps ([`Step`]) after the kind of association. The peer is a meter that knows what it was
//! made to do, so that what the session says can be held against it:
//!
//! - counters under the global key rise, and none goes out that was not stored as used,
//! - an answer in a ciphered association is one that the meter gave; a forged one is dropped, and does not keep the
//!   genuine one behind it out,
//! - what changes the meter is done once at most; what the session calls written was done, what it calls without
//!   effect was not and will not be,
//! - whatever goes on ends when no answer comes any more,
//! - it takes no more for what comes than [`Budget`] says.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use codec::apdu::acse::Mechanism;
use codec::apdu::ciphered::Scope;
use codec::apdu::initiate::Conformance;
use codec::apdu::{
    self, ActionResult, Apdu, AttributeDescriptor, DataAccessResult, DataNotificationRepr, LongInvokeId,
    MethodDescriptor, SelectedAttribute, SelectiveAccess,
};
use codec::axdr::{Data, Value, Writer};
use codec::cosem::{ClassId, LogicalName};
use codec::security::RustCrypto;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::session::client::{
    Answer, Authentication, ClientSession, CommandError, Config, Dropped, Effect, Event, MAX_EVENTS,
    OwnedData, Phase, Protection, RANDOM_LEN, RequestId,
};
use codec::session::server::{Caller, Objects, Offer, ServerSecurity, ServerSession};

use crate::budget::Budget;
use crate::meter::{self, HEAD_END, SECRET};

const MAX_PDU: u16 = 300;
const CLIENT: u16 = 48;
/// Most steps of one input: too few for the four bits of an invoke id to come round while answers are held back.
const MAX_STEPS: usize = 40;
/// Most forged copies before a genuine answer; fewer than a session drops before it gives up.
const MAX_FORGED: u8 = 3;
/// Nothing that the session waits for takes more turns than this to be over.
const MAX_TIMEOUTS: usize = 16;

/// Bytes of an attribute that is asked for: class, name, number, and no selection.
const ATTRIBUTE: usize = 2 + 6 + 1 + 1;

/// Steps that open an association, as they are encoded.
#[allow(dead_code, reason = "of use to the replaying test alone")]
pub(crate) const OPENING: &[u8] = &[0, 8];

/// What happens next.
#[derive(Debug)]
enum Step {
    Associate,
    Get,
    GetList(u8),
    Set(u16),
    SetList(u8),
    Act(u16),
    Release,
    /// What the session has to send reaches the meter, and the answer the session.
    Exchange,
    /// As many as it takes until there is nothing to send.
    Finish,
    /// What the session has to send is lost.
    LoseRequest,
    /// The answer is lost; some time it may come nevertheless.
    HoldAnswer,
    /// Copies of the answer with a bit flipped come before it.
    Forge {
        copies: u8,
        bit: u16,
    },
    /// An answer that was held, or came before, comes now.
    Replay(u8),
    /// Anybody sends something.
    Noise(Vec<u8>),
    /// The meter pushes.
    Push(u32),
    TimeOut,
    Disconnect,
    /// The meter forgets its associations.
    Restart,
    /// The meter has seen higher counters of this client.
    Ahead(u8),
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match bytes.int_in_range(0..=18_u8)? {
            0 => Step::Associate,
            1 => Step::Get,
            2 => Step::GetList(bytes.int_in_range(0..=4)?),
            3 => Step::Set(bytes.int_in_range(0..=1500)?),
            4 => Step::SetList(bytes.int_in_range(0..=4)?),
            5 => Step::Act(bytes.int_in_range(0..=1500)?),
            6 => Step::Release,
            7 => Step::Exchange,
            8 => Step::Finish,
            9 => Step::LoseRequest,
            10 => Step::HoldAnswer,
            11 => Step::Forge { copies: bytes.int_in_range(1..=MAX_FORGED)?, bit: bytes.arbitrary()? },
            12 => Step::Replay(bytes.arbitrary()?),
            13 => {
                let length = bytes.int_in_range(0..=40)?;
                Step::Noise(bytes.bytes(length)?.to_vec())
            }
            14 => Step::Push(bytes.arbitrary()?),
            15 => Step::TimeOut,
            16 => Step::Disconnect,
            17 => Step::Restart,
            _ => Step::Ahead(bytes.arbitrary()?),
        })
    }
}

/// A meter that counts what it does: every value that it gives is another, and every order that it takes has a number.
struct Toy {
    security: ServerSecurity,
    given: u32,
    done: Vec<u32>,
}

/// A number with so many bytes behind it.
fn order(number: u32, padding: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).structure(2).u32(number).octet_string(&vec![7; padding]);
    out
}

fn number_of(data: Data<'_>) -> Option<u32> {
    let Value::Structure(fields) = data.value() else { return None };
    match fields.iter().next() {
        Some(Value::U32(number)) => Some(number),
        _ => None,
    }
}

impl Objects for Toy {
    fn security(&mut self) -> &mut ServerSecurity {
        &mut self.security
    }

    fn get(
        &mut self,
        _caller: &Caller,
        _attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        self.given += 1;
        // Every third is long and comes in blocks.
        out.extend_from_slice(&order(self.given, if self.given.is_multiple_of(3) { 700 } else { 9 }));
        Ok(())
    }

    fn set(
        &mut self,
        _caller: &Caller,
        _attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        self.done.push(number_of(value).ok_or(DataAccessResult::TypeUnmatched)?);
        Ok(())
    }

    fn act(
        &mut self,
        _caller: &Caller,
        _method: &MethodDescriptor,
        parameters: Option<Data<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), ActionResult> {
        let number = parameters.and_then(number_of).ok_or(ActionResult::TypeUnmatched)?;
        self.done.push(number);
        out.extend_from_slice(&order(number, if number.is_multiple_of(2) { 0 } else { 600 }));
        Ok(())
    }
}

/// What a request would do, and how it ended.
struct Order {
    request: u32,
    numbers: Vec<u32>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    NotDone,
    Unknown,
}

struct World {
    session: ClientSession,
    /// What the session takes.
    budget: Budget,
    ciphered: bool,
    /// Whether requests and answers go in blocks of a general transfer.
    in_blocks: bool,
    meter: ServerSession<RustCrypto>,
    toy: Toy,
    now: Duration,
    /// Counters are stored as used up to here.
    stored: u32,
    /// The last counter that went out under the global key.
    sent: Option<u32>,
    held: Vec<Vec<u8>>,
    orders: Vec<Order>,
    next_order: u32,
    random: u8,
}

/// The ways to associate: what the client brings, and what the meter asks for.
fn config(choice: u8) -> (Config, Offer) {
    let dedicated = choice & 0x40 != 0;
    let protection = Protection { dedicated, ..Protection::new(meter::keys()) };
    let offer = |mechanism, secret| meter::offer(CLIENT, mechanism, secret);
    let secret = || Secret::new(SECRET.to_vec());
    let (authentication, offer) = match choice & 3 {
        0 => (Authentication::Aes(secret()), offer(Mechanism::Manufacturer, SECRET)),
        1 => (Authentication::Gmac, offer(Mechanism::Gmac, b"")),
        2 => (Authentication::Password(secret()), offer(Mechanism::LowLevel, SECRET)),
        _ => (Authentication::None, offer(Mechanism::Lowest, b"")),
    };
    let mut config = Config::ciphered(HEAD_END, authentication, protection);
    if choice & 0x80 != 0 {
        config.conformance = config.conformance.union(Conformance::GENERAL_PROTECTION);
    }
    config.release_ciphered = choice & 0x20 != 0;
    config.reserve = if choice & 0x10 != 0 { 1 } else { 1000 };
    match choice & 0x0c {
        0x04 => config = config.in_blocks(1),
        0x08 => config = config.in_blocks(5),
        // GMAC proves nothing without keys.
        0x0c if choice & 3 != 1 => config.protection = None,
        _ => {}
    }
    (config, offer)
}

/// The counter of an APDU under the global key; one stands inside the APDUs that open and release an association.
fn global_counter(bytes: &[u8]) -> Option<u32> {
    match apdu::parse(bytes).ok()? {
        Apdu::AssociationRequest(aarq) => global_counter(aarq.user_information?),
        Apdu::ReleaseRequest(rlrq) => global_counter(rlrq.user_information?),
        Apdu::GeneralGlo(glo) => Some(glo.invocation_counter()),
        Apdu::Ciphered(service) if service.scope() == Scope::Global => Some(service.invocation_counter()),
        _ => None,
    }
}

/// Whether a bit of it cannot be changed unnoticed.
fn is_sealed(apdu: &[u8]) -> bool {
    matches!(apdu.first(), Some(0xc8..=0xcf | 0xd0..=0xd7 | 0xdb..=0xdd))
}

impl World {
    fn new(choice: u8) -> Self {
        let (config, offer) = config(choice);
        Self {
            ciphered: config.protection.is_some(),
            in_blocks: config.block_window > 0,
            session: ClientSession::new(config, SendCounter::resume(10)),
            budget: Budget::default(),
            meter: ServerSession::new(RustCrypto, MAX_PDU, Duration::from_secs(1 << 20)),
            toy: Toy { security: meter::security(vec![offer]), given: 0, done: Vec::new() },
            now: Duration::ZERO,
            stored: 10,
            sent: None,
            held: Vec::new(),
            orders: Vec::new(),
            next_order: 0,
            random: 0,
        }
    }

    /// Numbers for so many orders.
    fn number(&mut self, count: u8) -> Vec<u32> {
        let first = self.next_order;
        self.next_order += u32::from(count);
        (first..self.next_order).collect()
    }

    fn attribute() -> SelectedAttribute<'static> {
        let instance = LogicalName([1, 0, 1, 8, 0, 255]);
        SelectedAttribute::whole(AttributeDescriptor { class: ClassId(3), instance, attribute: 2 })
    }

    /// Asks the session for something that is so long.
    fn ask(
        &mut self,
        bytes: usize,
        command: impl FnOnce(&mut ClientSession) -> Result<RequestId, CommandError>,
    ) -> Option<u32> {
        let taken_up = self.budget.measure(|| command(&mut self.session));
        self.budget.check(bytes);
        taken_up.ok().map(|id| id.0)
    }

    fn set(&mut self, padding: u16) {
        let numbers = self.number(1);
        let value = order(numbers[0], usize::from(padding));
        let value = Data::new(&value).expect("what is written is one value");
        if let Some(request) = self.ask(value.bytes().len(), |session| session.set(Self::attribute(), value))
        {
            self.orders.push(Order { request, numbers, end: None });
        }
    }

    fn set_list(&mut self, count: u8) {
        let numbers = self.number(count);
        let values: Vec<Vec<u8>> = numbers.iter().map(|number| order(*number, 90)).collect();
        let values: Vec<Data<'_>> = values.iter().filter_map(|value| Data::new(value).ok()).collect();
        let attributes = vec![Self::attribute(); values.len()];
        let bytes = values.iter().map(|value| ATTRIBUTE + value.bytes().len()).sum();
        if let Some(request) = self.ask(bytes, |session| session.set_with_list(&attributes, &values)) {
            self.orders.push(Order { request, numbers, end: None });
        }
    }

    fn act(&mut self, padding: u16) {
        let numbers = self.number(1);
        let value = order(numbers[0], usize::from(padding));
        let method =
            MethodDescriptor { class: ClassId(70), instance: LogicalName([0, 0, 96, 3, 10, 255]), method: 1 };
        let parameters = Data::new(&value).ok();
        if let Some(request) = self.ask(value.len(), |session| session.action(method, parameters)) {
            self.orders.push(Order { request, numbers, end: None });
        }
    }

    /// What the session has to send, if anything; counters are stored before.
    fn transmitted(&mut self) -> Option<Vec<u8>> {
        if let Some(bound) = self.session.poll_reserve() {
            assert!(bound > self.stored, "a bound that is stored already is not asked for");
            assert!(self.session.poll_transmit(self.now).is_none(), "nothing goes out before it is stored");
            self.stored = bound;
            self.session.reserved(bound);
        }
        let sent = self.budget.measure(|| self.session.poll_transmit(self.now));
        let apdu = sent.clone()?;
        self.budget.measure(|| drop(sent));
        self.budget.check(0);
        assert!(self.in_blocks || self.session.poll_transmit(self.now).is_none(), "one at a time");
        assert!(self.session.poll_timeout().is_some_and(|timeout| timeout > self.now));
        if let Some(counter) = global_counter(&apdu) {
            assert!(self.sent.is_none_or(|sent| sent < counter), "{counter} after {:?}", self.sent);
            assert!(counter < self.stored, "{counter} is not stored as used, {} is", self.stored);
            self.sent = Some(counter);
        }
        Some(apdu)
    }

    /// What the meter answers, if it does: an APDU, or blocks of one.
    fn answered(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        self.random = self.random.wrapping_add(1);
        let (mut out, mut more) = (Vec::new(), Vec::new());
        self.meter.handle(CLIENT, request, self.now, [self.random; 16], &mut self.toy, &mut out);
        let mut answers = vec![out];
        while self.meter.poll_more(&mut more) {
            answers.push(more.clone());
        }
        answers.retain(|answer| !answer.is_empty());
        answers
    }

    /// One question, or one block of it, and its answer; whether there was a question.
    fn exchange(&mut self) -> bool {
        let Some(request) = self.transmitted() else { return false };
        for answer in self.answered(&request) {
            self.come(&answer);
            self.held.push(answer);
        }
        true
    }

    fn come(&mut self, apdu: &[u8]) -> Option<Dropped> {
        self.budget.measure(|| self.session.handle_apdu(apdu));
        self.budget.check(apdu.len());
        self.listen()
    }

    /// Takes in what the session says, and gives back why something that came was dropped.
    fn listen(&mut self) -> Option<Dropped> {
        let (mut events, mut dropped) = (0, None);
        while let Some(event) = self.budget.measure(|| self.session.poll_event()) {
            events += 1;
            match &event {
                Event::Answered(id, answer) => self.believe(id.0, answer),
                Event::Failed { request, effect, .. } => {
                    let end = if *effect == Effect::None { End::NotDone } else { End::Unknown };
                    self.ended(request.0, end);
                }
                Event::Dropped(why) => dropped = Some(*why),
                _ => {}
            }
            self.budget.measure(|| drop(event));
        }
        self.budget.check(0);
        assert!(events <= MAX_EVENTS, "{events} events of one step");
        dropped
    }

    fn believe(&mut self, request: u32, answer: &Answer) {
        self.ended(request, End::Done);
        if !self.ciphered {
            return;
        }
        let given = |data: &OwnedData| number_of(data.data()).is_some_and(|number| number <= self.toy.given);
        match answer {
            Answer::Value(value) => assert!(given(value), "{value:?} was never given"),
            Answer::Values(values) => {
                assert!(values.iter().flatten().all(given), "{values:?} were never given");
            }
            Answer::Invoked(Some(Ok(value))) => {
                let number = number_of(value.data());
                assert!(number.is_some_and(|number| self.toy.done.contains(&number)), "{value:?}");
            }
            _ => {}
        }
    }

    fn ended(&mut self, request: u32, end: End) {
        let Some(order) = self.orders.iter_mut().find(|order| order.request == request) else { return };
        assert!(order.end.is_none(), "request {request} ended twice");
        order.end = Some(end);
    }

    /// Copies with a flipped bit come before the genuine answer, and do not keep it out.
    fn forge(&mut self, copies: u8, bit: u16) {
        let Some(request) = self.transmitted() else { return };
        let mut answers = self.answered(&request);
        let Some(answer) = answers.pop() else { return };
        answers.iter().for_each(|block| _ = self.come(block));
        self.held.extend(answers);
        let is_sealed = self.ciphered && is_sealed(&answer);
        for copy in 0..u16::from(copies) {
            let mut forged = answer.clone();
            let bit = usize::from(bit.wrapping_add(copy * 7919)) % (forged.len() * 8);
            forged[bit / 8] ^= 0x80 >> (bit % 8);
            let before = self.session.phase();
            self.come(&forged);
            if is_sealed && self.session.phase() != before {
                // Too much was dropped by now, or the first byte alone was changed: a refusal may stand in for any answer.
                return;
            }
        }
        let waits = matches!(self.session.phase(), Phase::Asking | Phase::Opening);
        let dropped = self.come(&answer);
        assert!(!is_sealed || !waits || dropped.is_none(), "the genuine answer was dropped: {dropped:?}");
        self.held.push(answer);
    }

    fn time_out(&mut self) {
        if let Some(timeout) = self.session.poll_timeout() {
            self.now = self.now.max(timeout);
            self.budget.measure(|| self.session.handle_timeout(self.now));
        }
        self.listen();
    }

    fn push(&mut self, id: u32) {
        let mut push = Vec::new();
        DataNotificationRepr { invoke_id: LongInvokeId(id), date_time: None }.emit(&order(id, 3), &mut push);
        let before = self.session.phase();
        self.come(&push);
        assert_eq!(self.session.phase(), before, "a push changes nothing");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Associate => {
                self.random = self.random.wrapping_add(1);
                let random = [self.random; RANDOM_LEN];
                let _taken_up_or_not = self.budget.measure(|| self.session.associate(&random));
            }
            Step::Get => _ = self.ask(ATTRIBUTE, |session| session.get(Self::attribute())),
            Step::GetList(count) => {
                let attributes = vec![Self::attribute(); usize::from(count)];
                _ = self.ask(attributes.len() * ATTRIBUTE, |session| session.get_with_list(&attributes));
            }
            Step::Set(padding) => self.set(padding),
            Step::SetList(count) => self.set_list(count),
            Step::Act(padding) => self.act(padding),
            Step::Release => _ = self.budget.measure(|| self.session.release()),
            Step::Exchange => _ = self.exchange(),
            Step::Finish => _ = (0..MAX_STEPS).all(|_| self.exchange()),
            Step::LoseRequest => _ = self.transmitted(),
            Step::HoldAnswer => {
                if let Some(request) = self.transmitted() {
                    let answer = self.answered(&request);
                    self.held.extend(answer);
                }
            }
            Step::Forge { copies, bit } => self.forge(copies, bit),
            Step::Replay(which) => {
                if let Some(answer) = self.held.get(usize::from(which) % self.held.len().max(1)).cloned() {
                    self.come(&answer);
                }
            }
            Step::Noise(bytes) => _ = self.come(&bytes),
            Step::Push(id) => self.push(id),
            Step::TimeOut => self.time_out(),
            Step::Disconnect => self.budget.measure(|| self.session.handle_disconnected()),
            Step::Restart => {
                self.meter = ServerSession::new(RustCrypto, MAX_PDU, Duration::from_secs(1 << 20))
            }
            Step::Ahead(by) => {
                let last = self.toy.security.received(CLIENT).last().unwrap_or(0);
                self.toy.security.seen(CLIENT, last.saturating_add(by.into()));
            }
        }
        self.listen();
    }

    /// Nothing comes any more: whatever is waited for ends, and what was said of the orders is what the meter did.
    fn end(mut self) {
        for _ in 0..MAX_TIMEOUTS {
            let _lost = self.transmitted();
            self.time_out();
        }
        assert!(matches!(self.session.phase(), Phase::Closed | Phase::Open), "{:?}", self.session.phase());
        for Order { request, numbers, end } in &self.orders {
            let times = |number: &u32| self.toy.done.iter().filter(|done| *done == number).count();
            assert!(numbers.iter().all(|number| times(number) <= 1), "request {request} was done twice");
            let all = numbers.iter().all(|number| times(number) == 1);
            let none = numbers.iter().all(|number| times(number) == 0);
            match end {
                None => panic!("request {request} never ended"),
                Some(End::Done) => assert!(all || !self.ciphered, "request {request} was not done"),
                Some(End::NotDone) => assert!(none || !self.ciphered, "request {request} was done"),
                Some(End::Unknown) => {}
            }
        }
    }
}

/// The kind of association, then steps.
pub(crate) fn client(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let Ok(choice) = bytes.arbitrary() else { return };
    let mut world = World::new(choice);
    for _ in 0..MAX_STEPS {
        if bytes.is_empty() {
            break;
        }
        let Ok(step) = bytes.arbitrary() else { break };
        world.step(step);
    }
    world.end();
}
