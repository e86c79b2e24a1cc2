//! From readings in force to the energy and demand of the account that pays for the meter.

use model::{Channel, Quality, Reading, ReadingKind, Values};

use super::frame::Placed;
use super::household::Household;
use crate::account::{Account, demand_w};
use crate::outcome::MAX_REGISTER_WH;

impl Household<'_> {
    /// Moves energy and demand from the values that were in force to those that are. `without_w` is the highest
    /// demand of its terms and month without the reading's interval, where a value is replaced. True when a register went back and moved
    /// nothing.
    pub(super) fn count(
        &mut self,
        placed: &Placed<'_>,
        before: Option<&Values>,
        after: &Values,
        without_w: Option<i64>,
    ) -> bool {
        let quality = placed.quality;
        if quality.has(Quality::TOO_LATE) || quality.has(Quality::FUTURE) {
            return false;
        }
        let import = |values: &Values| values.get(Channel::ImportWh);
        match placed.reading.kind {
            ReadingKind::Interval => {
                self.count_interval(placed, before.and_then(import), import(after), without_w);
                false
            }
            ReadingKind::Daily => import(after).is_some_and(|wh| self.count_register(placed, wh)),
            ReadingKind::Instant => false,
        }
    }

    /// Notes the demand of an interval that has just come, for the look-up that may be under way for its meter.
    pub(super) fn note_demand(&mut self, placed: &Placed<'_>) {
        if !self.open.queues.contains_key(&self.id) {
            return;
        }
        let &Reading { kind, ref values, .. } = placed.reading;
        let account = self.account.as_ref().filter(|account| account.is_charged(placed.day));
        let is_kept_out = placed.quality.has(Quality::TOO_LATE) || placed.quality.has(Quality::FUTURE);
        let Some(account) = account.filter(|_| kind == ReadingKind::Interval && !is_kept_out) else { return };
        let days = account.days_of_terms(placed.day);
        if let Some(wh) = values.get(Channel::ImportWh) {
            let demand_w = demand_w(wh, self.meter.period_s());
            self.open.note_demand(self.id, days, demand_w, self.calendar);
        }
    }

    fn count_interval(
        &mut self,
        placed: &Placed<'_>,
        before: Option<i64>,
        after: Option<i64>,
        without_w: Option<i64>,
    ) {
        let period_s = self.meter.period_s();
        let Some(account) = self.charged_account(placed) else { return };
        let power = |wh: Option<i64>| wh.map_or(0, |wh| demand_w(wh, period_s));
        let (before_w, after_w) = (power(before), power(after));
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
    fn count_register(&mut self, placed: &Placed<'_>, wh: i64) -> bool {
        if placed.reading.end != self.calendar.end_of(placed.day) {
            return false;
        }
        let Some(account) = self.charged_account(placed) else { return false };
        let Ok(changed) = account.energy.set_register(placed.day, wh.clamp(0, MAX_REGISTER_WH)) else {
            return true;
        };
        if changed {
            account.forget_hidden_energy();
            account.touch(placed.day);
        }
        false
    }

    /// The account, where the reading's day can still move its money.
    fn charged_account(&mut self, placed: &Placed<'_>) -> Option<&mut Account> {
        self.account.as_deref_mut().filter(|account| account.is_charged(placed.day))
    }
}
