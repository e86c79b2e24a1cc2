//! Sessions with meters that were made from other people's stacks: `tests/peers/meter.py`, and the independent one
//! beside the repository. Where Python or a package is missing, a test says so and passes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use codec::apdu::{
    ActionResult, AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectedAttribute, SelectiveAccess,
};
use codec::axdr::{Data, DateTime, Value, Writer};
use codec::cosem::india::association::{Association, PUBLIC, READER, UTILITY};
use codec::cosem::india::{control, profile, register};
use codec::cosem::profile_generic::{CaptureObject, EntryDescriptor, RangeDescriptor, Selection};
use codec::cosem::{ClassId, LogicalName};
use codec::security::Keys;
use codec::security::counter::SendCounter;
use codec::security::hls::Secret;
use codec::security::keys::{AssociationKeys, Key, KeyId, emit_key_transfer};
use codec::session::client::{
    Answer, Authentication, CommandError, Config, Effect, Error, Event, OwnedData, Protection, Push,
    RANDOM_LEN, Timing,
};
use codec::session::india::IndianSession;

#[path = "peers/variants.rs"]
mod variants;

const GUEK: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const GAK: [u8; 16] =
    [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf];
const METER: &str = "505852000000aa01";
const SECRET: &[u8] = b"1234567890123456";
const PASSWORD: &[u8] = b"Urja1234";
const CLOCK: LogicalName = LogicalName([0, 0, 1, 0, 0, 255]);
/// Long enough for Python on a busy machine, short enough for a test that waits for it.
const ANSWER: Duration = Duration::from_millis(1500);

/// A meter in a process of its own.
struct Meter {
    child: Child,
    port: u16,
    state: PathBuf,
    _dir: Dir,
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn python() -> Command {
    let venv = root().join(".venv/bin/python3");
    Command::new(if venv.exists() { venv } else { PathBuf::from("python3") })
}

/// Which meter: ours on other people's stacks, or the independent one.
#[derive(Clone, Copy)]
enum Make {
    Ours,
    Independent,
}

/// Says what is missing; fails where everything must be there.
fn skip(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: {what}");
    println!("skipped: not there: {what}");
}

const MAKES: [Make; 2] = [Make::Ours, Make::Independent];

impl Meter {
    /// `None` where it cannot be started here.
    fn start(make: Make, args: &[&str]) -> Option<Self> {
        let script = match make {
            Make::Ours => root().join("tests/peers/meter.py"),
            Make::Independent => root().join("../shared/peers/gurux_meter.py"),
        };
        if !script.exists() {
            skip(&script.display().to_string());
            return None;
        }
        let imports = python().args(["-c", "import gurux_dlms, dlms_cosem, cryptography"]).output();
        if !imports.is_ok_and(|out| out.status.success()) {
            skip("Python packages of tests/peers/requirements.txt");
            return None;
        }
        let name = format!("urja-peer-{}-{:?}", std::process::id(), std::thread::current().id())
            .replace(['(', ')'], "");
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let dir = std::env::temp_dir().join(format!("{name}-{nanos}"));
        std::fs::create_dir_all(&dir).unwrap();
        let state = dir.join("state.jsonl");
        let mut child = python()
            .arg(script)
            .args(["0", METER, &hex::encode(GUEK), &hex::encode(GAK), "--state"])
            .arg(&state)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = match make {
            Make::Ours => {
                let said: serde_json::Value = serde_json::from_str(&line).unwrap();
                u16::try_from(said["port"].as_u64().unwrap()).unwrap()
            }
            Make::Independent => line.trim().rsplit(' ').next().unwrap().parse().unwrap(),
        };
        Some(Self { child, port, state, _dir: Dir(dir) })
    }

    /// What it noted of this kind.
    fn notes(&self, event: &str) -> Vec<serde_json::Value> {
        std::fs::read_to_string(&self.state)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|note| note["event"] == event)
            .collect()
    }
}

