//! The fold: one record after the other, in journal order, to rows, postings and state.
//!
//! It reads no clock, no file and nothing else from outside: what it needs is in the record or in its state. So the
//! same journal gives the same rows, the same postings and, byte for byte, the same checkpoint sections.

mod close;
mod control;
mod frame;
mod household;
mod money;
mod recharge;
mod resolve;
mod terms;
mod view;

use std::collections::BTreeMap;

use model::row::FactRow;
use model::view::Tally;
use model::{
    AccountId, Calendar, CivilDay, EventWord, Fact, Instant, MeterId, OutboxId, Paise, Position, Record, Row,
    SourceCounts,
};

use crate::account::Account;
use crate::contested::{Contested, OpenTable};
use crate::credit::CreditTable;
use crate::dense::Dense;
use crate::meter::Meter;
use crate::payments::Payments;
use crate::posting::{Postings, Totals};
use crate::slot::{Gaps, winter_offset_us};
use crate::tariffs::Tariffs;
use crate::{Limits, Outcome};

/// What one record led to. The caller clears it between records, or keeps on collecting.
///
/// The rows must be where look-ups find them before the contested readings are handed to the resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Rows for the tables of the lake, stamped with the record's position.
    pub rows: Vec<Row>,
    /// Readings for the resolver to look up.
    pub contested: Vec<Contested>,
    /// What became of the fact.
    pub outcome: Option<Outcome>,
}

/// Why a record was not folded, or a checkpoint is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Records are folded without a gap and never twice.
    #[error("record {found} is not the one after {last}")]
    OutOfOrder {
        /// Last record folded.
        last: Position,
        /// The record given.
        found: Position,
    },
    /// A checkpoint lacks one of its sections.
    #[error("the checkpoint has no section {0:?}")]
    MissingSection(&'static str),
    /// A checkpoint holds a section that this version does not know.
    #[error("the checkpoint has an unknown section {0:?}")]
    UnknownSection(String),
    /// A section is in a layout that this version does not know.
    #[error(
        "section {section:?} of the checkpoint has the unknown layout version {version}, record size {record_size}"
    )]
    UnknownLayout {
        /// Name of the section.
        section: String,
        /// Version found.
        version: u16,
        /// Size of a record found.
        record_size: u32,
    },
    /// A section's bytes are not what they should be.
    #[error("section {section:?} of the checkpoint is malformed: {field}")]
    Malformed {
        /// Name of the section.
        section: &'static str,
        /// What could not be read.
        field: &'static str,
    },
}

/// The state of a partition at one position. A clone of millions of meters and accounts takes a moment: it shares their
/// pages until one of both changes them.
#[derive(Clone, Debug)]
pub struct Fold {
    pub(crate) calendar: Calendar,
    pub(crate) limits: Limits,
    pub(crate) position: Position,
    /// When the last record was received: the fold's only "now".
    pub(crate) now: Instant,
    pub(crate) meters: Dense<Meter>,
    /// Missing slots below the meters' frontiers.
    pub(crate) gaps: Gaps,
    /// Last event status word that was fresh, of the meters that have a flag raised.
    pub(crate) words: BTreeMap<MeterId, EventWord>,
    /// Latest end of a reading that was stored although it lay in the future: up to here an unseen slot is looked up,
    /// because a value of its key may be stored already.
    pub(crate) ahead_until: BTreeMap<MeterId, Instant>,
    /// What the grids of all meters go by.
    pub(crate) winter_offset_us: i64,
    pub(crate) accounts: Dense<Account>,
    /// Lowest meter of each account whose terms have not come yet; follows from the meters.
    pub(crate) unclaimed: BTreeMap<AccountId, MeterId>,
    pub(crate) tariffs: Tariffs,
    pub(crate) payments: Payments,
    pub(crate) credit: CreditTable,
    /// Old dues beside the balance, of accounts that ever had any.
    pub(crate) arrears: Dense<Paise>,
    pub(crate) open: OpenTable,
    pub(crate) totals: Totals,
    pub(crate) tallies: [Tally; 4],
    pub(crate) last_outbox: OutboxId,
    pub(crate) days: Days,
}

/// How far days are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Days {
    /// First day that is not completely closed; `None` as long as there is no account.
    pub(crate) next: Option<CivilDay>,
    /// Whether a slice was ever closed: from then on accounts no longer move `next`.
    pub(crate) started: bool,
    /// First account of `next` that is not booked.
    pub(crate) first_account: AccountId,
}

