//! The bytes of a push: A-XDR by the layout of the meter's profile, data-notification, ciphering, wrapper or HDLC.

use std::sync::Arc;

use bytes::Bytes;
use codec::apdu::{DataNotificationRepr, LongInvokeId};
use codec::axdr::{DateTime, Writer, tag};
use codec::security::{self, Keys, RustCrypto, SecurityControl};
use codec::wrapper::WrapperRepr;
use model::{Calendar, Channel, Digest, EventWord, Instant, ObisCode, Values};
use profiles::{Column, Profile, PushKind, PushLayout, Stamps, Target};

use crate::Error;
use crate::meter::station;
use crate::options::Faults;
use crate::plan::{Content, Garbage, Measured, PlannedFrame, Wrong, bits};
use crate::program::Numbered;
use crate::provision::{Deviation, RowStyle, SimulatedMeter};
use crate::rng::Rng;
use crate::spell::{self, Drift};

const PURPOSE_INVOKE: u64 = 11;
/// Ports of the wrapper: the management logical device pushes to the push client.
const METER_PORT: u16 = 1;
const PUSH_CLIENT_PORT: u16 = 64;
/// Bits of the event status word.
const WORD_BITS: usize = 128;
/// How far ahead a stamp is that is ahead: its key's own value comes that much later.
const INTERVAL_AHEAD_S: i64 = 36 * 3600;
const DAILY_AHEAD_S: i64 = 48 * 3600;
/// Up to here float32 in kWh has room for every Wh.
const FLOAT_EXACT_MAX: i64 = 16_384_000;
/// Current, voltage and energy shares of the phases R, Y and B, percent.
const PHASE_SHARES: [i64; 3] = [40, 35, 25];

/// One push on the wire, with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The meter's number in the fleet.
    pub meter: u32,
    /// Its serial number: the node of its topics.
    pub node: Arc<str>,
    /// Which of the meter's successive keys it is made with.
    pub key_epoch: u16,
    /// Invocation counter; `None` for a plain push.
    pub counter: Option<u32>,
    /// What it carries.
    pub kind: Kind,
    /// Whether it asks for a confirm.
    pub confirmed: bool,
    /// The 24 bits that a confirm echoes.
    pub invoke_id: u32,
    /// When it is sent, in simulated time.
    pub sent: Instant,
    /// Digest of `bytes`: BLAKE3, the first 16 bytes.
    pub digest: Digest,
    /// Wrapper header and APDU, or the frames of HDLC.
    pub bytes: Bytes,
    /// The ends of its readings and the values as they stand on the wire.
    pub readings: Vec<(Instant, Values)>,
    /// The event status word.
    pub event_word: Option<EventWord>,
    /// What is wrong with its stamp.
    pub garbage: Option<Garbage>,
}

/// What a push carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Intervals.
    Interval,
    /// Daily registers.
    Daily,
    /// Values of a moment.
    Instant,
    /// The event status word.
    Event,
}

impl Kind {
    /// The word in the truth file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Interval => "interval",
            Kind::Daily => "daily",
            Kind::Instant => "instant",
            Kind::Event => "event",
        }
    }
}

/// Makes the bytes of one meter's pushes.
#[derive(Debug)]
pub struct Encoder {
    seed: u64,
    calendar: Calendar,
    faults: Faults,
    profile: Arc<Profile>,
    keys: Keys,
    node: Arc<str>,
    meter: Arc<SimulatedMeter>,
}

/// One reading that is to be written.
struct Row {
    /// End of the interval, or moment of the capture, as the meter's clock has it.
    end: Instant,
    /// What stands in place of the stamp.
    instead: Option<DateTime>,
    values: Measurement,
}

/// Where the values of a row come from.
enum Measurement {
    Interval { wh: i64, vah: i64, voltage_dv: i64, period_s: i64 },
    Registers { wh: i64, vah: i64 },
    Moment(Moment),
}

