//! The answer to a contested reading: a pure function of the values that its key has and the one that came.
//!
//! In force is, channel by channel, the value of the highest rank, whatever came last. A reading that says nothing else
//! than what is in force, under no higher rank, is repeated; any other is a revision: one that loses by rank, and one
//! that only raises the rank of the value in force, for that rank decides a contest that may still come.

use model::{Channel, Rank, Reading, Values, Verdict};

use crate::lake::LakeVersion;

/// The verdict on `reading`, but for the demand of its month.
pub(crate) fn verdict(versions: &[LakeVersion], rank: Rank, reading: &Reading) -> Verdict {
    if versions.is_empty() {
        return Verdict::Absent;
    }
    let known = || versions.iter().map(|version| (version.rank, &version.values));
    let before = in_force(known());
    if reading.values.iter().all(|(channel, value)| is_repeated(versions, rank, channel, value)) {
        return Verdict::Repeated;
    }
    let after = in_force(known().chain([(rank, &reading.values)]));
    Verdict::Revised { before, after, demand_without_w: None }
}

fn is_repeated(versions: &[LakeVersion], rank: Rank, channel: Channel, value: i64) -> bool {
    let Some((highest, in_force)) = winner(versions.iter().map(|v| (v.rank, &v.values)), channel) else {
        return false;
    };
    in_force == value && highest >= rank
}

/// The values in force among these.
fn in_force<'a>(versions: impl Iterator<Item = (Rank, &'a Values)> + Clone) -> Values {
    let of = |channel| winner(versions.clone(), channel).map(|(_, value)| (channel, value));
    Channel::ALL.into_iter().filter_map(of).collect()
}

fn winner<'a>(versions: impl Iterator<Item = (Rank, &'a Values)>, channel: Channel) -> Option<(Rank, i64)> {
    let of_channel = versions.filter_map(|(rank, values)| values.get(channel).map(|value| (rank, value)));
    of_channel.max_by_key(|(rank, _)| *rank)
}

#[cfg(test)]
mod tests {
    use model::reading::RankClass;
    use model::{Digest, Instant, Quality, ReadingKind};
    use proptest::prelude::*;

    use super::*;

    fn rank(counter: u32) -> Rank {
        Rank { class: RankClass::Push, key_epoch: 1, counter, digest: Digest([counter as u8; 16]) }
    }

    fn values(of: &[(Channel, i64)]) -> Values {
        of.iter().copied().collect()
    }

    fn import(value: i64) -> Values {
        values(&[(Channel::ImportWh, value)])
    }

    fn reading(values: Values) -> Reading {
        Reading {
            kind: ReadingKind::Interval,
            end: Instant(0),
            deviation_min: None,
            clock_status: 0,
            quality: Quality::GOOD,
            values,
        }
    }

    fn stored(of: &[(u32, Values)]) -> Vec<LakeVersion> {
        of.iter()
            .map(|(counter, values)| LakeVersion { rank: rank(*counter), values: values.clone() })
            .collect()
    }

    fn revised(before: Values, after: Values) -> Verdict {
        Verdict::Revised { before, after, demand_without_w: None }
    }

    #[test]
    fn a_key_without_values_is_absent_and_the_same_value_is_repeated() {
        assert_eq!(verdict(&[], rank(1), &reading(import(5))), Verdict::Absent);
        let one = stored(&[(2, import(5))]);
        for counter in [0, 1, 2] {
            assert_eq!(verdict(&one, rank(counter), &reading(import(5))), Verdict::Repeated);
        }
    }

    #[test]
    fn the_same_value_under_a_higher_rank_wins_against_one_between_them_that_comes_later() {
        let one = stored(&[(1, import(5))]);
        assert_eq!(verdict(&one, rank(3), &reading(import(5))), revised(import(5), import(5)));
        let two = stored(&[(1, import(5)), (3, import(5))]);
        assert_eq!(verdict(&two, rank(2), &reading(import(7))), revised(import(5), import(5)));
    }

    #[test]
    fn the_higher_rank_is_in_force_and_the_lower_one_is_kept() {
        let one = stored(&[(5, import(50))]);
        assert_eq!(verdict(&one, rank(6), &reading(import(60))), revised(import(50), import(60)));
        assert_eq!(verdict(&one, rank(4), &reading(import(40))), revised(import(50), import(50)));
    }

    #[test]
    fn channels_that_were_empty_are_filled_by_union() {
        let one = stored(&[(5, import(50))]);
        let both = values(&[(Channel::ImportWh, 50), (Channel::VoltageDv, 2300)]);
        assert_eq!(verdict(&one, rank(4), &reading(both.clone())), revised(import(50), both.clone()));
        assert_eq!(verdict(&stored(&[(5, both)]), rank(5), &reading(import(50))), Verdict::Repeated);
    }

    #[test]
    fn among_differing_values_the_highest_rank_of_each_decides() {
        let two = stored(&[(1, import(5)), (2, import(7))]);
        assert_eq!(verdict(&two, rank(2), &reading(import(7))), Verdict::Repeated);
        assert_eq!(verdict(&two, rank(3), &reading(import(7))), revised(import(7), import(7)));
        assert_eq!(verdict(&two, rank(3), &reading(import(5))), revised(import(7), import(5)));
        assert_eq!(verdict(&two, rank(0), &reading(import(5))), revised(import(7), import(7)));
    }

    proptest! {
        #[test]
        fn any_order_of_readings_leaves_the_same_values_in_force(
            readings in prop::collection::btree_map(
                0..100_u32, prop::collection::vec((0..4_usize, 0..3_i64), 1..4), 1..7),
            seed in prop::collection::vec(any::<u32>(), 8),
        ) {
            let readings: Vec<(u32, Values)> = readings
                .into_iter()
                .map(|(counter, of)| (counter, of.into_iter().map(|(c, v)| (Channel::ALL[c], v)).collect()))
                .collect();
            let mut shuffled = readings.clone();
            for (index, random) in seed.iter().enumerate().take(shuffled.len()) {
                let other = *random as usize % shuffled.len();
                shuffled.swap(index, other);
            }
            prop_assert_eq!(replayed(&readings), replayed(&shuffled));
        }
    }

    fn replayed(readings: &[(u32, Values)]) -> Values {
        let mut stored: Vec<LakeVersion> = Vec::new();
        for (counter, values) in readings {
            if verdict(&stored, rank(*counter), &reading(values.clone())) != Verdict::Repeated {
                stored.push(LakeVersion { rank: rank(*counter), values: values.clone() });
            }
        }
        in_force(stored.iter().map(|version| (version.rank, &version.values)))
    }
}
