//! The key-encryption key: the one secret that lies outside of the database.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::DATABASE_FILE;

/// Name of the file in the data directory that holds the key-encryption key.
pub const KEK_FILE: &str = "kek";

/// The key-encryption key, 32 bytes. Wiped when dropped, never printed.
pub struct Kek(pub(crate) Zeroizing<[u8; 32]>);

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// Why there is no key-encryption key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The text is not 64 hexadecimal digits; it is not shown.
    #[error("a key-encryption key is 64 hexadecimal digits")]
    Malformed,
    /// There is a registry, but the file with the key its keys are wrapped under is gone.
    #[error(
        "{registry} is there, but not the key-encryption key {path}: put back the file the registry was made with"
    )]
    Missing {
        /// The file that is not there.
        path: PathBuf,
        /// The database it belongs to.
        registry: PathBuf,
    },
    /// Others than the owner may read or write the file.
    #[error("{path} has mode {mode:04o}: only its owner may have access (0600)")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read or made.
    #[error("cannot read or make {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random bytes for a new key.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Kek {
    /// The key written as 64 hexadecimal digits, as from the configuration or the environment.
    ///
    /// # Errors
    /// [`KekError::Malformed`] for anything else.
    pub fn from_hex(text: &str) -> Result<Kek, KekError> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| KekError::Malformed)?;
        Ok(Kek(key))
    }

    /// The key of a data directory, from its file [`KEK_FILE`]. On the first start, when there is neither that file
    /// nor a registry, a random key is made and synced to a file that only its owner may read.
    ///
    /// # Errors
    /// When the file is missing beside a registry, open to others, malformed, or cannot be read or made.
    pub fn in_directory(directory: &Path) -> Result<Kek, KekError> {
        let path = directory.join(KEK_FILE);
        match read(&path) {
            Err(KekError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let registry = directory.join(DATABASE_FILE);
        if registry.exists() {
            return Err(KekError::Missing { path, registry });
        }
        let kek = random()?;
        write(directory, &path, &kek).map_err(|source| KekError::File { path, source })?;
        Ok(kek)
    }
}

fn random() -> Result<Kek, KekError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(KekError::Random)?;
    Ok(Kek(key))
}

fn read(path: &Path) -> Result<Kek, KekError> {
    let failed = |source| KekError::File { path: path.to_owned(), source };
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).map_err(failed)?.permissions());
        if mode & 0o077 != 0 {
            return Err(KekError::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
        }
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    Kek::from_hex(&text)
}

/// New file, synced, renamed, directory synced: after a crash there is a whole key or none.
fn write(directory: &Path, path: &Path, kek: &Kek) -> io::Result<()> {
    let draft = directory.join("kek.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let mut line = hex::encode(kek.0.as_slice());
    let written = writeln!(file, "{line}");
    line.zeroize();
    written?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_key_that_later_starts_read() {
        let directory = tempfile::tempdir().unwrap();
        let made = Kek::in_directory(directory.path()).unwrap();
        let read = Kek::in_directory(directory.path()).unwrap();
        assert_eq!(*made.0, *read.0);
        assert_ne!(*made.0, [0; 32]);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(*made.0, *Kek::in_directory(other.path()).unwrap().0);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        Kek::in_directory(directory.path()).unwrap();
        let path = directory.path().join(KEK_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Kek::in_directory(directory.path()).unwrap_err();
        assert!(
            refused.to_string().ends_with("has mode 0640: only its owner may have access (0600)"),
            "{refused}"
        );
    }

    #[test]
    fn no_new_key_is_made_beside_a_registry() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DATABASE_FILE), "").unwrap();
        let refused = Kek::in_directory(directory.path()).unwrap_err();
        assert!(matches!(refused, KekError::Missing { .. }), "{refused}");
        assert!(!directory.path().join(KEK_FILE).exists());
    }

    #[test]
    fn a_malformed_key_is_refused_and_no_key_is_shown() {
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            assert!(matches!(Kek::from_hex(bad), Err(KekError::Malformed)), "{bad}");
        }
        let kek = Kek::from_hex(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{kek:?}"), "Kek(..)");
    }
}
