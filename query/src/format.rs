//! Answers as text: JSON, JSON lines, CSV (RFC 4180) and a table for people.
//!
//! Instants are RFC 3339 in UTC, civil days ISO 8601, bytes hexadecimal. Numbers keep all their digits, decimals too:
//! `12.340` kWh is written so in every form.

use std::fmt;
use std::str::FromStr;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use model::Instant;

use crate::Answer;

/// A form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One array of objects.
    #[default]
    Json,
    /// One object a line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
    /// A table for people.
    Table,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::JsonLines => "application/jsonl",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Table => "text/plain; charset=utf-8",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        match name {
            "json" => Ok(Format::Json),
            "jsonl" => Ok(Format::JsonLines),
            "csv" => Ok(Format::Csv),
            "table" => Ok(Format::Table),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Not the name of a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no format {0:?}: json, jsonl, csv and table are known")]
pub struct UnknownFormat(String);

/// The whole answer as text.
///
/// # Errors
/// When a value is of a type that cannot be shown.
pub fn text(answer: &Answer, format: Format) -> Result<String, ArrowError> {
    chunks(answer, format).collect()
}

/// The answer as text, batch by batch, so that a large one is never held as text whole; a table is one piece.
pub fn chunks(
    answer: &Answer,
    format: Format,
) -> impl Iterator<Item = Result<String, ArrowError>> + Send + 'static {
    let names = unique_names(&answer.schema);
    let batches = answer.batches.clone();
    let (head, tail) = match format {
        Format::Json => ("[".to_owned(), "\n]\n"),
        Format::JsonLines => (String::new(), ""),
        Format::Csv => (csv_line(answer.schema.fields().iter().map(|field| Some(field.name().as_str()))), ""),
        Format::Table => {
            let schema = answer.schema.clone();
            let table = Box::new(std::iter::once_with(move || table(&schema, &batches)));
            return table as Box<dyn Iterator<Item = Result<String, ArrowError>> + Send>;
        }
    };
    let mut first = true;
    let body = batches.into_iter().map(move |batch| match format {
        Format::Csv => csv(&batch),
        _ => {
            let separators = match format {
                Format::Json => Separators {
                    before_first: if std::mem::take(&mut first) { "\n" } else { ",\n" },
                    between: ",\n",
                    after: "",
                },
                _ => Separators { before_first: "", between: "", after: "\n" },
            };
            json(&batch, &names, &separators)
        }
    });
    Box::new(std::iter::once(Ok(head)).chain(body).chain(std::iter::once(Ok(tail.to_owned()))))
}

/// What stands around the objects of a batch.
struct Separators {
    before_first: &'static str,
    between: &'static str,
    after: &'static str,
}

fn json(batch: &RecordBatch, names: &[String], separators: &Separators) -> Result<String, ArrowError> {
    let columns = columns(batch)?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        text.push_str(if row == 0 { separators.before_first } else { separators.between });
        text.push('{');
        for (index, (name, column)) in names.iter().zip(&columns).enumerate() {
            text.push_str(if index == 0 { "" } else { "," });
            text.push_str(name);
            text.push(':');
            column.push_json(row, &mut text)?;
        }
        text.push('}');
        text.push_str(separators.after);
    }
    Ok(text)
}

/// Names of the columns as JSON text, each once: a second `meter_id` is `meter_id_2`.
fn unique_names(schema: &Schema) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for field in schema.fields() {
        let count = |name: &String| seen.contains(name);
        let mut candidates = (1..).map(|number| match number {
            1 => field.name().clone(),
            _ => format!("{}_{number}", field.name()),
        });
        let name = candidates.find(|name| !count(name)).unwrap_or_default();
        seen.push(name);
    }
    seen.iter().map(|name| quoted(name)).collect()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn csv(batch: &RecordBatch) -> Result<String, ArrowError> {
    let columns = columns(batch)?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        let cells: Vec<Option<String>> =
            columns.iter().map(|column| column.cell(row)).collect::<Result<_, _>>()?;
        text.push_str(&csv_line(cells.iter().map(Option::as_deref)));
    }
    Ok(text)
}

