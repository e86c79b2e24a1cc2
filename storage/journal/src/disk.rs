//! The few calls whose failure decides what may be acknowledged, behind a trait so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes and syncs of open files.
pub(crate) trait Disk: Send + Sync {
    /// Takes the space of a new file, or says at once that there is none.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once what was written to the file, or the names in the directory, survive a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's.
pub(crate) struct OsDisk;

impl Disk for OsDisk {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // The zeros written next take the space where the file system cannot do it ahead.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => other.map_err(io::Error::from),
        }
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
