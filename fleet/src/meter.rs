//! The meter that answers: the object model of an Indian single- or three-phase meter behind `codec`'s sessions.
//!
//! A [`Meter`] holds what all its connections share: keys, counters, relay, image, settings, and the history of the
//! same household that its pushes tell of, made again from the seed when it is asked for. A connection has a session
//! ([`Meter::session`]); [`Meter::answer`] takes an APDU and gives a [`Reply`]. Time is what the caller says.
//!
//! While its relay is open the household uses nothing: the same [`Supply`](crate::Supply) stands behind what is pushed,
//! what is read and what the truth tells. Faults of pushes (wrong values, garbage stamps) are not in the buffers.

mod access;
mod data;
mod door;
mod event;
mod fault;
mod history;
mod image;
mod model;
mod profile;
pub(crate) mod station;
mod stored;
mod table;
mod tariff;

pub use access::Access;
pub use door::{
    Door, MAX_DOORS, SharedMeter, SimulatedClock, doors, doors_as, open, serve, serve_udp, write_access,
};
pub(crate) use door::{answered, locked};
pub use fault::{Fault, FaultError, Reply, Trouble, When};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::model::{Calendar, Instant, Values};
use codec::apdu::initiate::Conformance;
use codec::apdu::{ActionResult, AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectiveAccess};
use codec::axdr::{Data, DateTime};
use codec::security::RustCrypto;
use codec::security::hls::Secret;
use codec::security::keys::Key;
use codec::session::server::{Caller, Objects, Offer, Outcome, ServerSecurity, ServerSession};
use profiles::Profile;

use crate::Error;
use crate::encode::Encoder;
use crate::household::Household;
use crate::options::{Faults, FleetOptions};
use crate::plan;
use crate::program::Times;
use crate::provision::SimulatedMeter;
use crate::rng::Rng;
pub use crate::supply::Behaviour;
use crate::supply::{Relay, Watch};
use event::Journal;
use history::History;
use image::Image;
use model::{FIRMWARE, Object, PUBLIC, READER, Right, UTILITY};
use stored::Stored;
use tariff::Tariff;

const PURPOSE_CHALLENGE: u64 = 20;
const PURPOSE_TROUBLE: u64 = 21;
/// Longest APDU of Indian meters (dlms.md 1.1).
pub const MAX_PDU: u16 = 750;
/// An association that is not used for so long ends (dlms.md 1.1).
const INACTIVITY: Duration = Duration::from_secs(180);
/// Replies are numbered from here, pushes from 1: they share a key and a title, and must never share a counter.
const FIRST_REPLY: u32 = 0x8000_0000;
/// Replies that a second of simulated time is reckoned with: a meter that is started again goes on above.
const REPLIES_A_SECOND: u32 = 4;
/// A connection on which nothing comes for so long ends.
const IDLE: Duration = Duration::from_secs(180);
/// By how much the counters that it has seen are ahead of the client's, where that goes wrong.
const COUNTERS_AHEAD: u32 = 1000;
/// How long a slow answer takes.
const SLOW: Duration = Duration::from_secs(10);

/// How one meter behaves, besides what a fleet says.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// Master key, password and secret.
    pub access: Access,
    /// What goes wrong with its answers.
    pub faults: Vec<Fault>,
    /// Control mode of the relay when it leaves the factory, 0 to 6.
    pub relay_mode: u8,
    /// What the relay does when it is told to.
    pub relay: Behaviour,
    /// Seconds after which somebody presses the button, where the relay is ready for it; `None`: nobody does.
    pub button_after_s: Option<i64>,
    /// Bytes of an image block.
    pub image_block: u32,
    /// An image block that is accepted and not kept, once.
    pub lose_image_block: Option<u32>,
}

