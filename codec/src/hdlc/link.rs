//! The data link of either side: connecting, numbered segments with a window, repetition, release.
//!
//! Without sockets and clocks: `now` is an argument, any steadily rising time. The order of calls:
//! [`handle_frame`](Link::handle_frame) for each frame received, [`handle_timeout`](Link::handle_timeout) when
//! the time of [`poll_timeout`](Link::poll_timeout) has come; after each of them, and after each command, take
//! all of [`poll_transmit`](Link::poll_transmit), then all of [`poll_event`](Link::poll_event).
//!
//! The two sides take turns: who sends a frame with the poll bit waits for the other's. A client has the turn
//! when it connects; it repeats what is not answered in time, from the first segment that was not acknowledged
//! on. A server sends only when it has the turn, except for pushes.
//!
//! A client:
//!
//! | state | command | UA | DM | FRMR | I, RR, RNR | timeout |
//! |---|---|---|---|---|---|---|
//! | idle | `connect`: SNRM → connecting | – | – | – | – | – |
//! | connecting | refused | → open; parameters that cannot be read → idle, protocol | → idle, refused | → idle, rejected | – | SNRM again; then → idle, timed out |
//! | open | `send`: segments, busy until the answer is whole; `disconnect`: DISC → closing | a late copy: nothing | → idle, refused | → idle, rejected | taken, and asked for more until it is whole; a number of what was never sent, or too long → idle, protocol | what is not acknowledged again, else RR; then → idle, timed out |
//! | closing | refused | → idle, released | → idle, released | → idle, rejected | – | DISC again; then → idle, timed out |
//!
//! A server:
//!
//! | state | `send` | SNRM | DISC | FRMR | I, RR, RNR | timeout |
//! |---|---|---|---|---|---|---|
//! | idle | refused | UA → open; parameters that cannot be read: DM | DM | – | with the poll bit: DM | – |
//! | open | segments, once it has the turn; busy until the other side has them | UA → open, numbered anew; parameters that cannot be read: DM | UA → idle, released | → idle, rejected | taken; with the poll bit: what is not acknowledged, else RR; a number of what was never sent, or too long: FRMR → idle, protocol | → idle, timed out |
//!
//! In every state a UI frame is a push and changes nothing, and so does a frame that only the other role may send. A segment out
//! of turn is not taken: the number that is waited for, which goes with every frame, asks for it again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::reassembly::Reassembly;
use super::{
    Address, Control, Frame, FrameRepr, LLC_REQUEST, LLC_RESPONSE, Parameters, emit_push, strip_llc,
};

/// Which side a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks; the head-end.
    Client,
    /// Answers; the meter.
    Server,
}

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// Our address.
    pub local: Address,
    /// The other side's.
    pub remote: Address,
    /// What we ask for, or agree to at most.
    pub parameters: Parameters,
    /// Of a client: how long it waits for an answer. Of a server: the longest silence of its client.
    pub timeout: Duration,
    /// How often a client repeats itself.
    pub retries: u8,
    /// Longest APDU taken, bytes.
    pub max_apdu: usize,
}

/// What happened on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link is there, with these parameters seen from here.
    Connected(Parameters),
    /// An APDU. A server's link waits for [`Link::send`] then.
    Apdu(Vec<u8>),
    /// An APDU that nobody asked for.
    Push(Vec<u8>),
    /// The link is gone.
    Closed(Closed),
}

/// Why a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// As one side asked for.
    Released,
    /// The server says that there is none.
    Refused,
    /// The other side cannot go on with what we sent.
    Rejected,
    /// The other side is silent.
    TimedOut,
    /// What the other side sent cannot be set right by repetition.
    Protocol,
}

/// A command that a link cannot follow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// There is no link.
    NotConnected,
    /// A link is there or being made already.
    Connected,
    /// The APDU before has not gone through.
    Busy,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "there is no link",
            Self::Connected => "there is a link already",
            Self::Busy => "the apdu before has not gone through",
        })
    }
}

impl core::error::Error for LinkError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Open,
    Closing,
}

