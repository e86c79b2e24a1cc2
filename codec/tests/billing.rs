//! Billing pushes: the 32 columns of D1, flat or as the buffer of a profile. The captures at hand hold none, so these
//! come from another DLMS stack:
//!
//!     tests/peers/push.py gen --seed 6 --meters 8 --count 16 --kinds billing,nic_billing --ciphers 30,10,20,plain …
#![allow(clippy::unwrap_used)]

use codec::apdu::block_transfer::{Assembly, BlockSender};
use codec::apdu::{self, Apdu};
use codec::axdr::Value;
use codec::hdlc::{self, Deframer, Step};
use codec::security::{Keys, Opened, Policy, RustCrypto, Scratch, SecurityError, open};
use codec::tree::{self, Authentication, DecodeKeys, Framing, Node};
use codec::wrapper::Wrapper;
use serde_json::Value as Json;

/// Columns of a bill.
const COLUMNS: usize = 32;
/// Bits of a tag.
const TAG_BITS: usize = 96;

fn pushes() -> Vec<Json> {
    let lines: Vec<Json> =
        include_str!("billing.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 16);
    lines
}

fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().unwrap()).unwrap()
}

fn keys(push: &Json) -> Keys {
    Keys::new(bytes(&push["guek"]).try_into().unwrap(), bytes(&push["gak"]).try_into().unwrap())
}

/// Whether it carries a tag.
fn is_tagged(push: &Json) -> bool {
    matches!(push["cipher"].as_str(), Some("10" | "30"))
}

/// The notification in an APDU, verified where it has a tag.
fn opened(push: &Json, apdu: &[u8], scratch: &mut Scratch) -> Vec<u8> {
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(apdu) else {
        assert_eq!(push["cipher"], "plain");
        return apdu.to_vec();
    };
    match open(&RustCrypto, &glo, &keys(push), Policy::Transport, scratch).unwrap() {
        Opened::Authentic(plain) => {
            assert!(is_tagged(push));
            plain.into_inner().to_vec()
        }
        Opened::Unauthenticated(plain) => {
            assert_eq!(push["cipher"], "20");
            plain.to_vec()
        }
    }
}

/// A cell as it was put in: times in hexadecimal, numbers as they are.
fn is_cell(read: Value<'_>, put: &Json) -> bool {
    match read {
        Value::OctetString(time) => put.as_str() == Some(&hex::encode(time)),
        Value::I16(number) => put.as_i64() == Some(number.into()),
        Value::U32(number) => put.as_u64() == Some(number.into()),
        // On the way they were floats of 32 bits.
        Value::F32(bits) => put.as_f64().map(|put| put as f32) == Some(f32::from_bits(bits)),
        other => panic!("in no bill: {other:?}"),
    }
}

/// The cells of a bill, wherever it stands in the push.
fn cells<'a>(push: &Json, plain: &'a [u8]) -> Vec<Value<'a>> {
    let Ok(Apdu::DataNotification(notification)) = apdu::parse(plain) else { panic!("no push") };
    let Value::Structure(body) = notification.body() else { panic!("no structure") };
    let body: Vec<Value<'a>> = body.iter().collect();
    assert_eq!(body[0], Value::OctetString(format!("GXP{}", push["serial"].as_str().unwrap()).as_bytes()));
    assert_eq!(body[1], Value::OctetString(&[0, 103, 25, 9, 0, 255]));
    assert!(body[2].date_time().is_some());
    if push["kind"] == "billing" {
        return body[3..].to_vec();
    }
    let [Value::Array(rows)] = body[3..] else { panic!("no buffer") };
    let rows: Vec<Value<'a>> = rows.iter().collect();
    let [Value::Structure(row)] = rows[..] else { panic!("not one row") };
    row.iter().collect()
}

fn check(push: &Json, plain: &[u8]) {
    let (read, put) = (cells(push, plain), push["expected"]["cells"].as_array().unwrap());
    assert_eq!((read.len(), put.len()), (COLUMNS, COLUMNS), "{}", push["id"]);
    for (column, (read, put)) in read.into_iter().zip(put).enumerate() {
        assert!(is_cell(read, put), "{} column {column}: {read:?}, not {put}", push["id"]);
    }
}

