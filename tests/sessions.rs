//! `urja read` and `urja relay` with simulated meters, over every way in which a meter can be reached. What sessions do
//! beneath is held in `ingest/tests/it/lines.rs`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Broker, FleetRun, Served, seeded, urja, urja_ok, wait_for};

/// Meters that live now and answer, registered with the head-end.
pub struct Meters {
    data: PathBuf,
    _fleet: FleetRun,
    /// Serial numbers, in the fleet's order.
    pub serials: Vec<String>,
}

impl Meters {
    /// Starts a fleet with these arguments, and registers what it wrote.
    pub fn start(dir: &Path, data: &Path, args: &[&str]) -> Meters {
        let out = dir.join("fleet");
        let (seed, _) = seeded("sessions");
        let (seed, out_text) = (seed.to_string(), out.display().to_string());
        let common = ["--seed", &seed, "--out", &out_text, "--days", "0", "--no-faults", "--plain-ppm", "0"];
        let fleet = FleetRun::start(data, &[&common[..], args].concat());
        let access = out.join("access.csv");
        wait_for("the meters answer", || access.exists().then_some(()));
        urja_ok(data, &["clock", "2026-04-01T00:00:00+05:30"]);
        for tariff in ["lmv1-urban", "lmv1-rural", "lmv1-lifeline"] {
            urja_ok(data, &["tariff", "apply", tariff]);
        }
        urja_ok(data, &["account", "import", &out.join("accounts.csv").display().to_string()]);
        urja_ok(data, &["meter", "import", &access.display().to_string()]);
        let text = std::fs::read_to_string(&access).unwrap();
        let serials = text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect();
        Meters { data: data.to_owned(), _fleet: fleet, serials }
    }

    /// Reads until it works: the meter may not have dialled in yet.
    pub fn read(&self, meter: usize, args: &[&str]) -> Value {
        let command = [&["--json", "read", &self.serials[meter]], args].concat();
        wait_for("the meter is read", || {
            let out = urja(&self.data, &command);
            out.status.success().then(|| serde_json::from_slice(&out.stdout).unwrap())
        })
    }

    /// Registers the first meter with another address than the fleet wrote down.
    pub fn register_first_at(&self, dir: &Path, other: &str) {
        let access = std::fs::read_to_string(dir.join("fleet/access.csv")).unwrap();
        let changed = dir.join("changed.csv");
        std::fs::write(&changed, access.replace(&address(dir), other)).unwrap();
        assert_eq!(urja_ok(&self.data, &["meter", "import", &changed.display().to_string()])["updated"], 1);
    }

    fn relay(&self, meter: usize, command: &str) -> Value {
        urja_ok(&self.data, &["relay", &self.serials[meter], command])
    }
}

/// A head-end that may cut.
pub fn serve(dir: &Path, args: &[&str]) -> Served {
    let env = [("URJA_TIME__CLOCK", "driven"), ("URJA_RELAY__ENABLED", "true")];
    Served::start_with(&dir.join("data"), args, &env)
}

/// The address that the fleet's first meter is registered with.
pub fn address(dir: &Path) -> String {
    let access = std::fs::read_to_string(dir.join("fleet/access.csv")).unwrap();
    access.lines().nth(1).unwrap().split(',').nth(8).unwrap().to_owned()
}

/// Every question of the commands, to one meter.
fn read_and_switched(meters: &Meters, meter: usize) {
    assert_eq!(meters.read(meter, &["serial"])["value"], meters.serials[meter].as_str());
    let all = meters.read(meter, &["block"]);
    let rows = all["rows"].as_array().unwrap();
    let end = |row: usize| rows[row][0].as_str().unwrap();
    let some = meters.read(meter, &["block", "--from", end(3), "--to", end(14)]);
    assert_eq!(some["rows"].as_array().unwrap()[..], rows[3..15], "{some}");
    assert_eq!(meters.relay(meter, "status")["state"], "connected");
    assert_eq!(meters.relay(meter, "disconnect")["supplied"], false);
    assert_ne!(meters.relay(meter, "connect")["state"], "disconnected");
}

/// What the meters push by themselves meanwhile lies ahead of the head-end's clock, which stands, for they live now; or it
/// comes before they are registered.
fn assert_no_answer_is_a_push(served: &Served) {
    let quarantined =
        served.sql("SELECT * FROM quarantine WHERE reason NOT IN ('far_ahead', 'unknown_title')");
    assert!(quarantined.is_empty(), "answers are no pushes: {quarantined:?}");
}

