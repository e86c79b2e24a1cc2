//! The commit pipeline: one journal, one fold, one order.
//!
//! | thread | does | waits for |
//! |---|---|---|
//! | `journal` | judges frames, appends groups, syncs, answers | the queue; the fold, when that lags |
//! | `fold` | applies records, hands rows to the lake, runs looks at the state | the journal |
//! | `resolver` | looks contested readings up and appends the answers | the fold |
//! | `lake` | checkpoints: lake commit, waiting frames, state file, journal trim | time, or bytes |
//!
//! | bound | option | when full |
//! |---|---|---|
//! | frames before the journal | `queue_frames`, `queue_bytes` | senders wait, or are refused and counted |
//! | records before the fold | 32 MiB, 4,096 groups | no frame is taken |
//! | rows that are not committed | `max_hot_bytes` | no frame is taken; control facts are |
//! | contested readings | the ledger's | no frame is taken; control facts are |
//! | control facts | 1,024 | callers wait |
//! | frames that prove nothing | `evidence` | refused and counted |
//!
//! A failed sync, a lake that cannot go on, or a record that cannot be applied is fatal: [`Pipeline::failed`] says so, nothing is answered any
//! more, and the process is to exit.

mod checkpoint;
mod days;
mod fold;
mod journal_thread;
mod outbox;
mod resolver;
mod start;
mod stats;
mod waiting;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ledger::{Fold, Outcome};
use model::{Calendar, Fact, Position};
use profiles::Profile;
use registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::decode::{Buffers, Decoded, Decoder};
use crate::evidence::EvidenceOptions;
use crate::keys::KeyTable;
use crate::lake::{BoxError, Lake};
use crate::print::Keyed;
use crate::queue::{ControlItem, Frames, Queue};
use crate::received::{OpenedPush, Received, Refused, Ticket, Tickets};

use checkpoint::CheckpointJob;
use fold::FoldJob;
use stats::Gauges;
use waiting::WaitingJob;

pub use start::{Replay, StartError};
pub use stats::{Readiness, Stats};

/// Control facts that may wait for the journal.
const CONTROL_FACTS: usize = 1024;
/// Groups that may wait for the fold.
const FOLD_GROUPS: usize = 4096;
/// Bytes of records that may wait for the fold before no more frames are taken. The fold may fall behind for a while,
/// as where every core is busy with Parquet; what is durable is to be acknowledged meanwhile.
const FOLD_BYTES: usize = 16 << 20;
/// Frames that came together from so many on keep the buffer that they were read into: most of it is theirs. Of fewer a
/// copy is kept, or each frame of a quiet connection would hold a buffer of some KiB until it is through.
const SHARING: usize = 8;
/// Batches of frames that may wait for the store of waiting frames.
const WAITING_BATCHES: usize = 64;
/// Largest record: a frame of 64 KiB whose body is the largest buffer that [`crate::normalize::MAX_ROWS`] admits.
const MAX_RECORD_BYTES: usize = 2 << 20;

/// How a pipeline runs.
#[derive(Clone)]
pub struct PipelineOptions {
    /// Directory of the partition; `journal/` and `checkpoint/` are in it.
    pub data_dir: PathBuf,
    /// How the journal uses its disk.
    pub journal: journal::Options,
    /// Longest time between checkpoints.
    pub commit_every: Duration,
    /// Bytes of uncommitted rows that bring a checkpoint forward.
    pub commit_bytes: usize,
    /// Bytes of uncommitted rows at which no more frames are taken.
    pub max_hot_bytes: usize,
    /// Bytes of records after which a group is closed. Two such groups and 2 MiB must fit into a segment.
    pub group_bytes: usize,
    /// Frames that may wait for the journal or their sync.
    pub queue_frames: usize,
    /// Bytes that these may take, decoded.
    pub queue_bytes: usize,
    /// Recent frames remembered, to tell redeliveries by their bytes.
    pub remembered_frames: usize,
    /// How much is kept of frames that prove nothing.
    pub evidence: EvidenceOptions,
    /// After this time without work the journal writes a group without records, which vouches for the last one.
    pub idle_after: Duration,
    /// Hour and minute of the next day at which a day is booked.
    pub close_at: (i8, i8),
    /// How often to look whether a day is due to be closed.
    pub close_check: Duration,
    /// Days for which late data is charged.
    pub late_days: u16,
    /// The utility's zone.
    pub calendar: Calendar,
    /// Told now and then how far a replay is.
    pub progress: Option<Arc<dyn Fn(Replay) + Send + Sync>>,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        PipelineOptions {
            data_dir: PathBuf::from("urja-data"),
            journal: journal::Options::default(),
            commit_every: Duration::from_secs(30),
            commit_bytes: 128 << 20,
            max_hot_bytes: 1 << 30,
            group_bytes: 4 << 20,
            queue_frames: 16_384,
            queue_bytes: 128 << 20,
            remembered_frames: 1 << 17,
            evidence: EvidenceOptions::default(),
            idle_after: Duration::from_millis(50),
            close_at: (6, 0),
            close_check: Duration::from_secs(10),
            late_days: 45,
            calendar: Calendar::india(),
            progress: None,
        }
    }
}

