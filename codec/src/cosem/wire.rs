//! Values of a fixed shape, read out of A-XDR and written back by the same type.
//!
//! Reading is lenient where meters differ and nothing is lost by it: an integer of any width that holds the number
//! does for another, an unsigned for an enum, any kind of string for text, a time with its own tag for one in an
//! octet-string, a compact array for an array. Writing gives the type of the standard.

use alloc::vec::Vec;
use core::fmt;

use super::error::{Place, ValueError, ValueErrorKind, type_name};
use super::{ClassId, LogicalName};
use crate::axdr::{self, BitString, DateTime, Elements, Value, Writer};

/// A value of a fixed shape.
pub trait Wire<'a>: Copy {
    /// The value that stands at `field`.
    ///
    /// # Errors
    /// [`ValueError`] when it has another shape.
    fn read(field: Field<'a>) -> Result<Self, ValueError>;

    /// Appends the value.
    fn write(&self, writer: &mut Writer<'_>);
}

/// A value and its place, for the errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    value: Value<'a>,
    place: Place,
}

impl<'a> Field<'a> {
    pub(super) const fn new(value: Value<'a>, place: Place) -> Self {
        Self { value, place }
    }

    /// The value as it stands there.
    #[must_use]
    pub const fn value(&self) -> Value<'a> {
        self.value
    }

    /// The field of element `index` of this one.
    pub(super) fn element(&self, index: usize, value: Value<'a>) -> Self {
        Self::new(value, self.place.element(index))
    }

    pub(super) const fn error(&self, kind: ValueErrorKind) -> ValueError {
        ValueError { kind, place: self.place }
    }

    /// Another type than `expected` is there.
    pub(super) const fn mismatch(&self, expected: &'static str) -> ValueError {
        self.error(ValueErrorKind::Type { expected, found: type_name(&self.value) })
    }

    pub(super) const fn elements_error(&self, expected: usize, found: usize) -> ValueError {
        self.error(ValueErrorKind::Elements { expected, found })
    }

    /// The elements of a structure of any length.
    pub(super) fn structure(&self) -> Result<Elements<'a>, ValueError> {
        match self.value {
            Value::Structure(elements) => Ok(elements),
            _ => Err(self.mismatch("structure")),
        }
    }

    /// The elements of a structure of exactly `N`.
    pub(super) fn fields<const N: usize>(&self) -> Result<[Field<'a>; N], ValueError> {
        let elements = self.structure()?;
        if elements.len() != N {
            return Err(self.elements_error(N, elements.len()));
        }
        let mut fields = [Field::new(Value::Null, self.place); N];
        for (index, (field, value)) in fields.iter_mut().zip(elements).enumerate() {
            *field = Field::new(value, self.place.element(index));
        }
        Ok(fields)
    }

    /// The elements of an array of any kind.
    pub(super) fn array(&self) -> Result<Elements<'a>, ValueError> {
        match self.value {
            Value::Array(elements) | Value::CompactArray(elements) => Ok(elements),
            _ => Err(self.mismatch("array")),
        }
    }

    /// An integer of any width.
    fn integer(&self, expected: &'static str) -> Result<i128, ValueError> {
        integer(self.value).ok_or(self.mismatch(expected))
    }

    /// The bytes of an octet-string of exactly `N`.
    pub(super) fn octets<const N: usize>(&self) -> Result<[u8; N], ValueError> {
        let Value::OctetString(bytes) = self.value else { return Err(self.mismatch("octet-string")) };
        let wrong = ValueErrorKind::Length { expected: N, found: bytes.len() };
        bytes.try_into().map_err(|_| self.error(wrong))
    }
}

/// The integer in `value`, of whatever width; no enum and no bcd.
const fn integer(value: Value<'_>) -> Option<i128> {
    Some(match value {
        Value::I8(number) => number as i128,
        Value::I16(number) => number as i128,
        Value::I32(number) => number as i128,
        Value::I64(number) => number as i128,
        Value::U8(number) => number as i128,
        Value::U16(number) => number as i128,
        Value::U32(number) => number as i128,
        Value::U64(number) => number as i128,
        _ => return None,
    })
}

macro_rules! integers {
    ($($type:ident $name:literal,)*) => {$(
        impl<'a> Wire<'a> for $type {
            fn read(field: Field<'a>) -> Result<Self, ValueError> {
                let range = field.error(ValueErrorKind::Range($name));
                $type::try_from(field.integer($name)?).map_err(|_| range)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.$type(*self);
            }
        }
    )*};
}

integers! {
    i8 "integer",
    i16 "long",
    i32 "double-long",
    i64 "long64",
    u8 "unsigned",
    u16 "long-unsigned",
    u32 "double-long-unsigned",
    u64 "long64-unsigned",
}

