//! D1, D2, D5, D6: one encrypted push from bytes to typed values, another key for each message.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes128;
use aes_gcm::{AesGcm, KeyInit};
use benches::{Figure, Floor, Samples, Seeded, Void, gated, in_turn, instructions, setting};
use codec::apdu::{self, Apdu, DataNotificationRepr, LongInvokeId};
use codec::axdr::{DateTime, Known, Value, Writer};
use codec::security::{self, CryptoProvider, Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl};
use codec_aws_lc::AwsLc;

#[cfg(feature = "peers")]
#[path = "decode/python.rs"]
mod python;

const MESSAGES: usize = 8192;
/// Messages over which instructions are counted.
const COUNTED: usize = 512;
const MESSAGE_LEN: usize = 275;
const REGISTERS: usize = 12;
const VALUES: usize = 3 * REGISTERS;
const ROUNDS: usize = 31;
/// How many inputs D6 mutates; the full count is 10,000,000.
const MUTATIONS: (&str, usize) = ("URJA_BENCH_MUTATIONS", 200_000);

const TAG_LEN: usize = 12;

fn main() -> ExitCode {
    if instructions::are_wanted() {
        Fleet::sized(1, COUNTED).count();
        return ExitCode::SUCCESS;
    }
    gated(|| {
        let fleet = Fleet::new(1);
        fleet.gate()?;
        let [whole, bare, safe, bare_safe] = fleet.whole_and_bare();
        peer::compare(&fleet)?;
        println!("{}", decode_over_crypto("D5", &whole, &bare));
        println!("{}", decode_over_crypto("D5s", &safe, &bare_safe));
        hostile(&fleet)
    })
}

/// One push of one meter.
#[derive(Clone)]
struct Message {
    keys: Keys,
    guek: [u8; 16],
    gak: [u8; 16],
    iv: [u8; 12],
    plain: Vec<u8>,
    sealed: Vec<u8>,
    /// What the values must add up to.
    digest: u64,
}

/// Pushes of as many meters.
struct Fleet(Vec<Message>);

impl Fleet {
    fn new(seed: u64) -> Self {
        Self::sized(seed, MESSAGES)
    }

    fn sized(seed: u64, messages: usize) -> Self {
        let mut seeded = Seeded::new(seed);
        Self((0..messages).map(|_| Message::new(&mut seeded)).collect())
    }

    /// Instructions of the whole decode, and of what of it is no cryptography: the walk over plain bytes.
    fn count(&self) {
        let mut walk = || {
            let mut known = Known::new();
            for message in &self.0 {
                let Ok(Apdu::DataNotification(push)) =
                    apdu::parse_known(black_box(&message.plain), &mut known)
                else {
                    return;
                };
                black_box(sum(push.body()));
            }
        };
        let mut plain = [0; MESSAGE_LEN];
        let mut bare = || self.0.iter().for_each(|message| _ = black_box(message.open_bare(&mut plain)));
        instructions::count("D5", self.0.len(), &mut self.whole(&AwsLc));
        instructions::count("D5-bare", self.0.len(), &mut bare);
        instructions::count("D5s", self.0.len(), &mut self.whole(&RustCrypto));
        let mut bare_safe =
            || self.0.iter().for_each(|message| _ = black_box(message.open_bare_safe(&mut plain)));
        instructions::count("D5s-bare", self.0.len(), &mut bare_safe);
        instructions::count("D5-walk", self.0.len(), &mut walk);
    }

    /// Every message says what was put in, and none is believed with a bit of its tag flipped.
    fn gate(&self) -> Result<(), Void> {
        let mut seeded = Seeded::new(2);
        for (index, message) in self.0.iter().enumerate() {
            if message.sealed.len() != MESSAGE_LEN {
                return Err(Void(format!("message of {} bytes", message.sealed.len())));
            }
            message.gate(&AwsLc, index, &mut seeded)?;
            message.gate(&RustCrypto, index, &mut seeded)?;
        }
        Ok(())
    }

    /// The whole decode, and key set-up with verification and decryption alone: with the provider that production uses, then
    /// with the safe default.
    fn whole_and_bare(&self) -> [Samples; 4] {
        let mut whole = self.whole(&AwsLc);
        let mut safe = self.whole(&RustCrypto);
        let (mut ours, mut theirs) = ([0; MESSAGE_LEN], [0; MESSAGE_LEN]);
        let mut bare = || {
            for message in &self.0 {
                black_box(message.open_bare(&mut ours));
            }
        };
        let mut bare_safe = || {
            for message in &self.0 {
                black_box(message.open_bare_safe(&mut theirs));
            }
        };
        in_turn(ROUNDS, MESSAGES, [&mut whole, &mut bare, &mut safe, &mut bare_safe])
    }

