//! What goes wrong on demand goes wrong over every way in which a meter is reached without a broker: at its port over TCP
//! and UDP, and over the connection of its pushes, with the wrapper and in HDLC.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use codec::apdu::acse::{Aarq, ApplicationContext, Mechanism};
use codec::apdu::initiate::{Conformance, DLMS_VERSION, InitiateRequest};
use codec::hdlc::{Address, ClientEvent, ClientLine, ClientLineOptions, Parameters};
use codec::wrapper::{Wrapper, WrapperRepr, frame_len};
use fleet::meter::{Access, Fault, SimulatedClock, Trouble, When, doors, open};
use fleet::{Faults, Fleet, FleetOptions, Mix, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{Instant, timeout};

/// The reader, with a password.
const READER: u16 = 32;
const PUSH_CLIENT: u16 = 64;
/// Logical names of the serial number and of the block load.
const SERIAL: [u8; 9] = [0, 1, 0, 0, 96, 1, 0, 255, 2];
const BLOCKS: [u8; 9] = [0, 7, 1, 0, 99, 1, 0, 255, 2];
/// Longer than any answer takes that is not slow.
const PATIENCE: Duration = Duration::from_secs(2);
/// A slow one takes ten.
const SLOW: Duration = Duration::from_secs(9);
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Udp,
    DialIn,
    Hdlc,
    HdlcDialIn,
}

impl Way {
    fn is_hdlc(self) -> bool {
        matches!(self, Way::Hdlc | Way::HdlcDialIn)
    }

    fn dials_in(self) -> bool {
        matches!(self, Way::DialIn | Way::HdlcDialIn)
    }
}

enum Wire {
    Stream(TcpStream, Vec<u8>),
    Datagrams(UdpSocket),
    Line(TcpStream, Box<ClientLine>, Instant),
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Apdu(Vec<u8>),
    Silence,
    Closed,
}

/// A meter with that fault, reached in that way.
struct Meter {
    wire: Wire,
    /// What came for the client of pushes.
    pushed: usize,
    access: Access,
    options: FleetOptions,
    live: Option<JoinHandle<()>>,
}

impl Meter {
    async fn new(way: Way, fault: Fault) -> Meter {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp { address: listener.local_addr().unwrap(), meters_per_connection: 1 };
        let from = "2026-06-01".parse().unwrap();
        let mix = Mix { hdlc: way.is_hdlc(), ..Mix::default() };
        let usual = FleetOptions::new(3, 1, from);
        let options = FleetOptions { faults: Faults::NONE, targets: vec![target], mix, ..usual };
        let start = options.calendar.at("2026-06-20".parse().unwrap(), 12, 0);
        let mut fleet = Fleet::new(options.clone()).unwrap();
        fleet.skip_until(start).unwrap();
        let clock = SimulatedClock::new(start, 1);
        let mut doors = doors(&options, fleet.meters(), &[fault], start).unwrap();
        let access = doors[0].access.clone();
        let mut live = None;
        let line = |stream| {
            let patient = ClientLineOptions {
                server: Address::MANAGEMENT,
                parameters: Parameters::default(),
                timeout: DEADLINE,
                retries: 0,
                max_apdu: 4096,
            };
            Wire::Line(stream, Box::new(ClientLine::new(patient)), Instant::now())
        };
        let wire = if way.dials_in() {
            fleet.dial_in(&mut doors, clock);
            live = Some(tokio::task::spawn_local(async move { _ = fleet.live(start, 1).await }));
            let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
            if way.is_hdlc() { line(stream) } else { Wire::Stream(stream, Vec::new()) }
        } else {
            open(&options, &mut doors, "127.0.0.1:0".parse().unwrap(), clock).await.unwrap();
            let address = doors[0].address.unwrap();
            if way == Way::Tcp {
                Wire::Stream(TcpStream::connect(address).await.unwrap(), Vec::new())
            } else if way == Way::Hdlc {
                line(TcpStream::connect(address).await.unwrap())
            } else {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(address).await.unwrap();
                Wire::Datagrams(socket)
            }
        };
        Meter { wire, pushed: 0, access, options, live }
    }

