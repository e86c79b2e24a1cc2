//! From TOML to a tariff: every value keeps its place in the text until it is found good.

use std::collections::BTreeMap;

use model::{CivilDay, CivilMonth, MicroRupees, Ppm};
use serde::Deserialize;
use toml::Spanned;

use super::{DemandBetween, MAX_SLABS, Slab, SlabLimits, SurchargeOn, Tariff, TariffError, TariffFault};
use crate::decimal;

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

pub(super) fn tariff(body: &str) -> Result<Tariff, TariffError> {
    let raw: RawTariff = toml::from_str(body).map_err(|error| syntax(body, &error))?;
    let text = Text { body };
    let (min_load_w, max_load_w) = loads(text, &raw)?;
    let base_with = base_with(text, &raw.base_with)?;
    Ok(Tariff {
        name: text.read(&raw.name, "name", name)?,
        title: raw.title,
        from: text.read(&raw.from, "from", first_of_month)?,
        slabs: slabs(text, &raw.slab)?,
        fixed_per_kw: MicroRupees(text.read(&raw.fixed_per_kw, "fixed_per_kw", per_kw)?),
        demand_floor: share(text, &raw.demand_floor, "demand_floor")?,
        demand_excess: Ppm(text.read(&raw.demand_excess, "demand_excess", |value| {
            within(decimal::ppm(value)?, 0..=10_000_000, "0", "10")
        })?),
        duty: share(text, &raw.duty, "duty")?,
        rebate: share(text, &raw.rebate, "rebate")?,
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

/// The text that spans point into.
#[derive(Clone, Copy)]
struct Text<'a> {
    body: &'a str,
}

impl Text<'_> {
    fn read<T>(
        self,
        value: &Spanned<String>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, TariffFault>,
    ) -> Result<T, TariffError> {
        read(value.get_ref()).map_err(|fault| self.error(value.span().start, key, fault))
    }

    /// One of two words; the first where none is given.
    fn word<T: Copy>(
        self,
        value: Option<&Spanned<String>>,
        key: &str,
        words: [(&'static str, T); 2],
    ) -> Result<T, TariffError> {
        let Some(value) = value else { return Ok(words[0].1) };
        let known = words.iter().find(|(word, _)| word == value.get_ref());
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
            self.error(value.span().start, key, TariffFault::Word(words.join(", ")))
        })
    }

    fn error(self, offset: usize, key: &str, fault: TariffFault) -> TariffError {
        TariffError { key: key.to_owned(), line: line_of(self.body, offset), fault }
    }
}

fn slabs(text: Text<'_>, raw: &Spanned<Vec<RawSlab>>) -> Result<Vec<Slab>, TariffError> {
    let list = raw.get_ref();
    if list.is_empty() || list.len() > MAX_SLABS {
        return Err(text.error(raw.span().start, "slab", TariffFault::SlabCount));
    }
    let mut slabs = Vec::with_capacity(list.len());
    let mut below = 0;
    for (index, raw) in list.iter().enumerate() {
        let slab = slab(text, raw)?;
        let is_last = index + 1 == list.len();
        let place = raw.upto_kwh.as_ref().unwrap_or(&raw.gross).span().start;
        if slab.upto_wh.is_none() != is_last {
            return Err(text.error(place, "upto_kwh", TariffFault::SlabEnd));
        }
        if slab.upto_wh.is_some_and(|upto| upto <= below) {
            return Err(text.error(place, "upto_kwh", TariffFault::SlabOrder));
        }
        below = slab.upto_wh.unwrap_or(below);
        slabs.push(slab);
    }
    Ok(slabs)
}

fn slab(text: Text<'_>, raw: &RawSlab) -> Result<Slab, TariffError> {
    let upto = raw.upto_kwh.as_ref().map(|upto| text.read(upto, "upto_kwh", energy_wh)).transpose()?;
    let gross = text.read(&raw.gross, "gross", rate)?;
    let subsidy = text.read(&raw.subsidy, "subsidy", |value| {
        let subsidy = rate(value)?;
        if subsidy > gross { Err(TariffFault::SubsidyAboveGross) } else { Ok(subsidy) }
    })?;
    Ok(Slab { upto_wh: upto, gross: MicroRupees(gross), subsidy: MicroRupees(subsidy) })
}

/// Smallest and largest sanctioned load, W.
fn loads(text: Text<'_>, raw: &RawTariff) -> Result<(Option<u32>, Option<u32>), TariffError> {
    let read = |load: &Option<Spanned<String>>, key| {
        load.as_ref().map(|load| text.read(load, key, load_w)).transpose()
    };
    let (least, most) = (read(&raw.min_load_kw, "min_load_kw")?, read(&raw.max_load_kw, "max_load_kw")?);
    match (least, most, &raw.max_load_kw) {
        (Some(least), Some(most), Some(value)) if least > most => {
            Err(text.error(value.span().start, "max_load_kw", TariffFault::Loads))
        }
        _ => Ok((least, most)),
    }
}

fn base_with<'a>(text: Text<'_>, raw: &'a [Spanned<String>]) -> Result<Vec<&'a str>, TariffError> {
    raw.iter()
        .map(|word| match word.get_ref().as_str() {
            known @ (MINIMUM | GREEN) => Ok(known),
            _ => {
                let words = format!("{MINIMUM:?}, {GREEN:?}");
                Err(text.error(word.span().start, "base_with", TariffFault::Word(words)))
            }
        })
        .collect()
}

fn minimums(text: Text<'_>, raw: &[RawMinimum]) -> Result<[MicroRupees; 12], TariffError> {
    let mut minimums = [None; 12];
    for minimum in raw {
        let per_kw = MicroRupees(text.read(&minimum.per_kw, "per_kw", per_kw)?);
        for month in &minimum.months {
            let index = usize::try_from(month.get_ref().saturating_sub(1)).ok();
            let place = index.and_then(|index| minimums.get_mut(index)).filter(|known| known.is_none());
            let fault = || text.error(month.span().start, "months", TariffFault::MonthOfYear);
            *place.ok_or_else(fault)? = Some(per_kw);
        }
    }
    Ok(minimums.map(Option::unwrap_or_default))
}

fn surcharges(
    text: Text<'_>,
    raw: &BTreeMap<Spanned<String>, Spanned<String>>,
) -> Result<BTreeMap<CivilMonth, Ppm>, TariffError> {
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

fn share(text: Text<'_>, value: &Spanned<String>, key: &str) -> Result<Ppm, TariffError> {
    text.read(value, key, |value| within(decimal::ppm(value)?, 0..=1_000_000, "0 %", "100 %")).map(Ppm)
}

fn within(
    number: i64,
    range: std::ops::RangeInclusive<i64>,
    low: &'static str,
    high: &'static str,
) -> Result<i64, TariffFault> {
    if range.contains(&number) { Ok(number) } else { Err(TariffFault::Range(low, high)) }
}

fn per_kw(value: &str) -> Result<i64, TariffFault> {
    within(decimal::scaled(value, 6)?, 0..=1_000_000_000, "0", "1000")
}

fn rate(value: &str) -> Result<i64, TariffFault> {
    within(decimal::scaled(value, 6)?, 0..=100_000_000, "0", "100")
}

fn energy_wh(value: &str) -> Result<i64, TariffFault> {
    within(decimal::scaled(value, 3)?, 1..=10_000_000_000, "0.001", "10000000")
}

fn load_w(value: &str) -> Result<u32, TariffFault> {
    let load = within(decimal::scaled(value, 3)?, 1..=100_000_000, "0.001", "100000")?;
    u32::try_from(load).map_err(|_| TariffFault::Range("0.001", "100000"))
}

fn name(value: &str) -> Result<String, TariffFault> {
    let letters =
        value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let well_formed = letters && (1..=64).contains(&value.len());
    well_formed.then(|| value.to_owned()).ok_or(TariffFault::Name)
}

fn first_of_month(value: &str) -> Result<CivilDay, TariffFault> {
    let day: CivilDay = value.parse().map_err(|_| TariffFault::Date)?;
    if day.day_of_month() == 1 { Ok(day) } else { Err(TariffFault::NotFirstOfMonth(day)) }
}

fn month(value: &str) -> Result<CivilMonth, TariffFault> {
    let first: CivilDay = format!("{value}-01").parse().map_err(|_| TariffFault::Month)?;
    let month = first.month();
    if month.to_string() == value { Ok(month) } else { Err(TariffFault::Month) }
}

fn syntax(body: &str, error: &toml::de::Error) -> TariffError {
    let offset = error.span().map_or(0, |span| span.start);
    let message = error.message().to_owned();
    TariffError {
        key: key_in(&message, body, offset),
        line: line_of(body, offset),
        fault: TariffFault::Syntax(message),
    }
}

/// The key an error is about: the field its message quotes, else what stands before `=` on its line.
fn key_in(message: &str, body: &str, offset: usize) -> String {
    if let Some((_, quoted)) = message.split_once("field `") {
        return quoted.split('`').next().unwrap_or_default().to_owned();
    }
    let line = body.lines().nth(line_of(body, offset) - 1).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    key.trim_matches(['[', ']']).to_owned()
}

fn line_of(body: &str, offset: usize) -> usize {
    body.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