    fn whole<P: CryptoProvider>(&self, provider: &P) -> impl FnMut() {
        let (mut scratch, mut known) = (Scratch::new(), Known::new());
        move || {
            for message in &self.0 {
                black_box(decode(
                    provider,
                    black_box(&message.sealed),
                    &message.keys,
                    (&mut scratch, &mut known),
                ));
            }
        }
    }
}

impl Message {
    fn new(seeded: &mut Seeded) -> Self {
        let (guek, gak) = (seeded.bytes(), seeded.bytes());
        let keys = Keys::new(guek, gak);
        let (title, counter) = (seeded.bytes::<8>(), seeded.number() as u32);
        let (body, digest) = body(seeded);
        let head = DataNotificationRepr {
            invoke_id: LongInvokeId::new(counter, true, false),
            date_time: Some(DateTime::new(2026, 6, 1, 1, 0, 30, 7, 0, 330, 0)),
        };
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        head.emit(&body, &mut plain);
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        security::seal(&RustCrypto, control, &title, counter, &keys, &plain, &mut sealed);
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(&title);
        iv[8..].copy_from_slice(&counter.to_be_bytes());
        Self { keys, guek, gak, iv, plain, sealed, digest }
    }

    /// It says what was put in, and is not believed with a bit of its tag flipped.
    fn gate(&self, provider: &impl CryptoProvider, index: usize, seeded: &mut Seeded) -> Result<(), Void> {
        let (mut scratch, mut known) = (Scratch::new(), Known::new());
        if decode(provider, &self.sealed, &self.keys, (&mut scratch, &mut known))
            != Some((VALUES, self.digest))
        {
            return Err(Void(format!("message {index} decodes to something else")));
        }
        let mut flipped = self.sealed.clone();
        flip_tag(&mut flipped, seeded);
        if decode(provider, &flipped, &self.keys, (&mut scratch, &mut known)).is_some() {
            return Err(Void(format!("message {index} accepted with a flipped tag")));
        }
        Ok(())
    }

    fn aad_content_tag(&self) -> ([u8; 17], &[u8], &[u8]) {
        let mut aad = [0x30; 17];
        aad[1..].copy_from_slice(&self.gak);
        let content = &self.sealed[MESSAGE_LEN - TAG_LEN - self.plain.len()..];
        let (content, tag) = content.split_at(self.plain.len());
        (aad, content, tag)
    }

    /// The least that any decoder with this provider has to do; it decrypts in place, so the content is copied first.
    fn open_bare(&self, plain: &mut [u8; MESSAGE_LEN]) -> bool {
        let (aad, content, tag) = self.aad_content_tag();
        let plain = &mut plain[..content.len()];
        plain.copy_from_slice(content);
        tag.try_into().is_ok_and(|tag| AwsLc.open(&self.guek, &self.iv, &aad, plain, tag).is_ok())
    }

    /// The same with the safe library, from one buffer to another, without a copy.
    fn open_bare_safe(&self, plain: &mut [u8; MESSAGE_LEN]) -> bool {
        let (aad, content, tag) = self.aad_content_tag();
        let Ok(buffer) = InOutBuf::new(content, &mut plain[..content.len()]) else {
            return false;
        };
        let Ok(tag) = tag.try_into() else {
            return false;
        };
        AesGcm::<Aes128, U12, U12>::new((&self.guek).into())
            .decrypt_inout_detached((&self.iv).into(), &aad, buffer, tag)
            .is_ok()
    }
}

/// Twelve registers as name, value and scaler with unit: 36 values, flat, the one shape of a push whose values
/// the peer's public interface gives out. With it, what they add up to.
fn body(seeded: &mut Seeded) -> (Vec<u8>, u64) {
    let (mut body, mut digest) = (Vec::new(), 0);
    let mut writer = Writer::new(&mut body);
    writer.structure(VALUES);
    for register in 0..REGISTERS {
        let name = [1, 0, register as u8 + 1, 8, 0, 255];
        writer.octet_string(&name);
        digest = add_octets(digest, &name);
        let value = seeded.number() as u32;
        // One short value makes the message 275 bytes long.
        if register == 0 {
            writer.i8(value as i8);
            digest = add(digest, i64::from(value as i8).cast_unsigned());
        } else {
            writer.u32(value);
            digest = add(digest, value.into());
        }
        writer.structure(2).i8(-1).enum_(30);
        digest = add(add(digest, (-1_i64).cast_unsigned()), 30);
    }
    (body, digest)
}

