//! What this crate wants of the ledger and the meters.

use async_trait::async_trait;
use model::view::{AccountView, Tally};
use model::{AccountNumber, CivilDay, Instant, Paise, Position};

/// Accounts and their money.
#[async_trait]
pub trait Consumers: Send + Sync {
    /// The first `limit` accounts in the order of their ids.
    async fn accounts(&self, limit: usize) -> Result<Vec<AccountEntry>, AppError>;

    /// What an account's card shows; `None` when there is no such account.
    async fn card(&self, number: &AccountNumber) -> Result<Option<Card>, AppError>;

    /// The last `count` civil days up to and with today, oldest first; days of which nothing is known are left out.
    /// `None` when there is no such account.
    async fn days(&self, number: &AccountNumber, count: usize) -> Result<Option<Vec<DayUsage>>, AppError>;

    /// Credits a payment. `payment_id` is the payment's identity: giving it again changes nothing. Returns when the
    /// recharge is durable and in the balance.
    async fn recharge(
        &self,
        number: &AccountNumber,
        amount: Paise,
        payment_id: &str,
    ) -> Result<RechargeOutcome, AppError>;
}

/// Where the whole stands.
#[async_trait]
pub trait Status: Send + Sync {
    /// One look at everything.
    async fn status(&self) -> Result<StatusView, AppError>;
}

/// An account in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// The number on the bill.
    pub number: AccountNumber,
    /// Serial number of its meter.
    pub meter_serial: Option<String>,
    /// Name of its tariff.
    pub category: String,
}

/// An account's money and energy, seen at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The ledger's view; `recent` is expected to hold today and yesterday as far as they are known.
    pub view: AccountView,
    /// Serial number of its meter.
    pub meter_serial: Option<String>,
    /// The time of the look: the balance's "as of".
    pub now: Instant,
    /// When the meter was last heard with fresh data.
    pub heard_at: Option<Instant>,
    /// End of the last interval before the first one missing.
    pub complete_until: Option<Instant>,
    /// Last record the view holds.
    pub position: Position,
}

/// Energy and charge of one civil day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// The day.
    pub day: CivilDay,
    /// Energy imported as far as it is known, Wh.
    pub energy_wh: i64,
    /// Charge: booked for a closed day, accrued for an open one.
    pub charge: Paise,
    /// Whether the day is booked.
    pub closed: bool,
    /// Intervals of the day that are over.
    pub intervals_expected: u32,
    /// Of these, the ones of which nothing is known.
    pub intervals_missing: u32,
}

/// What became of a recharge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RechargeOutcome {
    /// Credited now.
    Posted {
        /// The balance with it.
        balance: Paise,
        /// The time of that balance.
        as_of: Instant,
        /// Its record.
        position: Position,
    },
    /// Credited before, with this id, account and amount.
    Exists {
        /// The balance now.
        balance: Paise,
        /// The time of that balance.
        as_of: Instant,
        /// The record of the first time.
        position: Position,
    },
    /// The id was used for another payment.
    Differs {
        /// Amount of that payment.
        amount: Paise,
        /// Whether it was for this account.
        same_account: bool,
        /// Its record.
        position: Position,
    },
    /// There is no such account.
    UnknownAccount,
}

/// The whole at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusView {
    /// The time of the look.
    pub now: Instant,
    /// Meters.
    pub meters: MeterCounts,
    /// Frames by source, in the order of [`model::Source::ALL`].
    pub tallies: [Tally; 4],
    /// Frames that wait for the registration of their title.
    pub waiting_frames: u64,
    /// Ranges of missing intervals.
    pub gap_ranges: u64,
    /// Rows by table, hot ones and those in files.
    pub tables: Vec<TableRows>,
    /// How far each part has come.
    pub positions: Positions,
    /// Money.
    pub ledger: LedgerTotals,
}

/// How many meters there are and how many are heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterCounts {
    /// Registered.
    pub registered: u64,
    /// Heard at least once.
    pub heard: u64,
    /// Heard within the last `recent_s` seconds.
    pub heard_recently: u64,
    /// What counts as recently, seconds.
    pub recent_s: u32,
    /// When the last of them was heard.
    pub last_heard_at: Option<Instant>,
}

/// Rows of a table of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// Name of the table.
    pub name: String,
    /// Its rows, hot ones and those in files.
    pub rows: u64,
}

/// How far each part has come in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Last record synced.
    pub durable: Position,
    /// Last record the fold applied.
    pub applied: Position,
    /// Last record of which the lake's files hold the rows.
    pub committed: Position,
}

/// Sums over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Accounts.
    pub accounts: u64,
    /// Booked balances.
    pub booked: Paise,
    /// Charges of open days, not booked yet.
    pub accrued: Paise,
    /// Recharges, where they are counted.
    pub recharged: Option<Paise>,
    /// Charges booked, where they are counted.
    pub charged: Option<Paise>,
    /// Last day booked for all accounts.
    pub closed_until: Option<CivilDay>,
    /// Sum over all postings and heads: zero, or the ledger is broken.
    pub trial_balance: Paise,
}

/// Why the ledger or the meters do not answer. The caller hears only that and whether to try again.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A bound is reached; trying again helps.
    #[error("too much is asked at once")]
    Busy,
    /// The head-end is starting or stopping; trying again helps.
    #[error("the head-end takes no requests now")]
    Stopped,
    /// Something of ours is broken; the cause goes to the log.
    #[error("the request failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
