//! What befalls a meter once, for days or for good: drawn from the seed and the meter alone, so that nothing of it has to
//! be remembered, and any day can be looked at without those before it.

use model::{Calendar, CivilDay, Instant};

use crate::options::Faults;
use crate::provision::SimulatedMeter;
use crate::rng::Rng;

const PURPOSE_SILENCE: u64 = 13;
const PURPOSE_DRIFT: u64 = 14;
const PURPOSE_KEYS: u64 = 15;
const PURPOSE_KEY_CHANGE: u64 = 16;

const DAY_S: i64 = 86_400;
/// What leaves a meter this long after midnight on the first silent day still belongs to the day before.
const LAST_WORD_S: i64 = 900;

/// Days on which a meter cannot be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    /// First silent day.
    pub(crate) first: CivilDay,
    /// The day on which it is back.
    pub(crate) back: CivilDay,
    /// From here on nothing is heard.
    pub(crate) from: Instant,
    /// When it sends everything that it has.
    pub(crate) until: Instant,
}

impl Silence {
    /// The silence of a meter, if it has one.
    pub(crate) fn of(
        seed: u64,
        meter: &SimulatedMeter,
        faults: &Faults,
        calendar: &Calendar,
    ) -> Option<Silence> {
        let rng = &mut draw(seed, PURPOSE_SILENCE, meter, faults.silent_ppm)?;
        let first = meter.from.plus(small(rng.between(3, 9)));
        let back = first.plus(small(rng.between(14, 35)));
        let from = calendar.start_of(first).plus_seconds(LAST_WORD_S);
        let until = calendar.start_of(back).plus_seconds(rng.between(300, 3 * 3600));
        Some(Silence { first, back, from, until })
    }

    /// Whether nothing of that day is pushed on that day.
    pub(crate) fn holds(&self, day: CivilDay) -> bool {
        self.first <= day && day < self.back
    }

    /// When something that leaves the meter at `at` arrives.
    pub(crate) fn heard(&self, at: Instant) -> Instant {
        if self.from <= at && at < self.until { self.until } else { at }
    }
}

/// A clock that runs wrong from one moment on, until it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drift {
    /// When it begins.
    pub(crate) from: Instant,
    /// When it is set right.
    pub(crate) until: Instant,
    seconds_a_day: i64,
}

impl Drift {
    /// The drift of a meter's clock, if it has one.
    pub(crate) fn of(seed: u64, meter: &SimulatedMeter, faults: &Faults) -> Option<Drift> {
        let rng = &mut draw(seed, PURPOSE_DRIFT, meter, faults.clock_drift_ppm)?;
        let begins = i64::from(meter.from.0) * DAY_S + rng.between(2 * DAY_S, 12 * DAY_S);
        let from = Instant::from_seconds(begins);
        let until = from.plus_seconds(rng.between(10 * DAY_S, 25 * DAY_S));
        let rate = rng.between(2, 20);
        Some(Drift { from, until, seconds_a_day: if rng.chance(500_000) { rate } else { -rate } })
    }

    /// What the clock shows at that moment.
    pub(crate) fn shown(&self, at: Instant) -> Instant {
        let since = at.seconds() - self.from.seconds();
        let runs = self.from <= at && at < self.until;
        at.plus_seconds(if runs { since * self.seconds_a_day / DAY_S } else { 0 })
    }
}

/// When a meter goes over to its second keys; one that ciphers nothing has no keys to change.
pub(crate) fn key_change(
    seed: u64,
    meter: &SimulatedMeter,
    faults: &Faults,
    calendar: &Calendar,
) -> Option<(CivilDay, Instant)> {
    meter.security_control?;
    let rng = &mut draw(seed, PURPOSE_KEY_CHANGE, meter, faults.key_change_ppm)?;
    let day = meter.from.plus(small(rng.between(4, 29)));
    Some((day, calendar.start_of(day).plus_seconds(rng.between(2 * 3600, 22 * 3600))))
}

/// The second encryption and authentication key of a meter.
pub(crate) fn second_keys(seed: u64, meter: u32) -> ([u8; 16], [u8; 16]) {
    let rng = &mut Rng::keyed(seed, &[PURPOSE_KEYS, u64::from(meter)]);
    (rng.bytes(), rng.bytes())
}

/// The stream of a meter that is struck; `None` for the others.
fn draw(seed: u64, purpose: u64, meter: &SimulatedMeter, ppm: u32) -> Option<Rng> {
    let mut rng = Rng::keyed(seed, &[purpose, u64::from(meter.index)]);
    (ppm > 0 && rng.chance(ppm)).then_some(rng)
}

fn small(days: i64) -> i32 {
    i32::try_from(days).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mix;
    use crate::provision::provision;

    fn meters() -> Vec<SimulatedMeter> {
        provision(5, 2_000, "2026-06-01".parse().unwrap(), &Mix::default())
    }

    #[test]
    fn a_share_of_the_meters_is_struck_once_and_always_alike() {
        let (calendar, storm) = (Calendar::india(), Faults::STORM);
        let meters = meters();
        let struck = |count: usize, ppm: u32| {
            let expected = meters.len() * ppm as usize / 1_000_000;
            assert!(count * 10 > expected * 7 && count * 10 < expected * 13, "{count} of {expected}");
        };
        let silences: Vec<_> = meters.iter().filter_map(|m| Silence::of(5, m, &storm, &calendar)).collect();
        struck(silences.len(), storm.silent_ppm);
        for silence in &silences {
            let days = silence.back.0 - silence.first.0;
            assert!((14..=35).contains(&days) && silence.from < silence.until, "{silence:?}");
            assert!(silence.back.0 - meters[0].from.0 <= 44);
        }
        let drifts: Vec<_> = meters.iter().filter_map(|m| Drift::of(5, m, &storm)).collect();
        struck(drifts.len(), storm.clock_drift_ppm);
        struck(
            meters.iter().filter_map(|m| key_change(5, m, &storm, &calendar)).count(),
            storm.key_change_ppm,
        );
        assert_eq!(drifts, meters.iter().filter_map(|m| Drift::of(5, m, &storm)).collect::<Vec<_>>());
        assert!(meters.iter().all(|m| Drift::of(5, m, &Faults::USUAL).is_none()));
    }

    #[test]
    fn a_clock_runs_away_little_by_little_and_is_right_again_once_it_is_set() {
        for meter in &meters() {
            let Some(drift) = Drift::of(5, meter, &Faults::STORM) else { continue };
            let off = |at: Instant| drift.shown(at).seconds() - at.seconds();
            let before_set = drift.until.plus_seconds(-1);
            assert_eq!((off(drift.from), off(drift.until), off(drift.from.plus_seconds(-1))), (0, 0, 0));
            assert!((19..=500).contains(&off(before_set).abs()), "{}", off(before_set));
        }
    }

    #[test]
    fn second_keys_differ_from_the_first_and_from_each_other() {
        for meter in &meters() {
            let (guek, gak) = second_keys(5, meter.index);
            assert!(guek != gak && guek != meter.guek && gak != meter.gak);
        }
    }
}
