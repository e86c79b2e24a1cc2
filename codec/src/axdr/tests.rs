use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

/// What a value is, owned, so that it can be written and compared.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Null,
    Array(Vec<Owned>),
    Structure(Vec<Owned>),
    Rows(Box<Type>, Vec<Owned>),
    Bool(bool),
    BitString(usize, Vec<u8>),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    Enum(u8),
    F32(u32),
    F64(u64),
    OctetString(Vec<u8>),
    VisibleString(Vec<u8>),
    Utf8String(Vec<u8>),
    Bcd(u8),
    DateTime(DateTime),
    Date([u8; 5]),
    Time([u8; 4]),
    DeltaI8(i8),
    DeltaI16(i16),
    DeltaI32(i32),
    DeltaU8(u8),
    DeltaU16(u16),
    DeltaU32(u32),
    DontCare,
}

/// The type description of a compact array.
#[derive(Clone, Debug, PartialEq)]
enum Type {
    Scalar(Owned),
    Array(u16, Box<Type>),
    Structure(Vec<Type>),
}

impl Owned {
    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Null => writer.null(),
            Self::Array(elements) => {
                writer.array(elements.len());
                elements.iter().for_each(|element| element.write(writer));
                writer
            }
            Self::Structure(elements) => {
                writer.structure(elements.len());
                elements.iter().for_each(|element| element.write(writer));
                writer
            }
            Self::Rows(of, rows) => {
                let (mut types, mut contents) = (vec![], vec![]);
                of.write(&mut types);
                rows.iter().for_each(|row| row.write_untagged(&mut contents));
                writer.compact_array(&types, &contents)
            }
            Self::Bool(value) => writer.bool(*value),
            Self::BitString(bits, bytes) => writer.bit_string(*bits, bytes),
            Self::I8(value) => writer.i8(*value),
            Self::I16(value) => writer.i16(*value),
            Self::I32(value) => writer.i32(*value),
            Self::I64(value) => writer.i64(*value),
            Self::U8(value) => writer.u8(*value),
            Self::U16(value) => writer.u16(*value),
            Self::U32(value) => writer.u32(*value),
            Self::U64(value) => writer.u64(*value),
            Self::Enum(value) => writer.enum_(*value),
            Self::F32(bits) => writer.f32_bits(*bits),
            Self::F64(bits) => writer.f64_bits(*bits),
            Self::OctetString(bytes) => writer.octet_string(bytes),
            Self::VisibleString(bytes) => writer.visible_string(bytes),
            Self::Utf8String(bytes) => writer.utf8_string(bytes),
            Self::Bcd(value) => writer.bcd(*value),
            Self::DateTime(time) => writer.date_time(*time),
            Self::Date(date) => writer.date(*date),
            Self::Time(time) => writer.time(*time),
            Self::DeltaI8(value) => writer.delta_i8(*value),
            Self::DeltaI16(value) => writer.delta_i16(*value),
            Self::DeltaI32(value) => writer.delta_i32(*value),
            Self::DeltaU8(value) => writer.delta_u8(*value),
            Self::DeltaU16(value) => writer.delta_u16(*value),
            Self::DeltaU32(value) => writer.delta_u32(*value),
            Self::DontCare => writer.dont_care(),
        };
    }

    /// As in the contents of a compact array: containers are their elements, scalars their bodies.
    fn write_untagged(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(elements) | Self::Structure(elements) => {
                elements.iter().for_each(|element| element.write_untagged(out));
            }
            scalar => out.extend_from_slice(&scalar.encode()[1..]),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        self.write(&mut Writer::new(&mut out));
        out
    }

    /// Whether `value` says the same.
    fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Array(owned), Value::Array(read))
            | (Self::Structure(owned), Value::Structure(read))
            | (Self::Rows(_, owned), Value::CompactArray(read)) => {
                owned.len() == read.len()
                    && read.is_empty() == owned.is_empty()
                    && read.iter().count() == owned.len()
                    && owned.iter().zip(read).all(|(owned, read)| owned.is(read))
            }
            (Self::BitString(bits, bytes), Value::BitString(read)) => {
                let bit = |index: usize| bytes[index / 8] & (0x80 >> (index % 8)) != 0;
                read.bits() == *bits
                    && read.bytes() == &bytes[..bits.div_ceil(8)]
                    && (0..*bits).all(|index| read.bit(index) == Some(bit(index)))
                    && read.bit(*bits).is_none()
            }
            (Self::OctetString(bytes), Value::OctetString(read))
            | (Self::VisibleString(bytes), Value::VisibleString(read))
            | (Self::Utf8String(bytes), Value::Utf8String(read)) => bytes == read,
            (owned, read) => owned.scalar() == Some(read),
        }
    }

    fn scalar(&self) -> Option<Value<'static>> {
        Some(match *self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::I8(value) => Value::I8(value),
            Self::I16(value) => Value::I16(value),
            Self::I32(value) => Value::I32(value),
            Self::I64(value) => Value::I64(value),
            Self::U8(value) => Value::U8(value),
            Self::U16(value) => Value::U16(value),
            Self::U32(value) => Value::U32(value),
            Self::U64(value) => Value::U64(value),
            Self::Enum(value) => Value::Enum(value),
            Self::F32(bits) => Value::F32(bits),
            Self::F64(bits) => Value::F64(bits),
            Self::Bcd(value) => Value::Bcd(value),
            Self::DateTime(time) => Value::DateTime(time),
            Self::Date(date) => Value::Date(date),
            Self::Time(time) => Value::Time(time),
            Self::DeltaI8(value) => Value::Delta(value.into()),
            Self::DeltaI16(value) => Value::Delta(value.into()),
            Self::DeltaI32(value) => Value::Delta(value.into()),
            Self::DeltaU8(value) => Value::Delta(value.into()),
            Self::DeltaU16(value) => Value::Delta(value.into()),
            Self::DeltaU32(value) => Value::Delta(value.into()),
            Self::DontCare => Value::DontCare,
            _ => return None,
        })
    }
}

