//! E1, E2: a push from the bytes on a socket to acknowledged, charged and queryable, and what its stages cost alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use benches::head_end;
use benches::world::{INTERVALS, Meter, World, first_day, morning_after, receipt_len, shuffled};
use benches::{Figure, Floor, Samples, Void, by_thread, gated, process_cpu, setting};
use codec::apdu::{self, Apdu};
use codec::security::{self, Keys, Opened, Policy, Scratch};
use codec_aws_lc::AwsLc;
use ingest::{Disposition, Framing, Received, TcpOptions, serve_tcp};
use lake::{Snapshot, Table};
use ledger::{Effects, Fold, Limits};
use model::{
    AcceptedFrame, AccountId, AccountTerms, Calendar, Channel, CivilDay, ConnectionType, Fact, MeterId,
    MeterTerms, OutboxId, Paise, Position, Record, Source,
};
use profiles::Profile;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Meters that push.
const METERS: (&str, usize) = ("URJA_BENCH_METERS", 60_000);
/// Civil days of singles, one a round; of whole days thrice as many.
const DAYS: (&str, usize) = ("URJA_BENCH_ROUNDS", 3);
/// The one figure that is wanted, where it is not both.
const ONLY: &str = "URJA_BENCH_ONLY";
/// Connections of concentrators.
const CONNECTIONS: usize = 4;
/// Days that are pushed before any clock runs: while a meter's first 63 intervals come, the fold notes what came before.
const WARM_UP: usize = 2;
/// Of the rows of a load, what has to be in files when the clock stops: work put off is not work saved.
const IN_FILES: f64 = 0.8;
/// Frames with a flipped bit of the tag that the gate sends.
const FLIPPED: usize = 500;
/// What is asked of any head-end: interval rows a second.
const YARDSTICK_ROWS: f64 = 300_000.0;
/// Pushes that the peer is given: some seconds of its work.
const PEER_SINGLES: usize = 50_000;
const PEER_DAYS: usize = 8_000;
const PEER_ROUNDS: usize = 3;
const TAG_LEN: usize = 12;

fn main() -> ExitCode {
    gated(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Void(error.to_string()))?;
        let ran = runtime.block_on(run());
        runtime.shutdown_timeout(Duration::from_secs(10));
        ran
    })
}

/// What the pushes of a round are.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    /// One interval each.
    Singles,
    /// A day's intervals each.
    Days,
}

impl Load {
    /// How many are measured: as many as it takes for what is put off to be little.
    fn days(self) -> usize {
        let days = setting(DAYS.0, DAYS.1);
        if self == Load::Singles { days } else { 3 * days }
    }
}

/// What a round took.
struct Round {
    rows: usize,
    seconds: f64,
    /// CPU time of all but the senders, ns.
    cpu_ns: f64,
    sender_ns: f64,
    threads: Vec<(String, f64)>,
}

async fn run() -> Result<(), Void> {
    let dir = tempfile::tempdir().map_err(void)?;
    let meters = setting(METERS.0, METERS.1);
    let world = World::open(dir.path(), |_| {}).await.map_err(void)?;
    let began = Instant::now();
    world.register(1..meters as u32 + 1).await.map_err(void)?;
    println!("# {meters} meters and accounts registered in {:.1} s", began.elapsed().as_secs_f64());
    let fleet: Vec<Meter> = (1..=meters as u32).map(Meter::new).collect();
    flipped_tags_are_refused(&world, &fleet).await?;
    let (mut days, mut whole) = ((first_day().0..).map(CivilDay), None);
    let warm_up: Vec<_> = days.by_ref().take(WARM_UP).collect();
    rounds(&world, &fleet, Load::Days, &warm_up).await?;
    let only = std::env::var(ONLY).ok();
    let loads = [(Load::Singles, "E1p"), (Load::Days, "E1r")];
    for (load, id) in loads.into_iter().filter(|(_, id)| only.as_ref().is_none_or(|only| only == id)) {
        let days: Vec<_> = days.by_ref().take(load.days()).collect();
        let (rounds, in_files) = rounds(&world, &fleet, load, &days).await?;
        println!("#   {:.0} % of the rows were in files when the clock stopped", in_files * 100.0);
        if in_files < IN_FILES {
            return Err(Void("too few rows were in files; push more meters or days".into()));
        }
        tell(id, load, &rounds);
        compare(id, load, &rounds, &fleet)?;
        if load == Load::Days {
            whole = rounds.into_iter().next_back();
        }
    }
    world.pipeline.shutdown().await.map_err(void)?;
    match whole {
        Some(whole) => stages(&fleet, &whole),
        None => Ok(()),
    }
}

