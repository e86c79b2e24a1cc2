//! `dlms_cosem` 0.2, another decoder in Rust, as an oracle: what both read is the same, and where they differ is
//! listed in `docs/dlms-differences.md` with the clause that decides.
#![allow(clippy::unwrap_used)]

use std::panic::catch_unwind;

use codec::ErrorKind;
use codec::apdu::{self, Apdu, DataNotificationRepr, LongInvokeId};
use codec::axdr::{self, DateTime, Elements, Value, Writer};
use codec::cosem::Wire;
use codec::security::{Keys, RustCrypto, SecurityControl, seal};
use dlms_cosem::{Apdu as TheirApdu, Data as Theirs, DateTime as TheirDateTime};
use proptest::prelude::*;

const GUEK: [u8; 16] = *b"0123456789abcdef";
const GAK: [u8; 16] = *b"fedcba9876543210";
const TITLE: [u8; 8] = *b"URJ\0\0\0\0\x07";

/// What the other decoder made of some bytes.
#[derive(Debug)]
enum Read<T> {
    /// A value, and how many bytes were left.
    Value(T, usize),
    Refused,
    Panicked,
}

fn read<T>(of: impl FnOnce() -> Option<(T, usize)> + std::panic::UnwindSafe) -> Read<T> {
    match catch_unwind(of) {
        Ok(Some((value, left))) => Read::Value(value, left),
        Ok(None) => Read::Refused,
        Err(_) => Read::Panicked,
    }
}

fn their_value(bytes: &[u8]) -> Read<Theirs> {
    read(|| Theirs::parse(bytes).ok().map(|(left, value)| (value, left.len())))
}

fn their_apdu(bytes: &[u8]) -> Read<TheirApdu> {
    read(|| TheirApdu::parse(bytes).ok().map(|(left, apdu)| (apdu, left.len())))
}

fn their_opened(bytes: &[u8]) -> Read<TheirApdu> {
    read(|| TheirApdu::parse_encrypted(bytes, &GUEK.into()).ok().map(|(left, apdu)| (apdu, left.len())))
}

/// A value of ours as they print theirs; `None` where it holds what they have no word for.
fn said(value: Value<'_>) -> Option<String> {
    let name = match value {
        Value::Null => return Some("Null".into()),
        Value::Structure(elements) => format!("Structure([{}])", listed(elements)?),
        Value::OctetString(bytes) => format!("OctetString({bytes:?})"),
        Value::I8(number) => format!("Integer({number})"),
        Value::I16(number) => format!("Long({number})"),
        Value::U16(number) => format!("LongUnsigned({number})"),
        Value::I32(number) => format!("DoubleLong({number})"),
        Value::U32(number) => format!("DoubleLongUnsigned({number})"),
        Value::I64(number) => format!("Long64({number})"),
        Value::U64(number) => format!("Long64Unsigned({number})"),
        Value::Enum(code) => format!("Enum({code})"),
        Value::F32(bits) => format!("Float32({:?})", f32::from_bits(bits)),
        Value::F64(bits) => format!("Float64({:?})", f64::from_bits(bits)),
        Value::DateTime(time) => format!("DateTime(DateTime(\"{}\"))", date_time(&time)),
        Value::Date(bytes) => format!("Date(Date(\"{}\"))", date(&bytes)),
        Value::Time(bytes) => format!("Time(Time(\"{}\"))", clock(&bytes)),
        Value::Array(_)
        | Value::CompactArray(_)
        | Value::Bool(_)
        | Value::BitString(_)
        | Value::U8(_)
        | Value::VisibleString(_)
        | Value::Utf8String(_)
        | Value::Bcd(_)
        | Value::Delta(_)
        | Value::DontCare => return None,
    };
    Some(name)
}

fn listed(elements: Elements<'_>) -> Option<String> {
    let elements: Option<Vec<String>> = elements.iter().map(said).collect();
    Some(elements?.join(", "))
}

