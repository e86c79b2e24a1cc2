//! Every class: what it looks like on the wire, both ways, and what is not it.

use std::boxed::Box;
use std::fmt::Debug;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::association::{
    AccessMode, AccessRights, AttributeAccess, Conformance, ContextInfo, ContextName, MechanismName,
    MethodAccess, MethodMode, Object, Partners, Text, User,
};
use super::clock::{ClockStatus, DeviationSign};
use super::disconnect_control::{ControlMode, ControlState, Transition};
use super::image_transfer::TransferStatus;
use super::profile_generic::{
    Buffer, CaptureObject, Column, EntryDescriptor, RangeDescriptor, Selection, SortMethod,
};
use super::push_setup::{
    Backoff, MessageType, Part, PushObject, RepetitionDelay, Restriction, SendDestination, TransportService,
};
use super::register::{ScalerUnit, Unit, times_power_of_ten};
use super::script_table::ScriptReference;
use super::security_setup::{KeyId, Policy, PolicyV0, Suite, WrappedKey};
use super::*;
use crate::axdr::{DateTime, Value, Writer, parse};

const HALF_PAST: DateTime = DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, 330, 0);
const CLOCK: LogicalName = LogicalName([0, 0, 1, 0, 0, 255]);

/// The bytes of `hex`, kept for the rest of the test run.
fn wire(hex: &str) -> &'static [u8] {
    let hex: String = hex.split_whitespace().collect();
    Box::leak(hex::decode(hex).unwrap().into_boxed_slice())
}

fn value(hex: &str) -> Value<'static> {
    let (value, rest) = parse(wire(hex)).unwrap();
    assert!(rest.is_empty(), "{hex}");
    value
}

fn written<'a, T: Wire<'a>>(value: &T) -> Vec<u8> {
    let mut out = vec![0xa5];
    value.write(&mut Writer::new(&mut out));
    assert_eq!(out.remove(0), 0xa5, "written behind what is there");
    out
}

/// `hex` reads as `expected` and is written from it; no part of it passes for the whole.
#[track_caller]
fn golden<T: Wire<'static> + PartialEq + Debug>(
    hex: &str,
    read: impl Fn(Value<'static>) -> Result<T, ValueError>,
    expected: T,
) {
    let bytes = wire(hex);
    assert_eq!(read(value(hex)), Ok(expected), "{hex}");
    assert_eq!(hex::encode(written(&expected)), hex::encode(bytes));
    for cut in 0..bytes.len() {
        assert!(parse(&bytes[..cut]).is_err(), "{hex} cut at {cut}");
    }
}

#[track_caller]
fn refused<T: Debug>(result: Result<T, ValueError>, text: &str) {
    assert_eq!(result.unwrap_err().to_string(), text);
}

const NAME: &str = "0906 0000600100FF";
const AT: &str = "090C 07EA060101001E0000014A00";
const SCALE: &str = "0202 0F03 161E";
const COLUMN: &str = "0204 120003 0906 0100011D00FF 0F02 120000";
const OBJECT: &str = "0204 120007 1101 0906 0100630100FF 0202 0101 0203 0F01 1601 00 0101 0202 0F01 1601";
const USER: &str = "0202 1101 0A0141";
const SCRIPT: &str = "0202 0906 00000A0064FF 120001";
const SEASONS: &str = "0101 0203 090131 090C07EA060101001E0000014A00 090157";
const WEEKS: &str = "0101 0208 090157 1101 1101 1101 1101 1101 1102 1103";
const DAYS: &str = "0101 0202 1101 0101 0203 090406000000 0906 00000A0064FF 120001";
const PROTECTION: &str = "0103
    0202 1602 0205 090107 0908 5058520000000007 0908 55524A0000000030 0900 0202 1600 0201 1601
    0202 1600 0205 0900 0900 0900 0900 0202 1601 0202 1600 0903 010203
    0202 1603 0205 0900 0900 0900 0900 0202 1602 0202 090102 090103";
const NONE: &str = "0F00";

/// Every attribute of a class, and every method, by number: each is read, written as it was, and of no other shape.
macro_rules! whole_class {
    ($module:ident: $($number:literal $value:expr),* $(,)? $(; $($method:literal $parameter:expr),* $(,)?)?) => {{
        let mut numbers = vec![];
        $({
            let attribute = $module::Attribute::from_number($number).unwrap();
            let place = std::format!("{} {}", $module::CLASS, attribute.name());
            let read = $module::read(attribute, value($value)).unwrap();
            assert_eq!(read.attribute(), attribute);
            let mut out = vec![];
            read.write(&mut Writer::new(&mut out));
            assert_eq!(hex::encode(out), hex::encode(wire($value)), "{place}");
            // A date-time is no attribute of any of these, unless any type is.
            let wrong = $module::read(attribute, Value::Date([0; 5]));
            let any = matches!(place.rsplit(' ').next(), Some("value" | "status" | "current_average_value" | "last_average_value"));
            assert!(any || wrong.is_err(), "{place}");
            numbers.push(attribute);
        })*
        assert_eq!(numbers, $module::Attribute::ALL, "class {}", $module::CLASS);
        $(
            let mut numbers = vec![];
            $({
                let method = $module::Method::from_number($method).unwrap();
                let call = $module::call(method, Some(value($parameter))).unwrap();
                assert_eq!(call.method(), method);
                let mut out = vec![];
                call.write(&mut Writer::new(&mut out));
                assert_eq!(hex::encode(out), hex::encode(wire($parameter)), "{}", method.name());
                assert!($module::call(method, Some(Value::Date([0; 5]))).is_err(), "{}", method.name());
                numbers.push(method);
            })*
            assert_eq!(numbers, $module::Method::ALL, "class {}", $module::CLASS);
        )?
    }};
}

