use std::path::Path;

use codec::apdu::{self, Apdu};
use codec::axdr::{self, Writer};
use model::Quality;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

fn profile(name: &str) -> Profile {
    Profile::builtin().into_iter().find(|profile| profile.name == name).unwrap()
}

fn read(bytes: &[u8], profile: &Profile) -> Result<Normalized, Mismatch> {
    let (body, rest) = axdr::parse(bytes).unwrap();
    assert!(rest.is_empty());
    normalize(&body, None, profile, &Calendar::india())
}

const INTERVAL: ObisCode = ObisCode([0, 5, 25, 9, 0, 255]);
const DAILY: ObisCode = ObisCode([0, 6, 25, 9, 0, 255]);
const EVENT: ObisCode = ObisCode([0, 4, 25, 9, 0, 255]);

fn half_past(hour: u8) -> DateTime {
    DateTime::new(2026, 6, 1, 1, hour, 30, 0, 0, 330, 0)
}

fn midnight(day: u8) -> DateTime {
    DateTime::new(2026, 6, day, 0xff, 0, 0, 0, 0, 330, 0)
}

/// A body whose rows `write` writes.
fn nested(setup: ObisCode, rows: usize, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    writer.structure(4).octet_string(b"HXH6500001").octet_string(&setup.0);
    writer.octet_string(&half_past(5).0).array(rows);
    write(&mut writer);
    bytes
}

fn import(normalized: &Normalized) -> Vec<(String, Option<i64>)> {
    let import = |reading: &Reading| (reading.end.to_string(), reading.values.get(Channel::ImportWh));
    normalized.readings.iter().map(import).collect()
}

fn end(text: &str, value: i64) -> (String, Option<i64>) {
    (text.to_owned(), Some(value))
}

#[test]
fn a_null_clock_is_the_next_period_and_a_null_value_the_one_before() {
    let body = nested(DAILY, 4, |w| {
        w.structure(5).octet_string(&midnight(1).0).u32(1000).u32(1100).null().u32(7);
        w.structure(5).null().delta_u16(250).null().u32(5).null();
        w.structure(5).date_time(midnight(4)).delta_i8(-50).delta_u8(1).dont_care().null();
        w.structure(5).null().null().null().null().u64(9);
    });
    let normalized = read(&body, &profile("is15959-d1")).unwrap();
    let ends =
        ["2026-05-31T18:30:00Z", "2026-06-01T18:30:00Z", "2026-06-03T18:30:00Z", "2026-06-04T18:30:00Z"];
    let values: Vec<_> = normalized.readings.iter().map(|reading| reading.values.clone()).collect();
    assert_eq!(
        import(&normalized),
        [end(ends[0], 1000), end(ends[1], 1250), end(ends[2], 1200), end(ends[3], 1200)]
    );
    let column = |channel| values.iter().map(|values| values.get(channel)).collect::<Vec<_>>();
    assert_eq!(column(Channel::ImportVah), [Some(1100), Some(1100), Some(1101), Some(1101)]);
    assert_eq!(
        column(Channel::ExportWh),
        [None, Some(5), None, None],
        "first-row null and don't care are missing"
    );
    assert_eq!(column(Channel::ExportVah), [Some(7), Some(7), Some(7), Some(9)]);
}

#[test]
fn an_interval_without_clock_follows_by_the_capture_period_of_the_profile() {
    let body = nested(INTERVAL, 3, |w| {
        for row in 0..3_u32 {
            w.structure(8);
            if row == 0 {
                w.octet_string(&half_past(0).0)
            } else {
                w.null()
            };
            w.u16(2301).u32(100 + row).u32(110).u32(0).u32(0).u16(150).u16(151);
        }
    });
    for (name, ends) in [
        ("is15959-d1", ["2026-05-31T19:00:00Z", "2026-05-31T19:30:00Z", "2026-05-31T20:00:00Z"]),
        ("is15959-d1-15min", ["2026-05-31T19:00:00Z", "2026-05-31T19:15:00Z", "2026-05-31T19:30:00Z"]),
        ("is15959-d1-start", ["2026-05-31T19:30:00Z", "2026-05-31T20:00:00Z", "2026-05-31T20:30:00Z"]),
    ] {
        let normalized = read(&body, &profile(name)).unwrap();
        assert_eq!(import(&normalized), [end(ends[0], 100), end(ends[1], 101), end(ends[2], 102)], "{name}");
        let first = &normalized.readings[0];
        assert_eq!(first.values.get(Channel::VoltageDv), Some(2301));
        assert_eq!(first.values.get(Channel::CurrentMa), Some(1500));
        assert_eq!((first.kind, first.deviation_min), (ReadingKind::Interval, Some(330)));
        assert_eq!(normalized.pushed_at.unwrap().to_string(), "2026-06-01T00:00:00Z");
    }
}

