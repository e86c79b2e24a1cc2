//! What must hold in `codec` for any bytes: shared by the fuzz targets and by the test that replays their corpora.

use codec::apdu::block_transfer::{Assembly, BlockControl, BlockSender, BlockTransferRepr};
use codec::apdu::{self, Apdu, DataNotificationRepr, GeneralBlockTransfer};
use codec::axdr::{self, ELEMENTS_PER_BYTE, MAX_DEPTH, MAX_ELEMENTS, Value, Writer};
use codec::cosem::profile_generic::{Buffer, Column, Selection};
use codec::cosem::{
    ValueError, activity_calendar, association, clock, data, demand_register, disconnect_control,
    extended_register, image_transfer, limiter, profile_generic, push_setup, register, sap_assignment,
    script_table, security_setup, single_action_schedule,
};
use codec::fragment::{self, Fragment};
use codec::hdlc::{self, Deframer, Step};
use codec::mbus;
use codec::security::association::{Envelope, Incoming, Outgoing, Protect, Refusal};
use codec::security::counter::{CounterVerdict, CounterWindow, RisingCounter, SendCounter};
use codec::security::hls::{self, Challenge, Secret};
use codec::security::keys::{AssociationKeys, Key, KeyTransfer, KeyUse, emit_key_transfer};
use codec::security::{self, Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl};
use codec::tree::{self, DecodeKeys, Framing};
use codec::wrapper::{self, HEADER_LEN, Wrapper, WrapperRepr};

const GUEK: [u8; 16] = *b"0123456789abcdef";
const GAK: [u8; 16] = *b"fedcba9876543210";
const TITLE: [u8; 8] = *b"FUZ00001";
const TITLE_KEY: [u8; 16] = *b"FUZ00001FUZ00001";

/// Most steps for each byte that is parsed: a step is a field that is read.
const STEPS_PER_BYTE: u64 = 8;
/// Steps that are taken whatever came.
const FIRST_STEPS: u64 = 64;

/// Times that an APDU's bytes are passed: they are checked, and rows of a compact array are counted.
const PARSED: usize = 2;

/// What `read` gives. Where inputs are fuzzed steps are counted: it passed the bytes no more than so many times, at eight
/// steps for each of them. A parser passes them once; who looks into a value passes what lies in containers once more
/// at each of them.
#[track_caller]
fn in_steps<T>(bytes: &[u8], passes: usize, read: impl FnOnce() -> T) -> T {
    #[cfg(fuzzing)]
    let before = codec::steps();
    let result = read();
    #[cfg(fuzzing)]
    {
        let most = FIRST_STEPS + STEPS_PER_BYTE * (passes * bytes.len()) as u64;
        let steps = codec::steps() - before;
        assert!(steps <= most, "{steps} steps for {} bytes", bytes.len());
    }
    #[cfg(not(fuzzing))]
    let _ = (bytes, passes, FIRST_STEPS, STEPS_PER_BYTE);
    result
}

/// Everything that bytes say, or why not.
#[track_caller]
fn described(bytes: &[u8], framing: Framing, keys: &DecodeKeys) {
    let _described_or_refused = in_steps(bytes, PARSED + MAX_DEPTH, || tree::decode(bytes, framing, keys));
}

/// A stream falls into frames; the length told early is the length told late, and a frame is written as it was read, also in
/// fragments.
pub(crate) fn wrapper(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let told = wrapper::frame_len(rest, usize::from(u16::MAX));
        let Ok(frame) = Wrapper::new_checked(rest) else {
            assert!(!told.is_ok_and(|length| length.is_some_and(|length| length <= rest.len())));
            break;
        };
        assert_eq!(told, Ok(Some(frame.total_len())));
        assert_eq!(frame.total_len(), HEADER_LEN + frame.apdu().len());
        let mut written = Vec::new();
        WrapperRepr::parse(&frame).emit(frame.apdu(), &mut written);
        let (this, behind) = rest.split_at(frame.total_len());
        assert_eq!(written, this);
        rest = behind;
    }
    described(bytes, Framing::Wrapper, &DecodeKeys::default());
    let mut assembly = fragment::Assembly::default();
    for bytes in bytes.chunks(HEADER_LEN) {
        let Ok(fragment) = Fragment::new_checked(bytes) else { continue };
        let Some(frame) = assembly.take(&fragment) else { continue };
        let mut again = fragment::Assembly::default();
        let cut = fragment::cut(fragment.id(), &frame, HEADER_LEN).unwrap_or_default();
        let whole = cut.iter().find_map(|bytes| again.take(&Fragment::new_checked(bytes).ok()?));
        assert_eq!(whole.unwrap_or_default(), frame);
    }
}

