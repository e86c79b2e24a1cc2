//! Sessions with meters: the thin shell around [`codec::session`]. It owns the line, the clock and what must be stored.
//!
//! One session a meter at a time, by a lease; who comes second is told that it is busy. Counters that requests are sent
//! with are reserved in the registry, and synced, before the first of them goes out. A push that comes in between goes
//! the way of every other push.

mod link;

pub use link::{LinkError, MeterLink};

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::apdu::{MethodDescriptor, SelectedAttribute};
use codec::axdr::Data;
use codec::cosem::india::association::{Association, READER, UTILITY};
use codec::security::Keys;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::security::keys::AssociationKeys;
use codec::session::client::{
    Answer, Authentication, CommandError, Config, Effect, Error, Event, OwnedData, Phase, Protection, Push,
    RANDOM_LEN, Timing,
};
use codec::session::india::IndianSession;
use model::{MeterId, Source};
use registry::{MeterAccess, Registry};

use crate::{Framing, Pipeline, Received};

/// How sessions are held.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// The first bytes of the head-end's system titles; the last one is the address of the client, because all clients
    /// of a meter have one key and a title has one counter.
    pub title: [u8; 7],
    /// How long a connection may take.
    pub connect: Duration,
    /// How long an answer is waited for.
    pub answer: Duration,
    /// How often a question is asked.
    pub tries: u8,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            title: *b"URJ\0\0\0\0",
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            tries: 3,
        }
    }
}

/// As whom a meter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The reader, with a password; cannot change anything.
    Reader,
    /// The utility client; writes and commands.
    Utility,
}

impl Client {
    const fn association(self) -> Association {
        match self {
            Client::Reader => READER,
            Client::Utility => UTILITY,
        }
    }
}

/// Why a session came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another session with this meter goes on.
    #[error("a session with meter {0} goes on; try again when it is over")]
    Busy(String),
    /// Nobody knows where the meter is.
    #[error("meter {0} has no address; import it with the column address, or say where it is")]
    NoAddress(String),
    /// The meter has no secret for this client.
    #[error("meter {meter} has no {what}; import it with the column {column}")]
    NoSecret {
        /// Its serial number.
        meter: String,
        /// What is missing.
        what: &'static str,
        /// Where it is imported.
        column: &'static str,
    },
    /// The line.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What was asked cannot be asked.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The meter refused, or did not answer.
    #[error("{error}")]
    Meter {
        /// What is wrong, in the meter's words where it had any.
        error: Error,
        /// Whether it may have done what was asked.
        effect: Effect,
    },
    /// The counters could not be reserved, so nothing was sent.
    #[error("counters cannot be reserved")]
    Registry(#[from] registry::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl SessionError {
    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Meter { error, .. } => Some(error.hint()),
            _ => None,
        }
    }

    /// Whether the meter may have done what was asked although it failed.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Meter { effect, .. } => *effect,
            _ => Effect::None,
        }
    }
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        Self::Meter { error, effect: Effect::None }
    }
}

/// Opens sessions; a clone is another handle.
#[derive(Clone)]
pub struct Sessions {
    registry: Registry,
    /// Where pushes go that come in between.
    pipeline: Option<Pipeline>,
    options: SessionOptions,
    leased: Arc<Mutex<HashSet<MeterId>>>,
}

impl Sessions {
    /// Sessions with the meters of `registry`.
    #[must_use]
    pub fn new(registry: Registry, pipeline: Option<Pipeline>, options: SessionOptions) -> Self {
        Self { registry, pipeline, options, leased: Arc::default() }
    }

    /// Dials a meter and opens an association as `client`; `to` is where, instead of what is registered.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn dial(
        &self,
        meter: &MeterAccess,
        client: Client,
        to: Option<&str>,
    ) -> Result<MeterSession, SessionError> {
        let lease = self.lease(meter)?;
        let to = to.or(meter.address.as_deref());
        let to = to.ok_or_else(|| SessionError::NoAddress(meter.serial.clone()))?;
        let link = MeterLink::dial(to, self.options.connect).await?;
        self.open(meter, client, link, lease).await
    }

    /// Opens an association over a line that is there: one that the meter dialled.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn over(
        &self,
        meter: &MeterAccess,
        client: Client,
        link: MeterLink,
    ) -> Result<MeterSession, SessionError> {
        let lease = self.lease(meter)?;
        self.open(meter, client, link, lease).await
    }

    fn lease(&self, meter: &MeterAccess) -> Result<Lease, SessionError> {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        if !leased.insert(meter.meter) {
            return Err(SessionError::Busy(meter.serial.clone()));
        }
        Ok(Lease { meter: meter.meter, leased: Arc::clone(&self.leased) })
    }

    async fn open(
        &self,
        meter: &MeterAccess,
        client: Client,
        link: MeterLink,
        lease: Lease,
    ) -> Result<MeterSession, SessionError> {
        let association = client.association();
        let config = self.config(meter, client)?;
        let bound = self.registry.send_bound(meter.meter, meter.key_epoch, association.client_sap).await?;
        let session = IndianSession::new(association, config, SendCounter::resume(bound));
        let mut open = MeterSession {
            session,
            link,
            start: Instant::now(),
            registry: self.registry.clone(),
            pipeline: self.pipeline.clone(),
            key_epoch: meter.key_epoch,
            client_sap: association.client_sap,
            lease,
        };
        let mut random = [0; RANDOM_LEN];
        getrandom::fill(&mut random).map_err(SessionError::Random)?;
        open.session.associate(&random)?;
        open.until(|event| match event {
            Event::Associated(_) => Some(Ok(())),
            _ => None,
        })
        .await?;
        Ok(open)
    }

    fn config(&self, meter: &MeterAccess, client: Client) -> Result<Config, SessionError> {
        let (secret, what, column) = match client {
            Client::Reader => (&meter.secrets.password, "password for the reader", "lls"),
            Client::Utility => (&meter.secrets.hls, "secret for the utility client", "hls"),
        };
        if secret.is_empty() {
            return Err(SessionError::NoSecret { meter: meter.serial.clone(), what, column });
        }
        let secret = Secret::new(secret.clone());
        let authentication = match client {
            Client::Reader => Authentication::Password(secret),
            Client::Utility => Authentication::Aes(secret),
        };
        let mut title = [0; 8];
        let (prefix, last) = title.split_at_mut(self.options.title.len());
        prefix.copy_from_slice(&self.options.title);
        last.copy_from_slice(&[client.association().client_sap]);
        let keys = AssociationKeys::new(Keys::new(meter.keys.guek, meter.keys.gak));
        Ok(Config {
            meter_title: Some(meter.title.0),
            timing: Timing { answer: self.options.answer, tries: self.options.tries },
            ..Config::ciphered(title, authentication, Protection::new(keys))
        })
    }
}

