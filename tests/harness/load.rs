//! A load of genuine pushes, its own witness of what was confirmed, and what a storm is measured by.
//!
//! Frames are made with the codec alone, outside the measured time. The oracle is what came back over the sockets: a
//! digest is confirmed when its data-notification-confirm was read, and then it must be in table `frame` exactly once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use codec::apdu::{DataNotificationRepr, LongInvokeId};
use codec::axdr::{DateTime, Writer};
use codec::security::{self, Keys, RustCrypto, SecurityControl};
use codec::wrapper::WrapperRepr;
use fleet::SimulatedMeter;
use model::{Calendar, CivilDay};

use super::{DEADLINE, Served, urja_ok};

/// First charged day, and the moment at which driven time stands: no day is booked meanwhile.
const FROM: &str = "2026-04-02";
const NOW: &str = "2026-04-03T05:30:00+05:30";
/// Half-hours of each meter between the two.
const SLOTS: u32 = 59;
/// Frames that one concentrator has under way, where capacity is measured.
pub const WINDOW: usize = 256;
/// Frames written at a time.
const CHUNK: usize = 32;
/// A datagram without its confirm is sent again after this time.
const RESEND: Duration = Duration::from_secs(1);

/// A push on the wire.
#[derive(Clone)]
pub struct Frame {
    /// Wrapper header and APDU.
    pub bytes: Vec<u8>,
    /// What its confirm says.
    pub invoke_id: u32,
    /// Serial number of its meter.
    pub node: Arc<str>,
}

/// A meter and how far it has pushed.
struct Meter {
    simulated: SimulatedMeter,
    keys: Keys,
    counter: AtomicU32,
    slot: AtomicU32,
}

/// Registered meters that push what a head-end has not seen yet.
pub struct Load {
    meters: Vec<Meter>,
    next_meter: AtomicU32,
    invoke_id: AtomicU32,
    calendar: Calendar,
    confirmed: Mutex<Vec<String>>,
    /// Frames and datagrams written, repetitions included.
    pub offered: AtomicU64,
}

/// A number of frames taken in, and how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Frames confirmed.
    pub frames: usize,
    /// From the first byte to the last confirm.
    pub seconds: f64,
}

impl Taken {
    /// Frames a second.
    pub fn rate(self) -> f64 {
        self.frames as f64 / self.seconds
    }
}