/// What was checked can be walked to its end, and no part of it passes for the whole.
pub(crate) fn axdr(bytes: &[u8]) {
    let Ok(length) = in_steps(bytes, 1, || axdr::check(bytes)) else {
        assert!(axdr::parse(bytes).is_err());
        return;
    };
    let (value, rest) = axdr::parse(bytes).expect("checked bytes parse");
    assert_eq!(rest.len(), bytes.len() - length);
    let depth = depth(value);
    let elements = in_steps(bytes, 1 + depth, || walk(value));
    assert!(elements <= MAX_ELEMENTS.min(length * ELEMENTS_PER_BYTE));
    assert_eq!(axdr::check(&bytes[..length]), Ok(length));
    assert!(axdr::check(&bytes[..length - 1]).is_err());
}

/// An APDU is refused or is what it says; a push is written as it was read, and a service so that it reads back
/// as the same.
pub(crate) fn apdu(bytes: &[u8]) {
    let keys = DecodeKeys {
        guek: Some(GUEK),
        gak: Some(GAK),
        gbek: Some(TITLE_KEY),
        dedicated: Some(TITLE_KEY),
        system_title: Some(TITLE),
    };
    described(bytes, Framing::Apdu, &keys);
    match in_steps(bytes, PARSED, || apdu::parse(bytes)) {
        Ok(Apdu::DataNotification(push)) => {
            assert!(walk(push.body()) <= MAX_ELEMENTS.min(bytes.len() * ELEMENTS_PER_BYTE));
            let head = DataNotificationRepr::parse(&push);
            let mut body = Vec::new();
            Writer::new(&mut body).null();
            let mut written = Vec::new();
            head.emit(&body, &mut written);
            let Ok(Apdu::DataNotification(again)) = apdu::parse(&written) else {
                panic!("what is written parses");
            };
            assert_eq!(DataNotificationRepr::parse(&again), head);
        }
        Ok(Apdu::DataNotificationConfirm(id)) => {
            let mut written = Vec::new();
            apdu::emit_data_notification_confirm(id, &mut written);
            assert_eq!(apdu::parse(&written), Ok(Apdu::DataNotificationConfirm(id)));
        }
        Ok(Apdu::GeneralGlo(glo)) => {
            assert_eq!(glo.system_title().len(), 8);
            assert!(bytes.ends_with(glo.ciphered()));
        }
        Ok(Apdu::GeneralBlockTransfer(block)) => {
            let mut written = Vec::new();
            BlockTransferRepr::parse(&block).emit(block.data(), &mut written);
            assert_eq!(apdu::parse(&written), Ok(Apdu::GeneralBlockTransfer(block_of(&written))));
            assert_eq!(block_of(&written).data(), block.data());
        }
        Ok(service) => {
            let mut written = Vec::new();
            if emit(&service, &mut written) {
                assert_eq!(apdu::parse(&written), Ok(service));
            } else {
                opening(bytes);
            }
        }
        Err(error) => assert!(error.offset <= bytes.len()),
    }
}

fn block_of(bytes: &[u8]) -> GeneralBlockTransfer<'_> {
    let Ok(Apdu::GeneralBlockTransfer(block)) = apdu::parse(bytes) else {
        panic!("what is written parses");
    };
    block
}

/// A stream falls into frames and what is none, wherever it is cut; a frame is written as it was read.
pub(crate) fn hdlc(bytes: &[u8]) {
    let whole = hdlc_frames(bytes, bytes.len());
    let cut = usize::from(bytes.first().copied().unwrap_or_default()) + 1;
    assert_eq!(hdlc_frames(bytes, cut), whole);
    let _read_or_refused = hdlc::Parameters::parse(bytes);
    described(bytes, Framing::Hdlc, &DecodeKeys::default());
}

