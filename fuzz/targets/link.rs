//! What must hold of the two ends of a data link whatever the line does to their frames: shared by the fuzz target and the test
//! that replays its corpus.
//!
//! The first bytes say what both ends ask for, the others are steps ([`Step`]). The line loses and spoils frames, and neither
//! doubles nor turns them round, as a line does. Every APDU is another one, so that what arrives can be held against what was sent:
//!
//! - the server gets requests as they were sent, in order, each once at most,
//! - the client gets answers to requests that the server got, in order, each once at most,
//! - pushes come besides and are put together within their bound: their frames have no numbers, so that a lost one is not noticed here,
//! - nobody sends more than was agreed, or waits for nothing: each command of the client ends.

use std::collections::VecDeque;
use std::time::Duration;

use codec::hdlc::{
    Address, Deframer, Event, Link, LinkOptions, MAX_FRAME_LEN, Parameters, Role, Step as Found,
};

const TIMEOUT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(1 << 20);
const MAX_APDU: usize = 4096;
const RETRIES: u8 = 3;
/// Most steps of one input.
const MAX_STEPS: usize = 200;
/// Frames that both ends need at most to come to rest: what is left of an APDU and its answer in the smallest segments, each
/// asked for, and again after each silence.
const MAX_TURNS: usize = 40_000;
/// Most frames of one end that wait to be sent: a window, a push and what answers a frame.
const MAX_WAITING: usize = 32;

/// Memory at once: what both ends have of the longest APDU and its answer; and what one step, an APDU of two bytes of input, can
/// put on the line: its segments with their frames around them.
const ROOM: u64 = 32 * 1024;
const PER_STEP: u64 = 8 * 1024;

/// What happens next.
#[derive(Clone, Copy)]
enum Step {
    Connect,
    Disconnect,
    /// A request of so many bytes.
    Ask(u8),
    /// A push of the server of so many bytes.
    Push(u8),
    /// The next frame of the client, or of the server, arrives.
    Deliver(bool),
    /// It is lost.
    Lose(bool),
    /// A bit of it is another.
    Spoil(bool, u8),
    TimeOut,
    /// Whatever is on its way arrives, until both ends are at rest.
    Rest,
}

fn step(bytes: &[u8]) -> Step {
    let [what, how] = *bytes else { return Step::Rest };
    match what % 12 {
        0 => Step::Connect,
        1 => Step::Disconnect,
        2 | 3 => Step::Ask(how),
        4 => Step::Push(how),
        5..=7 => Step::Deliver(how & 1 == 0),
        8 => Step::Lose(how & 1 == 0),
        9 => Step::Spoil(how & 1 == 0, how >> 1),
        10 => Step::TimeOut,
        _ => Step::Rest,
    }
}

/// One end, with what is on its way to the other.
struct End {
    link: Link,
    line: VecDeque<Vec<u8>>,
}

struct World {
    client: End,
    server: End,
    now: Duration,
    /// Requests since the link was made, by number: how far they were sent, got and answered.
    sent: u32,
    got: u32,
    answered: u32,
    /// Of the link that is there, the request that is not answered.
    asked: Option<u32>,
    pushed: u32,
}

/// An APDU of its own: number and as many bytes as the number says.
fn apdu(number: u32, length: u8) -> Vec<u8> {
    let mut apdu = number.to_be_bytes().to_vec();
    apdu.resize(4 + usize::from(length) * 3, number as u8);
    apdu
}

fn number(apdu: &[u8]) -> u32 {
    let (number, rest) = apdu.split_first_chunk().expect("no APDU is shorter");
    let number = u32::from_be_bytes(*number);
    assert!(rest.iter().all(|byte| *byte == number as u8), "an APDU was put together from others");
    number
}

fn end(role: Role, parameters: Parameters) -> End {
    let (local, remote) = (Address::PUBLIC_CLIENT, Address::two(1, 17));
    let (local, remote) = if role == Role::Client { (local, remote) } else { (remote, local) };
    let timeout = if role == Role::Client { TIMEOUT } else { SILENCE };
    let options = LinkOptions { local, remote, parameters, timeout, retries: RETRIES, max_apdu: MAX_APDU };
    End { link: Link::new(role, options), line: VecDeque::new() }
}

/// What an end asks for; any information and window that there can be.
fn parameters(info: u8, windows: u8) -> Parameters {
    let bytes = |nibble: u8| 8 + 4 * u16::from(nibble);
    Parameters {
        max_info_transmit: bytes(info & 0x0f),
        max_info_receive: bytes(info >> 4),
        window_transmit: windows % 7 + 1,
        window_receive: (windows >> 4) % 7 + 1,
    }
}

pub(crate) fn link(bytes: &[u8]) {
    let taken = allocation_counter::measure(|| steps(bytes));
    let most = ROOM + PER_STEP * bytes.len() as u64 / 2;
    assert!(taken.bytes_max <= most, "{} bytes at once for {}", taken.bytes_max, bytes.len());
}

