//! The energy of one account: registers where they are known, intervals where they are not.
//!
//! The value of the register at the end of day `q` is
//!
//! ```text
//! V(q) = R(k) + Σ intervals of the days after k up to q,   k = latest day ≤ q with a known register
//! ```
//!
//! and a month's energy to date is `V(d) − V(end of the month before)`, so the register wins, a gap's energy counts to
//! the later side until a register tells, and figures telescope. A function of *what* is known, not of when it came.
//!
//! What is asked for later are only `V` at ends of months and of terms inside of them, and at days that are not booked. So a day's figure is
//! dropped once a register stands between it and every end that will be asked for: that register hides it for ever,
//! because a known register never becomes unknown. And once no data can arrive any more before an end of month, `V`
//! there is frozen into the base. An account whose registers arrive daily keeps some three figures; one that never
//! sends a register keeps one a day for the late days and the month before them.

use model::CivilDay;

use crate::thin::Thin;

/// Largest interval that is taken for real, Wh; what lies beyond counts as this much.
const MAX_INTERVAL_WH: i64 = 1_000_000_000_000;

/// What is known of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Energy of its intervals, Wh.
    Intervals(i64),
    /// Register at its end, Wh.
    Register(i64),
}

/// A day and what is known of it. A register hides the day's own intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) day: CivilDay,
    pub(crate) figure: Figure,
}

/// A register that contradicts those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WentBack;

/// Base and the days after it that can still matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Energy {
    pub(crate) base_day: CivilDay,
    pub(crate) base_wh: i64,
    /// Whether the base is a register and not one with intervals added.
    pub(crate) base_is_register: bool,
    pub(crate) points: Thin<Point>,
}

impl Energy {
    /// Anchored by the register at the start of the first day.
    pub(crate) fn opened(first_day: CivilDay, register_wh: i64) -> Energy {
        Energy {
            base_day: first_day.previous(),
            base_wh: register_wh,
            base_is_register: true,
            points: Thin::default(),
        }
    }

    /// `V(day)`; a day before the base has the base's value.
    pub(crate) fn at_end_of(&self, day: CivilDay) -> i64 {
        let known = self.points.iter().take_while(|point| point.day <= day);
        known.fold(self.base_wh, |value, point| match point.figure {
            Figure::Intervals(wh) => value.saturating_add(wh),
            Figure::Register(wh) => wh,
        })
    }

    /// Whether the energy of a day is known: by its own intervals, or by a register at its end or later.
    pub(crate) fn covers(&self, day: CivilDay) -> bool {
        let tells = |point: &Point| match point.figure {
            Figure::Intervals(_) => point.day == day,
            Figure::Register(_) => point.day >= day,
        };
        self.base_day >= day || self.points.iter().any(tells)
    }

    /// Energy from the end of one day to the end of another.
    pub(crate) fn between(&self, start: CivilDay, end: CivilDay) -> i64 {
        self.at_end_of(end).saturating_sub(self.at_end_of(start))
    }

    /// Takes an interval in, or the difference of a revised one. True when a figure changed.
    pub(crate) fn add_interval(&mut self, day: CivilDay, before: Option<i64>, after: Option<i64>) -> bool {
        let part = |wh: Option<i64>| wh.unwrap_or(0).clamp(-MAX_INTERVAL_WH, MAX_INTERVAL_WH);
        let change = part(after) - part(before);
        if day <= self.base_day {
            return false;
        }
        match self.place_of(day) {
            Ok(_) if change == 0 => return false,
            // That nothing was used is data as well.
            Err(place) if change == 0 => {
                self.points.insert(place, Point { day, figure: Figure::Intervals(0) });
                return false;
            }
            Ok(place) => match &mut self.points[place].figure {
                Figure::Register(_) => return false,
                Figure::Intervals(wh) => *wh = wh.saturating_add(change),
            },
            Err(place) => self.points.insert(place, Point { day, figure: Figure::Intervals(change) }),
        }
        true
    }

