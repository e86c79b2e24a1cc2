//! The keys of all meters in force, in memory.
//!
//! | part | bytes a meter |
//! |---|---|
//! | keys, epoch, policy, profile, by meter id | 38 |
//! | from title to meter | 9 |
//! | from serial number to meter | 9 |
//!
//! A title is turned into a number by a bijection, a serial number by a hash. The upper 16 bits of the number say in
//! which of 65,536 buckets its entry is, the lower 48 stand in the entry; so a title is stored whole although nowhere in
//! one piece. Keys lie in pages that never move, so that a growing table leaves no copies of keys behind. Keys that were
//! replaced are few, and in a table of their own.
//!
//! One lock is over all of it: a task that decodes takes it once for the frames that came together, and looks up the
//! meters of all of them before it needs the first, so that it waits for memory once and not three times a frame.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use codec::security::{Keys, Policy};
use model::{Instant, MeterId, SystemTitle};

/// Highest meter id; that of the ledger's bounds, and what the three bytes of an entry can say.
const MAX_ID: u32 = 1 << 24;
/// Meters of a page.
const PAGE: usize = 1024;
/// Buckets of an index.
const BUCKETS: usize = 65_536;

/// What is needed to check and read the frames of one meter.
pub(crate) struct Entry<'a> {
    pub(crate) meter: MeterId,
    pub(crate) keys: &'a Keys,
    pub(crate) key_epoch: u16,
    pub(crate) policy: Policy,
    /// Index of its profile.
    pub(crate) profile: u8,
    /// Keys it had before, newest first; of most meters none.
    pub(crate) replaced: &'a [ReplacedKeys],
}

/// Keys that were replaced. Frames under them may still be on their way.
pub(crate) struct ReplacedKeys {
    pub(crate) keys: Keys,
    pub(crate) key_epoch: u16,
    /// Up to when they are taken once the meter has used newer ones.
    pub(crate) taken_until: Instant,
}

/// What is kept of a meter.
pub(crate) struct InForce {
    pub(crate) keys: Keys,
    pub(crate) key_epoch: u16,
    pub(crate) policy: Policy,
    /// Index of its profile; at most [`MAX_PROFILE`].
    pub(crate) profile: u8,
    pub(crate) replaced: Box<[ReplacedKeys]>,
}

/// Highest index of a profile.
pub(crate) const MAX_PROFILE: u8 = !HAS_REPLACED;
/// Bit of a slot's profile: there are replaced keys.
const HAS_REPLACED: u8 = 1 << 7;

struct Slot {
    keys: Keys,
    key_epoch: u16,
    policy: Policy,
    /// Index of the profile, and [`HAS_REPLACED`].
    profile: u8,
    /// Where the index of titles has its entry.
    title_bucket: u16,
}

/// Titles, serial numbers and what is known of their meters.
pub(crate) struct KeyTable(RwLock<Tables>);

struct Tables {
    titles: Index,
    /// For pushes in the clear, which name no title.
    serials: Index,
    /// Of [`PAGE`] meters each, by meter id; one is there once a meter of it is.
    pages: Vec<Option<Box<[Option<Slot>]>>>,
    replaced: HashMap<MeterId, Box<[ReplacedKeys]>>,
}

impl KeyTable {
    pub(crate) fn new() -> KeyTable {
        KeyTable(RwLock::new(Tables {
            titles: Index::new(),
            serials: Index::new(),
            pages: Vec::new(),
            replaced: HashMap::new(),
        }))
    }

    /// Puts a meter in force, in place of what its title had. False: its id or its profile is beyond the bound.
    pub(crate) fn insert(&self, meter: MeterId, title: SystemTitle, serial: &str, in_force: InForce) -> bool {
        let InForce { keys, key_epoch, policy, profile, replaced } = in_force;
        if !(1..=MAX_ID).contains(&meter.0) || profile > MAX_PROFILE {
            return false;
        }
        let number = number_of(title);
        let flag = if replaced.is_empty() { 0 } else { HAS_REPLACED };
        let slot = Slot { keys, key_epoch, policy, profile: profile | flag, title_bucket: bucket_of(number) };
        let serial = serial_hash(serial);
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if replaced.is_empty() {
            tables.replaced.remove(&meter);
        } else {
            tables.replaced.insert(meter, replaced);
        }
        let page = meter.0 as usize / PAGE;
        if tables.pages.len() <= page {
            tables.pages.resize_with(page + 1, || None);
        }
        let page = tables.pages[page].get_or_insert_with(|| (0..PAGE).map(|_| None).collect());
        page[meter.0 as usize % PAGE] = Some(slot);
        tables.titles.insert(number, meter);
        tables.serials.insert(serial, meter);
        true
    }

    /// The table as it stands; nothing is put into it while this is held, so it is not to be held for long, nor twice by
    /// one thread.
    pub(crate) fn read(&self) -> ReadKeys<'_> {
        ReadKeys(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTable(..)")
    }
}

