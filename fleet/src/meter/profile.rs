//! Profiles: their columns, their scalers and their rows.

use ::model::{Channel, CivilDay, Instant, Values};
use codec::apdu::{DataAccessResult, SelectiveAccess};
use codec::axdr::{DateTime, Writer};
use codec::cosem::india::{control, events::EventLog, identity, register, status, time};
use codec::cosem::profile_generic::CaptureObject;
use codec::cosem::{ClassId, LogicalName, clock, data, extended_register};
use profiles::{Column, PushKind, Target};

use super::event::{self, CAPACITY, Event};
use super::model::{Which, unit};
use super::table::{Row, Span, Wanted};
use super::tariff::ZONES;
use super::{Held, Meter};
use crate::Error;
use crate::encode::Cell;
use crate::plan::Content;

/// Rows of the block load: 90 days of half-hours (dlms.md 6.5).
const BLOCK_ROWS: u32 = 4320;
/// Rows of the daily load.
const DAILY_ROWS: u32 = 70;
/// Completed billing cycles that are kept; the running one comes besides.
const BILLING_CYCLES: u32 = 12;
const DAY_S: i64 = 86_400;
/// Days back that an event log looks for what happened to the meter.
const EVENT_DAYS: i32 = 400;

impl Which {
    pub(super) fn period_s(self, block_s: u32) -> u32 {
        match self {
            Which::Block => block_s,
            Which::Daily => 86_400,
            Which::Instant | Which::Billing | Which::Nameplate | Which::Log(_) => 0,
        }
    }

    pub(super) fn capacity(self) -> u32 {
        match self {
            Which::Block => BLOCK_ROWS,
            Which::Daily => DAILY_ROWS,
            Which::Billing => BILLING_CYCLES + 1,
            Which::Instant | Which::Nameplate => 1,
            Which::Log(_) => CAPACITY as u32,
        }
    }
}

