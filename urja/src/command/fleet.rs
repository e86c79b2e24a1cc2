//! `urja fleet`: simulated meters that push to a head-end.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use fleet::meter::SimulatedClock;
use fleet::{Faults, Fleet, FleetOptions, Mix, MqttTarget, Stats, Target};
use indicatif::{ProgressBar, ProgressStyle};
use model::{CivilDay, Instant};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::print;
use super::serve::stop_signal;
use crate::cli::{self, FleetFaults, Transport};
use crate::clock::system_now;
use crate::config::Config;
use crate::driver::Driver;
use crate::owner::Owner;

/// Meters behind one connection, as behind a concentrator.
const METERS_PER_CONNECTION: u32 = 50;

pub(super) async fn run(config: &Config, args: &cli::Fleet, as_json: bool) -> Result<ExitCode> {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let mut options = options(config, args)?;
    if args.provision {
        return provision(&options, &args.out, as_json);
    }
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    let stopped = stop_signal()?;
    tokio::spawn(async move {
        stopped.await;
        signalled.cancel();
    });
    if args.days == 0 {
        options.shutdown = stop.clone();
    }
    let truth = options.truth.clone();
    let mut fleet = Fleet::new(options)?;
    fleet.write_registry_files(&args.out)?;
    let (days, recharges) = if args.days == 0 {
        let now = system_now();
        fleet.skip_until(now)?;
        answer(&mut fleet, args, now, &stop).await?;
        fleet.live(now, 1).await?;
        (0, 0)
    } else {
        let done = load(config, args, &mut fleet, stop.clone()).await?;
        if args.serve.is_some() {
            let last = fleet.options().from.plus(i32::try_from(args.days)? - 1);
            let now = fleet.options().calendar.end_of(last);
            answer(&mut fleet, args, now, &stop).await?;
            stop.cancelled().await;
        }
        done
    };
    let mut value = summary(&fleet.stats());
    value["days"] = days.into();
    value["recharges"] = recharges.into();
    value["truth"] = json!(truth);
    print(as_json, &value, || describe(&value, args));
    Ok(ExitCode::SUCCESS)
}

/// Lets the meters answer from `now` on, where that is asked for. That access.csv is there says that they do.
async fn answer(fleet: &mut Fleet, args: &cli::Fleet, now: Instant, stop: &CancellationToken) -> Result<()> {
    if args.serve.is_none() && !args.dial_in {
        return Ok(());
    }
    let options = FleetOptions { shutdown: stop.clone(), ..fleet.options().clone() };
    let clock = SimulatedClock::new(now, 1);
    let mut doors = fleet::meter::doors(&options, fleet.meters(), &args.meter_fault, now)?;
    match args.serve {
        Some(at) => fleet::meter::open(&options, &mut doors, at, clock).await?,
        None => fleet.dial_in(&mut doors, clock),
    }
    let (path, unfinished) = (args.out.join("access.csv"), args.out.join("access.csv.new"));
    let file = std::fs::File::create(&unfinished).with_context(|| unfinished.display().to_string())?;
    fleet::meter::write_access(&doors, std::io::BufWriter::new(file))?;
    std::fs::rename(&unfinished, &path).with_context(|| path.display().to_string())
}

