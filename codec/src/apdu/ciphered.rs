//! Ciphered APDUs of an association: one service each, or any APDU with the title of its sender.
//!
//! | tag | APDU | layout after the tag |
//! |---|---|---|
//! | 21–38, C8–CF | glo-*: a service under the global key | ciphered content |
//! | 41–58, D0–D7 | ded-*: the same under the dedicated key | ciphered content |
//! | DC | general-ded-ciphering | system title, ciphered content |
//! | DD | general-ciphering | transaction, originator, recipient, date-time, other information, key, ciphered content |
//!
//! Ciphered content is a length, a security control, a counter and the payload. The payload is not given
//! out: what it says is known when [`security::association`](crate::security::association) has verified it.

use alloc::vec::Vec;
use core::fmt;

use super::{GeneralGlo, SYSTEM_TITLE_LEN, finished, system_title};
use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};
use crate::security::SecurityControl;

/// Tag of a general-ded-ciphering APDU.
pub const GENERAL_DED: u8 = 0xdc;
/// Tag of a general-ciphering APDU.
pub const GENERAL_CIPHERING: u8 = 0xdd;

/// Whose key a service-specific APDU is protected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The global key of the meter: glo-*.
    Global,
    /// The dedicated key of the association: ded-*.
    Dedicated,
}

macro_rules! services {
    ($($(#[$what:meta])* $variant:ident = $plain:literal, $global:literal, $dedicated:literal, $words:literal;)*) => {
        /// A service that has ciphered forms of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Service {
            $($(#[$what])* $variant,)*
        }

        impl Service {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The service whose APDU in the clear has this tag.
            #[must_use]
            pub const fn from_tag(tag: u8) -> Option<Self> {
                match tag {
                    $($plain => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Tag of its APDU in the clear.
            #[must_use]
            pub const fn tag(self) -> u8 {
                match self {
                    $(Self::$variant => $plain,)*
                }
            }

            /// The service and the scope that a ciphered tag means.
            #[must_use]
            pub const fn from_ciphered_tag(tag: u8) -> Option<(Scope, Self)> {
                match tag {
                    $($global => Some((Scope::Global, Self::$variant)),
                    $dedicated => Some((Scope::Dedicated, Self::$variant)),)*
                    _ => None,
                }
            }

            /// Tag of its ciphered APDU.
            #[must_use]
            pub const fn ciphered_tag(self, scope: Scope) -> u8 {
                match (scope, self) {
                    $((Scope::Global, Self::$variant) => $global,
                    (Scope::Dedicated, Self::$variant) => $dedicated,)*
                }
            }
        }

        impl fmt::Display for Service {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $words,)*
                })
            }
        }
    };
}

services! {
    /// Proposal for an association.
    InitiateRequest = 0x01, 0x21, 0x41, "initiate-request";
    /// Short names: read.
    ReadRequest = 0x05, 0x25, 0x45, "read-request";
    /// Short names: write.
    WriteRequest = 0x06, 0x26, 0x46, "write-request";
    /// What was agreed.
    InitiateResponse = 0x08, 0x28, 0x48, "initiate-response";
    /// Short names: what was read.
    ReadResponse = 0x0c, 0x2c, 0x4c, "read-response";
    /// Short names: what became of a write.
    WriteResponse = 0x0d, 0x2d, 0x4d, "write-response";
    /// A service that failed as a whole.
    ConfirmedServiceError = 0x0e, 0x2e, 0x4e, "confirmed-service-error";
    /// Short names: write without an answer.
    UnconfirmedWriteRequest = 0x16, 0x36, 0x56, "unconfirmed-write-request";
    /// Short names: report.
    InformationReportRequest = 0x18, 0x38, 0x58, "information-report-request";
    /// Get.
    GetRequest = 0xc0, 0xc8, 0xd0, "get-request";
    /// Set.
    SetRequest = 0xc1, 0xc9, 0xd1, "set-request";
    /// Event.
    EventNotificationRequest = 0xc2, 0xca, 0xd2, "event-notification-request";
    /// Action.
    ActionRequest = 0xc3, 0xcb, 0xd3, "action-request";
    /// What was got.
    GetResponse = 0xc4, 0xcc, 0xd4, "get-response";
    /// What became of a set.
    SetResponse = 0xc5, 0xcd, 0xd5, "set-response";
    /// What became of an action.
    ActionResponse = 0xc7, 0xcf, 0xd7, "action-response";
}

impl Service {
    /// Whether a peer says this because it was asked: an error may stand in its place.
    pub(crate) const fn is_answer(self) -> bool {
        match self {
            Self::InitiateResponse
            | Self::ReadResponse
            | Self::WriteResponse
            | Self::ConfirmedServiceError
            | Self::GetResponse
            | Self::SetResponse
            | Self::ActionResponse => true,
            Self::InitiateRequest
            | Self::ReadRequest
            | Self::WriteRequest
            | Self::UnconfirmedWriteRequest
            | Self::InformationReportRequest
            | Self::GetRequest
            | Self::SetRequest
            | Self::EventNotificationRequest
            | Self::ActionRequest => false,
        }
    }
}

/// Whether this is the tag of a service-specific ciphered APDU.
pub(super) const fn is_service(tag: u8) -> bool {
    Service::from_ciphered_tag(tag).is_some()
}

/// Security control, counter and payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    pub(crate) control: SecurityControl,
    pub(crate) counter: u32,
    /// Content, then the tag if there is one.
    pub(crate) payload: &'a [u8],
    /// Where the payload starts in the APDU.
    pub(crate) offset: usize,
}

impl<'a> Content<'a> {
    /// The rest of the APDU.
    fn last(cursor: &mut Cursor<'a>) -> Result<Self, Error> {
        let length = cursor.length()?;
        let mut content = cursor.split(length)?;
        finished(cursor)?;
        Ok(Self {
            control: SecurityControl(content.u8()?),
            counter: content.u32()?,
            payload: content.rest(),
            offset: content.position(),
        })
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {} counter {}", self.control, self.counter)
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} counter {}, {} bytes", self.control, self.counter, self.payload.len())
    }
}

