//! `urja serve`: the head-end.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::listener::Doors;
use crate::node::Node;

/// Exit code after a failed sync or a record that cannot be applied: nothing is acknowledged any more and the process
/// must be started anew.
const FAILED: u8 = 70;

pub(super) async fn run(config: Config) -> Result<ExitCode> {
    // Metrics of the start are counted as well.
    crate::telemetry::metrics()?;
    let node = Node::open(config).await?;
    let doors = Doors::open(&node).await?;
    // Before it says that it is ready: whoever reads that may ask it to stop at once.
    let stopped = stop_signal()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", doors.describe(&node)).and_then(|()| out.flush()).context("standard output")?;
    drop(out);
    tracing::info!(tcp = ?doors.tcp, udp = ?doors.udp, broker = ?doors.broker, http = ?doors.http, health = ?doors.health, "ready");
    let mut failed = node.pipeline.failed();
    let code = tokio::select! {
        name = stopped => {
            tracing::info!(signal = name, "draining");
            ExitCode::SUCCESS
        }
        failure = failed.wait_for(Option::is_some) => {
            let reason = failure.ok().and_then(|failure| failure.clone()).map(|failure| failure.to_string());
            tracing::error!(reason, "stopped without another acknowledgement");
            return Ok(ExitCode::from(FAILED));
        }
    };
    doors.close().await;
    node.close().await.context("last checkpoint")?;
    tracing::info!("drained");
    Ok(code)
}

/// Listens for SIGTERM and SIGINT from now on; gives the name of the first that comes.
pub(super) fn stop_signal() -> Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
