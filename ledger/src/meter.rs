//! Meters: what was seen of them, and when.

use model::{AcceptedFrame, AccountId, CivilDay, EventWord, Instant, MeterTerms, SystemTitle};

use crate::counter::{CounterVerdict, CounterWindow};
use crate::slot::{Grid, Slots};

/// A meter as the fold keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) title: SystemTitle,
    pub(crate) account: Option<AccountId>,
    pub(crate) period_s: u32,
    pub(crate) authenticated: bool,
    pub(crate) counters: CounterWindow,
    /// Slots of its intervals, by number on the grid.
    pub(crate) intervals: Slots,
    /// Slots of its daily registers, by civil day.
    pub(crate) days: Slots,
    /// Last event status word that was fresh.
    pub(crate) word: EventWord,
    pub(crate) heard_at: Option<Instant>,
    /// Latest end of a reading that was stored although it lay in the future: up to here an unseen slot is looked up,
    /// because a value of its key may be stored already.
    pub(crate) ahead_until: Option<Instant>,
    /// Whether an interval was ever taken in.
    pub(crate) has_interval: bool,
    pub(crate) grid: Grid,
}

impl Meter {
    /// A meter whose slots begin with the given day.
    pub(crate) fn new(terms: &MeterTerms, first_day: CivilDay, first_instant: Instant, grid: Grid) -> Meter {
        Meter {
            title: terms.title,
            account: terms.account,
            period_s: terms.period_s,
            authenticated: terms.authenticated,
            counters: CounterWindow::new(terms.key_epoch),
            intervals: Slots::starting_at(grid.slot_of(first_instant).0 + 1),
            days: Slots::starting_at(i64::from(first_day.0)),
            word: EventWord::default(),
            heard_at: None,
            ahead_until: None,
            has_interval: false,
            grid,
        }
    }

    /// Takes a frame's counter in. True when the frame is newer than all before it, so that it may set state. New keys
    /// begin a new window with the first frame under them, not before: until then the meter speaks under the old.
    pub(crate) fn accept_counter(&mut self, frame: &AcceptedFrame) -> bool {
        if frame.late || frame.key_epoch < self.counters.key_epoch {
            return false;
        }
        if frame.key_epoch > self.counters.key_epoch {
            self.counters = CounterWindow::new(frame.key_epoch);
        }
        let Some(counter) = frame.counter else { return true };
        let fresh = self.counters.judge(counter) == CounterVerdict::Fresh;
        self.counters.accept(counter);
        fresh
    }
}
