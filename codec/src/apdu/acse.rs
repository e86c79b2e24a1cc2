//! Opening and releasing an association: AARQ, AARE, RLRQ and RLRE in BER.
//!
//! | tag | APDU | what it says |
//! |---|---|---|
//! | 60 | AARQ | context, title and proof of the client, initiate-request |
//! | 61 | AARE | result, diagnostic, title and challenge of the server, initiate-response |
//! | 62, 63 | RLRQ, RLRE | a reason, and for some meters user information |
//!
//! Fields may come in any order and unknown ones are skipped by their length; meters differ in both. A field
//! that is there twice, a length that does not fit and a tag of several bytes are refused. Codes that nobody
//! has named stay what they are.
//!
//! The values here borrow what they were parsed from and are also what is emitted: a field can hold anything
//! that BER can. User information is an APDU of its own ([`apdu::parse`](super::parse)) and is not looked
//! into. A password is on the wire as it is, so what proves the client is never printed.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroize;

use super::{SYSTEM_TITLE_LEN, ber};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Tag of an association request.
pub const AARQ: u8 = 0x60;
/// Tag of an association response.
pub const AARE: u8 = 0x61;
/// Tag of a release request.
pub const RLRQ: u8 = 0x62;
/// Tag of a release response.
pub const RLRE: u8 = 0x63;

/// Fields of the four APDUs. A number may mean different things in a request and a response.
pub(crate) mod field {
    pub(crate) const CONTEXT: u8 = 0xa1;
    pub(crate) const USER_INFORMATION: u8 = 0xbe;

    pub(crate) const CALLING_AP_TITLE: u8 = 0xa6;
    pub(crate) const CALLING_REQUIREMENTS: u8 = 0x8a;
    pub(crate) const CALLING_MECHANISM: u8 = 0x8b;
    pub(crate) const CALLING_AUTHENTICATION: u8 = 0xac;

    pub(crate) const RESULT: u8 = 0xa2;
    pub(crate) const DIAGNOSTIC: u8 = 0xa3;
    pub(crate) const RESPONDING_AP_TITLE: u8 = 0xa4;
    pub(crate) const RESPONDING_REQUIREMENTS: u8 = 0x88;
    pub(crate) const RESPONDING_MECHANISM: u8 = 0x89;
    pub(crate) const RESPONDING_AUTHENTICATION: u8 = 0xaa;

    pub(crate) const REASON: u8 = 0x80;

    pub(super) const CHAR_STRING: u8 = 0x80;
    pub(super) const BIT_STRING: u8 = 0x81;
    pub(super) const SERVICE_USER: u8 = 0xa1;
    pub(super) const SERVICE_PROVIDER: u8 = 0xa2;
}

/// 2.16.756.5.8.1: application contexts of DLMS/COSEM.
const CONTEXTS: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x01];
/// 2.16.756.5.8.2: authentication mechanisms of DLMS/COSEM.
const MECHANISMS: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x02];
/// A bit-string of one bit that is set: the authentication functional unit.
const AUTHENTICATION_UNIT: [u8; 2] = [0x07, 0x80];

/// Most bytes of a tag and a length.
const HEAD_LEN: usize = 1 + 9;
/// More bytes than the fields of an AARQ have besides what they carry.
const FIELDS_LEN: usize = 128;

/// An enumeration of the standard that keeps codes without a name.
macro_rules! codes {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $code:literal, $words:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$what])* $variant,)*
            /// A code without a name.
            Unknown(u8),
        }

        impl $name {
            /// The meaning of a code.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($words),)*
                    Self::Unknown(code) => write!(f, "unknown code {code}"),
                }
            }
        }
    };
}

codes! {
    /// How objects are referred to, and whether APDUs are ciphered.
    ApplicationContext {
        /// By logical name.
        LogicalName = 1, "logical name";
        /// By short name.
        ShortName = 2, "short name";
        /// By logical name, ciphered.
        LogicalNameCiphered = 3, "logical name with ciphering";
        /// By short name, ciphered.
        ShortNameCiphered = 4, "short name with ciphering";
    }
}

impl ApplicationContext {
    /// Whether APDUs of this context are ciphered.
    #[must_use]
    pub const fn ciphered(self) -> bool {
        matches!(self, Self::LogicalNameCiphered | Self::ShortNameCiphered)
    }
}