impl MeterOptions {
    /// A meter without faults, in the control mode that India uses.
    #[must_use]
    pub fn new(access: Access) -> MeterOptions {
        MeterOptions {
            access,
            faults: Vec::new(),
            relay_mode: 4,
            relay: Behaviour::Works,
            button_after_s: Some(30),
            image_block: image::BLOCK_SIZE,
            lose_image_block: None,
        }
    }
}

/// A connection to a meter.
pub type Session = ServerSession<RustCrypto>;

/// A simulated meter that answers.
pub struct Meter {
    seed: u64,
    meter: Arc<SimulatedMeter>,
    calendar: Calendar,
    profile: Arc<Profile>,
    encoder: Encoder,
    history: History,
    security: ServerSecurity,
    objects: Arc<[Object]>,
    stored: Stored,
    journal: Journal,
    image: Image,
    /// When its image is to be activated, and its calendar.
    image_times: Times,
    calendar_at: Option<Instant>,
    /// The calendars that were put in force, and since when.
    tariffs: Vec<(Instant, Tariff)>,
    preset: Option<data::Preset>,
    /// When the buffers of the block load and of the daily load were emptied.
    cleared: (Option<Instant>, Option<Instant>),
    faults_of_fleet: Faults,
    faults: Vec<Fault>,
    now: Instant,
    /// By how much the clock was set away from what it showed.
    clock_offset_s: i64,
    answers: u32,
    challenges: u64,
    last: Vec<u8>,
    busy: bool,
    low_memory: bool,
    outcome: Option<Outcome>,
}

