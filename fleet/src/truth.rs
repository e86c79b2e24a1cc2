//! The truth file: what a fleet is, what it sent, what was acknowledged and what each meter really used.
//!
//! JSON lines, each a whole object written at once, so that a process that is killed leaves whole lines. A reader
//! skips kinds of line and keys it does not know. Instants are whole seconds since 1970 in simulated time, days are
//! ISO 8601, energies Wh, money paise. `line` is the kind:
//!
//! | `line` | keys | written |
//! |---|---|---|
//! | `fleet` | `format` (1), `seed`, `meters`, `zone`, `from` | first |
//! | `meter` | `meter` (number in the fleet), `title`, `serial`, `account`, `tariff`, `sanctioned_w`, `from` (first charged day), `opening_register_wh`, `opening_balance_paise`, `period_s`, `profile`, `policy` | then, once a meter |
//! | `used` | `meter`, `day`, `first_end` (end of the first interval), `period_s`, `wh` (each interval), `register_wh` (at the end of the day) | when a day is planned; of a meter that answers, whose relay has a say in it, when the day is over |
//! | `relay` | `meter`, `at`, `state` (`connected`, `disconnected`, `ready`), `cause` (`remote`: the head-end, `meter`: its load limit, `button`), `limit_w` (the limit that was passed, or null) | before the move is answered |
//! | `fault` | `kind`, `meter` (for `newest_first` the first of those behind the concentrator), `from`, `until`; the kinds are those whose effect can be looked for one by one: `voltage_sag`, `garbage_time` (until the right stamp), `newest_first` (until the flush), `clock_drift` (until it is set), `key_change`, `silence` (until it is back) | when a day is planned: a silence when it ends, the others when they begin |
//! | `frame` | (this and the next two only where the options ask for them) `digest` (of the bytes on the wire: BLAKE3, first 16 bytes), `meter`, `key_epoch` (1, or 2 after a change of keys), `counter` (null without ciphering), `kind` (`interval`, `daily`, `instant`, `event`), `transport` (`tcp`, `udp`, `mqtt`), `confirmed` (asks for a confirm), `sent`, `ends` (of its readings), `values` (channel to one value for each end, as they stand on the wire), `word` (event status word, hex), `garbage` (what is wrong with its stamp: `past`, `ahead`, `far_ahead`, and without `ends` and `values` `unspecified` and `impossible`) | before its first byte is sent |
//! | `again` | `digest`, `sent`, `why` (`duplicate`: a fault; `resent`: not acknowledged in time) | before it is sent again |
//! | `acknowledged` | `digest`, `how` (`confirmed`: the head-end has stored it; `published`: the broker has taken it on) | when the acknowledgement came |
//! | `recharge` | `account`, `paise`, `payment_id`, `outcome` (`posted`: booked; `exists`: booked before, as after an answer that was lost; any other word: not booked) | by who drives, after the answer |
//! | `day_closed` | `day` | by who drives, when all accounts are closed |
//!
//! A fleet that is started again appends to its file and may write `meter`, `used`, `fault` and `frame` lines a second time;
//! they are equal to the first, but that the last `used` of a day holds where its meter came to answer on that day, and a
//! `frame` is the same frame where the digest is. It finds its relays as the `relay` lines leave them. What is in force of two values of
//! one key is the one whose frame has the higher (key epoch, counter, digest). A stamp more than 15 minutes ahead of
//! `sent` moves nothing, and one that is no time is not taken at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use codec::cosem::disconnect_control::ControlState;
use model::{AccountNumber, CivilDay, Digest, Instant, Paise, Source};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::Error;
use crate::encode::Frame;
use crate::options::FleetOptions;
use crate::plan::{Garbage, Measured};
use crate::provision::SimulatedMeter;
use crate::supply::{Cause, Move};

/// The truth file of a fleet, or nothing where none is kept. Clones write to the same file.
#[derive(Clone, Debug, Default)]
pub struct Truth(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: Mutex<File>,
    /// Whether frames and their acknowledgements are written down.
    of_frames: bool,
}

/// A fault that is told of by itself, of one meter or of those behind one concentrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Its name, as in the module's table.
    pub kind: &'static str,
    /// When it begins.
    pub from: Instant,
    /// When it is over.
    pub until: Instant,
}

