//! What each object reads, writes and does.

use ::model::{Calendar, CivilDay, Instant};
use codec::apdu::acse::{ApplicationContext, Mechanism};
use codec::apdu::initiate::Conformance;
use codec::apdu::{ActionResult, DataAccessResult, SelectiveAccess};
use codec::axdr::{Data, Value, Writer};
use codec::cosem::disconnect_control::{self, ControlMode, Transition};
use codec::cosem::india::{EVENT_STATUS_BITS, association, control, events::EventLog, profile, push, time};
use codec::cosem::{List, LogicalName, Wire, clock, image_transfer, single_action_schedule};
use codec::security::hls::Secret;
use codec::security::keys::KeyTransfer;
use codec::session::server::Caller;
use profiles::PushKind;

use super::model::{FIRMWARE, Object, PUSH, Right, Script, Thing, Which};
use super::tariff::{Tariff, ZONES};
use super::{Meter, event, instant_of};
use crate::plan::Measured;
use crate::program::Times;
use crate::{encode, plan};

/// Object identifiers of DLMS as they stand in association objects, without the last arc.
const CONTEXT: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x01];
const MECHANISM: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x02];
/// Most seconds that the clock is shifted by, a day.
const MAX_SHIFT_S: i64 = 86_400;
const QUARTER_S: i64 = 900;
/// Lengths of a password.
const PASSWORDS: std::ops::RangeInclusive<usize> = 8..=64;
/// Most calendars that are ever put in force.
const MAX_TARIFFS: usize = 256;
/// Days back in which a schedule may have been due unnoticed.
const SCHEDULE_DAYS: i32 = 40;

impl Meter {
    pub(super) fn read(
        &mut self,
        caller: &Caller,
        object: &Object,
        attribute: i8,
        selection: Option<&SelectiveAccess<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), DataAccessResult> {
        match object.thing {
            Thing::Buffer(which) if attribute == 2 => return self.write_buffer(which, selection, out),
            _ if selection.is_some() => return Err(DataAccessResult::ScopeOfAccessViolated),
            _ => {}
        }
        let writer = &mut Writer::new(out);
        match object.thing {
            Thing::Stored | Thing::PushSetup(_) => {
                let value = self.stored.value(object.name, attribute);
                out.extend_from_slice(value.ok_or(DataAccessResult::ObjectUndefined)?);
            }
            Thing::Counter(client) => {
                writer.u32(self.security.received(client).last().unwrap_or(0));
            }
            Thing::Clock => self.read_clock(attribute, writer),
            Thing::Column(kind, place) => match attribute {
                2 => out.extend_from_slice(&self.column(kind, place)?),
                3 => {
                    let (scaler, unit) = self.scaler(object.name);
                    writer.structure(2).i8(scaler).enum_(unit);
                }
                4 => _ = writer.u8(0),
                _ => _ = writer.octet_string(&self.encoder.date_time(self.clock()).0),
            },
            Thing::Buffer(which) => match attribute {
                3 => List::new(&self.columns(which)).write(writer),
                4 => _ = writer.u32(which.period_s(self.meter.period_s)),
                7 => {
                    let entries = self.entries(which)?;
                    writer.u32(entries);
                }
                8 => _ = writer.u32(which.capacity()),
                _ => sorting(attribute, writer),
            },
            Thing::Scalers(which) => {
                let scaled = self.scaled(which);
                match attribute {
                    2 => {
                        writer.array(1).structure(scaled.len());
                        for column in &scaled {
                            let (scaler, unit) = self.scaler(column.name);
                            writer.structure(2).i8(scaler).enum_(unit);
                        }
                    }
                    3 => List::new(&scaled).write(writer),
                    4 => _ = writer.u32(0),
                    7 | 8 => _ = writer.u32(1),
                    _ => sorting(attribute, writer),
                }
            }
            Thing::LatestCode(log) => {
                let events = self.events(log)?;
                Writer::new(out).u16(events.last().map_or(0, |event| event.code));
            }
            Thing::SequenceNumber(log) => {
                let events = self.events(log)?.len();
                Writer::new(out).u32(events as u32);
            }
            Thing::Relay => {
                let (state, mode) = self.meter.supply.stands();
                match attribute {
                    2 => _ = writer.bool(self.meter.supply.is_connected()),
                    3 => _ = writer.enum_(state.code()),
                    _ => _ = writer.enum_(mode.code()),
                }
            }
            Thing::Image => self.read_image(attribute, writer),
            Thing::SecuritySetup(client) => match attribute {
                2 => _ = writer.enum_(self.policy(client)),
                3 => _ = writer.enum_(0),
                4 => {
                    let title = caller.client_title.filter(|_| caller.client == client);
                    writer.octet_string(title.as_ref().map_or(&[], |title| &title[..]));
                }
                _ => _ = writer.octet_string(self.security.title()),
            },
            Thing::Association(of) => self.read_association(caller, of, attribute, writer)?,
            Thing::Scripts(about) => self.read_scripts(about, writer),
            Thing::Billing(place) => match attribute {
                2 => out.extend_from_slice(&self.billing_value(place)?),
                3 => {
                    let (scaler, unit) = self.scaler(object.name);
                    writer.structure(2).i8(scaler).enum_(unit);
                }
                4 => _ = writer.u8(0),
                _ => _ = writer.octet_string(&self.encoder.date_time(self.clock()).0),
            },
            Thing::BillingDate => {
                let closed = self.closes().last().map(|at| self.encoder.date_time(*at));
                writer.octet_string(&closed.map_or([0xff; 12], |closed| closed.0));
            }
            Thing::BillingPeriods => _ = writer.u32(self.closes().len() as u32),
            Thing::PushCounter => _ = writer.u32(self.meter.program.last_counter()),
            Thing::EventWord => {
                _ = writer.bit_string(codec::cosem::india::EVENT_STATUS_BITS, &self.event_word())
            }
        }
        Ok(())
    }