/// The state of a meter at one moment.
struct Moment {
    wh: i64,
    vah: i64,
    power_w: i64,
    power_va: i64,
    voltage_dv: i64,
    demand_w: i64,
    power_fails: i64,
    power_fail_min: i64,
    minutes_on: i64,
    months: i64,
    load_limit_w: i64,
    tampers: i64,
    frequency_mhz: i64,
    /// Whether the relay is closed.
    supplied: bool,
}

impl Encoder {
    /// An encoder for that meter.
    ///
    /// # Errors
    /// When its profile is not a built-in one, or says nothing of one of the pushes.
    pub fn new(
        seed: u64,
        meter: Arc<SimulatedMeter>,
        calendar: Calendar,
        faults: Faults,
        known: &[Arc<Profile>],
    ) -> Result<Encoder, Error> {
        let found = known.iter().find(|profile| profile.name == meter.profile);
        let profile = found.ok_or_else(|| Error::UnknownProfile(meter.profile.clone()))?.clone();
        let encoder = Encoder {
            seed,
            calendar,
            faults,
            keys: Keys::new(meter.guek, meter.gak),
            node: meter.serial.as_str().into(),
            profile,
            meter,
        };
        for kind in [PushKind::Interval, PushKind::Daily, PushKind::Instant, PushKind::Event] {
            encoder.layout(kind)?;
        }
        Ok(encoder)
    }

    /// The push on the wire. The same plan gives the same bytes.
    ///
    /// # Errors
    /// When the profile has no such push.
    pub fn encode(&self, measured: &Measured, planned: &PlannedFrame) -> Result<Frame, Error> {
        let (kind, layout_kind) = kind_of(&planned.content);
        let layout = self.layout(layout_kind)?;
        let rows = self.rows(measured, &planned.content);
        let mut body = Vec::with_capacity(64 + rows.len() * 64);
        let mut readings = Vec::with_capacity(rows.len());
        let event_word = match planned.content {
            Content::Event(at, word) => {
                let word = with_relay(word, measured.used.is_open(at));
                self.event(layout, self.shown(at), word, &mut body);
                Some(word)
            }
            Content::Intervals(_) => {
                self.nested(layout, self.shown(planned.due), &rows, &mut body, &mut readings);
                None
            }
            Content::Interval(_) | Content::IntervalRevised(_) | Content::IntervalGarbled(..)
                if self.meter.nested =>
            {
                self.nested(layout, self.shown(planned.due), &rows, &mut body, &mut readings);
                None
            }
            _ => {
                self.flat(layout, &rows, &mut body, &mut readings);
                None
            }
        };
        Ok(self.seal(planned, kind, &body, readings, event_word))
    }

    /// Values of a moment as a data-notification without a frame around it, which asks for no confirm.
    ///
    /// # Errors
    /// When the profile has no such push.
    pub(crate) fn beside(&self, measured: &Measured, number: Numbered) -> Result<Vec<u8>, Error> {
        let Numbered { at, key_epoch, counter } = number;
        let content = Content::Moment(at);
        let layout = self.layout(PushKind::Instant)?;
        let (rows, mut body) = (self.rows(measured, &content), Vec::new());
        self.flat(layout, &rows, &mut body, &mut Vec::new());
        let planned = PlannedFrame { key_epoch, counter, due: at, sent: at, again: None, content };
        Ok(self.notification(&planned, Kind::Instant, false, &body).1)
    }

    /// The row that a buffer holds of what was measured: its stamp, the cells behind it, and the values they say. Faults
    /// of pushes are not in it.
    pub(crate) fn captured(
        &self,
        measured: &Measured,
        content: &Content,
    ) -> Result<(DateTime, Vec<Cell>, Values), Error> {
        let (_, kind) = kind_of(content);
        let layout = self.layout(kind)?;
        let rows = self.rows(measured, content);
        let row = rows.first().ok_or_else(|| Error::UnknownPush {
            profile: self.profile.name.clone(),
            kind: format!("{kind:?}"),
        })?;
        let (cells, values) = self.cells(layout, row);
        Ok((self.stamp(kind, row), cells, values))
    }

