//! A real broker, stopped and started under load.

use crate::crash::{check_books, digests, provision, wait_for_published};
use crate::harness::{Broker, FleetRun, Served, evidence, seeded, shared_deadline, wait_for};

#[test]
fn nothing_published_is_lost_or_doubled_when_mosquitto_is_stopped_and_started_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("fleet"));
    let (seed, mut random) = seeded("broker");
    let Some(mut broker) = Broker::start(&dir.path().join("broker")) else { return };
    provision(&data, &out, seed, "30");
    let served = Served::start(&data, &["--mqtt", &broker.url()]);
    // A broker keeps nothing for a session that was never made.
    wait_for("subscribed", || served.log().contains("subscribed").then_some(()));
    let (seed_text, out_text, to) = (seed.to_string(), out.display().to_string(), broker.url());
    let args =
        ["--meters", "30", "--seed", &seed_text, "--out", &out_text, "--days", "400", "--drive", "--to", &to];
    let mut fleet = FleetRun::start(&data, &args);
    wait_for("readings come through the broker", || {
        (served.number("SELECT count(*) FROM frame WHERE source = 'mqtt'") > 50).then_some(())
    });
    for _ in 0..3 {
        shared_deadline(std::time::Duration::from_millis(200 + random() % 800));
        broker.stop();
        shared_deadline(std::time::Duration::from_millis(200 + random() % 800));
        broker.resume();
        let before = served.number("SELECT count(*) FROM frame");
        wait_for("readings come again", || {
            (served.number("SELECT count(*) FROM frame") > before).then_some(())
        });
    }
    fleet.terminate();
    let summary = fleet.finish();
    let truth = out.join("truth.jsonl");
    let published = digests(&truth, "published");
    assert!(published.len() > 200, "{summary}");
    wait_for_published(&served, &truth);
    check_books(&served, &truth);
    assert_eq!(served.terminate(), 0);
    let result = format!("{} frames published and stored", published.len());
    evidence("nothing published is lost or doubled over broker restarts", seed, 3, &result);
}
