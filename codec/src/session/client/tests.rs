//! Sessions against a meter that is scripted APDU by APDU; meters in programs of other people are in `tests/peers.rs`.

use std::format;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::apdu::acse::{Aare, AssociationResult, Diagnostic, Mechanism, Rlre, ServiceUser};
use crate::apdu::initiate::{DLMS_VERSION, InitiateResponse};
use crate::apdu::{
    ActionOutcome, ActionResponse, ActionResponseBody, ActionResult, AttributeDescriptor, DataAccessResult,
    DataBlock, DataNotificationRepr, ExceptionResponse, GetBlock, GetResponse, GetResponseBody, LongInvokeId,
    SelectiveAccess, SetResponse, SetResponseBody, StateError,
};
use crate::axdr::{Value, Writer};
use crate::cosem::profile_generic::{EntryDescriptor, Selection};
use crate::cosem::{ClassId, LogicalName};
use crate::security::Keys;
use crate::security::Scratch;
use crate::security::association::{Envelope, Incoming, Outgoing, Protect, Refusal};
use crate::security::hls::{Secret, answer_aes, answer_gmac};
use crate::security::keys::{AssociationKeys, Key, KeyUse};

const CLIENT: [u8; 8] = *b"URJ\0\0\0\0\x30";
const METER: [u8; 8] = *b"PXR\0\0\0\0\x07";
const SECRET: &[u8] = b"0123456789ABCDEF";
const THEIRS: [u8; 16] = [0x5a; 16];
const RANDOM: [u8; RANDOM_LEN] = {
    let mut random = [0x11; RANDOM_LEN];
    random[RANDOM_LEN / 2] = 0x22;
    random
};
const ANSWER: Duration = Duration::from_secs(10);
const RELAY: MethodDescriptor =
    MethodDescriptor { class: ClassId(70), instance: LogicalName([0, 0, 96, 3, 10, 255]), method: 1 };

fn keys() -> AssociationKeys {
    AssociationKeys::new(Keys::new([0x0e; 16], [0x0a; 16]))
}

fn secret() -> Secret {
    Secret::new(SECRET.to_vec())
}

fn energy() -> SelectedAttribute<'static> {
    let instance = LogicalName([1, 0, 1, 8, 0, 255]);
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(3), instance, attribute: 2 })
}

fn number(value: u32) -> Vec<u8> {
    let mut bytes = vec![];
    Writer::new(&mut bytes).u32(value);
    bytes
}

fn plain_config() -> Config {
    let conformance = Config::ciphered(CLIENT, Authentication::None, Protection::new(keys())).conformance;
    Config { conformance, ..Config::public(CLIENT) }
}

fn ciphered_config() -> Config {
    Config::ciphered(CLIENT, Authentication::Aes(secret()), Protection::new(keys()))
}

/// The meter's side of the line: what it would need to know to answer, and nothing that it must do.
struct Meter {
    incoming: Incoming,
    scratch: Scratch,
    keys: AssociationKeys,
    counter: SendCounter,
    /// Every counter of the client under the global key, in the order that they came.
    seen: Vec<u32>,
    max_pdu: u16,
}

impl Meter {
    fn new() -> Self {
        let incoming = Incoming::new(CLIENT, Protect::AuthenticatedEncrypted, RisingCounter::new());
        let scratch = Scratch::new();
        let counter = SendCounter::of_session();
        Self { incoming, scratch, keys: keys(), counter, seen: vec![], max_pdu: 750 }
    }

    fn open(&mut self, apdu: &[u8]) -> Vec<u8> {
        let received = self.incoming.receive(&RustCrypto, &self.keys, apdu, &mut self.scratch).unwrap();
        if received.key == KeyUse::Unicast {
            self.seen.push(received.counter);
        }
        received.apdu.into_inner().to_vec()
    }

    fn seal_under(&mut self, key: KeyUse, envelope: Envelope, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let invocation = self.counter.take().unwrap();
        Outgoing { title: METER, protect: Protect::AuthenticatedEncrypted }
            .seal(&RustCrypto, &self.keys, key, envelope, invocation, plain, &mut out)
            .unwrap();
        out
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.seal_under(KeyUse::Unicast, Envelope::Service, plain)
    }

    fn initiate_response(&self, conformance: Conformance) -> Vec<u8> {
        let mut plain = vec![];
        InitiateResponse {
            quality_of_service: None,
            dlms_version: DLMS_VERSION,
            conformance,
            max_pdu: self.max_pdu,
            vaa_name: InitiateResponse::LOGICAL_NAME,
        }
        .emit(&mut plain);
        plain
    }

    /// The AARE to an AARQ.
    fn accept(&mut self, aarq: &[u8]) -> Vec<u8> {
        let Apdu::AssociationRequest(request) = apdu::parse(aarq).unwrap() else { panic!("no AARQ") };
        let ciphered = request.context.ciphered();
        let information = request.user_information.unwrap();
        let initiate = if ciphered { self.open(information) } else { information.to_vec() };
        let Apdu::InitiateRequest(initiate) = apdu::parse(&initiate).unwrap() else { panic!() };
        let dedicated = initiate.dedicated_key.and_then(|key| Key::from_slice(key.0));
        let response = self.initiate_response(initiate.conformance);
        let response = if ciphered { self.seal(&response) } else { response };
        self.keys.set_dedicated(dedicated);
        let high = request.mechanism.high_level();
        let user = if high { ServiceUser::AuthenticationRequired } else { ServiceUser::Null };
        aare(&Aare {
            context: Some(request.context),
            result: AssociationResult::Accepted,
            diagnostic: Some(Diagnostic::User(user)),
            responding_ap_title: Some(&METER),
            mechanism: request.mechanism,
            authentication_value: high.then_some(&THEIRS[..]),
            user_information: Some(&response),
        })
    }

    /// Pass 4 to a pass 3 that is right.
    fn prove(&mut self, pass3: &[u8], challenge: &[u8]) -> Vec<u8> {
        let plain = self.open(pass3);
        let Apdu::ActionRequest(request) = apdu::parse(&plain).unwrap() else { panic!("no action") };
        let ActionRequestBody::Normal(method, Some(data)) = request.body else { panic!("{request:?}") };
        assert_eq!((method.class, method.method), (ClassId(15), 1));
        let Value::OctetString(answer) = data.value() else { panic!() };
        assert_eq!(answer, answer_aes(&secret(), &THEIRS).unwrap());
        let mut ours = vec![];
        Writer::new(&mut ours).octet_string(&answer_aes(&secret(), challenge).unwrap());
        let data = Some(Ok(Data::new(&ours).unwrap()));
        let answer = action_response(
            request.invoke_id,
            ActionResponseBody::Normal(ActionOutcome { result: ActionResult::Success, data }),
        );
        self.seal(&answer)
    }
}

fn aare(aare: &Aare<'_>) -> Vec<u8> {
    let mut out = vec![];
    aare.emit(&mut out);
    out
}

fn get_response(invoke_id: InvokeId, body: GetResponseBody<'_>) -> Vec<u8> {
    let mut out = vec![];
    GetResponse { invoke_id, body }.emit(&mut out);
    out
}

