//! The simulated meter answers the head-end's own sessions with what the same household pushes.
#![allow(clippy::unwrap_used, missing_docs)]

mod line;

use std::sync::Arc;

use codec::apdu::acse::Mechanism;
use codec::apdu::{
    ActionResult, AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectedAttribute, SelectiveAccess,
};
use codec::axdr::{Data, Value};
use codec::cosem::india::association::{FIRMWARE, PUBLIC, READER, UTILITY};
use codec::cosem::india::{control, events::EventLog, identity, prepaid, profile, scaler, status, time};
use codec::cosem::profile_generic::{CaptureObject, EntryDescriptor, RangeDescriptor, Selection};
use codec::cosem::{ClassId, List, LogicalName};
use codec::security::Keys;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::security::keys::AssociationKeys;
use codec::session::client::{Answer, Authentication, Config, Error, Event, OwnedData, Protection};
use codec::session::india::IndianSession;
use fleet::meter::{Access, Behaviour, MeterOptions};
use fleet::{Household, Mix, SimulatedMeter};

use line::*;

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
                let mut fields = fields.iter();
                let (Some(Value::I8(attribute)), Some(Value::Enum(mode))) = (fields.next(), fields.next())
                else {
                    panic!()
                };
                if mode == 2 {
                    let refused = Err(Error::Access(DataAccessResult::ReadWriteDenied));
                    assert_eq!(line.select(class, name, attribute, None), refused, "only written");
                    continue;
                }
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

/// What a client may do with an object: read it, write this attribute of it, call this method of it.
type Rights = (bool, Option<i8>, Option<i8>);

/// Of some objects of each kind what the public client, the reader, the utility and the firmware client may do (dlms.md
/// 6.1): the first reads who it is, the second everything, the third does everything, the last what an image needs.
const RIGHTS: [(u16, LogicalName, [Rights; 4]); 22] = {
    const NONE: Rights = (false, None, None);
    const READS: Rights = (true, None, None);
    const ONLY_READ: [Rights; 4] = [NONE, READS, READS, NONE];
    const fn all(reads: bool, may: Rights) -> [Rights; 4] {
        [(reads, None, None), READS, may, (reads, None, None)]
    }
    const fn named(a: u8, b: u8, c: u8, d: u8, e: u8) -> LogicalName {
        LogicalName([a, b, c, d, e, 255])
    }
    const CHANGES: Rights = (true, None, Some(2));
    [
        (1, identity::SERIAL_NUMBER, all(true, READS)),
        (1, identity::MANUFACTURER, ONLY_READ),
        (1, identity::FIRMWARE_VERSION, [NONE, READS, READS, READS]),
        (8, time::CLOCK, all(true, (true, Some(2), Some(6)))),
        (1, named(0, 0, 43, 1, 3), all(true, READS)),
        (1, named(0, 0, 43, 1, 4), all(true, READS)),
        (3, named(1, 0, 1, 8, 3), ONLY_READ),
        (7, profile::BLOCK_LOAD, all(false, (true, None, Some(1)))),
        (7, profile::BILLING, all(false, (true, None, Some(2)))),
        (22, time::BILLING_SCHEDULE, all(false, (true, Some(4), None))),
        (22, time::IMAGE_ACTIVATION_SCHEDULE, [NONE, READS, (true, Some(4), None), (true, Some(4), None)]),
        (20, time::ACTIVITY_CALENDAR, all(false, (true, Some(10), Some(1)))),
        (9, named(0, 0, 10, 0, 106), all(false, (true, None, Some(1)))),
        (9, named(0, 0, 10, 0, 100), ONLY_READ),
        (40, named(0, 0, 25, 9, 0), all(false, (true, Some(5), Some(1)))),
        (41, named(0, 0, 25, 0, 0), ONLY_READ),
        (70, control::RELAY, all(false, (true, Some(4), Some(1)))),
        (18, control::IMAGE_TRANSFER, [NONE, READS, (true, Some(5), Some(1)), (true, Some(5), Some(1))]),
        (64, named(0, 0, 43, 0, 3), all(false, CHANGES)),
        (64, named(0, 0, 43, 0, 5), [NONE, READS, CHANGES, CHANGES]),
        (15, named(0, 0, 40, 0, 2), all(false, (true, Some(7), None))),
        (15, named(0, 0, 40, 0, 4), ONLY_READ),
    ]
};

