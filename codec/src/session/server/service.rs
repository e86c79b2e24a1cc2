//! Get, set and action inside an association.

use alloc::vec::Vec;
use core::time::Duration;

use super::transfer::{BLOCK_HEAD, Incoming, Outgoing, OwnedAttribute, Taken, Transfer, bounded};
use super::{
    Association, Caller, MAX_LONG_ANSWER, MAX_REFERENCES, Objects, Outcome, ServerSession, Stage, Style,
    malformed, not_allowed, not_supported, other_reason, too_long,
};
use crate::apdu::acse::Mechanism;
use crate::apdu::field::{Field, Reader};
use crate::apdu::initiate::Conformance;
use crate::apdu::{
    self, ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse, ActionResponseBody, ActionResult,
    Apdu, DataAccessResult, DataBlock, ExceptionResponse, GetBlock, GetRequest, GetRequestBody, GetResponse,
    GetResponseBody, InvokeId, List, MethodDescriptor, SelectedAttribute, SetRequest, SetRequestBody,
    SetResponse, SetResponseBody,
};
use crate::axdr::{Data, Value, Writer};
use crate::cosem::association::{CLASS, CURRENT, Method};
use crate::cursor::Cursor;
use crate::security::hls::{self, HlsError};
use crate::security::keys::KeyUse;
use crate::security::{CryptoProvider, Scratch};

/// Bytes before the answer of a get or an action that is not in blocks.
const NORMAL_HEAD: usize = 4;

/// An answer in the clear, with whether it is to be sent.
struct Answer {
    outcome: Outcome,
    wanted: bool,
}

impl<P: CryptoProvider> ServerSession<P> {
    /// Takes any APDU but those that open and release.
    pub(super) fn serve(
        &mut self,
        client: u16,
        apdu: &[u8],
        now: Duration,
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ExceptionResponse> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let served = self.serve_with(client, apdu, now, meter, &mut scratch, out);
        self.scratch = scratch;
        if matches!(served, Ok(Outcome::NotAuthenticated)) {
            self.close(client);
        }
        served
    }

    fn serve_with(
        &mut self,
        client: u16,
        apdu: &[u8],
        now: Duration,
        meter: &mut impl Objects,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ExceptionResponse> {
        let epoch = meter.security().epoch();
        if self.find(client)?.is_under_old_keys(epoch) {
            self.close(client);
            return Err(not_allowed());
        }
        let provider = &self.provider;
        let found = self.associations.iter_mut().find(|association| association.caller.client == client);
        let association = found.ok_or(not_allowed())?;
        let (style, plain) = match &mut association.ciphering {
            Some(ciphering) => {
                let (style, plain) = ciphering.receive(provider, client, apdu, meter.security(), scratch)?;
                (Some(style), plain)
            }
            None => (None, apdu),
        };
        association.used = now;
        let request = apdu::parse(plain).map_err(|error| malformed(&error))?;
        let mut answer = Vec::new();
        let is_broadcast = style.is_some_and(|style| style.key == KeyUse::Broadcast);
        if is_broadcast && !matches!(request, Apdu::SetRequest(_) | Apdu::ActionRequest(_)) {
            return Err(not_allowed());
        }
        let done = match request {
            // Whoever has the key of many meters has not proven who he is.
            _ if is_broadcast && matches!(association.stage, Stage::Pending { .. }) => {
                return Err(not_allowed());
            }
            Apdu::ActionRequest(request) if matches!(association.stage, Stage::Pending { .. }) => {
                association.authenticate(provider, &request, meter, &mut answer)?
            }
            _ if matches!(association.stage, Stage::Pending { .. }) => return Err(not_allowed()),
            Apdu::GetRequest(request) => association.get(&request, meter, &mut answer)?,
            Apdu::SetRequest(request) => association.set(&request, meter, &mut answer)?,
            Apdu::ActionRequest(request) => association.act(&request, meter, &mut answer)?,
            _ => return Err(not_supported()),
        };
        if done.wanted && association.confirmed {
            association.send(provider, style, &answer, meter, out)?;
        }
        Ok(done.outcome)
    }
}

impl Association {
    fn is_under_old_keys(&self, epoch: u32) -> bool {
        self.ciphering.as_ref().is_some_and(|ciphering| ciphering.epoch != epoch)
    }

