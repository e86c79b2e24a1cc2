//! Answers that are no response to the service asked for: exception-response and confirmed-service-error.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use super::{CONFIRMED_SERVICE_ERROR, ConfirmedService, EXCEPTION_RESPONSE, InitiateError};
use super::{ServiceErrorCategory, StateError};
use crate::cursor::Cursor;
use crate::error::Error;

/// The meter could not take the request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExceptionResponse {
    /// Whether the service is not allowed or not known.
    pub state: StateError,
    /// What is wrong with it.
    pub service: ServiceError,
}

/// What is wrong with the service, after which the meter says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceError {
    /// It cannot be done.
    OperationNotPossible,
    /// The meter does not have it.
    ServiceNotSupported,
    /// Some other reason.
    OtherReason,
    /// The request or its response is too long.
    PduTooLong,
    /// The ciphering does not fit the keys.
    Deciphering,
    /// The counter of the request is too low: the least that the meter would take.
    InvocationCounter(u32),
    /// A code that is not in the list.
    Other(u8),
}

impl ServiceError {
    const INVOCATION_COUNTER: u8 = 6;

    const fn code(self) -> u8 {
        match self {
            Self::OperationNotPossible => 1,
            Self::ServiceNotSupported => 2,
            Self::OtherReason => 3,
            Self::PduTooLong => 4,
            Self::Deciphering => 5,
            Self::InvocationCounter(_) => Self::INVOCATION_COUNTER,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OperationNotPossible => f.write_str("operation-not-possible"),
            Self::ServiceNotSupported => f.write_str("service-not-supported"),
            Self::OtherReason => f.write_str("other-reason"),
            Self::PduTooLong => f.write_str("pdu-too-long"),
            Self::Deciphering => f.write_str("deciphering-error"),
            Self::InvocationCounter(counter) => write!(f, "invocation-counter-error {counter}"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

impl Field<'_> for ServiceError {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(match reader.field()? {
            1 => Self::OperationNotPossible,
            2 => Self::ServiceNotSupported,
            3 => Self::OtherReason,
            4 => Self::PduTooLong,
            5 => Self::Deciphering,
            Self::INVOCATION_COUNTER => Self::InvocationCounter(reader.field()?),
            other => Self::Other(other),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.code().write(out);
        if let Self::InvocationCounter(counter) = self {
            counter.write(out);
        }
    }
}

impl ExceptionResponse {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'_>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (state, service) = (reader.field()?, reader.field()?);
        reader.end()?;
        Ok(Self { state, service })
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(EXCEPTION_RESPONSE);
        self.state.write(out);
        self.service.write(out);
    }
}

impl fmt::Display for ExceptionResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception-response {}: {}", self.state, self.service)
    }
}

/// The meter refuses a service that it knows; what answers an initiate-request that cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfirmedServiceError {
    /// The refused service.
    pub service: ConfirmedService,
    /// What the error is about.
    pub category: ServiceErrorCategory,
    /// The error, as the category numbers it.
    pub value: u8,
}

impl ConfirmedServiceError {
    #[inline(never)]
    pub(super) fn parse(cursor: Cursor<'_>) -> Result<Self, Error> {
        let mut reader = Reader::new(cursor);
        let (service, category, value) = (reader.field()?, reader.field()?, reader.field()?);
        reader.end()?;
        Ok(Self { service, category, value })
    }

    /// Why the association cannot be opened, if the error is about that.
    #[must_use]
    pub fn initiate_error(&self) -> Option<InitiateError> {
        let about_it = self.category == ServiceErrorCategory::Initiate;
        about_it.then(|| InitiateError::from_code(self.value))
    }

    /// Appends the APDU to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(CONFIRMED_SERVICE_ERROR);
        self.service.write(out);
        self.category.write(out);
        self.value.write(out);
    }
}

impl fmt::Display for ConfirmedServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "confirmed-service-error {} {}: ", self.service, self.category)?;
        match self.initiate_error() {
            Some(error) => error.fmt(f),
            None => write!(f, "code {}", self.value),
        }
    }
}