codes! {
    /// How the two sides prove who they are.
    Mechanism {
        /// No proof at all.
        Lowest = 0, "none";
        /// A password.
        LowLevel = 1, "low level: password";
        /// Left to the manufacturer; in India AES-128 of the challenge.
        Manufacturer = 2, "high level: AES of the challenge";
        /// MD5.
        Md5 = 3, "high level: MD5";
        /// SHA-1.
        Sha1 = 4, "high level: SHA-1";
        /// GMAC.
        Gmac = 5, "high level: GMAC";
        /// SHA-256.
        Sha256 = 6, "high level: SHA-256";
        /// ECDSA.
        Ecdsa = 7, "high level: ECDSA";
    }
}

impl Mechanism {
    /// Whether both sides answer challenges (passes 3 and 4 follow the AARE).
    #[must_use]
    pub const fn high_level(self) -> bool {
        !matches!(self, Self::Lowest | Self::LowLevel)
    }
}

codes! {
    /// Whether there is an association now.
    AssociationResult {
        /// There is.
        Accepted = 0, "accepted";
        /// No, and trying again will not help.
        RejectedPermanent = 1, "rejected permanently";
        /// Not now.
        RejectedTransient = 2, "rejected for now";
    }
}

codes! {
    /// What the application says about the result.
    ServiceUser {
        /// Nothing.
        Null = 0, "no diagnostic";
        /// Refused without a reason.
        NoReason = 1, "no reason given";
        /// The application context is not supported.
        ContextNotSupported = 2, "application context not supported";
        /// The title of the client is not known.
        CallingApTitleUnknown = 3, "calling AP title not recognized";
        /// The invocation of the client is not known.
        CallingApInvocationUnknown = 4, "calling AP invocation not recognized";
        /// The qualifier of the client is not known.
        CallingAeQualifierUnknown = 5, "calling AE qualifier not recognized";
        /// The user of the client is not known.
        CallingAeInvocationUnknown = 6, "calling AE invocation not recognized";
        /// The title of the server is not its own.
        CalledApTitleUnknown = 7, "called AP title not recognized";
        /// The invocation of the server is not known.
        CalledApInvocationUnknown = 8, "called AP invocation not recognized";
        /// The qualifier of the server is not known.
        CalledAeQualifierUnknown = 9, "called AE qualifier not recognized";
        /// The invocation of the server's application is not known.
        CalledAeInvocationUnknown = 10, "called AE invocation not recognized";
        /// The mechanism is not supported.
        MechanismUnknown = 11, "authentication mechanism not recognized";
        /// A mechanism must be named.
        MechanismRequired = 12, "authentication mechanism required";
        /// The proof is wrong.
        AuthenticationFailure = 13, "authentication failure";
        /// Go on with passes 3 and 4.
        AuthenticationRequired = 14, "authentication required";
    }
}

codes! {
    /// What the layer below the application says about the result.
    ServiceProvider {
        /// Nothing.
        Null = 0, "no diagnostic";
        /// Refused without a reason.
        NoReason = 1, "no reason given";
        /// No version in common.
        NoCommonVersion = 2, "no common ACSE version";
    }
}

/// Why the result is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Diagnostic {
    /// By the application.
    User(ServiceUser),
    /// By the layer below it.
    Provider(ServiceProvider),
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Provider(provider) => write!(f, "{provider} (service provider)"),
        }
    }
}

codes! {
    /// Why the client releases the association.
    ReleaseRequestReason {
        /// It is done.
        Normal = 0, "normal";
        /// It cannot wait.
        Urgent = 1, "urgent";
        /// Its own reason.
        UserDefined = 30, "user defined";
    }
}

codes! {
    /// What the server says to a release.
    ReleaseResponseReason {
        /// It is done too.
        Normal = 0, "normal";
        /// It is not.
        NotFinished = 1, "not finished";
        /// Its own reason.
        UserDefined = 30, "user defined";
    }
}

/// A request to open an association.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Aarq<'a> {
    /// How objects are named, and whether APDUs are ciphered.
    pub context: ApplicationContext,
    /// System title of the client.
    pub calling_ap_title: Option<&'a [u8]>,
    /// How the client proves who it is; [`Mechanism::Lowest`] when the field is absent.
    pub mechanism: Mechanism,
    /// Password or challenge of the client.
    pub authentication_value: Option<&'a [u8]>,
    /// An initiate-request, as it is or ciphered.
    pub user_information: Option<&'a [u8]>,
}

