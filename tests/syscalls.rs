//! System calls that fail: EIO and ENOSPC on the n-th call of each kind, and a disk that is really full.
//!
//! After a failed sync nothing is acknowledged any more, the process ends and names the file, and no file is synced a
//! second time. A full disk is no failed sync: the head-end waits for space, and goes on by itself.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::registered;
use crate::crash::provision_with;
use crate::harness::{
    Fault, Remains, Served, Strace, Witness, evidence, file_of, full, root, seeded, skip, try_for, urja,
    urja_ok, wait_for,
};
use crate::kills::{Load, config_file};

/// Meters of the fleets.
const METERS: &str = "120";
/// Exit code of `urja serve` after a failed sync.
const FAILED: i32 = 70;
const CONFIG: &str = "small-segments.toml";

/// Which calls of a kind fail: each of the first `most`, or some of them.
fn numbers(most: u32, some: u32, random: &mut impl FnMut() -> u64) -> Vec<u32> {
    if full() {
        return (1..=most).collect();
    }
    (0..some).map(|_| 1 + u32::try_from(random() % u64::from(most)).unwrap()).collect()
}

fn once<'a>(thread: Option<&'a str>, calls: &'a str, error: &'a str, number: u32) -> Fault<'a> {
    Fault { thread, calls, error, first: number, last: number, paths: &[] }
}

/// A head-end under load, and what is known of it from outside.
struct Stage {
    load: Load,
    served: Option<Served>,
    witness: Witness,
    /// Last record that was looked at.
    last: u64,
    injected: u32,
}

impl Stage {
    fn new(seed: u64) -> Stage {
        let (load, served) = Load::start(seed, METERS, CONFIG);
        Stage::on(load, served)
    }

