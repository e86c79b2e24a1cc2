//! Sessions with simulated meters over connections that the meters opened, and over datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use codec::apdu::initiate::Conformance;
use codec::apdu::{self, Apdu, AttributeDescriptor, MethodDescriptor, SelectedAttribute};
use codec::axdr::{Data, Value};
use codec::cosem::india::{control::RELAY, identity::SERIAL_NUMBER, profile::BLOCK_LOAD};
use codec::cosem::{ClassId, LogicalName};
use codec::hdlc;
use codec::security::association::{Envelope, Incoming, Outgoing, Protect};
use codec::security::counter::{RisingCounter, SendCounter};
use codec::security::keys::{AssociationKeys, Key, KeyUse};
use codec::security::{Keys, RustCrypto, Scratch};
use codec::wrapper::{Wrapper, WrapperRepr};
use fleet::meter::{Door, SimulatedClock, doors, write_access};
use fleet::{Faults, Fleet, FleetOptions, Mix, Target};
use ingest::{
    Client, LinkError, MeterSession, SessionError, SessionOptions, Sessions, TcpOptions, serve_tcp,
};
use model::{Fact, QuarantineReason, Source};
use registry::{Asking, MeterAccess, MeterFraming};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::frames::{Meter, june, wrap};
use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(60);

