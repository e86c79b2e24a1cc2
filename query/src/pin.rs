//! What a statement is answered from: everything at one position, and who can give it.

use std::time::Duration;

use async_trait::async_trait;
use model::view::{AccountView, Gap, MeterView, Standing, Tally};
use model::{AccountId, Instant, MeterId, Position, SystemTitle};

/// Everything a statement may look at, taken at one position: the fold's.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The fold's position: every table, balance and count below is as of this record and no other.
    pub position: Position,
    /// The reading of the process's clock when the pin was taken; `now()` of the statement.
    pub taken_at: Instant,
    /// The lake's tables: files and hot rows up to `position`.
    pub lake: lake::Snapshot,
    /// Money and energy of each account; empty unless [`Wants::accounts`].
    pub accounts: Vec<AccountView>,
    /// Frames by source, in the order of `model::Source::ALL`; zero unless [`Wants::tallies`].
    pub tallies: [Tally; 4],
    /// Missing slots of the meters; empty unless [`Wants::gaps`].
    pub gaps: Vec<Gap>,
    /// The meters of the registry as the fold knows them; empty unless [`Wants::meters`].
    pub meters: Vec<MeterEntry>,
    /// The accounts of the registry; empty unless [`Wants::accounts`].
    pub account_entries: Vec<AccountEntry>,
    /// Commands to relays, oldest first; empty unless [`Wants::supply`].
    pub supply: Vec<SupplyEntry>,
    /// Where the fold stands; always there, as it is small.
    pub standing: Standing,
    /// How long the statement waited for the fold to reach what was durable at its start.
    pub waited: Duration,
}

/// A meter: what the fold says of it and what the registry may show of it. No key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterEntry {
    /// The fold's view.
    pub view: MeterView,
    /// System title.
    pub title: SystemTitle,
    /// Serial number on the name plate.
    pub serial: String,
    /// Name of its profile.
    pub profile: String,
    /// The account it measures for, as the registry has it.
    pub account: Option<AccountId>,
}

/// An account: what the registry may show of it. No name and no mobile number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// The account.
    pub account: AccountId,
    /// Number on the consumer's bill.
    pub number: String,
    /// Category, which is the name of its tariff.
    pub category: String,
    /// Part of the distribution company that supplies it; the company where none was said.
    pub division: String,
}

/// A command to a relay: a cut, or the reconnection after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplyEntry {
    /// Its id, hyphenated.
    pub id: String,
    /// Whose supply.
    pub account: AccountId,
    /// Whose relay.
    pub meter: MeterId,
    /// `cut` or `reconnect`.
    pub kind: &'static str,
    /// Why.
    pub reason: String,
    /// How far it has come.
    pub state: &'static str,
    /// How often the meter was asked.
    pub tries: u32,
    /// When its cause arose: of a reconnection, when the money was credited.
    pub since: Instant,
    /// When it was queued.
    pub queued_at: Instant,
    /// When it first went out.
    pub sent_at: Option<Instant>,
    /// When the meter first waited for its button.
    pub ready_at: Option<Instant>,
    /// When the relay was read back as it should be.
    pub confirmed_at: Option<Instant>,
    /// When the relay moved by the meter's own log.
    pub event_at: Option<Instant>,
    /// When it was over.
    pub ended_at: Option<Instant>,
    /// Of a cut: when supply was back.
    pub restored_at: Option<Instant>,
    /// What was last said of it.
    pub said: String,
    /// What it was decided on, JSON.
    pub evidence: String,
}

/// Which of the larger parts of a [`Pinned`] a statement refers to, so that only these are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// [`Pinned::accounts`] and [`Pinned::account_entries`].
    pub accounts: bool,
    /// [`Pinned::tallies`].
    pub tallies: bool,
    /// [`Pinned::gaps`].
    pub gaps: bool,
    /// [`Pinned::meters`].
    pub meters: bool,
    /// [`Pinned::supply`].
    pub supply: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Wants = Wants { accounts: true, tallies: true, gaps: true, meters: true, supply: true };

    /// What either of the two asks for.
    #[must_use]
    pub fn or(self, other: Wants) -> Wants {
        Wants {
            accounts: self.accounts || other.accounts,
            tallies: self.tallies || other.tallies,
            gaps: self.gaps || other.gaps,
            meters: self.meters || other.meters,
            supply: self.supply || other.supply,
        }
    }
}

/// Who can pin: the binary, which owns the fold, the lake and the registry.
#[async_trait]
pub trait Pins: Send + Sync {
    /// Waits until the fold reached what was durable when this was called, then takes everything at one position.
    ///
    /// # Errors
    /// [`PinError::Behind`] when the fold did not get there within `at_most`; nothing older is ever given instead.
    async fn pin(&self, wants: Wants, at_most: Duration) -> Result<Pinned, PinError>;
}

/// Why nothing could be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The fold did not reach what was durable in time.
    #[error(
        "the fold gave no answer in time: it stands at {reached}, and {durable} was durable when the statement began"
    )]
    Behind {
        /// Where the fold stood when the wait was given up.
        reached: Position,
        /// What was durable when the statement began.
        durable: Position,
    },
    /// The process is starting or stopping.
    #[error("not ready: {0}")]
    Unavailable(String),
}
