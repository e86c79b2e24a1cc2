//! Received bytes described for a human reader: a tree of named nodes, each with its byte offset.
//!
//! This allocates as much as there is to say, and is made for a command that prints it. It opens
//! general-glo-ciphering APDUs with the keys it is given, and marks each with what that proved.
//! Plaintext is as long as its ciphertext, so its offsets are those of the ciphertext in the input.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use zeroize::ZeroizeOnDrop;

use crate::apdu::{self, Apdu, DataNotification, GeneralGlo, SYSTEM_TITLE_LEN};
use crate::axdr::{BitString, DateTime, Elements, Iter, Value};
use crate::error::{Error, ErrorKind};
use crate::security::{self, KEY_LEN, Keys, Opened, Policy, RustCrypto, Scratch, SecurityError};
use crate::wrapper::{self, Wrapper};

/// What stands around the APDUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A wrapper when the bytes start with its version, else a bare APDU.
    #[default]
    Auto,
    /// One or more frames of IEC 62056-47.
    Wrapper,
    /// One bare APDU.
    Apdu,
}

/// What is known of the sender; wiped when dropped and never printed.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub struct DecodeKeys {
    /// Global unicast encryption key.
    pub guek: Option<[u8; KEY_LEN]>,
    /// Global authentication key.
    pub gak: Option<[u8; KEY_LEN]>,
    /// Stands in for a system title that an APDU leaves out.
    pub system_title: Option<[u8; SYSTEM_TITLE_LEN]>,
}

impl fmt::Debug for DecodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecodeKeys(..)")
    }
}

/// What is known about the origin of a ciphered APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// The tag is right.
    Verified,
    /// There is a tag, or content that cannot be read, and no key to check it with.
    NotVerified,
    /// Encrypted without a tag: anybody could have changed it.
    Unauthenticated,
    /// The tag is wrong.
    Failed,
}

impl Authentication {
    /// The words to print.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotVerified => "not verified",
            Self::Unauthenticated => "unauthenticated",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts in the input.
    pub offset: usize,
    /// What it is.
    pub name: Cow<'static, str>,
    /// What it says, or nothing when its children say it.
    pub value: String,
    /// Of a ciphered APDU: what is known about its origin.
    pub authentication: Option<Authentication>,
    /// What it is made of.
    pub children: Vec<Self>,
}

impl Node {
    fn new(offset: usize, name: &'static str, value: impl Into<String>) -> Self {
        Self {
            offset,
            name: Cow::Borrowed(name),
            value: value.into(),
            authentication: None,
            children: Vec::new(),
        }
    }
}

/// Describes `bytes`: the root has one child for each frame or APDU.
///
/// A ciphered APDU that cannot be opened or whose content makes no sense is described as such.
///
/// # Errors
/// The first fault of the framing or of an APDU in the clear; the offset is from the start of `bytes`.
pub fn decode(bytes: &[u8], framing: Framing, keys: &DecodeKeys) -> Result<Node, Error> {
    let mut root = Node::new(0, "input", format!("{} bytes", bytes.len()));
    if is_wrapped(bytes, framing) {
        root.children = frames(bytes, keys)?;
    } else {
        root.children.push(apdu_node(bytes, 0, keys)?);
    }
    Ok(root)
}

fn is_wrapped(bytes: &[u8], framing: Framing) -> bool {
    match framing {
        Framing::Auto => bytes.starts_with(&wrapper::VERSION.to_be_bytes()),
        Framing::Wrapper => true,
        Framing::Apdu => false,
    }
}

fn frames(bytes: &[u8], keys: &DecodeKeys) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let mut offset = 0;
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let frame = Wrapper::new_checked(rest).map_err(|error| error.shifted(offset))?;
        nodes.push(frame_node(&frame, offset, keys)?);
        offset += frame.total_len();
        if offset >= bytes.len() {
            return Ok(nodes);
        }
    }
}

fn frame_node(frame: &Wrapper<'_>, offset: usize, keys: &DecodeKeys) -> Result<Node, Error> {
    let mut node = Node::new(offset, "wrapper", format!("{} bytes", frame.apdu().len()));
    node.children = Vec::from([
        Node::new(offset + 2, "source", frame.source().to_string()),
        Node::new(offset + 4, "destination", frame.destination().to_string()),
        apdu_node(frame.apdu(), offset + wrapper::HEADER_LEN, keys)?,
    ]);
    Ok(node)
}

fn apdu_node(apdu: &[u8], offset: usize, keys: &DecodeKeys) -> Result<Node, Error> {
    let parsed = apdu::parse_with_title(apdu, keys.system_title.as_ref())
        .map_err(|error| error.shifted(offset))?;
    Ok(match parsed {
        Apdu::GeneralGlo(glo) => opened_node(&glo, offset, keys),
        plain => plain_node(&plain, apdu.len(), offset),
    })
}

