//! Meters, their keys and accounts in an SQL database: the truth for secrets, personal data and addresses.
//!
//! This crate must never know DLMS, the journal or how a charge is computed, and it reads no clock.
//!
//! What can change a row or a balance is a fact. A change is written together with its fact, in the same transaction:
//! the fact waits in the outbox ([`Registry::outbox_after`]) until it is drained into the journal, in order of its
//! [`OutboxId`](model::OutboxId). No key, name or mobile number is part of a fact.
//!
//! Keys lie wrapped (RFC 3394, AES-256): a random *data key* is wrapped under the key-encryption key ([`Kek`]), and
//! every meter's pair of keys under the data key, together with the meter's system title and key epoch. So a wrong
//! key-encryption key is found out when the database is opened, a wrapped pair moved to another meter's row when it
//! is read, and the key-encryption key can change without touching a meter. Repeated keys are found by a keyed digest
//! (BLAKE3, its key derived from the data key): it tells that two keys are equal to whoever holds the data key, and
//! nothing to anyone else.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod accounts;
mod asking;
mod collections;
mod credit;
mod database;
mod import;
mod kek;
mod keys;
mod meters;
mod outbox;
mod reconcile;
mod supply;
mod vault;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::SqlitePool;

pub use access::{MeterAccess, MeterSecrets};
pub use accounts::AccountInfo;
pub use asking::{Asking, HdlcAddress, Mechanism, MeterFraming, Reader};
pub use collections::{BatchSummary, Collection, CollectionState, MoneyChannel};
pub use credit::{Approval, By, CutHolds, CutSwitch, HoldKind};
pub use import::{
    BadLine, BadLines, BankRow, CollectionBatch, CollectionError, ImportError, Imported, Known,
    MAX_IMPORT_BYTES, MAX_IMPORT_LINES, MAX_LISTED_FAULTS, StatementRow, read_bank, read_statement,
};
pub use kek::{KEK_FILE, Kek, KekError};
pub use keys::{MeterKeys, WeakKey};
pub use meters::{FIRST_KEY_EPOCH, MeterInfo, MeterRecord, ReplacedKeys};
pub use reconcile::{NotSent, OpenLine, OpenTransfer, Side};
pub use supply::{
    Freeze, OpenCut, SupplyCommand, SupplyGroup, SupplyKind, SupplyOfMeter, SupplyState, SupplyStep,
    SupplyTicket,
};
pub use waiting::{Put, WaitingBounds, WaitingCounts, WaitingFrame};

use vault::Vault;

/// Name of the database's file in the data directory.
pub const DATABASE_FILE: &str = "registry.db";

/// The registry: a handle that is cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: SqlitePool,
    vault: Arc<Vault>,
    bounds: WaitingBounds,
}

/// Why the registry cannot be opened, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's file cannot be made or its directory is not there.
    #[error("cannot make {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The tables cannot be brought to this version's layout.
    #[error("the tables of the registry cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database refuses a statement or cannot be reached.
    #[error("the registry's database fails")]
    Database(#[from] sqlx::Error),
    /// The keys in this database were wrapped under another key-encryption key.
    #[error("the key-encryption key is not the one the registry's keys are wrapped under")]
    WrongKek,
    /// A row holds what no version of this program writes.
    #[error("the registry is damaged: {0}")]
    Damaged(String),
    /// The system gives no random bytes for a new data key.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}