#[test]
fn rows_of_a_compact_array_are_rows() {
    let mut rows = Vec::new();
    for day in [1, 2] {
        rows.extend(midnight(day).0);
        for register in [1000_u32, 1100, 10, 11] {
            rows.extend((register * u32::from(day)).to_be_bytes());
        }
    }
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    writer.structure(4).octet_string(b"HXH6500001").octet_string(&DAILY.0).null();
    writer.compact_array(&[0x02, 5, 0x19, 6, 6, 6, 6], &rows);
    let normalized = read(&body, &profile("is15959-d2")).unwrap();
    assert_eq!(import(&normalized), [end("2026-05-31T18:30:00Z", 1000), end("2026-06-01T18:30:00Z", 2000)]);
    assert_eq!(normalized.pushed_at, None);
}

#[test]
fn an_event_word_needs_no_clock_and_a_row_without_values_is_no_reading() {
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    writer.structure(4).octet_string(b"x").octet_string(&EVENT.0).null().bit_string(128, &[0x10]);
    let normalized = read(&body, &profile("is15959-d1")).unwrap();
    assert!(normalized.event_word.unwrap().bit(3));
    assert_eq!((normalized.pushed_at, normalized.readings), (None, Readings::new()));
    let empty = nested(DAILY, 1, |w| {
        w.structure(5).date_time(midnight(1)).null().null().null().null();
    });
    assert_eq!(read(&empty, &profile("is15959-d1")).unwrap().readings, Readings::new());
}

#[test]
fn the_time_of_the_notification_stands_in_for_a_moment_but_not_for_an_interval() {
    let flat = |setup: ObisCode, columns: usize| {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.structure(3 + columns).octet_string(b"x").octet_string(&setup.0).null();
        (0..columns).for_each(|_| {
            writer.u8(1);
        });
        body
    };
    let profile = profile("is15959-d1");
    let read = |body: &[u8]| {
        let (body, _) = axdr::parse(body).unwrap();
        normalize(&body, Some(half_past(5)), &profile, &Calendar::india())
    };
    let normalized = read(&flat(ObisCode([0, 0, 25, 9, 0, 255]), 22)).unwrap();
    assert_eq!(normalized.readings[0].end.to_string(), "2026-06-01T00:00:00Z");
    let refused = read(&flat(INTERVAL, 7)).unwrap_err();
    assert_eq!(refused.to_string(), "element 2: expected a date-time, found null");
}

