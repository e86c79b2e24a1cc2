//! Hashes under a key of this process: of what is remembered, and of what pushes say. They go nowhere else.

use std::hash::{BuildHasher, Hasher, RandomState};

use model::{EventWord, Reading};

/// What the values of a push are told by: a repetition has the print of the first, another use of its counter has not.
/// That two pushes have one and differ is as unlikely as that a number of 64 bits is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Print(u64);

/// Makes hashers under a key that was drawn at random, so that nobody can choose keys that meet in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    begin: u64,
    factor: u64,
}

impl Keyed {
    pub(crate) fn new() -> Keyed {
        let drawn = RandomState::new();
        Keyed { begin: drawn.hash_one(0_u8), factor: drawn.hash_one(1_u8) | 1 }
    }

    /// Print of what a push says, without how it was said: kinds, ends, channels, event word.
    pub(crate) fn print_of(&self, readings: &[Reading], word: Option<EventWord>) -> Print {
        let mut hasher = self.build_hasher();
        hasher.write_usize(readings.len());
        for reading in readings {
            hasher.write_u8(reading.kind as u8);
            hasher.write_i64(reading.end.0);
            hasher.write_u64(reading.values.set());
            reading.values.as_slice().iter().for_each(|value| hasher.write_i64(*value));
        }
        if let Some(EventWord(bits)) = word {
            hasher.write(&bits);
        }
        Print(hasher.finish())
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.begin, factor: self.factor }
    }
}

/// Multiplies word by word and folds the two halves together: a fraction of what the standard hasher takes, for keys
/// that are digests and numbers.
pub(crate) struct KeyedHasher {
    state: u64,
    factor: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.state ^ number) * u128::from(self.factor);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        // Once more, so that every bit of the last word reaches every bit.
        let product = u128::from(self.state) * u128::from(self.factor.rotate_left(32) | 1);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use model::{Channel, Instant, MeterId, Quality, ReadingKind, Values};
    use proptest::prelude::*;

    use super::*;

    fn any_reading() -> impl Strategy<Value = Reading> {
        let kind =
            prop::sample::select(vec![ReadingKind::Interval, ReadingKind::Daily, ReadingKind::Instant]);
        // Few and near each other, so that readings meet; with both signs.
        let number = (prop::sample::select(vec![0_i64, 1, 255, 1 << 31, i64::MAX]), any::<bool>())
            .prop_map(|(number, is_negative)| if is_negative { !number } else { number });
        let values = prop::collection::vec((0..4_usize, number), 1..4);
        (kind, 0..3_i64, values).prop_map(|(kind, end, values)| Reading {
            kind,
            end: Instant(end),
            deviation_min: None,
            clock_status: 0,
            quality: Quality::GOOD,
            values: values
                .into_iter()
                .map(|(channel, value)| (Channel::ALL[channel], value))
                .collect::<Values>(),
        })
    }

    proptest! {
        #[test]
        fn pushes_have_one_print_where_they_say_the_same_and_only_there(
            pushes in prop::collection::vec((prop::collection::vec(any_reading(), 0..3), any::<Option<u8>>()), 1..60),
        ) {
            let keyed = Keyed::new();
            let mut known = HashMap::new();
            for (readings, word) in pushes {
                let word = word.map(|byte| EventWord([byte; 16]));
                let print = keyed.print_of(&readings, word);
                // How it was said is not told apart.
                let flagged: Vec<_> =
                    readings.iter().map(|reading| Reading { clock_status: 1, ..reading.clone() }).collect();
                prop_assert_eq!(keyed.print_of(&flagged, word), print);
                let said = known.entry(print).or_insert_with(|| (readings.clone(), word));
                prop_assert_eq!(said, &(readings, word));
            }
        }
    }

    #[test]
    fn keys_that_are_alike_are_spread_over_all_places() {
        let keyed = Keyed::new();
        let mut places = vec![0_u32; 1 << 12];
        for meter in 0..64_u32 {
            for counter in 0..1024_u32 {
                let hash = keyed.hash_one((MeterId(meter), 1_u16, counter));
                places[(hash % (1 << 12)) as usize] += 1;
                places[(hash >> 52) as usize] += 1;
            }
        }
        assert!(places.iter().all(|count| (4..96).contains(count)), "{:?}", places.iter().max());
    }
}
