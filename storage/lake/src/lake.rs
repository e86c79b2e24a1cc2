//! The handle to the lake: hot buffer, commits and snapshots.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use model::{Calendar, CivilDay, Instant, MeterId, Position, Rank, ReadingKind, Row, Values};

use crate::column::Press;
use crate::delta::{Delta, Runtime};
use crate::disk::Disk;
use crate::file::{self, Written};
use crate::hot::{Chunk, Cut, Hot};
use crate::open::{self, Opened};
use crate::sidecar::Described;
use crate::{Error, Fault, Table, gather, lookup, order, verify};

/// How the lake writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Application id under which each table keeps its position, one for each partition of the head-end.
    pub app_id: String,
    /// Level of zstd.
    pub zstd_level: i32,
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// Rows of a page at most.
    pub page_rows: usize,
    /// Versions of a table between two checkpoints of its log.
    pub checkpoint_interval: u64,
    /// How integers are written.
    pub integers: IntegerEncoding,
    /// Pause after each quarter of a millisecond of work on pages, so that threads that a sender waits for get the core at
    /// once: the scheduler leaves it to one that computes for milliseconds.
    pub pause: Duration,
    /// Bytes of hot rows from which on there is no pause.
    pub hurry_bytes: usize,
    /// Threads that make files when somebody waits for them.
    pub threads: usize,
}

/// How the integers of a Parquet file are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegerEncoding {
    /// DELTA_BINARY_PACKED: every reader knows it.
    #[default]
    DeltaBinaryPacked,
    /// BYTE_STREAM_SPLIT: smaller for some columns, refused by readers that know it for floats only.
    ByteStreamSplit,
}

/// More of them would wait for the one that appends.
const MAX_THREADS: usize = 8;

impl Default for Options {
    fn default() -> Options {
        Options {
            app_id: "urja/partition-0".to_owned(),
            zstd_level: 3,
            row_group_rows: 128 * 1024,
            page_rows: 16 * 1024,
            checkpoint_interval: 32,
            integers: IntegerEncoding::default(),
            pause: Duration::from_micros(200),
            hurry_bytes: 256 << 20,
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
        }
    }
}

/// The hot buffer and the Delta tables of one data directory. Cheap to clone; every clone is the same lake.
#[derive(Clone)]
pub struct Lake(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) calendar: Calendar,
    options: Options,
    runtime: Runtime,
    pub(crate) disk: Disk,
    state: Mutex<State>,
    /// Bytes of the hot rows, for those who ask often and are not to wait for the state.
    hot_bytes: Arc<AtomicUsize>,
    /// Held while committing; what it protects only a commit changes.
    committer: Mutex<Committer>,
}

/// What a reader sees; changed in one step.
#[derive(Debug)]
struct State {
    hot: Hot,
    tables: Vec<Durable>,
}

/// What a table's files hold.
#[derive(Clone, Debug)]
struct Durable {
    version: i64,
    committed: Position,
    files: Arc<[DataFile]>,
}

struct Committer {
    tables: Vec<Delta>,
    /// One for each thread that makes files.
    presses: Vec<Press>,
    /// Tables in whose folders a commit that failed may have left files.
    littered: BTreeSet<Table>,
    /// Tables whose last checkpoint of the log could not be written.
    owed: BTreeSet<Table>,
    /// Set when a commit failed where only a new start can tell what is on disk.
    halted: bool,
}

/// A table's files and hot rows, taken in one step.
pub(crate) struct View {
    pub(crate) files: Arc<[DataFile]>,
    pub(crate) chunks: Vec<Arc<Chunk>>,
}

/// One atomic view of all tables.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Last record whose rows are in it.
    pub position: Position,
    /// The tables, by index.
    pub tables: Vec<TableSnapshot>,
}

impl Snapshot {
    /// The view of one table.
    #[must_use]
    pub fn table(&self, table: Table) -> &TableSnapshot {
        &self.tables[table.index()]
    }
}

