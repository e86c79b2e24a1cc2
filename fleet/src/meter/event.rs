//! Event logs: what was done to the meter, and what its supply did (dlms.md 6.7).

use codec::cosem::LogicalName;
use codec::cosem::india::{control, events::EventLog, prepaid, push, time};
use model::Instant;
use profiles::StatusBit;

use crate::supply::Supply;

/// Most rows of a log.
pub(super) const CAPACITY: usize = 50;

pub(super) const CLOCK_SET: u16 = 151;
pub(super) const NEW_FIRMWARE: u16 = 157;
pub(super) const KEYS_CHANGED: u16 = 164;
pub(super) const PASSWORD_CHANGED: u16 = 161;
pub(super) const SECRET_CHANGED: u16 = 162;
pub(super) const FIRMWARE_SECRET_CHANGED: u16 = 163;
pub(super) const DEMAND_RESET: u16 = 166;
pub(super) const LIMIT_ON: u16 = 159;
pub(super) const LIMIT_OFF: u16 = 160;
pub(super) const OVERLOAD: u16 = 215;
pub(super) const OVERLOAD_OVER: u16 = 216;
pub(super) const DISCONNECTED: u16 = 301;
pub(super) const CONNECTED: u16 = 302;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Instant,
    pub(super) code: u16,
}

/// What was done to a meter, by log; the supply's events are told by the history.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<(EventLog, Event)>);

impl Journal {
    pub(super) fn note(&mut self, log: EventLog, at: Instant, code: u16) {
        // One that writes without end finds its oldest entries gone.
        if self.0.len() >= 64 * CAPACITY {
            self.0.drain(..32 * CAPACITY);
        }
        self.0.push((log, Event { at, code }));
    }

    pub(super) fn of(&self, log: EventLog) -> Vec<Event> {
        self.0.iter().filter(|(of, _)| *of == log).map(|(_, event)| *event).collect()
    }
}

/// The log that an event stands in, by its code.
pub(super) fn log_of(code: u16) -> EventLog {
    match code {
        0..=50 => EventLog::Voltage,
        51..=100 => EventLog::Current,
        101..=150 => EventLog::Power,
        151..=200 | 211..=214 => EventLog::Transaction,
        201..=250 => EventLog::Others,
        251..=300 => EventLog::NonRollover,
        _ => EventLog::Control,
    }
}

/// What happened to a meter on one day whose event status word changed so, up to `now`, of that log.
pub(super) fn of_day(changes: &[(Instant, u8, bool)], log: EventLog, now: Instant) -> Vec<Event> {
    let event = |&(at, bit, up): &(Instant, u8, bool)| {
        let bit = StatusBit::of(bit)?;
        let code = if up { bit.occurred } else { bit.restored };
        code.map(|code| Event { at, code })
    };
    let is_wanted = |event: &Event| event.at <= now && log_of(event.code) == log;
    changes.iter().filter_map(event).filter(is_wanted).collect()
}

/// The cuts for a load above the limit, and the reconnections after them, up to `now`.
pub(super) fn of_overloads(supply: &Supply, now: Instant) -> impl Iterator<Item = Event> {
    let events = supply.overloads().into_iter().flat_map(|(from, until)| {
        let over = until.map(|at| Event { at, code: OVERLOAD_OVER });
        [Some(Event { at: from, code: OVERLOAD }), over].into_iter().flatten()
    });
    events.filter(move |event| event.at <= now)
}

/// What the relay did, up to `now`.
pub(super) fn of_relay(supply: &Supply, now: Instant) -> impl Iterator<Item = Event> {
    let code = |supplied| if supplied { CONNECTED } else { DISCONNECTED };
    let event = move |(at, supplied)| Event { at, code: code(supplied) };
    supply.switched().into_iter().map(event).filter(move |event| event.at <= now)
}

/// The code of a setting that was written, for the transaction log.
pub(super) fn of_write(name: LogicalName, value: Option<i64>) -> Option<u16> {
    let codes = [
        (time::DEMAND_INTEGRATION_PERIOD, 152),
        (time::BLOCK_CAPTURE_PERIOD, 153),
        (time::BILLING_SCHEDULE, 154),
        (time::ACTIVITY_CALENDAR, 155),
        (control::LOAD_LIMIT, 158),
        (push::EVENT_STATUS_FILTER, 165),
        (time::IMAGE_ACTIVATION_SCHEDULE, 169),
    ];
    match (name, value) {
        (prepaid::PAYMENT_MODE, Some(0)) => Some(211),
        (prepaid::PAYMENT_MODE, Some(_)) => Some(212),
        (prepaid::METERING_MODE, Some(0)) => Some(177),
        (prepaid::METERING_MODE, Some(_)) => Some(178),
        _ => codes.iter().find(|(of, _)| *of == name).map(|(_, code)| *code),
    }
}
