//! One connection of a fleet: the schedule of its meters, what is under way, and the wire.
//!
//! A confirmed push is under way until its confirm came; at most a window of them is. After a time without a confirm,
//! and when the connection breaks, the same bytes are sent again. Nothing is given up: a head-end that is down is
//! tried until it is there or the fleet is shut down, and what was not acknowledged then is sent by the next run.

mod mqtt;
mod tcp;
mod udp;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Instant, Source};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::encode::Frame;
use crate::meter::station::Station;
use crate::meter::{Reply, Session, SharedMeter, SimulatedClock, answered, locked};
use crate::options::{FleetOptions, MqttTarget, Target};
use crate::schedule::{Due, Pace, Schedule};
use crate::stats::{Counters, count};
use crate::truth::{How, Why};
use crate::{Error, Truth};

/// Longest time between two looks at the clock of a live run.
const LIVE_TICK: Duration = Duration::from_millis(250);

/// Changes where the targets of a running fleet are, for a head-end that comes back at another address. It counts
/// from the next connection on.
#[derive(Clone, Debug, Default)]
pub struct Redirect(Arc<Vec<Mutex<Option<SocketAddr>>>>);

impl Redirect {
    pub(crate) fn new(targets: usize) -> Redirect {
        Redirect(Arc::new((0..targets).map(|_| Mutex::new(None)).collect()))
    }

    /// Target number `target` of the options is at `address` now. A number that there is not has no effect.
    pub fn to(&self, target: usize, address: SocketAddr) {
        if let Some(place) = self.0.get(target) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        }
    }

    fn of(&self, target: usize) -> Option<SocketAddr> {
        *self.0.get(target)?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A meter that answers on the connection of its pushes.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    pub(crate) meter: SharedMeter,
    pub(crate) clock: SimulatedClock,
}

impl Answering {
    /// The node of its topics.
    fn node(&self) -> String {
        locked(&self.meter).identity().serial.clone()
    }

    fn session(&self) -> Session {
        locked(&self.meter).session()
    }

    fn answer(&self, session: &mut Session, frame: &[u8]) -> io::Result<Reply> {
        answered(frame, &self.meter, session, self.clock.now())
    }
}

/// Where a link connects to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) target: Target,
    /// The target's number in the options.
    pub(crate) number: usize,
    /// The link's number in the fleet.
    pub(crate) link: usize,
    pub(crate) redirect: Redirect,
    /// The meter behind it, if it is one only: its number.
    pub(crate) alone: Option<u32>,
    /// Whether it speaks HDLC.
    pub(crate) hdlc: bool,
    pub(crate) answering: Option<Answering>,
}

/// A connection and the meters behind it.
#[derive(Debug)]
pub(crate) struct Link {
    place: Place,
    schedule: Schedule,
    wire: Option<Wire>,
    under_way: VecDeque<UnderWay>,
    /// Frames that are to be sent again, oldest first.
    again: VecDeque<Frame>,
    /// The next frame, where it could not be sent yet.
    held: Option<Due>,
    window: usize,
    confirm_timeout: Duration,
    retry_after: Duration,
    shutdown: CancellationToken,
    counters: Arc<Counters>,
    truth: Truth,
}

#[derive(Debug)]
struct UnderWay {
    ticket: u64,
    frame: Frame,
    since: time::Instant,
}

/// What comes next while frames are under way.
enum Event {
    Receipt(io::Result<u64>),
    Overdue,
    Shutdown,
}

impl Link {
    pub(crate) fn new(
        place: Place,
        schedule: Schedule,
        options: &FleetOptions,
        counters: Arc<Counters>,
        truth: Truth,
    ) -> Link {
        Link {
            place,
            schedule,
            wire: None,
            under_way: VecDeque::new(),
            again: VecDeque::new(),
            held: None,
            window: options.window.max(1),
            confirm_timeout: options.confirm_timeout,
            retry_after: options.retry_after,
            shutdown: options.shutdown.clone(),
            counters,
            truth,
        }
    }

    /// The link's number in the fleet.
    pub(crate) fn link(&self) -> usize {
        self.place.link
    }

