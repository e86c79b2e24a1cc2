//! What a meter measured, day by day, made again when it is asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Calendar, CivilDay, Instant};

use crate::household::Household;
use crate::options::Faults;
use crate::plan::{Carry, Measured};
use crate::program::Program;
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
    program: Program,
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
            program: meter.program.clone(),
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
            let (closes, next) = (self.closes(last), self.closes(last.next()));
            let after = before.after(&self.household.day(last, &self.calendar), &closes);
            self.starts.push(after.into_day(self.calendar.end_of(last), &next));
        }
        let measured = Arc::new(Measured {
            used: self.household.day(day, &self.calendar),
            before: *self.starts.get(number)?,
            wrong: None,
            power_factor_milli: self.household.power_factor_milli(),
            closes: self.closes(day),
        });
        // What its relay or its program may still have a say in is made again.
        let end = measured.used.end();
        let may_move = self.supply.is_live() && self.supply.settled().is_none_or(|settled| settled < end);
        if may_move || !self.program.is_settled(end) {
            return Some(measured);
        }
        if self.at_hand.len() >= DAYS_AT_HAND {
            self.at_hand.pop_front();
        }
        self.at_hand.push_back(Arc::clone(&measured));
        Some(measured)
    }

    /// When billing cycles close on that day. None closes as the meter begins.
    pub(super) fn closes(&self, day: CivilDay) -> Vec<Instant> {
        let mut closes = self.program.closes(day, &self.calendar);
        closes.retain(|close| day > self.from || *close > self.calendar.start_of(self.from));
        closes
    }
}
