//! What decodes from the frames with the codec, the keys and the profiles is what the meters measured.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use codec::apdu::{self, Apdu};
use codec::axdr::{DateTime, Elements, Value};
use codec::security::{self, Keys, Opened, RustCrypto, Scratch};
use codec::wrapper::Wrapper;
use fleet::{
    Due, Faults, FleetOptions, Frame, Household, Kind, Mix, Pace, RowStyle, Schedule, SimulatedMeter,
    provision,
};
use model::{Calendar, Channel, CivilDay, EventWord, Instant, ObisCode, Values};
use profiles::{Column, Profile, PushKind, Stamps, Target};

const SEED: u64 = 42;

fn first_day() -> CivilDay {
    "2026-06-01".parse().unwrap()
}

/// Every kind of meter in numbers.
fn varied() -> Mix {
    Mix {
        quarter_hour_ppm: 150_000,
        start_stamped_ppm: 150_000,
        float_ppm: 500_000,
        transport_policy_ppm: 100_000,
        confirmed_ppm: 800_000,
        ..Mix::default()
    }
}

fn fleet(meters: u32, faults: Faults) -> (FleetOptions, Vec<Arc<SimulatedMeter>>) {
    let options = FleetOptions { mix: varied(), faults, ..FleetOptions::new(SEED, meters, first_day()) };
    let meters = provision(SEED, meters, options.from, &options.mix).into_iter().map(Arc::new).collect();
    (options, meters)
}

fn all_due(schedule: &mut Schedule, until: Instant, pace: Pace) -> Vec<Due> {
    std::iter::from_fn(|| schedule.next(until, pace).unwrap()).collect()
}

fn until(days: i32) -> Instant {
    Calendar::india().start_of(first_day().plus(days)).plus_seconds(3600)
}

/// A frame as a head-end reads it.
struct Decoded {
    title: Option<[u8; 8]>,
    counter: Option<u32>,
    confirmed: bool,
    invoke_id: u32,
    kind: PushKind,
    readings: Vec<(Instant, Values)>,
    word: Option<EventWord>,
    compact: bool,
    nulls: bool,
    deltas: bool,
}

fn decode(frame: &Frame, meter: &SimulatedMeter, profile: &Profile, keys: &Keys) -> Decoded {
    let wrapper = Wrapper::new_checked(&frame.bytes).unwrap();
    assert_eq!(wrapper.total_len(), frame.bytes.len());
    let mut scratch = Scratch::new();
    let (title, counter, notification) = match apdu::parse(wrapper.apdu()).unwrap() {
        Apdu::GeneralGlo(ciphered) => {
            let policy = match meter.policy {
                fleet::Policy::Authenticated => security::Policy::Authenticated,
                fleet::Policy::Transport => security::Policy::Transport,
            };
            let plain = match security::open(&RustCrypto, &ciphered, keys, policy, &mut scratch).unwrap() {
                Opened::Authentic(bytes) => bytes.into_inner(),
                Opened::Unauthenticated(bytes) => bytes,
            };
            let title = ciphered.system_title().try_into().unwrap();
            (Some(title), Some(ciphered.invocation_counter()), apdu::parse(plain).unwrap())
        }
        plain => (None, None, plain),
    };
    let Apdu::DataNotification(push) = notification else { panic!("not a push") };
    let Value::Structure(body) = push.body() else { panic!("not a structure") };
    let elements: Vec<Value<'_>> = body.iter().collect();
    assert_eq!(elements[0], Value::OctetString(meter.device_id.as_bytes()));
    let Value::OctetString(setup) = elements[1] else { panic!("no push setup") };
    let layout = profile.layout(ObisCode(setup.try_into().unwrap())).unwrap();
    let clock = elements[2].date_time().unwrap();
    let mut decoded = Decoded {
        title,
        counter,
        confirmed: push.invoke_id().confirmed(),
        invoke_id: push.invoke_id().id(),
        kind: layout.kind,
        readings: Vec::new(),
        word: None,
        compact: false,
        nulls: false,
        deltas: false,
    };
    match elements[3] {
        Value::BitString(bits) => {
            assert_eq!(bits.bits(), 128);
            decoded.word = Some(EventWord(bits.bytes().try_into().unwrap()));
        }
        Value::Array(rows) => table(rows, &layout.columns, layout.kind, profile, &mut decoded),
        Value::CompactArray(rows) => {
            decoded.compact = true;
            table(rows, &layout.columns, layout.kind, profile, &mut decoded);
        }
        _ => {
            assert_eq!(elements.len(), 3 + layout.columns.len());
            let end = end_of(instant(clock), layout.kind, profile);
            decoded.readings.push((end, values(&layout.columns, &elements[3..])));
        }
    }
    decoded
}

