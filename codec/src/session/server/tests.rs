use std::collections::BTreeMap;
use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::apdu::acse::{Aarq, Diagnostic, Rlrq, ServiceUser};
use crate::apdu::block_transfer::{BlockControl, BlockTransferRepr};
use crate::apdu::initiate::{DLMS_VERSION, DedicatedKey, InitiateRequest};
use crate::apdu::{
    ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse, ActionResponseBody, Apdu, DataBlock,
    GetRequest, GetRequestBody, GetResponse, GetResponseBody, InitiateError, InvokeId, List, Pairs,
    SelectedAttribute, SetRequest, SetRequestBody, SetResponse, SetResponseBody,
};
use crate::axdr::{self, Value, Writer};
use crate::cosem::association::{CLASS, CURRENT};
use crate::cosem::profile_generic::{EntryDescriptor, Selection};
use crate::cosem::{ClassId, LogicalName};
use crate::security::association::Protect;
use crate::security::counter::RisingCounter;
use crate::security::hls::{self, Secret};
use crate::security::keys::{Key, KeyId, KeyTransfer, emit_key_transfer};
use crate::security::{Keys, RustCrypto};
use crate::session::client::{
    Answer, Authentication, ClientSession, Config, Effect, Error, Event, OwnedData, Protection, RANDOM_LEN,
    RequestId, Timing,
};

const PUBLIC: u16 = 16;
const READER: u16 = 32;
const UTILITY: u16 = 48;
const GMAC: u16 = 49;
const METER: [u8; 8] = *b"URJ\0\0\0\0\x01";
const HEAD_END: [u8; 8] = *b"HES\0\0\0\0\x09";
const GUEK: [u8; 16] = [1; 16];
const GAK: [u8; 16] = [2; 16];
const MASTER: [u8; 16] = [3; 16];
const SECRET: &[u8] = b"0123456789ABCDEF";
const ID: InvokeId = InvokeId::new(1, true, true);
const ALL: Conformance = Conformance::from_bytes([0xff; 3]);
const SHORT: LogicalName = LogicalName([0, 0, 96, 1, 0, 255]);
const LONG: LogicalName = LogicalName([1, 0, 99, 1, 0, 255]);

/// A few attributes, a place to write to, and a method that gives its parameter back.
struct Toy {
    security: ServerSecurity,
    values: BTreeMap<LogicalName, Vec<u8>>,
    asked: usize,
}

impl Toy {
    fn new() -> Self {
        let offer = |client, mechanism, secret: &[u8]| Offer {
            client,
            plain: client < UTILITY,
            ciphered: client > PUBLIC,
            mechanism,
            secret: Secret::new(secret.to_vec()),
            conformance: ALL,
        };
        let offers = vec![
            offer(PUBLIC, Mechanism::Lowest, b""),
            offer(READER, Mechanism::LowLevel, b"password"),
            offer(UTILITY, Mechanism::Manufacturer, SECRET),
            offer(GMAC, Mechanism::Gmac, b""),
        ];
        let keys = [GUEK, GAK, MASTER].map(Key::new);
        let [guek, gak, master] = keys;
        let mut long = vec![];
        Writer::new(&mut long).octet_string(&(0..3000).map(|at| at as u8).collect::<Vec<_>>());
        let values = BTreeMap::from([(SHORT, vec![0x11, 7]), (LONG, long)]);
        Self { security: ServerSecurity::new(METER, guek, gak, master, 100, offers), values, asked: 0 }
    }
}

impl Objects for Toy {
    fn security(&mut self) -> &mut ServerSecurity {
        &mut self.security
    }

    fn get(
        &mut self,
        _caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        self.asked += 1;
        if let Some(Ok(Selection::Entry(entries))) = selection.map(SelectiveAccess::of_buffer) {
            Writer::new(out).u32(entries.from_entry);
            return Ok(());
        }
        let value = self.values.get(&attribute.instance).ok_or(DataAccessResult::ObjectUndefined)?;
        out.extend_from_slice(value);
        Ok(())
    }

    fn set(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        self.asked += 1;
        if caller.client == PUBLIC {
            return Err(DataAccessResult::ReadWriteDenied);
        }
        self.values.insert(attribute.instance, value.bytes().to_vec());
        Ok(())
    }

    fn act(
        &mut self,
        _caller: &Caller,
        method: &MethodDescriptor,
        parameters: Option<Data<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), ActionResult> {
        self.asked += 1;
        match (method.class, parameters) {
            (ClassId(64), Some(value)) => {
                let transfer = KeyTransfer::parse(value.value()).ok_or(ActionResult::TypeUnmatched)?;
                self.security.stage(&transfer).map_err(|_| ActionResult::OtherReason)
            }
            (ClassId(1), Some(value)) => {
                out.extend_from_slice(value.bytes());
                Ok(())
            }
            _ => Err(ActionResult::ObjectUndefined),
        }
    }
}

/// A client that knows just enough, the meter, and the session between them.
struct Pair {
    session: ServerSession<RustCrypto>,
    meter: Toy,
    client: u16,
    keys: AssociationKeys,
    incoming: Incoming,
    counter: u32,
    style: Style,
    ciphered: bool,
    now: Duration,
    outcome: Outcome,
}

const GLO: Style = Style { key: KeyUse::Unicast, envelope: Envelope::Service };
const GENERAL: Style = Style { key: KeyUse::Unicast, envelope: Envelope::General };
const DED: Style = Style { key: KeyUse::Dedicated, envelope: Envelope::Service };

fn keys() -> AssociationKeys {
    AssociationKeys::new(Keys::new(GUEK, GAK))
}

fn incoming() -> Incoming {
    Incoming::new(METER, Protect::AuthenticatedEncrypted, RisingCounter::new())
}

impl Pair {
    fn new(client: u16) -> Self {
        Self {
            session: ServerSession::new(RustCrypto, 750, Duration::from_secs(180)),
            meter: Toy::new(),
            client,
            keys: keys(),
            incoming: incoming(),
            counter: 1,
            style: GLO,
            ciphered: client >= UTILITY,
            now: Duration::ZERO,
            outcome: Outcome::Served,
        }
    }

    /// The bytes that answer these bytes.
    fn raw(&mut self, apdu: &[u8]) -> Vec<u8> {
        let mut out = vec![0xa5; 3];
        self.outcome =
            self.session.handle(self.client, apdu, self.now, [0x5c; 16], &mut self.meter, &mut out);
        out
    }

