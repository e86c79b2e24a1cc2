//! Looking up what is known of one reading, or of one meter's month.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use arrow::record_batch::RecordBatch;
use model::reading::RankClass;
use model::row::{FrameRow, ReadingRow, RevisionRow};
use model::{Channel, CivilDay, Instant, MeterId, Position, Quality, Rank, ReadingKind};

use crate::lake::{Inner, View};
use crate::scan::{Wanted, scan};
use crate::{Error, Table, Version, decode};

/// All values of a reading's key.
pub(crate) fn versions(
    inner: &Inner,
    meter: MeterId,
    kind: ReadingKind,
    end: Instant,
) -> Result<Vec<Version>, Error> {
    let table = table_of(kind);
    let [readings, revisions, frames] = inner.view([table, Table::IntervalRevision, Table::Frame]);
    let key = Key::new(inner, meter, end..=end);
    let mut versions = Vec::new();
    for row in key.readings(table, &readings)? {
        let rank = rank_of(&frames, &row)?;
        versions.push(Version { rank, values: row.values, first: true });
    }
    for row in key.revisions(kind, &revisions)? {
        versions.push(Version { rank: row.rank, values: row.values, first: false });
    }
    Ok(versions)
}

/// Highest demand of the intervals in force that end in (`from`, `to`], less one.
pub(crate) fn demand_w(
    inner: &Inner,
    meter: MeterId,
    (from, to): (Instant, Instant),
    period_s: u32,
    without_end: Instant,
) -> Result<Option<i64>, Error> {
    let [readings, revisions, frames] =
        inner.view([Table::IntervalReading, Table::IntervalRevision, Table::Frame]);
    let key = Key::new(inner, meter, Instant(from.0.saturating_add(1))..=to);
    let mut revised: BTreeMap<Instant, Vec<(Rank, i64)>> = BTreeMap::new();
    for row in
        key.revisions(ReadingKind::Interval, &revisions)?.into_iter().filter(|row| is_charged(row.quality))
    {
        if let Some(energy_wh) = row.values.get(Channel::ImportWh) {
            revised.entry(row.end).or_default().push((row.rank, energy_wh));
        }
    }
    for row in
        key.readings(Table::IntervalReading, &readings)?.into_iter().filter(|row| is_charged(row.quality))
    {
        let Some(energy_wh) = row.values.get(Channel::ImportWh) else { continue };
        // Only where there is a choice does the rank of the first value matter.
        let rank = if revised.contains_key(&row.end) { rank_of(&frames, &row)? } else { LOWEST };
        revised.entry(row.end).or_default().push((rank, energy_wh));
    }
    revised.remove(&without_end);
    let in_force =
        revised.into_values().filter_map(|values| values.into_iter().max_by_key(|(rank, _)| *rank));
    let demand = |(_, energy_wh): (Rank, i64)| demand_of(energy_wh, period_s);
    Ok(in_force.map(demand).max())
}

const LOWEST: Rank =
    Rank { class: RankClass::Estimate, key_epoch: 0, counter: 0, digest: model::Digest([0; 16]) };

/// Whether a value may have moved a demand: what came too late is stored only, and so is what came ahead of its time,
/// until its key comes again.
fn is_charged(quality: Quality) -> bool {
    !quality.has(Quality::TOO_LATE) && !quality.has(Quality::FUTURE)
}

fn demand_of(energy_wh: i64, period_s: u32) -> i64 {
    let watts = i128::from(energy_wh.max(0)) * 3600 / i128::from(period_s.max(1));
    i64::try_from(watts).unwrap_or(i64::MAX)
}

fn table_of(kind: ReadingKind) -> Table {
    match kind {
        ReadingKind::Interval => Table::IntervalReading,
        ReadingKind::Daily => Table::DailyReading,
        ReadingKind::Instant => Table::InstantReading,
    }
}

/// What decides over a first value: the frame that brought it.
fn rank_of(frames: &View, row: &ReadingRow) -> Result<Rank, Error> {
    let frame = frame_at(frames, row.position)?;
    let class = if row.quality.has(Quality::ESTIMATED) { RankClass::Estimate } else { RankClass::Push };
    Ok(Rank { class, key_epoch: frame.key_epoch, counter: frame.counter.unwrap_or(0), digest: frame.digest })
}

fn frame_at(frames: &View, position: Position) -> Result<FrameRow, Error> {
    let at = position.0.cast_signed();
    let mut batches = Vec::new();
    for chunk in &frames.chunks {
        batches.extend(chunk.rows_at(at)?);
    }
    if batches.is_empty() {
        let wanted = Wanted { positions: Some(at..=at), ..Wanted::default() };
        for file in frames.files.iter().filter(|file| wanted.may_be_in(file)) {
            batches.extend(scan(Table::Frame, file, &wanted)?);
        }
    }
    let rows = batches.iter().map(decode::frames).collect::<Result<Vec<_>, Error>>()?;
    rows.into_iter().flatten().next().ok_or(Error::NoFrame(position))
}

/// The keys of one meter in a range of time.
struct Key {
    meter: i64,
    times: RangeInclusive<i64>,
    days: RangeInclusive<i32>,
}

impl Key {
    fn new(inner: &Inner, meter: MeterId, ends: RangeInclusive<Instant>) -> Key {
        let day = |end: &Instant| inner.calendar.usage_day(*end).0;
        Key {
            meter: i64::from(meter.0),
            times: ends.start().0..=ends.end().0,
            days: day(ends.start())..=day(ends.end()),
        }
    }

    fn readings(&self, table: Table, view: &View) -> Result<Vec<ReadingRow>, Error> {
        let batches = self.batches(table, view)?;
        let rows = batches.iter().map(|(batch, day)| decode::readings(table, batch, *day));
        Ok(rows.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
    }

    fn revisions(&self, kind: ReadingKind, view: &View) -> Result<Vec<RevisionRow>, Error> {
        let batches = self.batches(Table::IntervalRevision, view)?;
        let rows = batches.iter().map(|(batch, day)| decode::revisions(batch, *day));
        let rows = rows.collect::<Result<Vec<_>, Error>>()?;
        Ok(rows.into_iter().flatten().filter(|row| row.kind == kind).collect())
    }

    /// The rows, each batch with the partition it comes from.
    fn batches(&self, table: Table, view: &View) -> Result<Vec<(RecordBatch, Option<CivilDay>)>, Error> {
        let mut batches = Vec::new();
        for chunk in &view.chunks {
            batches.extend(chunk.rows_of(self.meter, &self.times)?.map(|batch| (batch, None)));
        }
        let wanted = Wanted {
            meter: Some(self.meter),
            times: Some(self.times.clone()),
            days: Some(self.days.clone()),
            positions: None,
        };
        for file in view.files.iter().filter(|file| wanted.may_be_in(file)) {
            let day = file.usage_date.map(CivilDay);
            batches.extend(scan(table, file, &wanted)?.into_iter().map(|batch| (batch, day)));
        }
        Ok(batches)
    }
}
