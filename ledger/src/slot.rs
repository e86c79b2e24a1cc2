//! Slots: which intervals and days of a meter have been seen, exactly, in a few bytes.
//!
//! A slot is the number of an interval on its grid, or of a civil day. Below the frontier every slot is seen unless it
//! lies in a gap; from the frontier on a window of up to 64 bits tells. The frontier itself is never seen. What the
//! three hold depends only on which slots were marked, not on their order, as long as no gap had to be forgotten.
//!
//! Gaps are the exception, so they are in one table for all meters and not with each of them.
//!
//! Bounds: a meter keeps at most a given number of gap ranges. When there would be more, the oldest is forgotten; its
//! slots then count as seen, so what arrives for them is contested, looked up and found absent: slower, never wrong.
//! So do slots beyond [`MAX_SLOT`], which with the shortest period is in the year 6053.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{Calendar, Instant};

/// Slots that a window can cover at most.
pub const MAX_WINDOW: u8 = 64;
/// Highest slot that is kept.
pub const MAX_SLOT: i64 = i32::MAX as i64 - 2 * MAX_WINDOW as i64;

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

/// Whose gaps: a meter and the kind of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Id of the meter.
    pub meter: u32,
    /// Number of the kind.
    pub kind: u8,
}

/// Missing slots of all meters, by owner and first slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    ranges: BTreeMap<(Owner, i32), i32>,
}

impl Gaps {
    /// All ranges, by owner, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Owner, SlotRange)> + '_ {
        self.ranges.iter().map(|(&(owner, first), &last)| (owner, range_of(first, last)))
    }

    /// Ranges of one owner, oldest first.
    pub fn of(&self, owner: Owner) -> impl Iterator<Item = SlotRange> + '_ {
        self.ranges.range(all_of(owner)).map(|(&(_, first), &last)| range_of(first, last))
    }

    /// Forgets what is missing below a slot that depends on the owner: it counts as seen from now on.
    pub fn forget_below(&mut self, mut first_kept: impl FnMut(Owner) -> i64) {
        let mut shortened = Vec::new();
        self.ranges.retain(|&(owner, first), &mut last| {
            let kept = first_kept(owner);
            let stays = i64::from(first) >= kept;
            if !stays && i64::from(last) >= kept {
                shortened.push((owner, SlotRange { first: kept, last: i64::from(last) }));
            }
            stays
        });
        for (owner, range) in shortened {
            self.insert(owner, range);
        }
    }

    /// Puts a range in that overlaps none and touches none. False: it is out of range.
    pub(crate) fn insert(&mut self, owner: Owner, range: SlotRange) -> bool {
        match (i32::try_from(range.first), i32::try_from(range.last)) {
            (Ok(first), Ok(last)) if first <= last => {
                self.ranges.insert((owner, first), last);
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, owner: Owner, range: SlotRange) {
        if let Ok(first) = i32::try_from(range.first) {
            self.ranges.remove(&(owner, first));
        }
    }

    /// The range that holds a slot.
    fn find(&self, owner: Owner, slot: i64) -> Option<SlotRange> {
        let slot = i32::try_from(slot).ok()?;
        let upto = (owner, i32::MIN)..=(owner, slot);
        let (&(_, first), &last) = self.ranges.range(upto).next_back()?;
        (last >= slot).then(|| range_of(first, last))
    }

    /// Puts a range behind all others of its owner. True when it is a new one, and not the last made longer.
    fn push(&mut self, owner: Owner, range: SlotRange) -> bool {
        if let Some((_, last)) = self.ranges.range_mut(all_of(owner)).next_back()
            && i64::from(*last) + 1 == range.first
            && let Ok(longer) = i32::try_from(range.last)
        {
            *last = longer;
            return false;
        }
        self.insert(owner, range)
    }

    fn keep_newest(&mut self, owner: Owner, max_ranges: usize) {
        let excess = self.ranges.range(all_of(owner)).count().saturating_sub(max_ranges);
        let oldest: Vec<_> = self.ranges.range(all_of(owner)).take(excess).map(|(key, _)| *key).collect();
        for key in oldest {
            self.ranges.remove(&key);
        }
    }
}

fn all_of(owner: Owner) -> RangeInclusive<(Owner, i32)> {
    (owner, i32::MIN)..=(owner, i32::MAX)
}

fn range_of(first: i32, last: i32) -> SlotRange {
    SlotRange { first: i64::from(first), last: i64::from(last) }
}

/// The seen slots of one meter and kind, but for its gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Lowest slot that may be unseen without lying in a gap; itself unseen.
    pub(crate) frontier: i64,
    /// Seen slots from the frontier on, the lowest bit first.
    pub(crate) window: u64,
    /// Bits of the window in use.
    width: u8,
    owner: Owner,
}

