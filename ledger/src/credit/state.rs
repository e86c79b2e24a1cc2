//! What is kept of an account for credit control, and the policy versions.

use std::collections::{BTreeMap, BTreeSet};

use model::view::{CreditView, NoticeDue};
use model::{AccountId, CivilDay, ConnectionType, CreditPolicyVersion, Instant, NoticeLevel, Paise};

use super::{CreditPolicy, level_of};
use crate::Limits;
use crate::account::Account;
use crate::dense::Dense;
use crate::outcome::{NoticeRefusal, PolicyRefusal};
use crate::tariffs::digest_of;

/// How far an account's balance came down, and what its consumer knows of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// Counts what makes earlier notices untrue: a balance that went up, days posted after silence.
    pub(crate) round: u16,
    pub(crate) reached: NoticeLevel,
    pub(crate) told: NoticeLevel,
    /// Days booked in a row for which there was no data.
    pub(crate) silent_days: u8,
    /// Silent days that were posted at once, and of which the consumer is yet to be told.
    pub(crate) caught_up: u8,
    /// When the consumer was told that the balance is used up, seconds from 1970; 0: not told.
    pub(crate) used_up_told_s: u32,
}

impl Credit {
    /// Takes in how far the balance is down now.
    fn reach(&mut self, level: NoticeLevel) {
        if level < self.reached {
            self.forget_above(level);
        }
        self.reached = level;
    }

    /// What was told of levels above this one is no longer so.
    fn forget_above(&mut self, level: NoticeLevel) {
        self.round = self.round.wrapping_add(1);
        self.told = self.told.min(level);
        if level < NoticeLevel::USED_UP {
            self.used_up_told_s = 0;
        }
    }

    /// Days of silence were posted at once: whoever is below zero by that is told again, and has emergency credit anew.
    fn catch_up(&mut self, days: u8, alerts: u8) {
        self.forget_above(NoticeLevel(alerts));
        self.caught_up = days;
    }

    fn is_due(&self) -> bool {
        self.reached > self.told
    }

    fn told_at(&self) -> Option<Instant> {
        (self.used_up_told_s != 0).then(|| Instant::from_seconds(i64::from(self.used_up_told_s)))
    }

    pub(crate) fn view(&self) -> CreditView {
        CreditView {
            reached: self.reached,
            told: self.told,
            used_up_told_at: self.told_at(),
            silent_days: self.silent_days,
        }
    }
}

/// A policy: the fact and what its text says.
#[derive(Clone, Debug)]
pub(crate) struct PolicyVersion {
    pub(crate) fact: CreditPolicyVersion,
    pub(crate) policy: CreditPolicy,
}

/// What a new version came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Applied,
    Exists,
}

/// Policies, and the accounts of which there is something to keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct CreditTable {
    /// Versions by the day they are in force from.
    pub(crate) policies: BTreeMap<CivilDay, PolicyVersion>,
    pub(crate) accounts: Dense<Credit>,
    /// Accounts whose consumer is to be told something; follows from the accounts.
    due: BTreeSet<AccountId>,
}

impl CreditTable {
    /// Takes a version in. The first may be of any day, later ones of days that have not begun: a policy never changes what
    /// was decided.
    pub(crate) fn add(
        &mut self,
        fact: &CreditPolicyVersion,
        today: CivilDay,
        limits: &Limits,
    ) -> Result<Added, PolicyRefusal> {
        let policy = CreditPolicy::parse(&fact.body)?;
        let digest = digest_of(&fact.body);
        if policy.from != fact.from {
            return Err(PolicyRefusal::OtherFrom(policy.from));
        }
        if digest != fact.digest {
            return Err(PolicyRefusal::OtherDigest(digest));
        }
        if let Some(known) = self.policies.get(&fact.from).map(|version| version.fact.digest) {
            return if known == digest { Ok(Added::Exists) } else { Err(PolicyRefusal::OtherVersion(known)) };
        }
        if !self.policies.is_empty() && fact.from <= today {
            return Err(PolicyRefusal::Begun(today.next()));
        }
        if self.policies.len() >= limits.max_policies {
            return Err(PolicyRefusal::Full);
        }
        self.policies.insert(fact.from, PolicyVersion { fact: fact.clone(), policy });
        Ok(Added::Applied)
    }

