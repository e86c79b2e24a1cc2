//! `urja read` and `urja relay`: questions to a meter, asked by the owner of the data directory.

use std::process::ExitCode;

use anyhow::Result;
use axum::http::Method;
use serde_json::{Value, json};

use super::print;
use crate::cli;
use crate::config::Config;
use crate::owner::Owner;

pub(super) async fn read(config: &Config, args: &cli::Read, as_json: bool) -> Result<ExitCode> {
    let body = json!({
        "meter": args.meter,
        "what": args.what,
        "from": args.from,
        "to": args.to,
        "last": args.last,
        "entries": args.entries,
        "address": args.address,
        "client": args.client,
    });
    let answer = request(config, "/admin/read", &body).await?;
    print(as_json, &answer, || match answer["columns"].as_array() {
        Some(columns) => table(columns, &answer["rows"]),
        None => value(&answer),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn relay(config: &Config, args: &cli::Relay, as_json: bool) -> Result<ExitCode> {
    let command = match args.command {
        cli::RelayCommand::Connect => "connect",
        cli::RelayCommand::Disconnect => "disconnect",
        cli::RelayCommand::Status => "status",
    };
    let body =
        json!({ "meter": args.meter, "command": command, "address": args.address, "client": args.client });
    let answer = request(config, "/admin/relay", &body).await?;
    print(as_json, &answer, || {
        let contacts = if answer["supplied"] == true { "closed" } else { "open" };
        let unconfirmed = answer["unconfirmed"].as_str();
        let unconfirmed =
            unconfirmed.map_or_else(String::new, |why| format!("\nas it was read back, for {why}"));
        format!("{}: {} (contacts {contacts}){unconfirmed}", shown(&answer["meter"]), shown(&answer["words"]))
    });
    Ok(ExitCode::SUCCESS)
}

async fn request(config: &Config, path: &str, body: &Value) -> Result<Value> {
    let owner = Owner::find(config).await?;
    let answer = owner.send(Method::POST, path, body.to_string().into_bytes()).await;
    owner.close().await?;
    answer?.json()
}

/// A value with its unit or its name, and what is up in it in lines of their own.
fn value(answer: &Value) -> String {
    let behind = [&answer["unit"], &answer["name"]].into_iter().find_map(Value::as_str);
    let mut out = shown(&answer["value"]);
    if let Some(behind) = behind.filter(|behind| !behind.is_empty()) {
        out += &format!(" {behind}");
    }
    for flag in answer["flags"].as_array().into_iter().flatten() {
        out += &format!("\nflag {} {}", shown(&flag["bit"]), flag["name"].as_str().unwrap_or("reserved"));
    }
    out
}

/// Columns under each other, a tab between: for people and for `cut`. A code has its name behind it.
fn table(columns: &[Value], rows: &Value) -> String {
    let head = columns.iter().map(|column| match column["unit"].as_str() {
        Some(unit) if !unit.is_empty() => format!("{} {unit}", shown(&column["object"])),
        _ => shown(&column["object"]),
    });
    let mut out = head.collect::<Vec<_>>().join("\t");
    for row in rows.as_array().into_iter().flatten() {
        let named = |(at, cell): (usize, &Value)| {
            let names = columns.get(at).and_then(|column| column["names"].get(cell.to_string()));
            match names.and_then(Value::as_str) {
                Some(name) => format!("{} {name}", shown(cell)),
                None => shown(cell),
            }
        };
        let cells = row.as_array().into_iter().flatten().enumerate().map(named);
        out += &format!("\n{}", cells.collect::<Vec<_>>().join("\t"));
    }
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    }
}
