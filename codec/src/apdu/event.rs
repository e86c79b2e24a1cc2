//! event-notification-request: a meter tells the value of an attribute by itself, without a receipt.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use super::{AttributeDescriptor, EVENT_NOTIFICATION_REQUEST, notification};
use crate::axdr::{Data, DateTime};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// What a meter tells, and when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventNotification<'a> {
    /// When it happened, if the meter says so.
    pub time: Option<DateTime>,
    /// The attribute that is told.
    pub attribute: AttributeDescriptor,
    /// Its value.
    pub value: Data<'a>,
}

impl<'a> EventNotification<'a> {
    #[inline(never)]
    pub(super) fn parse(mut cursor: Cursor<'a>) -> Result<Self, Error> {
        let time = event_time(&mut cursor)?;
        let mut reader = Reader::new(cursor);
        let (attribute, value) = (reader.field()?, reader.field()?);
        reader.end()?;
        Ok(Self { time, attribute, value })
    }

    /// Appends the APDU to `out`, its time in the form of the standard.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(EVENT_NOTIFICATION_REQUEST);
        self.time.as_ref().map(|time| &time.0[..]).write(out);
        self.attribute.write(out);
        self.value.write(out);
    }
}

impl fmt::Display for EventNotification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event-notification-request {}", self.attribute)
    }
}

/// The standard has an optional octet-string: 00, or 01 with 0C and 12 bytes. A family of meters writes its
/// data tag 09 in the place of the 01.
pub(crate) fn event_time(cursor: &mut Cursor<'_>) -> Result<Option<DateTime>, Error> {
    let mut presence = *cursor;
    match presence.u8()? {
        0 => {
            *cursor = presence;
            Ok(None)
        }
        1 => {
            let at = presence;
            *cursor = presence;
            let time = notification::optional_date_time(cursor)?;
            time.map(Some).ok_or(at.error(ErrorKind::DateTimeLength(0)))
        }
        crate::axdr::tag::OCTET_STRING => notification::optional_date_time(cursor),
        other => Err(cursor.error(ErrorKind::Presence(other))),
    }
}
