//! Questions over MQTT (dlms.md 1.3): a request is published on a topic of the meter, its answer comes on another.
//!
//! A client of its own, apart from that of the pushes: what it sends and hears is nothing that a broker should keep. A
//! request goes out once (QoS 0) and the broker is told to forget it when its answer is no longer waited for: a cut that
//! a broker keeps until the meter comes back would be done long after somebody decided on it. For the same reason each
//! connection has a new client, so that nothing queued for the last one goes out over the next.
//!
//! | bound | number | when reached |
//! |---|---|---|
//! | questions to one meter | 1 | the second is told that it is busy |
//! | publishes that wait to be sent | 256 | the question fails |
//! | answers that wait for their session | 16 | dropped |
//! | packet | 128 KiB | not sent by the broker |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codec::fragment::{self, Assembly, Fragment};
use codec::wrapper::Wrapper;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, PublishOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::link::LinkError;
use crate::mqtt::{self, FIRST_PAUSE, LONGEST_PAUSE, MqttError};

/// Publishes that wait to be sent.
const REQUESTS: usize = 256;
/// Answers that wait for their session.
const ANSWERS: usize = 16;
/// Stands in a topic for the meter's node.
const NODE: &str = "{node}";

/// A topic with a meter's node as one of its levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTopic {
    before: String,
    after: String,
}

impl NodeTopic {
    /// A pattern such as `PollRequest/{node}`.
    ///
    /// # Errors
    /// [`MqttError::NodeTopic`].
    pub fn parse(pattern: &str) -> Result<NodeTopic, MqttError> {
        let bad = || MqttError::NodeTopic(pattern.to_owned());
        let (before, after) = pattern.split_once(NODE).ok_or_else(bad)?;
        let level =
            (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'));
        let topic = NodeTopic { before: before.to_owned(), after: after.to_owned() };
        let plain = rumqttc::valid_topic(&topic.of("node")) && !after.contains(NODE);
        if level && plain { Ok(topic) } else { Err(bad()) }
    }

    /// The topic of one meter.
    #[must_use]
    pub fn of(&self, node: &str) -> String {
        format!("{}{node}{}", self.before, self.after)
    }

    /// The filter that matches the topics of all meters.
    #[must_use]
    pub fn filter(&self) -> String {
        self.of("+")
    }

    /// The node of a topic, where it is one of these.
    #[must_use]
    pub fn node<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let node = topic.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        let plain = !node.is_empty() && !node.contains(['/', '+', '#']);
        plain.then_some(node)
    }
}

/// What a publish of a question or an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollFraming {
    /// Fragments of a frame in the wrapper, with an id that the answer repeats.
    Fragments,
    /// The frame alone.
    Wrapper,
}

/// A broker, and how meters are asked over it.
#[derive(Clone)]
pub struct PollOptions {
    /// `mqtt://host[:port]`, or `mqtts://host[:port]` for TLS with the system's certificates.
    pub url: String,
    /// Client id; the broker keeps nothing under it.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Where requests go.
    pub request: NodeTopic,
    /// Where answers come.
    pub response: NodeTopic,
    /// What a publish carries.
    pub framing: PollFraming,
    /// Longest publish of fragments, bytes.
    pub max_publish: usize,
}

impl PollOptions {
    fn client(&self) -> Result<rumqttc::MqttOptions, MqttError> {
        let mut options = mqtt::connection(&self.url, &self.client_id, self.credentials.as_ref())?;
        options.set_clean_start(true);
        Ok(options)
    }

    /// A frame as it is published.
    fn publishes(&self, id: u16, frame: Vec<u8>) -> Option<Vec<Vec<u8>>> {
        match self.framing {
            PollFraming::Fragments => fragment::cut(id, &frame, self.max_publish),
            PollFraming::Wrapper => Some(vec![frame]),
        }
    }
}