    fn send(
        &mut self,
        provider: &impl CryptoProvider,
        style: Option<Style>,
        answer: &[u8],
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        match (&mut self.ciphering, style) {
            (Some(ciphering), Some(style)) => ciphering.seal(provider, style, answer, meter.security(), out),
            _ => {
                out.extend_from_slice(answer);
                Ok(())
            }
        }
    }

    pub(super) fn needs(&self, service: Conformance) -> Result<(), ExceptionResponse> {
        if self.caller.conformance.contains(service) { Ok(()) } else { Err(not_allowed()) }
    }

    /// Pass 3, answered by pass 4.
    fn authenticate(
        &mut self,
        provider: &impl CryptoProvider,
        request: &ActionRequest<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) -> Result<Answer, ExceptionResponse> {
        let asked = MethodDescriptor {
            class: CLASS,
            instance: CURRENT,
            method: Method::ReplyToHlsAuthentication.number(),
        };
        let ActionRequestBody::Normal(method, Some(parameters)) = request.body else {
            return Err(not_allowed());
        };
        if method != asked {
            return Err(not_allowed());
        }
        let Value::OctetString(theirs) = parameters.value() else {
            return Err(other_reason());
        };
        let proven = self.prove(provider, theirs, meter)?;
        let mut encoded = Vec::new();
        let outcome = match &proven {
            Ok(ours) => {
                Writer::new(&mut encoded).octet_string(ours);
                ActionOutcome { result: ActionResult::Success, data: Some(Ok(Data::checked(&encoded))) }
            }
            Err(_) => ActionOutcome { result: ActionResult::ReadWriteDenied, data: None },
        };
        let body = ActionResponseBody::Normal(outcome);
        ActionResponse { invoke_id: request.invoke_id, body }.emit(answer);
        if proven.is_ok() {
            self.stage = Stage::Open;
        }
        let outcome = if proven.is_ok() { Outcome::Authenticated } else { Outcome::NotAuthenticated };
        Ok(Answer { outcome, wanted: true })
    }

    /// Looks at the client's answer, and only if it is right makes the meter's own.
    fn prove(
        &self,
        provider: &impl CryptoProvider,
        answer: &[u8],
        meter: &mut impl Objects,
    ) -> Result<Result<Vec<u8>, HlsError>, ExceptionResponse> {
        let Stage::Pending { theirs, ours } = &self.stage else {
            return Err(not_allowed());
        };
        let security = meter.security();
        let offer = security.offer(self.caller.client).ok_or(not_allowed())?;
        match (self.caller.mechanism, &self.ciphering) {
            (Mechanism::Manufacturer, _) => {
                let secret = &offer.secret;
                Ok(ours.verify_aes(secret, answer).and_then(|()| hls::answer_aes(secret, theirs)))
            }
            (Mechanism::Gmac, Some(ciphering)) => {
                let (keys, title) = (ciphering.keys.global(), ciphering.incoming.title());
                if let Err(error) = ours.verify_gmac(provider, keys, title, answer) {
                    return Ok(Err(error));
                }
                let invocation = security.take()?;
                let made = hls::answer_gmac(provider, keys, &ciphering.outgoing.title, invocation, theirs);
                Ok(made.map(|made| made.to_vec()))
            }
            _ => Err(not_supported()),
        }
    }

