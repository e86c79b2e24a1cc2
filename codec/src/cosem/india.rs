//! The objects of an Indian meter (IS 15959) by name. The numbers in brackets are sections of dlms.md, the project's
//! reference; what is marked there as unconfirmed is marked here.

use super::{ClassId, LogicalName};

/// Client addresses and what belongs to each association (6.1).
pub mod association {
    use super::{LogicalName, named};

    /// An association of the standard.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Association {
        /// Its short name.
        pub name: &'static str,
        /// Address of the client.
        pub client_sap: u8,
        /// Its object of class 15.
        pub object: LogicalName,
        /// Last arc of the application context; `None` where it is not known.
        pub context: Option<u8>,
        /// Last arc of the mechanism; `None` where it is not known.
        pub mechanism: Option<u8>,
        /// Its security setup; `None` where there is no security.
        pub security_setup: Option<LogicalName>,
        /// The invocation counter of its client (class 1), which the public client may read (4.4).
        pub invocation_counter: Option<LogicalName>,
    }

    /// Address of the meter's management logical device.
    pub const SERVER_SAP: u16 = 1;

    /// Public client: clock, invocation counters, identity; no security.
    pub const PUBLIC: Association = Association {
        name: "PC",
        client_sap: 16,
        object: named(0, 0, 40, 0, 1),
        context: Some(1),
        mechanism: Some(0),
        security_setup: None,
        invocation_counter: None,
    };

    /// Meter reader: reads, with a password, ciphered.
    pub const READER: Association = Association {
        name: "MR",
        client_sap: 32,
        object: named(0, 0, 40, 0, 2),
        context: Some(3),
        mechanism: Some(1),
        security_setup: Some(named(0, 0, 43, 0, 2)),
        invocation_counter: Some(named(0, 0, 43, 1, 2)),
    };

    /// Utility setting: reads, writes and commands; the head-end's own.
    pub const UTILITY: Association = Association {
        name: "US",
        client_sap: 48,
        object: named(0, 0, 40, 0, 3),
        context: Some(3),
        mechanism: Some(2),
        security_setup: Some(named(0, 0, 43, 0, 3)),
        invocation_counter: Some(named(0, 0, 43, 1, 3)),
    };

    /// Push: pre-established for what a meter sends by itself (unconfirmed).
    pub const PUSH: Association = Association {
        name: "Push",
        client_sap: 64,
        object: named(0, 0, 40, 0, 4),
        context: None,
        mechanism: None,
        security_setup: Some(named(0, 0, 43, 0, 4)),
        invocation_counter: Some(named(0, 0, 43, 1, 4)),
    };

    /// Firmware upgrade.
    pub const FIRMWARE: Association = Association {
        name: "FW",
        client_sap: 80,
        object: named(0, 0, 40, 0, 5),
        context: Some(3),
        mechanism: Some(2),
        security_setup: Some(named(0, 0, 43, 0, 5)),
        invocation_counter: Some(named(0, 0, 43, 1, 5)),
    };

    /// In-home display; rarely deployed, its address unconfirmed.
    pub const DISPLAY: Association = Association {
        name: "IHD",
        client_sap: 96,
        object: named(0, 0, 40, 0, 6),
        context: None,
        mechanism: None,
        security_setup: None,
        invocation_counter: Some(named(0, 0, 43, 1, 6)),
    };

    impl Association {
        /// That of a client address; of one that the standard does not have only the address is known.
        #[must_use]
        pub fn of_client(client_sap: u8) -> Association {
            let known = ALL.into_iter().find(|known| known.client_sap == client_sap);
            known.unwrap_or(Association {
                name: "other",
                client_sap,
                object: named(0, 0, 40, 0, 0),
                context: None,
                mechanism: None,
                security_setup: None,
                invocation_counter: None,
            })
        }
    }

    /// All of them, by address.
    pub const ALL: [Association; 6] = [PUBLIC, READER, UTILITY, PUSH, FIRMWARE, DISPLAY];
}

/// Identity and nameplate (6.2); class 1 but for the profile.
pub mod identity {
    use super::{LogicalName, named};

