//! Rows with their cells made good.
//!
//! | cell | of a clock | of a value | of an event |
//! |---|---|---|---|
//! | null | clock of the row before, plus the capture period | value of the row before | missing |
//! | null in the first row | missing | missing | missing |
//! | delta | – | added to the value of the row before | as of a value |
//! | don't care | missing | missing, and nothing for the next row | missing |

use alloc::vec::Vec;

use super::super::{Field, LogicalName, Number, ValueError, ValueErrorKind};
use super::CaptureObject;
use crate::axdr::{self, Elements, Value};

/// How the cells of a column are made good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// The time of a clock.
    Clock,
    /// Anything that stays as it is until it changes.
    Value,
    /// The code of an event, which happens once.
    Event,
}

impl Column {
    /// How the columns of this object are made good.
    #[must_use]
    pub fn of(object: &CaptureObject) -> Self {
        // 0.0.96.11.x holds the latest code of event log x.
        const CLOCK: u16 = 8;
        match (object.class.0, object.attribute, object.name) {
            (CLOCK, 2, _) => Self::Clock,
            (1, 2, LogicalName([0, _, 96, 11, _, _])) => Self::Event,
            _ => Self::Value,
        }
    }
}

/// A cell made good; `None` is missing.
pub type Cell<'a> = Option<Value<'a>>;

/// Gives the rows one after the other. Lends each, for the cells of the row before are what the next is made from:
/// nothing is allocated once the columns are known.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    rows: axdr::Iter<'a>,
    field: Field<'a>,
    columns: Vec<Column>,
    cells: Vec<Cell<'a>>,
    /// What the next row's nulls and deltas refer to.
    before: Vec<Cell<'a>>,
    period_s: u32,
    index: usize,
    failed: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        rows: Elements<'a>,
        field: Field<'a>,
        columns: impl IntoIterator<Item = Column>,
        period_s: u32,
    ) -> Self {
        let columns: Vec<Column> = columns.into_iter().collect();
        let (cells, before) = (Vec::with_capacity(columns.len()), alloc::vec![None; columns.len()]);
        Self { rows: rows.iter(), field, columns, cells, before, period_s, index: 0, failed: false }
    }

    /// The cells of the next row, one a column; `None` behind the last row, and behind a row that was refused, for the
    /// rows after it may mean what only that row could tell.
    ///
    /// # Errors
    /// [`ValueErrorKind::Type`] and [`ValueErrorKind::Elements`] for a row that is no structure of as many cells as
    /// there are columns, [`ValueErrorKind::DeltaOfNothing`], [`ValueErrorKind::DeltaRange`].
    pub fn next_row(&mut self) -> Result<Option<&[Cell<'a>]>, ValueError> {
        let Some(row) = self.rows.next().filter(|_| !self.failed) else { return Ok(None) };
        let row = self.field.element(self.index, row);
        self.index += 1;
        if let Err(error) = self.resolve(row) {
            self.failed = true;
            return Err(error);
        }
        Ok(Some(&self.cells))
    }

    fn resolve(&mut self, row: Field<'a>) -> Result<(), ValueError> {
        let cells = row.structure()?;
        if cells.len() != self.columns.len() {
            return Err(row.elements_error(self.columns.len(), cells.len()));
        }
        self.cells.clear();
        let known = self.columns.iter().zip(&mut self.before);
        for (index, (cell, (&column, before))) in cells.iter().zip(known).enumerate() {
            let cell = resolved(row.element(index, cell), column, *before, self.period_s)?;
            self.cells.push(cell);
            *before = cell;
        }
        Ok(())
    }
}

fn resolved<'a>(
    cell: Field<'a>,
    column: Column,
    before: Cell<'a>,
    period_s: u32,
) -> Result<Cell<'a>, ValueError> {
    match (cell.value(), column) {
        (Value::DontCare, _) | (Value::Null, Column::Event) => Ok(None),
        (Value::Null, Column::Value) => Ok(before),
        (Value::Null, Column::Clock) => Ok(before.and_then(|before| later(before, period_s))),
        (Value::Delta(delta), _) => {
            let number = before.and_then(|before| Number::of(&before));
            let Some((number, integer)) = number.and_then(|number| Some((number, number.integer()?))) else {
                return Err(cell.error(ValueErrorKind::DeltaOfNothing));
            };
            match number.with_integer(integer + i128::from(delta)) {
                Some(sum) => Ok(Some(sum.value())),
                None => Err(cell.error(ValueErrorKind::DeltaRange)),
            }
        }
        (value, _) => Ok(Some(value)),
    }
}

/// The clock one period after `before`: a date-time, or the seconds that some network cards count. Without a period
/// nobody knows.
fn later<'a>(before: Value<'a>, period_s: u32) -> Cell<'a> {
    if period_s == 0 {
        return None;
    }
    match before.date_time() {
        Some(time) => time.plus_seconds(period_s).map(Value::DateTime),
        None => {
            let seconds = Number::of(&before)?;
            let sum = seconds.with_integer(seconds.integer()? + i128::from(period_s))?;
            Some(sum.value())
        }
    }
}