/// Appends the head of ciphered content; `payload` bytes have to follow.
pub(crate) fn emit_content_head(control: SecurityControl, counter: u32, payload: usize, out: &mut Vec<u8>) {
    write_length(size_of_val(&control.0) + size_of_val(&counter) + payload, out);
    out.push(control.0);
    out.extend_from_slice(&counter.to_be_bytes());
}

/// One service, ciphered: glo-* or ded-*. Who sent it is known from the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ciphered<'a> {
    scope: Scope,
    service: Service,
    content: Content<'a>,
}

impl<'a> Ciphered<'a> {
    pub(super) fn parse(tag: u8, mut cursor: Cursor<'a>) -> Result<Self, Error> {
        let Some((scope, service)) = Service::from_ciphered_tag(tag) else {
            return Err(Error::new(ErrorKind::UnsupportedApdu(tag), 0));
        };
        Ok(Self { scope, service, content: Content::last(&mut cursor)? })
    }

    /// Which key protects it.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The service that it says to hold; anybody can change that byte.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// How the content is protected.
    #[must_use]
    pub const fn security_control(&self) -> SecurityControl {
        self.content.control
    }

    /// The sender's counter, never to be seen twice with one key.
    #[must_use]
    pub const fn invocation_counter(&self) -> u32 {
        self.content.counter
    }

    pub(crate) const fn content(&self) -> Content<'a> {
        self.content
    }

    /// The same content in the general form, from the sender with this title, to be opened by
    /// [`security::open`](crate::security::open). What is inside says which service it is.
    #[must_use]
    pub const fn as_general<'t>(&self, title: &'t [u8; SYSTEM_TITLE_LEN]) -> GeneralGlo<'t>
    where
        'a: 't,
    {
        GeneralGlo {
            system_title: title,
            security_control: self.content.control,
            invocation_counter: self.content.counter,
            ciphered: self.content.payload,
            ciphered_offset: self.content.offset,
        }
    }

    /// As in `glo-get-request`.
    pub(crate) const fn prefix(&self) -> &'static str {
        match self.scope {
            Scope::Global => "glo",
            Scope::Dedicated => "ded",
        }
    }
}

impl fmt::Display for Ciphered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.prefix(), self.service)?;
        self.content.describe(f)
    }
}

/// A general-ded-ciphering APDU: protected with the dedicated key of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralDed<'a> {
    system_title: &'a [u8; SYSTEM_TITLE_LEN],
    content: Content<'a>,
}

impl<'a> GeneralDed<'a> {
    pub(super) fn parse(
        mut cursor: Cursor<'a>,
        known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
    ) -> Result<Self, Error> {
        let system_title = system_title(&mut cursor, known_title)?;
        Ok(Self { system_title, content: Content::last(&mut cursor)? })
    }

    /// The 8 bytes that name the sender.
    #[must_use]
    pub const fn system_title(&self) -> &'a [u8; SYSTEM_TITLE_LEN] {
        self.system_title
    }

    /// How the content is protected.
    #[must_use]
    pub const fn security_control(&self) -> SecurityControl {
        self.content.control
    }

    /// The sender's counter, never to be seen twice with one key.
    #[must_use]
    pub const fn invocation_counter(&self) -> u32 {
        self.content.counter
    }

    pub(crate) const fn content(&self) -> Content<'a> {
        self.content
    }
}

