//! Reading rows back from the lake, to compare them with what was sent.

use std::fs::File;

use arrow::array::{Array, Int64Array};
use arrow::record_batch::RecordBatch;
use ingest::BoxError;
use lake::{Snapshot, Table};
use model::CivilDay;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows of table `interval_reading` of a day, and the sums of some of its columns, from files and hot rows.
///
/// # Errors
/// When a file cannot be read, or lacks a column.
pub fn interval_sums<const N: usize>(
    snapshot: &Snapshot,
    day: CivilDay,
    columns: [&str; N],
) -> Result<(u64, [i64; N]), BoxError> {
    let table = snapshot.table(Table::IntervalReading);
    let mut rows = 0;
    let mut sums = [0; N];
    let mut add = |batch: &RecordBatch, keep: &dyn Fn(usize) -> bool| -> Result<(), BoxError> {
        rows += (0..batch.num_rows()).filter(|row| keep(*row)).count() as u64;
        for (name, sum) in columns.iter().zip(&mut sums) {
            let column = batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?;
            let column = column.as_any().downcast_ref::<Int64Array>().ok_or("not an integer")?;
            *sum += (0..column.len())
                .filter(|row| keep(*row) && column.is_valid(*row))
                .map(|row| column.value(row))
                .sum::<i64>();
        }
        Ok(())
    };
    for file in table.files.iter().filter(|file| file.usage_date == Some(day.0)) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path)?)?.build()?;
        for batch in reader {
            add(&batch?, &|_| true)?;
        }
    }
    for batch in &table.hot {
        let dates = batch.column_by_name(lake::table::USAGE_DATE).ok_or("no usage_date")?;
        let dates = dates.as_any().downcast_ref::<arrow::array::Date32Array>().ok_or("not a date")?;
        add(batch, &|row| dates.value(row) == day.0)?;
    }
    Ok((rows, sums))
}
