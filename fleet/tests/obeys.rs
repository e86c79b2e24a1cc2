//! What a head-end writes into a simulated meter, the meter obeys: dates, schedules, filters, calendars, scripts.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod line;

use std::collections::BTreeSet;
use std::sync::Arc;

use codec::apdu::{ActionResult, DataAccessResult};
use codec::axdr::Writer;
use codec::cosem::LogicalName;
use codec::cosem::india::association::{FIRMWARE, UTILITY};
use codec::cosem::india::{control, events::EventLog, identity, profile, push, register, status, time};
use codec::session::client::{Answer, Error, OwnedData};
use fleet::meter::Meter;
use fleet::{Due, Household, Kind, Pace, Schedule, SimulatedMeter};
use model::{Calendar, CivilDay, Instant};

use line::*;

const DAY_S: i64 = 86_400;
const ANY_DATE: [u8; 5] = [0xff; 5];

fn at(day: &str, hour: i8, minute: i8) -> Instant {
    Calendar::india().at(day.parse().unwrap(), hour, minute)
}

fn times(times: &[([u8; 4], [u8; 5])]) -> impl FnOnce(&mut Writer<'_>) {
    let times = times.to_vec();
    move |w| {
        w.array(times.len());
        times.iter().for_each(|(time, date)| _ = w.structure(2).octet_string(time).octet_string(date));
    }
}

/// The moments of the first column of billing rows, and their import register.
fn bills(line: &mut Line) -> Vec<(String, i64)> {
    let read = line.read(7, profile::BILLING, 2);
    let row = |row: Vec<codec::axdr::Value<'_>>| {
        let stamp = row[0].date_time().unwrap();
        let part = |part: Option<u8>| part.unwrap();
        let (month, day) = (part(stamp.month()), part(stamp.day()));
        let (hour, minute) = (part(stamp.hour()), part(stamp.minute()));
        (format!("{month:02}-{day:02} {hour:02}:{minute:02}"), number(row[2]))
    };
    rows_of(&read).into_iter().map(row).collect()
}

fn used(identity: &SimulatedMeter, day: &str) -> fleet::DayUse {
    let options = options(plain());
    Household::new(SEED, identity, &options.faults).day(day.parse().unwrap(), &options.calendar)
}

/// The register at the start of that day.
fn register_at(identity: &SimulatedMeter, day: &str) -> i64 {
    let options = options(plain());
    let household = Household::new(SEED, identity, &options.faults);
    let until: CivilDay = day.parse().unwrap();
    let days = (options.from.0..until.0).map(CivilDay);
    identity.opening_register_wh + days.map(|day| household.day(day, &options.calendar).wh()).sum::<i64>()
}

#[test]
fn a_billing_date_that_is_set_closes_the_cycles_from_then_on() {
    let (mut line, identity) = line(UTILITY);
    assert_eq!(number(line.read(1, status::BILLING_PERIODS_AVAILABLE, 2).data().value()), 2);
    line.write(22, time::BILLING_SCHEDULE, 4, times(&[([6, 0, 0, 0], [0xff, 0xff, 0xff, 20, 0xff])]))
        .unwrap();
    line.again_at(at("2026-08-25", 9, 0));
    let bills = bills(&mut line);
    let dates: Vec<&str> = bills.iter().map(|(date, _)| date.as_str()).collect();
    assert_eq!(dates, ["06-01 00:00", "07-01 00:00", "07-20 06:00", "08-20 06:00", "08-25 09:00"]);
    let of_day: i64 = used(&identity, "2026-07-20").intervals[..12].iter().map(|interval| interval.wh).sum();
    assert_eq!(bills[2].1, register_at(&identity, "2026-07-20") + of_day);
    let closed = line.read(1, status::BILLING_DATE, 2);
    let closed = closed.data().value().date_time().unwrap();
    assert_eq!((closed.month(), closed.day(), closed.hour()), (Some(8), Some(20), Some(6)));
    assert_eq!(number(line.read(1, status::BILLING_PERIODS_AVAILABLE, 2).data().value()), 4);
    // Twelve were over when it was installed.
    assert_eq!(number(line.read(1, status::BILLING_COUNT, 2).data().value()), 12 + 4);
    assert_eq!(line.codes(EventLog::Transaction), [154]);
    let wrong = line.write(22, time::BILLING_SCHEDULE, 4, |w| _ = w.array(1).u8(3));
    assert_eq!(wrong, Err(Error::Access(DataAccessResult::TypeUnmatched)));
}

