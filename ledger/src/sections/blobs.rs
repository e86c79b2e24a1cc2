//! Sections that are one blob: `meta`, `tariff`, `payment` and `contested`.

use std::sync::Arc;

use model::reading::RankClass;
use model::view::Tally;
use model::{
    AccountId, CivilDay, Digest, Instant, MeterId, OutboxId, Paise, Position, Quality, Rank, Reading,
    ReadingKind, Source, TariffVersion, Values,
};

use super::bytes::{Reader, Writer};
use crate::contested::{Open, OpenFrame, OpenTable};
use crate::payments::{Payment, Payments, Reversal};
use crate::tariffs::Tariffs;
use crate::{Fold, FoldError};

pub(super) const META: &str = "meta";
pub(super) const TARIFF: &str = "tariff";
pub(super) const PAYMENT: &str = "payment";
pub(super) const CONTESTED: &str = "contested";

pub(super) fn write_meta(fold: &Fold) -> Writer {
    let mut w = Writer::default();
    w.u64(fold.position.0);
    w.i64(fold.now.0);
    w.u64(fold.last_outbox.0);
    w.u8(u8::from(fold.days.next.is_some()));
    w.u8(u8::from(fold.days.started));
    w.i32(fold.days.next.unwrap_or_default().0);
    w.u32(fold.days.first_account.0);
    for tally in &fold.tallies {
        let Tally { received, stored, repeated, quarantined, refused, contested } = *tally;
        [received, stored, repeated, quarantined, refused, contested]
            .into_iter()
            .for_each(|count| w.u64(count));
    }
    fold.totals.heads.iter().for_each(|total| w.raw(&total.to_le_bytes()));
    w
}

pub(super) fn read_meta(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    fold.position = Position(r.u64("position")?);
    fold.now = Instant(r.i64("time")?);
    fold.last_outbox = OutboxId(r.u64("outbox")?);
    let has_next = r.u8("next day")? != 0;
    fold.days.started = r.u8("started")? != 0;
    let next = CivilDay(r.i32("next day")?);
    fold.days.next = has_next.then_some(next);
    fold.days.first_account = AccountId(r.u32("first account")?);
    for tally in &mut fold.tallies {
        *tally = Tally {
            received: r.u64("received")?,
            stored: r.u64("stored")?,
            repeated: r.u64("repeated")?,
            quarantined: r.u64("quarantined")?,
            refused: r.u64("refused")?,
            contested: r.u64("contested")?,
        };
    }
    for total in &mut fold.totals.heads {
        *total = i128::from_le_bytes(r.array("total")?);
    }
    finish(&r)
}

pub(super) fn write_tariffs(tariffs: &Tariffs) -> Writer {
    let mut w = Writer::default();
    w.count(tariffs.names.len());
    tariffs.names.iter().for_each(|name| w.text(name));
    w.count(tariffs.versions.len());
    for version in &tariffs.versions {
        w.text(&version.fact.name);
        w.i32(version.fact.from.0);
        w.raw(&version.fact.digest.0);
        w.text(&version.fact.body);
    }
    w
}

pub(super) fn read_tariffs(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    for _ in 0..r.u32("names")? {
        fold.tariffs.names.push(r.text("name")?.to_owned());
    }
    for _ in 0..r.u32("versions")? {
        let fact = TariffVersion {
            name: r.text("name")?.to_owned(),
            from: CivilDay(r.i32("from")?),
            digest: Digest(r.array("digest")?),
            body: r.text("body")?.to_owned(),
        };
        fold.tariffs.restore(fact).ok_or_else(|| r.malformed("body"))?;
    }
    finish(&r)
}

pub(super) fn write_payments(payments: &Payments) -> Writer {
    let mut w = Writer::default();
    for payment in payments.iter() {
        w.u64(payment.position.0);
        w.u32(payment.account.0);
        w.u32(payment.told.0);
        w.i64(payment.amount.0);
        w.i64(payment.share.0);
        w.i64(payment.left.0);
        w.i64(payment.received_at.0);
        w.i64(payment.at.0);
        // No record has the position 0.
        w.u64(payment.reversed.map_or(0, |reversal| reversal.position.0));
        w.i64(payment.reversed.map_or(0, |reversal| reversal.at.0));
        w.u64(payment.moved.map_or(0, |position| position.0));
        w.u32(payment.before.map_or(0, |number| number + 1));
        w.text(&payment.id);
    }
    w
}

