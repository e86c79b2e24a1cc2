//! Who is asked for what: invoke ids, attributes and methods.

use alloc::vec::Vec;
use core::fmt;

use super::SelectiveAccess;
use super::field::{Field, Reader};
use crate::cosem::{ClassId, LogicalName};
use crate::error::Error;

/// The invoke-id-and-priority of a request, echoed by its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvokeId(pub u8);

impl InvokeId {
    const CONFIRMED: u8 = 1 << 6;
    const HIGH_PRIORITY: u8 = 1 << 7;
    const ID: u8 = 0x0f;

    /// An id (its low 4 bits count) with its two flags.
    #[must_use]
    pub const fn new(id: u8, confirmed: bool, high_priority: bool) -> Self {
        let mut raw = id & Self::ID;
        if confirmed {
            raw |= Self::CONFIRMED;
        }
        if high_priority {
            raw |= Self::HIGH_PRIORITY;
        }
        Self(raw)
    }

    /// The 4 bits that identify the invocation.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.0 & Self::ID
    }

    /// The client waits for a response.
    #[must_use]
    pub const fn confirmed(&self) -> bool {
        self.0 & Self::CONFIRMED != 0
    }

    /// The client asks for high priority.
    #[must_use]
    pub const fn high_priority(&self) -> bool {
        self.0 & Self::HIGH_PRIORITY != 0
    }
}

impl fmt::Display for InvokeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())?;
        if self.confirmed() {
            write!(f, " confirmed")?;
        }
        if self.high_priority() {
            write!(f, " high priority")?;
        }
        Ok(())
    }
}

impl Field<'_> for InvokeId {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.field().map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// Names one attribute of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeDescriptor {
    /// Class of the object.
    pub class: ClassId,
    /// Which object.
    pub instance: LogicalName,
    /// Which attribute; 1 is the logical name itself, 0 all attributes.
    pub attribute: i8,
}

impl fmt::Display for AttributeDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {} {} attribute {}", self.class, self.instance, self.attribute)
    }
}

impl Field<'_> for AttributeDescriptor {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (class, instance, attribute) = (reader.field()?, reader.field()?, reader.field()?);
        Ok(Self { class, instance, attribute })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.class.write(out);
        self.instance.write(out);
        self.attribute.write(out);
    }
}

/// Names one method of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodDescriptor {
    /// Class of the object.
    pub class: ClassId,
    /// Which object.
    pub instance: LogicalName,
    /// Which method, from 1.
    pub method: i8,
}

impl fmt::Display for MethodDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {} {} method {}", self.class, self.instance, self.method)
    }
}

impl Field<'_> for MethodDescriptor {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (class, instance, method) = (reader.field()?, reader.field()?, reader.field()?);
        Ok(Self { class, instance, method })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.class.write(out);
        self.instance.write(out);
        self.method.write(out);
    }
}

/// An attribute, or the part of it that a selective access names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedAttribute<'a> {
    /// Which attribute.
    pub attribute: AttributeDescriptor,
    /// Which part of it; nothing means the whole.
    pub access: Option<SelectiveAccess<'a>>,
}

impl SelectedAttribute<'_> {
    /// All of `attribute`.
    #[must_use]
    pub const fn whole(attribute: AttributeDescriptor) -> Self {
        Self { attribute, access: None }
    }
}

impl<'a> Field<'a> for SelectedAttribute<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (attribute, access) = (reader.field()?, reader.field()?);
        Ok(Self { attribute, access })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.attribute.write(out);
        self.access.write(out);
    }
}

/// A piece of an encoding that is too long for one APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataBlock<'a> {
    /// No piece follows.
    pub last: bool,
    /// Counts the pieces from 1.
    pub number: u32,
    /// The piece.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> for DataBlock<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (last, number, raw) = (reader.field()?, reader.field()?, reader.field()?);
        Ok(Self { last, number, raw })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.last.write(out);
        self.number.write(out);
        self.raw.write(out);
    }
}
