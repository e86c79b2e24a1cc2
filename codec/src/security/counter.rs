//! Invocation counters: what may still be accepted, and what may still be sent.
//!
//! A counter belongs to one meter, key, direction and stream. Pushes may overtake each other, so their stream
//! keeps a [`CounterWindow`]; requests and replies inside an association must rise: [`RisingCounter`]. None
//! of them is to hear of a counter before the tag over it was verified: a forged 0xffffffff would shut out
//! everything that is genuine.
//!
//! A counter that is sent twice with one key breaks the key, so a [`SendCounter`] hands out only what its
//! owner has stored as used beforehand, a block at a time; after a crash the rest of the block is skipped.

use core::fmt;

/// How far below the highest counter a push is still told from one that was seen.
pub const WINDOW: u32 = 64;

/// What a push's counter is in the light of those accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CounterVerdict {
    /// Above everything accepted so far, or the first at all.
    Fresh,
    /// One of the 64 below the highest and not seen yet: it was overtaken.
    InWindow,
    /// Accepted before.
    Seen,
    /// Below the window: whether it was seen is not known any more.
    Late,
}

/// The highest counter accepted and which of the 64 below it were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CounterWindow {
    high: Option<u32>,
    /// Bit `i` stands for the counter `high - 1 - i`.
    seen: u64,
}

impl CounterWindow {
    /// A window that has accepted nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { high: None, seen: 0 }
    }

    /// The highest counter accepted.
    #[must_use]
    pub const fn high(&self) -> Option<u32> {
        self.high
    }

    /// What this counter is; changes nothing.
    #[must_use]
    pub fn judge(&self, counter: u32) -> CounterVerdict {
        let Some(high) = self.high else {
            return CounterVerdict::Fresh;
        };
        match high.checked_sub(counter) {
            None => CounterVerdict::Fresh,
            Some(0) => CounterVerdict::Seen,
            Some(age @ 1..=WINDOW) if self.seen & (1 << (age - 1)) == 0 => CounterVerdict::InWindow,
            Some(1..=WINDOW) => CounterVerdict::Seen,
            Some(_) => CounterVerdict::Late,
        }
    }

    /// Takes a verified counter as accepted and says what it was; one seen or late changes nothing.
    pub fn accept(&mut self, counter: u32) -> CounterVerdict {
        let verdict = self.judge(counter);
        match (verdict, self.high) {
            (CounterVerdict::Fresh, None) => self.high = Some(counter),
            (CounterVerdict::Fresh, Some(high)) => {
                let step = counter.saturating_sub(high);
                let shifted = self.seen.checked_shl(step).unwrap_or(0);
                self.seen = shifted | 1_u64.checked_shl(step.saturating_sub(1)).unwrap_or(0);
                self.high = Some(counter);
            }
            (CounterVerdict::InWindow, Some(high)) => {
                self.seen |= 1 << high.saturating_sub(counter).saturating_sub(1);
            }
            _ => {}
        }
        verdict
    }
}

/// A counter that was accepted before, or is below one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// What came.
    pub counter: u32,
    /// The lowest that would be accepted; none when the counter has reached its end.
    pub lowest: Option<u32>,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lowest {
            Some(lowest) => write!(f, "counter {} is below {lowest}: a replay", self.counter),
            None => write!(f, "counter {} comes after the last there is", self.counter),
        }
    }
}

impl core::error::Error for Replay {}

/// The last counter of a stream in which each must be above the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RisingCounter {
    last: Option<u32>,
}

impl RisingCounter {
    /// Nothing was accepted yet under this key.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Everything up to `last` was.
    #[must_use]
    pub const fn after(last: u32) -> Self {
        Self { last: Some(last) }
    }

    /// The last that was accepted.
    #[must_use]
    pub const fn last(&self) -> Option<u32> {
        self.last
    }

    /// The lowest that would be accepted; none when the counter has reached its end.
    #[must_use]
    pub const fn lowest(&self) -> Option<u32> {
        match self.last {
            None => Some(0),
            Some(last) => last.checked_add(1),
        }
    }

    /// Takes a verified counter.
    ///
    /// # Errors
    /// [`Replay`] when it is not above the last one, which then stays.
    pub fn accept(&mut self, counter: u32) -> Result<(), Replay> {
        match self.lowest() {
            Some(lowest) if counter >= lowest => {
                self.last = Some(counter);
                Ok(())
            }
            lowest => Err(Replay { counter, lowest }),
        }
    }
}

