//! D7: what is sent, from values to protected bytes: a push as a meter makes it, and a read as a head-end asks it.

use std::hint::black_box;
use std::process::ExitCode;

use benches::{Figure, Floor, Samples, Seeded, Void, gated, in_turn, instructions};
use codec::apdu::{
    self, Apdu, AttributeDescriptor, DataNotificationRepr, GetRequest, GetRequestBody, InvokeId,
    LongInvokeId, SelectedAttribute,
};
use codec::axdr::{DateTime, Writer};
use codec::cosem::{ClassId, LogicalName};
use codec::security::association::{Envelope, Incoming, Outgoing, Protect};
use codec::security::counter::{RisingCounter, SendCounter};
use codec::security::keys::{AssociationKeys, KeyUse};
use codec::security::{self, CryptoProvider, Keys, Opened, Policy, RustCrypto, Scratch, SecurityControl};
use codec_aws_lc::AwsLc;

const MESSAGES: usize = 8192;
/// Messages over which instructions are counted.
const COUNTED: usize = 512;
const ROUNDS: usize = 31;
const REGISTERS: usize = 12;
const TITLE: [u8; 8] = *b"URJ\0\0\0\0\x01";
const CONTROL: SecurityControl = SecurityControl::AUTHENTICATED_ENCRYPTED;
const REQUEST: GetRequest<'_> = GetRequest {
    invoke_id: InvokeId::new(1, true, true),
    body: GetRequestBody::Normal(SelectedAttribute::whole(AttributeDescriptor {
        class: ClassId(3),
        instance: LogicalName([1, 0, 1, 8, 0, 255]),
        attribute: 2,
    })),
};

fn main() -> ExitCode {
    if instructions::are_wanted() {
        let mut seeded = Seeded::new(4);
        count(&(0..COUNTED).map(|_| Meter::new(&mut seeded)).collect::<Vec<_>>());
        return ExitCode::SUCCESS;
    }
    gated(|| {
        let mut seeded = Seeded::new(4);
        let meters: Vec<Meter> = (0..MESSAGES).map(|_| Meter::new(&mut seeded)).collect();
        gate(&meters[0])?;
        println!("{}", figure("D7", &pushes(&meters, &AwsLc)));
        println!("{}", figure("D7s", &pushes(&meters, &RustCrypto)));
        println!("{}", figure("D7r", &requests(&meters)));
        Ok(())
    })
}

/// What one meter pushes, and under which keys.
struct Meter {
    guek: [u8; 16],
    gak: [u8; 16],
    keys: Keys,
    values: [u32; REGISTERS],
}

impl Meter {
    fn new(seeded: &mut Seeded) -> Self {
        let (guek, gak) = (seeded.bytes(), seeded.bytes());
        let values = std::array::from_fn(|_| seeded.number() as u32);
        Self { guek, gak, keys: Keys::new(guek, gak), values }
    }

    /// Twelve registers as name, value and scaler with unit, as in `decode`.
    fn push(&self, body: &mut Vec<u8>, plain: &mut Vec<u8>) {
        body.clear();
        plain.clear();
        let mut writer = Writer::new(body);
        writer.structure(3 * REGISTERS);
        for (register, value) in self.values.iter().enumerate() {
            writer.octet_string(&[1, 0, register as u8 + 1, 8, 0, 255]).u32(*value);
            writer.structure(2).i8(-1).enum_(30);
        }
        let head = DataNotificationRepr {
            invoke_id: LongInvokeId::new(1, true, false),
            date_time: Some(DateTime::new(2026, 6, 1, 1, 0, 30, 7, 0, 330, 0)),
        };
        head.emit(body, plain);
    }
}

/// Buffers that have grown: as in service, nothing is allocated for an APDU.
#[derive(Default)]
struct Buffers {
    body: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    fn push(&mut self, meter: &Meter, counter: u32, provider: &impl CryptoProvider) -> &[u8] {
        meter.push(&mut self.body, &mut self.plain);
        self.sealed.clear();
        security::seal(provider, CONTROL, &TITLE, counter, &meter.keys, &self.plain, &mut self.sealed);
        &self.sealed
    }
}

/// What is sent opens, and is what was meant.
fn gate(meter: &Meter) -> Result<(), Void> {
    let mut buffers = Buffers::default();
    let sealed = buffers.push(meter, 7, &AwsLc).to_vec();
    let Ok(Apdu::GeneralGlo(glo)) = apdu::parse(&sealed) else {
        return Err(Void("a push does not parse".into()));
    };
    let mut scratch = Scratch::new();
    let opened = security::open(&RustCrypto, &glo, &meter.keys, Policy::Authenticated, &mut scratch);
    if !matches!(opened, Ok(Opened::Authentic(plain)) if plain.into_inner() == buffers.plain) {
        return Err(Void("a push does not open".into()));
    }
    let (keys, mut counters) = (AssociationKeys::new(meter.keys.clone()), all_counters());
    let sealed = request(&keys, &mut counters, &mut buffers).to_vec();
    let mut incoming = Incoming::new(TITLE, Protect::AuthenticatedEncrypted, RisingCounter::new());
    let received = incoming.receive(&RustCrypto, &keys, &sealed, &mut scratch);
    let read =
        received.map(|received| apdu::parse(received.apdu.into_inner()) == Ok(Apdu::GetRequest(REQUEST)));
    if read == Ok(true) { Ok(()) } else { Err(Void("a request does not open".into())) }
}

