//! `urja collect`: money that was taken elsewhere.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use model::Paise;
use serde_json::{Value, json};

use super::credit::lines;
use super::registry::{post, request, text};
use super::{print, read_input};
use crate::cli;
use crate::config::Config;

pub(super) async fn run(config: &Config, args: &cli::Collect, as_json: bool) -> Result<ExitCode> {
    match args {
        cli::Collect::Import(args) => return import(config, args, as_json).await,
        cli::Collect::Batches { channel, limit } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if let Some(channel) = channel {
                query.append_pair("channel", channel);
            }
            let answer = get(config, &format!("/admin/collections?{}", query.finish())).await?;
            print(as_json, &answer, || lines(&answer["batches"], batch_text));
        }
        cli::Collect::Lines { channel, batch, state, limit } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("channel", channel).append_pair("batch", batch);
            query.append_pair("limit", &limit.to_string());
            if let Some(state) = state {
                query.append_pair("state", state);
            }
            let answer = get(config, &format!("/admin/collections/lines?{}", query.finish())).await?;
            print(as_json, &answer, || lines(&answer["lines"], line_text));
        }
        cli::Collect::Suspense => {
            let answer = get(config, "/admin/suspense").await?;
            print(as_json, &answer, || {
                let sum = format!("{} payments, ₹{}", answer["payments"], paise(&answer["amount_paise"]));
                let held = answer["held"].as_array().into_iter().flatten().map(held_text);
                std::iter::once(sum).chain(held).collect::<Vec<_>>().join("\n")
            });
        }
        cli::Collect::Open { limit } => {
            let answer = get(config, &format!("/admin/collections/open?limit={limit}")).await?;
            print(as_json, &answer, || {
                lines(&answer["lines"], |line| format!("{}  {}", text(line, "batch"), line_text(line)))
            });
        }
        cli::Collect::Settle { channel, batch, line, reason, by } => {
            let body =
                json!({ "channel": channel, "batch": batch, "line": line, "reason": reason, "by": by });
            let answer = post(config, "/admin/collections/settlements", &body).await?;
            print(as_json, &answer, || format!("line {line} of batch {batch} is settled"));
        }
        cli::Collect::Misdirected { payment_id, account, by } => {
            let body = json!({ "payment_id": payment_id, "account": account, "by": by });
            let answer = post(config, "/admin/misdirected", &body).await?;
            print(as_json, &answer, || {
                format!(
                    "{}: ₹{} taken into suspense, balance ₹{}",
                    text(&answer, "account"),
                    paise(&answer["amount_paise"]),
                    paise(&answer["balance_paise"])
                )
            });
        }
        cli::Collect::Assign { payment_id, account, by } => {
            let body = json!({ "payment_id": payment_id, "account": account, "by": by });
            let answer = post(config, "/admin/suspense", &body).await?;
            print(as_json, &answer, || match text(&answer, "outcome") {
                "assigned" => format!(
                    "{}: {payment_id} credited, balance ₹{}",
                    text(&answer, "account"),
                    paise(&answer["balance_paise"])
                ),
                _ => format!("{payment_id} was assigned to {} before", text(&answer, "account")),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(config: &Config, path: &str) -> Result<Value> {
    request(config, Method::GET, path, Vec::new()).await
}

async fn import(config: &Config, args: &cli::CollectImport, as_json: bool) -> Result<ExitCode> {
    let rupees = || format!("--rupees: {:?}", args.rupees);
    let amount = ledger::scaled(&args.rupees, 2).with_context(rupees)?;
    ensure!(amount > 0, "--rupees: must be above zero");
    let csv = read_input(&args.file)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("channel", &args.channel).append_pair("batch", &args.batch);
    query.append_pair("lines", &args.lines.to_string()).append_pair("amount_paise", &amount.to_string());
    query.append_pair("by", &args.by);
    let path = format!("/admin/collections?{}", query.finish());
    let answer = request(config, Method::POST, &path, csv);
    let answer = answer.await.with_context(|| args.file.display().to_string())?;
    print(as_json, &answer, || batch_text(&answer));
    Ok(ExitCode::SUCCESS)
}

/// An amount of a document.
pub(super) fn paise(value: &Value) -> Paise {
    value.as_i64().map(Paise).unwrap_or_default()
}

fn batch_text(batch: &Value) -> String {
    let states = batch["states"].as_object().into_iter().flatten();
    let states = states
        .map(|(state, of)| format!("{} {state} (₹{})", of["lines"], paise(&of["amount_paise"])))
        .collect::<Vec<_>>();
    let before = if text(batch, "outcome") == "exists" { "was taken before: " } else { "" };
    format!(
        "{}  {}  {before}{} payments of ₹{}: {}",
        text(batch, "channel"),
        text(batch, "batch"),
        batch["lines"],
        paise(&batch["amount_paise"]),
        states.join(", ")
    )
}

fn line_text(line: &Value) -> String {
    let said = Some(text(line, "said")).filter(|said| !said.is_empty());
    format!(
        "line {}  {}  {}  ₹{}  {}  {}{}",
        line["line"],
        text(line, "payment_id"),
        text(line, "account_number"),
        paise(&line["amount_paise"]),
        text(line, "paid_on"),
        text(line, "state"),
        said.map(|said| format!(": {said}")).unwrap_or_default()
    )
}

fn held_text(held: &Value) -> String {
    let files = held["files"].as_array().into_iter().flatten();
    let files = files.map(|file| {
        format!(
            "; line {} of batch {} has account {:?}",
            file["line"],
            text(file, "batch"),
            text(file, "account_number")
        )
    });
    format!(
        "{}  ₹{}  since {}{}",
        text(held, "payment_id"),
        paise(&held["amount_paise"]),
        text(held, "since"),
        files.collect::<String>()
    )
}
