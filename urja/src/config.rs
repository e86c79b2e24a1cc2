//! Configuration: one TOML file, read strictly; flag over environment over file over default.
//!
//! An unknown key, a wrong type or a value out of range is refused with file, line and key. Environment variables are
//! `URJA_SECTION__KEY`, for example `URJA_LISTEN__TCP=0.0.0.0:4059`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use ingest::SessionOptions;
use ingest::supply::{Budget, SupplyOptions};
use model::{Calendar, Ppm};
use profiles::Profile;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The commented file with every key; also what `urja config example` prints.
pub const EXAMPLE: &str = include_str!("../../urja.example.toml");

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where data is kept.
    pub data: Data,
    /// Zone and clock.
    pub time: Time,
    /// TCP and UDP listeners for meters.
    pub listen: Listen,
    /// MQTT.
    pub mqtt: Mqtt,
    /// How much is kept of frames that prove nothing.
    pub quarantine: Quarantine,
    /// The embedded MQTT broker.
    pub broker: Broker,
    /// The journal.
    pub journal: Journal,
    /// Delta tables.
    pub lake: Lake,
    /// When days are booked.
    pub billing: Billing,
    /// SQL limits.
    pub query: Query,
    /// Pages and SQL over HTTP.
    pub http: Http,
    /// Health and metrics.
    pub health: Health,
    /// Where the key that wraps meter keys comes from.
    pub keys: Keys,
    /// Sessions with meters.
    pub session: Session,
    /// Types of meters besides the built-in ones.
    pub profiles: Profiles,
    /// What may be switched.
    pub relay: Relay,
    /// Logs.
    pub log: Log,
}

/// Section `data`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Directory of this partition.
    pub dir: PathBuf,
}

/// Section `time`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// IANA zone of the utility.
    pub zone: String,
    /// Where "now" comes from.
    pub clock: ClockSource,
}

/// Where "now" comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// The machine's clock.
    System,
    /// Moves only by a request on the admin socket.
    Driven,
}

/// Section `listen`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// TCP address, empty for none.
    pub tcp: Address,
    /// UDP address, empty for none.
    pub udp: Address,
    /// Connections at most.
    pub max_connections: usize,
    /// Connections of one address at most.
    pub max_connections_per_address: usize,
    /// Longest APDU taken, bytes.
    pub max_apdu: ByteSize,
    /// A connection that sends nothing is asked after this time who it is; zero: never.
    pub identify_after: Span,
    /// A connection that sends nothing at all is closed after this time.
    pub first_byte_timeout: Span,
    /// A frame that is begun must be whole within this time.
    pub frame_timeout: Span,
    /// A connection without traffic is closed after this time.
    pub idle_timeout: Span,
    /// Frames of one connection that may wait for their sync.
    pub max_unacknowledged: usize,
}

/// Section `mqtt`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `mqtt://host:port` or `mqtts://host:port`, empty for none.
    pub url: String,
    /// Client id; the session is kept under it.
    pub client_id: String,
    /// Topic filters to subscribe to.
    pub topics: Vec<String>,
    /// What a publish carries.
    pub framing: Framing,
    /// User name, empty for none.
    pub username: String,
    /// Password.
    pub password: String,
    /// Publishes the broker may have in flight to us.
    pub receive_maximum: u16,
    /// How long the broker keeps our session while we are away.
    pub session_expiry: Span,
    /// Topic of requests to a meter, with `{node}` for its node; empty: meters are not asked over MQTT.
    pub request_topic: String,
    /// Topic of their answers, with `{node}`.
    pub response_topic: String,
    /// What a publish of a request or an answer carries.
    pub request_framing: RequestFraming,
    /// Longest publish of a request in fragments.
    pub request_publish: ByteSize,
}

/// Section `broker`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// Address of the embedded broker, empty for none.
    pub listen: Address,
    /// User name that every client gives; empty: clients of this machine come in without.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Connections at most.
    pub max_connections: usize,
    /// Messages kept for a subscriber that is away.
    pub max_queued: usize,
}