#[test]
fn each_client_has_the_rights_of_its_association_in_its_object_list_and_in_deed() {
    let denied = DataAccessResult::ReadWriteDenied;
    for (place, association) in [PUBLIC, READER, UTILITY, FIRMWARE].into_iter().enumerate() {
        let (mut line, _) = line(association);
        // The list of the firmware client needs blocks, which its association does not have (dlms.md 6.1).
        let list = line.select(15, codec::cosem::association::CURRENT, 2, None);
        let list = list.ok().filter(|_| association != FIRMWARE);
        let listed = |class: u16, name: LogicalName| {
            rows_of(list.as_ref()?).into_iter().find_map(|object| {
                let [of, _, Value::OctetString(octets), Value::Structure(rights)] = object[..] else {
                    panic!()
                };
                let is_it = number(of) == i64::from(class) && octets == name.0;
                is_it.then(|| rights.iter().map(numbers).collect::<Vec<_>>())
            })
        };
        for (class, name, rights) in RIGHTS {
            let (reads, writes, calls) = rights[place];
            let what = format!("{} {class} {name}", association.name);
            let found = listed(class, name);
            assert_eq!(found.is_some(), reads && list.is_some(), "{what} in the list");
            assert_eq!(line.select(class, name, 1, None).is_ok(), reads, "{what} read");
            let is_listed = |all: &[(i64, i64)], wanted: i8, modes: &[i64]| {
                all.iter().any(|(number, mode)| *number == i64::from(wanted) && modes.contains(mode))
            };
            if let Some([attributes, methods]) = found.as_deref() {
                assert!(writes.is_none_or(|writes| is_listed(attributes, writes, &[2, 3])), "{what} write");
                assert!(calls.is_none_or(|calls| is_listed(methods, calls, &[1])), "{what} call");
                let (read, uncalled) = (
                    attributes.iter().all(|(_, mode)| *mode <= 1),
                    methods.iter().all(|(_, mode)| *mode == 0),
                );
                assert!(writes.is_some() || read, "{what} {attributes:?}");
                assert!(calls.is_some() || uncalled, "{what} {methods:?}");
            }
            // Who may not, is refused, where the association has the service at all.
            let of_utility = rights_of_utility(rights);
            if let (FIRMWARE, None, (_, Some(attribute), _)) = (association, writes, of_utility) {
                let refused = line.write(class, name, attribute, |w| _ = w.null());
                assert_eq!(refused, Err(Error::Access(denied)), "{what}");
            }
            if let (FIRMWARE, None, (.., Some(method))) = (association, calls, of_utility) {
                let refused = line.act(class, name, method);
                assert_eq!(refused, Err(Error::Action(ActionResult::ReadWriteDenied)), "{what}");
            }
        }
    }
}

fn rights_of_utility([_, _, utility, _]: [Rights; 4]) -> Rights {
    utility
}

/// Pairs of a number and a mode.
fn numbers(value: Value<'_>) -> Vec<(i64, i64)> {
    let Value::Array(all) = value else { panic!("{value:?}") };
    let pair = |one| {
        let Value::Structure(fields) = one else { panic!("{one:?}") };
        let mut fields = fields.iter();
        match (fields.next(), fields.next()) {
            (Some(Value::I8(number)), Some(Value::Enum(mode))) => (i64::from(number), i64::from(mode)),
            other => panic!("{other:?}"),
        }
    };
    all.iter().map(pair).collect()
}

