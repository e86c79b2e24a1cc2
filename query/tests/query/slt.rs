//! Files of `tests/slt`: a small world, statements and the rows they give.
//!
//! | line | makes |
//! |---|---|
//! | `meter 1 account 1 period 1800` | a meter (`account -`: of no account) |
//! | `account 1 booked 5000 accrued 100` | an account, in paise |
//! | `interval 1 2026-06-01T00:30 import_wh=500 counter=3 quality=4` | a frame with the first value of an interval |
//! | `daily 1 2026-06-01T00:00 import_wh=10000` | the same of the registers |
//! | `revise interval 1 2026-06-01T00:30 push counter=9 import_wh=510` | a later value |
//! | `intervals 1 2026-06-01 48 x 250` | so many intervals of that energy from the start of the day |
//! | `charge 1 2026-06-01 1234 usage` | a posted charge, in paise |
//!
//! A statement follows `query`, its rows as CSV follow `----`, both up to an empty line. Each file runs with all rows
//! hot, with all rows in files and with some in both places, and must give the same.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use model::reading::RankClass;
use model::row::PostingKind;
use model::{Channel, Quality, ReadingKind, Values};

use crate::world::{Placement, World, instant};

#[test]
fn files_of_statements_give_their_rows_wherever_the_rows_lie() {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slt"));
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            Placement::ALL
                .into_iter()
                .flat_map(|placement| run(&text, placement))
                .map(|fault| format!("{}: {fault}", file.file_name().unwrap().to_string_lossy()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// Runs a file; what differs.
fn run(text: &str, placement: Placement) -> Vec<String> {
    let mut world = World::new();
    let mut lines = text.lines().enumerate();
    let mut faults = Vec::new();
    let mut records = 0;
    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            ["query"] => {
                if placement == Placement::Files {
                    world.commit();
                }
                let block = |lines: &mut dyn Iterator<Item = (usize, &str)>, end: &str| -> Vec<String> {
                    lines.map(|(_, line)| line.to_owned()).take_while(|line| line != end).collect()
                };
                let sql = block(&mut lines, "----").join("\n");
                let expected = block(&mut lines, "").join("\n");
                let given = world.rows(&sql);
                if given != expected {
                    faults.push(format!(
                        "line {}, {placement:?}\n{sql}\nexpected:\n{expected}\ngiven:\n{given}",
                        number + 1
                    ));
                }
            }
            _ => {
                make(&mut world, &words);
                records += 1;
                if placement == Placement::Both && records % 3 == 0 {
                    world.commit();
                }
            }
        }
    }
    faults
}

fn make(world: &mut World, words: &[&str]) {
    let number = |word: &str| word.parse::<u32>().unwrap_or_else(|_| panic!("no number {word} in {words:?}"));
    match *words {
        ["meter", meter, "account", account, "period", period] => {
            world.meter(number(meter), account.parse().ok(), number(period));
        }
        ["account", account, "booked", booked, "accrued", accrued] => {
            world.account(number(account), booked.parse().unwrap(), accrued.parse().unwrap());
        }
        [kind @ ("interval" | "daily" | "instant"), meter, end, ref rest @ ..] => {
            let keys = keys(rest);
            let counter = keys.get("counter").map_or(1, |counter| u32::try_from(*counter).unwrap());
            let quality = Quality(keys.get("quality").map_or(0, |bits| u32::try_from(*bits).unwrap()));
            world.reading(kind_of(kind), number(meter), instant(end), counter, quality, values(&keys));
        }
        ["revise", kind, meter, end, class, ref rest @ ..] => {
            let keys = keys(rest);
            let counter = u32::try_from(keys["counter"]).unwrap();
            world.revision(
                kind_of(kind),
                number(meter),
                instant(end),
                class_of(class),
                counter,
                values(&keys),
            );
        }
        ["intervals", meter, day, count, "x", energy] => {
            let start = instant(&format!("{day}T00:00"));
            let period_s = {
                let state = world.pins.state.lock().unwrap();
                let meter = state.meters.iter().find(|entry| entry.view.meter.0 == number(meter)).unwrap();
                i64::from(meter.view.period_s)
            };
            for slot in 1..=i64::from(number(count)) {
                let energy = [(Channel::ImportWh, energy.parse().unwrap())].into_iter().collect();
                let end = start.plus_seconds(slot * period_s);
                world.reading(ReadingKind::Interval, number(meter), end, 1, Quality::GOOD, energy);
            }
        }
        ["charge", account, day, paise, kind] => {
            let kind = match kind {
                "usage" => PostingKind::Usage,
                "correction" => PostingKind::Correction,
                other => panic!("no charge of kind {other}"),
            };
            world.charge(number(account), day.parse().unwrap(), paise.parse().unwrap(), kind);
        }
        _ => panic!("not understood: {words:?}"),
    }
}

fn kind_of(word: &str) -> ReadingKind {
    match word {
        "interval" => ReadingKind::Interval,
        "daily" => ReadingKind::Daily,
        "instant" => ReadingKind::Instant,
        other => panic!("no kind {other}"),
    }
}

fn class_of(word: &str) -> RankClass {
    match word {
        "estimate" => RankClass::Estimate,
        "push" => RankClass::Push,
        "on_demand" => RankClass::OnDemand,
        "edit" => RankClass::Edit,
        other => panic!("no rank {other}"),
    }
}

fn keys<'a>(words: &[&'a str]) -> HashMap<&'a str, i64> {
    let pair = |word: &&'a str| {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("no key=value: {word}"));
        (key, value.parse().unwrap())
    };
    words.iter().map(pair).collect()
}

fn values(keys: &HashMap<&str, i64>) -> Values {
    keys.iter().filter_map(|(key, value)| Some((Channel::from_name(key)?, *value))).collect()
}
