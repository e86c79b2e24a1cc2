//! DLMS wrapper, HDLC or long frames of M-Bus over TCP: meters that open a connection and push, and concentrators that push for many.
//!
//! | bound | option | when reached |
//! |---|---|---|
//! | connections | `max_connections` | no further one is accepted until one closes |
//! | connections of one address | `max_connections_per_address` | a further one is closed at once |
//! | APDU | `max_apdu` | what was received is quarantined, the connection closed |
//! | silence before the first byte | `identify_after` | asked once who it is, as public client |
//! | connections that are asked that at once | 256 | asked later, if they are still there |
//! | silence before the first byte | `first_byte_timeout` | closed |
//! | time for a frame that has begun | `frame_timeout` | closed |
//! | silence between frames | `idle_timeout` | closed |
//! | room for long frames that are not whole, of all connections | 8 MiB | not read on until others are whole |
//! | bytes of long frames from who has proved nothing, of all connections | 4 MiB a second | not read on until their turn |
//! | frames in a row that prove nothing, of a connection or of an address | 8 | read one a second |
//! | bytes of the frames of a push that comes in several | `max_apdu` and 64 KiB | what is there is quarantined |
//! | a vendor's message before a frame | 256 bytes | what was received is quarantined, the connection closed |
//! | frames without their sync | `max_unacknowledged` | not read until some are through |
//! | time to take a receipt or a request | `frame_timeout` | closed |
//!
//! Over a connection of one meter sessions can be held (`session/lines.rs`). Its requests are written in one row with the
//! receipts, each behind the receipts of what came before it; its answers are no frames of ours and are not counted.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use codec::apdu::{self, Apdu};
use codec::hdlc;
use codec::wrapper::Wrapper;
use metrics::{counter, gauge};
use model::{MeterId, Source, SystemTitle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decode::{is_untitled, title_at_first_sight};
use crate::framing::{Item, NoFrame, StreamDecoder};
use crate::received::{Acked, Framing, Lost, Received, Tickets};
use crate::reply::ReturnPath;
use crate::session::Line;
use crate::{Admission, Admitted, Pipeline, Sessions, Submitter, telemetry};

/// Pause after the system refused to accept, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a shutdown waits for frames that are not durable yet.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// Bytes read at once from a meter; a frame up to this size takes no part of [`PARTIAL_BYTES`].
const READ: usize = 4096;
/// Bytes read at once before anything is proven: thousands of strangers may have sent no more than the head of a frame.
const UNPROVEN_READ: usize = 1024;
/// Bytes of frames longer than [`READ`] that may be on their way at once, over all connections: a length that a peer
/// claims takes no memory that others could fill too.
const PARTIAL_BYTES: usize = 8 << 20;
/// How far long frames from who has proved nothing may be ahead of their pace: a meter's first push is not to wait for its
/// turn while there is no crowd.
const UNPROVEN_AHEAD: Duration = Duration::from_secs(1);
/// So many frames in a row that prove nothing, over a connection or from an address, and the connection that brings the
/// next one is read slowly: it has no meter of ours behind it, or none whose keys we have.
const UNPROVEN_ROW: u32 = 8;
/// Frames submitted together while all are proven: their places in memory are waited for beside each other.
const TOGETHER: usize = 32;
/// Bytes read at once from a meter that has sent as much as was read before.
const MOST_READ: usize = 16 * 1024;
/// Connections that are asked at once who they are: after a restart thousands dial in, and strangers may.
const IDENTIFYING: usize = 256;
/// Bytes of receipts written at once, about.
const RECEIPTS: usize = 4096;

/// Bounds of a TCP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Connections at once.
    pub max_connections: usize,
    /// Of these, from one address.
    pub max_connections_per_address: usize,
    /// Longest APDU, bytes.
    pub max_apdu: usize,
    /// Silence before the first byte after which it is asked who it is; zero: never.
    pub identify_after: Duration,
    /// Longest silence before the first byte.
    pub first_byte_timeout: Duration,
    /// Longest time from a frame's first byte to its last.
    pub frame_timeout: Duration,
    /// Longest silence between frames.
    pub idle_timeout: Duration,
    /// Frames of one connection that may wait for their sync.
    pub max_unacknowledged: usize,
    /// Bytes a second of long frames, those above 4 KiB, that are read over connections behind which nobody has proved to be, all
    /// together: to read and to judge them takes time that genuine frames are to have.
    pub unproven_bytes_per_second: u32,
    /// Pause after a frame that proves nothing, once there were eight of them in a row.
    pub unproven_pause: Duration,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            max_connections: 10_000,
            max_connections_per_address: 5_000,
            max_apdu: usize::from(u16::MAX),
            identify_after: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(15),
            frame_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
            max_unacknowledged: 1024,
            unproven_bytes_per_second: 4 << 20,
            unproven_pause: Duration::from_secs(1),
        }
    }
}

