//! The 12-byte date-time: wall clock, deviation and status as the meter wrote them.

use core::fmt;

/// A date-time in its 12 bytes. A field that is unspecified, a wildcard or out of its range reads as `None`.
///
/// The deviation is given as it stands on the wire: standards disagree on its sign, so the profile of the
/// meter decides what it means.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateTime(pub [u8; 12]);

impl DateTime {
    /// The value of an unspecified deviation.
    pub const DEVIATION_UNSPECIFIED: i16 = i16::MIN;
    /// The value of an unspecified clock status.
    pub const STATUS_UNSPECIFIED: u8 = 0xff;

    /// Builds the 12 bytes; nothing is checked, 0xff and 0xffff leave a field unspecified.
    #[expect(clippy::too_many_arguments, reason = "one argument a field, in wire order")]
    #[must_use]
    pub const fn new(
        year: u16,
        month: u8,
        day: u8,
        weekday: u8,
        hour: u8,
        minute: u8,
        second: u8,
        hundredths: u8,
        deviation_min: i16,
        clock_status: u8,
    ) -> Self {
        let [y1, y0] = year.to_be_bytes();
        let [d1, d0] = deviation_min.to_be_bytes();
        Self([y1, y0, month, day, weekday, hour, minute, second, hundredths, d1, d0, clock_status])
    }

    /// The date-time that an octet-string of exactly 12 bytes carries.
    #[must_use]
    pub fn from_octets(bytes: &[u8]) -> Option<Self> {
        <[u8; 12]>::try_from(bytes).ok().map(Self)
    }

    /// Year of the calendar.
    #[must_use]
    pub const fn year(&self) -> Option<u16> {
        match u16::from_be_bytes([self.0[0], self.0[1]]) {
            0xffff => None,
            year => Some(year),
        }
    }

    /// 1 to 12. The marks for the begin and end of daylight saving read as `None`.
    #[must_use]
    pub const fn month(&self) -> Option<u8> {
        within(self.0[2], 1, 12)
    }

    /// 1 to 31. The marks for the last and last but one day of a month read as `None`.
    #[must_use]
    pub const fn day(&self) -> Option<u8> {
        within(self.0[3], 1, 31)
    }

    /// 1 is Monday, 7 is Sunday.
    #[must_use]
    pub const fn weekday(&self) -> Option<u8> {
        within(self.0[4], 1, 7)
    }

    /// 0 to 23.
    #[must_use]
    pub const fn hour(&self) -> Option<u8> {
        within(self.0[5], 0, 23)
    }

    /// 0 to 59.
    #[must_use]
    pub const fn minute(&self) -> Option<u8> {
        within(self.0[6], 0, 59)
    }

    /// 0 to 59.
    #[must_use]
    pub const fn second(&self) -> Option<u8> {
        within(self.0[7], 0, 59)
    }

    /// 0 to 99.
    #[must_use]
    pub const fn hundredths(&self) -> Option<u8> {
        within(self.0[8], 0, 99)
    }

    /// Deviation in minutes as on the wire, with the sign the meter gave it.
    #[must_use]
    pub const fn deviation_min(&self) -> Option<i16> {
        match i16::from_be_bytes([self.0[9], self.0[10]]) {
            Self::DEVIATION_UNSPECIFIED => None,
            deviation => Some(deviation),
        }
    }

    /// The status byte as on the wire.
    #[must_use]
    pub const fn clock_status(&self) -> u8 {
        self.0[11]
    }