#[test]
fn every_attribute_and_every_method_of_every_class_is_read_and_written() {
    whole_class!(data: 1 NAME, 2 "0600000001");
    whole_class!(register: 1 NAME, 2 "0600000001", 3 SCALE; 1 NONE);
    whole_class!(extended_register: 1 NAME, 2 "0600000001", 3 SCALE, 4 "1100", 5 AT; 1 NONE);
    whole_class!(demand_register:
        1 NAME, 2 "0600000001", 3 "0600000002", 4 SCALE, 5 "1100", 6 AT, 7 AT, 8 "0600000384", 9 "120001";
        1 NONE, 2 NONE);
    let columns = &*Box::leak(std::format!("0101 {COLUMN}").into_boxed_str());
    whole_class!(profile_generic:
        1 NAME, 2 "0101 0202 1101 00", 3 columns, 4 "0600000384", 5 "1601", 6 COLUMN, 7 "0600000001", 8 "0600000046";
        1 NONE, 2 NONE);
    let preset = &*Box::leak(std::format!("0203 {AT} {AT} {AT}").into_boxed_str());
    whole_class!(clock:
        1 NAME, 2 AT, 3 "10014A", 4 "1100", 5 AT, 6 AT, 7 "0F3C", 8 "0300", 9 "1601";
        1 NONE, 2 NONE, 3 NONE, 4 NONE, 5 preset, 6 "10FFE2");
    whole_class!(script_table:
        1 NAME, 2 "0101 0202 120001 0101 0205 1602 120046 0906 000060030AFF 0F01 0F00"; 1 "120001");
    let (objects, users) = (
        &*Box::leak(std::format!("0101 {OBJECT}").into_boxed_str()),
        &*Box::leak(std::format!("0101 {USER}").into_boxed_str()),
    );
    whole_class!(association:
        1 NAME, 2 objects, 3 "0202 0F30 120001", 4 "0207 1102 1110 1202F4 1105 1108 1101 1103",
        5 "0206 041820189D 1202EE 1202EE 1106 0F00 0902 0102", 6 "0207 1102 1110 1202F4 1105 1108 1102 1102",
        7 "0908 5572 6A61 3132 3334", 8 "1602", 9 NAME, 10 users, 11 USER;
        1 "0910 000102030405060708090A0B0C0D0E0F", 2 "0904 0A0B0C0D", 3 OBJECT, 4 OBJECT, 5 USER, 6 USER);
    whole_class!(sap_assignment: 1 NAME, 2 "0101 0202 120001 090141"; 1 "0202 120001 090141");
    whole_class!(image_transfer:
        1 NAME, 2 "06000000C8", 3 "0405B0", 4 "0600000001", 5 "0301", 6 "1603", 7 "0101 0203 0600000010 090141 0900";
        1 "0202 090141 0600000010", 2 "0202 0600000000 090141", 3 NONE, 4 NONE);
    whole_class!(activity_calendar:
        1 NAME, 2 "090141", 3 SEASONS, 4 WEEKS, 5 DAYS, 6 "090142", 7 SEASONS, 8 WEEKS, 9 DAYS, 10 AT; 1 NONE);
    whole_class!(single_action_schedule:
        1 NAME, 2 SCRIPT, 3 "1601", 4 "0101 0202 090400000000 0905FFFFFF01FF");
    let window = &*Box::leak(std::format!("0101 0202 {AT} {AT}").into_boxed_str());
    let covered = &*Box::leak(std::format!("0202 {AT} 0600000E10").into_boxed_str());
    whole_class!(push_setup:
        1 NAME, 2 columns, 3 "0203 1600 090141 1600", 4 window, 5 "12003C", 6 "1103", 7 "0203 12001E 120064 12012C",
        8 NAME, 9 "0F40", 10 PROTECTION, 11 "1602", 12 covered, 13 AT; 1 NONE, 2 NONE);
    whole_class!(security_setup:
        1 NAME, 2 "1603", 3 "1600", 4 "0908 55524A0000000030", 5 "0908 5058520000000007",
        6 "0101 0206 1600 1601 090101 090102 090103 0900";
        1 "1603", 2 "0101 0202 1600 0918 1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
        3 "0101 0202 1600 090101", 4 "1600", 5 "1602", 6 "090101",
        7 "0202 1600 0203 1600 1601 0908 5058520000000007", 8 "0202 1601 0202 090101 090102");
    whole_class!(disconnect_control: 1 NAME, 2 "0301", 3 "1601", 4 "1604"; 1 NONE, 2 NONE);
    let emergency = &*Box::leak(std::format!("0203 120001 {AT} 060000003C").into_boxed_str());
    let actions = &*Box::leak(std::format!("0202 {SCRIPT} {SCRIPT}").into_boxed_str());
    whole_class!(limiter:
        1 NAME, 2 "0203 120003 0906 0100010700FF 0F02", 3 "0600001388", 4 "1701020304", 5 "121388", 6 "060000003C",
        7 "060000003C", 8 emergency, 9 "0101 120001", 10 "0300", 11 actions);
}

#[test]
fn choices_that_are_none_are_refused_at_their_place() {
    let named = |hex: &str| security_setup::call(security_setup::Method::ExportCertificate, Some(value(hex)));
    refused(
        named("0202 1602 0202 090101 090102"),
        "class 64 method 7 export_certificate element 0: integer does not fit a way to name a certificate",
    );
    refused(
        named("0202 1600 0202 090101 090102"),
        "class 64 method 7 export_certificate element 1: expected 3 elements, found 2",
    );
    refused(
        push_setup::push_protection_parameters(value(
            &PROTECTION.replace("0202 1602 0202 090102", "0202 1603 0202 090102"),
        )),
        "class 40 attribute 10 push_protection_parameters element 2.1.4.0: integer does not fit a kind of key",
    );
}

