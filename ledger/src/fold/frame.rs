//! Frames: verdicts on readings, event words, freshness, and the count of what became of each.

use model::reading::RankClass;
use model::row::{EventRow, FrameRow, QuarantineRow, ReadingRow};
use model::{
    AcceptedFrame, CivilDay, EventWord, Instant, MeterId, Position, Quality, QuarantineReason,
    QuarantinedFrame, Rank, Reading, ReadingKind, Record, RepeatedFrame, Row,
};

use super::household::Household;
use super::{Effects, Fold, keep_fact};
use crate::Outcome;
use crate::contested::{Open, OpenFrame};
use crate::meter::Meter;
use crate::slot::{Grid, SlotVerdict};

/// How far a reading may lie ahead of its receipt before it is no data but a wrong clock, seconds.
pub(super) const FUTURE_AFTER_S: i64 = 15 * 60;

/// How far a stamp may be off its grid, or ahead of its receipt, before the clock is said to run wrong, seconds.
const DRIFT_AFTER_S: u32 = 60;
/// Seconds from a civil midnight within which a register counts to it: half a day on either side.
const HALF_DAY_S: i64 = 12 * 3600;

/// A reading with its place: civil day and slot.
#[derive(Clone, Debug)]
pub(super) struct Placed<'a> {
    pub(super) reading: &'a Reading,
    /// Its quality, completed.
    pub(super) quality: Quality,
    pub(super) day: CivilDay,
    pub(super) slot: i64,
}

/// When a frame came, and its meter's grid: the same for all of its readings.
struct Arrival {
    grid: Grid,
    /// What belongs to days before this came too late.
    late_before: CivilDay,
    ahead_after: Instant,
    future_after: Instant,
}

/// What became of a frame's readings.
#[derive(Default)]
struct Taken {
    stored: bool,
    contested: u16,
}

impl Fold {
    pub(super) fn frame(&mut self, record: &Record, frame: &AcceptedFrame, out: &mut Effects) -> Outcome {
        let received_at = record.received_at;
        let late_before = self.calendar.day_of(received_at).plus(-i32::from(self.limits.late_days));
        let moves_money = frame.readings.iter().any(|reading| reading.kind != ReadingKind::Instant);
        let Some(mut household) = self.household(frame.meter, moves_money) else {
            return self.frame_without_terms(record, frame, out);
        };
        let is_newest = household.meter.accept_counter(frame);
        let arrival = Arrival {
            grid: household.grid(),
            late_before,
            ahead_after: received_at.plus_seconds(i64::from(DRIFT_AFTER_S)),
            future_after: received_at.plus_seconds(FUTURE_AFTER_S),
        };
        out.rows.push(Row::Frame(frame_row(record, frame)));

        let mut taken =
            Taken { stored: frame.readings.is_empty() || frame.event_word.is_some(), contested: 0 };
        let mut is_ahead = false;
        for (index, reading) in (0..).zip(&frame.readings) {
            let placed = household.place(&arrival, reading);
            is_ahead |= placed.quality.has(Quality::FUTURE.with(Quality::UNAUTHENTICATED));
            household.reading(record.position, index, frame, &placed, &mut taken, out);
        }
        if !frame.late && !is_ahead {
            household.meter.hear(received_at);
        }
        let word_changed = frame
            .event_word
            .is_some_and(|word| self.event_word(record, frame, word, is_newest && !is_ahead, out));
        if taken.contested > 0 || word_changed {
            keep_fact(record, out);
        }
        self.count_frame(record.position, frame, &taken);
        Outcome::Applied
    }

    pub(super) fn repeated(&mut self, record: &Record, frame: &RepeatedFrame, out: &mut Effects) -> Outcome {
        self.tallies[frame.source.index()].repeated += 1;
        out.rows.push(Row::Frame(FrameRow {
            position: record.position,
            received_at: record.received_at,
            source: frame.source,
            meter: frame.meter,
            key_epoch: frame.key_epoch,
            counter: frame.counter,
            digest: frame.digest,
            repeated: true,
            late: false,
            bytes: 0,
        }));
        Outcome::Applied
    }

    pub(super) fn quarantined(
        &mut self,
        record: &Record,
        frame: &QuarantinedFrame,
        out: &mut Effects,
    ) -> Outcome {
        self.tallies[frame.source.index()].quarantined += 1;
        out.rows.push(Row::Quarantine(QuarantineRow {
            position: record.position,
            received_at: record.received_at,
            source: frame.source,
            title: frame.title,
            meter: frame.meter,
            reason: frame.reason,
            detail: frame.detail.clone(),
            raw: frame.raw.clone(),
        }));
        Outcome::Applied
    }