/// Takes frames from connections until `shutdown`; then waits until what was received is answered, at most 10 s. With
/// `sessions` the meters behind them can be asked.
pub async fn serve_tcp(
    listener: TcpListener,
    pipeline: Pipeline,
    sessions: Option<Sessions>,
    options: TcpOptions,
    shutdown: CancellationToken,
) {
    let door = Admission::new(options.max_connections, options.max_connections_per_address);
    let partial = Arc::new(Semaphore::new(PARTIAL_BYTES));
    let unproven_long = Arc::new(Pace::new(options.unproven_bytes_per_second));
    let identifying = Arc::new(Semaphore::new(IDENTIFYING));
    let options = Arc::new(options);
    let connections = TaskTracker::new();
    let abandon = CancellationToken::new();
    loop {
        // The place comes first: what cannot be served waits in the system's queue.
        let accepted = async {
            let place = door.place().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(admitted) = door.admit(place, peer.ip()) else {
                    counter!(telemetry::TCP_CLOSED, "reason" => "address").increment(1);
                    continue;
                };
                let connection = Box::new(Connection {
                    peer,
                    submitter: pipeline.submitter(),
                    pipeline: pipeline.clone(),
                    sessions: sessions.clone(),
                    behind: Behind::Nobody,
                    options: Arc::clone(&options),
                    partial: Arc::clone(&partial),
                    unproven_long: Arc::clone(&unproven_long),
                    identifying: Arc::clone(&identifying),
                    unacknowledged: Arc::new(Semaphore::new(options.max_unacknowledged.max(1))),
                    room: None,
                    unproven: 0,
                    slow: false,
                    admitted,
                });
                let (shutdown, abandon) = (shutdown.clone(), abandon.clone());
                connections.spawn(async move {
                    gauge!(telemetry::TCP_CONNECTIONS).increment(1);
                    tokio::select! {
                        () = connection.serve(stream, shutdown) => {}
                        () = abandon.cancelled() => {}
                    }
                    gauge!(telemetry::TCP_CONNECTIONS).decrement(1);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "frames are not durable in time; they are not confirmed"
        );
        abandon.cancel();
        connections.wait().await;
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed it.
    Peer,
    /// We shut down.
    Shutdown,
    FirstByteTimeout,
    FrameTimeout,
    IdleTimeout,
    /// What it sends is no frame.
    Framing,
    /// It failed, or takes no receipts.
    Broken,
    /// The pipeline takes nothing any more.
    Stopped,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Peer => "peer",
            End::Shutdown => "shutdown",
            End::FirstByteTimeout => "first_byte_timeout",
            End::FrameTimeout => "frame_timeout",
            End::IdleTimeout => "idle_timeout",
            End::Framing => "framing",
            End::Broken => "broken",
            End::Stopped => "stopped",
        }
    }
}

struct Connection {
    peer: SocketAddr,
    submitter: Submitter,
    pipeline: Pipeline,
    sessions: Option<Sessions>,
    behind: Behind,
    options: Arc<TcpOptions>,
    /// Room for long frames of all connections.
    partial: Arc<Semaphore>,
    /// Turns of all connections to read long frames before anything is proven.
    unproven_long: Arc<Pace>,
    /// Turns of all connections to be asked who they are.
    identifying: Arc<Semaphore>,
    /// Places for its frames that wait for their sync.
    unacknowledged: Arc<Semaphore>,
    /// What of it the frame has that is being read.
    room: Option<Room>,
    /// Frames in a row that proved nothing.
    unproven: u32,
    /// Whether it is read slowly, for want of a proof.
    slow: bool,
    admitted: Admitted,
}

/// Room for the one long frame of a connection that is being read.
struct Room {
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    fn new(bytes: usize, permit: OwnedSemaphorePermit) -> Room {
        gauge!(telemetry::TCP_PARTIAL_BYTES).increment(bytes as f64);
        Room { bytes, _permit: permit }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        gauge!(telemetry::TCP_PARTIAL_BYTES).decrement(self.bytes as f64);
    }
}

/// Turns for so many bytes a second, in the order in which they are asked for. Who gives up waiting takes none.
#[derive(Debug)]
struct Pace {
    bytes_per_second: f64,
    /// When everything that had its turn is through.
    through: tokio::sync::Mutex<Option<Instant>>,
}

impl Pace {
    fn new(bytes_per_second: u32) -> Pace {
        Pace { bytes_per_second: f64::from(bytes_per_second.max(1)), through: tokio::sync::Mutex::new(None) }
    }

    async fn turn(&self, bytes: usize) {
        let _waiting = Waiting::new();
        let mut through = self.through.lock().await;
        let begun = through.map_or_else(Instant::now, |through| through.max(Instant::now()));
        tokio::time::sleep_until(begun.checked_sub(UNPROVEN_AHEAD).unwrap_or(begun)).await;
        *through = Some(begun + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second));
    }
}

