//! Opening and releasing an association.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Association, Caller, Ciphering, MAX_ASSOCIATIONS, MIN_PDU, Objects, Offer, Outcome, ServerSecurity,
    ServerSession, Stage, Style, Transfer, malformed, not_allowed, other_reason,
};
use crate::apdu::acse::{
    Aare, Aarq, ApplicationContext, AssociationResult, Diagnostic, Mechanism, ReleaseResponseReason, Rlre,
    ServiceUser,
};
use crate::apdu::initiate::{DLMS_VERSION, InitiateRequest, InitiateResponse};
use crate::apdu::{
    self, Apdu, ConfirmedService, ConfirmedServiceError, ExceptionResponse, InitiateError,
    ServiceErrorCategory,
};
use crate::security::CryptoProvider;
use crate::security::association::{Envelope, Incoming, Outgoing};
use crate::security::counter::{RisingCounter, SendCounter};
use crate::security::hls::{CHALLENGE_LEN, Challenge, MAX_CHALLENGE};
use crate::security::keys::{Key, KeyUse};

/// The shortest challenge that is answered.
const MIN_CHALLENGE: usize = 8;
/// How the initiate of an association is ciphered, whatever comes later.
const GLOBAL: Style = Style { key: KeyUse::Unicast, envelope: Envelope::Service };

/// What is wrong with a request to open.
enum Fault {
    User(ServiceUser),
    Initiate(InitiateError),
}

/// What the client proposes, its own key taken out of the bytes.
struct Proposal {
    dedicated: Option<Key>,
    response_allowed: bool,
    agreed: Caller,
}

