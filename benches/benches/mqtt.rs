//! M4: publishes of quality of service 1 that are acknowledged after they are durable, through a real broker, against
//! what the broker itself takes to hand them to a subscriber that throws them away.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use benches::broker::{self, Mosquitto};
use benches::world::{INTERVALS, Meter, World, first_day, morning_after};
use benches::{Figure, Floor, Samples, Void, gated, process_cpu, setting};
use ingest::{MqttOptions, serve_mqtt};
use model::{CivilDay, Source};
use tokio_util::sync::CancellationToken;

const METERS: (&str, usize) = ("URJA_BENCH_METERS", 20_000);
/// Publishes of a round.
const PUBLISHES: (&str, usize) = ("URJA_BENCH_PUBLISHES", 200_000);
const ROUNDS: (&str, usize) = ("URJA_BENCH_ROUNDS", 3);
/// Clients that publish.
const CLIENTS: usize = 4;
/// Publishes with a flipped bit of the tag in the gate.
const FLIPPED: usize = 200;
const TOPIC: &str = "Normal_Push/bench";
const DEADLINE: Duration = Duration::from_secs(600);
/// Set for the process that publishes: address, first push and how many.
const PUBLISHER: &str = "URJA_BENCH_PUBLISHER";

fn main() -> ExitCode {
    if let Ok(order) = std::env::var(PUBLISHER) {
        return match publisher(&order) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the publisher failed: {error}");
                ExitCode::FAILURE
            }
        };
    }
    gated(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(void)?.block_on(run())
    })
}

