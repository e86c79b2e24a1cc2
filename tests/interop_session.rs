//! `urja read` and `urja relay` against a meter made from other people's stacks. What sessions do beneath is held in
//! `codec/tests/peers.rs`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::harness::{Served, python, root, shared, skip, urja, urja_ok, wait_for};

const SERIAL: &str = "PX000001";
const TITLE: &str = "505852000000aa01";
const GUEK: &str = "411a36e7fa67784cd3d2c52e656e5644";
const GAK: &str = "5f0017d36bcf9185daaad6cb7271d511";

struct Meter(Child);

impl Drop for Meter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A meter that is registered in `data`; its relay needs the button.
fn registered(data: &Path, dir: &Path, hls: &str) -> Option<Meter> {
    let script = root().join("tests/peers/meter.py");
    start(data, dir, &script, hls, &["--mode", "3", "--hls", hls])
}

/// Whether the packages are there that the meters are made of.
fn packages() -> bool {
    let imports = python().args(["-c", "import gurux_dlms, dlms_cosem, cryptography"]).output();
    let there = imports.is_ok_and(|out| out.status.success());
    if !there {
        skip("Python packages of tests/peers/requirements.txt");
    }
    there
}

/// Starts a meter, and registers it where it says that it listens.
fn start(data: &Path, dir: &Path, script: &Path, hls: &str, args: &[&str]) -> Option<Meter> {
    if !packages() {
        return None;
    }
    let mut child = python()
        .arg(script)
        .args(["0", TITLE, GUEK, GAK, "--serial", SERIAL])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let meter = Meter(child);
    let port = match serde_json::from_str::<Value>(&line) {
        Ok(said) => said["port"].to_string(),
        // `meter on PORT`
        Err(_) => line.trim().rsplit(' ').next().unwrap().to_owned(),
    };
    import(data, dir, &format!("127.0.0.1:{port}"), hls);
    Some(meter)
}

/// Registers the meter; without an address it is one that dials in.
fn import(data: &Path, dir: &Path, address: &str, hls: &str) {
    let csv = format!(
        "system_title,serial,guek,gak,profile,policy,account_number,address,lls,hls,mechanism\n\
         {TITLE},{SERIAL},{GUEK},{GAK},is15959-d1,authenticated,,{address},Urja1234,1234567890123456,hls{hls}\n",
    );
    std::fs::write(dir.join("meters.csv"), csv).unwrap();
    urja_ok(data, &["meter", "import", &dir.join("meters.csv").display().to_string()]);
}