    /// The nameplate as a profile of one row (class 7).
    pub const NAMEPLATE_PROFILE: LogicalName = named(0, 0, 94, 91, 10);
    /// Logical device name (1.4).
    pub const LOGICAL_DEVICE_NAME: LogicalName = named(0, 0, 42, 0, 0);
    /// Serial number.
    pub const SERIAL_NUMBER: LogicalName = named(0, 0, 96, 1, 0);
    /// Name of the manufacturer.
    pub const MANUFACTURER: LogicalName = named(0, 0, 96, 1, 1);
    /// Device id: the maker's three letters and the serial number; first in every push.
    pub const DEVICE_ID: LogicalName = named(0, 0, 96, 1, 2);
    /// Year of manufacture.
    pub const YEAR_OF_MANUFACTURE: LogicalName = named(0, 0, 96, 1, 4);
    /// Version of the firmware.
    pub const FIRMWARE_VERSION: LogicalName = named(1, 0, 0, 2, 0);
    /// Type of meter; 6 is single-phase whole-current.
    pub const METER_TYPE: LogicalName = named(0, 0, 94, 91, 9);
    /// Category: D1, D2, …
    pub const CATEGORY: LogicalName = named(0, 0, 94, 91, 11);
    /// Current rating, as `10-60A`.
    pub const CURRENT_RATING: LogicalName = named(0, 0, 94, 91, 12);
    /// Ratio of the current transformers; transformer-operated meters only.
    pub const CT_RATIO: LogicalName = named(1, 0, 0, 4, 2);
    /// Ratio of the voltage transformers; transformer-operated meters only.
    pub const PT_RATIO: LogicalName = named(1, 0, 0, 4, 3);
}

/// Clock, periods and schedules (6.3, 6.8).
pub mod time {
    use super::{LogicalName, named};

    /// The clock (class 8).
    pub const CLOCK: LogicalName = named(0, 0, 1, 0, 0);
    /// Time of the block, third in the block push of one make (6.6).
    pub const BLOCK_CLOCK: LogicalName = named(0, 0, 1, 0, 1);
    /// Seconds over which demand is averaged (class 1); 900 or 1800. Read its type before writing.
    pub const DEMAND_INTEGRATION_PERIOD: LogicalName = named(1, 0, 0, 8, 0);
    /// Seconds of a block (class 1). Read its type before writing.
    pub const BLOCK_CAPTURE_PERIOD: LogicalName = named(1, 0, 0, 8, 4);
    /// Seconds of a daily capture (class 1); 86 400.
    pub const DAILY_CAPTURE_PERIOD: LogicalName = named(1, 0, 0, 8, 5);
    /// Billing dates (class 22).
    pub const BILLING_SCHEDULE: LogicalName = named(0, 0, 15, 0, 0);
    /// When an image is activated (class 22).
    pub const IMAGE_ACTIVATION_SCHEDULE: LogicalName = named(0, 0, 15, 0, 2);
    /// When it is pushed (class 22).
    pub const PUSH_SCHEDULE: LogicalName = named(0, 0, 15, 0, 4);
    /// Times of day of the tariff (class 20).
    pub const ACTIVITY_CALENDAR: LogicalName = named(0, 0, 13, 0, 0);
    /// Script that resets maximum demand (class 9).
    pub const DEMAND_RESET_SCRIPT: LogicalName = named(0, 0, 10, 0, 1);
    /// Script that pushes (class 9).
    pub const PUSH_SCRIPT: LogicalName = named(0, 0, 10, 0, 108);
}

/// Scaler profiles (6.4): class 7, one row, whose capture objects are attribute 3 of each column that has one.
/// Match them to the columns of the data by class and logical name.
pub mod scaler {
    use super::{LogicalName, named};