/// A counter that may be used once, for one APDU under the key it was taken for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a counter that is taken and not sent is lost"]
pub struct Invocation(u32);

impl Invocation {
    /// The number on the wire.
    #[must_use]
    pub const fn counter(&self) -> u32 {
        self.0
    }
}

/// All that was reserved is used: store the next bound, tell the counter, take again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveFirst;

impl fmt::Display for ReserveFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no invocation counter is reserved")
    }
}

impl core::error::Error for ReserveFirst {}

/// The counters of this key are used up; only a new key helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invocation counters of this key are used up")
    }
}

impl core::error::Error for Exhausted {}

/// The counters of one key and direction that this side sends with.
///
/// ```
/// # use codec::security::counter::{ReserveFirst, SendCounter};
/// let mut counter = SendCounter::resume(1000); // the bound that was stored
/// assert_eq!(counter.take(), Err(ReserveFirst));
/// let bound = counter.bound_after(100)?;
/// // … store `bound` and sync, then
/// counter.reserved(bound);
/// assert_eq!(counter.take().map(|invocation| invocation.counter()), Ok(1000));
/// # Ok::<(), codec::security::counter::Exhausted>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct SendCounter {
    next: u32,
    /// Those below it are reserved.
    reserved_until: u32,
}

impl SendCounter {
    /// The highest counter that a number from outside may raise this one to. Keys are to be changed there;
    /// a forged number can bring that forward and not use up the key.
    pub const RAISE_LIMIT: u32 = 2_000_000_000;

    /// Goes on at the bound that was stored: what is below may have been sent.
    #[must_use]
    pub const fn resume(bound: u32) -> Self {
        Self { next: bound, reserved_until: bound }
    }

    /// For a key that lives no longer than this value, such as a dedicated one: nothing has to be stored.
    #[must_use]
    pub const fn of_session() -> Self {
        Self { next: 0, reserved_until: u32::MAX }
    }

