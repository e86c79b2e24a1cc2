//! A small generator of pseudo-random numbers: SplitMix64, keyed, so that any part of the simulation can be drawn
//! without drawing what comes before it.

/// SplitMix64 (Steele, Lea, Flood 2014). Not for secrets of real meters.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// One million: shares are given in parts per million.
pub(crate) const MILLION: u64 = 1_000_000;

impl Rng {
    /// The stream that belongs to `seed` and a path of numbers, for example (purpose, meter, day).
    #[must_use]
    pub fn keyed(seed: u64, path: &[u64]) -> Rng {
        let mut rng = Rng(seed);
        for &part in path {
            rng = Rng(rng.next_u64() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        }
        rng.next_u64();
        rng
    }

    /// 64 fresh bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound.max(1));
        (product >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` where `high` is below it.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(0).unsigned_abs().saturating_add(1);
        low.saturating_add_unsigned(self.below(span))
    }

    /// True in `ppm` of a million draws.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(MILLION) < u64::from(ppm)
    }

    /// One of the choices, which are not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Fresh bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let draw = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&draw[..chunk.len()]);
        }
        bytes
    }

    /// A number around 0, by a sum of four: mostly within `spread`, never beyond twice it.
    pub(crate) fn around(&mut self, spread: i64) -> i64 {
        (0..4).map(|_| self.between(-spread, spread)).sum::<i64>() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        let mut rng = Rng(1_234_567);
        assert_eq!(
            [rng.next_u64(), rng.next_u64(), rng.next_u64()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn paths_that_differ_give_streams_that_differ() {
        let draws = |path: &[u64]| {
            let mut rng = Rng::keyed(7, path);
            (rng.next_u64(), rng.next_u64())
        };
        let all = [draws(&[]), draws(&[0]), draws(&[1]), draws(&[0, 1]), draws(&[1, 0]), draws(&[0, 0])];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "path {index}");
        }
        assert_eq!(draws(&[1, 2]), draws(&[1, 2]));
    }

    #[test]
    fn draws_stay_within_their_bounds_and_near_their_rates() {
        let mut rng = Rng::keyed(3, &[]);
        assert!((0..10_000).all(|_| (-3..=4).contains(&rng.between(-3, 4))));
        assert!((0..10_000).all(|_| rng.around(10).abs() <= 20));
        let hits = (0..100_000).filter(|_| rng.chance(30_000)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
        assert_eq!(rng.between(5, 5), 5);
        assert_eq!(rng.below(1), 0);
    }
}