/// What an MQTT publish carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Wrapper header and APDU.
    Wrapper,
    /// A bare APDU.
    Apdu,
}

/// What a publish of a request or an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestFraming {
    /// Fragments of a frame in the wrapper, with an id that the answer repeats.
    Fragments,
    /// Wrapper header and APDU.
    Wrapper,
}

/// Section `journal`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Size of a segment file.
    pub segment: ByteSize,
    /// How long sealed segments stay.
    pub keep: Span,
    /// How many bytes of sealed segments stay at most.
    pub keep_bytes: ByteSize,
    /// Space held back so that recharges get through when the disk is full.
    pub reserve: ByteSize,
    /// Most bytes in one group.
    pub group: ByteSize,
    /// Frames that may wait for the journal.
    pub queue_frames: usize,
}

/// Section `quarantine`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// Bytes at once.
    pub burst: ByteSize,
    /// Bytes a day after that.
    pub per_day: ByteSize,
    /// Frames at once that claim one title.
    pub title_burst: u32,
    /// Frames an hour after that.
    pub title_per_hour: u32,
}

/// Section `lake`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// Longest time between commits.
    pub commit_every: Span,
    /// Hot buffer size that brings a commit forward.
    pub commit_bytes: ByteSize,
}

/// Section `billing`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Billing {
    /// Wall-clock time of the next day at which a day is booked.
    pub close_at: String,
    /// Days for which late data is charged.
    pub late_days: u16,
}

/// Section `query`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Memory for all statements together.
    pub memory: ByteSize,
    /// Longest time for one statement.
    pub timeout: Span,
    /// Rows of one answer at most.
    pub max_rows: usize,
    /// Statements at once.
    pub max_statements: usize,
}

/// Section `http`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address of pages and SQL, empty for none. Loopback, unless `public` is set.
    pub listen: Address,
    /// Allow an address that others can reach: there is no sign-in yet.
    pub public: bool,
    /// The consumer's card without sign-in, for demonstrations on loopback.
    pub demo: bool,
    /// Connections of one door at most.
    pub max_connections: usize,
    /// Connections of one address at most.
    pub max_connections_per_address: usize,
    /// The head of a request must be whole within this time.
    pub header_timeout: Span,
    /// A connection that takes nothing of an answer is closed after this time.
    pub write_timeout: Span,
}

/// Section `health`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Address of `/health/livez`, `/health/readyz` and `/metrics`, empty for none.
    pub listen: Address,
}

/// Section `keys`.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The key-encryption key, 64 hexadecimal digits; empty for the file `kek` in the data directory.
    pub kek: String,
}

/// Section `session`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// First seven bytes of the head-end's system titles; the eighth is the address of the client.
    pub system_title: Title,
    /// How long a connection to a meter may take.
    pub connect_timeout: Span,
    /// How long an answer is waited for.
    pub answer_timeout: Span,
    /// How often a question is asked.
    pub tries: u8,
    /// Longest information of a frame that is asked for in HDLC, bytes.
    pub hdlc_max_info: u16,
    /// Frames of a window that are asked for in HDLC.
    pub hdlc_window: u8,
}

/// Section `profiles`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// Directory of profiles; empty for none.
    pub dir: PathBuf,
}

/// Section `relay`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Whether a meter may be cut at all.
    pub enabled: bool,
    /// Time between rounds of cuts and of reconnections that were missed.
    pub every: Span,
    /// How long a ticket for a cut may be sent.
    pub ticket: Span,
    /// Cuts that are under way at once.
    pub cuts_at_once: usize,
    /// Reconnections that are under way at once.
    pub reconnections_at_once: usize,
    /// A reconnection that takes longer is told as late.
    pub late: Span,
    /// Share of all accounts that may be cut in an hour, parts per million.
    pub fleet_ppm_an_hour: i64,
    /// Share of all accounts that may be cut in 24 hours, parts per million.
    pub fleet_ppm_a_day: i64,
    /// Share of the accounts of a transformer that may be cut in an hour, parts per million.
    pub transformer_ppm_an_hour: i64,
    /// What goes out to a meter in 24 hours before it is cut again.
    pub meter_a_day: u64,
    /// Share of meters silent for a day above which nobody is cut, parts per million.
    pub silent_ppm: i64,
}

