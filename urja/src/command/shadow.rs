//! `urja shadow compare`: another system's daily charges against what is booked here, day by day and head by head, while both
//! charge the same accounts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::scaled;
use model::row::Head;
use model::{CivilDay, CivilMonth, Paise};
use serde_json::{Value, json};

use super::registry::text;
use super::sql::rows;
use super::{BAD_INPUT, kwh, print, read_input};
use crate::cli;
use crate::config::Config;
use crate::owner::Owner;

/// Accounts whose postings are asked for with one statement.
const ACCOUNTS_AT_ONCE: i64 = 5_000;
/// Accounts whose completeness is asked for with one statement.
const NUMBERS_AT_ONCE: usize = 200;
/// Faults of a file that are told at once.
const MAX_FAULTS: usize = 20;
const HEADS: usize = Head::CHARGED.len();

pub(super) async fn run(config: &Config, args: &cli::ShadowCompare, as_json: bool) -> Result<ExitCode> {
    let theirs = read(&read_input(&args.file)?).with_context(|| args.file.display().to_string())?;
    let owner = Owner::find(config).await?;
    let compared = compare(&owner, &theirs, args).await;
    owner.close().await?;
    let compared = compared?;
    if let Some(out) = &args.out {
        write(out, &compared.different).with_context(|| out.display().to_string())?;
    }
    let report = compared.report(args.limit);
    print(as_json, &report, || in_words(&report));
    Ok(if compared.different.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

/// An account's charge of a day: what lowers it is below zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Charge {
    total: i64,
    energy_wh: Option<i64>,
    /// In the order of [`Head::CHARGED`].
    heads: [Option<i64>; HEADS],
}

type Days = BTreeMap<CivilDay, BTreeMap<String, Charge>>;

/// Reads their file: `account_number`, `usage_date`, `total_rupees`, and if they are there `energy_kwh` and a column for each
/// head, as `fixed_rupees`. An empty field is not known.
fn read(bytes: &[u8]) -> Result<Days> {
    let mut reader = csv::Reader::from_reader(bytes);
    let headers: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    let heads = Head::CHARGED.map(|head| format!("{}_rupees", head.name()));
    let needed = ["account_number", "usage_date", "total_rupees"];
    let known = || needed.into_iter().chain(["energy_kwh"]).chain(heads.iter().map(String::as_str));
    for name in &headers {
        let all = known().collect::<Vec<_>>().join(", ");
        ensure!(known().any(|it| it == name), "line 1: unknown column {name:?}; the columns are {all}");
    }
    let place = |name: &str| headers.iter().position(|it| it == name);
    for (at, name) in headers.iter().enumerate() {
        ensure!(place(name) == Some(at), "line 1: the column {name} is there twice");
    }
    for name in needed {
        ensure!(place(name).is_some(), "line 1: the column {name} is missing");
    }
    let (mut days, mut faults) = (Days::new(), Vec::new());
    for row in reader.records() {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        let field = |name: &str| place(name).and_then(|at| row.get(at)).unwrap_or_default().trim().to_owned();
        match charge_of(&field, &heads) {
            Ok((day, number, charge)) => {
                if days.entry(day).or_default().insert(number, charge).is_some() {
                    faults.push(format!("line {line}: the account has this day before"));
                }
            }
            Err(error) => faults.push(format!("line {line}, {error:#}")),
        }
        if faults.len() == MAX_FAULTS {
            break;
        }
    }
    if faults.len() == MAX_FAULTS {
        faults.push("there may be more".to_owned());
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(!days.is_empty(), "there is no charge in it");
    Ok(days)
}

fn charge_of(field: &impl Fn(&str) -> String, heads: &[String; HEADS]) -> Result<(CivilDay, String, Charge)> {
    let paise = |name: &str| -> Result<Option<i64>> {
        match field(name).as_str() {
            "" => Ok(None),
            text => scaled(text, 2).map(Some).with_context(|| name.to_owned()),
        }
    };
    let number = field("account_number");
    ensure!(!number.is_empty(), "account_number: is empty");
    let day = field("usage_date").parse().context("usage_date")?;
    let energy_wh = match field("energy_kwh").as_str() {
        "" => None,
        text => Some(scaled(text, 3).context("energy_kwh")?),
    };
    let mut charge = Charge {
        total: paise("total_rupees")?.context("total_rupees: is empty")?,
        energy_wh,
        ..Charge::default()
    };
    for (value, name) in charge.heads.iter_mut().zip(heads) {
        *value = paise(name)?;
    }
    Ok((day, number, charge))
}

/// What is booked here for an account's day.
#[derive(Clone, Debug, Default)]
struct Booked {
    category: String,
    charge: Charge,
    /// What was booked when the day was closed, without what came late.
    at_close: Charge,
}

/// Why two charges of a day differ: the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// No account of that number is registered here.
    UnknownAccount,
    /// The day is not booked here.
    NotBookedHere,
    /// The account has other days in the file, and not this one.
    NotBookedThere,
    /// Theirs is what was booked here before data came late.
    LateData,
    /// Their heads do not add up to their total.
    TheirSum,
    /// Another energy, and in the month's other days as much less or more: it was counted on another day.
    OtherDay,
    /// Another energy, and intervals of the day are missing here.
    Incomplete,
    /// Another energy.
    Quantity,
    /// This head differs, with the same energy; what follows from it may differ as well.
    Head(Head),
    /// The totals differ, and nothing that the file has says why.
    Total,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Cause::UnknownAccount => "unknown_account",
            Cause::NotBookedHere => "not_booked_here",
            Cause::NotBookedThere => "not_booked_there",
            Cause::LateData => "late_data",
            Cause::TheirSum => "their_sum",
            Cause::OtherDay => "other_day",
            Cause::Incomplete => "incomplete_here",
            Cause::Quantity => "quantity",
            Cause::Head(head) => head.name(),
            Cause::Total => "total",
        }
    }
}

