//! The doors of a running node: meters on TCP, UDP and MQTT; pages and SQL; health and metrics; the admin socket.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use ingest::{MqttOptions, NodeTopic, PollFraming, PollOptions, TcpOptions, UdpOptions};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(feature = "broker")]
use crate::broker::{Broker, Intake};
use crate::config::{Address, Config, Framing, RequestFraming};
use crate::node::Node;
use crate::web::{self, Limits};
use crate::{admin, health, telemetry};

/// Connections that wait to be accepted, at most; the system allows `net.core.somaxconn` of them, 4,096 by default.
const BACKLOG: u32 = 16_384;

/// Doors that are open, with the addresses they really have.
pub struct Doors {
    /// TCP for meters.
    pub tcp: Option<SocketAddr>,
    /// UDP for meters.
    pub udp: Option<SocketAddr>,
    /// The embedded MQTT broker.
    pub broker: Option<SocketAddr>,
    /// Pages and SQL.
    pub http: Option<SocketAddr>,
    /// Health and metrics.
    pub health: Option<SocketAddr>,
    stop: CancellationToken,
    /// Stops after the meters' doors, so that operators can watch the drain.
    stop_http: CancellationToken,
    tasks: TaskTracker,
    http_tasks: TaskTracker,
    /// Of the admin socket, health and metrics: where thousands of meters wait to be read, a recharge and an operator's
    /// question must not wait behind them.
    office: Threads,
    /// Of pages and SQL: a heavy statement must delay neither a meter's acknowledgement nor a recharge.
    #[cfg(feature = "query")]
    query: Threads,
}

