//! Every kind of every service in its bytes, and what must hold for all of them.

use std::vec;

use proptest::prelude::*;

use super::*;
use crate::axdr::{Data, DateTime};
use crate::cosem::{ClassId, LogicalName};

const ID: InvokeId = InvokeId::new(1, true, true);
const TIME: DateTime = DateTime::new(2026, 6, 2, 2, 0, 15, 0, 0, 330, 0);
const CLOCK: AttributeDescriptor =
    AttributeDescriptor { class: ClassId(8), instance: LogicalName([0, 0, 1, 0, 0, 255]), attribute: 2 };
const CLOCK_WHOLE: SelectedAttribute<'_> = SelectedAttribute::whole(CLOCK);
const BLOCK_LOAD: SelectedAttribute<'_> = SelectedAttribute {
    attribute: AttributeDescriptor {
        class: ClassId(7),
        instance: LogicalName([1, 0, 99, 1, 0, 255]),
        attribute: 2,
    },
    access: Some(SelectiveAccess { selector: 2, parameters: ENTRIES }),
};
const ENTRIES: Data<'_> = Data::checked(&[2, 4, 6, 0, 0, 0, 1, 6, 0, 0, 0, 9, 0x12, 0, 1, 0x12, 0, 0]);
const DISCONNECT: MethodDescriptor =
    MethodDescriptor { class: ClassId(70), instance: LogicalName([0, 0, 96, 3, 10, 255]), method: 1 };
const ZERO: Data<'_> = Data::checked(&[0x0f, 0]);
const SEVEN: Data<'_> = Data::checked(&[0x12, 0, 7]);
const BLOCK: DataBlock<'_> = DataBlock { last: true, number: 3, raw: &[1, 2, 3] };
const DENIED: DataAccessResult = DataAccessResult::ReadWriteDenied;
const DONE: ActionOutcome<'_> = ActionOutcome { result: ActionResult::Success, data: None };
const DONE_WITH: ActionOutcome<'_> = ActionOutcome { result: ActionResult::Success, data: Some(Ok(SEVEN)) };
const DONE_WITHOUT: ActionOutcome<'_> =
    ActionOutcome { result: ActionResult::OtherReason, data: Some(Err(DENIED)) };