fn set_response(invoke_id: InvokeId, body: SetResponseBody<'_>) -> Vec<u8> {
    let mut out = vec![];
    SetResponse { invoke_id, body }.emit(&mut out);
    out
}

fn action_response(invoke_id: InvokeId, body: ActionResponseBody<'_>) -> Vec<u8> {
    let mut out = vec![];
    ActionResponse { invoke_id, body }.emit(&mut out);
    out
}

fn exception(service: ServiceError) -> Vec<u8> {
    let mut out = vec![];
    ExceptionResponse { state: StateError::ServiceNotAllowed, service }.emit(&mut out);
    out
}

fn invoke_of(plain: &[u8]) -> InvokeId {
    InvokeId(plain[2])
}

/// A session and the meter that answers it.
struct World {
    session: ClientSession,
    meter: Meter,
    now: Duration,
}

impl World {
    fn new(config: Config) -> Self {
        let session = ClientSession::new(config, SendCounter::resume(100));
        Self { session, meter: Meter::new(), now: Duration::ZERO }
    }

    /// Open, with nothing told any more.
    fn open(config: Config) -> Self {
        let mut world = Self::new(config);
        world.associate();
        assert!(matches!(world.events()[..], [Event::Associated(_)]));
        world
    }

    fn associate(&mut self) {
        self.session.associate(&RANDOM).unwrap();
        let aarq = self.sent();
        self.handshake(&aarq, &RANDOM[..16]);
    }

    /// Answers an AARQ and what follows it.
    fn handshake(&mut self, aarq: &[u8], challenge: &[u8]) {
        let aare = self.meter.accept(aarq);
        self.session.handle_apdu(&aare);
        if self.session.phase() == Phase::Opening {
            let pass3 = self.sent();
            let pass4 = self.meter.prove(&pass3, challenge);
            self.session.handle_apdu(&pass4);
        }
    }

