//! The clock of a meter.
//!
//! Standards disagree on the sign of the deviation: the Blue Book counts from local time to UTC (India −330), Indian
//! meters from UTC to local time (+330), and some leave it unspecified. All three mean that the wall clock is the
//! zone's.

use codec::axdr::DateTime;
use model::{Calendar, CivilDay, Instant, Quality};
use profiles::{ClockRule, ZeroDeviation};

/// A moment as a meter told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// What it means.
    pub(super) instant: Instant,
    /// Deviation as sent, minutes.
    pub(super) deviation_min: Option<i16>,
    /// Clock status as sent.
    pub(super) clock_status: u8,
    /// Whether clock or deviation are doubtful.
    pub(super) quality: Quality,
}

impl Stamp {
    /// The stamp of the next row: one period on, by the wall clock for days of another length.
    pub(super) fn after(self, period_s: u32, calendar: &Calendar) -> Stamp {
        let next = self.instant.plus_seconds(i64::from(period_s));
        let turned = calendar.offset_seconds(next) - calendar.offset_seconds(self.instant);
        let whole_day = period_s == super::DAY_S;
        Stamp { instant: if whole_day { next.plus_seconds(-i64::from(turned)) } else { next }, ..self }
    }
}

/// Reads the clocks of one push; those of a day that is no special one cost one look at the calendar together.
pub(super) struct Clock<'c> {
    rule: ClockRule,
    calendar: &'c Calendar,
    day: Option<PlainDay>,
}

/// A day on which the wall clock is ahead of UTC by the same all the time.
#[derive(Clone, Copy)]
struct PlainDay {
    /// Year, month and day as they stand in a date-time.
    date: [u8; 4],
    start: Instant,
    zone_min: i32,
}

impl<'c> Clock<'c> {
    pub(super) fn new(rule: ClockRule, calendar: &'c Calendar) -> Clock<'c> {
        Clock { rule, calendar, day: None }
    }

    /// As [`read`].
    pub(super) fn read(&mut self, time: DateTime) -> Option<Stamp> {
        let [year1, year0, month, day, _, hour, minute, second, ..] = time.0;
        let date = [year1, year0, month, day];
        // A deviation of zero may stand for UTC, which is none of the zone's business.
        if hour > 23 || minute > 59 || second > 59 || time.deviation_min() == Some(0) {
            return read(time, self.rule, self.calendar);
        }
        if self.day.is_none_or(|known| known.date != date) {
            self.day = plain_day(time, date, self.calendar);
        }
        let Some(PlainDay { start, zone_min, .. }) = self.day else {
            return read(time, self.rule, self.calendar);
        };
        let of_day = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
        let (deviation_min, quality) = (time.deviation_min(), clock_quality(time));
        let expected = deviation_min.is_none_or(|deviation| i32::from(deviation).abs() == zone_min.abs());
        let quality = if expected { quality } else { quality.with(Quality::DEVIATION_UNEXPECTED) };
        let instant = start.plus_seconds(of_day);
        Some(Stamp { instant, deviation_min, clock_status: time.clock_status(), quality })
    }

    /// The stamp of the next row.
    pub(super) fn after(&self, before: Stamp, period_s: u32) -> Stamp {
        before.after(period_s, self.calendar)
    }
}

fn plain_day(time: DateTime, date: [u8; 4], calendar: &Calendar) -> Option<PlainDay> {
    let (year, month, day) = date_of(time)?;
    let start = calendar.plain_start_of(CivilDay::from_ymd(year, month, day)?)?;
    Some(PlainDay { date, start, zone_min: calendar.offset_seconds(start) / 60 })
}

fn small(field: u8) -> Option<i8> {
    i8::try_from(field).ok()
}

fn date_of(time: DateTime) -> Option<(i16, i8, i8)> {
    Some((i16::try_from(time.year()?).ok()?, small(time.month()?)?, small(time.day()?)?))
}

fn clock_quality(time: DateTime) -> Quality {
    let doubtful = time.is_invalid() || time.is_doubtful();
    if doubtful { Quality::CLOCK_DOUBTFUL } else { Quality::GOOD }
}

/// The moment that a meter's clock tells.
pub(crate) fn instant_of(time: DateTime, rule: ClockRule, calendar: &Calendar) -> Option<Instant> {
    Some(read(time, rule, calendar)?.instant)
}

/// `None` where the date or the time of day is not specified or does not exist. Seconds that are not specified are 0,
/// hundredths are dropped.
fn read(time: DateTime, rule: ClockRule, calendar: &Calendar) -> Option<Stamp> {
    let (year, month, day) = date_of(time)?;
    let (hour, minute) = (small(time.hour()?)?, small(time.minute()?)?);
    let second = small(time.second().unwrap_or(0))?;
    let local = calendar.instant_of(year, month, day, hour, minute, second)?;
    let zone_min = calendar.offset_seconds(local) / 60;
    let quality = clock_quality(time);
    let (instant, quality) = match time.deviation_min().map(i32::from) {
        None => (local, quality),
        Some(deviation) if deviation.abs() == zone_min.abs() => (local, quality),
        Some(0) if rule.zero_deviation == ZeroDeviation::Local => (local, quality),
        Some(0) if rule.zero_deviation == ZeroDeviation::Utc => {
            let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
            let midnight = i64::from(CivilDay::from_ymd(year, month, day)?.0) * 86_400;
            (Instant::from_seconds(midnight + seconds), quality)
        }
        Some(_) => (local, quality.with(Quality::DEVIATION_UNEXPECTED)),
    };
    Some(Stamp { instant, deviation_min: time.deviation_min(), clock_status: time.clock_status(), quality })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLAG: ClockRule = ClockRule { zero_deviation: ZeroDeviation::Flag };

    fn at(deviation: i16, status: u8) -> DateTime {
        DateTime::new(2026, 6, 1, 1, 0, 30, 0, 0, deviation, status)
    }

    fn check(time: DateTime, rule: ClockRule, instant: &str, quality: Quality) {
        let stamp = read(time, rule, &Calendar::india()).unwrap();
        assert_eq!((stamp.instant.to_string().as_str(), stamp.quality), (instant, quality), "{time}");
        assert_eq!((stamp.deviation_min, stamp.clock_status), (time.deviation_min(), time.clock_status()));
    }

    #[test]
    fn either_sign_of_the_zone_and_none_mean_the_zone() {
        for deviation in [330, -330, i16::MIN] {
            check(at(deviation, 0), FLAG, "2026-05-31T19:00:00Z", Quality::GOOD);
        }
    }

    #[test]
    fn a_deviation_of_zero_means_what_the_profile_says() {
        let rule = |zero_deviation| ClockRule { zero_deviation };
        check(at(0, 0), rule(ZeroDeviation::Local), "2026-05-31T19:00:00Z", Quality::GOOD);
        check(at(0, 0), rule(ZeroDeviation::Utc), "2026-06-01T00:30:00Z", Quality::GOOD);
        check(at(0, 0), FLAG, "2026-05-31T19:00:00Z", Quality::DEVIATION_UNEXPECTED);
    }

    #[test]
    fn any_other_deviation_and_a_doubtful_clock_are_flagged() {
        check(at(345, 0), FLAG, "2026-05-31T19:00:00Z", Quality::DEVIATION_UNEXPECTED);
        check(at(330, 0x01), FLAG, "2026-05-31T19:00:00Z", Quality::CLOCK_DOUBTFUL);
        check(at(330, 0x02), FLAG, "2026-05-31T19:00:00Z", Quality::CLOCK_DOUBTFUL);
        check(at(330, 0xff), FLAG, "2026-05-31T19:00:00Z", Quality::GOOD);
        let both = Quality::CLOCK_DOUBTFUL.with(Quality::DEVIATION_UNEXPECTED);
        check(at(60, 0x03), FLAG, "2026-05-31T19:00:00Z", both);
    }

    #[test]
    fn a_date_that_is_not_there_is_no_stamp() {
        for time in [
            DateTime([0xff; 12]),
            DateTime::new(2026, 2, 30, 1, 0, 0, 0, 0, 330, 0),
            DateTime::new(2026, 0xfe, 1, 1, 0, 0, 0, 0, 330, 0),
            DateTime::new(40_000, 1, 1, 1, 0, 0, 0, 0, 330, 0),
        ] {
            assert_eq!(read(time, FLAG, &Calendar::india()), None, "{time}");
        }
        let no_seconds = DateTime::new(2026, 6, 1, 0xff, 0, 30, 0xff, 0xff, 330, 0);
        check(no_seconds, FLAG, "2026-05-31T19:00:00Z", Quality::GOOD);
    }

    #[test]
    fn a_daily_row_without_clock_is_the_next_midnight_also_across_summer_time() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let midnight = |day: &str| berlin.start_of(day.parse().unwrap());
        let stamp = Stamp { instant: midnight("2026-03-29"), ..read(at(0, 0), FLAG, &berlin).unwrap() };
        assert_eq!(stamp.after(86_400, &berlin).instant, midnight("2026-03-30"));
        assert_eq!(stamp.after(1800, &berlin).instant, stamp.instant.plus_seconds(1800));
    }

