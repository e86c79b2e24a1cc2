//! HTTP to whoever may connect: bounds in front of the routes, so that silent, slow and many clients cost little.
//!
//! | bound | key of `[http]` | when reached |
//! |---|---|---|
//! | connections of a door | `max_connections` | no further one is accepted until one closes |
//! | connections of one address | `max_connections_per_address` | a further one is closed at once |
//! | head of a request, from the opening or the last answer on, its first byte included | `header_timeout` | closed |
//! | answer of which nothing is taken | `write_timeout` | closed |
//! | head of a request | 64 KiB | refused |
//!
//! HTTP/1.1 alone: what a proxy in front speaks to us, and one protocol less whose slow clients would have to be bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ingest::Admission;
use metrics::{counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Http;
use crate::telemetry;

/// Pause after the system refused to accept, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest head of a request; a statement travels in it.
const HEAD_BYTES: usize = 64 << 10;

/// Bounds of an HTTP door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    max_connections: usize,
    max_connections_per_address: usize,
    header_timeout: Duration,
    write_timeout: Duration,
}

impl Limits {
    /// As configured.
    pub fn of(config: &Http) -> Limits {
        Limits {
            max_connections: config.max_connections,
            max_connections_per_address: config.max_connections_per_address,
            header_timeout: config.header_timeout.0,
            write_timeout: config.write_timeout.0,
        }
    }
}

/// Answers requests until `stop`, then until those under way are answered. `door` is its name in the metrics.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    door: &'static str,
    stop: CancellationToken,
) {
    let admission = Admission::new(limits.max_connections, limits.max_connections_per_address);
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let place = admission.place().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, door, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(admitted) = admission.admit(place, peer.ip()) else {
            counter!(telemetry::HTTP_CLOSED, "door" => door, "reason" => "address").increment(1);
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            gauge!(telemetry::HTTP_CONNECTIONS, "door" => door).increment(1);
            let reason = connection(stream, router, limits, stop).await;
            gauge!(telemetry::HTTP_CONNECTIONS, "door" => door).decrement(1);
            counter!(telemetry::HTTP_CLOSED, "door" => door, "reason" => reason).increment(1);
            drop(admitted);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection to its end; says why it ended.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> &'static str {
    let stream = TokioIo::new(Patient { stream, patience: limits.write_timeout, stalled: None });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(HEAD_BYTES);
    let mut served = std::pin::pin!(http.serve_connection(stream, TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    match result {
        Ok(()) => "peer",
        Err(error) if error.is_timeout() => "header_timeout",
        Err(error) if error.is_parse() => "no_request",
        Err(error) => {
            match std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>()) {
                Some(cause) if cause.kind() == io::ErrorKind::TimedOut => "write_timeout",
                _ => "broken",
            }
        }
    }
}

/// A stream whose writes fail when nothing was taken for so long.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs out while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let until = Instant::now() + self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LONG: usize = 64 << 20;

    async fn door(limits: Limits) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { vec![b'x'; LONG] }));
        tokio::spawn(serve(listener, router, limits, "test", stop.clone()));
        (address, stop)
    }

    fn limits() -> Limits {
        Limits {
            max_connections: 8,
            max_connections_per_address: 8,
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
        }
    }

    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        let _ = read.expect("closed in time");
        answer
    }

    #[tokio::test]
    async fn who_sends_nothing_or_half_a_request_or_no_second_one_is_closed() {
        let (address, stop) = door(Limits { header_timeout: Duration::from_secs(1), ..limits() }).await;
        for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: urja\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert_eq!(answer.ends_with(b"here"), begun.ends_with("\r\n\r\n"), "{begun:?}");
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn an_address_past_its_share_is_closed_and_served_again_when_one_goes() {
        let (address, stop) = door(Limits { max_connections_per_address: 2, ..limits() }).await;
        let first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert_eq!(rest(&mut third).await, b"");
        drop(first);
        let request = b"GET / HTTP/1.1\r\nhost: urja\r\nconnection: close\r\n\r\n";
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(request).await;
            if rest(&mut stream).await.ends_with(b"here") {
                break;
            }
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_closed() {
        let (address, stop) = door(Limits { write_timeout: Duration::from_millis(50), ..limits() }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /long HTTP/1.1\r\nhost: urja\r\n\r\n").await.unwrap();
        // Writing fails once the other side has closed with bytes under way.
        let mut closed = false;
        for _ in 0..6000 {
            closed = stream.write_all(b"GET").await.is_err();
            if closed {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert!(closed);
        stop.cancel();
    }
}
