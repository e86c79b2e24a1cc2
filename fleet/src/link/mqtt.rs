//! MQTT 5, quality of service 1. The broker's acknowledgement says that it has taken the push on.

use std::io;

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::encode::{Frame, Kind};
use crate::options::MqttTarget;

const KEEP_ALIVE_S: u16 = 30;

/// One client. It never reconnects: a link that lost its client makes another, and sends again what was under way.
#[derive(Debug)]
pub(super) struct Mqtt {
    target: MqttTarget,
    client: AsyncClient,
    driver: AbortHandle,
    /// What is under way; each gives its ticket when the broker has acknowledged it.
    notices: JoinSet<Option<u64>>,
}

impl Mqtt {
    pub(super) async fn connect(target: MqttTarget, link: usize, window: usize) -> io::Result<Mqtt> {
        let mut options =
            MqttOptions::new(format!("{}-{link}", target.client_id), (target.host.clone(), target.port));
        options.set_keep_alive(KEEP_ALIVE_S);
        options.set_clean_start(true);
        if let Some((user, password)) = &target.credentials {
            options.set_credentials(user.clone(), password.clone());
        }
        let (client, events) = AsyncClient::builder(options).capacity(window).build();
        let (told, connected) = oneshot::channel();
        let driver = tokio::spawn(drive(events, told)).abort_handle();
        let mqtt = Mqtt { target, client, driver, notices: JoinSet::new() };
        connected.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(mqtt)
    }

    /// Whether the connection to the broker has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    pub(super) async fn publish(&mut self, frame: &Frame) -> io::Result<()> {
        let pattern = if frame.kind == Kind::Event { &self.target.event_topic } else { &self.target.topic };
        let topic = pattern.replace("{node}", &frame.node);
        let sent = self
            .client
            .publish_tracked(topic, frame.bytes.clone(), PublishOptions::new(QoS::AtLeastOnce))
            .await;
        let notice = sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let ticket = ticket(frame);
        self.notices.spawn(async move { notice.wait_completion_async().await.ok().map(|()| ticket) });
        Ok(())
    }

    pub(super) async fn receive(&mut self) -> io::Result<u64> {
        match self.notices.join_next().await {
            Some(Ok(Some(ticket))) => Ok(ticket),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Tells copies of one frame by its digest.
pub(super) fn ticket(frame: &Frame) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = frame.digest.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Turns the client's wheels until the connection ends.
async fn drive(mut events: EventLoop, told: oneshot::Sender<()>) {
    let mut told = Some(told);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                // Nobody may be waiting for the connection any more.
                let _gone = told.take().map(|told| told.send(()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "broker connection ended");
                return;
            }
        }
    }
}
