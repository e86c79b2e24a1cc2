//! Rows out of columns: of a hot batch or of a file.

use std::str::FromStr;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use model::reading::RankClass;
use model::row::{EventRow, FrameRow, QuarantineRow, ReadingRow, RevisionRow};
use model::{
    Channel, CivilDay, Digest, Instant, MeterId, Position, Quality, QuarantineReason, Rank, ReadingKind,
    Source, SystemTitle, Values,
};

use crate::rows::kind_name;
use crate::table::USAGE_DATE;
use crate::{Error, Table};

/// A row of table `fact` without the name of its kind.
pub(crate) struct StoredFact {
    pub(crate) position: Position,
    pub(crate) body: Vec<u8>,
}

/// Rows of one of the tables of readings; `day` is the partition where the batch has no column `usage_date`.
pub(crate) fn readings(
    table: Table,
    batch: &RecordBatch,
    day: Option<CivilDay>,
) -> Result<Vec<ReadingRow>, Error> {
    let columns = Columns { table, batch };
    let (position, meter) = (columns.integers("position")?, columns.integers("meter_id")?);
    let end = columns.instants(table.time_column())?;
    let common = ReadingColumns::new(columns)?;
    let days = columns.days(day)?;
    let row = |row| {
        Ok(ReadingRow {
            position: Position(position.value(row).cast_unsigned()),
            meter: columns.meter(meter, row)?,
            end: Instant(end.value(row)),
            usage_date: days.at(row),
            deviation_min: common.deviation(row),
            clock_status: common.clock_status(row)?,
            quality: common.quality(row),
            values: common.values(row)?,
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows of table `interval_revision`.
pub(crate) fn revisions(batch: &RecordBatch, day: Option<CivilDay>) -> Result<Vec<RevisionRow>, Error> {
    let columns = Columns { table: Table::IntervalRevision, batch };
    let (position, frame) = (columns.integers("position")?, columns.integers("frame_position")?);
    let (meter, end, kind) =
        (columns.integers("meter_id")?, columns.instants("interval_end")?, columns.texts("kind")?);
    let (class, key_epoch) = (columns.shorts("rank_class")?, columns.smalls("key_epoch")?);
    let (counter, digest) = (columns.integers("counter")?, columns.blobs("frame_digest")?);
    let common = ReadingColumns::new(columns)?;
    let days = columns.days(day)?;
    let row = |row| {
        let class_number = class.value(row);
        let class = u8::try_from(class_number).ok().and_then(RankClass::from_number);
        Ok(RevisionRow {
            position: Position(position.value(row).cast_unsigned()),
            frame: Position(frame.value(row).cast_unsigned()),
            kind: kind_of(kind.value(row)).ok_or_else(|| columns.value("kind", row, kind.value(row)))?,
            meter: columns.meter(meter, row)?,
            end: Instant(end.value(row)),
            usage_date: days.at(row),
            deviation_min: common.deviation(row),
            clock_status: common.clock_status(row)?,
            quality: common.quality(row),
            rank: Rank {
                class: class.ok_or_else(|| columns.value("rank_class", row, class_number))?,
                key_epoch: columns.narrow("key_epoch", row, key_epoch.value(row))?,
                counter: columns.narrow("counter", row, counter.value(row))?,
                digest: columns.digest("frame_digest", row, digest.value(row))?,
            },
            values: common.values(row)?,
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows of table `frame`.
pub(crate) fn frames(batch: &RecordBatch) -> Result<Vec<FrameRow>, Error> {
    let columns = Columns { table: Table::Frame, batch };
    let (position, received_at) = (columns.integers("position")?, columns.instants("received_at")?);
    let (source, meter) = (columns.texts("source")?, columns.integers("meter_id")?);
    let (key_epoch, counter) = (columns.smalls("key_epoch")?, columns.integers("counter")?);
    let (digest, bytes) = (columns.blobs("digest")?, columns.integers("frame_bytes")?);
    let (repeated, late) = (columns.flags("repeated")?, columns.flags("late")?);
    let row = |row| {
        let counter =
            counter.is_valid(row).then(|| columns.narrow("counter", row, counter.value(row))).transpose()?;
        Ok(FrameRow {
            position: Position(position.value(row).cast_unsigned()),
            received_at: Instant(received_at.value(row)),
            source: columns.source(row, source.value(row))?,
            meter: columns.meter(meter, row)?,
            key_epoch: columns.narrow("key_epoch", row, key_epoch.value(row))?,
            counter,
            digest: columns.digest("digest", row, digest.value(row))?,
            repeated: repeated.value(row),
            late: late.value(row),
            bytes: columns.narrow("frame_bytes", row, bytes.value(row))?,
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows of table `event`.
pub(crate) fn events(batch: &RecordBatch) -> Result<Vec<EventRow>, Error> {
    let columns = Columns { table: Table::Event, batch };
    let (position, meter) = (columns.integers("position")?, columns.integers("meter_id")?);
    let (at, received_at) = (columns.instants("event_at")?, columns.instants("received_at")?);
    let (bit, occurred, late) = (columns.shorts("bit")?, columns.flags("occurred")?, columns.flags("late")?);
    let row = |row| {
        Ok(EventRow {
            position: Position(position.value(row).cast_unsigned()),
            meter: columns.meter(meter, row)?,
            at: Instant(at.value(row)),
            received_at: Instant(received_at.value(row)),
            bit: columns.narrow("bit", row, bit.value(row))?,
            occurred: occurred.value(row),
            late: late.value(row),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows of table `quarantine`.
pub(crate) fn quarantined(batch: &RecordBatch) -> Result<Vec<QuarantineRow>, Error> {
    let columns = Columns { table: Table::Quarantine, batch };
    let (position, received_at) = (columns.integers("position")?, columns.instants("received_at")?);
    let (source, meter) = (columns.texts("source")?, columns.integers("meter_id")?);
    let (title, reason) = (columns.texts("system_title")?, columns.texts("reason")?);
    let (detail, raw) = (columns.texts("detail")?, columns.blobs("raw")?);
    let row = |row| {
        let title = title
            .is_valid(row)
            .then(|| columns.parsed::<SystemTitle>("system_title", row, title.value(row)))
            .transpose()?;
        let meter = meter.is_valid(row).then(|| columns.meter(meter, row)).transpose()?;
        let word = reason.value(row);
        let reason = QuarantineReason::ALL.into_iter().find(|reason| reason.name() == word);
        Ok(QuarantineRow {
            position: Position(position.value(row).cast_unsigned()),
            received_at: Instant(received_at.value(row)),
            source: columns.source(row, source.value(row))?,
            title,
            meter,
            reason: reason.ok_or_else(|| columns.value("reason", row, word))?,
            detail: detail.value(row).to_owned(),
            raw: raw.value(row).to_vec(),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows of table `fact`.
pub(crate) fn facts(batch: &RecordBatch) -> Result<Vec<StoredFact>, Error> {
    let columns = Columns { table: Table::Fact, batch };
    let (position, body) = (columns.integers("position")?, columns.blobs("body")?);
    let row = |row: usize| StoredFact {
        position: Position(position.value(row).cast_unsigned()),
        body: body.value(row).to_vec(),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

fn kind_of(word: &str) -> Option<ReadingKind> {
    [ReadingKind::Interval, ReadingKind::Daily, ReadingKind::Instant]
        .into_iter()
        .find(|kind| kind_name(*kind) == word)
}

/// A batch of a table, with its columns by name and type.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) table: Table,
    pub(crate) batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn typed<A: Array + 'static>(self, name: &str) -> Result<&'a A, Error> {
        let column: Option<&'a ArrayRef> = self.batch.column_by_name(name);
        column
            .and_then(|column| column.as_any().downcast_ref())
            .ok_or_else(|| Error::NoColumn { table: self.table, column: name.to_owned() })
    }

    pub(crate) fn integers(self, name: &str) -> Result<&'a Int64Array, Error> {
        self.typed(name)
    }

    pub(crate) fn instants(self, name: &str) -> Result<&'a TimestampMicrosecondArray, Error> {
        self.typed(name)
    }

    fn smalls(self, name: &str) -> Result<&'a Int32Array, Error> {
        self.typed(name)
    }

    fn shorts(self, name: &str) -> Result<&'a Int16Array, Error> {
        self.typed(name)
    }

    fn texts(self, name: &str) -> Result<&'a StringArray, Error> {
        self.typed(name)
    }

    fn blobs(self, name: &str) -> Result<&'a BinaryArray, Error> {
        self.typed(name)
    }

    fn flags(self, name: &str) -> Result<&'a BooleanArray, Error> {
        self.typed(name)
    }

    /// The civil days of the rows; `day` where it is the partition's.
    pub(crate) fn days(self, day: Option<CivilDay>) -> Result<Days<'a>, Error> {
        day.map_or_else(|| self.typed(USAGE_DATE).map(Days::Column), |day| Ok(Days::Partition(day)))
    }

    fn value(self, column: &'static str, row: usize, value: impl ToString) -> Error {
        let position = self.integers("position").map_or(0, |positions| positions.value(row));
        Error::Value { table: self.table, column, value: value.to_string(), position }
    }

    fn narrow<T, V: Copy + ToString + TryInto<T>>(
        self,
        column: &'static str,
        row: usize,
        value: V,
    ) -> Result<T, Error> {
        value.try_into().map_err(|_| self.value(column, row, value))
    }

    fn parsed<T: FromStr>(self, column: &'static str, row: usize, text: &str) -> Result<T, Error> {
        text.parse().map_err(|_| self.value(column, row, text))
    }

    fn digest(self, column: &'static str, row: usize, bytes: &[u8]) -> Result<Digest, Error> {
        bytes.try_into().map(Digest).map_err(|_| self.value(column, row, hex::encode(bytes)))
    }

    fn meter(self, meters: &Int64Array, row: usize) -> Result<MeterId, Error> {
        self.narrow("meter_id", row, meters.value(row)).map(MeterId)
    }

    fn source(self, row: usize, word: &str) -> Result<Source, Error> {
        Source::ALL
            .into_iter()
            .find(|source| source.name() == word)
            .ok_or_else(|| self.value("source", row, word))
    }
}

/// Where the civil day of a row stands.
pub(crate) enum Days<'a> {
    Partition(CivilDay),
    Column(&'a Date32Array),
}

impl Days<'_> {
    pub(crate) fn at(&self, row: usize) -> CivilDay {
        match self {
            Days::Partition(day) => *day,
            Days::Column(days) => CivilDay(days.value(row)),
        }
    }
}

/// The columns all readings have.
struct ReadingColumns<'a> {
    columns: Columns<'a>,
    deviation_min: &'a Int16Array,
    clock_status: &'a Int16Array,
    quality: &'a Int32Array,
    channels: Vec<(Channel, &'a Int64Array)>,
    others: Option<&'a StringArray>,
}

impl<'a> ReadingColumns<'a> {
    fn new(columns: Columns<'a>) -> Result<ReadingColumns<'a>, Error> {
        let own = columns.table.channels();
        let channels = own.iter().map(|&channel| Ok((channel, columns.integers(channel.name())?)));
        let others = (own.len() < Channel::ALL.len()).then(|| columns.texts("other_channels")).transpose()?;
        Ok(ReadingColumns {
            columns,
            deviation_min: columns.shorts("deviation_min")?,
            clock_status: columns.shorts("clock_status")?,
            quality: columns.smalls("quality")?,
            channels: channels.collect::<Result<_, Error>>()?,
            others,
        })
    }

    fn deviation(&self, row: usize) -> Option<i16> {
        self.deviation_min.is_valid(row).then(|| self.deviation_min.value(row))
    }

    fn clock_status(&self, row: usize) -> Result<u8, Error> {
        self.columns.narrow("clock_status", row, self.clock_status.value(row))
    }

    fn quality(&self, row: usize) -> Quality {
        Quality(self.quality.value(row).cast_unsigned())
    }

    fn values(&self, row: usize) -> Result<Values, Error> {
        let valid = self.channels.iter().filter(|(_, column)| column.is_valid(row));
        let mut values: Values = valid.map(|(channel, column)| (*channel, column.value(row))).collect();
        if let Some(others) = self.others.filter(|others| others.is_valid(row)) {
            self.add_others(others.value(row), row, &mut values)?;
        }
        Ok(values)
    }

    fn add_others(&self, json: &str, row: usize, values: &mut Values) -> Result<(), Error> {
        let refused = || self.columns.value("other_channels", row, json);
        let others: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).map_err(|_| refused())?;
        for (name, value) in &others {
            let channel = Channel::from_name(name).ok_or_else(refused)?;
            values.insert(channel, value.as_i64().ok_or_else(refused)?);
        }
        Ok(())
    }
}
