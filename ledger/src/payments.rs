//! Payments by their id, kept for ever: the same id is the same payment.

use std::collections::HashMap;
use std::sync::Arc;

use model::{AccountId, Instant, Paise, Position};

/// A payment that was booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id at its source.
    pub id: Arc<str>,
    /// The record that booked it.
    pub position: Position,
    /// The account; [`AccountId::SUSPENSE`] while it belongs to none.
    pub account: AccountId,
    /// The amount.
    pub amount: Paise,
    /// What of it paid old dues off.
    pub share: Paise,
    /// What was left after it, with everything used and come late by then.
    pub left: Paise,
    /// When it was booked to its account, or to suspense.
    pub at: Instant,
    /// The last record that took it into suspense or out of it; of what came into it at first, none yet.
    pub moved: Option<Position>,
    /// What took it back, if it was.
    pub reversed: Option<Reversal>,
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

/// All payments, in the order in which they were booked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payments {
    list: Vec<Payment>,
    by_id: HashMap<Arc<str>, u32>,
}

impl Payments {
    pub(crate) fn find(&self, id: &str) -> Option<&Payment> {
        self.by_id.get(id).and_then(|number| self.get(*number))
    }

    /// The number of a payment.
    pub(crate) fn number_of(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// Changes what is noted of a payment.
    pub(crate) fn change(&mut self, number: u32, change: impl FnOnce(&mut Payment)) {
        let place = usize::try_from(number).ok();
        if let Some(payment) = place.and_then(|place| self.list.get_mut(place)) {
            change(payment);
        }
    }

    /// The newest payment of an account that stands.
    pub(crate) fn last_of(&self, account: AccountId) -> Option<u32> {
        let stands =
            |(_, payment): &(usize, &Payment)| payment.account == account && payment.reversed.is_none();
        let newest = self.list.iter().enumerate().filter(stands).max_by_key(|(_, it)| it.stands_since());
        newest.and_then(|(place, _)| u32::try_from(place).ok())
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Payment> {
        self.list.get(usize::try_from(number).ok()?)
    }

    /// Keeps a payment and gives its number; `None` when `limit` are kept already.
    pub(crate) fn push(&mut self, payment: Payment, limit: usize) -> Option<u32> {
        let number = u32::try_from(self.list.len()).ok().filter(|_| self.list.len() < limit)?;
        self.by_id.insert(Arc::clone(&payment.id), number);
        self.list.push(payment);
        Some(number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Payment> {
        self.list.iter()
    }
}
