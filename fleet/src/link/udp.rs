//! DLMS wrapper over UDP: one frame a datagram.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::tcp::confirmed;

/// Longest datagram with a confirm.
const MAX_DATAGRAM: usize = 2048;

#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
}

impl Udp {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Udp> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(Udp { socket })
    }

    /// A datagram that nobody takes is lost, as datagrams are; it is sent again when its confirm is overdue.
    pub(super) async fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.socket.send(frame).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    /// The invoke id of the next confirm; other datagrams are passed over.
    pub(super) async fn receive(&self) -> io::Result<u64> {
        let mut datagram = [0; MAX_DATAGRAM];
        loop {
            match self.socket.recv(&mut datagram).await {
                Ok(length) => {
                    if let Some(id) = confirmed(&datagram[..length]) {
                        return Ok(id);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
}
