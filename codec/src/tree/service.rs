//! The services described: their fields are read once more, this time with their places.

use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, string::String};
use core::fmt;

use super::{Node, hex, value_node};
use crate::apdu::field::{Field, Reader};
use crate::apdu::{self, ActionResult, AttributeDescriptor, ConfirmedServiceError, DataAccessResult};
use crate::apdu::{EventNotification, ExceptionResponse, InvokeId, MethodDescriptor, SelectiveAccess};
use crate::axdr::Data;
use crate::cosem::profile_generic::Selection;
use crate::cosem::{ClassId, association};
use crate::cursor::Cursor;
use crate::error::Error;

/// What stands in a service APDU behind its invoke id.
#[derive(Clone, Copy)]
enum Part {
    /// An attribute with its selective access.
    Attribute,
    Method,
    /// Data that is always there.
    Value,
    /// Data that may be left out.
    Parameters,
    /// The number of a block.
    Number,
    Block,
    /// Data, or why there is none.
    Read,
    /// A block, or why there is none.
    ReadBlock,
    /// The result of writing.
    Written,
    /// The result of invoking, with what it returned.
    Invoked,
    /// A list of a simple part.
    List(&'static str, &'static Part),
}

/// The name and the parts of each kind of each service.
const fn layout(tag: u8, kind: u8) -> Option<(&'static str, &'static [Part])> {
    use Part::{
        Attribute, Block, Invoked, List, Method, Number, Parameters, Read, ReadBlock, Value, Written,
    };
    Some(match (tag, kind) {
        (apdu::GET_REQUEST, 1) => ("get-request-normal", &[Attribute]),
        (apdu::GET_REQUEST, 2) => ("get-request-next", &[Number]),
        (apdu::GET_REQUEST, 3) => ("get-request-with-list", &[List("attributes", &Attribute)]),
        (apdu::GET_RESPONSE, 1) => ("get-response-normal", &[Read]),
        (apdu::GET_RESPONSE, 2) => ("get-response-with-datablock", &[ReadBlock]),
        (apdu::GET_RESPONSE, 3) => ("get-response-with-list", &[List("results", &Read)]),
        (apdu::SET_REQUEST, 1) => ("set-request-normal", &[Attribute, Value]),
        (apdu::SET_REQUEST, 2) => ("set-request-with-first-datablock", &[Attribute, Block]),
        (apdu::SET_REQUEST, 3) => ("set-request-with-datablock", &[Block]),
        (apdu::SET_REQUEST, 4) => {
            ("set-request-with-list", &[List("attributes", &Attribute), List("values", &Value)])
        }
        (apdu::SET_REQUEST, 5) => {
            ("set-request-with-list-and-first-datablock", &[List("attributes", &Attribute), Block])
        }
        (apdu::SET_RESPONSE, 1) => ("set-response-normal", &[Written]),
        (apdu::SET_RESPONSE, 2) => ("set-response-datablock", &[Number]),
        (apdu::SET_RESPONSE, 3) => ("set-response-last-datablock", &[Written, Number]),
        (apdu::SET_RESPONSE, 4) => {
            ("set-response-last-datablock-with-list", &[List("results", &Written), Number])
        }
        (apdu::SET_RESPONSE, 5) => ("set-response-with-list", &[List("results", &Written)]),
        (apdu::ACTION_REQUEST, 1) => ("action-request-normal", &[Method, Parameters]),
        (apdu::ACTION_REQUEST, 2) => ("action-request-next-pblock", &[Number]),
        (apdu::ACTION_REQUEST, 3) => {
            ("action-request-with-list", &[List("methods", &Method), List("parameters", &Value)])
        }
        (apdu::ACTION_REQUEST, 4) => ("action-request-with-first-pblock", &[Method, Block]),
        (apdu::ACTION_REQUEST, 5) => {
            ("action-request-with-list-and-first-pblock", &[List("methods", &Method), Block])
        }
        (apdu::ACTION_REQUEST, 6) => ("action-request-with-pblock", &[Block]),
        (apdu::ACTION_RESPONSE, 1) => ("action-response-normal", &[Invoked]),
        (apdu::ACTION_RESPONSE, 2) => ("action-response-with-pblock", &[Block]),
        (apdu::ACTION_RESPONSE, 3) => ("action-response-with-list", &[List("results", &Invoked)]),
        (apdu::ACTION_RESPONSE, 4) => ("action-response-next-pblock", &[Number]),
        _ => return None,
    })
}

