//! APDUs, as borrowed views: those of the push path here, the others in files of their own.
//!
//! | tag | APDU | layout after the tag |
//! |---|---|---|
//! | 01, 08 | initiate-request, -response | see [`initiate`] |
//! | 0F | data-notification | long invoke id (4), date-time, data |
//! | 10 | data-notification-confirm | long invoke id (4), date-time |
//! | 21–5F, C8–D7 | one service, ciphered | see [`ciphered`] |
//! | 60–63 | AARQ, AARE, RLRQ, RLRE | see [`acse`] |
//! | DB | general-glo-ciphering | system title, ciphered content (both with a length) |
//! | DC, DD | general-ded-, general-ciphering | see [`ciphered`] |
//!
//! The date-time is an octet-string that is empty when absent. Some meters write it with its data tag
//! (`09 0C` and 12 bytes); that is read too. Every other tag is [`ErrorKind::UnsupportedApdu`]: an error
//! value, never a panic. After [`parse`] no accessor can fail.

use alloc::vec::Vec;
use core::fmt;

use crate::axdr::{self, DateTime, Value, tag};
use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};
use crate::security::SecurityControl;

mod ber;

pub mod acse;
pub mod ciphered;
pub mod initiate;

use acse::{AARE, AARQ, Aare, Aarq, RLRE, RLRQ, Rlre, Rlrq};
use ciphered::{Ciphered, GENERAL_CIPHERING, GENERAL_DED, GeneralCiphering, GeneralDed};
use initiate::{INITIATE_REQUEST, INITIATE_RESPONSE, InitiateRequest, InitiateResponse};

/// Tag of a data-notification.
pub const DATA_NOTIFICATION: u8 = 0x0f;
/// Tag of a data-notification-confirm.
pub const DATA_NOTIFICATION_CONFIRM: u8 = 0x10;
/// Tag of a general-glo-ciphering APDU.
pub const GENERAL_GLO: u8 = 0xdb;

/// Bytes of a system title.
pub const SYSTEM_TITLE_LEN: usize = 8;

/// One APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apdu<'a> {
    /// What the client proposes for an association.
    InitiateRequest(InitiateRequest<'a>),
    /// What the server agrees to.
    InitiateResponse(InitiateResponse),
    /// A push in the clear.
    DataNotification(DataNotification<'a>),
    /// The receipt of a confirmed push.
    DataNotificationConfirm(LongInvokeId),
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
}

/// Parses one whole APDU.
///
/// # Errors
/// [`ErrorKind::UnsupportedApdu`] for any other service, [`ErrorKind::TrailingBytes`] when something
/// follows, and whatever is wrong with the fields; the offset is from the start of `apdu`.
pub fn parse(apdu: &[u8]) -> Result<Apdu<'_>, Error> {
    parse_with_title(apdu, None)
}

/// As [`parse`]; `known_title` stands in for a system title that a ciphered APDU leaves out.
pub(crate) fn parse_with_title<'a>(
    apdu: &'a [u8],
    known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
) -> Result<Apdu<'a>, Error> {
    let mut cursor = Cursor::new(apdu);
    match cursor.u8()? {
        INITIATE_REQUEST => InitiateRequest::parse(cursor).map(Apdu::InitiateRequest),
        INITIATE_RESPONSE => InitiateResponse::parse(cursor).map(Apdu::InitiateResponse),
        DATA_NOTIFICATION => DataNotification::parse(cursor).map(Apdu::DataNotification),
        DATA_NOTIFICATION_CONFIRM => parse_confirm(cursor).map(Apdu::DataNotificationConfirm),
        AARQ => Aarq::parse(cursor).map(Apdu::AssociationRequest),
        AARE => Aare::parse(cursor).map(Apdu::AssociationResponse),
        RLRQ => Rlrq::parse(cursor).map(Apdu::ReleaseRequest),
        RLRE => Rlre::parse(cursor).map(Apdu::ReleaseResponse),
        GENERAL_GLO => GeneralGlo::parse(cursor, known_title).map(Apdu::GeneralGlo),
        GENERAL_DED => GeneralDed::parse(cursor, known_title).map(Apdu::GeneralDed),
        GENERAL_CIPHERING => GeneralCiphering::parse(cursor, known_title).map(Apdu::GeneralCiphering),
        tag if ciphered::is_service(tag) => Ciphered::parse(tag, cursor).map(Apdu::Ciphered),
        other => Err(Error::new(ErrorKind::UnsupportedApdu(other), 0)),
    }
}

fn finished(cursor: &Cursor<'_>) -> Result<(), Error> {
    if cursor.remaining() == 0 { Ok(()) } else { Err(cursor.error(ErrorKind::TrailingBytes)) }
}

/// The long-invoke-id-and-priority of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LongInvokeId(pub u32);

impl LongInvokeId {
    const CONFIRMED: u32 = 1 << 30;
    const HIGH_PRIORITY: u32 = 1 << 31;
    const ID: u32 = 0x00ff_ffff;

