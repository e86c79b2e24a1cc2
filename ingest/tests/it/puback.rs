//! The order of acknowledgements over MQTT, as a broker of our own sees it: it speaks as much MQTT 5 as that takes.

use ingest::{MqttOptions, serve_mqtt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::frames::{Meter, june, wrap};
use crate::world::{World, within};

const CONNECT: u8 = 1;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;

/// The broker's side of the only connection.
struct Peer(TcpStream);

impl Peer {
    /// Takes a connection and its subscription.
    async fn accept(listener: &TcpListener) -> Peer {
        let mut peer = Peer(within(listener.accept()).await.unwrap().0);
        assert_eq!(peer.packet().await.0, CONNECT);
        peer.send(0x20, &[0, 0, 0]).await;
        let (kind, body) = peer.packet().await;
        assert_eq!(kind, SUBSCRIBE);
        let filters = count_filters(&body[2..]);
        let mut granted = [&body[..2], &[0][..]].concat();
        granted.resize(granted.len() + filters, 1);
        peer.send(0x90, &granted).await;
        peer
    }

    /// Publishes at QoS 1.
    async fn publish(&mut self, packet: u16, payload: &[u8]) {
        let topic = b"Normal_Push/SN0000001";
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let body = [&length, &topic[..], &packet.to_be_bytes(), &[0], payload].concat();
        self.send(0x32, &body).await;
    }

    /// Packet of the next PUBACK.
    async fn puback(&mut self) -> u16 {
        loop {
            match self.packet().await {
                (PUBACK, body) => return u16::from_be_bytes([body[0], body[1]]),
                (PINGREQ, _) => self.send(0xd0, &[]).await,
                (other, _) => panic!("packet {other}"),
            }
        }
    }

    async fn packet(&mut self) -> (u8, Vec<u8>) {
        within(async {
            let kind = self.0.read_u8().await.unwrap() >> 4;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (kind, body)
        })
        .await
    }

    async fn send(&mut self, head: u8, body: &[u8]) {
        let mut packet = vec![head];
        let mut left = body.len();
        loop {
            let byte = u8::try_from(left & 0x7f).unwrap();
            left >>= 7;
            packet.push(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        within(self.0.write_all(&packet)).await.unwrap();
    }
}

/// Filters after the properties of a SUBSCRIBE, which are few.
fn count_filters(body: &[u8]) -> usize {
    let mut rest = &body[1 + usize::from(body[0])..];
    let mut filters = 0;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        rest = &after[usize::from(u16::from_be_bytes(*length)) + 1..];
        filters += 1;
    }
    filters
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_are_acknowledged_in_the_order_in_which_they_came() {
    let meter = Meter::new(1);
    let world = World::of(&[&meter]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let options = MqttOptions { url, receive_maximum: 16, ..MqttOptions::default() };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve_mqtt(world.pipeline.clone(), options, shutdown.clone()));
    let mut peer = Peer::accept(&listener).await;
    // All in one group, in which copies are answered after what is new.
    world.hold_frames().await;
    let frame = |counter: u32| {
        let end = june(5, 11, 30).plus_seconds(-1800 * i64::from(counter));
        meter.frame(counter, &meter.block(end, counter))
    };
    let payloads = [frame(1), frame(1), wrap(&[0x60, 1, 2]), frame(2), frame(1), frame(3)];
    for (packet, payload) in (1..).zip(&payloads) {
        peer.publish(packet, payload).await;
    }
    let queued = async {
        while world.pipeline.stats().queue_frames < payloads.len() {
            tokio::task::yield_now().await;
        }
    };
    within(queued).await;
    world.lake.claim_hot_bytes(0);
    let mut acknowledged = Vec::new();
    for _ in &payloads {
        acknowledged.push(peer.puback().await);
    }
    assert_eq!(acknowledged, [1, 2, 3, 4, 5, 6]);
    shutdown.cancel();
    drop(peer);
    within(task).await.unwrap().unwrap();
}
