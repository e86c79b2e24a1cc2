//! From TOML to a tariff: every value keeps its place in the text until it is found good.

use std::collections::BTreeMap;

use model::{CivilDay, CivilMonth, MicroRupees, Ppm};
use serde::Deserialize;
use toml::Spanned;

use super::{DemandBetween, MAX_SLABS, Slab, SlabLimits, SurchargeOn, Tariff};
use crate::decimal;
use crate::rules::{self, RuleError, RuleFault, Text, load_w, name, within};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTariff {
    name: Spanned<String>,
    title: String,
    from: Spanned<String>,
    fixed_per_kw: Spanned<String>,
    demand_floor: Spanned<String>,
    demand_excess: Spanned<String>,
    duty: Spanned<String>,
    rebate: Spanned<String>,
    min_load_kw: Option<Spanned<String>>,
    max_load_kw: Option<Spanned<String>>,
    #[serde(default)]
    whole_load: bool,
    demand_between: Option<Spanned<String>>,
    slab_limits: Option<Spanned<String>>,
    surcharge_on: Option<Spanned<String>>,
    #[serde(default)]
    base_with: Vec<Spanned<String>>,
    green_per_kwh: Option<Spanned<String>>,
    #[serde(default)]
    minimum: Vec<RawMinimum>,
    slab: Spanned<Vec<RawSlab>>,
    #[serde(default)]
    surcharge: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMinimum {
    months: Vec<Spanned<i64>>,
    per_kw: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSlab {
    upto_kwh: Option<Spanned<String>>,
    gross: Spanned<String>,
    subsidy: Spanned<String>,
}

pub(super) fn tariff(body: &str) -> Result<Tariff, RuleError> {
    let (text, raw) = Text::parse::<RawTariff>(body)?;
    let (min_load_w, max_load_w) = loads(text, &raw)?;
    let base_with = base_with(text, &raw.base_with)?;
    Ok(Tariff {
        name: text.read(&raw.name, "name", name)?,
        title: raw.title,
        from: text.read(&raw.from, "from", first_of_month)?,
        slabs: slabs(text, &raw.slab)?,
        fixed_per_kw: MicroRupees(text.read(&raw.fixed_per_kw, "fixed_per_kw", per_kw)?),
        demand_floor: text.share(&raw.demand_floor, "demand_floor")?,
        demand_excess: Ppm(text.read(&raw.demand_excess, "demand_excess", |value| {
            within(decimal::ppm(value)?, 0..=10_000_000, "0", "10")
        })?),
        duty: text.share(&raw.duty, "duty")?,
        rebate: text.share(&raw.rebate, "rebate")?,
        surcharge: surcharges(text, &raw.surcharge)?,
        min_load_w,
        max_load_w,
        whole_load: raw.whole_load,
        demand_between: text.word(
            raw.demand_between.as_ref(),
            "demand_between",
            [("recorded", DemandBetween::Recorded), ("sanctioned", DemandBetween::Sanctioned)],
        )?,
        slab_limits: text.word(
            raw.slab_limits.as_ref(),
            "slab_limits",
            [("month", SlabLimits::Month), ("days", SlabLimits::Days)],
        )?,
        surcharge_on: text.word(
            raw.surcharge_on.as_ref(),
            "surcharge_on",
            [("net", SurchargeOn::Net), ("gross", SurchargeOn::Gross)],
        )?,
        base_with_minimum: base_with.contains(&MINIMUM),
        base_with_green: base_with.contains(&GREEN),
        green_per_kwh: match &raw.green_per_kwh {
            Some(green) => MicroRupees(text.read(green, "green_per_kwh", rate)?),
            None => MicroRupees(0),
        },
        minimum_per_kw: minimums(text, &raw.minimum)?,
    })
}

const MINIMUM: &str = "minimum";
const GREEN: &str = "green";

fn slabs(text: Text<'_>, raw: &Spanned<Vec<RawSlab>>) -> Result<Vec<Slab>, RuleError> {
    let list = raw.get_ref();
    if list.is_empty() || list.len() > MAX_SLABS {
        return Err(text.error(raw.span().start, "slab", RuleFault::Count(MAX_SLABS)));
    }
    let mut slabs = Vec::with_capacity(list.len());
    let mut below = 0;
    for (index, raw) in list.iter().enumerate() {
        let slab = slab(text, raw)?;
        let is_last = index + 1 == list.len();
        let place = raw.upto_kwh.as_ref().unwrap_or(&raw.gross).span().start;
        if slab.upto_wh.is_none() != is_last {
            return Err(text.error(place, "upto_kwh", RuleFault::SlabEnd));
        }
        if slab.upto_wh.is_some_and(|upto| upto <= below) {
            return Err(text.error(place, "upto_kwh", RuleFault::SlabOrder));
        }
        below = slab.upto_wh.unwrap_or(below);
        slabs.push(slab);
    }
    Ok(slabs)
}

fn slab(text: Text<'_>, raw: &RawSlab) -> Result<Slab, RuleError> {
    let upto = raw.upto_kwh.as_ref().map(|upto| text.read(upto, "upto_kwh", energy_wh)).transpose()?;
    let gross = text.read(&raw.gross, "gross", rate)?;
    let subsidy = text.read(&raw.subsidy, "subsidy", |value| {
        let subsidy = rate(value)?;
        if subsidy > gross { Err(RuleFault::SubsidyAboveGross) } else { Ok(subsidy) }
    })?;
    Ok(Slab { upto_wh: upto, gross: MicroRupees(gross), subsidy: MicroRupees(subsidy) })
}

/// Smallest and largest sanctioned load, W.
fn loads(text: Text<'_>, raw: &RawTariff) -> Result<(Option<u32>, Option<u32>), RuleError> {
    let read = |load: &Option<Spanned<String>>, key| {
        load.as_ref().map(|load| text.read(load, key, load_w)).transpose()
    };
    let (least, most) = (read(&raw.min_load_kw, "min_load_kw")?, read(&raw.max_load_kw, "max_load_kw")?);
    match (least, most, &raw.max_load_kw) {
        (Some(least), Some(most), Some(value)) if least > most => {
            Err(text.error(value.span().start, "max_load_kw", RuleFault::Loads))
        }
        _ => Ok((least, most)),
    }
}

fn base_with<'a>(text: Text<'_>, raw: &'a [Spanned<String>]) -> Result<Vec<&'a str>, RuleError> {
    raw.iter()
        .map(|word| match word.get_ref().as_str() {
            known @ (MINIMUM | GREEN) => Ok(known),
            _ => {
                let words = format!("{MINIMUM:?}, {GREEN:?}");
                Err(text.error(word.span().start, "base_with", RuleFault::Word(words)))
            }
        })
        .collect()
}

fn minimums(text: Text<'_>, raw: &[RawMinimum]) -> Result<[MicroRupees; 12], RuleError> {
    let mut minimums = [None; 12];
    for minimum in raw {
        let per_kw = MicroRupees(text.read(&minimum.per_kw, "per_kw", per_kw)?);
        for month in &minimum.months {
            let index = usize::try_from(month.get_ref().saturating_sub(1)).ok();
            let place = index.and_then(|index| minimums.get_mut(index)).filter(|known| known.is_none());
            let fault = || text.error(month.span().start, "months", RuleFault::MonthOfYear);
            *place.ok_or_else(fault)? = Some(per_kw);
        }
    }
    Ok(minimums.map(Option::unwrap_or_default))
}

fn surcharges(
    text: Text<'_>,
    raw: &BTreeMap<Spanned<String>, Spanned<String>>,
) -> Result<BTreeMap<CivilMonth, Ppm>, RuleError> {
    raw.iter()
        .map(|(key, value)| {
            let month = text.read(key, key.get_ref(), month)?;
            let share = text.read(value, key.get_ref(), |value| {
                within(decimal::ppm(value)?, -500_000..=500_000, "-50 %", "50 %")
            })?;
            Ok((month, Ppm(share)))
        })
        .collect()
}

fn per_kw(value: &str) -> Result<i64, RuleFault> {
    within(decimal::scaled(value, 6)?, 0..=1_000_000_000, "0", "1000")
}

fn rate(value: &str) -> Result<i64, RuleFault> {
    within(decimal::scaled(value, 6)?, 0..=100_000_000, "0", "100")
}

fn energy_wh(value: &str) -> Result<i64, RuleFault> {
    within(decimal::scaled(value, 3)?, 1..=10_000_000_000, "0.001", "10000000")
}

fn first_of_month(value: &str) -> Result<CivilDay, RuleFault> {
    let day = rules::day(value)?;
    if day.day_of_month() == 1 { Ok(day) } else { Err(RuleFault::NotFirstOfMonth(day)) }
}

fn month(value: &str) -> Result<CivilMonth, RuleFault> {
    let first: CivilDay = format!("{value}-01").parse().map_err(|_| RuleFault::Month)?;
    let month = first.month();
    if month.to_string() == value { Ok(month) } else { Err(RuleFault::Month) }
}
