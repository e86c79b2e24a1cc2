//! Services that were made up by their structure: shared by the fuzz target and the test that replays its corpus.
//!
//! The input is choices (`arbitrary`): an APDU of any kind with values in it, the framing it goes out in, and where its
//! bytes are spoilt on the way.
//!
//! - what was made is read back as what was made, and again out of its frames,
//! - bytes of it that are spoilt are refused, or are something else that is read: all that holds for any bytes holds
//!   for them ([`codec_targets`](crate::codec_targets)), a change or two away from what is right.

use arbitrary::{Arbitrary, Result, Unstructured};
use codec::apdu::acse::{
    Aare, Aarq, ApplicationContext, AssociationResult, Diagnostic, Mechanism, ReleaseRequestReason,
    ReleaseResponseReason, Rlre, Rlrq, ServiceProvider, ServiceUser,
};
use codec::apdu::block_transfer::{Assembly, BlockControl, BlockTransferRepr};
use codec::apdu::initiate::{Conformance, DedicatedKey, InitiateRequest, InitiateResponse};
use codec::apdu::{
    self, ActionOutcome, ActionRequest, ActionRequestBody, ActionResponse, ActionResponseBody, ActionResult,
    Apdu, AttributeDescriptor, ConfirmedService, ConfirmedServiceError, DataAccessResult, DataBlock,
    DataNotificationRepr, EventNotification, ExceptionResponse, GetBlock, GetRequest, GetRequestBody,
    GetResponse, GetResponseBody, GetResult, InvokeId, List, LongInvokeId, MethodDescriptor, Pairs,
    SelectedAttribute, SelectiveAccess, ServiceError, ServiceErrorCategory, SetRequest, SetRequestBody,
    SetResponse, SetResponseBody, StateError,
};
use codec::axdr::{Data, DateTime, Writer};
use codec::cosem::{ClassId, LogicalName};
use codec::hdlc::{self, Deframer, Step};
use codec::mbus;
use codec::wrapper::{Wrapper, WrapperRepr};

use crate::codec_targets;

/// Most containers in one another; the values of real objects nest five deep.
const DEPTH: usize = 6;
/// Most values of a container, and most elements of a list.
const MOST: usize = 4;

/// An APDU and its frames, whole and spoilt.
pub(crate) fn services(bytes: &[u8]) {
    let mut choices = Unstructured::new(bytes);
    let Ok((apdu, framed)) = made(&mut choices) else { return };
    let Ok(spoilt) = spoil(framed, &mut choices) else { return };
    codec_targets::wrapper(&spoilt);
    codec_targets::hdlc(&spoilt);
    codec_targets::mbus(&spoilt);
    let Ok(spoilt) = spoil(apdu, &mut choices) else { return };
    codec_targets::apdu(&spoilt);
    codec_targets::opening(&spoilt);
    codec_targets::axdr(&spoilt);
}

/// An APDU as it is written, and its frames.
fn made(u: &mut Unstructured<'_>) -> Result<(Vec<u8>, Vec<u8>)> {
    let apdu = if u.ratio(1, 5)? { opening(u)? } else { service(u)? };
    let framed = match u.int_in_range(0..=3)? {
        0 => wrapped(&apdu),
        1 => in_blocks(&apdu, u)?,
        2 => in_segments(&apdu, u)?,
        _ => in_long_frames(&apdu, u)?,
    };
    Ok((apdu, framed))
}

/// Up to four bytes are changed, left out or come twice, or the end is missing.
fn spoil(mut bytes: Vec<u8>, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    for _ in 0..u.int_in_range(0..=4)? {
        let at = u.choose_index(bytes.len().max(1))?;
        match u.int_in_range(0..=3)? {
            _ if bytes.is_empty() => break,
            0 => bytes[at] = u.arbitrary()?,
            1 => bytes.insert(at, bytes[at]),
            2 => _ = bytes.remove(at),
            _ => bytes.truncate(at),
        }
    }
    Ok(bytes)
}

// ------------------------------------------------------------------------------------------------------------- framing

fn wrapped(apdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    WrapperRepr { source: 1, destination: 48 }.emit(apdu, &mut frame);
    assert_eq!(Wrapper::new_checked(&frame).expect("a frame").apdu(), apdu);
    frame
}

