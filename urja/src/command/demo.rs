//! `urja demo`: a utility of its own. Simulated meters, tariffs, 40 driven days with recharges, then live.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant as Stopwatch};

use anyhow::{Context, Result, ensure};
use fleet::{Fleet, FleetOptions, MqttTarget, Stats, Target};
use ingest::Clock as _;
use model::Instant;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fleet::{progress_bar, summary};
use super::serve::stop_signal;
use crate::cli::Demo;
use crate::clock::system_now;
use crate::config::{self, Address, ClockSource, Config};
use crate::driver::Driver;
use crate::listener::Doors;
use crate::node::Node;
use crate::owner::Owner;
use crate::status;

/// File in the data directory that a second start goes on from.
const PLAN_FILE: &str = "demo.json";
/// Meters behind one connection.
const METERS_PER_CONNECTION: u32 = 10;
/// How often the live demo writes down how far it has come.
const REMEMBER_EVERY: Duration = Duration::from_secs(5);

/// What a second start must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    seed: u64,
    meters: u32,
    /// First civil day, ISO 8601.
    from: String,
    /// Everything due by then was sent, microseconds since 1970.
    pushed_until: i64,
}

pub(super) async fn run(config: Config, args: &Demo, keep: bool, as_json: bool) -> Result<ExitCode> {
    let begun = Stopwatch::now();
    let scratch = Scratch::new(&config, keep)?;
    let node = Node::open(demo_config(config, args, &scratch.dir)?).await?;
    let doors = Doors::open(&node).await?;
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    let stopped = stop_signal()?;
    tokio::spawn(async move {
        stopped.await;
        signalled.cancel();
    });
    let (mut plan, fresh) = plan(&node, args)?;
    let mut fleet = fleet(&node, &plan, &doors, args, stop.clone())?;
    if fresh {
        register(&node, &fleet, &scratch.dir).await?;
    } else {
        fleet.skip_until(Instant(plan.pushed_until))?;
    }
    if !as_json {
        eprintln!("{}", opening(&node, &plan, &doors, fresh, args));
    }
    let owner = Owner::Local(Box::new(node.clone()));
    let loaded = load_history(&owner, &node, &mut fleet, &mut plan, &stop).await?;
    drop(owner);
    if !args.exit {
        // The printed commands look into the lake: what was loaded is to be found there.
        node.pipeline.checkpoint().await?;
    }
    let report = report(&node, &fleet, &plan, &loaded, begun.elapsed()).await?;
    if as_json {
        println!("{report}");
    } else {
        println!("{}", describe(&report, &node, &doors, args));
    }
    if !args.exit && !stop.is_cancelled() {
        live(&node, &mut fleet, &mut plan, &stop).await?;
        eprintln!("stopping");
    }
    doors.close().await;
    node.close().await?;
    if scratch.temporary {
        eprintln!("the demo's data is removed; `--data DIR` keeps it");
    }
    Ok(ExitCode::SUCCESS)
}

/// A directory for the demo's data: one that is kept, or one that goes with the process.
struct Scratch {
    dir: PathBuf,
    temporary: bool,
}

