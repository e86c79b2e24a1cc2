//! Rows of a table of readings, kept as columns from the start: they are by far the most.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int16Array, Int32Array, Int64Array, NullBufferBuilder, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use model::row::ReadingRow;
use model::{Channel, Values};

use crate::Table;

/// Rows of readings.
#[derive(Debug)]
pub(crate) struct Readings {
    positions: Vec<i64>,
    meters: Vec<i64>,
    ends: Vec<i64>,
    dates: Vec<i32>,
    deviations: Vec<i16>,
    deviation_is_known: NullBufferBuilder,
    clock_status: Vec<i16>,
    quality: Vec<i32>,
    channels: ChannelColumns,
}

impl Readings {
    /// No rows, and room for as many as are foreseen.
    pub(crate) fn with_capacity(rows: usize) -> Readings {
        Readings {
            positions: Vec::with_capacity(rows),
            meters: Vec::with_capacity(rows),
            ends: Vec::with_capacity(rows),
            dates: Vec::with_capacity(rows),
            deviations: Vec::with_capacity(rows),
            deviation_is_known: NullBufferBuilder::new(rows),
            clock_status: Vec::with_capacity(rows),
            quality: Vec::with_capacity(rows),
            channels: ChannelColumns::with_capacity(rows),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn push(&mut self, row: &ReadingRow) {
        self.positions.push(row.position.0.cast_signed());
        self.meters.push(i64::from(row.meter.0));
        self.ends.push(row.end.0);
        self.dates.push(row.usage_date.0);
        self.deviations.push(row.deviation_min.unwrap_or_default());
        self.deviation_is_known.append(row.deviation_min.is_some());
        self.clock_status.push(i16::from(row.clock_status));
        self.quality.push(row.quality.0.cast_signed());
        self.channels.push(&row.values);
    }

    /// The columns of a table of readings.
    pub(crate) fn into_columns(mut self, table: Table) -> Vec<ArrayRef> {
        let dates: ArrayRef = Arc::new(Date32Array::from(self.dates));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.positions)),
            Arc::new(Int64Array::from(self.meters)),
            Arc::new(TimestampMicrosecondArray::from(self.ends).with_timezone("UTC")),
        ];
        if !table.is_partitioned() {
            columns.push(Arc::clone(&dates));
        }
        columns.extend([
            Arc::new(Int16Array::new(self.deviations.into(), self.deviation_is_known.finish())) as ArrayRef,
            Arc::new(Int16Array::from(self.clock_status)),
            Arc::new(Int32Array::from(self.quality)),
        ]);
        columns.extend(self.channels.into_columns(table));
        if table.is_partitioned() {
            columns.push(dates);
        }
        columns
    }
}

/// The channels of rows, one column for each that any of them has.
#[derive(Debug)]
pub(crate) struct ChannelColumns {
    rows: usize,
    room: usize,
    /// Channels that there are columns for.
    union: u64,
    /// Those columns in the order of the channels; zero where a row has no such channel.
    columns: Vec<Vec<i64>>,
    /// The channels of each row, once not all rows have the same: those of one meter type do.
    sets: Vec<u64>,
}

impl ChannelColumns {
    pub(crate) fn with_capacity(room: usize) -> ChannelColumns {
        ChannelColumns { rows: 0, room, union: 0, columns: Vec::new(), sets: Vec::new() }
    }

    pub(crate) fn push(&mut self, values: &Values) {
        if values.set() != self.union {
            self.widen(values.set());
        }
        if self.sets.is_empty() {
            for (column, value) in self.columns.iter_mut().zip(values.as_slice()) {
                column.push(*value);
            }
        } else {
            self.sets.push(values.set());
            let mut own = values.as_slice().iter();
            for (channel, column) in channels(self.union).zip(&mut self.columns) {
                let value = if values.set() & 1 << channel.index() == 0 { None } else { own.next() };
                column.push(value.copied().unwrap_or_default());
            }
        }
        self.rows += 1;
    }

    /// Makes columns for the channels of a row that has others than all before.
    fn widen(&mut self, set: u64) {
        if self.rows > 0 && self.sets.is_empty() {
            self.sets.reserve(self.room);
            self.sets.resize(self.rows, self.union);
        }
        for channel in channels(set & !self.union) {
            let mut column = Vec::with_capacity(self.room);
            column.resize(self.rows, 0);
            self.columns.insert(rank(self.union, channel), column);
            self.union |= 1 << channel.index();
        }
    }

    /// A column for each channel of the table, empty ones sharing one array, and the rest as JSON where the table has no
    /// column.
    pub(crate) fn into_columns(mut self, table: Table) -> Vec<ArrayRef> {
        let others = self.others(table);
        let empty = new_null_array(&DataType::Int64, self.rows);
        let column = |channel: &Channel| {
            if self.union & 1 << channel.index() == 0 {
                return Arc::clone(&empty);
            }
            let values = std::mem::take(&mut self.columns[rank(self.union, *channel)]);
            let has = |set: &u64| set & 1 << channel.index() != 0;
            let nulls = (!self.sets.is_empty()).then(|| self.sets.iter().map(has).collect::<NullBuffer>());
            Arc::new(Int64Array::new(values.into(), nulls)) as ArrayRef
        };
        table.channels().iter().map(column).chain(others).collect()
    }

    /// Column `other_channels`, where the table has one.
    fn others(&self, table: Table) -> Option<ArrayRef> {
        if table.channels().len() == Channel::ALL.len() {
            return None;
        }
        let own = table.channels().iter().fold(0_u64, |set, channel| set | 1 << channel.index());
        if self.union & !own == 0 {
            return Some(new_null_array(&DataType::Utf8, self.rows));
        }
        let mut texts = StringBuilder::new();
        for row in 0..self.rows {
            let set = self.sets.get(row).copied().unwrap_or(self.union);
            let value = |channel: Channel| self.columns[rank(self.union, channel)][row];
            let others: serde_json::Map<String, serde_json::Value> = channels(set & !own)
                .map(|channel| (channel.name().to_owned(), value(channel).into()))
                .collect();
            texts.append_option((!others.is_empty()).then(|| serde_json::Value::Object(others).to_string()));
        }
        Some(Arc::new(texts.finish()))
    }
}

/// The channels of a set.
fn channels(mut set: u64) -> impl Iterator<Item = Channel> {
    std::iter::from_fn(move || {
        let channel = Channel::ALL.get(set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(*channel)
    })
}

/// How many channels of a set come before one.
fn rank(set: u64, channel: Channel) -> usize {
    (set & ((1 << channel.index()) - 1)).count_ones() as usize
}
