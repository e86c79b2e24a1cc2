//! From the body of a push to readings and event word, by the meter's profile.
//!
//! Two shapes are read. *Flat*: device id, push setup, clock, then the captured values of one moment. *Nested*: the
//! same head, then one array (or compact array) of rows, each a clock and the captured values, as NICs push a piece
//! of a profile buffer.
//!
//! | in a row | means |
//! |---|---|
//! | clock null | the clock of the row before, plus the capture period |
//! | value null | the value of the row before; in the first row: missing |
//! | delta | added to the value of the row before |
//! | don't care | missing |
//!
//! A body that does not fit is refused as a whole, with the place and what was expected there: half a push is worse
//! than none, for the counter is spent on it.

mod number;
mod plan;
mod stamp;

pub(crate) use stamp::instant_of;

use std::fmt;

use codec::apdu::{AttributeDescriptor, EventNotification};
use codec::axdr::{DateTime, Elements, Iter, Value};
use model::{Calendar, Channel, EventWord, Instant, ObisCode, Reading, ReadingKind, Readings, Values};
use profiles::{Column, Profile, PushKind, PushLayout, Stamps, Target};

use number::Number;
use plan::{Plan, Row};
use stamp::{Clock, Stamp};

/// Rows taken from one push: a day of 15-minute blocks is 96, the deepest buffer of an Indian meter 90 days of 48.
pub const MAX_ROWS: usize = 4_320;

/// Elements before the captured values: device id, push setup, clock.
const HEAD: usize = 3;
/// Seconds of a day, the period of a daily profile.
const DAY_S: u32 = 86_400;
/// Readings for which there is room from the start: a day of 15-minute blocks.
const ROOM: usize = 96;
/// Shapes of rows that are looked for in one push: a meter's rows have one or two, and where each has another, looking
/// does not pay.
const SHAPES: usize = 4;

/// What a push says, in the words of the trade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalized {
    /// The clock in the head of the body, where it can be read.
    pub pushed_at: Option<Instant>,
    /// The readings, in the order of the rows.
    pub readings: Readings,
    /// The event status word.
    pub event_word: Option<EventWord>,
}

/// A body that does not fit the profile: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}")]
pub struct Mismatch {
    /// Which element.
    pub place: Place,
    /// What the profile has there.
    pub expected: Expected,
    /// What is there.
    pub found: Found,
}

/// Place of an element in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index in the body's structure, from 0; `None`: the body itself.
    pub element: Option<usize>,
    /// Index of the row within that element, and of the cell within the row, the clock being 0.
    pub row: Option<(usize, Option<usize>)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            None => f.write_str("body")?,
            Some(element) => write!(f, "element {element}")?,
        }
        match self.row {
            None => Ok(()),
            Some((row, None)) => write!(f, " row {row}"),
            Some((row, Some(cell))) => write!(f, " row {row} cell {cell}"),
        }
    }
}

/// What a profile has at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expected {
    /// Device id, push setup and clock, and something behind them.
    #[error("a structure of at least 4 elements")]
    Body,
    /// The logical name of a push setup that the profile has.
    #[error("the logical name of a push setup of the profile")]
    Setup,
    /// As many elements as the profile has columns.
    #[error("{0} elements")]
    Elements(usize),
    /// A row.
    #[error("a structure of {0} elements")]
    Row(usize),
    /// No more rows than [`MAX_ROWS`].
    #[error("at most {MAX_ROWS} rows")]
    Rows,
    /// A date-time with date and time of day.
    #[error("a date-time")]
    Clock,
    /// A number for this channel.
    #[error("a number for {}", .0.name())]
    Number(Channel),
    /// A value that fits the channel's 64 bits.
    #[error("a value of {} within 64 bits", .0.name())]
    InRange(Channel),
    /// A row with a number before a delta.
    #[error("a number of {} before a delta", .0.name())]
    Before(Channel),
    /// 128 bits.
    #[error("a bit-string of 128 bits")]
    EventWord,
    /// An attribute that the profile has among its events or its instantaneous values.
    #[error("an attribute of the profile's events or instantaneous values")]
    Attribute,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A type of A-XDR.
    Type(&'static str),
    /// So many elements, rows or bits.
    Count(usize),
    /// A setup that the profile does not have.
    Setup(ObisCode),
    /// An attribute that the profile does not have.
    Attribute(AttributeDescriptor),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Type(name) => f.write_str(name),
            Found::Count(count) => count.fmt(f),
            Found::Setup(setup) => setup.fmt(f),
            Found::Attribute(attribute) => attribute.fmt(f),
        }
    }
}

