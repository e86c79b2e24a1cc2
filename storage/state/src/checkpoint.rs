//! Writing, finding and checking checkpoint files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use model::{Position, Section};

use crate::error::{Error, Fault};
use crate::layout::{self, Entry, FIXED_BYTES};

const SUFFIX: &str = ".checkpoint";
const UNFINISHED: &str = ".checkpoint.new";
/// Checkpoints that stay: the newest, and one to go back to by hand.
const KEPT: usize = 2;
/// Sections are checked in pieces of this size.
const PIECE: usize = 1 << 20;

/// The state as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Last position folded into it.
    pub position: Position,
    /// Its sections, in the order they were written.
    pub sections: Vec<Section>,
    /// The file.
    pub path: PathBuf,
}

/// What is in a sound checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Last position folded into it.
    pub position: Position,
    /// Size of the file.
    pub bytes: u64,
    /// Its sections, in the order they were written.
    pub sections: Vec<SectionSummary>,
}

/// One section of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionSummary {
    /// What it holds.
    pub name: String,
    /// Version of the record's layout.
    pub version: u16,
    /// Bytes of one record.
    pub record_size: u32,
    /// Number of records.
    pub records: u64,
    /// Bytes of all records.
    pub bytes: u64,
}

/// One file of a directory and what [`verify`] found in it.
#[derive(Debug)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// What is in it, or [`Error::Damaged`].
    pub result: Result<Summary, Error>,
}

/// Writes the state after `position` and makes it the newest checkpoint in `dir`, which is made if it is not there.
/// Keeps the one before and removes older ones. When it returns the checkpoint survives a power cut; when it fails
/// the one before is still the newest, unless only the last sync of the directory failed.
///
/// # Errors
/// [`Error::Behind`] when there is a checkpoint at a higher position, [`Error::Section`] when a section cannot be
/// written, [`Error::Sync`] after which the process stops, [`Error::Io`] for the rest.
pub fn write(dir: &Path, position: Position, sections: &[Section]) -> Result<PathBuf, Error> {
    create_dir(dir)?;
    let (mut positions, unfinished) = list(dir)?;
    if let Some(&newest) = positions.last().filter(|newest| **newest > position) {
        return Err(Error::Behind { position, newest });
    }
    for path in &unfinished {
        fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    let head = layout::encode(position, sections)?;
    let unfinished = dir.join(format!("{:020}{UNFINISHED}", position.0));
    let path = path_of(dir, position);
    if let Err(error) = fill(&unfinished, &head, sections) {
        // The space is wanted back; what stays goes with the next checkpoint.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
    sync_dir(dir)?;
    positions.retain(|other| *other != position);
    positions.push(position);
    for older in positions.iter().rev().skip(KEPT) {
        let older = path_of(dir, *older);
        fs::remove_file(&older).map_err(Error::io("remove", &older))?;
    }
    Ok(path)
}

/// Reads the newest checkpoint; `None` when there is none, unfinished ones aside.
///
/// # Errors
/// [`Error::Damaged`] when the newest one is damaged: going back to an older one is for a person to decide, because
/// the journal may not reach back to it.
pub fn latest(dir: &Path) -> Result<Option<Checkpoint>, Error> {
    let (positions, _) = match list(dir) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    let Some(&position) = positions.last() else { return Ok(None) };
    let path = path_of(dir, position);
    let mut opened = Opened::open(&path)?;
    let mut sections = Vec::with_capacity(opened.entries.len());
    for entry in std::mem::take(&mut opened.entries) {
        let mut bytes = Vec::with_capacity(entry.bytes as usize);
        opened.section(&entry, |piece| bytes.extend_from_slice(piece))?;
        let Entry { name, version, record_size, .. } = entry;
        sections.push(Section { name, version, record_size, bytes });
    }
    Ok(Some(Checkpoint { position, sections, path }))
}

/// Reads one checkpoint file, checks all of it, and says what is in it.
///
/// # Errors
/// [`Error::Damaged`] names the offset of the damaged part.
pub fn inspect(path: &Path) -> Result<Summary, Error> {
    let mut opened = Opened::open(path)?;
    let mut sections = Vec::with_capacity(opened.entries.len());
    for entry in std::mem::take(&mut opened.entries) {
        opened.section(&entry, |_| ())?;
        sections.push(SectionSummary {
            records: entry.bytes / u64::from(entry.record_size),
            name: entry.name,
            version: entry.version,
            record_size: entry.record_size,
            bytes: entry.bytes,
        });
    }
    Ok(Summary { position: opened.position, bytes: opened.offset, sections })
}

/// Checks every checkpoint of a directory, oldest first.
///
/// # Errors
/// Only when the directory cannot be listed; what is wrong with a file stands beside it.
pub fn verify(dir: &Path) -> Result<Vec<Checked>, Error> {
    let (positions, _) = list(dir)?;
    let check = |position: &Position| {
        let path = path_of(dir, *position);
        Checked { result: inspect(&path), path }
    };
    Ok(positions.iter().map(check).collect())
}

/// A file whose header and table are sound, being read.
struct Opened<'a> {
    path: &'a Path,
    file: File,
    position: Position,
    entries: Vec<Entry>,
    /// How far it has been read.
    offset: u64,
}

impl<'a> Opened<'a> {
    fn open(path: &'a Path) -> Result<Opened<'a>, Error> {
        let damaged = |offset, fault| Error::Damaged { path: path.to_owned(), offset, fault };
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("look at", path))?.len();
        if size < FIXED_BYTES as u64 {
            return Err(damaged(size, Fault::NotACheckpoint));
        }
        let mut fixed = [0; FIXED_BYTES];
        file.read_exact(&mut fixed).map_err(Error::io("read", path))?;
        let fixed = layout::decode_fixed(&fixed).map_err(|fault| damaged(0, fault))?;
        let table_end = (FIXED_BYTES + fixed.table_bytes) as u64;
        if size < table_end {
            return Err(damaged(0, Fault::Header));
        }
        let mut table = vec![0; fixed.table_bytes];
        file.read_exact(&mut table).map_err(Error::io("read", path))?;
        let entries = layout::decode_table(&fixed, &table).map_err(|fault| damaged(0, fault))?;
        if size != fixed.file_bytes {
            return Err(damaged(size.min(fixed.file_bytes), Fault::Size(fixed.file_bytes)));
        }
        match position_of(path) {
            Some(named) if named != fixed.position => Err(damaged(0, Fault::Position(fixed.position))),
            _ => Ok(Opened { path, file, position: fixed.position, entries, offset: table_end }),
        }
    }

    /// Reads the next section in pieces and checks it.
    fn section(&mut self, entry: &Entry, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        let begin = self.offset;
        let end = begin + entry.bytes;
        let mut piece = vec![0; PIECE.min(entry.bytes as usize)];
        let mut crc = 0;
        while self.offset < end {
            let length = (end - self.offset).min(PIECE as u64) as usize;
            self.file.read_exact(&mut piece[..length]).map_err(Error::io("read", self.path))?;
            crc = crc32c::crc32c_append(crc, &piece[..length]);
            take(&piece[..length]);
            self.offset += length as u64;
        }
        if crc == entry.crc {
            return Ok(());
        }
        let fault = Fault::Section(entry.name.clone());
        Err(Error::Damaged { path: self.path.to_owned(), offset: begin, fault })
    }
}

fn fill(path: &Path, head: &[u8], sections: &[Section]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(head).map_err(Error::io("write", path))?;
    // One large sync would hold up those of the journal, for which senders wait.
    for piece in sections.iter().flat_map(|section| section.bytes.chunks(PIECE)) {
        file.write_all(piece).map_err(Error::io("write", path))?;
        if piece.len() == PIECE {
            file.sync_data().map_err(Error::sync(path))?;
        }
    }
    file.sync_all().map_err(Error::sync(path))
}

fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent).inspect_err(|_| {
            // Whoever tries again must not find it made and its name not synced.
            let _ = fs::remove_dir(dir);
        }),
        None => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).map_err(Error::io("open", dir))?.sync_all().map_err(Error::sync(dir))
}