pub(super) fn read_payments(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    while !r.is_empty() {
        let payment = Payment {
            position: Position(r.u64("position")?),
            account: AccountId(r.u32("account")?),
            told: AccountId(r.u32("account told")?),
            amount: Paise(r.i64("amount")?),
            share: Paise(r.i64("share")?),
            left: Paise(r.i64("left")?),
            received_at: Instant(r.i64("time")?),
            at: Instant(r.i64("time")?),
            reversed: Some(Reversal { position: Position(r.u64("reversal")?), at: Instant(r.i64("time")?) })
                .filter(|reversal| reversal.position.0 > 0),
            moved: Some(Position(r.u64("move")?)).filter(|position| position.0 > 0),
            before: r.u32("payment before")?.checked_sub(1),
            id: Arc::from(r.text("id")?),
        };
        fold.payments.push(payment, usize::MAX).ok_or_else(|| r.malformed("count"))?;
    }
    Ok(())
}

pub(super) fn write_contested(open: &OpenTable) -> Writer {
    let mut w = Writer::default();
    w.count(open.frames.len());
    for (position, frame) in &open.frames {
        w.u64(position.0);
        w.u32(frame.meter.0);
        w.u8(frame.source as u8);
        w.u8(u8::from(frame.is_contested));
        w.u8(u8::from(frame.is_stored));
        w.u16(frame.waiting);
    }
    for (meter, queue) in &open.queues {
        for open in queue {
            w.u32(meter.0);
            write_open(&mut w, open);
        }
    }
    w
}

pub(super) fn read_contested(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    for _ in 0..r.u32("frames")? {
        let position = Position(r.u64("position")?);
        let frame = OpenFrame {
            meter: MeterId(r.u32("meter")?),
            source: Source::from_index(r.u8("source")?).ok_or_else(|| r.malformed("source"))?,
            is_contested: r.u8("contested")? != 0,
            is_stored: r.u8("stored")? != 0,
            waiting: r.u16("waiting")?,
        };
        fold.open.frames.insert(position, frame);
    }
    while !r.is_empty() {
        let meter = MeterId(r.u32("meter")?);
        let open = read_open(&mut r)?;
        fold.open.push(meter, open);
    }
    Ok(())
}

fn write_open(w: &mut Writer, open: &Open) {
    w.u64(open.position.0);
    w.u16(open.index);
    w.u8(open.rank.class as u8);
    w.u16(open.rank.key_epoch);
    w.u32(open.rank.counter);
    w.raw(&open.rank.digest.0);
    w.i64(open.since_w);
    let reading = &open.reading;
    w.u8(reading.kind as u8);
    w.i64(reading.end.0);
    w.u8(u8::from(reading.deviation_min.is_some()));
    w.raw(&reading.deviation_min.unwrap_or_default().to_le_bytes());
    w.u8(reading.clock_status);
    w.u32(reading.quality.0);
    w.u64(reading.values.set());
    reading.values.as_slice().iter().for_each(|value| w.i64(*value));
}

fn read_open(r: &mut Reader<'_>) -> Result<Open, FoldError> {
    let position = Position(r.u64("position")?);
    let index = r.u16("index")?;
    let rank = Rank {
        class: RankClass::from_number(r.u8("rank")?).ok_or_else(|| r.malformed("rank"))?,
        key_epoch: r.u16("key epoch")?,
        counter: r.u32("counter")?,
        digest: Digest(r.array("digest")?),
    };
    let since_w = r.i64("demand")?;
    let kind = ReadingKind::from_number(r.u8("kind")?).ok_or_else(|| r.malformed("kind"))?;
    let end = Instant(r.i64("end")?);
    let has_deviation = r.u8("deviation")? != 0;
    let deviation = i16::from_le_bytes(r.array("deviation")?);
    let clock_status = r.u8("clock status")?;
    let quality = Quality(r.u32("quality")?);
    let set = r.u64("channels")?;
    let values = (0..set.count_ones()).map(|_| r.i64("values")).collect::<Result<Vec<_>, _>>()?;
    let values = Values::from_parts(set, &values).ok_or_else(|| r.malformed("channels"))?;
    let reading = Reading {
        kind,
        end,
        deviation_min: has_deviation.then_some(deviation),
        clock_status,
        quality,
        values,
    };
    Ok(Open { position, index, rank, reading, since_w })
}

fn finish(r: &Reader<'_>) -> Result<(), FoldError> {
    if r.is_empty() { Ok(()) } else { Err(r.malformed("length")) }
}
