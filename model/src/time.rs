//! Instants, civil days and the calendar between them.
//!
//! Instants are UTC. A day is a civil day of the utility's zone, so it may have 23, 24 or 25 hours. "Now" is always
//! an argument: nothing here reads a clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub i64);

impl Instant {
    /// The instant `seconds` after 1970.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Instant {
        Instant(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970, rounded towards the past.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This instant moved by `seconds`, which may be negative; stays within range.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Instant {
        Instant(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The same instant for jiff, held to its range.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let end = if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_microsecond(self.0).unwrap_or(end)
    }
}

/// RFC 3339 in UTC, for example `2026-06-01T00:30:00Z`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl FromStr for Instant {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let stamp: Timestamp = text.parse().map_err(|_| TimeError::Instant(text.to_owned()))?;
        Ok(Instant(stamp.as_microsecond()))
    }
}

/// A civil day, as days since 1970-01-01 of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CivilDay(pub i32);

impl CivilDay {
    /// The day of that date; `None` where there is no such date.
    #[must_use]
    pub fn from_ymd(year: i16, month: i8, day: i8) -> Option<CivilDay> {
        Date::new(year, month, day).ok().map(CivilDay::from_date)
    }

    fn from_date(date: Date) -> CivilDay {
        CivilDay(days_from_civil(date))
    }

    /// The same day for jiff, held to its range.
    #[must_use]
    pub fn date(self) -> Date {
        let end = if self.0 < 0 { Date::MIN } else { Date::MAX };
        Date::constant(1970, 1, 1)
            .checked_add(Span::new().try_days(self.0).unwrap_or_default())
            .unwrap_or(end)
    }

    /// The day after this one.
    #[must_use]
    pub fn next(self) -> CivilDay {
        self.plus(1)
    }

    /// The day before this one.
    #[must_use]
    pub fn previous(self) -> CivilDay {
        self.plus(-1)
    }

    /// This day moved by `days`, which may be negative.
    #[must_use]
    pub fn plus(self, days: i32) -> CivilDay {
        CivilDay(self.0.saturating_add(days))
    }

    /// The month this day is in.
    #[must_use]
    pub fn month(self) -> CivilMonth {
        if !ORDINARY_DAYS.contains(&self.0) {
            let date = self.date();
            return CivilMonth(i32::from(date.year()) * 12 + i32::from(date.month()) - 1);
        }
        // Years that begin in March have their leap day at the end, and months of a fixed pattern of lengths.
        let since_march = self.0 + DAYS_FROM_MARCH_0000;
        let (era, day) = (since_march.div_euclid(DAYS_OF_ERA), since_march.rem_euclid(DAYS_OF_ERA));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        CivilMonth((era * 400 + year) * 12 + month + 2)
    }

    /// Day of the month, from 1.
    #[must_use]
    pub fn day_of_month(self) -> u8 {
        self.date().day().unsigned_abs()
    }
}

/// Days for which months are counted without jiff: the years 1 to 9998.
const ORDINARY_DAYS: std::ops::Range<i32> = -719_162..2_932_531;
const DAYS_FROM_MARCH_0000: i32 = 719_468;
const DAYS_OF_ERA: i32 = 146_097;

/// ISO 8601, for example `2026-06-01`.
impl fmt::Display for CivilDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

impl FromStr for CivilDay {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let date: Date = text.parse().map_err(|_| TimeError::Day(text.to_owned()))?;
        Ok(CivilDay::from_date(date))
    }
}

/// Days since 1970, by years that begin in March.
fn days_from_civil(date: Date) -> i32 {
    let (month, day) = (i32::from(date.month()), i32::from(date.day()));
    let year = i32::from(date.year()) - i32::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * DAYS_OF_ERA + days - DAYS_FROM_MARCH_0000
}

/// A calendar month, as months since year 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CivilMonth(pub i32);

impl CivilMonth {
    /// First day of the month.
    #[must_use]
    pub fn first_day(self) -> CivilDay {
        let year = i16::try_from(self.0.div_euclid(12)).unwrap_or(i16::MAX);
        let month = i8::try_from(self.0.rem_euclid(12) + 1).unwrap_or(1);
        CivilDay::from_ymd(year, month, 1).unwrap_or(CivilDay(i32::MAX))
    }

    /// Last day of the month.
    #[must_use]
    pub fn last_day(self) -> CivilDay {
        self.next().first_day().previous()
    }