    /// What is behind a row of that kind.
    pub(crate) fn layout(&self, kind: PushKind) -> Result<&PushLayout, Error> {
        let found = self.profile.push.iter().find(|layout| layout.kind == kind);
        found.ok_or_else(|| Error::UnknownPush {
            profile: self.profile.name.clone(),
            kind: format!("{kind:?}"),
        })
    }

    fn seal(
        &self,
        planned: &PlannedFrame,
        kind: Kind,
        body: &[u8],
        readings: Vec<(Instant, Values)>,
        event_word: Option<EventWord>,
    ) -> Frame {
        let meter = &self.meter;
        let (invoke_id, apdu) = self.notification(planned, kind, meter.confirmed, body);
        let counter = meter.security_control.map(|_| planned.counter);
        let mut bytes = Vec::with_capacity(apdu.len() + 8);
        match meter.hdlc {
            true => station::emit_push(&apdu, &mut bytes),
            false => {
                WrapperRepr { source: METER_PORT, destination: PUSH_CLIENT_PORT }.emit(&apdu, &mut bytes)
            }
        }
        Frame {
            meter: meter.index,
            node: Arc::clone(&self.node),
            key_epoch: planned.key_epoch,
            counter,
            kind,
            confirmed: meter.confirmed,
            invoke_id: invoke_id.id(),
            sent: planned.sent,
            digest: digest(&bytes),
            bytes: bytes.into(),
            readings,
            event_word,
            garbage: planned.content.garbage(),
        }
    }

    /// The push without a frame around it, ciphered where the meter's are, and its invoke id.
    fn notification(
        &self,
        planned: &PlannedFrame,
        kind: Kind,
        confirmed: bool,
        body: &[u8],
    ) -> (LongInvokeId, Vec<u8>) {
        let meter = &self.meter;
        let draw =
            Rng::keyed(self.seed, &[PURPOSE_INVOKE, u64::from(meter.index), u64::from(planned.counter)])
                .next_u64();
        let invoke_id = LongInvokeId::new((draw & 0x00ff_ffff) as u32, confirmed, kind == Kind::Event);
        let date_time = (draw >> 24).is_multiple_of(5).then(|| self.date_time(self.shown(planned.due)));
        let mut apdu = Vec::with_capacity(body.len() + 32);
        DataNotificationRepr { invoke_id, date_time }.emit(body, &mut apdu);
        if let Some(control) = meter.security_control {
            let plain = std::mem::take(&mut apdu);
            let title = &meter.title.0;
            let second = meter.replaced.keys().or_else(|| {
                let (guek, gak) = spell::second_keys(self.seed, meter.index);
                (planned.key_epoch > 1).then(|| Keys::new(guek, gak))
            });
            security::seal(
                &RustCrypto,
                SecurityControl(control),
                title,
                planned.counter,
                second.as_ref().unwrap_or(&self.keys),
                &plain,
                &mut apdu,
            );
        }
        (invoke_id, apdu)
    }

    /// What the meter's clock shows at that moment.
    pub(crate) fn shown(&self, at: Instant) -> Instant {
        Drift::of(self.seed, &self.meter, &self.faults).map_or(at, |drift| drift.shown(at))
    }

    fn head(&self, elements: usize, setup: ObisCode, clock: DateTime, out: &mut Vec<u8>) {
        Writer::new(out)
            .structure(elements)
            .octet_string(self.meter.device_id.as_bytes())
            .octet_string(&setup.0);
        Cell::Time(clock).write(self.meter.tagged_time, out);
    }

    fn event(&self, layout: &PushLayout, at: Instant, word: EventWord, out: &mut Vec<u8>) {
        self.head(4, layout.setup, self.date_time(at), out);
        Writer::new(out).bit_string(WORD_BITS, &word.0);
    }

