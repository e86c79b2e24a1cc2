//! What the two sides agree on when an association opens: initiate-request and initiate-response.
//!
//! They travel as user information of an AARQ and an AARE. The request may carry the dedicated key of the
//! session, so nothing here prints it and what is encoded is wiped when dropped.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};

/// Tag of an initiate-request.
pub const INITIATE_REQUEST: u8 = 0x01;
/// Tag of an initiate-response.
pub const INITIATE_RESPONSE: u8 = 0x08;
/// The version of DLMS that everyone speaks.
pub const DLMS_VERSION: u8 = 6;

/// `[APPLICATION 31]`: the tag of the conformance block in two bytes.
const CONFORMANCE_TAG: [u8; 2] = [0x5f, 0x1f];
/// Bytes of the block: a count of unused bits, then 24 bits.
const CONFORMANCE_LEN: u8 = 4;
/// Bytes of an initiate-request without its key.
const REQUEST_LEN: usize = 32;

/// The services that one side offers: a set of 24 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Conformance(u32);

macro_rules! conformance {
    ($($(#[$what:meta])* $name:ident = $bit:literal, $words:literal;)*) => {
        impl Conformance {
            $($(#[$what])* pub const $name: Self = Self::bit($bit);)*

            /// Each bit with its name, in the order of the standard.
            const NAMES: &[(Self, &str)] = &[$((Self::$name, $words)),*];
        }
    };
}

conformance! {
    /// General ciphering APDUs.
    GENERAL_PROTECTION = 1, "general-protection";
    /// General block transfer.
    GENERAL_BLOCK_TRANSFER = 2, "general-block-transfer";
    /// Short names: read.
    READ = 3, "read";
    /// Short names: write.
    WRITE = 4, "write";
    /// Short names: write without an answer.
    UNCONFIRMED_WRITE = 5, "unconfirmed-write";
    /// Values as differences.
    DELTA_VALUE_ENCODING = 6, "delta-value-encoding";
    /// Set all attributes at once.
    ATTRIBUTE_0_WITH_SET = 8, "attribute-0-with-set";
    /// Priorities.
    PRIORITY_MANAGEMENT = 9, "priority-management";
    /// Get all attributes at once.
    ATTRIBUTE_0_WITH_GET = 10, "attribute-0-with-get";
    /// Long answers in blocks.
    BLOCK_TRANSFER_WITH_GET = 11, "block-transfer-with-get";
    /// Long values set in blocks.
    BLOCK_TRANSFER_WITH_SET = 12, "block-transfer-with-set";
    /// Long parameters and results of actions in blocks.
    BLOCK_TRANSFER_WITH_ACTION = 13, "block-transfer-with-action";
    /// Several attributes in one request.
    MULTIPLE_REFERENCES = 14, "multiple-references";
    /// Short names: report.
    INFORMATION_REPORT = 15, "information-report";
    /// Push.
    DATA_NOTIFICATION = 16, "data-notification";
    /// Access.
    ACCESS = 17, "access";
    /// Short names: access with parameters.
    PARAMETERIZED_ACCESS = 18, "parameterized-access";
    /// Get.
    GET = 19, "get";
    /// Set.
    SET = 20, "set";
    /// Ranges and entries of profiles.
    SELECTIVE_ACCESS = 21, "selective-access";
    /// Events.
    EVENT_NOTIFICATION = 22, "event-notification";
    /// Action.
    ACTION = 23, "action";
}

impl Conformance {
    /// No service.
    pub const NONE: Self = Self(0);

    /// Bit 0 is the highest of the first byte.
    const fn bit(number: u32) -> Self {
        Self(1 << (23 - number))
    }

    /// The set that three bytes on the wire are.
    #[must_use]
    pub const fn from_bytes([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, a, b, c]))
    }

    /// The three bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both: what a server answers to what was proposed.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The names of the services, and of the two reserved bits their numbers.
impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let reserved = [(Self::bit(0), "reserved-0"), (Self::bit(7), "reserved-7")];
        let mut separator = "";
        for (bit, name) in Self::NAMES.iter().chain(&reserved) {
            if self.contains(*bit) {
                write!(f, "{separator}{name}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conformance({self})")
    }
}

/// A dedicated key as it stands in an APDU or with its owner; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DedicatedKey<'a>(pub &'a [u8]);

impl fmt::Debug for DedicatedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DedicatedKey(..)")
    }
}

/// What the client proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiateRequest<'a> {
    /// The key of this session.
    pub dedicated_key: Option<DedicatedKey<'a>>,
    /// Whether the server may answer; true unless said otherwise.
    pub response_allowed: bool,
    /// Proposed quality of service.
    pub quality_of_service: Option<i8>,
    /// Proposed version of DLMS.
    pub dlms_version: u8,
    /// Services that the client would use.
    pub conformance: Conformance,
    /// Longest APDU that the client can receive; 0 is no limit.
    pub max_pdu: u16,
}