/// From bytes to typed values: how many, and what they add up to. `None`: refused. The same code
/// wherever it is timed.
#[inline(never)]
fn decode(
    provider: &impl CryptoProvider,
    sealed: &[u8],
    keys: &Keys,
    (scratch, known): (&mut Scratch, &mut Known),
) -> Option<(usize, u64)> {
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(sealed) else {
        return None;
    };
    let opened = security::open(provider, &glo, keys, Policy::Authenticated, scratch);
    let Ok(Opened::Authentic(plain)) = opened else {
        return None;
    };
    match apdu::parse_known(plain.into_inner(), known) {
        Ok(Apdu::DataNotification(push)) => Some(sum(push.body())),
        _ => None,
    }
}

/// How many values, and what they and those one level inside them add up to.
fn sum(body: Value<'_>) -> (usize, u64) {
    let Value::Structure(elements) = body else {
        return (1, typed(0, body));
    };
    let digest = elements.iter().fold(0, |digest, value| match value {
        Value::Structure(inner) => inner.iter().fold(digest, typed),
        value => typed(digest, value),
    });
    (elements.len(), digest)
}

/// Looks at a value by its type.
#[inline]
fn typed(digest: u64, value: Value<'_>) -> u64 {
    match value {
        Value::Null | Value::DontCare => digest,
        Value::Array(inner) | Value::Structure(inner) | Value::CompactArray(inner) => {
            add(digest, inner.len() as u64)
        }
        Value::Bool(value) => add(digest, value.into()),
        Value::BitString(bits) => add_octets(digest, bits.bytes()),
        Value::I8(value) => add(digest, i64::from(value).cast_unsigned()),
        Value::I16(value) => add(digest, i64::from(value).cast_unsigned()),
        Value::I32(value) => add(digest, i64::from(value).cast_unsigned()),
        Value::I64(value) | Value::Delta(value) => add(digest, value.cast_unsigned()),
        Value::U8(value) | Value::Enum(value) | Value::Bcd(value) => add(digest, value.into()),
        Value::U16(value) => add(digest, value.into()),
        Value::U32(value) | Value::F32(value) => add(digest, value.into()),
        Value::U64(value) | Value::F64(value) => add(digest, value),
        Value::OctetString(bytes) | Value::VisibleString(bytes) | Value::Utf8String(bytes) => {
            add_octets(digest, bytes)
        }
        Value::DateTime(time) => add_octets(digest, &time.0),
        Value::Date(bytes) => add_octets(digest, &bytes),
        Value::Time(bytes) => add_octets(digest, &bytes),
    }
}

#[inline]
const fn add(digest: u64, value: u64) -> u64 {
    digest.rotate_left(5) ^ value
}

#[inline]
fn add_octets(digest: u64, bytes: &[u8]) -> u64 {
    let last = bytes.last().copied().unwrap_or_default();
    add(digest, ((bytes.len() as u64) << 8) | u64::from(last))
}

fn flip_tag(sealed: &mut [u8], seeded: &mut Seeded) {
    let byte = sealed.len() - 1 - seeded.below(TAG_LEN);
    sealed[byte] ^= 1 << seeded.below(8);
}