/// Section `log`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Filter, for example `info` or `info,ingest=debug`.
    pub filter: String,
    /// Form of the lines on standard error.
    pub format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: PathBuf::from("urja-data") }
    }
}

impl Default for Time {
    fn default() -> Self {
        Time { zone: "Asia/Kolkata".into(), clock: ClockSource::System }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            tcp: Address::loopback(4059),
            udp: Address::loopback(4059),
            max_connections: 10_000,
            max_connections_per_address: 5_000,
            max_apdu: ByteSize::kib(64),
            identify_after: Span::seconds(3),
            first_byte_timeout: Span::seconds(15),
            frame_timeout: Span::seconds(30),
            idle_timeout: Span::seconds(600),
            max_unacknowledged: 1024,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            url: String::new(),
            client_id: "urja".into(),
            topics: vec!["Normal_Push/+".into(), "Event_push/+".into()],
            framing: Framing::Wrapper,
            username: String::new(),
            password: String::new(),
            receive_maximum: 1024,
            session_expiry: Span::seconds(7 * 86_400),
            request_topic: "PollRequest/{node}".into(),
            response_topic: "PollResponse/{node}".into(),
            request_framing: RequestFraming::Fragments,
            request_publish: ByteSize::kib(1),
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Broker {
            listen: Address(None),
            username: String::new(),
            password: String::new(),
            max_connections: 1000,
            max_queued: 10_000,
        }
    }
}

/// Never shows the password.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            segment: ByteSize::mib(64),
            keep: Span::seconds(7 * 86_400),
            keep_bytes: ByteSize::gib(16),
            reserve: ByteSize::mib(4),
            group: ByteSize::mib(4),
            queue_frames: 16_384,
        }
    }
}

impl Default for Quarantine {
    fn default() -> Self {
        Quarantine {
            burst: ByteSize::mib(8),
            per_day: ByteSize::gib(2),
            title_burst: 256,
            title_per_hour: 60,
        }
    }
}

impl Default for Lake {
    fn default() -> Self {
        Lake { commit_every: Span::seconds(30), commit_bytes: ByteSize::mib(128) }
    }
}

impl Default for Billing {
    fn default() -> Self {
        Billing { close_at: "06:00".into(), late_days: 45 }
    }
}

impl Default for Query {
    fn default() -> Self {
        Query { memory: ByteSize::gib(1), timeout: Span::seconds(30), max_rows: 1_000_000, max_statements: 8 }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: Address::loopback(8080),
            public: false,
            demo: false,
            max_connections: 1024,
            max_connections_per_address: 256,
            header_timeout: Span::seconds(10),
            write_timeout: Span::seconds(30),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Health { listen: Address::loopback(9090) }
    }
}

/// Never shows the key.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Default for Session {
    fn default() -> Self {
        let SessionOptions { title, connect, answer, tries, hdlc_max_info, hdlc_window } =
            SessionOptions::default();
        Session {
            system_title: Title(title),
            connect_timeout: Span(connect),
            answer_timeout: Span(answer),
            tries,
            hdlc_max_info,
            hdlc_window,
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        let SupplyOptions { cuts, every, ticket_s, cuts_at_once, reconnections_at_once, late_s, budget } =
            SupplyOptions::default();
        let Budget { fleet_an_hour, fleet_a_day, transformer_an_hour, meter_a_day, silent } = budget;
        Relay {
            enabled: cuts,
            every: Span(every),
            ticket: Span(Duration::from_secs(ticket_s.unsigned_abs())),
            cuts_at_once,
            reconnections_at_once,
            late: Span(Duration::from_secs(late_s.unsigned_abs())),
            fleet_ppm_an_hour: fleet_an_hour.0,
            fleet_ppm_a_day: fleet_a_day.0,
            transformer_ppm_an_hour: transformer_an_hour.0,
            meter_a_day,
            silent_ppm: silent.0,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into(), format: LogFormat::Text }
    }
}

