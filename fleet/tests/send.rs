//! The senders against a little head-end and a little broker, which lose confirms and break connections.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codec::apdu::{self, Apdu};
use codec::security::{self, Keys, Opened, RustCrypto, Scratch};
use codec::wrapper::{self, Wrapper, WrapperRepr};
use fleet::{Faults, Fleet, FleetOptions, Mix, MqttTarget, SimulatedMeter, Target};
use model::{CivilDay, Paise};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time;

const DEADLINE: Duration = Duration::from_secs(60);
/// After which a frame is sent again, where confirms are lost.
const SOON: Duration = Duration::from_millis(100);

/// What a head-end has taken in, and what goes wrong with it.
#[derive(Default)]
struct HeadEnd {
    keys: HashMap<[u8; 8], Keys>,
    /// Copies of each frame, by its bytes.
    taken: Mutex<HashMap<Vec<u8>, u32>>,
    connections: Mutex<u32>,
    /// Every so many frames the first copy is not confirmed.
    forgets_every: u32,
    /// After so many frames a connection is closed.
    closes_after: Option<u32>,
}

impl HeadEnd {
    fn new(meters: &[Arc<SimulatedMeter>], forgets_every: u32, closes_after: Option<u32>) -> Arc<HeadEnd> {
        let keys = meters.iter().map(|meter| (meter.title.0, Keys::new(meter.guek, meter.gak))).collect();
        Arc::new(HeadEnd { keys, forgets_every, closes_after, ..HeadEnd::default() })
    }

    /// Takes a frame in; the bytes of its confirm, unless it is forgotten.
    fn take(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut taken = self.taken.lock().unwrap();
        let number = taken.len() as u32 + 1;
        let copies = taken.entry(frame.to_vec()).or_default();
        *copies += 1;
        if *copies == 1 && self.forgets_every > 0 && number.is_multiple_of(self.forgets_every) {
            return None;
        }
        let view = Wrapper::new_checked(frame).unwrap();
        let id = self.invoke_id(view.apdu());
        let mut apdu = Vec::new();
        apdu::emit_data_notification_confirm(id, &mut apdu);
        let mut confirm = Vec::new();
        WrapperRepr { source: view.destination(), destination: view.source() }.emit(&apdu, &mut confirm);
        id.confirmed().then_some(confirm)
    }

    fn invoke_id(&self, apdu: &[u8]) -> apdu::LongInvokeId {
        let Apdu::GeneralGlo(ciphered) = apdu::parse(apdu).unwrap() else { panic!("not ciphered") };
        let keys = &self.keys[ciphered.system_title()];
        let mut scratch = Scratch::new();
        let opened =
            security::open(&RustCrypto, &ciphered, keys, security::Policy::Authenticated, &mut scratch);
        let Ok(Opened::Authentic(plain)) = opened else { panic!("not authentic") };
        let Apdu::DataNotification(push) = apdu::parse(plain.into_inner()).unwrap() else {
            panic!("not a push")
        };
        push.invoke_id()
    }

    fn frames(&self) -> HashSet<String> {
        self.taken.lock().unwrap().keys().map(|frame| digest(frame)).collect()
    }

    fn most_copies(&self) -> u32 {
        self.taken.lock().unwrap().values().copied().max().unwrap_or(0)
    }
}

fn digest(frame: &[u8]) -> String {
    hex::encode(&blake3::hash(frame).as_bytes()[..16])
}