impl Struck {
    pub(crate) fn new(kind: &'static str, from: Instant, until: Instant) -> Struck {
        Struck { kind, from, until }
    }
}

/// Why a frame is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    Duplicate,
    Resent,
}

/// Who acknowledged a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Confirmed,
    Published,
}

/// One line, as the module's table has it.
#[derive(serde::Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line<'a> {
    Fleet {
        format: u8,
        seed: u64,
        meters: u32,
        zone: &'a str,
        from: String,
    },
    Meter {
        meter: u32,
        title: String,
        serial: &'a str,
        account: &'a str,
        tariff: &'a str,
        sanctioned_w: u32,
        from: String,
        opening_register_wh: i64,
        opening_balance_paise: i64,
        period_s: u32,
        profile: &'a str,
        policy: &'a str,
    },
    Used {
        meter: u32,
        day: String,
        first_end: i64,
        period_s: i64,
        wh: Vec<i64>,
        register_wh: i64,
    },
    Relay {
        meter: u32,
        at: i64,
        state: &'a str,
        cause: Cause,
        limit_w: Option<i64>,
    },
    Fault {
        kind: &'a str,
        meter: u32,
        from: i64,
        until: i64,
    },
    Frame {
        digest: String,
        meter: u32,
        key_epoch: u16,
        counter: Option<u32>,
        kind: &'a str,
        transport: &'a str,
        confirmed: bool,
        sent: i64,
        ends: Vec<i64>,
        values: ByChannel<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        word: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        garbage: Option<&'a str>,
    },
    Again {
        digest: String,
        sent: i64,
        why: Why,
    },
    Acknowledged {
        digest: String,
        how: How,
    },
    Recharge {
        account: &'a str,
        paise: i64,
        payment_id: &'a str,
        outcome: &'a str,
    },
    DayClosed {
        day: String,
    },
}

/// The readings of a frame turned around: each channel with its values.
struct ByChannel<'a>(&'a Frame);

impl Serialize for ByChannel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((_, first)) = self.0.readings.first() else {
            return serializer.serialize_map(Some(0))?.end();
        };
        let mut map = serializer.serialize_map(Some(first.as_slice().len()))?;
        for (channel, _) in first.iter() {
            let values: Vec<Option<i64>> =
                self.0.readings.iter().map(|(_, values)| values.get(channel)).collect();
            map.serialize_entry(channel.name(), &values)?;
        }
        map.end()
    }
}

