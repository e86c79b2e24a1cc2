//! Accounts: terms, the open month, the months closed before it, and the balance.

use model::row::Head;
use model::{AccountId, AccountTerms, CivilDay, CivilMonth, ConnectionType, Digest, MeterId, Paise};

use crate::Limits;
use crate::energy::Energy;
use crate::rating::{Bill, Charge, MAX_DEMAND_W, Part};
use crate::tariffs::{NameId, Tariffs};
use crate::thin::Thin;

/// An account as the fold keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) connection: ConnectionType,
    /// Id of the meter whose energy it pays for, the first whose terms named it; 0: none yet.
    meter: u32,
    pub(crate) tariff: NameId,
    pub(crate) sanctioned_w: u32,
    /// First civil day that is charged.
    pub(crate) from: CivilDay,
    /// Last day that was booked; the day before `from` at first.
    pub(crate) booked_until: CivilDay,
    /// Every posting so far.
    pub(crate) booked: Paise,
    books: Kept,
    /// Highest demand under the present terms in the open month, W; at most [`MAX_DEMAND_W`].
    demand_w: u32,
    /// Number of its last payment, and one; 0: none yet.
    last_payment: u32,
    pub(crate) energy: Energy,
    /// Months by month: closed ones, those ahead of which a demand is known, and the open one if it has parts.
    pub(crate) months: Thin<Month>,
    /// Later terms, by the day they begin.
    pub(crate) pending: Thin<PendingTerms>,
    /// Whether data came for a closed month since the last slice.
    pub(crate) late: bool,
}

/// What the open month was charged so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) charge: Charge,
    /// The energy in it.
    pub(crate) charged_wh: i64,
    /// Energy and charge of the last day that was booked under a tariff.
    pub(crate) last_day: Option<(i64, Paise)>,
}

/// Books as they are kept: those of a household fit into half the space. Books that fit are never kept whole, so that
/// equal books are kept alike.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Small { charge: [i32; Head::CHARGED.len()], charged_wh: i32, last_day: (i32, i32), has_last_day: bool },
    Whole(Box<Books>),
}

impl Kept {
    fn of(books: Books) -> Kept {
        Kept::small(&books).unwrap_or_else(|| Kept::Whole(Box::new(books)))
    }

    fn small(books: &Books) -> Option<Kept> {
        let mut charge = [0; Head::CHARGED.len()];
        for (small, head) in charge.iter_mut().zip(books.charge.heads) {
            *small = i32::try_from(head.0).ok()?;
        }
        let (last_wh, last_charge) = books.last_day.unwrap_or_default();
        Some(Kept::Small {
            charge,
            charged_wh: i32::try_from(books.charged_wh).ok()?,
            last_day: (i32::try_from(last_wh).ok()?, i32::try_from(last_charge.0).ok()?),
            has_last_day: books.last_day.is_some(),
        })
    }

    fn books(&self) -> Books {
        match self {
            Kept::Whole(books) => (**books).clone(),
            Kept::Small { charge, charged_wh, last_day: (wh, last_charge), has_last_day } => Books {
                charge: Charge { heads: charge.map(|head| Paise(i64::from(head))) },
                charged_wh: i64::from(*charged_wh),
                last_day: has_last_day.then_some((i64::from(*wh), Paise(i64::from(*last_charge)))),
            },
        }
    }
}

/// What is known of a month besides what an account keeps of the open one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) month: CivilMonth,
    /// Highest demand, W: of a closed month under its last terms, of one ahead under those it begins with. That of the open
    /// month is kept elsewhere.
    pub(crate) demand_w: i64,
    /// The books of a closed month; others have none.
    pub(crate) closed: Option<Closed>,
    /// Terms that ended inside of it, in their order.
    pub(crate) ended: Thin<EndedTerms>,
}

/// Terms that ended before the last day of their month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedTerms {
    /// Their last day.
    pub(crate) until: CivilDay,
    pub(crate) sanctioned_w: u32,
    pub(crate) tariff: NameId,
    /// Highest demand under them in the month, W.
    pub(crate) demand_w: i64,
}

/// What a closed month was charged, and under which terms it is charged again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) charge: Charge,
    pub(crate) charged_wh: i64,
    /// Register at its bounds as last rated, Wh.
    pub(crate) start_wh: i64,
    pub(crate) end_wh: i64,
    /// Whether its tariffs were in force; else the month is not charged.
    pub(crate) is_rated: bool,
    /// Tariff and load of its last day.
    pub(crate) tariff: NameId,
    pub(crate) sanctioned_w: u32,
    pub(crate) first_day: CivilDay,
    /// Last day of it for which data came since it was last rated.
    pub(crate) affected: Option<CivilDay>,
}