/// The device id (0.0.96.1.2) that a push body begins with, where it is one.
#[must_use]
pub fn device_id<'a>(body: &Value<'a>) -> Option<&'a str> {
    let Value::Structure(elements) = body else { return None };
    match elements.iter().next()? {
        Value::OctetString(bytes) | Value::VisibleString(bytes) | Value::Utf8String(bytes) => {
            str::from_utf8(bytes).ok()
        }
        _ => None,
    }
}

/// Reads a push body. `notified_at` is the date-time of the notification around it, which stands in for the clock of
/// instantaneous values that have none.
///
/// # Errors
/// [`Mismatch`] when the body does not fit the profile.
pub fn normalize(
    body: &Value<'_>,
    notified_at: Option<DateTime>,
    profile: &Profile,
    calendar: &Calendar,
) -> Result<Normalized, Mismatch> {
    normalize_with(SHAPES, body, notified_at, profile, calendar)
}

/// Reads an event-notification: one attribute, which is the event status word, or an instantaneous value at the time that
/// the meter says.
///
/// # Errors
/// [`Mismatch`] when the profile has no such attribute, or another type of it, or a value without a time.
pub fn normalize_event(
    event: &EventNotification<'_>,
    profile: &Profile,
    calendar: &Calendar,
) -> Result<Normalized, Mismatch> {
    let place = Place::default();
    let AttributeDescriptor { class, instance, attribute } = event.attribute;
    let told = |column: &Column| {
        let name = (column.class, column.obis.0, i16::from(column.attribute));
        name == (class.0, instance.0, i16::from(attribute))
    };
    let layouts = profile.push.iter();
    let kinds = layouts.filter(|layout| matches!(layout.kind, PushKind::Event | PushKind::Instant));
    let column = kinds.flat_map(|layout| &layout.columns).find(|column| told(column));
    let unknown = || mismatch(place, Expected::Attribute, Found::Attribute(event.attribute));
    let column = column.ok_or_else(unknown)?;
    let stamp = event.time.and_then(|time| Clock::new(profile.clock, calendar).read(time));
    let value = event.value.value();
    let unfit = |expected| mismatch(place, expected, type_of(&value));
    let mut normalized = Normalized { pushed_at: stamp.map(|stamp| stamp.instant), ..Normalized::default() };
    match column.to {
        Target::Ignore => {}
        Target::EventWord => normalized.event_word = Some(event_word(&value, place)?),
        Target::Channel(channel) => {
            let Stamp { instant: end, deviation_min, clock_status, quality } =
                stamp.ok_or_else(|| mismatch(place, Expected::Clock, Found::Type("null")))?;
            let number = number(&value, None, channel).map_err(unfit)?;
            let number = number.ok_or_else(|| unfit(Expected::Number(channel)))?;
            let value = scaled(number, column, channel).ok_or_else(|| unfit(Expected::InRange(channel)))?;
            normalized.readings.push(Reading {
                kind: ReadingKind::Instant,
                end,
                deviation_min,
                clock_status,
                quality,
                values: [(channel, value)].into_iter().collect(),
            });
        }
    }
    Ok(normalized)
}

/// As [`normalize`], by plans for so many shapes; without one, every row is read cell by cell.
fn normalize_with(
    shapes: usize,
    body: &Value<'_>,
    notified_at: Option<DateTime>,
    profile: &Profile,
    calendar: &Calendar,
) -> Result<Normalized, Mismatch> {
    let head = Head::read(body, profile)?;
    let mut reader = RowReader::new(profile, head.layout, Clock::new(profile.clock, calendar));
    let pushed = head.clock.date_time().and_then(|time| reader.clock.read(time));
    match head.rest.nested() {
        Some(rows) => reader.nested(rows, shapes)?,
        None => {
            let notified = notified_at.and_then(|time| reader.clock.read(time));
            reader.flat(&head, pushed, notified)?;
        }
    }
    Ok(Normalized {
        pushed_at: pushed.map(|stamp| stamp.instant),
        readings: reader.readings,
        event_word: reader.event_word,
    })
}

