//! What a fleet is made of, where it sends and what goes wrong on the way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::{Calendar, CivilDay};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Everything that determines a fleet. The same options give the same bytes.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Seed of all that is drawn.
    pub seed: u64,
    /// Number of meters.
    pub meters: u32,
    /// The utility's zone: registers are captured at its midnights.
    pub calendar: Calendar,
    /// First civil day that is simulated, and charged.
    pub from: CivilDay,
    /// Last civil day that is simulated; `None`: no end.
    pub last: Option<CivilDay>,
    /// What the meters are like.
    pub mix: Mix,
    /// What goes wrong.
    pub faults: Faults,
    /// When meters push.
    pub cadence: Cadence,
    /// Where to; meter `i` sends to target `i` modulo their number. Without any, nothing is sent.
    pub targets: Vec<Target>,
    /// File that the truth is appended to.
    pub truth: Option<PathBuf>,
    /// Whether the truth tells of every frame and acknowledgement, or only of meters, their use, recharges and days.
    pub truth_of_frames: bool,
    /// Connections that send at the same time at most; the others wait for their turn.
    pub links_at_once: usize,
    /// Most confirmed pushes that one connection has under way.
    pub window: usize,
    /// After this long without a confirm the same bytes are sent again.
    pub confirm_timeout: Duration,
    /// Time between two attempts to connect.
    pub retry_after: Duration,
    /// Stops whatever is being sent; what was not acknowledged stays queued.
    pub shutdown: CancellationToken,
}

impl FleetOptions {
    /// A fleet of so many Indian meters from that day on, with the usual faults and no target yet.
    #[must_use]
    pub fn new(seed: u64, meters: u32, from: CivilDay) -> FleetOptions {
        FleetOptions {
            seed,
            meters,
            calendar: Calendar::india(),
            from,
            last: None,
            mix: Mix::default(),
            faults: Faults::default(),
            cadence: Cadence::default(),
            targets: Vec::new(),
            truth: None,
            truth_of_frames: true,
            links_at_once: Semaphore::MAX_PERMITS,
            window: 32,
            confirm_timeout: Duration::from_secs(5),
            retry_after: Duration::from_millis(200),
            shutdown: CancellationToken::new(),
        }
    }
}

/// When meters push. What they push, and with which counters, is the same in both ways of running: loading only
/// puts neighbouring intervals together and leaves instantaneous pushes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Seconds between two instantaneous pushes, at least 60 and a divisor of a day; 0 for none.
    pub instant_s: u32,
    /// Pushes are spread over this many seconds after their time, each meter at its own place; at most 600.
    pub spread_s: u32,
    /// While days are loaded ([`Fleet::push_until`](crate::Fleet::push_until)): seconds of intervals that one block
    /// push carries, a divisor of a day; 0 pushes each interval by itself.
    pub loading_block_s: u32,
    /// While days are loaded: seconds between two instantaneous pushes, a multiple of `instant_s`; 0 for none.
    pub loading_instant_s: u32,
}

impl Default for Cadence {
    fn default() -> Cadence {
        Cadence { instant_s: 900, spread_s: 60, loading_block_s: 6 * 3600, loading_instant_s: 86_400 }
    }
}

/// What the meters are like, as shares of a million meters where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Three-phase (`is15959-d2`), among urban meters of 5 kW and more.
    pub three_phase_ppm: u32,
    /// Intervals of 15 minutes (`is15959-d1-15min`).
    pub quarter_hour_ppm: u32,
    /// Intervals stamped with their start (`is15959-d1-start`).
    pub start_stamped_ppm: u32,
    /// Energy as float32 in kWh instead of u32 in Wh.
    pub float_ppm: u32,
    /// Block pushes always as the buffer of a profile, also for one interval.
    pub nested_ppm: u32,
    /// Block pushes always flat: one interval each, also while days are loaded.
    pub flat_ppm: u32,
    /// Deviation with the sign of the Blue Book (−330 in India) instead of the Indian one (+330).
    pub blue_book_deviation_ppm: u32,
    /// Deviation not specified.
    pub no_deviation_ppm: u32,
    /// Authenticated in the clear (0x10) instead of encrypted too (0x30).
    pub authenticated_only_ppm: u32,
    /// Policy `transport`: plain pushes, and 0x20, on a link that binds the meter.
    pub transport_policy_ppm: u32,
    /// Pushes with the confirmed bit.
    pub confirmed_ppm: u32,
    /// Whether all of them speak HDLC instead of the wrapper; over TCP.
    pub hdlc: bool,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix {
            three_phase_ppm: 300_000,
            quarter_hour_ppm: 60_000,
            start_stamped_ppm: 60_000,
            float_ppm: 350_000,
            nested_ppm: 250_000,
            flat_ppm: 40_000,
            blue_book_deviation_ppm: 250_000,
            no_deviation_ppm: 50_000,
            authenticated_only_ppm: 100_000,
            transport_policy_ppm: 15_000,
            confirmed_ppm: 1_000_000,
            hdlc: false,
        }
    }
}