#[test]
fn a_meter_behind_an_address_translator_is_read_and_switched_over_the_connection_that_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    let meters = Meters::start(dir.path(), &served.data, &["--meters", "2", "--to", &to, "--dial-in"]);
    read_and_switched(&meters, 0);
    read_and_switched(&meters, 1);
    assert_no_answer_is_a_push(&served);
    assert_eq!(served.terminate(), 0);
    let alone = urja(&meters.data, &["read", &meters.serials[0], "clock"]);
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && said.contains("no connection that it opened"), "{said}");
    assert!(said.contains("--address") && said.contains("running head-end"), "{said}");
}

#[test]
fn a_meter_is_read_and_switched_over_udp() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    let args = ["--meters", "1", "--to", &to, "--serve", "127.0.0.1:0"];
    let meters = Meters::start(dir.path(), &served.data, &args);
    read_and_switched(&meters, 0);
    let udp = format!("udp://{}", address(dir.path()));
    assert_eq!(meters.read(0, &["serial", "--address", &udp])["value"], meters.serials[0].as_str());
    let status = urja_ok(&meters.data, &["relay", &meters.serials[0], "disconnect", "--address", &udp]);
    assert_eq!(status["supplied"], false);
    assert_ne!(meters.relay(0, "connect")["state"], "disconnected");
    // Registered with that address, every question goes over it.
    meters.register_first_at(dir.path(), &udp);
    read_and_switched(&meters, 0);
}

#[test]
fn a_meter_is_read_and_switched_over_the_embedded_broker() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &["--broker", "127.0.0.1:0"]);
    let to = format!("mqtt://{}", served.address("broker"));
    let meters = Meters::start(dir.path(), &served.data, &["--meters", "1", "--to", &to, "--dial-in"]);
    assert_eq!(address(dir.path()), format!("mqtt://{}", meters.serials[0]));
    read_and_switched(&meters, 0);
    assert_no_answer_is_a_push(&served);
    assert_eq!(served.terminate(), 0);
    let alone = urja(&meters.data, &["read", &meters.serials[0], "clock"]);
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && said.contains("no MQTT broker"), "{said}");
    assert!(said.contains("mqtt.url") && said.contains("broker.listen"), "{said}");
}

#[test]
fn a_meter_is_read_and_switched_over_mosquitto_which_may_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Broker::start(&dir.path().join("broker")) else { return };
    let served = serve(dir.path(), &["--mqtt", &broker.url()]);
    let args = ["--meters", "1", "--to", &broker.url(), "--dial-in"];
    let meters = Meters::start(dir.path(), &served.data, &args);
    read_and_switched(&meters, 0);
    broker.stop();
    broker.resume();
    assert_eq!(meters.read(0, &["serial"])["value"], meters.serials[0].as_str());
}

