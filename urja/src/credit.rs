//! Credit control over the admin socket: policies, notices, where cuts are enabled, what holds one, and who is due.

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use ingest::supply::{Decided, Due, Whom, infos_of};
use ledger::Outcome;
use ledger::credit::{CreditPolicy, Decision, Hindrance, amount_to_keep};
use model::view::NoticeDue;
use model::{AccountId, CreditPolicyVersion, Fact, Instant, NoticeLevel, NoticeSent};
use registry::{Approval, By, HoldKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::admin::{Answer, registered};
use crate::node::{Node, digest_of};
use crate::problem::Problem;

/// Most accounts of one answer.
const MAX_LISTED: usize = 10_000;
/// Longest name of a person or a division, bytes.
const MAX_NAME_BYTES: usize = 64;

/// The routes.
pub fn router() -> Router<Node> {
    Router::new()
        .route("/admin/credit/policies", post(apply_policy).get(list_policies))
        .route("/admin/credit/due", get(due))
        .route("/admin/credit/notices", get(notices))
        .route("/admin/credit/told", post(told))
        .route("/admin/credit/cuts", post(switch_cuts).get(list_cuts))
        .route("/admin/credit/holds", post(hold))
        .route("/admin/credit/releases", post(release))
}

async fn apply_policy(State(node): State<Node>, body: String) -> Answer {
    let policy = CreditPolicy::parse(&body)
        .map_err(|fault| Problem::refused("the credit policy was refused", fault.to_string()))?;
    let digest = digest_of(body.as_bytes());
    let version = CreditPolicyVersion { from: policy.from, digest, body };
    let applied = node.pipeline.append(Fact::CreditPolicy(version)).await.map_err(Problem::internal)?;
    let word = match applied.outcome {
        Outcome::PolicyApplied => "applied",
        Outcome::PolicyExists => "exists",
        other => return Err(Problem::conflict("the credit policy was refused", other.to_string())),
    };
    let (name, from) = (policy.name, policy.from.to_string());
    Ok(Json(json!({ "outcome": word, "name": name, "from": from, "position": applied.position.0 })))
}

async fn list_policies(State(node): State<Node>) -> Answer {
    let policies = node.pipeline.look(|fold| fold.credit_policies()).await.map_err(Problem::internal)?;
    let rows: Vec<Value> = policies
        .iter()
        .map(|version| {
            let name = CreditPolicy::parse(&version.body).map(|policy| policy.name).unwrap_or_default();
            json!({ "name": name, "from": version.from.to_string(), "digest": version.digest.to_string() })
        })
        .collect();
    Ok(Json(json!({ "policies": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DueRequest {
    /// The moment; without it, now.
    at: Option<String>,
    /// One account, whatever its balance.
    account: Option<String>,
    /// Those below zero that are not due as well.
    #[serde(default)]
    all: bool,
}

async fn due(State(node): State<Node>, Query(request): Query<DueRequest>) -> Answer {
    let now = node.pipeline.clock().now();
    let at = match &request.at {
        None => now,
        Some(text) => text.parse::<Instant>().map_err(|error| {
            Problem::refused("not an instant such as 2026-06-10T11:00:00+05:30", error.to_string())
        })?,
    };
    if at < now {
        let detail = format!("{at} has passed: what was decided then depended on what was known then");
        return Err(Problem::refused("not a moment to come", detail));
    }
    let only = match &request.account {
        None => None,
        Some(number) => Some(registered(&node, number).await?.1),
    };
    let whom = only.map_or(Whom::BelowZero, Whom::Account);
    let found = ingest::supply::due(&node.pipeline, &node.registry, &node.calendar, at, whom).await;
    let Due { policy, accounts, .. } = found.map_err(Problem::internal)?;
    let mut counts = Counts::default();
    let mut listed = Vec::new();
    for one in &accounts {
        counts.take(&one.decision);
        let is_listed = only.is_some() || request.all || one.decision.is_due();
        if is_listed && listed.len() < MAX_LISTED {
            listed.push(account_row(policy.as_ref(), one));
        }
    }
    Ok(Json(json!({
        "at": at.to_string(),
        "policy": policy.map(|policy| json!({ "name": policy.name, "from": policy.from.to_string() })),
        "decided": accounts.len(),
        "due": counts.due,
        "held": counts.held,
        "accounts": listed,
        "listed_at_most": MAX_LISTED,
    })))
}

/// How many are due, and how many each reason holds.
#[derive(Default)]
struct Counts {
    due: u64,
    held: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn take(&mut self, decision: &Decision) {
        self.due += u64::from(decision.is_due());
        for hindrance in &decision.hindrances {
            *self.held.entry(hindrance.name()).or_default() += 1;
        }
    }
}

fn account_row(policy: Option<&CreditPolicy>, one: &Decided) -> Value {
    let Decided { account: view, info, decision, .. } = one;
    let reason = |hindrance: &Hindrance| {
        json!({
            "reason": hindrance.name(),
            "words": hindrance.to_string(),
            "until": hindrance.until().map(|until| until.to_string()),
        })
    };
    json!({
        "account": info.number.to_string(),
        "division": info.place(),
        "booked_paise": view.booked.0,
        "balance_paise": view.balance().0,
        "arrears_paise": view.arrears.0,
        "amount_to_keep_paise": amount_to_keep(policy, view).0,
        "told_at": view.credit.used_up_told_at.map(|at| at.to_string()),
        "due": decision.is_due(),
        "reasons": decision.hindrances.iter().map(reason).collect::<Vec<_>>(),
        "earliest": decision.earliest.map(|at| at.to_string()),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoticesRequest {
    /// Number of notices at most.
    limit: usize,
    /// Those of accounts after this one alone.
    after: Option<String>,
}

async fn notices(State(node): State<Node>, Query(request): Query<NoticesRequest>) -> Answer {
    let limit = request.limit.min(MAX_LISTED);
    let day = node.calendar.day_of(node.pipeline.clock().now());
    let from = match &request.after {
        None => AccountId(0),
        Some(number) => AccountId(registered(&node, number).await?.1.0.saturating_add(1)),
    };
    let look = move |fold: &ledger::Fold| {
        let policy = fold.credit_policy_on(day);
        let due = fold.notices_due(from, limit).into_iter();
        let with_account = |notice: NoticeDue| {
            let view = fold.account(notice.account)?;
            Some((notice, amount_to_keep(policy, &view), view))
        };
        due.filter_map(with_account).collect::<Vec<_>>()
    };
    let found = node.pipeline.study(look).await.map_err(Problem::internal)?;
    let accounts: Vec<AccountId> = found.iter().map(|(notice, ..)| notice.account).collect();
    let infos = infos_of(&node.registry, &accounts).await.map_err(Problem::internal)?;
    let rows: Vec<Value> = found
        .iter()
        .filter_map(|(notice, keep, view)| {
            let number = &infos.get(&notice.account)?.number;
            Some(json!({
                "account": number.to_string(),
                "level": notice.level.0,
                "used_up": notice.level == NoticeLevel::USED_UP,
                "round": notice.round,
                "days_posted_at_once": notice.caught_up_days,
                "booked_paise": view.booked.0,
                "balance_paise": view.balance().0,
                "amount_to_keep_paise": keep.0,
            }))
        })
        .collect();
    Ok(Json(json!({ "notices": rows, "may_have_more": found.len() == limit })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldRequest {
    account: String,
    level: u8,
    round: u16,
}

async fn told(State(node): State<Node>, Json(request): Json<ToldRequest>) -> Answer {
    let (number, account) = registered(&node, &request.account).await?;
    let notice = NoticeSent { account, level: NoticeLevel(request.level), round: request.round };
    let applied = node.pipeline.append(Fact::NoticeSent(notice)).await.map_err(Problem::internal)?;
    if !applied.outcome.is_success() {
        return Err(Problem::conflict("the notice changes nothing", applied.outcome.to_string()));
    }
    let view = node.pipeline.look(move |fold| fold.account(account)).await.map_err(Problem::internal)?;
    let told_at = view.and_then(|view| view.credit.used_up_told_at).map(|at| at.to_string());
    Ok(Json(json!({ "account": number.to_string(), "level": request.level, "used_up_told_at": told_at })))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CutStep {
    Ask,
    Approve,
    End,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CutsRequest {
    division: String,
    step: CutStep,
    by: String,
}

async fn switch_cuts(State(node): State<Node>, Json(request): Json<CutsRequest>) -> Answer {
    let division = named("division", &request.division)?;
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let state = match request.step {
        CutStep::Ask => {
            let switch = node.registry.ask_for_cuts(division, by).await.map_err(Problem::internal)?;
            if switch.approved.is_some() { "enabled" } else { "asked" }
        }
        CutStep::Approve => {
            match node.registry.approve_cuts(division, by).await.map_err(Problem::internal)? {
                Approval::Approved | Approval::Already => "enabled",
                Approval::NotAsked => {
                    let detail =
                        format!("nobody has asked for cuts in {division}: `urja credit enable` first");
                    return Err(Problem::conflict("cuts are not enabled", detail));
                }
                Approval::SamePerson => {
                    let detail = "who asked for it cannot approve it: another person has to";
                    return Err(Problem::conflict("cuts are not enabled", detail));
                }
            }
        }
        CutStep::End => {
            node.registry.end_cuts(division, by).await.map_err(Problem::internal)?;
            "off"
        }
    };
    Ok(Json(json!({ "division": division, "cuts": state })))
}

async fn list_cuts(State(node): State<Node>) -> Answer {
    let switches = node.registry.cut_switches().await.map_err(Problem::internal)?;
    let step = |(person, at): &(String, Instant)| json!({ "by": person, "at": at.to_string() });
    let rows: Vec<Value> = switches
        .iter()
        .map(|switch| {
            json!({
                "division": switch.division,
                "cuts": if switch.approved.is_some() { "enabled" } else { "asked" },
                "asked": step(&switch.asked),
                "approved": switch.approved.as_ref().map(step),
            })
        })
        .collect();
    Ok(Json(json!({ "divisions": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldRequest {
    account: String,
    kind: HoldWord,
    reason: String,
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseRequest {
    account: String,
    kind: HoldWord,
    by: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HoldWord {
    Protected,
    Disputed,
}

impl HoldWord {
    fn kind(self) -> HoldKind {
        match self {
            HoldWord::Protected => HoldKind::Protected,
            HoldWord::Disputed => HoldKind::Disputed,
        }
    }
}

async fn hold(State(node): State<Node>, Json(request): Json<HoldRequest>) -> Answer {
    let (number, account) = registered(&node, &request.account).await?;
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (kind, reason) = (request.kind.kind(), named("reason", &request.reason)?);
    node.registry.hold_cuts(account, &number, kind, reason, by).await.map_err(Problem::internal)?;
    Ok(Json(json!({ "account": number.to_string(), "kind": kind.name(), "held": true })))
}

async fn release(State(node): State<Node>, Json(request): Json<ReleaseRequest>) -> Answer {
    let (number, account) = registered(&node, &request.account).await?;
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let kind = request.kind.kind();
    let ended = node.registry.release_cuts(account, &number, kind, by).await.map_err(Problem::internal)?;
    if !ended {
        let detail = format!("{number} is not held as {}", kind.name());
        return Err(Problem::conflict("nothing was released", detail));
    }
    Ok(Json(json!({ "account": number.to_string(), "kind": kind.name(), "held": false })))
}

/// A name that says something.
///
/// # Errors
/// Where it does not.
pub fn named<'a>(what: &str, name: &'a str) -> Result<&'a str, Problem> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let detail = format!("a {what} has 1 to {MAX_NAME_BYTES} bytes, all of them printed");
        return Err(Problem::refused(format!("no such {what}"), detail));
    }
    Ok(name)
}
