//! How long a balance lasts, by what the last days cost. For the page only: nothing is decided by it.

use model::Paise;

use crate::DayUsage;

/// Closed days that make the mean.
pub(crate) const MEAN_DAYS: usize = 7;

/// How long the balance lasts at the mean cost of the last closed days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// Whole days; 0 also when nothing is left.
    pub(crate) days: i64,
    /// Mean cost of a day.
    pub(crate) per_day: Paise,
    /// Days that made the mean.
    pub(crate) over_days: usize,
}

/// `None` while no closed day has cost anything.
pub(crate) fn outlook(balance: Paise, days: &[DayUsage]) -> Option<Outlook> {
    let closed: Vec<Paise> =
        days.iter().rev().filter(|day| day.closed).take(MEAN_DAYS).map(|day| day.charge).collect();
    let sum: Paise = closed.iter().copied().sum();
    let per_day = Paise(sum.0.checked_div(i64::try_from(closed.len()).ok()?)?);
    (per_day > Paise::ZERO).then(|| Outlook {
        days: (balance.0 / per_day.0).max(0),
        per_day,
        over_days: closed.len(),
    })
}

#[cfg(test)]
mod tests {
    use model::CivilDay;

    use super::*;

    fn day(number: i32, charge: i64, closed: bool) -> DayUsage {
        let day = CivilDay(number);
        DayUsage {
            day,
            energy_wh: 0,
            charge: Paise(charge),
            closed,
            intervals_expected: 48,
            intervals_missing: 0,
        }
    }

    #[test]
    fn the_mean_is_of_the_last_closed_days() {
        let mut days: Vec<DayUsage> =
            (0..7).map(|number| day(number, 1000 + i64::from(number), true)).collect();
        days.insert(0, day(-1, 90_000, true));
        days.push(day(7, 5, false));
        let expected = Outlook { days: 9, per_day: Paise(1003), over_days: 7 };
        assert_eq!(outlook(Paise(10_029), &days), Some(expected));
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        assert_eq!(outlook(Paise(100), &[]), None);
        assert_eq!(outlook(Paise(100), &[day(1, 50, false)]), None);
        assert_eq!(outlook(Paise(100), &[day(1, 0, true)]), None);
        assert_eq!(outlook(Paise(-100), &[day(1, 50, true)]).map(|outlook| outlook.days), Some(0));
    }
}
