//! Where a node stands, as JSON for operators and commands.

use anyhow::Result;
use ingest::Clock as _;
use model::Source;
use model::view::Tally;
use serde_json::{Value, json};

use crate::node::Node;
use crate::verification::LakeFiles;

/// Positions, meters, conservation, money, and what the pipeline is doing.
///
/// # Errors
/// When the fold has stopped.
pub async fn read(node: &Node) -> Result<Value> {
    let (standing, tallies, meters, heard, gaps) = node
        .pipeline
        .study(|fold| {
            let heard = fold.meters().filter(|meter| meter.heard_at.is_some()).count();
            (fold.standing(), fold.tallies(), fold.meters().count(), heard, fold.gaps(usize::MAX).len())
        })
        .await?;
    let stats = node.pipeline.stats();
    let by_source: Value = Source::ALL
        .iter()
        .map(|source| (source.name().to_owned(), tally(&tallies[source.index()])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    Ok(json!({
        "now": node.clock.now().to_string(),
        "driven": node.clock.is_driven(),
        "position": standing.position.0,
        "committed_position": node.lake.committed().0,
        "closed_until": standing.closed_until.map(|day| day.to_string()),
        "trial_balance_paise": standing.trial_balance.0,
        "meters": meters,
        "meters_heard": heard,
        "gap_ranges": gaps,
        "frames": by_source,
        "pipeline": stats,
    }))
}

fn tally(tally: &Tally) -> Value {
    let ends = tally.stored + tally.repeated + tally.quarantined + tally.refused + tally.contested;
    json!({
        "received": tally.received, "stored": tally.stored, "repeated": tally.repeated,
        "quarantined": tally.quarantined, "refused": tally.refused, "contested": tally.contested,
        "conserved": tally.received == ends,
    })
}

/// The lake's tables, and with `verify` what reading all bytes again finds.
pub fn lake(lake: &lake::Lake, verify: bool) -> Value {
    let tables: Vec<Value> = lake
        .inspect()
        .iter()
        .map(|table| {
            json!({
                "table": table.table.name(), "version": table.version, "position": table.committed.0,
                "files": table.files, "rows": table.rows, "bytes": table.bytes,
            })
        })
        .collect();
    let report = if verify { lake.verify() } else { lake::VerifyReport::default() };
    let faults: Vec<String> =
        report.differences.iter().map(|found| format!("{}: {}", found.path.display(), found.fault)).collect();
    json!({ "tables": tables, "verified": verify, "faults": faults, "found": LakeFiles::from(report) })
}