    fn get(
        &mut self,
        request: &GetRequest<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) -> Result<Answer, ExceptionResponse> {
        self.needs(Conformance::GET)?;
        let invoke_id = request.invoke_id;
        match &request.body {
            GetRequestBody::Normal(attribute) => {
                let mut data = Vec::new();
                let result = read(&self.caller, attribute, meter, &mut data);
                match result.and_then(|()| whole(&data)) {
                    Err(result) => emit_get(invoke_id, GetResponseBody::Normal(Err(result)), answer),
                    Ok(value) if NORMAL_HEAD + data.len() <= self.room() => {
                        emit_get(invoke_id, GetResponseBody::Normal(Ok(value)), answer);
                    }
                    Ok(_) => self.get_in_blocks(invoke_id, data, answer)?,
                }
            }
            GetRequestBody::Next(number) => self.get_next(invoke_id, *number, answer),
            GetRequestBody::WithList(attributes) => {
                self.needs(Conformance::MULTIPLE_REFERENCES)?;
                let data = read_all(&self.caller, attributes, meter)?;
                if NORMAL_HEAD + data.len() <= self.room() {
                    answer.extend_from_slice(&[apdu::GET_RESPONSE, 3, invoke_id.0]);
                    answer.extend_from_slice(&data);
                } else {
                    self.get_in_blocks(invoke_id, data, answer)?;
                }
            }
        }
        Ok(Answer { outcome: Outcome::Served, wanted: true })
    }

    fn get_in_blocks(
        &mut self,
        invoke_id: InvokeId,
        data: Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        if !self.caller.conformance.contains(Conformance::BLOCK_TRANSFER_WITH_GET) {
            return Err(too_long());
        }
        self.transfer = Transfer::Get(Outgoing::new(data));
        self.get_next(invoke_id, 0, answer);
        Ok(())
    }

    /// The block behind that number, or why there is none.
    fn get_next(&mut self, invoke_id: InvokeId, number: u32, answer: &mut Vec<u8>) {
        let room = self.room().saturating_sub(BLOCK_HEAD);
        let failed = match &mut self.transfer {
            Transfer::Get(outgoing) => {
                let through = outgoing.is_done();
                if let Some(DataBlock { last, number, raw }) = outgoing.behind(number, room) {
                    let block = GetBlock { last, number, raw: Ok(raw) };
                    return emit_get(invoke_id, GetResponseBody::Block(block), answer);
                }
                if through {
                    DataAccessResult::NoLongGetInProgress
                } else {
                    DataAccessResult::DataBlockNumberInvalid
                }
            }
            _ => DataAccessResult::NoLongGetInProgress,
        };
        self.transfer = Transfer::None;
        emit_get(
            invoke_id,
            GetResponseBody::Block(GetBlock { last: true, number, raw: Err(failed) }),
            answer,
        );
    }

    fn set(
        &mut self,
        request: &SetRequest<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) -> Result<Answer, ExceptionResponse> {
        self.needs(Conformance::SET)?;
        let (long, lists) = (Conformance::BLOCK_TRANSFER_WITH_SET, Conformance::MULTIPLE_REFERENCES);
        let invoke_id = request.invoke_id;
        match &request.body {
            SetRequestBody::Normal(attribute, value) => {
                let result = write(&self.caller, attribute, *value, meter);
                emit_set(invoke_id, SetResponseBody::Normal(result), answer);
            }
            SetRequestBody::WithList(pairs) => {
                self.needs(lists)?;
                if pairs.len() > MAX_REFERENCES {
                    return Err(too_long());
                }
                let one = |(attribute, value)| write(&self.caller, &attribute, value, meter);
                let results: Vec<DataAccessResult> = pairs.iter().map(one).collect();
                emit_set(invoke_id, SetResponseBody::WithList(List::new(&results)), answer);
            }
            SetRequestBody::FirstBlock(attribute, block) => {
                self.needs(long)?;
                let targets = Vec::from([OwnedAttribute::new(attribute)]);
                self.transfer = Transfer::Set(Incoming::new(targets, false));
                self.set_block(invoke_id, block, meter, answer);
            }
            SetRequestBody::WithListFirstBlock(attributes, block) => {
                self.needs(long.union(lists))?;
                let targets = bounded(attributes, |attribute| OwnedAttribute::new(&attribute));
                self.transfer = Transfer::Set(Incoming::new(targets.ok_or(too_long())?, true));
                self.set_block(invoke_id, block, meter, answer);
            }
            SetRequestBody::Block(block) => {
                self.needs(long)?;
                self.set_block(invoke_id, block, meter, answer);
            }
        }
        Ok(Answer { outcome: Outcome::Served, wanted: invoke_id.confirmed() })
    }

