//! The embedded MQTT broker, for the demo and for a first trial without a broker of one's own.
//!
//! A publish on one of `mqtt.topics` goes through the pipeline *before* the broker answers it: its PUBACK (PUBREC) goes
//! out after the journal's sync, so there is no queue between the meter and the journal that a crash could lose. While
//! a publish waits for its sync its connection is not read, which slows the sender; the syncs of many connections are
//! shared. When the pipeline has stopped, nothing is answered any more and the meter sends again.
//!
//! After that the publish goes to whoever has subscribed: other programs, on this machine only. Their sessions and
//! queues are the library's and are kept in `broker/` of the data directory. They outlive an orderly restart; of what
//! is queued for them the library writes nothing for up to a quarter of a second after its PUBACK, so a crash loses it.
//!
//! | bound | number | when reached |
//! |---|---|---|
//! | connections | `broker.max_connections`; gauge `urja_broker_connections` | a further one is closed |
//! | packet | 128 KiB | the connection is closed |
//! | publishes of one connection before their sync | 1 | the connection is not read |
//! | CONNECT | 10 s | the connection is closed |
//! | messages kept for one subscriber that is away | `broker.max_queued`, 64 MiB | the oldest is dropped |
//! | retained messages | 10,000 | a further one is refused |

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use ingest::{NodeTopic, Pipeline, Publishes, Received};
use metrics::{describe_gauge, gauge};
use model::Source;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{
    BrokerConfig, BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientPublishEvent,
    MqttBroker, PublishAction,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use tokio_util::sync::CancellationToken;

use crate::config;

/// Gauge of the clients that there are.
const CONNECTIONS: &str = "urja_broker_connections";
/// Largest packet taken: the largest frame with topic and properties.
const MAX_PACKET: usize = 128 * 1024;
const MAX_QUEUED_BYTES: usize = 64 << 20;
const MAX_RETAINED: usize = 10_000;
/// Messages on their way to one subscriber that is there.
const LANE: usize = 1024;
/// How long a shutdown waits for the connections; the library itself waits for five seconds.
const DRAIN: Duration = Duration::from_secs(6);
/// Who a client is to the library: one of this machine, or one that came over the network.
const LOCAL: &str = "local";
const REMOTE: &str = "remote";

/// What a publish needs on its way into the journal.
#[derive(Clone)]
pub struct Intake {
    /// Where it goes.
    pub pipeline: Pipeline,
    /// Topic filters of what is taken.
    pub topics: Vec<String>,
    /// What is here of pushes in several publishes.
    pub publishes: Arc<Publishes>,
    /// Longest APDU, bytes; a longer one is quarantined.
    pub max_apdu: usize,
    /// Where meters are asked and answer, if they are.
    pub polls: Option<(NodeTopic, NodeTopic)>,
}

/// A broker that listens but does not run yet.
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    library: MqttBroker,
}

impl Broker {
    /// Listens, and reads the sessions that were kept in `dir`.
    ///
    /// # Errors
    /// When the address is taken or a file cannot be read.
    pub async fn bind(
        config: &config::Broker,
        address: SocketAddr,
        dir: &std::path::Path,
        session_expiry: Duration,
        intake: Intake,
    ) -> Result<Broker> {
        describe_gauge!(CONNECTIONS, "clients of the embedded broker");
        let storage = StorageConfig::new()
            .with_base_dir(dir.to_owned())
            .with_max_queued_messages_per_client(config.max_queued)
            .with_max_queued_bytes_per_client(MAX_QUEUED_BYTES);
        let gate = Gate {
            credentials: Some((config.username.clone(), config.password.clone()))
                .filter(|(user, _)| !user.is_empty()),
            topics: intake.topics.clone(),
            polls: intake.polls.clone(),
            own: address.ip(),
        };
        let options = BrokerConfig::new()
            .with_bind_address(address)
            .with_max_clients(config.max_connections)
            .with_session_expiry(session_expiry)
            .with_max_packet_size(MAX_PACKET)
            .with_max_retained_messages(MAX_RETAINED)
            .with_client_channel_capacity(LANE)
            .with_storage(storage)
            .with_sys_topics_enabled(false)
            .with_event_handler(Arc::new(intake));
        let library = MqttBroker::with_config(options)
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .with_auth_provider(Arc::new(gate));
        let address = library.local_addr().context("the broker does not listen")?;
        Ok(Broker { address, library })
    }