/// A general-block-transfer with as many blocks as it takes, each in the wrapper, in any order.
fn in_blocks(apdu: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let pieces: Vec<&[u8]> = apdu.chunks(u.int_in_range(1..=64)?.max(apdu.len() / 60)).collect();
    let mut blocks = Vec::new();
    for (number, piece) in (1..).zip(&pieces) {
        let control = BlockControl::new(usize::from(number) == pieces.len(), true, 0);
        let mut block = Vec::new();
        BlockTransferRepr { control, number, acknowledged: 0 }.emit(piece, &mut block);
        blocks.insert(u.int_in_range(0..=blocks.len())?, block);
    }
    let mut assembly = Assembly::new(apdu.len());
    // Those that came too far ahead come again, as often as it takes.
    for _ in 0..blocks.len() {
        for block in &blocks {
            let Ok(Apdu::GeneralBlockTransfer(block)) = apdu::parse(block) else { panic!("a block") };
            let _taken_or_too_far_ahead = assembly.push(&block);
        }
    }
    assert_eq!(assembly.apdu(), Some(apdu));
    Ok(blocks.iter().flat_map(|block| wrapped(block)).collect())
}

/// A push of HDLC, in segments where it is long.
fn in_segments(apdu: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (mut frames, max_info) = (Vec::new(), u.int_in_range(32..=1024)?);
    hdlc::emit_push(hdlc::Address::one(16), hdlc::Address::two(1, 17), apdu, max_info, &mut frames);
    let (mut deframer, mut reassembly, mut information) =
        (Deframer::default(), hdlc::Reassembly::new(frames.len()), Vec::new());
    let mut rest = &frames[..];
    while let Step::Frame { frame, length, .. } = deframer.next(rest) {
        reassembly.push(&frame, &mut information).expect("its segments in their order");
        rest = &rest[length..];
    }
    assert_eq!(hdlc::strip_llc(&information), apdu);
    Ok(frames)
}

/// A push in long frames of M-Bus.
fn in_long_frames(apdu: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let head = mbus::FrameRepr {
        control: u.arbitrary()?,
        address: u.arbitrary()?,
        number: 0,
        last: true,
        source: u.arbitrary()?,
        destination: u.arbitrary()?,
    };
    let mut frames = Vec::new();
    if !mbus::emit_push(head, apdu, &mut frames) {
        return Ok(frames);
    }
    let (mut reassembly, mut whole, mut rest) = (mbus::Reassembly::new(), Vec::new(), &frames[..]);
    while let Ok(frame) = mbus::Frame::new_checked(rest) {
        reassembly.push(&frame, &mut whole).expect("its frames in their order");
        rest = &rest[frame.total_len()..];
    }
    assert!(rest.is_empty());
    assert_eq!(whole, apdu);
    Ok(frames)
}

// ------------------------------------------------------------------------------------------------------------ services

/// A service is written, and reads back as it was made.
fn written(service: Apdu<'_>) -> Vec<u8> {
    written_by(service, |out| assert!(codec_targets::emit(&service, out)))
}

/// The same of what is no service.
fn written_by(apdu: Apdu<'_>, emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out);
    assert_eq!(apdu::parse(&out), Ok(apdu));
    out
}

