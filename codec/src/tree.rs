//! Received bytes described for a human reader: a tree of named nodes, each with its byte offset.
//!
//! This allocates as much as there is to say, and is made for a command that prints it. It opens ciphered APDUs of
//! every form with the keys it is given, and marks each with what that proved.
//! Plaintext is as long as its ciphertext, so its offsets are those of the ciphertext in the input. What was put
//! together of segments or blocks hangs below the last of them; its offsets count from the first one's data as if
//! all of it lay there.

mod association;
mod service;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use zeroize::ZeroizeOnDrop;

use crate::apdu::block_transfer::{Assembly, Taken};
use crate::apdu::{self, Apdu, DataNotification, GeneralBlockTransfer, GeneralGlo, SYSTEM_TITLE_LEN};
use crate::axdr::{BitString, DateTime, Elements, Iter, Value};
use crate::error::{Error, ErrorKind};
use crate::hdlc::{self, Control, Deframer, Parameters, Step};
use crate::mbus;
use crate::security::association::{Incoming, Protect};
use crate::security::counter::RisingCounter;
use crate::security::keys::{AssociationKeys, Key, KeyUse};
use crate::security::{
    self, KEY_LEN, Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl, SecurityError,
};
use crate::wrapper::{self, Wrapper};

/// Bytes of blocks and segments that are put together, at most.
const MAX_ASSEMBLED: usize = 1 << 20;

/// What stands around the APDUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// What the first bytes look like: a wrapper by its version, HDLC by its flag and format, M-Bus by its two
    /// starts; else a bare APDU.
    #[default]
    Auto,
    /// One or more frames of IEC 62056-47.
    Wrapper,
    /// One or more frames of HDLC, and what may lie between them.
    Hdlc,
    /// One or more long frames of M-Bus.
    Mbus,
    /// One bare APDU.
    Apdu,
}

impl Framing {
    /// What the framing of `bytes` is, where it is to be found out.
    #[must_use]
    pub fn detect(self, bytes: &[u8]) -> Self {
        match (self, bytes) {
            (Self::Auto, [hdlc::FLAG, format, ..]) if format >> 4 == 0xa => Self::Hdlc,
            // Flags may fill the line.
            (Self::Auto, [hdlc::FLAG, hdlc::FLAG, ..]) => Self::Hdlc,
            (Self::Auto, [mbus::START, one, two, mbus::START, ..]) if one == two => Self::Mbus,
            (Self::Auto, _) if bytes.starts_with(&wrapper::VERSION.to_be_bytes()) => Self::Wrapper,
            (Self::Auto, _) => Self::Apdu,
            (known, _) => known,
        }
    }
}

/// What is known of the sender; wiped when dropped and never printed.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub struct DecodeKeys {
    /// Global unicast encryption key.
    pub guek: Option<[u8; KEY_LEN]>,
    /// Global authentication key.
    pub gak: Option<[u8; KEY_LEN]>,
    /// Global broadcast encryption key.
    pub gbek: Option<[u8; KEY_LEN]>,
    /// Dedicated key of the association, under which ded-* and general-ded-ciphering stand.
    pub dedicated: Option<[u8; KEY_LEN]>,
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
    let mut blocks = Blocks::new();
    root.children = match framing.detect(bytes) {
        Framing::Wrapper => wrapper_frames(bytes, keys, &mut blocks)?,
        Framing::Hdlc => hdlc_frames(bytes, keys, &mut blocks)?,
        Framing::Mbus => mbus_frames(bytes, keys, &mut blocks)?,
        Framing::Auto | Framing::Apdu => Vec::from([apdu_node(bytes, 0, keys, &mut blocks)?]),
    };
    root.children.extend(blocks.left(bytes.len()));
    Ok(root)
}

/// Blocks of a general-block-transfer on their way to an APDU.
struct Blocks {
    assembly: Assembly,
    /// Where the data of the first one lies.
    offset: usize,
}

impl Blocks {
    const fn new() -> Self {
        Self { assembly: Assembly::new(MAX_ASSEMBLED), offset: 0 }
    }

    /// What is missing at the end of the input.
    fn left(&self, end: usize) -> Option<Node> {
        if self.assembly.is_empty() {
            return None;
        }
        let missing: Vec<String> = self.assembly.missing().map(|number| number.to_string()).collect();
        Some(Node::new(end, "incomplete", format!("missing blocks: {}", missing.join(" "))))
    }
}