impl Fold {
    /// The state before the first record.
    #[must_use]
    pub fn new(calendar: Calendar, limits: Limits) -> Fold {
        Fold {
            winter_offset_us: winter_offset_us(&calendar),
            calendar,
            limits,
            position: Position(0),
            now: Instant(0),
            meters: Dense::default(),
            gaps: Gaps::default(),
            words: BTreeMap::new(),
            ahead_until: BTreeMap::new(),
            accounts: Dense::default(),
            unclaimed: BTreeMap::new(),
            tariffs: Tariffs::default(),
            payments: Payments::default(),
            credit: CreditTable::default(),
            arrears: Dense::default(),
            open: OpenTable::default(),
            totals: Totals::default(),
            tallies: [Tally::default(); 4],
            last_outbox: OutboxId(0),
            days: Days::default(),
        }
    }

    /// Last record folded.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Counts the frames of a journal group, before its records: all that were received, and those of them that have
    /// no record. A checkpoint is taken at the end of a group, so that it holds the counts of whole groups.
    pub fn begin_group(&mut self, counts: &[SourceCounts; 4]) {
        for (tally, counts) in self.tallies.iter_mut().zip(counts) {
            tally.received += counts.received;
            tally.repeated += counts.redelivered;
            tally.refused += counts.refused;
        }
    }

    /// Reads what folding these records will read, for some of them at once: meters, then their accounts. Nothing comes
    /// of it but that they are folded sooner, because the waits for memory pass beside each other.
    pub fn touch(&self, records: &[Record]) {
        let meters = || {
            records.iter().filter_map(|record| match &record.fact {
                Fact::Frame(frame) => self.meters.get(frame.meter.0),
                _ => None,
            })
        };
        let read = meters().fold(0, |read, meter| read ^ meter.touch());
        let accounts = meters().filter_map(|meter| self.accounts.get(meter.account()?.0));
        std::hint::black_box(accounts.fold(read, |read, account| read ^ account.touch_all()));
    }

    /// Folds the next record.
    ///
    /// # Errors
    /// When it is not the next one; nothing is changed then.
    pub fn apply(&mut self, record: &Record, out: &mut Effects) -> Result<(), FoldError> {
        if record.position != self.position.next() {
            return Err(FoldError::OutOfOrder { last: self.position, found: record.position });
        }
        self.position = record.position;
        self.now = record.received_at;
        if record.fact.is_control() {
            keep_fact(record, out);
        }
        let outcome = match &record.fact {
            Fact::Frame(frame) => self.frame(record, frame, out),
            Fact::Repeated(frame) => self.repeated(record, frame, out),
            Fact::Quarantined(frame) => self.quarantined(record, frame, out),
            Fact::Resolved(resolution) => self.resolved(record, resolution, out),
            Fact::MeterTerms(terms) => self.meter_terms(record, terms),
            Fact::AccountTerms(terms) => self.account_terms(record, terms, out),
            Fact::TariffVersion(version) => self.tariff_version(version),
            Fact::DayClosed(closed) => self.day_closed(record, *closed, out),
            Fact::Recharge(recharge) => self.recharge(record, recharge, out),
            Fact::CreditPolicy(version) => self.credit_policy(record, version),
            Fact::NoticeSent(notice) => self.notice_sent(record, *notice),
            Fact::Arrears(arrears) => self.take_arrears(record, *arrears, out),
            Fact::PaymentReversed(reversed) => self.payment_reversed(record, reversed, out),
            Fact::SuspenseReceived(received) => self.suspense_received(record, received, out),
            Fact::SuspenseAssigned(assigned) => self.suspense_assigned(record, assigned, out),
            Fact::PaymentMisdirected(misdirected) => self.payment_misdirected(record, misdirected, out),
        };
        out.outcome = Some(outcome);
        Ok(())
    }
}

/// The record's bytes for table `fact`: what the other tables cannot give back whole.
fn keep_fact(record: &Record, out: &mut Effects) {
    let mut body = Vec::new();
    record.fact.encode(record.received_at, &mut body);
    out.rows.push(Row::Fact(FactRow {
        position: record.position,
        received_at: record.received_at,
        kind: record.fact.name(),
        body,
    }));
}

fn postings<'a>(record: &Record, totals: &'a mut Totals, rows: &'a mut Vec<Row>) -> Postings<'a> {
    Postings::new(record.position, record.received_at, totals, rows)
}
