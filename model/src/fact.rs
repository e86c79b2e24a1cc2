//! Facts and their bytes in the journal.
//!
//! A record's bytes are: kind u8, version u8, `received_at` i64, body. All integers are little-endian; text and bytes
//! carry their length as u32; an optional field a presence byte. The position is not in the bytes: the journal numbers
//! its records. Each kind and version has golden bytes in the tests, so a layout cannot change unnoticed. An unknown
//! kind or version is refused by name.

use bytes::Bytes;

use crate::bytes::{DecodeError, Reader, Writer};
use crate::{
    AccountId, CivilDay, Digest, EventWord, Instant, MeterId, OutboxId, Paise, Position, Quality, Reading,
    ReadingKind, Readings, Source, SystemTitle, Values,
};

/// A fact with its place and its time: what the fold is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number in the journal.
    pub position: Position,
    /// When it reached us: the fold's only "now".
    pub received_at: Instant,
    /// What it says.
    pub fact: Fact,
}

/// Everything that can change a row or a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A frame that passed policy, tag and counter and was decoded.
    Frame(AcceptedFrame),
    /// A frame whose counter was used before with the same bytes or values; acknowledged, otherwise without effect.
    Repeated(RepeatedFrame),
    /// A frame that is kept as evidence and has no other effect.
    Quarantined(QuarantinedFrame),
    /// The answer to a contested reading, looked up outside of the fold.
    Resolved(Resolution),
    /// What a meter is from now on.
    MeterTerms(MeterTerms),
    /// What an account is from now on.
    AccountTerms(AccountTerms),
    /// A tariff from a day on.
    TariffVersion(TariffVersion),
    /// A civil day is over for these accounts: book it.
    DayClosed(DayClosed),
    /// Money received.
    Recharge(Recharge),
    /// A policy of credit control from a day on.
    CreditPolicy(CreditPolicyVersion),
    /// A consumer was told how far the balance is down.
    NoticeSent(NoticeSent),
    /// Old dues of an account.
    Arrears(Arrears),
    /// Money that was booked went back to where it came from.
    PaymentReversed(PaymentReversed),
    /// Money received of which it is not known whose account it is for.
    SuspenseReceived(SuspenseReceived),
    /// Money that was in suspense is for this account.
    SuspenseAssigned(SuspenseAssigned),
    /// Money that was booked to this account is not for it.
    PaymentMisdirected(PaymentMisdirected),
}

/// A push taken in: counter and what it brought are one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedFrame {
    /// The sender.
    pub meter: MeterId,
    /// The way it came.
    pub source: Source,
    /// Which of the meter's successive keys verified it.
    pub key_epoch: u16,
    /// Invocation counter; `None` for a plain frame under the policy `transport`.
    pub counter: Option<u32>,
    /// The counter lies below the window: readings only, no relay state, clock or freshness.
    pub late: bool,
    /// Digest of `raw`.
    pub digest: Digest,
    /// The clock in the push body, if it had one that could be read.
    pub pushed_at: Option<Instant>,
    /// The readings it brought.
    pub readings: Readings,
    /// The event status word it brought.
    pub event_word: Option<EventWord>,
    /// The frame's bytes as received. Frames that came together may share one buffer, which lives as long as any of them.
    pub raw: Bytes,
}

/// A redelivery that got past the ring of recent digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedFrame {
    /// The sender.
    pub meter: MeterId,
    /// The way it came.
    pub source: Source,
    /// Which of the meter's keys verified it.
    pub key_epoch: u16,
    /// Its invocation counter.
    pub counter: Option<u32>,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// Why a frame has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QuarantineReason {
    /// The system title is not registered; the frame waits for the registration.
    UnknownTitle = 1,
    /// The bytes are no frame or APDU we can read; kind and offset are in the detail.
    Undecodable = 2,
    /// The authentication tag is wrong.
    TagMismatch = 3,
    /// Less protection than the meter's policy asks for.
    PolicyRefused = 4,
    /// The counter was used before with other bytes and other values: a security event.
    CounterReused = 5,
    /// The body does not fit the meter's profile.
    ProfileMismatch = 6,
    /// The title differs from the one bound to the connection or topic.
    IdentityMismatch = 7,
    /// The meter's keys are not in force (its terms are not there or it is retired).
    NoTerms = 8,
    /// The counter was used before, so long ago that neither bytes nor values are remembered: a copy that comes late,
    /// or a reuse. It has no effect.
    CounterForgotten = 9,
    /// A stamp lies so far ahead of receipt that the meter's clock is garbage; position and stamp are in the detail.
    FarAhead = 10,
    /// Verified by a key that was replaced, longer ago than frames are on their way.
    ReplacedKey = 11,
    /// An APDU that has sense only inside an association, and nobody asked for it; which one is in the detail.
    Unasked = 12,
}

