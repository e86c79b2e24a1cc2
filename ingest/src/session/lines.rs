//! Connections that meters opened, by meter: what sessions are held over where a meter cannot be dialled.
//!
//! Such a connection stays the listener's. It goes on taking pushes and writing their receipts; while a session has
//! taken the line up, what answers is given to the session instead of the journal. Which is which the tag says
//! (dlms.md 1.4), for a push may come between a question and its answer.
//!
//! Who is behind a connection is known from a push that proved its meter, or from what the meter said when it was asked
//! ([`Sessions::identify`](super::Sessions)). The second proves nothing: it only says whom to try, and the association
//! proves the rest. A connection over which two meters came is a concentrator's; nobody can be asked over it, because the
//! wrapper cannot say who is meant.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use codec::apdu::ciphered::{GENERAL_CIPHERING, GENERAL_DED, Scope, Service};
use codec::apdu::{
    DATA_NOTIFICATION, EVENT_NOTIFICATION_REQUEST, EXCEPTION_RESPONSE, GENERAL_BLOCK_TRANSFER, GENERAL_GLO,
};
use codec::hdlc::{self, Address, Control};
use codec::wrapper::{Wrapper, WrapperRepr};
use metrics::gauge;
use model::MeterId;
use tokio::sync::mpsc;

use crate::tcp::Outgoing;
use crate::telemetry;

/// Answers that may wait for a session; a meter has one question at a time, and may repeat itself.
const ANSWERS: usize = 16;
/// An event-notification-request under a global key, and under the dedicated key of an association.
const GLO_EVENT: u8 = Service::EventNotificationRequest.ciphered_tag(Scope::Global);
const DED_EVENT: u8 = Service::EventNotificationRequest.ciphered_tag(Scope::Dedicated);

/// The lines that are there; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<HashMap<MeterId, Known>>>);

/// Lines of one meter. The newest may be a stranger's who says that he is this meter, so the last one that was proven is
/// kept too.
#[derive(Debug)]
struct Known {
    newest: Arc<Line>,
    proven: Option<Arc<Line>>,
}

impl Lines {
    /// The meter is behind this line, proven or by its own word. What is over, or a concentrator's, is not kept.
    pub(crate) fn register(&self, meter: MeterId, line: &Arc<Line>, proven: bool) {
        let mut lines = lock(&self.0);
        let mut state = lock(&line.state);
        if state.over || state.several {
            return;
        }
        if let Some(other) = state.meter.replace(meter).filter(|known| *known != meter) {
            state.several = true;
            forget(&mut lines, other, line);
            return;
        }
        let known = lines.entry(meter).or_insert_with(|| Known { newest: Arc::clone(line), proven: None });
        known.newest = Arc::clone(line);
        if proven {
            known.proven = Some(Arc::clone(line));
        }
        gauge!(telemetry::METER_LINES).set(lines.len() as f64);
    }

    /// Lines of a meter in the order in which they are to be tried.
    pub(crate) fn of(&self, meter: MeterId) -> Vec<Arc<Line>> {
        let lines = lock(&self.0);
        let Some(Known { newest, proven }) = lines.get(&meter) else { return Vec::new() };
        let older = proven.iter().filter(|proven| !Arc::ptr_eq(newest, proven));
        std::iter::once(newest).chain(older).cloned().collect()
    }

    /// The connection has ended, and with it a session over it.
    pub(crate) fn end(&self, line: &Arc<Line>) {
        let mut lines = lock(&self.0);
        let mut state = lock(&line.state);
        state.over = true;
        state.session = None;
        if let Some(meter) = state.meter {
            forget(&mut lines, meter, line);
        }
    }
}

fn forget(lines: &mut HashMap<MeterId, Known>, meter: MeterId, line: &Arc<Line>) {
    let Some(known) = lines.get_mut(&meter) else { return };
    known.proven = known.proven.take().filter(|proven| !Arc::ptr_eq(proven, line));
    if Arc::ptr_eq(&known.newest, line) {
        match known.proven.clone() {
            Some(proven) => known.newest = proven,
            None => drop(lines.remove(&meter)),
        }
    }
    gauge!(telemetry::METER_LINES).set(lines.len() as f64);
}

/// One connection, as sessions see it.
#[derive(Debug)]
pub(crate) struct Line {
    peer: SocketAddr,
    writer: Writer,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where answers go while a session goes on.
    session: Option<mpsc::Sender<Answer>>,
    /// What came over it last.
    spoken: Option<Spoken>,
    /// Pushes that came since a session last heard of any: their receipts may be refused in the middle of its answers.
    pushes: u8,
    meter: Option<MeterId>,
    /// More than one meter came over it.
    several: bool,
    over: bool,
}

/// What frames a meter speaks over a line, and in HDLC its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Wrapper,
    Hdlc(Address),
}

