//! The loop of supply: who is due is cut, who has paid is connected again, and either is read back from the meter.
//!
//! What is to be done is a sealed ticket of the registry ([`registry::SupplyTicket`]), so nothing is lost when the process dies;
//! how far it has come is noted before anything goes out. The two lanes know nothing of each other's queues:
//!
//! * **Cuts** (`cut`). In permitted hours a round takes who is due, spread over the hours that are left and within the
//!   [`Budget`]. Right before a ticket goes out everything is asked again, with the session open.
//! * **Reconnections** (`reconnect`). Money that comes wakes the lane at once; a round looks for what was missed. No
//!   budget, no hour and no freeze holds one back, and it is tried until the relay is read back as closed.
//!
//! What serializes them is the registry, which has one open command an account, and the meter's lease: a reconnection that
//! overtakes a cut under way waits for its session to end, and then finds what the cut did.

mod budget;
mod cut;
mod due;
mod reconnect;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use model::{AccountId, Calendar, Instant};
use registry::{By, MeterAccess, Registry, SupplyCommand, SupplyKind, SupplyState, SupplyStep, SupplyTicket};
use tokio::sync::{Notify, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::{NoContext, Timestamp, Uuid};

use crate::session::{Client, MeterSession, RelayMove, SessionError, Sessions};
use crate::telemetry::{SUPPLY_COMMANDS, SUPPLY_OPEN, SUPPLY_ROUNDS, SUPPLY_WAITING};
use crate::{Pipeline, PipelineError};

pub use budget::Budget;
pub use due::{Decided, Due, Whom, due, infos_of};

/// Who stops cuts where no person does.
const URJA: &str = "urja";

/// A meter is asked again after so many seconds, and from then on after the last of them.
const LADDER_S: [u64; 20] = [1, 2, 5, 10, 20, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 60, 60, 60, 60, 300];

/// The clock may differ by so many seconds from the time that has passed between two rounds; where it differs by more, it is not
/// known whether anything may be cut.
const CLOCK_JUMP_S: i64 = 60;

/// How far ahead of ours the clock of a meter may be, or behind it, for an event to be of this command.
const CLOCK_DRIFT_S: i64 = 900;

/// How supply is switched.
#[derive(Clone, Copy, Debug)]
pub struct SupplyOptions {
    /// Whether anybody is cut at all. Reconnections go out whatever it says.
    pub cuts: bool,
    /// Time between rounds.
    pub every: Duration,
    /// How long a ticket for a cut may be sent.
    pub ticket_s: i64,
    /// Cuts that are under way at once.
    pub cuts_at_once: usize,
    /// Reconnections that are under way at once.
    pub reconnections_at_once: usize,
    /// A reconnection that takes longer is told as late.
    pub late_s: i64,
    /// What may be cut in what time.
    pub budget: Budget,
}

impl Default for SupplyOptions {
    fn default() -> Self {
        Self {
            cuts: false,
            every: Duration::from_secs(30),
            ticket_s: 900,
            cuts_at_once: 16,
            reconnections_at_once: 64,
            late_s: 1800,
            budget: Budget::default(),
        }
    }
}

/// The loop; a clone is another handle.
#[derive(Clone)]
pub struct Supply(Arc<Core>);

struct Core {
    pipeline: Pipeline,
    registry: Registry,
    sessions: Sessions,
    calendar: Calendar,
    options: SupplyOptions,
    /// Accounts whose money has changed since the lane of reconnections looked.
    woken: Mutex<BTreeSet<AccountId>>,
    wake: Notify,
    /// Commands that somebody works on.
    under_way: Mutex<HashSet<Uuid>>,
    /// Whether the last round found too many meters silent.
    is_silent: AtomicBool,
    /// From the last question whether a cut may go out until it is noted that it does: one at a time, so that no two of them
    /// spend the same budget.
    sending: tokio::sync::Mutex<()>,
}

impl Supply {
    /// A loop that does nothing until it is [run](Supply::run).
    #[must_use]
    pub fn new(
        pipeline: Pipeline,
        registry: Registry,
        sessions: Sessions,
        calendar: Calendar,
        options: SupplyOptions,
    ) -> Supply {
        Supply(Arc::new(Core {
            pipeline,
            registry,
            sessions,
            calendar,
            options,
            woken: Mutex::default(),
            wake: Notify::new(),
            under_way: Mutex::default(),
            is_silent: AtomicBool::new(false),
            sending: tokio::sync::Mutex::default(),
        }))
    }

    /// Money of an account has changed: where it was cut, it is looked at now and not with the next round.
    pub fn wake(&self, account: AccountId) {
        self.0.woken.lock().unwrap_or_else(PoisonError::into_inner).insert(account);
        self.0.wake.notify_one();
    }

    /// Works until `stop`. What is under way with a meter then goes on with the next start.
    pub async fn run(&self, stop: CancellationToken) {
        let workers = TaskTracker::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.reconnections(&workers, &stop) => {}
            () = self.cuts(&workers, &stop) => {}
        }
        workers.close();
        workers.wait().await;
    }

    /// The lane of reconnections.
    async fn reconnections(&self, workers: &TaskTracker, stop: &CancellationToken) {
        let mut rounds = self.rounds();
        let turns = Arc::new(Turns::new(self.0.options.reconnections_at_once));
        loop {
            let woken = tokio::select! {
                () = self.0.wake.notified() => {
                    Some(std::mem::take(&mut *self.0.woken.lock().unwrap_or_else(PoisonError::into_inner)))
                }
                _ = rounds.tick() => None,
            };
            let queued = self.queue_reconnections(woken.as_ref()).await;
            // Most money comes to who has supply.
            if woken.is_some() && matches!(queued, Ok(0)) {
                continue;
            }
            tell("reconnections", queued.map(drop));
            tell("reconnections", self.launch(SupplyKind::Reconnect, &turns, workers, stop).await);
            counter!(SUPPLY_ROUNDS, "lane" => "reconnections").increment(1);
        }
    }

    /// The lane of cuts.
    async fn cuts(&self, workers: &TaskTracker, stop: &CancellationToken) {
        let mut rounds = self.rounds();
        let turns = Arc::new(Turns::new(self.0.options.cuts_at_once));
        let mut clock = self.read_clock();
        loop {
            rounds.tick().await;
            tell("clock", self.check_clock(&mut clock).await);
            tell("cuts", self.queue_cuts().await);
            tell("cuts", self.launch(SupplyKind::Cut, &turns, workers, stop).await);
            counter!(SUPPLY_ROUNDS, "lane" => "cuts").increment(1);
        }
    }

    /// Rounds, one after the other also where one took long.
    fn rounds(&self) -> tokio::time::Interval {
        let mut rounds = tokio::time::interval(self.0.options.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        rounds
    }

    fn read_clock(&self) -> ClockReading {
        let clock = self.0.pipeline.clock();
        ClockReading { says: clock.now(), at: std::time::Instant::now(), is_driven: clock.is_driven() }
    }

    /// Freezes cuts where the clock has jumped: hours, budgets and how old data is all go by it.
    async fn check_clock(&self, last: &mut ClockReading) -> Result<(), PipelineError> {
        let now = self.read_clock();
        let before = std::mem::replace(last, now);
        let passed = i64::try_from(now.at.duration_since(before.at).as_secs()).unwrap_or(i64::MAX);
        let jump = now.says.seconds() - before.says.seconds() - passed;
        let goes_by_itself = !now.is_driven && !before.is_driven;
        if !self.0.options.cuts || !goes_by_itself || jump.abs() <= CLOCK_JUMP_S {
            return Ok(());
        }
        tracing::error!(seconds = jump, "the clock has jumped: all cuts are frozen");
        self.freeze(&format!("the clock has jumped by {jump} seconds")).await
    }

    /// Gives every open command of that kind to a worker, unless one has it.
    async fn launch(
        &self,
        kind: SupplyKind,
        turns: &Arc<Turns>,
        workers: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let open = self.0.registry.open_supply(kind).await?;
        self.show(kind, &open);
        for command in open {
            let Some(held) = self.take(command.ticket.id) else { continue };
            let (supply, turns, stop) = (self.clone(), Arc::clone(turns), stop.clone());
            workers.spawn(async move {
                let _held = held;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = supply.work(&command, &turns) => {}
                }
            });
        }
        Ok(())
    }

    /// What a worker does: nothing with a ticket that is not ours.
    async fn work(&self, command: &SupplyCommand, turns: &Turns) {
        let ticket = &command.ticket;
        if !command.is_genuine {
            tracing::error!(command = %ticket.id, account = ticket.account.0, "a ticket whose seal is not genuine");
            let reason = format!("the seal of ticket {} is not genuine", ticket.id);
            tell("freeze", self.freeze(&reason).await);
            self.note(ticket, &SupplyStep::Ended(SupplyState::Refused), "its seal is not genuine").await;
            return;
        }
        match ticket.kind {
            SupplyKind::Cut => self.cut(command, &turns.first).await,
            SupplyKind::Reconnect => self.reconnect(command, turns).await,
        }
    }

    /// A command that nobody works on.
    fn take(&self, id: Uuid) -> Option<Held> {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(id).then(|| Held { id, core: Arc::clone(&self.0) })
    }

    /// Stops all cuts.
    async fn freeze(&self, reason: &str) -> Result<(), PipelineError> {
        Ok(self.0.registry.freeze_cuts(reason, By { person: URJA, at: self.now() }).await?)
    }

    /// Notes how far a command has come.
    async fn note(&self, ticket: &SupplyTicket, step: &SupplyStep, said: &str) -> Noted {
        let kind = ticket.kind.name();
        match self.0.registry.note_supply(ticket.id, step, self.now(), said).await {
            Ok(true) => {
                let word = match step {
                    SupplyStep::Tried => "tried",
                    SupplyStep::Sent => "sent",
                    SupplyStep::Ready => "ready",
                    SupplyStep::Confirmed(_) => "confirmed",
                    SupplyStep::Ended(state) => state.name(),
                };
                tracing::info!(command = %ticket.id, account = ticket.account.0, kind, step = word, said, "supply");
                counter!(SUPPLY_COMMANDS, "kind" => kind, "step" => word).increment(1);
                Noted::Done
            }
            Ok(false) => Noted::Over,
            Err(error) => {
                tracing::error!(command = %ticket.id, %error, kind, "a step of a command cannot be noted");
                Noted::Failed
            }
        }
    }

    /// A session with the meter of a command, as whom it is registered to be commanded.
    async fn open(&self, ticket: &SupplyTicket) -> Result<MeterSession, Unreached> {
        let meter = self.0.registry.meter_access_by_id(ticket.meter).await.map_err(Unreached::Registry)?;
        let meter: MeterAccess = meter.ok_or(Unreached::Unknown)?;
        Ok(self.0.sessions.open(&meter, Client::registered(&meter.asking), None).await?)
    }

    /// When the relay made that move by the meter's own log, if it did since then; what cannot be read is none.
    async fn event_of(&self, session: &mut MeterSession, what: RelayMove, since: Instant) -> Option<Instant> {
        let at = session.relay_moved(what, &self.0.calendar).await.ok().flatten()?;
        (at >= since.plus_seconds(-CLOCK_DRIFT_S)).then_some(at)
    }

    fn now(&self) -> Instant {
        self.0.pipeline.clock().now()
    }

    /// An id, by the time.
    fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.seconds()).unwrap_or_default();
        let micros = u32::try_from(now.0.rem_euclid(1_000_000)).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, micros * 1_000))
    }

    /// Open commands, and how long the oldest of them waits, for operators.
    #[allow(clippy::cast_precision_loss, reason = "a gauge")]
    fn show(&self, kind: SupplyKind, open: &[SupplyCommand]) {
        let oldest = open.iter().map(|command| command.ticket.since).min();
        let waits = oldest.map_or(0, |since| (self.now().seconds() - since.seconds()).max(0));
        gauge!(SUPPLY_OPEN, "kind" => kind.name()).set(open.len() as f64);
        gauge!(SUPPLY_WAITING, "kind" => kind.name()).set(waits as f64);
    }
}