    /// Serves clients until `stop`; then waits for what is under way and writes out what it keeps for subscribers.
    pub async fn serve(mut self, stop: CancellationToken) {
        let (shutdown, storage) = (self.library.shutdown_handle(), self.library.storage());
        {
            let running = self.library.run();
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => {
                    tracing::error!(error = ended.err().map(|error| error.to_string()), "the broker has ended");
                }
                () = stop.cancelled() => {
                    shutdown.shutdown();
                    if tokio::time::timeout(DRAIN, running).await.is_err() {
                        tracing::warn!("connections of the broker did not end in time");
                    }
                }
            }
        }
        if let Some(storage) = storage
            && let Err(error) = storage.shutdown().await
        {
            tracing::error!(%error, "what the broker keeps for subscribers is not written");
        }
    }
}

impl Intake {
    /// Whether a publish on this topic is a push for us.
    fn wants(&self, topic: &str) -> bool {
        matches_any(topic, &self.topics)
    }

    /// Returns once the push is durable, and not at all when the pipeline has stopped: returning lets the broker
    /// acknowledge.
    async fn take(&self, topic: &str, payload: &Bytes) {
        let (bytes, framing) = self.publishes.take(topic.as_bytes(), payload);
        let received = Received {
            source: Source::Mqtt,
            received_at: self.pipeline.clock().now(),
            framing,
            bytes,
            identity: None,
        };
        let mut submitter = self.pipeline.submitter().with_max_apdu(self.max_apdu);
        let durable = match submitter.submit(received).await {
            Ok(ticket) => ticket.await.is_ok(),
            Err(_stopped) => false,
        };
        if !durable {
            std::future::pending::<()>().await;
        }
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl BrokerEventHandler for Intake {
    /// Told once the broker counts the client among its connections.
    fn on_client_connect<'a>(&'a self, _event: ClientConnectEvent) -> Answer<'a, ()> {
        gauge!(CONNECTIONS).increment(1);
        Box::pin(std::future::ready(()))
    }

    fn on_client_disconnect<'a>(&'a self, _event: ClientDisconnectEvent) -> Answer<'a, ()> {
        gauge!(CONNECTIONS).decrement(1);
        Box::pin(std::future::ready(()))
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        Box::pin(async move {
            if self.wants(&event.topic) {
                self.take(&event.topic, &event.payload).await;
            }
            PublishAction::Continue
        })
    }
}

/// Who may come in, and what they may do there.
struct Gate {
    /// Asked of everybody when set; without them only this machine comes in.
    credentials: Option<(String, String)>,
    /// What clients of the network may publish on.
    topics: Vec<String>,
    /// Where a meter of the network may listen, and where it may answer.
    polls: Option<(NodeTopic, NodeTopic)>,
    /// Where the broker listens: who comes from there is on this machine.
    own: IpAddr,
}

impl Gate {
    fn lets_in(&self, connect: &ConnectPacket, local: bool) -> bool {
        let Some((user, password)) = &self.credentials else { return local };
        let given = connect.password.as_deref().unwrap_or_default();
        // Digests are compared, so that the time it takes says nothing about how much of a password is right.
        connect.username.as_deref() == Some(user)
            && ingest::digest(given) == ingest::digest(password.as_bytes())
    }
}

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        let local = from.ip().to_canonical().is_loopback() || from.ip() == self.own;
        let answer = if self.lets_in(connect, local) {
            AuthResult::success_with_user(if local { LOCAL } else { REMOTE })
        } else {
            AuthResult::fail(ReasonCode::BadUsernameOrPassword)
        };
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        let answers = self.polls.as_ref().is_some_and(|(_, response)| response.node(topic).is_some());
        let may = user == Some(LOCAL) || answers || matches_any(topic, &self.topics);
        Box::pin(std::future::ready(user.is_some() && may))
    }

    /// Nobody on the network may read along what meters push. What one meter is asked, which is ciphered, it may.
    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Answer<'a, bool> {
        let asked = self.polls.as_ref().is_some_and(|(request, _)| request.node(topic_filter).is_some());
        Box::pin(std::future::ready(user == Some(LOCAL) || user == Some(REMOTE) && asked))
    }
}

