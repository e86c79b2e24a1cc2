//! Nodes of what opens, protects and releases an association.
//!
//! Passwords and dedicated keys are said to be there, and not shown.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Authentication, DecodeKeys, Node, hex, open, plaintext_node, received};
use crate::apdu::acse::{self, Aare, Aarq, Fields, Mechanism, Rlre, Rlrq, field};
use crate::apdu::ciphered::{Ciphered, Content, GeneralCiphering, GeneralDed, KeyInfo, Scope};
use crate::apdu::initiate::{InitiateRequest, InitiateResponse};
use crate::apdu::{self, Apdu, SYSTEM_TITLE_LEN};
use crate::cursor::Cursor;
use crate::security::keys::KeyUse;
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
            service(ciphered, bytes, offset, title.as_ref(), keys)
        }
        Apdu::AssociationRequest(aarq) => request(aarq, bytes, offset, keys),
        Apdu::AssociationResponse(aare) => response(aare, bytes, offset, keys),
        Apdu::ReleaseRequest(Rlrq { reason, .. }) => {
            release("release-request", reason.map(|reason| reason.to_string()), bytes, offset, keys)
        }
        Apdu::ReleaseResponse(Rlre { reason, .. }) => {
            release("release-response", reason.map(|reason| reason.to_string()), bytes, offset, keys)
        }
        Apdu::GeneralDed(ded) => general_ded(ded, bytes, offset, keys),
        Apdu::GeneralCiphering(general) => general_ciphering(general, bytes, offset, keys),
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
            node.children.push(service(&ciphered, bytes, at, title.or(known.as_ref()), keys));
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

/// A glo-* or ded-* APDU is opened when the title of its sender and its key are known.
fn service(
    ciphered: &Ciphered<'_>,
    bytes: &[u8],
    offset: usize,
    title: Option<&[u8; SYSTEM_TITLE_LEN]>,
    keys: Option<&DecodeKeys>,
) -> Node {
    let mut node = Node::new(offset, "", "");
    node.name = format!("{}-{}", ciphered.prefix(), ciphered.service()).into();
    let content = ciphered.content();
    head(&content, offset, &mut node);
    let (Some(title), Some(keys)) = (title, keys) else {
        closed(&content, offset, &mut node);
        return node;
    };
    let mut scratch = Scratch::new();
    let opened = match ciphered.scope() {
        Scope::Global if !content.control.broadcast() => {
            open(&ciphered.as_general(title), keys, &mut scratch).map_err(|error| error.to_string())
        }
        Scope::Global => received(bytes, title, content.control, KeyUse::Broadcast, keys, &mut scratch),
        Scope::Dedicated => received(bytes, title, content.control, KeyUse::Dedicated, keys, &mut scratch),
    };
    shown(opened, &content, offset, &mut node);
    node
}

/// What was opened of a content, or why it was not.
fn shown(
    opened: Result<(Authentication, Option<&[u8]>), String>,
    content: &Content<'_>,
    offset: usize,
    node: &mut Node,
) {
    match opened {
        Ok((authentication, Some(plain))) => {
            node.authentication = Some(authentication);
            node.children.push(plaintext_node(plain, offset + content.offset));
        }
        Ok((authentication, None)) => {
            closed(content, offset, node);
            node.authentication = Some(authentication);
        }
        Err(error) => {
            closed(content, offset, node);
            node.value = error;
            node.authentication = Some(Authentication::Failed);
        }
    }
}

fn general_ded(ded: &GeneralDed<'_>, bytes: &[u8], offset: usize, keys: Option<&DecodeKeys>) -> Node {
    let mut node = Node::new(offset, "general-ded-ciphering", "");
    node.children.push(Node::new(offset + 1, "system title", hex(ded.system_title())));
    let content = ded.content();
    head(&content, offset, &mut node);
    let mut scratch = Scratch::new();
    let opened = match keys {
        Some(keys) => {
            received(bytes, ded.system_title(), content.control, KeyUse::Dedicated, keys, &mut scratch)
        }
        None => Ok((Authentication::NotVerified, None)),
    };
    shown(opened, &content, offset, &mut node);
    node
}