    fn reserve(&mut self) {
        if let Some(bound) = self.session.poll_reserve() {
            assert_eq!(self.session.poll_transmit(self.now), None, "nothing goes out before it is stored");
            self.session.reserved(bound);
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        self.reserve();
        let apdu = self.session.poll_transmit(self.now).expect("something to send");
        assert_eq!(self.session.poll_transmit(self.now), None, "one at a time");
        apdu
    }

    /// What was sent, in the clear.
    fn asked(&mut self) -> Vec<u8> {
        let apdu = self.sent();
        if self.session.core.channel.is_secured() { self.meter.open(&apdu) } else { apdu }
    }

    fn answer(&mut self, plain: &[u8]) {
        let apdu =
            if self.session.core.channel.is_secured() { self.meter.seal(plain) } else { plain.to_vec() };
        self.session.handle_apdu(&apdu);
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn time_out(&mut self) {
        self.now = self.session.poll_timeout().unwrap();
        self.session.handle_timeout(self.now);
    }

    /// Reads, and gets this number.
    #[track_caller]
    fn reads(&mut self, value: u32) {
        let id = self.session.get(energy()).unwrap();
        let asked = self.asked();
        let bytes = number(value);
        let body = GetResponseBody::Normal(Ok(Data::new(&bytes).unwrap()));
        self.answer(&get_response(invoke_of(&asked), body));
        let answer = Answer::Value(OwnedData::new(bytes).unwrap());
        assert_eq!(self.events().last(), Some(&Event::Answered(id, answer)));
    }
}

/// Every association that a client can have.
fn configs() -> Vec<Config> {
    let password = || Authentication::Password(Secret::new(b"12345678".to_vec()));
    let dedicated = Protection { dedicated: true, ..Protection::new(keys()) };
    vec![
        plain_config(),
        Config { authentication: password(), ..plain_config() },
        Config::ciphered(CLIENT, Authentication::None, Protection::new(keys())),
        Config::ciphered(CLIENT, password(), Protection::new(keys())),
        ciphered_config(),
        Config::ciphered(CLIENT, Authentication::Aes(secret()), dedicated),
    ]
}

#[test]
fn every_association_opens_reads_and_is_released() {
    for config in configs() {
        let mut world = World::open(config);
        assert_eq!(world.session.negotiated().unwrap().max_pdu, 750);
        world.reads(7);
        world.reads(8);
        world.session.release().unwrap();
        let rlrq = world.sent();
        assert!(matches!(apdu::parse(&rlrq), Ok(Apdu::ReleaseRequest(_))));
        let mut rlre = vec![];
        Rlre { reason: None, user_information: None }.emit(&mut rlre);
        world.session.handle_apdu(&rlre);
        assert_eq!(world.events(), [Event::Closed(None)]);
        assert_eq!(world.session.phase(), Phase::Closed);
        assert!(world.meter.seen.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", world.meter.seen);
    }
}

#[test]
fn an_association_in_the_clear_is_these_bytes() {
    let mut session = ClientSession::new(Config::public(CLIENT), SendCounter::resume(0));
    session.associate(&RANDOM).unwrap();
    let aarq = session.poll_transmit(Duration::ZERO).unwrap();
    let expected = "601da109060760857405080101be10040e01000000065f1f040000121404b0";
    assert_eq!(hex::encode(aarq), expected);
    assert_eq!(session.poll_timeout(), Some(ANSWER));
}

#[test]
fn commands_are_taken_only_where_the_table_says() {
    let mut world = World::new(plain_config());
    assert_eq!(world.session.get(energy()), Err(CommandError::NotAssociated));
    assert_eq!(world.session.release(), Err(CommandError::NotAssociated));
    world.session.associate(&RANDOM).unwrap();
    assert_eq!(world.session.associate(&RANDOM), Err(CommandError::Busy));
    assert_eq!(world.session.get(energy()), Err(CommandError::Busy));
    let aarq = world.sent();
    world.handshake(&aarq, &[]);
    assert_eq!(world.session.associate(&RANDOM), Err(CommandError::Associated));
    world.session.get(energy()).unwrap();
    assert_eq!(world.session.get(energy()), Err(CommandError::Busy));
    assert_eq!(world.session.release(), Err(CommandError::Busy));
}

#[test]
fn nothing_is_ciphered_under_a_counter_that_was_not_stored() {
    let mut world = World::new(Config { reserve: 2, ..ciphered_config() });
    world.session.associate(&RANDOM).unwrap();
    assert_eq!(world.session.poll_transmit(world.now), None);
    assert_eq!(world.session.poll_reserve(), Some(102));
    let aarq = world.sent();
    world.handshake(&aarq, &RANDOM[..16]);
    assert_eq!(world.meter.seen, [100, 101]);
    world.session.get(energy()).unwrap();
    assert_eq!((world.session.poll_reserve(), world.session.poll_transmit(world.now)), (Some(104), None));
    assert_eq!(world.session.poll_timeout(), None, "no answer is waited for before the question left");
    world.session.reserved(104);
    assert!(world.session.poll_transmit(world.now).is_some());
}

#[test]
fn gmac_proves_both_sides_and_uses_two_counters() {
    let mut world = World::new(Config::ciphered(CLIENT, Authentication::Gmac, Protection::new(keys())));
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    let aare = world.meter.accept(&aarq);
    world.session.handle_apdu(&aare);
    let pass3 = world.sent();
    let plain = world.meter.open(&pass3);
    let Apdu::ActionRequest(request) = apdu::parse(&plain).unwrap() else { panic!() };
    let ActionRequestBody::Normal(_, Some(data)) = request.body else { panic!() };
    let Value::OctetString(answer) = data.value() else { panic!() };
    let theirs = hls_challenge(THEIRS);
    let inner = theirs.verify_gmac(&RustCrypto, keys().global(), &CLIENT, answer).unwrap();
    assert!(!world.meter.seen.contains(&inner), "no counter twice");
    let invocation = world.meter.counter.take().unwrap();
    let ours = answer_gmac(&RustCrypto, keys().global(), &METER, invocation, &RANDOM[..16]).unwrap();
    let mut encoded = vec![];
    Writer::new(&mut encoded).octet_string(&ours);
    let data = Some(Ok(Data::new(&encoded).unwrap()));
    let outcome = ActionOutcome { result: ActionResult::Success, data };
    world.answer(&action_response(request.invoke_id, ActionResponseBody::Normal(outcome)));
    assert!(matches!(world.events()[..], [Event::Associated(_)]));
    world.reads(1);
}

/// What went by in an association: AARE, pass 4, and the answer to a read.
struct Recorded {
    aare: Vec<u8>,
    pass4: Option<Vec<u8>>,
    answer: Vec<u8>,
}

/// A session of today with a meter whose session of yesterday was recorded by whoever sits on the line. Of yesterday the
/// client remembers `received`.
fn recorded(config: &Config) -> (Recorded, World, RisingCounter) {
    let mut world = World::new(config.clone());
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    let aare = world.meter.accept(&aarq);
    world.session.handle_apdu(&aare);
    let pass4 = (world.session.phase() == Phase::Opening).then(|| {
        let pass3 = world.sent();
        let pass4 = world.meter.prove(&pass3, &RANDOM[..16]);
        world.session.handle_apdu(&pass4);
        pass4
    });
    world.session.get(energy()).unwrap();
    let asked = world.asked();
    let bytes = number(4711);
    let body = GetResponseBody::Normal(Ok(Data::new(&bytes).unwrap()));
    let answer = world.meter.seal(&get_response(invoke_of(&asked), body));
    world.session.handle_apdu(&answer);
    assert!(matches!(world.events().last(), Some(Event::Answered(..))));
    let received = world.session.received();
    let session = ClientSession::new(config.clone(), SendCounter::resume(5000));
    (Recorded { aare, pass4, answer }, World { session, ..world }, received)
}

/// Of today.
const FRESH: [u8; RANDOM_LEN] = [0x77; RANDOM_LEN];

#[test]
fn a_challenge_keeps_answers_of_earlier_associations_out_though_nothing_is_remembered() {
    let (yesterday, mut world, _) = recorded(&ciphered_config());
    // All of it again: the proof is of another challenge.
    world.session.associate(&FRESH).unwrap();
    world.sent();
    world.session.handle_apdu(&yesterday.aare);
    world.sent();
    world.session.handle_apdu(&yesterday.pass4.unwrap());
    let events = world.events();
    assert!(matches!(events[..], [Event::Closed(Some(Error::Proof(_)))]), "{events:?}");
    // The parts that nothing but their counter protects, inside of today's: the meter's own proof ends what they win.
    world.session = ClientSession::new(ciphered_config(), SendCounter::resume(6000));
    world.session.associate(&FRESH).unwrap();
    let aarq = world.sent();
    let today = world.meter.accept(&aarq);
    let Apdu::AssociationResponse(mut spliced) = apdu::parse(&today).unwrap() else { panic!() };
    let Apdu::AssociationResponse(old) = apdu::parse(&yesterday.aare).unwrap() else { panic!() };
    spliced.user_information = old.user_information;
    world.session.handle_apdu(&aare(&spliced));
    let pass3 = world.sent();
    let pass4 = world.meter.prove(&pass3, &FRESH[..16]);
    world.session.handle_apdu(&pass4);
    assert!(matches!(world.events()[..], [Event::Associated(_)]));
    let id = world.session.get(energy()).unwrap();
    let asked = world.asked();
    world.session.handle_apdu(&yesterday.answer);
    let events = world.events();
    assert!(matches!(events[..], [Event::Dropped(Dropped::Refused(Refusal::Replay(_)))]), "{events:?}");
    let bytes = number(5);
    world.answer(&get_response(invoke_of(&asked), GetResponseBody::Normal(Ok(Data::new(&bytes).unwrap()))));
    let answer = Answer::Value(OwnedData::new(bytes).unwrap());
    assert_eq!(world.events(), [Event::Answered(id, answer)]);
}

/// Why the highest counter is kept for associations without a challenge.
#[test]
fn without_a_challenge_what_is_remembered_is_all_that_keeps_earlier_answers_out() {
    let password = || Authentication::Password(Secret::new(b"12345678".to_vec()));
    let config = Config::ciphered(CLIENT, password(), Protection::new(keys()));
    let (yesterday, mut world, received) = recorded(&config);
    world.session.associate(&FRESH).unwrap();
    world.sent();
    world.session.handle_apdu(&yesterday.aare);
    world.session.get(energy()).unwrap();
    world.sent();
    world.session.handle_apdu(&yesterday.answer);
    assert!(matches!(world.events().last(), Some(Event::Answered(..))), "the answer of yesterday");
    let protection = Protection { received, ..Protection::new(keys()) };
    let config = Config::ciphered(CLIENT, password(), protection);
    world.session = ClientSession::new(config, SendCounter::resume(6000));
    world.session.associate(&FRESH).unwrap();
    world.sent();
    world.session.handle_apdu(&yesterday.aare);
    let events = world.events();
    let [Event::Closed(Some(error @ Error::Unprotected(Refusal::Replay(_))))] = events[..] else {
        panic!("{events:?}")
    };
    assert!(error.hint().contains("new keys"), "{}", error.hint());
}

fn hls_challenge(bytes: [u8; 16]) -> crate::security::hls::Challenge {
    crate::security::hls::Challenge::new(bytes)
}

#[track_caller]
fn not_opened(config: Config, change: impl FnOnce(&mut Aare<'_>), expected: impl FnOnce(Error) -> bool) {
    let mut world = World::new(config);
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    let answer = world.meter.accept(&aarq);
    let Apdu::AssociationResponse(mut changed) = apdu::parse(&answer).unwrap() else { panic!() };
    change(&mut changed);
    world.session.handle_apdu(&aare(&changed));
    let events = world.events();
    let [Event::Closed(Some(error))] = events[..] else { panic!("{events:?}") };
    assert!(expected(error), "{error:?}");
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    assert_eq!(world.session.phase(), Phase::Closed);
}

#[test]
fn an_answer_that_is_not_what_was_asked_for_opens_nothing() {
    let reflected = &RANDOM[..16];
    not_opened(
        ciphered_config(),
        |aare| aare.authentication_value = Some(reflected),
        |error| error == Error::Reflected,
    );
    not_opened(
        ciphered_config(),
        |aare| aare.authentication_value = None,
        |error| error == Error::NoChallenge,
    );
    not_opened(
        ciphered_config(),
        |aare| aare.responding_ap_title = None,
        |error| error == Error::TitleMissing,
    );
    not_opened(
        ciphered_config(),
        |aare| aare.responding_ap_title = Some(&CLIENT),
        |error| error == Error::Title,
    );
    let other = b"PXR\0\0\0\0\x08";
    not_opened(
        ciphered_config(),
        |aare| aare.responding_ap_title = Some(other),
        |error| matches!(error, Error::Unprotected(Refusal::Security(_))),
    );
    let known = Config { meter_title: Some(*other), ..ciphered_config() };
    not_opened(known, |_| {}, |error| error == Error::Title);
    let plain = Meter::new().initiate_response(Conformance::GET).leak();
    not_opened(
        ciphered_config(),
        |aare| aare.user_information = Some(plain),
        |error| matches!(error, Error::Unprotected(Refusal::NotCiphered(0x08))),
    );
    not_opened(
        ciphered_config(),
        |aare| aare.user_information = None,
        |error| matches!(error, Error::Unprotected(_)),
    );
    not_opened(
        plain_config(),
        |aare| aare.result = AssociationResult::RejectedPermanent,
        |error| matches!(error, Error::Rejected { .. }),
    );
    not_opened(
        plain_config(),
        |aare| aare.diagnostic = Some(Diagnostic::User(ServiceUser::AuthenticationRequired)),
        |error| matches!(error, Error::Rejected { .. }),
    );
    let short = hex::decode("0800065f1f040000101402eefa00").unwrap().leak();
    not_opened(plain_config(), |aare| aare.user_information = Some(short), |error| error == Error::Version);
    let narrow = hex::decode("0800065f1f0400001014001e0007").unwrap().leak();
    not_opened(
        plain_config(),
        |aare| aare.user_information = Some(narrow),
        |error| error == Error::NoRoom(30),
    );
    let refused = hex::decode("0e010602").unwrap().leak();
    not_opened(
        plain_config(),
        |aare| {
            aare.result = AssociationResult::RejectedPermanent;
            aare.user_information = Some(refused);
            aare.mechanism = Mechanism::Lowest;
        },
        |error| matches!(error, Error::Service(_)),
    );
}

#[test]
fn a_meter_that_does_not_know_the_secret_is_left() {
    let mut world = World::new(ciphered_config());
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    let aare = world.meter.accept(&aarq);
    world.session.handle_apdu(&aare);
    let pass3 = world.sent();
    let pass4 = world.meter.prove(&pass3, &[9; 16]);
    world.session.handle_apdu(&pass4);
    assert!(matches!(world.events()[..], [Event::Closed(Some(Error::Proof(_)))]));
    assert_eq!(world.session.get(energy()), Err(CommandError::NotAssociated));
}

#[test]
fn a_read_is_asked_again_under_a_new_counter_and_then_given_up() {
    let mut world = World::open(ciphered_config());
    let id = world.session.get(energy()).unwrap();
    let first = world.asked();
    world.session.handle_timeout(world.now);
    assert_eq!(world.events(), [], "too early");
    for _ in 0..2 {
        world.time_out();
        assert_eq!(world.events(), [Event::Repeated]);
        assert_eq!(world.asked(), first);
    }
    world.time_out();
    let error = Error::Timeout { tries: 3, dropped: None };
    assert_eq!(world.events(), [Event::Failed { request: id, error, effect: Effect::None }]);
    assert!(world.meter.seen.windows(2).all(|pair| pair[0] < pair[1]));
    // The answer to it comes when something else was asked.
    let late = get_response(invoke_of(&first), GetResponseBody::Normal(Ok(Data::NULL)));
    world.session.get(energy()).unwrap();
    let second = world.asked();
    world.answer(&late);
    assert_eq!(world.events(), [Event::Dropped(Dropped::Late)]);
    let right = get_response(invoke_of(&second), GetResponseBody::Normal(Ok(Data::NULL)));
    world.answer(&right);
    assert!(matches!(world.events()[..], [Event::Answered(..)]));
}

#[test]
fn a_write_or_action_is_sent_once_and_its_effect_is_then_unknown() {
    let value = number(1);
    let data = Data::new(&value).unwrap();
    for action in [false, true] {
        for end in 0..2 {
            let mut world = World::open(ciphered_config());
            let id = match action {
                true => world.session.action(RELAY, Some(data)).unwrap(),
                false => world.session.set(energy(), data).unwrap(),
            };
            world.asked();
            let error = match end {
                0 => {
                    world.time_out();
                    Error::Timeout { tries: 1, dropped: None }
                }
                _ => {
                    world.session.handle_disconnected();
                    Error::Disconnected
                }
            };
            let failed = Event::Failed { request: id, error, effect: Effect::Unknown };
            assert_eq!(world.events().first(), Some(&failed));
            assert_eq!(world.session.poll_transmit(world.now), None);
        }
    }
    let mut world = World::open(ciphered_config());
    let request = world.session.action(RELAY, None).unwrap();
    world.session.handle_disconnected();
    let error = Error::Disconnected;
    assert_eq!(
        world.events().first(),
        Some(&Event::Failed { request, error, effect: Effect::None }),
        "it never left"
    );
}

#[test]
fn an_action_whose_answer_comes_in_blocks_is_not_without_effect_when_the_line_breaks() {
    let mut world = World::open(ciphered_config());
    let request = world.session.action(RELAY, None).unwrap();
    let asked = world.asked();
    let block = DataBlock { last: false, number: 1, raw: &[0, 1] };
    world.answer(&action_response(invoke_of(&asked), ActionResponseBody::Block(block)));
    world.session.handle_disconnected();
    let error = Error::Disconnected;
    let failed = Event::Failed { request, error, effect: Effect::Unknown };
    assert_eq!(
        world.events().first(),
        Some(&failed),
        "the question for the next block never left, the action did"
    );
}

#[test]
fn refusals_of_the_meter_are_told_in_its_words() {
    let mut world = World::open(ciphered_config());
    let id = world.session.get(energy()).unwrap();
    let asked = world.asked();
    let denied = DataAccessResult::ReadWriteDenied;
    world.answer(&get_response(invoke_of(&asked), GetResponseBody::Normal(Err(denied))));
    let failed = |request, error, effect| Event::Failed { request, error, effect };
    assert_eq!(world.events(), [failed(id, Error::Access(denied), Effect::None)]);
    let id = world.session.action(RELAY, None).unwrap();
    let asked = world.asked();
    let outcome = ActionOutcome { result: ActionResult::TemporaryFailure, data: None };
    world.answer(&action_response(invoke_of(&asked), ActionResponseBody::Normal(outcome)));
    assert_eq!(world.events(), [failed(id, Error::Action(ActionResult::TemporaryFailure), Effect::None)]);
    // Anybody could have sent that one.
    let id = world.session.action(RELAY, None).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::OperationNotPossible));
    let events = world.events();
    assert!(
        matches!(events[..], [Event::Failed { request, error: Error::Exception(_), effect: Effect::Unknown }]
            if request == id),
        "{events:?}"
    );
    let id = world.session.action(RELAY, None).unwrap();
    world.asked();
    let proven = world.meter.seal_under(
        KeyUse::Unicast,
        Envelope::General,
        &exception(ServiceError::OperationNotPossible),
    );
    world.session.handle_apdu(&proven);
    let events = world.events();
    assert!(
        matches!(events[..], [Event::Failed { request, effect: Effect::None, .. }] if request == id),
        "{events:?}"
    );
}

/// A receipt goes out before the question or behind it; the meter does not know what that is.
#[test]
fn an_exception_that_refuses_the_receipt_of_a_push_is_not_the_answer_of_what_is_asked() {
    for config in configs() {
        for before in [true, false] {
            let mut world = World::open(config.clone());
            if before {
                world.session.receipt_sent();
            }
            let id = world.session.action(RELAY, None).unwrap();
            let asked = world.asked();
            if !before {
                world.session.receipt_sent();
            }
            let refusal = exception(ServiceError::ServiceNotSupported);
            world.session.handle_apdu(&refusal);
            let events = world.events();
            assert!(matches!(events[..], [Event::Dropped(Dropped::Receipt(_))]), "{events:?}");
            let outcome = ActionOutcome { result: ActionResult::Success, data: None };
            world.answer(&action_response(invoke_of(&asked), ActionResponseBody::Normal(outcome)));
            assert_eq!(world.events(), [Event::Answered(id, Answer::Invoked(None))]);
            // One receipt, one refusal: the next is what it says.
            let id = world.session.get(energy()).unwrap();
            world.asked();
            world.session.handle_apdu(&refusal);
            let events = world.events();
            assert!(matches!(events[..], [Event::Failed { request, .. }] if request == id), "{events:?}");
        }
    }
}

#[test]
fn a_refusal_of_a_receipt_that_comes_while_nothing_is_asked_spoils_no_question_and_stands_for_no_other() {
    let mut world = World::open(ciphered_config());
    world.session.receipt_sent();
    world.session.handle_apdu(&exception(ServiceError::ServiceNotSupported));
    assert!(matches!(world.events()[..], [Event::Dropped(Dropped::Receipt(_))]));
    // What was asked behind a receipt was answered: nothing more can come of that.
    world.session.receipt_sent();
    world.reads(7);
    let id = world.session.get(energy()).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::OtherReason));
    let events = world.events();
    assert!(matches!(events[..], [Event::Failed { request, .. }] if request == id), "{events:?}");
}

