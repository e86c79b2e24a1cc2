//! APDUs of the push path, as borrowed views.
//!
//! | tag | APDU | layout after the tag |
//! |---|---|---|
//! | 0F | data-notification | long invoke id (4), date-time, data |
//! | 10 | data-notification-confirm | long invoke id (4), date-time |
//! | DB | general-glo-ciphering | system title, ciphered content (both with a length) |
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
    /// A push in the clear.
    DataNotification(DataNotification<'a>),
    /// The receipt of a confirmed push.
    DataNotificationConfirm(LongInvokeId),
    /// A ciphered APDU; see [`security::open`](crate::security::open).
    GeneralGlo(GeneralGlo<'a>),
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
        DATA_NOTIFICATION => DataNotification::parse(cursor).map(Apdu::DataNotification),
        DATA_NOTIFICATION_CONFIRM => parse_confirm(cursor).map(Apdu::DataNotificationConfirm),
        GENERAL_GLO => GeneralGlo::parse(cursor, known_title).map(Apdu::GeneralGlo),
        other => Err(Error::new(ErrorKind::UnsupportedApdu(other), 0)),
    }
}

fn finished(cursor: &Cursor<'_>) -> Result<(), Error> {
    if cursor.remaining() == 0 {
        Ok(())
    } else {
        Err(cursor.error(ErrorKind::TrailingBytes))
    }
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
        let (body, rest) =
            axdr::parse(cursor.rest()).map_err(|error| error.shifted(body_offset))?;
        cursor.take(cursor.remaining() - rest.len())?;
        finished(&cursor)?;
        Ok(Self {
            invoke_id,
            date_time,
            body,
            body_offset,
        })
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
        Self {
            invoke_id: notification.invoke_id,
            date_time: notification.date_time,
        }
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
    fn parse(
        mut cursor: Cursor<'a>,
        known_title: Option<&'a [u8; SYSTEM_TITLE_LEN]>,
    ) -> Result<Self, Error> {
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
    write_length(
        size_of_val(&control.0) + size_of_val(&counter) + content,
        out,
    );
    out.push(control.0);
    out.extend_from_slice(&counter.to_be_bytes());
}
