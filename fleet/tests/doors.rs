//! Meters of a fleet can be reached: a port each, or on the connections of their pushes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use codec::apdu::{self, Apdu};
use codec::wrapper::{Wrapper, WrapperRepr, frame_len};
use fleet::meter::{Door, SimulatedClock, doors, open, write_access};
use fleet::{Faults, Fleet, FleetOptions, Target};
use model::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// AARQ of the public client.
const AARQ: &str = "601da109060760857405080101be10040e01000000065f1f0400001014ffff";
/// Reads the serial number.
const GET: &str = "c001c100010000600100ff0200";
const DEADLINE: Duration = Duration::from_secs(20);

fn options(meters: u32) -> FleetOptions {
    let from = "2026-06-01".parse().unwrap();
    let target = Target::Tcp { address: "127.0.0.1:9".parse().unwrap(), meters_per_connection: 1 };
    FleetOptions { faults: Faults::NONE, targets: vec![target], ..FleetOptions::new(3, meters, from) }
}

fn now(options: &FleetOptions) -> Instant {
    options.calendar.at("2026-06-20".parse().unwrap(), 12, 0)
}

async fn send(stream: &mut TcpStream, client: u16, apdu: &[u8]) {
    let mut frame = Vec::new();
    WrapperRepr { source: client, destination: 1 }.emit(apdu, &mut frame);
    stream.write_all(&frame).await.unwrap();
}

/// The next APDU for that client; what is for others is passed over.
async fn receive(stream: &mut TcpStream, read: &mut Vec<u8>, client: u16) -> Vec<u8> {
    timeout(DEADLINE, async {
        loop {
            let length = frame_len(read, 4096).unwrap();
            if let Some(length) = length.filter(|length| *length <= read.len()) {
                let frame: Vec<u8> = read.drain(..length).collect();
                let wrapper = Wrapper::new_checked(&frame).unwrap();
                if wrapper.destination() == client {
                    return wrapper.apdu().to_vec();
                }
                continue;
            }
            assert_ne!(stream.read_buf(read).await.unwrap(), 0, "the meter closed");
        }
    })
    .await
    .unwrap()
}

/// Reads the serial number as public client.
async fn serial(stream: &mut TcpStream, read: &mut Vec<u8>) -> String {
    send(stream, 16, &hex::decode(AARQ).unwrap()).await;
    let opened = receive(stream, read, 16).await;
    assert!(matches!(apdu::parse(&opened), Ok(Apdu::AssociationResponse(_))), "{opened:02x?}");
    send(stream, 16, &hex::decode(GET).unwrap()).await;
    let answer = receive(stream, read, 16).await;
    String::from_utf8(answer[6..].to_vec()).unwrap()
}

#[tokio::test]
async fn each_meter_has_a_port_of_its_own() {
    let options = options(3);
    let fleet = Fleet::new(options.clone()).unwrap();
    let clock = SimulatedClock::new(now(&options), 1);
    let mut doors = doors(&options, fleet.meters(), &[], clock.now()).unwrap();
    open(&options, &mut doors, "127.0.0.1:0".parse().unwrap(), clock).await.unwrap();
    for Door { identity, address, .. } in &doors {
        let mut stream = TcpStream::connect(address.unwrap()).await.unwrap();
        assert_eq!(serial(&mut stream, &mut Vec::new()).await, identity.serial);
    }
    let mut file = Vec::new();
    write_access(&doors, &mut file).unwrap();
    let file = String::from_utf8(file).unwrap();
    let line: Vec<&str> = file.lines().nth(2).unwrap().split(',').collect();
    assert_eq!((line.len(), line[8]), (14, &*doors[1].address.unwrap().to_string()));
    options.shutdown.cancel();
}

#[tokio::test]
async fn a_meter_that_dials_in_answers_on_the_connection_of_its_pushes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = options(1);
    options.targets = vec![Target::Tcp { address, meters_per_connection: 1 }];
    let mut fleet = Fleet::new(options.clone()).unwrap();
    let start = now(&options);
    fleet.skip_until(start).unwrap();
    let clock = SimulatedClock::new(start, 1);
    let mut doors = doors(&options, fleet.meters(), &[], start).unwrap();
    fleet.dial_in(&mut doors, clock);
    let asking = async {
        for _ in 0..2 {
            // It comes again where the connection breaks.
            let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
            let mut read = Vec::new();
            assert_eq!(serial(&mut stream, &mut read).await, doors[0].identity.serial);
            assert_eq!(serial(&mut stream, &mut read).await, doors[0].identity.serial);
        }
        options.shutdown.cancel();
    };
    let (live, ()) = tokio::join!(fleet.live(start, 1), asking);
    live.unwrap();
}
