//! Opening an association: AARQ and AARE, then passes 3 and 4 where both sides prove who they are.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::State;
use super::channel::{Channel, SealFault, Under};
use super::config::{Authentication, Config};
use super::error::Error;
use super::event::{Dropped, Negotiated};
use super::request::Request;
use crate::apdu::acse::{Aare, Aarq, AssociationResult};
use crate::apdu::initiate::{DLMS_VERSION, DedicatedKey, InitiateRequest, InitiateResponse};
use crate::apdu::{
    self, ActionRequest, ActionRequestBody, ActionResponseBody, ActionResult, Apdu, InvokeId,
    MethodDescriptor, SYSTEM_TITLE_LEN, ServiceError,
};
use crate::axdr::{Data, Value, Writer};
use crate::cosem::{ClassId, LogicalName};
use crate::security::hls::{CHALLENGE_LEN, Challenge, HlsError, MAX_CHALLENGE, answer_aes, answer_gmac};
use crate::security::{CryptoProvider, KEY_LEN};

/// Random bytes that an association takes: challenge and dedicated key, twice.
pub const RANDOM_LEN: usize = 2 * PART;
const PART: usize = CHALLENGE_LEN + KEY_LEN;

/// The association that one is in, whatever its own name.
const CURRENT_ASSOCIATION: LogicalName = LogicalName([0, 0, 40, 0, 0, 255]);
const REPLY_TO_HLS: MethodDescriptor =
    MethodDescriptor { class: ClassId(15), instance: CURRENT_ASSOCIATION, method: 1 };
/// No request of the caller is under way then, so any id will do.
const HLS_INVOKE: InvokeId = InvokeId::new(0, true, true);

/// An AARQ that is due or was sent.
pub(super) struct Opening {
    challenge: Challenge,
    dedicated: Zeroizing<[u8; KEY_LEN]>,
    /// For a second attempt with the counter that the meter wants.
    spare: Option<Zeroizing<[u8; PART]>>,
    /// What is to be asked again then.
    pub(super) then: Option<Request>,
}

/// Pass 3 that is due or was sent.
pub(super) struct Proving {
    challenge: Challenge,
    theirs: Vec<u8>,
    title: Option<[u8; SYSTEM_TITLE_LEN]>,
    negotiated: Negotiated,
    again: Option<Opening>,
    pub(super) then: Option<Request>,
}

/// What an answer leads to.
pub(super) enum Verdict {
    Prove(Proving),
    Open {
        negotiated: Negotiated,
        again: Option<Opening>,
        then: Option<Request>,
    },
    /// With a counter of at least `least`.
    Again {
        opening: Opening,
        least: u32,
        error: Error,
    },
    Wait(State, Dropped),
    Failed {
        error: Error,
        then: Option<Request>,
    },
}

/// The initiate-request of an association.
pub(super) fn initiate(config: &Config, dedicated: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    InitiateRequest {
        dedicated_key: dedicated.map(DedicatedKey),
        response_allowed: true,
        quality_of_service: None,
        dlms_version: DLMS_VERSION,
        conformance: config.conformance,
        max_pdu: config.max_pdu,
    }
    .encode()
}

impl Opening {
    pub(super) fn new(random: &[u8; RANDOM_LEN]) -> Self {
        let (first, second) = random.split_at(PART);
        let mut spare = Zeroizing::new([0; PART]);
        spare.copy_from_slice(second);
        let mut now = Zeroizing::new([0; PART]);
        now.copy_from_slice(first);
        Self::of(&now, Some(spare))
    }

    fn of(random: &[u8; PART], spare: Option<Zeroizing<[u8; PART]>>) -> Self {
        let (challenge, key) = random.split_at(CHALLENGE_LEN);
        let mut own = [0; CHALLENGE_LEN];
        own.copy_from_slice(challenge);
        let mut dedicated = Zeroizing::new([0; KEY_LEN]);
        dedicated.copy_from_slice(key);
        Self { challenge: Challenge::new(own), dedicated, spare, then: None }
    }

    /// A second attempt, if this was not one.
    fn again(&mut self) -> Option<Self> {
        self.spare.take().map(|spare| Self::of(&spare, None))
    }

