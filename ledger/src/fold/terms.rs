//! Control facts: terms of meters and accounts, tariff versions.

use model::row::{Head, PostingKind};
use model::{
    AccountId, AccountTerms, Arrears, CivilDay, Fact, Instant, MeterTerms, OutboxId, Paise, Record,
    TariffVersion,
};

use super::frame::FUTURE_AFTER_S;
use super::{Effects, Fold, postings};
use crate::Outcome;
use crate::account::{Account, PendingTerms};
use crate::meter::Meter;
use crate::outcome::{MAX_REGISTER_WH, TermsRefusal};
use crate::posting::Subject;
use crate::rating::MAX_DEMAND_W;
use crate::slot::Grid;
use crate::tariffs::{Added, NameId};

/// Largest amount that is booked at once: a lakh crore of rupees. Balances of paise are far from overflow with it.
pub(super) const MAX_AMOUNT: Paise = Paise(100_000_000_000_000);

/// How far ahead an account may begin, days.
const MAX_DAYS_AHEAD: i32 = 400;

const SECONDS_OF_DAY: u32 = 86_400;

impl Fold {
    pub(super) fn meter_terms(&mut self, record: &Record, terms: &MeterTerms) -> Outcome {
        if let Some(exists) = self.drain(terms.outbox) {
            return exists;
        }
        answer(self.take_meter(record, terms))
    }

    pub(super) fn account_terms(
        &mut self,
        record: &Record,
        terms: &AccountTerms,
        out: &mut Effects,
    ) -> Outcome {
        if let Some(exists) = self.drain(terms.outbox) {
            return exists;
        }
        let known = self.accounts.get(terms.account.0).is_some();
        answer(if known { self.change_account(record, terms) } else { self.open_account(record, terms, out) })
    }

    /// What would come of terms if they were received now; nothing comes of this.
    #[must_use]
    pub fn would_take(&self, terms: &AccountTerms, received_at: Instant) -> Outcome {
        let terms = AccountTerms { outbox: OutboxId(self.last_outbox.0 + 1), ..terms.clone() };
        let record =
            Record { position: self.position.next(), received_at, fact: Fact::AccountTerms(terms.clone()) };
        self.clone().account_terms(&record, &terms, &mut Effects::default())
    }

    pub(super) fn tariff_version(&mut self, version: &TariffVersion) -> Outcome {
        let earliest = self.earliest_open_day().filter(|_| self.days.started).map(CivilDay::month);
        match self.tariffs.add(version, earliest, &self.limits) {
            Ok(Added::Applied) => Outcome::TariffApplied,
            Ok(Added::Exists) => Outcome::TariffExists,
            Err(refusal) => Outcome::TariffRefused(refusal),
        }
    }

    /// First day that is not booked for any account.
    fn earliest_open_day(&self) -> Option<CivilDay> {
        let in_slices = self.days.first_account > AccountId(0);
        self.days.next.map(|day| if in_slices { day.next() } else { day })
    }

    /// Notes an outbox entry as drained; an answer when it had been.
    fn drain(&mut self, outbox: OutboxId) -> Option<Outcome> {
        if outbox <= self.last_outbox {
            return Some(Outcome::TermsExists { last: self.last_outbox });
        }
        self.last_outbox = outbox;
        None
    }

    fn take_meter(&mut self, record: &Record, terms: &MeterTerms) -> Result<(), TermsRefusal> {
        check_id(terms.meter.0, self.limits.max_meters)?;
        if terms.period_s < 60 || !SECONDS_OF_DAY.is_multiple_of(terms.period_s) {
            return Err(TermsRefusal::Period);
        }
        match self.meters.get_mut(terms.meter.0) {
            Some(meter) => change_meter(meter, terms)?,
            None => self.new_meter(record, terms),
        }
        self.bind(terms);
        Ok(())
    }

    fn new_meter(&mut self, record: &Record, terms: &MeterTerms) {
        let today = self.calendar.day_of(record.received_at);
        let first = today.plus(-i32::from(self.limits.late_days));
        let grid = Grid::with_offset(terms.period_s, self.winter_offset_us);
        let first_interval = grid.slot_of(self.calendar.start_of(first)).0 + 1;
        self.meters.insert(terms.meter.0, Meter::new(terms, first_interval, i64::from(first.0)));
    }

