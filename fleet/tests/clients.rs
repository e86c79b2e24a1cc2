//! Clients of other stacks (`tests/peers/client.py`) get on with the simulated meter over TCP.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use codec::apdu::acse::Mechanism;
use fleet::meter::{Access, Held, Meter, MeterOptions, SharedMeter, SimulatedClock, serve};
use fleet::{Deviation, Faults, FleetOptions, Mix, SimulatedMeter, provision};
use model::{Calendar, Instant, Values};
use profiles::Profile;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PACKAGES: [&str; 2] = ["gurux_dlms", "dlms_cosem"];
/// What the clients assume where they are told nothing.
const LLS: &str = "Urja1234";
const HLS: &str = "1234567890123456";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The interpreter that `./test` sets up, or whatever is installed.
fn python() -> Command {
    let venv = root().join(".venv/bin/python3");
    Command::new(if venv.exists() { venv } else { PathBuf::from("python3") })
}

fn peers_are_there() -> bool {
    PACKAGES.iter().all(|package| {
        let found = python().args(["-c", &format!("import {package}")]).stderr(Stdio::null()).status();
        let there = found.is_ok_and(|status| status.success());
        if !there {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "must be there: {package}");
            eprintln!("skipped: not there: Python package {package}");
        }
        there
    })
}

fn fleet() -> (FleetOptions, SimulatedMeter, Instant) {
    let calendar = Calendar::india();
    let from = "2026-06-01".parse().unwrap();
    let now = calendar.at("2026-07-15".parse().unwrap(), 14, 7);
    let mut options = FleetOptions::new(11, 1, from);
    options.faults = Faults { power_outage_ppm: 100_000, voltage_sag_ppm: 100_000, ..Faults::NONE };
    // Both stacks read u32 in Wh and half-hours stamped at their end, as the checks expect them.
    options.mix =
        Mix { three_phase_ppm: 0, quarter_hour_ppm: 0, start_stamped_ppm: 0, float_ppm: 0, ..Mix::default() };
    let mut meter = provision(options.seed, 1, from, &options.mix).remove(0);
    meter.tagged_time = false;
    (options, meter, now)
}

fn access(mechanism: Mechanism) -> Access {
    let kek = core::array::from_fn(|at| at as u8);
    Access { kek, lls: LLS.to_owned(), hls_secret: HLS.to_owned(), mechanism }
}

/// As `tests/peers/meter.py` writes what it holds.
fn truth(held: &Held, calendar: &Calendar) -> Value {
    let named = |values: &Values| -> Map<String, Value> {
        values.iter().map(|(channel, value)| (channel.name().to_owned(), value.into())).collect()
    };
    let end = |at: Instant| {
        let wall = calendar.wall_clock(at);
        let (date, time) = ((wall.year, wall.month, wall.day), (wall.hour, wall.minute, wall.second));
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", date.0, date.1, date.2, time.0, time.1, time.2)
    };
    let rows = |rows: &[(Instant, Values)]| -> Vec<Value> {
        rows.iter().map(|(at, values)| json!({ "end": end(*at), "values": named(values) })).collect()
    };
    json!({ "registers": named(&held.registers), "block": rows(&held.block), "daily": rows(&held.daily) })
}

/// The lines of the clients, by stack and check, and the meter after them.
async fn run(
    change: impl FnOnce(&mut SimulatedMeter, &mut MeterOptions),
    mechanism: Mechanism,
    arguments: &[&str],
) -> Option<(BTreeMap<(String, String), Value>, SharedMeter)> {
    if !peers_are_there() {
        return None;
    }
    let (options, mut identity, now) = fleet();
    let mut how = MeterOptions::new(access(mechanism));
    change(&mut identity, &mut how);
    let keys = [hex::encode(identity.guek), hex::encode(identity.gak)];
    let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
    let mut meter = Meter::new(&options, Arc::new(identity), &profiles, how, now).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("truth.json");
    std::fs::write(&held, truth(&meter.held(now).unwrap(), &options.calendar).to_string()).unwrap();
    let meter = Arc::new(Mutex::new(meter));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let shutdown = CancellationToken::new();
    let clock = SimulatedClock::new(now, 1);
    let serving = tokio::spawn(serve(listener, Arc::clone(&meter), clock, shutdown.clone()));
    let number = mechanism.code().to_string();
    let mut command = python();
    command.arg(root().join("tests/peers/client.py")).args(["127.0.0.1", &port]).args(keys);
    command.args(["--mechanism", &number, "--truth"]).arg(&held).args(arguments);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines().map(|line| {
        println!("{line}");
        let line: Value = serde_json::from_str(line).unwrap();
        ((line["stack"].as_str().unwrap().to_owned(), line["check"].as_str().unwrap().to_owned()), line)
    });
    let lines: BTreeMap<_, _> = lines.collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    Some((lines, meter))
}

#[track_caller]
fn all_pass(lines: &BTreeMap<(String, String), Value>, count: usize, skipped: usize) {
    let failed: Vec<&Value> = lines.values().filter(|line| line["pass"] == false).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(lines.len(), count);
    assert_eq!(lines.values().filter(|line| line["pass"] == "skipped").count(), skipped);
}

#[tokio::test]
async fn every_check_of_both_stacks_passes_with_the_indian_mechanism() {
    let Some((lines, meter)) = run(|_, _| (), Mechanism::Manufacturer, &[]).await else { return };
    all_pass(&lines, 44, 3);
    let meter = meter.lock().unwrap();
    assert_eq!((meter.key_changes(), meter.is_connected()), (2, true));
    let image: Vec<u8> = (0..2345_u32).map(|at| (at * 7) as u8).collect();
    assert_eq!(meter.activated_image(), Some((&b"PEER-2"[..], &image[..])));
}