/// Lets sessions reach meters over a broker until `shutdown`. Connects again whenever the connection is lost.
///
/// # Errors
/// At once, when no connection can be made with these options.
pub async fn serve_polls(
    sessions: Sessions,
    options: PollOptions,
    shutdown: CancellationToken,
) -> Result<(), MqttError> {
    let polls = sessions.polls().clone();
    let expiry = sessions.patience();
    let options = Arc::new(options);
    let mut pause = FIRST_PAUSE;
    loop {
        let (client, events) = AsyncClient::builder(options.client()?).capacity(REQUESTS).build();
        let broker = Broker { client, options: Arc::clone(&options), expiry };
        let error = tokio::select! {
            error = polls.listen(broker, events, &mut pause) => error,
            () = shutdown.cancelled() => break,
        };
        polls.connect(None);
        tracing::warn!(%error, pause_ms = pause.as_millis(), "meters cannot be asked over MQTT; trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => break,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    polls.connect(None);
    Ok(())
}

/// Questions over MQTT that go on; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Polls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    broker: Option<Broker>,
    /// By node.
    asking: HashMap<String, Asking>,
    last_id: u16,
}

/// A broker that is connected.
#[derive(Clone)]
struct Broker {
    client: AsyncClient,
    options: Arc<PollOptions>,
    /// How long a request is of use.
    expiry: Duration,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("url", &self.options.url).finish_non_exhaustive()
    }
}

/// A session that waits for answers.
#[derive(Debug)]
struct Asking {
    answers: mpsc::Sender<(u16, Vec<u8>)>,
    /// Of the last request; an answer to an earlier one is dropped.
    id: u16,
    assembly: Assembly,
}

impl Polls {
    /// The way to the meter of this node, for one session.
    pub(super) fn take_up(&self, node: &str) -> Result<PollLine, LinkError> {
        let mut state = self.lock();
        if state.broker.is_none() {
            return Err(LinkError::NoBroker);
        }
        if state.asking.get(node).is_some_and(|asking| !asking.answers.is_closed()) {
            return Err(LinkError::NodeBusy(node.to_owned()));
        }
        let (answers, received) = mpsc::channel(ANSWERS);
        state.asking.insert(node.to_owned(), Asking { answers, id: 0, assembly: Assembly::default() });
        Ok(PollLine { polls: self.clone(), node: node.to_owned(), answers: received })
    }

    /// A broker is there, or none any more; then the sessions that go on are over.
    fn connect(&self, broker: Option<Broker>) {
        let mut state = self.lock();
        if broker.is_none() {
            state.asking.clear();
        }
        state.broker = broker;
    }

