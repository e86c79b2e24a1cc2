//! One request, from the first APDU to the last: answers at once, in blocks, and values that are sent in blocks.

use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::error::Error;
use super::event::{Answer, Dropped, Effect, Outcome, OwnedData, RequestId};
use crate::apdu::{
    self, ACTION_RESPONSE, ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse,
    ActionResponseBody, ActionResult, Apdu, DataAccessResult, DataBlock, GET_RESPONSE, GetBlock, GetRequest,
    GetRequestBody, GetResponse, GetResponseBody, GetResult, InvokeId, SetRequest, SetRequestBody,
    SetResponse, SetResponseBody,
};
use crate::axdr::Data;

/// Most bytes of an answer in blocks.
pub(super) const MAX_ANSWER: usize = 1 << 20;

/// A request whose last APDU was sent or is about to be.
pub(super) struct Request {
    pub(super) id: RequestId,
    invoke: InvokeId,
    phase: Phase,
    /// What is sent, and sent again, in the clear. It may hold a password that is to be written.
    plain: Zeroizing<Vec<u8>>,
}

/// What is waited for. A list has its length, so that its answer can be told from another's.
enum Phase {
    Get { list: Option<usize> },
    GetBlock { list: Option<usize>, got: Assembly },
    Set { list: Option<usize> },
    SetBlock { list: Option<usize>, left: Upload },
    Action { list: Option<usize> },
    ActionBlock { list: Option<usize>, left: Upload },
    Result { list: Option<usize>, got: Assembly },
}

/// The blocks of an answer so far.
struct Assembly {
    bytes: Vec<u8>,
    /// The number of the last one.
    number: u32,
}

/// A value that goes out in blocks.
struct Upload {
    bytes: Zeroizing<Vec<u8>>,
    sent: usize,
    /// The number of the last block.
    number: u32,
    room: usize,
}

/// What an answer leads to.
pub(super) enum Next {
    /// The next APDU of the request is to be sent.
    Send(Request),
    /// It was no answer to this.
    Wait(Request, Dropped),
    Done(Result<Answer, Error>, Effect),
}

impl Request {
    pub(super) fn get(id: RequestId, invoke: InvokeId, list: Option<usize>, plain: Vec<u8>) -> Self {
        Self { id, invoke, phase: Phase::Get { list }, plain: Zeroizing::new(plain) }
    }

    pub(super) fn set(id: RequestId, invoke: InvokeId, list: Option<usize>, plain: Vec<u8>) -> Self {
        Self { id, invoke, phase: Phase::Set { list }, plain: Zeroizing::new(plain) }
    }

    pub(super) fn action(id: RequestId, invoke: InvokeId, list: Option<usize>, plain: Vec<u8>) -> Self {
        Self { id, invoke, phase: Phase::Action { list }, plain: Zeroizing::new(plain) }
    }

