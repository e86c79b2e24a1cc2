//! What goes on over several APDUs: a value that is too long for one, in either direction.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::{MAX_LONG_VALUE, MAX_REFERENCES};
use crate::apdu::{
    AttributeDescriptor, DataBlock, List, MethodDescriptor, SelectedAttribute, SelectiveAccess,
};
use crate::axdr::Data;

/// Bytes of a block's head: tag, kind, invoke id, last, number, choice and length.
pub(super) const BLOCK_HEAD: usize = 13;

/// The long value that is under way; another request for a long value ends it.
#[derive(Default)]
pub(super) enum Transfer {
    /// None.
    #[default]
    None,
    /// An answer to a get goes out.
    Get(Outgoing),
    /// Parameters of a set come in.
    Set(Incoming<OwnedAttribute>),
    /// Parameters of an action come in.
    ActionIn(Incoming<MethodDescriptor>),
    /// An answer to an action goes out.
    ActionOut(Outgoing),
}

/// Without the value.
impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Get(_) => "Get(..)",
            Self::Set(_) => "Set(..)",
            Self::ActionIn(_) => "ActionIn(..)",
            Self::ActionOut(_) => "ActionOut(..)",
        })
    }
}

/// An encoded answer and how far it went. It stays when it is through: its last block may have to be sent again.
pub(super) struct Outgoing {
    data: Zeroizing<Vec<u8>>,
    /// Where the last block begins and ends.
    begun: usize,
    sent: usize,
    number: u32,
}

impl Outgoing {
    pub(super) fn new(data: Vec<u8>) -> Self {
        Self { data: Zeroizing::new(data), begun: 0, sent: 0, number: 0 }
    }

    /// Whether all of it went out.
    pub(super) fn is_done(&self) -> bool {
        self.number > 0 && self.sent == self.data.len()
    }

    /// The block behind that number, of so many bytes at most: the next one, or the last one again where it was lost on
    /// the way and is asked for again.
    pub(super) fn behind(&mut self, number: u32, room: usize) -> Option<DataBlock<'_>> {
        if number == self.number && !self.is_done() {
            self.begun = self.sent;
            self.sent = self.data.len().min(self.sent.saturating_add(room.max(1)));
            self.number = self.number.wrapping_add(1);
        } else if self.number == 0 || number != self.number - 1 {
            return None;
        }
        let raw = self.data.get(self.begun..self.sent).unwrap_or_default();
        Some(DataBlock { last: self.is_done(), number: self.number, raw })
    }
}

/// An attribute with its selection, kept until the value is there.
pub(super) struct OwnedAttribute {
    attribute: AttributeDescriptor,
    access: Option<(u8, Vec<u8>)>,
}

impl OwnedAttribute {
    pub(super) fn new(attribute: &SelectedAttribute<'_>) -> Self {
        let access = attribute.access.map(|access| (access.selector, access.parameters.bytes().to_vec()));
        Self { attribute: attribute.attribute, access }
    }

    pub(super) fn borrowed(&self) -> SelectedAttribute<'_> {
        SelectedAttribute {
            attribute: self.attribute,
            access: self.access.as_ref().map(|(selector, parameters)| SelectiveAccess {
                selector: *selector,
                parameters: Data::checked(parameters),
            }),
        }
    }
}

/// Values that come in blocks, and what they are for.
pub(super) struct Incoming<T> {
    /// What the values are for, in order.
    pub(super) targets: Vec<T>,
    /// Whether they were asked for as a list.
    pub(super) list: bool,
    /// The encoded values, as far as they came. One of them may be a password.
    pub(super) data: Zeroizing<Vec<u8>>,
    number: u32,
}

/// What a block made of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// More is to come.
    More,
    /// All of it is there.
    Whole,
    /// Not the next block.
    WrongNumber,
    /// More than is taken.
    TooLong,
}

impl<T> Incoming<T> {
    pub(super) fn new(targets: Vec<T>, list: bool) -> Self {
        Self { targets, list, data: Zeroizing::default(), number: 0 }
    }

    pub(super) fn take(&mut self, block: &DataBlock<'_>) -> Taken {
        if block.number != self.number.wrapping_add(1) {
            return Taken::WrongNumber;
        }
        if self.data.len() + block.raw.len() > MAX_LONG_VALUE {
            return Taken::TooLong;
        }
        self.number = block.number;
        self.data.extend_from_slice(block.raw);
        if block.last { Taken::Whole } else { Taken::More }
    }
}

/// The elements of a list that is not longer than any may be.
pub(super) fn bounded<'a, T, U>(list: &List<'a, T>, keep: impl Fn(T) -> U) -> Option<Vec<U>>
where
    List<'a, T>: Copy + IntoIterator<Item = T>,
{
    (list.len() <= MAX_REFERENCES).then(|| list.into_iter().map(keep).collect())
}
