//! Opening a table after whatever happened: what is above the last sidecar was on its way and is set aside, what is at
//! or below it has to be there as it was written.
//!
//! A commit writes its sidecar last, and a new commit starts only after that, so one version at most lies above the
//! sidecars. It is set aside even when it looks whole: its bytes may never have reached the disk, a later sync would
//! not tell, and the journal still holds what made it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use deltalake_core::kernel::Action;
use model::Position;

use crate::delta::{Delta, Runtime};
use crate::disk::Disk;
use crate::sidecar::{self, Described, Sidecar};
use crate::table::USAGE_DATE;
use crate::{DataFile, Error, Fault, Options, Table};

const LOG_FOLDER: &str = "_delta_log";
/// The library's hint which checkpoint is the last.
const HINT: &str = "_delta_log/_last_checkpoint";

/// A table that is as its sidecars say.
pub(crate) struct Opened {
    pub(crate) delta: Delta,
    pub(crate) version: i64,
    pub(crate) committed: Position,
    pub(crate) files: Vec<DataFile>,
}

/// Opens the table in the folder, or makes it.
pub(crate) fn open(
    disk: &Disk,
    runtime: &Runtime,
    options: &Options,
    table: Table,
    dir: &Path,
) -> Result<Opened, Error> {
    disk.create_dir(&dir.join(LOG_FOLDER))?;
    disk.create_dir(&dir.join(sidecar::FOLDER))?;
    let delta = Delta::new(table, dir)?;
    let recovery = Recovery { disk, table, dir, found: Found::list(dir)? };
    recovery.set_aside_torn()?;
    let Some(version) = recovery.found.durable() else {
        return create(disk, runtime, options, delta);
    };
    let checkpoint = recovery.checked_checkpoint(version)?;
    let sealed = recovery.check_log(checkpoint, version)?;
    let loaded = delta.load(runtime, options, version)?;
    if loaded.position != sealed {
        let app_id = options.app_id.clone();
        return Err(Error::OtherWriter { table, app_id, position: loaded.position, sealed });
    }
    recovery.check_files(&loaded.files, version)?;
    recovery.set_aside_unfinished(&loaded.files, loaded.position)?;
    Ok(Opened { delta, version, committed: loaded.position, files: loaded.files })
}

fn create(disk: &Disk, runtime: &Runtime, options: &Options, delta: Delta) -> Result<Opened, Error> {
    delta.create(runtime, options)?;
    let (name, entry) = (Delta::entry_name(0), delta.dir.join(Delta::entry_name(0)));
    let bytes = fs::read(&entry).map_err(Error::io("read", &entry))?;
    seal(disk, &delta, 0, Position(0), Described::of_bytes(name, &bytes), Vec::new())?;
    Ok(Opened { delta, version: 0, committed: Position(0), files: Vec::new() })
}

/// Makes a log entry durable and then says so: the last step of a commit.
pub(crate) fn seal(
    disk: &Disk,
    delta: &Delta,
    version: i64,
    position: Position,
    entry: Described,
    files: Vec<Described>,
) -> Result<(), Error> {
    disk.sync_path(&delta.dir.join(&entry.path))?;
    disk.sync_dir(&delta.dir.join(LOG_FOLDER))?;
    let sidecar = Sidecar::new(delta.table, version, position.0, entry, files);
    sidecar.write(disk, &sidecar::path(&delta.dir, version))
}

/// Removes what a commit above `version` left that failed without a failed sync: its log entry and its data files. The
/// journal still holds what made them, and on a full disk their space is wanted.
pub(crate) fn remove_unfinished(
    disk: &Disk,
    delta: &Delta,
    version: i64,
    files: &[DataFile],
    committed: Position,
) -> Result<(), Error> {
    let found = Found::list(&delta.dir)?;
    let above: Vec<i64> = found.entries.range(version + 1..).map(|(version, _)| *version).collect();
    if let [first, .., last] = above[..] {
        return Err(Error::Uncovered { table: delta.table, first, last });
    }
    for version in above {
        disk.remove(&delta.dir.join(Delta::entry_name(version)))?;
        disk.sync_dir(&delta.dir.join(LOG_FOLDER))?;
    }
    let unnamed = unfinished(&delta.dir, files, committed)?;
    let begun = found.strange.iter().filter(|name| is_begun(name, version + 1));
    begun.chain(&unnamed).try_for_each(|name| disk.remove(&delta.dir.join(name)))
}

/// Whether a file is a log entry or a sidecar that did not get its name: the library writes `<entry>#<number>`, the
/// disk `<sidecar>.tmp`.
fn is_begun(name: &str, version: i64) -> bool {
    name.strip_prefix(Delta::entry_name(version).as_str()).is_some_and(|rest| rest.starts_with('#'))
        || (name.starts_with(sidecar::FOLDER) && name.ends_with(".tmp"))
}

