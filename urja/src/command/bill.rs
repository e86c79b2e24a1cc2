//! `urja bill`: what an account's balance was at the start of a month, every line of its bill, and what it was at the end.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use model::{AccountNumber, CivilDay, Paise};
use serde_json::{Value, json};

use super::registry::text;
use super::sql::{account_id, rows};
use super::{kwh, print};
use crate::cli::Bill;
use crate::config::Config;
use crate::owner::Owner;

pub(super) async fn run(config: &Config, args: &Bill, as_json: bool) -> Result<ExitCode> {
    let number: AccountNumber = args.account.parse().with_context(|| args.account.clone())?;
    let month: CivilDay = format!("{}-01", args.month)
        .parse()
        .with_context(|| format!("{:?} is no month such as 2026-07", args.month))?;
    let owner = Owner::find(config).await?;
    let bill = bill(&owner, &number, month, args.as_of).await;
    owner.close().await?;
    let bill = bill?;
    print(as_json, &bill, || in_words(&bill));
    Ok(ExitCode::SUCCESS)
}

async fn bill(owner: &Owner, number: &AccountNumber, month: CivilDay, as_of: Option<u64>) -> Result<Value> {
    let account = account_id(owner, number).await?;
    let standing = rows(owner, "SELECT position, closed_until FROM system.standing").await?;
    let standing = standing.first().context("there is no standing")?;
    let now = standing["position"].as_u64().unwrap_or_default();
    ensure!(
        as_of.is_none_or(|as_of| as_of <= now),
        "nothing is known yet as of position {}: the last one is {now}",
        as_of.unwrap_or_default()
    );
    let as_of = as_of.unwrap_or(now);
    let known = format!("account_id = {account} AND position <= {as_of}");
    let lines = rows(
        owner,
        &format!(
            "SELECT kind, of_month, head, count(*) AS entries, CAST(sum(amount_rupees) * 100 AS BIGINT) AS amount_paise, \
             CAST(sum(energy_kwh) * 1000 AS BIGINT) AS energy_wh FROM bill_entry \
             WHERE {known} AND month = DATE '{month}' GROUP BY kind, of_month, head ORDER BY kind, of_month, head"
        ),
    )
    .await?;
    let before = rows(
        owner,
        &format!(
            "SELECT CAST(coalesce(sum(amount_rupees), 0) * 100 AS BIGINT) AS paise FROM bill_entry \
             WHERE {known} AND month < DATE '{month}'"
        ),
    )
    .await?;
    let opening = before.first().and_then(|row| row["paise"].as_i64()).unwrap_or_default();
    let sum = |kinds: &[&str]| {
        let of_kind = lines.iter().filter(|line| kinds.contains(&text(line, "kind")));
        of_kind.filter_map(|line| line["amount_paise"].as_i64()).sum::<i64>()
    };
    let all: i64 = lines.iter().filter_map(|line| line["amount_paise"].as_i64()).sum();
    let last = last_of(month);
    let closed_until = standing["closed_until"].as_str().and_then(|day| day.parse::<CivilDay>().ok());
    Ok(json!({
        "account": number.to_string(),
        "month": month.to_string(),
        "as_of_position": as_of,
        // Of an earlier position it is not known which days were closed.
        "complete": (as_of == now).then(|| closed_until.is_some_and(|day| day >= last)),
        "opening_balance_paise": opening,
        "usage_paise": -sum(&["usage"]),
        "true_up_paise": -sum(&["correction"]),
        "money_paise": sum(&["recharge", "reversal"]),
        "closing_balance_paise": opening + all,
        "lines": lines,
    }))
}

/// The last day of the month that begins with `first`.
fn last_of(first: CivilDay) -> CivilDay {
    let days = first.date().days_in_month();
    first.plus(i32::from(days) - 1)
}

fn in_words(bill: &Value) -> String {
    let rupees = |paise: &Value| Paise(paise.as_i64().unwrap_or_default()).to_string();
    let so_far = if bill["complete"] == false { ", so far" } else { "" };
    let month = text(bill, "month");
    let mut out = format!(
        "{} for {}{so_far}, as of position {}\n",
        text(bill, "account"),
        month.get(..7).unwrap_or(month),
        bill["as_of_position"]
    );
    let _ = writeln!(out, "  {:<34} {:>14}", "balance before", rupees(&bill["opening_balance_paise"]));
    for line in bill["lines"].as_array().into_iter().flatten() {
        let of_month = text(line, "of_month");
        let what = match text(line, "kind") {
            "correction" => {
                format!("true-up of {}, {}", of_month.get(..7).unwrap_or(of_month), text(line, "head"))
            }
            "usage" => text(line, "head").to_owned(),
            kind => format!("{kind}, {}", text(line, "head")),
        };
        let energy = line["energy_wh"].as_i64().map(kwh).unwrap_or_default();
        let _ = writeln!(out, "  {what:<34} {:>14}  {energy}", rupees(&line["amount_paise"]));
    }
    let _ = writeln!(out, "  {:<34} {:>14}", "balance after", rupees(&bill["closing_balance_paise"]));
    let _ = write!(
        out,
        "charged ₹{}, of other months ₹{}, paid ₹{}",
        rupees(&bill["usage_paise"]),
        rupees(&bill["true_up_paise"]),
        rupees(&bill["money_paise"])
    );
    out
}
