//! `tshark` as an oracle of what we write: each APDU comes out of our codec, goes into a wrapper on TCP (and UDP) port
//! 4059, and must be shown as named fields.
//!
//! It knows DLMS from 4.6 on. `./test` puts one of Debian beside the repository where the system's is older, and it is
//! taken from there; `URJA_TSHARK` names another program. What it does not read is listed in `docs/dlms-differences.md`
//! and said by the test; of that nothing but the tag is asked.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use codec::apdu::acse::{
    Aare, Aarq, ApplicationContext, AssociationResult, Diagnostic, Mechanism, ReleaseRequestReason,
    ReleaseResponseReason, Rlre, Rlrq, ServiceUser,
};
use codec::apdu::block_transfer::{BlockControl, BlockTransferRepr};
use codec::apdu::initiate::{Conformance, DLMS_VERSION, InitiateRequest, InitiateResponse};
use codec::apdu::{
    ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse, ActionResponseBody, ActionResult,
    AttributeDescriptor, ConfirmedService, ConfirmedServiceError, DataAccessResult, DataBlock,
    DataNotificationRepr, EventNotification, ExceptionResponse, GetBlock, GetRequest, GetRequestBody,
    GetResponse, GetResponseBody, InvokeId, List, LongInvokeId, MethodDescriptor, Pairs, SelectedAttribute,
    SelectiveAccess, ServiceError, ServiceErrorCategory, SetRequest, SetRequestBody, SetResponse,
    SetResponseBody, StateError, emit_data_notification_confirm,
};
use codec::axdr::{Data, DateTime, Writer};
use codec::cosem::profile_generic::{CaptureObject, EntryDescriptor, RangeDescriptor, Selection};
use codec::cosem::{ClassId, LogicalName};
use codec::security::association::{Envelope, Outgoing, Protect};
use codec::security::ciphering::{self, Head, MessageKey};
use codec::security::counter::SendCounter;
use codec::security::keys::{AssociationKeys, Key, KeyUse};
use codec::security::{Keys, RustCrypto, SecurityControl, seal};
use codec::wrapper::WrapperRepr;
use serde_json::Value as Json;

const TITLE: [u8; 8] = *b"URJ\0\0\0\0\x07";
const GUEK: [u8; 16] = *b"0123456789abcdef";
const GAK: [u8; 16] = *b"fedcba9876543210";
const ID: InvokeId = InvokeId::new(5, true, true);
const CLOCK: LogicalName = LogicalName([0, 0, 1, 0, 0, 255]);
const PROFILE: AttributeDescriptor =
    AttributeDescriptor { class: ClassId(7), instance: LogicalName([1, 0, 99, 1, 0, 255]), attribute: 2 };
const ENERGY: AttributeDescriptor =
    AttributeDescriptor { class: ClassId(3), instance: LogicalName([1, 0, 1, 8, 0, 255]), attribute: 2 };
const RELAY: MethodDescriptor =
    MethodDescriptor { class: ClassId(70), instance: LogicalName([0, 0, 96, 3, 10, 255]), method: 1 };
const TIME: DateTime = DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, 330, 0);

/// A field that must be shown, with its value; one whose value is a text beside the number is named alone.
type Field = (&'static str, Option<&'static str>);

const INVOKED: &[Field] =
    &[("dlms.invoke_id", Some("5")), ("dlms.service_class", Some("1")), ("dlms.priority", Some("1"))];
const ATTRIBUTE: &[Field] =
    &[("dlms.class_id", None), ("dlms.instance_id", None), ("dlms.attribute_id", None)];