#[test]
fn passwords_secrets_and_keys_in_attributes_are_not_printed() {
    let secret =
        association::read(association::Attribute::Secret, value("0908 5572 6A61 3132 3334")).unwrap();
    let change =
        association::call(association::Method::ChangeHlsSecret, Some(value("0904 0A0B0C0D"))).unwrap();
    let context = association::xdlms_context_info(value("0206 041820189D 1202EE 1202EE 1106 0F00 0902 0B0C"));
    let text = std::format!("{secret:?} {change:?} {context:?}");
    assert_eq!(text.matches("SecretOctets(..)").count(), 3, "{text}");
    assert!(!text.contains("85, 114") && !text.contains("10, 11") && !text.contains("11, 12"), "{text}");
}

#[test]
fn scaler_and_unit_read_as_a_real_meter_sends_them() {
    golden("0202 0F03 161E", register::scaler_unit, ScalerUnit { scaler: 3, unit: Unit::WattHour });
    golden("0202 0FFE 16FF", register::scaler_unit, ScalerUnit { scaler: -2, unit: Unit::Count });
    golden("0202 0F00 16C8", register::scaler_unit, ScalerUnit { scaler: 0, unit: Unit::Other(200) });
    refused(
        register::scaler_unit(value("0202 0900 161E")),
        "class 3 attribute 3 scaler_unit element 0: expected integer, found octet-string",
    );
    refused(
        register::scaler_unit(value("0201 0F03")),
        "class 3 attribute 3 scaler_unit: expected 2 elements, found 1",
    );
    refused(
        register::scaler_unit(value("0202 11C8 161E")),
        "class 3 attribute 3 scaler_unit element 0: integer does not fit integer",
    );
}

#[test]
fn scaling_stays_integer_and_rounds_half_to_even() {
    for (value, power, scaled) in [
        (7, 0, Some(7)),
        (-1, 5, Some(-100_000)),
        (25, -1, Some(2)),
        (35, -1, Some(4)),
        (-25, -1, Some(-2)),
        (-26, -1, Some(-3)),
        (i64::MAX, 1, None),
        (0, 30, Some(0)),
        (1, 30, None),
        (i64::MIN, -19, Some(-1)),
        (5_000_000_000_000_000_000, -19, Some(0)),
        (5_000_000_000_000_000_001, -19, Some(1)),
        (i64::MAX, -20, Some(0)),
        (i64::MIN, -18, Some(-9)),
    ] {
        assert_eq!(times_power_of_ten(value, power), scaled, "{value} × 10^{power}");
    }
    let kilo = ScalerUnit { scaler: 3, unit: Unit::WattHour };
    assert_eq!(kilo.scaled(847, 0), Some(847_000));
    assert_eq!(kilo.scaled(i64::MAX, -128), None);
}

#[test]
fn capture_objects_are_iterated_in_place() {
    let objects = [
        CaptureObject::clock(CLOCK),
        CaptureObject::whole(register::CLASS, LogicalName([1, 0, 1, 29, 0, 255]), 2),
    ];
    golden(
        "0102 0204 120008 09060000010000FF 0F02 120000 0204 120003 09060100011D00FF 0F02 120000",
        profile_generic::capture_objects,
        List::new(Box::leak(Box::new(objects))),
    );
    refused(
        profile_generic::capture_objects(value(
            "0102 0204 120008 09060000010000FF 0F02 120000 0204 120003 0905 0000010000 0F02 120000",
        )),
        "class 7 attribute 3 capture_objects element 1.1: expected a length of 6, found 5",
    );
    refused(
        profile_generic::capture_objects(value("0600000000")),
        "class 7 attribute 3 capture_objects: expected array, found double-long-unsigned",
    );
    golden("0600000384", profile_generic::capture_period, 900);
    golden("1601", profile_generic::sort_method, SortMethod::Fifo);
    golden("00", profile_generic::sort_object, None);
    assert_eq!(profile_generic::capture_period(value("120384")), Ok(900), "a narrower type does as well");
}

#[test]
fn selective_access_is_as_the_reference_has_it() {
    let to = Box::leak(Box::new(DateTime::new(2026, 6, 1, 1, 1, 0, 0, 0, 330, 0)));
    let range = RangeDescriptor::times(CaptureObject::clock(CLOCK), Box::leak(Box::new(HALF_PAST)), to);
    let hex = "0204 0204 120008 09060000010000FF 0F02 120000 090C07EA060101001E0000014A00 \
               090C07EA06010101000000014A00 0100";
    golden(
        hex,
        |value| match Selection::read(1, value)? {
            Selection::Range(range) => Ok(range),
            Selection::Entry(_) => unreachable!(),
        },
        range,
    );
    golden(
        "0204 0600000001 0600000000 120001 120000",
        |value| match Selection::read(2, value)? {
            Selection::Entry(entry) => Ok(entry),
            Selection::Range(_) => unreachable!(),
        },
        EntryDescriptor::rows(1, 0),
    );
    assert_eq!(Selection::Range(range).selector(), 1);
    refused(
        Selection::read(3, Value::Null),
        "class 7 selector 3 buffer: integer does not fit a selector of class 7",
    );
    refused(
        Selection::read(2, value("0204 0600000001 0600000000 120001 0900")),
        "class 7 selector 2 buffer element 3: expected long-unsigned, found octet-string",
    );
    let nested = hex.replace("090C07EA06010101000000014A00", "0201 00");
    refused(
        Selection::read(1, value(&nested)),
        "class 7 selector 1 buffer element 2: expected simple value, found structure",
    );
}

const COLUMNS: [Column; 3] = [Column::Clock, Column::Value, Column::Event];