    fn flat(
        &self,
        layout: &PushLayout,
        rows: &[Row],
        out: &mut Vec<u8>,
        readings: &mut Vec<(Instant, Values)>,
    ) {
        for row in rows {
            self.head(3 + layout.columns.len(), layout.setup, self.stamp(layout.kind, row), out);
            let (cells, values) = self.cells(layout, row);
            cells.iter().for_each(|cell| cell.write(self.meter.tagged_time, out));
            row.tell(values, readings);
        }
    }

    fn nested(
        &self,
        layout: &PushLayout,
        pushed_at: Instant,
        rows: &[Row],
        out: &mut Vec<u8>,
        readings: &mut Vec<(Instant, Values)>,
    ) {
        self.head(4, layout.setup, self.date_time(pushed_at), out);
        let mut table = Vec::with_capacity(rows.len());
        for row in rows {
            let (mut cells, values) = self.cells(layout, row);
            cells.insert(0, Cell::Time(self.stamp(layout.kind, row)));
            table.push(cells);
            row.tell(values, readings);
        }
        if self.meter.row_style == RowStyle::Compact {
            self.compact(&table, out);
        } else {
            self.array(&table, rows, out);
        }
    }

    fn array(&self, table: &[Vec<Cell>], rows: &[Row], out: &mut Vec<u8>) {
        Writer::new(out).array(table.len());
        for (number, cells) in table.iter().enumerate() {
            Writer::new(out).structure(cells.len());
            let before = number.checked_sub(1).map(|before| (&table[before], rows[before].end));
            for (column, cell) in cells.iter().enumerate() {
                let cell = match before {
                    Some((cells_before, end)) => {
                        self.against(*cell, cells_before[column], rows[number].end, end)
                    }
                    None => *cell,
                };
                cell.write(self.meter.tagged_time, out);
            }
        }
    }

    /// The cell as it is written where the row before is known.
    fn against(&self, cell: Cell, before: Cell, end: Instant, end_before: Instant) -> Cell {
        let follows = end.seconds() - end_before.seconds() == i64::from(self.meter.period_s);
        match (self.meter.row_style, cell, before) {
            (RowStyle::NullClock, Cell::Time(_), _) if follows => Cell::Null,
            (RowStyle::Delta, Cell::U32(now), Cell::U32(then)) => {
                i16::try_from(i64::from(now) - i64::from(then)).map_or(cell, Cell::Delta)
            }
            _ => cell,
        }
    }

    /// Types once, then every row without tags.
    fn compact(&self, table: &[Vec<Cell>], out: &mut Vec<u8>) {
        let Some(first) = table.first() else {
            Writer::new(out).array(0);
            return;
        };
        let tagged_time = self.meter.tagged_time;
        let count = u8::try_from(first.len()).expect("a profile has fewer than 128 columns");
        let mut types = vec![tag::STRUCTURE, count];
        let mut contents = Vec::new();
        let mut one = Vec::new();
        for (number, cells) in table.iter().enumerate() {
            for cell in cells {
                one.clear();
                cell.write(tagged_time, &mut one);
                if number == 0 {
                    types.push(one[0]);
                }
                contents.extend_from_slice(&one[1..]);
            }
        }
        Writer::new(out).compact_array(&types, &contents);
    }

    /// The columns of a row, and the values they have on the wire.
    fn cells(&self, layout: &PushLayout, row: &Row) -> (Vec<Cell>, Values) {
        let mut values = Values::new();
        let cells = layout
            .columns
            .iter()
            .map(|column| match column.to {
                Target::Channel(channel) => {
                    let (cell, carried) = self.cell(column, channel, row.values.channel(channel));
                    values.insert(channel, carried);
                    cell
                }
                // What is not kept are the times of demand registers and of billing.
                Target::EventWord | Target::Ignore => Cell::Time(self.date_time(row.end)),
            })
            .collect();
        (cells, values)
    }

