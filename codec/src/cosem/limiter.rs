//! Class 71, Limiter: what happens when a value stays over or under a threshold for too long.

use super::script_table::ScriptReference;
use super::{ClassId, List, LogicalName, Number};
use crate::axdr::DateTime;

class! {
    71
    attributes AttributeValue<'a> {
        /// The name of the object; 0.0.17.0.0.255 in India.
        1 LogicalName logical_name: LogicalName,
        /// What is watched.
        2 MonitoredValue monitored_value: MonitoredValue,
        /// The threshold in force, in the type of the value watched.
        3 ThresholdActive threshold_active: Number,
        /// The threshold of normal times.
        4 ThresholdNormal threshold_normal: Number,
        /// The threshold of emergencies.
        5 ThresholdEmergency threshold_emergency: Number,
        /// Seconds over the threshold until something happens.
        6 MinOverThresholdDuration min_over_threshold_duration: u32,
        /// Seconds under the threshold until something happens.
        7 MinUnderThresholdDuration min_under_threshold_duration: u32,
        /// The emergency.
        8 EmergencyProfile emergency_profile: EmergencyProfile,
        /// Groups of emergencies that this meter belongs to.
        9 EmergencyProfileGroups emergency_profile_group_id_list: List<'a, u16>,
        /// Whether an emergency is in force.
        10 EmergencyProfileActive emergency_profile_active: bool,
        /// What happens.
        11 Actions actions: Actions,
    }
    methods {}
    calls Call
}

structure! {
    /// An attribute that is watched.
    pub struct MonitoredValue {
        /// Class of the object.
        pub class: ClassId,
        /// Name of the object.
        pub name: LogicalName,
        /// Number of the attribute.
        pub attribute: i8,
    }

    /// An emergency.
    pub struct EmergencyProfile {
        /// Its group.
        pub id: u16,
        /// When it begins.
        pub activation_time: DateTime,
        /// Seconds it lasts.
        pub duration: u32,
    }

    /// The scripts that run.
    pub struct Actions {
        /// When the value was over the threshold for long enough.
        pub over_threshold: ScriptReference,
        /// When it was under it for long enough.
        pub under_threshold: ScriptReference,
    }
}