/// A table in a [`Snapshot`]: its rows are those of the files and those of the hot batches, each once.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    /// The table.
    pub table: Table,
    /// Its columns; also those of the hot batches.
    pub schema: SchemaRef,
    /// Version of the Delta table.
    pub version: i64,
    /// Last record whose rows are in the files.
    pub committed: Position,
    /// Files of that version.
    pub files: Arc<[DataFile]>,
    /// Rows that are not in files yet.
    pub hot: Vec<RecordBatch>,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Its length, bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its partition, as days since 1970.
    pub usage_date: Option<i32>,
    /// Lowest meter, where the table has meters.
    pub meter_min: Option<i64>,
    /// Highest meter.
    pub meter_max: Option<i64>,
    /// Lowest value of [`Table::time_column`], microseconds since 1970.
    pub time_min: Option<i64>,
    /// Highest value of it.
    pub time_max: Option<i64>,
    /// Lowest position.
    pub position_min: i64,
    /// Highest position.
    pub position_max: i64,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReport {
    /// Every table holds its rows up to here.
    pub position: Position,
    /// The tables that were not there yet.
    pub tables: Vec<TableCommit>,
}

/// What a commit did in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCommit {
    /// The table.
    pub table: Table,
    /// Its version now.
    pub version: i64,
    /// Files written.
    pub files: usize,
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// State of one table, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The table.
    pub table: Table,
    /// Version of the Delta table.
    pub version: i64,
    /// Last record whose rows are in the files.
    pub committed: Position,
    /// Number of files.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows that are not in files yet.
    pub hot_rows: u64,
    /// First civil day in the files.
    pub first_date: Option<CivilDay>,
    /// Last civil day in the files.
    pub last_date: Option<CivilDay>,
}

/// What a re-reading of everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files read: data files, log entries, checkpoints and sidecars.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is not as it was written.
    pub differences: Vec<Difference>,
    /// What a commit, or a checkpoint of a log, left that did not finish, and hints that are not there: whoever opens the
    /// lake sets aside what there is, and nothing is lost.
    pub unfinished: Vec<PathBuf>,
    /// How far each table got that could be looked at.
    pub tables: Vec<TablePosition>,
}

/// How far a table got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePosition {
    /// The table.
    pub table: Table,
    /// Last record whose rows are in it, by its last sound sidecar.
    pub position: Option<Position>,
}

impl VerifyReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: Table,
    /// The file; absolute.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// One value of a reading's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What decides between the values of a key.
    pub rank: Rank,
    /// The channels.
    pub values: Values,
    /// Whether it was the first of its key.
    pub first: bool,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("committed", &self.committed()).finish_non_exhaustive()
    }
}

impl Lake {
    /// Opens the tables under `dir`, and makes those that are not there. What a crash left above the last synced
    /// commit is set aside; its rows come again from the journal, since [`Lake::committed`] is below them.
    ///
    /// # Errors
    /// When a file that was synced is damaged or missing, when a table has other columns, or when another program
    /// wrote a table.
    pub fn open(dir: &Path, calendar: Calendar, options: Options) -> Result<Lake, Error> {
        Lake::open_on(Disk::default(), dir, calendar, options)
    }

