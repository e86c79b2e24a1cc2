//! What `urja read` and `urja relay` ask of a meter, by name, and what it says in JSON.

mod rows;

use codec::apdu::{AttributeDescriptor, SelectedAttribute};
use codec::axdr::{DateTime, Value};
use codec::cosem::india::events::EventLog;
use codec::cosem::india::{control, identity, prepaid, profile, push, register, scaler, time};
use codec::cosem::register::Unit;
use codec::cosem::{ClassId, LogicalName};
use codec::session::client::{Effect, Error};
use ingest::{Client, MeterSession, RelayMove, RelayState, SessionError};
use profiles::{Event, StatusBit};
use registry::{MeterAccess, Reader};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::node::Node;
use crate::problem::Problem;
use rows::Wanted;

const CLOCK_CLASS: u16 = 8;
const REGISTER_CLASS: u16 = 3;
const EXTENDED_CLASS: u16 = 4;
const PROFILE_CLASS: u16 = 7;
const RELAY_CLASS: u16 = 70;

/// Objects by name: class, logical name, attribute.
const OBJECTS: [(&str, u16, LogicalName, i8); 22] = [
    ("clock", CLOCK_CLASS, time::CLOCK, 2),
    ("serial", 1, identity::SERIAL_NUMBER, 2),
    ("device-id", 1, identity::DEVICE_ID, 2),
    ("device-name", 1, identity::LOGICAL_DEVICE_NAME, 2),
    ("firmware", 1, identity::FIRMWARE_VERSION, 2),
    ("import-wh", REGISTER_CLASS, register::ENERGY_IMPORT, 2),
    ("export-wh", REGISTER_CLASS, register::ENERGY_EXPORT, 2),
    ("import-vah", REGISTER_CLASS, register::APPARENT_ENERGY_IMPORT, 2),
    ("export-vah", REGISTER_CLASS, register::APPARENT_ENERGY_EXPORT, 2),
    ("voltage", REGISTER_CLASS, register::VOLTAGE, 2),
    ("current", REGISTER_CLASS, register::CURRENT_PHASE, 2),
    ("power", REGISTER_CLASS, register::ACTIVE_POWER, 2),
    ("frequency", REGISTER_CLASS, register::FREQUENCY, 2),
    ("demand", EXTENDED_CLASS, register::DEMAND_IMPORT, 2),
    ("relay", RELAY_CLASS, control::RELAY, 3),
    ("relay-mode", RELAY_CLASS, control::RELAY, 4),
    ("load-limit", 71, control::LOAD_LIMIT, 3),
    ("event-word", 1, push::EVENT_STATUS_WORD, 2),
    ("event-filter", 1, push::EVENT_STATUS_FILTER, 2),
    ("payment-mode", 1, prepaid::PAYMENT_MODE, 2),
    ("balance", 1, prepaid::BALANCE_AMOUNT, 2),
    ("balance-time", 1, prepaid::BALANCE_TIME, 2),
];

/// Profiles by name, each with the profile of its scalers where it has one.
const PROFILES: [(&str, LogicalName, Option<LogicalName>); 12] = [
    ("block", profile::BLOCK_LOAD, Some(scaler::BLOCK_LOAD)),
    ("daily", profile::DAILY_LOAD, Some(scaler::DAILY_LOAD)),
    ("instant", profile::INSTANTANEOUS, Some(scaler::INSTANTANEOUS)),
    ("billing", profile::BILLING, Some(scaler::BILLING)),
    ("nameplate", identity::NAMEPLATE_PROFILE, None),
    ("events-voltage", EventLog::Voltage.log(), Some(scaler::EVENTS)),
    ("events-current", EventLog::Current.log(), Some(scaler::EVENTS)),
    ("events-power", EventLog::Power.log(), None),
    ("events-transaction", EventLog::Transaction.log(), None),
    ("events-others", EventLog::Others.log(), Some(scaler::EVENTS)),
    ("events-nonrollover", EventLog::NonRollover.log(), None),
    ("events-control", EventLog::Control.log(), None),
];

/// What to read.
enum Target {
    Object(u16, LogicalName, i8),
    Profile(LogicalName, Option<LogicalName>),
}

