//! The simulated meter answers the head-end's own sessions with what the same household pushes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use codec::apdu::acse::Mechanism;
use codec::apdu::{
    ActionResult, AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectedAttribute, SelectiveAccess,
};
use codec::axdr::{Data, DateTime, Value, Writer};
use codec::cosem::india::association::{Association, FIRMWARE, PUBLIC, READER, UTILITY};
use codec::cosem::india::{control, events::EventLog, identity, prepaid, profile, scaler, status, time};
use codec::cosem::profile_generic::{CaptureObject, EntryDescriptor, RangeDescriptor, Selection};
use codec::cosem::{ClassId, List, LogicalName};
use codec::security::Keys;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::security::keys::AssociationKeys;
use codec::session::client::{Answer, Authentication, Config, Error, Event, OwnedData, Protection};
use codec::session::india::IndianSession;
use fleet::meter::{Access, Behaviour, Meter, MeterOptions, Session};
use fleet::{Faults, FleetOptions, Household, Mix, SimulatedMeter, provision};
use model::{Calendar, Instant};
use profiles::Profile;

const SEED: u64 = 5;
const TITLE: [u8; 8] = *b"HES\0\0\0\0\x01";

fn now() -> Instant {
    Calendar::india().at("2026-07-15".parse().unwrap(), 14, 7)
}

fn options(mix: Mix) -> FleetOptions {
    let faults = Faults { power_outage_ppm: 200_000, voltage_sag_ppm: 200_000, ..Faults::NONE };
    FleetOptions { mix, faults, ..FleetOptions::new(SEED, 20, "2026-05-20".parse().unwrap()) }
}

/// A head-end on a connection to one meter.
struct Line {
    meter: Meter,
    connection: Session,
    session: IndianSession,
    now: Instant,
    events: Vec<Event>,
}

