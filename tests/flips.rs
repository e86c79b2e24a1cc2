//! Files at rest that are not as they were written: every damaged byte is noticed, with its file, or changes nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use model::Position;
use serde_json::Value;

use crate::crash::provision_with;
use crate::harness::{FleetRun, Served, evidence, full, seeded, try_for, urja, urja_ok, wait_for};

/// The very code of `urja inspect --verify`.
#[allow(dead_code, reason = "the command also prints what it finds")]
#[path = "../urja/src/verification.rs"]
mod verification;

use verification::Verification;

const METERS: &str = "20";
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/flips.toml");
/// Versions of each table, so that there are checkpoints of the logs.
const VERSIONS: i64 = 34;
/// Records after the last checkpoint.
const TAIL: u64 = 100;

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Journal,
    Checkpoint,
    Log,
    Parquet,
    Sidecar,
}

const KINDS: [Kind; 5] = [Kind::Journal, Kind::Checkpoint, Kind::Log, Kind::Parquet, Kind::Sidecar];

/// A data directory after a real run and a kill: several commits, checkpoints, and records that are only in the journal.
struct Written {
    dir: tempfile::TempDir,
    data: PathBuf,
    files: BTreeMap<Kind, Vec<PathBuf>>,
    /// What of each segment holds a header or groups.
    used: BTreeMap<PathBuf, Vec<Range<u64>>>,
    seed: u64,
}

impl Written {
    fn new(test: &str) -> (Written, impl FnMut() -> u64) {
        static MASTER: OnceLock<PathBuf> = OnceLock::new();
        let (seed, random) = seeded(test);
        let master = MASTER.get_or_init(|| master(seed));
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        copy(master, &data);
        let files = files_of(&data);
        let used = used(&data.join("journal"));
        (Written { dir, data, files, used, seed }, random)
    }

    /// A copy to start on and to write to.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        copy(&self.data, &to);
        to
    }

    /// A random byte of a random file of this kind.
    fn place(&self, kind: Kind, random: &mut impl FnMut() -> u64) -> (PathBuf, u64) {
        let file = match kind {
            // The one hint and the few checkpoints of a log count as much as its many entries.
            Kind::Log => {
                let ending = ["json", "parquet", "_last_checkpoint"][below(random, 3) as usize];
                let some: Vec<_> = self.files[&kind]
                    .iter()
                    .filter(|file| file.to_string_lossy().ends_with(ending))
                    .collect();
                some[below(random, some.len() as u64) as usize]
            }
            _ => &self.files[&kind][below(random, self.files[&kind].len() as u64) as usize],
        };
        let Some(ranges) = self.used.get(file) else {
            return (file.clone(), below(random, fs::metadata(file).unwrap().len()));
        };
        let mut at = below(random, ranges.iter().map(|range| range.end - range.start).sum());
        for range in ranges {
            let length = range.end - range.start;
            if at < length {
                return (file.clone(), range.start + at);
            }
            at -= length;
        }
        panic!("a place in {}", file.display());
    }

    /// A random byte of a segment or a blank file that holds no data.
    fn unused_place(&self, random: &mut impl FnMut() -> u64) -> (PathBuf, u64) {
        let files: Vec<PathBuf> = entries(&self.data.join("journal"));
        loop {
            let file = &files[below(random, files.len() as u64) as usize];
            let at = below(random, fs::metadata(file).unwrap().len());
            let used =
                self.used.get(file).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&at)));
            if !used {
                return (file.clone(), at);
            }
        }
    }
}

fn below(random: &mut impl FnMut() -> u64, bound: u64) -> u64 {
    // The low bits of this generator are its worst.
    (random() >> 16) % bound
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// One run is enough for all tests of this module, each of which works on a copy. The next run removes it.
fn master(seed: u64) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flips");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let run = tempfile::tempdir().unwrap();
    write(&run.path().join("data"), &run.path().join("fleet"), seed);
    copy(&run.path().join("data"), &dir.join("data"));
    dir.join("data")
}