async fn tcp_head_end(head_end: Arc<HeadEnd>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            *head_end.connections.lock().unwrap() += 1;
            tokio::spawn(serve(stream, Arc::clone(&head_end)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, head_end: Arc<HeadEnd>) {
    let mut bytes = Vec::new();
    let mut frames = 0;
    loop {
        while let Some(length) =
            wrapper::frame_len(&bytes, 65_535).unwrap().filter(|length| *length <= bytes.len())
        {
            let frame: Vec<u8> = bytes.drain(..length).collect();
            let confirm = head_end.take(&frame);
            frames += 1;
            if head_end.closes_after == Some(frames) {
                return;
            }
            if let Some(confirm) = confirm
                && stream.write_all(&confirm).await.is_err()
            {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

fn first_day() -> CivilDay {
    "2026-06-01".parse().unwrap()
}

fn options(meters: u32, dir: &Path) -> FleetOptions {
    FleetOptions {
        mix: Mix { transport_policy_ppm: 0, ..Mix::default() },
        truth: Some(dir.join("truth.jsonl")),
        confirm_timeout: DEADLINE,
        retry_after: Duration::from_millis(10),
        ..FleetOptions::new(9, meters, first_day())
    }
}

/// The meters of these options, before there is anything to send to.
fn meters_of(options: &FleetOptions) -> Vec<Arc<SimulatedMeter>> {
    let meters = fleet::provision(options.seed, options.meters, options.from, &options.mix);
    meters.into_iter().map(Arc::new).collect()
}

fn truth(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("truth.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn digests(lines: &[Value], kind: &str) -> HashSet<String> {
    let of = lines.iter().filter(|line| line["line"] == kind);
    of.map(|line| line["digest"].as_str().unwrap().to_owned()).collect()
}

async fn push(fleet: &mut Fleet, day: CivilDay) {
    time::timeout(DEADLINE, fleet.push_day(day, |_| {})).await.expect("the head-end answers").unwrap();
}

#[tokio::test]
async fn over_tcp_every_frame_is_confirmed_and_the_truth_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(12, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 0, None);
    let address = tcp_head_end(Arc::clone(&head_end)).await;
    options.targets = vec![Target::Tcp { address, meters_per_connection: 1 }];
    let mut fleet = Fleet::new(options).unwrap();
    for ahead in 0..2 {
        push(&mut fleet, first_day().plus(ahead)).await;
        fleet.truth().day_closed(first_day().plus(ahead)).unwrap();
    }
    let account = &fleet.meters()[0].account;
    fleet.truth().recharge(account, Paise(10_000), "p-1", "posted").unwrap();
    let lines = truth(dir.path());
    assert_eq!(digests(&lines, "frame"), head_end.frames());
    assert_eq!(digests(&lines, "acknowledged"), head_end.frames());
    assert_eq!(*head_end.connections.lock().unwrap(), 12, "one for each meter, kept over days");
    let stats = fleet.stats();
    assert_eq!((stats.frames, stats.resent), (head_end.frames().len() as u64, 0));
    assert_eq!(stats.confirmed, stats.sent);
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["line"]).collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "used").count(),
        12 * 3,
        "two days, and the third has begun"
    );
    assert_eq!(kinds.iter().filter(|kind| **kind == "day_closed" || **kind == "recharge").count(), 3);
}

#[tokio::test]
async fn confirms_that_are_lost_make_the_same_bytes_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(12, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 5, None);
    let address = tcp_head_end(Arc::clone(&head_end)).await;
    options.targets = vec![Target::Tcp { address, meters_per_connection: 6 }];
    options.faults = Faults::NONE;
    options.confirm_timeout = SOON;
    let mut fleet = Fleet::new(options).unwrap();
    push(&mut fleet, first_day()).await;
    let lines = truth(dir.path());
    assert_eq!(digests(&lines, "acknowledged"), digests(&lines, "frame"));
    assert_eq!(digests(&lines, "frame"), head_end.frames());
    assert_eq!(*head_end.connections.lock().unwrap(), 2);
    assert!(head_end.most_copies() >= 2);
    let stats = fleet.stats();
    assert!(stats.resent >= stats.frames / 5, "{stats:?}");
    assert_eq!(stats.sent, stats.frames + stats.resent);
}

#[tokio::test]
async fn broken_connections_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(10, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 0, Some(7));
    let address = tcp_head_end(Arc::clone(&head_end)).await;
    options.targets = vec![Target::Tcp { address, meters_per_connection: 10 }];
    let mut fleet = Fleet::new(options).unwrap();
    push(&mut fleet, first_day()).await;
    let lines = truth(dir.path());
    assert_eq!(digests(&lines, "acknowledged"), digests(&lines, "frame"));
    assert!(digests(&lines, "frame").is_subset(&head_end.frames()));
    assert!(fleet.stats().connections > 5);
}

#[tokio::test]
async fn over_udp_lost_datagrams_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(10, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 4, None);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = Arc::clone(&head_end);
    tokio::spawn(async move {
        let mut datagram = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            if let Some(confirm) = server.take(&datagram[..length]) {
                socket.send_to(&confirm, from).await.unwrap();
            }
        }
    });
    options.targets = vec![Target::Udp { address, meters_per_connection: 5 }];
    options.confirm_timeout = SOON;
    let mut fleet = Fleet::new(options).unwrap();
    push(&mut fleet, first_day()).await;
    let lines = truth(dir.path());
    assert_eq!(digests(&lines, "acknowledged"), digests(&lines, "frame"));
    assert_eq!(digests(&lines, "frame"), head_end.frames());
    assert!(fleet.stats().resent > 0);
}