/// A session over one connection.
struct Line {
    session: IndianSession,
    stream: TcpStream,
    start: Instant,
    /// Everything that was told besides what was waited for.
    aside: Vec<Event>,
    reserved: Vec<u32>,
}

fn keys() -> AssociationKeys {
    AssociationKeys::new(Keys::new(GUEK, GAK))
}

/// A title of its own for each client, since all have one key.
fn title(association: &Association) -> [u8; 8] {
    [b'U', b'R', b'J', 0, 0, 0, 0, association.client_sap]
}

fn patient(config: Config) -> Config {
    Config { timing: Timing { answer: ANSWER, tries: 3 }, ..config }
}

fn utility() -> Config {
    let authentication = Authentication::Aes(Secret::new(SECRET.to_vec()));
    patient(Config::ciphered(title(&UTILITY), authentication, Protection::new(keys())))
}

fn random() -> [u8; RANDOM_LEN] {
    let mut random = [0; RANDOM_LEN];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    random
}

impl Line {
    fn new(meter: &Meter, association: Association, config: Config) -> Self {
        Self::resume(meter, association, config, SendCounter::resume(0))
    }

    fn resume(meter: &Meter, association: Association, config: Config, counter: SendCounter) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", meter.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let session = IndianSession::new(association, config, counter);
        Self { session, stream, start: Instant::now(), aside: vec![], reserved: vec![] }
    }

    /// Drives the session until it tells something that `wanted` takes.
    fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
                assert!(!matches!(event, Event::Closed(_)), "{event:?} after {:?}", self.aside);
                self.aside.push(event);
            }
            if let Some(bound) = self.session.poll_reserve() {
                self.reserved.push(bound);
                self.session.reserved(bound);
            }
            while let Some((client, apdu)) = self.session.poll_transmit(self.start.elapsed()) {
                let mut frame = vec![0, 1];
                frame.extend_from_slice(&client.to_be_bytes());
                frame.extend_from_slice(&[0, 1]);
                frame.extend_from_slice(&u16::try_from(apdu.len()).unwrap().to_be_bytes());
                frame.extend_from_slice(&apdu);
                if self.stream.write_all(&frame).is_err() {
                    self.session.handle_disconnected();
                }
            }
            assert!(Instant::now() < give_up, "nothing came");
            let Some(deadline) = self.session.poll_timeout() else { continue };
            let wait = deadline.saturating_sub(self.start.elapsed());
            if wait.is_zero() {
                self.session.handle_timeout(self.start.elapsed());
                continue;
            }
            self.stream.set_read_timeout(Some(wait)).unwrap();
            match self.receive() {
                Ok((client, apdu)) => self.session.handle_apdu(client, &apdu),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    self.session.handle_timeout(self.start.elapsed());
                }
                Err(_) => self.session.handle_disconnected(),
            }
        }
    }

    fn receive(&mut self) -> std::io::Result<(u16, Vec<u8>)> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        assert_eq!((word(0), word(2)), (1, 1));
        let mut apdu = vec![0; word(6).into()];
        self.stream.read_exact(&mut apdu)?;
        Ok((word(4), apdu))
    }

    /// Opens the association, or says why not.
    fn associate(&mut self) -> Result<(), Error> {
        self.session.associate(&random()).unwrap();
        self.until(|event| match event {
            Event::Associated(_) => Some(Ok(())),
            Event::Closed(Some(error)) => Some(Err(*error)),
            _ => None,
        })
    }

    fn answer(&mut self) -> Result<Answer, (Error, Effect)> {
        self.until(|event| match event {
            Event::Answered(_, answer) => Some(Ok(answer.clone())),
            Event::Failed { error, effect, .. } => Some(Err((*error, *effect))),
            _ => None,
        })
    }

    fn try_get(&mut self, attribute: SelectedAttribute<'_>) -> Result<OwnedData, (Error, Effect)> {
        self.session.client().get(attribute).unwrap();
        self.answer().map(|answer| match answer {
            Answer::Value(value) => value,
            other => panic!("{other:?}"),
        })
    }

    fn get(&mut self, class: u16, instance: LogicalName, attribute: i8) -> OwnedData {
        self.try_get(whole(class, instance, attribute)).unwrap()
    }

    fn set(&mut self, class: u16, instance: LogicalName, attribute: i8, value: Data<'_>) -> Answer {
        self.session.client().set(whole(class, instance, attribute), value).unwrap();
        self.answer().unwrap()
    }

    fn act(
        &mut self,
        class: u16,
        instance: LogicalName,
        method: i8,
        value: Data<'_>,
    ) -> Result<Answer, (Error, Effect)> {
        let method = MethodDescriptor { class: ClassId(class), instance, method };
        self.session.client().action(method, Some(value)).unwrap();
        self.answer()
    }

    fn release(&mut self) {
        self.session.client().release().unwrap();
        self.until(|event| match event {
            Event::Closed(None) => Some(()),
            _ => None,
        });
    }
}