impl Slots {
    /// Nothing seen from `start` on; what lies below it counts as seen. The window has `width` slots, at most
    /// [`MAX_WINDOW`].
    #[must_use]
    pub fn starting_at(start: i64, width: u8, owner: Owner) -> Slots {
        Slots::at(start, 0, width, owner)
    }

    /// Slots as they were kept.
    pub(crate) fn at(frontier: i64, window: u64, width: u8, owner: Owner) -> Slots {
        let frontier = frontier.clamp(i64::from(i32::MIN), MAX_SLOT + 1);
        Slots { frontier, window, width: width.clamp(1, MAX_WINDOW), owner }
    }

    /// Whether a reading of this slot is the first.
    #[must_use]
    pub fn judge(&self, slot: i64, gaps: &Gaps) -> SlotVerdict {
        let unseen = match slot - self.frontier.min(slot) {
            _ if slot > MAX_SLOT => false,
            _ if slot < self.frontier => gaps.find(self.owner, slot).is_some(),
            ahead if ahead < self.width() => self.window & (1 << ahead) == 0,
            _ => true,
        };
        if unseen { SlotVerdict::New } else { SlotVerdict::Contested }
    }

    /// Takes the slot as seen. `max_ranges` is the bound on gap ranges.
    pub fn mark(&mut self, slot: i64, max_ranges: usize, gaps: &mut Gaps) {
        if slot > MAX_SLOT {
            return;
        }
        if slot < self.frontier {
            return self.fill(slot, max_ranges, gaps);
        }
        let beyond = slot - self.frontier - (self.width() - 1);
        if beyond > 0 {
            self.advance(beyond, max_ranges, gaps);
        }
        self.window |= 1 << (slot - self.frontier);
        self.skip_seen();
    }

    /// First slot from `from` on that has not been seen.
    #[must_use]
    pub fn first_missing(&self, from: i64, gaps: &Gaps) -> i64 {
        let gap = gaps.of(self.owner).find(|gap| gap.last >= from);
        gap.map_or_else(|| self.first_missing_ahead(from), |gap| gap.first.max(from))
    }

    fn width(&self) -> i64 {
        i64::from(self.width)
    }

    fn first_missing_ahead(&self, from: i64) -> i64 {
        let from = from.max(self.frontier);
        let ahead = u32::try_from(from - self.frontier).unwrap_or(u32::MAX);
        let rest = self.window.checked_shr(ahead).unwrap_or(0);
        from + i64::from(rest.trailing_ones())
    }

    /// Moves the frontier by `by` slots and past what is seen; unseen slots it passes become gaps.
    fn advance(&mut self, by: i64, max_ranges: usize, gaps: &mut Gaps) {
        let known = by.min(self.width());
        let mut is_longer = false;
        for ahead in 0..known {
            if self.window & (1 << ahead) == 0 {
                let slot = self.frontier + ahead;
                is_longer |= gaps.push(self.owner, SlotRange { first: slot, last: slot });
            }
        }
        if by > known {
            let range = SlotRange { first: self.frontier + known, last: self.frontier + by - 1 };
            is_longer |= gaps.push(self.owner, range);
        }
        self.window = u32::try_from(known).ok().and_then(|known| self.window.checked_shr(known)).unwrap_or(0);
        self.frontier += by;
        if is_longer {
            gaps.keep_newest(self.owner, max_ranges);
        }
    }

    fn skip_seen(&mut self) {
        let seen = self.window.trailing_ones();
        self.window = self.window.checked_shr(seen).unwrap_or(0);
        self.frontier += i64::from(seen);
    }

    fn fill(&self, slot: i64, max_ranges: usize, gaps: &mut Gaps) {
        let Some(range) = gaps.find(self.owner, slot) else { return };
        gaps.remove(self.owner, range);
        let SlotRange { first, last } = range;
        // An end that is cut off leaves nothing on its side, which is no range.
        gaps.insert(self.owner, SlotRange { first, last: slot - 1 });
        gaps.insert(self.owner, SlotRange { first: slot + 1, last });
        if first < slot && slot < last {
            gaps.keep_newest(self.owner, max_ranges);
        }
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
        Grid::with_offset(period_s, winter_offset_us(calendar))
    }