fn rates(rounds: &[Round]) -> Samples {
    Samples::of(rounds.iter().map(|round| round.rows as f64 / round.seconds))
}

fn tell(id: &'static str, load: Load, rounds: &[Round]) {
    let rates = rates(rounds);
    if load == Load::Days {
        let figure = Figure {
            id,
            ours: format!("{:.0} rows/s", rates.median()),
            peer: format!("{YARDSTICK_ROWS:.0} rows/s"),
            ratio: rates.median() / YARDSTICK_ROWS,
            spread_percent: rates.spread_percent(),
            floor: Floor::AtLeast(1.0),
        };
        println!("{figure}");
    }
    for round in rounds {
        let per = |ns: f64| ns / round.rows as f64;
        print!("#   {:.1} s, CPU {:.0} ns/row", round.seconds, per(round.cpu_ns));
        print!(" and {:.0} of the senders:", per(round.sender_ns));
        round.threads.iter().for_each(|(name, ns)| print!(" {name} {:.0}", per(*ns)));
        println!();
    }
}

/// Ours against a head-end of other people's parts, each at its own capacity on this machine.
fn compare(id: &'static str, load: Load, rounds: &[Round], fleet: &[Meter]) -> Result<(), Void> {
    let count = if load == Load::Singles { PEER_SINGLES } else { PEER_DAYS };
    let meters = &fleet[..count.min(fleet.len())];
    let day = first_day();
    let intervals = if load == Load::Singles { 1 } else { INTERVALS };
    let frame = |meter: &Meter| match load {
        Load::Singles => meter.push_of_interval(1, day, 0),
        Load::Days => meter.push_of_day(1, day),
    };
    let work = head_end::Work {
        meters,
        frames: meters.iter().map(frame).collect(),
        rows: meters.len() * intervals,
        energy_wh: Contents::sent(meters, day, intervals).energy_wh,
    };
    let rows = work.rows as f64;
    let mut peer = Vec::new();
    for _ in 0..PEER_ROUNDS {
        let Some(seconds) = head_end::seconds(&work).map_err(void)? else { return Ok(()) };
        peer.push(rows / seconds);
    }
    let (ours, peer) = (rates(rounds), Samples::of(peer));
    println!("#   the peer's rounds differ by ±{:.1} %", peer.spread_percent());
    let peer = peer.median();
    let unit = if load == Load::Singles { "pushes/s" } else { "rows/s" };
    let figure = Figure {
        id,
        ours: format!("{:.0} {unit}", ours.median()),
        peer: format!("{peer:.0} {unit}"),
        ratio: ours.median() / peer,
        spread_percent: ours.spread_percent(),
        floor: Floor::AtLeast(50.0),
    };
    println!("{figure}");
    Ok(())
}

