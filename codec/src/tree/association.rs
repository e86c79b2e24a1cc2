//! Nodes of what opens, protects and releases an association.
//!
//! Passwords and dedicated keys are said to be there, and not shown.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Authentication, DecodeKeys, Node, hex, open, plaintext_node};
use crate::apdu::acse::{self, Aare, Aarq, Fields, Mechanism, Rlre, Rlrq, field};
use crate::apdu::ciphered::{Ciphered, Content, GeneralCiphering, GeneralDed, Scope};
use crate::apdu::initiate::{InitiateRequest, InitiateResponse};
use crate::apdu::{self, Apdu, SYSTEM_TITLE_LEN};
use crate::cursor::Cursor;
use crate::security::{Scratch, SecurityControl};

const PRESENT: &str = "present";

/// The node of an APDU of this family, which lies in the input at `offset`; none of any other. Without keys,
/// what is ciphered stays closed.
pub(super) fn node(apdu: &Apdu<'_>, bytes: &[u8], offset: usize, keys: Option<&DecodeKeys>) -> Option<Node> {
    Some(match apdu {
        Apdu::InitiateRequest(_) => initiate_request(bytes, offset),
        Apdu::InitiateResponse(_) => initiate_response(bytes, offset),
        Apdu::Ciphered(ciphered) => {
            let title = keys.and_then(|keys| keys.system_title);
            service(ciphered, offset, title.as_ref(), keys)
        }
        Apdu::AssociationRequest(aarq) => request(aarq, bytes, offset, keys),
        Apdu::AssociationResponse(aare) => response(aare, bytes, offset, keys),
        Apdu::ReleaseRequest(Rlrq { reason, .. }) => {
            release("release-request", reason.map(|reason| reason.to_string()), bytes, offset, keys)
        }
        Apdu::ReleaseResponse(Rlre { reason, .. }) => {
            release("release-response", reason.map(|reason| reason.to_string()), bytes, offset, keys)
        }
        Apdu::GeneralDed(ded) => general_ded(ded, offset),
        Apdu::GeneralCiphering(general) => general_ciphering(general, offset),
        _ => return None,
    })
}

fn request(aarq: &Aarq<'_>, bytes: &[u8], offset: usize, keys: Option<&DecodeKeys>) -> Node {
    let mut node = Node::new(offset, "association-request", "");
    let mut fields = Fields::of(bytes);
    while let Ok(Some((start, tag, content))) = fields.next() {
        let start = offset + start;
        node.children.push(match tag {
            field::CONTEXT => Node::new(start, "application context", aarq.context.to_string()),
            field::CALLING_AP_TITLE => title_node(start, "calling system title", &content),
            field::CALLING_REQUIREMENTS => Node::new(start, "requirements", "authentication"),
            field::CALLING_MECHANISM => Node::new(start, "mechanism", aarq.mechanism.to_string()),
            field::CALLING_AUTHENTICATION => proof(start, aarq.mechanism, aarq.authentication_value),
            field::USER_INFORMATION => information(start, &content, offset, aarq.system_title(), keys),
            other => unknown(start, other, &content),
        });
    }
    node
}

fn response(aare: &Aare<'_>, bytes: &[u8], offset: usize, keys: Option<&DecodeKeys>) -> Node {
    let mut node = Node::new(offset, "association-response", "");
    let mut fields = Fields::of(bytes);
    let words = |value: Option<String>| value.unwrap_or_default();
    while let Ok(Some((start, tag, content))) = fields.next() {
        let start = offset + start;
        node.children.push(match tag {
            field::CONTEXT => {
                let context = aare.context.map(|context| context.to_string());
                Node::new(start, "application context", words(context))
            }
            field::RESULT => Node::new(start, "result", aare.result.to_string()),
            field::DIAGNOSTIC => {
                let diagnostic = aare.diagnostic.map(|diagnostic| diagnostic.to_string());
                Node::new(start, "diagnostic", words(diagnostic))
            }
            field::RESPONDING_AP_TITLE => title_node(start, "responding system title", &content),
            field::RESPONDING_REQUIREMENTS => Node::new(start, "requirements", "authentication"),
            field::RESPONDING_MECHANISM => Node::new(start, "mechanism", aare.mechanism.to_string()),
            field::RESPONDING_AUTHENTICATION => proof(start, aare.mechanism, aare.authentication_value),
            field::USER_INFORMATION => information(start, &content, offset, aare.system_title(), keys),
            other => unknown(start, other, &content),
        });
    }
    node
}

