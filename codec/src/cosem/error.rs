//! What kept a value from being an attribute or a parameter, and which element of it.

use core::fmt;

use super::ClassId;
use crate::axdr::Value;

/// A value that is not what its attribute or method holds: what is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong.
    pub kind: ValueErrorKind,
    /// The attribute or method, and the element in it.
    pub place: Place,
}

/// The kinds of fault; each belongs to the sender of the value. Types are named as in [`type_name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueErrorKind {
    /// A value of another type.
    Type {
        /// What stands there by the class.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A structure of another number of elements.
    Elements {
        /// So many by the class.
        expected: usize,
        /// So many were there.
        found: usize,
    },
    /// A string of another length.
    Length {
        /// Bytes, or bits of a bit-string, by the class.
        expected: usize,
        /// So many were there.
        found: usize,
    },
    /// An integer that does not fit the field.
    Range(&'static str),
    /// An object identifier outside of the arcs of DLMS.
    ObjectIdentifier,
    /// A delta with no integer before it in its column.
    DeltaOfNothing,
    /// A sum with a delta that leaves the type of the value before it.
    DeltaRange,
}

/// Elements named in a [`Place`]; deeper ones are not told apart.
pub const MAX_PATH: usize = 6;

/// Where in which attribute or method.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The interface class.
    pub class: ClassId,
    /// The attribute or method.
    pub member: Member,
    /// Its name.
    pub name: &'static str,
    path: [u16; MAX_PATH],
    depth: u8,
}

/// Which part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// An attribute by its number.
    Attribute(i8),
    /// A method by its number.
    Method(i8),
    /// The parameter of a selective access by its selector.
    Selector(u8),
}

impl Place {
    pub(super) const fn new(class: ClassId, member: Member, name: &'static str) -> Self {
        Self { class, member, name, path: [0; MAX_PATH], depth: 0 }
    }

    /// Indices from the outside to the element, each from 0; empty for the whole value.
    #[must_use]
    pub fn path(&self) -> &[u16] {
        self.path.get(..usize::from(self.depth)).unwrap_or_default()
    }

    /// The place of element `index` within this one.
    #[must_use]
    pub(super) fn element(mut self, index: usize) -> Self {
        if let Some(last) = self.path.get_mut(usize::from(self.depth)) {
            *last = u16::try_from(index).unwrap_or(u16::MAX);
            self.depth += 1;
        }
        self
    }
}

impl fmt::Display for Place {
    /// `class 7 attribute 3 capture_objects element 1.2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {} ", self.class.0)?;
        match self.member {
            Member::Attribute(number) => write!(f, "attribute {number} ")?,
            Member::Method(number) => write!(f, "method {number} ")?,
            Member::Selector(number) => write!(f, "selector {number} ")?,
        }
        f.write_str(self.name)?;
        for (depth, index) in self.path().iter().enumerate() {
            write!(f, "{}{index}", if depth == 0 { " element " } else { "." })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

impl fmt::Display for ValueErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Elements { expected, found } => write!(f, "expected {expected} elements, found {found}"),
            Self::Length { expected, found } => write!(f, "expected a length of {expected}, found {found}"),
            Self::Range(expected) => write!(f, "integer does not fit {expected}"),
            Self::ObjectIdentifier => write!(f, "object identifier is none of DLMS"),
            Self::DeltaOfNothing => write!(f, "delta without an integer before it"),
            Self::DeltaRange => write!(f, "sum with a delta leaves the type before it"),
        }
    }
}

impl core::error::Error for ValueError {}

/// The name of the type of `value`, as the standard calls it.
#[must_use]
pub const fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null-data",
        Value::Array(_) => "array",
        Value::Structure(_) => "structure",
        Value::Bool(_) => "boolean",
        Value::BitString(_) => "bit-string",
        Value::I8(_) => "integer",
        Value::I16(_) => "long",
        Value::I32(_) => "double-long",
        Value::I64(_) => "long64",
        Value::U8(_) => "unsigned",
        Value::U16(_) => "long-unsigned",
        Value::U32(_) => "double-long-unsigned",
        Value::U64(_) => "long64-unsigned",
        Value::Enum(_) => "enum",
        Value::F32(_) => "float32",
        Value::F64(_) => "float64",
        Value::OctetString(_) => "octet-string",
        Value::VisibleString(_) => "visible-string",
        Value::Utf8String(_) => "utf8-string",
        Value::Bcd(_) => "bcd",
        Value::DateTime(_) => "date-time",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::CompactArray(_) => "compact-array",
        Value::Delta(_) => "delta",
        Value::DontCare => "dont-care",
    }
}