fn date(bytes: &[u8; 5]) -> String {
    let [high, low, month, day, _] = *bytes;
    format!("{:04}-{month:02}-{day:02}", u16::from_be_bytes([high, low]))
}

/// They print what is not specified as zero.
fn clock(bytes: &[u8; 4]) -> String {
    let [hour, minute, second, hundredths] = bytes.map(|byte| if byte == 0xff { 0 } else { byte });
    format!("{hour:02}:{minute:02}:{second:02}.{hundredths:02}")
}

/// They print the deviation as the offset that the Blue Book means by it: minutes from local time to UTC.
fn date_time(time: &DateTime) -> String {
    let (Some(day), Some(hour)) = (time.0.first_chunk(), time.0[5..].first_chunk()) else {
        panic!("12 bytes");
    };
    let zone = time.deviation_min().map_or(String::new(), |minutes| {
        let sign = if minutes >= 0 { '-' } else { '+' };
        let minutes = minutes.unsigned_abs();
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    });
    format!("{}T{}{zone}", date(day), clock(hour))
}

/// Whether a count or a length in it takes more than one byte: they know none such, and take the first for the number.
fn has_long_form(value: Value<'_>, encoded: usize) -> bool {
    let mut shortest = Vec::new();
    value.write(&mut Writer::new(&mut shortest));
    needs_long_form(value) || shortest.len() != encoded
}

fn needs_long_form(value: Value<'_>) -> bool {
    match value {
        Value::Structure(elements) => elements.len() > 0x7f || elements.iter().any(needs_long_form),
        Value::OctetString(bytes) => bytes.len() > 0x7f,
        _ => false,
    }
}

/// What both read of these bytes is the same value of the same length. Says whether both read something.
fn agree(bytes: &[u8]) -> bool {
    let ours = axdr::parse(bytes);
    let (theirs, left) = match their_value(bytes) {
        Read::Value(theirs, left) => (theirs, left),
        Read::Refused | Read::Panicked => return false,
    };
    match ours {
        Ok((value, rest)) if !has_long_form(value, bytes.len() - rest.len()) => {
            assert_eq!(said(value), Some(format!("{theirs:?}")), "{bytes:02x?}");
            assert_eq!(rest.len(), left, "{bytes:02x?}");
            true
        }
        Ok(_) => false,
        Err(error) => {
            // They cap no nesting. Where a byte could be the first of a long length, they may have read anything.
            let is_short = bytes.iter().all(|byte| *byte < 0x80);
            assert!(!is_short || error.kind == ErrorKind::TooDeep, "{error:?} of {bytes:02x?}");
            false
        }
    }
}