fn release(
    name: &'static str,
    reason: Option<String>,
    bytes: &[u8],
    offset: usize,
    keys: Option<&DecodeKeys>,
) -> Node {
    let mut node = Node::new(offset, name, "");
    let mut fields = Fields::of(bytes);
    while let Ok(Some((start, tag, content))) = fields.next() {
        let start = offset + start;
        node.children.push(match tag {
            field::REASON => Node::new(start, "reason", reason.clone().unwrap_or_default()),
            field::USER_INFORMATION => information(start, &content, offset, None, keys),
            other => unknown(start, other, &content),
        });
    }
    node
}

fn title_node(start: usize, name: &'static str, content: &Cursor<'_>) -> Node {
    Node::new(start, name, acse::octets(*content).map(hex).unwrap_or_default())
}

/// A challenge is random and shown; anything else may be a password.
fn proof(start: usize, mechanism: Mechanism, value: Option<&[u8]>) -> Node {
    match mechanism {
        Mechanism::Lowest | Mechanism::LowLevel | Mechanism::Unknown(_) => {
            Node::new(start, "authentication value", PRESENT)
        }
        _ => Node::new(start, "challenge", hex(value.unwrap_or_default())),
    }
}

/// A field that is not looked into: it may hold anything, so only its size is said.
fn unknown(start: usize, tag: u8, content: &Cursor<'_>) -> Node {
    Node::new(start, "field", format!("0x{tag:02x}, {} bytes", content.remaining()))
}

/// Only what belongs there is described, so that nothing can be nested in it again and again.
fn information(
    start: usize,
    content: &Cursor<'_>,
    apdu: usize,
    title: Option<&[u8; SYSTEM_TITLE_LEN]>,
    keys: Option<&DecodeKeys>,
) -> Node {
    let mut node = Node::new(start, "user information", "");
    let Ok(content) = acse::located_octets(*content) else {
        return node;
    };
    let (bytes, at) = (content.rest(), apdu + content.position());
    match apdu::parse(bytes) {
        Ok(Apdu::InitiateRequest(_)) => node.children.push(initiate_request(bytes, at)),
        Ok(Apdu::InitiateResponse(_)) => node.children.push(initiate_response(bytes, at)),
        Ok(Apdu::Ciphered(ciphered)) => {
            let known = keys.and_then(|keys| keys.system_title);
            node.children.push(service(&ciphered, at, title.or(known.as_ref()), keys));
        }
        _ if bytes.first() == Some(&apdu::initiate::INITIATE_REQUEST) => {
            node.value = format!("undecodable initiate-request of {} bytes", bytes.len());
        }
        _ => node.value = hex(bytes),
    }
    node
}

fn initiate_request(bytes: &[u8], offset: usize) -> Node {
    let mut node = Node::new(offset, "initiate-request", "");
    let mut cursor = Cursor::new(bytes);
    let located = cursor.u8().and_then(|_tag| InitiateRequest::located(cursor));
    let Ok((request, version)) = located else {
        return node;
    };
    let end = offset + bytes.len();
    if request.dedicated_key.is_some() {
        node.children.push(Node::new(offset + 1, "dedicated key", PRESENT));
    }
    if !request.response_allowed {
        node.children.push(Node::new(offset + version.saturating_sub(2), "response allowed", "false"));
    }
    quality(request.quality_of_service, offset + version, &mut node);
    node.children.extend([
        Node::new(offset + version, "proposed version", request.dlms_version.to_string()),
        Node::new(offset + version + 1, "proposed conformance", request.conformance.to_string()),
        Node::new(end.saturating_sub(2), "client max pdu", request.max_pdu.to_string()),
    ]);
    node
}

fn initiate_response(bytes: &[u8], offset: usize) -> Node {
    let mut node = Node::new(offset, "initiate-response", "");
    let mut cursor = Cursor::new(bytes);
    let located = cursor.u8().and_then(|_tag| InitiateResponse::located(cursor));
    let Ok((response, version)) = located else {
        return node;
    };
    let end = offset + bytes.len();
    quality(response.quality_of_service, offset + version, &mut node);
    let names = match response.vaa_name {
        InitiateResponse::LOGICAL_NAME => "logical names".to_string(),
        InitiateResponse::SHORT_NAME => "short names".to_string(),
        other => format!("0x{other:04x}"),
    };
    node.children.extend([
        Node::new(offset + version, "negotiated version", response.dlms_version.to_string()),
        Node::new(offset + version + 1, "negotiated conformance", response.conformance.to_string()),
        Node::new(end.saturating_sub(4), "server max pdu", response.max_pdu.to_string()),
        Node::new(end.saturating_sub(2), "vaa name", names),
    ]);
    node
}