/// The frames of a stream that comes in pieces of `piece` bytes, each written again.
fn hdlc_frames(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let (mut deframer, mut buffer, mut frames) = (Deframer::default(), Vec::new(), Vec::new());
    let (mut reassembly, mut information) = (hdlc::Reassembly::new(4096), Vec::new());
    let mut calls = 0;
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            calls += 1;
            let taken = match deframer.next(&buffer) {
                Step::Frame { frame, length, shared_flag } => {
                    let mut written = Vec::new();
                    hdlc::FrameRepr::parse(&frame).emit(frame.information(), &mut written);
                    assert_eq!(&written[usize::from(shared_flag)..], &buffer[..length]);
                    let _whole_or_not = reassembly.push(&frame, &mut information);
                    assert!(information.len() <= 4096);
                    frames.push(written);
                    length
                }
                Step::Skip { length, .. } => length,
                Step::More(needed) => {
                    assert!(needed > buffer.len() && needed <= hdlc::MAX_FRAME_LEN);
                    break;
                }
            };
            assert!((1..=buffer.len()).contains(&taken));
            buffer.drain(..taken);
        }
    }
    assert!(deframer.examined() <= Deframer::MOST_EXAMINED * (bytes.len() + calls));
    frames
}

/// Frames are written as they were read, and put together within their bound.
pub(crate) fn mbus(bytes: &[u8]) {
    let (mut reassembly, mut apdu, mut rest) = (mbus::Reassembly::new(), Vec::new(), bytes);
    while let Ok(frame) = mbus::Frame::new_checked(rest) {
        let (this, behind) = rest.split_at(frame.total_len());
        let mut written = Vec::new();
        frame.head().emit(frame.data(), &mut written);
        assert_eq!(written, this);
        let _whole_or_not = reassembly.push(&frame, &mut apdu);
        assert!(apdu.len() <= mbus::MAX_FRAMES * mbus::MAX_DATA);
        rest = behind;
    }
    described(bytes, Framing::Mbus, &DecodeKeys::default());
}

/// Blocks of three bytes a step (number, last, length) in any order keep to the cap; and an APDU that is cut, of
/// which blocks are lost, arrives as it was.
pub(crate) fn block_transfer(bytes: &[u8]) {
    let mut assembly = Assembly::new(256);
    for step in bytes.chunks_exact(3) {
        let control = BlockControl::new(step[1] & 1 == 1, true, 0);
        let mut written = Vec::new();
        let repr = BlockTransferRepr { control, number: u16::from(step[0]), acknowledged: 0 };
        repr.emit(&vec![step[1]; usize::from(step[2] & 0x1f)], &mut written);
        let _taken_or_refused = assembly.push(&block_of(&written));
        assert!(assembly.len() <= 256);
        assert_eq!(assembly.is_complete(), assembly.apdu().is_some());
        assert!(assembly.missing().next().is_none_or(|number| number > assembly.in_sequence()));
    }
    assert!(
        assembly.missing().is_sorted() && assembly.missing().all(|number| number > assembly.in_sequence())
    );
    let Some((&[window, block_len], apdu)) = bytes.split_first_chunk() else { return };
    let Some(mut sender) = BlockSender::confirmed(apdu, usize::from(block_len).max(4), window) else {
        return;
    };
    let mut assembly = Assembly::new(apdu.len());
    let mut losses = bytes.iter();
    while !sender.is_through() {
        let mut written = Vec::new();
        while sender.emit_next(&mut written) {
            if losses.next().is_none_or(|byte| byte & 3 != 0) {
                assembly.push(&block_of(&written)).expect("a block of the same apdu");
            }
            written.clear();
        }
        assembly.acknowledgement(1, window).emit(&[], &mut written);
        sender.acknowledge(&block_of(&written));
    }
    assert_eq!(assembly.into_apdu().as_deref(), Some(apdu));
}

/// Writes a service; says whether it is one.
pub(crate) fn emit(service: &Apdu<'_>, out: &mut Vec<u8>) -> bool {
    match service {
        Apdu::ConfirmedServiceError(error) => error.emit(out),
        Apdu::GetRequest(request) => request.emit(out),
        Apdu::SetRequest(request) => request.emit(out),
        Apdu::EventNotification(event) => event.emit(out),
        Apdu::ActionRequest(request) => request.emit(out),
        Apdu::GetResponse(response) => response.emit(out),
        Apdu::SetResponse(response) => response.emit(out),
        Apdu::ActionResponse(response) => response.emit(out),
        Apdu::ExceptionResponse(exception) => exception.emit(out),
        _ => return false,
    }
    true
}

