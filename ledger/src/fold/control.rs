//! Credit control: policies, notices that were sent, and what a moved balance leads to.

use model::{AccountId, CreditPolicyVersion, NoticeSent, Paise, Record};

use super::Fold;
use crate::Outcome;
use crate::account::Account;
use crate::credit::Added;
use crate::payments::Payments;

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
        if self.accounts.get(notice.account.0).is_none() {
            return Outcome::UnknownAccount;
        }
        let sent = self.credit.sent(notice.account, notice.level, notice.round, record.received_at);
        sent.map_or_else(Outcome::NoticeRefused, |()| Outcome::NoticeTaken)
    }

    /// Takes in that money came to an account or was taken over with it.
    pub(super) fn balance_moved(&mut self, record: &Record, account: AccountId) {
        let Some(account) = self.accounts.get(account.0) else { return };
        let today = self.calendar.day_of(record.received_at);
        self.credit.moved(account, last_recharge(&self.payments, account), today);
    }
}

/// Amount of an account's last recharge.
pub(super) fn last_recharge(payments: &Payments, account: &Account) -> Option<Paise> {
    account.last_payment().and_then(|number| payments.get(number)).map(|payment| payment.amount)
}