impl Target {
    /// A name of an object or profile, or `CLASS:A.B.C.D.E.F:ATTRIBUTE`.
    fn parse(text: &str) -> Option<Target> {
        if let Some((_, class, name, attribute)) = OBJECTS.into_iter().find(|(known, ..)| *known == text) {
            return Some(Target::Object(class, name, attribute));
        }
        if let Some((_, name, scalers)) = PROFILES.into_iter().find(|(known, ..)| *known == text) {
            return Some(Target::Profile(name, scalers));
        }
        let mut parts = text.split(':');
        let (class, name) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let attribute = parts.next().map_or(Some(2), |attribute| attribute.parse().ok())?;
        parts.next().is_none().then(|| match (class, attribute) {
            (PROFILE_CLASS, 2) => {
                let known = PROFILES.into_iter().find(|(_, known, _)| *known == name);
                Target::Profile(name, known.and_then(|(.., scalers)| scalers))
            }
            _ => Target::Object(class, name, attribute),
        })
    }

    fn unknown(text: &str) -> Problem {
        let names = OBJECTS.iter().map(|(name, ..)| *name).chain(PROFILES.iter().map(|(name, ..)| *name));
        Problem::missing(
            "no such object",
            format!(
                "{text:?} is neither CLASS:A.B.C.D.E.F:ATTRIBUTE nor one of {}",
                names.collect::<Vec<_>>().join(", ")
            ),
        )
    }
}

/// Body of `/admin/read`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    meter: String,
    what: String,
    from: Option<String>,
    to: Option<String>,
    last: Option<u32>,
    entries: Option<String>,
    address: Option<String>,
    client: Option<u8>,
}

/// Body of `/admin/relay`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRequest {
    meter: String,
    command: RelayCommand,
    address: Option<String>,
    client: Option<u8>,
}

/// What is done with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RelayCommand {
    Connect,
    Disconnect,
    Status,
}

/// Reads an object or a profile.
///
/// # Errors
/// With what the meter, the line or the registry says.
pub async fn read(node: &Node, request: ReadRequest) -> Result<Json, Problem> {
    let target = Target::parse(&request.what).ok_or_else(|| Target::unknown(&request.what))?;
    let wanted = Wanted::of(&request)?;
    if matches!(target, Target::Object(..)) && wanted != Wanted::All {
        return Err(Problem::refused("no profile", format!("{:?} has no rows to choose from", request.what)));
    }
    let meter = registered(node, &request.meter).await?;
    let mut session = to_read(node, &meter, request.client, request.address.as_deref()).await?;
    let instead = session.instead().map(ToString::to_string);
    let read = match target {
        Target::Object(class, name, attribute) => {
            object(&mut session, class, name, attribute).await.map_err(problem)
        }
        Target::Profile(name, scalers) => rows::read(&mut session, name, scalers, &wanted).await,
    };
    session.close().await;
    let mut read = read?;
    if let Json::Object(read) = &mut read {
        read.insert("meter".to_owned(), json!(meter.serial));
        read.insert("object".to_owned(), json!(request.what));
        if let Some(instead) = instead {
            read.insert("as_reader_because".to_owned(), json!(instead));
        }
    }
    Ok(read)
}

/// Switches a relay, or only looks; says what the meter reports afterwards.
///
/// # Errors
/// With what the meter, the line or the registry says; a cut is refused where the configuration does not allow cuts.
pub async fn relay(node: &Node, request: RelayRequest) -> Result<Json, Problem> {
    if request.command == RelayCommand::Disconnect && !node.config.relay.enabled {
        return Err(Problem::refused(
            "cuts are switched off",
            "a fresh installation cuts nobody; who means it sets relay.enabled = true in the configuration",
        ));
    }
    let meter = registered(node, &request.meter).await?;
    let (serial, client) = (&meter.serial, client_of(&meter, request.client));
    let to = request.address.as_deref();
    let mut session = node.sessions.open(&meter, client, to).await.map_err(problem)?;
    let done = match request.command.asks() {
        Some(what) => session.move_relay(what).await,
        None => Ok(()),
    };
    let status = session.relay().await;
    // Before the meter is let go. A relay that waited for its button is seen when it is next looked at.
    if request.command != RelayCommand::Disconnect && status.as_ref().is_ok_and(|state| state.is_restored()) {
        let now = node.pipeline.clock().now();
        node.registry.supply_restored(meter.meter, now).await.map_err(Problem::internal)?;
    }
    session.close().await;
    match (done, status) {
        (Ok(()), Ok(state)) => Ok(switched(serial, request.command, state, None)),
        // Its answer was lost, and what it did is seen.
        (Err(failed), Ok(state)) if failed.effect() == Effect::Unknown && request.command.is_done(state) => {
            Ok(switched(serial, request.command, state, Some(text(failed))))
        }
        (Err(failed), Ok(state)) => Err(Problem::conflict(
            "the relay was not switched",
            format!("{}; it is {}", text(failed), state.words()),
        )
        .with(json!({ "relay": said(state) }))),
        (Err(failed), Err(_)) if failed.effect() == Effect::Unknown => Err(Problem::conflict(
            "whether the relay was switched is not known",
            format!("{}; ask with `urja relay {serial} status` before anything else", text(failed)),
        )),
        (Err(failed), Err(_)) => Err(problem(failed)),
        (Ok(()), Err(failed)) if request.command == RelayCommand::Status => Err(problem(failed)),
        (Ok(()), Err(failed)) => Err(Problem::conflict(
            "the relay was switched, but cannot be read back",
            format!("{}; ask with `urja relay {serial} status`", text(failed)),
        )),
    }
}