/// What opens and releases an association is written as it was read.
pub(crate) fn opening(bytes: &[u8]) {
    let keys = DecodeKeys {
        guek: Some(GUEK),
        gak: Some(GAK),
        gbek: Some(TITLE_KEY),
        dedicated: Some(TITLE_KEY),
        system_title: Some(TITLE),
    };
    described(bytes, Framing::Apdu, &keys);
    let Ok(apdu) = in_steps(bytes, PARSED, || apdu::parse(bytes)) else {
        return;
    };
    let mut written = Vec::new();
    match apdu {
        Apdu::InitiateRequest(request) => written.extend_from_slice(&request.encode()),
        Apdu::InitiateResponse(response) => response.emit(&mut written),
        Apdu::AssociationRequest(aarq) => aarq.emit(&mut written),
        Apdu::AssociationResponse(aare) => aare.emit(&mut written),
        Apdu::ReleaseRequest(rlrq) => rlrq.emit(&mut written),
        Apdu::ReleaseResponse(rlre) => rlre.emit(&mut written),
        _ => return,
    }
    assert_eq!(apdu::parse(&written), Ok(apdu));
}

/// Control, counter, a bit to flip, then an APDU: what is sealed opens as the policy allows, and a flipped
/// bit is never authentic.
pub(crate) fn security(bytes: &[u8]) {
    let Some((&[control, c3, c2, c1, c0, flip1, flip0], plain)) = bytes.split_first_chunk() else {
        return;
    };
    let control = SecurityControl(control);
    let counter = u32::from_be_bytes([c3, c2, c1, c0]);
    let keys = Keys::new(GUEK, GAK);
    let mut sealed = Vec::new();
    security::seal(&RustCrypto, control, &TITLE, counter, &keys, plain, &mut sealed);
    let mut scratch = Scratch::new();
    for policy in [Policy::Authenticated, Policy::Transport] {
        let admitted =
            matches!(control.0, 0x10 | 0x30) || (control.0 == 0x20 && security::plain_allowed(policy));
        match opened(&sealed, &keys, policy, &mut scratch) {
            Some(Opened::Authentic(content)) => {
                assert!(admitted && control.authenticated());
                assert_eq!(content.into_inner(), plain);
            }
            Some(Opened::Unauthenticated(content)) => {
                assert!(admitted && !control.authenticated());
                assert_eq!(content, plain);
            }
            None => assert!(!admitted),
        }
    }
    let bit = usize::from(u16::from_be_bytes([flip1, flip0])) % (sealed.len() * 8);
    let genuine = sealed.clone();
    sealed[bit / 8] ^= 0x80 >> (bit % 8);
    assert_eq!(opened(&sealed, &keys, Policy::Authenticated, &mut scratch), None);
    let transported = opened(&sealed, &keys, Policy::Transport, &mut scratch);
    assert!(!matches!(transported, Some(Opened::Authentic(_))));
    // Whatever counter the forged one bears, the genuine one behind it is new.
    let mut window = CounterWindow::new();
    assert_eq!(taken(&sealed, &keys, &mut window), None);
    if matches!(control.0, 0x10 | 0x30) {
        assert_eq!(taken(&genuine, &keys, &mut window), Some(CounterVerdict::Fresh));
        assert_eq!(taken(&sealed, &keys, &mut window), None);
        assert_eq!(taken(&genuine, &keys, &mut window), Some(CounterVerdict::Seen));
    }
    inside_an_association(control.0, counter, u16::from_be_bytes([flip1, flip0]), plain);
    challenges_and_keys(counter, plain);
}