    /// The grid of a period in a zone of which [`winter_offset_us`] is known.
    #[must_use]
    pub fn with_offset(period_s: u32, offset_us: i64) -> Grid {
        Grid { period_us: i64::from(period_s.max(1)) * 1_000_000, offset_us }
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

/// How far the zone is ahead of UTC on the day that grids go by, microseconds.
#[must_use]
pub fn winter_offset_us(calendar: &Calendar) -> i64 {
    const WINTER: Instant = Instant(946_684_800_000_000);
    i64::from(calendar.offset_seconds(WINTER)) * 1_000_000
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const OWNER: Owner = Owner { meter: 7, kind: 1 };
    const OTHER: Owner = Owner { meter: 7, kind: 2 };

    fn judged_as_set(slots: &Slots, gaps: &Gaps, seen: &HashSet<i64>, range: std::ops::Range<i64>) {
        for slot in range {
            let expected = if seen.contains(&slot) { SlotVerdict::Contested } else { SlotVerdict::New };
            assert_eq!(slots.judge(slot, gaps), expected, "slot {slot} of {slots:?} {gaps:?}");
        }
    }

    proptest! {
        #[test]
        fn slots_judge_as_a_set_does_and_hold_the_same_whatever_the_order(
            width in 1_u8..=64,
            marks in proptest::collection::vec(1000_i64..1400, 1..250).prop_flat_map(|marks| {
                (Just(marks.clone()), Just(marks).prop_shuffle())
            })
        ) {
            let (marks, shuffled) = marks;
            let (mut slots, mut gaps) = (Slots::starting_at(1000, width, OWNER), Gaps::default());
            let (mut other, mut others) = (slots, Gaps::default());
            let mut beside = Slots::starting_at(1000, width, OTHER);
            let mut seen = HashSet::new();
            for slot in marks {
                slots.mark(slot, usize::MAX, &mut gaps);
                seen.insert(slot);
            }
            for slot in shuffled {
                other.mark(slot, usize::MAX, &mut others);
            }
            judged_as_set(&slots, &gaps, &seen, 1000..1500);
            prop_assert_eq!(slots.judge(999, &gaps), SlotVerdict::Contested);
            let missing = (1100..).find(|slot| !seen.contains(slot)).unwrap();
            prop_assert_eq!(slots.first_missing(1100, &gaps), missing);
            prop_assert_eq!((slots, &gaps), (other, &others));
            beside.mark(1300, usize::MAX, &mut gaps);
            judged_as_set(&slots, &gaps, &seen, 1000..1500);
            judged_as_set(&beside, &gaps, &HashSet::from([1300]), 1000..1500);
        }
    }

    #[test]
    fn a_forgotten_gap_makes_its_slots_contested_never_new_twice() {
        let (mut slots, mut gaps) = (Slots::starting_at(0, 64, OWNER), Gaps::default());
        for slot in [100, 300, 500] {
            slots.mark(slot, 2, &mut gaps);
        }
        assert_eq!(gaps.of(OWNER).count(), 2);
        assert_eq!(slots.judge(10, &gaps), SlotVerdict::Contested);
        assert_eq!(slots.judge(200, &gaps), SlotVerdict::New);
        gaps.forget_below(|_| 250);
        assert_eq!(slots.judge(200, &gaps), SlotVerdict::Contested);
        assert_eq!(slots.judge(260, &gaps), SlotVerdict::New);
    }

    #[test]
    fn extreme_slots_do_not_overflow() {
        let (mut slots, mut gaps) = (Slots::starting_at(i64::MIN / 4, 64, OWNER), Gaps::default());
        slots.mark(MAX_SLOT, 4, &mut gaps);
        assert_eq!(slots.judge(MAX_SLOT, &gaps), SlotVerdict::Contested);
        assert_eq!(slots.judge(MAX_SLOT - 1000, &gaps), SlotVerdict::New);
        for beyond in [MAX_SLOT + 1, i64::MAX, i64::MIN] {
            slots.mark(beyond, 4, &mut gaps);
            assert_eq!(slots.judge(beyond, &gaps), SlotVerdict::Contested, "{beyond}");
        }
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