/// What goes wrong, as chances in a million: of a meter and day, of a push, of a concentrator and day, or, for what
/// befalls a meter once, of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A meter and day with a supply outage: the household uses nothing, the meter tells of it.
    pub power_outage_ppm: u32,
    /// A meter and day with a communication outage: its intervals are not pushed in time.
    pub link_outage_ppm: u32,
    /// Of these, the share whose intervals never arrive; the others come in one push after the outage.
    pub never_delivered_ppm: u32,
    /// A daily register that is never pushed.
    pub daily_lost_ppm: u32,
    /// A push that is sent twice, the same bytes.
    pub duplicate_ppm: u32,
    /// A push that is on its way for minutes to `late_max_s`.
    pub late_ppm: u32,
    /// Longest delay of a late push, seconds.
    pub late_max_s: u32,
    /// A push that is overtaken by the next ones.
    pub reordered_ppm: u32,
    /// A meter and day with a wrong value that is revised: same key, other value, higher counter.
    pub revision_ppm: u32,
    /// A meter and day with a voltage sag: for 20 minutes to 2.5 hours the voltage is 55 to 80 % of what it is
    /// otherwise; the meter raises its flag for low voltage and takes it back.
    pub voltage_sag_ppm: u32,
    /// A meter and day on which somebody tampers with it: a magnet, a disturbed neutral, a load between phase and earth, a
    /// very low power factor or an open cover. The meter raises its flag and writes it down.
    pub tamper_ppm: u32,
    /// A meter and day with a reading whose stamp is garbage: decades ago, decades ahead, a day and more ahead, not
    /// specified, or no date at all. Hours later the same reading comes with its right stamp and a higher counter.
    pub garbage_time_ppm: u32,
    /// A concentrator (a TCP connection that meters share) and day on which its way to the head-end fails for 2 to 20
    /// hours; what it held back meanwhile it sends newest first.
    pub newest_first_ppm: u32,
    /// A meter whose clock runs wrong by 2 to 20 seconds a day, fast or slow, for 10 to 25 days, until it is set.
    pub clock_drift_ppm: u32,
    /// A meter that goes over to new keys between its fifth and its thirtieth day; its counters begin anew.
    pub key_change_ppm: u32,
    /// A meter that is silent for two to five weeks within its first 45 days, and sends everything at once when it is
    /// back.
    pub silent_ppm: u32,
}

impl Faults {
    /// Nothing goes wrong, not even the supply.
    pub const NONE: Faults = Faults {
        power_outage_ppm: 0,
        link_outage_ppm: 0,
        never_delivered_ppm: 0,
        daily_lost_ppm: 0,
        duplicate_ppm: 0,
        late_ppm: 0,
        late_max_s: 0,
        reordered_ppm: 0,
        revision_ppm: 0,
        voltage_sag_ppm: 0,
        tamper_ppm: 0,
        garbage_time_ppm: 0,
        newest_first_ppm: 0,
        clock_drift_ppm: 0,
        key_change_ppm: 0,
        silent_ppm: 0,
    };

    /// What a good network has, every day.
    pub const USUAL: Faults = Faults {
        power_outage_ppm: 60_000,
        link_outage_ppm: 20_000,
        never_delivered_ppm: 250_000,
        daily_lost_ppm: 5_000,
        duplicate_ppm: 10_000,
        late_ppm: 10_000,
        late_max_s: 36 * 3600,
        reordered_ppm: 10_000,
        revision_ppm: 4_000,
        voltage_sag_ppm: 40_000,
        tamper_ppm: 5_000,
        ..Faults::NONE
    };

    /// Everything at once, so that a small fleet has all of it within weeks.
    pub const STORM: Faults = Faults {
        garbage_time_ppm: 25_000,
        newest_first_ppm: 150_000,
        clock_drift_ppm: 200_000,
        key_change_ppm: 300_000,
        silent_ppm: 200_000,
        ..Faults::USUAL
    };
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::USUAL
    }
}

/// Where pushes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// DLMS wrapper, or HDLC, over TCP.
    Tcp {
        /// The head-end.
        address: SocketAddr,
        /// Meters that share a connection, as behind a concentrator; 1 gives each its own.
        meters_per_connection: u32,
    },
    /// DLMS wrapper over UDP, one push a datagram.
    Udp {
        /// The head-end.
        address: SocketAddr,
        /// Meters that share a socket.
        meters_per_connection: u32,
    },
    /// MQTT 5 with quality of service 1: an acknowledged push is published, not stored.
    Mqtt(MqttTarget),
}

/// A broker and how to publish to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttTarget {
    /// Host name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Client id; each connection appends its number.
    pub client_id: String,
    /// Topic of readings; `{node}` stands for the meter's serial number.
    pub topic: String,
    /// Topic of event status words; `{node}` as above.
    pub event_topic: String,
    /// Topic of requests to a meter that answers; `{node}` as above.
    pub request_topic: String,
    /// Topic of its answers; `{node}` as above.
    pub response_topic: String,
    /// Longest publish of an answer, which goes out in fragments, bytes.
    pub max_publish: usize,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Meters that share a client.
    pub meters_per_connection: u32,
}

impl MqttTarget {
    /// A broker without credentials, with the topics seen in Indian deployments.
    #[must_use]
    pub fn new(host: &str, port: u16) -> MqttTarget {
        MqttTarget {
            host: host.to_owned(),
            port,
            client_id: "urja-fleet".to_owned(),
            topic: "Normal_Push/{node}".to_owned(),
            event_topic: "Event_push/{node}".to_owned(),
            request_topic: "PollRequest/{node}".to_owned(),
            response_topic: "PollResponse/{node}".to_owned(),
            max_publish: 512,
            credentials: None,
            meters_per_connection: 50,
        }
    }
}