    fn read_clock(&self, attribute: i8, writer: &mut Writer<'_>) {
        let shown = self.encoder.date_time(self.clock());
        match attribute {
            2 => _ = writer.octet_string(&shown.0),
            3 => _ = writer.i16(shown.deviation_min().unwrap_or(330)),
            4 => _ = writer.u8(0),
            5 | 6 => _ = writer.octet_string(&[0xff; 12]),
            7 => _ = writer.i8(0),
            8 => _ = writer.bool(false),
            _ => _ = writer.enum_(1),
        }
    }

    fn read_image(&self, attribute: i8, writer: &mut Writer<'_>) {
        let image = &self.image;
        match attribute {
            2 => _ = writer.u32(image.block_size),
            3 => {
                let (bits, bytes) = image.bits();
                writer.bit_string(bits, &bytes);
            }
            4 => _ = writer.u32(image.first_missing()),
            5 => _ = writer.bool(image.enabled),
            6 => _ = writer.enum_(image.status().code()),
            _ if image.status() == image_transfer::TransferStatus::VerificationSuccessful => {
                let size = image.size();
                writer.array(1).structure(3).u32(size).octet_string(&image.identifier).octet_string(&[]);
            }
            _ => _ = writer.array(0),
        }
    }

    fn read_association(
        &self,
        caller: &Caller,
        of: Option<u16>,
        attribute: i8,
        writer: &mut Writer<'_>,
    ) -> Result<(), DataAccessResult> {
        let client = of.unwrap_or(caller.client);
        let is_own = client == caller.client;
        let known = association::ALL.iter().find(|one| u16::from(one.client_sap) == client);
        // That of the pushes is there without being opened, ciphered as they are.
        let (ciphers, mechanism, may) = match self.security.offer(client) {
            Some(offer) => (offer.ciphered, offer.mechanism, offer.conformance),
            None => (self.policy(client) != 0, Mechanism::Lowest, Conformance::DATA_NOTIFICATION),
        };
        match attribute {
            2 => self.object_list(client, writer),
            3 => _ = writer.structure(2).i8(client as i8).u16(association::SERVER_SAP),
            4 => {
                let ciphered = if is_own { caller.context.ciphered() } else { ciphers };
                let context = match ciphered {
                    true => ApplicationContext::LogicalNameCiphered,
                    false => ApplicationContext::LogicalName,
                };
                let [a, b, c, d, e, f] = CONTEXT;
                writer.octet_string(&[a, b, c, d, e, f, context.code()]);
            }
            5 => {
                let conformance = if is_own { caller.conformance } else { may };
                writer.structure(6).bit_string(24, &conformance.to_bytes());
                writer.u16(super::MAX_PDU).u16(caller.client_pdu).u8(6).i8(0).octet_string(&[]);
            }
            6 => {
                let [a, b, c, d, e, f] = MECHANISM;
                writer.octet_string(&[a, b, c, d, e, f, mechanism.code()]);
            }
            8 => _ = writer.enum_(if is_own || client == PUSH { 2 } else { 0 }),
            _ => {
                let setup = known.and_then(|one| one.security_setup).unwrap_or(LogicalName([0; 6]));
                writer.octet_string(&setup.0);
            }
        }
        Ok(())
    }

