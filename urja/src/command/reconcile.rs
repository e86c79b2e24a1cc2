//! `urja reconcile`: a day of a channel against its own statement and the bank's.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use axum::http::Method;
use serde_json::{Value, json};

use super::collect::paise;
use super::registry::{post, request, text};
use super::{BAD_INPUT, print, read_input};
use crate::cli;
use crate::config::Config;

pub(super) async fn run(config: &Config, args: &cli::Reconcile, as_json: bool) -> Result<ExitCode> {
    let report = match args {
        cli::Reconcile::Run(args) => {
            let body = json!({
                "channel": args.channel,
                "day": args.day,
                "statement": read_text(&args.statement)?,
                "bank": args.bank.as_deref().map(read_text).transpose()?,
                "settles_in": args.settles_in,
                "by": args.by,
            });
            post(config, "/admin/reconciliations", &body).await?
        }
        cli::Reconcile::Close { channel, what, reason, by } => {
            let body = json!({ "channel": channel, "what": what, "reason": reason, "by": by });
            let path = "/admin/reconciliations/closings";
            let answer = post(config, path, &body).await?;
            print(as_json, &answer, || format!("{} {what} is closed", text(&answer, "closed")));
            return Ok(ExitCode::SUCCESS);
        }
        cli::Reconcile::Show { channel } => {
            let path = format!("/admin/reconciliations?channel={channel}");
            request(config, Method::GET, &path, Vec::new()).await?
        }
    };
    print(as_json, &report, || report_text(&report));
    Ok(if agrees(&report) { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

/// Whether nothing is open; of the bank, as far as it was told of.
fn agrees(report: &Value) -> bool {
    report["ledger_agrees"] == true && report["bank_agrees"] != false
}

fn read_text(file: &Path) -> Result<String> {
    String::from_utf8(read_input(file)?).with_context(|| format!("{} is not UTF-8", file.display()))
}

fn report_text(report: &Value) -> String {
    let (statement, agreed) = (&report["statement"], &report["agreed"]);
    let mut out = vec![format!(
        "{} {}: the statement has {} payments of ₹{} and {} refunds of ₹{}; the ledger agrees with {} of ₹{} and {} of ₹{}",
        text(report, "channel"),
        text(report, "day"),
        statement["payments"],
        paise(&statement["payments_paise"]),
        statement["refunds"],
        paise(&statement["refunds_paise"]),
        agreed["payments"],
        paise(&agreed["payments_paise"]),
        agreed["refunds"],
        paise(&agreed["refunds_paise"]),
    )];
    out.push(format!("open by {}:", text(report, "latest_day")));
    out.extend(report["open"].as_array().into_iter().flatten().map(open_text));
    let listed = report["open"].as_array().map_or(0, Vec::len) as u64;
    let all: u64 =
        report["differences"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    if all > listed {
        out.push(format!("and {} more", all - listed));
    }
    let bank = &report["bank"];
    out.extend(bank["differ"].as_array().into_iter().flatten().map(transfer_text));
    if bank["not_sent"] != 0 {
        out.push(format!(
            "{} lines of ₹{} are in no transfer to the bank yet, for {} days",
            bank["not_sent"],
            paise(&bank["not_sent_paise"]),
            bank["not_sent_days"]
        ));
    }
    if report["bank_agrees"].is_null() {
        out.push("no transfer to the bank was told yet: two sides only".to_owned());
    }
    if agrees(report) {
        out.push("nothing: they agree".to_owned());
    }
    out.join("\n")
}

fn open_text(open: &Value) -> String {
    let what = match text(open, "difference") {
        "missing_in_ledger" => "paid by the statement, and not in the ledger",
        "refund_missing_in_ledger" => "given back by the statement, and not taken back in the ledger",
        "amount_differs" => "another amount",
        "account_differs" => "another account",
        "told_before" => "told before",
        "missing_in_statement" => "in the ledger, and in no statement",
        _ => "taken back in the ledger, and in no statement",
    };
    let amount = |key: &str, word: &str| {
        open[key].as_i64().map(|_| format!(", {word} ₹{}", paise(&open[key]))).unwrap_or_default()
    };
    let account = open["account"].as_str().map(|number| format!(", account {number}")).unwrap_or_default();
    let days = format!(", for {} days", open["days"]);
    let line = open["line"].as_u64();
    let line = line.map(|line| format!("{} line {line}  ", text(open, "statement_day"))).unwrap_or_default();
    let files = open["files"].as_array().into_iter().flatten().map(|file| {
        format!(
            "; line {} of batch {} is {} ({})",
            file["line"],
            text(file, "batch"),
            text(file, "state"),
            text(file, "account_number")
        )
    });
    format!(
        "{line}{}: {what}{}{}{account}{days}{}",
        text(open, "payment_id"),
        amount("statement_paise", "statement"),
        amount("ledger_paise", "ledger"),
        files.collect::<String>()
    )
}

fn transfer_text(transfer: &Value) -> String {
    let amount = |key: &str| match transfer[key].as_i64() {
        Some(_) => format!("₹{}", paise(&transfer[key])),
        None => "nothing".to_owned(),
    };
    let (sent, came) = (amount("sent_paise"), amount("came_paise"));
    let may_come = if transfer["may_come"] == true { "; it may come" } else { "" };
    let settlement = text(transfer, "settlement");
    format!("{settlement}: {sent} sent, {came} came, for {} days{may_come}", transfer["days"])
}
