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
