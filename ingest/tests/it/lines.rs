//! Sessions with simulated meters over connections that the meters opened, and over datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use codec::apdu::{AttributeDescriptor, MethodDescriptor, SelectedAttribute};
use codec::axdr::{Data, Value};
use codec::cosem::india::{control::RELAY, identity::SERIAL_NUMBER, profile::BLOCK_LOAD};
use codec::cosem::{ClassId, LogicalName};
use fleet::meter::{Door, SimulatedClock, doors, write_access};
use fleet::{Faults, Fleet, FleetOptions, Mix, Target};
use ingest::{Client, MeterSession, SessionError, SessionOptions, Sessions, TcpOptions, serve_tcp};
use model::Source;
use registry::MeterAccess;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::frames::june;
use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(60);

fn options(meters: u32, to: SocketAddr) -> FleetOptions {
    let target = Target::Tcp { address: to, meters_per_connection: 1 };
    let mix = Mix { confirmed_ppm: 1_000_000, transport_policy_ppm: 0, ..Mix::default() };
    let from = "2026-06-01".parse().unwrap();
    FleetOptions { faults: Faults::NONE, targets: vec![target], mix, ..FleetOptions::new(5, meters, from) }
}

/// Registers meters without accounts and without addresses.
async fn register(world: &World, doors: &[Door]) -> Vec<MeterAccess> {
    let mut csv = Vec::new();
    write_access(doors, &mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut out = lines.next().unwrap().join(",") + "\n";
    for mut line in lines {
        (line[6], line[8]) = (String::new(), String::new());
        out += &(line.join(",") + "\n");
    }
    world.import_csv(&out).await;
    let mut access = Vec::new();
    for door in doors {
        access.push(world.registry.meter_access(&door.identity.serial).await.unwrap().unwrap());
    }
    access
}

fn whole(class: u16, instance: LogicalName, attribute: i8) -> SelectedAttribute<'static> {
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(class), instance, attribute })
}

async fn serial(session: &mut MeterSession) -> String {
    let value = session.get(whole(1, SERIAL_NUMBER, 2)).await.unwrap();
    let (Value::OctetString(text) | Value::VisibleString(text)) = value.data().value() else { panic!() };
    String::from_utf8(text.to_vec()).unwrap()
}

async fn switch(session: &mut MeterSession, method: i8) {
    let method = MethodDescriptor { class: ClassId(70), instance: RELAY, method };
    session.action(method, Data::new(&[0x0f, 0]).ok()).await.unwrap();
}

