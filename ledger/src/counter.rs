//! The invocation counter of one meter under one key: what was accepted before, exactly, for the last 65 values.
//!
//! The same window is kept by the commit pipeline, which judges a frame before the journal, and by the fold, which
//! repeats the acceptance of what was journaled; so after a restart both stand at the same place.

/// What a counter is in the light of those accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterVerdict {
    /// Above everything accepted so far, or the first at all.
    Fresh,
    /// One of the 64 below the highest and not seen yet: a frame that was overtaken.
    InWindow,
    /// Accepted before.
    Seen,
    /// Below the window: whether it was seen is not known any more.
    Late,
}

/// High-water mark and the 64 counters below it.
///
/// The default is a window that has accepted nothing. While `high` is 0 the lowest bit of `seen` tells whether counter
/// 0 itself was accepted; above that, bit `i` of `seen` stands for the counter `high - 1 - i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterWindow {
    /// Which of the meter's successive keys the counters belong to.
    pub key_epoch: u16,
    /// Highest counter accepted.
    pub high: u32,
    /// Which of the counters below it were accepted.
    pub seen: u64,
}

impl CounterWindow {
    /// A window that has accepted nothing under this key.
    #[must_use]
    pub fn new(key_epoch: u16) -> CounterWindow {
        CounterWindow { key_epoch, high: 0, seen: 0 }
    }

    /// Whether nothing was accepted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.high == 0 && self.seen == 0
    }

    /// What this counter is; changes nothing.
    #[must_use]
    pub fn judge(&self, counter: u32) -> CounterVerdict {
        if self.is_empty() || counter > self.high {
            return CounterVerdict::Fresh;
        }
        match self.high - counter {
            0 => CounterVerdict::Seen,
            age @ 1..=64 if self.seen & (1 << (age - 1)) == 0 => CounterVerdict::InWindow,
            1..=64 => CounterVerdict::Seen,
            _ => CounterVerdict::Late,
        }
    }

    /// Takes the counter as accepted. One that was seen or is late changes nothing.
    pub fn accept(&mut self, counter: u32) {
        match self.judge(counter) {
            CounterVerdict::Fresh if counter == 0 => self.seen = 1,
            CounterVerdict::Fresh => self.rise(counter),
            CounterVerdict::InWindow => self.seen |= 1 << (self.high - counter - 1),
            CounterVerdict::Seen | CounterVerdict::Late => {}
        }
    }

    fn rise(&mut self, counter: u32) {
        let step = counter - self.high;
        let (high_was_seen, below) = if self.high == 0 { (self.seen & 1, 0) } else { (1, self.seen) };
        let shifted = below.checked_shl(step).unwrap_or(0);
        self.seen = shifted | high_was_seen.checked_shl(step - 1).unwrap_or(0);
        self.high = counter;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn by_set(seen: &BTreeSet<u32>, counter: u32) -> CounterVerdict {
        match seen.last() {
            None => CounterVerdict::Fresh,
            Some(&high) if counter > high => CounterVerdict::Fresh,
            Some(&high) if high - counter > 64 => CounterVerdict::Late,
            Some(_) if seen.contains(&counter) => CounterVerdict::Seen,
            Some(_) => CounterVerdict::InWindow,
        }
    }

    #[test]
    fn the_sixty_four_below_the_highest_are_known_and_no_more() {
        let mut window = CounterWindow::new(1);
        window.accept(1000);
        assert_eq!(window.judge(1000), CounterVerdict::Seen);
        assert_eq!(window.judge(936), CounterVerdict::InWindow);
        assert_eq!(window.judge(935), CounterVerdict::Late);
        window.accept(936);
        assert_eq!(window.judge(936), CounterVerdict::Seen);
        window.accept(u32::MAX);
        assert_eq!(window.judge(1000), CounterVerdict::Late);
    }

    #[test]
    fn the_first_counter_may_be_zero() {
        let mut window = CounterWindow::default();
        assert_eq!(window.judge(0), CounterVerdict::Fresh);
        window.accept(0);
        assert_eq!(window.judge(0), CounterVerdict::Seen);
        window.accept(1);
        assert_eq!(window.judge(0), CounterVerdict::Seen);
        let mut other = CounterWindow::default();
        other.accept(1);
        assert_eq!(other.judge(0), CounterVerdict::InWindow);
    }

    proptest! {
        #[test]
        fn the_window_judges_as_a_set_of_all_counters_does(
            steps in proptest::collection::vec((0_u32..150, any::<bool>()), 1..200)
        ) {
            let mut window = CounterWindow::new(3);
            let mut seen = BTreeSet::new();
            let mut base = 0_u32;
            for (step, forward) in steps {
                let counter = if forward { base + step } else { base.saturating_sub(step) };
                base = base.max(counter);
                let expected = by_set(&seen, counter);
                prop_assert_eq!(window.judge(counter), expected, "counter {}", counter);
                window.accept(counter);
                if expected != CounterVerdict::Late {
                    seen.insert(counter);
                }
            }
        }
    }
}
