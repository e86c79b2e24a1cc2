//! Closing days: the only thing that books usage.

use model::row::PostingKind;
use model::{AccountId, Calendar, CivilDay, DayClosed, Digest, ReadingKind, Record};

use super::control::last_recharge;
use super::{Effects, Fold, postings};
use crate::account::{Account, Books as Figures, Month};
use crate::contested::OpenTable;
use crate::credit::CreditTable;
use crate::meter::Meter;
use crate::outcome::DayRefusal;
use crate::payments::Payments;
use crate::posting::{Postings, Subject};
use crate::rating::Charge;
use crate::slot::Grid;
use crate::tariffs::Tariffs;
use crate::{Limits, Outcome};

/// What closing a slice came to.
#[derive(Default)]
struct Count {
    charged: u32,
    unrated: u32,
    corrections: u32,
}

impl Fold {
    pub(super) fn day_closed(&mut self, record: &Record, closed: DayClosed, out: &mut Effects) -> Outcome {
        if let Err(refusal) = self.check_slice(closed) {
            return Outcome::DayRefused(refusal);
        }
        let today = self.calendar.day_of(record.received_at);
        // One day more than late data needs, so that a clock that steps back over midnight loses nothing.
        let still_changes = today.plus(-i32::from(self.limits.late_days)).previous();
        let mut books = Books {
            tariffs: &self.tariffs,
            limits: &self.limits,
            calendar: &self.calendar,
            open: &self.open,
            payments: &self.payments,
            credit: &mut self.credit,
            today,
            still_changes,
            postings: postings(record, &mut self.totals, &mut out.rows),
            count: Count::default(),
        };
        for (_, account) in self.accounts.range_mut(closed.first.0, closed.last.0) {
            books.close(account, closed.day);
        }
        let Count { charged, unrated, corrections } = books.count;
        self.advance(closed);
        if closed.complete {
            self.forget_old_gaps(still_changes);
        }
        Outcome::DayClosed { day: closed.day, charged, unrated, corrections }
    }

    fn check_slice(&self, closed: DayClosed) -> Result<(), DayRefusal> {
        let expected = self.next_close();
        if closed.day != expected {
            return Err(DayRefusal::NotNextDay { expected });
        }
        if closed.last.0.checked_add(1).is_none_or(|after| after < closed.first.0) {
            return Err(DayRefusal::Empty);
        }
        let next = self.accounts.id_from(self.days.first_account.0);
        if let Some(next) = next.filter(|next| *next < closed.first.0) {
            return Err(DayRefusal::NotNextSlice { expected: AccountId(next) });
        }
        if closed.first < self.days.first_account {
            return Err(DayRefusal::NotNextSlice { expected: self.days.first_account });
        }
        match self.accounts.id_from(closed.last.0 + 1) {
            Some(left_out) if closed.complete => Err(DayRefusal::NotComplete(AccountId(left_out))),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, closed: DayClosed) {
        self.days.started = true;
        if closed.complete {
            self.days.next = Some(closed.day.next());
            self.days.first_account = AccountId(0);
        } else {
            self.days.next = Some(closed.day);
            self.days.first_account = AccountId(closed.last.0 + 1);
        }
    }

    /// Gaps that no data is charged for any more are no longer kept.
    fn forget_old_gaps(&mut self, first_day: CivilDay) {
        let first_instant = self.calendar.start_of(first_day);
        let (meters, offset_us) = (&self.meters, self.winter_offset_us);
        self.gaps.forget_below(|owner| {
            let period_s = meters.get(owner.meter).map(Meter::period_s);
            match period_s.filter(|_| owner.kind == ReadingKind::Interval as u8) {
                Some(period_s) => Grid::with_offset(period_s, offset_us).slot_of(first_instant).0 + 1,
                None => i64::from(first_day.0),
            }
        });
    }
}

/// Books one slice.
struct Books<'a> {
    tariffs: &'a Tariffs,
    limits: &'a Limits,
    calendar: &'a Calendar,
    open: &'a OpenTable,
    payments: &'a Payments,
    credit: &'a mut CreditTable,
    /// The day of the record.
    today: CivilDay,
    /// First day for which data may still come.
    still_changes: CivilDay,
    postings: Postings<'a>,
    count: Count,
}

