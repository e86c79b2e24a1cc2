//! Rows of one table, and the columns made of them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use model::row::{EventRow, FactRow, FrameRow, PostingRow, QuarantineRow, ReadingRow, RevisionRow};
use model::{Digest, Instant, Position, ReadingKind, Row, Values};

use crate::Table;
use crate::readings::{ChannelColumns, Readings};

/// Rows of one table as the fold made them.
#[derive(Debug)]
pub(crate) enum Rows {
    Frame(Vec<FrameRow>),
    Reading(Readings),
    Revision(Vec<RevisionRow>),
    Event(Vec<EventRow>),
    Quarantine(Vec<QuarantineRow>),
    Posting(Vec<PostingRow>),
    Fact(Vec<FactRow>),
}

impl Rows {
    /// No rows, and room for as many as are foreseen.
    pub(crate) fn with_capacity(table: Table, rows: usize) -> Rows {
        match table {
            Table::Frame => Rows::Frame(Vec::with_capacity(rows)),
            Table::IntervalReading | Table::DailyReading | Table::InstantReading => {
                Rows::Reading(Readings::with_capacity(rows))
            }
            Table::IntervalRevision => Rows::Revision(Vec::new()),
            Table::Event => Rows::Event(Vec::new()),
            Table::Quarantine => Rows::Quarantine(Vec::new()),
            Table::LedgerPosting => Rows::Posting(Vec::new()),
            Table::Fact => Rows::Fact(Vec::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Frame(rows) => rows.len(),
            Rows::Reading(rows) => rows.len(),
            Rows::Revision(rows) => rows.len(),
            Rows::Event(rows) => rows.len(),
            Rows::Quarantine(rows) => rows.len(),
            Rows::Posting(rows) => rows.len(),
            Rows::Fact(rows) => rows.len(),
        }
    }

    /// Appends a row of this table; one of another table belongs elsewhere and is a fault of this crate.
    pub(crate) fn push(&mut self, row: Row) {
        match (self, row) {
            (Rows::Frame(rows), Row::Frame(row)) => rows.push(row),
            (Rows::Reading(rows), Row::Interval(row) | Row::Daily(row) | Row::Instant(row)) => {
                rows.push(&row)
            }
            (Rows::Revision(rows), Row::Revision(row)) => rows.push(row),
            (Rows::Event(rows), Row::Event(row)) => rows.push(row),
            (Rows::Quarantine(rows), Row::Quarantine(row)) => rows.push(row),
            (Rows::Posting(rows), Row::Posting(row)) => rows.push(row),
            (Rows::Fact(rows), Row::Fact(row)) => rows.push(row),
            (_, row) => unreachable!("a row of table {} was put elsewhere", Table::of(&row)),
        }
    }

    /// The rows as columns of their table.
    pub(crate) fn into_batch(self, table: Table) -> RecordBatch {
        let columns = match self {
            Rows::Frame(rows) => frame_columns(&rows),
            Rows::Reading(rows) => rows.into_columns(table),
            Rows::Revision(rows) => revision_columns(&rows),
            Rows::Event(rows) => event_columns(&rows),
            Rows::Quarantine(rows) => quarantine_columns(&rows),
            Rows::Posting(rows) => posting_columns(&rows),
            Rows::Fact(rows) => fact_columns(&rows),
        };
        RecordBatch::try_new(table.schema(), columns)
            .expect("the columns are made in the order of the table's schema")
    }
}

/// Bytes a row takes in memory, about: itself, what it points to, and its share of the columns.
pub(crate) fn bytes_of(row: &Row) -> usize {
    const COLUMNS: usize = 96;
    let values = |values: &Values| 16 * values.as_slice().len();
    let pointed_to = match row {
        Row::Frame(_) | Row::Event(_) => 0,
        Row::Interval(row) | Row::Daily(row) | Row::Instant(row) => values(&row.values),
        Row::Revision(row) => values(&row.values),
        Row::Quarantine(row) => row.detail.len() + row.raw.len(),
        Row::Posting(row) => row.reference.as_ref().map_or(0, String::len),
        Row::Fact(row) => row.body.len(),
    };
    COLUMNS + size_of::<ReadingRow>() + pointed_to
}

/// The word for a reading's profile in table `interval_revision`.
pub(crate) fn kind_name(kind: ReadingKind) -> &'static str {
    match kind {
        ReadingKind::Interval => "interval",
        ReadingKind::Daily => "daily",
        ReadingKind::Instant => "instant",
    }
}

fn frame_columns(rows: &[FrameRow]) -> Vec<ArrayRef> {
    vec![
        positions(rows, |row| row.position),
        instants(rows, |row| row.received_at),
        texts(rows, |row| row.source.name()),
        integers(rows, |row| i64::from(row.meter.0)),
        smalls(rows, |row| i32::from(row.key_epoch)),
        maybe_integers(rows, |row| row.counter.map(i64::from)),
        digests(rows, |row| row.digest),
        flags(rows, |row| row.repeated),
        flags(rows, |row| row.late),
        integers(rows, |row| i64::from(row.bytes)),
    ]
}

