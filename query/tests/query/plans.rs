//! Plans as text: what is read for a statement, so that lost pruning shows up in review.
//!
//! `URJA_BLESS=1 cargo test -p query plans` accepts a change.

use std::fs;

use arrow::array::AsArray;
use model::{Channel, Quality, ReadingKind};
use query::Options;

use crate::world::{World, instant};

const CASES: [(&str, &str); 9] = [
    (
        "interval_of_a_day",
        "SELECT meter_id, interval_end, import_wh FROM interval WHERE usage_date = DATE '2026-06-02'",
    ),
    (
        "interval_of_a_meter_and_day",
        "SELECT interval_end, import_kwh FROM interval WHERE meter_id = 2 AND usage_date = DATE '2026-06-02'",
    ),
    (
        "interval_of_an_account",
        "SELECT i.interval_end, i.import_wh FROM account AS a JOIN meter AS m ON m.account_id = a.account_id \
         JOIN interval AS i ON i.meter_id = m.meter_id WHERE a.account_number = 'PUVVNL0000000001'",
    ),
    (
        "daily_usage_of_an_account",
        "SELECT usage_date, import_kwh, charge_rupees FROM daily_usage \
         WHERE account_number = 'PUVVNL0000000001' AND usage_date = DATE '2026-06-02'",
    ),
    ("daily_usage_of_a_meter", "SELECT usage_date, import_kwh FROM daily_usage WHERE meter_id = 1"),
    (
        "monthly_usage_of_a_month",
        "SELECT meter_id, import_kwh FROM monthly_usage WHERE month = DATE '2026-06-01'",
    ),
    ("count_of_all", "SELECT count(*) FROM interval_reading"),
    ("frames_by_time", "SELECT count(*) FROM frame WHERE received_at >= TIMESTAMP '2027-01-01T00:00:00Z'"),
    (
        "day_by_any_condition",
        "SELECT sum(import_wh) FROM interval_reading WHERE date_part('day', usage_date) = 3",
    ),
];

#[test]
fn plans_are_those_that_were_reviewed() {
    let plain = world();
    let mut revised = world();
    revised.revision(
        ReadingKind::Interval,
        1,
        instant("2026-06-02T00:30"),
        model::reading::RankClass::Push,
        9,
        [(Channel::ImportWh, 7)].into_iter().collect(),
    );
    revised.commit();
    let mut differ = Vec::new();
    for (name, sql) in CASES {
        differ.extend(check(&plain, name, sql));
        if sql.contains("interval") && !sql.contains("interval_reading") {
            differ.extend(check(&revised, &format!("{name}_with_revisions"), sql));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}

/// Three days in files of two commits, a fourth hot.
fn world() -> World {
    let mut world = World::with(Options { parallelism: 2, ..Options::default() });
    world.meter(1, Some(1), 1800);
    world.meter(2, None, 1800);
    world.account(1, 0, 0);
    for day in 1..=4 {
        for meter in [1, 2] {
            let midnight = instant(&format!("2026-06-0{day}T00:00"));
            let energy = |wh| [(Channel::ImportWh, wh)].into_iter().collect();
            world.reading(ReadingKind::Daily, meter, midnight, 1, Quality::GOOD, energy(day * 1000));
            world.reading(
                ReadingKind::Interval,
                meter,
                midnight.plus_seconds(1800),
                2,
                Quality::GOOD,
                energy(100),
            );
            if day < 4 {
                world.commit();
            }
        }
    }
    world
}

fn check(world: &World, name: &str, sql: &str) -> Option<String> {
    let path = format!("{}/tests/plans/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let plan = plan(world, sql);
    let given = format!("{sql}\n\n{plan}");
    if std::env::var_os("URJA_BLESS").is_some() {
        fs::write(&path, &given).unwrap();
    }
    let reviewed = fs::read_to_string(&path).unwrap_or_default();
    (reviewed != given).then(|| format!("{name}: reviewed\n{reviewed}\nnow\n{given}"))
}

/// The physical plan: what is read, filtered and joined in full, the rest by name; files by their partition alone.
fn plan(world: &World, sql: &str) -> String {
    let answer = world.ask(&format!("EXPLAIN {sql}")).unwrap();
    let plans = answer.batches[0].column_by_name("plan").unwrap().as_string::<i32>();
    let physical = plans.iter().flatten().last().unwrap_or_default().to_owned();
    let dir = world.dir.path().canonicalize().unwrap().join("lake");
    let dir = dir.to_string_lossy().trim_start_matches('/').to_owned() + "/";
    physical.lines().map(|line| short(line, &dir) + "\n").collect()
}

fn short(line: &str, dir: &str) -> String {
    let told = ["DataSourceExec", "FilterExec", "HashJoinExec", "CrossJoinExec", "NestedLoopJoinExec"];
    if !told.iter().any(|name| line.trim_start().starts_with(name)) {
        return line.split(':').next().unwrap_or_default().to_owned();
    }
    let mut parts = line.split(dir);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (file, rest) = part.split_at(part.find(".parquet").unwrap_or(0) + ".parquet".len());
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        text.push_str(&format!("{folder}/*.parquet"));
        text.push_str(rest);
    }
    text
}
