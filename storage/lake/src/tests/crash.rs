//! Crashes and power cuts at every step of a commit.

use std::path::Path;

use model::{Calendar, Position};

use super::sample::{Group, Market};
use super::{contents, copy, expected, folder, open, small};
use crate::disk::Disk;
use crate::{Error, Lake, Table};

/// How a test's disk looks after the crash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// The process died, the disk goes on: everything written is there.
    Kill,
    /// Power went: names are there, content that was not synced is not.
    EmptyFiles,
    /// Power went: names that were not synced are gone as well.
    NoNames,
}

/// Opens the lake on a disk that is watched.
fn watched(dir: &Path) -> Lake {
    Lake::open_on(Disk::default(), dir, Calendar::india(), small()).unwrap()
}

fn absorb(lake: &Lake, groups: &[Group]) {
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
}

/// Replays what the lake does not hold from a checkpoint at `from`, commits, and expects each row once.
fn recover(dir: &Path, groups: &[Group], from: Position, what: &str) {
    let options = crate::Options { checkpoint_interval: 1000, ..small() };
    let lake = Lake::open(dir, Calendar::india(), options).unwrap();
    assert!(lake.committed() >= from, "{what}: what was committed is there");
    assert!(lake.verify().is_sound(), "{what}: {:?}", lake.verify().differences);
    let replayed: Vec<Group> = groups.iter().filter(|group| group.upto > from).cloned().collect();
    absorb(&lake, &replayed);
    assert_eq!(contents(&lake.snapshot()), expected(groups), "{what}: hot");
    lake.commit(groups.last().unwrap().upto).unwrap();
    assert_eq!(contents(&lake.snapshot()), expected(groups), "{what}: committed");
    assert!(lake.verify().is_sound(), "{what}: {:?}", lake.verify().differences);
}

/// Two commits that stand on a disk, and the groups of a third, with which checkpoints of the logs are due.
struct Stand {
    groups: Vec<Group>,
    dir: tempfile::TempDir,
}

impl Stand {
    fn new() -> Stand {
        let stand = Stand { groups: Market::new(11).groups(36), dir: folder() };
        let lake = open(stand.dir.path());
        absorb(&lake, &stand.groups);
        lake.commit(stand.groups[11].upto).unwrap();
        lake.commit(stand.committed()).unwrap();
        stand
    }

    fn committed(&self) -> Position {
        self.groups[23].upto
    }

    /// Commits the rest on a copy of the disk and stops after so many steps; gives the lake and the steps taken.
    fn commit(&self, dir: &Path, stop_at: usize) -> (Lake, Result<usize, Error>) {
        copy(self.dir.path(), dir);
        let disk = Disk::default();
        disk.witness.trust(dir);
        let lake = Lake::open_on(disk, dir, Calendar::india(), small()).unwrap();
        absorb(&lake, &self.groups[24..]);
        lake.0.disk.witness.stop_at(stop_at);
        let result = lake.commit(self.groups[35].upto).map(|_| lake.0.disk.witness.steps());
        (lake, result)
    }
}

/// Every step of the first table, which has no partitions, and of the beginning of the second, which has.
#[test]
fn replay_after_a_crash_between_any_two_steps_of_a_commit_gives_each_row_once() {
    crash_at(|_| (0..20).collect());
}

/// The rest of the second table at every step, the others here and there.
#[test]
fn replay_after_a_crash_late_in_a_commit_gives_each_row_once() {
    crash_at(|steps| (20..36).chain((36..steps).step_by(13)).chain([steps - 1]).collect());
}

/// Crashes a commit at each of these of its steps.
fn crash_at(chosen: impl Fn(usize) -> Vec<usize>) {
    let stand = Stand::new();
    let dir = folder();
    let steps = stand.commit(&dir.path().join("whole"), usize::MAX).1.unwrap();
    assert!(steps > 9 * 8, "every table syncs its files, folders, log entry and sidecar");
    for step in chosen(steps) {
        let crashed = dir.path().join(format!("{step}"));
        let (lake, result) = stand.commit(&crashed, step);
        assert!(matches!(result, Err(Error::Sync { .. })), "step {step}");
        assert!(
            matches!(lake.commit(stand.groups[35].upto), Err(Error::Halted)),
            "a failed sync is not tried again"
        );
        for after in [After::Kill, After::EmptyFiles, After::NoNames] {
            let place = dir.path().join(format!("{step}-{after:?}"));
            match after {
                After::Kill => copy(&crashed, &place),
                _ => lake.0.disk.witness.cut_power(&crashed, &place, after == After::NoNames),
            }
            let what = format!("step {step} of {steps}, {after:?}");
            recover(&place, &stand.groups, stand.committed(), &what);
            std::fs::remove_dir_all(&place).unwrap();
        }
    }
}