#[tokio::test]
async fn a_head_end_that_comes_back_elsewhere_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(6, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 0, None);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    options.targets = vec![Target::Tcp { address: nobody, meters_per_connection: 3 }];
    let shutdown = options.shutdown.clone();
    let mut fleet = Fleet::new(options).unwrap();
    let redirect = fleet.redirect();
    let server = Arc::clone(&head_end);
    tokio::spawn(async move { redirect.to(0, tcp_head_end(server).await) });
    push(&mut fleet, first_day()).await;
    assert_eq!(digests(&truth(dir.path()), "acknowledged"), head_end.frames());
    shutdown.cancel();
    push(&mut fleet, first_day().next()).await;
    assert_eq!(
        digests(&truth(dir.path()), "acknowledged"),
        head_end.frames(),
        "nothing is sent after shutdown"
    );
}

#[tokio::test]
async fn live_sends_what_is_due_until_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(5, dir.path());
    let head_end = HeadEnd::new(&meters_of(&options), 0, None);
    let address = tcp_head_end(Arc::clone(&head_end)).await;
    options.targets = vec![Target::Tcp { address, meters_per_connection: 1 }];
    options.faults = Faults::NONE;
    let (shutdown, start) = (options.shutdown.clone(), options.calendar.at(first_day(), 10, 0));
    let mut fleet = Fleet::new(options).unwrap();
    push_until(&mut fleet, start).await;
    let (before, counters) = (fleet.stats(), fleet.counters());
    let watcher = async {
        while counters.stats().confirmed < before.confirmed + 200 {
            time::sleep(Duration::from_millis(5)).await;
        }
        shutdown.cancel();
    };
    // Ten hours a second.
    let (stats, ()) =
        time::timeout(DEADLINE, async { tokio::join!(fleet.live(start, 36_000), watcher) }).await.unwrap();
    let stats = stats.unwrap();
    assert_eq!(stats.resent, 0);
    assert!(stats.intervals > before.intervals);
}

async fn push_until(fleet: &mut Fleet, until: model::Instant) {
    time::timeout(DEADLINE, fleet.push_until(until, |_| {})).await.expect("the head-end answers").unwrap();
}

/// Topics and payloads, as they came.
type Published = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Just enough of MQTT 5: takes connections and publishes, and hangs up on the twentieth publish of a connection.
async fn broker(published: Published) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_mqtt(stream, Arc::clone(&published)));
        }
    });
    address
}

async fn serve_mqtt(mut stream: TcpStream, published: Published) -> Option<()> {
    for number in 0_u32.. {
        let kind = stream.read_u8().await.ok()?;
        let mut length = 0_usize;
        for shift in (0..28).step_by(7) {
            let byte = stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        match kind >> 4 {
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await.ok()?,
            3 => {
                assert_eq!(kind & 0x06, 0x02, "quality of service 1");
                let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..topic_end].to_vec()).unwrap();
                let properties = usize::from(body[topic_end + 2]);
                published.lock().unwrap().push((topic, body[topic_end + 3 + properties..].to_vec()));
                if number == 20 {
                    return None;
                }
                stream.write_all(&[0x40, 2, body[topic_end], body[topic_end + 1]]).await.ok()?;
            }
            12 => stream.write_all(&[0xd0, 0]).await.ok()?,
            _ => return None,
        }
    }
    None
}

#[tokio::test]
async fn over_mqtt_every_frame_is_published_although_the_broker_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(9, dir.path());
    let published = Published::default();
    let address = broker(Arc::clone(&published)).await;
    let target = MqttTarget { meters_per_connection: 5, ..MqttTarget::new("127.0.0.1", address.port()) };
    options.targets = vec![Target::Mqtt(target)];
    let mut fleet = Fleet::new(options).unwrap();
    push(&mut fleet, first_day()).await;
    let lines = truth(dir.path());
    let acknowledged = lines.iter().filter(|line| line["line"] == "acknowledged");
    assert!(acknowledged.clone().all(|line| line["how"] == "published"));
    assert_eq!(digests(&lines, "acknowledged"), digests(&lines, "frame"));
    let published = published.lock().unwrap();
    let taken: HashSet<String> = published.iter().map(|(_, payload)| digest(payload)).collect();
    assert_eq!(taken, digests(&lines, "frame"));
    let serial = &fleet.meters()[0].serial;
    assert!(published.iter().any(|(topic, _)| *topic == format!("Normal_Push/{serial}")));
    assert!(fleet.stats().resent > 0 && fleet.stats().connections > 2);
}
