//! The pure rules of the head-end: which reading is the first of its key, what a month costs, and what every account
//! was charged. It must never know a clock, a file, a socket or a protocol.
//!
//! [`Fold`] takes the journal's records one after the other and gives rows, postings and answers; the rules it is made
//! of stand beside it: [`slot`] (seen before?), [`counter`] (replay window), [`tariff`] and [`rating`] (what does it
//! cost). No float is computed anywhere and nothing that comes from outside can make it panic.
//!
//! # What moves money
//! * An account pays for one meter: the first whose terms named it. Further meters of the account are read and kept
//!   as any other, and bring neither energy nor demand until there is a fact for the replacement of a meter.
//! * A connection of type postpaid is charged day by day as well, without the rebate of who pays ahead; that it is billed and
//!   not cut is not decided here.
//! * Only registers captured at civil midnight anchor energy. Readings that lie more than 15 minutes in the future of
//!   their receipt, that are older than `late_days`, or registers that went back are stored with their quality bit and
//!   move no money; a later register puts energy right, because it wins over what lies before it.
//! * What a meter says beyond reason is held within range: an interval counts up to 10¹² Wh, a register up to
//!   10¹⁵ Wh, and a month is rated up to [`rating::MAX_ENERGY_WH`] and [`rating::MAX_DEMAND_W`]. The reading itself is
//!   stored as it came.
//! * A month that closed while no tariff of its account was in force stays uncharged.
//! * Data for a closed month charges it again under its own terms at the account's next slice; the difference is a
//!   correction with the month's last affected day. A contested reading keeps its month changeable until its answer.
//!
//! # What is promised
//! *Replay*: the same records give the same rows and the same checkpoint bytes. *Confluence*: the same readings in any
//! order, repeated or not, give the same values in force, the same energy and the same sum charged per account, month
//! and head, as long as they come within `late_days`. For registers this holds while they rise: one that goes back is
//! held when it is seen to, and whether it is seen depends on what came before it.
//!
//! # What a rebuild needs
//! Every record leaves a row of `frame`, `quarantine` or `fact` at its position. A frame gives a row of `fact` with all
//! its bytes when it brought a contested reading or changed the meter's event word; from the other frames' rows and
//! their readings the fold comes to the same state. Counts of frames without a record are in the journal's groups
//! alone, so who rebuilds from tables counts each frame as received.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod contested;
pub mod counter;
pub mod credit;
mod decimal;
mod dense;
mod energy;
mod fold;
mod limits;
mod meter;
pub mod outcome;
mod payments;
mod posting;
pub mod rating;
mod rules;
mod sections;
pub mod slot;
pub mod tariff;
mod tariffs;
mod thin;

pub use contested::Contested;
pub use counter::{CounterVerdict, CounterWindow};
pub use decimal::{DecimalError, scaled};
pub use fold::{Effects, Fold, FoldError};
pub use limits::Limits;
pub use outcome::Outcome;
pub use payments::{Payment, Reversal};
pub use rules::{RuleError, RuleFault};
pub use tariff::{Tariff, builtin_tariffs};
pub use tariffs::digest_of;