impl Type {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(sample) => out.push(sample.encode()[0]),
            Self::Array(count, element) => {
                out.push(tag::ARRAY);
                out.extend_from_slice(&count.to_be_bytes());
                element.write(out);
            }
            Self::Structure(fields) => {
                out.extend_from_slice(&[tag::STRUCTURE, fields.len() as u8]);
                fields.iter().for_each(|field| field.write(out));
            }
        }
    }

    /// A value of this type.
    fn sample(&self) -> Owned {
        match self {
            Self::Scalar(sample) => sample.clone(),
            Self::Array(count, element) => Owned::Array(vec![element.sample(); usize::from(*count)]),
            Self::Structure(fields) => Owned::Structure(fields.iter().map(Self::sample).collect()),
        }
    }
}

/// One value of each scalar type, the strings in more than one length.
fn scalars() -> Vec<Owned> {
    vec![
        Owned::Null,
        Owned::Bool(true),
        Owned::Bool(false),
        Owned::BitString(0, vec![]),
        Owned::BitString(9, vec![0b1010_0000, 0x80]),
        Owned::BitString(128, vec![0x81; 16]),
        Owned::I8(-2),
        Owned::I16(-300),
        Owned::I32(-70_000),
        Owned::I64(i64::MIN),
        Owned::U8(200),
        Owned::U16(60_000),
        Owned::U32(4_000_000_000),
        Owned::U64(u64::MAX),
        Owned::Enum(30),
        Owned::F32(0x4453_f652),
        Owned::F64(0x7ff8_0000_0000_0001),
        Owned::OctetString(vec![]),
        Owned::OctetString(vec![7; 127]),
        Owned::OctetString(vec![7; 128]),
        Owned::OctetString(vec![7; 300]),
        Owned::VisibleString(b"HXH6500005".to_vec()),
        Owned::Utf8String("ऊर्जा".into()),
        Owned::Bcd(0x42),
        Owned::DateTime(DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, 330, 0)),
        Owned::Date([7, 0xea, 6, 1, 1]),
        Owned::Time([0, 30, 0, 0]),
        Owned::DeltaI8(-1),
        Owned::DeltaI16(-300),
        Owned::DeltaI32(-70_000),
        Owned::DeltaU8(200),
        Owned::DeltaU16(60_000),
        Owned::DeltaU32(4_000_000_000),
        Owned::DontCare,
    ]
}