    /// From its next connection on the meter behind it answers; nothing happens where there are several. Gives its node
    /// where it is asked over a broker.
    pub(crate) fn answer(&mut self, find: impl Fn(u32) -> Option<Answering>) -> Option<String> {
        let alone = self.place.alone.filter(|_| !matches!(self.place.target, Target::Udp { .. }));
        self.place.answering = alone.and_then(find);
        let over_broker = matches!(self.place.target, Target::Mqtt(_));
        self.place.answering.as_ref().filter(|_| over_broker).map(Answering::node)
    }

    pub(crate) fn skip(&mut self, until: Instant) -> Result<(), Error> {
        self.schedule.skip(until)
    }

    /// Sends all that is due until then; ends when it is acknowledged as far as it asks for that, or at shutdown.
    pub(crate) async fn run(&mut self, until: Instant, pace: Pace) -> Result<(), Error> {
        while !self.shutdown.is_cancelled() {
            if self.is_idle(until, pace)? || !self.connected().await {
                return Ok(());
            }
            if let Err(fault) = self.fill(until, pace).await? {
                self.broken(&fault);
            } else if !self.under_way.is_empty() {
                self.wait().await?;
            }
        }
        Ok(())
    }

    /// Runs with a simulated clock that shows `start` now and goes `speed` times as fast as time.
    pub(crate) async fn live(&mut self, start: Instant, speed: u32) -> Result<(), Error> {
        let begun = time::Instant::now();
        while !self.shutdown.is_cancelled() {
            let passed_us = begun.elapsed().as_micros().saturating_mul(u128::from(speed));
            let now = Instant(start.0.saturating_add(i64::try_from(passed_us).unwrap_or(i64::MAX)));
            self.run(now, Pace::Live).await?;
            let wait_us =
                self.schedule.next_due().map_or(0, |at| at.0.saturating_sub(now.0).max(0).unsigned_abs());
            let wait = Duration::from_micros(wait_us / u64::from(speed.max(1)))
                .clamp(Duration::from_millis(5), LIVE_TICK);
            self.rest(wait).await?;
        }
        Ok(())
    }

    /// Waits; meanwhile a meter that answers does so.
    async fn rest(&mut self, wait: Duration) -> Result<(), Error> {
        if self.place.answering.is_some() && !self.connected().await {
            return Ok(());
        }
        let event = match self.wire.as_mut().filter(|wire| wire.answers()) {
            Some(wire) => tokio::select! {
                receipt = wire.receive() => Event::Receipt(receipt),
                () = time::sleep(wait) => Event::Overdue,
                () = self.shutdown.cancelled() => Event::Shutdown,
            },
            None => tokio::select! {
                () = time::sleep(wait) => Event::Overdue,
                () = self.shutdown.cancelled() => Event::Shutdown,
            },
        };
        match event {
            Event::Receipt(Ok(ticket)) => self.acknowledged(ticket),
            Event::Receipt(Err(fault)) => {
                self.broken(&fault);
                Ok(())
            }
            Event::Overdue | Event::Shutdown => Ok(()),
        }
    }

    /// Whether there is nothing to send and nothing to wait for.
    fn is_idle(&mut self, until: Instant, pace: Pace) -> Result<bool, Error> {
        if self.held.is_none() {
            self.held = self.schedule.next(until, pace)?;
        }
        Ok(self.held.is_none() && self.again.is_empty() && self.under_way.is_empty())
    }

    /// Connects where there is no connection; false at shutdown.
    async fn connected(&mut self) -> bool {
        if self.wire.as_ref().is_some_and(Wire::is_closed) {
            self.broken(&io::ErrorKind::UnexpectedEof.into());
        }
        while self.wire.is_none() {
            let attempt = tokio::select! {
                attempt = Wire::connect(&self.place, self.window) => attempt,
                () = self.shutdown.cancelled() => return false,
            };
            match attempt {
                Ok(wire) => {
                    count(&self.counters.connections, 1);
                    self.wire = Some(wire);
                }
                Err(error) => {
                    tracing::debug!(link = self.place.link, %error, "cannot connect");
                    tokio::select! {
                        () = time::sleep(self.retry_after) => {}
                        () = self.shutdown.cancelled() => return false,
                    }
                }
            }
        }
        true
    }