/// One APDU on its way out.
#[derive(Debug, Default)]
struct Outgoing {
    information: Vec<u8>,
    max_info: usize,
    /// Segments that the other side has.
    acknowledged: usize,
    /// Segments sent, those included.
    sent: usize,
}

impl Outgoing {
    fn segments(&self) -> usize {
        self.information.len().div_ceil(self.max_info.max(1))
    }

    fn is_through(&self) -> bool {
        self.acknowledged >= self.segments()
    }

    fn segment(&self, index: usize) -> &[u8] {
        self.information.chunks(self.max_info.max(1)).nth(index).unwrap_or_default()
    }
}

/// One end of a data link.
#[derive(Debug)]
pub struct Link {
    role: Role,
    options: LinkOptions,
    agreed: Parameters,
    state: State,
    outgoing: Outgoing,
    /// Number of the first segment that is not acknowledged, modulo 8.
    send: u8,
    /// Number of the next segment to come, modulo 8.
    receive: u8,
    incoming: Vec<u8>,
    reassembly: Reassembly,
    push: Vec<u8>,
    push_reassembly: Reassembly,
    /// We may send.
    turn: bool,
    /// Of a client: an APDU was sent and its answer is not whole. Of a server: one came and is not answered.
    open_exchange: bool,
    /// Of a client: the other side has to be asked for more.
    ask: bool,
    /// The other side is not ready.
    remote_busy: bool,
    tries: u8,
    deadline: Option<Duration>,
    frames: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Link {
    /// A link that is not there yet.
    #[must_use]
    pub fn new(role: Role, options: LinkOptions) -> Self {
        let max_bytes = options.max_apdu.saturating_add(LLC_REQUEST.len());
        Self {
            role,
            options,
            agreed: Parameters::default(),
            state: State::Idle,
            outgoing: Outgoing::default(),
            send: 0,
            receive: 0,
            incoming: Vec::new(),
            reassembly: Reassembly::new(max_bytes),
            push: Vec::new(),
            push_reassembly: Reassembly::new(max_bytes),
            turn: false,
            open_exchange: false,
            ask: false,
            remote_busy: false,
            tries: 0,
            deadline: None,
            frames: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether APDUs can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What was agreed on; the defaults before.
    #[must_use]
    pub const fn parameters(&self) -> Parameters {
        self.agreed
    }

    /// Whether something is there to be sent.
    #[must_use]
    pub fn has_to_send(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Of a server: takes back that it agreed to a link, before anything of that is sent.
    pub(super) fn refuse(&mut self) {
        self.frames.clear();
        self.emit(Control::DisconnectedMode { poll: true }, false, &[]);
        self.close(Closed::Refused);
    }

    /// Of a client: asks for a link.
    ///
    /// # Errors
    /// [`LinkError::Connected`].
    pub fn connect(&mut self, now: Duration) -> Result<(), LinkError> {
        if self.role == Role::Server || self.state != State::Idle {
            return Err(LinkError::Connected);
        }
        self.state = State::Connecting;
        self.tries = 0;
        self.ask_unnumbered(now);
        Ok(())
    }

    /// Of a client: ends the link, after what is on its way.
    ///
    /// # Errors
    /// [`LinkError::NotConnected`].
    pub fn disconnect(&mut self, now: Duration) -> Result<(), LinkError> {
        if self.role == Role::Server || self.state != State::Open {
            return Err(LinkError::NotConnected);
        }
        self.state = State::Closing;
        self.tries = 0;
        self.ask_unnumbered(now);
        Ok(())
    }

    /// Sends an APDU; of a server, the answer to the last one.
    ///
    /// # Errors
    /// [`LinkError::NotConnected`]; [`LinkError::Busy`] while the one before is on its way, and for a client while
    /// its answer is.
    pub fn send(&mut self, apdu: &[u8], now: Duration) -> Result<(), LinkError> {
        if self.state != State::Open {
            return Err(LinkError::NotConnected);
        }
        let answer_due = self.role == Role::Client && self.open_exchange;
        if !self.outgoing.is_through() || answer_due {
            return Err(LinkError::Busy);
        }
        let prefix = if self.role == Role::Client { LLC_REQUEST } else { LLC_RESPONSE };
        let outgoing = &mut self.outgoing;
        outgoing.information.clear();
        outgoing.information.extend_from_slice(&prefix);
        outgoing.information.extend_from_slice(apdu);
        outgoing.max_info = usize::from(self.agreed.max_info_transmit);
        (outgoing.acknowledged, outgoing.sent) = (0, 0);
        self.open_exchange = self.role == Role::Client;
        self.tries = 0;
        self.go_on(now);
        Ok(())
    }

    /// Sends an APDU that nobody asked for, outside of the link and of all turns.
    pub fn send_push(&mut self, apdu: &[u8]) {
        let mut frames = Vec::new();
        let LinkOptions { local, remote, .. } = self.options;
        emit_push(remote, local, apdu, self.agreed.max_info_transmit, &mut frames);
        self.frames.push_back(frames);
    }

    /// Takes a frame; false: it is none of ours.
    pub fn handle_frame(&mut self, frame: &Frame<'_>, now: Duration) -> bool {
        if frame.destination() != self.options.local || frame.source() != self.options.remote {
            return false;
        }
        if self.role == Role::Server && self.state == State::Open {
            self.deadline = Some(now.saturating_add(self.options.timeout));
        }
        match frame.control() {
            Control::UnnumberedInformation { .. } => self.pushed(frame),
            Control::SetNormalResponseMode { .. } if self.role == Role::Server => self.asked(frame, now),
            Control::Disconnect { .. } if self.role == Role::Server => self.released(),
            Control::UnnumberedAcknowledge { .. } if self.role == Role::Client => self.agreed_to(frame),
            Control::DisconnectedMode { .. } if self.role == Role::Client => {
                let closing = self.state == State::Closing;
                self.close(if closing { Closed::Released } else { Closed::Refused });
            }
            Control::FrameReject { .. } => self.close(Closed::Rejected),
            Control::Information { send, receive, poll } => {
                self.numbered(frame, Some(send), receive, poll, false, now);
            }
            Control::ReceiveReady { receive, poll } => {
                self.numbered(frame, None, receive, poll, false, now);
            }
            Control::ReceiveNotReady { receive, poll } => {
                self.numbered(frame, None, receive, poll, true, now);
            }
            // A kind that the other side may not send.
            _ => {}
        }
        true
    }

    /// What to do when the time of [`poll_timeout`](Self::poll_timeout) has come; earlier, nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.deadline = None;
        if self.role == Role::Server || self.tries >= self.options.retries {
            self.close(Closed::TimedOut);
            return;
        }
        self.tries += 1;
        match self.state {
            State::Idle => {}
            State::Connecting | State::Closing => self.ask_unnumbered(now),
            State::Open => {
                self.turn = true;
                self.ask = true;
                self.go_on(now);
            }
        }
    }

    /// Appends what is to be sent next to `out`: one frame, or all of a push.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(frame) = self.frames.pop_front() else { return false };
        out.extend_from_slice(&frame);
        true
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if at all.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn emit(&mut self, control: Control, segmented: bool, information: &[u8]) {
        let LinkOptions { local, remote, .. } = self.options;
        let mut frame = Vec::new();
        FrameRepr { segmented, destination: remote, source: local, control }.emit(information, &mut frame);
        self.frames.push_back(frame);
    }

    /// SNRM or DISC, and the wait for its answer.
    fn ask_unnumbered(&mut self, now: Duration) {
        let mut information = Vec::new();
        let control = if self.state == State::Connecting {
            self.options.parameters.emit(&mut information);
            Control::SetNormalResponseMode { poll: true }
        } else {
            Control::Disconnect { poll: true }
        };
        self.emit(control, false, &information);
        self.deadline = Some(now.saturating_add(self.options.timeout));
    }

    fn open(&mut self, agreed: Parameters) {
        self.agreed = agreed;
        self.state = State::Open;
        self.outgoing = Outgoing::default();
        (self.send, self.receive, self.tries) = (0, 0, 0);
        self.reassembly.reset();
        self.turn = self.role == Role::Client;
        (self.open_exchange, self.ask, self.remote_busy) = (false, false, false);
        self.events.push_back(Event::Connected(agreed));
    }

    fn close(&mut self, why: Closed) {
        self.deadline = None;
        if self.state == State::Idle {
            return;
        }
        self.state = State::Idle;
        self.outgoing = Outgoing::default();
        self.reassembly.reset();
        self.turn = false;
        self.events.push_back(Event::Closed(why));
    }

    fn asked(&mut self, frame: &Frame<'_>, now: Duration) {
        let Ok(theirs) = Parameters::parse(frame.information()) else {
            self.emit(Control::DisconnectedMode { poll: true }, false, &[]);
            return;
        };
        self.open(self.options.parameters.agreed(&theirs));
        let mut information = Vec::new();
        self.agreed.emit(&mut information);
        self.emit(Control::UnnumberedAcknowledge { poll: true }, false, &information);
        self.deadline = Some(now.saturating_add(self.options.timeout));
    }

    fn released(&mut self) {
        let control = if self.state == State::Open {
            Control::UnnumberedAcknowledge { poll: true }
        } else {
            Control::DisconnectedMode { poll: true }
        };
        self.emit(control, false, &[]);
        self.close(Closed::Released);
    }

    fn agreed_to(&mut self, frame: &Frame<'_>) {
        match (self.state, Parameters::parse(frame.information())) {
            (State::Connecting, Ok(theirs)) => {
                self.deadline = None;
                self.open(self.options.parameters.agreed(&theirs));
            }
            (State::Connecting, Err(_)) => self.close(Closed::Protocol),
            (State::Closing, _) => self.close(Closed::Released),
            // A late copy.
            (State::Idle | State::Open, _) => {}
        }
    }

    fn pushed(&mut self, frame: &Frame<'_>) {
        if self.push_reassembly.push(frame, &mut self.push) == Ok(true) {
            self.events.push_back(Event::Push(strip_llc(&self.push).to_vec()));
        }
    }

    /// I, RR or RNR; `send` is the number of an I frame.
    fn numbered(
        &mut self,
        frame: &Frame<'_>,
        send: Option<u8>,
        receive: u8,
        poll: bool,
        busy: bool,
        now: Duration,
    ) {
        if self.state != State::Open {
            if self.role == Role::Server && poll {
                self.emit(Control::DisconnectedMode { poll: true }, false, &[]);
            }
            return;
        }
        let newly = usize::from(receive.wrapping_sub(self.send) & 7);
        if newly > self.outgoing.sent - self.outgoing.acknowledged {
            // Repetition does not help against a number of what was never sent.
            self.reject(frame.control());
            return;
        }
        if newly > 0 {
            self.outgoing.acknowledged += newly;
            self.send = receive;
            self.tries = 0;
        }
        self.remote_busy = busy;
        if let Some(send) = send {
            if send == self.receive {
                if !self.accept(frame) {
                    self.reject(frame.control());
                    return;
                }
            } else if self.role == Role::Client && self.is_old(send) {
                // The late answer to what was repeated meanwhile; the answer that counts is on its way.
                return;
            }
        }
        if !poll {
            return;
        }
        let had_turn = core::mem::replace(&mut self.turn, true);
        if self.role == Role::Client {
            self.after_answer(send.is_some(), now);
        } else if had_turn && self.open_exchange {
            // The client asks again while the answer is being made.
            self.receive_ready();
            return;
        }
        self.go_on(now);
    }

    /// A client has the turn again: either there is more to ask for, or it is done, or it has to wait.
    fn after_answer(&mut self, informed: bool, now: Duration) {
        self.deadline = None;
        self.ask = informed && self.open_exchange;
        let waits = self.open_exchange && !informed && self.outgoing.is_through();
        if waits || self.remote_busy {
            self.deadline = Some(now.saturating_add(self.options.timeout));
        }
    }

    /// Whether a number is of a segment that is here already.
    const fn is_old(&self, send: u8) -> bool {
        let behind = self.receive.wrapping_sub(send) & 7;
        behind > 0 && behind <= self.agreed.window_receive
    }

    /// Takes the next segment; false: it cannot be taken.
    fn accept(&mut self, frame: &Frame<'_>) -> bool {
        let Ok(whole) = self.reassembly.push(frame, &mut self.incoming) else { return false };
        self.receive = (self.receive + 1) & 7;
        self.tries = 0;
        if whole {
            self.open_exchange = self.role == Role::Server;
            self.events.push_back(Event::Apdu(strip_llc(&self.incoming).to_vec()));
        }
        true
    }

    fn reject(&mut self, control: Control) {
        if self.role == Role::Server {
            let numbers = self.receive << 5 | self.send << 1;
            let invalid_number = 0x08;
            let information = [control.to_byte(), numbers, invalid_number];
            self.emit(Control::FrameReject { poll: true }, false, &information);
        }
        self.close(Closed::Protocol);
    }

    fn receive_ready(&mut self) {
        self.turn = false;
        self.emit(Control::ReceiveReady { receive: self.receive, poll: true }, false, &[]);
    }

    /// Sends what can be sent now.
    fn go_on(&mut self, now: Duration) {
        if !self.turn || self.state != State::Open {
            return;
        }
        let unsent = !self.outgoing.is_through() && !self.remote_busy;
        match self.role {
            _ if unsent => self.send_window(),
            Role::Client if self.ask => self.receive_ready(),
            // A client may keep the turn; a server that makes its answer does.
            Role::Client => return,
            Role::Server if self.open_exchange => return,
            Role::Server => self.receive_ready(),
        }
        self.ask = false;
        if self.role == Role::Client {
            self.deadline = Some(now.saturating_add(self.options.timeout));
        }
    }

    /// From the first segment that is not acknowledged on, as many as the window lets out.
    fn send_window(&mut self) {
        let outgoing = core::mem::take(&mut self.outgoing);
        let (first, segments) = (outgoing.acknowledged, outgoing.segments());
        let end = segments.min(first + usize::from(self.agreed.window_transmit.max(1)));
        for index in first..end {
            let send = self.send.wrapping_add((index - first) as u8) & 7;
            let control = Control::Information { send, receive: self.receive, poll: index + 1 == end };
            self.emit(control, index + 1 < segments, outgoing.segment(index));
        }
        self.outgoing = Outgoing { sent: end, ..outgoing };
        self.turn = false;
        if self.role == Role::Server {
            self.open_exchange = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::super::{Deframer, Step};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn parameters(max_info: u16, window: u8) -> Parameters {
        Parameters {
            max_info_transmit: max_info,
            max_info_receive: max_info,
            window_transmit: window,
            window_receive: window,
        }
    }

    fn pair(ours: Parameters, theirs: Parameters) -> (Link, Link) {
        let options = LinkOptions {
            local: Address::PUBLIC_CLIENT,
            remote: Address::two(1, 17),
            parameters: ours,
            timeout: SECOND,
            retries: 5,
            max_apdu: 4096,
        };
        let (local, remote) = (options.remote, options.local);
        let server =
            LinkOptions { local, remote, parameters: theirs, timeout: Duration::from_secs(60), ..options };
        (Link::new(Role::Client, options), Link::new(Role::Server, server))
    }

    /// Carries all that `from` has to send to `to`, but for frames that `lost` says.
    fn carry(from: &mut Link, to: &mut Link, now: Duration, lost: &mut impl FnMut() -> bool) -> usize {
        let mut carried = 0;
        loop {
            let mut bytes = vec![];
            if !from.poll_transmit(&mut bytes) {
                return carried;
            }
            carried += 1;
            let (mut deframer, mut rest) = (Deframer::default(), &bytes[..]);
            while let Step::Frame { frame, length, .. } = deframer.next(rest) {
                if !lost() {
                    assert!(to.handle_frame(&frame, now));
                }
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
        }
    }

    /// Lets both speak until neither has anything to say; what the client got and what the server got. The
    /// server answers each request with itself, doubled.
    fn talk(
        client: &mut Link,
        server: &mut Link,
        now: &mut Duration,
        mut lost: impl FnMut() -> bool,
    ) -> (Vec<Event>, Vec<Event>) {
        let (mut got, mut asked) = (vec![], vec![]);
        loop {
            let carried = carry(client, server, *now, &mut lost) + carry(server, client, *now, &mut lost);
            while let Some(event) = server.poll_event() {
                if let Event::Apdu(apdu) = &event {
                    server.send(&apdu.repeat(2), *now).unwrap();
                }
                asked.push(event);
            }
            got.extend(std::iter::from_fn(|| client.poll_event()));
            if carried > 0 {
                continue;
            }
            let Some(due) = client.poll_timeout() else { return (got, asked) };
            *now = due;
            client.handle_timeout(due);
        }
    }

    #[test]
    fn both_sides_agree_talk_and_part() {
        let (mut client, mut server) = pair(parameters(200, 3), parameters(64, 1));
        let mut now = SECOND;
        client.connect(now).unwrap();
        assert_eq!(client.connect(now), Err(LinkError::Connected));
        let (got, asked) = talk(&mut client, &mut server, &mut now, || false);
        let agreed = parameters(64, 1);
        assert_eq!((got, asked), (vec![Event::Connected(agreed)], vec![Event::Connected(agreed)]));
        for length in [0, 1, 61, 62, 500] {
            let request = vec![0xc0; length];
            client.send(&request, now).unwrap();
            assert_eq!(client.send(&request, now), Err(LinkError::Busy));
            let (got, asked) = talk(&mut client, &mut server, &mut now, || false);
            assert_eq!(got, [Event::Apdu(request.repeat(2))], "{length}");
            assert_eq!(asked, [Event::Apdu(request)], "{length}");
        }
        assert_eq!(now, SECOND, "nothing had to be repeated");
        client.disconnect(now).unwrap();
        let (got, asked) = talk(&mut client, &mut server, &mut now, || false);
        let released = vec![Event::Closed(Closed::Released)];
        assert_eq!((got, asked), (released.clone(), released));
        assert_eq!(client.send(&[1], now), Err(LinkError::NotConnected));
    }

    #[test]
    fn a_window_lets_so_many_frames_out_before_the_other_has_its_turn() {
        let (mut client, mut server) = pair(parameters(100, 3), parameters(100, 3));
        let mut now = SECOND;
        client.connect(now).unwrap();
        talk(&mut client, &mut server, &mut now, || false);
        client.send(&[7; 397], now).unwrap();
        let mut frames = vec![];
        let mut bytes = vec![];
        while client.poll_transmit(&mut bytes) {
            let frame = Frame::new_checked(&bytes).unwrap();
            frames.push((frame.control().poll(), frame.segmented()));
            assert!(server.handle_frame(&frame, now));
            bytes.clear();
        }
        assert_eq!(frames, [(false, true), (false, true), (true, true)]);
        let (got, _) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Apdu(vec![7; 794])]);
    }

    #[test]
    fn a_silent_server_is_asked_so_often_and_given_up() {
        let (mut client, mut server) = pair(parameters(100, 1), parameters(100, 1));
        let mut now = SECOND;
        client.connect(now).unwrap();
        let (got, _) = talk(&mut client, &mut server, &mut now, || true);
        assert_eq!(got, [Event::Closed(Closed::TimedOut)]);
        assert_eq!(now, SECOND * 7);
    }

    #[test]
    fn a_server_without_a_link_says_so_and_one_left_alone_gives_up() {
        let (mut client, mut server) = pair(parameters(100, 1), parameters(100, 1));
        let mut now = SECOND;
        client.connect(now).unwrap();
        talk(&mut client, &mut server, &mut now, || false);
        server.handle_timeout(now + Duration::from_secs(59));
        assert_eq!(server.poll_event(), None);
        server.handle_timeout(now + Duration::from_secs(60));
        assert_eq!(server.poll_event(), Some(Event::Closed(Closed::TimedOut)));
        client.send(&[1, 2], now).unwrap();
        let (got, _) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Closed(Closed::Refused)]);
    }

    #[test]
    fn a_push_passes_beside_a_link_and_without_one() {
        let (mut client, mut server) = pair(parameters(100, 1), parameters(100, 1));
        let mut now = SECOND;
        server.send_push(&[0x0f; 300]);
        let (got, _) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Push(vec![0x0f; 300])]);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_ends_the_link() {
        let (mut client, mut server) = pair(parameters(100, 1), parameters(100, 1));
        let mut now = SECOND;
        client.connect(now).unwrap();
        talk(&mut client, &mut server, &mut now, || false);
        let forged = FrameRepr {
            segmented: false,
            destination: Address::two(1, 17),
            source: Address::PUBLIC_CLIENT,
            control: Control::ReceiveReady { receive: 3, poll: true },
        };
        let mut bytes = vec![];
        forged.emit(&[], &mut bytes);
        server.handle_frame(&Frame::new_checked(&bytes).unwrap(), now);
        assert_eq!(server.poll_event(), Some(Event::Closed(Closed::Protocol)));
        let (got, _) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Closed(Closed::Rejected)]);
    }

    #[test]
    fn more_than_the_longest_apdu_ends_the_link() {
        let (mut client, mut server) = pair(parameters(2000, 7), parameters(2000, 7));
        let mut now = SECOND;
        client.connect(now).unwrap();
        talk(&mut client, &mut server, &mut now, || false);
        client.send(&[1; 4097], now).unwrap();
        let (got, asked) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Closed(Closed::Rejected)]);
        assert_eq!(asked, [Event::Closed(Closed::Protocol)]);
    }

    #[test]
    fn a_server_that_takes_its_time_is_waited_for() {
        let (mut client, mut server) = pair(parameters(100, 1), parameters(100, 1));
        let mut now = SECOND;
        client.connect(now).unwrap();
        talk(&mut client, &mut server, &mut now, || false);
        client.send(&[9], now).unwrap();
        carry(&mut client, &mut server, now, &mut || false);
        assert_eq!(server.poll_event(), Some(Event::Apdu(vec![9])));
        for _ in 0..3 {
            now = client.poll_timeout().unwrap();
            client.handle_timeout(now);
            assert_eq!(carry(&mut client, &mut server, now, &mut || false), 1);
            assert!(carry(&mut server, &mut client, now, &mut || false) <= 1);
        }
        server.send(&[8], now).unwrap();
        let (got, _) = talk(&mut client, &mut server, &mut now, || false);
        assert_eq!(got, [Event::Apdu(vec![8])]);
    }

    proptest! {
        #[test]
        fn with_frames_lost_everything_arrives_once_or_the_link_is_given_up(
            lengths in prop::collection::vec(0..700_usize, 1..5),
            window in 1..=7_u8,
            info in 20..200_u16,
            losses in prop::collection::vec(0..10_u8, 64),
        ) {
            let (mut client, mut server) = pair(parameters(info, window), parameters(info, window));
            let mut now = SECOND;
            let mut losses = losses.into_iter().chain(std::iter::repeat(9));
            client.connect(now).unwrap();
            let mut connected = false;
            let (got, _) = talk(&mut client, &mut server, &mut now, || losses.next() < Some(2));
            connected |= got == [Event::Connected(parameters(info, window))];
            for (number, length) in (0_u8..).zip(lengths) {
                if !connected {
                    break;
                }
                let request = vec![number; length];
                client.send(&request, now).unwrap();
                let (got, asked) = talk(&mut client, &mut server, &mut now, || losses.next() < Some(2));
                if got == [Event::Closed(Closed::TimedOut)] {
                    break;
                }
                prop_assert_eq!(got, [Event::Apdu(request.repeat(2))]);
                prop_assert_eq!(asked, [Event::Apdu(request)]);
            }
        }
    }
}
