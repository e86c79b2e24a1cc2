//! W1, W2: how long an acknowledgement takes at half load, against a bare sync of as many bytes, and how many frames a
//! sync serves in a storm.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::world::{INTERVALS, Meter, World, first_day, morning_after};
use benches::{Figure, Floor, Samples, Void, gated, setting};
use ingest::{Acked, Disposition, Framing, Received, Submitter, Ticket};
use model::{CivilDay, Source};
use tokio::sync::mpsc::UnboundedSender;

const METERS: (&str, usize) = ("URJA_BENCH_METERS", 20_000);
const ROUNDS: (&str, usize) = ("URJA_BENCH_ROUNDS", 5);
/// How long a round of load lasts, ms.
const ROUND_MS: (&str, usize) = ("URJA_BENCH_ROUND_MS", 5_000);
/// Frames of the storm that finds the capacity.
const STORM: (&str, usize) = ("URJA_BENCH_STORM", 200_000);
/// Syncs of a round that writes to a bare file.
const BARE_SYNCS: usize = 1_000;
/// The bare file, full of zeros before anything is timed, as a journal's segment is.
const BARE_BYTES: usize = 64 << 20;
/// Load comes in steps of this.
const TICK: Duration = Duration::from_micros(100);
/// Bytes that a group has besides those of its records, about, and a record besides its frame.
const GROUP_OVERHEAD: f64 = 160.0;
const RECORD_OVERHEAD: f64 = 180.0;

fn main() -> ExitCode {
    gated(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(void)?.block_on(run())
    })
}