    /// A value in the unit of its channel as a cell in the unit of its column, and what the cell says in the unit of
    /// the channel.
    pub(crate) fn cell(&self, column: &Column, channel: Channel, value: i64) -> (Cell, i64) {
        if self.meter.float_energy && column.float_scaler != column.scaler {
            return float_cell(value, column.float_scaler - channel.exponent());
        }
        let shift = column.scaler - channel.exponent();
        let unit = 10_i64.pow(u32::from(shift.unsigned_abs()));
        let (raw, carried) = if shift > 0 {
            let raw = (value + unit / 2).div_euclid(unit);
            (raw, raw * unit)
        } else {
            (value * unit, value)
        };
        (Cell::of(channel, raw), carried)
    }

    fn stamp(&self, kind: PushKind, row: &Row) -> DateTime {
        let before_end_s = match (kind, self.profile.stamps) {
            (PushKind::Interval, Stamps::Start) => i64::from(self.profile.period_s),
            _ => 0,
        };
        row.instead.unwrap_or_else(|| self.date_time(row.end.plus_seconds(-before_end_s)))
    }

    /// Stamps a row by the meter's clock.
    fn stamped(&self, end: Instant, values: Measurement) -> Row {
        Row { end: self.shown(end), instead: None, values }
    }

    /// Stamps a row with garbage, which keeps to the grid where it is a time at all.
    fn garbled(&self, row: Row, garbage: Garbage, ahead_s: i64) -> Row {
        let into = row.end.seconds() - self.calendar.start_of(self.calendar.usage_day(row.end)).seconds();
        let first_of = |year| self.calendar.instant_of(year, 1, 1, 0, 0, 0).unwrap_or(row.end);
        let (end, instead) = match garbage {
            Garbage::Past => (first_of(1999).plus_seconds(into), None),
            Garbage::FarAhead => (first_of(2099).plus_seconds(into), None),
            Garbage::Ahead => (row.end.plus_seconds(ahead_s), None),
            Garbage::Unspecified => (row.end, Some(DateTime([0xff; 12]))),
            Garbage::Impossible => (row.end, Some(DateTime::new(2026, 2, 30, 1, 0, 0, 0, 0, 330, 0))),
        };
        Row { end, instead, ..row }
    }

    /// A moment as this meter writes it.
    pub(crate) fn date_time(&self, at: Instant) -> DateTime {
        let wall = self.calendar.wall_clock(at);
        let ahead =
            i16::try_from(self.calendar.offset_seconds(at) / 60).unwrap_or(DateTime::DEVIATION_UNSPECIFIED);
        let deviation = match self.meter.deviation {
            Deviation::Ahead => ahead,
            Deviation::BlueBook => -ahead,
            Deviation::Unspecified => DateTime::DEVIATION_UNSPECIFIED,
        };
        let small = |part: i8| part.unsigned_abs();
        let (month, day, weekday) = (small(wall.month), small(wall.day), small(wall.weekday));
        let (hour, minute, second) = (small(wall.hour), small(wall.minute), small(wall.second));
        DateTime::new(wall.year.unsigned_abs(), month, day, weekday, hour, minute, second, 0, deviation, 0)
    }

    fn rows(&self, measured: &Measured, content: &Content) -> Vec<Row> {
        let (registers, vah) = measured.registers_after();
        let daily = |wh| self.stamped(measured.used.end(), Measurement::Registers { wh, vah });
        let interval = |slot, wrong_wh| self.interval(measured, slot, wrong_wh);
        match (content, measured.wrong) {
            (Content::Interval(slot), Some(Wrong::Interval { slot: wrong, wh })) if *slot == wrong => {
                vec![interval(*slot, Some(wh))]
            }
            (Content::Interval(slot) | Content::IntervalRevised(slot), _) => vec![interval(*slot, None)],
            (Content::IntervalGarbled(slot, garbage), _) => {
                vec![self.garbled(interval(*slot, None), *garbage, INTERVAL_AHEAD_S)]
            }
            (Content::Intervals(slots), wrong) => slots
                .iter()
                .map(|&slot| {
                    let first = matches!(wrong, Some(Wrong::Interval { slot: wrong, .. }) if wrong == slot);
                    interval(slot, wrong.filter(|_| first).map(|wrong| wrong.wh()))
                })
                .collect(),
            (Content::Daily, Some(Wrong::Register { wh })) => vec![daily(wh)],
            (Content::Daily | Content::DailyRevised, _) => vec![daily(registers)],
            (Content::DailyGarbled(garbage), _) => {
                vec![self.garbled(daily(registers), *garbage, DAILY_AHEAD_S)]
            }
            (Content::Moment(at), _) => {
                vec![self.stamped(*at, Measurement::Moment(self.moment(measured, *at)))]
            }
            (Content::Event(..), _) => Vec::new(),
        }
    }

