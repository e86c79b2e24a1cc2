//! Accounts: terms, the open month, the months closed before it, and the balance.

use model::row::Head;
use model::{AccountId, AccountTerms, CivilDay, CivilMonth, ConnectionType, MeterId, Paise};

use crate::Limits;
use crate::energy::Energy;
use crate::rating::{Charge, MAX_DEMAND_W, charge_to_date};
use crate::tariff::Tariff;
use crate::tariffs::{NameId, VersionId};
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
    /// Highest demand of the open month, W; at most [`MAX_DEMAND_W`].
    demand_w: u32,
    /// Number of its last payment, and one; 0: none yet.
    last_payment: u32,
    pub(crate) energy: Energy,
    /// Months besides the open one, by month: closed ones, and those ahead of which a demand is known.
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

/// A month that is not the open one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) month: CivilMonth,
    /// Highest demand, W.
    pub(crate) demand_w: i64,
    /// The books of a closed month; a month ahead has none.
    pub(crate) closed: Option<Closed>,
}

/// What a closed month was charged, and under which terms it is charged again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) charge: Charge,
    pub(crate) charged_wh: i64,
    /// Register at its bounds as last rated, Wh.
    pub(crate) start_wh: i64,
    pub(crate) end_wh: i64,
    /// `None`: no tariff was in force, the month is not charged.
    pub(crate) version: Option<VersionId>,
    pub(crate) sanctioned_w: u32,
    pub(crate) first_day: CivilDay,
    /// Last day of it for which data came since it was last rated.
    pub(crate) affected: Option<CivilDay>,
}

/// Terms that begin on a later first of month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingTerms {
    pub(crate) from: CivilDay,
    pub(crate) sanctioned_w: u32,
    pub(crate) tariff: NameId,
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

    /// The charge of a month that is not closed, up to the end of a day.
    pub(crate) fn charge_of(&self, tariff: &Tariff, month: CivilMonth, upto: CivilDay) -> Charge {
        let days = days_between(self.first_day_of(month), upto);
        let sanctioned_w = self.terms_of(month).0;
        charge_to_date(tariff, month, days, self.energy_of(month, upto), self.demand_of(month), sanctioned_w)
    }

    /// Sanctioned load and tariff of a month that is not closed.
    pub(crate) fn terms_of(&self, month: CivilMonth) -> (u32, NameId) {
        let begun = self.pending.iter().rev().find(|terms| terms.from <= month.first_day());
        begun.map_or((self.sanctioned_w, self.tariff), |terms| (terms.sanctioned_w, terms.tariff))
    }

    /// Highest demand of a month, W.
    pub(crate) fn demand_of(&self, month: CivilMonth) -> i64 {
        if month == self.open_month() {
            return self.open_demand_w();
        }
        self.months.iter().find(|known| known.month == month).map_or(0, |known| known.demand_w)
    }

    /// Whether data of that day can still move money.
    pub(crate) fn is_charged(&self, day: CivilDay) -> bool {
        day >= self.from && day > self.energy.base_day
    }

    /// Sets the highest demand of a day's month to what `change` makes of it.
    pub(crate) fn change_demand(&mut self, day: CivilDay, change: impl FnOnce(i64) -> i64) {
        // Nearly all data is of the first day that is not booked, and months take a while to count.
        let is_first_open = day == self.booked_until.next();
        let (month, open) = if is_first_open { Default::default() } else { (day.month(), self.open_month()) };
        if month == open {
            self.set_open_demand_w(change(self.open_demand_w()));
            return;
        }
        match self.months.binary_search_by_key(&month, |known| known.month) {
            Ok(place) => {
                let before = self.months[place].demand_w;
                let after = change(before);
                self.months[place].demand_w = after;
                if after != before {
                    self.touch(day);
                }
            }
            Err(place) if month > open => {
                self.months.insert(place, Month { month, demand_w: change(0), closed: None });
            }
            Err(_) => {}
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
    pub(crate) fn roll_over(&mut self, version: Option<VersionId>, limits: &Limits) {
        let month = self.booked_until.month();
        let first_day = self.first_day_of(month);
        let books = self.books();
        let closed = Closed {
            charge: books.charge,
            charged_wh: books.charged_wh,
            start_wh: self.energy.at_end_of(first_day.previous()),
            end_wh: self.energy.at_end_of(self.booked_until),
            version,
            sanctioned_w: self.sanctioned_w,
            first_day,
            affected: None,
        };
        self.set_books(Books { last_day: books.last_day, ..Books::default() });
        let demand_w = i64::from(std::mem::take(&mut self.demand_w));
        let place = self.months.partition_point(|known| known.month < month);
        self.months.insert(place, Month { month, demand_w, closed: Some(closed) });
        self.open(month.next());
        let kept = i32::from(limits.months_kept);
        self.months.retain(|known| known.month.0 > month.0 - kept);
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