fn rows() -> Owned {
    let row = Type::Structure(vec![
        Type::Scalar(Owned::U16(7)),
        Type::Array(
            2,
            Box::new(Type::Structure(vec![
                Type::Scalar(Owned::OctetString(vec![1, 2, 3])),
                Type::Scalar(Owned::Null),
            ])),
        ),
        Type::Array(0, Box::new(Type::Structure(vec![Type::Scalar(Owned::U64(1))]))),
        Type::Structure(vec![]),
        Type::Scalar(Owned::BitString(9, vec![0xff, 0x80])),
    ]);
    let sample = row.sample();
    Owned::Rows(Box::new(row), vec![sample; 3])
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind, offset: usize) {
    assert_eq!(check(bytes), Err(Error::new(kind, offset)), "{bytes:02x?}");
    assert!(parse(bytes).is_err());
}

#[test]
fn every_type_reads_back_and_every_truncation_of_it_is_refused() {
    let mut values = scalars();
    values.push(Owned::Array(scalars()));
    values.push(Owned::Structure(vec![Owned::Structure(scalars()), Owned::Array(vec![])]));
    values.push(rows());
    values.push(Owned::Structure(vec![Owned::U8(1), rows(), Owned::Array(vec![rows()])]));
    for owned in values {
        let mut bytes = owned.encode();
        for cut in 0..bytes.len() {
            let error = check(&bytes[..cut]).unwrap_err();
            assert!(
                matches!(error.kind, ErrorKind::Truncated | ErrorKind::CountTooLarge(_)),
                "{owned:?} cut at {cut}: {error}"
            );
            assert!(error.offset <= cut);
        }
        assert_eq!(check(&bytes), Ok(bytes.len()), "{owned:?}");
        bytes.extend_from_slice(&[0xa5, 0xa5]);
        let (value, rest) = parse(&bytes).unwrap();
        assert!(owned.is(value), "{owned:?} read as {value:?}");
        assert_eq!(rest, [0xa5, 0xa5]);
    }
}

#[test]
fn a_short_integer_is_taken_as_its_value_says_and_nothing_else_is_passed() {
    let all = Owned::Structure(scalars()).encode();
    let (Value::Structure(elements), _) = parse(&all).unwrap() else { panic!("a structure") };
    let mut ahead = elements.iter();
    for value in elements {
        let expected = match value {
            Value::I8(number) => Some(i64::from(number)),
            Value::I16(number) => Some(i64::from(number)),
            Value::I32(number) => Some(i64::from(number)),
            Value::U8(number) | Value::Enum(number) => Some(i64::from(number)),
            Value::U16(number) => Some(i64::from(number)),
            Value::U32(number) => Some(i64::from(number)),
            _ => None,
        };
        assert_eq!(ahead.next_short(), expected, "{value:?}");
        if expected.is_none() {
            assert_eq!(ahead.next(), Some(value));
        }
    }
    assert_eq!((ahead.next_short(), ahead.next()), (None, None));
}

#[test]
fn every_tag_without_a_type_is_refused_by_name() {
    let known: Vec<u8> = scalars().iter().map(|scalar| scalar.encode()[0]).collect();
    let containers = [tag::ARRAY, tag::STRUCTURE, tag::COMPACT_ARRAY];
    for unknown in (0..=0xff).filter(|tag| !known.contains(tag) && !containers.contains(tag)) {
        refused(&[unknown, 0, 0, 0, 0], ErrorKind::UnknownTag(unknown), 0);
        refused(&[2, 2, 0, unknown, 0], ErrorKind::UnknownTag(unknown), 3);
        let compact = [tag::COMPACT_ARRAY, unknown, 0];
        refused(&compact, ErrorKind::TypeDescription(unknown), 1);
    }
    let nested = [tag::COMPACT_ARRAY, 2, 1, tag::COMPACT_ARRAY, 0x11, 0];
    refused(&nested, ErrorKind::TypeDescription(tag::COMPACT_ARRAY), 3);
}