    fn interval(&self, measured: &Measured, slot: usize, wrong_wh: Option<i64>) -> Row {
        let used = &measured.used;
        let interval = used.intervals[slot];
        let wh = wrong_wh.unwrap_or(interval.wh);
        let (vah, voltage_dv, period_s) = (interval.vah, interval.voltage_dv, used.period_s);
        self.stamped(used.end_of(slot), Measurement::Interval { wh, vah, voltage_dv, period_s })
    }

    fn moment(&self, measured: &Measured, at: Instant) -> Moment {
        let used = &measured.used;
        let into = at.seconds() - used.start.seconds();
        let slot = usize::try_from(into / used.period_s).unwrap_or(0).min(used.intervals.len() - 1);
        let whole = &used.intervals[..slot];
        let now = used.intervals[slot];
        let part = into - slot as i64 * used.period_s;
        let (months, demand_w) = measured.cycle(at);
        let over = used.outages.iter().filter(|(_, to)| *to <= at);
        let fail_min = over.clone().map(|(from, to)| (to.seconds() - from.seconds()) / 60).sum::<i64>();
        let since = at.seconds() - self.calendar.start_of(self.meter.from).seconds();
        let before = &measured.before;
        // A register must not fall when a relay opens later in the interval: where one may, it follows the load.
        let ((wh, vah), (power_w, power_va)) = match &used.course {
            Some(course) => (course.part(slot, at.plus_seconds(-part), at), course.power(slot, at)),
            None => (
                (now.wh * part / used.period_s, now.vah * part / used.period_s),
                (now.wh * 3600 / used.period_s, now.vah * 3600 / used.period_s),
            ),
        };
        Moment {
            wh: before.register_wh + whole.iter().map(|interval| interval.wh).sum::<i64>() + wh,
            vah: before.register_vah + whole.iter().map(|interval| interval.vah).sum::<i64>() + vah,
            power_w,
            power_va,
            supplied: !used.is_open(at),
            voltage_dv: now.voltage_dv,
            demand_w,
            power_fails: before.power_fails + over.count() as i64,
            power_fail_min: before.power_fail_min + fail_min,
            minutes_on: since / 60 - before.power_fail_min - fail_min,
            months,
            load_limit_w: i64::from(self.meter.sanctioned_w) * 12 / 10,
            tampers: i64::from(self.meter.index % 4),
            frequency_mhz: 49_900 + (at.seconds() / 60 + i64::from(self.meter.index)).rem_euclid(20) * 10,
        }
    }
}

impl Row {
    /// Notes what the row says, if its stamp is a time.
    fn tell(&self, values: Values, readings: &mut Vec<(Instant, Values)>) {
        if self.instead.is_none() {
            readings.push((self.end, values));
        }
    }
}

impl Wrong {
    fn wh(self) -> i64 {
        match self {
            Wrong::Interval { wh, .. } | Wrong::Register { wh } => wh,
        }
    }
}

fn kind_of(content: &Content) -> (Kind, PushKind) {
    match content {
        Content::Interval(_)
        | Content::Intervals(_)
        | Content::IntervalRevised(_)
        | Content::IntervalGarbled(..) => (Kind::Interval, PushKind::Interval),
        Content::Daily | Content::DailyRevised | Content::DailyGarbled(_) => (Kind::Daily, PushKind::Daily),
        Content::Moment(_) => (Kind::Instant, PushKind::Instant),
        Content::Event(..) => (Kind::Event, PushKind::Event),
    }
}

