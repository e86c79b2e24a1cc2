//! What faces meters: listeners, MQTT, normalization and the commit pipeline. It must never know SQL or HTTP.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod normalize;