impl Line {
    fn new(meter: Meter, identity: &SimulatedMeter, access: &Access, association: Association) -> Line {
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
    fn run(&mut self) {
        loop {
            if let Some(bound) = self.session.poll_reserve() {
                self.session.reserved(bound);
            }
            let elapsed = Duration::from_micros(u64::try_from(self.now.0).unwrap());
            let Some((client, apdu)) = self.session.poll_transmit(elapsed) else { break };
            let reply = self.meter.answer(&mut self.connection, client, &apdu, self.now);
            if reply.apdu.is_empty() {
                break;
            }
            self.session.handle_apdu(client, &reply.apdu);
        }
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
    }

    #[track_caller]
    fn associate(&mut self) {
        self.session.associate(&[0x42; codec::session::client::RANDOM_LEN]).unwrap();
        self.run();
        let opened = self.events.drain(..).any(|event| matches!(event, Event::Associated(_)));
        assert!(opened, "not associated");
    }

    #[track_caller]
    fn answer(&mut self) -> Result<Answer, Error> {
        self.run();
        let found = self.events.drain(..).find_map(|event| match event {
            Event::Answered(_, answer) => Some(Ok(answer)),
            Event::Failed { error, .. } => Some(Err(error)),
            _ => None,
        });
        found.expect("an answer")
    }

    #[track_caller]
    fn read(&mut self, class: u16, name: LogicalName, attribute: i8) -> OwnedData {
        self.select(class, name, attribute, None).unwrap()
    }

    #[track_caller]
    fn select(
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
    fn write(
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
    fn act(&mut self, class: u16, instance: LogicalName, method: i8) -> Result<Answer, Error> {
        let method = MethodDescriptor { class: ClassId(class), instance, method };
        self.session.client().action(method, Some(Data::new(&[0x0f, 0]).unwrap())).unwrap();
        self.answer()
    }

    fn codes(&mut self, log: EventLog) -> Vec<u16> {
        let rows = self.read(7, log.log(), 2);
        rows_of(&rows).into_iter().map(|row| number(row[1]) as u16).collect()
    }
}

fn meter(
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
fn plain() -> Mix {
    Mix { three_phase_ppm: 0, quarter_hour_ppm: 0, start_stamped_ppm: 0, float_ppm: 0, ..Mix::default() }
}

fn line(association: Association) -> (Line, Arc<SimulatedMeter>) {
    let (meter, identity, access) = meter(0, plain(), |_| ());
    let mut line = Line::new(meter, &identity, &access, association);
    line.associate();
    (line, identity)
}

fn rows_of(data: &OwnedData) -> Vec<Vec<Value<'_>>> {
    let Value::Array(rows) = data.data().value() else { panic!("{data:?}") };
    let cells = |row| match row {
        Value::Structure(cells) => cells.iter().collect(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(cells).collect()
}

#[track_caller]
fn number(value: Value<'_>) -> i64 {
    match value {
        Value::U8(number) | Value::Enum(number) => number.into(),
        Value::U16(number) => number.into(),
        Value::U32(number) => number.into(),
        Value::I32(number) => number.into(),
        Value::Bool(on) => on.into(),
        other => panic!("{other:?}"),
    }
}

fn stamp(at: Instant) -> DateTime {
    let wall = Calendar::india().wall_clock(at);
    let small = |part: i8| part.unsigned_abs();
    let (month, day) = (small(wall.month), small(wall.day));
    let (hour, minute) = (small(wall.hour), small(wall.minute));
    DateTime::new(wall.year.unsigned_abs(), month, day, 0xff, hour, minute, 0, 0, 330, 0)
}

#[test]
fn every_client_opens_its_association_and_reads_the_clock_with_both_mechanisms() {
    for index in [0, 7] {
        for association in [PUBLIC, READER, UTILITY, FIRMWARE] {
            let (meter, identity, access) = meter(index, plain(), |_| ());
            assert_eq!(access.mechanism == Mechanism::Gmac, index == 7);
            let mut line = Line::new(meter, &identity, &access, association);
            line.associate();
            let clock = line.read(8, time::CLOCK, 2);
            let shown = clock.data().value().date_time().unwrap();
            assert_eq!((shown.day(), shown.hour(), shown.minute()), (Some(15), Some(14), Some(7)));
        }
    }
}

#[test]
fn a_range_of_blocks_is_what_the_household_used() {
    let (mut line, identity) = line(UTILITY);
    let options = options(plain());
    let household = Household::new(SEED, &identity, &options.faults);
    let day = household.day("2026-07-10".parse().unwrap(), &options.calendar);
    let (from, to) = (stamp(day.end_of(0)), stamp(day.end()));
    let range = Selection::Range(RangeDescriptor::times(CaptureObject::clock(time::CLOCK), &from, &to));
    let mut buffer = Vec::new();
    let read =
        line.select(7, profile::BLOCK_LOAD, 2, Some(SelectiveAccess::encode(&range, &mut buffer))).unwrap();
    let rows = rows_of(&read);
    assert_eq!(rows.len(), day.intervals.len());
    for (row, interval) in rows.iter().zip(&day.intervals) {
        let values: Vec<i64> = row[1..4].iter().map(|cell| number(*cell)).collect();
        assert_eq!(values, [interval.voltage_dv, interval.wh, interval.vah]);
    }
    let daily = line.read(7, profile::DAILY_LOAD, 2);
    let rows = rows_of(&daily);
    let expected: i64 = identity.opening_register_wh
        + (0..51).map(|ahead| household.day(options.from.plus(ahead), &options.calendar).wh()).sum::<i64>();
    assert_eq!(number(rows[50][1]), expected, "the register at the end of the 51st day");
}

#[test]
fn entries_and_columns_are_chosen_by_number_and_by_name() {
    let (mut line, _) = line(UTILITY);
    let mut buffer = Vec::new();
    let entries = EntryDescriptor { from_entry: 3, to_entry: 5, from_column: 2, to_column: 3 };
    let access = SelectiveAccess::encode(&Selection::Entry(entries), &mut buffer);
    let read = line.select(7, profile::BLOCK_LOAD, 2, Some(access)).unwrap();
    let rows = rows_of(&read);
    assert_eq!((rows.len(), rows[0].len()), (3, 2));
    let all = line.read(7, profile::BLOCK_LOAD, 2);
    assert_eq!(rows_of(&all)[2][1..3], rows[0][..]);
    let restricting = CaptureObject::whole(ClassId(3), LogicalName([9; 6]), 2);
    let (from, to) = (1_u32.into(), 2_u32.into());
    let wrong = Selection::Range(RangeDescriptor { restricting, from, to, columns: List::new(&[]) });
    let access = SelectiveAccess::encode(&wrong, &mut buffer);
    let refused = line.select(7, profile::BLOCK_LOAD, 2, Some(access));
    assert_eq!(refused, Err(Error::Access(DataAccessResult::ScopeOfAccessViolated)));
}

#[test]
fn a_range_is_by_the_time_of_its_own_buffer_or_by_the_number_of_an_event() {
    let (mut line, _) = line(UTILITY);
    let clock = CaptureObject::clock(time::CLOCK);
    let of_block = CaptureObject::clock(LogicalName([0, 0, 1, 0, 1, 255]));
    let billed = CaptureObject::whole(ClassId(1), status::BILLING_DATE, 2);
    let (from, to) = (stamp(now().plus_seconds(-40 * 86_400)), stamp(now()));
    let mut within = |name, restricting| {
        let range = Selection::Range(RangeDescriptor::times(restricting, &from, &to));
        let mut buffer = Vec::new();
        let access = SelectiveAccess::encode(&range, &mut buffer);
        line.select(7, name, 2, Some(access)).map(|read| rows_of(&read).len())
    };
    let violated = Err(Error::Access(DataAccessResult::ScopeOfAccessViolated));
    assert_eq!(within(profile::BILLING, billed), Ok(2), "July, and the month that runs");
    assert_eq!(within(profile::BILLING, clock), violated.clone());
    assert_eq!(within(profile::DAILY_LOAD, clock), Ok(40));
    assert_eq!(within(profile::DAILY_LOAD, of_block), violated.clone());
    assert_eq!(within(profile::DAILY_LOAD, billed), violated.clone());
    let serial = CaptureObject::whole(ClassId(1), identity::SERIAL_NUMBER, 2);
    assert_eq!(within(identity::NAMEPLATE_PROFILE, serial), violated.clone());
    let codes = line.codes(EventLog::Power);
    let mut numbered = |class| {
        let restricting = CaptureObject::whole(ClassId(class), EventLog::Power.sequence_number(), 2);
        let (from, to) = (2_u32.into(), 4_u32.into());
        let range = Selection::Range(RangeDescriptor { restricting, from, to, columns: List::new(&[]) });
        let mut buffer = Vec::new();
        let access = SelectiveAccess::encode(&range, &mut buffer);
        let read = line.select(7, EventLog::Power.log(), 2, Some(access))?;
        Ok(rows_of(&read).iter().map(|row| number(row[1]) as u16).collect::<Vec<_>>())
    };
    assert_eq!(numbered(1), Ok(codes[1..4].to_vec()));
    assert_eq!(numbered(3).map(|_| 0), violated);
}

#[test]
fn everything_in_the_object_list_can_be_read_with_every_kind_of_meter() {
    for index in 0..12 {
        let (meter, identity, access) = meter(index, Mix::default(), |_| ());
        let mut line = Line::new(meter, &identity, &access, UTILITY);
        line.associate();
        let list = line.read(15, codec::cosem::association::CURRENT, 2);
        let mut read = 0;
        for object in rows_of(&list) {
            let [class, _, Value::OctetString(name), Value::Structure(rights)] = object[..] else { panic!() };
            let (class, name) = (number(class) as u16, LogicalName::from_octets(name).unwrap());
            let Some(Value::Array(attributes)) = rights.iter().next() else { panic!() };
            for attribute in attributes {
                let Value::Structure(fields) = attribute else { panic!() };
                let Some(Value::I8(attribute)) = fields.iter().next() else { panic!() };
                let value = line.select(class, name, attribute, None);
                assert!(value.is_ok(), "{} class {class} {name} {attribute}: {value:?}", identity.profile);
                read += 1;
            }
        }
        assert!(read > 300, "{read}");
    }
}

#[test]
fn scalers_belong_to_columns_and_floats_have_their_own() {
    for index in 0..8 {
        let (meter, identity, access) = meter(index, Mix { float_ppm: 500_000, ..Mix::default() }, |_| ());
        let mut line = Line::new(meter, &identity, &access, READER);
        line.associate();
        for (data, scalers) in [
            (profile::INSTANTANEOUS, scaler::INSTANTANEOUS),
            (profile::BLOCK_LOAD, scaler::BLOCK_LOAD),
            (profile::DAILY_LOAD, scaler::DAILY_LOAD),
            (profile::BILLING, scaler::BILLING),
        ] {
            let (columns, scaled) = (line.read(7, data, 3), line.read(7, scalers, 3));
            let names = |read: &OwnedData| -> Vec<Vec<u8>> {
                let name = |row: &Vec<Value<'_>>| match row[1] {
                    Value::OctetString(name) => name.to_vec(),
                    other => panic!("{other:?}"),
                };
                rows_of(read).iter().map(name).collect()
            };
            let (columns, scaled) = (names(&columns), names(&scaled));
            assert!(scaled.iter().all(|name| columns.contains(name)));
            let values = line.read(7, scalers, 2);
            let row = rows_of(&values).remove(0);
            assert_eq!(row.len(), scaled.len());
            let energy = scaled.iter().position(|name| *name == [1, 0, 1, 8, 0, 255]);
            let Some(energy) = energy else { continue };
            let Value::Structure(fields) = row[energy] else { panic!() };
            let expected = if identity.float_energy { 3 } else { 0 };
            assert!(fields.iter().eq([Value::I8(expected), Value::Enum(30)]));
        }
    }
}

#[test]
fn a_cut_is_seen_at_the_relay_in_its_log_and_in_the_event_word() {
    let (mut line, _) = line(UTILITY);
    let state = |line: &mut Line| {
        [2, 3].map(|attribute| number(line.read(70, control::RELAY, attribute).data().value()))
    };
    assert_eq!(state(&mut line), [1, 1]);
    line.act(70, control::RELAY, 1).unwrap();
    assert_eq!(state(&mut line), [0, 0]);
    line.act(70, control::RELAY, 1).unwrap();
    line.act(70, control::RELAY, 2).unwrap();
    assert_eq!(state(&mut line), [1, 1]);
    assert_eq!(line.codes(EventLog::Control), [301, 302]);
    line.write(70, control::RELAY, 4, |w| _ = w.enum_(0)).unwrap();
    let denied = line.act(70, control::RELAY, 1);
    assert_eq!(denied, Err(Error::Action(ActionResult::ReadWriteDenied)));
}

#[test]
fn a_relay_with_a_button_waits_for_it_and_a_broken_one_says_so_or_lies() {
    let set = |mode, relay, button_after_s| {
        move |how: &mut MeterOptions| {
            (how.relay_mode, how.relay, how.button_after_s) = (mode, relay, button_after_s);
        }
    };
    let open = |change| {
        let (meter, identity, access) = meter(0, plain(), change);
        let mut line = Line::new(meter, &identity, &access, UTILITY);
        line.associate();
        line
    };
    let mut line = open(set(3, Behaviour::Works, Some(20)));
    line.act(70, control::RELAY, 1).unwrap();
    line.act(70, control::RELAY, 2).unwrap();
    assert_eq!(number(line.read(70, control::RELAY, 3).data().value()), 2);
    line.now = line.now.plus_seconds(20);
    assert_eq!(number(line.read(70, control::RELAY, 3).data().value()), 1);
    assert_eq!(line.codes(EventLog::Control), [301, 302]);
    let mut line = open(set(4, Behaviour::Fails, None));
    let failed = line.act(70, control::RELAY, 1);
    assert_eq!(failed, Err(Error::Action(ActionResult::TemporaryFailure)));
    let mut line = open(set(4, Behaviour::Stuck, None));
    line.act(70, control::RELAY, 1).unwrap();
    assert_eq!(number(line.read(70, control::RELAY, 2).data().value()), 1);
}

#[test]
fn the_clock_is_set_and_the_setting_logged() {
    let (mut line, _) = line(UTILITY);
    let set = stamp(now().plus_seconds(3600));
    line.write(8, time::CLOCK, 2, |w| _ = w.octet_string(&set.0)).unwrap();
    line.now = line.now.plus_seconds(60);
    let shown = line.read(8, time::CLOCK, 2).data().value().date_time().unwrap();
    assert_eq!((shown.hour(), shown.minute()), (Some(15), Some(8)));
    assert_eq!(line.codes(EventLog::Transaction), [151]);
    let refused = line.write(8, time::CLOCK, 2, |w| _ = w.octet_string(&[0xff; 12]));
    assert_eq!(refused, Err(Error::Access(DataAccessResult::TypeUnmatched)));
}

#[test]
fn what_the_meter_shows_of_the_prepaid_account_is_what_was_written() {
    let (mut line, _) = line(UTILITY);
    line.write(1, prepaid::BALANCE_AMOUNT, 2, |w| _ = w.i32(-4_250)).unwrap();
    assert_eq!(number(line.read(1, prepaid::BALANCE_AMOUNT, 2).data().value()), -4_250);
    let wrong = line.write(1, prepaid::BALANCE_AMOUNT, 2, |w| _ = w.u32(1));
    assert_eq!(wrong, Err(Error::Access(DataAccessResult::TypeUnmatched)));
    line.write(1, prepaid::PAYMENT_MODE, 2, |w| _ = w.u8(0)).unwrap();
    line.write(71, control::LOAD_LIMIT, 4, |w| _ = w.u32(3_000)).unwrap();
    assert_eq!(number(line.read(71, control::LOAD_LIMIT, 3).data().value()), 3_000);
    assert_eq!(line.codes(EventLog::Transaction), [211, 158]);
}

#[test]
fn nobody_does_what_his_association_does_not_allow() {
    let denied = Err(Error::Access(DataAccessResult::ReadWriteDenied));
    let (mut public, _) = line(PUBLIC);
    assert_eq!(public.select(7, profile::BLOCK_LOAD, 2, None), denied.clone());
    assert_eq!(public.select(1, identity::MANUFACTURER, 2, None), denied);
    public.read(1, UTILITY.invocation_counter.unwrap(), 2);
    let (mut firmware, _) = line(FIRMWARE);
    let refused = firmware.act(70, control::RELAY, 1);
    assert_eq!(refused, Err(Error::Action(ActionResult::ReadWriteDenied)));
    firmware.write(18, control::IMAGE_TRANSFER, 5, |w| _ = w.bool(true)).unwrap();
}

#[test]
fn outages_stand_in_the_power_log_as_the_household_had_them() {
    let (mut line, identity) = line(READER);
    let options = options(plain());
    let household = Household::new(SEED, &identity, &options.faults);
    let outages: usize =
        (0..56).map(|ahead| household.day(options.from.plus(ahead), &options.calendar).outages.len()).sum();
    let codes = line.codes(EventLog::Power);
    assert!(outages > 3, "{outages}");
    assert_eq!(codes.len(), outages * 2);
    assert!(codes.chunks(2).all(|pair| pair == [101, 102]));
    let sequence = line.read(1, EventLog::Power.sequence_number(), 2);
    assert_eq!(number(sequence.data().value()), codes.len() as i64);
}

#[test]
fn the_billing_profile_closes_with_each_month() {
    let (mut line, identity) = line(UTILITY);
    let options = options(plain());
    let household = Household::new(SEED, &identity, &options.faults);
    let read = line.read(7, profile::BILLING, 2);
    let rows = rows_of(&read);
    assert_eq!((rows.len(), rows[0].len()), (3, 32), "June, July, and the month that runs");
    let until_june: i64 =
        (0..12).map(|ahead| household.day(options.from.plus(ahead), &options.calendar).wh()).sum();
    assert_eq!(number(rows[0][2]), identity.opening_register_wh + until_june);
    let closed = rows[0][0].date_time().unwrap();
    assert_eq!((closed.month(), closed.day(), closed.hour()), (Some(6), Some(1), Some(0)));
    assert!(number(rows[2][2]) >= number(rows[1][2]));
}

#[test]
fn the_same_seed_answers_with_the_same_bytes() {
    let open = || {
        let (mut meter, ..) = meter(0, plain(), |_| ());
        let mut connection = meter.session();
        let aarq = hex::decode("601da109060760857405080101be10040e01000000065f1f0400001014ffff").unwrap();
        let get = hex::decode("c001c1000701006301 00ff0200".replace(' ', "")).unwrap();
        [aarq, get].map(|apdu| meter.answer(&mut connection, 16, &apdu, now()).apdu)
    };
    assert_eq!(open(), open());
}

#[test]
fn keys_that_a_head_end_gave_are_those_of_the_pushes_from_the_next_association_on() {
    use codec::apdu::{self, Apdu};
    use codec::security::keys::{Key, KeyId, emit_key_transfer};
    use codec::security::{self, Opened, Policy, RustCrypto, Scratch};
    use codec::wrapper::Wrapper;
    let mix = Mix { transport_policy_ppm: 0, ..plain() };
    let (meter, identity, access) = meter(0, mix, |_| ());
    let mut line = Line::new(meter, &identity, &access, UTILITY);
    line.associate();
    let (guek, gak) = ([0x21; 16], [0x22; 16]);
    let master = Key::new(access.kek);
    let wrapped = [(KeyId::Guek, master.wrap(&Key::new(guek))), (KeyId::Gak, master.wrap(&Key::new(gak)))];
    let mut transfer = Vec::new();
    emit_key_transfer(&wrapped, &mut transfer);
    let setup = UTILITY.security_setup.unwrap();
    let method = MethodDescriptor { class: ClassId(64), instance: setup, method: 2 };
    line.session.client().action(method, Some(Data::new(&transfer).unwrap())).unwrap();
    line.answer().unwrap();
    let push = |identity: &Arc<SimulatedMeter>| {
        let options = options(Mix { transport_policy_ppm: 0, ..plain() });
        let mut schedule = fleet::Schedule::new(&options, &[Arc::clone(identity)]).unwrap();
        let until = options.calendar.end_of(options.from);
        schedule.next(until, fleet::Pace::Live).unwrap().unwrap().frame.bytes
    };
    let opens = |bytes: &[u8], keys: &Keys| {
        let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(Wrapper::new_checked(bytes).unwrap().apdu()) else {
            panic!("not ciphered");
        };
        let mut scratch = Scratch::new();
        let opened = security::open(&RustCrypto, &glo, keys, Policy::Authenticated, &mut scratch);
        matches!(opened, Ok(Opened::Authentic(_)))
    };
    let (old, fresh) = (Keys::new(identity.guek, identity.gak), Keys::new(guek, gak));
    assert!(opens(&push(&identity), &old), "before the next association");
    let counter = line.session.client().counter().next();
    let keys = AssociationKeys::new(fresh.clone());
    let secret = Authentication::Aes(Secret::new(access.hls_secret.clone().into_bytes()));
    let config = Config::ciphered(TITLE, secret, Protection::new(keys));
    line.session = IndianSession::new(UTILITY, config, SendCounter::resume(counter));
    line.associate();
    assert!(opens(&push(&identity), &fresh) && !opens(&push(&identity), &old));
    assert_eq!(line.meter.key_changes(), 1);
}