#[test]
fn an_exception_in_doubt_is_the_answer_once_no_other_comes_and_a_read_was_asked_again_by_then() {
    let mut world = World::open(ciphered_config());
    let error = Error::Exception(ExceptionResponse {
        state: StateError::ServiceNotAllowed,
        service: ServiceError::OtherReason,
    });
    world.session.receipt_sent();
    let request = world.session.get(energy()).unwrap();
    let first = world.asked();
    world.session.handle_apdu(&exception(ServiceError::OtherReason));
    world.events();
    world.time_out();
    assert_eq!(world.events(), [Event::Repeated]);
    assert_eq!(world.asked(), first);
    world.session.handle_apdu(&exception(ServiceError::OtherReason));
    assert_eq!(world.events(), [Event::Failed { request, error, effect: Effect::None }]);
    world.session.receipt_sent();
    let request = world.session.action(RELAY, None).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::OtherReason));
    world.events();
    world.time_out();
    assert_eq!(world.events(), [Event::Failed { request, error, effect: Effect::Unknown }]);
    world.reads(3);
}

#[test]
fn an_exception_that_cannot_be_about_a_receipt_is_the_answer_whatever_went_out_besides() {
    let mut world = World::open(ciphered_config());
    world.session.receipt_sent();
    let id = world.session.get(energy()).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::PduTooLong));
    let events = world.events();
    assert!(matches!(events[..], [Event::Failed { request, .. }] if request == id), "{events:?}");
    let id = world.session.action(RELAY, None).unwrap();
    world.asked();
    let refusal = exception(ServiceError::OperationNotPossible);
    let sealed = world.meter.seal_under(KeyUse::Unicast, Envelope::General, &refusal);
    world.session.handle_apdu(&sealed);
    let events = world.events();
    assert!(
        matches!(events[..], [Event::Failed { request, effect: Effect::None, .. }] if request == id),
        "{events:?}"
    );
    world.session.get(energy()).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(5000)));
    assert_eq!(world.events(), [Event::Resynchronised { next: 5000 }]);
}