/// What became of a relay; `unconfirmed` says why the meter did not say so itself.
fn switched(serial: &str, command: RelayCommand, state: RelayState, unconfirmed: Option<String>) -> Json {
    tracing::info!(meter = serial, ?command, state = state.name(), unconfirmed, "relay");
    let mut state = said(state);
    if let Json::Object(state) = &mut state {
        state.insert("meter".to_owned(), json!(serial));
        if let Some(unconfirmed) = unconfirmed {
            state.insert("unconfirmed".to_owned(), json!(unconfirmed));
        }
    }
    state
}

impl RelayCommand {
    const fn asks(self) -> Option<RelayMove> {
        match self {
            RelayCommand::Status => None,
            RelayCommand::Disconnect => Some(RelayMove::Disconnect),
            RelayCommand::Connect => Some(RelayMove::Connect),
        }
    }

    /// Whether a relay in this state has done what was asked.
    fn is_done(self, state: RelayState) -> bool {
        self.asks().is_none_or(|what| what.is_done(state))
    }
}

fn said(state: RelayState) -> Json {
    json!({ "state": state.name(), "supplied": state.supplied, "words": state.words() })
}

async fn registered(node: &Node, name: &str) -> Result<MeterAccess, Problem> {
    node.registry.meter_access(name).await.map_err(Problem::internal)?.ok_or_else(|| {
        Problem::missing(
            "no such meter",
            format!("{name:?} is neither serial number, system title nor id of a registered meter"),
        )
    })
}

/// As whom a meter is asked: as the request says, else as it is registered.
fn client_of(meter: &MeterAccess, asked: Option<u8>) -> Client {
    asked.map_or(Client::registered(&meter.asking), |sap| Client::of(sap, &meter.asking))
}

async fn to_read(
    node: &Node,
    meter: &MeterAccess,
    client: Option<u8>,
    address: Option<&str>,
) -> Result<MeterSession, Problem> {
    let opened = match client {
        Some(_) => node.sessions.open(meter, client_of(meter, client), address).await,
        None => node.sessions.open_to_read(meter, address).await,
    };
    opened.map_err(|error| {
        let never = client.is_none() && meter.asking.reader == Reader::Never;
        match error {
            error @ SessionError::NotLetIn { .. } if never => {
                let title = title(&error);
                let text = text(error);
                Problem::conflict(
                    title,
                    format!("{text}; reads may go as the meter reader: `--client 32`, or import it with reader = fallback"),
                )
            }
            error => problem(error),
        }
    })
}

fn problem(error: SessionError) -> Problem {
    Problem::conflict(title(&error), text(error))
}

/// Who is at fault, in a few words.
const fn title(error: &SessionError) -> &'static str {
    match error {
        SessionError::Busy(_) => "the meter is being asked already",
        SessionError::NotLetIn { .. } => "the meter refused",
        SessionError::Meter { error, .. } => match error {
            Error::Timeout { .. } | Error::Disconnected | Error::Closed => "the meter did not answer",
            Error::Rejected { .. }
            | Error::Service(_)
            | Error::Exception(_)
            | Error::Access(_)
            | Error::Action(_)
            | Error::NotAdmitted(_) => "the meter refused",
            Error::Counter(_) | Error::Seal(_) | Error::NoRoom(_) => "the meter was not asked",
            _ => "the meter's answer cannot be used",
        },
        SessionError::Command(_) => "the meter cannot be asked that",
        _ => "the meter was not asked",
    }
}

/// What is wrong, with its cause, and what to try.
fn text(error: SessionError) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{:#}{hint}", anyhow::Error::from(error))
}

fn whole(class: u16, instance: LogicalName, attribute: i8) -> SelectedAttribute<'static> {
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(class), instance, attribute })
}

