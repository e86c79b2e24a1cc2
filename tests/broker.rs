//! Brokers, ours and Mosquitto, stopped and killed under load; consumers that are away; consumers that share a
//! subscription.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::crash::{check_books, digests, provision, wait_for_published};
use crate::harness::{
    Broker, DEADLINE, FleetRun, Remains, Served, Witness, evidence, full, seeded, shared_deadline, try_for,
    urja_ok, wait_for, wait_within,
};
use crate::kills::Count;

const QUICK_COMMITS: [&str; 2] =
    ["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/quick-commits.toml")];

fn kills() -> u32 {
    if full() { 100 } else { 6 }
}

/// A broker keeps nothing for a session that was never made.
fn wait_subscribed(served: &Served) {
    wait_for("subscribed", || served.log().contains("subscribed").then_some(()));
}

/// Starts a fleet that drives the head-end's clock and publishes to `to`.
fn driving_fleet(data: &Path, out: &Path, seed: u64, to: &str) -> FleetRun {
    let (seed, out) = (seed.to_string(), out.display().to_string());
    let args = ["--meters", "30", "--seed", &seed, "--out", &out, "--days", "400", "--drive", "--to", to];
    FleetRun::start(data, &args)
}

/// Ends a driving fleet once it has published enough and closed a day, which the books are checked by.
fn finish_far_enough(mut fleet: FleetRun, truth: &Path) -> serde_json::Value {
    wait_within(5 * DEADLINE, "a day is closed and much is published", || {
        let closed = lines_so_far(truth).iter().any(|line| line["line"] == "day_closed");
        (closed && digests_so_far(truth).len() > 200).then_some(())
    });
    fleet.terminate();
    fleet.finish()
}

fn wait_for_more_than(served: &Served, frames: i64) {
    wait_for("readings come through the broker", || {
        (served.number("SELECT count(*) FROM frame WHERE source = 'mqtt'") > frames).then_some(())
    });
}

#[test]
fn nothing_published_is_lost_or_doubled_when_mosquitto_is_stopped_and_started_under_load() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(broker) = Broker::start(&dir.path().join("broker")) {
        stopped_and_started_under_load(dir.path(), broker, "mosquitto");
    }
}

#[test]
fn nothing_published_is_lost_or_doubled_when_the_embedded_broker_is_stopped_and_started_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::embedded(&dir.path().join("broker"));
    stopped_and_started_under_load(dir.path(), broker, "embedded");
}

/// A consumer of its own process, and a broker that is stopped in order.
fn stopped_and_started_under_load(dir: &Path, mut broker: Broker, name: &str) {
    let (data, out) = (dir.join("data"), dir.join("fleet"));
    let (seed, mut random) = seeded("broker");
    provision(&data, &out, seed, "30");
    let served = Served::start(&data, &["--mqtt", &broker.url()]);
    wait_subscribed(&served);
    let fleet = driving_fleet(&data, &out, seed, &broker.url());
    wait_for_more_than(&served, 50);
    for _ in 0..3 {
        shared_deadline(Duration::from_millis(200 + random() % 800));
        broker.stop();
        shared_deadline(Duration::from_millis(200 + random() % 800));
        broker.resume();
        wait_for_more_than(&served, served.number("SELECT count(*) FROM frame WHERE source = 'mqtt'"));
    }
    let truth = out.join("truth.jsonl");
    let summary = finish_far_enough(fleet, &truth);
    let published = digests(&truth, "published");
    assert!(published.len() > 200, "{summary}");
    wait_for_published(&served, &truth);
    check_books(&served, &truth);
    assert_eq!(served.terminate(), 0);
    let result = format!("{name}: {} frames published and stored", published.len());
    evidence("nothing published is lost or doubled over broker restarts", seed, 3, &result);
}

