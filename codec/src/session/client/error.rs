//! Why an association or a request came to nothing, in words, and what may help.

use core::fmt;

use super::event::Dropped;
use crate::apdu::acse::{ApplicationContext, AssociationResult, Diagnostic, ServiceUser};
use crate::apdu::initiate::Conformance;
use crate::apdu::{
    ActionResult, ConfirmedServiceError, DataAccessResult, ExceptionResponse, ServiceError, StateError,
};
use crate::error::Error as Malformed;
use crate::security::association::{Refusal, SealError};
use crate::security::counter::Exhausted;
use crate::security::hls::HlsError;

/// Why a command was not taken up. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// There is no association yet, or no longer.
    NotAssociated,
    /// There is an association already.
    Associated,
    /// An answer is still waited for.
    Busy,
    /// The meter did not agree to these services.
    NotNegotiated(Conformance),
    /// Longer than the meter takes, and cannot go in blocks.
    TooLong {
        /// Bytes that would have to be sent.
        length: usize,
        /// Bytes that can be.
        room: usize,
    },
    /// A list of nothing, or of more than a list can have.
    List(usize),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAssociated => f.write_str("there is no association"),
            Self::Associated => f.write_str("there is an association already"),
            Self::Busy => f.write_str("an answer is still waited for"),
            Self::NotNegotiated(services) => write!(f, "the meter did not agree to {services}"),
            Self::TooLong { length, room } => {
                write!(f, "{length} bytes are more than the {room} that the meter takes")
            }
            Self::List(count) => write!(f, "a list of {count}"),
        }
    }
}

impl core::error::Error for CommandError {}

/// Why an association or a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The meter refused the association.
    Rejected {
        /// Whether trying again may help.
        result: AssociationResult,
        /// The reason, if it gave one.
        diagnostic: Option<Diagnostic>,
    },
    /// The meter refused a service as a whole.
    Service(ConfirmedServiceError),
    /// The meter could not take the request in.
    Exception(ExceptionResponse),
    /// The attribute was not read or written.
    Access(DataAccessResult),
    /// The method was not done.
    Action(ActionResult),
    /// The meter does not accept the answer to its challenge.
    NotAdmitted(ActionResult),
    /// The meter's answer to the challenge is none.
    Proof(HlsError),
    /// The meter sent the challenge back as its own: whoever it is knows no secret.
    Reflected,
    /// The meter opened the association without the challenge that was asked for.
    NoChallenge,
    /// The meter answered in another context than was asked for.
    Context(ApplicationContext),
    /// The meter has another system title than it should have.
    Title,
    /// The meter does not say its system title, and nobody else knows it.
    TitleMissing,
    /// What should be ciphered in the meter's answer is not, or is not right.
    Unprotected(Refusal),
    /// The meter agreed to nothing that can be used: another version, or short names.
    Version,
    /// No answer came.
    Timeout {
        /// Times that it was sent.
        tries: u8,
        /// The last of what came instead and was dropped.
        dropped: Option<Dropped>,
    },
    /// Too much came that had to be dropped.
    Flooded(Dropped),
    /// The connection ended.
    Disconnected,
    /// The answer makes no sense.
    Malformed(Malformed),
    /// The answer is of another kind than the question.
    Kind,
    /// A block is missing.
    Block {
        /// The number that should have come.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// An answer in blocks is longer than this side takes.
    TooLong,
    /// The meter takes so short APDUs that nothing can be sent.
    NoRoom(u16),
    /// Counters are used up.
    Counter(Exhausted),
    /// This side cannot protect what it would send.
    Seal(SealError),
    /// The association was closed before the answer came.
    Closed,
}