/// A runtime beside that of the meters; when it goes, what still runs on it is let go, not waited for.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(name: &str, count: usize) -> Result<Threads> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count).enable_all().thread_name(name).build();
        Ok(Threads(Some(runtime.with_context(|| format!("threads {name}"))?)))
    }

    /// Sockets that are opened while the guard lives belong to this runtime.
    fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Doors {
    /// Opens every door that is configured.
    ///
    /// # Errors
    /// Names the key of an address that cannot be listened on.
    pub async fn open(node: &Node) -> Result<Doors> {
        let mut doors = Doors {
            tcp: None,
            udp: None,
            broker: None,
            http: None,
            health: None,
            stop: CancellationToken::new(),
            stop_http: CancellationToken::new(),
            tasks: TaskTracker::new(),
            http_tasks: TaskTracker::new(),
            office: Threads::start("office", 1)?,
            #[cfg(feature = "query")]
            query: Threads::start("query", 2)?,
        };
        doors.open_admin(node);
        doors.open_health(node)?;
        doors.open_http(node)?;
        doors.open_meters(node).await?;
        #[cfg(feature = "broker")]
        doors.open_broker(node).await?;
        doors.open_polls(node)?;
        let (supply, stop) = (node.supply.clone(), doors.stop.clone());
        doors.tasks.spawn(async move { supply.run(stop).await });
        doors.tasks.spawn(crate::collections::run(node.clone(), doors.stop.clone()));
        Ok(doors)
    }

    /// The `ready` line of `urja serve`.
    pub fn describe(&self, node: &Node) -> Value {
        json!({
            "event": "ready",
            "tcp": self.tcp, "udp": self.udp, "broker": self.broker, "http": self.http, "health": self.health,
            "mqtt": Some(&node.config.mqtt.url).filter(|url| !url.is_empty()),
            "data": node.config.data.dir,
            "pid": std::process::id(),
        })
    }

    /// Closes the meters' doors, waits until what came in is through, then closes the others.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.stop_http.cancel();
        self.http_tasks.close();
        // A browser may hold a connection open for ever.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), self.http_tasks.wait()).await;
    }

    fn open_admin(&mut self, node: &Node) {
        let closed = |error: anyhow::Error| {
            tracing::error!(error = format!("{error:#}"), "the admin socket is closed")
        };
        let _office = self.office.enter();
        // Bound before anybody is told that the head-end is ready.
        let listener = match admin::bind(&node.config.data.dir) {
            Ok(listener) => listener,
            Err(error) => return closed(error),
        };
        let (node, stop) = (node.clone(), self.stop_http.clone());
        self.http_tasks.spawn(async move {
            if let Err(error) = admin::serve(listener, node, stop).await {
                closed(error);
            }
        });
    }

    fn open_health(&mut self, node: &Node) -> Result<()> {
        let metrics = telemetry::metrics()?;
        let _office = self.office.enter();
        let Some(listener) = listen(node.config.health.listen, "health.listen")? else { return Ok(()) };
        self.health = Some(listener.local_addr()?);
        let router = health::router(node.clone(), metrics);
        let limits = Limits::of(&node.config.http);
        self.http_tasks.spawn(web::serve(listener, router, limits, "health", self.stop_http.clone()));
        Ok(())
    }

    #[cfg(feature = "query")]
    fn open_http(&mut self, node: &Node) -> Result<()> {
        let _query = self.query.enter();
        let Some(listener) = listen(node.config.http.listen, "http.listen")? else { return Ok(()) };
        self.http = Some(listener.local_addr()?);
        let router = crate::adapter::pages(node).merge(query::router(node.engine.clone()));
        let limits = Limits::of(&node.config.http);
        self.http_tasks.spawn(web::serve(listener, router, limits, "http", self.stop_http.clone()));
        Ok(())
    }

    #[cfg(not(feature = "query"))]
    fn open_http(&mut self, _node: &Node) -> Result<()> {
        Ok(())
    }

    async fn open_meters(&mut self, node: &Node) -> Result<()> {
        let config = &node.config;
        if let Some(listener) = listen(config.listen.tcp, "listen.tcp")? {
            self.tcp = Some(listener.local_addr()?);
            let served = ingest::serve_tcp(
                listener,
                node.pipeline.clone(),
                Some(node.sessions.clone()),
                tcp_options(config),
                self.stop.clone(),
            );
            self.tasks.spawn(served);
        }
        if let Some(address) = config.listen.udp.0 {
            let socket =
                UdpSocket::bind(address).await.with_context(|| format!("key listen.udp: {address}"))?;
            self.udp = Some(socket.local_addr()?);
            let served =
                ingest::serve_udp(socket, node.pipeline.clone(), udp_options(config), self.stop.clone());
            self.tasks.spawn(served);
        }
        if !config.mqtt.url.is_empty() {
            let options = mqtt_options(config);
            options.check().context("section mqtt")?;
            let (pipeline, stop) = (node.pipeline.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                if let Err(error) = ingest::serve_mqtt(pipeline, options, stop).await {
                    tracing::error!(%error, "MQTT is closed");
                }
            });
        }
        Ok(())
    }

    /// Lets meters be asked over the broker that is configured, else over the embedded one.
    fn open_polls(&mut self, node: &Node) -> Result<()> {
        let Some(options) = poll_options(&node.config, self.broker)? else { return Ok(()) };
        let (sessions, stop) = (node.sessions.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = ingest::serve_polls(sessions, options, stop).await {
                tracing::error!(%error, "meters cannot be asked over MQTT");
            }
        });
        Ok(())
    }

    #[cfg(feature = "broker")]
    async fn open_broker(&mut self, node: &Node) -> Result<()> {
        let config = &node.config;
        let Some(address) = config.broker.listen.0 else { return Ok(()) };
        let MqttOptions { topics, framing, session_expiry, max_apdu, .. } = mqtt_options(config);
        let polls = poll_topics(config)?;
        let publishes = std::sync::Arc::new(ingest::Publishes::new(framing, max_apdu));
        let intake = Intake { pipeline: node.pipeline.clone(), topics, publishes, max_apdu, polls };
        let dir = config.data.dir.join("broker");
        let broker = Broker::bind(&config.broker, address, &dir, session_expiry, intake)
            .await
            .with_context(|| format!("key broker.listen: {address}"))?;
        self.broker = Some(broker.address);
        self.tasks.spawn(broker.serve(self.stop.clone()));
        Ok(())
    }
}

