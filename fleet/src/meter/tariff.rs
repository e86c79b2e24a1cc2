//! The zones of the tariff: which of them an activity calendar (class 20) has at a moment.

use codec::axdr::{Data, DateTime};
use codec::cosem::activity_calendar::{
    DayAction, DayProfile, Season, WeekProfile, day_profile_table_active, season_profile_active,
    week_profile_table_active,
};
use codec::cosem::india::time::ACTIVITY_CALENDAR;
use model::{Calendar, Instant};

use super::stored::Stored;

/// Zones that there are registers for.
pub(super) const ZONES: u8 = 8;
/// The zone of all that no calendar says anything of.
const OTHERWISE: u8 = 1;
/// Most seasons, weeks, days and changes within a day.
const MAX_PARTS: usize = 64;

/// A calendar: seasons, each with its week; weeks, each day with its number; days, with the zones from a time on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tariff {
    seasons: Vec<Begins>,
    weeks: Vec<(Vec<u8>, [u8; 7])>,
    days: Vec<(u8, Vec<Change>)>,
}

/// Month and day at which a season begins, where it is said; the name of its week.
type Begins = (Option<(u8, u8)>, Vec<u8>);
/// Hour, minute and second from which on a zone is in force.
type Change = ([u8; 3], u8);

impl Tariff {
    /// What is stored as the calendar to come; `None` where it makes no sense, or has too many parts.
    pub(super) fn to_come(stored: &Stored) -> Option<Tariff> {
        const SEASONS: i8 = 7;
        let value = |attribute| Data::new(stored.value(ACTIVITY_CALENDAR, attribute)?).ok();
        let seasons = value(SEASONS)?;
        let (weeks, days) = (value(SEASONS + 1)?, value(SEASONS + 2)?);
        let seasons = season_profile_active(seasons.value()).ok().filter(|all| all.len() <= MAX_PARTS)?;
        let weeks = week_profile_table_active(weeks.value()).ok().filter(|all| all.len() <= MAX_PARTS)?;
        let days = day_profile_table_active(days.value()).ok().filter(|all| all.len() <= MAX_PARTS)?;
        let season = |Season { start, week, .. }: Season<'_>| (month_and_day(&start), week.to_vec());
        let week = |week: WeekProfile<'_>| {
            let WeekProfile { name, monday, tuesday, wednesday, thursday, friday, saturday, sunday } = week;
            (name.to_vec(), [monday, tuesday, wednesday, thursday, friday, saturday, sunday])
        };
        let day = |DayProfile { day_id, schedule }: DayProfile<'_>| {
            let action = |DayAction { start, script_selector, .. }: DayAction| {
                let [hour, minute, second, _] = start.0;
                let zone = u8::try_from(script_selector).ok().filter(|zone| (1..=ZONES).contains(zone))?;
                Some(([hour, minute, second], zone))
            };
            let actions: Option<Vec<_>> = schedule
                .iter()
                .map(action)
                .collect::<Option<_>>()
                .filter(|all: &Vec<_>| all.len() <= MAX_PARTS);
            Some((day_id, actions?))
        };
        Some(Tariff {
            seasons: seasons.iter().map(season).collect(),
            weeks: weeks.iter().map(week).collect(),
            days: days.iter().map(day).collect::<Option<_>>()?,
        })
    }

    /// The zone at a moment.
    pub(super) fn zone(&self, at: Instant, calendar: &Calendar) -> u8 {
        let wall = calendar.wall_clock(at);
        let small = |part: i8| part.unsigned_abs();
        let date = (small(wall.month), small(wall.day));
        let time = [small(wall.hour), small(wall.minute), small(wall.second)];
        self.zone_of(date, small(wall.weekday), time).unwrap_or(OTHERWISE)
    }

    /// The zone on the day of that month, of the week from 1 for Monday, at that time.
    fn zone_of(&self, date: (u8, u8), weekday: u8, time: [u8; 3]) -> Option<u8> {
        // That which began last this year, or else last year; one that does not say when always holds.
        let begun = self.seasons.iter().filter(|(start, _)| start.is_none_or(|start| start <= date));
        let latest = |season: &&Begins| season.0;
        let season = begun.max_by_key(latest).or_else(|| self.seasons.iter().max_by_key(latest))?;
        let (_, days) = self.weeks.iter().find(|(name, _)| *name == season.1)?;
        let day = days.get(usize::from(weekday).checked_sub(1)?)?;
        let (_, actions) = self.days.iter().find(|(id, _)| id == day)?;
        let begun = actions.iter().filter(|(start, _)| *start <= time).max_by_key(|(start, _)| *start);
        // What the evening before ended with holds until the first of the day.
        begun.or_else(|| actions.iter().max_by_key(|(start, _)| *start)).map(|(_, zone)| *zone)
    }
}

fn month_and_day(start: &DateTime) -> Option<(u8, u8)> {
    Some((start.month()?, start.day()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_that_of_the_season_the_day_of_the_week_and_the_time() {
        let tariff = Tariff {
            seasons: vec![(Some((4, 1)), b"summer".to_vec()), (Some((10, 15)), b"winter".to_vec())],
            weeks: vec![(b"summer".to_vec(), [1, 1, 1, 1, 1, 2, 2]), (b"winter".to_vec(), [2; 7])],
            days: vec![
                (1, vec![([6, 0, 0], 2), ([18, 30, 0], 3), ([23, 0, 0], 1)]),
                (2, vec![([0, 0, 0], 4)]),
            ],
        };
        // (month and day, day of the week, time, zone)
        for (date, weekday, time, zone) in [
            ((4, 1), 1, [6, 0, 0], 2),
            ((4, 1), 1, [5, 59, 59], 1),
            ((7, 15), 5, [18, 29, 59], 2),
            ((7, 15), 5, [18, 30, 0], 3),
            ((7, 15), 7, [18, 30, 0], 4),
            ((10, 15), 1, [12, 0, 0], 4),
            ((2, 1), 1, [12, 0, 0], 4),
        ] {
            assert_eq!(tariff.zone_of(date, weekday, time), Some(zone), "{date:?} {weekday} {time:?}");
        }
        assert_eq!(Tariff::default().zone_of((1, 1), 1, [0; 3]), None);
    }
}