#[test]
fn a_cycle_that_is_closed_by_hand_begins_the_demand_anew_in_buffers_and_pushes() {
    let (mut line, identity) = line(UTILITY);
    let mut schedule = schedule(&identity);
    schedule.skip(now()).unwrap();
    let demand = |line: &mut Line| number(line.read(4, register::DEMAND_IMPORT, 2).data().value());
    let before = demand(&mut line);
    let peak = |day: &str, from: usize, to: usize| {
        let intervals = used(&identity, day).intervals;
        intervals[from..to].iter().map(|interval| interval.wh * 2).max().unwrap_or(0)
    };
    assert!(before >= peak("2026-07-15", 0, 28));
    line.act_with(9, time::DEMAND_RESET_SCRIPT, 1, |w| _ = w.u16(1)).unwrap();
    line.now = now().plus_seconds(1);
    assert_eq!(demand(&mut line), 0, "no interval of the cycle is over");
    let rows = line.read(7, profile::BILLING, 2);
    let rows = rows_of(&rows);
    assert_eq!((rows.len(), number(rows[2][20])), (4, before), "the cycle that was closed keeps it");
    line.again_at(at("2026-07-15", 20, 7));
    assert_eq!(demand(&mut line), peak("2026-07-15", 28, 40));
    line.act(7, profile::BILLING, 2).unwrap();
    assert_eq!(line.codes(EventLog::Transaction), [166, 166]);
    let unknown = line.act_with(9, time::DEMAND_RESET_SCRIPT, 1, |w| _ = w.u16(2));
    assert_eq!(unknown, Err(Error::Action(ActionResult::ObjectUndefined)));
    let pushed = pushes(&mut schedule, at("2026-07-15", 23, 0), Kind::Instant);
    let demand_of = |due: &Due| due.frame.readings[0].1.get(model::Channel::DemandW).unwrap();
    let late: Vec<i64> =
        pushed.iter().filter(|due| due.frame.sent > at("2026-07-15", 20, 31)).map(demand_of).collect();
    assert!(!late.is_empty() && late.iter().all(|watts| *watts <= peak("2026-07-15", 40, 46)), "{late:?}");
}

fn schedule(identity: &Arc<SimulatedMeter>) -> Schedule {
    Schedule::new(&options(plain()), &[Arc::clone(identity)]).unwrap()
}

/// What is pushed up to `until`, of that kind; a counter is never used twice.
fn pushes(schedule: &mut Schedule, until: Instant, kind: Kind) -> Vec<Due> {
    let mut all = Vec::new();
    let mut counters = BTreeSet::new();
    while let Some(due) = schedule.next(until, Pace::Live).unwrap() {
        assert!(due.copy || counters.insert((due.frame.key_epoch, due.frame.counter)), "{due:?}");
        all.push(due);
    }
    all.retain(|due| due.frame.kind == kind);
    all
}

#[test]
fn values_are_pushed_at_the_times_of_the_schedule_from_when_it_is_set() {
    let (mut line, identity) = line(UTILITY);
    let mut schedule = schedule(&identity);
    schedule.skip(now()).unwrap();
    let usual = pushes(&mut schedule, at("2026-07-15", 15, 7), Kind::Instant);
    assert_eq!(usual.len(), 4, "every quarter of an hour");
    line.write(40, push::INSTANTANEOUS, 5, |w| _ = w.u16(0)).unwrap();
    line.write(22, time::PUSH_SCHEDULE, 4, times(&[([0xff, 20, 0, 0], ANY_DATE), ([18, 5, 0, 0], ANY_DATE)]))
        .unwrap();
    let scheduled = pushes(&mut schedule, at("2026-07-15", 21, 0), Kind::Instant);
    let sent: Vec<Instant> = scheduled.iter().map(|due| due.frame.sent).collect();
    let hour = |hour| at("2026-07-15", hour, 20);
    let free = used(&identity, "2026-07-15");
    let mut expected =
        vec![hour(15), hour(16), hour(17), at("2026-07-15", 18, 5), hour(18), hour(19), hour(20)];
    expected.retain(|at| !free.outages.iter().any(|(from, to)| from <= at && at < to));
    assert_eq!(sent, expected);
    assert!(scheduled.is_sorted_by_key(|due| due.frame.counter));
    assert!(usual.last().unwrap().frame.counter < scheduled[0].frame.counter);
    line.write(22, time::PUSH_SCHEDULE, 4, times(&[])).unwrap();
    assert!(pushes(&mut schedule, at("2026-07-16", 12, 5), Kind::Instant).is_empty(), "never again");
    let intervals = pushes(&mut schedule, at("2026-07-17", 0, 2), Kind::Interval);
    assert_eq!(intervals.len(), 24, "those of every half-hour go on");
}