    fn sealed(&mut self, style: Style, apdu: &[u8]) -> Vec<u8> {
        let mut counters = SendCounter::resume(self.counter);
        counters.reserved(u32::MAX);
        self.counter += 1;
        let outgoing = Outgoing { title: HEAD_END, protect: Protect::AuthenticatedEncrypted };
        let invocation = counters.take().unwrap();
        let mut out = vec![];
        let Style { key, envelope } = style;
        outgoing.seal(&RustCrypto, &self.keys, key, envelope, invocation, apdu, &mut out).unwrap();
        out
    }

    /// What an answer says, opened.
    #[track_caller]
    fn opened(&mut self, answer: &[u8]) -> Vec<u8> {
        let mut scratch = Scratch::new();
        let received = self.incoming.receive(&RustCrypto, &self.keys, answer, &mut scratch).unwrap();
        received.apdu.into_inner().to_vec()
    }

    /// The answer to a request, both in the clear.
    #[track_caller]
    fn ask(&mut self, apdu: &[u8]) -> Vec<u8> {
        if !self.ciphered {
            return self.raw(apdu);
        }
        let sealed = self.sealed(self.style, apdu);
        let answer = self.raw(&sealed);
        self.opened(&answer)
    }

    fn aarq(&mut self, initiate: &InitiateRequest<'_>, value: Option<&[u8]>) -> Vec<u8> {
        let mechanism = self.meter.security.offer(self.client).unwrap().mechanism;
        let mut information = initiate.encode().to_vec();
        if self.ciphered {
            information = self.sealed(GLO, &information);
        }
        let context = match self.ciphered {
            true => ApplicationContext::LogicalNameCiphered,
            false => ApplicationContext::LogicalName,
        };
        let mut out = vec![];
        Aarq {
            context,
            calling_ap_title: self.ciphered.then_some(&HEAD_END[..]),
            mechanism,
            authentication_value: value,
            user_information: Some(&information),
        }
        .emit(&mut out);
        out
    }

    /// Opens an association, all passes.
    #[track_caller]
    fn associate(&mut self) {
        self.associate_with(SECRET);
        assert!(matches!(self.outcome, Outcome::Authenticated | Outcome::Opened { pending: false }));
    }

    #[track_caller]
    fn associate_with(&mut self, secret: &[u8]) {
        let theirs = [0x77; 16];
        let value = match self.client {
            PUBLIC => None,
            READER => Some(&b"password"[..]),
            _ => Some(&theirs[..]),
        };
        let aarq = self.aarq(&INITIATE, value);
        self.keys.set_dedicated(Some(Key::new([9; 16])));
        self.incoming.rekeyed(KeyUse::Dedicated, RisingCounter::new());
        let answer = self.raw(&aarq);
        let Ok(Apdu::AssociationResponse(aare)) = apdu::parse(&answer) else {
            panic!("{answer:02x?}");
        };
        assert_eq!(aare.result.code(), 0, "{aare:?}");
        let information = aare.user_information.unwrap();
        let initiate = match self.ciphered {
            true => self.opened(information),
            false => information.to_vec(),
        };
        assert!(matches!(apdu::parse(&initiate), Ok(Apdu::InitiateResponse(_))));
        if self.client < UTILITY {
            return;
        }
        assert!(aare.authentication_required());
        let challenge = aare.authentication_value.unwrap();
        let secret = Secret::new(secret.to_vec());
        let proof = match self.client {
            UTILITY => hls::answer_aes(&secret, challenge).unwrap(),
            _ => self.gmac(&secret, challenge),
        };
        let mut data = vec![];
        Writer::new(&mut data).octet_string(&proof);
        let method = MethodDescriptor { class: CLASS, instance: CURRENT, method: 1 };
        let body = ActionRequestBody::Normal(method, Some(Data::new(&data).unwrap()));
        let answer = self.ask(&action(ID, body));
        let Ok(Apdu::ActionResponse(ActionResponse { body: ActionResponseBody::Normal(outcome), .. })) =
            apdu::parse(&answer)
        else {
            panic!("{answer:02x?}");
        };
        if self.outcome == Outcome::NotAuthenticated {
            assert_eq!(outcome, ActionOutcome { result: ActionResult::ReadWriteDenied, data: None });
            return;
        }
        let Some(Ok(data)) = outcome.data else { panic!("{outcome:?}") };
        let Value::OctetString(proof) = data.value() else { panic!("{data:?}") };
        let theirs = Challenge::new(theirs);
        match self.client {
            UTILITY => theirs.verify_aes(&secret, proof).unwrap(),
            _ => theirs.verify_gmac(&RustCrypto, self.keys.global(), &METER, proof).map(drop).unwrap(),
        }
    }

    fn gmac(&mut self, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        let mut counters = SendCounter::resume(self.counter);
        counters.reserved(u32::MAX);
        self.counter += 1;
        let gak = secret.expose().try_into().unwrap();
        let keys = if secret.expose() == SECRET { Keys::new(GUEK, GAK) } else { Keys::new(GUEK, gak) };
        let invocation = counters.take().unwrap();
        hls::answer_gmac(&RustCrypto, &keys, &HEAD_END, invocation, challenge).unwrap().to_vec()
    }

    #[track_caller]
    fn read(&mut self, name: LogicalName) -> Vec<u8> {
        let answer = self.ask(&get(ID, GetRequestBody::Normal(whole(name))));
        self.whole_of(answer)
    }

    /// The value of an answer, all blocks of it fetched.
    #[track_caller]
    fn whole_of(&mut self, mut answer: Vec<u8>) -> Vec<u8> {
        let mut data = vec![];
        loop {
            assert!(answer.len() <= 750);
            let Ok(Apdu::GetResponse(GetResponse { body, .. })) = apdu::parse(&answer) else {
                panic!("{answer:02x?}");
            };
            match body {
                GetResponseBody::Normal(result) => return result.unwrap().bytes().to_vec(),
                GetResponseBody::WithList(_) => return answer[3..].to_vec(),
                GetResponseBody::Block(block) => {
                    data.extend_from_slice(block.raw.unwrap());
                    if block.last {
                        return data;
                    }
                    answer = self.ask(&get(ID, GetRequestBody::Next(block.number)));
                }
            }
        }
    }

    #[track_caller]
    fn set_result(&mut self, body: SetRequestBody<'_>) -> (u8, u8) {
        let mut request = vec![];
        SetRequest { invoke_id: ID, body }.emit(&mut request);
        let answer = self.ask(&request);
        match apdu::parse(&answer) {
            Ok(Apdu::SetResponse(SetResponse { body: SetResponseBody::Normal(result), .. })) => {
                (1, result.code())
            }
            Ok(Apdu::SetResponse(SetResponse { body: SetResponseBody::Block(number), .. })) => {
                (2, number as u8)
            }
            Ok(Apdu::SetResponse(SetResponse { body: SetResponseBody::LastBlock(result, _), .. })) => {
                (3, result.code())
            }
            other => panic!("{other:?}"),
        }
    }
}

