//! Tariffs as files: checked, compared and simulated before they charge anybody, by the same rules that will.

use std::fmt::Write as _;
use std::path::Path;

use model::CivilDay;
use model::row::Head;
use serde_json::Value;

use crate::command::registered;
use crate::harness::{Served, evidence, full, peer, seeded, urja, urja_ok, written};

/// Every year that the rules are tried on, with two leap days.
const FIRST: &str = "2024-01-01";
const LAST: &str = "2032-12-31";

fn meter_days() -> usize {
    if full() { 1_000_000 } else { 40_000 }
}

/// Keys that no built-in tariff has, all at once or one by one.
const VARIANTS: [&str; 6] = [
    "demand_between = \"sanctioned\"\n",
    "slab_limits = \"days\"\n",
    "surcharge_on = \"gross\"\n",
    "whole_load = true\n",
    "green_per_kwh = \"0.17\"\nbase_with = [\"green\", \"minimum\"]\n",
    "demand_between = \"sanctioned\"\nslab_limits = \"days\"\nsurcharge_on = \"gross\"\nwhole_load = true\n\
     green_per_kwh = \"0.345678\"\nbase_with = [\"minimum\"]\n",
];

#[test]
fn days_of_nine_years_are_charged_as_by_the_separate_model_under_every_tariff() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, mut random) = seeded("tariff_days");
    let (mut days, mut differing, mut runs, mut changed) = (0, 0, 0, 0);
    while days < meter_days() {
        let (name, body) = ledger::builtin_tariffs()[runs % ledger::builtin_tariffs().len()];
        let (_, other) = ledger::builtin_tariffs()[random() as usize % ledger::builtin_tariffs().len()];
        let mut files = versions(dir.path(), "first", body, &mut random);
        files.extend(versions(dir.path(), "second", other, &mut random));
        let load_w = load_of(body, &mut random);
        let csv = dir.path().join("days.csv");
        // The terms of one household in three never change; the others' do, also inside of months.
        let changes =
            if random().is_multiple_of(3) { None } else { Some([load_w, load_of(other, &mut random)]) };
        if changes.is_none() {
            files.truncate(2);
        }
        let (count, parts) = write_days(&csv, load_w, changes, &mut random);
        changed += parts;
        let postpaid = random().is_multiple_of(4);
        let Some(expected) = by_model(&files, &csv, load_w, postpaid) else { return };
        let ours = by_urja(dir.path(), &files, &csv, load_w, postpaid);
        assert_eq!((ours.len(), expected.len()), (count, count));
        for (ours, expected) in ours.iter().zip(&expected) {
            if ours != expected {
                differing += 1;
                eprintln!("{name}, {load_w} W: {ours:?}, by the model {expected:?}");
            }
        }
        days += count;
        runs += 1;
    }
    assert_eq!(differing, 0, "of {days} days, seed {seed}");
    let promise = "days of nine years are charged as by the separate model under every tariff";
    evidence(
        promise,
        seed,
        u32::try_from(runs).unwrap(),
        &format!(
            "0 paise off in {days} meter-days of {runs} households, whose load or tariff changed {changed} times"
        ),
    );
}

/// The tariff from the first day on, and another version of it from some later month.
fn versions(dir: &Path, tariff: &str, body: &str, random: &mut impl FnMut() -> u64) -> Vec<String> {
    let year = 2025 + random() % 7;
    let later = format!("{year}-{:02}-01", 1 + random() % 12);
    let surcharge = format!("[surcharge]\n\"{year}-12\" = \"-3.217 %\"\n\"2024-02\" = \"4.5 %\"\n");
    let body = body.split("[surcharge]").next().unwrap();
    [FIRST, later.as_str()]
        .iter()
        .enumerate()
        .map(|(index, from)| {
            let variant = VARIANTS[usize::try_from(random()).unwrap_or(0) % VARIANTS.len()];
            let is_plain = random().is_multiple_of(3);
            let body = body.replacen("2025-04-01", from, 1) + "\n" + &surcharge;
            let keys = format!("{}demand_floor = ", if is_plain { "" } else { variant });
            let body = body.replacen("demand_floor = ", &keys, 1);
            let rate = format!("duty = \"{}.{} %\"", 1 + random() % 15, random() % 10);
            let body = if index == 0 { body } else { body.replacen("duty = \"5 %\"", &rate, 1) };
            let (_, rest) = body.split_once("\ntitle").unwrap();
            let body = format!("name = \"{tariff}\"\ntitle{rest}");
            let file = dir.join(format!("{tariff}-{index}.toml"));
            std::fs::write(&file, body).unwrap();
            file.display().to_string()
        })
        .collect()
}