/// Digest by which frames are told apart: BLAKE3, the first 16 bytes.
fn digest(bytes: &[u8]) -> Digest {
    let hash = blake3::hash(bytes);
    Digest(*hash.as_bytes().first_chunk().expect("the hash has 32 bytes"))
}

impl Measurement {
    fn channel(&self, channel: Channel) -> i64 {
        match (self, channel) {
            (Measurement::Registers { wh, .. }, Channel::ImportWh) => *wh,
            (Measurement::Registers { vah, .. }, Channel::ImportVah) => *vah,
            (Measurement::Registers { .. }, _) => 0,
            (Measurement::Interval { wh, .. }, Channel::ImportWh) => *wh,
            (Measurement::Interval { vah, .. }, Channel::ImportVah) => *vah,
            (Measurement::Interval { wh, vah, voltage_dv, period_s }, _) => {
                electrical(channel, wh * 3600 / period_s, vah * 3600 / period_s, *voltage_dv)
            }
            (Measurement::Moment(moment), _) => moment.channel(channel),
        }
    }
}

impl Moment {
    fn channel(&self, channel: Channel) -> i64 {
        match channel {
            Channel::ImportWh => self.wh,
            Channel::ImportVah => self.vah,
            Channel::PowerW => self.power_w,
            Channel::PowerVa => self.power_va,
            Channel::DemandW => self.demand_w,
            Channel::DemandVa => self.demand_w * 105 / 100,
            Channel::FrequencyMhz => {
                if self.voltage_dv == 0 {
                    0
                } else {
                    self.frequency_mhz
                }
            }
            Channel::ReactiveQ1Varh => self.wh / 4,
            Channel::PowerOnMin => self.minutes_on,
            Channel::PowerFailCount => self.power_fails,
            Channel::PowerFailMin => self.power_fail_min,
            Channel::TamperCount => self.tampers,
            Channel::BillingCount => 12 + self.months,
            Channel::ProgrammingCount => 3,
            Channel::RelayState => i64::from(self.supplied),
            Channel::LoadLimitW => self.load_limit_w,
            other => electrical(other, self.power_w, self.power_va, self.voltage_dv),
        }
    }
}

/// The word, which says as well that the load is switched off; then there is no current.
pub(crate) fn with_relay(mut word: EventWord, is_open: bool) -> EventWord {
    let place = |bit: u8| (usize::from(bit / 8), 0x80 >> (bit % 8));
    if is_open {
        let (byte, mask) = place(bits::LOAD_SWITCH);
        word.0[byte] |= mask;
        let (byte, mask) = place(bits::OVER_CURRENT);
        word.0[byte] &= !mask;
    }
    word
}

/// Voltages, currents and power factors that belong to that power.
fn electrical(channel: Channel, power_w: i64, power_va: i64, voltage_dv: i64) -> i64 {
    let phase_voltage = |offset: i64| if voltage_dv == 0 { 0 } else { voltage_dv + offset };
    let current = |share: i64| if voltage_dv == 0 { 0 } else { power_va * share * 100 / voltage_dv };
    let factor = if power_va == 0 { 1000 } else { (power_w * 1000 / power_va).min(1000) };
    let [share_r, share_y, share_b] = PHASE_SHARES;
    match channel {
        Channel::VoltageDv | Channel::VoltageRDv => voltage_dv,
        Channel::VoltageYDv => phase_voltage(-13),
        Channel::VoltageBDv => phase_voltage(8),
        Channel::CurrentMa => current(100),
        Channel::NeutralCurrentMa => current(100) + if power_va == 0 { 0 } else { 10 },
        Channel::CurrentRMa => current(share_r),
        Channel::CurrentYMa => current(share_y),
        Channel::CurrentBMa => current(share_b),
        Channel::PowerVar => power_va / 4,
        Channel::PowerFactorMilli
        | Channel::PowerFactorRMilli
        | Channel::PowerFactorYMilli
        | Channel::PowerFactorBMilli => factor,
        _ => 0,
    }
}

