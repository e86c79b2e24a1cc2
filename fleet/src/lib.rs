//! Simulated meters, fully determined by a seed; must never know the ledger, a wall clock or how a head-end works inside.
//!
//! * [`provision()`] makes the meters and their accounts, and writes the two CSV files that a registry imports.
//! * [`Household`] is what stands behind a meter: its use in Wh, interval by interval.
//! * [`Plan`] is what a meter pushes because of one civil day, faults included; [`Encoder`] makes the bytes, and
//!   [`Schedule`] puts the pushes of many meters in order.
//! * [`Fleet`] sends what is due over TCP, UDP and MQTT, and awaits what the head-end confirms.
//! * [`meter::Meter`] answers: sessions, objects, profiles of the same households, relay, keys, images.
//! * [`Truth`] writes down what was sent, what was acknowledged and what each meter really used.
//!
//! The same seed and options give the same meters, the same use and the same bytes, whatever happens on the way; but for
//! meters that answer, whose households use nothing while their relay is open ([`Supply`]).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod encode;
mod error;
mod fleet;
mod household;
mod link;
pub mod meter;
mod options;
mod plan;
mod program;
mod provision;
mod rng;
mod schedule;
mod spell;
mod stats;
mod supply;
pub mod truth;
mod weather;

pub use encode::{Encoder, Frame, Kind};
pub use error::Error;
pub use fleet::{Fleet, new_keys};
pub use household::{DayUse, Household, IntervalUse};
pub use link::Redirect;
pub use options::{Cadence, Faults, FleetOptions, Mix, MqttTarget, Target};
pub use plan::{Carry, Content, Garbage, Measured, Plan, PlannedFrame, Planner, Wrong};
pub use program::Program;
pub use provision::{
    Category, Deviation, Policy, ReplacedKeys, RowStyle, SimulatedMeter, provision, write_accounts,
    write_meters,
};
pub use rng::Rng;
pub use schedule::{Due, Pace, Schedule};
pub use stats::{Counters, Planned, Stats};
pub use supply::Supply;
pub use truth::Truth;