/// A get, set or action APDU that was parsed.
pub(super) fn node(apdu: &[u8], offset: usize) -> Node {
    let &[tag, kind, ..] = apdu else {
        return Node::new(offset, "service", hex(apdu));
    };
    let (name, parts) = layout(tag, kind).unwrap_or(("service", &[]));
    let mut cursor = Cursor::new(apdu);
    let _checked = cursor.take(2);
    let mut walk = Walk { reader: Reader::new(cursor), offset, nodes: Vec::new(), secret: false };
    let walked =
        walk.said::<InvokeId>("invoke id").and_then(|_| parts.iter().try_for_each(|&part| walk.part(part)));
    debug_assert!(walked.is_ok(), "the apdu was parsed");
    Node { children: walk.nodes, ..Node::new(offset, name, "") }
}

pub(super) fn event_node(event: &EventNotification<'_>, apdu: &[u8], offset: usize) -> Node {
    let mut cursor = Cursor::new(apdu);
    let _checked = cursor.take(1);
    let _checked = apdu::event::event_time(&mut cursor);
    let mut walk = Walk { reader: Reader::new(cursor), offset, nodes: Vec::new(), secret: false };
    let time = event.time.map_or_else(|| "absent".to_string(), |time| time.to_string());
    walk.nodes.push(Node::new(offset + 1, "time", time));
    let walked = walk.said::<AttributeDescriptor>("attribute").and_then(|_| walk.part(Part::Value));
    debug_assert!(walked.is_ok(), "the apdu was parsed");
    Node { children: walk.nodes, ..Node::new(offset, "event-notification-request", "") }
}

pub(super) fn exception_node(exception: &ExceptionResponse, offset: usize) -> Node {
    let children = Vec::from([
        Node::new(offset + 1, "state error", exception.state.to_string()),
        Node::new(offset + 2, "service error", exception.service.to_string()),
    ]);
    Node { children, ..Node::new(offset, "exception-response", "") }
}

pub(super) fn refusal_node(refusal: &ConfirmedServiceError, offset: usize) -> Node {
    let value =
        refusal.initiate_error().map_or_else(|| format!("code {}", refusal.value), |error| error.to_string());
    let children = Vec::from([
        Node::new(offset + 1, "service", refusal.service.to_string()),
        Node::new(offset + 2, "category", refusal.category.to_string()),
        Node::new(offset + 3, "error", value),
    ]);
    Node { children, ..Node::new(offset, "confirmed-service-error", "") }
}

/// The secret of an association, and the method that replaces it.
const SECRET: (ClassId, i8) = (association::CLASS, association::Attribute::Secret.number());
const CHANGE_SECRET: (ClassId, i8) = (association::CLASS, association::Method::ChangeHlsSecret.number());

/// Reads fields and puts down what they say.
struct Walk<'a> {
    reader: Reader<'a>,
    /// Of the APDU in the input.
    offset: usize,
    nodes: Vec<Node>,
    /// What was named holds a password or a secret.
    secret: bool,
}

impl<'a> Walk<'a> {
    fn part(&mut self, part: Part) -> Result<(), Error> {
        match part {
            Part::List(name, element) => self.list(name, *element),
            simple => self.simple(simple),
        }
    }

    fn list(&mut self, name: &'static str, element: Part) -> Result<(), Error> {
        let at = self.at();
        let count = self.reader.count()?;
        let outside = core::mem::take(&mut self.nodes);
        let walked = (0..count).try_for_each(|_| self.simple(element));
        let children = core::mem::replace(&mut self.nodes, outside);
        self.nodes.push(Node { children, ..Node::new(at, name, format!("{count} elements")) });
        walked
    }