#[test]
fn no_client_opens_the_association_of_the_pushes() {
    let (mut meter, ..) = meter(0, plain(), |_| ());
    let mut connection = meter.session();
    let aarq = hex::decode("601da109060760857405080101be10040e01000000065f1f0400001014ffff").unwrap();
    let refused = meter.answer(&mut connection, 64, &aarq, now()).apdu;
    assert!(matches!(codec::apdu::parse(&refused),
        Ok(codec::apdu::Apdu::AssociationResponse(aare)) if aare.result.code() == 1));
}

#[test]
fn what_happens_to_a_meter_stands_in_the_log_of_its_kind_under_a_known_code() {
    let mut seen = [0; EventLog::ALL.len()];
    for index in 0..20 {
        let (meter, identity, access) = meter(index, Mix::default(), |_| ());
        let mut line = Line::new(meter, &identity, &access, READER);
        line.associate();
        for (place, log) in EventLog::ALL.into_iter().enumerate() {
            let range = match log {
                EventLog::Voltage => 1..=50,
                EventLog::Current => 51..=100,
                EventLog::Power => 101..=150,
                EventLog::Transaction => 151..=200,
                EventLog::Others => 201..=250,
                EventLog::NonRollover => 251..=300,
                EventLog::Control => 301..=350,
            };
            let codes = line.codes(log);
            for code in &codes {
                assert!(range.contains(code) && profiles::Event::of(*code).is_some(), "{log:?} {code}");
            }
            let latest = line.read(1, log.latest_code(), 2);
            assert_eq!(number(latest.data().value()), codes.last().map_or(0, |code| i64::from(*code)));
            seen[place] += codes.len();
        }
    }
    let [voltage, current, power, transaction, others, non_rollover, control] = seen;
    assert!([voltage, current, power, others, non_rollover].iter().all(|count| *count > 0), "{seen:?}");
    assert_eq!((transaction, control), (0, 0), "nobody did anything");
}

#[test]
fn a_load_above_what_is_sanctioned_is_over_current_and_one_above_the_limit_an_overload() {
    let (mut line, identity) = line(UTILITY);
    let options = options(plain());
    let household = Household::new(SEED, &identity, &options.faults);
    let codes = line.codes(EventLog::Current);
    let over = codes.iter().filter(|code| **code == 67).count();
    let back = codes.iter().filter(|code| **code == 68).count();
    assert!(over.abs_diff(back) <= 1, "{codes:?}");
    let day = household.day("2026-07-10".parse().unwrap(), &options.calendar);
    let peak_w = day.intervals.iter().map(|interval| interval.wh * 2).max().unwrap();
    line.write(71, control::LOAD_LIMIT, 4, |w| _ = w.u32(u32::try_from(peak_w / 4).unwrap())).unwrap();
    line.again_at(now().plus_seconds(86_400));
    let others: Vec<u16> = line.codes(EventLog::Others).into_iter().filter(|code| *code > 210).collect();
    assert_eq!(others.first(), Some(&215), "{others:?}");
    assert!(others.chunks(2).all(|pair| pair[0] == 215 && pair.get(1).is_none_or(|back| *back == 216)));
    let switched = line.codes(EventLog::Control);
    assert_eq!(
        switched.iter().filter(|code| **code == 301).count(),
        others.iter().filter(|c| **c == 215).count()
    );
}