impl QuarantineReason {
    /// All of them.
    pub const ALL: [QuarantineReason; 12] = [
        QuarantineReason::UnknownTitle,
        QuarantineReason::Undecodable,
        QuarantineReason::TagMismatch,
        QuarantineReason::PolicyRefused,
        QuarantineReason::CounterReused,
        QuarantineReason::ProfileMismatch,
        QuarantineReason::IdentityMismatch,
        QuarantineReason::NoTerms,
        QuarantineReason::CounterForgotten,
        QuarantineReason::FarAhead,
        QuarantineReason::ReplacedKey,
        QuarantineReason::Unasked,
    ];

    /// The word used in SQL, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            QuarantineReason::UnknownTitle => "unknown_title",
            QuarantineReason::Undecodable => "undecodable",
            QuarantineReason::TagMismatch => "tag_mismatch",
            QuarantineReason::PolicyRefused => "policy_refused",
            QuarantineReason::CounterReused => "counter_reused",
            QuarantineReason::ProfileMismatch => "profile_mismatch",
            QuarantineReason::IdentityMismatch => "identity_mismatch",
            QuarantineReason::NoTerms => "no_terms",
            QuarantineReason::CounterForgotten => "counter_forgotten",
            QuarantineReason::FarAhead => "far_ahead",
            QuarantineReason::ReplacedKey => "replaced_key",
            QuarantineReason::Unasked => "unasked",
        }
    }
}

/// Evidence: bytes that had no effect, with the reason, so that they can be decoded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedFrame {
    /// The way it came.
    pub source: Source,
    /// The title it claims, where one could be read.
    pub title: Option<SystemTitle>,
    /// The meter of that title, where it is registered.
    pub meter: Option<MeterId>,
    /// Why.
    pub reason: QuarantineReason,
    /// Kind and byte offset of the fault, or what else helps.
    pub detail: String,
    /// Digest of `raw`.
    pub digest: Digest,
    /// The frame's bytes as received.
    pub raw: Vec<u8>,
}

/// Answer to one contested reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The record that brought the contested reading.
    pub contested: Position,
    /// Which of its readings.
    pub index: u16,
    /// The answer.
    pub verdict: Verdict,
}

/// What the look-up of a contested reading found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The value in force covers it: counted, nothing changes.
    Repeated,
    /// There is no value for the key after all: it is the first.
    Absent,
    /// It differs: stored as a revision.
    Revised {
        /// The values in force before it.
        before: Values,
        /// The values in force with it, each channel by rank.
        after: Values,
        /// Highest demand in W of the meter's month without this reading's interval, for intervals.
        demand_without_w: Option<i64>,
    },
}

/// Terms of a meter. What the fold must know of it; no key and no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterTerms {
    /// Outbox entry of the registry that this fact drains.
    pub outbox: OutboxId,
    /// The meter.
    pub meter: MeterId,
    /// Its system title.
    pub title: SystemTitle,
    /// The account whose energy it measures.
    pub account: Option<AccountId>,
    /// Name of its profile.
    pub profile: String,
    /// Capture period of its intervals, seconds.
    pub period_s: u32,
    /// Whether an authentication tag is required (policy `authenticated`).
    pub authenticated: bool,
    /// Number of its present keys.
    pub key_epoch: u16,
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnectionType {
    /// Charged daily from a balance.
    Prepaid = 1,
    /// Billed monthly.
    Postpaid = 2,
}

impl ConnectionType {
    /// The word used in files and SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConnectionType::Prepaid => "prepaid",
            ConnectionType::Postpaid => "postpaid",
        }
    }
}