    pub(crate) fn open_on(
        disk: Disk,
        dir: &Path,
        calendar: Calendar,
        options: Options,
    ) -> Result<Lake, Error> {
        disk.create_dir(dir)?;
        let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
        let runtime = Runtime::new()?;
        let open = |table: Table| open::open(&disk, &runtime, &options, table, &dir.join(table.name()));
        let opened = Table::ALL.into_iter().map(open).collect::<Result<Vec<Opened>, Error>>()?;
        let durable = |opened: &Opened| Durable {
            version: opened.version,
            committed: opened.committed,
            files: opened.files.as_slice().into(),
        };
        let tables: Vec<Durable> = opened.iter().map(durable).collect();
        let state = State { hot: Hot::new(lowest(&tables)), tables };
        let tables = opened.into_iter().map(|opened| opened.delta).collect();
        let hot_bytes = Arc::new(AtomicUsize::new(0));
        let presses = (0..options.threads.max(1))
            .map(|_| Press::new(&options, Arc::clone(&hot_bytes)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::io("make a compressor for", &dir))?;
        let committer =
            Committer { tables, presses, littered: BTreeSet::new(), owed: BTreeSet::new(), halted: false };
        Ok(Lake(Arc::new(Inner {
            calendar,
            options,
            runtime,
            disk,
            state: Mutex::new(state),
            hot_bytes,
            committer: Mutex::new(committer),
        })))
    }

    /// The last record whose rows are in the files of every table. Replay starts after it, or before: what a table
    /// holds already is dropped.
    #[must_use]
    pub fn committed(&self) -> Position {
        lowest(&self.0.state().tables)
    }

    /// Takes the rows of the records after the last call's `upto` up to this one; they are seen by the next
    /// [`Lake::snapshot`]. It is called for each journal group, also for one without rows, by the fold's thread only,
    /// and moves the rows without looking at them. Rows that a table holds already are dropped.
    pub fn absorb(&self, rows: Vec<Row>, upto: Position) {
        let mut state = self.0.state();
        let State { hot, tables } = &mut *state;
        hot.absorb(rows, upto, |table| tables[table.index()].committed);
        self.0.hot_bytes.store(hot.bytes(), Ordering::Relaxed);
    }

    /// Bytes the hot buffer takes, about.
    #[must_use]
    pub fn hot_bytes(&self) -> usize {
        self.0.hot_bytes.load(Ordering::Relaxed)
    }

    /// Writes every table's rows up to `upto`, the end of an absorbed group; a table without rows makes a commit that
    /// only moves its position, and one that is there already none. When it returns, everything is synced: data files,
    /// their directories, log entries, their directory, sidecars. Blocking, from any thread; one at a time.
    ///
    /// # Errors
    /// [`Error::is_fatal`] says whether it asks for a new start, as after a failed sync. After any other error, as a
    /// full disk, nothing has changed for the tables that were not committed, and it may be called again.
    pub fn commit(&self, upto: Position) -> Result<CommitReport, Error> {
        self.commit_with(upto, false)
    }

    /// The same for a caller who waits for it: on [`Options::threads`] threads and without pauses, where
    /// [`Lake::commit`] leaves the cores to others.
    ///
    /// # Errors
    /// As [`Lake::commit`].
    pub fn commit_at_once(&self, upto: Position) -> Result<CommitReport, Error> {
        self.commit_with(upto, true)
    }

    fn commit_with(&self, upto: Position, is_awaited: bool) -> Result<CommitReport, Error> {
        let mut committer = self.0.committer.lock().unwrap_or_else(PoisonError::into_inner);
        if committer.halted {
            return Err(Error::Halted);
        }
        committer.presses.iter_mut().for_each(|press| press.begin(is_awaited));
        let threads = if is_awaited { committer.presses.len() } else { 1 };
        let mut report = CommitReport { position: upto, tables: Vec::new() };
        for table in Table::ALL {
            let Some(work) = self.0.begin(table, upto)? else { continue };
            // Until the table's part is over it is not known what is on disk.
            committer.halted = true;
            let result = self.0.commit_tidily(&mut committer, threads, &work, upto);
            committer.halted = result.as_ref().is_err_and(Error::is_fatal);
            report.tables.push(result?);
        }
        self.0.state().hot.forget_group_ends(upto);
        Ok(report)
    }

    /// One atomic view: position, versions, files and hot rows belong together, whatever is absorbed or committed
    /// meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.freeze().snapshot()
    }