#[test]
fn a_body_that_does_not_fit_names_the_place_and_what_was_expected() {
    let profile = profile("is15959-d1");
    let check = |body: &[u8], says: &str| assert_eq!(read(body, &profile).unwrap_err().to_string(), says);
    let with = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut body = Vec::new();
        write(&mut Writer::new(&mut body));
        body
    };
    check(
        &with(&|w| _ = w.u8(1)),
        "body: expected a structure of at least 4 elements, found unsigned integer",
    );
    check(
        &with(&|w| _ = w.structure(2).null().null()),
        "body: expected a structure of at least 4 elements, found 2",
    );
    let unknown = with(&|w| _ = w.structure(4).null().octet_string(&[0, 9, 25, 9, 0, 255]).null().null());
    check(
        &unknown,
        "element 1: expected the logical name of a push setup of the profile, found 0.9.25.9.0.255",
    );
    let short =
        with(&|w| _ = w.structure(5).null().octet_string(&DAILY.0).date_time(midnight(1)).u8(1).u8(1));
    check(&short, "body: expected 7 elements, found 5");
    let word = with(&|w| _ = w.structure(4).null().octet_string(&EVENT.0).null().bit_string(120, &[]));
    check(&word, "element 3: expected a bit-string of 128 bits, found 120");
    let row = |write: &dyn Fn(&mut Writer<'_>)| nested(DAILY, 1, |w| write(w));
    check(
        &row(&|w| _ = w.u8(1)),
        "element 3 row 0: expected a structure of 5 elements, found unsigned integer",
    );
    check(
        &row(&|w| _ = w.structure(1).u8(1)),
        "element 3 row 0: expected a structure of 5 elements, found 1",
    );
    let clock = row(&|w| _ = w.structure(5).null().u8(1).u8(1).u8(1).u8(1));
    check(&clock, "element 3 row 0 cell 0: expected a date-time, found null");
    let text = row(&|w| _ = w.structure(5).date_time(midnight(1)).u8(1).utf8_string(b"7").u8(1).u8(1));
    check(&text, "element 3 row 0 cell 2: expected a number for import_vah, found utf8-string");
    let delta = row(&|w| _ = w.structure(5).date_time(midnight(1)).delta_u8(1).u8(1).u8(1).u8(1));
    check(&delta, "element 3 row 0 cell 1: expected a number of import_wh before a delta, found delta");
    let wide = row(&|w| _ = w.structure(5).date_time(midnight(1)).u64(u64::MAX).u8(1).u8(1).u8(1));
    check(
        &wide,
        "element 3 row 0 cell 1: expected a value of import_wh within 64 bits, found unsigned integer",
    );
    let nan =
        row(&|w| _ = w.structure(5).date_time(midnight(1)).f32_bits(f32::NAN.to_bits()).u8(1).u8(1).u8(1));
    check(&nan, "element 3 row 0 cell 1: expected a number for import_wh, found float32");
}

#[test]
fn more_rows_than_a_meter_keeps_are_refused() {
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    let rows = vec![0; (MAX_ROWS + 1) * 5];
    writer
        .structure(4)
        .null()
        .octet_string(&DAILY.0)
        .null()
        .compact_array(&[0x02, 5, 0x11, 0x11, 0x11, 0x11, 0x11], &rows);
    let refused = read(&body, &profile("is15959-d1")).unwrap_err();
    assert_eq!(refused.to_string(), "element 3: expected at most 4320 rows, found 4321");
}

/// Pushes of an independent stack with what went into them, where the shared fixtures are there.
fn india_push() -> Option<Vec<Json>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/india_push.jsonl");
    if !Path::new(path).exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not there: {path}");
        println!("skipped: not there: {path}");
        return None;
    }
    let text = std::fs::read_to_string(path).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn instant(text: &Json) -> Instant {
    text.as_str().unwrap().parse().unwrap()
}

/// Compares one reading with the values a generator put in: `[class, OBIS, attribute, value, scaler, unit]`.
fn assert_values(reading: &Reading, layout: &PushLayout, raw: &Json, id: &str) {
    let raw = raw.as_array().unwrap();
    assert_eq!(raw.len(), layout.columns.len(), "{id}");
    for (column, put_in) in layout.columns.iter().zip(raw) {
        let object = (put_in[0].as_u64().unwrap(), put_in[1].as_str().unwrap(), put_in[2].as_u64().unwrap());
        let expected = (u64::from(column.class), &*column.obis.to_string(), u64::from(column.attribute));
        assert_eq!(object, expected, "{id}");
        let Target::Channel(channel) = column.to else {
            assert!(put_in[3].is_string(), "{id}: only times are ignored");
            continue;
        };
        let value = reading.values.get(channel).unwrap();
        let power = put_in[4].as_i64().unwrap_or(0) - i64::from(channel.exponent());
        let what = format!("{id}: {} {put_in} became {value}", channel.name());
        match &put_in[3] {
            Json::Bool(bit) => assert_eq!(value, i64::from(*bit), "{what}"),
            Json::Number(number) if number.is_i64() => {
                let scaled = number.as_i64().unwrap() * 10_i64.pow(u32::try_from(power).unwrap());
                assert_eq!(value, scaled, "{what}");
            }
            // A float32 knows some 7 digits; what went in had more.
            number => {
                let scaled = number.as_f64().unwrap() * 10_f64.powi(i32::try_from(power).unwrap());
                assert!((value as f64 - scaled).abs() <= 0.5 + scaled.abs() / 16_777_216.0, "{what}");
            }
        }
    }
}

