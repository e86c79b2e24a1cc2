//! `urja read` and `urja relay` against a meter made from other people's stacks. What sessions do beneath is held in
//! `codec/tests/peers.rs`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{python, root, skip, urja, urja_ok};

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
    let imports = python().args(["-c", "import gurux_dlms, dlms_cosem, cryptography"]).output();
    if !imports.is_ok_and(|out| out.status.success()) {
        skip("Python packages of tests/peers/requirements.txt");
        return None;
    }
    let mut child = python()
        .arg(root().join("tests/peers/meter.py"))
        .args(["0", TITLE, GUEK, GAK, "--mode", "3", "--hls", hls])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let meter = Meter(child);
    let said: Value = serde_json::from_str(&line).unwrap();
    let csv = format!(
        "system_title,serial,guek,gak,profile,policy,account_number,address,lls,hls,mechanism\n\
         {TITLE},PX000001,{GUEK},{GAK},is15959-d1,authenticated,,127.0.0.1:{},Urja1234,1234567890123456,hls{hls}\n",
        said["port"]
    );
    std::fs::write(dir.join("meters.csv"), csv).unwrap();
    urja_ok(data, &["meter", "import", &dir.join("meters.csv").display().to_string()]);
    Some(meter)
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
