//! Pushes made by an independent DLMS stack, sent to the binary over all three transports.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Broker, Served, evidence, peer, python, shared, urja_ok, wait_for};

const GURUX: &[&str] = &["gurux_dlms", "cryptography", "paho.mqtt.client"];
/// One push with a flipped tag before every so many.
const FLIPS: &str = "7";

#[test]
fn pushes_of_an_independent_stack_come_out_of_sql_as_what_they_were_made_from_over_tcp() {
    through("tcp");
}

#[test]
fn pushes_of_an_independent_stack_come_out_of_sql_as_what_they_were_made_from_over_udp() {
    through("udp");
}

#[test]
fn pushes_of_an_independent_stack_come_out_of_sql_as_what_they_were_made_from_over_mqtt() {
    through("mqtt");
}

fn through(transport: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("pushes"));
    let out_text = out.display().to_string();
    let ciphers = ["--ciphers", "30,10,20,plain", "--count", "160", "--flips", FLIPS];
    let generate = [&["gen", "--out", &out_text], &ciphers[..]].concat();
    if peer("peers/push.py", GURUX, &generate).is_none() {
        return;
    }
    let Some(broker) = broker_for(transport, dir.path()) else { return };
    let served = registered(&data, &out, broker.as_ref(), &[]);
    let to =
        broker.as_ref().map_or_else(|| format!("{transport}://{}", served.address(transport)), Broker::url);
    let file = out.join("pushes.jsonl");
    peer("peers/push.py", GURUX, &["send", "--to", &to, "--file", &file.display().to_string()]);
    let flipped = compare(&served, &file);
    let result = format!("{flipped} flipped tags refused, everything else as it was made");
    evidence(&format!("pushes of an independent stack over {transport}"), 1, flipped, &result);
}

/// The broker that a transport needs, if any; `None` where it needs one that is not installed.
fn broker_for(transport: &str, dir: &Path) -> Option<Option<Broker>> {
    match transport {
        "mqtt" => Broker::start(&dir.join("broker")).map(Some),
        _ => Some(None),
    }
}

/// A head-end whose clock stands after the pushes, with the generator's meters.
fn registered(data: &Path, out: &Path, broker: Option<&Broker>, extra: &[&str]) -> Served {
    let mqtt: Vec<String> = broker.iter().flat_map(|broker| ["--mqtt".to_owned(), broker.url()]).collect();
    let args: Vec<&str> = mqtt.iter().map(String::as_str).chain(extra.iter().copied()).collect();
    let served = Served::start(data, &args);
    // A broker keeps nothing for a session that was never made.
    wait_for("subscribed", || (broker.is_none() || served.log().contains("subscribed")).then_some(()));
    urja_ok(data, &["clock", "2026-06-30T12:00:00+05:30"]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(data, &["tariff", "apply", tariff]);
    }
    urja_ok(data, &["account", "import", &out.join("accounts.csv").display().to_string()]);
    urja_ok(data, &["meter", "import", &out.join("meters.csv").display().to_string()]);
    served
}

/// Every reading and event word that went in stands in SQL, and no flipped push left more than evidence.
fn compare(served: &Served, file: &Path) -> u32 {
    let text = std::fs::read_to_string(file).unwrap();
    let pushes: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let flipped = pushes.iter().filter(|push| push["expected"].is_null()).count();
    let genuine = pushes.len() - flipped;
    served.wait_number("SELECT count(*) FROM frame", i64::try_from(genuine).unwrap());
    let refused = "SELECT count(*) FROM quarantine WHERE reason = 'tag_mismatch'";
    served.wait_number(refused, i64::try_from(flipped).unwrap());
    assert_eq!(served.number("SELECT count(*) FROM quarantine"), i64::try_from(flipped).unwrap());
    let meters: BTreeMap<String, i64> = served
        .sql("SELECT serial, meter_id FROM meter")
        .iter()
        .map(|row| (row["serial"].as_str().unwrap().to_owned(), row["meter_id"].as_i64().unwrap()))
        .collect();
    let mut stored: BTreeMap<(i64, String), Value> = BTreeMap::new();
    for (table, end) in
        [("interval_reading", "interval_end"), ("daily_reading", "read_at"), ("instant_reading", "read_at")]
    {
        for row in served.sql(&format!("SELECT * FROM {table}")) {
            let key = format!("{table} {}", instant(row[end].as_str().unwrap()));
            stored.insert((row["meter_id"].as_i64().unwrap(), key), row);
        }
    }
    for push in &pushes {
        let meter = meters[push["serial"].as_str().unwrap()];
        let table = match push["kind"].as_str().unwrap() {
            "daily" => "daily_reading",
            "instant" => "instant_reading",
            _ => "interval_reading",
        };
        for reading in push["expected"]["readings"].as_array().into_iter().flatten() {
            let key = format!("{table} {}", instant(reading["end"].as_str().unwrap()));
            let row = stored
                .get(&(meter, key))
                .unwrap_or_else(|| panic!("{} is not stored: {reading}", push["id"]));
            for (channel, value) in reading["values"].as_object().unwrap() {
                assert_eq!(&row[channel], value, "{channel} of {}", push["id"]);
            }
        }
    }
    assert_eq!(served.number("SELECT CAST(sum(abs(difference)) AS BIGINT) FROM conservation"), 0);
    u32::try_from(flipped).unwrap()
}

