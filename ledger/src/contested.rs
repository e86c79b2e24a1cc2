//! Contested readings: those whose key may have a value already, which only a look-up outside of the fold can judge.

use std::collections::{BTreeMap, VecDeque};

use model::{Calendar, CivilDay, Instant, MeterId, Position, Quality, Rank, Reading, ReadingKind, Source};

use crate::account::Account;

/// A contested reading, handed to the resolver when the one before it of the same meter has been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// The record that brought it.
    pub position: Position,
    /// Which of the record's readings.
    pub index: u16,
    /// The meter.
    pub meter: MeterId,
    /// What decides between its values and those of the key.
    pub rank: Rank,
    /// The reading, its quality completed by the fold.
    pub reading: Reading,
    /// Start of the time over which the highest demand is meant: that of its month under the same terms, from its
    /// account's first day on.
    pub demand_after: Instant,
    /// End of that time.
    pub demand_upto: Instant,
}

/// A reading that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) position: Position,
    pub(crate) index: u16,
    pub(crate) rank: Rank,
    pub(crate) reading: Reading,
    /// Highest demand of an interval of its month and terms taken in since it was handed out: the look-up may not have seen it.
    pub(crate) since_w: i64,
}

/// A frame with readings that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFrame {
    pub(crate) meter: MeterId,
    pub(crate) source: Source,
    /// Whether the frame is counted as contested; else it was stored for something else it brought.
    pub(crate) is_contested: bool,
    /// Whether one of its readings turned out to be stored.
    pub(crate) is_stored: bool,
    /// Readings still without an answer.
    pub(crate) waiting: u16,
}

/// All that wait, in the order in which they came, one queue a meter. The first of each queue has been handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenTable {
    pub(crate) queues: BTreeMap<MeterId, VecDeque<Open>>,
    pub(crate) frames: BTreeMap<Position, OpenFrame>,
    pub(crate) len: usize,
}

impl OpenTable {
    /// Puts a reading at the end of its meter's queue. True when it is the first, to be handed out at once.
    pub(crate) fn push(&mut self, meter: MeterId, open: Open) -> bool {
        let queue = self.queues.entry(meter).or_default();
        queue.push_back(open);
        self.len += 1;
        queue.len() == 1
    }

    /// Takes out the reading of that place, if it is the one that its meter waits for.
    pub(crate) fn take(&mut self, position: Position, index: u16) -> Option<(MeterId, Open)> {
        let meter = self.frames.get(&position)?.meter;
        let queue = self.queues.get_mut(&meter)?;
        let open = queue.pop_front_if(|open| open.position == position && open.index == index)?;
        if queue.is_empty() {
            self.queues.remove(&meter);
        }
        self.len -= 1;
        Some((meter, open))
    }

    /// The reading a meter waits for.
    pub(crate) fn first(&self, meter: MeterId) -> Option<&Open> {
        self.queues.get(&meter)?.front()
    }

    /// Earliest civil day for which a meter's waiting readings can move money.
    pub(crate) fn earliest_day(&self, meter: MeterId, calendar: &Calendar) -> Option<CivilDay> {
        let queue = self.queues.get(&meter)?;
        let charged = queue.iter().filter(|open| !open.reading.quality.has(Quality::TOO_LATE));
        charged.map(|open| calendar.usage_day(open.reading.end)).min()
    }

    /// Notes the demand of an interval of the meter that was taken in while a look-up may be under way: one of these days,
    /// which are a month's under the same terms.
    pub(crate) fn note_demand(
        &mut self,
        meter: MeterId,
        (first, last): (CivilDay, CivilDay),
        demand_w: i64,
        calendar: &Calendar,
    ) {
        let Some(open) = self.queues.get_mut(&meter).and_then(|queue| queue.front_mut()) else { return };
        let is_interval = open.reading.kind == ReadingKind::Interval;
        if is_interval && (first..=last).contains(&calendar.usage_day(open.reading.end)) {
            open.since_w = open.since_w.max(demand_w);
        }
    }
}

impl Open {
    /// What the resolver is given. `account` is the one that pays for the meter's energy.
    pub(crate) fn hand_out(
        &self,
        meter: MeterId,
        account: Option<&Account>,
        calendar: &Calendar,
    ) -> Contested {
        let day = calendar.usage_day(self.reading.end);
        let month = day.month();
        let days = account.map(|account| account.days_of_terms(day));
        let (first, last) = days.unwrap_or((month.first_day(), month.last_day()));
        Contested {
            position: self.position,
            index: self.index,
            meter,
            rank: self.rank,
            reading: self.reading.clone(),
            demand_after: calendar.start_of(first),
            demand_upto: calendar.end_of(last),
        }
    }
}