/// The nodes of a description.
fn nodes(node: &Node) -> Vec<&Node> {
    let inner = node.children.iter().flat_map(nodes);
    [node].into_iter().chain(inner).collect()
}

#[test]
fn a_bill_is_what_another_stack_put_in_and_its_tag_is_verified() {
    let mut scratch = Scratch::new();
    for push in pushes() {
        let stream = bytes(&push["hex"]);
        let frame = Wrapper::new_checked(&stream).unwrap();
        check(&push, &opened(&push, frame.apdu(), &mut scratch));
        let (guek, gak) = (bytes(&push["guek"]).try_into().ok(), bytes(&push["gak"]).try_into().ok());
        let root =
            tree::decode(&stream, Framing::Auto, &DecodeKeys { guek, gak, ..DecodeKeys::default() }).unwrap();
        let described = nodes(&root);
        assert!(described.iter().any(|node| node.name == "data-notification"), "{}", push["id"]);
        let proved: Vec<Authentication> = described.iter().filter_map(|node| node.authentication).collect();
        let expected = match push["cipher"].as_str().unwrap() {
            "plain" => vec![],
            "20" => vec![Authentication::Unauthenticated],
            _ => vec![Authentication::Verified],
        };
        assert_eq!(proved, expected, "{}", push["id"]);
    }
}

#[test]
fn a_bill_with_a_flipped_bit_in_its_tag_is_refused() {
    let mut scratch = Scratch::new();
    for push in pushes().iter().filter(|push| is_tagged(push)) {
        let stream = bytes(&push["hex"]);
        for bit in 0..TAG_BITS {
            let mut flipped = stream.clone();
            let last = flipped.len() - 1;
            flipped[last - bit / 8] ^= 1 << (bit % 8);
            let frame = Wrapper::new_checked(&flipped).unwrap();
            let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(frame.apdu()) else { panic!("not ciphered") };
            let refused = open(&RustCrypto, &glo, &keys(push), Policy::Authenticated, &mut scratch);
            assert_eq!(refused, Err(SecurityError::Tag), "{} bit {bit}", push["id"]);
        }
    }
}

#[test]
fn a_bill_in_blocks_and_in_segments_of_hdlc_is_the_same() {
    let mut scratch = Scratch::new();
    for push in pushes() {
        let stream = bytes(&push["hex"]);
        let apdu = Wrapper::new_checked(&stream).unwrap().apdu();
        check(&push, &opened(&push, &through_blocks(apdu), &mut scratch));
        check(&push, &opened(&push, &through_hdlc(apdu), &mut scratch));
    }
}

/// The APDU cut into blocks of a general-block-transfer, and put together.
fn through_blocks(apdu: &[u8]) -> Vec<u8> {
    let mut sender = BlockSender::confirmed(apdu, 100, 63).unwrap();
    let (mut assembly, mut block) = (Assembly::new(1 << 16), Vec::new());
    while sender.emit_next(&mut block) {
        let Ok(Apdu::GeneralBlockTransfer(view)) = apdu::parse(&block) else { panic!("no block") };
        assembly.push(&view).unwrap();
        block.clear();
    }
    assembly.into_apdu().unwrap()
}

/// The APDU cut into segments of 128 bytes, as meters with a window of one send them, and put together.
fn through_hdlc(apdu: &[u8]) -> Vec<u8> {
    let information = [&[0xe6, 0xe7, 0][..], apdu].concat();
    let chunks: Vec<&[u8]> = information.chunks(128).collect();
    let mut stream = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let control = hdlc::Control::Information { send: number as u8 & 7, receive: 0, poll: true };
        let address = hdlc::Address::one(1);
        let segmented = number + 1 < chunks.len();
        hdlc::FrameRepr { segmented, destination: address, source: address, control }
            .emit(chunk, &mut stream);
    }
    let (mut deframer, mut information) = (Deframer::default(), Vec::new());
    let (mut reassembly, mut rest) = (hdlc::Reassembly::new(1 << 16), &stream[..]);
    loop {
        let Step::Frame { frame, length, .. } = deframer.next(rest) else { panic!("not whole") };
        rest = &rest[length..];
        if reassembly.push(&frame, &mut information).unwrap() {
            return hdlc::strip_llc(&information).to_vec();
        }
    }
}
