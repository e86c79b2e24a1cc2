//! Slots: which intervals and days of a meter have been seen, exactly, in a few bytes.
//!
//! A slot is the number of an interval on its grid, or of a civil day. Below the frontier every slot is seen unless it
//! lies in a gap; from the frontier on a window of 64 bits tells. The frontier itself is never seen. What the three
//! hold depends only on which slots were marked, not on their order, as long as no gap had to be forgotten.
//!
//! Bound: a meter keeps at most a given number of gap ranges. When there would be more, the oldest is forgotten; its
//! slots then count as seen, so what arrives for them is contested, looked up and found absent: slower, never wrong.

use model::{Calendar, Instant};

/// Slots that the window covers.
const WINDOW: i64 = 64;

/// Whether a reading of this slot can be anything but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotVerdict {
    /// No reading of this slot has been taken in: it is the first value.
    New,
    /// One has been, or it is not known any more: the value in force must be looked up.
    Contested,
}

/// Slots that are missing below the frontier, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// First missing slot.
    pub first: i64,
    /// Last missing slot.
    pub last: i64,
}

/// The seen slots of one meter and profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub(crate) frontier: i64,
    pub(crate) window: u64,
    pub(crate) gaps: Vec<SlotRange>,
}

impl Slots {
    /// Nothing seen from `start` on; what lies below it counts as seen.
    #[must_use]
    pub fn starting_at(start: i64) -> Slots {
        Slots { frontier: start, window: 0, gaps: Vec::new() }
    }

    /// Whether a reading of this slot is the first.
    #[must_use]
    pub fn judge(&self, slot: i64) -> SlotVerdict {
        let unseen = match slot.checked_sub(self.frontier) {
            Some(ahead @ 0..WINDOW) => self.window & (1 << ahead) == 0,
            Some(ahead) if ahead >= WINDOW => true,
            Some(_) => self.gap_of(slot).is_ok(),
            None => slot > 0,
        };
        if unseen { SlotVerdict::New } else { SlotVerdict::Contested }
    }

    /// Takes the slot as seen. `max_ranges` is the bound on gap ranges.
    pub fn mark(&mut self, slot: i64, max_ranges: usize) {
        if slot < self.frontier {
            return self.fill(slot, max_ranges);
        }
        let beyond = slot.saturating_sub(self.frontier).saturating_sub(WINDOW - 1);
        if beyond > 0 {
            self.advance(beyond, max_ranges);
        }
        self.window |= 1 << (slot - self.frontier);
        self.skip_seen();
    }

    /// Ranges missing below the frontier, oldest first.
    #[must_use]
    pub fn gaps(&self) -> &[SlotRange] {
        &self.gaps
    }

    /// First slot from `from` on that has not been seen.
    #[must_use]
    pub fn first_missing(&self, from: i64) -> i64 {
        let gap = self.gaps.iter().find(|gap| gap.last >= from);
        gap.map_or_else(|| self.first_missing_ahead(from), |gap| gap.first.max(from))
    }

    /// Forgets what is missing below `slot`: it counts as seen from now on.
    pub fn forget_below(&mut self, slot: i64) {
        self.gaps.retain(|gap| gap.last >= slot);
        if let Some(gap) = self.gaps.first_mut() {
            gap.first = gap.first.max(slot);
        }
    }

    fn first_missing_ahead(&self, from: i64) -> i64 {
        let from = from.max(self.frontier);
        let ahead = u32::try_from(from - self.frontier).unwrap_or(u32::MAX);
        let rest = self.window.checked_shr(ahead).unwrap_or(0);
        from + i64::from(rest.trailing_ones())
    }

    /// Moves the frontier by `by` slots and past what is seen; unseen slots it passes become gaps.
    fn advance(&mut self, by: i64, max_ranges: usize) {
        let known = by.min(WINDOW);
        for ahead in 0..known {
            if self.window & (1 << ahead) == 0 {
                self.push_gap(self.frontier + ahead, self.frontier + ahead);
            }
        }
        if by > known {
            self.push_gap(self.frontier + known, self.frontier + by - 1);
        }
        self.window = u32::try_from(known).ok().and_then(|known| self.window.checked_shr(known)).unwrap_or(0);
        self.frontier += by;
        self.keep_newest(max_ranges);
    }

    fn skip_seen(&mut self) {
        let seen = self.window.trailing_ones();
        self.window = self.window.checked_shr(seen).unwrap_or(0);
        self.frontier += i64::from(seen);
    }

    fn push_gap(&mut self, first: i64, last: i64) {
        match self.gaps.last_mut() {
            Some(gap) if gap.last + 1 == first => gap.last = last,
            _ => self.gaps.push(SlotRange { first, last }),
        }
    }

    fn fill(&mut self, slot: i64, max_ranges: usize) {
        let Ok(index) = self.gap_of(slot) else { return };
        let SlotRange { first, last } = self.gaps[index];
        match (first == slot, last == slot) {
            (true, true) => {
                self.gaps.remove(index);
            }
            (true, false) => self.gaps[index].first = slot + 1,
            (false, true) => self.gaps[index].last = slot - 1,
            (false, false) => {
                self.gaps[index].last = slot - 1;
                self.gaps.insert(index + 1, SlotRange { first: slot + 1, last });
                self.keep_newest(max_ranges);
            }
        }
    }

    fn keep_newest(&mut self, max_ranges: usize) {
        let excess = self.gaps.len().saturating_sub(max_ranges);
        self.gaps.drain(..excess);
    }