impl<'a> Aarq<'a> {
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut fields = Fields::new(cursor)?;
        let (mut context, mut mechanism) = (None, None);
        let (mut title, mut authentication, mut information) = (None, None, None);
        while let Some((start, tag, content)) = fields.next()? {
            let repeated = match tag {
                field::CONTEXT => context.replace(parse_context(content)?).is_some(),
                field::CALLING_AP_TITLE => title.replace(octets(content)?).is_some(),
                field::CALLING_MECHANISM => mechanism.replace(parse_mechanism(&content)?).is_some(),
                field::CALLING_AUTHENTICATION => authentication.replace(proof(content)?).is_some(),
                field::USER_INFORMATION => information.replace(octets(content)?).is_some(),
                _ => false,
            };
            once(repeated, tag, start)?;
        }
        Ok(Self {
            context: context.ok_or_else(|| fields.missing(field::CONTEXT))?,
            calling_ap_title: title,
            mechanism: mechanism.unwrap_or(Mechanism::Lowest),
            authentication_value: authentication,
            user_information: information,
        })
    }

    /// The title of the client when it is one of 8 bytes.
    #[must_use]
    pub fn system_title(&self) -> Option<&'a [u8; SYSTEM_TITLE_LEN]> {
        self.calling_ap_title?.try_into().ok()
    }

    /// Appends the APDU. A password is then in `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let lengths = [self.calling_ap_title, self.authentication_value, self.user_information];
        let length: usize = lengths.iter().flatten().map(|bytes| bytes.len()).sum();
        // Room for all of it: growing would leave a copy of the password behind.
        let mut fields = Vec::with_capacity(FIELDS_LEN + length);
        write_context(self.context, &mut fields);
        if let Some(title) = self.calling_ap_title {
            write_octets(field::CALLING_AP_TITLE, title, &mut fields);
        }
        if self.mechanism != Mechanism::Lowest {
            ber::write_bytes(field::CALLING_REQUIREMENTS, &AUTHENTICATION_UNIT, &mut fields);
            write_mechanism(field::CALLING_MECHANISM, self.mechanism, &mut fields);
        }
        if let Some(value) = self.authentication_value {
            write_proof(field::CALLING_AUTHENTICATION, value, &mut fields);
        }
        if let Some(information) = self.user_information {
            write_octets(field::USER_INFORMATION, information, &mut fields);
        }
        ber::write_bytes(AARQ, &fields, out);
        fields.zeroize();
    }
}

impl fmt::Debug for Aarq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aarq")
            .field("context", &self.context)
            .field("calling_ap_title", &self.calling_ap_title)
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// The answer to an [`Aarq`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Aare<'a> {
    /// As in the request; some meters leave it out.
    pub context: Option<ApplicationContext>,
    /// Whether there is an association.
    pub result: AssociationResult,
    /// Why; some meters leave it out.
    pub diagnostic: Option<Diagnostic>,
    /// System title of the server.
    pub responding_ap_title: Option<&'a [u8]>,
    /// How the two prove who they are; [`Mechanism::Lowest`] when the field is absent.
    pub mechanism: Mechanism,
    /// Challenge of the server.
    pub authentication_value: Option<&'a [u8]>,
    /// An initiate-response, as it is or ciphered, or a confirmed-service-error.
    pub user_information: Option<&'a [u8]>,
}

