//! `urja sql`: one statement.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use model::AccountNumber;
use serde_json::Value;

use crate::cli::Sql;
use crate::config::Config;
use crate::owner::Owner;

pub(super) async fn run(config: &Config, args: &Sql, as_json: bool) -> Result<ExitCode> {
    let statement = if args.statement == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        args.statement.clone()
    };
    let format = match (as_json, args.csv) {
        (true, _) => "json",
        (_, true) => "csv",
        _ => "table",
    };
    let owner = Owner::find(config).await?;
    let answer = owner.send(Method::GET, &path(&statement, format), Vec::new()).await;
    owner.close().await?;
    let answer = answer?;
    if !answer.status.is_success() {
        answer.json()?;
    }
    print!("{}", String::from_utf8_lossy(&answer.body));
    if !answer.body.ends_with(b"\n") {
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows of a statement, each an object.
pub(super) async fn rows(owner: &Owner, statement: &str) -> Result<Vec<Value>> {
    let answer = owner.send(Method::GET, &path(statement, "json"), Vec::new()).await?;
    // Half of the rows would be taken for all of them.
    ensure!(!answer.truncated, "the answer has more rows than `query.max_rows` allows; set it higher");
    match answer.json()? {
        Value::Array(rows) => Ok(rows),
        other => bail!("no rows: {other}"),
    }
}

/// The id of the account with that number.
pub(super) async fn account_id(owner: &Owner, number: &AccountNumber) -> Result<i64> {
    let found =
        rows(owner, &format!("SELECT account_id FROM account WHERE account_number = '{number}'")).await?;
    let account = found.first().and_then(|row| row["account_id"].as_i64());
    account.with_context(|| format!("{number} is not registered"))
}

fn path(statement: &str, format: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("format", format)
        .append_pair("q", statement)
        .finish();
    format!("/v1/sql?{query}")
}
