//! The hot buffer: rows that are not in files yet, visible to readers at once.
//!
//! `absorb` only moves rows into the open rows of their table. Whoever reads first freezes the open rows into a chunk,
//! in constant time, and makes columns of it outside of the lock; the chunk keeps them. Rows are numbered per table in
//! the order they came; a commit takes and later trims all rows up to a number, so a row is in the buffer or in the
//! files but never in both.
//!
//! Which rows belong to a record cannot be told from their position alone: a value that was contested and turned out
//! to be the first carries the position of its frame, which may long be committed. So the buffer remembers where each
//! absorbed group ended, and commits end with a group.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use model::{Position, Row};

use crate::decode::Columns;
use crate::parallel::in_parallel;
use crate::rows::{Rows, bytes_of};
use crate::{Error, Table};

/// Rows after which the open rows of a table become a chunk.
const CHUNK_ROWS: usize = 8 * 1024;
/// Bytes after which they do.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// A chunk with fewer rows is small.
const SMALL_ROWS: usize = 1024;
/// So many small chunks in a row become one: frequent readers make many of them.
const SMALL_CHUNKS: usize = 32;

/// The hot rows of all tables.
#[derive(Debug)]
pub(crate) struct Hot {
    tables: Vec<HotTable>,
    upto: Position,
    group_ends: VecDeque<Position>,
    straddled: Option<Straddled>,
}

/// Rows that cannot be told from committed ones.
#[derive(Clone, Copy, Debug)]
struct Straddled {
    table: Table,
    committed: Position,
    upto: Position,
}

/// The hot rows of a table that a commit takes.
pub(crate) struct Cut {
    pub(crate) chunks: Vec<Arc<Chunk>>,
    /// Rows of the last chunk that do not belong to it.
    pub(crate) surplus: usize,
    /// Number of the first row after it.
    pub(crate) end: u64,
}

impl Cut {
    /// The rows as columns, in the order they came; made on as many threads as there are workers.
    pub(crate) fn batches<W: Send>(&self, workers: &mut [W]) -> Vec<RecordBatch> {
        let chunks: Vec<&Arc<Chunk>> = self.chunks.iter().collect();
        let mut batches = in_parallel(workers, chunks, |_, chunk| chunk.batch());
        if let Some(last) = batches.last_mut() {
            *last = last.slice(0, last.num_rows() - self.surplus);
        }
        batches.retain(|batch| batch.num_rows() > 0);
        batches
    }
}

impl Hot {
    /// An empty buffer over tables that hold everything up to `upto`.
    pub(crate) fn new(upto: Position) -> Hot {
        Hot {
            tables: Table::ALL.into_iter().map(HotTable::new).collect(),
            upto,
            group_ends: VecDeque::from([upto]),
            straddled: None,
        }
    }

    /// Last record whose rows were absorbed.
    pub(crate) fn upto(&self) -> Position {
        self.upto
    }