#[test]
fn a_clock_is_adjusted_to_periods_and_to_a_time_that_was_preset() {
    let (mut line, _) = line(UTILITY);
    let shown = |line: &mut Line| {
        let read = line.read(8, time::CLOCK, 2);
        let shown = read.data().value().date_time().unwrap();
        (shown.hour().unwrap(), shown.minute().unwrap(), shown.second().unwrap())
    };
    line.act(8, time::CLOCK, 2).unwrap();
    assert_eq!(shown(&mut line), (14, 0, 0), "to the half-hour that is nearest");
    line.act_with(8, time::CLOCK, 6, |w| _ = w.i16(470)).unwrap();
    line.act(8, time::CLOCK, 3).unwrap();
    assert_eq!(shown(&mut line), (14, 8, 0));
    line.act(8, time::CLOCK, 1).unwrap();
    assert_eq!(shown(&mut line), (14, 15, 0));
    let other = Err(Error::Action(ActionResult::OtherReason));
    assert_eq!(line.act(8, time::CLOCK, 4), other, "nothing is preset");
    let mut preset = |from: i64, to: i64| {
        let [time, from, to] = [3600, from, to].map(|after| stamp(now().plus_seconds(after)));
        line.act_with(8, time::CLOCK, 5, |w| {
            w.structure(3).octet_string(&time.0).octet_string(&from.0).octet_string(&to.0);
        })
        .unwrap();
        line.act(8, time::CLOCK, 4)
    };
    assert_eq!(preset(-7200, -3600), other, "not valid any more");
    preset(-3600, 3600).unwrap();
    assert_eq!(shown(&mut line), (15, 7, 0));
    assert_eq!(line.codes(EventLog::Transaction), [151; 5]);
}

#[test]
fn passwords_secrets_and_policies_are_set_by_whoever_may() {
    let (mut line, identity) = line(UTILITY);
    let [reader, own] = [READER, UTILITY].map(|association| association.object);
    line.write(15, reader, 7, |w| _ = w.octet_string(b"NewPassword")).unwrap();
    let short = line.write(15, reader, 7, |w| _ = w.octet_string(b"short"));
    assert_eq!(short, Err(Error::Access(DataAccessResult::TypeUnmatched)));
    line.act_with(15, own, 2, |w| _ = w.octet_string(b"FEDCBA9876543210")).unwrap();
    line.act_with(15, FIRMWARE.object, 2, |w| _ = w.octet_string(b"0011223344556677")).unwrap();
    assert_eq!(line.codes(EventLog::Transaction), [161, 162, 163]);
    let setup = UTILITY.security_setup.unwrap();
    line.act_with(64, setup, 1, |w| _ = w.enum_(3)).unwrap();
    let weaker = line.act_with(64, setup, 1, |w| _ = w.enum_(1));
    assert_eq!(weaker, Err(Error::Action(ActionResult::ReadWriteDenied)));
    let access = Access { lls: "NewPassword".to_owned(), ..Access::of(SEED, identity.index) };
    let Line { meter, .. } = line;
    let mut reader = Line::new(meter, &identity, &access, READER);
    reader.associate();
    let access = Access { hls_secret: "FEDCBA9876543210".to_owned(), ..access };
    let mut utility = Line::new(reader.meter, &identity, &access, UTILITY);
    utility.associate();
}

#[test]
fn a_push_comes_between_a_question_and_its_answer_under_a_counter_of_the_pushes() {
    use codec::session::client::Push;
    let faults = vec!["push%2".parse().unwrap()];
    let mix = Mix { transport_policy_ppm: 0, authenticated_only_ppm: 0, ..plain() };
    let (meter, identity, access) = meter(0, mix, |how| how.faults = faults);
    let mut line = Line::new(meter, &identity, &access, UTILITY);
    line.associate();
    let mut pushes = Vec::new();
    for _ in 0..4 {
        line.session
            .client()
            .get(SelectedAttribute::whole(AttributeDescriptor {
                class: ClassId(1),
                instance: identity::SERIAL_NUMBER,
                attribute: 2,
            }))
            .unwrap();
        line.run();
        let mut answers = 0;
        for event in line.events.drain(..) {
            match event {
                Event::Pushed(Push::Received(apdu)) => pushes.push(apdu),
                Event::Answered(_, Answer::Value(_)) => answers += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answers, 1);
    }
    assert_eq!(pushes.len(), 2);
    let counters = pushes.iter().map(|apdu| match codec::apdu::parse(apdu) {
        Ok(codec::apdu::Apdu::GeneralGlo(glo)) => glo.invocation_counter(),
        other => panic!("{other:?}"),
    });
    let counters: Vec<u32> = counters.collect();
    assert!(counters[0] < counters[1] && counters[1] < 0x8000_0000, "{counters:?}");
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