    /// Of [`profile::INSTANTANEOUS`](super::profile::INSTANTANEOUS).
    pub const INSTANTANEOUS: LogicalName = named(1, 0, 94, 91, 3);
    /// Of [`profile::BLOCK_LOAD`](super::profile::BLOCK_LOAD).
    pub const BLOCK_LOAD: LogicalName = named(1, 0, 94, 91, 4);
    /// Of [`profile::DAILY_LOAD`](super::profile::DAILY_LOAD).
    pub const DAILY_LOAD: LogicalName = named(1, 0, 94, 91, 5);
    /// Of [`profile::BILLING`](super::profile::BILLING).
    pub const BILLING: LogicalName = named(1, 0, 94, 91, 6);
    /// Of every event log.
    pub const EVENTS: LogicalName = named(1, 0, 94, 91, 7);
}

/// Profiles of values (6.5), class 7. Their columns are the meter's affair: read the capture objects.
pub mod profile {
    use super::{LogicalName, named};

    /// Everything as it is now, in one row.
    pub const INSTANTANEOUS: LogicalName = named(1, 0, 94, 91, 0);
    /// Energy and averages of each block.
    pub const BLOCK_LOAD: LogicalName = named(1, 0, 99, 1, 0);
    /// Registers at midnight.
    pub const DAILY_LOAD: LogicalName = named(1, 0, 99, 2, 0);
    /// Registers and maximum demands at each billing date, the running cycle last.
    pub const BILLING: LogicalName = named(1, 0, 98, 1, 0);
}

/// Columns of the profiles (6.5), class 3 where nothing else is said; class 4 for maximum demands.
pub mod register {
    use super::{LogicalName, named};

