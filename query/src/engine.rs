//! The engine: one statement, one session, one position.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use model::{Calendar, Position};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::StartError;
use crate::gate;
use crate::interrupt::{Over, interruptible};
use crate::session::{Needs, Sessions};
use crate::tables::views::Views;
use crate::{Pinned, Pins, QueryError};

/// Longest wait for the fold to reach what was durable when a statement began.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Statements that may wait for each that may run.
const WAITING_PER_RUNNING: usize = 4;
/// Files read at a time for each thread.
const READS_PER_THREAD: usize = 8;
/// Stack of the thread that plans a statement: planning walks expressions as deep as they are nested.
const STACK_BYTES: usize = 32 << 20;

/// Limits of the engine and its place on disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for all running statements together, bytes.
    pub memory_bytes: usize,
    /// Longest run of a statement, planning, waiting for its turn and reading its rows included.
    pub timeout: Duration,
    /// Most rows of an answer; what is beyond is cut and the answer says so.
    pub max_rows: usize,
    /// Most bytes of an answer in memory; what is beyond is cut and the answer says so.
    pub max_answer_bytes: usize,
    /// Statements that run at a time; four times as many may wait for their turn.
    pub max_statements: usize,
    /// Threads of the engine, and parts a statement's work is cut into.
    pub parallelism: usize,
    /// The utility's zone, by its name in the IANA database.
    pub zone: String,
    /// Directory for intermediate results that do not fit into memory; `None`: such statements fail.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes in `spill_dir`.
    pub spill_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memory_bytes: 512 << 20,
            timeout: Duration::from_secs(30),
            max_rows: 1_000_000,
            max_answer_bytes: 256 << 20,
            max_statements: 4,
            parallelism: std::thread::available_parallelism().map_or(1, usize::from),
            zone: "Asia/Kolkata".to_owned(),
            spill_dir: None,
            spill_bytes: 2 << 30,
        }
    }
}

/// The rows of one statement.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// The position everything in the answer is as of.
    pub position: Position,
    /// Time from the call to the last row.
    pub elapsed: Duration,
    /// Whether rows were cut at [`Options::max_rows`] or [`Options::max_answer_bytes`].
    pub truncated: bool,
}

impl Answer {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Answers statements.
///
/// Each statement has a session of its own over one shared runtime of DataFusion (memory, spill files, cached footers)
/// and sees only the tables it names, at one position. It is planned and driven on a thread of its own, so that a
/// plan that takes long to make keeps nobody else waiting, and what it spawns runs on threads of the engine's own:
/// statements may keep all of these busy up to their time limit, and nobody else must notice.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Threads,
}

/// The threads statements work on. When they go, what still runs on them is let go, not waited for.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: usize) -> Result<Threads, StartError> {
        let runtime = Builder::new_multi_thread()
            .thread_name("sql-work")
            .worker_threads(count.max(1))
            .max_blocking_threads(READS_PER_THREAD * count.max(1))
            .enable_time()
            .build();
        runtime.map(|runtime| Threads(Some(runtime))).map_err(|error| StartError::Runtime(error.to_string()))
    }

    fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Shared {
    pins: Arc<dyn Pins>,
    options: Options,
    sessions: Sessions,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Engine {
    /// An engine over what `pins` gives.
    ///
    /// # Errors
    /// When the zone is unknown or the directory for intermediate results cannot be used.
    pub fn new(pins: Arc<dyn Pins>, options: Options) -> Result<Engine, StartError> {
        let calendar = Calendar::new(&options.zone)?;
        let views = Views::load().map_err(StartError::View)?;
        let sessions = Sessions::new(&options, calendar, views)
            .map_err(|error| StartError::Runtime(error.strip_backtrace()))?;
        let threads = Threads::start(options.parallelism)?;
        let places = Arc::new(Semaphore::new(options.max_statements));
        let shared = Shared { pins, options, sessions, places, waiting: AtomicUsize::new(0) };
        Ok(Engine { shared: Arc::new(shared), threads })
    }

    /// The limits it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Answers one statement. Dropping the future cancels it.
    ///
    /// # Errors
    /// See [`QueryError`]: whatever is wrong, nothing was changed, and no part of an answer is given.
    pub async fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        let started = Instant::now();
        let timeout = self.shared.options.timeout;
        let answer = tokio::time::timeout(timeout, self.answer(sql, started)).await;
        let answer = match answer {
            Ok(Err(_)) if started.elapsed() >= timeout => Err(QueryError::Timeout(timeout)),
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Timeout(timeout)),
        };
        record(&answer, started.elapsed());
        answer
    }

    async fn answer(&self, sql: &str, started: Instant) -> Result<Answer, QueryError> {
        let admitted = gate::admit(sql, &|table| self.shared.sessions.views().weight(table))?;
        let needs = self.shared.sessions.needs(admitted.mentions.tables);
        let place = self.place().await?;
        let pinned = self.shared.pins.pin(needs.wants, LONGEST_WAIT).await?;
        let runtime =
            self.threads.handle().ok_or_else(|| QueryError::Internal("the threads are gone".to_owned()))?;
        let over = Over::at(started + self.shared.options.timeout);
        let _when_dropped = over.when_dropped();
        let shared = Arc::clone(&self.shared);
        let run = Run { shared, statement: admitted.statement, needs, pinned, over, started };
        run.on_its_own_thread(place, runtime).await
    }

    /// Waits for a place among the running statements; refuses where too many wait already.
    async fn place(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let running = self.shared.options.max_statements;
        let most = running * WAITING_PER_RUNNING;
        if let Ok(place) = Arc::clone(&self.shared.places).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting =
            Waiting::enter(&self.shared.waiting, most).ok_or(QueryError::Busy { running, waiting: most })?;
        Arc::clone(&self.shared.places)
            .acquire_owned()
            .await
            .map_err(|_| QueryError::Internal("no statement is let in any more".to_owned()))
    }
}

