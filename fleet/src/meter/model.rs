//! The objects that a meter has, and what its clients may do with them (dlms.md 6).

use codec::cosem::india::{
    association, control, events::EventLog, identity, prepaid, profile, push, scaler, status, time,
};
use codec::cosem::{ClassId, LogicalName};
use profiles::{Profile, PushKind, Target};

use crate::supply::RELAY_SCRIPTS;

/// Client addresses.
pub(super) const PUBLIC: u16 = association::PUBLIC.client_sap as u16;
pub(super) const READER: u16 = association::READER.client_sap as u16;
pub(super) const UTILITY: u16 = association::UTILITY.client_sap as u16;
pub(super) const FIRMWARE: u16 = association::FIRMWARE.client_sap as u16;
/// The association of pushes, which nobody opens.
pub(super) const PUSH: u16 = association::PUSH.client_sap as u16;

pub(super) const SAP_ASSIGNMENT: LogicalName = LogicalName([0, 0, 41, 0, 0, 255]);
/// Port and patience over IP, and the link over HDLC.
pub(super) const TCP_SETUP: LogicalName = LogicalName([0, 0, 25, 0, 0, 255]);
pub(super) const HDLC_SETUP: LogicalName = LogicalName([0, 0, 22, 0, 0, 255]);
/// Scripts of the tariff, and of the activation of an image.
pub(super) const TARIFF_SCRIPTS: LogicalName = LogicalName([0, 0, 10, 0, 100, 255]);
pub(super) const IMAGE_SCRIPTS: LogicalName = LogicalName([0, 0, 10, 0, 107, 255]);

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) class: ClassId,
    pub(super) version: u8,
    pub(super) name: LogicalName,
    pub(super) thing: Thing,
    /// Attributes besides the first.
    pub(super) reads: Vec<i8>,
    pub(super) writes: Vec<i8>,
    pub(super) methods: Vec<i8>,
    /// Clients that may read it, besides the reader and the utility.
    pub(super) readers: Vec<u16>,
    /// Whether the firmware client may write it and use its methods, as the utility may.
    pub(super) firmware: bool,
}

/// What is behind an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// Values that stay what they were set to.
    Stored,
    /// The last counter of that client.
    Counter(u16),
    Clock,
    /// A column of a push, as a register or a count of its own.
    Column(PushKind, usize),
    /// A buffer.
    Buffer(Which),
    /// The scalers of a buffer.
    Scalers(Which),
    LatestCode(EventLog),
    SequenceNumber(EventLog),
    Relay,
    Image,
    SecuritySetup(u16),
    /// The association with that client, or with whoever asks.
    Association(Option<u16>),
    EventWord,
    /// A setup of pushes; what is stored there, and the push itself.
    PushSetup(PushKind),
    Scripts(Script),
    /// The column of that place of the billing profile, as it is now.
    Billing(usize),
    /// When the last billing cycle closed, and how many are kept.
    BillingDate,
    BillingPeriods,
    /// The counter of the pushes.
    PushCounter,
}

/// What the scripts of a table are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    DemandReset,
    Tariff,
    Relay,
    Image,
    Push,
}

/// A profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Instant,
    Block,
    Daily,
    Billing,
    Nameplate,
    Log(EventLog),
}

/// A right of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Read,
    Write,
    Act,
}

impl Object {
    fn new(class: u16, name: LogicalName, thing: Thing, reads: &[i8]) -> Object {
        Object {
            class: ClassId(class),
            version: u8::from(matches!(class, 7 | 15)),
            name,
            thing,
            reads: reads.to_vec(),
            writes: Vec::new(),
            methods: Vec::new(),
            readers: Vec::new(),
            firmware: false,
        }
    }

    fn writes(mut self, writes: &[i8]) -> Object {
        self.writes = writes.to_vec();
        self
    }

    fn methods(mut self, methods: &[i8]) -> Object {
        self.methods = methods.to_vec();
        self
    }

    /// Clients without a key see it, and all others.
    fn public(mut self) -> Object {
        self.readers = vec![PUBLIC, FIRMWARE];
        self
    }

    /// The firmware client sees it.
    fn seen_by_firmware(mut self) -> Object {
        self.readers.push(FIRMWARE);
        self
    }

    /// The firmware client does with it what the utility does.
    fn of_firmware(mut self) -> Object {
        self.firmware = true;
        self.seen_by_firmware()
    }

    /// Whether that client has that right to this object, if there is something to use it on.
    pub(super) fn allows(&self, client: u16, right: Right) -> bool {
        match (client, right) {
            (UTILITY, _) | (READER, Right::Read) => true,
            (_, Right::Read) => self.readers.contains(&client),
            (FIRMWARE, Right::Write | Right::Act) => self.firmware,
            _ => false,
        }
    }
}

/// All objects of a meter of that profile.
pub(super) fn objects(profile: &Profile) -> Vec<Object> {
    let mut all = identity_objects();
    all.extend(time_objects());
    all.extend(columns(profile));
    all.extend(buffers());
    all.extend(controls(profile));
    all.extend(associations());
    all
}