impl fmt::Debug for PipelineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineOptions").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// A fact that is durable and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its record.
    pub position: Position,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why a request to the pipeline was not done.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// It is shutting down, or has failed; see [`Pipeline::failed`].
    #[error("the pipeline has stopped")]
    Stopped,
    /// The fact's record would not fit into a group.
    #[error("a record of {bytes} bytes is larger than {MAX_RECORD_BYTES}")]
    TooLarge {
        /// Size of the record.
        bytes: usize,
    },
    /// The registry cannot be read or changed.
    #[error("the registry fails")]
    Registry(#[from] registry::Error),
    /// The lake could not be committed; it is tried again with the next checkpoint.
    #[error("the lake cannot be committed")]
    Lake(#[source] BoxError),
    /// The state could not be written; it is tried again with the next checkpoint.
    #[error("the checkpoint cannot be written")]
    Checkpoint(#[source] state::Error),
    /// The fold did not take the next slice of a day.
    #[error("a day was not closed: {0}")]
    DayRefused(Outcome),
}

/// Why the pipeline has stopped for good. The process is to exit, and to start again from what is on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A write or sync of the journal failed. It is never tried again on the same file.
    #[error("the journal failed: {0}")]
    Journal(String),
    /// A durable record could not be applied.
    #[error("the fold failed: {0}")]
    Fold(String),
    /// The lake cannot go on without a new start, as after a failed sync.
    #[error("the lake failed: {0}")]
    Lake(String),
    /// A sync of the checkpoint failed.
    #[error("the checkpoint failed: {0}")]
    Checkpoint(String),
    /// A thread of the pipeline is gone.
    #[error("thread {0} is gone")]
    Thread(&'static str),
}

/// An open partition's pipeline; a clone is another handle to it. When the last handle is dropped it stops as in a
/// crash, except that what was queued is still made durable.
#[derive(Clone, Debug)]
pub struct Pipeline {
    core: Arc<Core>,
    owner: Arc<Owner>,
}

/// What all threads share.
struct Core {
    options: PipelineOptions,
    clock: Arc<dyn Clock>,
    lake: Arc<dyn Lake>,
    registry: Registry,
    profiles: Arc<[Profile]>,
    keys: KeyTable,
    keyed: Keyed,
    queue: Queue,
    /// Bytes of frames.
    frames: Arc<Semaphore>,
    control: Arc<Semaphore>,
    fold: mpsc::Sender<FoldJob>,
    waiting: mpsc::Sender<WaitingJob>,
    checkpoint: std::sync::mpsc::SyncSender<CheckpointJob>,
    gauges: Gauges,
    failed: watch::Sender<Option<Failure>>,
    /// No more work is begun.
    stopping: CancellationToken,
    /// The journal thread has appended everything that was queued.
    drained: CancellationToken,
    /// The threads are to end.
    ended: CancellationToken,
    /// One at a time drains the outbox, takes waiting frames in, closes days, asks for a checkpoint.
    outbox_turn: tokio::sync::Mutex<()>,
    waiting_turn: tokio::sync::Mutex<()>,
    days_turn: tokio::sync::Mutex<()>,
    checkpoint_turn: tokio::sync::Mutex<()>,
}

/// Stops the threads when the last handle goes.
#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl Pipeline {
    /// Gives a frame to the pipeline; waits while the queue is full.
    ///
    /// # Errors
    /// [`Refused::Stopped`].
    pub async fn submit(&self, received: Received) -> Result<Ticket, Refused> {
        self.submitter().submit(received).await
    }

    /// Gives a push to the pipeline that a session opened; waits while the queue is full.
    pub(crate) async fn submit_opened(&self, opened: OpenedPush) -> Result<Ticket, Refused> {
        self.core.submit_opened(opened).await
    }

    /// A handle for one task that gives many frames.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        Submitter { pipeline: self.clone(), desk: Desk::new(usize::from(u16::MAX)) }
    }

    /// Appends a fact; answers when it is durable and applied.
    ///
    /// # Errors
    /// When the pipeline has stopped, or the fact is too large for the journal.
    pub async fn append(&self, fact: Fact) -> Result<Applied, PipelineError> {
        self.core.append(fact).await
    }

    /// Runs `look` on the state, after everything that was durable when this was called.
    ///
    /// # Errors
    /// When the pipeline has stopped.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fold) -> T + Send + 'static,
    ) -> Result<T, PipelineError> {
        self.core.look(look).await
    }

    /// Runs `study` on the state as [`Pipeline::look`] would see it, beside the fold and not in its way: for what visits
    /// every meter or account.
    ///
    /// # Errors
    /// When the pipeline has stopped.
    pub async fn study<T: Send + 'static>(
        &self,
        study: impl FnOnce(&Fold) -> T + Send + 'static,
    ) -> Result<T, PipelineError> {
        let fold = self.core.look(Fold::clone).await?;
        // It fails only where the runtime ends.
        tokio::task::spawn_blocking(move || study(&fold)).await.map_err(|_| PipelineError::Stopped)
    }

    /// Takes a checkpoint now; answers with its position.
    ///
    /// # Errors
    /// When a part of it fails, or the pipeline has stopped.
    pub async fn checkpoint(&self) -> Result<Position, PipelineError> {
        self.core.checkpoint().await
    }

    /// The profile of this name.
    pub(crate) fn profile(&self, name: &str) -> Option<&Profile> {
        self.core.profiles.iter().find(|profile| profile.name == name)
    }

    /// The clock that stamps what comes in.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.core.clock
    }

    /// Turns to a failure when the pipeline has stopped for good.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<Failure>> {
        self.core.failed.subscribe()
    }

    /// Stops in order: works off what is queued, takes a checkpoint, ends the threads. Listeners are to be closed
    /// before.
    ///
    /// # Errors
    /// When the last checkpoint fails. Nothing acknowledged is lost by that: the journal has it.
    pub async fn shutdown(self) -> Result<(), PipelineError> {
        self.core.stopping.cancel();
        self.core.close_intake();
        self.core.drained.cancelled().await;
        let taken = self.core.checkpoint().await;
        self.halt().await;
        taken.map(|_| ())
    }

    /// Stops as in a crash, without a checkpoint, except that what was queued is still made durable; the data
    /// directory is free when this returns.
    pub async fn halt(self) {
        self.core.stop();
        let threads = std::mem::take(&mut *self.owner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let name = thread.thread().name().unwrap_or_default().to_owned();
                if thread.join().is_err() {
                    tracing::error!(thread = name, "a thread of the pipeline panicked");
                }
            }
        });
        let _ = joined.await;
    }
}