    /// Number of days in the month.
    #[must_use]
    pub fn days(self) -> u8 {
        self.last_day().day_of_month()
    }

    /// Which of the twelve, from 0 for January.
    #[must_use]
    pub fn index_of_year(self) -> usize {
        usize::try_from(self.0.rem_euclid(12)).unwrap_or(0)
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> CivilMonth {
        CivilMonth(self.0 + 1)
    }

    /// The month before this one.
    #[must_use]
    pub fn previous(self) -> CivilMonth {
        CivilMonth(self.0 - 1)
    }
}

/// For example `2026-06`.
impl fmt::Display for CivilMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// The utility's zone: what turns instants into civil days and back.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    name: String,
    offsets: Arc<[OffsetSpan]>,
}

/// A time in which the zone is ahead of UTC by the same.
#[derive(Clone, Copy, Debug)]
struct OffsetSpan {
    from_us: i64,
    until_us: i64,
    offset_us: i64,
}

/// Years for which the offsets of a zone are kept at hand; other instants are looked up in the zone each time.
const KEPT: (&str, &str) = ("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z");

/// The offsets of a zone in the years [`KEPT`], the latest first.
fn offsets_of(zone: &TimeZone) -> Arc<[OffsetSpan]> {
    let (Ok(first), Ok(end)) = (KEPT.0.parse::<Timestamp>(), KEPT.1.parse::<Timestamp>()) else {
        return Arc::new([]);
    };
    let offset_us = |at| i64::from(zone.to_offset(at).seconds()) * SECOND_US;
    let mut spans = vec![OffsetSpan {
        from_us: first.as_microsecond(),
        until_us: end.as_microsecond(),
        offset_us: offset_us(first),
    }];
    for change in zone.following(first).take_while(|change| change.timestamp() < end) {
        let at = change.timestamp();
        if let Some(before) = spans.last_mut() {
            before.until_us = at.as_microsecond();
        }
        spans.push(OffsetSpan {
            from_us: at.as_microsecond(),
            until_us: end.as_microsecond(),
            offset_us: offset_us(at),
        });
    }
    spans.reverse();
    spans.into()
}

impl Calendar {
    /// The calendar of a zone of the IANA database, for example `Asia/Kolkata`.
    ///
    /// # Errors
    /// When the bundled database has no such zone.
    pub fn new(zone: &str) -> Result<Calendar, TimeError> {
        let found = TimeZone::get(zone).map_err(|_| TimeError::Zone(zone.to_owned()))?;
        Ok(Calendar { offsets: offsets_of(&found), zone: found, name: zone.to_owned() })
    }

