//! DLMS wrapper, or HDLC, over one TCP connection.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use codec::apdu::{self, Apdu};
use codec::wrapper::{self, Wrapper};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

use super::Answering;
use crate::meter::station::Station;
use crate::meter::{Reply, Session};

/// Longest APDU a head-end sends a pushing meter.
const MAX_APDU: usize = 1024;

#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    outgoing: BytesMut,
    incoming: BytesMut,
    answering: Option<(Answering, Session)>,
    /// An answer that takes its time; no other request is looked at meanwhile.
    late: Option<(time::Instant, Reply)>,
    /// Where it speaks HDLC.
    station: Option<Station>,
}

impl Tcp {
    /// The meter behind it answers, where there is one that does.
    pub(super) async fn connect(
        address: SocketAddr,
        answering: Option<&Answering>,
        station: Option<Station>,
    ) -> io::Result<Tcp> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let answering = answering.map(|answering| (answering.clone(), answering.session()));
        let (outgoing, incoming) = (BytesMut::new(), BytesMut::new());
        Ok(Tcp { stream, outgoing, incoming, answering, late: None, station })
    }

    /// Whether requests are answered on it.
    pub(super) fn answers(&self) -> bool {
        self.answering.is_some()
    }

    /// Whether the peer has closed, as far as that can be told without waiting; a confirm that is there is left there.
    pub(super) fn is_closed(&self) -> bool {
        let mut peeked = [std::mem::MaybeUninit::uninit()];
        let mut buffer = tokio::io::ReadBuf::uninit(&mut peeked);
        let mut context = Context::from_waker(Waker::noop());
        match self.stream.poll_peek(&mut context, &mut buffer) {
            Poll::Ready(Ok(length)) => length == 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    pub(super) fn put(&mut self, frame: &[u8]) {
        self.outgoing.extend_from_slice(frame);
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while self.outgoing.has_remaining() {
            if self.stream.write_buf(&mut self.outgoing).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// The invoke id of the next confirm; other APDUs are answered, or passed over where no meter answers.
    pub(super) async fn receive(&mut self) -> io::Result<u64> {
        if self.station.is_some() {
            return self.receive_in_hdlc().await;
        }
        loop {
            let length = wrapper::frame_len(&self.incoming, MAX_APDU).map_err(invalid)?;
            let whole = length.filter(|length| *length <= self.incoming.len());
            if let Some(id) = whole.and_then(|length| confirmed(self.incoming.get(..length)?)) {
                self.incoming.advance(whole.unwrap_or_default());
                return Ok(id);
            }
            let now = time::Instant::now();
            if let Some((_, reply)) = self.late.take_if(|(due, _)| *due <= now) {
                self.outgoing.extend_from_slice(reply.pushed.as_deref().unwrap_or_default());
                self.outgoing.extend_from_slice(&reply.apdu);
                reply.more.iter().for_each(|more| self.outgoing.extend_from_slice(more));
                if reply.ends {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            } else if let Some(length) = whole.filter(|_| self.late.is_none()) {
                let frame = self.incoming.split_to(length);
                if let Some((answering, session)) = &mut self.answering {
                    let reply = answering.answer(session, &frame)?;
                    self.late = Some((now + reply.delay, reply));
                }
            } else {
                self.flush().await?;
                self.more(whole.is_some()).await?;
            }
        }
    }

    /// Waits for more bytes, or for the answer that is late; for that alone where a request waits behind it.
    async fn more(&mut self, waits: bool) -> io::Result<()> {
        let due = self.late.as_ref().map(|(due, _)| *due);
        let late = async {
            match due {
                Some(due) => time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.stream.read_buf(&mut self.incoming), if !waits => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            },
            () = late => Ok(()),
        }
    }
}

impl Tcp {
    /// As [`receive`](Self::receive). Frames of a link and pushes may follow each other in any order.
    async fn receive_in_hdlc(&mut self) -> io::Result<u64> {
        loop {
            let Some(station) = &mut self.station else { return Err(io::ErrorKind::Unsupported.into()) };
            let (now, answering) = match &mut self.answering {
                Some((answering, session)) => (answering.clock.now(), Some((&answering.meter, session))),
                None => (model::Instant::default(), None),
            };
            let answered = station.next(answering, now);
            let mut out = Vec::new();
            station.write(&mut out);
            self.outgoing.extend_from_slice(&out);
            match answered {
                Some(answered) if answered.ends => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(answered) => {
                    if let Some(id) = answered.confirmed {
                        return Ok(id);
                    }
                    continue;
                }
                None => {}
            }
            self.flush().await?;
            let due = self.station.as_ref().and_then(Station::due);
            match read_until(&mut self.stream, &mut self.incoming, due).await? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
                None => continue,
            }
            if let Some(station) = &mut self.station {
                station.take(&self.incoming);
            }
            self.incoming.clear();
        }
    }
}

/// Reads more; `None` where the time has come before there is any.
async fn read_until(
    stream: &mut TcpStream,
    incoming: &mut BytesMut,
    due: Option<time::Instant>,
) -> io::Result<Option<usize>> {
    match due {
        Some(due) => time::timeout_at(due, stream.read_buf(incoming)).await.ok().transpose(),
        None => stream.read_buf(incoming).await.map(Some),
    }
}

/// The invoke id that a frame confirms, if it is a confirm.
pub(super) fn confirmed(frame: &[u8]) -> Option<u64> {
    let wrapper = Wrapper::new_checked(frame).ok()?;
    match apdu::parse(wrapper.apdu()).ok()? {
        Apdu::DataNotificationConfirm(id) => Some(u64::from(id.id())),
        _ => None,
    }
}

fn invalid(error: codec::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