fn listen(address: Address, key: &str) -> Result<Option<TcpListener>> {
    let Some(address) = address.0 else { return Ok(None) };
    let listener = bind(address).with_context(|| {
        let flag = key.trim_start_matches("listen.").split('.').next().unwrap_or_default();
        format!("key {key}: cannot listen on {address}; another process may have it (choose with --{flag} or the key)")
    })?;
    Ok(Some(listener))
}

/// With a backlog of our own: the runtime's 1,024 overflow when thousands of meters come back at once, and the system
/// then forgets connections that the other side takes for open.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Or a restart would wait until the connections of the last process are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn max_apdu(config: &Config) -> usize {
    usize::try_from(config.listen.max_apdu.as_u64())
        .unwrap_or(usize::from(u16::MAX))
        .min(usize::from(u16::MAX))
}

fn tcp_options(config: &Config) -> TcpOptions {
    TcpOptions {
        max_connections: config.listen.max_connections,
        max_connections_per_address: config.listen.max_connections_per_address,
        max_apdu: max_apdu(config),
        identify_after: config.listen.identify_after.0,
        first_byte_timeout: config.listen.first_byte_timeout.0,
        frame_timeout: config.listen.frame_timeout.0,
        idle_timeout: config.listen.idle_timeout.0,
        max_unacknowledged: config.listen.max_unacknowledged,
        ..TcpOptions::default()
    }
}

fn udp_options(config: &Config) -> UdpOptions {
    UdpOptions { max_apdu: max_apdu(config) }
}

fn mqtt_options(config: &Config) -> MqttOptions {
    let mqtt = &config.mqtt;
    MqttOptions {
        url: mqtt.url.clone(),
        client_id: mqtt.client_id.clone(),
        topics: mqtt.topics.clone(),
        framing: match mqtt.framing {
            Framing::Wrapper => ingest::MqttFraming::Wrapper,
            Framing::Apdu => ingest::MqttFraming::Apdu,
        },
        credentials: Some((mqtt.username.clone(), mqtt.password.clone()))
            .filter(|(user, _)| !user.is_empty()),
        receive_maximum: mqtt.receive_maximum,
        session_expiry: mqtt.session_expiry.0,
        max_apdu: max_apdu(config),
    }
}

/// Topics of requests and answers; `None` where meters are not asked over MQTT.
fn poll_topics(config: &Config) -> Result<Option<(NodeTopic, NodeTopic)>> {
    let mqtt = &config.mqtt;
    if mqtt.request_topic.is_empty() {
        return Ok(None);
    }
    let request = NodeTopic::parse(&mqtt.request_topic).context("key mqtt.request_topic")?;
    let response = NodeTopic::parse(&mqtt.response_topic).context("key mqtt.response_topic")?;
    Ok(Some((request, response)))
}

/// How meters are asked over the broker that is configured, else over the embedded one that listens at `embedded`.
fn poll_options(config: &Config, embedded: Option<SocketAddr>) -> Result<Option<PollOptions>> {
    let Some((request, response)) = poll_topics(config)? else { return Ok(None) };
    let (mqtt, broker) = (&config.mqtt, &config.broker);
    let (url, username, password) = match embedded {
        Some(at) if mqtt.url.is_empty() => {
            (format!("mqtt://{}", reachable(at)), &broker.username, &broker.password)
        }
        None if mqtt.url.is_empty() => return Ok(None),
        _ => (mqtt.url.clone(), &mqtt.username, &mqtt.password),
    };
    Ok(Some(PollOptions {
        url,
        client_id: format!("{}-requests", mqtt.client_id),
        credentials: Some((username.clone(), password.clone())).filter(|(user, _)| !user.is_empty()),
        request,
        response,
        framing: match mqtt.request_framing {
            RequestFraming::Fragments => PollFraming::Fragments,
            RequestFraming::Wrapper => PollFraming::Wrapper,
        },
        max_publish: usize::try_from(mqtt.request_publish.as_u64()).unwrap_or(usize::MAX),
    }))
}

/// Where this machine itself reaches what listens there.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at {
        SocketAddr::V4(at) if at.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(at) if at.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        at => at.ip(),
    };
    SocketAddr::new(ip, at.port())
}
