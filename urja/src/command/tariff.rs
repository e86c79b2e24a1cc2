//! `urja tariff`: versions in force, and what a file would do before it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use ledger::rating::{Bill, Charge, Part, charge_to_date};
use ledger::{Tariff, builtin_tariffs, digest_of, scaled};
use model::row::Head;
use model::{CivilDay, CivilMonth, ConnectionType, Paise};
use serde_json::{Value, json};

use super::registry::{request, text};
use super::{BAD_INPUT, print, read_input};
use crate::cli;
use crate::config::Config;

/// What needs the data directory.
pub(super) async fn run(config: &Config, args: &cli::Tariff, as_json: bool) -> Result<ExitCode> {
    match args {
        cli::Tariff::Apply { file } => {
            let body = body_of(file)?;
            let answer = request(config, Method::POST, "/admin/tariffs", body.into_bytes())
                .await
                .with_context(|| file.clone())?;
            print(as_json, &answer, || format!("{file}: {}", text(&answer, "outcome")));
        }
        _ => {
            let answer = request(config, Method::GET, "/admin/tariffs", Vec::new()).await?;
            print(as_json, &answer, || {
                let rows = answer["tariffs"].as_array().into_iter().flatten();
                rows.map(|row| {
                    format!("{}  {}  {}\n", text(row, "from"), text(row, "digest"), text(row, "name"))
                })
                .collect()
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What works on files alone; `None` for the others.
pub(super) fn without_data(args: &cli::Tariff, as_json: bool) -> Option<Result<ExitCode>> {
    match args {
        cli::Tariff::Apply { .. } | cli::Tariff::List => None,
        cli::Tariff::Builtin { name } => Some(builtin(name.as_deref(), as_json)),
        cli::Tariff::Check { files } => Some(check(files, as_json)),
        cli::Tariff::Diff { before, after, load_kw, month } => {
            Some(diff(before, after, load_kw, month.as_deref(), as_json))
        }
        cli::Tariff::Simulate(args) => Some(simulate(args, as_json)),
    }
}

/// The text of a tariff file, or of the built-in tariff of that name.
fn body_of(file: &str) -> Result<String> {
    if let Some((_, body)) = builtin_tariffs().iter().find(|(name, _)| *name == file) {
        return Ok((*body).to_owned());
    }
    String::from_utf8(read_input(Path::new(file))?).with_context(|| format!("{file} is not UTF-8 text"))
}

fn builtin(name: Option<&str>, as_json: bool) -> Result<ExitCode> {
    if let Some(name) = name {
        let known = builtin_tariffs().iter().find(|(known, _)| *known == name);
        let (_, body) = known.with_context(|| format!("no built-in tariff is named {name}"))?;
        print(as_json, &json!({ "name": name, "body": body }), || (*body).to_owned());
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for (name, body) in builtin_tariffs() {
        let tariff = Tariff::parse(body).with_context(|| (*name).to_owned())?;
        rows.push(json!({ "name": name, "from": tariff.from.to_string(), "title": tariff.title }));
    }
    print(as_json, &json!({ "tariffs": rows }), || {
        let lines = rows.iter();
        lines
            .map(|row| format!("{:<18} {}  {}\n", text(row, "name"), text(row, "from"), text(row, "title")))
            .collect()
    });
    Ok(ExitCode::SUCCESS)
}

fn check(files: &[String], as_json: bool) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for file in files {
        let body = body_of(file)?;
        rows.push(match Tariff::parse(&body) {
            Ok(tariff) => json!({
                "file": file,
                "ok": true,
                "name": tariff.name,
                "from": tariff.from.to_string(),
                "digest": digest_of(&body).to_string(),
            }),
            Err(error) => json!({
                "file": file,
                "ok": false,
                "line": error.line,
                "key": error.key,
                "fault": error.fault.to_string(),
            }),
        });
    }
    let is_good = rows.iter().all(|row| row["ok"] == true);
    print(as_json, &json!({ "ok": is_good, "files": rows }), || rows.iter().map(check_line).collect());
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn check_line(row: &Value) -> String {
    let file = text(row, "file");
    if row["ok"] == true {
        let (name, from, digest) = (text(row, "name"), text(row, "from"), text(row, "digest"));
        return format!("{file}: good; {name} from {from}, digest {digest}\n");
    }
    format!("{file}, line {}, {}: {}\n", row["line"], text(row, "key"), text(row, "fault"))
}

/// Units of the bills that `diff` compares, kWh.
const COMPARED_KWH: [i64; 9] = [0, 50, 100, 150, 200, 300, 500, 1000, 2000];

fn diff(before: &str, after: &str, load_kw: &str, month: Option<&str>, as_json: bool) -> Result<ExitCode> {
    let load_w = load_w(load_kw)?;
    // Once each: one of them may be standard input.
    let (old_body, new_body) = (body_of(before)?, body_of(after)?);
    let old = Tariff::parse(&old_body).with_context(|| before.to_owned())?;
    let new = Tariff::parse(&new_body).with_context(|| after.to_owned())?;
    let both = old.from.month().max(new.from.month());
    let month = month.map_or(Ok(both), parse_month)?;
    let (old_keys, new_keys) = (keys_of(&old_body)?, keys_of(&new_body)?);
    let names: BTreeSet<_> = old_keys.keys().chain(new_keys.keys()).collect();
    let changed: Vec<_> = names
        .into_iter()
        .filter(|name| old_keys.get(*name) != new_keys.get(*name))
        .map(|name| json!({ "key": name, "before": old_keys.get(name), "after": new_keys.get(name) }))
        .collect();
    let bill = |tariff: &Tariff, kwh: i64| {
        charge_to_date(tariff, month, month.days(), kwh * 1000, 0, load_w).total()
    };
    let bills: Vec<_> = COMPARED_KWH
        .into_iter()
        .map(|kwh| (kwh, bill(&old, kwh), bill(&new, kwh)))
        .map(|(kwh, old, new)| {
            json!({ "kwh": kwh, "before_paise": old.0, "after_paise": new.0, "change_paise": (new - old).0 })
        })
        .collect();
    let value = json!({ "month": month.to_string(), "load_w": load_w, "changed": changed, "bills": bills });
    print(as_json, &value, || {
        let mut out = String::new();
        for row in &changed {
            let word = |side: &str| row[side].as_str().unwrap_or("(none)").to_owned();
            let _ = writeln!(out, "{}: {} -> {}", text(row, "key"), word("before"), word("after"));
        }
        if changed.is_empty() {
            out.push_str("no key differs\n");
        }
        let _ = writeln!(out, "\nbill of {month} in rupees, load {load_kw} kW, demand at its floor\n");
        let _ = writeln!(out, "{:>6} {:>12} {:>12} {:>12}", "kWh", "before", "after", "change");
        for row in &bills {
            let paise = |key: &str| Paise(row[key].as_i64().unwrap_or_default()).to_string();
            let (old, new, change) = (paise("before_paise"), paise("after_paise"), paise("change_paise"));
            let _ = writeln!(out, "{:>6} {old:>12} {new:>12} {change:>12}", row["kwh"]);
        }
        out
    });
    Ok(ExitCode::SUCCESS)
}

/// The text of every value by its path, for example `slab[0].gross`.
fn keys_of(body: &str) -> Result<BTreeMap<String, String>> {
    fn walk(path: &str, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, keys);
                }
            }
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                for (index, value) in list.iter().enumerate() {
                    walk(&format!("{path}[{index}]"), value, keys);
                }
            }
            toml::Value::String(text) => drop(keys.insert(path.to_owned(), text.clone())),
            other => drop(keys.insert(path.to_owned(), other.to_string())),
        }
    }
    let table: toml::Table = body.parse()?;
    let mut keys = BTreeMap::new();
    walk("", &toml::Value::Table(table), &mut keys);
    Ok(keys)
}

/// A civil day of a household.
struct Day {
    date: CivilDay,
    wh: i64,
    demand_w: i64,
    terms: Terms,
}

/// What a household is charged under.
#[derive(Clone, PartialEq, Eq)]
struct Terms {
    tariff: String,
    load_w: u32,
}

/// What a civil day was charged.
struct Charged {
    date: CivilDay,
    wh: i64,
    charge: Charge,
}

fn simulate(args: &cli::Simulate, as_json: bool) -> Result<ExitCode> {
    let versions = args
        .files
        .iter()
        .map(|file| Tariff::parse(&body_of(file)?).with_context(|| file.clone()))
        .collect::<Result<Vec<_>>>()?;
    let terms = Terms { tariff: versions[0].name.clone(), load_w: load_w(&args.load_kw)? };
    let (days, has_tariffs) = match (&args.days, &args.month) {
        (Some(file), _) => days_of_csv(file, &terms)?,
        (None, Some(month)) => (even_days(parse_month(month)?, &args.units, &args.demand_kw, &terms)?, false),
        (None, None) => bail!("neither a month nor days are given"),
    };
    if let Some(other) = versions.iter().find(|version| version.name != terms.tariff && !has_tariffs) {
        bail!(
            "these are versions of two tariffs, {} and {}; days whose tariff changes say it in a column `tariff`",
            terms.tariff,
            other.name
        );
    }
    let connection = if args.postpaid { ConnectionType::Postpaid } else { ConnectionType::Prepaid };
    let charged = charge_days(&versions, connection, &days)?;
    let value = json!({
        "days": charged.iter().zip(&days).map(|(charged, day)| day_row(charged, &day.terms)).collect::<Vec<_>>(),
        "months": months_of(&charged)
            .iter()
            .map(|(month, (wh, charge))| row_of(&month.to_string(), *wh, charge))
            .collect::<Vec<_>>(),
    });
    print(as_json, &value, || table_of(&value));
    Ok(ExitCode::SUCCESS)
}

/// A month whose units are spread evenly.
fn even_days(month: CivilMonth, units: &str, demand_kw: &str, terms: &Terms) -> Result<Vec<Day>> {
    let (wh, demand_w) = (milli("--units", units)?, milli("--demand-kw", demand_kw)?);
    let of = i64::from(month.days());
    let upto = |day: i64| i128::from(wh) * i128::from(day) / i128::from(of);
    (0..of)
        .map(|day| {
            let date = month.first_day().plus(i32::try_from(day)?);
            let wh = i64::try_from(upto(day + 1) - upto(day))?;
            Ok(Day { date, wh, demand_w, terms: terms.clone() })
        })
        .collect()
}

/// Days by line, and whether each names its tariff. What has no column is as in `terms`.
fn days_of_csv(file: &Path, terms: &Terms) -> Result<(Vec<Day>, bool)> {
    let bytes = read_input(file)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let headers = reader.headers().with_context(|| file.display().to_string())?.clone();
    let columns: Vec<&str> = headers.iter().collect();
    let further = columns.strip_prefix(&["date", "kwh", "demand_kw"]);
    ensure!(
        matches!(further, Some([] | ["load_kw"] | ["tariff"] | ["load_kw", "tariff"])),
        "{}: the columns must be date, kwh, demand_kw, and where these change load_kw, tariff",
        file.display()
    );
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (load, tariff) = (column("load_kw"), column("tariff"));
    let mut days: Vec<Day> = Vec::new();
    for row in reader.records() {
        let row = row.with_context(|| file.display().to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        let place = |key: &str| format!("{}, line {line}, {key}", file.display());
        let date: CivilDay = row[0].parse().with_context(|| place("date"))?;
        if let Some(last) = days.last() {
            ensure!(date == last.date.next(), "{}: the day after {} is missing", place("date"), last.date);
        }
        let load_w = load
            .map(|at| u32::try_from(milli(&place("load_kw"), &row[at])?).with_context(|| place("load_kw")));
        days.push(Day {
            date,
            wh: milli(&place("kwh"), &row[1])?,
            demand_w: milli(&place("demand_kw"), &row[2])?,
            terms: Terms {
                tariff: tariff.map_or_else(|| terms.tariff.clone(), |at| row[at].to_owned()),
                load_w: load_w.unwrap_or(Ok(terms.load_w))?,
            },
        });
    }
    Ok((days, tariff.is_some()))
}

/// Days of a month under the same terms, as far as they are charged.
struct Stretch<'a> {
    terms: &'a Terms,
    demand_w: i64,
    days: (u8, u8),
    wh: (i64, i64),
}

/// Each day's charge is the difference of two figures to date, as the ledger books it.
fn charge_days(versions: &[Tariff], connection: ConnectionType, days: &[Day]) -> Result<Vec<Charged>> {
    let mut charged = Vec::with_capacity(days.len());
    let (mut stretches, mut before) = (Vec::<Stretch<'_>>::new(), Charge::default());
    for day in days {
        let month = day.date.month();
        if day.date == month.first_day() {
            (stretches, before) = (Vec::new(), Charge::default());
        }
        let (counted, wh) = stretches.last().map_or((0, 0), |last| (last.days.1, last.wh.1));
        if stretches.last().is_none_or(|last| *last.terms != day.terms) {
            let (days, wh) = ((counted, counted), (wh, wh));
            stretches.push(Stretch { terms: &day.terms, demand_w: 0, days, wh });
        }
        if let Some(last) = stretches.last_mut() {
            (last.days.1, last.wh.1) = (counted + 1, wh.saturating_add(day.wh));
            last.demand_w = day.demand_w.max(last.demand_w);
        }
        let mut bill = Bill::of(month);
        for &Stretch { terms, demand_w, days, wh } in &stretches {
            let tariff = in_force(versions, &terms.tariff, month)?;
            let (sanctioned_w, energy_wh) = (terms.load_w, wh);
            bill.add(&Part { tariff, connection, sanctioned_w, demand_w, days, energy_wh });
        }
        let charge = bill.charge();
        charged.push(Charged { date: day.date, wh: day.wh, charge: charge.since(&before) });
        before = charge;
    }
    Ok(charged)
}

/// The version of a tariff that a month is charged under.
fn in_force<'a>(versions: &'a [Tariff], name: &str, month: CivilMonth) -> Result<&'a Tariff> {
    let begun = versions.iter().filter(|version| version.name == name && version.from.month() <= month);
    begun
        .max_by_key(|version| version.from)
        .with_context(|| format!("no version of the tariff {name} is in force in {month}"))
}