    /// A frame of a meter whose terms are not there: evidence, as the pipeline would have made of it.
    fn frame_without_terms(&mut self, record: &Record, frame: &AcceptedFrame, out: &mut Effects) -> Outcome {
        let evidence = QuarantinedFrame {
            source: frame.source,
            title: None,
            meter: Some(frame.meter),
            reason: QuarantineReason::NoTerms,
            detail: String::new(),
            digest: frame.digest,
            raw: frame.raw.to_vec(),
        };
        self.quarantined(record, &evidence, out)
    }

    pub(super) fn grid_of(&self, meter: &Meter) -> Grid {
        Grid::with_offset(meter.period_s(), self.winter_offset_us)
    }

    /// Hands the reading a meter waits for to the resolver.
    pub(super) fn hand_out(&self, meter: MeterId, out: &mut Effects) {
        let account = self.paying_account(meter);
        let open = self.open.first(meter);
        out.contested.extend(open.map(|open| open.hand_out(meter, account, &self.calendar)));
    }

    /// Rows for the flags that differ from the last fresh word. True when the state changed.
    fn event_word(
        &mut self,
        record: &Record,
        frame: &AcceptedFrame,
        word: EventWord,
        is_fresh: bool,
        out: &mut Effects,
    ) -> bool {
        let before = self.words.get(&frame.meter).copied().unwrap_or_default();
        let at = frame.pushed_at.unwrap_or(record.received_at);
        out.rows.extend(word.changes(before).map(|(bit, occurred)| {
            Row::Event(EventRow {
                position: record.position,
                meter: frame.meter,
                at,
                received_at: record.received_at,
                bit,
                occurred,
                late: !is_fresh,
            })
        }));
        let changed = is_fresh && word != before;
        if changed {
            self.set_word(frame.meter, word);
        }
        changed
    }

    pub(crate) fn set_word(&mut self, meter: MeterId, word: EventWord) {
        if word == EventWord::default() {
            self.words.remove(&meter);
        } else {
            self.words.insert(meter, word);
        }
    }

    fn count_frame(&mut self, position: Position, frame: &AcceptedFrame, taken: &Taken) {
        let tally = &mut self.tallies[frame.source.index()];
        if taken.stored {
            tally.stored += 1;
        } else {
            tally.contested += 1;
        }
        if taken.contested > 0 {
            let open = OpenFrame {
                meter: frame.meter,
                source: frame.source,
                is_contested: !taken.stored,
                is_stored: false,
                waiting: taken.contested,
            };
            self.open.frames.insert(position, open);
        }
    }
}

