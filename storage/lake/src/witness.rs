//! What a disk would keep: the tests stop after any step of a commit and then let the power go.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::Error;

/// Counts the steps on a disk, stops at one, and knows what was synced.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: Mutex<Seen>,
    bystander: OnceLock<Bystander>,
}

/// Looks at the lake from the middle of a step.
struct Bystander(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Bystander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bystander(..)")
    }
}

#[derive(Debug, Default)]
struct Seen {
    steps: usize,
    stop_at: Option<usize>,
    /// What fails is no sync: there is no space.
    full: bool,
    contents: HashSet<PathBuf>,
    names: HashSet<PathBuf>,
}

impl Witness {
    /// Calls `look` at every step from now on.
    pub(crate) fn look_at_every_step(&self, look: impl Fn() + Send + Sync + 'static) {
        assert!(self.bystander.set(Bystander(Box::new(look))).is_ok(), "there is one bystander");
    }

    /// Fails every step from the one with this number on.
    pub(crate) fn stop_at(&self, step: usize) {
        let mut seen = self.seen.lock().unwrap();
        seen.steps = 0;
        seen.stop_at = Some(step);
        seen.full = false;
    }

    /// Lets the disk be full from the step with this number on.
    pub(crate) fn fill_at(&self, step: usize) {
        self.stop_at(step);
        self.seen.lock().unwrap().full = true;
    }

    pub(crate) fn steps(&self) -> usize {
        self.seen.lock().unwrap().steps
    }

    pub(crate) fn step(&self, path: &Path) -> Result<(), Error> {
        if let Some(Bystander(look)) = self.bystander.get() {
            look();
        }
        let mut seen = self.seen.lock().unwrap();
        seen.steps += 1;
        if seen.stop_at.is_some_and(|stop_at| seen.steps > stop_at) {
            if seen.full {
                return Err(Error::io("write", path)(std::io::ErrorKind::StorageFull.into()));
            }
            let source = std::io::Error::other("stopped by the test");
            return Err(Error::Sync { path: path.to_owned(), source });
        }
        Ok(())
    }

    pub(crate) fn was_synced(&self, path: &Path) {
        self.seen.lock().unwrap().contents.insert(path.to_owned());
    }

    pub(crate) fn was_renamed(&self, from: &Path, to: &Path) {
        let mut seen = self.seen.lock().unwrap();
        if seen.contents.remove(from) {
            seen.contents.insert(to.to_owned());
        }
    }

    pub(crate) fn names_were_synced(&self, dir: &Path) {
        let names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        self.seen.lock().unwrap().names.extend(names);
    }

    /// Takes what is in a directory for synced.
    pub(crate) fn trust(&self, dir: &Path) {
        self.names_were_synced(dir);
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { self.trust(&path) } else { self.was_synced(&path) }
        }
    }

    /// Copies a directory as a disk may hold it after a power cut: content that was not synced is gone, and where
    /// `forget_names` is set so are names whose directory was not synced.
    pub(crate) fn cut_power(&self, from: &Path, to: &Path, forget_names: bool) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if forget_names && !self.seen.lock().unwrap().names.contains(&path) {
                continue;
            }
            let copy = to.join(path.file_name().unwrap());
            if path.is_dir() {
                self.cut_power(&path, &copy, forget_names);
            } else if self.seen.lock().unwrap().contents.contains(&path) {
                fs::copy(&path, &copy).unwrap();
            } else {
                fs::write(&copy, []).unwrap();
            }
        }
    }
}
