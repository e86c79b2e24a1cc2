//! Thread `fold`: applies durable records in journal order. The replay at the start runs the same code.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledger::{Contested, Effects, Fold, FoldError, Outcome};
use metrics::gauge;
use model::{Fact, Position, QuarantineReason, Record, Source, SourceCounts};
use registry::WaitingFrame;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::checkpoint::CheckpointJob;
use super::stats::publish;
use super::waiting::WaitingJob;
use super::{Applied, Core, Failure};
use crate::lake::Lake;
use crate::telemetry;

/// What the thread is asked to do, in this order.
pub(super) enum FoldJob {
    /// Apply a durable group.
    Group(FoldGroup),
    /// Look at the state.
    Look(Box<dyn FnOnce(&Fold) + Send>),
    /// Give the state out, if it moved since that position.
    Capture {
        /// Position of the last checkpoint.
        since: Position,
        /// Gets the state; nothing where it has not moved.
        reply: oneshot::Sender<Option<Fold>>,
    },
    /// End.
    Stop,
}

/// Durable records that were one group of the journal.
pub(super) struct FoldGroup {
    pub(super) counts: [SourceCounts; Source::ALL.len()],
    /// Bytes it has in the journal.
    pub(super) bytes: usize,
    pub(super) records: Vec<Record>,
    /// Who waits for the outcomes of the first records.
    pub(super) replies: Vec<(oneshot::Sender<Applied>, OwnedSemaphorePermit)>,
}

/// Records whose places in memory are read before the first of them is folded.
const AHEAD: usize = 16;

/// The fold and where its rows go.
pub(super) struct Applier {
    pub(super) fold: Fold,
    pub(super) lake: Arc<dyn Lake>,
    effects: Effects,
}

/// What a group led to besides rows.
#[derive(Default)]
pub(super) struct GroupEffects {
    /// Of the first records, as many as were asked for.
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) contested: Vec<Contested>,
    /// Frames whose meters are not registered.
    pub(super) waiting: Vec<WaitingFrame>,
}

impl Applier {
    pub(super) fn new(fold: Fold, lake: Arc<dyn Lake>) -> Applier {
        Applier { fold, lake, effects: Effects::default() }
    }

    /// Applies one group whole and hands its rows to the lake; keeps the first `outcomes` outcomes.
    pub(super) fn group(
        &mut self,
        counts: &[SourceCounts; Source::ALL.len()],
        records: &[Record],
        outcomes: usize,
    ) -> Result<GroupEffects, FoldError> {
        let mut group = GroupEffects::default();
        self.fold.begin_group(counts);
        self.effects.rows.reserve(records.iter().map(rows_of).sum());
        for (number, record) in records.iter().enumerate() {
            if number.is_multiple_of(AHEAD) {
                self.fold.touch(&records[number..records.len().min(number + AHEAD)]);
            }
            self.fold.apply(record, &mut self.effects)?;
            let outcome = self.effects.outcome.take();
            if number < outcomes {
                group.outcomes.push(outcome);
            }
            group.waiting.extend(waiting_frame(record));
        }
        group.contested = std::mem::take(&mut self.effects.contested);
        self.lake.absorb(std::mem::take(&mut self.effects.rows), self.fold.position());
        Ok(group)
    }
}

/// Rows that a record brings, but for events and postings.
fn rows_of(record: &Record) -> usize {
    match &record.fact {
        Fact::Frame(frame) => 1 + frame.readings.len(),
        _ => 1,
    }
}

/// The frame of a record that waits for the registration of its title.
fn waiting_frame(record: &Record) -> Option<WaitingFrame> {
    match &record.fact {
        Fact::Quarantined(frame) if frame.reason == QuarantineReason::UnknownTitle => Some(WaitingFrame {
            position: record.position,
            source: frame.source,
            title: frame.title?,
            received_at: record.received_at,
            raw: frame.raw.clone(),
        }),
        _ => None,
    }
}

pub(super) struct FoldThread {
    pub(super) core: Arc<Core>,
    pub(super) applier: Applier,
    pub(super) jobs: mpsc::Receiver<FoldJob>,
    /// Bounded by the ledger's limit on open contested readings, beyond which no frame is taken.
    pub(super) contested: std::sync::mpsc::Sender<Contested>,
}

impl FoldThread {
    pub(super) fn run(mut self) {
        self.hand_out(self.applier.fold.open_contested());
        while let Some(job) = self.jobs.blocking_recv() {
            match job {
                FoldJob::Group(group) => {
                    if let Err(error) = self.group(group) {
                        self.core.fail(Failure::Fold(error.to_string()));
                        return;
                    }
                }
                FoldJob::Look(look) => look(&self.applier.fold),
                FoldJob::Capture { since, reply } => {
                    // The lake thread may have gone.
                    let _ = reply.send(self.capture(since));
                }
                FoldJob::Stop => return,
            }
        }
    }

    fn group(&mut self, group: FoldGroup) -> Result<(), FoldError> {
        let FoldGroup { counts, bytes, records, replies } = group;
        let effects = self.applier.group(&counts, &records, replies.len())?;
        self.core.gauges.unfolded_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let position = self.applier.fold.position();
        publish(&self.core.gauges.folded, position);
        self.tell(position);
        if !effects.waiting.is_empty() {
            // Where the task is gone the process is ending; the next start puts them from the journal.
            let _ = self.core.waiting.blocking_send(WaitingJob::Put(effects.waiting));
        }
        self.hand_out(effects.contested);
        for ((reply, permit), (record, outcome)) in
            replies.into_iter().zip(records.iter().zip(effects.outcomes))
        {
            let outcome = outcome.unwrap_or(Outcome::Applied);
            // The caller may have been cancelled; the fact is applied all the same.
            let _ = reply.send(Applied { position: record.position, outcome });
            drop(permit);
        }
        let is_due = self.applier.lake.hot_bytes() >= self.core.options.commit_bytes;
        if is_due && !self.core.gauges.checkpoint_due.swap(true, Ordering::Relaxed) {
            // Said once, so there is room for it; where the lake thread is gone the process is ending.
            let _ = self.core.checkpoint.try_send(CheckpointJob::Due);
        }
        Ok(())
    }

    fn hand_out(&self, contested: Vec<Contested>) {
        for reading in contested {
            // Where the resolver is gone the process is ending; open ones are in the state.
            let _ = self.contested.send(reading);
        }
    }

    fn tell(&self, position: Position) {
        let gauges = &self.core.gauges;
        let open = self.applier.fold.contested_len();
        gauges.contested_open.store(open as u64, Ordering::Relaxed);
        gauges.contested_full.store(self.applier.fold.contested_is_full(), Ordering::Relaxed);
        let durable = gauges.durable.load(Ordering::Relaxed);
        gauge!(telemetry::CONTESTED_OPEN).set(open as f64);
        gauge!(telemetry::FOLDED_POSITION).set(position.0 as f64);
        gauge!(telemetry::FOLD_LAG).set(durable.saturating_sub(position.0) as f64);
        gauge!(telemetry::HOT_BYTES).set(self.applier.lake.hot_bytes() as f64);
    }

    fn capture(&self, since: Position) -> Option<Fold> {
        let fold = &self.applier.fold;
        (fold.position() > since).then(|| fold.clone())
    }
}
