//! Look-ups against a naive reading of all rows.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    AcceptedFrame, Channel, Fact, Instant, MeterId, Position, Quality, Rank, ReadingKind, Row, Values,
};

use super::sample::{Group, Market, PERIOD_S, rank_of};
use super::{folder, open};
use crate::Lake;

/// The values of each key: meter, kind and end.
type Keys = BTreeMap<(MeterId, u8, Instant), Vec<Known>>;
/// Rank and values, and whether it was the first.
type Value = (Rank, Values, bool);

/// A value, and whether it may be charged.
struct Known {
    value: Value,
    is_charged: bool,
}

/// Every key there is, with all its values: what the look-up of one must give.
fn naive(groups: &[Group]) -> Keys {
    let frames: BTreeMap<Position, AcceptedFrame> = groups
        .iter()
        .flat_map(|group| &group.records)
        .filter_map(|record| match &record.fact {
            Fact::Frame(frame) => Some((record.position, frame.clone())),
            _ => None,
        })
        .collect();
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in groups.iter().flat_map(|group| &group.rows) {
        let (key, value, quality) = match row {
            Row::Interval(first) | Row::Daily(first) | Row::Instant(first) => {
                let kind = match row {
                    Row::Interval(_) => ReadingKind::Interval,
                    Row::Daily(_) => ReadingKind::Daily,
                    _ => ReadingKind::Instant,
                };
                assert!(!first.quality.has(Quality::ESTIMATED));
                (
                    (first.meter, kind as u8, first.end),
                    (rank_of(&frames[&first.position]), first.values.clone(), true),
                    first.quality,
                )
            }
            Row::Revision(later) => {
                let value = (later.rank, later.values.clone(), false);
                ((later.meter, later.kind as u8, later.end), value, later.quality)
            }
            _ => continue,
        };
        let is_charged = !quality.has(Quality::TOO_LATE) && !quality.has(Quality::FUTURE);
        keys.entry(key).or_default().push(Known { value, is_charged });
    }
    keys
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(|(rank, _, first)| (*rank, *first));
    values
}

fn found(lake: &Lake, meter: MeterId, kind: u8, end: Instant) -> Vec<Value> {
    let kind = ReadingKind::from_number(kind).unwrap();
    let versions = lake.versions(meter, kind, end).unwrap();
    sorted(versions.into_iter().map(|one| (one.rank, one.values, one.first)).collect())
}

fn check(lake: &Lake, groups: &[Group]) {
    let keys = naive(groups);
    assert!(keys.values().any(|values| values.len() > 1), "some keys have revisions");
    for ((meter, kind, end), known) in &keys {
        let expected = sorted(known.iter().map(|known| known.value.clone()).collect());
        assert_eq!(found(lake, *meter, *kind, *end), expected, "meter {meter} kind {kind} end {end}");
    }
    let nothing = Instant(keys.keys().next().unwrap().2.0 + 1);
    assert_eq!(found(lake, MeterId(1), 1, nothing), []);
    assert_eq!(found(lake, MeterId(900), 1, keys.keys().next().unwrap().2), []);
    check_demand(lake, &keys);
}

fn check_demand(lake: &Lake, keys: &Keys) {
    let ends: BTreeSet<Instant> = keys.keys().map(|(_, _, end)| *end).collect();
    let ends: Vec<Instant> = ends.into_iter().collect();
    for meter in (1..=8).map(MeterId) {
        for (from, to) in [(0, ends.len() - 1), (3, 60), (10, 11), (5, 5)] {
            let (from, to) = (ends[from.min(ends.len() - 1)], ends[to.min(ends.len() - 1)]);
            let in_force: BTreeMap<Instant, i64> = keys
                .iter()
                .filter(|((of, kind, end), _)| *of == meter && *kind == 1 && *end > from && *end <= to)
                .filter_map(|((_, _, end), known)| {
                    let charged = known.iter().filter(|known| known.is_charged).map(|known| &known.value);
                    let energy =
                        charged.filter_map(|(rank, values, _)| Some((rank, values.get(Channel::ImportWh)?)));
                    energy.max().map(|(_, energy_wh)| (*end, energy_wh))
                })
                .collect();
            let highest_end =
                in_force.iter().max_by_key(|(_, energy_wh)| **energy_wh).map_or(from, |(end, _)| *end);
            for without in [Instant(0), highest_end] {
                let left = in_force.iter().filter(|(end, _)| **end != without);
                let expected = left.map(|(_, energy_wh)| energy_wh * 3600 / i64::from(PERIOD_S)).max();
                let found = lake.demand_w(meter, from, to, PERIOD_S, without).unwrap();
                assert_eq!(found, expected, "meter {meter} from {from} to {to} without {without}");
            }
        }
    }
}

#[test]
fn look_ups_agree_with_a_naive_scan_of_hot_rows_of_files_and_of_both() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(31).groups(420);
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    check(&lake, &groups);
    lake.commit(groups[99].upto).unwrap();
    lake.commit(groups[280].upto).unwrap();
    check(&lake, &groups);
    lake.commit(groups[419].upto).unwrap();
    check(&lake, &groups);
}
