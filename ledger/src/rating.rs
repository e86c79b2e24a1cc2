//! What a month costs to date: the one formula, in exact integers, rounded once per head.
//!
//! ```text
//! E = Σ slab gross    S = Σ slab subsidy    F = fixed × billable kW × days / days of the month
//! P = surcharge × (E + F − S)    G = green adder × kWh
//! M = max(0, minimum × sanctioned kW × days / days of the month − (E + F))
//! B = E + F − S + P    duty = duty share × B    rebate = rebate share × B, where it is prepaid
//! charge to date = E + F − S + P + duty − rebate + M + G
//! ```
//!
//! As the tariff has it, P is a share of E + F, and B contains M, G or both.
//!
//! Where terms change inside of a month, it has parts, each with the tariff, sanctioned load and highest demand of its
//! days. Units go on through the slabs, so that E of a part is what all units of the month to its end cost less what
//! those before it do, both at its rates; F is for its days, and so is its share of the minimum. M is what E + F of all
//! parts fall short of the sum of these, and counts in B as the last tariff has it. A [`Bill`] is the sum of its parts,
//! so a month that is cut into parts of the same terms and demand costs what it costs in one.
//!
//! Nothing is rounded but the eight heads, each half away from zero to paise. What a day costs is the difference of two
//! such figures per head, so the days of a month add up to its bill.
//!
//! Energy is rated up to [`MAX_ENERGY_WH`] a month and demand up to [`MAX_DEMAND_W`], far above anything this tariff
//! is for; what a broken meter reports beyond them is kept as a reading and not charged. Energy below zero is rated
//! as none.

use model::row::Head;
use model::{CivilMonth, ConnectionType, MicroRupees, Paise, Ppm};

use crate::tariff::{DemandBetween, SlabLimits, SurchargeOn, Tariff};

/// Most energy that is rated for an account and month: 10 GWh.
pub const MAX_ENERGY_WH: i64 = 10_000_000_000;

/// Highest demand and sanctioned load that is rated: 100 MW.
pub const MAX_DEMAND_W: i64 = 100_000_000;

/// The heads of a charge, in the order of [`Head::CHARGED`].
///
/// Subsidy and rebate are negative, the surcharge has the sign of its share; the charge is the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Energy, fixed, subsidy, surcharge, duty, rebate, minimum, green.
    pub heads: [Paise; Head::CHARGED.len()],
}

impl Charge {
    /// What the consumer owes.
    #[must_use]
    pub fn total(&self) -> Paise {
        self.heads.iter().copied().sum()
    }

    /// This charge less what was charged before, head by head.
    #[must_use]
    pub fn since(&self, before: &Charge) -> Charge {
        let mut heads = self.heads;
        for (head, before) in heads.iter_mut().zip(before.heads) {
            *head -= before;
        }
        Charge { heads }
    }

    /// Whether every head is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.heads.iter().all(|head| *head == Paise::ZERO)
    }
}

/// Days of a month under the same terms.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The tariff.
    pub tariff: &'a Tariff,
    /// How it is paid: the rebate is for who pays ahead.
    pub connection: ConnectionType,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
    /// Highest demand in it, W.
    pub demand_w: i64,
    /// Charged days of the month before it, and to its end.
    pub days: (u8, u8),
    /// Energy of the month before it, and to its end, Wh. It has none where the end is below the start.
    pub energy_wh: (i64, i64),
}

/// The charge of a month to date, part by part.
#[derive(Clone, Debug)]
pub struct Bill {
    month: CivilMonth,
    /// Days of the month: the common denominator. Figures are kept as µ₹ × 10⁹ × days of the month, the surcharge
    /// 10⁶ and the shares 10¹² times that.
    ///
    /// With the bounds on rates, energy and demand, and energy that does not fall from part to part, the largest figure
    /// is 1.7·10³⁸, just within i128.
    days_of_month: i128,
    energy: i128,
    fixed: i128,
    subsidy: i128,
    surcharge: i128,
    /// Shares of B without the minimum.
    duty: i128,
    rebate: i128,
    /// What E + F come to at least.
    least: i128,
    /// Shares of duty and rebate of the minimum, ppm.
    of_minimum: [i128; 2],
    green: i128,
}

impl Bill {
    /// Of a month in which nothing was charged.
    #[must_use]
    pub fn of(month: CivilMonth) -> Bill {
        Bill {
            month,
            days_of_month: i128::from(month.days().max(1)),
            energy: 0,
            fixed: 0,
            subsidy: 0,
            surcharge: 0,
            duty: 0,
            rebate: 0,
            least: 0,
            of_minimum: [0; 2],
            green: 0,
        }
    }