#[test]
fn a_push_keeps_away_from_the_time_of_its_schedule_as_far_as_its_setup_says() {
    let (mut line, identity) = line(UTILITY);
    let mut schedule = schedule(&identity);
    schedule.skip(now()).unwrap();
    line.write(22, time::PUSH_SCHEDULE, 4, times(&[([0xff, 20, 0, 0], ANY_DATE)])).unwrap();
    line.write(40, push::INSTANTANEOUS, 5, |w| _ = w.u16(600)).unwrap();
    let sent = pushes(&mut schedule, at("2026-07-16", 14, 0), Kind::Instant);
    let delays: BTreeSet<i64> =
        sent.iter().map(|due| due.frame.sent.seconds() - due.frame.readings[0].0.seconds()).collect();
    assert!(sent.len() > 15 && delays.len() > sent.len() / 2, "{delays:?}");
    assert!(delays.iter().all(|delay| (0..=600).contains(delay)) && delays.iter().any(|delay| *delay > 60));
}

#[test]
fn a_push_that_is_asked_for_comes_at_once() {
    let setups = [
        (push::INSTANTANEOUS, Kind::Instant),
        (push::ALERT, Kind::Event),
        (push::BLOCK_LOAD, Kind::Interval),
        (push::DAILY_LOAD, Kind::Daily),
    ];
    for (number, (setup, kind)) in (1..).zip(setups) {
        let (mut line, identity) = line(UTILITY);
        let mut schedule = schedule(&identity);
        let until = now().plus_seconds(5);
        schedule.skip(now()).unwrap();
        line.act(40, setup, 1).unwrap();
        let asked = pushes(&mut schedule, until, kind);
        assert_eq!(asked.len(), 1, "{kind:?}");
        line.act_with(9, time::PUSH_SCRIPT, 1, |w| _ = w.u16(number)).unwrap();
        assert_eq!(pushes(&mut schedule, until.plus_seconds(5), kind).len(), 1, "{kind:?} by its script");
        let of_day: i64 = used(&identity, "2026-07-14").wh();
        match kind {
            Kind::Interval => assert_eq!(asked[0].frame.readings[0].0, at("2026-07-15", 14, 0)),
            Kind::Daily => {
                let (end, values) = &asked[0].frame.readings[0];
                assert_eq!(*end, at("2026-07-15", 0, 0));
                let register = register_at(&identity, "2026-07-14") + of_day;
                assert_eq!(values.get(model::Channel::ImportWh), Some(register));
            }
            Kind::Event => assert!(asked[0].frame.event_word.is_some()),
            Kind::Instant => assert_eq!(asked[0].frame.readings.len(), 1),
        }
    }
}