    /// Takes the register at the end of a day in, in place of one that was known. True when a figure changed.
    ///
    /// # Errors
    /// When it is below a known register of an earlier day or above one of a later day: it is not taken.
    pub(crate) fn set_register(&mut self, day: CivilDay, wh: i64) -> Result<bool, WentBack> {
        if day <= self.base_day {
            return Ok(false);
        }
        let register = |point: &Point| match point.figure {
            Figure::Register(wh) => Some(wh),
            Figure::Intervals(_) => None,
        };
        let place = self.place_of(day);
        let (before, after) = match place {
            Ok(place) => (&self.points[..place], &self.points[place + 1..]),
            Err(place) => self.points.split_at(place),
        };
        let base = self.base_is_register.then_some(self.base_wh);
        let lower = before.iter().rev().find_map(register).or(base);
        let upper = after.iter().find_map(register);
        if lower.is_some_and(|lower| wh < lower) || upper.is_some_and(|upper| wh > upper) {
            return Err(WentBack);
        }
        let point = Point { day, figure: Figure::Register(wh) };
        match place {
            Ok(place) if self.points[place] == point => return Ok(false),
            Ok(place) => self.points[place] = point,
            Err(place) => self.points.insert(place, point),
        }
        Ok(true)
    }

    /// Drops what nobody will ever ask for: `next_end` gives the first day from another on at whose end energy is asked
    /// for besides the days from `first_open` on.
    pub(crate) fn forget_hidden(&mut self, first_open: CivilDay, next_end: impl Fn(CivilDay) -> CivilDay) {
        let mut hidden_by: Option<CivilDay> = None;
        let mut place = self.points.len();
        while place > 0 {
            place -= 1;
            let Point { day, figure } = self.points[place];
            let hidden = hidden_by.is_some_and(|register| next_end(day) >= register);
            if hidden {
                self.points.remove(place);
            } else if matches!(figure, Figure::Register(_)) && day <= first_open {
                hidden_by = Some(day);
            }
        }
    }

    /// Makes the value at the end of `day` the base. Nothing at or before it may change from now on.
    pub(crate) fn freeze(&mut self, day: CivilDay) {
        if day <= self.base_day {
            return;
        }
        let value = self.at_end_of(day);
        let frozen = self.points.partition_point(|point| point.day <= day);
        if let Some(last) = self.points[..frozen].last() {
            self.base_is_register = matches!(last.figure, Figure::Register(_));
        }
        self.points.drop_first(..frozen);
        self.base_day = day;
        self.base_wh = value;
    }

