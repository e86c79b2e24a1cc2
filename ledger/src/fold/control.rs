//! Credit control: policies, notices that were sent, and what a moved balance leads to.

use model::{AccountId, CreditPolicyVersion, NoticeSent, Paise, Record};

use super::Fold;
use crate::Outcome;
use crate::account::Account;
use crate::payments::Payments;
use crate::tariffs::Added;

impl Fold {
    pub(super) fn credit_policy(&mut self, record: &Record, version: &CreditPolicyVersion) -> Outcome {
        let today = self.calendar.day_of(record.received_at);
        match self.credit.add(version, today, &self.limits) {
            Ok(Added::Applied) => Outcome::PolicyApplied,
            Ok(Added::Exists) => Outcome::PolicyExists,
            Err(refusal) => Outcome::PolicyRefused(refusal),
        }
    }

    pub(super) fn notice_sent(&mut self, record: &Record, notice: NoticeSent) -> Outcome {
        let Some(account) = self.accounts.get(notice.account.0) else { return Outcome::UnknownAccount };
        let today = self.calendar.day_of(record.received_at);
        let (sanctioned_w, tariff) = account.terms_on(today.max(account.booked_until));
        let tariff = self.tariffs.name(tariff);
        let policy = self.credit.in_force(today).map(|version| &version.policy);
        let emergency_days = policy.map_or(0, |policy| policy.emergency_days_of(tariff, sanctioned_w));
        let sent = self.credit.sent(notice.account, notice, emergency_days, record.received_at);
        sent.map_or_else(Outcome::NoticeRefused, |()| Outcome::NoticeTaken)
    }

    /// Takes in that money came to an account, was taken over with it, or went back.
    pub(super) fn balance_moved(&mut self, record: &Record, account: AccountId) {
        let Some(account) = self.accounts.get(account.0) else { return };
        let today = self.calendar.day_of(record.received_at);
        self.credit.paid(account, last_recharge(&self.payments, account), today);
    }
}

/// Amount of an account's last recharge.
pub(super) fn last_recharge(payments: &Payments, account: &Account) -> Option<Paise> {
    account.last_payment().and_then(|number| payments.get(number)).map(|payment| payment.amount)
}