/// A sanctioned load that the tariff takes, W.
fn load_of(body: &str, random: &mut impl FnMut() -> u64) -> u32 {
    let tariff = ledger::Tariff::parse(body).unwrap();
    let (least, most) = (tariff.min_load_w.unwrap_or(100), tariff.max_load_w.unwrap_or(9_999));
    least + u32::try_from(random() % u64::from(most - least + 1)).unwrap()
}

/// Days that rest, crawl, and run through slabs; demand around its floor and the sanctioned load. A household begins on
/// any day of the first year; its load and tariff change every two months or so, the tariff between `first` and `second`,
/// if there are loads for both. Gives the number of days, and how often they changed.
fn write_days(
    file: &Path,
    load_w: u32,
    loads: Option<[u32; 2]>,
    random: &mut impl FnMut() -> u64,
) -> (usize, usize) {
    let first: CivilDay = FIRST.parse().unwrap();
    let last: CivilDay = LAST.parse().unwrap();
    let first = first.plus(i32::try_from(random() % 366).unwrap());
    let mut text = "date,kwh,demand_kw".to_owned() + if loads.is_some() { ",load_kw,tariff\n" } else { "\n" };
    let (mut day, mut count, mut changed) = (first, 0, 0);
    let (mut load_w, mut tariff) = (load_w, 0);
    let mut most_wh = 8_000;
    while day <= last {
        if random().is_multiple_of(30) {
            most_wh = [1, 900, 8_000, 20_000, 90_000][usize::try_from(random() % 5).unwrap()];
        }
        if let Some(loads) = loads.filter(|_| random().is_multiple_of(60)) {
            // Now the load alone, now the tariff with it.
            let before = (tariff, load_w);
            tariff = if random().is_multiple_of(2) { 1 - tariff } else { tariff };
            let share = [100, 100, 50, 125][usize::try_from(random() % 4).unwrap()];
            load_w = loads[tariff] * share / 100;
            changed += usize::from((tariff, load_w) != before);
        }
        let wh = if random().is_multiple_of(12) { 0 } else { random() % most_wh };
        let share = [20, 74, 75, 76, 99, 100, 101, 130][usize::try_from(random() % 8).unwrap()];
        let demand_w = if random().is_multiple_of(4) { u64::from(load_w) * share / 100 } else { 0 };
        write!(text, "{day},{}.{:03},{}.{:03}", wh / 1000, wh % 1000, demand_w / 1000, demand_w % 1000)
            .unwrap();
        if loads.is_some() {
            let name = ["first", "second"][tariff];
            write!(text, ",{}.{:03},{name}", load_w / 1000, load_w % 1000).unwrap();
        }
        text.push('\n');
        (day, count) = (day.next(), count + 1);
    }
    std::fs::write(file, text).unwrap();
    (count, changed)
}

/// A row a day: date, then paise by head.
type Rows = Vec<(String, Vec<i64>)>;

fn by_urja(dir: &Path, files: &[String], csv: &Path, load_w: u32, postpaid: bool) -> Rows {
    let load_kw = format!("{}.{:03}", load_w / 1000, load_w % 1000);
    let csv = csv.display().to_string();
    let mut args = vec!["tariff", "simulate", "--load-kw", &load_kw, "--days", &csv];
    args.extend(postpaid.then_some("--postpaid"));
    args.extend(files.iter().map(String::as_str));
    let answer = urja_ok(dir, &args);
    let row = |row: &Value| {
        let paise = |head: Head| row["heads"][format!("{}_paise", head.name())].as_i64().unwrap();
        (row["period"].as_str().unwrap().to_owned(), Head::CHARGED.map(paise).to_vec())
    };
    answer["days"].as_array().unwrap().iter().map(row).collect()
}

fn by_model(files: &[String], csv: &Path, load_w: u32, postpaid: bool) -> Option<Rows> {
    let (csv, load_w) = (csv.display().to_string(), load_w.to_string());
    let mut args = vec!["--days", &csv, "--load-w", &load_w];
    args.extend(postpaid.then_some("--postpaid"));
    args.extend(files.iter().map(String::as_str));
    let out = peer("model/simulate.py", &[], &args)?;
    let rows: Vec<Vec<Value>> = serde_json::from_slice(&out.stdout).unwrap();
    let row = |row: Vec<Value>| {
        let paise = row[1..].iter().map(|head| head.as_i64().unwrap()).collect();
        (row[0].as_str().unwrap().to_owned(), paise)
    };
    Some(rows.into_iter().map(row).collect())
}

