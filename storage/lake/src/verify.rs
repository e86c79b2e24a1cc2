//! Reading everything again and naming every file that is not as it was written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::delta::Delta;
use crate::open::{Found, added_files, data_files};
use crate::sidecar::{self, Described, Sidecar};
use crate::{Difference, Error, Fault, Table, VerifyReport};

/// What is there of a table when a verification begins.
pub(crate) struct Scope {
    table: Table,
    dir: PathBuf,
    found: Found,
    data_files: BTreeSet<String>,
}

impl Scope {
    pub(crate) fn new(delta: &Delta) -> Result<Scope, Error> {
        Ok(Scope {
            table: delta.table,
            dir: delta.dir.clone(),
            found: Found::list(&delta.dir)?,
            data_files: data_files(&delta.dir)?,
        })
    }

    /// Compares what was there with the sidecars.
    pub(crate) fn verify(&self, report: &mut VerifyReport) {
        Verification { scope: self, report }.run();
    }
}

struct Verification<'a> {
    scope: &'a Scope,
    report: &'a mut VerifyReport,
}

impl Verification<'_> {
    fn run(&mut self) {
        let found = &self.scope.found;
        let mut named = BTreeSet::new();
        let last =
            found.durable().unwrap_or(-1).max(found.entries.last_key_value().map_or(-1, |(last, _)| *last));
        let first = found.sidecars.first().copied().unwrap_or(0);
        for version in first..=last {
            named.extend(self.version(version));
        }
        for version in &found.checkpoint_sidecars {
            self.checkpoint(*version);
        }
        let unsealed = found.checkpoints.iter().filter(|at| !found.checkpoint_sidecars.contains(at));
        for version in unsealed {
            self.differs(&self.scope.dir.join(Delta::checkpoint_name(*version)), Fault::NoSidecar(*version));
        }
        let strange = self.scope.data_files.difference(&named).chain(&found.strange);
        for name in strange {
            self.differs(&self.scope.dir.join(name), Fault::Unreferenced);
        }
    }

    /// Checks a version; gives the data files its sidecar names.
    fn version(&mut self, version: i64) -> Vec<String> {
        let path = sidecar::path(&self.scope.dir, version);
        let Some(sidecar) = self.sidecar(&path, version) else { return Vec::new() };
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
            sidecar.files.iter().for_each(|hint| self.file(hint));
        }
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
        match file.check(&self.scope.dir) {
            Ok(bytes) => {
                self.report.files += 1;
                self.report.bytes += bytes;
            }
            Err(fault) => self.differs(&self.scope.dir.join(&file.path), fault),
        }
    }

    fn differs(&mut self, path: &Path, fault: Fault) {
        self.report.differences.push(Difference { table: self.scope.table, path: path.to_owned(), fault });
    }
}
