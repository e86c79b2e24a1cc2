//! Storms: far more, far slower or far worse than a head-end can take. What is genuine goes on at nearly full speed,
//! memory keeps to its bounds, nothing confirmed is lost.
//!
//! Every figure is a ratio to the capacity that the same load has on the same server before and after the storm. Storms
//! run one after the other. `./test` runs them with nothing beside them (`URJA_ALONE`) and asserts the ratio; a plain
//! `cargo test` runs other tests beside them and asserts counts and bounds only.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::load::{Load, Taken, WINDOW, confirmed_id, wrapped};
use crate::harness::{Broker, DEADLINE, Served, evidence, full, seeded, shared_deadline, skip, wait_for};

const MIB: u64 = 1 << 20;
/// Concentrators by which capacity is measured: few, for their threads want the same cores.
const CONCENTRATORS: usize = 4;
/// Frames by which the window's length is found.
const FIRST: usize = 4_000;
/// Storms of a kind, in the full run and in the gate; an odd number has a median.
const STORMS: (usize, usize) = (5, 3);
/// Where strangers come from; genuine meters come from 127.0.0.1.
const STRANGER: [u8; 4] = [127, 0, 0, 2];

/// The large count or the small one.
fn scaled(full_count: usize, gate_count: usize) -> usize {
    if full() { full_count } else { gate_count }
}

/// Least share of a capacity. In the gate it is `in_gate`: a storm there lasts for a third of a second, on the build of the
/// tests, and tells that nothing stands still.
fn floor(in_gate: f64) -> f64 {
    match (full(), is_alone()) {
        (true, _) => 0.9,
        (false, true) => in_gate,
        // Other tests run beside it: the ratio is printed, counts and bounds are asserted.
        (false, false) => 0.0,
    }
}

fn is_alone() -> bool {
    std::env::var_os("URJA_ALONE").is_some()
}

/// Frames that were taken in, how long that took, and how long the head-end computed for it.
#[derive(Clone, Copy, Debug)]
struct Measured {
    taken: Taken,
    cpu_seconds: f64,
}

impl Measured {
    /// Frames a second of the clock.
    fn rate(self) -> f64 {
        self.taken.rate()
    }

    /// Frames a second of the head-end's own time.
    fn cpu_rate(self) -> f64 {
        self.taken.frames as f64 / self.cpu_seconds
    }
}

/// What is left of a capacity: by the head-end's own time, and by the clock.
#[derive(Clone, Copy, Debug)]
struct Goodput {
    cpu: f64,
    clock: f64,
}

impl std::fmt::Display for Goodput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "goodput {:.2} by the head-end's own time, {:.2} by the clock", self.cpu, self.clock)
    }
}

/// One storm at a time, or each would be the other's.
static TURN: Mutex<()> = Mutex::new(());

/// A head-end with registered meters, and the load they make.
struct Field {
    served: Served,
    load: Arc<Load>,
    /// Frames of one measurement.
    window: usize,
    /// Most memory it had before the storm, bytes.
    peak_before: u64,
    seed: u64,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Field {
    /// Quick timeouts in the gate, so that the end of a slow socket can be awaited; small groups and commits, so that
    /// bounds of memory are near.
    fn new(storm: &str, extra: &[(&str, &str)], args: &[&str]) -> Field {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let (seed, _) = seeded(storm);
        let defaults = [
            ("URJA_TIME__CLOCK", "driven"),
            ("URJA_JOURNAL__GROUP", "1MiB"),
            ("URJA_LAKE__COMMIT_BYTES", "32MiB"),
            ("URJA_LISTEN__MAX_CONNECTIONS", "16000"),
            ("URJA_LISTEN__MAX_CONNECTIONS_PER_ADDRESS", "10000"),
        ];
        let env: Vec<(&str, &str)> = defaults.iter().chain(extra).copied().collect();
        let served = Served::start_with(&dir.path().join("data"), args, &env);
        // Every number of concentrators divides it, so that a meter keeps to one of them.
        let meters = u32::try_from(scaled(115_200, 4_800)).unwrap();
        let load = Arc::new(Load::register(&served, dir.path(), seed, meters));
        let mut field = Field { served, load, window: FIRST, peak_before: 0, seed, dir, _turn: turn };
        let first = field.capacity();
        let seconds = if full() { 6.0 } else { 1.2 };
        // One for each storm, one more than that for calms, and two for what a storm does besides.
        let windows = 2 * scaled(STORMS.0, STORMS.1) + 3;
        field.window = ((first.rate() * seconds) as usize).clamp(FIRST / 4, field.load.left() / windows);
        field.peak_before = field.memory("VmHWM");
        field
    }

    fn tcp(&self) -> SocketAddr {
        self.served.address("tcp")
    }

    /// Takes a window of frames in.
    fn capacity(&self) -> Taken {
        self.load.take_in(self.tcp(), CONCENTRATORS, self.window)
    }

    /// Goodput in storms as a share of the capacity before and after each, and what was injected.
    ///
    /// A storm's senders run on the head-end's own cores, which is why the head-end's own time counts first. The
    /// machine's speed drifts by more than what is looked for: storms and calms take turns, and the median of the storms
    /// counts.
    fn goodput(&self, what: &str, mut storm: impl FnMut() -> Storm) -> (Goodput, u64) {
        let (mut cpu, mut clock, mut injected) = (Vec::new(), Vec::new(), 0);
        let (mut before, _) = self.measure(None::<fn() -> Storm>);
        for _ in 0..scaled(STORMS.0, STORMS.1) {
            let (during, sent) = self.measure(Some(&mut storm));
            let (after, _) = self.measure(None::<fn() -> Storm>);
            injected += sent;
            let share = |rate: fn(Measured) -> f64| 2.0 * rate(during) / (rate(before) + rate(after));
            cpu.push(share(Measured::cpu_rate));
            clock.push(share(Measured::rate));
            println!(
                "{what}: capacity {:.0}/s, in the storm {:.0}/s, after it {:.0}/s: {:.2}; by its own time {:.0}, {:.0}, \
                 {:.0}: {:.2}; {sent} injected",
                before.rate(),
                during.rate(),
                after.rate(),
                clock.last().unwrap(),
                before.cpu_rate(),
                during.cpu_rate(),
                after.cpu_rate(),
                cpu.last().unwrap()
            );
            before = after;
        }
        let goodput = Goodput { cpu: median(cpu), clock: median(clock) };
        let enough = goodput.cpu >= floor(0.4) && goodput.clock >= floor(0.6);
        assert!(enough, "{what}: {goodput}; at least {} and {}", floor(0.4), floor(0.6));
        (goodput, injected)
    }

    /// Takes a window of frames in, beside a storm if there is one, and what that injected.
    fn measure(&self, storm: Option<impl FnMut() -> Storm>) -> (Measured, u64) {
        // Made before it begins, which else would have blown a good part of its time at nobody.
        let frames = self.load.blocks(self.window);
        let storm = storm.map(|mut storm| storm());
        let before = self.cpu_seconds();
        let taken = self.load.deliver(self.tcp(), CONCENTRATORS, WINDOW, &frames);
        let cpu_seconds = self.cpu_seconds() - before;
        (Measured { taken, cpu_seconds }, storm.map_or(0, Storm::end))
    }

    /// How long the head-end has computed so far, in itself and in the system for it.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind its name, which may hold anything, the 12th and 13th field, in hundredths.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    fn pid(&self) -> u64 {
        self.served.ready["pid"].as_u64().unwrap()
    }