impl Meter {
    /// A meter of the fleet that is switched on at `now`.
    ///
    /// # Errors
    /// When its profile is not one of `profiles`.
    pub fn new(
        fleet: &FleetOptions,
        meter: Arc<SimulatedMeter>,
        profiles: &[Arc<Profile>],
        options: MeterOptions,
        now: Instant,
    ) -> Result<Meter, Error> {
        let calendar = fleet.calendar.clone();
        let found = profiles.iter().find(|profile| profile.name == meter.profile);
        let profile = Arc::clone(found.ok_or_else(|| Error::UnknownProfile(meter.profile.clone()))?);
        let encoder = Encoder::new(fleet.seed, Arc::clone(&meter), calendar.clone(), fleet.faults, profiles)?;
        let started = calendar.start_of(meter.from);
        let age_s = u32::try_from(now.seconds() - started.seconds()).unwrap_or(0);
        let counter = FIRST_REPLY.saturating_add(age_s.saturating_mul(REPLIES_A_SECOND));
        let MeterOptions { access, faults, relay_mode, relay, button_after_s, image_block, lose_image_block } =
            options;
        let [guek, gak, kek] = [meter.guek, meter.gak, access.kek].map(Key::new);
        let security =
            ServerSecurity::new(meter.title.0, guek, gak, kek, counter, offers(&access, meter.index));
        let mut image = Image::new(image_block);
        image.lose = lose_image_block;
        let stored = Stored::of(&meter, &profile, encoder.date_time(started));
        if profile.relay.is_some() {
            let household = Household::new(fleet.seed, &meter, &fleet.faults).without_relay();
            let relay = Relay::new(relay_mode, relay, button_after_s);
            meter.supply.watch(Watch::new(relay, stored.load_limit(), household, calendar.clone(), now));
        }
        meter.program.begin();
        Ok(Meter {
            seed: fleet.seed,
            history: History::new(fleet.seed, &meter, &fleet.faults, calendar.clone()),
            objects: model::objects(&profile).into(),
            stored,
            security,
            journal: Journal::default(),
            image,
            image_times: Times::default(),
            calendar_at: None,
            tariffs: Vec::new(),
            preset: None,
            cleared: (None, None),
            faults_of_fleet: fleet.faults,
            faults,
            now,
            clock_offset_s: 0,
            answers: 0,
            challenges: 0,
            last: Vec::new(),
            busy: false,
            low_memory: false,
            outcome: None,
            meter,
            calendar,
            profile,
            encoder,
        })
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<SimulatedMeter> {
        &self.meter
    }

    /// A new connection.
    #[must_use]
    pub fn session(&self) -> Session {
        ServerSession::new(RustCrypto, MAX_PDU, INACTIVITY)
    }

    /// What went wrong from now on goes wrong no more, and this does.
    pub fn set_faults(&mut self, faults: Vec<Fault>) {
        self.faults = faults;
        self.answers = 0;
    }

    /// Answers an APDU of a client at `now`, which never goes back.
    pub fn answer(&mut self, session: &mut Session, client: u16, apdu: &[u8], now: Instant) -> Reply {
        self.pass(now);
        self.answers = self.answers.wrapping_add(1);
        self.challenges = self.challenges.wrapping_add(1);
        let random = Rng::keyed(
            self.seed,
            &[PURPOSE_CHALLENGE, u64::from(self.meter.index), time_us(now), self.challenges],
        )
        .bytes();
        let troubles: Vec<Trouble> =
            Trouble::ALL.into_iter().filter(|trouble| self.is_due(*trouble)).collect();
        let due = |trouble| troubles.contains(&trouble);
        (self.busy, self.low_memory) = (due(Trouble::Busy), due(Trouble::LowMemory));
        if due(Trouble::Behind) {
            let last = self.security.received(client).last().unwrap_or(0);
            self.security.seen(client, last.saturating_add(COUNTERS_AHEAD));
        }
        let mut out = Vec::new();
        let since = Duration::from_micros(time_us(now));
        let epoch = self.security.epoch();
        self.outcome = Some(session.handle(client, apdu, since, random, self, &mut out));
        let (mut more, mut block) = (Vec::new(), Vec::new());
        while session.poll_more(&mut block) {
            more.push(block.clone());
        }
        if self.security.epoch() != epoch {
            // Pushes go over to the new keys with the association.
            self.meter.replaced.set(self.security.keys());
        }
        let answer = out.clone();
        if due(Trouble::Stale) && !self.last.is_empty() {
            out.clone_from(&self.last);
        }
        self.last = answer;
        if due(Trouble::Garbage) {
            let mut rng = Rng::keyed(self.seed, &[PURPOSE_TROUBLE, 1, u64::from(self.answers)]);
            out.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
        }
        if due(Trouble::Flip) {
            out.last_mut().into_iter().for_each(|byte| *byte ^= 1);
        }
        if due(Trouble::Drop) || due(Trouble::Silent) {
            out.clear();
            more.clear();
        }
        let delay = if due(Trouble::Slow) { SLOW } else { Duration::ZERO };
        let pushed = if due(Trouble::Push) { self.push_beside() } else { None };
        Reply { apdu: out, pushed, more, delay, ends: due(Trouble::Drop) }
    }

    /// Values of the moment as a push that goes out beside those of the fleet. Neither its plan nor its truth tell of it.
    fn push_beside(&mut self) -> Option<Vec<u8>> {
        let Meter { seed, meter, faults_of_fleet, calendar, .. } = self;
        let first = |at| plan::first_number(*seed, meter, faults_of_fleet, calendar, at);
        let number = meter.program.beside(self.now, first).ok()?;
        let measured = self.history.day(self.calendar.day_of(number.at))?;
        self.encoder.beside(&measured, number).ok()
    }

    /// What came of the last APDU.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether the premises are supplied.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.meter.supply.is_connected()
    }

    /// The image that was activated last, and what identifies it.
    #[must_use]
    pub fn activated_image(&self) -> Option<(&[u8], &[u8])> {
        use codec::cosem::image_transfer::TransferStatus;
        let done = self.image.status() == TransferStatus::ActivationSuccessful;
        self.image.whole().filter(|_| done).map(|bytes| (self.image.identifier.as_slice(), bytes))
    }

    /// How often its keys were replaced.
    #[must_use]
    pub fn key_changes(&self) -> u32 {
        self.security.epoch()
    }

