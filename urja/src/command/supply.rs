//! `urja supply`: how far cuts and reconnections have come, and what stops all cuts.

use std::process::ExitCode;

use anyhow::Result;
use axum::http::Method;
use serde_json::{Value, json};

use super::credit::lines;
use super::print;
use super::registry::{post, request, text};
use crate::cli;
use crate::config::Config;

pub(super) async fn run(config: &Config, args: &cli::Supply, as_json: bool) -> Result<ExitCode> {
    match args {
        cli::Supply::Status => {
            let answer = request(config, Method::GET, "/admin/supply", Vec::new()).await?;
            print(as_json, &answer, || status_text(&answer));
        }
        cli::Supply::List { account, limit } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if let Some(account) = account {
                query.append_pair("account", account);
            }
            let path = format!("/admin/supply/commands?{}", query.finish());
            let answer = request(config, Method::GET, &path, Vec::new()).await?;
            print(as_json, &answer, || lines(&answer["commands"], command_text));
        }
        cli::Supply::Freeze { reason, by } => {
            let body = json!({ "reason": reason, "by": by });
            let answer = post(config, "/admin/supply/freeze", &body).await?;
            print(as_json, &answer, || frozen_text(&answer["frozen"]));
        }
        cli::Supply::Thaw { by } => {
            let answer = post(config, "/admin/supply/thaw", &json!({ "by": by })).await?;
            print(as_json, &answer, || {
                if text(&answer, "cuts") == "thawed" {
                    "cuts go on".to_owned()
                } else {
                    "asked for; cuts go on once another person says `urja supply thaw --by PERSON`".to_owned()
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn frozen_text(frozen: &Value) -> String {
    let asked = frozen["thaw_asked"]["by"].as_str();
    let asked = asked.map(|by| format!("; {by} asked to let them go on")).unwrap_or_default();
    format!(
        "no cuts: frozen by {} at {}: {}{asked}",
        text(frozen, "by"),
        text(frozen, "at"),
        text(frozen, "reason")
    )
}

fn status_text(answer: &Value) -> String {
    let cuts = match (&answer["frozen"], text(answer, "cuts")) {
        (Value::Null, "on") => "cuts are on".to_owned(),
        (Value::Null, _) => {
            "cuts are off: `relay.enabled = true` in the configuration switches them on".to_owned()
        }
        (frozen, _) => frozen_text(frozen),
    };
    format!(
        "{cuts}\ncut in the last hour {}, in the last day {}, of {} accounts; {} more may be\n\
         under way: {} cuts, {} reconnections, of them late {}; without supply {}",
        answer["cut_in_the_last_hour"],
        answer["cut_in_the_last_day"],
        answer["accounts"],
        answer["budget_left"],
        answer["cuts_under_way"],
        answer["reconnections_under_way"],
        answer["late"],
        answer["without_supply"],
    )
}

fn command_text(row: &Value) -> String {
    let steps = [
        ("since", "since"),
        ("queued", "queued_at"),
        ("sent", "sent_at"),
        ("ready", "ready_at"),
        ("read back", "confirmed_at"),
        ("by the meter's log", "event_at"),
        ("supply back", "restored_at"),
    ];
    let step = |(word, key): (&str, &str)| row[key].as_str().map(|at| format!("{word} {at}"));
    let said = Some(text(row, "said")).filter(|said| !said.is_empty());
    format!(
        "{}  {} ({}): {}, {}{}",
        text(row, "account"),
        text(row, "kind"),
        text(row, "reason"),
        text(row, "state"),
        steps.into_iter().filter_map(step).collect::<Vec<_>>().join(", "),
        said.map(|said| format!("; {said}")).unwrap_or_default()
    )
}