/// Pushes days of all meters through sockets, one after the other without a pause: a round is done when all of its day is
/// acknowledged, folded and there for whoever reads, and what it left to be put into files is in the time of the next.
/// What can be read is compared with what was sent when the clock has stopped, and again when all of it is in files.
///
/// Gives the rounds, and the share of their rows that was in files when the clock stopped.
async fn rounds(
    world: &World,
    fleet: &[Meter],
    load: Load,
    days: &[CivilDay],
) -> Result<(Vec<Round>, f64), Void> {
    let streams: Vec<_> = days.iter().map(|day| frames(fleet, load, *day)).collect();
    let before: Vec<_> = days.iter().map(|day| Contents::of(world, *day)).collect::<Result<_, _>>()?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(void)?;
    let address = listener.local_addr().map_err(void)?;
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(serve_tcp(listener, world.pipeline.clone(), None, TcpOptions::default(), stop.clone()));
    let mut rounds = Vec::new();
    for (day, streams) in days.iter().zip(streams) {
        rounds.push(round(world, fleet, load, *day, address, streams).await?);
    }
    let view = world.lake.freeze();
    stop.cancel();
    serving.await.map_err(void)?;
    let snapshot = view.snapshot();
    are_there(&snapshot, fleet, days, &before)?;
    let hot: usize = snapshot.table(Table::IntervalReading).hot.iter().map(RecordBatch::num_rows).sum();
    let rows: usize = rounds.iter().map(|round| round.rows).sum();
    for day in days {
        charged(world, fleet, *day).await?;
    }
    world.pipeline.checkpoint().await.map_err(void)?;
    are_there(&world.lake.snapshot(), fleet, days, &before)?;
    Ok((rounds, 1.0 - hot as f64 / rows as f64))
}

/// One day: what was due of the one before is closed and booked, then all meters push.
async fn round(
    world: &World,
    fleet: &[Meter],
    load: Load,
    day: CivilDay,
    address: SocketAddr,
    streams: Vec<Vec<u8>>,
) -> Result<Round, Void> {
    let (cpu, threads) = (process_cpu(), by_thread());
    let began = Instant::now();
    world.clock.set(morning_after(day));
    world.pipeline.close_due_days().await.map_err(void)?;
    let senders: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::task::spawn_blocking(move || send(address, stream)))
        .collect();
    let mut receipts = 0;
    let mut sender_ns = 0.0;
    for sender in senders {
        let sent = sender.await.map_err(void)?.map_err(void)?;
        receipts += sent.receipts;
        sender_ns += sent.cpu_ns;
    }
    world.pipeline.look(|_| ()).await.map_err(void)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_ns = process_cpu() - cpu - sender_ns;
    let threads = since(&threads, by_thread());
    let rows = fleet.len() * INTERVALS;
    let count = if load == Load::Singles { rows } else { fleet.len() };
    if receipts != count {
        return Err(Void(format!("{receipts} of {count} pushes were acknowledged")));
    }
    Ok(Round { rows, seconds, cpu_ns, sender_ns, threads })
}

/// Whether a view of the lake has, beyond what it had `before`, what the meters sent of each day.
fn are_there(
    snapshot: &Snapshot,
    fleet: &[Meter],
    days: &[CivilDay],
    before: &[Contents],
) -> Result<(), Void> {
    for (day, before) in days.iter().zip(before) {
        let expected = Contents::sent(fleet, *day, INTERVALS);
        let found = Contents::in_view(snapshot, *day)?.since(before);
        if found != expected {
            return Err(Void(format!("of {day:?} {expected:?} was sent, {found:?} is there")));
        }
    }
    Ok(())
}

fn since(before: &[(String, f64)], after: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let old = |name: &str| before.iter().find(|(other, _)| other == name).map_or(0.0, |(_, ns)| *ns);
    after.into_iter().map(|(name, ns)| (name.clone(), ns - old(&name))).filter(|(_, ns)| *ns > 1e6).collect()
}

/// The bytes of each connection on a day; meters count what they send on from the day before.
fn frames(fleet: &[Meter], load: Load, day: CivilDay) -> Vec<Vec<u8>> {
    let mut streams = vec![Vec::new(); CONNECTIONS];
    let counter = 1 + (day.0 - first_day().0) as u32 * INTERVALS as u32;
    let frames_each = if load == Load::Singles { 0..INTERVALS } else { 0..1 };
    for interval in frames_each {
        for (number, index) in shuffled(fleet.len()).enumerate() {
            let meter = &fleet[index];
            let frame = match load {
                Load::Singles => meter.push_of_interval(counter + interval as u32, day, interval),
                Load::Days => meter.push_of_day(counter, day),
            };
            streams[number % CONNECTIONS].extend_from_slice(&frame);
        }
    }
    streams
}

