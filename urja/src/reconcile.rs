//! A day of a channel held against its own statement and the bank's, over the admin socket.
//!
//! What a statement and the ledger both have is kept, and looked for no more; what only one of them has is open, and is
//! told again with every later day until both have it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::extract::{Query, State};
use axum::routing::post;
use axum::{Json, Router};
use ledger::Payment;
use model::{AccountId, AccountNumber, Calendar, CivilDay, Paise};
use registry::{
    BankRow, By, Channel, Collection, ImportError, Registry, Side, StatementRow, read_bank, read_statement,
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
    Router::new().route("/admin/reconciliations", post(run).get(show))
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
    by: String,
}

async fn run(State(node): State<Node>, Json(request): Json<RunRequest>) -> Answer {
    let by = By { person: named("person", &request.by)?, at: node.pipeline.clock().now() };
    let (channel, day) = (channel(&request.channel)?, civil_day(&request.day)?);
    if day > node.calendar.day_of(by.at) {
        return Err(Problem::refused("not a day", format!("{day} has not begun")));
    }
    let statement = read_statement(request.statement.as_bytes(), channel).map_err(refused("statement"))?;
    let bank = request.bank.as_ref().map(|bank| read_bank(bank.as_bytes()));
    let bank = bank.transpose().map_err(refused("bank"))?;
    let accounts = accounts_of(&node.registry, &statement).await.map_err(Problem::internal)?;
    let ledger = booked(&node, channel, day).await?;
    let before = node.registry.reconciled(channel, day).await.map_err(Problem::internal)?;
    let compared = compare(&statement, &accounts, &ledger, &before);
    let settled = bank.map(|bank| settle(&statement, &bank));
    let report = report(&node.registry, channel, day, &statement, &compared, settled.as_ref());
    let report = report.await.map_err(|error| Problem::internal(format!("{error:#}")))?;
    let kept =
        node.registry.keep_reconciliation(channel, day, &report.to_string(), &compared.found, by).await;
    kept.map_err(Problem::internal)?;
    Ok(Json(report))
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
    day: String,
}

async fn show(State(node): State<Node>, Query(request): Query<ShowRequest>) -> Answer {
    let (channel, day) = (channel(&request.channel)?, civil_day(&request.day)?);
    let report = node.registry.reconciliation(channel, day).await.map_err(Problem::internal)?;
    let report = report.ok_or_else(|| {
        let detail = format!("{day} of {} was not reconciled; `urja reconcile run` does", channel.name());
        Problem::missing("no such report", detail)
    })?;
    serde_json::from_str(&report).map(Json).map_err(Problem::internal)
}

/// A payment of the channel as the ledger has it.
#[derive(Clone, Debug)]
struct Booked {
    account: AccountId,
    amount: Paise,
    is_held: bool,
    booked_on: CivilDay,
    reversed_on: Option<CivilDay>,
}

impl Booked {
    fn of(payment: &Payment, calendar: &Calendar) -> Booked {
        Booked {
            account: payment.account,
            amount: payment.amount,
            is_held: payment.is_in_suspense(),
            booked_on: calendar.day_of(payment.at),
            reversed_on: payment.reversed.map(|reversal| calendar.day_of(reversal.at)),
        }
    }
}

/// The ledger's payments of a channel, and which of them its statements should have by the end of a day.
struct Books {
    all: BTreeMap<String, Booked>,
    day: CivilDay,
}

async fn booked(node: &Node, channel: Channel, day: CivilDay) -> Result<Books, Problem> {
    let (prefix, calendar) = (format!("{}:", channel.name()), node.calendar.clone());
    let look = move |fold: &ledger::Fold| {
        let of_channel = fold.payments().filter(|payment| payment.id.starts_with(&prefix));
        of_channel.map(|payment| (payment.id.to_string(), Booked::of(payment, &calendar))).collect()
    };
    let all = node.pipeline.study(look).await.map_err(Problem::internal)?;
    Ok(Books { all, day })
}

