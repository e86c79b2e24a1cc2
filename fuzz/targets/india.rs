//! What must hold of a session that asks for its counter first, whatever the line and the meter do: shared by the fuzz target and
//! the test that replays its corpus.
//!
//! The first byte says what the meter says of the counter, the others are steps ([`Step`]). Anybody may answer for the public
//! client, for nothing there is proven; so
//!
//! - the counters of the client rise, none goes out that was not stored as used, and none is below what was stored before,
//! - nothing of the client goes to the meter while the public one is asked for: neither title nor keys,
//! - the association opens with the genuine meter alone, and whatever goes on ends when no answer comes any more.

use std::time::Duration;

use codec::apdu::acse::Mechanism;
use codec::apdu::ciphered::Scope;
use codec::apdu::{
    self, ActionResult, Apdu, AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectedAttribute,
    SelectiveAccess,
};
use codec::axdr::{Data, Writer};
use codec::cosem::ClassId;
use codec::cosem::india::association::{PUBLIC, UTILITY};
use codec::cosem::india::time::CLOCK;
use codec::security::RustCrypto;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::session::client::{Authentication, Config, Event, MAX_EVENTS, Phase, Protection, RANDOM_LEN};
use codec::session::india::IndianSession;
use codec::session::server::{Caller, Objects, Offer, ServerSecurity, ServerSession};

use crate::meter::{self, HEAD_END, KEYS, METER, SECRET};

/// Counters below were used in a life before.
const USED: u32 = 10;
const MAX_STEPS: usize = 60;
/// Nothing that the session waits for takes more turns than this to be over.
const MAX_TIMEOUTS: usize = 24;

/// Memory at once: what both sides have whatever comes, with the answers that the line holds back, and so much for each byte.
const ROOM: u64 = 32 * 1024;
const PER_BYTE: u64 = 8;

/// What the meter says of the counter of its client.
#[derive(Clone, Copy)]
enum Counter {
    /// What it is.
    Genuine,
    Number(u32),
    Text,
    Denied,
}

struct Meter {
    security: ServerSecurity,
    counter: Counter,
    /// The highest counter that it heard of the client.
    heard: u32,
}

impl Objects for Meter {
    fn security(&mut self) -> &mut ServerSecurity {
        &mut self.security
    }

    fn get(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        let mut out = Writer::new(out);
        match (attribute.instance == CLOCK, self.counter) {
            (true, _) if caller.client == u16::from(UTILITY.client_sap) => _ = out.octet_string(&[0; 12]),
            (true, _) | (false, Counter::Denied) => return Err(DataAccessResult::ReadWriteDenied),
            (false, Counter::Genuine) => _ = out.u32(self.heard),
            (false, Counter::Number(number)) => _ = out.u32(number),
            (false, Counter::Text) => _ = out.octet_string(b"counter"),
        }
        Ok(())
    }

    fn set(
        &mut self,
        _caller: &Caller,
        _attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        _value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        Err(DataAccessResult::ReadWriteDenied)
    }

    fn act(
        &mut self,
        _caller: &Caller,
        _method: &MethodDescriptor,
        _parameters: Option<Data<'_>>,
        _out: &mut Vec<u8>,
    ) -> Result<(), ActionResult> {
        Err(ActionResult::ReadWriteDenied)
    }
}

struct World {
    session: IndianSession,
    meter: ServerSession<RustCrypto>,
    objects: Meter,
    now: Duration,
    stored: u32,
    sent: Option<u32>,
    /// Answers that did not arrive yet, with the client that they are for.
    held: Vec<(u16, Vec<u8>)>,
    opened: bool,
    random: u8,
}

fn offer(client: u8, mechanism: Mechanism, secret: &[u8]) -> Offer {
    let plain = client == PUBLIC.client_sap;
    Offer { plain, ciphered: !plain, ..meter::offer(client.into(), mechanism, secret) }
}

pub(crate) fn india(bytes: &[u8]) {
    let taken = allocation_counter::measure(|| steps(bytes));
    let most = ROOM + PER_BYTE * bytes.len() as u64;
    assert!(taken.bytes_max <= most, "{} bytes at once for {}", taken.bytes_max, bytes.len());
}