/// Terms of an account. No name, number or mobile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTerms {
    /// Outbox entry of the registry that this fact drains.
    pub outbox: OutboxId,
    /// The account.
    pub account: AccountId,
    /// How it pays.
    pub connection: ConnectionType,
    /// Name of the tariff it is charged under.
    pub tariff: String,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
    /// First civil day that is charged.
    pub from: CivilDay,
    /// Register of active energy imported at the start of `from`, Wh; anchors the first month.
    pub opening_register_wh: i64,
    /// Balance taken over at the start of `from`; positive is the consumer's credit.
    pub opening_balance: Paise,
}

/// One version of a tariff, whole: a file on disk changes nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TariffVersion {
    /// Name of the tariff, for example `lmv1-urban`.
    pub name: String,
    /// First civil day it is in force; a first of month.
    pub from: CivilDay,
    /// Digest of `body`; postings name it.
    pub digest: Digest,
    /// The validated TOML text.
    pub body: String,
}

/// A civil day is closed for a slice of accounts. Days close in order, and within a day the slices in order of id;
/// recharges may stand between slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayClosed {
    /// The day.
    pub day: CivilDay,
    /// First account of the slice.
    pub first: AccountId,
    /// Last account of the slice.
    pub last: AccountId,
    /// Whether this slice completes the day.
    pub complete: bool,
}

/// Money received for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recharge {
    /// The account.
    pub account: AccountId,
    /// Amount; positive.
    pub amount: Paise,
    /// Id of the payment at its source; the same id is the same payment.
    pub payment_id: String,
}

/// One version of a policy of credit control, whole: a file on disk changes nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditPolicyVersion {
    /// First civil day it is in force.
    pub from: CivilDay,
    /// Digest of `body`.
    pub digest: Digest,
    /// The validated TOML text.
    pub body: String,
}

/// How far a prepaid balance has come down. Alerts of the policy in force count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeLevel(pub u8);

impl NoticeLevel {
    /// Not as far as any alert.
    pub const NONE: NoticeLevel = NoticeLevel(0);
    /// Used up: below zero.
    pub const USED_UP: NoticeLevel = NoticeLevel(u8::MAX);
}

/// A notice that was sent: emergency credit begins with that of a balance that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeSent {
    /// The account.
    pub account: AccountId,
    /// What it said.
    pub level: NoticeLevel,
    /// Round of the account's notices that it belongs to: one that was overtaken by a recharge starts nothing.
    pub round: u16,
}

/// Old dues of an account, beside its balance: recharges pay a share of them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrears {
    /// Outbox entry of the registry that this fact drains.
    pub outbox: OutboxId,
    /// The account.
    pub account: AccountId,
    /// What is owed; positive.
    pub amount: Paise,
}

/// Why a payment that was booked is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReversalReason {
    /// The utility gave it back.
    Refunded = 1,
    /// The payer's bank took it back.
    Chargeback = 2,
    /// A cheque or a mandate was not honoured.
    Bounced = 3,
    /// It was booked by mistake: there was no such money.
    Mistaken = 4,
}

impl ReversalReason {
    /// All of them.
    pub const ALL: [ReversalReason; 4] = [
        ReversalReason::Refunded,
        ReversalReason::Chargeback,
        ReversalReason::Bounced,
        ReversalReason::Mistaken,
    ];

    /// The word used in SQL and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReversalReason::Refunded => "refunded",
            ReversalReason::Chargeback => "chargeback",
            ReversalReason::Bounced => "bounced",
            ReversalReason::Mistaken => "mistaken",
        }
    }
}

/// A payment that was booked is taken back, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentReversed {
    /// Id of the payment at its source.
    pub payment_id: String,
    /// Why.
    pub reason: ReversalReason,
}

/// Money received of which it is not known whose account it is for: it is kept under a head of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspenseReceived {
    /// Id of the payment at its source.
    pub payment_id: String,
    /// Amount; positive.
    pub amount: Paise,
}

/// Money that was in suspense is for this account: to it, it is a recharge of this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspenseAssigned {
    /// Id of the payment at its source.
    pub payment_id: String,
    /// The account.
    pub account: AccountId,
}