/// Terms that begin later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingTerms {
    pub(crate) from: CivilDay,
    pub(crate) sanctioned_w: u32,
    pub(crate) tariff: NameId,
    /// Highest demand under them in the month in which they begin, W, if that is inside of it.
    pub(crate) demand_w: i64,
}

/// Days of a month under the same terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: CivilDay,
    pub(crate) last: CivilDay,
    pub(crate) sanctioned_w: u32,
    pub(crate) tariff: NameId,
    pub(crate) demand_w: i64,
}

/// The stretches of a month in their order.
#[derive(Clone)]
pub(crate) struct Stretches<'a> {
    ended: &'a [EndedTerms],
    present: EndedTerms,
    later: &'a [PendingTerms],
    /// First day that is not given out.
    first: CivilDay,
    upto: CivilDay,
    next: usize,
}

impl Iterator for Stretches<'_> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        while self.first <= self.upto {
            let place = self.next;
            self.next += 1;
            let EndedTerms { until, sanctioned_w, tariff, demand_w } = match self.ended.get(place) {
                Some(ended) => *ended,
                None => self.present_or_later(place - self.ended.len())?,
            };
            let last = until.min(self.upto);
            if last >= self.first {
                let first = std::mem::replace(&mut self.first, last.next());
                return Some(Stretch { first, last, sanctioned_w, tariff, demand_w });
            }
        }
        None
    }
}

impl Stretches<'_> {
    fn present_or_later(&self, place: usize) -> Option<EndedTerms> {
        let until = self.later.get(place).map_or(self.upto, |terms| terms.from.previous());
        let Some(place) = place.checked_sub(1) else { return Some(EndedTerms { until, ..self.present }) };
        let &PendingTerms { sanctioned_w, tariff, demand_w, .. } = self.later.get(place)?;
        Some(EndedTerms { until, sanctioned_w, tariff, demand_w })
    }
}

impl Account {
    /// An account that nothing was booked on, before its meter is known.
    pub(crate) fn new(terms: &AccountTerms, tariff: NameId) -> Account {
        Account {
            id: terms.account,
            connection: terms.connection,
            meter: 0,
            tariff,
            sanctioned_w: terms.sanctioned_w,
            from: terms.from,
            booked_until: terms.from.previous(),
            booked: Paise::ZERO,
            books: Kept::of(Books::default()),
            demand_w: 0,
            last_payment: 0,
            energy: Energy::opened(terms.from, terms.opening_register_wh),
            months: Thin::default(),
            pending: Thin::default(),
            late: false,
        }
    }

    /// Reads it, and the last day of its energy.
    pub(crate) fn touch_all(&self) -> i64 {
        let last = self.energy.points.last().map_or(0, |point| i64::from(point.day.0));
        last ^ i64::from(self.id.0) ^ i64::from(self.meter) ^ self.booked.0 ^ self.energy.base_wh
    }

    pub(crate) fn meter(&self) -> Option<MeterId> {
        (self.meter != 0).then_some(MeterId(self.meter))
    }

    pub(crate) fn set_meter(&mut self, meter: Option<MeterId>) {
        self.meter = meter.map_or(0, |meter| meter.0);
    }

    /// Number of its last payment.
    pub(crate) fn last_payment(&self) -> Option<u32> {
        self.last_payment.checked_sub(1)
    }

    pub(crate) fn set_last_payment(&mut self, number: Option<u32>) {
        self.last_payment = number.map_or(0, |number| number.saturating_add(1));
    }

    /// What the open month was charged so far.
    pub(crate) fn books(&self) -> Books {
        self.books.books()
    }

    pub(crate) fn set_books(&mut self, books: Books) {
        self.books = Kept::of(books);
    }

    /// Highest demand of the open month, W.
    pub(crate) fn open_demand_w(&self) -> i64 {
        i64::from(self.demand_w)
    }

    pub(crate) fn set_open_demand_w(&mut self, demand_w: i64) {
        self.demand_w = u32::try_from(demand_w.clamp(0, MAX_DEMAND_W)).unwrap_or(0);
    }

    /// The month of the first day that is not booked.
    pub(crate) fn open_month(&self) -> CivilMonth {
        self.booked_until.next().month()
    }

    /// First day of a month that is charged.
    pub(crate) fn first_day_of(&self, month: CivilMonth) -> CivilDay {
        month.first_day().max(self.from)
    }

    /// Energy of a month up to the end of a day, Wh.
    pub(crate) fn energy_of(&self, month: CivilMonth, upto: CivilDay) -> i64 {
        self.energy.between(self.first_day_of(month).previous(), upto)
    }