#[test]
fn nulls_deltas_and_missing_clocks_are_made_good() {
    let buffer = Buffer::of(value(
        "0105 0203 090C07EA060101173B0000014A00 06000003E8 120065
              0203 00 1F05 00
              0203 00 00 120066
              0203 FF FF FF
              0203 00 00 00",
    ));
    let mut rows = buffer.unwrap().rows(COLUMNS, 60);
    let at = |day, hour, minute| {
        Some(Value::DateTime(DateTime::new(2026, 6, day, day, hour, minute, 0, 0, 330, 0)))
    };
    let first = rows.next_row().unwrap().unwrap();
    assert_eq!(first[0].and_then(|time| time.date_time()).map(|time| time.minute()), Some(Some(59)));
    assert_eq!(first[1..], [Some(Value::U32(1_000)), Some(Value::U16(101))]);
    assert_eq!(rows.next_row().unwrap().unwrap(), [at(2, 0, 0), Some(Value::U32(1_005)), None]);
    let third = [at(2, 0, 1), Some(Value::U32(1_005)), Some(Value::U16(102))];
    assert_eq!(rows.next_row().unwrap().unwrap(), third);
    assert_eq!(rows.next_row().unwrap().unwrap(), [None; 3]);
    assert_eq!(rows.next_row().unwrap().unwrap(), [None; 3], "nothing is known after a don't care");
    assert_eq!(rows.next_row(), Ok(None));
}

#[test]
fn the_first_row_must_say_all_itself() {
    let null_first = Buffer::of(value("0102 0203 000000 0203 00 0600000001 120065")).unwrap();
    let mut rows = null_first.rows(COLUMNS, 900);
    assert_eq!(rows.next_row(), Ok(Some(&[None; 3][..])));
    assert_eq!(rows.next_row().unwrap().unwrap()[0], None);
    let without_period = Buffer::of(value("0102 0201 19 07EA060101173B0000014A00 0201 00")).unwrap();
    let mut rows = without_period.rows([Column::Clock], 0);
    assert!(rows.next_row().unwrap().unwrap()[0].is_some());
    assert_eq!(rows.next_row(), Ok(Some(&[None][..])));
}

#[test]
fn a_row_that_does_not_fit_is_named_and_the_last() {
    for (hex, text) in [
        ("0102 0202 0000 0203 000000", "class 7 attribute 2 buffer element 0: expected 3 elements, found 2"),
        (
            "0101 0203 00 1F01 00",
            "class 7 attribute 2 buffer element 0.1: delta without an integer before it",
        ),
        (
            "0101 0203 1F01 00 00",
            "class 7 attribute 2 buffer element 0.0: delta without an integer before it",
        ),
        ("0101 1101", "class 7 attribute 2 buffer element 0: expected structure, found unsigned"),
    ] {
        let buffer = Buffer::of(value(hex)).unwrap();
        let mut rows = buffer.rows(COLUMNS, 900);
        refused(rows.next_row(), text);
        assert_eq!(rows.next_row(), Ok(None));
    }
    let over = Buffer::of(value("0102 0201 11FF 0201 1F01")).unwrap();
    let mut rows = over.rows([Column::Value], 900);
    assert!(rows.next_row().unwrap().is_some());
    refused(
        rows.next_row(),
        "class 7 attribute 2 buffer element 1.0: sum with a delta leaves the type before it",
    );
}

#[test]
fn columns_are_known_by_their_objects() {
    let object =
        |class, name: &str, attribute| CaptureObject::whole(ClassId(class), name.parse().unwrap(), attribute);
    assert_eq!(Column::of(&CaptureObject::clock(CLOCK)), Column::Clock);
    assert_eq!(Column::of(&object(1, "0.0.96.11.4.255", 2)), Column::Event);
    assert_eq!(Column::of(&object(3, "1.0.1.29.0.255", 2)), Column::Value);
    assert_eq!(Column::of(&object(4, "1.0.1.6.0.255", 5)), Column::Value);
}

#[test]
fn a_clock_reads_in_both_forms_and_with_either_sign() {
    golden("090C07EA060101001E0000014A00", clock::time, HALF_PAST);
    assert_eq!(clock::time(value("1907EA060101001E0000014A00")), Ok(HALF_PAST));
    golden("10014A", clock::time_zone, 330);
    golden("1181", clock::status, ClockStatus(0x81));
    assert!(ClockStatus(0x81).has(ClockStatus::DAYLIGHT_SAVING));
    assert!(!ClockStatus(0xff).has(ClockStatus::INVALID), "status not specified");
    for (deviation, sign, ahead) in [
        (330, Some(DeviationSign::UtcToLocal), Some(330)),
        (-330, Some(DeviationSign::LocalToUtc), Some(330)),
        (0, None, None),
        (i16::MIN, None, None),
        (60, None, None),
    ] {
        assert_eq!(DeviationSign::of(deviation, 330), sign);
        assert_eq!(sign.and_then(|sign| sign.ahead_of_utc_min(deviation)), ahead);
        assert_eq!(sign.map_or(deviation, |sign| sign.deviation_min(330)), deviation);
    }
    assert_eq!(DeviationSign::LocalToUtc.ahead_of_utc_min(i16::MIN), None);
    refused(
        clock::time(value("090B07EA060101001E0000014A")),
        "class 8 attribute 2 time: expected a length of 12, found 11",
    );
    let shift = clock::call(clock::Method::ShiftTime, Some(value("10FFE2")));
    assert_eq!(shift, Ok(clock::Call::ShiftTime(-30)));
    refused(
        clock::call(clock::Method::ShiftTime, None),
        "class 8 method 6 shift_time: expected long, found null-data",
    );
}