/// One that waits for its turn, in the gauge.
struct Waiting;

impl Waiting {
    fn new() -> Waiting {
        gauge!(telemetry::TCP_WAITING_TURNS).increment(1.0);
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!(telemetry::TCP_WAITING_TURNS).decrement(1.0);
    }
}

/// Who has proved to be behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Nobody,
    /// With its title, where the frame that proved it said it first thing.
    One(MeterId, Option<SystemTitle>),
    Several,
}

/// What a connection has to write, in this order.
pub(crate) enum Outgoing {
    /// The receipts of frames that wait for their sync; in a box, for a channel has room for 32 messages at least, and
    /// thousands of connections have one.
    Receipts(Box<Receipts>),
    /// The request of a session.
    Request(Box<Bytes>),
}

/// Receipts of frames that were submitted together.
pub(crate) struct Receipts {
    tickets: Tickets,
    /// Where each goes, if it is to have one.
    ways: Vec<Option<ReturnPath>>,
    /// Their places among the unacknowledged.
    _places: OwnedSemaphorePermit,
}

/// A line that ends with its connection, however that ends.
struct Open {
    line: Arc<Line>,
    sessions: Option<Sessions>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(sessions) = &self.sessions {
            sessions.lines().end(&self.line);
        }
    }
}

/// How far a connection got with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Nothing,
    /// Frames of a push of which others are missing.
    Part,
    /// A push.
    Whole,
}

impl Connection {
    /// It lies on the heap, or each of the futures that hold it would have a place for it.
    async fn serve(mut self: Box<Self>, stream: TcpStream, shutdown: CancellationToken) {
        let (reader, writer) = stream.into_split();
        let (pending, to_answer) = mpsc::channel(self.options.max_unacknowledged.max(1));
        let line = Line::new(self.peer, pending.downgrade());
        let open = Open { line, sessions: self.sessions.clone() };
        let patience = self.options.frame_timeout;
        // Reading ends first and drops its end of the channel; answering ends when all is answered, or when the peer
        // takes no receipts, which then ends reading too. Both are made in place: a connection would else take their
        // memory twice.
        let (end, ()) = tokio::join!(
            self.read(reader, &open.line, pending, shutdown),
            answer(writer, to_answer, patience)
        );
        counter!(telemetry::TCP_CLOSED, "reason" => end.name()).increment(1);
        tracing::debug!(peer = %self.peer, reason = end.name(), "connection closed");
    }

    async fn read(
        &mut self,
        reader: OwnedReadHalf,
        line: &Arc<Line>,
        pending: mpsc::Sender<Outgoing>,
        shutdown: CancellationToken,
    ) -> End {
        let mut decoder = StreamDecoder::new(self.options.max_apdu);
        let mut buffer = BytesMut::new();
        let end = self.read_on(reader, line, &mut decoder, &mut buffer, &pending, &shutdown).await;
        // What cannot become whole any more is kept as evidence.
        if let Some((bytes, framing)) = decoder.end(&buffer)
            && !matches!(end, End::Stopped | End::Broken)
            && let Err(instead) = self.submit(&mut vec![self.received(bytes, framing)], line, &pending).await
        {
            return instead;
        }
        end
    }

