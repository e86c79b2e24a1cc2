//! Meter types as data: what each make pushes, column by column, read strictly from TOML. It must never know
//! sockets, money, bytes of the wire or any single meter.
//!
//! A [`Profile`] says how a meter's clock is to be read and, for each push setup, which captured value stands at
//! which place ([`PushLayout`]). Whether a value comes as float32, u32 or u64 is told by its type on the wire and
//! needs no key here, with one exception that is data too: meters that send floats count in another unit than those
//! that send integers, hence [`Column::float_scaler`].
//!
//! [`Event`] and [`StatusBit`] name what the codes of event logs and the bits of the event status word mean.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod event;
mod parse;

use std::fs;
use std::io;
use std::path::Path;

use model::{Channel, ObisCode};

pub use error::{Error, Fault, LoadError};
pub use event::{EVENTS, Event, STATUS_BITS, StatusBit};

/// Most files of a directory that are read as profiles.
pub const MAX_FILES: usize = 1000;

/// A meter type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name by which the registry refers to it, for example `is15959-d1`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// 1 or 3.
    pub phases: u8,
    /// Capture period of its intervals, seconds; divides a day.
    pub period_s: u32,
    /// Which end of an interval its stamp tells.
    pub stamps: Stamps,
    /// How its clock is read.
    pub clock: ClockRule,
    /// Its load switch (disconnect control, class 70), where it has one.
    pub relay: Option<ObisCode>,
    /// How it is spoken with in a session, where its make is particular.
    pub session: SessionRule,
    /// What it pushes; each setup once.
    pub push: Vec<PushLayout>,
}

/// What meters of a type ask of a session with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRule {
    /// How an association under keys is released.
    pub release: Release,
    /// Whether a key for each association is proposed, under which everything after the proof travels.
    pub dedicated_key: bool,
    /// How APDUs under keys are protected, both ways.
    pub protection: Protection,
    /// Whether APDUs go as general-glo and general-ded, with the sender's title, instead of a ciphered form of each
    /// service.
    pub general: bool,
    /// Longest APDU that the head-end says it takes, bytes.
    pub max_pdu: u16,
}

impl SessionRule {
    /// Fewest bytes of an APDU that are of use.
    pub const MIN_PDU: u16 = 64;
}

/// What Indian meters do with.
impl Default for SessionRule {
    fn default() -> SessionRule {
        SessionRule {
            release: Release::Plain,
            dedicated_key: false,
            protection: Protection::Encrypted,
            general: false,
            max_pdu: 1200,
        }
    }
}

/// How an association under keys is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The request says no more than that.
    Plain,
    /// It carries a ciphered initiate-request, which some meters insist on.
    Ciphered,
}

/// How APDUs under keys are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A tag; the content is in the clear (security control 0x10).
    Authenticated,
    /// A tag, and the content is encrypted (0x30).
    Encrypted,
}

/// Which end of an interval the stamp in a block tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    /// Its start: the capture period is added.
    Start,
    /// Its end.
    End,
}

/// How a meter's clock is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRule {
    /// What a deviation of 0 means in a zone that is not UTC.
    pub zero_deviation: ZeroDeviation,
}

/// What a deviation of 0 means in a zone that is not UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroDeviation {
    /// The meter does not fill the field: the wall clock is that of the zone.
    Local,
    /// The wall clock is UTC.
    Utc,
    /// Not known: read as the zone's, and flagged.
    Flag,
}

/// The captured values of one push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushLayout {
    /// Logical name of the push setup object, the second element of the body.
    pub setup: ObisCode,
    /// What is pushed.
    pub kind: PushKind,
    /// Flat body: the elements behind device id, push setup and clock. Nested body: the elements of a row behind its
    /// clock.
    pub columns: Vec<Column>,
}

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// Block load: energy and averages of one capture period.
    Interval,
    /// Daily load: registers at midnight.
    Daily,
    /// Values of one moment.
    Instant,
    /// The event status word.
    Event,
}

/// One captured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// COSEM class of the object.
    pub class: u16,
    /// Its logical name.
    pub obis: ObisCode,
    /// Which of its attributes.
    pub attribute: u8,
    /// Power of ten of an integer on the wire, relative to the COSEM unit (Wh, V, A, …).
    pub scaler: i8,
    /// Power of ten of a float on the wire; the same as `scaler` where the file does not say otherwise.
    pub float_scaler: i8,
    /// Where the value goes.
    pub to: Target,
}

/// Where a captured value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into this channel of the reading.
    Channel(Channel),
    /// It is the event status word.
    EventWord,
    /// It is not kept: the raw frame has it.
    Ignore,
}

impl Profile {
    /// Reads a profile. With the key `base` it is a variant: what the file does not say is taken from that built-in
    /// profile.
    ///
    /// # Errors
    /// The first key that is unknown, missing, of a wrong type or of a wrong value, with its line.
    pub fn parse(text: &str) -> Result<Profile, Error> {
        parse::profile(text)
    }

    /// The profiles that come with the program.
    #[must_use]
    pub fn builtin() -> Vec<Profile> {
        BUILTIN
            .iter()
            .map(|(name, _)| builtin(name).expect("the built-in profiles are tested to parse"))
            .collect()
    }