fn options(meters: u32, to: SocketAddr, hdlc: bool) -> FleetOptions {
    let target = Target::Tcp { address: to, meters_per_connection: 1 };
    let mix = Mix { confirmed_ppm: 1_000_000, transport_policy_ppm: 0, hdlc, ..Mix::default() };
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
        Dialled::speaking(meters, speed, identify_after, false).await
    }

    async fn speaking(meters: u32, speed: u32, identify_after: Duration, hdlc: bool) -> Dialled {
        let world = World::new().await;
        let sessions =
            Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = options(meters, listener.local_addr().unwrap(), hdlc);
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
        let mut access = register(&world, &doors).await;
        for meter in access.iter_mut().filter(|_| hdlc) {
            // It is heard on the line that they speak HDLC.
            assert_eq!(meter.asking.framing, MeterFraming::Hdlc);
            meter.asking.framing = MeterFraming::Wrapper;
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn meters_that_dial_in_with_hdlc_are_read_and_switched_whether_they_pushed_or_were_asked_who_they_are()
{
    for identify_after in [Duration::from_millis(50), Duration::ZERO] {
        // Fast enough for pushes, and not so fast that an association ends between two questions.
        let speed = if identify_after.is_zero() { 600 } else { 1 };
        // One takes the shortest frames, the other long ones and windows.
        let dialled = Dialled::speaking(2, speed, identify_after, true).await;
        let (world, stats) = dialled
            .run(async |sessions, meters| {
                for meter in meters {
                    for method in [1, 2] {
                        let mut session = open(sessions, meter).await;
                        assert_eq!(serial(&mut session).await, meter.serial);
                        switch(&mut session, method).await;
                        let output = session.get(whole(70, RELAY, 2)).await.unwrap();
                        assert_eq!(output.data().value(), Value::Bool(method == 2));
                        let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
                        let Value::Array(rows) = rows.data().value() else { panic!() };
                        assert!(rows.len() > 100, "{} rows", rows.len());
                        session.close().await;
                    }
                }
                // With pushes in between.
                let mut session = open(sessions, &meters[0]).await;
                let until = Instant::now() + Duration::from_secs(if speed > 1 { 6 } else { 0 });
                while Instant::now() < until {
                    assert_eq!(serial(&mut session).await, meters[0].serial);
                }
                session.close().await;
            })
            .await;
        let tally = world.tally(Source::Tcp).await;
        assert_eq!((tally.quarantined, stats.resent), (0, 0), "{tally:?} {stats:?}");
        assert!(identify_after > Duration::ZERO || stats.confirmed > 5, "{stats:?}");
    }
}

/// Meters with a port each that answer.
async fn reachable(meters: u32, hdlc: bool) -> (World, Vec<Door>, Vec<MeterAccess>, FleetOptions) {
    let world = World::new().await;
    let options = options(meters, "127.0.0.1:9".parse().unwrap(), hdlc);
    let fleet = Fleet::new(options.clone()).unwrap();
    let clock = SimulatedClock::new(june(5, 12, 0), 1);
    let mut doors = doors(&options, fleet.meters(), &[], clock.now()).unwrap();
    fleet::meter::open(&options, &mut doors, "127.0.0.1:0".parse().unwrap(), clock).await.unwrap();
    let access = register(&world, &doors).await;
    (world, doors, access, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_are_dialled_in_hdlc_at_any_form_of_address_and_with_any_window() {
    let (world, doors, access, options) = reachable(2, true).await;
    for (hdlc_max_info, hdlc_window) in [(32, 1), (128, 3), (2030, 7)] {
        let options = SessionOptions { hdlc_max_info, hdlc_window, ..SessionOptions::default() };
        let sessions = Sessions::new(world.registry.clone(), None, options);
        for (physical, (door, meter)) in
            [None, Some(17), Some(16_383)].iter().zip(doors.iter().zip(&access).cycle())
        {
            let mut meter = world.registry.meter_access(&meter.serial).await.unwrap().unwrap();
            meter.asking.hdlc_address.physical = *physical;
            let to = door.address.unwrap().to_string();
            let opened = sessions.open(&meter, Client::UTILITY, Some(&to)).await;
            let mut session = timeout(DEADLINE, async { opened.unwrap() }).await.unwrap();
            assert_eq!(serial(&mut session).await, meter.serial);
            let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
            let Value::Array(rows) = rows.data().value() else { panic!() };
            assert!(rows.len() > 100, "{}", rows.len());
            switch(&mut session, 1).await;
            session.close().await;
        }
    }
    // Nobody is at this address; nor is HDLC spoken over datagrams.
    let patience = SessionOptions { answer: Duration::from_millis(200), ..SessionOptions::default() };
    let sessions = Sessions::new(world.registry.clone(), None, patience);
    let mut meter = world.registry.meter_access(&access[0].serial).await.unwrap().unwrap();
    meter.asking.hdlc_address.logical = 2;
    let to = doors[0].address.unwrap().to_string();
    let silent = sessions.open(&meter, Client::UTILITY, Some(&to)).await.err().unwrap().to_string();
    assert!(silent.contains("no answer"), "{silent}");
    let refused = sessions.open(&meter, Client::UTILITY, Some(&format!("udp://{to}"))).await.err().unwrap();
    assert!(matches!(refused, SessionError::Link(LinkError::NoHdlc)), "{refused}");
    options.shutdown.cancel();
}

/// Passes bytes on between a client and a meter; before the first bytes of the meter come those of `push`. What the client
/// sends is kept.
async fn pushing(meter: SocketAddr, push: Vec<u8>) -> (SocketAddr, Arc<std::sync::Mutex<Vec<u8>>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::<std::sync::Mutex<Vec<u8>>>::default());
    let kept = Arc::clone(&sent);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut meter = tokio::net::TcpStream::connect(meter).await.unwrap();
        let (mut from_client, mut from_meter) = ([0; 4096], [0; 4096]);
        let mut push = Some(push);
        loop {
            tokio::select! {
                Ok(length @ 1..) = client.read(&mut from_client) => {
                    kept.lock().unwrap().extend_from_slice(&from_client[..length]);
                    let _ = meter.write_all(&from_client[..length]).await;
                }
                Ok(length @ 1..) = meter.read(&mut from_meter) => {
                    client.write_all(&push.take().unwrap_or_default()).await.unwrap();
                    client.write_all(&from_meter[..length]).await.unwrap();
                }
                else => return,
            }
        }
    });
    (address, sent)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_push_that_comes_in_a_session_is_confirmed_when_it_is_durable_and_one_that_proves_nothing_never()
 {
    for hdlc in [false, true] {
        let (world, doors, access, options) = reachable(1, hdlc).await;
        let pushing_meter = Meter::new(9);
        world.register(&[&pushing_meter]).await;
        let sessions =
            Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
        let apdu = pushing_meter.block(june(5, 11, 30), 700);
        for (counter, genuine) in [(1, true), (2, false)] {
            let mut frame = pushing_meter.frame(counter, &apdu);
            if !genuine {
                *frame.last_mut().unwrap() ^= 1;
            }
            let mut receipt = pushing_meter.receipt();
            if hdlc {
                let (to, from) = (hdlc::Address::one(64), hdlc::Address::MANAGEMENT);
                let apdu = frame.split_off(8);
                frame.clear();
                hdlc::emit_push(to, from, &apdu, 128, &mut frame);
                receipt.drain(..8);
            }
            let (address, sent) = pushing(doors[0].address.unwrap(), frame).await;
            let opened = sessions.open(&access[0], Client::UTILITY, Some(&address.to_string())).await;
            let mut session = opened.unwrap();
            assert_eq!(serial(&mut session).await, access[0].serial);
            session.close().await;
            assert_eq!(contains(&sent.lock().unwrap(), &receipt), genuine, "hdlc: {hdlc}");
        }
        let tally = world.tally(Source::Tcp).await;
        assert_eq!((tally.received, tally.stored, tally.quarantined), (2, 1, 1), "{tally:?}");
        options.shutdown.cancel();
    }
}

/// Keys of a simulated meter.
fn keys_of(door: &Door) -> AssociationKeys {
    AssociationKeys::new(Keys::new(door.identity.guek, door.identity.gak))
}

/// What a client proposed in an AARQ, opened with the keys of its meter.
struct Proposed {
    dedicated: Option<Key>,
    max_pdu: u16,
    control: u8,
    general: bool,
}

impl Proposed {
    fn of(aarq: &[u8], keys: &AssociationKeys) -> Option<Proposed> {
        let Ok(Apdu::AssociationRequest(aarq)) = apdu::parse(aarq) else { return None };
        let title = aarq.calling_ap_title?.try_into().ok()?;
        let (initiate, control) = (aarq.user_information?, *aarq.user_information?.get(2)?);
        let protect = if control == 0x10 { Protect::Authenticated } else { Protect::AuthenticatedEncrypted };
        let mut incoming = Incoming::new(title, protect, RisingCounter::new());
        let mut scratch = Scratch::new();
        let opened = incoming.receive(&RustCrypto, keys, initiate, &mut scratch).ok()?;
        let Ok(Apdu::InitiateRequest(initiate)) = apdu::parse(opened.apdu.into_inner()) else { return None };
        let dedicated = initiate.dedicated_key.and_then(|key| Key::from_slice(key.0));
        let general = initiate.conformance.contains(Conformance::GENERAL_PROTECTION);
        Some(Proposed { dedicated, max_pdu: initiate.max_pdu, control, general })
    }
}

/// What was heard on a tapped line: what the client proposed, and all its APDUs.
#[derive(Default)]
struct Heard {
    proposed: Option<Proposed>,
    said: Vec<Vec<u8>>,
}

/// Passes bytes on between a client and a meter, and listens with the meter's keys. Before the meter's answer to the first
/// question under a dedicated key comes what `pushes` makes of that key.
async fn tapped(
    meter: SocketAddr,
    keys: AssociationKeys,
    pushes: impl FnOnce(&Key) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, Arc<std::sync::Mutex<Heard>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<std::sync::Mutex<Heard>>::default());
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut meter = tokio::net::TcpStream::connect(meter).await.unwrap();
        let (mut from_client, mut from_meter) = ([0; 4096], [0; 4096]);
        let (mut said, mut due, mut pushes) = (Vec::new(), Vec::new(), Some(pushes));
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    // With the client goes the connection to the meter, which takes few at once.
                    let Ok(length @ 1..) = read else { return };
                    said.extend_from_slice(&from_client[..length]);
                    while let Ok(frame) = Wrapper::new_checked(&said) {
                        let (apdu, whole) = (frame.apdu().to_vec(), frame.total_len());
                        said.drain(..whole);
                        let mut heard = kept.lock().unwrap();
                        heard.proposed = Proposed::of(&apdu, &keys).or(heard.proposed.take());
                        let key = heard.proposed.as_ref().and_then(|proposed| proposed.dedicated.as_ref());
                        if let (0xd0 | 0xdc, Some(key)) = (apdu[0], key) {
                            due = pushes.take().map_or(Vec::new(), |pushes| pushes(key));
                        }
                        heard.said.push(apdu);
                    }
                    let _ = meter.write_all(&from_client[..length]).await;
                }
                Ok(length @ 1..) = meter.read(&mut from_meter) => {
                    for push in due.drain(..) {
                        client.write_all(&push).await.unwrap();
                    }
                    client.write_all(&from_meter[..length]).await.unwrap();
                }
                else => return,
            }
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_under_the_dedicated_key_of_a_session_is_taken_in_once_and_confirmed() {
    for profile in ["dedicated", "general"] {
        let (world, doors, mut access, options) = reachable(1, false).await;
        let mut meter = access.remove(0);
        meter.profile = profile.to_owned();
        let identity = &doors[0].identity;
        let pushing = Meter { title: meter.title, guek: identity.guek, gak: identity.gak, ..Meter::new(1) };
        let (receipt, keys) = (pushing.receipt(), keys_of(&doors[0]));
        let sealing = keys.clone();
        let (address, heard) = tapped(doors[0].address.unwrap(), keys, move |key| {
            let mut keys = sealing;
            keys.set_dedicated(Some(key.clone()));
            let sealed = |counter: u32, plain: &[u8]| {
                let mut counters = SendCounter::resume(counter);
                counters.reserved(counter + 1);
                let (mut out, use_) = (Vec::new(), KeyUse::Dedicated);
                let outgoing = Outgoing { title: pushing.title.0, protect: Protect::AuthenticatedEncrypted };
                let invocation = counters.take().unwrap();
                outgoing
                    .seal(&RustCrypto, &keys, use_, Envelope::General, invocation, plain, &mut out)
                    .unwrap();
                wrap(&out)
            };
            // The second overtook the first, whose copy comes too. The counters are far above those of the answers.
            let (first, second) = (
                sealed(7_000, &pushing.block(june(5, 11, 30), 700)),
                sealed(7_001, &pushing.event(june(5, 12, 0), 0x10)),
            );
            let mut forged = sealed(7_002, &pushing.event(june(5, 12, 0), 0x20));
            *forged.last_mut().unwrap() ^= 1;
            vec![second, first.clone(), first, forged]
        })
        .await;
        let sessions =
            Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
        let opened = sessions.open(&meter, Client::UTILITY, Some(&address.to_string())).await;
        let mut session = opened.unwrap();
        for _ in 0..2 {
            assert_eq!(serial(&mut session).await, meter.serial, "{profile}");
        }
        session.close().await;
        let facts = world.journaled().into_iter();
        let frames: Vec<_> = facts
            .filter_map(|(fact, _)| match fact {
                Fact::Frame(frame) => Some((frame.counter, frame.late, frame.readings.len())),
                Fact::Quarantined(kept) => panic!("{profile}: {}", kept.detail),
                _ => None,
            })
            .collect();
        assert_eq!(frames, [(None, false, 0), (None, false, 1)], "{profile}");
        let tally = world.tally(Source::Tcp).await;
        assert_eq!((tally.received, tally.stored), (2, 2), "{profile}: {tally:?}");
        let said = &heard.lock().unwrap().said;
        let receipts = said.iter().filter(|apdu| wrap_back(apdu) == receipt).count();
        assert_eq!(receipts, 2, "{profile}");
        options.shutdown.cancel();
    }
}

