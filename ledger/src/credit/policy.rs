//! What is told and when supply may be cut, as data: one version, in force from a day on.
//!
//! The commented keys are in `ledger/credit/up-prepaid.toml`.

use std::collections::{BTreeMap, BTreeSet};

use model::{CivilDay, Paise, Ppm};
use serde::Deserialize;
use toml::Spanned;

use crate::decimal;
use crate::rules::{RuleError, RuleFault, Text, day, load_w, name, within};

/// Most alerts before the balance is used up.
pub const MAX_ALERTS: usize = 7;

/// A validated policy of credit control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditPolicy {
    /// For example `up-prepaid`.
    pub name: String,
    /// For people.
    pub title: String,
    /// First civil day in force.
    pub from: CivilDay,
    /// Alerts before the balance is used up, each later than the one before.
    pub alerts: Vec<Alert>,
    /// Days of emergency credit from the notice that the balance is used up.
    pub emergency_days: u16,
    /// Longer emergency credit by tariff and load.
    pub longer: Vec<Longer>,
    /// Share of a recharge that pays old dues off, by how high they are, rising; the last has no upper end. None: a recharge pays
    /// none off.
    pub arrears: Vec<ArrearsShare>,
    /// Days from the first charged one in which nothing is cut.
    pub conversion_grace_days: u16,
    /// Days that may be posted at once after silence without a fresh notice; one is always.
    pub silent_days: u16,
    /// Age of the last data above which nothing is cut, hours.
    pub fresh_hours: u16,
    /// When supply may be cut.
    pub hours: Hours,
    /// Gazetted holidays by year; in a year that is not there nothing is cut.
    pub holidays: BTreeMap<i16, BTreeSet<CivilDay>>,
}

/// When a consumer is told that the balance goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Share of the last recharge.
    pub share: Ppm,
    /// Balance, for who never recharged.
    pub balance: Paise,
    /// Days that it lasts at the price of the last one, for who never recharged.
    pub days_left: u16,
}

/// Emergency credit of small loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Longer {
    /// Tariffs it is for.
    pub tariffs: BTreeSet<String>,
    /// Largest sanctioned load, W.
    pub max_load_w: u32,
    /// Its days.
    pub days: u16,
}

/// What a recharge pays off of old dues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrearsShare {
    /// Old dues up to which it holds; none: however high.
    pub upto: Option<Paise>,
    /// Share of the recharge.
    pub share: Ppm,
}

/// Permitted hours of permitted days, in minutes of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// First minute.
    pub from_min: u16,
    /// First minute that is not permitted any more.
    pub to_min: u16,
    /// Whether on Sundays too.
    pub sundays: bool,
    /// Whether on second Saturdays of a month too.
    pub second_saturdays: bool,
}

impl CreditPolicy {
    /// Reads and validates a policy.
    ///
    /// # Errors
    /// With key and line of the first fault.
    pub fn parse(body: &str) -> Result<CreditPolicy, RuleError> {
        let (text, raw) = Text::parse::<RawPolicy>(body)?;
        Ok(CreditPolicy {
            name: text.read(&raw.name, "name", name)?,
            title: raw.title,
            from: text.read(&raw.from, "from", day)?,
            alerts: alerts(text, &raw.alert)?,
            emergency_days: text.count(&raw.emergency_days, "emergency_days")?,
            longer: raw.longer.iter().map(|raw| longer(text, raw)).collect::<Result<_, _>>()?,
            arrears: arrears(text, &raw.arrears)?,
            conversion_grace_days: text.count(&raw.conversion_grace_days, "conversion_grace_days")?,
            silent_days: silent_days(text, &raw.silent_days)?,
            fresh_hours: text.count(&raw.fresh_hours, "fresh_hours")?,
            hours: hours(text, &raw.hours)?,
            holidays: holidays(text, &raw.holidays)?,
        })
    }

    /// What of a recharge pays old dues off: a share by how high they are, cut to whole paise, and never more than is owed.
    #[must_use]
    pub fn arrears_share(&self, recharge: Paise, owed: Paise) -> Paise {
        let holds = |row: &&ArrearsShare| row.upto.is_none_or(|upto| owed <= upto);
        let Some(row) = self.arrears.iter().find(holds).filter(|_| owed > Paise::ZERO) else {
            return Paise::ZERO;
        };
        let share = i128::from(recharge.0.max(0)) * i128::from(row.share.0) / 1_000_000;
        Paise(i64::try_from(share).unwrap_or(i64::MAX)).min(owed)
    }