    /// What its buffers hold at `now`, as a reader should find it: of each row the end, as its stamp has it, and the
    /// values on the wire.
    ///
    /// # Errors
    /// When the profile lacks a push.
    pub fn held(&mut self, now: Instant) -> Result<Held, Error> {
        self.pass(now);
        self.everything()
    }

    /// Time passes.
    fn pass(&mut self, now: Instant) {
        let before = self.now;
        self.now = before.max(now);
        self.meter.supply.pass(self.now);
        self.meter.program.see(self.now);
        self.scheduled(before, self.now);
    }

    fn is_due(&self, trouble: Trouble) -> bool {
        let number = self.answers;
        let mut of_kind = self.faults.iter().filter(|fault| fault.trouble == trouble);
        of_kind.any(|fault| match fault.when {
            When::At(at) => number == at,
            When::Every(every) => number.is_multiple_of(every.max(1)),
            When::Chance(ppm) => {
                let path =
                    [PURPOSE_TROUBLE, 0, u64::from(self.meter.index), u64::from(number), trouble as u64];
                Rng::keyed(self.seed, &path).chance(ppm)
            }
        })
    }

    /// What its clock shows.
    fn clock(&self) -> Instant {
        self.encoder.shown(self.now).plus_seconds(self.clock_offset_s)
    }

    fn find(&self, class: codec::cosem::ClassId, name: codec::cosem::LogicalName) -> Found {
        let objects = Arc::clone(&self.objects);
        match objects.iter().position(|object| object.name == name && object.class == class) {
            Some(place) => Found::Here(objects, place),
            None if objects.iter().any(|object| object.name == name) => Found::OtherClass,
            None => Found::Nowhere,
        }
    }
}

/// What buffers hold, for tests to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The registers as they are.
    pub registers: Values,
    /// The rows of the block load.
    pub block: Vec<(Instant, Values)>,
    /// The rows of the daily load.
    pub daily: Vec<(Instant, Values)>,
}

enum Found {
    Here(Arc<[Object]>, usize),
    OtherClass,
    Nowhere,
}

impl Objects for Meter {
    fn security(&mut self) -> &mut ServerSecurity {
        &mut self.security
    }

    fn get(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        let (objects, place) = match self.find(attribute.class, attribute.instance) {
            Found::Here(objects, place) => (objects, place),
            Found::OtherClass => return Err(DataAccessResult::ObjectClassInconsistent),
            Found::Nowhere => return Err(DataAccessResult::ObjectUndefined),
        };
        let Some(object) = objects.get(place) else { return Err(DataAccessResult::ObjectUndefined) };
        if !object.allows(caller.client, Right::Read) {
            return Err(DataAccessResult::ReadWriteDenied);
        }
        if self.busy {
            return Err(DataAccessResult::TemporaryFailure);
        }
        if attribute.attribute == 1 {
            codec::axdr::Writer::new(out).octet_string(&object.name.0);
            return Ok(());
        }
        if !object.reads.contains(&attribute.attribute) {
            let only_written = object.writes.contains(&attribute.attribute);
            return Err(match only_written {
                true => DataAccessResult::ReadWriteDenied,
                false => DataAccessResult::ObjectUndefined,
            });
        }
        self.read(caller, object, attribute.attribute, selection, out)
    }