/// Runs a fleet against it with many commits, then with none, and kills it when all is quiet.
fn write(data: &Path, out: &Path, seed: u64) {
    provision_with(data, out, seed, METERS, &["--config", CONFIG]);
    let served = Served::start(data, &["--config", CONFIG]);
    let (tcp, udp) = (served.address("tcp"), served.address("udp"));
    let (seed, out, tcp_text) = (seed.to_string(), out.display().to_string(), tcp.to_string());
    let args = ["--meters", METERS, "--seed", &seed, "--out", &out, "--days", "4000", "--drive", "--to"];
    let mut fleet = FleetRun::start(data, &[&args[..], &[&tcp_text]].concat());
    let journal = data.join("journal");
    let enough = || {
        let versions = fs::read_dir(data.join("lake/frame/_urja")).unwrap().count() as i64;
        let segments = entries(&journal).iter().filter(|file| is(file, "segment")).count();
        (versions > VERSIONS && segments > 2).then_some(())
    };
    // It takes as long as it takes to write that much.
    assert!((0..10).any(|_| try_for(enough).is_some()), "not enough is written");
    // With a last checkpoint.
    assert_eq!(served.terminate(), 0);
    let (tcp, udp) = (tcp.to_string(), udp.to_string());
    let env = [("URJA_TIME__CLOCK", "driven"), ("URJA_LAKE__COMMIT_EVERY", "1h")];
    let served = Served::start_with(data, &["--config", CONFIG, "--tcp", &tcp, "--udp", &udp], &env);
    let checkpoint = state::latest(&data.join("checkpoint")).unwrap().unwrap().position.0;
    wait_for("a tail that is only in the journal", || {
        (journal::verify(&journal).unwrap().last.0 > checkpoint + TAIL).then_some(())
    });
    fleet.terminate();
    fleet.finish();
    // Going idle it writes a group without records, which vouches for the last one with records.
    wait_for("idle", || {
        let report = journal::verify(&journal).unwrap();
        (report.durable_upto == report.last).then_some(())
    });
    served.kill();
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn is(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|found| found == ending)
}

fn files_of(data: &Path) -> BTreeMap<Kind, Vec<PathBuf>> {
    let mut found: BTreeMap<Kind, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![data.join("journal"), data.join("checkpoint"), data.join("lake")];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let name = path.strip_prefix(data).unwrap().to_string_lossy().into_owned();
            let kind = match name.as_str() {
                _ if path.is_dir() => {
                    folders.push(path);
                    continue;
                }
                name if name.starts_with("journal/") && is(&path, "segment") => Kind::Journal,
                name if name.starts_with("checkpoint/") => Kind::Checkpoint,
                name if name.contains("/_delta_log/") => Kind::Log,
                name if name.contains("/_urja/") => Kind::Sidecar,
                name if name.starts_with("lake/") => Kind::Parquet,
                // A blank file of the journal holds nothing.
                _ => continue,
            };
            found.entry(kind).or_default().push(path);
        }
    }
    found.values_mut().for_each(|files| files.sort());
    found
}

/// Headers and groups of each segment.
fn used(journal: &Path) -> BTreeMap<PathBuf, Vec<Range<u64>>> {
    let segments = entries(journal).into_iter().filter(|file| is(file, "segment"));
    #[allow(clippy::single_range_in_vec_init, reason = "more ranges follow")]
    let mut used: BTreeMap<_, _> = segments.map(|file| (file, vec![0..64])).collect();
    // An iterator of groups leaves those without records out: each of them is found from the end of the one before.
    for (file, ranges) in &mut used {
        let bytes = fs::read(file).unwrap();
        let mut at = 64;
        while let Ok((header, _)) = journal::parse_group(&bytes[at..]) {
            ranges.push(at as u64..at as u64 + header.byte_len());
            at = (at + header.byte_len() as usize).next_multiple_of(8);
        }
        assert!(file.exists());
    }
    used
}

fn verify(data: &Path) -> Verification {
    let lake = |progress: &mut dyn FnMut(u64)| Ok::<_, Infallible>(verification::lake_files(data, progress));
    verification::verify(data, lake, &mut |_| ()).unwrap_or_else(|never| match never {})
}

/// Exchanges a byte and gives the one that was there.
fn exchange(file: &Path, at: u64, byte: impl FnOnce(u8) -> u8) -> u8 {
    let open = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut was = [0];
    open.read_exact_at(&mut was, at).unwrap();
    open.write_all_at(&[byte(was[0])], at).unwrap();
    was[0]
}