impl Scratch {
    fn new(config: &Config, keep: bool) -> Result<Scratch> {
        if keep {
            return Ok(Scratch { dir: config.data.dir.clone(), temporary: false });
        }
        let dir = std::env::temp_dir().join(format!("urja-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Scratch { dir, temporary: true })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn demo_config(mut config: Config, args: &Demo, dir: &Path) -> Result<Config> {
    let any = Address(Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    config.data.dir = dir.to_owned();
    config.time.clock = ClockSource::Driven;
    config.listen.tcp = any;
    config.listen.udp = any;
    config.http.listen = Address(Some(args.http.parse().context("--http")?));
    config.http.demo = true;
    config.health.listen = any;
    config.mqtt.url = args.mqtt.clone().unwrap_or_default();
    let embedded = cfg!(feature = "broker") && args.mqtt.is_none();
    config.broker = config::Broker { listen: Address(any.0.filter(|_| embedded)), ..Default::default() };
    let loopback = config.http.listen.0.is_some_and(|address| address.ip().is_loopback());
    ensure!(loopback, "--http: the demo has no sign-in and stays on loopback");
    Ok(config)
}

/// The plan of an earlier start, or a new one that ends today.
fn plan(node: &Node, args: &Demo) -> Result<(Plan, bool)> {
    let path = node.config.data.dir.join(PLAN_FILE);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let plan = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        return Ok((plan, false));
    }
    let today = node.calendar.day_of(system_now());
    let from = today.plus(-i32::try_from(args.days)?);
    let pushed_until = node.calendar.start_of(from).0;
    Ok((Plan { seed: args.seed, meters: args.meters, from: from.to_string(), pushed_until }, true))
}

fn remember(node: &Node, plan: &Plan) -> Result<()> {
    let path = node.config.data.dir.join(PLAN_FILE);
    let fresh = path.with_extension("tmp");
    std::fs::write(&fresh, serde_json::to_string(plan)?)?;
    std::fs::rename(&fresh, &path).with_context(|| path.display().to_string())
}

fn fleet(node: &Node, plan: &Plan, doors: &Doors, args: &Demo, stop: CancellationToken) -> Result<Fleet> {
    let mut options = FleetOptions::new(plan.seed, plan.meters, plan.from.parse()?);
    options.faults = super::fleet::faults(args.faults);
    options.calendar = node.calendar.clone();
    options.shutdown = stop;
    options.cadence.instant_s = 60;
    let meters_per_connection = METERS_PER_CONNECTION;
    options.targets.extend(doors.tcp.map(|address| Target::Tcp { address, meters_per_connection }));
    options.targets.extend(doors.udp.map(|address| Target::Udp { address, meters_per_connection }));
    if let Some(place) = broker_place(node, doors) {
        let (host, port) = place.rsplit_once(':').with_context(|| format!("--mqtt {place}: no port"))?;
        let mut target = MqttTarget::new(host, port.parse().with_context(|| format!("--mqtt {place}"))?);
        target.client_id = format!("urja-demo-fleet-{}", std::process::id());
        target.meters_per_connection = meters_per_connection;
        options.targets.push(Target::Mqtt(target));
    }
    Ok(Fleet::new(options)?)
}

/// Host and port of the broker that was named, or of the embedded one.
fn broker_place(node: &Node, doors: &Doors) -> Option<String> {
    let url = &node.config.mqtt.url;
    let named = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
    if named.is_empty() { doors.broker.map(|address| address.to_string()) } else { Some(named.to_owned()) }
}

/// Tariffs, accounts and meters, as an operator would.
async fn register(node: &Node, fleet: &Fleet, dir: &Path) -> Result<()> {
    node.clock.drive(node.calendar.start_of(fleet.options().from))?;
    for (name, body) in ledger::builtin_tariffs() {
        let applied = node.apply_tariff((*body).to_owned()).await?;
        ensure!(applied.outcome.is_success(), "tariff {name}: {}", applied.outcome);
    }
    fleet.write_registry_files(dir)?;
    node.import_accounts(&std::fs::read(dir.join("accounts.csv"))?).await?;
    node.import_meters(&std::fs::read(dir.join("meters.csv"))?).await?;
    // The second holds keys in the clear; the registry has them wrapped.
    std::fs::remove_file(dir.join("meters.csv"))?;
    Ok(())
}

/// What loading the history took.
struct Loaded {
    days: u32,
    recharges: u64,
    seconds: f64,
}

/// Days from where the plan stands up to now, under a driven clock that is let go at the end.
async fn load_history(
    owner: &Owner,
    node: &Node,
    fleet: &mut Fleet,
    plan: &mut Plan,
    stop: &CancellationToken,
) -> Result<Loaded> {
    let begun = Stopwatch::now();
    let first = node.calendar.day_of(Instant(plan.pushed_until));
    let today = node.calendar.day_of(system_now());
    let bar = progress_bar(u64::try_from(today.0 - first.0 + 1)?, "days");
    let after = node.clock.now().max(Instant(plan.pushed_until));
    let mut driver = Driver::new(owner, fleet, node.calendar.clone(), after, stop.clone());
    let mut day = first;
    let mut days = 0;
    while day <= today && !driver.is_stopped() {
        let shown = bar.clone();
        let progress = move |stats: Stats| shown.set_message(format!("{} frames", stats.frames));
        let mut until = node.calendar.end_of(day).min(system_now());
        driver.day(day, until, &progress).await?;
        if day == today && !driver.is_stopped() {
            until = system_now();
            driver.step(until, &progress).await?;
        }
        plan.pushed_until = until.0;
        remember(node, plan)?;
        bar.inc(1);
        days += 1;
        day = day.next();
    }
    let recharges = driver.recharges;
    // Nobody drives the days to come: the keys that meters go over to then must be known by now.
    driver.rekey(None).await?;
    bar.finish_and_clear();
    node.clock.release();
    wait_for_broker(node, fleet, stop).await;
    Ok(Loaded { days, recharges, seconds: begun.elapsed().as_secs_f64() })
}

/// What the broker has taken on is on its way to us: waits until it is here, for a while.
async fn wait_for_broker(node: &Node, fleet: &Fleet, stop: &CancellationToken) {
    let end = Stopwatch::now() + Duration::from_secs(10);
    while Stopwatch::now() < end && !stop.is_cancelled() {
        let received = node.pipeline.look(|fold| fold.tallies()[model::Source::Mqtt.index()].received).await;
        if received.is_ok_and(|received| received >= fleet.stats().published) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Meters push when their time comes, until Ctrl-C.
async fn live(node: &Node, fleet: &mut Fleet, plan: &mut Plan, stop: &CancellationToken) -> Result<()> {
    let begun = system_now();
    let running = fleet.live(begun, 1);
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                return Ok(());
            }
            () = tokio::time::sleep(REMEMBER_EVERY) => {
                // What is due in the last seconds may be under way; sending it again changes nothing.
                plan.pushed_until = begun.0.max(system_now().plus_seconds(-60).0);
                remember(node, plan)?;
            }
        }
        if stop.is_cancelled() {
            running.await?;
            return Ok(());
        }
    }
}

async fn report(node: &Node, fleet: &Fleet, plan: &Plan, loaded: &Loaded, took: Duration) -> Result<Value> {
    let state = status::read(node).await?;
    let sum = |column: &str, table: &str| {
        format!("SELECT CAST(coalesce(sum({column}), 0) AS BIGINT) AS n FROM {table}")
    };
    let number = async |statement: String| -> Result<i64> {
        let rows = crate::adapter::rows(&node.engine, &statement).await?;
        Ok(rows.first().and_then(|row| row["n"].as_i64()).unwrap_or_default())
    };
    let received = crate::adapter::rows(&node.engine, "SELECT source, received FROM source_tally").await?;
    let by_source: serde_json::Map<_, _> = received
        .iter()
        .map(|row| (row["source"].as_str().unwrap_or_default().to_owned(), row["received"].clone()))
        .collect();
    Ok(json!({
        "meters": plan.meters,
        "from": plan.from,
        "frames_by_source": by_source,
        "days": loaded.days,
        "seconds_loading": (loaded.seconds * 10.0).round() / 10.0,
        "seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
        "recharges": loaded.recharges,
        "fleet": summary(&fleet.stats()),
        "state": state,
        "interval_rows": number("SELECT count(*) AS n FROM interval_reading".into()).await?,
        "postings": number("SELECT count(*) AS n FROM ledger_posting".into()).await?,
        "charged_paise": -number(sum("amount_paise", "ledger_posting WHERE head = 'consumer' AND kind IN ('usage', 'correction')")).await?,
        "recharged_paise": number(sum("amount_paise", "ledger_posting WHERE head = 'consumer' AND kind = 'recharge'")).await?,
        "sum_of_postings_paise": number(sum("amount_paise", "ledger_posting")).await?,
        "conservation_difference": number(sum("abs(difference)", "conservation")).await?,
    }))
}

fn opening(node: &Node, plan: &Plan, doors: &Doors, fresh: bool, args: &Demo) -> String {
    let mqtt = match broker_place(node, doors) {
        Some(place) => format!("MQTT {place}"),
        None => "no MQTT: built without the feature `broker` and no --mqtt given".to_owned(),
    };
    let what = if fresh { format!("loading {} days", args.days) } else { "going on".to_owned() };
    let wire = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    format!(
        "Urja demo: {} meters on TCP {}, UDP {}, {mqtt}\ndata in {}\n{what} since {} ...",
        plan.meters,
        wire(doors.tcp),
        wire(doors.udp),
        node.config.data.dir.display(),
        plan.from
    )
}

fn describe(report: &Value, node: &Node, doors: &Doors, args: &Demo) -> String {
    let rupees = |key: &str| model::Paise(report[key].as_i64().unwrap_or_default()).to_string();
    let mut out = format!(
        "\n{} days loaded, the last of them today so far, in {} s: {} frames sent, {} interval rows, {} postings\n\
         charged ₹{}, recharged ₹{} in {} payments; the sum of all postings is {} paise\n\
         conservation: received less stored, repeated, quarantined, refused and contested is {}\n",
        report["days"],
        report["seconds_loading"],
        report["fleet"]["frames"],
        report["interval_rows"],
        report["postings"],
        rupees("charged_paise"),
        rupees("recharged_paise"),
        report["recharges"],
        report["sum_of_postings_paise"],
        report["conservation_difference"],
    );
    if args.exit {
        return out;
    }
    let http = doors.http.map(|address| address.to_string()).unwrap_or_default();
    let health = doors.health.map(|address| address.to_string()).unwrap_or_default();
    let urja = format!("{} --data {}", program(), node.config.data.dir.display());
    out += &format!(
        "\nNow live. Open\n  http://{http}/       where everything stands\n  http://{http}/card   a consumer's card, Hindi and English\n\n\
         Try in another terminal\n  \
         {urja} sql \"SELECT * FROM daily_usage ORDER BY usage_date DESC, account_number LIMIT 10\"\n  \
         {urja} sql \"SELECT * FROM balance ORDER BY balance_rupees LIMIT 5\"\n  \
         {urja} sql \"SELECT * FROM conservation\"\n  \
         {urja} inspect journal --limit 5\n  \
         {urja} inspect lake --verify\n  \
         curl 'http://{http}/v1/sql?q=SELECT%20count(*)%20FROM%20interval'\n  \
         curl http://{health}/metrics\n\nCtrl-C ends the demo."
    );
    if std::io::stdout().is_terminal() { out + "\n" } else { out }
}

/// How this program was called, as a command to type again.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "urja".into())
}
