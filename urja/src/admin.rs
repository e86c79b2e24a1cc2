//! Routes of the admin socket: what commands ask of the owner of a data directory.
//!
//! The socket is a file in the data directory, which only its user can enter; that is the permission.

use std::path::Path;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use ledger::Outcome;
use ledger::credit::amount_to_keep;
use ledger::outcome::MAX_PAYMENT_ID_BYTES;
use model::view::TermsView;
use model::{AccountId, AccountNumber, CivilDay, Fact, Instant, Paise, PaymentReversed, ReversalReason};
use registry::By;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::credit::named;
use crate::node::{ImportError, Node, TermsChange};
use crate::owner::SOCKET;
use crate::problem::Problem;
use crate::session::{ReadRequest, RelayRequest};

/// An import of a million lines is some 200 MB.
const BODY_BYTES: usize = 512 << 20;

/// All routes.
pub fn router(node: Node) -> Router {
    let routes = Router::new()
        .route("/admin/meters", post(import_meters))
        .route("/admin/meters/keys", post(rekey_meters))
        .route("/admin/accounts", post(import_accounts))
        .route("/admin/accounts/terms", post(change_account))
        .route("/admin/tariffs", post(apply_tariff).get(list_tariffs))
        .route("/admin/recharges", post(recharge).get(preview))
        .route("/admin/reversals", post(reverse))
        .route("/admin/clock", post(drive_clock))
        .route("/admin/checkpoint", post(checkpoint))
        .route("/admin/read", post(read_meter))
        .route("/admin/relay", post(switch_relay))
        .route("/admin/status", get(status))
        .route("/admin/lake", get(lake))
        .merge(crate::credit::router())
        .merge(crate::supply::router())
        .merge(crate::collections::router())
        .merge(crate::reconcile::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(node.clone());
    #[cfg(feature = "query")]
    let routes = routes.merge(query::router(node.engine.clone()));
    routes
}

/// Answers on the socket until `stop`.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: UnixListener, node: Node, stop: CancellationToken) -> Result<()> {
    let path = node.config.data.dir.join(SOCKET);
    let served = axum::serve(listener, router(node)).with_graceful_shutdown(stop.cancelled_owned()).await;
    let _ = std::fs::remove_file(&path);
    served.context("admin socket")
}

/// Makes the socket in a data directory: from here on a command finds its owner.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(dir: &Path) -> Result<UnixListener> {
    let path = &dir.join(SOCKET);
    // The lock is ours, so a socket that is there was left by a process that died.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
        .with_context(|| format!("cannot listen on {} (a path of 107 bytes at most)", path.display()))
}

/// What a route answers.
pub type Answer = Result<Json<Value>, Problem>;

async fn import_meters(State(node): State<Node>, body: axum::body::Bytes) -> Answer {
    imported("added", node.import_meters(&body).await)
}

async fn rekey_meters(State(node): State<Node>, body: axum::body::Bytes) -> Answer {
    imported("rekeyed", node.rekey_meters(&body).await)
}

async fn import_accounts(State(node): State<Node>, body: axum::body::Bytes) -> Answer {
    imported("added", node.import_accounts(&body).await)
}

fn imported(what: &str, result: Result<registry::Imported, ImportError>) -> Answer {
    match result {
        Ok(done) => {
            Ok(Json(json!({ what: done.added, "updated": done.updated, "unchanged": done.unchanged })))
        }
        Err(ImportError::Registry(registry::ImportError::Lines(bad))) => Err(bad_lines(&bad)),
        Err(ImportError::Registry(registry::ImportError::Registry(error))) => {
            Err(Problem::internal(format!("nothing was imported: {:#}", anyhow::Error::from(error))))
        }
        Err(error @ (ImportError::Registry(_) | ImportError::Refused(_))) => {
            Err(Problem::refused("the file was refused", error.to_string()))
        }
        Err(error @ ImportError::Journal(_)) => Err(Problem::internal(error)),
    }
}

/// What is wrong with a file, line by line.
pub fn bad_lines(bad: &registry::BadLines) -> Problem {
    let lines: Vec<Value> = bad
        .listed
        .iter()
        .map(|bad| json!({ "line": bad.line, "column": bad.column, "reason": bad.reason }))
        .collect();
    let detail = format!("{} bad lines; nothing was changed", bad.total);
    Problem::refused("the file was refused", detail).with(json!({ "lines": lines }))
}