    pub(super) fn request(
        &self,
        provider: &impl CryptoProvider,
        config: &Config,
        channel: &mut Channel,
    ) -> Result<Vec<u8>, SealFault> {
        let dedicated = config.protection.as_ref().is_some_and(|protection| protection.dedicated);
        let initiate = initiate(config, dedicated.then_some(&self.dedicated[..]));
        let information = channel.seal(provider, Under::Global, &initiate)?;
        let mechanism = config.authentication.mechanism();
        let proof = match &config.authentication {
            Authentication::None => None,
            Authentication::Password(secret) => Some(secret.expose()),
            Authentication::Aes(_) | Authentication::Gmac => Some(&self.challenge.bytes()[..]),
        };
        let titled = config.protection.is_some() || mechanism.high_level();
        let mut out = Vec::new();
        Aarq {
            context: config.context(),
            calling_ap_title: titled.then_some(&config.title[..]),
            mechanism,
            authentication_value: proof,
            user_information: Some(&information),
        }
        .emit(&mut out);
        Ok(out)
    }

    pub(super) fn handle(
        mut self,
        provider: &impl CryptoProvider,
        config: &Config,
        channel: &mut Channel,
        answer: Apdu<'_>,
        tag: u8,
    ) -> Verdict {
        let error = match answer {
            Apdu::AssociationResponse(aare) => match self.accepted(provider, config, channel, &aare) {
                Ok(negotiated) => return self.opened(config, negotiated, &aare),
                Err(error) => error,
            },
            Apdu::ExceptionResponse(exception) => {
                let error = Error::Exception(exception);
                if let (ServiceError::InvocationCounter(least), Some(mut opening)) =
                    (exception.service, self.again())
                {
                    opening.then = self.then;
                    return Verdict::Again { opening, least, error };
                }
                error
            }
            Apdu::ConfirmedServiceError(error) => Error::Service(error),
            _ => return Verdict::Wait(State::Opening(self), Dropped::Unexpected(tag)),
        };
        Verdict::Failed { error, then: self.then }
    }

    /// What the meter agreed to, from an AARE that keeps to what was asked for.
    fn accepted(
        &self,
        provider: &impl CryptoProvider,
        config: &Config,
        channel: &mut Channel,
        aare: &Aare<'_>,
    ) -> Result<Negotiated, Error> {
        if aare.result != AssociationResult::Accepted {
            let information = aare.user_information.map(apdu::parse);
            return Err(match (aare.diagnostic, information) {
                // Said nowhere else: why the proposal cannot be met.
                (_, Some(Ok(Apdu::ConfirmedServiceError(error)))) => Error::Service(error),
                (diagnostic, _) => Error::Rejected { result: aare.result, diagnostic },
            });
        }
        if let Some(context) = aare.context.filter(|context| *context != config.context()) {
            return Err(Error::Context(context));
        }
        let meter_title = meter_title(config, aare)?;
        let information = aare.user_information.unwrap_or_default();
        let plain = match (&config.protection, meter_title) {
            (None, _) => information.to_vec(),
            (Some(_), None) => return Err(Error::TitleMissing),
            (Some(_), Some(title)) => {
                channel.meet(title);
                channel.open(provider, information).map_err(Error::Unprotected)?
            }
        };
        let response = match apdu::parse(&plain)? {
            Apdu::InitiateResponse(response) => response,
            Apdu::ConfirmedServiceError(error) => return Err(Error::Service(error)),
            _ => return Err(Error::Kind),
        };
        if response.dlms_version != DLMS_VERSION || response.vaa_name != InitiateResponse::LOGICAL_NAME {
            return Err(Error::Version);
        }
        if config.protection.as_ref().is_some_and(|protection| protection.dedicated) {
            channel.set_dedicated(*self.dedicated);
        }
        let conformance = response.conformance.intersection(config.conformance);
        Ok(Negotiated { conformance, max_pdu: response.max_pdu, meter_title })
    }

    fn opened(mut self, config: &Config, negotiated: Negotiated, aare: &Aare<'_>) -> Verdict {
        let again = self.again();
        if !config.authentication.mechanism().high_level() {
            return match aare.authentication_required() {
                false => Verdict::Open { negotiated, again, then: self.then },
                true => {
                    let error = Error::Rejected { result: aare.result, diagnostic: aare.diagnostic };
                    Verdict::Failed { error, then: self.then }
                }
            };
        }
        let theirs = match aare.authentication_value {
            Some(theirs) if self.challenge.is_reflected(theirs) => Err(Error::Reflected),
            Some(theirs) if (1..=MAX_CHALLENGE).contains(&theirs.len()) => Ok(theirs.to_vec()),
            Some(theirs) => Err(Error::Proof(HlsError::ChallengeLength(theirs.len()))),
            None => Err(Error::NoChallenge),
        };
        match theirs {
            Ok(theirs) => Verdict::Prove(Proving {
                challenge: self.challenge,
                theirs,
                title: negotiated.meter_title,
                negotiated,
                again,
                then: self.then,
            }),
            Err(error) => Verdict::Failed { error, then: self.then },
        }
    }
}

