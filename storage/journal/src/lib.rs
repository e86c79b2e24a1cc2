//! The journal of facts: groups of records, synced before anything is acknowledged