#[test]
fn nothing_that_the_embedded_broker_acknowledged_is_lost_or_doubled_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, mut random) = seeded("embedded broker");
    provision(&data, &out, seed, "30");
    let start = |listen: &str| Served::start(&data, &[&QUICK_COMMITS[..], &["--broker", listen]].concat());
    let mut served = start("127.0.0.1:0");
    let address = served.address("broker").to_string();
    let truth = out.join("truth.jsonl");
    let mut fleet = driving_fleet(&data, &out, seed, &format!("mqtt://{address}"));
    wait_for_more_than(&served, 50);
    let (mut count, mut witness) = (Count::default(), Witness::new(&truth));
    let (mut in_journal, mut last) = (BTreeSet::new(), 0);
    for kill in 1..=kills() {
        shared_deadline(Duration::from_millis(100 + random() % 900));
        assert!(!fleet.is_done(), "the fleet ended early");
        let mark = witness.mark();
        served.kill();
        witness.follow(mark);
        let remains = Remains::of(&data, last);
        last = remains.last;
        in_journal.extend(remains.frames.iter().map(|(_, digest)| digest.clone()));
        count.add(&remains, &witness, &in_journal);
        let lost: Vec<_> = witness.published.difference(&in_journal).collect();
        assert!(lost.is_empty(), "kill {kill}: acknowledged and not in the journal: {lost:?}");
        // Nobody else has these publishes: what was acknowledged by now must be there without being sent again.
        let acknowledged = digests_so_far(&truth);
        served = start(&address);
        let stored = stored(&served);
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "after kill {kill}: {} acknowledged and not stored: {lost:?}", lost.len());
    }
    let summary = finish_far_enough(fleet, &truth);
    let published = digests(&truth, "published");
    assert!(published.len() > 200, "{summary}");
    wait_for_published(&served, &truth);
    check_books(&served, &truth);
    assert_eq!(served.terminate(), 0);
    count.assert_not_void();
    let result =
        format!("{} frames acknowledged by the broker and stored; {}", published.len(), count.describe());
    evidence("what the embedded broker acknowledged survives kill -9, once", seed, kills(), &result);
}

#[test]
fn what_is_published_while_the_consumer_is_away_comes_after_a_restart_of_mosquitto() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(broker) = Broker::start(&dir.path().join("broker")) {
        published_while_away(dir.path(), broker, "mosquitto");
    }
}

#[test]
fn what_is_published_while_the_consumer_is_away_comes_after_a_restart_of_the_embedded_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::embedded(&dir.path().join("broker"));
    published_while_away(dir.path(), broker, "embedded");
}

fn published_while_away(dir: &Path, mut broker: Broker, name: &str) {
    let (data, out) = (dir.join("data"), dir.join("fleet"));
    let (seed, _) = seeded("away");
    provision(&data, &out, seed, "30");
    let url = broker.url();
    let served = Served::start(&data, &["--mqtt", &url]);
    wait_subscribed(&served);
    urja_ok(&data, &["clock", "2026-04-05T00:00:00+05:30"]);
    assert_eq!(served.terminate(), 0);
    let (seed_text, out_text) = (seed.to_string(), out.display().to_string());
    let args = ["--meters", "30", "--seed", &seed_text, "--out", &out_text, "--days", "3", "--to", &url];
    let summary = FleetRun::start(&data, &args).finish();
    broker.stop();
    broker.resume();
    let truth = out.join("truth.jsonl");
    let published = digests(&truth, "published");
    assert!(published.len() > 200, "{summary}");
    let served = Served::start(&data, &["--mqtt", &url]);
    wait_for_published(&served, &truth);
    assert_eq!(served.number("SELECT cast(sum(abs(difference)) AS bigint) FROM conservation"), 0);
    assert_eq!(served.terminate(), 0);
    let result = format!("{name}: {} frames published while away, all stored", published.len());
    evidence("what is published while the consumer is away comes when it is back", seed, 1, &result);
}

#[test]
fn two_consumers_share_a_subscription_of_mosquitto_and_a_kill_of_one_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(broker) = Broker::start(&dir.path().join("broker")) {
        shared_by_two(dir.path(), &broker, "mosquitto");
    }
}

#[test]
fn two_consumers_share_a_subscription_of_the_embedded_broker_and_a_kill_of_one_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::embedded(&dir.path().join("broker"));
    shared_by_two(dir.path(), &broker, "embedded");
}