/// What is sealed is let in once; nothing else is, and a forged counter shuts nothing out.
fn inside_an_association(choice: u8, counter: u32, bit: u16, plain: &[u8]) {
    let mut keys = AssociationKeys::new(Keys::new(GUEK, GAK)).with_broadcast(Key::new(TITLE_KEY));
    keys.set_dedicated(Some(Key::new(GAK)));
    let protect = if choice & 1 == 0 { Protect::Authenticated } else { Protect::AuthenticatedEncrypted };
    let envelope = if choice & 2 == 0 { Envelope::Service } else { Envelope::General };
    let key = [KeyUse::Unicast, KeyUse::Broadcast, KeyUse::Dedicated][usize::from(choice >> 2) % 3];
    let mut incoming = Incoming::new(TITLE, protect, RisingCounter::new());
    let mut scratch = Scratch::new();
    assert!(incoming.receive(&RustCrypto, &keys, plain, &mut scratch).is_err());
    let mut counters = SendCounter::resume(counter);
    counters.reserved(counter.saturating_add(1));
    let Ok(invocation) = counters.take() else {
        return;
    };
    let mut sealed = Vec::new();
    let outgoing = Outgoing { title: TITLE, protect };
    if outgoing.seal(&RustCrypto, &keys, key, envelope, invocation, plain, &mut sealed).is_err() {
        assert!(sealed.is_empty());
        return;
    }
    let mut forged = sealed.clone();
    let bit = usize::from(bit) % (forged.len() * 8);
    forged[bit / 8] ^= 0x80 >> (bit % 8);
    // The first byte, which says what is inside, is the only one that the tag does not cover.
    if let Ok(received) = incoming.receive(&RustCrypto, &keys, &forged, &mut scratch) {
        // A refusal may answer any service, so it is the same whatever was announced.
        assert!(bit < 8 && matches!(plain.first(), Some(0x0e | 0xd8)));
        assert_eq!(received.apdu.into_inner(), plain);
        return;
    }
    assert_eq!(incoming.counter(key).last(), None, "what is refused uses up no counter");
    let received = incoming.receive(&RustCrypto, &keys, &sealed, &mut scratch).expect("genuine and new");
    assert_eq!((received.counter, received.apdu.into_inner()), (counter, plain));
    let again = incoming.receive(&RustCrypto, &keys, &sealed, &mut scratch);
    assert!(matches!(again, Err(Refusal::Replay(_))));
}

/// An answer that was made up is wrong, one that was computed is right; so with wrapped keys.
fn challenges_and_keys(counter: u32, bytes: &[u8]) {
    let challenge = Challenge::new(GUEK);
    let secret = Secret::new(GAK.to_vec());
    assert!(challenge.verify_gmac(&RustCrypto, &Keys::new(GUEK, GAK), &TITLE, bytes).is_err());
    assert!(challenge.verify_aes(&secret, bytes).is_err());
    assert_eq!(hls::answer_aes(&secret, bytes).is_ok(), (1..=hls::MAX_CHALLENGE).contains(&bytes.len()));
    let mut counters = SendCounter::resume(counter);
    counters.reserved(counter.saturating_add(1));
    if let Ok(invocation) = counters.take() {
        let keys = Keys::new(GUEK, GAK);
        let answer = hls::answer_gmac(&RustCrypto, &keys, &TITLE, invocation, &GUEK).expect("16 bytes");
        assert_eq!(challenge.verify_gmac(&RustCrypto, &keys, &TITLE, &answer), Ok(counter));
    }
    if let Some(transfer) = axdr::parse(bytes).ok().and_then(|(value, _)| KeyTransfer::parse(value)) {
        let keys: Vec<_> = transfer.iter().collect();
        let mut written = Vec::new();
        emit_key_transfer(&keys, &mut written);
        let again = axdr::parse(&written).ok().and_then(|(value, _)| KeyTransfer::parse(value));
        assert!(again.is_some_and(|again| again.iter().eq(keys.iter().copied())));
        for (_, wrapped) in keys {
            assert!(Key::new(GUEK).unwrap(&wrapped).is_err());
        }
    }
}

/// A push as a head-end takes it: the window hears of a counter when the tag over it was verified.
fn taken(sealed: &[u8], keys: &Keys, window: &mut CounterWindow) -> Option<CounterVerdict> {
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(sealed) else {
        return None;
    };
    match security::open(&RustCrypto, &glo, keys, Policy::Authenticated, &mut Scratch::new()) {
        Ok(Opened::Authentic(_)) => Some(window.accept(glo.invocation_counter())),
        Ok(Opened::Unauthenticated(_)) | Err(_) => None,
    }
}

