//! I1: rows that survive a power cut in columns that can be queried, per second and core, against `COPY` of PostgreSQL.

use std::process::ExitCode;

use benches::postgres::Postgres;
use benches::world::{INTERVALS, Meter, end_of, first_day};
use benches::{Figure, Floor, Samples, Void, gated, process_cpu, setting};
use lake::{Lake, Options};
use model::row::ReadingRow;
use model::{Calendar, Channel, CivilDay, Instant, MeterId, Position, Quality, Row};

/// Meters whose day is written in a round.
const METERS: (&str, usize) = ("URJA_BENCH_METERS", 20_000);
const ROUNDS: (&str, usize) = ("URJA_BENCH_ROUNDS", 5);
/// Records of a journal group.
const GROUP: usize = 2_000;
/// Bytes of hot rows after which the pipeline commits.
const COMMIT_BYTES: usize = 128 << 20;
/// PostgreSQL counts from here.
const POSTGRES_EPOCH_S: i64 = 946_684_800;

fn main() -> ExitCode {
    gated(run)
}

fn run() -> Result<(), Void> {
    let parent = std::env::var("URJA_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let dir = tempfile::tempdir_in(&parent).map_err(void)?;
    let lake = Lake::open(&dir.path().join("lake"), Calendar::india(), Options::default()).map_err(void)?;
    let postgres = if Postgres::is_installed() {
        Some(Postgres::start(&parent).map_err(void)?)
    } else {
        println!("# PostgreSQL 15 is not installed: no yardstick for I1");
        None
    };
    if let Some(postgres) = &postgres {
        for (table, key) in [("plain", ""), ("keyed", ", primary key (meter_id, interval_end)")] {
            let statement = format!(
                "create table {table} (position int8, meter_id int8, interval_end timestamptz, usage_date date, \
                 deviation_min int2, clock_status int2, quality int4, import_wh int8, export_wh int8, \
                 import_vah int8, export_vah int8, voltage_dv int8, current_ma int8, \
                 neutral_current_ma int8{key})"
            );
            postgres.query(&statement).map_err(void)?;
        }
    }
    let meters = setting(METERS.0, METERS.1);
    let (mut ours, mut plain, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
    let mut position = 0;
    for round in 0..setting(ROUNDS.0, ROUNDS.1) {
        let day = first_day().plus(round as i32);
        let rows = rows(meters, day, &mut position);
        if let Some(postgres) = &postgres {
            plain.push(copy(postgres, "plain", &rows, day)?);
            keyed.push(copy(postgres, "keyed", &rows, day)?);
        }
        ours.push(commit(&lake, rows, day)?);
    }
    let ours = Samples::of(ours);
    for (id, peer) in [("I1", plain), ("I1k", keyed)] {
        tell(id, &ours, &Samples::of(peer));
    }
    Ok(())
}

fn tell(id: &'static str, ours: &Samples, peer: &Samples) {
    let a_second = |ns: f64| format!("{:.0} rows/s", 1e9 / ns);
    let ratio = peer.over(ours);
    let figure = Figure {
        id,
        ours: a_second(ours.median()),
        peer: a_second(peer.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::AtLeast(10.0),
    };
    println!("{figure}");
}

/// A day of all meters, in the order of a concentrator that sends meter by meter.
fn rows(meters: usize, day: CivilDay, position: &mut u64) -> Vec<ReadingRow> {
    let mut rows = Vec::with_capacity(meters * INTERVALS);
    for index in benches::world::shuffled(meters) {
        let meter = Meter::new(index as u32 + 1);
        *position += 1;
        for interval in 0..INTERVALS {
            let energy = i64::from(meter.energy_wh(day, interval));
            let values = [
                (Channel::ImportWh, energy),
                (Channel::ExportWh, 0),
                (Channel::ImportVah, energy + energy / 20),
                (Channel::ExportVah, 0),
                (Channel::VoltageDv, i64::from(meter.voltage_dv(day, interval))),
                (Channel::CurrentMa, energy * 5),
                (Channel::NeutralCurrentMa, energy * 5 + 10),
            ];
            rows.push(ReadingRow {
                position: Position(*position),
                meter: MeterId(meter.number),
                end: end_of(day, interval),
                usage_date: day,
                deviation_min: Some(330),
                clock_status: 0,
                quality: Quality::GOOD,
                values: values.into_iter().collect(),
            });
        }
    }
    rows
}

/// CPU time of a row from the fold's hands to synced files, ns.
fn commit(lake: &Lake, rows: Vec<ReadingRow>, day: CivilDay) -> Result<f64, Void> {
    let count = rows.len();
    let expected = sums(&rows);
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match groups.last_mut().filter(|group| group.len() < GROUP * INTERVALS) {
            Some(group) => group.push(Row::Interval(row)),
            None => groups.push(vec![Row::Interval(row)]),
        }
    }
    let began = process_cpu();
    for group in groups {
        let upto = group.last().map_or(Position(0), Row::position);
        lake.absorb(group, upto);
        if lake.hot_bytes() >= COMMIT_BYTES {
            lake.commit(upto).map_err(void)?;
        }
    }
    let upto = lake.snapshot().position;
    lake.commit(upto).map_err(void)?;
    let spent = (process_cpu() - began) / count as f64;
    let (found, sums) = benches::read::interval_sums(
        &lake.snapshot(),
        day,
        [Channel::ImportWh.name(), Channel::VoltageDv.name()],
    )
    .map_err(void)?;
    if (found, sums) == (count as u64, expected) {
        Ok(spent)
    } else {
        Err(Void(format!("{count} rows with {expected:?} were committed, {found} with {sums:?} are there")))
    }
}

fn sums(rows: &[ReadingRow]) -> [i64; 2] {
    let sum = |channel| rows.iter().filter_map(|row| row.values.get(channel)).sum();
    [sum(Channel::ImportWh), sum(Channel::VoltageDv)]
}

/// CPU time that the server takes for a row, ns: one `COPY` of all of them, binary, committed and synced.
fn copy(postgres: &Postgres, table: &str, rows: &[ReadingRow], day: CivilDay) -> Result<f64, Void> {
    let bytes = binary(rows);
    let began = postgres.cpu();
    postgres.copy(&format!("copy {table} from stdin (format binary)"), &bytes).map_err(void)?;
    let spent = (postgres.cpu() - began) / rows.len() as f64;
    let statement = format!(
        "select count(*) || ' ' || sum(import_wh) || ' ' || sum(voltage_dv) from {table} where usage_date = '{day}'"
    );
    let [energy, voltage] = sums(rows);
    let (expected, found) =
        (format!("{} {energy} {voltage}", rows.len()), postgres.query(&statement).map_err(void)?);
    if expected == found {
        Ok(spent)
    } else {
        Err(Void(format!("{expected} was copied to PostgreSQL, {found} is there")))
    }
}

/// The rows in the binary format of `COPY`.
fn binary(rows: &[ReadingRow]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        out.extend(14_i16.to_be_bytes());
        long(&mut out, row.position.0.cast_signed());
        long(&mut out, i64::from(row.meter.0));
        long(&mut out, micros_since_postgres(row.end));
        let days = POSTGRES_EPOCH_S / 86_400;
        field(&mut out, &(row.usage_date.0 - days as i32).to_be_bytes());
        field(&mut out, &row.deviation_min.unwrap_or_default().to_be_bytes());
        field(&mut out, &i16::from(row.clock_status).to_be_bytes());
        field(&mut out, &row.quality.0.to_be_bytes());
        row.values.as_slice().iter().for_each(|value| long(&mut out, *value));
    }
    out.extend((-1_i16).to_be_bytes());
    out
}

fn long(out: &mut Vec<u8>, value: i64) {
    field(out, &value.to_be_bytes());
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn micros_since_postgres(instant: Instant) -> i64 {
    instant.0 - POSTGRES_EPOCH_S * 1_000_000
}

fn void(error: impl std::fmt::Display) -> Void {
    Void(error.to_string())
}
