//! Urja: a smart-meter head-end with a prepaid ledger inside. The one binary: all wiring, commands, health, metrics and
//! the admin socket. It knows every crate and holds no rule of its own.
#![allow(unreachable_pub, reason = "a binary has no outside; `pub` says what a module offers to the others")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adapter;
mod admin;
#[cfg(feature = "broker")]
mod broker;
mod cli;
mod clock;
mod collections;
mod command;
mod config;
mod credit;
mod driver;
mod health;
mod listener;
mod node;
mod owner;
mod problem;
mod reconcile;
mod session;
mod status;
mod supply;
mod telemetry;
mod verification;
mod web;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Several crates bring a TLS provider each; one is chosen before any of them is asked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("io").build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = runtime.block_on(command::run(cli)).unwrap_or_else(|error| fail(&error));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("urja: {error:#}");
    ExitCode::FAILURE
}