/// Money that was booked to this account is not for it: it goes to suspense, until it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentMisdirected {
    /// Id of the payment at its source.
    pub payment_id: String,
    /// The account it is taken from: said again after it was assigned to another one, it changes nothing.
    pub account: AccountId,
}

const VERSION: u8 = 1;

/// Numbers of the kinds in the journal; never reused.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Frame = 1,
    Repeated = 2,
    Quarantined = 3,
    Resolved = 4,
    MeterTerms = 5,
    AccountTerms = 6,
    TariffVersion = 7,
    DayClosed = 8,
    Recharge = 9,
    CreditPolicy = 10,
    NoticeSent = 11,
    Arrears = 12,
    PaymentReversed = 13,
    SuspenseReceived = 14,
    SuspenseAssigned = 15,
    PaymentMisdirected = 16,
}

impl Fact {
    /// The word used in SQL and by `urja inspect`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fact::Frame(_) => "frame",
            Fact::Repeated(_) => "repeated",
            Fact::Quarantined(_) => "quarantined",
            Fact::Resolved(_) => "resolved",
            Fact::MeterTerms(_) => "meter_terms",
            Fact::AccountTerms(_) => "account_terms",
            Fact::TariffVersion(_) => "tariff_version",
            Fact::DayClosed(_) => "day_closed",
            Fact::Recharge(_) => "recharge",
            Fact::CreditPolicy(_) => "credit_policy",
            Fact::NoticeSent(_) => "notice_sent",
            Fact::Arrears(_) => "arrears",
            Fact::PaymentReversed(_) => "payment_reversed",
            Fact::SuspenseReceived(_) => "suspense_received",
            Fact::SuspenseAssigned(_) => "suspense_assigned",
            Fact::PaymentMisdirected(_) => "payment_misdirected",
        }
    }

    /// Whether this fact is one of control: not a frame and not the answer to one. These are always rows of table
    /// `fact`.
    #[must_use]
    pub fn is_control(&self) -> bool {
        matches!(
            self,
            Fact::MeterTerms(_)
                | Fact::AccountTerms(_)
                | Fact::TariffVersion(_)
                | Fact::DayClosed(_)
                | Fact::Recharge(_)
                | Fact::CreditPolicy(_)
                | Fact::NoticeSent(_)
                | Fact::Arrears(_)
                | Fact::PaymentReversed(_)
                | Fact::SuspenseReceived(_)
                | Fact::SuspenseAssigned(_)
                | Fact::PaymentMisdirected(_)
        )
    }

    /// Appends the record's bytes for the journal.
    pub fn encode(&self, received_at: Instant, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.u8(self.kind() as u8);
        w.u8(VERSION);
        w.instant(received_at);
        match self {
            Fact::Frame(frame) => write_frame(&mut w, frame),
            Fact::Repeated(frame) => write_repeated(&mut w, frame),
            Fact::Quarantined(frame) => write_quarantined(&mut w, frame),
            Fact::Resolved(resolution) => write_resolution(&mut w, resolution),
            Fact::MeterTerms(terms) => write_meter_terms(&mut w, terms),
            Fact::AccountTerms(terms) => write_account_terms(&mut w, terms),
            Fact::TariffVersion(version) => write_tariff_version(&mut w, version),
            Fact::DayClosed(closed) => write_day_closed(&mut w, *closed),
            Fact::Recharge(recharge) => write_recharge(&mut w, recharge),
            Fact::CreditPolicy(version) => write_credit_policy(&mut w, version),
            Fact::NoticeSent(notice) => write_notice_sent(&mut w, *notice),
            Fact::Arrears(arrears) => write_arrears(&mut w, *arrears),
            Fact::PaymentReversed(reversed) => write_payment_reversed(&mut w, reversed),
            Fact::SuspenseReceived(received) => write_suspense_received(&mut w, received),
            Fact::SuspenseAssigned(assigned) => {
                write_payment_of(&mut w, assigned.account, &assigned.payment_id);
            }
            Fact::PaymentMisdirected(misdirected) => {
                write_payment_of(&mut w, misdirected.account, &misdirected.payment_id);
            }
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Fact::Frame(_) => Kind::Frame,
            Fact::Repeated(_) => Kind::Repeated,
            Fact::Quarantined(_) => Kind::Quarantined,
            Fact::Resolved(_) => Kind::Resolved,
            Fact::MeterTerms(_) => Kind::MeterTerms,
            Fact::AccountTerms(_) => Kind::AccountTerms,
            Fact::TariffVersion(_) => Kind::TariffVersion,
            Fact::DayClosed(_) => Kind::DayClosed,
            Fact::Recharge(_) => Kind::Recharge,
            Fact::CreditPolicy(_) => Kind::CreditPolicy,
            Fact::NoticeSent(_) => Kind::NoticeSent,
            Fact::Arrears(_) => Kind::Arrears,
            Fact::PaymentReversed(_) => Kind::PaymentReversed,
            Fact::SuspenseReceived(_) => Kind::SuspenseReceived,
            Fact::SuspenseAssigned(_) => Kind::SuspenseAssigned,
            Fact::PaymentMisdirected(_) => Kind::PaymentMisdirected,
        }
    }
}

