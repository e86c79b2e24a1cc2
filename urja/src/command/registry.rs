//! `urja meter`, `urja account`, `urja clock`, `urja recharge`: requests to the owner of the data directory.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use axum::http::Method;
use model::Paise;
use serde_json::{Value, json};

use super::tariff::load_w;
use super::{print, read_input};
use crate::cli;
use crate::config::Config;
use crate::owner::Owner;

pub(super) async fn import_meters(config: &Config, file: &Path, as_json: bool) -> Result<ExitCode> {
    let answer = import(config, "/admin/meters", file).await?;
    print(as_json, &answer, || {
        let (added, updated, unchanged) = (&answer["added"], &answer["updated"], &answer["unchanged"]);
        format!(
            "meters: {added} added, {updated} with another address or other secrets, {unchanged} unchanged"
        )
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rekey_meters(config: &Config, file: &Path, as_json: bool) -> Result<ExitCode> {
    let csv = read_input(file)?;
    let answer = request(config, Method::POST, "/admin/meters/keys", csv)
        .await
        .with_context(|| file.display().to_string())?;
    print(as_json, &answer, || {
        format!("meters: {} have new keys, {} unchanged", answer["rekeyed"], answer["unchanged"])
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn import_accounts(config: &Config, file: &Path, as_json: bool) -> Result<ExitCode> {
    let answer = import(config, "/admin/accounts", file).await?;
    print(as_json, &answer, || {
        format!("accounts: {} added, {} unchanged", answer["added"], answer["unchanged"])
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn change_account(
    config: &Config,
    args: &cli::ChangeAccount,
    as_json: bool,
) -> Result<ExitCode> {
    let sanctioned_w = args.load_kw.as_deref().map(load_w).transpose()?;
    let body = json!({
        "account": args.account, "from": args.from, "category": args.category, "sanctioned_w": sanctioned_w,
    });
    let body = body.to_string().into_bytes();
    let answer = request(config, Method::POST, "/admin/accounts/terms", body).await?;
    print(as_json, &answer, || {
        let words = |terms: &Value| {
            let load_w = terms["sanctioned_w"].as_u64().unwrap_or_default();
            let (whole, rest) = (load_w / 1000, load_w % 1000);
            format!("{}, {whole}.{rest:03} kW, from {} on", text(terms, "category"), text(terms, "from"))
        };
        let later = answer["later"].as_array().into_iter().flatten();
        let after = later.map(|terms| format!("\nsaid before for after that: {}", words(terms)));
        format!("{}: {}{}", text(&answer, "account"), words(&answer), after.collect::<String>())
    });
    Ok(ExitCode::SUCCESS)
}

async fn import(config: &Config, path: &str, file: &Path) -> Result<Value> {
    let csv = read_input(file)?;
    request(config, Method::POST, path, csv).await.with_context(|| file.display().to_string())
}

pub(super) async fn recharge(config: &Config, args: &cli::Recharge, as_json: bool) -> Result<ExitCode> {
    let amount = Paise::from_rupees(i64::from(args.rupees)).context("the amount is too large")?;
    let answer = if args.preview {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("account", &args.account).append_pair("amount_paise", &amount.0.to_string());
        request(config, Method::GET, &format!("/admin/recharges?{}", query.finish()), Vec::new()).await?
    } else {
        let body =
            json!({ "account": args.account, "amount_paise": amount.0, "payment_id": args.payment_id });
        request(config, Method::POST, "/admin/recharges", body.to_string().into_bytes()).await?
    };
    print(as_json, &answer, || {
        let paise = |key: &str| answer[key].as_i64().map(Paise);
        let off = paise("paid_off_paise").filter(|off| *off != Paise::ZERO);
        let off = off.map(|off| format!(", ₹{off} of it for old dues")).unwrap_or_default();
        let balance = paise("balance_paise").map(|balance| format!(", balance ₹{balance}"));
        format!("{} ₹{amount}{off}{}", text(&answer, "outcome"), balance.unwrap_or_default())
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reverse(config: &Config, args: &cli::Reverse, as_json: bool) -> Result<ExitCode> {
    let body = json!({ "payment_id": args.payment_id, "reason": args.reason, "by": args.by });
    let answer = request(config, Method::POST, "/admin/reversals", body.to_string().into_bytes()).await?;
    print(as_json, &answer, || {
        let paise = |key: &str| answer[key].as_i64().map(Paise).unwrap_or_default();
        match text(&answer, "outcome") {
            "reversed" if answer["account"].is_null() => {
                format!("₹{} taken back out of suspense", paise("amount_paise"))
            }
            "reversed" => format!(
                "{}: ₹{} taken back, balance ₹{}",
                text(&answer, "account"),
                paise("amount_paise"),
                paise("balance_paise")
            ),
            _ => format!("{} was taken back before", args.payment_id),
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn clock(config: &Config, now: &str, as_json: bool) -> Result<ExitCode> {
    let body = json!({ "now": now }).to_string();
    let answer = request(config, Method::POST, "/admin/clock", body.into_bytes()).await?;
    print(as_json, &answer, || {
        format!("{}, closed until {}", text(&answer, "now"), text(&answer, "closed_until"))
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A JSON request to whoever owns the data directory.
pub(super) async fn post(config: &Config, path: &str, body: &Value) -> Result<Value> {
    request(config, Method::POST, path, body.to_string().into_bytes()).await
}

/// One request to whoever owns the data directory, which this process becomes where nobody does.
pub(super) async fn request(config: &Config, method: Method, path: &str, body: Vec<u8>) -> Result<Value> {
    let owner = Owner::find_or_create(config).await?;
    let answer = owner.send(method, path, body).await;
    owner.close().await?;
    answer?.json()
}
