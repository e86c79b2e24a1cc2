//! The load limit of a meter (class 71): when it cuts by itself, and when it reconnects.

use codec::axdr::Value;
use codec::cosem::LogicalName;

/// The scripts that an action of the limiter may name: 1 cuts, 2 reconnects.
pub(crate) const RELAY_SCRIPTS: LogicalName = LogicalName([0, 0, 10, 0, 106, 255]);
const CUTS: u16 = 1;
const RECONNECTS: u16 = 2;

/// A limit, as it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What the load may be, W.
    pub(crate) threshold_w: i64,
    /// How long it may be above, seconds; `None`: nothing comes of it.
    pub(crate) over_s: Option<i64>,
    /// How long the load must have been below until the meter reconnects, seconds; `None`: it does not.
    pub(crate) under_s: Option<i64>,
}

impl Limit {
    /// As the attributes say it: the threshold in force, the two durations, and the actions as they are encoded.
    pub(crate) fn of(threshold_w: i64, over_s: i64, under_s: i64, actions: Option<Value<'_>>) -> Limit {
        let [over, under] = scripts(actions);
        Limit {
            threshold_w,
            over_s: (over == Some(CUTS)).then_some(over_s),
            under_s: (under == Some(RECONNECTS)).then_some(under_s),
        }
    }
}

/// The scripts of the relay that the two actions name.
fn scripts(actions: Option<Value<'_>>) -> [Option<u16>; 2] {
    let Some(Value::Structure(actions)) = actions else { return [None; 2] };
    let mut actions = actions.iter();
    [(); 2].map(|()| {
        let Some(Value::Structure(action)) = actions.next() else { return None };
        let mut parts = action.iter();
        match (parts.next(), parts.next()) {
            (Some(Value::OctetString(table)), Some(Value::U16(script))) if table == RELAY_SCRIPTS.0 => {
                Some(script)
            }
            _ => None,
        }
    })
}
