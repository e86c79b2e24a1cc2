//! Reading everything again and naming every file that is not as it was written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::Position;

use crate::delta::Delta;
use crate::open::{Found, added_files, data_files, first_position};
use crate::sidecar::{self, Described, Sidecar};
use crate::{Difference, Error, Fault, Table, TablePosition, VerifyReport};

/// Reads all files of the tables under `dir` again and compares them with the sidecars. It changes nothing and opens no
/// table, so it also looks at what [`crate::Lake::open`] refuses; nobody may write the lake meanwhile. `progress` is
/// told of the bytes read.
#[must_use]
pub fn verify(dir: &Path, progress: &mut dyn FnMut(u64)) -> VerifyReport {
    let mut report = VerifyReport::default();
    for table in Table::ALL {
        let dir = dir.join(table.name());
        match Scope::new(table, &dir) {
            Ok(scope) => scope.verify(State::AsLeft, &mut report, progress),
            Err(error) => report.unreadable(table, &dir, &error),
        }
    }
    report
}

impl VerifyReport {
    /// A table whose folder cannot be listed.
    pub(crate) fn unreadable(&mut self, table: Table, dir: &Path, error: &Error) {
        let fault = if dir.is_dir() { Fault::Unreadable(error.to_string()) } else { Fault::Missing };
        self.differences.push(Difference { table, path: dir.to_owned(), fault });
    }
}

/// What may lie above the last sidecar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing: the table was opened, and no commit is under way.
    Settled,
    /// What a commit left that did not finish; whoever opens the table sets it aside.
    AsLeft,
}

/// What is there of a table when a verification begins.
pub(crate) struct Scope {
    table: Table,
    dir: PathBuf,
    found: Found,
    data_files: BTreeSet<String>,
}

impl Scope {
    pub(crate) fn new(table: Table, dir: &Path) -> Result<Scope, Error> {
        Ok(Scope { table, dir: dir.to_owned(), found: Found::list(dir)?, data_files: data_files(dir)? })
    }

    /// Compares what was there with the sidecars.
    pub(crate) fn verify(&self, state: State, report: &mut VerifyReport, progress: &mut dyn FnMut(u64)) {
        Verification { scope: self, state, report, progress, sealed: None }.run();
    }
}

struct Verification<'a> {
    scope: &'a Scope,
    state: State,
    report: &'a mut VerifyReport,
    progress: &'a mut dyn FnMut(u64),
    /// Position of the last version whose sidecar is sound.
    sealed: Option<Position>,
}

impl Verification<'_> {
    fn run(&mut self) {
        let found = &self.scope.found;
        let mut named = BTreeSet::new();
        let durable = found.durable().unwrap_or(-1);
        // The log is kept from its first version on.
        for version in 0..=durable {
            named.extend(self.version(version));
        }
        for (&version, _) in found.entries.range(durable + 1..) {
            // A new commit begins only after the sidecar of the one before.
            let place = self.scope.dir.join(Delta::entry_name(version));
            self.unfinished(version == durable + 1, &place, Fault::NoSidecar(version));
        }
        for version in &found.checkpoint_sidecars {
            self.checkpoint(*version);
        }
        let unsealed = found.checkpoints.iter().filter(|at| !found.checkpoint_sidecars.contains(at));
        for version in unsealed {
            let place = self.scope.dir.join(Delta::checkpoint_name(*version));
            self.unfinished(true, &place, Fault::NoSidecar(*version));
        }
        for name in self.scope.data_files.difference(&named) {
            let sealed = self.sealed.unwrap_or_default();
            let above = first_position(name).is_some_and(|first| first > sealed.0);
            self.unfinished(above, &self.scope.dir.join(name), Fault::Unreferenced);
        }
        for name in &found.strange {
            self.unfinished(true, &self.scope.dir.join(name), Fault::Unreferenced);
        }
        self.report.tables.push(TablePosition { table: self.scope.table, position: self.sealed });
    }

    /// Checks a version; gives the data files its sidecar names.
    fn version(&mut self, version: i64) -> Vec<String> {
        let path = sidecar::path(&self.scope.dir, version);
        let Some(sidecar) = self.sidecar(&path, version) else { return Vec::new() };
        self.sealed = Some(Position(sidecar.position));
        self.file(&sidecar.log);
        let entry = fs::read(self.scope.dir.join(&sidecar.log.path)).unwrap_or_default();
        let names: Vec<String> = sidecar.files.iter().map(|file| file.path.clone()).collect();
        if added_files(&entry).is_some_and(|added| added != names) {
            self.differs(&path, Fault::OtherFiles);
        }
        sidecar.files.iter().for_each(|file| self.file(file));
        names
    }

    fn checkpoint(&mut self, version: i64) {
        let path = sidecar::checkpoint_path(&self.scope.dir, version);
        let Some(sidecar) = self.sidecar(&path, version) else { return };
        self.file(&sidecar.log);
        // The hint is written over by each later checkpoint.
        if self.scope.found.checkpoint_sidecars.last() == Some(&version) {
            sidecar.files.iter().for_each(|hint| self.hint(hint, version));
        }
    }

    fn hint(&mut self, hint: &Described, version: i64) {
        let path = self.scope.dir.join(&hint.path);
        match self.read_again(hint) {
            Ok(()) => {}
            // It is taken away where it might be wrong, and nobody needs it.
            Err(Fault::Missing) => self.report.unfinished.push(path),
            Err(_) if self.names_later_checkpoint(&path, version) => {
                if self.state == State::AsLeft {
                    self.report.unfinished.push(path);
                }
            }
            Err(fault) => self.differs(&path, fault),
        }
    }

    /// Whether a hint is of a checkpoint that came since: made while this was read, or not finished.
    fn names_later_checkpoint(&self, hint: &Path, version: i64) -> bool {
        let named = fs::read(hint).ok().and_then(|bytes| {
            let hint: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            hint["version"].as_i64()
        });
        named.is_some_and(|named| {
            named > version && self.scope.dir.join(Delta::checkpoint_name(named)).is_file()
        })
    }

    fn sidecar(&mut self, path: &Path, version: i64) -> Option<Sidecar> {
        match Sidecar::read(path, self.scope.table, version) {
            Ok(sidecar) => {
                self.report.files += 1;
                Some(sidecar)
            }
            Err(Fault::Missing) => {
                self.differs(path, Fault::NoSidecar(version));
                None
            }
            Err(fault) => {
                self.differs(path, fault);
                None
            }
        }
    }

    fn file(&mut self, file: &Described) {
        if let Err(fault) = self.read_again(file) {
            self.differs(&self.scope.dir.join(&file.path), fault);
        }
    }

    /// Reads a file again, and counts it where it is sound.
    fn read_again(&mut self, file: &Described) -> Result<(), Fault> {
        let bytes = file.check(&self.scope.dir)?;
        self.report.files += 1;
        self.report.bytes += bytes;
        (self.progress)(bytes);
        Ok(())
    }

    /// What a crash may have left, if it can have; else a fault.
    fn unfinished(&mut self, can_be: bool, path: &Path, fault: Fault) {
        if can_be && self.state == State::AsLeft {
            self.report.unfinished.push(path.to_owned());
        } else {
            self.differs(path, fault);
        }
    }

    fn differs(&mut self, path: &Path, fault: Fault) {
        self.report.differences.push(Difference { table: self.scope.table, path: path.to_owned(), fault });
    }
}