    /// Voltage now, V.
    pub const VOLTAGE: LogicalName = named(1, 0, 12, 7, 0);
    /// Voltage of phase R now, V.
    pub const VOLTAGE_R: LogicalName = named(1, 0, 32, 7, 0);
    /// Voltage of phase Y now, V.
    pub const VOLTAGE_Y: LogicalName = named(1, 0, 52, 7, 0);
    /// Voltage of phase B now, V.
    pub const VOLTAGE_B: LogicalName = named(1, 0, 72, 7, 0);
    /// Current of the phase now, A.
    pub const CURRENT_PHASE: LogicalName = named(1, 0, 11, 7, 0);
    /// Current of the neutral now, A.
    pub const CURRENT_NEUTRAL: LogicalName = named(1, 0, 91, 7, 0);
    /// Current of phase R now, A.
    pub const CURRENT_R: LogicalName = named(1, 0, 31, 7, 0);
    /// Current of phase Y now, A.
    pub const CURRENT_Y: LogicalName = named(1, 0, 51, 7, 0);
    /// Current of phase B now, A.
    pub const CURRENT_B: LogicalName = named(1, 0, 71, 7, 0);
    /// Current as event logs capture it, A (6.7).
    pub const CURRENT_OF_EVENT: LogicalName = named(1, 0, 94, 91, 14);
    /// Power factor now, signed.
    pub const POWER_FACTOR: LogicalName = named(1, 0, 13, 7, 0);
    /// Power factor of phase R now.
    pub const POWER_FACTOR_R: LogicalName = named(1, 0, 33, 7, 0);
    /// Power factor of phase Y now.
    pub const POWER_FACTOR_Y: LogicalName = named(1, 0, 53, 7, 0);
    /// Power factor of phase B now.
    pub const POWER_FACTOR_B: LogicalName = named(1, 0, 73, 7, 0);
    /// Average power factor of the billing cycle.
    pub const POWER_FACTOR_AVERAGE: LogicalName = named(1, 0, 13, 0, 0);
    /// Frequency now, Hz.
    pub const FREQUENCY: LogicalName = named(1, 0, 14, 7, 0);
    /// Active power now, W.
    pub const ACTIVE_POWER: LogicalName = named(1, 0, 1, 7, 0);
    /// Reactive power now, var, signed.
    pub const REACTIVE_POWER: LogicalName = named(1, 0, 3, 7, 0);
    /// Apparent power now, VA.
    pub const APPARENT_POWER: LogicalName = named(1, 0, 9, 7, 0);
    /// Energy imported, Wh; E 1 to 8 are the tariff zones.
    pub const ENERGY_IMPORT: LogicalName = named(1, 0, 1, 8, 0);
    /// Energy exported, Wh.
    pub const ENERGY_EXPORT: LogicalName = named(1, 0, 2, 8, 0);
    /// Apparent energy imported, VAh; E 1 to 8 are the tariff zones.
    pub const APPARENT_ENERGY_IMPORT: LogicalName = named(1, 0, 9, 8, 0);
    /// Apparent energy exported, VAh.
    pub const APPARENT_ENERGY_EXPORT: LogicalName = named(1, 0, 10, 8, 0);
    /// Reactive energy of quadrant 1, varh.
    pub const REACTIVE_ENERGY_Q1: LogicalName = named(1, 0, 5, 8, 0);
    /// Reactive energy of quadrant 2, varh.
    pub const REACTIVE_ENERGY_Q2: LogicalName = named(1, 0, 6, 8, 0);
    /// Reactive energy of quadrant 3, varh.
    pub const REACTIVE_ENERGY_Q3: LogicalName = named(1, 0, 7, 8, 0);
    /// Reactive energy of quadrant 4, varh.
    pub const REACTIVE_ENERGY_Q4: LogicalName = named(1, 0, 8, 8, 0);
    /// Maximum demand of import, W; attribute 5 is its time.
    pub const DEMAND_IMPORT: LogicalName = named(1, 0, 1, 6, 0);
    /// Maximum apparent demand of import, VA; attribute 5 is its time.
    pub const APPARENT_DEMAND_IMPORT: LogicalName = named(1, 0, 9, 6, 0);
    /// Maximum demand of export, W; attribute 5 is its time.
    pub const DEMAND_EXPORT: LogicalName = named(1, 0, 2, 6, 0);
    /// Maximum apparent demand of export, VA; attribute 5 is its time.
    pub const APPARENT_DEMAND_EXPORT: LogicalName = named(1, 0, 10, 6, 0);
    /// Average voltage of the block, V.
    pub const BLOCK_VOLTAGE: LogicalName = named(1, 0, 12, 27, 0);
    /// Average voltage of phase R in the block, V.
    pub const BLOCK_VOLTAGE_R: LogicalName = named(1, 0, 32, 27, 0);
    /// Average voltage of phase Y in the block, V.
    pub const BLOCK_VOLTAGE_Y: LogicalName = named(1, 0, 52, 27, 0);
    /// Average voltage of phase B in the block, V.
    pub const BLOCK_VOLTAGE_B: LogicalName = named(1, 0, 72, 27, 0);
    /// Average current of the block, A.
    pub const BLOCK_CURRENT: LogicalName = named(1, 0, 11, 27, 0);
    /// Average current of the neutral in the block, A.
    pub const BLOCK_CURRENT_NEUTRAL: LogicalName = named(1, 0, 91, 27, 0);
    /// Average current of phase R in the block, A.
    pub const BLOCK_CURRENT_R: LogicalName = named(1, 0, 31, 27, 0);
    /// Average current of phase Y in the block, A.
    pub const BLOCK_CURRENT_Y: LogicalName = named(1, 0, 51, 27, 0);
    /// Average current of phase B in the block, A.
    pub const BLOCK_CURRENT_B: LogicalName = named(1, 0, 71, 27, 0);
    /// Average power factor of the block; some makes.
    pub const BLOCK_POWER_FACTOR: LogicalName = named(1, 0, 13, 27, 0);
    /// Energy imported within the block, Wh.
    pub const BLOCK_ENERGY_IMPORT: LogicalName = named(1, 0, 1, 29, 0);
    /// Energy exported within the block, Wh.
    pub const BLOCK_ENERGY_EXPORT: LogicalName = named(1, 0, 2, 29, 0);
    /// Apparent energy imported within the block, VAh.
    pub const BLOCK_APPARENT_ENERGY_IMPORT: LogicalName = named(1, 0, 9, 29, 0);
    /// Apparent energy exported within the block, VAh.
    pub const BLOCK_APPARENT_ENERGY_EXPORT: LogicalName = named(1, 0, 10, 29, 0);
    /// Reactive energy of quadrant 1 within the block, varh.
    pub const BLOCK_REACTIVE_ENERGY_Q1: LogicalName = named(1, 0, 5, 29, 0);
    /// Reactive energy of quadrant 2 within the block, varh.
    pub const BLOCK_REACTIVE_ENERGY_Q2: LogicalName = named(1, 0, 6, 29, 0);
    /// Reactive energy of quadrant 3 within the block, varh.
    pub const BLOCK_REACTIVE_ENERGY_Q3: LogicalName = named(1, 0, 7, 29, 0);
    /// Reactive energy of quadrant 4 within the block, varh.
    pub const BLOCK_REACTIVE_ENERGY_Q4: LogicalName = named(1, 0, 8, 29, 0);
}