/// The keys that meters go over to, as the file for the registry has them.
fn second_keys(options: &FleetOptions, meters: &[Arc<SimulatedMeter>]) -> HashMap<String, Keys> {
    let file = String::from_utf8(fleet::new_keys(options, meters, None)).unwrap();
    let key = |text: &str| <[u8; 16]>::try_from(hex::decode(text).unwrap()).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields[0].to_owned(), Keys::new(key(fields[1]), key(fields[2])))
    };
    file.lines().skip(1).map(line).collect()
}

fn table(rows: Elements<'_>, columns: &[Column], kind: PushKind, profile: &Profile, decoded: &mut Decoded) {
    let mut before: Option<(Instant, Vec<Value<'_>>)> = None;
    for row in rows.iter() {
        let Value::Structure(cells) = row else { panic!("not a row") };
        let mut cells: Vec<Value<'_>> = cells.iter().collect();
        let at = match (cells[0], &before) {
            (Value::Null, Some((at, _))) => {
                decoded.nulls = true;
                at.plus_seconds(i64::from(profile.period_s))
            }
            (clock, _) => instant(clock.date_time().unwrap()),
        };
        for (place, cell) in cells.iter_mut().enumerate().skip(1) {
            let Value::Delta(by) = *cell else { continue };
            decoded.deltas = true;
            let Value::U32(then) = before.as_ref().unwrap().1[place] else {
                panic!("a difference to nothing")
            };
            *cell = Value::U32(u32::try_from(i64::from(then) + by).unwrap());
        }
        assert_eq!(cells.len(), columns.len() + 1);
        decoded.readings.push((end_of(at, kind, profile), values(columns, &cells[1..])));
        before = Some((at, cells));
    }
}

fn values(columns: &[Column], cells: &[Value<'_>]) -> Values {
    let of = |(column, cell): (&Column, &Value<'_>)| match column.to {
        Target::Channel(channel) => Some((channel, number(column, channel, *cell))),
        Target::EventWord | Target::Ignore => None,
    };
    columns.iter().zip(cells).filter_map(of).collect()
}

fn number(column: &Column, channel: Channel, cell: Value<'_>) -> i64 {
    let raw = match cell {
        Value::Bool(value) => i64::from(value),
        Value::U8(value) => i64::from(value),
        Value::U16(value) => i64::from(value),
        Value::U32(value) => i64::from(value),
        Value::I16(value) => i64::from(value),
        Value::I32(value) => i64::from(value),
        // kWh with at most three places: read as the shortest decimal.
        Value::F32(bits) => {
            let text = format!("{}", f32::from_bits(bits));
            let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
            assert!(column.float_scaler == 3 && places.len() <= 3, "{text}");
            return format!("{whole}{places:0<3}").parse().unwrap();
        }
        other => panic!("{other:?} for {}", channel.name()),
    };
    let shift = column.scaler - channel.exponent();
    assert!(shift >= 0, "{}", channel.name());
    raw * 10_i64.pow(u32::from(shift.unsigned_abs()))
}

/// All meters of the test are in India: the wall clock counts, whatever sign the deviation has.
fn instant(time: DateTime) -> Instant {
    assert!(matches!(time.deviation_min(), None | Some(330 | -330)));
    let small = |part: Option<u8>| i8::try_from(part.unwrap()).unwrap();
    let year = i16::try_from(time.year().unwrap()).unwrap();
    let (month, day) = (small(time.month()), small(time.day()));
    let (hour, minute, second) = (small(time.hour()), small(time.minute()), small(time.second()));
    Calendar::india().instant_of(year, month, day, hour, minute, second).unwrap()
}

fn end_of(stamp: Instant, kind: PushKind, profile: &Profile) -> Instant {
    match (kind, profile.stamps) {
        (PushKind::Interval, Stamps::Start) => stamp.plus_seconds(i64::from(profile.period_s)),
        _ => stamp,
    }
}

#[test]
fn frames_decode_to_what_they_were_made_from() {
    let (options, meters) = fleet(120, Faults::default());
    let profiles: HashMap<String, Profile> =
        Profile::builtin().into_iter().map(|profile| (profile.name.clone(), profile)).collect();
    let mut schedule = Schedule::new(&options, &meters).unwrap();
    let mut seen: HashSet<&str> = HashSet::new();
    for due in all_due(&mut schedule, until(3), Pace::Loading) {
        let frame = due.frame;
        let meter = &meters[frame.meter as usize];
        let profile = &profiles[&meter.profile];
        let decoded = decode(&frame, meter, profile, &Keys::new(meter.guek, meter.gak));
        assert_eq!((decoded.counter, decoded.confirmed), (frame.counter, frame.confirmed));
        assert_eq!(decoded.invoke_id, frame.invoke_id);
        assert_eq!(decoded.title, meter.security_control.map(|_| meter.title.0));
        assert_eq!((&decoded.readings, decoded.word), (&frame.readings, frame.event_word));
        let kind = match decoded.kind {
            PushKind::Interval => Kind::Interval,
            PushKind::Daily => Kind::Daily,
            PushKind::Instant => Kind::Instant,
            PushKind::Event => Kind::Event,
        };
        assert_eq!(kind, frame.kind);
        seen.insert(kind.name());
        seen.extend(
            [(decoded.compact, "compact"), (decoded.nulls, "null"), (decoded.deltas, "delta")]
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, what)| *what),
        );
        seen.extend((meter.profile == "is15959-d2").then_some("three-phase"));
        seen.extend((meter.float_energy).then_some("float"));
        seen.extend(meter.security_control.is_none().then_some("plain"));
    }
    let expected = [
        "compact",
        "daily",
        "delta",
        "event",
        "float",
        "instant",
        "interval",
        "null",
        "plain",
        "three-phase",
    ];
    let mut seen: Vec<&str> = seen.into_iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn without_faults_the_frames_hold_every_interval_and_register_that_was_used() {
    let (options, meters) = fleet(30, Faults::NONE);
    let days = 3;
    for pace in [Pace::Loading, Pace::Live] {
        let mut schedule = Schedule::new(&options, &meters).unwrap();
        let (mut intervals, mut registers) = (HashMap::new(), HashMap::new());
        for due in all_due(&mut schedule, until(days).plus_seconds(-3400), pace) {
            assert!(!due.copy);
            for (end, values) in &due.frame.readings {
                let into = match due.frame.kind {
                    Kind::Interval => &mut intervals,
                    Kind::Daily => &mut registers,
                    Kind::Instant | Kind::Event => continue,
                };
                let key = (due.frame.meter, *end);
                assert_eq!(
                    into.insert(key, values.get(Channel::ImportWh).unwrap()),
                    None,
                    "{key:?} came twice"
                );
            }
        }
        for meter in &meters {
            let household = Household::new(SEED, meter, &options.faults);
            let mut register = meter.opening_register_wh;
            for ahead in 0..days {
                let used = household.day(first_day().plus(ahead), &options.calendar);
                for (slot, interval) in used.intervals.iter().enumerate() {
                    assert_eq!(intervals.remove(&(meter.index, used.end_of(slot))), Some(interval.wh));
                }
                register += used.wh();
                assert_eq!(registers.remove(&(meter.index, used.end())), Some(register));
            }
        }
        assert!(intervals.is_empty() && registers.is_empty());
    }
}

#[test]
fn under_every_fault_frames_decode_with_the_keys_of_their_epoch_to_what_they_say() {
    let (options, meters) = fleet(30, Faults::STORM);
    let profiles: HashMap<String, Profile> =
        Profile::builtin().into_iter().map(|profile| (profile.name.clone(), profile)).collect();
    let second = second_keys(&options, &meters);
    let mut schedule = Schedule::new(&options, &meters).unwrap();
    let (mut under_second, mut off_grid, mut garbage) = (0, 0, HashSet::new());
    for due in all_due(&mut schedule, until(46), Pace::Loading) {
        let frame = due.frame;
        let meter = &meters[frame.meter as usize];
        garbage.extend(frame.garbage.map(fleet::Garbage::name));
        if frame.readings.is_empty() && frame.event_word.is_none() {
            assert!(frame.garbage.is_some());
            continue;
        }
        let first = Keys::new(meter.guek, meter.gak);
        let keys = if frame.key_epoch == 2 { &second[&meter.title.to_string()] } else { &first };
        let decoded = decode(&frame, meter, &profiles[&meter.profile], keys);
        assert_eq!((&decoded.readings, decoded.word), (&frame.readings, frame.event_word));
        under_second += usize::from(frame.key_epoch == 2);
        off_grid += decoded.readings.iter().filter(|(end, _)| end.seconds() % 900 != 0).count();
    }
    assert!(under_second > 0 && off_grid > 0 && garbage.len() == fleet::Garbage::ALL.len(), "{garbage:?}");
}

#[test]
fn a_concentrator_sends_what_it_held_back_newest_first() {
    let faults = Faults { newest_first_ppm: 1_000_000, ..Faults::NONE };
    let (options, meters) = fleet(10, faults);
    let mut schedule = Schedule::new(&options, &meters).unwrap();
    let mut flushes: HashMap<(Instant, u32), Vec<u32>> = HashMap::new();
    let (mut last, mut keys) = (Instant(0), HashSet::new());
    for due in all_due(&mut schedule, until(5), Pace::Live) {
        assert!(last <= due.frame.sent, "the head-end sees them in this order");
        last = due.frame.sent;
        if due.frame.kind == Kind::Interval {
            keys.extend(due.frame.readings.iter().map(|(end, _)| (due.frame.meter, *end)));
        }
        let Some(counter) = due.frame.counter else { continue };
        flushes.entry((due.frame.sent, due.frame.meter)).or_default().push(counter);
    }
    let flushes: Vec<Vec<u32>> = flushes.into_values().filter(|counters| counters.len() > 3).collect();
    assert!(flushes.iter().all(|counters| counters.is_sorted_by(|one, other| one > other)));
    let beyond_the_window = |counters: &&Vec<u32>| counters[0] - counters[counters.len() - 1] > 64;
    assert!(flushes.iter().filter(beyond_the_window).count() > 5, "{} flushes", flushes.len());
    let intervals: usize = meters.iter().map(|meter| 5 * 86_400 / meter.period_s as usize).sum();
    assert!(keys.len() >= intervals - 10 * 100, "{} of {intervals}", keys.len());
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_the_same_order_under_every_fault() {
    let run = || {
        let (options, meters) = fleet(12, Faults::STORM);
        let mut schedule = Schedule::new(&options, &meters).unwrap();
        let due = all_due(&mut schedule, until(46), Pace::Loading).into_iter();
        due.map(|due| (due.copy, due.frame.sent, due.frame.digest)).collect::<Vec<_>>()
    };
    let one = run();
    assert!(one.len() > 2_000 && one == run(), "{}", one.len());
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_steps() {
    for faults in [Faults::default(), Faults::STORM] {
        the_same_bytes_whatever_the_steps(faults);
    }
}

fn the_same_bytes_whatever_the_steps(faults: Faults) {
    let (options, meters) = fleet(20, faults);
    let bytes = |steps: &[i64]| {
        let mut schedule = Schedule::new(&options, &meters).unwrap();
        let begin = options.calendar.start_of(first_day());
        let mut all = Vec::new();
        for step in steps {
            let due = all_due(&mut schedule, begin.plus_seconds(*step), Pace::Loading);
            all.extend(due.into_iter().map(|due| (due.copy, due.frame.bytes)));
        }
        all
    };
    let end = 2 * 86_400;
    let hours: Vec<i64> = (1..=48).map(|hour| hour * 3600).collect();
    let mut at_once = bytes(&[end]);
    let mut in_steps = bytes(&hours);
    at_once.sort();
    in_steps.sort();
    assert_eq!(at_once, in_steps);
    assert!(at_once.len() > 200);
}

#[test]
fn live_after_loading_goes_on_without_a_key_twice_or_missing_and_without_a_counter_twice() {
    let (options, meters) = fleet(20, Faults { late_max_s: 3600, ..Faults::default() });
    let begin = options.calendar.start_of(first_day());
    let run = |changes_at: i64| {
        let mut schedule = Schedule::new(&options, &meters).unwrap();
        let mut due = all_due(&mut schedule, begin.plus_seconds(changes_at), Pace::Loading);
        due.extend(all_due(&mut schedule, begin.plus_seconds(2 * 86_400 + 7200), Pace::Live));
        let mut counters = HashSet::new();
        let mut keys = HashMap::new();
        for due in due.into_iter().filter(|due| !due.copy && due.frame.kind == Kind::Interval) {
            let counter = due.frame.counter.unwrap_or_default();
            assert!(due.frame.counter.is_none() || counters.insert((due.frame.meter, counter)));
            for (end, values) in due.frame.readings {
                let value = (counter, values.get(Channel::ImportWh));
                let in_force = keys.entry((due.frame.meter, end)).or_insert(value);
                *in_force = (*in_force).max(value);
            }
        }
        keys.into_iter().map(|(key, (_, wh))| (key, wh)).collect::<HashMap<_, _>>()
    };
    let live_only = run(0);
    assert!(live_only.len() > 1500);
    for changes_at in [100, 9 * 3600, 13 * 3600 + 100, 86_400, 86_400 + 61] {
        assert_eq!(run(changes_at), live_only, "at {changes_at}");
    }
}

#[test]
fn a_skipped_fleet_goes_on_as_one_that_ran() {
    let (options, meters) = fleet(20, Faults::default());
    let (change, end) = (until(1).plus_seconds(-3600 + 62), until(2));
    let mut ran = Schedule::new(&options, &meters).unwrap();
    all_due(&mut ran, change, Pace::Loading);
    let mut skipped = Schedule::new(&options, &meters).unwrap();
    skipped.skip(change).unwrap();
    assert_eq!(all_due(&mut ran, end, Pace::Loading), all_due(&mut skipped, end, Pace::Loading));
}

#[test]
fn a_fleet_that_is_skipped_while_a_concentrator_holds_back_still_sends_what_is_held() {
    let faults = Faults { newest_first_ppm: 1_000_000, ..Faults::NONE };
    let (options, meters) = fleet(10, faults);
    for hours in [30, 37, 44] {
        let (change, end) = (until(0).plus_seconds(hours * 3600), until(4));
        let mut ran = Schedule::new(&options, &meters).unwrap();
        all_due(&mut ran, change, Pace::Live);
        let mut skipped = Schedule::new(&options, &meters).unwrap();
        skipped.skip(change).unwrap();
        assert_eq!(all_due(&mut ran, end, Pace::Live), all_due(&mut skipped, end, Pace::Live));
    }
}

#[test]
fn every_other_row_style_saves_bytes() {
    let (options, meters) = fleet(1, Faults::NONE);
    let length = |row_style: RowStyle| {
        let meter = SimulatedMeter { row_style, flat: false, float_energy: false, ..(*meters[0]).clone() };
        let mut schedule = Schedule::new(&options, &[Arc::new(meter)]).unwrap();
        all_due(&mut schedule, until(1), Pace::Loading).iter().map(|due| due.frame.bytes.len()).sum::<usize>()
    };
    let rows = length(RowStyle::Rows);
    for style in [RowStyle::NullClock, RowStyle::Compact, RowStyle::Delta] {
        assert!(length(style) < rows, "{style:?}");
    }
}
