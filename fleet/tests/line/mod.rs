//! A head-end's session on a connection to one simulated meter, without a socket between.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use codec::apdu::acse::Mechanism;
use codec::apdu::{AttributeDescriptor, MethodDescriptor, SelectedAttribute, SelectiveAccess};
use codec::axdr::{Data, DateTime, Value, Writer};
use codec::cosem::india::association::{Association, PUBLIC, PUSH, READER};
use codec::cosem::india::events::EventLog;
use codec::cosem::{ClassId, LogicalName};
use codec::security::Keys;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::security::keys::AssociationKeys;
use codec::session::client::{Answer, Authentication, Config, Error, Event, OwnedData, Protection};
use codec::session::india::IndianSession;
use fleet::meter::{Access, Meter, MeterOptions, Session};
use fleet::{Faults, FleetOptions, Mix, SimulatedMeter, provision};
use model::{Calendar, Instant};
use profiles::Profile;

pub(crate) const SEED: u64 = 5;
pub(crate) const TITLE: [u8; 8] = *b"HES\0\0\0\0\x01";

pub(crate) fn now() -> Instant {
    Calendar::india().at("2026-07-15".parse().unwrap(), 14, 7)
}

pub(crate) fn options(mix: Mix) -> FleetOptions {
    let faults =
        Faults { power_outage_ppm: 200_000, voltage_sag_ppm: 200_000, tamper_ppm: 100_000, ..Faults::NONE };
    FleetOptions { mix, faults, ..FleetOptions::new(SEED, 20, "2026-05-20".parse().unwrap()) }
}

/// A head-end on a connection to one meter.
pub(crate) struct Line {
    pub(crate) meter: Meter,
    pub(crate) connection: Session,
    pub(crate) session: IndianSession,
    pub(crate) now: Instant,
    pub(crate) events: Vec<Event>,
}

impl Line {
    pub(crate) fn new(
        meter: Meter,
        identity: &SimulatedMeter,
        access: &Access,
        association: Association,
    ) -> Line {
        let keys = AssociationKeys::new(Keys::new(identity.guek, identity.gak));
        let secret = Secret::new(access.hls_secret.clone().into_bytes());
        let authentication = match (association, access.mechanism) {
            (READER, _) => Authentication::Password(Secret::new(access.lls.clone().into_bytes())),
            (_, Mechanism::Gmac) => Authentication::Gmac,
            _ => Authentication::Aes(secret),
        };
        let config = match association {
            PUBLIC => Config::public(TITLE),
            _ => Config::ciphered(TITLE, authentication, Protection::new(keys)),
        };
        let session = IndianSession::new(association, config, SendCounter::resume(0));
        Line { connection: meter.session(), meter, session, now: now(), events: Vec::new() }
    }

    /// Lets both sides speak until nobody has anything to say.
    pub(crate) fn run(&mut self) {
        loop {
            if let Some(bound) = self.session.poll_reserve() {
                self.session.reserved(bound);
            }
            let elapsed = Duration::from_micros(u64::try_from(self.now.0).unwrap());
            let Some((client, apdu)) = self.session.poll_transmit(elapsed) else { break };
            let reply = self.meter.answer(&mut self.connection, client, &apdu, self.now);
            if let Some(pushed) = &reply.pushed {
                self.session.handle_apdu(u16::from(PUSH.client_sap), pushed);
            }
            if reply.apdu.is_empty() {
                break;
            }
            self.session.handle_apdu(client, &reply.apdu);
        }
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
    }

    #[track_caller]
    pub(crate) fn associate(&mut self) {
        self.session.associate(&[0x42; codec::session::client::RANDOM_LEN]).unwrap();
        self.run();
        let opened = self.events.drain(..).any(|event| matches!(event, Event::Associated(_)));
        assert!(opened, "not associated");
    }