    fn object_list(&self, client: u16, writer: &mut Writer<'_>) {
        let seen: Vec<&Object> =
            self.objects.iter().filter(|object| object.allows(client, Right::Read)).collect();
        writer.array(seen.len());
        for object in seen {
            let (writes, acts) = (object.allows(client, Right::Write), object.allows(client, Right::Act));
            let written = object.writes.iter().filter(|attribute| !object.reads.contains(attribute));
            let all: Vec<i8> = [1].iter().chain(&object.reads).chain(written).copied().collect();
            writer.structure(4).u16(object.class.0).u8(object.version).octet_string(&object.name.0);
            writer.structure(2).array(all.len());
            for attribute in all {
                let is_read = attribute == 1 || object.reads.contains(&attribute);
                let is_written = writes && object.writes.contains(&attribute);
                let mode = u8::from(is_read) + 2 * u8::from(is_written);
                writer.structure(3).i8(attribute).enum_(mode).null();
            }
            writer.array(object.methods.len());
            for &method in &object.methods {
                writer.structure(2).i8(method).enum_(u8::from(acts));
            }
        }
    }

    /// How the word changes on a day.
    pub(super) fn changes(&self, measured: &Measured) -> Vec<(Instant, u8, bool)> {
        plan::changes(self.seed, &self.meter, &self.faults_of_fleet, &measured.used, true)
    }

    /// The word as it is now.
    fn event_word(&mut self) -> [u8; 16] {
        let today = self.history.day(self.calendar.day_of(self.now));
        let word = today.map(|today| plan::word_at(&self.changes(&today), self.now)).unwrap_or_default();
        encode::with_relay(word, !self.is_connected()).0
    }

    /// How APDUs of a client's association must be protected, as version 0 of the setup says it; of the pushes, how they
    /// are.
    fn policy(&self, client: u16) -> u8 {
        match (client, self.meter.security_control) {
            (PUSH, control) => control.map_or(0, |control| (control >> 4) & 3),
            _ => 3,
        }
    }

    /// Scripts that the meter can run: each calls one method.
    fn scripts(&self, about: Script) -> Vec<(u16, LogicalName, i8)> {
        match about {
            Script::DemandReset => vec![(7, profile::BILLING, 2)],
            Script::Tariff => Vec::new(),
            Script::Relay => vec![(70, control::RELAY, 1), (70, control::RELAY, 2)],
            Script::Image => vec![(18, control::IMAGE_TRANSFER, 4)],
            Script::Push => {
                let setups = self.objects.iter().filter(|object| matches!(object.thing, Thing::PushSetup(_)));
                let mut scripts: Vec<_> = setups.map(|setup| (setup.class.0, setup.name, 1)).collect();
                scripts.sort_unstable_by_key(|(_, name, _)| *name);
                scripts
            }
        }
    }

    fn read_scripts(&self, about: Script, writer: &mut Writer<'_>) {
        const EXECUTE: u8 = 2;
        if about == Script::Tariff {
            // Each zone has one, which needs no step: its registers count by it.
            writer.array(usize::from(ZONES));
            (1..=ZONES).for_each(|zone| _ = writer.structure(2).u16(zone.into()).array(0));
            return;
        }
        let scripts = self.scripts(about);
        writer.array(scripts.len());
        for (number, (class, name, method)) in (1..).zip(scripts) {
            writer.structure(2).u16(number).array(1).structure(5).enum_(EXECUTE);
            writer.u16(class).octet_string(&name.0).i8(method).i8(0);
        }
    }