#[test]
fn terms_changed_by_command_inside_of_a_month_are_charged_from_their_day_on_as_by_the_separate_model() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    let account = "PUVVNL1000000001";
    let change = |args: &[&'static str]| [&["account", "change", account], args].concat();
    let changed = urja_ok(&data, &change(&["--from", "2026-04-11", "--load-kw", "2"]));
    assert_eq!((&changed["category"], &changed["sanctioned_w"]), (&"lmv1-urban".into(), &2000.into()));
    assert_eq!(changed["later"], serde_json::json!([]));
    let later = urja_ok(&data, &change(&["--from", "2026-04-11", "--load-kw", "2"]));
    assert_eq!(later, changed, "the same again is the same");
    let changed = urja_ok(&data, &change(&["--from", "2026-04-21", "--category", "lmv1-rural"]));
    assert_eq!((&changed["category"], &changed["sanctioned_w"]), (&"lmv1-rural".into(), &2000.into()));

    let refused = |args: &[&str], why: &str| {
        let out = urja(&data, args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(why), "{args:?}: {text}");
    };
    refused(&change(&["--from", "2026-04-31", "--load-kw", "3"]), "not a day");
    refused(&change(&["--from", "2026-03-01", "--load-kw", "3"]), "may start on 2026-04-01 at the earliest");
    refused(&change(&["--from", "2026-06-01", "--category", "lmv9"]), "no tariff is named \"lmv9\"");
    refused(&change(&["--from", "2026-06-01", "--category", "lmv1-lifeline"]), "up to 1000 W");
    refused(&change(&["--from", "2026-06-01"]), "--load-kw");
    refused(&change(&["--from", "2026-06-01", "--load-kw", "0"]), "must lie above 0");
    let nobody = ["account", "change", "PUVVNL9999999999", "--from", "2026-06-01", "--load-kw", "3"];
    refused(&nobody, "PUVVNL9999999999 is not registered");

    urja_ok(&data, &["clock", "2026-04-15T10:00:00+05:30"]);
    refused(&change(&["--from", "2026-04-15", "--load-kw", "3"]), "on 2026-04-16 at the earliest");
    urja_ok(&data, &["clock", "2026-05-01T10:00:00+05:30"]);
    let files: Vec<String> = ["lmv1-urban", "lmv1-rural"].map(|name| builtin_file(dir.path(), name)).into();
    let mut days = String::from("date,kwh,demand_kw,load_kw,tariff\n");
    for day in 1..=30 {
        let (load_kw, tariff) = (if day < 11 { 4 } else { 2 }, if day < 21 { "urban" } else { "rural" });
        writeln!(days, "2026-04-{day:02},0,0,{load_kw},lmv1-{tariff}").unwrap();
    }
    let csv = dir.path().join("days.csv");
    std::fs::write(&csv, days).unwrap();
    let Some(expected) = by_model(&files, &csv, 4000, false) else { return };
    let charged = urja_ok(
        &data,
        &[
            "sql",
            "SELECT CAST(usage_date AS TEXT) AS day, head, sum(amount_paise) AS paise FROM ledger_posting \
                  WHERE kind = 'usage' AND account_id = 1 GROUP BY 1, 2",
        ],
    );
    let rows = charged.as_array().unwrap();
    assert_eq!(expected.len(), 30);
    for (day, heads) in expected {
        let of_head = |head: Head| {
            let row = rows.iter().find(|row| row["day"] == day.as_str() && row["head"] == head.name());
            row.map_or(0, |row| row["paise"].as_i64().unwrap())
        };
        assert_eq!(Head::CHARGED.map(of_head).to_vec(), heads, "{day}");
    }
    assert_eq!(served.terminate(), 0);
}

fn builtin_file(dir: &Path, name: &str) -> String {
    let (_, body) = ledger::builtin_tariffs().iter().find(|(known, _)| *known == name).unwrap();
    written(dir, &format!("{name}.toml"), body)
}