impl<'a> InitiateRequest<'a> {
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        Self::located(cursor).map(|(request, _)| request)
    }

    /// With where the version is, behind which everything has its place.
    pub(crate) fn located(mut cursor: Cursor<'a>) -> Result<(Self, usize), Error> {
        let dedicated_key = match presence(&mut cursor)? {
            true => {
                let length = cursor.length()?;
                Some(DedicatedKey(cursor.take(length)?))
            }
            false => None,
        };
        let response_allowed = match presence(&mut cursor)? {
            true => cursor.u8()? != 0,
            false => true,
        };
        let quality_of_service = quality_of_service(&mut cursor)?;
        let version_at = cursor.position();
        let dlms_version = cursor.u8()?;
        let conformance = conformance(&mut cursor)?;
        let max_pdu = cursor.u16()?;
        super::finished(&cursor)?;
        let request =
            Self { dedicated_key, response_allowed, quality_of_service, dlms_version, conformance, max_pdu };
        Ok((request, version_at))
    }

    /// The APDU, which holds the dedicated key and is wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let key = self.dedicated_key.map_or(&[][..], |key| key.0);
        // Room for all of it: growing would leave a copy of the key behind.
        let mut out = Zeroizing::new(Vec::with_capacity(REQUEST_LEN + key.len()));
        out.push(INITIATE_REQUEST);
        out.push(u8::from(self.dedicated_key.is_some()));
        if self.dedicated_key.is_some() {
            write_length(key.len(), &mut out);
            out.extend_from_slice(key);
        }
        if self.response_allowed {
            out.push(0);
        } else {
            out.extend_from_slice(&[1, 0]);
        }
        write_quality_of_service(self.quality_of_service, &mut out);
        out.push(self.dlms_version);
        write_conformance(self.conformance, &mut out);
        out.extend_from_slice(&self.max_pdu.to_be_bytes());
        out
    }
}

/// What the server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiateResponse {
    /// Negotiated quality of service.
    pub quality_of_service: Option<i8>,
    /// Negotiated version of DLMS.
    pub dlms_version: u8,
    /// Services that may be used now.
    pub conformance: Conformance,
    /// Longest APDU that the server can receive; 0 is no limit.
    pub max_pdu: u16,
    /// Name of the virtual application association; says how objects are named.
    pub vaa_name: u16,
}

impl InitiateResponse {
    /// The name that says: by logical name.
    pub const LOGICAL_NAME: u16 = 0x0007;
    /// The name that says: by short name.
    pub const SHORT_NAME: u16 = 0xfa00;

    pub(super) fn parse(cursor: Cursor<'_>) -> Result<Self, Error> {
        Self::located(cursor).map(|(response, _)| response)
    }

    /// With where the version is, behind which everything has its place.
    pub(crate) fn located(mut cursor: Cursor<'_>) -> Result<(Self, usize), Error> {
        let quality_of_service = quality_of_service(&mut cursor)?;
        let version_at = cursor.position();
        let dlms_version = cursor.u8()?;
        let conformance = conformance(&mut cursor)?;
        let (max_pdu, vaa_name) = (cursor.u16()?, cursor.u16()?);
        super::finished(&cursor)?;
        Ok((Self { quality_of_service, dlms_version, conformance, max_pdu, vaa_name }, version_at))
    }

    /// Appends the APDU.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(INITIATE_RESPONSE);
        write_quality_of_service(self.quality_of_service, out);
        out.push(self.dlms_version);
        write_conformance(self.conformance, out);
        out.extend_from_slice(&self.max_pdu.to_be_bytes());
        out.extend_from_slice(&self.vaa_name.to_be_bytes());
    }
}

fn presence(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    let at = *cursor;
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(at.error(ErrorKind::Presence(other))),
    }
}

fn quality_of_service(cursor: &mut Cursor<'_>) -> Result<Option<i8>, Error> {
    Ok(if presence(cursor)? { Some(i8::from_be_bytes([cursor.u8()?])) } else { None })
}

fn write_quality_of_service(quality: Option<i8>, out: &mut Vec<u8>) {
    match quality {
        Some(quality) => out.extend_from_slice(&[1, quality.to_be_bytes()[0]]),
        None => out.push(0),
    }
}

/// The block in BER; old senders leave out the second byte of its tag.
fn conformance(cursor: &mut Cursor<'_>) -> Result<Conformance, Error> {
    let at = *cursor;
    let first = cursor.u8()?;
    let second = cursor.u8()?;
    let length = if second == CONFORMANCE_TAG[1] { cursor.u8()? } else { second };
    let unused = cursor.u8()?;
    if first != CONFORMANCE_TAG[0] || length != CONFORMANCE_LEN || unused != 0 {
        return Err(at.error(ErrorKind::Conformance));
    }
    Ok(Conformance::from_bytes(*cursor.array()?))
}

