//! From readings in force to the energy and demand of the account that pays for the meter.

use model::{Channel, MeterId, Quality, Reading, ReadingKind, Values};

use super::Fold;
use super::frame::Placed;
use crate::account::{Account, demand_w};
use crate::meter::Meter;
use crate::outcome::MAX_REGISTER_WH;

impl Fold {
    /// Moves energy and demand from the values that were in force to those that are. `without_w` is the month's highest
    /// demand without the reading's interval, where a value is replaced. True when a register went back and moved
    /// nothing.
    pub(super) fn count(
        &mut self,
        meter: MeterId,
        placed: &Placed,
        before: Option<&Values>,
        after: &Values,
        without_w: Option<i64>,
    ) -> bool {
        let quality = placed.reading.quality;
        if quality.has(Quality::TOO_LATE) || quality.has(Quality::FUTURE) {
            return false;
        }
        let import = |values: &Values| values.get(Channel::ImportWh);
        match placed.reading.kind {
            ReadingKind::Interval => {
                self.count_interval(meter, placed, before.and_then(import), import(after), without_w);
                false
            }
            ReadingKind::Daily => import(after).is_some_and(|wh| self.count_register(meter, placed, wh)),
            ReadingKind::Instant => false,
        }
    }

    /// Notes the demand of an interval that has just come, for the look-up that may be under way for its meter.
    pub(super) fn note_demand(&mut self, id: MeterId, placed: &Placed) {
        if self.open.queues.is_empty() {
            return;
        }
        let Reading { kind, quality, ref values, .. } = placed.reading;
        let is_charged = self.paying_account(id).is_some_and(|account| account.is_charged(placed.day));
        let is_kept_out = quality.has(Quality::TOO_LATE) || quality.has(Quality::FUTURE);
        if kind != ReadingKind::Interval || !is_charged || is_kept_out {
            return;
        }
        if let (Some(meter), Some(wh)) = (self.meters.get(id.0), values.get(Channel::ImportWh)) {
            self.open.note_demand(id, placed.day.month(), demand_w(wh, meter.period_s()), &self.calendar);
        }
    }

    fn count_interval(
        &mut self,
        id: MeterId,
        placed: &Placed,
        before: Option<i64>,
        after: Option<i64>,
        without_w: Option<i64>,
    ) {
        let Some(period_s) = self.meters.get(id.0).map(Meter::period_s) else { return };
        let power = |wh: Option<i64>| wh.map_or(0, |wh| demand_w(wh, period_s));
        let (before_w, after_w) = (power(before), power(after));
        let Some(account) = self.paying_account_mut(id).filter(|account| account.is_charged(placed.day))
        else {
            return;
        };
        if account.energy.add_interval(placed.day, before, after) {
            account.touch(placed.day);
        }
        account.change_demand(placed.day, |highest| {
            let may_be_the_highest = before.is_some() && before_w >= highest && after_w < before_w;
            let others = if may_be_the_highest { without_w.unwrap_or(0) } else { highest };
            others.max(after_w)
        });
    }

    /// True when the register went back.
    fn count_register(&mut self, id: MeterId, placed: &Placed, wh: i64) -> bool {
        if placed.reading.end != self.calendar.end_of(placed.day) {
            return false;
        }
        let Some(account) = self.paying_account_mut(id).filter(|account| account.is_charged(placed.day))
        else {
            return false;
        };
        let Ok(changed) = account.energy.set_register(placed.day, wh.clamp(0, MAX_REGISTER_WH)) else {
            return true;
        };
        if changed {
            account.energy.forget_hidden(account.booked_until.next());
            account.touch(placed.day);
        }
        false
    }

    /// The account that pays for the meter's energy.
    pub(super) fn paying_account(&self, meter: MeterId) -> Option<&Account> {
        let account = self.meters.get(meter.0)?.account()?;
        self.accounts.get(account.0).filter(|account| account.meter() == Some(meter))
    }

    fn paying_account_mut(&mut self, meter: MeterId) -> Option<&mut Account> {
        let account = self.meters.get(meter.0)?.account()?;
        self.accounts.get_mut(account.0).filter(|account| account.meter() == Some(meter))
    }
}