    /// Makes the meter the one its account pays for, if there is none yet.
    fn bind(&mut self, terms: &MeterTerms) {
        let Some(account) = terms.account else { return };
        match self.accounts.get_mut(account.0) {
            Some(account) => {
                let meter = account.meter().unwrap_or(terms.meter);
                account.set_meter(Some(meter));
            }
            None => {
                let lowest = self.unclaimed.entry(account).or_insert(terms.meter);
                *lowest = terms.meter.min(*lowest);
            }
        }
    }

    fn open_account(
        &mut self,
        record: &Record,
        terms: &AccountTerms,
        out: &mut Effects,
    ) -> Result<(), TermsRefusal> {
        check_id(terms.account.0, self.limits.max_accounts)?;
        let tariff = self.check_terms(terms)?;
        let today = self.calendar.day_of(record.received_at);
        let first = model::CivilMonth(today.month().0 - i32::from(self.limits.months_kept)).first_day();
        let last = today.plus(MAX_DAYS_AHEAD);
        if terms.from < first || terms.from > last {
            return Err(TermsRefusal::From { first, last });
        }
        if !(0..=MAX_REGISTER_WH).contains(&terms.opening_register_wh) {
            return Err(TermsRefusal::OpeningRegister);
        }
        if terms.opening_balance > MAX_AMOUNT || terms.opening_balance < -MAX_AMOUNT {
            return Err(TermsRefusal::OpeningBalance);
        }
        let mut account = Account::new(terms, tariff);
        account.set_meter(self.unclaimed.remove(&terms.account));
        self.accounts.insert(terms.account.0, account);
        self.book_opening(record, terms, out);
        if !self.days.started {
            self.days.next = Some(self.days.next.map_or(terms.from, |next| next.min(terms.from)));
        }
        Ok(())
    }

    /// Takes old dues of an account over: beside its balance, so that nothing is cut for them.
    pub(super) fn take_arrears(&mut self, record: &Record, arrears: Arrears, out: &mut Effects) -> Outcome {
        if let Some(exists) = self.drain(arrears.outbox) {
            return exists;
        }
        let Arrears { account, amount, .. } = arrears;
        if amount <= Paise::ZERO || amount > MAX_AMOUNT {
            return Outcome::TermsRefused(TermsRefusal::Arrears);
        }
        if self.accounts.get(account.0).is_none() {
            return Outcome::TermsRefused(TermsRefusal::NoAccount);
        }
        let owed = self.arrears.get(account.0).copied().unwrap_or_default();
        self.arrears.insert(account.0, owed + amount);
        let usage_date = self.calendar.day_of(record.received_at);
        let subject = Subject { account, kind: PostingKind::Arrears, usage_date };
        postings(record, &mut self.totals, &mut out.rows).arrears(subject, amount);
        Outcome::TermsApplied
    }

    fn book_opening(&mut self, record: &Record, terms: &AccountTerms, out: &mut Effects) {
        if terms.opening_balance == Paise::ZERO {
            return;
        }
        let subject = Subject { account: terms.account, kind: PostingKind::Opening, usage_date: terms.from };
        postings(record, &mut self.totals, &mut out.rows).credit(
            subject,
            Head::Migration,
            terms.opening_balance,
            None,
        );
        if let Some(account) = self.accounts.get_mut(terms.account.0) {
            account.booked += terms.opening_balance;
        }
        self.balance_moved(record, terms.account);
    }

