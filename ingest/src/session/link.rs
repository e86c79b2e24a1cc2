//! The line to a meter: frames of the wrapper or of HDLC over TCP, dialled by either side, or of the wrapper over UDP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use codec::ErrorKind;
use codec::apdu::LongInvokeId;
use codec::hdlc::{ClientLineOptions, Closed};
use codec::wrapper::{HEADER_LEN, VERSION, Wrapper, WrapperRepr};
use model::Source;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::hdlc::{Carrier, HdlcPort};
use super::lines::{Answer, HeldLine};
use super::polls::PollLine;
use crate::reply::ReturnPath;

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
    /// The data link of HDLC came to nothing.
    #[error("{}", ended(*.0))]
    Hdlc(Closed),
    /// HDLC over anything but a connection.
    #[error("HDLC is spoken over TCP only")]
    NoHdlc,
    /// What comes is no wrapper: it cannot be synchronised again.
    #[error("what comes is no DLMS wrapper")]
    Framing(codec::Error),
}

/// Why a data link is gone.
const fn ended(why: Closed) -> &'static str {
    match why {
        Closed::Released => "the data link ended",
        Closed::Refused => "the meter has no data link for this client",
        Closed::Rejected => "the meter cannot go on with what it was sent over the data link",
        Closed::TimedOut => "nothing answers over the data link",
        Closed::Protocol => "what came over the data link cannot be put in order",
    }
}

/// What came over a line.
pub(super) struct Incoming {
    /// The client that it is for.
    pub(super) client: u16,
    pub(super) apdu: Vec<u8>,
    /// Where the receipt of it goes, if it is a push.
    pub(super) path: Option<ReturnPath>,
    /// Pushes that went by before it, and whose receipts may have gone out beside the session.
    pub(super) receipts: u8,
}

impl Incoming {
    fn of(frame: &Wrapper<'_>) -> Incoming {
        let path = Some(ReturnPath::Wrapper(WrapperRepr::parse(frame)));
        Incoming { client: frame.destination(), apdu: frame.apdu().to_vec(), path, receipts: 0 }
    }
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
    /// A connection of either side in HDLC.
    Hdlc(Box<HdlcPort>),
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

    /// The same connection, in HDLC.
    ///
    /// # Errors
    /// [`LinkError::NoHdlc`] where it is none.
    pub(super) fn in_hdlc(self, options: ClientLineOptions) -> Result<MeterLink, LinkError> {
        let carrier = match self.0 {
            Kind::Tcp { stream, .. } => Carrier::Tcp(stream),
            Kind::Held(line) => Carrier::Held(line),
            Kind::Udp { .. } | Kind::Polled(_) | Kind::Hdlc(_) => return Err(LinkError::NoHdlc),
        };
        Ok(MeterLink(Kind::Hdlc(Box::new(HdlcPort::new(carrier, options)))))
    }

    /// Whether blocks of a general transfer can be told from pushes in them. HDLC has segments for what they would be for.
    pub(super) const fn takes_blocks(&self) -> bool {
        matches!(self.0, Kind::Tcp { .. } | Kind::Udp { .. })
    }

    /// Whether answers in general protection can be told from pushes in it: where the listener takes pushes out, all of that
    /// goes its way.
    pub(super) const fn takes_general(&self) -> bool {
        !matches!(self.0, Kind::Held(_))
    }

    /// Whether the data link beneath asks again where something is not answered.
    pub(super) const fn repeats(&self) -> bool {
        matches!(self.0, Kind::Hdlc(_))
    }

    /// Where the meter is.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp { stream, .. } => stream.peer_addr().ok(),
            Kind::Udp { socket, .. } => socket.peer_addr().ok(),
            Kind::Held(line) => Some(line.peer()),
            Kind::Polled(_) => None,
            Kind::Hdlc(port) => match port.carrier() {
                Carrier::Tcp(stream) => stream.peer_addr().ok(),
                Carrier::Held(line) => Some(line.peer()),
            },
        }
    }

    /// The way by which what comes over it is booked.
    pub(super) const fn source(&self) -> Source {
        match &self.0 {
            Kind::Tcp { .. } | Kind::Held(_) | Kind::Hdlc(_) => Source::Tcp,
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
            Kind::Tcp { .. } | Kind::Held(_) | Kind::Hdlc(_) => 1,
        }
    }

    pub(super) async fn send(&mut self, client: u16, apdu: &[u8]) -> Result<(), LinkError> {
        if let Kind::Hdlc(port) = &mut self.0 {
            return port.send(client, apdu).await;
        }
        let length = u16::try_from(apdu.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut frame = Vec::with_capacity(HEADER_LEN + apdu.len());
        for word in [VERSION, client, SERVER, length] {
            frame.extend_from_slice(&word.to_be_bytes());
        }
        frame.extend_from_slice(apdu);
        self.write(frame).await
    }

    /// Sends the receipt of a push.
    pub(super) async fn confirm(&mut self, push: LongInvokeId, path: ReturnPath) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        path.write_confirm(push, &mut frame);
        self.write(frame).await
    }

    /// Ends what is between connection and association, as far as there is anything.
    pub(super) async fn part(&mut self) {
        if let Kind::Hdlc(port) = &mut self.0 {
            port.part().await;
        }
    }

    async fn write(&mut self, frame: Vec<u8>) -> Result<(), LinkError> {
        match &mut self.0 {
            Kind::Tcp { stream, .. } => stream.write_all(&frame).await?,
            Kind::Udp { socket, .. } => drop(socket.send(&frame).await?),
            Kind::Held(line) => whether(line.send(frame).await)?,
            Kind::Polled(line) => whether(line.send(frame))?,
            Kind::Hdlc(port) => port.send_raw(&frame).await?,
        }
        Ok(())
    }

    /// The next APDU, with the client that it is for. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Result<Incoming, LinkError> {
        let ended = || LinkError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        match &mut self.0 {
            Kind::Tcp { stream, buffer } => loop {
                match Wrapper::new_checked(buffer) {
                    Ok(frame) => {
                        let (incoming, length) = (Incoming::of(&frame), frame.total_len());
                        buffer.drain(..length);
                        return Ok(incoming);
                    }
                    Err(error) if error.kind == ErrorKind::Truncated => {}
                    Err(error) => return Err(LinkError::Framing(error)),
                }
                if stream.read_buf(buffer).await? == 0 {
                    return Err(ended());
                }
            },
            Kind::Held(line) => loop {
                match line.receive().await.ok_or_else(ended)? {
                    Answer::Apdu(ports, apdu) => {
                        let (client, path) = (ports.destination, Some(ReturnPath::Wrapper(ports)));
                        return Ok(Incoming { client, apdu, path, receipts: line.receipts() });
                    }
                    // It was the answer to a question in other frames.
                    Answer::Frame(_) => {}
                }
            },
            // What comes out of a topic of answers is no push.
            Kind::Polled(line) => {
                let (client, apdu) = line.receive().await.ok_or_else(ended)?;
                Ok(Incoming { client, apdu, path: None, receipts: 0 })
            }
            Kind::Hdlc(port) => port.receive().await,
            // A datagram is a frame or nothing; what is nothing was anybody's.
            Kind::Udp { socket, buffer } => loop {
                let length = socket.recv(buffer).await?;
                if let Ok(frame) = Wrapper::new_checked(buffer.split_at(length).0) {
                    return Ok(Incoming::of(&frame));
                }
            },
        }
    }
}

/// A line that does not take a frame has ended.
fn whether(taken: bool) -> Result<(), LinkError> {
    if taken { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) }
}