const INITIATE: InitiateRequest<'_> = InitiateRequest {
    dedicated_key: Some(DedicatedKey(&[9; 16])),
    response_allowed: true,
    quality_of_service: None,
    dlms_version: DLMS_VERSION,
    conformance: ALL,
    max_pdu: 600,
};

fn whole(instance: LogicalName) -> SelectedAttribute<'static> {
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(1), instance, attribute: 2 })
}

fn echo() -> MethodDescriptor {
    MethodDescriptor { class: ClassId(1), instance: SHORT, method: 1 }
}

fn get(invoke_id: InvokeId, body: GetRequestBody<'_>) -> Vec<u8> {
    let mut out = vec![];
    GetRequest { invoke_id, body }.emit(&mut out);
    out
}

fn action(invoke_id: InvokeId, body: ActionRequestBody<'_>) -> Vec<u8> {
    let mut out = vec![];
    ActionRequest { invoke_id, body }.emit(&mut out);
    out
}

#[test]
fn nothing_of_a_long_value_or_of_a_key_is_printed_of_a_meters_session() {
    let mut out = vec![];
    Writer::new(&mut out).octet_string(b"hunter2hunter2");
    let going = super::transfer::Transfer::Get(super::transfer::Outgoing::new(out));
    assert_eq!(format!("{going:?}"), "Get(..)");
    let mut exchange = Exchange::new(4, 1000);
    assert!(exchange.say(b"hunter2hunter2hunter2".to_vec(), 64, 1));
    assert_eq!(format!("{exchange:?}"), "Exchange { takes: 4, .. }");
}

#[test]
fn a_public_client_reads_without_a_key() {
    let mut pair = Pair::new(PUBLIC);
    pair.associate();
    assert_eq!(pair.read(SHORT), [0x11, 7]);
    let value = Data::new(&[0x11, 8]).unwrap();
    let denied = pair.set_result(SetRequestBody::Normal(whole(SHORT), value));
    assert_eq!(denied, (1, DataAccessResult::ReadWriteDenied.code()));
}

#[test]
fn nothing_is_asked_without_an_association() {
    for client in [PUBLIC, READER, UTILITY, 1, 0xffff] {
        let mut pair = Pair::new(client);
        assert_eq!(pair.raw(&get(ID, GetRequestBody::Normal(whole(SHORT)))), [0xd8, 1, 1]);
        assert_eq!(pair.raw(&[0x62, 0]), [0xd8, 1, 1]);
        assert_eq!(pair.raw(&[]), [0xd8, 1, 1]);
        assert_eq!(pair.meter.asked, 0);
    }
}

#[test]
fn both_high_level_mechanisms_open_an_association() {
    for client in [UTILITY, GMAC] {
        let mut pair = Pair::new(client);
        pair.associate();
        assert_eq!(pair.read(SHORT), [0x11, 7], "client {client}");
        assert_eq!(pair.session.clients().next().unwrap().client_title, Some(HEAD_END));
    }
}

#[test]
fn a_wrong_answer_to_the_challenge_ends_the_association() {
    for client in [UTILITY, GMAC] {
        let mut pair = Pair::new(client);
        pair.associate_with(b"FEDCBA9876543210");
        assert_eq!(pair.outcome, Outcome::NotAuthenticated);
        let request = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
        assert_eq!(pair.raw(&request), [0xd8, 1, 1]);
        assert_eq!(pair.meter.asked, 0);
    }
}

#[test]
fn before_the_passes_nothing_else_is_done() {
    let mut pair = Pair::new(UTILITY);
    let aarq = pair.aarq(&INITIATE, Some(&[0x77; 16]));
    pair.raw(&aarq);
    assert_eq!(pair.outcome, Outcome::Opened { pending: true });
    for request in
        [get(ID, GetRequestBody::Normal(whole(SHORT))), action(ID, ActionRequestBody::Normal(echo(), None))]
    {
        let request = pair.sealed(GLO, &request);
        assert_eq!(pair.raw(&request), [0xd8, 1, 1]);
    }
    assert_eq!(pair.meter.asked, 0);
}

#[track_caller]
fn refused_with(client: u16, change: fn(&mut Aarq<'_>), diagnostic: ServiceUser) {
    let mut pair = Pair::new(client);
    let information = pair.sealed(GLO, &INITIATE.encode());
    let mut aarq = Aarq {
        context: ApplicationContext::LogicalNameCiphered,
        calling_ap_title: Some(&HEAD_END),
        mechanism: pair.meter.security.offer(client).map_or(Mechanism::Lowest, |offer| offer.mechanism),
        authentication_value: Some(&[0x77; 16]),
        user_information: Some(&information),
    };
    change(&mut aarq);
    let mut request = vec![];
    aarq.emit(&mut request);
    let answer = pair.raw(&request);
    let Ok(Apdu::AssociationResponse(aare)) = apdu::parse(&answer) else {
        panic!("{answer:02x?}");
    };
    assert_eq!((aare.result.code(), aare.diagnostic), (1, Some(Diagnostic::User(diagnostic))));
    assert_eq!((pair.outcome, pair.session.clients().count()), (Outcome::Refused, 0));
}

#[test]
fn a_request_that_does_not_fit_the_offer_is_refused_with_its_reason() {
    use ServiceUser as Why;
    refused_with(17, |_| (), Why::NoReason);
    refused_with(PUBLIC, |_| (), Why::ContextNotSupported);
    let plain = |aarq: &mut Aarq<'_>| aarq.context = ApplicationContext::LogicalName;
    refused_with(UTILITY, plain, Why::ContextNotSupported);
    let short = |aarq: &mut Aarq<'_>| aarq.context = ApplicationContext::ShortNameCiphered;
    refused_with(UTILITY, short, Why::ContextNotSupported);
    refused_with(UTILITY, |aarq| aarq.mechanism = Mechanism::Lowest, Why::MechanismRequired);
    refused_with(UTILITY, |aarq| aarq.mechanism = Mechanism::Gmac, Why::MechanismUnknown);
    refused_with(UTILITY, |aarq| aarq.calling_ap_title = None, Why::CallingApTitleUnknown);
    refused_with(UTILITY, |aarq| aarq.calling_ap_title = Some(&METER), Why::CallingApTitleUnknown);
    refused_with(UTILITY, |aarq| aarq.user_information = None, Why::NoReason);
    refused_with(READER, |aarq| aarq.authentication_value = Some(b"passwort"), Why::AuthenticationFailure);
    refused_with(READER, |aarq| aarq.authentication_value = None, Why::AuthenticationFailure);
    refused_with(UTILITY, |aarq| aarq.authentication_value = Some(&[1; 7]), Why::AuthenticationFailure);
    // The challenge of the meter in this test.
    refused_with(UTILITY, |aarq| aarq.authentication_value = Some(&[0x5c; 16]), Why::AuthenticationFailure);
}

#[test]
fn what_cannot_be_agreed_on_is_a_confirmed_service_error() {
    for (initiate, why) in [
        (InitiateRequest { dlms_version: 5, ..INITIATE }, InitiateError::VersionTooLow),
        (
            InitiateRequest { conformance: Conformance::NONE, ..INITIATE },
            InitiateError::IncompatibleConformance,
        ),
        (InitiateRequest { max_pdu: MIN_PDU - 1, ..INITIATE }, InitiateError::PduSizeTooShort),
        (
            InitiateRequest { dedicated_key: Some(DedicatedKey(&[1; 15])), ..INITIATE },
            InitiateError::RefusedByHandler,
        ),
    ] {
        let mut pair = Pair::new(UTILITY);
        let request = pair.aarq(&initiate, Some(&[0x77; 16]));
        let answer = pair.raw(&request);
        let Ok(Apdu::AssociationResponse(aare)) = apdu::parse(&answer) else {
            panic!("{answer:02x?}");
        };
        let error = pair.opened(aare.user_information.unwrap());
        let Ok(Apdu::ConfirmedServiceError(error)) = apdu::parse(&error) else {
            panic!("{error:02x?}");
        };
        assert_eq!((error.initiate_error(), pair.outcome), (Some(why), Outcome::Refused));
    }
}

#[test]
fn what_is_not_agreed_is_not_done() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    for association in &mut pair.session.associations {
        association.caller.conformance = Conformance::GET;
    }
    assert_eq!(pair.read(SHORT), [0x11, 7]);
    let refused = [
        action(ID, ActionRequestBody::Normal(echo(), None)),
        get(ID, GetRequestBody::WithList(List::new(&[whole(SHORT)]))),
    ];
    for request in refused {
        let request = pair.sealed(GLO, &request);
        assert_eq!(pair.raw(&request), [0xd8, 1, 1]);
    }
    let request = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(LONG))));
    assert_eq!(pair.raw(&request), [0xd8, 1, 4], "too long, and no blocks");
}