    /// The counter that is next.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Counters that can be taken before more must be reserved.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.reserved_until.saturating_sub(self.next)
    }

    /// The bound to store for `block` more counters; cut short at the end of all counters.
    ///
    /// # Errors
    /// [`Exhausted`] when there are no more.
    pub const fn bound_after(&self, block: u32) -> Result<u32, Exhausted> {
        let from = if self.next > self.reserved_until { self.next } else { self.reserved_until };
        if from == u32::MAX { Err(Exhausted) } else { Ok(from.saturating_add(block)) }
    }

    /// Everything below `bound` is stored as used. A bound below the present one changes nothing.
    pub fn reserved(&mut self, bound: u32) {
        self.reserved_until = self.reserved_until.max(bound);
    }

    /// The next counter, never to come again.
    ///
    /// # Errors
    /// [`ReserveFirst`] at the end of what is reserved.
    pub fn take(&mut self) -> Result<Invocation, ReserveFirst> {
        if self.next >= self.reserved_until {
            return Err(ReserveFirst);
        }
        let invocation = Invocation(self.next);
        self.next += 1;
        Ok(invocation)
    }

    /// The meter says that it expects `next`, or more than it: goes there if it is above, never back.
    ///
    /// # Errors
    /// [`Exhausted`] when that is beyond [`RAISE_LIMIT`](Self::RAISE_LIMIT); nothing changes then.
    pub fn raise_to(&mut self, next: u32) -> Result<(), Exhausted> {
        if next <= self.next {
            return Ok(());
        }
        if next > Self::RAISE_LIMIT {
            return Err(Exhausted);
        }
        self.next = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The same by remembering everything.
    fn by_set(seen: &BTreeSet<u32>, counter: u32) -> CounterVerdict {
        match seen.last() {
            Some(&high) if counter <= high && high - counter > WINDOW => CounterVerdict::Late,
            Some(_) if seen.contains(&counter) => CounterVerdict::Seen,
            Some(&high) if counter <= high => CounterVerdict::InWindow,
            _ => CounterVerdict::Fresh,
        }
    }

    #[test]
    fn a_window_tells_fresh_overtaken_seen_and_late() {
        let mut window = CounterWindow::new();
        assert_eq!(window.accept(100), CounterVerdict::Fresh);
        assert_eq!(window.accept(100), CounterVerdict::Seen);
        assert_eq!(window.accept(36), CounterVerdict::InWindow);
        assert_eq!(window.accept(36), CounterVerdict::Seen);
        assert_eq!(window.accept(35), CounterVerdict::Late);
        assert_eq!(window.accept(u32::MAX), CounterVerdict::Fresh);
        assert_eq!(window.judge(100), CounterVerdict::Late);
        assert_eq!(window.accept(u32::MAX - 64), CounterVerdict::InWindow);
    }

    #[test]
    fn a_rising_counter_takes_no_equal_and_no_lower_one() {
        let mut counter = RisingCounter::new();
        assert_eq!(counter.accept(0), Ok(()));
        assert_eq!(counter.accept(0), Err(Replay { counter: 0, lowest: Some(1) }));
        assert_eq!(counter.accept(7), Ok(()));
        assert_eq!(counter.accept(6), Err(Replay { counter: 6, lowest: Some(8) }));
        assert_eq!(counter.last(), Some(7));
        assert_eq!(counter.accept(u32::MAX), Ok(()));
        assert_eq!(counter.accept(u32::MAX), Err(Replay { counter: u32::MAX, lowest: None }));
    }

    #[test]
    fn nothing_is_sent_that_was_not_reserved() {
        let mut counter = SendCounter::resume(10);
        assert_eq!(counter.take(), Err(ReserveFirst));
        let bound = counter.bound_after(2).unwrap();
        assert_eq!((bound, counter.take()), (12, Err(ReserveFirst)));
        counter.reserved(bound);
        assert_eq!((counter.take(), counter.take()), (Ok(Invocation(10)), Ok(Invocation(11))));
        assert_eq!(counter.take(), Err(ReserveFirst));
        counter.reserved(5);
        assert_eq!(counter.take(), Err(ReserveFirst));
        assert_eq!(SendCounter::resume(bound).next(), 12);
    }

    #[test]
    fn the_end_of_the_counters_is_an_error_and_no_wrap() {
        let mut counter = SendCounter::resume(u32::MAX - 1);
        let bound = counter.bound_after(100).unwrap();
        counter.reserved(bound);
        assert_eq!(counter.take(), Ok(Invocation(u32::MAX - 1)));
        assert_eq!(counter.take(), Err(ReserveFirst));
        assert_eq!(counter.bound_after(1), Err(Exhausted));
    }

    #[test]
    fn a_number_from_outside_raises_but_never_lowers_or_uses_up() {
        let mut counter = SendCounter::resume(10);
        counter.reserved(20);
        assert_eq!(counter.raise_to(5), Ok(()));
        assert_eq!(counter.next(), 10);
        assert_eq!(counter.raise_to(u32::MAX), Err(Exhausted));
        assert_eq!(counter.next(), 10);
        assert_eq!(counter.raise_to(500), Ok(()));
        assert_eq!((counter.take(), counter.left()), (Err(ReserveFirst), 0));
        assert_eq!(counter.bound_after(100), Ok(600));
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_a_full_memory(
            start in prop::sample::select(&[0, 1, 63, 64, 1000, u32::MAX - 400][..]),
            steps in prop::collection::vec(0_u32..200, 0..200),
        ) {
            let (mut window, mut seen) = (CounterWindow::new(), BTreeSet::new());
            for step in steps {
                let counter = start + step;
                let expected = by_set(&seen, counter);
                prop_assert_eq!(window.accept(counter), expected);
                if matches!(expected, CounterVerdict::Fresh | CounterVerdict::InWindow) {
                    seen.insert(counter);
                }
            }
        }

        #[test]
        fn no_counter_is_taken_twice_whatever_crashes_and_raises(
            steps in prop::collection::vec((0_u8..5, 0_u32..50), 0..200),
        ) {
            let mut stored = 0;
            let mut counter = SendCounter::resume(stored);
            let mut taken = Vec::new();
            for (kind, number) in steps {
                match kind {
                    0 => {
                        stored = counter.bound_after(number).unwrap();
                        counter.reserved(stored);
                    }
                    1 => counter = SendCounter::resume(stored),
                    2 => counter.raise_to(counter.next() + number).unwrap(),
                    _ => taken.extend(counter.take().map(|invocation| invocation.counter())),
                }
            }
            prop_assert!(taken.is_sorted_by(|a, b| a < b), "{:?}", taken);
        }
    }
}
