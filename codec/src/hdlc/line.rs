//! What one connection carries: the links of several clients with one meter, from either end.
//!
//! A data link is between two addresses, and a client's address is who it is; so a head-end that asks as public client
//! first and as utility client then has one link after the other: [`ClientLine`] makes and ends them as they are needed.
//! A meter has a link with each client that asks for one: [`ServerLine`].
//!
//! Both are driven as a [`Link`], but with bytes: [`handle_bytes`](ClientLine::handle_bytes) for what was received,
//! `handle_timeout` when `poll_timeout` has come, after each of them and after each command all of `poll_transmit`, then
//! all of `poll_event`. Unnumbered information belongs to no link: it is handed out with its addresses, for it may be a
//! push to another client.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::link::{Closed, Event, Link, LinkError, LinkOptions, Role};
use super::{
    Address, Control, Deframer, Frame, LLC_REQUEST, LLC_RESPONSE, Parameters, Reassembly, Step,
    emit_unnumbered, strip_llc,
};

/// Most links that a meter has at once; another client is told that there is none.
pub const MAX_LINKS: usize = 8;
/// Most things that wait to be polled; unnumbered information beyond them is dropped.
const MAX_WAITING: usize = 64;

/// The logical device that is asked for links.
const MANAGEMENT: u16 = 1;
/// All stations, in an address of two bytes and in one of four.
const ALL_STATIONS: [u16; 2] = [0x7f, 0x3fff];

/// How the client's end behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLineOptions {
    /// The meter.
    pub server: Address,
    /// What is asked for.
    pub parameters: Parameters,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// How often the client repeats itself.
    pub retries: u8,
    /// Longest APDU taken, bytes.
    pub max_apdu: usize,
}

/// What came over a client's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The answer of the meter to this client.
    Apdu(u8, Vec<u8>),
    /// What nobody asked for, with where it was sent to and where it is from.
    Unnumbered {
        /// The receiver.
        destination: Address,
        /// The sender.
        source: Address,
        /// What it carries, without the prefix of the logical link control.
        apdu: Vec<u8>,
    },
    /// The link that was used is gone; what was to be sent was not, or is not answered.
    Closed(Closed),
}

/// The client's end of a connection.
#[derive(Debug)]
pub struct ClientLine {
    options: ClientLineOptions,
    stream: Stream,
    link: Option<(u8, Link)>,
    /// For which client, until it has its link.
    waiting: Option<(u8, Vec<u8>)>,
    events: VecDeque<ClientEvent>,
}

impl ClientLine {
    /// A line without a link.
    #[must_use]
    pub fn new(options: ClientLineOptions) -> Self {
        let stream = Stream::new(options.max_apdu);
        Self { options, stream, link: None, waiting: None, events: VecDeque::new() }
    }

    /// What the link that there is has agreed on.
    #[must_use]
    pub fn parameters(&self) -> Option<Parameters> {
        self.link.as_ref().filter(|(_, link)| link.is_open()).map(|(_, link)| link.parameters())
    }

    /// Sends an APDU as `client`, over its link, which is made for it where there is none; that of another client is
    /// ended first.
    ///
    /// # Errors
    /// [`LinkError::Busy`] while the APDU before is on its way, or its answer.
    pub fn send(&mut self, client: u8, apdu: &[u8], now: Duration) -> Result<(), LinkError> {
        if self.waiting.is_some() {
            return Err(LinkError::Busy);
        }
        match &mut self.link {
            Some((of, link)) if *of == client && link.is_open() => return link.send(apdu, now),
            Some((of, link)) if *of != client && link.is_open() => link.disconnect(now)?,
            // It is being ended.
            Some(_) => {}
            None => self.connect(client, now)?,
        }
        self.waiting = Some((client, apdu.to_vec()));
        Ok(())
    }

    /// Ends the link that there is; false: there is none.
    pub fn disconnect(&mut self, now: Duration) -> bool {
        self.link.as_mut().is_some_and(|(_, link)| link.disconnect(now).is_ok())
    }

