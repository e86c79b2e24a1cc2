//! HDLC between a session and a line: bytes of a connection on one side, APDUs of clients on the other.

use std::io;
use std::time::{Duration, Instant};

use codec::hdlc::{Address, ClientEvent, ClientLine, ClientLineOptions, Closed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::lines::{Answer, HeldLine};
use super::link::{Incoming, LinkError};
use crate::reply::ReturnPath;

/// Bytes read at once.
const READ: usize = 4096;
/// How long the end of a link is waited for: nothing depends on it.
const PARTING: Duration = Duration::from_secs(2);

/// Links of one meter, and the connection that carries them.
pub(super) struct HdlcPort {
    line: ClientLine,
    carrier: Carrier,
    start: Instant,
    /// What waits to be written, so that nothing is lost when a future is dropped.
    out: Vec<u8>,
}

/// What carries the frames.
pub(super) enum Carrier {
    Tcp(TcpStream),
    Held(HeldLine),
}

impl HdlcPort {
    pub(super) fn new(carrier: Carrier, options: ClientLineOptions) -> HdlcPort {
        HdlcPort { line: ClientLine::new(options), carrier, start: Instant::now(), out: Vec::new() }
    }

    pub(super) const fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Sends an APDU as this client; the link for it is made first.
    pub(super) async fn send(&mut self, client: u16, apdu: &[u8]) -> Result<(), LinkError> {
        let client = u8::try_from(client).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // A link that still waits for an answer which nobody wants any more cannot be used again.
        self.line.send(client, apdu, self.start.elapsed()).map_err(|_| LinkError::Hdlc(Closed::Protocol))?;
        self.write().await
    }

    /// Writes bytes that belong to no link.
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.out.extend_from_slice(bytes);
        self.write().await
    }

    /// The next APDU.
    pub(super) async fn receive(&mut self) -> Result<Incoming, LinkError> {
        loop {
            match self.line.poll_event() {
                Some(ClientEvent::Apdu(client, apdu)) => {
                    let receipts = self.receipts();
                    return Ok(Incoming { client: client.into(), apdu, path: None, receipts });
                }
                Some(ClientEvent::Unnumbered { destination, source, apdu }) => {
                    let path = Some(ReturnPath::Hdlc { destination, source });
                    let receipts = self.receipts();
                    return Ok(Incoming { client: destination.upper(), apdu, path, receipts });
                }
                Some(ClientEvent::Closed(why)) => return Err(LinkError::Hdlc(why)),
                None => self.go_on().await?,
            }
        }
    }

    /// Receipts that may have gone out beside it; see [`HeldLine::receipts`].
    fn receipts(&self) -> u8 {
        match &self.carrier {
            Carrier::Tcp(_) => 0,
            Carrier::Held(line) => line.receipts(),
        }
    }

    /// Ends the link, as far as the meter lets it.
    pub(super) async fn part(&mut self) {
        if !self.line.disconnect(self.start.elapsed()) {
            return;
        }
        let parting = async { while self.receive().await.is_ok() {} };
        let _ = tokio::time::timeout(PARTING, parting).await;
    }

    /// Writes what is to be written, then waits for bytes or for the time of the link.
    async fn go_on(&mut self) -> Result<(), LinkError> {
        self.write().await?;
        let due = self.line.poll_timeout();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep(due.saturating_sub(self.start.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let read = async {
            match &mut self.carrier {
                Carrier::Tcp(stream) => {
                    let mut bytes = Vec::with_capacity(READ);
                    match stream.read_buf(&mut bytes).await? {
                        0 => Err(ended()),
                        _ => Ok(bytes.into()),
                    }
                }
                Carrier::Held(line) => match line.receive().await {
                    Some(Answer::Frame(frame)) => Ok(frame),
                    // It was the answer to a question in other frames.
                    Some(Answer::Apdu(..)) => Ok(bytes::Bytes::new()),
                    None => Err(ended()),
                },
            }
        };
        let read = tokio::select! {
            read = read => Some(read?),
            () = wait => None,
        };
        match read {
            Some(bytes) => self.line.handle_bytes(&bytes, self.start.elapsed()),
            None => self.line.handle_timeout(self.start.elapsed()),
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), LinkError> {
        while self.line.poll_transmit(&mut self.out) {}
        match &mut self.carrier {
            Carrier::Tcp(stream) => {
                while !self.out.is_empty() {
                    let written = stream.write(&self.out).await?;
                    self.out.drain(..written);
                }
            }
            Carrier::Held(line) => {
                if !self.out.is_empty() && !line.send(std::mem::take(&mut self.out)).await {
                    return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
                }
            }
        }
        Ok(())
    }
}

/// The address of a meter in its shortest form.
pub(super) fn address(logical: u16, physical: Option<u16>) -> Address {
    let short = |part: u16| u8::try_from(part).ok().filter(|part| *part <= Address::MAX_SHORT);
    match (short(logical), physical.map(|physical| (physical, short(physical)))) {
        (Some(logical), None) => Address::one(logical),
        (Some(logical), Some((_, Some(physical)))) => Address::two(logical, physical),
        (_, physical) => Address::four(logical, physical.map_or(0, |(physical, _)| physical)),
    }
}
