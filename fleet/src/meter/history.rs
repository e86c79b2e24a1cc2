//! What a meter measured, day by day, made again when it is asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Calendar, CivilDay};

use crate::household::Household;
use crate::options::Faults;
use crate::plan::{Carry, Measured};
use crate::provision::SimulatedMeter;
use crate::supply::Supply;

/// Days whose intervals are kept at hand.
const DAYS_AT_HAND: usize = 4;

/// The registers at the start of each day, as far as they were asked for, and the last days.
#[derive(Debug)]
pub(super) struct History {
    household: Household,
    calendar: Calendar,
    supply: Supply,
    from: CivilDay,
    /// At the start of the first day, the second, …
    starts: Vec<Carry>,
    at_hand: VecDeque<Arc<Measured>>,
}

impl History {
    pub(super) fn new(seed: u64, meter: &SimulatedMeter, faults: &Faults, calendar: Calendar) -> History {
        History {
            household: Household::new(seed, meter, faults),
            calendar,
            supply: meter.supply.clone(),
            from: meter.from,
            starts: vec![Carry::opening(meter)],
            at_hand: VecDeque::new(),
        }
    }

    /// What was, or is being, measured on that day; `None` before the first.
    pub(super) fn day(&mut self, day: CivilDay) -> Option<Arc<Measured>> {
        let number = usize::try_from(day.0.checked_sub(self.from.0)?).ok()?;
        if let Some(found) = self.at_hand.iter().find(|measured| measured.used.day == day) {
            return Some(Arc::clone(found));
        }
        while self.starts.len() <= number {
            let last = self.from.plus(i32::try_from(self.starts.len() - 1).ok()?);
            let before = *self.starts.last()?;
            let next = before.after(&self.household.day(last, &self.calendar)).into_day(last.next());
            self.starts.push(next);
        }
        let measured = Arc::new(Measured {
            used: self.household.day(day, &self.calendar),
            before: *self.starts.get(number)?,
            wrong: None,
            power_factor_milli: self.household.power_factor_milli(),
        });
        // What its relay may still have a say in is made again.
        if self.supply.is_live() && self.supply.settled().is_none_or(|settled| settled < measured.used.end())
        {
            return Some(measured);
        }
        if self.at_hand.len() >= DAYS_AT_HAND {
            self.at_hand.pop_front();
        }
        self.at_hand.push_back(Arc::clone(&measured));
        Some(measured)
    }
}
