//! From a received frame to what it says and how far that can be trusted: lengths, title, policy, tag, contents, in
//! this order. Nothing here changes any state, so a forged frame leaves no trace but evidence; whether a counter was
//! used before is judged by the journal thread, before what is decoded here has any effect.

use bytes::Bytes;
use codec::apdu::ciphered::{Ciphered, GeneralCiphering, Scope, Service};
use codec::apdu::{self, Apdu, DataNotification, EventNotification, GeneralGlo, LongInvokeId};
use codec::axdr::Known;
use codec::security::{self, Keys, Opened, Scratch, SecurityError, ciphering};
use codec::wrapper::HEADER_LEN;
use codec::{Error, ErrorKind};
use codec_aws_lc::AwsLc;
use model::{Calendar, Digest, Instant, MeterId, Quality, QuarantineReason, Source, SystemTitle};
use profiles::Profile;

use crate::keys::{Entry, ReadKeys, ReplacedKeys};
use crate::normalize::{self, Normalized};
use crate::parts;
use crate::print::{Keyed, Print};
use crate::received::{OpenedPush, Received};

/// What a record of a frame has besides raw bytes, readings and detail, at most; the detail of a reused counter, which
/// is found out later, is in it.
const RECORD_BYTES: usize = 256;
/// What a reading in a record has besides its values, at most.
const READING_BYTES: usize = 32;

/// A frame that went through every check that needs no memory of other frames.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) frame: Frame,
    pub(crate) content: Content,
}

impl Decoded {
    /// The meter, where policy and tag are right.
    pub(crate) fn proven(&self) -> Option<MeterId> {
        match &self.content {
            Content::Verified(verified) => Some(verified.meter),
            Content::Evidence(_) => None,
        }
    }

    /// Bytes that its record takes at most.
    pub(crate) fn record_bytes(&self) -> usize {
        let content = match &self.content {
            Content::Evidence(evidence) => evidence.detail.len(),
            Content::Verified(Verified { push: Err(unfit), .. }) => unfit.detail.len(),
            Content::Verified(Verified { push: Ok(push), .. }) => {
                let values: usize =
                    push.normalized.readings.iter().map(|reading| reading.values.as_slice().len()).sum();
                push.normalized.readings.len() * READING_BYTES + values * size_of::<i64>()
            }
        };
        RECORD_BYTES + self.frame.raw.len() + content
    }
}

/// The frame itself.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) source: Source,
    pub(crate) received_at: Instant,
    pub(crate) digest: Digest,
    /// The bytes as received.
    pub(crate) raw: Bytes,
    /// The title it claims, or is known to belong to.
    pub(crate) title: Option<SystemTitle>,
}

/// How far ahead of its receipt a stamp may lie, seconds. A clock that is wrong by less gives a reading that is stored and
/// moves nothing until its key comes again; one that is wrong by more would keep its meter's keys under suspicion for
/// years.
const FAR_AHEAD_S: i64 = 3 * 86_400;

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Content {
    /// It proves nothing and has no effect.
    Evidence(Evidence),
    /// Policy and tag are right; the counter is still to be judged.
    Verified(Verified),
}

/// Why a frame has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) meter: Option<MeterId>,
    pub(crate) reason: QuarantineReason,
    pub(crate) detail: String,
}

/// A frame of a known meter under its policy.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) meter: MeterId,
    pub(crate) key_epoch: u16,
    /// Where these keys were replaced: up to when they are taken once the meter has used newer ones.
    pub(crate) taken_until: Option<Instant>,
    /// `None` for a push in the clear.
    pub(crate) counter: Option<u32>,
    /// What it carries, or why that cannot be used.
    pub(crate) push: Result<Push, Unfit>,
}

/// A push that fits its meter's profile.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) normalized: Normalized,
    /// Print of its values, which tells a repetition from another use of the counter.
    pub(crate) values: Print,
    /// Where a confirmation is asked for.
    pub(crate) confirm: Option<LongInvokeId>,
}

/// A push that cannot be used.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) reason: QuarantineReason,
    pub(crate) detail: String,
    /// It is kept for good, so the meter need not send it again.
    pub(crate) confirm: Option<LongInvokeId>,
}