/// An APDU as it is; one that is ciphered stays closed.
fn plain_node(apdu: &Apdu<'_>, length: usize, offset: usize) -> Node {
    match apdu {
        Apdu::DataNotification(notification) => notification_node(notification, length, offset),
        Apdu::DataNotificationConfirm(id) => {
            Node::new(offset, "data-notification-confirm", id.to_string())
        }
        Apdu::GeneralGlo(glo) => {
            let mut node = glo_node(glo, offset);
            node.authentication = Some(Authentication::NotVerified);
            node
        }
    }
}

fn notification_node(notification: &DataNotification<'_>, length: usize, offset: usize) -> Node {
    let mut node = Node::new(offset, "data-notification", "");
    let id = notification.invoke_id();
    node.children
        .push(Node::new(offset + 1, "invoke id", id.to_string()));
    let time = notification.date_time();
    let time = time.map_or_else(|| "absent".to_string(), |time| time.to_string());
    node.children.push(Node::new(offset + 5, "date-time", time));
    let body = offset + notification.body_offset();
    node.children
        .push(value_node(notification.body(), body, offset + length));
    node
}

fn glo_node(glo: &GeneralGlo<'_>, offset: usize) -> Node {
    let content = offset + glo.ciphered_offset();
    let mut node = Node::new(offset, "general-glo-ciphering", "");
    let (control, counter) = (glo.security_control(), glo.invocation_counter());
    node.children = Vec::from([
        Node::new(offset + 1, "system title", hex(glo.system_title())),
        Node::new(
            content.saturating_sub(5),
            "security control",
            control.to_string(),
        ),
        Node::new(
            content.saturating_sub(4),
            "invocation counter",
            counter.to_string(),
        ),
    ]);
    node
}

fn opened_node(glo: &GeneralGlo<'_>, offset: usize, keys: &DecodeKeys) -> Node {
    let mut node = glo_node(glo, offset);
    let content = offset + glo.ciphered_offset();
    let mut scratch = Scratch::new();
    let (authentication, child) = match open(glo, keys, &mut scratch) {
        Ok((authentication, Some(plaintext))) => {
            (authentication, plaintext_node(plaintext, content))
        }
        Ok((authentication, None)) => (
            authentication,
            Node::new(content, "ciphered", hex(glo.ciphered())),
        ),
        Err(error) => {
            node.value = error.to_string();
            (
                Authentication::Failed,
                Node::new(content, "ciphered", hex(glo.ciphered())),
            )
        }
    };
    node.authentication = Some(authentication);
    node.children.push(child);
    node
}

/// As much of the content as the keys at hand can show, and what that proves.
fn open<'s>(
    glo: &GeneralGlo<'_>,
    keys: &DecodeKeys,
    scratch: &'s mut Scratch,
) -> Result<(Authentication, Option<&'s [u8]>), SecurityError> {
    if let (Some(guek), Some(gak)) = (keys.guek, keys.gak) {
        let keys = Keys::new(guek, gak);
        return match security::open(&RustCrypto, glo, &keys, Policy::Transport, scratch)? {
            Opened::Authentic(plaintext) => {
                Ok((Authentication::Verified, Some(plaintext.into_inner())))
            }
            Opened::Unauthenticated(plaintext) => {
                Ok((Authentication::Unauthenticated, Some(plaintext)))
            }
        };
    }
    let control = glo.security_control();
    let authentication = match (control.authenticated(), keys.guek) {
        (false, Some(_)) => Authentication::Unauthenticated,
        _ => Authentication::NotVerified,
    };
    let plaintext = security::read_unverified(&RustCrypto, glo, keys.guek.as_ref(), scratch)?;
    Ok((authentication, plaintext))
}

fn plaintext_node(plaintext: &[u8], offset: usize) -> Node {
    match apdu::parse(plaintext) {
        Ok(apdu) => plain_node(&apdu, plaintext.len(), offset),
        Err(Error { kind, offset: at }) => undecodable_node(plaintext, kind, offset + at),
    }
}

fn undecodable_node(plaintext: &[u8], kind: ErrorKind, offset: usize) -> Node {
    Node::new(offset, "undecodable", format!("{kind}: {}", hex(plaintext)))
}

/// A container whose children are being made.
struct Container<'a> {
    node: Node,
    elements: Iter<'a>,
    /// Where its first element starts.
    start: usize,
}

