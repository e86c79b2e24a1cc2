//! APDUs as borrowed views: pushes, associations, and the services that read, write and invoke.
//!
//! | tag | APDU | layout after the tag |
//! |---|---|---|
//! | 01, 08 | initiate-request, -response | see [`initiate`] |
//! | 0E | confirmed-service-error | service, category, value |
//! | 0F | data-notification | long invoke id (4), date-time, data |
//! | 10 | data-notification-confirm | long invoke id (4), date-time |
//! | 21–5F, C8–D7 | one service, ciphered | see [`ciphered`] |
//! | 60–63 | AARQ, AARE, RLRQ, RLRE | see [`acse`] |
//! | C0, C4 | get-request, get-response | kind, invoke id, … |
//! | C1, C5 | set-request, set-response | kind, invoke id, … |
//! | C2 | event-notification-request | time, attribute, data |
//! | C3, C7 | action-request, action-response | kind, invoke id, … |
//! | D8 | exception-response | state, service, counter if that is at fault |
//! | DB | general-glo-ciphering | system title, ciphered content (both with a length) |
//! | DC, DD | general-ded-, general-ciphering | see [`ciphered`] |
//! | E0 | general-block-transfer | see [`block_transfer`] |
//!
//! The date-time of a push is an octet-string that is empty when absent. Some meters write it with its data
//! tag (`09 0C` and 12 bytes); that is read too. Every other tag is [`ErrorKind::UnsupportedApdu`]: an error
//! value, never a panic. After [`parse`] no accessor can fail.
//!
//! A push has two types, the view and the head that is written. A service has one: what can vary in it is
//! [`Data`](crate::axdr::Data) that was checked, a [`List`] that was checked or is to be written, or an enum that keeps what it
//! does not know, so that one type can hold all that is received and nothing that makes no sense to send.

pub mod acse;
pub mod block_transfer;
pub mod ciphered;
pub mod initiate;

pub(crate) mod event;
pub(crate) mod field;

mod action;
mod ber;
mod descriptor;
mod error;
mod get;
#[cfg(test)]
mod golden;
mod list;
mod notification;
mod result;
mod selective;
mod set;

pub use action::{ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse, ActionResponseBody};
pub use descriptor::{AttributeDescriptor, DataBlock, InvokeId, MethodDescriptor, SelectedAttribute};
pub use error::{ConfirmedServiceError, ExceptionResponse, ServiceError};
pub use event::EventNotification;
pub use get::{GetBlock, GetRequest, GetRequestBody, GetResponse, GetResponseBody, GetResult};
pub use list::{List, ListIter, Pairs};
pub use notification::{
    DataNotification, DataNotificationRepr, LongInvokeId, emit_data_notification_confirm,
};
pub use result::{
    ActionResult, ConfirmedService, DataAccessResult, InitiateError, ServiceErrorCategory, StateError,
};
pub use selective::SelectiveAccess;
pub use set::{SetRequest, SetRequestBody, SetResponse, SetResponseBody};

use alloc::vec::Vec;
use core::fmt;

pub use self::block_transfer::GeneralBlockTransfer;
use crate::axdr::Known;
use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};
use crate::security::SecurityControl;

use acse::{AARE, AARQ, Aare, Aarq, RLRE, RLRQ, Rlre, Rlrq};
use ciphered::{Ciphered, GENERAL_CIPHERING, GENERAL_DED, GeneralCiphering, GeneralDed};
use initiate::{INITIATE_REQUEST, INITIATE_RESPONSE, InitiateRequest, InitiateResponse};

/// Tag of a confirmed-service-error.
pub const CONFIRMED_SERVICE_ERROR: u8 = 0x0e;
/// Tag of a data-notification.
pub const DATA_NOTIFICATION: u8 = 0x0f;
/// Tag of a data-notification-confirm.
pub const DATA_NOTIFICATION_CONFIRM: u8 = 0x10;
/// Tag of a get-request.
pub const GET_REQUEST: u8 = 0xc0;
/// Tag of a set-request.
pub const SET_REQUEST: u8 = 0xc1;
/// Tag of an event-notification-request.
pub const EVENT_NOTIFICATION_REQUEST: u8 = 0xc2;
/// Tag of an action-request.
pub const ACTION_REQUEST: u8 = 0xc3;
/// Tag of a get-response.
pub const GET_RESPONSE: u8 = 0xc4;
/// Tag of a set-response.
pub const SET_RESPONSE: u8 = 0xc5;
/// Tag of an action-response.
pub const ACTION_RESPONSE: u8 = 0xc7;
/// Tag of an exception-response.
pub const EXCEPTION_RESPONSE: u8 = 0xd8;
/// Tag of a general-glo-ciphering APDU.
pub const GENERAL_GLO: u8 = 0xdb;
/// Tag of a block of a general-block-transfer.
pub const GENERAL_BLOCK_TRANSFER: u8 = 0xe0;