/// What one task keeps from frame to frame, so that decoding allocates little and checks what is alike once.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Where plaintext is made.
    plaintext: Scratch,
    /// Structures of bodies that were checked.
    known: Known,
}

/// Checks and decodes frames.
pub(crate) struct Decoder<'a> {
    pub(crate) keys: ReadKeys<'a>,
    pub(crate) profiles: &'a [Profile],
    pub(crate) calendar: &'a Calendar,
    /// What values are hashed with.
    pub(crate) keyed: Keyed,
    /// Longest APDU taken, bytes.
    pub(crate) max_apdu: usize,
}

impl Decoder<'_> {
    /// Asks memory for the keys of frames that are to be decoded next.
    pub(crate) fn touch<'r>(&self, frames: impl Iterator<Item = &'r Received> + Clone) {
        self.keys.touch(frames.filter_map(title_at_first_sight));
    }

    pub(crate) fn decode(&self, received: Received, buffers: &mut Buffers) -> Decoded {
        let (title, content) = match self.look(&received, buffers) {
            Ok((title, verified)) => (Some(title), Content::Verified(verified)),
            Err((title, evidence)) => (title, Content::Evidence(evidence)),
        };
        let frame = Frame {
            source: received.source,
            received_at: received.received_at,
            digest: crate::digest(&received.bytes),
            raw: received.bytes,
            title,
        };
        Decoded { frame, content }
    }

    /// What a session opened under the key of its association. That key has counters of its own, which the session judged:
    /// here there is none. What is kept are the bytes in the clear; the key is gone with the association.
    #[cold]
    pub(crate) fn decode_opened(&self, opened: OpenedPush, buffers: &mut Buffers) -> Decoded {
        let OpenedPush { source, received_at, title, apdu } = opened;
        let raw = Bytes::from(apdu.into_inner());
        let known = self.keys.with(title, |entry| Verified {
            meter: entry.meter,
            key_epoch: entry.key_epoch,
            taken_until: None,
            counter: None,
            push: self.plaintext(&raw, &entry, true, received_at, &mut buffers.known),
        });
        let content = known.map_or_else(|| Content::Evidence(unregistered(title)), Content::Verified);
        let frame = Frame { source, received_at, digest: crate::digest(&raw), raw, title: Some(title) };
        Decoded { frame, content }
    }

    fn look(&self, received: &Received, buffers: &mut Buffers) -> Result<(SystemTitle, Verified), Refusal> {
        let framed = parts::apdu_of(&received.bytes, received.framing, self.max_apdu);
        let (apdu, at) = framed.map_err(undecodable)?;
        let apdu = &apdu[..];
        if apdu.len() > self.max_apdu {
            let length = u16::try_from(apdu.len()).unwrap_or(u16::MAX);
            return Err(undecodable(Error { kind: ErrorKind::FrameTooLong(length), offset: at }));
        }
        match apdu::parse(apdu) {
            Ok(Apdu::GeneralGlo(glo)) => self.ciphered(&glo, at, received, buffers),
            Ok(Apdu::DataNotification(push)) => self.clear(&push, received),
            other => self.rare(other, apdu, at, received, buffers),
        }
    }

    /// What is no push as nearly all are: another form of one, or no push at all. The table of it is in
    /// `docs/dlms-differences.md`.
    #[cold]
    fn rare(
        &self,
        parsed: Result<Apdu<'_>, Error>,
        apdu: &[u8],
        at: usize,
        received: &Received,
        buffers: &mut Buffers,
    ) -> Result<(SystemTitle, Verified), Refusal> {
        let known = received.identity;
        let parsed = match (parsed, &known) {
            // Who left his title out is known from the line.
            (Err(Error { kind: ErrorKind::SystemTitleMissing, .. }), Some(title)) => {
                apdu::parse_with_title(apdu, Some(&title.0))
            }
            (parsed, _) => parsed,
        };
        match parsed {
            Ok(Apdu::GeneralGlo(glo)) => self.ciphered(&glo, at, received, buffers),
            Ok(Apdu::GeneralCiphering(general)) => self.ciphering(&general, received, buffers),
            Ok(Apdu::EventNotification(event)) => self.event_in_clear(&event, received),
            Ok(Apdu::Ciphered(event)) if is_global_event(&event) => {
                let title = known.ok_or_else(|| nameless("glo-event-notification-request"))?;
                self.ciphered(&event.as_general(&title.0), at, received, buffers)
            }
            Ok(other) => {
                let detail = format!("{}, which nobody asked for", name_of(&other));
                Err((known, Evidence { meter: None, reason: QuarantineReason::Unasked, detail }))
            }
            Err(Error { kind: ErrorKind::SystemTitleMissing, .. }) => {
                Err(nameless("a ciphered apdu without a system title"))
            }
            Err(error) => Err(undecodable(shifted(error, at))),
        }
    }

    /// A push in general-ciphering.
    fn ciphering(
        &self,
        general: &GeneralCiphering<'_>,
        received: &Received,
        buffers: &mut Buffers,
    ) -> Result<(SystemTitle, Verified), Refusal> {
        let title = SystemTitle(*general.originator());
        let known = self.keys.with(title, |entry| {
            check_identity(title, received.identity, &entry)?;
            let tries = std::iter::once(Tried::present(&entry));
            let mut last = SecurityError::Tag;
            for tried in tries.chain(entry.replaced.iter().map(Tried::replaced)) {
                let Buffers { plaintext, known } = buffers;
                let opened = ciphering::open(&AwsLc, general, tried.keys, entry.policy, plaintext);
                let (plaintext, authentic) = match opened {
                    Ok(Opened::Authentic(plaintext)) => (plaintext.into_inner(), true),
                    Ok(Opened::Unauthenticated(plaintext)) => (plaintext, false),
                    Err(error) => {
                        last = error;
                        continue;
                    }
                };
                return Ok(Verified {
                    meter: entry.meter,
                    key_epoch: tried.key_epoch,
                    taken_until: tried.taken_until,
                    counter: Some(general.invocation_counter()),
                    push: self.plaintext(plaintext, &entry, authentic, received.received_at, known),
                });
            }
            Err(refused(title, &entry, reason_of(last), last.to_string()))
        });
        let unknown = || {
            let detail = format!("originator {title} is not registered");
            Err((Some(title), Evidence { meter: None, reason: QuarantineReason::UnknownTitle, detail }))
        };
        known.unwrap_or_else(unknown).map(|verified| (title, verified))
    }

    /// An event in the clear names nobody: its link does.
    fn event_in_clear(
        &self,
        event: &EventNotification<'_>,
        received: &Received,
    ) -> Result<(SystemTitle, Verified), Refusal> {
        let title = received.identity.ok_or_else(|| nameless("event-notification-request"))?;
        let read = |entry: &Entry<'_>| self.event(event, entry, false, received.received_at);
        self.unciphered(title, "an event", read).unwrap_or_else(|| Err((Some(title), unregistered(title))))
    }

    /// What is not ciphered, of the meter with a title, where its policy takes that; `None` where there is no such meter.
    fn unciphered(
        &self,
        title: SystemTitle,
        what: &str,
        read: impl FnOnce(&Entry<'_>) -> Result<Push, Unfit>,
    ) -> Option<Result<(SystemTitle, Verified), Refusal>> {
        self.keys.with(title, |entry| {
            if !security::plain_allowed(entry.policy) {
                let detail = format!("{what} in the clear is refused by policy authenticated");
                return Err(refused(title, &entry, QuarantineReason::PolicyRefused, detail));
            }
            let (meter, key_epoch, push) = (entry.meter, entry.key_epoch, read(&entry));
            Ok((title, Verified { meter, key_epoch, taken_until: None, counter: None, push }))
        })
    }

    /// One attribute that a meter tells by itself.
    #[cold]
    fn event(
        &self,
        event: &EventNotification<'_>,
        entry: &Entry<'_>,
        authentic: bool,
        received_at: Instant,
    ) -> Result<Push, Unfit> {
        let profile = &self.profiles[usize::from(entry.profile)];
        let unfit = |reason, detail| Unfit { reason, detail, confirm: None };
        let normalized = normalize::normalize_event(event, profile, self.calendar);
        let mut normalized = normalized.map_err(|mismatch| {
            unfit(QuarantineReason::ProfileMismatch, format!("profile {}: {mismatch}", profile.name))
        })?;
        for reading in &mut normalized.readings {
            if reading.end > received_at.plus_seconds(FAR_AHEAD_S) {
                let end = reading.end;
                let detail = format!("its time is {end}, more than {FAR_AHEAD_S} s after its receipt");
                return Err(unfit(QuarantineReason::FarAhead, detail));
            }
            if !authentic {
                reading.quality = reading.quality.with(Quality::UNAUTHENTICATED);
            }
        }
        let values = self.keyed.print_of(&normalized.readings, normalized.event_word);
        Ok(Push { normalized, values, confirm: None })
    }

    fn ciphered(
        &self,
        glo: &GeneralGlo<'_>,
        at: usize,
        received: &Received,
        buffers: &mut Buffers,
    ) -> Result<(SystemTitle, Verified), Refusal> {
        let title = title_of(glo);
        let known = self.keys.with(title, |entry| {
            check_identity(title, received.identity, &entry)?;
            let now = received.received_at;
            let mut opened = self.open(glo, &entry, Tried::present(&entry), now, buffers);
            for replaced in entry.replaced {
                if !opened.is_doubtful() {
                    break;
                }
                let other = self.open(glo, &entry, Tried::replaced(replaced), now, buffers);
                if !other.is_doubtful() || opened.is_nonsense() && !other.is_nonsense() {
                    opened = other;
                }
            }
            opened.0.map_err(|error| refused(title, &entry, reason_of(error), error.to_string()))
        });
        let unknown = || {
            let detail = format!("system title {title} is not registered, byte {}", at + 2);
            Err((Some(title), Evidence { meter: None, reason: QuarantineReason::UnknownTitle, detail }))
        };
        known.unwrap_or_else(unknown).map(|verified| (title, verified))
    }

    /// What a frame says under one of its meter's keys.
    fn open(
        &self,
        glo: &GeneralGlo<'_>,
        entry: &Entry<'_>,
        tried: Tried<'_>,
        received_at: Instant,
        buffers: &mut Buffers,
    ) -> Attempt {
        let opened = match security::open(&AwsLc, glo, tried.keys, entry.policy, &mut buffers.plaintext) {
            Ok(opened) => opened,
            Err(error) => return Attempt(Err(error), false),
        };
        let (plaintext, authentic) = match opened {
            Opened::Authentic(plaintext) => (plaintext.into_inner(), true),
            Opened::Unauthenticated(plaintext) => (plaintext, false),
        };
        let verified = Verified {
            meter: entry.meter,
            key_epoch: tried.key_epoch,
            taken_until: tried.taken_until,
            counter: Some(glo.invocation_counter()),
            push: self.plaintext(plaintext, entry, authentic, received_at, &mut buffers.known),
        };
        Attempt(Ok(verified), authentic)
    }

    fn plaintext(
        &self,
        plaintext: &[u8],
        entry: &Entry<'_>,
        authentic: bool,
        received_at: Instant,
        known: &mut Known,
    ) -> Result<Push, Unfit> {
        let undecodable =
            |detail: String| Unfit { reason: QuarantineReason::Undecodable, detail, confirm: None };
        match apdu::parse_known(plaintext, known)
            .map_err(|error| undecodable(format!("in plaintext: {error}")))?
        {
            Apdu::DataNotification(push) => self.push(&push, entry, authentic, received_at),
            Apdu::EventNotification(event) => self.event(&event, entry, authentic, received_at),
            other => Err(Unfit {
                reason: QuarantineReason::Unasked,
                detail: format!("in plaintext: {}, which nobody asked for", name_of(&other)),
                confirm: None,
            }),
        }
    }

    /// A push without any ciphering names no title: its link does, or its device id.
    fn clear(
        &self,
        push: &DataNotification<'_>,
        received: &Received,
    ) -> Result<(SystemTitle, Verified), Refusal> {
        let body = push.body();
        let device = normalize::device_id(&body).unwrap_or_default();
        let title = received.identity.or_else(|| self.keys.title_of_device(device));
        let read = |entry: &Entry<'_>| self.push(push, entry, false, received.received_at);
        let known = title.and_then(|title| self.unciphered(title, "a push", read));
        known.unwrap_or_else(|| {
            let detail = format!("no meter is registered for device id {device:?}");
            Err((None, Evidence { meter: None, reason: QuarantineReason::UnknownTitle, detail }))
        })
    }

    fn push(
        &self,
        push: &DataNotification<'_>,
        entry: &Entry<'_>,
        authentic: bool,
        received_at: Instant,
    ) -> Result<Push, Unfit> {
        let confirm = Some(push.invoke_id()).filter(LongInvokeId::confirmed);
        let profile = &self.profiles[usize::from(entry.profile)];
        let normalized = normalize::normalize(&push.body(), push.date_time(), profile, self.calendar);
        let mut normalized = normalized.map_err(|mismatch| Unfit {
            reason: QuarantineReason::ProfileMismatch,
            detail: format!("profile {}: {mismatch}", profile.name),
            confirm,
        })?;
        let latest = received_at.plus_seconds(FAR_AHEAD_S);
        if let Some((place, far)) = (0..).zip(&normalized.readings).find(|(_, reading)| reading.end > latest)
        {
            let (place, end): (usize, Instant) = (place, far.end);
            let detail = format!("reading {place} ends {end}, more than {FAR_AHEAD_S} s after its receipt");
            return Err(Unfit { reason: QuarantineReason::FarAhead, detail, confirm });
        }
        if !authentic {
            for reading in &mut normalized.readings {
                reading.quality = reading.quality.with(Quality::UNAUTHENTICATED);
            }
        }
        let values = self.keyed.print_of(&normalized.readings, normalized.event_word);
        Ok(Push { normalized, values, confirm })
    }
}

