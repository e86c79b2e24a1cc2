//! Class 20, Activity Calendar: times of day, by day, week and season, as the tariff has them.

use super::{List, LogicalName, NoData, Time};
use crate::axdr::DateTime;

class! {
    20
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// Name of the calendar in force.
        2 CalendarNameActive calendar_name_active: &'a [u8],
        /// Seasons in force.
        3 SeasonProfileActive season_profile_active: List<'a, Season<'a>>,
        /// Weeks in force.
        4 WeekProfileTableActive week_profile_table_active: List<'a, WeekProfile<'a>>,
        /// Days in force.
        5 DayProfileTableActive day_profile_table_active: List<'a, DayProfile<'a>>,
        /// Name of the calendar to come.
        6 CalendarNamePassive calendar_name_passive: &'a [u8],
        /// Seasons to come.
        7 SeasonProfilePassive season_profile_passive: List<'a, Season<'a>>,
        /// Weeks to come.
        8 WeekProfileTablePassive week_profile_table_passive: List<'a, WeekProfile<'a>>,
        /// Days to come.
        9 DayProfileTablePassive day_profile_table_passive: List<'a, DayProfile<'a>>,
        /// When what is to come is put in force; unspecified is never.
        10 ActivatePassiveCalendarTime activate_passive_calendar_time: DateTime,
    }
    methods {
        /// Puts in force what is to come.
        1 ActivatePassiveCalendar activate_passive_calendar: NoData,
    }
    calls Call
}

structure! {
    /// A season.
    pub struct Season<'a> {
        /// Its name.
        pub name: &'a [u8],
        /// When it begins; the year may be a wildcard.
        pub start: DateTime,
        /// The week it has, by name.
        pub week: &'a [u8],
    }

    /// A week: for each day the number of its profile.
    pub struct WeekProfile<'a> {
        /// Its name.
        pub name: &'a [u8],
        /// Day profile of Monday.
        pub monday: u8,
        /// Day profile of Tuesday.
        pub tuesday: u8,
        /// Day profile of Wednesday.
        pub wednesday: u8,
        /// Day profile of Thursday.
        pub thursday: u8,
        /// Day profile of Friday.
        pub friday: u8,
        /// Day profile of Saturday.
        pub saturday: u8,
        /// Day profile of Sunday.
        pub sunday: u8,
    }

    /// A day.
    pub struct DayProfile<'a> {
        /// Its number.
        pub day_id: u8,
        /// What happens when, in order of time.
        pub schedule: List<'a, DayAction>,
    }

    /// From a time of day on, what a script sets: usually a tariff zone.
    pub struct DayAction {
        /// From when.
        pub start: Time,
        /// Name of the script table.
        pub script_table: LogicalName,
        /// Number of the script.
        pub script_selector: u16,
    }
}
