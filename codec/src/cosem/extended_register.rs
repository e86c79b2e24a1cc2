//! Class 4, Extended Register: a register with the time of its value, such as a maximum demand.

use super::register::ScalerUnit;
use super::{LogicalName, NoData};
use crate::axdr::{DateTime, Value};

class! {
    4
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The value, of any type.
        2 Value value: Value<'a>,
        /// What the value is multiplied by, and its unit.
        3 ScalerUnit scaler_unit: ScalerUnit,
        /// A status of the maker, of any type.
        4 Status status: Value<'a>,
        /// When the value was taken; null while there was none.
        5 CaptureTime capture_time: Option<DateTime>,
    }
    methods {
        /// Sets the value to its default.
        1 Reset reset: NoData,
    }
    calls Call
}