/// What the independent meter must hold, as it says apart from its sessions: lines of its model.
fn truth(profile: &str, from: &str, to: &str) -> Vec<Value> {
    let model = shared("peers/meter_model.py").unwrap();
    let out = python()
        .arg(model)
        .args([SERIAL, "--period", "1800", "--from", from, "--to", to, "--profile", profile])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A row of the model in the columns of `urja read`, with its scalers: voltage tenths, currents hundredths.
fn expected(row: &Value) -> Vec<Value> {
    let time = row["t"].as_str().unwrap().trim_end_matches("+05:30").to_owned();
    let names = ["v", "wh", "vah", "whx", "vahx", "i", "inn"];
    let value = |name: &str| {
        let number = row.get(name)?.as_f64().unwrap();
        let scale = match name {
            "v" => 10.0,
            "i" | "inn" => 100.0,
            _ => 1.0,
        };
        Some(json!(number / scale))
    };
    [json!(time)].into_iter().chain(names.into_iter().filter_map(value)).collect()
}

fn numbers(rows: &Value) -> Vec<Vec<Value>> {
    let cell = |cell: &Value| cell.as_f64().map_or_else(|| cell.clone(), |number| json!(number));
    let row = |row: &Value| row.as_array().unwrap().iter().map(cell).collect();
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn what_a_meter_leaves_out_of_its_profiles_is_what_its_own_model_says() {
    let Some(script) = shared("peers/gurux_meter.py") else { return };
    let variants: [&[&str]; 4] = [
        &[],
        &["--null-compress"],
        &["--null-compress", "--encoding", "float", "--time-tag", "19", "--deviation", "-330"],
        &["--null-compress", "--deviation", "none", "--max-pdu", "300"],
    ];
    for variant in variants {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let args = [&["--now", "2026-06-20T14:07:00", "--days", "3"], variant].concat();
        let Some(_meter) = start(&data, dir.path(), &script, "2", &args) else { return };
        let (from, to) = ("2026-06-18T06:00:00", "2026-06-19T06:00:00");
        let read = urja_ok(&data, &["read", SERIAL, "block", "--from", from, "--to", to]);
        let held = truth("block", from, to);
        assert_eq!(held.len(), 49);
        assert_eq!(numbers(&read["rows"]), held.iter().map(expected).collect::<Vec<_>>(), "{variant:?}");
        let held = truth("daily", "2026-06-17T00:00:00", "2026-06-20T00:00:00");
        let held: Vec<_> = held.iter().map(expected).collect();
        assert_eq!(numbers(&urja_ok(&data, &["read", SERIAL, "daily"])["rows"]), held, "{variant:?}");
        let last = urja_ok(&data, &["read", SERIAL, "daily", "--last", "2"]);
        assert_eq!(numbers(&last["rows"]), held[2..], "{variant:?}");
        let some = urja_ok(&data, &["read", SERIAL, "daily", "--entries", "2..3"]);
        assert_eq!(numbers(&some["rows"]), held[1..3], "{variant:?}");
        let events = urja_ok(&data, &["read", SERIAL, "events-control"]);
        let codes = events["rows"].as_array().unwrap().iter().map(|row| row[1].clone());
        assert_eq!(codes.collect::<Vec<_>>(), [151, 302, 165], "{variant:?}: an event happens once");
    }
}

/// A meter that opens a line to the head-end again and again, with a vendor's greeting, and pushes as it is told.
fn dials_in(served: &Served, script: &Path, pushes: &[&str]) -> Meter {
    let to = served.address("tcp").to_string();
    let hello = hex::encode("IMEI 860000000000000\r\n");
    let child = python()
        .arg(script)
        .args(["0", TITLE, GUEK, GAK, "--serial", SERIAL, "--now", "2026-06-20T14:07:00", "--dial", &to])
        .args(["--dial-count", "0", "--dial-interval", "1", "--hello", &hello])
        .args(pushes)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Meter(child)
}

#[test]
fn a_meter_that_dials_in_with_a_greeting_and_pushes_is_booked_and_read_over_its_line() {
    let Some(script) = shared("peers/gurux_meter.py") else { return };
    if !packages() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"), &[]);
    urja_ok(&served.data, &["clock", "2026-06-20T14:07:00+05:30"]);
    import(&served.data, dir.path(), "", "2");
    let _meter = dials_in(&served, &script, &["--dial-push", "block,esw"]);
    let daily = wait_for("the meter is read over the line that it opened", || {
        let out = urja(&served.data, &["--json", "read", SERIAL, "daily"]);
        out.status.success().then(|| serde_json::from_slice::<Value>(&out.stdout).unwrap())
    });
    let held = truth("daily", "2026-06-17T00:00:00", "2026-06-20T00:00:00");
    assert_eq!(numbers(&daily["rows"]), held.iter().map(expected).collect::<Vec<_>>());
    served.wait_number("SELECT count(*) FROM interval_reading", 1);
    let held = truth("block", "2026-06-20T14:00:00", "2026-06-20T14:00:00");
    let (wh, vah) = (held[0]["wh"].as_i64().unwrap(), held[0]["vah"].as_i64().unwrap());
    assert_eq!(served.number("SELECT import_wh FROM interval_reading"), wh);
    assert_eq!(served.number("SELECT import_vah FROM interval_reading"), vah);
    assert_eq!(
        served.number("SELECT count(*) FROM quarantine"),
        0,
        "neither greeting nor answers are pushes"
    );
}

#[test]
fn pushes_with_less_protection_than_agreed_are_evidence_and_open_no_line_to_their_meter() {
    let Some(script) = shared("peers/gurux_meter.py") else { return };
    if !packages() {
        return;
    }
    for control in ["0", "32"] {
        let dir = tempfile::tempdir().unwrap();
        let served = Served::start(&dir.path().join("data"), &[]);
        urja_ok(&served.data, &["clock", "2026-06-20T14:07:00+05:30"]);
        import(&served.data, dir.path(), "", "2");
        let _meter = dials_in(&served, &script, &["--dial-push", "block", "--push-sc", control]);
        let refused = "SELECT count(*) FROM quarantine WHERE reason = 'policy_refused'";
        wait_for("the push is kept as evidence", || (served.number(refused) > 0).then_some(()));
        // Who proved nothing is not asked either: the line may be anybody's.
        let out = urja(&served.data, &["read", SERIAL, "daily"]);
        assert!(!out.status.success());
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(text.contains(SERIAL) && text.contains("no address"), "{text}");
        assert_eq!(served.number("SELECT count(*) FROM interval_reading"), 0, "control {control}");
        let other = "SELECT count(*) FROM quarantine WHERE reason <> 'policy_refused'";
        assert_eq!(served.number(other), 0, "control {control}");
    }
}

#[test]
fn of_answers_with_any_bit_turned_in_frame_or_content_no_wrong_value_is_ever_told() {
    let Some(script) = shared("peers/gurux_meter.py") else { return };
    let held = truth("daily", "2026-06-17T00:00:00", "2026-06-20T00:00:00");
    let held: Vec<_> = held.iter().map(expected).collect();
    let (mut right, mut told) = (0, 0);
    for seed in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let garbled = ["--garble-every", "6", "--garble-where", "any", "--seed", seed];
        let args = [&["--now", "2026-06-20T14:07:00", "--days", "3"], &garbled[..]].concat();
        let Some(_meter) = start(&data, dir.path(), &script, "2", &args) else { return };
        for _ in 0..3 {
            let out = urja(&data, &["--json", "read", SERIAL, "daily"]);
            if out.status.success() {
                let read: Value = serde_json::from_slice(&out.stdout).unwrap();
                assert_eq!(numbers(&read["rows"]), held, "seed {seed}");
                right += 1;
            } else {
                assert_eq!(out.status.code(), Some(1), "{out:?}");
                told += 1;
            }
        }
    }
    assert!(right > 0 && right + told == 6, "{right} read, {told} told");
}

#[test]
fn a_meter_is_read_by_name_and_its_relay_is_cut_only_where_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(_meter) = registered(&data, dir.path(), "2") else { return };
    assert_eq!(urja_ok(&data, &["read", "PX000001", "import-wh"])["unit"], "Wh");
    let daily = urja_ok(&data, &["read", TITLE, "daily"]);
    assert_eq!(daily["columns"].as_array().unwrap().len(), 5);
    assert!(daily["rows"].as_array().unwrap().len() >= 2, "{daily}");
    let status = || urja_ok(&data, &["relay", "PX000001", "status"]);
    assert_eq!(status()["state"], "connected");
    let refused = urja(&data, &["relay", "PX000001", "disconnect"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("relay.enabled"), "{refused:?}");
    assert_eq!(status()["state"], "connected");
    let config = dir.path().join("urja.toml");
    std::fs::write(&config, "[relay]\nenabled = true\n").unwrap();
    let config = config.display().to_string();
    let relay = |command| urja_ok(&data, &["--config", &config, "relay", "PX000001", command]);
    assert_eq!(relay("disconnect")["supplied"], false);
    assert_eq!(relay("connect")["state"], "ready", "the consumer must press the button");
}

#[test]
fn a_meter_with_gmac_is_read_and_cut_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(_meter) = registered(&data, dir.path(), "5") else { return };
    assert_eq!(urja_ok(&data, &["read", "PX000001", "import-wh"])["unit"], "Wh");
    assert_eq!(urja_ok(&data, &["read", "PX000001", "import-wh", "--client", "32"])["unit"], "Wh");
    assert_eq!(urja_ok(&data, &["read", "PX000001", "serial", "--client", "16"])["value"], "PX000001");
    let config = dir.path().join("urja.toml");
    std::fs::write(&config, "[relay]\nenabled = true\n").unwrap();
    let config = config.display().to_string();
    let cut = urja_ok(&data, &["--config", &config, "relay", "PX000001", "disconnect"]);
    assert_eq!(cut["supplied"], false);
}
