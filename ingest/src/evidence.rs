//! How much is kept of frames that prove nothing: bytes of a wrong key, an unknown title, no readable frame.
//!
//! Anybody can send them, so without a bound a stranger fills the disk. Two buckets are asked, in this order: that of
//! the title which the frame claims, so that one noisy sender does not use up the evidence of all others; and that of
//! all together, in bytes. A frame beyond either is refused: counted, not kept, never confirmed. Frames whose tag proves
//! their meter are not asked for the second.
//!
//! Titles share a fixed number of buckets by a keyed hash: what this takes does not grow with what strangers invent.

use std::hash::{BuildHasher as _, RandomState};

use model::{Instant, SystemTitle};

/// Buckets of titles: 1 MiB.
const BUCKETS: usize = 1 << 16;
/// What a record of evidence takes besides the bytes of its frame, in the journal and in the lake.
const OVERHEAD: u64 = 256;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// How much evidence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceOptions {
    /// Bytes at once, of all senders.
    pub burst_bytes: u64,
    /// Bytes a day after that.
    pub bytes_per_day: u64,
    /// Frames at once that claim one title.
    pub title_burst: u32,
    /// Frames an hour after that.
    pub title_per_hour: u32,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        EvidenceOptions { burst_bytes: 8 << 20, bytes_per_day: 2 << 30, title_burst: 256, title_per_hour: 60 }
    }
}

/// Decides for each frame whether it is kept.
#[derive(Debug)]
pub(crate) struct EvidenceBudget {
    options: EvidenceOptions,
    all: Bucket,
    titles: Vec<Bucket>,
    hasher: RandomState,
}

impl EvidenceBudget {
    pub(crate) fn new(options: EvidenceOptions) -> EvidenceBudget {
        EvidenceBudget {
            options,
            all: Bucket::default(),
            titles: vec![Bucket::default(); BUCKETS],
            hasher: RandomState::new(),
        }
    }

    /// Whether a frame of `bytes` that proves nothing is kept.
    pub(crate) fn takes_unproven(&mut self, title: Option<SystemTitle>, bytes: usize, now: Instant) -> bool {
        if !title.is_none_or(|title| self.takes_proven(title, now)) {
            return false;
        }
        let rate = Rate { most: self.options.burst_bytes, gain: self.options.bytes_per_day, per_us: DAY_US };
        self.all.take(rate, bytes as u64 + OVERHEAD, now)
    }

    /// Whether a frame is kept whose tag is right but which is no use, as when its counter was used before.
    pub(crate) fn takes_proven(&mut self, title: SystemTitle, now: Instant) -> bool {
        let rate = Rate {
            most: u64::from(self.options.title_burst),
            gain: u64::from(self.options.title_per_hour),
            per_us: HOUR_US,
        };
        let place = usize::try_from(self.hasher.hash_one(title) % BUCKETS as u64).unwrap_or(0);
        self.titles[place].take(rate, 1, now)
    }
}

/// How a bucket fills.
#[derive(Clone, Copy)]
struct Rate {
    most: u64,
    gain: u64,
    per_us: i64,
}

/// What was taken out of a bucket and has not come back.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    used: u64,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, rate: Rate, amount: u64, now: Instant) -> bool {
        let passed = now.0.saturating_sub(self.since.0).max(0);
        let back = i128::from(passed) * i128::from(rate.gain) / i128::from(rate.per_us);
        if back > 0 || self.used == 0 {
            self.used = self.used.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX));
            self.since = now;
        }
        let fits = self.used.saturating_add(amount) <= rate.most;
        self.used += if fits { amount } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Instant = Instant(HOUR_US);

    fn budget(options: EvidenceOptions) -> EvidenceBudget {
        EvidenceBudget::new(options)
    }

    #[test]
    fn a_title_has_its_burst_and_then_its_rate_and_leaves_the_others_theirs() {
        let options = EvidenceOptions { title_burst: 3, title_per_hour: 2, ..EvidenceOptions::default() };
        let mut budget = budget(options);
        let (noisy, quiet) = (SystemTitle([1; 8]), SystemTitle([2; 8]));
        let mut kept = |title, at, offered: usize| {
            (0..offered).filter(|_| budget.takes_unproven(Some(title), 100, at)).count()
        };
        assert_eq!(kept(noisy, Instant(0), 50), 3);
        assert_eq!(kept(quiet, Instant(0), 2), 2);
        assert_eq!(kept(noisy, HOUR, 50), 2);
        assert_eq!(kept(noisy, HOUR, 50), 0);
    }

    #[test]
    fn all_together_stay_within_their_bytes_however_many_titles_are_invented() {
        let options =
            EvidenceOptions { burst_bytes: 100_000, bytes_per_day: 240_000, ..EvidenceOptions::default() };
        let mut budget = budget(options);
        let mut bytes = 0;
        for number in 0..10_000_u64 {
            let title = Some(SystemTitle(number.to_le_bytes())).filter(|_| number % 3 > 0);
            bytes += if budget.takes_unproven(title, 244, Instant(0)) { 500 } else { 0 };
        }
        assert_eq!(bytes, 100_000);
        let kept = (0..10_000).filter(|_| budget.takes_unproven(None, 244, HOUR)).count();
        assert_eq!(kept, 20, "10,000 bytes an hour");
        assert!(
            budget.takes_proven(SystemTitle([9; 8]), HOUR),
            "what a tag proves is not kept out by strangers"
        );
    }

    #[test]
    fn small_steps_of_time_add_up_and_time_that_goes_back_gives_nothing() {
        let rate = Rate { most: 2, gain: 2, per_us: HOUR_US };
        let mut bucket = Bucket::default();
        let kept = (0..3600).filter(|second| bucket.take(rate, 1, Instant(second * 1_000_000))).count();
        assert_eq!(kept, 3, "two at once and one after half an hour");
        assert!(!bucket.take(rate, 2, Instant(0)));
    }
}