impl Config {
    /// Reads `file` where one is given, then the environment, then `flags` (dotted key and value).
    ///
    /// # Errors
    /// Names the file and line, the variable or the flag, and the key.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Config> {
        let mut table = match file {
            Some(path) => read_file(path)?,
            None => toml::Table::new(),
        };
        for (name, value) in std::env::vars() {
            if let Some((section, key)) = variable(&name) {
                set(&mut table, &section, &key, &value)
                    .with_context(|| format!("environment variable {name}"))?;
            }
        }
        for (dotted, value) in flags {
            let (section, key) = dotted.split_once('.').context("a flag stands for section.key")?;
            set(&mut table, section, key, value).with_context(|| format!("flag for {dotted}"))?;
        }
        let config: Config = table.try_into().context("configuration")?;
        config.check()?;
        Ok(config)
    }

    /// The calendar of the utility's zone.
    ///
    /// # Errors
    /// When the zone is unknown.
    pub fn calendar(&self) -> Result<Calendar> {
        Calendar::new(&self.time.zone).context("key time.zone")
    }

    /// Hour and minute at which a day is booked.
    ///
    /// # Errors
    /// When `billing.close_at` is no time of day.
    pub fn close_at(&self) -> Result<(i8, i8)> {
        let time: jiff::civil::Time =
            self.billing.close_at.parse().context("key billing.close_at: not a time such as \"06:00\"")?;
        Ok((time.hour(), time.minute()))
    }

    /// The types of meters: built-in ones, and those of the directory.
    ///
    /// # Errors
    /// Names the file, and in it line and key.
    pub fn profiles(&self) -> Result<Vec<Profile>> {
        if self.profiles.dir.as_os_str().is_empty() {
            return Ok(Profile::builtin());
        }
        Profile::load(&self.profiles.dir).context("key profiles.dir")
    }

    /// How sessions with meters are held.
    #[must_use]
    pub fn session_options(&self) -> SessionOptions {
        let Session { system_title, connect_timeout, answer_timeout, tries, hdlc_max_info, hdlc_window } =
            &self.session;
        SessionOptions {
            title: system_title.0,
            connect: connect_timeout.0,
            answer: answer_timeout.0,
            tries: *tries,
            hdlc_max_info: *hdlc_max_info,
            hdlc_window: *hdlc_window,
        }
    }

    /// How supply is switched.
    #[must_use]
    pub fn supply_options(&self) -> SupplyOptions {
        let relay = &self.relay;
        let seconds = |span: Span| i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
        SupplyOptions {
            cuts: relay.enabled,
            every: relay.every.0,
            ticket_s: seconds(relay.ticket),
            cuts_at_once: relay.cuts_at_once,
            reconnections_at_once: relay.reconnections_at_once,
            late_s: seconds(relay.late),
            budget: Budget {
                fleet_an_hour: Ppm(relay.fleet_ppm_an_hour),
                fleet_a_day: Ppm(relay.fleet_ppm_a_day),
                transformer_an_hour: Ppm(relay.transformer_ppm_an_hour),
                meter_a_day: relay.meter_a_day,
                silent: Ppm(relay.silent_ppm),
            },
        }
    }

    fn check_relay(&self) -> Result<()> {
        let relay = &self.relay;
        ensure!(!relay.every.0.is_zero(), "key relay.every: more than no time at all");
        ensure!(
            (60..=900).contains(&relay.ticket.0.as_secs()),
            "key relay.ticket: from one minute to 15, for what it was decided on grows old"
        );
        for (key, count) in [
            ("relay.cuts_at_once", relay.cuts_at_once),
            ("relay.reconnections_at_once", relay.reconnections_at_once),
        ] {
            ensure!((1..=10_000).contains(&count), "key {key}: from 1 to 10000");
        }
        for (key, share) in [
            ("relay.fleet_ppm_an_hour", relay.fleet_ppm_an_hour),
            ("relay.fleet_ppm_a_day", relay.fleet_ppm_a_day),
            ("relay.transformer_ppm_an_hour", relay.transformer_ppm_an_hour),
            ("relay.silent_ppm", relay.silent_ppm),
        ] {
            ensure!((0..=1_000_000).contains(&share), "key {key}: from 0 to 1000000 parts of a million");
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.calendar()?;
        self.close_at()?;
        let open = self.http.listen.0.filter(|address| !address.ip().is_loopback());
        if let Some(address) = open {
            ensure!(
                self.http.public,
                "key http.listen: {address} can be reached by others and there is no sign-in; set http.public = true \
                 if that is meant"
            );
            ensure!(
                !self.http.demo,
                "key http.demo: the consumer's card without sign-in is for loopback only"
            );
        }
        self.check_broker()?;
        self.check_relay()?;
        self.profiles()?;
        ensure!(self.billing.late_days <= 45, "key billing.late_days: at most 45");
        ensure!(
            self.listen.max_apdu.as_u64() <= 65_535 + 1,
            "key listen.max_apdu: a wrapper carries at most 64KiB"
        );
        ensure!(self.session.tries > 0, "key session.tries: at least 1");
        ensure!(
            (32..=2030).contains(&self.session.hdlc_max_info),
            "key session.hdlc_max_info: from 32 to 2030 bytes"
        );
        ensure!((1..=7).contains(&self.session.hdlc_window), "key session.hdlc_window: from 1 to 7");
        for (key, span) in [
            ("session.connect_timeout", self.session.connect_timeout),
            ("session.answer_timeout", self.session.answer_timeout),
        ] {
            ensure!(!span.0.is_zero(), "key {key}: more than no time at all");
        }
        ensure!(self.listen.max_unacknowledged > 0, "key listen.max_unacknowledged: at least 1");
        for (key, connections) in [
            ("listen.max_connections", self.listen.max_connections),
            ("listen.max_connections_per_address", self.listen.max_connections_per_address),
            ("http.max_connections", self.http.max_connections),
            ("http.max_connections_per_address", self.http.max_connections_per_address),
        ] {
            ensure!(connections > 0, "key {key}: at least 1");
        }
        ensure!(
            self.journal.segment.as_u64() >= self.journal.group.as_u64() + (4 << 20),
            "key journal.segment: at least 4MiB more than journal.group"
        );
        Ok(())
    }

    fn check_broker(&self) -> Result<()> {
        let Some(address) = self.broker.listen.0 else { return Ok(()) };
        ensure!(
            cfg!(feature = "broker"),
            "key broker.listen: this binary was built without the feature `broker`"
        );
        let Broker { username, password, max_connections, .. } = &self.broker;
        ensure!(
            username.is_empty() == password.is_empty(),
            "keys broker.username and broker.password: both or none"
        );
        ensure!(
            address.ip().is_loopback() || !username.is_empty(),
            "key broker.listen: {address} can be reached by others; set broker.username and broker.password"
        );
        ensure!(*max_connections > 0, "key broker.max_connections: at least 1");
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Err(error) = toml::from_str::<Config>(&text) {
        bail!("{}: {error}", path.display());
    }
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// `URJA_LISTEN__TCP` names key `tcp` of section `listen`; variables without two underscores are for other uses.
fn variable(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix("URJA_")?.split_once("__")?;
    Some((section.to_lowercase(), key.to_lowercase()))
}

/// Puts a value given as text in place: as the type the key has by default.
fn set(table: &mut toml::Table, section: &str, key: &str, text: &str) -> Result<()> {
    let defaults = toml::Table::try_from(Config::default())?;
    let known = defaults
        .get(section)
        .and_then(toml::Value::as_table)
        .with_context(|| format!("no section {section:?}"))?;
    let default = known.get(key).with_context(|| {
        format!("no key {section}.{key}; there are: {}", known.keys().cloned().collect::<Vec<_>>().join(", "))
    })?;
    let value = match default {
        toml::Value::Integer(_) => toml::Value::Integer(
            text.parse().with_context(|| format!("key {section}.{key}: not a number: {text:?}"))?,
        ),
        toml::Value::Boolean(_) => toml::Value::Boolean(
            text.parse().with_context(|| format!("key {section}.{key}: true or false, not {text:?}"))?,
        ),
        toml::Value::Array(_) => {
            toml::Value::Array(text.split(',').map(|part| toml::Value::String(part.trim().into())).collect())
        }
        _ => toml::Value::String(text.into()),
    };
    let target = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    target.as_table_mut().with_context(|| format!("{section} is not a section"))?.insert(key.into(), value);
    Ok(())
}

/// A socket address, or none, written as an empty string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Option<SocketAddr>);

impl Address {
    fn loopback(port: u16) -> Address {
        Address(Some(SocketAddr::from(([127, 0, 0, 1], port))))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(Address(None));
        }
        text.parse().map(|address| Address(Some(address))).map_err(|_| {
            serde::de::Error::custom(format!(
                "not an address such as \"127.0.0.1:4059\" (or \"\" for none): {text:?}"
            ))
        })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.map(|address| address.to_string()).unwrap_or_default())
    }
}