impl Household<'_> {
    /// Finds day and slot of a reading and completes its quality.
    fn place<'r>(&self, arrival: &Arrival, reading: &'r Reading) -> Placed<'r> {
        let day = self.calendar.usage_day(reading.end);
        let (slot, off_us) = self.slot_on(arrival.grid, reading);
        let drift_us = u64::from(DRIFT_AFTER_S) * 1_000_000;
        let is_ahead = reading.end > arrival.ahead_after;
        let flags = [
            (Quality::TOO_LATE, day < arrival.late_before),
            (Quality::FUTURE, reading.end > arrival.future_after),
            (Quality::OFF_GRID, off_us > 0 || reading.quality.has(Quality::OFF_GRID)),
            (Quality::CLOCK_DRIFT, off_us > drift_us || is_ahead),
            (Quality::REGISTER_WENT_BACK, false),
        ];
        let quality = flags.into_iter().fold(reading.quality, |quality, (bit, up)| {
            if up { quality.with(bit) } else { Quality(quality.0 & !bit.0) }
        });
        Placed { reading, quality, day, slot }
    }

    /// Slot of a reading and how far off its grid it ends, µs. A register's is the day that ends with the midnight next
    /// to it.
    pub(super) fn slot_on(&self, grid: Grid, reading: &Reading) -> (i64, u64) {
        match reading.kind {
            ReadingKind::Interval => grid.slot_of(reading.end),
            ReadingKind::Daily => {
                let day = self.calendar.day_of(reading.end.plus_seconds(-HALF_DAY_S));
                (i64::from(day.0), reading.end.0.abs_diff(self.calendar.end_of(day).0))
            }
            ReadingKind::Instant => (0, 0),
        }
    }

    fn reading(
        &mut self,
        position: Position,
        index: u16,
        frame: &AcceptedFrame,
        placed: &Placed<'_>,
        taken: &mut Taken,
        out: &mut Effects,
    ) {
        if placed.reading.kind == ReadingKind::Instant {
            taken.stored = true;
            out.rows.push(Row::Instant(reading_row(position, self.id, placed, placed.quality)));
        } else if self.is_new(placed) {
            taken.stored = true;
            self.note_demand(placed);
            self.first_value(position, placed, out);
        } else {
            taken.contested += 1;
            let reading = Reading { quality: placed.quality, ..placed.reading.clone() };
            self.contest(position, index, frame, reading, out);
        }
    }

    /// Whether no value of the reading's key can be stored yet.
    fn is_new(&self, placed: &Placed<'_>) -> bool {
        let may_be_stored_ahead = !self.ahead_until.is_empty()
            && self.ahead_until.get(&self.id).is_some_and(|until| placed.reading.end <= *until);
        !may_be_stored_ahead && self.is_unseen(placed)
    }

    /// Whether no reading of the slot has moved anything.
    pub(super) fn is_unseen(&self, placed: &Placed<'_>) -> bool {
        self.meter.slots(self.id.0, placed.reading.kind).judge(placed.slot, self.gaps) == SlotVerdict::New
    }

    /// Stores the first value of a key.
    pub(super) fn first_value(&mut self, position: Position, placed: &Placed<'_>, out: &mut Effects) {
        let went_back = self.count(placed, None, &placed.reading.values, None);
        let back = if went_back { Quality::REGISTER_WENT_BACK } else { Quality::GOOD };
        self.see(placed);
        let row = reading_row(position, self.id, placed, placed.quality.with(back));
        let is_daily = placed.reading.kind == ReadingKind::Daily;
        out.rows.push(if is_daily { Row::Daily(row) } else { Row::Interval(row) });
    }

    /// Marks a reading's slot as seen, but never for a reading of the future: a wrong clock must not close the door to
    /// what is still to come.
    pub(super) fn see(&mut self, placed: &Placed<'_>) {
        let &Reading { kind, end, .. } = placed.reading;
        if placed.quality.has(Quality::FUTURE) {
            let until = self.ahead_until.entry(self.id).or_insert(end);
            *until = end.max(*until);
            return;
        }
        self.meter.has_interval |= kind == ReadingKind::Interval;
        let mut slots = self.meter.slots(self.id.0, kind);
        slots.mark(placed.slot, self.max_gap_ranges, self.gaps);
        self.meter.set_slots(kind, slots);
    }

    fn contest(
        &mut self,
        position: Position,
        index: u16,
        frame: &AcceptedFrame,
        reading: Reading,
        out: &mut Effects,
    ) {
        let rank = rank_of(frame, &reading);
        let is_first = self.open.push(self.id, Open { position, index, rank, reading, since_w: 0 });
        if is_first {
            let account = self.account.as_deref();
            let open = self.open.first(self.id);
            out.contested.extend(open.map(|open| open.hand_out(self.id, account, self.calendar)));
        }
    }
}

fn rank_of(frame: &AcceptedFrame, reading: &Reading) -> Rank {
    let is_estimate = reading.quality.has(Quality::ESTIMATED);
    Rank {
        class: if is_estimate { RankClass::Estimate } else { RankClass::Push },
        key_epoch: frame.key_epoch,
        counter: frame.counter.unwrap_or(0),
        digest: frame.digest,
    }
}

fn frame_row(record: &Record, frame: &AcceptedFrame) -> FrameRow {
    FrameRow {
        position: record.position,
        received_at: record.received_at,
        source: frame.source,
        meter: frame.meter,
        key_epoch: frame.key_epoch,
        counter: frame.counter,
        digest: frame.digest,
        repeated: false,
        late: frame.late,
        bytes: u32::try_from(frame.raw.len()).unwrap_or(u32::MAX),
    }
}

fn reading_row(position: Position, meter: MeterId, placed: &Placed<'_>, quality: Quality) -> ReadingRow {
    let &Placed { reading, day, .. } = placed;
    ReadingRow {
        position,
        meter,
        end: reading.end,
        usage_date: day,
        deviation_min: reading.deviation_min,
        clock_status: reading.clock_status,
        quality,
        values: reading.values.clone(),
    }
}