fn decode_over_crypto(id: &'static str, whole: &Samples, bare: &Samples) -> Figure {
    let ratio = whole.over(bare);
    Figure {
        id,
        ours: format!("{:.0} ns", whole.median()),
        peer: format!("{:.0} ns", bare.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::AtMost(2.5),
    }
}

/// D6: allocations of the steady state, then what hostile bytes can do.
fn hostile(fleet: &Fleet) -> Result<(), Void> {
    let allocated = allocations::of_steady_state(fleet);
    let inputs = setting(MUTATIONS.0, MUTATIONS.1);
    let harm = Harm::of(fleet, inputs);
    counted(harm.panics, "panics", format!("{inputs} inputs"));
    counted(harm.accepted, "accepted", format!("{inputs} flips"));
    if allocated + harm.panics + harm.accepted > 0 {
        return Err(Void("the decoder can be harmed".into()));
    }
    Ok(())
}

/// A line of D6: how often something happened that must not.
fn counted(count: u64, what: &str, of: String) {
    let floor = Floor::AtMost(0.0);
    let ours = format!("{count} {what}");
    println!("{}", Figure { id: "D6", ours, peer: of, ratio: count as f64, spread_percent: 0.0, floor });
}

#[cfg(not(feature = "peers"))]
mod allocations {
    use std::hint::black_box;

    use codec::axdr::Known;
    use codec::security::Scratch;
    use codec_aws_lc::AwsLc;

    use super::{Fleet, MESSAGE_LEN, MESSAGES, counted, decode};

    pub(crate) fn of_steady_state(fleet: &Fleet) -> u64 {
        let (mut scratch, mut known) = (Scratch::with_capacity(MESSAGE_LEN), Known::new());
        decode(&AwsLc, &fleet.0[0].sealed, &fleet.0[0].keys, (&mut scratch, &mut known));
        let allocated = allocation_counter::measure(|| {
            for message in &fleet.0 {
                black_box(decode(&AwsLc, &message.sealed, &message.keys, (&mut scratch, &mut known)));
            }
        });
        counted(allocated.count_total, "alloc", format!("{MESSAGES} apdu"));
        allocated.count_total
    }
}

/// The counting allocator would slow a peer that allocates, so the two are not in one binary.
#[cfg(feature = "peers")]
mod allocations {
    use super::Fleet;

    pub(crate) fn of_steady_state(_: &Fleet) -> u64 {
        println!("D6   skipped: allocations are counted without --features peers");
        0
    }
}

/// What mutated inputs did.
#[derive(Default)]
struct Harm {
    panics: u64,
    accepted: u64,
}

impl Harm {
    fn of(fleet: &Fleet, inputs: usize) -> Self {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let mut harm = Self::default();
        let mut seeded = Seeded::new(3);
        let (mut scratch, mut known) = (Scratch::new(), Known::new());
        let mut input = Vec::new();
        for _ in 0..inputs {
            let message = &fleet.0[seeded.below(fleet.0.len())];
            let source = if seeded.number() & 1 == 0 { &message.sealed } else { &message.plain };
            input.clone_from(source);
            mutate(&mut input, &mut seeded);
            let outcome = catch_unwind(AssertUnwindSafe(|| harmless(&input, message, &mut scratch)));
            harm.panics += u64::from(outcome.is_err());
            harm.accepted += u64::from(outcome.is_ok_and(|harmless| !harmless));
            input.clone_from(&message.sealed);
            flip_tag(&mut input, &mut seeded);
            let accepted = decode(&AwsLc, &input, &message.keys, (&mut scratch, &mut known)).is_some();
            harm.accepted += u64::from(accepted);
        }
        std::panic::set_hook(hook);
        harm
    }
}

/// Whether a mutated input is refused, says nothing that is believed, or is what its meter said.
fn harmless(input: &[u8], message: &Message, scratch: &mut Scratch) -> bool {
    match apdu::parse(input) {
        Ok(Apdu::DataNotification(push)) => {
            black_box(sum(push.body()));
            true
        }
        Ok(Apdu::GeneralGlo(glo)) => {
            let opened = security::open(&AwsLc, &glo, &message.keys, Policy::Transport, scratch);
            match opened {
                Ok(Opened::Authentic(plain)) => plain.into_inner() == message.plain,
                Ok(Opened::Unauthenticated(plain)) => {
                    let _garbage_or_refused = black_box(apdu::parse(plain));
                    true
                }
                Err(_) => true,
            }
        }
        Ok(_) | Err(_) => true,
    }
}

/// One to four changes: a byte, a cut, an insertion, a copy of one part over another.
fn mutate(input: &mut Vec<u8>, seeded: &mut Seeded) {
    const INTERESTING: [u8; 12] = [0, 1, 2, 9, 0x0c, 0x13, 0x20, 0x7f, 0x80, 0x82, 0x84, 0xff];
    for _ in 0..=seeded.below(4) {
        if input.is_empty() {
            return;
        }
        let at = seeded.below(input.len());
        match seeded.below(8) {
            0..=2 => input[at] = INTERESTING[seeded.below(INTERESTING.len())],
            3 | 4 => input[at] = seeded.number() as u8,
            5 => input.truncate(at),
            6 => input.insert(at, seeded.number() as u8),
            _ => {
                let length = seeded.below(input.len() - at + 1);
                let to = seeded.below(input.len() - length + 1);
                input.copy_within(at..at + length, to);
            }
        }
    }
}

#[cfg(not(feature = "peers"))]
mod peer {
    use benches::Void;

    use super::Fleet;

    pub(crate) fn compare(_: &Fleet) -> Result<(), Void> {
        println!("D1   skipped: dlms_cosem needs --features peers");
        println!("D2   skipped: the stacks of Python need --features peers");
        Ok(())
    }
}

/// `dlms_cosem` 0.2. It checks no tag and chokes on one, so it gets the same push encrypted only.
#[cfg(feature = "peers")]
mod peer {
    use std::hint::black_box;

    use benches::{Figure, Floor, Samples, Void, in_turn};
    use codec::security::{RustCrypto, SecurityControl, seal};
    use codec_aws_lc::AwsLc;
    use dlms_cosem::{Apdu, ObisMap};

    use super::{Fleet, MESSAGES, Message, REGISTERS, ROUNDS};

    /// Tag, length and 8 bytes of system title come before.
    const LENGTH_AT: usize = 10;

    pub(crate) fn compare(fleet: &Fleet) -> Result<(), Void> {
        let inputs: Vec<Vec<u8>> = fleet.0.iter().map(encrypted_only).collect();
        for (message, input) in fleet.0.iter().zip(&inputs) {
            let read = Apdu::parse_encrypted(input, &message.guek.into());
            let expected = Apdu::parse(&message.plain);
            let same = matches!((read, expected), (Ok((_, read)), Ok((_, expected))) if read == expected);
            if !same || reach(input, message) != REGISTERS {
                return Err(Void("the peer does not read its input".into()));
            }
        }
        let (mut ours, mut safe) = (fleet.whole(&AwsLc), fleet.whole(&RustCrypto));
        let mut typed = || {
            for (message, input) in fleet.0.iter().zip(&inputs) {
                let _typed = black_box(Apdu::parse_encrypted(black_box(input), &message.guek.into()));
            }
        };
        let mut reached = || {
            for (message, input) in fleet.0.iter().zip(&inputs) {
                black_box(reach(black_box(input), message));
            }
        };
        let runs: [&mut dyn FnMut(); 4] = [&mut ours, &mut safe, &mut typed, &mut reached];
        let [ours, safe, typed, reached] = in_turn(ROUNDS, MESSAGES, runs);
        println!("{}", faster("D1", &ours, &reached));
        println!("{}", faster("D1s", &safe, &reached));
        println!("{}", faster("D1p", &ours, &typed));
        crate::python::compare(fleet)
    }

    fn faster(id: &'static str, ours: &Samples, theirs: &Samples) -> Figure {
        let ratio = theirs.over(ours);
        Figure {
            id,
            ours: format!("{:.0} ns", ours.median()),
            peer: format!("{:.0} ns", theirs.median()),
            ratio: ratio.median(),
            spread_percent: ratio.spread_percent(),
            floor: Floor::AtLeast(6.0),
        }
    }

    /// From bytes to values that a user of the peer can look at; its parsed APDU keeps them to itself.
    fn reach(input: &[u8], message: &Message) -> usize {
        let Ok((_, apdu)) = Apdu::parse_encrypted(input, &message.guek.into()) else {
            return 0;
        };
        let Ok((_, registers)) = ObisMap::parse(&apdu) else {
            return 0;
        };
        for register in registers.values() {
            black_box(register.value());
        }
        registers.len()
    }

    fn encrypted_only(message: &Message) -> Vec<u8> {
        let title = std::array::from_fn(|index| message.iv[index]);
        let counter = u32::from_be_bytes(std::array::from_fn(|index| message.iv[8 + index]));
        let mut input = Vec::new();
        let control = SecurityControl::ENCRYPTED;
        seal(&RustCrypto, control, &title, counter, &message.keys, &message.plain, &mut input);
        // It knows no length of two bytes (81 xx), only of one and of three (82 xx xx).
        if let Some(form @ 0x81) = input.get_mut(LENGTH_AT) {
            *form = 0x82;
            input.insert(LENGTH_AT + 1, 0);
        }
        input
    }
}