/// The table while it is looked at.
pub(crate) struct ReadKeys<'t>(RwLockReadGuard<'t, Tables>);

impl ReadKeys<'_> {
    /// Looks at the entry of a title.
    pub(crate) fn with<T>(&self, title: SystemTitle, look: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let meter = self.0.titles.find(number_of(title))?;
        let slot = self.0.slot(meter)?;
        let has_replaced = slot.profile & HAS_REPLACED != 0;
        let replaced = self.0.replaced.get(&meter).filter(|_| has_replaced);
        Some(look(Entry {
            meter,
            keys: &slot.keys,
            key_epoch: slot.key_epoch,
            policy: slot.policy,
            profile: slot.profile & MAX_PROFILE,
            replaced: replaced.map_or(&[], |keys| keys),
        }))
    }

    pub(crate) fn contains(&self, title: SystemTitle) -> bool {
        self.with(title, |_| ()).is_some()
    }

    /// The title of the meter that pushes under this device id (0.0.96.1.2): its serial number, with or without the
    /// three letters of its manufacturer in front.
    pub(crate) fn title_of_device(&self, device_id: &str) -> Option<SystemTitle> {
        let of = |serial: &str| self.0.serials.find(serial_hash(serial));
        let meter = of(device_id).or_else(|| of(device_id.get(3..)?))?;
        let bucket = self.0.slot(meter)?.title_bucket;
        self.0.titles.number_in(bucket, meter).map(title_of)
    }

    /// Reads what looking up these titles will read, level by level for all of them. Nothing comes of it but that they are
    /// found sooner.
    pub(crate) fn touch(&self, titles: impl Iterator<Item = SystemTitle> + Clone) {
        let numbers = titles.map(number_of);
        let buckets = numbers.clone().fold(0, |read, number| read ^ self.0.titles.touch(number));
        let slots = numbers
            .filter_map(|number| self.0.slot(self.0.titles.find(number)?))
            .fold(0, |read, slot| read ^ slot.profile);
        std::hint::black_box((buckets, slots));
    }
}

impl Tables {
    fn slot(&self, meter: MeterId) -> Option<&Slot> {
        self.pages.get(meter.0 as usize / PAGE)?.as_ref()?.get(meter.0 as usize % PAGE)?.as_ref()
    }
}

/// The lower 48 bits of a number, then a meter id less one in 24, both with the highest byte first.
type IndexEntry = [u8; REST + 3];
const REST: usize = 6;

/// From numbers of 64 bits to meters; numbers without a pattern fill the buckets evenly.
struct Index(Box<[Bucket]>);

/// Entries, sorted.
#[derive(Clone, Default)]
struct Bucket(Vec<IndexEntry>);

impl Index {
    fn new() -> Index {
        Index(vec![Bucket::default(); BUCKETS].into_boxed_slice())
    }

    fn find(&self, number: u64) -> Option<MeterId> {
        self.0[usize::from(bucket_of(number))].find(rest_of(number))
    }

    fn insert(&mut self, number: u64, meter: MeterId) {
        self.0[usize::from(bucket_of(number))].insert(rest_of(number), meter);
    }

    /// The number of a meter's entry in a bucket.
    fn number_in(&self, bucket: u16, meter: MeterId) -> Option<u64> {
        let entry = self.0[usize::from(bucket)].0.iter().find(|entry| meter_in(entry) == meter)?;
        let mut number = [0; 8];
        number[..2].copy_from_slice(&bucket.to_be_bytes());
        number[2..].copy_from_slice(&entry[..REST]);
        Some(u64::from_be_bytes(number))
    }

    /// Reads where the entries of a bucket begin.
    fn touch(&self, number: u64) -> usize {
        self.0[usize::from(bucket_of(number))].0.len()
    }
}

impl Bucket {
    fn find(&self, rest: [u8; REST]) -> Option<MeterId> {
        self.place_of(rest).ok().map(|place| meter_in(&self.0[place]))
    }

    fn insert(&mut self, rest: [u8; REST], meter: MeterId) {
        let mut entry = [0; REST + 3];
        entry[..REST].copy_from_slice(&rest);
        entry[REST..].copy_from_slice(&(meter.0 - 1).to_be_bytes()[1..]);
        match self.place_of(rest) {
            Ok(place) => self.0[place] = entry,
            Err(place) => {
                if self.0.len() == self.0.capacity() {
                    // Doubling would leave a third of a large fleet's index empty.
                    self.0.reserve_exact(self.0.len() / 16 + 1);
                }
                self.0.insert(place, entry);
            }
        }
    }

    fn place_of(&self, rest: [u8; REST]) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry[..REST].cmp(&rest))
    }
}