    pub(crate) fn bytes(&self) -> usize {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    pub(crate) fn rows(&self, table: Table) -> u64 {
        let table = &self.tables[table.index()];
        table.next - table.first
    }

    /// Takes the rows of the records after the last group up to `upto`, less those a table has committed.
    pub(crate) fn absorb(&mut self, rows: Vec<Row>, upto: Position, committed: impl Fn(Table) -> Position) {
        if upto <= self.upto {
            return;
        }
        let before = self.upto;
        for row in rows {
            let table = Table::of(&row);
            let held = committed(table);
            match is_new(row.position(), before, upto, held) {
                Some(true) => self.tables[table.index()].push(row),
                Some(false) => {}
                None => self.straddled = Some(Straddled { table, committed: held, upto }),
            }
        }
        self.tables.iter_mut().for_each(|table| table.end_group(upto));
        self.upto = upto;
        self.group_ends.push_back(upto);
    }

    /// What a commit up to `upto` has to write of a table; `upto` has been checked.
    pub(crate) fn cut(&mut self, table: Table, upto: Position) -> Cut {
        self.tables[table.index()].cut(upto)
    }

    /// Whether a commit may end at `upto`.
    pub(crate) fn check(&self, upto: Position) -> Result<(), Error> {
        if let Some(Straddled { table, committed, upto }) = self.straddled {
            return Err(Error::Straddled { table, committed, upto });
        }
        if upto > self.upto {
            return Err(Error::NotAbsorbed { upto, absorbed: self.upto });
        }
        self.group_ends.binary_search(&upto).map(|_| ()).map_err(|_| Error::NotAGroupEnd(upto))
    }

    /// Forgets the rows of a table before `end`, which its files hold now.
    pub(crate) fn trim(&mut self, table: Table, end: u64) {
        self.tables[table.index()].trim(end);
    }

    /// Forgets the ends of groups before `upto`.
    pub(crate) fn forget_group_ends(&mut self, upto: Position) {
        let before = self.group_ends.partition_point(|end| *end < upto);
        self.group_ends.drain(..before);
    }

    /// All hot rows of a table.
    pub(crate) fn chunks(&mut self, table: Table) -> Vec<Arc<Chunk>> {
        let table = &mut self.tables[table.index()];
        table.freeze();
        table.chunks.clone()
    }
}

/// Whether a row of the group (`before`, `upto`] is to be kept by a table that holds everything up to `held`; `None`
/// where that cannot be told.
fn is_new(position: Position, before: Position, upto: Position, held: Position) -> Option<bool> {
    if upto <= held {
        Some(false)
    } else if before >= held || position > held {
        Some(true)
    } else if position > before {
        Some(false)
    } else {
        None
    }
}

#[derive(Debug)]
struct HotTable {
    table: Table,
    chunks: Vec<Arc<Chunk>>,
    open: Rows,
    open_bytes: usize,
    /// Ends of groups that brought rows, with the number of the first row after each.
    groups: VecDeque<(Position, u64)>,
    /// Number of the first row there is.
    first: u64,
    /// Number of the next row.
    next: u64,
    bytes: usize,
}

impl HotTable {
    fn new(table: Table) -> HotTable {
        HotTable {
            table,
            chunks: Vec::new(),
            open: Rows::with_capacity(table, 0),
            open_bytes: 0,
            groups: VecDeque::new(),
            first: 0,
            next: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, row: Row) {
        let bytes = bytes_of(&row);
        self.open.push(row);
        self.open_bytes += bytes;
        self.bytes += bytes;
        self.next += 1;
        if self.open.len() >= CHUNK_ROWS || self.open_bytes >= CHUNK_BYTES {
            self.freeze();
        }
    }

    fn end_group(&mut self, upto: Position) {
        if self.groups.back().map_or(self.first, |(_, next)| *next) < self.next {
            self.groups.push_back((upto, self.next));
        }
    }

    /// Makes a chunk of the open rows, and one of many small chunks.
    fn freeze(&mut self) {
        if self.open.len() == 0 {
            return;
        }
        // Where rows come fast, the next chunk will be as long as this one.
        let rows = self.open.len();
        let rows = std::mem::replace(&mut self.open, Rows::with_capacity(self.table, rows));
        let bytes = std::mem::take(&mut self.open_bytes);
        self.chunks.push(Arc::new(Chunk::new(self.table, rows.len(), bytes, Content::Rows(rows))));
        let small = self.chunks.iter().rev().take_while(|chunk| chunk.rows < SMALL_ROWS).count();
        if small >= SMALL_CHUNKS {
            let parts = self.chunks.split_off(self.chunks.len() - small);
            let (rows, bytes) =
                parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
            self.chunks.push(Arc::new(Chunk::new(self.table, rows, bytes, Content::Parts(parts))));
        }
    }

    fn cut(&mut self, upto: Position) -> Cut {
        self.freeze();
        let groups = self.groups.partition_point(|(end, _)| *end <= upto);
        let end = groups.checked_sub(1).map_or(self.first, |last| self.groups[last].1);
        let mut chunks = Vec::new();
        let mut at = self.first;
        for chunk in &self.chunks {
            if at >= end {
                break;
            }
            at += chunk.rows as u64;
            chunks.push(Arc::clone(chunk));
        }
        let surplus = usize::try_from(at.saturating_sub(end)).expect("less than the rows of a chunk");
        Cut { chunks, surplus, end }
    }

    fn trim(&mut self, end: u64) {
        while let Some(chunk) = self.chunks.first() {
            let after = self.first + chunk.rows as u64;
            if self.first >= end {
                break;
            }
            if after <= end {
                self.bytes -= chunk.bytes;
                self.first = after;
                self.chunks.remove(0);
            } else {
                let gone = usize::try_from(end - self.first).expect("less than the rows of a chunk");
                let rest = chunk.without_first(gone);
                self.bytes -= chunk.bytes - rest.bytes;
                self.first = end;
                self.chunks[0] = Arc::new(rest);
            }
        }
        let before = self.groups.partition_point(|(_, next)| *next <= end);
        self.groups.drain(..before);
    }
}

/// Rows that no longer change; columns are made of them when they are first read.
#[derive(Debug)]
pub(crate) struct Chunk {
    table: Table,
    rows: usize,
    bytes: usize,
    content: Mutex<Content>,
    index: OnceLock<Vec<u32>>,
}

#[derive(Debug)]
enum Content {
    Rows(Rows),
    Parts(Vec<Arc<Chunk>>),
    Batch(RecordBatch),
}

impl Chunk {
    fn new(table: Table, rows: usize, bytes: usize, content: Content) -> Chunk {
        Chunk { table, rows, bytes, content: Mutex::new(content), index: OnceLock::new() }
    }

