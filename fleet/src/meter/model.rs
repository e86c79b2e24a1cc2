//! The objects that a meter has, and what its clients may do with them (dlms.md 6).

use codec::cosem::india::{
    association, control, events::EventLog, identity, prepaid, profile, push, scaler, status, time,
};
use codec::cosem::{ClassId, LogicalName};
use profiles::{Profile, PushKind, Target};

/// Client addresses.
pub(super) const PUBLIC: u16 = association::PUBLIC.client_sap as u16;
pub(super) const READER: u16 = association::READER.client_sap as u16;
pub(super) const UTILITY: u16 = association::UTILITY.client_sap as u16;
pub(super) const FIRMWARE: u16 = association::FIRMWARE.client_sap as u16;

pub(super) const SAP_ASSIGNMENT: LogicalName = LogicalName([0, 0, 41, 0, 0, 255]);

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
    /// Whether clients without a key see it.
    pub(super) public: bool,
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
            public: false,
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

    fn public(mut self) -> Object {
        self.public = true;
        self
    }

    /// Whether that client has that right to this object, if there is something to use it on.
    pub(super) fn allows(&self, client: u16, right: Right) -> bool {
        match (client, right) {
            (PUBLIC, Right::Read) => self.public,
            (READER | UTILITY | FIRMWARE, Right::Read) | (UTILITY, _) => true,
            (FIRMWARE, _) => {
                let own = association::FIRMWARE.security_setup == Some(self.name);
                own || self.thing == Thing::Image || self.name == time::IMAGE_ACTIVATION_SCHEDULE
            }
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
    all.extend(others.map(data));
    all
}

fn time_objects() -> Vec<Object> {
    let clock = Object::new(8, time::CLOCK, Thing::Clock, &[2, 3, 4, 5, 6, 7, 8, 9]);
    let schedule = |name| Object::new(22, name, Thing::Stored, &[2, 3, 4]).writes(&[4]);
    vec![
        clock.writes(&[2]).methods(&[1, 3, 6]).public(),
        data(time::DEMAND_INTEGRATION_PERIOD).writes(&[2]),
        data(time::BLOCK_CAPTURE_PERIOD).writes(&[2]),
        data(time::DAILY_CAPTURE_PERIOD),
        schedule(time::BILLING_SCHEDULE),
        schedule(time::IMAGE_ACTIVATION_SCHEDULE),
        schedule(time::PUSH_SCHEDULE),
        Object::new(20, time::ACTIVITY_CALENDAR, Thing::Stored, &[2, 3, 4, 5, 6, 7, 8, 9, 10])
            .writes(&[6, 7, 8, 9, 10])
            .methods(&[1]),
        Object::new(9, time::DEMAND_RESET_SCRIPT, Thing::Stored, &[2]).methods(&[1]),
        Object::new(9, time::PUSH_SCRIPT, Thing::Stored, &[2]),
    ]
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
    let missing =
        [status::BILLING_DATE, status::BILLING_PERIODS_AVAILABLE, status::BILLING_POWER_ON_DURATION];
    all.extend(missing.map(data));
    all
}

fn buffers() -> Vec<Object> {
    let buffer = |name, which| Object::new(7, name, Thing::Buffer(which), &[2, 3, 4, 5, 6, 7, 8]);
    let scalers = |name, which| Object::new(7, name, Thing::Scalers(which), &[2, 3, 4, 5, 6, 7, 8]);
    let mut all = vec![
        buffer(identity::NAMEPLATE_PROFILE, Which::Nameplate),
        buffer(profile::INSTANTANEOUS, Which::Instant),
        buffer(profile::BLOCK_LOAD, Which::Block),
        buffer(profile::DAILY_LOAD, Which::Daily),
        buffer(profile::BILLING, Which::Billing),
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
        let limit = Object::new(71, control::LOAD_LIMIT, Thing::Stored, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        all.push(limit.writes(&[4, 5, 6, 7]));
    }
    let image = Object::new(18, control::IMAGE_TRANSFER, Thing::Image, &[2, 3, 4, 5, 6, 7]);
    all.push(image.writes(&[5]).methods(&[1, 2, 3, 4]));
    for layout in &profile.push {
        let setup = Object::new(40, LogicalName(layout.setup.0), Thing::Stored, &[2, 3, 4, 5, 6, 7]);
        all.push(setup.writes(&[3, 4, 5, 6, 7]));
    }
    all.push(Object::new(1, push::EVENT_STATUS_WORD, Thing::EventWord, &[2]));
    all.push(data(push::EVENT_STATUS_FILTER).writes(&[2]));
    all
}

fn associations() -> Vec<Object> {
    let mut all = vec![Object::new(17, SAP_ASSIGNMENT, Thing::Stored, &[2])];
    let current = codec::cosem::association::CURRENT;
    let reads = [2, 3, 4, 5, 6, 8, 9];
    all.push(Object::new(15, current, Thing::Association(None), &reads).methods(&[1, 2]).public());
    for one in [association::PUBLIC, association::READER, association::UTILITY, association::FIRMWARE] {
        let client = u16::from(one.client_sap);
        all.push(Object::new(15, one.object, Thing::Association(Some(client)), &reads));
        if let Some(setup) = one.security_setup {
            let setup = Object::new(64, setup, Thing::SecuritySetup(client), &[2, 3, 4, 5]);
            all.push(if client == READER { setup } else { setup.methods(&[2]) });
        }
        if let Some(counter) = one.invocation_counter {
            all.push(Object::new(1, counter, Thing::Counter(client), &[2]).public());
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
