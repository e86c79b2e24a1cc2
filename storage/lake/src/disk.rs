//! Files and directories that are there after a power cut: nothing counts before its sync, and the sync of a file says
//! nothing of its name, which is the directory's.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;

/// The disk under a data directory. In tests it counts its steps and can stop after any of them.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) witness: crate::witness::Witness,
}

impl Disk {
    /// Makes a directory and those above it, each durable.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        fs::create_dir(path).map_err(Error::io("make the directory", path))?;
        self.sync_dir(parent.unwrap_or(Path::new("."))).inspect_err(|_| {
            // Whoever tries again must not find it made and its name not synced.
            let _ = fs::remove_dir(path);
        })
    }

    /// Makes the content of a file durable that was written through `file`.
    pub(crate) fn sync_file(&self, file: &File, path: &Path) -> Result<(), Error> {
        self.step(path)?;
        file.sync_all().map_err(|source| Error::Sync { path: path.to_owned(), source })?;
        self.was_synced(path);
        Ok(())
    }

    /// Makes the content of a file durable that another library wrote.
    pub(crate) fn sync_path(&self, path: &Path) -> Result<(), Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        self.sync_file(&file, path)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.step(path)?;
        let dir = File::open(path).map_err(Error::io("open the directory", path))?;
        dir.sync_all().map_err(|source| Error::Sync { path: path.to_owned(), source })?;
        self.names_were_synced(path);
        Ok(())
    }

    /// Puts a whole file in place: written beside, synced, renamed, directory synced.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let beside = path.with_extension("tmp");
        let mut file = File::create(&beside).map_err(Error::io("make", &beside))?;
        file.write_all(bytes).map_err(Error::io("write", &beside))?;
        self.sync_file(&file, &beside)?;
        self.step(path)?;
        fs::rename(&beside, path).map_err(Error::io("rename to", path))?;
        self.was_renamed(&beside, path);
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// Removes a file, which may come back when power goes.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).map_err(Error::io("remove", path))
    }

    /// Moves a file into a folder under a name that is free there, durably.
    pub(crate) fn set_aside(&self, path: &Path, folder: &Path) -> Result<PathBuf, Error> {
        self.create_dir(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free =
            (0_u32..).map(|number| folder.join(format!("{name}.{number}"))).find(|place| !place.exists());
        let place = free.expect("some number is free");
        fs::rename(path, &place).map_err(Error::io("move aside", path))?;
        self.sync_dir(folder)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(place)
    }
}

#[cfg(not(test))]
impl Disk {
    fn step(&self, _path: &Path) -> Result<(), Error> {
        Ok(())
    }
    fn was_synced(&self, _path: &Path) {}
    fn names_were_synced(&self, _path: &Path) {}
    fn was_renamed(&self, _from: &Path, _to: &Path) {}
}

#[cfg(test)]
impl Disk {
    fn step(&self, path: &Path) -> Result<(), Error> {
        self.witness.step(path)
    }
    fn was_synced(&self, path: &Path) {
        self.witness.was_synced(path);
    }
    fn names_were_synced(&self, path: &Path) {
        self.witness.names_were_synced(path);
    }
    fn was_renamed(&self, from: &Path, to: &Path) {
        self.witness.was_renamed(from, to);
    }
}
