//! Public captures of real meters, and pushes made by an independent DLMS stack.
#![allow(clippy::unwrap_used)]

use codec::apdu::block_transfer::{Assembly, Taken};
use codec::apdu::{self, Apdu, DataNotification, GeneralGlo};
use codec::axdr::{DateTime, Value};
use codec::hdlc::{self, Deframer, Step};
use codec::mbus;
use codec::security::{CryptoProvider, Keys, Opened, Policy, RustCrypto, Scratch, SecurityError, open};
use codec::tree::{self, Authentication, DecodeKeys, Framing, Node};
use codec::wrapper::Wrapper;
use serde_json::Value as Json;

/// The lines of a fixture, or nothing where the fixtures are not there.
fn fixture(name: &str) -> Vec<Json> {
    let path = format!("{}/../../shared/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{path}: {error}");
            println!("skipped: not there: {path}");
            Vec::new()
        }
    }
}

fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(json: &Json) -> [u8; N] {
    bytes(json).try_into().unwrap()
}

fn keys(push: &Json) -> Keys {
    Keys::new(array(&push["guek"]), array(&push["gak"]))
}

/// The pushes in the wrapper that are not cut into blocks.
fn wrapped() -> Vec<Json> {
    let mut pushes = fixture("india_push.jsonl");
    pushes.retain(|push| push["framing"] == "wrapper" && push["gbt"] == false);
    pushes
}

fn glo(apdu: &[u8]) -> Option<GeneralGlo<'_>> {
    match apdu::parse(apdu) {
        Ok(Apdu::GeneralGlo(glo)) => Some(glo),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

fn notification(apdu: &[u8]) -> DataNotification<'_> {
    match apdu::parse(apdu) {
        Ok(Apdu::DataNotification(notification)) => notification,
        other => panic!("not a data-notification: {other:?}"),
    }
}

/// The numbers in `value` in order; times and strings are left out.
fn numbers(value: Value<'_>) -> Vec<f64> {
    match value {
        Value::Array(elements) | Value::Structure(elements) | Value::CompactArray(elements) => {
            elements.iter().flat_map(numbers).collect()
        }
        Value::Bool(value) => vec![f64::from(u8::from(value))],
        Value::I8(value) => vec![value.into()],
        Value::I16(value) => vec![value.into()],
        Value::I32(value) => vec![value.into()],
        Value::U8(value) | Value::Enum(value) => vec![value.into()],
        Value::U16(value) => vec![value.into()],
        Value::U32(value) => vec![value.into()],
        Value::U64(value) => vec![u32::try_from(value).unwrap().into()],
        Value::F32(bits) => vec![f32::from_bits(bits).into()],
        Value::OctetString(_) | Value::VisibleString(_) | Value::DateTime(_) | Value::Null => vec![],
        other => panic!("not in the fixtures: {other:?}"),
    }
}

fn expected_numbers(raw: &Json) -> Vec<f64> {
    let cells = raw.as_array().unwrap().iter().map(|column| &column[3]);
    cells.filter_map(|cell| cell.as_f64().or(cell.as_bool().map(|truth| u8::from(truth).into()))).collect()
}

