//! Logs and metrics of the process.

use std::io::IsTerminal;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use metrics::{describe_counter, describe_gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What the libraries below say of each table and file is of no use to an operator.
const QUIET: &str =
    "buoyant_kernel=warn,deltalake_core=warn,sqlx=warn,datafusion=warn,rumqttc=warn,mqtt5=warn";

/// Starts logging to standard error; a second call changes nothing. A command that is over in a moment (`brief`) says
/// only what is wrong.
///
/// # Errors
/// When `log.filter` cannot be read.
pub fn start_logs(log: &Log, brief: bool) -> Result<()> {
    let wanted = if brief && log.filter == Log::default().filter { "warn" } else { &log.filter };
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}")).context("key log.filter")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An earlier subscriber stays in force: in-process commands of `demo` share one.
    let _ = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

pub const HTTP_CONNECTIONS: &str = "urja_http_connections";
pub const HTTP_CLOSED: &str = "urja_http_closed_total";
pub const COLLECTIONS_OPEN: &str = "urja_collections_open";

/// Seconds: a sync takes a tenth of a millisecond to a few seconds.
const SECONDS: &[f64] = &[0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Counts, of records in a group for example.
const COUNTS: &[f64] = &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0];

/// The process-wide recorder, installed on first use.
///
/// # Errors
/// When another recorder is in place.
pub fn metrics() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), COUNTS))
        .context("metrics buckets")?
        .install_recorder()
        .context("metrics recorder")?;
    ingest::describe_metrics();
    describe_gauge!(HTTP_CONNECTIONS, "open HTTP connections, by door");
    describe_gauge!(COLLECTIONS_OPEN, "payments of files that wait for a process or a person, by state");
    describe_counter!(HTTP_CLOSED, "HTTP connections that ended, by door and reason");
    Ok(HANDLE.get_or_init(|| handle).clone())
}