    /// The charge of a month that is not closed, up to the end of a day, and the digest of that day's tariff; none where
    /// one of its tariffs is not in force.
    pub(crate) fn charge_of(
        &self,
        tariffs: &Tariffs,
        month: CivilMonth,
        upto: CivilDay,
    ) -> Option<(Digest, Charge)> {
        let stretches = self.stretches(month, upto);
        rate(tariffs, self.connection, month, stretches, upto, |day| self.energy_of(month, day))
    }

    /// The charge of a closed month as it is known now, and the digest of a day's tariff; none where it is not charged.
    pub(crate) fn charge_again(
        &self,
        tariffs: &Tariffs,
        month: &Month,
        of_day: CivilDay,
    ) -> Option<(Digest, Charge)> {
        let closed = month.closed.as_ref().filter(|closed| closed.is_rated)?;
        let start_wh = self.energy.at_end_of(closed.first_day.previous());
        let stretches = Stretches {
            ended: &month.ended,
            present: EndedTerms {
                until: month.month.last_day(),
                sanctioned_w: closed.sanctioned_w,
                tariff: closed.tariff,
                demand_w: month.demand_w,
            },
            later: &[],
            first: closed.first_day,
            upto: month.month.last_day(),
            next: 0,
        };
        rate(tariffs, self.connection, month.month, stretches, of_day, |day| {
            self.energy.at_end_of(day).saturating_sub(start_wh)
        })
    }