    /// Puts frames on the wire until the window is full or nothing is left. The inner error is the wire's.
    async fn fill(&mut self, until: Instant, pace: Pace) -> Result<io::Result<()>, Error> {
        while self.under_way.len() < self.window {
            let Some(outgoing) = self.take(until, pace)? else { break };
            if self.must_wait(&outgoing) {
                self.put_back(outgoing);
                break;
            }
            if let Err(fault) = self.send(outgoing).await? {
                return Ok(Err(fault));
            }
        }
        let Some(wire) = &mut self.wire else { return Ok(Ok(())) };
        let shutdown = &self.shutdown;
        Ok(tokio::select! {
            flushed = wire.flush() => flushed,
            () = shutdown.cancelled() => Err(io::ErrorKind::Interrupted.into()),
        })
    }

    /// The next frame to put on the wire: first what is to be sent again.
    fn take(&mut self, until: Instant, pace: Pace) -> Result<Option<Outgoing>, Error> {
        if let Some(frame) = self.again.pop_front() {
            return Ok(Some(Outgoing::Again(frame)));
        }
        let due = match self.held.take() {
            Some(due) => Some(due),
            None => self.schedule.next(until, pace)?,
        };
        Ok(due.map(Outgoing::Due))
    }

    /// Whether a frame is under way whose acknowledgement could not be told from this one's.
    fn must_wait(&self, outgoing: &Outgoing) -> bool {
        let ticket = self.wire.as_ref().and_then(|wire| wire.ticket(outgoing.frame()));
        ticket.is_some_and(|ticket| self.under_way.iter().any(|other| other.ticket == ticket))
    }

    fn put_back(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Again(frame) => self.again.push_front(frame),
            Outgoing::Due(due) => self.held = Some(due),
        }
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<io::Result<()>, Error> {
        self.note(&outgoing)?;
        let frame = outgoing.into_frame();
        let Some(wire) = &mut self.wire else { return Ok(Ok(())) };
        let ticket = wire.ticket(&frame);
        let sent = wire.send(&frame).await;
        count(&self.counters.sent, 1);
        if let Some(ticket) = ticket {
            self.under_way.push_back(UnderWay { ticket, frame, since: time::Instant::now() });
        }
        Ok(sent)
    }

    /// Writes the truth before the first byte leaves.
    fn note(&self, outgoing: &Outgoing) -> Result<(), Error> {
        match outgoing {
            Outgoing::Again(frame) => {
                count(&self.counters.resent, 1);
                self.truth.again(frame, Why::Resent)
            }
            Outgoing::Due(Due { frame, copy: true }) => {
                count(&self.counters.duplicates, 1);
                self.truth.again(frame, Why::Duplicate)
            }
            Outgoing::Due(Due { frame, copy: false }) => {
                count(&self.counters.frames, 1);
                if frame.kind == crate::encode::Kind::Interval {
                    count(&self.counters.intervals, frame.readings.len() as u64);
                }
                self.truth.frame(frame, self.place.source())
            }
        }
    }

    /// Waits for a receipt, for the oldest frame to be overdue, or for shutdown.
    async fn wait(&mut self) -> Result<(), Error> {
        let Some(oldest) = self.under_way.front() else { return Ok(()) };
        let overdue = oldest.since + self.confirm_timeout;
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let event = tokio::select! {
            receipt = wire.receive() => Event::Receipt(receipt),
            () = time::sleep_until(overdue) => Event::Overdue,
            () = self.shutdown.cancelled() => Event::Shutdown,
        };
        match event {
            Event::Receipt(Ok(ticket)) => self.acknowledged(ticket)?,
            Event::Receipt(Err(fault)) => self.broken(&fault),
            Event::Overdue => self.again.extend(self.under_way.pop_front().map(|late| late.frame)),
            Event::Shutdown => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, ticket: u64) -> Result<(), Error> {
        let Some(place) = self.under_way.iter().position(|frame| frame.ticket == ticket) else {
            count(&self.counters.stray_confirms, 1);
            return Ok(());
        };
        let (counter, how) = match self.place.source() {
            Source::Mqtt => (&self.counters.published, How::Published),
            Source::Tcp | Source::Udp | Source::Waiting => (&self.counters.confirmed, How::Confirmed),
        };
        count(counter, 1);
        match self.under_way.remove(place) {
            Some(done) => self.truth.acknowledged(done.frame.digest, how),
            None => Ok(()),
        }
    }

    /// The connection is gone: what was under way is sent again over the next one.
    fn broken(&mut self, fault: &io::Error) {
        tracing::debug!(link = self.place.link, %fault, "connection lost");
        self.wire = None;
        let lost = std::mem::take(&mut self.under_way);
        for frame in lost.into_iter().rev().map(|lost| lost.frame) {
            self.again.push_front(frame);
        }
    }
}

/// A frame that is to be put on the wire.
enum Outgoing {
    Due(Due),
    Again(Frame),
}

impl Outgoing {
    fn frame(&self) -> &Frame {
        match self {
            Outgoing::Due(due) => &due.frame,
            Outgoing::Again(frame) => frame,
        }
    }