#[test]
fn only_flags_that_the_filter_lets_through_are_pushed() {
    let (mut line, identity) = line(UTILITY);
    let mut schedule = schedule(&identity);
    schedule.skip(now()).unwrap();
    let until = now().plus_seconds(20 * DAY_S);
    let mut filter = [0; 16];
    // Last gasp and first breath.
    filter[10] = 0b0000_0110;
    line.write(1, push::EVENT_STATUS_FILTER, 2, |w| _ = w.bit_string(128, &filter)).unwrap();
    let outages: usize = (1..=20)
        .map(|ahead| {
            let day = Calendar::india().day_of(now()).plus(ahead);
            let household = Household::new(SEED, &identity, &options(plain()).faults);
            household.day(day, &Calendar::india()).outages.iter().filter(|(from, _)| *from <= until).count()
        })
        .sum();
    let words = pushes(&mut schedule, until, Kind::Event);
    let tomorrow = at("2026-07-16", 0, 0);
    let words = words.iter().filter(|due| due.frame.sent >= tomorrow).count();
    assert!(outages > 1 && words.abs_diff(outages * 3) <= 2, "{words} for {outages}: failure, return, over");
    assert_eq!(line.codes(EventLog::Transaction), [165]);
}

#[test]
fn whatever_is_written_and_switched_in_a_day_no_counter_is_used_twice() {
    for index in 0..6 {
        let (meter, identity, access) = meter(index, plain(), |_| ());
        let mut line = Line::new(meter, &identity, &access, UTILITY);
        let mut schedule = schedule(&identity);
        schedule.skip(now()).unwrap();
        let mut counters = std::collections::BTreeMap::new();
        for step in 0..60 {
            let moment = now().plus_seconds(step * 1800);
            line.now = moment;
            line.again_at(moment);
            match step % 5 {
                0 => _ = line.act(70, control::RELAY, 1 + i8::try_from(step / 5 % 2).unwrap()),
                1 => _ = line.act(40, push::INSTANTANEOUS, 1),
                2 => {
                    let minute = u8::try_from(step).unwrap();
                    _ = line.write(22, time::PUSH_SCHEDULE, 4, times(&[([0xff, minute, 0, 0], ANY_DATE)]));
                }
                3 => _ = line.act(40, push::ALERT, 1),
                _ => _ = line.act(40, push::DAILY_LOAD, 1),
            }
            while let Some(due) = schedule.next(moment.plus_seconds(1700), Pace::Live).unwrap() {
                let number = (due.frame.key_epoch, due.frame.counter);
                let what = (due.frame.kind, due.frame.sent, step);
                if let Some(before) = counters.insert(number, what) {
                    panic!("meter {index}: {number:?} of {before:?} and {what:?}");
                }
            }
        }
        assert!(counters.len() > 100, "{}", counters.len());
    }
}

/// All days in two zones: the second from 14:00 to 16:00 and the third else.
fn write_calendar(line: &mut Line) {
    let calendar = time::ACTIVITY_CALENDAR;
    line.write(20, calendar, 6, |w| _ = w.octet_string(b"NEW")).unwrap();
    line.write(20, calendar, 9, |w| {
        w.array(1).structure(2).u8(1).array(3);
        for (hour, zone) in [(0, 3), (14, 2), (16, 3)] {
            w.structure(3).octet_string(&[hour, 0, 0, 0]).octet_string(&[0, 0, 10, 0, 100, 255]).u16(zone);
        }
    })
    .unwrap();
}

#[test]
fn a_calendar_is_in_force_from_its_time_on_and_the_registers_of_its_zones_count() {
    let (mut line, identity) = line(UTILITY);
    write_calendar(&mut line);
    let from = stamp(at("2026-07-18", 0, 0));
    line.write(20, time::ACTIVITY_CALENDAR, 10, |w| _ = w.octet_string(&from.0)).unwrap();
    let name = |line: &mut Line| {
        let read = line.read(20, time::ACTIVITY_CALENDAR, 2);
        matches!(read.data().value(), codec::axdr::Value::OctetString(b"NEW"))
    };
    assert!(!name(&mut line));
    line.again_at(at("2026-07-17", 23, 59));
    assert!(!name(&mut line));
    line.again_at(at("2026-07-20", 15, 10));
    assert!(name(&mut line));
    let zone = |line: &mut Line, zone| {
        let LogicalName([a, b, c, d, _, f]) = register::ENERGY_IMPORT;
        number(line.read(3, LogicalName([a, b, c, d, zone, f]), 2).data().value())
    };
    let days = ["2026-07-18", "2026-07-19", "2026-07-20"];
    let second = |day: &&str| used(&identity, day).intervals[28..32].iter().map(|one| one.wh).sum::<i64>();
    let total = zone(&mut line, 0);
    let [first, second_zone, third] = [1, 2, 3].map(|of| zone(&mut line, of));
    assert_eq!(first, register_at(&identity, days[0]), "everything before");
    assert_eq!(first + second_zone + third, total);
    let whole: i64 = days[..2].iter().map(second).sum();
    let today = &used(&identity, days[2]).intervals;
    let so_far = today[28].wh + today[29].wh;
    assert!((whole + so_far..=whole + so_far + today[30].wh).contains(&second_zone), "{second_zone}");
    assert_eq!(third, total - first - second_zone);
}