/// Accounts of the numbers that a statement tells.
async fn accounts_of(
    registry: &Registry,
    statement: &[StatementRow],
) -> Result<HashMap<String, AccountId>, registry::Error> {
    let mut accounts = HashMap::new();
    for row in statement {
        let Ok(number) = row.account_number.parse::<AccountNumber>() else { continue };
        if let Some(account) = registry.account_by_number(&number).await? {
            accounts.insert(row.account_number.clone(), account);
        }
    }
    Ok(accounts)
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
    line: Option<u64>,
    statement: Option<Paise>,
    ledger: Option<Paise>,
    account: Option<AccountId>,
    /// Days since it was booked or taken back.
    days: Option<i32>,
}

#[derive(Debug, Default)]
struct Compared {
    found: Vec<(String, Side)>,
    /// Sum of what was found, by side.
    paid: Paise,
    refunded: Paise,
    held: (u64, Paise),
    open: Vec<Open>,
}

fn compare(
    statement: &[StatementRow],
    accounts: &HashMap<String, AccountId>,
    books: &Books,
    before: &BTreeSet<(String, Side)>,
) -> Compared {
    let mut compared = Compared::default();
    let mut told = before.clone();
    for row in statement {
        let booked = books.all.get(&row.payment_id);
        let key = (row.payment_id.clone(), row.side);
        let difference = if told.contains(&key) {
            Some(Difference::ToldBefore)
        } else {
            difference(row, accounts, booked)
        };
        // One that differs is told all the same: it is open as what it is, and not missing as well.
        told.insert(key.clone());
        let Some(difference) = difference else {
            let (sum, held) = (row.amount, booked.is_some_and(|booked| booked.is_held));
            match row.side {
                Side::Payment => compared.paid += sum,
                Side::Refund => compared.refunded += sum,
            }
            if held && row.side == Side::Payment {
                compared.held = (compared.held.0 + 1, compared.held.1 + sum);
            }
            compared.found.push(key);
            continue;
        };
        compared.open.push(Open {
            difference,
            payment_id: row.payment_id.clone(),
            line: Some(row.line),
            statement: Some(row.amount),
            ledger: booked.map(|booked| booked.amount),
            account: booked.map(|booked| booked.account),
            days: None,
        });
    }
    compared.open.extend(missing_in_statement(books, &told));
    compared.open.sort_by(|a, b| (a.difference, &a.payment_id).cmp(&(b.difference, &b.payment_id)));
    compared
}

fn difference(
    row: &StatementRow,
    accounts: &HashMap<String, AccountId>,
    booked: Option<&Booked>,
) -> Option<Difference> {
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
    // What is in suspense is there because its account is not known.
    let is_told = !row.account_number.is_empty() && booked.account != AccountId::SUSPENSE;
    let is_other = is_told && accounts.get(&row.account_number) != Some(&booked.account);
    is_other.then_some(Difference::Account)
}

fn missing_in_statement<'a>(
    books: &'a Books,
    told: &'a BTreeSet<(String, Side)>,
) -> impl Iterator<Item = Open> + 'a {
    let is_told = |id: &str, side| told.contains(&(id.to_owned(), side));
    books.all.iter().filter_map(move |(id, booked)| {
        let reversed_on = booked.reversed_on.filter(|day| *day <= books.day);
        let (difference, since) = match (is_told(id, Side::Payment), reversed_on) {
            // Never there and taken back: nothing came and nothing went.
            (false, Some(_)) => return None,
            (false, None) => (Difference::MissingInStatement, booked.booked_on),
            (true, Some(day)) if !is_told(id, Side::Refund) => (Difference::RefundMissingInStatement, day),
            (true, _) => return None,
        };
        (since <= books.day).then(|| Open {
            difference,
            payment_id: id.clone(),
            line: None,
            statement: None,
            ledger: Some(booked.amount),
            account: Some(booked.account),
            days: Some(books.day.0 - since.0),
        })
    })
}

/// A transfer to the bank.
#[derive(Debug, PartialEq, Eq)]
struct Transfer {
    settlement: String,
    /// What the channel says it sent: payments less refunds and fees.
    sent: Option<Paise>,
    came: Option<Paise>,
}

