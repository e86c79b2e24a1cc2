//! What can be wrong with received bytes, and where.

use core::fmt;

/// A fault in received bytes: what it is and the byte it was found at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Offset of the offending byte from the start of the slice that was given.
    pub offset: usize,
}

/// The kinds of fault; each belongs to the sender of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end before what they announce.
    Truncated,
    /// Bytes are left over after a complete APDU.
    TrailingBytes,
    /// The number of a fragment is 0, or above the count that it announces.
    FragmentNumber(u8),
    /// The version field of the wrapper header is not 1.
    WrapperVersion(u16),
    /// The wrapper announces a longer APDU than the receiver allows.
    FrameTooLong(u16),
    /// The first byte of the APDU names a service that is not supported.
    UnsupportedApdu(u8),
    /// The service is known, but not this kind of it.
    UnknownChoice(u8),
    /// The byte before an optional field is neither 00 (absent) nor 01 (present).
    Presence(u8),
    /// A list has not one element for each of the list before it, but this many.
    ListMismatch(usize),
    /// A length field with no or with more than four length bytes.
    LengthForm(u8),
    /// A container declares more elements than bytes are left.
    CountTooLarge(usize),
    /// Containers are nested deeper than [`MAX_DEPTH`](crate::axdr::MAX_DEPTH).
    TooDeep,
    /// More elements than [`MAX_ELEMENTS`](crate::axdr::MAX_ELEMENTS), or than
    /// [`ELEMENTS_PER_BYTE`](crate::axdr::ELEMENTS_PER_BYTE) allows.
    TooManyElements,
    /// A data tag that A-XDR does not know.
    UnknownTag(u8),
    /// A tag that may not stand in the type description of a compact array.
    TypeDescription(u8),
    /// Rows of a compact array that take no bytes, so that their number is undefined.
    EmptyRows,
    /// A date-time field that is neither absent nor 12 bytes.
    DateTimeLength(u8),
    /// A ciphered APDU without the system title of its sender.
    SystemTitleMissing,
    /// A system title that is not 8 bytes.
    SystemTitleLength(usize),
    /// Where an HDLC frame should begin or end there is no flag.
    HdlcFlag(u8),
    /// An HDLC frame of another format than type 3.
    HdlcFormat(u8),
    /// An HDLC frame too short to be one, or longer than the receiver allows.
    HdlcLength(u16),
    /// An HDLC address that is not 1, 2 or 4 bytes.
    HdlcAddress,
    /// A control field that no kind of HDLC frame has.
    HdlcControl(u8),
    /// A check sequence of an HDLC frame that does not fit what it covers.
    HdlcCheck(u16),
    /// Parameters of SNRM or UA that make no sense.
    HdlcParameters,
    /// Information segments of HDLC without their end, or without their beginning.
    Segments,
    /// Where an M-Bus frame should begin or end there is another byte.
    MbusDelimiter(u8),
    /// The two lengths of an M-Bus frame differ, or it is too short to be one.
    MbusLength(u8),
    /// The checksum of an M-Bus frame does not fit.
    MbusChecksum(u8),
    /// A frame of M-Bus that is not the next of its sequence.
    MbusSequence(u8),
    /// A block of a general-block-transfer that does not continue what is there.
    Block(u16),
    /// A block of a general-block-transfer that is not there.
    MissingBlock(u16),
    /// A BER tag that may not stand where it does.
    BerTag(u8),
    /// A BER field that is there a second time.
    BerRepeated(u8),
    /// A BER field that must be there and is not.
    BerMissing(u8),
    /// A BER integer that is empty or does not fit a byte.
    BerInteger,
    /// An object identifier that names no context or mechanism of DLMS/COSEM.
    ObjectIdentifier,
    /// The conformance block is none of 24 bits.
    Conformance,
    /// How a key is named or carried that is not known.
    KeyInfo(u8),
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// The same fault seen from a slice that starts `by` bytes earlier.
    #[must_use]
    pub(crate) const fn shifted(self, by: usize) -> Self {
        Self { kind: self.kind, offset: self.offset.saturating_add(by) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "truncated"),
            Self::TrailingBytes => write!(f, "trailing bytes"),
            Self::FragmentNumber(number) => write!(f, "no fragment has the number {number}"),
            Self::WrapperVersion(version) => write!(f, "wrapper version {version} instead of 1"),
            Self::FrameTooLong(length) => write!(f, "apdu of {length} bytes is over the limit"),
            Self::UnsupportedApdu(tag) => write!(f, "unsupported apdu 0x{tag:02x}"),
            Self::UnknownChoice(choice) => write!(f, "unknown choice 0x{choice:02x}"),
            Self::Presence(byte) => write!(f, "presence byte 0x{byte:02x} is neither 00 nor 01"),
            Self::ListMismatch(count) => write!(f, "list of {count} does not fit the list before it"),
            Self::LengthForm(byte) => write!(f, "unsupported length form 0x{byte:02x}"),
            Self::CountTooLarge(count) => write!(f, "count {count} larger than the bytes left"),
            Self::TooDeep => write!(f, "nested too deep"),
            Self::TooManyElements => write!(f, "too many elements"),
            Self::UnknownTag(tag) => write!(f, "unknown data tag 0x{tag:02x}"),
            Self::TypeDescription(tag) => {
                write!(f, "tag 0x{tag:02x} not allowed in a type description")
            }
            Self::EmptyRows => write!(f, "compact array with rows of no bytes"),
            Self::DateTimeLength(length) => write!(f, "date-time of {length} bytes"),
            Self::SystemTitleMissing => write!(f, "system title missing"),
            Self::SystemTitleLength(length) => write!(f, "system title of {length} bytes"),
            Self::HdlcFlag(byte) => write!(f, "0x{byte:02x} instead of an hdlc flag"),
            Self::HdlcFormat(byte) => write!(f, "hdlc frame format 0x{byte:02x} is not of type 3"),
            Self::HdlcLength(length) => write!(f, "hdlc frame of {length} bytes"),
            Self::HdlcAddress => write!(f, "hdlc address that is not 1, 2 or 4 bytes"),
            Self::HdlcControl(byte) => write!(f, "unknown hdlc control field 0x{byte:02x}"),
            Self::HdlcCheck(found) => write!(f, "hdlc check sequence 0x{found:04x} is wrong"),
            Self::HdlcParameters => write!(f, "hdlc parameters that make no sense"),
            Self::Segments => write!(f, "segments that are not whole"),
            Self::MbusDelimiter(byte) => write!(f, "0x{byte:02x} instead of an m-bus delimiter"),
            Self::MbusLength(length) => write!(f, "m-bus length {length}"),
            Self::MbusChecksum(found) => write!(f, "m-bus checksum 0x{found:02x} is wrong"),
            Self::MbusSequence(number) => write!(f, "m-bus frame {number} is out of sequence"),
            Self::MissingBlock(number) => write!(f, "block {number} is missing"),
            Self::Block(number) => write!(f, "block {number} is out of sequence"),
            Self::BerTag(tag) => write!(f, "tag 0x{tag:02x} not allowed here"),
            Self::BerRepeated(tag) => write!(f, "field 0x{tag:02x} repeated"),
            Self::BerMissing(tag) => write!(f, "field 0x{tag:02x} missing"),
            Self::BerInteger => write!(f, "integer that does not fit a byte"),
            Self::ObjectIdentifier => write!(f, "unknown object identifier"),
            Self::Conformance => write!(f, "malformed conformance block"),
            Self::KeyInfo(choice) => write!(f, "unknown kind of key 0x{choice:02x}"),
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn display_names_the_kind_and_the_byte() {
        let error = Error::new(ErrorKind::UnknownTag(0x42), 7);
        assert_eq!(error.to_string(), "unknown data tag 0x42 at byte 7");
        assert_eq!(error.shifted(10).offset, 17);
    }
}
