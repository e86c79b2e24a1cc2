//! One owner of a data directory.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::Error;

const NAME: &str = "lock";
/// A process id has at most ten digits.
const MAX_PID_BYTES: u64 = 16;

/// The data directory is ours until this is dropped or the process ends, however it ends. The lock is `flock` on the
/// file `lock`, which holds the owner's process id and stays there.
#[derive(Debug)]
pub struct DirLock {
    /// Closing it gives the lock up.
    _file: File,
}

impl DirLock {
    /// Takes the lock of a data directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Locked`] at once when someone else has it.
    pub fn acquire(data_dir: &Path) -> Result<DirLock, Error> {
        fs::create_dir_all(data_dir).map_err(Error::io("create", data_dir))?;
        let path = data_dir.join(NAME);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = owner(&mut file);
                return Err(Error::Locked { path, by });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        // Only for people and messages: the lock holds without it, also on a full disk.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirLock { _file: file })
    }
}

fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const DIR: &str = "URJA_TEST_LOCKED_DIR";

    #[test]
    fn two_owners_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Locked { by: Some(pid), .. } if pid == std::process::id()));
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    /// Not a promise by itself: the other process of the test below.
    #[test]
    fn another_process() {
        let Ok(dir) = env::var(DIR) else { return };
        let _lock = DirLock::acquire(Path::new(&dir)).unwrap();
        println!("locked");
        // Until it is killed, or the test that started it has ended.
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }

    #[test]
    fn a_killed_owner_gives_the_lock_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "lock::tests::another_process"])
            .env(DIR, dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(other.stdout.take().unwrap()).lines();
        assert!(lines.map(|line| line.unwrap()).any(|line| line.ends_with("locked")));
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Locked { by: Some(pid), .. } if pid == other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        DirLock::acquire(dir.path()).unwrap();
    }
}
