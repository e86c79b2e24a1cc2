//! The line to a meter: wrapper frames over TCP, dialled by either side, or over UDP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use codec::ErrorKind;
use codec::wrapper::{HEADER_LEN, VERSION, Wrapper};
use model::Source;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::lines::HeldLine;
use super::polls::PollLine;

/// The management logical device of a meter.
const SERVER: u16 = codec::cosem::india::association::SERVER_SAP;
/// A frame: header and the longest APDU that it can announce.
const MAX_FRAME: usize = HEADER_LEN + u16::MAX as usize;

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It could not be opened.
    #[error("cannot connect to {to}")]
    Connect {
        /// Where.
        to: String,
        /// What the system says.
        source: io::Error,
    },
    /// It broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It would go over a broker, and none is connected.
    #[error("no MQTT broker is connected over which the meter could be asked")]
    NoBroker,
    /// Another meter of the same node is being asked.
    #[error("a question over MQTT to node {0} goes on")]
    NodeBusy(String),
    /// What comes is no wrapper: it cannot be synchronised again.
    #[error("what comes is no DLMS wrapper")]
    Framing(codec::Error),
}

/// A line to one meter.
pub struct MeterLink(Kind);

enum Kind {
    Tcp {
        stream: TcpStream,
        buffer: Vec<u8>,
    },
    Udp {
        socket: UdpSocket,
        buffer: Vec<u8>,
    },
    /// A connection that the meter opened; the listener reads and writes it.
    Held(HeldLine),
    /// Topics of a broker.
    Polled(PollLine),
}

impl MeterLink {
    /// Dials `host:port`, or with `udp://` before it takes a socket for it.
    ///
    /// # Errors
    /// [`LinkError::Connect`], also when it takes longer than `within`.
    pub async fn dial(to: &str, within: Duration) -> Result<MeterLink, LinkError> {
        let failed = |source| LinkError::Connect { to: to.to_owned(), source };
        let dialled = async {
            match to.strip_prefix("udp://") {
                Some(to) => {
                    let peer = tokio::net::lookup_host(to).await?.next().ok_or(io::ErrorKind::NotFound)?;
                    let any: SocketAddr =
                        if peer.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                    let socket = UdpSocket::bind(any).await?;
                    socket.connect(peer).await?;
                    Ok(MeterLink(Kind::Udp { socket, buffer: vec![0; MAX_FRAME] }))
                }
                None => {
                    let stream = TcpStream::connect(to.strip_prefix("tcp://").unwrap_or(to)).await?;
                    stream.set_nodelay(true)?;
                    Ok(MeterLink(Kind::Tcp { stream, buffer: Vec::new() }))
                }
            }
        };
        match tokio::time::timeout(within, dialled).await {
            Ok(dialled) => dialled.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// A connection that the meter opened.
    pub(super) const fn held(line: HeldLine) -> MeterLink {
        MeterLink(Kind::Held(line))
    }

    /// Topics of a broker.
    pub(super) const fn polled(line: PollLine) -> MeterLink {
        MeterLink(Kind::Polled(line))
    }

    /// Where the meter is.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp { stream, .. } => stream.peer_addr().ok(),
            Kind::Udp { socket, .. } => socket.peer_addr().ok(),
            Kind::Held(line) => Some(line.peer()),
            Kind::Polled(_) => None,
        }
    }

    /// The way by which what comes over it is booked.
    pub(super) const fn source(&self) -> Source {
        match &self.0 {
            Kind::Tcp { .. } | Kind::Held(_) => Source::Tcp,
            Kind::Udp { .. } => Source::Udp,
            Kind::Polled(_) => Source::Mqtt,
        }
    }

    /// Whether nobody but the meter that is asked is behind it: a node of a broker may have several.
    pub(super) const fn is_of_one_meter(&self) -> bool {
        !matches!(self.0, Kind::Polled(_))
    }

    /// How often an association may be opened before it is given up: what is lost on the way is nobody's fault.
    pub(super) const fn associations(&self) -> u8 {
        match &self.0 {
            Kind::Udp { .. } | Kind::Polled(_) => 2,
            Kind::Tcp { .. } | Kind::Held(_) => 1,
        }
    }

    pub(super) async fn send(&mut self, client: u16, apdu: &[u8]) -> Result<(), LinkError> {
        let length = u16::try_from(apdu.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut frame = Vec::with_capacity(HEADER_LEN + apdu.len());
        for word in [VERSION, client, SERVER, length] {
            frame.extend_from_slice(&word.to_be_bytes());
        }
        frame.extend_from_slice(apdu);
        match &mut self.0 {
            Kind::Tcp { stream, .. } => stream.write_all(&frame).await?,
            Kind::Udp { socket, .. } => drop(socket.send(&frame).await?),
            Kind::Held(line) => whether(line.send(frame).await)?,
            Kind::Polled(line) => whether(line.send(frame))?,
        }
        Ok(())
    }

    /// The next frame, with the client that it is for. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Result<(u16, Vec<u8>), LinkError> {
        match &mut self.0 {
            Kind::Tcp { stream, buffer } => loop {
                match Wrapper::new_checked(buffer) {
                    Ok(frame) => {
                        let (client, apdu, length) =
                            (frame.destination(), frame.apdu().to_vec(), frame.total_len());
                        buffer.drain(..length);
                        return Ok((client, apdu));
                    }
                    Err(error) if error.kind == ErrorKind::Truncated => {}
                    Err(error) => return Err(LinkError::Framing(error)),
                }
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            },
            Kind::Held(line) => {
                line.receive().await.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            Kind::Polled(line) => {
                line.receive().await.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            // A datagram is a frame or nothing; what is nothing was anybody's.
            Kind::Udp { socket, buffer } => loop {
                let length = socket.recv(buffer).await?;
                if let Ok(frame) = Wrapper::new_checked(buffer.split_at(length).0) {
                    return Ok((frame.destination(), frame.apdu().to_vec()));
                }
            },
        }
    }
}

/// A line that does not take a frame has ended.
fn whether(taken: bool) -> Result<(), LinkError> {
    if taken { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) }
}