#[tokio::test]
async fn every_check_of_both_stacks_passes_with_gmac_small_image_blocks_and_the_other_deviation() {
    let change = |meter: &mut SimulatedMeter, how: &mut MeterOptions| {
        meter.deviation = Deviation::BlueBook;
        how.image_block = 64;
        how.lose_image_block = Some(5);
        how.relay_mode = 2;
    };
    let Some((lines, _)) = run(change, Mechanism::Gmac, &[]).await else { return };
    all_pass(&lines, 44, 1);
}

/// Information of a frame that Gurux asks for, and the meter: the first takes 128 bytes, the second 1024.
const LINKS: [(&str, u32); 3] = [("128", 0), ("512", 0), ("512", 1)];
/// What needs no look at whole APDUs on the wire.
const IN_HDLC: [&str; 14] = [
    "public",
    "reader-plain",
    "reader",
    "utility",
    "limits",
    "objects",
    "registers",
    "scalers",
    "range",
    "entry",
    "daily",
    "relay",
    "events",
    "clock",
];

#[tokio::test]
async fn gurux_gets_on_with_the_meter_in_hdlc_whatever_they_negotiate() {
    for (max_info, index) in LINKS {
        let change = |meter: &mut SimulatedMeter, _: &mut MeterOptions| meter.index = index;
        let options = ["--framing", "hdlc", "--stack", "gurux", "--max-info", max_info];
        let arguments = [&options[..], &IN_HDLC, &["image", "firmware", "key"]].concat();
        let Some((lines, _)) = run(change, Mechanism::Manufacturer, &arguments).await else { return };
        all_pass(&lines, IN_HDLC.len() + 3, 0);
    }
}

/// Whose answers have more than one frame.
const LONG: [&str; 3] = ["objects", "range", "daily"];

/// Gurux in Python agrees to a window and keeps to it as long as there is one frame of it: of more it acknowledges the first
/// and waits for another, so long answers are held against our own other side.
#[tokio::test]
async fn gurux_agrees_to_windows_with_the_meter_and_does_what_is_answered_in_one_frame() {
    let short: Vec<&str> = IN_HDLC.into_iter().filter(|check| !LONG.contains(check)).collect();
    let change = |meter: &mut SimulatedMeter, _: &mut MeterOptions| meter.index = 1;
    for window in ["3", "7"] {
        let options = ["--framing", "hdlc", "--stack", "gurux", "--max-info", "512", "--window", window];
        let arguments = [&options[..], &short, &["image", "firmware", "key"]].concat();
        let Some((lines, _)) = run(change, Mechanism::Manufacturer, &arguments).await else { return };
        all_pass(&lines, short.len() + 3, 0);
    }
}

#[tokio::test]
async fn dlms_cosem_gets_on_with_the_meter_in_hdlc() {
    let arguments = [&["--framing", "hdlc", "--stack", "dlms-cosem"][..], &IN_HDLC].concat();
    let Some((lines, _)) = run(|_, _| (), Mechanism::Gmac, &arguments).await else { return };
    all_pass(&lines, IN_HDLC.len(), 1);
}

/// Gurux knows of no broadcast key.
#[tokio::test]
async fn a_billing_date_and_a_broadcast_of_other_stacks_are_obeyed() {
    let arguments = ["billing", "broadcast"];
    let Some((lines, meter)) = run(|_, _| (), Mechanism::Manufacturer, &arguments).await else { return };
    all_pass(&lines, 4, 1);
    assert_eq!(meter.lock().unwrap().key_changes(), 1);
}

/// What is pushed before an answer is put aside: neither stack takes it for the answer.
#[tokio::test]
async fn pushes_between_questions_and_answers_disturb_no_other_stack() {
    let change =
        |_: &mut SimulatedMeter, how: &mut MeterOptions| how.faults = vec!["push%2".parse().unwrap()];
    let arguments = ["utility", "range", "relay", "clock"];
    let Some((lines, _)) = run(change, Mechanism::Gmac, &arguments).await else { return };
    all_pass(&lines, 8, 0);
}

/// In these modes a reconnection only makes the relay ready, and somebody has to press the button.
#[tokio::test]
async fn a_relay_with_a_button_is_ready_for_reconnection() {
    for mode in [1, 3, 5, 6] {
        let change = |_: &mut SimulatedMeter, how: &mut MeterOptions| {
            how.relay_mode = mode;
            how.button_after_s = None;
        };
        let Some((lines, meter)) = run(change, Mechanism::Manufacturer, &["relay"]).await else { return };
        all_pass(&lines, 2, 0);
        assert!(!meter.lock().unwrap().is_connected(), "mode {mode}");
    }
}

#[tokio::test]
async fn what_goes_wrong_on_demand_is_noticed_by_both_stacks() {
    for fault in ["drop%6", "busy%1", "low-memory%1", "garbage%5"] {
        let change =
            |_: &mut SimulatedMeter, how: &mut MeterOptions| how.faults = vec![fault.parse().unwrap()];
        let arguments = ["range", "--timeout", "5"];
        let Some((lines, _)) = run(change, Mechanism::Manufacturer, &arguments).await else { return };
        assert!(lines.values().all(|line| line["pass"] == false), "{fault}: {lines:#?}");
    }
}