fn service(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (invoke_id, count) = (InvokeId(u.arbitrary()?), u.int_in_range(1..=MOST)?);
    let values: Vec<Vec<u8>> = (0..count).map(|_| value(u)).collect::<Result<_>>()?;
    let values: Vec<Data<'_>> = values.iter().map(|value| Data::new(value).expect("a value")).collect();
    let first = values[0];
    let parameters = value(u)?;
    let names = (0..count).map(|_| selected(u, &parameters)).collect::<Result<Vec<_>>>()?;
    let methods = (0..count).map(|_| method(u)).collect::<Result<Vec<_>>>()?;
    let (names, methods) = (List::new(&names[..]), List::new(&methods[..]));
    let (attribute, one_method) = (names.iter().next().expect("one"), methods.iter().next().expect("one"));
    let (number, raw) = (u.arbitrary()?, <&[u8]>::arbitrary(u)?);
    let block = DataBlock { last: u.arbitrary()?, number, raw };
    Ok(match u.int_in_range(0..=25)? {
        0 => get(invoke_id, GetRequestBody::Normal(attribute)),
        1 => get(invoke_id, GetRequestBody::Next(number)),
        2 => get(invoke_id, GetRequestBody::WithList(names)),
        3 => got(invoke_id, GetResponseBody::Normal(result(u, first)?)),
        4 => {
            let raw = if u.arbitrary()? { Ok(raw) } else { Err(refusal(u)?) };
            got(invoke_id, GetResponseBody::Block(GetBlock { last: u.arbitrary()?, number, raw }))
        }
        5 => {
            let results =
                values.iter().map(|value| result(u, *value)).collect::<Result<Vec<GetResult<'_>>>>()?;
            got(invoke_id, GetResponseBody::WithList(List::new(&results)))
        }
        6 => set(invoke_id, SetRequestBody::Normal(attribute, first)),
        7 => set(invoke_id, SetRequestBody::FirstBlock(attribute, block)),
        8 => set(invoke_id, SetRequestBody::Block(block)),
        9 => {
            let pairs = Pairs::new(names, List::new(&values)).expect("as many");
            set(invoke_id, SetRequestBody::WithList(pairs))
        }
        10 => set(invoke_id, SetRequestBody::WithListFirstBlock(names, block)),
        11 => was_set(invoke_id, SetResponseBody::Normal(any_result(u)?)),
        12 => was_set(invoke_id, SetResponseBody::Block(number)),
        13 => was_set(invoke_id, SetResponseBody::LastBlock(any_result(u)?, number)),
        14 | 15 => {
            let results = (0..count).map(|_| any_result(u)).collect::<Result<Vec<_>>>()?;
            let results = List::new(&results[..]);
            let body = if u.arbitrary()? {
                SetResponseBody::WithList(results)
            } else {
                SetResponseBody::LastBlockWithList(results, number)
            };
            was_set(invoke_id, body)
        }
        16 => act(invoke_id, ActionRequestBody::Normal(one_method, u.arbitrary::<bool>()?.then_some(first))),
        17 => act(invoke_id, ActionRequestBody::NextBlock(number)),
        18 => {
            let pairs = Pairs::new(methods, List::new(&values)).expect("as many");
            act(invoke_id, ActionRequestBody::WithList(pairs))
        }
        19 => act(invoke_id, ActionRequestBody::FirstBlock(one_method, block)),
        20 => act(invoke_id, ActionRequestBody::WithListFirstBlock(methods, block)),
        21 => act(invoke_id, ActionRequestBody::Block(block)),
        22 => {
            let outcomes =
                values.iter().map(|value| outcome(u, *value)).collect::<Result<Vec<ActionOutcome<'_>>>>()?;
            let body = match u.int_in_range(0..=3)? {
                0 => ActionResponseBody::Normal(outcomes[0]),
                1 => ActionResponseBody::Block(block),
                2 => ActionResponseBody::NextBlock(number),
                _ => ActionResponseBody::WithList(List::new(&outcomes)),
            };
            written(Apdu::ActionResponse(ActionResponse { invoke_id, body }))
        }
        23 => {
            let event = EventNotification { time: time(u)?, attribute: attribute.attribute, value: first };
            written(Apdu::EventNotification(event))
        }
        24 => refused(u)?,
        _ => {
            let head = DataNotificationRepr { invoke_id: LongInvokeId(u.arbitrary()?), date_time: time(u)? };
            let mut out = Vec::new();
            head.emit(first.bytes(), &mut out);
            let Ok(Apdu::DataNotification(push)) = apdu::parse(&out) else { panic!("a push") };
            assert_eq!((DataNotificationRepr::parse(&push), push.body()), (head, first.value()));
            out
        }
    })
}

fn get(invoke_id: InvokeId, body: GetRequestBody<'_>) -> Vec<u8> {
    written(Apdu::GetRequest(GetRequest { invoke_id, body }))
}

fn got(invoke_id: InvokeId, body: GetResponseBody<'_>) -> Vec<u8> {
    written(Apdu::GetResponse(GetResponse { invoke_id, body }))
}

fn set(invoke_id: InvokeId, body: SetRequestBody<'_>) -> Vec<u8> {
    written(Apdu::SetRequest(SetRequest { invoke_id, body }))
}

fn was_set(invoke_id: InvokeId, body: SetResponseBody<'_>) -> Vec<u8> {
    written(Apdu::SetResponse(SetResponse { invoke_id, body }))
}

fn act(invoke_id: InvokeId, body: ActionRequestBody<'_>) -> Vec<u8> {
    written(Apdu::ActionRequest(ActionRequest { invoke_id, body }))
}

