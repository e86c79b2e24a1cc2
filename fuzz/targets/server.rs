//! What must hold for a meter's sessions whatever clients send, and what it may take ([`Budget`]): shared by the fuzz target
//! and the test that replays its corpus.

use std::time::Duration;

use codec::apdu::acse::{Aarq, ApplicationContext, Mechanism, Rlrq};
use codec::apdu::initiate::{Conformance, DLMS_VERSION, DedicatedKey, InitiateRequest};
use codec::apdu::{
    self, ActionRequest, ActionRequestBody, ActionResult, Apdu, AttributeDescriptor, DataAccessResult,
    InvokeId, MethodDescriptor, SelectiveAccess,
};
use codec::axdr::{Data, Writer};
use codec::cosem::association::{CLASS, CURRENT};
use codec::cosem::profile_generic::Selection;
use codec::security::RustCrypto;
use codec::security::association::{Envelope, Incoming, Outgoing, Protect};
use codec::security::counter::{RisingCounter, SendCounter};
use codec::security::hls::{self, Secret};
use codec::security::keys::{AssociationKeys, Key, KeyTransfer, KeyUse};
use codec::session::server::{Caller, Objects, Offer, Outcome, ServerSecurity, ServerSession};

use crate::budget::Budget;
use crate::meter::{self, HEAD_END, METER, SECRET};

const CLIENTS: [u16; 5] = [16, 32, 48, 49, 7];
const MAX_PDU: u16 = 750;
/// Most APDUs of one input.
const MAX_STEPS: usize = 64;

struct Toy {
    security: ServerSecurity,
    asked: usize,
    /// Bytes of values that it gave.
    given: usize,
}

impl Objects for Toy {
    fn security(&mut self) -> &mut ServerSecurity {
        &mut self.security
    }

    /// As many bytes as the number of the attribute says, and some of it wrong.
    fn get(
        &mut self,
        _caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        self.asked += 1;
        if matches!(selection.map(SelectiveAccess::of_buffer), Some(Ok(Selection::Range(_)))) {
            return Ok(());
        }
        let length = usize::from(attribute.attribute.unsigned_abs()) * 40;
        let before = out.len();
        Writer::new(out).octet_string(&[7; 128 * 40][..length]);
        self.given += out.len() - before;
        Ok(())
    }

    fn set(
        &mut self,
        _caller: &Caller,
        _attribute: &AttributeDescriptor,
        _selection: Option<&SelectiveAccess<'_>>,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        self.asked += 1;
        assert!(Data::new(value.bytes()).is_ok());
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
        let Some(parameters) = parameters else { return Ok(()) };
        match KeyTransfer::parse(parameters.value()) {
            Some(transfer) => self.security.stage(&transfer).map_err(|_| ActionResult::OtherReason),
            None => {
                let times = method.method.unsigned_abs() % 2 + 1;
                (0..times).for_each(|_| out.extend_from_slice(parameters.bytes()));
                self.given += usize::from(times) * parameters.bytes().len();
                Ok(())
            }
        }
    }
}

/// A connection, and clients that know the keys.
struct Line {
    session: ServerSession<RustCrypto>,
    meter: Toy,
    client: u16,
    counter: u32,
    now: Duration,
    out: Vec<u8>,
    budget: Budget,
}

impl Line {
    fn new() -> Self {
        let offer = |client, mechanism, secret: &[u8]| Offer {
            plain: client < 48,
            ciphered: client > 16,
            ..meter::offer(client, mechanism, secret)
        };
        let offers = vec![
            offer(16, Mechanism::Lowest, b""),
            offer(32, Mechanism::LowLevel, b"password"),
            offer(48, Mechanism::Manufacturer, SECRET),
            offer(49, Mechanism::Gmac, b""),
        ];
        Self {
            session: ServerSession::new(RustCrypto, MAX_PDU, Duration::from_secs(180)),
            meter: Toy { security: meter::security(offers), asked: 0, given: 0 },
            client: 16,
            counter: 1,
            now: Duration::ZERO,
            out: Vec::with_capacity(usize::from(MAX_PDU)),
            budget: Budget::default(),
        }
    }

    fn keys() -> AssociationKeys {
        let mut keys = meter::keys();
        keys.set_dedicated(Some(Key::new([9; 16])));
        keys
    }

    /// Whether the client has an association that ciphers.
    fn ciphered(&self) -> bool {
        self.session.clients().any(|caller| caller.client == self.client && caller.context.ciphered())
    }

    fn send(&mut self, apdu: &[u8]) -> Outcome {
        let known = self.session.clients().any(|caller| caller.client == self.client);
        let (asked, random) = (self.meter.asked, [0x5c; 16]);
        let mut out = std::mem::take(&mut self.out);
        let given = self.meter.given;
        let (session, meter) = (&mut self.session, &mut self.meter);
        let outcome =
            self.budget.measure(|| session.handle(self.client, apdu, self.now, random, meter, &mut out));
        self.budget.check(apdu.len() + self.meter.given - given);
        assert!(known || self.meter.asked == asked, "asked for a client without an association");
        assert!(out.len() <= usize::from(MAX_PDU), "{} bytes", out.len());
        assert!(out.is_empty() || apdu::parse(&out).is_ok(), "what goes out parses: {out:02x?}");
        assert!(self.session.deadline().is_none_or(|deadline| deadline >= self.now));
        self.out = out;
        outcome
    }

