//! Statements of channels and of the bank held against the ledger, over the admin socket.
//!
//! Everything that a statement tells is kept, and is open until the ledger has the same; everything that the ledger has is
//! open until a statement tells it. So a run says what is open by the end of the latest day, whatever day it was about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use axum::extract::{Query, State};
use axum::routing::post;
use axum::{Json, Router};
use ledger::{Fold, Payment};
use model::{AccountId, Calendar, CivilDay, Paise, Position};
use registry::{
    By, Collection, ImportError, MoneyChannel, NotSent, OpenLine, OpenTransfer, Registry, Side, read_bank,
    read_statement,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Answer, bad_lines};
use crate::collections::channel;
use crate::credit::named;
use crate::node::Node;
use crate::problem::Problem;

/// Most open things of one report; all are counted.
const MAX_LISTED: usize = 10_000;

/// The routes.
pub fn router() -> Router<Node> {
    Router::new()
        .route("/admin/reconciliations", post(run).get(show))
        .route("/admin/reconciliations/closings", post(close))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    channel: String,
    day: String,
    /// The channel's statement, CSV.
    statement: String,
    /// The bank's, CSV.
    bank: Option<String>,
    /// Days after which money that a channel took should be at the bank.
    settles_in: u16,
    by: String,
}

async fn run(State(node): State<Node>, Json(request): Json<RunRequest>) -> Answer {
    // What was begun goes on when whoever asked has gone.
    tokio::spawn(async move { take_and_compare(&node, request).await }).await.map_err(Problem::internal)?
}

async fn take_and_compare(node: &Node, request: RunRequest) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (channel, day) = (channel(&request.channel)?, civil_day(&request.day)?);
    if day > node.calendar.day_of(by.at) {
        return Err(Problem::refused("not a day", format!("{day} has not begun")));
    }
    let (statement, bank) = (request.statement, request.bank);
    let read = tokio::task::spawn_blocking(move || {
        let statement = read_statement(statement.as_bytes(), channel).map_err(refused("statement"))?;
        let bank = bank.map(|bank| read_bank(bank.as_bytes())).transpose().map_err(refused("bank"))?;
        Ok::<_, Problem>((statement, bank))
    });
    let (statement, bank) = read.await.map_err(Problem::internal)??;
    let _turn = node.booking.lock().await;
    let taken = node.registry.take_statement(channel, day, &statement, bank.as_deref(), by);
    taken.await.map_err(Problem::internal)?;
    let report = compare(node, channel, day, i32::from(request.settles_in)).await;
    report.map(Json).map_err(|error| Problem::internal(format!("{error:#}")))
}

fn refused(file: &'static str) -> impl Fn(ImportError) -> Problem {
    move |error| match error {
        ImportError::Lines(bad) => bad_lines(&bad).in_file(file),
        error => Problem::refused("the file was refused", error.to_string()).in_file(file),
    }
}