fn wrapper_frames(bytes: &[u8], keys: &DecodeKeys, blocks: &mut Blocks) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let mut offset = 0;
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let frame = Wrapper::new_checked(rest).map_err(|error| error.shifted(offset))?;
        nodes.push(wrapper_node(&frame, offset, keys, blocks)?);
        offset += frame.total_len();
        if offset >= bytes.len() {
            return Ok(nodes);
        }
    }
}

fn wrapper_node(
    frame: &Wrapper<'_>,
    offset: usize,
    keys: &DecodeKeys,
    blocks: &mut Blocks,
) -> Result<Node, Error> {
    let mut node = Node::new(offset, "wrapper", format!("{} bytes", frame.apdu().len()));
    node.children = Vec::from([
        Node::new(offset + 2, "source", frame.source().to_string()),
        Node::new(offset + 4, "destination", frame.destination().to_string()),
        apdu_node(frame.apdu(), offset + wrapper::HEADER_LEN, keys, blocks)?,
    ]);
    Ok(node)
}

/// Information on its way to an APDU, and where its first byte lies.
struct Segments {
    reassembly: hdlc::Reassembly,
    information: Vec<u8>,
    offset: usize,
}

/// Frames, and what between them is none. Where there is no frame at all, the first fault.
fn hdlc_frames(bytes: &[u8], keys: &DecodeKeys, blocks: &mut Blocks) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let mut segments =
        Segments { reassembly: hdlc::Reassembly::new(MAX_ASSEMBLED), information: Vec::new(), offset: 0 };
    let (mut deframer, mut offset, mut found, mut first_fault) = (Deframer::default(), 0, false, None);
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match deframer.next(rest) {
            Step::Frame { frame, length, .. } => {
                found = true;
                nodes.push(hdlc_node(&frame, offset, keys, &mut segments, blocks)?);
                offset += length;
            }
            Step::Skip { length, error } => {
                if let Some(error) = error.map(|error| error.shifted(offset)) {
                    first_fault = first_fault.or(Some(error));
                    nodes.push(Node::new(offset, "skipped", format!("{length} bytes: {error}")));
                }
                offset += length;
            }
            // A lone flag at the end closes nothing and opens nothing.
            Step::More(_) if rest == [hdlc::FLAG] && found => break,
            Step::More(_) => return Err(Error::new(ErrorKind::Truncated, bytes.len())),
        }
    }
    if let (false, Some(error)) = (found, first_fault) {
        return Err(error);
    }
    if segments.reassembly.is_open() {
        nodes.push(Node::new(bytes.len(), "incomplete", ErrorKind::Segments.to_string()));
    }
    Ok(nodes)
}

fn hdlc_node(
    frame: &hdlc::Frame<'_>,
    offset: usize,
    keys: &DecodeKeys,
    segments: &mut Segments,
    blocks: &mut Blocks,
) -> Result<Node, Error> {
    let information = frame.information();
    let at = offset + frame.information_offset();
    let mut node = Node::new(offset, "hdlc", format!("{} bytes", information.len()));
    node.children = Vec::from([
        Node::new(offset + 3, "destination", frame.destination().to_string()),
        Node::new(offset + 3 + frame.destination().len(), "source", frame.source().to_string()),
        Node::new(
            offset + 3 + frame.destination().len() + frame.source().len(),
            "control",
            frame.control().to_string(),
        ),
    ]);
    match frame.control() {
        Control::Information { .. } | Control::UnnumberedInformation { .. } if !information.is_empty() => {
            let is_first = !segments.reassembly.is_open();
            if is_first {
                segments.offset = at;
            }
            if frame.segmented() || !is_first {
                node.children.push(Node::new(at, "segment", format!("{} bytes", information.len())));
            }
            match segments.reassembly.push(frame, &mut segments.information) {
                Ok(true) => {
                    let apdu = hdlc::strip_llc(&segments.information);
                    let at = segments.offset + segments.information.len() - apdu.len();
                    if apdu.len() < segments.information.len() {
                        node.children.push(Node::new(
                            segments.offset,
                            "llc",
                            hex(segments.information.get(..hdlc::LLC_RESPONSE.len()).unwrap_or_default()),
                        ));
                    }
                    node.children.push(apdu_node(apdu, at, keys, blocks)?);
                }
                Ok(false) => {}
                Err(error) => node.children.push(Node::new(at, "refused", error.to_string())),
            }
        }
        Control::SetNormalResponseMode { .. } | Control::UnnumberedAcknowledge { .. }
            if !information.is_empty() =>
        {
            let parameters = Parameters::parse(information).map_err(|error| error.shifted(at))?;
            node.children.push(parameters_node(&parameters, at));
        }
        _ if !information.is_empty() => node.children.push(Node::new(at, "information", hex(information))),
        _ => {}
    }
    Ok(node)
}