impl Error {
    /// What may help, for the one who has to do something about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Rejected { diagnostic: Some(Diagnostic::User(user)), .. } => match user {
                ServiceUser::AuthenticationFailure => "check the password or secret of this client",
                ServiceUser::ContextNotSupported => "check whether this client speaks ciphered to this meter",
                ServiceUser::MechanismUnknown
                | ServiceUser::MechanismRequired
                | ServiceUser::AuthenticationRequired => {
                    "check which mechanism this client has on this meter"
                }
                _ => "check client address, keys and secret; a meter says no more than this",
            },
            Self::Rejected { result: AssociationResult::RejectedTransient, .. } => {
                "the meter is busy with another client; try again in a minute"
            }
            Self::Rejected { .. } => "check client address, keys and secret; a meter says no more than this",
            Self::Exception(exception) => match exception.service {
                ServiceError::InvocationCounter(_) => {
                    "the sending counter is behind what the meter has seen; read it as public client and associate again"
                }
                ServiceError::Deciphering => "check the global keys and the system title of this client",
                ServiceError::PduTooLong => {
                    "what was asked or its answer is longer than one APDU: ask for less at once, or as a client with block transfer, as the utility client is"
                }
                _ if matches!(exception.state, StateError::ServiceNotAllowed) => {
                    "the meter has no association with this client any more; associate again"
                }
                _ => "the meter does not have this service",
            },
            Self::Service(_) => "propose fewer services or longer APDUs",
            Self::Access(result) => access_hint(*result),
            Self::Action(result) => access_hint(DataAccessResult::from_code(result.code())),
            Self::NotAdmitted(_) => {
                "check the secret of this client, or the keys where the mechanism is GMAC"
            }
            Self::Proof(_) | Self::Reflected | Self::NoChallenge => {
                "whoever answers cannot prove to be the meter; check its secret, then its line"
            }
            Self::Title | Self::TitleMissing => "check the system title that the meter is registered with",
            Self::Unprotected(Refusal::Replay(_)) => {
                "an answer from before came again; if the meter's own counter went back, give it new keys"
            }
            Self::Unprotected(_) => "check the global keys; if they are right, someone else answers",
            Self::Context(_) | Self::Version => {
                "this meter speaks something else than logical names over DLMS 6"
            }
            Self::Timeout { dropped: Some(_), .. } | Self::Flooded(_) => {
                "answers came and were dropped: check the keys, then the line"
            }
            Self::Timeout { .. } => "check whether the meter is in reach and has power",
            Self::Disconnected => "connect again; meters end idle connections after some minutes",
            Self::Malformed(_) | Self::Kind => "report the answer: the meter does not keep to the standard",
            Self::Block { .. } => "ask again; for a smaller range if it repeats",
            Self::TooLong => "ask for a smaller range",
            Self::NoRoom(_) => "the meter must be set to take longer APDUs",
            Self::Counter(_) => "change the key of this meter",
            Self::Seal(_) => "check the keys of this meter",
            Self::Closed => "associate again",
        }
    }
}

const fn access_hint(result: DataAccessResult) -> &'static str {
    match result {
        DataAccessResult::HardwareFault => "the meter says it is broken; send someone",
        DataAccessResult::TemporaryFailure => "try again later",
        DataAccessResult::ReadWriteDenied | DataAccessResult::ScopeOfAccessViolated => {
            "this client may not do that; use the utility client"
        }
        DataAccessResult::ObjectUndefined | DataAccessResult::ObjectUnavailable => {
            "this meter has no such object or attribute"
        }
        DataAccessResult::ObjectClassInconsistent => "the object is of another class; read the object list",
        DataAccessResult::TypeUnmatched => "read the attribute first: it has another type",
        DataAccessResult::DataBlockUnavailable
        | DataAccessResult::LongGetAborted
        | DataAccessResult::NoLongGetInProgress
        | DataAccessResult::LongSetAborted
        | DataAccessResult::NoLongSetInProgress
        | DataAccessResult::DataBlockNumberInvalid => "ask again; for a smaller range if it repeats",
        _ => "the meter says no more than this",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { result, diagnostic: None } => write!(f, "association refused: {result}"),
            Self::Rejected { result, diagnostic: Some(diagnostic) } => {
                write!(f, "association refused: {result}, {diagnostic}")
            }
            Self::Service(error) => error.fmt(f),
            Self::Exception(exception) => exception.fmt(f),
            Self::Access(result) => result.fmt(f),
            Self::Action(result) => result.fmt(f),
            Self::NotAdmitted(result) => {
                write!(f, "the meter does not accept the answer to its challenge: {result}")
            }
            Self::Proof(error) => write!(f, "the meter is not who it should be: {error}"),
            Self::Reflected => f.write_str("the meter sent the challenge back"),
            Self::NoChallenge => f.write_str("the meter sent no challenge"),
            Self::Context(context) => write!(f, "the meter answered in context {context}"),
            Self::Title => f.write_str("the meter has another system title than it should"),
            Self::TitleMissing => f.write_str("the meter does not say its system title"),
            Self::Unprotected(refusal) => write!(f, "the answer is not protected as it should be: {refusal}"),
            Self::Version => f.write_str("the meter does not agree to logical names in version 6"),
            Self::Timeout { tries, dropped: None } => write!(f, "no answer, asked {tries} times"),
            Self::Timeout { tries, dropped: Some(dropped) } => {
                write!(f, "no answer, asked {tries} times; something else came: {dropped}")
            }
            Self::Flooded(dropped) => write!(f, "too much came that is no answer: {dropped}"),
            Self::Disconnected => f.write_str("the connection ended"),
            Self::Malformed(error) => write!(f, "malformed answer: {error}"),
            Self::Kind => f.write_str("the answer is of another kind than the question"),
            Self::Block { expected, found } => write!(f, "block {found} came instead of {expected}"),
            Self::TooLong => f.write_str("the answer is too long"),
            Self::NoRoom(max_pdu) => write!(f, "the meter takes apdus of {max_pdu} bytes only"),
            Self::Counter(exhausted) => exhausted.fmt(f),
            Self::Seal(error) => error.fmt(f),
            Self::Closed => f.write_str("the association was closed before the answer came"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<HlsError> for Error {
    fn from(error: HlsError) -> Self {
        Self::Proof(error)
    }
}

impl From<Exhausted> for Error {
    fn from(exhausted: Exhausted) -> Self {
        Self::Counter(exhausted)
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}