    /// The profiles that come with the program, and those of a directory: each file whose name ends in `.toml`, in the order
    /// of their names.
    ///
    /// # Errors
    /// The first file that cannot be read, or is no profile, or has the name of another.
    pub fn load(directory: &Path) -> Result<Vec<Profile>, LoadError> {
        let unread = |file: &Path, source: io::Error| LoadError::Read { file: file.to_owned(), source };
        let entries = fs::read_dir(directory).map_err(|source| unread(directory, source))?;
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(|source| unread(directory, source))?.path();
            if file.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            if files.len() == MAX_FILES {
                return Err(LoadError::TooMany { directory: directory.to_owned() });
            }
            files.push(file);
        }
        files.sort();
        let mut profiles = Profile::builtin();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|source| unread(&file, source))?;
            let profile =
                Profile::parse(&text).map_err(|error| LoadError::Profile { file: file.clone(), error })?;
            if profiles.iter().any(|known| known.name == profile.name) {
                return Err(LoadError::Twice { file, name: profile.name });
            }
            profiles.push(profile);
        }
        Ok(profiles)
    }

    /// What the push of that setup carries.
    #[must_use]
    pub fn layout(&self, setup: ObisCode) -> Option<&PushLayout> {
        self.push.iter().find(|layout| layout.setup == setup)
    }
}

/// Variants follow their bases.
const BUILTIN: [(&str, &str); 4] = [
    ("is15959-d1", include_str!("../is15959-d1.toml")),
    ("is15959-d2", include_str!("../is15959-d2.toml")),
    ("is15959-d1-15min", include_str!("../is15959-d1-15min.toml")),
    ("is15959-d1-start", include_str!("../is15959-d1-start.toml")),
];

fn builtin(name: &str) -> Option<Profile> {
    let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
    Profile::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Profile {
        Profile::builtin().into_iter().find(|profile| profile.name == name).unwrap()
    }

    #[test]
    fn built_in_profiles_carry_the_name_of_their_file() {
        let names: Vec<_> = Profile::builtin().into_iter().map(|profile| profile.name).collect();
        assert_eq!(names, BUILTIN.map(|(name, _)| name));
    }

    #[test]
    fn a_single_phase_meter_pushes_what_is_15959_says() {
        let profile = named("is15959-d1");
        let shape = |setup: &str| {
            let layout = profile.layout(setup.parse().unwrap()).unwrap();
            (layout.kind, layout.columns.len() + 3)
        };
        assert_eq!(shape("0.0.25.9.0.255"), (PushKind::Instant, 25));
        assert_eq!(shape("0.5.25.9.0.255"), (PushKind::Interval, 10));
        assert_eq!(shape("0.6.25.9.0.255"), (PushKind::Daily, 7));
        assert_eq!(shape("0.4.25.9.0.255"), (PushKind::Event, 4));
        assert_eq!(profile.layout("0.7.25.9.0.255".parse().unwrap()), None);
    }

    #[test]
    fn a_variant_differs_from_its_base_in_what_it_says_alone() {
        let base = named("is15959-d1");
        let quarter = named("is15959-d1-15min");
        assert_eq!((quarter.period_s, quarter.stamps), (900, Stamps::End));
        let start = named("is15959-d1-start");
        assert_eq!((start.period_s, start.stamps), (1800, Stamps::Start));
        for variant in [quarter, start] {
            assert_eq!(
                (variant.push, variant.clock, variant.phases),
                (base.push.clone(), base.clock, base.phases)
            );
        }
    }

    #[test]
    fn files_of_a_directory_join_the_built_in_ones_and_a_fault_names_file_line_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("b.toml", "name = \"b\"\nbase = \"is15959-d1\"\n[session]\ndedicated_key = true\n");
        write("a.toml", "name = \"a\"\nbase = \"is15959-d2\"\n");
        write("notes.txt", "no profile");
        let load = || Profile::load(directory.path());
        let loaded = load().unwrap();
        let names: Vec<_> = loaded.iter().skip(BUILTIN.len()).map(|profile| profile.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(loaded.last().unwrap().session.dedicated_key);
        write("c.toml", "name = \"c\"\nbase = \"is15959-d1\"\n[session]\nmax_pdu = 10\n");
        let said = load().unwrap_err().to_string();
        assert!(said.ends_with("c.toml: line 4: max_pdu: 10 bytes are no APDU: from 64 to 65535"), "{said}");
        write("c.toml", "name = \"is15959-d1\"\nbase = \"is15959-d1\"\n");
        let said = load().unwrap_err().to_string();
        assert!(said.contains("c.toml: name: there is another"), "{said}");
        let nowhere = Profile::load(&directory.path().join("nowhere")).unwrap_err().to_string();
        assert!(nowhere.contains("nowhere: "), "{nowhere}");
    }

    #[test]
    fn floats_of_energy_are_kilo_and_everything_else_counts_alike() {
        for column in
            Profile::builtin().iter().flat_map(|profile| &profile.push).flat_map(|layout| &layout.columns)
        {
            let energy = matches!(column.to, Target::Channel(channel) if channel.name().ends_with('h')
                && !channel.name().ends_with("health"));
            let expected = if energy { 3 } else { column.scaler };
            assert_eq!(column.float_scaler, expected, "{}", column.obis);
        }
    }
}