impl Record {
    /// Reads the record that the journal keeps at `position`.
    ///
    /// # Errors
    /// When the bytes are no record of a kind and version that is known, whole.
    pub fn decode(position: Position, bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut r = Reader(bytes);
        let kind = kind_of(r.u8("kind")?)?;
        let version = r.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { kind: kind_name(kind), version });
        }
        let received_at = r.instant("received_at")?;
        let fact = match kind {
            Kind::Frame => Fact::Frame(read_frame(&mut r)?),
            Kind::Repeated => Fact::Repeated(read_repeated(&mut r)?),
            Kind::Quarantined => Fact::Quarantined(read_quarantined(&mut r)?),
            Kind::Resolved => Fact::Resolved(read_resolution(&mut r)?),
            Kind::MeterTerms => Fact::MeterTerms(read_meter_terms(&mut r)?),
            Kind::AccountTerms => Fact::AccountTerms(read_account_terms(&mut r)?),
            Kind::TariffVersion => Fact::TariffVersion(read_tariff_version(&mut r)?),
            Kind::DayClosed => Fact::DayClosed(read_day_closed(&mut r)?),
            Kind::Recharge => Fact::Recharge(read_recharge(&mut r)?),
            Kind::CreditPolicy => Fact::CreditPolicy(read_credit_policy(&mut r)?),
            Kind::NoticeSent => Fact::NoticeSent(read_notice_sent(&mut r)?),
            Kind::Arrears => Fact::Arrears(read_arrears(&mut r)?),
            Kind::PaymentReversed => Fact::PaymentReversed(read_payment_reversed(&mut r)?),
            Kind::SuspenseReceived => Fact::SuspenseReceived(read_suspense_received(&mut r)?),
            Kind::SuspenseAssigned => {
                let (account, payment_id) = read_payment_of(&mut r)?;
                Fact::SuspenseAssigned(SuspenseAssigned { payment_id, account })
            }
            Kind::PaymentMisdirected => {
                let (account, payment_id) = read_payment_of(&mut r)?;
                Fact::PaymentMisdirected(PaymentMisdirected { payment_id, account })
            }
        };
        r.finish()?;
        Ok(Record { position, received_at, fact })
    }
}

fn kind_of(number: u8) -> Result<Kind, DecodeError> {
    [
        Kind::Frame,
        Kind::Repeated,
        Kind::Quarantined,
        Kind::Resolved,
        Kind::MeterTerms,
        Kind::AccountTerms,
        Kind::TariffVersion,
        Kind::DayClosed,
        Kind::Recharge,
        Kind::CreditPolicy,
        Kind::NoticeSent,
        Kind::Arrears,
        Kind::PaymentReversed,
        Kind::SuspenseReceived,
        Kind::SuspenseAssigned,
        Kind::PaymentMisdirected,
    ]
    .into_iter()
    .find(|kind| *kind as u8 == number)
    .ok_or(DecodeError::UnknownKind(number))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Frame => "frame",
        Kind::Repeated => "repeated",
        Kind::Quarantined => "quarantined",
        Kind::Resolved => "resolved",
        Kind::MeterTerms => "meter_terms",
        Kind::AccountTerms => "account_terms",
        Kind::TariffVersion => "tariff_version",
        Kind::DayClosed => "day_closed",
        Kind::Recharge => "recharge",
        Kind::CreditPolicy => "credit_policy",
        Kind::NoticeSent => "notice_sent",
        Kind::Arrears => "arrears",
        Kind::PaymentReversed => "payment_reversed",
        Kind::SuspenseReceived => "suspense_received",
        Kind::SuspenseAssigned => "suspense_assigned",
        Kind::PaymentMisdirected => "payment_misdirected",
    }
}