    pub(super) fn write(
        &mut self,
        object: &Object,
        attribute: i8,
        value: Data<'_>,
    ) -> Result<(), DataAccessResult> {
        let wrong = DataAccessResult::TypeUnmatched;
        match object.thing {
            Thing::Clock => {
                let time = clock::time(value.value()).map_err(|_| wrong)?;
                let set = instant_of(&time, &self.calendar).ok_or(wrong)?;
                self.clock_offset_s += set.seconds() - self.clock().seconds();
                self.note(EventLog::Transaction, event::CLOCK_SET);
            }
            Thing::Relay => {
                let mode = disconnect_control::control_mode(value.value()).map_err(|_| wrong)?;
                if matches!(mode, ControlMode::Other(_)) {
                    return Err(wrong);
                }
                self.meter.supply.set_mode(mode, self.now);
                let off = mode == control::LOAD_LIMIT_OFF;
                self.note(EventLog::Transaction, if off { event::LIMIT_OFF } else { event::LIMIT_ON });
            }
            Thing::Image => {
                let Value::Bool(enabled) = value.value() else { return Err(wrong) };
                self.image.enabled = enabled;
            }
            Thing::Association(Some(client)) => {
                let Value::OctetString(password) = value.value() else { return Err(wrong) };
                let offer = self.security.offer_mut(client).ok_or(DataAccessResult::ObjectUnavailable)?;
                if !PASSWORDS.contains(&password.len()) {
                    return Err(wrong);
                }
                offer.secret = Secret::new(password.to_vec());
                self.note(EventLog::Transaction, event::PASSWORD_CHANGED);
            }
            Thing::Stored | Thing::PushSetup(_) => {
                let told = self.told(object, attribute, value)?;
                if !self.stored.set(object.name, attribute, value) {
                    return Err(wrong);
                }
                self.obey(told)?;
                if (object.name, attribute) == (control::LOAD_LIMIT, 4) {
                    // No emergency is in force: the threshold of normal times is.
                    self.stored.set(object.name, 3, value);
                }
                if object.name == control::LOAD_LIMIT {
                    self.meter.supply.set_limit(self.stored.load_limit(), self.now);
                }
                let number = self.stored.number(object.name, attribute);
                if let Some(code) = event::of_write(object.name, number) {
                    self.note(EventLog::Transaction, code);
                }
            }
            _ => return Err(DataAccessResult::ReadWriteDenied),
        }
        Ok(())
    }

    /// What a value that is about to be stored tells the meter to do.
    fn told(&self, object: &Object, attribute: i8, value: Data<'_>) -> Result<Told, DataAccessResult> {
        let wrong = DataAccessResult::TypeUnmatched;
        match (object.name, attribute) {
            (name, 4) if object.class == single_action_schedule::CLASS => {
                let times = Times::of(value.value()).ok_or(wrong)?;
                Ok(match name {
                    time::BILLING_SCHEDULE => Told::BillAt(times),
                    time::PUSH_SCHEDULE => Told::PushAt(times),
                    _ => Told::ActivateImageAt(times),
                })
            }
            (_, 5) if object.thing == Thing::PushSetup(PushKind::Instant) => match value.value() {
                Value::U16(most_s) => Ok(Told::DelayBy(most_s)),
                _ => Err(wrong),
            },
            (time::ACTIVITY_CALENDAR, 10) => {
                let at = clock::time(value.value()).map_err(|_| wrong)?;
                Ok(Told::ActivateCalendarAt(instant_of(&at, &self.calendar)))
            }
            (push::EVENT_STATUS_FILTER, _) => {
                let Value::BitString(bits) = value.value() else { return Err(wrong) };
                let bytes = bits.bytes().try_into().ok().filter(|_| bits.bits() == EVENT_STATUS_BITS);
                bytes.map(Told::Filter).ok_or(wrong)
            }
            _ => Ok(Told::Nothing),
        }
    }

    /// Does, or will do, what was told.
    fn obey(&mut self, told: Told) -> Result<(), DataAccessResult> {
        let (program, now) = (&self.meter.program, self.now);
        let told = match told {
            Told::BillAt(times) => program.bill_at(times, now),
            Told::PushAt(times) => program.push_at(times, now),
            Told::DelayBy(most_s) => program.delay_by(most_s, now),
            Told::Filter(bits) => program.filter(bits, now),
            Told::ActivateImageAt(times) => {
                self.image_times = times;
                Ok(())
            }
            Told::ActivateCalendarAt(at) => {
                self.calendar_at = at;
                Ok(())
            }
            Told::Nothing => Ok(()),
        };
        told.map_err(|_| DataAccessResult::OtherReason)
    }

    /// What is due by its own schedules between two moments is done.
    pub(super) fn scheduled(&mut self, before: Instant, until: Instant) {
        if let Some(at) = self.calendar_at.take_if(|at| *at <= until) {
            // One that makes no sense stays where it is.
            let _ = self.activate_calendar(at);
        }
        if self.image_times == Times::default() {
            return;
        }
        let first = self.calendar.day_of(before).0.max(self.calendar.day_of(until).0 - SCHEDULE_DAYS);
        let days = (first..=self.calendar.day_of(until).0).map(CivilDay);
        let due = days.flat_map(|day| self.image_times.on(day, &self.calendar));
        if due.into_iter().any(|at| before < at && at <= until) {
            // Without a verified image there is nothing to activate.
            let _ = self.activate_image();
        }
    }