#[test]
fn rows_of_a_profile_are_chosen_by_its_own_time_by_number_and_from_the_newest_back() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    let args = ["--meters", "1", "--to", &to, "--serve", "127.0.0.1:0"];
    let meters = Meters::start(dir.path(), &served.data, &args);
    meters.read(0, &["clock"]);
    meters.relay(0, "disconnect");
    meters.relay(0, "connect");
    for profile in ["billing", "daily", "events-control", "7:1.0.99.2.0.255"] {
        let read = |args: &[&str]| {
            let read = meters.read(0, &[&[profile], args].concat());
            read["rows"].as_array().unwrap().clone()
        };
        let all = read(&[]);
        assert!(all.len() >= 2 || profile == "billing", "{profile}: {all:?}");
        // The last row of billing is that of the month which runs: it is never the same twice.
        let known = all.len() - usize::from(profile == "billing");
        let all = &all[..known];
        let named = |rows: Vec<Value>| rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
        let Some(first) = all.first() else { continue };
        let from_first =
            read(&["--from", first[0].as_str().unwrap(), "--to", all[known - 1][0].as_str().unwrap()]);
        assert_eq!(named(from_first), named(all.to_vec()), "{profile}");
        assert_eq!(read(&["--entries", "1"])[..], all[..1], "{profile}");
        assert_eq!(read(&["--entries", &format!("..{known}")])[..], *all, "{profile}");
        let last = read(&["--last", "1"]);
        assert_eq!(last.len(), 1, "{profile}");
        if profile != "billing" {
            assert_eq!(last[..], all[known - 1..], "{profile}");
        }
        assert!(read(&["--last", "100000"]).len() >= known, "{profile}");
    }
    let events = meters.read(0, &["events-control", "--last", "2"]);
    let code = events["columns"].as_array().unwrap().iter().position(|column| !column["names"].is_null());
    let code = code.unwrap();
    assert_eq!(events["columns"][code]["names"]["302"], "load switch connected", "{events}");
    assert_eq!(events["rows"][1][code], 302, "{events}");
    let shown = |what: &str| {
        let out = urja(&meters.data, &["read", &meters.serials[0], what]);
        String::from_utf8(out.stdout).unwrap()
    };
    let shown_events = shown("events-control");
    assert!(shown_events.contains("\t301 load switch disconnected\n"), "{shown_events}");
    assert!(shown_events.ends_with("\t302 load switch connected\n"), "{shown_events}");
    assert_eq!(shown("1:0.0.96.11.6.255"), "302 load switch connected\n");
    let filter = meters.read(0, &["event-filter"]);
    let up = filter["value"].as_str().unwrap().matches('1').count();
    assert_eq!(filter["flags"].as_array().unwrap().len(), up, "{filter}");
    assert!(shown("event-filter").contains("\nflag 81 magnetic disturbance\n"), "{filter}");
    let said =
        refusal(&meters.data, &["read", &meters.serials[0], "nameplate", "--from", "2026-01-01T00:00"]);
    assert!(said.contains("no column of time") && said.contains("--entries"), "{said}");
    let said = refusal(&meters.data, &["read", &meters.serials[0], "clock", "--last", "1"]);
    assert!(said.contains("has no rows to choose from"), "{said}");
    let said = refusal(&meters.data, &["read", &meters.serials[0], "daily", "--entries", "5..3"]);
    assert!(said.contains("A..B"), "{said}");
}

#[test]
fn meters_that_speak_hdlc_are_read_and_switched_at_their_address_and_over_connections_that_they_opened() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    for way in [&["--dial-in"][..], &["--serve", "127.0.0.1:0"]] {
        let sub = dir.path().join(way[0].trim_start_matches('-'));
        std::fs::create_dir(&sub).unwrap();
        let args = [&["--meters", "2", "--to", &to, "--hdlc"][..], way].concat();
        let meters = Meters::start(&sub, &served.data, &args);
        let access = std::fs::read_to_string(sub.join("fleet/access.csv")).unwrap();
        assert!(access.lines().skip(1).all(|line| line.ends_with(",hdlc")), "{access}");
        read_and_switched(&meters, 0);
        read_and_switched(&meters, 1);
    }
    assert_no_answer_is_a_push(&served);
}