impl fmt::Display for GeneralDed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("general-ded-ciphering")?;
        self.content.describe(f)
    }
}

/// The key that a general-ciphering APDU is protected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInfo<'a> {
    /// The global unicast encryption key (GUEK).
    Unicast,
    /// The global broadcast encryption key (GBEK).
    Broadcast,
    /// A key in the APDU, wrapped under the master key.
    Wrapped(&'a [u8]),
    /// A key that both sides derive.
    Agreed {
        /// How.
        parameters: &'a [u8],
        /// What is needed for it.
        data: &'a [u8],
    },
}

impl<'a> KeyInfo<'a> {
    fn parse(cursor: &mut Cursor<'a>) -> Result<Option<Self>, Error> {
        let mut choice = |known: u8| {
            let at = *cursor;
            let choice = cursor.u8()?;
            if choice <= known { Ok(choice) } else { Err(at.error(ErrorKind::KeyInfo(choice))) }
        };
        if choice(1)? == 0 {
            return Ok(None);
        }
        Ok(Some(match choice(2)? {
            0 if choice(1)? == 0 => Self::Unicast,
            0 => Self::Broadcast,
            1 => {
                choice(0)?;
                Self::Wrapped(octets(cursor)?)
            }
            _ => Self::Agreed { parameters: octets(cursor)?, data: octets(cursor)? },
        }))
    }
}

impl fmt::Display for KeyInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unicast => "global unicast encryption key",
            Self::Broadcast => "global broadcast encryption key",
            Self::Wrapped(_) => "wrapped key",
            Self::Agreed { .. } => "agreed key",
        })
    }
}

/// A general-ciphering APDU: says who sends to whom and with which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralCiphering<'a> {
    originator: &'a [u8; SYSTEM_TITLE_LEN],
    /// The five fields before the key, which the tag covers as they are.
    head: &'a [u8],
    /// Checked when parsed; read again when asked for, so that an APDU stays small to pass around.
    key_info: &'a [u8],
    content: Content<'a>,
}

impl<'a> GeneralCiphering<'a> {
    pub(super) fn parse(
        mut cursor: Cursor<'a>,
        known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
    ) -> Result<Self, Error> {
        let start = cursor;
        octets(&mut cursor)?;
        let originator = system_title(&mut cursor, known_title)?;
        for _recipient_time_and_other in 0..3 {
            octets(&mut cursor)?;
        }
        let head = cursor.since(&start);
        let key_at = cursor;
        KeyInfo::parse(&mut cursor)?;
        let key_info = cursor.since(&key_at);
        Ok(Self { originator, head, key_info, content: Content::last(&mut cursor)? })
    }

    fn field(&self, index: usize) -> &'a [u8] {
        let mut cursor = Cursor::new(self.head);
        let fields = core::iter::from_fn(|| octets(&mut cursor).ok());
        fields.take(5).nth(index).unwrap_or_default()
    }

    /// Which exchange it belongs to.
    #[must_use]
    pub fn transaction_id(&self) -> &'a [u8] {
        self.field(0)
    }

    /// The 8 bytes that name the sender.
    #[must_use]
    pub const fn originator(&self) -> &'a [u8; SYSTEM_TITLE_LEN] {
        self.originator
    }

    /// The title of who it is for; may be empty.
    #[must_use]
    pub fn recipient(&self) -> &'a [u8] {
        self.field(2)
    }

    /// When it was made; may be empty.
    #[must_use]
    pub fn date_time(&self) -> &'a [u8] {
        self.field(3)
    }

    /// Anything else; may be empty.
    #[must_use]
    pub fn other_information(&self) -> &'a [u8] {
        self.field(4)
    }

    /// The key, when the APDU says which.
    #[must_use]
    pub fn key_info(&self) -> Option<KeyInfo<'a>> {
        KeyInfo::parse(&mut Cursor::new(self.key_info)).ok().flatten()
    }

    /// How the content is protected.
    #[must_use]
    pub const fn security_control(&self) -> SecurityControl {
        self.content.control
    }

    /// The sender's counter, never to be seen twice with one key.
    #[must_use]
    pub const fn invocation_counter(&self) -> u32 {
        self.content.counter
    }

    pub(crate) const fn head(&self) -> &'a [u8] {
        self.head
    }

    pub(crate) const fn content(&self) -> Content<'a> {
        self.content
    }
}

impl fmt::Display for GeneralCiphering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("general-ciphering")?;
        self.content.describe(f)
    }
}