#[test]
fn an_association_opens_though_the_receipt_of_an_earlier_push_is_refused_meanwhile() {
    let mut world = World::new(ciphered_config());
    world.session.receipt_sent();
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    world.session.handle_apdu(&exception(ServiceError::ServiceNotSupported));
    assert!(matches!(world.events()[..], [Event::Dropped(Dropped::Receipt(_))]));
    world.handshake(&aarq, &RANDOM[..16]);
    assert!(matches!(world.events()[..], [Event::Associated(_)]));
}

#[test]
fn a_counter_error_is_answered_by_one_new_association_and_the_question_again() {
    let mut world = World::open(ciphered_config());
    let id = world.session.get(energy()).unwrap();
    let asked = world.asked();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(5000)));
    assert_eq!(world.events(), [Event::Resynchronised { next: 5000 }]);
    assert_eq!(world.session.poll_reserve(), Some(6000), "what it jumps over is stored too");
    let aarq = world.sent();
    world.handshake(&aarq, &RANDOM[RANDOM_LEN / 2..][..16]);
    assert!(matches!(world.events()[..], [Event::Associated(_)]));
    assert_eq!(world.asked(), asked);
    assert_eq!(world.meter.seen[3..], [5000, 5001, 5002]);
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(9000)));
    let events = world.events();
    assert!(matches!(events[..], [Event::Failed { request, .. }] if request == id), "{events:?}");
    assert_eq!(world.session.counter().next(), 9000);
    assert_eq!(world.session.phase(), Phase::Open);
}

#[test]
fn a_counter_error_to_an_association_is_answered_once() {
    let mut world = World::new(ciphered_config());
    world.session.associate(&RANDOM).unwrap();
    world.sent();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(300)));
    assert_eq!(world.events(), [Event::Resynchronised { next: 300 }]);
    world.sent();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(400)));
    assert!(matches!(world.events()[..], [Event::Closed(Some(Error::Exception(_)))]));
    // A number that says nothing new, and one beyond all sense.
    for least in [50, u32::MAX] {
        let mut world = World::new(ciphered_config());
        world.session.associate(&RANDOM).unwrap();
        world.sent();
        world.session.handle_apdu(&exception(ServiceError::InvocationCounter(least)));
        assert!(matches!(world.events()[..], [Event::Closed(Some(_))]), "{least}");
        assert!(world.session.counter().next() < 200);
    }
}