#[test]
fn wrapper_pushes_of_india_verify_and_equal_their_plaintext() {
    let mut seen = [0; 3];
    let mut scratch = Scratch::new();
    for push in wrapped() {
        let id = &push["id"];
        let stream = bytes(&push["hex"]);
        let frame = Wrapper::new_checked(&stream).unwrap();
        assert_eq!(frame.total_len(), stream.len(), "{id}");
        assert_eq!(u64::from(frame.destination()), push["dst"].as_u64().unwrap(), "{id}");
        let plain = bytes(&push["plain_apdu"]);
        let Some(glo) = glo(frame.apdu()) else {
            assert_eq!((push["cipher"].as_str(), frame.apdu()), (Some("plain"), &plain[..]), "{id}");
            seen[0] += 1;
            continue;
        };
        assert_eq!(glo.system_title(), bytes(&push["system_title"]), "{id}");
        assert_eq!(u64::from(glo.invocation_counter()), push["ic"].as_u64().unwrap(), "{id}");
        let opened = open(&RustCrypto, &glo, &keys(&push), Policy::Transport, &mut scratch).unwrap();
        match opened {
            Opened::Authentic(content) => {
                assert_eq!((push["cipher"].as_str(), *content.get()), (Some("30"), &plain[..]), "{id}");
                seen[1] += 1;
            }
            Opened::Unauthenticated(content) => {
                assert_eq!((push["cipher"].as_str(), content), (Some("20"), &plain[..]), "{id}");
                seen[2] += 1;
            }
        }
    }
    assert!(seen == [0; 3] || seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn flipped_tags_of_india_pushes_are_refused() {
    let mut scratch = Scratch::new();
    for push in wrapped().iter().filter(|push| push["cipher"] == "30") {
        let stream = bytes(&push["hex"]);
        for bit in 0..96 {
            let mut flipped = stream.clone();
            let last = flipped.len() - 1;
            flipped[last - bit / 8] ^= 1 << (bit % 8);
            let frame = Wrapper::new_checked(&flipped).unwrap();
            let opened = open(
                &RustCrypto,
                &glo(frame.apdu()).unwrap(),
                &keys(push),
                Policy::Authenticated,
                &mut scratch,
            );
            assert_eq!(opened, Err(SecurityError::Tag), "{} bit {bit}", push["id"]);
        }
    }
}

#[test]
fn pushes_of_india_give_the_values_that_were_put_in() {
    for push in fixture("india_push.jsonl") {
        let (id, expected) = (&push["id"], &push["expected"]);
        let plain = bytes(&push["plain_apdu"]);
        let notification = notification(&plain);
        assert_eq!(u64::from(notification.invoke_id().0), expected["invoke_id"].as_u64().unwrap(), "{id}");
        assert_eq!(notification.date_time().is_some(), !expected["notification_time"].is_null(), "{id}");
        let Value::Structure(body) = notification.body() else {
            panic!("{id}: not a structure");
        };
        let head: Vec<Value<'_>> = body.iter().take(3).collect();
        let [Value::OctetString(device), Value::OctetString(setup), time] = head[..] else {
            panic!("{id}: {head:?}");
        };
        assert_eq!(device, expected["device_id"].as_str().unwrap().as_bytes(), "{id}");
        let setup: Vec<String> = setup.iter().map(u8::to_string).collect();
        assert_eq!(setup.join("."), expected["push_setup"].as_str().unwrap(), "{id}");
        let raw_time = DateTime(array(&expected["time_raw"]));
        assert_eq!(time.date_time(), Some(raw_time), "{id}");
        let values: Vec<f64> = body
            .iter()
            .skip(3)
            .filter(|value| !matches!(value, Value::BitString(_)))
            .flat_map(numbers)
            .collect();
        let mut inputs = Vec::new();
        for row in expected["rows"].as_array().unwrap_or(&vec![expected.clone()]) {
            if row["raw"].is_array() {
                inputs.extend(expected_numbers(&row["raw"]));
            }
        }
        // The JSON reader rounds the last bit of a number.
        let close = |(read, put): (&f64, &f64)| (read - put).abs() <= put.abs() * 1e-12;
        assert_eq!(values.len(), inputs.len(), "{id}");
        assert!(values.iter().zip(&inputs).all(close), "{id}: {values:?} {inputs:?}");
        check_bits(
            body.iter().find_map(|value| match value {
                Value::BitString(bits) => {
                    Some((0..bits.bits()).filter(|&bit| bits.bit(bit) == Some(true)).collect())
                }
                _ => None,
            }),
            &expected["esw_bits"],
        );
    }
}

fn check_bits(set: Option<Vec<usize>>, expected: &Json) {
    let expected = expected
        .as_array()
        .map(|bits| bits.iter().map(|bit| bit.as_u64().unwrap() as usize).collect::<Vec<_>>());
    assert_eq!(set, expected);
}

/// The APDUs of a stream, segments and blocks put together.
fn apdus(framing: &str, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut apdus = Vec::new();
    let mut rest = stream;
    match framing {
        "raw" => apdus.push(stream.to_vec()),
        "wrapper" => {
            while !rest.is_empty() {
                let frame = Wrapper::new_checked(rest).unwrap();
                apdus.push(frame.apdu().to_vec());
                rest = &rest[frame.total_len()..];
            }
        }
        "mbus" => {
            let (mut reassembly, mut apdu) = (mbus::Reassembly::new(), Vec::new());
            while !rest.is_empty() {
                let frame = mbus::Frame::new_checked(rest).unwrap();
                rest = &rest[frame.total_len()..];
                if reassembly.push(&frame, &mut apdu).unwrap() {
                    apdus.push(apdu.clone());
                }
            }
            assert!(!reassembly.is_open());
        }
        "hdlc" => {
            let (mut deframer, mut information) = (Deframer::default(), Vec::new());
            let mut reassembly = hdlc::Reassembly::new(1 << 16);
            while !rest.is_empty() {
                let length = match deframer.next(rest) {
                    Step::Frame { frame, length, .. } => {
                        if reassembly.push(&frame, &mut information).unwrap() {
                            apdus.push(hdlc::strip_llc(&information).to_vec());
                        }
                        length
                    }
                    Step::Skip { length, error: None } => length,
                    other => panic!("{other:?}"),
                };
                rest = &rest[length..];
            }
            assert!(!reassembly.is_open());
        }
        other => panic!("{other}"),
    }
    if apdus.first().is_none_or(|apdu| apdu.first() != Some(&apdu::GENERAL_BLOCK_TRANSFER)) {
        return apdus;
    }
    let mut assembly = Assembly::new(1 << 16);
    let (last, before) = apdus.split_last().unwrap();
    for (block, expected) in
        before.iter().map(|block| (block, Taken::Stored)).chain([(last, Taken::Complete)])
    {
        let Ok(Apdu::GeneralBlockTransfer(block)) = apdu::parse(block) else {
            panic!("no block");
        };
        assert_eq!(assembly.push(&block), Ok(expected));
    }
    vec![assembly.into_apdu().unwrap()]
}

/// The content of a capture's APDU; where there is a tag it is right.
fn opened_capture(capture: &Json, apdu: &[u8]) -> Vec<u8> {
    let Some(glo) = glo(apdu) else {
        return apdu.to_vec();
    };
    if capture["gak"].is_null() {
        assert!(!glo.security_control().authenticated(), "a tag that cannot be checked");
        let mut plain = glo.ciphered().to_vec();
        let mut iv = glo.system_title().to_vec();
        iv.extend_from_slice(&glo.invocation_counter().to_be_bytes());
        RustCrypto.apply_keystream(&array(&capture["guek"]), &iv.try_into().unwrap(), &mut plain);
        return plain;
    }
    let mut scratch = Scratch::new();
    match open(&RustCrypto, &glo, &keys(capture), Policy::Authenticated, &mut scratch) {
        Ok(Opened::Authentic(plain)) => plain.into_inner().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Names, values and children of a node, without its offsets.
fn said(node: &Node) -> (&str, &str, Vec<String>) {
    (&node.name, &node.value, node.children.iter().map(|child| format!("{:?}", said(child))).collect())
}

/// The first node of this name, in reading order.
fn find<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    if node.name == name {
        return Some(node);
    }
    node.children.iter().find_map(|child| find(child, name))
}

#[test]
fn pushes_of_india_in_every_framing_verify_and_equal_their_plaintext() {
    let mut seen = std::collections::BTreeMap::new();
    for push in fixture("india_push.jsonl") {
        let (id, framing) = (&push["id"], push["framing"].as_str().unwrap());
        let stream = bytes(&push["hex"]);
        let plain = bytes(&push["plain_apdu"]);
        let cipher = push["cipher"].as_str().unwrap();
        let whole = apdus(framing, &stream);
        let [apdu] = &whole[..] else {
            panic!("{id}: {} apdus", whole.len());
        };
        let mut scratch = Scratch::new();
        let content = match glo(apdu) {
            None => apdu.clone(),
            Some(glo) => {
                match open(&RustCrypto, &glo, &keys(&push), Policy::Transport, &mut scratch).unwrap() {
                    Opened::Authentic(content) => content.into_inner().to_vec(),
                    Opened::Unauthenticated(content) => content.to_vec(),
                }
            }
        };
        assert_eq!(content, plain, "{id}");
        let keys = DecodeKeys {
            guek: Some(array(&push["guek"])),
            gak: Some(array(&push["gak"])),
            ..DecodeKeys::default()
        };
        let root = tree::decode(&stream, Framing::Auto, &keys).unwrap();
        let expected = tree::decode(&plain, Framing::Apdu, &keys).unwrap();
        let name = "data-notification";
        let (found, expected) = (find(&root, name).unwrap(), find(&expected, name).unwrap());
        assert_eq!(said(found), said(expected), "{id}");
        assert!(find(&root, "incomplete").or(find(&root, "skipped")).is_none(), "{id}");
        let authentication = find(&root, "general-glo-ciphering").map(|glo| glo.authentication.unwrap());
        let expected = match cipher {
            "plain" => None,
            "20" => Some(Authentication::Unauthenticated),
            _ => Some(Authentication::Verified),
        };
        assert_eq!(authentication, expected, "{id}");
        *seen.entry((framing.to_owned(), cipher.to_owned(), push["gbt"].as_bool().unwrap())).or_insert(0) +=
            1;
    }
    assert!(seen.is_empty() || (seen.len() == 12 && seen.values().sum::<i32>() == 60), "{seen:?}");
}

/// A value of a capture as its publisher writes it: text for strings and times, else a number.
fn published(value: Value<'_>, scaler: i8) -> String {
    if let Some(time) = value.date_time() {
        let date = [time.month(), time.day()].map(Option::unwrap);
        let clock = [time.hour(), time.minute(), time.second()].map(Option::unwrap);
        let ([month, day], [hour, minute, second]) = (date, clock);
        let year = time.year().unwrap();
        return format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    }
    match value {
        Value::OctetString(bytes) | Value::VisibleString(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        number => format!("{:.3}", numbers(number)[0] * 10_f64.powi(scaler.into())),
    }
}

/// Logical names with the values behind them: `{name, value, {scaler, unit}?}` structures or a flat list.
fn named(body: Value<'_>) -> Vec<(String, String)> {
    let (Value::Array(elements) | Value::Structure(elements)) = body else {
        panic!("no container");
    };
    let mut named: Vec<(String, String)> = Vec::new();
    let (mut name, mut last) = (None, None);
    for element in elements {
        let (value, scaler) = match element {
            // In a flat list the scaler and unit of the value before.
            Value::Structure(fields) if matches!(fields.iter().next(), Some(Value::I8(_))) => {
                let (Some(Value::I8(scaler)), Some(value)) = (fields.iter().next(), last.take()) else {
                    panic!("a scaler of nothing");
                };
                named.last_mut().unwrap().1 = published(value, scaler);
                continue;
            }
            Value::Structure(fields) => {
                let fields: Vec<Value<'_>> = fields.iter().collect();
                let scaler = match fields.get(2) {
                    Some(Value::Structure(scaler_unit)) => match scaler_unit.iter().next() {
                        Some(Value::I8(scaler)) => scaler,
                        other => panic!("{other:?}"),
                    },
                    _ => 0,
                };
                name = Some(fields[0]);
                (fields[1], scaler)
            }
            Value::OctetString(bytes) if bytes.len() == 6 => {
                name = Some(element);
                continue;
            }
            other => (other, 0),
        };
        if let Some(Value::OctetString(name)) = name.take() {
            let name: Vec<String> = name.iter().map(u8::to_string).collect();
            named.push((name.join("."), published(value, scaler)));
            last = Some(value);
        }
    }
    named
}

fn last_text(body: Value<'_>) -> Option<String> {
    let (Value::Array(elements) | Value::Structure(elements)) = body else {
        return None;
    };
    match elements.iter().last()? {
        // Of 12 bytes, as a date-time would be.
        Value::OctetString(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn expected_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        number => format!("{:.3}", number.as_f64().unwrap()),
    }
}

#[test]
fn captures_give_the_values_their_publishers_give() {
    for capture in fixture("captures.jsonl").iter().filter(|capture| capture["conformance"] == "ok") {
        let (name, framing) = (capture["name"].as_str().unwrap(), capture["framing"].as_str().unwrap());
        let stream = bytes(&capture["hex"]);
        if let Some(good) = capture["expected"].get("#frame_good") {
            let frame = hdlc::Frame::new_checked(&stream).unwrap();
            assert_eq!((good.as_bool(), frame.total_len()), (Some(true), stream.len()), "{name}");
            continue;
        }
        if let Some(payload) = capture["expected"].get("#payload_hex") {
            let frame = hdlc::Frame::new_checked(&stream).unwrap();
            assert_eq!(frame.information(), bytes(payload), "{name}");
            continue;
        }
        let whole = apdus(framing, &stream);
        let [apdu] = &whole[..] else {
            panic!("{name}: {} apdus", whole.len());
        };
        let plain = opened_capture(capture, apdu);
        let notification = notification(&plain);
        let named = named(notification.body());
        let mut checked = 0;
        for (key, expected) in capture["expected"].as_object().unwrap() {
            let expected = expected_text(expected);
            let read = match key.strip_prefix('#') {
                Some("apdu_time") => published(Value::DateTime(notification.date_time().unwrap()), 0),
                Some(index) => {
                    let Value::Structure(elements) = notification.body() else {
                        panic!("{name}: not a structure");
                    };
                    published(elements.iter().nth(index.parse().unwrap()).unwrap(), 0)
                }
                // The publisher's key for a value that has no name in the body.
                None if key == "null" || key == "0.0.0.0.0.0" => continue,
                None => {
                    let found = named.iter().find(|(obis, _)| obis == key).map(|(_, value)| value.clone());
                    // One meter gives its number last and without a name.
                    found
                        .or_else(|| last_text(notification.body()))
                        .unwrap_or_else(|| panic!("{name}: {key}"))
                }
            };
            assert_eq!(read.replace('T', " "), expected.replace('T', " "), "{name} {key}");
            checked += 1;
        }
        assert!(checked > 5, "{name}");
        check_described(capture, &stream);
    }
}

/// The description of a capture has its notification, marked with what its tag proved.
fn check_described(capture: &Json, stream: &[u8]) {
    let name = capture["name"].as_str().unwrap();
    let key = |field: &str| Some(&capture[field]).filter(|key| !key.is_null()).map(array);
    let keys = DecodeKeys { guek: key("guek"), gak: key("gak"), ..DecodeKeys::default() };
    let root = tree::decode(stream, Framing::Auto, &keys).unwrap();
    let framed = match capture["framing"].as_str() {
        Some("hdlc") => "hdlc",
        Some("mbus") => "m-bus",
        _ => "data-notification",
    };
    assert_eq!(root.children[0].name, framed, "{name}");
    assert!(find(&root, "data-notification").is_some(), "{name}");
    let proved = find(&root, "general-glo-ciphering").and_then(|glo| glo.authentication);
    let expected = match (keys.guek, keys.gak) {
        (Some(_), Some(_)) => Some(Authentication::Verified),
        (Some(_), None) => Some(Authentication::Unauthenticated),
        _ => None,
    };
    assert_eq!(proved, expected, "{name}");
}

#[test]
fn a_spoilt_capture_is_refused_or_said_to_be_skipped() {
    for capture in fixture("captures.jsonl") {
        let framing = match capture["framing"].as_str() {
            Some("hdlc") => Framing::Hdlc,
            Some("mbus") => Framing::Mbus,
            _ => continue,
        };
        let name = capture["name"].as_str().unwrap();
        let mut stream = bytes(&capture["hex"]);
        let middle = stream.len() / 2;
        stream[middle] ^= 1;
        match tree::decode(&stream, framing, &DecodeKeys::default()) {
            Ok(root) => {
                let whole = find(&root, "data-notification").or(find(&root, "general-glo-ciphering"));
                assert!(find(&root, "skipped").is_some() && whole.is_none(), "{name}");
            }
            Err(error) => assert!(error.offset <= stream.len(), "{name}"),
        }
    }
}

fn ciphered(root: &Node) -> &Node {
    let apdu = &root.children[0].children[2];
    assert_eq!(apdu.name, "general-glo-ciphering");
    apdu
}

#[test]
fn the_tree_says_what_the_tag_proved() {
    let pushes = wrapped();
    let of = |cipher: &str| pushes.iter().find(|push| push["cipher"] == cipher);
    let (Some(sealed), Some(encrypted)) = (of("30"), of("20")) else {
        return;
    };
    let with = |push: &Json, guek: bool, gak: bool| DecodeKeys {
        guek: guek.then(|| array(&push["guek"])),
        gak: gak.then(|| array(&push["gak"])),
        ..DecodeKeys::default()
    };
    for (push, guek, gak, authentication, readable) in [
        (sealed, true, true, Authentication::Verified, true),
        (sealed, true, false, Authentication::NotVerified, true),
        (sealed, false, false, Authentication::NotVerified, false),
        (encrypted, true, true, Authentication::Unauthenticated, true),
        (encrypted, true, false, Authentication::Unauthenticated, true),
        (encrypted, false, false, Authentication::NotVerified, false),
    ] {
        let stream = bytes(&push["hex"]);
        let root = tree::decode(&stream, Framing::Auto, &with(push, guek, gak)).unwrap();
        let apdu = ciphered(&root);
        assert_eq!(apdu.authentication, Some(authentication));
        let content = apdu.children.last().unwrap();
        let name = if readable { "data-notification" } else { "ciphered" };
        assert_eq!(content.name, name);
    }
    let mut stream = bytes(&sealed["hex"]);
    *stream.last_mut().unwrap() ^= 1;
    let root = tree::decode(&stream, Framing::Wrapper, &with(sealed, true, true)).unwrap();
    assert_eq!(ciphered(&root).authentication, Some(Authentication::Failed));
    assert_eq!(ciphered(&root).children.last().unwrap().name, "ciphered");
}