fn octets<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    let length = cursor.length()?;
    cursor.take(length)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::super::{Apdu, parse};
    use super::*;

    const CONTENT: [u8; 9] = [8, 0x30, 0, 0, 0, 15, 1, 2, 3];

    fn apdu(head: &[&[u8]]) -> Vec<u8> {
        let mut apdu = head.concat();
        apdu.extend_from_slice(&CONTENT);
        apdu
    }

    #[track_caller]
    fn all_cuts_refused(apdu: &[u8]) {
        for cut in 0..apdu.len() {
            assert!(parse(&apdu[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [apdu, &[0]].concat();
        assert_eq!(parse(&longer), Err(Error::new(ErrorKind::TrailingBytes, apdu.len())));
    }

    #[test]
    fn every_service_has_its_three_tags() {
        for &service in Service::ALL {
            let step = if service.tag() < 0x80 { 0x20 } else { 8 };
            assert_eq!(service.ciphered_tag(Scope::Global), service.tag() + step);
            assert_eq!(service.ciphered_tag(Scope::Dedicated), service.tag() + 2 * step);
            assert_eq!(Service::from_tag(service.tag()), Some(service));
            for scope in [Scope::Global, Scope::Dedicated] {
                let tag = service.ciphered_tag(scope);
                assert_eq!(Service::from_ciphered_tag(tag), Some((scope, service)));
                let bytes = apdu(&[&[tag]]);
                let Ok(Apdu::Ciphered(ciphered)) = parse(&bytes) else {
                    panic!("not ciphered");
                };
                assert_eq!((ciphered.scope(), ciphered.service()), (scope, service));
                assert_eq!(ciphered.security_control(), SecurityControl::AUTHENTICATED_ENCRYPTED);
                assert_eq!(ciphered.invocation_counter(), 15);
                assert_eq!((ciphered.content().payload, ciphered.content().offset), (&[1, 2, 3][..], 7));
                all_cuts_refused(&bytes);
            }
        }
        assert_eq!(Service::from_ciphered_tag(0xce), None);
        let shown = parse(&apdu(&[&[0xc8]])).map(|apdu| match apdu {
            Apdu::Ciphered(ciphered) => ciphered.to_string(),
            _ => panic!("not ciphered"),
        });
        assert_eq!(shown, Ok("glo-get-request 0x30 counter 15".to_string()));
    }

    #[test]
    fn a_general_ded_apdu_shows_its_head() {
        let bytes = apdu(&[&[GENERAL_DED, 8], b"HXE00005"]);
        let Ok(Apdu::GeneralDed(ded)) = parse(&bytes) else {
            panic!("not general-ded-ciphering");
        };
        assert_eq!((ded.system_title(), ded.invocation_counter()), (b"HXE00005", 15));
        assert_eq!(ded.to_string(), "general-ded-ciphering 0x30 counter 15");
        all_cuts_refused(&bytes);
    }

    #[test]
    fn a_general_ciphering_apdu_shows_its_fields_and_its_key() {
        let head: [&[u8]; 7] =
            [&[GENERAL_CIPHERING], &[2, 7, 7], &[8], b"HXE00005", &[8], b"MMM00001", &[0, 1, 9]];
        let wrapped = [&[1, 1, 0, 24][..], &[6; 24]].concat();
        for (key, expected) in [
            (&[0][..], None),
            (&[1, 0, 0], Some(KeyInfo::Unicast)),
            (&[1, 0, 1], Some(KeyInfo::Broadcast)),
            (&wrapped, Some(KeyInfo::Wrapped(&[6; 24]))),
            (&[1, 2, 1, 2, 2, 3, 4], Some(KeyInfo::Agreed { parameters: &[2], data: &[3, 4] })),
        ] {
            let bytes = apdu(&[&head.concat(), key]);
            let Ok(Apdu::GeneralCiphering(general)) = parse(&bytes) else {
                panic!("not general-ciphering");
            };
            assert_eq!(general.transaction_id(), [7, 7]);
            assert_eq!((general.originator(), general.recipient()), (b"HXE00005", &b"MMM00001"[..]));
            assert_eq!((general.date_time(), general.other_information()), (&[][..], &[9][..]));
            assert_eq!(general.key_info(), expected);
            assert_eq!((general.head(), general.invocation_counter()), (&bytes[1..25], 15));
            all_cuts_refused(&bytes);
        }
        for (key, at, kind) in [
            (&[2][..], 25, ErrorKind::KeyInfo(2)),
            (&[1, 3], 26, ErrorKind::KeyInfo(3)),
            (&[1, 0, 2], 27, ErrorKind::KeyInfo(2)),
            (&[1, 1, 1], 27, ErrorKind::KeyInfo(1)),
        ] {
            assert_eq!(parse(&apdu(&[&head.concat(), key])), Err(Error::new(kind, at)));
        }
        let missing = parse(&[GENERAL_CIPHERING, 0, 0, 0, 0, 0, 0]);
        assert_eq!(missing, Err(Error::new(ErrorKind::SystemTitleMissing, 2)));
    }
}