    async fn ask(&mut self, apdu: &[u8], patience: Duration) -> Answer {
        let mut frame = Vec::new();
        WrapperRepr { source: READER, destination: 1 }.emit(apdu, &mut frame);
        match &mut self.wire {
            Wire::Stream(stream, _) => stream.write_all(&frame).await.unwrap(),
            Wire::Datagrams(socket) => _ = socket.send(&frame).await.unwrap(),
            Wire::Line(_, line, begun) => line.send(READER as u8, apdu, begun.elapsed()).unwrap(),
        }
        self.pushed = 0;
        let answer = self.wire.answer(&mut self.pushed);
        timeout(patience, answer).await.unwrap_or(Answer::Silence)
    }

    async fn end(self) {
        self.options.shutdown.cancel();
        if let Some(live) = self.live {
            drop(self.wire);
            timeout(DEADLINE, live).await.unwrap().unwrap();
        }
    }
}

impl Wire {
    /// The next APDU for the reader; what is pushed is for another, and counted.
    async fn answer(&mut self, pushed: &mut usize) -> Answer {
        match self {
            Wire::Datagrams(socket) => loop {
                let mut datagram = vec![0; 2000];
                let length = socket.recv(&mut datagram).await.unwrap();
                let wrapper = Wrapper::new_checked(&datagram[..length]).unwrap();
                if wrapper.destination() == READER {
                    return Answer::Apdu(wrapper.apdu().to_vec());
                }
                *pushed += usize::from(wrapper.destination() == PUSH_CLIENT);
            },
            Wire::Stream(stream, read) => loop {
                let length = frame_len(read, 4096).unwrap();
                if let Some(length) = length.filter(|length| *length <= read.len()) {
                    let frame: Vec<u8> = read.drain(..length).collect();
                    let wrapper = Wrapper::new_checked(&frame).unwrap();
                    if wrapper.destination() == READER {
                        return Answer::Apdu(wrapper.apdu().to_vec());
                    }
                    *pushed += usize::from(wrapper.destination() == PUSH_CLIENT);
                } else if stream.read_buf(read).await.unwrap_or(0) == 0 {
                    return Answer::Closed;
                }
            },
            Wire::Line(stream, line, begun) => loop {
                while let Some(event) = line.poll_event() {
                    match event {
                        ClientEvent::Apdu(_, apdu) => return Answer::Apdu(apdu),
                        ClientEvent::Unnumbered { destination, .. } => {
                            *pushed += usize::from(destination.upper() == PUSH_CLIENT);
                        }
                        ClientEvent::Closed(_) => return Answer::Closed,
                    }
                }
                let (mut out, mut read) = (Vec::new(), Vec::new());
                while line.poll_transmit(&mut out) {}
                if stream.write_all(&out).await.is_err() || stream.read_buf(&mut read).await.unwrap_or(0) == 0
                {
                    return Answer::Closed;
                }
                line.handle_bytes(&read, begun.elapsed());
            },
        }
    }
}

fn aarq(access: &Access) -> Vec<u8> {
    let initiate = InitiateRequest {
        dedicated_key: None,
        response_allowed: true,
        quality_of_service: None,
        dlms_version: DLMS_VERSION,
        conformance: Conformance::from_bytes([0, 0x10, 0x14]),
        max_pdu: 1024,
    };
    let mut out = Vec::new();
    Aarq {
        context: ApplicationContext::LogicalName,
        calling_ap_title: None,
        mechanism: Mechanism::LowLevel,
        authentication_value: Some(access.lls.as_bytes()),
        user_information: Some(&initiate.encode()),
    }
    .emit(&mut out);
    out
}

fn get(invoke_id: u8, name: [u8; 9]) -> Vec<u8> {
    [&[0xc0, 1, 0xc0 | invoke_id][..], &name, &[0]].concat()
}