/// Whether one of the filters matches; the group of a shared subscription says nothing about the topic.
fn matches_any(topic: &str, filters: &[String]) -> bool {
    filters
        .iter()
        .any(|filter| mqtt5::topic_matches_filter(topic, mqtt5::strip_shared_subscription_prefix(filter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(credentials: Option<(&str, &str)>) -> Gate {
        Gate {
            credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            topics: vec!["Normal_Push/+".to_owned()],
            polls: Some(
                ["PollRequest/{node}", "PollResponse/{node}"].map(|p| NodeTopic::parse(p).unwrap()).into(),
            ),
            own: [10, 0, 0, 1].into(),
        }
    }

    async fn user(gate: &Gate, from: &str, given: Option<(&str, &str)>) -> Option<String> {
        let mut connect = ConnectPacket::new(mqtt5::ConnectOptions::new("meter").protocol_options);
        connect.username = given.map(|(user, _)| user.to_owned());
        connect.password = given.map(|(_, password)| password.as_bytes().to_vec());
        let answer = gate.authenticate(&connect, from.parse().unwrap()).await.unwrap();
        assert_eq!(answer.authenticated, answer.user_id.is_some());
        answer.user_id
    }

    const HERE: &str = "127.0.0.1:5";
    const MAPPED: &str = "[::ffff:127.0.0.1]:5";
    const AWAY: &str = "10.0.0.7:5";

    #[tokio::test]
    async fn without_credentials_only_this_machine_comes_in() {
        let open = gate(None);
        assert_eq!(user(&open, HERE, None).await.as_deref(), Some(LOCAL));
        assert_eq!(user(&open, MAPPED, None).await.as_deref(), Some(LOCAL));
        assert_eq!(user(&open, AWAY, None).await, None);
        assert_eq!(user(&open, AWAY, Some(("meters", "secret"))).await, None);
    }

    #[tokio::test]
    async fn with_credentials_everybody_is_asked_for_them() {
        let closed = gate(Some(("meters", "secret")));
        for from in [HERE, AWAY] {
            assert!(user(&closed, from, Some(("meters", "secret"))).await.is_some());
            for wrong in [None, Some(("meters", "secre")), Some(("meters", "")), Some(("other", "secret"))] {
                assert_eq!(user(&closed, from, wrong).await, None, "{from} {wrong:?}");
            }
        }
    }

    #[tokio::test]
    async fn clients_of_the_network_publish_pushes_and_read_nothing() {
        let gate = gate(Some(("meters", "secret")));
        assert!(gate.authorize_publish("meter", Some(REMOTE), "Normal_Push/7").await);
        assert!(!gate.authorize_publish("meter", Some(REMOTE), "elsewhere").await);
        assert!(!gate.authorize_publish("meter", None, "elsewhere").await);
        assert!(gate.authorize_publish("tool", Some(LOCAL), "elsewhere").await);
        assert!(!gate.authorize_subscribe("meter", Some(REMOTE), "Normal_Push/7").await);
        assert!(!gate.authorize_subscribe("meter", None, "#").await);
        assert!(gate.authorize_subscribe("tool", Some(LOCAL), "#").await);
    }

    #[tokio::test]
    async fn a_meter_of_the_network_hears_what_it_is_asked_and_answers_and_may_not_ask() {
        let gate = gate(Some(("meters", "secret")));
        assert!(gate.authorize_subscribe("meter", Some(REMOTE), "PollRequest/7").await);
        assert!(gate.authorize_publish("meter", Some(REMOTE), "PollResponse/7").await);
        for filter in ["PollRequest/+", "PollRequest/#", "PollResponse/7", "+/7", "$share/a/PollRequest/7"] {
            assert!(!gate.authorize_subscribe("meter", Some(REMOTE), filter).await, "{filter}");
        }
        assert!(!gate.authorize_subscribe("meter", None, "PollRequest/7").await);
        assert!(!gate.authorize_publish("meter", Some(REMOTE), "PollRequest/7").await);
        assert_eq!(user(&gate, "10.0.0.1:5", Some(("meters", "secret"))).await.as_deref(), Some(LOCAL));
    }

    #[test]
    fn the_group_of_a_shared_subscription_is_no_part_of_the_topic() {
        let filters = ["$share/urja/Normal_Push/+".to_owned()];
        assert!(matches_any("Normal_Push/7", &filters));
        assert!(!matches_any("Event_push/7", &filters));
    }
}
