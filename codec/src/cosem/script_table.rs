//! Class 9, Script Table: lists of writes and calls that a meter does itself, each by its number.

use super::{ClassId, List, LogicalName};
use crate::axdr::Value;

class! {
    9
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// The scripts.
        2 Scripts scripts: List<'a, Script<'a>>,
    }
    methods {
        /// Runs the script of this number.
        1 Execute execute: u16,
    }
    calls Call
}

structure! {
    /// A script.
    pub struct Script<'a> {
        /// Its number; 0 does nothing.
        pub identifier: u16,
        /// What it does, in this order.
        pub actions: List<'a, ScriptAction<'a>>,
    }

    /// One step of a script.
    pub struct ScriptAction<'a> {
        /// Write or call.
        pub service: ScriptService,
        /// Class of the object.
        pub class: ClassId,
        /// Name of the object.
        pub name: LogicalName,
        /// Number of the attribute to write or of the method to call.
        pub index: i8,
        /// What to write or to call with.
        pub parameter: Value<'a>,
    }

    /// A script of a script table, as other classes point to it.
    pub struct ScriptReference {
        /// Name of the script table.
        pub table: LogicalName,
        /// Number of the script; 0 is none.
        pub selector: u16,
    }
}

codes! {
    /// What a step does.
    pub enum ScriptService {
        /// Writes an attribute.
        Write = 1,
        /// Calls a method.
        Execute = 2,
    }
}
