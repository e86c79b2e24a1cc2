//! The commands. Each prints for people, or one JSON value with `--json`.

#[cfg(feature = "query")]
mod bill;
mod collect;
mod credit;
mod decode;
#[cfg(feature = "query")]
mod demo;
#[cfg(feature = "query")]
mod explain;
mod fleet;
mod inspect;
mod rebuild;
mod reconcile;
mod registry;
mod serve;
mod session;
#[cfg(feature = "query")]
mod shadow;
#[cfg(feature = "query")]
mod sql;
mod supply;
mod tariff;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cli::{self, Cli, Command};
use crate::config::{self, Config};
use crate::telemetry;

/// Exit code for bytes, statements and files that are at fault.
const BAD_INPUT: u8 = 2;

/// Runs the command; errors go to the caller with what to do next.
///
/// # Errors
/// What the command says.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    if let Command::Decode(args) = &cli.command {
        return decode::run(args, cli.json);
    }
    if let Command::Config(args) = &cli.command {
        return configuration(&cli, args);
    }
    if let Command::Tariff(args) = &cli.command
        && let Some(result) = tariff::without_data(args, cli.json)
    {
        return result;
    }
    if let Command::Credit(args) = &cli.command
        && let Some(result) = credit::without_data(args, cli.json)
    {
        return result;
    }
    let config = load(&cli)?;
    telemetry::start_logs(&config.log, !matches!(cli.command, Command::Serve(_)))?;
    match &cli.command {
        Command::Serve(_) => serve::run(config).await,
        #[cfg(feature = "query")]
        Command::Demo(args) => demo::run(config, args, cli.data.is_some(), cli.json).await,
        Command::Fleet(args) => fleet::run(&config, args, cli.json).await,
        #[cfg(feature = "query")]
        Command::Sql(args) => sql::run(&config, args, cli.json).await,
        #[cfg(feature = "query")]
        Command::Explain(args) => explain::run(&config, args, cli.json).await,
        #[cfg(feature = "query")]
        Command::Bill(args) => bill::run(&config, args, cli.json).await,
        #[cfg(feature = "query")]
        Command::Shadow(cli::Shadow::Compare(args)) => shadow::run(&config, args, cli.json).await,
        Command::Meter(cli::Meter::Import { file }) => registry::import_meters(&config, file, cli.json).await,
        Command::Meter(cli::Meter::Rekey { file }) => registry::rekey_meters(&config, file, cli.json).await,
        Command::Account(cli::Account::Import { file }) => {
            registry::import_accounts(&config, file, cli.json).await
        }
        Command::Account(cli::Account::Change(args)) => {
            registry::change_account(&config, args, cli.json).await
        }
        Command::Tariff(args) => tariff::run(&config, args, cli.json).await,
        Command::Credit(args) => credit::run(&config, args, cli.json).await,
        Command::Supply(args) => supply::run(&config, args, cli.json).await,
        Command::Clock(args) => registry::clock(&config, &args.now, cli.json).await,
        Command::Reverse(args) => registry::reverse(&config, args, cli.json).await,
        Command::Collect(args) => collect::run(&config, args, cli.json).await,
        Command::Reconcile(args) => reconcile::run(&config, args, cli.json).await,
        Command::Recharge(args) => registry::recharge(&config, args, cli.json).await,
        Command::Read(args) => session::read(&config, args, cli.json).await,
        Command::Relay(args) => session::relay(&config, args, cli.json).await,
        Command::Inspect(args) => inspect::run(&config, args, cli.json).await,
        Command::Rebuild(args) => rebuild::run(&config, args, cli.json),
        Command::Decode(_) | Command::Config(_) => bail!("this command needs no configuration"),
    }
}

fn load(cli: &Cli) -> Result<Config> {
    let mut flags: Vec<(&str, String)> = Vec::new();
    if let Some(dir) = &cli.data {
        flags.push(("data.dir", dir.display().to_string()));
    }
    if let Command::Serve(args) = &cli.command {
        let given = [
            ("listen.tcp", &args.tcp),
            ("listen.udp", &args.udp),
            ("mqtt.url", &args.mqtt),
            ("broker.listen", &args.broker),
            ("http.listen", &args.http),
            ("health.listen", &args.health),
            ("time.clock", &args.clock),
            ("session.system_title", &args.system_title),
        ];
        flags.extend(given.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, value))));
    }
    Config::load(cli.config.as_deref(), &flags)
}

fn configuration(cli: &Cli, args: &cli::Config) -> Result<ExitCode> {
    match args {
        cli::Config::Check { file } => {
            Config::load(Some(file), &[])?;
            print(cli.json, &serde_json::json!({ "file": file, "ok": true }), || {
                format!("{} is good", file.display())
            });
        }
        cli::Config::Example => print!("{}", config::EXAMPLE),
        cli::Config::Show => {
            let mut config = load(cli)?;
            // Secrets are not for a screen.
            config.keys.kek.clear();
            config.mqtt.password.clear();
            print(cli.json, &serde_json::to_value(&config)?, || toml::to_string(&config).unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one result.
fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{value}");
    } else {
        println!("{}", text().trim_end());
    }
}

/// Energy for people.
#[cfg(feature = "query")]
fn kwh(wh: i64) -> String {
    format!("{}{}.{:03} kWh", if wh < 0 { "-" } else { "" }, wh.abs() / 1000, wh.abs() % 1000)
}

/// Reads a file, or standard input for `-`.
fn read_input(file: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read as _;

    use anyhow::Context as _;
    if file.as_os_str() != "-" {
        return std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}