fn whole(class: u16, instance: LogicalName, attribute: i8) -> SelectedAttribute<'static> {
    SelectedAttribute::whole(AttributeDescriptor { class: ClassId(class), instance, attribute })
}

fn encoded(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![];
    write(&mut Writer::new(&mut bytes));
    bytes
}

fn rows(value: &OwnedData) -> usize {
    match value.data().value() {
        Value::Array(rows) => rows.len(),
        other => panic!("{other:?}"),
    }
}

fn time(value: &OwnedData) -> DateTime {
    match value.data().value() {
        Value::OctetString(bytes) => DateTime::from_octets(bytes).unwrap(),
        Value::DateTime(time) => time,
        other => panic!("{other:?}"),
    }
}

fn counter_of(line: &mut Line) -> u32 {
    line.session.client().counter().next()
}

#[test]
fn the_public_client_reads_clock_and_counters_and_nothing_else() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let mut line = Line::new(&meter, PUBLIC, patient(Config::public(title(&PUBLIC))));
        line.associate().unwrap();
        assert!(time(&line.get(8, CLOCK, 2)).year().is_some_and(|year| year > 2000));
        let refused = line.try_get(whole(3, register::ENERGY_IMPORT, 2)).unwrap_err();
        assert_eq!(refused, (Error::Access(DataAccessResult::ReadWriteDenied), Effect::None));
        line.release();
        assert_eq!(meter.notes("released").len(), 1);
        assert!(line.reserved.is_empty(), "nothing was ciphered");
    }
}

#[test]
fn a_reader_with_a_password_reads_in_the_clear_and_ciphered() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let password = || Authentication::Password(Secret::new(PASSWORD.to_vec()));
        let plain = Config { authentication: password(), ..Config::public(title(&READER)) };
        let ciphered = Config::ciphered(title(&READER), password(), Protection::new(keys()));
        for config in [plain, ciphered] {
            let mut line = Line::new(&meter, READER, patient(config));
            line.associate().unwrap();
            assert!(!matches!(line.get(3, register::ENERGY_IMPORT, 2).data().value(), Value::Null));
            let service = line.session.client().set(whole(8, CLOCK, 2), Data::NULL);
            assert!(matches!(service, Err(CommandError::NotNegotiated(_))), "{service:?}");
            line.release();
        }
        let wrong = Authentication::Password(Secret::new(b"wrong".to_vec()));
        let config = Config { authentication: wrong, ..Config::public(title(&READER)) };
        let mut line = Line::new(&meter, READER, patient(config));
        assert!(matches!(line.associate(), Err(Error::Rejected { .. })));
    }
}