impl Truth {
    /// Opens the file, and writes its head where it is new. A line that was cut off by a kill is taken out.
    ///
    /// # Errors
    /// When the file cannot be written, or is that of another fleet.
    pub fn open(path: &Path, options: &FleetOptions, meters: &[SimulatedMeter]) -> Result<Truth, Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut head = Vec::new();
        write_line(&mut head, &head_of(options));
        if !cut_torn_tail(&file, &head).map_err(failed)? {
            let expected = String::from_utf8_lossy(&head).trim_end().to_owned();
            return Err(Error::OtherTruth { path: path.to_owned(), expected });
        }
        let is_new = file.metadata().map_err(failed)?.len() == 0;
        let truth = Truth(Some(Arc::new(Kept {
            path: path.to_owned(),
            file: Mutex::new(file),
            of_frames: options.truth_of_frames,
        })));
        if is_new {
            meters.iter().for_each(|meter| write_line(&mut head, &line_of(meter)));
            truth.append(&head)?;
        }
        Ok(truth)
    }

    /// A recharge was answered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn recharge(
        &self,
        account: &AccountNumber,
        amount: Paise,
        payment_id: &str,
        outcome: &str,
    ) -> Result<(), Error> {
        self.write(&Line::Recharge { account: account.as_str(), paise: amount.0, payment_id, outcome })
    }

    /// A civil day was closed for all accounts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn day_closed(&self, day: CivilDay) -> Result<(), Error> {
        self.write(&Line::DayClosed { day: day.to_string() })
    }

    /// What a meter really used on a day.
    pub(crate) fn used(&self, meter: u32, measured: &Measured) -> Result<(), Error> {
        if self.0.is_none() {
            return Ok(());
        }
        let used = &measured.used;
        self.write(&Line::Used {
            meter,
            day: used.day.to_string(),
            first_end: used.end_of(0).seconds(),
            period_s: used.period_s,
            wh: used.intervals.iter().map(|interval| interval.wh).collect(),
            register_wh: measured.registers_after().0,
        })
    }

    /// A relay moves.
    pub(crate) fn relay(&self, meter: u32, moved: &Move) -> Result<(), Error> {
        let Move { at, state, cause, limit_w } = *moved;
        let state = state_name(state);
        self.write(&Line::Relay { meter, at: at.seconds(), state, cause, limit_w })
    }

    /// The moves that the file tells of, by meter.
    pub(crate) fn moves(&self) -> Result<BTreeMap<u32, Vec<Move>>, Error> {
        let Some(kept) = &self.0 else { return Ok(BTreeMap::new()) };
        let failed = |source| Error::Write { path: kept.path.clone(), source };
        let mut moves: BTreeMap<u32, Vec<Move>> = BTreeMap::new();
        let mut lines = BufReader::new(File::open(&kept.path).map_err(failed)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            if line.starts_with(RELAY_LINE)
                && let Ok(told) = serde_json::from_slice::<Told>(&line)
            {
                let Told { meter, at, state, cause, limit_w } = told;
                let moved = Move { at: Instant::from_seconds(at), state: state_of(&state), cause, limit_w };
                moves.entry(meter).or_default().push(moved);
            }
            line.clear();
        }
        Ok(moves)
    }

    /// A fault of a meter, or of the concentrator whose first meter it is.
    pub(crate) fn struck(&self, meter: u32, struck: &Struck) -> Result<(), Error> {
        let Struck { kind, from, until } = *struck;
        self.write(&Line::Fault { kind, meter, from: from.seconds(), until: until.seconds() })
    }

    /// A frame that is about to be sent for the first time.
    pub(crate) fn frame(&self, frame: &Frame, transport: Source) -> Result<(), Error> {
        if !self.tells_of_frames() {
            return Ok(());
        }
        self.write(&Line::Frame {
            digest: frame.digest.to_string(),
            meter: frame.meter,
            key_epoch: frame.key_epoch,
            counter: frame.counter,
            kind: frame.kind.name(),
            transport: transport.name(),
            confirmed: frame.confirmed,
            sent: frame.sent.seconds(),
            ends: frame.readings.iter().map(|(end, _)| end.seconds()).collect(),
            values: ByChannel(frame),
            word: frame.event_word.map(|word| hex::encode(word.0)),
            garbage: frame.garbage.map(Garbage::name),
        })
    }

    /// A frame that is about to be sent once more.
    pub(crate) fn again(&self, frame: &Frame, why: Why) -> Result<(), Error> {
        if !self.tells_of_frames() {
            return Ok(());
        }
        self.write(&Line::Again { digest: frame.digest.to_string(), sent: frame.sent.seconds(), why })
    }

    /// A frame was acknowledged.
    pub(crate) fn acknowledged(&self, digest: Digest, how: How) -> Result<(), Error> {
        if !self.tells_of_frames() {
            return Ok(());
        }
        self.write(&Line::Acknowledged { digest: digest.to_string(), how })
    }

    fn tells_of_frames(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.of_frames)
    }

    fn write(&self, line: &Line<'_>) -> Result<(), Error> {
        if self.0.is_none() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(256);
        write_line(&mut bytes, line);
        self.append(&bytes)
    }

    /// One write for the whole line: the file is opened for appending, so it is there whole or not at all.
    fn append(&self, lines: &[u8]) -> Result<(), Error> {
        let Some(kept) = &self.0 else { return Ok(()) };
        let mut file = kept.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines).map_err(|source| Error::Write { path: kept.path.clone(), source })
    }
}

fn head_of(options: &FleetOptions) -> Line<'_> {
    let (seed, meters, zone) = (options.seed, options.meters, options.calendar.zone_name());
    Line::Fleet { format: 1, seed, meters, zone, from: options.from.to_string() }
}