/// As a client sends it to where a push came from.
fn wrap_back(apdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    WrapperRepr { source: 64, destination: 1 }.emit(apdu, &mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_profile_says_of_sessions_is_what_goes_over_the_line() {
    let (world, doors, mut access, options) = reachable(1, false).await;
    let mut meter = access.remove(0);
    let sessions =
        Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
    // Tag of a question, longest APDU, whether there is a dedicated key, whether general protection is proposed (to which
    // the simulated meter does not agree), whether the release is ciphered, control.
    for (profile, expected) in [
        ("is15959-d1", (0xc8, 1200, false, false, false, 0x30)),
        ("dedicated", (0xd0, 1200, true, false, false, 0x30)),
        ("general", (0xd0, 1200, true, true, false, 0x30)),
        ("release", (0xc8, 300, false, false, true, 0x30)),
        ("authenticated", (0, 1200, false, false, false, 0x10)),
    ] {
        meter.profile = profile.to_owned();
        let (address, heard) = tapped(doors[0].address.unwrap(), keys_of(&doors[0]), |_| vec![]).await;
        match sessions.open(&meter, Client::UTILITY, Some(&address.to_string())).await {
            Ok(mut session) => {
                assert_eq!(serial(&mut session).await, meter.serial, "{profile}");
                let rows = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
                assert!(matches!(rows.data().value(), Value::Array(rows) if rows.len() > 100), "{profile}");
                session.close().await;
            }
            // The simulated meter asks for both.
            Err(error) => assert_eq!(profile, "authenticated", "{error}"),
        }
        let Heard { proposed, said } = &*heard.lock().unwrap();
        let Proposed { dedicated, max_pdu, control, general } =
            proposed.as_ref().unwrap_or_else(|| panic!("{profile}: {said:02x?}"));
        let release = said.iter().rev().find_map(|said| match apdu::parse(said) {
            Ok(Apdu::ReleaseRequest(release)) => Some(release.user_information.is_some()),
            _ => None,
        });
        let asked = said.iter().map(|apdu| apdu[0]).find(|tag| [0xc8, 0xd0, 0xdc, 0xdb].contains(tag));
        let asked = asked.unwrap_or(0);
        let released = release.unwrap_or(false);
        let found = (asked, *max_pdu, dedicated.is_some(), *general, released, *control);
        assert_eq!(found, expected, "{profile}");
    }
    options.shutdown.cancel();
}

async fn again(world: &World, meter: &MeterAccess) -> MeterAccess {
    world.registry.meter_access(&meter.serial).await.unwrap().unwrap()
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

/// Passes datagrams on; before the answer of this number comes each of these frames.
async fn pushing_network(meter: SocketAddr, before: usize, pushes: Vec<Vec<u8>>) -> SocketAddr {
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    inside.connect(meter).await.unwrap();
    let address = outside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut bytes, mut answers) = (vec![0; 4096], 0);
        loop {
            let (length, client) = outside.recv_from(&mut bytes).await.unwrap();
            inside.send(&bytes[..length]).await.unwrap();
            let length = inside.recv(&mut bytes).await.unwrap();
            answers += 1;
            for push in pushes.iter().filter(|_| answers == before) {
                outside.send_to(push, client).await.unwrap();
            }
            outside.send_to(&bytes[..length], client).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_comes_in_a_session_is_booked_by_its_line_and_belongs_to_the_meter_of_the_session() {
    let (world, doors, mut access, options) = reachable(1, false).await;
    let other = Meter::new(900);
    world.register(&[&other]).await;
    let meter = access.remove(0);
    let identity = &doors[0].identity;
    let asked = Meter { title: meter.title, guek: identity.guek, gak: identity.gak, ..Meter::new(1) };
    let event = |meter: &Meter| meter.frame(7_000, &meter.event(june(5, 12, 0), 0x10));
    // Asking for the counter takes three answers, the association two.
    let pushes = vec![event(&asked), event(&other)];
    let network = pushing_network(doors[0].address.unwrap(), 6, pushes).await;
    let sessions =
        Sessions::new(world.registry.clone(), Some(world.pipeline.clone()), SessionOptions::default());
    let address = format!("udp://{network}");
    let mut session =
        timeout(DEADLINE, sessions.open(&meter, Client::UTILITY, Some(&address))).await.unwrap().unwrap();
    assert_eq!(serial(&mut session).await, meter.serial);
    session.close().await;
    world
        .until("both are folded", |fold| fold.tallies().iter().map(|tally| tally.received).sum::<u64>() >= 2)
        .await;
    let (udp, tcp) = (world.tally(Source::Udp).await, world.tally(Source::Tcp).await);
    assert_eq!((udp.received, udp.stored, udp.quarantined), (2, 1, 1), "{udp:?}");
    assert_eq!(tcp.received, 0, "{tcp:?}");
    let reasons = world.journaled().into_iter().filter_map(|(fact, _)| match fact {
        Fact::Quarantined(kept) => Some(kept.reason),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [QuarantineReason::IdentityMismatch]);
    options.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_is_read_over_udp_though_datagrams_are_lost_and_doubled() {
    let (world, doors, mut access, options) = reachable(1, false).await;
    let meter = access.remove(0);
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
    let expected = session.get(whole(7, BLOCK_LOAD, 2)).await.unwrap();
    let Value::Array(rows) = expected.data().value() else { panic!() };
    assert!(rows.len() > 100, "{}", rows.len());
    let output = session.get(whole(70, RELAY, 2)).await.unwrap();
    assert_eq!(output.data().value(), Value::Bool(true));
    session.close().await;
    // The same in blocks of a general transfer, which stream and are lost too.
    for window in [1, 4, 63] {
        let meter = MeterAccess {
            asking: Asking { block_window: window, ..meter.asking },
            ..again(&world, &meter).await
        };
        let opened = timeout(DEADLINE, sessions.open(&meter, Client::UTILITY, Some(&address))).await.unwrap();
        let mut session = opened.unwrap();
        let rows = timeout(DEADLINE, session.get(whole(7, BLOCK_LOAD, 2))).await.unwrap().unwrap();
        assert_eq!(rows, expected, "window {window}");
        assert_eq!(serial(&mut session).await, meter.serial);
        session.close().await;
    }
    assert!(losses.load(Ordering::Relaxed) >= 4, "{losses:?}");
    options.shutdown.cancel();
}