/// Whether what was found names the file, and a place at or before the damaged one.
fn names(found: &Verification, file: &Path, at: u64) -> bool {
    let mut all = found.faults.iter().chain(&found.remarks);
    all.any(|finding| finding.path == file && finding.offset.is_none_or(|offset| offset <= at))
}

/// A hash of all records of the journal with their positions.
fn records(data: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for group in journal::read(&data.join("journal"), Position(0)).unwrap() {
        for (position, record) in group.unwrap().records() {
            (position.0, record).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[test]
fn every_flipped_byte_is_noticed_with_its_file() {
    let (written, mut random) = Written::new("flips");
    let sound = verify(&written.data);
    assert!(sound.is_sound() && sound.remarks.is_empty(), "{:?} {:?}", sound.faults, sound.remarks);
    let flips = if full() { 2000 } else { 100 };
    let mut faults = BTreeMap::<Kind, u32>::new();
    let mut torn = 0;
    for number in 0..flips {
        let kind = KINDS[number as usize % KINDS.len()];
        let (file, at) = written.place(kind, &mut random);
        let mask = 1 + below(&mut random, 255) as u8;
        exchange(&file, at, |byte| byte ^ mask);
        let found = verify(&written.data);
        exchange(&file, at, |byte| byte ^ mask);
        let place = format!("{} byte {at} ^ {mask:#04x}", file.display());
        assert!(names(&found, &file, at), "{place}: {:?} {:?}", found.faults, found.remarks);
        // Only the very last group of the journal is told by a note, as a torn tail.
        if found.is_sound() {
            assert_eq!(kind, Kind::Journal, "{place}");
            torn += 1;
        } else {
            *faults.entry(kind).or_default() += 1;
        }
    }
    assert!(verify(&written.data).is_sound());
    let result = format!("0 unnoticed: faults {faults:?}, {torn} told as a torn tail of the journal");
    evidence(
        "every flipped byte of journal, checkpoint, Delta log, Parquet and sidecars is noticed",
        written.seed,
        flips,
        &result,
    );
}

#[test]
fn flipped_bytes_that_hold_no_data_change_nothing_that_can_be_read() {
    let (written, mut random) = Written::new("unused");
    let whole = records(&written.data);
    let flips = if full() { 100 } else { 25 };
    let mut noticed = 0;
    for _ in 0..flips {
        let (file, at) = written.unused_place(&mut random);
        let mask = 1 + below(&mut random, 255) as u8;
        exchange(&file, at, |byte| byte ^ mask);
        let found = verify(&written.data);
        if found.is_sound() && found.remarks.is_empty() {
            assert_eq!(records(&written.data), whole, "{} byte {at}", file.display());
        } else {
            noticed += 1;
        }
        exchange(&file, at, |byte| byte ^ mask);
    }
    // And what is written over them later can be read.
    let data = written.copy("dirty");
    for _ in 0..flips {
        let (file, at) = written.unused_place(&mut random);
        exchange(&data.join(file.strip_prefix(&written.data).unwrap()), at, |_| 0xA5);
    }
    let served = Served::start(&data, &["--config", CONFIG]);
    let account = served.sql("SELECT account_number FROM account LIMIT 1")[0]["account_number"].clone();
    let postings = "SELECT count(DISTINCT position) FROM ledger_posting";
    let before = served.number(postings);
    for number in 0..20 {
        let id = format!("over-{number}");
        urja_ok(&data, &["recharge", account.as_str().unwrap(), "100", "--payment-id", &id]);
    }
    served.kill();
    let served = Served::start(&data, &["--config", CONFIG]);
    assert_eq!(served.number(postings), before + 20);
    assert_eq!(served.terminate(), 0);
    assert!(verify(&data).is_sound(), "{:?}", verify(&data).faults);
    let result = format!("{noticed} noticed, {} without effect", flips - noticed);
    evidence("flipped bytes of unused space change nothing that can be read", written.seed, flips, &result);
}

/// What happens to a file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Halved,
    Emptied,
    Missing,
    Exchanged,
}

#[test]
fn shortened_missing_exchanged_and_stale_files_are_noticed() {
    let (written, mut random) = Written::new("mishaps");
    let rounds = if full() { 8 } else { 2 };
    let mut injected = 0;
    let mut told = BTreeMap::<&str, u32>::new();
    for _ in 0..rounds {
        for kind in KINDS {
            for mishap in [Mishap::Halved, Mishap::Emptied, Mishap::Missing, Mishap::Exchanged] {
                let (file, other) = two_files(&written, kind, mishap, &mut random);
                let (bytes, others) = (fs::read(&file).unwrap(), fs::read(&other).unwrap());
                match mishap {
                    Mishap::Halved => fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
                    Mishap::Emptied => fs::write(&file, []).unwrap(),
                    Mishap::Missing => fs::remove_file(&file).unwrap(),
                    Mishap::Exchanged => {
                        fs::write(&file, &others).unwrap();
                        fs::write(&other, &bytes).unwrap();
                    }
                }
                let found = verify(&written.data);
                fs::write(&file, &bytes).unwrap();
                fs::write(&other, &others).unwrap();
                injected += 1;
                let what = format!("{mishap:?} {}", file.display());
                if found.is_sound() {
                    // One checkpoint fewer, of the state or of a log, or the hint at the latter, is what a crash before
                    // it leaves: the journal or the log has what it held.
                    let is_checkpoint = kind == Kind::Checkpoint
                        || [".checkpoint.json", "_last_checkpoint"]
                            .iter()
                            .any(|ending| what.ends_with(ending));
                    assert!(is_checkpoint && mishap == Mishap::Missing, "{what}");
                    assert!(!found.remarks.is_empty(), "{what}");
                    *told.entry("note").or_default() += 1;
                } else {
                    *told.entry("fault").or_default() += 1;
                }
            }
        }
    }
    for (what, stale) in stale(&written) {
        let found = verify(&stale);
        assert!(!found.is_sound(), "{what}: {:?}", found.remarks);
        fs::remove_dir_all(&stale).unwrap();
        injected += 1;
        *told.entry("fault").or_default() += 1;
    }
    assert!(verify(&written.data).is_sound());
    evidence(
        "shortened, empty, missing, exchanged and stale files are noticed",
        written.seed,
        injected,
        &format!("0 unnoticed: {told:?}"),
    );
}

/// A file of this kind and another one with other content.
fn two_files(
    written: &Written,
    kind: Kind,
    mishap: Mishap,
    random: &mut impl FnMut() -> u64,
) -> (PathBuf, PathBuf) {
    let files = &written.files[&kind];
    loop {
        let pick = below(random, files.len() as u64) as usize;
        let other = below(random, files.len() as u64) as usize;
        let bytes = |index: usize| fs::read(&files[index]).unwrap();
        // The oldest segments go when they are trimmed, so that one of them is gone is nothing to notice; neither is
        // the older checkpoint, or the segment that is made ahead and still empty.
        let last = files.len() - 1;
        let may_go = match kind {
            Kind::Journal => pick == 0 || pick == last,
            Kind::Checkpoint => pick != last,
            _ => false,
        };
        if (mishap == Mishap::Missing && may_go) || pick == other || bytes(pick) == bytes(other) {
            continue;
        }
        return (files[pick].clone(), files[other].clone());
    }
}

/// Copies of the directory in which one thing is as it was before the last checkpoint.
fn stale(written: &Written) -> Vec<(&'static str, PathBuf)> {
    let mut out = Vec::new();
    let checkpoint = state::latest(&written.data.join("checkpoint")).unwrap().unwrap().position;
    let inside = |copy: &Path, file: &Path| copy.join(file.strip_prefix(&written.data).unwrap());
    // The segment with that position, as it was before its first group.
    let copy = written.copy("stale-segment");
    let reaches = |segment: &Path, groups: &[Range<u64>]| {
        let mut head = [0; 64];
        let group = groups.get(1).map_or(0, |range| range.start);
        fs::File::open(segment).unwrap().read_exact_at(&mut head, group).unwrap();
        group > 0 && u64::from_le_bytes(head[16..24].try_into().unwrap()) <= checkpoint.0
    };
    let (segment, _) = written.used.iter().rfind(|(segment, groups)| reaches(segment, groups)).unwrap();
    let mut bytes = fs::read(segment).unwrap();
    bytes[64..].fill(0);
    fs::write(inside(&copy, segment), &bytes).unwrap();
    // A checkpoint under a later one's name.
    let copy = written.copy("stale-checkpoint");
    let [.., older, newest] = &written.files[&Kind::Checkpoint][..] else { panic!("two checkpoints") };
    fs::copy(older, inside(&copy, newest)).unwrap();
    out.push(("a checkpoint under a later one's name", copy));
    // One table without its last version, as in an older copy of its folder.
    let copy = written.copy("stale-table");
    let log = copy.join("lake/ledger_posting/_delta_log");
    let last = entries(&log).into_iter().rfind(|file| is(file, "json")).unwrap();
    let name = last.file_name().unwrap().to_owned();
    fs::remove_file(&last).unwrap();
    fs::remove_file(copy.join("lake/ledger_posting/_urja").join(name)).unwrap();
    out.push(("a table without its last version", copy));
    // The whole lake, or all checkpoints of the logs, from another copy.
    let copy = written.copy("no-table");
    fs::remove_dir_all(copy.join("lake/interval_reading")).unwrap();
    out.push(("a table that is gone", copy));
    out
}

#[test]
fn the_command_names_the_damage_and_a_start_refuses_it_or_is_not_affected() {
    let (written, mut random) = Written::new("command");
    let sound = urja_ok(&written.data, &["inspect", "--verify"]);
    assert_eq!(sound["sound"], true, "{sound}");
    let balances =
        "SELECT account_id, booked_paise, accrued_paise, as_of_position FROM account_state ORDER BY 1";
    let before = {
        let served = Served::start(&written.copy("sound"), &["--config", CONFIG]);
        served.sql(balances)
    };
    let rounds = if full() { 4 } else { 1 };
    let (mut refused, mut started, mut injected) = (0, 0, 0);
    for round in 0..rounds {
        for kind in KINDS {
            let (original, at) = written.place(kind, &mut random);
            let data = written.copy(&format!("{kind:?}-{round}"));
            let file = data.join(original.strip_prefix(&written.data).unwrap());
            let mask = 1 + below(&mut random, 255) as u8;
            exchange(&file, at, |byte| byte ^ mask);
            injected += 1;
            let place = format!("{} byte {at} ^ {mask:#04x}", file.display());
            let out = urja(&data, &["--json", "inspect", "--verify"]);
            let said: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!(out.status.success(), said["sound"] == true, "{place}: {said}");
            let named = |finding: &Value| {
                finding["path"] == file.to_str().unwrap()
                    && finding["do"].as_str().is_some_and(|text| !text.is_empty())
            };
            let mut findings =
                [&said["faults"], &said["remarks"]].into_iter().flat_map(|it| it.as_array().unwrap());
            assert!(findings.any(named), "{place}: {said}");
            if kind == Kind::Checkpoint && written.files[&kind].last() == Some(&original) {
                assert!(!serve_starts(&data, &place), "{place}: a damaged checkpoint is not taken");
                // What the advice says helps.
                urja_ok(&data, &["rebuild"]);
            }
            if serve_starts(&data, &place) {
                started += 1;
                let served = Served::start(&data, &["--config", CONFIG]);
                let after = served.sql(balances);
                assert_eq!(after.len(), before.len(), "{place}");
                let other: Vec<_> = before.iter().zip(&after).filter(|(was, is)| was != is).collect();
                assert!(other.is_empty(), "{place}: {other:?}\n{}", served.log());
            } else {
                refused += 1;
            }
            fs::remove_dir_all(&data).unwrap();
        }
    }
    let result = format!(
        "named by the command; the start refused {refused} and {started} started with the same balances"
    );
    evidence(
        "`urja inspect --verify` names file and remedy of a flipped byte",
        written.seed,
        injected,
        &result,
    );
}

/// Whether `serve` gets ready; when it does not, it names a file.
fn serve_starts(data: &Path, place: &str) -> bool {
    let log = data.with_extension("start");
    let mut served = Served::begin(data, &["--config", CONFIG], &log);
    if served.try_ready() {
        assert_eq!(served.terminate(), 0);
        return true;
    }
    let said = served.log_of_this_start();
    assert!(said.contains(data.to_str().unwrap()), "{place}: {said}");
    false
}
