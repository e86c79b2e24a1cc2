//! Sidecars: what a commit wrote, with digests, synced after it. The last sidecar is the durable version of a table;
//! whatever the log holds above it was on its way when the power went.
//!
//! They lie in `_urja` beside `_delta_log`: `<version>.json` for a commit, `<version>.checkpoint.json` for a checkpoint
//! of the log. A sidecar carries the digest of itself, and only one spelling of it is valid, so that any flipped byte
//! shows.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::{Error, Fault, Table};

/// Folder of the sidecars in a table's folder.
pub(crate) const FOLDER: &str = "_urja";
/// Layout of the sidecars; another one is refused.
const FORMAT: u32 = 1;

/// What a version of a table, or a checkpoint of its log, put on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sidecar {
    format: u32,
    pub(crate) table: String,
    pub(crate) version: i64,
    /// Position the table holds with this version.
    pub(crate) position: u64,
    /// The log entry; for a checkpoint the file of the checkpoint.
    pub(crate) log: Described,
    /// Data files; for a checkpoint the hint that names it.
    pub(crate) files: Vec<Described>,
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    /// Path under the table's folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Digest, hexadecimal.
    pub(crate) blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sidecar: Sidecar,
    blake3: String,
}

impl Sidecar {
    pub(crate) fn new(
        table: Table,
        version: i64,
        position: u64,
        log: Described,
        files: Vec<Described>,
    ) -> Sidecar {
        Sidecar { format: FORMAT, table: table.name().to_owned(), version, position, log, files }
    }

    fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("a sidecar is plain text and numbers");
        let sealed = Sealed { sidecar: self.clone(), blake3: blake3::hash(&body).to_hex().to_string() };
        let mut bytes = serde_json::to_vec(&sealed).expect("a sidecar is plain text and numbers");
        bytes.push(b'\n');
        bytes
    }

    /// The sidecar, if the bytes are one exactly as it is written.
    fn decode(bytes: &[u8]) -> Option<Sidecar> {
        let sealed: Sealed = serde_json::from_slice(bytes).ok()?;
        (sealed.sidecar.format == FORMAT && sealed.sidecar.encode() == bytes).then_some(sealed.sidecar)
    }

    /// Reads the sidecar of `version` at `path`.
    pub(crate) fn read(path: &Path, table: Table, version: i64) -> Result<Sidecar, Fault> {
        let bytes = read(path)?;
        Sidecar::decode(&bytes)
            .filter(|sidecar| sidecar.table == table.name() && sidecar.version == version)
            .ok_or(Fault::NotASidecar)
    }

    /// Writes it, durably.
    pub(crate) fn write(&self, disk: &Disk, path: &Path) -> Result<(), Error> {
        disk.replace(path, &self.encode())
    }
}

impl Described {
    pub(crate) fn of_bytes(path: String, bytes: &[u8]) -> Described {
        Described { path, bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }

    /// Reads the file again and compares it; gives its length.
    pub(crate) fn check(&self, dir: &Path) -> Result<u64, Fault> {
        self.check_length(dir)?;
        let mut hasher = blake3::Hasher::new();
        let mut file = fs::File::open(dir.join(&self.path)).map_err(|error| unreadable(&error))?;
        let read = std::io::copy(&mut file, &mut hasher).map_err(|error| unreadable(&error))?;
        if hasher.finalize().to_hex().as_str() == self.blake3 { Ok(read) } else { Err(Fault::Digest) }
    }

    /// Compares the file's length only.
    pub(crate) fn check_length(&self, dir: &Path) -> Result<(), Fault> {
        check_length(&dir.join(&self.path), self.bytes)
    }
}

/// Whether a file is there with so many bytes.
pub(crate) fn check_length(path: &Path, expected: u64) -> Result<(), Fault> {
    let found = fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    match found {
        0 if expected > 0 => Err(Fault::Empty),
        _ if found != expected => Err(Fault::Length { expected, found }),
        _ => Ok(()),
    }
}

/// Path of the sidecar of a version.
pub(crate) fn path(dir: &Path, version: i64) -> PathBuf {
    dir.join(FOLDER).join(format!("{version:020}.json"))
}

/// Path of the sidecar of a checkpoint.
pub(crate) fn checkpoint_path(dir: &Path, version: i64) -> PathBuf {
    dir.join(FOLDER).join(format!("{version:020}.checkpoint.json"))
}

/// Folder of what a power cut left behind.
pub(crate) fn quarantine(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join("quarantine")
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_sidecar_shows() {
        let log = Described::of_bytes("_delta_log/00000000000000000001.json".into(), b"{}");
        let file = Described::of_bytes("usage_date=2026-06-01/x.parquet".into(), b"PAR1");
        let bytes = Sidecar::new(Table::IntervalReading, 1, 40, log, vec![file]).encode();
        assert!(Sidecar::decode(&bytes).is_some());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Sidecar::decode(&flipped), None, "byte {at} bit {bit}");
            }
        }
    }
}