    fn set_block(
        &mut self,
        invoke_id: InvokeId,
        block: &DataBlock<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) {
        let taken = match &mut self.transfer {
            Transfer::Set(incoming) => incoming.take(block),
            _ => {
                let failed = DataAccessResult::NoLongSetInProgress;
                return emit_set(invoke_id, SetResponseBody::LastBlock(failed, block.number), answer);
            }
        };
        if taken == Taken::More {
            return emit_set(invoke_id, SetResponseBody::Block(block.number), answer);
        }
        let Transfer::Set(incoming) = core::mem::take(&mut self.transfer) else { return };
        let failed = match taken {
            Taken::WrongNumber => Some(DataAccessResult::DataBlockNumberInvalid),
            Taken::TooLong => Some(DataAccessResult::LongSetAborted),
            Taken::More | Taken::Whole => None,
        };
        let values = values(&incoming.data, incoming.list, incoming.targets.len());
        let results: Vec<DataAccessResult> = match (failed, values) {
            (Some(failed), _) => incoming.targets.iter().map(|_| failed).collect(),
            (None, None) => incoming.targets.iter().map(|_| DataAccessResult::TypeUnmatched).collect(),
            (None, Some(values)) => {
                let pairs = incoming.targets.iter().zip(values);
                pairs.map(|(target, value)| write(&self.caller, &target.borrowed(), value, meter)).collect()
            }
        };
        let body = match (incoming.list, results.first()) {
            (false, Some(result)) => SetResponseBody::LastBlock(*result, block.number),
            _ => SetResponseBody::LastBlockWithList(List::new(&results), block.number),
        };
        emit_set(invoke_id, body, answer);
    }

    fn act(
        &mut self,
        request: &ActionRequest<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) -> Result<Answer, ExceptionResponse> {
        self.needs(Conformance::ACTION)?;
        let (long, lists) = (Conformance::BLOCK_TRANSFER_WITH_ACTION, Conformance::MULTIPLE_REFERENCES);
        let invoke_id = request.invoke_id;
        match &request.body {
            ActionRequestBody::Normal(method, parameters) => {
                let mut data = Vec::new();
                invoke(&self.caller, method, *parameters, meter, &mut data);
                self.acted(invoke_id, false, data, answer)?;
            }
            ActionRequestBody::WithList(pairs) => {
                self.needs(lists)?;
                if pairs.len() > MAX_REFERENCES {
                    return Err(too_long());
                }
                let data = invoke_all(&self.caller, pairs.len(), pairs.iter(), meter)?;
                self.acted(invoke_id, true, data, answer)?;
            }
            ActionRequestBody::FirstBlock(method, block) => {
                self.needs(long)?;
                self.transfer = Transfer::ActionIn(Incoming::new(Vec::from([*method]), false));
                self.act_block(invoke_id, block, meter, answer)?;
            }
            ActionRequestBody::WithListFirstBlock(methods, block) => {
                self.needs(long.union(lists))?;
                let targets = bounded(methods, |method| method).ok_or(too_long())?;
                self.transfer = Transfer::ActionIn(Incoming::new(targets, true));
                self.act_block(invoke_id, block, meter, answer)?;
            }
            ActionRequestBody::Block(block) => {
                self.needs(long)?;
                self.act_block(invoke_id, block, meter, answer)?;
            }
            ActionRequestBody::NextBlock(number) => {
                self.needs(long)?;
                self.act_next(invoke_id, *number, answer);
            }
        }
        Ok(Answer { outcome: Outcome::Served, wanted: invoke_id.confirmed() })
    }

