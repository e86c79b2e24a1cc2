//! Rows: what the fold makes of records for the tables of the lake. Each carries the position of its record.

use crate::{
    AccountId, CivilDay, Digest, Instant, MeterId, Paise, Position, Quality, QuarantineReason, Rank, Source,
    SystemTitle, Values,
};

/// A row of one of the lake's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// `frame`
    Frame(FrameRow),
    /// `interval_reading`: the first value of a key
    Interval(ReadingRow),
    /// `interval_revision`: later values of keys of all reading kinds
    Revision(RevisionRow),
    /// `daily_reading`: the first value of a key
    Daily(ReadingRow),
    /// `instant_reading`
    Instant(ReadingRow),
    /// `event`
    Event(EventRow),
    /// `quarantine`
    Quarantine(QuarantineRow),
    /// `ledger_posting`
    Posting(PostingRow),
    /// `fact`
    Fact(FactRow),
}

impl Row {
    /// The record this row comes from.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Row::Frame(row) => row.position,
            Row::Interval(row) | Row::Daily(row) | Row::Instant(row) => row.position,
            Row::Revision(row) => row.position,
            Row::Event(row) => row.position,
            Row::Quarantine(row) => row.position,
            Row::Posting(row) => row.position,
            Row::Fact(row) => row.position,
        }
    }
}

/// An accepted or repeated frame; readings, events and postings are traced to it by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// The record.
    pub position: Position,
    /// When it was received.
    pub received_at: Instant,
    /// The way it came.
    pub source: Source,
    /// The sender.
    pub meter: MeterId,
    /// Which of the meter's keys verified it.
    pub key_epoch: u16,
    /// Invocation counter.
    pub counter: Option<u32>,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Whether it was a redelivery without effect.
    pub repeated: bool,
    /// Whether its counter lay below the window.
    pub late: bool,
    /// Length of the frame, bytes.
    pub bytes: u32,
}

/// The first value of a reading's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingRow {
    /// The record that brought it (the frame, also where a resolution said it was the first).
    pub position: Position,
    /// The meter.
    pub meter: MeterId,
    /// End of the interval or instant of the capture.
    pub end: Instant,
    /// Civil day it is counted to.
    pub usage_date: CivilDay,
    /// Deviation as sent, minutes.
    pub deviation_min: Option<i16>,
    /// Clock status as sent.
    pub clock_status: u8,
    /// What is to be known about it.
    pub quality: Quality,
    /// The channels.
    pub values: Values,
}

/// A later, different value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRow {
    /// The record that made it a row: the resolution.
    pub position: Position,
    /// The frame that brought the value.
    pub frame: Position,
    /// Which profile: interval or daily.
    pub kind: crate::ReadingKind,
    /// The meter.
    pub meter: MeterId,
    /// End of the interval or instant of the capture.
    pub end: Instant,
    /// Civil day it is counted to.
    pub usage_date: CivilDay,
    /// Deviation as sent, minutes.
    pub deviation_min: Option<i16>,
    /// Clock status as sent.
    pub clock_status: u8,
    /// What is to be known about it.
    pub quality: Quality,
    /// What decides between values of the key.
    pub rank: Rank,
    /// Its own values.
    pub values: Values,
}

/// A change of one flag of a meter's event status word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The record.
    pub position: Position,
    /// The meter.
    pub meter: MeterId,
    /// The meter's clock in the push, else the moment of receipt.
    pub at: Instant,
    /// When it was received.
    pub received_at: Instant,
    /// Number of the flag, 0 to 127.
    pub bit: u8,
    /// True: it occurred; false: it was restored.
    pub occurred: bool,
    /// Below the counter's window: evidence, not state.
    pub late: bool,
}

/// A frame that had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineRow {
    /// The record.
    pub position: Position,
    /// When it was received.
    pub received_at: Instant,
    /// The way it came.
    pub source: Source,
    /// The title it claims.
    pub title: Option<SystemTitle>,
    /// The meter of that title.
    pub meter: Option<MeterId>,
    /// Why.
    pub reason: QuarantineReason,
    /// Kind and offset of the fault.
    pub detail: String,
    /// The bytes as received.
    pub raw: Vec<u8>,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PostingKind {
    /// Balance taken over.
    Opening = 1,
    /// Money received.
    Recharge = 2,
    /// Charge of a civil day at its close.
    Usage = 3,
    /// Difference to a day or month already booked.
    Correction = 4,
    /// Old dues taken over.
    Arrears = 5,
    /// Money that was received and went back, or went to suspense.
    Reversal = 6,
    /// Money received that belongs to no account yet: its account is 0.
    Suspense = 7,
}