    /// The days of a month that is not closed to the end of a day, by terms.
    fn stretches(&self, month: CivilMonth, upto: CivilDay) -> Stretches<'_> {
        let (sanctioned_w, tariff) = self.terms_on(month.first_day());
        let known = self.months.iter().find(|known| known.month == month);
        let is_open = month == self.open_month();
        let (ended, demand_w, (sanctioned_w, tariff)) = if is_open {
            let ended = known.map_or(&[][..], |known| &known.ended);
            (ended, self.open_demand_w(), (self.sanctioned_w, self.tariff))
        } else {
            (&[][..], known.map_or(0, |known| known.demand_w), (sanctioned_w, tariff))
        };
        let first = self.pending.partition_point(|terms| terms.from <= month.first_day());
        let end = self.pending.partition_point(|terms| terms.from <= month.last_day());
        Stretches {
            ended,
            present: EndedTerms { until: month.last_day(), sanctioned_w, tariff, demand_w },
            later: &self.pending[first..end],
            first: self.first_day_of(month),
            upto: upto.min(month.last_day()),
            next: 0,
        }
    }

    /// First and last day of the terms that a day is under, inside of its month and not before the first that is charged.
    pub(crate) fn days_of_terms(&self, day: CivilDay) -> (CivilDay, CivilDay) {
        let month = day.month();
        let (mut first, mut last) = (self.first_day_of(month), month.last_day());
        let ended =
            self.months.iter().filter(|known| known.month == month).flat_map(|known| known.ended.iter());
        for until in
            ended.map(|terms| terms.until).chain(self.pending.iter().map(|terms| terms.from.previous()))
        {
            if until < day {
                first = first.max(until.next());
            } else {
                last = last.min(until);
            }
        }
        (first, last)
    }

    /// Sanctioned load and tariff of a day that is not booked.
    pub(crate) fn terms_on(&self, day: CivilDay) -> (u32, NameId) {
        let begun = self.pending.iter().rev().find(|terms| terms.from <= day);
        begun.map_or((self.sanctioned_w, self.tariff), |terms| (terms.sanctioned_w, terms.tariff))
    }

    /// Highest demand of a month, W.
    pub(crate) fn demand_of(&self, month: CivilMonth) -> i64 {
        let closed = self.months.iter().find(|known| known.month == month && known.closed.is_some());
        if let Some(month) = closed {
            return month.ended.iter().map(|terms| terms.demand_w).fold(month.demand_w, i64::max);
        }
        self.stretches(month, month.last_day()).map(|stretch| stretch.demand_w).max().unwrap_or(0)
    }

    /// Drops energy that nobody will ask for; see [`Energy::forget_hidden`].
    pub(crate) fn forget_hidden_energy(&mut self) {
        let Account { months, pending, booked_until, energy, .. } = self;
        energy.forget_hidden(booked_until.next(), |day| {
            let ended = months.iter().flat_map(|month| month.ended.iter()).map(|terms| terms.until);
            let ends = ended.chain(pending.iter().map(|terms| terms.from.previous()));
            ends.filter(|end| *end >= day).fold(day.month().last_day(), CivilDay::min)
        });
    }

    /// Whether data of that day can still move money.
    pub(crate) fn is_charged(&self, day: CivilDay) -> bool {
        day >= self.from && day > self.energy.base_day
    }

    /// Sets the highest demand of a day's month to what `change` makes of it.
    pub(crate) fn change_demand(&mut self, day: CivilDay, change: impl FnOnce(i64) -> i64) {
        // Nearly all data is of the first day that is not booked, and months take a while to count.
        if day == self.booked_until.next() {
            self.set_open_demand_w(change(self.open_demand_w()));
            return;
        }
        let (month, open) = (day.month(), self.open_month());
        if let Some(place) = self.demand_of_terms(day) {
            let before = *place;
            let after = change(before);
            *place = after;
            if after != before {
                self.touch(day);
            }
        } else if month == open {
            self.set_open_demand_w(change(self.open_demand_w()));
        } else if month > open {
            let place = self.months.partition_point(|known| known.month < month);
            let ahead = Month { month, demand_w: change(0), closed: None, ended: Thin::default() };
            self.months.insert(place, ahead);
        }
    }

    /// Where the demand of a day is kept, but for the open month's under the present terms and months not known yet.
    fn demand_of_terms(&mut self, day: CivilDay) -> Option<&mut i64> {
        let (month, open) = (day.month(), self.open_month());
        let begun = self.pending.iter().rposition(|terms| terms.from <= day);
        if let Some(place) = begun.filter(|place| {
            let from = self.pending[*place].from;
            from.month() == month && from != month.first_day()
        }) {
            return Some(&mut self.pending[place].demand_w);
        }
        let known = self.months.iter_mut().find(|known| known.month == month)?;
        match known.ended.iter().position(|terms| day <= terms.until) {
            Some(place) => Some(&mut known.ended[place].demand_w),
            None => (month != open).then_some(&mut known.demand_w),
        }
    }

    /// Notes that data of a day of a closed month changed something.
    pub(crate) fn touch(&mut self, day: CivilDay) {
        if day > self.booked_until {
            return;
        }
        let month = day.month();
        if month >= self.open_month() {
            return;
        }
        self.late = true;
        let known = self.months.iter_mut().find(|known| known.month == month);
        if let Some(closed) = known.and_then(|known| known.closed.as_mut()) {
            closed.affected = closed.affected.max(Some(day));
        }
    }

    /// Closes the open month, whose last day has just been booked, and opens the next.
    pub(crate) fn roll_over(&mut self, is_rated: bool, limits: &Limits) {
        let month = self.booked_until.month();
        let first_day = self.first_day_of(month);
        let books = self.books();
        let closed = Closed {
            charge: books.charge,
            charged_wh: books.charged_wh,
            start_wh: self.energy.at_end_of(first_day.previous()),
            end_wh: self.energy.at_end_of(self.booked_until),
            is_rated,
            tariff: self.tariff,
            sanctioned_w: self.sanctioned_w,
            first_day,
            affected: None,
        };
        self.set_books(Books { last_day: books.last_day, ..Books::default() });
        let demand_w = i64::from(std::mem::take(&mut self.demand_w));
        let known = self.month_of(month);
        (known.demand_w, known.closed) = (demand_w, Some(closed));
        self.open(month.next());
        let kept = i32::from(limits.months_kept);
        self.months.retain(|known| known.month.0 > month.0 - kept);
    }

    /// What is known of a month, made where nothing is.
    fn month_of(&mut self, month: CivilMonth) -> &mut Month {
        let place = self.months.partition_point(|known| known.month < month);
        if self.months.get(place).is_none_or(|known| known.month != month) {
            self.months.insert(place, Month { month, demand_w: 0, closed: None, ended: Thin::default() });
        }
        &mut self.months[place]
    }

    /// Puts the terms in force that begin inside of the month of the last day booked, up to the day after it.
    pub(crate) fn begin_terms(&mut self) {
        let month = self.booked_until.month();
        while let Some(&later) = self.pending.first() {
            let is_inside = later.from.month() == month && later.from != month.first_day();
            if !is_inside || later.from > self.booked_until.next() {
                return;
            }
            let ended = EndedTerms {
                until: later.from.previous(),
                sanctioned_w: self.sanctioned_w,
                tariff: self.tariff,
                demand_w: self.open_demand_w(),
            };
            self.month_of(month).ended.push(ended);
            (self.sanctioned_w, self.tariff) = (later.sanctioned_w, later.tariff);
            self.set_open_demand_w(later.demand_w);
            self.pending.remove(0);
        }
    }

    /// Whether terms ended inside of the open month.
    pub(crate) fn has_ended_terms(&self) -> bool {
        let open = self.open_month();
        self.months.iter().any(|known| known.month == open && !known.ended.is_empty())
    }

    fn open(&mut self, month: CivilMonth) {
        if let Ok(place) = self.months.binary_search_by_key(&month, |known| known.month) {
            let ahead = self.months.remove(place).demand_w;
            self.set_open_demand_w(ahead);
        }
        self.begin_pending_terms();
    }

    /// Puts the pending terms in force that begin with the open month or before.
    fn begin_pending_terms(&mut self) {
        let first = self.open_month().first_day();
        let begun = self.pending.partition_point(|terms| terms.from <= first);
        if let Some(terms) = self.pending[..begun].last() {
            (self.sanctioned_w, self.tariff) = (terms.sanctioned_w, terms.tariff);
        }
        self.pending.drop_first(..begun);
    }
}