    /// The same view in a moment: its hot rows are no columns yet.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let mut state = self.0.state();
        let tables = Table::ALL
            .into_iter()
            .map(|table| (table, state.tables[table.index()].clone(), state.hot.chunks(table)))
            .collect();
        Frozen { position: state.hot.upto(), tables }
    }

    /// All values of one reading's key: the first and its revisions, from the hot rows and the files.
    ///
    /// # Errors
    /// When a file cannot be read, or the frame of the first value is not there.
    pub fn versions(&self, meter: MeterId, kind: ReadingKind, end: Instant) -> Result<Vec<Version>, Error> {
        lookup::versions(&self.0, meter, kind, end)
    }

    /// Highest demand of the intervals in force that end in (`from`, `to`], without the one that ends at
    /// `without_end`: energy of the interval times 3600 through `period_s`, in W, rounded down. Values that came too
    /// late to be charged, or ahead of their time, do not count.
    ///
    /// # Errors
    /// When a file cannot be read, or the frame of a value is not there.
    pub fn demand_w(
        &self,
        meter: MeterId,
        from: Instant,
        to: Instant,
        period_s: u32,
        without_end: Instant,
    ) -> Result<Option<i64>, Error> {
        lookup::demand_w(&self.0, meter, (from, to), period_s, without_end)
    }

    /// State of every table.
    #[must_use]
    pub fn inspect(&self) -> Vec<TableInfo> {
        let state = self.0.state();
        Table::ALL.into_iter().map(|table| self.0.describe(table, &state)).collect()
    }

    /// Reads everything again, each file of each version, and compares it with the sidecars. It may run while the lake
    /// is written: it looks at what is there when it begins.
    #[must_use]
    pub fn verify(&self) -> VerifyReport {
        let mut report = VerifyReport::default();
        let scopes: Vec<_> = {
            // Between commits the folders and the sidecars agree.
            let committer = self.0.committer.lock().unwrap_or_else(PoisonError::into_inner);
            committer
                .tables
                .iter()
                .map(|delta| (delta.table, delta.dir.clone(), verify::Scope::new(delta.table, &delta.dir)))
                .collect()
        };
        for (table, dir, scope) in scopes {
            match scope {
                Ok(scope) => scope.verify(verify::State::Settled, &mut report, &mut |_| ()),
                Err(error) => report.unreadable(table, &dir, &error),
            }
        }
        report
    }
}

/// One atomic view of all tables, which moves no more.
pub struct Frozen {
    position: Position,
    tables: Vec<(Table, Durable, Vec<Arc<Chunk>>)>,
}

impl Frozen {
    /// Makes columns of the hot rows that have none yet, which takes its time.
    #[must_use]
    pub fn snapshot(self) -> Snapshot {
        let tables = self.tables.into_iter().map(|(table, durable, chunks)| TableSnapshot {
            table,
            schema: table.schema(),
            version: durable.version,
            committed: durable.committed,
            files: durable.files,
            hot: chunks.iter().map(|chunk| chunk.batch()).collect(),
        });
        Snapshot { position: self.position, tables: tables.collect() }
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("position", &self.position).finish_non_exhaustive()
    }
}

/// What a commit does in one table, decided before anything is written.
struct Work {
    table: Table,
    version: i64,
    before: Position,
    cut: Cut,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files and hot rows of some tables, taken in one step.
    pub(crate) fn view<const N: usize>(&self, tables: [Table; N]) -> [View; N] {
        let mut state = self.state();
        tables.map(|table| View {
            files: Arc::clone(&state.tables[table.index()].files),
            chunks: state.hot.chunks(table),
        })
    }

    /// What is to be done in a table, if anything.
    fn begin(&self, table: Table, upto: Position) -> Result<Option<Work>, Error> {
        let mut state = self.state();
        let Durable { version, committed, .. } = state.tables[table.index()];
        if committed >= upto {
            return Ok(None);
        }
        state.hot.check(upto)?;
        let cut = state.hot.cut(table, upto);
        Ok(Some(Work { table, version: version + 1, before: committed, cut }))
    }

    /// One table's part of a commit. What an attempt that failed has left is removed first: this one takes the same
    /// version.
    fn commit_tidily(
        &self,
        committer: &mut Committer,
        threads: usize,
        work: &Work,
        upto: Position,
    ) -> Result<TableCommit, Error> {
        let Committer { tables, presses, littered, owed, .. } = committer;
        let (table, delta) = (work.table, &tables[work.table.index()]);
        if !littered.insert(table) {
            let Durable { version, committed, files } = self.state().tables[table.index()].clone();
            open::remove_unfinished(&self.disk, delta, version, &files, committed)?;
        }
        let report = self.commit_table(delta, &mut presses[..threads], work, upto)?;
        littered.remove(&table);
        let interval = self.options.checkpoint_interval.max(1);
        if owed.contains(&table) || (work.version.unsigned_abs() + 1).is_multiple_of(interval) {
            owed.insert(table);
            if self.checkpoint_log(delta, work.version, upto)? {
                owed.remove(&table);
            }
        }
        Ok(report)
    }