#[test]
fn an_image_is_announced_sent_and_its_gaps_are_found() {
    let initiate =
        image_transfer::Call::Initiate(image_transfer::Initiate { identifier: b"ABC", size: 1_000 });
    let hex = "0202 0903414243 06000003E8";
    assert_eq!(image_transfer::call(image_transfer::Method::Initiate, Some(value(hex))), Ok(initiate));
    let mut out = vec![];
    initiate.write(&mut Writer::new(&mut out));
    assert_eq!(out, wire(hex));
    assert_eq!(initiate.method().number(), 1);
    let mut out = vec![];
    image_transfer::Call::Verify(NoData).write(&mut Writer::new(&mut out));
    assert_eq!(out, [0x0f, 0x00]);
    golden("1603", image_transfer::image_transfer_status, TransferStatus::VerificationSuccessful);
    assert_eq!(image_transfer::block_count(1_000, 200), Some(5));
    assert_eq!(image_transfer::block_count(1_001, 200), Some(6));
    assert_eq!(image_transfer::block_count(1, 0), None);
    let bits = image_transfer::image_transferred_blocks_status(value("0405B0")).unwrap();
    assert_eq!(image_transfer::missing(bits, 7).collect::<Vec<_>>(), [1, 4, 5, 6]);
    refused(
        image_transfer::image_transfer_enabled(value("1101")),
        "class 18 attribute 5 image_transfer_enabled: expected boolean, found unsigned",
    );
}

#[test]
fn a_calendar_of_two_zones_reads_by_season_week_and_day() {
    let days = activity_calendar::day_profile_table_passive(value(
        "0101 0202 1101 0102 0203 090406000000 090600000A0064FF 120001
                             0203 090416000000 090600000A0064FF 120002",
    ))
    .unwrap();
    let day = days.iter().next().unwrap();
    let zones: Vec<_> =
        day.schedule.iter().map(|action| (action.start.0[0], action.script_selector)).collect();
    assert_eq!((day.day_id, zones), (1, vec![(6, 1), (22, 2)]));
    let seasons = [activity_calendar::Season { name: b"1", start: HALF_PAST, week: b"W" }];
    golden(
        "0101 0203 090131 090C07EA060101001E0000014A00 090157",
        activity_calendar::season_profile_active,
        List::new(Box::leak(Box::new(seasons))),
    );
    let weeks = activity_calendar::week_profile_table_active(value(
        "0101 0208 090157 1101 1101 1101 1101 1101 1102 1103",
    ));
    let sunday = weeks.unwrap().iter().next().map(|week| (week.friday, week.saturday, week.sunday));
    assert_eq!(sunday, Some((1, 2, 3)));
    refused(
        activity_calendar::day_profile_table_active(value(
            "0101 0202 1101 0101 0203 09020600 090600000A0064FF 120001",
        )),
        "class 20 attribute 5 day_profile_table_active element 0.1.0.0: expected a length of 4, found 2",
    );
}

#[test]
fn a_push_setup_says_what_where_to_and_how_often() {
    golden(
        "0203 1600 090A 5B3A3A315D3A34303539 1600",
        push_setup::send_destination_and_method,
        SendDestination {
            transport: TransportService::Tcp,
            destination: b"[::1]:4059",
            message: MessageType::Axdr,
        },
    );
    const CLOCKS: &[CaptureObject] = &[CaptureObject::clock(CLOCK)];
    let sent = |part| &*Box::leak(Box::new([PushObject { attribute: CLOCKS[0], part }]));
    let listed = |hex: &str, part| golden(hex, push_setup::push_object_list, List::new(sent(part)));
    let clock = "120008 0906 0000010000FF 0F02 120000";
    listed(&std::format!("0101 0204 {clock}"), None);
    let of = |restriction, columns| Some(Part { restriction, columns: List::new(columns) });
    listed(&std::format!("0101 0206 {clock} 0202 1600 00 0100"), of(Restriction::None, &[]));
    listed(
        &std::format!("0101 0206 {clock} 0202 1602 0202 0600000001 0600000046 0100"),
        of(Restriction::ByEntry { from: 1, to: 70 }, &[]),
    );
    listed(
        &std::format!("0101 0206 {clock} 0202 1601 0202 0905 07EA0601FF 0905 07EA0602FF 0101 0204 {clock}"),
        of(Restriction::ByDate { from: &[0x07, 0xea, 6, 1, 0xff], to: &[0x07, 0xea, 6, 2, 0xff] }, CLOCKS),
    );
    refused(
        push_setup::push_object_list(value(&std::format!("0101 0206 {clock} 0202 1603 00 0100"))),
        "class 40 attribute 2 push_object_list element 0.4.0: integer does not fit a kind of restriction",
    );
    refused(
        push_setup::push_object_list(value(&std::format!("0101 0205 {clock} 0202 1600 00"))),
        "class 40 attribute 2 push_object_list element 0: expected 4 elements, found 5",
    );
    golden("12003C", push_setup::repetition_delay, RepetitionDelay::Seconds(60));
    golden(
        "0203 12001E 120064 12012C",
        push_setup::repetition_delay,
        RepetitionDelay::Backoff(Backoff { min: 30, exponent: 100, max: 300 }),
    );
    golden("120384", push_setup::randomisation_start_interval, 900);
    golden("1103", push_setup::number_of_retries, 3);
    refused(
        push_setup::send_destination_and_method(value("0203 0900 0900 1600")),
        "class 40 attribute 3 send_destination_and_method element 0: expected enum, found octet-string",
    );
}