fn read_source(r: &mut Reader<'_>) -> Result<Source, DecodeError> {
    Source::from_index(r.u8("source")?).ok_or(DecodeError::Invalid("source"))
}

fn write_frame(w: &mut Writer<'_>, frame: &AcceptedFrame) {
    w.u32(frame.meter.0);
    w.u8(frame.source as u8);
    w.u16(frame.key_epoch);
    w.option(frame.counter, Writer::u32);
    w.u8(u8::from(frame.late));
    w.raw(&frame.digest.0);
    w.option(frame.pushed_at, Writer::instant);
    w.u16(u16::try_from(frame.readings.len()).unwrap_or(u16::MAX));
    for reading in &frame.readings {
        write_reading(w, reading);
    }
    w.option(frame.event_word, |w, word| w.raw(&word.0));
    w.blob(&frame.raw);
}

fn read_frame(r: &mut Reader<'_>) -> Result<AcceptedFrame, DecodeError> {
    Ok(AcceptedFrame {
        meter: MeterId(r.u32("meter")?),
        source: read_source(r)?,
        key_epoch: r.u16("key_epoch")?,
        counter: r.option("counter", |r| r.u32("counter"))?,
        late: r.bool("late")?,
        digest: Digest(r.array("digest")?),
        pushed_at: r.option("pushed_at", |r| r.instant("pushed_at"))?,
        readings: read_readings(r)?,
        event_word: r.option("event_word", |r| r.array("event_word").map(EventWord))?,
        raw: Bytes::copy_from_slice(r.blob("raw")?),
    })
}

fn write_reading(w: &mut Writer<'_>, reading: &Reading) {
    w.u8(reading.kind as u8);
    w.instant(reading.end);
    w.option(reading.deviation_min, |w, deviation| w.raw(&deviation.to_le_bytes()));
    w.u8(reading.clock_status);
    w.u32(reading.quality.0);
    w.values(&reading.values);
}

fn read_readings(r: &mut Reader<'_>) -> Result<Readings, DecodeError> {
    let count = r.u16("readings")?;
    (0..count).map(|_| read_reading(r)).collect()
}

fn read_reading(r: &mut Reader<'_>) -> Result<Reading, DecodeError> {
    Ok(Reading {
        kind: ReadingKind::from_number(r.u8("reading kind")?).ok_or(DecodeError::Invalid("reading kind"))?,
        end: r.instant("interval end")?,
        deviation_min: r.option("deviation", |r| r.array("deviation").map(i16::from_le_bytes))?,
        clock_status: r.u8("clock status")?,
        quality: Quality(r.u32("quality")?),
        values: r.values("values")?,
    })
}

fn write_repeated(w: &mut Writer<'_>, frame: &RepeatedFrame) {
    w.u32(frame.meter.0);
    w.u8(frame.source as u8);
    w.u16(frame.key_epoch);
    w.option(frame.counter, Writer::u32);
    w.raw(&frame.digest.0);
}

fn read_repeated(r: &mut Reader<'_>) -> Result<RepeatedFrame, DecodeError> {
    Ok(RepeatedFrame {
        meter: MeterId(r.u32("meter")?),
        source: read_source(r)?,
        key_epoch: r.u16("key_epoch")?,
        counter: r.option("counter", |r| r.u32("counter"))?,
        digest: Digest(r.array("digest")?),
    })
}

fn write_quarantined(w: &mut Writer<'_>, frame: &QuarantinedFrame) {
    w.u8(frame.source as u8);
    w.option(frame.title, |w, title| w.raw(&title.0));
    w.option(frame.meter, |w, meter| w.u32(meter.0));
    w.u8(frame.reason as u8);
    w.blob(frame.detail.as_bytes());
    w.raw(&frame.digest.0);
    w.blob(&frame.raw);
}