/// What comes for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An APDU out of the wrapper between these ports.
    Apdu(WrapperRepr, Vec<u8>),
    /// A frame of HDLC.
    Frame(Bytes),
}

/// Puts frames behind what else the connection has to write. It does not keep the connection open.
type Writer = mpsc::WeakSender<Outgoing>;

impl Line {
    pub(crate) fn new(peer: SocketAddr, writer: Writer) -> Arc<Line> {
        Arc::new(Line { peer, writer, state: Mutex::default() })
    }

    /// Gives a frame to the session that goes on; false where there is none, or where it is a push.
    pub(crate) fn takes(&self, frame: &Bytes) -> bool {
        let mut state = lock(&self.state);
        let hdlc = frame.first() == Some(&hdlc::FLAG);
        let (answer, spoken) = if hdlc {
            let Ok(view) = hdlc::Frame::new_checked(frame) else { return false };
            let pushed = matches!(view.control(), Control::UnnumberedInformation { .. })
                && !is_answer(hdlc::strip_llc(view.information()), &UNNUMBERED_ANSWERS);
            ((!pushed).then(|| Answer::Frame(frame.clone())), Spoken::Hdlc(view.source()))
        } else {
            let Ok(view) = Wrapper::new_checked(frame) else { return false };
            let answer = (!is_push(view.apdu()))
                .then(|| Answer::Apdu(WrapperRepr::parse(&view), view.apdu().to_vec()));
            (answer, Spoken::Wrapper)
        };
        state.spoken = Some(spoken);
        if answer.is_none() {
            state.pushes = state.pushes.saturating_add(1);
        }
        let (Some(answer), Some(session)) = (answer, &state.session) else { return false };
        if session.is_closed() {
            state.session = None;
            return false;
        }
        session.try_send(answer).is_ok()
    }

    /// Whether a session goes on, for which frames of a link are answers.
    pub(crate) fn is_taken_up(&self) -> bool {
        lock(&self.state).session.as_ref().is_some_and(|session| !session.is_closed())
    }

    /// What frames the meter was heard to speak.
    pub(crate) fn spoken(&self) -> Option<Spoken> {
        lock(&self.state).spoken
    }

    /// The line for a session; `None` while another goes on, or when it is over.
    pub(crate) fn take_up(self: &Arc<Self>) -> Option<HeldLine> {
        let mut state = lock(&self.state);
        if state.over || state.session.as_ref().is_some_and(|session| !session.is_closed()) {
            return None;
        }
        let (session, answers) = mpsc::channel(ANSWERS);
        state.session = Some(session);
        Some(HeldLine { line: Arc::clone(self), answers })
    }
}

/// A line that a session has taken up; given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldLine {
    line: Arc<Line>,
    answers: mpsc::Receiver<Answer>,
}

