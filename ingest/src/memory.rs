//! What the journal thread remembers of recent frames: their digests, and the values behind recent counters.
//!
//! Bounded by number, the oldest forgotten first. What is forgotten is caught later: by the counter window, or by the
//! fold, which finds the readings there already.

use std::hash::{BuildHasher, Hash};

use model::{Digest, MeterId, QuarantineReason};

use crate::print::{Keyed, Print};

/// What became of a frame that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Accepted, or repeated.
    Taken,
    /// Quarantined. A later copy may fare better, when its title is registered meanwhile.
    Quarantined(QuarantineReason),
}

/// A remembered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Number of the batch it was in; durable once that batch is.
    pub(crate) batch: u64,
    pub(crate) class: Class,
}

/// Whose counter.
pub(crate) type CounterKey = (MeterId, u16, u32);

/// Digests of frames and values of counters. Frames in quarantine have a memory of their own: what strangers send cannot
/// make the genuine ones forgotten.
#[derive(Debug)]
pub(crate) struct Memory {
    taken: Bounded<Digest, Seen>,
    quarantined: Bounded<Digest, Seen>,
    values: Bounded<CounterKey, Print>,
}

impl Memory {
    pub(crate) fn new(capacity: usize) -> Memory {
        Memory {
            taken: Bounded::new(capacity),
            quarantined: Bounded::new(capacity.div_ceil(4)),
            values: Bounded::new(capacity),
        }
    }

    pub(crate) fn frame(&self, digest: Digest) -> Option<Seen> {
        self.taken.get(&digest).or_else(|| self.quarantined.get(&digest)).copied()
    }

    pub(crate) fn remember_frame(&mut self, digest: Digest, seen: Seen) {
        match seen.class {
            Class::Taken => self.taken.insert(digest, seen),
            Class::Quarantined(_) => self.quarantined.insert(digest, seen),
        }
    }

    /// Reads what judging this frame will read, and says something that depends on it: done for some frames ahead, the
    /// waits for memory pass beside each other and not one after the other. `ahead` frames are to be judged before it.
    pub(crate) fn touch(&self, digest: &Digest, key: Option<&CounterKey>, ahead: usize) -> u64 {
        let values = key.map_or(0, |key| self.values.touch(key) ^ self.values.touch_oldest(ahead));
        self.taken.touch(digest) ^ self.taken.touch_oldest(ahead) ^ values
    }

    /// Print of the values that came with a counter.
    pub(crate) fn values(&self, key: CounterKey) -> Option<Print> {
        self.values.get(&key).copied()
    }

    pub(crate) fn remember_values(&mut self, key: CounterKey, values: Print) {
        self.values.insert(key, values);
    }
}

/// A map that forgets its oldest key when it is full: a ring of entries in the order in which they came, and an index of
/// places in it. The index alone says that a key is not there, which is what nearly always is asked: one line of the
/// cache, where a table of keys and values takes two or three.
#[derive(Debug)]
struct Bounded<K, V> {
    capacity: usize,
    entries: Vec<(K, V)>,
    /// Place of the oldest entry, once the ring is full.
    oldest: usize,
    index: Index,
    keyed: Keyed,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    fn new(capacity: usize) -> Bounded<K, V> {
        let capacity = capacity.min(MAX_ENTRIES);
        Bounded { capacity, entries: Vec::new(), oldest: 0, index: Index::default(), keyed: Keyed::new() }
    }

    fn get(&self, key: &K) -> Option<&V> {
        if self.entries.is_empty() {
            return None;
        }
        let place = self.place_of(key, self.keyed.hash_one(key))?;
        Some(&self.entries[place].1)
    }

    /// Reads where the key would be, so that it is near when it is asked for.
    fn touch(&self, key: &K) -> u64 {
        self.index.touch(self.keyed.hash_one(key))
    }

    /// Reads what the next new key will make forgotten.
    fn touch_oldest(&self, ahead: usize) -> u64 {
        if self.entries.len() < self.capacity || self.capacity == 0 {
            return 0;
        }
        self.touch(&self.entries[(self.oldest + ahead) % self.capacity].0)
    }

    fn insert(&mut self, key: K, value: V) {
        let hash = self.keyed.hash_one(key);
        if let Some(place) = self.place_of(&key, hash) {
            self.entries[place].1 = value;
            return;
        }
        if self.capacity == 0 {
            return;
        }
        let place = if self.entries.len() < self.capacity {
            self.entries.push((key, value));
            if self.index.is_full(self.entries.len()) {
                self.index.grow();
            }
            self.entries.len() - 1
        } else {
            let place = self.oldest;
            self.index.remove(self.keyed.hash_one(self.entries[place].0), place);
            self.entries[place] = (key, value);
            self.oldest = (place + 1) % self.capacity;
            place
        };
        self.index.insert(hash, place);
    }

    fn place_of(&self, key: &K, hash: u64) -> Option<usize> {
        self.index.find(hash, |place| self.entries[place].0 == *key)
    }
}

/// More than an index can number.
const MAX_ENTRIES: usize = 1 << 24;

