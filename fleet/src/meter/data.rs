//! What each object reads, writes and does.

use codec::apdu::acse::ApplicationContext;
use codec::apdu::{ActionResult, DataAccessResult, SelectiveAccess};
use codec::axdr::{Data, Value, Writer};
use codec::cosem::disconnect_control::{self, ControlMode, Transition};
use codec::cosem::india::{association, control, events::EventLog};
use codec::cosem::{List, LogicalName, Wire, clock, image_transfer};
use codec::security::hls::Secret;
use codec::security::keys::KeyTransfer;
use codec::session::server::Caller;

use super::model::{Object, Right, Thing};
use super::{Meter, event, instant_of};

/// Object identifiers of DLMS as they stand in association objects, without the last arc.
const CONTEXT: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x01];
const MECHANISM: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x02];
/// Most seconds that the clock is shifted by, a day.
const MAX_SHIFT_S: i64 = 86_400;

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
            Thing::Stored => {
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
                2 => _ = writer.enum_(3),
                3 => _ = writer.enum_(0),
                4 => {
                    let title = caller.client_title.filter(|_| caller.client == client);
                    writer.octet_string(title.as_ref().map_or(&[], |title| &title[..]));
                }
                _ => _ = writer.octet_string(self.security.title()),
            },
            Thing::Association(of) => self.read_association(caller, of, attribute, writer)?,
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
        let offer = self.security.offer(client).ok_or(DataAccessResult::ObjectUndefined)?;
        let is_own = client == caller.client;
        match attribute {
            2 => self.object_list(client, writer),
            3 => _ = writer.structure(2).i8(client as i8).u16(association::SERVER_SAP),
            4 => {
                let ciphered = if is_own { caller.context.ciphered() } else { offer.ciphered };
                let context = match ciphered {
                    true => ApplicationContext::LogicalNameCiphered,
                    false => ApplicationContext::LogicalName,
                };
                let [a, b, c, d, e, f] = CONTEXT;
                writer.octet_string(&[a, b, c, d, e, f, context.code()]);
            }
            5 => {
                let conformance = if is_own { caller.conformance } else { offer.conformance };
                writer.structure(6).bit_string(24, &conformance.to_bytes());
                writer.u16(super::MAX_PDU).u16(caller.client_pdu).u8(6).i8(0).octet_string(&[]);
            }
            6 => {
                let [a, b, c, d, e, f] = MECHANISM;
                writer.octet_string(&[a, b, c, d, e, f, offer.mechanism.code()]);
            }
            8 => _ = writer.enum_(if is_own { 2 } else { 0 }),
            _ => {
                let known = association::ALL.iter().find(|one| u16::from(one.client_sap) == client);
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
            writer.structure(4).u16(object.class.0).u8(object.version).octet_string(&object.name.0);
            writer.structure(2).array(object.reads.len() + 1);
            for &attribute in [1].iter().chain(&object.reads) {
                let mode = if writes && object.writes.contains(&attribute) { 3 } else { 1 };
                writer.structure(3).i8(attribute).enum_(mode).null();
            }
            writer.array(object.methods.len());
            for &method in &object.methods {
                writer.structure(2).i8(method).enum_(u8::from(acts));
            }
        }
    }

    /// The word as it is now: what the supply and the relay say.
    fn event_word(&mut self) -> [u8; 16] {
        const LOW_VOLTAGE: usize = 4;
        const LOAD_SWITCH: usize = 84;
        let mut word = [0_u8; 16];
        let mut raise = |bit: usize| word[bit / 8] |= 0x80 >> (bit % 8);
        let today = self.history.day(self.calendar.day_of(self.now));
        let low = |day: &std::sync::Arc<crate::Measured>| {
            day.used.sags.iter().any(|(from, to)| *from <= self.now && self.now < *to)
        };
        if today.as_ref().is_some_and(low) {
            raise(LOW_VOLTAGE);
        }
        if !self.meter.supply.is_connected() {
            raise(LOAD_SWITCH);
        }
        word
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
            Thing::Stored => {
                if !self.stored.set(object.name, attribute, value) {
                    return Err(wrong);
                }
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
            Thing::SecuritySetup(_) => {
                let transfer = parameter.and_then(KeyTransfer::parse).ok_or(wrong)?;
                self.security.stage(&transfer).map_err(|_| ActionResult::OtherReason)?;
                self.note(EventLog::Transaction, event::KEYS_CHANGED);
                Ok(())
            }
            Thing::Association(None) if method == 2 => {
                let Some(Value::OctetString(secret)) = parameter else { return Err(wrong) };
                let offer = self.security.offer_mut(caller.client).ok_or(wrong)?;
                if !offer.mechanism.high_level() || secret.len() != 16 {
                    return Err(wrong);
                }
                offer.secret = Secret::new(secret.to_vec());
                self.note(EventLog::Transaction, event::SECRET_CHANGED);
                Ok(())
            }
            Thing::Clock => {
                let shown = self.clock().seconds();
                let shift = match (method, parameter) {
                    (6, Some(Value::I16(seconds))) => i64::from(seconds),
                    (6, _) => return Err(wrong),
                    (1, _) => (shown + 450).div_euclid(900) * 900 - shown,
                    _ => (shown + 30).div_euclid(60) * 60 - shown,
                };
                self.clock_offset_s += shift.clamp(-MAX_SHIFT_S, MAX_SHIFT_S);
                self.note(EventLog::Transaction, event::CLOCK_SET);
                Ok(())
            }
            Thing::Stored if object.class.0 == 20 => {
                for passive in 6..=9 {
                    if let Some(value) = self.stored.value(object.name, passive).map(<[u8]>::to_vec) {
                        self.stored.put_encoded(object.name, passive - 4, value);
                    }
                }
                Ok(())
            }
            Thing::Stored if object.class.0 == 9 => {
                self.note(EventLog::Transaction, event::DEMAND_RESET);
                Ok(())
            }
            _ => Err(ActionResult::ObjectUndefined),
        }
    }

    fn invoke_image(&mut self, method: i8, parameter: Option<Value<'_>>) -> Result<(), ActionResult> {
        use image_transfer::{Call, Method};
        let method = Method::from_number(method).ok_or(ActionResult::ObjectUndefined)?;
        match image_transfer::call(method, parameter).map_err(|_| ActionResult::TypeUnmatched)? {
            Call::Initiate(image) => self.image.initiate(&image),
            Call::BlockTransfer(block) => self.image.block(&block),
            Call::Verify(_) => self.image.verify(),
            Call::Activate(_) => {
                self.image.activate()?;
                let identifier = self.image.identifier.clone();
                self.stored.firmware(&identifier);
                self.note(EventLog::Transaction, event::NEW_FIRMWARE);
                Ok(())
            }
        }
    }

    fn note(&mut self, log: EventLog, code: u16) {
        self.journal.note(log, self.now, code);
    }
}

/// Sorted by nothing but the time at which rows came.
fn sorting(attribute: i8, writer: &mut Writer<'_>) {
    match attribute {
        5 => _ = writer.enum_(1),
        _ => _ = writer.structure(4).u16(0).octet_string(&[0; 6]).i8(0).u16(0),
    }
}