/// The first three elements and what follows.
struct Head<'a, 'p> {
    layout: &'p PushLayout,
    clock: Value<'a>,
    rest: Rest<'a>,
}

/// The elements behind the head.
struct Rest<'a> {
    body: Elements<'a>,
}

impl<'a> Rest<'a> {
    fn len(&self) -> usize {
        self.body.len() - HEAD
    }

    fn iter(&self) -> Iter<'a> {
        let mut rest = self.body.iter();
        rest.by_ref().take(HEAD).for_each(|_| {});
        rest
    }

    /// The rows, when the only element is an array of them.
    fn nested(&self) -> Option<Elements<'a>> {
        if self.len() != 1 {
            return None;
        }
        match self.iter().next() {
            Some(Value::Array(rows) | Value::CompactArray(rows)) => Some(rows),
            _ => None,
        }
    }
}

impl<'a, 'p> Head<'a, 'p> {
    fn read(body: &Value<'a>, profile: &'p Profile) -> Result<Head<'a, 'p>, Mismatch> {
        let at = |element| Place { element, row: None };
        let Value::Structure(elements) = body else {
            return Err(mismatch(at(None), Expected::Body, type_of(body)));
        };
        let mut head = elements.iter();
        let (Some(_device), Some(setup), Some(clock)) = (head.next(), head.next(), head.next()) else {
            return Err(mismatch(at(None), Expected::Body, Found::Count(elements.len())));
        };
        if elements.len() <= HEAD {
            return Err(mismatch(at(None), Expected::Body, Found::Count(elements.len())));
        }
        let name =
            logical_name(&setup).ok_or_else(|| mismatch(at(Some(1)), Expected::Setup, type_of(&setup)))?;
        let layout =
            profile.layout(name).ok_or_else(|| mismatch(at(Some(1)), Expected::Setup, Found::Setup(name)))?;
        Ok(Head { layout, clock, rest: Rest { body: *elements } })
    }
}

fn logical_name(value: &Value<'_>) -> Option<ObisCode> {
    match value {
        Value::OctetString(bytes) => <[u8; 6]>::try_from(*bytes).ok().map(ObisCode),
        _ => None,
    }
}

/// Reads rows one after the other; what a null or a delta needs is kept from the row before.
struct RowReader<'p> {
    layout: &'p PushLayout,
    clock: Clock<'p>,
    /// Seconds from one row's clock to the next.
    period_s: u32,
    /// Seconds from a stamp to the end of what it stamps.
    to_end_s: u32,
    /// Clock of the row before.
    before: Option<Stamp>,
    /// Values of the row before, by column; none where there is one row only.
    cells: Vec<Option<Number>>,
    readings: Readings,
    event_word: Option<EventWord>,
}