    fn commit_table(
        &self,
        delta: &Delta,
        presses: &mut [Press],
        work: &Work,
        upto: Position,
    ) -> Result<TableCommit, Error> {
        let written = self.write_files(delta, presses, work, upto)?;
        let entry = delta.append(&self.runtime, &self.options, work.version, upto, &written)?;
        let entry = Described::of_bytes(Delta::entry_name(work.version), &entry);
        let describe = |written: &Written| Described {
            path: written.name.clone(),
            bytes: written.file.bytes,
            blake3: written.digest.clone(),
        };
        let described = written.iter().map(describe).collect();
        open::seal(&self.disk, delta, work.version, upto, entry, described)?;
        let report = TableCommit {
            table: work.table,
            version: work.version,
            files: written.len(),
            rows: written.iter().map(|written| written.file.rows).sum(),
            bytes: written.iter().map(|written| written.file.bytes).sum(),
        };
        self.publish(work, upto, written);
        Ok(report)
    }

    fn write_files(
        &self,
        delta: &Delta,
        presses: &mut [Press],
        work: &Work,
        upto: Position,
    ) -> Result<Vec<Written>, Error> {
        let positions = (work.before.next(), upto);
        let batches = work.cut.batches(presses);
        let parts = order::parts(work.table, &batches)?;
        let columns = gather::columns(work.table, &batches);
        let mut written: Vec<Written> = Vec::with_capacity(parts.len());
        for part in &parts {
            match file::write(&self.disk, presses, work.table, &delta.dir, positions, &columns, part) {
                Ok(one) => written.push(one),
                Err(error) => {
                    // No version will name these; what cannot be removed goes before the next attempt.
                    written.iter().for_each(|one| drop(std::fs::remove_file(&one.file.path)));
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// Shows readers the files instead of the hot rows they hold: one step.
    fn publish(&self, work: &Work, upto: Position, written: Vec<Written>) {
        let mut state = self.state();
        let State { hot, tables } = &mut *state;
        let durable = &mut tables[work.table.index()];
        durable.version = work.version;
        durable.committed = upto;
        if !written.is_empty() {
            let new = written.into_iter().map(|written| written.file);
            durable.files = durable.files.iter().cloned().chain(new).collect();
        }
        hot.trim(work.table, work.cut.end);
        self.hot_bytes.store(hot.bytes(), Ordering::Relaxed);
    }

    /// A checkpoint is there for whoever opens the table later; when it cannot be written the commit stands, and `false`
    /// asks for one with the next commit.
    fn checkpoint_log(&self, delta: &Delta, version: i64, position: Position) -> Result<bool, Error> {
        let sealed = delta
            .checkpoint(&self.runtime, version)
            .and_then(|()| open::seal_checkpoint(&self.disk, delta, version, position));
        match sealed {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::warn!(table = delta.table.name(), version, %error, "no checkpoint of the log was written");
                open::remove_checkpoint(&self.disk, delta, version);
                Ok(false)
            }
            Ok(()) => Ok(true),
        }
    }

    fn describe(&self, table: Table, state: &State) -> TableInfo {
        let durable = &state.tables[table.index()];
        let day = |micros: i64| self.calendar.day_of(Instant(micros));
        let first = |file: &DataFile| file.usage_date.map(CivilDay).or(file.time_min.map(day));
        let last = |file: &DataFile| file.usage_date.map(CivilDay).or(file.time_max.map(day));
        TableInfo {
            table,
            version: durable.version,
            committed: durable.committed,
            files: durable.files.len(),
            rows: durable.files.iter().map(|file| file.rows).sum(),
            bytes: durable.files.iter().map(|file| file.bytes).sum(),
            hot_rows: state.hot.rows(table),
            first_date: durable.files.iter().filter_map(first).min(),
            last_date: durable.files.iter().filter_map(last).max(),
        }
    }
}

fn lowest(tables: &[Durable]) -> Position {
    tables.iter().map(|table| table.committed).min().unwrap_or_default()
}
