//! A meter, the account that pays for it, and what is kept of all meters together: borrowed from the fold once for all
//! readings of a frame, because each look at a page asks whether somebody shares it.

use std::collections::BTreeMap;

use model::{Calendar, Instant, MeterId};

use super::Fold;
use crate::account::Account;
use crate::contested::OpenTable;
use crate::meter::Meter;
use crate::slot::{Gaps, Grid};

pub(super) struct Household<'a> {
    pub(super) id: MeterId,
    pub(super) meter: &'a mut Meter,
    /// The account that pays for the meter's energy, where it was asked for.
    pub(super) account: Option<&'a mut Account>,
    pub(super) calendar: &'a Calendar,
    pub(super) gaps: &'a mut Gaps,
    pub(super) ahead_until: &'a mut BTreeMap<MeterId, Instant>,
    pub(super) open: &'a mut OpenTable,
    pub(super) max_gap_ranges: usize,
    winter_offset_us: i64,
}

impl Household<'_> {
    /// The grid of the meter's intervals.
    pub(super) fn grid(&self) -> Grid {
        Grid::with_offset(self.meter.period_s(), self.winter_offset_us)
    }
}

impl Fold {
    /// The household of a meter whose terms are there; without the account where nothing is to move its money.
    pub(super) fn household(&mut self, id: MeterId, with_account: bool) -> Option<Household<'_>> {
        let meter = self.meters.get_mut(id.0)?;
        let account = meter.account().filter(|_| with_account);
        let account = account.and_then(|account| self.accounts.get_mut(account.0));
        Some(Household {
            id,
            meter,
            account: account.filter(|account| account.meter() == Some(id)),
            calendar: &self.calendar,
            gaps: &mut self.gaps,
            ahead_until: &mut self.ahead_until,
            open: &mut self.open,
            max_gap_ranges: self.limits.max_gap_ranges_per_meter,
            winter_offset_us: self.winter_offset_us,
        })
    }

    /// The account that pays for the meter's energy.
    pub(super) fn paying_account(&self, meter: MeterId) -> Option<&Account> {
        let account = self.meters.get(meter.0)?.account()?;
        self.accounts.get(account.0).filter(|account| account.meter() == Some(meter))
    }
}