#[test]
fn keys_travel_as_the_indian_tester_sends_them() {
    let hex = "0101 0202 1600 0918 1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5";
    let call = security_setup::call(security_setup::Method::KeyTransfer, Some(value(hex))).unwrap();
    let security_setup::Call::KeyTransfer(keys) = call else { panic!("{call:?}") };
    let wrapped = &wire(hex)[8..];
    let key = WrappedKey { key: KeyId::GlobalUnicastEncryption, wrapped };
    assert_eq!(keys, List::new(&[key]));
    let mut out = vec![];
    call.write(&mut Writer::new(&mut out));
    assert_eq!(out, wire(hex));
    golden("1603", security_setup::security_policy, Policy(3));
    assert_eq!(Policy(3).v0(), Some(PolicyV0::AuthenticatedEncrypted));
    assert_eq!(Policy::from(PolicyV0::Encrypted), Policy(2));
    assert!(Policy(0x6c).asks(Policy::REQUEST_ENCRYPTED | Policy::RESPONSE_ENCRYPTED));
    assert!(!Policy(0x08).asks(Policy::REQUEST_ENCRYPTED | Policy::RESPONSE_ENCRYPTED));
    golden("1600", security_setup::security_suite, Suite::Suite0);
    refused(
        security_setup::call(security_setup::Method::KeyTransfer, Some(value("0101 0202 1600 1100"))),
        "class 64 method 2 key_transfer element 0.1: expected octet-string, found unsigned",
    );
}

#[test]
fn the_relay_moves_as_its_mode_allows() {
    use ControlState::{Connected, Disconnected, ReadyForReconnection};
    use Transition::*;
    let table: [(ControlState, Transition, ControlState, &[u8]); 9] = [
        (Disconnected, RemoteReconnect, Connected, &[2, 4]),
        (Disconnected, RemoteReconnect, ReadyForReconnection, &[1, 3, 5, 6]),
        (Connected, RemoteDisconnect, Disconnected, &[1, 2, 3, 4, 5, 6]),
        (ReadyForReconnection, RemoteDisconnect, Disconnected, &[1, 2, 3, 4, 5, 6]),
        (ReadyForReconnection, ManualReconnect, Connected, &[1, 2, 3, 4, 5, 6]),
        (Connected, ManualDisconnect, ReadyForReconnection, &[1, 2, 5]),
        (Connected, LocalDisconnect, ReadyForReconnection, &[1, 2, 3, 4, 5, 6]),
        (ReadyForReconnection, LocalReconnect, Connected, &[5, 6]),
        (Connected, RemoteReconnect, Connected, &[]),
    ];
    for mode in 0..=7 {
        for &state in ControlState::NAMED {
            for transition in Transition::ALL {
                let expected = table.iter().find(|(from, by, _, modes)| {
                    (*from, *by) == (state, transition) && modes.contains(&mode)
                });
                let next = disconnect_control::next(ControlMode::from_code(mode), state, transition);
                assert_eq!(next, expected.map(|row| row.2), "mode {mode} {state:?} {transition:?}");
                let allowed = disconnect_control::allowed(ControlMode::from_code(mode), state, transition);
                assert_eq!(allowed, next.is_some());
            }
        }
    }
}

#[test]
fn the_relay_is_commanded_with_integer_zero() {
    let mut out = vec![];
    disconnect_control::Call::RemoteDisconnect(NoData).write(&mut Writer::new(&mut out));
    assert_eq!(out, [0x0f, 0x00]);
    for parameter in [None, Some(value("0F00")), Some(value("1100"))] {
        let call = disconnect_control::call(disconnect_control::Method::RemoteReconnect, parameter);
        assert_eq!(call, Ok(disconnect_control::Call::RemoteReconnect(NoData)));
    }
    golden("0301", disconnect_control::output_state, true);
    golden("1602", disconnect_control::control_state, ControlState::ReadyForReconnection);
    golden("1604", disconnect_control::control_mode, india::control::LOAD_LIMIT_ON);
    refused(
        disconnect_control::control_state(value("0301")),
        "class 70 attribute 3 control_state: expected enum, found boolean",
    );
}

#[test]
fn a_limit_keeps_the_type_of_its_meter() {
    let watts = limiter::threshold_normal(value("06 00001388")).unwrap();
    assert_eq!(watts.integer(), Some(5_000));
    assert_eq!(written(&watts.with_integer(2_000).unwrap()), wire("06 000007D0"));
    assert_eq!(watts.with_integer(-1), None);
    golden("17459C4000", limiter::threshold_active, Number::of(&Value::F32(0x459c_4000)).unwrap());
    refused(
        limiter::threshold_active(value("0301")),
        "class 71 attribute 3 threshold_active: expected number, found boolean",
    );
    let over = ScriptReference { table: LogicalName([0, 0, 10, 0, 106, 255]), selector: 1 };
    golden(
        "0202 0202 090600000A006AFF 120001 0202 090600000A006AFF 120002",
        limiter::actions,
        limiter::Actions { over_threshold: over, under_threshold: ScriptReference { selector: 2, ..over } },
    );
    golden(
        "0203 120003 09060100010700FF 0F02",
        limiter::monitored_value,
        limiter::MonitoredValue { class: register::CLASS, name: india::register::ACTIVE_POWER, attribute: 2 },
    );
}

#[test]
fn the_object_list_gives_the_rights_of_both_versions() {
    let selectors: &[i8] = &[1, 2];
    let attributes: &[AttributeAccess<'_>] = &[
        AttributeAccess { attribute: 1, mode: AccessMode::Read, selectors: None },
        AttributeAccess {
            attribute: 2,
            mode: AccessMode::AuthenticatedRead,
            selectors: Some(List::new(selectors)),
        },
    ];
    let methods: &[MethodAccess] = &[MethodAccess { method: 1, mode: MethodMode::Access }];
    let object = Object {
        class: profile_generic::CLASS,
        version: 1,
        name: india::profile::BLOCK_LOAD,
        rights: AccessRights {
            attributes: List::new(Box::leak(attributes.into())),
            methods: List::new(Box::leak(methods.into())),
        },
    };
    let hex = "0101 0204 120007 1101 09060100630100FF 0202
               0102 0203 0F01 1601 00 0203 0F02 1604 0102 0F01 0F02
               0101 0202 0F01 1601";
    golden(hex, association::object_list, List::new(Box::leak(Box::new([object]))));
    let version_0 = hex.replace("0202 0F01 1601", "0202 0F01 03FF");
    assert_eq!(association::object_list(value(&version_0)), association::object_list(value(hex)));
    assert!(AccessMode::AuthenticatedRead.can_read() && !AccessMode::AuthenticatedRead.can_write());
    refused(
        association::object_list(value(&hex.replace("0F01 0F02", "0F01 0900"))),
        "class 15 attribute 2 object_list element 0.3.0.1.2.1: expected integer, found octet-string",
    );
}