/// Days as fast as the head-end confirms them.
async fn load(
    config: &Config,
    args: &cli::Fleet,
    fleet: &mut Fleet,
    stop: CancellationToken,
) -> Result<(u32, u64)> {
    let from = fleet.options().from;
    let calendar = fleet.options().calendar.clone();
    let bar = progress_bar(u64::from(args.days), "days");
    let mut done = 0;
    let mut recharges = 0;
    if args.drive {
        let owner = Owner::running(config).await.with_context(|| {
            format!(
                "no head-end runs on {}; --drive needs its admin socket (--data)",
                config.data.dir.display()
            )
        })?;
        let mut driver = Driver::new(&owner, fleet, calendar.clone(), calendar.start_of(from), stop.clone());
        while done < args.days && !stop.is_cancelled() {
            let day = from.plus(i32::try_from(done)?);
            driver.day(day, calendar.end_of(day), |_| ()).await?;
            done += 1;
            bar.inc(1);
        }
        recharges = driver.recharges;
    } else {
        while done < args.days && !stop.is_cancelled() {
            fleet.push_day(from.plus(i32::try_from(done)?), |_| ()).await?;
            done += 1;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok((done, recharges))
}

fn options(config: &Config, args: &cli::Fleet) -> Result<FleetOptions> {
    let from: CivilDay = args.from.parse().context("--from")?;
    let mut options = FleetOptions::new(args.seed, args.meters, from);
    options.calendar = config.calendar()?;
    options.truth = Some(args.out.join("truth.jsonl"));
    options.targets = args.to.iter().map(|to| target(to, args)).collect::<Result<_>>()?;
    options.confirm_timeout =
        std::time::Duration::try_from_secs_f64(args.confirm_timeout).context("--confirm-timeout")?;
    options.faults = if args.no_faults { Faults::NONE } else { faults(args.faults) };
    if let Some(transport_policy_ppm) = args.plain_ppm {
        options.mix = Mix { transport_policy_ppm, ..Mix::default() };
    }
    options.mix.hdlc = args.hdlc;
    if args.hdlc && !options.targets.iter().all(|target| matches!(target, Target::Tcp { .. })) {
        bail!("--hdlc is for targets over TCP");
    }
    Ok(options)
}

/// The faults of a preset.
pub(super) fn faults(preset: FleetFaults) -> Faults {
    match preset {
        FleetFaults::None => Faults::NONE,
        FleetFaults::Usual => Faults::USUAL,
        FleetFaults::Storm => Faults::STORM,
    }
}

/// `tcp://`, `udp://` or `mqtt://HOST:PORT`; without a scheme `--transport` says which.
fn target(to: &str, args: &cli::Fleet) -> Result<Target> {
    let meters_per_connection = if args.dial_in { 1 } else { METERS_PER_CONNECTION };
    let (scheme, place) = match to.split_once("://") {
        Some(parts) => parts,
        None => (
            match args.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::Mqtt => "mqtt",
            },
            to,
        ),
    };
    let address = || place.parse().with_context(|| format!("--to {to}: not HOST:PORT with a numeric host"));
    Ok(match scheme {
        "tcp" => Target::Tcp { address: address()?, meters_per_connection },
        "udp" => Target::Udp { address: address()?, meters_per_connection },
        "mqtt" => {
            let (host, port) = place.rsplit_once(':').with_context(|| format!("--to {to}: no port"))?;
            let broker = MqttTarget::new(host, port.parse().with_context(|| format!("--to {to}: bad port"))?);
            let alone = if args.dial_in { 1 } else { broker.meters_per_connection };
            Target::Mqtt(MqttTarget { meters_per_connection: alone, ..broker })
        }
        other => bail!("--to {to}: no transport {other}; there are tcp, udp and mqtt"),
    })
}

fn provision(options: &FleetOptions, out: &Path, as_json: bool) -> Result<ExitCode> {
    let meters = fleet::provision(options.seed, options.meters, options.from, &options.mix);
    let create = |name: &str| {
        let path = out.join(name);
        std::fs::File::create(&path).map(std::io::BufWriter::new).with_context(|| path.display().to_string())
    };
    fleet::write_accounts(&meters, create("accounts.csv")?)?;
    fleet::write_meters(&meters, create("meters.csv")?)?;
    let new_keys = fleet::new_keys(options, &meters, None);
    if !new_keys.is_empty() {
        std::fs::write(out.join("rekey.csv"), new_keys).context("rekey.csv")?;
    }
    let value = json!({ "meters": meters.len(), "out": out });
    print(as_json, &value, || {
        let out = out.display();
        format!(
            "{} meters in {out}; register them with\n  urja account import {out}/accounts.csv\n  urja meter import {out}/meters.csv",
            meters.len()
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// The counts of a fleet as JSON.
pub(super) fn summary(stats: &Stats) -> Value {
    json!({
        "sent": stats.sent, "frames": stats.frames, "intervals": stats.intervals, "resent": stats.resent,
        "duplicates": stats.duplicates, "confirmed": stats.confirmed, "published": stats.published,
        "connections": stats.connections,
        "faults": {
            "power_outages": stats.planned.power_outages, "link_outages": stats.planned.link_outages,
            "never_delivered": stats.planned.never_delivered, "daily_lost": stats.planned.daily_lost,
            "duplicates": stats.planned.duplicates, "late": stats.planned.late,
            "reordered": stats.planned.reordered, "revisions": stats.planned.revisions,
            "voltage_sags": stats.planned.voltage_sags, "garbage_times": stats.planned.garbage_times,
            "newest_first": stats.planned.newest_first, "held_back": stats.held_back,
            "clock_drifts": stats.planned.clock_drifts, "key_changes": stats.planned.key_changes,
            "silences": stats.planned.silences,
        },
    })
}

fn describe(value: &Value, args: &cli::Fleet) -> String {
    format!(
        "{} frames with {} intervals sent by {} meters in {} days; {} confirmed, {} published, {} sent again\ntruth in {}",
        value["frames"],
        value["intervals"],
        args.meters,
        value["days"],
        value["confirmed"],
        value["published"],
        value["resent"],
        args.out.join("truth.jsonl").display()
    )
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress_bar(length: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{elapsed}} {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