impl<'a> Aare<'a> {
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let mut fields = Fields::new(cursor)?;
        let (mut context, mut result, mut diagnostic, mut mechanism) = (None, None, None, None);
        let (mut title, mut authentication, mut information) = (None, None, None);
        while let Some((start, tag, content)) = fields.next()? {
            let repeated = match tag {
                field::CONTEXT => context.replace(parse_context(content)?).is_some(),
                field::RESULT => result.replace(parse_result(content)?).is_some(),
                field::DIAGNOSTIC => diagnostic.replace(parse_diagnostic(content)?).is_some(),
                field::RESPONDING_AP_TITLE => title.replace(octets(content)?).is_some(),
                field::RESPONDING_MECHANISM => mechanism.replace(parse_mechanism(&content)?).is_some(),
                field::RESPONDING_AUTHENTICATION => authentication.replace(proof(content)?).is_some(),
                field::USER_INFORMATION => information.replace(octets(content)?).is_some(),
                _ => false,
            };
            once(repeated, tag, start)?;
        }
        Ok(Self {
            context,
            result: result.ok_or_else(|| fields.missing(field::RESULT))?,
            diagnostic,
            responding_ap_title: title,
            mechanism: mechanism.unwrap_or(Mechanism::Lowest),
            authentication_value: authentication,
            user_information: information,
        })
    }

    /// The title of the server when it is one of 8 bytes.
    #[must_use]
    pub fn system_title(&self) -> Option<&'a [u8; SYSTEM_TITLE_LEN]> {
        self.responding_ap_title?.try_into().ok()
    }

    /// Accepted, but the server waits for passes 3 and 4.
    #[must_use]
    pub fn authentication_required(&self) -> bool {
        self.result == AssociationResult::Accepted
            && self.diagnostic == Some(Diagnostic::User(ServiceUser::AuthenticationRequired))
    }

    /// Appends the APDU.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        if let Some(context) = self.context {
            write_context(context, &mut fields);
        }
        ber::write(field::RESULT, &mut fields, |result| {
            ber::write_bytes(ber::INTEGER, &[self.result.code()], result);
        });
        if let Some(diagnostic) = self.diagnostic {
            write_diagnostic(diagnostic, &mut fields);
        }
        if let Some(title) = self.responding_ap_title {
            write_octets(field::RESPONDING_AP_TITLE, title, &mut fields);
        }
        if self.mechanism != Mechanism::Lowest {
            ber::write_bytes(field::RESPONDING_REQUIREMENTS, &AUTHENTICATION_UNIT, &mut fields);
            write_mechanism(field::RESPONDING_MECHANISM, self.mechanism, &mut fields);
        }
        if let Some(value) = self.authentication_value {
            write_proof(field::RESPONDING_AUTHENTICATION, value, &mut fields);
        }
        if let Some(information) = self.user_information {
            write_octets(field::USER_INFORMATION, information, &mut fields);
        }
        ber::write_bytes(AARE, &fields, out);
    }
}

impl fmt::Debug for Aare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aare")
            .field("context", &self.context)
            .field("result", &self.result)
            .field("diagnostic", &self.diagnostic)
            .field("responding_ap_title", &self.responding_ap_title)
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// A request to release the association.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rlrq<'a> {
    /// Why.
    pub reason: Option<ReleaseRequestReason>,
    /// An initiate-request, ciphered, where the meter insists on one.
    pub user_information: Option<&'a [u8]>,
}

impl<'a> Rlrq<'a> {
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let (reason, user_information) = parse_release(cursor)?;
        Ok(Self { reason: reason.map(ReleaseRequestReason::from_code), user_information })
    }

    /// Appends the APDU.
    pub fn emit(&self, out: &mut Vec<u8>) {
        write_release(RLRQ, self.reason.map(ReleaseRequestReason::code), self.user_information, out);
    }
}

impl fmt::Debug for Rlrq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rlrq").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// The answer to an [`Rlrq`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rlre<'a> {
    /// What the server says.
    pub reason: Option<ReleaseResponseReason>,
    /// An initiate-response, ciphered, from meters that send one.
    pub user_information: Option<&'a [u8]>,
}

impl<'a> Rlre<'a> {
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        let (reason, user_information) = parse_release(cursor)?;
        Ok(Self { reason: reason.map(ReleaseResponseReason::from_code), user_information })
    }

    /// Appends the APDU.
    pub fn emit(&self, out: &mut Vec<u8>) {
        write_release(RLRE, self.reason.map(ReleaseResponseReason::code), self.user_information, out);
    }
}

impl fmt::Debug for Rlre<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rlre").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// The fields of one of the four APDUs, behind its tag.
pub(crate) struct Fields<'a>(Cursor<'a>);

impl<'a> Fields<'a> {
    fn new(mut cursor: Cursor<'a>) -> Result<Self, Error> {
        let length = cursor.length()?;
        let fields = cursor.split(length)?;
        super::finished(&cursor)?;
        Ok(Self(fields))
    }

    /// The fields of an APDU that parses.
    pub(crate) fn of(apdu: &'a [u8]) -> Self {
        let mut cursor = Cursor::new(apdu);
        let fields = cursor.u8().and_then(|_tag| Self::new(cursor));
        fields.unwrap_or(Self(Cursor::new(&[])))
    }

