//! Sections `meter` and `gap`.

use model::{AccountId, EventWord, Instant, ReadingKind, Section, SystemTitle};

use super::bytes::{Reader, Writer};
use super::{Known, section};
use crate::counter::CounterWindow;
use crate::meter::Meter;
use crate::slot::{Grid, SlotRange, Slots};
use crate::{Fold, FoldError};

pub(super) const METER: &str = "meter";
pub(super) const METER_SIZE: u32 = 96;
pub(super) const GAP: &str = "gap";
pub(super) const GAP_SIZE: u32 = 24;

const AUTHENTICATED: u8 = 1;
const HEARD: u8 = 1 << 1;
const AHEAD: u8 = 1 << 2;
const HAS_INTERVAL: u8 = 1 << 3;

pub(super) fn write(fold: &Fold) -> [Section; 2] {
    let mut meters = Writer::default();
    let mut gaps = Writer::default();
    for (id, meter) in fold.meters.iter() {
        write_meter(&mut meters, id, meter);
        write_gaps(&mut gaps, id, ReadingKind::Interval, &meter.intervals);
        write_gaps(&mut gaps, id, ReadingKind::Daily, &meter.days);
    }
    [section(METER, METER_SIZE, meters), section(GAP, GAP_SIZE, gaps)]
}

pub(super) fn read(fold: &mut Fold, known: &Known<'_>) -> Result<(), FoldError> {
    let mut r = known.reader(METER)?;
    while !r.is_empty() {
        let (id, meter) = read_meter(&mut r, fold)?;
        fold.meters.insert(id, meter);
    }
    let mut r = known.reader(GAP)?;
    while !r.is_empty() {
        let meter = r.u32("meter")?;
        let kind = r.u8("kind")?;
        r.raw(3, "padding")?;
        let range = SlotRange { first: r.i64("first slot")?, last: r.i64("last slot")? };
        let meter = fold.meters.get_mut(meter).ok_or_else(|| r.malformed("meter"))?;
        match ReadingKind::from_number(kind) {
            Some(ReadingKind::Interval) => meter.intervals.gaps.push(range),
            Some(ReadingKind::Daily) => meter.days.gaps.push(range),
            Some(ReadingKind::Instant) | None => return Err(r.malformed("kind")),
        }
    }
    Ok(())
}

fn write_meter(w: &mut Writer, id: u32, meter: &Meter) {
    let flag = |up: bool, bit: u8| if up { bit } else { 0 };
    let flags = flag(meter.authenticated, AUTHENTICATED)
        | flag(meter.heard_at.is_some(), HEARD)
        | flag(meter.ahead_until.is_some(), AHEAD)
        | flag(meter.has_interval, HAS_INTERVAL);
    w.u32(id);
    w.u32(meter.account.map_or(0, |account| account.0));
    w.raw(&meter.title.0);
    w.u32(meter.period_s);
    w.u16(meter.counters.key_epoch);
    w.u8(flags);
    w.zeros(1);
    w.u32(meter.counters.high);
    w.i32(i32::try_from(meter.days.frontier).unwrap_or(i32::MAX));
    w.u64(meter.counters.seen);
    w.i64(meter.intervals.frontier);
    w.u64(meter.intervals.window);
    w.u64(meter.days.window);
    w.raw(&meter.word.0);
    w.i64(meter.heard_at.unwrap_or_default().0);
    w.i64(meter.ahead_until.unwrap_or_default().0);
}

fn read_meter(r: &mut Reader<'_>, fold: &Fold) -> Result<(u32, Meter), FoldError> {
    let id = r.u32("id")?;
    let account = r.u32("account")?;
    let title = SystemTitle(r.array("title")?);
    let period_s = r.u32("period")?;
    let key_epoch = r.u16("key epoch")?;
    let flags = r.u8("flags")?;
    r.raw(1, "padding")?;
    let high = r.u32("counter")?;
    let day_frontier = i64::from(r.i32("day frontier")?);
    let seen = r.u64("counters seen")?;
    let intervals = Slots { frontier: r.i64("frontier")?, window: r.u64("window")?, gaps: Vec::new() };
    let days = Slots { frontier: day_frontier, window: r.u64("day window")?, gaps: Vec::new() };
    let word = EventWord(r.array("event word")?);
    let heard_at = Instant(r.i64("heard at")?);
    let ahead_until = Instant(r.i64("ahead until")?);
    let meter = Meter {
        title,
        account: (account != 0).then_some(AccountId(account)),
        period_s,
        authenticated: flags & AUTHENTICATED != 0,
        counters: CounterWindow { key_epoch, high, seen },
        intervals,
        days,
        word,
        heard_at: (flags & HEARD != 0).then_some(heard_at),
        ahead_until: (flags & AHEAD != 0).then_some(ahead_until),
        has_interval: flags & HAS_INTERVAL != 0,
        grid: Grid::new(period_s, &fold.calendar),
    };
    Ok((id, meter))
}

fn write_gaps(w: &mut Writer, meter: u32, kind: ReadingKind, slots: &Slots) {
    for range in &slots.gaps {
        w.u32(meter);
        w.u8(kind as u8);
        w.zeros(3);
        w.i64(range.first);
        w.i64(range.last);
    }
}