fn instant(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[test]
fn pushes_of_the_independent_generator_in_every_frame_whole_and_in_blocks_are_taken_over_all_transports() {
    for transport in ["tcp", "udp", "mqtt", "embedded"] {
        generator_through(transport);
    }
}

/// Frames that a push of the generator takes besides its last.
fn parts_before_the_last(push: &Value) -> usize {
    push["frames"].as_array().unwrap().len() - 1
}

fn generator_through(transport: &str) {
    let Some(script) = shared("peers/gurux_push.py") else { return };
    if peer("peers/push.py", GURUX, &["--help"]).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("pushes"));
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("push.jsonl").display().to_string();
    let generator = |args: &[&str]| {
        let run = python().arg(&script).args(args).output().unwrap();
        assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
    };
    generator(&["gen", "--seed", "5", "--out", &file, "--ciphers", "30", "--meters", "6", "--count", "160"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let pushes: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    write_registry(&out, &pushes);
    let parts: usize = pushes.iter().map(parts_before_the_last).sum();
    assert!(pushes.iter().any(|push| push["framing"] == "hdlc") && parts > pushes.len(), "{parts} parts");
    let Some(broker) = broker_for(transport, dir.path()) else { return };
    let served = registered(&data, &out, broker.as_ref(), &["--broker", "127.0.0.1:0"]);
    let to = match (&broker, transport) {
        (Some(broker), _) => broker.url(),
        (None, "embedded") => format!("mqtt://{}", served.address("broker")),
        (None, _) => format!("{transport}://{}", served.address(transport)),
    };
    generator(&["send", "--to", &to, "--file", &file, "--rate", "400", "--qos", "1"]);
    served.wait_number("SELECT count(*) FROM frame", i64::try_from(pushes.len()).unwrap());
    // A publish is acknowledged by itself: a part is kept as evidence until its push is whole, and after.
    let evidence = if to.starts_with("mqtt") { parts } else { 0 };
    assert_eq!(served.number("SELECT count(*) FROM quarantine"), i64::try_from(evidence).unwrap());
    let other = "SELECT count(*) FROM quarantine WHERE reason <> 'undecodable' \
                 OR NOT (detail LIKE 'block%missing%' OR detail LIKE 'segments that are not whole%')";
    assert_eq!(served.number(other), 0, "{:?}", served.sql("SELECT DISTINCT reason, detail FROM quarantine"));
    // It does not ask for a confirm, and neither repeats a value nor keeps to one per key: the last word is the view's.
    served.wait_number("SELECT CAST(sum(contested) AS BIGINT) FROM source_tally", 0);
    assert!(served.number("SELECT count(*) FROM interval") > 100);
    assert_eq!(served.number("SELECT CAST(sum(abs(difference)) AS BIGINT) FROM conservation"), 0);
}

fn write_registry(out: &Path, pushes: &[Value]) {
    let meters: BTreeMap<&str, &Value> =
        pushes.iter().map(|push| (push["system_title"].as_str().unwrap(), push)).collect();
    let mut lines =
        String::from("system_title,serial,guek,gak,profile,policy,account_number,policy_reason\n");
    for (title, push) in meters {
        let text = |key: &str| push[key].as_str().unwrap();
        lines += &format!(
            "{title},HX{},{},{},is15959-d1,authenticated,,\n",
            text("node"),
            text("guek"),
            text("gak")
        );
    }
    std::fs::write(out.join("meters.csv"), lines).unwrap();
    let header =
        "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection\n";
    std::fs::write(out.join("accounts.csv"), header).unwrap();
}
