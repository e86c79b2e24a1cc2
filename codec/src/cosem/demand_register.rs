//! Class 5, Demand Register: the average over the running period and over the last one.

use super::register::ScalerUnit;
use super::{LogicalName, NoData};
use crate::axdr::{DateTime, Value};

class! {
    5
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// Average since the period began, of any type.
        2 CurrentAverageValue current_average_value: Value<'a>,
        /// Average of the last complete period, of any type.
        3 LastAverageValue last_average_value: Value<'a>,
        /// What the values are multiplied by, and their unit.
        4 ScalerUnit scaler_unit: ScalerUnit,
        /// A status of the maker, of any type.
        5 Status status: Value<'a>,
        /// When the last average was taken; null while there was none.
        6 CaptureTime capture_time: Option<DateTime>,
        /// When the running period began.
        7 StartTimeCurrent start_time_current: Option<DateTime>,
        /// Seconds of a period.
        8 Period period: u32,
        /// Periods of a sliding window; 1 for a block.
        9 NumberOfPeriods number_of_periods: u16,
    }
    methods {
        /// Sets the values to their defaults.
        1 Reset reset: NoData,
        /// Closes the running period.
        2 NextPeriod next_period: NoData,
    }
    calls Call
}