#[test]
fn an_answer_comes_in_the_style_of_its_request() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let general_ded = Style { envelope: Envelope::General, ..DED };
    for (style, tag) in [(GLO, 0xcc), (GENERAL, 0xdb), (DED, 0xd4), (general_ded, 0xdc)] {
        let request = pair.sealed(style, &get(ID, GetRequestBody::Normal(whole(SHORT))));
        let answer = pair.raw(&request);
        assert_eq!(answer[0], tag);
        assert_eq!(pair.opened(&answer)[3..], [0, 0x11, 7]);
    }
}

#[test]
fn a_counter_that_was_used_is_answered_with_the_lowest_that_is_taken() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let request = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    pair.raw(&request);
    let counter = pair.counter as u8;
    assert_eq!(pair.raw(&request), [0xd8, 1, 6, 0, 0, 0, counter]);
    assert_eq!(pair.outcome, Outcome::Exception(ServiceError::InvocationCounter(u32::from(counter))));
    assert_eq!(pair.read(SHORT), [0x11, 7], "the association goes on");
    // Another connection of the same client has no counters of its own.
    pair.session = ServerSession::new(RustCrypto, 750, Duration::from_secs(180));
    pair.counter = 2;
    let aarq = pair.aarq(&INITIATE, Some(&[0x77; 16]));
    let answer = pair.raw(&aarq);
    assert_eq!(answer[..3], [0xd8, 1, 6]);
}

#[test]
fn a_forged_counter_shuts_nobody_out() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut forged = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    forged[3..7].copy_from_slice(&[0xff; 4]);
    assert_eq!(pair.raw(&forged), [0xd8, 1, 5]);
    assert_eq!(pair.read(SHORT), [0x11, 7]);
}

#[test]
fn in_a_ciphered_association_nothing_is_taken_in_the_clear() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let asked = pair.meter.asked;
    assert_eq!(pair.raw(&get(ID, GetRequestBody::Normal(whole(SHORT)))), [0xd8, 1, 1]);
    let mut control = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    control[2] = 0x20;
    assert_eq!(pair.raw(&control), [0xd8, 1, 5]);
    assert_eq!(pair.meter.asked, asked);
}

#[test]
fn a_long_value_goes_out_in_blocks_that_fit() {
    for client in [PUBLIC, UTILITY] {
        let mut pair = Pair::new(client);
        pair.associate();
        let long = pair.meter.values[&LONG].clone();
        assert_eq!(pair.read(LONG), long);
        let answer = pair.ask(&get(ID, GetRequestBody::Next(9)));
        let failed = DataAccessResult::NoLongGetInProgress.code();
        assert_eq!(answer, [0xc4, 2, 0xc1, 1, 0, 0, 0, 9, 1, failed]);
        pair.ask(&get(ID, GetRequestBody::Normal(whole(LONG))));
        let answer = pair.ask(&get(ID, GetRequestBody::Next(2)));
        let failed = DataAccessResult::DataBlockNumberInvalid.code();
        assert_eq!(answer, [0xc4, 2, 0xc1, 1, 0, 0, 0, 2, 1, failed]);
    }
}

#[test]
fn a_block_whose_answer_was_lost_is_sent_again_and_an_older_one_is_not() {
    for client in [PUBLIC, UTILITY] {
        let mut pair = Pair::new(client);
        pair.associate();
        let mut number = 0;
        let mut answer = pair.ask(&get(ID, GetRequestBody::Normal(whole(LONG))));
        loop {
            let Ok(Apdu::GetResponse(GetResponse { body: GetResponseBody::Block(block), .. })) =
                apdu::parse(&answer)
            else {
                panic!("{answer:02x?}")
            };
            let last = block.last;
            if number > 0 {
                assert_eq!(pair.ask(&get(ID, GetRequestBody::Next(number))), answer);
            }
            if last {
                break;
            }
            number += 1;
            answer = pair.ask(&get(ID, GetRequestBody::Next(number)));
        }
        assert!(number > 2, "{number}");
        let failed = DataAccessResult::NoLongGetInProgress.code();
        let older = u8::try_from(number - 1).unwrap();
        let answer = pair.ask(&get(ID, GetRequestBody::Next(number - 1)));
        assert_eq!(answer, [0xc4, 2, 0xc1, 1, 0, 0, 0, older, 1, failed]);
    }
}

#[test]
fn a_ciphered_block_is_not_longer_than_the_client_can_take() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    for style in [GLO, GENERAL, DED] {
        let request = pair.sealed(style, &get(ID, GetRequestBody::Normal(whole(LONG))));
        let answer = pair.raw(&request);
        assert!((570..=600).contains(&answer.len()), "{}", answer.len());
        pair.opened(&answer);
    }
}