fn parameters_node(parameters: &Parameters, offset: usize) -> Node {
    let Parameters { max_info_transmit, max_info_receive, window_transmit, window_receive } = parameters;
    let mut node = Node::new(offset, "parameters", "");
    node.children = Vec::from([
        Node::new(offset, "max info transmit", max_info_transmit.to_string()),
        Node::new(offset, "max info receive", max_info_receive.to_string()),
        Node::new(offset, "window transmit", window_transmit.to_string()),
        Node::new(offset, "window receive", window_receive.to_string()),
    ]);
    node
}

fn mbus_frames(bytes: &[u8], keys: &DecodeKeys, blocks: &mut Blocks) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let (mut reassembly, mut apdu) = (mbus::Reassembly::new(), Vec::new());
    let (mut offset, mut first) = (0, 0);
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let frame = mbus::Frame::new_checked(rest).map_err(|error| error.shifted(offset))?;
        let head = frame.head();
        let mut node = Node::new(offset, "m-bus", format!("{} bytes", frame.data().len()));
        let last = if head.last { ", last" } else { "" };
        node.children = Vec::from([
            Node::new(offset + 6, "frame", format!("{}{last}", head.number)),
            Node::new(offset + 7, "source", head.source.to_string()),
            Node::new(offset + 8, "destination", head.destination.to_string()),
        ]);
        if !reassembly.is_open() {
            first = offset + frame.data_offset();
        }
        if reassembly.push(&frame, &mut apdu).map_err(|error| error.shifted(offset))? {
            node.children.push(apdu_node(&apdu, first, keys, blocks)?);
        } else {
            let data = offset + frame.data_offset();
            node.children.push(Node::new(data, "segment", format!("{} bytes", frame.data().len())));
        }
        nodes.push(node);
        offset += frame.total_len();
        if offset >= bytes.len() {
            break;
        }
    }
    if reassembly.is_open() {
        nodes.push(Node::new(bytes.len(), "incomplete", ErrorKind::Segments.to_string()));
    }
    Ok(nodes)
}

fn apdu_node(apdu: &[u8], offset: usize, keys: &DecodeKeys, blocks: &mut Blocks) -> Result<Node, Error> {
    let parsed =
        apdu::parse_with_title(apdu, keys.system_title.as_ref()).map_err(|error| error.shifted(offset))?;
    Ok(match parsed {
        Apdu::GeneralGlo(glo) => opened_node(&glo, apdu, offset, keys),
        Apdu::GeneralBlockTransfer(block) => return blocks_node(&block, offset, keys, blocks),
        plain => association::node(&plain, apdu, offset, Some(keys))
            .unwrap_or_else(|| plain_node(&plain, apdu, offset)),
    })
}

/// A block, and below the last one what all of them are.
fn blocks_node(
    block: &GeneralBlockTransfer<'_>,
    offset: usize,
    keys: &DecodeKeys,
    blocks: &mut Blocks,
) -> Result<Node, Error> {
    let mut node = block_node(block, offset);
    if blocks.assembly.is_empty() {
        blocks.offset = offset + block.data_offset();
    }
    match blocks.assembly.push(block) {
        Ok(Taken::Stored) => {}
        Ok(Taken::Duplicate) => node.children.push(Node::new(offset, "duplicate", "")),
        Ok(Taken::Complete) => {
            let assembly = core::mem::replace(&mut blocks.assembly, Assembly::new(MAX_ASSEMBLED));
            let apdu = assembly.into_apdu().unwrap_or_default();
            let title = keys.system_title.as_ref();
            let parsed =
                apdu::parse_with_title(&apdu, title).map_err(|error| error.shifted(blocks.offset))?;
            node.children.push(match parsed {
                Apdu::GeneralGlo(glo) => opened_node(&glo, &apdu, blocks.offset, keys),
                // Blocks in blocks stay as they are: nobody makes them.
                plain => association::node(&plain, &apdu, blocks.offset, Some(keys))
                    .unwrap_or_else(|| plain_node(&plain, &apdu, blocks.offset)),
            });
        }
        Err(error) => node.children.push(Node::new(offset, "refused", error.to_string())),
    }
    Ok(node)
}

