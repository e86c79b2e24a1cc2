//! Where the pipeline stands, for operators.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use model::{Position, Source};
use serde::Serialize;

use super::{Core, Pipeline};

/// Gauges and counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Last record that survives a power cut.
    pub durable_position: u64,
    /// Last record applied.
    pub folded_position: u64,
    /// Record up to which lake and state are committed.
    pub checkpoint_position: u64,
    /// Frames that wait for the journal.
    pub queue_frames: usize,
    /// Journal groups written since the start.
    pub groups: u64,
    /// Records written since the start.
    pub records: u64,
    /// Frames of which copies were told by their bytes, since the start.
    pub redelivered: u64,
    /// Frames turned away at a bound, since the start.
    pub refused: u64,
    /// Contested readings that wait for their answer.
    pub contested_open: u64,
    /// Rows that are not committed, bytes.
    pub hot_bytes: usize,
    /// Whether the last checkpoint failed.
    pub checkpoint_failing: bool,
}

/// Whether frames are taken, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They are.
    Ready,
    /// The disk has no room for the journal.
    JournalFull,
    /// Too many rows wait for the lake.
    LakeBehind,
    /// Too many contested readings wait for their answer.
    ContestedFull,
    /// Shutting down, or failed.
    Stopped,
}

impl Readiness {
    /// Whether frames are taken.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Readiness::Ready
    }

    /// Why not; none while they are.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Readiness::Ready => None,
            Readiness::JournalFull => Some("the disk has no room for the journal"),
            Readiness::LakeBehind => Some("too many rows wait for the lake"),
            Readiness::ContestedFull => Some("too many contested readings wait for their answer"),
            Readiness::Stopped => Some("the pipeline has stopped"),
        }
    }
}

/// What the threads publish of themselves.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) durable: AtomicU64,
    pub(super) folded: AtomicU64,
    pub(super) checkpoint: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) redelivered: AtomicU64,
    /// Bytes of records that are durable and wait for the fold.
    pub(super) unfolded_bytes: AtomicUsize,
    pub(super) contested_open: AtomicU64,
    pub(super) contested_full: AtomicBool,
    pub(super) journal_full: AtomicBool,
    pub(super) checkpoint_failing: AtomicBool,
    /// The lake thread was told that there is enough to commit, and has not begun.
    pub(super) checkpoint_due: AtomicBool,
    refused: AtomicU64,
    /// Refused frames by source that no journal group has counted yet.
    refused_new: [AtomicU64; Source::ALL.len()],
}

impl Gauges {
    pub(super) fn refuse(&self, source: Source) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.refused_new[source.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refused frame that the journal thread puts into the counts of a group by itself.
    pub(super) fn refused_evidence(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused frames of a source since this was last asked.
    pub(super) fn take_refused(&self, source: Source) -> u64 {
        self.refused_new[source.index()].swap(0, Ordering::Relaxed)
    }
}

pub(super) fn position(gauge: &AtomicU64) -> Position {
    Position(gauge.load(Ordering::Acquire))
}

pub(super) fn publish(gauge: &AtomicU64, position: Position) {
    gauge.store(position.0, Ordering::Release);
}

impl Pipeline {
    /// Where the pipeline stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let gauges = &self.core.gauges;
        let read = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        Stats {
            durable_position: read(&gauges.durable),
            folded_position: read(&gauges.folded),
            checkpoint_position: read(&gauges.checkpoint),
            queue_frames: self.core.queue.frames(),
            groups: read(&gauges.groups),
            records: read(&gauges.records),
            redelivered: read(&gauges.redelivered),
            refused: read(&gauges.refused),
            contested_open: read(&gauges.contested_open),
            hot_bytes: self.core.lake.hot_bytes(),
            checkpoint_failing: gauges.checkpoint_failing.load(Ordering::Relaxed),
        }
    }

    /// Whether frames are taken.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.core.stopping.is_cancelled() {
            Readiness::Stopped
        } else if self.core.gauges.journal_full.load(Ordering::Relaxed) {
            Readiness::JournalFull
        } else {
            self.core.room()
        }
    }
}

impl Core {
    /// Whether what comes behind the journal has room for more frames.
    pub(super) fn room(&self) -> Readiness {
        if self.lake.hot_bytes() > self.options.max_hot_bytes {
            Readiness::LakeBehind
        } else if self.gauges.contested_full.load(Ordering::Relaxed) {
            Readiness::ContestedFull
        } else {
            Readiness::Ready
        }
    }
}