    /// Where it starts, tag and content.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, u8, Cursor<'a>)>, Error> {
        if self.0.remaining() == 0 {
            return Ok(None);
        }
        ber::field(&mut self.0).map(Some)
    }

    fn missing(&self, tag: u8) -> Error {
        self.0.error(ErrorKind::BerMissing(tag))
    }
}

fn once(repeated: bool, tag: u8, start: usize) -> Result<(), Error> {
    if repeated { Err(Error::new(ErrorKind::BerRepeated(tag), start)) } else { Ok(()) }
}

fn parse_context(content: Cursor<'_>) -> Result<ApplicationContext, Error> {
    let identifier = ber::only(content, ber::OBJECT_IDENTIFIER)?;
    ber::last_arc(&identifier, &CONTEXTS).map(ApplicationContext::from_code)
}

fn parse_mechanism(content: &Cursor<'_>) -> Result<Mechanism, Error> {
    ber::last_arc(content, &MECHANISMS).map(Mechanism::from_code)
}

fn parse_result(content: Cursor<'_>) -> Result<AssociationResult, Error> {
    let number = ber::only(content, ber::INTEGER)?;
    ber::small_number(&number).map(AssociationResult::from_code)
}

fn parse_diagnostic(mut content: Cursor<'_>) -> Result<Diagnostic, Error> {
    let at = content;
    let (_, source, inner) = ber::field(&mut content)?;
    super::finished(&content)?;
    let code = ber::only(inner, ber::INTEGER)?;
    let code = ber::small_number(&code)?;
    match source {
        field::SERVICE_USER => Ok(Diagnostic::User(ServiceUser::from_code(code))),
        field::SERVICE_PROVIDER => Ok(Diagnostic::Provider(ServiceProvider::from_code(code))),
        other => Err(at.error(ErrorKind::BerTag(other))),
    }
}

pub(crate) fn octets(content: Cursor<'_>) -> Result<&[u8], Error> {
    located_octets(content).map(|content| content.rest())
}

/// As [`octets`], with the place of the first of them.
pub(crate) fn located_octets(content: Cursor<'_>) -> Result<Cursor<'_>, Error> {
    ber::only(content, ber::OCTET_STRING)
}

/// A password or a challenge: a string of characters, or of bits in whole bytes.
fn proof(mut content: Cursor<'_>) -> Result<&[u8], Error> {
    let at = content;
    let (_, form, mut value) = ber::field(&mut content)?;
    super::finished(&content)?;
    match form {
        field::CHAR_STRING => Ok(value.rest()),
        field::BIT_STRING if value.u8()? == 0 => Ok(value.rest()),
        other => Err(at.error(ErrorKind::BerTag(other))),
    }
}

fn parse_release(cursor: Cursor<'_>) -> Result<(Option<u8>, Option<&[u8]>), Error> {
    let mut fields = Fields::new(cursor)?;
    let (mut reason, mut information) = (None, None);
    while let Some((start, tag, content)) = fields.next()? {
        let repeated = match tag {
            field::REASON => reason.replace(ber::small_number(&content)?).is_some(),
            field::USER_INFORMATION => information.replace(octets(content)?).is_some(),
            _ => false,
        };
        once(repeated, tag, start)?;
    }
    Ok((reason, information))
}

fn write_release(tag: u8, reason: Option<u8>, information: Option<&[u8]>, out: &mut Vec<u8>) {
    ber::write(tag, out, |fields| {
        if let Some(reason) = reason {
            ber::write_bytes(field::REASON, &[reason], fields);
        }
        if let Some(information) = information {
            write_octets(field::USER_INFORMATION, information, fields);
        }
    });
}

fn write_context(context: ApplicationContext, out: &mut Vec<u8>) {
    ber::write(field::CONTEXT, out, |context_out| {
        let [a, b, c, d, e, f] = CONTEXTS;
        ber::write_bytes(ber::OBJECT_IDENTIFIER, &[a, b, c, d, e, f, context.code()], context_out);
    });
}

fn write_mechanism(tag: u8, mechanism: Mechanism, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f] = MECHANISMS;
    ber::write_bytes(tag, &[a, b, c, d, e, f, mechanism.code()], out);
}

