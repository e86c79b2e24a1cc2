//! Money that was taken elsewhere, over the admin socket: files of it, what came of each line, and what is in suspense.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ledger::outcome::RechargeRefusal;
use ledger::{Outcome, Payment};
use metrics::gauge;
use model::{AccountId, Fact, Paise, PaymentMisdirected, SuspenseAssigned, SuspenseReceived};
use registry::{
    BatchSummary, By, Collection, CollectionBatch, CollectionError, CollectionState, ImportError,
    MoneyChannel,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::admin::{Answer, bad_lines, registered};
use crate::credit::named;
use crate::node::{Node, digest_of};
use crate::problem::Problem;
use crate::telemetry;

/// How often what could not be booked is tried again.
const BOOK_EVERY: Duration = Duration::from_secs(30);
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
        .route("/admin/collections/open", get(open))
        .route("/admin/collections/settlements", post(settle))
        .route("/admin/suspense", get(suspense).post(assign))
        .route("/admin/misdirected", post(misdirected))
}

/// The channel of that name.
///
/// # Errors
/// Where there is none.
pub fn channel(name: &str) -> Result<MoneyChannel, Problem> {
    MoneyChannel::of(name).ok_or_else(|| {
        let words = MoneyChannel::ALL.map(MoneyChannel::name).join(", ");
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
    book(node, &CancellationToken::new()).await.map_err(|error| {
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

/// Books what waits, at once and then again and again, until `stop`: what an earlier process did not get to, and what could
/// not be booked when it came.
pub async fn run(node: Node, stop: CancellationToken) {
    loop {
        if let Err(error) = book(&node, &stop).await {
            tracing::error!(
                error = format!("{error:#}"),
                "collections that wait were not all booked; trying again"
            );
        }
        match node.registry.open_collections(0).await {
            Ok((_, counts)) => {
                for state in [CollectionState::Taken, CollectionState::Conflict, CollectionState::Refused] {
                    let count = counts.get(&state).copied().unwrap_or_default();
                    gauge!(telemetry::COLLECTIONS_OPEN, "state" => state.name()).set(count as f64);
                }
            }
            Err(error) => tracing::error!(%error, "collections cannot be counted"),
        }
        tokio::select! {
            () = tokio::time::sleep(BOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Books every payment that waits, or goes on until `stop`.
///
/// # Errors
/// When the registry or the journal fails, or the ledger keeps no more payments; what is left goes on waiting.
async fn book(node: &Node, stop: &CancellationToken) -> anyhow::Result<()> {
    let _turn = node.booking.lock().await;
    loop {
        let waiting = node.registry.collections_to_book(PAGE).await?;
        if waiting.is_empty() || stop.is_cancelled() {
            return Ok(());
        }
        let numbers = waiting.iter().map(|collection| collection.account_number.as_str());
        let accounts = node.registry.accounts_by_number(numbers).await?;
        // Looked up before, so that they reach the journal in the order of their lines.
        let each = stream::iter(waiting).map(|collection| {
            let account = accounts.get(&collection.account_number).copied();
            book_one(node, account, collection)
        });
        let done: Vec<_> = each.buffered(IN_FLIGHT).try_collect().await?;
        node.registry.collections_booked(&done).await?;
    }
}

type Booked = (i64, CollectionState, String);

const NOBODY: &str = "no account of that number is registered";
const TAKEN_BACK: &str = "it was taken back before";

async fn book_one(node: &Node, account: Option<AccountId>, collection: Collection) -> anyhow::Result<Booked> {
    let Collection { number, payment_id, amount, .. } = collection;
    let mut outcome = match account {
        Some(account) => node.recharge(account, amount, payment_id.clone()).await?.outcome,
        None => Outcome::UnknownAccount,
    };
    if let (Outcome::UnknownAccount, Some(account)) = (&outcome, account) {
        // It was registered a moment ago, and its terms are still on their way.
        node.pipeline.drain_outbox().await?;
        outcome = node.recharge(account, amount, payment_id.clone()).await?.outcome;
    }
    if outcome == Outcome::UnknownAccount {
        let received = SuspenseReceived { payment_id: payment_id.clone(), amount };
        outcome = node.pipeline.append(Fact::SuspenseReceived(received)).await?.outcome;
    }
    let (state, said) = noted(node, &payment_id, amount, outcome).await?;
    Ok((number, state, said))
}

/// What is noted of a payment that the ledger was told of.
async fn noted(
    node: &Node,
    payment_id: &str,
    amount: Paise,
    outcome: Outcome,
) -> anyhow::Result<(CollectionState, String)> {
    let held = || (CollectionState::Suspense, NOBODY.to_owned());
    match outcome {
        Outcome::RechargePosted { .. } => Ok((CollectionState::Booked, String::new())),
        Outcome::HeldInSuspense => Ok(held()),
        Outcome::RechargeRefused(RechargeRefusal::Full) => anyhow::bail!("{outcome}"),
        Outcome::RechargeExists { .. } | Outcome::RechargeDiffers { .. } => {
            let id = payment_id.to_owned();
            let known = node.pipeline.look(move |fold| fold.has_payment(&id).cloned()).await?;
            let Some(known) = known else {
                anyhow::bail!("a payment that exists is not there: {payment_id}")
            };
            let is_its_amount = known.amount == amount;
            if is_its_amount && known.reversed.is_some() {
                Ok((CollectionState::Refused, TAKEN_BACK.to_owned()))
            } else if is_its_amount && known.is_in_suspense() {
                Ok(held())
            } else if matches!(outcome, Outcome::RechargeExists { .. }) {
                Ok((CollectionState::Booked, String::new()))
            } else {
                Ok((CollectionState::Conflict, contradicts(node, &known).await?))
            }
        }
        other => Ok((CollectionState::Refused, other.to_string())),
    }
}

async fn contradicts(node: &Node, known: &Payment) -> Result<String, registry::Error> {
    let info = node.registry.accounts_by_id(&[known.account]).await?;
    let whose = info.first().map_or("nobody yet", |info| info.number.as_str());
    Ok(format!("the ledger has ₹{} for {whose} under this id", known.amount))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenRequest {
    limit: usize,
}

/// What of all files waits for a process or a person.
async fn open(State(node): State<Node>, Query(request): Query<OpenRequest>) -> Answer {
    let limit = request.limit.min(MAX_LISTED);
    let (found, counts) = node.registry.open_collections(limit).await.map_err(Problem::internal)?;
    let counts: serde_json::Map<String, Value> =
        counts.into_iter().map(|(state, count)| (state.name().to_owned(), count.into())).collect();
    let rows = found.iter().map(|collection| {
        let mut row = line(collection);
        row["batch"] = collection.batch.as_str().into();
        row
    });
    Ok(Json(json!({ "counts": counts, "lines": rows.collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleRequest {
    channel: String,
    batch: String,
    line: u64,
    reason: String,
    by: String,
}

async fn settle(State(node): State<Node>, Json(request): Json<SettleRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (of, reason) = (channel(&request.channel)?, named("reason", &request.reason)?);
    let SettleRequest { batch, line, .. } = &request;
    let settled = node.registry.settle_collection(of, batch, *line, reason, by);
    if !settled.await.map_err(Problem::internal)? {
        let detail = format!("line {line} of batch {batch} is neither a conflict nor refused");
        return Err(Problem::missing("nothing to settle", detail));
    }
    Ok(Json(json!({ "outcome": "settled", "batch": batch, "line": line })))
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
    let mut told: HashMap<String, Vec<Value>> = HashMap::new();
    for it in node.registry.collections_of(&ids).await.map_err(Problem::internal)? {
        let file = json!({ "batch": it.batch, "line": it.line, "account_number": it.account_number,
                           "state": it.state.name() });
        told.entry(it.payment_id).or_default().push(file);
    }
    let row = |payment: &Payment| {
        json!({
            "payment_id": payment.id,
            "amount_paise": payment.amount.0,
            "since": payment.at.to_string(),
            "files": told.get(&*payment.id).map_or(&[][..], Vec::as_slice),
        })
    };
    let rows: Vec<Value> = held.iter().map(row).collect();
    Ok(Json(json!({ "payments": count, "amount_paise": amount.0, "held": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    payment_id: String,
    account: String,
    by: String,
}

/// What a person wants moved, and the payment as it stands.
async fn to_move<'a>(
    node: &Node,
    request: &'a MoveRequest,
) -> Result<(By<'a>, String, AccountId, Payment), Problem> {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (number, account) = registered(node, &request.account).await?;
    let id = request.payment_id.clone();
    let known = node.pipeline.look(move |fold| fold.has_payment(&id).cloned());
    let known = known.await.map_err(Problem::internal)?;
    let known = known.ok_or_else(|| {
        Problem::missing(
            "no such payment",
            format!("no payment of the id {:?} was booked", request.payment_id),
        )
    })?;
    Ok((by, number.to_string(), account, known))
}

async fn assign(State(node): State<Node>, Json(request): Json<MoveRequest>) -> Answer {
    let (by, number, account, known) = to_move(&node, &request).await?;
    let MoveRequest { payment_id, .. } = &request;
    // Before it is done, and only then: what a person does with money is never without a line.
    if known.is_in_suspense() {
        let noted = node.registry.note_money("assign from suspense", payment_id, &number, by);
        noted.await.map_err(Problem::internal)?;
    }
    let assigned = SuspenseAssigned { payment_id: payment_id.clone(), account };
    let applied = node.pipeline.append(Fact::SuspenseAssigned(assigned)).await.map_err(Problem::internal)?;
    let (word, balance) = match applied.outcome {
        Outcome::RechargePosted { balance, .. } => ("assigned", Some(balance.0)),
        Outcome::RechargeExists { .. } => ("exists", None),
        Outcome::NotInSuspense { account } => {
            return Err(stands(&node, "nothing was assigned", account).await);
        }
        other => return Err(Problem::conflict("nothing was assigned", other.to_string())),
    };
    node.supply.wake(account);
    let position = applied.position.0;
    Ok(Json(json!({
        "outcome": word, "payment_id": payment_id, "account": number, "position": position,
        "balance_paise": balance,
    })))
}

/// Takes a payment from an account that it is not for into suspense.
async fn misdirected(State(node): State<Node>, Json(request): Json<MoveRequest>) -> Answer {
    let (by, number, account, known) = to_move(&node, &request).await?;
    let MoveRequest { payment_id, .. } = &request;
    if known.account == account && known.reversed.is_none() {
        let noted = node.registry.note_money("misdirected payment", payment_id, &number, by);
        noted.await.map_err(Problem::internal)?;
    }
    let misdirected = PaymentMisdirected { payment_id: payment_id.clone(), account };
    let applied = node.pipeline.append(Fact::PaymentMisdirected(misdirected)).await;
    let applied = applied.map_err(Problem::internal)?;
    match applied.outcome {
        Outcome::PaymentReversed { amount, balance, .. } => Ok(Json(json!({
            "outcome": "in_suspense", "payment_id": payment_id, "account": number,
            "position": applied.position.0, "amount_paise": amount.0, "balance_paise": balance.0,
        }))),
        Outcome::NotAtAccount { account } => Err(stands(&node, "nothing was moved", account).await),
        other => Err(Problem::conflict("nothing was moved", other.to_string())),
    }
}

/// Says where a payment is that is not where it was said to be.
async fn stands(node: &Node, title: &str, account: AccountId) -> Problem {
    if account == AccountId::SUSPENSE {
        return Problem::conflict(title, "it is in suspense, or was taken back out of it");
    }
    match node.registry.accounts_by_id(&[account]).await {
        Ok(info) => {
            let whose = info.first().map_or_else(|| account.to_string(), |info| info.number.to_string());
            Problem::conflict(title, format!("it is booked to {whose}, or was taken back from there"))
        }
        Err(error) => Problem::internal(error),
    }
}