    /// The calendar of India.
    #[must_use]
    pub fn india() -> Calendar {
        let zone = TimeZone::get("Asia/Kolkata").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(5)));
        Calendar { offsets: offsets_of(&zone), zone, name: "Asia/Kolkata".to_owned() }
    }

    /// Name of the zone in the IANA database.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.name
    }

    /// The civil day that holds this instant.
    #[must_use]
    #[inline]
    pub fn day_of(&self, instant: Instant) -> CivilDay {
        match self.offset_us(instant) {
            Some(offset) => CivilDay(i32::try_from((instant.0 + offset).div_euclid(DAY_US)).unwrap_or(0)),
            None => CivilDay::from_date(self.zone.to_datetime(instant.timestamp()).date()),
        }
    }

    /// How far the zone is ahead of UTC at an instant of the years that are kept.
    fn offset_us(&self, instant: Instant) -> Option<i64> {
        let holds = |span: &&OffsetSpan| (span.from_us..span.until_us).contains(&instant.0);
        self.offsets.iter().find(holds).map(|span| span.offset_us)
    }

    /// The instant of a wall clock that counts `local_us` from 1970, where no other instant shows the same and every
    /// offset near it is kept.
    fn plain_instant(&self, local_us: i64) -> Option<Instant> {
        let mut spans = self.offsets.iter().filter(|span| {
            let instant = local_us.saturating_sub(span.offset_us);
            (span.from_us + DAY_US..span.until_us - DAY_US).contains(&instant)
        });
        spans.next().map(|span| Instant(local_us - span.offset_us))
    }

    /// The civil day an interval or a register is counted to: that of the instant just before its end, so that what
    /// is captured at 00:00 closes the day before.
    #[must_use]
    #[inline]
    pub fn usage_day(&self, end: Instant) -> CivilDay {
        self.day_of(Instant(end.0.saturating_sub(1)))
    }

    /// The instant at which the day begins.
    #[must_use]
    pub fn start_of(&self, day: CivilDay) -> Instant {
        self.at(day, 0, 0)
    }

    /// The instant at which the day ends, which is the start of the next.
    #[must_use]
    pub fn end_of(&self, day: CivilDay) -> Instant {
        self.start_of(day.next())
    }

    /// The instant of a wall-clock time on that day; where the clock jumps, the one that was in force before.
    #[must_use]
    pub fn at(&self, day: CivilDay, hour: i8, minute: i8) -> Instant {
        let (hour, minute) = (hour.clamp(0, 23), minute.clamp(0, 59));
        let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60;
        if let Some(instant) =
            self.plain_instant(i64::from(day.0).saturating_mul(DAY_US).saturating_add(of_day * SECOND_US))
        {
            return instant;
        }
        let moment = day.date().at(hour, minute, 0, 0);
        let stamp = self.zone.to_ambiguous_timestamp(moment).compatible().unwrap_or(Timestamp::MAX);
        Instant(stamp.as_microsecond())
    }

    /// The instant of a wall-clock time given in parts (hundredths are dropped); `None` where there is no such date
    /// or time.
    #[must_use]
    pub fn instant_of(
        &self,
        year: i16,
        month: i8,
        day: i8,
        hour: i8,
        minute: i8,
        second: i8,
    ) -> Option<Instant> {
        let date = Date::new(year, month, day).ok()?;
        let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
        let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let local_us = i64::from(days_from_civil(date)) * DAY_US + of_day * SECOND_US;
        if let Some(instant) = self.plain_instant(local_us) {
            return Some(instant);
        }
        let moment = date.to_datetime(time);
        let stamp = self.zone.to_ambiguous_timestamp(moment).compatible().ok()?;
        Some(Instant(stamp.as_microsecond()))
    }

    /// Seconds by which the zone is ahead of UTC at this instant.
    #[must_use]
    pub fn offset_seconds(&self, instant: Instant) -> i32 {
        match self.offset_us(instant).map(|offset| i32::try_from(offset / SECOND_US)) {
            Some(Ok(seconds)) => seconds,
            _ => self.zone.to_offset(instant.timestamp()).seconds(),
        }
    }

    /// The start of a day that counts as every other: on which the zone does not turn, nor on the days beside it, so that
    /// a wall clock on it is that much after its start; `None` where that is not known of it.
    #[must_use]
    pub fn plain_start_of(&self, day: CivilDay) -> Option<Instant> {
        let local_us = i64::from(day.0).checked_mul(DAY_US)?;
        let start = self.plain_instant(local_us)?;
        let last = self.plain_instant(local_us + DAY_US - 1)?;
        (last.0 - start.0 == DAY_US - 1).then_some(start)
    }

    /// Wall-clock parts of an instant: year, month, day, weekday (1 Monday), hour, minute, second.
    #[must_use]
    pub fn wall_clock(&self, instant: Instant) -> WallClock {
        let local = self.zone.to_datetime(instant.timestamp());
        WallClock {
            year: local.year(),
            month: local.month(),
            day: local.day(),
            weekday: local.weekday().to_monday_one_offset(),
            hour: local.hour(),
            minute: local.minute(),
            second: local.second(),
        }
    }
}

/// A wall-clock reading in the utility's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Year, for example 2026.
    pub year: i16,
    /// Month from 1.
    pub month: i8,
    /// Day of the month from 1.
    pub day: i8,
    /// Day of the week, 1 is Monday.
    pub weekday: i8,
    /// Hour from 0.
    pub hour: i8,
    /// Minute from 0.
    pub minute: i8,
    /// Second from 0.
    pub second: i8,
}

