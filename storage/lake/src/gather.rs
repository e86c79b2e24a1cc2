//! Columns of hot rows as files want them: in another order, page by page, without copies in between.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::{
    DataType, Date32Type, Field, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use crate::Table;
use crate::column::PageValues;
use crate::order::Run;

/// A column of all batches.
pub(crate) struct Column<'a> {
    values: Values<'a>,
    nulls: Vec<Option<&'a NullBuffer>>,
}

enum Values<'a> {
    /// Most channels of a table.
    Absent,
    /// What all rows have: flags, and channels that stand still. Nothing has to be looked for in memory.
    Same(i64),
    Long(Vec<&'a [i64]>),
    Int(Vec<&'a [i32]>),
    Short(Vec<&'a [i16]>),
    Other(Vec<&'a dyn Array>),
}

/// The columns of a table's files; the batches are of its schema.
pub(crate) fn columns(table: Table, batches: &[RecordBatch]) -> Vec<Column<'_>> {
    let column = |field: &Field| {
        let arrays: Vec<&ArrayRef> =
            batches.iter().filter_map(|batch| batch.column_by_name(field.name())).collect();
        Column::new(field.data_type(), &arrays)
    };
    table.file_schema().fields().iter().map(|field| column(field)).collect()
}

impl<'a> Column<'a> {
    fn new(data_type: &DataType, arrays: &[&'a ArrayRef]) -> Column<'a> {
        let values = match data_type {
            _ if arrays.iter().all(|array| array.null_count() == array.len()) => Values::Absent,
            DataType::Int64 => integers(Values::Long, primitive::<Int64Type>(arrays), arrays),
            DataType::Timestamp(_, _) => {
                integers(Values::Long, primitive::<TimestampMicrosecondType>(arrays), arrays)
            }
            DataType::Int32 => integers(Values::Int, primitive::<Int32Type>(arrays), arrays),
            DataType::Date32 => integers(Values::Int, primitive::<Date32Type>(arrays), arrays),
            DataType::Int16 => integers(Values::Short, primitive::<Int16Type>(arrays), arrays),
            _ => Values::Other(arrays.iter().copied().map(|array: &'a ArrayRef| &**array).collect()),
        };
        let nulls = |array: &'a ArrayRef| array.nulls().filter(|nulls| nulls.null_count() > 0);
        Column { values, nulls: arrays.iter().copied().map(nulls).collect() }
    }

    /// Whether it is of integers or of nothing.
    pub(crate) fn is_integers(&self) -> bool {
        !matches!(self.values, Values::Other(_))
    }

    /// The rows as an array, where it is not of integers.
    pub(crate) fn array(&self, runs: &[Run]) -> Result<ArrayRef, ArrowError> {
        let Values::Other(arrays) = &self.values else {
            return Err(ArrowError::InvalidArgumentError("integers are gathered by the page".to_owned()));
        };
        let slice = |run: &Run| arrays[run.batch as usize].slice(run.start as usize, run.len as usize);
        let slices: Vec<ArrayRef> = runs.iter().map(slice).collect();
        concat(&slices.iter().map(|slice| &**slice).collect::<Vec<_>>())
    }
}

fn integers<'a, T: Copy + PartialEq + Into<i64>>(
    several: impl FnOnce(Vec<&'a [T]>) -> Values<'a>,
    batches: Vec<&'a [T]>,
    arrays: &[&ArrayRef],
) -> Values<'a> {
    let first = batches.iter().find_map(|values| values.first()).copied();
    let is_full = arrays.iter().all(|array| array.null_count() == 0);
    match first {
        Some(first) if is_full && batches.iter().copied().flatten().all(|value| *value == first) => {
            Values::Same(first.into())
        }
        _ => several(batches),
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(arrays: &[&'a ArrayRef]) -> Vec<&'a [T::Native]> {
    arrays.iter().copied().map(|array: &'a ArrayRef| &**array.as_primitive::<T>().values()).collect()
}

/// A page of integers.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    rows: usize,
    values: Vec<i64>,
    present: Vec<bool>,
}

impl Gathered {
    /// Takes a page of a column in place of what it held.
    pub(crate) fn take(&mut self, column: &Column<'_>, runs: &[Run]) {
        self.rows = runs.iter().map(|run| run.len as usize).sum();
        self.values.clear();
        self.present.clear();
        match &column.values {
            Values::Absent | Values::Other(_) => {}
            Values::Same(value) => self.values.resize(self.rows, *value),
            Values::Long(batches) => self.take_from(batches, &column.nulls, runs),
            Values::Int(batches) => self.take_from(batches, &column.nulls, runs),
            Values::Short(batches) => self.take_from(batches, &column.nulls, runs),
        }
    }

    fn take_from<T: Copy + Into<i64>>(
        &mut self,
        batches: &[&[T]],
        nulls: &[Option<&NullBuffer>],
        runs: &[Run],
    ) {
        self.values.reserve(self.rows);
        let is_full = nulls.iter().all(Option::is_none);
        if is_full && runs.len() == self.rows {
            // Rows that stand alone lie anywhere: with nothing else to do for each, many are on their way from memory at
            // once.
            let value = |run: &Run| batches[run.batch as usize][run.start as usize].into();
            self.values.extend(runs.iter().map(value));
            return;
        }
        for run in runs {
            let (batch, start, len) = (run.batch as usize, run.start as usize, run.len as usize);
            let values = &batches[batch][start..][..len];
            match nulls[batch] {
                _ if is_full => self.values.extend(values.iter().map(|value| (*value).into())),
                None => {
                    self.values.extend(values.iter().map(|value| (*value).into()));
                    self.present.resize(self.present.len() + len, true);
                }
                Some(nulls) => {
                    for (row, value) in (start..).zip(values) {
                        let is_valid = nulls.is_valid(row);
                        self.present.push(is_valid);
                        if is_valid {
                            self.values.push((*value).into());
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn page(&self) -> PageValues<'_> {
        PageValues { rows: self.rows, values: &self.values, present: &self.present }
    }
}
