//! What the fold shows of itself, at its position.

use model::view::{
    AccountView, CreditView, DayEnergy, Gap, MeterView, NoticeDue, Standing, Tally, TermsView,
};
use model::{
    AccountId, CivilDay, CivilMonth, CreditPolicyVersion, Instant, MeterId, OutboxId, Paise, ReadingKind,
    TariffVersion,
};

use super::Fold;
use crate::account::Account;
use crate::contested::Contested;
use crate::counter::CounterWindow;
use crate::credit::CreditPolicy;
use crate::meter::Meter;
use crate::payments::Payment;
use crate::slot::{Owner, SlotRange};

/// Most days of [`AccountView::recent`] after the last closed one.
const MAX_RECENT_DAYS: i32 = 40;

impl Fold {
    /// An account's money and energy. "To date" means to the day on which the last record was received.
    #[must_use]
    pub fn account(&self, account: AccountId) -> Option<AccountView> {
        self.accounts.get(account.0).map(|account| self.account_view(account))
    }

    /// All accounts, by id.
    pub fn accounts(&self) -> impl Iterator<Item = AccountView> + '_ {
        self.accounts.iter().map(|(_, account)| self.account_view(account))
    }

    /// Accounts of which more is posted than was paid, by id.
    pub fn accounts_below_zero(&self) -> impl Iterator<Item = AccountView> + '_ {
        let below = self.accounts.iter().filter(|(_, account)| account.booked < Paise::ZERO);
        below.map(|(_, account)| self.account_view(account))
    }

    /// Terms of an account that begin later, by their days.
    #[must_use]
    pub fn later_terms(&self, account: AccountId) -> Vec<TermsView> {
        let Some(account) = self.accounts.get(account.0) else { return Vec::new() };
        account.pending.iter().map(|later| self.terms_view(account, later.from)).collect()
    }

    /// Terms of an account on a day that is not closed, from that day on.
    #[must_use]
    pub fn terms_on(&self, account: AccountId, day: CivilDay) -> Option<TermsView> {
        self.accounts.get(account.0).map(|account| self.terms_view(account, day))
    }

    fn terms_view(&self, account: &Account, from: CivilDay) -> TermsView {
        let (sanctioned_w, tariff) = account.terms_on(from);
        let tariff = self.tariffs.name(tariff).to_owned();
        TermsView { from, connection: account.connection, tariff, sanctioned_w }
    }

    /// A meter as the fold knows it.
    #[must_use]
    pub fn meter(&self, meter: MeterId) -> Option<MeterView> {
        self.meters.get(meter.0).map(|known| self.meter_view(meter, known))
    }

    /// The meter that measures for an account.
    #[must_use]
    pub fn meter_of(&self, account: AccountId) -> Option<MeterView> {
        self.meter(self.accounts.get(account.0)?.meter()?)
    }

    /// All meters, by id.
    pub fn meters(&self) -> impl Iterator<Item = MeterView> + '_ {
        self.meters.iter().map(|(id, meter)| self.meter_view(MeterId(id), meter))
    }

    /// Frames by source, in the order of [`model::Source::ALL`].
    #[must_use]
    pub fn tallies(&self) -> [Tally; 4] {
        self.tallies
    }

    /// Missing slots, by meter and oldest first, at most `limit` ranges. What lies before the first day of a meter's
    /// account, or is too old to be charged, is not missed.
    #[must_use]
    pub fn gaps(&self, limit: usize) -> Vec<Gap> {
        self.gaps.iter().filter_map(|(owner, range)| self.gap(owner, range)).take(limit).collect()
    }

    /// Where the fold stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            position: self.position,
            closed_until: self.days.next.filter(|_| self.days.started).map(CivilDay::previous),
            trial_balance: self.totals.trial_balance(),
        }
    }

    /// When the last record was received: the fold's only "now".
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Last entry of the registry's outbox that was drained.
    #[must_use]
    pub fn last_outbox(&self) -> OutboxId {
        self.last_outbox
    }

    /// All tariff versions, in the order in which they were applied.
    #[must_use]
    pub fn tariffs(&self) -> Vec<TariffVersion> {
        self.tariffs.versions.iter().map(|version| version.fact.clone()).collect()
    }

    /// What consumers are to be told, by account from one on, at most `limit`.
    #[must_use]
    pub fn notices_due(&self, from: AccountId, limit: usize) -> Vec<NoticeDue> {
        self.credit.due(from).take(limit).collect()
    }

    /// The policy of credit control in force on a day.
    #[must_use]
    pub fn credit_policy_on(&self, day: CivilDay) -> Option<&CreditPolicy> {
        self.credit.in_force(day).map(|version| &version.policy)
    }

    /// All policies of credit control, by the day they are in force from.
    #[must_use]
    pub fn credit_policies(&self) -> Vec<CreditPolicyVersion> {
        self.credit.policies.values().map(|version| version.fact.clone()).collect()
    }

    /// The payment of that id, if it was booked.
    #[must_use]
    pub fn has_payment(&self, id: &str) -> Option<&Payment> {
        self.payments.find(id)
    }

    /// All payments, in the order in which they came.
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.payments.iter()
    }

    /// First day that is not completely closed. Before the first slice it is the first day of the earliest account;
    /// without an account, the day of the last record.
    #[must_use]
    pub fn next_close(&self) -> CivilDay {
        self.days.next.unwrap_or_else(|| self.today())
    }

    /// First account of the next day that is not booked yet: where the next slice begins.
    #[must_use]
    pub fn next_slice(&self) -> Option<AccountId> {
        self.accounts.id_from(self.days.first_account.0).map(AccountId)
    }

    /// Lowest and highest account.
    #[must_use]
    pub fn account_range(&self) -> Option<(AccountId, AccountId)> {
        Some((AccountId(self.accounts.first_id()?), AccountId(self.accounts.last_id()?)))
    }

    /// Counter windows of all meters, to go on judging frames where the journal ended.
    pub fn counter_windows(&self) -> impl Iterator<Item = (MeterId, CounterWindow)> + '_ {
        self.meters.iter().map(|(id, meter)| (MeterId(id), meter.counters()))
    }

    /// Readings that wait for an answer and have been handed out: the first of each meter. What a resolver that
    /// starts has to look up.
    #[must_use]
    pub fn open_contested(&self) -> Vec<Contested> {
        let mut out = super::Effects::default();
        for meter in self.open.queues.keys() {
            self.hand_out(*meter, &mut out);
        }
        out.contested.sort_by_key(|contested| (contested.position, contested.index));
        out.contested
    }

    /// Readings that wait for an answer, handed out or not.
    #[must_use]
    pub fn contested_len(&self) -> usize {
        self.open.len
    }

    /// Whether as many readings wait as are bounded for: who appends frames should wait for the resolver. What is
    /// durable is folded all the same.
    #[must_use]
    pub fn contested_is_full(&self) -> bool {
        self.open.len >= self.limits.max_contested
    }

    fn today(&self) -> CivilDay {
        self.calendar.day_of(self.now)
    }

    fn account_view(&self, account: &Account) -> AccountView {
        let as_of = self.today().max(account.booked_until);
        let month = as_of.month();
        let (sanctioned_w, tariff) = account.terms_on(as_of);
        let payment = account.last_payment().and_then(|number| self.payments.get(number));
        let has_begun = as_of >= account.from;
        AccountView {
            account: account.id,
            connection: account.connection,
            from: account.from,
            booked: account.booked,
            accrued: if has_begun { self.accrued(account, as_of) } else { Paise::ZERO },
            uncorrected: self.uncorrected(account),
            arrears: self.arrears.get(account.id.0).copied().unwrap_or_default(),
            month_energy_wh: if has_begun { account.energy_of(month, as_of) } else { 0 },
            month_demand_w: account.demand_of(month),
            recent: self.recent(account, as_of),
            last_recharge: payment.map(|payment| (payment.amount, payment.at)),
            booked_until: Some(account.booked_until).filter(|day| *day >= account.from),
            tariff: self.tariffs.name(tariff).to_owned(),
            tariff_digest: self.tariffs.digest_in_force(tariff, month),
            sanctioned_w,
            heard_at: account.meter().and_then(|meter| self.meters.get(meter.0)).and_then(Meter::heard_at),
            credit: CreditView {
                left_after_recharge: payment.map(|payment| payment.left),
                ..self.credit.of(account.id).view()
            },
        }
    }

    /// What data that came late for closed months will cost.
    fn uncorrected(&self, account: &Account) -> Paise {
        if !account.late {
            return Paise::ZERO;
        }
        let closed = account.months.iter().filter_map(|month| Some((month, month.closed.as_ref()?)));
        closed
            .filter_map(|(month, closed)| {
                let (_, charge) = account.charge_again(&self.tariffs, month, closed.first_day)?;
                Some(charge.total() - closed.charge.total())
            })
            .sum()
    }

    /// Charge up to the end of a day that is not booked.
    fn accrued(&self, account: &Account, as_of: CivilDay) -> Paise {
        let open = account.open_month();
        if as_of.month() < open {
            return Paise::ZERO;
        }
        let whole = (open.0..as_of.month().0).map(CivilMonth);
        let months: Paise = whole.map(|month| self.charge_upto(account, month.last_day())).sum();
        months + self.charge_upto(account, as_of) - account.books().charge.total()
    }

    /// Charge of an open month to the end of a day.
    fn charge_upto(&self, account: &Account, day: CivilDay) -> Paise {
        let month = day.month();
        let charged = account.charge_of(&self.tariffs, month, day);
        charged.map_or(Paise::ZERO, |(_, charge)| charge.total())
    }

    fn recent(&self, account: &Account, as_of: CivilDay) -> Vec<DayEnergy> {
        let closed = account.books().last_day.map(|(energy_wh, charge)| DayEnergy {
            day: account.booked_until,
            energy_wh,
            charge,
            closed: true,
        });
        let first = account.booked_until.next().max(as_of.plus(1 - MAX_RECENT_DAYS));
        let open = (first.0..=as_of.0).map(|day| self.open_day(account, CivilDay(day)));
        closed.into_iter().chain(open).collect()
    }

    fn open_day(&self, account: &Account, day: CivilDay) -> DayEnergy {
        let month = day.month();
        let is_first = day == account.first_day_of(month);
        let before = if is_first {
            (0, Paise::ZERO)
        } else if day.previous() == account.booked_until {
            (account.books().charged_wh, account.books().charge.total())
        } else {
            (account.energy_of(month, day.previous()), self.charge_upto(account, day.previous()))
        };
        let energy_wh = account.energy_of(month, day).saturating_sub(before.0);
        DayEnergy { day, energy_wh, charge: self.charge_upto(account, day) - before.1, closed: false }
    }

    fn meter_view(&self, id: MeterId, meter: &Meter) -> MeterView {
        MeterView {
            meter: id,
            account: meter.account(),
            heard_at: meter.heard_at(),
            counter: (!meter.counters().is_empty()).then_some(meter.counters().high),
            complete_until: meter.has_interval.then(|| {
                let slots = meter.slots(id.0, ReadingKind::Interval);
                let first = slots.first_missing(self.first_slot_missed(meter), &self.gaps);
                self.grid_of(meter).end_of(first - 1)
            }),
            period_s: meter.period_s(),
            authenticated: meter.authenticated,
        }
    }

    /// A missing range as far as it is missed.
    fn gap(&self, owner: Owner, range: SlotRange) -> Option<Gap> {
        let meter = self.meters.get(owner.meter)?;
        let kind = ReadingKind::from_number(owner.kind)?;
        let is_daily = kind == ReadingKind::Daily;
        let missed_from =
            if is_daily { i64::from(self.first_day_missed(meter).0) } else { self.first_slot_missed(meter) };
        if range.last < missed_from {
            return None;
        }
        let range = SlotRange { first: range.first.max(missed_from), last: range.last };
        let end_of = |slot: i64| {
            if is_daily {
                self.calendar.end_of(CivilDay(i32::try_from(slot).unwrap_or(i32::MAX)))
            } else {
                self.grid_of(meter).end_of(slot)
            }
        };
        Some(Gap {
            meter: MeterId(owner.meter),
            kind,
            first_end: end_of(range.first),
            last_end: end_of(range.last),
            slots: range.last.abs_diff(range.first) + 1,
        })
    }

    /// First day whose data is missed when it is not there.
    fn first_day_missed(&self, meter: &Meter) -> CivilDay {
        let from =
            meter.account().and_then(|account| self.accounts.get(account.0)).map(|account| account.from);
        let charged = self.today().plus(-i32::from(self.limits.late_days));
        from.map_or(charged, |from| from.max(charged))
    }

    fn first_slot_missed(&self, meter: &Meter) -> i64 {
        self.grid_of(meter).slot_of(self.calendar.start_of(self.first_day_missed(meter))).0 + 1
    }
}
