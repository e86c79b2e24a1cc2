//! Opening a partition: journal, checkpoint, replay, then threads, outbox, keys and missed days.

use std::sync::{Arc, Mutex};

use journal::{GroupView, Journal, Recovery};
use ledger::{CounterWindow, Fold, FoldError, Limits};
use model::{DecodeError, Position, Record};
use profiles::Profile;
use registry::{FIRST_KEY_EPOCH, Registry, WaitingFrame};
use state::Checkpoint;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::checkpoint::{self, CHECKPOINT_JOBS, CheckpointThread};
use super::fold::{Applier, FoldThread};
use super::journal_thread::JournalThread;
use super::resolver::Resolver;
use super::stats::{Gauges, publish};
use super::{
    CONTROL_FACTS, Core, FOLD_GROUPS, MAX_RECORD_BYTES, Owner, Pipeline, PipelineError, PipelineOptions,
    WAITING_BATCHES, days, waiting,
};
use crate::clock::Clock;
use crate::judge::Judge;
use crate::keys::KeyTable;
use crate::lake::{BoxError, Lake};
use crate::print::Keyed;
use crate::queue::Queue;

/// Groups between two words on progress.
const PROGRESS_GROUPS: u64 = 256;

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Last record applied.
    pub position: Position,
    /// Last record of the journal.
    pub last: Position,
}