/// The charge of a month's stretches, and the digest of the tariff that a day is under.
fn rate(
    tariffs: &Tariffs,
    connection: ConnectionType,
    month: CivilMonth,
    mut stretches: Stretches<'_>,
    of_day: CivilDay,
    energy_to: impl Fn(CivilDay) -> i64,
) -> Option<(Digest, Charge)> {
    let mut bill = Bill::of(month);
    let (mut days, mut energy_wh, mut digest) = (0, 0, None);
    while let Some(stretch) = stretches.next() {
        let version = tariffs.in_force(stretch.tariff, month)?;
        let upto_days = days + days_between(stretch.first, stretch.last);
        // What was counted too high before a register told is nobody's energy: no more than what is there later.
        let upto_wh =
            stretches.clone().map(|later| energy_to(later.last)).fold(energy_to(stretch.last), i64::min);
        bill.add(&Part {
            tariff: &version.tariff,
            connection,
            sanctioned_w: stretch.sanctioned_w,
            demand_w: stretch.demand_w,
            days: (days, upto_days),
            energy_wh: (energy_wh, upto_wh),
        });
        (days, energy_wh) = (upto_days, upto_wh);
        if digest.is_none() || stretch.first <= of_day {
            digest = Some(version.fact.digest);
        }
    }
    digest.map(|digest| (digest, bill.charge()))
}

/// Days from one to another, both counted; none when the second lies before the first.
pub(crate) fn days_between(first: CivilDay, last: CivilDay) -> u8 {
    let days = i64::from(last.0) - i64::from(first.0) + 1;
    u8::try_from(days.max(0)).unwrap_or(u8::MAX)
}

/// Mean power of an interval, W: what demand is the highest of. Below zero and absurd values are held within range.
pub(crate) fn demand_w(import_wh: i64, period_s: u32) -> i64 {
    // What is too large for the multiplication is above the highest demand with any period.
    let watt_seconds = import_wh.max(0).checked_mul(3600);
    watt_seconds.map_or(MAX_DEMAND_W, |energy| (energy / i64::from(period_s.max(1))).min(MAX_DEMAND_W))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_account_takes_128_bytes_and_an_empty_place_no_more() {
        assert_eq!(size_of::<Option<Account>>(), 128);
    }

    #[test]
    fn demand_is_held_within_range_whatever_a_meter_says() {
        let exact = |wh: i64, period_s: u32| {
            let power = i128::from(wh.max(0)) * 3600 / i128::from(period_s.max(1));
            i64::try_from(power).unwrap_or(MAX_DEMAND_W).min(MAX_DEMAND_W)
        };
        for wh in [i64::MIN, -1, 0, 1, 699, 1 << 40, i64::MAX / 3600, i64::MAX / 3600 + 1, i64::MAX] {
            for period_s in [0, 1, 900, 1800, 86_400, u32::MAX] {
                assert_eq!(demand_w(wh, period_s), exact(wh, period_s), "{wh} Wh in {period_s} s");
            }
        }
    }

    proptest! {
        #[test]
        fn books_are_kept_as_they_are_whatever_they_say(
            heads: [i64; Head::CHARGED.len()],
            small: [i32; Head::CHARGED.len()],
            charged_wh: i64,
            last_day: Option<(i32, i64)>,
            is_small: bool,
        ) {
            let heads = if is_small { small.map(i64::from) } else { heads };
            let books = Books {
                charge: Charge { heads: heads.map(Paise) },
                charged_wh,
                last_day: last_day.map(|(wh, charge)| (i64::from(wh), Paise(charge))),
            };
            prop_assert_eq!(Kept::of(books.clone()).books(), books);
        }
    }
}
