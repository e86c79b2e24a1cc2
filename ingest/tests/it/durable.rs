//! What the disk has seen before an answer goes out, and what is still there when it was not all written.
//!
//! The order of syncs and answers can only be seen from outside: strace watches a run of this program in which every
//! sync of the journal takes its time.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ingest::{Disposition, StartError};
use journal::{Group, Journal};
use model::{DecodeError, Position, QuarantineReason, Source};

use crate::frames::{Meter, june, received, wrap};
use crate::world::{World, within};

/// Names the folder of a run that is watched.
const WATCHED: &str = "URJA_TEST_WATCHED";
/// Delay of each sync, microseconds: what does not wait for it is far ahead of it.
const SYNC_DELAY_US: u32 = 300_000;
const SEGMENT: &str = "00000000000000000001.segment";

/// What was seen of a run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// A write to the journal began.
    Write,
    /// A sync of the journal was over.
    Sync,
    /// What the run said of itself.
    Mark(String),
}

/// Runs one test of this program under strace; nothing where there is no strace.
fn watch(run: &str) -> Option<Vec<Seen>> {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().canonicalize().unwrap();
    let log = data.join("strace.log");
    let usable = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !usable.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: strace");
        println!("skipped: not there: strace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "64", "-e", "trace=write,pwrite64,fdatasync", "-o"]).arg(&log);
    command.args(["-e", &format!("inject=fdatasync:delay_enter={SYNC_DELAY_US}")]);
    command.arg("-P").arg(data.join("journal").join(SEGMENT)).arg("-P").arg(data.join("marks"));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", run, "--nocapture"]);
    let out = command.env(WATCHED, &data).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    Some(std::fs::read_to_string(&log).unwrap().lines().filter_map(seen).collect())
}

/// A write counts from its beginning and a sync from its end, so that nothing seems safer than it was.
fn seen(line: &str) -> Option<Seen> {
    let call = line.split_once(' ')?.1.trim_start();
    let is_sync = call.starts_with("fdatasync(") || call.starts_with("<... fdatasync resumed");
    if is_sync {
        return call.contains(" = 0").then_some(Seen::Sync);
    }
    if call.starts_with("pwrite64(") {
        return Some(Seen::Write);
    }
    let text = call.strip_prefix("write(")?.split('"').nth(1)?;
    Some(Seen::Mark(text.trim_end_matches("\\n").to_owned()))
}

/// Every mark `to` after a mark `from` comes with a write and then a sync between them.
fn assert_synced_between(seen: &[Seen], from: &str, to: &str) {
    let mark = |text: &str| Seen::Mark(text.to_owned());
    let begin = seen.iter().position(|event| *event == mark(from)).expect("the first mark");
    let end = seen.iter().position(|event| *event == mark(to)).expect("the second mark");
    let between = seen.get(begin..end).unwrap_or_default();
    let written = between.iter().position(|event| *event == Seen::Write);
    let synced = written.is_some_and(|at| between[at..].contains(&Seen::Sync));
    assert!(synced, "{to} before the sync: {seen:?}");
}

/// The watched run's world: one meter, a journal in the watched folder, and no group but those of frames.
async fn watched(dir: &Path, meter: &Meter) -> World {
    let world = World::with(|options| {
        dir.clone_into(&mut options.data_dir);
        options.idle_after = Duration::from_secs(3600);
    })
    .await;
    world.register(&[meter]).await;
    world
}

fn mark(marks: &mut File, text: &str) {
    // One call, whole.
    marks.write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Not a promise by itself: the run that is watched below.
#[tokio::test(flavor = "multi_thread")]
async fn frames_one_after_another() {
    let Some(dir) = std::env::var_os(WATCHED) else { return };
    let (dir, meter) = (Path::new(&dir), Meter::new(1));
    let world = watched(dir, &meter).await;
    let mut marks = File::create(dir.join("marks")).unwrap();
    for counter in 1..=3 {
        let block = meter.block(june(5, 11, 30).plus_seconds(-1800 * i64::from(counter)), counter);
        mark(&mut marks, &format!("sent {counter}"));
        world.send(meter.frame(counter, &block)).await;
        mark(&mut marks, &format!("answered {counter}"));
    }
    mark(&mut marks, "sent rubbish");
    world.send(wrap(&[0x60, 1, 2])).await;
    mark(&mut marks, "answered rubbish");
}

#[test]
fn no_answer_goes_out_before_the_sync_of_its_group() {
    let Some(seen) = watch("durable::frames_one_after_another") else { return };
    for frame in ["1", "2", "3", "rubbish"] {
        assert_synced_between(&seen, &format!("sent {frame}"), &format!("answered {frame}"));
    }
}

/// Not a promise by itself: the run that is watched below.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_and_its_copy_at_once() {
    let Some(dir) = std::env::var_os(WATCHED) else { return };
    let (dir, meter) = (Path::new(&dir), Meter::new(1));
    let world = watched(dir, &meter).await;
    let mut marks = File::create(dir.join("marks")).unwrap();
    world.hold_frames().await;
    let frame = meter.frame(1, &meter.block(june(5, 11, 30), 100));
    let submit = || world.pipeline.submit(received(Source::Tcp, june(5, 12, 0), frame.clone()));
    let (first, copy) = (submit().await.unwrap(), submit().await.unwrap());
    mark(&mut marks, "let go");
    world.lake.claim_hot_bytes(0);
    let acked = within(copy).await.unwrap();
    mark(&mut marks, "copy answered");
    assert_eq!(acked.disposition, Disposition::Redelivered);
    assert_eq!(within(first).await.unwrap().disposition, Disposition::Accepted);
}

#[test]
fn a_copy_is_not_answered_before_the_sync_of_the_first() {
    let Some(seen) = watch("durable::a_frame_and_its_copy_at_once") else { return };
    assert_synced_between(&seen, "let go", "copy answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_keeps_what_the_lake_does_not_hold() {
    let meter = Meter::new(1);
    let world = World::with(|options| {
        (options.journal.keep, options.journal.keep_bytes) = (Duration::ZERO, 0);
    })
    .await;
    world.register(&[&meter]).await;
    let dir = world.options.data_dir.join("journal");
    let segments = || {
        let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".segment")).count()
    };
    // Evidence of some size, so that there is something to trim.
    for number in 0..220_u16 {
        world.send([&number.to_be_bytes()[..], &vec![0; 60_000]].concat()).await;
    }
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let before = segments();
    assert!(before > 2, "{before} segments");
    world.lake.fail_commits(true);
    world.pipeline.checkpoint().await.unwrap_err();
    // The journal is trimmed between two groups.
    world.send(meter.frame(2, &meter.block(june(5, 12, 0), 100))).await;
    let sections = world.sections().await;
    let world = world.crash().await;
    assert_eq!(world.sections().await, sections);
    world.pipeline.checkpoint().await.unwrap();
    world.send(meter.frame(3, &meter.block(june(5, 9, 0), 100))).await;
    world.send(meter.frame(4, &meter.block(june(5, 9, 30), 100))).await;
    assert!(segments() < before, "what the lake and the checkpoint hold is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_an_unknown_kind_stops_the_start_by_name() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    world.send(meter.frame(1, &meter.block(june(5, 11, 30), 100))).await;
    let (dir, options) = (world.options.data_dir.join("journal"), world.options.journal.clone());
    let refused = world.stop_and_start(|_| {
        let (mut journal, _) = Journal::open(&dir, options).unwrap();
        let mut group = Group::new();
        group.push(&[200, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        journal.append(&mut group).unwrap();
        journal.sync().unwrap();
    });
    let reason = match refused.await {
        Err(StartError::Record { position, reason }) if position > Position(1) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a record that nobody understands was passed over"),
    };
    assert_eq!(reason, DecodeError::UnknownKind(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_was_spent_before_a_restart_stays_spent() {
    let meter = Meter::new(1);
    let world = World::with(|options| options.remembered_frames = 1).await;
    world.register(&[&meter]).await;
    for counter in [10, 11, 12] {
        world.send(meter.frame(counter, &meter.block(june(5, 11, 30), counter))).await;
    }
    let mut world = world.crash().await;
    for _ in 0..2 {
        let reused = world.send(meter.frame(10, &meter.block(june(5, 11, 30), 999))).await;
        let reason = Disposition::Quarantined(QuarantineReason::CounterForgotten);
        assert!([reason, Disposition::Redelivered].contains(&reused.disposition), "{:?}", reused.disposition);
        // From the checkpoint alone, too.
        world = world.stop_and_start(|_| {}).await.unwrap();
    }
}