fn read_quarantined(r: &mut Reader<'_>) -> Result<QuarantinedFrame, DecodeError> {
    Ok(QuarantinedFrame {
        source: read_source(r)?,
        title: r.option("title", |r| r.array("title").map(SystemTitle))?,
        meter: r.option("meter", |r| r.u32("meter").map(MeterId))?,
        reason: read_reason(r)?,
        detail: r.text("detail")?,
        digest: Digest(r.array("digest")?),
        raw: r.blob("raw")?.to_vec(),
    })
}

fn read_reason(r: &mut Reader<'_>) -> Result<QuarantineReason, DecodeError> {
    let number = r.u8("reason")?;
    QuarantineReason::ALL
        .into_iter()
        .find(|reason| *reason as u8 == number)
        .ok_or(DecodeError::Invalid("reason"))
}

fn write_resolution(w: &mut Writer<'_>, resolution: &Resolution) {
    w.u64(resolution.contested.0);
    w.u16(resolution.index);
    match &resolution.verdict {
        Verdict::Repeated => w.u8(1),
        Verdict::Absent => w.u8(2),
        Verdict::Revised { before, after, demand_without_w } => {
            w.u8(3);
            w.values(before);
            w.values(after);
            w.option(*demand_without_w, Writer::i64);
        }
    }
}

fn read_resolution(r: &mut Reader<'_>) -> Result<Resolution, DecodeError> {
    let contested = Position(r.u64("contested")?);
    let index = r.u16("index")?;
    let verdict = match r.u8("verdict")? {
        1 => Verdict::Repeated,
        2 => Verdict::Absent,
        3 => Verdict::Revised {
            before: r.values("before")?,
            after: r.values("after")?,
            demand_without_w: r.option("demand", |r| r.i64("demand"))?,
        },
        _ => return Err(DecodeError::Invalid("verdict")),
    };
    Ok(Resolution { contested, index, verdict })
}

fn write_meter_terms(w: &mut Writer<'_>, terms: &MeterTerms) {
    w.u64(terms.outbox.0);
    w.u32(terms.meter.0);
    w.raw(&terms.title.0);
    w.option(terms.account, |w, account| w.u32(account.0));
    w.blob(terms.profile.as_bytes());
    w.u32(terms.period_s);
    w.u8(u8::from(terms.authenticated));
    w.u16(terms.key_epoch);
}

fn read_meter_terms(r: &mut Reader<'_>) -> Result<MeterTerms, DecodeError> {
    Ok(MeterTerms {
        outbox: OutboxId(r.u64("outbox")?),
        meter: MeterId(r.u32("meter")?),
        title: SystemTitle(r.array("title")?),
        account: r.option("account", |r| r.u32("account").map(AccountId))?,
        profile: r.text("profile")?,
        period_s: r.u32("period_s")?,
        authenticated: r.bool("authenticated")?,
        key_epoch: r.u16("key_epoch")?,
    })
}

fn write_account_terms(w: &mut Writer<'_>, terms: &AccountTerms) {
    w.u64(terms.outbox.0);
    w.u32(terms.account.0);
    w.u8(terms.connection as u8);
    w.blob(terms.tariff.as_bytes());
    w.u32(terms.sanctioned_w);
    w.day(terms.from);
    w.i64(terms.opening_register_wh);
    w.i64(terms.opening_balance.0);
}

fn read_account_terms(r: &mut Reader<'_>) -> Result<AccountTerms, DecodeError> {
    Ok(AccountTerms {
        outbox: OutboxId(r.u64("outbox")?),
        account: AccountId(r.u32("account")?),
        connection: match r.u8("connection")? {
            1 => ConnectionType::Prepaid,
            2 => ConnectionType::Postpaid,
            _ => return Err(DecodeError::Invalid("connection")),
        },
        tariff: r.text("tariff")?,
        sanctioned_w: r.u32("sanctioned_w")?,
        from: r.day("from")?,
        opening_register_wh: r.i64("opening_register_wh")?,
        opening_balance: Paise(r.i64("opening_balance")?),
    })
}

fn write_tariff_version(w: &mut Writer<'_>, version: &TariffVersion) {
    w.blob(version.name.as_bytes());
    w.day(version.from);
    w.raw(&version.digest.0);
    w.blob(version.body.as_bytes());
}

