//! `urja explain`: what a day cost an account, head by head, and the readings and frames that it goes back to.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use model::{AccountNumber, CivilDay, Paise};
use serde_json::{Value, json};

use super::registry::text;
use super::sql::{account_id, rows};
use super::{kwh, print};
use crate::cli::Explain;
use crate::config::Config;
use crate::owner::Owner;

pub(super) async fn run(config: &Config, args: &Explain, as_json: bool) -> Result<ExitCode> {
    let number: AccountNumber = args.account.parse().with_context(|| args.account.clone())?;
    let day: CivilDay = args.day.parse().with_context(|| args.day.clone())?;
    let owner = Owner::find(config).await?;
    let explained = explain(&owner, &number, day).await;
    owner.close().await?;
    let explained = explained?;
    print(as_json, &explained, || in_words(&explained));
    Ok(ExitCode::SUCCESS)
}

/// The entries of a day with their lines, tariff and readings.
async fn explain(owner: &Owner, number: &AccountNumber, day: CivilDay) -> Result<Value> {
    let account = account_id(owner, number).await?;
    let of_day = format!("account_id = {account} AND usage_date = DATE '{day}'");
    let lines = rows(
        owner,
        &format!(
            "SELECT position, local_time(date_trunc('second', booked_at)) AS booked_at, kind, head, amount_paise, energy_wh, tariff_digest \
             FROM ledger_posting WHERE {of_day} AND kind IN ('usage', 'correction') ORDER BY position, line"
        ),
    )
    .await?;
    ensure!(
        !lines.is_empty(),
        "nothing is booked on {number} for {day}: the day is not closed, lies before the account's first, or no tariff was in force"
    );
    let readings = rows(
        owner,
        &format!(
            "SELECT position, reading, local_time(read_at) AS read_at, CAST(reading_kwh * 1000 AS BIGINT) AS reading_wh, \
             quality, frame_position, \
             local_time(date_trunc('second', received_at)) AS received_at, source, frame_digest, known \
             FROM receipt WHERE {of_day} AND reading IS NOT NULL ORDER BY position, reading DESC, read_at"
        ),
    )
    .await?;
    let tariffs = owner.send(Method::GET, "/admin/tariffs", Vec::new()).await?.json()?;
    let entries: Vec<Value> = lines
        .chunk_by(|line, next| line["position"] == next["position"])
        .filter_map(|lines| entry(lines, &readings, &tariffs))
        .collect();
    let sum = |key: &str| entries.iter().filter_map(|entry| entry[key].as_i64()).sum::<i64>();
    Ok(json!({
        "account": number.to_string(),
        "usage_date": day.to_string(),
        "charge_paise": sum("charge_paise"),
        "energy_wh": sum("energy_wh"),
        "entries": entries,
    }))
}

/// An entry of these lines.
fn entry(lines: &[Value], readings: &[Value], tariffs: &Value) -> Option<Value> {
    let line = lines.iter().find(|line| line["head"] == "consumer")?;
    let heads = lines.iter().filter(|line| line["head"] != "consumer");
    let heads: serde_json::Map<String, Value> =
        heads.map(|line| (text(line, "head").to_owned(), line["amount_paise"].clone())).collect();
    let all = tariffs["tariffs"].as_array();
    let tariff = all.and_then(|all| all.iter().find(|tariff| tariff["digest"] == line["tariff_digest"]));
    let of_entry: Vec<&Value> =
        readings.iter().filter(|reading| reading["position"] == line["position"]).collect();
    Some(json!({
        "position": line["position"],
        "booked_at": line["booked_at"],
        "kind": line["kind"],
        "charge_paise": -line["amount_paise"].as_i64().unwrap_or_default(),
        "energy_wh": line["energy_wh"],
        "tariff": tariff,
        "heads": heads,
        "readings": of_entry,
    }))
}

fn in_words(explained: &Value) -> String {
    let rupees = |paise: &Value| Paise(paise.as_i64().unwrap_or_default()).to_string();
    let kwh = |wh: &Value| kwh(wh.as_i64().unwrap_or_default());
    let mut out = format!(
        "{} on {}: ₹{} for {}\n",
        text(explained, "account"),
        text(explained, "usage_date"),
        rupees(&explained["charge_paise"]),
        kwh(&explained["energy_wh"])
    );
    for entry in explained["entries"].as_array().into_iter().flatten() {
        let tariff = &entry["tariff"];
        let _ = writeln!(
            out,
            "\n{} of ₹{} for {}, booked {} at position {} under {} from {} ({})",
            text(entry, "kind"),
            rupees(&entry["charge_paise"]),
            kwh(&entry["energy_wh"]),
            text(entry, "booked_at"),
            entry["position"],
            text(tariff, "name"),
            text(tariff, "from"),
            text(tariff, "digest")
        );
        for (head, paise) in entry["heads"].as_object().into_iter().flatten() {
            let _ = writeln!(out, "  {head:<10} {:>12}", rupees(paise));
        }
        for reading in entry["readings"].as_array().into_iter().flatten() {
            let known = if reading["known"] == true { "" } else { ", came after the entry" };
            let _ = writeln!(
                out,
                "  {:<16} {} {:>16}  frame {} by {} {}, {}{known}",
                text(reading, "reading").replace('_', " "),
                text(reading, "read_at"),
                kwh(&reading["reading_wh"]),
                reading["frame_position"],
                text(reading, "source"),
                text(reading, "received_at"),
                text(reading, "frame_digest")
            );
        }
    }
    out.trim_end().to_owned()
}