impl<'p> RowReader<'p> {
    fn new(profile: &'p Profile, layout: &'p PushLayout, clock: Clock<'p>) -> RowReader<'p> {
        let interval = layout.kind == PushKind::Interval;
        let start = interval && profile.stamps == Stamps::Start;
        RowReader {
            layout,
            clock,
            period_s: if layout.kind == PushKind::Daily { DAY_S } else { profile.period_s },
            to_end_s: if start { profile.period_s } else { 0 },
            before: None,
            cells: Vec::new(),
            readings: Readings::new(),
            event_word: None,
        }
    }

    fn flat(
        &mut self,
        head: &Head<'_, '_>,
        own: Option<Stamp>,
        notified_at: Option<Stamp>,
    ) -> Result<(), Mismatch> {
        let columns = self.layout.columns.len();
        if head.rest.len() != columns {
            let all = head.rest.len() + HEAD;
            return Err(mismatch(Place::default(), Expected::Elements(columns + HEAD), Found::Count(all)));
        }
        let stamp = match self.layout.kind {
            PushKind::Interval | PushKind::Daily => own,
            PushKind::Instant | PushKind::Event => own.or(notified_at),
        };
        if stamp.is_none() && self.layout.kind != PushKind::Event {
            let place = Place { element: Some(HEAD - 1), row: None };
            return Err(mismatch(place, Expected::Clock, type_of(&head.clock)));
        }
        let place = |column| Place { element: Some(HEAD + column), row: None };
        let values = self.values(head.rest.iter(), place)?;
        self.keep(stamp, values);
        Ok(())
    }

    fn nested(&mut self, rows: Elements<'_>, shapes: usize) -> Result<(), Mismatch> {
        if rows.len() > MAX_ROWS {
            let place = Place { element: Some(HEAD), row: None };
            return Err(mismatch(place, Expected::Rows, Found::Count(rows.len())));
        }
        self.readings.reserve_exact(rows.len().min(ROOM));
        self.cells = vec![None; self.layout.columns.len()];
        let mut shapes = 0..shapes;
        let mut plan: Option<Plan> = None;
        // The last row that was read by the plan.
        let mut alike = None;
        let count = rows.len();
        let mut rows = rows.iter();
        for index in 0..count {
            if let Some((plan, row)) = plan.as_ref().and_then(|plan| Some((plan, plan.next(&mut rows)?))) {
                if self.planned(plan, row) {
                    alike = Some(row);
                    continue;
                }
                self.recall(plan, alike.take());
                let value = row.value().unwrap_or(Value::Null);
                self.row(index, &value)?;
                continue;
            }
            if let Some(plan) = &plan {
                self.recall(plan, alike.take());
            }
            // The shape of the rows before may come again, but not if this row begins a row of another shape.
            let found = shapes.next().and_then(|_| Plan::of(&rows, self.layout));
            let Some(row) = rows.next() else { break };
            self.row(index, &row)?;
            plan = found.or(plan);
        }
        Ok(())
    }

    /// Reads a row by a plan. False: it has to be read the long way, and nothing was done.
    #[inline]
    fn planned(&mut self, plan: &Plan, row: Row<'_>) -> bool {
        let stamp = match plan.clock(row) {
            Some(Some(time)) => self.clock.read(time),
            Some(None) => self.before.map(|before| self.clock.after(before, self.period_s)),
            None => None,
        };
        let (Some(stamp), Some(values)) = (stamp, plan.values(row)) else { return false };
        self.before = Some(stamp);
        self.keep(Some(stamp), values);
        true
    }

    /// Keeps the numbers of the last row that was read by the plan, for a row that is not.
    fn recall(&mut self, plan: &Plan, row: Option<Row<'_>>) {
        let Some(row) = row else { return };
        for (column, number) in plan.numbers(row) {
            self.cells[column] = number;
        }
    }

    fn row(&mut self, index: usize, row: &Value<'_>) -> Result<(), Mismatch> {
        let at = |cell| Place { element: Some(HEAD), row: Some((index, cell)) };
        let width = 1 + self.layout.columns.len();
        let cells = match row {
            Value::Structure(cells) if cells.len() == width => cells,
            Value::Structure(cells) => {
                return Err(mismatch(at(None), Expected::Row(width), Found::Count(cells.len())));
            }
            other => return Err(mismatch(at(None), Expected::Row(width), type_of(other))),
        };
        let mut cells = cells.iter();
        let clock = cells.next().unwrap_or(Value::Null);
        let stamp = match clock {
            Value::Null => self.before.map(|before| self.clock.after(before, self.period_s)),
            _ => clock.date_time().and_then(|time| self.clock.read(time)),
        };
        let stamp = stamp.ok_or_else(|| mismatch(at(Some(0)), Expected::Clock, type_of(&clock)))?;
        let values = self.values(cells, |column| at(Some(1 + column)))?;
        self.before = Some(stamp);
        self.keep(Some(stamp), values);
        Ok(())
    }

    /// The channels of one row; its cells stay for the next.
    fn values(&mut self, mut cells: Iter<'_>, place: impl Fn(usize) -> Place) -> Result<Values, Mismatch> {
        let (mut set, mut values) = (0, [0; Channel::ALL.len()]);
        for (index, column) in self.layout.columns.iter().enumerate() {
            // Nearly every number of a meter is a short integer in the unit of its channel.
            if let Target::Channel(channel) = column.to
                && power(column.scaler, channel) == 0
                && let Some(short) = cells.next_short()
            {
                if let Some(kept) = self.cells.get_mut(index) {
                    *kept = Some(Number::Integer(short.into()));
                }
                values[channel.index()] = short;
                set |= 1 << channel.index();
                continue;
            }
            let Some(cell) = cells.next() else { break };
            let channel = match column.to {
                Target::Ignore => continue,
                Target::EventWord => {
                    self.event_word = Some(event_word(&cell, place(index))?);
                    continue;
                }
                Target::Channel(channel) => channel,
            };
            let unfit = |expected| mismatch(place(index), expected, type_of(&cell));
            let before = self.cells.get(index).copied().flatten();
            let number = number(&cell, before, channel).map_err(unfit)?;
            if let Some(kept) = self.cells.get_mut(index) {
                *kept = number;
            }
            let Some(number) = number else { continue };
            values[channel.index()] =
                scaled(number, column, channel).ok_or_else(|| unfit(Expected::InRange(channel)))?;
            set |= 1 << channel.index();
        }
        Ok(Values::of_channels(set, &values))
    }

    fn keep(&mut self, stamp: Option<Stamp>, values: Values) {
        let (Some(stamp), Some(kind)) = (stamp, reading_kind(self.layout.kind)) else { return };
        if values.is_empty() {
            return;
        }
        self.readings.push(Reading {
            kind,
            end: stamp.instant.plus_seconds(i64::from(self.to_end_s)),
            deviation_min: stamp.deviation_min,
            clock_status: stamp.clock_status,
            quality: stamp.quality,
            values,
        });
    }
}

fn reading_kind(kind: PushKind) -> Option<ReadingKind> {
    match kind {
        PushKind::Interval => Some(ReadingKind::Interval),
        PushKind::Daily => Some(ReadingKind::Daily),
        PushKind::Instant => Some(ReadingKind::Instant),
        PushKind::Event => None,
    }
}

/// The number in a cell; `None` is a missing value.
fn number(cell: &Value<'_>, before: Option<Number>, channel: Channel) -> Result<Option<Number>, Expected> {
    match cell {
        Value::Null => Ok(before),
        Value::DontCare => Ok(None),
        Value::Delta(delta) => match before.and_then(|before| before.plus(*delta)) {
            Some(sum) => Ok(Some(sum)),
            None => Err(Expected::Before(channel)),
        },
        other => match Number::of(other) {
            Some(number) => Ok(Some(number)),
            None => Err(Expected::Number(channel)),
        },
    }
}

/// The number in the unit of its channel, where it fits.
fn scaled(number: Number, column: &Column, channel: Channel) -> Option<i64> {
    let scaler = if number.is_float() { column.float_scaler } else { column.scaler };
    number.times_power_of_ten(power(scaler, channel))
}

/// Power of ten from a number on the wire to the unit of its channel.
fn power(scaler: i8, channel: Channel) -> i32 {
    i32::from(scaler) - i32::from(channel.exponent())
}

fn event_word(cell: &Value<'_>, place: Place) -> Result<EventWord, Mismatch> {
    let Value::BitString(bits) = cell else {
        return Err(mismatch(place, Expected::EventWord, type_of(cell)));
    };
    match <[u8; 16]>::try_from(bits.bytes()) {
        Ok(bytes) if bits.bits() == 128 => Ok(EventWord(bytes)),
        _ => Err(mismatch(place, Expected::EventWord, Found::Count(bits.bits()))),
    }
}

fn mismatch(place: Place, expected: Expected, found: Found) -> Mismatch {
    Mismatch { place, expected, found }
}

fn type_of(value: &Value<'_>) -> Found {
    Found::Type(match value {
        Value::Null => "null",
        Value::Array(_) => "array",
        Value::Structure(_) => "structure",
        Value::Bool(_) => "boolean",
        Value::BitString(_) => "bit-string",
        Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_) => "signed integer",
        Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => "unsigned integer",
        Value::Enum(_) => "enum",
        Value::F32(_) => "float32",
        Value::F64(_) => "float64",
        Value::OctetString(_) => "octet-string",
        Value::VisibleString(_) => "visible-string",
        Value::Utf8String(_) => "utf8-string",
        Value::Bcd(_) => "bcd",
        Value::DateTime(_) => "date-time",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::CompactArray(_) => "compact array",
        Value::Delta(_) => "delta",
        Value::DontCare => "don't care",
    })
}

#[cfg(test)]
mod tests;