    fn simple(&mut self, part: Part) -> Result<(), Error> {
        match part {
            Part::Attribute => self.attribute(),
            Part::Method => {
                let named = self.said::<MethodDescriptor>("method")?;
                self.secret |= (named.class, named.method) == CHANGE_SECRET;
                Ok(())
            }
            Part::Value => self.value(),
            Part::Parameters => self.optional("parameters", Self::value),
            Part::Number => self.said::<u32>("block number").map(drop),
            Part::Block => {
                self.block_head()?;
                self.raw()
            }
            Part::Read => self.read(Self::value),
            Part::ReadBlock => {
                self.block_head()?;
                self.read(Self::raw)
            }
            Part::Written => self.said::<DataAccessResult>("result").map(drop),
            Part::Invoked => {
                self.said::<ActionResult>("result")?;
                self.optional("returned", |walk| walk.read(Self::value))
            }
            Part::List(..) => Ok(()),
        }
    }

    fn at(&self) -> usize {
        self.offset + self.reader.position()
    }

    fn said<T: Field<'a> + fmt::Display>(&mut self, name: &'static str) -> Result<T, Error> {
        let at = self.at();
        let field: T = self.reader.field()?;
        self.nodes.push(Node::new(at, name, field.to_string()));
        Ok(field)
    }

    fn attribute(&mut self) -> Result<(), Error> {
        let named = self.said::<AttributeDescriptor>("attribute")?;
        self.secret |= (named.class, named.attribute) == SECRET;
        let at = self.at() + 1;
        let Some(access) = self.reader.field::<Option<SelectiveAccess<'a>>>()? else {
            return Ok(());
        };
        let parameters = value_node(access.parameters.value(), at + 1, self.at());
        let children = Vec::from([parameters]);
        self.nodes.push(Node { children, ..Node::new(at, "selective access", selector_text(&access)) });
        Ok(())
    }

    fn value(&mut self) -> Result<(), Error> {
        let at = self.at();
        let data: Data<'a> = self.reader.field()?;
        self.nodes.push(match self.secret {
            true => Node::new(at, "value", "not shown"),
            false => value_node(data.value(), at, self.at()),
        });
        Ok(())
    }

    /// A field that may be left out: one that is, is said to be absent.
    fn optional(
        &mut self,
        name: &'static str,
        inside: fn(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let at = self.at();
        if self.reader.field::<u8>()? == 0 {
            self.nodes.push(Node::new(at, name, "absent"));
            return Ok(());
        }
        inside(self)
    }

    /// What was read, or the reason for its lack.
    fn read(&mut self, inside: fn(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.reader.field::<u8>()? == 0 {
            return inside(self);
        }
        self.said::<DataAccessResult>("error").map(drop)
    }

    fn block_head(&mut self) -> Result<(), Error> {
        self.said::<bool>("last block")?;
        self.said::<u32>("block number").map(drop)
    }

    fn raw(&mut self) -> Result<(), Error> {
        let at = self.at();
        let raw: &[u8] = self.reader.field()?;
        let shown = if self.secret { "not shown".to_string() } else { hex(raw) };
        self.nodes.push(Node::new(at, "raw data", format!("{} bytes: {shown}", raw.len())));
        Ok(())
    }
}

fn selector_text(access: &SelectiveAccess<'_>) -> String {
    let meaning = match access.of_buffer() {
        Ok(Selection::Range(_)) => " (by range)",
        Ok(Selection::Entry(_)) => " (by entry)",
        Err(_) => "",
    };
    format!("selector {}{meaning}", access.selector)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::{DecodeKeys, Framing, decode};

    /// One line a node: offset, indent, name, value.
    fn lines(node: &Node, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        let space = if node.value.is_empty() { "" } else { " " };
        writeln!(out, "{:2} {indent}{}{space}{}", node.offset, node.name, node.value).unwrap();
        node.children.iter().for_each(|child| lines(child, depth + 1, out));
    }

    #[track_caller]
    fn described(apdu: &str, expected: &str) {
        let bytes = hex::decode(apdu.replace(' ', "")).unwrap();
        let root = decode(&bytes, Framing::Apdu, &DecodeKeys::default()).unwrap();
        let mut text = String::new();
        lines(&root.children[0], 0, &mut text);
        assert_eq!(text, expected);
    }

    #[test]
    fn a_secret_that_is_written_or_replaced_is_not_shown() {
        for (apdu, kind) in [
            ("C1 01 C1 000F 0000280000FF 07 00 0908 5572 6A61 3132 3334", "set-request-normal"),
            ("C3 01 C1 000F 0000280000FF 02 01 0908 5572 6A61 3132 3334", "action-request-normal"),
            (
                "C1 02 C1 000F 0000280000FF 07 00 01 00000001 0A 0908 5572 6A61 3132 3334",
                "with-first-datablock",
            ),
        ] {
            let bytes = hex::decode(apdu.replace(' ', "")).unwrap();
            let root = decode(&bytes, Framing::Apdu, &DecodeKeys::default()).unwrap();
            let mut text = String::new();
            lines(&root.children[0], 0, &mut text);
            assert!(text.contains(kind) && text.contains("not shown"), "{text}");
            assert!(!text.contains("55726a61") && !text.to_lowercase().contains("urja"), "{text}");
            let printed = format!("{:?}", apdu::parse(&bytes).unwrap());
            assert!(!printed.contains("85, 114") && !printed.contains("Urja"), "{printed}");
            assert!(printed.contains("10 bytes"), "{printed}");
        }
    }

    #[test]
    fn a_request_by_entry_is_described() {
        described(
            "C0 01 C1 0007 0100630100FF 02 01 02 0204 0600000001 0600000009 120001 120000",
            " 0 get-request-normal
 2   invoke id 1 confirmed high priority
 3   attribute class 7 1.0.99.1.0.255 attribute 2
13   selective access selector 2 (by entry)
14     structure 4 elements
16       double-long-unsigned 1
21       double-long-unsigned 9
26       long-unsigned 1
29       long-unsigned 0
",
        );
    }

    #[test]
    fn results_are_described_in_words() {
        described(
            "C4 03 C1 02 00 120007 01 03",
            " 0 get-response-with-list
 2   invoke id 1 confirmed high priority
 3   results 2 elements
 5     long-unsigned 7
 9     error read-write-denied
",
        );
        described(
            "C7 01 C1 00 00",
            " 0 action-response-normal
 2   invoke id 1 confirmed high priority
 3   result success
 4   returned absent
",
        );
        described(
            "C4 02 C1 01 00000002 01 0F",
            " 0 get-response-with-datablock
 2   invoke id 1 confirmed high priority
 3   last block true
 4   block number 2
 9   error long-get-aborted
",
        );
        described(
            "D8 01 06 00000100",
            " 0 exception-response
 1   state error service-not-allowed
 2   service error invocation-counter-error 256
",
        );
        described(
            "0E 01 06 02",
            " 0 confirmed-service-error
 1   service initiate
 2   category initiate
 3   error incompatible-conformance
",
        );
    }

    #[test]
    fn a_list_with_a_long_count_keeps_its_offsets() {
        described(
            "C1 04 41 8101 0046 000060030AFF 04 00 82 0001 16 04",
            " 0 set-request-with-list
 2   invoke id 1 confirmed
 3   attributes 1 elements
 5     attribute class 70 0.0.96.3.10.255 attribute 4
15   values 1 elements
18     enum 4
",
        );
    }

    #[test]
    fn a_method_and_an_event_are_described() {
        described(
            "C3 04 C1 0046 000060030AFF 01 00 00000001 02 0F00",
            " 0 action-request-with-first-pblock
 2   invoke id 1 confirmed high priority
 3   method class 70 0.0.96.3.10.255 method 1
12   last block false
13   block number 1
17   raw data 2 bytes: 0f00
",
        );
        described(
            "C2 09 0C 07EA06020200000000014A00 0001 0000600B00FF 02 120065",
            " 0 event-notification-request
 1   time 2026-06-02 00:00:00.00 deviation 330 status 0x00
15   attribute class 1 0.0.96.11.0.255 attribute 2
24   long-unsigned 101
",
        );
    }

    proptest! {
        #[test]
        fn any_service_is_described_or_refused(
            tag in 0xc0_u8..=0xc7,
            kind in 1_u8..=6,
            bytes in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..60),
        ) {
            let mut apdu = std::vec![tag, kind];
            apdu.extend_from_slice(&bytes);
            match decode(&apdu, Framing::Apdu, &DecodeKeys::default()) {
                Ok(root) => prop_assert_ne!(&*root.children[0].name, "service"),
                Err(error) => prop_assert!(error.offset <= apdu.len()),
            }
        }
    }
}