struct Sent {
    receipts: usize,
    cpu_ns: f64,
}

/// Sends all bytes on one connection and reads the receipts meanwhile.
fn send(address: SocketAddr, bytes: Vec<u8>) -> std::io::Result<Sent> {
    let mut stream = TcpStream::connect(address)?;
    let mut reader = stream.try_clone()?;
    let reading = std::thread::spawn(move || -> std::io::Result<(usize, f64)> {
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok((received, thread_ns())),
                read => received += read,
            }
        }
    });
    let began = thread_ns();
    stream.write_all(&bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let writing = thread_ns() - began;
    let (received, reading) = reading.join().map_err(|_| std::io::Error::other("a reader panicked"))??;
    Ok(Sent { receipts: received / receipt_len(), cpu_ns: writing + reading })
}

fn thread_ns() -> f64 {
    cpu_time::ThreadTime::now().as_duration().as_nanos() as f64
}

/// Count and sums of the intervals of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    rows: u64,
    energy_wh: i64,
    voltage_dv: i64,
}

impl Contents {
    /// What the meters send of the first `intervals` of a day.
    fn sent(fleet: &[Meter], day: CivilDay, intervals: usize) -> Contents {
        let mut contents = Contents::default();
        for meter in fleet {
            for interval in 0..intervals {
                contents.rows += 1;
                contents.energy_wh += i64::from(meter.energy_wh(day, interval));
                contents.voltage_dv += i64::from(meter.voltage_dv(day, interval));
            }
        }
        contents
    }

    /// What the lake gives back for a day now.
    fn of(world: &World, day: CivilDay) -> Result<Contents, Void> {
        Contents::in_view(&world.lake.snapshot(), day)
    }

    /// What a view of the lake has of a day, in files and hot rows.
    fn in_view(snapshot: &Snapshot, day: CivilDay) -> Result<Contents, Void> {
        let (rows, [energy_wh, voltage_dv]) = benches::read::interval_sums(
            snapshot,
            day,
            [Channel::ImportWh.name(), Channel::VoltageDv.name()],
        )
        .map_err(void)?;
        Ok(Contents { rows, energy_wh, voltage_dv })
    }

    fn since(&self, before: &Contents) -> Contents {
        Contents {
            rows: self.rows - before.rows,
            energy_wh: self.energy_wh - before.energy_wh,
            voltage_dv: self.voltage_dv - before.voltage_dv,
        }
    }
}

/// Every account has the energy of its meter and owes money for it.
async fn charged(world: &World, fleet: &[Meter], day: CivilDay) -> Result<(), Void> {
    let used: Vec<i64> = fleet
        .iter()
        .map(|meter| (0..INTERVALS).map(|interval| i64::from(meter.energy_wh(day, interval))).sum())
        .collect();
    let wrong = world.pipeline.look(move |fold| {
        used.iter().enumerate().find_map(|(index, used)| {
            let view = fold.account(AccountId(index as u32 + 1))?;
            let found = view.recent.iter().find(|recent| recent.day == day)?;
            let is_right = found.energy_wh == *used && found.charge > Paise::ZERO;
            (!is_right).then(|| format!("account {} has {found:?}, its meter used {used} Wh", index + 1))
        })
    });
    match wrong.await.map_err(void)? {
        None => Ok(()),
        Some(wrong) => Err(Void(wrong)),
    }
}

async fn flipped_tags_are_refused(world: &World, fleet: &[Meter]) -> Result<(), Void> {
    let day = first_day();
    let before = Contents::of(world, day)?;
    for (index, meter) in fleet.iter().take(FLIPPED).enumerate() {
        let mut bytes = meter.push_of_interval(1_000_000, day, index % INTERVALS);
        let last = bytes.len() - 1 - index % TAG_LEN;
        bytes[last] ^= 1 << (index % 8);
        let received = Received {
            source: Source::Tcp,
            received_at: morning_after(day),
            framing: Framing::Wrapper,
            bytes: bytes.into(),
            identity: None,
        };
        let ticket = world.pipeline.submit(received).await.map_err(void)?;
        let acked = ticket.await.map_err(void)?;
        if !matches!(acked.disposition, Disposition::Quarantined(_)) {
            return Err(Void(format!("a flipped tag was {:?}", acked.disposition)));
        }
    }
    if Contents::of(world, day)? == before { Ok(()) } else { Err(Void("a flipped tag brought a row".into())) }
}