    fn sealed(&mut self, key: KeyUse, envelope: Envelope, apdu: &[u8]) -> Option<Vec<u8>> {
        let mut counters = SendCounter::resume(self.counter);
        counters.reserved(u32::MAX);
        self.counter += 1;
        let outgoing = Outgoing { title: HEAD_END, protect: Protect::AuthenticatedEncrypted };
        let mut out = Vec::new();
        let taken = counters.take().ok()?;
        outgoing.seal(&RustCrypto, &Self::keys(), key, envelope, taken, apdu, &mut out).ok()?;
        Some(out)
    }

    /// Opens an association as it should be, with these sizes and services.
    fn open(&mut self, conformance: Conformance, max_pdu: u16) {
        let offer = self.meter.security.offer(self.client);
        let Some(mechanism) = offer.map(|offer| offer.mechanism) else { return };
        let ciphered = self.client > 16;
        let initiate = InitiateRequest {
            dedicated_key: Some(DedicatedKey(&[9; 16])),
            response_allowed: true,
            quality_of_service: None,
            dlms_version: DLMS_VERSION,
            conformance,
            max_pdu,
        };
        let plain = initiate.encode().to_vec();
        let information = match ciphered {
            true => self.sealed(KeyUse::Unicast, Envelope::Service, &plain).unwrap_or_default(),
            false => plain,
        };
        let value: Option<&[u8]> = match self.client {
            16 => None,
            32 => Some(b"password"),
            _ => Some(&[0x77; 16]),
        };
        let mut aarq = Vec::new();
        Aarq {
            context: match ciphered {
                true => ApplicationContext::LogicalNameCiphered,
                false => ApplicationContext::LogicalName,
            },
            calling_ap_title: ciphered.then_some(&HEAD_END),
            mechanism,
            authentication_value: value,
            user_information: Some(&information),
        }
        .emit(&mut aarq);
        if self.send(&aarq) == (Outcome::Opened { pending: true }) {
            self.prove();
        }
    }

    fn prove(&mut self) {
        let Ok(Apdu::AssociationResponse(aare)) = apdu::parse(&self.out) else { return };
        let Some(challenge) = aare.authentication_value.map(<[u8]>::to_vec) else { return };
        let mut counters = SendCounter::resume(self.counter);
        counters.reserved(u32::MAX);
        let proof = match (self.client, counters.take()) {
            (49, Ok(taken)) => {
                self.counter += 1;
                hls::answer_gmac(&RustCrypto, &meter::global_keys(), &HEAD_END, taken, &challenge)
                    .map(|proof| proof.to_vec())
            }
            _ => hls::answer_aes(&Secret::new(SECRET.to_vec()), &challenge),
        };
        let mut data = Vec::new();
        Writer::new(&mut data).octet_string(&proof.unwrap_or_default());
        let method = MethodDescriptor { class: CLASS, instance: CURRENT, method: 1 };
        let body = ActionRequestBody::Normal(method, Data::new(&data).ok());
        let mut request = Vec::new();
        ActionRequest { invoke_id: InvokeId::new(1, true, true), body }.emit(&mut request);
        let sealed = self.sealed(KeyUse::Unicast, Envelope::Service, &request).unwrap_or_default();
        self.send(&sealed);
    }

    /// A service of an authentic client, in any wrapping; and the answer opens under the same keys.
    fn service(&mut self, style: u8, apdu: &[u8]) {
        if !self.ciphered() {
            self.send(apdu);
            return;
        }
        let key = if style & 1 == 0 { KeyUse::Unicast } else { KeyUse::Dedicated };
        let envelope = if style & 2 == 0 { Envelope::General } else { Envelope::Service };
        let Some(sealed) = self.sealed(key, envelope, apdu) else { return };
        if self.send(&sealed) == Outcome::Served && !self.out.is_empty() {
            let mut incoming = Incoming::new(METER, Protect::AuthenticatedEncrypted, RisingCounter::new());
            let mut scratch = codec::security::Scratch::new();
            let opened = incoming.receive(&RustCrypto, &Self::keys(), &self.out, &mut scratch);
            assert!(opened.is_ok_and(|opened| opened.key == key), "answered in the style of the request");
        }
    }
}

/// Steps of clients with and without keys: an operation, and what belongs to it.
pub(crate) fn server(bytes: &[u8]) {
    let mut line = Line::new();
    let mut rest = bytes;
    for _ in 0..MAX_STEPS {
        let Some((&[operation, detail], behind)) = rest.split_first_chunk() else { return };
        let (apdu, after) = behind.split_at(behind.len().min(usize::from(detail)));
        match operation % 8 {
            0 => {
                line.client = CLIENTS[usize::from(detail) % CLIENTS.len()];
                rest = behind;
            }
            1 => {
                let (conformance, max_pdu) = match detail % 4 {
                    0 => ([0xff; 3], 0),
                    1 => ([0xff; 3], 64),
                    2 => ([0x00, 0x10, 0x14], 300),
                    _ => ([0x00, 0x18, 0x1d], 750),
                };
                line.open(Conformance::from_bytes(conformance), max_pdu);
                rest = behind;
            }
            2 => {
                line.now += Duration::from_secs(u64::from(detail));
                rest = behind;
            }
            3 => {
                let mut rlrq = Vec::new();
                Rlrq { reason: None, user_information: None }.emit(&mut rlrq);
                line.send(&rlrq);
                rest = behind;
            }
            4 => {
                line.send(apdu);
                rest = after;
            }
            style => {
                line.service(style, apdu);
                rest = after;
            }
        }
    }
}