impl<'a> Container<'a> {
    /// The next element with the bytes it lies in.
    fn next(&mut self) -> Option<(Value<'a>, usize, usize)> {
        let offset = self.start + self.elements.consumed();
        let value = self.elements.next()?;
        Some((value, offset, self.start + self.elements.consumed()))
    }
}

/// The tree of a value that lies at `offset..end`; the stack gets as deep as the check allows.
fn value_node(value: Value<'_>, offset: usize, end: usize) -> Node {
    let mut outer: Vec<Container<'_>> = Vec::new();
    let mut current = container(value, offset, end);
    loop {
        if let Some((value, offset, end)) = current.next() {
            let inner = container(value, offset, end);
            outer.push(core::mem::replace(&mut current, inner));
            continue;
        }
        let Some(parent) = outer.pop() else {
            return current.node;
        };
        let complete = core::mem::replace(&mut current, parent);
        current.node.children.push(complete.node);
    }
}

/// Every value is taken as a container; most have no elements.
fn container(value: Value<'_>, offset: usize, end: usize) -> Container<'_> {
    let elements = elements(&value);
    Container {
        node: Node::new(offset, type_name(&value), text(&value)),
        elements: elements.iter(),
        start: end.saturating_sub(elements.encoded_len()),
    }
}

fn elements<'a>(value: &Value<'a>) -> Elements<'a> {
    match value {
        Value::Array(elements) | Value::Structure(elements) | Value::CompactArray(elements) => {
            *elements
        }
        _ => Elements::EMPTY,
    }
}

const fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null-data",
        Value::Array(_) => "array",
        Value::Structure(_) => "structure",
        Value::Bool(_) => "boolean",
        Value::BitString(_) => "bit-string",
        Value::I8(_) => "integer",
        Value::I16(_) => "long",
        Value::I32(_) => "double-long",
        Value::I64(_) => "long64",
        Value::U8(_) => "unsigned",
        Value::U16(_) => "long-unsigned",
        Value::U32(_) => "double-long-unsigned",
        Value::U64(_) => "long64-unsigned",
        Value::Enum(_) => "enum",
        Value::F32(_) => "float32",
        Value::F64(_) => "float64",
        Value::OctetString(_) => "octet-string",
        Value::VisibleString(_) => "visible-string",
        Value::Utf8String(_) => "utf8-string",
        Value::Bcd(_) => "bcd",
        Value::DateTime(_) => "date-time",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::CompactArray(_) => "compact-array",
        Value::Delta(_) => "delta",
        Value::DontCare => "dont-care",
    }
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null | Value::DontCare => String::new(),
        Value::Array(elements) | Value::Structure(elements) => {
            format!("{} elements", elements.len())
        }
        Value::CompactArray(rows) => format!("{} rows", rows.len()),
        Value::Bool(truth) => truth.to_string(),
        Value::BitString(bits) => bit_text(bits),
        Value::I8(number) => number.to_string(),
        Value::I16(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) | Value::Delta(number) => number.to_string(),
        Value::U8(number) | Value::Enum(number) => number.to_string(),
        Value::U16(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::F32(bits) => f32::from_bits(*bits).to_string(),
        Value::F64(bits) => f64::from_bits(*bits).to_string(),
        Value::OctetString(bytes) => octet_text(bytes),
        Value::VisibleString(bytes) | Value::Utf8String(bytes) => {
            format!("{:?}", String::from_utf8_lossy(bytes))
        }
        Value::Bcd(digits) => format!("{digits:02x}"),
        Value::DateTime(time) => time.to_string(),
        Value::Date(bytes) => hex(bytes),
        Value::Time(bytes) => hex(bytes),
    }
}

/// The bytes, the number of bits and the numbers of those that are set.
fn bit_text(bits: &BitString<'_>) -> String {
    let mut text = format!("{} ({} bits, set:", hex(bits.bytes()), bits.bits());
    for index in (0..bits.bits()).filter(|&index| bits.bit(index) == Some(true)) {
        let _infallible = write!(text, " {index}");
    }
    text.push(')');
    text
}

/// The bytes, and what they usually mean when they look like it.
fn octet_text(bytes: &[u8]) -> String {
    let text = hex(bytes);
    if let &[a, b, c, d, e, f] = bytes {
        return format!("{text} ({a}.{b}.{c}.{d}.{e}.{f})");
    }
    if let Some(time) = DateTime::from_octets(bytes).filter(is_plausible) {
        return format!("{text} ({time})");
    }
    if !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return format!("{text} ({:?})", String::from_utf8_lossy(bytes));
    }
    text
}

fn is_plausible(time: &DateTime) -> bool {
    time.month().is_some() && time.day().is_some() && time.hour().is_some()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