#[test]
fn an_association_says_its_context_in_arcs_or_in_ber() {
    golden(
        "0207 1102 1110 1202F4 1105 1108 1101 1103",
        association::application_context_name,
        ContextName(3),
    );
    golden(
        "0207 1102 1110 1202F4 1105 1108 1102 1102",
        association::authentication_mechanism_name,
        MechanismName(2),
    );
    let ber = association::application_context_name(value("0907 60857405080103"));
    assert_eq!(ber, Ok(ContextName::LOGICAL_NAMES_CIPHERED));
    for other in ["0907 60857405080203", "0906 608574050801", "0207 1102 1110 1202F5 1105 1108 1101 1103"] {
        refused(
            association::application_context_name(value(other)),
            "class 15 attribute 4 application_context_name: object identifier is none of DLMS",
        );
    }
    golden(
        "0202 0F30 120001",
        association::associated_partners_id,
        Partners { client_sap: 48, server_sap: 1 },
    );
    let info = ContextInfo {
        conformance: Conformance([0x20, 0x18, 0x9d]),
        max_receive_pdu_size: 750,
        max_send_pdu_size: 750,
        dlms_version: 6,
        quality_of_service: 0,
        cyphering_info: SecretOctets(&[]),
    };
    golden("0206 041820189D 1202EE 1202EE 1106 0F00 0900", association::xdlms_context_info, info);
    let set = (0..30).filter(|&bit| info.conformance.bit(bit));
    assert_eq!(set.collect::<Vec<_>>(), [2, 11, 12, 16, 19, 20, 21, 23]);
    golden("0202 1101 0A0141", association::current_user, User { id: 1, name: Text(b"A") });
    assert_eq!(association::Method::ReplyToHlsAuthentication.number(), 1);
    refused(
        association::xdlms_context_info(value("0206 0410FFFF 1202EE 1202EE 1106 0F00 0900")),
        "class 15 attribute 5 xdlms_context_info element 0: expected a length of 24, found 16",
    );
}

#[test]
fn scripts_schedules_devices_and_plain_values_read() {
    let scripts =
        script_table::scripts(value("0101 0202 120001 0101 0205 1602 120046 0906 00006003 0AFF 0F01 0F00"));
    let script = scripts.unwrap().iter().next().unwrap();
    let action = script.actions.iter().next().unwrap();
    assert_eq!((script.identifier, action.name, action.index), (1, india::control::RELAY, 1));
    assert_eq!((action.service, action.parameter), (script_table::ScriptService::Execute, Value::I8(0)));
    let times = [single_action_schedule::ExecutionTime {
        time: Time([0, 0, 0, 0]),
        date: Date([0xff, 0xff, 0xff, 1, 0xff]),
    }];
    golden(
        "0101 0202 090400000000 0905FFFFFF01FF",
        single_action_schedule::execution_time,
        List::new(Box::leak(Box::new(times))),
    );
    let devices = [sap_assignment::SapAssignment { sap: 1, logical_device_name: b"CRY0000SA1231166" }];
    golden(
        "0101 0202 120001 0910 43525930303030534131323331313636",
        sap_assignment::sap_assignment_list,
        List::new(Box::leak(Box::new(devices))),
    );
    golden("05FFFFFF9C", data::value, Value::I32(-100));
    golden("090C07EA060101001E0000014A00", extended_register::capture_time, Some(HALF_PAST));
    golden("0600000384", demand_register::period, 900);
    refused(
        demand_register::number_of_periods(value("0600010000")),
        "class 5 attribute 9 number_of_periods: integer does not fit long-unsigned",
    );
}

#[test]
fn a_compact_array_is_an_array() {
    let scripts = script_table::scripts(value("13 0202 12 010000 11 02 0001"));
    assert_eq!(scripts.map(|list| list.iter().map(|one| one.identifier).collect::<Vec<_>>()), Ok(vec![1]));
    let buffer = Buffer::of(value("13 0202 11 12 06 01 0002 03 0004")).unwrap();
    let mut rows = buffer.rows([Column::Value; 2], 900);
    assert_eq!(rows.next_row().unwrap().unwrap(), [Some(Value::U8(1)), Some(Value::U16(2))]);
    assert_eq!(rows.next_row().unwrap().unwrap(), [Some(Value::U8(3)), Some(Value::U16(4))]);
    assert_eq!(written(&buffer), wire("0102 0202 1101 120002 0202 1103 120004"));
}