    /// Answers with `data`, which is what follows the invoke id of a response: at once, or in blocks.
    fn acted(
        &mut self,
        invoke_id: InvokeId,
        list: bool,
        data: Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        if NORMAL_HEAD + data.len() <= self.room() {
            answer.extend_from_slice(&[apdu::ACTION_RESPONSE, if list { 3 } else { 1 }, invoke_id.0]);
            answer.extend_from_slice(&data);
            return Ok(());
        }
        if !self.caller.conformance.contains(Conformance::BLOCK_TRANSFER_WITH_ACTION) {
            return Err(too_long());
        }
        self.transfer = Transfer::ActionOut(Outgoing::new(data));
        self.act_next(invoke_id, 0, answer);
        Ok(())
    }

    fn act_block(
        &mut self,
        invoke_id: InvokeId,
        block: &DataBlock<'_>,
        meter: &mut impl Objects,
        answer: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        let taken = match &mut self.transfer {
            Transfer::ActionIn(incoming) => incoming.take(block),
            _ => {
                emit_failed_action(invoke_id, ActionResult::NoLongActionInProgress, answer);
                return Ok(());
            }
        };
        if taken == Taken::More {
            let body = ActionResponseBody::NextBlock(block.number);
            ActionResponse { invoke_id, body }.emit(answer);
            return Ok(());
        }
        let Transfer::ActionIn(incoming) = core::mem::take(&mut self.transfer) else {
            return Err(other_reason());
        };
        let failed = match taken {
            Taken::WrongNumber => Some(ActionResult::DataBlockUnavailable),
            Taken::TooLong => Some(ActionResult::LongActionAborted),
            Taken::More | Taken::Whole => None,
        };
        let values = values(&incoming.data, incoming.list, incoming.targets.len());
        match (failed, values) {
            (Some(failed), _) => emit_failed_action(invoke_id, failed, answer),
            (None, None) => emit_failed_action(invoke_id, ActionResult::TypeUnmatched, answer),
            (None, Some(values)) if incoming.list => {
                let pairs = incoming.targets.into_iter().zip(values);
                let data = invoke_all(&self.caller, pairs.len(), pairs, meter)?;
                self.acted(invoke_id, true, data, answer)?;
            }
            (None, Some(values)) => {
                let mut data = Vec::new();
                for (method, value) in incoming.targets.iter().zip(values) {
                    invoke(&self.caller, method, Some(value), meter, &mut data);
                }
                self.acted(invoke_id, false, data, answer)?;
            }
        }
        Ok(())
    }

    fn act_next(&mut self, invoke_id: InvokeId, number: u32, answer: &mut Vec<u8>) {
        let room = self.room().saturating_sub(BLOCK_HEAD);
        let failed = match &mut self.transfer {
            Transfer::ActionOut(outgoing) => {
                let through = outgoing.is_done();
                if let Some(block) = outgoing.behind(number, room) {
                    return ActionResponse { invoke_id, body: ActionResponseBody::Block(block) }.emit(answer);
                }
                if through {
                    ActionResult::NoLongActionInProgress
                } else {
                    ActionResult::DataBlockUnavailable
                }
            }
            _ => ActionResult::NoLongActionInProgress,
        };
        self.transfer = Transfer::None;
        emit_failed_action(invoke_id, failed, answer);
    }
}

/// Asks for one attribute.
fn read(
    caller: &Caller,
    attribute: &SelectedAttribute<'_>,
    meter: &mut impl Objects,
    out: &mut Vec<u8>,
) -> Result<(), DataAccessResult> {
    let selects = caller.conformance.contains(Conformance::SELECTIVE_ACCESS);
    if attribute.access.is_some() && !selects {
        return Err(DataAccessResult::ScopeOfAccessViolated);
    }
    meter.get(caller, &attribute.attribute, attribute.access.as_ref(), out)
}

/// What the objects wrote must be one value, or it would spoil everything behind it.
fn whole(data: &[u8]) -> Result<Data<'_>, DataAccessResult> {
    let fits = data.len() <= MAX_LONG_ANSWER;
    Data::new(data).ok().filter(|_| fits).ok_or(DataAccessResult::OtherReason)
}

