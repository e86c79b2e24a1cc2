//! A head-end of other people's parts: Mosquitto, dlms-cosem in Python, PostgreSQL. See `peers/head_end.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use ingest::BoxError;

use crate::broker::{self, Mosquitto};
use crate::postgres::Postgres;
use crate::python;
use crate::world::Meter;

/// Clients that publish.
const CLIENTS: usize = 4;
const PACKAGES: &str = "dlms_cosem, paho.mqtt.client, psycopg";

/// What it is given.
#[derive(Debug)]
pub struct Work<'a> {
    /// The meters that push.
    pub meters: &'a [Meter],
    /// The frames.
    pub frames: Vec<Vec<u8>>,
    /// Intervals in them.
    pub rows: usize,
    /// Sum of their energies, Wh.
    pub energy_wh: i64,
}

/// Gives the frames to the head-end and says how many seconds pass until all rows are committed; `None` where a part
/// of it is not installed, which is said.
///
/// # Errors
/// When a part fails, or the rows in the database are not those that were sent.
pub fn seconds(work: &Work<'_>) -> Result<Option<f64>, BoxError> {
    let Some(python) = python::with(PACKAGES) else {
        println!("# no Python with dlms-cosem, paho-mqtt and psycopg: the peer of E1 is skipped");
        return Ok(None);
    };
    if !Postgres::is_installed() {
        println!("# PostgreSQL 15 is not installed: the peer of E1 is skipped");
        return Ok(None);
    }
    let dir = tempfile::tempdir()?;
    let Some(broker) = Mosquitto::start(dir.path())? else {
        println!("# mosquitto is not installed: the peer of E1 is skipped");
        return Ok(None);
    };
    let postgres = Postgres::start(&std::env::temp_dir())?;
    postgres.query(
        "create table interval_reading (meter text, interval_end timestamptz, voltage_dv int8, import_wh int8, \
         import_vah int8, export_wh int8, export_vah int8, current int8, neutral_current int8, \
         primary key (meter, interval_end))",
    )?;
    postgres.query("create table account (meter text primary key, energy_wh int8, balance_paise int8)")?;
    let accounts: String =
        work.meters.iter().map(|meter| format!("{}\t0\t50000\n", hex::encode(meter.title.0))).collect();
    postgres.copy("copy account from stdin", accounts.as_bytes())?;
    let keys = dir.path().join("keys");
    write_keys(&keys, work.meters)?;
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/head_end.py"));
    let workers = std::thread::available_parallelism()?.to_string();
    let mut command = Command::new(python);
    command.arg(script).arg(broker.address.port().to_string()).arg(postgres.socket()).arg(&keys);
    command.args([work.rows.to_string(), workers]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut line = || lines.next().ok_or("the head-end ended")?.map_err(BoxError::from);
    while line()? != "ready" {}
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    publish(&broker, work.frames.clone())?;
    let done: f64 = line()?.strip_prefix("done ").ok_or("the head-end said something else")?.parse()?;
    child.wait()?;
    let found = postgres.query(
        "select count(*) || ' ' || sum(import_wh) || ' ' || (select sum(energy_wh) from account) \
         from interval_reading",
    )?;
    let expected = format!("{} {} {}", work.rows, work.energy_wh, work.energy_wh);
    if found != expected {
        return Err(format!("{expected} was sent to the peer, {found} is there").into());
    }
    Ok(Some(done - began))
}

fn publish(broker: &Mosquitto, frames: Vec<Vec<u8>>) -> Result<(), BoxError> {
    let mut parts: Vec<Vec<Vec<u8>>> = vec![Vec::new(); CLIENTS];
    for (number, frame) in frames.into_iter().enumerate() {
        parts[number % CLIENTS].push(frame);
    }
    let address = broker.address;
    let clients: Vec<_> = parts
        .into_iter()
        .enumerate()
        .map(|(number, part)| {
            let client_id = format!("bench-{number}");
            std::thread::spawn(move || {
                broker::publish(address, &client_id, "Normal_Push/bench", part.into_iter())
            })
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    Ok(())
}

fn write_keys(path: &Path, meters: &[Meter]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for meter in meters {
        let hex = |bytes: &[u8]| hex::encode(bytes);
        writeln!(file, "{} {} {}", hex(&meter.title.0), hex(&meter.guek), hex(&meter.gak))?;
    }
    file.flush()
}