/// Positions of the checkpoints, rising, and files that were never finished.
fn list(dir: &Path) -> Result<(Vec<Position>, Vec<PathBuf>), Error> {
    let (mut positions, mut unfinished) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if let Some(position) = position_of(&path) {
            positions.push(position);
        } else if path.to_str().is_some_and(|path| path.ends_with(UNFINISHED)) {
            unfinished.push(path);
        }
    }
    positions.sort_unstable();
    Ok((positions, unfinished))
}

fn path_of(dir: &Path, position: Position) -> PathBuf {
    dir.join(format!("{:020}{SUFFIX}", position.0))
}

/// The position a file's name says, if it is that of a checkpoint.
fn position_of(path: &Path) -> Option<Position> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let position = digits.parse().ok().map(Position)?;
    (format!("{:020}", position.0) == digits).then_some(position)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    use super::*;

    /// Names the folder of a run that is watched.
    const WATCHED: &str = "URJA_TEST_WATCHED";

    fn sections(seed: u8) -> Vec<Section> {
        let section = |name: &str, record_size, bytes| Section {
            name: name.to_owned(),
            version: 1,
            record_size,
            bytes,
        };
        vec![
            section("meter", 4, vec![seed; 40]),
            section("empty", 96, Vec::new()),
            section("fold", 1, (0..77).map(|byte| byte ^ seed).collect()),
        ]
    }

    #[test]
    fn the_newest_checkpoint_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = &dir.path().join("checkpoint");
        assert_eq!(latest(dir).unwrap(), None);
        write(dir, Position(9), &sections(1)).unwrap();
        let path = write(dir, Position(10), &sections(2)).unwrap();
        let checkpoint = latest(dir).unwrap().unwrap();
        assert_eq!(
            checkpoint,
            Checkpoint { position: Position(10), sections: sections(2), path: path.clone() }
        );
        let summary = inspect(&path).unwrap();
        assert_eq!((summary.position, summary.bytes), (Position(10), fs::metadata(path).unwrap().len()));
        let meter = &summary.sections[0];
        assert_eq!((meter.name.as_str(), meter.records, meter.bytes), ("meter", 10, 40));
    }

    #[test]
    fn the_one_before_stays_and_older_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for position in 1..=4 {
            write(dir.path(), Position(position), &sections(1)).unwrap();
        }
        let left: Vec<_> =
            verify(dir.path()).unwrap().into_iter().map(|it| it.result.unwrap().position).collect();
        assert_eq!(left, [Position(3), Position(4)]);
    }

    /// Not a promise by itself: the run that the test below watches.
    #[test]
    fn five_checkpoints() {
        let Ok(dir) = env::var(WATCHED) else { return };
        for position in 1..=5 {
            write(Path::new(&dir), Position(position), &sections(1)).unwrap();
        }
    }

    /// Whether the disk was asked to keep a thing can only be seen from outside.
    #[test]
    fn a_checkpoint_is_durable_with_its_name_before_an_older_one_goes() {
        let usable = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        if !usable.is_ok_and(|status| status.success()) {
            assert!(env::var("CI").as_deref() != Ok("true"), "must be there: strace");
            println!("skipped: not there: strace");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (dir, log) = (folder.path().join("checkpoint"), folder.path().join("strace.log"));
        let run = "checkpoint::tests::five_checkpoints";
        let out = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,fdatasync,/^rename,/^unlink", "-o"])
            .arg(&log)
            .arg(env::current_exe().unwrap())
            .args(["--exact", run])
            .env(WATCHED, &dir)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        let log = fs::read_to_string(log).unwrap();
        let folder = format!("<{}>", dir.canonicalize().unwrap().display());
        let what = |line: &str| {
            let call = line.split_once(' ')?.1.trim_start();
            match call.split_once('(')?.0 {
                "fsync" | "fdatasync" if call.contains(&folder) => Some("keep names"),
                "fsync" | "fdatasync" if call.contains(UNFINISHED) => Some("keep content"),
                "rename" | "renameat" | "renameat2" if call.contains(UNFINISHED) => Some("name"),
                "unlink" | "unlinkat" if call.contains(SUFFIX) => Some("remove"),
                _ => None,
            }
        };
        let steps: Vec<&str> = log.lines().filter_map(what).collect();
        let written = ["keep content", "name", "keep names"];
        let expected = [&written[..]; 2].concat();
        let replaced = [&[&written[..], &["remove"]].concat()[..]; 3].concat();
        assert_eq!(steps, [expected, replaced].concat());
    }

    #[test]
    fn a_checkpoint_can_be_written_again_and_never_behind_another() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Position(7), &sections(1)).unwrap();
        write(dir.path(), Position(7), &sections(2)).unwrap();
        assert_eq!(latest(dir.path()).unwrap().unwrap().sections, sections(2));
        let error = write(dir.path(), Position(6), &sections(3)).unwrap_err();
        assert!(matches!(error, Error::Behind { position: Position(6), newest: Position(7) }));
    }

    #[test]
    fn an_unfinished_checkpoint_is_ignored_and_removed_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), Position(7), &sections(1)).unwrap();
        let unfinished = dir.path().join(format!("00000000000000000009{UNFINISHED}"));
        fs::write(&unfinished, &fs::read(path).unwrap()[..50]).unwrap();
        assert_eq!(latest(dir.path()).unwrap().unwrap().position, Position(7));
        write(dir.path(), Position(8), &sections(1)).unwrap();
        assert!(!unfinished.exists());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed_and_the_older_one_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Position(1), &sections(1)).unwrap();
        let path = write(dir.path(), Position(2), &sections(2)).unwrap();
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: usize| {
            fs::write(&path, bytes).unwrap();
            let error = latest(dir.path()).unwrap_err();
            assert!(
                matches!(&error, Error::Damaged { path: named, .. } if *named == path),
                "{what}: {error}"
            );
            let checked = verify(dir.path()).unwrap();
            assert!(checked[0].result.is_ok() && checked[1].result.is_err(), "{what}");
        };
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&bytes, bit);
        }
        for length in 0..whole.len() {
            check(&whole[..length], length);
        }
        check(&[&whole[..], b"x"].concat(), whole.len() + 1);
    }

    #[test]
    fn damage_is_named_with_its_section() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), Position(2), &sections(2)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let begin = bytes.len() as u64 - 77;
        let fault = Fault::Section("fold".to_owned());
        let error = inspect(&path).unwrap_err();
        assert!(
            matches!(error, Error::Damaged { offset, fault: found, .. } if offset == begin && found == fault)
        );
    }

    #[test]
    fn a_checkpoint_under_another_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), Position(2), &sections(2)).unwrap();
        fs::rename(&path, path_of(dir.path(), Position(3))).unwrap();
        let error = latest(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { fault: Fault::Position(Position(2)), .. }));
    }

    #[test]
    fn what_is_left_unwritten_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Position(1), &sections(1)).unwrap();
        let mut bad = sections(2);
        bad[0].record_size = 3;
        assert!(matches!(write(dir.path(), Position(2), &bad), Err(Error::Section { .. })));
        assert_eq!(latest(dir.path()).unwrap().unwrap().position, Position(1));
    }
}
