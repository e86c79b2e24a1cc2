//! Where meters can be reached: a port each, the same one over TCP and UDP, with the wrapper; over TCP in HDLC where the
//! client begins so. Those that dial in answer on
//! the connection of their pushes instead.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use codec::apdu::acse::Mechanism;
use codec::hdlc::FLAG;
use codec::wrapper::{self, Wrapper, WrapperRepr};
use model::Instant;
use profiles::Profile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::model::PUSH;
use super::{Access, Fault, IDLE, MAX_PDU, Meter, MeterOptions, Reply, Session, station};
use crate::Error;
use crate::options::FleetOptions;
use crate::provision::{METER_COLUMNS, SimulatedMeter, meter_row};

/// The management logical device, the only one.
const SERVER: u16 = 1;
/// Connections that a meter has at once at most; another waits. Over UDP, the peers that it knows.
pub(super) const CONNECTIONS: usize = 4;
/// Ports that are tried for one that is free over both TCP and UDP.
const PORTS_TRIED: usize = 16;

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

/// Most meters that have a port each.
pub const MAX_DOORS: usize = 1000;

/// A meter and where it can be reached.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its number, title and keys.
    pub identity: Arc<SimulatedMeter>,
    /// What a client needs besides.
    pub access: Access,
    /// Where it listens; `None` where it dials in.
    pub address: Option<SocketAddr>,
    /// The node of its topics, where it is asked over a broker.
    pub node: Option<String>,
    /// What is behind the door.
    pub meter: SharedMeter,
}

/// What is behind the doors of these meters, which are switched on at `now` and cannot be reached yet. A meter must not
/// be made twice: both would use the same counters.
///
/// # Errors
/// When a meter's profile is not known.
pub fn doors(
    options: &FleetOptions,
    meters: &[Arc<SimulatedMeter>],
    faults: &[Fault],
    now: Instant,
) -> Result<Vec<Door>, Error> {
    doors_as(options, meters, |_, how| MeterOptions { faults: faults.to_vec(), ..how }, now)
}

/// As [`doors`]; `how` says of each meter how it behaves.
///
/// # Errors
/// When a meter's profile is not known.
pub fn doors_as(
    options: &FleetOptions,
    meters: &[Arc<SimulatedMeter>],
    how: impl Fn(&SimulatedMeter, MeterOptions) -> MeterOptions,
    now: Instant,
) -> Result<Vec<Door>, Error> {
    let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
    let door = |identity: &Arc<SimulatedMeter>| {
        let access = Access::of(options.seed, identity.index);
        let how = how(identity, MeterOptions::new(access.clone()));
        let meter = Meter::new(options, Arc::clone(identity), &profiles, how, now)?;
        let meter = Arc::new(Mutex::new(meter));
        Ok(Door { identity: Arc::clone(identity), access, address: None, node: None, meter })
    };
    meters.iter().map(door).collect()
}

/// Opens a port for each of these meters and serves them until the options' `shutdown`: the first at `at`, each other at
/// the port after, or at any that is free where the port of `at` is 0.
///
/// # Errors
/// When there are more than [`MAX_DOORS`] meters, or a port cannot be had.
pub async fn open(
    options: &FleetOptions,
    doors: &mut [Door],
    at: SocketAddr,
    clock: SimulatedClock,
) -> Result<(), Error> {
    if doors.len() > MAX_DOORS {
        return Err(Error::Options("at most 1000 meters can be served on a port each"));
    }
    for (number, door) in (0_u16..).zip(doors) {
        let mut address = at;
        if at.port() != 0 {
            let port = at.port().checked_add(number);
            address.set_port(port.ok_or(Error::Options("there are not so many ports for meters"))?);
        }
        let (listener, socket) = bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        door.address = Some(address);
        let (meter, shutdown) = (Arc::clone(&door.meter), options.shutdown.clone());
        tokio::spawn(async move {
            let datagrams = serve_udp(socket, Arc::clone(&meter), clock, shutdown.clone());
            if let Err(error) = tokio::try_join!(serve(listener, meter, clock, shutdown), datagrams) {
                tracing::warn!(%address, %error, "a meter can be reached no more");
            }
        });
    }
    Ok(())
}