#[test]
fn a_list_is_answered_in_order_and_in_blocks_if_it_is_long() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let unknown = whole(LogicalName([9; 6]));
    let list = [whole(SHORT), unknown, whole(SHORT)];
    let answer = pair.ask(&get(ID, GetRequestBody::WithList(List::new(&list))));
    assert_eq!(answer, [0xc4, 3, 0xc1, 3, 0, 0x11, 7, 1, 4, 0, 0x11, 7]);
    let answer = pair.ask(&get(ID, GetRequestBody::WithList(List::new(&[whole(SHORT), whole(LONG)]))));
    let data = pair.whole_of(answer);
    assert_eq!((data.len(), &data[..4]), (1 + 3 + 1 + 3004, &[2, 0, 0x11, 7][..]));
    let many = vec![whole(SHORT); MAX_REFERENCES + 1];
    let request = pair.sealed(GLO, &get(ID, GetRequestBody::WithList(List::new(&many))));
    assert_eq!(pair.raw(&request), [0xd8, 1, 4]);
}

#[test]
fn a_selection_reaches_the_objects() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut buffer = vec![];
    let access = SelectiveAccess::encode(&Selection::Entry(EntryDescriptor::rows(5, 9)), &mut buffer);
    let selected = SelectedAttribute { access: Some(access), ..whole(LONG) };
    let answer = pair.ask(&get(ID, GetRequestBody::Normal(selected)));
    assert_eq!(answer, [0xc4, 1, 0xc1, 0, 6, 0, 0, 0, 5]);
}

/// Blocks of a value, each with whether it is the last and its number.
fn blocks(data: &[u8], size: usize) -> Vec<DataBlock<'_>> {
    let count = data.chunks(size).count();
    let block = |(at, raw)| DataBlock { last: at + 1 == count, number: at as u32 + 1, raw };
    data.chunks(size).enumerate().map(block).collect()
}

#[test]
fn a_long_value_comes_in_in_blocks() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut long = vec![];
    Writer::new(&mut long).octet_string(&[7; 900]);
    let blocks = blocks(&long, 400);
    assert_eq!(pair.set_result(SetRequestBody::FirstBlock(whole(SHORT), blocks[0])), (2, 1));
    assert_eq!(pair.set_result(SetRequestBody::Block(blocks[1])), (2, 2));
    assert_eq!(pair.meter.values[&SHORT], [0x11, 7], "not before it is whole");
    assert_eq!(pair.set_result(SetRequestBody::Block(blocks[2])), (3, 0));
    assert_eq!(pair.meter.values[&SHORT], long);
    let none = DataAccessResult::NoLongSetInProgress.code();
    assert_eq!(pair.set_result(SetRequestBody::Block(blocks[2])), (3, none));
}

#[test]
fn a_block_out_of_order_or_too_much_of_them_ends_a_long_write() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let block = |number| DataBlock { last: false, number, raw: &[9; 500] };
    pair.set_result(SetRequestBody::FirstBlock(whole(SHORT), block(1)));
    let invalid = DataAccessResult::DataBlockNumberInvalid.code();
    assert_eq!(pair.set_result(SetRequestBody::Block(block(3))), (3, invalid));
    pair.set_result(SetRequestBody::FirstBlock(whole(SHORT), block(1)));
    let mut number = 2;
    let result = loop {
        match pair.set_result(SetRequestBody::Block(block(number))) {
            (2, _) => number += 1,
            result => break result,
        }
    };
    assert_eq!(result, (3, DataAccessResult::LongSetAborted.code()));
    assert_eq!(number as usize, MAX_LONG_VALUE / 500 + 1);
    let odd = DataBlock { last: true, number: 1, raw: &[0x77] };
    let unmatched = DataAccessResult::TypeUnmatched.code();
    assert_eq!(pair.set_result(SetRequestBody::FirstBlock(whole(SHORT), odd)), (3, unmatched));
    assert_eq!(pair.meter.values[&SHORT], [0x11, 7]);
}

#[test]
fn lists_are_written_at_once_and_in_blocks() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let targets = [whole(SHORT), whole(LONG)];
    let values = [Data::new(&[0x11, 1]).unwrap(), Data::new(&[0x11, 2]).unwrap()];
    let pairs = Pairs::new(List::new(&targets), List::new(&values)).unwrap();
    let mut request = vec![];
    SetRequest { invoke_id: ID, body: SetRequestBody::WithList(pairs) }.emit(&mut request);
    assert_eq!(pair.ask(&request), [0xc5, 5, 0xc1, 2, 0, 0]);
    assert_eq!((pair.meter.values[&SHORT][1], pair.meter.values[&LONG][1]), (1, 2));
    for (data, results) in [(&[2, 0x11, 3, 0x11, 4][..], 0), (&[1, 0x11, 5], 12)] {
        let block = DataBlock { last: true, number: 1, raw: data };
        let body = SetRequestBody::WithListFirstBlock(List::new(&targets), block);
        let mut request = vec![];
        SetRequest { invoke_id: ID, body }.emit(&mut request);
        assert_eq!(pair.ask(&request), [0xc5, 4, 0xc1, 2, results, results, 0, 0, 0, 1]);
    }
    assert_eq!((pair.meter.values[&SHORT][1], pair.meter.values[&LONG][1]), (3, 4));
}

#[test]
fn actions_take_and_give_long_values_in_blocks() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut long = vec![];
    Writer::new(&mut long).octet_string(&[7; 900]);
    let blocks = blocks(&long, 400);
    let answer = pair.ask(&action(ID, ActionRequestBody::FirstBlock(echo(), blocks[0])));
    assert_eq!(answer, [0xc7, 4, 0xc1, 0, 0, 0, 1]);
    pair.ask(&action(ID, ActionRequestBody::Block(blocks[1])));
    let mut answer = pair.ask(&action(ID, ActionRequestBody::Block(blocks[2])));
    let mut data = vec![];
    loop {
        let Ok(Apdu::ActionResponse(ActionResponse { body: ActionResponseBody::Block(block), .. })) =
            apdu::parse(&answer)
        else {
            panic!("{answer:02x?}");
        };
        data.extend_from_slice(block.raw);
        if block.last {
            break;
        }
        answer = pair.ask(&action(ID, ActionRequestBody::NextBlock(block.number)));
    }
    assert_eq!(data[..3], [0, 1, 0]);
    assert_eq!(data[3..], long);
    // Its answer may have been lost.
    assert_eq!(pair.ask(&action(ID, ActionRequestBody::NextBlock(1)))[..3], [0xc7, 2, 0xc1]);
    let answer = pair.ask(&action(ID, ActionRequestBody::NextBlock(5)));
    assert_eq!(answer, [0xc7, 1, 0xc1, ActionResult::NoLongActionInProgress.code(), 0]);
}