impl Books<'_> {
    fn close(&mut self, account: &mut Account, day: CivilDay) {
        if day < account.from || day <= account.booked_until {
            return;
        }
        let before = account.booked;
        self.correct_closed_months(account);
        while account.open_month() < day.month() {
            let last = account.open_month().last_day();
            let is_rated = self.book(account, PostingKind::Correction, last);
            account.roll_over(is_rated, self.limits);
        }
        let is_rated = self.book(account, PostingKind::Usage, day);
        let last_recharge = last_recharge(self.payments, account);
        self.credit.day_booked(account, last_recharge, day, self.today, before);
        *(if is_rated { &mut self.count.charged } else { &mut self.count.unrated }) += 1;
        if day == day.month().last_day() {
            account.roll_over(is_rated, self.limits);
        }
        let waiting = account.meter().and_then(|meter| self.open.earliest_day(meter, self.calendar));
        let still_changes = waiting.map_or(self.still_changes, |day| day.min(self.still_changes));
        let frozen = still_changes.month().min(account.open_month()).first_day().previous();
        account.energy.freeze(frozen);
        account.forget_hidden_energy();
    }

    /// Charges the open month up to the end of a day, less what it was charged before. False where a tariff of it is not
    /// in force.
    fn book(&mut self, account: &mut Account, kind: PostingKind, day: CivilDay) -> bool {
        let month = day.month();
        let charged = account.charge_of(self.tariffs, month, day);
        account.booked_until = day;
        account.begin_terms();
        let before = account.books();
        let Some((tariff, charge)) = charged else {
            account.set_books(Figures { last_day: None, ..before });
            return false;
        };
        let energy_wh = account.energy_of(month, day);
        let difference = Difference {
            charge: charge.since(&before.charge),
            energy_wh: energy_wh.saturating_sub(before.charged_wh),
        };
        let this_day = Some((difference.energy_wh, difference.charge.total()));
        let last_day = if kind == PostingKind::Usage { this_day } else { before.last_day };
        account.set_books(Figures { charge, charged_wh: energy_wh, last_day });
        if kind == PostingKind::Usage {
            self.post(account, kind, day, &difference, tariff);
        } else {
            self.post_correction(account, day, &difference, tariff);
        }
        true
    }

    /// Charges the closed months again for which data came late. Data of one month may move the bound it shares with
    /// the next, so all that can still change are looked at.
    fn correct_closed_months(&mut self, account: &mut Account) {
        if !std::mem::take(&mut account.late) {
            return;
        }
        let mut months = std::mem::take(&mut account.months);
        for month in months.iter_mut() {
            self.correct(account, month);
        }
        account.months = months;
    }

    fn correct(&mut self, account: &mut Account, month: &mut Month) {
        let last_day = month.month.last_day();
        let Some(closed) = month.closed.as_mut() else { return };
        let affected = closed.affected.take().unwrap_or(closed.first_day);
        let charged = account.charge_again(self.tariffs, month, affected);
        let Some(closed) = month.closed.as_mut() else { return };
        let start = closed.first_day.previous();
        let Some((tariff, charge)) = charged.filter(|_| start >= account.energy.base_day) else { return };
        closed.start_wh = account.energy.at_end_of(start);
        closed.end_wh = account.energy.at_end_of(last_day);
        let energy_wh = closed.end_wh.saturating_sub(closed.start_wh);
        let difference = Difference {
            charge: charge.since(&closed.charge),
            energy_wh: energy_wh.saturating_sub(closed.charged_wh),
        };
        closed.charge = charge;
        closed.charged_wh = energy_wh;
        self.post_correction(account, affected, &difference, tariff);
    }

    fn post_correction(
        &mut self,
        account: &mut Account,
        day: CivilDay,
        difference: &Difference,
        tariff: Digest,
    ) {
        if difference.energy_wh != 0 || !difference.charge.is_zero() {
            self.count.corrections += 1;
            self.post(account, PostingKind::Correction, day, difference, tariff);
        }
    }

    fn post(
        &mut self,
        account: &mut Account,
        kind: PostingKind,
        day: CivilDay,
        difference: &Difference,
        tariff: Digest,
    ) {
        let subject = Subject { account: account.id, kind, usage_date: day };
        account.booked += self.postings.charge(subject, &difference.charge, difference.energy_wh, tariff);
    }
}

/// What is booked: charge and energy that were not booked before.
struct Difference {
    charge: Charge,
    energy_wh: i64,
}