fn data(name: LogicalName) -> Object {
    Object::new(1, name, Thing::Stored, &[2])
}

fn identity_objects() -> Vec<Object> {
    use identity::{
        CATEGORY, CURRENT_RATING, DEVICE_ID, FIRMWARE_VERSION, LOGICAL_DEVICE_NAME, MANUFACTURER, METER_TYPE,
        SERIAL_NUMBER, YEAR_OF_MANUFACTURE,
    };
    let public = [LOGICAL_DEVICE_NAME, SERIAL_NUMBER, DEVICE_ID];
    let others = [MANUFACTURER, YEAR_OF_MANUFACTURE, FIRMWARE_VERSION, METER_TYPE, CATEGORY, CURRENT_RATING];
    let mut all: Vec<Object> = public.map(|name| data(name).public()).into();
    all.extend(others.map(|name| match name {
        FIRMWARE_VERSION => data(name).seen_by_firmware(),
        _ => data(name),
    }));
    all
}

fn time_objects() -> Vec<Object> {
    let clock = Object::new(8, time::CLOCK, Thing::Clock, &[2, 3, 4, 5, 6, 7, 8, 9]);
    let schedule = |name| Object::new(22, name, Thing::Stored, &[2, 3, 4]).writes(&[4]);
    vec![
        clock.writes(&[2]).methods(&[1, 2, 3, 4, 5, 6]).public(),
        data(time::DEMAND_INTEGRATION_PERIOD).writes(&[2]),
        data(time::BLOCK_CAPTURE_PERIOD).writes(&[2]),
        data(time::DAILY_CAPTURE_PERIOD),
        schedule(time::BILLING_SCHEDULE),
        schedule(time::IMAGE_ACTIVATION_SCHEDULE).of_firmware(),
        schedule(time::PUSH_SCHEDULE),
        Object::new(20, time::ACTIVITY_CALENDAR, Thing::Stored, &[2, 3, 4, 5, 6, 7, 8, 9, 10])
            .writes(&[6, 7, 8, 9, 10])
            .methods(&[1]),
        scripts(time::DEMAND_RESET_SCRIPT, Script::DemandReset),
        scripts(time::PUSH_SCRIPT, Script::Push),
        scripts(IMAGE_SCRIPTS, Script::Image).of_firmware(),
        // The calendar runs them, nobody else.
        scripts(TARIFF_SCRIPTS, Script::Tariff).methods(&[]),
    ]
}

fn scripts(name: LogicalName, about: Script) -> Object {
    Object::new(9, name, Thing::Scripts(about), &[2]).methods(&[1])
}

/// Registers, demands and counts: one object for each column of the pushes that has no other.
fn columns(profile: &Profile) -> Vec<Object> {
    let mut all: Vec<Object> = Vec::new();
    for layout in profile.push.iter().filter(|layout| layout.kind != PushKind::Event) {
        for (place, column) in layout.columns.iter().enumerate() {
            let name = LogicalName(column.obis.0);
            let reads: &[i8] = match column.class {
                1 => &[2],
                3 => &[2, 3],
                4 => &[2, 3, 4, 5],
                _ => continue,
            };
            let is_value = matches!(column.to, Target::Channel(_));
            if is_value && !all.iter().any(|object| object.name == name) {
                all.push(Object::new(column.class, name, Thing::Column(layout.kind, place), reads));
            }
        }
    }
    for (place, column) in super::profile::billing_columns().iter().enumerate() {
        let reads: &[i8] = if column.class.0 == 4 { &[2, 3, 4, 5] } else { &[2, 3] };
        let is_value = column.attribute == 2 && matches!(column.class.0, 3 | 4);
        if is_value && !all.iter().any(|object| object.name == column.name) {
            all.push(Object::new(column.class.0, column.name, Thing::Billing(place), reads));
        }
    }
    all.push(Object::new(1, status::BILLING_DATE, Thing::BillingDate, &[2]));
    all.push(Object::new(1, status::BILLING_PERIODS_AVAILABLE, Thing::BillingPeriods, &[2]));
    all.push(data(status::BILLING_POWER_ON_DURATION));
    all
}

fn buffers() -> Vec<Object> {
    let buffer = |name, which| Object::new(7, name, Thing::Buffer(which), &[2, 3, 4, 5, 6, 7, 8]);
    let scalers = |name, which| Object::new(7, name, Thing::Scalers(which), &[2, 3, 4, 5, 6, 7, 8]);
    let mut all = vec![
        buffer(identity::NAMEPLATE_PROFILE, Which::Nameplate),
        buffer(profile::INSTANTANEOUS, Which::Instant).methods(&[2]),
        buffer(profile::BLOCK_LOAD, Which::Block).methods(&[1]),
        buffer(profile::DAILY_LOAD, Which::Daily).methods(&[1]),
        buffer(profile::BILLING, Which::Billing).methods(&[2]),
        scalers(scaler::INSTANTANEOUS, Which::Instant),
        scalers(scaler::BLOCK_LOAD, Which::Block),
        scalers(scaler::DAILY_LOAD, Which::Daily),
        scalers(scaler::BILLING, Which::Billing),
        scalers(scaler::EVENTS, Which::Log(EventLog::Voltage)),
    ];
    for log in EventLog::ALL {
        all.push(buffer(log.log(), Which::Log(log)));
        all.push(Object::new(1, log.latest_code(), Thing::LatestCode(log), &[2]));
        all.push(Object::new(1, log.sequence_number(), Thing::SequenceNumber(log), &[2]));
    }
    all
}