    /// The same client on a new connection, at another time.
    #[track_caller]
    pub(crate) fn again_at(&mut self, now: Instant) {
        self.session.handle_disconnected();
        self.run();
        self.now = now;
        self.connection = self.meter.session();
        self.associate();
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> Result<Answer, Error> {
        self.run();
        let found = self.events.drain(..).find_map(|event| match event {
            Event::Answered(_, answer) => Some(Ok(answer)),
            Event::Failed { error, .. } => Some(Err(error)),
            _ => None,
        });
        found.expect("an answer")
    }

    #[track_caller]
    pub(crate) fn read(&mut self, class: u16, name: LogicalName, attribute: i8) -> OwnedData {
        self.select(class, name, attribute, None).unwrap()
    }

    #[track_caller]
    pub(crate) fn select(
        &mut self,
        class: u16,
        instance: LogicalName,
        attribute: i8,
        access: Option<SelectiveAccess<'_>>,
    ) -> Result<OwnedData, Error> {
        let attribute = AttributeDescriptor { class: ClassId(class), instance, attribute };
        self.session.client().get(SelectedAttribute { attribute, access }).unwrap();
        match self.answer()? {
            Answer::Value(value) => Ok(value),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn write(
        &mut self,
        class: u16,
        instance: LogicalName,
        attribute: i8,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Answer, Error> {
        let mut value = Vec::new();
        write(&mut Writer::new(&mut value));
        let attribute = AttributeDescriptor { class: ClassId(class), instance, attribute };
        let selected = SelectedAttribute { attribute, access: None };
        self.session.client().set(selected, Data::new(&value).unwrap()).unwrap();
        self.answer()
    }

    #[track_caller]
    pub(crate) fn act(&mut self, class: u16, instance: LogicalName, method: i8) -> Result<Answer, Error> {
        self.act_with(class, instance, method, |w| _ = w.i8(0))
    }

    #[track_caller]
    pub(crate) fn act_with(
        &mut self,
        class: u16,
        instance: LogicalName,
        method: i8,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Answer, Error> {
        let mut value = Vec::new();
        write(&mut Writer::new(&mut value));
        let method = MethodDescriptor { class: ClassId(class), instance, method };
        self.session.client().action(method, Some(Data::new(&value).unwrap())).unwrap();
        self.answer()
    }

    pub(crate) fn codes(&mut self, log: EventLog) -> Vec<u16> {
        let rows = self.read(7, log.log(), 2);
        rows_of(&rows).into_iter().map(|row| number(row[1]) as u16).collect()
    }
}

pub(crate) fn meter(
    index: usize,
    mix: Mix,
    change: impl FnOnce(&mut MeterOptions),
) -> (Meter, Arc<SimulatedMeter>, Access) {
    let options = options(mix);
    let identity = Arc::new(provision(SEED, options.meters, options.from, &options.mix).remove(index));
    let access = Access::of(SEED, identity.index);
    let mut how = MeterOptions::new(access.clone());
    change(&mut how);
    let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
    let meter = Meter::new(&options, Arc::clone(&identity), &profiles, how, now()).unwrap();
    (meter, identity, access)
}

/// Whole Wh in u32, half-hours stamped at their end.
pub(crate) fn plain() -> Mix {
    Mix { three_phase_ppm: 0, quarter_hour_ppm: 0, start_stamped_ppm: 0, float_ppm: 0, ..Mix::default() }
}

pub(crate) fn line(association: Association) -> (Line, Arc<SimulatedMeter>) {
    let (meter, identity, access) = meter(0, plain(), |_| ());
    let mut line = Line::new(meter, &identity, &access, association);
    line.associate();
    (line, identity)
}

pub(crate) fn rows_of(data: &OwnedData) -> Vec<Vec<Value<'_>>> {
    let Value::Array(rows) = data.data().value() else { panic!("{data:?}") };
    let cells = |row| match row {
        Value::Structure(cells) => cells.iter().collect(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(cells).collect()
}

#[track_caller]
pub(crate) fn number(value: Value<'_>) -> i64 {
    match value {
        Value::U8(number) | Value::Enum(number) => number.into(),
        Value::U16(number) => number.into(),
        Value::U32(number) => number.into(),
        Value::I32(number) => number.into(),
        Value::Bool(on) => on.into(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn stamp(at: Instant) -> DateTime {
    let wall = Calendar::india().wall_clock(at);
    let small = |part: i8| part.unsigned_abs();
    let (month, day) = (small(wall.month), small(wall.day));
    let (hour, minute) = (small(wall.hour), small(wall.minute));
    DateTime::new(wall.year.unsigned_abs(), month, day, 0xff, hour, minute, 0, 0, 330, 0)
}
