//! From text to profile. The shape is serde's to check, the sense is ours; both say line and key.

use std::ops::Range;

use model::{Channel, ObisCode};
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Fault};
use crate::{
    ClockRule, Column, Profile, Protection, PushKind, PushLayout, Release, SessionRule, Stamps, Target,
    ZeroDeviation,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileText {
    name: Spanned<String>,
    base: Option<Spanned<String>>,
    description: Option<String>,
    phases: Option<Spanned<u8>>,
    period_s: Option<Spanned<u32>>,
    stamps: Option<StampsText>,
    relay: Option<Spanned<String>>,
    clock: Option<ClockText>,
    session: Option<SessionText>,
    push: Option<Spanned<Vec<PushText>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StampsText {
    Start,
    End,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockText {
    zero_deviation: ZeroDeviationText,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ZeroDeviationText {
    Local,
    Utc,
    Flag,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionText {
    release: Option<ReleaseText>,
    dedicated_key: Option<bool>,
    protection: Option<ProtectionText>,
    general: Option<bool>,
    max_pdu: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReleaseText {
    Plain,
    Ciphered,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtectionText {
    Authenticated,
    Encrypted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushText {
    setup: Spanned<String>,
    kind: KindText,
    columns: Spanned<Vec<ColumnText>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindText {
    Interval,
    Daily,
    Instant,
    Event,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnText {
    class: u16,
    obis: Spanned<String>,
    attribute: u8,
    scaler: Option<Spanned<i8>>,
    float_scaler: Option<Spanned<i8>>,
    to: Spanned<String>,
}

pub(crate) fn profile(text: &str) -> Result<Profile, Error> {
    let read: ProfileText = toml::from_str(text).map_err(|error| toml_error(text, &error))?;
    let at = At(text);
    let base = read.base.as_ref().map(|name| base(at, name)).transpose()?;
    let base = base.as_ref();
    Ok(Profile {
        name: name(at, &read.name)?,
        description: inherit(read.description, base, "description", |base| base.description.clone())?,
        phases: inherit(
            read.phases.map(|phases| check_phases(at, &phases)).transpose()?,
            base,
            "phases",
            |base| base.phases,
        )?,
        period_s: inherit(
            read.period_s.map(|period| check_period(at, &period)).transpose()?,
            base,
            "period_s",
            |base| base.period_s,
        )?,
        stamps: inherit(read.stamps.map(stamps), base, "stamps", |base| base.stamps)?,
        clock: inherit(read.clock.map(|clock| clock_rule(&clock)), base, "clock", |base| base.clock)?,
        relay: match read.relay {
            Some(relay) => Some(obis(at, "relay", &relay)?),
            None => base.and_then(|base| base.relay),
        },
        session: session_rule(at, &read.session.unwrap_or_default(), base)?,
        push: inherit(read.push.map(|push| layouts(at, push)).transpose()?, base, "push", |base| {
            base.push.clone()
        })?,
    })
}

fn base(at: At<'_>, name: &Spanned<String>) -> Result<Profile, Error> {
    let unknown = || at.error("base", name, Fault::UnknownBase(name.get_ref().clone()));
    crate::builtin(name.get_ref()).ok_or_else(unknown)
}

/// A key of the file, else that of the base, else it is missing.
fn inherit<T>(
    own: Option<T>,
    base: Option<&Profile>,
    key: &str,
    from_base: impl FnOnce(&Profile) -> T,
) -> Result<T, Error> {
    let missing = || Error { line: 1, key: key.to_owned(), fault: Fault::Missing };
    own.or_else(|| base.map(from_base)).ok_or_else(missing)
}

fn name(at: At<'_>, name: &Spanned<String>) -> Result<String, Error> {
    let text = name.get_ref();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(at.error("name", name, Fault::Name(text.clone())));
    }
    Ok(text.clone())
}

fn check_phases(at: At<'_>, phases: &Spanned<u8>) -> Result<u8, Error> {
    match *phases.get_ref() {
        phases @ (1 | 3) => Ok(phases),
        other => Err(at.error("phases", phases, Fault::Phases(other))),
    }
}

fn check_period(at: At<'_>, period: &Spanned<u32>) -> Result<u32, Error> {
    match *period.get_ref() {
        seconds if seconds >= 60 && 86_400 % seconds == 0 => Ok(seconds),
        other => Err(at.error("period_s", period, Fault::Period(other))),
    }
}

fn stamps(text: StampsText) -> Stamps {
    match text {
        StampsText::Start => Stamps::Start,
        StampsText::End => Stamps::End,
    }
}

fn clock_rule(text: &ClockText) -> ClockRule {
    let zero_deviation = match text.zero_deviation {
        ZeroDeviationText::Local => ZeroDeviation::Local,
        ZeroDeviationText::Utc => ZeroDeviation::Utc,
        ZeroDeviationText::Flag => ZeroDeviation::Flag,
    };
    ClockRule { zero_deviation }
}

/// Key by key: most meters need none of them.
fn session_rule(at: At<'_>, text: &SessionText, base: Option<&Profile>) -> Result<SessionRule, Error> {
    let known = base.map_or_else(SessionRule::default, |base| base.session);
    let max_pdu = match &text.max_pdu {
        None => known.max_pdu,
        Some(said) => match u16::try_from(*said.get_ref()) {
            Ok(bytes) if bytes >= SessionRule::MIN_PDU => bytes,
            _ => return Err(at.error("max_pdu", said, Fault::MaxPdu(*said.get_ref()))),
        },
    };
    Ok(SessionRule {
        release: match text.release {
            None => known.release,
            Some(ReleaseText::Plain) => Release::Plain,
            Some(ReleaseText::Ciphered) => Release::Ciphered,
        },
        dedicated_key: text.dedicated_key.unwrap_or(known.dedicated_key),
        protection: match text.protection {
            None => known.protection,
            Some(ProtectionText::Authenticated) => Protection::Authenticated,
            Some(ProtectionText::Encrypted) => Protection::Encrypted,
        },
        general: text.general.unwrap_or(known.general),
        max_pdu,
    })
}

fn obis(at: At<'_>, key: &str, text: &Spanned<String>) -> Result<ObisCode, Error> {
    let bad = |_| at.error(key, text, Fault::Obis(text.get_ref().clone()));
    text.get_ref().parse().map_err(bad)
}

fn layouts(at: At<'_>, push: Spanned<Vec<PushText>>) -> Result<Vec<PushLayout>, Error> {
    if push.get_ref().is_empty() {
        return Err(at.error("push", &push, Fault::Empty));
    }
    let mut layouts: Vec<PushLayout> = Vec::new();
    for text in push.into_inner() {
        let setup = obis(at, "setup", &text.setup)?;
        if layouts.iter().any(|layout| layout.setup == setup) {
            return Err(at.error("setup", &text.setup, Fault::Twice(text.setup.get_ref().clone())));
        }
        let kind = match text.kind {
            KindText::Interval => PushKind::Interval,
            KindText::Daily => PushKind::Daily,
            KindText::Instant => PushKind::Instant,
            KindText::Event => PushKind::Event,
        };
        layouts.push(PushLayout { setup, kind, columns: columns(at, kind, text.columns)? });
    }
    Ok(layouts)
}

fn columns(at: At<'_>, kind: PushKind, texts: Spanned<Vec<ColumnText>>) -> Result<Vec<Column>, Error> {
    if texts.get_ref().is_empty() {
        return Err(at.error("columns", &texts, Fault::Empty));
    }
    let mut columns: Vec<Column> = Vec::new();
    for text in texts.into_inner() {
        let column = column(at, &text)?;
        let fault = match column.to {
            Target::Ignore => None,
            to if columns.iter().any(|other| other.to == to) => Some(Fault::Twice(text.to.get_ref().clone())),
            Target::EventWord if kind != PushKind::Event => Some(Fault::EventWord),
            Target::Channel(_) if kind == PushKind::Event => Some(Fault::EventWord),
            Target::Channel(_) | Target::EventWord => None,
        };
        if let Some(fault) = fault {
            return Err(at.error("to", &text.to, fault));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn column(at: At<'_>, text: &ColumnText) -> Result<Column, Error> {
    let power = |key: &str, value: &Spanned<i8>| match *value.get_ref() {
        power @ -9..=9 => Ok(power),
        other => Err(at.error(key, value, Fault::Scaler(other))),
    };
    let scaler = text.scaler.as_ref().map(|value| power("scaler", value)).transpose()?.unwrap_or(0);
    let float = text.float_scaler.as_ref().map(|value| power("float_scaler", value)).transpose()?;
    Ok(Column {
        class: text.class,
        obis: obis(at, "obis", &text.obis)?,
        attribute: text.attribute,
        scaler,
        float_scaler: float.unwrap_or(scaler),
        to: target(at, &text.to)?,
    })
}

fn target(at: At<'_>, text: &Spanned<String>) -> Result<Target, Error> {
    match text.get_ref().as_str() {
        "ignore" => Ok(Target::Ignore),
        "event_word" => Ok(Target::EventWord),
        name => Channel::from_name(name)
            .map(Target::Channel)
            .ok_or_else(|| at.error("to", text, Fault::Target(name.to_owned()))),
    }
}

/// The text that places are told in.
#[derive(Clone, Copy)]
struct At<'a>(&'a str);

impl At<'_> {
    fn error<T>(self, key: &str, value: &Spanned<T>, fault: Fault) -> Error {
        Error { line: line_of(self.0, value.span().start), key: key.to_owned(), fault }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn toml_error(text: &str, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().to_owned();
    let key = quoted_field(&message).map_or_else(|| key_at(text, &span), str::to_owned);
    Error { line: line_of(text, span.start), key, fault: Fault::Toml(message) }
}

/// The field that serde's "unknown field `x`" and "missing field `x`" name.
fn quoted_field(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("field `")?;
    rest.split_once('`').map(|(field, _)| field)
}

/// The key whose value is at `span`: the word before the equals sign to its left.
fn key_at(text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or_default().trim_end();
    let before = before.strip_suffix('=').unwrap_or_default().trim_end();
    let word = |character: char| character.is_ascii_alphanumeric() || "_-\"".contains(character);
    let start = before.trim_end_matches(word).len();
    before[start..].trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line of a good profile changed.
    fn with(line: &str, by: &str) -> String {
        let good = include_str!("../is15959-d1.toml");
        assert!(good.contains(line), "{line}");
        good.replacen(line, by, 1)
    }

    fn check(text: &str, key: &str, at: &str, says: &str) {
        let error = profile(text).unwrap_err();
        let line = text.lines().nth(error.line - 1).unwrap();
        assert!(line.contains(at), "{error}: points at {line:?}");
        assert_eq!(error.key, key, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        check(&with("phases = 1", "phasen = 1"), "phasen", "phasen", "unknown field");
        check(&with("zero_deviation", "zero_deviatoin"), "zero_deviatoin", "zero_deviatoin", "unknown field");
        check(
            &with("scaler = -1, to", "scalar = -1, to"),
            "scalar",
            r#"{ class = 3, obis = "1.0.12.7.0.255""#,
            "unknown field",
        );
    }

    #[test]
    fn a_value_of_another_type_is_named_with_its_line() {
        check(&with("period_s = 1800", "period_s = \"1800\""), "period_s", "period_s", "invalid type");
        check(&with("stamps = \"end\"", "stamps = \"late\""), "stamps", "stamps", "unknown variant");
        check(&with("scaler = -2", "scaler = 1.5"), "scaler", "scaler = 1.5", "invalid type");
        check(&with("phases = 1", "phases = 300"), "phases", "phases", "");
    }

    #[test]
    fn a_value_without_sense_is_named_with_its_line() {
        check(&with("period_s = 1800", "period_s = 1700"), "period_s", "period_s", "capture period");
        check(&with("phases = 1", "phases = 2"), "phases", "phases", "1 or 3");
        check(&with("\"voltage_dv\"", "\"voltage\""), "to", "\"voltage\"", "neither a channel");
        check(&with("\"current_ma\"", "\"voltage_dv\""), "to", "1.0.11.7", "twice");
        check(&with("\"1.0.12.7.0.255\"", "\"1.0.12.7.0\""), "obis", "1.0.12.7.0", "six numbers");
        check(&with("scaler = -1", "scaler = -10"), "scaler", "scaler = -10", "power of ten");
        check(&with("\"0.6.25.9.0.255\"", "\"0.5.25.9.0.255\""), "setup", "setup", "twice");
        check(&with("\"event_word\"", "\"import_wh\""), "to", "0.0.94.91.18", "event_word belongs");
        check(&with("name = \"is", "name = \"IS"), "name", "name", "small letters");
    }

    #[test]
    fn what_a_session_needs_is_said_key_by_key_and_the_rest_is_the_bases() {
        assert_eq!(profile(include_str!("../is15959-d1.toml")).unwrap().session, SessionRule::default());
        let own = "name = \"a\"\nbase = \"is15959-d1\"\n[session]\nrelease = \"ciphered\"\ndedicated_key = true\n\
                   protection = \"authenticated\"\ngeneral = true\nmax_pdu = 256\n";
        let expected = SessionRule {
            release: Release::Ciphered,
            dedicated_key: true,
            protection: Protection::Authenticated,
            general: true,
            max_pdu: 256,
        };
        assert_eq!(profile(own).unwrap().session, expected);
        let one = "name = \"a\"\nbase = \"is15959-d1\"\n[session]\nmax_pdu = 64\n";
        assert_eq!(profile(one).unwrap().session, SessionRule { max_pdu: 64, ..SessionRule::default() });
        let said = |line: &str| own.replace("max_pdu = 256", line);
        for bytes in ["63", "65536", "-1"] {
            check(&said(&format!("max_pdu = {bytes}")), "max_pdu", "max_pdu", "no APDU");
        }
        check(&said("max_pdu = \"256\""), "max_pdu", "max_pdu", "invalid type");
        check(&said("release_ciphered = true"), "release_ciphered", "release_ciphered", "unknown field");
        check(&own.replace("\"ciphered\"", "\"sealed\""), "release", "release", "unknown variant");
        check(&own.replace("\"authenticated\"", "\"none\""), "protection", "protection", "unknown variant");
    }

    #[test]
    fn what_is_missing_is_named() {
        check(&with("phases = 1\n", ""), "phases", "", "missing");
        check(&with("attribute = 2, ", ""), "attribute", "", "missing field");
        check("base = \"is15959-d1\"", "name", "", "missing field");
        check("name = \"a\"\nbase = \"is15959\"", "base", "is15959", "no built-in profile");
        let error = profile("name = \"a\"\nphases =").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }
}
