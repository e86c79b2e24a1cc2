//! Rows of a profile: which of them are asked for, and what they say once their cells are made good.

use codec::apdu::SelectiveAccess;
use codec::axdr::{DateTime, Value};
use codec::cosem::india::status;
use codec::cosem::profile_generic::{
    self, Buffer, CaptureObject, Cell, Column, EntryDescriptor, RangeDescriptor, Selection,
};
use codec::cosem::register::Unit;
use codec::cosem::{LogicalName, ValueError, clock, data};
use codec::session::client::OwnedData;
use ingest::{MeterSession, SessionError, shown};
use serde_json::{Value as Json, json};

use super::{
    BEGINNING, END, PROFILE_CLASS, ReadRequest, cell, event_name, is_event_code, meter_time, problem,
    scaler_unit, whole,
};
use crate::problem::Problem;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// By the profile's own time, both included.
    Times(DateTime, DateTime),
    /// The newest ones.
    Last(u32),
    /// By number from 1, both included; 0 for the last there is.
    Entries(u32, u32),
}

impl Wanted {
    pub(super) fn of(request: &ReadRequest) -> Result<Self, Problem> {
        let ReadRequest { from, to, last, entries, .. } = request;
        match (from, to, last, entries) {
            (None, None, None, None) => Ok(Self::All),
            (None, None, Some(0), None) => Err(Problem::refused("no rows", "--last 0 wants none")),
            (None, None, Some(last), None) => Ok(Self::Last(*last)),
            (None, None, None, Some(entries)) => numbers(entries).ok_or_else(|| {
                let how = "the numbers of entries are A..B, A.., ..B or A, from 1 on";
                Problem::refused("no numbers of entries", format!("--entries {entries:?}: {how}"))
            }),
            (from, to, None, None) => {
                let from = from.as_deref().map_or(Ok(BEGINNING), |text| meter_time(text, "--from"))?;
                let to = to.as_deref().map_or(Ok(END), |text| meter_time(text, "--to"))?;
                Ok(Self::Times(from, to))
            }
            _ => Err(Problem::refused("rows are chosen twice", "by time, by --last or by --entries")),
        }
    }
}

fn numbers(text: &str) -> Option<Wanted> {
    let end = |text: &str, open: u32| match text {
        "" => Some(open),
        number => number.parse().ok().filter(|number| *number > 0),
    };
    let (from, to) = match text.split_once("..") {
        Some((from, to)) if from.len() + to.len() > 0 => (end(from, 1)?, end(to, 0)?),
        Some(_) => return None,
        None => (text.parse().ok().filter(|number| *number > 0)?, text.parse().ok()?),
    };
    (to == 0 || from <= to).then_some(Wanted::Entries(from, to))
}