#[test]
fn actions_in_a_list_have_an_outcome_each() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let unknown = MethodDescriptor { class: ClassId(2), ..echo() };
    let values = [Data::new(&[0x11, 1]).unwrap(), Data::NULL];
    let methods = [echo(), unknown];
    let pairs = Pairs::new(List::new(&methods), List::new(&values)).unwrap();
    let answer = pair.ask(&action(ID, ActionRequestBody::WithList(pairs)));
    assert_eq!(answer, [0xc7, 3, 0xc1, 2, 0, 1, 0, 0x11, 1, 4, 0]);
}

#[test]
fn what_is_not_confirmed_is_done_and_not_answered() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let unconfirmed = InvokeId::new(2, false, false);
    let body = SetRequestBody::Normal(whole(SHORT), Data::new(&[0x11, 9]).unwrap());
    let mut request = vec![];
    SetRequest { invoke_id: unconfirmed, body }.emit(&mut request);
    let request = pair.sealed(GLO, &request);
    assert!(pair.raw(&request).is_empty());
    assert_eq!((pair.outcome, &pair.meter.values[&SHORT][..]), (Outcome::Served, &[0x11, 9][..]));
    let request = pair.sealed(GLO, &get(unconfirmed, GetRequestBody::Normal(whole(SHORT))));
    assert!(!pair.raw(&request).is_empty(), "a get without an answer has no sense");
}

#[test]
fn an_association_without_responses_is_silent() {
    let mut pair = Pair::new(PUBLIC);
    let aarq = pair.aarq(&InitiateRequest { response_allowed: false, ..INITIATE }, None);
    assert!(pair.raw(&aarq).is_empty());
    assert_eq!(pair.outcome, Outcome::Opened { pending: false });
    assert!(pair.raw(&get(ID, GetRequestBody::Normal(whole(SHORT)))).is_empty());
    assert_eq!(pair.meter.asked, 1);
}

#[test]
fn new_keys_are_used_from_the_next_association_on() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let (guek, gak) = (Key::new([0x11; 16]), Key::new([0x22; 16]));
    let master = Key::new(MASTER);
    let mut data = vec![];
    let transferred = [(KeyId::Guek, master.wrap(&guek)), (KeyId::Gak, master.wrap(&gak))];
    emit_key_transfer(&transferred, &mut data);
    let method = MethodDescriptor { class: ClassId(64), instance: SHORT, method: 2 };
    let body = ActionRequestBody::Normal(method, Some(Data::new(&data).unwrap()));
    assert_eq!(pair.ask(&action(ID, body)), [0xc7, 1, 0xc1, 0, 0]);
    assert_eq!(pair.read(SHORT), [0x11, 7], "the old keys hold");
    let (old_keys, old) = (pair.keys.clone(), pair.sealed(GLO, &INITIATE.encode()));
    pair.keys = AssociationKeys::new(Keys::new([0x11; 16], [0x22; 16]));
    pair.associate();
    assert_eq!((pair.read(SHORT), pair.meter.security.epoch()), (vec![0x11, 7], 1));
    pair.keys = old_keys;
    assert_eq!(pair.raw(&old), [0xd8, 1, 5]);
}

#[test]
fn an_association_under_old_keys_is_over_when_another_begins_under_new_ones() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut data = vec![];
    emit_key_transfer(&[(KeyId::Guek, Key::new(MASTER).wrap(&Key::new([0x11; 16])))], &mut data);
    let transfer = KeyTransfer::parse(axdr::parse(&data).unwrap().0).unwrap();
    pair.meter.security.stage(&transfer).unwrap();
    let late = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    pair.client = GMAC;
    pair.keys = AssociationKeys::new(Keys::new([0x11; 16], GAK));
    let aarq = pair.aarq(&INITIATE, Some(&[0x77; 16]));
    pair.raw(&aarq);
    assert_eq!(pair.outcome, Outcome::Opened { pending: true });
    pair.client = UTILITY;
    assert_eq!(pair.raw(&late), [0xd8, 1, 1]);
}

const BROADCAST: Style = Style { key: KeyUse::Broadcast, envelope: Envelope::Service };

/// A meter that was given a broadcast key, and a client that has it.
fn pair_with_broadcast(key: [u8; 16]) -> Pair {
    let mut pair = Pair::new(UTILITY);
    let mut data = vec![];
    emit_key_transfer(&[(KeyId::Gbek, Key::new(MASTER).wrap(&Key::new(key)))], &mut data);
    pair.meter.security.stage(&KeyTransfer::parse(axdr::parse(&data).unwrap().0).unwrap()).unwrap();
    pair.keys = keys().with_broadcast(Key::new(key));
    pair.associate();
    pair
}

fn write(invoke_id: InvokeId, value: u8) -> Vec<u8> {
    let data = [0x11, value];
    let body = SetRequestBody::Normal(whole(SHORT), Data::new(&data).unwrap());
    let mut request = vec![];
    SetRequest { invoke_id, body }.emit(&mut request);
    request
}