    fn into_frame(self) -> Frame {
        match self {
            Outgoing::Due(due) => due.frame,
            Outgoing::Again(frame) => frame,
        }
    }
}

impl Place {
    fn source(&self) -> Source {
        match self.target {
            Target::Tcp { .. } => Source::Tcp,
            Target::Udp { .. } => Source::Udp,
            Target::Mqtt(_) => Source::Mqtt,
        }
    }
}

/// A connection of one of the transports.
#[derive(Debug)]
enum Wire {
    Tcp(tcp::Tcp),
    Udp(udp::Udp),
    Mqtt(mqtt::Mqtt),
}

impl Wire {
    async fn connect(place: &Place, window: usize) -> io::Result<Wire> {
        let moved = place.redirect.of(place.number);
        match &place.target {
            Target::Tcp { address, .. } => {
                let address = moved.unwrap_or(*address);
                let station = place.hdlc.then(|| Station::of(place.alone.unwrap_or_default()));
                tcp::Tcp::connect(address, place.answering.as_ref(), station).await.map(Wire::Tcp)
            }
            Target::Udp { address, .. } => udp::Udp::connect(moved.unwrap_or(*address)).await.map(Wire::Udp),
            Target::Mqtt(target) => {
                let at = |moved: SocketAddr| MqttTarget {
                    host: moved.ip().to_string(),
                    port: moved.port(),
                    ..target.clone()
                };
                let target = moved.map_or_else(|| target.clone(), at);
                mqtt::Mqtt::connect(target, place.link, window, place.answering.as_ref())
                    .await
                    .map(Wire::Mqtt)
            }
        }
    }

    /// Whether the peer is known to have gone, as after a long pause.
    fn is_closed(&self) -> bool {
        match self {
            Wire::Tcp(wire) => wire.is_closed(),
            Wire::Udp(_) => false,
            Wire::Mqtt(wire) => wire.is_closed(),
        }
    }

    /// Whether a meter answers on it.
    fn answers(&self) -> bool {
        match self {
            Wire::Tcp(wire) => wire.answers(),
            Wire::Mqtt(wire) => wire.answers(),
            Wire::Udp(_) => false,
        }
    }

    /// What its acknowledgement will be told by; `None` where none comes.
    fn ticket(&self, frame: &Frame) -> Option<u64> {
        match self {
            Wire::Tcp(_) | Wire::Udp(_) => frame.confirmed.then_some(u64::from(frame.invoke_id)),
            Wire::Mqtt(_) => Some(mqtt::ticket(frame)),
        }
    }

    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        match self {
            Wire::Tcp(wire) => {
                wire.put(&frame.bytes);
                Ok(())
            }
            Wire::Udp(wire) => wire.send(&frame.bytes).await,
            Wire::Mqtt(wire) => wire.publish(frame).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(wire) => wire.flush().await,
            Wire::Udp(_) | Wire::Mqtt(_) => Ok(()),
        }
    }

    /// The ticket of the next frame that was acknowledged. May be dropped and called again.
    async fn receive(&mut self) -> io::Result<u64> {
        match self {
            Wire::Tcp(wire) => wire.receive().await,
            Wire::Udp(wire) => wire.receive().await,
            Wire::Mqtt(wire) => wire.receive().await,
        }
    }
}