fn block_node(block: &GeneralBlockTransfer<'_>, offset: usize) -> Node {
    let control = block.control();
    let mut node = Node::new(offset, "general-block-transfer", format!("{} bytes", block.data().len()));
    let flags = [(control.last(), "last"), (control.streaming(), "streaming")];
    let mut text = format!("window {}", control.window());
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        let _infallible = write!(text, ", {name}");
    }
    node.children = Vec::from([
        Node::new(offset + 1, "control", text),
        Node::new(offset + 2, "block", block.number().to_string()),
        Node::new(offset + 4, "acknowledged", block.acknowledged().to_string()),
    ]);
    node
}

/// An APDU as it is; one that is ciphered stays closed.
fn plain_node(apdu: &Apdu<'_>, bytes: &[u8], offset: usize) -> Node {
    if let Some(node) = association::node(apdu, bytes, offset, None) {
        return node;
    }
    match apdu {
        Apdu::ConfirmedServiceError(error) => service::refusal_node(error, offset),
        Apdu::DataNotification(notification) => notification_node(notification, bytes.len(), offset),
        Apdu::DataNotificationConfirm(id) => Node::new(offset, "data-notification-confirm", id.to_string()),
        Apdu::EventNotification(event) => service::event_node(event, bytes, offset),
        Apdu::GetRequest(_)
        | Apdu::SetRequest(_)
        | Apdu::ActionRequest(_)
        | Apdu::GetResponse(_)
        | Apdu::SetResponse(_)
        | Apdu::ActionResponse(_) => service::node(bytes, offset),
        Apdu::ExceptionResponse(exception) => service::exception_node(exception, offset),
        Apdu::GeneralGlo(glo) => {
            let mut node = glo_node(glo, offset);
            node.authentication = Some(Authentication::NotVerified);
            node
        }
        Apdu::GeneralBlockTransfer(block) => block_node(block, offset),
        other => Node::new(offset, "apdu", format!("{other:?}")),
    }
}

fn notification_node(notification: &DataNotification<'_>, length: usize, offset: usize) -> Node {
    let mut node = Node::new(offset, "data-notification", "");
    let id = notification.invoke_id();
    node.children.push(Node::new(offset + 1, "invoke id", id.to_string()));
    let time = notification.date_time();
    let time = time.map_or_else(|| "absent".to_string(), |time| time.to_string());
    node.children.push(Node::new(offset + 5, "date-time", time));
    let body = offset + notification.body_offset();
    node.children.push(value_node(notification.body(), body, offset + length));
    node
}

fn glo_node(glo: &GeneralGlo<'_>, offset: usize) -> Node {
    let content = offset + glo.ciphered_offset();
    let mut node = Node::new(offset, "general-glo-ciphering", "");
    let (control, counter) = (glo.security_control(), glo.invocation_counter());
    node.children = Vec::from([
        Node::new(offset + 1, "system title", hex(glo.system_title())),
        Node::new(content.saturating_sub(5), "security control", control.to_string()),
        Node::new(content.saturating_sub(4), "invocation counter", counter.to_string()),
    ]);
    node
}

fn opened_node(glo: &GeneralGlo<'_>, apdu: &[u8], offset: usize, keys: &DecodeKeys) -> Node {
    let mut node = glo_node(glo, offset);
    let content = offset + glo.ciphered_offset();
    let mut scratch = Scratch::new();
    let control = glo.security_control();
    let opened = if control.broadcast() {
        received(apdu, glo.title(), control, KeyUse::Broadcast, keys, &mut scratch)
    } else {
        open(glo, keys, &mut scratch).map_err(|error| error.to_string())
    };
    let (authentication, child) = match opened {
        Ok((authentication, Some(plaintext))) => (authentication, plaintext_node(plaintext, content)),
        Ok((authentication, None)) => (authentication, Node::new(content, "ciphered", hex(glo.ciphered()))),
        Err(error) => {
            node.value = error;
            (Authentication::Failed, Node::new(content, "ciphered", hex(glo.ciphered())))
        }
    };
    node.authentication = Some(authentication);
    node.children.push(child);
    node
}