    async fn read_on(
        &mut self,
        mut reader: OwnedReadHalf,
        line: &Arc<Line>,
        decoder: &mut StreamDecoder,
        buffer: &mut BytesMut,
        pending: &mpsc::Sender<Outgoing>,
        shutdown: &CancellationToken,
    ) -> End {
        let opened = Instant::now();
        let mut deadline = (opened + self.options.first_byte_timeout, End::FirstByteTimeout);
        let mut room = UNPROVEN_READ;
        let after = self.options.identify_after;
        let mut ask = Some(opened + after).filter(|_| !after.is_zero() && self.sessions.is_some());
        loop {
            let begun = decoder.begun(buffer);
            let held = Some(decoder.most_held()).filter(|_| decoder.held() > READ);
            if let Some(bytes) = self.waits_for_its_turn(begun.max(held)) {
                tokio::select! {
                    () = self.unproven_long.turn(bytes) => {}
                    () = pending.closed() => return End::Broken,
                    () = shutdown.cancelled() => return End::Shutdown,
                }
                // The peer has not been slow: it was not read.
                deadline = (Instant::now() + self.options.frame_timeout, End::FrameTimeout);
            }
            let reading = async {
                self.make_room(begun.max(held)).await;
                let rest = begun.map_or(0, |length| length - buffer.len());
                // What is left of a buffer is used up: frames that came together hold all of theirs until they are through.
                let left = buffer.capacity() - buffer.len();
                buffer.reserve(if left < room / 4 { rest.max(room) } else { rest });
                let offered = buffer.capacity() - buffer.len();
                (reader.read_buf(buffer).await, offered)
            };
            let read = tokio::select! {
                read = timeout_at(deadline.0, reading) => read,
                () = silent(ask) => {
                    ask = if self.identify(line) { None } else { Some(Instant::now() + after) };
                    continue;
                }
                () = pending.closed() => return End::Broken,
                () = shutdown.cancelled() => return End::Shutdown,
            };
            match read {
                Err(_) => return deadline.1,
                Ok((Err(_), _)) => return End::Broken,
                Ok((Ok(0), _)) => return End::Peer,
                // A meter sends a frame now and then, a concentrator all it has.
                Ok((Ok(read), offered)) => {
                    room = match self.behind {
                        Behind::Nobody => UNPROVEN_READ,
                        _ if read < offered.min(room) || self.slow => READ,
                        _ => (room * 2).min(MOST_READ),
                    };
                }
            }
            ask = None;
            let progress = match self.take(line, decoder, buffer, pending, shutdown).await {
                Ok(progress) => progress,
                Err(end) => return end,
            };
            if progress == Progress::Whole && self.room.is_some() {
                // Its memory goes before its room does, and not only once there is more to read.
                *buffer = BytesMut::from(&buffer[..]);
                self.room = None;
            }
            let now = Instant::now();
            if buffer.is_empty() && decoder.held() == 0 {
                deadline = (now + self.options.idle_timeout, End::IdleTimeout);
            } else if progress > Progress::Nothing || deadline.1 != End::FrameTimeout {
                deadline = (now + self.options.frame_timeout, End::FrameTimeout);
            }
        }
    }

    /// Length of a long frame that has begun before anything was proven, and has no room yet.
    fn waits_for_its_turn(&self, begun: Option<usize>) -> Option<usize> {
        begun.filter(|length| *length > READ && self.room.is_none() && self.behind == Behind::Nobody)
    }

    /// Waits for room for the frame that has begun, if it is a long one and has none yet.
    async fn make_room(&mut self, begun: Option<usize>) {
        let Some(bytes) = begun.filter(|length| *length > READ && self.room.is_none()) else { return };
        let permits = u32::try_from(bytes.min(PARTIAL_BYTES)).unwrap_or(u32::MAX);
        // It is never closed; if it were, no bound could be kept, and the connection times out.
        match Arc::clone(&self.partial).acquire_many_owned(permits).await {
            Ok(permit) => self.room = Some(Room::new(bytes, permit)),
            Err(_) => std::future::pending().await,
        }
    }

