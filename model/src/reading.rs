//! Readings: what a meter said of one interval, one day or one moment.

use smallvec::SmallVec;

use crate::{Digest, Instant, Values};

/// The profile a reading belongs to (IS 15959 block load, daily load, instantaneous).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReadingKind {
    /// Energy and averages of one capture period (block load profile).
    Interval = 1,
    /// Cumulative registers at civil midnight (daily load profile).
    Daily = 2,
    /// Values of one moment (instantaneous profile).
    Instant = 3,
}

impl ReadingKind {
    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<ReadingKind> {
        [ReadingKind::Interval, ReadingKind::Daily, ReadingKind::Instant]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// One reading. Its key is (meter, kind, end); its value the record of all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The profile.
    pub kind: ReadingKind,
    /// End of the interval, instant of the capture.
    pub end: Instant,
    /// Deviation in minutes as the meter sent it, before any reading of its sign; `None` when not specified.
    pub deviation_min: Option<i16>,
    /// Clock status byte as sent; 0xFF when not specified.
    pub clock_status: u8,
    /// What is to be known about the value.
    pub quality: Quality,
    /// The channels.
    pub values: Values,
}

/// The readings of a frame. One alone, which most pushes bring, takes no memory of its own.
pub type Readings = SmallVec<[Reading; 1]>;

/// Event status word (IS 15959 0.0.94.91.18.255): 128 flags, bit 0 is the most significant of the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventWord(pub [u8; 16]);

impl EventWord {
    /// Whether the flag is up; flags past 127 are not.
    #[must_use]
    pub fn bit(self, index: u8) -> bool {
        self.0.get(usize::from(index / 8)).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// The flags that differ from `before`, each with whether it is up now.
    pub fn changes(self, before: EventWord) -> impl Iterator<Item = (u8, bool)> {
        (0..128)
            .filter(move |&index| self.bit(index) != before.bit(index))
            .map(move |index| (index, self.bit(index)))
    }
}

/// What is to be known about a value, as one set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quality(pub u32);

impl Quality {
    /// Nothing remarkable.
    pub const GOOD: Quality = Quality(0);
    /// The meter marked its clock invalid or doubtful.
    pub const CLOCK_DOUBTFUL: Quality = Quality(1);
    /// The deviation was neither the zone's, its opposite nor unspecified.
    pub const DEVIATION_UNEXPECTED: Quality = Quality(1 << 1);
    /// The end does not lie on the profile's grid.
    pub const OFF_GRID: Quality = Quality(1 << 2);
    /// Older than the days for which late data is charged: stored, not charged.
    pub const TOO_LATE: Quality = Quality(1 << 3);
    /// Arrived below the counter's window: evidence and readings only.
    pub const COUNTER_LATE: Quality = Quality(1 << 4);
    /// Not covered by an authentication tag (the meter's policy is `transport`).
    pub const UNAUTHENTICATED: Quality = Quality(1 << 5);
    /// Estimated, not measured.
    pub const ESTIMATED: Quality = Quality(1 << 6);
    /// The register is below one that was read before it.
    pub const REGISTER_WENT_BACK: Quality = Quality(1 << 7);
    /// Lies in the future of the moment of receipt.
    pub const FUTURE: Quality = Quality(1 << 8);
    /// The end lies more than a minute off the profile's grid or ahead of receipt: the meter's clock runs wrong.
    pub const CLOCK_DRIFT: Quality = Quality(1 << 9);

    /// Names of the bits, lowest first, as they appear in documentation.
    pub const NAMES: [&'static str; 10] = [
        "clock_doubtful",
        "deviation_unexpected",
        "off_grid",
        "too_late",
        "counter_late",
        "unauthenticated",
        "estimated",
        "register_went_back",
        "future",
        "clock_drift",
    ];

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Quality) -> Quality {
        Quality(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn has(self, other: Quality) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What decides between two values of one channel of one key: the higher is in force, never the later to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Edit over on demand over push over estimate.
    pub class: RankClass,
    /// Key epoch of the frame.
    pub key_epoch: u16,
    /// Invocation counter of the frame; 0 where it had none.
    pub counter: u32,
    /// Digest of the frame, the last resort.
    pub digest: Digest,
}

/// How a value came to be, lowest rank first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RankClass {
    /// Estimated by rule.
    Estimate = 1,
    /// Pushed by the meter.
    Push = 2,
    /// Read on demand.
    OnDemand = 3,
    /// Edited by a person.
    Edit = 4,
}

impl RankClass {
    /// The class of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<RankClass> {
        [RankClass::Estimate, RankClass::Push, RankClass::OnDemand, RankClass::Edit]
            .into_iter()
            .find(|class| *class as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_word_counts_bits_from_the_most_significant_of_the_first_byte() {
        let mut word = EventWord::default();
        word.0[0] = 0b0001_0000;
        word.0[10] = 0b0100_0000;
        assert!(word.bit(3) && word.bit(81) && !word.bit(4));
        assert_eq!(word.changes(EventWord::default()).collect::<Vec<_>>(), [(3, true), (81, true)]);
        assert_eq!(EventWord::default().changes(word).collect::<Vec<_>>(), [(3, false), (81, false)]);
    }

    #[test]
    fn rank_is_decided_by_class_then_epoch_then_counter_then_digest() {
        let rank = |class, key_epoch, counter, digest| Rank {
            class,
            key_epoch,
            counter,
            digest: Digest([digest; 16]),
        };
        let rising = [
            rank(RankClass::Estimate, 9, 9, 9),
            rank(RankClass::Push, 1, 9, 9),
            rank(RankClass::Push, 2, 1, 1),
            rank(RankClass::Push, 2, 2, 1),
            rank(RankClass::Push, 2, 2, 2),
            rank(RankClass::OnDemand, 0, 0, 0),
            rank(RankClass::Edit, 0, 0, 0),
        ];
        assert!(rising.is_sorted() && rising.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
