//! `urja credit`: policies, notices, and whose supply may be cut when and why not.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use axum::http::Method;
use ledger::credit::{CreditPolicy, builtin_policy};
use model::Paise;
use serde_json::{Value, json};

use super::registry::{request, text};
use super::{BAD_INPUT, print, read_input};
use crate::cli;
use crate::config::Config;

/// What the built-in policy is called on the command line.
const BUILTIN: &str = "builtin";

/// What needs the data directory.
pub(super) async fn run(config: &Config, args: &cli::Credit, as_json: bool) -> Result<ExitCode> {
    match args {
        cli::Credit::Apply { file } => {
            let body = body_of(file)?.into_bytes();
            let answer = request(config, Method::POST, "/admin/credit/policies", body)
                .await
                .with_context(|| file.clone())?;
            print(as_json, &answer, || {
                let (outcome, name, from) =
                    (text(&answer, "outcome"), text(&answer, "name"), text(&answer, "from"));
                format!("{file}: {outcome}; {name} from {from}")
            });
        }
        cli::Credit::List => {
            let answer = get(config, "/admin/credit/policies").await?;
            print(as_json, &answer, || {
                lines(&answer["policies"], |row| {
                    format!("{}  {}  {}", text(row, "from"), text(row, "digest"), text(row, "name"))
                })
            });
        }
        cli::Credit::Due(args) => {
            let answer = get(config, &due_path(args)).await?;
            print(as_json, &answer, || due_text(&answer));
        }
        cli::Credit::Notices { limit, after } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if let Some(after) = after {
                query.append_pair("after", after);
            }
            let answer = get(config, &format!("/admin/credit/notices?{}", query.finish())).await?;
            print(as_json, &answer, || lines(&answer["notices"], notice_line));
        }
        cli::Credit::Told { account, level, round } => {
            let body = json!({ "account": account, "level": level, "round": round });
            let answer = post(config, "/admin/credit/told", &body).await?;
            print(as_json, &answer, || match answer["used_up_told_at"].as_str() {
                Some(at) => format!("{account}: told; emergency credit counts from {at}"),
                None => format!("{account}: told"),
            });
        }
        cli::Credit::Enable(args) => cuts(config, args, "ask", as_json).await?,
        cli::Credit::Approve(args) => cuts(config, args, "approve", as_json).await?,
        cli::Credit::Disable(args) => cuts(config, args, "end", as_json).await?,
        cli::Credit::Divisions => {
            let answer = get(config, "/admin/credit/cuts").await?;
            print(as_json, &answer, || lines(&answer["divisions"], division_line));
        }
        cli::Credit::Hold(args) => {
            hold(config, &args.account, args.kind, Some(&args.reason), &args.by, as_json).await?
        }
        cli::Credit::Release(args) => hold(config, &args.account, args.kind, None, &args.by, as_json).await?,
        cli::Credit::Builtin | cli::Credit::Check { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What works on files alone; `None` for the others.
pub(super) fn without_data(args: &cli::Credit, as_json: bool) -> Option<Result<ExitCode>> {
    match args {
        cli::Credit::Builtin => {
            print(as_json, &json!({ "body": builtin_policy() }), || builtin_policy().to_owned());
            Some(Ok(ExitCode::SUCCESS))
        }
        cli::Credit::Check { file } => Some(check(file, as_json)),
        _ => None,
    }
}

/// The text of a policy file, or the built-in one.
fn body_of(file: &str) -> Result<String> {
    if file == BUILTIN {
        return Ok(builtin_policy().to_owned());
    }
    String::from_utf8(read_input(Path::new(file))?).with_context(|| format!("{file} is not UTF-8 text"))
}

fn check(file: &str, as_json: bool) -> Result<ExitCode> {
    let row = match CreditPolicy::parse(&body_of(file)?) {
        Ok(policy) => {
            json!({ "ok": true, "file": file, "name": policy.name, "from": policy.from.to_string() })
        }
        Err(error) => json!({
            "ok": false, "file": file, "line": error.line, "key": error.key, "fault": error.fault.to_string(),
        }),
    };
    let is_good = row["ok"] == true;
    print(as_json, &row, || {
        if is_good {
            format!("{file}: good; {} from {}", text(&row, "name"), text(&row, "from"))
        } else {
            format!("{file}, line {}, {}: {}", row["line"], text(&row, "key"), text(&row, "fault"))
        }
    });
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

async fn get(config: &Config, path: &str) -> Result<Value> {
    request(config, Method::GET, path, Vec::new()).await
}

async fn post(config: &Config, path: &str, body: &Value) -> Result<Value> {
    request(config, Method::POST, path, body.to_string().into_bytes()).await
}

async fn cuts(config: &Config, args: &cli::CutsBy, step: &str, as_json: bool) -> Result<()> {
    let body = json!({ "division": args.division, "step": step, "by": args.by });
    let answer = post(config, "/admin/credit/cuts", &body).await?;
    print(as_json, &answer, || match text(&answer, "cuts") {
        "asked" => format!(
            "{}: asked for; it holds once another person says `urja credit approve {} --by PERSON`",
            args.division, args.division
        ),
        "enabled" => format!("{}: supply may be cut", args.division),
        _ => format!("{}: nothing is cut", args.division),
    });
    Ok(())
}

async fn hold(
    config: &Config,
    account: &str,
    kind: cli::HoldKind,
    reason: Option<&str>,
    by: &str,
    as_json: bool,
) -> Result<()> {
    let kind = match kind {
        cli::HoldKind::Protected => "protected",
        cli::HoldKind::Disputed => "disputed",
    };
    let mut body = json!({ "account": account, "kind": kind, "by": by });
    let path = match reason {
        Some(reason) => {
            body["reason"] = reason.into();
            "/admin/credit/holds"
        }
        None => "/admin/credit/releases",
    };
    let answer = post(config, path, &body).await?;
    print(as_json, &answer, || {
        let state = if answer["held"] == true { "is not cut" } else { "is no longer held" };
        format!("{account} {state}: {kind}")
    });
    Ok(())
}

fn due_path(args: &cli::Due) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(at) = &args.at {
        query.append_pair("at", at);
    }
    if let Some(account) = &args.account {
        query.append_pair("account", account);
    }
    query.append_pair("all", if args.all { "true" } else { "false" });
    format!("/admin/credit/due?{}", query.finish())
}

fn due_text(answer: &Value) -> String {
    let mut out = String::new();
    let policy = match answer["policy"].as_object() {
        Some(policy) => format!("policy {} from {}", policy["name"], policy["from"]),
        None => "no policy in force: `urja credit apply builtin` for the one that comes with Urja".to_owned(),
    };
    let _ = writeln!(
        out,
        "at {}: {} decided on, {} due; {policy}",
        text(answer, "at"),
        answer["decided"],
        answer["due"]
    );
    for (reason, count) in answer["held"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "  held by {reason}: {count}");
    }
    let rows = answer["accounts"].as_array().map_or(&[][..], Vec::as_slice);
    if answer["listed_at_most"].as_u64().is_some_and(|most| rows.len() as u64 == most) {
        let _ = writeln!(out, "the first {} alone are listed", rows.len());
    }
    for row in rows {
        let paise = |key: &str| Paise(row[key].as_i64().unwrap_or_default());
        let _ = writeln!(
            out,
            "{}  {}  posted ₹{}, to keep supply ₹{}: {}",
            text(row, "account"),
            text(row, "division"),
            paise("booked_paise"),
            paise("amount_to_keep_paise"),
            why(row)
        );
    }
    out
}

/// Why an account is not due, or that it is.
fn why(row: &Value) -> String {
    let reasons = row["reasons"].as_array().into_iter().flatten();
    let words: Vec<String> = reasons
        .map(|reason| match reason["until"].as_str() {
            Some(until) => format!("{} until {until}", text(reason, "words")),
            None => text(reason, "words").to_owned(),
        })
        .collect();
    if words.is_empty() {
        return "DUE".to_owned();
    }
    let earliest = row["earliest"].as_str().map(|at| format!("; may be cut from {at} on"));
    format!("{}{}", words.join(", "), earliest.unwrap_or_default())
}

fn notice_line(row: &Value) -> String {
    let what = match row["level"].as_u64() {
        _ if row["used_up"] == true => "used up".to_owned(),
        Some(0) => "no alert".to_owned(),
        _ => format!("alert {}", row["level"]),
    };
    let at_once = match row["days_posted_at_once"].as_u64().unwrap_or_default() {
        0 => String::new(),
        days => format!(", {days} days were posted at once"),
    };
    let paise = |key: &str| Paise(row[key].as_i64().unwrap_or_default());
    format!(
        "{}  {what} (level {}, round {}), posted ₹{}, to keep supply ₹{}{at_once}",
        text(row, "account"),
        row["level"],
        row["round"],
        paise("booked_paise"),
        paise("amount_to_keep_paise")
    )
}

fn division_line(row: &Value) -> String {
    let step = |key: &str| match row[key].as_object() {
        Some(_) => format!("{key} by {} at {}", text(&row[key], "by"), text(&row[key], "at")),
        None => format!("not {key} yet"),
    };
    format!("{}: {}; {}, {}", text(row, "division"), text(row, "cuts"), step("asked"), step("approved"))
}

pub(super) fn lines(rows: &Value, line: impl Fn(&Value) -> String) -> String {
    let rows = rows.as_array().into_iter().flatten();
    let text: Vec<String> = rows.map(line).collect();
    if text.is_empty() { "none".to_owned() } else { text.join("\n") }
}