    /// Days around those on which Berlin's clock turns, and fields that are not specified or do not exist.
    fn any_time() -> impl Strategy<Value = DateTime> {
        let year = prop::sample::select(vec![1970, 2026, 2027, 2099, 2100, 40_000, 0xffff]);
        let month = prop::sample::select(vec![1, 2, 3, 4, 10, 11, 12, 13, 0xfe, 0xff]);
        let day = prop::sample::select(vec![1, 24, 25, 26, 27, 28, 29, 30, 31, 0, 0xfd, 0xff]);
        let of_day = (
            prop_oneof![0..24_u8, any::<u8>()],
            prop_oneof![0..60_u8, any::<u8>()],
            prop_oneof![0..60_u8, any::<u8>()],
        );
        let deviation = prop::sample::select(vec![330, -330, 60, -120, 0, 345, i16::MIN, i16::MAX]);
        (year, month, day, of_day, deviation, any::<u8>()).prop_map(
            |(year, month, day, of_day, deviation, status)| {
                DateTime::new(year, month, day, 0xff, of_day.0, of_day.1, of_day.2, 0, deviation, status)
            },
        )
    }

    proptest! {
        #[test]
        fn a_clock_that_keeps_its_day_reads_as_one_that_looks_every_time(
            times in prop::collection::vec((any_time(), any::<bool>()), 1..20),
        ) {
            for zone in ["Asia/Kolkata", "Europe/Berlin"] {
                let calendar = Calendar::new(zone).unwrap();
                for zero_deviation in [ZeroDeviation::Flag, ZeroDeviation::Local, ZeroDeviation::Utc] {
                    let rule = ClockRule { zero_deviation };
                    let mut clock = Clock::new(rule, &calendar);
                    for (time, is_repeated) in &times {
                        for _ in 0..=u8::from(*is_repeated) {
                            prop_assert_eq!(clock.read(*time), read(*time, rule, &calendar), "{}", time);
                        }
                    }
                }
            }
        }
    }
}
