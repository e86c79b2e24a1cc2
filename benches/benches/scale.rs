//! M3, C1, C2: what a registered meter and its account take in memory, what a large fleet costs a reading, and how
//! long a start takes after a kill.
//!
//! Each step runs in a process of its own on one data directory, so that nothing but the partition's state is in its
//! memory, and so that a kill is one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use benches::world::{INTERVALS, Meter, World, first_day, morning_after, shuffled};
use benches::{Figure, Floor, Void, gated, process_cpu, setting};
use ingest::{Framing, PipelineOptions, Received};
use lake::Table;
use model::{CivilDay, Source};

/// Meters of the small fleet.
const SMALL: (&str, usize) = ("URJA_BENCH_SMALL", 100_000);
/// Meters that the large fleet has more.
const MORE: (&str, usize) = ("URJA_BENCH_MORE", 1_000_000);
/// Pushes of one interval by which the cost of a reading is measured.
const PUSHES: (&str, usize) = ("URJA_BENCH_PUSHES", 200_000);
/// Readings in the journal that no checkpoint holds.
const UNFOLDED: (&str, usize) = ("URJA_BENCH_UNFOLDED", 10_000_000);
/// Rounds of C1.
const ROUNDS: usize = 3;
/// What a step is told, in the environment of its process.
const STEP: &str = "URJA_BENCH_STEP";
const DIR: &str = "URJA_BENCH_STEP_DIR";
const FIRST: &str = "URJA_BENCH_STEP_FIRST";
const COUNT: &str = "URJA_BENCH_STEP_COUNT";
/// Says that a step has come to its end.
const DONE: &str = "done";

