//! Meter types as data