fn shared_by_two(dir: &Path, broker: &Broker, name: &str) {
    let out = dir.join("fleet");
    let (seed, mut random) = seeded("shared");
    let url = broker.url();
    let start = |name: &str| {
        let env = [
            ("URJA_TIME__CLOCK", "driven"),
            ("URJA_MQTT__TOPICS", "$share/urja/Normal_Push/+,$share/urja/Event_push/+"),
            ("URJA_MQTT__CLIENT_ID", name),
        ];
        Served::start_with(&dir.join(name), &["--mqtt", &url], &env)
    };
    let [mut one, two] = ["one", "two"].map(|name| {
        provision(&dir.join(name), &out, seed, "30");
        let served = start(name);
        urja_ok(&served.data, &["clock", "2026-08-01T00:00:00+05:30"]);
        wait_subscribed(&served);
        served
    });
    let (seed_text, out_text) = (seed.to_string(), out.display().to_string());
    // Each push is published once: what the two have in common would be the broker's or our doing.
    let args = ["--meters", "30", "--seed", &seed_text, "--out", &out_text, "--days", "120", "--no-faults"];
    let mut fleet = FleetRun::start(&one.data, &[&args[..], &["--to", &url]].concat());
    let kills = 3;
    for _ in 0..kills {
        wait_for_more_than(&one, one.number("SELECT count(*) FROM frame WHERE source = 'mqtt'"));
        shared_deadline(Duration::from_millis(100 + random() % 400));
        one.kill();
        shared_deadline(Duration::from_millis(random() % 400));
        one = start("one");
    }
    fleet.terminate();
    let summary = fleet.finish();
    let published = digests(&out.join("truth.jsonl"), "published");
    assert!(published.len() > 200, "{summary}");
    let union = || &stored(&one) | &stored(&two);
    let all_stored = try_for(|| published.is_subset(&union()).then_some(()));
    let missing = published.difference(&union()).count();
    assert!(all_stored.is_some(), "{missing} of {} published are with neither", published.len());
    let (one_has, two_has) = (stored(&one), stored(&two));
    let shares = format!("{} with the killed one, {} with the other", one_has.len(), two_has.len());
    assert!(one_has.len() > 20 && two_has.len() > 20, "not shared: {shares}");
    let resent = usize::try_from(summary["resent"].as_u64().unwrap()).unwrap();
    let both = one_has.intersection(&two_has).count();
    assert!(both <= resent, "{both} are with both and only {resent} were published again");
    let result =
        format!("{name}: {} frames, {shares}, {both} with both, {resent} sent again", published.len());
    evidence("each push of a shared subscription is with one of two consumers", seed, kills, &result);
}

#[test]
fn the_embedded_broker_asks_for_its_password_and_holds_to_its_connections() {
    let dir = tempfile::tempdir().unwrap();
    let env = [
        ("URJA_BROKER__USERNAME", "meters"),
        ("URJA_BROKER__PASSWORD", "secret"),
        ("URJA_BROKER__MAX_CONNECTIONS", "3"),
    ];
    let served = Served::start_with(&dir.path().join("data"), &["--broker", "127.0.0.1:0"], &env);
    let broker = served.address("broker");
    for wrong in [None, Some(("meters", "wrong")), Some(("other", "secret"))] {
        let (_open, code) = connect(broker, "stranger", wrong);
        assert!(code.is_none_or(|code| code != 0), "{wrong:?} was let in");
    }
    // The head-end's own client, by which it asks meters, is one of them.
    wait_for("ours is counted", || (connections(&served) == Some(1.0)).then_some(()));
    let (_first, code) = connect(broker, "first", Some(("meters", "secret")));
    assert_eq!(code, Some(0));
    let (second, code) = connect(broker, "second", Some(("meters", "secret")));
    assert_eq!(code, Some(0));
    // A connection counts a moment after it is answered.
    wait_for("both are counted", || (connections(&served) == Some(3.0)).then_some(()));
    let (_third, code) = connect(broker, "third", Some(("meters", "secret")));
    assert_eq!(code, None, "a connection beyond the bound is closed");
    drop(second);
    wait_for("one is gone", || (connections(&served) == Some(2.0)).then_some(()));
    let (_fourth, code) = connect(broker, "fourth", Some(("meters", "secret")));
    assert_eq!(code, Some(0));
    assert_eq!(served.terminate(), 0);
}

/// Clients that the embedded broker says it has.
fn connections(served: &Served) -> Option<f64> {
    let (_, page) = served.get("health", "/metrics");
    page.lines().find_map(|line| line.strip_prefix("urja_broker_connections ")?.parse().ok())
}

/// CONNECT of MQTT 3.1.1; gives the connection and the return code of the CONNACK, none where it was closed instead.
fn connect(broker: SocketAddr, client: &str, credentials: Option<(&str, &str)>) -> (TcpStream, Option<u8>) {
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.extend([if credentials.is_some() { 0b1100_0010 } else { 0b10 }, 0, 60]);
    let texts = [Some(client), credentials.map(|given| given.0), credentials.map(|given| given.1)];
    for text in texts.into_iter().flatten() {
        body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let packet = [&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    let mut answer = [0; 4];
    let code =
        stream.write_all(&packet).and_then(|()| stream.read_exact(&mut answer)).ok().map(|()| answer[3]);
    (stream, code)
}

/// Digests of all frames that a head-end has stored.
fn stored(served: &Served) -> BTreeSet<String> {
    let rows = served.sql("SELECT DISTINCT digest FROM frame");
    rows.iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect()
}

/// Published digests of a truth file that is still being written.
fn digests_so_far(truth: &Path) -> BTreeSet<String> {
    let published = |line: &serde_json::Value| line["line"] == "acknowledged" && line["how"] == "published";
    let lines = lines_so_far(truth).into_iter().filter(published);
    lines.map(|line| line["digest"].as_str().unwrap().to_owned()).collect()
}

/// Lines of a truth file that is still being written: the last one may be torn.
fn lines_so_far(truth: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(truth).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