    /// Adds a part. The next part begins where this one ends.
    pub fn add(&mut self, part: &Part<'_>) {
        let &Part { tariff, days: (before, upto), energy_wh, .. } = part;
        let (before, upto) =
            (i128::from(before).min(self.days_of_month), i128::from(upto).min(self.days_of_month));
        let (wh_before, wh_upto) = (rated(energy_wh.0), rated(energy_wh.1.max(energy_wh.0)));
        let load_w = billed_load_w(tariff, part.sanctioned_w);
        let per_kw = |rate: MicroRupees, micro_w: i128| i128::from(rate.0) * micro_w * (upto - before).max(0);

        let at_end = self.slab_sums(tariff, wh_upto, upto);
        let at_start = self.slab_sums(tariff, wh_before, before);
        let energy = (at_end.0 - at_start.0) * MILLION;
        let subsidy = (at_end.1 - at_start.1) * MILLION;
        let fixed = per_kw(tariff.fixed_per_kw, billable_micro_w(tariff, part.demand_w, load_w));
        let green = (wh_upto - wh_before) * i128::from(tariff.green_per_kwh.0) * self.days_of_month * MILLION;

        let net = energy + fixed - subsidy;
        let surcharged = match tariff.surcharge_on {
            SurchargeOn::Net => net,
            SurchargeOn::Gross => energy + fixed,
        };
        let surcharge = surcharged * i128::from(tariff.surcharge_of(self.month).0);
        let base = (net + if tariff.base_with_green { green } else { 0 }) * MILLION + surcharge;
        self.energy += energy;
        self.fixed += fixed;
        self.subsidy += subsidy;
        self.surcharge += surcharge;
        self.duty += base * i128::from(tariff.duty.0);
        let rebate = if part.connection == ConnectionType::Prepaid { tariff.rebate } else { Ppm(0) };
        self.rebate += base * i128::from(rebate.0);
        self.least += per_kw(tariff.minimum_of(self.month), load_w * MILLION);
        self.of_minimum =
            [tariff.duty, rebate].map(|share| if tariff.base_with_minimum { share.0.into() } else { 0 });
        self.green += green;
    }

    /// The sum of the parts, each head rounded.
    #[must_use]
    pub fn charge(&self) -> Charge {
        let minimum = (self.least - self.energy - self.fixed).max(0);
        let [duty, rebate] = self.of_minimum.map(|share| minimum * MILLION * share);
        Charge {
            heads: [
                self.paise(self.energy, 1),
                self.paise(self.fixed, 1),
                -self.paise(self.subsidy, 1),
                self.paise(self.surcharge, MILLION),
                self.paise(self.duty + duty, MILLION * MILLION),
                -self.paise(self.rebate + rebate, MILLION * MILLION),
                self.paise(minimum, 1),
                self.paise(self.green, 1),
            ],
        }
    }

    /// Gross charge and subsidy of energy through the slabs at the end of a charged day, µ₹ × 10⁻³ (rate per kWh times
    /// Wh) × days of the month.
    fn slab_sums(&self, tariff: &Tariff, energy_wh: i128, days: i128) -> (i128, i128) {
        let all = energy_wh * self.days_of_month;
        let limit_days = match tariff.slab_limits {
            SlabLimits::Month => self.days_of_month,
            SlabLimits::Days => days,
        };
        let mut below = 0;
        let mut sums = (0, 0);
        for slab in &tariff.slabs {
            let limit = slab.upto_wh.map_or(all, |upto| i128::from(upto) * limit_days);
            let upto = limit.min(all);
            let in_slab = (upto - below).max(0);
            sums.0 += in_slab * i128::from(slab.gross.0);
            sums.1 += in_slab * i128::from(slab.subsidy.0);
            below = below.max(upto);
        }
        sums
    }

    /// Paise of a figure that is besides scaled by `factor`, rounded half away from zero.
    fn paise(&self, figure: i128, factor: i128) -> Paise {
        const MICRO_RUPEES_PER_PAISA: i128 = 10_000;
        let unit = MICRO_RUPEES_PER_PAISA * 1_000_000_000 * self.days_of_month * factor;
        let half = unit / 2 * figure.signum();
        Paise(i64::try_from((figure + half) / unit).expect("rates, energy and demand are bounded"))
    }
}

/// The charge of a prepaid month to date in one part.
///
/// `days` are the days of the month that are charged so far: the day of the month, less those before the account's
/// first. `energy_wh` and `demand_w` are the month's energy and highest demand to date.
#[must_use]
pub fn charge_to_date(
    tariff: &Tariff,
    month: CivilMonth,
    days: u8,
    energy_wh: i64,
    demand_w: i64,
    sanctioned_w: u32,
) -> Charge {
    let mut bill = Bill::of(month);
    let connection = ConnectionType::Prepaid;
    bill.add(&Part {
        tariff,
        connection,
        sanctioned_w,
        demand_w,
        days: (0, days),
        energy_wh: (0, energy_wh),
    });
    bill.charge()
}

/// Energy as it is rated, Wh.
fn rated(energy_wh: i64) -> i128 {
    energy_wh.clamp(0, MAX_ENERGY_WH).into()
}

/// Sanctioned load as it is billed, W.
fn billed_load_w(tariff: &Tariff, sanctioned_w: u32) -> i128 {
    let load_w = i64::from(sanctioned_w).min(MAX_DEMAND_W);
    let whole_w = load_w.saturating_add(999) / 1000 * 1000;
    i128::from(if tariff.whole_load { whole_w } else { load_w })
}

/// Demand that is billed, W × 10⁶: the month's highest, at least the floor's share of the sanctioned load; what lies
/// above the sanctioned load counts by the excess multiple. With a multiple of one that is the recorded demand.
fn billable_micro_w(tariff: &Tariff, demand_w: i64, load_w: i128) -> i128 {
    let demand = i128::from(demand_w.clamp(0, MAX_DEMAND_W));
    let floor = load_w * i128::from(tariff.demand_floor.0);
    let recorded = demand.min(load_w) * MILLION;
    let within = match tariff.demand_between {
        DemandBetween::Sanctioned if recorded > floor => load_w * MILLION,
        _ => recorded.max(floor),
    };
    let excess = (demand - load_w).max(0) * i128::from(tariff.demand_excess.0);
    within + excess
}

const MILLION: i128 = 1_000_000;

#[cfg(test)]
mod tests;
