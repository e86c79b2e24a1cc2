//! Counts of what a fleet did, readable while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What plans hold, and which faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Days of meters.
    pub days: u64,
    /// Pushes, before neighbours are put together.
    pub frames: u64,
    /// Supply outages.
    pub power_outages: u64,
    /// Communication outages.
    pub link_outages: u64,
    /// Of these, the ones whose intervals never arrive.
    pub never_delivered: u64,
    /// Daily registers that are never pushed.
    pub daily_lost: u64,
    /// Pushes that are sent twice.
    pub duplicates: u64,
    /// Pushes that are on their way for long.
    pub late: u64,
    /// Pushes that are overtaken.
    pub reordered: u64,
    /// Wrong values that are revised.
    pub revisions: u64,
    /// Voltage sags.
    pub voltage_sags: u64,
    /// Readings whose stamp is garbage.
    pub garbage_times: u64,
    /// Times that a concentrator held back pushes and sent them newest first.
    pub newest_first: u64,
    /// Clocks that began to run wrong.
    pub clock_drifts: u64,
    /// Meters that went over to new keys.
    pub key_changes: u64,
    /// Meters that came back after weeks.
    pub silences: u64,
}

impl Planned {
    /// Adds the counts of another plan.
    pub fn add(&mut self, other: &Planned) {
        self.days += other.days;
        self.frames += other.frames;
        self.power_outages += other.power_outages;
        self.link_outages += other.link_outages;
        self.never_delivered += other.never_delivered;
        self.daily_lost += other.daily_lost;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.reordered += other.reordered;
        self.revisions += other.revisions;
        self.voltage_sags += other.voltage_sags;
        self.garbage_times += other.garbage_times;
        self.newest_first += other.newest_first;
        self.clock_drifts += other.clock_drifts;
        self.key_changes += other.key_changes;
        self.silences += other.silences;
    }
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames put on the wire, copies and repetitions included.
    pub sent: u64,
    /// Frames put on the wire for the first time.
    pub frames: u64,
    /// Intervals in these.
    pub intervals: u64,
    /// Frames sent again because no confirm came in time or the connection broke.
    pub resent: u64,
    /// Second copies of faults.
    pub duplicates: u64,
    /// Frames that a concentrator held back.
    pub held_back: u64,
    /// Frames confirmed by the head-end, which has stored them.
    pub confirmed: u64,
    /// Frames acknowledged by the broker, which has taken them on.
    pub published: u64,
    /// Connections made.
    pub connections: u64,
    /// Confirms that belong to nothing under way.
    pub stray_confirms: u64,
    /// What was planned, and the faults in it.
    pub planned: Planned,
}

/// The counters behind [`Stats`], shared by the senders.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) intervals: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) held_back: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) stray_confirms: AtomicU64,
    planned: Mutex<Planned>,
}

impl Counters {
    /// The counts now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sent: read(&self.sent),
            frames: read(&self.frames),
            intervals: read(&self.intervals),
            resent: read(&self.resent),
            duplicates: read(&self.duplicates),
            held_back: read(&self.held_back),
            confirmed: read(&self.confirmed),
            published: read(&self.published),
            connections: read(&self.connections),
            stray_confirms: read(&self.stray_confirms),
            planned: *self.planned.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn planned(&self, planned: &Planned) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).add(planned);
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