#[test]
fn a_commit_that_finds_the_disk_full_is_tried_again_and_leaves_nothing_behind() {
    let stand = Stand::new();
    let upto = stand.groups[35].upto;
    let dir = folder();
    let steps = stand.commit(&dir.path().join("whole"), usize::MAX).1.unwrap();
    for step in (0..24).chain((24..steps).step_by(11)).chain([steps - 1]) {
        let place = dir.path().join(format!("{step}"));
        copy(stand.dir.path(), &place);
        let lake = open(&place);
        absorb(&lake, &stand.groups[24..]);
        lake.0.disk.witness.fill_at(step);
        for _ in 0..2 {
            // Where only a checkpoint of a log found no space the commit stands.
            assert!(lake.commit(upto).err().is_none_or(|error| !error.is_fatal()), "step {step}");
        }
        lake.0.disk.witness.stop_at(usize::MAX);
        lake.commit(upto).unwrap();
        assert_eq!(contents(&lake.snapshot()), expected(&stand.groups), "step {step} of {steps}");
        let owed: Vec<_> = lake
            .verify()
            .differences
            .into_iter()
            .filter(|it| !it.path.ends_with("_last_checkpoint"))
            .collect();
        assert!(owed.is_empty(), "step {step} of {steps}: {owed:?}");
        drop(lake);
        assert_eq!(contents(&open(&place).snapshot()), expected(&stand.groups), "step {step} of {steps}");
        std::fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_crash_while_the_tables_are_made_leaves_nothing_in_the_way() {
    let groups = Market::new(12).groups(6);
    let steps = {
        let dir = folder();
        watched(&dir.path().join("lake")).0.disk.witness.steps()
    };
    for step in (0..steps).step_by(9) {
        let dir = folder();
        let disk = Disk::default();
        disk.witness.stop_at(step);
        let opened = Lake::open_on(disk, &dir.path().join("lake"), Calendar::india(), small());
        assert!(opened.is_err(), "step {step}");
        recover(&dir.path().join("lake"), &groups, Position(0), &format!("step {step} of {steps}"));
    }
}

#[test]
fn nothing_is_lost_when_power_goes_after_a_commit() {
    let dir = folder();
    let lake = watched(&dir.path().join("lake"));
    let groups = Market::new(13).groups(30);
    for group in &groups {
        lake.absorb(group.rows.clone(), group.upto);
        lake.commit(group.upto).unwrap();
    }
    for forget_names in [false, true] {
        let place = dir.path().join(format!("{forget_names}"));
        lake.0.disk.witness.cut_power(&dir.path().join("lake"), &place, forget_names);
        let again = open(&place);
        assert_eq!(again.committed(), groups.last().unwrap().upto);
        assert_eq!(contents(&again.snapshot()), expected(&groups));
        assert!(again.verify().is_sound(), "{:?}", again.verify().differences);
    }
}

#[test]
fn a_retried_commit_never_writes_over_a_file() {
    let groups = Market::new(14).groups(10);
    let upto = groups.last().unwrap().upto;
    let dir = folder();
    let lake = open(dir.path());
    absorb(&lake, &groups);
    lake.commit(upto).unwrap();
    let table = lake.snapshot().table(Table::Frame).clone();
    let name = table.files[0].path.clone();
    let bytes = std::fs::read(&name).unwrap();
    drop(lake);
    // The log entry and its sidecar are lost, the data file stays: the retry must take another name.
    let frame = dir.path().join("frame");
    std::fs::remove_file(frame.join("_delta_log/00000000000000000001.json")).unwrap();
    std::fs::remove_file(frame.join("_urja/00000000000000000001.json")).unwrap();
    let lake = open(dir.path());
    std::fs::write(&name, &bytes).unwrap();
    absorb(&lake, &groups);
    lake.commit(upto).unwrap();
    assert_eq!(std::fs::read(&name).unwrap(), bytes);
    assert_ne!(lake.snapshot().table(Table::Frame).files[0].path, name);
    assert_eq!(contents(&lake.snapshot()), expected(&groups));
}
