//! DLMS pushes from an MQTT 5 broker.
//!
//! Our PUBACK goes out after the sync, in the order of the publishes, and never on another connection than the publish
//! came on: after a reconnect the broker sends again what it has no PUBACK for, and the copies are told by their bytes.
//! What the broker told the meter is the broker's promise: for none to be lost it has to keep sessions on disk and
//! queue without limit while we are away.
//!
//! | bound | option | when reached |
//! |---|---|---|
//! | publishes in flight (QoS 1) | `receive_maximum` | the broker keeps the rest |
//! | publishes that wait for the queue | `receive_maximum` | the connection is not read until there is room |
//! | packet | 128 KiB | not sent by the broker |
//! | pause between connections | 0.25 s to 30 s | |
//!
//! The second bound is met by QoS 0, and by brokers that do not keep to the first: Mosquitto 2.0 sends more when it
//! goes on with a session. While the connection is not read, nothing is sent on it either; a broker that closes it for
//! that sends everything again on the next one.
//!
//! The session is the broker's (`clean_start` off). We publish nothing, so there is no state of ours that a new process
//! would miss: the client library is told so by a [`SessionStore`] that always holds an empty session, or else it would
//! refuse to go on with a session it did not begin.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use metrics::gauge;
use model::Source;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, Publish};
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, PersistedAckMode, PersistedSession,
    RetainForwardRule, SessionStore, SessionStoreError, SessionStoreKey, SubscribeFilterInput, Transport,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gather::Publishes;
use crate::received::{Framing, Lost, Received, Refused, Ticket};
use crate::{Pipeline, Submitter, telemetry};

const KEEP_ALIVE_S: u16 = 30;
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Largest packet taken: the largest frame with topic and properties.
const MAX_PACKET: u32 = 128 * 1024;
/// We publish nothing, but the library takes no fewer.
const PUBLISHES_FROM_US: u16 = 1;
/// PUBACKs that go out in one write at most.
const PUBACKS_A_WRITE: usize = 256;
/// How long a shutdown waits for the PUBACKs of what was taken.
const DRAIN: Duration = Duration::from_secs(2);
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// A broker and how to listen to it.
#[derive(Clone, PartialEq, Eq)]
pub struct MqttOptions {
    /// `mqtt://host[:port]`, or `mqtts://host[:port]` for TLS with the system's certificates.
    pub url: String,
    /// The broker keeps our session under it.
    pub client_id: String,
    /// Topic filters, subscribed at QoS 1.
    pub topics: Vec<String>,
    /// What a publish carries.
    pub framing: MqttFraming,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Publishes the broker may have in flight to us.
    pub receive_maximum: u16,
    /// How long the broker keeps our session while we are away.
    pub session_expiry: Duration,
    /// Longest APDU, bytes; a longer one is quarantined.
    pub max_apdu: usize,
}

/// What a publish carries.
pub type MqttFraming = Framing;

impl Default for MqttOptions {
    fn default() -> Self {
        MqttOptions {
            url: String::new(),
            client_id: "urja".to_owned(),
            topics: vec!["Normal_Push/+".to_owned(), "Event_push/+".to_owned()],
            framing: Framing::Wrapper,
            credentials: None,
            receive_maximum: 1024,
            session_expiry: Duration::from_secs(7 * 24 * 3600),
            max_apdu: usize::from(u16::MAX),
        }
    }
}

/// Never shows the password.
impl std::fmt::Debug for MqttOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttOptions")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("topics", &self.topics)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

/// Options that no connection can be made with.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// Not `mqtt://host[:port]` or `mqtts://host[:port]`.
    #[error("not a broker such as mqtt://host:1883 or mqtts://host:8883: {0:?}")]
    Url(String),
    /// Not a topic filter.
    #[error("not a topic filter: {0:?}")]
    Topic(String),
    /// Nothing to subscribe to.
    #[error("no topic to subscribe to")]
    NoTopics,
    /// The session is kept under it.
    #[error("a client id is needed")]
    NoClientId,
    /// Not a topic with a place for the meter's node.
    #[error("not a topic with {{node}} as one of its levels: {0:?}")]
    NodeTopic(String),
    /// At least one publish must be allowed in flight.
    #[error("receive maximum is zero")]
    ReceiveMaximum,
    /// The system's certificates cannot be read.
    #[error("tls cannot be set up")]
    Tls(#[from] rumqttc::TlsError),
}