/// What a command says that must fail.
fn refusal(data: &Path, args: &[&str]) -> String {
    let out = urja(data, args);
    assert!(!out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_meter_with_gmac_is_read_and_switched_and_one_that_refuses_its_mechanism_is_read_as_reader_where_that_is_said()
 {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    // The eighth has mechanism 5.
    let args = ["--meters", "8", "--to", &to, "--serve", "127.0.0.1:0"];
    let meters = Meters::start(dir.path(), &served.data, &args);
    let line = std::fs::read_to_string(dir.path().join("fleet/access.csv")).unwrap();
    let line: Vec<String> = line.lines().nth(8).unwrap().split(',').map(str::to_owned).collect();
    assert_eq!(line[12], "hls5");
    read_and_switched(&meters, 7);
    let serial = meters.serials[7].as_str();
    // As other clients, for once.
    for client in ["16", "32"] {
        assert_eq!(meters.read(7, &["clock", "--client", client])["object"], "clock");
        let said = refusal(&meters.data, &["relay", serial, "disconnect", "--client", client]);
        assert!(said.contains("cannot be asked that") || said.contains("not switched"), "{client}: {said}");
    }
    let again = |columns: &str, fields: &str| {
        let head = "system_title,serial,guek,gak,profile,policy,account_number,policy_reason";
        let csv = dir.path().join("again.csv");
        std::fs::write(&csv, format!("{head},{columns}\n{},{fields}\n", line[..8].join(","))).unwrap();
        let done = urja_ok(&meters.data, &["meter", "import", &csv.display().to_string()]);
        assert_eq!(done["updated"], 1, "{done}");
    };
    again("mechanism", "hls2");
    let said = refusal(&meters.data, &["read", serial, "clock"]);
    assert!(said.contains("the meter refused: as client 48 with mechanism 2 (hls2): "), "{said}");
    assert!(said.contains("column mechanism") && said.contains("reader = fallback"), "{said}");
    again("reader", "fallback");
    let read = meters.read(7, &["clock"]);
    assert!(read["as_reader_because"].as_str().unwrap().contains("mechanism"), "{read}");
    let said = refusal(&meters.data, &["relay", serial, "status"]);
    assert!(said.contains("the meter refused: ") && said.contains("column mechanism"), "{said}");
}

/// A meter with these faults that has a port.
fn faulty(dir: &Path, served: &Served, fault: &str) -> Meters {
    let to = served.address("tcp").to_string();
    let args = ["--meters", "1", "--to", &to, "--serve", "127.0.0.1:0", "--meter-fault", fault];
    Meters::start(dir, &served.data, &args)
}

#[test]
fn a_second_command_to_a_meter_is_told_to_wait_and_a_silent_meter_is_said_to_be_silent() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    let meters = faulty(dir.path(), &served, "silent~1000000");
    let serial = meters.serials[0].as_str();
    std::thread::scope(|scope| {
        // The other may have the meter for the moment in which it finds nobody at its address.
        let first = scope.spawn(|| {
            loop {
                let said = refusal(&meters.data, &["relay", serial, "status"]);
                if !said.contains("being asked already") {
                    return said;
                }
            }
        });
        wait_for("a second session is told that it is busy", || {
            let said = refusal(&meters.data, &["relay", serial, "connect", "--address", "127.0.0.1:1"]);
            // It was faster than the first: nothing listens there.
            if said.contains("cannot connect to 127.0.0.1:1: ") {
                return None;
            }
            assert!(
                said.contains("being asked already") && said.contains("try again when it is over"),
                "{said}"
            );
            Some(())
        });
        let said = first.join().unwrap();
        assert!(said.contains("the meter did not answer: no answer, asked 3 times"), "{said}");
        assert!(said.contains("in reach and has power"), "{said}");
    });
}

#[test]
fn what_a_meter_refuses_is_said_in_its_words_with_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    // The answer to the sixth request, which is the command.
    let meters = faulty(dir.path(), &served, "busy@6");
    let serial = meters.serials[0].as_str();
    let said = refusal(&meters.data, &["relay", serial, "disconnect"]);
    assert!(said.contains("the relay was not switched: temporary-failure; try again later"), "{said}");
    assert!(said.contains("it is supplied"), "{said}");
    let said = refusal(&meters.data, &["read", serial, "3:1.0.99.99.99.255:2"]);
    assert!(said.contains("the meter refused: ") && said.contains("no such object or attribute"), "{said}");
    // The client for firmware has no block transfer.
    let said = refusal(&meters.data, &["read", serial, "15:0.0.40.0.0.255:2", "--client", "80"]);
    assert!(said.contains("pdu-too-long") && said.contains("as the utility client is"), "{said}");
    let csv = dir.path().join("fleet/access.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    let mut line: Vec<String> = text.lines().nth(1).unwrap().split(',').map(str::to_owned).collect();
    line[10] = "another secret!!".to_owned();
    let wrong = dir.path().join("wrong.csv");
    std::fs::write(&wrong, format!("{}\n{}\n", text.lines().next().unwrap(), line.join(","))).unwrap();
    let done = urja_ok(&meters.data, &["meter", "import", &wrong.display().to_string()]);
    assert_eq!((done["updated"].as_i64(), done["unchanged"].as_i64()), (Some(1), Some(0)), "{done}");
    let said = refusal(&meters.data, &["relay", serial, "status"]);
    assert!(said.contains("the meter refused: ") && said.contains("check the secret"), "{said}");
}

#[test]
fn a_relay_whose_meter_did_not_confirm_is_read_back_before_anything_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &[]);
    // The answer to the sixth request, which is the command.
    let meters = faulty(dir.path(), &served, "silent@6");
    let done = meters.relay(0, "disconnect");
    assert_eq!(done["supplied"], false, "{done}");
    assert!(done["unconfirmed"].as_str().unwrap().contains("no answer"), "{done}");
}