/// A value of the kinds that they know.
#[derive(Clone, Debug)]
enum Made {
    Null,
    I8(i8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Enum(u8),
    F32(u32),
    F64(u64),
    Octets(Vec<u8>),
    DateTime([u8; 12]),
    Date([u8; 5]),
    Time([u8; 4]),
    Structure(Vec<Made>),
}

impl Made {
    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        match self {
            Made::Null => _ = writer.null(),
            Made::I8(number) => _ = writer.i8(*number),
            Made::I16(number) => _ = writer.i16(*number),
            Made::U16(number) => _ = writer.u16(*number),
            Made::I32(number) => _ = writer.i32(*number),
            Made::U32(number) => _ = writer.u32(*number),
            Made::I64(number) => _ = writer.i64(*number),
            Made::U64(number) => _ = writer.u64(*number),
            Made::Enum(code) => _ = writer.enum_(*code),
            Made::F32(bits) => _ = writer.f32_bits(*bits),
            Made::F64(bits) => _ = writer.f64_bits(*bits),
            Made::Octets(bytes) => _ = writer.octet_string(bytes),
            Made::DateTime(bytes) => _ = writer.date_time(DateTime(*bytes)),
            Made::Date(bytes) => _ = writer.date(*bytes),
            Made::Time(bytes) => _ = writer.time(*bytes),
            Made::Structure(elements) => {
                writer.structure(elements.len());
                elements.iter().for_each(|element| element.write(out));
            }
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// A time of day that they take: each field within its range or not specified.
fn time_of_day() -> impl Strategy<Value = [u8; 4]> {
    let field = |end: u8| prop_oneof![9 => 0..end, 1 => Just(0xff)];
    (field(24), field(60), field(60), field(100))
        .prop_map(|(hour, minute, second, part)| [hour, minute, second, part])
}

fn made_date_time() -> impl Strategy<Value = [u8; 12]> {
    (any::<[u8; 5]>(), time_of_day(), any::<[u8; 3]>()).prop_map(|(date, time, zone)| {
        let mut bytes = [0; 12];
        bytes[..5].copy_from_slice(&date);
        bytes[5..9].copy_from_slice(&time);
        bytes[9..].copy_from_slice(&zone);
        // The one deviation that they cannot print, for it has no absolute value.
        if bytes[9..11] == [0x80, 0] {
            bytes[10] = 1;
        }
        bytes
    })
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![
        Just(Made::Null),
        any::<i8>().prop_map(Made::I8),
        any::<i16>().prop_map(Made::I16),
        any::<u16>().prop_map(Made::U16),
        any::<i32>().prop_map(Made::I32),
        any::<u32>().prop_map(Made::U32),
        any::<i64>().prop_map(Made::I64),
        any::<u64>().prop_map(Made::U64),
        any::<u8>().prop_map(Made::Enum),
        any::<u32>().prop_map(Made::F32),
        any::<u64>().prop_map(Made::F64),
        prop::collection::vec(any::<u8>(), 0..0x80).prop_map(Made::Octets),
        made_date_time().prop_map(Made::DateTime),
        any::<[u8; 5]>().prop_map(Made::Date),
        time_of_day().prop_map(Made::Time),
    ];
    leaf.prop_recursive(5, 60, 12, |inner| prop::collection::vec(inner, 0..12).prop_map(Made::Structure))
}

/// A push of ours with this body.
fn push(id: LongInvokeId, time: [u8; 12], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    DataNotificationRepr { invoke_id: id, date_time: Some(DateTime(time)) }.emit(body, &mut out);
    out
}

/// How they print a push: its fields are their own.
fn their_push(id: LongInvokeId, time: &[u8; 12], body: &[u8]) -> String {
    let (_, time) = TheirDateTime::parse(time).unwrap();
    let (_, body) = Theirs::parse(body).unwrap();
    let id = format!("long_invoke_id_and_priority: LongInvokeIdAndPriority({})", id.0);
    format!("DataNotification(DataNotification {{ {id}, date_time: {time:?}, notification_body: {body:?} }})")
}

proptest! {
    #[test]
    fn every_value_that_both_know_is_read_the_same(value in made()) {
        prop_assert!(agree(&value.encoded()), "both read it");
    }

    #[test]
    fn what_both_read_of_spoilt_bytes_is_the_same(
        value in made(),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = value.encoded();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agree(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        agree(&bytes);
    }

    #[test]
    fn what_both_read_of_any_bytes_is_the_same(bytes in prop::collection::vec(0_u8..0x1c, 0..60)) {
        agree(&bytes);
    }

    #[test]
    fn a_push_that_we_write_is_read_the_same_in_the_clear_and_encrypted(
        id: u32,
        time in made_date_time(),
        body in made(),
        counter: u32,
    ) {
        let (id, body) = (LongInvokeId(id), body.encoded());
        let plain = push(id, time, &body);
        let expected = their_push(id, &time, &body);
        let Read::Value(theirs, 0) = their_apdu(&plain) else { panic!("{plain:02x?}") };
        prop_assert_eq!(format!("{theirs:?}"), &expected[..]);
        let Ok(Apdu::DataNotification(ours)) = apdu::parse(&plain) else { panic!("{plain:02x?}") };
        prop_assert_eq!((ours.invoke_id(), ours.date_time()), (id, Some(DateTime(time))));
        let mut sealed = Vec::new();
        let keys = Keys::new(GUEK, GAK);
        seal(&RustCrypto, SecurityControl::ENCRYPTED, &TITLE, counter, &keys, &plain, &mut sealed);
        // Lengths of two bytes they do not know.
        if sealed[10] < 0x80 || sealed[10] == 0x82 {
            let Read::Value(theirs, 0) = their_opened(&sealed) else { panic!("{sealed:02x?}") };
            prop_assert_eq!(format!("{theirs:?}"), expected);
        }
    }
}

/// What the two make of the same bytes, in a word each.
fn outcomes(bytes: &[u8]) -> (&'static str, &'static str) {
    let ours = if axdr::parse(bytes).is_ok() { "read" } else { "refused" };
    (ours, word(&their_value(bytes)))
}

const fn word<T>(read: &Read<T>) -> &'static str {
    match read {
        Read::Value(..) => "read",
        Read::Refused => "refused",
        Read::Panicked => "panicked",
    }
}

#[test]
fn the_values_on_which_the_two_differ_are_those_of_the_document() {
    let long_form = [&[0x09, 0x81, 0x80][..], &[7; 0x80]].concat();
    let deep = [[0x02, 0x01]; 17].concat().into_iter().chain([0]).collect::<Vec<u8>>();
    for (bytes, ours, theirs) in [
        (&[0x01, 0x00][..], "read", "panicked"),
        (&[0x03, 0x01], "read", "panicked"),
        (&[0x04, 0x08, 0xff], "read", "panicked"),
        (&[0x0a, 0x01, b'a'], "read", "panicked"),
        (&[0x0c, 0x01, b'a'], "read", "panicked"),
        (&[0x0d, 0x12], "read", "panicked"),
        (&[0x11, 0x07], "read", "panicked"),
        (&[0x13, 0x11, 0x02, 1, 2], "read", "panicked"),
        (&[0x1c, 0x01], "read", "refused"),
        (&[0xff], "read", "refused"),
        (&[0x1b, 24, 0, 0, 0], "read", "refused"),
        (&deep, "refused", "read"),
    ] {
        assert_eq!(outcomes(bytes), (ours, theirs), "{bytes:02x?}");
    }
    let Ok((Value::OctetString(read), [])) = axdr::parse(&long_form) else { panic!("128 bytes") };
    assert_eq!(read, [7; 0x80]);
    let Read::Value(Theirs::OctetString(read), 0) = their_value(&long_form) else { panic!("129 bytes") };
    assert_eq!(read.len(), 0x81, "the first byte of the length is taken for all of it");
}

#[test]
fn the_apdus_on_which_the_two_differ_are_those_of_the_document() {
    let mut untimed = Vec::new();
    DataNotificationRepr { invoke_id: LongInvokeId(1), date_time: None }.emit(&[0], &mut untimed);
    assert!(apdu::parse(&untimed).is_ok());
    assert_eq!(word(&their_apdu(&untimed)), "refused", "they have no push without a time");

    let exception = [0xd8, 1, 1];
    assert!(matches!(apdu::parse(&exception), Ok(Apdu::ExceptionResponse(_))));
    assert_eq!(word(&their_apdu(&exception)), "panicked", "any other apdu ends the process");

    let short = [&[0xdb, 8][..], &TITLE, &[4, 0x30, 0, 0, 0]].concat();
    assert!(apdu::parse(&short).is_err());
    assert_ne!(word(&their_apdu(&short)), "read", "five is taken from a length of four");

    let plain = push(LongInvokeId(1), [0; 12], &[0x09, 1, 7]);
    let mut sealed = Vec::new();
    let (keys, control) = (Keys::new(GUEK, GAK), SecurityControl::AUTHENTICATED_ENCRYPTED);
    seal(&RustCrypto, control, &TITLE, 1, &keys, &plain, &mut sealed);
    assert_ne!(word(&their_opened(&sealed)), "read", "a tag is taken for content");
    let cut = sealed.len() - 12;
    sealed.truncate(cut);
    sealed[10] -= 12;
    assert_eq!(
        word(&their_opened(&sealed)),
        "read",
        "and without one they read what is called authenticated"
    );
}