    /// An id (its low 24 bits count) with the two flags that a push uses.
    #[must_use]
    pub const fn new(id: u32, confirmed: bool, high_priority: bool) -> Self {
        let mut raw = id & Self::ID;
        if confirmed {
            raw |= Self::CONFIRMED;
        }
        if high_priority {
            raw |= Self::HIGH_PRIORITY;
        }
        Self(raw)
    }

    /// The 24 bits that identify the invocation.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.0 & Self::ID
    }

    /// The sender waits for a data-notification-confirm.
    #[must_use]
    pub const fn confirmed(&self) -> bool {
        self.0 & Self::CONFIRMED != 0
    }

    /// The sender asks for high priority.
    #[must_use]
    pub const fn high_priority(&self) -> bool {
        self.0 & Self::HIGH_PRIORITY != 0
    }
}

impl fmt::Display for LongInvokeId {
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

/// A push: when it was made and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataNotification<'a> {
    invoke_id: LongInvokeId,
    date_time: Option<DateTime>,
    body: Value<'a>,
    body_offset: usize,
}

impl<'a> DataNotification<'a> {
    fn parse(mut cursor: Cursor<'a>) -> Result<Self, Error> {
        let invoke_id = LongInvokeId(cursor.u32()?);
        let date_time = optional_date_time(&mut cursor)?;
        let body_offset = cursor.position();
        let (body, rest) = axdr::parse(cursor.rest()).map_err(|error| error.shifted(body_offset))?;
        cursor.take(cursor.remaining() - rest.len())?;
        finished(&cursor)?;
        Ok(Self { invoke_id, date_time, body, body_offset })
    }

    /// Invoke id, and whether a receipt is awaited.
    #[must_use]
    pub const fn invoke_id(&self) -> LongInvokeId {
        self.invoke_id
    }

    /// Time of the notification, when the meter gives one.
    #[must_use]
    pub const fn date_time(&self) -> Option<DateTime> {
        self.date_time
    }

    /// What is notified.
    #[must_use]
    pub const fn body(&self) -> Value<'a> {
        self.body
    }

    /// Where the body starts in the APDU.
    pub(crate) const fn body_offset(&self) -> usize {
        self.body_offset
    }
}

impl fmt::Display for DataNotification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data-notification {}", self.invoke_id)
    }
}

fn optional_date_time(cursor: &mut Cursor<'_>) -> Result<Option<DateTime>, Error> {
    let at = *cursor;
    let length = match cursor.u8()? {
        0 => return Ok(None),
        tag::OCTET_STRING => cursor.u8()?,
        length => length,
    };
    if length != 12 {
        return Err(at.error(ErrorKind::DateTimeLength(length)));
    }
    Ok(Some(DateTime(*cursor.array()?)))
}

/// The head of a push to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataNotificationRepr {
    /// Invoke id and flags.
    pub invoke_id: LongInvokeId,
    /// Time of the notification.
    pub date_time: Option<DateTime>,
}

impl DataNotificationRepr {
    /// What a parsed push says, without its body.
    #[must_use]
    pub const fn parse(notification: &DataNotification<'_>) -> Self {
        Self { invoke_id: notification.invoke_id, date_time: notification.date_time }
    }

    /// Appends the APDU with `body`, one encoded value, to `out`.
    pub fn emit(&self, body: &[u8], out: &mut Vec<u8>) {
        out.push(DATA_NOTIFICATION);
        out.extend_from_slice(&self.invoke_id.0.to_be_bytes());
        match self.date_time {
            Some(DateTime(bytes)) => {
                out.push(bytes.len() as u8);
                out.extend_from_slice(&bytes);
            }
            None => out.push(0),
        }
        out.extend_from_slice(body);
    }
}

/// The date-time of the receipt is an octet-string; senders that leave it out altogether are understood.
fn parse_confirm(mut cursor: Cursor<'_>) -> Result<LongInvokeId, Error> {
    let invoke_id = LongInvokeId(cursor.u32()?);
    if cursor.remaining() > 0 {
        optional_date_time(&mut cursor)?;
    }
    finished(&cursor)?;
    Ok(invoke_id)
}

