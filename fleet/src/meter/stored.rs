//! Values that a meter keeps as they were set, and what they are when it leaves the factory.

use std::collections::BTreeMap;

use codec::axdr::{Data, DateTime, Writer};
use codec::cosem::india::{EVENT_STATUS_BITS, control, identity, prepaid, push, status, time};
use codec::cosem::{LogicalName, register};
use profiles::Profile;

use super::IDLE;
use super::door::CONNECTIONS;
use super::model::{HDLC_SETUP, IMAGE_SCRIPTS, SAP_ASSIGNMENT, TARIFF_SCRIPTS, TCP_SETUP};
use super::station::{self, PHYSICAL};
use crate::plan::USUAL_DELAY_S;
use crate::provision::SimulatedMeter;
use crate::supply::{Limit, RELAY_SCRIPTS};

/// Longest value that is stored.
const MAX_STORED: usize = 4096;
/// Nothing is specified.
const NEVER: DateTime = DateTime([0xff; 12]);

/// Encoded values by name and attribute.
#[derive(Debug, Default)]
pub(super) struct Stored(BTreeMap<(LogicalName, i8), Vec<u8>>);

impl Stored {
    pub(super) fn value(&self, name: LogicalName, attribute: i8) -> Option<&[u8]> {
        self.0.get(&(name, attribute)).map(Vec::as_slice)
    }

    /// Takes a value of the type that is there; false for any other.
    pub(super) fn set(&mut self, name: LogicalName, attribute: i8, value: Data<'_>) -> bool {
        let Some(held) = self.0.get_mut(&(name, attribute)) else { return false };
        let fits = held.first() == value.bytes().first() && value.bytes().len() <= MAX_STORED;
        if fits {
            *held = value.bytes().to_vec();
        }
        fits
    }