    /// Days of emergency credit of an account.
    #[must_use]
    pub fn emergency_days_of(&self, tariff: &str, sanctioned_w: u32) -> u16 {
        let fits = |rule: &&Longer| sanctioned_w <= rule.max_load_w && rule.tariffs.contains(tariff);
        self.longer.iter().find(fits).map_or(self.emergency_days, |rule| rule.days.max(self.emergency_days))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    name: Spanned<String>,
    title: String,
    from: Spanned<String>,
    emergency_days: Spanned<i64>,
    conversion_grace_days: Spanned<i64>,
    silent_days: Spanned<i64>,
    fresh_hours: Spanned<i64>,
    alert: Spanned<Vec<RawAlert>>,
    #[serde(default)]
    longer: Vec<RawLonger>,
    hours: RawHours,
    #[serde(default)]
    arrears: Vec<RawArrears>,
    #[serde(default)]
    holidays: Vec<RawHolidays>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArrears {
    upto_rupees: Option<Spanned<String>>,
    percent: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlert {
    percent: Spanned<String>,
    rupees: Spanned<String>,
    days_left: Spanned<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLonger {
    tariffs: Vec<Spanned<String>>,
    max_load_kw: Spanned<String>,
    days: Spanned<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    from: Spanned<String>,
    to: Spanned<String>,
    sundays: bool,
    second_saturdays: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHolidays {
    year: Spanned<i64>,
    days: Vec<Spanned<String>>,
}

fn alerts(text: Text<'_>, raw: &Spanned<Vec<RawAlert>>) -> Result<Vec<Alert>, RuleError> {
    let list = raw.get_ref();
    if list.is_empty() || list.len() > MAX_ALERTS {
        return Err(text.error(raw.span().start, "alert", RuleFault::Count(MAX_ALERTS)));
    }
    let mut alerts: Vec<Alert> = Vec::with_capacity(list.len());
    for raw in list {
        let alert = Alert {
            share: text.share(&raw.percent, "percent")?,
            balance: Paise(text.read(&raw.rupees, "rupees", |value| {
                within(decimal::scaled(value, 2)?, 0..=10_000_000, "0", "100000")
            })?),
            days_left: text.count(&raw.days_left, "days_left")?,
        };
        let is_later = |before: &Alert| {
            alert.share < before.share && alert.balance < before.balance && alert.days_left < before.days_left
        };
        if alerts.last().is_some_and(|before| !is_later(before)) {
            return Err(text.error(raw.percent.span().start, "percent", RuleFault::AlertOrder));
        }
        alerts.push(alert);
    }
    Ok(alerts)
}

/// No more than are counted.
fn silent_days(text: Text<'_>, raw: &Spanned<i64>) -> Result<u16, RuleError> {
    let days = text.count(raw, "silent_days")?;
    if days > 200 {
        return Err(text.error(raw.span().start, "silent_days", RuleFault::Range("0", "200")));
    }
    Ok(days)
}

fn arrears(text: Text<'_>, raw: &[RawArrears]) -> Result<Vec<ArrearsShare>, RuleError> {
    let mut shares: Vec<ArrearsShare> = Vec::with_capacity(raw.len());
    for (index, row) in raw.iter().enumerate() {
        let is_last = index + 1 == raw.len();
        let place = row.upto_rupees.as_ref().unwrap_or(&row.percent);
        if row.upto_rupees.is_none() != is_last {
            return Err(text.error(place.span().start, "upto_rupees", RuleFault::ArrearsEnd));
        }
        let upto = row.upto_rupees.as_ref().map(|upto| {
            text.read(upto, "upto_rupees", |value| {
                Ok(Paise(within(decimal::scaled(value, 2)?, 1..=100_000_000_000, "0.01", "1000000000")?))
            })
        });
        let upto = upto.transpose()?;
        let before = shares.last().and_then(|before| before.upto);
        if upto.zip(before).is_some_and(|(upto, before)| upto <= before) {
            return Err(text.error(place.span().start, "upto_rupees", RuleFault::ArrearsOrder));
        }
        let share = text.read(&row.percent, "percent", |value| {
            Ok(Ppm(within(decimal::ppm(value)?, 0..=900_000, "0 %", "90 %")?))
        })?;
        shares.push(ArrearsShare { upto, share });
    }
    Ok(shares)
}

fn longer(text: Text<'_>, raw: &RawLonger) -> Result<Longer, RuleError> {
    Ok(Longer {
        tariffs: raw
            .tariffs
            .iter()
            .map(|tariff| text.read(tariff, "tariffs", name))
            .collect::<Result<_, _>>()?,
        max_load_w: text.read(&raw.max_load_kw, "max_load_kw", load_w)?,
        days: text.count(&raw.days, "days")?,
    })
}

fn hours(text: Text<'_>, raw: &RawHours) -> Result<Hours, RuleError> {
    let from_min = text.read(&raw.from, "from", time_of_day)?;
    let to_min = text.read(&raw.to, "to", time_of_day)?;
    if to_min <= from_min {
        return Err(text.error(raw.to.span().start, "to", RuleFault::Hours));
    }
    Ok(Hours { from_min, to_min, sundays: raw.sundays, second_saturdays: raw.second_saturdays })
}

/// Minutes from midnight; 24:00 is the end of the day.
fn time_of_day(value: &str) -> Result<u16, RuleFault> {
    let is_two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let two = |text: &str| text.parse::<u16>().ok().filter(|_| is_two(text));
    let parts = value.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
    let minutes = parts.filter(|(_, minute)| *minute < 60).map(|(hour, minute)| hour * 60 + minute);
    minutes.filter(|minutes| *minutes <= 24 * 60).ok_or(RuleFault::TimeOfDay)
}

fn holidays(text: Text<'_>, raw: &[RawHolidays]) -> Result<BTreeMap<i16, BTreeSet<CivilDay>>, RuleError> {
    let mut holidays = BTreeMap::new();
    for list in raw {
        let number = *list.year.get_ref();
        let at_year = |fault| text.error(list.year.span().start, "year", fault);
        let year = i16::try_from(number).ok().filter(|year| (1970..=9999).contains(year));
        let year = year.ok_or_else(|| at_year(RuleFault::Range("1970", "9999")))?;
        let read = |value: &Spanned<String>| {
            text.read(value, "days", |value| {
                let day = day(value)?;
                if day.date().year() == year { Ok(day) } else { Err(RuleFault::OtherYear(number)) }
            })
        };
        let days = list.days.iter().map(read).collect::<Result<BTreeSet<_>, _>>()?;
        if holidays.insert(year, days).is_some() {
            return Err(at_year(RuleFault::YearTwice(number)));
        }
    }
    Ok(holidays)
}