    /// The rows as columns.
    pub(crate) fn batch(&self) -> RecordBatch {
        let mut content = self.content();
        if let Content::Batch(batch) = &*content {
            return batch.clone();
        }
        let batch = match std::mem::replace(&mut *content, Content::Parts(Vec::new())) {
            Content::Batch(batch) => batch,
            Content::Rows(rows) => rows.into_batch(self.table),
            Content::Parts(parts) => {
                let batches: Vec<_> = parts.iter().map(|part| part.batch()).collect();
                concat_batches(&self.table.schema(), &batches).expect("the parts are batches of one schema")
            }
        };
        *content = Content::Batch(batch.clone());
        batch
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn without_first(&self, gone: usize) -> Chunk {
        let rows = self.rows - gone;
        let bytes = self.bytes / self.rows.max(1) * rows;
        let batch = self.batch().slice(gone, rows);
        Chunk::new(self.table, rows, bytes, Content::Batch(batch))
    }

    /// The rows of a meter whose time lies in a range, if there are any.
    pub(crate) fn rows_of(
        &self,
        meter: i64,
        times: &RangeInclusive<i64>,
    ) -> Result<Option<RecordBatch>, Error> {
        let batch = self.batch();
        let columns = Columns { table: self.table, batch: &batch };
        let meters = columns.integers("meter_id")?;
        let instants = columns.instants(self.table.time_column())?;
        let key = |row: u32| (meters.value(row as usize), instants.value(row as usize));
        let index = self.index.get_or_init(|| {
            let mut index: Vec<u32> = (0..).take(batch.num_rows()).collect();
            index.sort_by_key(|row| key(*row));
            index
        });
        let first = index.partition_point(|row| key(*row) < (meter, *times.start()));
        let found = index[first..].partition_point(|row| key(*row) <= (meter, *times.end()));
        if found == 0 {
            return Ok(None);
        }
        let rows = UInt32Array::from_iter_values(index[first..first + found].iter().copied());
        take_record_batch(&batch, &rows).map(Some).map_err(Error::arrow(self.table))
    }

    /// The rows of a position, in a table whose rows are in the order of their positions.
    pub(crate) fn rows_at(&self, position: i64) -> Result<Option<RecordBatch>, Error> {
        let batch = self.batch();
        let positions = Columns { table: self.table, batch: &batch }.integers("position")?.values();
        let first = positions.partition_point(|at| *at < position);
        let found = positions[first..].partition_point(|at| *at <= position);
        Ok((found > 0).then(|| batch.slice(first, found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_dropped_exactly_when_its_table_holds_its_record() {
        let is_new = |position, before, upto, held| {
            is_new(Position(position), Position(before), Position(upto), Position(held))
        };
        assert_eq!(is_new(5, 4, 8, 8), Some(false), "the whole group is held");
        assert_eq!(is_new(5, 4, 8, 4), Some(true), "none of it is");
        assert_eq!(
            is_new(2, 4, 8, 4),
            Some(true),
            "a value of an older frame that turned out to be the first"
        );
        assert_eq!(is_new(5, 4, 8, 6), Some(false), "a group that is held in part");
        assert_eq!(is_new(7, 4, 8, 6), Some(true));
        assert_eq!(is_new(2, 4, 8, 6), None, "its record may be on either side");
    }
}
