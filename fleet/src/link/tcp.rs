//! DLMS wrapper over one TCP connection.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use codec::apdu::{self, Apdu};
use codec::wrapper::{self, Wrapper};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Answering;
use crate::meter::Session;

/// Longest APDU a head-end sends a pushing meter.
const MAX_APDU: usize = 1024;

#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    outgoing: BytesMut,
    incoming: BytesMut,
    answering: Option<(Answering, Session)>,
}

impl Tcp {
    /// The meter behind it answers, where there is one that does.
    pub(super) async fn connect(address: SocketAddr, answering: Option<&Answering>) -> io::Result<Tcp> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let answering = answering.map(|answering| (answering.clone(), answering.session()));
        Ok(Tcp { stream, outgoing: BytesMut::new(), incoming: BytesMut::new(), answering })
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
        loop {
            let length = wrapper::frame_len(&self.incoming, MAX_APDU).map_err(invalid)?;
            if let Some(length) = length.filter(|length| *length <= self.incoming.len()) {
                let frame = self.incoming.split_to(length);
                if let Some(id) = confirmed(&frame) {
                    return Ok(id);
                }
                if let Some((answering, session)) = &mut self.answering {
                    let reply = answering.answer(session, &frame)?;
                    self.outgoing.extend_from_slice(&reply.apdu);
                    if reply.ends {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                continue;
            }
            self.flush().await?;
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
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