/// As a meter does that has heard nothing and takes counters from 1 on.
#[test]
fn a_meter_that_wants_just_the_next_counter_gets_it() {
    let mut world = World::new(ciphered_config());
    world.session.associate(&RANDOM).unwrap();
    world.sent();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(101)));
    assert_eq!(world.events(), [Event::Resynchronised { next: 101 }]);
    let aarq = world.sent();
    world.handshake(&aarq, &RANDOM[RANDOM_LEN / 2..][..16]);
    assert!(matches!(world.events()[..], [Event::Associated(_)]));
    assert_eq!(world.meter.seen[0], 101);
}

#[test]
fn a_counter_error_never_repeats_an_action() {
    let mut world = World::open(ciphered_config());
    world.session.action(RELAY, None).unwrap();
    world.asked();
    world.session.handle_apdu(&exception(ServiceError::InvocationCounter(5000)));
    let events = world.events();
    assert!(matches!(events[..], [Event::Failed { effect: Effect::Unknown, .. }]), "{events:?}");
    world.reads(3);
    assert_eq!(world.meter.seen.last(), Some(&5000));
}

#[test]
fn an_answer_that_is_replayed_changed_or_in_the_clear_is_dropped() {
    let mut world = World::open(ciphered_config());
    world.session.get(energy()).unwrap();
    let asked = world.asked();
    let one = number(1);
    let right = get_response(invoke_of(&asked), GetResponseBody::Normal(Ok(Data::new(&one).unwrap())));
    world.session.handle_apdu(&right);
    assert_eq!(world.events(), [Event::Dropped(Dropped::Refused(Refusal::NotCiphered(0xc4)))]);
    let sealed = world.meter.seal(&right);
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 0x80 >> (bit % 8);
        let mut copy = World::open(ciphered_config());
        copy.session.get(energy()).unwrap();
        copy.asked();
        copy.session.handle_apdu(&changed);
        let events = copy.events();
        assert!(matches!(events[..], [Event::Dropped(_) | Event::Pushed(_)]), "bit {bit}: {events:?}");
        assert_eq!(copy.session.phase(), Phase::Asking);
    }
    world.session.handle_apdu(&sealed);
    assert!(matches!(world.events()[..], [Event::Answered(..)]));
    world.session.get(energy()).unwrap();
    world.asked();
    world.session.handle_apdu(&sealed);
    assert!(matches!(world.events()[..], [Event::Dropped(Dropped::Refused(Refusal::Replay(_)))]));
}

#[test]
fn rubbish_ends_a_wait_only_when_there_is_too_much_of_it() {
    let mut world = World::open(ciphered_config());
    let id = world.session.get(energy()).unwrap();
    world.asked();
    for _ in 1..MAX_DROPPED {
        world.session.handle_apdu(&[0xcc, 1, 2]);
    }
    assert_eq!(world.session.phase(), Phase::Asking);
    world.session.handle_apdu(&[]);
    let events = world.events();
    let last = events.last().unwrap();
    assert!(
        matches!(last, Event::Failed { request, error: Error::Flooded(_), .. } if *request == id),
        "{last:?}"
    );
}

#[test]
fn a_push_is_handed_out_in_every_state_and_moves_no_counter_of_answers() {
    let mut body = vec![];
    Writer::new(&mut body).u8(1);
    let mut push = vec![];
    DataNotificationRepr { invoke_id: LongInvokeId(7), date_time: None }.emit(&body, &mut push);
    for config in configs() {
        let secured = config.protection.is_some();
        let dedicated = config.protection.as_ref().is_some_and(|protection| protection.dedicated);
        let mut world = World::new(config);
        let received = |apdu: &[u8]| Event::Pushed(Push::Received(apdu.to_vec()));
        world.session.handle_apdu(&push);
        assert_eq!(world.events(), [received(&push)]);
        world.session.associate(&RANDOM).unwrap();
        let aarq = world.sent();
        world.session.handle_apdu(&push);
        assert_eq!(world.events(), [received(&push)]);
        world.handshake(&aarq, &RANDOM[..16]);
        world.events();
        world.session.get(energy()).unwrap();
        let asked = world.asked();
        // Far above the counter of the answers: pushes have one of their own.
        let own = core::mem::replace(&mut world.meter.counter, {
            let mut counter = SendCounter::of_session();
            counter.raise_to(1_000_000).unwrap();
            counter
        });
        let sealed = world.meter.seal_under(KeyUse::Unicast, Envelope::General, &push);
        world.session.handle_apdu(&sealed);
        assert_eq!(world.events(), [received(&sealed)]);
        if secured && dedicated {
            let under = world.meter.seal_under(KeyUse::Dedicated, Envelope::General, &push);
            world.session.handle_apdu(&under);
            assert_eq!(opened(&mut world), push);
            // Another copy of it is none.
            world.session.handle_apdu(&under);
            let events = world.events();
            assert!(
                matches!(events[..], [Event::Dropped(Dropped::Refused(Refusal::Replay(_)))]),
                "{events:?}"
            );
        }
        world.meter.counter = own;
        let body = GetResponseBody::Normal(Ok(Data::NULL));
        world.answer(&get_response(invoke_of(&asked), body));
        assert!(matches!(world.events()[..], [Event::Answered(..)]));
    }
}

/// The push that was told last, opened.
#[track_caller]
fn opened(world: &mut World) -> Vec<u8> {
    match &world.events()[..] {
        [Event::Pushed(Push::Opened(push))] => push.get().clone(),
        other => panic!("{other:?}"),
    }
}

/// The second half of [`configs`]: the last one has a dedicated key.
fn dedicated_config() -> Config {
    configs().pop().unwrap()
}

#[test]
fn pushes_under_the_dedicated_key_may_overtake_each_other_and_the_answers() {
    let mut world = World::open(dedicated_config());
    world.session.get(energy()).unwrap();
    let asked = world.asked();
    let answer = get_response(invoke_of(&asked), GetResponseBody::Normal(Ok(Data::NULL)));
    // Sealed before the pushes and sent behind them.
    let answer = world.meter.seal_under(KeyUse::Dedicated, Envelope::General, &answer);
    let event = |code: u8| {
        let value = [0x11, code];
        let attribute = energy().attribute;
        let mut out = vec![];
        apdu::EventNotification { time: None, attribute, value: Data::new(&value).unwrap() }.emit(&mut out);
        out
    };
    let sealed: Vec<_> = (0..100)
        .map(|code| {
            let envelope = if code % 2 == 0 { Envelope::General } else { Envelope::Service };
            world.meter.seal_under(KeyUse::Dedicated, envelope, &event(code))
        })
        .collect();
    assert_eq!((sealed[0][0], sealed[1][0]), (0xdc, 0xd2));
    for code in [5, 4, 99, 98] {
        world.session.handle_apdu(&sealed[code]);
        assert_eq!(opened(&mut world), event(code as u8), "{code}");
    }
    // Seen, and so far below that nobody knows.
    for code in [99, 98, 3] {
        world.session.handle_apdu(&sealed[code]);
        let events = world.events();
        assert!(matches!(events[..], [Event::Dropped(Dropped::Refused(Refusal::Replay(_)))]), "{events:?}");
    }
    let mut flipped = sealed[97].clone();
    *flipped.last_mut().unwrap() ^= 1;
    world.session.handle_apdu(&flipped);
    assert!(matches!(world.events()[..], [Event::Dropped(Dropped::Refused(Refusal::Security(_)))]));
    world.session.handle_apdu(&sealed[97]);
    assert_eq!(opened(&mut world), event(97));
    world.session.handle_apdu(&answer);
    assert!(matches!(world.events()[..], [Event::Answered(..)]));
}