/// Bounds below which nothing is said to differ.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    paise: i64,
    wh: i64,
}

/// A charge that differs.
#[derive(Clone, Debug)]
struct Different {
    day: CivilDay,
    number: String,
    category: String,
    cause: Cause,
    theirs: Option<Charge>,
    ours: Option<Charge>,
}

impl Different {
    /// Theirs less ours, as far as both are known.
    fn by(&self) -> i64 {
        let total = |charge: &Option<Charge>| charge.as_ref().map_or(0, |charge| charge.total);
        total(&self.theirs) - total(&self.ours)
    }

    /// Theirs less ours of a head that both have.
    fn by_head(&self, head: usize) -> Option<i64> {
        let of = |charge: &Option<Charge>| charge.as_ref().and_then(|charge| charge.heads[head]);
        Some(of(&self.theirs)? - of(&self.ours)?)
    }
}

/// Why a day differs; none where it does not.
fn cause(theirs: &Charge, booked: &Booked, bounds: Bounds) -> Option<Cause> {
    let ours = &booked.charge;
    let near = |one: i64, other: i64| (one - other).abs() <= bounds.paise;
    let same_heads = |ours: &Charge| {
        let pairs = theirs.heads.iter().zip(&ours.heads);
        pairs.into_iter().all(|(theirs, ours)| match (theirs, ours) {
            (Some(theirs), Some(ours)) => near(*theirs, *ours),
            _ => true,
        })
    };
    let same_energy = |ours: &Charge| match (theirs.energy_wh, ours.energy_wh) {
        (Some(theirs), Some(ours)) => (theirs - ours).abs() <= bounds.wh,
        _ => true,
    };
    let agrees = |ours: &Charge| near(theirs.total, ours.total) && same_heads(ours) && same_energy(ours);
    if agrees(ours) {
        return None;
    }
    if booked.at_close != booked.charge && agrees(&booked.at_close) {
        return Some(Cause::LateData);
    }
    let known: Vec<i64> = theirs.heads.iter().copied().flatten().collect();
    if known.len() == HEADS && !near(known.iter().sum(), theirs.total) {
        return Some(Cause::TheirSum);
    }
    if !same_energy(ours) {
        return Some(Cause::Quantity);
    }
    let differs = |head: &usize| match (theirs.heads[*head], ours.heads[*head]) {
        (Some(theirs), Some(ours)) => !near(theirs, ours),
        _ => false,
    };
    // What is charged on others comes after them.
    const ORDER: [Head; HEADS] = [
        Head::Energy,
        Head::Fixed,
        Head::Minimum,
        Head::Green,
        Head::Subsidy,
        Head::Surcharge,
        Head::Duty,
        Head::Rebate,
    ];
    let place = |head: &Head| Head::CHARGED.iter().position(|it| it == head).unwrap_or_default();
    let head = ORDER.into_iter().find(|head| differs(&place(head)));
    Some(head.map_or(Cause::Total, Cause::Head))
}