    /// Takes what was received.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Duration) {
        self.stream.buffer.extend_from_slice(bytes);
        while let Some(heard) = self.stream.next(|frame| {
            if let Some((_, link)) = &mut self.link {
                link.handle_frame(frame, now);
            }
        }) {
            if let Some((destination, source, apdu)) = heard
                && self.events.len() < MAX_WAITING
            {
                self.events.push_back(ClientEvent::Unnumbered { destination, source, apdu });
            }
            self.turn(now);
        }
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some((_, link)) = &mut self.link {
            link.handle_timeout(now);
        }
        self.turn(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.link.as_ref().and_then(|(_, link)| link.poll_timeout())
    }

    /// Appends what is to be sent to `out`; false: there is nothing.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        self.link.as_mut().is_some_and(|(_, link)| link.poll_transmit(out))
    }

    /// What came.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    fn connect(&mut self, client: u8, now: Duration) -> Result<(), LinkError> {
        let ClientLineOptions { server: remote, parameters, timeout, retries, max_apdu } = self.options;
        let local = Address::one(client);
        let mut link =
            Link::new(Role::Client, LinkOptions { local, remote, parameters, timeout, retries, max_apdu });
        link.connect(now)?;
        self.link = Some((client, link));
        Ok(())
    }

    /// What the link says leads to the next step.
    fn turn(&mut self, now: Duration) {
        while let Some((client, link)) = &mut self.link {
            let Some(event) = link.poll_event() else { return };
            match event {
                Event::Connected(_) => {
                    if let Some((_, apdu)) = self.waiting.take_if(|(of, _)| of == client) {
                        // It is open and nothing was sent over it.
                        let _ = link.send(&apdu, now);
                    }
                }
                Event::Apdu(apdu) => self.events.push_back(ClientEvent::Apdu(*client, apdu)),
                // Unnumbered information never gets to a link here.
                Event::Push(_) => {}
                Event::Closed(why) => {
                    let ended = *client;
                    self.link = None;
                    match &self.waiting {
                        Some((next, _)) if *next != ended || why == Closed::Released => {
                            let next = *next;
                            // There is no link any more.
                            let _ = self.connect(next, now);
                        }
                        _ => {
                            self.waiting = None;
                            self.events.push_back(ClientEvent::Closed(why));
                        }
                    }
                }
            }
        }
    }
}

/// How a meter's end behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLineOptions {
    /// The physical device, in addresses that have one.
    pub physical: u16,
    /// What is agreed to at most.
    pub parameters: Parameters,
    /// The longest silence of a client.
    pub timeout: Duration,
    /// Longest APDU taken, bytes.
    pub max_apdu: usize,
}

/// What came over a meter's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A request of this client, which [`ServerLine::answer`] is for.
    Apdu(u8, Vec<u8>),
    /// What needs no answer, as the receipt of a push.
    Unnumbered(Vec<u8>),
    /// The link with this client is gone, and with it its association.
    Closed(u8),
}

/// A meter's end of a connection.
#[derive(Debug)]
pub struct ServerLine {
    options: ServerLineOptions,
    stream: Stream,
    links: Vec<(Address, Link)>,
    frames: VecDeque<Vec<u8>>,
    events: VecDeque<ServerEvent>,
}

impl ServerLine {
    /// A line without a link.
    #[must_use]
    pub fn new(options: ServerLineOptions) -> Self {
        let stream = Stream::new(options.max_apdu);
        Self { options, stream, links: Vec::new(), frames: VecDeque::new(), events: VecDeque::new() }
    }

    /// Answers the last request of a client.
    ///
    /// # Errors
    /// [`LinkError::NotConnected`] where its link is gone; [`LinkError::Busy`] while an answer is on its way.
    pub fn answer(&mut self, client: u8, apdu: &[u8], now: Duration) -> Result<(), LinkError> {
        let found = self.links.iter_mut().find(|(remote, _)| remote.upper() == u16::from(client));
        found.map_or(Err(LinkError::NotConnected), |(_, link)| link.send(apdu, now))
    }