#[test]
fn a_utility_client_proves_itself_with_both_mechanisms_in_every_wrapping() {
    for make in MAKES {
        for hls in ["2", "5"] {
            let general = match make {
                Make::Ours => &["--hls", hls][..],
                Make::Independent => &["--hls", hls, "--general-protection"],
            };
            let Some(meter) = Meter::start(make, general) else { return };
            let mut bound = 0;
            for (dedicated, general) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut config = utility();
                if hls == "5" {
                    config.authentication = Authentication::Gmac;
                }
                if let Some(protection) = &mut config.protection {
                    protection.dedicated = dedicated;
                }
                if general {
                    config.conformance =
                        config.conformance.union(codec::apdu::initiate::Conformance::GENERAL_PROTECTION);
                }
                let mut line = Line::resume(&meter, UTILITY, config, SendCounter::resume(bound));
                line.associate().unwrap();
                for _ in 0..3 {
                    let value = line.get(3, register::ENERGY_IMPORT, 2);
                    assert!(matches!(value.data().value(), Value::U32(_) | Value::F32(_)), "{value:?}");
                }
                line.release();
                bound = *line.reserved.last().unwrap();
                assert!(counter_of(&mut line) <= bound);
            }
            assert_eq!(meter.notes("associated").iter().filter(|note| note["client"] == 48).count(), 4);
            assert!(meter.notes("counter_used_twice").is_empty() && meter.notes("replay_refused").is_empty());
        }
    }
}

#[test]
fn a_wrong_secret_or_a_wrong_key_opens_nothing() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let mut config = utility();
        config.authentication = Authentication::Aes(Secret::new(b"6543210987654321".to_vec()));
        let error = Line::new(&meter, UTILITY, config).associate().unwrap_err();
        assert!(
            matches!(error, Error::NotAdmitted(_) | Error::Rejected { .. } | Error::Exception(_)),
            "{error}"
        );
        let mut config = utility();
        config.protection = Some(Protection::new(AssociationKeys::new(Keys::new([9; 16], GAK))));
        let error = Line::new(&meter, UTILITY, config).associate().unwrap_err();
        assert!(matches!(error, Error::Exception(_) | Error::Rejected { .. }), "{error}");
        let config = Config { meter_title: Some(*b"PXR\0\0\0\0\x01"), ..utility() };
        assert_eq!(Line::new(&meter, UTILITY, config).associate(), Err(Error::Title));
        let associated = meter.notes("associated");
        assert!(associated.iter().all(|note| note["client"] != 48), "{associated:?}");
    }
}

fn day(time: DateTime, hour: u8) -> DateTime {
    let mut bytes = time.0;
    bytes[4] = 0xff;
    bytes[5..9].copy_from_slice(&[hour, 0, 0, 0]);
    DateTime(bytes)
}

#[test]
fn a_profile_comes_in_blocks_the_same_by_range_and_by_entry() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &["--max-pdu", "300"]) else { return };
        let mut line = Line::new(&meter, UTILITY, utility());
        line.associate().unwrap();
        let now = time(&line.get(8, CLOCK, 2));
        let columns = rows(&line.get(7, profile::BLOCK_LOAD, 3));
        let yesterday = {
            let mut bytes = now.0;
            bytes[3] = bytes[3].saturating_sub(1).max(1);
            DateTime(bytes)
        };
        let (from, to) = (day(yesterday, 1), day(yesterday, 13));
        let range = Selection::Range(RangeDescriptor::times(CaptureObject::clock(CLOCK), &from, &to));
        let mut buffer = vec![];
        let attribute = whole(7, profile::BLOCK_LOAD, 2).attribute;
        let access = Some(SelectiveAccess::encode(&range, &mut buffer));
        let by_range = line.try_get(SelectedAttribute { attribute, access }).unwrap();
        if now.day().is_some_and(|day| day > 1) {
            assert!((24..=26).contains(&rows(&by_range)), "{} rows", rows(&by_range));
        }
        let entries = Selection::Entry(EntryDescriptor::rows(1, 20));
        let mut buffer = vec![];
        let access = Some(SelectiveAccess::encode(&entries, &mut buffer));
        let by_entry = line.try_get(SelectedAttribute { attribute, access }).unwrap();
        assert_eq!(rows(&by_entry), 20);
        let Value::Array(array) = by_entry.data().value() else { panic!() };
        for row in array.iter() {
            let Value::Structure(cells) = row else { panic!("{row:?}") };
            assert_eq!(cells.len(), columns);
        }
        let all = line.try_get(SelectedAttribute::whole(attribute)).unwrap();
        assert!(rows(&all) > 100 && all.data().bytes().len() > 3000);
        line.release();
    }
}

