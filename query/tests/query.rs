//! Statements over small lakes made by hand: one binary, as each links the whole of DataFusion.
#![allow(clippy::unwrap_used, reason = "a test may end at what it did not expect")]

#[path = "query/world.rs"]
mod world;

#[path = "query/duckdb.rs"]
mod duckdb;
#[path = "query/hostile.rs"]
mod hostile;
#[path = "query/http.rs"]
mod http;
#[path = "query/limits.rs"]
mod limits;
#[path = "query/plans.rs"]
mod plans;
#[path = "query/same_answer.rs"]
mod same_answer;
#[path = "query/slt.rs"]
mod slt;