#[test]
fn what_is_for_many_meters_is_done_under_the_broadcast_key_that_was_transferred() {
    const QUIET: InvokeId = InvokeId::new(2, false, false);
    let mut pair = pair_with_broadcast([0x66; 16]);
    let sealed = pair.sealed(BROADCAST, &write(QUIET, 9));
    assert_eq!(sealed[2], 0x70, "the control says that the key is that of many meters");
    assert!(pair.raw(&sealed).is_empty());
    assert_eq!((pair.outcome, &pair.meter.values[&SHORT][..]), (Outcome::Served, &[0x11, 9][..]));
    let asked = pair.meter.asked;
    let mut data = vec![];
    Writer::new(&mut data).u8(1);
    let body = ActionRequestBody::Normal(echo(), Some(Data::new(&data).unwrap()));
    let sealed = pair.sealed(BROADCAST, &action(QUIET, body));
    assert!(pair.raw(&sealed).is_empty());
    assert_eq!(pair.meter.asked, asked + 1);
    // One that asks for an answer has it under the key of this meter alone.
    let sealed = pair.sealed(BROADCAST, &write(ID, 10));
    let answer = pair.raw(&sealed);
    assert_eq!(answer[2], 0x30);
    assert_eq!(pair.opened(&answer), [0xc5, 1, 0xc1, 0]);
    let sealed = pair.sealed(BROADCAST, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    assert_eq!(pair.raw(&sealed), [0xd8, 1, 1], "a value of one meter is nobody else's");
}

#[test]
fn counters_under_the_broadcast_key_are_its_own_and_outlast_an_association() {
    let mut pair = pair_with_broadcast([0x66; 16]);
    let unicast = pair.meter.security.received(UTILITY).last();
    pair.counter = 5000;
    let first = pair.sealed(BROADCAST, &write(ID, 1));
    let answer = pair.raw(&first);
    pair.opened(&answer);
    assert_eq!(pair.meter.security.received_broadcast().last(), Some(5000));
    assert_eq!(pair.meter.security.received(UTILITY).last(), unicast);
    assert_eq!(pair.raw(&first), [0xd8, 1, 6, 0, 0, 0x13, 0x89], "once");
    // Lower counters are new under the key of this meter alone.
    pair.counter = 100;
    assert_eq!(pair.read(SHORT), [0x11, 1]);
    pair.associate();
    assert_eq!(pair.raw(&first), [0xd8, 1, 6, 0, 0, 0x13, 0x89], "nor in another association");
    pair.counter = 5001;
    let next = pair.sealed(BROADCAST, &write(ID, 2));
    assert!(!pair.raw(&next).is_empty());
    assert_eq!(pair.meter.values[&SHORT], [0x11, 2]);
}

#[test]
fn whoever_has_only_the_broadcast_key_opens_and_proves_nothing() {
    let mut pair = pair_with_broadcast([0x66; 16]);
    let mut none = Pair::new(UTILITY);
    none.associate();
    none.keys = keys().with_broadcast(Key::new([0x66; 16]));
    let sealed = none.sealed(BROADCAST, &write(ID, 9));
    assert_eq!(none.raw(&sealed), [0xd8, 1, 5], "a meter without the key");
    pair.keys = keys().with_broadcast(Key::new([0x67; 16]));
    let forged = pair.sealed(BROADCAST, &write(ID, 9));
    assert_eq!(pair.raw(&forged), [0xd8, 1, 5]);
    pair.keys = keys().with_broadcast(Key::new([0x66; 16]));
    // An AARQ whose initiate is under it.
    let information = pair.sealed(BROADCAST, &INITIATE.encode());
    let mut aarq = vec![];
    Aarq {
        context: ApplicationContext::LogicalNameCiphered,
        calling_ap_title: Some(&HEAD_END),
        mechanism: Mechanism::Manufacturer,
        authentication_value: Some(&[0x77; 16]),
        user_information: Some(&information),
    }
    .emit(&mut aarq);
    assert_eq!(pair.raw(&aarq), [0xd8, 1, 1]);
    // Before the passes are done.
    let aarq = pair.aarq(&INITIATE, Some(&[0x77; 16]));
    pair.raw(&aarq);
    assert_eq!(pair.outcome, Outcome::Opened { pending: true });
    let sealed = pair.sealed(BROADCAST, &write(ID, 9));
    assert_eq!(pair.raw(&sealed), [0xd8, 1, 1]);
    assert_eq!(pair.meter.values[&SHORT], [0x11, 7]);
}

#[test]
fn a_released_association_answers_no_more() {
    for ciphered_release in [false, true] {
        let mut pair = Pair::new(UTILITY);
        pair.associate();
        let information = pair.sealed(GLO, &INITIATE.encode());
        let mut request = vec![];
        let user_information = ciphered_release.then_some(&information[..]);
        Rlrq { reason: None, user_information }.emit(&mut request);
        let answer = pair.raw(&request);
        let Ok(Apdu::ReleaseResponse(rlre)) = apdu::parse(&answer) else {
            panic!("{answer:02x?}");
        };
        assert_eq!(rlre.user_information.is_some(), ciphered_release);
        assert_eq!(pair.outcome, Outcome::Released);
        let request = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
        assert_eq!(pair.raw(&request), [0xd8, 1, 1]);
    }
}

#[test]
fn a_release_that_is_not_genuine_releases_nothing() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    let mut information = pair.sealed(GLO, &INITIATE.encode());
    *information.last_mut().unwrap() ^= 1;
    let mut request = vec![];
    Rlrq { reason: None, user_information: Some(&information) }.emit(&mut request);
    assert_eq!(pair.raw(&request), [0xd8, 1, 5]);
    assert_eq!(pair.read(SHORT), [0x11, 7]);
}

#[test]
fn an_association_that_nobody_uses_ends() {
    let mut pair = Pair::new(UTILITY);
    pair.associate();
    pair.now = Duration::from_secs(180);
    assert_eq!(pair.session.deadline(), Some(Duration::from_secs(180)));
    assert_eq!(pair.read(SHORT), [0x11, 7]);
    assert_eq!(pair.session.deadline(), Some(Duration::from_secs(360)));
    pair.now = Duration::from_secs(361);
    let request = pair.sealed(GLO, &get(ID, GetRequestBody::Normal(whole(SHORT))));
    assert_eq!(pair.raw(&request), [0xd8, 1, 1]);
    assert_eq!(pair.session.deadline(), None);
}

#[test]
fn what_the_objects_write_wrong_does_not_reach_the_client() {
    let mut pair = Pair::new(PUBLIC);
    pair.associate();
    for wrong in [&[][..], &[0x11], &[0x11, 1, 2], &[0x77]] {
        pair.meter.values.insert(SHORT, wrong.to_vec());
        let answer = pair.ask(&get(ID, GetRequestBody::Normal(whole(SHORT))));
        assert_eq!(answer, [0xc4, 1, 0xc1, 1, DataAccessResult::OtherReason.code()]);
    }
}

#[test]
fn services_that_are_not_known_are_said_to_be_so() {
    let mut pair = Pair::new(PUBLIC);
    pair.associate();
    for unknown in [&[0xd9, 0][..], &[0xc0, 9, 0xc1], &[5, 1]] {
        assert_eq!(pair.raw(unknown), [0xd8, 2, 2], "{unknown:02x?}");
    }
    assert_eq!(pair.raw(&[0xc0, 1, 0xc1, 0]), [0xd8, 1, 3]);
}

/// Our client and the meter with a line between them that loses what it is told to; what the client was told.
struct Line {
    client: ClientSession,
    pair: Pair,
    now: Duration,
    blocks: usize,
}

impl Line {
    fn open(window: u8) -> Line {
        let protection = Protection::new(keys());
        let config =
            Config::ciphered(HEAD_END, Authentication::Aes(Secret::new(SECRET.to_vec())), protection);
        let config = Config { timing: Timing { tries: 40, ..Timing::default() }, ..config.in_blocks(window) };
        let mut client = ClientSession::new(config, SendCounter::resume(1));
        client.associate(&[0x42; RANDOM_LEN]).unwrap();
        let pair = Pair::new(UTILITY);
        let mut line = Line { client, pair, now: Duration::ZERO, blocks: 0 };
        let events = line.drive(|| false);
        assert!(matches!(events[..], [Event::Associated(_)]), "{events:?}");
        line
    }

