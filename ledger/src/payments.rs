//! Payments by their id, kept for ever: the same id is the same payment.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use model::{AccountId, Instant, Paise, Position};

use crate::dense::Dense;

/// Parts of the index of ids: a clone shares them, and whoever adds a payment copies one of them at most.
const SHARDS: usize = 4096;

/// A payment that was booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id at its source.
    pub id: Arc<str>,
    /// The record that booked it.
    pub position: Position,
    /// The account; [`AccountId::SUSPENSE`] while it belongs to none.
    pub account: AccountId,
    /// The account that its source named; [`AccountId::SUSPENSE`] if none that is known.
    pub told: AccountId,
    /// The amount.
    pub amount: Paise,
    /// What of it paid old dues off.
    pub share: Paise,
    /// What was left after it, with everything used and come late by then.
    pub left: Paise,
    /// When it was received.
    pub received_at: Instant,
    /// When it was booked to its account, or to suspense.
    pub at: Instant,
    /// The last record that took it into suspense or out of it; of what came into it at first, none yet.
    pub moved: Option<Position>,
    /// What took it back, if it was.
    pub reversed: Option<Reversal>,
    /// Number of the account's payment before it that stands.
    pub(crate) before: Option<u32>,
}

/// The record that took a payment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// Its position.
    pub position: Position,
    /// When.
    pub at: Instant,
}

impl Payment {
    /// Whether it belongs to no account now.
    #[must_use]
    pub fn is_in_suspense(&self) -> bool {
        self.account == AccountId::SUSPENSE && self.reversed.is_none()
    }

    /// Whether it is or once was in suspense.
    pub(crate) fn was_in_suspense(&self) -> bool {
        self.account == AccountId::SUSPENSE || self.moved.is_some()
    }

    /// The record that booked it to where it is.
    pub(crate) fn stands_since(&self) -> Position {
        self.moved.unwrap_or(self.position)
    }
}

/// All payments, in the order in which they came. The number of a payment is its place in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payments {
    list: Dense<Payment>,
    len: u32,
    index: Index,
}

impl Payments {
    pub(crate) fn find(&self, id: &str) -> Option<&Payment> {
        self.number_of(id).and_then(|number| self.get(number))
    }

    /// The number of a payment.
    pub(crate) fn number_of(&self, id: &str) -> Option<u32> {
        self.index.get(id)
    }

    /// Changes what is noted of a payment.
    pub(crate) fn change(&mut self, number: u32, change: impl FnOnce(&mut Payment)) {
        if let Some(payment) = self.list.get_mut(number) {
            change(payment);
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Payment> {
        self.list.get(number)
    }

    /// Keeps a payment and gives its number; `None` when `limit` are kept already.
    pub(crate) fn push(&mut self, payment: Payment, limit: usize) -> Option<u32> {
        let number = self.len;
        if usize::try_from(number).is_ok_and(|len| len >= limit) {
            return None;
        }
        self.len = number.checked_add(1)?;
        self.index.insert(Arc::clone(&payment.id), number);
        self.list.insert(number, payment);
        Some(number)
    }

    /// Takes a payment out of its account's row of those that stand, of which `last` is the newest; gives the newest then.
    pub(crate) fn unlink(&mut self, last: Option<u32>, number: u32) -> Option<u32> {
        let before = self.get(number).and_then(|payment| payment.before);
        self.change(number, |payment| payment.before = None);
        if last == Some(number) {
            return before;
        }
        let mut at = last;
        while let Some(later) = at {
            at = self.get(later).and_then(|payment| payment.before);
            if at == Some(number) {
                self.change(later, |payment| payment.before = before);
                break;
            }
        }
        last
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Payment> {
        self.list.iter().map(|(_, payment)| payment)
    }
}

/// Numbers by id.
#[derive(Clone, Debug)]
struct Index {
    hasher: RandomState,
    /// Made when an id in them is first used.
    shards: Vec<Option<Arc<Shard>>>,
}

type Shard = HashMap<Arc<str>, u32>;

impl Default for Index {
    fn default() -> Index {
        Index { hasher: RandomState::new(), shards: vec![None; SHARDS] }
    }
}

impl Index {
    fn get(&self, id: &str) -> Option<u32> {
        self.shards.get(self.shard_of(id))?.as_ref()?.get(id).copied()
    }

    fn insert(&mut self, id: Arc<str>, number: u32) {
        let shard = self.shard_of(&id);
        if let Some(shard) = self.shards.get_mut(shard) {
            Arc::make_mut(shard.get_or_insert_default()).insert(id, number);
        }
    }

    fn shard_of(&self, id: &str) -> usize {
        // The remainder of a hash fits.
        usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or_default()
    }
}