#[test]
fn a_check_tells_good_files_from_bad_ones_and_names_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let body = ledger::builtin_tariffs()[0].1;
    let good = written(dir.path(), "good.toml", body);
    let bad = written(dir.path(), "bad.toml", &body.replacen("duty = \"5 %\"", "duty = \"105 %\"", 1));
    let out = urja(dir.path(), &["tariff", "check", "lmv1-rural", &good]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{text}");
    assert!(text.contains("good.toml: good; lmv1-urban from 2025-04-01, digest "), "{text}");

    let out = urja(dir.path(), &["--json", "tariff", "check", &good, &bad]);
    assert_eq!(out.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(answer["files"][0]["ok"], true);
    assert_eq!((&answer["files"][1]["key"], &answer["ok"]), (&"duty".into(), &false.into()));
    let line = body.lines().position(|line| line.starts_with("duty")).unwrap() + 1;
    assert_eq!(answer["files"][1]["line"], line);
    assert!(answer["files"][1]["fault"].as_str().unwrap().contains("0 % and 100 %"));
}

#[test]
fn a_comparison_shows_changed_keys_and_what_they_do_to_bills() {
    let dir = tempfile::tempdir().unwrap();
    let body = ledger::builtin_tariffs()[0].1;
    let later = body.replacen("2025-04-01", "2027-04-01", 1).replacen("\"110\"", "\"120\"", 1);
    let later = written(dir.path(), "later.toml", &later.replacen("\"150\"", "\"100\"", 1));
    let answer = urja_ok(dir.path(), &["tariff", "diff", "--load-kw", "4", "lmv1-urban", &later]);
    let changed: Vec<_> =
        answer["changed"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(changed, ["fixed_per_kw", "from", "slab[0].upto_kwh"]);
    assert_eq!(answer["month"], "2027-04");
    let bill = |kwh: i64| answer["bills"].as_array().unwrap().iter().find(|row| row["kwh"] == kwh).unwrap();
    // Ten rupees a kW more on the floor of 3 kW, and 103 % of it; fifty units dearer by 50 paise.
    assert_eq!(bill(100)["change_paise"], 3090);
    assert_eq!(bill(150)["change_paise"], 3090 + 2575);
    // Standard input can be read once only.
    let piped = std::process::Command::new(env!("CARGO_BIN_EXE_urja"))
        .args(["--json", "tariff", "diff", "--load-kw", "4", "lmv1-urban", "-"])
        .stdin(std::fs::File::open(&later).unwrap())
        .output()
        .unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).unwrap(), answer);
    let out = urja(dir.path(), &["tariff", "diff", "lmv1-urban", "lmv1-urban"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("no key differs"));
}

#[test]
fn a_simulated_month_is_the_bill_of_the_reference_and_bad_days_are_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let month = ["tariff", "simulate", "lmv1-urban", "--load-kw", "4", "--month", "2026-06"];
    let answer = urja_ok(dir.path(), &[&month[..], &["--units", "172", "--demand-kw", "2.21"]].concat());
    assert_eq!(answer["days"].as_array().unwrap().len(), 30);
    assert_eq!(answer["months"][0]["total_paise"], 132_561);
    assert_eq!(answer["months"][0]["heads"]["subsidy_paise"], -22_120);
    let sum: i64 =
        answer["days"].as_array().unwrap().iter().map(|day| day["total_paise"].as_i64().unwrap()).sum();
    assert_eq!(sum, 132_561);

    let refused = |days: &str, place: &str| {
        let file = written(dir.path(), "days.csv", days);
        let out = urja(dir.path(), &["tariff", "simulate", "lmv1-urban", "--days", &file]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(place), "{text}");
    };
    refused("date,kwh\n2026-06-01,1\n", "the columns must be date, kwh, demand_kw");
    refused("date,kwh,demand_kw,tariff,load_kw\n", "where these change load_kw, tariff");
    refused("date,kwh,demand_kw,load_kw\n2026-06-01,1,0,-2\n", "line 2, load_kw: must lie between");
    refused(
        "date,kwh,demand_kw,tariff\n2026-06-01,1,0,other\n",
        "no version of the tariff other is in force in 2026-06",
    );
    refused(
        "date,kwh,demand_kw\n2026-06-01,1,0\n2026-06-03,1,0\n",
        "line 3, date: the day after 2026-06-01 is missing",
    );
    refused("date,kwh,demand_kw\n2026-06-01,-1,0\n", "line 2, kwh: must lie between");
    refused("date,kwh,demand_kw\n2026-06-01,1,x\n", "line 2, demand_kw");
    refused("date,kwh,demand_kw\n2026-06-41,1,0\n", "line 2, date");
    refused(
        "date,kwh,demand_kw\n2020-06-01,1,0\n",
        "no version of the tariff lmv1-urban is in force in 2020-06",
    );
}