/// One value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    U8(u8),
    U16(u16),
    U32(u32),
    I16(i16),
    I32(i32),
    Float(u32),
    Delta(i16),
    Time(DateTime),
}

impl Cell {
    /// The type in which Indian meters write that quantity; a number beyond it is written as its end.
    fn of(channel: Channel, raw: i64) -> Cell {
        match channel {
            Channel::RelayState => Cell::Bool(raw != 0),
            Channel::MeterHealth => Cell::U8(u8::try_from(raw).unwrap_or(u8::MAX)),
            Channel::PowerFactorMilli
            | Channel::PowerFactorRMilli
            | Channel::PowerFactorYMilli
            | Channel::PowerFactorBMilli => Cell::I16(i16::try_from(raw).unwrap_or(i16::MAX)),
            Channel::PowerVar => Cell::I32(i32::try_from(raw).unwrap_or(i32::MAX)),
            Channel::VoltageDv
            | Channel::VoltageRDv
            | Channel::VoltageYDv
            | Channel::VoltageBDv
            | Channel::CurrentMa
            | Channel::NeutralCurrentMa
            | Channel::CurrentRMa
            | Channel::CurrentYMa
            | Channel::CurrentBMa
            | Channel::FrequencyMhz => Cell::U16(u16::try_from(raw).unwrap_or(u16::MAX)),
            _ => Cell::U32(u32::try_from(raw).unwrap_or(u32::MAX)),
        }
    }

    pub(crate) fn write(self, tagged_time: bool, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        match self {
            Cell::Null => writer.null(),
            Cell::Bool(value) => writer.bool(value),
            Cell::U8(value) => writer.u8(value),
            Cell::U16(value) => writer.u16(value),
            Cell::U32(value) => writer.u32(value),
            Cell::I16(value) => writer.i16(value),
            Cell::I32(value) => writer.i32(value),
            Cell::Float(bits) => writer.f32_bits(bits),
            Cell::Delta(value) => writer.delta_i16(value),
            Cell::Time(time) if tagged_time => writer.date_time(time),
            Cell::Time(time) => writer.octet_string(&time.0),
        };
    }
}

/// A float32 in units of 10^`shift`, and what its shortest decimal says in units.
fn float_cell(value: i64, shift: i8) -> (Cell, i64) {
    let unit = 10_f64.powi(i32::from(shift));
    let number = (value as f64 / unit) as f32;
    let carried = if (0..FLOAT_EXACT_MAX).contains(&value) { value } else { shortest(number, shift) };
    (Cell::Float(number.to_bits()), carried)
}

/// The shortest decimal that reads back as `number`, times 10^`shift`, half to even.
fn shortest(number: f32, shift: i8) -> i64 {
    let text = format!("{number}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let places = usize::from(shift.unsigned_abs());
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(places).collect();
    let rest = fraction.get(places..).unwrap_or("");
    let value: i64 = format!("{whole}{kept}").parse().unwrap_or(0);
    let up = rest > "5" || (rest == "5" && value % 2 != 0);
    value + i64::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_tells_every_watt_hour_up_to_its_room_and_the_nearest_beyond() {
        let mut rng = Rng::keyed(1, &[]);
        for _ in 0..20_000 {
            let wh = rng.between(0, FLOAT_EXACT_MAX - 1);
            let (Cell::Float(bits), carried) = float_cell(wh, 3) else { panic!("not a float") };
            assert_eq!((carried, shortest(f32::from_bits(bits), 3)), (wh, wh));
        }
        let (_, carried) = float_cell(20_000_001, 3);
        assert!(carried != 20_000_001 && (carried - 20_000_001).abs() <= 1, "{carried}");
    }

    #[test]
    fn halves_of_a_float_go_to_the_even_side() {
        for (number, wh) in [(0.0005, 0), (0.0015, 2), (0.0025, 2), (0.00251, 3), (0.0026, 3), (12.0, 12_000)]
        {
            assert_eq!(shortest(number, 3), wh, "{number}");
        }
    }
}