/// Removes what is left of a checkpoint of the log that could not be written, as far as that goes: the hint first, so
/// that no reader follows it.
pub(crate) fn remove_checkpoint(disk: &Disk, delta: &Delta, version: i64) {
    let sidecar = sidecar::checkpoint_path(&delta.dir, version);
    let places = [delta.dir.join(HINT), delta.dir.join(Delta::checkpoint_name(version))];
    for path in places.into_iter().chain([sidecar.with_extension("tmp"), sidecar]) {
        match disk.remove(&path) {
            Err(error) if path.exists() => tracing::warn!(%error, "it is set aside by the next start"),
            _ => {}
        }
    }
}

/// Makes a checkpoint of the log durable and says so.
pub(crate) fn seal_checkpoint(
    disk: &Disk,
    delta: &Delta,
    version: i64,
    position: Position,
) -> Result<(), Error> {
    let describe = |name: String| {
        let path = delta.dir.join(&name);
        disk.sync_path(&path)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok::<_, Error>(Described::of_bytes(name, &bytes))
    };
    let checkpoint = describe(Delta::checkpoint_name(version))?;
    let hint = describe(HINT.to_owned())?;
    disk.sync_dir(&delta.dir.join(LOG_FOLDER))?;
    let sidecar = Sidecar::new(delta.table, version, position.0, checkpoint, vec![hint]);
    sidecar.write(disk, &sidecar::checkpoint_path(&delta.dir, version))
}

/// Names in a table's folders.
pub(crate) struct Found {
    /// Log entries by version, with their length.
    pub(crate) entries: BTreeMap<i64, u64>,
    /// Checkpoints of the log.
    pub(crate) checkpoints: Vec<i64>,
    /// Sidecars of versions.
    pub(crate) sidecars: Vec<i64>,
    /// Sidecars of checkpoints.
    pub(crate) checkpoint_sidecars: Vec<i64>,
    /// What belongs to none of these, by path under the table's folder.
    pub(crate) strange: Vec<String>,
    /// Whether the hint is there.
    hint: bool,
}

impl Found {
    pub(crate) fn list(dir: &Path) -> Result<Found, Error> {
        let mut found = Found {
            entries: BTreeMap::new(),
            checkpoints: Vec::new(),
            sidecars: Vec::new(),
            checkpoint_sidecars: Vec::new(),
            strange: Vec::new(),
            hint: false,
        };
        for (name, length) in names(&dir.join(LOG_FOLDER))? {
            found.add_log_name(name, length);
        }
        for (name, _) in names(&dir.join(sidecar::FOLDER))? {
            found.add_sidecar_name(name);
        }
        found.checkpoints.sort_unstable();
        found.sidecars.sort_unstable();
        found.checkpoint_sidecars.sort_unstable();
        Ok(found)
    }

    fn add_log_name(&mut self, name: String, length: u64) {
        if let Some(version) = version_of(&name, ".json") {
            self.entries.insert(version, length);
        } else if let Some(version) = version_of(&name, ".checkpoint.parquet") {
            self.checkpoints.push(version);
        } else if name == "_last_checkpoint" {
            self.hint = true;
        } else {
            self.strange.push(format!("{LOG_FOLDER}/{name}"));
        }
    }

    fn add_sidecar_name(&mut self, name: String) {
        if let Some(version) = version_of(&name, ".checkpoint.json") {
            self.checkpoint_sidecars.push(version);
        } else if let Some(version) = version_of(&name, ".json") {
            self.sidecars.push(version);
        } else {
            self.strange.push(format!("{}/{name}", sidecar::FOLDER));
        }
    }

    /// The last version that was synced.
    pub(crate) fn durable(&self) -> Option<i64> {
        self.sidecars.last().copied()
    }
}

fn version_of(name: &str, ending: &str) -> Option<i64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Files of a folder with their lengths; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<(String, u64)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { what: "list", path: folder.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let metadata = entry.metadata().map_err(Error::io("look at", &entry.path()))?;
        if metadata.is_file() {
            names.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
        }
    }
    Ok(names)
}

struct Recovery<'a> {
    disk: &'a Disk,
    table: Table,
    dir: &'a Path,
    found: Found,
}

