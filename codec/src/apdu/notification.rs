//! Pushes and their receipts.

use alloc::vec::Vec;
use core::fmt;

use super::{DATA_NOTIFICATION, DATA_NOTIFICATION_CONFIRM, finished};
use crate::axdr::{self, DateTime, Value, tag};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

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
    pub(super) fn parse(cursor: Cursor<'a>) -> Result<Self, Error> {
        Self::parse_with(cursor, axdr::parse)
    }

    #[inline]
    pub(super) fn parse_with(
        mut cursor: Cursor<'a>,
        parse: impl FnOnce(&'a [u8]) -> Result<(Value<'a>, &'a [u8]), Error>,
    ) -> Result<Self, Error> {
        let invoke_id = LongInvokeId(cursor.u32()?);
        let date_time = optional_date_time(&mut cursor)?;
        let body_offset = cursor.position();
        let (body, rest) = parse(cursor.rest()).map_err(|error| error.shifted(body_offset))?;
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

pub(super) fn optional_date_time(cursor: &mut Cursor<'_>) -> Result<Option<DateTime>, Error> {
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
pub(super) fn parse_confirm(mut cursor: Cursor<'_>) -> Result<LongInvokeId, Error> {
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

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::apdu::{Apdu, parse};
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

    proptest! {
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
