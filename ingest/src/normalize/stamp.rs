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

/// `None` where the date or the time of day is not specified or does not exist. Seconds that are not specified are 0,
/// hundredths are dropped.
pub(super) fn read(time: DateTime, rule: ClockRule, calendar: &Calendar) -> Option<Stamp> {
    let year = i16::try_from(time.year()?).ok()?;
    let small = |field: u8| i8::try_from(field).ok();
    let (month, day) = (small(time.month()?)?, small(time.day()?)?);
    let (hour, minute) = (small(time.hour()?)?, small(time.minute()?)?);
    let second = small(time.second().unwrap_or(0))?;
    let local = calendar.instant_of(year, month, day, hour, minute, second)?;
    let zone_min = calendar.offset_seconds(local) / 60;
    let doubtful = time.is_invalid() || time.is_doubtful();
    let quality = if doubtful { Quality::CLOCK_DOUBTFUL } else { Quality::GOOD };
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
}
