//! Money received, and taken back.

use std::sync::Arc;

use model::row::PostingKind;
use model::{Paise, PaymentReversed, Recharge, Record};

use super::terms::MAX_AMOUNT;
use super::{Effects, Fold, postings};
use crate::Outcome;
use crate::credit::left_of;
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
        let usage_date = self.calendar.day_of(record.received_at);
        let owed = self.arrears.get(recharge.account.0).copied().unwrap_or_default();
        let policy = self.credit.in_force(usage_date);
        let share = policy.map_or(Paise::ZERO, |version| version.policy.arrears_share(recharge.amount, owed));
        let payment = Payment {
            id: Arc::from(recharge.payment_id.as_str()),
            position: record.position,
            account: recharge.account,
            amount: recharge.amount,
            share,
            left: Paise::ZERO,
            at: record.received_at,
            reversed: None,
        };
        let Some(number) = self.payments.push(payment, self.limits.max_payments) else {
            return Outcome::RechargeRefused(RechargeRefusal::Full);
        };
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
        let Some(view) = self.account(recharge.account) else { return Outcome::UnknownAccount };
        self.payments.leave(number, left_of(&view));
        Outcome::RechargePosted { balance: view.balance(), arrears: share }
    }
}

impl Fold {
    /// Takes a payment back, by an entry of its own: what paid old dues off is owed again.
    pub(super) fn payment_reversed(
        &mut self,
        record: &Record,
        reversed: &PaymentReversed,
        out: &mut Effects,
    ) -> Outcome {
        let Some(payment) = self.payments.find(&reversed.payment_id) else { return Outcome::UnknownPayment };
        let Payment { account: id, amount, share, reversed: before, .. } = *payment;
        if let Some(position) = before {
            return Outcome::ReversalExists { position };
        }
        let Some(account) = self.accounts.get_mut(id.0) else { return Outcome::UnknownAccount };
        account.booked -= amount - share;
        if let Some(owed) = self.arrears.get_mut(id.0) {
            *owed += share;
        }
        self.payments.reverse(&reversed.payment_id, record.position);
        account.set_last_payment(self.payments.last_of(id));
        let usage_date = self.calendar.day_of(record.received_at);
        let subject = Subject { account: id, kind: PostingKind::Reversal, usage_date };
        let reference = Some(reversed.payment_id.as_str());
        postings(record, &mut self.totals, &mut out.rows).recharge(subject, -amount, -share, reference);
        self.balance_moved(record, id);
        let balance = self.account(id).map_or(Paise::ZERO, |view| view.balance());
        Outcome::PaymentReversed { account: id, amount, balance }
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