    /// Later terms of a known account: load and tariff, from a first of month that is not closed or from a later day than
    /// the present one. The highest demand of days that have passed is not known by days, so that a month cannot be cut
    /// where data has come.
    fn change_account(&mut self, record: &Record, terms: &AccountTerms) -> Result<(), TermsRefusal> {
        let tariff = self.check_terms(terms)?;
        if self.tariffs.in_force(tariff, terms.from.month()).is_none() {
            return Err(TermsRefusal::NoTariffVersion(terms.from.month()));
        }
        let limits = self.limits;
        let today = self.calendar.day_of(record.received_at);
        // Data may be as far ahead and still count.
        let known = self.calendar.day_of(record.received_at.plus_seconds(FUTURE_AFTER_S));
        let Some(account) = self.accounts.get_mut(terms.account.0) else { return Ok(()) };
        let open = account.open_month();
        let earliest = open.first_day();
        if terms.connection != account.connection {
            return Err(TermsRefusal::ConnectionChanged);
        }
        if terms.opening_balance != Paise::ZERO {
            return Err(TermsRefusal::OpeningTwice);
        }
        let last = today.plus(MAX_DAYS_AHEAD);
        if terms.from > last {
            return Err(TermsRefusal::From { first: earliest, last });
        }
        let unknown = known.max(account.booked_until.next()).next();
        let is_inside = terms.from.day_of_month() != 1;
        if is_inside && terms.from < unknown {
            return Err(TermsRefusal::InsideOfMonth(unknown));
        }
        // The days that it was handed out with would no longer be those of one part.
        if is_inside && account.meter().is_some_and(|meter| self.open.queues.contains_key(&meter)) {
            return Err(TermsRefusal::LookUp);
        }
        if terms.from < earliest {
            return Err(TermsRefusal::Closed(earliest));
        }
        let mut later =
            PendingTerms { from: terms.from, sanctioned_w: terms.sanctioned_w, tariff, demand_w: 0 };
        if later.from == earliest {
            if account.has_ended_terms() {
                return Err(TermsRefusal::MonthHasParts { inside: unknown, month: open.next().first_day() });
            }
            account.sanctioned_w = later.sanctioned_w;
            account.tariff = later.tariff;
            return Ok(());
        }
        match account.pending.binary_search_by_key(&terms.from, |known| known.from) {
            Ok(place) => {
                later.demand_w = account.pending[place].demand_w;
                account.pending[place] = later;
            }
            Err(_) if account.pending.len() >= limits.max_pending_terms => return Err(TermsRefusal::Full),
            Err(place) => account.pending.insert(place, later),
        }
        Ok(())
    }

    /// What first and later terms have in common; gives the number of the tariff's name.
    fn check_terms(&mut self, terms: &AccountTerms) -> Result<NameId, TermsRefusal> {
        if !(1..=MAX_DEMAND_W).contains(&i64::from(terms.sanctioned_w)) {
            return Err(TermsRefusal::Load);
        }
        if !(1..=64).contains(&terms.tariff.len()) {
            return Err(TermsRefusal::TariffName);
        }
        let limits = self.limits;
        let name = self.tariffs.name_id(&terms.tariff, &limits).ok_or(TermsRefusal::TariffNames)?;
        if let Some(version) = self.tariffs.in_force(name, terms.from.month()) {
            let load_w = terms.sanctioned_w;
            if let Some(most) = version.tariff.max_load_w.filter(|most| load_w > *most) {
                return Err(TermsRefusal::LoadAboveTariff(most));
            }
            if let Some(least) = version.tariff.min_load_w.filter(|least| load_w < *least) {
                return Err(TermsRefusal::LoadBelowTariff(least));
            }
        }
        Ok(name)
    }
}

fn answer(result: Result<(), TermsRefusal>) -> Outcome {
    result.map_or_else(Outcome::TermsRefused, |()| Outcome::TermsApplied)
}

fn check_id(id: u32, highest: u32) -> Result<(), TermsRefusal> {
    if (1..=highest).contains(&id) { Ok(()) } else { Err(TermsRefusal::Id(highest)) }
}

fn change_meter(meter: &mut Meter, terms: &MeterTerms) -> Result<(), TermsRefusal> {
    if meter.title != terms.title {
        return Err(TermsRefusal::TitleChanged);
    }
    if meter.period_s() != terms.period_s {
        return Err(TermsRefusal::PeriodChanged);
    }
    if meter.account().is_some() && meter.account() != terms.account {
        return Err(TermsRefusal::AccountChanged);
    }
    if terms.key_epoch < meter.counters().key_epoch {
        return Err(TermsRefusal::KeyEpoch);
    }
    meter.set_account(terms.account);
    meter.authenticated = terms.authenticated;
    Ok(())
}
