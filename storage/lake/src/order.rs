//! In which order, and into which files, the hot rows of a table go.
//!
//! Rows are not moved for it: a file is a list of [`Run`]s, and each column is gathered once, page by page, on its way
//! into the file. Meters push days or single intervals. Of days, rows stand together already and only the runs are
//! sorted; single rows are sorted by a number that has day, meter and time in it.

use arrow::array::RecordBatch;
use model::CivilDay;

use crate::decode::{Columns, Days};
use crate::{Error, Table};

/// Rows of a batch that follow each other in a file as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) batch: u32,
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// Rows for one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) day: Option<CivilDay>,
    pub(crate) runs: Vec<Run>,
}

impl Part {
    pub(crate) fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.len as usize).sum()
    }
}

/// Runs on average shorter than this are sorted row by row.
const SHORT: usize = 4;

/// Sorts a table's hot rows and splits them by day, as its files want them.
pub(crate) fn parts(table: Table, batches: &[RecordBatch]) -> Result<Vec<Part>, Error> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    if table.sorted_by()[0] == "position" {
        let whole = |(batch, rows): (usize, &RecordBatch)| run(batch, 0, rows.num_rows());
        return Ok(vec![Part { day: None, runs: batches.iter().enumerate().map(whole).collect() }]);
    }
    let batches = batches.iter().map(|batch| Keys::new(table, batch)).collect::<Result<Vec<_>, _>>()?;
    let runs = sorted_runs(&batches).unwrap_or_else(|| sorted_rows(&batches));
    let day = |run: &Run| batches[run.batch as usize].day(run.start as usize);
    let part = |runs: &[Run]| Part {
        day: runs.first().filter(|_| table.is_partitioned()).map(|run| CivilDay(day(run))),
        runs: runs.to_vec(),
    };
    Ok(runs.chunk_by(|a, b| day(a) == day(b)).map(part).collect())
}

/// Cuts runs into pieces of `rows` rows.
pub(crate) fn pieces(runs: &[Run], rows: usize) -> Vec<Vec<Run>> {
    let mut pieces = Vec::new();
    let (mut piece, mut room) = (Vec::new(), rows);
    for &run in runs {
        let Run { batch, mut start, mut len } = run;
        while len as usize >= room {
            let taken = room as u32;
            piece.push(Run { batch, start, len: taken });
            pieces.push(std::mem::take(&mut piece));
            (start, len, room) = (start + taken, len - taken, rows);
        }
        if len > 0 {
            piece.push(Run { batch, start, len });
            room -= len as usize;
        }
    }
    pieces.extend((!piece.is_empty()).then_some(piece));
    pieces
}

fn run(batch: usize, start: usize, len: usize) -> Run {
    Run { batch: batch as u32, start: start as u32, len: len as u32 }
}

/// What a row is sorted by; rows that are alike in all of it stay in the order they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    day: i32,
    owner: i64,
    time: i64,
    position: i64,
}

/// The columns of a batch that its rows are sorted by.
struct Keys<'a> {
    days: Option<Days<'a>>,
    owners: &'a [i64],
    times: &'a [i64],
    positions: &'a [i64],
}

impl Keys<'_> {
    fn new(table: Table, batch: &RecordBatch) -> Result<Keys<'_>, Error> {
        let columns = Columns { table, batch };
        Ok(Keys {
            days: if table.is_partitioned() { Some(columns.days(None)?) } else { None },
            owners: columns.integers("meter_id")?.values(),
            times: columns.instants(table.time_column())?.values(),
            positions: columns.integers("position")?.values(),
        })
    }

    fn len(&self) -> usize {
        self.owners.len()
    }

    fn day(&self, row: usize) -> i32 {
        self.days.as_ref().map_or(0, |days| days.at(row).0)
    }

    fn key(&self, row: usize) -> Key {
        Key {
            day: self.day(row),
            owner: self.owners[row],
            time: self.times[row],
            position: self.positions[row],
        }
    }
}