fn write_conformance(conformance: Conformance, out: &mut Vec<u8>) {
    out.extend_from_slice(&CONFORMANCE_TAG);
    out.extend_from_slice(&[CONFORMANCE_LEN, 0]);
    out.extend_from_slice(&conformance.to_bytes());
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::super::{Apdu, parse};
    use super::*;

    /// The initiate-request of the Green Book.
    const VECTOR: &str = "01011000112233445566778899aabbccddeeff0000065f1f0400007e1f04b0";

    #[test]
    fn green_book_vector_reads_and_is_written_again() {
        let apdu = hex::decode(VECTOR).unwrap();
        let Ok(Apdu::InitiateRequest(request)) = parse(&apdu) else {
            panic!("not an initiate-request");
        };
        let key: [u8; 16] = core::array::from_fn(|index| 0x11 * index as u8);
        assert_eq!(request.dedicated_key, Some(DedicatedKey(&key)));
        assert!(request.response_allowed);
        assert_eq!((request.quality_of_service, request.dlms_version), (None, DLMS_VERSION));
        assert_eq!((request.conformance.to_bytes(), request.max_pdu), ([0, 0x7e, 0x1f], 1200));
        assert_eq!(request.encode().as_slice(), apdu);
    }

    #[test]
    fn the_set_of_an_indian_meter_has_the_names_that_it_should() {
        let set = Conformance::from_bytes([0x20, 0x18, 0x9d]);
        let words = "general-block-transfer block-transfer-with-get block-transfer-with-set \
                     data-notification get set selective-access action";
        assert_eq!(set.to_string(), words);
        let reader =
            Conformance::GET.union(Conformance::BLOCK_TRANSFER_WITH_GET).union(Conformance::SELECTIVE_ACCESS);
        assert_eq!(reader.to_bytes(), [0, 0x10, 0x14]);
        assert!(set.contains(reader) && !reader.contains(set));
        assert_eq!(set.intersection(reader), reader);
        assert_eq!(
            (Conformance::NONE.to_string(), Conformance::bit(7).to_string()),
            ("none".into(), "reserved-7".into())
        );
    }

    #[test]
    fn an_initiate_response_reads_back() {
        let response = InitiateResponse {
            quality_of_service: None,
            dlms_version: DLMS_VERSION,
            conformance: Conformance::from_bytes([0, 0x10, 0x14]),
            max_pdu: 750,
            vaa_name: InitiateResponse::LOGICAL_NAME,
        };
        let mut apdu = vec![0xa5];
        response.emit(&mut apdu);
        assert_eq!(hex::encode(&apdu), "a50800065f1f040000101402ee0007");
        assert_eq!(parse(&apdu[1..]), Ok(Apdu::InitiateResponse(response)));
        let mut old = apdu[1..].to_vec();
        old.remove(4);
        assert_eq!(parse(&old), Ok(Apdu::InitiateResponse(response)), "the short tag of old meters");
    }

    #[test]
    fn every_cut_is_refused_and_so_is_what_follows() {
        let request = hex::decode(VECTOR).unwrap();
        let response = hex::decode("0800065f1f040000101402ee0007").unwrap();
        for mut apdu in [request, response] {
            for cut in 0..apdu.len() {
                let error = parse(&apdu[..cut]).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Truncated, "cut at {cut}");
            }
            apdu.push(0);
            let error = Error::new(ErrorKind::TrailingBytes, apdu.len() - 1);
            assert_eq!(parse(&apdu), Err(error));
        }
    }

    #[test]
    fn odd_presence_and_conformance_are_refused_at_their_byte() {
        let apdu = hex::decode("0800065f1f040000101402ee0007").unwrap();
        for (at, byte, kind, offset) in [
            (1, 2, ErrorKind::Presence(2), 1),
            (3, 0x5e, ErrorKind::Conformance, 3),
            (5, 5, ErrorKind::Conformance, 3),
            (6, 1, ErrorKind::Conformance, 3),
        ] {
            let mut odd = apdu.clone();
            odd[at] = byte;
            assert_eq!(parse(&odd), Err(Error::new(kind, offset)));
        }
    }

    #[test]
    fn a_dedicated_key_is_not_printed() {
        let apdu = hex::decode(VECTOR).unwrap();
        let text = format!("{:?}", parse(&apdu).unwrap());
        assert!(text.contains("DedicatedKey(..)") && !text.contains("17, 34"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses(
            key in proptest::option::of(prop::collection::vec(any::<u8>(), 0..200)),
            response_allowed: bool,
            quality_of_service: Option<i8>,
            dlms_version: u8,
            conformance: [u8; 3],
            max_pdu: u16,
            vaa_name: u16,
        ) {
            let conformance = Conformance::from_bytes(conformance);
            let request = InitiateRequest {
                dedicated_key: key.as_deref().map(DedicatedKey),
                response_allowed,
                quality_of_service,
                dlms_version,
                conformance,
                max_pdu,
            };
            let apdu = request.encode();
            prop_assert_eq!(parse(&apdu), Ok(Apdu::InitiateRequest(request)));
            prop_assert!(apdu.len() <= REQUEST_LEN + key.map_or(0, |key| key.len()));
            let response = InitiateResponse { quality_of_service, dlms_version, conformance, max_pdu, vaa_name };
            let mut apdu = vec![];
            response.emit(&mut apdu);
            prop_assert_eq!(parse(&apdu), Ok(Apdu::InitiateResponse(response)));
        }
    }
}
