//! Answers to contested readings.

use model::row::RevisionRow;
use model::{MeterId, Position, Quality, Record, Resolution, Row, Values, Verdict};

use super::frame::Placed;
use super::household::Household;
use super::{Effects, Fold, keep_fact};
use crate::Outcome;
use crate::contested::Open;
use crate::rating::MAX_DEMAND_W;

impl Fold {
    pub(super) fn resolved(
        &mut self,
        record: &Record,
        resolution: &Resolution,
        out: &mut Effects,
    ) -> Outcome {
        keep_fact(record, out);
        let Some((meter, open)) = self.open.take(resolution.contested, resolution.index) else {
            return Outcome::NotOpen;
        };
        let is_stored = resolution.verdict != Verdict::Repeated;
        self.answer(record.position, meter, open, &resolution.verdict, out);
        self.count_answer(resolution.contested, is_stored);
        self.hand_out(meter, out);
        Outcome::Applied
    }

    fn answer(
        &mut self,
        position: Position,
        meter: MeterId,
        open: Open,
        verdict: &Verdict,
        out: &mut Effects,
    ) {
        let frame = open.position;
        let rank = open.rank;
        let since_w = open.since_w;
        let Some(mut household) = self.household(meter, true) else { return };
        let day = household.calendar.usage_day(open.reading.end);
        let slot = household.slot_on(household.grid(), &open.reading).0;
        let placed = Placed { reading: &open.reading, quality: open.reading.quality, day, slot };
        match verdict {
            Verdict::Absent => household.first_value(frame, &placed, out),
            Verdict::Repeated => household.confirm(&placed),
            Verdict::Revised { before, after, demand_without_w } => {
                let without_w = since_w.max(demand_without_w.unwrap_or(0)).min(MAX_DEMAND_W);
                let went_back = household.revise(&placed, before, after, without_w);
                out.rows.push(Row::Revision(revision_row(position, frame, meter, rank, &placed, went_back)));
            }
        }
    }

    fn count_answer(&mut self, frame: Position, is_stored: bool) {
        let Some(open) = self.open.frames.get_mut(&frame) else { return };
        open.is_stored |= is_stored;
        open.waiting = open.waiting.saturating_sub(1);
        if open.waiting > 0 {
            return;
        }
        let open = *open;
        self.open.frames.remove(&frame);
        if open.is_contested {
            let tally = &mut self.tallies[open.source.index()];
            tally.contested = tally.contested.saturating_sub(1);
            *(if open.is_stored { &mut tally.stored } else { &mut tally.repeated }) += 1;
        }
    }
}

impl Household<'_> {
    /// A value that is stored already. If it was stored ahead of its time it has moved nothing yet.
    fn confirm(&mut self, placed: &Placed<'_>) {
        if self.was_not_counted(placed) {
            self.count(placed, None, &placed.reading.values, None);
            self.see(placed);
        }
    }

    fn revise(&mut self, placed: &Placed<'_>, before: &Values, after: &Values, without_w: i64) -> bool {
        if self.was_not_counted(placed) {
            let went_back = self.count(placed, None, after, None);
            self.see(placed);
            return went_back;
        }
        self.count(placed, Some(before), after, Some(without_w))
    }

    /// Whether nothing of the reading's slot has moved money, although a value is stored.
    fn was_not_counted(&self, placed: &Placed<'_>) -> bool {
        self.is_unseen(placed)
    }
}

fn revision_row(
    position: Position,
    frame: Position,
    meter: MeterId,
    rank: model::Rank,
    placed: &Placed<'_>,
    went_back: bool,
) -> RevisionRow {
    let &Placed { reading, quality, day, .. } = placed;
    let quality = if went_back { quality.with(Quality::REGISTER_WENT_BACK) } else { quality };
    RevisionRow {
        position,
        frame,
        kind: reading.kind,
        meter,
        end: reading.end,
        usage_date: day,
        deviation_min: reading.deviation_min,
        clock_status: reading.clock_status,
        quality,
        rank,
        values: reading.values.clone(),
    }
}
