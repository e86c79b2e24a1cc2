//! How the files look to a reader that wants little of them.

use std::fs::{self, File};
use std::path::Path;

use model::row::ReadingRow;
use model::{Calendar, Channel, Instant, MeterId, Position, Quality, ReadingKind, Row};
use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::sample::Market;
use super::{folder, open, small};
use crate::scan::{Wanted, scan};
use crate::{Lake, Options, Table};

#[test]
fn integers_are_packed_without_a_dictionary_and_every_file_says_how_it_is_sorted() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(51).groups(200);
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    lake.commit(groups.last().unwrap().upto).unwrap();
    for view in lake.snapshot().tables {
        for file in view.files.iter() {
            let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
            assert_eq!(reader.metadata().file_metadata().num_rows().unsigned_abs(), file.rows);
            for row_group in reader.metadata().row_groups() {
                let sorting = row_group.sorting_columns().unwrap();
                let names = sorting.iter().map(|column| {
                    row_group.column(usize::try_from(column.column_idx).unwrap()).column_path().string()
                });
                assert_eq!(names.collect::<Vec<_>>(), view.table.sorted_by());
                for column in row_group.columns() {
                    let name = column.column_path().string();
                    let is_digest = matches!(name.as_str(), "digest" | "frame_digest");
                    let is_pressed = matches!(column.compression(), Compression::ZSTD(_));
                    assert_eq!(is_pressed, !is_digest, "{name}");
                    let integer = column.column_type() == parquet::basic::Type::INT64
                        || column.column_type() == parquet::basic::Type::INT32;
                    let encodings: Vec<_> = column.encodings().collect();
                    assert_eq!(
                        integer,
                        encodings.contains(&Encoding::DELTA_BINARY_PACKED),
                        "{name} {encodings:?}"
                    );
                    assert!(!integer || column.dictionary_page_offset().is_none(), "{name}");
                    let owner = Some(name.as_str()) == view.table.owner_column();
                    assert_eq!(owner, column.bloom_filter_offset().is_some(), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_commit_on_many_threads_writes_the_same_bytes_as_one_in_the_background() {
    let groups = Market::new(54).groups(200);
    let upto = groups.last().unwrap().upto;
    let bytes_of = |threads: usize, is_awaited: bool| {
        let dir = folder();
        let lake = Lake::open(dir.path(), Calendar::india(), Options { threads, ..small() }).unwrap();
        groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        let commit = if is_awaited { Lake::commit_at_once } else { Lake::commit };
        commit(&lake, upto).unwrap();
        let files = lake.snapshot().tables.into_iter().flat_map(|view| view.files.to_vec());
        let named =
            |path: &Path| (path.strip_prefix(dir.path()).unwrap().to_owned(), fs::read(path).unwrap());
        files.map(|file| named(&file.path)).collect::<Vec<_>>()
    };
    let background = bytes_of(4, false);
    assert!(background.len() > 8);
    for threads in [1, 2, 5] {
        assert!(bytes_of(threads, true) == background, "{threads} threads");
    }
}

#[test]
fn readings_lie_in_one_file_a_day_and_commit() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(52).groups(200);
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    lake.commit(groups.last().unwrap().upto).unwrap();
    let snapshot = lake.snapshot();
    for table in [Table::IntervalReading, Table::DailyReading, Table::IntervalRevision] {
        let files = &snapshot.table(table).files;
        let mut days: Vec<_> = files.iter().map(|file| file.usage_date.unwrap()).collect();
        assert!(days.len() > 1);
        days.sort_unstable();
        days.dedup();
        assert_eq!(days.len(), files.len(), "{table}");
        for file in files.iter() {
            let folder = file.path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let day = model::CivilDay(file.usage_date.unwrap());
            assert_eq!(folder, format!("usage_date={day}"));
        }
    }
}

/// One day of 400 meters, in several row groups and pages.
fn day_of_readings(lake: &Lake) -> Vec<ReadingRow> {
    let calendar = Calendar::india();
    let start = calendar.start_of("2026-06-01".parse().unwrap());
    let mut rows = Vec::new();
    for slot in 1..=48 {
        for meter in (1..=400).map(|number| MeterId(number * 2)) {
            rows.push(ReadingRow {
                position: Position(rows.len() as u64 + 1),
                meter,
                end: start.plus_seconds(slot * 1800),
                usage_date: "2026-06-01".parse().unwrap(),
                deviation_min: None,
                clock_status: 0,
                quality: Quality::GOOD,
                values: [(Channel::ImportWh, slot * i64::from(meter.0))].into_iter().collect(),
            });
        }
    }
    let upto = Position(rows.len() as u64);
    lake.absorb(rows.iter().cloned().map(Row::Interval).collect(), upto);
    lake.commit(upto).unwrap();
    rows
}

#[test]
fn a_meters_rows_are_found_whatever_pages_they_lie_in() {
    let dir = folder();
    let options = Options { row_group_rows: 4096, page_rows: 512, ..Options::default() };
    let lake = Lake::open(dir.path(), Calendar::india(), options).unwrap();
    let rows = day_of_readings(&lake);
    let file = lake.snapshot().table(Table::IntervalReading).files[0].clone();
    let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
    assert!(reader.metadata().num_row_groups() >= 4);
    for meter in [1, 2, 3, 170, 171, 172, 400, 798, 800, 801] {
        let times = rows[0].end.0..=rows[399 * 20].end.0;
        let wanted = Wanted { meter: Some(meter), times: Some(times.clone()), ..Wanted::default() };
        let found: Vec<ReadingRow> = scan(Table::IntervalReading, &file, &wanted)
            .unwrap()
            .iter()
            .flat_map(|batch| {
                crate::decode::readings(Table::IntervalReading, batch, Some(rows[0].usage_date)).unwrap()
            })
            .collect();
        let mut expected: Vec<ReadingRow> = rows
            .iter()
            .filter(|row| i64::from(row.meter.0) == meter && times.contains(&row.end.0))
            .cloned()
            .collect();
        expected.sort_by_key(|row| row.end);
        assert_eq!(found, expected, "meter {meter}");
    }
    let nothing = lake.versions(MeterId(3), ReadingKind::Interval, Instant(rows[0].end.0)).unwrap();
    assert_eq!(nothing, []);
}