impl HeldLine {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.line.peer
    }

    /// Whether the connection is still there to take it.
    pub(crate) async fn send(&self, frame: Vec<u8>) -> bool {
        let Some(writer) = self.line.writer.upgrade() else { return false };
        writer.send(Outgoing::Request(Box::new(Bytes::from(frame)))).await.is_ok()
    }

    /// Pushes that came since this was last asked; at first, since the last session: each may have been answered by a
    /// receipt.
    pub(crate) fn receipts(&self) -> u8 {
        std::mem::take(&mut lock(&self.line.state).pushes)
    }

    /// The next answer; `None` when the connection has ended.
    pub(crate) async fn receive(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

/// Whether it is none of a session's. What is under a dedicated key is a session's even where it is a push: nobody else can
/// open it. General protection and general-block-transfer are pushes here: sessions do not agree to them.
fn is_push(apdu: &[u8]) -> bool {
    let pushes = [
        DATA_NOTIFICATION,
        EVENT_NOTIFICATION_REQUEST,
        GLO_EVENT,
        GENERAL_GLO,
        GENERAL_CIPHERING,
        GENERAL_BLOCK_TRANSFER,
    ];
    apdu.first().is_none_or(|tag| pushes.contains(tag))
}

/// What is a session's although it comes in unnumbered information, as pushes do.
const UNNUMBERED_ANSWERS: [u8; 3] = [GENERAL_DED, DED_EVENT, EXCEPTION_RESPONSE];

fn is_answer(apdu: &[u8], answers: &[u8]) -> bool {
    apdu.first().is_some_and(|tag| answers.contains(tag))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MeterId = MeterId(1);
    const TWO: MeterId = MeterId(2);
    const PORTS: WrapperRepr = WrapperRepr { source: 1, destination: 48 };

    fn line() -> (Arc<Line>, mpsc::Sender<Outgoing>) {
        let (writer, _) = mpsc::channel(1);
        (Line::new(([127, 0, 0, 1], 9).into(), writer.downgrade()), writer)
    }

    fn frame(apdu: &[u8]) -> Bytes {
        let mut frame = Vec::new();
        PORTS.emit(apdu, &mut frame);
        frame.into()
    }

    fn peers(lines: &Lines, meter: MeterId) -> usize {
        lines.of(meter).len()
    }

    #[tokio::test]
    async fn answers_go_to_the_session_and_pushes_to_the_journal() {
        let (line, _writer) = line();
        assert!(!line.takes(&frame(&[0xcc, 1])), "nobody asked");
        let mut held = line.take_up().unwrap();
        for tag in [0x61, 0x63, 0xc4, 0xcc, 0xcf, 0xd8, 0x0e, 0xd2, 0xdc] {
            assert!(line.takes(&frame(&[tag, 1])), "{tag:02x}");
            assert_eq!(held.receive().await, Some(Answer::Apdu(PORTS, vec![tag, 1])));
        }
        assert_eq!(held.receipts(), 0);
        for tag in [0x0f, 0xc2, 0xca, 0xdb, 0xdd, 0xe0] {
            assert!(!line.takes(&frame(&[tag, 1])), "{tag:02x}");
        }
        assert_eq!((held.receipts(), held.receipts()), (6, 0), "each may be confirmed");
        drop(held);
        assert!(!line.takes(&frame(&[0xcc, 1])), "the session is over");
    }

    #[tokio::test]
    async fn frames_of_a_link_go_to_the_session_and_unnumbered_ones_to_the_journal() {
        let (line, _writer) = line();
        let (to, from) = (Address::one(48), Address::two(1, 17));
        let framed = |control| {
            let mut frame = Vec::new();
            let repr = hdlc::FrameRepr { segmented: false, destination: to, source: from, control };
            repr.emit(&[1, 2], &mut frame);
            Bytes::from(frame)
        };
        let numbered = framed(Control::Information { send: 0, receive: 1, poll: true });
        assert!(!line.takes(&numbered) && !line.is_taken_up(), "nobody asked");
        assert_eq!(line.spoken(), Some(Spoken::Hdlc(from)));
        let mut held = line.take_up().unwrap();
        assert!(line.takes(&numbered) && line.is_taken_up());
        assert_eq!(held.receive().await, Some(Answer::Frame(numbered)));
        assert!(!line.takes(&framed(Control::UnnumberedInformation { poll: false })));
        // Only the session can open what is under its dedicated key, or be told that a receipt was refused.
        for tag in UNNUMBERED_ANSWERS {
            let mut frame = Vec::new();
            let control = Control::UnnumberedInformation { poll: false };
            hdlc::FrameRepr { segmented: false, destination: to, source: from, control }
                .emit(&[0xe6, 0xe7, 0, tag, 1], &mut frame);
            assert!(line.takes(&Bytes::from(frame)), "{tag:02x}");
        }
    }

    #[tokio::test]
    async fn a_meter_that_floods_its_session_fills_no_memory() {
        let (line, _writer) = line();
        let _held = line.take_up().unwrap();
        let taken = (0..100).filter(|_| line.takes(&frame(&[0xcc, 1]))).count();
        assert_eq!(taken, ANSWERS);
    }

    #[tokio::test]
    async fn a_line_has_one_session_at_a_time_and_none_once_it_is_over() {
        let (line, _writer) = line();
        let held = line.take_up().unwrap();
        assert!(line.take_up().is_none());
        drop(held);
        let mut held = line.take_up().unwrap();
        Lines::default().end(&line);
        assert_eq!(held.receive().await, None);
        assert!(line.take_up().is_none());
    }

    #[test]
    fn a_claim_is_tried_first_and_does_not_displace_what_is_proven() {
        let lines = Lines::default();
        let ((proven, _a), (claimed, _b)) = (line(), line());
        lines.register(ONE, &proven, true);
        lines.register(ONE, &claimed, false);
        let order = lines.of(ONE);
        assert!(Arc::ptr_eq(&order[0], &claimed) && Arc::ptr_eq(&order[1], &proven));
        lines.end(&claimed);
        assert_eq!(peers(&lines, ONE), 1);
        lines.end(&proven);
        assert_eq!(peers(&lines, ONE), 0);
        lines.register(ONE, &proven, true);
        assert_eq!(peers(&lines, ONE), 0, "it is over");
    }

    #[test]
    fn nobody_is_asked_over_the_connection_of_a_concentrator() {
        let lines = Lines::default();
        let (line, _writer) = line();
        lines.register(ONE, &line, true);
        assert_eq!(peers(&lines, ONE), 1);
        lines.register(TWO, &line, true);
        lines.register(ONE, &line, true);
        assert_eq!((peers(&lines, ONE), peers(&lines, TWO)), (0, 0));
    }
}