fn write_diagnostic(diagnostic: Diagnostic, out: &mut Vec<u8>) {
    let (source, code) = match diagnostic {
        Diagnostic::User(user) => (field::SERVICE_USER, user.code()),
        Diagnostic::Provider(provider) => (field::SERVICE_PROVIDER, provider.code()),
    };
    ber::write_bytes(field::DIAGNOSTIC, &[source, 3, ber::INTEGER, 1, code], out);
}

fn write_octets(tag: u8, octets: &[u8], out: &mut Vec<u8>) {
    ber::write(tag, out, |field| ber::write_bytes(ber::OCTET_STRING, octets, field));
}

fn write_proof(tag: u8, proof: &[u8], out: &mut Vec<u8>) {
    let mut inner = Vec::with_capacity(HEAD_LEN + proof.len());
    ber::write_bytes(field::CHAR_STRING, proof, &mut inner);
    ber::write_bytes(tag, &inner, out);
    inner.zeroize();
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec;

    use proptest::prelude::*;

    use super::super::{Apdu, parse};
    use super::*;

    const CHALLENGE: &[u8] = b"ABCDEFGHIJKLMNOP";
    const TITLE: [u8; 8] = [0x4d, 0x4d, 0x4d, 0, 0, 0, 0, 1];
    const INITIATE: [u8; 14] = [1, 0, 0, 0, 6, 0x5f, 0x1f, 4, 0, 0x20, 0x18, 0x9d, 2, 0xee];

    fn aarq() -> Aarq<'static> {
        Aarq {
            context: ApplicationContext::LogicalNameCiphered,
            calling_ap_title: Some(&TITLE),
            mechanism: Mechanism::Manufacturer,
            authentication_value: Some(CHALLENGE),
            user_information: Some(&INITIATE),
        }
    }

    fn aare() -> Aare<'static> {
        Aare {
            context: Some(ApplicationContext::LogicalNameCiphered),
            result: AssociationResult::Accepted,
            diagnostic: Some(Diagnostic::User(ServiceUser::AuthenticationRequired)),
            responding_ap_title: Some(&TITLE),
            mechanism: Mechanism::Gmac,
            authentication_value: Some(CHALLENGE),
            user_information: Some(&[0x08, 0, 6]),
        }
    }

    fn emitted(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = vec![0xa5; 400];
        out.truncate(3);
        emit(&mut out);
        assert_eq!(&out[..3], [0xa5; 3]);
        out.split_off(3)
    }

    #[track_caller]
    fn refused(apdu: &[u8], kind: ErrorKind, offset: usize) {
        assert_eq!(parse(apdu), Err(Error::new(kind, offset)), "{apdu:02x?}");
    }

    #[test]
    fn an_aarq_has_the_bytes_that_meters_expect() {
        let apdu = emitted(|out| aarq().emit(out));
        let expected = "6058a109060760857405080103a60a04084d4d4d00000000018a0207808b0760857405080202\
                        ac128010 4142434445464748494a4b4c4d4e4f50be10040e01000000065f1f040020189d02ee"
            .replace(' ', "");
        let length = format!("{:02x}", apdu.len() - 2);
        assert_eq!(hex::encode(&apdu), expected.replacen("6058", &format!("60{length}"), 1));
        assert_eq!(parse(&apdu), Ok(Apdu::AssociationRequest(aarq())));
        assert_eq!(aarq().system_title(), Some(&TITLE));
    }

    #[test]
    fn an_aare_has_the_bytes_that_head_ends_expect() {
        let apdu = emitted(|out| aare().emit(out));
        let expected = "a109060760857405080103a203020100a305a10302010ea40a04084d4d4d0000000001\
                        88020780890760857405080205aa1280104142434445464748494a4b4c4d4e4f50be050403080006";
        assert_eq!(hex::encode(&apdu[2..]), expected);
        assert_eq!((apdu[0], usize::from(apdu[1])), (AARE, apdu.len() - 2));
        assert_eq!(parse(&apdu), Ok(Apdu::AssociationResponse(aare())));
        assert!(aare().authentication_required());
    }

    #[test]
    fn a_release_reads_back_with_and_without_its_fields() {
        for information in [None, Some(&[0x21, 1, 2][..])] {
            for reason in [None, Some(0), Some(1), Some(30), Some(77)] {
                let request = Rlrq {
                    reason: reason.map(ReleaseRequestReason::from_code),
                    user_information: information,
                };
                let apdu = emitted(|out| request.emit(out));
                assert_eq!(parse(&apdu), Ok(Apdu::ReleaseRequest(request)));
                let response = Rlre {
                    reason: reason.map(ReleaseResponseReason::from_code),
                    user_information: information,
                };
                let apdu = emitted(|out| response.emit(out));
                assert_eq!(parse(&apdu), Ok(Apdu::ReleaseResponse(response)));
            }
        }
        let bare = Rlrq { reason: Some(ReleaseRequestReason::Normal), user_information: None };
        assert_eq!(emitted(|out| bare.emit(out)), [0x62, 3, 0x80, 1, 0]);
        assert!(parse(&[0x63, 0]).is_ok());
    }

    #[test]
    fn the_least_that_meters_answer_is_understood() {
        let least = [0x61, 5, 0xa2, 3, 2, 1, 1];
        let Ok(Apdu::AssociationResponse(aare)) = parse(&least) else {
            panic!("not an aare");
        };
        assert_eq!((aare.context, aare.diagnostic, aare.user_information), (None, None, None));
        assert_eq!(aare.result, AssociationResult::RejectedPermanent);
        assert_eq!(aare.mechanism, Mechanism::Lowest);
        assert!(!aare.authentication_required());
        let padded = [0x61, 6, 0xa2, 4, 2, 2, 0, 2];
        let Ok(Apdu::AssociationResponse(aare)) = parse(&padded) else {
            panic!("not an aare");
        };
        assert_eq!(aare.result, AssociationResult::RejectedTransient);
    }

    /// The fields of an APDU in another order, with some that nobody knows between them.
    #[test]
    fn order_and_unknown_fields_do_not_matter() {
        let apdu = emitted(|out| aarq().emit(out));
        let mut fields = Fields::of(&apdu);
        let mut spans = vec![];
        let mut last = 2;
        while let Some((start, ..)) = fields.next().unwrap() {
            last = start;
            spans.push(start);
        }
        spans.push(apdu.len());
        assert!(last > 2);
        let mut body = vec![0x80, 2, 2, 0x84, 0xa9, 3, 2, 1, 5];
        for pair in spans.windows(2).rev() {
            body.extend_from_slice(&apdu[pair[0]..pair[1]]);
            body.extend_from_slice(&[0xbd, 1, 0xff]);
        }
        let mut shuffled = vec![];
        ber::write_bytes(AARQ, &body, &mut shuffled);
        assert_eq!(parse(&shuffled), Ok(Apdu::AssociationRequest(aarq())));
    }

    #[test]
    fn a_challenge_as_bits_is_read_in_whole_bytes_only() {
        let with = |value: &[u8]| {
            let mut body = vec![];
            write_context(ApplicationContext::LogicalName, &mut body);
            ber::write_bytes(field::CALLING_AUTHENTICATION, value, &mut body);
            let mut apdu = vec![];
            ber::write_bytes(AARQ, &body, &mut apdu);
            apdu
        };
        let apdu = with(&[0x81, 3, 0, 7, 8]);
        let Ok(Apdu::AssociationRequest(aarq)) = parse(&apdu) else {
            panic!("not an aarq");
        };
        assert_eq!(aarq.authentication_value, Some(&[7, 8][..]));
        refused(&with(&[0x81, 3, 4, 7, 8]), ErrorKind::BerTag(0x81), 15);
        refused(&with(&[0xa2, 1, 0]), ErrorKind::BerTag(0xa2), 15);
        refused(&with(&[0x81, 0]), ErrorKind::Truncated, 17);
    }

    #[test]
    fn lengths_repetitions_and_missing_fields_are_refused() {
        refused(&[0x60, 0], ErrorKind::BerMissing(field::CONTEXT), 2);
        refused(&[0x61, 0], ErrorKind::BerMissing(field::RESULT), 2);
        refused(&[0x60, 0x80, 0, 0], ErrorKind::LengthForm(0x80), 1);
        refused(&[0x62, 3, 0x80, 2, 0], ErrorKind::Truncated, 4);
        refused(&[0x62, 2, 0x80, 0], ErrorKind::BerInteger, 4);
        refused(&[0x62, 4, 0x80, 2, 1, 0], ErrorKind::BerInteger, 4);
        refused(&[0x62, 6, 0x80, 1, 0, 0x80, 1, 0], ErrorKind::BerRepeated(0x80), 5);
        refused(&[0x62, 3, 0xbf, 1, 0], ErrorKind::BerTag(0xbf), 2);
        refused(&[0x62, 0, 0], ErrorKind::TrailingBytes, 2);
        refused(&[0x61, 6, 0xa2, 4, 2, 1, 0, 9], ErrorKind::TrailingBytes, 7);
        let mut foreign = emitted(|out| aarq().emit(out));
        foreign[7] = 0x61;
        refused(&foreign, ErrorKind::ObjectIdentifier, 6);
    }

    #[test]
    fn every_cut_is_refused_whatever_its_outer_length_says() {
        let apdus = [emitted(|out| aarq().emit(out)), emitted(|out| aare().emit(out))];
        for apdu in apdus {
            for cut in 0..apdu.len() {
                assert!(parse(&apdu[..cut]).is_err(), "cut at {cut}");
            }
            let mut fields = Fields::of(&apdu);
            let mut whole = vec![];
            while let Some((start, ..)) = fields.next().unwrap() {
                whole.push(start);
            }
            for cut in (3..apdu.len()).filter(|cut| !whole.contains(cut)) {
                let mut shorter = apdu[..cut].to_vec();
                shorter[1] = (cut - 2) as u8;
                assert!(parse(&shorter).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn codes_without_a_name_stay_what_they_are() {
        for code in 0..=0xff {
            assert_eq!(ServiceUser::from_code(code).code(), code);
            assert_eq!(ServiceProvider::from_code(code).code(), code);
            assert_eq!(AssociationResult::from_code(code).code(), code);
            assert_eq!(Mechanism::from_code(code).code(), code);
            assert_eq!(ApplicationContext::from_code(code).code(), code);
        }
        assert_eq!(format!("{}", ServiceUser::from_code(99)), "unknown code 99");
        let diagnostic = Diagnostic::Provider(ServiceProvider::NoCommonVersion);
        assert_eq!(format!("{diagnostic}"), "no common ACSE version (service provider)");
    }

    #[test]
    fn a_password_is_not_printed() {
        let aarq = Aarq { authentication_value: Some(b"AAAA"), user_information: Some(b"BBBB"), ..aarq() };
        let text = format!("{:?} {:?}", Apdu::AssociationRequest(aarq), aare());
        assert!(!text.contains("65, 65") && !text.contains("66, 66") && !text.contains("AAAA"));
    }

    fn bytes(most: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(prop::collection::vec(any::<u8>(), 0..most))
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses(
            context in 0_u8..0x80,
            mechanism in 0_u8..0x80,
            result: u8,
            diagnostic: Option<(bool, u8)>,
            title in bytes(12),
            value in bytes(300),
            information in bytes(400),
        ) {
            let aarq = Aarq {
                context: ApplicationContext::from_code(context),
                calling_ap_title: title.as_deref(),
                mechanism: Mechanism::from_code(mechanism),
                authentication_value: value.as_deref(),
                user_information: information.as_deref(),
            };
            let apdu = emitted(|out| aarq.emit(out));
            prop_assert_eq!(parse(&apdu), Ok(Apdu::AssociationRequest(aarq)));
            let aare = Aare {
                context: Some(aarq.context),
                result: AssociationResult::from_code(result),
                diagnostic: diagnostic.map(|(user, code)| match user {
                    true => Diagnostic::User(ServiceUser::from_code(code)),
                    false => Diagnostic::Provider(ServiceProvider::from_code(code)),
                }),
                responding_ap_title: title.as_deref(),
                mechanism: aarq.mechanism,
                authentication_value: value.as_deref(),
                user_information: information.as_deref(),
            };
            let apdu = emitted(|out| aare.emit(out));
            prop_assert_eq!(parse(&apdu), Ok(Apdu::AssociationResponse(aare)));
        }

        #[test]
        fn mutated_association_apdus_never_panic(at in any::<prop::sample::Index>(), byte: u8) {
            for mut apdu in [emitted(|out| aarq().emit(out)), emitted(|out| aare().emit(out))] {
                let at = at.index(apdu.len());
                apdu[at] = byte;
                if let Err(error) = parse(&apdu) {
                    prop_assert!(error.offset <= apdu.len());
                }
            }
        }
    }
}