/// Every counter reserved.
fn all_counters() -> SendCounter {
    let mut counters = SendCounter::resume(1);
    counters.reserved(u32::MAX);
    counters
}

fn request<'b>(keys: &AssociationKeys, counters: &mut SendCounter, buffers: &'b mut Buffers) -> &'b [u8] {
    buffers.plain.clear();
    buffers.sealed.clear();
    REQUEST.emit(&mut buffers.plain);
    let outgoing = Outgoing { title: TITLE, protect: Protect::AuthenticatedEncrypted };
    let Ok(invocation) = counters.take() else { return &[] };
    let (key, envelope) = (KeyUse::Unicast, Envelope::Service);
    let sealed = outgoing.seal(&AwsLc, keys, key, envelope, invocation, &buffers.plain, &mut buffers.sealed);
    if sealed.is_ok() { &buffers.sealed } else { &[] }
}

/// Sealing alone, of bytes that are there: the least that any encoder with this provider has to do.
fn seal_bare(provider: &impl CryptoProvider, meter: &Meter, bytes: &[u8], out: &mut Vec<u8>) -> [u8; 12] {
    let (mut iv, mut aad) = ([0; 12], [CONTROL.0; 17]);
    iv[..8].copy_from_slice(&TITLE);
    aad[1..].copy_from_slice(&meter.gak);
    out.clear();
    out.extend_from_slice(bytes);
    provider.seal(&meter.guek, &iv, &aad, out)
}

/// Instructions of what is timed, and of a push before it is sealed.
fn count(meters: &[Meter]) {
    let (mut buffers, mut counters) = (Buffers::default(), all_counters());
    let keys: Vec<AssociationKeys> =
        meters.iter().map(|meter| AssociationKeys::new(meter.keys.clone())).collect();
    let mut push = |provider: &dyn Fn(&mut Buffers, &Meter)| {
        meters.iter().for_each(|meter| provider(&mut buffers, black_box(meter)));
    };
    let sealed = |buffers: &mut Buffers, meter: &Meter| _ = black_box(buffers.push(meter, 7, &AwsLc));
    let sealed_safe =
        |buffers: &mut Buffers, meter: &Meter| _ = black_box(buffers.push(meter, 7, &RustCrypto));
    let written = |buffers: &mut Buffers, meter: &Meter| meter.push(&mut buffers.body, &mut buffers.plain);
    instructions::count("D7", meters.len(), &mut || push(&sealed));
    instructions::count("D7s", meters.len(), &mut || push(&sealed_safe));
    instructions::count("D7-write", meters.len(), &mut || push(&written));
    let mut ask = || keys.iter().for_each(|keys| _ = black_box(request(keys, &mut counters, &mut buffers)));
    instructions::count("D7r", meters.len(), &mut ask);
}

fn pushes<P: CryptoProvider>(meters: &[Meter], provider: &P) -> [Samples; 2] {
    let (mut buffers, mut counter) = (Buffers::default(), 0_u32);
    let plain: Vec<Vec<u8>> = meters
        .iter()
        .map(|meter| {
            let mut plain = Vec::new();
            meter.push(&mut Vec::new(), &mut plain);
            plain
        })
        .collect();
    let mut out = Vec::new();
    let mut ours = || {
        for meter in meters {
            counter = counter.wrapping_add(1);
            black_box(buffers.push(black_box(meter), counter, provider));
        }
    };
    let mut bare = || {
        for (meter, plain) in meters.iter().zip(&plain) {
            black_box(seal_bare(provider, meter, black_box(plain), &mut out));
        }
    };
    in_turn(ROUNDS, meters.len(), [&mut ours, &mut bare])
}

fn requests(meters: &[Meter]) -> [Samples; 2] {
    let (mut buffers, mut counters, mut out) = (Buffers::default(), all_counters(), Vec::new());
    let keys: Vec<AssociationKeys> =
        meters.iter().map(|meter| AssociationKeys::new(meter.keys.clone())).collect();
    let mut plain = Vec::new();
    REQUEST.emit(&mut plain);
    let mut ours = || {
        for keys in &keys {
            black_box(request(black_box(keys), &mut counters, &mut buffers));
        }
    };
    let mut bare = || {
        for meter in meters {
            black_box(seal_bare(&AwsLc, meter, black_box(&plain), &mut out));
        }
    };
    in_turn(ROUNDS, meters.len(), [&mut ours, &mut bare])
}

fn figure(id: &'static str, [ours, bare]: &[Samples; 2]) -> Figure {
    let ratio = ours.over(bare);
    Figure {
        id,
        ours: format!("{:.0} ns", ours.median()),
        peer: format!("{:.0} ns", bare.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::None,
    }
}
