//! Cuts and reconnections over the admin socket: how far each has come, and what stops all cuts.

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::Instant;
use registry::{Approval, By, Freeze, SupplyCommand, SupplyKind, SupplyTicket};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Answer, registered};
use crate::credit::named;
use crate::node::Node;
use crate::problem::Problem;

/// Most commands of one answer.
const MAX_LISTED: usize = 10_000;

/// The routes.
pub fn router() -> Router<Node> {
    Router::new()
        .route("/admin/supply", get(status))
        .route("/admin/supply/commands", get(list))
        .route("/admin/supply/freeze", post(freeze))
        .route("/admin/supply/thaw", post(thaw))
}

async fn status(State(node): State<Node>) -> Answer {
    let now = node.pipeline.clock().now();
    let registry = &node.registry;
    let ask = async {
        let hour = registry.cuts_sent(now.plus_seconds(-3600), None).await?;
        let day = registry.cuts_sent(now.plus_seconds(-86_400), None).await?;
        let (accounts, frozen) = (registry.account_count().await?, registry.cut_freeze().await?);
        let cuts = registry.open_supply(SupplyKind::Cut).await?;
        let reconnections = registry.open_supply(SupplyKind::Reconnect).await?;
        let dark = registry.open_cuts(None).await?;
        Ok::<_, registry::Error>((accounts, hour, day, frozen, cuts, reconnections, dark))
    };
    let (accounts, hour, day, frozen, cuts, reconnections, dark) = ask.await.map_err(Problem::internal)?;
    let options = node.config.supply_options();
    let is_late = |command: &&SupplyCommand| now.seconds() - command.ticket.since.seconds() > options.late_s;
    Ok(Json(json!({
        "cuts": if options.cuts { "on" } else { "off" },
        "frozen": frozen.as_ref().map(freeze_row),
        "accounts": accounts,
        "cut_in_the_last_hour": hour,
        "cut_in_the_last_day": day,
        "budget_left": options.budget.left(accounts, hour, day),
        "cuts_under_way": cuts.len(),
        "reconnections_under_way": reconnections.len(),
        "late": reconnections.iter().filter(is_late).count(),
        "without_supply": dark.iter().filter(|cut| cut.is_dark).count(),
    })))
}

fn freeze_row(freeze: &Freeze) -> Value {
    let thaw = freeze.thaw.as_ref().map(|(by, at)| json!({ "by": by, "at": at.to_string() }));
    json!({ "at": freeze.at.to_string(), "by": freeze.person, "reason": freeze.reason, "thaw_asked": thaw })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRequest {
    account: Option<String>,
    limit: usize,
}

async fn list(State(node): State<Node>, Query(request): Query<ListRequest>) -> Answer {
    let only = match &request.account {
        None => None,
        Some(number) => Some(registered(&node, number).await?.1),
    };
    let limit = request.limit.min(MAX_LISTED);
    let found = node.registry.supply_commands(only, limit).await.map_err(Problem::internal)?;
    let mut accounts: Vec<_> = found.iter().map(|command| command.ticket.account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let infos = ingest::supply::infos_of(&node.registry, &accounts).await.map_err(Problem::internal)?;
    let rows: Vec<Value> = found
        .iter()
        .map(|command| {
            let number = infos.get(&command.ticket.account).map(|info| info.number.to_string());
            row(command, number.as_deref())
        })
        .collect();
    Ok(Json(json!({ "commands": rows, "may_have_more": found.len() == limit })))
}

fn row(command: &SupplyCommand, number: Option<&str>) -> Value {
    let SupplyTicket { id, kind, reason, evidence, since, queued_at, expires_at, meter, .. } =
        &command.ticket;
    let at = |at: Option<Instant>| at.map(|at| at.to_string());
    json!({
        "id": id.to_string(),
        "account": number,
        "meter_id": meter.0,
        "kind": kind.name(),
        "reason": reason,
        "evidence": serde_json::from_str::<Value>(evidence).unwrap_or_default(),
        "genuine": command.is_genuine,
        "state": command.state.name(),
        "tries": command.tries,
        "since": since.to_string(),
        "queued_at": queued_at.to_string(),
        "expires_at": at(*expires_at),
        "sent_at": at(command.sent_at),
        "ready_at": at(command.ready_at),
        "confirmed_at": at(command.confirmed_at),
        "event_at": at(command.event_at),
        "ended_at": at(command.ended_at),
        "restored_at": at(command.restored_at),
        "said": command.said,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeRequest {
    reason: String,
    by: String,
}

async fn freeze(State(node): State<Node>, Json(request): Json<FreezeRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let reason = named("reason", &request.reason)?;
    node.registry.freeze_cuts(reason, by).await.map_err(Problem::internal)?;
    let frozen = node.registry.cut_freeze().await.map_err(Problem::internal)?;
    Ok(Json(json!({ "cuts": "frozen", "frozen": frozen.as_ref().map(freeze_row) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThawRequest {
    by: String,
}

async fn thaw(State(node): State<Node>, Json(request): Json<ThawRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    match node.registry.thaw_cuts(by).await.map_err(Problem::internal)? {
        None => Err(Problem::conflict("nothing was changed", "cuts are not frozen")),
        Some(Approval::SamePerson) => {
            let detail = "who asked for it cannot approve it: another person has to";
            Err(Problem::conflict("cuts stay frozen", detail))
        }
        Some(Approval::NotAsked) => Ok(Json(json!({ "cuts": "frozen", "thaw": "asked" }))),
        Some(Approval::Approved | Approval::Already) => Ok(Json(json!({ "cuts": "thawed" }))),
    }
}
