//! What the fold shows of its state: plain values for SQL, the app and the operators, taken at one position.

use crate::{
    AccountId, CivilDay, ConnectionType, Digest, Instant, MeterId, NoticeLevel, Paise, Position, ReadingKind,
};

/// An account's money and energy at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// The account.
    pub account: AccountId,
    /// How it pays.
    pub connection: ConnectionType,
    /// First civil day that is charged.
    pub from: CivilDay,
    /// Every posting so far: recharges, openings, closed days, corrections, reversals.
    pub booked: Paise,
    /// Charge of the days that are not closed yet, to date.
    pub accrued: Paise,
    /// What late data of closed months will cost with the next day that is closed; below zero where it brings money back.
    pub uncorrected: Paise,
    /// Old dues beside the balance.
    pub arrears: Paise,
    /// Energy of the open month to date, Wh.
    pub month_energy_wh: i64,
    /// Highest demand of the open month, W.
    pub month_demand_w: i64,
    /// Energy of the last closed day and of the days after it, as far as it is known, oldest first.
    pub recent: Vec<DayEnergy>,
    /// Amount and time of the last recharge.
    pub last_recharge: Option<(Paise, Instant)>,
    /// Last day that was booked.
    pub booked_until: Option<CivilDay>,
    /// Tariff the account is charged under.
    pub tariff: String,
    /// Version of it in force.
    pub tariff_digest: Option<Digest>,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
    /// When its meter was last heard with fresh data.
    pub heard_at: Option<Instant>,
    /// How far the balance is down, and what the consumer knows of it.
    pub credit: CreditView,
}

/// How far a prepaid balance is down as posted, and what the consumer knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreditView {
    /// How far it came down.
    pub reached: NoticeLevel,
    /// How far the consumer was told.
    pub told: NoticeLevel,
    /// When the consumer was told that it is used up: emergency credit counts from then.
    pub used_up_told_at: Option<Instant>,
    /// Until when emergency credit was given with that.
    pub emergency_until: Option<Instant>,
    /// Days that were posted without knowing what was used, and not since.
    pub silent_days: u8,
    /// What was left after the last recharge in the moment in which it was booked, with everything used and come late by then.
    pub left_after_recharge: Option<Paise>,
}

/// A notice that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeDue {
    /// The account.
    pub account: AccountId,
    /// How far the balance is down.
    pub level: NoticeLevel,
    /// Round of the account's notices, which the fact that it was sent has to name.
    pub round: u16,
    /// Days that were posted at once after silence and that the notice has to explain day by day; mostly none.
    pub caught_up_days: u8,
}

impl AccountView {
    /// What is left: booked less accrued.
    #[must_use]
    pub fn balance(&self) -> Paise {
        self.booked - self.accrued
    }
}

/// Energy and charge of one civil day so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayEnergy {
    /// The day.
    pub day: CivilDay,
    /// Energy imported, Wh.
    pub energy_wh: i64,
    /// Charge of the day: booked for a closed day, accrued for an open one.
    pub charge: Paise,
    /// Whether the day is closed.
    pub closed: bool,
}

/// Frames of one source: conservation holds when `received` equals the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Received whole.
    pub received: u64,
    /// Brought at least one new value, revision or event word.
    pub stored: u64,
    /// Redelivered, or brought nothing but values already in force.
    pub repeated: u64,
    /// Kept as evidence without effect.
    pub quarantined: u64,
    /// Turned away at a bound.
    pub refused: u64,
    /// Waiting for the answer to a contested reading.
    pub contested: u64,
}

/// What an account is charged by from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsView {
    /// First day.
    pub from: CivilDay,
    /// How it pays.
    pub connection: ConnectionType,
    /// Name of the tariff.
    pub tariff: String,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
}

/// Slots of a meter for which no reading has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The meter.
    pub meter: MeterId,
    /// Interval or daily.
    pub kind: ReadingKind,
    /// End of the first missing interval.
    pub first_end: Instant,
    /// End of the last missing interval.
    pub last_end: Instant,
    /// Number of missing slots.
    pub slots: u64,
}

/// A meter as the fold knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterView {
    /// The meter.
    pub meter: MeterId,
    /// The account it measures for.
    pub account: Option<AccountId>,
    /// When it was last heard with fresh data.
    pub heard_at: Option<Instant>,
    /// Highest invocation counter accepted under the present keys.
    pub counter: Option<u32>,
    /// End of the last interval before the first one missing: data is complete until here.
    pub complete_until: Option<Instant>,
    /// Capture period of its intervals, seconds.
    pub period_s: u32,
    /// Whether its pushes must have an authentication tag.
    pub authenticated: bool,
}

/// Where the fold stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Last record applied.
    pub position: Position,
    /// Last day closed for all accounts.
    pub closed_until: Option<CivilDay>,
    /// Sum of all postings over all heads; zero or the ledger is broken.
    pub trial_balance: Paise,
}