/// Why a partition cannot be opened. Nothing is changed by trying, but for a torn tail of the journal.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The journal cannot be opened or read.
    #[error("the journal cannot be read")]
    Journal(#[from] journal::Error),
    /// Groups as large as the options say do not fit into a segment.
    #[error(
        "groups of {group_bytes} bytes and one record more do not fit into a journal segment of {limit} bytes"
    )]
    GroupBytes {
        /// The option.
        group_bytes: usize,
        /// What fits.
        limit: u64,
    },
    /// A record of the journal cannot be decoded.
    #[error("record {position} cannot be decoded: {reason}")]
    Record {
        /// The record.
        position: Position,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// The checkpoint cannot be read.
    #[error("the checkpoint cannot be read")]
    Checkpoint(#[from] state::Error),
    /// The state in the checkpoint cannot be taken over.
    #[error("the state at {position} cannot be taken over: {reason}")]
    State {
        /// The checkpoint's position.
        position: Position,
        /// What the ledger says.
        reason: FoldError,
    },
    /// The journal ends before the checkpoint: it was lost or is another one's.
    #[error("the journal ends at {last}, before the checkpoint at {checkpoint}; is it another partition's?")]
    JournalBehind {
        /// End of the journal.
        last: Position,
        /// Position of the checkpoint.
        checkpoint: Position,
    },
    /// The lake holds less than the checkpoint says is committed.
    #[error(
        "the lake is committed up to {committed}, before the checkpoint at {checkpoint}; restore it or rebuild"
    )]
    LakeBehind {
        /// What the lake holds.
        committed: Position,
        /// Position of the checkpoint.
        checkpoint: Position,
    },
    /// The lake holds more than the journal.
    #[error("the lake is committed up to {committed}, beyond the end of the journal at {last}")]
    LakeAhead {
        /// What the lake holds.
        committed: Position,
        /// End of the journal.
        last: Position,
    },
    /// A checkpoint stands inside of a group.
    #[error("the checkpoint at {checkpoint} splits the journal group that begins at {first}")]
    SplitGroup {
        /// Position of the checkpoint.
        checkpoint: Position,
        /// First record of the group.
        first: Position,
    },
    /// A record cannot be applied.
    #[error("a record cannot be applied")]
    Fold(#[from] FoldError),
    /// The lake cannot be committed during the replay.
    #[error("the lake cannot be committed")]
    Lake(#[source] BoxError),
    /// The outbox cannot be drained, keys not be read, or days not be closed.
    #[error("registrations and days missed cannot be caught up on")]
    CatchUp(#[from] PipelineError),
    /// The registry fails.
    #[error("the registry fails")]
    Registry(#[from] registry::Error),
}

impl Pipeline {
    /// Opens the partition in `options.data_dir`: finds the end of the journal, reads the checkpoint, replays what
    /// follows it, drains the outbox and closes the days that were missed. When it returns, frames can be submitted.
    ///
    /// # Errors
    /// When files are damaged, do not belong together, or cannot be read.
    pub async fn start(
        options: PipelineOptions,
        clock: Arc<dyn Clock>,
        lake: Arc<dyn Lake>,
        registry: Registry,
        profiles: Arc<[Profile]>,
    ) -> Result<Pipeline, StartError> {
        let (opener, to_open) = (options.clone(), Arc::clone(&lake));
        let opened = tokio::task::spawn_blocking(move || open(&opener, to_open)).await;
        let mut opened = opened.map_err(|panic| StartError::Thread(std::io::Error::other(panic)))??;
        registry.put_waiting(std::mem::take(&mut opened.waiting)).await?;
        let pipeline = start_threads(options, clock, lake, registry, profiles, opened)?;
        let core = &pipeline.core;
        core.drain_outbox().await?;
        let meters = core.load_keys(None).await?;
        let closed = core.close_due_days().await?;
        let taken = core.take_waiting_in().await?;
        let position = super::stats::position(&core.gauges.durable).0;
        tracing::info!(position, meters, days_closed = closed.len(), waiting_taken = taken, "partition open");
        tokio::spawn(days::close_by_clock(Arc::clone(core)));
        Ok(pipeline)
    }
}

/// A partition whose state is at the end of its journal.
struct Opened {
    journal: Journal,
    applier: Applier,
    judge: Judge,
    keyed: Keyed,
    checkpoint: Position,
    /// Frames of unknown titles that the replay met.
    waiting: Vec<WaitingFrame>,
}

fn open(options: &PipelineOptions, lake: Arc<dyn Lake>) -> Result<Opened, StartError> {
    let dir = options.data_dir.join("journal");
    let (journal, recovery) = Journal::open(&dir, options.journal.clone())?;
    log_recovery(&recovery);
    let limit = journal.max_group_bytes();
    // While the disk is full, a group of frames may wait and as much of control facts may come on top.
    if (2 * options.group_bytes + MAX_RECORD_BYTES) as u64 > limit {
        return Err(StartError::GroupBytes { group_bytes: options.group_bytes, limit });
    }
    let keyed = Keyed::new();
    let (checkpoint, fold) = read_checkpoint(options)?;
    check_positions(recovery.last, checkpoint, lake.committed())?;
    let mut replayer = Replayer {
        options,
        checkpoint,
        last: recovery.last,
        remembered: Position(0),
        applier: Applier::new(fold, lake),
        judge: Judge::new(options.remembered_frames, options.evidence, keyed),
        waiting: Vec::new(),
    };
    replayer.run(&dir, first_position(&journal))?;
    let Replayer { applier, mut judge, waiting, .. } = replayer;
    // A window under first keys that has accepted nothing says no more than none at all.
    let says_nothing = |window: &CounterWindow| window.is_empty() && window.key_epoch <= FIRST_KEY_EPOCH;
    for (meter, window) in applier.fold.counter_windows().filter(|(_, window)| !says_nothing(window)) {
        judge.seed_window(meter, window);
    }
    Ok(Opened { journal, applier, judge, keyed, checkpoint, waiting })
}

fn log_recovery(recovery: &Recovery) {
    if let Some(cut) = &recovery.cut {
        let (segment, offset, bytes) = (cut.segment.display(), cut.offset, cut.bytes);
        tracing::warn!(%segment, offset, bytes, reason = %cut.reason, "torn tail of the journal cut");
    }
    let (last, durable) = (recovery.last.0, recovery.durable_upto.0);
    tracing::info!(last, durable, created = recovery.created, "journal open");
}

fn first_position(journal: &Journal) -> Position {
    journal.segments().first().map_or(Position(1), |segment| segment.first)
}

fn read_checkpoint(options: &PipelineOptions) -> Result<(Position, Fold), StartError> {
    let limits = Limits { late_days: options.late_days, ..Limits::default() };
    let calendar = options.calendar.clone();
    let Some(Checkpoint { position, sections, .. }) = state::latest(&checkpoint::checkpoint_dir(options))?
    else {
        return Ok((Position(0), Fold::new(calendar, limits)));
    };
    let fold = Fold::from_sections(calendar, limits, &sections)
        .map_err(|reason| StartError::State { position, reason })?;
    Ok((position, fold))
}

fn check_positions(last: Position, checkpoint: Position, committed: Position) -> Result<(), StartError> {
    if last < checkpoint {
        return Err(StartError::JournalBehind { last, checkpoint });
    }
    if committed < checkpoint {
        return Err(StartError::LakeBehind { committed, checkpoint });
    }
    if committed > last {
        return Err(StartError::LakeAhead { committed, last });
    }
    Ok(())
}

/// Reads the journal from where memory of frames is to begin, and applies what lies after the checkpoint.
struct Replayer<'a> {
    options: &'a PipelineOptions,
    checkpoint: Position,
    last: Position,
    /// Frames after it are remembered.
    remembered: Position,
    applier: Applier,
    judge: Judge,
    waiting: Vec<WaitingFrame>,
}

impl Replayer<'_> {
    fn run(&mut self, dir: &std::path::Path, first: Position) -> Result<(), StartError> {
        let remembered = self.last.0.saturating_sub(self.options.remembered_frames as u64);
        // Memory begins no earlier than the journal does; the state must begin where the checkpoint says.
        let remembered = remembered.max(first.0.saturating_sub(1));
        self.remembered = Position(remembered);
        let after = Position(remembered.min(self.checkpoint.0));
        for (number, group) in (0_u64..).zip(journal::read(dir, after)?) {
            self.group(&group?)?;
            if number % PROGRESS_GROUPS == 0 {
                self.tell();
            }
        }
        self.tell();
        Ok(())
    }

    fn group(&mut self, group: &GroupView) -> Result<(), StartError> {
        let mut records = Vec::new();
        for (position, bytes) in group.records() {
            let record =
                Record::decode(position, bytes).map_err(|reason| StartError::Record { position, reason })?;
            if position > self.remembered {
                self.judge.seed_record(&record.fact);
            }
            if position > self.checkpoint {
                records.push(record);
            }
        }
        let first = group.header.first_position;
        match records.first() {
            None => return Ok(()),
            Some(record) if record.position != first => {
                return Err(StartError::SplitGroup { checkpoint: self.checkpoint, first });
            }
            Some(_) => {}
        }
        let effects = self.applier.group(&group.header.counts, &records, 0)?;
        self.waiting.extend(effects.waiting);
        // A replay of any length takes no more memory than this.
        if self.applier.lake.hot_bytes() >= self.options.commit_bytes {
            self.applier.lake.commit_at_once(self.applier.fold.position()).map_err(StartError::Lake)?;
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(progress) = &self.options.progress {
            progress(Replay { position: self.applier.fold.position(), last: self.last });
        }
    }
}

fn start_threads(
    options: PipelineOptions,
    clock: Arc<dyn Clock>,
    lake: Arc<dyn Lake>,
    registry: Registry,
    profiles: Arc<[Profile]>,
    opened: Opened,
) -> Result<Pipeline, StartError> {
    let Opened { journal, applier, judge, keyed, checkpoint, .. } = opened;
    let (fold, fold_jobs) = mpsc::channel(FOLD_GROUPS);
    let (waiting, waiting_jobs) = mpsc::channel(WAITING_BATCHES);
    let (checkpoints, checkpoint_jobs) = std::sync::mpsc::sync_channel(CHECKPOINT_JOBS);
    let (contested, contested_readings) = std::sync::mpsc::channel();
    let gauges = Gauges::default();
    publish(&gauges.durable, applier.fold.position());
    publish(&gauges.folded, applier.fold.position());
    publish(&gauges.checkpoint, checkpoint);
    let core = Arc::new(Core {
        frames: Arc::new(Semaphore::new(options.queue_bytes)),
        control: Arc::new(Semaphore::new(CONTROL_FACTS)),
        options,
        clock,
        lake,
        registry,
        profiles,
        keys: KeyTable::new(),
        keyed,
        queue: Queue::default(),
        fold,
        waiting,
        checkpoint: checkpoints,
        gauges,
        failed: watch::Sender::new(None),
        stopping: CancellationToken::new(),
        drained: CancellationToken::new(),
        ended: CancellationToken::new(),
        outbox_turn: tokio::sync::Mutex::default(),
        waiting_turn: tokio::sync::Mutex::default(),
        days_turn: tokio::sync::Mutex::default(),
        checkpoint_turn: tokio::sync::Mutex::default(),
    });
    // From here on the handle stops what was started.
    let owner = Arc::new(Owner { core: Arc::clone(&core), threads: Mutex::default() });
    let pipeline = Pipeline { core: Arc::clone(&core), owner: Arc::clone(&owner) };
    let runtime = tokio::runtime::Handle::current();
    tokio::spawn(waiting::store(Arc::clone(&core), waiting_jobs));
    let threads = [
        core.spawn("journal", move |core| JournalThread::new(core, journal, judge).run()),
        core.spawn("fold", move |core| {
            FoldThread { core, applier, jobs: fold_jobs, contested }.run();
        }),
        core.spawn("resolver", move |core| Resolver { core, contested: contested_readings, runtime }.run()),
        core.spawn("lake", move |core| CheckpointThread { core, jobs: checkpoint_jobs }.run()),
    ];
    let mut running = owner.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut failed = None;
    for thread in threads {
        match thread {
            Ok(thread) => running.push(thread),
            Err(error) => failed = Some(error),
        }
    }
    drop(running);
    match failed {
        None => Ok(pipeline),
        Some(error) => Err(StartError::Thread(error)),
    }
}