async fn apply_tariff(State(node): State<Node>, body: String) -> Answer {
    let applied = match node.apply_tariff(body).await {
        Ok(applied) => applied,
        Err(error) => match error.downcast_ref::<ledger::RuleError>() {
            Some(fault) => return Err(Problem::refused("the tariff was refused", fault.to_string())),
            None => return Err(Problem::internal(format!("{error:#}"))),
        },
    };
    match applied.outcome {
        Outcome::TariffApplied => Ok(Json(json!({ "outcome": "applied", "position": applied.position.0 }))),
        Outcome::TariffExists => Ok(Json(json!({ "outcome": "exists", "position": applied.position.0 }))),
        other => Err(Problem::conflict("the tariff was refused", other.to_string())),
    }
}

async fn list_tariffs(State(node): State<Node>) -> Answer {
    let tariffs = node.pipeline.look(|fold| fold.tariffs()).await.map_err(Problem::internal)?;
    let rows: Vec<Value> = tariffs
        .iter()
        .map(|tariff| {
            json!({ "name": tariff.name, "from": tariff.from.to_string(), "digest": tariff.digest.to_string() })
        })
        .collect();
    Ok(Json(json!({ "tariffs": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    account: String,
    from: String,
    category: Option<String>,
    sanctioned_w: Option<u32>,
}

async fn change_account(State(node): State<Node>, Json(request): Json<ChangeRequest>) -> Answer {
    let from: CivilDay = request
        .from
        .parse()
        .map_err(|error: model::time::TimeError| Problem::refused("not a day", error.to_string()))?;
    let (number, account) = registered(&node, &request.account).await?;
    if let Some(name) = &request.category {
        let tariffs = node.pipeline.look(|fold| fold.tariffs()).await.map_err(Problem::internal)?;
        if !tariffs.iter().any(|tariff| tariff.name == *name) {
            let detail =
                format!("no tariff is named {name:?}; `urja tariff list` has those that are applied");
            return Err(Problem::refused("no such tariff", detail));
        }
    }
    let change = TermsChange { tariff: request.category, sanctioned_w: request.sanctioned_w };
    let changed = node.change_account(account, from, change).await;
    let (terms, outcome, later) = changed.map_err(|error| Problem::internal(format!("{error:#}")))?;
    if !outcome.is_success() {
        return Err(Problem::conflict("the terms were refused", outcome.to_string()));
    }
    let said = |terms: &TermsView| {
        json!({
            "from": terms.from.to_string(),
            "category": terms.tariff,
            "sanctioned_w": terms.sanctioned_w,
        })
    };
    let later: Vec<Value> = later.iter().map(said).collect();
    let mut answer = said(&terms);
    answer["account"] = number.to_string().into();
    answer["later"] = later.into();
    Ok(Json(answer))
}

/// The account of that number.
///
/// # Errors
/// Where none is registered.
pub async fn registered(node: &Node, number: &str) -> Result<(AccountNumber, AccountId), Problem> {
    let number: AccountNumber = number
        .parse()
        .map_err(|error: model::ids::IdError| Problem::refused("no such account", error.to_string()))?;
    let found = node.registry.account_by_number(&number).await.map_err(Problem::internal)?;
    let account = found.ok_or_else(|| {
        Problem::missing(
            "no such account",
            format!("{number} is not registered; import it with `urja account import`"),
        )
    })?;
    Ok((number, account))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RechargeRequest {
    account: String,
    amount_paise: i64,
    payment_id: String,
}

async fn recharge(State(node): State<Node>, Json(request): Json<RechargeRequest>) -> Answer {
    let (_, account) = registered(&node, &request.account).await?;
    let applied = node
        .recharge(account, Paise(request.amount_paise), request.payment_id)
        .await
        .map_err(|error| Problem::internal(format!("{error:#}")))?;
    let (word, off) = match &applied.outcome {
        Outcome::RechargePosted { arrears, .. } => ("posted", Some(arrears.0)),
        Outcome::RechargeExists { .. } => ("exists", None),
        other => return Err(Problem::conflict("the recharge was refused", other.to_string())),
    };
    let view = node.pipeline.look(move |fold| fold.account(account)).await.map_err(Problem::internal)?;
    let (balance, arrears) = view.map(|view| (view.balance().0, view.arrears.0)).unzip();
    Ok(Json(json!({
        "outcome": word,
        "position": applied.position.0,
        "paid_off_paise": off,
        "arrears_paise": arrears,
        "balance_paise": balance,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReversalRequest {
    payment_id: String,
    reason: String,
    by: String,
}

/// Takes a payment back: a refund, a chargeback, a cheque that bounced, a mistake.
async fn reverse(State(node): State<Node>, Json(request): Json<ReversalRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let reason = ReversalReason::ALL.into_iter().find(|reason| reason.name() == request.reason);
    let reason = reason.ok_or_else(|| {
        let words: Vec<&str> = ReversalReason::ALL.iter().map(|reason| reason.name()).collect();
        Problem::refused("no such reason", format!("{:?} is none of {}", request.reason, words.join(", ")))
    })?;
    let id = request.payment_id.clone();
    let looked =
        node.pipeline.look(move |fold| fold.has_payment(&id).map(|payment| payment.reversed.is_none()));
    // Before it is done, and only then: what a person does with money is never without a line.
    if looked.await.map_err(Problem::internal)? == Some(true) {
        let noted = node.registry.note_money("reverse payment", &request.payment_id, reason.name(), by);
        noted.await.map_err(Problem::internal)?;
    }
    if request.payment_id.len() > MAX_PAYMENT_ID_BYTES {
        let detail = format!("a payment id has {MAX_PAYMENT_ID_BYTES} bytes at most");
        return Err(Problem::refused("no such payment", detail));
    }
    let reversed = PaymentReversed { payment_id: request.payment_id.clone(), reason };
    let applied = node.pipeline.append(Fact::PaymentReversed(reversed)).await.map_err(Problem::internal)?;
    let (word, account, amount, balance) = match applied.outcome {
        Outcome::PaymentReversed { account, amount, balance } => {
            ("reversed", Some(account), Some(amount.0), Some(balance.0))
        }
        Outcome::ReversalExists { .. } => ("exists", None, None, None),
        other => return Err(Problem::conflict("nothing was taken back", other.to_string())),
    };
    let info = match account {
        Some(account) => node.registry.accounts_by_id(&[account]).await.map_err(Problem::internal)?,
        None => Vec::new(),
    };
    Ok(Json(json!({
        "outcome": word,
        "payment_id": request.payment_id,
        "position": applied.position.0,
        "account": info.first().map(|info| info.number.to_string()),
        "amount_paise": amount,
        "balance_paise": balance,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewRequest {
    account: String,
    amount_paise: i64,
}

/// What would come of a recharge: shown before it is paid.
async fn preview(State(node): State<Node>, Query(request): Query<PreviewRequest>) -> Answer {
    let (_, account) = registered(&node, &request.account).await?;
    let amount = Paise(request.amount_paise);
    let day = node.calendar.day_of(node.pipeline.clock().now());
    let look = move |fold: &ledger::Fold| {
        let view = fold.account(account)?;
        let policy = fold.credit_policy_on(day);
        let off = policy.map_or(Paise::ZERO, |policy| policy.arrears_share(amount, view.arrears));
        Some((off, view.arrears - off, view.balance() + amount - off, amount_to_keep(policy, &view)))
    };
    let looked = node.pipeline.look(look).await.map_err(Problem::internal)?;
    let (off, arrears, balance, keep) =
        looked.ok_or_else(|| Problem::missing("no such account", "the ledger does not know it yet"))?;
    Ok(Json(json!({
        "outcome": "preview",
        "paid_off_paise": off.0,
        "arrears_paise": arrears.0,
        "balance_paise": balance.0,
        "amount_to_keep_paise": keep.0,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockRequest {
    now: String,
}

async fn drive_clock(State(node): State<Node>, Json(request): Json<ClockRequest>) -> Answer {
    let now: Instant = request
        .now
        .parse()
        .map_err(|error: model::time::TimeError| Problem::refused("not an instant", error.to_string()))?;
    let closed = node.drive_clock(now).await.map_err(|error| {
        let text = format!("{error:#}");
        let is_ours = error.is::<ingest::PipelineError>();
        if is_ours { Problem::internal(text) } else { Problem::conflict("the clock was not set", text) }
    })?;
    let standing = node.pipeline.look(|fold| fold.standing()).await.map_err(Problem::internal)?;
    Ok(Json(json!({
        "now": now.to_string(),
        "closed": closed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "closed_until": standing.closed_until.map(|day| day.to_string()),
    })))
}

async fn read_meter(State(node): State<Node>, Json(request): Json<ReadRequest>) -> Answer {
    crate::session::read(&node, request).await.map(Json)
}

async fn switch_relay(State(node): State<Node>, Json(request): Json<RelayRequest>) -> Answer {
    crate::session::relay(&node, request).await.map(Json)
}

async fn checkpoint(State(node): State<Node>) -> Answer {
    let position = node.pipeline.checkpoint().await.map_err(Problem::internal)?;
    Ok(Json(json!({ "position": position.0 })))
}

async fn status(State(node): State<Node>) -> Answer {
    crate::status::read(&node).await.map(Json).map_err(Problem::internal)
}

#[derive(Deserialize)]
struct LakeRequest {
    verify: bool,
}

async fn lake(State(node): State<Node>, Query(request): Query<LakeRequest>) -> Answer {
    let report = tokio::task::spawn_blocking(move || crate::status::lake(&node.lake, request.verify));
    report.await.map(Json).map_err(Problem::internal)
}