#[test]
fn what_is_under_a_dedicated_key_that_there_is_not_is_given_out_as_it_came() {
    for config in configs() {
        if config.protection.as_ref().is_some_and(|protection| protection.dedicated) {
            continue;
        }
        let mut world = World::open(config);
        world.meter.keys.set_dedicated(Some(Key::new([0xdd; 16])));
        for envelope in [Envelope::General, Envelope::Service] {
            let event = hex::decode("c20000030100010800ff021105").unwrap();
            let under = world.meter.seal_under(KeyUse::Dedicated, envelope, &event);
            world.session.handle_apdu(&under);
            assert_eq!(world.events(), [Event::Pushed(Push::Received(under))]);
        }
    }
}

#[test]
fn blocks_are_joined_in_order_and_a_gap_is_an_error() {
    let value = {
        let mut bytes = vec![];
        Writer::new(&mut bytes).octet_string(&[7; 300]);
        bytes
    };
    let pieces: Vec<&[u8]> = value.chunks(100).collect();
    let block = |asked: &[u8], number: usize| {
        let raw = Ok(pieces[number - 1]);
        let last = number == pieces.len();
        let block = GetBlock { last, number: u32::try_from(number).unwrap(), raw };
        get_response(invoke_of(asked), GetResponseBody::Block(block))
    };
    let mut world = World::open(ciphered_config());
    let id = world.session.get(energy()).unwrap();
    let mut asked = world.asked();
    for number in 1..=pieces.len() {
        world.answer(&block(&asked, number));
        if number < pieces.len() {
            // The same block again: two answers to one question that was repeated.
            assert!(world.session.poll_event().is_none());
            let next = world.asked();
            let Ok(Apdu::GetRequest(GetRequest { body: GetRequestBody::Next(acknowledged), .. })) =
                apdu::parse(&next)
            else {
                panic!("{next:02x?}")
            };
            assert_eq!(acknowledged as usize, number);
            world.answer(&block(&asked, number));
            assert_eq!(world.events(), [Event::Dropped(Dropped::Late)]);
            asked = next;
        }
    }
    let whole = Answer::Value(OwnedData::new(value.clone()).unwrap());
    assert_eq!(world.events(), [Event::Answered(id, whole)]);
    let request = world.session.get(energy()).unwrap();
    let asked = world.asked();
    world.answer(&block(&asked, 1));
    world.asked();
    world.answer(&block(&asked, 3));
    let error = Error::Block { expected: 2, found: 3 };
    assert_eq!(world.events(), [Event::Failed { request, error, effect: Effect::None }]);
    world.reads(5);
}

#[test]
fn a_refused_block_ends_the_read_unless_it_answers_an_earlier_question() {
    let mut world = World::open(ciphered_config());
    let request = world.session.get(energy()).unwrap();
    let asked = world.asked();
    let refusal = DataAccessResult::DataBlockNumberInvalid;
    let block = |number, raw| {
        let block = GetBlock { last: raw == Err(refusal), number, raw };
        get_response(invoke_of(&asked), GetResponseBody::Block(block))
    };
    for number in 1..=2 {
        world.answer(&block(number, Ok(&[7])));
        world.asked();
    }
    world.answer(&block(1, Err(refusal)));
    assert_eq!(world.events(), [Event::Dropped(Dropped::Late)], "the first block was asked for twice");
    world.answer(&block(2, Err(refusal)));
    let error = Error::Access(refusal);
    assert_eq!(world.events(), [Event::Failed { request, error, effect: Effect::None }]);
}

#[test]
fn an_answer_in_blocks_is_bounded() {
    let mut world = World::open(plain_config());
    world.session.get(energy()).unwrap();
    let asked = world.asked();
    let raw = vec![0x55; 60_000];
    for number in 1.. {
        let body = GetResponseBody::Block(GetBlock { last: false, number, raw: Ok(&raw) });
        world.answer(&get_response(invoke_of(&asked), body));
        if let Some(event) = world.session.poll_event() {
            assert!(matches!(event, Event::Failed { error: Error::TooLong, .. }), "{event:?}");
            assert!(number as usize * raw.len() > request::MAX_ANSWER);
            break;
        }
        world.asked();
    }
}

