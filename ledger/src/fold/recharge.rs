//! Money received.

use std::sync::Arc;

use model::row::PostingKind;
use model::{Paise, Recharge, Record};

use super::terms::MAX_AMOUNT;
use super::{Effects, Fold, postings};
use crate::Outcome;
use crate::outcome::{MAX_PAYMENT_ID_BYTES, RechargeRefusal};
use crate::payments::Payment;
use crate::posting::Subject;

/// Highest balance a recharge may lead to.
const MAX_BALANCE: Paise = Paise(1_000_000_000_000_000_000);

impl Fold {
    pub(super) fn recharge(&mut self, record: &Record, recharge: &Recharge, out: &mut Effects) -> Outcome {
        if let Some(refusal) = refusal(recharge) {
            return Outcome::RechargeRefused(refusal);
        }
        if let Some(known) = self.payments.find(&recharge.payment_id) {
            return repeated(known, recharge);
        }
        let Some(account) = self.accounts.get_mut(recharge.account.0) else { return Outcome::UnknownAccount };
        if account.booked > MAX_BALANCE {
            return Outcome::RechargeRefused(RechargeRefusal::TooLarge);
        }
        let payment = Payment {
            id: Arc::from(recharge.payment_id.as_str()),
            position: record.position,
            account: recharge.account,
            amount: recharge.amount,
            at: record.received_at,
        };
        let Some(number) = self.payments.push(payment, self.limits.max_payments) else {
            return Outcome::RechargeRefused(RechargeRefusal::Full);
        };
        let usage_date = self.calendar.day_of(record.received_at);
        let owed = self.arrears.get(recharge.account.0).copied().unwrap_or_default();
        let policy = self.credit.in_force(usage_date);
        let share = policy.map_or(Paise::ZERO, |version| version.policy.arrears_share(recharge.amount, owed));
        if let Some(owed) = self.arrears.get_mut(recharge.account.0) {
            *owed -= share;
        }
        account.set_last_payment(Some(number));
        account.booked += recharge.amount - share;
        let subject = Subject { account: recharge.account, kind: PostingKind::Recharge, usage_date };
        let reference = Some(recharge.payment_id.as_str());
        postings(record, &mut self.totals, &mut out.rows).recharge(
            subject,
            recharge.amount,
            share,
            reference,
        );
        self.balance_moved(record, recharge.account);
        let balance = self.account(recharge.account).map_or(Paise::ZERO, |view| view.balance());
        Outcome::RechargePosted { balance, arrears: share }
    }
}

fn refusal(recharge: &Recharge) -> Option<RechargeRefusal> {
    if recharge.amount <= Paise::ZERO {
        return Some(RechargeRefusal::NotPositive);
    }
    if recharge.amount > MAX_AMOUNT {
        return Some(RechargeRefusal::TooLarge);
    }
    let has_id = (1..=MAX_PAYMENT_ID_BYTES).contains(&recharge.payment_id.len());
    (!has_id).then_some(RechargeRefusal::PaymentId)
}

fn repeated(known: &Payment, recharge: &Recharge) -> Outcome {
    let Payment { position, account, amount, .. } = *known;
    if account == recharge.account && amount == recharge.amount {
        Outcome::RechargeExists { position }
    } else {
        Outcome::RechargeDiffers { position, account, amount }
    }
}
