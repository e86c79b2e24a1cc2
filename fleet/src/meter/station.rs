//! A meter's end of a connection in HDLC.

use std::collections::VecDeque;
use std::io;

use codec::apdu::{self, Apdu};
use codec::hdlc::{Address, Parameters, ServerEvent, ServerLine, ServerLineOptions};
use model::Instant;
use tokio::time;

use super::{IDLE, MAX_PDU, Reply, Session, SharedMeter, locked};

/// The push client and the meter in HDLC.
const PUSH_CLIENT: Address = Address::one(64);
/// The physical device of every meter, in addresses that have one.
pub(super) const PHYSICAL: u16 = 17;
/// Information of a frame, and frames of a window: what D1 has (dlms.md 1.1), and what the standard allows.
const PARAMETERS: [(u16, u8); 2] = [(128, 1), (1024, 7)];

/// Most requests that wait while an answer takes its time; others are lost.
const MAX_WAITING: usize = 8;

/// Those of meter number `index`: every other one takes long frames and windows.
pub(super) const fn parameters_of(index: u32) -> (u16, u8) {
    if index.is_multiple_of(2) { PARAMETERS[0] } else { PARAMETERS[1] }
}

/// Appends a push as the frames of a meter that speaks HDLC.
pub(crate) fn emit_push(apdu: &[u8], out: &mut Vec<u8>) {
    let (max_info, _) = PARAMETERS[0];
    codec::hdlc::emit_push(PUSH_CLIENT, Address::MANAGEMENT, apdu, max_info, out);
}

/// Links of a meter over one connection, and its sessions in them.
#[derive(Debug)]
pub(crate) struct Station {
    line: ServerLine,
    begun: time::Instant,
    /// An answer that takes its time, when it goes out, and to whom; no other request is looked at meanwhile.
    late: Option<(time::Instant, u8, Reply)>,
    /// The requests that wait for it.
    waiting: VecDeque<(u8, Vec<u8>)>,
}

/// What comes of what was received.
#[derive(Default)]
pub(crate) struct Answered {
    /// Whether the connection ends, after what there is to write.
    pub(crate) ends: bool,
    /// The invoke id of a push that was confirmed.
    pub(crate) confirmed: Option<u64>,
}

impl Station {
    /// That of meter number `index`.
    pub(crate) fn of(index: u32) -> Station {
        let (max_info, window) = parameters_of(index);
        let parameters = Parameters {
            max_info_transmit: max_info,
            max_info_receive: max_info,
            window_transmit: window,
            window_receive: window,
        };
        let options = ServerLineOptions {
            physical: PHYSICAL,
            parameters,
            timeout: IDLE,
            max_apdu: usize::from(MAX_PDU),
        };
        let (line, begun) = (ServerLine::new(options), time::Instant::now());
        Station { line, begun, late: None, waiting: VecDeque::new() }
    }

    /// Takes what was received.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.line.handle_bytes(bytes, self.begun.elapsed());
    }

    /// When an answer that takes its time goes out; [`next`](Self::next) is to be asked again then.
    pub(crate) fn due(&self) -> Option<time::Instant> {
        self.late.as_ref().map(|(due, ..)| *due)
    }

    /// Deals with the next of it, if there is any: asks the meter where one answers.
    pub(crate) fn next(
        &mut self,
        answering: Option<(&SharedMeter, &mut Session)>,
        now: Instant,
    ) -> Option<Answered> {
        if let Some((_, client, reply)) = self.late.take_if(|(due, ..)| *due <= time::Instant::now()) {
            return Some(self.answer(client, &reply));
        }
        let waits = self.late.is_some();
        let event = match if waits { None } else { self.waiting.pop_front() } {
            Some((client, request)) => ServerEvent::Apdu(client, request),
            None => self.line.poll_event()?,
        };
        let mut answered = Answered::default();
        match (event, answering) {
            (ServerEvent::Apdu(client, request), Some(_)) if waits => {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back((client, request));
                }
            }
            (ServerEvent::Apdu(client, request), Some((meter, session))) => {
                let reply = locked(meter).answer(session, client.into(), &request, now);
                if reply.delay.is_zero() {
                    return Some(self.answer(client, &reply));
                }
                self.late = Some((time::Instant::now() + reply.delay, client, reply));
            }
            (ServerEvent::Closed(client), Some((_, session))) => {
                session.disconnected(client.into());
                self.late.take_if(|(_, of, _)| *of == client);
            }
            (ServerEvent::Unnumbered(receipt), _) => {
                if let Ok(Apdu::DataNotificationConfirm(id)) = apdu::parse(&receipt) {
                    answered.confirmed = Some(u64::from(id.id()));
                }
            }
            (ServerEvent::Apdu(..) | ServerEvent::Closed(_), None) => {}
        }
        Some(answered)
    }

    fn answer(&mut self, client: u8, reply: &Reply) -> Answered {
        if let Some(pushed) = &reply.pushed {
            self.line.push(PUSH_CLIENT.upper() as u8, pushed);
        }
        if !reply.apdu.is_empty() {
            // Where the link is gone meanwhile nobody waits for it.
            let _ = self.line.answer(client, &reply.apdu, self.begun.elapsed());
        }
        Answered { ends: reply.ends, confirmed: None }
    }

    /// Appends all that is to be written to `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        while self.line.poll_transmit(out) {}
    }
}

/// Answers what comes on a connection, of which `received` is there already, until it ends.
pub(super) async fn converse(
    stream: &mut tokio::net::TcpStream,
    received: &[u8],
    meter: &SharedMeter,
    clock: &super::SimulatedClock,
) -> io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut session, index) = {
        let meter = locked(meter);
        (meter.session(), meter.identity().index)
    };
    let mut station = Station::of(index);
    station.take(received);
    let (mut incoming, mut out) = (vec![0; 2048], Vec::new());
    loop {
        let mut ends = false;
        while let Some(answered) = station.next(Some((meter, &mut session)), clock.now()) {
            ends |= answered.ends;
        }
        station.write(&mut out);
        stream.write_all(&out).await?;
        out.clear();
        if ends {
            return Ok(());
        }
        let read = match station.due() {
            None => time::timeout(IDLE, stream.read(&mut incoming)).await,
            Some(due) => match time::timeout_at(due, stream.read(&mut incoming)).await {
                Ok(read) => Ok(read),
                Err(_) => continue,
            },
        };
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => return Ok(()),
            length => station.take(incoming.get(..length).unwrap_or_default()),
        }
    }
}
