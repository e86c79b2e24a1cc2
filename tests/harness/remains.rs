//! What a head-end that is no more left behind: read from its files, and from what the fleet knows was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use model::{Fact, Position, Record};
use serde_json::Value;

/// Follows the truth file of a fleet: what is under way and what was acknowledged.
pub struct Witness {
    truth: PathBuf,
    /// How far the file has been read.
    read: u64,
    /// Frames sent and not yet acknowledged by anyone, with their transport.
    sent: BTreeMap<String, String>,
    /// Acknowledged by the head-end.
    pub confirmed: BTreeSet<String>,
    /// Taken on by the broker.
    pub published: BTreeSet<String>,
}

impl Witness {
    /// Begins at the head of the file.
    pub fn new(truth: &Path) -> Witness {
        Witness {
            truth: truth.to_owned(),
            read: 0,
            sent: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            published: BTreeSet::new(),
        }
    }

    /// Bytes of the file by now.
    pub fn mark(&self) -> u64 {
        std::fs::metadata(&self.truth).map_or(0, |file| file.len())
    }

    /// Reads on. Of what was sent after `mark` nothing counts as sent: the head-end was gone by then.
    pub fn follow(&mut self, mark: u64) {
        let Ok(mut file) = std::fs::File::open(&self.truth) else { return };
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut lines = std::io::BufReader::new(file.take(u64::MAX));
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            let at = self.read;
            self.read += line.len() as u64;
            self.take(&serde_json::from_str(&line).unwrap(), at < mark);
            line.clear();
        }
    }

    fn take(&mut self, line: &Value, counts: bool) {
        let digest = line["digest"].as_str().unwrap_or_default().to_owned();
        match line["line"].as_str().unwrap_or_default() {
            "frame" if counts && (line["confirmed"] == true || line["transport"] == "mqtt") => {
                self.sent.insert(digest, line["transport"].as_str().unwrap_or_default().to_owned());
            }
            "acknowledged" => {
                self.sent.remove(&digest);
                let how = if line["how"] == "confirmed" { &mut self.confirmed } else { &mut self.published };
                how.insert(digest);
            }
            _ => {}
        }
    }

    /// Frames of a transport that were sent, and that nobody has acknowledged.
    pub fn under_way(&self, transport: &str) -> usize {
        self.sent.values().filter(|by| *by == transport).count()
    }
}

/// The files of a data directory that no process owns.
#[derive(Debug, Default)]
pub struct Remains {
    /// Last record of the journal.
    pub last: u64,
    /// Last record that the journal proves to have been synced.
    pub proven: u64,
    /// Last record whose rows every table holds by its sidecars.
    pub committed: u64,
    /// Last record whose rows some table holds.
    pub committed_somewhere: u64,
    /// Files of a commit that did not come to its end: data files or a log entry above the last sidecar.
    pub open_files: usize,
    /// Position of the checkpoint.
    pub checkpoint: u64,
    /// A checkpoint that was being written.
    pub unfinished_checkpoint: bool,
    /// Digests of the frames in the journal after the position asked for, with their positions.
    pub frames: Vec<(u64, String)>,
}

impl Remains {
    /// Looks at a data directory; lists the frames after position `after`.
    pub fn of(data: &Path, after: u64) -> Remains {
        let mut remains = Remains { last: after, ..Remains::default() };
        for group in journal::read(&data.join("journal"), Position(after)).unwrap() {
            let group = group.unwrap();
            remains.proven = remains.proven.max(group.header.durable_upto.0);
            for (position, bytes) in group.records() {
                remains.last = position.0;
                remains.frames.extend(digest_of(position, bytes).map(|digest| (position.0, digest)));
            }
        }
        remains.tables(&data.join("lake"));
        for name in names(&data.join("checkpoint")) {
            match name.strip_suffix(".checkpoint").and_then(|digits| digits.parse().ok()) {
                Some(position) => remains.checkpoint = remains.checkpoint.max(position),
                None => remains.unfinished_checkpoint = true,
            }
        }
        remains
    }

    fn tables(&mut self, lake: &Path) {
        let mut positions = Vec::new();
        for table in names(lake) {
            let dir = lake.join(table);
            let sealed = highest(&dir.join("_urja"));
            let (version, position) =
                sealed.map_or((0, 0), |version| (version, sealed_position(&dir, version)));
            positions.push(position);
            self.open_files += usize::from(highest(&dir.join("_delta_log")) > Some(version));
            self.open_files +=
                data_files(&dir).iter().filter(|name| first_record(name) > Some(position)).count();
        }
        self.committed = positions.iter().copied().min().unwrap_or_default();
        self.committed_somewhere = positions.iter().copied().max().unwrap_or_default();
    }

    /// Where a kill fell: the narrowest of the windows it was in.
    pub fn place(&self, witness: &Witness) -> Place {
        let acknowledged = |digest: &String| witness.confirmed.contains(digest);
        let unproven = || self.frames.iter().filter(|(position, _)| *position > self.proven);
        if self.unfinished_checkpoint || self.committed > self.checkpoint {
            Place::Publishing
        } else if self.committed_somewhere > self.committed || self.open_files > 0 {
            Place::Committing
        } else if unproven().any(|(_, digest)| !acknowledged(digest) && !witness.published.contains(digest)) {
            Place::Written
        } else if ["tcp", "udp"].iter().any(|transport| witness.under_way(transport) > 0) {
            Place::Sent
        } else if self.last > self.committed {
            Place::Uncommitted
        } else {
            Place::Idle
        }
    }
}

/// Where a kill fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Every table was committed, and the checkpoint was not yet published.
    Publishing,
    /// Between the first file of a lake commit and its last sidecar.
    Committing,
    /// Frames were in the journal and not yet acknowledged.
    Written,
    /// Frames were sent and not yet in the journal.
    Sent,
    /// Everything sent was acknowledged, and some of it was not in the lake.
    Uncommitted,
    /// Nothing was under way.
    Idle,
}

/// Digest of the frame in a record, if there is one.
fn digest_of(position: Position, bytes: &[u8]) -> Option<String> {
    match Record::decode(position, bytes).unwrap().fact {
        Fact::Frame(frame) => Some(frame.digest.to_string()),
        Fact::Repeated(frame) => Some(frame.digest.to_string()),
        _ => None,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Highest version of the `<version>.json` in a folder.
fn highest(dir: &Path) -> Option<u64> {
    names(dir).iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).max()
}

fn sealed_position(table: &Path, version: u64) -> u64 {
    let file = table.join(format!("_urja/{version:020}.json"));
    let sidecar: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    sidecar["sidecar"]["position"].as_u64().unwrap()
}

/// Names of the Parquet files of a table, whatever day they are of.
fn data_files(table: &Path) -> Vec<String> {
    let days =
        names(table).into_iter().filter(|name| name.starts_with("usage_date=")).map(|day| table.join(day));
    let mut files: Vec<String> = days.flat_map(|day| names(&day)).chain(names(table)).collect();
    files.retain(|name| name.ends_with(".parquet"));
    files
}

/// First record that a data file was written for: its name says it.
fn first_record(name: &str) -> Option<u64> {
    name.strip_suffix(".parquet")?.rsplit('-').nth(2)?.parse().ok()
}
