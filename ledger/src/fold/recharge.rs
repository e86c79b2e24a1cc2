//! Money received, credited to an account or held in suspense, and taken back.

use std::sync::Arc;

use model::row::{Head, PostingKind};
use model::{
    AccountId, Paise, PaymentMisdirected, PaymentReversed, Recharge, Record, SuspenseAssigned,
    SuspenseReceived,
};

use super::terms::MAX_AMOUNT;
use super::{Effects, Fold, postings};
use crate::Outcome;
use crate::credit::left_of;
use crate::outcome::{MAX_PAYMENT_ID_BYTES, RechargeRefusal};
use crate::payments::{Payment, Reversal};
use crate::posting::Subject;

/// Highest balance a recharge may lead to.
const MAX_BALANCE: Paise = Paise(1_000_000_000_000_000_000);

impl Fold {
    pub(super) fn recharge(&mut self, record: &Record, recharge: &Recharge, out: &mut Effects) -> Outcome {
        if let Some(refusal) = refusal(recharge.amount, &recharge.payment_id) {
            return Outcome::RechargeRefused(refusal);
        }
        if let Some(known) = self.payments.find(&recharge.payment_id) {
            return repeated(known, recharge);
        }
        if let Err(outcome) = self.can_be_credited(recharge.account) {
            return outcome;
        }
        let payment = unbooked(record, &recharge.payment_id, recharge.account, recharge.amount);
        let Some(number) = self.payments.push(payment, self.limits.max_payments) else {
            return Outcome::RechargeRefused(RechargeRefusal::Full);
        };
        self.credit(record, number, Head::Cash, out)
    }

    /// Books money that belongs to no account yet under a head of its own.
    pub(super) fn suspense_received(
        &mut self,
        record: &Record,
        received: &SuspenseReceived,
        out: &mut Effects,
    ) -> Outcome {
        let SuspenseReceived { payment_id, amount } = received;
        if let Some(refusal) = refusal(*amount, payment_id) {
            return Outcome::RechargeRefused(refusal);
        }
        if let Some(known) = self.payments.find(payment_id) {
            let Payment { position, account, amount: was, .. } = *known;
            let is_same = known.was_in_suspense() && was == *amount;
            return match is_same {
                true => Outcome::RechargeExists { position },
                false => Outcome::RechargeDiffers { position, account, amount: was },
            };
        }
        let payment = unbooked(record, payment_id, AccountId::SUSPENSE, *amount);
        if self.payments.push(payment, self.limits.max_payments).is_none() {
            return Outcome::RechargeRefused(RechargeRefusal::Full);
        }
        let subject = self.subject(record, AccountId::SUSPENSE, PostingKind::Suspense);
        postings(record, &mut self.totals, &mut out.rows).suspense(subject, *amount, payment_id);
        Outcome::HeldInSuspense
    }

    /// Credits money in suspense to an account, as a recharge of this moment.
    pub(super) fn suspense_assigned(
        &mut self,
        record: &Record,
        assigned: &SuspenseAssigned,
        out: &mut Effects,
    ) -> Outcome {
        let Some(number) = self.payments.number_of(&assigned.payment_id) else {
            return Outcome::UnknownPayment;
        };
        let Some(known) = self.payments.get(number) else { return Outcome::UnknownPayment };
        let (account, position) = (known.account, known.stands_since());
        if !known.is_in_suspense() {
            let is_done = known.was_in_suspense() && known.reversed.is_none() && account == assigned.account;
            return if is_done {
                Outcome::RechargeExists { position }
            } else {
                Outcome::NotInSuspense { account }
            };
        }
        if let Err(outcome) = self.can_be_credited(assigned.account) {
            return outcome;
        }
        self.payments.change(number, |payment| {
            payment.account = assigned.account;
            payment.at = record.received_at;
            payment.moved = Some(record.position);
        });
        self.credit(record, number, Head::Suspense, out)
    }

    fn can_be_credited(&self, account: AccountId) -> Result<(), Outcome> {
        let account = self.accounts.get(account.0).ok_or(Outcome::UnknownAccount)?;
        match account.booked > MAX_BALANCE {
            true => Err(Outcome::RechargeRefused(RechargeRefusal::TooLarge)),
            false => Ok(()),
        }
    }

    /// Credits a payment to its account, a share of it to old dues.
    fn credit(&mut self, record: &Record, number: u32, from: Head, out: &mut Effects) -> Outcome {
        let Some(Payment { id, account, amount, .. }) = self.payments.get(number).cloned() else {
            return Outcome::UnknownPayment;
        };
        let owed = self.arrears.get(account.0).copied().unwrap_or_default();
        let policy = self.credit.in_force(self.calendar.day_of(record.received_at));
        let share = policy.map_or(Paise::ZERO, |version| version.policy.arrears_share(amount, owed));
        let Some(credited) = self.accounts.get_mut(account.0) else { return Outcome::UnknownAccount };
        credited.booked += amount - share;
        let before = credited.last_payment();
        credited.set_last_payment(Some(number));
        if let Some(owed) = self.arrears.get_mut(account.0) {
            *owed -= share;
        }
        let subject = self.subject(record, account, PostingKind::Recharge);
        postings(record, &mut self.totals, &mut out.rows).recharge(subject, from, amount, share, &id);
        self.balance_moved(record, account);
        let Some(view) = self.account(account) else { return Outcome::UnknownAccount };
        self.payments.change(number, |payment| {
            (payment.share, payment.left, payment.before) = (share, left_of(&view), before);
        });
        Outcome::RechargePosted { balance: view.balance(), arrears: share }
    }