    /// A value of `/proc/PID/status`, bytes.
    fn memory(&self, key: &str) -> u64 {
        status_bytes(self.pid(), key)
    }

    /// By how much memory grew at most in a storm of so many connections beside the load, MiB. It is within its bound.
    fn growth(&self, connections: usize) -> u64 {
        let grown = self.memory("VmHWM") - self.peak_before;
        let bound = growth_bound() + connections as u64 * OF_A_CONNECTION;
        println!("memory +{} MiB of {}", grown / MIB, bound / MIB);
        assert!(grown <= bound, "memory grew by {} MiB, at most {}", grown / MIB, bound / MIB);
        grown / MIB
    }

    /// Sum of a metric over the label values that contain `labels`.
    fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, page) = self.served.get("health", "/metrics");
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = rest.rsplit_once(' ')?;
            let ours = (found.is_empty() || found.starts_with('{')) && found.contains(labels);
            ours.then(|| value.parse::<f64>().ok())?
        };
        // The sum of nothing is minus zero, which nobody wants to read.
        page.lines().filter_map(of).sum::<f64>() + 0.0
    }

    /// Writes the evidence down after the last checks.
    fn end(self, promise: &str, injected: u64, result: &str) {
        self.load.check(&self.served);
        let peak = self.memory("VmHWM") / MIB;
        let result =
            format!("{result}; {} frames confirmed and stored once, peak {peak} MiB", self.load.confirmed());
        evidence(promise, self.seed, u32::try_from(injected).unwrap_or(u32::MAX), &result);
        assert_eq!(self.served.terminate(), 0);
        drop(self.dir);
    }
}

/// Most bytes that a connection takes: what it reads into, a frame that is not whole, its channel.
const OF_A_CONNECTION: u64 = 16 << 10;

/// What may be in memory at once, by the configuration: the queue, ten groups on their way to the fold with their
/// decoded readings, rows that wait for a commit, rows in one, its Parquet; and what the allocator keeps of each.
fn growth_bound() -> u64 {
    128 * MIB + 10 * 4 * MIB + 3 * 32 * MIB + 96 * MIB
}