/// The rows in order, if they come in runs of one meter and day each of which stays together.
fn sorted_runs(batches: &[Keys<'_>]) -> Option<Vec<Run>> {
    let rows: usize = batches.iter().map(Keys::len).sum();
    let mut runs: Vec<(Key, Key, Run)> = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let mut start = 0;
        for row in 1..=batch.len() {
            let goes_on = row < batch.len()
                && batch.owners[row] == batch.owners[start]
                && batch.day(row) == batch.day(start)
                && (batch.times[row - 1], batch.positions[row - 1])
                    <= (batch.times[row], batch.positions[row]);
            if !goes_on {
                runs.push((batch.key(start), batch.key(row - 1), run(number, start, row - start)));
                start = row;
            }
        }
        if runs.len() > batch.len().max(rows / SHORT) {
            return None;
        }
    }
    runs.sort_unstable_by_key(|(first, _, run)| (*first, *run));
    // Of two runs that meet, rows may have to change places.
    let are_apart = runs.windows(2).all(|runs| runs[0].1 < runs[1].0);
    are_apart.then(|| runs.into_iter().map(|(_, _, run)| run).collect())
}

/// The rows in order, each for itself.
fn sorted_rows(batches: &[Keys<'_>]) -> Vec<Run> {
    let mut rows = Vec::with_capacity(batches.iter().map(Keys::len).sum());
    match Packing::of(batches) {
        Some(packing) => {
            let mut keys: Vec<(u64, u32, u32)> = Vec::with_capacity(rows.capacity());
            for (number, batch) in batches.iter().enumerate() {
                keys.extend(
                    (0..batch.len()).map(|row| (packing.pack(batch, row), number as u32, row as u32)),
                );
            }
            keys.sort_unstable();
            // What the number has not in it is the position, which matters where all else is the same.
            for alike in keys.chunk_by_mut(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
                alike.sort_by_key(|(_, batch, row)| batches[*batch as usize].positions[*row as usize]);
            }
            rows.extend(keys.into_iter().map(|(_, batch, row)| (batch, row)));
        }
        None => {
            for (number, batch) in batches.iter().enumerate() {
                rows.extend((0..batch.len()).map(|row| (number as u32, row as u32)));
            }
            rows.sort_by_cached_key(|(batch, row)| batches[*batch as usize].key(*row as usize));
        }
    }
    let day = |(batch, row): (u32, u32)| batches[batch as usize].day(row as usize);
    let follows = |a: &(u32, u32), b: &(u32, u32)| (a.0, a.1 + 1) == (b.0, b.1) && day(*a) == day(*b);
    rows.chunk_by(follows)
        .map(|rows| Run { batch: rows[0].0, start: rows[0].1, len: rows.len() as u32 })
        .collect()
}

/// How day, meter and time go into one number that is in their order.
struct Packing {
    lowest: Key,
    owner_bits: u32,
    time_bits: u32,
}

impl Packing {
    /// `None` where they do not fit.
    fn of(batches: &[Keys<'_>]) -> Option<Packing> {
        let (owners, times) = (range(batches, |batch| batch.owners)?, range(batches, |batch| batch.times)?);
        let days = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.day(row)));
        let days = days.fold((i32::MAX, i32::MIN), |(low, high), day| (low.min(day), high.max(day)));
        let bits = |low: i64, high: i64| u64::BITS - high.wrapping_sub(low).cast_unsigned().leading_zeros();
        let (owner_bits, time_bits) = (bits(owners.0, owners.1), bits(times.0, times.1));
        let all = bits(i64::from(days.0), i64::from(days.1)) + owner_bits + time_bits;
        let lowest = Key { day: days.0, owner: owners.0, time: times.0, position: 0 };
        (all < u64::BITS).then_some(Packing { lowest, owner_bits, time_bits })
    }

    fn pack(&self, batch: &Keys<'_>, row: usize) -> u64 {
        let over = |value: i64, lowest: i64| value.wrapping_sub(lowest).cast_unsigned();
        let day = over(i64::from(batch.day(row)), i64::from(self.lowest.day));
        let owner = over(batch.owners[row], self.lowest.owner);
        (day << self.owner_bits | owner) << self.time_bits | over(batch.times[row], self.lowest.time)
    }
}

fn range<'a>(batches: &[Keys<'a>], column: impl Fn(&Keys<'a>) -> &'a [i64]) -> Option<(i64, i64)> {
    let values = || batches.iter().flat_map(|batch| column(batch).iter().copied());
    Some((values().min()?, values().max()?))
}