fn main() -> ExitCode {
    let Ok(step) = std::env::var(STEP) else { return gated(all) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(void).and_then(|runtime| runtime.block_on(run(&step)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(Void(reason)) => {
            println!("failed {reason}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<(), Void> {
    let parent = std::env::var("URJA_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let dir = tempfile::tempdir_in(parent).map_err(void)?;
    let dir = dir.path();
    let (small, more) = (setting(SMALL.0, SMALL.1), setting(MORE.0, MORE.1));
    step("accounts", dir, 1, small)?;
    step("meters", dir, 1, small)?;
    let few = step("open", dir, 0, small)?.number("rss")?;
    let small_cost = step("push", dir, 0, small)?.numbers("ns")?;
    let few_active = step("open", dir, 0, small)?.number("rss")?;
    step("accounts", dir, small + 1, more)?;
    let more_accounts = step("open", dir, 0, small)?.number("rss")?;
    step("meters", dir, small + 1, more)?;
    let more_meters = step("open", dir, 0, small + more)?.number("rss")?;
    println!("# active meters and accounts take {:.0} B more", (few_active - few) / small as f64);
    memory("M3m", more_meters - more_accounts, more);
    memory("M3a", more_accounts - few_active, more);
    let large_cost = step("push", dir, 1, small + more)?.numbers("ns")?;
    cost(&small_cost, &large_cost);
    start_after_kill(dir, small + more)
}

fn memory(id: &'static str, bytes: f64, count: usize) {
    let each = bytes / count as f64;
    let ours = format!("{each:.1} B");
    let floor = Floor::AtMost(128.0);
    println!("{}", Figure { id, ours, peer: "128 B".into(), ratio: each, spread_percent: 0.0, floor });
}

fn cost(small: &[f64], large: &[f64]) {
    let (small, large) =
        (benches::Samples::of(small.iter().copied()), benches::Samples::of(large.iter().copied()));
    let ratio = large.over(&small);
    let figure = Figure {
        id: "C1",
        ours: format!("{:.0} ns", large.median()),
        peer: format!("{:.0} ns", small.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::AtMost(1.6),
    };
    println!("{figure}");
}

/// C2: fills the journal with readings that no checkpoint holds, kills the process, and opens the partition again.
fn start_after_kill(dir: &Path, meters: usize) -> Result<(), Void> {
    let readings = setting(UNFOLDED.0, UNFOLDED.1);
    let mut filling = spawn("fill", dir, meters, readings)?;
    let filled = Said::of(&mut filling, false);
    // The process stands and waits for this.
    filling.kill().map_err(void)?;
    filling.wait().map_err(void)?;
    let sent = filled?.number("rows")?;
    let opened = step("start", dir, 2, meters)?;
    let (seconds, found) = (opened.number("seconds")?, opened.number("rows")?);
    if found < sent {
        return Err(Void(format!("{sent} readings were acknowledged before the kill, {found} are there")));
    }
    let figure = Figure {
        id: "C2",
        ours: format!("{seconds:.1} s"),
        peer: "60 s".into(),
        ratio: seconds,
        spread_percent: 0.0,
        floor: Floor::AtMost(60.0),
    };
    println!("{figure}");
    Ok(())
}

/// What a step printed: a word, then numbers, a line.
struct Said(Vec<(String, Vec<f64>)>);

impl Said {
    /// Reads what a process says until it is done; `None` where it ends before.
    fn of(child: &mut Child, to_the_end: bool) -> Result<Said, Void> {
        let output = child.stdout.take().ok_or_else(|| Void("no output".into()))?;
        let mut said = Vec::new();
        let mut is_done = false;
        for line in BufReader::new(output).lines() {
            let line = line.map_err(void)?;
            if line.starts_with("failed ") {
                return Err(Void(line));
            }
            is_done |= line == DONE;
            if is_done && !to_the_end {
                break;
            }
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default().to_owned();
            said.push((word, words.filter_map(|number| number.parse().ok()).collect()));
        }
        if is_done { Ok(Said(said)) } else { Err(Void("a step ended before it was done".into())) }
    }

    fn numbers(&self, word: &str) -> Result<Vec<f64>, Void> {
        let found = self.0.iter().find(|(other, _)| other == word);
        found.map(|(_, numbers)| numbers.clone()).ok_or_else(|| Void(format!("a step did not say {word}")))
    }

    fn number(&self, word: &str) -> Result<f64, Void> {
        self.numbers(word)?.first().copied().ok_or_else(|| Void(format!("no number of {word}")))
    }
}

fn spawn(step: &str, dir: &Path, first: usize, count: usize) -> Result<Child, Void> {
    let own = std::env::current_exe().map_err(void)?;
    let mut command = Command::new(own);
    command.env(STEP, step).env(DIR, dir).env(FIRST, first.to_string()).env(COUNT, count.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(void)
}

fn step(step: &str, dir: &Path, first: usize, count: usize) -> Result<Said, Void> {
    let began = Instant::now();
    let mut child = spawn(step, dir, first, count)?;
    let said = Said::of(&mut child, true);
    child.wait().map_err(void)?;
    println!("# {step} {first} {count}: {:.1} s", began.elapsed().as_secs_f64());
    said
}

async fn run(step: &str) -> Result<(), Void> {
    let dir = std::env::var(DIR).map_err(void)?;
    let dir = Path::new(&dir);
    let (first, count) = (setting(FIRST, 0) as u32, setting(COUNT, 0));
    let numbers = first..first + count as u32;
    match step {
        "accounts" => {
            let world = open(dir, |_| {}).await?;
            world.apply_tariff().await.map_err(void)?;
            world.register_accounts(numbers).await.map_err(void)?;
            close(world).await?;
        }
        "meters" => {
            let world = open(dir, |_| {}).await?;
            world.register_meters(numbers).await.map_err(void)?;
            close(world).await?;
        }
        "open" => {
            let world = open(dir, |_| {}).await?;
            println!("rss {}", resident_bytes()?);
            close(world).await?;
        }
        "push" => push(dir, first as i32, count).await?,
        "fill" => fill(dir, first as usize, count).await?,
        "start" => start(dir, first as i32).await?,
        other => return Err(Void(format!("no step {other}"))),
    }
    println!("{DONE}");
    Ok(())
}

/// Pushes one interval each of meters drawn at random, and says what a reading costs in CPU time.
async fn push(dir: &Path, day: i32, meters: usize) -> Result<(), Void> {
    let world = open(dir, |_| {}).await?;
    let day = first_day().plus(day);
    world.clock.set(morning_after(day));
    let mut costs = Vec::new();
    let pushes = setting(PUSHES.0, PUSHES.1).min(meters);
    for round in 0..ROUNDS {
        let frames: Vec<Vec<u8>> = shuffled(meters)
            .take(pushes)
            .map(|index| {
                let counter = (day.0 as u32 % 1000 + 1) * 100 + round as u32;
                Meter::new(index as u32 + 1).push_of_interval(counter, day, round)
            })
            .collect();
        let began = process_cpu();
        submit_all(&world, frames, day).await?;
        world.pipeline.checkpoint().await.map_err(void)?;
        costs.push((process_cpu() - began) / pushes as f64);
    }
    let listed: Vec<String> = costs.iter().map(f64::to_string).collect();
    println!("ns {}", listed.join(" "));
    close(world).await
}

async fn submit_all(world: &World, frames: Vec<Vec<u8>>, day: CivilDay) -> Result<(), Void> {
    let mut submitter = world.pipeline.submitter();
    let count = frames.len();
    let mut tickets = Vec::with_capacity(count);
    for frame in frames {
        let received = Received {
            source: Source::Tcp,
            received_at: morning_after(day),
            framing: Framing::Wrapper,
            bytes: frame.into(),
            identity: None,
        };
        tickets.push(submitter.submit(received).await.map_err(void)?);
    }
    for ticket in tickets {
        let acked = ticket.await.map_err(void)?;
        if acked.disposition != ingest::Disposition::Accepted {
            return Err(Void(format!("a push was {:?}", acked.disposition)));
        }
    }
    Ok(())
}

/// Fills the journal with days of readings while nothing is committed, says so, and waits for its end.
async fn fill(dir: &Path, meters: usize, readings: usize) -> Result<(), Void> {
    let world = open(dir, |options| {
        options.commit_every = Duration::from_secs(24 * 3600);
        options.commit_bytes = usize::MAX;
        options.max_hot_bytes = usize::MAX;
    })
    .await?;
    let day = first_day().plus(2);
    world.clock.set(morning_after(day));
    let frames = (readings / INTERVALS).min(meters);
    let indexes: Vec<usize> = shuffled(meters).take(frames).collect();
    for part in indexes.chunks(10_000) {
        let made = part.iter().map(|index| Meter::new(*index as u32 + 1).push_of_day(50_000_000, day));
        submit_all(&world, made.collect(), day).await?;
    }
    println!("rows {}", frames * INTERVALS);
    println!("{DONE}");
    std::future::pending().await
}

/// Opens the partition and says how long that took until frames are taken, then what is there.
async fn start(dir: &Path, day: i32) -> Result<(), Void> {
    let began = Instant::now();
    let world = open(dir, |_| {}).await?;
    println!("seconds {}", began.elapsed().as_secs_f64());
    let snapshot = world.lake.snapshot();
    let day = first_day().plus(day);
    let (rows, []) = benches::read::interval_sums(&snapshot, day, []).map_err(void)?;
    let all = snapshot.table(Table::IntervalReading);
    let held: u64 = all.files.iter().map(|file| file.rows).sum();
    println!("# {held} rows of all days in {} files", all.files.len());
    println!("rows {rows}");
    Ok(())
}

async fn open(dir: &Path, change: impl FnOnce(&mut PipelineOptions)) -> Result<World, Void> {
    World::open(dir, change).await.map_err(void)
}

async fn close(world: World) -> Result<(), Void> {
    let World { pipeline, registry, .. } = world;
    pipeline.shutdown().await.map_err(void)?;
    registry.close().await;
    Ok(())
}

/// Memory of this process that is its own and not a file's.
fn resident_bytes() -> Result<f64, Void> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(void)?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024.0).ok_or_else(|| Void("no RssAnon".into()))
}

fn void(error: impl std::fmt::Display) -> Void {
    Void(error.to_string())
}
