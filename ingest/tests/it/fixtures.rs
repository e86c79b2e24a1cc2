//! Pushes of an independent stack, where the shared fixtures are there.

use std::collections::BTreeMap;
use std::path::Path;

use ingest::Disposition;
use model::{QuarantineReason, Source};
use profiles::Profile;
use registry::Known;
use serde_json::Value as Json;

use crate::frames::june;
use crate::world::{World, assert_conserved};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/india_push.jsonl");

fn pushes() -> Option<Vec<Json>> {
    if !Path::new(PATH).exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not there: {PATH}");
        println!("skipped: not there: {PATH}");
        return None;
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_else(|| panic!("{key} of {json}"))
}

/// Lines of the meters' CSV: title, keys and device id as serial, under a policy that takes every kind of push.
fn meters(pushes: &[Json]) -> Vec<String> {
    let titled = pushes.iter().filter(|push| push["system_title"].is_string());
    let by_title: BTreeMap<&str, &Json> = titled.map(|push| (text(push, "system_title"), push)).collect();
    let line = |(title, push): (&&str, &&Json)| {
        let (guek, gak, device) =
            (text(push, "guek"), text(push, "gak"), text(&push["expected"], "device_id"));
        format!("{title},{device},{guek},{gak},is15959-d1,transport,,private address")
    };
    by_title.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapper_pushes_of_an_independent_stack_are_taken_and_flipped_tags_are_not() {
    let Some(pushes) = pushes() else { return };
    let world = World::new().await;
    world.clock.set(june(30, 12, 0));
    let profiles = Profile::builtin();
    let known: Vec<(&str, u32)> =
        profiles.iter().map(|profile| (profile.name.as_str(), profile.period_s)).collect();
    let header = "system_title,serial,guek,gak,profile,policy,account_number,policy_reason";
    let csv = format!("{header}\n{}\n", meters(&pushes).join("\n"));
    world.registry.import_meters(csv.as_bytes(), &Known { profiles: &known }).await.unwrap();
    world.pipeline.drain_outbox().await.unwrap();

    let mut taken = 0;
    for push in pushes.iter().filter(|push| push["framing"] == "wrapper" && push["gbt"] == false) {
        let (id, bytes) = (text(push, "id"), hex::decode(text(push, "hex")).unwrap());
        if push["cipher"] == "30" {
            let mut flipped = bytes.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let tag = Disposition::Quarantined(QuarantineReason::TagMismatch);
            assert_eq!(world.disposition(flipped).await, tag, "{id}");
        }
        assert_eq!(world.disposition(bytes).await, Disposition::Accepted, "{id}");
        taken += 1;
    }
    assert!(taken >= 10, "{taken}");
    world.settled().await;
    assert_conserved(&world.tally(Source::Tcp).await);
}
