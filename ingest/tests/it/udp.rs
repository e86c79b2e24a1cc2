//! Wrapper frames over UDP.

use ingest::{UdpOptions, serve_udp};
use model::{QuarantineReason, Row, Source};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::frames::{Meter, june};
use crate::world::{World, assert_conserved, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_is_one_frame_and_is_confirmed_to_its_sender() {
    let (meter, quiet) = (Meter::new(1), Meter { confirmed: false, ..Meter::new(2) });
    let world = World::of(&[&meter, &quiet]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let options = UdpOptions { max_apdu: 1000 };
    let task = tokio::spawn(serve_udp(socket, world.pipeline.clone(), options, shutdown.clone()));

    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.connect(address).await.unwrap();
    let mut receipt = [0; 64];
    for counter in 1..=5 {
        let block = meter.block(june(5, 9, 0).plus_seconds(1800 * i64::from(counter)), counter);
        sender.send(&meter.frame(counter, &block)).await.unwrap();
        let length = within(sender.recv(&mut receipt)).await.unwrap();
        assert_eq!(receipt[..length], meter.receipt());
    }
    // In long frames of M-Bus, each in a datagram.
    let long = meter.long_frames(6, &meter.block(june(5, 12, 30), 6), 60);
    let mut rest = &long[..];
    while let Ok(frame) = codec::mbus::Frame::new_checked(rest) {
        sender.send(&rest[..frame.total_len()]).await.unwrap();
        rest = &rest[frame.total_len()..];
    }
    let length = within(sender.recv(&mut receipt)).await.unwrap();
    assert_eq!(receipt[..length], meter.long_receipt());
    // Without the confirmed bit there is no receipt, and two frames in one datagram are none.
    sender.send(&quiet.frame(1, &quiet.block(june(5, 11, 30), 1))).await.unwrap();
    let two =
        [meter.frame(7, &meter.block(june(5, 11, 30), 6)), meter.frame(8, &meter.block(june(5, 12, 0), 7))]
            .concat();
    sender.send(&two).await.unwrap();
    let mut long = vec![0; 1009];
    long[..8].copy_from_slice(&[0, 1, 0, 1, 0, 64, 0x03, 0xe9]);
    sender.send(&long).await.unwrap();
    world.until("all came", |fold| fold.tallies()[Source::Udp.index()].received == 9).await;
    shutdown.cancel();
    within(task).await.unwrap();

    let tally = world.tally(Source::Udp).await;
    assert_eq!((tally.stored, tally.quarantined), (7, 2));
    assert_conserved(&tally);
    let rows = world.rows().await;
    let kept: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Quarantine(row) => Some((row.reason, row.detail.as_str())),
            _ => None,
        })
        .collect();
    let trailing = format!("trailing bytes at byte {}", two.len() / 2);
    let undecodable = QuarantineReason::Undecodable;
    assert_eq!(
        kept,
        [(undecodable, &*trailing), (undecodable, "apdu of 1001 bytes is over the limit at byte 8")]
    );
    assert!(sender.try_recv(&mut receipt).is_err(), "no further receipt");
}