/// An answer that is no response, or a receipt.
fn refused(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=2)? {
        0 => {
            let service = match u.int_in_range(0..=6)? {
                0 => ServiceError::OperationNotPossible,
                1 => ServiceError::ServiceNotSupported,
                2 => ServiceError::OtherReason,
                3 => ServiceError::PduTooLong,
                4 => ServiceError::Deciphering,
                5 => ServiceError::InvocationCounter(u.arbitrary()?),
                _ => ServiceError::Other(u.int_in_range(7..=255)?),
            };
            let exception = ExceptionResponse { state: StateError::from_code(u.arbitrary()?), service };
            written(Apdu::ExceptionResponse(exception))
        }
        1 => {
            let error = ConfirmedServiceError {
                service: ConfirmedService::from_code(u.arbitrary()?),
                category: ServiceErrorCategory::from_code(u.arbitrary()?),
                value: u.arbitrary()?,
            };
            written(Apdu::ConfirmedServiceError(error))
        }
        _ => {
            let id = LongInvokeId(u.arbitrary()?);
            written_by(Apdu::DataNotificationConfirm(id), |out| apdu::emit_data_notification_confirm(id, out))
        }
    })
}

/// What opens or releases an association.
fn opening(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let piece = <&[u8]>::arbitrary(u)?;
    let piece = &piece[..piece.len().min(64)];
    let some = |u: &mut Unstructured<'_>| Ok(u.arbitrary::<bool>()?.then_some(piece));
    // The last part of an object identifier, in one byte.
    let context = ApplicationContext::from_code(u.int_in_range(0..=0x7f)?);
    let mechanism = Mechanism::from_code(u.int_in_range(0..=0x7f)?);
    let (dlms_version, max_pdu) = (u.arbitrary()?, u.arbitrary()?);
    let (conformance, quality_of_service) = (Conformance::from_bytes(u.arbitrary()?), u.arbitrary()?);
    Ok(match u.int_in_range(0..=5)? {
        0 => {
            let aarq = Aarq {
                context,
                calling_ap_title: some(u)?,
                mechanism,
                authentication_value: some(u)?,
                user_information: some(u)?,
            };
            stable(|out| aarq.emit(out))
        }
        1 => {
            let aare = Aare {
                context: u.arbitrary::<bool>()?.then_some(context),
                result: AssociationResult::from_code(u.arbitrary()?),
                diagnostic: diagnostic(u)?,
                responding_ap_title: some(u)?,
                mechanism,
                authentication_value: some(u)?,
                user_information: some(u)?,
            };
            stable(|out| aare.emit(out))
        }
        2 => {
            let reason: Option<u8> = u.arbitrary()?;
            let rlrq =
                Rlrq { reason: reason.map(ReleaseRequestReason::from_code), user_information: some(u)? };
            stable(|out| rlrq.emit(out))
        }
        3 => {
            let reason: Option<u8> = u.arbitrary()?;
            let rlre =
                Rlre { reason: reason.map(ReleaseResponseReason::from_code), user_information: some(u)? };
            stable(|out| rlre.emit(out))
        }
        4 => {
            let request = InitiateRequest {
                dedicated_key: some(u)?.map(DedicatedKey),
                response_allowed: u.arbitrary()?,
                quality_of_service,
                dlms_version,
                conformance,
                max_pdu,
            };
            written_by(Apdu::InitiateRequest(request), |out| out.extend_from_slice(&request.encode()))
        }
        _ => {
            let vaa_name = u.arbitrary()?;
            let response =
                InitiateResponse { quality_of_service, dlms_version, conformance, max_pdu, vaa_name };
            written_by(Apdu::InitiateResponse(response), |out| response.emit(out))
        }
    })
}

/// What has fields that say nothing without others (a mechanism without a proof) is written, read, and written the same.
fn stable(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out);
    assert!(apdu::parse(&out).is_ok(), "{out:02x?}");
    codec_targets::opening(&out);
    out
}

fn diagnostic(u: &mut Unstructured<'_>) -> Result<Option<Diagnostic>> {
    let code = u.arbitrary()?;
    Ok(match u.int_in_range(0..=2)? {
        0 => Some(Diagnostic::User(ServiceUser::from_code(code))),
        1 => Some(Diagnostic::Provider(ServiceProvider::from_code(code))),
        _ => None,
    })
}

// -------------------------------------------------------------------------------------------------------------- fields