/// The title that the meter says, which is the one it should have and not this side's own.
fn meter_title(config: &Config, aare: &Aare<'_>) -> Result<Option<[u8; SYSTEM_TITLE_LEN]>, Error> {
    let said = aare.system_title().copied();
    match (said, config.meter_title) {
        (Some(said), _) if said == config.title && config.protection.is_some() => Err(Error::Title),
        (Some(said), Some(known)) if said != known => Err(Error::Title),
        (said, known) => Ok(said.or(known)),
    }
}

impl Proving {
    pub(super) fn request(
        &self,
        provider: &impl CryptoProvider,
        config: &Config,
        channel: &mut Channel,
    ) -> Result<Vec<u8>, SealFault> {
        let answer = match &config.authentication {
            Authentication::Aes(secret) => answer_aes(secret, &self.theirs),
            Authentication::Gmac => match &config.protection {
                Some(protection) => {
                    let invocation = channel.take().map_err(|_| SealFault::Reserve)?;
                    let keys = protection.keys.global();
                    answer_gmac(provider, keys, &config.title, invocation, &self.theirs)
                        .map(|answer| answer.to_vec())
                }
                None => Err(HlsError::Form),
            },
            Authentication::None | Authentication::Password(_) => Err(HlsError::Form),
        }
        .map_err(|error| SealFault::Seal(Error::Proof(error)))?;
        let mut encoded = Vec::new();
        Writer::new(&mut encoded).octet_string(&answer);
        let mut plain = Vec::new();
        let body = ActionRequestBody::Normal(REPLY_TO_HLS, Some(Data::checked(&encoded)));
        ActionRequest { invoke_id: HLS_INVOKE, body }.emit(&mut plain);
        channel.seal(provider, Under::Global, &plain)
    }

    pub(super) fn handle(
        mut self,
        provider: &impl CryptoProvider,
        config: &Config,
        answer: Apdu<'_>,
        tag: u8,
    ) -> Verdict {
        let error = match answer {
            Apdu::ActionResponse(response) => match response.body {
                ActionResponseBody::Normal(outcome) if outcome.result == ActionResult::Success => {
                    match self.proven(provider, config, outcome.data.and_then(Result::ok)) {
                        Ok(()) => {
                            let Self { negotiated, again, then, .. } = self;
                            return Verdict::Open { negotiated, again, then };
                        }
                        Err(error) => error,
                    }
                }
                ActionResponseBody::Normal(outcome) => Error::NotAdmitted(outcome.result),
                _ => Error::Kind,
            },
            Apdu::ExceptionResponse(exception) => {
                let error = Error::Exception(exception);
                if let (ServiceError::InvocationCounter(least), Some(mut opening)) =
                    (exception.service, self.again.take())
                {
                    opening.then = self.then;
                    return Verdict::Again { opening, least, error };
                }
                error
            }
            Apdu::ConfirmedServiceError(error) => Error::Service(error),
            _ => return Verdict::Wait(State::Proving(self), Dropped::Unexpected(tag)),
        };
        Verdict::Failed { error, then: self.then }
    }

    /// Whether the meter knows the secret too.
    fn proven(
        &self,
        provider: &impl CryptoProvider,
        config: &Config,
        answer: Option<Data<'_>>,
    ) -> Result<(), Error> {
        let Some(Value::OctetString(answer)) = answer.map(|data| data.value()) else {
            return Err(Error::Proof(HlsError::Form));
        };
        match (&config.authentication, &config.protection, self.title) {
            (Authentication::Aes(secret), ..) => self.challenge.verify_aes(secret, answer)?,
            (Authentication::Gmac, Some(protection), Some(title)) => {
                self.challenge.verify_gmac(provider, protection.keys.global(), &title, answer)?;
            }
            _ => return Err(Error::TitleMissing),
        }
        Ok(())
    }
}