    fn on(load: Load, served: Served) -> Stage {
        let witness = Witness::new(&load.truth);
        Stage { load, served: Some(served), witness, last: 0, injected: 0 }
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    fn attach(&mut self, fault: &Fault<'_>) -> Strace {
        self.load.goes_on();
        self.injected += 1;
        let trace = self.load.data.with_extension(format!("trace-{}", self.injected));
        Strace::attach(self.served().pid(), fault, &trace)
    }

    /// The fault ends the process: it names the file, does not touch it again, and acknowledged nothing of it.
    fn stops(&mut self, fault: &Fault<'_>) {
        self.stops_naming(fault, None, |_, _| ());
    }

    /// As [`Stage::stops`], for a fault that does not come by itself; `named` is what is named where it is not the file.
    fn stops_naming(
        &mut self,
        fault: &Fault<'_>,
        named: Option<&Path>,
        bring_about: impl FnOnce(&Stage, &Strace),
    ) {
        let before = self.served().log().len();
        let strace = self.attach(fault);
        bring_about(self, &strace);
        let served = self.served.take().unwrap();
        assert_eq!(served.ended(), FAILED, "{fault:?}");
        let lines = strace.lines();
        let at = lines.iter().position(|line| line.contains("(INJECTED)"));
        let at = at.unwrap_or_else(|| panic!("{fault:?}: ended without the fault: {lines:?}"));
        let named = named.map(|path| path.display().to_string());
        let file = named.unwrap_or_else(|| file_of(&lines[at]).unwrap().to_owned());
        let log = std::fs::read_to_string(self.load.data.with_extension("log")).unwrap();
        assert!(log[before..].contains(&file), "{fault:?}: {file} is not named in {}", &log[before..]);
        let again: Vec<&String> =
            lines[at + 1..].iter().filter(|line| file_of(line) == Some(&file)).collect();
        assert!(again.is_empty(), "{fault:?}: {file} was touched again: {again:?}");
        self.look_at_remains(fault);
        self.served = Some(self.load.again());
    }

    /// What was not known to be synced must not have been acknowledged; what was acknowledged is in the journal.
    fn look_at_remains(&mut self, fault: &Fault<'_>) {
        let mark = self.witness.mark();
        self.witness.follow(mark);
        let remains = Remains::of(&self.load.data, self.last);
        self.last = remains.last;
        if fault.thread == Some("journal") && fault.calls == "fdatasync" {
            let unsynced = remains.frames.iter().filter(|(position, _)| *position > remains.proven);
            let told: Vec<_> =
                unsynced.filter(|(_, digest)| self.witness.confirmed.contains(digest)).collect();
            assert!(told.is_empty(), "{fault:?}: acknowledged although the sync failed: {told:?}");
        }
    }

    /// The fault is survived: frames are acknowledged and checkpoints taken after it.
    fn goes_on(&mut self, fault: &Fault<'_>) {
        let strace = self.attach(fault);
        self.sees(&strace, fault);
        self.works();
        strace.detach();
    }

    /// Lets the journal grow by 1 MiB at a time until something is so: by so many tariffs that nobody has. The first body
    /// of each stays in the checkpoint, later ones are refused as another version.
    fn swell(&self, tariffs: usize, mut until: impl FnMut() -> bool) -> bool {
        let tariff = std::fs::read_to_string(root().join("ledger/tariffs/lmv1-urban.toml")).unwrap();
        let padding = "# nothing\n".repeat(100_000);
        (0..30).any(|number| {
            let named = tariff.replace("\"lmv1-urban\"", &format!("\"unused-{}\"", number % tariffs));
            let body = format!("{named}\n# {number}\n{padding}");
            // Where the process has ended there is nobody to take it.
            if let Ok(mut owner) = UnixStream::connect(self.load.data.join("admin.sock")) {
                let length = body.len();
                // Where the reserve is full as well it waits for space, and so does not answer.
                owner.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let head =
                    "POST /admin/tariffs HTTP/1.1\r\nhost: urja\r\nconnection: close\r\ncontent-length:";
                let _ = owner.write_all(format!("{head} {length}\r\n\r\n{body}").as_bytes());
                let _ = owner.read_to_end(&mut Vec::new());
            }
            until()
        })
    }

    fn sees(&self, strace: &Strace, fault: &Fault<'_>) {
        let injected = (0..3).find_map(|_| try_for(|| (!strace.injected().is_empty()).then_some(())));
        assert!(injected.is_some(), "{fault:?}: no such call; {:?}", strace.lines().last());
    }

    fn works(&mut self) {
        let (confirmed, checkpoint) = (self.confirmed(), self.checkpoint());
        wait_for("frames are acknowledged", || (self.confirmed() > confirmed).then_some(()));
        wait_for("a checkpoint is taken", || (self.checkpoint() > checkpoint).then_some(()));
        wait_for("ready", || self.is_ready().then_some(()));
    }

    fn confirmed(&mut self) -> usize {
        let mark = self.witness.mark();
        self.witness.follow(mark);
        self.witness.confirmed.len()
    }

    fn checkpoint(&self) -> u64 {
        let names = std::fs::read_dir(self.load.data.join("checkpoint")).into_iter().flatten();
        let position = |name: String| name.strip_suffix(".checkpoint")?.parse::<u64>().ok();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(position).max().unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        self.served().get("health", "/health/readyz").0 == 200
    }

    /// Somebody pays, and the fleet's truth knows of it.
    fn recharge(&self) {
        let text = std::fs::read_to_string(&self.load.truth).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let meter = lines.find(|line| line["line"] == "meter").unwrap();
        let (account, id) = (meter["account"].as_str().unwrap(), format!("full-{}", self.injected));
        let paid = urja_ok(&self.load.data, &["recharge", account, "100", "--payment-id", &id]);
        let line = json!({
            "line": "recharge", "account": account, "paise": 10_000, "payment_id": id,
            "outcome": paid["outcome"],
        });
        assert_eq!(paid["outcome"], "posted");
        let mut truth = std::fs::OpenOptions::new().append(true).open(&self.load.truth).unwrap();
        truth.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The books after all faults.
    fn finish(mut self, promise: &str, seed: u64) {
        let served = self.served.take().unwrap();
        let (injected, restarts) = (self.injected, served.log().matches(" ready ").count());
        let summary = self.load.finish(served);
        let result =
            format!("{} frames confirmed, {restarts} starts, books as the model's", summary["confirmed"]);
        evidence(promise, seed, injected, &result);
    }
}

#[test]
fn a_failed_sync_or_write_of_the_journal_ends_the_process_and_nothing_of_it_is_acknowledged() {
    if !Strace::is_there() {
        return;
    }
    let (seed, mut random) = seeded("journal EIO");
    let mut stage = Stage::new(seed);
    // The next segment is made ahead, by a thread of its own: its name is the directory's.
    let journal = stage.load.data.join("journal").canonicalize().unwrap();
    for _ in 0..numbers(3, 1, &mut random).len() {
        let fault = Fault { paths: std::slice::from_ref(&journal), ..once(None, "fdatasync", "EIO", 1) };
        // It comes with the next segment, for which the journal has to grow.
        stage.stops_naming(&fault, Some(&journal), |stage, strace| {
            stage.swell(1, || !strace.injected().is_empty());
        });
    }
    for number in numbers(40, 4, &mut random) {
        stage.stops(&once(Some("journal"), "fdatasync", "EIO", number));
    }
    for number in numbers(20, 2, &mut random) {
        stage.stops(&once(Some("journal"), "pwrite64", "EIO", number));
    }
    stage.finish(
        "EIO on the n-th sync or write of the journal: no acknowledgement after it, exit, no second sync",
        seed,
    );
}

#[test]
fn a_failed_sync_of_the_lake_or_the_checkpoint_ends_the_process_and_costs_nothing() {
    if !Strace::is_there() {
        return;
    }
    let (seed, mut random) = seeded("lake EIO");
    let mut stage = Stage::new(seed);
    // A commit of nine tables and a checkpoint are some fifty syncs.
    for number in numbers(60, 5, &mut random) {
        stage.stops(&once(Some("lake"), "fsync", "EIO", number));
    }
    // A large checkpoint is synced by the mebibyte while it is written.
    for number in numbers(6, 1, &mut random) {
        stage.stops_naming(&once(Some("lake"), "fdatasync", "EIO", number), None, |stage, strace| {
            stage.swell(4, || !strace.injected().is_empty());
        });
    }
    stage.finish("EIO on the n-th sync of lake and checkpoint: exit, no second sync, nothing lost", seed);
}

#[test]
fn no_space_for_lake_or_checkpoint_holds_up_no_acknowledgement_and_is_tried_again() {
    if !Strace::is_there() {
        return;
    }
    let (seed, mut random) = seeded("lake ENOSPC");
    let mut stage = Stage::new(seed);
    // Not `write`: most of them wake a runtime's threads. Writes to files fail on the full disk below.
    let kinds = [
        ("lake", "openat", "ENOSPC"),
        ("lake", "/^rename", "ENOSPC"),
        ("lake", "/^rename", "EIO"),
        ("lake-delta", "openat", "ENOSPC"),
        ("lake-delta", "linkat", "ENOSPC"),
    ];
    for (thread, calls, error) in kinds {
        for number in numbers(if thread == "lake" { 40 } else { 10 }, 2, &mut random) {
            stage.goes_on(&once(Some(thread), calls, error, number));
        }
    }
    for number in numbers(10, 1, &mut random) {
        let sidecars = sidecars_to_come(&stage.load.data.join("lake"));
        stage.goes_on(&Fault { paths: &sidecars, ..once(Some("lake"), "write", "ENOSPC", number) });
    }
    assert!(!stage.served().log().contains("stops for good"), "the process went on");
    let out = urja(&stage.load.data, &["inspect", "lake", "--verify"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    stage.finish("ENOSPC on the n-th call for lake and checkpoint: acknowledging goes on, tried again", seed);
}

/// Where the sidecars of the next commits are written before they get their names.
fn sidecars_to_come(lake: &Path) -> Vec<PathBuf> {
    let tables = std::fs::read_dir(lake.canonicalize().unwrap()).unwrap();
    let folders = tables.map(|table| table.unwrap().path().join("_urja"));
    let names = |folder: PathBuf| {
        let versions = std::fs::read_dir(&folder).unwrap().filter_map(|entry| {
            entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.parse::<u64>().ok()
        });
        let last = versions.max().unwrap_or_default();
        (last + 1..last + 30)
            .map(move |version| folder.join(format!("{version:020}.tmp")))
            .collect::<Vec<_>>()
    };
    folders.flat_map(names).collect()
}

#[test]
fn no_space_for_the_journal_stops_acknowledging_until_there_is_some() {
    if !Strace::is_there() {
        return;
    }
    let (seed, mut random) = seeded("journal ENOSPC");
    let mut stage = Stage::new(seed);
    // Only a young journal has no segment to recycle.
    let mut faults = vec![once(None, "fallocate", "ENOSPC", 1)];
    let writes = numbers(40, 2, &mut random).into_iter();
    faults.extend(writes.map(|number| once(Some("journal"), "pwrite64", "ENOSPC", number)));
    for fault in faults {
        let fault = Fault { last: fault.first + 100, ..fault };
        let strace = stage.attach(&fault);
        let stood = if fault.calls == "fallocate" {
            stage.swell(1, || (0..20).any(|_| !stage.is_ready()))
        } else {
            try_for(|| (!stage.is_ready()).then_some(())).is_some()
        };
        assert!(stood, "{fault:?}: ready although the journal has no room");
        assert!(!strace.injected().is_empty(), "{fault:?}: not ready for another reason");
        wait_for("ready when there is room", || stage.is_ready().then_some(()));
        stage.works();
        strace.detach();
    }
    assert!(!stage.served().log().contains("stops for good"), "the process went on");
    stage.finish("ENOSPC on the n-th write of the journal: not ready, goes on when there is space", seed);
}

#[test]
fn no_space_for_the_registry_refuses_a_command_whole() {
    if !Strace::is_there() {
        return;
    }
    let (seed, mut random) = seeded("registry ENOSPC");
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    let place = data.canonicalize().unwrap();
    let files = ["registry.db", "registry.db-wal", "registry.db-journal"].map(|name| place.join(name));
    let accounts = || served.number("SELECT count(*) FROM account");
    let (mut injected, mut refused) = (0, 0);
    // An import makes some ten writes.
    for (turn, number) in numbers(12, 8, &mut random).into_iter().enumerate() {
        let csv = dir.path().join(format!("more-{turn}.csv"));
        let lines =
            (0..2).map(|one| format!("PUVVNL2{:09},lmv1-urban,4,2026-04-01,0,100,prepaid\n", turn * 2 + one));
        let head = "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection\n";
        std::fs::write(&csv, lines.fold(head.to_owned(), |text, line| text + &line)).unwrap();
        let before = accounts();
        let fault = Fault { paths: &files, ..once(None, "pwrite64", "ENOSPC", number) };
        let strace = Strace::attach(served.pid(), &fault, &dir.path().join(format!("trace-{turn}")));
        let out = urja(&data, &["account", "import", &csv.display().to_string()]);
        let met = !strace.injected().is_empty();
        strace.detach();
        injected += u32::from(met);
        refused += u32::from(!out.status.success());
        assert!(met || out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let now = accounts();
        assert!(
            now == before + 2 || (now == before && !out.status.success()),
            "{before} accounts, then {now}"
        );
        // Whatever it was, the same command brings it to its end.
        urja_ok(&data, &["account", "import", &csv.display().to_string()]);
        assert_eq!(accounts(), before + 2);
        assert_eq!(served.number("SELECT count(*) FROM account_state"), before + 2);
    }
    assert_eq!(served.get("health", "/health/readyz").0, 200);
    assert_eq!(served.terminate(), 0);
    assert!(refused > 0, "no command was refused");
    let result = format!("{refused} commands refused whole, all done when given again");
    evidence("ENOSPC on the n-th write of the registry: refused whole or done", seed, injected, &result);
}

/// A file system of a few MiB in an image.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    fn mount(image: &Path, place: &Path, mib: u64) -> Option<SmallDisk> {
        std::fs::File::create(image).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir_all(place).unwrap();
        let run = |program: &str, args: &[&str]| {
            let path = "/usr/sbin:/sbin:/usr/bin:/bin";
            Command::new(program).env("PATH", path).args(args).output().is_ok_and(|out| out.status.success())
        };
        let (image, at) = (image.display().to_string(), place.display().to_string());
        if !run("mkfs.ext4", &["-q", "-m", "0", "-O", "^has_journal", &image])
            || !run("mount", &["-o", "loop", &image, &at])
        {
            skip("a loop device and ext4");
            return None;
        }
        Some(SmallDisk { place: place.to_owned() })
    }

    /// Takes what space there is.
    fn fill(&self) {
        let ballast = self.place.join("ballast");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(ballast).unwrap();
        for piece in [1 << 20, 4096, 1] {
            while file.write_all(&vec![b'b'; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.place.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l".as_ref(), self.place.as_os_str()]).status();
    }
}

#[test]
fn a_full_disk_is_waited_out_while_recharges_pass() {
    let (seed, _) = seeded("full disk");
    let (home, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = home.path().join("data");
    let Some(disk) = SmallDisk::mount(&home.path().join("disk.img"), &data, 128) else { return };
    provision_with(&data, &dir.path().join("fleet"), seed, METERS, &["--config", &config_file(CONFIG)]);
    let (load, served) = Load::on(dir, data, seed, METERS, CONFIG);
    let mut stage = Stage::on(load, served);
    let rounds = numbers(3, 1, &mut || 0).len();
    for _ in 0..rounds {
        stage.works();
        stage.injected += 1;
        // What a commit that failed gave back is taken as well.
        let full = stage.swell(1, || {
            (0..20).any(|_| {
                disk.fill();
                !stage.is_ready()
            })
        });
        assert!(full, "the journal found room on a full disk");
        let confirmed = stage.confirmed();
        stage.recharge();
        disk.fill();
        assert!(!stage.is_ready(), "the recharge passed because there was room");
        assert_eq!(stage.confirmed(), confirmed, "acknowledged on a full disk");
        disk.free();
        wait_for("ready when there is room", || stage.is_ready().then_some(()));
        stage.works();
    }
    assert!(!stage.served().log().contains("stops for good"), "the process went on");
    stage.finish("a full disk: not ready, recharges pass by the reserve, goes on by itself", seed);
    drop(disk);
}