impl MqttOptions {
    /// Whether a connection can be made with them.
    ///
    /// # Errors
    /// Says which option is at fault.
    pub fn check(&self) -> Result<(), MqttError> {
        self.client().map(|_| ())
    }

    /// The client library's options.
    fn client(&self) -> Result<rumqttc::MqttOptions, MqttError> {
        let mut options = connection(&self.url, &self.client_id, self.credentials.as_ref())?;
        if self.topics.is_empty() {
            return Err(MqttError::NoTopics);
        }
        if let Some(bad) = self.topics.iter().find(|topic| !rumqttc::valid_filter(topic)) {
            return Err(MqttError::Topic(bad.clone()));
        }
        if self.receive_maximum == 0 {
            return Err(MqttError::ReceiveMaximum);
        }
        let expiry = u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX);
        options
            .set_clean_start(false)
            .set_session_expiry_interval(Some(expiry))
            .set_receive_maximum(Some(self.receive_maximum))
            .set_session_store(EmptySession)
            // With each write the library goes over all publishes that may be on their way from us, and there are none.
            .set_outgoing_inflight_upper_limit(PUBLISHES_FROM_US)
            // Else each PUBACK is a write of its own.
            .set_max_request_batch(PUBACKS_A_WRITE)
            .set_ack_mode(AckMode::Manual);
        Ok(options)
    }
}

/// The client library's options for a broker, without what is said of sessions.
pub(crate) fn connection(
    url: &str,
    client_id: &str,
    credentials: Option<&(String, String)>,
) -> Result<rumqttc::MqttOptions, MqttError> {
    let Broker { host, port, tls } = Broker::parse(url)?;
    if client_id.is_empty() {
        return Err(MqttError::NoClientId);
    }
    let mut options = rumqttc::MqttOptions::new(client_id, (host, port));
    options.set_keep_alive(KEEP_ALIVE_S).set_max_packet_size(Some(MAX_PACKET));
    if let Some((user, password)) = credentials {
        options.set_credentials(user, password.clone());
    }
    if tls {
        options.set_transport(Transport::try_tls_with_default_config()?);
    }
    Ok(options)
}

#[derive(Debug, PartialEq, Eq)]
struct Broker {
    host: String,
    port: u16,
    tls: bool,
}

impl Broker {
    fn parse(url: &str) -> Result<Broker, MqttError> {
        let bad = || MqttError::Url(url.to_owned());
        let (scheme, address) = url.split_once("://").ok_or_else(bad)?;
        let (tls, usual_port) = match scheme {
            "mqtt" => (false, PORT),
            "mqtts" => (true, TLS_PORT),
            _ => return Err(bad()),
        };
        // An IPv6 address stands in brackets.
        let (host, rest) = match address.strip_prefix('[') {
            Some(inside) => inside.split_once(']').ok_or_else(bad)?,
            None => address.find(':').map_or((address, ""), |colon| address.split_at(colon)),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| bad())?,
            None if rest.is_empty() => usual_port,
            None => return Err(bad()),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Broker { host: host.to_owned(), port, tls })
    }
}