async fn run() -> Result<(), Void> {
    let dir = tempfile::tempdir().map_err(void)?;
    let Some(broker) = Mosquitto::start(dir.path()).map_err(void)? else {
        println!("# mosquitto is not installed: M4 is skipped");
        return Ok(());
    };
    let meters = setting(METERS.0, METERS.1);
    let publishes = setting(PUBLISHES.0, PUBLISHES.1);
    let data = dir.path().join("data");
    std::fs::create_dir(&data).map_err(void)?;
    let world = World::open(&data, |_| {}).await.map_err(void)?;
    world.register(1..meters as u32 + 1).await.map_err(void)?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..setting(ROUNDS.0, ROUNDS.1) {
        peer.push(thrown_away(&broker, meters, publishes)?);
        ours.push(taken(&world, &broker, meters, round * publishes, publishes).await?);
    }
    let (ours, peer) = (Samples::of(ours), Samples::of(peer));
    let ratio = peer.over(&ours);
    let figure = Figure {
        id: "M4",
        ours: format!("{:.0} /s/core", 1e9 / ours.median()),
        peer: format!("{:.0} /s/core", 1e9 / peer.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::AtLeast(1.0),
    };
    println!("{figure}");
    world.pipeline.shutdown().await.map_err(void)
}

/// CPU time of the broker for a publish that a subscriber throws away, ns.
fn thrown_away(broker: &Mosquitto, meters: usize, publishes: usize) -> Result<f64, Void> {
    let address = broker.address;
    let (told, subscribed) = std::sync::mpsc::channel();
    let subscriber = std::thread::spawn(move || {
        broker::throw_away(address, TOPIC, publishes, || {
            // Whoever waits for it has not gone.
            let _ = told.send(());
        })
    });
    subscribed.recv().map_err(void)?;
    let (cpu, began) = (broker.cpu(), Instant::now());
    let mut publisher = spawn(address, meters, 0, publishes, 0)?;
    subscriber.join().map_err(|_| Void("the subscriber panicked".into()))?.map_err(void)?;
    ended(&mut publisher)?;
    let spent = (broker.cpu() - cpu) / publishes as f64;
    let a_second = publishes as f64 / began.elapsed().as_secs_f64();
    println!("#   thrown away: {a_second:.0} publishes/s, mosquitto {spent:.0} ns each");
    Ok(spent)
}

/// CPU time of this process for a publish that it acknowledges, ns.
async fn taken(
    world: &World,
    broker: &Mosquitto,
    meters: usize,
    first: usize,
    publishes: usize,
) -> Result<f64, Void> {
    world.clock.set(morning_after(place_of(first + publishes, meters).0));
    let stop = CancellationToken::new();
    let options = MqttOptions {
        url: format!("mqtt://{}", broker.address),
        topics: vec![TOPIC.to_owned()],
        ..MqttOptions::default()
    };
    let serving = tokio::spawn(serve_mqtt(world.pipeline.clone(), options, stop.clone()));
    let before = tally(world).await?;
    // Until we are subscribed nothing reaches us: publishes that the gate expects to be refused tell.
    let mut flipped = 0;
    let until = Instant::now() + DEADLINE;
    while tally(world).await?.quarantined == before.quarantined {
        ended(&mut spawn(broker.address, meters, 1_000_000 + first + flipped, 1, 1)?)?;
        flipped += 1;
        if Instant::now() > until {
            return Err(Void("not subscribed in time".into()));
        }
    }
    ended(&mut spawn(broker.address, meters, 2_000_000 + first, FLIPPED, 1)?)?;
    let (broker_cpu, cpu, began) = (broker.cpu(), process_cpu(), Instant::now());
    let mut publisher = spawn(broker.address, meters, first, publishes, 0)?;
    let expected = before.stored + publishes as u64;
    while tally(world).await?.stored < expected {
        if Instant::now() > until {
            return Err(Void("the publishes were not taken in time".into()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let a_second = publishes as f64 / began.elapsed().as_secs_f64();
    let spent = (process_cpu() - cpu) / publishes as f64;
    let broker_spent = (broker.cpu() - broker_cpu) / publishes as f64;
    println!("#   taken: {a_second:.0} publishes/s, ours {spent:.0} ns each, mosquitto {broker_spent:.0} ns");
    ended(&mut publisher)?;
    stop.cancel();
    serving.await.map_err(void)?.map_err(void)?;
    let after = tally(world).await?;
    let refused = after.quarantined - before.quarantined;
    if after.stored != expected || refused < FLIPPED as u64 {
        return Err(Void(format!("{after:?} after {before:?}, {publishes} published, {FLIPPED} flipped")));
    }
    Ok(spent)
}

async fn tally(world: &World) -> Result<model::view::Tally, Void> {
    world.pipeline.look(|fold| fold.tallies()[Source::Mqtt.index()]).await.map_err(void)
}

/// Starts the process that publishes, so that its time is not ours.
fn spawn(address: SocketAddr, meters: usize, first: usize, count: usize, flip: u8) -> Result<Child, Void> {
    let own = std::env::current_exe().map_err(void)?;
    let order = format!("{address} {meters} {first} {count} {flip}");
    Command::new(own).env(PUBLISHER, order).stdin(Stdio::null()).spawn().map_err(void)
}

fn ended(publisher: &mut Child) -> Result<(), Void> {
    let status = publisher.wait().map_err(void)?;
    if status.success() { Ok(()) } else { Err(Void(format!("the publisher: {status}"))) }
}

fn publisher(order: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let words: Vec<&str> = order.split(' ').collect();
    let [address, meters, first, count, flip] = words[..] else { return Err("not an order".into()) };
    let address: SocketAddr = address.parse()?;
    let (meters, first, count): (usize, usize, usize) = (meters.parse()?, first.parse()?, count.parse()?);
    let is_flipped = flip == "1";
    // Made before the first is sent.
    let mut parts: Vec<Vec<Vec<u8>>> = vec![Vec::new(); CLIENTS.min(count)];
    for number in first..first + count {
        let (day, interval, meter) = place_of(number, meters);
        let counter = (number / meters) as u32 + 1;
        let mut push = Meter::new(meter as u32 + 1).push_of_interval(counter, day, interval);
        if is_flipped && let Some(last) = push.last_mut() {
            *last ^= 1 << (number % 8);
        }
        let part = number % parts.len();
        parts[part].push(push);
    }
    let process = std::process::id();
    let clients: Vec<_> = parts
        .into_iter()
        .enumerate()
        .map(|(number, part)| {
            let client_id = format!("bench-{process}-{number}");
            std::thread::spawn(move || broker::publish(address, &client_id, TOPIC, part.into_iter()))
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    Ok(())
}

fn place_of(number: usize, meters: usize) -> (CivilDay, usize, usize) {
    let (interval, index) = (number / meters, number % meters);
    (first_day().plus((interval / INTERVALS) as i32), interval % INTERVALS, index * 7_919 % meters)
}

fn void(error: impl std::fmt::Display) -> Void {
    Void(error.to_string())
}