impl<P: CryptoProvider> ServerSession<P> {
    pub(super) fn open(
        &mut self,
        client: u16,
        apdu: &[u8],
        now: Duration,
        random: [u8; CHALLENGE_LEN],
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ExceptionResponse> {
        self.close(client);
        let aarq = match apdu::parse(apdu) {
            Ok(Apdu::AssociationRequest(aarq)) => aarq,
            _ => return Ok(refuse(None, &Fault::User(ServiceUser::NoReason), &[], None, out)),
        };
        let security = meter.security();
        let mut ciphering = None;
        let opened = match self.admit(client, &aarq, security) {
            Ok(offer) => {
                if aarq.context.ciphered() {
                    match self.ciphering(client, &aarq, security) {
                        Ok(made) => ciphering = Some(made),
                        Err(fault) => return Ok(self.refused(&aarq, &fault, None, security, out)),
                    }
                }
                let proposal = self.proposal(client, &aarq, &offer, ciphering.as_mut(), security)?;
                proposal.and_then(|proposal| prove(&aarq, &offer, random).map(|stage| (proposal, stage)))
            }
            Err(fault) => Err(fault),
        };
        let (proposal, stage) = match opened {
            Ok(opened) => opened,
            Err(fault) => return Ok(self.refused(&aarq, &fault, ciphering, security, out)),
        };
        if let (Some(ciphering), Some(key)) = (&mut ciphering, proposal.dedicated) {
            ciphering.keys.set_dedicated(Some(key));
            ciphering.incoming.rekeyed(KeyUse::Dedicated, RisingCounter::new());
        }
        let pending = matches!(stage, Stage::Pending { .. });
        let mut association = Association {
            caller: proposal.agreed,
            confirmed: proposal.response_allowed || pending,
            stage,
            ciphering,
            transfer: Transfer::None,
            exchange: None,
            in_blocks: false,
            used: now,
        };
        if association.confirmed {
            self.accept(&aarq, &mut association, security, out)?;
        }
        self.associations.push(association);
        Ok(Outcome::Opened { pending })
    }

    /// What can be said without looking into the user information.
    fn admit(&self, client: u16, aarq: &Aarq<'_>, security: &ServerSecurity) -> Result<Offer, Fault> {
        let offer = security.offer(client).filter(|_| self.associations.len() < MAX_ASSOCIATIONS);
        let offer = offer.ok_or(Fault::User(ServiceUser::NoReason))?;
        let allowed = match aarq.context {
            ApplicationContext::LogicalName => offer.plain,
            ApplicationContext::LogicalNameCiphered => offer.ciphered,
            _ => false,
        };
        if !allowed {
            return Err(Fault::User(ServiceUser::ContextNotSupported));
        }
        match aarq.mechanism {
            mechanism if mechanism == offer.mechanism => Ok(offer.clone()),
            Mechanism::Lowest => Err(Fault::User(ServiceUser::MechanismRequired)),
            _ => Err(Fault::User(ServiceUser::MechanismUnknown)),
        }
    }

    /// A ciphered association begins: keys that were transferred are used from here on.
    fn ciphering(
        &self,
        client: u16,
        aarq: &Aarq<'_>,
        security: &mut ServerSecurity,
    ) -> Result<Ciphering, Fault> {
        // A client with the title of the meter would share its counters, and so break the key.
        let title = aarq.system_title().filter(|title| *title != security.title());
        let title = title.ok_or(Fault::User(ServiceUser::CallingApTitleUnknown))?;
        security.take_staged();
        Ok(Ciphering {
            incoming: Incoming::new(*title, security.protect(), security.received(client)),
            outgoing: Outgoing { title: *security.title(), protect: security.protect() },
            keys: security.association_keys(),
            dedicated: SendCounter::of_session(),
            epoch: security.epoch(),
        })
    }

    /// Opens the user information and negotiates.
    fn proposal(
        &mut self,
        client: u16,
        aarq: &Aarq<'_>,
        offer: &Offer,
        ciphering: Option<&mut Ciphering>,
        security: &mut ServerSecurity,
    ) -> Result<Result<Proposal, Fault>, ExceptionResponse> {
        let Some(information) = aarq.user_information else {
            return Ok(Err(Fault::User(ServiceUser::NoReason)));
        };
        let (provider, scratch) = (&self.provider, &mut self.scratch);
        let client_title = ciphering.as_ref().map(|ciphering| *ciphering.incoming.title());
        let plain = match ciphering {
            Some(ciphering) => {
                let (style, plain) = ciphering.receive(provider, client, information, security, scratch)?;
                style.of_one_meter()?;
                plain
            }
            None => information,
        };
        let request = match apdu::parse(plain) {
            Ok(Apdu::InitiateRequest(request)) => request,
            Ok(_) => return Err(not_allowed()),
            Err(error) => return Err(malformed(&error)),
        };
        Ok(negotiate(client, aarq, offer, &request, client_title, self.max_pdu))
    }

    fn accept(
        &self,
        aarq: &Aarq<'_>,
        association: &mut Association,
        security: &mut ServerSecurity,
        out: &mut Vec<u8>,
    ) -> Result<(), ExceptionResponse> {
        let information = self.initiate_response(association, security)?;
        let (diagnostic, challenge) = match &association.stage {
            Stage::Pending { ours, .. } => (ServiceUser::AuthenticationRequired, Some(&ours.bytes()[..])),
            Stage::Open => (ServiceUser::Null, None),
        };
        let title = association.ciphering.is_some().then(|| &security.title()[..]);
        Aare {
            context: Some(aarq.context),
            result: AssociationResult::Accepted,
            diagnostic: Some(Diagnostic::User(diagnostic)),
            responding_ap_title: title,
            mechanism: challenge.map_or(Mechanism::Lowest, |_| aarq.mechanism),
            authentication_value: challenge,
            user_information: Some(&information),
        }
        .emit(out);
        Ok(())
    }

    /// The user information of an AARE or RLRE, ciphered where the association is.
    fn initiate_response(
        &self,
        association: &mut Association,
        security: &mut ServerSecurity,
    ) -> Result<Vec<u8>, ExceptionResponse> {
        let mut plain = Vec::new();
        InitiateResponse {
            quality_of_service: None,
            dlms_version: DLMS_VERSION,
            conformance: association.caller.conformance,
            max_pdu: self.max_pdu,
            vaa_name: InitiateResponse::LOGICAL_NAME,
        }
        .emit(&mut plain);
        let Some(ciphering) = &mut association.ciphering else {
            return Ok(plain);
        };
        let mut sealed = Vec::new();
        ciphering.seal(&self.provider, GLOBAL, &plain, security, &mut sealed)?;
        Ok(sealed)
    }

    fn refused(
        &self,
        aarq: &Aarq<'_>,
        fault: &Fault,
        ciphering: Option<Ciphering>,
        security: &mut ServerSecurity,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut information = Vec::new();
        if let Fault::Initiate(error) = fault {
            let mut plain = Vec::new();
            ConfirmedServiceError {
                service: ConfirmedService::Initiate,
                category: ServiceErrorCategory::Initiate,
                value: error.code(),
            }
            .emit(&mut plain);
            match ciphering {
                None => information = plain,
                Some(mut ciphering) => {
                    let sealed = ciphering.seal(&self.provider, GLOBAL, &plain, security, &mut information);
                    if sealed.is_err() {
                        information.clear();
                    }
                }
            }
        }
        let title = aarq.context.ciphered().then_some(*security.title());
        refuse(Some(aarq.context), fault, &information, title.as_ref().map(|title| &title[..]), out)
    }

    pub(super) fn release(
        &mut self,
        client: u16,
        apdu: &[u8],
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ExceptionResponse> {
        self.find(client)?;
        let rlrq = match apdu::parse(apdu) {
            Ok(Apdu::ReleaseRequest(rlrq)) => rlrq,
            Ok(_) => return Err(not_allowed()),
            Err(error) => return Err(malformed(&error)),
        };
        let place = self.associations.iter().position(|association| association.caller.client == client);
        let mut association = self.associations.swap_remove(place.ok_or(other_reason())?);
        let released = self.release_response(&mut association, rlrq.user_information, meter.security());
        let information = match released {
            Ok(information) => information,
            Err(exception) => {
                // Anybody could have sent that: the association goes on.
                self.associations.push(association);
                return Err(exception);
            }
        };
        if association.confirmed {
            let reason = Some(ReleaseResponseReason::Normal);
            Rlre { reason, user_information: information.as_deref() }.emit(out);
        }
        Ok(Outcome::Released)
    }

    /// What answers the user information of a release: a ciphered one uses up a counter, and is answered with one.
    fn release_response(
        &mut self,
        association: &mut Association,
        information: Option<&[u8]>,
        security: &mut ServerSecurity,
    ) -> Result<Option<Vec<u8>>, ExceptionResponse> {
        let Some(information) = information else {
            return Ok(None);
        };
        let client = association.caller.client;
        if let Some(ciphering) = &mut association.ciphering {
            if ciphering.epoch != security.epoch() {
                return Ok(None);
            }
            let received =
                ciphering.receive(&self.provider, client, information, security, &mut self.scratch)?;
            received.0.of_one_meter()?;
        }
        self.initiate_response(association, security).map(Some)
    }
}

fn negotiate(
    client: u16,
    aarq: &Aarq<'_>,
    offer: &Offer,
    request: &InitiateRequest<'_>,
    client_title: Option<[u8; apdu::SYSTEM_TITLE_LEN]>,
    server_pdu: u16,
) -> Result<Proposal, Fault> {
    let conformance = offer.conformance.intersection(request.conformance);
    let client_pdu = if request.max_pdu == 0 { u16::MAX } else { request.max_pdu };
    if request.dlms_version < DLMS_VERSION {
        return Err(Fault::Initiate(InitiateError::VersionTooLow));
    }
    if conformance.is_empty() {
        return Err(Fault::Initiate(InitiateError::IncompatibleConformance));
    }
    if client_pdu < MIN_PDU {
        return Err(Fault::Initiate(InitiateError::PduSizeTooShort));
    }
    let dedicated = match request.dedicated_key {
        // Without ciphering a key is of no use, and has been seen by everybody.
        Some(key) if client_title.is_some() => {
            Some(Key::from_slice(key.0).ok_or(Fault::Initiate(InitiateError::RefusedByHandler))?)
        }
        _ => None,
    };
    Ok(Proposal {
        dedicated,
        response_allowed: request.response_allowed,
        agreed: Caller {
            client,
            context: aarq.context,
            mechanism: offer.mechanism,
            conformance,
            client_pdu: client_pdu.min(server_pdu),
            server_pdu,
            client_title,
        },
    })
}

/// What the AARQ itself proves of the client, and what is to be asked besides.
fn prove(aarq: &Aarq<'_>, offer: &Offer, random: [u8; CHALLENGE_LEN]) -> Result<Stage, Fault> {
    let failure = Fault::User(ServiceUser::AuthenticationFailure);
    let value = aarq.authentication_value.unwrap_or_default();
    match offer.mechanism {
        Mechanism::Lowest => Ok(Stage::Open),
        Mechanism::LowLevel if offer.secret.is_password(value) => Ok(Stage::Open),
        Mechanism::LowLevel => Err(failure),
        _ => {
            let ours = Challenge::new(random);
            if !(MIN_CHALLENGE..=MAX_CHALLENGE).contains(&value.len()) || ours.is_reflected(value) {
                return Err(failure);
            }
            Ok(Stage::Pending { theirs: value.to_vec(), ours })
        }
    }
}

/// An AARE that says no.
fn refuse(
    context: Option<ApplicationContext>,
    fault: &Fault,
    information: &[u8],
    title: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Outcome {
    let diagnostic = match fault {
        Fault::User(user) => *user,
        Fault::Initiate(_) => ServiceUser::NoReason,
    };
    Aare {
        context,
        result: AssociationResult::RejectedPermanent,
        diagnostic: Some(Diagnostic::User(diagnostic)),
        responding_ap_title: title,
        mechanism: Mechanism::Lowest,
        authentication_value: None,
        user_information: (!information.is_empty()).then_some(information),
    }
    .emit(out);
    Outcome::Refused
}