impl PostingKind {
    /// The word used in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PostingKind::Opening => "opening",
            PostingKind::Recharge => "recharge",
            PostingKind::Usage => "usage",
            PostingKind::Correction => "correction",
            PostingKind::Arrears => "arrears",
            PostingKind::Reversal => "reversal",
            PostingKind::Suspense => "suspense",
        }
    }
}

/// Account of the ledger a line is booked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Head {
    /// What the utility owes the consumer (prepaid balance): negative lines lower the balance.
    Consumer = 0,
    /// Energy charge, gross.
    Energy = 1,
    /// Fixed charge on billable demand.
    Fixed = 2,
    /// Government subsidy.
    Subsidy = 3,
    /// Fuel and power purchase adjustment surcharge.
    Surcharge = 4,
    /// Electricity duty.
    Duty = 5,
    /// Prepaid rebate.
    Rebate = 6,
    /// Money in.
    Cash = 7,
    /// Balances taken over.
    Migration = 8,
    /// What is missing to the minimum charge.
    Minimum = 9,
    /// Adder for energy of renewable sources, for who asked for it.
    Green = 10,
    /// Old dues beside the balance: negative lines are owed, positive ones paid off.
    Arrears = 11,
    /// Money of which it is not known whose account it is for: what the utility owes whom it will be assigned to.
    Suspense = 12,
}

impl Head {
    /// All of them, by number.
    pub const ALL: [Head; 13] = [
        Head::Consumer,
        Head::Energy,
        Head::Fixed,
        Head::Subsidy,
        Head::Surcharge,
        Head::Duty,
        Head::Rebate,
        Head::Cash,
        Head::Migration,
        Head::Minimum,
        Head::Green,
        Head::Arrears,
        Head::Suspense,
    ];

    /// The heads a charge is made of, in the order in which its lines are booked.
    pub const CHARGED: [Head; 8] = [
        Head::Energy,
        Head::Fixed,
        Head::Subsidy,
        Head::Surcharge,
        Head::Duty,
        Head::Rebate,
        Head::Minimum,
        Head::Green,
    ];

    /// The word used in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Head::Consumer => "consumer",
            Head::Energy => "energy",
            Head::Fixed => "fixed",
            Head::Subsidy => "subsidy",
            Head::Surcharge => "surcharge",
            Head::Duty => "duty",
            Head::Rebate => "rebate",
            Head::Cash => "cash",
            Head::Migration => "migration",
            Head::Minimum => "minimum",
            Head::Green => "green",
            Head::Arrears => "arrears",
            Head::Suspense => "suspense",
        }
    }
}

/// One line of an entry; its id is (position, line). The lines of a position and account sum to zero.
///
/// Sign: on head `consumer` positive is credit to the consumer (the balance rises), negative a charge. On every
/// other head the opposite side of the same entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostingRow {
    /// The record that made it.
    pub position: Position,
    /// Number of the line within the record, from 0.
    pub line: u32,
    /// When the record was received.
    pub booked_at: Instant,
    /// The consumer's account; [`AccountId::SUSPENSE`] of money that belongs to none yet.
    pub account: AccountId,
    /// What the entry is about.
    pub kind: PostingKind,
    /// The civil day charged, or the day of the money.
    pub usage_date: CivilDay,
    /// Account of the ledger.
    pub head: Head,
    /// Amount.
    pub amount: Paise,
    /// Energy charged by the entry, Wh, on its `consumer` line.
    pub energy_wh: Option<i64>,
    /// Tariff version that rated it.
    pub tariff: Option<Digest>,
    /// Payment id of a recharge.
    pub reference: Option<String>,
}

/// A fact that the other tables cannot give back whole, as it stands in the journal: control facts, answers to
/// contested readings, and frames that brought a contested reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactRow {
    /// The record.
    pub position: Position,
    /// When it was received.
    pub received_at: Instant,
    /// Name of the kind.
    pub kind: &'static str,
    /// The record's bytes as in the journal: what a rebuild reads.
    pub body: Vec<u8>,
}
