//! Where meters can be reached: a port each, over TCP with the wrapper.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use codec::wrapper::{self, Wrapper, WrapperRepr};
use model::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{MAX_PDU, Meter};

/// The management logical device, the only one.
const SERVER: u16 = 1;
/// Connections that a meter has at once at most; another waits.
const CONNECTIONS: usize = 4;
/// A connection on which nothing comes for so long ends.
const IDLE: Duration = Duration::from_secs(180);

/// What time it is for simulated meters: it starts at a moment and goes so many times as fast as time.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedClock {
    start: Instant,
    begun: time::Instant,
    speed: u32,
}

impl SimulatedClock {
    /// It is `start` now.
    #[must_use]
    pub fn new(start: Instant, speed: u32) -> SimulatedClock {
        SimulatedClock { start, begun: time::Instant::now(), speed }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        let passed_us = self.begun.elapsed().as_micros().saturating_mul(u128::from(self.speed));
        Instant(self.start.0.saturating_add(i64::try_from(passed_us).unwrap_or(i64::MAX)))
    }
}

/// A meter that several connections share.
pub type SharedMeter = Arc<Mutex<Meter>>;

/// Serves one meter until `shutdown`; connections end with it.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    meter: SharedMeter,
    clock: SimulatedClock,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return Ok(()) };
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (meter, shutdown) = (Arc::clone(&meter), shutdown.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let ended = tokio::select! {
                ended = converse(stream, &meter, &clock) => ended,
                () = shutdown.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%from, %error, "connection to a meter ended");
            }
        });
    }
}

/// The meter opens the connection, sends `first` to say who it is, and answers until the other side closes.
///
/// # Errors
/// When the connection fails.
pub async fn dial(
    to: SocketAddr,
    first: &[u8],
    meter: &SharedMeter,
    clock: &SimulatedClock,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(first).await?;
    converse(stream, meter, clock).await
}

/// Answers what comes on a connection until it ends.
async fn converse(mut stream: TcpStream, meter: &SharedMeter, clock: &SimulatedClock) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = locked(meter).session();
    let mut incoming = BytesMut::new();
    loop {
        let length = wrapper::frame_len(&incoming, usize::from(MAX_PDU)).map_err(invalid)?;
        let Some(length) = length.filter(|length| *length <= incoming.len()) else {
            let read = time::timeout(IDLE, stream.read_buf(&mut incoming)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Ok(());
            }
            continue;
        };
        let frame = incoming.split_to(length);
        let request = Wrapper::new_checked(&frame).map_err(invalid)?;
        if request.destination() != SERVER {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let client = request.source();
        let reply = locked(meter).answer(&mut session, client, request.apdu(), clock.now());
        time::sleep(reply.delay).await;
        if !reply.apdu.is_empty() {
            let mut out = Vec::with_capacity(reply.apdu.len() + wrapper::HEADER_LEN);
            WrapperRepr { source: SERVER, destination: client }.emit(&reply.apdu, &mut out);
            stream.write_all(&out).await?;
        }
        if reply.ends {
            return Ok(());
        }
    }
}

fn locked(meter: &SharedMeter) -> std::sync::MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(error: codec::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
