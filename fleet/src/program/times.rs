//! The times of a single action schedule (class 22): a time of day and a date, of which much may be open.

use codec::axdr::Value;
use codec::cosem::single_action_schedule::{ExecutionTime, execution_time};
use codec::cosem::{Date, Time};
use model::{Calendar, CivilDay, Instant};

/// Most times of a schedule.
const MAX_TIMES: usize = 64;
/// Times of a day are so far apart at least; of any that are nearer the first counts.
const APART_S: i64 = 60;
/// Any.
const OPEN: u8 = 0xff;
/// The last day of a month, and the one before.
const LAST: u8 = 0xfe;
const LAST_BUT_ONE: u8 = 0xfd;

/// Times of day with their dates, as they are encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times(Vec<([u8; 4], [u8; 5])>);

impl Times {
    #[cfg(test)]
    pub(crate) fn new(times: Vec<([u8; 4], [u8; 5])>) -> Times {
        Times(times)
    }

    /// Those of attribute 4; `None` for anything else, or too many.
    pub(crate) fn of(value: Value<'_>) -> Option<Times> {
        let times = execution_time(value).ok().filter(|times| times.len() <= MAX_TIMES)?;
        Some(Times(
            times.iter().map(|ExecutionTime { time: Time(time), date: Date(date) }| (time, date)).collect(),
        ))
    }

    /// Its moments on a day, in order. An hour that is open is every hour, a second that is open the first of the minute;
    /// without a minute, or with what is no time of day, there is none.
    pub(crate) fn on(&self, day: CivilDay, calendar: &Calendar) -> Vec<Instant> {
        let mut all = Vec::new();
        for ([hour, minute, second, _], date) in &self.0 {
            if !falls_on(*date, day) {
                continue;
            }
            let hours = if *hour == OPEN { 0..=23 } else { *hour..=*hour };
            let second = if *second == OPEN { 0 } else { *second };
            if *minute > 59 || second > 59 || *hours.end() > 23 {
                continue;
            }
            let small = |part: u8| i8::try_from(part).unwrap_or_default();
            all.extend(
                hours.map(|hour| {
                    calendar.at(day, small(hour), small(*minute)).plus_seconds(i64::from(second))
                }),
            );
        }
        all.sort_unstable();
        let mut last: Option<Instant> = None;
        all.retain(|at| {
            let is_apart = last.is_none_or(|last| at.seconds() - last.seconds() >= APART_S);
            last = if is_apart { Some(*at) } else { last };
            is_apart
        });
        all
    }
}

/// Whether a date of which much may be open is that day.
fn falls_on([high, low, month, day_of_month, weekday]: [u8; 5], day: CivilDay) -> bool {
    let date = day.date();
    let is = |part: u8, found: i8| part == OPEN || i8::try_from(part) == Ok(found);
    let year = u16::from_be_bytes([high, low]);
    let last = day.month().last_day();
    let on_day = match day_of_month {
        LAST => day == last,
        LAST_BUT_ONE => day == last.previous(),
        _ => is(day_of_month, date.day()),
    };
    // The first of January 1970 was a Thursday, and Mondays are 1.
    let found = i8::try_from((day.0 + 3).rem_euclid(7) + 1).unwrap_or_default();
    (year == u16::MAX || i16::try_from(year) == Ok(date.year()))
        && is(month, date.month())
        && on_day
        && is(weekday, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(day: &str, time: [u8; 4], date: [u8; 5]) -> Vec<Instant> {
        Times(vec![(time, date)]).on(day.parse().unwrap(), &Calendar::india())
    }

    #[test]
    fn a_date_holds_on_the_days_that_its_parts_leave_open() {
        // (date, a day on which it holds, one on which it does not); 2026-02-27 was a Friday.
        for (date, is, is_not) in [
            ([0xff, 0xff, 0xff, 1, 0xff], "2026-03-01", "2026-03-02"),
            ([0x07, 0xea, 2, 27, 0xff], "2026-02-27", "2027-02-27"),
            ([0xff, 0xff, 0xff, 0xff, 5], "2026-02-27", "2026-02-28"),
            ([0xff, 0xff, 0xff, 0xfe, 0xff], "2026-02-28", "2026-03-30"),
            ([0xff, 0xff, 2, 0xfd, 0xff], "2026-02-27", "2026-03-30"),
            ([0xff, 0xff, 2, 27, 4], "2025-02-27", "2026-02-27"),
        ] {
            assert_eq!(on(is, [0; 4], date).len(), 1, "{date:02x?}");
            assert_eq!(on(is_not, [0; 4], date), [], "{date:02x?}");
        }
        assert_eq!(on("2025-02-27", [0; 4], [0xff, 0xff, 2, 27, 4]).len(), 1, "a Thursday");
    }

    #[test]
    fn an_open_hour_is_every_hour_and_without_a_minute_there_is_no_time() {
        let day = "2026-06-12";
        let start = Calendar::india().start_of(day.parse().unwrap());
        let every = on(day, [0xff, 15, 30, 0], [0xff; 5]);
        assert_eq!((every.len(), every[2]), (24, start.plus_seconds(2 * 3600 + 15 * 60 + 30)));
        for never in [[0xff; 4], [3, 0xff, 0, 0], [24, 0, 0, 0], [3, 60, 0, 0], [3, 0, 60, 0]] {
            assert_eq!(on(day, never, [0xff; 5]), [], "{never:?}");
        }
        let near =
            Times(vec![([3, 0, 0, 0], [0xff; 5]), ([3, 0, 59, 0], [0xff; 5]), ([3, 1, 0, 0], [0xff; 5])]);
        assert_eq!(near.on(day.parse().unwrap(), &Calendar::india()).len(), 2);
    }
}