fn revision_columns(rows: &[RevisionRow]) -> Vec<ArrayRef> {
    let mut columns = vec![
        positions(rows, |row| row.position),
        positions(rows, |row| row.frame),
        texts(rows, |row| kind_name(row.kind)),
        integers(rows, |row| i64::from(row.meter.0)),
        instants(rows, |row| row.end),
        Arc::new(rows.iter().map(|row| row.deviation_min).collect::<Int16Array>()),
        Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| i16::from(row.clock_status)))),
        smalls(rows, |row| row.quality.0.cast_signed()),
        Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| row.rank.class as i16))),
        smalls(rows, |row| i32::from(row.rank.key_epoch)),
        integers(rows, |row| i64::from(row.rank.counter)),
        digests(rows, |row| row.rank.digest),
    ];
    let mut channels = ChannelColumns::with_capacity(rows.len());
    rows.iter().for_each(|row| channels.push(&row.values));
    columns.extend(channels.into_columns(Table::IntervalRevision));
    columns.push(Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.usage_date.0))));
    columns
}

fn event_columns(rows: &[EventRow]) -> Vec<ArrayRef> {
    vec![
        positions(rows, |row| row.position),
        integers(rows, |row| i64::from(row.meter.0)),
        instants(rows, |row| row.at),
        instants(rows, |row| row.received_at),
        Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| i16::from(row.bit)))),
        flags(rows, |row| row.occurred),
        flags(rows, |row| row.late),
    ]
}

fn quarantine_columns(rows: &[QuarantineRow]) -> Vec<ArrayRef> {
    vec![
        positions(rows, |row| row.position),
        instants(rows, |row| row.received_at),
        texts(rows, |row| row.source.name()),
        maybe_texts(rows, |row| row.title.map(|title| title.to_string())),
        maybe_integers(rows, |row| row.meter.map(|meter| i64::from(meter.0))),
        texts(rows, |row| row.reason.name()),
        texts(rows, |row| row.detail.as_str()),
        blobs(rows, |row| &row.raw),
    ]
}

fn posting_columns(rows: &[PostingRow]) -> Vec<ArrayRef> {
    vec![
        positions(rows, |row| row.position),
        smalls(rows, |row| row.line.cast_signed()),
        instants(rows, |row| row.booked_at),
        integers(rows, |row| i64::from(row.account.0)),
        texts(rows, |row| row.kind.name()),
        Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.usage_date.0))),
        texts(rows, |row| row.head.name()),
        integers(rows, |row| row.amount.0),
        maybe_integers(rows, |row| row.energy_wh),
        maybe_texts(rows, |row| row.tariff.map(|digest| digest.to_string())),
        maybe_texts(rows, |row| row.reference.clone()),
    ]
}

fn fact_columns(rows: &[FactRow]) -> Vec<ArrayRef> {
    vec![
        positions(rows, |row| row.position),
        instants(rows, |row| row.received_at),
        texts(rows, |row| row.kind),
        blobs(rows, |row| &row.body),
    ]
}

fn positions<R>(rows: &[R], value: impl Fn(&R) -> Position) -> ArrayRef {
    integers(rows, |row| value(row).0.cast_signed())
}

fn integers<R>(rows: &[R], value: impl Fn(&R) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(value)))
}

fn maybe_integers<R>(rows: &[R], value: impl Fn(&R) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int64Array>())
}

fn smalls<R>(rows: &[R], value: impl Fn(&R) -> i32) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows.iter().map(value)))
}

fn instants<R>(rows: &[R], value: impl Fn(&R) -> Instant) -> ArrayRef {
    let values = rows.iter().map(|row| value(row).0);
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn flags<R>(rows: &[R], value: impl Fn(&R) -> bool) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(value(row)))))
}

fn texts<'a, R, T: AsRef<str> + 'a>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn digests<R>(rows: &[R], value: impl Fn(&R) -> Digest) -> ArrayRef {
    let mut builder = BinaryBuilder::with_capacity(rows.len(), rows.len() * size_of::<Digest>());
    rows.iter().for_each(|row| builder.append_value(value(row).0));
    Arc::new(builder.finish())
}

fn maybe_texts<R>(rows: &[R], value: impl Fn(&R) -> Option<String>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    builder.extend(rows.iter().map(value));
    Arc::new(builder.finish())
}

fn blobs<R>(rows: &[R], value: impl Fn(&R) -> &Vec<u8>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    rows.iter().for_each(|row| builder.append_value(value(row)));
    Arc::new(builder.finish())
}