    /// Submits all pushes that are whole.
    async fn take(
        &mut self,
        line: &Arc<Line>,
        decoder: &mut StreamDecoder,
        buffer: &mut BytesMut,
        pending: &mpsc::Sender<Outgoing>,
        shutdown: &CancellationToken,
    ) -> Result<Progress, End> {
        let mut progress = Progress::Nothing;
        let mut pushes = Vec::new();
        loop {
            // A frame in the wrapper says itself what it is.
            if buffer.first() != Some(&0) {
                decoder.set_answering(line.is_taken_up());
            }
            match decoder.decode(buffer) {
                Ok(Some(Item::Push(bytes, _) | Item::Link(bytes))) if line.takes(&bytes) => {
                    progress = Progress::Whole;
                }
                // The session that waited for it has just ended.
                Ok(Some(Item::Link(_))) => progress = Progress::Whole,
                Ok(Some(Item::Push(bytes, framing))) if self.is_refused_receipt(&bytes, framing) => {
                    counter!(telemetry::RECEIPTS_REFUSED).increment(1);
                    progress = Progress::Whole;
                }
                Ok(Some(Item::Push(bytes, framing))) => {
                    pushes.push(self.received(bytes, framing));
                    progress = Progress::Whole;
                    if pushes.len() >= self.together() {
                        self.submit(&mut pushes, line, pending).await?;
                        self.slow_down(buffer, shutdown).await;
                    }
                }
                Ok(Some(Item::Part)) => progress = progress.max(Progress::Part),
                Ok(None) if pushes.is_empty() => return Ok(progress),
                Ok(None) => {
                    self.submit(&mut pushes, line, pending).await?;
                    self.slow_down(buffer, shutdown).await;
                    return Ok(progress);
                }
                Err(NoFrame { error, received }) => {
                    // Of no use in a log that strangers could fill: it is in quarantine, and counted.
                    tracing::debug!(peer = %self.peer, %error, "what was received is no frame");
                    pushes.push(self.received(received, Framing::Wrapper));
                    self.submit(&mut pushes, line, pending).await?;
                    self.slow_down(buffer, shutdown).await;
                    return Err(End::Framing);
                }
            }
        }
    }

    /// Whether a meter that proved itself here says that it does not know what a receipt is: it is no push, and brings nothing.
    fn is_refused_receipt(&self, frame: &[u8], framing: Framing) -> bool {
        if matches!(self.behind, Behind::Nobody) {
            return false;
        }
        let apdu = match framing {
            Framing::Wrapper => Wrapper::new_checked(frame).ok().map(|frame| frame.apdu()),
            Framing::Hdlc => {
                hdlc::Frame::new_checked(frame).ok().map(|frame| hdlc::strip_llc(frame.information()))
            }
            Framing::Mbus | Framing::Apdu => None,
        };
        apdu.is_some_and(|apdu| {
            apdu.first() == Some(&apdu::EXCEPTION_RESPONSE)
                && matches!(apdu::parse(apdu), Ok(Apdu::ExceptionResponse(_)))
        })
    }

    /// Frames that may be submitted together: one before anything was proven, many after one that was, and after others as
    /// many as may still prove nothing in a row.
    fn together(&self) -> usize {
        match self.behind {
            Behind::Nobody => 1,
            Behind::One(..) | Behind::Several if self.unproven == 0 => TOGETHER,
            Behind::One(..) | Behind::Several => UNPROVEN_ROW.saturating_sub(self.unproven).max(1) as usize,
        }
    }

    fn received(&self, bytes: Bytes, framing: Framing) -> Received {
        let received_at = self.pipeline.clock().now();
        // What names nobody is tried under the keys of the one meter that is known here: its tag decides. Nothing else is
        // bound to that meter, for others may be behind the same concentrator.
        let identity = match self.behind {
            Behind::One(_, title) if framing == Framing::Wrapper && is_untitled(&bytes) => title,
            _ => None,
        };
        Received { source: Source::Tcp, received_at, framing, bytes, identity }
    }

    /// Submits frames in their order, and leaves none.
    async fn submit(
        &mut self,
        frames: &mut Vec<Received>,
        line: &Arc<Line>,
        pending: &mpsc::Sender<Outgoing>,
    ) -> Result<(), End> {
        while !frames.is_empty() {
            let count = self.submitter.together(frames).min(self.options.max_unacknowledged.max(1));
            let rest = frames.split_off(count.min(frames.len()));
            let frames = std::mem::replace(frames, rest);
            self.submit_together(frames, line, pending).await?;
        }
        Ok(())
    }

