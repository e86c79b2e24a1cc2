//! What readers see while rows come in and are committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::{Calendar, Position};
use proptest::prelude::*;

use super::sample::{Group, Market};
use super::{contents, expected, folder, open, rows_of, small};
use crate::{Error, Lake, Options, Table};

#[test]
fn rows_are_seen_at_once_and_stay_the_same_once_they_are_files() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(1).groups(120);
    for group in &groups {
        lake.absorb(group.rows.clone(), group.upto);
    }
    let upto = groups.last().unwrap().upto;
    let hot = lake.snapshot();
    assert_eq!(hot.position, upto);
    assert_eq!(contents(&hot), expected(&groups));
    assert!(lake.hot_bytes() > 0);

    lake.commit(upto).unwrap();
    let cold = lake.snapshot();
    assert_eq!(contents(&cold), expected(&groups));
    assert_eq!(contents(&hot), expected(&groups), "a snapshot taken before stays whole");
    assert_eq!((lake.hot_bytes(), lake.committed()), (0, upto));
    assert!(cold.tables.iter().all(|table| table.hot.is_empty()));

    drop((hot, cold, lake));
    let again = open(dir.path());
    assert_eq!(contents(&again.snapshot()), expected(&groups));
    assert_eq!(again.committed(), upto);
}

#[test]
fn what_a_table_is_after_opening_is_what_it_was() {
    let dir = folder();
    let lake = open(dir.path());
    for group in Market::new(2).groups(60) {
        lake.absorb(group.rows, group.upto);
        lake.commit(group.upto).unwrap();
    }
    let before = lake.snapshot();
    let inspected = lake.inspect();
    drop(lake);
    let again = open(dir.path());
    let after = again.snapshot();
    assert_eq!(before.position, after.position);
    for (before, after) in before.tables.iter().zip(&after.tables) {
        assert_eq!((before.version, before.committed), (after.version, after.committed), "{}", before.table);
        let sorted = |files: &[crate::DataFile]| {
            let mut files = files.to_vec();
            files.sort_by(|one, other| one.path.cmp(&other.path));
            files
        };
        assert_eq!(sorted(&before.files), sorted(&after.files), "{}", before.table);
    }
    assert_eq!(inspected, again.inspect());
}

#[test]
fn a_commit_takes_the_groups_up_to_its_position_and_no_more() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(3).groups(40);
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    let report = lake.commit(groups[24].upto).unwrap();
    assert_eq!(report.tables.len(), Table::ALL.len());
    assert_eq!(contents(&lake.snapshot()), expected(&groups));
    drop(lake);
    let again = open(dir.path());
    assert_eq!(contents(&again.snapshot()), expected(&groups[..25]));
}

#[test]
fn a_value_that_was_the_first_after_all_is_kept_although_its_frame_is_long_committed() {
    // In the sample such rows carry the position of their frame; with a commit after each group it is always below
    // what the table holds.
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(4).groups(150);
    let late_rows = groups.iter().flat_map(|group| {
        let first = group.records.first().unwrap().position;
        group.rows.iter().filter(move |row| row.position() < first)
    });
    assert!(late_rows.count() > 5, "the sample has such rows");
    for group in &groups {
        lake.absorb(group.rows.clone(), group.upto);
        lake.commit(group.upto).unwrap();
    }
    drop(lake);
    assert_eq!(contents(&open(dir.path()).snapshot()), expected(&groups));
}

#[test]
fn repeated_absorbs_and_commits_change_nothing() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(5).groups(30);
    let upto = groups.last().unwrap().upto;
    for _ in 0..2 {
        groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        lake.commit(upto).unwrap();
    }
    let versions: Vec<_> = lake.inspect().into_iter().map(|table| table.version).collect();
    assert_eq!(versions, [1; 9]);
    assert_eq!(lake.commit(upto).unwrap().tables, []);
    assert_eq!(contents(&lake.snapshot()), expected(&groups));
    drop(lake);
    let again = open(dir.path());
    groups.iter().for_each(|group| again.absorb(group.rows.clone(), group.upto));
    assert_eq!(again.commit(upto).unwrap().tables, []);
    assert_eq!(contents(&again.snapshot()), expected(&groups));
}

#[test]
fn a_commit_without_rows_moves_the_position_only() {
    let dir = folder();
    let lake = open(dir.path());
    lake.absorb(Vec::new(), Position(17));
    let report = lake.commit(Position(17)).unwrap();
    assert!(report.tables.iter().all(|table| (table.files, table.rows, table.version) == (0, 0, 1)));
    assert_eq!(lake.committed(), Position(17));
    drop(lake);
    let again = open(dir.path());
    assert_eq!(again.committed(), Position(17));
    assert!(again.inspect().iter().all(|table| table.files == 0 && table.committed == Position(17)));
}

#[test]
fn a_commit_is_refused_where_it_would_split_a_group_or_run_ahead() {
    let dir = folder();
    let lake = open(dir.path());
    lake.absorb(Vec::new(), Position(10));
    assert!(matches!(lake.commit(Position(5)), Err(Error::NotAGroupEnd(Position(5)))));
    let ahead = lake.commit(Position(11));
    assert!(matches!(ahead, Err(Error::NotAbsorbed { upto: Position(11), absorbed: Position(10) })));
    lake.commit(Position(10)).unwrap();
    assert_eq!(lake.commit(Position(5)).unwrap().tables, []);
}