/// Places of entries by the hash of their keys: open addressing, one step after the other. A cell holds the upper half of
/// the hash, which says where the cell belongs, and the place and one; an empty one is zero.
#[derive(Debug, Default)]
struct Index {
    cells: Vec<u64>,
}

impl Index {
    const LEAST: usize = 64;

    /// Whether so many entries want more cells: half of them stay empty.
    fn is_full(&self, entries: usize) -> bool {
        entries * 2 > self.cells.len()
    }

    fn grow(&mut self) {
        let cells = (self.cells.len() * 2).max(Index::LEAST);
        let old = std::mem::replace(&mut self.cells, vec![0; cells]);
        old.into_iter().filter(|cell| *cell != 0).for_each(|cell| self.put(cell));
    }

    fn insert(&mut self, hash: u64, place: usize) {
        self.put((hash & UPPER) | (place as u64 + 1));
    }

    fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mut at = self.home_of(hash);
        loop {
            let cell = self.cells[at];
            if cell == 0 {
                return None;
            }
            if (cell ^ hash) & UPPER == 0 && is_it(place_in(cell)) {
                return Some(place_in(cell));
            }
            at = self.after(at);
        }
    }

    fn touch(&self, hash: u64) -> u64 {
        if self.cells.is_empty() { 0 } else { self.cells[self.home_of(hash)] }
    }

    /// Takes an entry out that is there, and moves those up that it kept from where they belong.
    fn remove(&mut self, hash: u64, place: usize) {
        let cell = (hash & UPPER) | (place as u64 + 1);
        let mut hole = self.home_of(hash);
        while self.cells[hole] != cell {
            debug_assert_ne!(self.cells[hole], 0, "what is removed is there");
            hole = self.after(hole);
        }
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if cell == 0 {
                break;
            }
            // It may stand anywhere from its home on, and the hole lies there.
            let from_home = self.distance(self.home_of(cell), at);
            if from_home >= self.distance(hole, at) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = 0;
    }

    fn put(&mut self, cell: u64) {
        let mut at = self.home_of(cell);
        while self.cells[at] != 0 {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    fn home_of(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.cells.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.cells.len() - 1)
    }
}

const UPPER: u64 = 0xffff_ffff << 32;

/// The place of a cell that is not empty.
fn place_in(cell: u64) -> usize {
    (cell as u32 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first_and_the_bound_holds() {
        let mut memory = Memory::new(3);
        let digest = |number: u8| Digest([number; 16]);
        for number in 0..5 {
            memory.remember_frame(digest(number), Seen { batch: u64::from(number), class: Class::Taken });
        }
        let known: Vec<_> =
            (0..5).map(|number| memory.frame(digest(number)).map(|seen| seen.batch)).collect();
        assert_eq!(known, [None, None, Some(2), Some(3), Some(4)]);
        assert_eq!((memory.taken.entries.len(), memory.taken.index.len()), (3, 3));
    }

    impl Index {
        fn len(&self) -> usize {
            self.cells.iter().filter(|cell| **cell != 0).count()
        }
    }

    #[test]
    fn what_is_remembered_is_what_a_list_of_the_newest_holds() {
        // Few values of few hashes, so that cells move up over the end of the index.
        for capacity in [1, 2, 5, 31, 32, 33, 100] {
            let mut bounded: Bounded<u64, u64> = Bounded::new(capacity);
            let mut newest: Vec<(u64, u64)> = Vec::new();
            let mut number = capacity as u64;
            for step in 0..20_000_u64 {
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let key = (number >> 33) % (capacity as u64 * 3);
                match newest.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, value)) => *value = step,
                    None => newest.push((key, step)),
                }
                newest.drain(..newest.len().saturating_sub(capacity));
                bounded.insert(key, step);
                let asked = (number >> 13) % (capacity as u64 * 3);
                let expected = newest.iter().find(|(known, _)| *known == asked).map(|(_, value)| value);
                assert_eq!(bounded.get(&asked), expected, "{asked} of {capacity} in step {step}");
                assert_eq!(bounded.index.len(), newest.len());
            }
        }
    }

    #[test]
    fn what_strangers_send_makes_nothing_genuine_forgotten() {
        let mut memory = Memory::new(4);
        memory.remember_frame(Digest([255; 16]), Seen { batch: 1, class: Class::Taken });
        let class = Class::Quarantined(QuarantineReason::TagMismatch);
        for number in 0..200 {
            memory.remember_frame(Digest([number; 16]), Seen { batch: 2, class });
        }
        assert_eq!(memory.frame(Digest([255; 16])).map(|seen| seen.class), Some(Class::Taken));
        assert_eq!(memory.quarantined.entries.len(), 1);
    }

    #[test]
    fn a_frame_that_fares_better_is_remembered_so() {
        let mut memory = Memory::new(3);
        let unknown = Class::Quarantined(QuarantineReason::UnknownTitle);
        memory.remember_frame(Digest([1; 16]), Seen { batch: 1, class: unknown });
        memory.remember_frame(Digest([1; 16]), Seen { batch: 2, class: Class::Taken });
        assert_eq!(memory.frame(Digest([1; 16])), Some(Seen { batch: 2, class: Class::Taken }));
        assert_eq!((memory.taken.entries.len(), memory.quarantined.entries.len()), (1, 1));
    }
}