#[test]
fn a_calendar_that_makes_no_sense_is_not_put_in_force() {
    let (mut line, _) = line(UTILITY);
    write_calendar(&mut line);
    line.write(20, time::ACTIVITY_CALENDAR, 9, |w| _ = w.array(1).u8(1)).unwrap();
    let refused = line.act(20, time::ACTIVITY_CALENDAR, 1);
    assert_eq!(refused, Err(Error::Action(ActionResult::OtherReason)));
    write_calendar(&mut line);
    line.act(20, time::ACTIVITY_CALENDAR, 1).unwrap();
}

/// Transfers and verifies an image.
fn image(line: &mut Line) {
    let object = control::IMAGE_TRANSFER;
    line.write(18, object, 5, |w| _ = w.bool(true)).unwrap();
    line.act_with(18, object, 1, |w| _ = w.structure(2).octet_string(b"URJ-2.0").u32(3)).unwrap();
    line.act_with(18, object, 2, |w| _ = w.structure(2).u32(0).octet_string(&[1, 2, 3])).unwrap();
    let again = line.act(18, object, 3);
    assert_eq!(again, Err(Error::Action(ActionResult::TemporaryFailure)), "it is being verified");
    line.act(18, object, 3).unwrap();
}

fn firmware(line: &mut Line) -> OwnedData {
    line.read(1, identity::FIRMWARE_VERSION, 2)
}

#[test]
fn an_image_is_activated_at_its_time_or_by_its_script() {
    let (mut line, _) = line(FIRMWARE);
    image(&mut line);
    let before = firmware(&mut line);
    let date = [0x07, 0xea, 7, 16, 0xff];
    line.write(22, time::IMAGE_ACTIVATION_SCHEDULE, 4, times(&[([2, 30, 0, 0], date)])).unwrap();
    line.again_at(at("2026-07-16", 2, 29));
    assert_eq!(firmware(&mut line), before);
    line.again_at(at("2026-07-16", 2, 30));
    assert_ne!(firmware(&mut line), before);
    assert!(line.meter.activated_image().is_some());
    let (mut line, _) = self::line(FIRMWARE);
    image(&mut line);
    line.act_with(9, LogicalName([0, 0, 10, 0, 107, 255]), 1, |w| _ = w.u16(1)).unwrap();
    assert!(line.meter.activated_image().is_some());
}

#[test]
fn the_scripts_of_the_relay_switch_it_and_a_buffer_that_is_emptied_begins_anew() {
    let (mut line, _) = line(UTILITY);
    let scripts = LogicalName([0, 0, 10, 0, 106, 255]);
    let connected = |meter: &Meter| meter.is_connected();
    line.act_with(9, scripts, 1, |w| _ = w.u16(1)).unwrap();
    assert!(!connected(&line.meter));
    line.act_with(9, scripts, 1, |w| _ = w.u16(2)).unwrap();
    assert!(connected(&line.meter));
    for (name, rows) in [(profile::BLOCK_LOAD, 5), (profile::DAILY_LOAD, 1)] {
        assert!(number(line.read(7, name, 7).data().value()) > rows);
        assert_eq!(line.act(7, name, 1), Ok(Answer::Invoked(None)));
        assert_eq!(number(line.read(7, name, 7).data().value()), 0);
    }
    line.read(3, register::BLOCK_ENERGY_IMPORT, 2);
    line.again_at(now().plus_seconds(10 * 3600));
    assert_eq!(number(line.read(7, profile::BLOCK_LOAD, 7).data().value()), 20);
    assert_eq!(number(line.read(7, profile::DAILY_LOAD, 7).data().value()), 1);
}