#[test]
fn pushes_of_an_independent_stack_read_as_what_they_were_made_from() {
    let Some(pushes) = india_push() else { return };
    assert!(pushes.len() >= 60);
    let profile = profile("is15959-d1");
    for push in pushes {
        let id = push["id"].as_str().unwrap();
        let expected = &push["expected"];
        let bytes = hex::decode(push["plain_apdu"].as_str().unwrap()).unwrap();
        let Apdu::DataNotification(notification) = apdu::parse(&bytes).unwrap() else { panic!("{id}") };
        assert_eq!(device_id(&notification.body()), expected["device_id"].as_str(), "{id}");
        let normalized =
            normalize(&notification.body(), notification.date_time(), &profile, &Calendar::india()).unwrap();
        assert_eq!(normalized.pushed_at, Some(instant(&expected["time"])), "{id}");
        let layout = profile.layout(expected["push_setup"].as_str().unwrap().parse().unwrap()).unwrap();
        if let Some(bits) = expected["esw_bits"].as_array() {
            let word = normalized.event_word.unwrap();
            let up: Vec<_> = (0..128_u8).filter(|&bit| word.bit(bit)).map(Json::from).collect();
            assert_eq!((&up, normalized.readings.len()), (bits, 0), "{id}");
            continue;
        }
        let flat = [expected.clone()];
        let rows = expected["rows"].as_array().map_or(&flat[..], Vec::as_slice);
        assert_eq!(normalized.readings.len(), rows.len(), "{id}");
        for (reading, row) in normalized.readings.iter().zip(rows) {
            assert_eq!((reading.end, reading.quality), (instant(&row["time"]), Quality::GOOD), "{id}");
            assert_values(reading, layout, &row["raw"], id);
        }
    }
}

/// Bytes of any value, from a recipe that a shrinking test can cut down.
fn any_value(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let date_time = prop::array::uniform12(any::<u8>());
    let leaf = prop_oneof![
        Just(vec![0x00]),
        Just(vec![0xff]),
        any::<u32>().prop_map(|v| [&[0x06][..], &v.to_be_bytes()].concat()),
        any::<u64>().prop_map(|v| [&[0x15][..], &v.to_be_bytes()].concat()),
        any::<u32>().prop_map(|v| [&[0x17][..], &v.to_be_bytes()].concat()),
        any::<u64>().prop_map(|v| [&[0x18][..], &v.to_be_bytes()].concat()),
        any::<i32>().prop_map(|v| [&[0x1e][..], &v.to_be_bytes()].concat()),
        date_time.prop_map(|v| [&[0x19][..], &v].concat()),
        date_time.prop_map(|v| [&[0x09, 12][..], &v].concat()),
        prop::array::uniform16(any::<u8>()).prop_map(|v| [&[0x04, 0x81, 0x80][..], &v].concat()),
        prop::sample::select(vec![INTERVAL, DAILY, EVENT])
            .prop_map(|setup| [&[0x09, 6][..], &setup.0].concat()),
    ];
    leaf.prop_recursive(depth, 64, 8, |inner| {
        (1..=2_u8, prop::collection::vec(inner, 0..9))
            .prop_map(|(tag, parts)| [vec![tag, u8::try_from(parts.len()).unwrap()], parts.concat()].concat())
    })
    .boxed()
}

/// A body with a good head, so that the rows are reached.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let setup = prop::sample::select(vec![INTERVAL, DAILY, EVENT]);
    let rows = prop::collection::vec(prop::collection::vec(any_value(1), 0..9), 0..6);
    (setup, any_value(0), rows).prop_map(|(setup, clock, rows)| {
        let mut body = vec![0x02, 4, 0x09, 1, b'x', 0x09, 6];
        body.extend(setup.0);
        body.extend(clock);
        body.extend([0x01, u8::try_from(rows.len()).unwrap()]);
        for row in rows {
            body.extend([0x02, u8::try_from(row.len()).unwrap()]);
            body.extend(row.concat());
        }
        body
    })
}

/// A cell that a row of a profile may have, its shape by `kind`.
fn cell(kind: u8, seed: u64, writer: &mut Writer<'_>) {
    let wide = if seed.is_multiple_of(16) { u64::MAX } else { seed >> 20 };
    match kind % 24 {
        0 => writer.null(),
        1 => writer.delta_i8(seed as i8),
        2 => writer.dont_care(),
        3 => writer.f32_bits((seed as u16 as f32).to_bits()),
        4 => writer.u64(wide),
        5 => writer.i64(wide.cast_signed()),
        6 => writer.enum_(seed as u8),
        7 => writer.i8(seed as i8),
        8 => writer.utf8_string(b"7"),
        9 | 10 => writer.i16(seed as i16),
        11 | 12 => writer.i32(seed as i32),
        13 => writer.u8(seed as u8),
        14..=18 => writer.u16(seed as u16),
        _ => writer.u32(seed as u32),
    };
}