/// Gives frames of one task to the pipeline; it keeps what makes the next one cheaper to decode.
#[derive(Debug)]
pub struct Submitter {
    pipeline: Pipeline,
    desk: Desk,
}

/// What a task keeps from frame to frame.
#[derive(Debug)]
struct Desk {
    max_apdu: usize,
    buffers: Buffers,
}

impl Desk {
    fn new(max_apdu: usize) -> Desk {
        Desk { max_apdu, buffers: Buffers::default() }
    }
}

impl Submitter {
    /// Quarantines frames with longer APDUs than this.
    #[must_use]
    pub fn with_max_apdu(mut self, bytes: usize) -> Submitter {
        self.desk.max_apdu = bytes;
        self
    }

    /// Gives a frame to the pipeline; waits while the queue is full.
    ///
    /// # Errors
    /// [`Refused::Stopped`].
    pub async fn submit(&mut self, received: Received) -> Result<Ticket, Refused> {
        self.pipeline.core.submit(received, &mut self.desk).await
    }

    /// Gives frames that came together to the pipeline, in their order; waits while the queue is full. Places in the
    /// queue, keys and locks are asked for once for all of them.
    ///
    /// # Errors
    /// [`Refused::Stopped`]; then none of them was taken.
    pub(crate) async fn submit_all(&mut self, frames: Vec<Received>) -> Result<Tickets, Refused> {
        let core = &self.pipeline.core;
        let permits = frames.iter().map(|received| core.permits(received)).sum();
        let permit = core.acquire(permits).await?;
        core.enqueue(frames, permit, &mut self.desk)
    }