    fn place_of(&self, day: CivilDay) -> Result<usize, usize> {
        self.points.binary_search_by_key(&day, |point| point.day)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> CivilDay {
        text.parse().unwrap()
    }

    #[test]
    fn the_register_wins_and_a_gap_counts_to_the_later_side() {
        let mut energy = Energy::opened(day("2026-06-01"), 1_000);
        energy.add_interval(day("2026-06-01"), None, Some(100));
        energy.add_interval(day("2026-06-02"), None, Some(200));
        assert_eq!(energy.between(day("2026-05-31"), day("2026-06-02")), 300);
        assert_eq!(energy.set_register(day("2026-06-02"), 1_350), Ok(true));
        assert_eq!(energy.between(day("2026-05-31"), day("2026-06-01")), 100);
        assert_eq!(energy.between(day("2026-06-01"), day("2026-06-02")), 250);
        energy.add_interval(day("2026-06-02"), None, Some(999));
        assert_eq!(energy.between(day("2026-05-31"), day("2026-06-02")), 350);
    }

    #[test]
    fn a_register_that_goes_back_is_not_taken() {
        let mut energy = Energy::opened(day("2026-06-01"), 1_000);
        assert_eq!(energy.set_register(day("2026-06-03"), 999), Err(WentBack));
        assert_eq!(energy.set_register(day("2026-06-03"), 1_500), Ok(true));
        assert_eq!(energy.set_register(day("2026-06-02"), 1_501), Err(WentBack));
        assert_eq!(energy.set_register(day("2026-06-02"), 1_400), Ok(true));
        assert_eq!(energy.set_register(day("2026-06-03"), 1_300), Err(WentBack));
        assert_eq!(energy.at_end_of(day("2026-06-03")), 1_500);
    }

    #[test]
    fn an_account_with_daily_registers_keeps_little() {
        let first = day("2026-06-01");
        let mut energy = Energy::opened(first, 0);
        for offset in 0..40 {
            let today = first.plus(offset);
            energy.add_interval(today, None, Some(10));
            energy.set_register(today, i64::from(offset + 1) * 10).unwrap();
            energy.forget_hidden(today.next(), |day| day.month().last_day());
            assert!(energy.points.len() <= 3, "{:?}", energy.points);
        }
    }

    #[test]
    fn absurd_values_are_held_within_range() {
        let mut energy = Energy::opened(day("2026-06-01"), 0);
        for _ in 0..3 {
            energy.add_interval(day("2026-06-01"), Some(i64::MIN), Some(i64::MAX));
        }
        energy.set_register(day("2026-06-02"), i64::MAX).unwrap();
        assert_eq!(energy.between(day("2026-05-31"), day("2026-06-02")), i64::MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Interval(i32, i64),
        Register(i32),
        Book,
        Freeze(i32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..100, 1_i64..50).prop_map(|(day, wh)| Step::Interval(day, wh)),
            3 => (0..100).prop_map(Step::Register),
            3 => Just(Step::Book),
            1 => (0..60).prop_map(Step::Freeze),
        ];
        proptest::collection::vec(step, 1..150)
    }

    /// `V` from everything that was ever said, by the definition.
    fn by_definition(
        opening: (CivilDay, i64),
        registers: &BTreeMap<CivilDay, i64>,
        intervals: &BTreeMap<CivilDay, i64>,
        end: CivilDay,
    ) -> i64 {
        let known = registers.range(..=end).next_back().map(|(day, wh)| (*day, *wh)).unwrap_or(opening);
        let since = intervals.iter().filter(|(day, _)| **day > known.0 && **day <= end);
        known.1 + since.map(|(_, wh)| wh).sum::<i64>()
    }

    proptest! {
        #[test]
        fn what_is_dropped_never_changes_an_answer(steps in steps()) {
            let first = day("2026-01-15");
            let opening = (first.previous(), 0);
            let mut energy = Energy::opened(first, 0);
            let mut registers = BTreeMap::new();
            let mut intervals: BTreeMap<CivilDay, i64> = BTreeMap::new();
            let mut first_open = first;
            let mut frozen = first.previous();
            for step in steps {
                match step {
                    Step::Interval(offset, wh) if first.plus(offset) > frozen => {
                        energy.add_interval(first.plus(offset), None, Some(wh));
                        *intervals.entry(first.plus(offset)).or_default() += wh;
                    }
                    Step::Register(offset) if first.plus(offset) > frozen => {
                        let wh = i64::from(offset + 1) * 1_000;
                        energy.set_register(first.plus(offset), wh).unwrap();
                        registers.insert(first.plus(offset), wh);
                    }
                    Step::Book => first_open = first_open.next(),
                    Step::Freeze(offset) => {
                        let end = first.plus(offset).month().first_day().previous();
                        if end < first_open.month().first_day() && end > frozen {
                            frozen = end;
                            energy.freeze(end);
                        }
                    }
                    Step::Interval(..) | Step::Register(_) => {}
                }
                let is_end = |day: CivilDay| day == day.month().last_day() || day.day_of_month() == 10;
                energy.forget_hidden(first_open, |day| (0..).map(|offset| day.plus(offset)).find(|day| is_end(*day)).unwrap());
                let ends = (0..130).map(|offset| first.plus(offset)).filter(|end| {
                    *end >= first_open || (is_end(*end) && *end >= frozen)
                });
                for end in ends {
                    let expected = by_definition(opening, &registers, &intervals, end);
                    prop_assert_eq!(energy.at_end_of(end), expected, "end of {}", end);
                }
            }
        }
    }
}