    /// The time could not be recovered (status bit 0x01).
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        self.has_status(0x01)
    }

    /// The time may be wrong (status bit 0x02).
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.has_status(0x02)
    }

    /// Another clock base is in use (status bit 0x04).
    #[must_use]
    pub const fn is_other_clock_base(&self) -> bool {
        self.has_status(0x04)
    }

    /// The status itself is not valid (status bit 0x08).
    #[must_use]
    pub const fn is_status_invalid(&self) -> bool {
        self.has_status(0x08)
    }

    /// Daylight saving is in force (status bit 0x80).
    #[must_use]
    pub const fn is_dst(&self) -> bool {
        self.has_status(0x80)
    }

    /// The wall clock so many seconds later, with the same deviation and status. `None` where date, hour or minute are
    /// not specified or there is no such day; unspecified seconds count from 0.
    #[must_use]
    pub fn plus_seconds(&self, seconds: u32) -> Option<Self> {
        let (year, month, day) = (self.year()?, self.month()?, self.day()?);
        if day > days_of_month(year, month) {
            return None;
        }
        let second = u32::from(self.second().unwrap_or(0));
        let in_day = u32::from(self.hour()?) * 3_600 + u32::from(self.minute()?) * 60 + second;
        let total = u64::from(in_day) + u64::from(seconds);
        let (days, in_day) = (total / DAY_S, total % DAY_S);
        let (year, month, day) = date_of(day_number(year, month, day) + days)?;
        let weekday = self.weekday().map(|today| ((u64::from(today) - 1 + days) % 7 + 1) as u8);
        let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
        let mut later = *self;
        [later.0[0], later.0[1]] = year.to_be_bytes();
        (later.0[2], later.0[3]) = (month, day);
        later.0[4] = weekday.unwrap_or(self.0[4]);
        (later.0[5], later.0[6], later.0[7]) = (hour as u8, minute as u8, second as u8);
        Some(later)
    }

    const fn has_status(&self, bit: u8) -> bool {
        self.clock_status() != Self::STATUS_UNSPECIFIED && self.clock_status() & bit != 0
    }
}

const DAY_S: u64 = 86_400;

/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// A year here begins in March, so that the leap day is its last.
const MARCH: u64 = 3;

/// Days since a first of March, 400 years before the year 0.
fn day_number(year: u16, month: u8, day: u8) -> u64 {
    let (year, month) = (u64::from(year) + 400, u64::from(month));
    let (year, month) = if month < MARCH { (year - 1, month + 9) } else { (year, month - MARCH) };
    let day_of_year = (153 * month + 2) / 5 + u64::from(day) - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year
}

/// The date of a [`day_number`]; `None` behind the last year that is not the mark of an unspecified one.
fn date_of(number: u64) -> Option<(u16, u8, u8)> {
    let (era, in_era) = (number / ERA_DAYS, number % ERA_DAYS);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month + 2) / 5 + 1) as u8;
    let (month, turned) = if month < 10 { (month + MARCH, 0) } else { (month - 9, 1) };
    let year = (era * 400 + year_of_era + turned).checked_sub(400)?;
    let year = u16::try_from(year).ok().filter(|&year| year != 0xffff)?;
    Some((year, month as u8, day))
}

const fn days_of_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const fn within(byte: u8, least: u8, most: u8) -> Option<u8> {
    if least <= byte && byte <= most { Some(byte) } else { None }
}

impl fmt::Display for DateTime {
    /// `2026-06-01 00:30:00.00 deviation 330 status 0x00`; what is unspecified is an asterisk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        padded(f, "", self.year(), 4)?;
        padded(f, "-", self.month().map(u16::from), 2)?;
        padded(f, "-", self.day().map(u16::from), 2)?;
        padded(f, " ", self.hour().map(u16::from), 2)?;
        padded(f, ":", self.minute().map(u16::from), 2)?;
        padded(f, ":", self.second().map(u16::from), 2)?;
        padded(f, ".", self.hundredths().map(u16::from), 2)?;
        match self.deviation_min() {
            Some(minutes) => write!(f, " deviation {minutes}")?,
            None => write!(f, " deviation *")?,
        }
        write!(f, " status 0x{:02x}", self.clock_status())
    }
}

fn padded(f: &mut fmt::Formatter<'_>, before: &str, field: Option<u16>, width: usize) -> fmt::Result {
    match field {
        Some(number) => write!(f, "{before}{number:0width$}"),
        None => write!(f, "{before}*"),
    }
}

