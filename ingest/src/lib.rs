//! What faces meters: listeners, MQTT, normalization and the commit pipeline
