//! Sessions with meters: the thin shell around [`codec::session`]. It owns the line, the clock and what must be stored.
//!
//! One session a meter at a time, by a lease; who comes second is told that it is busy. Counters that requests are sent
//! with are reserved in the registry, and synced, before the first of them goes out. A push that comes in between goes
//! the way of every other push.
//!
//! The line is one that is dialled, or topics of a broker (`polls`), where it is known where the meter is; else one that the
//! meter opened (`lines`).

mod hdlc;
mod lines;
mod link;
mod polls;
mod relay;

use lines::Spoken;
pub(crate) use lines::{Line, Lines};
use link::Incoming;
pub use link::{LinkError, MeterLink};
use polls::Polls;
pub use polls::{NodeTopic, PollFraming, PollOptions, serve_polls};
pub use relay::{RelayMove, RelayState, shown};

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::apdu::acse::{Diagnostic, ServiceUser};
use codec::apdu::initiate::Conformance;
use codec::apdu::{AttributeDescriptor, MethodDescriptor, SYSTEM_TITLE_LEN, SelectedAttribute};
use codec::axdr::{Data, Value};
use codec::cosem::ClassId;
use codec::cosem::india::association::{Association, PUBLIC, READER, UTILITY};
use codec::cosem::india::identity::SERIAL_NUMBER;
use codec::hdlc::{Address, ClientLineOptions, Parameters};
use codec::security::Keys;
use codec::security::association::Protect;
use codec::security::counter::{RisingCounter, SendCounter};
use codec::security::hls::Secret;
use codec::security::keys::AssociationKeys;
use codec::session::client::{
    Answer, Authentication, CommandError, Config, Effect, Error, Event, OwnedData, Phase, Protection, Push,
    RANDOM_LEN, Timing,
};
use codec::session::india::IndianSession;
use model::{MeterId, SystemTitle};
use profiles::{ClockRule, Release, SessionRule, ZeroDeviation};
use registry::{Asking, HdlcAddress, Mechanism, MeterAccess, MeterFraming, Reader, Registry};

use crate::received::OpenedPush;
use crate::reply::ReturnPath;
use crate::{Framing, Pipeline, Received};

/// Longest APDU that is taken over a data link, bytes.
const MAX_APDU: usize = u16::MAX as usize;
/// How long a line that says nothing is waited for when it is asked who it is, in each framing: it is closed when it goes
/// on to say nothing.
const IDENTIFYING: Duration = Duration::from_secs(4);

/// How the clock of a meter is read whose type is not known.
const UNKNOWN_CLOCK: ClockRule = ClockRule { zero_deviation: ZeroDeviation::Flag };

/// How long a push that came in a session is waited for until it is durable.
const DURABLE: Duration = Duration::from_secs(5);

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
    /// Longest information of a frame that is asked for in HDLC, bytes.
    pub hdlc_max_info: u16,
    /// Frames of a window that are asked for in HDLC.
    pub hdlc_window: u8,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            title: *b"URJ\0\0\0\0",
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            tries: 3,
            hdlc_max_info: 512,
            hdlc_window: 1,
        }
    }
}

/// As whom a meter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Address of the client.
    pub sap: u8,
    /// How it proves who it is.
    pub mechanism: Mechanism,
}

impl Client {
    /// The public client, without any proof; sees clock, names and counters.
    pub const PUBLIC: Client = Client { sap: PUBLIC.client_sap, mechanism: Mechanism::None };
    /// The reader, with a password; cannot change anything.
    pub const READER: Client = Client { sap: READER.client_sap, mechanism: Mechanism::Password };
    /// The utility client, as in India; writes and commands.
    pub const UTILITY: Client = Client { sap: UTILITY.client_sap, mechanism: Mechanism::Aes };

    /// As whom a meter is registered to be asked.
    #[must_use]
    pub const fn registered(asking: &Asking) -> Client {
        Client { sap: asking.client, mechanism: asking.mechanism }
    }

    /// The client of this address: as the meter is registered where it is that one, else with the mechanism that the
    /// client has in India.
    #[must_use]
    pub const fn of(sap: u8, asking: &Asking) -> Client {
        match sap {
            _ if sap == asking.client => Client::registered(asking),
            16 => Client::PUBLIC,
            32 => Client::READER,
            _ => Client { sap, ..Client::UTILITY },
        }
    }