/// Text that is no time, or a zone that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// No such zone in the IANA database.
    #[error("no time zone named {0:?}")]
    Zone(String),
    /// Not a date such as 2026-06-01.
    #[error("not a date such as 2026-06-01: {0:?}")]
    Day(String),
    /// Not an instant such as 2026-06-01T00:00:00+05:30.
    #[error("not an instant such as 2026-06-01T00:00:00+05:30: {0:?}")]
    Instant(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_captured_at_midnight_closes_the_day_before() {
        let india = Calendar::india();
        let midnight: Instant = "2026-06-02T00:00:00+05:30".parse().unwrap();
        assert_eq!(india.usage_day(midnight).to_string(), "2026-06-01");
        assert_eq!(india.usage_day(midnight.plus_seconds(1)).to_string(), "2026-06-02");
        assert_eq!(india.start_of("2026-06-02".parse().unwrap()), midnight);
    }

    #[test]
    fn days_and_months_count_as_the_calendar_does() {
        let day: CivilDay = "2028-02-29".parse().unwrap();
        assert_eq!(day.next().to_string(), "2028-03-01");
        assert_eq!(day.month().to_string(), "2028-02");
        assert_eq!(day.month().days(), 29);
        assert_eq!(day.month().index_of_year(), 1);
        assert_eq!(day.month().next().first_day().to_string(), "2028-03-01");
        assert_eq!("2026-12-31".parse::<CivilDay>().unwrap().month().next().to_string(), "2027-01");
        assert_eq!("1969-12-31".parse::<CivilDay>().unwrap(), CivilDay(-1));
    }

    #[test]
    fn a_day_of_a_zone_with_summer_time_has_23_or_25_hours() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let hours = |day: &str| {
            let day = day.parse().unwrap();
            (berlin.end_of(day).seconds() - berlin.start_of(day).seconds()) / 3600
        };
        assert_eq!([hours("2026-03-29"), hours("2026-10-25"), hours("2026-06-01")], [23, 25, 24]);
    }

    #[test]
    fn days_months_and_instants_are_those_of_jiff() {
        for zone in ["Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"] {
            let calendar = Calendar::new(zone).unwrap();
            let mut plain = 0;
            // Steps of a prime number of seconds, over the ends of what is kept.
            for step in 0..40_000 {
                let instant = Instant::from_seconds(-40_000_000 + step * 104_729);
                let there = calendar.zone.to_datetime(instant.timestamp());
                let day = calendar.day_of(instant);
                assert_eq!(day.date(), there.date(), "{zone} {instant}");
                let month = i32::from(there.year()) * 12 + i32::from(there.month()) - 1;
                assert_eq!(day.month(), CivilMonth(month), "{zone} {instant}");
                let expected = calendar.zone.to_ambiguous_timestamp(there).compatible().unwrap();
                let found = calendar.instant_of(
                    there.year(),
                    there.month(),
                    there.day(),
                    there.hour(),
                    there.minute(),
                    there.second(),
                );
                assert_eq!(found, Some(Instant(expected.as_microsecond())), "{zone} {instant}");
                let midnight = there.date().at(0, 0, 0, 0);
                let midnight = calendar.zone.to_ambiguous_timestamp(midnight).compatible().unwrap();
                assert_eq!(calendar.start_of(day).0, midnight.as_microsecond(), "{zone} {instant}");
                let offset = calendar.zone.to_offset(instant.timestamp()).seconds();
                assert_eq!(calendar.offset_seconds(instant), offset, "{zone} {instant}");
                if let Some(start) = calendar.plain_start_of(day) {
                    let of_day = (i64::from(there.hour()) * 60 + i64::from(there.minute())) * 60;
                    let instant = start.plus_seconds(of_day + i64::from(there.second()));
                    assert_eq!(instant.0, expected.as_microsecond(), "{zone} {instant}");
                    assert_eq!(calendar.offset_seconds(instant), calendar.offset_seconds(start));
                    plain += 1;
                }
            }
            assert!(plain > 30_000, "{zone}: {plain}");
        }
        for days in (-719_600..2_932_900).step_by(97) {
            let day = CivilDay(days);
            let date = day.date();
            assert_eq!(CivilDay::from_date(date), day);
            assert_eq!(day.month(), CivilMonth(i32::from(date.year()) * 12 + i32::from(date.month()) - 1));
        }
    }

    #[test]
    fn an_unknown_zone_is_named() {
        assert_eq!(Calendar::new("Asia/Nowhere").unwrap_err(), TimeError::Zone("Asia/Nowhere".into()));
    }

    #[test]
    fn wall_clock_and_instant_agree() {
        let india = Calendar::india();
        let instant = india.instant_of(2026, 6, 1, 23, 59, 58).unwrap();
        let wall = india.wall_clock(instant);
        assert_eq!((wall.year, wall.month, wall.day, wall.weekday), (2026, 6, 1, 1));
        assert_eq!((wall.hour, wall.minute, wall.second), (23, 59, 58));
        assert_eq!(india.instant_of(2026, 2, 29, 0, 0, 0), None);
    }
}
