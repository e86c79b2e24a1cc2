//! The keys of all meters in force, in memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock};

use codec::security::{Keys, Policy};
use model::{Instant, MeterId, SystemTitle};

const SHARDS: usize = 64;

/// What is needed to check and read the frames of one meter.
pub(crate) struct Entry {
    pub(crate) meter: MeterId,
    /// Boxed, so that a growing table moves the pointer and leaves no copies of keys behind.
    pub(crate) keys: Box<Keys>,
    pub(crate) key_epoch: u16,
    pub(crate) policy: Policy,
    /// Index of its profile.
    pub(crate) profile: u16,
    /// Keys it had before, newest first; of most meters none.
    pub(crate) replaced: Box<[ReplacedKeys]>,
}

/// Keys that were replaced. Frames under them may still be on their way.
pub(crate) struct ReplacedKeys {
    pub(crate) keys: Keys,
    pub(crate) key_epoch: u16,
    /// Up to when they are taken once the meter has used newer ones.
    pub(crate) taken_until: Instant,
}

/// Titles and their entries, sharded so that decoding tasks do not meet at one lock.
pub(crate) struct KeyTable {
    hasher: RandomState,
    shards: Box<[RwLock<HashMap<SystemTitle, Entry>>]>,
    /// Title by the hash of the serial number, for pushes in the clear, which name no title.
    serials: RwLock<HashMap<u64, SystemTitle>>,
}

impl KeyTable {
    pub(crate) fn new() -> KeyTable {
        KeyTable {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            serials: RwLock::default(),
        }
    }

    /// Puts a meter in force, in place of what its title had.
    pub(crate) fn insert(&self, title: SystemTitle, serial: &str, entry: Entry) {
        let replaced = self.shard(title).write().unwrap_or_else(PoisonError::into_inner).insert(title, entry);
        drop(replaced);
        self.serials.write().unwrap_or_else(PoisonError::into_inner).insert(serial_hash(serial), title);
    }

    /// Looks at the entry of a title; the lock is held meanwhile.
    pub(crate) fn with<T>(&self, title: SystemTitle, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.shard(title).read().unwrap_or_else(PoisonError::into_inner).get(&title).map(look)
    }

    pub(crate) fn contains(&self, title: SystemTitle) -> bool {
        self.with(title, |_| ()).is_some()
    }

    /// The title of the meter that pushes under this device id (0.0.96.1.2): its serial number, with or without the
    /// three letters of its manufacturer in front.
    pub(crate) fn title_of_device(&self, device_id: &str) -> Option<SystemTitle> {
        let serials = self.serials.read().unwrap_or_else(PoisonError::into_inner);
        let of = |serial: &str| serials.get(&serial_hash(serial)).copied();
        of(device_id).or_else(|| of(device_id.get(3..)?))
    }

    fn shard(&self, title: SystemTitle) -> &RwLock<HashMap<SystemTitle, Entry>> {
        let hash = usize::try_from(self.hasher.hash_one(title) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTable(..)")
    }
}

/// Serials are given by the utility, so a cryptographic hash of 8 bytes tells any fleet apart.
fn serial_hash(serial: &str) -> u64 {
    let hash = blake3::hash(serial.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(meter: u32) -> Entry {
        Entry {
            meter: MeterId(meter),
            keys: Box::new(Keys::new([1; 16], [2; 16])),
            key_epoch: 1,
            policy: Policy::Authenticated,
            profile: 0,
            replaced: Box::default(),
        }
    }

    #[test]
    fn a_meter_is_found_by_title_and_by_device_id() {
        let table = KeyTable::new();
        let title = SystemTitle(*b"CRY01234");
        assert!(!table.contains(title));
        table.insert(title, "SA1231166", entry(7));
        assert_eq!(table.with(title, |entry| entry.meter), Some(MeterId(7)));
        assert_eq!(table.title_of_device("SA1231166"), Some(title));
        assert_eq!(table.title_of_device("CRYSA1231166"), Some(title));
        for unknown in ["", "CR", "SA1231167", "XXXXSA1231166", "ééé"] {
            assert_eq!(table.title_of_device(unknown), None, "{unknown}");
        }
        table.insert(title, "SA1231166", entry(8));
        assert_eq!(table.with(title, |entry| entry.meter), Some(MeterId(8)));
    }
}