impl Recovery<'_> {
    /// Sets aside what a crash left above the last sidecar.
    fn set_aside_torn(&self) -> Result<(), Error> {
        let durable = self.found.durable().unwrap_or(-1);
        let torn: Vec<i64> = self.found.entries.range(durable + 1..).map(|(version, _)| *version).collect();
        if let [first, .., last] = torn[..] {
            return Err(Error::Uncovered { table: self.table, first, last });
        }
        for version in torn {
            self.set_aside_version(version)?;
        }
        let checkpoints =
            self.found.checkpoints.iter().filter(|at| !self.found.checkpoint_sidecars.contains(at));
        for version in checkpoints {
            self.set_aside(&Delta::checkpoint_name(*version))?;
        }
        self.found.strange.iter().try_for_each(|name| self.set_aside(name))
    }

    /// Sets a version's log entry aside and then the files it names, where it can be read.
    fn set_aside_version(&self, version: i64) -> Result<(), Error> {
        let name = Delta::entry_name(version);
        let files = added_files(&fs::read(self.dir.join(&name)).unwrap_or_default()).unwrap_or_default();
        self.set_aside(&name)?;
        files.iter().filter(|file| self.dir.join(file).is_file()).try_for_each(|file| self.set_aside(file))
    }

    /// Sets data files aside that were written for records no version holds.
    fn set_aside_unfinished(&self, files: &[DataFile], committed: Position) -> Result<(), Error> {
        unfinished(self.dir, files, committed)?.iter().try_for_each(|name| self.set_aside(name))
    }

    fn set_aside(&self, name: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        let place = self.disk.set_aside(&path, &sidecar::quarantine(self.dir))?;
        tracing::warn!(
            table = self.table.name(),
            file = %path.display(),
            now = %place.display(),
            "set aside a file of a commit that did not finish"
        );
        Ok(())
    }

    /// The last checkpoint at or below `version`, compared with its sidecar; and the hint, which may go missing.
    fn checked_checkpoint(&self, version: i64) -> Result<Option<i64>, Error> {
        let Some(last) = self.found.checkpoint_sidecars.iter().rev().find(|at| **at <= version).copied()
        else {
            if self.found.hint {
                self.set_aside(HINT)?;
            }
            return Ok(None);
        };
        let path = sidecar::checkpoint_path(self.dir, last);
        let sidecar =
            Sidecar::read(&path, self.table, last).map_err(|fault| self.damaged(&path, last, fault))?;
        let file = self.dir.join(&sidecar.log.path);
        sidecar.log.check(self.dir).map_err(|fault| self.damaged(&file, last, fault))?;
        if self.found.hint && sidecar.files.iter().any(|hint| hint.check(self.dir).is_err()) {
            self.set_aside(HINT)?;
        }
        Ok(Some(last))
    }

    /// Every entry must be there and have content; those that are read now are compared with their sidecars.
    /// Gives the position the table holds by its last sidecar.
    fn check_log(&self, checkpoint: Option<i64>, version: i64) -> Result<Position, Error> {
        let first = self.found.sidecars.first().copied().unwrap_or(0);
        for at in first..=version {
            let path = self.dir.join(Delta::entry_name(at));
            let fault = match self.found.entries.get(&at) {
                None => Some(Fault::Missing),
                Some(0) => Some(Fault::Empty),
                Some(_) if self.found.sidecars.binary_search(&at).is_err() => Some(Fault::NoSidecar(at)),
                Some(_) => None,
            };
            if let Some(fault) = fault {
                return Err(self.damaged(&path, at, fault));
            }
        }
        let mut sealed = Position(0);
        // The checkpoint stands for the entries before it; the last sidecar says the position in any case.
        for at in checkpoint.map_or(first, |checkpoint| version.min(checkpoint + 1))..=version {
            let path = sidecar::path(self.dir, at);
            let sidecar =
                Sidecar::read(&path, self.table, at).map_err(|fault| self.damaged(&path, at, fault))?;
            let entry = self.dir.join(&sidecar.log.path);
            sidecar.log.check(self.dir).map_err(|fault| self.damaged(&entry, at, fault))?;
            sealed = Position(sidecar.position);
        }
        Ok(sealed)
    }

    fn check_files(&self, files: &[DataFile], version: i64) -> Result<(), Error> {
        files.iter().try_for_each(|file| {
            sidecar::check_length(&file.path, file.bytes)
                .map_err(|fault| self.damaged(&file.path, version, fault))
        })
    }

    fn damaged(&self, path: &Path, version: i64, fault: Fault) -> Error {
        Error::Damaged { table: self.table, path: path.to_owned(), version, fault }
    }
}

/// Data files under a table's folder, referred to or not, by path under it.
pub(crate) fn data_files(dir: &Path) -> Result<BTreeSet<String>, Error> {
    let mut files = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() && name.starts_with(USAGE_DATE) {
                folders.push(path);
            } else if path.is_file() {
                files.insert(name);
            }
        }
    }
    Ok(files)
}

/// Data files under a table's folder that were written for records no version holds.
fn unfinished(dir: &Path, files: &[DataFile], committed: Position) -> Result<Vec<String>, Error> {
    let referred_to: HashSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let mut names = data_files(dir)?;
    names.retain(|name| {
        first_position(name).is_some_and(|first| first > committed.0)
            && !referred_to.contains(dir.join(name).as_path())
    });
    Ok(names.into_iter().collect())
}

/// First position a data file was written for, from its name.
pub(crate) fn first_position(name: &str) -> Option<u64> {
    let mut parts = name.rsplit('/').next()?.strip_suffix(".parquet")?.rsplit('-');
    parts.nth(2)?.parse().ok()
}

/// The files a log entry adds, by path under the table's folder; `None` where it is no log entry.
pub(crate) fn added_files(entry: &[u8]) -> Option<Vec<String>> {
    let actions = serde_json::Deserializer::from_slice(entry).into_iter::<Action>();
    let mut files = Vec::new();
    for action in actions {
        if let Action::Add(add) = action.ok()? {
            files.push(add.path);
        }
    }
    Some(files)
}