impl fmt::Debug for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DateTime({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn fields_read_back_as_they_were_written() {
        let time = DateTime::new(2026, 6, 1, 1, 0, 30, 59, 99, 330, 0x80);
        assert_eq!(time.0, [0x07, 0xea, 6, 1, 1, 0, 30, 59, 99, 0x01, 0x4a, 0x80]);
        assert_eq!((time.year(), time.month(), time.day()), (Some(2026), Some(6), Some(1)));
        assert_eq!((time.hour(), time.minute(), time.second()), (Some(0), Some(30), Some(59)));
        assert_eq!((time.weekday(), time.hundredths()), (Some(1), Some(99)));
        assert_eq!((time.deviation_min(), time.is_dst()), (Some(330), true));
        assert_eq!(time.to_string(), "2026-06-01 00:30:59.99 deviation 330 status 0x80");
        assert_eq!(DateTime::from_octets(&time.0), Some(time));
        assert_eq!(DateTime::from_octets(&time.0[..11]), None);
    }

    #[test]
    fn later_crosses_hours_days_months_and_leap_days() {
        let at = |year, month, day, weekday, hour, minute| {
            DateTime::new(year, month, day, weekday, hour, minute, 0, 0, 330, 0)
        };
        for (before, seconds, after) in [
            (at(2026, 6, 1, 1, 0, 30), 1_800, at(2026, 6, 1, 1, 1, 0)),
            (at(2026, 6, 7, 7, 23, 45), 900, at(2026, 6, 8, 1, 0, 0)),
            (at(2026, 12, 31, 4, 23, 30), 1_800, at(2027, 1, 1, 5, 0, 0)),
            (at(2028, 2, 28, 1, 0, 0), 86_400, at(2028, 2, 29, 2, 0, 0)),
            (at(2100, 2, 28, 7, 0, 0), 86_400, at(2100, 3, 1, 1, 0, 0)),
            (at(2026, 6, 1, 0xff, 0, 0), 86_400, at(2026, 6, 2, 0xff, 0, 0)),
        ] {
            assert_eq!(before.plus_seconds(seconds), Some(after), "{before} + {seconds}");
        }
        assert_eq!(at(2026, 2, 30, 1, 0, 0).plus_seconds(1), None, "no such day");
        assert_eq!(at(0xfffe, 12, 31, 1, 23, 59).plus_seconds(60), None, "no such year");
        assert_eq!(DateTime([0xff; 12]).plus_seconds(900), None);
    }

    #[test]
    fn unspecified_wildcard_and_impossible_fields_are_none() {
        let time = DateTime([0xff; 12]);
        assert_eq!((time.year(), time.month(), time.day()), (None, None, None));
        assert_eq!((time.weekday(), time.hour(), time.minute()), (None, None, None));
        assert_eq!((time.second(), time.hundredths()), (None, None));
        assert_eq!(time.deviation_min(), Some(-1));
        let flags = [time.is_invalid(), time.is_doubtful(), time.is_dst()];
        assert_eq!(flags, [false; 3], "status not specified");
        let wild = DateTime::new(0xffff, 0xfe, 0xfd, 8, 24, 60, 60, 100, i16::MIN, 0x0f);
        assert_eq!((wild.month(), wild.day(), wild.weekday()), (None, None, None));
        assert_eq!((wild.hour(), wild.minute(), wild.second()), (None, None, None));
        assert_eq!((wild.hundredths(), wild.deviation_min()), (None, None));
        let flags = [
            wild.is_invalid(),
            wild.is_doubtful(),
            wild.is_other_clock_base(),
            wild.is_status_invalid(),
            wild.is_dst(),
        ];
        assert_eq!(flags, [true, true, true, true, false]);
        assert_eq!(wild.to_string(), "*-*-* *:*:*.* deviation * status 0x0f");
    }
}
