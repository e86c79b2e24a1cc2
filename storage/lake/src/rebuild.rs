//! Records out of tables: what a checkpoint is derived from again.
//!
//! Control facts, answers to contested readings, and the frames that brought contested readings or changed a meter's
//! event word come from table `fact` as they stood in the journal. Any other frame is put together from its row in
//! `frame` and its readings and events. What no table keeps is not there: the raw bytes, an event word that changed
//! nothing, and the moment of a push without events. None of these moves a row or a balance.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use bytes::Bytes;
use model::row::{EventRow, FrameRow, QuarantineRow, ReadingRow};
use model::{
    AcceptedFrame, CivilDay, Digest, EventWord, Fact, MeterId, Position, QuarantinedFrame, Reading,
    ReadingKind, Record, RepeatedFrame,
};

use crate::scan::{Wanted, scan};
use crate::{DataFile, Error, Lake, RecordResult, Snapshot, Table, decode};

/// Positions that are put together at once.
const WINDOW: i64 = 1 << 18;

/// The records up to `upto`, by rising position from 1, as the fold needs them.
///
/// # Errors
/// When `upto` is not committed in every table. The items are errors when a file cannot be read or a record is not
/// there; nothing follows an error.
pub fn records(lake: &Lake, upto: Position) -> Result<impl Iterator<Item = RecordResult> + use<>, Error> {
    let committed = lake.committed();
    if upto > committed {
        return Err(Error::NotCommitted { upto, committed });
    }
    Ok(Records {
        snapshot: lake.snapshot(),
        next: 1,
        upto: upto.0.cast_signed(),
        ready: VecDeque::new(),
        words: HashMap::new(),
    })
}

struct Records {
    snapshot: Snapshot,
    /// First position that is not put together yet.
    next: i64,
    upto: i64,
    ready: VecDeque<Record>,
    /// Event word of each meter as its frames left it.
    words: HashMap<MeterId, EventWord>,
}

impl Iterator for Records {
    type Item = RecordResult;

