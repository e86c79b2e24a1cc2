//! Files that are not as they were written.

use std::fs;
use std::path::{Path, PathBuf};

use super::sample::Market;
use super::{contents, copy, expected, folder, open, small};
use crate::verify::{Scope, State};
use crate::{Error, Fault, Lake, Table, VerifyReport};
use model::Calendar;

/// A lake with a few commits and checkpoints of its logs.
fn written(dir: &Path) -> Lake {
    let lake = open(dir);
    for groups in Market::new(21).groups(50).chunks(10) {
        groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        lake.commit(groups.last().unwrap().upto).unwrap();
    }
    lake
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(all_files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_byte_of_any_file_is_reported_with_its_file() {
    let dir = folder();
    let lake = written(dir.path());
    let sound = lake.verify();
    assert!(sound.is_sound(), "{:?}", sound.differences);
    let root = dir.path().canonicalize().unwrap();
    let files = all_files(&root);
    let ending = |ending: &str| files.iter().filter(|path| path.to_string_lossy().ends_with(ending)).count();
    assert!(ending(".parquet") > 20 && ending(".json") > 50 && ending("_last_checkpoint") == 9);
    assert_eq!(sound.files, files.len() as u64, "every file is read");
    for (number, path) in files.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let mut flipped = bytes.clone();
        let at = (number * 7919) % bytes.len();
        flipped[at] ^= 0x10;
        fs::write(path, &flipped).unwrap();
        let found = lake.verify().differences;
        assert!(
            found.iter().any(|difference| difference.path == *path),
            "{} byte {at}: {found:?}",
            path.display()
        );
        fs::write(path, &bytes).unwrap();
    }
    assert!(lake.verify().is_sound());
}

#[test]
fn a_missing_or_shortened_or_foreign_file_is_reported_with_its_file() {
    let dir = folder();
    let lake = written(dir.path());
    let file = lake.snapshot().table(Table::IntervalReading).files[0].clone();
    let bytes = fs::read(&file.path).unwrap();
    let only = |fault: Fault, path: &Path| {
        let found = lake.verify().differences;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].fault, found[0].path.as_path()), (&fault, path));
    };
    fs::remove_file(&file.path).unwrap();
    only(Fault::Missing, &file.path);
    fs::write(&file.path, &bytes[1..]).unwrap();
    only(Fault::Length { expected: file.bytes, found: file.bytes - 1 }, &file.path);
    fs::write(&file.path, &bytes).unwrap();
    let foreign = file.path.with_file_name("foreign.parquet");
    fs::write(&foreign, &bytes).unwrap();
    only(Fault::Unreferenced, &foreign);
    fs::remove_file(&foreign).unwrap();
    assert!(lake.verify().is_sound());
}

#[test]
fn a_torn_log_entry_above_the_durable_version_is_set_aside() {
    let dir = folder();
    drop(written(dir.path()));
    let entry = dir.path().join("event/_delta_log/00000000000000000006.json");
    for torn in [&b""[..], b"\0\0\0\0", b"{\"commitInfo\":{\"time"] {
        fs::write(&entry, torn).unwrap();
        let lake = open(dir.path());
        assert!(!entry.exists());
        assert_eq!(contents(&lake.snapshot()), expected(&Market::new(21).groups(50)));
        assert!(lake.verify().is_sound());
    }
    let aside = fs::read_dir(dir.path().join("event/_urja/quarantine")).unwrap().count();
    assert_eq!(aside, 3);
}

#[test]
fn an_empty_log_entry_at_or_below_the_durable_version_is_refused() {
    let dir = folder();
    drop(written(dir.path()));
    let copies = folder();
    for version in 0..=5 {
        let place = copies.path().join(version.to_string());
        copy(dir.path(), &place);
        let entry = place.join(format!("event/_delta_log/{version:020}.json"));
        fs::write(&entry, b"").unwrap();
        let refused = Lake::open(&place, Calendar::india(), small()).err().unwrap();
        let Error::Damaged { table, path, version: found, fault } = &refused else { panic!("{refused}") };
        assert_eq!((*table, *found, fault), (Table::Event, version, &Fault::Empty));
        assert_eq!(path, &entry.canonicalize().unwrap());
    }
}