/// A value that takes blocks both ways: what the meter puts together is what was given in.
fn upload(world: &mut World, value: &[u8]) -> usize {
    let (mut joined, mut count) = (vec![], 0);
    let data = Data::new(value).unwrap();
    let action = matches!(data.value(), Value::Structure(_));
    match action {
        true => world.session.action(RELAY, Some(data)).unwrap(),
        false => world.session.set(energy(), data).unwrap(),
    };
    loop {
        let sealed = world.sent();
        assert!(sealed.len() <= usize::from(world.meter.max_pdu), "{} bytes", sealed.len());
        let asked = match world.session.core.channel.is_secured() {
            true => world.meter.open(&sealed),
            false => sealed,
        };
        let block: Option<DataBlock<'_>> = match apdu::parse(&asked).unwrap() {
            Apdu::SetRequest(SetRequest { body, .. }) => match body {
                SetRequestBody::FirstBlock(_, block) | SetRequestBody::Block(block) => Some(block),
                SetRequestBody::Normal(_, data) => {
                    joined.extend_from_slice(data.bytes());
                    None
                }
                other => panic!("{other:?}"),
            },
            Apdu::ActionRequest(ActionRequest { body, .. }) => match body {
                ActionRequestBody::FirstBlock(_, block) | ActionRequestBody::Block(block) => Some(block),
                ActionRequestBody::Normal(_, data) => {
                    joined.extend_from_slice(data.unwrap().bytes());
                    None
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        count += 1;
        let last = match block {
            Some(block) => {
                assert_eq!(block.number, count);
                joined.extend_from_slice(block.raw);
                block.last
            }
            None => true,
        };
        let outcome = ActionOutcome { result: ActionResult::Success, data: None };
        let success = DataAccessResult::Success;
        let answer = match (action, last, block.is_some()) {
            (true, true, _) => action_response(invoke_of(&asked), ActionResponseBody::Normal(outcome)),
            (true, false, _) => action_response(invoke_of(&asked), ActionResponseBody::NextBlock(count)),
            (false, true, true) => {
                set_response(invoke_of(&asked), SetResponseBody::LastBlock(success, count))
            }
            (false, true, false) => set_response(invoke_of(&asked), SetResponseBody::Normal(success)),
            (false, false, _) => set_response(invoke_of(&asked), SetResponseBody::Block(count)),
        };
        world.answer(&answer);
        if last {
            break;
        }
    }
    assert_eq!(joined, value);
    let events = world.events();
    assert!(
        matches!(events[..], [Event::Answered(_, Answer::Written | Answer::Invoked(None))]),
        "{events:?}"
    );
    count as usize
}

#[test]
fn long_values_go_out_in_blocks_that_the_meter_can_take() {
    for config in [plain_config(), ciphered_config()] {
        let mut world = World::new(config);
        world.meter.max_pdu = 128;
        world.associate();
        world.events();
        let mut value = vec![];
        Writer::new(&mut value).octet_string(&[3; 500]);
        assert!(upload(&mut world, &value) > 4);
        let mut value = vec![];
        Writer::new(&mut value).structure(2).u32(4).octet_string(&[5; 300]);
        assert!(upload(&mut world, &value) > 2);
        assert_eq!(upload(&mut world, &number(3)), 1);
    }
}

#[test]
fn a_long_value_that_is_lost_on_the_way_did_nothing() {
    let mut world = World::new(ciphered_config());
    world.meter.max_pdu = 128;
    world.associate();
    world.events();
    let mut value = vec![];
    Writer::new(&mut value).octet_string(&[3; 500]);
    let request = world.session.set(energy(), Data::new(&value).unwrap()).unwrap();
    world.asked();
    world.time_out();
    let error = Error::Timeout { tries: 1, dropped: None };
    assert_eq!(world.events(), [Event::Failed { request, error, effect: Effect::None }]);
}

#[test]
fn what_was_not_agreed_to_is_not_asked_for() {
    let mut world = World::new(plain_config());
    world.session.associate(&RANDOM).unwrap();
    let aarq = world.sent();
    let answer = world.meter.accept(&aarq);
    let Apdu::AssociationResponse(mut changed) = apdu::parse(&answer).unwrap() else { panic!() };
    let response = world.meter.initiate_response(Conformance::GET.union(Conformance::SET));
    changed.user_information = Some(&response);
    world.session.handle_apdu(&aare(&changed));
    let refused = |needed| Err(CommandError::NotNegotiated(needed));
    let lists = Conformance::MULTIPLE_REFERENCES;
    let session = &mut world.session;
    assert_eq!(session.action(RELAY, None), refused(Conformance::ACTION));
    assert_eq!(session.get_with_list(&[energy()]), refused(Conformance::GET.union(lists)));
    let mut buffer = vec![];
    let access = SelectiveAccess::encode(&Selection::Entry(EntryDescriptor::rows(1, 2)), &mut buffer);
    let part = SelectedAttribute { access: Some(access), ..energy() };
    assert_eq!(session.get(part), refused(Conformance::SELECTIVE_ACCESS));
    let mut long = vec![];
    Writer::new(&mut long).octet_string(&[1; 1000]);
    let blocks = refused(Conformance::BLOCK_TRANSFER_WITH_SET);
    assert_eq!(session.set(energy(), Data::new(&long).unwrap()), blocks);
    assert!(session.get(energy()).is_ok());
}

#[test]
fn lists_come_back_in_order() {
    let mut world = World::open(ciphered_config());
    world.session.get_with_list(&[energy(), energy()]).unwrap();
    let asked = world.asked();
    let one = number(1);
    let results = [Ok(Data::new(&one).unwrap()), Err(DataAccessResult::ObjectUndefined)];
    world.answer(&get_response(invoke_of(&asked), GetResponseBody::WithList(List::new(&results))));
    let values = vec![Ok(OwnedData::new(one.clone()).unwrap()), Err(DataAccessResult::ObjectUndefined)];
    assert!(matches!(&world.events()[..], [Event::Answered(_, Answer::Values(found))] if *found == values));
    let data = Data::new(&one).unwrap();
    world.session.set_with_list(&[energy(), energy()], &[data, data]).unwrap();
    let asked = world.asked();
    let results = [DataAccessResult::Success, DataAccessResult::TypeUnmatched];
    world.answer(&set_response(invoke_of(&asked), SetResponseBody::WithList(List::new(&results))));
    assert!(
        matches!(&world.events()[..], [Event::Answered(_, Answer::WrittenList(found))] if *found == results)
    );
    world.session.action_with_list(&[RELAY, RELAY], &[Data::NULL, data]).unwrap();
    let asked = world.asked();
    let outcome = ActionOutcome { result: ActionResult::Success, data: None };
    let outcomes = [outcome, outcome];
    world.answer(&action_response(invoke_of(&asked), ActionResponseBody::WithList(List::new(&outcomes))));
    assert!(
        matches!(&world.events()[..], [Event::Answered(_, Answer::InvokedList(found))] if found.len() == 2)
    );
    assert_eq!(world.session.set_with_list(&[energy()], &[]), Err(CommandError::List(0)));
    assert_eq!(world.session.get_with_list(&[]), Err(CommandError::List(0)));
    // One result too few is no answer.
    world.session.get_with_list(&[energy(), energy()]).unwrap();
    let asked = world.asked();
    let results = [Ok(Data::NULL)];
    world.answer(&get_response(invoke_of(&asked), GetResponseBody::WithList(List::new(&results))));
    assert!(matches!(world.events()[..], [Event::Failed { error: Error::Kind, .. }]));
}

#[test]
fn nothing_secret_is_printed() {
    let world = World::open(ciphered_config());
    let dedicated = World::open(dedicated_config());
    let mut india = crate::session::india::IndianSession::new(
        crate::cosem::india::association::UTILITY,
        ciphered_config(),
        SendCounter::resume(0),
    );
    india.associate(&RANDOM).unwrap();
    let asking = format!("{india:?}");
    assert!(!asking.contains("17, 17") && !asking.contains("11, 11"), "{asking}");
    assert!(!format!("{:?}", dedicated.session).contains("17, 17"));
    let text = format!("{:?} {:?}", world.session, world.session.config());
    assert!(!text.contains("48, 49, 50") && text.contains("Secret(..)"), "{text}");
}

proptest! {
    #[test]
    fn no_bytes_bring_a_session_out_of_step(
        received in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
        which in 0..6_usize,
        asks in prop::collection::vec(0..4_u8, 0..20),
    ) {
        let mut world = World::open(configs().swap_remove(which));
        let value = number(1);
        for (step, bytes) in received.iter().enumerate() {
            let data = Data::new(&value).unwrap();
            let _ = match asks.get(step) {
                Some(0) => world.session.get(energy()),
                Some(1) => world.session.set(energy(), data),
                Some(2) => world.session.action(RELAY, Some(data)),
                _ => world.session.get_with_list(&[energy(), energy()]),
            };
            world.reserve();
            let _ = world.session.poll_transmit(world.now);
            world.session.handle_apdu(bytes);
            for event in world.events() {
                let answered = matches!(event, Event::Answered(..));
                prop_assert!(which < 2 || !answered, "nothing of that was proven: {event:?}");
            }
        }
    }

    #[test]
    fn values_of_any_length_arrive_whole(length in 0..3000_usize, max_pdu in 96..700_u16, structure: bool) {
        let mut world = World::new(ciphered_config());
        world.meter.max_pdu = max_pdu;
        world.associate();
        world.events();
        let mut value = vec![];
        let mut writer = Writer::new(&mut value);
        if structure {
            writer.structure(1);
        }
        writer.octet_string(&vec![9; length]);
        upload(&mut world, &value);
    }
}
