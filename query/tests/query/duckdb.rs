//! Another engine over the same Parquet files gives the same figures. Needs DuckDB for Python; without it the test says
//! that it was skipped.

use std::process::Command;

use model::row::PostingKind;
use model::{Channel, Quality, ReadingKind};

use crate::world::{World, instant};

/// Our statement and DuckDB's; `{table}` stands for the files of a table.
const PAIRS: [(&str, &str); 5] = [
    (
        "SELECT meter_id, usage_date, count(*), sum(import_wh), max(voltage_dv), min(interval_end) \
         FROM interval_reading GROUP BY meter_id, usage_date ORDER BY 1, 2",
        "SELECT meter_id, usage_date, count(*), sum(import_wh), max(voltage_dv), \
         strftime(min(interval_end) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') \
         FROM {interval_reading} GROUP BY meter_id, usage_date ORDER BY 1, 2",
    ),
    (
        "SELECT source, count(*), sum(frame_bytes), max(counter), encode(min(digest), 'hex') FROM frame GROUP BY source",
        "SELECT source, count(*), sum(frame_bytes), max(counter), lower(hex(min(digest))) FROM {frame} GROUP BY source",
    ),
    (
        "SELECT head, count(*), sum(amount_paise) FROM ledger_posting GROUP BY head ORDER BY head",
        "SELECT head, count(*), sum(amount_paise) FROM {ledger_posting} GROUP BY head ORDER BY head",
    ),
    (
        "SELECT meter_id, usage_date, import_kwh FROM daily_usage WHERE source = 'register' ORDER BY 1, 2",
        "SELECT d.meter_id, d.usage_date, CAST((d.import_wh - b.import_wh) / 1000.0 AS DECIMAL(18, 3)) \
         FROM {daily_reading} d JOIN {daily_reading} b ON b.meter_id = d.meter_id AND b.usage_date = d.usage_date - 1 \
         ORDER BY 1, 2",
    ),
    (
        "SELECT meter_id, usage_date, interval_kwh, intervals_present, max_demand_w FROM daily_usage \
         WHERE intervals_present > 0 ORDER BY 1, 2",
        "SELECT meter_id, usage_date, CAST(sum(import_wh) / 1000.0 AS DECIMAL(18, 3)), count(*), max(import_wh) * 2 \
         FROM {interval_reading} GROUP BY ALL ORDER BY 1, 2",
    ),
];

const SCRIPT: &str = "
import csv, sys, duckdb
duckdb.sql(\"SET TimeZone='UTC'\")
rows = duckdb.sql(sys.argv[1]).fetchall()
csv.writer(sys.stdout, lineterminator='\\n').writerows(rows)
";

#[test]
fn duckdb_over_the_same_files_agrees() {
    let there = Command::new("python3").args(["-c", "import duckdb"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "DuckDB for Python is not there");
        println!("skipped: not there: DuckDB for Python");
        return;
    }
    let world = world();
    for (ours, theirs) in PAIRS {
        let sql = with_files(&world, theirs);
        let output = Command::new("python3").args(["-c", SCRIPT, &sql]).output().unwrap();
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(world.rows(ours), String::from_utf8(output.stdout).unwrap().trim_end(), "{ours}");
    }
}

fn with_files(world: &World, sql: &str) -> String {
    let mut sql = sql.to_owned();
    for table in lake::Table::ALL {
        let files = world.dir.path().join("lake").join(table.name()).join("**/*.parquet");
        let read = format!("read_parquet('{}', hive_partitioning = true)", files.display());
        sql = sql.replace(&format!("{{{}}}", table.name()), &read);
    }
    sql
}

/// Three meters over three days, two of them with registers; all in files, by several commits.
fn world() -> World {
    let mut world = World::new();
    world.account(1, 0, 0);
    let start = instant("2026-06-01T00:00");
    for meter in 1..=3_u32 {
        world.meter(meter, (meter == 1).then_some(1), 1800);
        for slot in 1..=144_i64 {
            let energy = slot * 37 % 400 + i64::from(meter);
            let values =
                [(Channel::ImportWh, energy), (Channel::VoltageDv, 2300 + slot % 50)].into_iter().collect();
            let end = start.plus_seconds(slot * 1800);
            world.reading(
                ReadingKind::Interval,
                meter,
                end,
                u32::try_from(slot).unwrap(),
                Quality::GOOD,
                values,
            );
        }
        for day in 0..=3 {
            let values = [(Channel::ImportWh, day * 10_000 + i64::from(meter) * 7)].into_iter().collect();
            if meter < 3 {
                world.reading(
                    ReadingKind::Daily,
                    meter,
                    start.plus_seconds(day * 86_400),
                    200,
                    Quality::GOOD,
                    values,
                );
            }
        }
        world.commit();
    }
    for day in 0..3 {
        let usage_date = world.calendar.day_of(start).plus(day);
        world.charge(1, usage_date, 1000 + i64::from(day), PostingKind::Usage);
    }
    world.commit();
    world
}