    /// Sends what nobody asked for to this client, outside of all links.
    pub fn push(&mut self, client: u8, apdu: &[u8]) {
        let mut information = LLC_RESPONSE.to_vec();
        information.extend_from_slice(apdu);
        let mut frames = Vec::new();
        let max_info = self.options.parameters.max_info_transmit;
        emit_unnumbered(Address::one(client), Address::MANAGEMENT, &information, max_info, &mut frames);
        self.frames.push_back(frames);
    }

    /// Takes what was received.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Duration) {
        self.stream.buffer.extend_from_slice(bytes);
        while let Some(heard) = self.stream.next(|frame| {
            take(&mut self.links, &self.options, &mut self.frames, frame, now);
        }) {
            if let Some((_, _, apdu)) = heard
                && self.events.len() < MAX_WAITING
            {
                self.events.push_back(ServerEvent::Unnumbered(apdu));
            }
            self.turn();
        }
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.links.iter_mut().for_each(|(_, link)| link.handle_timeout(now));
        self.turn();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.links.iter().filter_map(|(_, link)| link.poll_timeout()).min()
    }

    /// Appends what is to be sent to `out`; false: there is nothing.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(frames) = self.frames.pop_front() {
            out.extend_from_slice(&frames);
            return true;
        }
        let sent = self.links.iter_mut().any(|(_, link)| link.poll_transmit(out));
        // One that is over has said its last.
        self.links.retain(|(_, link)| link.is_open() || link.has_to_send());
        sent
    }

    /// What came.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    fn turn(&mut self) {
        for (remote, link) in &mut self.links {
            // A client has one byte.
            let client = u8::try_from(remote.upper()).unwrap_or_default();
            while let Some(event) = link.poll_event() {
                match event {
                    Event::Apdu(apdu) => self.events.push_back(ServerEvent::Apdu(client, apdu)),
                    Event::Closed(_) => self.events.push_back(ServerEvent::Closed(client)),
                    Event::Connected(_) | Event::Push(_) => {}
                }
            }
        }
    }
}

/// Gives a frame to its link, which is made where a client asks for it; a client without one is told so.
fn take(
    links: &mut Vec<(Address, Link)>,
    options: &ServerLineOptions,
    frames: &mut VecDeque<Vec<u8>>,
    frame: &Frame<'_>,
    now: Duration,
) {
    let (local, remote) = (frame.destination(), frame.source());
    let physical =
        local.len() == 1 || local.lower() == options.physical || ALL_STATIONS.contains(&local.lower());
    if local.upper() != MANAGEMENT || !physical || remote.len() != 1 {
        return;
    }
    if let Some((_, link)) = links.iter_mut().find(|(known, _)| *known == remote)
        && link.handle_frame(frame, now)
    {
        return;
    }
    let asks = matches!(frame.control(), Control::SetNormalResponseMode { .. });
    // The same client may come back under another form of our address.
    links.retain(|(known, _)| !asks || *known != remote);
    let link_options = LinkOptions {
        local,
        remote,
        parameters: options.parameters,
        timeout: options.timeout,
        retries: 0,
        max_apdu: options.max_apdu,
    };
    let mut link = Link::new(Role::Server, link_options);
    link.handle_frame(frame, now);
    if asks && links.len() < MAX_LINKS {
        links.push((remote, link));
        return;
    }
    // Without a link all that it says is that there is none.
    if asks {
        link.refuse();
    }
    let mut refusal = Vec::new();
    while link.poll_transmit(&mut refusal) {}
    if !refusal.is_empty() && frames.len() < MAX_WAITING {
        frames.push_back(refusal);
    }
}

