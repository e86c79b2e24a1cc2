//! Rows of one shape: how each cell becomes the value of its channel, found out once and used for all that are alike.
//!
//! A plan gives what reading the row cell by cell would give, or nothing: a row that does not fit, a number that does not,
//! or a column that takes more than a multiplication are read the long way.

use codec::axdr::{DateTime, Iter, Shape, Value};
use model::{Channel, Values};
use profiles::{Column, PushLayout, Target};

use super::number::Number;

/// Highest power of ten that a number of 64 bits is multiplied with.
const MAX_POWER: u32 = 18;
const WORD: usize = size_of::<u64>();

/// How rows of one shape are read.
pub(super) struct Plan {
    shape: Shape,
    /// Where the clock's 12 bytes begin; `None`: it is null.
    clock: Option<usize>,
    /// The channels, as [`Values::set`] has them.
    set: u64,
    cells: Vec<Cell>,
}

/// An integer of a row.
struct Cell {
    /// Index of its column.
    column: usize,
    channel: Channel,
    /// Where the eight bytes begin of which it is the last.
    word: usize,
    /// Bits before it in those.
    before: u32,
    is_signed: bool,
    factor: i64,
}

/// A row of a plan's shape.
#[derive(Clone, Copy)]
pub(super) struct Row<'a>(&'a [u8]);

impl Plan {
    /// The plan of the row to come; `None` where there is none.
    pub(super) fn of(rows: &Iter<'_>, layout: &PushLayout) -> Option<Plan> {
        let shape = rows.shape()?;
        let Some(Value::Structure(values)) = rows.clone().next() else { return None };
        if shape.cells() != 1 + layout.columns.len() {
            return None;
        }
        let mut row = values.iter().zip(shape.contents());
        let clock = match row.next()? {
            (Value::Null, _) => None,
            (value, content) => value.date_time().map(|_| Some(content.start))?,
        };
        let mut set = 0_u64;
        let mut cells: Vec<Cell> = Vec::with_capacity(layout.columns.len());
        for ((column, (value, content)), index) in layout.columns.iter().zip(row).zip(0..) {
            let channel = match column.to {
                Target::Ignore => continue,
                Target::EventWord => return None,
                Target::Channel(channel) => channel,
            };
            if set & bit(channel) != 0 {
                return None;
            }
            set |= bit(channel);
            let (width, is_signed) = integer(&value)?;
            let word = content.end.checked_sub(WORD)?;
            let before = (WORD - width) as u32 * u8::BITS;
            let factor = factor(column, channel)?;
            cells.push(Cell { column: index, channel, word, before, is_signed, factor });
        }
        (!cells.is_empty()).then_some(Plan { shape, clock, set, cells })
    }

    /// The row to come, where it has the plan's shape; then it is passed.
    #[inline]
    pub(super) fn next<'a>(&self, rows: &mut Iter<'a>) -> Option<Row<'a>> {
        rows.next_of(&self.shape).map(Row)
    }

    /// The clock of a row; `Some(None)`: it is null.
    #[inline]
    pub(super) fn clock(&self, row: Row<'_>) -> Option<Option<DateTime>> {
        match self.clock {
            None => Some(None),
            Some(begin) => Some(Some(DateTime(*row.0.get(begin..)?.first_chunk()?))),
        }
    }

    /// The values of a row; `None`: one of them does not fit.
    #[inline]
    pub(super) fn values(&self, row: Row<'_>) -> Option<Values> {
        let mut values = [0; Channel::ALL.len()];
        for cell in &self.cells {
            values[cell.channel.index()] = cell.number(row)?.checked_mul(cell.factor)?;
        }
        Some(Values::of_channels(self.set, &values))
    }

    /// The numbers of a row by the index of their columns, as the row after it may refer to them.
    pub(super) fn numbers(&self, row: Row<'_>) -> impl Iterator<Item = (usize, Option<Number>)> {
        self.cells
            .iter()
            .map(move |cell| (cell.column, cell.number(row).map(|number| Number::Integer(number.into()))))
    }
}

impl Row<'_> {
    /// The row as a value, to be read the long way.
    pub(super) fn value(&self) -> Option<Value<'_>> {
        codec::axdr::parse(self.0).ok().map(|(value, _)| value)
    }
}

impl Cell {
    #[inline]
    fn number(&self, row: Row<'_>) -> Option<i64> {
        let word = u64::from_be_bytes(*row.0.get(self.word..)?.first_chunk()?) << self.before;
        if self.is_signed {
            Some(word.cast_signed() >> self.before)
        } else {
            i64::try_from(word >> self.before).ok()
        }
    }
}

fn bit(channel: Channel) -> u64 {
    1 << channel.index()
}

/// Bytes of an integer, and whether it has a sign.
fn integer(value: &Value<'_>) -> Option<(usize, bool)> {
    match value {
        Value::I8(_) => Some((1, true)),
        Value::I16(_) => Some((2, true)),
        Value::I32(_) => Some((4, true)),
        Value::I64(_) => Some((8, true)),
        Value::U8(_) | Value::Enum(_) => Some((1, false)),
        Value::U16(_) => Some((2, false)),
        Value::U32(_) => Some((4, false)),
        Value::U64(_) => Some((8, false)),
        _ => None,
    }
}

fn factor(column: &Column, channel: Channel) -> Option<i64> {
    let power = u32::try_from(super::power(column.scaler, channel)).ok()?;
    (power <= MAX_POWER).then(|| 10_i64.pow(power))
}