/// The right to talk to a meter; given back when dropped.
#[derive(Debug)]
struct Lease {
    meter: MeterId,
    leased: Arc<Mutex<HashSet<MeterId>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.meter);
    }
}

/// An open association.
pub struct MeterSession {
    session: IndianSession,
    link: MeterLink,
    start: Instant,
    registry: Registry,
    pipeline: Option<Pipeline>,
    key_epoch: u16,
    client_sap: u8,
    lease: Lease,
}

impl MeterSession {
    /// Reads an attribute, or a part of it.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn get(&mut self, attribute: SelectedAttribute<'_>) -> Result<OwnedData, SessionError> {
        self.session.client().get(attribute)?;
        match self.answer().await? {
            Answer::Value(value) => Ok(value),
            _ => Err(Error::Kind.into()),
        }
    }

    /// Writes an attribute.
    ///
    /// # Errors
    /// [`SessionError`]; its [`effect`](SessionError::effect) says whether it may have been written all the same.
    pub async fn set(
        &mut self,
        attribute: SelectedAttribute<'_>,
        value: Data<'_>,
    ) -> Result<(), SessionError> {
        self.session.client().set(attribute, value)?;
        self.answer().await.map(drop)
    }

    /// Invokes a method.
    ///
    /// # Errors
    /// [`SessionError`]; its [`effect`](SessionError::effect) says whether it may have been done all the same.
    pub async fn action(
        &mut self,
        method: MethodDescriptor,
        parameters: Option<Data<'_>>,
    ) -> Result<(), SessionError> {
        self.session.client().action(method, parameters)?;
        self.answer().await.map(drop)
    }

    /// Ends the association, as far as the meter lets it.
    pub async fn close(mut self) {
        if self.session.client().release().is_ok() {
            let _ = self.until(|_| None::<Result<(), SessionError>>).await;
        }
    }

    async fn answer(&mut self) -> Result<Answer, SessionError> {
        self.until(|event| match event {
            Event::Answered(_, answer) => Some(Ok(answer.clone())),
            Event::Failed { error, effect, .. } => {
                Some(Err(SessionError::Meter { error: *error, effect: *effect }))
            }
            _ => None,
        })
        .await
    }

    /// Drives the session until it tells what `wanted` takes, or it is over.
    async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&Event) -> Option<Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
                match event {
                    Event::Closed(error) => return Err(error.unwrap_or(Error::Closed).into()),
                    Event::Pushed(Push::Received(apdu)) => self.pushed(apdu).await,
                    Event::Resynchronised { next } => {
                        tracing::warn!(meter = self.lease.meter.0, next, "the sending counter was behind");
                    }
                    Event::Dropped(dropped) => {
                        tracing::warn!(meter = self.lease.meter.0, %dropped, "dropped in a session");
                    }
                    _ => {}
                }
            }
            if let Some(bound) = self.session.poll_reserve() {
                let Lease { meter, .. } = self.lease;
                self.registry.reserve_send(meter, self.key_epoch, self.client_sap, bound).await?;
                self.session.reserved(bound);
            }
            let mut sent = false;
            while let Some((client, apdu)) = self.session.poll_transmit(self.start.elapsed()) {
                sent = true;
                if self.link.send(client, &apdu).await.is_err() {
                    self.session.handle_disconnected();
                }
            }
            if sent {
                continue;
            }
            let Some(deadline) = self.session.poll_timeout() else {
                if matches!(self.session.phase(), Phase::Closed | Phase::Open) {
                    return Err(Error::Closed.into());
                }
                continue;
            };
            let wait = deadline.saturating_sub(self.start.elapsed());
            match tokio::time::timeout(wait, self.link.receive()).await {
                Ok(Ok((client, apdu))) => self.session.handle_apdu(client, &apdu),
                Ok(Err(_)) => self.session.handle_disconnected(),
                Err(_) => self.session.handle_timeout(self.start.elapsed()),
            }
        }
    }

    /// A push has the way of all pushes; without a confirm, for it came on a line of questions.
    async fn pushed(&self, apdu: Vec<u8>) {
        let Some(pipeline) = &self.pipeline else { return };
        let received = Received {
            source: Source::Tcp,
            received_at: pipeline.clock().now(),
            framing: Framing::Apdu,
            bytes: Bytes::from(apdu),
            identity: None,
        };
        if let Err(refused) = pipeline.submit(received).await {
            tracing::warn!(%refused, "a push that came in a session was not taken");
        }
    }

    /// Where the meter is, if the line knows.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.link.peer()
    }
}
