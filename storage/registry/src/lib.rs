//! Meters, keys and accounts in an SQL database