#[test]
fn what_opening_needs_and_is_damaged_is_refused_by_name() {
    let dir = folder();
    let lake = written(dir.path());
    let data = lake.snapshot().table(Table::Event).files[0].path.clone();
    let root = dir.path().canonicalize().unwrap();
    let data = data.strip_prefix(&root).unwrap().to_owned();
    drop(lake);
    let needed = [
        data,
        "event/_delta_log/00000000000000000003.checkpoint.parquet".into(),
        "event/_delta_log/00000000000000000005.json".into(),
        "event/_urja/00000000000000000005.json".into(),
        "event/_urja/00000000000000000003.checkpoint.json".into(),
    ];
    let copies = folder();
    for (number, name) in needed.iter().enumerate() {
        let place = copies.path().join(number.to_string());
        copy(&root, &place);
        let path = place.join(name).canonicalize().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let refused = Lake::open(&place, Calendar::india(), small()).err().unwrap();
        assert!(matches!(&refused, Error::Damaged { path: found, .. } if *found == path), "{refused}");
        assert!(refused.to_string().contains(&*name.to_string_lossy()), "{refused}");
    }
}

#[test]
fn a_checkpoint_of_a_log_that_is_made_while_it_is_verified_is_no_damage() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(21).groups(100);
    let commit = |part: &[super::sample::Group]| {
        part.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        lake.commit(part.last().unwrap().upto).unwrap();
    };
    groups[..50].chunks(10).for_each(commit);
    let event = dir.path().join("event");
    let hint = event.join("_delta_log/_last_checkpoint");
    let before = fs::read(&hint).unwrap();
    let scope = Scope::new(Table::Event, &event).unwrap();
    groups[50..].chunks(10).for_each(commit);
    assert_ne!(fs::read(&hint).unwrap(), before, "no checkpoint was made meanwhile");
    let mut report = VerifyReport::default();
    scope.verify(State::Settled, &mut report, &mut |_| ());
    assert!(report.is_sound() && report.unfinished.is_empty(), "{:?}", report.differences);
    // Of a checkpoint that is not there it is damage, whatever it says.
    fs::write(&hint, b"{\"version\":1000,\"size\":1}").unwrap();
    assert!(!lake.verify().is_sound());
}

#[test]
fn a_hint_that_is_damaged_is_done_without() {
    let dir = folder();
    drop(written(dir.path()));
    fs::write(dir.path().join("event/_delta_log/_last_checkpoint"), b"{\"version\":1,\"size\":1}").unwrap();
    let lake = open(dir.path());
    assert_eq!(contents(&lake.snapshot()), expected(&Market::new(21).groups(50)));
}

#[test]
fn a_table_that_another_program_wrote_is_refused() {
    let dir = folder();
    drop(written(dir.path()));
    let log = dir.path().join("event/_delta_log");
    for version in [6, 7] {
        fs::copy(log.join(format!("{:020}.json", 5)), log.join(format!("{version:020}.json"))).unwrap();
    }
    let refused = Lake::open(dir.path(), Calendar::india(), small()).err().unwrap();
    assert!(matches!(refused, Error::Uncovered { table: Table::Event, first: 6, last: 7 }), "{refused}");
}

#[test]
fn a_version_another_program_took_while_we_run_is_noticed() {
    let dir = folder();
    let lake = written(dir.path());
    let log = dir.path().join("frame/_delta_log");
    fs::copy(log.join(format!("{:020}.json", 5)), log.join(format!("{:020}.json", 6))).unwrap();
    let upto = lake.committed().next();
    lake.absorb(Vec::new(), upto);
    assert!(matches!(lake.commit(upto), Err(Error::Contended { table: Table::Frame, version: 6 })));
    assert!(matches!(lake.commit(upto), Err(Error::Halted)));
}
