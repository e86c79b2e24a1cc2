//! One simulated meter on a port, for clients of other stacks: `cargo run -p fleet --example meter -- [OPTION VALUE …]`.
//!
//! | option | what |
//! |---|---|
//! | `--port` | on 127.0.0.1; 0 takes any |
//! | `--seed`, `--days` | which meter, and for how long it measures already |
//! | `--kek`, `--lls`, `--hls-secret`, `--mechanism` | what a client needs besides the keys |
//! | `--mode`, `--button-s` | of the relay |
//! | `--image-block`, `--lose-image-block` | of the image transfer |
//! | `--fault` | `KIND@N`, `KIND%N` or `KIND~PPM`; more than once |
//! | `--truth` | file for what its buffers hold |
//!
//! Prints `{"port", "system_title", "serial", "guek", "gak"}` and serves until it is killed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use codec::apdu::acse::Mechanism;
use fleet::meter::{Access, Fault, Held, Meter, MeterOptions, SimulatedClock, serve};
use fleet::{Deviation, Faults, FleetOptions, Mix, provision};
use model::{Calendar, Instant, Values};
use profiles::Profile;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        given.entry(option).or_default().push(value);
    }
    let text = |option: &str| given.get(option).and_then(|values| values.last()).cloned();
    let number = |option: &str| text(option).map(|value| value.parse::<u32>().unwrap());
    let seed = number("--seed").unwrap_or(1);
    let now = Instant(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap());
    let calendar = Calendar::india();
    let from = calendar.day_of(now).plus(-i32::try_from(number("--days").unwrap_or(40)).unwrap());
    let mut options = FleetOptions::new(seed.into(), 1, from);
    options.faults = Faults { power_outage_ppm: 100_000, voltage_sag_ppm: 100_000, ..Faults::NONE };
    options.mix =
        Mix { three_phase_ppm: 0, quarter_hour_ppm: 0, start_stamped_ppm: 0, float_ppm: 0, ..Mix::default() };
    let mut meter = provision(options.seed, 1, from, &options.mix).remove(0);
    meter.tagged_time = false;
    if let Some(deviation) = text("--deviation") {
        meter.deviation = match deviation.as_str() {
            "330" => Deviation::Ahead,
            "-330" => Deviation::BlueBook,
            _ => Deviation::Unspecified,
        };
    }
    let key = |hex: String| hex::decode(hex).unwrap().try_into().unwrap();
    let kek = text("--kek").map_or_else(|| core::array::from_fn(|at| at as u8), key);
    let mechanism = if number("--mechanism") == Some(5) { Mechanism::Gmac } else { Mechanism::Manufacturer };
    let mut how = MeterOptions::new(Access {
        kek,
        lls: text("--lls").unwrap_or_else(|| "Urja1234".to_owned()),
        hls_secret: text("--hls-secret").unwrap_or_else(|| "1234567890123456".to_owned()),
        mechanism,
    });
    how.relay_mode = number("--mode").map_or(4, |mode| mode as u8);
    how.button_after_s = number("--button-s").map(i64::from);
    how.image_block = number("--image-block").unwrap_or(how.image_block);
    how.lose_image_block = number("--lose-image-block");
    let faults = given.get("--fault").into_iter().flatten();
    how.faults = faults.map(|fault| fault.parse::<Fault>().unwrap()).collect();
    let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
    let listener = TcpListener::bind(("127.0.0.1", number("--port").unwrap_or(0) as u16)).await.unwrap();
    let line = json!({
        "port": listener.local_addr().unwrap().port(),
        "system_title": meter.title.to_string(),
        "serial": meter.serial,
        "guek": hex::encode(meter.guek),
        "gak": hex::encode(meter.gak),
    });
    let mut meter = Meter::new(&options, Arc::new(meter), &profiles, how, now).unwrap();
    if let Some(path) = text("--truth") {
        let held = truth(&meter.held(now).unwrap(), &calendar);
        std::fs::write(path, held.to_string()).unwrap();
    }
    println!("{line}");
    let clock = SimulatedClock::new(now, 1);
    serve(listener, Arc::new(Mutex::new(meter)), clock, CancellationToken::new()).await.unwrap();
}

/// As `tests/peers/meter.py` writes it.
fn truth(held: &Held, calendar: &Calendar) -> Value {
    let named = |values: &Values| -> Map<String, Value> {
        values.iter().map(|(channel, value)| (channel.name().to_owned(), value.into())).collect()
    };
    let end = |at: Instant| {
        let wall = calendar.wall_clock(at);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            wall.year, wall.month, wall.day, wall.hour, wall.minute, wall.second
        )
    };
    let rows = |rows: &[(Instant, Values)]| -> Vec<Value> {
        rows.iter().map(|(at, values)| json!({ "end": end(*at), "values": named(values) })).collect()
    };
    json!({ "registers": named(&held.registers), "block": rows(&held.block), "daily": rows(&held.daily) })
}
