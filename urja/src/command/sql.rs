//! `urja sql`: one statement.

use std::process::ExitCode;

use anyhow::Result;
use axum::http::Method;

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
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("format", format)
        .append_pair("q", &statement)
        .finish();
    let owner = Owner::find(config).await?;
    let answer = owner.send(Method::GET, &format!("/v1/sql?{query}"), Vec::new()).await;
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