#[test]
fn any_byte_but_zero_is_true() {
    for byte in 0..=0xff {
        assert_eq!(parse(&[3, byte]).unwrap().0, Value::Bool(byte != 0));
    }
}

#[test]
fn a_bit_string_counts_bits_in_the_long_form_too() {
    let mut bytes = vec![0x04, 0x81, 0x80];
    bytes.extend_from_slice(&[0x08, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0]);
    let (Value::BitString(bits), []) = parse(&bytes).unwrap() else {
        panic!("not a bit-string");
    };
    let set: Vec<usize> = (0..200).filter(|&index| bits.bit(index) == Some(true)).collect();
    assert_eq!((bits.bits(), set), (128, vec![4, 11, 81]));
}

#[test]
fn a_string_longer_than_the_bytes_is_refused() {
    for tag in [tag::OCTET_STRING, tag::VISIBLE_STRING, tag::UTF8_STRING] {
        refused(&[tag, 3, 1, 2], ErrorKind::Truncated, 2);
        refused(&[tag, 0x84, 0xff, 0xff, 0xff, 0xff, 1], ErrorKind::Truncated, 6);
        refused(&[tag, 0x80], ErrorKind::LengthForm(0x80), 1);
        refused(&[tag, 0x88, 0, 0, 0, 0, 0, 0, 0, 1, 1], ErrorKind::LengthForm(0x88), 1);
    }
    refused(&[tag::BIT_STRING, 9, 0xff], ErrorKind::Truncated, 2);
    refused(&[tag::BIT_STRING, 0x84, 0xff, 0xff, 0xff, 0xff, 1], ErrorKind::Truncated, 6);
}

#[test]
fn a_count_larger_than_the_bytes_left_is_refused_at_the_container() {
    refused(&[1, 3, 0, 0], ErrorKind::CountTooLarge(3), 0);
    refused(&[2, 0x82, 0xff, 0xff, 0, 0], ErrorKind::CountTooLarge(65_535), 0);
    refused(&[1, 0x84, 0xff, 0xff, 0xff, 0xff], ErrorKind::CountTooLarge(u32::MAX as usize), 0);
    refused(&[2, 2, 0, 1, 9, 0], ErrorKind::CountTooLarge(9), 3);
    refused(&[tag::COMPACT_ARRAY, 2, 9, 0x11, 0], ErrorKind::CountTooLarge(9), 1);
}

#[test]
fn nesting_is_read_up_to_the_limit_and_refused_beyond() {
    for container in [tag::ARRAY, tag::STRUCTURE] {
        let nest = |depth: usize| {
            let mut bytes = [container, 1].repeat(depth);
            bytes.push(tag::NULL);
            bytes
        };
        assert_eq!(check(&nest(MAX_DEPTH)), Ok(2 * MAX_DEPTH + 1));
        assert_eq!(walk(parse(&nest(MAX_DEPTH)).unwrap().0), MAX_DEPTH + 1);
        refused(&nest(MAX_DEPTH + 1), ErrorKind::TooDeep, 2 * MAX_DEPTH);
        refused(&nest(30_000), ErrorKind::TooDeep, 2 * MAX_DEPTH);
    }
}

#[test]
fn a_type_description_nests_no_deeper_than_tagged_data() {
    let nest = |outer: usize, inner: usize| {
        let mut bytes = [tag::STRUCTURE, 1].repeat(outer);
        bytes.push(tag::COMPACT_ARRAY);
        bytes.extend([tag::ARRAY, 0, 1].repeat(inner));
        bytes.extend_from_slice(&[tag::U8, 1, 0xa5]);
        bytes
    };
    assert!(check(&nest(0, MAX_DEPTH - 1)).is_ok());
    assert!(check(&nest(MAX_DEPTH - 1, 0)).is_ok());
    assert!(check(&nest(7, MAX_DEPTH - 8)).is_ok());
    refused(&nest(0, MAX_DEPTH), ErrorKind::TooDeep, 1 + 3 * (MAX_DEPTH - 1));
    refused(&nest(7, MAX_DEPTH - 7), ErrorKind::TooDeep, 14 + 1 + 3 * (MAX_DEPTH - 8));
    refused(&nest(MAX_DEPTH, 0), ErrorKind::TooDeep, 2 * MAX_DEPTH);
    refused(&nest(0, 20_000), ErrorKind::TooDeep, 1 + 3 * (MAX_DEPTH - 1));
}