    /// How many of these frames may be given at once.
    pub(crate) fn together(&self, frames: &[Received]) -> usize {
        let core = &self.pipeline.core;
        // They go into one group of the journal, which is as much longer as a record may be.
        let most = (core.options.queue_bytes / 4).min(MAX_RECORD_BYTES);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let mut sum: u32 = 0;
        let fit = frames.iter().take_while(|received| {
            sum = sum.saturating_add(core.permits(received));
            sum <= most
        });
        fit.count().max(1)
    }

    /// Gives a frame to the pipeline; refuses and counts it while the queue is full.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn try_submit(&mut self, received: Received) -> Result<Ticket, Refused> {
        let core = &self.pipeline.core;
        let permits = core.permits(&received);
        match Arc::clone(&core.frames).try_acquire_many_owned(permits) {
            Ok(permit) => core.enqueue(vec![received], permit, &mut self.desk).map(Ticket::from),
            Err(tokio::sync::TryAcquireError::Closed) => Err(Refused::Stopped),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                core.gauges.refuse(received.source);
                Err(Refused::Full)
            }
        }
    }
}

impl Core {
    /// Bytes of the queue that a frame takes: what it may become when it is decoded, and never less than one of
    /// `queue_frames` equal parts.
    fn permits(&self, received: &Received) -> u32 {
        self.permits_of(received.bytes.len())
    }

    fn permits_of(&self, length: usize) -> u32 {
        let total = self.options.queue_bytes;
        let least = total / self.options.queue_frames.max(1);
        let weight = (length * 8).max(least).max(1).min(total);
        u32::try_from(weight).unwrap_or(u32::MAX)
    }

    async fn submit_opened(&self, opened: OpenedPush) -> Result<Ticket, Refused> {
        let permit = self.acquire(self.permits_of(opened.apdu.get().len())).await?;
        let mut desk = Desk::new(usize::from(u16::MAX));
        let decoded = self.decoder(desk.max_apdu).decode_opened(opened, &mut desk.buffers);
        self.queue(vec![decoded], permit).map(Ticket::from)
    }

