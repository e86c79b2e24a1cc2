//! The words of the trade: ids, civil time, money, quantities, readings, facts and rows.
//!
//! This crate must never know a protocol, a file, a socket, a clock or how a charge is computed. Everything
//! else in Urja speaks in its types, so a type belongs here only when two crates must mean the same by it.
//!
//! * [`Fact`] is what is appended to the journal: the only thing that can change a row or a balance.
//! * [`Record`] is a fact with its [`Position`] and the [`Instant`] at which it was received.
//! * [`Row`] is what the fold makes of a record for the tables of the lake.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bytes;
pub mod channel;
pub mod fact;
pub mod ids;
pub mod money;
pub mod reading;
pub mod row;
pub mod source;
pub mod time;
pub mod view;

pub use bytes::DecodeError;
pub use channel::{Channel, Values};
pub use fact::{
    AcceptedFrame, AccountTerms, Arrears, ConnectionType, CreditPolicyVersion, DayClosed, Fact, MeterTerms,
    NoticeLevel, NoticeSent, PaymentMisdirected, PaymentReversed, QuarantineReason, QuarantinedFrame,
    Recharge, Record, RepeatedFrame, Resolution, ReversalReason, SuspenseAssigned, SuspenseReceived,
    TariffVersion, Verdict,
};
pub use ids::{AccountId, AccountNumber, Digest, MeterId, ObisCode, OutboxId, Position, SystemTitle};
pub use money::{MicroRupees, Paise, Ppm};
pub use reading::{EventWord, Quality, Rank, Reading, ReadingKind, Readings};
pub use row::Row;
pub use source::{Source, SourceCounts};
pub use time::{Calendar, CivilDay, CivilMonth, Instant};

/// One named array of a checkpoint: `bytes` holds whole records of `record_size` bytes, little-endian.
///
/// The owner of the state encodes it; the checkpoint file stores it without looking inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the array holds, for example `meter` or `account`.
    pub name: String,
    /// Version of the record's layout; a reader refuses one it does not know by name.
    pub version: u16,
    /// Bytes of one record; 1 where the section is one self-describing blob.
    pub record_size: u32,
    /// The records, one after the other.
    pub bytes: Vec<u8>,
}