fn general_ciphering(
    general: &GeneralCiphering<'_>,
    bytes: &[u8],
    offset: usize,
    keys: Option<&DecodeKeys>,
) -> Node {
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
    let content = general.content();
    head(&content, offset, &mut node);
    let key = match general.key_info() {
        Some(KeyInfo::Unicast) => Some(KeyUse::Unicast),
        Some(KeyInfo::Broadcast) => Some(KeyUse::Broadcast),
        _ => None,
    };
    let mut scratch = Scratch::new();
    let opened = match (keys, key) {
        (Some(keys), Some(key)) => {
            received(bytes, general.originator(), content.control, key, keys, &mut scratch)
        }
        _ => Ok((Authentication::NotVerified, None)),
    };
    shown(opened, &content, offset, &mut node);
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

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::super::{Framing, decode};
    use super::*;
    use crate::apdu::acse::{ApplicationContext, AssociationResult, Diagnostic, ServiceUser};
    use crate::apdu::initiate::{Conformance, DedicatedKey};
    use crate::security::association::{Envelope, Outgoing, Protect};
    use crate::security::counter::SendCounter;
    use crate::security::keys::{AssociationKeys, Key};
    use crate::security::{Keys, RustCrypto};

    const TITLE: [u8; 8] = *b"HXE00005";

    fn keys() -> DecodeKeys {
        DecodeKeys { guek: Some([1; 16]), gak: Some([2; 16]), ..DecodeKeys::default() }
    }

    fn sealed(protect: Protect, plain: &[u8]) -> Vec<u8> {
        let mut counters = SendCounter::of_session();
        let keys = AssociationKeys::new(Keys::new([1; 16], [2; 16]));
        let mut out = vec![];
        let invocation = counters.take().unwrap();
        Outgoing { title: TITLE, protect }
            .seal(&RustCrypto, &keys, KeyUse::Unicast, Envelope::Service, invocation, plain, &mut out)
            .unwrap();
        out
    }

    fn initiate() -> Vec<u8> {
        let request = InitiateRequest {
            dedicated_key: Some(DedicatedKey(&[0x77; 16])),
            response_allowed: true,
            quality_of_service: None,
            dlms_version: 6,
            conformance: Conformance::GET.union(Conformance::ACTION),
            max_pdu: 750,
        };
        request.encode().to_vec()
    }

    fn aarq(mechanism: Mechanism, information: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let aarq = Aarq {
            context: ApplicationContext::LogicalNameCiphered,
            calling_ap_title: Some(&TITLE),
            mechanism,
            authentication_value: Some(b"PASSWORD"),
            user_information: Some(information),
        };
        aarq.emit(&mut out);
        out
    }

    /// One line a node: offset, indent, name, value, authentication.
    fn lines(node: &Node, depth: usize, out: &mut String) {
        let authentication = node.authentication.map_or("", Authentication::as_str);
        let line =
            format!("{:3} {}{} {} {authentication}", node.offset, "  ".repeat(depth), node.name, node.value);
        *out += line.trim_end();
        *out += "\n";
        node.children.iter().for_each(|child| lines(child, depth + 1, out));
    }

    fn described(apdu: &[u8], keys: &DecodeKeys) -> String {
        let root = decode(apdu, Framing::Apdu, keys).unwrap();
        let mut text = String::new();
        lines(&root.children[0], 0, &mut text);
        text
    }

    #[test]
    fn a_ciphered_association_request_is_opened_with_the_title_in_it() {
        let apdu = aarq(Mechanism::LowLevel, &sealed(Protect::AuthenticatedEncrypted, &initiate()));
        let expected = "  \
  0 association-request
  2   application context logical name with ciphering
 13   calling system title 4858453030303035
 25   requirements authentication
 29   mechanism low level: password
 38   authentication value present
 50   user information
 54     glo-initiate-request  verified
 56       security control 0x30 (authenticated, encrypted)
 57       invocation counter 0
 61       initiate-request
 62         dedicated key present
 82         proposed version 6
 83         proposed conformance get action
 90         client max pdu 750
";
        assert_eq!(described(&apdu, &keys()), expected);
    }

    /// A question under a key of its own, as the session would seal it.
    fn sealed_under(key: KeyUse, envelope: Envelope, protect: Protect) -> Vec<u8> {
        let mut all = AssociationKeys::new(Keys::new([1; 16], [2; 16])).with_broadcast(Key::new([3; 16]));
        all.set_dedicated(Some(Key::new([4; 16])));
        let invocation = SendCounter::of_session().take().unwrap();
        let (question, mut out) = ([0xc0, 1, 0xc1, 0, 8, 0, 0, 1, 0, 0, 255, 2, 0], vec![]);
        Outgoing { title: TITLE, protect }
            .seal(&RustCrypto, &all, key, envelope, invocation, &question, &mut out)
            .unwrap();
        out
    }

    #[test]
    fn what_is_under_a_dedicated_or_the_broadcast_key_is_opened_with_it_and_only_with_it() {
        let title = Some(TITLE);
        let all = DecodeKeys { gbek: Some([3; 16]), dedicated: Some([4; 16]), system_title: title, ..keys() };
        let neither = DecodeKeys { system_title: title, ..keys() };
        let wrong = DecodeKeys { gbek: Some([9; 16]), dedicated: Some([9; 16]), ..neither.clone() };
        for key in [KeyUse::Broadcast, KeyUse::Dedicated] {
            for envelope in [Envelope::Service, Envelope::General] {
                for protect in [Protect::Authenticated, Protect::AuthenticatedEncrypted] {
                    let apdu = sealed_under(key, envelope, protect);
                    let text = described(&apdu, &all);
                    let first = text.lines().next().unwrap();
                    assert!(first.ends_with(" verified") && !first.contains("not"), "{text}");
                    assert!(text.contains("get-request-normal") && text.contains("0.0.1.0.0.255"), "{text}");
                    let text = described(&apdu, &neither);
                    assert!(text.lines().next().unwrap().ends_with("not verified"), "{text}");
                    assert!(!text.contains("get-request-normal"), "{text}");
                    let text = described(&apdu, &wrong);
                    assert!(text.lines().next().unwrap().ends_with("failed"), "{text}");
                    assert!(!text.contains("get-request-normal"), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_association_response_is_said_in_words() {
        let response = InitiateResponse {
            quality_of_service: Some(1),
            dlms_version: 6,
            conformance: Conformance::GET,
            max_pdu: 1024,
            vaa_name: InitiateResponse::LOGICAL_NAME,
        };
        let (mut information, mut apdu) = (vec![], vec![]);
        response.emit(&mut information);
        let aare = Aare {
            context: Some(ApplicationContext::LogicalName),
            result: AssociationResult::Accepted,
            diagnostic: Some(Diagnostic::User(ServiceUser::AuthenticationRequired)),
            responding_ap_title: Some(&TITLE),
            mechanism: Mechanism::Gmac,
            authentication_value: Some(b"12345678"),
            user_information: Some(&information),
        };
        aare.emit(&mut apdu);
        let expected = "  \
  0 association-response
  2   application context logical name
 13   result accepted
 18   diagnostic authentication required
 25   responding system title 4858453030303035
 37   requirements authentication
 41   mechanism high level: GMAC
 50   challenge 3132333435363738
 62   user information
 66     initiate-response
 68       quality of service 1
 69       negotiated version 6
 70       negotiated conformance get
 77       server max pdu 1024
 79       vaa name logical names
";
        assert_eq!(described(&apdu, &keys()), expected);
    }

    #[test]
    fn passwords_and_dedicated_keys_are_never_shown() {
        let hidden = [hex(b"PASSWORD"), hex(&[0x77; 4])];
        let short = [&initiate()[..20], &[0x99]].concat();
        for plain in [&initiate()[..], &short] {
            for information in [plain.to_vec(), sealed(Protect::Authenticated, plain)] {
                for keys in [DecodeKeys::default(), keys()] {
                    for mechanism in [Mechanism::LowLevel, Mechanism::Lowest, Mechanism::Unknown(9)] {
                        let text = described(&aarq(mechanism, &information), &keys);
                        assert!(hidden.iter().all(|secret| !text.contains(secret)), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_release_says_why() {
        assert_eq!(described(&[0x62, 3, 0x80, 1, 0], &keys()), "  0 release-request\n  2   reason normal\n");
        assert_eq!(
            described(&[0x63, 3, 0x80, 1, 1], &keys()),
            "  0 release-response\n  2   reason not finished\n"
        );
    }

    #[test]
    fn what_cannot_be_opened_stays_closed() {
        let ded = [&[0xdc, 8][..], &TITLE, &[7, 0x30, 0, 0, 0, 9, 0xab, 0xcd]].concat();
        let expected = "  \
  0 general-ded-ciphering  not verified
  1   system title 4858453030303035
 11   security control 0x30 (authenticated, encrypted)
 12   invocation counter 9
 16   ciphered abcd
";
        assert_eq!(described(&ded, &keys()), expected);
        let general =
            [&[0xdd, 1, 5, 8][..], &TITLE, &[0, 0, 0, 1, 0, 1, 7, 0x30, 0, 0, 0, 9, 0xab, 0xcd]].concat();
        let text = described(&general, &keys());
        for line in [
            "  1   transaction id 05",
            "  3   originator system title 4858453030303035",
            " 14   other information",
            " 15   key global broadcast encryption key",
            " 24   ciphered abcd",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    /// Whatever is put into user information, over and over, the description is as deep as one of them.
    #[test]
    fn nesting_is_not_followed() {
        let mut apdu = initiate();
        for _ in 0..2000 {
            apdu = aarq(Mechanism::Lowest, &apdu);
        }
        let text = described(&apdu, &keys());
        assert!(text.lines().count() < 10, "{} lines", text.lines().count());
    }

    proptest! {
        #[test]
        fn mutated_association_requests_are_described_or_refused(at in any::<prop::sample::Index>(), byte: u8) {
            let mut apdu = aarq(Mechanism::Gmac, &sealed(Protect::AuthenticatedEncrypted, &initiate()));
            let at = at.index(apdu.len());
            apdu[at] = byte;
            for keys in [DecodeKeys::default(), keys()] {
                if let Err(error) = decode(&apdu, Framing::Apdu, &keys) {
                    prop_assert!(error.offset <= apdu.len());
                }
            }
        }
    }
}