    /// The calendar to come is in force from `at` on.
    fn activate_calendar(&mut self, at: Instant) -> Result<(), ActionResult> {
        let tariff = Tariff::to_come(&self.stored).ok_or(ActionResult::OtherReason)?;
        if self.tariffs.len() >= MAX_TARIFFS {
            return Err(ActionResult::OtherReason);
        }
        self.tariffs.push((at, tariff));
        for passive in 6..=9 {
            if let Some(value) = self.stored.value(time::ACTIVITY_CALENDAR, passive).map(<[u8]>::to_vec) {
                self.stored.put_encoded(time::ACTIVITY_CALENDAR, passive - 4, value);
            }
        }
        Ok(())
    }

    fn activate_image(&mut self) -> Result<(), ActionResult> {
        self.image.activate()?;
        let identifier = self.image.identifier.clone();
        self.stored.firmware(&identifier);
        self.note(EventLog::Transaction, event::NEW_FIRMWARE);
        Ok(())
    }

    /// Pushes at once what that setup pushes.
    fn push_now(&mut self, kind: PushKind) -> Result<(), ActionResult> {
        let today = self.calendar.day_of(self.now);
        let measured = self.history.day(today).ok_or(ActionResult::ObjectUnavailable)?;
        let is_there = match kind {
            PushKind::Interval => measured.used.end_of(0) <= self.now,
            PushKind::Daily => today > self.meter.from,
            PushKind::Instant | PushKind::Event => true,
        };
        if !is_there {
            return Err(ActionResult::TemporaryFailure);
        }
        self.meter.program.ask(kind, self.now).map_err(|_| ActionResult::OtherReason)
    }

    /// The billing cycle closes, and with it the demand begins anew.
    fn close_cycle(&mut self) -> Result<(), ActionResult> {
        self.meter.program.close(self.now).map_err(|_| ActionResult::OtherReason)?;
        self.note(EventLog::Transaction, event::DEMAND_RESET);
        Ok(())
    }

    pub(super) fn invoke(
        &mut self,
        caller: &Caller,
        object: &Object,
        method: i8,
        parameter: Option<Value<'_>>,
    ) -> Result<(), ActionResult> {
        let wrong = ActionResult::TypeUnmatched;
        match object.thing {
            Thing::Relay => {
                let transition = match method {
                    1 => Transition::RemoteDisconnect,
                    _ => Transition::RemoteReconnect,
                };
                self.meter.supply.switch(transition, self.now)
            }
            Thing::Image => self.invoke_image(method, parameter),
            Thing::SecuritySetup(client) if method == 1 => match parameter {
                // It may be strengthened and never weakened, and what is in force is all there is.
                Some(Value::Enum(policy)) if policy == self.policy(client) => Ok(()),
                Some(Value::Enum(_)) => Err(ActionResult::ReadWriteDenied),
                _ => Err(wrong),
            },
            Thing::SecuritySetup(_) => {
                let transfer = parameter.and_then(KeyTransfer::parse).ok_or(wrong)?;
                self.security.stage(&transfer).map_err(|_| ActionResult::OtherReason)?;
                self.note(EventLog::Transaction, event::KEYS_CHANGED);
                Ok(())
            }
            Thing::Association(of) if method == 2 => {
                let Some(Value::OctetString(secret)) = parameter else { return Err(wrong) };
                let client = of.unwrap_or(caller.client);
                let offer = self.security.offer_mut(client).ok_or(wrong)?;
                if !offer.mechanism.high_level() || secret.len() != 16 {
                    return Err(wrong);
                }
                offer.secret = Secret::new(secret.to_vec());
                let of_firmware = client == FIRMWARE;
                let code = if of_firmware { event::FIRMWARE_SECRET_CHANGED } else { event::SECRET_CHANGED };
                self.note(EventLog::Transaction, code);
                Ok(())
            }
            Thing::Clock => self.invoke_clock(method, parameter),
            Thing::Buffer(which) => match (which, method) {
                (Which::Block, 1) => {
                    self.cleared.0 = Some(self.now);
                    Ok(())
                }
                (Which::Daily, 1) => {
                    self.cleared.1 = Some(self.now);
                    Ok(())
                }
                (Which::Billing, 2) => self.close_cycle(),
                // Its only row is always that of now.
                _ => Ok(()),
            },
            Thing::PushSetup(kind) => self.push_now(kind),
            Thing::Stored if object.class.0 == 20 => self.activate_calendar(self.now),
            Thing::Scripts(about) => {
                let Some(Value::U16(number)) = parameter else { return Err(wrong) };
                self.run(about, number)
            }
            _ => Err(ActionResult::ObjectUndefined),
        }
    }