fn opened<'s>(sealed: &[u8], keys: &Keys, policy: Policy, scratch: &'s mut Scratch) -> Option<Opened<'s>> {
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(sealed) else {
        return None;
    };
    security::open(&RustCrypto, &glo, keys, policy, scratch).ok()
}

/// Any value as every attribute and every parameter of every class: refused, or written so that it reads the same.
pub(crate) fn cosem(bytes: &[u8]) {
    let Ok((value, _)) = axdr::parse(bytes) else {
        return;
    };
    macro_rules! attributes {
        ($($class:ident)*) => {$(
            for &attribute in $class::Attribute::ALL {
                stable(bytes, value, |value, out| {
                    $class::read(attribute, value).map(|read| {
                        assert_eq!(read.attribute(), attribute);
                        read.write(&mut Writer::new(out));
                    })
                });
            }
        )*};
    }
    macro_rules! methods {
        ($($class:ident)*) => {$(
            for &method in $class::Method::ALL {
                stable(bytes, value, |value, out| {
                    $class::call(method, Some(value)).map(|call| {
                        assert_eq!(call.method(), method);
                        call.write(&mut Writer::new(out));
                    })
                });
            }
        )*};
    }
    attributes!(activity_calendar association clock data demand_register disconnect_control extended_register
        image_transfer limiter profile_generic push_setup register sap_assignment script_table security_setup
        single_action_schedule);
    methods!(activity_calendar association clock demand_register disconnect_control extended_register
        image_transfer profile_generic push_setup register sap_assignment script_table security_setup);
    for selector in 0..=3 {
        stable(bytes, value, |value, out| {
            Selection::read(selector, value).map(|selection| selection.write(&mut Writer::new(out)))
        });
    }
    in_steps(bytes, PARSED + MAX_DEPTH, || rows(value));
}

/// What was read, of these bytes, is written, and what was written reads back to the same bytes.
fn stable(
    bytes: &[u8],
    value: Value<'_>,
    read_and_write: impl Fn(Value<'_>, &mut Vec<u8>) -> Result<(), ValueError>,
) {
    let mut written = Vec::new();
    if in_steps(bytes, PARSED + MAX_DEPTH, || read_and_write(value, &mut written)).is_err() {
        return;
    }
    let (again, rest) = axdr::parse(&written).expect("what is written parses");
    assert!(rest.is_empty());
    let mut rewritten = Vec::new();
    read_and_write(again, &mut rewritten).expect("what is written has the shape");
    assert_eq!(rewritten, written);
}

/// As a buffer of columns of every kind: no more rows come out than there are, and none behind a refused one.
fn rows(value: Value<'_>) {
    let Ok(buffer) = Buffer::of(value) else {
        return;
    };
    let Some(Value::Structure(first)) = buffer.raw().iter().next() else {
        return;
    };
    let kinds = [Column::Clock, Column::Value, Column::Event];
    let mut rows = buffer.rows(kinds.into_iter().cycle().take(first.len()), 900);
    let mut given = 0;
    while let Ok(Some(cells)) = rows.next_row() {
        assert_eq!(cells.len(), first.len());
        given += 1;
    }
    assert!(given <= buffer.len());
    assert_eq!(rows.next_row(), Ok(None));
}

/// How many containers there are in one another.
fn depth(value: Value<'_>) -> usize {
    let (Value::Array(inner) | Value::Structure(inner) | Value::CompactArray(inner)) = value else {
        return 0;
    };
    1 + inner.iter().map(depth).max().unwrap_or_default()
}

/// Visits everything below `value`; how many values there are.
fn walk(value: Value<'_>) -> usize {
    let mut count = 1;
    let mut open = Vec::new();
    let mut next = Some(value);
    loop {
        if let Some(Value::Array(inner) | Value::Structure(inner) | Value::CompactArray(inner)) = next {
            assert_eq!(inner.is_empty(), inner.iter().next().is_none());
            open.push(inner.iter());
        }
        let Some(innermost) = open.last_mut() else {
            return count;
        };
        let left = innermost.len();
        next = innermost.next();
        assert_eq!(next.is_some(), left > 0);
        match next {
            Some(_) => count += 1,
            None => drop(open.pop()),
        }
    }
}