    /// Takes a payment back, by an entry of its own: what paid old dues off is owed again.
    pub(super) fn payment_reversed(
        &mut self,
        record: &Record,
        reversed: &PaymentReversed,
        out: &mut Effects,
    ) -> Outcome {
        let Some(number) = self.payments.number_of(&reversed.payment_id) else {
            return Outcome::UnknownPayment;
        };
        let Some(payment) = self.payments.get(number).cloned() else { return Outcome::UnknownPayment };
        if let Some(Reversal { position, .. }) = payment.reversed {
            return Outcome::ReversalExists { position };
        }
        let reversal = Reversal { position: record.position, at: record.received_at };
        if payment.is_in_suspense() {
            let Payment { account, amount, .. } = payment;
            self.payments.change(number, |payment| payment.reversed = Some(reversal));
            let subject = self.subject(record, account, PostingKind::Reversal);
            postings(record, &mut self.totals, &mut out.rows).suspense(subject, -amount, &payment.id);
            return Outcome::PaymentReversed { account, amount, balance: Paise::ZERO };
        }
        let outcome = self.debit(record, number, &payment, Head::Cash, out);
        self.payments.change(number, |payment| payment.reversed = Some(reversal));
        outcome
    }

    /// Takes a payment from an account that it is not for into suspense.
    pub(super) fn payment_misdirected(
        &mut self,
        record: &Record,
        misdirected: &PaymentMisdirected,
        out: &mut Effects,
    ) -> Outcome {
        let Some(number) = self.payments.number_of(&misdirected.payment_id) else {
            return Outcome::UnknownPayment;
        };
        let Some(payment) = self.payments.get(number).cloned() else { return Outcome::UnknownPayment };
        if let Some(Reversal { position, .. }) = payment.reversed {
            return Outcome::ReversalExists { position };
        }
        if payment.account != misdirected.account || payment.is_in_suspense() {
            return Outcome::NotAtAccount { account: payment.account };
        }
        let outcome = self.debit(record, number, &payment, Head::Suspense, out);
        self.payments.change(number, |payment| {
            (payment.account, payment.at) = (AccountId::SUSPENSE, record.received_at);
            payment.moved = Some(record.position);
        });
        outcome
    }

    /// Debits a payment to the account it stands at, whatever becomes of it then.
    fn debit(
        &mut self,
        record: &Record,
        number: u32,
        payment: &Payment,
        to: Head,
        out: &mut Effects,
    ) -> Outcome {
        let Payment { account, amount, share, .. } = *payment;
        let Some(debited) = self.accounts.get_mut(account.0) else { return Outcome::UnknownAccount };
        debited.booked -= amount - share;
        debited.set_last_payment(self.payments.unlink(debited.last_payment(), number));
        if let Some(owed) = self.arrears.get_mut(account.0) {
            *owed += share;
        }
        let subject = self.subject(record, account, PostingKind::Reversal);
        postings(record, &mut self.totals, &mut out.rows).recharge(subject, to, -amount, -share, &payment.id);
        self.balance_moved(record, account);
        let balance = self.account(account).map_or(Paise::ZERO, |view| view.balance());
        Outcome::PaymentReversed { account, amount, balance }
    }

    fn subject(&self, record: &Record, account: AccountId, kind: PostingKind) -> Subject {
        Subject { account, kind, usage_date: self.calendar.day_of(record.received_at) }
    }
}

/// A payment before it is credited.
fn unbooked(record: &Record, id: &str, account: AccountId, amount: Paise) -> Payment {
    Payment {
        id: Arc::from(id),
        position: record.position,
        account,
        told: account,
        amount,
        share: Paise::ZERO,
        left: Paise::ZERO,
        received_at: record.received_at,
        at: record.received_at,
        moved: None,
        reversed: None,
        before: None,
    }
}

fn refusal(amount: Paise, id: &str) -> Option<RechargeRefusal> {
    if amount <= Paise::ZERO {
        return Some(RechargeRefusal::NotPositive);
    }
    if amount > MAX_AMOUNT {
        return Some(RechargeRefusal::TooLarge);
    }
    let has_id = (1..=MAX_PAYMENT_ID_BYTES).contains(&id.len());
    (!has_id).then_some(RechargeRefusal::PaymentId)
}

fn repeated(known: &Payment, recharge: &Recharge) -> Outcome {
    let Payment { position, account, amount, .. } = *known;
    // What was moved is still the payment that its source tells of.
    let is_its_account = [account, known.told].contains(&recharge.account);
    if is_its_account && amount == recharge.amount {
        Outcome::RechargeExists { position }
    } else {
        Outcome::RechargeDiffers { position, account, amount }
    }
}
