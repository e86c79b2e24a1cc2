//! Class 22, Single Action Schedule: a script at given times, such as the reset of billing or a push.

use super::script_table::ScriptReference;
use super::{Date, List, LogicalName, Time};

class! {
    22
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The script.
        2 ExecutedScript executed_script: ScriptReference,
        /// How the times are made.
        3 Type schedule_type: ScheduleType,
        /// The times.
        4 ExecutionTime execution_time: List<'a, ExecutionTime>,
    }
    methods {}
    calls Call
}

structure! {
    /// A time, of which much may be a wildcard.
    pub struct ExecutionTime {
        /// Time of day.
        pub time: Time,
        /// Date.
        pub date: Date,
    }
}

codes! {
    /// How many times there are and what they may leave open.
    pub enum ScheduleType {
        /// One time; wildcards in the date are allowed.
        OneWildcards = 1,
        /// Several times, all of the same time of day; no wildcards in the dates.
        SameTime = 2,
        /// Several times, all of the same time of day; wildcards in the dates.
        SameTimeWildcards = 3,
        /// Several times of any time of day; no wildcards in the dates.
        AnyTime = 4,
        /// Several times of any time of day; wildcards in the dates.
        AnyTimeWildcards = 5,
    }
}