    /// Turns the client's wheels until the connection ends.
    async fn listen(&self, broker: Broker, mut events: EventLoop, pause: &mut Duration) -> ConnectionError {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let filter = broker.options.response.filter();
                    if let Err(error) = broker.client.try_subscribe(filter, QoS::AtLeastOnce) {
                        tracing::error!(%error, "answers of meters cannot be subscribed to");
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    *pause = FIRST_PAUSE;
                    tracing::info!(url = broker.options.url, "meters can be asked over MQTT");
                    self.connect(Some(broker.clone()));
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
                    if let Some(node) = broker.options.response.node(topic) {
                        self.answered(node, &publish.payload, broker.options.framing);
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Gives an answer to the session that waits for it. Of no use in a log that strangers could fill: what nobody waits
    /// for is dropped.
    fn answered(&self, node: &str, payload: &[u8], framing: PollFraming) {
        let mut state = self.lock();
        let Some(asking) = state.asking.get_mut(node) else { return };
        let whole = match framing {
            PollFraming::Wrapper => Some(payload.to_vec()),
            PollFraming::Fragments => match Fragment::new_checked(payload) {
                Ok(fragment) if fragment.id() == asking.id => asking.assembly.take(&fragment),
                _ => None,
            },
        };
        let Some(whole) = whole else { return };
        if let Ok(frame) = Wrapper::new_checked(&whole) {
            // A session that has more answers than it can take is answered already.
            let _ = asking.answers.try_send((frame.destination(), frame.apdu().to_vec()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one meter over the broker; given back when dropped.
#[derive(Debug)]
pub(super) struct PollLine {
    polls: Polls,
    node: String,
    answers: mpsc::Receiver<(u16, Vec<u8>)>,
}

impl PollLine {
    /// Publishes a frame; false where there is no broker, or no room.
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        let mut state = self.polls.lock();
        let State { broker: Some(broker), asking, last_id } = &mut *state else { return false };
        let Some(asking) = asking.get_mut(&self.node) else { return false };
        *last_id = last_id.wrapping_add(1);
        (asking.id, asking.assembly) = (*last_id, Assembly::default());
        let Some(publishes) = broker.options.publishes(*last_id, frame) else { return false };
        let topic = broker.options.request.of(&self.node);
        let expiry_s = u32::try_from(broker.expiry.as_secs().max(1)).unwrap_or(u32::MAX);
        publishes.into_iter().all(|publish| {
            let properties =
                PublishProperties { message_expiry_interval: Some(expiry_s), ..PublishProperties::default() };
            let once = PublishOptions::at_most_once().properties(properties);
            broker.client.try_publish(topic.clone(), publish, once).is_ok()
        })
    }

    /// The next answer; `None` when the broker is gone.
    pub(super) async fn receive(&mut self) -> Option<(u16, Vec<u8>)> {
        self.answers.recv().await
    }
}

impl Drop for PollLine {
    fn drop(&mut self) {
        self.answers.close();
        let mut state = self.polls.lock();
        // Another session may have this node by now, after the broker was gone.
        if state.asking.get(&self.node).is_some_and(|asking| asking.answers.is_closed()) {
            state.asking.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::wrapper::WrapperRepr;

    fn options(framing: PollFraming) -> PollOptions {
        PollOptions {
            url: "mqtt://127.0.0.1:1".to_owned(),
            client_id: "test".to_owned(),
            credentials: None,
            request: NodeTopic::parse("PollRequest/{node}").unwrap(),
            response: NodeTopic::parse("PollResponse/{node}").unwrap(),
            framing,
            max_publish: 20,
        }
    }

    fn connected(framing: PollFraming) -> (Polls, EventLoop) {
        let options = options(framing);
        let (client, events) = AsyncClient::builder(options.client().unwrap()).capacity(REQUESTS).build();
        let polls = Polls::default();
        let expiry = Duration::from_secs(10);
        polls.connect(Some(Broker { client, options: Arc::new(options), expiry }));
        (polls, events)
    }

    fn frame(apdu: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        WrapperRepr { source: 1, destination: 48 }.emit(apdu, &mut frame);
        frame
    }

    #[test]
    fn a_topic_has_the_node_as_one_of_its_levels() {
        let topic = NodeTopic::parse("a/{node}/poll").unwrap();
        assert_eq!((topic.of("M1"), topic.filter()), ("a/M1/poll".to_owned(), "a/+/poll".to_owned()));
        assert_eq!(topic.node("a/M1/poll"), Some("M1"));
        for other in ["a//poll", "a/M1/M2/poll", "a/M1", "b/M1/poll", "a/+/poll", "a/#/poll"] {
            assert_eq!(topic.node(other), None, "{other}");
        }
        for bad in ["", "a/b", "a/x{node}", "{node}y/b", "{node}/{node}", "#/{node}"] {
            assert!(NodeTopic::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_request_is_dropped() {
        let (polls, _events) = connected(PollFraming::Fragments);
        let mut line = polls.take_up("M1").unwrap();
        assert!(line.send(frame(&[0xc0, 1])) && line.send(frame(&[0xc0, 2])));
        let answer = |id: u16, node: &str, apdu: &[u8]| {
            for publish in fragment::cut(id, &frame(apdu), 12).unwrap() {
                polls.answered(node, &publish, PollFraming::Fragments);
            }
        };
        answer(1, "M1", &[0xc4, 1]);
        answer(2, "M2", &[0xc4, 3]);
        answer(2, "M1", &[0xc4, 2, 7, 7, 7]);
        assert_eq!(line.receive().await, Some((48, vec![0xc4, 2, 7, 7, 7])));
        assert!(line.answers.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_node_has_one_session_at_a_time_and_none_without_a_broker() {
        assert!(matches!(Polls::default().take_up("M1"), Err(LinkError::NoBroker)));
        let (polls, _events) = connected(PollFraming::Wrapper);
        let line = polls.take_up("M1").unwrap();
        assert!(matches!(polls.take_up("M1"), Err(LinkError::NodeBusy(_))));
        drop(line);
        let mut line = polls.take_up("M1").unwrap();
        polls.answered("M1", &frame(&[0xc4, 1]), PollFraming::Wrapper);
        assert_eq!(line.receive().await, Some((48, vec![0xc4, 1])));
        polls.connect(None);
        assert!(!line.send(frame(&[0xc0])));
        assert_eq!(line.receive().await, None);
    }
}