/// Bytes of a system title.
pub const SYSTEM_TITLE_LEN: usize = 8;

/// One APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apdu<'a> {
    /// What the client proposes for an association.
    InitiateRequest(InitiateRequest<'a>),
    /// What the server agrees to.
    InitiateResponse(InitiateResponse),
    /// A refusal of a service that the meter knows.
    ConfirmedServiceError(ConfirmedServiceError),
    /// A push in the clear.
    DataNotification(DataNotification<'a>),
    /// The receipt of a confirmed push.
    DataNotificationConfirm(LongInvokeId),
    /// Asks for attributes.
    GetRequest(GetRequest<'a>),
    /// Asks to write attributes.
    SetRequest(SetRequest<'a>),
    /// A value that a meter tells by itself.
    EventNotification(EventNotification<'a>),
    /// Asks to invoke methods.
    ActionRequest(ActionRequest<'a>),
    /// What was read.
    GetResponse(GetResponse<'a>),
    /// What came of writing.
    SetResponse(SetResponse<'a>),
    /// What came of invoking.
    ActionResponse(ActionResponse<'a>),
    /// A request that the meter could not take in.
    ExceptionResponse(ExceptionResponse),
    /// One service, ciphered; see [`security::association`](crate::security::association).
    Ciphered(Ciphered<'a>),
    /// A request to open an association.
    AssociationRequest(Aarq<'a>),
    /// The answer to it.
    AssociationResponse(Aare<'a>),
    /// A request to release an association.
    ReleaseRequest(Rlrq<'a>),
    /// The answer to it.
    ReleaseResponse(Rlre<'a>),
    /// A ciphered APDU; see [`security::open`](crate::security::open).
    GeneralGlo(GeneralGlo<'a>),
    /// The same with the dedicated key of an association.
    GeneralDed(GeneralDed<'a>),
    /// A ciphered APDU that says which key it is protected with.
    GeneralCiphering(GeneralCiphering<'a>),
    /// A block of an APDU; see [`block_transfer::Assembly`].
    GeneralBlockTransfer(GeneralBlockTransfer<'a>),
}

/// Parses one whole APDU.
///
/// ```
/// # use codec::apdu::{self, Apdu, GetResponseBody};
/// # use codec::axdr::Value;
/// let Apdu::GetResponse(response) = apdu::parse(&[0xc4, 1, 0xc1, 0, 0x12, 0x01, 0xf4])? else { panic!() };
/// let GetResponseBody::Normal(Ok(data)) = response.body else { panic!() };
/// assert_eq!(data.value(), Value::U16(500));
/// assert_eq!(apdu::parse(&[0xc4, 1, 0xc1, 0, 0x12, 0x01]).unwrap_err().to_string(), "truncated at byte 5");
/// # Ok::<(), codec::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::UnsupportedApdu`] for any other service, [`ErrorKind::TrailingBytes`] when something
/// follows, and whatever is wrong with the fields; the offset is from the start of `apdu`.
pub fn parse(apdu: &[u8]) -> Result<Apdu<'_>, Error> {
    parse_with_title(apdu, None)
}

/// As [`parse`]: the same results; the body of a push is not walked where one of the same structure was checked before.
///
/// # Errors
/// As [`parse`].
pub fn parse_known<'a>(apdu: &'a [u8], known: &mut Known) -> Result<Apdu<'a>, Error> {
    let mut cursor = Cursor::new(apdu);
    match cursor.u8()? {
        DATA_NOTIFICATION => {
            DataNotification::parse_with(cursor, |body| known.parse(body)).map(Apdu::DataNotification)
        }
        _ => parse(apdu),
    }
}

/// As [`parse`]; `known_title` stands in for a system title that a ciphered APDU leaves out, as one may whose sender is
/// known from the line.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_title<'a>(
    apdu: &'a [u8],
    known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
) -> Result<Apdu<'a>, Error> {
    let mut cursor = Cursor::new(apdu);
    match cursor.u8()? {
        INITIATE_REQUEST => InitiateRequest::parse(cursor).map(Apdu::InitiateRequest),
        INITIATE_RESPONSE => InitiateResponse::parse(cursor).map(Apdu::InitiateResponse),
        CONFIRMED_SERVICE_ERROR => ConfirmedServiceError::parse(cursor).map(Apdu::ConfirmedServiceError),
        DATA_NOTIFICATION => DataNotification::parse(cursor).map(Apdu::DataNotification),
        DATA_NOTIFICATION_CONFIRM => notification::parse_confirm(cursor).map(Apdu::DataNotificationConfirm),
        AARQ => Aarq::parse(cursor).map(Apdu::AssociationRequest),
        AARE => Aare::parse(cursor).map(Apdu::AssociationResponse),
        RLRQ => Rlrq::parse(cursor).map(Apdu::ReleaseRequest),
        RLRE => Rlre::parse(cursor).map(Apdu::ReleaseResponse),
        GET_REQUEST => GetRequest::parse(cursor).map(Apdu::GetRequest),
        SET_REQUEST => SetRequest::parse(cursor).map(Apdu::SetRequest),
        EVENT_NOTIFICATION_REQUEST => EventNotification::parse(cursor).map(Apdu::EventNotification),
        ACTION_REQUEST => ActionRequest::parse(cursor).map(Apdu::ActionRequest),
        GET_RESPONSE => GetResponse::parse(cursor).map(Apdu::GetResponse),
        SET_RESPONSE => SetResponse::parse(cursor).map(Apdu::SetResponse),
        ACTION_RESPONSE => ActionResponse::parse(cursor).map(Apdu::ActionResponse),
        EXCEPTION_RESPONSE => ExceptionResponse::parse(cursor).map(Apdu::ExceptionResponse),
        GENERAL_GLO => GeneralGlo::parse(cursor, known_title).map(Apdu::GeneralGlo),
        GENERAL_DED => GeneralDed::parse(cursor, known_title).map(Apdu::GeneralDed),
        GENERAL_CIPHERING => GeneralCiphering::parse(cursor, known_title).map(Apdu::GeneralCiphering),
        GENERAL_BLOCK_TRANSFER => GeneralBlockTransfer::parse(cursor).map(Apdu::GeneralBlockTransfer),
        tag if ciphered::is_service(tag) => Ciphered::parse(tag, cursor).map(Apdu::Ciphered),
        other => Err(Error::new(ErrorKind::UnsupportedApdu(other), 0)),
    }
}

fn finished(cursor: &Cursor<'_>) -> Result<(), Error> {
    if cursor.remaining() == 0 { Ok(()) } else { Err(cursor.error(ErrorKind::TrailingBytes)) }
}

/// A general-glo-ciphering APDU: protected with the global key of the sender that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralGlo<'a> {
    system_title: &'a [u8; SYSTEM_TITLE_LEN],
    security_control: SecurityControl,
    invocation_counter: u32,
    ciphered: &'a [u8],
    ciphered_offset: usize,
}

impl<'a> GeneralGlo<'a> {
    fn parse(mut cursor: Cursor<'a>, known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>) -> Result<Self, Error> {
        let system_title = system_title(&mut cursor, known_title)?;
        let length = cursor.length()?;
        let mut content = cursor.split(length)?;
        finished(&cursor)?;
        let security_control = SecurityControl(content.u8()?);
        let invocation_counter = content.u32()?;
        Ok(Self {
            system_title,
            security_control,
            invocation_counter,
            ciphered: content.rest(),
            ciphered_offset: content.position(),
        })
    }

    /// The 8 bytes that name the sender.
    #[must_use]
    pub const fn system_title(&self) -> &'a [u8] {
        self.system_title
    }

    /// The same as an array.
    pub(crate) const fn title(&self) -> &'a [u8; SYSTEM_TITLE_LEN] {
        self.system_title
    }

    /// How the content is protected.
    #[must_use]
    pub const fn security_control(&self) -> SecurityControl {
        self.security_control
    }

    /// The sender's counter, never to be seen twice with one key.
    #[must_use]
    pub const fn invocation_counter(&self) -> u32 {
        self.invocation_counter
    }

    /// What follows the security control and the counter: content, then the tag if there is one.
    #[must_use]
    pub const fn ciphered(&self) -> &'a [u8] {
        self.ciphered
    }

    /// Where the content starts in the APDU.
    pub(crate) const fn ciphered_offset(&self) -> usize {
        self.ciphered_offset
    }
}

impl fmt::Display for GeneralGlo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (control, counter) = (self.security_control, self.invocation_counter);
        write!(f, "general-glo-ciphering {control} counter {counter}")
    }
}

fn system_title<'a>(
    cursor: &mut Cursor<'a>,
    known: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
) -> Result<&'a [u8; SYSTEM_TITLE_LEN], Error> {
    let at = *cursor;
    let length = cursor.length()?;
    match (length, known) {
        (SYSTEM_TITLE_LEN, _) => cursor.array(),
        (0, Some(known)) => Ok(known),
        (0, None) => Err(at.error(ErrorKind::SystemTitleMissing)),
        (other, _) => Err(at.error(ErrorKind::SystemTitleLength(other))),
    }
}

/// Appends the head of a general-glo-ciphering APDU; `content` bytes have to follow.
pub(crate) fn emit_general_glo_head(
    system_title: &[u8; SYSTEM_TITLE_LEN],
    control: SecurityControl,
    counter: u32,
    content: usize,
    out: &mut Vec<u8>,
) {
    out.push(GENERAL_GLO);
    out.push(SYSTEM_TITLE_LEN as u8);
    out.extend_from_slice(system_title);
    write_length(size_of_val(&control.0) + size_of_val(&counter) + content, out);
    out.push(control.0);
    out.extend_from_slice(&counter.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    fn glo(title: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = vec![GENERAL_GLO, title.len() as u8];
        out.extend_from_slice(title);
        write_length(content.len(), &mut out);
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn the_services_make_a_push_at_most_a_word_larger_to_hand_over() {
        assert!(size_of::<Apdu<'_>>() <= size_of::<DataNotification<'_>>() + size_of::<usize>());
    }

    #[track_caller]
    fn refused(apdu: &[u8], kind: ErrorKind, offset: usize) {
        assert_eq!(parse(apdu), Err(Error::new(kind, offset)), "{apdu:02x?}");
    }

    #[test]
    fn a_ciphered_apdu_shows_its_head() {
        let title = *b"HXE\0\0\0\0\x05";
        let apdu = glo(&title, &[0x30, 0, 0, 0, 15, 1, 2, 3]);
        let Apdu::GeneralGlo(glo) = parse(&apdu).unwrap() else {
            panic!("not general-glo-ciphering");
        };
        assert_eq!(glo.system_title(), title);
        assert_eq!(glo.security_control(), SecurityControl::AUTHENTICATED_ENCRYPTED);
        assert_eq!((glo.invocation_counter(), glo.ciphered()), (15, &[1, 2, 3][..]));
        assert_eq!(&apdu[glo.ciphered_offset()..], [1, 2, 3]);
        assert_eq!(glo.to_string(), "general-glo-ciphering 0x30 counter 15");
    }

    #[test]
    fn a_ciphered_apdu_without_a_whole_head_is_refused() {
        let content = [0x30, 0, 0, 0, 15, 1, 2, 3];
        refused(&glo(&[], &content), ErrorKind::SystemTitleMissing, 1);
        refused(&glo(&[1; 7], &content), ErrorKind::SystemTitleLength(7), 1);
        refused(&glo(&[1; 9], &content), ErrorKind::SystemTitleLength(9), 1);
        for short in 0..5 {
            let error = parse(&glo(&[1; 8], &content[..short])).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Truncated, "{short} bytes of content");
        }
        let mut apdu = glo(&[1; 8], &content);
        for cut in 0..apdu.len() {
            assert!(parse(&apdu[..cut]).is_err(), "cut at {cut}");
        }
        apdu.push(0);
        refused(&apdu, ErrorKind::TrailingBytes, 19);
    }

    #[test]
    fn every_other_service_is_refused_by_name() {
        let supported = [
            &[INITIATE_REQUEST, INITIATE_RESPONSE, DATA_NOTIFICATION, DATA_NOTIFICATION_CONFIRM][..],
            &[AARQ, AARE, RLRQ, RLRE, GENERAL_GLO, GENERAL_DED, GENERAL_CIPHERING],
            &[GENERAL_BLOCK_TRANSFER],
            &[CONFIRMED_SERVICE_ERROR, EXCEPTION_RESPONSE, EVENT_NOTIFICATION_REQUEST],
            &[GET_REQUEST, SET_REQUEST, ACTION_REQUEST, GET_RESPONSE, SET_RESPONSE, ACTION_RESPONSE],
        ]
        .concat();
        for tag in (0..=0xff).filter(|tag| !supported.contains(tag) && !ciphered::is_service(*tag)) {
            refused(&[tag, 0, 0, 0, 0, 0, 0], ErrorKind::UnsupportedApdu(tag), 0);
        }
        refused(&[], ErrorKind::Truncated, 0);
    }

    proptest! {
        #[test]
        fn random_apdus_never_panic(
            tag in prop::sample::select(&[DATA_NOTIFICATION, DATA_NOTIFICATION_CONFIRM, GENERAL_GLO][..]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut apdu = vec![tag];
            apdu.extend_from_slice(&bytes);
            let _ = parse(&apdu);
            let _ = parse(&bytes);
        }
    }
}