    fn set(
        &mut self,
        caller: &Caller,
        attribute: &AttributeDescriptor,
        selection: Option<&SelectiveAccess<'_>>,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        let (objects, place) = match self.find(attribute.class, attribute.instance) {
            Found::Here(objects, place) => (objects, place),
            Found::OtherClass => return Err(DataAccessResult::ObjectClassInconsistent),
            Found::Nowhere => return Err(DataAccessResult::ObjectUndefined),
        };
        let Some(object) = objects.get(place) else { return Err(DataAccessResult::ObjectUndefined) };
        let number = attribute.attribute;
        let known = number == 1 || object.reads.contains(&number) || object.writes.contains(&number);
        if !known && object.allows(caller.client, Right::Read) {
            return Err(DataAccessResult::ObjectUndefined);
        }
        let writable = object.writes.contains(&attribute.attribute);
        if !writable || !object.allows(caller.client, Right::Write) {
            return Err(DataAccessResult::ReadWriteDenied);
        }
        if selection.is_some() {
            return Err(DataAccessResult::ScopeOfAccessViolated);
        }
        if self.busy {
            return Err(DataAccessResult::TemporaryFailure);
        }
        self.write(object, attribute.attribute, value)
    }

    fn act(
        &mut self,
        caller: &Caller,
        method: &MethodDescriptor,
        parameters: Option<Data<'_>>,
        _out: &mut Vec<u8>,
    ) -> Result<(), ActionResult> {
        let (objects, place) = match self.find(method.class, method.instance) {
            Found::Here(objects, place) => (objects, place),
            Found::OtherClass => return Err(ActionResult::ObjectClassInconsistent),
            Found::Nowhere => return Err(ActionResult::ObjectUndefined),
        };
        let Some(object) = objects.get(place) else { return Err(ActionResult::ObjectUndefined) };
        if !object.methods.contains(&method.method) {
            return Err(ActionResult::ObjectUndefined);
        }
        if !object.allows(caller.client, Right::Act) {
            return Err(ActionResult::ReadWriteDenied);
        }
        if self.busy {
            return Err(ActionResult::TemporaryFailure);
        }
        self.invoke(caller, object, method.method, parameters.map(|data| data.value()))
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("meter", &self.meter).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Who may open which association (dlms.md 6.1). With general block transfer for the utility client, as in the dump of
/// D2: it is used where a request comes so. One meter in two offers lists and actions in blocks besides.
fn offers(access: &Access, index: u32) -> Vec<Offer> {
    use codec::apdu::acse::Mechanism;
    let more = if index.is_multiple_of(2) {
        Conformance::NONE
    } else {
        Conformance::MULTIPLE_REFERENCES
            .union(Conformance::BLOCK_TRANSFER_WITH_ACTION)
            .union(Conformance::GENERAL_PROTECTION)
    };
    let offer = |client, mechanism, secret: &str, conformance: [u8; 3]| Offer {
        client,
        plain: client < UTILITY,
        ciphered: client > PUBLIC,
        mechanism,
        secret: Secret::new(secret.as_bytes().to_vec()),
        conformance: Conformance::from_bytes(conformance),
    };
    let Access { lls, hls_secret, mechanism, .. } = access;
    let mut utility = offer(UTILITY, *mechanism, hls_secret, [0x00, 0x18, 0x9d]);
    utility.conformance = utility.conformance.union(more).union(Conformance::GENERAL_BLOCK_TRANSFER);
    vec![
        offer(PUBLIC, Mechanism::Lowest, "", [0x00, 0x10, 0x14]),
        offer(READER, Mechanism::LowLevel, lls, [0x00, 0x10, 0x14]),
        utility,
        offer(FIRMWARE, *mechanism, hls_secret, [0x00, 0x00, 0x19]),
    ]
}

/// The moment that the parts of a wall clock name, whatever its deviation says; `None` where there is no such date.
/// Unspecified parts of the time of day count as 0.
fn instant_of(time: &DateTime, calendar: &Calendar) -> Option<Instant> {
    let year = i16::try_from(time.year()?).ok()?;
    let small = |part: Option<u8>| part.and_then(|part| i8::try_from(part).ok());
    let (month, day) = (small(time.month())?, small(time.day())?);
    let (hour, minute, second) = (small(time.hour()), small(time.minute()), small(time.second()));
    calendar.instant_of(year, month, day, hour.unwrap_or(0), minute.unwrap_or(0), second.unwrap_or(0))
}

fn time_us(at: Instant) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}