/// What came of a comparison.
#[derive(Debug, Default)]
struct Compared {
    rows: u64,
    accounts: u64,
    days: u64,
    agree: u64,
    theirs: i64,
    ours: i64,
    different: Vec<Different>,
}

async fn compare(owner: &Owner, theirs: &Days, args: &cli::ShadowCompare) -> Result<Compared> {
    let bounds = Bounds { paise: args.paise.into(), wh: args.wh.into() };
    let tariffs = owner.send(Method::GET, "/admin/tariffs", Vec::new()).await?.json()?;
    let last = rows(owner, "SELECT max(account_id) AS last FROM account").await?;
    let last = last.first().and_then(|row| row["last"].as_i64()).unwrap_or_default();
    let in_file: BTreeSet<&str> = theirs.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let registered = registered(owner, last, &in_file).await?;
    let mut compared =
        Compared { accounts: in_file.len() as u64, days: theirs.len() as u64, ..Compared::default() };
    let bar = bar(theirs.len() as u64);
    for (day, charges) in theirs {
        let booked = booked(owner, *day, last, &in_file, &tariffs).await?;
        let from = compared.different.len();
        compare_day(*day, charges, &booked, &registered, bounds, &mut compared);
        incomplete(owner, *day, compared.different.get_mut(from..).unwrap_or_default()).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    other_day(&mut compared.different, bounds);
    Ok(compared)
}

fn compare_day(
    day: CivilDay,
    charges: &BTreeMap<String, Charge>,
    booked: &HashMap<String, Booked>,
    registered: &BTreeSet<String>,
    bounds: Bounds,
    compared: &mut Compared,
) {
    let numbers: BTreeSet<&String> = charges.keys().chain(booked.keys()).collect();
    for number in numbers {
        let (theirs, ours) = (charges.get(number), booked.get(number));
        compared.rows += u64::from(theirs.is_some());
        compared.theirs += theirs.map_or(0, |charge| charge.total);
        compared.ours += ours.map_or(0, |booked| booked.charge.total);
        let cause = match (theirs, ours) {
            (Some(_), None) if !registered.contains(number) => Some(Cause::UnknownAccount),
            (Some(_), None) => Some(Cause::NotBookedHere),
            (None, _) => Some(Cause::NotBookedThere),
            (Some(theirs), Some(ours)) => cause(theirs, ours, bounds),
        };
        let Some(cause) = cause else {
            compared.agree += 1;
            continue;
        };
        compared.different.push(Different {
            day,
            number: number.clone(),
            category: ours.map(|booked| booked.category.clone()).unwrap_or_default(),
            cause,
            theirs: theirs.cloned(),
            ours: ours.map(|booked| booked.charge.clone()),
        });
    }
}

/// Which of the file's accounts are registered.
async fn registered(owner: &Owner, last: i64, in_file: &BTreeSet<&str>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (from, to) in ranges(last) {
        let statement =
            format!("SELECT account_number FROM account WHERE account_id BETWEEN {from} AND {to}");
        let known = rows(owner, &statement).await?;
        let numbers = known.iter().map(|row| text(row, "account_number"));
        found.extend(numbers.filter(|number| in_file.contains(number)).map(str::to_owned));
    }
    Ok(found)
}

fn ranges(last: i64) -> impl Iterator<Item = (i64, i64)> {
    (1..=last)
        .step_by(ACCOUNTS_AT_ONCE as usize)
        .map(move |from| (from, (from + ACCOUNTS_AT_ONCE - 1).min(last)))
}

/// What is booked here for a day, of the file's accounts.
async fn booked(
    owner: &Owner,
    day: CivilDay,
    last: i64,
    in_file: &BTreeSet<&str>,
    tariffs: &Value,
) -> Result<HashMap<String, Booked>> {
    let mut all: HashMap<String, Booked> = HashMap::new();
    for (from, to) in ranges(last) {
        let statement = format!(
            "SELECT a.account_number, p.kind, p.head, max(p.tariff_digest) AS tariff, sum(p.amount_paise) AS paise, \
             sum(p.energy_wh) AS wh FROM ledger_posting AS p JOIN account AS a ON a.account_id = p.account_id \
             WHERE p.usage_date = DATE '{day}' AND p.kind IN ('usage', 'correction') \
             AND p.account_id BETWEEN {from} AND {to} GROUP BY a.account_number, p.kind, p.head"
        );
        for row in rows(owner, &statement).await? {
            let number = text(&row, "account_number");
            if in_file.contains(number) {
                add(all.entry(number.to_owned()).or_default(), &row, tariffs)?;
            }
        }
    }
    Ok(all)
}

/// Adds the sum of a kind and a head.
fn add(booked: &mut Booked, row: &Value, tariffs: &Value) -> Result<()> {
    let paise = row["paise"].as_i64().context("a sum without an amount")?;
    let charges: &mut [&mut Charge] = match text(row, "kind") {
        "usage" => &mut [&mut booked.charge, &mut booked.at_close],
        _ => &mut [&mut booked.charge],
    };
    if text(row, "head") == "consumer" {
        for charge in charges {
            charge.total -= paise;
            *charge.energy_wh.get_or_insert(0) += row["wh"].as_i64().unwrap_or_default();
            // A head without a line is zero.
            charge.heads.iter_mut().for_each(|head| *head = Some(head.unwrap_or_default()));
        }
        let all = tariffs["tariffs"].as_array().into_iter().flatten();
        let of = all.into_iter().find(|tariff| tariff["digest"] == row["tariff"]);
        if let (Some(tariff), true) = (of, booked.category.is_empty()) {
            text(tariff, "name").clone_into(&mut booked.category);
        }
        return Ok(());
    }
    let head = Head::CHARGED.iter().position(|head| head.name() == text(row, "head"));
    let Some(head) = head else { bail!("a charge under head {:?}", text(row, "head")) };
    for charge in charges {
        *charge.heads[head].get_or_insert(0) += paise;
    }
    Ok(())
}

/// Tells apart of days with another energy those of which intervals are missing here.
async fn incomplete(owner: &Owner, day: CivilDay, different: &mut [Different]) -> Result<()> {
    let mut asked: Vec<&mut Different> =
        different.iter_mut().filter(|it| it.cause == Cause::Quantity).collect();
    for some in asked.chunks_mut(NUMBERS_AT_ONCE) {
        // They are registered here, so they are numbers and nothing else.
        let numbers: Vec<String> = some.iter().map(|it| format!("'{}'", it.number)).collect();
        let statement = format!(
            "SELECT account_number FROM daily_usage WHERE usage_date = DATE '{day}' AND completeness < 1 \
             AND account_number IN ({})",
            numbers.join(", ")
        );
        let found = rows(owner, &statement).await?;
        let found: BTreeSet<&str> = found.iter().map(|row| text(row, "account_number")).collect();
        for it in some.iter_mut().filter(|it| found.contains(it.number.as_str())) {
            it.cause = Cause::Incomplete;
        }
    }
    Ok(())
}

/// Finds energy that is the same over the days of a month that differ: what came late in an open month is charged here with
/// the day that is closed next.
fn other_day(different: &mut [Different], bounds: Bounds) {
    let is_energy = |it: &Different| matches!(it.cause, Cause::Quantity | Cause::Incomplete);
    let mut months: BTreeMap<(String, CivilMonth), (i64, i64)> = BTreeMap::new();
    for it in different.iter().filter(|it| is_energy(it)) {
        let energy = |charge: &Option<Charge>| charge.as_ref().and_then(|charge| charge.energy_wh);
        let by = energy(&it.theirs).unwrap_or_default() - energy(&it.ours).unwrap_or_default();
        let sum = months.entry((it.number.clone(), it.day.month())).or_default();
        *sum = (sum.0 + by, sum.1 + 1);
    }
    months.retain(|_, (by, days)| by.abs() <= bounds.wh * *days);
    for it in different.iter_mut().filter(|it| is_energy(it)) {
        if months.contains_key(&(it.number.clone(), it.day.month())) {
            it.cause = Cause::OtherDay;
        }
    }
}

fn bar(days: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} days");
    ProgressBar::new(days).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Compared {
    fn report(&self, limit: usize) -> Value {
        let mut causes: BTreeMap<(Cause, &str), (u64, i64)> = BTreeMap::new();
        let mut heads = [(0_u64, 0_i64); HEADS];
        for it in &self.different {
            let of = causes.entry((it.cause, &it.category)).or_default();
            *of = (of.0 + 1, of.1 + it.by());
            for (head, sum) in heads.iter_mut().enumerate() {
                if let Some(by) = it.by_head(head).filter(|by| *by != 0) {
                    *sum = (sum.0 + 1, sum.1 + by);
                }
            }
        }
        let cause = |((cause, category), (days, by)): (&(Cause, &str), &(u64, i64))| json!({ "cause": cause.name(), "category": category, "days": days, "difference_paise": by });
        let head = |(head, (days, by)): (Head, (u64, i64))| json!({ "head": head.name(), "days": days, "difference_paise": by });
        let heads = Head::CHARGED.into_iter().zip(heads).filter(|(_, (days, _))| *days > 0);
        json!({
            "account_days": self.rows,
            "accounts": self.accounts,
            "days": self.days,
            "agree": self.agree,
            "differ": self.different.len(),
            "theirs_paise": self.theirs,
            "ours_paise": self.ours,
            "causes": causes.iter().map(cause).collect::<Vec<_>>(),
            "heads": heads.map(head).collect::<Vec<_>>(),
            "different": self.different.iter().take(limit).map(row).collect::<Vec<_>>(),
        })
    }
}

fn row(it: &Different) -> Value {
    let total = |charge: &Option<Charge>| charge.as_ref().map(|charge| charge.total);
    let energy = |charge: &Option<Charge>| charge.as_ref().and_then(|charge| charge.energy_wh);
    let heads: serde_json::Map<String, Value> = Head::CHARGED
        .into_iter()
        .enumerate()
        .filter_map(|(place, head)| {
            let by = it.by_head(place).filter(|by| *by != 0)?;
            Some((head.name().to_owned(), by.into()))
        })
        .collect();
    json!({
        "account_number": it.number,
        "usage_date": it.day.to_string(),
        "category": it.category,
        "cause": it.cause.name(),
        "theirs_paise": total(&it.theirs),
        "ours_paise": total(&it.ours),
        "difference_paise": it.by(),
        "theirs_wh": energy(&it.theirs),
        "ours_wh": energy(&it.ours),
        "heads_paise": heads,
    })
}

/// All that differs, a line each.
fn write(file: &Path, different: &[Different]) -> Result<()> {
    let mut csv = csv::Writer::from_path(file)?;
    let mut columns: Vec<String> = [
        "account_number",
        "usage_date",
        "category",
        "cause",
        "theirs_rupees",
        "ours_rupees",
        "theirs_kwh",
        "ours_kwh",
    ]
    .map(str::to_owned)
    .into();
    columns.extend(Head::CHARGED.map(|head| format!("{}_difference_rupees", head.name())));
    csv.write_record(&columns)?;
    for it in different {
        let rupees = |paise: Option<i64>| paise.map_or_else(String::new, |paise| Paise(paise).to_string());
        let number = |wh: Option<i64>| wh.map_or_else(String::new, |wh| kwh(wh).replace(" kWh", ""));
        let of = |charge: &Option<Charge>| charge.as_ref().map(|charge| charge.total);
        let energy = |charge: &Option<Charge>| charge.as_ref().and_then(|charge| charge.energy_wh);
        let mut fields = vec![
            it.number.clone(),
            it.day.to_string(),
            it.category.clone(),
            it.cause.name().to_owned(),
            rupees(of(&it.theirs)),
            rupees(of(&it.ours)),
            number(energy(&it.theirs)),
            number(energy(&it.ours)),
        ];
        fields.extend((0..HEADS).map(|head| rupees(it.by_head(head))));
        csv.write_record(&fields)?;
    }
    csv.flush()?;
    Ok(())
}

fn in_words(report: &Value) -> String {
    let rupees = |paise: &Value| Paise(paise.as_i64().unwrap_or_default()).to_string();
    let mut out = vec![format!(
        "{} charges of {} accounts and {} days: {} agree, {} differ; theirs ₹{}, ours ₹{}",
        report["account_days"],
        report["accounts"],
        report["days"],
        report["agree"],
        report["differ"],
        rupees(&report["theirs_paise"]),
        rupees(&report["ours_paise"])
    )];
    for cause in report["causes"].as_array().into_iter().flatten() {
        out.push(format!(
            "  {:<18} {:<20} {:>8} days {:>14}",
            text(cause, "cause"),
            text(cause, "category"),
            cause["days"],
            rupees(&cause["difference_paise"])
        ));
    }
    for head in report["heads"].as_array().into_iter().flatten() {
        out.push(format!(
            "  head {:<13} {:<20} {:>8} days {:>14}",
            text(head, "head"),
            "",
            head["days"],
            rupees(&head["difference_paise"])
        ));
    }
    for it in report["different"].as_array().into_iter().flatten() {
        let side = |key: &str| {
            if it[key].is_null() { "nothing".to_owned() } else { format!("₹{}", rupees(&it[key])) }
        };
        out.push(format!(
            "{}  {}  {}: theirs {}, ours {}",
            text(it, "account_number"),
            text(it, "usage_date"),
            text(it, "cause"),
            side("theirs_paise"),
            side("ours_paise")
        ));
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { paise: 1, wh: 10 };

    fn charge(heads: [i64; HEADS], wh: i64) -> Charge {
        Charge { total: heads.iter().sum(), energy_wh: Some(wh), heads: heads.map(Some) }
    }

    fn booked(at_close: Charge, charge: Charge) -> Booked {
        Booked { category: "lmv1-urban".into(), charge, at_close }
    }

    #[test]
    fn a_difference_has_the_first_cause_that_explains_it() {
        let base = [4000, 1100, -800, 50, 200, -90, 0, 0];
        let ours = booked(charge(base, 6000), charge(base, 6000));
        let with = |head: usize, paise: i64| {
            let mut heads = base;
            heads[head] += paise;
            charge(heads, 6000)
        };
        let found = |theirs: &Charge| cause(theirs, &ours, BOUNDS);
        assert_eq!(found(&charge(base, 6000)), None);
        assert_eq!(found(&with(4, 1)), None, "a paisa is rounding");
        assert_eq!(found(&charge(base, 6010)), None, "their energy has two decimals");
        assert_eq!(found(&charge(base, 6011)), Some(Cause::Quantity));
        assert_eq!(found(&with(0, 2)), Some(Cause::Head(Head::Energy)));
        assert_eq!(found(&with(4, -7)), Some(Cause::Head(Head::Duty)));
        let mut heads = base;
        (heads[1], heads[4]) = (heads[1] + 100, heads[4] + 5);
        assert_eq!(found(&charge(heads, 6000)), Some(Cause::Head(Head::Fixed)), "duty follows from it");
        let wrong_sum = Charge { total: 5000, ..charge(base, 6000) };
        assert_eq!(found(&wrong_sum), Some(Cause::TheirSum));
        let total_alone = Charge { total: 5000, ..Charge::default() };
        assert_eq!(found(&total_alone), Some(Cause::Total));
        let late = booked(charge(base, 6000), with(0, 500));
        assert_eq!(cause(&charge(base, 6000), &late, BOUNDS), Some(Cause::LateData));
        assert_eq!(cause(&with(0, 500), &late, BOUNDS), None);
    }

    #[test]
    fn energy_that_another_day_has_is_told_apart_from_energy_that_is_missing() {
        let of = |number: &str, day: &str, theirs: i64, ours: i64| Different {
            day: day.parse().unwrap(),
            number: number.into(),
            category: String::new(),
            cause: Cause::Quantity,
            theirs: Some(charge([0; HEADS], theirs)),
            ours: Some(charge([0; HEADS], ours)),
        };
        let mut different = [
            of("A", "2026-06-03", 5000, 3000),
            of("A", "2026-06-04", 4000, 6015),
            of("A", "2026-07-01", 4000, 5000),
            of("B", "2026-06-03", 5000, 3000),
            of("B", "2026-06-04", 4000, 5900),
        ];
        other_day(&mut different, BOUNDS);
        let causes: Vec<Cause> = different.iter().map(|it| it.cause).collect();
        let (other, quantity) = (Cause::OtherDay, Cause::Quantity);
        assert_eq!(causes, [other, other, quantity, quantity, quantity]);
    }

    #[test]
    fn every_fault_of_a_file_is_told_with_line_and_column() {
        let read = |text: &str| read(text.as_bytes());
        let days = read(
            "account_number,usage_date,total_rupees,duty_rupees\nA,2026-06-01,1.05,\nA,2026-06-02,-1,0.5\n",
        );
        let days = days.unwrap();
        let second = &days[&"2026-06-02".parse().unwrap()]["A"];
        assert_eq!((second.total, second.heads[4], second.energy_wh), (-100, Some(50), None));
        for (text, fault) in [
            (
                "account_number,usage_date,total_rupees,total_rupees\n",
                "the column total_rupees is there twice",
            ),
            ("account_number,usage_date,total_rupees\nA,2026-06-01,1,234.50\n", "4 fields"),
            ("account_number,usage_date\n", "the column total_rupees is missing"),
            ("account_number,usage_date,total_rupees,cess\n", "unknown column \"cess\""),
            ("account_number,usage_date,total_rupees\n", "there is no charge in it"),
            ("account_number,usage_date,total_rupees\n,2026-06-01,1\n", "line 2, account_number: is empty"),
            ("account_number,usage_date,total_rupees\nA,1.6.2026,1\n", "line 2, usage_date"),
            ("account_number,usage_date,total_rupees\nA,2026-06-01,\n", "line 2, total_rupees: is empty"),
            ("account_number,usage_date,total_rupees\nA,2026-06-01,1.001\n", "line 2, total_rupees"),
            (
                "account_number,usage_date,total_rupees\nA,2026-06-01,1\nA,2026-06-01,1\n",
                "line 3: the account has this day before",
            ),
        ] {
            let told = format!("{:#}", read(text).unwrap_err());
            assert!(told.contains(fault), "{text:?}: {told}");
        }
    }
}