fn status_bytes(pid: u64, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Something that goes on beside the load until it is ended.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Storm {
    /// Runs `blow` until it returns; it looks at the flag now and then. It gives what it injected.
    fn start(blow: impl FnOnce(&AtomicBool) -> u64 + Send + 'static) -> Storm {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Storm { stop, thread: std::thread::spawn(move || blow(&flag)) }
    }

    /// Runs `blow` on a runtime of its own.
    fn tasks<F: Future<Output = u64>>(blow: impl FnOnce(Arc<AtomicBool>) -> F + Send + 'static) -> Storm {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Storm { stop, thread: std::thread::spawn(move || runtime.block_on(blow(flag))) }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Of an odd number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Watches the memory of a process until it is ended; gives the most it saw.
fn watch_memory(pid: u64) -> Storm {
    Storm::start(move |stop| {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            most = most.max(status_bytes(pid, "VmRSS"));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        most
    })
}

async fn connect_from(address: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.connect(to).await
}

/// Reads until the other side closes.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}

// ---------------------------------------------------------------------------------------------------------- midnight

/// A recharge over the admin socket: its position.
fn recharge(data: &Path, account: &str, payment: &str) -> u64 {
    let body = format!("{{\"account\":\"{account}\",\"amount_paise\":100,\"payment_id\":\"{payment}\"}}");
    let mut stream = UnixStream::connect(data.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "POST /admin/recharges HTTP/1.1\r\nhost: urja\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"));
    assert_eq!(answer["outcome"], "posted", "{answer}");
    answer["position"].as_u64().unwrap()
}

/// What a recharge met while the backlog was worked off.
struct Overtaken {
    /// Records that became durable between its sending and itself.
    records: u64,
    /// From its sending to its answer.
    took: Duration,
}

#[test]
fn ten_times_the_capacity_at_midnight_is_taken_at_capacity_and_recharges_pass_it() {
    let broker_dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(&broker_dir.path().join("broker"));
    let mqtt = broker.as_ref().map(Broker::url);
    let args: Vec<&str> = mqtt.iter().flat_map(|url| ["--mqtt", url]).collect();
    let field = Field::new("midnight", &[], &args);
    wait_for("subscribed", || (broker.is_none() || field.served.log().contains("subscribed")).then_some(()));
    let seconds = if full() { 6.0 } else { 1.0 };
    let before = field.capacity();
    let rss = field.memory("VmRSS");
    let offered = ((10.0 * before.rate() * seconds) as usize).min(field.load.left() - 2 * field.window);
    let frames = field.load.blocks(offered);
    let (by_udp, rest) = frames.split_at(offered / 10);
    let (by_mqtt, by_tcp) = rest.split_at(if broker.is_some() { offered / 10 } else { 0 });
    let accepted = field.metric("urja_frames_accepted_total", "");
    let refused = field.metric("urja_frames_refused_total", "");
    let memory = watch_memory(field.pid());
    let gone = AtomicBool::new(false);
    let (began, load) = (Instant::now(), &field.load);
    let taken = || field.metric("urja_frames_accepted_total", "") - accepted;
    let (goodput, recharges) = std::thread::scope(|scope| {
        let money = scope.spawn(|| recharge_until(&field, &gone));
        // As long as concentrators have a backlog more is offered than can be taken. After that datagrams wait for
        // their next attempt, and what is offered says nothing of the capacity.
        let saturated = scope.spawn(|| {
            load.deliver(field.tcp(), scaled(200, 40), 1024, by_tcp);
            taken() / began.elapsed().as_secs_f64()
        });
        let others = [
            scope.spawn(|| load.datagrams(field.served.address("udp"), by_udp)),
            scope.spawn(|| {
                if let Some(broker) = &broker {
                    load.publish(broker.address, by_mqtt);
                }
            }),
        ];
        let goodput = saturated.join().unwrap();
        gone.store(true, Ordering::Relaxed);
        println!("midnight: {goodput:.0}/s until {:.1} s", began.elapsed().as_secs_f64());
        others.into_iter().for_each(|sender| sender.join().unwrap());
        wait_for("the backlog is gone", || (taken() >= offered as f64).then_some(()));
        (goodput, money.join().unwrap())
    });
    let elapsed = began.elapsed().as_secs_f64();
    let most = memory.end();
    let after = field.capacity();
    let capacity = (before.rate() + after.rate()) / 2.0;
    let ratio = goodput / capacity;
    let bound = growth_bound();
    println!(
        "midnight: resident {} MiB before, at most {} MiB, bound {} MiB above",
        rss / MIB,
        most / MIB,
        bound / MIB
    );
    assert!(most.saturating_sub(rss) <= bound, "memory grew by {} MiB", most.saturating_sub(rss) / MIB);
    assert!(field.memory("VmHWM") <= 1536 * MIB, "more than 1.5 GiB");
    // A recharge waits for the group that is being written and is in the next one, whatever waits in the queue: two
    // groups of a MiB have some 12,000 records, the queue holds 16,384. The middle one: a single figure has in it what
    // became durable while this very load kept the question for the position waiting.
    let mut overtaken: Vec<u64> = recharges.iter().map(|recharge| recharge.records).collect();
    overtaken.sort_unstable();
    let middle = overtaken[overtaken.len() / 2];
    let p99 = p99(&mut recharges.iter().map(|recharge| recharge.took).collect::<Vec<_>>()).as_secs_f64();
    println!(
        "midnight: {middle} records before a recharge, p99 {p99:.2} s of {}, goodput {ratio:.2}",
        recharges.len()
    );
    assert!(middle < 12_000, "{middle} records went before a recharge");
    assert!(!full() || p99 <= 1.0, "recharges take {p99:.2} s (p99)");
    assert!(overtaken.len() >= 3, "{} recharges were answered before the backlog was gone", overtaken.len());
    let refused = field.metric("urja_frames_refused_total", "") - refused;
    assert!(ratio >= floor(0.6), "goodput {ratio:.2} of capacity {capacity:.0}/s");
    let result = format!(
        "{offered} frames due at once against {capacity:.0}/s, {elapsed:.1} s, goodput {ratio:.2}; {} recharges, \
         {middle} records before one, p99 {p99:.2} s; {refused:.0} datagrams refused; memory +{} of {} MiB",
        recharges.len(),
        most.saturating_sub(rss) / MIB,
        bound / MIB
    );
    field.end("ten times the capacity at midnight", offered as u64, &result);
}

/// One recharge after the other until the backlog is gone.
fn recharge_until(field: &Field, gone: &AtomicBool) -> Vec<Overtaken> {
    let account = field.load.account(0);
    let mut recharges = Vec::new();
    while !gone.load(Ordering::Relaxed) {
        let durable = field.metric("urja_durable_position", "") as u64;
        let began = Instant::now();
        let payment = format!("midnight-{}", recharges.len());
        let position = recharge(&field.served.data, &account, &payment);
        let records = position.saturating_sub(durable);
        recharges.push(Overtaken { records, took: began.elapsed() });
        std::thread::park_timeout(Duration::from_millis(if full() { 100 } else { 20 }));
    }
    recharges
}

// ------------------------------------------------------------------------------------------------ last gasp, reconnect

/// Connects, sends an alarm of this meter and awaits its confirm.
async fn gasp(load: &Load, meter: usize, to: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await?;
    send_alarm(load, meter, &mut stream).await?;
    Ok(stream)
}

async fn send_alarm(load: &Load, meter: usize, stream: &mut TcpStream) -> std::io::Result<()> {
    let frame = load.alarm(meter);
    stream.write_all(&frame.bytes).await?;
    let answer = async {
        loop {
            let mut head = [0; 8];
            stream.read_exact(&mut head).await?;
            let mut answer = head.to_vec();
            answer.resize(8 + usize::from(u16::from_be_bytes([head[6], head[7]])), 0);
            stream.read_exact(&mut answer[8..]).await?;
            // Who has been silent for some seconds is asked who it is, and need not say so.
            if answer.get(8) != Some(&codec::apdu::acse::AARQ) {
                return Ok::<_, std::io::Error>(answer);
            }
        }
    };
    let Ok(answer) = tokio::time::timeout(DEADLINE, answer).await else {
        return Err(ErrorKind::TimedOut.into());
    };
    assert_eq!(confirmed_id(&answer?), frame.invoke_id);
    load.confirm(&frame);
    Ok(())
}

/// Runs one future per number, all at once; gives their results.
async fn at_once<T: Send + 'static, F: Future<Output = T> + 'static>(
    count: usize,
    make: impl Fn(usize) -> F,
) -> Vec<T> {
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..count).map(|number| local.spawn_local(make(number))).collect();
    local
        .run_until(async {
            let mut results = Vec::with_capacity(count);
            for task in tasks {
                results.push(task.await.unwrap());
            }
            results
        })
        .await
}

#[test]
fn every_confirmed_last_gasp_of_a_third_of_the_meters_is_stored() {
    let field = Field::new("last gasp", &[], &[]);
    let sessions = scaled(9_000, 600);
    let dark = sessions * 3 / 10;
    let within_ms = scaled(10_000, 1_000) as u64;
    let to = field.tcp();
    let connected = Arc::new(AtomicBool::new(false));
    let storm = || {
        connected.store(false, Ordering::Relaxed);
        let (load, connected_now, seed) = (Arc::clone(&field.load), Arc::clone(&connected), field.seed);
        let storm = Storm::tasks(move |stop| async move {
            let joined = Arc::clone(&load);
            let open = at_once(sessions, move |number| {
                let load = Arc::clone(&joined);
                async move { gasp(&load, number % load.meters(), to).await.unwrap() }
            })
            .await;
            let open: Vec<_> = open.into_iter().map(tokio::sync::Mutex::new).collect();
            let open = Arc::new(open);
            connected_now.store(true, Ordering::Relaxed);
            let confirmed = at_once(dark, move |number| {
                let (load, open) = (Arc::clone(&load), Arc::clone(&open));
                async move {
                    let delay = fleet::Rng::keyed(seed, &[number as u64]).below(within_ms);
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let mut stream = open[number].lock().await;
                    send_alarm(&load, number % load.meters(), &mut stream).await.is_ok()
                }
            })
            .await;
            // Then silence: nobody says goodbye.
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            confirmed.iter().filter(|confirmed| **confirmed).count() as u64
        });
        // The power goes where all are connected: what is measured begins then.
        wait_for("every meter is connected", || connected.load(Ordering::Relaxed).then_some(()));
        storm
    };
    let (goodput, alarms) = field.goodput("last gasp", storm);
    assert!(alarms >= dark as u64, "{alarms} of {dark} last gasps were confirmed");
    let events = field.served.number("SELECT count(*) FROM event");
    assert!(events > 0, "no event is stored");
    let grown = field.growth(sessions);
    let result = format!(
        "{sessions} meters connected, {alarms} last gasps within {within_ms} ms confirmed, {goodput}, memory +{grown} MiB"
    );
    field.end("last gasps of 30 % of the meters at once", alarms, &result);
}

#[test]
fn sessions_that_drop_and_come_back_at_once_leave_the_others_their_speed() {
    let field = Field::new("reconnect", &[("URJA_LISTEN__MAX_CONNECTIONS_PER_ADDRESS", "16000")], &[]);
    let sessions = scaled(15_000, 600);
    let spread_ms = scaled(30_000, 1_200) as u64;
    let to = field.tcp();
    let delays: Arc<Vec<u64>> = Arc::new(
        (0..sessions as u64)
            .map(|number| fleet::Rng::keyed(field.seed, &[number]).below(spread_ms))
            .collect(),
    );
    let attempts = Arc::new(AtomicU64::new(0));
    let (first_drop, longest_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let storm = || {
        first_drop.store(false, Ordering::Relaxed);
        let (load, delays, attempts) = (Arc::clone(&field.load), Arc::clone(&delays), Arc::clone(&attempts));
        let (dropping, longest_ms) = (Arc::clone(&first_drop), Arc::clone(&longest_ms));
        let storm = Storm::tasks(move |_| async move {
            let mut dropped = 0;
            for is_return in [false, true] {
                let began = Instant::now();
                let (load, delays, attempts) =
                    (Arc::clone(&load), Arc::clone(&delays), Arc::clone(&attempts));
                let open = at_once(sessions, move |number| {
                    let (load, delays, attempts) =
                        (Arc::clone(&load), Arc::clone(&delays), Arc::clone(&attempts));
                    async move {
                        if is_return {
                            tokio::time::sleep(Duration::from_millis(delays[number])).await;
                        }
                        for _ in 0..10 {
                            attempts.fetch_add(1, Ordering::Relaxed);
                            if let Ok(stream) = gasp(&load, number % load.meters(), to).await {
                                return stream;
                            }
                        }
                        panic!("ten attempts to connect were for nothing")
                    }
                })
                .await;
                assert_eq!(open.len(), sessions);
                if is_return {
                    longest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                }
                // All at once, here; when they are back, for good.
                drop(open);
                dropping.store(true, Ordering::Relaxed);
                dropped += sessions as u64;
            }
            dropped
        });
        // What is measured begins when they were all dropped for the first time and come back.
        wait_for("every session has been there once", || first_drop.load(Ordering::Relaxed).then_some(()));
        storm
    };
    let (goodput, dropped) = field.goodput("reconnect", storm);
    let longest = longest_ms.load(Ordering::Relaxed) as f64 / 1000.0;
    assert!(longest <= 120.0, "some session was back after {longest:.0} s only");
    let attempts = attempts.load(Ordering::Relaxed);
    assert!(attempts <= 3 * dropped, "{attempts} attempts for {dropped} sessions");
    wait_for("the server lets go of them", || {
        (field.metric("urja_tcp_connections", "") < 10.0).then_some(())
    });
    let grown = field.growth(sessions);
    let result = format!(
        "{sessions} sessions dropped at once and called back within {spread_ms} ms, {} times; all back in {longest:.1} s at \
         most; {attempts} attempts for {dropped} sessions, {goodput}, memory +{grown} MiB",
        dropped / (2 * sessions as u64)
    );
    field.end("sessions that drop and come back", dropped, &result);
}

// ----------------------------------------------------------------------------------------------------- bad credentials

/// A client that sends what proves nothing, each time in other bytes.
struct Stranger {
    stream: std::net::TcpStream,
    frame: Vec<u8>,
    sent: u32,
}

impl Stranger {
    /// A third have a wrong key for a title that is registered, a third a title that is not, a third send no APDU.
    fn new(load: &Load, number: usize, to: SocketAddr) -> Stranger {
        let stream = std::net::TcpStream::connect(to).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut frame = load.forged(number % load.meters());
        match number % 3 {
            // Behind wrapper, tag and length stands the title.
            1 => frame[10..18].copy_from_slice(&(number as u64).to_be_bytes()),
            2 => frame[8] = 0xff,
            _ => {}
        }
        Stranger { stream, frame, sent: 0 }
    }

    /// Whether there was room for another frame.
    fn send(&mut self) -> bool {
        self.sent += 1;
        let last = self.frame.len() - 4;
        self.frame[last..].copy_from_slice(&self.sent.to_be_bytes());
        matches!(self.stream.write(&self.frame), Ok(length) if length == self.frame.len())
    }
}

#[test]
fn strangers_without_keys_take_neither_speed_nor_disk_from_the_others() {
    /// What a record of evidence counts for besides its bytes.
    const OVERHEAD: u64 = 256;
    let burst = if full() { 16 * MIB } else { 256 << 10 };
    let field = Field::new("bad credentials", &[("URJA_QUARANTINE__BURST", &format!("{burst}B"))], &[]);
    let (strangers, to) = (scaled(2_000, 300), field.tcp());
    let most_kept = burst / (field.load.forged(0).len() as u64 + OVERHEAD);
    let storm = || {
        let load = Arc::clone(&field.load);
        Storm::start(move |stop| {
            let mut strangers: Vec<_> =
                (0..strangers).map(|number| Stranger::new(&load, number, to)).collect();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let next = Instant::now() + Duration::from_millis(100);
                sent += strangers.iter_mut().map(Stranger::send).filter(|sent| *sent).count() as u64;
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
            sent
        })
    };
    let (goodput, mut sent) = field.goodput("bad credentials", storm);
    // The load may be through before the bound is met.
    let further = storm();
    wait_for("the bound is met", || (field.metric("urja_evidence_refused_total", "") > 0.0).then_some(()));
    sent += further.end();
    let grown = field.growth(strangers);
    let kept = field.served.number("SELECT count(*) FROM quarantine");
    let refused = field.metric("urja_evidence_refused_total", "");
    assert!(kept > 0, "nothing is kept as evidence");
    assert!(kept as u64 <= most_kept, "{kept} frames are kept in {burst} bytes");
    let result = format!(
        "{strangers} clients every 100 ms, {sent} frames written, {kept} kept as evidence, {refused:.0} refused, \
         {goodput}, memory +{grown} MiB"
    );
    field.end("clients with wrong keys, unknown titles and garbage", sent, &result);
}

// ------------------------------------------------------------------------------------------------------- slow, silent

/// What a slow client does with a door.
#[derive(Clone, Copy)]
struct Slow {
    door: SocketAddr,
    /// What it sends at once.
    begins: &'static [u8],
    /// What it goes on with, byte by byte.
    drips: Option<Duration>,
}

impl Slow {
    /// Whether it ever says anything.
    fn is_silent(self) -> bool {
        self.begins.is_empty() && self.drips.is_none()
    }

    /// Goes on until the other side closes, and says how long after its first byte that was, or after it connected where
    /// it is silent; `None` where it never did.
    async fn stay(self, connected: &AtomicUsize) -> Option<Duration> {
        let stream = connect_from(STRANGER, self.door).await;
        connected.fetch_add(1, Ordering::Relaxed);
        let Ok(mut stream) = stream else { return Some(Duration::ZERO) };
        if let (true, Some(pause)) = (self.begins.is_empty(), self.drips) {
            tokio::time::sleep(pause).await;
        }
        let (began, (mut theirs, mut ours)) = (Instant::now(), stream.split());
        let drip = async {
            let _ = ours.write_all(self.begins).await;
            while let Some(pause) = self.drips {
                if ours.write_all(b"\0").await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
            std::future::pending().await
        };
        let ended = async {
            tokio::select! { () = closed(&mut theirs) => (), () = drip => () }
        };
        tokio::time::timeout(DEADLINE, ended).await.ok().map(|()| began.elapsed())
    }
}

/// The 99th percentile of these.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

#[test]
fn slow_and_silent_sockets_are_closed_in_time_and_the_others_go_on() {
    let quick = [
        ("URJA_LISTEN__FIRST_BYTE_TIMEOUT", "1s"),
        ("URJA_LISTEN__FRAME_TIMEOUT", "2s"),
        ("URJA_HTTP__HEADER_TIMEOUT", "1s"),
        ("URJA_HTTP__WRITE_TIMEOUT", "2s"),
    ];
    let caps = [("URJA_LISTEN__MAX_CONNECTIONS_PER_ADDRESS", if full() { "4000" } else { "200" })];
    let extra: Vec<_> = caps.iter().chain(if full() { &[][..] } else { &quick }).copied().collect();
    let field = Field::new("slow sockets", &extra, &[]);
    let (meters, http, health) = (field.tcp(), field.served.address("http"), field.served.address("health"));
    let drips = Some(Duration::from_millis(scaled(10_000, 500) as u64));
    let kinds = [
        Slow { door: meters, begins: b"", drips: None },
        // With the next byte it claims 256: of none it would be a whole frame, and the time would begin anew.
        Slow { door: meters, begins: b"\0\x01\0\x01\0\x40\x01", drips },
        Slow { door: meters, begins: b"\0\x01\0\x01\0\x40\x08\0half a frame", drips: None },
        Slow { door: meters, begins: b"", drips },
        Slow { door: http, begins: b"", drips: None },
        Slow { door: http, begins: b"GET /v1/sql?q=", drips },
        Slow { door: health, begins: b"", drips: None },
        Slow { door: health, begins: b"GET /metrics HTTP/1.1\r\nx: ", drips },
    ];
    let sockets = scaled(8_000, 400);
    // How long those at the meters' door that are silent, those that are slow, and those of HTTP were let be at most.
    let longest = Arc::new(Mutex::new([Duration::ZERO; 3]));
    let storm = || {
        let longest = Arc::clone(&longest);
        let connected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connected);
        let storm = Storm::tasks(move |_| async move {
            let closed = at_once(sockets, move |number| {
                let (slow, count) = (kinds[number % kinds.len()], Arc::clone(&count));
                async move { (slow, slow.stay(&count).await) }
            })
            .await;
            for (slow, after) in &closed {
                let kind = if slow.door == meters { usize::from(!slow.is_silent()) } else { 2 };
                let longest = &mut longest.lock().unwrap()[kind];
                *longest = after.expect("a socket was left open").max(*longest);
            }
            closed.len() as u64
        });
        // What is measured is what they cost while they are there.
        wait_for("every socket is connected", || {
            (connected.load(Ordering::Relaxed) == sockets).then_some(())
        });
        storm
    };
    let mut answered = Vec::new();
    let stop = AtomicBool::new(false);
    let (goodput, injected) = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Operators and their SQL get through meanwhile.
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(field.served.get("health", "/health/livez").0, 200);
                assert_eq!(field.served.get("http", "/v1/sql?q=SELECT%201").0, 200);
                answered.push(began.elapsed());
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let measured =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| field.goodput("slow sockets", storm)));
        stop.store(true, Ordering::Relaxed);
        measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(!answered.is_empty(), "no request was answered in the storm");
    // 15, 30 and 10 s, as configured by default, and a fifth for a machine that is busy.
    let [silent, slow, of_http] = longest.lock().unwrap().map(|longest| longest.as_secs_f64());
    let in_time = silent <= 18.0 && slow <= 36.0 && of_http <= 12.0;
    assert!(!full() || in_time, "closed after {silent:.1}, {slow:.1} and {of_http:.1} s");
    let count = |name: &str, reason: &str| field.metric(name, &format!("reason=\"{reason}\"")) as u64;
    let reasons = [
        count("urja_tcp_closed_total", "first_byte_timeout"),
        count("urja_tcp_closed_total", "frame_timeout"),
        count("urja_tcp_closed_total", "address"),
        count("urja_http_closed_total", "header_timeout"),
    ];
    assert!(reasons[..2].iter().all(|count| *count > 0) && reasons[3] > 0, "{reasons:?}");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", field.pid())).unwrap().count();
    assert!(descriptors < 300, "{descriptors} descriptors are still open");
    let grown = field.growth(sockets);
    let deaf = deaf_clients(&field);
    let result = format!(
        "{injected} sockets closed: {} silent, {} slow, {} beyond their address's share, {} HTTP; silent ones after \
         {silent:.1} s at most, slow ones after {slow:.1} s, HTTP after {of_http:.1} s; {deaf} that never read; {} pairs of requests answered \
         meanwhile, p99 {} ms; {goodput}, memory +{grown} MiB",
        reasons[0],
        reasons[1],
        reasons[2],
        reasons[3],
        answered.len(),
        p99(&mut answered).as_millis()
    );
    field.end("slow and silent sockets", injected + deaf, &result);
}

