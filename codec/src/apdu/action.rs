//! Invoking methods.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use super::{ACTION_REQUEST, ACTION_RESPONSE, ActionResult, DataBlock, GetResult, InvokeId, List};
use super::{MethodDescriptor, Pairs};
use crate::axdr::Data;
use crate::cursor::Cursor;
use crate::error::Error;

/// An action-request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionRequest<'a> {
    /// Invoke id and flags.
    pub invoke_id: InvokeId,
    /// What is to be done.
    pub body: ActionRequestBody<'a>,
}

/// What an [`ActionRequest`] invokes. The pieces of long parameters make one encoded value, or for a list
/// the encoded list of values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ActionRequestBody<'a> {
    /// One method and its parameters, if it has any.
    Normal(MethodDescriptor, Option<Data<'a>>),
    /// The piece of the response behind the one with this number.
    NextBlock(u32),
    /// Several methods, each with its parameters.
    WithList(Pairs<'a, MethodDescriptor>),
    /// One method and the first piece of its parameters.
    FirstBlock(MethodDescriptor, DataBlock<'a>),
    /// Several methods and the first piece of the list of their parameters.
    WithListFirstBlock(List<'a, MethodDescriptor>, DataBlock<'a>),
    /// A further piece.
    Block(DataBlock<'a>),
}

/// Without the parameters, which may be a secret.
impl fmt::Debug for ActionRequestBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, kind) = self.kind();
        match self {
            Self::Normal(method, parameters) => {
                let length = parameters.map_or(0, |parameters| parameters.bytes().len());
                write!(f, "{kind} {method:?}, {length} bytes")
            }
            Self::NextBlock(number) => write!(f, "{kind} {number}"),
            Self::WithList(pairs) => write!(f, "{kind} of {}", pairs.len()),
            Self::FirstBlock(method, block) => write!(f, "{kind} {method:?}, {} bytes", block.raw.len()),
            Self::WithListFirstBlock(methods, block) => {
                write!(f, "{kind} of {}, {} bytes", methods.len(), block.raw.len())
            }
            Self::Block(block) => write!(f, "{kind} {}, {} bytes", block.number, block.raw.len()),
        }
    }
}

impl ActionRequestBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(..) => (1, "normal"),
            Self::NextBlock(_) => (2, "next-pblock"),
            Self::WithList(_) => (3, "with-list"),
            Self::FirstBlock(..) => (4, "with-first-pblock"),
            Self::WithListFirstBlock(..) => (5, "with-list-and-first-pblock"),
            Self::Block(_) => (6, "with-pblock"),
        }
    }
}

impl<'a> ActionRequest<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => ActionRequestBody::Normal(reader.field()?, reader.field()?),
            2 => ActionRequestBody::NextBlock(reader.field()?),
            3 => ActionRequestBody::WithList(reader.field()?),
            4 => ActionRequestBody::FirstBlock(reader.field()?, reader.field()?),
            5 => ActionRequestBody::WithListFirstBlock(reader.field()?, reader.field()?),
            6 => ActionRequestBody::Block(reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[ACTION_REQUEST, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            ActionRequestBody::Normal(method, parameters) => {
                method.write(out);
                parameters.write(out);
            }
            ActionRequestBody::NextBlock(number) => number.write(out),
            ActionRequestBody::WithList(pairs) => pairs.write(out),
            ActionRequestBody::FirstBlock(method, block) => {
                method.write(out);
                block.write(out);
            }
            ActionRequestBody::WithListFirstBlock(methods, block) => {
                methods.write(out);
                block.write(out);
            }
            ActionRequestBody::Block(block) => block.write(out),
        }
    }
}

impl fmt::Display for ActionRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action-request-{} {}", self.body.kind().1, self.invoke_id)
    }
}

/// What came of one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOutcome<'a> {
    /// Whether it was done.
    pub result: ActionResult,
    /// What it returned, if it returns anything.
    pub data: Option<GetResult<'a>>,
}

impl<'a> Field<'a> for ActionOutcome<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (result, data) = (reader.field()?, reader.field()?);
        Ok(Self { result, data })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.result.write(out);
        self.data.write(out);
    }
}

/// An action-response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionResponse<'a> {
    /// Invoke id and flags of the request.
    pub invoke_id: InvokeId,
    /// What came of it.
    pub body: ActionResponseBody<'a>,
}

/// What an [`ActionResponse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResponseBody<'a> {
    /// Of one method.
    Normal(ActionOutcome<'a>),
    /// A piece of the encoded answer.
    Block(DataBlock<'a>),
    /// Of several methods, in the order of the request.
    WithList(List<'a, ActionOutcome<'a>>),
    /// The block with this number is taken; the next one may come.
    NextBlock(u32),
}

impl ActionResponseBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(_) => (1, "normal"),
            Self::Block(_) => (2, "with-pblock"),
            Self::WithList(_) => (3, "with-list"),
            Self::NextBlock(_) => (4, "next-pblock"),
        }
    }
}

impl<'a> ActionResponse<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => ActionResponseBody::Normal(reader.field()?),
            2 => ActionResponseBody::Block(reader.field()?),
            3 => ActionResponseBody::WithList(reader.field()?),
            4 => ActionResponseBody::NextBlock(reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[ACTION_RESPONSE, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            ActionResponseBody::Normal(outcome) => outcome.write(out),
            ActionResponseBody::Block(block) => block.write(out),
            ActionResponseBody::WithList(outcomes) => outcomes.write(out),
            ActionResponseBody::NextBlock(number) => number.write(out),
        }
    }
}

impl fmt::Display for ActionResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action-response-{} {}", self.body.kind().1, self.invoke_id)
    }
}
