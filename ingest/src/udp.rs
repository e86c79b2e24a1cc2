//! DLMS wrapper, HDLC or long frames of M-Bus over UDP: a push in one datagram, or its frames in several of one sender.
//!
//! When the queue before the journal is full a datagram is dropped and counted as refused; it is not confirmed, so a
//! meter that asked for a receipt sends it again. What the system has no room for is lost without a trace here.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use model::Source;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::gather::Gather;
use crate::received::{Framing, Lost, Received, Refused, Ticket};
use crate::reply::ReturnPath;
use crate::tcp::DRAIN;
use crate::{Pipeline, Submitter};

/// Longest datagram there is.
const DATAGRAM: usize = 65_536;
/// Frames that may wait for their receipt to be written; beyond, the socket is not read.
const PENDING: usize = 65_536;
/// What the system is asked to hold of datagrams that were not read yet, bytes: some 10,000 pushes. The usual default
/// holds under 300, and a group of meters that push on the half-hour is larger.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Pause after the system refused to receive.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether the other datagrams of a push are still waited for.
const EXPIRY: Duration = Duration::from_secs(10);

/// Bounds of a UDP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Longest APDU, bytes; a longer one is quarantined.
    pub max_apdu: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions { max_apdu: usize::from(u16::MAX) }
    }
}

/// A frame that waits for its sync, and where its receipt goes.
struct Pending {
    ticket: Ticket,
    path: ReturnPath,
    peer: SocketAddr,
}

/// Takes frames from a socket until `shutdown`; then waits until what was received is answered, at most 10 s.
pub async fn serve_udp(
    socket: UdpSocket,
    pipeline: Pipeline,
    options: UdpOptions,
    shutdown: CancellationToken,
) {
    enlarge_buffer(&socket);
    let (pending, to_answer) = mpsc::channel(PENDING);
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let reading = async {
        let mut reader = Reader {
            submitter: pipeline.submitter().with_max_apdu(options.max_apdu),
            pipeline,
            gather: Gather::new(options.max_apdu),
        };
        reader.run(&socket, pending, shutdown.clone()).await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(reading, answer(&socket, to_answer)) } => {}
        () = patience => {}
    }
}

/// The system gives as much as it is allowed to; whether that is enough is the operator's to say.
fn enlarge_buffer(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let given = socket.set_recv_buffer_size(RECEIVE_BUFFER).and_then(|()| socket.recv_buffer_size());
    match given {
        // Linux counts its own bookkeeping too and gives twice what is asked for.
        Ok(given) if given >= RECEIVE_BUFFER => tracing::debug!(given, "receive buffer for datagrams"),
        Ok(given) => tracing::info!(
            given,
            wanted = RECEIVE_BUFFER,
            "the system holds few datagrams for us: raise net.core.rmem_max"
        ),
        Err(error) => tracing::warn!(%error, "the receive buffer for datagrams stays as it is"),
    }
}

struct Reader {
    submitter: Submitter,
    pipeline: Pipeline,
    gather: Gather<SocketAddr>,
}

impl Reader {
    async fn run(&mut self, socket: &UdpSocket, pending: mpsc::Sender<Pending>, shutdown: CancellationToken) {
        let mut buffer = vec![0; DATAGRAM];
        let mut expiry = interval(EXPIRY);
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                now = expiry.tick() => {
                    for (bytes, framing) in self.gather.expired(now) {
                        if matches!(self.submit(bytes, framing, None), Err(Refused::Stopped)) {
                            return;
                        }
                    }
                    continue;
                }
                () = shutdown.cancelled() => {
                    for (bytes, framing) in self.gather.end() {
                        let _counted_where_it_is_refused = self.submit(bytes, framing, None);
                    }
                    return;
                }
            };
            match received {
                Ok((length, peer)) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..length]);
                    let framing = Framing::Wrapper.of_publish(&bytes);
                    for (bytes, framing) in self.gather.take(peer, bytes, framing, Instant::now()) {
                        let Ok(place) = pending.reserve().await else { return };
                        match self.submit(bytes, framing, Some(peer)) {
                            Ok(Some(frame)) => place.send(frame),
                            Ok(None) | Err(Refused::Full) => {}
                            Err(Refused::Stopped) => return,
                        }
                    }
                }
                // A receipt that we sent came to a closed port.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => {
                    tracing::warn!(%error, "a datagram cannot be received");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Gives a push to the pipeline; says what has to be answered. A push that is given up has no peer, and no receipt.
    fn submit(
        &mut self,
        bytes: Bytes,
        framing: Framing,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Pending>, Refused> {
        let path = ReturnPath::of(&bytes).zip(peer);
        let received = Received {
            source: Source::Udp,
            received_at: self.pipeline.clock().now(),
            framing,
            bytes,
            identity: None,
        };
        let ticket = self.submitter.try_submit(received)?;
        Ok(path.map(|(path, peer)| Pending { ticket, path, peer }))
    }
}

/// Awaits frames in their order, and sends the receipts that are asked for.
async fn answer(socket: &UdpSocket, mut pending: mpsc::Receiver<Pending>) {
    let mut receipt = Vec::new();
    while let Some(Pending { ticket, path, peer }) = pending.recv().await {
        let acked = match ticket.await {
            Ok(acked) => acked,
            Err(Lost) => return,
        };
        let Some(invoke_id) = acked.confirm else { continue };
        receipt.clear();
        path.write_confirm(invoke_id, &mut receipt);
        if let Err(error) = socket.send_to(&receipt, peer).await {
            tracing::debug!(%error, %peer, "a receipt cannot be sent");
        }
    }
}
