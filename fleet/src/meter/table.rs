//! Rows of profile buffers: which of them, and which of their columns, a selection wants.

use codec::apdu::{DataAccessResult, SelectiveAccess};
use codec::axdr::{Value, Writer};
use codec::cosem::india::status;
use codec::cosem::profile_generic::{Bound, CaptureObject, EntryDescriptor, RangeDescriptor, Selection};
use codec::cosem::{LogicalName, clock, data};
use model::{Calendar, Instant};

use super::instant_of;

/// A row with its encoded cells, the clock first where there is one.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What its clock says.
    pub(super) stamp: Instant,
    /// Its number in the life of the meter, from 1; only event logs have one.
    pub(super) sequence: u32,
    pub(super) cells: Vec<Vec<u8>>,
}

/// The rows that a range wants, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    All,
    Time(Option<Instant>, Option<Instant>),
    Sequence(u32, u32),
}

impl Span {
    pub(super) fn holds(&self, row: &Row) -> bool {
        match self {
            Span::All => true,
            Span::Time(from, to) => {
                from.is_none_or(|from| from <= row.stamp) && to.is_none_or(|to| row.stamp <= to)
            }
            Span::Sequence(from, to) => (*from..=*to).contains(&row.sequence),
        }
    }

    /// The first moment that may be wanted, and the last.
    pub(super) fn times(&self) -> (Option<Instant>, Option<Instant>) {
        match self {
            Span::Time(from, to) => (*from, *to),
            Span::All | Span::Sequence(..) => (None, None),
        }
    }
}

/// What a request wants of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) span: Span,
    /// Numbers of rows from 1, the last included, 0 for the last there is.
    entries: Option<(u32, u32)>,
    /// Places of the columns.
    columns: Vec<usize>,
}

impl Wanted {
    /// Everything, or what the selection says of a buffer with these columns.
    pub(super) fn of(
        selection: Option<&SelectiveAccess<'_>>,
        columns: &[CaptureObject],
        sequence: Option<LogicalName>,
        calendar: &Calendar,
    ) -> Result<Wanted, DataAccessResult> {
        let all = Wanted { span: Span::All, entries: None, columns: (0..columns.len()).collect() };
        let Some(selection) = selection else { return Ok(all) };
        match selection.of_buffer() {
            Ok(Selection::Range(range)) => all.within(&range, columns, sequence, calendar),
            Ok(Selection::Entry(entry)) => Ok(all.numbered(&entry)),
            Err(_) => Err(DataAccessResult::TypeUnmatched),
        }
    }

    /// Of all of it, the rows in a range with the columns that it names. Only the column of time with which the rows begin
    /// restricts, and the sequence number of an event log, which stands in none of them.
    fn within(
        self,
        range: &RangeDescriptor<'_>,
        columns: &[CaptureObject],
        sequence: Option<LogicalName>,
        calendar: &Calendar,
    ) -> Result<Wanted, DataAccessResult> {
        let selected = range.columns;
        let chosen =
            |place: &usize| selected.is_empty() || selected.iter().any(|c| same(&c, &columns[*place]));
        let chosen: Vec<usize> = (0..columns.len()).filter(chosen).collect();
        if !selected.is_empty() && chosen.len() < selected.len() {
            return Err(DataAccessResult::ScopeOfAccessViolated);
        }
        let restricting = range.restricting;
        let by_number = sequence.map(|name| CaptureObject::whole(data::CLASS, name, 2));
        let span = if by_number.is_some_and(|number| same(&number, &restricting)) {
            Span::Sequence(number(range.from)?, number(range.to)?)
        } else if columns.first().is_some_and(|first| is_time(first) && same(first, &restricting)) {
            Span::Time(time(range.from, calendar)?, time(range.to, calendar)?)
        } else {
            return Err(DataAccessResult::ScopeOfAccessViolated);
        };
        Ok(Wanted { span, columns: chosen, ..self })
    }

    /// Of all of it, the rows and the columns of these numbers.
    fn numbered(self, entry: &EntryDescriptor) -> Wanted {
        let last = if entry.to_column == 0 { usize::MAX } else { usize::from(entry.to_column) };
        let chosen = usize::from(entry.from_column.max(1))..=last;
        let columns = self.columns.iter().copied().filter(|place| chosen.contains(&(place + 1))).collect();
        Wanted { entries: Some((entry.from_entry, entry.to_entry)), columns, ..self }
    }

    /// Writes what is wanted of these rows, which the span has chosen.
    pub(super) fn write(&self, rows: &[Row], out: &mut Vec<u8>) {
        let rows = match self.entries {
            Some((from, to)) => {
                let from = (from.max(1) as usize - 1).min(rows.len());
                let to = if to == 0 { rows.len() } else { (to as usize).min(rows.len()) };
                rows.get(from..to).unwrap_or_default()
            }
            None => rows,
        };
        Writer::new(out).array(rows.len());
        for row in rows {
            Writer::new(out).structure(self.columns.len());
            for &column in &self.columns {
                match row.cells.get(column) {
                    Some(cell) => out.extend_from_slice(cell),
                    None => _ = Writer::new(out).null(),
                }
            }
        }
    }
}

/// Whether the rows of a buffer that begins with this column are in its order.
fn is_time(column: &CaptureObject) -> bool {
    column.class == clock::CLASS || column.name == status::BILLING_DATE
}

fn same(one: &CaptureObject, other: &CaptureObject) -> bool {
    (one.class, one.name, one.attribute) == (other.class, other.name, other.attribute)
}

/// An end of a range; a time without a date is open.
fn time(end: Bound<'_>, calendar: &Calendar) -> Result<Option<Instant>, DataAccessResult> {
    let time = end.value().date_time().ok_or(DataAccessResult::TypeUnmatched)?;
    Ok(instant_of(&time, calendar))
}

fn number(end: Bound<'_>) -> Result<u32, DataAccessResult> {
    match end.value() {
        Value::U32(number) => Ok(number),
        Value::U16(number) => Ok(u32::from(number)),
        _ => Err(DataAccessResult::TypeUnmatched),
    }
}