/// A head-end that meters dial, and a fleet that does.
struct Dialled {
    world: World,
    sessions: Sessions,
    access: Vec<MeterAccess>,
    fleet: Fleet,
    clock: SimulatedClock,
    speed: u32,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Dialled {
    async fn new(meters: u32, speed: u32, identify_after: Duration) -> Dialled {
        let world = World::new().await;
        let sessions =
            Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = options(meters, listener.local_addr().unwrap());
        let tcp = TcpOptions { identify_after, ..TcpOptions::default() };
        let shutdown = CancellationToken::new();
        let (pipeline, ours) = (world.pipeline.clone(), Some(sessions.clone()));
        let served = tokio::spawn(serve_tcp(listener, pipeline, ours, tcp, shutdown.clone()));
        let mut fleet = Fleet::new(options.clone()).unwrap();
        let start = june(5, 12, 0);
        fleet.skip_until(start).unwrap();
        let clock = SimulatedClock::new(start, speed);
        let mut doors = doors(&options, fleet.meters(), &[], start).unwrap();
        fleet.dial_in(&mut doors, clock);
        let access = register(&world, &doors).await;
        Dialled { world, sessions, access, fleet, clock, speed, shutdown, served }
    }

    /// Lets the fleet live while `asking` goes on; gives the head-end back.
    async fn run(mut self, asking: impl AsyncFnOnce(&Sessions, &[MeterAccess])) -> (World, fleet::Stats) {
        let stop = self.fleet.options().shutdown.clone();
        let now = self.clock.now();
        let asking = async {
            timeout(DEADLINE, asking(&self.sessions, &self.access)).await.unwrap();
            stop.cancel();
        };
        let (stats, ()) = tokio::join!(self.fleet.live(now, self.speed), asking);
        self.shutdown.cancel();
        timeout(DEADLINE, self.served).await.unwrap().unwrap();
        (self.world, stats.unwrap())
    }
}

/// Asks until the meter has dialled in.
async fn open(sessions: &Sessions, meter: &MeterAccess) -> MeterSession {
    loop {
        match sessions.open(meter, Client::UTILITY, None).await {
            Ok(session) => return session,
            Err(SessionError::NoAddress(_) | SessionError::Busy(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_dials_in_and_says_nothing_is_asked_who_it_is_and_can_be_read() {
    let dialled = Dialled::new(3, 1, Duration::from_millis(50)).await;
    let (world, _) = dialled
        .run(async |sessions, meters| {
            for meter in meters {
                let mut session = open(sessions, meter).await;
                assert_eq!(serial(&mut session).await, meter.serial);
                switch(&mut session, 1).await;
                session.close().await;
                let mut session = open(sessions, meter).await;
                let output = session.get(whole(70, RELAY, 2)).await.unwrap();
                assert_eq!(output.data().value(), Value::Bool(false));
                session.close().await;
            }
        })
        .await;
    let tally = world.tally(Source::Tcp).await;
    assert_eq!(tally.quarantined, 0, "answers are no frames that the journal is to keep");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_between_questions_and_answers_are_journaled_and_confirmed() {
    // Nobody is asked who he is: the pushes say it.
    let dialled = Dialled::new(1, 1800, Duration::ZERO).await;
    let (world, stats) = dialled
        .run(async |sessions, meters| {
            let mut session = open(sessions, &meters[0]).await;
            let until = Instant::now() + Duration::from_secs(8);
            let mut reads = 0;
            while Instant::now() < until {
                assert_eq!(serial(&mut session).await, meters[0].serial);
                reads += 1;
            }
            // A long answer, in blocks.
            let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
            let Value::Array(rows) = rows.data().value() else { panic!() };
            assert!(reads > 20 && rows.len() > 100, "{reads} reads, {} rows", rows.len());
            session.close().await;
        })
        .await;
    let tally = world.tally(Source::Tcp).await;
    assert!(stats.confirmed > 10, "{stats:?}");
    assert_eq!((tally.quarantined, stats.resent), (0, 0), "{tally:?} {stats:?}");
    assert!(tally.received >= stats.confirmed, "{tally:?} {stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_over_the_same_line_is_told_that_it_is_busy() {
    let dialled = Dialled::new(1, 1, Duration::from_millis(50)).await;
    dialled
        .run(async |sessions, meters| {
            let first = open(sessions, &meters[0]).await;
            let second = sessions.open(&meters[0], Client::UTILITY, None).await;
            assert!(matches!(second, Err(SessionError::Busy(_))));
            first.close().await;
            // A password is not shown to whoever says that he is the meter.
            let reader = sessions.open(&meters[0], Client::READER, None).await;
            assert!(matches!(reader, Err(SessionError::NoChallenge { .. })));
        })
        .await;
}

/// Passes datagrams on: each is doubled; of answers the fifth, which is the meter's proof, and each seventh is lost
/// with its double. Says how many were.
async fn bad_network(meter: SocketAddr) -> (SocketAddr, Arc<AtomicU32>) {
    let (outside, inside) = (
        Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
        Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
    );
    inside.connect(meter).await.unwrap();
    let address = outside.local_addr().unwrap();
    let losses = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&losses);
    tokio::spawn(async move {
        let (mut from_client, mut from_meter) = (vec![0; 4096], vec![0; 4096]);
        let (mut client, mut answers) = (None, 0);
        loop {
            tokio::select! {
                Ok((length, peer)) = outside.recv_from(&mut from_client) => {
                    client = Some(peer);
                    for _ in 0..2 {
                        inside.send(&from_client[..length]).await.unwrap();
                    }
                }
                Ok(length) = inside.recv(&mut from_meter) => {
                    // The meter answers each of two.
                    let number = answers / 2 + 1;
                    let lost = number == 5 || number % 7 == 0;
                    answers += 1;
                    if lost {
                        count.fetch_add(1, Ordering::Relaxed);
                    } else if let Some(peer) = client {
                        outside.send_to(&from_meter[..length], peer).await.unwrap();
                    }
                }
            }
        }
    });
    (address, losses)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_is_read_over_udp_though_datagrams_are_lost_and_doubled() {
    let world = World::new().await;
    let options = options(1, "127.0.0.1:9".parse().unwrap());
    let fleet = Fleet::new(options.clone()).unwrap();
    let clock = SimulatedClock::new(june(5, 12, 0), 1);
    let mut doors = doors(&options, fleet.meters(), &[], clock.now()).unwrap();
    fleet::meter::open(&options, &mut doors, "127.0.0.1:0".parse().unwrap(), clock).await.unwrap();
    let meter = register(&world, &doors).await.remove(0);
    let patience =
        SessionOptions { answer: Duration::from_millis(1500), tries: 6, ..SessionOptions::default() };
    let sessions = Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), patience);
    let (network, losses) = bad_network(doors[0].address.unwrap()).await;
    let address = format!("udp://{network}");
    let mut session =
        timeout(DEADLINE, sessions.open(&meter, Client::UTILITY, Some(&address))).await.unwrap().unwrap();
    for _ in 0..5 {
        assert_eq!(serial(&mut session).await, meter.serial);
    }
    let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
    let Value::Array(rows) = rows.data().value() else { panic!() };
    assert!(rows.len() > 100, "{}", rows.len());
    let output = session.get(whole(70, RELAY, 2)).await.unwrap();
    assert_eq!(output.data().value(), Value::Bool(true));
    session.close().await;
    assert!(losses.load(Ordering::Relaxed) >= 4, "{losses:?}");
    options.shutdown.cancel();
}