    /// A set whose value goes out in blocks of `room` bytes; `first` makes its first request.
    pub(super) fn set_in_blocks(
        id: RequestId,
        invoke: InvokeId,
        list: Option<usize>,
        (value, room): (Vec<u8>, Rooms),
        first: impl FnOnce(DataBlock<'_>) -> Vec<u8>,
    ) -> Self {
        let (left, plain) = Upload::start(value, room, first);
        Self { id, invoke, phase: Phase::SetBlock { list, left }, plain: Zeroizing::new(plain) }
    }

    /// As [`set_in_blocks`](Self::set_in_blocks), for an action.
    pub(super) fn action_in_blocks(
        id: RequestId,
        invoke: InvokeId,
        list: Option<usize>,
        (value, room): (Vec<u8>, Rooms),
        first: impl FnOnce(DataBlock<'_>) -> Vec<u8>,
    ) -> Self {
        let (left, plain) = Upload::start(value, room, first);
        Self { id, invoke, phase: Phase::ActionBlock { list, left }, plain: Zeroizing::new(plain) }
    }

    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Whether it may be sent again when no answer comes: a question may.
    pub(super) const fn repeatable(&self) -> bool {
        matches!(self.phase, Phase::Get { .. } | Phase::GetBlock { .. })
    }

    /// Whether all of it could begin anew in another association.
    pub(super) const fn restartable(&self) -> bool {
        matches!(self.phase, Phase::Get { .. })
    }

    /// What may have happened when it ends here without an answer that was proven.
    pub(super) fn effect(&self) -> Effect {
        match &self.phase {
            Phase::Get { .. } | Phase::GetBlock { .. } => Effect::None,
            Phase::SetBlock { left, .. } | Phase::ActionBlock { left, .. } if !left.finished() => {
                Effect::None
            }
            _ => Effect::Unknown,
        }
    }

    /// What happened before what it is about to send: nothing, unless the answer is on its way in blocks already.
    pub(super) const fn effect_before(&self) -> Effect {
        match &self.phase {
            Phase::Result { .. } => Effect::Unknown,
            _ => Effect::None,
        }
    }

    /// Takes an answer.
    pub(super) fn handle(self, answer: Apdu<'_>, tag: u8) -> Next {
        match answer {
            Apdu::GetResponse(response) if response.invoke_id.id() == self.invoke.id() => self.got(response),
            Apdu::SetResponse(response) if response.invoke_id.id() == self.invoke.id() => {
                self.was_set(response)
            }
            Apdu::ActionResponse(response) if response.invoke_id.id() == self.invoke.id() => {
                self.was_invoked(response)
            }
            Apdu::GetResponse(_) | Apdu::SetResponse(_) | Apdu::ActionResponse(_) => {
                Next::Wait(self, Dropped::Late)
            }
            _ => Next::Wait(self, Dropped::Unexpected(tag)),
        }
    }

    fn got(mut self, response: GetResponse<'_>) -> Next {
        match (self.phase, response.body) {
            (Phase::Get { list: None }, GetResponseBody::Normal(result)) => Next::read(value(result)),
            // Meters that cannot answer a list at all say so as if it were one attribute.
            (Phase::Get { .. } | Phase::GetBlock { .. }, GetResponseBody::Normal(Err(result))) => {
                Next::read(Err(Error::Access(result)))
            }
            (Phase::Get { list: Some(count) }, GetResponseBody::WithList(results))
                if results.len() == count =>
            {
                Next::read(Ok(Answer::Values(results.iter().map(owned).collect())))
            }
            (Phase::Get { list }, GetResponseBody::Block(block)) => {
                self.phase = Phase::GetBlock { list, got: Assembly::new() };
                self.got_block(block)
            }
            (phase @ Phase::GetBlock { .. }, GetResponseBody::Block(block)) => {
                self.phase = phase;
                self.got_block(block)
            }
            (phase, _) => Next::Done(Err(Error::Kind), phase_effect(&phase)),
        }
    }

    fn got_block(mut self, block: GetBlock<'_>) -> Next {
        let Phase::GetBlock { list, mut got } = self.phase else {
            return Next::Done(Err(Error::Kind), Effect::None);
        };
        // A refusal bears the number that was asked with, a block the one behind it.
        let expected = if block.raw.is_ok() { got.number.saturating_add(1) } else { got.number };
        if block.number < expected {
            // The question was sent again, and both were answered.
            self.phase = Phase::GetBlock { list, got };
            return Next::Wait(self, Dropped::Late);
        }
        let raw = match block.raw {
            Ok(raw) => raw,
            Err(result) => return Next::read(Err(Error::Access(result))),
        };
        if let Err(error) = got.extend(block.number, raw) {
            return Next::read(Err(error));
        }
        if block.last {
            return Next::read(read_assembled(list, self.invoke, got.bytes));
        }
        self.plain = Zeroizing::default();
        let body = GetRequestBody::Next(block.number);
        GetRequest { invoke_id: self.invoke, body }.emit(&mut self.plain);
        self.phase = Phase::GetBlock { list, got };
        Next::Send(self)
    }

    fn was_set(mut self, response: SetResponse<'_>) -> Next {
        let written = |result| match result {
            DataAccessResult::Success => Next::Done(Ok(Answer::Written), Effect::None),
            refused => Next::Done(Err(Error::Access(refused)), Effect::None),
        };
        match (self.phase, response.body) {
            (Phase::Set { list: None }, SetResponseBody::Normal(result)) => written(result),
            (Phase::Set { list: Some(count) }, SetResponseBody::WithList(results))
                if results.len() == count =>
            {
                Next::Done(Ok(Answer::WrittenList(results.iter().collect())), Effect::None)
            }
            (Phase::SetBlock { list: None, left }, SetResponseBody::LastBlock(result, _))
                if left.finished() =>
            {
                written(result)
            }
            (Phase::SetBlock { list: Some(count), left }, SetResponseBody::LastBlockWithList(results, _))
                if left.finished() && results.len() == count =>
            {
                Next::Done(Ok(Answer::WrittenList(results.iter().collect())), Effect::None)
            }
            // Given up on the way.
            (Phase::SetBlock { .. }, SetResponseBody::LastBlock(result, _))
            | (Phase::Set { .. } | Phase::SetBlock { .. }, SetResponseBody::Normal(result))
                if result != DataAccessResult::Success =>
            {
                written(result)
            }
            (Phase::SetBlock { list, left }, SetResponseBody::Block(number)) => {
                match left.proceed(number, |block| {
                    let mut out = Vec::new();
                    SetRequest { invoke_id: self.invoke, body: SetRequestBody::Block(block) }.emit(&mut out);
                    out
                }) {
                    Step::Next(left, plain) => {
                        self.phase = Phase::SetBlock { list, left };
                        self.plain = Zeroizing::new(plain);
                        Next::Send(self)
                    }
                    Step::Repeated(left) => {
                        self.phase = Phase::SetBlock { list, left };
                        Next::Wait(self, Dropped::Late)
                    }
                    Step::Fault(error, effect) => Next::Done(Err(error), effect),
                }
            }
            (phase, _) => Next::Done(Err(Error::Kind), phase_effect(&phase)),
        }
    }

    fn was_invoked(mut self, response: ActionResponse<'_>) -> Next {
        match (self.phase, response.body) {
            (Phase::Action { list: None }, ActionResponseBody::Normal(outcome)) => invoked(outcome),
            (Phase::ActionBlock { list: None, left }, ActionResponseBody::Normal(outcome))
                if left.finished() =>
            {
                invoked(outcome)
            }
            // Refused as a whole, or on the way.
            (Phase::Action { .. } | Phase::ActionBlock { .. }, ActionResponseBody::Normal(outcome))
                if outcome.result != ActionResult::Success =>
            {
                invoked(outcome)
            }
            (Phase::Action { list: Some(count) }, ActionResponseBody::WithList(outcomes))
                if outcomes.len() == count =>
            {
                Next::Done(Ok(Answer::InvokedList(outcomes.iter().map(outcome_of).collect())), Effect::None)
            }
            (Phase::ActionBlock { list: Some(count), left }, ActionResponseBody::WithList(outcomes))
                if left.finished() && outcomes.len() == count =>
            {
                Next::Done(Ok(Answer::InvokedList(outcomes.iter().map(outcome_of).collect())), Effect::None)
            }
            (Phase::ActionBlock { list, left }, ActionResponseBody::NextBlock(number)) => {
                match left.proceed(number, |block| {
                    let mut out = Vec::new();
                    let body = ActionRequestBody::Block(block);
                    ActionRequest { invoke_id: self.invoke, body }.emit(&mut out);
                    out
                }) {
                    Step::Next(left, plain) => {
                        self.phase = Phase::ActionBlock { list, left };
                        self.plain = Zeroizing::new(plain);
                        Next::Send(self)
                    }
                    Step::Repeated(left) => {
                        self.phase = Phase::ActionBlock { list, left };
                        Next::Wait(self, Dropped::Late)
                    }
                    Step::Fault(error, effect) => Next::Done(Err(error), effect),
                }
            }
            (Phase::Action { list }, ActionResponseBody::Block(block)) => {
                self.phase = Phase::Result { list, got: Assembly::new() };
                self.result_block(block)
            }
            (Phase::ActionBlock { list, left }, ActionResponseBody::Block(block)) if left.finished() => {
                self.phase = Phase::Result { list, got: Assembly::new() };
                self.result_block(block)
            }
            (phase @ Phase::Result { .. }, ActionResponseBody::Block(block)) => {
                self.phase = phase;
                self.result_block(block)
            }
            (phase, _) => Next::Done(Err(Error::Kind), phase_effect(&phase)),
        }
    }

    fn result_block(mut self, block: DataBlock<'_>) -> Next {
        let Phase::Result { list, mut got } = self.phase else {
            return Next::Done(Err(Error::Kind), Effect::Unknown);
        };
        if block.number <= got.number {
            self.phase = Phase::Result { list, got };
            return Next::Wait(self, Dropped::Late);
        }
        if let Err(error) = got.extend(block.number, block.raw) {
            return Next::Done(Err(error), Effect::Unknown);
        }
        if block.last {
            return result_assembled(list, self.invoke, got.bytes);
        }
        self.plain = Zeroizing::default();
        let body = ActionRequestBody::NextBlock(block.number);
        ActionRequest { invoke_id: self.invoke, body }.emit(&mut self.plain);
        self.phase = Phase::Result { list, got };
        Next::Send(self)
    }
}

const fn phase_effect(phase: &Phase) -> Effect {
    match phase {
        Phase::Get { .. } | Phase::GetBlock { .. } => Effect::None,
        _ => Effect::Unknown,
    }
}

impl Next {
    /// The end of a question.
    const fn read(result: Result<Answer, Error>) -> Self {
        Self::Done(result, Effect::None)
    }
}

impl Assembly {
    const fn new() -> Self {
        Self { bytes: Vec::new(), number: 0 }
    }

    fn extend(&mut self, number: u32, raw: &[u8]) -> Result<(), Error> {
        let expected = self.number.saturating_add(1);
        if number != expected {
            return Err(Error::Block { expected, found: number });
        }
        if self.bytes.len() + raw.len() > MAX_ANSWER {
            return Err(Error::TooLong);
        }
        self.bytes.extend_from_slice(raw);
        self.number = number;
        Ok(())
    }
}

/// Bytes of a value that fit the first block, which also names what is written, and the others.
#[derive(Clone, Copy)]
pub(super) struct Rooms {
    pub(super) first: usize,
    pub(super) other: usize,
}

enum Step {
    Next(Upload, Vec<u8>),
    /// The block was confirmed before.
    Repeated(Upload),
    Fault(Error, Effect),
}

impl Upload {
    fn start(bytes: Vec<u8>, room: Rooms, first: impl FnOnce(DataBlock<'_>) -> Vec<u8>) -> (Self, Vec<u8>) {
        let mut upload = Self { bytes: Zeroizing::new(bytes), sent: 0, number: 0, room: room.first };
        let plain = upload.next_block(first);
        upload.room = room.other;
        (upload, plain)
    }

    fn next_block(&mut self, emit: impl FnOnce(DataBlock<'_>) -> Vec<u8>) -> Vec<u8> {
        let (_, left) = self.bytes.split_at(self.sent);
        let length = left.len().min(self.room);
        self.sent += length;
        self.number = self.number.saturating_add(1);
        let (raw, rest) = left.split_at(length);
        emit(DataBlock { last: rest.is_empty(), number: self.number, raw })
    }

    fn finished(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// The meter took the block with this number.
    fn proceed(mut self, number: u32, emit: impl FnOnce(DataBlock<'_>) -> Vec<u8>) -> Step {
        if number < self.number {
            return Step::Repeated(self);
        }
        let effect = if self.finished() { Effect::Unknown } else { Effect::None };
        if number > self.number {
            return Step::Fault(Error::Block { expected: self.number, found: number }, effect);
        }
        if self.finished() {
            return Step::Fault(Error::Kind, effect);
        }
        let plain = self.next_block(emit);
        Step::Next(self, plain)
    }
}

fn owned(result: GetResult<'_>) -> Result<OwnedData, DataAccessResult> {
    result.map(OwnedData::from)
}

fn value(result: GetResult<'_>) -> Result<Answer, Error> {
    result.map(|data| Answer::Value(data.into())).map_err(Error::Access)
}

fn outcome_of(outcome: ActionOutcome<'_>) -> Outcome {
    Outcome { result: outcome.result, data: outcome.data.map(owned) }
}

fn invoked(outcome: ActionOutcome<'_>) -> Next {
    match outcome.result {
        ActionResult::Success => Next::Done(Ok(Answer::Invoked(outcome.data.map(owned))), Effect::None),
        refused => Next::Done(Err(Error::Action(refused)), Effect::None),
    }
}

/// The blocks make one value, or what would follow the invoke id of a response with list.
fn read_assembled(list: Option<usize>, invoke: InvokeId, bytes: Vec<u8>) -> Result<Answer, Error> {
    let Some(count) = list else {
        return OwnedData::new(bytes).map(Answer::Value).map_err(Error::Malformed);
    };
    let mut whole = vec![GET_RESPONSE, 3, invoke.0];
    whole.extend_from_slice(&bytes);
    match apdu::parse(&whole)? {
        Apdu::GetResponse(GetResponse { body: GetResponseBody::WithList(results), .. })
            if results.len() == count =>
        {
            Ok(Answer::Values(results.iter().map(owned).collect()))
        }
        _ => Err(Error::Kind),
    }
}

/// The blocks make what would follow the invoke id; some meters send the returned value alone (unconfirmed).
fn result_assembled(list: Option<usize>, invoke: InvokeId, bytes: Vec<u8>) -> Next {
    let kind = if list.is_some() { 3 } else { 1 };
    let mut whole = vec![ACTION_RESPONSE, kind, invoke.0];
    whole.extend_from_slice(&bytes);
    match (apdu::parse(&whole), list) {
        (
            Ok(Apdu::ActionResponse(ActionResponse { body: ActionResponseBody::Normal(outcome), .. })),
            None,
        ) => invoked(outcome),
        (
            Ok(Apdu::ActionResponse(ActionResponse { body: ActionResponseBody::WithList(outcomes), .. })),
            Some(count),
        ) if outcomes.len() == count => {
            Next::Done(Ok(Answer::InvokedList(outcomes.iter().map(outcome_of).collect())), Effect::None)
        }
        (_, None) => match Data::new(&bytes) {
            Ok(data) => Next::Done(Ok(Answer::Invoked(Some(Ok(data.into())))), Effect::None),
            Err(error) => Next::Done(Err(error.into()), Effect::Unknown),
        },
        (Err(error), _) => Next::Done(Err(error.into()), Effect::Unknown),
        (Ok(_), _) => Next::Done(Err(Error::Kind), Effect::Unknown),
    }
}