fn controls(profile: &Profile) -> Vec<Object> {
    let amounts = [
        prepaid::METERING_MODE,
        prepaid::PAYMENT_MODE,
        prepaid::LAST_RECHARGE_AMOUNT,
        prepaid::LAST_RECHARGE_TIME,
        prepaid::TOTAL_AT_LAST_RECHARGE,
        prepaid::BALANCE_AMOUNT,
        prepaid::BALANCE_TIME,
    ];
    let mut all: Vec<Object> = amounts.map(|name| data(name).writes(&[2])).into();
    if profile.relay.is_some() {
        let relay = Object::new(70, control::RELAY, Thing::Relay, &[2, 3, 4]);
        all.push(relay.writes(&[4]).methods(&[1, 2]));
        all.push(scripts(RELAY_SCRIPTS, Script::Relay));
        let limit = Object::new(71, control::LOAD_LIMIT, Thing::Stored, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        all.push(limit.writes(&[4, 5, 6, 7]));
    }
    let image = Object::new(18, control::IMAGE_TRANSFER, Thing::Image, &[2, 3, 4, 5, 6, 7]);
    all.push(image.writes(&[5]).methods(&[1, 2, 3, 4]).of_firmware());
    for layout in &profile.push {
        let thing = Thing::PushSetup(layout.kind);
        let setup = Object::new(40, LogicalName(layout.setup.0), thing, &[2, 3, 4, 5, 6, 7]);
        all.push(setup.writes(&[3, 4, 5, 6, 7]).methods(&[1]));
    }
    all.push(Object::new(41, TCP_SETUP, Thing::Stored, &[2, 3, 4, 5, 6]));
    all.push(Object::new(23, HDLC_SETUP, Thing::Stored, &[2, 3, 4, 5, 6, 7, 8, 9]));
    all.push(Object::new(1, push::EVENT_STATUS_WORD, Thing::EventWord, &[2]));
    all.push(data(push::EVENT_STATUS_FILTER).writes(&[2]));
    all
}

fn associations() -> Vec<Object> {
    let mut all = vec![Object::new(17, SAP_ASSIGNMENT, Thing::Stored, &[2]).seen_by_firmware()];
    let current = codec::cosem::association::CURRENT;
    let reads = [2, 3, 4, 5, 6, 8, 9];
    let own = Object::new(15, current, Thing::Association(None), &reads).methods(&[1, 2]);
    all.push(Object { firmware: true, ..own.public() });
    use association::{
        FIRMWARE as UPGRADE, PUBLIC as ANYBODY, PUSH as PUSHES, READER as READS, UTILITY as SETS,
    };
    for one in [ANYBODY, READS, SETS, PUSHES, UPGRADE] {
        let client = u16::from(one.client_sap);
        let object = Object::new(15, one.object, Thing::Association(Some(client)), &reads);
        all.push(match client {
            // The password, which nobody reads; what proves the others is changed by a method.
            READER => object.writes(&[7]),
            UTILITY => object.methods(&[2]),
            FIRMWARE => object.methods(&[2]).seen_by_firmware(),
            _ => object,
        });
        if let Some(setup) = one.security_setup {
            let setup = Object::new(64, setup, Thing::SecuritySetup(client), &[2, 3, 4, 5]);
            all.push(match client {
                UTILITY => setup.methods(&[1, 2]),
                FIRMWARE => setup.methods(&[1, 2]).of_firmware(),
                _ => setup.methods(&[1]),
            });
        }
        if let Some(counter) = one.invocation_counter {
            let thing = if client == PUSH { Thing::PushCounter } else { Thing::Counter(client) };
            all.push(Object::new(1, counter, thing, &[2]).public());
        }
    }
    all
}

/// The unit of a column, by the quantity in its name (dlms.md 3).
pub(super) const fn unit(LogicalName([medium, _, quantity, process, _, _]): LogicalName) -> u8 {
    const UNIT_W: u8 = 27;
    const UNIT_VA: u8 = 28;
    const UNIT_VAR: u8 = 29;
    let energy = matches!(process, 8 | 29);
    match (medium, quantity) {
        (1, 1 | 2) => UNIT_W + if energy { 3 } else { 0 },
        (1, 9 | 10) => UNIT_VA + if energy { 3 } else { 0 },
        (1, 3..=8) => UNIT_VAR + if energy { 3 } else { 0 },
        (1, 11 | 31 | 51 | 71 | 91 | 94) => 33,
        (1, 12 | 32 | 52 | 72) => 35,
        (1, 14) => 44,
        _ => 255,
    }
}
