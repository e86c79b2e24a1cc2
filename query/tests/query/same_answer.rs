//! The same rows from the hot buffer, from files and from both, wherever the line between them lies.

use model::reading::RankClass;
use model::row::PostingKind;
use model::{Channel, Instant, Quality, ReadingKind, Values};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{World, instant};

/// Each case asks three worlds everything; `PROPTEST_CASES` asks for more of them.
const CASES: u32 = 3;

fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    Config { cases, source_file: Some(file!()), ..Config::default() }
}

/// Statements over every kind of table and view, each with an order that leaves nothing open.
const STATEMENTS: [&str; 20] = [
    "SELECT * FROM frame ORDER BY position",
    "SELECT * FROM interval_reading ORDER BY position",
    "SELECT * FROM interval_revision ORDER BY position",
    "SELECT * FROM daily_reading ORDER BY position",
    "SELECT * FROM ledger_posting ORDER BY position, line",
    "SELECT * FROM interval ORDER BY meter_id, interval_end",
    "SELECT * FROM daily_register ORDER BY meter_id, read_at",
    "SELECT * FROM daily_usage ORDER BY meter_id, usage_date",
    "SELECT * FROM monthly_usage ORDER BY meter_id, month",
    "SELECT * FROM trial_balance ORDER BY head",
    "SELECT * FROM journal_voucher ORDER BY booked_on, kind, head",
    "SELECT * FROM monthly_bill ORDER BY account_id, month, kind, of_month, head",
    "SELECT * FROM revenue ORDER BY month, division",
    "SELECT * FROM statement ORDER BY account_id, position",
    "SELECT * FROM receipt ORDER BY position, reading, read_at",
    "SELECT meter_id, count(*), sum(import_wh), max(voltage_dv) FROM interval \
     WHERE usage_date = DATE '2026-06-02' AND meter_id IN (1, 3) GROUP BY meter_id ORDER BY 1",
    "SELECT meter_id, import_wh FROM interval WHERE usage_date = (SELECT max(usage_date) FROM interval) ORDER BY 1, 2",
    "SELECT meter_id, usage_date FROM daily_reading \
     WHERE usage_date IN (SELECT usage_date FROM interval_reading WHERE import_wh > 900) ORDER BY position",
    "SELECT meter_id, interval_end FROM interval_reading WHERE usage_date <> DATE '2026-06-01' OR import_wh IS NULL \
     ORDER BY interval_end DESC, meter_id LIMIT 3",
    "SELECT count(*), min(position), max(interval_end) FROM interval_reading WHERE position > 5 AND import_wh < 500",
];

/// A record: what the fold would make of it.
#[derive(Clone, Debug)]
enum Step {
    Reading { daily: bool, meter: u32, slot: i64, counter: u32, values: Vec<(usize, i64)> },
    Revision { of: prop::sample::Index, class: u8, counter: u32, values: Vec<(usize, i64)> },
    Charge { account: u32, day: i32, paise: i64 },
}

const CHANNELS: [Channel; 3] = [Channel::ImportWh, Channel::ExportWh, Channel::VoltageDv];

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let values = || prop::collection::vec((0..CHANNELS.len(), 0..1000_i64), 1..3);
    let reading = (any::<bool>(), 1..4_u32, 0..100_i64, 0..4_u32, values()).prop_map(
        |(daily, meter, slot, counter, values)| Step::Reading { daily, meter, slot, counter, values },
    );
    let revision = (any::<prop::sample::Index>(), 1..5_u8, 0..4_u32, values())
        .prop_map(|(of, class, counter, values)| Step::Revision { of, class, counter, values });
    let charge = (1..3_u32, 0..4_i32, -500..5000_i64).prop_map(|(account, day, paise)| Step::Charge {
        account,
        day,
        paise,
    });
    let step = prop_oneof![6 => reading, 3 => revision, 1 => charge];
    prop::collection::vec((step, prop::bool::weighted(0.05)), 1..60)
}

fn values(pairs: &[(usize, i64)]) -> Values {
    pairs.iter().map(|(channel, value)| (CHANNELS[*channel], *value)).collect()
}

/// A world of the steps, with rows going into files where `commits` says so.
fn world(steps: &[(Step, bool)], commits: impl Fn(usize, bool) -> bool) -> World {
    let mut world = World::new();
    (1..4).for_each(|meter| world.meter(meter, (meter < 3).then_some(meter), 1800));
    (1..3).for_each(|account| world.account(account, 0, 0));
    let start = instant("2026-06-01T00:00");
    let mut keys: Vec<(ReadingKind, u32, Instant)> = Vec::new();
    for (index, (step, mark)) in steps.iter().enumerate() {
        match step {
            Step::Reading { daily, meter, slot, counter, values: pairs } => {
                let (kind, end) = match daily {
                    true => (ReadingKind::Daily, start.plus_seconds(slot % 4 * 86_400)),
                    false => (ReadingKind::Interval, start.plus_seconds((slot + 1) * 1800)),
                };
                if !keys.contains(&(kind, *meter, end)) {
                    keys.push((kind, *meter, end));
                    world.reading(kind, *meter, end, *counter, Quality::GOOD, values(pairs));
                }
            }
            Step::Revision { of, class, counter, values: pairs } if !keys.is_empty() => {
                let (kind, meter, end) = *of.get(&keys);
                let class = RankClass::from_number(*class).unwrap();
                world.revision(kind, meter, end, class, *counter, values(pairs));
            }
            Step::Revision { .. } => {}
            Step::Charge { account, day, paise } => {
                let day = world.calendar.day_of(start).plus(*day);
                world.charge(*account, day, *paise, PostingKind::Usage);
            }
        }
        if commits(index, *mark) {
            world.commit();
        }
    }
    world
}

