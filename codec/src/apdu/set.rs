//! Writing attributes.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use super::{
    DataAccessResult, DataBlock, InvokeId, List, Pairs, SET_REQUEST, SET_RESPONSE, SelectedAttribute,
};
use crate::axdr::Data;
use crate::cursor::Cursor;
use crate::error::Error;

/// A set-request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRequest<'a> {
    /// Invoke id and flags.
    pub invoke_id: InvokeId,
    /// What is to be written.
    pub body: SetRequestBody<'a>,
}

/// What a [`SetRequest`] writes. The pieces of a long write make one encoded value, or for a list the
/// encoded list of values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SetRequestBody<'a> {
    /// One attribute and its value.
    Normal(SelectedAttribute<'a>, Data<'a>),
    /// One attribute and the first piece of its value.
    FirstBlock(SelectedAttribute<'a>, DataBlock<'a>),
    /// A further piece.
    Block(DataBlock<'a>),
    /// Several attributes, each with its value.
    WithList(Pairs<'a, SelectedAttribute<'a>>),
    /// Several attributes and the first piece of the list of their values.
    WithListFirstBlock(List<'a, SelectedAttribute<'a>>, DataBlock<'a>),
}

/// Without the values, one of which may be a password.
impl fmt::Debug for SetRequestBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, kind) = self.kind();
        match self {
            Self::Normal(attribute, value) => {
                write!(f, "{kind} {:?}, {} bytes", attribute.attribute, value.bytes().len())
            }
            Self::FirstBlock(attribute, block) => {
                write!(f, "{kind} {:?}, {} bytes", attribute.attribute, block.raw.len())
            }
            Self::Block(block) => write!(f, "{kind} {}, {} bytes", block.number, block.raw.len()),
            Self::WithList(pairs) => write!(f, "{kind} of {}", pairs.len()),
            Self::WithListFirstBlock(attributes, block) => {
                write!(f, "{kind} of {}, {} bytes", attributes.len(), block.raw.len())
            }
        }
    }
}

impl SetRequestBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(..) => (1, "normal"),
            Self::FirstBlock(..) => (2, "with-first-datablock"),
            Self::Block(_) => (3, "with-datablock"),
            Self::WithList(_) => (4, "with-list"),
            Self::WithListFirstBlock(..) => (5, "with-list-and-first-datablock"),
        }
    }
}

impl<'a> SetRequest<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => SetRequestBody::Normal(reader.field()?, reader.field()?),
            2 => SetRequestBody::FirstBlock(reader.field()?, reader.field()?),
            3 => SetRequestBody::Block(reader.field()?),
            4 => SetRequestBody::WithList(reader.field()?),
            5 => SetRequestBody::WithListFirstBlock(reader.field()?, reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[SET_REQUEST, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            SetRequestBody::Normal(attribute, value) => {
                attribute.write(out);
                value.write(out);
            }
            SetRequestBody::FirstBlock(attribute, block) => {
                attribute.write(out);
                block.write(out);
            }
            SetRequestBody::Block(block) => block.write(out),
            SetRequestBody::WithList(pairs) => pairs.write(out),
            SetRequestBody::WithListFirstBlock(attributes, block) => {
                attributes.write(out);
                block.write(out);
            }
        }
    }
}

impl fmt::Display for SetRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set-request-{} {}", self.body.kind().1, self.invoke_id)
    }
}

/// A set-response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetResponse<'a> {
    /// Invoke id and flags of the request.
    pub invoke_id: InvokeId,
    /// What came of it.
    pub body: SetResponseBody<'a>,
}

/// What a [`SetResponse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetResponseBody<'a> {
    /// Of one attribute.
    Normal(DataAccessResult),
    /// The block with this number is taken; the next one may come.
    Block(u32),
    /// Of one attribute, after the block with this number, which was the last.
    LastBlock(DataAccessResult, u32),
    /// Of several attributes, after the block with this number, which was the last.
    LastBlockWithList(List<'a, DataAccessResult>, u32),
    /// Of several attributes, in the order of the request.
    WithList(List<'a, DataAccessResult>),
}

impl SetResponseBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(_) => (1, "normal"),
            Self::Block(_) => (2, "datablock"),
            Self::LastBlock(..) => (3, "last-datablock"),
            Self::LastBlockWithList(..) => (4, "last-datablock-with-list"),
            Self::WithList(_) => (5, "with-list"),
        }
    }
}

impl<'a> SetResponse<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => SetResponseBody::Normal(reader.field()?),
            2 => SetResponseBody::Block(reader.field()?),
            3 => SetResponseBody::LastBlock(reader.field()?, reader.field()?),
            4 => SetResponseBody::LastBlockWithList(reader.field()?, reader.field()?),
            5 => SetResponseBody::WithList(reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[SET_RESPONSE, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            SetResponseBody::Normal(result) => result.write(out),
            SetResponseBody::Block(number) => number.write(out),
            SetResponseBody::LastBlock(result, number) => {
                result.write(out);
                number.write(out);
            }
            SetResponseBody::LastBlockWithList(results, number) => {
                results.write(out);
                number.write(out);
            }
            SetResponseBody::WithList(results) => results.write(out),
        }
    }
}

impl fmt::Display for SetResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set-response-{} {}", self.body.kind().1, self.invoke_id)
    }
}