    fn drive(&mut self, mut lost: impl FnMut() -> bool) -> Vec<Event> {
        let mut events = vec![];
        loop {
            events.extend(core::iter::from_fn(|| self.client.poll_event()));
            if let Some(bound) = self.client.poll_reserve() {
                self.client.reserved(bound);
            }
            let mut sent = false;
            while let Some(apdu) = self.client.poll_transmit(self.now) {
                sent = true;
                if lost() {
                    continue;
                }
                let mut answer = self.pair.raw(&apdu);
                while !answer.is_empty() {
                    self.blocks += usize::from(answer[0] == apdu::GENERAL_BLOCK_TRANSFER);
                    if !lost() {
                        self.client.handle_apdu(&answer);
                    }
                    self.pair.session.poll_more(&mut answer);
                }
            }
            if sent {
                continue;
            }
            let Some(due) = self.client.poll_timeout() else { return events };
            self.now = due;
            self.client.handle_timeout(due);
        }
    }
}

fn attribute(instance: LogicalName) -> SelectedAttribute<'static> {
    whole(instance)
}

#[test]
fn long_values_go_both_ways_in_blocks_of_a_general_transfer_and_are_asked_for_once() {
    for window in [1, 3, 63] {
        let mut line = Line::open(window);
        let long = line.pair.meter.values[&LONG].clone();
        line.client.get(attribute(LONG)).unwrap();
        let events = line.drive(|| false);
        let value = OwnedData::new(long.clone()).unwrap();
        assert_eq!(events, [Event::Answered(RequestId(1), Answer::Value(value.clone()))], "window {window}");
        assert!(line.blocks > 3000 / 750 && line.pair.meter.asked == 1, "{}", line.blocks);
        line.client.set(attribute(SHORT), value.data()).unwrap();
        assert_eq!(line.drive(|| false), [Event::Answered(RequestId(2), Answer::Written)]);
        assert_eq!(line.pair.meter.values[&SHORT], long);
        let method = MethodDescriptor { class: ClassId(1), instance: SHORT, method: 1 };
        line.client.action(method, Some(value.data())).unwrap();
        let invoked = Answer::Invoked(Some(Ok(value)));
        assert_eq!(line.drive(|| false), [Event::Answered(RequestId(3), invoked)]);
        assert_eq!(line.pair.meter.asked, 3);
    }
}

#[test]
fn a_command_in_one_block_whose_answer_is_lost_goes_out_once_and_a_question_again_as_it_was() {
    let mut line = Line::open(4);
    let method = MethodDescriptor { class: ClassId(1), instance: SHORT, method: 1 };
    line.client.action(method, Data::new(&[0x11, 1]).ok()).unwrap();
    let mut sent = 0;
    let events = line.drive(|| {
        sent += 1;
        sent > 1
    });
    let [Event::Failed { error: Error::Timeout { .. }, effect: Effect::Unknown, .. }] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((sent, line.pair.meter.asked), (2, 1));
    line.client.get(attribute(SHORT)).unwrap();
    let mut sent = 0;
    let events = line.drive(|| {
        sent += 1;
        sent == 2
    });
    assert!(matches!(events[..], [Event::Repeated, Event::Answered(..)]), "{events:?}");
    assert_eq!(line.pair.meter.asked, 2, "it was answered from what was kept");
}

#[test]
fn a_client_that_has_not_agreed_to_blocks_is_refused_them() {
    let mut pair = Pair::new(UTILITY);
    pair.meter.security.offer_mut(UTILITY).unwrap().conformance = Conformance::GET;
    pair.associate();
    assert_eq!(pair.raw(&[0xe0, 0x81, 0, 1, 0, 0, 1, 0xc0]), [0xd8, 1, 1]);
}

proptest! {
    #[test]
    fn blocks_that_are_lost_come_again_and_nothing_is_done_twice(
        window in 1..=63_u8,
        losses in prop::collection::vec(0..10_u8, 60),
    ) {
        let mut line = Line::open(window);
        let long = OwnedData::new(line.pair.meter.values[&LONG].clone()).unwrap();
        let mut losses = losses.into_iter().chain(core::iter::repeat(9));
        line.client.get(attribute(LONG)).unwrap();
        let events = line.drive(|| losses.next() < Some(2));
        let answered = Event::Answered(RequestId(1), Answer::Value(long));
        prop_assert!(events.contains(&answered), "{} events", events.len());
        prop_assert_eq!(line.pair.meter.asked, 1);
    }

    #[test]
    fn blocks_of_anything_panic_nowhere(
        blocks in prop::collection::vec((any::<u8>(), 0..4_u16, 0..4_u16, prop::collection::vec(any::<u8>(), 0..20)), 0..20),
    ) {
        let mut line = Line::open(4);
        line.client.get(attribute(LONG)).unwrap();
        while line.client.poll_transmit(line.now).is_some() {}
        for (control, number, acknowledged, data) in blocks {
            let mut block = vec![];
            let control = BlockControl(control);
            BlockTransferRepr { control, number, acknowledged }.emit(&data, &mut block);
            line.pair.raw(&block);
            line.client.handle_apdu(&block);
            while line.client.poll_transmit(line.now).is_some() {}
        }
        prop_assert_eq!(line.pair.meter.asked, 0);
    }

    #[test]
    fn whatever_comes_nothing_panics_and_only_clients_are_heard(
        client in prop::sample::select(&[PUBLIC, READER, UTILITY, GMAC, 7][..]),
        apdus in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
    ) {
        let mut pair = Pair::new(client);
        for mut apdu in apdus {
            // An AARQ is not made by chance; everything else needs one.
            if apdu.first() == Some(&AARQ) {
                apdu[0] = 0xc0;
            }
            pair.raw(&apdu);
            prop_assert_eq!(pair.meter.asked, 0);
        }
    }

    #[test]
    fn an_authentic_client_may_send_nonsense(
        apdus in prop::collection::vec(
            (prop::sample::select(&[0xc0, 0xc1, 0xc3][..]), 0_u8..8, prop::collection::vec(any::<u8>(), 0..60)),
            0..20,
        ),
    ) {
        let mut pair = Pair::new(UTILITY);
        pair.associate();
        for (tag, kind, rest) in apdus {
            let request = [&[tag, kind, 0xc1], &rest[..]].concat();
            let sealed = pair.sealed(GENERAL, &request);
            let answer = pair.raw(&sealed);
            prop_assert!(!answer.is_empty() && answer.len() <= 600);
        }
        prop_assert_eq!(axdr::check(&pair.read(SHORT)).is_ok(), true);
    }
}