#[test]
fn several_attributes_are_read_at_once_and_in_blocks() {
    let Some(meter) = Meter::start(Make::Ours, &["--max-pdu", "200"]) else { return };
    let mut line = Line::new(&meter, UTILITY, utility());
    line.associate().unwrap();
    let asked = [
        whole(8, CLOCK, 2),
        whole(3, register::ENERGY_IMPORT, 2),
        whole(3, LogicalName([1, 2, 3, 4, 5, 6]), 2),
        whole(7, profile::BLOCK_LOAD, 3),
    ];
    line.session.client().get_with_list(&asked).unwrap();
    let Answer::Values(values) = line.answer().unwrap() else { panic!() };
    assert_eq!(values.len(), 4);
    assert_eq!(values[2], Err(DataAccessResult::ObjectUndefined));
    assert!(rows(values[3].as_ref().unwrap()) > 3);
}

#[test]
fn a_relay_is_opened_and_closed_and_read_back() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let mut line = Line::new(&meter, UTILITY, utility());
        line.associate().unwrap();
        let zero = encoded(|writer| {
            writer.i8(0);
        });
        for (method, state, on) in [(1, 0, false), (2, 1, true)] {
            let done = line.act(70, control::RELAY, method, Data::new(&zero).unwrap()).unwrap();
            assert!(matches!(done, Answer::Invoked(_)));
            assert_eq!(line.get(70, control::RELAY, 2).data().value(), Value::Bool(on));
            assert_eq!(line.get(70, control::RELAY, 3).data().value(), Value::Enum(state));
        }
        assert_eq!(meter.notes("relay").len(), 2);
    }
}

#[test]
fn the_clock_is_set_and_a_long_value_goes_in_blocks() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let mut line = Line::new(&meter, UTILITY, utility());
        line.associate().unwrap();
        let ahead = time(&line.get(8, CLOCK, 2)).plus_seconds(90).unwrap();
        let value = encoded(|writer| {
            writer.octet_string(&ahead.0);
        });
        assert_eq!(line.set(8, CLOCK, 2, Data::new(&value).unwrap()), Answer::Written);
        let after = time(&line.get(8, CLOCK, 2));
        assert!(after.0[..7] >= ahead.0[..7], "{after:?} {ahead:?}");
    }
    // So short that even the clock takes several blocks.
    let Some(meter) = Meter::start(Make::Ours, &["--max-pdu", "98"]) else { return };
    let mut line = Line::new(&meter, UTILITY, utility());
    line.associate().unwrap();
    let long = encoded(|writer| {
        writer.octet_string(&[7; 150]);
    });
    line.session.client().set(whole(8, CLOCK, 2), Data::new(&long).unwrap()).unwrap();
    assert_eq!(line.answer().unwrap(), Answer::Written);
    assert_eq!(meter.notes("write")[0]["hex"], hex::encode(&long), "whole");
}

