//! `urja rebuild`: derives the checkpoint from the lake and compares it with the one that is there.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use ledger::{Effects, Fold, FoldError, Limits};
use model::{Fact, Position, SourceCounts};
use serde_json::json;
use state::DirLock;

use super::{BAD_INPUT, print};
use crate::cli::Rebuild;
use crate::config::Config;

pub(super) fn run(config: &Config, args: &Rebuild, as_json: bool) -> Result<ExitCode> {
    let dir = &config.data.dir;
    ensure!(dir.is_dir(), "there is no data directory {}; name it with --data", dir.display());
    let _lock = DirLock::acquire(dir)?;
    let calendar = config.calendar()?;
    let lake =
        lake::Lake::open(&dir.join("lake"), calendar.clone(), lake::Options::default()).context("lake")?;
    let limits = Limits { late_days: config.billing.late_days, ..Limits::default() };
    let upto = lake.committed();
    let rebuilt = fold_lake(&lake, Fold::new(calendar.clone(), limits), upto)?;
    let checkpoint = match state::latest(&dir.join("checkpoint")) {
        // It is there to be written anew: nothing can be compared with it.
        Err(error @ state::Error::Damaged { .. }) => {
            tracing::warn!(%error, "not compared");
            None
        }
        found => found?,
    };
    let before = match &checkpoint {
        Some(found) if found.position == upto => {
            match Fold::from_sections(calendar, limits, &found.sections) {
                // Written by another version: it is there to be written anew.
                Err(error @ FoldError::UnknownLayout { .. }) => {
                    tracing::warn!(%error, "not compared");
                    None
                }
                fold => Some(fold?),
            }
        }
        _ => None,
    };
    let differences = before.as_ref().map(|before| compare(before, &rebuilt));
    let same = differences.as_ref().is_none_or(Vec::is_empty);
    if !args.check {
        state::write(&dir.join("checkpoint"), upto, &rebuilt.sections())?;
    }
    let accounts = rebuilt.accounts().count();
    let value = json!({
        "position": upto.0, "accounts": accounts, "written": !args.check,
        "compared": before.is_some(), "differences": differences,
    });
    print(as_json, &value, || {
        let mut out = format!("rebuilt {accounts} accounts from the lake up to position {upto}\n");
        out += match &differences {
            None => "no checkpoint at that position to compare with\n",
            Some(found) if found.is_empty() => "balances and windows are the same as in the checkpoint\n",
            Some(_) => "the checkpoint differs:\n",
        };
        out += &differences.iter().flatten().map(|line| format!("  {line}\n")).collect::<String>();
        out + if args.check { "the checkpoint was left as it is\n" } else { "checkpoint written\n" }
    });
    Ok(if same || !args.check { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn fold_lake(lake: &lake::Lake, mut fold: Fold, upto: Position) -> Result<Fold> {
    let mut effects = Effects::default();
    for record in lake::rebuild::records(lake, upto)? {
        let record = record?;
        fold.begin_group(&received(&record.fact));
        fold.apply(&record, &mut effects)
            .with_context(|| format!("record at position {}", record.position))?;
        effects = Effects::default();
    }
    ensure!(
        fold.position() == upto,
        "the lake ends at position {} and says it holds {upto}",
        fold.position()
    );
    Ok(fold)
}

/// The counts of a journal group that held this fact alone: redeliveries and refusals left no record in the lake.
fn received(fact: &Fact) -> [SourceCounts; 4] {
    let mut counts = [SourceCounts::default(); 4];
    let source = match fact {
        Fact::Frame(frame) => frame.source,
        Fact::Repeated(frame) => frame.source,
        Fact::Quarantined(frame) => frame.source,
        _ => return counts,
    };
    counts[source.index()].received = 1;
    counts
}

/// Lines on every account, meter and payment that differs.
fn compare(before: &Fold, after: &Fold) -> Vec<String> {
    let mut lines = Vec::new();
    for (was, is) in before.accounts().zip(after.accounts()) {
        if was.booked != is.booked || was.accrued != is.accrued {
            lines.push(format!(
                "account {}: booked {} accrued {} in the checkpoint, {} and {} from the lake",
                was.account, was.booked, was.accrued, is.booked, is.accrued
            ));
        }
    }
    if before.accounts().count() != after.accounts().count() {
        lines.push("the number of accounts differs".into());
    }
    for ((meter, was), (_, is)) in before.counter_windows().zip(after.counter_windows()) {
        if was != is {
            lines.push(format!(
                "meter {meter}: counter window {was:?} in the checkpoint, {is:?} from the lake"
            ));
        }
    }
    let payments = |fold: &Fold| fold.payments().cloned().collect::<Vec<_>>();
    let (was, is) = (payments(before), payments(after));
    if was.len() != is.len() {
        lines.push(format!("{} payments in the checkpoint, {} from the lake", was.len(), is.len()));
    }
    for (was, is) in was.iter().zip(&is).filter(|(was, is)| was != is) {
        lines.push(format!("payment {}: {was:?} in the checkpoint, {is:?} from the lake", was.id));
    }
    lines
}
