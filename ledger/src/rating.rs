//! What a month costs to date: the one formula, in exact integers, rounded once per head.
//!
//! ```text
//! E = Σ slab gross    S = Σ slab subsidy    F = fixed × billable kW × days / days of the month
//! P = surcharge × (E + F − S)    G = green adder × kWh
//! M = max(0, minimum × sanctioned kW × days / days of the month − (E + F))
//! B = E + F − S + P    duty = duty share × B    rebate = rebate share × B
//! charge to date = E + F − S + P + duty − rebate + M + G
//! ```
//!
//! As the tariff has it, P is a share of E + F, and B contains M, G or both.
//!
//! Nothing is rounded but the eight heads, each half away from zero to paise. What a day costs is the difference of two
//! such figures per head, so the days of a month add up to its bill.
//!
//! Energy is rated up to [`MAX_ENERGY_WH`] a month and demand up to [`MAX_DEMAND_W`], far above anything this tariff
//! is for; what a broken meter reports beyond them is kept as a reading and not charged. Energy below zero is rated
//! as none.

use model::row::Head;
use model::{CivilMonth, MicroRupees, Paise};

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

/// The charge of a month to date.
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
    let scale = Scale::of(month, days);
    let energy_wh = energy_wh.clamp(0, MAX_ENERGY_WH);
    let load_w = billed_load_w(tariff, sanctioned_w);
    let (gross, subsidy) = slab_sums(tariff, &scale, energy_wh);
    let energy = gross * MILLION;
    let subsidy = subsidy * MILLION;
    let fixed = scale.per_kw(tariff.fixed_per_kw, billable_micro_w(tariff, demand_w, load_w));
    let least = scale.per_kw(tariff.minimum_of(month), load_w * MILLION);
    let minimum = (least - energy - fixed).max(0);
    let green = i128::from(energy_wh) * i128::from(tariff.green_per_kwh.0) * scale.days_of_month * MILLION;

    let net = energy + fixed - subsidy;
    let surcharged = match tariff.surcharge_on {
        SurchargeOn::Net => net,
        SurchargeOn::Gross => energy + fixed,
    };
    let surcharge = surcharged * i128::from(tariff.surcharge_of(month).0);
    let further =
        if tariff.base_with_minimum { minimum } else { 0 } + if tariff.base_with_green { green } else { 0 };
    let base = (net + further) * MILLION + surcharge;
    let share = |ppm: i64| base * i128::from(ppm);
    Charge {
        heads: [
            scale.paise(energy, 1),
            scale.paise(fixed, 1),
            -scale.paise(subsidy, 1),
            scale.paise(surcharge, MILLION),
            scale.paise(share(tariff.duty.0), MILLION * MILLION),
            -scale.paise(share(tariff.rebate.0), MILLION * MILLION),
            scale.paise(minimum, 1),
            scale.paise(green, 1),
        ],
    }
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

/// Gross charge and subsidy of the month's energy, µ₹ × 10⁻³ (rate per kWh times Wh) × days of the month.
fn slab_sums(tariff: &Tariff, scale: &Scale, energy_wh: i64) -> (i128, i128) {
    let all = i128::from(energy_wh) * scale.days_of_month;
    let limit_days = match tariff.slab_limits {
        SlabLimits::Month => scale.days_of_month,
        SlabLimits::Days => scale.days,
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

const MILLION: i128 = 1_000_000;

/// The common denominator of a month: figures are kept as µ₹ × 10⁹ × days of the month.
///
/// With the bounds on rates, energy and demand the largest product is below 10³⁸, within i128.
struct Scale {
    days_of_month: i128,
    /// Charged days of it.
    days: i128,
}

impl Scale {
    fn of(month: CivilMonth, days: u8) -> Scale {
        let days_of_month = i128::from(month.days().max(1));
        Scale { days_of_month, days: i128::from(days).min(days_of_month) }
    }

    /// What a rate per kW and month comes to for the charged days.
    fn per_kw(&self, rate: MicroRupees, micro_w: i128) -> i128 {
        i128::from(rate.0) * micro_w * self.days
    }

    /// Paise of a figure that is besides scaled by `factor`, rounded half away from zero.
    fn paise(&self, figure: i128, factor: i128) -> Paise {
        const MICRO_RUPEES_PER_PAISA: i128 = 10_000;
        let unit = MICRO_RUPEES_PER_PAISA * 1_000_000_000 * self.days_of_month * factor;
        let half = unit / 2 * figure.signum();
        Paise(i64::try_from((figure + half) / unit).expect("rates, energy and demand are bounded"))
    }
}

#[cfg(test)]
mod tests;
