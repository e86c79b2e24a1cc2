//! Reading attributes.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use super::{DataAccessResult, GET_REQUEST, GET_RESPONSE, InvokeId, List, SelectedAttribute};
use crate::axdr::Data;
use crate::cursor::Cursor;
use crate::error::Error;

/// A get-request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetRequest<'a> {
    /// Invoke id and flags.
    pub invoke_id: InvokeId,
    /// What is asked for.
    pub body: GetRequestBody<'a>,
}

/// What a [`GetRequest`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetRequestBody<'a> {
    /// One attribute.
    Normal(SelectedAttribute<'a>),
    /// The block behind the one with this number.
    Next(u32),
    /// Several attributes.
    WithList(List<'a, SelectedAttribute<'a>>),
}

impl GetRequestBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(_) => (1, "normal"),
            Self::Next(_) => (2, "next"),
            Self::WithList(_) => (3, "with-list"),
        }
    }
}

impl<'a> GetRequest<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => GetRequestBody::Normal(reader.field()?),
            2 => GetRequestBody::Next(reader.field()?),
            3 => GetRequestBody::WithList(reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[GET_REQUEST, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            GetRequestBody::Normal(attribute) => attribute.write(out),
            GetRequestBody::Next(number) => number.write(out),
            GetRequestBody::WithList(attributes) => attributes.write(out),
        }
    }
}

impl fmt::Display for GetRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get-request-{} {}", self.body.kind().1, self.invoke_id)
    }
}

/// What was read, or why not.
pub type GetResult<'a> = Result<Data<'a>, DataAccessResult>;

/// A get-response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetResponse<'a> {
    /// Invoke id and flags of the request.
    pub invoke_id: InvokeId,
    /// What is answered.
    pub body: GetResponseBody<'a>,
}

/// What a [`GetResponse`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetResponseBody<'a> {
    /// One attribute.
    Normal(GetResult<'a>),
    /// A piece of the encoded answer, or why the long read ends.
    Block(GetBlock<'a>),
    /// Several attributes, in the order of the request.
    WithList(List<'a, GetResult<'a>>),
}

/// A piece of an answer that is too long for one APDU. The pieces make one encoded value, or for a list
/// what would follow the invoke id of a response with list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetBlock<'a> {
    /// No piece follows.
    pub last: bool,
    /// Counts the pieces from 1.
    pub number: u32,
    /// The piece, or why there is none.
    pub raw: Result<&'a [u8], DataAccessResult>,
}

impl<'a> Field<'a> for GetBlock<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (last, number, raw) = (reader.field()?, reader.field()?, reader.field()?);
        Ok(Self { last, number, raw })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.last.write(out);
        self.number.write(out);
        self.raw.write(out);
    }
}

impl GetResponseBody<'_> {
    const fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Normal(_) => (1, "normal"),
            Self::Block(_) => (2, "with-datablock"),
            Self::WithList(_) => (3, "with-list"),
        }
    }
}

impl<'a> GetResponse<'a> {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (choice, unknown) = reader.choice()?;
        let invoke_id = reader.field()?;
        let body = match choice {
            1 => GetResponseBody::Normal(reader.field()?),
            2 => GetResponseBody::Block(reader.field()?),
            3 => GetResponseBody::WithList(reader.field()?),
            _ => return Err(unknown),
        };
        reader.end()?;
        Ok(Self { invoke_id, body })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[GET_RESPONSE, self.body.kind().0]);
        self.invoke_id.write(out);
        match &self.body {
            GetResponseBody::Normal(result) => result.write(out),
            GetResponseBody::Block(block) => block.write(out),
            GetResponseBody::WithList(results) => results.write(out),
        }
    }
}

impl fmt::Display for GetResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get-response-{} {}", self.body.kind().1, self.invoke_id)
    }
}