#[test]
fn a_compact_array_ends_with_its_contents() {
    let types = [tag::STRUCTURE, 2, tag::U8, tag::U16];
    let encode = |contents: &[u8]| {
        let mut out = vec![];
        Writer::new(&mut out).compact_array(&types, contents);
        out
    };
    let bytes = encode(&[1, 0, 2, 3, 0, 4]);
    let (Value::CompactArray(rows), []) = parse(&bytes).unwrap() else {
        panic!("not a compact array");
    };
    let rows: Vec<Vec<Value<'_>>> = rows
        .iter()
        .map(|row| match row {
            Value::Structure(fields) => fields.iter().collect(),
            other => vec![other],
        })
        .collect();
    let expected = [[Value::U8(1), Value::U16(2)], [Value::U8(3), Value::U16(4)]];
    assert_eq!(rows, expected);
    refused(&encode(&[1, 0, 2, 3]), ErrorKind::Truncated, 10);
    assert_eq!(check(&encode(&[])), Ok(6));
}

#[test]
fn a_compact_array_cannot_blow_up() {
    let blow_up = |types: &[u8], contents: usize| {
        let mut out = vec![];
        Writer::new(&mut out).compact_array(types, &vec![0; contents]);
        check(&out).unwrap_err().kind
    };
    assert_eq!(blow_up(&[tag::NULL], 1), ErrorKind::EmptyRows);
    assert_eq!(blow_up(&[tag::ARRAY, 0, 0, tag::U8], 1), ErrorKind::EmptyRows);
    let nulls = [tag::STRUCTURE, 2, tag::ARRAY, 0xff, 0xff, tag::NULL, tag::U8];
    assert_eq!(blow_up(&nulls, 1000), ErrorKind::TooManyElements);
    let squared = [1, 0xff, 0xff, 1, 0xff, 0xff, 1, 0xff, 0xff, 1, 0xff, 0xff, tag::NULL];
    assert_eq!(blow_up(&squared, 1), ErrorKind::TooManyElements);
    let mut skipped = vec![tag::STRUCTURE, 3, tag::U8, tag::ARRAY, 0, 0, tag::STRUCTURE, 0x82, 0x75, 0x30];
    skipped.extend([tag::NULL; 30_000]);
    skipped.push(tag::U8);
    assert_eq!(blow_up(&skipped, 1000), ErrorKind::TooManyElements);
}

#[test]
fn a_compact_array_has_at_most_four_elements_for_each_of_its_bytes() {
    let rows = |nulls: u8, rows: usize| {
        let mut out = vec![];
        Writer::new(&mut out)
            .compact_array(&[tag::STRUCTURE, 2, tag::ARRAY, 0, nulls, tag::NULL, tag::U8], &vec![7; rows]);
        out
    };
    // A row is a structure, an array, its null and a number, in one byte.
    let bytes = rows(1, 100);
    assert_eq!(check(&bytes), Ok(bytes.len()));
    let (value, _) = parse(&bytes).unwrap();
    assert!(walk(value) > 3 * bytes.len() && walk(value) <= ELEMENTS_PER_BYTE * bytes.len());
    assert_eq!(check(&rows(2, 100)).unwrap_err().kind, ErrorKind::TooManyElements);
}

#[test]
fn more_elements_than_a_frame_can_hold_are_refused() {
    let array = |count: u32| {
        let mut bytes = vec![tag::ARRAY, 0x84];
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.resize(6 + count as usize, tag::NULL);
        bytes
    };
    assert!(check(&array(MAX_ELEMENTS as u32 - 1)).is_ok());
    let error = check(&array(MAX_ELEMENTS as u32)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooManyElements);
}

#[test]
fn a_time_is_found_in_an_octet_string_and_in_its_own_type() {
    let time = DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, 330, 0);
    let mut bytes = vec![];
    Writer::new(&mut bytes).structure(3).octet_string(&time.0).date_time(time).octet_string(&[1]);
    let (Value::Structure(elements), []) = parse(&bytes).unwrap() else {
        panic!("not a structure");
    };
    let times: Vec<_> = elements.iter().map(|value| value.date_time()).collect();
    assert_eq!(times, [Some(time), Some(time), None]);
}