type Refusal = (Option<SystemTitle>, Evidence);

/// Keys that a frame is tried with.
struct Tried<'k> {
    keys: &'k Keys,
    key_epoch: u16,
    taken_until: Option<Instant>,
}

impl<'k> Tried<'k> {
    fn present(entry: &Entry<'k>) -> Tried<'k> {
        Tried { keys: entry.keys, key_epoch: entry.key_epoch, taken_until: None }
    }

    fn replaced(replaced: &'k ReplacedKeys) -> Tried<'k> {
        let ReplacedKeys { keys, key_epoch, taken_until } = replaced;
        Tried { keys, key_epoch: *key_epoch, taken_until: Some(*taken_until) }
    }
}

/// What came of trying one of a meter's keys, and whether a tag proved it.
struct Attempt(Result<Verified, SecurityError>, bool);

impl Attempt {
    /// Whether other keys may fit better: the tag is wrong, or without a tag nothing sensible came out.
    fn is_doubtful(&self) -> bool {
        match &self.0 {
            Ok(verified) => !self.1 && verified.push.is_err(),
            Err(error) => matches!(error, SecurityError::Tag),
        }
    }

    /// Whether nothing came out that could be read. A push that can be read and does not fit its profile was not made by
    /// chance: it has its keys, and its receipt.
    fn is_nonsense(&self) -> bool {
        match &self.0 {
            Ok(verified) => {
                verified.push.as_ref().is_err_and(|unfit| unfit.reason == QuarantineReason::Undecodable)
            }
            Err(_) => true,
        }
    }
}

/// The title that a ciphered push in a wrapper bears where most do; it is looked at properly later.
pub(crate) fn title_at_first_sight(received: &Received) -> Option<SystemTitle> {
    match received.bytes.get(HEADER_LEN..)? {
        [apdu::GENERAL_GLO, 8, rest @ ..] => rest.first_chunk().map(|title| SystemTitle(*title)),
        _ => None,
    }
}

/// Whether a frame in a wrapper is under a global key, has a tag, and leaves out whose it is. With the right title the tag
/// says whether that is right; without a tag a wrong guess would spend a counter of the wrong meter.
pub(crate) fn is_untitled(frame: &[u8]) -> bool {
    const GLO_EVENT: u8 = Service::EventNotificationRequest.ciphered_tag(Scope::Global);
    let Some(apdu @ ([GLO_EVENT, ..] | [apdu::GENERAL_GLO, 0, ..])) = frame.get(HEADER_LEN..) else {
        return false;
    };
    match apdu::parse_with_title(apdu, Some(&SystemTitle::default().0)) {
        Ok(Apdu::GeneralGlo(glo)) => glo.security_control().authenticated(),
        Ok(Apdu::Ciphered(event)) => event.security_control().authenticated(),
        _ => false,
    }
}

fn is_global_event(ciphered: &Ciphered<'_>) -> bool {
    ciphered.scope() == Scope::Global && ciphered.service() == Service::EventNotificationRequest
}

/// What an APDU is called that is no push.
fn name_of(apdu: &Apdu<'_>) -> String {
    let name = match apdu {
        Apdu::InitiateRequest(_) => "initiate-request",
        Apdu::InitiateResponse(_) => "initiate-response",
        Apdu::ConfirmedServiceError(_) => "confirmed-service-error",
        Apdu::DataNotification(_) => "data-notification",
        Apdu::DataNotificationConfirm(_) => "data-notification-confirm",
        Apdu::GetRequest(_) => "get-request",
        Apdu::SetRequest(_) => "set-request",
        Apdu::EventNotification(_) => "event-notification-request",
        Apdu::ActionRequest(_) => "action-request",
        Apdu::GetResponse(_) => "get-response",
        Apdu::SetResponse(_) => "set-response",
        Apdu::ActionResponse(_) => "action-response",
        Apdu::ExceptionResponse(exception) => return exception.to_string(),
        // With the prefix of its key.
        Apdu::Ciphered(ciphered) => return ciphered.to_string(),
        Apdu::AssociationRequest(_) => "AARQ",
        Apdu::AssociationResponse(_) => "AARE",
        Apdu::ReleaseRequest(_) => "RLRQ",
        Apdu::ReleaseResponse(_) => "RLRE",
        Apdu::GeneralGlo(_) => "general-glo-ciphering",
        Apdu::GeneralDed(_) => "general-ded-ciphering, under the dedicated key of an association",
        Apdu::GeneralCiphering(_) => "general-ciphering",
        Apdu::GeneralBlockTransfer(_) => "a block of a general-block-transfer",
    };
    name.to_owned()
}

/// What says nowhere whose it is.
fn nameless(what: &str) -> Refusal {
    let detail = format!("{what} names no sender, and the link belongs to no meter");
    (None, Evidence { meter: None, reason: QuarantineReason::UnknownTitle, detail })
}

/// What a meter sent that is not there.
fn unregistered(title: SystemTitle) -> Evidence {
    let detail = format!("system title {title} is not registered");
    Evidence { meter: None, reason: QuarantineReason::UnknownTitle, detail }
}

fn shifted(error: Error, by: usize) -> Error {
    Error { kind: error.kind, offset: error.offset + by }
}

fn undecodable(error: Error) -> Refusal {
    let reason = QuarantineReason::Undecodable;
    (None, Evidence { meter: None, reason, detail: error.to_string() })
}

fn title_of(glo: &GeneralGlo<'_>) -> SystemTitle {
    let mut title = SystemTitle::default();
    title.0.copy_from_slice(glo.system_title());
    title
}

fn check_identity(
    title: SystemTitle,
    identity: Option<SystemTitle>,
    entry: &Entry<'_>,
) -> Result<(), Refusal> {
    match identity {
        Some(bound) if bound != title => {
            let detail = format!("the link belongs to {bound}");
            Err(refused(title, entry, QuarantineReason::IdentityMismatch, detail))
        }
        _ => Ok(()),
    }
}

fn refused(title: SystemTitle, entry: &Entry<'_>, reason: QuarantineReason, detail: String) -> Refusal {
    (Some(title), Evidence { meter: Some(entry.meter), reason, detail })
}

fn reason_of(error: SecurityError) -> QuarantineReason {
    match error {
        SecurityError::Policy { .. } => QuarantineReason::PolicyRefused,
        SecurityError::Tag => QuarantineReason::TagMismatch,
        SecurityError::Suite(_)
        | SecurityError::WrappedKey
        | SecurityError::AgreedKey
        | SecurityError::KeyNotNamed
        | SecurityError::Broadcast
        | SecurityError::Compressed
        | SecurityError::Length(_) => QuarantineReason::Undecodable,
    }
}
