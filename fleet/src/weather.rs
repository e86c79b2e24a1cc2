//! The weather all households of a fleet share: temperatures of the Gangetic plain.

use model::CivilDay;

use crate::rng::Rng;

const PURPOSE_WEATHER: u64 = 3;

/// Mean temperature of the middle of each month, tenths of a degree.
const MONTH_MEAN: [i64; 12] = [150, 185, 245, 305, 335, 335, 305, 298, 293, 265, 212, 165];
/// Deviation from the day's mean at each hour, tenths of a degree.
const HOUR_OFFSET: [i64; 24] =
    [-30, -36, -42, -48, -53, -56, -52, -38, -18, 4, 24, 40, 52, 60, 63, 60, 50, 34, 18, 8, 0, -8, -16, -23];
/// Minute of sunrise in the middle of each month.
const SUNRISE: [i64; 12] = [415, 402, 376, 344, 321, 314, 322, 337, 349, 362, 381, 404];
/// Minute of sunset in the middle of each month.
const SUNSET: [i64; 12] = [1041, 1066, 1084, 1099, 1116, 1131, 1132, 1115, 1084, 1050, 1026, 1021];

/// The weather of one day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    mean: i64,
    /// Minute of the day at which it gets light.
    pub(crate) sunrise_min: i64,
    /// Minute of the day at which it gets dark.
    pub(crate) sunset_min: i64,
}

impl Weather {
    pub(crate) fn of(seed: u64, day: CivilDay) -> Weather {
        let spell: i64 =
            (0..4).map(|back| Rng::keyed(seed, &[PURPOSE_WEATHER, key(day.plus(-back))]).around(18)).sum();
        Weather {
            mean: by_month(&MONTH_MEAN, day) + spell / 2,
            sunrise_min: by_month(&SUNRISE, day),
            sunset_min: by_month(&SUNSET, day),
        }
    }

    /// Temperature at a minute of the day, tenths of a degree.
    pub(crate) fn temperature(&self, minute: i64) -> i64 {
        let hour = minute.div_euclid(60);
        let at = |hour: i64| HOUR_OFFSET[hour.rem_euclid(24) as usize];
        let within = minute.rem_euclid(60);
        self.mean + (at(hour) * (60 - within) + at(hour + 1) * within) / 60
    }
}

/// The path of a stream that belongs to a day.
pub(crate) fn key(day: CivilDay) -> u64 {
    u64::from(day.0.cast_unsigned())
}

/// A value given for the middle of each month, drawn straight between them.
fn by_month(table: &[i64; 12], day: CivilDay) -> i64 {
    let month = day.month();
    let (of_month, days) = (i64::from(day.day_of_month()), i64::from(month.days()));
    let number = month.0.rem_euclid(12);
    let after = 2 * of_month - days;
    let other = if after >= 0 { number + 1 } else { number - 1 };
    let here = table[number.rem_euclid(12) as usize];
    let there = table[other.rem_euclid(12) as usize];
    here + (there - here) * after.abs() / (2 * days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(day: &str) -> i64 {
        let day: CivilDay = day.parse().unwrap();
        (0..20).map(|seed| Weather::of(seed, day).mean).sum::<i64>() / 20
    }

    #[test]
    fn june_is_hot_and_january_is_cool() {
        assert!((300..370).contains(&mean_of("2026-06-01")), "{}", mean_of("2026-06-01"));
        assert!((120..185).contains(&mean_of("2026-01-15")), "{}", mean_of("2026-01-15"));
    }

    #[test]
    fn afternoons_are_warmer_than_mornings() {
        let weather = Weather::of(1, "2026-04-10".parse().unwrap());
        assert!(weather.temperature(14 * 60) > weather.temperature(5 * 60) + 80);
        assert!(weather.sunrise_min < weather.sunset_min);
    }
}