async fn run() -> Result<(), Void> {
    let parent = std::env::var("URJA_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let dir = tempfile::tempdir_in(parent).map_err(void)?;
    let world = World::open(dir.path(), |_| {}).await.map_err(void)?;
    let meters = setting(METERS.0, METERS.1);
    world.register(1..meters as u32 + 1).await.map_err(void)?;
    let mut pushes = Pushes { meters, next: 0 };
    let capacity = storm(&world, &mut pushes).await?;
    let bare = File::create_new(dir.path().join("bare")).map_err(void)?;
    let zeros = vec![0; 1 << 20];
    for part in 0..BARE_BYTES / zeros.len() {
        bare.write_all_at(&zeros, (part * zeros.len()) as u64).map_err(void)?;
    }
    bare.sync_all().map_err(void)?;
    let (mut ours, mut peer, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting(ROUNDS.0, ROUNDS.1) {
        let round = half_load(&world, &mut pushes, capacity / 2.0).await?;
        println!("#   {round}");
        peer.push(percentile(&mut syncs(&bare, round.group_bytes, Duration::ZERO)?, 0.99));
        ours.push(round.p99_ms);
        let (file, bytes) = (bare.try_clone().map_err(void)?, round.group_bytes);
        let pace = Duration::from_millis(setting(ROUND_MS.0, ROUND_MS.1) as u64) / BARE_SYNCS as u32;
        let beside = std::thread::spawn(move || syncs(&file, bytes, pace));
        let round = half_load(&world, &mut pushes, capacity / 2.0).await?;
        let mut times = beside.join().map_err(|_| Void("a thread panicked".into()))??;
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        println!("#   {round}; a sync beside it: p50 {p50:.2} ms, p99 {p99:.2} ms");
        loaded.push(p99);
    }
    let ours = Samples::of(ours);
    for (id, peer) in [("W1", Samples::of(peer)), ("W1l", Samples::of(loaded))] {
        let ratio = ours.over(&peer);
        let figure = Figure {
            id,
            ours: format!("{:.2} ms p99", ours.median()),
            peer: format!("{:.2} ms p99", peer.median()),
            ratio: ratio.median(),
            spread_percent: ratio.spread_percent(),
            floor: Floor::AtMost(4.0),
        };
        println!("{figure}");
    }
    everything_is_there(&world, &pushes).await?;
    world.pipeline.shutdown().await.map_err(void)
}

/// Pushes of one interval each, no two of the same.
struct Pushes {
    meters: usize,
    next: usize,
}

impl Pushes {
    fn take(&mut self, count: usize) -> Vec<Received> {
        let made = (self.next..self.next + count).map(|number| {
            let (day, interval, meter) = self.place_of(number);
            let counter = (number / self.meters) as u32 + 1;
            let bytes = Meter::new(meter as u32 + 1).push_of_interval(counter, day, interval);
            Received {
                source: Source::Tcp,
                received_at: morning_after(day),
                framing: Framing::Wrapper,
                bytes: bytes.into(),
                identity: None,
            }
        });
        let made = made.collect();
        self.next += count;
        made
    }

    fn place_of(&self, number: usize) -> (CivilDay, usize, usize) {
        let (interval, index) = (number / self.meters, number % self.meters);
        // A prime step, so that neighbours in time are none in memory.
        let meter = index * 7_919 % self.meters;
        (first_day().plus((interval / INTERVALS) as i32), interval % INTERVALS, meter)
    }
}

/// W2: gives pushes as fast as they are taken. Says how many a second come as far as the lake's files.
async fn storm(world: &World, pushes: &mut Pushes) -> Result<f64, Void> {
    let frames = pushes.take(setting(STORM.0, STORM.1));
    let count = frames.len();
    let before = world.pipeline.stats();
    let began = Instant::now();
    let (told, mut tickets) = tokio::sync::mpsc::unbounded_channel();
    let awaiting = tokio::spawn(async move {
        while let Some(ticket) = tickets.recv().await {
            accepted(ticket).await?;
        }
        Ok::<(), Void>(())
    });
    let mut givers = Vec::new();
    let mut frames = frames.into_iter();
    for _ in 0..2 {
        let part: Vec<Received> = frames.by_ref().take(count.div_ceil(2)).collect();
        let (mut submitter, told) = (world.pipeline.submitter(), told.clone());
        givers.push(tokio::spawn(async move {
            for frame in part {
                let ticket = submitter.submit(frame).await.map_err(void)?;
                told.send(ticket).map_err(void)?;
            }
            Ok::<(), Void>(())
        }));
    }
    drop(told);
    for giver in givers {
        giver.await.map_err(void)??;
    }
    awaiting.await.map_err(void)??;
    let after = world.pipeline.stats();
    // What can go on for ever: not only acknowledged, but in the lake's files.
    world.pipeline.checkpoint().await.map_err(void)?;
    let capacity = count as f64 / began.elapsed().as_secs_f64();
    let a_sync = (after.records - before.records) as f64 / (after.groups - before.groups).max(1) as f64;
    println!("# a storm of {count} pushes: {capacity:.0} pushes/s");
    let figure = Figure {
        id: "W2",
        ours: format!("{a_sync:.0} frames"),
        peer: "a sync".into(),
        ratio: a_sync,
        spread_percent: 0.0,
        floor: Floor::AtLeast(1000.0),
    };
    println!("{figure}");
    Ok(capacity)
}

struct Round {
    rate: f64,
    records: f64,
    group_bytes: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// How late pushes were given, which is in their times.
    late_p99_ms: f64,
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Round { rate, records, p50_ms, p99_ms, late_p99_ms, .. } = self;
        write!(
            f,
            "{rate:.0} pushes/s, {records:.0} records a sync, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, given late by \
             p99 {late_p99_ms:.2} ms"
        )
    }
}

/// Gives pushes at a steady rate, whatever becomes of those before, and times each until it is acknowledged.
async fn half_load(world: &World, pushes: &mut Pushes, rate: f64) -> Result<Round, Void> {
    let seconds = setting(ROUND_MS.0, ROUND_MS.1) as f64 / 1e3;
    let frames = pushes.take((rate * seconds) as usize);
    let frame_bytes = frames.first().map_or(0, |frame| frame.bytes.len()) as f64;
    let count = frames.len();
    let before = world.pipeline.stats();
    let (told, mut tickets) = tokio::sync::mpsc::unbounded_channel::<(Instant, Ticket)>();
    let awaiting = tokio::spawn(async move {
        let mut latencies = Vec::with_capacity(count);
        while let Some((began, ticket)) = tickets.recv().await {
            accepted(ticket).await?;
            latencies.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok::<Vec<f64>, Void>(latencies)
    });
    let submitter = world.pipeline.submitter();
    let handle = tokio::runtime::Handle::current();
    let began = Instant::now();
    // On a thread of its own: the timer of the runtime knows whole milliseconds only.
    let giving = tokio::task::spawn_blocking(move || handle.block_on(give(submitter, frames, rate, told)));
    let mut late = giving.await.map_err(void)??;
    let mut latencies = awaiting.await.map_err(void)??;
    let seconds = began.elapsed().as_secs_f64();
    let after = world.pipeline.stats();
    let records = (after.records - before.records) as f64 / (after.groups - before.groups).max(1) as f64;
    Ok(Round {
        rate: count as f64 / seconds,
        records,
        group_bytes: (GROUP_OVERHEAD + records * (frame_bytes + RECORD_OVERHEAD)) as usize,
        p50_ms: percentile(&mut latencies, 0.5),
        p99_ms: percentile(&mut latencies, 0.99),
        late_p99_ms: percentile(&mut late, 0.99),
    })
}

/// Submits each push when it is due; says by how many milliseconds each was late.
async fn give(
    mut submitter: Submitter,
    frames: Vec<Received>,
    rate: f64,
    told: UnboundedSender<(Instant, Ticket)>,
) -> Result<Vec<f64>, Void> {
    let mut late = Vec::with_capacity(frames.len());
    let began = Instant::now();
    for (number, frame) in frames.into_iter().enumerate() {
        // From when it was due, so that a generator that is held up hides nothing.
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        while Instant::now() < due {
            std::thread::sleep(TICK);
        }
        late.push(due.elapsed().as_secs_f64() * 1e3);
        let ticket = submitter.submit(frame).await.map_err(void)?;
        told.send((due, ticket)).map_err(void)?;
    }
    Ok(late)
}

async fn accepted(ticket: Ticket) -> Result<Acked, Void> {
    let acked = ticket.await.map_err(void)?;
    match acked.disposition {
        Disposition::Accepted => Ok(acked),
        other => Err(Void(format!("a push was {other:?}"))),
    }
}

/// Milliseconds of each write and sync of so many bytes to a file that is there already. With a pace they are due one
/// after the other, and timed from then on as pushes are.
fn syncs(file: &File, bytes: usize, pace: Duration) -> Result<Vec<f64>, Void> {
    let content = vec![0x5a; bytes];
    let places = (BARE_BYTES / bytes.max(1)).max(1);
    let mut times = Vec::with_capacity(BARE_SYNCS);
    let first = Instant::now();
    for number in 0..BARE_SYNCS {
        let due = first + pace * number as u32;
        while Instant::now() < due {
            std::thread::sleep(TICK);
        }
        let began = if pace.is_zero() { Instant::now() } else { due };
        file.write_all_at(&content, ((number % places) * bytes) as u64).map_err(void)?;
        file.sync_data().map_err(void)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(index).copied().unwrap_or(f64::NAN)
}

/// Every push that was acknowledged stands in the journal and has its row.
async fn everything_is_there(world: &World, pushes: &Pushes) -> Result<(), Void> {
    world.pipeline.checkpoint().await.map_err(void)?;
    let snapshot = world.lake.snapshot();
    let last = pushes.place_of(pushes.next - 1).0;
    let mut rows = 0;
    let mut day = first_day();
    while day <= last {
        rows += benches::read::interval_sums(&snapshot, day, []).map_err(void)?.0;
        day = day.next();
    }
    let dir: &Path = &world.dir.join("journal");
    let journaled: u64 = journal::verify(dir).map_err(void)?.records;
    let sent = pushes.next as u64;
    if rows == sent && journaled >= sent {
        Ok(())
    } else {
        Err(Void(format!("{sent} pushes were acknowledged, {rows} rows and {journaled} records are there")))
    }
}

fn void(error: impl std::fmt::Display) -> Void {
    Void(error.to_string())
}