    /// Puts back a version of a checkpoint; `None` when it cannot have been one.
    pub(crate) fn restore(&mut self, fact: CreditPolicyVersion) -> Option<()> {
        let policy = CreditPolicy::parse(&fact.body).ok()?;
        self.policies.insert(fact.from, PolicyVersion { fact, policy });
        Some(())
    }

    pub(crate) fn in_force(&self, day: CivilDay) -> Option<&PolicyVersion> {
        self.policies.range(..=day).next_back().map(|(_, version)| version)
    }

    pub(crate) fn of(&self, account: AccountId) -> Credit {
        self.accounts.get(account.0).copied().unwrap_or_default()
    }

    /// Takes in that an account's posted balance moved.
    pub(crate) fn moved(&mut self, account: &Account, last_recharge: Option<Paise>, today: CivilDay) {
        self.update(account, last_recharge, today, |_, _| {});
    }

    /// Takes in that a day of an account was booked, with data for it or without.
    pub(crate) fn day_booked(
        &mut self,
        account: &Account,
        last_recharge: Option<Paise>,
        today: CivilDay,
        has_data: bool,
    ) {
        self.update(account, last_recharge, today, |credit, policy| {
            if !has_data {
                credit.silent_days = credit.silent_days.saturating_add(1);
                return;
            }
            let days = std::mem::take(&mut credit.silent_days);
            if u16::from(days) > policy.silent_days {
                credit.catch_up(days, u8::try_from(policy.alerts.len()).unwrap_or(u8::MAX - 1));
            }
        });
    }

    fn update(
        &mut self,
        account: &Account,
        last_recharge: Option<Paise>,
        today: CivilDay,
        first: impl FnOnce(&mut Credit, &CreditPolicy),
    ) {
        if account.connection != ConnectionType::Prepaid {
            return;
        }
        let Some(version) = self.in_force(today) else { return };
        let before = self.of(account.id);
        let mut credit = before;
        first(&mut credit, &version.policy);
        let last_day = account.books().last_day.map(|(_, charge)| charge);
        credit.reach(level_of(&version.policy, account.booked, last_recharge, last_day));
        if credit != before {
            self.keep(account.id, credit);
        }
    }

    /// Takes in that a notice was sent.
    pub(crate) fn sent(
        &mut self,
        account: AccountId,
        level: NoticeLevel,
        round: u16,
        at: Instant,
    ) -> Result<(), NoticeRefusal> {
        let mut credit = self.of(account);
        if round != credit.round || level > credit.reached || level <= credit.told {
            return Err(NoticeRefusal::NotDue);
        }
        credit.told = level;
        credit.caught_up = 0;
        if level == NoticeLevel::USED_UP {
            credit.used_up_told_s = u32::try_from(at.seconds()).unwrap_or(u32::MAX).max(1);
        }
        self.keep(account, credit);
        Ok(())
    }

    /// What is to be told, by account, from one on.
    pub(crate) fn due(&self, from: AccountId) -> impl Iterator<Item = NoticeDue> + '_ {
        self.due.range(from..).map(|account| {
            let credit = self.of(*account);
            NoticeDue {
                account: *account,
                level: credit.reached,
                round: credit.round,
                caught_up_days: credit.caught_up,
            }
        })
    }

    pub(crate) fn keep(&mut self, account: AccountId, credit: Credit) {
        if credit.is_due() {
            self.due.insert(account);
        } else {
            self.due.remove(&account);
        }
        self.accounts.insert(account.0, credit);
    }
}