const METHOD: &[Field] = &[("dlms.class_id", None), ("dlms.instance_id", None), ("dlms.method_id", None)];
/// The dissector names the presence byte so, and what is selected is data.
const SELECTED: &[Field] = &[("dlms.access_selector", None), ("dlms.data", None)];
const NUMBERED: &[Field] = &[("dlms.block_number", Some("3"))];
const NUMBER_UNSURE: [Field; 1] = [("dlms.block_number", None)];
const BLOCK: &[Field] = &[("dlms.block_number", Some("3")), ("dlms.last_block", Some("0"))];
const READ: &[Field] = &[("dlms.data", None)];
const SUCCESS: &[Field] = &[("dlms.data_access_result", Some("0"))];
const DENIED: &[Field] = &[("dlms.data_access_result", Some("3"))];
const DONE: &[Field] = &[("dlms.action_result", Some("0"))];
const NOT_DONE: &[Field] = &[("dlms.action_result", Some("3"))];
const CONFORMANCE: &[Field] = &[
    ("cosem.Conformance.U.get", Some("1")),
    ("cosem.Conformance.U.set", Some("0")),
    ("cosem.Conformance.U.selective.access", Some("1")),
];
const REQUESTED: &[Field] = &[
    ("dlms.response_allowed", None),
    ("dlms.proposed_dlms_version_number", Some("6")),
    ("dlms.client_max_receive_pdu_size", Some("1200")),
];
const GRANTED: &[Field] =
    &[("dlms.negotiated_dlms_version_number", Some("6")), ("dlms.server_max_receive_pdu_size", Some("750"))];
const NORMAL_RELEASE: &[Field] = &[("cosem.reason", Some("0"))];

/// Kinds of which it shows no more than which kind it is, with invoke id and flags. Whatever it shows besides must be
/// all of it, and right.
const BY_KIND_ALONE: &[&str] = &[
    "get-request with list",
    "get-response with list",
    "set-request with list",
    "set-request with list, first block",
    "set-response to the last block of a list",
    "set-response with list",
    "action-request of the next block",
    "action-request with list",
    "action-request, first block",
    "action-request with list, first block",
    "action-request, a block",
    "action-response with a block",
    "action-response with list",
    "action-response to a block",
];
/// Choice of the kind, invoke id, service class, priority: the first fields of every service.
const KIND_FIELDS: usize = 4;

/// An APDU that we write, and what of it must be shown.
struct Kind {
    name: &'static str,
    apdu: Vec<u8>,
    fields: Vec<Field>,
}