fn steps(bytes: &[u8]) {
    let Some((&[info, windows, other_info, other_windows], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let mut world = World {
        client: end(Role::Client, parameters(info, windows)),
        server: end(Role::Server, parameters(other_info, other_windows)),
        now: TIMEOUT,
        sent: 0,
        got: 0,
        answered: 0,
        asked: None,
        pushed: 0,
    };
    for bytes in rest.chunks(2).take(MAX_STEPS) {
        world.take(step(bytes));
    }
    world.rest();
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Connect => {
                // On a new link nothing of an old one is on its way: a line is quiet before it is used again.
                if self.client.link.poll_timeout().is_none() && !self.client.link.is_open() {
                    self.rest();
                    let _connecting_or_connected = self.client.link.connect(self.now);
                }
            }
            Step::Disconnect => _ = self.client.link.disconnect(self.now),
            Step::Ask(length) => {
                if self.client.link.send(&apdu(self.sent + 1, length), self.now).is_ok() {
                    assert_eq!(self.asked, None, "one at a time");
                    self.sent += 1;
                    self.asked = Some(self.sent);
                }
            }
            Step::Push(length) => {
                if self.server.line.len() < MAX_WAITING {
                    self.pushed += 1;
                    self.server.link.send_push(&apdu(self.pushed, length));
                }
            }
            Step::Deliver(from_client) => _ = self.deliver(from_client, None),
            Step::Lose(from_client) => _ = self.line(from_client).pop_front(),
            Step::Spoil(from_client, bit) => _ = self.deliver(from_client, Some(bit)),
            Step::TimeOut => self.time_out(),
            Step::Rest => self.rest(),
        }
        self.settle();
    }

    fn line(&mut self, from_client: bool) -> &mut VecDeque<Vec<u8>> {
        if from_client { &mut self.client.line } else { &mut self.server.line }
    }

    /// The next frame arrives, or all of a push, with a bit changed that its check finds; false: there is none.
    fn deliver(&mut self, from_client: bool, spoilt: Option<u8>) -> bool {
        let Some(mut bytes) = self.line(from_client).pop_front() else { return false };
        if let Some(bit) = spoilt {
            let bit = usize::from(bit) * 7 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let to = if from_client { &mut self.server.link } else { &mut self.client.link };
        let (mut deframer, mut rest) = (Deframer::default(), &bytes[..]);
        loop {
            let length = match deframer.next(rest) {
                Found::Frame { frame, length, .. } => {
                    assert!(to.handle_frame(&frame, self.now), "it is for nobody else");
                    length
                }
                Found::Skip { length, error } => {
                    assert!(error.is_none() || spoilt.is_some());
                    length
                }
                Found::More(_) => break,
            };
            rest = &rest[length..];
        }
        self.settle();
        true
    }

    fn time_out(&mut self) {
        if let Some(due) = self.client.link.poll_timeout() {
            self.now = self.now.max(due);
            self.client.link.handle_timeout(self.now);
            self.settle();
        }
    }

    /// What both ends have to send is on its way, and what happened is held against what was done.
    fn settle(&mut self) {
        loop {
            for end in [&mut self.client, &mut self.server] {
                let mut frames = Vec::new();
                let mut waiting = 0;
                while end.link.poll_transmit(&mut frames) {
                    waiting += 1;
                    assert!(waiting <= MAX_WAITING);
                    assert!(frames.len() <= MAX_WAITING * MAX_FRAME_LEN);
                    end.line.push_back(std::mem::take(&mut frames));
                }
            }
            if !self.server_events() && !self.client_events() {
                return;
            }
        }
    }

    fn server_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.server.link.poll_event() {
            any = true;
            match event {
                Event::Apdu(request) => {
                    let number = number(&request);
                    assert!(
                        number > self.got && number <= self.sent,
                        "{number} after {} of {}",
                        self.got,
                        self.sent
                    );
                    self.got = number;
                    let sent = self.server.link.send(&apdu(number, request.len() as u8 / 2), self.now);
                    assert!(sent.is_ok(), "an answer is due: {sent:?}");
                }
                Event::Push(_) => panic!("a client pushes nothing"),
                Event::Connected(_) | Event::Closed(_) => {}
            }
        }
        any
    }

    fn client_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.link.poll_event() {
            any = true;
            match event {
                Event::Apdu(answer) => {
                    let number = number(&answer);
                    assert!(number > self.answered && number <= self.got, "{number}");
                    assert_eq!(Some(number), self.asked, "the answer is to the last question");
                    self.answered = number;
                    self.asked = None;
                }
                Event::Push(push) => assert!(push.len() <= MAX_APDU),
                Event::Closed(_) => self.asked = None,
                Event::Connected(_) => {}
            }
        }
        any
    }

    /// Everything arrives from now on, so everything ends.
    fn rest(&mut self) {
        for _ in 0..MAX_TURNS {
            let delivered = self.deliver(true, None) | self.deliver(false, None);
            if delivered {
                continue;
            }
            if self.client.link.poll_timeout().is_none() {
                assert_eq!(self.asked, None, "answered, or the link is given up");
                return;
            }
            self.time_out();
        }
        panic!("the ends never come to rest");
    }
}
