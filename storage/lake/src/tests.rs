//! Promises of the lake, each against a naive reading of the rows that went in.

mod columns;
mod crash;
mod damage;
mod duckdb;
mod layout;
mod lookups;
mod readers;
mod records;
mod sample;

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use model::{Calendar, CivilDay};
use serde_json::{Value, json};

use crate::rows::Rows;
use crate::scan::{Wanted, scan};
use crate::table::USAGE_DATE;
use crate::{Lake, Options, Snapshot, Table};

/// Options under which small tables have several row groups, pages and checkpoints.
fn small() -> Options {
    Options { row_group_rows: 256, page_rows: 64, checkpoint_interval: 4, ..Options::default() }
}

fn open(dir: &Path) -> Lake {
    Lake::open(dir, Calendar::india(), small()).unwrap()
}

/// Rows of all tables as text, sorted: what a test compares.
type Contents = BTreeMap<Table, Vec<String>>;

/// What a snapshot shows, hot rows and files together.
fn contents(snapshot: &Snapshot) -> Contents {
    Table::ALL.into_iter().map(|table| (table, rows_of(snapshot, table))).collect()
}

fn rows_of(snapshot: &Snapshot, table: Table) -> Vec<String> {
    let view = snapshot.table(table);
    let mut rows: Vec<String> = view.hot.iter().flat_map(|batch| json_rows(batch, None)).collect();
    for file in view.files.iter() {
        let batches = scan(table, file, &Wanted::default()).unwrap();
        rows.extend(batches.iter().flat_map(|batch| json_rows(batch, file.usage_date)));
    }
    rows.sort();
    rows
}

/// What must be in the lake once these groups were absorbed.
fn expected(groups: &[sample::Group]) -> Contents {
    let mut tables: BTreeMap<Table, Rows> =
        Table::ALL.into_iter().map(|table| (table, Rows::with_capacity(table, 0))).collect();
    for row in groups.iter().flat_map(|group| group.rows.iter().cloned()) {
        tables.get_mut(&Table::of(&row)).unwrap().push(row);
    }
    tables
        .into_iter()
        .map(|(table, rows)| {
            let mut rows = json_rows(&rows.into_batch(table), None);
            rows.sort();
            (table, rows)
        })
        .collect()
}

/// Each row as a JSON object with sorted keys: instants in microseconds, dates as ISO 8601, binary hexadecimal.
fn json_rows(batch: &RecordBatch, partition: Option<i32>) -> Vec<String> {
    let row = |row: usize| {
        let fields = batch.schema_ref().fields().iter().zip(batch.columns());
        let mut object: BTreeMap<String, Value> =
            fields.map(|(field, column)| (field.name().clone(), json_value(column.as_ref(), row))).collect();
        if let Some(day) = partition {
            object.insert(USAGE_DATE.to_owned(), json!(CivilDay(day).to_string()));
        }
        serde_json::to_string(&object).unwrap()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn json_value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int16 => json!(column.as_primitive::<Int16Type>().value(row)),
        DataType::Timestamp(_, _) => json!(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Date32 => json!(CivilDay(column.as_primitive::<Date32Type>().value(row)).to_string()),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Binary => json!(hex::encode(column.as_binary::<i32>().value(row))),
        other => unreachable!("no table has a column of type {other}"),
    }
}

/// A folder of its own, in memory where that can be: the tests say themselves what a power cut leaves.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a directory as it stands.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &place);
        } else {
            std::fs::copy(&path, &place).unwrap();
        }
    }
}
