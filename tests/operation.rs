//! Doors and their bounds: frames that wait, frames that are refused, and a clean end.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::command::registered;
use crate::crash::{digests, provision, register};
use crate::harness::{FleetRun, Served, seeded, urja, urja_ok, wait_for};

#[test]
fn sigterm_drains_and_a_second_start_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("drain");
    provision(&data, &out, seed, "10");
    let served = Served::start(&data, &[]);
    let (seed_text, out_text, to) =
        (seed.to_string(), out.display().to_string(), served.address("udp").to_string());
    let args = [
        "--meters",
        "10",
        "--seed",
        &seed_text,
        "--out",
        &out_text,
        "--days",
        "2",
        "--drive",
        "--transport",
        "udp",
        "--to",
        &to,
    ];
    FleetRun::start(&data, &args).finish();
    let statement = "SELECT count(*) FROM interval_reading";
    let before = served.number(statement);
    assert!(before > 500, "{before}");
    assert_eq!(served.terminate(), 0);
    let served = Served::start(&data, &[]);
    assert_eq!(served.number(statement), before);
}

/// A kill between the move of a driven clock and the closing of what was due by it leaves such a directory.
#[test]
fn days_that_were_missed_are_closed_when_a_start_says_that_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("missed");
    provision(&data, &out, seed, "3");
    let closed = "SELECT count(*) FROM ledger_posting WHERE kind = 'usage' AND head = 'consumer'";
    let served = Served::start(&data, &[]);
    assert_eq!(served.number(closed), 0);
    served.kill();
    let accounts = 3;
    // The fleet's accounts begin on 2026-04-01; a day is booked at six in the morning of the next one.
    std::fs::write(data.join("clock"), "2026-04-03T00:29:59Z").unwrap();
    let served = Served::start(&data, &[]);
    assert_eq!(served.number(closed), accounts);
    served.kill();
    std::fs::write(data.join("clock"), "2026-04-03T00:30:00Z").unwrap();
    let served = Served::start(&data, &[]);
    assert_eq!(served.number(closed), 2 * accounts);
}

#[test]
fn a_day_is_explained_down_to_the_frames_that_brought_its_readings() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("explain");
    provision(&data, &out, seed, "3");
    let served = Served::start(&data, &[]);
    let (seed, to) = (seed.to_string(), served.address("tcp").to_string());
    let out_text = out.display().to_string();
    let args =
        ["--meters", "3", "--seed", &seed, "--out", &out_text, "--days", "3", "--drive", "--no-faults"];
    FleetRun::start(&data, &[&args[..], &["--to", &to]].concat()).finish();
    let confirmed = digests(&out.join("truth.jsonl"), "confirmed");
    for account in served.sql("SELECT account_number FROM account") {
        let number = account["account_number"].as_str().unwrap();
        let explained = urja_ok(&data, &["explain", number, "2026-04-02"]);
        let entries = explained["entries"].as_array().unwrap();
        let [entry] = &entries[..] else { panic!("{explained}") };
        assert_eq!(explained["charge_paise"], entry["charge_paise"]);
        let heads = entry["heads"].as_object().unwrap().values().map(|paise| paise.as_i64().unwrap());
        assert_eq!(heads.sum::<i64>(), entry["charge_paise"].as_i64().unwrap());
        assert!(entry["tariff"]["name"].as_str().unwrap().starts_with("lmv1-"), "{explained}");
        let readings = entry["readings"].as_array().unwrap();
        let wh = |reading: &Value| reading["reading_wh"].as_i64().unwrap();
        let register = |which: &str| {
            let found = readings.iter().find(|reading| reading["reading"] == which);
            wh(found.unwrap_or_else(|| panic!("no {which} in {explained}")))
        };
        let used = register("closing_register") - register("opening_register");
        assert_eq!(entry["energy_wh"], used, "{explained:#}");
        let intervals = readings.iter().filter(|reading| reading["reading"] == "interval");
        assert_eq!(intervals.map(wh).sum::<i64>(), used);
        for reading in readings {
            assert!(confirmed.contains(reading["frame_digest"].as_str().unwrap()), "{reading}");
            assert_eq!(reading["known"], true, "{reading}");
        }
        let words = urja(&data, &["explain", number, "2026-04-02"]);
        assert!(String::from_utf8_lossy(&words.stdout).contains("closing register"), "{words:?}");
    }
    let none = urja(&data, &["explain", "PUVVNL9999999999", "2026-04-02"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("PUVVNL9999999999 is not registered"), "{none:?}");
    assert_eq!(served.terminate(), 0);
}