fn steps(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let counter = match choice & 7 {
        0..=2 => Counter::Genuine,
        3 => Counter::Number(u32::from(choice >> 3)),
        4 => Counter::Number(u32::MAX - u32::from(choice >> 3)),
        5 => Counter::Number(5000 * u32::from(choice >> 3)),
        6 => Counter::Text,
        _ => Counter::Denied,
    };
    let offers = vec![
        offer(PUBLIC.client_sap, Mechanism::Lowest, b""),
        offer(UTILITY.client_sap, Mechanism::Manufacturer, SECRET),
    ];
    let keys = Protection::new(meter::keys());
    let config = Config::ciphered(HEAD_END, Authentication::Aes(Secret::new(SECRET.to_vec())), keys);
    let config =
        Config { reserve: if choice & 0x80 == 0 { 1 } else { 100 }, meter_title: Some(METER), ..config };
    let mut world = World {
        session: IndianSession::new(UTILITY, config, SendCounter::resume(USED)),
        meter: ServerSession::new(RustCrypto, 300, Duration::from_secs(1 << 20)),
        objects: Meter { security: meter::security(offers), counter, heard: 0 },
        now: Duration::ZERO,
        stored: USED,
        sent: None,
        held: Vec::new(),
        opened: false,
        random: 0,
    };
    let mut steps = rest.iter().copied().take(MAX_STEPS);
    while let Some(step) = steps.next() {
        world.take(step, &mut steps);
        world.settle();
    }
    world.end();
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

impl World {
    fn take(&mut self, step: u8, rest: &mut impl Iterator<Item = u8>) {
        let how = |rest: &mut dyn Iterator<Item = u8>| rest.next().unwrap_or_default();
        match step % 12 {
            0 | 1 => {
                self.random = self.random.wrapping_add(1);
                let _begun_or_busy = self.session.associate(&[self.random; RANDOM_LEN]);
            }
            2 => {
                let attribute = AttributeDescriptor { class: ClassId(8), instance: CLOCK, attribute: 2 };
                if self.session.phase() == Phase::Open {
                    let _asked = self.session.client().get(SelectedAttribute::whole(attribute));
                }
            }
            3..=5 => {
                self.exchange();
                self.arrive(0);
            }
            6 => self.exchange(),
            7 => self.arrive(usize::from(how(rest))),
            // A bit of an answer is another.
            8 => {
                let bit = usize::from(how(rest));
                if let Some((client, mut apdu)) = self.held.pop() {
                    let bit = bit * 3 % (apdu.len() * 8);
                    apdu[bit / 8] ^= 1 << (bit % 8);
                    self.session.handle_apdu(client, &apdu);
                }
            }
            // Anybody says anything to either client.
            9 => {
                let (length, client) = (usize::from(how(rest) & 0x0f), how(rest));
                let noise: Vec<u8> = rest.take(length).collect();
                let client = if client & 1 == 0 { PUBLIC.client_sap } else { UTILITY.client_sap };
                self.session.handle_apdu(client.into(), &noise);
            }
            10 => self.time_out(),
            _ => self.session.handle_disconnected(),
        }
    }

    /// What the session has to send reaches the meter, whose answers are held.
    fn exchange(&mut self) {
        self.settle();
        while let Some((client, apdu)) = self.session.poll_transmit(self.now) {
            if let Some(counter) = global_counter(&apdu) {
                assert_eq!(client, u16::from(UTILITY.client_sap), "the public client ciphers nothing");
                assert!(self.sent.is_none_or(|sent| counter > sent), "{counter} after {:?}", self.sent);
                assert!((USED..self.stored).contains(&counter), "{counter} is not stored as used");
                self.sent = Some(counter);
                self.objects.heard = self.objects.heard.max(counter);
            }
            if client == u16::from(PUBLIC.client_sap) {
                let holds = |part: &[u8]| apdu.windows(part.len()).any(|window| window == part);
                assert!(!holds(&HEAD_END) && !holds(SECRET));
                assert!(!KEYS.iter().any(|key| holds(key)));
            }
            let mut answer = Vec::new();
            self.random = self.random.wrapping_add(1);
            let random = [self.random; codec::security::hls::CHALLENGE_LEN];
            self.meter.handle(client, &apdu, self.now, random, &mut self.objects, &mut answer);
            if !answer.is_empty() {
                self.held.push((client, answer));
            }
            self.settle();
        }
    }

    fn arrive(&mut self, which: usize) {
        if !self.held.is_empty() {
            let (client, apdu) = self.held.remove(which % self.held.len());
            self.session.handle_apdu(client, &apdu);
        }
    }

    fn settle(&mut self) {
        let mut events = 0;
        while let Some(event) = self.session.poll_event() {
            events += 1;
            assert!(events <= 2 * MAX_EVENTS);
            match event {
                Event::Associated(negotiated) => {
                    assert_eq!(negotiated.meter_title, Some(METER));
                    let served =
                        self.meter.clients().any(|caller| caller.client == u16::from(UTILITY.client_sap));
                    assert!(served && self.sent.is_some(), "nobody else has the keys");
                    self.opened = true;
                }
                Event::Closed(_) => self.opened = false,
                Event::Answered(..) => assert!(self.opened),
                _ => {}
            }
        }
        if let Some(bound) = self.session.poll_reserve() {
            assert!(bound > self.stored, "a bound only rises");
            self.stored = bound;
            self.session.reserved(bound);
        }
    }

    fn time_out(&mut self) {
        if let Some(due) = self.session.poll_timeout() {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
        }
    }

    /// Nothing arrives any more, so everything ends.
    fn end(&mut self) {
        for _ in 0..MAX_TIMEOUTS {
            self.settle();
            while self.session.poll_transmit(self.now).is_some() {
                self.settle();
            }
            if self.session.poll_timeout().is_none() {
                assert!(matches!(self.session.phase(), Phase::Closed | Phase::Open));
                return;
            }
            self.time_out();
        }
        panic!("it waits for what does not come");
    }
}