fn meter_in(entry: &IndexEntry) -> MeterId {
    MeterId(u32::from_be_bytes([0, entry[REST], entry[REST + 1], entry[REST + 2]]) + 1)
}

fn bucket_of(number: u64) -> u16 {
    let [high, low, ..] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn rest_of(number: u64) -> [u8; REST] {
    let [_, _, rest @ ..] = number.to_be_bytes();
    rest
}

/// The finalizer of SplitMix64: titles of one make differ in their last digits only.
fn number_of(title: SystemTitle) -> u64 {
    let number = u64::from_be_bytes(title.0);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The inverse of [`number_of`].
fn title_of(number: u64) -> SystemTitle {
    let number = (number ^ (number >> 31) ^ (number >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let number = (number ^ (number >> 27) ^ (number >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    SystemTitle((number ^ (number >> 30) ^ (number >> 60)).to_be_bytes())
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
    use proptest::prelude::*;

    use super::*;

    fn in_force() -> InForce {
        let keys = Keys::new([1; 16], [2; 16]);
        InForce { keys, key_epoch: 1, policy: Policy::Authenticated, profile: 0, replaced: Box::default() }
    }

    #[test]
    fn a_slot_takes_38_bytes_and_an_empty_one_no_more() {
        assert_eq!(size_of::<Option<Slot>>(), 38);
    }

    #[test]
    fn replaced_keys_stay_with_their_meter_until_it_has_none() {
        let table = KeyTable::new();
        let title = SystemTitle(*b"CRY01234");
        let replaced =
            ReplacedKeys { keys: Keys::new([3; 16], [4; 16]), key_epoch: 1, taken_until: Instant(7) };
        let changed = InForce { key_epoch: 2, profile: 5, replaced: Box::new([replaced]), ..in_force() };
        assert!(table.insert(MeterId(7), title, "SA1231166", changed));
        let found = table.read().with(title, |entry| {
            let replaced: Vec<_> =
                entry.replaced.iter().map(|keys| (keys.key_epoch, keys.taken_until)).collect();
            (entry.key_epoch, entry.profile, replaced)
        });
        assert_eq!(found, Some((2, 5, vec![(1, Instant(7))])));
        assert!(table.insert(MeterId(7), title, "SA1231166", in_force()));
        assert_eq!(table.read().with(title, |entry| entry.replaced.len()), Some(0));
    }

    #[test]
    fn a_meter_is_found_by_title_and_by_device_id() {
        let table = KeyTable::new();
        let title = SystemTitle(*b"CRY01234");
        assert_eq!(table.read().with(title, |entry| entry.meter), None);
        assert!(table.insert(MeterId(7), title, "SA1231166", in_force()));
        assert_eq!(table.read().with(title, |entry| entry.meter), Some(MeterId(7)));
        assert_eq!(table.read().title_of_device("SA1231166"), Some(title));
        assert_eq!(table.read().title_of_device("CRYSA1231166"), Some(title));
        for unknown in ["", "CR", "SA1231167", "XXXXSA1231166", "ééé"] {
            assert_eq!(table.read().title_of_device(unknown), None, "{unknown}");
        }
        assert!(table.insert(MeterId(8), title, "SA1231166", in_force()));
        assert_eq!(table.read().with(title, |entry| entry.meter), Some(MeterId(8)));
        assert_eq!(table.read().title_of_device("SA1231166"), Some(title));
    }

    #[test]
    fn every_meter_of_a_fleet_is_found_and_no_other() {
        let table = KeyTable::new();
        let title = |number: u32| {
            let mut title = *b"HXE\0\0\0\0\0";
            title[4..].copy_from_slice(&number.to_be_bytes());
            SystemTitle(title)
        };
        for number in 1..=20_000 {
            assert!(table.insert(MeterId(number), title(number), &format!("SN{number}"), in_force()));
        }
        for number in 1..=20_000 {
            assert_eq!(table.read().with(title(number), |entry| entry.meter), Some(MeterId(number)));
            assert_eq!(table.read().title_of_device(&format!("HXESN{number}")), Some(title(number)));
            assert_eq!(table.read().with(title(number + 20_000), |entry| entry.meter), None);
        }
    }

    #[test]
    fn ids_beyond_the_bound_are_refused() {
        let table = KeyTable::new();
        let title = SystemTitle(*b"CRY01234");
        for id in [0, MAX_ID + 1, u32::MAX] {
            assert!(!table.insert(MeterId(id), title, "SA1231166", in_force()), "{id}");
        }
        assert!(table.insert(MeterId(MAX_ID), title, "SA1231166", in_force()));
        assert_eq!(table.read().with(title, |entry| entry.meter), Some(MeterId(MAX_ID)));
    }

    proptest! {
        #[test]
        fn a_title_comes_back_from_its_number(title: [u8; 8]) {
            prop_assert_eq!(title_of(number_of(SystemTitle(title))), SystemTitle(title));
        }
    }
}