#[test]
fn an_image_goes_over_in_blocks_is_verified_and_activated() {
    for make in MAKES {
        let Some(meter) = Meter::start(make, &[]) else { return };
        let config = utility();
        let mut line = Line::new(&meter, UTILITY, config);
        line.associate().unwrap();
        let image: Vec<u8> = (0..=255).cycle().take(1003).collect();
        let Value::U32(block_len) = line.get(18, control::IMAGE_TRANSFER, 2).data().value() else { panic!() };
        let yes = encoded(|writer| {
            writer.bool(true);
        });
        assert_eq!(line.set(18, control::IMAGE_TRANSFER, 5, Data::new(&yes).unwrap()), Answer::Written);
        let start = encoded(|writer| {
            writer.structure(2).octet_string(b"TEST-1").u32(u32::try_from(image.len()).unwrap());
        });
        line.act(18, control::IMAGE_TRANSFER, 1, Data::new(&start).unwrap()).unwrap();
        for (number, block) in (0..).zip(image.chunks(block_len as usize)) {
            let block = encoded(|writer| {
                writer.structure(2).u32(number).octet_string(block);
            });
            line.act(18, control::IMAGE_TRANSFER, 2, Data::new(&block).unwrap()).unwrap();
        }
        let zero = encoded(|writer| {
            writer.i8(0);
        });
        let mut verified = line.act(18, control::IMAGE_TRANSFER, 3, Data::new(&zero).unwrap());
        while verified == Err((Error::Action(ActionResult::TemporaryFailure), Effect::None)) {
            verified = line.act(18, control::IMAGE_TRANSFER, 3, Data::new(&zero).unwrap());
        }
        verified.unwrap();
        assert_eq!(line.get(18, control::IMAGE_TRANSFER, 6).data().value(), Value::Enum(3), "verified");
        line.act(18, control::IMAGE_TRANSFER, 4, Data::new(&zero).unwrap()).unwrap();
        assert_eq!(meter.notes("image_activated").len(), 1);
    }
}

#[test]
fn new_keys_hold_from_the_next_association_on() {
    let Some(meter) = Meter::start(Make::Ours, &[]) else { return };
    let mut line = Line::new(&meter, UTILITY, utility());
    line.associate().unwrap();
    let (kek, new) = (Key::new(GUEK), Key::new([0x77; 16]));
    let mut transfer = vec![];
    emit_key_transfer(&[(KeyId::Guek, kek.wrap(&new))], &mut transfer);
    let setup = UTILITY.security_setup.unwrap();
    line.act(64, setup, 2, Data::new(&transfer).unwrap()).unwrap();
    line.get(8, CLOCK, 2);
    line.release();
    let error = Line::new(&meter, UTILITY, utility()).associate().unwrap_err();
    assert!(matches!(error, Error::Exception(_) | Error::Rejected { .. }), "{error}");
    let mut config = utility();
    config.protection = Some(Protection::new(AssociationKeys::new(Keys::new([0x77; 16], GAK))));
    let mut line = Line::new(&meter, UTILITY, config);
    line.associate().unwrap();
    line.get(8, CLOCK, 2);
}

/// A line on which the `n`th answer of the meter has a fault. Public association, counter and release take three
/// answers, AARE and pass 4 two: the first request of the utility client is answered by the sixth.
fn faulty(make: Make, args: &[&str]) -> Option<(Meter, Line)> {
    let meter = Meter::start(make, args)?;
    let mut line = Line::new(&meter, UTILITY, utility());
    line.associate().unwrap();
    Some((meter, line))
}

#[test]
fn a_read_whose_answer_is_lost_garbled_or_forged_is_asked_again() {
    for fault in ["silent@6", "flip@6", "garbage@6", "stale@6"] {
        let Some((meter, mut line)) = faulty(Make::Ours, &["--fault", fault]) else { return };
        let value = line.get(3, register::ENERGY_IMPORT, 2);
        assert!(matches!(value.data().value(), Value::U32(_)));
        assert!(line.aside.contains(&Event::Repeated), "{fault}: {:?}", line.aside);
        assert_eq!(meter.notes("fault").len(), 1, "{fault}");
    }
}