/// The first seven bytes of a system title, written as 14 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title(pub [u8; 7]);

impl<'de> Deserialize<'de> for Title {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut title = [0; 7];
        let read = hex::decode_to_slice(&text, &mut title);
        if read.is_err() || title == [0; 7] {
            return Err(serde::de::Error::custom(format!(
                "not the first 7 bytes of a system title such as \"55524a00000000\": {text:?} (the eighth is the address of \
                 the client)"
            )));
        }
        Ok(Title(title))
    }
}

impl Serialize for Title {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

/// A length of time, written `30s`, `5m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_span(&text).map(Span).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "not a length of time such as \"30s\", \"500ms\" or \"7d\": {text:?}"
            ))
        })
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    // Days are meant as 24 hours here, which jiff leaves open.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok()) {
        return days.checked_mul(86_400).map(Duration::from_secs);
    }
    let parsed: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(parsed).ok()
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        let text = match millis {
            0 => "0s".to_owned(),
            _ if millis.is_multiple_of(86_400_000) => format!("{}d", millis / 86_400_000),
            _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
            _ => format!("{millis}ms"),
        };
        to.serialize_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("urja.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), &[])
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let example: toml::Table = toml::from_str(EXAMPLE).unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(example, defaults);
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_key() {
        let error = loaded("[listen]\ntcp = \"127.0.0.1:1\"\ntpc = \"x\"\n").unwrap_err().to_string();
        assert!(error.contains("urja.toml") && error.contains("line 3") && error.contains("tpc"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_line_and_form() {
        for (text, part) in [
            ("[lake]\ncommit_every = \"fast\"\n", "30s"),
            ("[listen]\nudp = \"nowhere\"\n", "127.0.0.1:4059"),
            ("[time]\nclock = \"wrong\"\n", "driven"),
            ("[time]\nzone = \"Asia/Nowhere\"\n", "time.zone"),
            ("[billing]\nclose_at = \"6 o'clock\"\n", "billing.close_at"),
        ] {
            let error = format!("{:#}", loaded(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_directory_of_profiles_is_read_and_a_fault_names_its_file_line_and_key() {
        assert_eq!(Config::default().profiles().unwrap(), Profile::builtin());
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own.toml");
        let text = format!("[profiles]\ndir = {:?}\n", dir.path());
        std::fs::write(&own, "name = \"own\"\nbase = \"is15959-d2\"\n[session]\ngeneral = true\n").unwrap();
        let profiles = loaded(&text).unwrap().profiles().unwrap();
        assert!(profiles.last().is_some_and(|own| own.name == "own" && own.session.general));
        std::fs::write(&own, "name = \"own\"\nbase = \"is15959-d2\"\n[session]\nmax_pdu = 1\n").unwrap();
        let error = format!("{:#}", loaded(&text).unwrap_err());
        assert!(error.contains("profiles.dir") && error.contains("own.toml: line 4: max_pdu"), "{error}");
    }

    #[test]
    fn a_system_title_that_is_none_is_refused_with_file_line_and_key() {
        for wrong in ["URJ", "55524a0000000030", "00000000000000", "55524a0000000g"] {
            let error = loaded(&format!("[session]\nsystem_title = \"{wrong}\"\n")).unwrap_err().to_string();
            assert!(error.contains("urja.toml") && error.contains("line 2"), "{error}");
            assert!(error.contains("system_title") && error.contains("55524a00000000"), "{error}");
        }
        let config = loaded("[session]\nsystem_title = \"48455301020304\"\n").unwrap();
        assert_eq!(config.session_options().title, *b"HES\x01\x02\x03\x04");
        let flags = [("session.system_title", "nothing".to_owned())];
        let error = format!("{:#}", Config::load(None, &flags).unwrap_err());
        assert!(error.contains("system_title") && error.contains("55524a00000000"), "{error}");
    }

    #[test]
    fn pages_without_sign_in_stay_on_loopback_unless_told() {
        let error = loaded("[http]\nlisten = \"0.0.0.0:8080\"\n").unwrap_err().to_string();
        assert!(error.contains("http.public"), "{error}");
        assert!(loaded("[http]\nlisten = \"0.0.0.0:8080\"\npublic = true\n").is_ok());
        assert!(loaded("[http]\nlisten = \"0.0.0.0:8080\"\npublic = true\ndemo = true\n").is_err());
    }

    #[test]
    fn the_broker_lets_in_only_this_machine_unless_it_asks_for_a_password() {
        if cfg!(not(feature = "broker")) {
            let error = loaded("[broker]\nlisten = \"127.0.0.1:1883\"\n").unwrap_err().to_string();
            assert!(error.contains("feature `broker`"), "{error}");
            return;
        }
        assert!(loaded("[broker]\nlisten = \"127.0.0.1:1883\"\n").is_ok());
        let error = loaded("[broker]\nlisten = \"0.0.0.0:1883\"\n").unwrap_err().to_string();
        assert!(error.contains("broker.password"), "{error}");
        let user = "username = \"meters\"\n";
        assert!(loaded(&format!("[broker]\nlisten = \"127.0.0.1:1883\"\n{user}")).is_err());
        let both = format!("[broker]\nlisten = \"0.0.0.0:1883\"\n{user}password = \"hunter2\"\n");
        let config = loaded(&both).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("urja.toml");
        std::fs::write(&path, "[listen]\ntcp = \"127.0.0.1:1\"\n").unwrap();
        let flags = [("listen.tcp", "127.0.0.1:2".to_owned()), ("query.max_rows", "5".to_owned())];
        let config = Config::load(Some(&path), &flags).unwrap();
        assert_eq!(config.listen.tcp.0.unwrap().port(), 2);
        assert_eq!(config.query.max_rows, 5);
        let error = format!("{:#}", Config::load(None, &[("listen.tpc", String::new())]).unwrap_err());
        assert!(error.contains("no key listen.tpc"), "{error}");
    }

    #[test]
    fn spans_read_back_what_they_print() {
        for text in ["30s", "500ms", "7d", "600s"] {
            assert_eq!(toml::Value::try_from(Span(parse_span(text).unwrap())).unwrap().as_str(), Some(text));
        }
        assert_eq!(parse_span("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_span("-3s"), None);
    }
}