fn get(body: GetRequestBody<'_>) -> Apdu<'_> {
    Apdu::GetRequest(GetRequest { invoke_id: ID, body })
}

fn got(body: GetResponseBody<'_>) -> Apdu<'_> {
    Apdu::GetResponse(GetResponse { invoke_id: ID, body })
}

fn set(body: SetRequestBody<'_>) -> Apdu<'_> {
    Apdu::SetRequest(SetRequest { invoke_id: ID, body })
}

fn was_set(body: SetResponseBody<'_>) -> Apdu<'_> {
    Apdu::SetResponse(SetResponse { invoke_id: ID, body })
}

fn act(body: ActionRequestBody<'_>) -> Apdu<'_> {
    Apdu::ActionRequest(ActionRequest { invoke_id: ID, body })
}

fn acted(body: ActionResponseBody<'_>) -> Apdu<'_> {
    Apdu::ActionResponse(ActionResponse { invoke_id: ID, body })
}

fn event(time: Option<DateTime>) -> Apdu<'static> {
    Apdu::EventNotification(EventNotification { time, attribute: CLOCK, value: SEVEN })
}

/// `<C>` stands for the clock's time, `<B>` for the buffer of the block load profile, `<E>` for the access
/// by entry, `M` for the method that disconnects, `T` for the time of an event.
fn bytes(text: &str) -> Vec<u8> {
    let text = text
        .replace('M', "0046 000060030AFF 01")
        .replace('T', "07EA0602 02 000F0000 014A 00")
        .replace("<E>", "01 02 0204 0600000001 0600000009 120001 120000")
        .replace("<B>", "0007 0100630100FF 02")
        .replace("<C>", "0008 0000010000FF 02");
    hex::decode(text.replace(' ', "")).unwrap()
}

fn golden() -> Vec<(&'static str, Apdu<'static>)> {
    let attributes = List::new(&[CLOCK_WHOLE, BLOCK_LOAD]);
    let values = List::new(&[ZERO, SEVEN]);
    let methods = List::new(&[DISCONNECT, DISCONNECT]);
    let results = List::new(&[DataAccessResult::Success, DataAccessResult::Other(99)]);
    vec![
        ("C0 01 C1 <C> 00", get(GetRequestBody::Normal(CLOCK_WHOLE))),
        ("C0 01 C1 <B> <E>", get(GetRequestBody::Normal(BLOCK_LOAD))),
        ("C0 02 C1 00000003", get(GetRequestBody::Next(3))),
        ("C0 03 C1 02 <C> 00 <B> <E>", get(GetRequestBody::WithList(attributes))),
        ("C4 01 C1 00 120007", got(GetResponseBody::Normal(Ok(SEVEN)))),
        ("C4 01 C1 01 03", got(GetResponseBody::Normal(Err(DENIED)))),
        (
            "C4 02 C1 00 00000001 00 03 010203",
            got(GetResponseBody::Block(GetBlock { last: false, number: 1, raw: Ok(&[1, 2, 3]) })),
        ),
        (
            "C4 02 C1 01 00000002 01 0F",
            got(GetResponseBody::Block(GetBlock {
                last: true,
                number: 2,
                raw: Err(DataAccessResult::LongGetAborted),
            })),
        ),
        ("C4 03 C1 02 00 120007 01 03", got(GetResponseBody::WithList(List::new(&[Ok(SEVEN), Err(DENIED)])))),
        ("C1 01 C1 <C> 00 120007", set(SetRequestBody::Normal(CLOCK_WHOLE, SEVEN))),
        ("C1 02 C1 <B> <E> 01 00000003 03 010203", set(SetRequestBody::FirstBlock(BLOCK_LOAD, BLOCK))),
        ("C1 03 C1 01 00000003 03 010203", set(SetRequestBody::Block(BLOCK))),
        (
            "C1 04 C1 02 <C> 00 <B> <E> 02 0F00 120007",
            set(SetRequestBody::WithList(Pairs::new(attributes, values).unwrap())),
        ),
        (
            "C1 05 C1 02 <C> 00 <B> <E> 01 00000003 03 010203",
            set(SetRequestBody::WithListFirstBlock(attributes, BLOCK)),
        ),
        ("C5 01 C1 03", was_set(SetResponseBody::Normal(DENIED))),
        ("C5 02 C1 00000003", was_set(SetResponseBody::Block(3))),
        ("C5 03 C1 03 00000003", was_set(SetResponseBody::LastBlock(DENIED, 3))),
        ("C5 04 C1 02 00 63 00000003", was_set(SetResponseBody::LastBlockWithList(results, 3))),
        ("C5 05 C1 02 00 63", was_set(SetResponseBody::WithList(results))),
        ("C3 01 C1 M 00", act(ActionRequestBody::Normal(DISCONNECT, None))),
        ("C3 01 C1 M 01 0F00", act(ActionRequestBody::Normal(DISCONNECT, Some(ZERO)))),
        ("C3 02 C1 00000003", act(ActionRequestBody::NextBlock(3))),
        (
            "C3 03 C1 02 M M 02 0F00 120007",
            act(ActionRequestBody::WithList(Pairs::new(methods, values).unwrap())),
        ),
        ("C3 04 C1 M 01 00000003 03 010203", act(ActionRequestBody::FirstBlock(DISCONNECT, BLOCK))),
        ("C3 05 C1 02 M M 01 00000003 03 010203", act(ActionRequestBody::WithListFirstBlock(methods, BLOCK))),
        ("C3 06 C1 01 00000003 03 010203", act(ActionRequestBody::Block(BLOCK))),
        ("C7 01 C1 00 00", acted(ActionResponseBody::Normal(DONE))),
        ("C7 01 C1 00 01 00 120007", acted(ActionResponseBody::Normal(DONE_WITH))),
        ("C7 01 C1 FA 01 01 03", acted(ActionResponseBody::Normal(DONE_WITHOUT))),
        ("C7 02 C1 01 00000003 03 010203", acted(ActionResponseBody::Block(BLOCK))),
        (
            "C7 03 C1 03 00 00 00 01 00 120007 FA 01 01 03",
            acted(ActionResponseBody::WithList(List::new(&[DONE, DONE_WITH, DONE_WITHOUT]))),
        ),
        ("C7 04 C1 00000003", acted(ActionResponseBody::NextBlock(3))),
        ("C2 00 <C> 120007", event(None)),
        ("C2 01 0C T <C> 120007", event(Some(TIME))),
        (
            "D8 01 02",
            Apdu::ExceptionResponse(ExceptionResponse {
                state: StateError::ServiceNotAllowed,
                service: ServiceError::ServiceNotSupported,
            }),
        ),
        (
            "D8 02 06 00000100",
            Apdu::ExceptionResponse(ExceptionResponse {
                state: StateError::ServiceUnknown,
                service: ServiceError::InvocationCounter(256),
            }),
        ),
        (
            "D8 07 09",
            Apdu::ExceptionResponse(ExceptionResponse {
                state: StateError::Other(7),
                service: ServiceError::Other(9),
            }),
        ),
        (
            "0E 01 06 02",
            Apdu::ConfirmedServiceError(ConfirmedServiceError {
                service: ConfirmedService::Initiate,
                category: ServiceErrorCategory::Initiate,
                value: 2,
            }),
        ),
    ]
}

/// Behind two bytes that have to stay as they are.
fn emitted(apdu: &Apdu<'_>) -> Vec<u8> {
    let mut out = vec![0xa5; 2];
    match apdu {
        Apdu::ConfirmedServiceError(error) => error.emit(&mut out),
        Apdu::GetRequest(request) => request.emit(&mut out),
        Apdu::SetRequest(request) => request.emit(&mut out),
        Apdu::EventNotification(event) => event.emit(&mut out),
        Apdu::ActionRequest(request) => request.emit(&mut out),
        Apdu::GetResponse(response) => response.emit(&mut out),
        Apdu::SetResponse(response) => response.emit(&mut out),
        Apdu::ActionResponse(response) => response.emit(&mut out),
        Apdu::ExceptionResponse(exception) => exception.emit(&mut out),
        other => panic!("not a service: {other:?}"),
    }
    assert_eq!(out[..2], [0xa5; 2]);
    out.split_off(2)
}

#[track_caller]
fn refused(text: &str, kind: ErrorKind, offset: usize) {
    assert_eq!(parse(&bytes(text)), Err(Error::new(kind, offset)), "{text}");
}

#[test]
fn every_service_is_read_and_written_as_its_bytes_say() {
    for (text, apdu) in golden() {
        let bytes = bytes(text);
        assert_eq!(parse(&bytes), Ok(apdu), "{text}");
        assert_eq!(hex::encode(emitted(&apdu)), hex::encode(&bytes), "{text}");
        assert_eq!(emitted(&parse(&bytes).unwrap()), bytes, "{text}");
    }
}

#[test]
fn the_request_for_a_clock_is_the_one_of_the_standard() {
    let mut out = vec![];
    let body = GetRequestBody::Normal(CLOCK_WHOLE);
    GetRequest { invoke_id: InvokeId(0), body }.emit(&mut out);
    assert_eq!(out, hex::decode("C0010000080000010000FF0200").unwrap());
}

#[test]
fn every_cut_of_a_service_is_refused_and_so_is_what_follows_it() {
    for (text, _) in golden() {
        let mut bytes = bytes(text);
        for cut in 0..bytes.len() {
            let error = parse(&bytes[..cut]).unwrap_err();
            assert!(error.offset <= cut, "{text} cut at {cut}: {error}");
            assert!(
                matches!(error.kind, ErrorKind::Truncated | ErrorKind::CountTooLarge(_)),
                "{text} cut at {cut}: {error}"
            );
        }
        let end = bytes.len();
        bytes.push(0);
        assert_eq!(parse(&bytes), Err(Error::new(ErrorKind::TrailingBytes, end)), "{text}");
    }
}

#[test]
fn a_kind_that_a_service_does_not_have_is_refused_by_name() {
    for (tag, kinds) in [
        (GET_REQUEST, 3),
        (GET_RESPONSE, 3),
        (SET_REQUEST, 5),
        (SET_RESPONSE, 5),
        (ACTION_REQUEST, 6),
        (ACTION_RESPONSE, 4),
    ] {
        for kind in (0..=0xff).filter(|kind| !(1..=kinds).contains(kind)) {
            let error = Error::new(ErrorKind::UnknownChoice(kind), 1);
            assert_eq!(parse(&[tag, kind, 0xc1, 0, 0, 0]), Err(error));
        }
    }
}

#[test]
fn a_fault_in_a_field_is_named_at_its_byte() {
    refused("C4 01 C1 02 00", ErrorKind::UnknownChoice(2), 3);
    refused("C4 02 C1 00 00000001 02 00", ErrorKind::UnknownChoice(2), 8);
    refused("C4 03 C1 02 00 00 07 00", ErrorKind::UnknownChoice(7), 6);
    refused("C0 01 C1 <C> 02", ErrorKind::Presence(2), 12);
    refused("C3 01 C1 M 0F 00", ErrorKind::Presence(0x0f), 12);
    refused("C7 01 C1 00 01 02", ErrorKind::UnknownChoice(2), 5);
    refused("C2 05 0C T <C> 120007", ErrorKind::Presence(5), 1);
    refused("C2 01 0B T <C> 120007", ErrorKind::DateTimeLength(11), 2);
    refused("C2 01 00 <C> 120007", ErrorKind::DateTimeLength(0), 2);
    refused("C4 01 C1 00 0202 77 00", ErrorKind::UnknownTag(0x77), 6);
    refused("C1 01 C1 <C> 00 77", ErrorKind::UnknownTag(0x77), 13);
    refused("C4 02 C1 00 00000001 00 80", ErrorKind::LengthForm(0x80), 9);
    refused("C5 05 C1 84 FFFFFFFF 00", ErrorKind::CountTooLarge(0xffff_ffff), 3);
}

#[test]
fn lists_that_belong_together_are_of_one_length() {
    refused("C1 04 C1 01 <C> 00 02 00 00", ErrorKind::ListMismatch(2), 14);
    refused("C3 03 C1 02 M M 01 00", ErrorKind::ListMismatch(1), 22);
    assert_eq!(Pairs::new(List::new(&[DISCONNECT]), List::new(&[])), None);
}

#[test]
fn a_list_may_not_hold_more_elements_than_one_value() {
    let mut value = vec![0, 1, 0x82];
    value.extend_from_slice(&60_000_u16.to_be_bytes());
    value.resize(value.len() + 60_000, 0);
    let list = |count: u8| {
        let mut apdu = vec![GET_RESPONSE, 3, 0xc1, count];
        (0..count).for_each(|_| apdu.extend_from_slice(&value));
        apdu
    };
    assert!(parse(&list(1)).is_ok());
    assert_eq!(parse(&list(2)).unwrap_err().kind, ErrorKind::TooManyElements);
}

#[test]
fn the_time_of_an_event_is_read_in_both_forms() {
    assert_eq!(parse(&bytes("C2 09 0C T <C> 120007")), Ok(event(Some(TIME))));
}

#[test]
fn any_byte_but_zero_marks_the_last_block() {
    let Ok(Apdu::SetRequest(request)) = parse(&[SET_REQUEST, 3, 0xc1, 0xff, 0, 0, 0, 1, 0]) else {
        panic!("not a set-request");
    };
    let body = SetRequestBody::Block(DataBlock { last: true, number: 1, raw: &[] });
    assert_eq!(request.body, body);
}

#[test]
fn a_received_list_is_walked_as_often_as_one_likes() {
    let bytes = bytes("C1 04 C1 02 <C> 00 <B> <E> 02 0F00 120007");
    let Ok(Apdu::SetRequest(SetRequest { body: SetRequestBody::WithList(pairs), .. })) = parse(&bytes) else {
        panic!("not a list");
    };
    for _ in 0..2 {
        assert!(pairs.iter().eq([(CLOCK_WHOLE, ZERO), (BLOCK_LOAD, SEVEN)]));
    }
    assert_eq!((pairs.len(), pairs.names().iter().len()), (2, 2));
}

/// One encoded value of some kind.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![0]),
        any::<u32>().prop_map(|number| [&[6][..], &number.to_be_bytes()].concat()),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|octets| {
            let mut out = vec![];
            crate::axdr::Writer::new(&mut out).structure(2).octet_string(&octets).null();
            out
        }),
    ]
}

/// What a message of any kind can be made of.
#[derive(Clone, Debug)]
struct Parts {
    id: u8,
    names: Vec<(u16, [u8; 6], i8, Option<u8>)>,
    values: Vec<Vec<u8>>,
    codes: Vec<u8>,
    number: u32,
    flag: bool,
    raw: Vec<u8>,
    time: Option<[u8; 12]>,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        any::<u8>(),
        (1_usize..200).prop_flat_map(|count| {
            (
                prop::collection::vec(any::<(u16, [u8; 6], i8, Option<u8>)>(), count),
                prop::collection::vec(data(), count),
                prop::collection::vec(any::<u8>(), count),
            )
        }),
        any::<u32>(),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..300),
        any::<Option<[u8; 12]>>(),
    )
        .prop_map(|(id, (names, values, codes), number, flag, raw, time)| Parts {
            id,
            names,
            values,
            codes,
            number,
            flag,
            raw,
            time,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_reads_back(parts in parts()) {
        let invoke_id = InvokeId(parts.id);
        let values: Vec<Data<'_>> = parts.values.iter().map(|bytes| Data::new(bytes).unwrap()).collect();
        let attributes: Vec<SelectedAttribute<'_>> = parts.names.iter().zip(&values)
            .map(|(&(class, instance, attribute, selector), &parameters)| SelectedAttribute {
                attribute: AttributeDescriptor {
                    class: ClassId(class),
                    instance: LogicalName(instance),
                    attribute,
                },
                access: selector.map(|selector| SelectiveAccess { selector, parameters }),
            })
            .collect();
        let methods: Vec<MethodDescriptor> = parts.names.iter()
            .map(|&(class, instance, method, _)| MethodDescriptor {
                class: ClassId(class),
                instance: LogicalName(instance),
                method,
            })
            .collect();
        let results: Vec<DataAccessResult> =
            parts.codes.iter().map(|&code| DataAccessResult::from_code(code)).collect();
        let read: Vec<GetResult<'_>> = values.iter().zip(&results)
            .map(|(&value, &result)| if result.code() % 2 == 0 { Ok(value) } else { Err(result) })
            .collect();
        let outcomes: Vec<ActionOutcome<'_>> = parts.codes.iter().zip(&read)
            .map(|(&code, &read)| ActionOutcome {
                result: ActionResult::from_code(code),
                data: (code % 3 != 0).then_some(read),
            })
            .collect();
        let block = DataBlock { last: parts.flag, number: parts.number, raw: &parts.raw };
        let raw = if parts.flag { Ok(&parts.raw[..]) } else { Err(results[0]) };
        let get_block = GetBlock { last: parts.flag, number: parts.number, raw };
        let parameters = parts.flag.then_some(values[0]);
        let mut apdus = vec![
            Apdu::EventNotification(EventNotification {
                time: parts.time.map(DateTime),
                attribute: attributes[0].attribute,
                value: values[0],
            }),
            Apdu::ConfirmedServiceError(ConfirmedServiceError {
                service: ConfirmedService::from_code(parts.id),
                category: ServiceErrorCategory::from_code(parts.codes[0]),
                value: parts.id,
            }),
            Apdu::ExceptionResponse(ExceptionResponse {
                state: StateError::from_code(parts.id),
                service: ServiceError::InvocationCounter(parts.number),
            }),
        ];
        apdus.extend([
            GetRequestBody::Normal(attributes[0]),
            GetRequestBody::Next(parts.number),
            GetRequestBody::WithList(List::new(&attributes)),
        ].map(|body| Apdu::GetRequest(GetRequest { invoke_id, body })));
        apdus.extend([
            GetResponseBody::Normal(read[0]),
            GetResponseBody::Block(get_block),
            GetResponseBody::WithList(List::new(&read)),
        ].map(|body| Apdu::GetResponse(GetResponse { invoke_id, body })));
        apdus.extend([
            SetRequestBody::Normal(attributes[0], values[0]),
            SetRequestBody::FirstBlock(attributes[0], block),
            SetRequestBody::Block(block),
            SetRequestBody::WithList(Pairs::new(List::new(&attributes), List::new(&values)).unwrap()),
            SetRequestBody::WithListFirstBlock(List::new(&attributes), block),
        ].map(|body| Apdu::SetRequest(SetRequest { invoke_id, body })));
        apdus.extend([
            SetResponseBody::Normal(results[0]),
            SetResponseBody::Block(parts.number),
            SetResponseBody::LastBlock(results[0], parts.number),
            SetResponseBody::LastBlockWithList(List::new(&results), parts.number),
            SetResponseBody::WithList(List::new(&results)),
        ].map(|body| Apdu::SetResponse(SetResponse { invoke_id, body })));
        apdus.extend([
            ActionRequestBody::Normal(methods[0], parameters),
            ActionRequestBody::NextBlock(parts.number),
            ActionRequestBody::WithList(Pairs::new(List::new(&methods), List::new(&values)).unwrap()),
            ActionRequestBody::FirstBlock(methods[0], block),
            ActionRequestBody::WithListFirstBlock(List::new(&methods), block),
            ActionRequestBody::Block(block),
        ].map(|body| Apdu::ActionRequest(ActionRequest { invoke_id, body })));
        apdus.extend([
            ActionResponseBody::Normal(outcomes[0]),
            ActionResponseBody::Block(block),
            ActionResponseBody::WithList(List::new(&outcomes)),
            ActionResponseBody::NextBlock(parts.number),
        ].map(|body| Apdu::ActionResponse(ActionResponse { invoke_id, body })));
        for apdu in apdus {
            let bytes = emitted(&apdu);
            prop_assert_eq!(parse(&bytes), Ok(apdu));
            prop_assert_eq!(emitted(&parse(&bytes).unwrap()), bytes);
        }
    }

    #[test]
    fn changed_services_are_refused_or_written_as_they_mean(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let golden = golden();
        let mut bytes = bytes(golden[which.index(golden.len())].0);
        let at = at.index(bytes.len() - 1) + 1;
        bytes[at] = byte;
        match parse(&bytes) {
            Ok(apdu) => {
                let written = emitted(&apdu);
                prop_assert_eq!(parse(&written), Ok(apdu));
            }
            Err(error) => prop_assert!(error.offset <= bytes.len()),
        }
    }
}
