//! Thread `lake`: checkpoints.
//!
//! One checkpoint, in this order: the state is captured while the fold stands at C, at the end of a group; every table
//! commits its rows up to C; the frames that wait for their registration are stored; the state file is written; the
//! journal is let go up to C. A step that fails ends it: nothing after it happens, the journal grows, and the next
//! attempt begins anew, after a pause that doubles up to 8 s. After a failed sync there is none: the pipeline fails.
//!
//! When rows press and time does not, and the state is larger than they are, only the tables are committed: the state of
//! a large fleet is not to be written every second of a storm. The lake may be ahead of the state; a replay drops what
//! the tables hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ledger::Fold;
use metrics::{gauge, histogram};
use model::Position;
use tokio::sync::oneshot;

use super::fold::FoldJob;
use super::stats::{position, publish};
use super::waiting::WaitingJob;
use super::{Core, Failure, PipelineError, PipelineOptions, with_cause};
use crate::telemetry;

/// Jobs that may wait: each of the three kinds is there once at most.
pub(super) const CHECKPOINT_JOBS: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What the thread is asked to do.
pub(super) enum CheckpointJob {
    /// Take one and answer.
    Now(oneshot::Sender<Result<Position, PipelineError>>),
    /// There are enough rows to commit.
    Due,
    /// End.
    Stop,
}

/// How much nicer this thread, and those that it starts to write files, are than those that a sender waits for.
const NICER: i32 = 5;

/// Lets the threads that a sender waits for go first: files take a core for seconds at a time.
fn yield_to_others() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::warn!(%error, "checkpoints run with the priority of everything else");
    }
}

/// Where checkpoints are kept.
pub(super) fn checkpoint_dir(options: &PipelineOptions) -> PathBuf {
    options.data_dir.join("checkpoint")
}

pub(super) struct CheckpointThread {
    pub(super) core: Arc<Core>,
    pub(super) jobs: Receiver<CheckpointJob>,
}

impl CheckpointThread {
    pub(super) fn run(self) {
        yield_to_others();
        let every = self.core.options.commit_every;
        let mut next = Instant::now() + every;
        let mut pause = FIRST_PAUSE;
        // While checkpoints fail, neither bytes nor time bring one before this.
        let mut not_before = Instant::now();
        let mut state_bytes = 0;
        while !self.core.ended.is_cancelled() {
            let mut only_rows = false;
            let reply = match self.jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(CheckpointJob::Now(reply)) => Some(reply),
                Ok(CheckpointJob::Due) if Instant::now() < not_before => {
                    self.core.gauges.checkpoint_due.store(false, Ordering::Relaxed);
                    continue;
                }
                Ok(CheckpointJob::Due) => {
                    only_rows = self.core.lake.hot_bytes() < state_bytes;
                    None
                }
                Err(RecvTimeoutError::Timeout) => None,
                Ok(CheckpointJob::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            self.core.gauges.checkpoint_due.store(false, Ordering::Relaxed);
            let taken =
                if only_rows { self.commit_rows() } else { self.take(&mut state_bytes, reply.is_some()) };
            self.tell(taken.as_ref().err());
            if taken.is_ok() {
                pause = FIRST_PAUSE;
                not_before = Instant::now();
                if !only_rows {
                    next = not_before + every;
                }
            } else {
                not_before = Instant::now() + pause;
                next = not_before;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            match &taken {
                Err(PipelineError::Lake(error)) if self.core.lake.needs_restart(error) => {
                    self.core.fail(Failure::Lake(error.to_string()));
                }
                Err(PipelineError::Checkpoint(error)) if error.is_fatal() => {
                    self.core.fail(Failure::Checkpoint(with_cause(error)));
                }
                _ => {}
            }
            if let Some(reply) = reply {
                // The caller may have been cancelled.
                let _ = reply.send(taken);
            }
        }
    }

    /// Commits the lake as far as the fold is, and nothing else.
    fn commit_rows(&self) -> Result<Position, PipelineError> {
        let began = Instant::now();
        let (reply, folded) = oneshot::channel();
        let look = move |fold: &Fold| {
            // This thread waits for it.
            let _ = reply.send(fold.position());
        };
        let job = FoldJob::Look(Box::new(look));
        self.core.fold.blocking_send(job).map_err(|_| PipelineError::Stopped)?;
        let at = folded.blocking_recv().map_err(|_| PipelineError::Stopped)?;
        self.core.lake.commit(at).map_err(PipelineError::Lake)?;
        tracing::info!(position = at.0, seconds = began.elapsed().as_secs_f64(), "rows committed");
        Ok(at)
    }

    fn take(&self, state_bytes: &mut usize, is_awaited: bool) -> Result<Position, PipelineError> {
        let began = Instant::now();
        let last = position(&self.core.gauges.checkpoint);
        let Some(fold) = self.capture(last)? else { return Ok(last) };
        let (at, sections) = (fold.position(), fold.sections());
        // It shares pages with the fold's thread, which copies those that it changes meanwhile.
        drop(fold);
        *state_bytes = sections.iter().map(|section| section.bytes.len()).sum();
        let lake = &self.core.lake;
        let committed = if is_awaited { lake.commit_at_once(at) } else { lake.commit(at) };
        committed.map_err(PipelineError::Lake)?;
        self.flush_waiting()?;
        let dir = checkpoint_dir(&self.core.options);
        state::write(&dir, at, &sections).map_err(PipelineError::Checkpoint)?;
        publish(&self.core.gauges.checkpoint, at);
        self.core.queue.trim(at);
        histogram!(telemetry::CHECKPOINT_SECONDS).record(began.elapsed());
        gauge!(telemetry::CHECKPOINT_POSITION).set(at.0 as f64);
        tracing::info!(position = at.0, seconds = began.elapsed().as_secs_f64(), "checkpoint taken");
        Ok(at)
    }

    fn capture(&self, since: Position) -> Result<Option<Fold>, PipelineError> {
        let (reply, captured) = oneshot::channel();
        let job = FoldJob::Capture { since, reply };
        self.core.fold.blocking_send(job).map_err(|_| PipelineError::Stopped)?;
        captured.blocking_recv().map_err(|_| PipelineError::Stopped)
    }

    /// Waits until the frames handed over so far are stored.
    fn flush_waiting(&self) -> Result<(), PipelineError> {
        let (reply, flushed) = oneshot::channel();
        self.core.waiting.blocking_send(WaitingJob::Flush(reply)).map_err(|_| PipelineError::Stopped)?;
        flushed.blocking_recv().map_err(|_| PipelineError::Stopped)
    }

    fn tell(&self, error: Option<&PipelineError>) {
        let failing = error.is_some();
        self.core.gauges.checkpoint_failing.store(failing, Ordering::Relaxed);
        gauge!(telemetry::CHECKPOINT_FAILING).set(f64::from(u8::from(failing)));
        match error {
            None | Some(PipelineError::Stopped) => {}
            Some(error) => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "no checkpoint: the journal grows until there is one");
            }
        }
    }
}