/// Counters and states among the columns (6.5), class 1 where nothing else is said.
pub mod status {
    use super::{LogicalName, named};

    /// Minutes with power, in all.
    pub const POWER_ON_DURATION: LogicalName = named(0, 0, 94, 91, 14);
    /// Minutes with power within the billing cycle.
    pub const BILLING_POWER_ON_DURATION: LogicalName = named(0, 0, 94, 91, 13);
    /// Minutes without power.
    pub const POWER_FAIL_DURATION: LogicalName = named(0, 0, 94, 91, 8);
    /// Power failures.
    pub const POWER_FAIL_COUNT: LogicalName = named(0, 0, 96, 7, 0);
    /// Tampers.
    pub const TAMPER_COUNT: LogicalName = named(0, 0, 94, 91, 0);
    /// Billing cycles closed.
    pub const BILLING_COUNT: LogicalName = named(0, 0, 0, 1, 0);
    /// Billing cycles stored.
    pub const BILLING_PERIODS_AVAILABLE: LogicalName = named(0, 0, 0, 1, 1);
    /// When the last billing cycle closed.
    pub const BILLING_DATE: LogicalName = named(0, 0, 0, 1, 2);
    /// Times that the meter was set.
    pub const PROGRAMMING_COUNT: LogicalName = named(0, 0, 96, 2, 0);
    /// Health of the meter.
    pub const METER_HEALTH: LogicalName = named(0, 0, 96, 10, 1);
    /// Strength of the radio signal; some makes.
    pub const SIGNAL_STRENGTH: LogicalName = named(0, 1, 96, 12, 5);
}

/// Push setups (6.6), class 40, and what is pushed of alarms. The standard has the first two; makers added the others.
pub mod push {
    use super::{LogicalName, named};

    /// Periodic push of the instantaneous values.
    pub const INSTANTANEOUS: LogicalName = named(0, 0, 25, 9, 0);
    /// Push of the event status word when it changes.
    pub const ALERT: LogicalName = named(0, 4, 25, 9, 0);
    /// Push of blocks.
    pub const BLOCK_LOAD: LogicalName = named(0, 5, 25, 9, 0);
    /// Push of daily registers.
    pub const DAILY_LOAD: LogicalName = named(0, 6, 25, 9, 0);
    /// Push of power events of one make.
    pub const POWER_EVENTS: LogicalName = named(0, 10, 25, 9, 0);
    /// Push of the billing profile by a network card.
    pub const BILLING: LogicalName = named(0, 103, 25, 9, 0);
    /// Push of the nameplate by a network card.
    pub const NAMEPLATE: LogicalName = named(0, 104, 25, 9, 0);
    /// Push of the status of a network card.
    pub const CARD_STATUS: LogicalName = named(0, 105, 25, 9, 0);
    /// Event status word (class 1): 128 bits, each a state.
    pub const EVENT_STATUS_WORD: LogicalName = named(0, 0, 94, 91, 18);
    /// Filter of the event status word (class 1): the bits whose change is pushed.
    pub const EVENT_STATUS_FILTER: LogicalName = named(0, 0, 94, 91, 26);
}

/// Event logs (6.7), class 7.
pub mod events {
    use super::{LogicalName, named};