impl Load {
    /// Registers so many meters with accounts at a head-end whose time is driven, and moves its time to where their
    /// pushes are new and nothing of them is booked.
    pub fn register(served: &Served, dir: &Path, seed: u64, meters: u32) -> Load {
        let from: CivilDay = FROM.parse().unwrap();
        let plain = fleet::Mix {
            three_phase_ppm: 0,
            quarter_hour_ppm: 0,
            start_stamped_ppm: 0,
            transport_policy_ppm: 0,
            ..fleet::Mix::default()
        };
        let simulated = fleet::provision(seed, meters, from, &plain);
        let (accounts, keys) = (dir.join("accounts.csv"), dir.join("meters.csv"));
        fleet::write_accounts(&simulated, std::fs::File::create(&accounts).unwrap()).unwrap();
        fleet::write_meters(&simulated, std::fs::File::create(&keys).unwrap()).unwrap();
        urja_ok(&served.data, &["clock", &format!("{FROM}T00:00:00+05:30")]);
        for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
            urja_ok(&served.data, &["tariff", "apply", tariff]);
        }
        urja_ok(&served.data, &["account", "import", &accounts.display().to_string()]);
        urja_ok(&served.data, &["meter", "import", &keys.display().to_string()]);
        urja_ok(&served.data, &["clock", NOW]);
        let meter = |simulated: SimulatedMeter| Meter {
            keys: Keys::new(simulated.guek, simulated.gak),
            simulated,
            counter: AtomicU32::new(0),
            slot: AtomicU32::new(0),
        };
        Load {
            meters: simulated.into_iter().map(meter).collect(),
            next_meter: AtomicU32::new(0),
            invoke_id: AtomicU32::new(1),
            calendar: Calendar::india(),
            confirmed: Mutex::default(),
            offered: AtomicU64::new(0),
        }
    }

    /// Account number of a meter.
    pub fn account(&self, meter: usize) -> String {
        self.meters[meter].simulated.account.to_string()
    }

    /// How many meters there are.
    pub fn meters(&self) -> usize {
        self.meters.len()
    }

    /// A push of a meter under another key than its own.
    pub fn forged(&self, meter: usize) -> Vec<u8> {
        let title = self.meters[meter].simulated.title;
        let (keys, mut apdu) = (Keys::new([1; 16], [2; 16]), Vec::new());
        let plain = [0x55; 80];
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        security::seal(&RustCrypto, control, &title.0, 1, &keys, &plain, &mut apdu);
        wrapped(&apdu)
    }

    /// Half-hours that no meter has pushed yet.
    pub fn left(&self) -> usize {
        let used = self.next_meter.load(Ordering::Relaxed) as usize;
        (self.meters.len() * SLOTS as usize).saturating_sub(used)
    }

    /// So many half-hour pushes, meter by meter and then the next half-hour.
    pub fn blocks(&self, count: usize) -> Vec<Frame> {
        assert!(count <= self.left(), "the fleet is too small: {count} pushes wanted, {} left", self.left());
        let take = |_| {
            let number = self.next_meter.fetch_add(1, Ordering::Relaxed) as usize;
            self.block(number % self.meters.len())
        };
        (0..count).map(take).collect()
    }

    /// The next half-hour of a meter.
    pub fn block(&self, meter: usize) -> Frame {
        let slot = self.meters[meter].slot.fetch_add(1, Ordering::Relaxed);
        self.push(meter, false, [0, 5, 25, 9, 0, 255], 10, slot + 1, |writer| {
            writer.u16(2301).u32(400 + slot).u32(420 + slot).u32(0).u32(0).u16(150).u16(151);
        })
    }

    /// A last gasp: the event status word with "power failure".
    pub fn alarm(&self, meter: usize) -> Frame {
        self.push(meter, true, [0, 4, 25, 9, 0, 255], 4, SLOTS, |writer| {
            writer.bit_string(128, &[0x80; 16]);
        })
    }

    /// An APDU of a meter under its keys, with a body of any kind: only a meter gone mad sends such.
    pub fn sealed(&self, meter: usize, plain: &[u8]) -> Vec<u8> {
        let Meter { simulated, keys, counter, .. } = &self.meters[meter];
        let counter = counter.fetch_add(1, Ordering::Relaxed) + 1;
        let mut apdu = Vec::new();
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        security::seal(&RustCrypto, control, &simulated.title.0, counter, keys, plain, &mut apdu);
        wrapped(&apdu)
    }

    fn push(
        &self,
        meter: usize,
        urgent: bool,
        setup: [u8; 6],
        elements: usize,
        half_hours: u32,
        body: impl FnOnce(&mut Writer<'_>),
    ) -> Frame {
        let from: CivilDay = FROM.parse().unwrap();
        let at = self.calendar.start_of(from).plus_seconds(1800 * i64::from(half_hours));
        let wall = self.calendar.wall_clock(at);
        let small = |field: i8| u8::try_from(field).unwrap();
        let clock = DateTime::new(
            u16::try_from(wall.year).unwrap(),
            small(wall.month),
            small(wall.day),
            small(wall.weekday),
            small(wall.hour),
            small(wall.minute),
            small(wall.second),
            0,
            330,
            0,
        );
        let simulated = &self.meters[meter].simulated;
        let mut plain = Vec::new();
        let mut writer = Writer::new(&mut plain);
        writer.structure(elements).octet_string(simulated.device_id.as_bytes());
        writer.octet_string(&setup).octet_string(&clock.0);
        body(&mut writer);
        let id = self.invoke_id.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff;
        let mut apdu = Vec::new();
        let invoke_id = LongInvokeId::new(id, true, urgent);
        DataNotificationRepr { invoke_id, date_time: None }.emit(&plain, &mut apdu);
        let bytes = self.sealed(meter, &apdu);
        Frame { bytes, invoke_id: id, node: simulated.serial.as_str().into() }
    }

    /// Notes that the head-end confirmed a frame.
    pub fn confirm(&self, frame: &Frame) {
        self.confirm_all(std::iter::once(frame));
    }

    fn confirm_all<'f>(&self, frames: impl Iterator<Item = &'f Frame>) {
        let digests = frames.map(|frame| ingest::digest(&frame.bytes).to_string());
        self.confirmed.lock().unwrap().extend(digests);
    }

    /// Frames confirmed so far.
    pub fn confirmed(&self) -> usize {
        self.confirmed.lock().unwrap().len()
    }

    /// What so many half-hours over so many concentrators take.
    pub fn take_in(&self, address: SocketAddr, connections: usize, count: usize) -> Taken {
        let frames = self.blocks(count);
        self.deliver(address, connections, WINDOW, &frames)
    }

    /// Delivers these over so many concentrators, each with so many under way, as fast as they are confirmed.
    pub fn deliver(&self, address: SocketAddr, connections: usize, window: usize, frames: &[Frame]) -> Taken {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..connections {
                // Every meter keeps to one concentrator, so its counters arrive in their order.
                let mine = frames.iter().skip(number).step_by(connections).collect();
                scope.spawn(move || self.concentrator(address, window, mine));
            }
        });
        let seconds = began.elapsed().as_secs_f64();
        self.confirm_all(frames.iter());
        Taken { frames: frames.len(), seconds }
    }

    /// Returns when all are confirmed; a lost connection is made again and what was not confirmed is sent again.
    fn concentrator(&self, address: SocketAddr, window: usize, mut frames: VecDeque<&Frame>) {
        let end = Instant::now() + DEADLINE * 5;
        while !frames.is_empty() {
            assert!(Instant::now() < end, "{} frames are not confirmed in time", frames.len());
            let Ok(stream) = TcpStream::connect(address) else {
                std::thread::park_timeout(Duration::from_millis(50));
                continue;
            };
            frames = self.converse(stream, window, frames);
        }
    }

    /// Sends and reads confirms until all are there or the connection is lost; gives what is not confirmed.
    fn converse<'f>(
        &self,
        mut stream: TcpStream,
        window: usize,
        mut frames: VecDeque<&'f Frame>,
    ) -> VecDeque<&'f Frame> {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut under_way: HashMap<u32, &Frame> = HashMap::new();
        let mut confirms = Confirms::default();
        let mut chunk = Vec::new();
        while !(frames.is_empty() && under_way.is_empty()) {
            while under_way.len() + CHUNK <= window && !frames.is_empty() {
                chunk.clear();
                let count = frames.len().min(CHUNK);
                for frame in frames.drain(..count) {
                    chunk.extend_from_slice(&frame.bytes);
                    under_way.insert(frame.invoke_id, frame);
                }
                self.offered.fetch_add(count as u64, Ordering::Relaxed);
                if stream.write_all(&chunk).is_err() {
                    frames.extend(under_way.into_values());
                    return frames;
                }
            }
            match confirms.read(&mut stream) {
                Some(ids) => ids.iter().for_each(|id| {
                    under_way.remove(id);
                }),
                None => {
                    frames.extend(under_way.into_values());
                    return frames;
                }
            }
        }
        frames
    }

    /// Sends these as datagrams whether or not there is room for them, and again until all are confirmed.
    pub fn datagrams(&self, address: SocketAddr, frames: &[Frame]) {
        let end = Instant::now() + DEADLINE * 5;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(RESEND)).unwrap();
        let mut missing: HashMap<u32, &Frame> = frames.iter().map(|frame| (frame.invoke_id, frame)).collect();
        let mut answer = [0; 64];
        while !missing.is_empty() {
            assert!(Instant::now() < end, "{} datagrams are not confirmed in time", missing.len());
            for frame in missing.values() {
                // Where the system has no room a datagram is lost, as on any network.
                let _ = socket.send_to(&frame.bytes, address);
            }
            self.offered.fetch_add(missing.len() as u64, Ordering::Relaxed);
            let round = Instant::now() + RESEND;
            while !missing.is_empty() && Instant::now() < round {
                match socket.recv(&mut answer) {
                    Ok(length) => {
                        missing.remove(&confirmed_id(&answer[..length]));
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        break;
                    }
                    Err(_) => {}
                }
            }
        }
        self.confirm_all(frames.iter());
    }

    /// Publishes these with quality of service 1; returns when the broker has taken them all on.
    pub fn publish(&self, broker: SocketAddr, frames: &[Frame]) {
        const IN_FLIGHT: usize = 500;
        let mut stream = TcpStream::connect(broker).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // CONNECT of MQTT 3.1.1, a clean session, no keep-alive, client id "storm".
        stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05storm").unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0], "CONNACK");
        for frames in frames.chunks(IN_FLIGHT) {
            let mut packets = Vec::new();
            for (number, frame) in frames.iter().enumerate() {
                let topic = format!("Normal_Push/{}", frame.node);
                let length = 2 + topic.len() + 2 + frame.bytes.len();
                packets.push(0x32);
                let low = u8::try_from(length % 128).unwrap();
                match u8::try_from(length / 128).unwrap() {
                    0 => packets.push(low),
                    high => packets.extend([low | 0x80, high]),
                }
                packets.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
                packets.extend(topic.as_bytes());
                packets.extend(u16::try_from(number + 1).unwrap().to_be_bytes());
                packets.extend(&frame.bytes);
            }
            stream.write_all(&packets).unwrap();
            self.offered.fetch_add(frames.len() as u64, Ordering::Relaxed);
            let mut pubacks = vec![0; 4 * frames.len()];
            stream.read_exact(&mut pubacks).unwrap();
            assert!(pubacks.chunks(4).all(|puback| puback[..2] == [0x40, 2]), "PUBACK");
        }
        // The broker's promise, which it must keep and so must we.
        self.confirm_all(frames.iter());
    }

    /// Nothing confirmed is lost or doubled, every frame is accounted for, and no part of the head-end broke.
    pub fn check(&self, served: &Served) {
        /// Rows of one answer.
        const PAGE: usize = 200_000;
        let confirmed = self.confirmed.lock().unwrap().clone();
        let distinct: BTreeSet<&str> = confirmed.iter().map(String::as_str).collect();
        assert_eq!(distinct.len(), confirmed.len(), "the load itself sent something twice");
        served.wait_number("SELECT cast(sum(contested) AS bigint) FROM source_tally", 0);
        let mut stored = BTreeSet::new();
        let mut last = 0;
        loop {
            let statement = format!(
                "SELECT position, digest FROM frame WHERE position > {last} ORDER BY position LIMIT {PAGE}"
            );
            let rows = served.sql(&statement);
            for row in &rows {
                let digest = row["digest"].as_str().unwrap().to_owned();
                assert!(stored.insert(digest), "stored twice: {row}");
                last = row["position"].as_i64().unwrap();
            }
            if rows.len() < PAGE {
                break;
            }
        }
        let lost = distinct.iter().filter(|digest| !stored.contains(**digest)).count();
        assert_eq!(lost, 0, "of {} confirmed frames so many are not stored", distinct.len());
        assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
        assert!(!served.log().contains("panicked"), "a task panicked");
    }
}