/// The same port over TCP and UDP.
async fn bind(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = if address.port() == 0 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        let listener = TcpListener::bind(address).await?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(socket) => return Ok((listener, socket)),
            Err(_) if tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what a client needs to speak with each of them, secrets included, in the columns that `urja meter import` takes:
/// those of [`write_meters`](crate::write_meters), `address`, `lls`, `hls`, `master_key`, `mechanism`, `framing`.
///
/// # Errors
/// As `out` gives them.
pub fn write_access(doors: &[Door], mut out: impl Write) -> io::Result<()> {
    writeln!(out, "{METER_COLUMNS},address,lls,hls,master_key,mechanism,framing")?;
    for Door { identity, access, address, node, .. } in doors {
        let Access { kek, lls, hls_secret, mechanism } = access;
        let mechanism = if *mechanism == Mechanism::Gmac { "hls5" } else { "hls2" };
        let node = node.as_ref().map(|node| format!("mqtt://{node}"));
        let address = address.map(|address| address.to_string()).or(node).unwrap_or_default();
        let (row, kek) = (meter_row(identity), hex::encode(kek));
        let framing = if identity.hdlc { "hdlc" } else { "wrapper" };
        writeln!(out, "{row},{address},{lls},{hls_secret},{kek},{mechanism},{framing}")?;
    }
    out.flush()
}

/// What a meter keeps of a peer that sends it datagrams.
struct Peer {
    address: SocketAddr,
    session: Session,
    /// The last datagram and the answer to it: the same one again is the network's doing, or says that the answer was
    /// lost, and to take it for another request would do things twice.
    last: (Vec<u8>, Vec<Vec<u8>>),
}

/// Serves one meter over UDP until `shutdown`, a frame a datagram. What is no frame for it is passed over.
///
/// # Errors
/// When the socket fails.
pub async fn serve_udp(
    socket: UdpSocket,
    meter: SharedMeter,
    clock: SimulatedClock,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut datagram = vec![0; usize::from(u16::MAX)];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut datagram) => received,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (length, address) = match received {
            Ok(received) => received,
            // An answer came to a closed port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error),
        };
        let Some(frame) = datagram.get(..length) else { continue };
        let place = match peers.iter().position(|peer| peer.address == address) {
            Some(place) => place,
            None => {
                if peers.len() == CONNECTIONS {
                    peers.remove(0);
                }
                peers.push(Peer { address, session: locked(&meter).session(), last: Default::default() });
                peers.len() - 1
            }
        };
        let Some(peer) = peers.get_mut(place) else { continue };
        if peer.last.0 != frame {
            let Ok(reply) = answered(frame, &meter, &mut peer.session, clock.now()) else { continue };
            time::sleep(reply.delay).await;
            if let Some(pushed) = &reply.pushed {
                socket.send_to(pushed, address).await?;
            }
            let answers = std::iter::once(reply.apdu).chain(reply.more).filter(|answer| !answer.is_empty());
            peer.last = (frame.to_vec(), answers.collect());
        }
        for answer in &peer.last.1 {
            socket.send_to(answer, address).await?;
        }
    }
}

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

/// Answers what comes on a connection until it ends.
async fn converse(mut stream: TcpStream, meter: &SharedMeter, clock: &SimulatedClock) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = locked(meter).session();
    let mut incoming = BytesMut::new();
    loop {
        if incoming.first() == Some(&FLAG) {
            return station::converse(&mut stream, &incoming, meter, clock).await;
        }
        let length = wrapper::frame_len(&incoming, usize::from(MAX_PDU)).map_err(invalid)?;
        let Some(length) = length.filter(|length| *length <= incoming.len()) else {
            let read = time::timeout(IDLE, stream.read_buf(&mut incoming)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Ok(());
            }
            continue;
        };
        let frame = incoming.split_to(length);
        let reply = answered(&frame, meter, &mut session, clock.now())?;
        time::sleep(reply.delay).await;
        stream.write_all(reply.pushed.as_deref().unwrap_or_default()).await?;
        stream.write_all(&reply.apdu).await?;
        for more in &reply.more {
            stream.write_all(more).await?;
        }
        if reply.ends {
            return Ok(());
        }
    }
}

/// The answer to a frame, in a frame where there is one, as what goes out before it and behind it.
pub(crate) fn answered(
    frame: &[u8],
    meter: &SharedMeter,
    session: &mut Session,
    now: Instant,
) -> io::Result<Reply> {
    let request = Wrapper::new_checked(frame).map_err(invalid)?;
    if request.destination() != SERVER {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    let client = request.source();
    let mut reply = locked(meter).answer(session, client, request.apdu(), now);
    reply.pushed = reply.pushed.map(|apdu| {
        let mut out = Vec::with_capacity(apdu.len() + wrapper::HEADER_LEN);
        WrapperRepr { source: SERVER, destination: PUSH }.emit(&apdu, &mut out);
        out
    });
    for apdu in std::iter::once(&mut reply.apdu).chain(&mut reply.more).filter(|apdu| !apdu.is_empty()) {
        let mut out = Vec::with_capacity(apdu.len() + wrapper::HEADER_LEN);
        WrapperRepr { source: SERVER, destination: client }.emit(apdu, &mut out);
        *apdu = out;
    }
    Ok(reply)
}

pub(crate) fn locked(meter: &SharedMeter) -> std::sync::MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(error: codec::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