async fn object(
    session: &mut MeterSession,
    class: u16,
    name: LogicalName,
    attribute: i8,
) -> Result<Json, SessionError> {
    let value = session.get(whole(class, name, attribute)).await?;
    let scaler = match (class, attribute) {
        (REGISTER_CLASS | EXTENDED_CLASS, 2) => {
            let scaler = session.get(whole(class, name, 3)).await?;
            scaler_unit(scaler.data().value())
        }
        _ => None,
    };
    let unit = scaler.map(|(_, unit)| unit.symbol());
    let value = value.data().value();
    let mut said = json!({ "value": cell(value, scaler), "unit": unit });
    if is_event_code(name, attribute)
        && let Some(called) = event_name(&said["value"])
    {
        said["name"] = json!(called);
    }
    if [push::EVENT_STATUS_WORD, push::EVENT_STATUS_FILTER].contains(&name)
        && let Some(word) = event_word(value)
    {
        let flag =
            |(bit, known): (u8, Option<&StatusBit>)| json!({ "bit": bit, "name": known.map(|bit| bit.name) });
        said["flags"] = StatusBit::up(&word).map(flag).collect();
    }
    Ok(said)
}

/// Whether this attribute is the code of an event.
fn is_event_code(name: LogicalName, attribute: i8) -> bool {
    attribute == 2 && EventLog::ALL.iter().any(|log| log.latest_code() == name)
}

/// What the event of a code is called, where that is known.
fn event_name(code: &Json) -> Option<&'static str> {
    let code = code.as_u64()?.try_into().ok()?;
    Event::of(code).map(|event| event.name)
}

/// The 128 bits of an event status word.
fn event_word(value: Value<'_>) -> Option<[u8; 16]> {
    let Value::BitString(bits) = value else { return None };
    bits.bytes().try_into().ok().filter(|_| bits.bits() == 128)
}

fn scaler_unit(value: Value<'_>) -> Option<(i8, Unit)> {
    let Value::Structure(fields) = value else { return None };
    let mut fields = fields.iter();
    match (fields.next(), fields.next()) {
        (Some(Value::I8(scaler)), Some(Value::Enum(unit))) => Some((scaler, Unit::from_code(unit))),
        _ => None,
    }
}

/// A value as JSON; numbers times the power of ten of their scaler, digit by digit.
fn cell(value: Value<'_>, scaler: Option<(i8, Unit)>) -> Json {
    let power = scaler.map_or(0, |(power, _)| i32::from(power));
    let number = |text: String| serde_json::from_str(&shifted(&text, power)).unwrap_or(Json::String(text));
    match value {
        Value::Null | Value::DontCare => Json::Null,
        Value::Bool(value) => json!(value),
        Value::I8(n) => number(n.to_string()),
        Value::I16(n) => number(n.to_string()),
        Value::I32(n) => number(n.to_string()),
        Value::I64(n) => number(n.to_string()),
        // Of what, only the row before says: no number of its own.
        Value::Delta(n) => json!(format!("{n:+}")),
        Value::U8(n) | Value::Enum(n) | Value::Bcd(n) => number(n.to_string()),
        Value::U16(n) => number(n.to_string()),
        Value::U32(n) => number(n.to_string()),
        Value::U64(n) => number(n.to_string()),
        Value::F32(bits) => number(f32::from_bits(bits).to_string()),
        Value::F64(bits) => number(f64::from_bits(bits).to_string()),
        Value::DateTime(time) => json!(time_text(time)),
        Value::OctetString(bytes) => match DateTime::from_octets(bytes) {
            Some(time) if time.month().is_some_and(|month| month <= 12) => json!(time_text(time)),
            _ => octets(bytes),
        },
        Value::VisibleString(bytes) | Value::Utf8String(bytes) => octets(bytes),
        Value::BitString(bits) => {
            json!(
                (0..bits.bits())
                    .map(|at| if bits.bit(at) == Some(true) { '1' } else { '0' })
                    .collect::<String>()
            )
        }
        Value::Date(bytes) => json!(hex::encode(bytes)),
        Value::Time(bytes) => json!(hex::encode(bytes)),
        Value::Array(elements) | Value::Structure(elements) | Value::CompactArray(elements) => {
            nested(elements)
        }
    }
}

/// What is in a list, one level deep: deeper ones are only counted, so that nothing here recurses on what a meter sends.
fn nested(elements: codec::axdr::Elements<'_>) -> Json {
    let flat = |value| match value {
        Value::Array(inner) | Value::Structure(inner) | Value::CompactArray(inner) => {
            json!(format!("{} elements", inner.len()))
        }
        value => leaf(value),
    };
    Json::Array(elements.iter().map(flat).collect())
}

fn leaf(value: Value<'_>) -> Json {
    match value {
        Value::Array(_) | Value::Structure(_) | Value::CompactArray(_) => Json::Null,
        value => cell(value, None),
    }
}