/// The encoded answers to a list.
fn read_all<'a>(
    caller: &Caller,
    attributes: &List<'a, SelectedAttribute<'a>>,
    meter: &mut impl Objects,
) -> Result<Vec<u8>, ExceptionResponse> {
    if attributes.len() > MAX_REFERENCES {
        return Err(too_long());
    }
    let mut answers = Vec::new();
    crate::cursor::write_length(attributes.len(), &mut answers);
    let mut data = Vec::new();
    for attribute in attributes.iter() {
        data.clear();
        let result = read(caller, &attribute, meter, &mut data);
        result.and_then(|()| whole(&data)).write(&mut answers);
        if answers.len() > MAX_LONG_ANSWER {
            return Err(too_long());
        }
    }
    Ok(answers)
}

fn write(
    caller: &Caller,
    attribute: &SelectedAttribute<'_>,
    value: Data<'_>,
    meter: &mut impl Objects,
) -> DataAccessResult {
    let written = meter.set(caller, &attribute.attribute, attribute.access.as_ref(), value);
    written.err().unwrap_or(DataAccessResult::Success)
}

/// Invokes one method and appends its outcome.
fn invoke(
    caller: &Caller,
    method: &MethodDescriptor,
    parameters: Option<Data<'_>>,
    meter: &mut impl Objects,
    out: &mut Vec<u8>,
) {
    let mut data = Vec::new();
    let outcome = match meter.act(caller, method, parameters, &mut data) {
        Err(result) => ActionOutcome { result, data: None },
        Ok(()) if data.is_empty() => ActionOutcome { result: ActionResult::Success, data: None },
        Ok(()) => ActionOutcome { result: ActionResult::Success, data: Some(whole(&data)) },
    };
    outcome.write(out);
}

fn invoke_all<'a>(
    caller: &Caller,
    count: usize,
    pairs: impl Iterator<Item = (MethodDescriptor, Data<'a>)>,
    meter: &mut impl Objects,
) -> Result<Vec<u8>, ExceptionResponse> {
    let mut outcomes = Vec::new();
    crate::cursor::write_length(count, &mut outcomes);
    for (method, value) in pairs {
        // In a list a method without parameters is given null.
        invoke(caller, &method, Some(value), meter, &mut outcomes);
        if outcomes.len() > MAX_LONG_ANSWER {
            return Err(too_long());
        }
    }
    Ok(outcomes)
}

/// The values that came in blocks, if they are as many as there are targets.
fn values(data: &[u8], list: bool, targets: usize) -> Option<Vec<Data<'_>>> {
    if !list {
        return Data::new(data).ok().map(|value| Vec::from([value]));
    }
    let mut reader = Reader::new(Cursor::new(data));
    let values: List<'_, Data<'_>> = reader.field().ok()?;
    let whole = reader.position() == data.len() && values.len() == targets;
    whole.then(|| values.iter().collect())
}

fn emit_get(invoke_id: InvokeId, body: GetResponseBody<'_>, out: &mut Vec<u8>) {
    GetResponse { invoke_id, body }.emit(out);
}

fn emit_set(invoke_id: InvokeId, body: SetResponseBody<'_>, out: &mut Vec<u8>) {
    SetResponse { invoke_id, body }.emit(out);
}

fn emit_failed_action(invoke_id: InvokeId, result: ActionResult, out: &mut Vec<u8>) {
    let body = ActionResponseBody::Normal(ActionOutcome { result, data: None });
    ActionResponse { invoke_id, body }.emit(out);
}
