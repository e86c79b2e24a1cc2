//! Meters: what was seen of them, and when.

use model::{AcceptedFrame, AccountId, Instant, MeterTerms, ReadingKind, SystemTitle};

use crate::counter::{CounterVerdict, CounterWindow};
use crate::slot::{Owner, Slots};

/// Slots that the window of intervals covers.
pub(crate) const INTERVAL_WINDOW: u8 = 64;
/// Days that the window of daily registers covers.
pub(crate) const DAY_WINDOW: u8 = 16;

const SECONDS_OF_DAY: u32 = 86_400;

/// A meter as the fold keeps it: 56 bytes. What few meters have (gaps, raised flags, readings ahead of their time) is in
/// tables of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) title: SystemTitle,
    counters_seen: u64,
    interval_window: u64,
    /// Microseconds since 1970, or [`NEVER`].
    heard_at: i64,
    counters_high: u32,
    /// Id of the account; 0: none.
    account: u32,
    interval_frontier: i32,
    day_frontier: i32,
    day_window: u16,
    key_epoch: u16,
    /// Intervals of a day, which say how long one is.
    intervals_a_day: u16,
    pub(crate) authenticated: bool,
    /// Whether an interval was ever taken in.
    pub(crate) has_interval: bool,
}

const NEVER: i64 = i64::MIN;

impl Meter {
    /// A meter whose slots begin with these.
    pub(crate) fn new(terms: &MeterTerms, first_interval: i64, first_day: i64) -> Meter {
        let owner = Owner { meter: terms.meter.0, kind: 0 };
        let mut meter = Meter {
            title: terms.title,
            counters_seen: 0,
            interval_window: 0,
            heard_at: NEVER,
            counters_high: 0,
            account: terms.account.map_or(0, |account| account.0),
            interval_frontier: 0,
            day_frontier: 0,
            day_window: 0,
            key_epoch: terms.key_epoch,
            intervals_a_day: u16::try_from(SECONDS_OF_DAY / terms.period_s.max(1)).unwrap_or(u16::MAX),
            authenticated: terms.authenticated,
            has_interval: false,
        };
        meter.set_slots(ReadingKind::Interval, Slots::starting_at(first_interval, INTERVAL_WINDOW, owner));
        meter.set_slots(ReadingKind::Daily, Slots::starting_at(first_day, DAY_WINDOW, owner));
        meter
    }

    /// Reads it from its first byte to its last.
    pub(crate) fn touch(&self) -> i64 {
        i64::from(self.title.0[0]) ^ self.heard_at ^ i64::from(self.intervals_a_day)
    }

    pub(crate) fn account(&self) -> Option<AccountId> {
        (self.account != 0).then_some(AccountId(self.account))
    }

    pub(crate) fn set_account(&mut self, account: Option<AccountId>) {
        self.account = account.map_or(0, |account| account.0);
    }

    /// Seconds of an interval.
    pub(crate) fn period_s(&self) -> u32 {
        SECONDS_OF_DAY / u32::from(self.intervals_a_day.max(1))
    }

    pub(crate) fn heard_at(&self) -> Option<Instant> {
        (self.heard_at != NEVER).then_some(Instant(self.heard_at))
    }

    pub(crate) fn set_heard_at(&mut self, at: Option<Instant>) {
        self.heard_at = at.map_or(NEVER, |at| at.0);
    }

    /// Notes that it was heard.
    pub(crate) fn hear(&mut self, at: Instant) {
        self.heard_at = self.heard_at.max(at.0);
    }

    pub(crate) fn counters(&self) -> CounterWindow {
        CounterWindow { key_epoch: self.key_epoch, high: self.counters_high, seen: self.counters_seen }
    }

    pub(crate) fn set_counters(&mut self, counters: CounterWindow) {
        let CounterWindow { key_epoch, high, seen } = counters;
        (self.key_epoch, self.counters_high, self.counters_seen) = (key_epoch, high, seen);
    }

    /// Its slots: intervals by number on the grid, daily registers by civil day.
    pub(crate) fn slots(&self, meter: u32, kind: ReadingKind) -> Slots {
        let owner = Owner { meter, kind: kind as u8 };
        if kind == ReadingKind::Daily {
            let window = u64::from(self.day_window);
            Slots::at(i64::from(self.day_frontier), window, DAY_WINDOW, owner)
        } else {
            Slots::at(i64::from(self.interval_frontier), self.interval_window, INTERVAL_WINDOW, owner)
        }
    }

    pub(crate) fn set_slots(&mut self, kind: ReadingKind, slots: Slots) {
        let frontier = i32::try_from(slots.frontier).unwrap_or(i32::MAX);
        if kind == ReadingKind::Daily {
            // The window of days has no more bits than this.
            (self.day_frontier, self.day_window) = (frontier, slots.window as u16);
        } else {
            (self.interval_frontier, self.interval_window) = (frontier, slots.window);
        }
    }

    /// Takes a frame's counter in. True when the frame is newer than all before it, so that it may set state. New keys
    /// begin a new window with the first frame under them, not before: until then the meter speaks under the old.
    pub(crate) fn accept_counter(&mut self, frame: &AcceptedFrame) -> bool {
        if frame.late || frame.key_epoch < self.key_epoch {
            return false;
        }
        let mut counters = self.counters();
        if frame.key_epoch > counters.key_epoch {
            counters = CounterWindow::new(frame.key_epoch);
        }
        let fresh = frame.counter.is_none_or(|counter| {
            let fresh = counters.judge(counter) == CounterVerdict::Fresh;
            counters.accept(counter);
            fresh
        });
        self.set_counters(counters);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_takes_56_bytes_and_an_empty_place_no_more() {
        assert_eq!(size_of::<Option<Meter>>(), 56);
    }
}