#[test]
fn emission_writes_every_byte_and_keeps_what_was_there() {
    for owned in scalars().into_iter().chain([rows(), Owned::Array(scalars())]) {
        let mut out = vec![0xa5; 2000];
        out.truncate(3);
        owned.write(&mut Writer::new(&mut out));
        assert_eq!(&out[..3], [0xa5; 3]);
        assert_eq!(&out[3..], owned.encode());
    }
    let mut short = vec![];
    Writer::new(&mut short).bit_string(17, &[0xff]);
    assert_eq!(short, [tag::BIT_STRING, 17, 0xff, 0, 0], "missing bytes are zeros");
}

fn any_scalar() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        Just(Owned::Null),
        Just(Owned::DontCare),
        any::<bool>().prop_map(Owned::Bool),
        bytes().prop_map(|bytes| Owned::BitString(bytes.len() * 8, bytes)),
        any::<i8>().prop_map(Owned::I8),
        any::<i16>().prop_map(Owned::I16),
        any::<i32>().prop_map(Owned::I32),
        any::<i64>().prop_map(Owned::I64),
        any::<u8>().prop_map(Owned::U8),
        any::<u16>().prop_map(Owned::U16),
        any::<u32>().prop_map(Owned::U32),
        any::<u64>().prop_map(Owned::U64),
        any::<u32>().prop_map(Owned::F32),
        any::<u64>().prop_map(Owned::F64),
        bytes().prop_map(Owned::OctetString),
        bytes().prop_map(Owned::VisibleString),
        any::<[u8; 12]>().prop_map(|bytes| Owned::DateTime(DateTime(bytes))),
        any::<i16>().prop_map(Owned::DeltaI16),
        any::<u32>().prop_map(Owned::DeltaU32),
    ]
}

fn any_rows() -> impl Strategy<Value = Owned> {
    let types = any_scalar().prop_map(Type::Scalar).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            (0_u16..4, inner.clone()).prop_map(|(count, of)| Type::Array(count, Box::new(of))),
            prop::collection::vec(inner, 0..4).prop_map(Type::Structure),
        ]
    });
    (types, 0_usize..5).prop_map(|(of, count)| {
        let row = Type::Structure(vec![Type::Scalar(Owned::U8(1)), of]);
        let sample = row.sample();
        Owned::Rows(Box::new(row), vec![sample; count])
    })
}

fn any_owned() -> impl Strategy<Value = Owned> {
    prop_oneof![4 => any_scalar(), 1 => any_rows()].prop_recursive(6, 60, 12, |inner| {
        let elements = prop::collection::vec(inner, 0..12);
        prop_oneof![elements.clone().prop_map(Owned::Array), elements.prop_map(Owned::Structure),]
    })
}

/// Visits everything below `value`.
fn walk(value: Value<'_>) -> usize {
    match value {
        Value::Array(elements) | Value::Structure(elements) | Value::CompactArray(elements) => {
            let mut iter = elements.iter();
            let count = 1 + iter.by_ref().map(walk).sum::<usize>();
            assert_eq!((iter.len(), iter.next()), (0, None));
            count
        }
        Value::BitString(bits) => usize::from(bits.bit(bits.bits()).is_none()),
        _ => 1,
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(owned in any_owned()) {
        let bytes = owned.encode();
        prop_assert_eq!(check(&bytes), Ok(bytes.len()));
        let (value, rest) = parse(&bytes).unwrap();
        prop_assert!(owned.is(value));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((value, rest)) = parse(&bytes) {
            prop_assert!(walk(value) <= (bytes.len() - rest.len()) * ELEMENTS_PER_BYTE);
        }
    }

    #[test]
    fn mutated_values_never_panic(owned in any_owned(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = owned.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((value, rest)) = parse(&bytes) {
            prop_assert_eq!(check(&bytes), Ok(bytes.len() - rest.len()));
            prop_assert!(walk(value) <= (bytes.len() - rest.len()) * ELEMENTS_PER_BYTE);
        }
    }
}