fn quality(quality: Option<i8>, version: usize, node: &mut Node) {
    if let Some(quality) = quality {
        node.children.push(Node::new(version.saturating_sub(1), "quality of service", quality.to_string()));
    }
}

/// A glo-* APDU is opened when the title of its sender is known; the key of a ded-* one never is.
fn service(
    ciphered: &Ciphered<'_>,
    offset: usize,
    title: Option<&[u8; SYSTEM_TITLE_LEN]>,
    keys: Option<&DecodeKeys>,
) -> Node {
    let mut node = Node::new(offset, "", "");
    node.name = format!("{}-{}", ciphered.prefix(), ciphered.service()).into();
    let content = ciphered.content();
    head(&content, offset, &mut node);
    match (ciphered.scope(), title, keys) {
        (Scope::Global, Some(title), Some(keys)) => opened(ciphered, title, offset, keys, &mut node),
        _ => closed(&content, offset, &mut node),
    }
    node
}

fn opened(
    ciphered: &Ciphered<'_>,
    title: &[u8; SYSTEM_TITLE_LEN],
    offset: usize,
    keys: &DecodeKeys,
    node: &mut Node,
) {
    let content = ciphered.content();
    let mut scratch = Scratch::new();
    match open(&ciphered.as_general(title), keys, &mut scratch) {
        Ok((authentication, Some(plain))) => {
            node.authentication = Some(authentication);
            node.children.push(plaintext_node(plain, offset + content.offset));
        }
        Ok((authentication, None)) => {
            closed(&content, offset, node);
            node.authentication = Some(authentication);
        }
        Err(error) => {
            closed(&content, offset, node);
            node.value = error.to_string();
            node.authentication = Some(Authentication::Failed);
        }
    }
}

fn general_ded(ded: &GeneralDed<'_>, offset: usize) -> Node {
    let mut node = Node::new(offset, "general-ded-ciphering", "");
    node.children.push(Node::new(offset + 1, "system title", hex(ded.system_title())));
    head(&ded.content(), offset, &mut node);
    closed(&ded.content(), offset, &mut node);
    node
}

fn general_ciphering(general: &GeneralCiphering<'_>, offset: usize) -> Node {
    let mut node = Node::new(offset, "general-ciphering", "");
    let fields = [
        ("transaction id", general.transaction_id()),
        ("originator system title", general.originator()),
        ("recipient system title", general.recipient()),
        ("date-time", general.date_time()),
        ("other information", general.other_information()),
    ];
    let mut cursor = Cursor::new(general.head());
    for (name, value) in fields {
        let start = offset + 1 + cursor.position();
        let _checked = cursor.length().and_then(|length| cursor.take(length));
        node.children.push(Node::new(start, name, hex(value)));
    }
    let key = general.key_info().map_or_else(|| "absent".to_string(), |key| key.to_string());
    node.children.push(Node::new(offset + 1 + cursor.position(), "key", key));
    head(&general.content(), offset, &mut node);
    closed(&general.content(), offset, &mut node);
    node
}

fn head(content: &Content<'_>, offset: usize, node: &mut Node) {
    let payload = offset + content.offset;
    let control = protection(content.control);
    node.children.extend([
        Node::new(payload.saturating_sub(5), "security control", control),
        Node::new(payload.saturating_sub(4), "invocation counter", content.counter.to_string()),
    ]);
}

fn protection(control: SecurityControl) -> String {
    let words = match (control.authenticated(), control.encrypted()) {
        (true, true) => "authenticated, encrypted",
        (true, false) => "authenticated",
        (false, true) => "encrypted",
        (false, false) => "no protection",
    };
    let broadcast = if control.broadcast() { ", broadcast key" } else { "" };
    format!("{control} ({words}{broadcast})")
}

/// Without a key nothing is known of the origin, and what is authenticated only may hold a key in the clear.
fn closed(content: &Content<'_>, offset: usize, node: &mut Node) {
    node.authentication = Some(Authentication::NotVerified);
    let at = offset + content.offset;
    let payload = if content.control.encrypted() {
        hex(content.payload)
    } else {
        format!("{} bytes", content.payload.len())
    };
    node.children.push(Node::new(at, "ciphered", payload));
}