/// E2: the stages of the last round's work, each alone, in CPU time.
fn stages(fleet: &[Meter], whole: &Round) -> Result<(), Void> {
    let day = first_day();
    let pushes: Vec<(MeterId, Keys, Vec<u8>)> = shuffled(fleet.len())
        .map(|index| {
            let meter = &fleet[index];
            (MeterId(meter.number), Keys::new(meter.guek, meter.gak), meter.push_of_day(1, day))
        })
        .collect();
    let began = thread_ns();
    let facts = decode_all(pushes)?;
    let decoded = thread_ns();
    let groups = journal_all(&facts)?;
    let journaled = thread_ns();
    let records: Vec<Vec<Record>> = numbered(facts, groups);
    let mut fold = registered(fleet)?;
    let rows_before = fold.position();
    let folding = thread_ns();
    let mut rows = Vec::new();
    for group in &records {
        let mut effects = Effects::default();
        for record in group {
            fold.apply(record, &mut effects).map_err(void)?;
        }
        rows.push((effects.rows, fold.position()));
    }
    let folded = thread_ns();
    let committed = commit_all(rows, rows_before)?;
    let per_row = |ns: f64| ns / (fleet.len() * INTERVALS) as f64;
    let parts = [
        ("decode+tag+normalize", per_row(decoded - began)),
        ("journal", per_row(journaled - decoded)),
        ("fold", per_row(folded - folding)),
        ("absorb+commit", per_row(committed)),
    ];
    parts.iter().for_each(|(name, ns)| println!("#   {name} alone: {ns:.0} ns/row"));
    let sum: f64 = parts.iter().map(|(_, ns)| ns).sum();
    let ours = whole.cpu_ns / whole.rows as f64;
    let figure = Figure {
        id: "E2",
        ours: format!("{ours:.0} ns/row"),
        peer: format!("{sum:.0} ns/row"),
        ratio: ours / sum,
        spread_percent: 0.0,
        floor: Floor::AtMost(6.0),
    };
    println!("{figure}");
    Ok(())
}

fn decode_all(pushes: Vec<(MeterId, Keys, Vec<u8>)>) -> Result<Vec<Fact>, Void> {
    let calendar = Calendar::india();
    let profiles = Profile::builtin();
    let profile = profiles.iter().find(|profile| profile.name == "is15959-d1");
    let profile = profile.ok_or_else(|| Void("no profile".into()))?;
    let mut scratch = Scratch::new();
    let mut facts = Vec::with_capacity(pushes.len());
    for (meter, keys, frame) in pushes {
        let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(&frame[codec::wrapper::HEADER_LEN..]) else {
            return Err(Void("a push is no general-glo".into()));
        };
        let opened = security::open(&AwsLc, &glo, &keys, Policy::Authenticated, &mut scratch);
        let Ok(Opened::Authentic(plain)) = opened else {
            return Err(Void("a push is not authentic".into()));
        };
        let Ok(Apdu::DataNotification(push)) = apdu::parse(plain.into_inner()) else {
            return Err(Void("a push is no data-notification".into()));
        };
        let normalized = ingest::normalize::normalize(&push.body(), push.date_time(), profile, &calendar);
        let normalized = normalized.map_err(void)?;
        let counter = Some(glo.invocation_counter());
        let digest = ingest::digest(&frame);
        facts.push(Fact::Frame(AcceptedFrame {
            meter,
            source: Source::Tcp,
            key_epoch: 1,
            counter,
            late: false,
            digest,
            pushed_at: normalized.pushed_at,
            readings: normalized.readings,
            event_word: normalized.event_word,
            raw: frame.into(),
        }));
    }
    Ok(facts)
}