#[test]
fn an_action_whose_answer_is_lost_is_never_sent_again() {
    for fault in ["silent@6", "flip@6", "drop@6"] {
        let Some((meter, mut line)) = faulty(Make::Ours, &["--fault", fault]) else { return };
        let zero = encoded(|writer| {
            writer.i8(0);
        });
        let (error, effect) = line.act(70, control::RELAY, 1, Data::new(&zero).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. } | Error::Disconnected), "{fault}: {error}");
        assert_eq!(effect, Effect::Unknown);
        assert_eq!(meter.notes("relay").len(), 1, "{fault}");
    }
}

#[test]
fn a_push_between_question_and_answer_is_handed_out_and_not_taken_for_it() {
    let Some((_meter, mut line)) = faulty(Make::Ours, &["--fault", "push%1"]) else { return };
    for _ in 0..3 {
        let value = line.get(3, register::ENERGY_IMPORT, 2);
        assert!(matches!(value.data().value(), Value::U32(_)));
    }
    let pushes = line
        .aside
        .iter()
        .filter(|event| matches!(event, Event::Pushed(Push::Received(apdu)) if apdu[0] == 0xdb));
    assert!(pushes.count() >= 3, "{:?}", line.aside);
}

#[test]
fn a_counter_that_is_behind_is_raised_once_and_the_question_asked_again() {
    let Some((meter, mut line)) = faulty(Make::Ours, &["--fault", "behind@6"]) else { return };
    let before = counter_of(&mut line);
    let value = line.get(3, register::ENERGY_IMPORT, 2);
    assert!(matches!(value.data().value(), Value::U32(_)));
    assert!(counter_of(&mut line) > before + 1000);
    assert!(line.aside.iter().any(|event| matches!(event, Event::Resynchronised { .. })), "{:?}", line.aside);
    assert!(meter.notes("associated").iter().filter(|note| note["client"] == 48).count() == 2);
    let stale: [(&[&str], &str); 2] = [(&["--stale-ic", "get"], "get"), (&["--stale-ic", "aarq"], "aarq")];
    for (args, what) in stale {
        let Some((meter, mut line)) = faulty(Make::Independent, args) else { return };
        line.get(3, register::ENERGY_IMPORT, 2);
        assert_eq!(meter.notes("stale_ic").len(), 1, "{what}");
    }
}

#[test]
fn a_counter_behind_makes_an_action_fail_and_the_next_one_work() {
    let Some((meter, mut line)) = faulty(Make::Ours, &["--fault", "behind@6"]) else { return };
    let zero = encoded(|writer| {
        writer.i8(0);
    });
    let (error, effect) = line.act(70, control::RELAY, 1, Data::new(&zero).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Exception(_)), "{error}");
    assert_eq!(effect, Effect::Unknown, "nothing proves that the meter said that");
    assert_eq!(line.get(70, control::RELAY, 2).data().value(), Value::Bool(true));
    assert!(meter.notes("relay").is_empty());
}

#[test]
fn a_block_left_out_is_noticed() {
    let Some((_meter, mut line)) = faulty(Make::Ours, &["--max-pdu", "300", "--fault", "skip@7"]) else {
        return;
    };
    let error = line.try_get(whole(7, profile::BLOCK_LOAD, 2)).unwrap_err();
    assert_eq!(error, (Error::Block { expected: 2, found: 3 }, Effect::None));
    assert!(rows(&line.get(7, profile::BLOCK_LOAD, 2)) > 100, "the association goes on");
}

#[test]
fn a_connection_that_ends_or_is_slow_is_told_apart() {
    let Some((_meter, mut line)) = faulty(Make::Ours, &["--fault", "drop@6"]) else { return };
    assert_eq!(line.try_get(whole(8, CLOCK, 2)), Err((Error::Disconnected, Effect::None)));
    line.until(|event| matches!(event, Event::Closed(Some(Error::Disconnected))).then_some(()));
    let Some((_meter, mut line)) = faulty(Make::Ours, &["--delay-ms", "150"]) else { return };
    line.get(8, CLOCK, 2);
    assert!(line.aside.is_empty());
}