fn months_of(days: &[Charged]) -> BTreeMap<CivilMonth, (i64, Charge)> {
    let mut months = BTreeMap::<_, (i64, Charge)>::new();
    for day in days {
        let (wh, charge) = months.entry(day.date.month()).or_default();
        *wh = wh.saturating_add(day.wh);
        for (sum, head) in charge.heads.iter_mut().zip(day.charge.heads) {
            *sum += head;
        }
    }
    months
}

fn row_of(period: &str, wh: i64, charge: &Charge) -> Value {
    let heads: serde_json::Map<_, _> = Head::CHARGED
        .into_iter()
        .zip(charge.heads)
        .map(|(head, amount)| (format!("{}_paise", head.name()), amount.0.into()))
        .collect();
    json!({ "period": period, "wh": wh, "heads": heads, "total_paise": charge.total().0 })
}

fn day_row(day: &Charged, terms: &Terms) -> Value {
    let mut row = row_of(&day.date.to_string(), day.wh, &day.charge);
    row["tariff"] = terms.tariff.as_str().into();
    row["load_w"] = terms.load_w.into();
    row
}

fn table_of(value: &Value) -> String {
    let mut out = format!("{:<10} {:>10}", "", "kWh");
    for head in Head::CHARGED {
        let _ = write!(out, " {:>10}", head.name());
    }
    let _ = writeln!(out, " {:>12}", "total");
    let rows = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    for row in rows("days").into_iter().chain([Value::Null]).chain(rows("months")) {
        if row.is_null() {
            out.push('\n');
            continue;
        }
        let wh = row["wh"].as_i64().unwrap_or_default();
        let _ = write!(out, "{:<10} {:>6}.{:03}", text(&row, "period"), wh / 1000, wh % 1000);
        for head in Head::CHARGED {
            let paise = row["heads"][format!("{}_paise", head.name())].as_i64().unwrap_or_default();
            let _ = write!(out, " {:>10}", Paise(paise).to_string());
        }
        let total = row["total_paise"].as_i64().unwrap_or_default();
        let _ = writeln!(out, " {:>12}", Paise(total).to_string());
    }
    out
}

/// Watts of `--load-kw`.
pub(super) fn load_w(load_kw: &str) -> Result<u32> {
    Ok(u32::try_from(milli("--load-kw", load_kw)?)?)
}

/// A number of kW or kWh with three places, in thousandths; not below zero, at most 10 GWh.
fn milli(name: &str, value: &str) -> Result<i64> {
    const MOST: i64 = ledger::rating::MAX_ENERGY_WH;
    let number = scaled(value, 3).with_context(|| format!("{name}: {value:?}"))?;
    ensure!((0..=MOST).contains(&number), "{name}: must lie between 0 and {}", MOST / 1000);
    Ok(number)
}

fn parse_month(value: &str) -> Result<CivilMonth> {
    let first: Option<CivilDay> = format!("{value}-01").parse().ok();
    first.map(CivilDay::month).with_context(|| format!("{value:?} is not a month such as 2026-06"))
}