/// Appends all facts in groups as the pipeline does, each synced; says how many records each group has.
fn journal_all(facts: &[Fact]) -> Result<Vec<usize>, Void> {
    const GROUP_BYTES: usize = 4 << 20;
    let dir = tempfile::tempdir().map_err(void)?;
    let (mut journal, _) =
        journal::Journal::open(&dir.path().join("journal"), journal::Options::default()).map_err(void)?;
    let mut group = journal::Group::new();
    let mut record = Vec::new();
    let mut groups = Vec::new();
    let at = morning_after(first_day());
    for (index, fact) in facts.iter().enumerate() {
        record.clear();
        fact.encode(at, &mut record);
        group.push(&record);
        if group.byte_len() >= GROUP_BYTES || index + 1 == facts.len() {
            groups.push(group.len());
            journal.append(&mut group).map_err(void)?;
            journal.sync().map_err(void)?;
        }
    }
    Ok(groups)
}

fn numbered(facts: Vec<Fact>, groups: Vec<usize>) -> Vec<Vec<Record>> {
    // Tariffs are left out: a charge is made when it is asked for, not when a reading comes.
    let first = facts.len() as u64 * 2;
    let at = morning_after(first_day());
    let mut records = (first + 1..).zip(facts).map(|(position, fact)| Record {
        position: Position(position),
        received_at: at,
        fact,
    });
    groups.into_iter().map(|count| records.by_ref().take(count).collect()).collect()
}

/// A fold with terms of all meters and accounts.
fn registered(fleet: &[Meter]) -> Result<Fold, Void> {
    let mut fold = Fold::new(Calendar::india(), Limits::default());
    let at = morning_after(first_day());
    let mut effects = Effects::default();
    for (index, meter) in fleet.iter().enumerate() {
        for fact in terms(index as u64, meter) {
            let record = Record { position: fold.position().next(), received_at: at, fact };
            fold.apply(&record, &mut effects).map_err(void)?;
            effects.rows.clear();
        }
    }
    Ok(fold)
}

fn terms(index: u64, meter: &Meter) -> [Fact; 2] {
    let account = AccountId(meter.number);
    [
        Fact::AccountTerms(AccountTerms {
            outbox: OutboxId(index * 2 + 1),
            account,
            connection: ConnectionType::Prepaid,
            tariff: "lmv1-urban".into(),
            sanctioned_w: 4000,
            from: first_day(),
            opening_register_wh: 1_000_000,
            opening_balance: Paise::ZERO,
        }),
        Fact::MeterTerms(MeterTerms {
            outbox: OutboxId(index * 2 + 2),
            meter: MeterId(meter.number),
            title: meter.title,
            account: Some(account),
            profile: "is15959-d1".into(),
            period_s: 1800,
            authenticated: true,
            key_epoch: 1,
        }),
    ]
}

/// CPU time of the whole process for absorbing all rows and committing them, ns.
fn commit_all(groups: Vec<(Vec<model::Row>, Position)>, before: Position) -> Result<f64, Void> {
    let dir = tempfile::tempdir().map_err(void)?;
    let lake = lake::Lake::open(&dir.path().join("lake"), Calendar::india(), lake::Options::default())
        .map_err(void)?;
    lake.absorb(Vec::new(), before);
    let sent: usize = groups
        .iter()
        .map(|(rows, _)| rows.iter().filter(|row| Table::of(row) == Table::IntervalReading).count())
        .sum();
    let began = process_cpu();
    for (rows, upto) in groups {
        lake.absorb(rows, upto);
        if lake.hot_bytes() >= 128 << 20 {
            lake.commit(upto).map_err(void)?;
        }
    }
    let upto = lake.snapshot().position;
    lake.commit(upto).map_err(void)?;
    let spent = process_cpu() - began;
    let snapshot = lake.snapshot();
    let found: u64 = snapshot.table(Table::IntervalReading).files.iter().map(|file| file.rows).sum();
    if found == sent as u64 { Ok(spent) } else { Err(Void(format!("{sent} rows sent, {found} found"))) }
}

fn void(error: impl std::fmt::Display) -> Void {
    Void(error.to_string())
}
