//! What is kept of an account for credit control, and the policy versions.

use std::collections::{BTreeMap, BTreeSet};

use model::view::{CreditView, NoticeDue};
use model::{
    AccountId, CivilDay, ConnectionType, CreditPolicyVersion, Instant, NoticeLevel, NoticeSent, Paise,
};

use super::{CreditPolicy, level_of};
use crate::Limits;
use crate::account::Account;
use crate::dense::Dense;
use crate::energy::Energy;
use crate::outcome::{NoticeRefusal, PolicyRefusal};
use crate::tariffs::{Added, digest_of};

/// How far an account's balance came down, and what its consumer knows of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// Counts what makes earlier notices untrue: a balance that went up, days posted after silence.
    pub(crate) round: u16,
    pub(crate) reached: NoticeLevel,
    pub(crate) told: NoticeLevel,
    /// Days that were booked without knowing what was used, and not since.
    pub(crate) silent_days: u8,
    /// Days that were posted at once, and of which the consumer is yet to be told.
    pub(crate) caught_up: u8,
    /// The last of the silent days.
    pub(crate) last_silent: CivilDay,
    /// When the consumer was told that the balance is used up, seconds from 1970; 0: not told.
    pub(crate) used_up_told_s: u32,
    /// Until when emergency credit was given with that, in the same.
    pub(crate) emergency_until_s: u32,
}

impl Credit {
    /// A recharge that lifts the balance above zero: everything is told anew as that one is used up.
    fn recharged(&mut self, level: NoticeLevel) {
        if level < NoticeLevel::USED_UP {
            self.forget_above(NoticeLevel::NONE);
        }
    }

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
            (self.used_up_told_s, self.emergency_until_s) = (0, 0);
        }
    }

    /// A day was booked; what was used on it is known or not. Gives the days that are posted at once by it.
    fn book(&mut self, day: CivilDay, energy: &Energy) -> u8 {
        if !energy.covers(day) {
            self.silent_days = self.silent_days.saturating_add(1);
            self.last_silent = day;
            return 0;
        }
        // That the meter is back does not tell yet what was used while it was silent.
        if self.silent_days > 0 && energy.covers(self.last_silent) {
            return std::mem::take(&mut self.silent_days).saturating_add(1);
        }
        1
    }

    /// Days of silence were posted at once: whoever is below zero by that is told again, and has emergency credit anew.
    fn catch_up(&mut self, days: u8, alerts: u8) {
        self.forget_above(NoticeLevel(alerts));
        self.caught_up = days;
    }

    fn is_due(&self) -> bool {
        self.reached > self.told || self.caught_up > 0
    }

    pub(crate) fn view(&self) -> CreditView {
        CreditView {
            reached: self.reached,
            told: self.told,
            used_up_told_at: instant(self.used_up_told_s),
            emergency_until: instant(self.emergency_until_s),
            silent_days: self.silent_days,
            left_after_recharge: None,
        }
    }
}

/// The moment of so many seconds from 1970; none for 0.
fn instant(seconds: u32) -> Option<Instant> {
    (seconds != 0).then(|| Instant::from_seconds(i64::from(seconds)))
}

/// A policy: the fact and what its text says.
#[derive(Clone, Debug)]
pub(crate) struct PolicyVersion {
    pub(crate) fact: CreditPolicyVersion,
    pub(crate) policy: CreditPolicy,
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

    /// Takes in that money came to an account, or was taken over with it.
    pub(crate) fn paid(&mut self, account: &Account, last_recharge: Option<Paise>, today: CivilDay) {
        self.update(account, last_recharge, today, |credit, _, level| {
            credit.recharged(level);
            credit.reach(level);
        });
    }

    /// Takes in that a day of an account was booked. Its balance was `before` that.
    pub(crate) fn day_booked(
        &mut self,
        account: &Account,
        last_recharge: Option<Paise>,
        day: CivilDay,
        today: CivilDay,
        before: Paise,
    ) {
        self.update(account, last_recharge, today, |credit, policy, level| {
            let at_once = credit.book(day, &account.energy);
            if u16::from(at_once) > policy.silent_days.max(1) {
                credit.catch_up(at_once, u8::try_from(policy.alerts.len()).unwrap_or(u8::MAX - 1));
            }
            // A cheap day makes a balance last longer, and is no reason to tell of it again after a dear one.
            let rose = account.booked > before;
            credit.reach(if rose { level } else { level.max(credit.reached) });
        });
    }

    fn update(
        &mut self,
        account: &Account,
        last_recharge: Option<Paise>,
        today: CivilDay,
        change: impl FnOnce(&mut Credit, &CreditPolicy, NoticeLevel),
    ) {
        if account.connection != ConnectionType::Prepaid {
            return;
        }
        let Some(version) = self.in_force(today) else { return };
        let before = self.of(account.id);
        let mut credit = before;
        let last_day = account.books().last_day.map(|(_, charge)| charge);
        let level = level_of(&version.policy, account.booked, last_recharge, last_day);
        change(&mut credit, &version.policy, level);
        if credit != before {
            self.keep(account.id, credit);
        }
    }

    /// Takes in that a notice was sent.
    pub(crate) fn sent(
        &mut self,
        account: AccountId,
        notice: NoticeSent,
        emergency_days: u16,
        at: Instant,
    ) -> Result<(), NoticeRefusal> {
        let mut credit = self.of(account);
        let NoticeSent { level, round, .. } = notice;
        let is_due = level > credit.told || (level == credit.told && credit.caught_up > 0);
        if round != credit.round || level > credit.reached || !is_due {
            return Err(NoticeRefusal::NotDue);
        }
        let is_news = level > credit.told;
        credit.told = level;
        credit.caught_up = 0;
        if is_news && level == NoticeLevel::USED_UP {
            let seconds = |at: Instant| u32::try_from(at.seconds()).unwrap_or(u32::MAX).max(1);
            credit.used_up_told_s = seconds(at);
            credit.emergency_until_s = seconds(at.plus_seconds(i64::from(emergency_days) * 86_400));
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