/// A session of ours that is always there and always empty.
#[derive(Debug)]
struct EmptySession;

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for EmptySession {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(PUBLISHES_FROM_US),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Takes publishes from the broker until `shutdown`; then sends the PUBACKs of what was taken and disconnects. Connects
/// again whenever the connection is lost.
///
/// # Errors
/// At once, when no connection can be made with these options.
pub async fn serve_mqtt(
    pipeline: Pipeline,
    options: MqttOptions,
    shutdown: CancellationToken,
) -> Result<(), MqttError> {
    let in_flight = usize::from(options.receive_maximum);
    // Room for a PUBACK of each publish that the three queues below can hold, and for what else we send.
    let capacity = 4 * in_flight + 16;
    let client =
        options.client().inspect_err(|error| tracing::error!(%error, "the broker cannot be listened to"))?;
    let (client, events) = AsyncClient::builder(client).capacity(capacity).build();
    let (to_submit, publishes) = mpsc::channel(in_flight);
    let (tickets, to_await) = mpsc::channel(in_flight);
    let (answered, to_acknowledge) = mpsc::channel(in_flight);
    let taker = Taker {
        submitter: pipeline.submitter().with_max_apdu(options.max_apdu),
        pipeline: pipeline.clone(),
        publishes: Publishes::new(options.framing, options.max_apdu),
    };
    let session =
        Session { options, client, events, generation: 0, held: None, outstanding: 0, pause: FIRST_PAUSE };
    let passing_on = async {
        tokio::join!(taker.run(publishes, tickets), await_tickets(to_await, answered));
        // They end when the pipeline has stopped, which the session finds out by itself.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = session.run(to_submit, to_acknowledge, shutdown) => {}
        () = passing_on => {}
    }
    gauge!(telemetry::MQTT_CONNECTED).set(0.0);
    Ok(())
}

/// A publish and the connection it came on.
struct Arrived {
    generation: u64,
    publish: Publish,
}

/// The connection: the only place that polls the client library and acknowledges.
struct Session {
    options: MqttOptions,
    client: AsyncClient,
    events: EventLoop,
    /// Number of the connection.
    generation: u64,
    /// A publish that there was no room for; until there is, the connection is not read.
    held: Option<Arrived>,
    /// Publishes handed on that no answer has come for.
    outstanding: usize,
    pause: Duration,
}

impl Session {
    async fn run(
        mut self,
        to_submit: mpsc::Sender<Arrived>,
        mut to_acknowledge: mpsc::Receiver<Arrived>,
        shutdown: CancellationToken,
    ) {
        loop {
            tokio::select! {
                room = to_submit.reserve(), if self.held.is_some() => match room {
                    Ok(room) => if let Some(arrived) = self.held.take() {
                        room.send(arrived);
                        self.outstanding += 1;
                    },
                    Err(_) => break,
                },
                event = self.events.poll(), if self.held.is_none() => match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        self.held = Some(Arrived { generation: self.generation, publish });
                    }
                    Ok(Event::Incoming(Packet::ConnAck(_))) => self.connected(),
                    Ok(Event::Incoming(Packet::SubAck(suback))) => {
                        tracing::info!(codes = ?suback.return_codes, "subscribed");
                    }
                    Ok(_) => {}
                    Err(error) => self.lost(&error, &shutdown).await,
                },
                answered = to_acknowledge.recv() => match answered {
                    Some(arrived) => {
                        self.acknowledge(&arrived);
                        // A sync answers many at once.
                        while let Ok(arrived) = to_acknowledge.try_recv() {
                            self.acknowledge(&arrived);
                        }
                    }
                    // The pipeline has stopped: nothing is acknowledged any more.
                    None => break,
                },
                () = shutdown.cancelled() => break,
            }
        }
        // What is not handed on yet is not acknowledged; the broker sends it again.
        drop(to_submit);
        self.drain(to_acknowledge).await;
    }

    fn connected(&mut self) {
        self.pause = FIRST_PAUSE;
        gauge!(telemetry::MQTT_CONNECTED).set(1.0);
        tracing::info!(url = self.options.url, "broker connected");
        // Again on every connection: the broker may have lost the session, or the topics may be new.
        // What is retained comes with a new subscription only.
        let filter = |topic: &String| {
            SubscribeFilterInput::new(topic, QoS::AtLeastOnce)
                .retain_forward_rule(RetainForwardRule::OnNewSubscribe)
        };
        let filters: Vec<_> = self.options.topics.iter().map(filter).collect();
        if let Err(error) = self.client.try_subscribe_many(filters) {
            tracing::error!(%error, "topics cannot be subscribed to");
        }
    }

    fn acknowledge(&mut self, arrived: &Arrived) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if arrived.generation != self.generation {
            return;
        }
        if let Err(error) = self.client.try_ack(&arrived.publish) {
            tracing::error!(%error, "a publish cannot be acknowledged; the broker sends it again");
        }
    }

    /// Everything that came on the lost connection comes again on the next one.
    async fn lost(&mut self, error: &ConnectionError, shutdown: &CancellationToken) {
        self.generation += 1;
        gauge!(telemetry::MQTT_CONNECTED).set(0.0);
        tracing::warn!(%error, pause_ms = self.pause.as_millis(), "no connection to the broker; trying again");
        tokio::select! {
            () = sleep(self.pause) => {}
            () = shutdown.cancelled() => {}
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Acknowledges what was handed on, for a while, then says goodbye; the session stays with the broker.
    async fn drain(mut self, mut to_acknowledge: mpsc::Receiver<Arrived>) {
        let until = Instant::now() + DRAIN;
        let generation = self.generation;
        let draining = async {
            while self.outstanding > 0 {
                tokio::select! {
                    event = self.events.poll() => if event.is_err() {
                        return;
                    },
                    answered = to_acknowledge.recv() => match answered {
                        Some(arrived) => self.acknowledge(&arrived),
                        None => return,
                    },
                }
            }
            if self.generation == generation && self.client.try_disconnect().is_ok() {
                while self.events.poll().await.is_ok() {}
            }
        };
        // Without an answer in time the connection is simply dropped.
        let _ = timeout_at(until, draining).await;
    }
}

/// Gives publishes to the pipeline, in their order.
struct Taker {
    submitter: Submitter,
    pipeline: Pipeline,
    publishes: Publishes,
}

impl Taker {
    async fn run(mut self, mut publishes: mpsc::Receiver<Arrived>, tickets: mpsc::Sender<(Ticket, Arrived)>) {
        while let Some(arrived) = publishes.recv().await {
            let (bytes, framing) = self.publishes.take(&arrived.publish.topic, &arrived.publish.payload);
            let received = Received {
                source: Source::Mqtt,
                received_at: self.pipeline.clock().now(),
                framing,
                bytes,
                identity: None,
            };
            match self.submitter.submit(received).await {
                Ok(ticket) => {
                    if tickets.send((ticket, arrived)).await.is_err() {
                        return;
                    }
                }
                Err(Refused::Full | Refused::Stopped) => return,
            }
        }
    }
}

/// Passes publishes on once they are durable, in their order.
async fn await_tickets(mut tickets: mpsc::Receiver<(Ticket, Arrived)>, answered: mpsc::Sender<Arrived>) {
    while let Some((ticket, arrived)) = tickets.recv().await {
        match ticket.await {
            Ok(_) => {
                if answered.send(arrived).await.is_err() {
                    return;
                }
            }
            Err(Lost) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_host_and_port_with_or_without_tls() {
        for (url, host, port, tls) in [
            ("mqtt://localhost", "localhost", 1883, false),
            ("mqtt://10.0.0.7:2883", "10.0.0.7", 2883, false),
            ("mqtts://broker.example", "broker.example", 8883, true),
            ("mqtt://[::1]:1884", "::1", 1884, false),
        ] {
            assert_eq!(Broker::parse(url).unwrap(), Broker { host: host.to_owned(), port, tls }, "{url}");
        }
        for bad in [
            "",
            "localhost",
            "tcp://a",
            "mqtt://",
            "mqtt://:1",
            "mqtt://a:x",
            "mqtt://a/b",
            "mqtt://[::1",
            "mqtt://u@a",
        ] {
            assert!(Broker::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_at_fault_are_named() {
        let good = MqttOptions { url: "mqtt://localhost".to_owned(), ..MqttOptions::default() };
        good.check().unwrap();
        let check = |options: MqttOptions, says: &str| {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        check(MqttOptions { url: "localhost".to_owned(), ..good.clone() }, "not a broker");
        check(MqttOptions { topics: vec![], ..good.clone() }, "no topic");
        check(MqttOptions { topics: vec!["a/#/b".to_owned()], ..good.clone() }, "a/#/b");
        check(MqttOptions { client_id: String::new(), ..good.clone() }, "client id");
        check(MqttOptions { receive_maximum: 0, ..good }, "receive maximum");
    }

    #[test]
    fn a_password_is_never_printed() {
        let options = MqttOptions {
            credentials: Some(("urja".to_owned(), "hunter2".to_owned())),
            ..MqttOptions::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