fn line_of(meter: &SimulatedMeter) -> Line<'_> {
    Line::Meter {
        meter: meter.index,
        title: meter.title.to_string(),
        serial: &meter.serial,
        account: meter.account.as_str(),
        tariff: meter.category.tariff(),
        sanctioned_w: meter.sanctioned_w,
        from: meter.from.to_string(),
        opening_register_wh: meter.opening_register_wh,
        opening_balance_paise: meter.opening_balance.0,
        period_s: meter.period_s,
        profile: &meter.profile,
        policy: meter.policy.name(),
    }
}

fn write_line(out: &mut Vec<u8>, line: &Line<'_>) {
    serde_json::to_writer(&mut *out, line).expect("numbers and strings are JSON, and memory takes them");
    out.push(b'\n');
}

/// How the line of a move begins.
const RELAY_LINE: &[u8] = br#"{"line":"relay","#;

/// A move as the file tells it.
#[derive(serde::Deserialize)]
struct Told {
    meter: u32,
    at: i64,
    state: String,
    cause: Cause,
    limit_w: Option<i64>,
}

fn state_name(state: ControlState) -> &'static str {
    match state {
        ControlState::Disconnected => "disconnected",
        ControlState::ReadyForReconnection => "ready",
        ControlState::Connected | ControlState::Other(_) => "connected",
    }
}

fn state_of(name: &str) -> ControlState {
    match name {
        "disconnected" => ControlState::Disconnected,
        "ready" => ControlState::ReadyForReconnection,
        _ => ControlState::Connected,
    }
}

/// Takes out what follows the last whole line; false where the file begins otherwise than it must.
fn cut_torn_tail(mut file: &File, head: &[u8]) -> std::io::Result<bool> {
    let length = file.metadata()?.len();
    let mut begin = Vec::new();
    file.take(head.len() as u64).read_to_end(&mut begin)?;
    if !begin.contains(&b'\n') {
        file.set_len(0)?;
        return Ok(head.starts_with(&begin));
    }
    if begin != head {
        return Ok(false);
    }
    let mut end = length;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let piece = &mut block[..(end - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|&byte| byte == b'\n') {
            file.set_len(from + at as u64 + 1)?;
            break;
        }
        end = from;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::provision;

    fn open(path: &Path, seed: u64) -> Result<Truth, Error> {
        let options = FleetOptions::new(seed, 2, "2026-06-01".parse().unwrap());
        let meters = provision(seed, 2, options.from, &options.mix);
        Truth::open(path, &options, &meters)
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_file_begins_with_the_fleet_and_its_meters_and_takes_what_the_driver_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let truth = open(&path, 7).unwrap();
        let account = "PUVVNL0000000001".parse().unwrap();
        truth.recharge(&account, Paise(50_000), "pay \"1\"", "posted").unwrap();
        truth.day_closed("2026-06-01".parse().unwrap()).unwrap();
        let lines = lines(&path);
        let kinds: Vec<&str> = lines.iter().map(|line| line["line"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["fleet", "meter", "meter", "recharge", "day_closed"]);
        assert_eq!((&lines[0]["seed"], &lines[0]["zone"]), (&7.into(), &"Asia/Kolkata".into()));
        assert_eq!((&lines[3]["paise"], &lines[3]["payment_id"]), (&50_000.into(), &"pay \"1\"".into()));
        assert!(lines[1].get("guek").is_none(), "no key is written down");
    }

    #[test]
    fn a_line_cut_off_by_a_kill_is_taken_out_and_the_file_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        drop(open(&path, 7).unwrap());
        let whole = std::fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn.extend_from_slice(b"{\"line\":\"day_cl");
        std::fs::write(&path, &torn).unwrap();
        let truth = open(&path, 7).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        truth.day_closed("2026-06-01".parse().unwrap()).unwrap();
        assert_eq!(lines(&path).len(), 4);
        std::fs::write(&path, &whole[..10]).unwrap();
        open(&path, 7).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn the_file_of_another_fleet_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        drop(open(&path, 7).unwrap());
        assert!(matches!(open(&path, 8), Err(Error::OtherTruth { .. })));
        assert_eq!(lines(&path).len(), 3);
    }
}