    /// Runs a script.
    fn run(&mut self, about: Script, number: u16) -> Result<(), ActionResult> {
        let place = usize::from(number).checked_sub(1).ok_or(ActionResult::ObjectUndefined)?;
        let (_, name, method) =
            self.scripts(about).get(place).copied().ok_or(ActionResult::ObjectUndefined)?;
        match about {
            Script::DemandReset => self.close_cycle(),
            Script::Image => self.activate_image(),
            Script::Relay if method == 1 => self.meter.supply.switch(Transition::RemoteDisconnect, self.now),
            Script::Relay => self.meter.supply.switch(Transition::RemoteReconnect, self.now),
            Script::Push => {
                let setup = self.objects.iter().find(|object| object.name == name);
                let Some(&Object { thing: Thing::PushSetup(kind), .. }) = setup else {
                    return Err(ActionResult::ObjectUndefined);
                };
                self.push_now(kind)
            }
            Script::Tariff => Err(ActionResult::ObjectUndefined),
        }
    }

    fn invoke_clock(&mut self, method: i8, parameter: Option<Value<'_>>) -> Result<(), ActionResult> {
        let wrong = ActionResult::TypeUnmatched;
        let shown = self.clock().seconds();
        let to_nearest = |period: i64| (shown + period / 2).div_euclid(period) * period - shown;
        let shift = match (method, parameter) {
            (1, _) => to_nearest(QUARTER_S),
            (2, _) => to_nearest(i64::from(self.meter.period_s.max(1))),
            (3, _) => to_nearest(60),
            (4, _) => {
                let preset = self.preset.take().ok_or(ActionResult::OtherReason)?;
                let is_valid = (preset.from.seconds()..=preset.to.seconds()).contains(&shown);
                if !is_valid {
                    return Err(ActionResult::OtherReason);
                }
                preset.time.seconds() - shown
            }
            (5, Some(preset)) => {
                self.preset = Some(Preset::of(preset, &self.calendar).ok_or(wrong)?);
                return Ok(());
            }
            (6, Some(Value::I16(seconds))) => i64::from(seconds),
            _ => return Err(wrong),
        };
        self.clock_offset_s += shift.clamp(-MAX_SHIFT_S, MAX_SHIFT_S);
        self.note(EventLog::Transaction, event::CLOCK_SET);
        Ok(())
    }

    fn invoke_image(&mut self, method: i8, parameter: Option<Value<'_>>) -> Result<(), ActionResult> {
        use image_transfer::{Call, Method};
        let method = Method::from_number(method).ok_or(ActionResult::ObjectUndefined)?;
        match image_transfer::call(method, parameter).map_err(|_| ActionResult::TypeUnmatched)? {
            Call::Initiate(image) => self.image.initiate(&image),
            Call::BlockTransfer(block) => self.image.block(&block),
            Call::Verify(_) => self.image.verify(),
            Call::Activate(_) => self.activate_image(),
        }
    }

    fn note(&mut self, log: EventLog, code: u16) {
        self.journal.note(log, self.now, code);
    }
}

/// What a value that was stored tells the meter to do.
enum Told {
    Nothing,
    BillAt(Times),
    PushAt(Times),
    DelayBy(u16),
    Filter([u8; 16]),
    ActivateImageAt(Times),
    ActivateCalendarAt(Option<Instant>),
}

/// A time that the clock is to be set to, and when that may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset {
    time: Instant,
    from: Instant,
    to: Instant,
}

impl Preset {
    /// As the method has it: the time, and from when to when the clock may show what it shows while it is set.
    fn of(value: Value<'_>, calendar: &Calendar) -> Option<Preset> {
        let Value::Structure(parts) = value else { return None };
        let mut parts = parts.iter().map(|part| instant_of(&clock::time(part).ok()?, calendar));
        let (time, from, to) = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(Preset { time, from, to })
    }
}

/// Sorted by nothing but the time at which rows came.
fn sorting(attribute: i8, writer: &mut Writer<'_>) {
    match attribute {
        5 => _ = writer.enum_(1),
        _ => _ = writer.structure(4).u16(0).octet_string(&[0; 6]).i8(0).u16(0),
    }
}