impl<'a> Wire<'a> for bool {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::Bool(value) => Ok(value),
            _ => Err(field.mismatch("boolean")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bool(*self);
    }
}

impl<'a> Wire<'a> for ClassId {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        u16::read(field).map(ClassId)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

impl<'a> Wire<'a> for LogicalName {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        field.octets().map(LogicalName)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet_string(&self.0);
    }
}

/// An octet-string; the other strings are read as one.
impl<'a> Wire<'a> for &'a [u8] {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::OctetString(bytes) | Value::VisibleString(bytes) | Value::Utf8String(bytes) => Ok(bytes),
            _ => Err(field.mismatch("octet-string")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet_string(self);
    }
}

/// An octet-string that is a password, a secret or a key; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretOctets<'a>(pub &'a [u8]);

impl fmt::Debug for SecretOctets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretOctets(..)")
    }
}

impl<'a> Wire<'a> for SecretOctets<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        <&[u8]>::read(field).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

impl<'a> Wire<'a> for BitString<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::BitString(bits) => Ok(bits),
            _ => Err(field.mismatch("bit-string")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit_string(self.bits(), self.bytes());
    }
}

/// An octet-string of 12 bytes, as the classes have their times.
impl<'a> Wire<'a> for DateTime {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::DateTime(time) => Ok(time),
            _ => field.octets().map(DateTime),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet_string(&self.0);
    }
}

/// A date of five bytes (year in two, month, day, weekday), any of which may be a wildcard; in an octet-string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Date(pub [u8; 5]);

impl<'a> Wire<'a> for Date {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::Date(date) => Ok(Date(date)),
            _ => field.octets().map(Date),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet_string(&self.0);
    }
}

/// A time of day of four bytes (hour, minute, second, hundredths), any of which may be a wildcard; in an octet-string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time(pub [u8; 4]);

impl<'a> Wire<'a> for Time {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::Time(time) => Ok(Time(time)),
            _ => field.octets().map(Time),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet_string(&self.0);
    }
}

/// Null, or the value.
impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::Null => Ok(None),
            _ => T::read(field).map(Some),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Some(value) => value.write(writer),
            None => _ = writer.null(),
        }
    }
}

/// A value of any type. A compact array is written as an array, a delta in the narrowest type that holds it.
impl<'a> Wire<'a> for Value<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        Ok(field.value)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut open: Vec<axdr::Iter<'a>> = Vec::new();
        let mut next = Some(*self);
        loop {
            if let Some(inner) = next.and_then(|value| write_head(value, writer)) {
                open.push(inner.iter());
            }
            let Some(innermost) = open.last_mut() else { return };
            next = innermost.next();
            if next.is_none() {
                open.pop();
            }
        }
    }
}

/// Writes a scalar, or the head of a container and gives its elements.
fn write_head<'a>(value: Value<'a>, writer: &mut Writer<'_>) -> Option<Elements<'a>> {
    match value {
        Value::Array(elements) | Value::CompactArray(elements) => {
            writer.array(elements.len());
            return Some(elements);
        }
        Value::Structure(elements) => {
            writer.structure(elements.len());
            return Some(elements);
        }
        Value::Null => writer.null(),
        Value::Bool(value) => writer.bool(value),
        Value::BitString(bits) => writer.bit_string(bits.bits(), bits.bytes()),
        Value::I8(number) => writer.i8(number),
        Value::I16(number) => writer.i16(number),
        Value::I32(number) => writer.i32(number),
        Value::I64(number) => writer.i64(number),
        Value::U8(number) => writer.u8(number),
        Value::U16(number) => writer.u16(number),
        Value::U32(number) => writer.u32(number),
        Value::U64(number) => writer.u64(number),
        Value::Enum(code) => writer.enum_(code),
        Value::F32(bits) => writer.f32_bits(bits),
        Value::F64(bits) => writer.f64_bits(bits),
        Value::OctetString(bytes) => writer.octet_string(bytes),
        Value::VisibleString(bytes) => writer.visible_string(bytes),
        Value::Utf8String(bytes) => writer.utf8_string(bytes),
        Value::Bcd(digits) => writer.bcd(digits),
        Value::DateTime(time) => writer.date_time(time),
        Value::Date(date) => writer.date(date),
        Value::Time(time) => writer.time(time),
        Value::Delta(delta) => return write_delta(delta, writer),
        Value::DontCare => writer.dont_care(),
    };
    None
}

/// A delta on the wire is within i32 or u32; one that a caller made up outside of both is clamped.
fn write_delta<'a>(delta: i64, writer: &mut Writer<'_>) -> Option<Elements<'a>> {
    if let Ok(delta) = i8::try_from(delta) {
        writer.delta_i8(delta);
    } else if let Ok(delta) = i16::try_from(delta) {
        writer.delta_i16(delta);
    } else if let Ok(delta) = i32::try_from(delta) {
        writer.delta_i32(delta);
    } else if delta > 0 {
        writer.delta_u32(u32::try_from(delta).unwrap_or(u32::MAX));
    } else {
        writer.delta_i32(i32::MIN);
    }
    None
}

