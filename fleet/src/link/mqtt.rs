//! MQTT 5, quality of service 1. The broker's acknowledgement says that it has taken the push on.
//!
//! A meter that answers subscribes to the topic of its requests; requests and answers are fragments of frames.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use codec::fragment::{self, Assembly, Fragment};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;

use super::Answering;
use crate::encode::{Frame, Kind};
use crate::meter::Session;
use crate::options::MqttTarget;

const KEEP_ALIVE_S: u16 = 30;
/// Requests that wait for a meter; more are lost, as what is published at quality of service 0 may be.
const REQUESTS: usize = 16;

/// One client. It never reconnects: a link that lost its client makes another, and sends again what was under way.
#[derive(Debug)]
pub(super) struct Mqtt {
    target: MqttTarget,
    client: AsyncClient,
    driver: AbortHandle,
    /// What is under way; each gives its ticket when the broker has acknowledged it.
    notices: JoinSet<Option<u64>>,
    station: Option<Station>,
}

/// A meter that answers.
#[derive(Debug)]
struct Station {
    answering: Answering,
    session: Session,
    requests: mpsc::Receiver<Bytes>,
    assembly: Assembly,
    /// Where its answers go.
    topic: String,
    /// The answer that is on its way out.
    answer: Option<Answer>,
}

/// What is left to be sent of an answer. It stays with the station: whoever waits for receipts stops doing so each time he has
/// something else to do, and what a meter has done it does not do again.
#[derive(Debug)]
struct Answer {
    /// Not before.
    due: time::Instant,
    /// What is published for it, a push before it included: where to, and how surely.
    publishes: VecDeque<(String, Vec<u8>, QoS)>,
    /// Whether the connection ends behind it.
    ends: bool,
}

impl Answer {
    /// Sends it. May be dropped and called again.
    async fn send(&mut self, client: &AsyncClient) -> io::Result<()> {
        time::sleep_until(self.due).await;
        while let Some((topic, payload, qos)) = self.publishes.front() {
            let sent = client.publish(topic.as_str(), payload.clone(), PublishOptions::new(*qos)).await;
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.publishes.pop_front();
        }
        Ok(())
    }
}

impl Mqtt {
    /// The meter behind it answers, where there is one that does.
    pub(super) async fn connect(
        target: MqttTarget,
        link: usize,
        window: usize,
        answering: Option<&Answering>,
    ) -> io::Result<Mqtt> {
        let mut options =
            MqttOptions::new(format!("{}-{link}", target.client_id), (target.host.clone(), target.port));
        options.set_keep_alive(KEEP_ALIVE_S);
        options.set_clean_start(true);
        if let Some((user, password)) = &target.credentials {
            options.set_credentials(user.clone(), password.clone());
        }
        let (client, events) = AsyncClient::builder(options).capacity(window).build();
        let (told, connected) = oneshot::channel();
        let (requested, requests) = mpsc::channel(REQUESTS);
        let station = answering.map(|answering| {
            let node = answering.node();
            let topic = target.response_topic.replace("{node}", &node);
            let (answering, session) = (answering.clone(), answering.session());
            let station =
                Station { answering, session, requests, assembly: Assembly::default(), topic, answer: None };
            (station, target.request_topic.replace("{node}", &node))
        });
        let listening = station.is_some();
        let driver = tokio::spawn(drive(events, told, requested, listening)).abort_handle();
        let mut mqtt = Mqtt { target, client, driver, notices: JoinSet::new(), station: None };
        if let Some((station, requests)) = station {
            let subscribed = mqtt.client.subscribe(requests, QoS::AtLeastOnce).await;
            subscribed.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            mqtt.station = Some(station);
        }
        connected.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(mqtt)
    }

    /// Whether requests are answered on it.
    pub(super) fn answers(&self) -> bool {
        self.station.is_some()
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

    /// The ticket of the next push that the broker has acknowledged; meanwhile requests are answered. May be dropped and
    /// called again.
    pub(super) async fn receive(&mut self) -> io::Result<u64> {
        loop {
            if let Some(station) = &mut self.station
                && let Some(answer) = &mut station.answer
            {
                answer.send(&self.client).await?;
                if station.answer.take().is_some_and(|sent| sent.ends) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            if self.notices.is_empty() && self.station.is_none() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let request = tokio::select! {
                Some(notice) = self.notices.join_next() => {
                    return match notice {
                        Ok(Some(ticket)) => Ok(ticket),
                        _ => Err(io::ErrorKind::ConnectionAborted.into()),
                    };
                }
                request = requested(&mut self.station) => request.ok_or(io::ErrorKind::ConnectionAborted)?,
            };
            self.hear(&request)?;
        }
    }

    /// Asks the meter once a request is whole; its answer goes out next, under the same id.
    fn hear(&mut self, publish: &[u8]) -> io::Result<()> {
        let Some(station) = &mut self.station else { return Ok(()) };
        let Ok(fragment) = Fragment::new_checked(publish) else { return Ok(()) };
        let Some(frame) = station.assembly.take(&fragment) else { return Ok(()) };
        let reply = station.answering.answer(&mut station.session, &frame)?;
        let mut publishes = VecDeque::new();
        if let Some(push) = reply.pushed {
            let topic = self.target.topic.replace("{node}", &station.answering.node());
            publishes.push_back((topic, push, QoS::AtLeastOnce));
        }
        let cut = fragment::cut(fragment.id(), &reply.apdu, self.target.max_publish).unwrap_or_default();
        publishes.extend(cut.into_iter().map(|part| (station.topic.clone(), part, QoS::AtMostOnce)));
        station.answer =
            Some(Answer { due: time::Instant::now() + reply.delay, publishes, ends: reply.ends });
        Ok(())
    }
}

/// The next publish to the meter; for ever where it does not answer.
async fn requested(station: &mut Option<Station>) -> Option<Bytes> {
    match station {
        Some(station) => station.requests.recv().await,
        None => std::future::pending().await,
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

/// Turns the client's wheels until the connection ends. Tells when it is there, for one that listens when it does.
async fn drive(
    mut events: EventLoop,
    told: oneshot::Sender<()>,
    requested: mpsc::Sender<Bytes>,
    listening: bool,
) {
    let mut told = Some(told);
    loop {
        let ready = match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => !listening,
            Ok(Event::Incoming(Incoming::SubAck(_))) => true,
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let _lost_when_full = requested.try_send(publish.payload);
                false
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(%error, "broker connection ended");
                return;
            }
        };
        if ready {
            // Nobody may be waiting for the connection any more.
            let _gone = told.take().map(|told| told.send(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_any_more_goes_on_where_it_was() {
        // Nobody turns its wheels, so that it takes no more than it has room for.
        let room = 2;
        let (client, _events) =
            AsyncClient::builder(MqttOptions::new("meter", ("127.0.0.1", 1))).capacity(room).build();
        let begun = time::Instant::now();
        let publish = |number| ("answers".to_owned(), vec![number], QoS::AtMostOnce);
        let publishes = VecDeque::from([publish(1), publish(2), publish(3)]);
        let mut answer = Answer { due: begun + Duration::from_millis(20), publishes, ends: false };
        assert!(time::timeout(Duration::from_millis(1), answer.send(&client)).await.is_err());
        assert_eq!(answer.publishes.len(), 3, "it is not due");
        for _ in 0..2 {
            assert!(time::timeout(Duration::from_millis(60), answer.send(&client)).await.is_err());
            assert_eq!(answer.publishes, [publish(3)], "what did not go out is there still");
        }
    }
}