/// What the clock says, and when by the time that passes.
#[derive(Clone, Copy)]
struct ClockReading {
    says: Instant,
    at: std::time::Instant,
    is_driven: bool,
}

/// Whether a step of a command is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// It is.
    Done,
    /// The command cannot come there any more.
    Over,
    /// The registry fails.
    Failed,
}

/// How many sessions there are at once.
struct Turns {
    first: Semaphore,
    /// Of reconnections that were tried in vain for a while.
    again: Semaphore,
}

impl Turns {
    fn new(at_once: usize) -> Turns {
        Turns { first: Semaphore::new(at_once), again: Semaphore::new(at_once) }
    }
}

/// A command that somebody works on.
struct Held {
    id: Uuid,
    core: Arc<Core>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.core.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Why a meter was not reached.
#[derive(Debug, thiserror::Error)]
enum Unreached {
    #[error("the registry fails: {0}")]
    Registry(registry::Error),
    #[error("the meter is not registered")]
    Unknown,
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// The waits between tries.
struct Ladder(usize);

impl Ladder {
    async fn wait(&mut self) {
        let step = LADDER_S[self.0.min(LADDER_S.len() - 1)];
        self.0 += 1;
        tokio::time::sleep(Duration::from_secs(step)).await;
    }
}

/// A round that fails is told and tried again.
fn tell(lane: &str, done: Result<(), PipelineError>) {
    if let Err(error) = done {
        tracing::error!(%error, lane, "a round of supply fails");
    }
}