    /// The kinds of events; each has a log, a latest code and a sequence number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum EventLog {
        /// Voltage.
        Voltage = 0,
        /// Current.
        Current = 1,
        /// Power failure and return.
        Power = 2,
        /// Settings.
        Transaction = 3,
        /// Magnet, neutral disturbance and others.
        Others = 4,
        /// What never rolls over: cover open.
        NonRollover = 5,
        /// The relay.
        Control = 6,
    }

    impl EventLog {
        /// All of them, by number.
        pub const ALL: [Self; 7] = [
            Self::Voltage,
            Self::Current,
            Self::Power,
            Self::Transaction,
            Self::Others,
            Self::NonRollover,
            Self::Control,
        ];

        /// The log (class 7).
        #[must_use]
        pub const fn log(self) -> LogicalName {
            named(0, 0, 99, 98, self as u8)
        }

        /// The latest code (class 1), also the code column of the log.
        #[must_use]
        pub const fn latest_code(self) -> LogicalName {
            named(0, 0, 96, 11, self as u8)
        }

        /// The sequence number (class 1), by which the log can be read from where one was.
        #[must_use]
        pub const fn sequence_number(self) -> LogicalName {
            named(0, 0, 96, 15, self as u8)
        }
    }
}

/// Relay and load limit (6.8).
pub mod control {
    use super::{LogicalName, named};
    use crate::cosem::disconnect_control::ControlMode;

    /// The relay (class 70).
    pub const RELAY: LogicalName = named(0, 0, 96, 3, 10);
    /// The load limit (class 71); attribute 4 is written, attribute 3 read.
    pub const LOAD_LIMIT: LogicalName = named(0, 0, 17, 0, 0);
    /// Image transfer (class 18). Its name is that of the Blue Book: unconfirmed for India.
    pub const IMAGE_TRANSFER: LogicalName = named(0, 0, 44, 0, 0);
    /// The control mode that switches the function of the load limit on.
    pub const LOAD_LIMIT_ON: ControlMode = ControlMode::Mode4;
    /// The control mode that switches the function of the load limit off.
    pub const LOAD_LIMIT_OFF: ControlMode = ControlMode::None;
}

/// Prepaid objects (6.8), class 1. The meter shows them and computes nothing; unit and scale of the amounts are unconfirmed.
pub mod prepaid {
    use super::{LogicalName, named};

    /// 0 forwarded only, 1 import and export.
    pub const METERING_MODE: LogicalName = named(0, 0, 94, 96, 19);
    /// 0 postpaid, 1 prepaid.
    pub const PAYMENT_MODE: LogicalName = named(0, 0, 94, 96, 20);
    /// Amount of the last recharge.
    pub const LAST_RECHARGE_AMOUNT: LogicalName = named(0, 0, 94, 96, 21);
    /// Time of the last recharge.
    pub const LAST_RECHARGE_TIME: LogicalName = named(0, 0, 94, 96, 22);
    /// Amount in all at the last recharge.
    pub const TOTAL_AT_LAST_RECHARGE: LogicalName = named(0, 0, 94, 96, 23);
    /// Balance; may be negative.
    pub const BALANCE_AMOUNT: LogicalName = named(0, 0, 94, 96, 24);
    /// Time of the balance.
    pub const BALANCE_TIME: LogicalName = named(0, 0, 94, 96, 25);
}

/// Bits of the event status word and of its filter (6.6).
pub const EVENT_STATUS_BITS: usize = 128;

/// The class of a column of the profiles, by its name: maximum demands are extended registers, the relay, the load
/// limit and the clock are of their own class, what else is of medium 0 or without a quantity is data, the rest are
/// registers. For a simulated meter; a real one says its classes in its capture objects.
#[must_use]
pub const fn class_of_column(name: LogicalName) -> ClassId {
    let LogicalName([medium, _, quantity, process, tariff, _]) = name;
    match (medium, quantity, process, tariff) {
        (0, 1, 0, _) => super::clock::CLASS,
        (0, 96, 3, 10) => super::disconnect_control::CLASS,
        (0, 17, 0, 0) => super::limiter::CLASS,
        (0, ..) | (_, 0, ..) => super::data::CLASS,
        (_, _, 6, _) => super::extended_register::CLASS,
        _ => super::register::CLASS,
    }
}

const fn named(a: u8, b: u8, c: u8, d: u8, e: u8) -> LogicalName {
    LogicalName([a, b, c, d, e, 255])
}