    fn gap_of(&self, slot: i64) -> Result<usize, usize> {
        self.gaps.binary_search_by(|gap| {
            if gap.last < slot {
                std::cmp::Ordering::Less
            } else if gap.first > slot {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    }
}

/// The grid of a meter's intervals: equal periods counted from a civil midnight.
///
/// It uses the zone's offset of one fixed day of winter, so that slots number on without a jump where the zone changes
/// its clocks; with periods that divide the hour the grid keeps to civil midnight on both sides of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    period_us: i64,
    offset_us: i64,
}

impl Grid {
    /// The grid of a period in seconds under a calendar. A period of zero is taken as one second.
    #[must_use]
    pub fn new(period_s: u32, calendar: &Calendar) -> Grid {
        const WINTER: Instant = Instant(946_684_800_000_000);
        Grid {
            period_us: i64::from(period_s.max(1)) * 1_000_000,
            offset_us: i64::from(calendar.offset_seconds(WINTER)) * 1_000_000,
        }
    }

    /// Slot of the interval that ends nearest to `end`, and how far from that it ends, µs. So a clock that is some
    /// seconds fast or slow leaves no gap behind.
    #[must_use]
    pub fn slot_of(&self, end: Instant) -> (i64, u64) {
        let local = end.0.saturating_add(self.offset_us);
        let slot = local.saturating_add(self.period_us / 2).div_euclid(self.period_us);
        (slot, local.abs_diff(slot.saturating_mul(self.period_us)))
    }

    /// End of the interval of a slot.
    #[must_use]
    pub fn end_of(&self, slot: i64) -> Instant {
        Instant(slot.saturating_mul(self.period_us).saturating_sub(self.offset_us))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn judged_as_set(slots: &Slots, seen: &HashSet<i64>, range: std::ops::Range<i64>) {
        for slot in range {
            let expected = if seen.contains(&slot) { SlotVerdict::Contested } else { SlotVerdict::New };
            assert_eq!(slots.judge(slot), expected, "slot {slot} of {slots:?}");
        }
    }

    proptest! {
        #[test]
        fn slots_judge_as_a_set_does_and_hold_the_same_whatever_the_order(
            marks in proptest::collection::vec(1000_i64..1400, 1..250).prop_flat_map(|marks| {
                (Just(marks.clone()), Just(marks).prop_shuffle())
            })
        ) {
            let (marks, shuffled) = marks;
            let mut slots = Slots::starting_at(1000);
            let mut other = Slots::starting_at(1000);
            let mut seen = HashSet::new();
            for slot in marks {
                slots.mark(slot, usize::MAX);
                seen.insert(slot);
            }
            for slot in shuffled {
                other.mark(slot, usize::MAX);
            }
            judged_as_set(&slots, &seen, 1000..1500);
            prop_assert_eq!(slots.judge(999), SlotVerdict::Contested);
            let missing = (1100..).find(|slot| !seen.contains(slot)).unwrap();
            prop_assert_eq!(slots.first_missing(1100), missing);
            prop_assert_eq!(slots, other);
        }
    }

    #[test]
    fn a_forgotten_gap_makes_its_slots_contested_never_new_twice() {
        let mut slots = Slots::starting_at(0);
        for slot in [100, 300, 500] {
            slots.mark(slot, 2);
        }
        assert_eq!(slots.gaps().len(), 2);
        assert_eq!(slots.judge(10), SlotVerdict::Contested);
        assert_eq!(slots.judge(200), SlotVerdict::New);
        slots.forget_below(250);
        assert_eq!(slots.judge(200), SlotVerdict::Contested);
        assert_eq!(slots.judge(260), SlotVerdict::New);
    }

    #[test]
    fn extreme_slots_do_not_overflow() {
        let mut slots = Slots::starting_at(i64::MIN / 4);
        slots.mark(i64::MAX / 4, 4);
        assert_eq!(slots.judge(i64::MAX / 4), SlotVerdict::Contested);
        assert_eq!(slots.judge(i64::MAX), SlotVerdict::New);
        assert_eq!(slots.judge(i64::MIN), SlotVerdict::Contested);
    }

    #[test]
    fn the_grid_stands_on_civil_midnight_and_takes_the_nearest() {
        let grid = Grid::new(1800, &Calendar::india());
        let at = |text: &str| text.parse::<Instant>().unwrap();
        let (midnight, off_us) = grid.slot_of(at("2026-06-01T00:00:00+05:30"));
        assert_eq!(off_us, 0);
        assert_eq!(midnight.rem_euclid(48), 0);
        assert_eq!(grid.slot_of(at("2026-06-01T00:30:00+05:30")), (midnight + 1, 0));
        assert_eq!(grid.slot_of(at("2026-06-01T00:00:01+05:30")), (midnight, 1_000_000));
        assert_eq!(grid.slot_of(at("2026-05-31T23:59:50+05:30")), (midnight, 10_000_000));
        assert_eq!(grid.slot_of(at("2026-06-01T00:15:00+05:30")), (midnight + 1, 900_000_000));
        assert_eq!(grid.end_of(midnight + 1), at("2026-06-01T00:30:00+05:30"));
    }

    #[test]
    fn the_grid_goes_on_through_summer_time() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let grid = Grid::new(3600, &berlin);
        let day: model::CivilDay = "2026-03-29".parse().unwrap();
        let slots = grid.slot_of(berlin.end_of(day)).0 - grid.slot_of(berlin.start_of(day)).0;
        assert_eq!(slots, 23);
        assert_eq!(grid.slot_of(berlin.end_of(day)).1, 0);
    }
}