    fn next(&mut self) -> Option<RecordResult> {
        if self.ready.is_empty() && self.next <= self.upto {
            let window = self.next..=self.upto.min(self.next.saturating_add(WINDOW - 1));
            self.next = window.end() + 1;
            match Window::read(&self.snapshot, &window)
                .and_then(|read| read.records(&window, &mut self.words))
            {
                Ok(records) => self.ready = records,
                Err(error) => {
                    self.next = self.upto + 1;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// The rows of a range of positions.
#[derive(Default)]
struct Window {
    facts: BTreeMap<Position, Vec<u8>>,
    frames: BTreeMap<Position, FrameRow>,
    quarantined: BTreeMap<Position, QuarantineRow>,
    readings: HashMap<Position, Vec<(ReadingKind, ReadingRow)>>,
    events: HashMap<Position, Vec<EventRow>>,
}

impl Window {
    fn read(snapshot: &Snapshot, positions: &RangeInclusive<i64>) -> Result<Window, Error> {
        let mut window = Window::default();
        each_batch(snapshot, Table::Fact, positions, |batch, _| {
            window.facts.extend(decode::facts(batch)?.into_iter().map(|fact| (fact.position, fact.body)));
            Ok(())
        })?;
        each_batch(snapshot, Table::Frame, positions, |batch, _| {
            window.frames.extend(decode::frames(batch)?.into_iter().map(|row| (row.position, row)));
            Ok(())
        })?;
        each_batch(snapshot, Table::Quarantine, positions, |batch, _| {
            window.quarantined.extend(decode::quarantined(batch)?.into_iter().map(|row| (row.position, row)));
            Ok(())
        })?;
        each_batch(snapshot, Table::Event, positions, |batch, _| {
            decode::events(batch)?
                .into_iter()
                .for_each(|row| window.events.entry(row.position).or_default().push(row));
            Ok(())
        })?;
        let kinds = [
            (Table::IntervalReading, ReadingKind::Interval),
            (Table::DailyReading, ReadingKind::Daily),
            (Table::InstantReading, ReadingKind::Instant),
        ];
        for (table, kind) in kinds {
            each_batch(snapshot, table, positions, |batch, day| {
                for row in decode::readings(table, batch, day)? {
                    window.readings.entry(row.position).or_default().push((kind, row));
                }
                Ok(())
            })?;
        }
        Ok(window)
    }

    fn records(
        mut self,
        positions: &RangeInclusive<i64>,
        words: &mut HashMap<MeterId, EventWord>,
    ) -> Result<VecDeque<Record>, Error> {
        positions.clone().map(|position| self.record(Position(position.cast_unsigned()), words)).collect()
    }

    fn record(
        &mut self,
        position: Position,
        words: &mut HashMap<MeterId, EventWord>,
    ) -> Result<Record, Error> {
        if let Some(body) = self.facts.remove(&position) {
            let record =
                Record::decode(position, &body).map_err(|source| Error::Record { position, source })?;
            if let Fact::Frame(AcceptedFrame { meter, event_word: Some(word), late: false, .. }) = record.fact
            {
                words.insert(meter, word);
            }
            return Ok(record);
        }
        if let Some(row) = self.frames.remove(&position) {
            let received_at = row.received_at;
            let fact = if row.repeated { Fact::Repeated(repeated(&row)) } else { self.frame(&row, words) };
            return Ok(Record { position, received_at, fact });
        }
        let row = self.quarantined.remove(&position).ok_or(Error::NoRecord(position))?;
        Ok(Record { position, received_at: row.received_at, fact: Fact::Quarantined(quarantined(row)) })
    }

    fn frame(&mut self, row: &FrameRow, words: &mut HashMap<MeterId, EventWord>) -> Fact {
        let mut readings = self.readings.remove(&row.position).unwrap_or_default();
        readings.sort_by_key(|(kind, reading)| (*kind, reading.end));
        let events = self.events.remove(&row.position).unwrap_or_default();
        let before = words.get(&row.meter).copied().unwrap_or_default();
        let event_word = (!events.is_empty()).then(|| with_changes(before, &events));
        if let Some(word) = event_word.filter(|_| events.iter().any(|event| !event.late)) {
            words.insert(row.meter, word);
        }
        let pushed_at = events.first().map(|event| event.at).filter(|at| *at != row.received_at);
        Fact::Frame(AcceptedFrame {
            meter: row.meter,
            source: row.source,
            key_epoch: row.key_epoch,
            counter: row.counter,
            late: row.late,
            digest: row.digest,
            pushed_at,
            readings: readings.into_iter().map(|(kind, reading)| reading_of(kind, reading)).collect(),
            event_word,
            raw: Bytes::new(),
        })
    }
}

fn each_batch(
    snapshot: &Snapshot,
    table: Table,
    positions: &RangeInclusive<i64>,
    mut each: impl FnMut(&arrow::array::RecordBatch, Option<CivilDay>) -> Result<(), Error>,
) -> Result<(), Error> {
    let wanted = Wanted { positions: Some(positions.clone()), ..Wanted::default() };
    let files = snapshot.table(table).files.iter();
    files.filter(|file| wanted.may_be_in(file)).try_for_each(|file: &DataFile| {
        let day = file.usage_date.map(CivilDay);
        scan(table, file, &wanted)?.iter().try_for_each(|batch| each(batch, day))
    })
}

fn repeated(row: &FrameRow) -> RepeatedFrame {
    RepeatedFrame {
        meter: row.meter,
        source: row.source,
        key_epoch: row.key_epoch,
        counter: row.counter,
        digest: row.digest,
    }
}

fn quarantined(row: QuarantineRow) -> QuarantinedFrame {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(&row.raw).as_bytes()[..16]);
    QuarantinedFrame {
        source: row.source,
        title: row.title,
        meter: row.meter,
        reason: row.reason,
        detail: row.detail,
        digest: Digest(digest),
        raw: row.raw,
    }
}

fn with_changes(mut word: EventWord, events: &[EventRow]) -> EventWord {
    for event in events {
        let mask = 0x80_u8 >> (event.bit % 8);
        if let Some(byte) = word.0.get_mut(usize::from(event.bit / 8)) {
            *byte = if event.occurred { *byte | mask } else { *byte & !mask };
        }
    }
    word
}

fn reading_of(kind: ReadingKind, row: ReadingRow) -> Reading {
    Reading {
        kind,
        end: row.end,
        deviation_min: row.deviation_min,
        clock_status: row.clock_status,
        quality: row.quality,
        values: row.values,
    }
}