fn refused(invoke_id: u8) -> Answer {
    Answer::Apdu(vec![0xc4, 1, 0xc0 | invoke_id, 1, 2])
}

/// The second of three answers is not what it should be.
async fn goes_wrong(way: Way, trouble: Trouble) {
    let mut meter = Meter::new(way, Fault { trouble, when: When::At(2) }).await;
    let what = format!("{trouble:?} over {way:?}");
    let Answer::Apdu(opened) = meter.ask(&aarq(&meter.access.clone()), DEADLINE).await else {
        panic!("{what}: not associated")
    };
    assert_eq!(opened[0], 0x61, "{what}: {opened:02x?}");
    let good = |invoke_id: u8| {
        let serial = fleet::provision(3, 1, meter.options.from, &meter.options.mix).remove(0).serial;
        [&[0xc4, 1, 0xc0 | invoke_id, 0, 9, serial.len() as u8], serial.as_bytes()].concat()
    };
    let [first, then] = [good(1), good(2)];
    let name = if trouble == Trouble::LowMemory { BLOCKS } else { SERIAL };
    let begun = Instant::now();
    let patience = if trouble == Trouble::Slow { DEADLINE } else { PATIENCE };
    let answer = meter.ask(&get(1, name), patience).await;
    let took = begun.elapsed();
    let flipped = {
        let (last, rest) = first.split_last().unwrap();
        [rest, &[last ^ 1]].concat()
    };
    match (trouble, answer) {
        (Trouble::Drop, Answer::Closed) if way != Way::Udp => return meter.end().await,
        (Trouble::Drop, answer) => assert_eq!((way, answer), (Way::Udp, Answer::Silence), "{what}"),
        (Trouble::Silent, answer) => assert_eq!(answer, Answer::Silence, "{what}"),
        (Trouble::Flip, answer) => assert_eq!(answer, Answer::Apdu(flipped), "{what}"),
        (Trouble::Garbage, Answer::Apdu(apdu)) => {
            assert!(apdu.len() == first.len() && apdu[..6] != first[..6], "{what}: {apdu:02x?}");
        }
        (Trouble::Stale, answer) => assert_eq!(answer, Answer::Apdu(opened), "{what}"),
        // This client has no counter; `tests/meter_faults.rs` has one that does.
        (Trouble::Behind, answer) => assert_eq!(answer, Answer::Apdu(first), "{what}"),
        (Trouble::Slow, answer) => {
            assert_eq!(answer, Answer::Apdu(first), "{what}");
            assert!(took >= SLOW, "{what}: {took:?}");
        }
        (Trouble::Push, answer) => {
            assert_eq!(answer, Answer::Apdu(first), "{what}");
            assert!(meter.pushed > 0, "{what}: nothing came before the answer");
        }
        (Trouble::LowMemory | Trouble::Busy, answer) => assert_eq!(answer, refused(1), "{what}"),
        (_, answer) => panic!("{what}: {answer:?}"),
    }
    if way.is_hdlc() && trouble == Trouble::Silent {
        // The client of a link has no second question before the answer to the first.
        return meter.end().await;
    }
    // It was that one answer.
    assert_eq!(meter.ask(&get(2, SERIAL), DEADLINE).await, Answer::Apdu(then), "{what}");
    assert!(meter.pushed == 0 || way.dials_in(), "{what}: {} pushes", meter.pushed);
    meter.end().await;
}

#[tokio::test]
async fn every_fault_comes_over_tcp_over_udp_in_hdlc_and_over_the_connection_of_pushes_and_once() {
    let together = async {
        let mut all = JoinSet::new();
        for way in [Way::Tcp, Way::Udp, Way::DialIn, Way::Hdlc, Way::HdlcDialIn] {
            for trouble in Trouble::ALL {
                all.spawn_local(goes_wrong(way, trouble));
            }
        }
        while let Some(one) = all.join_next().await {
            one.unwrap();
        }
    };
    LocalSet::new().run_until(together).await;
}
