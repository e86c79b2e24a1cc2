//! Rules as TOML text, read strictly: every value keeps its place in the text until it is found good, so that every
//! error names key and line. Numbers are text, so that no float stands between the file and the integer.

use model::{CivilDay, Ppm};
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::decimal::{self, DecimalError};

/// The fault of a text of rules, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {key}: {fault}")]
pub struct RuleError {
    /// The key at fault, as far as it can be told.
    pub key: String,
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong.
    pub fault: RuleFault,
}

/// What can be wrong with a text of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// Not TOML, a key that is unknown, missing or given twice, or a value of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// Not a number written as it must be.
    #[error("{0}")]
    Number(#[from] DecimalError),
    /// Not a date.
    #[error("not a date such as \"2026-04-01\"")]
    Date,
    /// A date that is no first of month: so far a month is charged under one version of a tariff.
    #[error("a tariff starts on a first of month, not on {0}")]
    NotFirstOfMonth(CivilDay),
    /// Not a month.
    #[error("not a month such as \"2026-01\"")]
    Month,
    /// Not a time of day.
    #[error("not a time of day such as \"10:00\"")]
    TimeOfDay,
    /// Letters, digits and hyphens only, 64 at most.
    #[error("a name has 1 to 64 small letters, digits and hyphens")]
    Name,
    /// Out of the range in which charges are exact.
    #[error("must lie between {0} and {1}")]
    Range(&'static str, &'static str),
    /// More subsidy than the gross rate.
    #[error("the subsidy is higher than the gross rate")]
    SubsidyAboveGross,
    /// Upper ends that do not rise.
    #[error("the upper ends of slabs must rise")]
    SlabOrder,
    /// The last slab has an upper end, or one before it has none.
    #[error("every slab but the last has upto_kwh, the last has none")]
    SlabEnd,
    /// None or too many of what a list is of.
    #[error("1 to {0} of them")]
    Count(usize),
    /// Not one of the words that the key knows.
    #[error("not one of {0}")]
    Word(String),
    /// The smallest load is above the largest.
    #[error("the smallest sanctioned load is above the largest")]
    Loads,
    /// A month of the year that is none, or that has a minimum already.
    #[error("months are numbers from 1 to 12, each with one minimum at most")]
    MonthOfYear,
    /// Alerts that do not come one after the other.
    #[error("each alert must come later than the one before it")]
    AlertOrder,
    /// The last share of arrears has an upper end, or one before it has none.
    #[error("every share but the last has upto_rupees, the last has none")]
    ArrearsEnd,
    /// Upper ends that do not rise.
    #[error("the upper ends must rise")]
    ArrearsOrder,
    /// Hours that end before they begin.
    #[error("the hours end before they begin")]
    Hours,
    /// A holiday of another year than it is listed under.
    #[error("not a day of {0}")]
    OtherYear(i64),
    /// Two lists for a year.
    #[error("the year {0} has a list already")]
    YearTwice(i64),
}

/// The text that spans point into.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    body: &'a str,
}

impl<'a> Text<'a> {
    /// Reads a whole text; values that are checked later keep their spans.
    pub(crate) fn parse<T: DeserializeOwned>(body: &'a str) -> Result<(Text<'a>, T), RuleError> {
        let raw = toml::from_str(body).map_err(|error| syntax(body, &error))?;
        Ok((Text { body }, raw))
    }

    pub(crate) fn read<T>(
        self,
        value: &Spanned<String>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, RuleFault>,
    ) -> Result<T, RuleError> {
        read(value.get_ref()).map_err(|fault| self.error(value.span().start, key, fault))
    }

    /// A whole number of things from none to 400.
    pub(crate) fn count(self, value: &Spanned<i64>, key: &str) -> Result<u16, RuleError> {
        let count = u16::try_from(*value.get_ref()).ok().filter(|count| *count <= 400);
        count.ok_or_else(|| self.error(value.span().start, key, RuleFault::Range("0", "400")))
    }

    /// One of two words; the first where none is given.
    pub(crate) fn word<T: Copy>(
        self,
        value: Option<&Spanned<String>>,
        key: &str,
        words: [(&'static str, T); 2],
    ) -> Result<T, RuleError> {
        let Some(value) = value else { return Ok(words[0].1) };
        let known = words.iter().find(|(word, _)| word == value.get_ref());
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
            self.error(value.span().start, key, RuleFault::Word(words.join(", ")))
        })
    }

    pub(crate) fn share(self, value: &Spanned<String>, key: &str) -> Result<Ppm, RuleError> {
        self.read(value, key, |value| within(decimal::ppm(value)?, 0..=1_000_000, "0 %", "100 %")).map(Ppm)
    }

    pub(crate) fn error(self, offset: usize, key: &str, fault: RuleFault) -> RuleError {
        RuleError { key: key.to_owned(), line: line_of(self.body, offset), fault }
    }
}

pub(crate) fn within(
    number: i64,
    range: std::ops::RangeInclusive<i64>,
    low: &'static str,
    high: &'static str,
) -> Result<i64, RuleFault> {
    if range.contains(&number) { Ok(number) } else { Err(RuleFault::Range(low, high)) }
}

/// Sanctioned load in kW, as W.
pub(crate) fn load_w(value: &str) -> Result<u32, RuleFault> {
    let load = within(decimal::scaled(value, 3)?, 1..=100_000_000, "0.001", "100000")?;
    u32::try_from(load).map_err(|_| RuleFault::Range("0.001", "100000"))
}

pub(crate) fn name(value: &str) -> Result<String, RuleFault> {
    let letters =
        value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let well_formed = letters && (1..=64).contains(&value.len());
    well_formed.then(|| value.to_owned()).ok_or(RuleFault::Name)
}

pub(crate) fn day(value: &str) -> Result<CivilDay, RuleFault> {
    value.parse().map_err(|_| RuleFault::Date)
}

fn syntax(body: &str, error: &toml::de::Error) -> RuleError {
    let offset = error.span().map_or(0, |span| span.start);
    let message = error.message().to_owned();
    RuleError {
        key: key_in(&message, body, offset),
        line: line_of(body, offset),
        fault: RuleFault::Syntax(message),
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
