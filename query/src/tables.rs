//! The tables a statement can name: those of the lake, those made of the pinned state, the dictionary, and views.

pub(crate) mod dictionary;
pub(crate) mod lake_table;
pub(crate) mod state;
pub(crate) mod views;

/// Name of the catalog.
pub(crate) const CATALOG: &str = "urja";
/// Schema of the tables for everyone.
pub(crate) const PUBLIC: &str = "public";
/// Schema of the tables about the system itself.
pub(crate) const SYSTEM: &str = "system";