impl Kind {
    fn new(name: &'static str, apdu: Vec<u8>, fields: &[&[Field]]) -> Self {
        Self { name, apdu, fields: fields.concat() }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn number() -> Vec<u8> {
    written(|out| _ = Writer::new(out).u32(500))
}

fn gets() -> Vec<Kind> {
    let number = number();
    let value = Data::new(&number).unwrap();
    let (mut range, mut entries) = (Vec::new(), Vec::new());
    let by_range = RangeDescriptor::times(CaptureObject::clock(CLOCK), &TIME, &TIME);
    let by_range = SelectiveAccess::encode(&Selection::Range(by_range), &mut range);
    let by_entry = SelectiveAccess::encode(&Selection::Entry(EntryDescriptor::rows(1, 9)), &mut entries);
    let part = |access| SelectedAttribute { attribute: PROFILE, access: Some(access) };
    let both = [SelectedAttribute::whole(ENERGY), part(by_entry)];
    let requests = [
        ("get-request", "1", [ATTRIBUTE, &[]], GetRequestBody::Normal(SelectedAttribute::whole(ENERGY))),
        ("get-request by range", "1", [ATTRIBUTE, SELECTED], GetRequestBody::Normal(part(by_range))),
        ("get-request by entry", "1", [ATTRIBUTE, SELECTED], GetRequestBody::Normal(part(by_entry))),
        ("get-request of the next block", "2", [NUMBERED, &[]], GetRequestBody::Next(3)),
        ("get-request with list", "3", [ATTRIBUTE, &[]], GetRequestBody::WithList(List::new(&both))),
    ]
    .map(|(name, choice, [some, more], body)| {
        let apdu = written(|out| GetRequest { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.get_request", Some(choice))], INVOKED, some, more])
    });
    let results = [Ok(value), Err(DataAccessResult::ReadWriteDenied)];
    let block = GetBlock { last: false, number: 3, raw: Ok(&number) };
    let responses = [
        ("get-response", "1", READ, GetResponseBody::Normal(results[0])),
        ("get-response that refuses", "1", DENIED, GetResponseBody::Normal(results[1])),
        ("get-response with a block", "2", BLOCK, GetResponseBody::Block(block)),
        ("get-response with list", "3", DENIED, GetResponseBody::WithList(List::new(&results))),
    ]
    .map(|(name, choice, some, body)| {
        let apdu = written(|out| GetResponse { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.get_response", Some(choice))], INVOKED, some])
    });
    requests.into_iter().chain(responses).collect()
}

fn sets() -> Vec<Kind> {
    let number = number();
    let energy = SelectedAttribute::whole(ENERGY);
    let (both, values) = ([energy, energy], [Data::new(&number).unwrap(), Data::NULL]);
    let (names, block) = (List::new(&both), DataBlock { last: false, number: 3, raw: &number });
    let pairs = Pairs::new(names, List::new(&values)).unwrap();
    let first = SetRequestBody::WithListFirstBlock(names, block);
    let requests = [
        ("set-request", "1", [ATTRIBUTE, &[]], SetRequestBody::Normal(energy, values[0])),
        ("set-request, first block", "2", [ATTRIBUTE, BLOCK], SetRequestBody::FirstBlock(energy, block)),
        ("set-request, a block", "3", [BLOCK, &[]], SetRequestBody::Block(block)),
        ("set-request with list", "4", [ATTRIBUTE, &[]], SetRequestBody::WithList(pairs)),
        ("set-request with list, first block", "5", [ATTRIBUTE, BLOCK], first),
    ]
    .map(|(name, choice, [some, more], body)| {
        let apdu = written(|out| SetRequest { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.set_request", Some(choice))], INVOKED, some, more])
    });
    let results = [DataAccessResult::ReadWriteDenied, DataAccessResult::Success];
    let listed = List::new(&results);
    let last = SetResponseBody::LastBlock(results[1], 3);
    let responses = [
        ("set-response", "1", [SUCCESS, &[]], SetResponseBody::Normal(results[1])),
        ("set-response to a block", "2", [NUMBERED, &[]], SetResponseBody::Block(3)),
        // 4.6 reads the number from the byte of the result on, one too early.
        ("set-response to the last block", "3", [SUCCESS, &NUMBER_UNSURE], last),
        (
            "set-response to the last block of a list",
            "4",
            [DENIED, NUMBERED],
            SetResponseBody::LastBlockWithList(listed, 3),
        ),
        ("set-response with list", "5", [DENIED, SUCCESS], SetResponseBody::WithList(listed)),
    ]
    .map(|(name, choice, [some, more], body)| {
        let apdu = written(|out| SetResponse { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.set_response", Some(choice))], INVOKED, some, more])
    });
    requests.into_iter().chain(responses).collect()
}

fn actions() -> Vec<Kind> {
    let number = number();
    let value = Data::new(&number).unwrap();
    let (both, values) = ([RELAY, RELAY], [value, Data::NULL]);
    let (names, block) = (List::new(&both), DataBlock { last: false, number: 3, raw: &number });
    let pairs = Pairs::new(names, List::new(&values)).unwrap();
    let first = ActionRequestBody::WithListFirstBlock(names, block);
    let requests = [
        ("action-request", "1", [METHOD, &[]], ActionRequestBody::Normal(RELAY, Some(value))),
        ("action-request of the next block", "2", [NUMBERED, &[]], ActionRequestBody::NextBlock(3)),
        ("action-request with list", "3", [METHOD, &[]], ActionRequestBody::WithList(pairs)),
        ("action-request, first block", "4", [METHOD, BLOCK], ActionRequestBody::FirstBlock(RELAY, block)),
        ("action-request with list, first block", "5", [METHOD, BLOCK], first),
        ("action-request, a block", "6", [BLOCK, &[]], ActionRequestBody::Block(block)),
    ]
    .map(|(name, choice, [some, more], body)| {
        let apdu = written(|out| ActionRequest { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.action_request", Some(choice))], INVOKED, some, more])
    });
    let done = ActionOutcome { result: ActionResult::Success, data: Some(Ok(value)) };
    let not_done = ActionOutcome { result: ActionResult::ReadWriteDenied, data: None };
    let outcomes = [done, not_done];
    let responses = [
        ("action-response", "1", DONE, ActionResponseBody::Normal(done)),
        ("action-response that refuses", "1", NOT_DONE, ActionResponseBody::Normal(not_done)),
        ("action-response with a block", "2", BLOCK, ActionResponseBody::Block(block)),
        ("action-response with list", "3", NOT_DONE, ActionResponseBody::WithList(List::new(&outcomes))),
        ("action-response to a block", "4", NUMBERED, ActionResponseBody::NextBlock(3)),
    ]
    .map(|(name, choice, some, body)| {
        let apdu = written(|out| ActionResponse { invoke_id: ID, body }.emit(out));
        Kind::new(name, apdu, &[&[("dlms.action_response", Some(choice))], INVOKED, some])
    });
    requests.into_iter().chain(responses).collect()
}

fn initiates() -> (Vec<u8>, Vec<u8>) {
    let conformance = Conformance::GET.union(Conformance::SELECTIVE_ACCESS);
    let request = InitiateRequest {
        dedicated_key: None,
        response_allowed: true,
        quality_of_service: None,
        dlms_version: DLMS_VERSION,
        conformance,
        max_pdu: 1200,
    };
    let response = InitiateResponse {
        quality_of_service: None,
        dlms_version: DLMS_VERSION,
        conformance,
        max_pdu: 750,
        vaa_name: InitiateResponse::LOGICAL_NAME,
    };
    (request.encode().to_vec(), written(|out| response.emit(out)))
}

/// The associations; with the titles of both, of which it takes an octet-string for the name of a directory and goes
/// astray behind it, or without, where it reads them to their end.
fn associations(titles: bool) -> Vec<Kind> {
    const CONTEXT: Option<&str> = Some("2.16.756.5.8.1.1");
    let (request, response) = initiates();
    let title = titles.then_some(&TITLE[..]);
    let aarq = |mechanism, value| Aarq {
        context: ApplicationContext::LogicalName,
        calling_ap_title: title,
        mechanism,
        authentication_value: value,
        user_information: Some(&request),
    };
    let aare = |result, diagnostic, value| Aare {
        context: Some(ApplicationContext::LogicalName),
        result,
        diagnostic: Some(Diagnostic::User(diagnostic)),
        responding_ap_title: title,
        mechanism: Mechanism::Manufacturer,
        authentication_value: value,
        user_information: Some(&response),
    };
    let (password, challenge): (&[u8], &[u8]) = (b"12345678", b"ABCDEFGHIJKLMNOP");
    let required = ServiceUser::AuthenticationRequired;
    let refused = (AssociationResult::RejectedPermanent, ServiceUser::NoReason);
    let low: &[Field] =
        &[("cosem.mechanism_name", Some("2.16.756.5.8.2.1")), ("cosem.charstring", Some("12345678"))];
    let high: &[Field] =
        &[("cosem.mechanism_name", Some("2.16.756.5.8.2.2")), ("cosem.charstring", Some("ABCDEFGHIJKLMNOP"))];
    let accepted: &[Field] = &[("cosem.result", Some("0")), ("cosem.acse_service_user", Some("14"))];
    let rejected: &[Field] = &[("cosem.result", Some("1")), ("cosem.acse_service_user", Some("1"))];
    let begin: &[Field] = &[("cosem.application_context_name", CONTEXT)];
    let requests = [
        ("AARQ without proof", aarq(Mechanism::Lowest, None), &[][..]),
        ("AARQ with a password", aarq(Mechanism::LowLevel, Some(password)), low),
        ("AARQ with a challenge", aarq(Mechanism::Manufacturer, Some(challenge)), high),
    ]
    .map(|(name, aarq, proof)| {
        let titled: &[&[Field]] = &[begin, &[("cosem.calling_AP_title", None)]];
        let whole: &[&[Field]] = &[begin, proof, CONFORMANCE, REQUESTED];
        Kind::new(name, written(|out| aarq.emit(out)), if titles { titled } else { whole })
    });
    let begin: &[Field] = &[("cosem.aSO_context_name", CONTEXT)];
    let responses = [
        (
            "AARE with a challenge",
            aare(AssociationResult::Accepted, required, Some(challenge)),
            accepted,
            high,
        ),
        ("AARE that refuses", aare(refused.0, refused.1, None), rejected, &high[..1]),
    ]
    .map(|(name, aare, result, proof)| {
        let titled: &[&[Field]] = &[begin, result, &[("cosem.responding_AP_title", None)]];
        let whole: &[&[Field]] = &[begin, result, proof, CONFORMANCE, GRANTED];
        Kind::new(name, written(|out| aare.emit(out)), if titles { titled } else { whole })
    });
    requests.into_iter().chain(responses).collect()
}

fn releases() -> Vec<Kind> {
    let reason = Some(ReleaseRequestReason::Normal);
    let rlrq = written(|out| Rlrq { reason, user_information: None }.emit(out));
    let reason = Some(ReleaseResponseReason::Normal);
    let rlre = written(|out| Rlre { reason, user_information: None }.emit(out));
    vec![Kind::new("RLRQ", rlrq, &[NORMAL_RELEASE]), Kind::new("RLRE", rlre, &[NORMAL_RELEASE])]
}

const PUSH: DataNotificationRepr =
    DataNotificationRepr { invoke_id: LongInvokeId::new(5, true, false), date_time: Some(TIME) };

fn initiates_events_and_refusals() -> Vec<Kind> {
    let number = number();
    let (initiate, initiated) = initiates();
    let fields: &[Field] = &[("dlms.state_error", Some("1")), ("dlms.service_error", Some("4"))];
    let exception =
        ExceptionResponse { state: StateError::ServiceNotAllowed, service: ServiceError::PduTooLong };
    let counted = ExceptionResponse {
        state: StateError::ServiceUnknown,
        service: ServiceError::InvocationCounter(258),
    };
    // The counter behind them has no field.
    let refused: &[Field] = &[("dlms.state_error", Some("2")), ("dlms.service_error", Some("6"))];
    let event = EventNotification { time: None, attribute: ENERGY, value: Data::new(&number).unwrap() };
    vec![
        Kind::new("initiate-request", initiate, &[CONFORMANCE, REQUESTED]),
        Kind::new("initiate-response", initiated, &[CONFORMANCE, GRANTED]),
        Kind::new("event-notification-request", written(|out| event.emit(out)), &[ATTRIBUTE, READ]),
        Kind::new("exception-response", written(|out| exception.emit(out)), &[fields]),
        Kind::new("exception-response with a counter", written(|out| counted.emit(out)), &[refused]),
    ]
}

/// What it shows the tag of and no more: it has no fields for it, and no keys can be given to it.
fn tag_alone() -> Vec<Kind> {
    let number = number();
    let keys = Keys::new(GUEK, GAK);
    let mut held = AssociationKeys::new(keys.clone());
    held.set_dedicated(Some(Key::new(GAK)));
    let mut counters = SendCounter::of_session();
    let mut sealed = |key, envelope, apdu: &[u8]| {
        let outgoing = Outgoing { title: TITLE, protect: Protect::AuthenticatedEncrypted };
        let invocation = counters.take().unwrap();
        let seal = |out: &mut Vec<u8>| {
            outgoing.seal(&RustCrypto, &held, key, envelope, invocation, apdu, out).unwrap();
        };
        written(seal)
    };
    let error = ConfirmedServiceError {
        service: ConfirmedService::Initiate,
        category: ServiceErrorCategory::Initiate,
        value: 2,
    };
    let block = BlockTransferRepr { control: BlockControl::new(true, false, 1), number: 1, acknowledged: 0 };
    let push = written(|out| PUSH.emit(&number, out));
    let pushed = written(|out| {
        seal(&RustCrypto, SecurityControl::AUTHENTICATED_ENCRYPTED, &TITLE, 7, &keys, &push, out);
    });
    let head = Head {
        transaction_id: &[7],
        originator: &TITLE,
        recipient: &[],
        date_time: &[],
        other_information: &[],
    };
    let (named, invocation) = (MessageKey::Unicast, SendCounter::of_session().take().unwrap());
    let ciphering = written(|out| {
        let protect = Protect::AuthenticatedEncrypted;
        ciphering::seal(&RustCrypto, protect, &head, named, &held, invocation, &push, out).unwrap();
    });
    let service = Envelope::Service;
    // The first byte is all that ciphering looks at.
    let services: [(u8, &str, &str); 7] = [
        (0xc0, "glo-get-request", "ded-get-request"),
        (0xc1, "glo-set-request", "ded-set-request"),
        (0xc2, "glo-event-notification-request", "ded-event-notification-request"),
        (0xc3, "glo-action-request", "ded-action-request"),
        (0xc4, "glo-get-response", "ded-get-response"),
        (0xc5, "glo-set-response", "ded-set-response"),
        (0xc7, "glo-action-response", "ded-action-response"),
    ];
    let mut kinds: Vec<(&str, Vec<u8>)> = Vec::new();
    for (tag, global, dedicated) in services {
        kinds.push((global, sealed(KeyUse::Unicast, service, &[tag, 1, 0xc1])));
        kinds.push((dedicated, sealed(KeyUse::Dedicated, service, &[tag, 1, 0xc1])));
    }
    let (initiate, initiated) = initiates();
    kinds.extend([
        ("glo-initiate-request", sealed(KeyUse::Unicast, service, &initiate)),
        ("glo-initiate-response", sealed(KeyUse::Unicast, service, &initiated)),
        ("general-glo-ciphering of a push", pushed),
        ("general-ded-ciphering", sealed(KeyUse::Dedicated, Envelope::General, &[0xc0, 1, 0xc1])),
        ("general-ciphering", ciphering),
        ("general-block-transfer", written(|out| block.emit(&number, out))),
        ("data-notification", push),
        ("data-notification-confirm", written(|out| emit_data_notification_confirm(PUSH.invoke_id, out))),
        ("confirmed-service-error", written(|out| error.emit(out))),
    ]);
    kinds.into_iter().map(|(name, apdu)| Kind::new(name, apdu, &[])).collect()
}

/// A capture of packets, with nothing of a link below them.
struct Capture(Vec<u8>);

impl Capture {
    /// What follows the header of each packet: an IPv4 packet, or one of a protocol that the user names.
    const IPV4: u32 = 228;
    const USER0: u32 = 147;

    fn new(link: u32) -> Self {
        let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        out.extend_from_slice(&[2, 0, 4, 0]);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&65_535_u32.to_le_bytes());
        out.extend_from_slice(&link.to_le_bytes());
        Self(out)
    }

    fn packet(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u32).to_le_bytes();
        self.0.extend_from_slice(&[[0; 4], [0; 4], length, length].concat());
        self.0.extend_from_slice(bytes);
    }

    /// A frame to or from the meter's port; `stream` keeps the conversations apart.
    fn frame(&mut self, stream: u16, apdu: &[u8]) {
        let mut frame = Vec::new();
        WrapperRepr { source: 16, destination: 1 }.emit(apdu, &mut frame);
        let ports = [20_000 + stream, 4059].map(u16::to_be_bytes).concat();
        // Sequence, acknowledgement, five words of header, PSH and ACK, window, checksum and urgent pointer.
        let tcp =
            [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0], &frame].concat();
        self.packet(&ipv4(6, &tcp));
        let length = (8 + frame.len() as u16).to_be_bytes();
        let udp = [&ports[..], &length, &[0, 0], &frame].concat();
        self.packet(&ipv4(17, &udp));
    }
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + payload.len() as u16).to_be_bytes();
    let head = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    [&head[..], payload].concat()
}

/// The fields of a packet by name, each with all its values.
type Shown = BTreeMap<String, Vec<String>>;

/// A program that knows DLMS: the one that is named, else the system's, else the one that `./test` brought.
fn tshark() -> Option<String> {
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tshark/bin/tshark");
    let named = std::env::var("URJA_TSHARK").ok();
    let found = match named {
        Some(program) => Some(program).filter(|program| knows_dlms(program)),
        None => {
            ["tshark".into(), brought.display().to_string()].into_iter().find(|program| knows_dlms(program))
        }
    };
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: {WANTED}");
        skipped(WANTED);
    }
    found
}

const WANTED: &str = "tshark 4.6 or later, which knows DLMS";

fn knows_dlms(program: &str) -> bool {
    let Ok(out) = Command::new(program).args(["-G", "protocols"]).stderr(Stdio::null()).output() else {
        return false;
    };
    // Columns: name, short name, the one of filters; later ones say whether it is on.
    String::from_utf8_lossy(&out.stdout).lines().any(|line| line.split('\t').nth(2) == Some("dlms"))
}

/// Says what is not there, also where the gate collects these lines.
fn skipped(what: &str) {
    println!("skipped: not there: {what}");
    if let Ok(path) = std::env::var("URJA_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "skipped: not there: {what}").unwrap();
    }
}

fn run(program: &str, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(out.status.success(), "{program} {args:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// What the program shows of each packet, from the layer of this name inwards or from the outermost.
fn shown(program: &str, capture: &Capture, layer: Option<&str>, args: &[&str]) -> Vec<Shown> {
    let args = [&["-n", "-r", "-", "-T", "json", "--no-duplicate-keys"], args].concat();
    let packets: Json = serde_json::from_str(&run(program, &args, &capture.0)).unwrap();
    let fields = |packet: &Json| {
        let mut shown = Shown::new();
        let layers = &packet["_source"]["layers"];
        collect(layer.map_or(layers, |layer| &layers[layer]), &mut shown);
        // A dissector that gives up leaves its mark beside its layer.
        for mark in ["_ws.malformed", "_ws.short"] {
            if !layers[mark].is_null() {
                shown.insert(mark.into(), Vec::new());
            }
        }
        shown
    };
    packets.as_array().unwrap().iter().map(fields).collect()
}

fn collect(json: &Json, shown: &mut Shown) {
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                let values = shown.entry(name.clone()).or_default();
                match value {
                    Json::String(text) => values.push(text.clone()),
                    Json::Array(many) => {
                        values.extend(many.iter().filter_map(Json::as_str).map(String::from))
                    }
                    _ => {}
                }
                collect(value, shown);
            }
        }
        Json::Array(many) => many.iter().for_each(|one| collect(one, shown)),
        _ => {}
    }
}

/// Marks of what the dissector could not read to its end.
fn is_read(shown: &Shown) -> bool {
    let marks = ["_ws.malformed", "_ws.short", "dlms.not_implemented", "ber.error"];
    marks.iter().all(|mark| !shown.keys().any(|name| name.starts_with(mark)))
}

/// What is not shown of it that should be.
fn lacking(kind: &Kind, shown: &Shown) -> Vec<String> {
    let tag = [("dlms.apdu", Some(kind.apdu[0].to_string()))].into_iter();
    let by_kind_alone = BY_KIND_ALONE.contains(&kind.name)
        && kind.fields[KIND_FIELDS..].iter().all(|(name, _)| !shown.contains_key(*name));
    let fields = if by_kind_alone { &kind.fields[..KIND_FIELDS] } else { &kind.fields[..] };
    let fields = fields.iter().map(|(name, value)| (*name, value.map(String::from)));
    let is_lacking = |(name, value): &(&str, Option<String>)| {
        let found = shown.get(*name);
        found.is_none_or(|found| value.as_ref().is_some_and(|value| !found.contains(value)))
    };
    tag.chain(fields).filter(is_lacking).map(|(name, value)| format!("{name} {value:?}")).collect()
}

/// What it shows of these kinds, over TCP and over UDP.
fn shown_of(program: &str, kinds: &[Kind]) -> Vec<[Shown; 2]> {
    let mut capture = Capture::new(Capture::IPV4);
    for (stream, kind) in kinds.iter().enumerate() {
        capture.frame(stream as u16, &kind.apdu);
    }
    let mut packets = shown(program, &capture, Some("dlms"), &[]).into_iter();
    let pairs: Vec<[Shown; 2]> =
        kinds.iter().map(|_| [packets.next().unwrap(), packets.next().unwrap()]).collect();
    assert!(packets.next().is_none());
    pairs
}

#[test]
fn every_apdu_that_we_write_is_shown_as_named_fields() {
    let Some(program) = tshark() else { return };
    let kinds = [gets(), sets(), actions(), associations(false), releases(), initiates_events_and_refusals()];
    let kinds: Vec<Kind> = kinds.into_iter().flatten().collect();
    let mut faults = Vec::new();
    for (kind, transports) in kinds.iter().zip(shown_of(&program, &kinds)) {
        for shown in transports {
            let lacking = lacking(kind, &shown);
            if !lacking.is_empty() || !is_read(&shown) {
                faults.push(format!("{} {:02x?}: lacks {lacking:?} in {shown:?}", kind.name, kind.apdu));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    BY_KIND_ALONE.iter().for_each(|name| println!("shown by kind, invoke id and flags alone: {name}"));
}

#[test]
fn what_it_does_not_read_is_shown_by_its_tag_and_is_told() {
    let Some(program) = tshark() else { return };
    let (titled, alone) = (associations(true), tag_alone());
    let mut told = BTreeSet::new();
    for (kind, transports) in titled.iter().zip(shown_of(&program, &titled)) {
        for shown in transports {
            assert_eq!(lacking(kind, &shown), [""; 0], "{}: {shown:?}", kind.name);
            let how = if is_read(&shown) { "read whole" } else { "read up to its title" };
            told.insert(format!("{how}: {} with titles", kind.name));
        }
    }
    for (kind, transports) in alone.iter().zip(shown_of(&program, &alone)) {
        for shown in transports {
            assert_eq!(lacking(kind, &shown), [""; 0], "{}: {shown:?}", kind.name);
            // One that reads it must not find it wrong.
            assert!(is_read(&shown), "{}: {shown:?}", kind.name);
            let names: Vec<_> = shown.keys().filter(|name| name.starts_with("dlms.")).collect();
            if names == ["dlms.apdu", "dlms.wrapper"] {
                told.insert(format!("shown by its tag alone: {}", kind.name));
            }
        }
    }
    told.iter().for_each(|line| println!("{line}"));
}

#[test]
fn associations_are_ber_that_a_foreign_decoder_reads_to_its_end() {
    let Some(program) = tshark() else { return };
    let kinds: Vec<Kind> =
        [associations(true), associations(false), releases()].into_iter().flatten().collect();
    let mut capture = Capture::new(Capture::USER0);
    kinds.iter().for_each(|kind| capture.packet(&kind.apdu));
    let user = "uat:user_dlts:\"User 0 (DLT=147)\",\"ber\",\"0\",\"\",\"0\",\"\"";
    let packets = shown(&program, &capture, None, &["-o", user]);
    assert_eq!(packets.len(), kinds.len());
    for (kind, shown) in kinds.iter().zip(&packets) {
        let class = format!("[APPLICATION {}]", kind.apdu[0] & 0x1f);
        assert!(is_read(shown) && shown.contains_key(&class), "{}: {shown:?}", kind.name);
        let texts: Vec<&String> = shown.values().flatten().collect();
        let is_there = |text: &str| texts.iter().any(|shown| shown.contains(text));
        let releases = matches!(kind.apdu[0], 0x62 | 0x63);
        assert!(releases || is_there("2.16.756.5.8.1.1"), "{}: {shown:?}", kind.name);
    }
}