/// All transfers of both statements.
fn settle(statement: &[StatementRow], bank: &[BankRow]) -> Vec<Transfer> {
    let mut transfers: BTreeMap<&str, (Option<Paise>, Option<Paise>)> = BTreeMap::new();
    for row in statement.iter().filter(|row| !row.settlement.is_empty()) {
        let net = match row.side {
            Side::Payment => row.amount - row.fee,
            Side::Refund => -row.amount - row.fee,
        };
        *transfers.entry(&row.settlement).or_default().0.get_or_insert_default() += net;
    }
    for row in bank {
        *transfers.entry(&row.settlement).or_default().1.get_or_insert_default() += row.amount;
    }
    let transfer =
        |(settlement, (sent, came)): (&str, _)| Transfer { settlement: settlement.into(), sent, came };
    transfers.into_iter().map(transfer).collect()
}

async fn report(
    registry: &Registry,
    channel: Channel,
    day: CivilDay,
    statement: &[StatementRow],
    compared: &Compared,
    transfers: Option<&Vec<Transfer>>,
) -> anyhow::Result<Value> {
    let listed = &compared.open[..compared.open.len().min(MAX_LISTED)];
    let ids: Vec<String> = listed.iter().map(|open| open.payment_id.clone()).collect();
    let files = registry.collections_of(&ids).await?;
    let accounts: BTreeSet<AccountId> = listed.iter().filter_map(|open| open.account).collect();
    let accounts: Vec<AccountId> = accounts.into_iter().collect();
    let infos = ingest::supply::infos_of(registry, &accounts).await?;
    let row = |open: &Open| {
        let files = files.iter().filter(|file| file.payment_id == open.payment_id);
        json!({
            "difference": open.difference.name(),
            "payment_id": open.payment_id,
            "line": open.line,
            "statement_paise": open.statement.map(|paise| paise.0),
            "ledger_paise": open.ledger.map(|paise| paise.0),
            "account": open.account.and_then(|id| infos.get(&id)).map(|info| info.number.to_string()),
            "in_suspense": open.account == Some(AccountId::SUSPENSE),
            "days": open.days,
            "files": files.map(file).collect::<Vec<_>>(),
        })
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    compared.open.iter().for_each(|open| *counts.entry(open.difference.name()).or_default() += 1);
    let of = |side: Side| statement.iter().filter(move |row| row.side == side);
    let sum = |side: Side| of(side).map(|row| row.amount.0).sum::<i64>();
    let found = |side: Side| compared.found.iter().filter(|(_, of)| *of == side).count();
    let unsettled = transfers.into_iter().flatten().filter(|it| it.sent != it.came);
    let unsettled: Vec<Value> = unsettled
        .map(|it| {
            let (sent, came) = (it.sent.map(|paise| paise.0), it.came.map(|paise| paise.0));
            json!({ "settlement": it.settlement, "sent_paise": sent, "came_paise": came })
        })
        .collect();
    Ok(json!({
        "channel": channel.name(),
        "day": day.to_string(),
        "agrees": compared.open.is_empty() && unsettled.is_empty(),
        "statement": {
            "payments": of(Side::Payment).count(), "payments_paise": sum(Side::Payment),
            "refunds": of(Side::Refund).count(), "refunds_paise": sum(Side::Refund),
            "fees_paise": statement.iter().map(|row| row.fee.0).sum::<i64>(),
        },
        "found": {
            "payments": found(Side::Payment), "payments_paise": compared.paid.0,
            "refunds": found(Side::Refund), "refunds_paise": compared.refunded.0,
            "in_suspense": compared.held.0, "in_suspense_paise": compared.held.1.0,
        },
        "differences": counts,
        "open": listed.iter().map(row).collect::<Vec<_>>(),
        "bank": transfers.map(|all| json!({
            "transfers": all.len(), "agree": all.len() - unsettled.len(), "differ": unsettled,
        })),
    }))
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
    use super::*;

    fn row(line: u64, id: &str, side: Side, rupees: i64, settlement: &str) -> StatementRow {
        StatementRow {
            line,
            payment_id: id.into(),
            side,
            amount: Paise(rupees * 100),
            account_number: String::new(),
            fee: Paise(100),
            settlement: settlement.into(),
        }
    }

    fn booked(account: u32, rupees: i64, day: i32, reversed: Option<i32>) -> Booked {
        Booked {
            account: AccountId(account),
            amount: Paise(rupees * 100),
            is_held: account == 0 && reversed.is_none(),
            booked_on: CivilDay(day),
            reversed_on: reversed.map(CivilDay),
        }
    }

    fn books(day: i32, all: &[(&str, Booked)]) -> Books {
        let all = all.iter().map(|(id, booked)| ((*id).to_owned(), booked.clone())).collect();
        Books { all, day: CivilDay(day) }
    }

    fn differences(compared: &Compared) -> Vec<(&str, Difference)> {
        compared.open.iter().map(|open| (open.payment_id.as_str(), open.difference)).collect()
    }

    #[test]
    fn what_both_sides_have_agrees_and_each_difference_has_its_name() {
        let books = books(
            10,
            &[
                ("a", booked(1, 10, 10, None)),
                ("held", booked(0, 20, 10, None)),
                ("amount", booked(1, 30, 10, None)),
                ("account", booked(2, 40, 10, None)),
                ("ours", booked(1, 50, 7, None)),
                ("tomorrow", booked(1, 60, 11, None)),
                ("stands", booked(1, 70, 10, None)),
                ("back", booked(1, 80, 9, Some(10))),
                ("back-ours", booked(1, 90, 9, Some(10))),
                ("never", booked(1, 95, 9, Some(10))),
                ("back-tomorrow", booked(1, 99, 9, Some(11))),
            ],
        );
        let mut told = row(5, "account", Side::Payment, 40, "");
        told.account_number = "PUVVNL0000000001".into();
        let statement = [
            row(2, "a", Side::Payment, 10, ""),
            row(3, "held", Side::Payment, 20, ""),
            row(4, "amount", Side::Payment, 31, ""),
            told,
            row(6, "theirs", Side::Payment, 5, ""),
            row(7, "stands", Side::Refund, 70, ""),
            row(8, "back", Side::Refund, 80, ""),
            row(9, "a", Side::Payment, 10, ""),
            row(10, "before", Side::Payment, 1, ""),
            row(11, "stands", Side::Payment, 70, ""),
        ];
        let payment = |id: &str| (id.to_owned(), Side::Payment);
        let before = ["back", "back-ours", "before", "back-tomorrow"].map(payment).into();
        let accounts = [("PUVVNL0000000001".to_owned(), AccountId(1))].into();
        let compared = compare(&statement, &accounts, &books, &before);
        let found: Vec<_> = compared.found.iter().map(|(id, side)| (id.as_str(), *side)).collect();
        assert_eq!(
            found,
            [
                ("a", Side::Payment),
                ("held", Side::Payment),
                ("back", Side::Refund),
                ("stands", Side::Payment)
            ]
        );
        assert_eq!((compared.paid, compared.refunded), (Paise(10_000), Paise(8_000)));
        assert_eq!(compared.held, (1, Paise(2_000)));
        assert_eq!(
            differences(&compared),
            [
                ("theirs", Difference::MissingInLedger),
                ("stands", Difference::RefundMissingInLedger),
                ("amount", Difference::Amount),
                ("account", Difference::Account),
                ("a", Difference::ToldBefore),
                ("before", Difference::ToldBefore),
                ("ours", Difference::MissingInStatement),
                ("back-ours", Difference::RefundMissingInStatement),
            ]
        );
        let ours = compared.open.iter().find(|open| open.payment_id == "ours").unwrap();
        assert_eq!(ours.days, Some(3));
    }

    #[test]
    fn a_transfer_is_what_came_less_what_went_back_and_fees() {
        let statement = [
            row(2, "a", Side::Payment, 10, "U1"),
            row(3, "b", Side::Refund, 4, "U1"),
            row(4, "c", Side::Payment, 7, "U2"),
            row(5, "d", Side::Payment, 9, ""),
            row(6, "e", Side::Payment, 3, "U3"),
        ];
        let bank = |line, settlement: &str, paise| BankRow {
            line,
            settlement: settlement.into(),
            amount: Paise(paise),
        };
        let transfers = settle(&statement, &[bank(2, "U1", 400), bank(3, "U2", 500), bank(4, "U9", 1)]);
        let all: Vec<_> = transfers
            .iter()
            .map(|it| (it.settlement.as_str(), it.sent.map(|sent| sent.0), it.came.map(|came| came.0)))
            .collect();
        assert_eq!(
            all,
            [
                ("U1", Some(400), Some(400)),
                ("U2", Some(600), Some(500)),
                ("U3", Some(200), None),
                ("U9", None, Some(1)),
            ]
        );
    }
}