    pub(super) fn put(&mut self, name: LogicalName, attribute: i8, write: impl FnOnce(&mut Writer<'_>)) {
        let mut value = Vec::new();
        write(&mut Writer::new(&mut value));
        self.0.insert((name, attribute), value);
    }

    pub(super) fn put_encoded(&mut self, name: LogicalName, attribute: i8, value: Vec<u8>) {
        self.0.insert((name, attribute), value);
    }

    /// As it comes from the factory.
    pub(super) fn of(meter: &SimulatedMeter, profile: &Profile, amount: DateTime) -> Stored {
        let mut stored = Stored::default();
        stored.identity(meter, profile);
        stored.periods(meter);
        stored.prepaid(amount);
        stored.limit(meter);
        stored.calendar();
        stored.lines(station::parameters_of(meter.index));
        for layout in &profile.push {
            stored.push_setup(layout);
        }
        let filter = [0x1a, 0x18, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0];
        stored.put(push::EVENT_STATUS_FILTER, 2, |w| _ = w.bit_string(EVENT_STATUS_BITS, &filter));
        stored
    }

    fn identity(&mut self, meter: &SimulatedMeter, profile: &Profile) {
        let name = format!("{}{:0>13}", &meter.device_id[..3], meter.serial);
        let three = profile.phases == 3;
        let texts = [
            (identity::LOGICAL_DEVICE_NAME, name.as_str()),
            (identity::SERIAL_NUMBER, &meter.serial),
            (identity::DEVICE_ID, &meter.device_id),
            (identity::MANUFACTURER, "URJA SIMULATED"),
            (identity::FIRMWARE_VERSION, "URJ-1.0"),
            (identity::CATEGORY, if three { "D2" } else { "D1" }),
            (identity::CURRENT_RATING, "10-60A"),
        ];
        for (at, text) in texts {
            self.put(at, 2, |w| _ = w.octet_string(text.as_bytes()));
        }
        self.put(identity::METER_TYPE, 2, |w| _ = w.u8(if three { 7 } else { 6 }));
        self.put(identity::YEAR_OF_MANUFACTURE, 2, |w| _ = w.u16(2026));
        self.put(SAP_ASSIGNMENT, 2, |w| {
            w.array(1).structure(2).u16(1).octet_string(name.as_bytes());
        });
    }

    fn periods(&mut self, meter: &SimulatedMeter) {
        self.put(time::DEMAND_INTEGRATION_PERIOD, 2, |w| _ = w.u16(1800));
        self.put(time::BLOCK_CAPTURE_PERIOD, 2, |w| _ = w.u32(meter.period_s));
        self.put(time::DAILY_CAPTURE_PERIOD, 2, |w| _ = w.u32(86_400));
        self.put(status::BILLING_POWER_ON_DURATION, 2, |w| _ = w.u32(0));
        let (reset, pushes) = (time::DEMAND_RESET_SCRIPT, time::PUSH_SCRIPT);
        // On the first of each month; never, until it is said. What the fleet's cadence pushes has no schedule.
        let first = [0xff, 0xff, 0xff, 1, 0xff];
        for (schedule, script, times) in [
            (time::BILLING_SCHEDULE, reset, 1),
            (time::IMAGE_ACTIVATION_SCHEDULE, IMAGE_SCRIPTS, 0),
            (time::PUSH_SCHEDULE, pushes, 0),
        ] {
            self.put(schedule, 2, |w| _ = w.structure(2).octet_string(&script.0).u16(1));
            self.put(schedule, 3, |w| _ = w.enum_(5));
            self.put(schedule, 4, |w| {
                w.array(times);
                (0..times).for_each(|_| _ = w.structure(2).octet_string(&[0; 4]).octet_string(&first));
            });
        }
    }

    /// The numbers of ports, and what is agreed to in a link.
    fn lines(&mut self, hdlc: (u16, u8)) {
        let (max_info, window) = hdlc;
        self.put(TCP_SETUP, 2, |w| _ = w.u16(4059));
        self.put(TCP_SETUP, 3, |w| _ = w.octet_string(&[0, 0, 25, 1, 0, 255]));
        self.put(TCP_SETUP, 4, |w| _ = w.u16(576));
        self.put(TCP_SETUP, 5, |w| _ = w.u8(CONNECTIONS as u8));
        self.put(TCP_SETUP, 6, |w| _ = w.u16(IDLE.as_secs() as u16));
        // 9600 baud, and no silence within a frame over 25 ms.
        self.put(HDLC_SETUP, 2, |w| _ = w.enum_(5));
        self.put(HDLC_SETUP, 3, |w| _ = w.u8(window));
        self.put(HDLC_SETUP, 4, |w| _ = w.u8(window));
        self.put(HDLC_SETUP, 5, |w| _ = w.u16(max_info));
        self.put(HDLC_SETUP, 6, |w| _ = w.u16(max_info));
        self.put(HDLC_SETUP, 7, |w| _ = w.u16(25));
        self.put(HDLC_SETUP, 8, |w| _ = w.u16(IDLE.as_secs() as u16));
        self.put(HDLC_SETUP, 9, |w| _ = w.u16(PHYSICAL));
    }

    fn prepaid(&mut self, at: DateTime) {
        self.put(prepaid::METERING_MODE, 2, |w| _ = w.u8(0));
        self.put(prepaid::PAYMENT_MODE, 2, |w| _ = w.u8(1));
        for amount in
            [prepaid::LAST_RECHARGE_AMOUNT, prepaid::TOTAL_AT_LAST_RECHARGE, prepaid::BALANCE_AMOUNT]
        {
            self.put(amount, 2, |w| _ = w.i32(0));
        }
        for name in [prepaid::LAST_RECHARGE_TIME, prepaid::BALANCE_TIME] {
            self.put(name, 2, |w| _ = w.octet_string(&at.0));
        }
    }

    fn limit(&mut self, meter: &SimulatedMeter) {
        let limit = meter.sanctioned_w * 12 / 10;
        let name = control::LOAD_LIMIT;
        self.put(name, 2, |w| {
            let power = codec::cosem::india::register::ACTIVE_POWER;
            w.structure(3).u16(register::CLASS.0).octet_string(&power.0).i8(2);
        });
        for threshold in [3, 4, 5] {
            self.put(name, threshold, |w| _ = w.u32(limit));
        }
        self.put(name, 6, |w| _ = w.u32(60));
        self.put(name, 7, |w| _ = w.u32(0));
        self.put(name, 8, |w| _ = w.structure(3).u16(0).octet_string(&NEVER.0).u32(0));
        self.put(name, 9, |w| _ = w.array(0));
        self.put(name, 10, |w| _ = w.bool(false));
        self.put(name, 11, |w| {
            w.structure(2).structure(2).octet_string(&RELAY_SCRIPTS.0).u16(1);
            w.structure(2).octet_string(&RELAY_SCRIPTS.0).u16(2);
        });
    }

    /// The limit of the load, as it is set.
    pub(super) fn load_limit(&self) -> Limit {
        let number = |attribute| self.number(control::LOAD_LIMIT, attribute).unwrap_or(0);
        let actions = self.value(control::LOAD_LIMIT, 11).and_then(|actions| Data::new(actions).ok());
        Limit::of(number(3), number(6), number(7), actions.map(|actions| actions.value()))
    }

    /// One season, one week, one day, one zone: the first holds all energy.
    fn calendar(&mut self) {
        let name = time::ACTIVITY_CALENDAR;
        for offset in [0, 4] {
            self.put(name, 2 + offset, |w| _ = w.octet_string(b"ALL"));
            self.put(name, 3 + offset, |w| {
                w.array(1).structure(3).octet_string(b"1").octet_string(&NEVER.0).octet_string(b"1");
            });
            self.put(name, 4 + offset, |w| {
                w.array(1).structure(8).octet_string(b"1");
                (0..7).for_each(|_| _ = w.u8(1));
            });
            self.put(name, 5 + offset, |w| {
                w.array(1).structure(2).u8(1).array(1);
                w.structure(3).octet_string(&[0; 4]).octet_string(&TARIFF_SCRIPTS.0).u16(1);
            });
        }
        self.put(name, 10, |w| _ = w.octet_string(&NEVER.0));
    }

    fn push_setup(&mut self, layout: &profiles::PushLayout) {
        let name = LogicalName(layout.setup.0);
        self.put(name, 2, |w| {
            w.array(layout.columns.len() + 3);
            let heads = [(1, identity::DEVICE_ID, 2), (40, name, 1), (8, time::CLOCK, 2)];
            let columns = layout.columns.iter().map(|c| (c.class, LogicalName(c.obis.0), c.attribute as i8));
            for (class, name, attribute) in heads.into_iter().chain(columns) {
                w.structure(4).u16(class).octet_string(&name.0).i8(attribute).u16(0);
            }
        });
        self.put(name, 3, |w| _ = w.structure(3).enum_(0).octet_string(b"").enum_(0));
        self.put(name, 4, |w| _ = w.array(0));
        self.put(name, 5, |w| _ = w.u16(USUAL_DELAY_S));
        self.put(name, 6, |w| _ = w.u8(3));
        self.put(name, 7, |w| _ = w.u16(5));
    }

    /// What runs from now on.
    pub(super) fn firmware(&mut self, identifier: &[u8]) {
        self.put(identity::FIRMWARE_VERSION, 2, |w| _ = w.octet_string(identifier));
    }

    /// A number that was set, whatever its width.
    pub(super) fn number(&self, name: LogicalName, attribute: i8) -> Option<i64> {
        use codec::axdr::Value;
        match Data::new(self.value(name, attribute)?).ok()?.value() {
            Value::U8(number) => Some(i64::from(number)),
            Value::U16(number) => Some(i64::from(number)),
            Value::U32(number) => Some(i64::from(number)),
            Value::I32(number) => Some(i64::from(number)),
            _ => None,
        }
    }
}