fn selected<'a>(u: &mut Unstructured<'_>, parameters: &'a [u8]) -> Result<SelectedAttribute<'a>> {
    let attribute = AttributeDescriptor {
        class: ClassId(u.arbitrary()?),
        instance: LogicalName(u.arbitrary()?),
        attribute: u.arbitrary()?,
    };
    let parameters = Data::new(parameters).expect("a value");
    let access = SelectiveAccess { selector: u.arbitrary()?, parameters };
    Ok(SelectedAttribute { attribute, access: u.arbitrary::<bool>()?.then_some(access) })
}

fn method(u: &mut Unstructured<'_>) -> Result<MethodDescriptor> {
    let (class, instance) = (ClassId(u.arbitrary()?), LogicalName(u.arbitrary()?));
    Ok(MethodDescriptor { class, instance, method: u.arbitrary()? })
}

fn any_result(u: &mut Unstructured<'_>) -> Result<DataAccessResult> {
    Ok(DataAccessResult::from_code(u.arbitrary()?))
}

/// Any result but success, which comes with data.
fn refusal(u: &mut Unstructured<'_>) -> Result<DataAccessResult> {
    Ok(DataAccessResult::from_code(u.int_in_range(1..=255)?))
}

fn result<'a>(u: &mut Unstructured<'_>, value: Data<'a>) -> Result<GetResult<'a>> {
    Ok(if u.arbitrary()? { Ok(value) } else { Err(refusal(u)?) })
}

fn outcome<'a>(u: &mut Unstructured<'_>, value: Data<'a>) -> Result<ActionOutcome<'a>> {
    let data = if u.arbitrary()? { Some(result(u, value)?) } else { None };
    Ok(ActionOutcome { result: ActionResult::from_code(u.arbitrary()?), data })
}

fn time(u: &mut Unstructured<'_>) -> Result<Option<DateTime>> {
    let time: Option<[u8; 12]> = u.arbitrary()?;
    Ok(time.map(DateTime))
}

// -------------------------------------------------------------------------------------------------------------- values

/// Any value, as it is encoded.
fn value(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put(u, DEPTH, &mut Writer::new(&mut out))?;
    Ok(out)
}

fn put(u: &mut Unstructured<'_>, depth: usize, w: &mut Writer<'_>) -> Result<()> {
    let short = |u: &mut Unstructured<'_>| -> Result<[u8; 6]> { u.arbitrary() };
    match u.int_in_range(0..=29)? {
        0..=3 if depth > 0 => {
            let count = u.int_in_range(0..=MOST)?;
            _ = if u.arbitrary()? { w.array(count) } else { w.structure(count) };
            for _ in 0..count {
                put(u, depth - 1, w)?;
            }
        }
        4 if depth > 0 => {
            // Rows of a structure of two numbers.
            let rows = u.int_in_range(1..=MOST)?;
            let contents = (0..rows * 3).map(|_| u.arbitrary()).collect::<Result<Vec<u8>>>()?;
            w.compact_array(&[2, 2, 17, 18], &contents);
        }
        5 => _ = w.bool(u.arbitrary()?),
        6 => _ = w.bit_string(usize::from(u.int_in_range(0..=48_u8)?), &short(u)?),
        7 => _ = w.i8(u.arbitrary()?),
        8 => _ = w.i16(u.arbitrary()?),
        9 => _ = w.i32(u.arbitrary()?),
        10 => _ = w.i64(u.arbitrary()?),
        11 => _ = w.u8(u.arbitrary()?),
        12 => _ = w.u16(u.arbitrary()?),
        13 => _ = w.u32(u.arbitrary()?),
        14 => _ = w.u64(u.arbitrary()?),
        15 => _ = w.enum_(u.arbitrary()?),
        16 => _ = w.f32_bits(u.arbitrary()?),
        17 => _ = w.f64_bits(u.arbitrary()?),
        18 => _ = w.octet_string(<&[u8]>::arbitrary(u)?),
        19 => _ = w.visible_string(&short(u)?),
        20 => _ = w.utf8_string(&short(u)?),
        21 => _ = w.bcd(u.arbitrary()?),
        22 => _ = w.date_time(DateTime(u.arbitrary()?)),
        23 => _ = w.date(u.arbitrary()?),
        24 => _ = w.time(u.arbitrary()?),
        25 => _ = w.delta_i8(u.arbitrary()?),
        26 => _ = w.delta_u16(u.arbitrary()?),
        27 => _ = w.delta_u32(u.arbitrary()?),
        28 => _ = w.dont_care(),
        _ => _ = w.null(),
    }
    Ok(())
}