/// Frames out of bytes, and unnumbered information put together.
#[derive(Debug)]
struct Stream {
    buffer: Vec<u8>,
    deframer: Deframer,
    reassembly: Reassembly,
    information: Vec<u8>,
}

/// Where to, where from, and what.
type Unnumbered = (Address, Address, Vec<u8>);

impl Stream {
    fn new(max_apdu: usize) -> Self {
        Self {
            buffer: Vec::new(),
            deframer: Deframer::default(),
            reassembly: Reassembly::new(max_apdu.saturating_add(LLC_REQUEST.len())),
            information: Vec::new(),
        }
    }

    /// Takes the next frame off: what is numbered, or sets up a link, goes to `numbered`; unnumbered information comes
    /// back once it is whole. `None`: more bytes are needed.
    fn next(&mut self, numbered: impl FnOnce(&Frame<'_>)) -> Option<Option<Unnumbered>> {
        let (length, heard) = match self.deframer.next(&self.buffer) {
            Step::More(_) => return None,
            Step::Skip { length, .. } => (length, None),
            Step::Frame { frame, length, .. } => {
                let mut heard = None;
                if !matches!(frame.control(), Control::UnnumberedInformation { .. }) {
                    numbered(&frame);
                } else if self.reassembly.push(&frame, &mut self.information) == Ok(true) {
                    let apdu = strip_llc(&self.information).to_vec();
                    heard = Some((frame.destination(), frame.source(), apdu));
                }
                (length, heard)
            }
        };
        self.buffer.drain(..length);
        Some(heard)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::super::emit_push;
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

    fn pair(server: Address, ours: Parameters, theirs: Parameters) -> (ClientLine, ServerLine) {
        let client =
            ClientLineOptions { server, parameters: ours, timeout: SECOND, retries: 2, max_apdu: 4096 };
        let timeout = Duration::from_secs(60);
        let server = ServerLineOptions { physical: 17, parameters: theirs, timeout, max_apdu: 4096 };
        (ClientLine::new(client), ServerLine::new(server))
    }

    /// Lets both speak, `cut` bytes at once, until nothing goes on. The server answers with the request, doubled, and the
    /// client that asked in front of it.
    fn talk(client: &mut ClientLine, server: &mut ServerLine, now: Duration, cut: usize) -> Vec<ClientEvent> {
        let mut got = vec![];
        loop {
            let (mut there, mut back) = (vec![], vec![]);
            while client.poll_transmit(&mut there) {}
            there.chunks(cut).for_each(|bytes| server.handle_bytes(bytes, now));
            while let Some(event) = server.poll_event() {
                if let ServerEvent::Apdu(of, apdu) = event {
                    server.answer(of, &[&[of], &apdu[..], &apdu].concat(), now).unwrap();
                }
            }
            while server.poll_transmit(&mut back) {}
            back.chunks(cut).for_each(|bytes| client.handle_bytes(bytes, now));
            got.extend(std::iter::from_fn(|| client.poll_event()));
            if there.is_empty() && back.is_empty() {
                return got;
            }
        }
    }

    fn answer(client: u8, apdu: &[u8]) -> ClientEvent {
        ClientEvent::Apdu(client, [&[client], apdu, apdu].concat())
    }

    #[test]
    fn one_client_after_the_other_has_its_link() {
        for server in [Address::MANAGEMENT, Address::two(1, 17), Address::four(1, 17), Address::two(1, 0x7f)]
        {
            let (mut client, mut meter) = pair(server, parameters(200, 3), parameters(64, 7));
            for (sap, apdu) in [(16, &[1; 10][..]), (48, &[2; 500]), (48, &[3; 61]), (16, &[4; 200])] {
                client.send(sap, apdu, SECOND).unwrap();
                assert_eq!(talk(&mut client, &mut meter, SECOND, 7), [answer(sap, apdu)], "{server} {sap}");
            }
            assert_eq!(client.parameters().unwrap().max_info_transmit, 64);
            assert!(client.disconnect(SECOND));
            assert_eq!(talk(&mut client, &mut meter, SECOND, 100), [ClientEvent::Closed(Closed::Released)]);
            assert!(meter.links.is_empty() && !client.disconnect(SECOND));
        }
    }

    #[test]
    fn other_stations_are_not_answered_and_a_silent_meter_is_given_up() {
        for server in [Address::one(2), Address::two(1, 16), Address::four(2, 17)] {
            let (mut client, mut meter) = pair(server, parameters(128, 1), parameters(128, 1));
            client.send(48, &[1], SECOND).unwrap();
            assert_eq!(client.send(48, &[1], SECOND), Err(LinkError::Busy));
            let (mut now, mut got) = (SECOND, vec![]);
            while let Some(due) = client.poll_timeout() {
                got.extend(talk(&mut client, &mut meter, now, 100));
                now = due;
                client.handle_timeout(now);
            }
            got.extend(std::iter::from_fn(|| client.poll_event()));
            assert_eq!((got, now), (vec![ClientEvent::Closed(Closed::TimedOut)], SECOND * 4), "{server}");
            assert!(meter.links.is_empty());
        }
    }

    #[test]
    fn a_meter_has_so_many_links_and_tells_another_client_that_there_is_none() {
        let (_, mut meter) = pair(Address::MANAGEMENT, parameters(128, 1), parameters(128, 1));
        for client in 1..20_u8 {
            let (mut other, _) = pair(Address::MANAGEMENT, parameters(128, 1), parameters(128, 1));
            other.send(client, &[client], SECOND).unwrap();
            let got = talk(&mut other, &mut meter, SECOND, 100);
            let expected = if usize::from(client) <= MAX_LINKS {
                answer(client, &[client])
            } else {
                ClientEvent::Closed(Closed::Refused)
            };
            assert_eq!(got, [expected], "{client}");
        }
        assert_eq!(meter.links.len(), MAX_LINKS);
        meter.handle_timeout(SECOND * 61);
        let closed = std::iter::from_fn(|| meter.poll_event()).count();
        assert_eq!(closed, MAX_LINKS, "{:?}", meter.links);
    }

    #[test]
    fn a_push_and_its_receipt_pass_beside_the_links() {
        let (mut client, mut meter) = pair(Address::two(1, 17), parameters(128, 1), parameters(128, 1));
        client.send(48, &[1; 300], SECOND).unwrap();
        meter.push(64, &[0x0f; 300]);
        let got = talk(&mut client, &mut meter, SECOND, 50);
        let (destination, source) = (Address::one(64), Address::MANAGEMENT);
        let push = ClientEvent::Unnumbered { destination, source, apdu: vec![0x0f; 300] };
        assert_eq!(got, [push, answer(48, &[1; 300])]);
        let mut receipt = vec![];
        emit_push(Address::MANAGEMENT, Address::one(64), &[0x10, 0, 0, 0, 1], 128, &mut receipt);
        meter.handle_bytes(&receipt, SECOND);
        assert_eq!(meter.poll_event(), Some(ServerEvent::Unnumbered(vec![0x10, 0, 0, 0, 1])));
    }

    proptest! {
        #[test]
        fn random_bytes_do_nothing_but_end_a_link(
            bytes in prop::collection::vec(prop::sample::select(&[0x7e, 0xa0, 0x07, 3, 0x61, 0x93, 0x10, 0x31][..]), 0..400),
        ) {
            let (mut client, mut meter) = pair(Address::MANAGEMENT, parameters(128, 1), parameters(128, 1));
            client.send(48, &[1; 300], SECOND).unwrap();
            meter.handle_bytes(&bytes, SECOND);
            client.handle_bytes(&bytes, SECOND);
            let _ = talk(&mut client, &mut meter, SECOND, 100);
            prop_assert!(meter.links.len() <= MAX_LINKS);
        }
    }
}