fn read_tariff_version(r: &mut Reader<'_>) -> Result<TariffVersion, DecodeError> {
    Ok(TariffVersion {
        name: r.text("name")?,
        from: r.day("from")?,
        digest: Digest(r.array("digest")?),
        body: r.text("body")?,
    })
}

fn write_day_closed(w: &mut Writer<'_>, closed: DayClosed) {
    w.day(closed.day);
    w.u32(closed.first.0);
    w.u32(closed.last.0);
    w.u8(u8::from(closed.complete));
}

fn read_day_closed(r: &mut Reader<'_>) -> Result<DayClosed, DecodeError> {
    Ok(DayClosed {
        day: r.day("day")?,
        first: AccountId(r.u32("first")?),
        last: AccountId(r.u32("last")?),
        complete: r.bool("complete")?,
    })
}

fn write_recharge(w: &mut Writer<'_>, recharge: &Recharge) {
    w.u32(recharge.account.0);
    w.i64(recharge.amount.0);
    w.blob(recharge.payment_id.as_bytes());
}

fn read_recharge(r: &mut Reader<'_>) -> Result<Recharge, DecodeError> {
    Ok(Recharge {
        account: AccountId(r.u32("account")?),
        amount: Paise(r.i64("amount")?),
        payment_id: r.text("payment_id")?,
    })
}

fn write_credit_policy(w: &mut Writer<'_>, version: &CreditPolicyVersion) {
    w.day(version.from);
    w.raw(&version.digest.0);
    w.blob(version.body.as_bytes());
}

fn read_credit_policy(r: &mut Reader<'_>) -> Result<CreditPolicyVersion, DecodeError> {
    Ok(CreditPolicyVersion {
        from: r.day("from")?,
        digest: Digest(r.array("digest")?),
        body: r.text("body")?,
    })
}

fn write_notice_sent(w: &mut Writer<'_>, notice: NoticeSent) {
    w.u32(notice.account.0);
    w.u8(notice.level.0);
    w.u16(notice.round);
}

fn read_notice_sent(r: &mut Reader<'_>) -> Result<NoticeSent, DecodeError> {
    Ok(NoticeSent {
        account: AccountId(r.u32("account")?),
        level: NoticeLevel(r.u8("level")?),
        round: r.u16("round")?,
    })
}

fn write_arrears(w: &mut Writer<'_>, arrears: Arrears) {
    w.u64(arrears.outbox.0);
    w.u32(arrears.account.0);
    w.i64(arrears.amount.0);
}

fn read_arrears(r: &mut Reader<'_>) -> Result<Arrears, DecodeError> {
    Ok(Arrears {
        outbox: OutboxId(r.u64("outbox")?),
        account: AccountId(r.u32("account")?),
        amount: Paise(r.i64("amount")?),
    })
}

fn write_payment_reversed(w: &mut Writer<'_>, reversed: &PaymentReversed) {
    w.u8(reversed.reason as u8);
    w.blob(reversed.payment_id.as_bytes());
}

fn read_payment_reversed(r: &mut Reader<'_>) -> Result<PaymentReversed, DecodeError> {
    let reason = r.u8("reason")?;
    let reason = ReversalReason::ALL.into_iter().find(|of| *of as u8 == reason);
    Ok(PaymentReversed {
        reason: reason.ok_or(DecodeError::Invalid("reason"))?,
        payment_id: r.text("payment_id")?,
    })
}

fn write_suspense_received(w: &mut Writer<'_>, received: &SuspenseReceived) {
    w.i64(received.amount.0);
    w.blob(received.payment_id.as_bytes());
}

fn read_suspense_received(r: &mut Reader<'_>) -> Result<SuspenseReceived, DecodeError> {
    Ok(SuspenseReceived { amount: Paise(r.i64("amount")?), payment_id: r.text("payment_id")? })
}

fn write_payment_of(w: &mut Writer<'_>, account: AccountId, payment_id: &str) {
    w.u32(account.0);
    w.blob(payment_id.as_bytes());
}

fn read_payment_of(r: &mut Reader<'_>) -> Result<(AccountId, String), DecodeError> {
    Ok((AccountId(r.u32("account")?), r.text("payment_id")?))
}

#[cfg(test)]
mod tests;
