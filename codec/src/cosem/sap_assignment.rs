//! Class 17, SAP Assignment: the logical devices of a meter and their addresses.

use super::{List, LogicalName};

class! {
    17
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The logical devices.
        2 SapAssignmentList sap_assignment_list: List<'a, SapAssignment<'a>>,
    }
    methods {
        /// Gives a logical device an address; 0 takes it away.
        1 ConnectLogicalDevice connect_logical_device: SapAssignment<'a>,
    }
    calls Call<'a>
}

structure! {
    /// A logical device and its address.
    pub struct SapAssignment<'a> {
        /// Address; 1 is management.
        pub sap: u16,
        /// Logical device name.
        pub logical_device_name: &'a [u8],
    }
}