#[test]
fn names_of_the_indian_model_are_as_in_the_reference() {
    for (name, text) in [
        (india::profile::BLOCK_LOAD, "1.0.99.1.0.255"),
        (india::profile::DAILY_LOAD, "1.0.99.2.0.255"),
        (india::profile::BILLING, "1.0.98.1.0.255"),
        (india::profile::INSTANTANEOUS, "1.0.94.91.0.255"),
        (india::scaler::EVENTS, "1.0.94.91.7.255"),
        (india::identity::NAMEPLATE_PROFILE, "0.0.94.91.10.255"),
        (india::push::ALERT, "0.4.25.9.0.255"),
        (india::push::EVENT_STATUS_WORD, "0.0.94.91.18.255"),
        (india::push::EVENT_STATUS_FILTER, "0.0.94.91.26.255"),
        (india::prepaid::BALANCE_AMOUNT, "0.0.94.96.24.255"),
        (india::events::EventLog::Control.log(), "0.0.99.98.6.255"),
        (india::events::EventLog::Voltage.latest_code(), "0.0.96.11.0.255"),
        (india::association::UTILITY.object, "0.0.40.0.3.255"),
    ] {
        assert_eq!(name.to_string(), text);
    }
    let counters: Vec<_> = india::association::ALL.iter().filter_map(|one| one.invocation_counter).collect();
    assert_eq!(counters.len(), 5);
    assert_eq!(india::class_of_column(india::register::DEMAND_IMPORT), extended_register::CLASS);
    assert_eq!(india::class_of_column(india::register::BLOCK_ENERGY_IMPORT), register::CLASS);
    assert_eq!(india::class_of_column(india::status::TAMPER_COUNT), data::CLASS);
    assert_eq!(india::class_of_column(india::status::BILLING_DATE), data::CLASS);
    assert_eq!(india::class_of_column(india::time::BLOCK_CAPTURE_PERIOD), data::CLASS);
    assert_eq!(india::class_of_column(india::time::CLOCK), clock::CLASS);
    assert_eq!(india::class_of_column(india::control::RELAY), disconnect_control::CLASS);
}

fn round<'a, T: Wire<'a> + PartialEq + Debug>(
    item: &T,
    bytes: &'a [u8],
    read: impl Fn(Value<'a>) -> Result<T, ValueError>,
) -> Result<(), TestCaseError> {
    let (value, rest) = parse(bytes).unwrap();
    prop_assert!(rest.is_empty());
    let again = read(value);
    prop_assert_eq!(again.as_ref(), Ok(item));
    Ok(())
}

fn date_time() -> impl Strategy<Value = DateTime> {
    any::<[u8; 12]>().prop_map(DateTime)
}

fn capture_object() -> impl Strategy<Value = CaptureObject> {
    any::<(u16, [u8; 6], i8, u16)>().prop_map(|(class, name, attribute, data_index)| CaptureObject {
        class: ClassId(class),
        name: LogicalName(name),
        attribute,
        data_index,
    })
}

proptest! {
    #[test]
    fn lists_and_structures_written_read_back(
        objects in prop::collection::vec(capture_object(), 0..200),
        time in date_time(),
        (scaler, unit, octets) in any::<(i8, u8, Vec<u8>)>(),
        (number, seconds, mode) in any::<(u32, u16, u8)>(),
    ) {
        let list = List::new(&objects);
        round(&list, &written(&list), profile_generic::capture_objects)?;
        let scaler = ScalerUnit { scaler, unit: Unit::from_code(unit) };
        round(&scaler, &written(&scaler), register::scaler_unit)?;
        round(&time, &written(&time), clock::time)?;
        let destination = SendDestination {
            transport: TransportService::from_code(mode),
            destination: &octets,
            message: MessageType::from_code(unit),
        };
        round(&destination, &written(&destination), push_setup::send_destination_and_method)?;
        let images = [image_transfer::ImageToActivate { size: number, identification: &octets, signature: &octets }];
        let images = List::new(&images);
        round(&images, &written(&images), image_transfer::image_to_activate_info)?;
        let emergency = limiter::EmergencyProfile { id: seconds, activation_time: time, duration: number };
        round(&emergency, &written(&emergency), limiter::emergency_profile)?;
        let windows = [push_setup::Window { start: time, end: time }; 3];
        let windows = List::new(&windows);
        round(&windows, &written(&windows), push_setup::communication_window)?;
        let entry = EntryDescriptor { from_entry: number, to_entry: number, from_column: seconds, to_column: 0 };
        let bytes = written(&entry);
        let (value, _) = parse(&bytes).unwrap();
        prop_assert_eq!(Selection::read(2, value), Ok(Selection::Entry(entry)));
        let seasons = [activity_calendar::Season { name: &octets, start: time, week: &octets }];
        let seasons = List::new(&seasons);
        round(&seasons, &written(&seasons), activity_calendar::season_profile_passive)?;
    }

    #[test]
    fn nested_lists_written_read_back(
        rights in prop::collection::vec((any::<i8>(), any::<u8>(), prop::option::of(any::<Vec<i8>>())), 0..20),
        days in prop::collection::vec(any::<(u8, Vec<([u8; 4], [u8; 6], u16)>)>(), 0..5),
    ) {
        let attributes: Vec<_> = rights.iter().map(|(attribute, mode, selectors)| AttributeAccess {
            attribute: *attribute,
            mode: AccessMode::from_code(*mode),
            selectors: selectors.as_deref().map(List::new),
        }).collect();
        let objects = [Object {
            class: clock::CLASS,
            version: 0,
            name: CLOCK,
            rights: AccessRights { attributes: List::new(&attributes), methods: List::new(&[]) },
        }];
        let objects = List::new(&objects);
        round(&objects, &written(&objects), association::object_list)?;
        let schedules: Vec<Vec<_>> = days.iter().map(|(_, actions)| actions.iter().map(|&(start, table, selector)| {
            activity_calendar::DayAction {
                start: Time(start),
                script_table: LogicalName(table),
                script_selector: selector,
            }
        }).collect()).collect();
        let days: Vec<_> = days.iter().zip(&schedules).map(|(&(day_id, _), schedule)| {
            activity_calendar::DayProfile { day_id, schedule: List::new(schedule) }
        }).collect();
        let days = List::new(&days);
        round(&days, &written(&days), activity_calendar::day_profile_table_active)?;
    }
}