#[test]
fn frames_of_unknown_titles_wait_and_are_taken_in_once_the_meter_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("waiting");
    let (seed_text, out_text) = (seed.to_string(), out.display().to_string());
    urja_ok(&data, &["fleet", "--provision", "--meters", "3", "--seed", &seed_text, "--out", &out_text]);
    let served = Served::start(&data, &[]);
    urja_ok(&data, &["clock", "2026-04-01T00:00:00+05:30"]);
    for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
        urja_ok(&data, &["tariff", "apply", tariff]);
    }
    urja_ok(&data, &["clock", "2026-04-02T00:30:00+05:30"]);
    let to = served.address("tcp").to_string();
    let args = [
        "--meters",
        "3",
        "--seed",
        &seed_text,
        "--out",
        &out_text,
        "--days",
        "1",
        "--no-faults",
        "--to",
        &to,
    ];
    // Whether such a push asks for a confirm cannot be read without its key: the meters send again until they are known.
    let fleet = FleetRun::start(&data, &args);
    let waiting = "SELECT count(*) FROM quarantine WHERE reason = 'unknown_title'";
    let kept = wait_for("frames wait", || Some(served.number(waiting)).filter(|&kept| kept > 0));
    assert_eq!(served.number("SELECT count(*) FROM frame"), 0);
    urja_ok(&data, &["account", "import", &out.join("accounts.csv").display().to_string()]);
    urja_ok(&data, &["meter", "import", &out.join("meters.csv").display().to_string()]);
    let summary = fleet.finish();
    wait_for("frames that waited are taken in", || {
        (served.number("SELECT count(DISTINCT digest) FROM frame") >= summary["frames"].as_i64().unwrap())
            .then_some(())
    });
    assert!(served.number("SELECT count(*) FROM frame WHERE source = 'waiting'") >= kept.min(1));
    assert!(served.number("SELECT count(*) FROM interval_reading") > 100);
    assert_eq!(served.number("SELECT CAST(sum(abs(difference)) AS BIGINT) FROM conservation"), 0);
    assert_eq!(served.terminate(), 0);
}

#[test]
fn bytes_that_are_no_frame_close_the_connection_and_are_kept_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let data = registered(dir.path());
    let served = Served::start(&data, &[]);
    let mut stream = TcpStream::connect(served.address("tcp")).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagram.send_to(b"not a frame", served.address("udp")).unwrap();
    served.wait_number("SELECT count(*) FROM quarantine WHERE reason = 'undecodable'", 2);
    let rows = served.sql("SELECT source, detail FROM quarantine ORDER BY source");
    assert!(rows.iter().all(|row| row["detail"].as_str().unwrap().contains("byte")), "{rows:?}");
    assert_eq!(served.number("SELECT CAST(sum(abs(difference)) AS BIGINT) FROM conservation"), 0);
}

#[test]
fn a_flipped_tag_is_refused_and_the_genuine_frame_is_taken_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("flip");
    let (seed_text, out_text) = (seed.to_string(), out.display().to_string());
    // No meter of the kind whose frames carry no tag: there would be none to flip.
    let meter = ["--meters", "1", "--seed", &seed_text, "--out", &out_text, "--plain-ppm", "0"];
    let served = Served::start(&data, &[]);
    urja_ok(&data, &[&["fleet", "--provision"], &meter[..]].concat());
    register(&data, &out);
    urja_ok(&data, &["clock", "2026-04-02T00:30:00+05:30"]);
    // A listener of our own takes the fleet's first frame, so that it can be damaged on the way.
    let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = between.local_addr().unwrap().to_string();
    let args = [&meter[..], &["--days", "1", "--no-faults", "--to", &to]].concat();
    let mut fleet = FleetRun::start(&data, &args);
    let (mut meter, _) = between.accept().unwrap();
    meter.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; 8];
    meter.read_exact(&mut head).unwrap();
    let mut apdu = vec![0; usize::from(u16::from_be_bytes([head[6], head[7]]))];
    meter.read_exact(&mut apdu).unwrap();
    drop((meter, between));
    fleet.kill();
    let genuine = [&head[..], &apdu].concat();
    let send = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(served.address("tcp")).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    send(&forged);
    served.wait_number("SELECT count(*) FROM quarantine WHERE reason = 'tag_mismatch'", 1);
    assert_eq!(served.number("SELECT count(*) FROM frame"), 0);
    let confirm = send(&genuine);
    assert_eq!(confirm.get(8), Some(&0x10), "no data-notification-confirm: {confirm:02x?}");
    served.wait_number("SELECT count(*) FROM frame", 1);
}

#[test]
fn many_meters_share_a_connection_and_frames_come_in_any_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, _) = seeded("cuts");
    provision(&data, &out, seed, "6");
    let served = Served::start(&data, &[]);
    urja_ok(&data, &["clock", "2026-04-02T00:30:00+05:30"]);
    let (seed_text, out_text, to) =
        (seed.to_string(), out.display().to_string(), served.address("tcp").to_string());
    let args = [
        "--meters",
        "6",
        "--seed",
        &seed_text,
        "--out",
        &out_text,
        "--days",
        "1",
        "--no-faults",
        "--to",
        &to,
    ];
    let summary = FleetRun::start(&data, &args).finish();
    assert_eq!(summary["connections"], 1, "{summary}");
    let meters = "SELECT count(DISTINCT meter_id) FROM interval_reading";
    wait_for("all meters are heard", || (served.number(meters) == 6).then_some(()));
}
