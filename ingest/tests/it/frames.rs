//! Frames as a meter sends them, made with the codec.

use bytes::Bytes;
use codec::apdu::{DataNotificationRepr, LongInvokeId};
use codec::axdr::{DateTime, Writer};
use codec::mbus::FrameRepr;
use codec::security::{self, Keys, RustCrypto, SecurityControl};
use codec::wrapper::WrapperRepr;
use ingest::{Framing, Received};
use model::{Calendar, Instant, Source, SystemTitle};

/// Head of the long frames of a meter.
const TO_PUSH_CLIENT: FrameRepr =
    FrameRepr { control: 0x53, address: 0xff, number: 0, last: false, source: 1, destination: 103 };

/// A meter of the profile `is15959-d1`, with keys made from its number.
#[derive(Clone)]
pub(crate) struct Meter {
    pub(crate) number: u32,
    pub(crate) title: SystemTitle,
    pub(crate) guek: [u8; 16],
    pub(crate) gak: [u8; 16],
    pub(crate) authenticated: bool,
    /// Whether its pushes ask for a receipt.
    pub(crate) confirmed: bool,
}

impl Meter {
    pub(crate) fn new(number: u32) -> Meter {
        let key = |purpose: &str| {
            let hash = blake3::hash(format!("{purpose} {number}").as_bytes());
            <[u8; 16]>::try_from(&hash.as_bytes()[..16]).unwrap()
        };
        let mut title = *b"HXE\0\0\0\0\0";
        title[4..].copy_from_slice(&number.to_be_bytes());
        Meter {
            number,
            title: SystemTitle(title),
            guek: key("guek"),
            gak: key("gak"),
            authenticated: true,
            confirmed: true,
        }
    }

    /// The same meter with the keys of another.
    pub(crate) fn with_keys_of(&self, other: u32) -> Meter {
        let Meter { guek, gak, .. } = Meter::new(other);
        Meter { guek, gak, ..self.clone() }
    }

    /// Registered with policy `transport`.
    pub(crate) fn of_transport(number: u32) -> Meter {
        Meter { authenticated: false, ..Meter::new(number) }
    }

    pub(crate) fn serial(&self) -> String {
        format!("SN{:07}", self.number)
    }

    pub(crate) fn csv(&self, account: &str) -> String {
        let (policy, reason) = if self.authenticated {
            ("authenticated", "")
        } else {
            ("transport", "private address of the meter")
        };
        format!(
            "{},{},{},{},is15959-d1,{policy},{account},{reason}",
            self.title,
            self.serial(),
            hex::encode(self.guek),
            hex::encode(self.gak),
        )
    }

    /// The APDU of a block push: one interval that ends at `end`.
    pub(crate) fn block(&self, end: Instant, import_wh: u32) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        self.head(&mut writer, 10, [0, 5, 25, 9, 0, 255], end);
        writer.u16(2301).u32(import_wh).u32(import_wh + 5).u32(0).u32(0).u16(150).u16(151);
        self.notification(&body)
    }

    /// The APDU of an event push.
    pub(crate) fn event(&self, at: Instant, first_byte: u8) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        self.head(&mut writer, 4, [0, 4, 25, 9, 0, 255], at);
        writer.bit_string(128, &[first_byte]);
        self.notification(&body)
    }

    fn head(&self, writer: &mut Writer<'_>, elements: usize, setup: [u8; 6], at: Instant) {
        writer.structure(elements).octet_string(format!("HXE{}", self.serial()).as_bytes());
        writer.octet_string(&setup).octet_string(&date_time(at).0);
    }

    fn notification(&self, body: &[u8]) -> Vec<u8> {
        let invoke_id = LongInvokeId::new(self.number, self.confirmed, false);
        let mut apdu = Vec::new();
        DataNotificationRepr { invoke_id, date_time: None }.emit(body, &mut apdu);
        apdu
    }

    /// The APDU protected as `control` says.
    pub(crate) fn protect(&self, control: SecurityControl, counter: u32, apdu: &[u8]) -> Vec<u8> {
        let keys = Keys::new(self.guek, self.gak);
        let mut out = Vec::new();
        security::seal(&RustCrypto, control, &self.title.0, counter, &keys, apdu, &mut out);
        out
    }

    /// A whole frame, authenticated and encrypted.
    pub(crate) fn frame(&self, counter: u32, apdu: &[u8]) -> Vec<u8> {
        wrap(&self.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, counter, apdu))
    }

    /// The same in long frames of M-Bus, of so many bytes of the APDU each.
    pub(crate) fn long_frames(&self, counter: u32, apdu: &[u8], data: usize) -> Vec<u8> {
        let apdu = self.protect(SecurityControl::AUTHENTICATED_ENCRYPTED, counter, apdu);
        let mut out = Vec::new();
        let mut parts = (0..).zip(apdu.chunks(data)).peekable();
        while let Some((number, data)) = parts.next() {
            FrameRepr { number, last: parts.peek().is_none(), ..TO_PUSH_CLIENT }.emit(data, &mut out);
        }
        out
    }

    /// The receipt of such a push.
    pub(crate) fn long_receipt(&self) -> Vec<u8> {
        let mut apdu = Vec::new();
        codec::apdu::emit_data_notification_confirm(LongInvokeId::new(self.number, true, false), &mut apdu);
        let FrameRepr { source, destination, .. } = TO_PUSH_CLIENT;
        let mut out = Vec::new();
        FrameRepr { source: destination, destination: source, last: true, ..TO_PUSH_CLIENT }
            .emit(&apdu, &mut out);
        out
    }

    /// The receipt that a push of this meter is answered with.
    pub(crate) fn receipt(&self) -> Vec<u8> {
        let invoke_id = LongInvokeId::new(self.number, true, false);
        let mut apdu = Vec::new();
        codec::apdu::emit_data_notification_confirm(invoke_id, &mut apdu);
        let mut out = Vec::new();
        WrapperRepr { source: 64, destination: 1 }.emit(&apdu, &mut out);
        out
    }
}

pub(crate) fn wrap(apdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    WrapperRepr { source: 1, destination: 64 }.emit(apdu, &mut out);
    out
}

/// `2026-06-DDTHH:MM:00+05:30`
pub(crate) fn june(day: u8, hour: u8, minute: u8) -> Instant {
    format!("2026-06-{day:02}T{hour:02}:{minute:02}:00+05:30").parse().unwrap()
}

fn date_time(at: Instant) -> DateTime {
    let wall = Calendar::india().wall_clock(at);
    let small = |field: i8| u8::try_from(field).unwrap();
    DateTime::new(
        u16::try_from(wall.year).unwrap(),
        small(wall.month),
        small(wall.day),
        small(wall.weekday),
        small(wall.hour),
        small(wall.minute),
        small(wall.second),
        0,
        330,
        0,
    )
}

pub(crate) fn received(source: Source, received_at: Instant, bytes: Vec<u8>) -> Received {
    Received { source, received_at, framing: Framing::Wrapper, bytes: Bytes::from(bytes), identity: None }
}