    async fn submit_together(
        &mut self,
        frames: Vec<Received>,
        line: &Arc<Line>,
        pending: &mpsc::Sender<Outgoing>,
    ) -> Result<(), End> {
        // Places among the unacknowledged first: a connection that has none is not read.
        let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.unacknowledged).acquire_many_owned(count);
        let places = places.await.map_err(|_| End::Broken)?;
        let ways: Vec<_> = frames.iter().map(|frame| ReturnPath::of(&frame.bytes)).collect();
        // Before anything is proven a frame goes alone.
        let title = frames.first().filter(|_| self.behind == Behind::Nobody).and_then(title_at_first_sight);
        let tickets = self.submitter.submit_all(frames).await.map_err(|_| End::Stopped)?;
        for meter in &tickets.proven {
            if let Some(meter) = meter {
                self.proven(*meter, title, line);
            }
            // Other connections of the address may hide behind genuine ones, or this one behind a new connection.
            self.unproven = if meter.is_some() { 0 } else { self.unproven.saturating_add(1) };
            self.slow = self.admitted.note(meter.is_some()).max(self.unproven) >= UNPROVEN_ROW;
        }
        let receipts = Box::new(Receipts { tickets, ways, _places: places });
        pending.send(Outgoing::Receipts(receipts)).await.map_err(|_| End::Broken)
    }

    /// A meter has proved itself; most often the same one again.
    fn proven(&mut self, meter: MeterId, title: Option<SystemTitle>, line: &Arc<Line>) {
        let behind = match self.behind {
            Behind::Nobody => Behind::One(meter, title),
            Behind::One(known, _) if known != meter => Behind::Several,
            behind => behind,
        };
        if self.behind == behind {
            return;
        }
        self.behind = behind;
        if let Some(sessions) = &self.sessions {
            sessions.lines().register(meter, line, true);
        }
    }

    /// Asks who it is; what comes of that the line knows. False: others are being asked.
    fn identify(&self, line: &Arc<Line>) -> bool {
        let Some(sessions) = self.sessions.clone() else { return true };
        let Ok(turn) = Arc::clone(&self.identifying).try_acquire_owned() else { return false };
        let line = Arc::clone(line);
        tokio::spawn(async move {
            sessions.identify(line).await;
            drop(turn);
        });
        true
    }

    /// Pauses where nothing is proven, and holds meanwhile no more than what came behind the last frame: thousands may
    /// pause at once, each behind a frame of 64 KiB.
    async fn slow_down(&self, buffer: &mut BytesMut, shutdown: &CancellationToken) {
        if !self.slow {
            return;
        }
        *buffer = BytesMut::from(&buffer[..]);
        tokio::select! {
            () = tokio::time::sleep(self.options.unproven_pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Waits until then; for ever where nothing is to happen.
async fn silent(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Awaits the frames of a connection in their order, and writes the receipts that are asked for, and requests.
async fn answer(mut writer: OwnedWriteHalf, mut pending: mpsc::Receiver<Outgoing>, patience: Duration) {
    let mut out = Vec::new();
    let mut next = pending.recv().await;
    while let Some(outgoing) = next {
        match outgoing {
            Outgoing::Request(frame) => out.extend_from_slice(&frame),
            Outgoing::Receipts(receipts) => {
                let Receipts { mut tickets, ways, _places } = *receipts;
                let acked = match answered_already(&mut tickets) {
                    Some(acked) => acked,
                    None => {
                        // What is ready goes out before anything is waited for.
                        if !write(&mut writer, &mut out, patience).await {
                            return;
                        }
                        tickets.await
                    }
                };
                let Ok(acked) = acked else { break };
                for (acked, way) in acked.iter().zip(ways) {
                    if let Some((invoke_id, way)) = acked.confirm.zip(way) {
                        way.write_confirm(invoke_id, &mut out);
                    }
                }
            }
        }
        if out.len() >= RECEIPTS && !write(&mut writer, &mut out, patience).await {
            return;
        }
        next = match pending.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                if !write(&mut writer, &mut out, patience).await {
                    return;
                }
                pending.recv().await
            }
        };
    }
    write(&mut writer, &mut out, patience).await;
}

/// What became of frames, where that is known.
fn answered_already(tickets: &mut Tickets) -> Option<Result<Vec<Acked>, Lost>> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(tickets).poll(&mut context) {
        Poll::Ready(acked) => Some(acked),
        Poll::Pending => None,
    }
}

/// Writes what is ready; false: the peer takes nothing.
async fn write(writer: &mut OwnedWriteHalf, out: &mut Vec<u8>, patience: Duration) -> bool {
    if out.is_empty() {
        return true;
    }
    let written = timeout(patience, writer.write_all(out)).await;
    out.clear();
    matches!(written, Ok(Ok(())))
}
