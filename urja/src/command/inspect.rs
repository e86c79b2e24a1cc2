//! `urja inspect`: what the files of a data directory hold. Reads only, so it works beside a running owner.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use model::{Fact, Position, Record};
use serde::Deserialize as _;
use serde_json::{Value, json};
use state::DirLock;

use super::{BAD_INPUT, print};
use crate::cli::{Inspect, Part};
use crate::config::Config;
use crate::owner::Owner;
use crate::status;
use crate::verification::{self, LakeFiles};

pub(super) async fn run(config: &Config, args: &Inspect, as_json: bool) -> Result<ExitCode> {
    let dir = &config.data.dir;
    ensure!(dir.is_dir(), "there is no data directory {}; name it with --data", dir.display());
    match &args.part {
        None => everything(config, as_json).await,
        Some(Part::Journal { verify: true, .. }) => verify_journal(dir, as_json),
        Some(Part::Journal { after, limit, .. }) => journal(dir, Position(*after), *limit, as_json),
        Some(Part::Checkpoint { verify }) => checkpoint(dir, *verify, as_json),
        Some(Part::Lake { verify }) => lake(config, *verify, as_json).await,
    }
}

/// Every byte of the directory. Where somebody owns it, the owner looks at the lake, between two commits.
async fn everything(config: &Config, as_json: bool) -> Result<ExitCode> {
    let dir = config.data.dir.clone();
    let owner = Owner::running(config).await;
    let bar = bytes_bar(verification::size(&dir));
    let (reading, runtime) = (bar.clone(), tokio::runtime::Handle::current());
    let verified = tokio::task::spawn_blocking(move || {
        let mut progress = |bytes| reading.inc(bytes);
        match owner {
            Some(owner) => verification::verify(&dir, |_| runtime.block_on(ask(&owner)), &mut progress),
            None => {
                // Nobody is to start meanwhile.
                let _lock = DirLock::acquire(&dir)?;
                let lake = |progress: &mut dyn FnMut(u64)| Ok(verification::lake_files(&dir, progress));
                verification::verify(&dir, lake, &mut progress)
            }
        }
    });
    let verified = verified.await??;
    bar.finish_and_clear();
    print(as_json, &verified.to_json(), || verified.describe());
    Ok(if verified.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

/// What the owner finds in the lake.
async fn ask(owner: &Owner) -> Result<LakeFiles> {
    let answer = owner.send(Method::GET, "/admin/lake?verify=true", Vec::new()).await?.json()?;
    LakeFiles::deserialize(&answer["found"]).context("the owner's answer")
}

/// A bar on a terminal, nothing elsewhere.
fn bytes_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn verify_journal(dir: &Path, as_json: bool) -> Result<ExitCode> {
    let report = journal::verify(&dir.join("journal"))?;
    let faults: Vec<String> = report.faults.iter().map(fault).collect();
    let torn = report.torn.as_ref().map(fault);
    let value = json!({
        "sound": report.is_sound(), "segments": report.segments, "groups": report.groups,
        "records": report.records, "durable_upto": report.durable_upto.0,
        "fault_count": report.fault_count, "faults": faults, "torn_tail": torn,
    });
    print(as_json, &value, || {
        let mut out = format!(
            "{} records in {} groups of {} segments, durable up to {}\n{} faults\n",
            report.records, report.groups, report.segments, report.durable_upto, report.fault_count
        );
        out += &faults.iter().map(|fault| format!("  {fault}\n")).collect::<String>();
        out + &torn.map(|torn| format!("torn tail, which the next start cuts: {torn}\n")).unwrap_or_default()
    });
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn fault(at: &journal::FaultAt) -> String {
    format!("{} at byte {}: {}", at.path.display(), at.offset, at.fault)
}

fn journal(dir: &Path, after: Position, limit: usize, as_json: bool) -> Result<ExitCode> {
    let (mut groups, mut records, mut last) = (0_u64, 0_u64, after);
    let mut shown = Vec::new();
    for group in journal::read(&dir.join("journal"), after)? {
        let group = group?;
        groups += 1;
        for (position, bytes) in group.records() {
            if position <= after {
                continue;
            }
            records += 1;
            last = position;
            if shown.len() < limit {
                let record = Record::decode(position, bytes)
                    .with_context(|| format!("record at position {position}"))?;
                shown.push(describe(&record));
            }
        }
    }
    let value = json!({ "groups": groups, "records": records, "last_position": last.0, "shown": shown });
    print(as_json, &value, || {
        let mut out =
            format!("{records} records in {groups} groups after position {after}, the last at {last}\n");
        for record in &shown {
            out += &format!(
                "{:>10}  {}  {:<15}{}\n",
                record["position"].to_string(),
                record["received_at"].as_str().unwrap_or_default(),
                record["kind"].as_str().unwrap_or_default(),
                record["what"].as_str().unwrap_or_default()
            );
        }
        out
    });
    Ok(ExitCode::SUCCESS)
}

fn describe(record: &Record) -> Value {
    json!({
        "position": record.position.0,
        "received_at": record.received_at.to_string(),
        "kind": record.fact.name(),
        "what": what(&record.fact),
    })
}

/// One line on a fact.
fn what(fact: &Fact) -> String {
    match fact {
        Fact::Frame(frame) => format!(
            "meter {} by {}, counter {}, {} readings{}{}",
            frame.meter,
            frame.source,
            frame.counter.map_or("none".into(), |counter| counter.to_string()),
            frame.readings.len(),
            if frame.event_word.is_some() { ", event word" } else { "" },
            if frame.late { ", late" } else { "" },
        ),
        Fact::Repeated(frame) => {
            format!("meter {} by {}, digest {}", frame.meter, frame.source, frame.digest)
        }
        Fact::Quarantined(frame) => format!(
            "{} by {}, title {}: {}",
            frame.reason.name(),
            frame.source,
            frame.title.map_or("none".into(), |title| title.to_string()),
            frame.detail
        ),
        Fact::Resolved(resolution) => {
            let verdict = match resolution.verdict {
                model::Verdict::Repeated => "repeated",
                model::Verdict::Absent => "absent",
                model::Verdict::Revised { .. } => "revised",
            };
            format!("reading {} of position {}: {verdict}", resolution.index, resolution.contested)
        }
        Fact::MeterTerms(terms) => {
            let account = terms.account.map_or("none".into(), |account| account.to_string());
            format!(
                "meter {}, title {}, account {account}, profile {}",
                terms.meter, terms.title, terms.profile
            )
        }
        Fact::AccountTerms(terms) => {
            format!(
                "account {}, tariff {}, {} W, from {}",
                terms.account, terms.tariff, terms.sanctioned_w, terms.from
            )
        }
        Fact::TariffVersion(version) => {
            format!("{} from {}, digest {}", version.name, version.from, version.digest)
        }
        Fact::DayClosed(closed) => format!(
            "{} for accounts {} to {}{}",
            closed.day,
            closed.first,
            closed.last,
            if closed.complete { ", complete" } else { "" }
        ),
        Fact::Recharge(recharge) => {
            format!("account {}, ₹{}, payment {}", recharge.account, recharge.amount, recharge.payment_id)
        }
        Fact::Arrears(arrears) => format!("account {}, ₹{} of old dues", arrears.account, arrears.amount),
        Fact::PaymentReversed(reversed) => {
            format!("payment {}, {}", reversed.payment_id, reversed.reason.name())
        }
        Fact::SuspenseReceived(received) => {
            format!("₹{}, payment {}", received.amount, received.payment_id)
        }
        Fact::SuspenseAssigned(assigned) => {
            format!("account {}, payment {}", assigned.account, assigned.payment_id)
        }
        Fact::PaymentMisdirected(misdirected) => {
            format!("account {}, payment {}", misdirected.account, misdirected.payment_id)
        }
        Fact::CreditPolicy(version) => format!("from {}, digest {}", version.from, version.digest),
        Fact::NoticeSent(notice) => {
            format!("account {}, level {}, round {}", notice.account, notice.level.0, notice.round)
        }
    }
}

fn checkpoint(dir: &Path, verify: bool, as_json: bool) -> Result<ExitCode> {
    let dir = dir.join("checkpoint");
    if verify {
        for checked in state::verify(&dir)? {
            checked.result.with_context(|| checked.path.display().to_string())?;
        }
    }
    let Some(found) = state::latest(&dir)? else {
        print(as_json, &json!({ "position": null }), || "there is no checkpoint".into());
        return Ok(ExitCode::SUCCESS);
    };
    let summary = state::inspect(&found.path)?;
    let sections: Vec<Value> = summary
        .sections
        .iter()
        .map(|section| {
            json!({
                "name": section.name, "version": section.version, "record_size": section.record_size,
                "records": section.records, "bytes": section.bytes,
            })
        })
        .collect();
    let value = json!({ "position": found.position.0, "file": found.path, "sections": sections });
    print(as_json, &value, || {
        let mut out = format!("checkpoint at position {} in {}\n", found.position, found.path.display());
        for section in &summary.sections {
            out += &format!(
                "{:<14} {:>10} records of {:>4} bytes = {} bytes\n",
                section.name, section.records, section.record_size, section.bytes
            );
        }
        out
    });
    Ok(ExitCode::SUCCESS)
}

/// Asks the owner, or takes the lock and looks itself.
async fn lake(config: &Config, verify: bool, as_json: bool) -> Result<ExitCode> {
    let value = match Owner::running(config).await {
        Some(owner) => {
            let path = format!("/admin/lake?verify={verify}");
            owner.send(Method::GET, &path, Vec::new()).await?.json()?
        }
        None => {
            let _lock = DirLock::acquire(&config.data.dir)?;
            let dir = config.data.dir.join("lake");
            let calendar = config.calendar()?;
            tokio::task::spawn_blocking(move || {
                lake::Lake::open(&dir, calendar, lake::Options::default())
                    .map(|lake| status::lake(&lake, verify))
            })
            .await?
            .context("lake; `urja inspect --verify` reads it without opening it")?
        }
    };
    let faults: Vec<&str> =
        value["faults"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    print(as_json, &value, || {
        let mut out =
            String::from("table               version   position    files        rows       bytes\n");
        for table in value["tables"].as_array().into_iter().flatten() {
            out += &format!(
                "{:<18} {:>8} {:>10} {:>8} {:>11} {:>11}\n",
                table["table"].as_str().unwrap_or_default(),
                table["version"].to_string(),
                table["position"].to_string(),
                table["files"].to_string(),
                table["rows"].to_string(),
                table["bytes"].to_string()
            );
        }
        if verify {
            out += &format!("{} faults\n{}", faults.len(), faults.join("\n"));
        }
        out
    });
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}