#[test]
fn answers_do_not_depend_on_where_the_rows_lie() {
    let mut runner = TestRunner::new(config());
    runner
        .run(&steps(), |steps| {
            let last = steps.len() - 1;
            let hot = world(&steps, |_, _| false);
            let files = world(&steps, |index, _| index == last);
            let both = world(&steps, |_, mark| mark);
            for sql in STATEMENTS {
                let expected = hot.rows(sql);
                prop_assert_eq!(&files.rows(sql), &expected, "all rows in files: {}", sql);
                prop_assert_eq!(&both.rows(sql), &expected, "rows in both places: {}", sql);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_value_in_force_is_that_of_a_model_in_a_few_lines() {
    let mut runner = TestRunner::new(config());
    runner
        .run(&steps(), |steps| {
            let world = world(&steps, |_, mark| mark);
            prop_assert_eq!(world.rows(IN_FORCE), model(&steps));
            Ok(())
        })
        .unwrap();
}

const IN_FORCE: &str = "SELECT meter_id, interval_end, import_wh, export_wh, voltage_dv, revisions FROM interval \
                        ORDER BY meter_id, interval_end";

/// What `IN_FORCE` must give: per key and channel the value of the highest (class, counter, order of the frames, as
/// the digests of these worlds rise).
fn model(steps: &[(Step, bool)]) -> String {
    type Candidate = (u8, u32, usize, Values);
    let start = instant("2026-06-01T00:00");
    let mut keys: Vec<((bool, u32, Instant), Vec<Candidate>)> = Vec::new();
    for (order, (step, _)) in steps.iter().enumerate() {
        match step {
            Step::Reading { daily, meter, slot, counter, values: pairs } => {
                let end = if *daily { slot % 4 * 86_400 } else { (slot + 1) * 1800 };
                let key = (*daily, *meter, start.plus_seconds(end));
                if !keys.iter().any(|(known, _)| *known == key) {
                    keys.push((key, vec![(2, *counter, order, values(pairs))]));
                }
            }
            Step::Revision { of, class, counter, values: pairs } if !keys.is_empty() => {
                let at = of.index(keys.len());
                keys[at].1.push((*class, *counter, order, values(pairs)));
            }
            _ => {}
        }
    }
    keys.sort_by_key(|(key, _)| *key);
    let rows = keys.iter_mut().filter(|((daily, _, _), _)| !daily).map(|((_, meter, end), candidates)| {
        candidates.sort_by_key(|(class, counter, order, _)| std::cmp::Reverse((*class, *counter, *order)));
        let in_force = |channel| candidates.iter().find_map(|(.., values)| values.get(channel));
        let cells =
            CHANNELS.map(|channel| in_force(channel).map(|value| value.to_string()).unwrap_or_default());
        format!("{meter},{end},{},{}", cells.join(","), candidates.len() - 1)
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_statement_sees_each_row_once_while_rows_move_into_files() {
    let mut world = World::new();
    world.meter(1, None, 1800);
    let start = instant("2026-06-01T00:00");
    let mut count = 0_usize;
    for slot in 1..=40 {
        let energy = [(Channel::ImportWh, 1)].into_iter().collect();
        world.reading(ReadingKind::Interval, 1, start.plus_seconds(slot * 1800), 1, Quality::GOOD, energy);
        if slot % 10 == 0 {
            let engine = std::sync::Arc::clone(&world.engine);
            let asked = world
                .runtime
                .spawn(async move { engine.query("SELECT sum(import_wh) FROM interval_reading").await });
            world.commit();
            let answer = world.runtime.block_on(asked).unwrap().unwrap();
            let total = query::format::text(&answer, query::format::Format::JsonLines).unwrap();
            assert!(total.contains(&format!(":{slot}}}")), "{total} at {slot}");
            count += 1;
        }
    }
    assert_eq!(count, 4);
}

#[test]
fn files_are_read_from_a_folder_with_odd_letters() {
    for folder in ["with a space", "half=?#&+", "दिन"] {
        let mut world = World::in_folder(folder, query::Options::default());
        let energy = [(Channel::ImportWh, 7)].into_iter().collect();
        world.reading(ReadingKind::Interval, 1, instant("2026-06-01T00:30"), 1, Quality::GOOD, energy);
        world.commit();
        assert_eq!(
            world.rows("SELECT import_wh, usage_date FROM interval_reading"),
            "7,2026-06-01",
            "{folder}"
        );
    }
}