    async fn acquire(&self, permits: u32) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.frames).acquire_many_owned(permits).await.map_err(|_| Refused::Stopped)
    }

    async fn submit(&self, received: Received, desk: &mut Desk) -> Result<Ticket, Refused> {
        let permit = self.acquire(self.permits(&received)).await?;
        self.enqueue(vec![received], permit, desk).map(Ticket::from)
    }

    /// Decodes frames and queues them; the permit is for all of them.
    fn enqueue(
        &self,
        frames: Vec<Received>,
        permit: OwnedSemaphorePermit,
        desk: &mut Desk,
    ) -> Result<Tickets, Refused> {
        let decoded: Vec<Decoded> = {
            let decoder = self.decoder(desk.max_apdu);
            if frames.len() > 1 {
                decoder.touch(frames.iter());
            }
            let share = frames.len() >= SHARING;
            let decode = |mut received: Received| {
                if !share {
                    received.bytes = Bytes::copy_from_slice(&received.bytes);
                }
                decoder.decode(received, &mut desk.buffers)
            };
            frames.into_iter().map(decode).collect()
        };
        self.queue(decoded, permit)
    }

    /// Queues frames; the permit is for all of them.
    fn queue(&self, decoded: Vec<Decoded>, permit: OwnedSemaphorePermit) -> Result<Tickets, Refused> {
        let proven = decoded.iter().map(Decoded::proven).collect();
        let bytes = decoded.iter().map(Decoded::record_bytes).sum();
        let (reply, answer) = oneshot::channel();
        let queued = self.queue.push_frames(Frames { decoded, bytes, reply, permit });
        queued.map(|()| Tickets { answer, proven }).map_err(|_| Refused::Stopped)
    }

    /// It holds the keys as they stand, so it is not to be kept.
    fn decoder(&self, max_apdu: usize) -> Decoder<'_> {
        let (keys, calendar) = (self.keys.read(), &self.options.calendar);
        Decoder { keys, profiles: &self.profiles, calendar, keyed: self.keyed, max_apdu }
    }

    async fn append(&self, fact: Fact) -> Result<Applied, PipelineError> {
        self.enqueue_fact(fact).await?.await.map_err(|_| PipelineError::Stopped)
    }

    /// Puts a fact behind those put before; the answer comes when it is durable and applied.
    async fn enqueue_fact(&self, fact: Fact) -> Result<oneshot::Receiver<Applied>, PipelineError> {
        let received_at = self.clock.now();
        let mut record = Vec::new();
        fact.encode(received_at, &mut record);
        let bytes = record.len();
        if bytes > MAX_RECORD_BYTES {
            return Err(PipelineError::TooLarge { bytes });
        }
        let permit = Arc::clone(&self.control).acquire_owned().await.map_err(|_| PipelineError::Stopped)?;
        let (reply, applied) = oneshot::channel();
        let item = ControlItem { received_at, fact, bytes, reply, permit };
        self.queue.push_control(item).map_err(|_| PipelineError::Stopped)?;
        Ok(applied)
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fold) -> T + Send + 'static,
    ) -> Result<T, PipelineError> {
        let (reply, answer) = oneshot::channel();
        let job = FoldJob::Look(Box::new(move |fold| {
            // Nobody waits any more when the caller was cancelled.
            let _ = reply.send(look(fold));
        }));
        self.fold.send(job).await.map_err(|_| PipelineError::Stopped)?;
        answer.await.map_err(|_| PipelineError::Stopped)
    }

    async fn checkpoint(&self) -> Result<Position, PipelineError> {
        // So that there is always room for the request.
        let _turn = self.checkpoint_turn.lock().await;
        let (reply, done) = oneshot::channel();
        self.checkpoint.try_send(CheckpointJob::Now(reply)).map_err(|_| PipelineError::Stopped)?;
        done.await.map_err(|_| PipelineError::Stopped)?
    }

    /// Takes no more frames and facts; what is queued is worked off.
    fn close_intake(&self) {
        self.frames.close();
        self.control.close();
        self.queue.close();
    }

    fn stop(&self) {
        self.stopping.cancel();
        self.close_intake();
        self.ended.cancel();
        self.queue.end();
        // Where there is no room for it, the thread has other work and looks up after that.
        let _ = self.checkpoint.try_send(CheckpointJob::Stop);
    }

    /// Stops everything for good, for a reason.
    fn fail(&self, failure: Failure) {
        tracing::error!(%failure, "the pipeline stops for good");
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(failure);
            first
        });
        self.stop();
    }

    /// Runs a thread of the pipeline; if it panics, the pipeline has failed.
    fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        run: impl FnOnce(Arc<Core>) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let guard = PanicGuard { core: Arc::clone(&core), name };
            run(core);
            drop(guard);
        })
    }
}

struct PanicGuard {
    core: Arc<Core>,
    name: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.drained.cancel();
            self.core.fail(Failure::Thread(self.name));
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("options", &self.options).finish_non_exhaustive()
    }
}

/// An error with what led to it, on one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