/// Text where it is text, else hexadecimal digits.
fn octets(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => json!(text),
        _ => json!(hex::encode(bytes)),
    }
}

fn time_text(time: DateTime) -> String {
    let part = |value: Option<u8>| value.map_or_else(|| "*".to_owned(), |value| format!("{value:02}"));
    let year = time.year().map_or_else(|| "*".to_owned(), |year| format!("{year:04}"));
    format!(
        "{year}-{}-{}T{}:{}:{}",
        part(time.month()),
        part(time.day()),
        part(time.hour()),
        part(time.minute()),
        part(time.second())
    )
}

/// A decimal number with its point moved `power` places to the right.
fn shifted(text: &str, power: i32) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if power == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut all = format!("{whole}{fraction}");
    let mut point = whole.len() as i64 + i64::from(power);
    while point <= 0 {
        all.insert(0, '0');
        point += 1;
    }
    while (all.len() as i64) < point {
        all.push('0');
    }
    let (before, after) = all.split_at(usize::try_from(point).unwrap_or(all.len()));
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    match after.trim_end_matches('0') {
        "" => format!("{sign}{before}"),
        after => format!("{sign}{before}.{after}"),
    }
}

const DEVIATION_UNSPECIFIED: i16 = i16::MIN;
const BEGINNING: DateTime = civil(2000, 1, 1, 0, 0, 0);
const END: DateTime = civil(2099, 12, 31, 23, 59, 59);

const fn civil(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> DateTime {
    let status = DateTime::STATUS_UNSPECIFIED;
    DateTime::new(year, month, day, 0xff, hour, minute, second, 0, DEVIATION_UNSPECIFIED, status)
}

/// A time of the day as the meter's clock shows it.
fn meter_time(text: &str, flag: &str) -> Result<DateTime, Problem> {
    let parsed: Result<jiff::civil::DateTime, _> = text.parse();
    let wrong = |error: String| Problem::refused("no time", format!("{flag} {text:?}: {error}"));
    let time = parsed.map_err(|error| wrong(error.to_string()))?;
    let small = |value: i8| u8::try_from(value).unwrap_or(u8::MAX);
    let year = u16::try_from(time.year()).map_err(|error| wrong(error.to_string()))?;
    Ok(civil(
        year,
        small(time.month()),
        small(time.day()),
        small(time.hour()),
        small(time.minute()),
        small(time.second()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalers_move_the_point_and_lose_no_digit() {
        for (text, power, expected) in [
            ("12345", -2, "123.45"),
            ("12345", 3, "12345000"),
            ("847.8488", 3, "847848.8"),
            ("-5", -3, "-0.005"),
            ("0", -4, "0"),
            ("1.5", 0, "1.5"),
            ("NaN", 3, "NaN"),
            ("18446744073709551615", -1, "1844674407370955161.5"),
        ] {
            assert_eq!(shifted(text, power), expected, "{text} by {power}");
        }
    }

    #[test]
    fn objects_have_names_or_numbers() {
        assert!(matches!(Target::parse("clock"), Some(Target::Object(8, time::CLOCK, 2))));
        assert!(matches!(Target::parse("block"), Some(Target::Profile(profile::BLOCK_LOAD, Some(_)))));
        assert!(matches!(
            Target::parse("3:1.0.1.8.0.255:3"),
            Some(Target::Object(3, register::ENERGY_IMPORT, 3))
        ));
        let known = Target::parse("7:1.0.99.1.0.255:2");
        assert!(matches!(known, Some(Target::Profile(profile::BLOCK_LOAD, Some(scaler::BLOCK_LOAD)))));
        let unknown = Target::parse("7:1.0.99.128.0.255");
        assert!(matches!(unknown, Some(Target::Profile(LogicalName([1, 0, 99, 128, 0, 255]), None))));
        assert!(matches!(
            Target::parse("7:1.0.99.1.0.255:7"),
            Some(Target::Object(7, profile::BLOCK_LOAD, 7))
        ));
        for wrong in ["", "clocks", "3:1.0.1.8.0", "3:1.0.1.8.0.255:2:1", "x:1.0.1.8.0.255:2"] {
            assert!(Target::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn times_are_those_of_the_meters_clock() {
        let time = meter_time("2026-06-01T12:30", "--from").unwrap();
        assert_eq!(time_text(time), "2026-06-01T12:30:00");
        assert_eq!((time.deviation_min(), time.weekday()), (None, None));
        assert!(meter_time("yesterday", "--from").is_err());
    }
}