/// A statement in the queue; leaves it when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn enter(waiting: &AtomicUsize, most: usize) -> Option<Waiting<'_>> {
        let more = |now: usize| (now < most).then_some(now + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Waiting(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A statement that is let in and pinned.
struct Run {
    shared: Arc<Shared>,
    statement: Statement,
    needs: Needs,
    pinned: Pinned,
    over: Over,
    started: Instant,
}

impl Run {
    /// The place is given back when the thread ends, so that a statement which cannot be stopped at once still counts.
    async fn on_its_own_thread(
        self,
        place: OwnedSemaphorePermit,
        runtime: Handle,
    ) -> Result<Answer, QueryError> {
        let (answered, answer) = oneshot::channel();
        let work = move || {
            let _place = place;
            runtime.block_on(async move {
                let mut answered = answered;
                tokio::select! {
                    biased;
                    () = answered.closed() => {}
                    answer = self.run() => drop(answered.send(answer)),
                }
            });
        };
        std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map_err(|error| QueryError::Internal(format!("no thread for the statement: {error}")))?;
        answer.await.unwrap_or_else(|_| Err(QueryError::Internal("the statement's thread ended".to_owned())))
    }

    async fn run(self) -> Result<Answer, QueryError> {
        let state = self.shared.sessions.open(&self.needs, &self.pinned).await?;
        let position = self.pinned.position;
        drop(self.pinned);
        let (schema, batches, truncated) =
            rows(&state, self.statement, &self.over, &self.shared.options).await?;
        Ok(Answer { schema, batches, position, elapsed: self.started.elapsed(), truncated })
    }
}

async fn rows(
    state: &SessionState,
    statement: Statement,
    over: &Over,
    options: &Options,
) -> Result<(SchemaRef, Vec<RecordBatch>, bool), QueryError> {
    let plan = state.statement_to_plan(statement).await?;
    let only_questions =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_questions.verify_plan(&plan).map_err(|error| QueryError::Refused(error.strip_backtrace()))?;
    let plan = interruptible(state.create_physical_plan(&plan).await?, over)?;
    let mut stream = execute_stream(plan, state.task_ctx())?;
    let schema = stream.schema();
    let mut kept = Kept::new(options);
    while let Some(batch) = stream.next().await {
        if !kept.take(batch?) {
            return Ok((schema, kept.batches, true));
        }
    }
    Ok((schema, kept.batches, false))
}

/// The rows of an answer up to its bounds.
struct Kept {
    batches: Vec<RecordBatch>,
    rows_left: usize,
    bytes_left: usize,
}

impl Kept {
    fn new(options: &Options) -> Kept {
        Kept { batches: Vec::new(), rows_left: options.max_rows, bytes_left: options.max_answer_bytes }
    }

    /// Takes a batch; false when some of it had to be left out.
    fn take(&mut self, batch: RecordBatch) -> bool {
        let rows = batch.num_rows();
        let bytes: usize =
            batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        if bytes > self.bytes_left {
            return false;
        }
        let fits = rows <= self.rows_left;
        let batch = if fits { batch } else { batch.slice(0, self.rows_left) };
        self.rows_left -= batch.num_rows();
        self.bytes_left -= bytes;
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
        fits
    }
}

fn record(answer: &Result<Answer, QueryError>, elapsed: Duration) {
    let outcome = match answer {
        Ok(_) => "answered",
        Err(error) => error.kind(),
    };
    metrics::counter!("urja_sql_statements_total", "outcome" => outcome).increment(1);
    metrics::histogram!("urja_sql_statement_seconds").record(elapsed.as_secs_f64());
    match answer {
        Ok(answer) => {
            let rows = answer.rows();
            metrics::counter!("urja_sql_rows_total").increment(rows as u64);
            tracing::debug!(
                rows,
                truncated = answer.truncated,
                position = answer.position.0,
                ?elapsed,
                "statement answered"
            );
        }
        Err(QueryError::Internal(fault)) => {
            tracing::error!(fault, ?elapsed, "statement failed by a fault of ours")
        }
        Err(error) => tracing::debug!(outcome, %error, ?elapsed, "statement not answered"),
    }
}
