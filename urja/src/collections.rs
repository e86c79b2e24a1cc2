//! Money that was taken elsewhere, over the admin socket: files of it, what came of each line, and what is in suspense.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ledger::outcome::RechargeRefusal;
use ledger::{Outcome, Payment};
use model::{AccountId, AccountNumber, Fact, Paise, SuspenseAssigned, SuspenseReceived};
use registry::{
    BatchSummary, By, Channel, Collection, CollectionBatch, CollectionError, CollectionState, ImportError,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Answer, bad_lines, registered};
use crate::credit::named;
use crate::node::{Node, digest_of};
use crate::problem::Problem;

/// Payments that are noted as booked with one commit.
const PAGE: usize = 1000;
/// Payments on their way to the journal at once: one sync serves many.
const IN_FLIGHT: usize = 128;
/// Most lines of one answer.
const MAX_LISTED: usize = 10_000;

/// The routes.
pub fn router() -> Router<Node> {
    Router::new()
        .route("/admin/collections", post(take).get(list))
        .route("/admin/collections/lines", get(lines))
        .route("/admin/suspense", get(suspense).post(assign))
}

/// The channel of that name.
///
/// # Errors
/// Where there is none.
pub fn channel(name: &str) -> Result<Channel, Problem> {
    Channel::of(name).ok_or_else(|| {
        let words = Channel::ALL.map(Channel::name).join(", ");
        Problem::refused("no such channel", format!("{name:?} is none of {words}"))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeRequest {
    channel: String,
    batch: String,
    lines: u64,
    amount_paise: i64,
    by: String,
}

async fn take(State(node): State<Node>, Query(request): Query<TakeRequest>, csv: Bytes) -> Answer {
    // What was begun goes on when whoever asked has gone.
    let done = tokio::spawn(async move { take_and_book(&node, &request, &csv).await }).await;
    done.map_err(Problem::internal)?
}

async fn take_and_book(node: &Node, request: &TakeRequest, csv: &[u8]) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let channel = channel(&request.channel)?;
    let batch = CollectionBatch {
        channel,
        id: &request.batch,
        lines: request.lines,
        amount: Paise(request.amount_paise),
        digest: digest_of(csv).0,
    };
    let is_new = node.registry.take_collections(csv, &batch, by).await.map_err(refused)?;
    book(node).await.map_err(|error| {
        Problem::internal(format!("the file was taken, and not all of it is booked: {error:#}"))
    })?;
    let found = node.registry.collection_batches(Some(channel), Some(batch.id), 1).await;
    let mut answer = found.map_err(Problem::internal)?.first().map(summary).unwrap_or_default();
    answer["outcome"] = if is_new { "taken" } else { "exists" }.into();
    Ok(Json(answer))
}

fn refused(error: CollectionError) -> Problem {
    match error {
        CollectionError::Import(ImportError::Lines(bad)) => bad_lines(&bad),
        CollectionError::Import(ImportError::Registry(error)) => {
            Problem::internal(format!("nothing was taken: {:#}", anyhow::Error::from(error)))
        }
        CollectionError::OtherFile(_) => Problem::conflict("the file was refused", error.to_string()),
        error => Problem::refused("the file was refused", error.to_string()),
    }
}

/// Books every payment that waits; what an earlier process took and did not get to as well.
///
/// # Errors
/// When the registry or the journal fails, or the ledger keeps no more payments; what is left goes on waiting.
pub async fn book(node: &Node) -> anyhow::Result<()> {
    let _turn = node.booking.lock().await;
    loop {
        let waiting = node.registry.collections_to_book(PAGE).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let mut known = Vec::with_capacity(waiting.len());
        for collection in waiting {
            known.push((account_of(node, &collection.account_number).await?, collection));
        }
        // Looked up before, so that they reach the journal in the order of their lines.
        let each = stream::iter(known).map(|(account, collection)| book_one(node, account, collection));
        let done: Vec<_> = each.buffered(IN_FLIGHT).try_collect().await?;
        node.registry.collections_booked(&done).await?;
    }
}

type Booked = (i64, CollectionState, String);

/// The account of a number as a file has it; none where it is no number, or nobody's.
async fn account_of(node: &Node, number: &str) -> Result<Option<AccountId>, registry::Error> {
    match number.parse::<AccountNumber>() {
        Ok(number) => node.registry.account_by_number(&number).await,
        Err(_) => Ok(None),
    }
}

async fn book_one(node: &Node, account: Option<AccountId>, collection: Collection) -> anyhow::Result<Booked> {
    let Collection { number, payment_id, amount, .. } = collection;
    let Some(account) = account else { return hold(node, number, payment_id, amount).await };
    let outcome = node.recharge(account, amount, payment_id.clone()).await?.outcome;
    let (state, said) = match outcome {
        Outcome::RechargePosted { .. } | Outcome::RechargeExists { .. } => {
            (CollectionState::Booked, String::new())
        }
        Outcome::UnknownAccount => return hold(node, number, payment_id, amount).await,
        // It was held before an end in between, and its account came meanwhile.
        Outcome::RechargeDiffers { account: AccountId::SUSPENSE, amount: held, .. } if held == amount => {
            (CollectionState::Suspense, NOBODY.to_owned())
        }
        other => contradicted(other)?,
    };
    Ok((number, state, said))
}

const NOBODY: &str = "no account of that number is registered";

async fn hold(node: &Node, number: i64, payment_id: String, amount: Paise) -> anyhow::Result<Booked> {
    let received = SuspenseReceived { payment_id, amount };
    let outcome = node.pipeline.append(Fact::SuspenseReceived(received)).await?.outcome;
    let (state, said) = match outcome {
        Outcome::HeldInSuspense | Outcome::RechargeExists { .. } => {
            (CollectionState::Suspense, NOBODY.to_owned())
        }
        other => contradicted(other)?,
    };
    Ok((number, state, said))
}

fn contradicted(outcome: Outcome) -> anyhow::Result<(CollectionState, String)> {
    match outcome {
        Outcome::RechargeRefused(RechargeRefusal::Full) => anyhow::bail!("{outcome}"),
        Outcome::RechargeDiffers { .. } => Ok((CollectionState::Conflict, outcome.to_string())),
        other => Ok((CollectionState::Refused, other.to_string())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRequest {
    channel: Option<String>,
    limit: usize,
}

async fn list(State(node): State<Node>, Query(request): Query<ListRequest>) -> Answer {
    let only = request.channel.as_deref().map(channel).transpose()?;
    let limit = request.limit.min(MAX_LISTED);
    let found = node.registry.collection_batches(only, None, limit).await.map_err(Problem::internal)?;
    let rows: Vec<Value> = found.iter().map(summary).collect();
    Ok(Json(json!({ "batches": rows, "may_have_more": rows.len() == limit })))
}

fn summary(batch: &BatchSummary) -> Value {
    let states: serde_json::Map<String, Value> = batch
        .by_state
        .iter()
        .map(|(state, lines, amount)| {
            (state.name().to_owned(), json!({ "lines": lines, "amount_paise": amount.0 }))
        })
        .collect();
    json!({
        "channel": batch.channel,
        "batch": batch.batch,
        "taken_by": batch.taken.0,
        "taken_at": batch.taken.1.to_string(),
        "lines": batch.total.0,
        "amount_paise": batch.total.1.0,
        "states": states,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesRequest {
    channel: String,
    batch: String,
    state: Option<String>,
    limit: usize,
}

async fn lines(State(node): State<Node>, Query(request): Query<LinesRequest>) -> Answer {
    let of = channel(&request.channel)?;
    let limit = request.limit.min(MAX_LISTED);
    let states: Vec<CollectionState> = CollectionState::ALL
        .into_iter()
        .filter(|state| request.state.as_deref().is_none_or(|name| name == state.name()))
        .collect();
    if states.is_empty() {
        let words = CollectionState::ALL.map(CollectionState::name).join(", ");
        return Err(Problem::refused("no such state", format!("states are {words}")));
    }
    let found = node.registry.collections_in(of, &request.batch, &states, limit);
    let rows: Vec<Value> = found.await.map_err(Problem::internal)?.iter().map(line).collect();
    Ok(Json(json!({ "lines": rows, "may_have_more": rows.len() == limit })))
}

fn line(collection: &Collection) -> Value {
    json!({
        "line": collection.line,
        "payment_id": collection.payment_id,
        "account_number": collection.account_number,
        "amount_paise": collection.amount.0,
        "paid_on": collection.paid_on.to_string(),
        "state": collection.state.name(),
        "said": collection.said,
    })
}

async fn suspense(State(node): State<Node>) -> Answer {
    let held = node.pipeline.study(|fold| {
        let held = fold.payments().filter(|payment| payment.is_in_suspense());
        let (mut lines, mut paise, mut first) = (0_u64, Paise::ZERO, Vec::new());
        for payment in held {
            lines += 1;
            paise += payment.amount;
            if first.len() < MAX_LISTED {
                first.push(payment.clone());
            }
        }
        (lines, paise, first)
    });
    let (count, amount, held) = held.await.map_err(Problem::internal)?;
    let ids: Vec<String> = held.iter().map(|payment| payment.id.to_string()).collect();
    let told = node.registry.collections_of(&ids).await.map_err(Problem::internal)?;
    let row = |payment: &Payment| {
        let told = told.iter().filter(|it| *it.payment_id == *payment.id);
        let told: Vec<Value> = told
            .map(|it| {
                json!({ "batch": it.batch, "line": it.line, "account_number": it.account_number,
                        "state": it.state.name() })
            })
            .collect();
        json!({
            "payment_id": payment.id,
            "amount_paise": payment.amount.0,
            "since": payment.at.to_string(),
            "files": told,
        })
    };
    let rows: Vec<Value> = held.iter().map(row).collect();
    Ok(Json(json!({ "payments": count, "amount_paise": amount.0, "held": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignRequest {
    payment_id: String,
    account: String,
    by: String,
}

async fn assign(State(node): State<Node>, Json(request): Json<AssignRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (number, account) = registered(&node, &request.account).await?;
    let id = request.payment_id.clone();
    let looked = node.pipeline.look(move |fold| fold.has_payment(&id).is_some_and(Payment::is_in_suspense));
    // Before it is done, and only then: what a person does with money is never without a line.
    if looked.await.map_err(Problem::internal)? {
        let noted =
            node.registry.note_money("assign from suspense", &request.payment_id, number.as_str(), by);
        noted.await.map_err(Problem::internal)?;
    }
    let assigned = SuspenseAssigned { payment_id: request.payment_id.clone(), account };
    let applied = node.pipeline.append(Fact::SuspenseAssigned(assigned)).await.map_err(Problem::internal)?;
    let (word, balance) = match applied.outcome {
        Outcome::RechargePosted { balance, .. } => ("assigned", Some(balance.0)),
        Outcome::RechargeExists { .. } => ("exists", None),
        other => return Err(Problem::conflict("nothing was assigned", other.to_string())),
    };
    node.supply.wake(account);
    Ok(Json(json!({
        "outcome": word,
        "payment_id": request.payment_id,
        "account": number.to_string(),
        "position": applied.position.0,
        "balance_paise": balance,
    })))
}