/// Clients that ask for a long answer and never read it are closed.
fn deaf_clients(field: &Field) -> u64 {
    let http = field.served.address("http");
    let deaf = 4;
    let begins: &[u8] = b"GET /v1/sql?q=SELECT%20repeat('x',4000)%20AS%20x%20FROM%20frame%20LIMIT%208000 HTTP/1.1\r\nhost: urja\r\n\r\n";
    let streams: Vec<_> = (0..deaf)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(http).unwrap();
            stream.write_all(begins).unwrap();
            stream
        })
        .collect();
    wait_for("clients that never read are closed", || {
        let closed = field.metric("urja_http_closed_total", "reason=\"write_timeout\"");
        (closed >= deaf as f64).then_some(())
    });
    drop(streams);
    deaf
}

// ---------------------------------------------------------------------------------------------------------- fat frames

/// Bodies that claim or nest more than there is.
fn fat_bodies() -> Vec<Vec<u8>> {
    let notification = |body: &[u8]| [&[0x0f, 0x40, 0, 0, 1, 0][..], body].concat();
    let nest = |tag: u8, depth: usize| [tag, 1].repeat(depth);
    vec![
        // No APDU at all, as long as there can be.
        vec![0xee; 65_535],
        // A length of 4 GiB, and one of 2^64.
        [&[0xdb, 0x08][..], b"URJ00001", &[0x84, 0xff, 0xff, 0xff, 0xff]].concat(),
        [&[0xdb, 0x08][..], b"URJ00001", &[0x88], &[0xff; 8]].concat(),
        // A million elements, four billion, each nothing.
        notification(&[&[0x01, 0x83, 0x0f, 0x42, 0x40][..], &[0; 60_000]].concat()),
        notification(&[0x01, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
        notification(&[&[0x02, 0x83, 0x0f, 0x42, 0x40][..], &[0; 60_000]].concat()),
        // A string of 4 GiB, a compact array of a million rows of nothing.
        notification(&[0x09, 0x84, 0xff, 0xff, 0xff, 0xff]),
        notification(&[0x13, 0x02, 0x01, 0x00, 0x83, 0x0f, 0x42, 0x40]),
        // Nests.
        notification(&nest(0x01, 30_000)),
        notification(&nest(0x02, 30_000)),
        // Rows of zeros, as many as fit.
        notification(&[&[0x01, 0x82, 0xea, 0x60][..], &[0x02, 0].repeat(30_000)].concat()),
    ]
}

/// Bytes a second that strangers send at most: what a gigabit link carries. Without a bound the measure would be of the
/// sender, which runs on the same cores.
const LINK: f64 = 125e6;

/// Strangers that send fat frames.
struct Strangers {
    clients: usize,
    frames: Vec<Vec<u8>>,
}

impl Strangers {
    fn storm(self: &Arc<Strangers>, to: SocketAddr) -> Storm {
        let strangers = Arc::clone(self);
        Storm::tasks(move |stop| async move {
            let sent = Arc::new(Sent {
                began: Instant::now(),
                carried: AtomicU64::new(0),
                frames: AtomicU64::new(0),
            });
            at_once(strangers.clients, |number| {
                let (strangers, sent) = (Arc::clone(&strangers), Arc::clone(&sent));
                let stop = Arc::clone(&stop);
                async move {
                    while !stop.load(Ordering::Relaxed) {
                        let Ok(stream) = connect_from(STRANGER, to).await else { return };
                        strangers.send_six(number, stream, &sent).await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            })
            .await;
            sent.frames.load(Ordering::Relaxed)
        })
    }

    /// Half of them claim a long frame in the end and leave it unfinished.
    async fn send_six(&self, number: usize, mut stream: TcpStream, sent: &Sent) {
        for step in 0..6 {
            let mut bytes = self.frames[(number + step) % self.frames.len()].clone();
            if number % 2 == 1 && step == 5 {
                bytes = self.frames[0][..60_000].to_vec();
            }
            let is_long = bytes.len() > 1_000;
            if let Some(tail) = bytes.last_chunk_mut::<4>().filter(|_| is_long) {
                // Never the same bytes again: copies would cost next to nothing.
                *tail = (sent.frames.load(Ordering::Relaxed) as u32).to_be_bytes();
            }
            sent.turn(bytes.len()).await;
            let write = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&bytes));
            if !matches!(write.await, Ok(Ok(()))) {
                break;
            }
            sent.frames.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What strangers have sent since they began.
struct Sent {
    began: Instant,
    /// Bytes that have had their turn on the link.
    carried: AtomicU64,
    frames: AtomicU64,
}

impl Sent {
    /// Waits until the link has carried what came before.
    async fn turn(&self, bytes: usize) {
        let before = self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
        let turn = self.began + Duration::from_secs_f64(before as f64 / LINK);
        tokio::time::sleep_until(turn.into()).await;
    }
}

#[test]
fn fat_frames_and_claims_grow_no_memory_and_break_nothing() {
    // The connections that a door has as it is shipped: each takes some KiB.
    let doors =
        [("URJA_LISTEN__MAX_CONNECTIONS", "10000"), ("URJA_LISTEN__MAX_CONNECTIONS_PER_ADDRESS", "5000")];
    let field = Field::new("fat frames", &doors, &[]);
    let bodies = fat_bodies();
    // Under its own keys only a meter gone mad sends such; once, for each is deciphered.
    let mad: Vec<Vec<u8>> =
        bodies.iter().filter(|body| body.len() < 65_000).map(|body| field.load.sealed(0, body)).collect();
    let strangers = Arc::new(Strangers {
        clients: scaled(1_000, 100),
        frames: bodies.iter().map(|body| wrapped(body)).collect(),
    });
    let to = field.tcp();
    // Alone first: what grows now is the storm's, not the load's.
    let before = field.memory("VmRSS");
    let memory = watch_memory(field.pid());
    send_and_close(to, &mad);
    let alone = strangers.storm(to);
    shared_deadline(Duration::from_millis(scaled(20_000, 2_000) as u64));
    let sent_alone = alone.end();
    let grown = memory.end().saturating_sub(before);
    let (goodput, sent) = field.goodput("fat frames", || strangers.storm(to));
    println!("fat frames: memory +{} MiB by {sent_alone} frames", grown / MIB);
    assert!(grown <= 64 * MIB, "memory grew by {} MiB", grown / MIB);
    let kept = field.served.number("SELECT count(*) FROM quarantine");
    let refused = field.metric("urja_evidence_refused_total", "");
    assert!(kept > 0, "nothing is kept as evidence");
    let result = format!(
        "{} fat frames and claims, memory +{} MiB, {kept} kept as evidence, {refused:.0} refused, 0 panics, \
         {goodput}",
        sent_alone + sent,
        grown / MIB
    );
    field.end("fat frames, claims and nests", sent_alone + sent, &result);
}

/// Sends each frame on a connection of its own and waits until the other side has done with it.
fn send_and_close(to: SocketAddr, frames: &[Vec<u8>]) {
    for frame in frames {
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The other side may close as soon as it has seen the head.
        let _ = stream.write_all(frame);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

// ----------------------------------------------------------------------------------------------------------- slow disk

/// strace that delays every sync of the journal.
struct SlowDisk {
    strace: Child,
    log: std::path::PathBuf,
}

impl SlowDisk {
    fn attach(pid: u64, log: &Path) -> SlowDisk {
        // The thread that syncs is traced, not those that read sockets: only the disk is to be slow.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let journal = tasks
            .map(|task| task.unwrap().path())
            .find(|task| {
                std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "journal")
            })
            .expect("a thread named journal");
        let tid = journal.file_name().unwrap().to_str().unwrap().to_owned();
        let strace = Command::new("strace")
            .args([
                "-q",
                "-p",
                &tid,
                "-e",
                "trace=fdatasync",
                "-e",
                "inject=fdatasync:delay_enter=200000",
                "-o",
            ])
            .arg(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("strace is attached", || {
            let status = std::fs::read_to_string(journal.join("status")).unwrap();
            let traced = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
            (traced.trim() != "0").then_some(())
        });
        SlowDisk { strace, log: log.to_owned() }
    }

    /// Lets the disk be; gives the syncs that were delayed.
    fn detach(mut self) -> u64 {
        let pid = self.strace.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.strace.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains("DELAYED")).count() as u64
    }
}

#[test]
fn a_slow_disk_makes_confirms_late_and_loses_nothing() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success()) {
        skip("strace");
        return;
    }
    let field = Field::new("slow disk", &[], &[]);
    let before = field.capacity();
    let rss = field.memory("VmRSS");
    let memory = watch_memory(field.pid());
    let disk = SlowDisk::attach(field.pid(), &field.dir.path().join("strace"));
    let lasts = Duration::from_secs(scaled(60, 4) as u64);
    let began = Instant::now();
    let mut slow = Taken { frames: 0, seconds: 0.0 };
    while began.elapsed() < lasts && field.load.left() > 3 * field.window + 20_000 {
        // Many more senders than usual: all that they can have under way is offered at any time.
        let taken = field.load.take_in(field.tcp(), 64, 10_000);
        slow = Taken { frames: slow.frames + taken.frames, seconds: slow.seconds + taken.seconds };
    }
    let delayed = disk.detach();
    let most = memory.end();
    let mut best = 0.0_f64;
    let mut after = before;
    for _ in 0..3 {
        after = field.capacity();
        best = best.max(after.rate() / before.rate());
        if best >= floor(0.6) || field.load.left() < field.window {
            break;
        }
    }
    let bound = growth_bound();
    assert!(most.saturating_sub(rss) <= bound, "memory grew by {} MiB", most.saturating_sub(rss) / MIB);
    assert!(best >= floor(0.6), "after it {best:.2} of the capacity before it");
    let result = format!(
        "{delayed} syncs delayed by 200 ms: {:.0}/s of {:.0}/s, {:.0}/s after it ({best:.2}); memory +{} MiB",
        slow.rate(),
        before.rate(),
        after.rate(),
        most.saturating_sub(rss) / MIB
    );
    field.end("a disk that takes 200 ms a sync", delayed, &result);
}