    /// Whether an answer to its challenge proves that the meter is there now.
    const fn challenges(self) -> bool {
        matches!(self.mechanism, Mechanism::Aes | Mechanism::Gmac)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = match self.mechanism {
            Mechanism::None => "without authentication",
            Mechanism::Password => "with a password (lls)",
            Mechanism::Aes => "with mechanism 2 (hls2)",
            Mechanism::Gmac => "with mechanism 5 (hls5)",
        };
        write!(f, "client {} {mechanism}", self.sap)
    }
}

/// Why a session came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another session with this meter goes on.
    #[error("a session with meter {0} goes on")]
    Busy(String),
    /// Nobody knows where the meter is.
    #[error("meter {0} has no address, and no connection that it opened is open")]
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
    /// Over a connection that anybody may have opened, a client without a challenge shows its password, or believes
    /// what it is told.
    #[error(
        "over a connection that meter {meter} opened nobody asks as {client}: nothing would prove who answers"
    )]
    NoChallenge {
        /// Its serial number.
        meter: String,
        /// As whom it should have been asked.
        client: Client,
    },
    /// The meter does not let this client in.
    #[error("as {client}: {error}")]
    NotLetIn {
        /// As whom it was asked.
        client: Client,
        /// What the meter said.
        error: Error,
    },
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
            Self::NotLetIn {
                error:
                    Error::Rejected {
                        diagnostic:
                            Some(Diagnostic::User(
                                ServiceUser::MechanismUnknown
                                | ServiceUser::MechanismRequired
                                | ServiceUser::AuthenticationRequired,
                            )),
                        ..
                    },
                ..
            } => Some(
                "this client has another mechanism on the meter: import it with the column mechanism (none, lls, hls2, \
                 hls5), or another client with the column client",
            ),
            Self::NotLetIn { error, .. } | Self::Meter { error, .. } => Some(error.hint()),
            Self::NoChallenge { .. } => Some(
                "ask as a client with hls2 or hls5, or import the address at which the meter can be dialled",
            ),
            Self::NoAddress(_) => Some(
                "import it with the column address, say where it is with --address, or wait until it dials the running \
                 head-end and has said who it is",
            ),
            Self::Link(LinkError::Connect { .. }) => Some(
                "check the address that it is registered with, and whether the meter is in reach and has power",
            ),
            Self::Link(LinkError::NoHdlc) => {
                Some("import the address at which it can be dialled over TCP, or framing = wrapper")
            }
            Self::Link(LinkError::NoBroker) => Some(
                "set mqtt.url or broker.listen, let `urja serve` run, and see in its log when meters can be asked over MQTT",
            ),
            Self::Busy(_) | Self::Link(LinkError::NodeBusy(_)) => Some("try again when it is over"),
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

    /// An association that came to nothing because the meter does not want it so; silence and broken lines are none.
    fn opening(self, client: Client) -> SessionError {
        match self {
            Self::Meter {
                error:
                    error @ (Error::Rejected { .. }
                    | Error::Service(_)
                    | Error::Exception(_)
                    | Error::NotAdmitted(_)
                    | Error::NoChallenge
                    | Error::Context(_)),
                ..
            } => Self::NotLetIn { client, error },
            other => other,
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
    lines: Lines,
    polls: Polls,
}

impl Sessions {
    /// Sessions with the meters of `registry`.
    #[must_use]
    pub fn new(registry: Registry, pipeline: Option<Pipeline>, options: SessionOptions) -> Self {
        Self {
            registry,
            pipeline,
            options,
            leased: Arc::default(),
            lines: Lines::default(),
            polls: Polls::default(),
        }
    }

    /// Opens an association to read, as the meter is registered to be asked: as the reader where that is said, and where
    /// it is said as the reader too if the meter does not let the other client in.
    ///
    /// # Errors
    /// [`SessionError`]; of the first client where both are not let in.
    pub async fn open_to_read(
        &self,
        meter: &MeterAccess,
        to: Option<&str>,
    ) -> Result<MeterSession, SessionError> {
        let client = match meter.asking.reader {
            Reader::Always => Client::READER,
            Reader::Never | Reader::Fallback => Client::registered(&meter.asking),
        };
        let refused = match self.open(meter, client, to).await {
            Err(refused @ SessionError::NotLetIn { .. }) if meter.asking.reader == Reader::Fallback => {
                refused
            }
            done => return done,
        };
        tracing::warn!(meter = meter.serial, %refused, "read as the meter reader instead");
        match self.open(meter, Client::READER, to).await {
            Ok(session) => Ok(MeterSession { instead: Some(refused), ..session }),
            Err(again) => {
                tracing::warn!(meter = meter.serial, %again, "and not let in as the meter reader either");
                Err(refused)
            }
        }
    }

    /// Opens an association as `client`: with the meter at `to`, else at the address it is registered with, else over a
    /// connection that it opened.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open(
        &self,
        meter: &MeterAccess,
        client: Client,
        to: Option<&str>,
    ) -> Result<MeterSession, SessionError> {
        let config = self.config(meter, client)?;
        let lease = self.lease(meter)?;
        match to.or(meter.address.as_deref()) {
            Some(to) => {
                let mut link = match to.strip_prefix("mqtt://") {
                    Some(node) => MeterLink::polled(self.polls.take_up(node)?),
                    None => MeterLink::dial(to, self.options.connect).await?,
                };
                if meter.asking.framing == MeterFraming::Hdlc {
                    link = link.in_hdlc(self.hdlc(registered_address(meter)))?;
                }
                self.associate(meter, client, config, link, Arc::new(lease)).await
            }
            None => self.over_lines(meter, client, &config, lease).await,
        }
    }

    /// Opens an association over the newest line of the meter; over an older one where that is a stranger's, or dead.
    async fn over_lines(
        &self,
        meter: &MeterAccess,
        client: Client,
        config: &Config,
        lease: Lease,
    ) -> Result<MeterSession, SessionError> {
        if !client.challenges() {
            return Err(SessionError::NoChallenge { meter: meter.serial.clone(), client });
        }
        let lease = Arc::new(lease);
        let mut failed = SessionError::NoAddress(meter.serial.clone());
        for line in self.lines.of(meter.meter) {
            let Some(held) = line.take_up() else { return Err(SessionError::Busy(meter.serial.clone())) };
            let link = MeterLink::held(held);
            // What it was heard to speak goes before what was said of it.
            let link = match (line.spoken(), meter.asking.framing) {
                (Some(Spoken::Hdlc(address)), _) => link.in_hdlc(self.hdlc(address))?,
                (None, MeterFraming::Hdlc) => link.in_hdlc(self.hdlc(registered_address(meter)))?,
                (Some(Spoken::Wrapper), _) | (None, MeterFraming::Wrapper) => link,
            };
            match self.associate(meter, client, config.clone(), link, Arc::clone(&lease)).await {
                Ok(session) => {
                    self.lines.register(meter.meter, &line, true);
                    return Ok(session);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The lines that meters opened.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The meters that are asked over a broker.
    pub(super) fn polls(&self) -> &Polls {
        &self.polls
    }

    /// How long an answer is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.options.answer
    }

    /// How HDLC is spoken with a meter of this address.
    fn hdlc(&self, server: Address) -> ClientLineOptions {
        let SessionOptions { answer: timeout, tries, hdlc_max_info, hdlc_window, .. } = self.options;
        let parameters = Parameters {
            max_info_transmit: hdlc_max_info,
            max_info_receive: hdlc_max_info,
            window_transmit: hdlc_window,
            window_receive: hdlc_window,
        };
        // The session above gives up first, so that it can say what came of its question.
        ClientLineOptions { server, parameters, timeout, retries: tries, max_apdu: MAX_APDU }
    }

    /// Asks who is behind a line that says nothing, as public client: that proves nothing, and shows nothing of ours. First
    /// in the wrapper, then in HDLC.
    pub(crate) async fn identify(&self, line: Arc<Line>) {
        let Some(held) = line.take_up() else { return };
        let mut meter = self.asked_who(MeterLink::held(held)).await;
        if meter.is_none() && line.spoken() != Some(Spoken::Wrapper) {
            let Some(held) = line.take_up() else { return };
            let Ok(link) = MeterLink::held(held).in_hdlc(self.hdlc(Address::MANAGEMENT)) else { return };
            meter = self.asked_who(link).await;
        }
        if let Some(meter) = meter {
            tracing::debug!(meter = meter.0, "a meter that dialled in says who it is");
            self.lines.register(meter, &line, false);
        }
    }

    async fn asked_who(&self, link: MeterLink) -> Option<MeterId> {
        let timing = Timing { answer: self.options.answer.min(IDENTIFYING), tries: 1 };
        let config = Config { timing, ..Config::public([0; SYSTEM_TITLE_LEN]) };
        let session = IndianSession::new(PUBLIC, config, SendCounter::resume(0));
        let mut open = MeterSession::new(session, link, None, None);
        open.associate().await.ok()?;
        let serial = AttributeDescriptor { class: ClassId(1), instance: SERIAL_NUMBER, attribute: 2 };
        let serial = open.get(SelectedAttribute::whole(serial)).await;
        open.close().await;
        let serial = serial.ok()?;
        let (Value::OctetString(serial) | Value::VisibleString(serial)) = serial.data().value() else {
            return None;
        };
        let serial = std::str::from_utf8(serial).ok()?;
        let found = self.registry.meter_access(serial).await.ok()??;
        (found.serial == serial).then_some(found.meter)
    }

    fn lease(&self, meter: &MeterAccess) -> Result<Lease, SessionError> {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        if !leased.insert(meter.meter) {
            return Err(SessionError::Busy(meter.serial.clone()));
        }
        Ok(Lease { meter: meter.meter, leased: Arc::clone(&self.leased) })
    }

    async fn associate(
        &self,
        meter: &MeterAccess,
        client: Client,
        config: Config,
        link: MeterLink,
        lease: Arc<Lease>,
    ) -> Result<MeterSession, SessionError> {
        let association = Association::of_client(client.sap);
        let books = Books {
            registry: self.registry.clone(),
            meter: meter.meter,
            key_epoch: meter.key_epoch,
            client_sap: client.sap,
            keeps_received: client.mechanism == Mechanism::Password,
            _lease: lease,
        };
        let mut config = config;
        if config.protection.is_some() && self.rule(meter).general && link.takes_general() {
            config.conformance = config.conformance.union(Conformance::GENERAL_PROTECTION);
        }
        if link.takes_blocks() {
            config = config.in_blocks(meter.asking.block_window);
        }
        if let Some(protection) = config.protection.as_mut().filter(|_| books.keeps_received)
            && let Some(last) = books.received().await?
        {
            protection.received = RisingCounter::after(last);
        }
        if link.repeats() {
            // Beneath it is asked again, so that above nothing has to be sent twice.
            let timing = &mut config.timing;
            *timing = Timing { answer: timing.answer * u32::from(timing.tries), tries: 1 };
        }
        let session = IndianSession::new(association, config, SendCounter::resume(books.bound().await?));
        let mut open = MeterSession::new(session, link, self.pipeline.clone(), Some(books));
        let profile = self.pipeline.as_ref().and_then(|pipeline| pipeline.profile(&meter.profile));
        open.clock = profile.map_or(UNKNOWN_CLOCK, |profile| profile.clock);
        open.associate().await.map_err(|error| error.opening(client))?;
        Ok(open)
    }

    fn config(&self, meter: &MeterAccess, client: Client) -> Result<Config, SessionError> {
        let secret = |secret: &Vec<u8>, what, column| match secret.is_empty() {
            true => Err(SessionError::NoSecret { meter: meter.serial.clone(), what, column }),
            false => Ok(Secret::new(secret.clone())),
        };
        let (secrets, rule) = (&meter.secrets, self.rule(meter));
        let authentication = match client.mechanism {
            Mechanism::None => Authentication::None,
            Mechanism::Password => {
                Authentication::Password(secret(&secrets.password, "password for the reader", "lls")?)
            }
            Mechanism::Aes => {
                Authentication::Aes(secret(&secrets.hls, "secret for the utility client", "hls")?)
            }
            Mechanism::Gmac => Authentication::Gmac,
        };
        let mut title = [0; 8];
        let (prefix, last) = title.split_at_mut(self.options.title.len());
        prefix.copy_from_slice(&self.options.title);
        last.copy_from_slice(&[client.sap]);
        let keys = AssociationKeys::new(Keys::new(meter.keys.guek, meter.keys.gak));
        let config = match authentication {
            Authentication::None if client.sap == PUBLIC.client_sap => Config::public(title),
            Authentication::None => Config::plain(title),
            authentication => {
                let protect = match rule.protection {
                    profiles::Protection::Authenticated => Protect::Authenticated,
                    profiles::Protection::Encrypted => Protect::AuthenticatedEncrypted,
                };
                let dedicated = rule.dedicated_key;
                let protection = Protection { protect, dedicated, ..Protection::new(keys) };
                Config::ciphered(title, authentication, protection)
            }
        };
        let SessionRule { release, max_pdu, .. } = rule;
        let release_ciphered = release == Release::Ciphered;
        let timing = Timing { answer: self.options.answer, tries: self.options.tries };
        Ok(Config { meter_title: Some(meter.title.0), timing, release_ciphered, max_pdu, ..config })
    }

    /// What meters of its type ask of a session; what Indian ones do with where the profiles are not at hand.
    fn rule(&self, meter: &MeterAccess) -> SessionRule {
        let profile = self.pipeline.as_ref().and_then(|pipeline| pipeline.profile(&meter.profile));
        profile.map_or_else(SessionRule::default, |profile| profile.session)
    }
}

/// Where a meter is registered to be in HDLC.
fn registered_address(meter: &MeterAccess) -> Address {
    let HdlcAddress { logical, physical } = meter.asking.hdlc_address;
    hdlc::address(logical, physical)
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

/// Counters that are used with a meter, and the right to use them.
struct Books {
    registry: Registry,
    meter: MeterId,
    key_epoch: u16,
    client_sap: u8,
    /// No challenge makes an answer fresh: the meter's counter does, and has to be remembered.
    keeps_received: bool,
    _lease: Arc<Lease>,
}

impl Books {
    async fn bound(&self) -> Result<u32, SessionError> {
        Ok(self.registry.send_bound(self.meter, self.key_epoch, self.client_sap).await?)
    }

    async fn received(&self) -> Result<Option<u32>, SessionError> {
        Ok(self.registry.received(self.meter, self.key_epoch, self.client_sap).await?)
    }

    /// What was accepted up to this counter can never come again, once this is back.
    async fn keep(&self, received: RisingCounter) -> Result<(), SessionError> {
        let Some(last) = received.last().filter(|_| self.keeps_received) else { return Ok(()) };
        Ok(self.registry.keep_received(self.meter, self.key_epoch, self.client_sap, last).await?)
    }

    async fn reserve(&self, bound: u32) -> Result<(), SessionError> {
        Ok(self.registry.reserve_send(self.meter, self.key_epoch, self.client_sap, bound).await?)
    }
}

/// An open association.
pub struct MeterSession {
    session: IndianSession,
    link: MeterLink,
    start: Instant,
    pipeline: Option<Pipeline>,
    /// None of the public client, who has no counters.
    books: Option<Books>,
    /// Why the meter is asked as the reader, where it should have been another client.
    instead: Option<SessionError>,
    /// Where the receipt of what came last goes, if it is a push.
    path: Option<ReturnPath>,
    /// How the meter's clock is read.
    clock: ClockRule,
}

impl MeterSession {
    fn new(
        session: IndianSession,
        link: MeterLink,
        pipeline: Option<Pipeline>,
        books: Option<Books>,
    ) -> MeterSession {
        MeterSession {
            session,
            link,
            start: Instant::now(),
            pipeline,
            books,
            instead: None,
            path: None,
            clock: UNKNOWN_CLOCK,
        }
    }

    /// Opens the association. The proof in it is sent once, so where answers may get lost all of it is done again.
    async fn associate(&mut self) -> Result<(), SessionError> {
        for _ in 1..self.link.associations() {
            match self.associate_once().await {
                Err(SessionError::Meter { error: Error::Timeout { .. }, .. }) => {}
                done => return done,
            }
        }
        self.associate_once().await
    }

    async fn associate_once(&mut self) -> Result<(), SessionError> {
        let mut random = [0; RANDOM_LEN];
        getrandom::fill(&mut random).map_err(SessionError::Random)?;
        self.session.associate(&random)?;
        self.until(|event| match event {
            Event::Associated(_) => Some(Ok(())),
            _ => None,
        })
        .await?;
        self.keep_received().await
    }

    /// Before what came is used: after a crash it must not pass for new.
    async fn keep_received(&mut self) -> Result<(), SessionError> {
        let received = self.session.client().received();
        match &self.books {
            Some(books) => books.keep(received).await,
            None => Ok(()),
        }
    }

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
        self.link.part().await;
    }

    async fn answer(&mut self) -> Result<Answer, SessionError> {
        let answer = self
            .until(|event| match event {
                Event::Answered(_, answer) => Some(Ok(answer.clone())),
                Event::Failed { error, effect, .. } => {
                    Some(Err(SessionError::Meter { error: *error, effect: *effect }))
                }
                _ => None,
            })
            .await?;
        self.keep_received().await?;
        Ok(answer)
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
                    Event::Pushed(push) => self.pushed(push).await,
                    Event::Resynchronised { next } => {
                        tracing::warn!(meter = self.meter(), next, "the sending counter was behind");
                    }
                    Event::Dropped(dropped) => {
                        tracing::warn!(meter = self.meter(), %dropped, "dropped in a session");
                    }
                    _ => {}
                }
            }
            if let Some(bound) = self.session.poll_reserve() {
                if let Some(books) = &self.books {
                    books.reserve(bound).await?;
                }
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
                Ok(Ok(Incoming { client, apdu, path, receipts })) => {
                    self.path = path;
                    (0..receipts).for_each(|_| self.session.receipt_sent());
                    self.session.handle_apdu(client, &apdu);
                }
                Ok(Err(_)) => self.session.handle_disconnected(),
                Err(_) => self.session.handle_timeout(self.start.elapsed()),
            }
        }
    }

    /// The meter, for the log.
    fn meter(&self) -> Option<u32> {
        self.books.as_ref().map(|books| books.meter.0)
    }

    /// A push has the way of all pushes, and as there its confirm goes out once it is durable. The question that it came
    /// before waits so long. What was under the dedicated key of the session was opened and judged by it, and is the meter's
    /// that the session is with.
    async fn pushed(&mut self, push: Push) {
        let path = self.path.take();
        let (identity, asked) =
            (self.identity(), self.session.client().config().meter_title.map(SystemTitle));
        let Some(pipeline) = &self.pipeline else { return };
        let (source, received_at) = (self.link.source(), pipeline.clock().now());
        let submitted = async {
            match (push, asked) {
                (Push::Opened(apdu), Some(title)) => {
                    Some(pipeline.submit_opened(OpenedPush { source, received_at, title, apdu }).await)
                }
                // No session of ours has a key and does not know whose.
                (Push::Opened(_), None) => None,
                (Push::Received(apdu), _) => {
                    let (framing, bytes) = (Framing::Apdu, Bytes::from(apdu));
                    Some(pipeline.submit(Received { source, received_at, framing, bytes, identity }).await)
                }
            }
        };
        // Where frames are not taken, what was asked must not wait for it: the meter sends it again.
        let Ok(Some(submitted)) = tokio::time::timeout(DURABLE, submitted).await else { return };
        let ticket = match submitted {
            Ok(ticket) => ticket,
            Err(refused) => {
                tracing::warn!(%refused, "a push that came in a session was not taken");
                return;
            }
        };
        // Without a confirm the meter sends it again, and it is known then.
        let Ok(Ok(acked)) = tokio::time::timeout(DURABLE, ticket).await else { return };
        let Some((push, path)) = acked.confirm.zip(path) else { return };
        self.session.receipt_sent();
        if self.link.confirm(push, path).await.is_err() {
            self.session.handle_disconnected();
        }
    }

    /// The meter that the line belongs to, where its keys have shown that it is the one behind it.
    fn identity(&mut self) -> Option<SystemTitle> {
        let config = self.session.client().config();
        let title = config.meter_title.filter(|_| config.protection.is_some() && self.link.is_of_one_meter());
        title.filter(|_| !matches!(self.session.phase(), Phase::Closed | Phase::Opening)).map(SystemTitle)
    }

    /// Why the meter is asked as the reader, where it should have been as another client.
    #[must_use]
    pub const fn instead(&self) -> Option<&SessionError> {
        self.instead.as_ref()
    }

    /// Where the meter is, if the line knows.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.link.peer()
    }
}