fn encoded(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

impl Meter {
    /// The columns of a buffer.
    pub(super) fn columns(&self, which: Which) -> Vec<CaptureObject> {
        let clock_column = CaptureObject::whole(clock::CLASS, time::CLOCK, 2);
        let of_push = |kind| {
            let layout =
                self.encoder.layout(kind).map(|layout| layout.columns.as_slice()).unwrap_or_default();
            let columns = layout
                .iter()
                .map(|c| CaptureObject::whole(ClassId(c.class), LogicalName(c.obis.0), c.attribute as i8));
            [clock_column].into_iter().chain(columns).collect()
        };
        match which {
            Which::Instant => of_push(PushKind::Instant),
            Which::Block => of_push(PushKind::Interval),
            Which::Daily => of_push(PushKind::Daily),
            Which::Billing => billing_columns(),
            Which::Nameplate => {
                let mut columns = nameplate().map(|name| CaptureObject::whole(data::CLASS, name, 2)).to_vec();
                columns.truncate(8);
                columns
            }
            Which::Log(log) => {
                let mut columns = vec![clock_column, CaptureObject::whole(data::CLASS, log.latest_code(), 2)];
                columns.extend(self.event_columns(log).into_iter().map(|(shown, _)| shown));
                columns
            }
        }
    }

    /// What an event of that log captures besides its code, each with its place among the instantaneous values.
    fn event_columns(&self, log: EventLog) -> Vec<(CaptureObject, usize)> {
        if !matches!(log, EventLog::Voltage | EventLog::Current | EventLog::Others) {
            return Vec::new();
        }
        let wanted = [
            (register::CURRENT_PHASE, register::CURRENT_OF_EVENT),
            (register::VOLTAGE, register::VOLTAGE),
            (register::POWER_FACTOR, register::POWER_FACTOR),
            (register::ENERGY_IMPORT, register::ENERGY_IMPORT),
            (register::ENERGY_EXPORT, register::ENERGY_EXPORT),
            (status::TAMPER_COUNT, status::TAMPER_COUNT),
        ];
        let Ok(layout) = self.encoder.layout(PushKind::Instant) else { return Vec::new() };
        let place = |(from, shown): (LogicalName, LogicalName)| {
            let place = layout.columns.iter().position(|column| column.obis.0 == from.0)?;
            let class = ClassId(layout.columns.get(place)?.class);
            Some((CaptureObject::whole(class, shown, 2), place))
        };
        wanted.into_iter().filter_map(place).collect()
    }

    /// Columns of a buffer that have a scaler, as its scaler profile names them.
    pub(super) fn scaled(&self, which: Which) -> Vec<CaptureObject> {
        let is_scaled = |column: &CaptureObject| matches!(column.class.0, 3 | 4) && column.attribute == 2;
        let columns = self.columns(which).into_iter().filter(is_scaled);
        columns.map(|column| CaptureObject { attribute: 3, ..column }).collect()
    }

    /// The power of ten of a column, and its unit.
    pub(super) fn scaler(&self, name: LogicalName) -> (i8, u8) {
        let scaler = self
            .push_column(name)
            .map_or(0, |column| if self.meter.float_energy { column.float_scaler } else { column.scaler });
        (scaler, unit(name))
    }

    /// The column of a push with that name, or with that of which it is a zone or a copy.
    fn push_column(&self, name: LogicalName) -> Option<&Column> {
        let LogicalName([a, b, c, d, _, f]) = name;
        let total = match name {
            register::CURRENT_OF_EVENT => register::CURRENT_PHASE,
            _ if a == 1 => LogicalName([a, b, c, d, 0, f]),
            _ => name,
        };
        let columns = self.profile.push.iter().flat_map(|layout| &layout.columns);
        columns.into_iter().find(|column| column.obis.0 == total.0 && column.attribute == 2)
    }

    pub(super) fn write_buffer(
        &mut self,
        which: Which,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        let columns = self.columns(which);
        let sequence = match which {
            Which::Log(log) => Some(log.sequence_number()),
            _ => None,
        };
        let wanted = Wanted::of(selection, &columns, sequence, &self.calendar)?;
        if self.low_memory && matches!(which, Which::Block | Which::Daily | Which::Billing) {
            return Err(DataAccessResult::TemporaryFailure);
        }
        let mut rows = self.rows(which, &wanted.span)?;
        rows.retain(|row| wanted.span.holds(row));
        wanted.write(&rows, out);
        Ok(())
    }

    pub(super) fn entries(&mut self, which: Which) -> Result<u32, DataAccessResult> {
        Ok(self.rows(which, &Span::All)?.len() as u32)
    }

    /// The rows of a buffer, at least those of the span, the oldest first.
    fn rows(&mut self, which: Which, span: &Span) -> Result<Vec<Row>, DataAccessResult> {
        match which {
            Which::Instant => Ok(vec![self.row(self.now, &Content::Moment(self.now), true)?.0]),
            Which::Block => {
                Ok(self.interval_rows(span, self.cleared.0)?.into_iter().map(|(row, _)| row).collect())
            }
            Which::Daily => {
                Ok(self.daily_rows(span, self.cleared.1)?.into_iter().map(|(row, _)| row).collect())
            }
            Which::Billing => self.billing_rows(),
            Which::Nameplate => {
                let value = |name| self.stored.value(name, 2).unwrap_or(&[0]).to_vec();
                let cells = nameplate().map(value).to_vec();
                Ok(vec![Row { stamp: self.now, sequence: 0, cells }])
            }
            Which::Log(log) => self.log_rows(log),
        }
    }

    /// One row of what was measured on the day of `at`, and the values it says.
    fn row(
        &mut self,
        at: Instant,
        content: &Content,
        is_now: bool,
    ) -> Result<(Row, Values), DataAccessResult> {
        let day = match content {
            Content::Moment(_) => self.calendar.day_of(at),
            _ => self.calendar.usage_day(at),
        };
        let measured = self.history.day(day).ok_or(DataAccessResult::ObjectUnavailable)?;
        let (stamp, mut cells, values) =
            self.encoder.captured(&measured, content).map_err(|_| DataAccessResult::ObjectUndefined)?;
        let stamp = if is_now { self.encoder.date_time(self.clock()) } else { stamp };
        if is_now {
            self.as_it_is(&mut cells);
        }
        let tagged = self.meter.tagged_time;
        let cells = [Cell::Time(stamp)].into_iter().chain(cells).map(|cell| {
            let mut out = Vec::new();
            cell.write(tagged, &mut out);
            out
        });
        let cells = cells.collect();
        Ok((Row { stamp: self.instant(&stamp, at), sequence: 0, cells }, values))
    }

    /// What pushes take for granted, the meter knows: its relay and its limit.
    fn as_it_is(&self, cells: &mut [Cell]) {
        let Ok(layout) = self.encoder.layout(PushKind::Instant) else { return };
        for (cell, column) in cells.iter_mut().zip(&layout.columns) {
            match column.to {
                Target::Channel(Channel::RelayState) => *cell = Cell::Bool(self.is_connected()),
                Target::Channel(Channel::LoadLimitW) => {
                    let limit = self.stored.number(control::LOAD_LIMIT, 3);
                    *cell = Cell::U32(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(0));
                }
                _ => {}
            }
        }
    }

    fn instant(&self, stamp: &DateTime, otherwise: Instant) -> Instant {
        super::instant_of(stamp, &self.calendar).unwrap_or(otherwise)
    }

    /// The days that a span may touch, as far as the buffer goes back.
    fn days(&self, span: &Span, back: i32) -> std::ops::RangeInclusive<i32> {
        let (from, to) = span.times();
        let today = self.calendar.day_of(self.now);
        // A day more at each end: stamps drift, and the last row of a day belongs to the next.
        let first = from.map_or(i32::MIN, |from| self.calendar.day_of(from).previous().0);
        let last = to.map_or(i32::MAX, |to| self.calendar.day_of(to).next().0);
        first.max(self.meter.from.0).max(today.0 - back)..=last.min(today.0)
    }

    fn interval_rows(
        &mut self,
        span: &Span,
        since: Option<Instant>,
    ) -> Result<Vec<(Row, Values)>, DataAccessResult> {
        let a_day = (DAY_S / i64::from(self.meter.period_s.max(1))) as i32;
        let mut rows = Vec::new();
        for day in self.days(span, BLOCK_ROWS as i32 / a_day.max(1) - 1).map(CivilDay) {
            let measured = self.history.day(day).ok_or(DataAccessResult::ObjectUnavailable)?;
            for slot in 0..measured.used.intervals.len() {
                let end = measured.used.end_of(slot);
                if end <= self.now && since.is_none_or(|since| since < end) {
                    rows.push(self.row(end, &Content::Interval(slot), false)?);
                }
            }
        }
        Ok(rows)
    }

    fn daily_rows(
        &mut self,
        span: &Span,
        since: Option<Instant>,
    ) -> Result<Vec<(Row, Values)>, DataAccessResult> {
        let mut rows = Vec::new();
        for day in self.days(span, DAILY_ROWS as i32).map(CivilDay) {
            let end = self.calendar.end_of(day);
            if end <= self.now && since.is_none_or(|since| since < end) {
                rows.push(self.row(end, &Content::Daily, false)?);
            }
        }
        Ok(rows)
    }

    /// The last value of a column: of now, of the last interval, of the last midnight.
    pub(super) fn column(&mut self, kind: PushKind, place: usize) -> Result<Vec<u8>, DataAccessResult> {
        let row = match kind {
            PushKind::Instant => self.row(self.now, &Content::Moment(self.now), true)?.0,
            PushKind::Interval => {
                let span = Span::Time(Some(self.now.plus_seconds(-DAY_S)), None);
                let last = self.interval_rows(&span, None)?.pop();
                last.ok_or(DataAccessResult::ObjectUnavailable)?.0
            }
            PushKind::Daily | PushKind::Event => {
                let span = Span::Time(Some(self.now.plus_seconds(-2 * DAY_S)), None);
                self.daily_rows(&span, None)?.pop().ok_or(DataAccessResult::ObjectUnavailable)?.0
            }
        };
        row.cells.into_iter().nth(place + 1).ok_or(DataAccessResult::ObjectUndefined)
    }

    /// When billing cycles closed, as many as are kept.
    pub(super) fn closes(&self) -> Vec<Instant> {
        let today = self.calendar.day_of(self.now);
        let days = (self.meter.from.0..=today.0).map(CivilDay);
        let mut closes: Vec<Instant> = days.flat_map(|day| self.history.closes(day)).collect();
        closes.retain(|close| *close <= self.now);
        closes.split_off(closes.len().saturating_sub(BILLING_CYCLES as usize))
    }

    /// A row for each cycle that was closed, and one for that which runs.
    fn billing_rows(&mut self) -> Result<Vec<Row>, DataAccessResult> {
        let mut rows = Vec::new();
        for at in self.closes() {
            rows.push(self.closed_row(at)?);
        }
        rows.push(self.running_row()?);
        Ok(rows)
    }

    /// The cycle that runs.
    fn running_row(&mut self) -> Result<Row, DataAccessResult> {
        let (_, values) = self.row(self.now, &Content::Moment(self.now), true)?;
        let value = |channel| values.get(channel).unwrap_or(0);
        let registers = (value(Channel::ImportWh), value(Channel::ImportVah));
        self.billing_row(self.now, registers, value(Channel::DemandW))
    }

    /// The cycle that closed at `at`.
    fn closed_row(&mut self, at: Instant) -> Result<Row, DataAccessResult> {
        let unavailable = DataAccessResult::ObjectUnavailable;
        let measured = self.history.day(self.calendar.usage_day(at)).ok_or(unavailable)?;
        let registers = if measured.used.end() == at {
            measured.registers_after()
        } else {
            let (_, values) = self.row(at, &Content::Moment(at), false)?;
            let value = |channel| values.get(channel).unwrap_or(0);
            (value(Channel::ImportWh), value(Channel::ImportVah))
        };
        self.billing_row(at, registers, measured.demand_until(at))
    }

    /// A column of the cycle that runs.
    pub(super) fn billing_value(&mut self, place: usize) -> Result<Vec<u8>, DataAccessResult> {
        let row = self.running_row()?;
        row.cells.into_iter().nth(place).ok_or(DataAccessResult::ObjectUndefined)
    }

    /// Active (Wh) and apparent (VAh) energy of each zone, from 1, where they are so many in all at `at`. An interval is
    /// counted to the zone in which it begins; before a calendar was put in force everything was in the first.
    fn zones(&mut self, at: Instant, all: (i64, i64)) -> Result<Vec<(i64, i64)>, DataAccessResult> {
        let mut zones = vec![(0, 0); usize::from(ZONES)];
        let mut rest = all;
        let mut count = |zone: u8, (wh, vah): (i64, i64)| {
            if let Some((zone_wh, zone_vah)) = zones.get_mut(usize::from(zone).saturating_sub(1)) {
                (*zone_wh, *zone_vah) = (*zone_wh + wh, *zone_vah + vah);
            }
        };
        if let Some(first) = self.tariffs.first().map(|(since, _)| *since) {
            let days = self.calendar.day_of(first).0..=self.calendar.usage_day(at).0;
            for day in days.map(CivilDay) {
                let measured = self.history.day(day).ok_or(DataAccessResult::ObjectUnavailable)?;
                for (slot, interval) in measured.used.intervals.iter().enumerate() {
                    let end = measured.used.end_of(slot);
                    let zone = self.zone(end.plus_seconds(-measured.used.period_s));
                    let part = if end <= at {
                        (interval.wh, interval.vah)
                    } else if end.plus_seconds(-measured.used.period_s) < at {
                        // Of the interval that runs, what is left of the register.
                        let before = measured.before;
                        let whole = measured.used.intervals.iter().take(slot);
                        let (wh, vah) = whole.fold((0, 0), |(wh, vah), one| (wh + one.wh, vah + one.vah));
                        (all.0 - before.register_wh - wh, all.1 - before.register_vah - vah)
                    } else {
                        break;
                    };
                    count(zone, part);
                    rest = (rest.0 - part.0, rest.1 - part.1);
                }
            }
        }
        count(1, rest);
        Ok(zones)
    }

    /// The zone of the tariff at a moment.
    fn zone(&self, at: Instant) -> u8 {
        let in_force = self.tariffs.iter().rev().find(|(since, _)| *since <= at);
        in_force.map_or(1, |(_, tariff)| tariff.zone(at, &self.calendar))
    }

    fn billing_row(
        &mut self,
        at: Instant,
        (wh, vah): (i64, i64),
        demand_w: i64,
    ) -> Result<Row, DataAccessResult> {
        let zones = self.zones(at, (wh, vah))?;
        let stamp = self.encoder.date_time(at);
        let small = |value: i64| Cell::U32(u32::try_from(value).unwrap_or(0));
        let of = |column: &CaptureObject| {
            let LogicalName([_, _, quantity, process, zone, _]) = column.name;
            let channel = match quantity {
                1 => Channel::ImportWh,
                9 => Channel::ImportVah,
                2 => Channel::ExportWh,
                _ => Channel::ExportVah,
            };
            let of_zone = usize::from(zone).checked_sub(1).and_then(|zone| zones.get(zone)).copied();
            let (zone_wh, zone_vah) = of_zone.unwrap_or((wh, vah));
            let energy = match quantity {
                1 => zone_wh,
                9 => zone_vah,
                _ => 0,
            };
            match (column.attribute, process) {
                (5, _) | (_, 1) => Cell::Time(stamp),
                (_, 8) => self
                    .push_column(column.name)
                    .map_or(small(energy), |found| self.encoder.cell(found, channel, energy).0),
                (_, 6) if quantity == 1 => small(demand_w),
                (_, 6) if quantity == 9 => small(demand_w * 105 / 100),
                (_, 0) if quantity == 13 => {
                    Cell::I16(i16::try_from((wh * 1000).checked_div(vah).unwrap_or(1000)).unwrap_or(1000))
                }
                _ => Cell::U32(0),
            }
        };
        let columns = billing_columns();
        let cells = columns.iter().map(of).map(|cell| {
            let mut out = Vec::new();
            cell.write(self.meter.tagged_time, &mut out);
            out
        });
        let cells = cells.collect();
        Ok(Row { stamp: at, sequence: 0, cells })
    }

    /// Everything a log knows, the last rows of which it keeps.
    pub(super) fn events(&mut self, log: EventLog) -> Result<Vec<Event>, DataAccessResult> {
        let mut events = self.journal.of(log);
        match log {
            EventLog::Control => events.extend(event::of_relay(&self.meter.supply, self.now)),
            EventLog::Transaction => {}
            _ => {
                for day in self.days(&Span::All, EVENT_DAYS).map(CivilDay) {
                    let measured = self.history.day(day).ok_or(DataAccessResult::ObjectUnavailable)?;
                    events.extend(event::of_day(&self.changes(&measured), log, self.now));
                }
            }
        }
        if log == EventLog::Others {
            events.extend(event::of_overloads(&self.meter.supply, self.now));
        }
        events.sort_by_key(|event| event.at);
        if log == EventLog::NonRollover {
            // What is full takes no more.
            events.truncate(CAPACITY);
        }
        Ok(events)
    }

    fn log_rows(&mut self, log: EventLog) -> Result<Vec<Row>, DataAccessResult> {
        let events = self.events(log)?;
        let first = events.len().saturating_sub(CAPACITY);
        let columns = self.event_columns(log);
        let mut rows = Vec::new();
        for (number, Event { at, code }) in events.iter().enumerate().skip(first) {
            let stamp = self.encoder.date_time(self.encoder.shown(*at));
            let mut cells = vec![encoded(|w| _ = w.octet_string(&stamp.0)), encoded(|w| _ = w.u16(*code))];
            if !columns.is_empty() {
                let row = self.row(*at, &Content::Moment(*at), false)?.0;
                let cell = |place: usize| row.cells.get(place + 1).cloned().unwrap_or_else(|| vec![0]);
                cells.extend(columns.iter().map(|(_, place)| cell(*place)));
            }
            rows.push(Row { stamp: self.instant(&stamp, *at), sequence: number as u32 + 1, cells });
        }
        Ok(rows)
    }

    pub(super) fn everything(&mut self) -> Result<Held, Error> {
        let profile = self.meter.profile.clone();
        let missing = |_| Error::UnknownPush { profile: profile.clone(), kind: "buffer".to_owned() };
        let of =
            |rows: Vec<(Row, Values)>| rows.into_iter().map(|(row, values)| (row.stamp, values)).collect();
        let registers = self.row(self.now, &Content::Moment(self.now), true);
        let (block, daily) =
            (self.interval_rows(&Span::All, self.cleared.0), self.daily_rows(&Span::All, self.cleared.1));
        let missing = &missing;
        Ok(Held {
            registers: registers.map_err(missing)?.1,
            block: of(block.map_err(missing)?),
            daily: of(daily.map_err(missing)?),
        })
    }
}

/// In the order of the dump of D1 (dlms.md 6.2).
fn nameplate() -> [LogicalName; 8] {
    [
        identity::SERIAL_NUMBER,
        identity::DEVICE_ID,
        identity::MANUFACTURER,
        identity::FIRMWARE_VERSION,
        identity::METER_TYPE,
        identity::CATEGORY,
        identity::CURRENT_RATING,
        identity::YEAR_OF_MANUFACTURE,
    ]
}

/// In the order of the dump of D1 (dlms.md 6.5).
pub(super) fn billing_columns() -> Vec<CaptureObject> {
    let value = |name| {
        let LogicalName([_, _, _, process, ..]) = name;
        let class = if process == 6 { extended_register::CLASS } else { ClassId(3) };
        CaptureObject::whole(class, name, 2)
    };
    let zones = |LogicalName([a, b, c, d, _, f]): LogicalName| {
        (0..=ZONES).map(move |zone| value(LogicalName([a, b, c, d, zone, f])))
    };
    let demand = |name| [value(name), CaptureObject::whole(extended_register::CLASS, name, 5)];
    let mut all = vec![
        CaptureObject::whole(data::CLASS, status::BILLING_DATE, 2),
        value(register::POWER_FACTOR_AVERAGE),
    ];
    all.extend(zones(register::ENERGY_IMPORT));
    all.extend(zones(register::APPARENT_ENERGY_IMPORT));
    all.extend(demand(register::DEMAND_IMPORT));
    all.extend(demand(register::APPARENT_DEMAND_IMPORT));
    all.push(CaptureObject::whole(data::CLASS, status::BILLING_POWER_ON_DURATION, 2));
    all.extend([value(register::ENERGY_EXPORT), value(register::APPARENT_ENERGY_EXPORT)]);
    all.extend(demand(register::DEMAND_EXPORT));
    all.extend(demand(register::APPARENT_DEMAND_EXPORT));
    all.push(CaptureObject::whole(ClassId(3), LogicalName([1, 0, 84, 6, 0, 255]), 2));
    all
}