/// Appends the receipt of the push with this invoke id, without a time (an empty octet-string).
pub fn emit_data_notification_confirm(id: LongInvokeId, out: &mut Vec<u8>) {
    out.push(DATA_NOTIFICATION_CONFIRM);
    out.extend_from_slice(&id.0.to_be_bytes());
    out.push(0);
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
    use crate::axdr::Writer;

    const TIME: DateTime = DateTime::new(2026, 6, 2, 2, 0, 0, 15, 0, -330, 0);

    fn notification(date_time: Option<DateTime>) -> Vec<u8> {
        let mut body = vec![];
        Writer::new(&mut body).structure(2).u32(7).null();
        let invoke_id = LongInvokeId::new(0x14_f491, true, false);
        let mut out = vec![];
        DataNotificationRepr { invoke_id, date_time }.emit(&body, &mut out);
        out
    }

    fn glo(title: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = vec![GENERAL_GLO, title.len() as u8];
        out.extend_from_slice(title);
        write_length(content.len(), &mut out);
        out.extend_from_slice(content);
        out
    }

    #[track_caller]
    fn refused(apdu: &[u8], kind: ErrorKind, offset: usize) {
        assert_eq!(parse(apdu), Err(Error::new(kind, offset)), "{apdu:02x?}");
    }

    #[test]
    fn a_push_reads_back_with_and_without_its_time() {
        for date_time in [None, Some(TIME)] {
            let apdu = notification(date_time);
            let Apdu::DataNotification(push) = parse(&apdu).unwrap() else {
                panic!("not a data-notification");
            };
            assert_eq!(push.date_time(), date_time);
            assert_eq!(push.invoke_id().id(), 0x14_f491);
            assert!(push.invoke_id().confirmed());
            assert!(!push.invoke_id().high_priority());
            let Value::Structure(elements) = push.body() else {
                panic!("not a structure");
            };
            assert!(elements.iter().eq([Value::U32(7), Value::Null]));
            assert_eq!(push.to_string(), "data-notification 1373329 confirmed");
        }
    }

    #[test]
    fn a_time_with_its_data_tag_is_read_too() {
        let mut apdu = notification(Some(TIME));
        apdu.insert(5, tag::OCTET_STRING);
        let Apdu::DataNotification(push) = parse(&apdu).unwrap() else {
            panic!("not a data-notification");
        };
        assert_eq!(push.date_time(), Some(TIME));
    }

    #[test]
    fn a_time_of_another_length_is_refused() {
        let mut apdu = notification(Some(TIME));
        apdu[5] = 11;
        refused(&apdu, ErrorKind::DateTimeLength(11), 5);
        refused(&[0x0f, 0, 0, 0, 1, 9, 5, 1, 1, 1, 1, 1, 0], ErrorKind::DateTimeLength(5), 5);
    }

    #[test]
    fn every_cut_of_a_push_is_refused_and_so_is_what_follows_it() {
        let mut apdu = notification(Some(TIME));
        for cut in 0..apdu.len() {
            let error = parse(&apdu[..cut]).unwrap_err();
            assert!(
                matches!(error.kind, ErrorKind::Truncated | ErrorKind::CountTooLarge(_)),
                "cut at {cut}: {error}"
            );
        }
        apdu.push(0);
        let end = apdu.len() - 1;
        refused(&apdu, ErrorKind::TrailingBytes, end);
    }

    #[test]
    fn a_fault_in_the_body_is_named_at_its_byte_of_the_apdu() {
        let mut apdu = notification(Some(TIME));
        let last = apdu.len() - 1;
        apdu[last] = 0x77;
        refused(&apdu, ErrorKind::UnknownTag(0x77), last);
    }

    #[test]
    fn a_receipt_reads_back_with_and_without_its_time_field() {
        let id = LongInvokeId::new(0x00ab_cdef, true, true);
        let mut out = vec![0xa5; 16];
        out.truncate(2);
        emit_data_notification_confirm(id, &mut out);
        assert_eq!(out, [0xa5, 0xa5, 0x10, 0xc0, 0xab, 0xcd, 0xef, 0]);
        let confirm = Ok(Apdu::DataNotificationConfirm(id));
        assert_eq!(parse(&out[2..]), confirm);
        assert_eq!(parse(&out[2..7]), confirm);
        let mut timed = out[2..7].to_vec();
        timed.push(12);
        timed.extend_from_slice(&TIME.0);
        assert_eq!(parse(&timed), confirm);
        timed.push(0);
        refused(&timed, ErrorKind::TrailingBytes, 18);
        refused(&out[2..6], ErrorKind::Truncated, 1);
    }

    #[test]
    fn an_invoke_id_keeps_24_bits_and_its_flags() {
        let id = LongInvokeId::new(0xffff_ffff, false, true);
        assert_eq!((id.0, id.id()), (0x80ff_ffff, 0x00ff_ffff));
        assert_eq!((id.confirmed(), id.high_priority()), (false, true));
        assert_eq!(id.to_string(), "16777215 high priority");
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

        #[test]
        fn mutated_pushes_never_panic(at in any::<prop::sample::Index>(), byte: u8) {
            let mut apdu = notification(Some(TIME));
            let at = at.index(apdu.len());
            apdu[at] = byte;
            if let Ok(Apdu::DataNotification(push)) = parse(&apdu) {
                let mut again = vec![];
                let body = &apdu[push.body_offset()..];
                DataNotificationRepr::parse(&push).emit(body, &mut again);
                let Ok(Apdu::DataNotification(again)) = parse(&again) else {
                    panic!("what is emitted parses");
                };
                prop_assert_eq!(DataNotificationRepr::parse(&again), DataNotificationRepr::parse(&push));
                prop_assert_eq!(again.body(), push.body());
            }
        }
    }
}
