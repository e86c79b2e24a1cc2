//! Sections `meter` and `gap`.

use model::{
    AccountId, EventWord, Instant, MeterId, MeterTerms, OutboxId, ReadingKind, Section, SystemTitle,
};

use super::bytes::{Reader, Writer};
use super::{Known, section};
use crate::counter::CounterWindow;
use crate::meter::{DAY_WINDOW, INTERVAL_WINDOW, Meter};
use crate::slot::{Owner, SlotRange, Slots};
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
        write_meter(&mut meters, fold, id, meter);
    }
    fold.gaps.iter().for_each(|(owner, range)| write_gap(&mut gaps, owner, range));
    [section(METER, METER_SIZE, meters), section(GAP, GAP_SIZE, gaps)]
}

pub(super) fn read(fold: &mut Fold, known: &Known<'_>) -> Result<(), FoldError> {
    let mut r = known.reader(METER)?;
    while !r.is_empty() {
        read_meter(&mut r, fold)?;
    }
    let mut r = known.reader(GAP)?;
    while !r.is_empty() {
        let meter = r.u32("meter")?;
        let kind = r.u8("kind")?;
        r.raw(3, "padding")?;
        let range = SlotRange { first: r.i64("first slot")?, last: r.i64("last slot")? };
        if fold.meters.get(meter).is_none() {
            return Err(r.malformed("meter"));
        }
        match ReadingKind::from_number(kind) {
            Some(ReadingKind::Interval | ReadingKind::Daily) => {}
            Some(ReadingKind::Instant) | None => return Err(r.malformed("kind")),
        }
        if !fold.gaps.insert(Owner { meter, kind }, range) {
            return Err(r.malformed("slots"));
        }
    }
    Ok(())
}

fn write_meter(w: &mut Writer, fold: &Fold, id: u32, meter: &Meter) {
    let flag = |up: bool, bit: u8| if up { bit } else { 0 };
    let ahead_until = fold.ahead_until.get(&MeterId(id)).copied();
    let flags = flag(meter.authenticated, AUTHENTICATED)
        | flag(meter.heard_at().is_some(), HEARD)
        | flag(ahead_until.is_some(), AHEAD)
        | flag(meter.has_interval, HAS_INTERVAL);
    let (counters, word) = (meter.counters(), fold.words.get(&MeterId(id)).copied());
    let intervals = meter.slots(id, ReadingKind::Interval);
    let days = meter.slots(id, ReadingKind::Daily);
    w.u32(id);
    w.u32(meter.account().map_or(0, |account| account.0));
    w.raw(&meter.title.0);
    w.u32(meter.period_s());
    w.u16(counters.key_epoch);
    w.u8(flags);
    w.zeros(1);
    w.u32(counters.high);
    w.i32(i32::try_from(days.frontier).unwrap_or(i32::MAX));
    w.u64(counters.seen);
    w.i64(intervals.frontier);
    w.u64(intervals.window);
    w.u64(days.window);
    w.raw(&word.unwrap_or_default().0);
    w.i64(meter.heard_at().unwrap_or_default().0);
    w.i64(ahead_until.unwrap_or_default().0);
}

fn read_meter(r: &mut Reader<'_>, fold: &mut Fold) -> Result<(), FoldError> {
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
    let (frontier, window) = (r.i64("frontier")?, r.u64("window")?);
    let day_window = r.u64("day window")?;
    let word = EventWord(r.array("event word")?);
    let heard_at = Instant(r.i64("heard at")?);
    let ahead_until = Instant(r.i64("ahead until")?);
    if day_window >> DAY_WINDOW != 0 {
        return Err(r.malformed("day window"));
    }
    let terms = MeterTerms {
        outbox: OutboxId(0),
        meter: MeterId(id),
        title,
        account: (account != 0).then_some(AccountId(account)),
        profile: String::new(),
        period_s,
        authenticated: flags & AUTHENTICATED != 0,
        key_epoch,
    };
    let owner = Owner { meter: id, kind: 0 };
    let mut meter = Meter::new(&terms, frontier, day_frontier);
    meter.set_slots(ReadingKind::Interval, Slots::at(frontier, window, INTERVAL_WINDOW, owner));
    meter.set_slots(ReadingKind::Daily, Slots::at(day_frontier, day_window, DAY_WINDOW, owner));
    meter.set_counters(CounterWindow { key_epoch, high, seen });
    meter.set_heard_at((flags & HEARD != 0).then_some(heard_at));
    meter.has_interval = flags & HAS_INTERVAL != 0;
    fold.meters.insert(id, meter);
    fold.set_word(MeterId(id), word);
    if flags & AHEAD != 0 {
        fold.ahead_until.insert(MeterId(id), ahead_until);
    }
    Ok(())
}

fn write_gap(w: &mut Writer, owner: Owner, range: SlotRange) {
    w.u32(owner.meter);
    w.u8(owner.kind);
    w.zeros(3);
    w.i64(range.first);
    w.i64(range.last);
}