/// An APDU with the header in front that a meter gives it.
pub fn wrapped(apdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    WrapperRepr { source: 1, destination: 64 }.emit(apdu, &mut bytes);
    bytes
}

/// The invoke id of a data-notification-confirm in its wrapper.
pub fn confirmed_id(frame: &[u8]) -> u32 {
    assert_eq!(frame.get(8), Some(&0x10), "no data-notification-confirm: {frame:02x?}");
    u32::from_be_bytes([0, frame[10], frame[11], frame[12]])
}

/// Confirms out of a stream, in any cut.
#[derive(Default)]
struct Confirms {
    buffer: Vec<u8>,
}

impl Confirms {
    /// The next ones; `None` when the connection is lost.
    fn read(&mut self, stream: &mut TcpStream) -> Option<Vec<u32>> {
        let mut bytes = [0; 8192];
        let length = stream.read(&mut bytes).ok().filter(|length| *length > 0)?;
        self.buffer.extend_from_slice(&bytes[..length]);
        let mut ids = Vec::new();
        let mut at = 0;
        while let Some(head) = self.buffer.get(at..at + 8) {
            let whole = 8 + usize::from(u16::from_be_bytes([head[6], head[7]]));
            let Some(frame) = self.buffer.get(at..at + whole) else { break };
            ids.push(confirmed_id(frame));
            at += whole;
        }
        self.buffer.drain(..at);
        Some(ids)
    }
}
