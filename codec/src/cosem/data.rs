//! Class 1, Data: a value that needs no unit, such as a serial number, a counter or a balance.

use super::LogicalName;
use crate::axdr::Value;

class! {
    1
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The value, of any type.
        2 Value value: Value<'a>,
    }
    methods {}
    calls Call
}