/// Reads rows of a profile, with its columns and their scalers.
pub(super) async fn read(
    session: &mut MeterSession,
    name: LogicalName,
    scalers: Option<LogicalName>,
    wanted: &Wanted,
) -> Result<Json, Problem> {
    let columns = columns(&session.get(whole(PROFILE_CLASS, name, 3)).await.map_err(problem)?);
    let scalers = match scalers {
        Some(scalers) => scalers_of(session, scalers).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let scalers: Vec<_> = columns.iter().map(|column| scaler_of(column, &scalers)).collect();
    let selection = match wanted {
        Wanted::All => None,
        Wanted::Times(from, to) => {
            let time = columns.iter().find(|column| is_time(column)).ok_or_else(no_time)?;
            Some(Selection::Range(RangeDescriptor::times(*time, from, to)))
        }
        Wanted::Entries(from, to) => Some(Selection::Entry(EntryDescriptor::rows(*from, *to))),
        Wanted::Last(count) => match session.newest_entries(name, *count).await.map_err(problem)? {
            Some(entries) => Some(Selection::Entry(entries)),
            None => return Ok(table(&columns, &scalers, Vec::new())),
        },
    };
    let mut buffer = Vec::new();
    let mut attribute = whole(PROFILE_CLASS, name, 2);
    attribute.access = selection.map(|selection| SelectiveAccess::encode(&selection, &mut buffer));
    let read = session.get(attribute).await.map_err(problem)?;
    let period_s = match clock_is_left_out(read.data().value(), &columns) {
        true => period(session, name).await.map_err(problem)?,
        false => 0,
    };
    let rows = made_good(read.data().value(), &columns, &scalers, period_s).map_err(unusable)?;
    Ok(table(&columns, &scalers, rows))
}

fn no_time() -> Problem {
    Problem::refused(
        "the profile has no column of time",
        "none of its columns is a clock or a billing date; choose its rows with --last or --entries",
    )
}

fn unusable(error: ValueError) -> Problem {
    Problem::conflict("the meter's answer cannot be used", error.to_string())
}

/// Whether the rows of a profile are sorted and chosen by this column.
fn is_time(column: &CaptureObject) -> bool {
    (column.class, column.attribute) == (clock::CLASS, 2)
        || (column.class, column.name, column.attribute) == (data::CLASS, status::BILLING_DATE, 2)
}

/// Seconds from one row to the next; 0 where the meter does not say.
async fn period(session: &mut MeterSession, name: LogicalName) -> Result<u32, SessionError> {
    let period = shown(session.get(whole(PROFILE_CLASS, name, 4)).await)?;
    Ok(period.and_then(|period| profile_generic::capture_period(period.data().value()).ok()).unwrap_or(0))
}

/// The columns of a profile; none where one of them is no column, for the rest would then stand over the wrong cells.
fn columns(objects: &OwnedData) -> Vec<CaptureObject> {
    let columns = profile_generic::capture_objects(objects.data().value());
    columns.map(|columns| columns.iter().collect()).unwrap_or_default()
}

/// The scalers of a scaler profile: its columns with the one row that it has.
async fn scalers_of(
    session: &mut MeterSession,
    name: LogicalName,
) -> Result<Vec<(CaptureObject, (i8, Unit))>, SessionError> {
    let columns = columns(&session.get(whole(PROFILE_CLASS, name, 3)).await?);
    let row = session.get(whole(PROFILE_CLASS, name, 2)).await?;
    let Value::Array(rows) = row.data().value() else { return Ok(Vec::new()) };
    let Some(Value::Structure(cells)) = rows.iter().next() else { return Ok(Vec::new()) };
    let scalers = cells.iter().map(scaler_unit);
    Ok(columns.into_iter().zip(scalers).filter_map(|(column, scaler)| Some((column, scaler?))).collect())
}

fn scaler_of(column: &CaptureObject, scalers: &[(CaptureObject, (i8, Unit))]) -> Option<(i8, Unit)> {
    let found = scalers.iter().find(|(of, _)| (of.class, of.name) == (column.class, column.name));
    found.map(|(_, scaler)| *scaler).filter(|_| column.attribute == 2)
}

/// Whether a row leaves its clock out, so that the capture period is needed to know it.
fn clock_is_left_out(buffer: Value<'_>, columns: &[CaptureObject]) -> bool {
    let Ok(buffer) = Buffer::of(buffer) else { return false };
    let is_clock: Vec<bool> = columns.iter().map(|column| Column::of(column) == Column::Clock).collect();
    buffer.raw().iter().skip(1).any(|row| match row {
        Value::Structure(cells) => {
            cells.iter().zip(&is_clock).any(|(cell, is_clock)| *is_clock && cell == Value::Null)
        }
        _ => false,
    })
}

/// The rows of a buffer with what they leave out. Without columns, whose cells nobody can tell, they stay as they came.
fn made_good(
    buffer: Value<'_>,
    columns: &[CaptureObject],
    scalers: &[Option<(i8, Unit)>],
    period_s: u32,
) -> Result<Vec<Json>, ValueError> {
    let buffer = Buffer::of(buffer)?;
    if columns.is_empty() {
        let row = |row| match row {
            Value::Structure(cells) => cells.iter().map(|value| cell(value, None)).collect(),
            other => Json::Array(vec![cell(other, None)]),
        };
        return Ok(buffer.raw().iter().map(row).collect());
    }
    let mut rows = buffer.rows(columns.iter().map(Column::of), period_s);
    let mut made = Vec::new();
    while let Some(cells) = rows.next_row()? {
        let shown = |(value, scaler): (&Cell<'_>, &Option<(i8, Unit)>)| {
            value.map_or(Json::Null, |value| cell(value, *scaler))
        };
        made.push(Json::Array(cells.iter().zip(scalers).map(shown).collect()));
    }
    Ok(made)
}

/// Columns and rows. A cell with the code of an event stays that number; what the codes are called stands with their column.
fn table(columns: &[CaptureObject], scalers: &[Option<(i8, Unit)>], rows: Vec<Json>) -> Json {
    let units = scalers.iter().map(|scaler| scaler.map(|(_, unit)| unit.symbol()));
    let column = |(at, unit): (usize, Option<&str>)| {
        let CaptureObject { class, name, attribute, .. } = &columns[at];
        let mut said = json!({ "object": format!("{class}:{name}:{attribute}"), "unit": unit });
        if is_event_code(*name, *attribute) {
            let codes = rows.iter().filter_map(|row| row.get(at));
            let names = codes.filter_map(|code| Some((code.to_string(), json!(event_name(code)?))));
            said["names"] = Json::Object(names.collect());
        }
        said
    };
    let columns: Vec<Json> = units.take(columns.len()).enumerate().map(column).collect();
    json!({ "columns": columns, "rows": rows })
}

#[cfg(test)]
mod tests {
    use codec::cosem::ClassId;
    use codec::cosem::india::{events::EventLog, register, time};

    use super::*;

    const CLOCK: CaptureObject = CaptureObject::clock(time::CLOCK);
    const ENERGY: CaptureObject = CaptureObject::whole(ClassId(3), register::ENERGY_IMPORT, 2);

    fn buffer(digits: &str) -> OwnedData {
        let digits: String = digits.split_whitespace().collect();
        OwnedData::new(hex::decode(digits).unwrap()).unwrap()
    }

    #[test]
    fn cells_that_a_meter_left_out_are_made_good_before_scalers_move_their_point() {
        let event = CaptureObject::whole(ClassId(1), EventLog::Voltage.latest_code(), 2);
        let read = buffer(
            "0105 0203 090c07ea0601ff173b0000014a00 0600003039 120007
             0203 00 00 00
             0203 00 1c05 00
             0203 090c07ea0602ff00300000014a00 1cfe 120008
             0203 ff ff ff",
        );
        let value = read.data().value();
        let columns = [CLOCK, ENERGY, event];
        assert!(clock_is_left_out(value, &columns));
        let scalers = [None, Some((-2, Unit::WattHour)), None];
        let rows = made_good(value, &columns, &scalers, 900).unwrap();
        assert_eq!(
            Json::Array(rows),
            json!([
                ["2026-06-01T23:59:00", 123.45, 7],
                ["2026-06-02T00:14:00", 123.45, null],
                ["2026-06-02T00:29:00", 123.5, null],
                ["2026-06-02T00:48:00", 123.48, 8],
                [null, null, null],
            ])
        );
        let rows = made_good(value, &columns, &scalers, 0).unwrap();
        assert_eq!(rows[1][0], Json::Null, "no clock where nobody knows the period");
    }

    #[test]
    fn a_row_that_says_nothing_certain_is_an_error_and_no_number() {
        let of_nothing = buffer("0101 0202 090c07ea0601ff173b0000014a00 1c05");
        assert!(made_good(of_nothing.data().value(), &[CLOCK, ENERGY], &[None, None], 0).is_err());
        let too_short = buffer("0101 0201 0600003039");
        assert!(made_good(too_short.data().value(), &[CLOCK, ENERGY], &[None, None], 0).is_err());
        let rows = made_good(of_nothing.data().value(), &[], &[], 0).unwrap();
        assert_eq!(rows[0][1], "+5", "a difference is shown as one where its column is not known");
    }

    #[test]
    fn the_codes_of_events_stay_numbers_and_have_their_names_with_the_column() {
        let code = CaptureObject::whole(ClassId(1), EventLog::Voltage.latest_code(), 2);
        let rows = vec![json!(["2026-06-01T23:59:00", 7]), json!([null, 889]), json!([null, null])];
        let table = table(&[CLOCK, code], &[None, None], rows.clone());
        assert_eq!(table["columns"][1]["names"], json!({ "7": "over voltage" }));
        assert_eq!(table["columns"][0].get("names"), None);
        assert_eq!(table["rows"], Json::Array(rows));
    }

    #[test]
    fn a_profile_is_chosen_from_by_a_time_of_its_own() {
        let billing = CaptureObject::whole(data::CLASS, status::BILLING_DATE, 2);
        let of_block = CaptureObject::clock(LogicalName([0, 0, 1, 0, 1, 255]));
        let name = CaptureObject::whole(data::CLASS, LogicalName([0, 0, 96, 1, 0, 255]), 2);
        let zone = CaptureObject { attribute: 3, ..CLOCK };
        for (column, expected) in
            [(CLOCK, true), (of_block, true), (billing, true), (name, false), (zone, false)]
        {
            assert_eq!(is_time(&column), expected, "{column:?}");
        }
    }

    #[test]
    fn entries_are_numbered_from_one_on() {
        for (text, expected) in [
            ("3..5", Some((3, 5))),
            ("3..", Some((3, 0))),
            ("..5", Some((1, 5))),
            ("7", Some((7, 7))),
            ("5..3", None),
            ("0..3", None),
            ("3..0", None),
            ("..", None),
            ("0", None),
            ("", None),
            ("a..b", None),
            ("-1..2", None),
        ] {
            assert_eq!(numbers(text), expected.map(|(from, to)| Wanted::Entries(from, to)), "{text:?}");
        }
    }
}