#[test]
fn rows_absorbed_across_a_committed_position_are_refused_where_they_cannot_be_told_apart() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(4).groups(150);
    // A group with a row whose position lies before the group.
    let late = |group: &&Group| group.rows.iter().any(|row| row.position() < group.records[0].position);
    let at = groups.iter().position(|group| late(&group) && group.records.len() > 1).unwrap();
    groups[..=at].iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    lake.commit(groups[at].upto).unwrap();
    drop(lake);
    // One table falls behind, as when a crash comes between two tables of a commit.
    for name in ["_delta_log", "_urja"] {
        std::fs::remove_file(dir.path().join(format!("fact/{name}/00000000000000000001.json"))).unwrap();
    }
    let again = open(dir.path());
    assert_eq!(again.committed(), Position(0));
    again.absorb(groups[..at].iter().flat_map(|group| group.rows.clone()).collect(), groups[at - 1].upto);
    let both = groups[at..at + 2].iter().flat_map(|group| group.rows.clone()).collect();
    let upto = groups[at + 1].upto;
    again.absorb(both, upto);
    let refused = again.commit(upto).unwrap_err();
    assert!(matches!(refused, Error::Straddled { upto: found, .. } if found == upto), "{refused}");
}

#[test]
fn a_lake_is_refused_under_another_application_id() {
    let dir = folder();
    let lake = open(dir.path());
    lake.absorb(Vec::new(), Position(9));
    lake.commit(Position(9)).unwrap();
    drop(lake);
    let options = Options { app_id: "urja/partition-1".to_owned(), ..small() };
    let refused = Lake::open(dir.path(), Calendar::india(), options).unwrap_err();
    assert!(
        matches!(refused, Error::OtherWriter { position: Position(0), sealed: Position(9), .. }),
        "{refused}"
    );
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Absorb,
    Commit(usize),
    Look,
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => Just(Act::Absorb),
        3 => (0_usize..8).prop_map(Act::Commit),
        2 => Just(Act::Look),
        1 => Just(Act::Reopen),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_absorbs_commits_looks_and_starts_each_row_is_there_once(seed: u64, acts in acts()) {
        let dir = folder();
        let groups = Market::new(seed).groups(acts.len());
        let mut lake = open(dir.path());
        let mut absorbed = 0;
        for act in acts {
            match act {
                Act::Absorb => {
                    lake.absorb(groups[absorbed].rows.clone(), groups[absorbed].upto);
                    absorbed += 1;
                }
                Act::Commit(back) if absorbed > back => {
                    lake.commit(groups[absorbed - 1 - back].upto).unwrap();
                }
                Act::Commit(_) => {}
                Act::Look => {
                    let snapshot = lake.snapshot();
                    prop_assert_eq!(contents(&snapshot), expected(&groups[..absorbed]));
                }
                Act::Reopen => {
                    drop(lake);
                    lake = open(dir.path());
                    groups[..absorbed].iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
                }
            }
        }
        prop_assert_eq!(contents(&lake.snapshot()), expected(&groups[..absorbed]));
        prop_assert!(lake.verify().is_sound());
    }
}

#[test]
fn a_reader_never_loses_a_row_or_sees_one_twice_while_commits_run() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(6).groups(240);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_usize;
            while !done.load(Ordering::Acquire) {
                let snapshot = lake.snapshot();
                let seen = groups.iter().take_while(|group| group.upto <= snapshot.position).count();
                let expected = expected(&groups[..seen]);
                // One table a look keeps the reader quick; each is looked at many times.
                let table = Table::ALL[looks % Table::ALL.len()];
                assert_eq!(rows_of(&snapshot, table), expected[&table], "{table} at {}", snapshot.position);
                looks += 1;
            }
            looks
        });
        let (sender, commits) = std::sync::mpsc::sync_channel(1);
        let committer = scope.spawn({
            let lake = lake.clone();
            move || commits.iter().map(|upto| lake.commit(upto).unwrap().tables.len()).sum::<usize>()
        });
        for group in &groups {
            lake.absorb(group.rows.clone(), group.upto);
            let _ = sender.try_send(group.upto);
        }
        sender.send(groups.last().unwrap().upto).unwrap();
        drop(sender);
        assert!(committer.join().unwrap() >= Table::ALL.len());
        done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(contents(&lake.snapshot()), expected(&groups));
}

#[test]
fn each_row_is_seen_once_at_every_step_of_a_commit() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(8).groups(24);
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    let (all, looks) = (expected(&groups), Arc::new(AtomicUsize::new(0)));
    let (inner, counter) = (Arc::downgrade(&lake.0), Arc::clone(&looks));
    lake.0.disk.witness.look_at_every_step(move || {
        let lake = Lake(inner.upgrade().unwrap());
        assert_eq!(contents(&lake.snapshot()), all);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    lake.commit(groups[11].upto).unwrap();
    lake.commit(groups[23].upto).unwrap();
    let looks = looks.load(Ordering::Relaxed);
    assert!(looks > 2 * 9 * 6, "{looks} looks at data files, log entries and sidecars of nine tables");
}

#[test]
fn many_readers_of_a_trickle_do_not_leave_many_batches() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(7).groups(1500);
    for group in &groups {
        lake.absorb(group.rows.clone(), group.upto);
        drop(lake.snapshot());
    }
    let snapshot = lake.snapshot();
    assert!(snapshot.tables.iter().all(|table| table.hot.len() <= 34), "chunks are put together");
    assert_eq!(contents(&snapshot), expected(&groups));
}
