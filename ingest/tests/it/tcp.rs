//! Wrapper frames over TCP.

use std::net::SocketAddr;
use std::time::Duration;

use codec::security::SecurityControl;
use codec::security::association::Envelope;
use codec::security::keys::KeyUse;
use ingest::{TcpOptions, serve_tcp};
use model::{Channel, Fact, QuarantineReason, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::frames::{Meter, june, wrap};
use crate::lake::first_values;
use crate::told::{sealed, untitled, word};
use crate::world::{World, assert_conserved, within};

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn new(world: &World, options: TcpOptions) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_tcp(listener, world.pipeline.clone(), None, options, shutdown.clone()));
        Served { address, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }
}

/// What comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

async fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_split_at_every_byte_is_taken_and_confirmed() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let served = Served::new(&world, TcpOptions::default()).await;
    let length = u32::try_from(meter.frame(1, &meter.block(june(5, 0, 0), 0)).len()).unwrap();
    let mut stream = served.connect().await;
    for cut in 1..length {
        let block = meter.block(june(5, 11, 30).plus_seconds(-1800 * i64::from(cut)), cut);
        let frame = meter.frame(cut, &block);
        let (head, tail) = frame.split_at(usize::try_from(cut).unwrap());
        stream.write_all(head).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(tail).await.unwrap();
        assert_eq!(exactly(&mut stream, meter.receipt().len()).await, meter.receipt());
    }
    served.stop().await;
    assert_eq!(first_values(&world.rows().await).len(), usize::try_from(length).unwrap() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_in_long_frames_of_m_bus_are_taken_and_confirmed_in_one_between_those_in_the_wrapper() {
    let (meter, other) = (Meter::new(1), Meter::new(2));
    let world = World::of(&[&meter, &other]).await;
    let served = Served::new(&world, TcpOptions::default()).await;
    let mut stream = served.connect().await;
    stream.write_all(b"hello from modem 7\r\n").await.unwrap();
    for counter in 1..=20 {
        let at = june(5, 0, 0).plus_seconds(1800 * i64::from(counter));
        // In one frame, in two and so on.
        let bytes = meter.long_frames(counter, &meter.block(at, counter), 200 / counter as usize);
        let (head, tail) = bytes.split_at(bytes.len() * counter as usize / 21);
        stream.write_all(head).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(tail).await.unwrap();
        let receipt = meter.long_receipt();
        assert_eq!(exactly(&mut stream, receipt.len()).await, receipt);
        stream.write_all(&other.frame(counter, &other.block(at, counter))).await.unwrap();
        assert_eq!(exactly(&mut stream, other.receipt().len()).await, other.receipt());
    }
    // The last frame of one does not come: what is there is evidence.
    let cut = meter.long_frames(21, &meter.block(june(6, 0, 0), 1), 30);
    stream.write_all(&cut[..cut.len() - 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.is_empty());
    served.stop().await;
    assert_eq!(first_values(&world.rows().await).len(), 40);
    let tally = world.tally(Source::Tcp).await;
    assert_eq!((tally.stored, tally.quarantined), (40, 1));
    assert_conserved(&tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_meters_in_one_segment_are_confirmed_in_their_order() {
    let meters: Vec<Meter> =
        (1..=30).map(|number| Meter { confirmed: number % 3 != 0, ..Meter::new(number) }).collect();
    let world = World::of(&meters.iter().collect::<Vec<_>>()).await;
    let served = Served::new(&world, TcpOptions { max_unacknowledged: 4, ..TcpOptions::default() }).await;
    let mut segment = Vec::new();
    let mut receipts = Vec::new();
    for meter in &meters {
        segment.extend(meter.frame(1, &meter.block(june(5, 11, 30), meter.number)));
        if meter.confirmed {
            receipts.extend(meter.receipt());
        }
    }
    let mut stream = served.connect().await;
    stream.write_all(&segment).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(
        rest(&mut stream).await,
        receipts,
        "those that asked, in order, then the connection is closed"
    );
    served.stop().await;
    let rows = first_values(&world.rows().await);
    let energies: Vec<_> = rows.iter().map(|(_, _, values)| values.get(Channel::ImportWh).unwrap()).collect();
    assert_eq!(energies, (1..=30).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_no_wrapper_is_kept_as_evidence_and_closed() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let served = Served::new(&world, TcpOptions { max_apdu: 2000, ..TcpOptions::default() }).await;
    let mut stream = served.connect().await;
    let good = meter.frame(1, &meter.block(june(5, 11, 30), 100));
    stream.write_all(&[&good[..], b"GET / HTTP/1.1\r\n\r\n"].concat()).await.unwrap();
    assert_eq!(rest(&mut stream).await, meter.receipt(), "what came before is confirmed");
    let mut stream = served.connect().await;
    stream.write_all(&[0, 1, 0, 1, 0, 64, 0x07, 0xd1]).await.unwrap();
    assert_eq!(rest(&mut stream).await.len(), 0, "2,001 bytes are over the limit");
    served.stop().await;
    let kept: Vec<_> = world
        .journaled()
        .into_iter()
        .filter_map(|(fact, _)| match fact {
            Fact::Quarantined(frame) => Some((frame.reason, frame.raw.len(), frame.source)),
            _ => None,
        })
        .collect();
    let undecodable = QuarantineReason::Undecodable;
    assert_eq!(kept, [(undecodable, 18, Source::Tcp), (undecodable, 8, Source::Tcp)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_are_closed() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let short = Duration::from_millis(100);
    let long = Duration::from_secs(600);
    let frame = meter.frame(1, &meter.block(june(5, 11, 30), 100));
    let all_long = TcpOptions {
        first_byte_timeout: long,
        frame_timeout: long,
        idle_timeout: long,
        ..TcpOptions::default()
    };
    for (options, sent) in [
        (TcpOptions { first_byte_timeout: short, ..all_long.clone() }, &frame[..0]),
        (TcpOptions { frame_timeout: short, ..all_long.clone() }, &frame[..1]),
        (TcpOptions { frame_timeout: short, ..all_long.clone() }, &frame[..frame.len() - 1]),
        (TcpOptions { idle_timeout: short, ..all_long.clone() }, &frame[..]),
    ] {
        let served = Served::new(&world, options).await;
        let mut stream = served.connect().await;
        stream.write_all(sent).await.unwrap();
        rest(&mut stream).await;
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_nobody_is_the_meters_that_proved_itself_where_its_tag_says_so_and_there_is_one_alone() {
    let (meter, other) = (Meter::new(1), Meter::new(2));
    let world = World::of(&[&meter, &other]).await;
    let served = Served::new(&world, TcpOptions::default()).await;
    let mut stream = served.connect().await;
    let event = |meter: &Meter, counter: u32| {
        let first = counter.to_be_bytes()[3];
        wrap(&sealed(meter, KeyUse::Unicast, Envelope::Service, counter, &word(first)))
    };
    // Which bits of the words that were taken came so far, and why others were not.
    let taken = |world: &World| {
        let mut words = Vec::new();
        let mut refused = Vec::new();
        for (fact, _) in world.journaled() {
            match fact {
                Fact::Frame(frame) => words.extend(frame.event_word.map(|word| word.0[0])),
                Fact::Quarantined(kept) => refused.push(kept.reason),
                _ => {}
            }
        }
        (words, refused)
    };
    let proves = |meter: &Meter, counter: u32| {
        meter.frame(counter, &meter.block(june(5, 11, 0).plus_seconds(1800 * i64::from(counter)), counter))
    };
    stream.write_all(&event(&meter, 1)).await.unwrap();
    stream.write_all(&proves(&meter, 2)).await.unwrap();
    exactly(&mut stream, meter.receipt().len()).await;
    stream.write_all(&event(&meter, 3)).await.unwrap();
    let push = meter.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, 4, &word(4));
    stream.write_all(&wrap(&untitled(push))).await.unwrap();
    stream.write_all(&event(&other, 5)).await.unwrap();
    // Without a tag nothing would say that it is another's.
    let untagged = meter.protect(SecurityControl::ENCRYPTED, 6, &word(6));
    stream.write_all(&wrap(&untitled(untagged))).await.unwrap();
    stream.write_all(&wrap(&word(7))).await.unwrap();
    stream.write_all(&proves(&other, 8)).await.unwrap();
    exactly(&mut stream, other.receipt().len()).await;
    stream.write_all(&event(&meter, 9)).await.unwrap();
    stream.write_all(&proves(&meter, 10)).await.unwrap();
    exactly(&mut stream, meter.receipt().len()).await;
    let unknown = QuarantineReason::UnknownTitle;
    let refused = vec![unknown, QuarantineReason::TagMismatch, unknown, unknown, unknown];
    assert_eq!(taken(&world), (vec![3, 4], refused));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_served_than_there_are_permits() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let served = Served::new(&world, TcpOptions { max_connections: 1, ..TcpOptions::default() }).await;
    let mut first = served.connect().await;
    first.write_all(&meter.frame(1, &meter.block(june(5, 11, 0), 1))).await.unwrap();
    exactly(&mut first, meter.receipt().len()).await;
    let mut second = served.connect().await;
    second.write_all(&meter.frame(2, &meter.block(june(5, 11, 30), 2))).await.unwrap();
    first.write_all(&meter.frame(3, &meter.block(june(5, 10, 30), 3))).await.unwrap();
    exactly(&mut first, meter.receipt().len()).await;
    assert_eq!(world.tally(Source::Tcp).await.received, 2, "the second connection waits");
    drop(first);
    exactly(&mut second, meter.receipt().len()).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_before_a_shutdown_is_confirmed() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let served = Served::new(&world, TcpOptions::default()).await;
    let mut stream = served.connect().await;
    stream.write_all(&meter.frame(1, &meter.block(june(5, 11, 30), 100))).await.unwrap();
    world.until("the frame is through", |fold| fold.tallies()[Source::Tcp.index()].received == 1).await;
    served.stop().await;
    assert_eq!(rest(&mut stream).await, meter.receipt());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_past_its_share_is_closed_and_others_are_served() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let served =
        Served::new(&world, TcpOptions { max_connections_per_address: 1, ..TcpOptions::default() }).await;
    let mut first = served.connect().await;
    first.write_all(&meter.frame(1, &meter.block(june(5, 11, 0), 1))).await.unwrap();
    exactly(&mut first, meter.receipt().len()).await;
    assert_eq!(rest(&mut served.connect().await).await.len(), 0, "a second one from there");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(served.address).await.unwrap();
    other.write_all(&meter.frame(2, &meter.block(june(5, 11, 30), 2))).await.unwrap();
    exactly(&mut other, meter.receipt().len()).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_proves_nothing_is_read_slowly_and_one_with_a_few_wrong_meters_is_not() {
    let (meter, stranger) = (Meter::new(1), Meter::new(2));
    let world = World::of(&[&meter]).await;
    let options = TcpOptions { unproven_pause: Duration::from_secs(600), ..TcpOptions::default() };
    let served = Served::new(&world, options).await;
    let forged = |count: u32| -> Vec<u8> {
        (1..=count).flat_map(|counter| stranger.frame(counter, &stranger.block(june(5, 11, 0), 1))).collect()
    };
    let genuine = |counter: u32| meter.frame(counter, &meter.block(june(5, 11, 0), counter));
    let mut mixed = served.connect().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut bad = socket.connect(served.address).await.unwrap();
    bad.write_all(&[forged(8), genuine(1)].concat()).await.unwrap();
    for round in 2..5 {
        mixed.write_all(&[forged(7), genuine(round)].concat()).await.unwrap();
        exactly(&mut mixed, meter.receipt().len()).await;
    }
    world.until("both are read", |fold| fold.tallies()[Source::Tcp.index()].received >= 3 * 8 + 7).await;
    let taken = world.journaled().iter().filter(|(fact, _)| matches!(fact, Fact::Frame(_))).count();
    assert_eq!(taken, 3, "the slow one's waits");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_frames_from_who_proved_nothing_wait_for_their_turn_and_those_of_a_meter_do_not() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    // The first goes at once; the next would be read in an hour.
    let options = TcpOptions { unproven_bytes_per_second: 1, ..TcpOptions::default() };
    let served = Served::new(&world, options).await;
    let junk = wrap(&[0xee; 5_000]);
    let quarantined = |world: &World| {
        let kept = |fact: &Fact| matches!(fact, Fact::Quarantined(_));
        world.journaled().iter().filter(|(fact, _)| kept(fact)).count()
    };
    let mut known = served.connect().await;
    known.write_all(&meter.frame(1, &meter.block(june(5, 11, 30), 1))).await.unwrap();
    exactly(&mut known, meter.receipt().len()).await;
    let mut strangers = Vec::new();
    for _ in 0..5 {
        let mut stream = served.connect().await;
        stream.write_all(&junk).await.unwrap();
        strangers.push(stream);
    }
    world.until("the first is read", |fold| fold.tallies()[Source::Tcp.index()].received >= 2).await;
    // Over a connection whose meter proved itself a long frame is read, though it proves nothing itself.
    known.write_all(&wrap(&[0xef; 5_000])).await.unwrap();
    known.write_all(&meter.frame(2, &meter.block(june(5, 12, 0), 2))).await.unwrap();
    exactly(&mut known, meter.receipt().len()).await;
    assert_eq!(quarantined(&world), 2, "one of the strangers' and the meter's");
    served.stop().await;
}
