//! Hot buffer and Delta tables