/// A number in the type that the meter gave it, for meters differ and take back only their own: thresholds are
/// floats in one make and integers in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(Value<'static>);

impl Number {
    /// `None` where `value` is no number. Booleans, enums and bcd are none.
    #[must_use]
    pub const fn of(value: &Value<'_>) -> Option<Self> {
        Some(Self(match *value {
            Value::I8(number) => Value::I8(number),
            Value::I16(number) => Value::I16(number),
            Value::I32(number) => Value::I32(number),
            Value::I64(number) => Value::I64(number),
            Value::U8(number) => Value::U8(number),
            Value::U16(number) => Value::U16(number),
            Value::U32(number) => Value::U32(number),
            Value::U64(number) => Value::U64(number),
            Value::F32(bits) => Value::F32(bits),
            Value::F64(bits) => Value::F64(bits),
            _ => return None,
        }))
    }

    /// The value as on the wire.
    #[must_use]
    pub const fn value(&self) -> Value<'static> {
        self.0
    }

    /// The integer, where it is one.
    #[must_use]
    pub const fn integer(&self) -> Option<i128> {
        integer(self.0)
    }

    /// `number` in the type of this one: how a value is set that was read before. `None` where it does not fit, and
    /// for floats, which are not made here.
    #[must_use]
    pub fn with_integer(&self, number: i128) -> Option<Self> {
        Some(Self(match self.0 {
            Value::I8(_) => Value::I8(number.try_into().ok()?),
            Value::I16(_) => Value::I16(number.try_into().ok()?),
            Value::I32(_) => Value::I32(number.try_into().ok()?),
            Value::I64(_) => Value::I64(number.try_into().ok()?),
            Value::U8(_) => Value::U8(number.try_into().ok()?),
            Value::U16(_) => Value::U16(number.try_into().ok()?),
            Value::U32(_) => Value::U32(number.try_into().ok()?),
            Value::U64(_) => Value::U64(number.try_into().ok()?),
            _ => return None,
        }))
    }
}

impl<'a> Wire<'a> for Number {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        Number::of(&field.value).ok_or(field.mismatch("number"))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

/// The parameter of a method that needs none: integer 0 on the wire. Read from null or any integer as well, for
/// neither says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoData;

impl<'a> Wire<'a> for NoData {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value {
            Value::Null => Ok(NoData),
            _ => field.integer("integer").map(|_| NoData),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.i8(0);
    }
}

/// An array of values of one shape: in the bytes received, or in a slice to be sent. Every element was proven when
/// the list was read, so that iterating gives values, not results.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Source<'a, T>);

#[derive(Clone, Copy)]
enum Source<'a, T> {
    Wire(Elements<'a>, Place),
    Slice(&'a [T]),
}

impl<'a, T: Wire<'a>> List<'a, T> {
    /// The list of what `items` holds.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self(Source::Slice(items))
    }

    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Wire(elements, _) => elements.len(),
            Source::Slice(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in order.
    #[must_use]
    pub fn iter(&self) -> ListIter<'a, T> {
        match self.0 {
            Source::Wire(elements, place) => ListIter(Items::Wire(elements.iter(), place)),
            Source::Slice(items) => ListIter(Items::Slice(items.iter())),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for List<'a, T> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let elements = field.array()?;
        for (index, value) in elements.iter().enumerate() {
            T::read(Field::new(value, field.place.element(index)))?;
        }
        Ok(Self(Source::Wire(elements, field.place)))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.len());
        self.iter().for_each(|item| item.write(writer));
    }
}

/// Gives the elements of a [`List`] one after the other.
#[derive(Clone)]
pub struct ListIter<'a, T>(Items<'a, T>);

#[derive(Clone)]
enum Items<'a, T> {
    Wire(axdr::Iter<'a>, Place),
    Slice(core::slice::Iter<'a, T>),
}

impl<'a, T: Wire<'a>> Iterator for ListIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Items::Wire(values, place) => {
                let item = T::read(Field::new(values.next()?, *place));
                debug_assert!(item.is_ok(), "the list was proven when it was read");
                item.ok()
            }
            Items::Slice(items) => items.next().copied(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Items::Wire(values, _) => values.len(),
            Items::Slice(items) => items.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Wire<'a>> ExactSizeIterator for ListIter<'a, T> {}

impl<'a, T: Wire<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Wire<'a>> From<&'a [T]> for List<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self::new(items)
    }
}

/// Equal elements in the same order, wherever they stand.
impl<'a, T: Wire<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Wire<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Wire<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
