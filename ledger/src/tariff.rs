//! Tariffs: effective-dated data, read strictly from TOML.
//!
//! ```toml
//! name = "lmv1-urban"            # what accounts name
//! title = "LMV-1 domestic, urban"
//! from = "2025-04-01"            # first day in force, a first of month
//! fixed_per_kw = "110"           # rupees per kW of billable demand and month
//! demand_floor = "75 %"          # of the sanctioned load is billed at least
//! demand_excess = "1"            # times the fixed rate for demand above the sanctioned load
//! duty = "5 %"
//! rebate = "2 %"
//!
//! # optional
//! min_load_kw = "0.001"          # smallest and largest sanctioned load of an account under this tariff
//! max_load_kw = "1"
//! whole_load = true              # a fraction of a kW of sanctioned load is billed as a whole one
//! demand_between = "sanctioned"  # bill the sanctioned load once demand reaches the floor; else "recorded"
//! slab_limits = "days"           # limits of slabs grow with the charged days of the month; else "month": whole at once
//! surcharge_on = "gross"         # share of energy + fixed; else "net": of energy + fixed - subsidy
//! base_with = ["minimum"]        # besides, what duty and rebate are shares of: "minimum", "green", or both
//! green_per_kwh = "0.17"         # adder for energy of renewable sources
//!
//! [[slab]]                       # of the calendar month, rising; the last has no `upto_kwh`
//! upto_kwh = "150"
//! gross = "6.85"                 # rupees per kWh
//! subsidy = "1.35"
//!
//! [[slab]]
//! gross = "6.85"
//! subsidy = "0.85"
//!
//! [[minimum]]                    # optional: least of energy + fixed in these months, rupees per kW of sanctioned load
//! months = [4, 5, 6, 7, 8, 9]
//! per_kw = "600"
//!
//! [surcharge]                    # optional: share by month; months that are not named have none
//! "2026-01" = "-0.0233"
//! ```
//!
//! Numbers are text, so that no float stands between the file and the integer. Every error names key and line.

mod read;

use std::collections::BTreeMap;

use model::{CivilDay, CivilMonth, MicroRupees, Ppm};

use crate::rules::RuleError;

/// A validated tariff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// What accounts name, for example `lmv1-urban`.
    pub name: String,
    /// For people.
    pub title: String,
    /// First civil day it is in force; a first of month.
    pub from: CivilDay,
    /// Slabs of the calendar month's energy, rising; only the last has no upper end.
    pub slabs: Vec<Slab>,
    /// Fixed charge, µ₹ per kW of billable demand and month.
    pub fixed_per_kw: MicroRupees,
    /// Share of the sanctioned load that is billed at least.
    pub demand_floor: Ppm,
    /// Multiple of the fixed rate for demand above the sanctioned load; 1,000,000 is once.
    pub demand_excess: Ppm,
    /// Electricity duty, a share of energy + fixed − subsidy + surcharge.
    pub duty: Ppm,
    /// Prepaid rebate, a share of the same base.
    pub rebate: Ppm,
    /// Fuel surcharge by month, a share of what `surcharge_on` says; other months have none.
    pub surcharge: BTreeMap<CivilMonth, Ppm>,
    /// Smallest sanctioned load in W of an account under this tariff.
    pub min_load_w: Option<u32>,
    /// Largest sanctioned load in W of an account under this tariff.
    pub max_load_w: Option<u32>,
    /// Whether a fraction of a kW of sanctioned load is billed as a whole one.
    pub whole_load: bool,
    /// What is billed of a demand between the floor and the sanctioned load.
    pub demand_between: DemandBetween,
    /// Whether slabs are those of the whole month from its first day on.
    pub slab_limits: SlabLimits,
    /// What the fuel surcharge is a share of.
    pub surcharge_on: SurchargeOn,
    /// Whether duty and rebate are shares of the minimum charge too.
    pub base_with_minimum: bool,
    /// Whether duty and rebate are shares of the green adder too.
    pub base_with_green: bool,
    /// Adder for energy of renewable sources, µ₹ per kWh; an account that asks for it is put under a tariff with it.
    pub green_per_kwh: MicroRupees,
    /// Least of energy + fixed, µ₹ per kW of sanctioned load, in January to December.
    pub minimum_per_kw: [MicroRupees; 12],
}

/// What is billed of a demand between the floor and the sanctioned load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandBetween {
    /// The demand, as the wording of the rate schedule has it.
    Recorded,
    /// The sanctioned load, as some descriptions of it have it.
    Sanctioned,
}

/// How far a slab reaches at a day of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlabLimits {
    /// As far as for the whole month.
    Month,
    /// In proportion to the charged days.
    Days,
}

/// What the fuel surcharge is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurchargeOn {
    /// Energy + fixed − subsidy.
    Net,
    /// Energy + fixed.
    Gross,
}

/// Energy of a calendar month from the end of the slab before up to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Upper end, Wh of the month; `None` for the last.
    pub upto_wh: Option<i64>,
    /// Gross energy charge, µ₹ per kWh.
    pub gross: MicroRupees,
    /// Part of it that the government pays, µ₹ per kWh.
    pub subsidy: MicroRupees,
}

impl Tariff {
    /// Reads and validates a tariff.
    ///
    /// # Errors
    /// With key and line of the first fault.
    pub fn parse(body: &str) -> Result<Tariff, RuleError> {
        read::tariff(body)
    }

    /// Least of energy + fixed in a month, µ₹ per kW of sanctioned load.
    #[must_use]
    pub fn minimum_of(&self, month: CivilMonth) -> MicroRupees {
        self.minimum_per_kw[month.index_of_year()]
    }

    /// The surcharge levied in a month.
    #[must_use]
    pub fn surcharge_of(&self, month: CivilMonth) -> Ppm {
        self.surcharge.get(&month).copied().unwrap_or(Ppm(0))
    }
}

/// Most slabs of a tariff.
pub const MAX_SLABS: usize = 16;

/// Name and text of the tariffs that come with Urja.
#[must_use]
pub fn builtin_tariffs() -> &'static [(&'static str, &'static str)] {
    &[
        ("lmv1-urban", include_str!("../tariffs/lmv1-urban.toml")),
        ("lmv1-rural", include_str!("../tariffs/lmv1-rural.toml")),
        ("lmv1-lifeline", include_str!("../tariffs/lmv1-lifeline.toml")),
        ("lmv2-urban-small", include_str!("../tariffs/lmv2-urban-small.toml")),
        ("lmv2-urban-large", include_str!("../tariffs/lmv2-urban-large.toml")),
        ("lmv2-rural", include_str!("../tariffs/lmv2-rural.toml")),
    ]
}

#[cfg(test)]
mod tests;