fn civil_day(text: &str) -> Result<CivilDay, Problem> {
    text.parse().map_err(|error: model::time::TimeError| Problem::refused("not a day", error.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowRequest {
    channel: String,
}

async fn show(State(node): State<Node>, Query(request): Query<ShowRequest>) -> Answer {
    let channel = channel(&request.channel)?;
    let report = node.registry.reconciliation(channel).await.map_err(Problem::internal)?;
    let report = report.ok_or_else(|| {
        let detail = format!("{} was not reconciled yet; `urja reconcile run` does", channel.name());
        Problem::missing("no such report", detail)
    })?;
    serde_json::from_str(&report).map(Json).map_err(Problem::internal)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseRequest {
    channel: String,
    /// Id of a payment, or reference of a transfer.
    what: String,
    reason: String,
    by: String,
}

async fn close(State(node): State<Node>, Json(request): Json<CloseRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (channel, reason) = (channel(&request.channel)?, named("reason", &request.reason)?);
    let _turn = node.booking.lock().await;
    // What the ledger has of it by now is closed as well.
    look_through(&node, channel, None).await.map_err(Problem::internal)?;
    let registry = &node.registry;
    let is_payment = registry.close_difference(&request.what, reason, by).await.map_err(Problem::internal)?;
    let is_closed = is_payment
        || registry.close_transfer(channel, &request.what, reason, by).await.map_err(Problem::internal)?;
    if !is_closed {
        let detail = format!(
            "neither a payment nor a transfer {:?} of {} is open; `urja reconcile show {}` has those that are",
            request.what,
            channel.name(),
            channel.name()
        );
        return Err(Problem::missing("nothing to close", detail));
    }
    let closed = if is_payment { "payment" } else { "transfer" };
    Ok(Json(json!({ "outcome": "closed", "closed": closed, "what": request.what })))
}

/// A payment of the channel as the ledger has it.
#[derive(Clone, Debug)]
struct Booked {
    account: AccountId,
    amount: Paise,
    received_on: CivilDay,
    reversed_on: Option<CivilDay>,
}

impl Booked {
    fn of(payment: &Payment, calendar: &Calendar) -> Booked {
        Booked {
            account: payment.account,
            amount: payment.amount,
            received_on: calendar.day_of(payment.received_at),
            reversed_on: payment.reversed.map(|reversal| calendar.day_of(reversal.at)),
        }
    }
}

/// Payments of a channel that came and went back after a record, and since a day.
fn events(
    fold: &Fold,
    channel: MoneyChannel,
    calendar: &Calendar,
    (since, from): (Position, Option<CivilDay>),
) -> Vec<(String, Side)> {
    let mut events = Vec::new();
    for payment in fold.payments() {
        let is_in_time = from.is_none_or(|from| calendar.day_of(payment.received_at) >= from);
        let came = payment.position > since && is_in_time;
        let went = payment.reversed.is_some_and(|reversal| reversal.position > since) && is_in_time;
        if (came || went) && is_of(&payment.id, channel) {
            let sides = [(came, Side::Payment), (went, Side::Refund)];
            let happened = sides.into_iter().filter(|(happened, _)| *happened);
            events.extend(happened.map(|(_, side)| (payment.id.to_string(), side)));
        }
    }
    events
}

/// Whether the ledger's id is one of this channel: `bbps:T1`, `bbps/AGENT7:T1`.
fn is_of(id: &str, channel: MoneyChannel) -> bool {
    id.strip_prefix(channel.name()).is_some_and(|rest| rest.starts_with([':', '/']))
}

/// Looks through what the ledger has of a channel since the last time, for the statement of a day if there is one. Gives what no
/// statement has told, and the latest statement's day. The first time begins with that statement's day: of what was before
/// nobody has brought any.
async fn look_through(
    node: &Node,
    channel: MoneyChannel,
    day: Option<CivilDay>,
) -> anyhow::Result<(Vec<(String, Side)>, CivilDay)> {
    let since = node.registry.reconciled_upto(channel).await?;
    let is_first = since == Position(0);
    let Some(day) = day.or((!is_first).then_some(CivilDay(0))) else { return Ok((Vec::new(), CivilDay(0))) };
    let (calendar, from) = (node.calendar.clone(), is_first.then_some(day));
    let look = move |fold: &Fold| (events(fold, channel, &calendar, (since, from)), fold.position());
    let (events, position) = node.pipeline.study(look).await?;
    Ok(node.registry.untold(channel, day, &events, position).await?)
}

async fn compare(
    node: &Node,
    channel: MoneyChannel,
    day: CivilDay,
    settles_in: i32,
) -> anyhow::Result<Value> {
    let registry = &node.registry;
    let (untold, latest) = look_through(node, channel, Some(day)).await?;
    let lines = registry.open_lines(channel).await?;
    let ids: HashSet<String> = lines
        .iter()
        .map(|line| &line.row.payment_id)
        .chain(untold.iter().map(|(id, _)| id))
        .cloned()
        .collect();
    let calendar = node.calendar.clone();
    let look = move |fold: &Fold| {
        let booked = |id: String| {
            let booked = Booked::of(fold.has_payment(&id)?, &calendar);
            Some((id, booked))
        };
        ids.into_iter().filter_map(booked).collect::<HashMap<_, _>>()
    };
    let ledger = node.pipeline.study(look).await?;
    let accounts = registry.accounts_by_number(lines.iter().map(|line| &*line.row.account_number)).await?;
    let (agreed, mut open) = compare_lines(&lines, &accounts, &ledger, latest);
    registry.lines_agree(&agreed).await?;
    open.extend(missing_in_statements(&untold, &ledger, latest));
    open.sort_by(|a, b| (a.difference, &a.payment_id).cmp(&(b.difference, &b.payment_id)));
    let transfers = registry.open_transfers(channel).await?;
    let mut bank = bank_report(&transfers, latest, settles_in);
    if !registry.has_transfers(channel).await? {
        bank["agrees"] = Value::Null;
    }
    let report = report(registry, channel, [day, latest], &open, bank).await?;
    registry.keep_reconciliation(channel, &report.to_string()).await?;
    Ok(report)
}

/// What is wrong between a statement and the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Paid by the statement; the ledger has no such payment.
    MissingInLedger,
    /// Given back by the statement; in the ledger it stands.
    RefundMissingInLedger,
    /// Both have it, with another amount.
    Amount,
    /// Both have it, for another account.
    Account,
    /// The statement has it twice, or an earlier one has it.
    ToldBefore,
    /// Booked by the end of the day, and in no statement.
    MissingInStatement,
    /// Taken back by the end of the day, and in no statement.
    RefundMissingInStatement,
}

impl Difference {
    fn name(self) -> &'static str {
        match self {
            Difference::MissingInLedger => "missing_in_ledger",
            Difference::RefundMissingInLedger => "refund_missing_in_ledger",
            Difference::Amount => "amount_differs",
            Difference::Account => "account_differs",
            Difference::ToldBefore => "told_before",
            Difference::MissingInStatement => "missing_in_statement",
            Difference::RefundMissingInStatement => "refund_missing_in_statement",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Open {
    difference: Difference,
    payment_id: String,
    /// Day and line of the statement that tells it.
    told: Option<(CivilDay, u64)>,
    statement: Option<Paise>,
    ledger: Option<Paise>,
    account: Option<AccountId>,
    /// Days since it was told, booked or taken back, up to the latest statement.
    days: i32,
}

/// Numbers of the lines that the ledger agrees with, and what is open of the others.
fn compare_lines(
    lines: &[OpenLine],
    accounts: &HashMap<String, AccountId>,
    ledger: &HashMap<String, Booked>,
    latest: CivilDay,
) -> (Vec<i64>, Vec<Open>) {
    let (mut agreed, mut open) = (Vec::new(), Vec::new());
    let all: BTreeSet<(&str, Side, Paise)> = lines
        .iter()
        .filter(|line| line.is_first)
        .map(|line| (&*line.row.payment_id, line.row.side, line.row.amount))
        .collect();
    for line in lines {
        let booked = ledger.get(&line.row.payment_id);
        // It failed at the channel: nothing came to us and nothing went.
        let sides = [Side::Payment, Side::Refund];
        let is_nothing = booked.is_none()
            && line.is_first
            && sides.into_iter().all(|side| all.contains(&(&*line.row.payment_id, side, line.row.amount)));
        let difference = difference(line, accounts, booked).filter(|_| !is_nothing);
        let Some(difference) = difference else {
            agreed.push(line.number);
            continue;
        };
        open.push(Open {
            difference,
            payment_id: line.row.payment_id.clone(),
            told: Some((line.day, line.row.line)),
            statement: Some(line.row.amount),
            ledger: booked.map(|booked| booked.amount),
            account: booked.map(|booked| booked.account),
            days: latest.0 - line.day.0,
        });
    }
    (agreed, open)
}

fn difference(
    line: &OpenLine,
    accounts: &HashMap<String, AccountId>,
    booked: Option<&Booked>,
) -> Option<Difference> {
    let row = &line.row;
    if !line.is_first {
        return Some(Difference::ToldBefore);
    }
    let missing = match row.side {
        Side::Payment => Difference::MissingInLedger,
        Side::Refund => Difference::RefundMissingInLedger,
    };
    let Some(booked) = booked else { return Some(missing) };
    if booked.amount != row.amount {
        return Some(Difference::Amount);
    }
    if row.side == Side::Refund {
        return booked.reversed_on.is_none().then_some(missing);
    }
    // A number that nobody has says nothing against an account, nor against suspense.
    let is_other = accounts.get(&row.account_number).is_some_and(|account| *account != booked.account);
    is_other.then_some(Difference::Account)
}

fn missing_in_statements(
    untold: &[(String, Side)],
    ledger: &HashMap<String, Booked>,
    latest: CivilDay,
) -> Vec<Open> {
    let all: BTreeSet<(&str, Side)> = untold.iter().map(|(id, side)| (id.as_str(), *side)).collect();
    let open = |(id, side): &(String, Side)| {
        let booked = ledger.get(id)?;
        let (difference, since) = match side {
            // Taken back, and told neither way: nothing came and nothing went.
            _ if all.contains(&(id, Side::Payment))
                && all.contains(&(id, Side::Refund))
                && booked.reversed_on.is_some_and(|day| day <= latest) =>
            {
                return None;
            }
            Side::Payment => (Difference::MissingInStatement, booked.received_on),
            Side::Refund => (Difference::RefundMissingInStatement, booked.reversed_on?),
        };
        // Of what came later no statement can tell yet.
        (since <= latest).then(|| Open {
            difference,
            payment_id: id.clone(),
            told: None,
            statement: None,
            ledger: Some(booked.amount),
            account: Some(booked.account),
            days: latest.0 - since.0,
        })
    };
    untold.iter().filter_map(open).collect()
}

async fn report(
    registry: &Registry,
    channel: MoneyChannel,
    [day, latest]: [CivilDay; 2],
    open: &[Open],
    bank: Value,
) -> anyhow::Result<Value> {
    let listed = &open[..open.len().min(MAX_LISTED)];
    let ids: Vec<String> = listed.iter().map(|open| open.payment_id.clone()).collect();
    let mut files: HashMap<String, Vec<Value>> = HashMap::new();
    for collection in registry.collections_of(&ids).await? {
        files.entry(collection.payment_id.clone()).or_default().push(file(&collection));
    }
    let accounts: BTreeSet<AccountId> = listed.iter().filter_map(|open| open.account).collect();
    let accounts: Vec<AccountId> = accounts.into_iter().collect();
    let infos = ingest::supply::infos_of(registry, &accounts).await?;
    let row = |open: &Open| {
        json!({
            "difference": open.difference.name(),
            "payment_id": open.payment_id,
            "statement_day": open.told.map(|(day, _)| day.to_string()),
            "line": open.told.map(|(_, line)| line),
            "statement_paise": open.statement.map(|paise| paise.0),
            "ledger_paise": open.ledger.map(|paise| paise.0),
            "account": open.account.and_then(|id| infos.get(&id)).map(|info| info.number.to_string()),
            "in_suspense": open.account == Some(AccountId::SUSPENSE),
            "days": open.days,
            "files": files.get(&open.payment_id),
        })
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    open.iter().for_each(|open| *counts.entry(open.difference.name()).or_default() += 1);
    let (sums, fees) = registry.statement_sums(channel, day).await?;
    let sum = |side: Side, only_agreed: bool| {
        let of = sums.iter().filter(|sum| sum.0 == side && (sum.1 || !only_agreed));
        of.fold((0, 0), |(lines, paise), sum| (lines + sum.2, paise + sum.3.0))
    };
    let sides = |only_agreed: bool| {
        let (payments, refunds) = (sum(Side::Payment, only_agreed), sum(Side::Refund, only_agreed));
        json!({ "payments": payments.0, "payments_paise": payments.1,
                "refunds": refunds.0, "refunds_paise": refunds.1 })
    };
    let mut statement = sides(false);
    statement["fees_paise"] = fees.0.into();
    Ok(json!({
        "channel": channel.name(),
        "day": day.to_string(),
        "latest_day": latest.to_string(),
        "ledger_agrees": open.is_empty(),
        "bank_agrees": bank["agrees"],
        "statement": statement,
        "agreed": sides(true),
        "differences": counts,
        "open": listed.iter().map(row).collect::<Vec<_>>(),
        "bank": bank,
    }))
}

/// What of the channel's money is not at the bank as it was said. It agrees as long as what is missing may be on its way.
fn bank_report(
    (transfers, not_sent): &(Vec<OpenTransfer>, NotSent),
    latest: CivilDay,
    settles_in: i32,
) -> Value {
    let days = |since: CivilDay| latest.0 - since.0;
    let may_come = |it: &OpenTransfer| it.came.is_none() && days(it.since) <= settles_in;
    let not_sent_days = not_sent.since.map(days);
    let transfer = |it: &OpenTransfer| {
        json!({ "settlement": it.settlement, "sent_paise": it.sent.map(|paise| paise.0),
                "came_paise": it.came.map(|paise| paise.0), "days": days(it.since), "may_come": may_come(it) })
    };
    json!({
        "agrees": transfers.iter().all(may_come) && not_sent_days.is_none_or(|days| days <= settles_in),
        "differ": transfers.iter().map(transfer).collect::<Vec<_>>(),
        "not_sent": not_sent.lines,
        "not_sent_paise": not_sent.amount.0,
        "not_sent_days": not_sent_days,
    })
}

fn file(collection: &Collection) -> Value {
    json!({
        "batch": collection.batch,
        "line": collection.line,
        "account_number": collection.account_number,
        "amount_paise": collection.amount.0,
        "state": collection.state.name(),
        "said": collection.said,
    })
}

#[cfg(test)]
mod tests {
    use registry::StatementRow;

    use super::*;

    const LATEST: CivilDay = CivilDay(10);

    fn line(number: i64, id: &str, side: Side, rupees: i64) -> OpenLine {
        let row = StatementRow {
            line: number.unsigned_abs(),
            payment_id: id.into(),
            side,
            amount: Paise(rupees * 100),
            account_number: String::new(),
            fee: Paise::ZERO,
            settlement: String::new(),
        };
        OpenLine { number, day: CivilDay(8), row, is_first: true }
    }

    fn booked(account: u32, rupees: i64, day: i32, reversed: Option<i32>) -> Booked {
        Booked {
            account: AccountId(account),
            amount: Paise(rupees * 100),
            received_on: CivilDay(day),
            reversed_on: reversed.map(CivilDay),
        }
    }

    fn differences(open: &[Open]) -> Vec<(&str, Difference, i32)> {
        open.iter().map(|open| (open.payment_id.as_str(), open.difference, open.days)).collect()
    }

    #[test]
    fn what_a_statement_tells_agrees_or_differs_by_name() {
        let of = |mut line: OpenLine, account: &str| {
            line.row.account_number = account.into();
            line
        };
        let again = OpenLine { is_first: false, ..line(9, "a", Side::Payment, 10) };
        let lines = [
            line(1, "a", Side::Payment, 10),
            of(line(2, "held", Side::Payment, 20), "nobody"),
            line(3, "amount", Side::Payment, 31),
            of(line(4, "account", Side::Payment, 40), "one"),
            of(line(5, "typo", Side::Payment, 40), "nobody"),
            line(6, "theirs", Side::Payment, 5),
            line(7, "stands", Side::Refund, 70),
            line(8, "back", Side::Refund, 80),
            again,
            of(line(10, "right", Side::Payment, 40), "one"),
            of(line(11, "suspense", Side::Payment, 20), "one"),
            line(12, "failed", Side::Payment, 15),
            line(13, "failed", Side::Refund, 15),
        ];
        let ledger: HashMap<String, Booked> = [
            ("a", booked(1, 10, 8, None)),
            ("held", booked(0, 20, 8, None)),
            ("amount", booked(1, 30, 8, None)),
            ("account", booked(2, 40, 8, None)),
            ("typo", booked(2, 40, 8, None)),
            ("suspense", booked(0, 20, 8, None)),
            ("stands", booked(1, 70, 8, None)),
            ("back", booked(1, 80, 8, Some(9))),
            ("right", booked(1, 40, 8, None)),
        ]
        .map(|(id, booked)| (id.to_owned(), booked))
        .into();
        let accounts = [("one".to_owned(), AccountId(1))].into();
        let (agreed, open) = compare_lines(&lines, &accounts, &ledger, LATEST);
        assert_eq!(agreed, [1, 2, 5, 8, 10, 12, 13]);
        assert_eq!(
            differences(&open),
            [
                ("amount", Difference::Amount, 2),
                ("account", Difference::Account, 2),
                ("theirs", Difference::MissingInLedger, 2),
                ("stands", Difference::RefundMissingInLedger, 2),
                ("a", Difference::ToldBefore, 2),
                ("suspense", Difference::Account, 2),
            ]
        );
    }

    #[test]
    fn what_no_statement_tells_is_missing_there_from_its_day_on() {
        let ledger: HashMap<String, Booked> = [
            ("ours", booked(1, 50, 7, None)),
            ("tomorrow", booked(1, 60, 11, None)),
            ("back", booked(1, 90, 5, Some(9))),
            ("back-tomorrow", booked(1, 99, 5, Some(11))),
            ("never", booked(1, 95, 9, Some(10))),
            ("stands", booked(1, 95, 9, None)),
        ]
        .map(|(id, booked)| (id.to_owned(), booked))
        .into();
        let untold = [
            ("back", Side::Refund),
            ("back-tomorrow", Side::Refund),
            ("gone", Side::Payment),
            ("never", Side::Payment),
            ("never", Side::Refund),
            ("ours", Side::Payment),
            ("stands", Side::Payment),
            ("stands", Side::Refund),
            ("tomorrow", Side::Payment),
        ]
        .map(|(id, side)| (id.to_owned(), side));
        assert_eq!(
            differences(&missing_in_statements(&untold, &ledger, LATEST)),
            [
                ("back", Difference::RefundMissingInStatement, 1),
                ("ours", Difference::MissingInStatement, 3),
                ("stands", Difference::MissingInStatement, 1)
            ]
        );
    }
}
