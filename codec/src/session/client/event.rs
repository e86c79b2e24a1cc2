//! What a client's session has to tell.

use alloc::vec::Vec;
use core::fmt;

use super::error::Error;
use crate::apdu::initiate::Conformance;
use crate::apdu::{ActionResult, DataAccessResult, ExceptionResponse, SYSTEM_TITLE_LEN};
use crate::axdr::Data;
use crate::error::Error as Malformed;
use crate::security::Authentic;
use crate::security::association::Refusal;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The association is open, and both sides proved who they are as far as it asks for that.
    Associated(Negotiated),
    /// What a request brought.
    Answered(RequestId, Answer),
    /// A request came to nothing. The association may go on.
    Failed {
        /// The request.
        request: RequestId,
        /// Why.
        error: Error,
        /// Whether the meter may have done it nevertheless.
        effect: Effect,
    },
    /// The association is over: released where nothing is said, failed otherwise.
    Closed(Option<Error>),
    /// The meter said that the sending counter is behind. It was raised, and the association is opened again, once.
    Resynchronised {
        /// The counter that is sent next.
        next: u32,
    },
    /// Sent again, for want of an answer.
    Repeated,
    /// The meter told something by itself.
    Pushed(Push),
    /// Something came that is no answer; it changed nothing.
    Dropped(Dropped),
}

/// Names a request until its answer; counts up within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// What both sides agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Services that may be used.
    pub conformance: Conformance,
    /// Longest APDU that the meter takes; 0 is no limit.
    pub max_pdu: u16,
    /// System title of the meter, if it said so or it was known.
    pub meter_title: Option<[u8; SYSTEM_TITLE_LEN]>,
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The attribute that was read.
    Value(OwnedData),
    /// The attributes that were read, in the order of the request.
    Values(Vec<Result<OwnedData, DataAccessResult>>),
    /// The attribute was written.
    Written,
    /// What came of writing each attribute, in the order of the request.
    WrittenList(Vec<DataAccessResult>),
    /// The method was done; what it returned.
    Invoked(Option<Result<OwnedData, DataAccessResult>>),
    /// What came of each method, in the order of the request.
    InvokedList(Vec<Outcome>),
}

/// What came of one method of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was done.
    pub result: ActionResult,
    /// What it returned.
    pub data: Option<Result<OwnedData, DataAccessResult>>,
}

/// Whether a request that failed may have changed the meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did not: it was a question, it never left, or the meter itself refused it.
    None,
    /// It may have. Read back before anything else; a second try could do it twice.
    Unknown,
}

/// One value, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedData(Vec<u8>);

impl OwnedData {
    /// The value in bytes.
    ///
    /// # Errors
    /// As [`Data::new`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Data::new(&bytes)?;
        Ok(Self(bytes))
    }

    /// The value.
    #[must_use]
    pub fn data(&self) -> Data<'_> {
        Data::checked(&self.0)
    }
}

impl From<Data<'_>> for OwnedData {
    fn from(data: Data<'_>) -> Self {
        Self(data.bytes().to_vec())
    }
}

impl fmt::Debug for OwnedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data().fmt(f)
    }
}

/// A data-notification or event-notification that came while something else was going on.
#[derive(Clone, PartialEq, Eq)]
pub enum Push {
    /// As it was received, to be judged like any other push: nothing about it was believed here.
    Received(Vec<u8>),
    /// What was under the dedicated key of this association, verified, opened, and not seen before under it: nobody else
    /// could open it, nor later.
    Opened(Authentic<Vec<u8>>),
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(apdu) => write!(f, "Received({} bytes)", apdu.len()),
            Self::Opened(apdu) => write!(f, "Opened({} bytes)", apdu.get().len()),
        }
    }
}

/// Why something that came was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is not protected as it must be.
    Refused(Refusal),
    /// It makes no sense, and nothing proves that it is the meter's.
    Malformed(Malformed),
    /// It answers another question than the last, or one that was answered.
    Late,
    /// Nothing was asked that this APDU, with this tag, could answer.
    Unexpected(u8),
    /// An exception that the receipt of a push may have brought.
    Receipt(ExceptionResponse),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Malformed(error) => error.fmt(f),
            Self::Late => f.write_str("an answer to an earlier question"),
            Self::Unexpected(tag) => write!(f, "apdu 0x{tag:02x} was not asked for"),
            Self::Receipt(exception) => write!(f, "{exception}, which may refuse the receipt of a push"),
        }
    }
}