/// Rows of two shapes, as the pushes of a profile have them, or nearly so.
fn any_rows() -> impl Strategy<Value = Vec<u8>> {
    let kinds = || prop::collection::vec(prop_oneof![4 => 4..24_u8, 1 => 0..4_u8], 7);
    let clocks = || prop::sample::select(vec![0_u8, 1, 1, 1, 2]);
    let row = (any::<u64>(), prop::bool::weighted(0.15), any::<u8>(), 0..4_u8, 0..48_u8);
    let rows = prop::collection::vec(row, 0..24);
    let setup = prop::sample::select(vec![INTERVAL, DAILY]);
    (setup, (clocks(), kinds()), (clocks(), kinds()), rows).prop_map(|(setup, first, second, rows)| {
        let columns = if setup == DAILY { 4 } else { 7 };
        nested(setup, rows.len(), |writer| {
            for (index, (seed, is_other, status, day, half)) in rows.into_iter().enumerate() {
                let (clock, kinds) = if is_other { &second } else { &first };
                let (status, deviation) = if status < 16 { (status, 60) } else { (0, 330) };
                let time =
                    DateTime::new(2026, 6, 1 + day, 0xff, half / 2, half % 2 * 30, 0, 0, deviation, status);
                writer.structure(1 + columns);
                match clock {
                    0 if index > 0 => writer.null(),
                    2 => writer.date_time(time),
                    _ => writer.octet_string(&time.0),
                };
                kinds.iter().take(columns).enumerate().for_each(|(column, &kind)| {
                    cell(kind, seed.rotate_left(column as u32 * 7), writer);
                });
            }
        })
    })
}

proptest! {
    #[test]
    fn rows_read_by_a_plan_say_what_they_say_cell_by_cell(bytes in any_rows()) {
        let (body, _) = axdr::parse(&bytes).unwrap();
        for name in ["is15959-d1", "is15959-d2", "is15959-d1-start"] {
            let (profile, calendar) = (profile(name), Calendar::india());
            let planned = normalize_with(SHAPES, &body, None, &profile, &calendar);
            prop_assert_eq!(planned, normalize_with(0, &body, None, &profile, &calendar));
        }
    }

    #[test]
    fn no_value_makes_it_panic(bytes in prop_oneof![any_value(4), any_body()]) {
        if let Ok((body, _)) = axdr::parse(&bytes) {
            for name in ["is15959-d1", "is15959-d2", "is15959-d1-start"] {
                if let Ok(normalized) = normalize(&body, None, &profile(name), &Calendar::india()) {
                    prop_assert!(normalized.readings.iter().all(|reading| !reading.values.is_empty()));
                }
            }
        }
    }

    #[test]
    fn the_same_readings_come_out_with_nulls_and_deltas_as_without(
        registers in prop::collection::vec((0..1_000_000_u32, 0..3_u8), 1..40),
    ) {
        let plain = nested(DAILY, registers.len(), |w| {
            for (index, (register, _)) in registers.iter().enumerate() {
                let day = midnight(1 + u8::try_from(index % 30).unwrap());
                w.structure(5).date_time(day).u32(*register).u32(1).u32(2).u32(3);
            }
        });
        let packed = nested(DAILY, registers.len(), |w| {
            let mut before: Option<u32> = None;
            for (index, (register, form)) in registers.iter().enumerate() {
                w.structure(5);
                if index % 30 == 0 { w.date_time(midnight(1)) } else { w.null() };
                match (before, form) {
                    (Some(before), _) if before == *register => w.null(),
                    (Some(before), 1) => w.delta_i32(i32::try_from(i64::from(*register) - i64::from(before)).unwrap()),
                    _ => w.u32(*register),
                };
                if before.is_none() { w.u32(1).u32(2).u32(3) } else { w.null().null().null() };
                before = Some(*register);
            }
        });
        let profile = profile("is15959-d1");
        prop_assert_eq!(read(&plain, &profile), read(&packed, &profile));
    }
}
