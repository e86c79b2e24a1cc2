//! The API's requests.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use model::{AccountNumber, Paise};
use serde::Deserialize;
use serde_json::json;

use crate::RechargeOutcome;
use crate::outlook::{MEAN_DAYS, outlook};
use crate::problem::Problem;
use crate::server::App;
use crate::wire::{Account, AccountList, Days, Money, RechargeReceipt, RechargeRequest, StatusBody};

/// Smallest recharge, rupees.
const LEAST_RUPEES: i64 = 100;
/// Largest recharge, rupees.
const MOST_RUPEES: i64 = 9_999_999;
/// Most accounts of one list, and how many it has where nothing is said.
const MOST_ACCOUNTS: usize = 500;
const SOME_ACCOUNTS: usize = 50;
/// Most days of one list, and how many it has where nothing is said.
const MOST_DAYS: usize = 90;
const SOME_DAYS: usize = 30;

#[derive(Deserialize)]
pub(crate) struct Limit {
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(crate) struct Count {
    count: Option<usize>,
}

pub(crate) async fn status(State(app): State<App>) -> Result<Json<StatusBody>, Problem> {
    Ok(Json(app.status.status().await?.into()))
}

pub(crate) async fn accounts(
    State(app): State<App>,
    query: Result<Query<Limit>, QueryRejection>,
) -> Result<Json<AccountList>, Problem> {
    let limit = within(query?.limit.unwrap_or(SOME_ACCOUNTS), MOST_ACCOUNTS)?;
    Ok(Json(app.consumers.accounts(limit).await?.into()))
}

pub(crate) async fn account(
    State(app): State<App>,
    Path(number): Path<String>,
) -> Result<Json<Account>, Problem> {
    let number = account_number(&number)?;
    let card = app.consumers.card(&number).await?.ok_or_else(Problem::unknown_account)?;
    // Today and two days that may still be open stand before the closed ones.
    let days = app.consumers.days(&number, MEAN_DAYS + 3).await?.ok_or_else(Problem::unknown_account)?;
    let today = app.options.zone.day_of(card.now);
    let outlook = outlook(card.view.balance(), &days);
    Ok(Json(Account::new(number.to_string(), &card, today, &days, outlook)))
}

pub(crate) async fn days(
    State(app): State<App>,
    Path(number): Path<String>,
    query: Result<Query<Count>, QueryRejection>,
) -> Result<Json<Days>, Problem> {
    let number = account_number(&number)?;
    let count = within(query?.count.unwrap_or(SOME_DAYS), MOST_DAYS)?;
    let days = app.consumers.days(&number, count).await?.ok_or_else(Problem::unknown_account)?;
    Ok(Json(Days { account_number: number.to_string(), days: days.into_iter().map(Into::into).collect() }))
}

pub(crate) async fn recharge(
    State(app): State<App>,
    Path(number): Path<String>,
    body: Result<Json<RechargeRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<RechargeReceipt>), Problem> {
    let number = account_number(&number)?;
    let Json(request) = body?;
    let amount = recharge_amount(request.amount_paise)?;
    let payment_id =
        uuid::Uuid::try_parse(&request.payment_id).map_err(|_| Problem::bad_payment_id())?.to_string();
    let (status, balance, as_of, position) = match app
        .consumers
        .recharge(&number, amount, &payment_id)
        .await?
    {
        RechargeOutcome::Posted { balance, as_of, position } => {
            (StatusCode::CREATED, balance, as_of, position)
        }
        RechargeOutcome::Exists { balance, as_of, position } => (StatusCode::OK, balance, as_of, position),
        RechargeOutcome::Differs { amount, same_account, .. } => return Err(differs(amount, same_account)),
        RechargeOutcome::UnknownAccount => return Err(Problem::unknown_account()),
    };
    let receipt = RechargeReceipt {
        payment_id,
        amount: amount.into(),
        balance: balance.into(),
        as_of: as_of.to_string(),
        position: position.0,
    };
    Ok((status, Json(receipt)))
}

/// What is no account number is no account either.
fn account_number(text: &str) -> Result<AccountNumber, Problem> {
    text.parse().map_err(|_| Problem::unknown_account())
}

fn within(count: usize, most: usize) -> Result<usize, Problem> {
    if (1..=most).contains(&count) { Ok(count) } else { Err(Problem::bad_count(most)) }
}

/// Whole rupees between the bounds.
fn recharge_amount(paise: i64) -> Result<Paise, Problem> {
    let allowed = paise % 100 == 0 && (LEAST_RUPEES..=MOST_RUPEES).contains(&(paise / 100));
    let most = Paise(MOST_RUPEES * 100).to_string();
    allowed
        .then_some(Paise(paise))
        .ok_or_else(|| Problem::bad_amount(LEAST_RUPEES, most.trim_end_matches(".00").to_owned()))
}

/// How the earlier payment differs; nothing of it is told where it belongs to another account.
fn differs(amount: Paise, same_account: bool) -> Problem {
    let problem = Problem::recharge_differs().member("same_account", json!(same_account));
    if same_account { problem.member("amount", json!(Money::from(amount))) } else { problem }
}