/// One record; an empty field is null, an empty text is `""`.
fn csv_line<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> String {
    let field = |cell: Option<&str>| match cell {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.to_owned(),
    };
    cells.map(field).collect::<Vec<_>>().join(",") + "\r\n"
}

/// Columns aligned under their names: numbers to the right, everything else to the left.
fn table(schema: &Schema, batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let mut rows: Vec<Vec<String>> = vec![schema.fields().iter().map(|field| field.name().clone()).collect()];
    for batch in batches {
        let columns = columns(batch)?;
        for row in 0..batch.num_rows() {
            let cell = |column: &Column<'_>| column.cell(row).map(|cell| one_line(&cell.unwrap_or_default()));
            rows.push(columns.iter().map(cell).collect::<Result<_, _>>()?);
        }
    }
    let width = |index: usize| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..schema.fields().len()).map(width).collect();
    let numeric: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).zip(&numeric).map(|((cell, width), numeric)| match numeric {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            text.push_str(&rule);
            text.push('\n');
        }
    }
    Ok(text)
}

fn one_line(text: &str) -> String {
    text.replace('\r', "").replace('\n', "\u{23ce}")
}

fn columns(batch: &RecordBatch) -> Result<Vec<Column<'_>>, ArrowError> {
    batch.columns().iter().map(|column| Column::new(column)).collect()
}

/// A column and how its values are written.
struct Column<'a> {
    array: &'a dyn Array,
    formatter: ArrayFormatter<'a>,
}

impl<'a> Column<'a> {
    fn new(array: &'a dyn Array) -> Result<Column<'a>, ArrowError> {
        Ok(Column { array, formatter: ArrayFormatter::try_new(array, &OPTIONS)? })
    }

    fn cell(&self, row: usize) -> Result<Option<String>, ArrowError> {
        if self.array.is_null(row) {
            return Ok(None);
        }
        if let Some(instant) = instant(self.array, row) {
            return Ok(Some(instant.to_string()));
        }
        self.formatter.value(row).try_to_string().map(Some)
    }

    fn push_json(&self, row: usize, text: &mut String) -> Result<(), ArrowError> {
        let bare = match self.array.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(is_finite(self.array, row)),
            data_type if data_type.is_numeric() || *data_type == DataType::Boolean => Some(true),
            _ => None,
        };
        match (self.cell(row)?, bare) {
            (None, _) | (_, Some(false)) => text.push_str("null"),
            (Some(cell), Some(true)) => text.push_str(&cell),
            (Some(cell), None) => text.push_str(&quoted(&cell)),
        }
        Ok(())
    }
}

/// Whether a float is a number of JSON.
fn is_finite(array: &dyn Array, row: usize) -> bool {
    use arrow::datatypes::{Float16Type, Float32Type, Float64Type};
    let finite = |value: f64| value.is_finite();
    array
        .as_primitive_opt::<Float64Type>()
        .map(|array| finite(array.value(row)))
        .or_else(|| array.as_primitive_opt::<Float32Type>().map(|array| finite(array.value(row).into())))
        .or_else(|| array.as_primitive_opt::<Float16Type>().map(|array| finite(array.value(row).into())))
        .unwrap_or(false)
}

/// The instant of a value with a zone, whatever its unit; a wall-clock time has none.
fn instant(array: &dyn Array, row: usize) -> Option<Instant> {
    let DataType::Timestamp(unit, Some(_)) = array.data_type() else {
        return None;
    };
    Some(Instant(match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
    }))
}

const OPTIONS: FormatOptions<'static> = FormatOptions::new();

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Json => "json",
            Format::JsonLines => "jsonl",
            Format::Csv => "csv",
            Format::Table => "table",
        })
    }
}