/// The content of an APDU under the key of this use, as an association would take it, whatever its counter. Without the key,
/// or without a tag that could prove something, it stays closed.
fn received<'s>(
    apdu: &[u8],
    title: &[u8; SYSTEM_TITLE_LEN],
    control: SecurityControl,
    key: KeyUse,
    keys: &DecodeKeys,
    scratch: &'s mut Scratch,
) -> Result<(Authentication, Option<&'s [u8]>), String> {
    let protect = match (control.authenticated(), control.encrypted()) {
        (true, true) => Protect::AuthenticatedEncrypted,
        (true, false) => Protect::Authenticated,
        (false, _) => return Ok((Authentication::NotVerified, None)),
    };
    let encryption = match key {
        KeyUse::Unicast => keys.guek,
        KeyUse::Broadcast => keys.gbek,
        KeyUse::Dedicated => keys.dedicated,
    };
    let (Some(encryption), Some(gak)) = (encryption, keys.gak) else {
        return Ok((Authentication::NotVerified, None));
    };
    let mut all = AssociationKeys::new(Keys::new(encryption, gak)).with_broadcast(Key::new(encryption));
    all.set_dedicated(Some(Key::new(encryption)));
    let mut incoming = Incoming::new(*title, protect, RisingCounter::new());
    match incoming.receive(&RustCrypto, &all, apdu, scratch) {
        Ok(received) => Ok((Authentication::Verified, Some(received.apdu.into_inner()))),
        Err(refusal) => Err(refusal.to_string()),
    }
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
            Opened::Authentic(plaintext) => Ok((Authentication::Verified, Some(plaintext.into_inner()))),
            Opened::Unauthenticated(plaintext) => Ok((Authentication::Unauthenticated, Some(plaintext))),
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
        Ok(apdu) => plain_node(&apdu, plaintext, offset),
        Err(Error { kind, offset: at }) => undecodable_node(plaintext, kind, offset + at),
    }
}

fn undecodable_node(plaintext: &[u8], kind: ErrorKind, offset: usize) -> Node {
    // What should be an initiate-request may hold a dedicated key.
    if plaintext.first() == Some(&apdu::initiate::INITIATE_REQUEST) {
        return Node::new(offset, "undecodable", format!("{kind}: initiate-request"));
    }
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
        Value::Array(elements) | Value::Structure(elements) | Value::CompactArray(elements) => *elements,
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

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::apdu::{DataNotificationRepr, LongInvokeId};
    use crate::axdr::{MAX_DEPTH, Writer};
    use crate::security::SecurityControl;
    use crate::wrapper::WrapperRepr;

    fn push() -> Vec<u8> {
        let mut body = vec![];
        Writer::new(&mut body)
            .structure(5)
            .octet_string(&[0, 4, 25, 9, 0, 255])
            .array(1)
            .structure(2)
            .f32_bits(0x4453_f652)
            .visible_string(b"Wh")
            .octet_string(&DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, 330, 0).0)
            .bit_string(12, &[0x08, 0x10])
            .compact_array(&[2, 2, 0x11, 0x12], &[1, 0, 2, 3, 0, 4]);
        let head = DataNotificationRepr { invoke_id: LongInvokeId::new(7, true, false), date_time: None };
        let mut apdu = vec![];
        head.emit(&body, &mut apdu);
        apdu
    }

    fn framed(apdu: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let ports = WrapperRepr { source: 1, destination: 64 };
        ports.emit(apdu, &mut out);
        out
    }

    fn no_keys() -> DecodeKeys {
        DecodeKeys::default()
    }

    /// One line a node: offset, indent, name, value.
    fn lines(node: &Node, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        let space = if node.value.is_empty() { "" } else { " " };
        writeln!(out, "{:3} {indent}{}{space}{}", node.offset, node.name, node.value).unwrap();
        node.children.iter().for_each(|child| lines(child, depth + 1, out));
    }

    #[test]
    fn a_push_is_described_value_by_value_with_its_offsets() {
        let root = decode(&framed(&push()), Framing::Auto, &no_keys()).unwrap();
        let mut text = String::new();
        lines(&root, 0, &mut text);
        let expected = "  \
  0 input 67 bytes
  0   wrapper 59 bytes
  2     source 1
  4     destination 64
  8     data-notification
  9       invoke id 7 confirmed
 13       date-time absent
 14       structure 5 elements
 16         octet-string 0004190900ff (0.4.25.9.0.255)
 24         array 1 elements
 26           structure 2 elements
 28             float32 847.84875
 33             visible-string \"Wh\"
 37         octet-string 07ea060101001e0000014a00 (2026-06-01 00:30:00.00 deviation 330 status 0x00)
 51         bit-string 0810 (12 bits, set: 4 11)
 55         compact-array 2 rows
 61           structure 2 elements
 61             unsigned 1
 62             long-unsigned 2
 64           structure 2 elements
 64             unsigned 3
 65             long-unsigned 4
";
        assert_eq!(text, expected);
    }

    #[test]
    fn several_frames_become_several_children() {
        let mut stream = framed(&push());
        stream.extend_from_slice(&framed(&[0x10, 0, 0, 0, 1]));
        let root = decode(&stream, Framing::Wrapper, &no_keys()).unwrap();
        let [first, second] = &root.children[..] else {
            panic!("not two frames");
        };
        assert_eq!((first.offset, second.offset), (0, framed(&push()).len()));
        assert_eq!(second.children[2].name, "data-notification-confirm");
    }

    #[test]
    fn a_fault_is_named_at_its_byte_of_the_input() {
        let mut stream = framed(&push());
        let first = stream.len();
        stream.extend_from_slice(&framed(&[0x0f, 0, 0, 0, 1, 0, 0x77]));
        let error = decode(&stream, Framing::Auto, &no_keys()).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::UnknownTag(0x77), first + 14));
        stream.truncate(first + 3);
        let error = decode(&stream, Framing::Auto, &no_keys()).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Truncated, first + 2));
    }

    #[test]
    fn a_bare_apdu_is_taken_as_such() {
        for framing in [Framing::Auto, Framing::Apdu] {
            let root = decode(&push(), framing, &no_keys()).unwrap();
            assert_eq!(root.children[0].name, "data-notification");
        }
        assert!(decode(&push(), Framing::Wrapper, &no_keys()).is_err());
    }

    #[test]
    fn a_known_system_title_stands_in_for_one_that_is_left_out() {
        let keys = DecodeKeys {
            guek: Some([1; 16]),
            gak: Some([2; 16]),
            system_title: Some(*b"HXE00005"),
            ..DecodeKeys::default()
        };
        let mut sealed = vec![];
        security::seal(
            &RustCrypto,
            SecurityControl::AUTHENTICATED,
            b"HXE00005",
            9,
            &Keys::new([1; 16], [2; 16]),
            &push(),
            &mut sealed,
        );
        sealed.drain(2..10);
        sealed[1] = 0;
        let error = decode(&sealed, Framing::Apdu, &no_keys()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::SystemTitleMissing);
        let root = decode(&sealed, Framing::Apdu, &keys).unwrap();
        assert_eq!(root.children[0].authentication, Some(Authentication::Verified));
    }

    #[test]
    fn a_wrong_key_gives_a_description_and_no_error() {
        let mut sealed = vec![];
        let keys = Keys::new([1; 16], [2; 16]);
        let control = SecurityControl::ENCRYPTED;
        security::seal(&RustCrypto, control, &[7; 8], 9, &keys, &push(), &mut sealed);
        let wrong = DecodeKeys { guek: Some([9; 16]), ..DecodeKeys::default() };
        let root = decode(&sealed, Framing::Apdu, &wrong).unwrap();
        let apdu = &root.children[0];
        assert_eq!(apdu.authentication, Some(Authentication::Unauthenticated));
        assert_eq!(apdu.children.last().unwrap().name, "undecodable");
    }

    #[test]
    fn the_deepest_nesting_is_described() {
        let mut apdu = vec![0x0f, 0, 0, 0, 1, 0];
        apdu.extend([0x02, 1].repeat(MAX_DEPTH));
        apdu.push(0);
        let root = decode(&apdu, Framing::Apdu, &no_keys()).unwrap();
        let mut node = &root.children[0].children[2];
        for _ in 0..MAX_DEPTH {
            assert_eq!(node.name, "structure");
            node = &node.children[0];
        }
        assert_eq!((&*node.name, node.offset), ("null-data", apdu.len() - 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            guek: Option<[u8; 16]>,
            gak: Option<[u8; 16]>,
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let keys = DecodeKeys { guek, gak, gbek: guek, dedicated: guek, system_title: None };
            let mut mutated = framed(&push());
            let at = at.index(mutated.len());
            mutated[at] = byte;
            for input in [bytes, mutated] {
                for framing in
                    [Framing::Auto, Framing::Wrapper, Framing::Hdlc, Framing::Mbus, Framing::Apdu]
                {
                    if let Err(error) = decode(&input, framing, &keys) {
                        prop_assert!(error.offset <= input.len());
                    }
                }
            }
        }
    }
}
