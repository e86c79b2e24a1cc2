//! What the pages show, from the fold, the lake and the registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use app::{AccountEntry, AppError, Card, Consumers, DayUsage, RechargeOutcome, Status, StatusView};
use async_trait::async_trait;
use axum::Router;
use ingest::Clock as _;
use ledger::Outcome;
use model::{AccountId, AccountNumber, CivilDay, MeterId, Paise, Position};

use crate::node::Node;

/// A meter not heard for this long counts as silent.
const RECENT_S: u32 = 24 * 3600;
/// Rows of the registry read at once.
const PAGE: usize = 10_000;

/// The pages and their API.
pub fn pages(node: &Node) -> Router {
    let adapter = Arc::new(Pages(node.clone()));
    let options = app::Options::new(node.calendar.clone(), node.config.http.demo);
    app::router(adapter.clone(), adapter, options)
}

struct Pages(Node);

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> AppError {
    AppError::Failed(Box::new(error))
}

impl Pages {
    async fn account(&self, number: &AccountNumber) -> Result<Option<AccountId>, AppError> {
        self.0.registry.account_by_number(number).await.map_err(failed)
    }

    /// Serial numbers of the meters of these accounts.
    async fn serials(&self) -> Result<HashMap<AccountId, String>, AppError> {
        let meters = self.0.registry.meters(MeterId(0), PAGE).await.map_err(failed)?;
        Ok(meters
            .into_iter()
            .filter_map(|meter| meter.account.map(|account| (account, meter.serial)))
            .collect())
    }
}

#[async_trait]
impl Consumers for Pages {
    async fn accounts(&self, limit: usize) -> Result<Vec<AccountEntry>, AppError> {
        let infos = self.0.registry.accounts(AccountId(0), limit.min(PAGE)).await.map_err(failed)?;
        let mut serials = self.serials().await?;
        let entry = |info: registry::AccountInfo| AccountEntry {
            meter_serial: serials.remove(&info.account),
            number: info.number,
            category: info.category,
        };
        Ok(infos.into_iter().map(entry).collect())
    }

    async fn card(&self, number: &AccountNumber) -> Result<Option<Card>, AppError> {
        let Some(account) = self.account(number).await? else { return Ok(None) };
        let now = self.0.clock.now();
        let looked = self.0.pipeline.look(move |fold| {
            let view = fold.account(account)?;
            Some((view, fold.meter_of(account), fold.position()))
        });
        let Some((view, meter, position)) = looked.await.map_err(failed)? else { return Ok(None) };
        Ok(Some(Card {
            meter_serial: self.serials().await?.remove(&account),
            now,
            heard_at: view.heard_at,
            complete_until: meter.and_then(|meter| meter.complete_until),
            position,
            view,
        }))
    }

    async fn days(&self, number: &AccountNumber, count: usize) -> Result<Option<Vec<DayUsage>>, AppError> {
        let Some(account) = self.account(number).await? else { return Ok(None) };
        let today = self.0.calendar.day_of(self.0.clock.now());
        let first = today.plus(1 - i32::try_from(count).unwrap_or(i32::MAX));
        let mut days = self.days_in_sql(account, first).await?;
        let view = self.0.pipeline.look(move |fold| fold.account(account)).await.map_err(failed)?;
        // The open days are the fold's: the tables have no charge for them yet.
        for recent in view.into_iter().flat_map(|view| view.recent) {
            let day = days.entry(recent.day).or_insert_with(|| empty(recent.day));
            (day.energy_wh, day.charge, day.closed) = (recent.energy_wh, recent.charge, recent.closed);
        }
        Ok(Some(days.into_values().filter(|day| day.day >= first && day.day <= today).collect()))
    }

    async fn recharge(
        &self,
        number: &AccountNumber,
        amount: Paise,
        payment_id: &str,
    ) -> Result<RechargeOutcome, AppError> {
        let Some(account) = self.account(number).await? else { return Ok(RechargeOutcome::UnknownAccount) };
        let applied = self
            .0
            .recharge(account, amount, payment_id.to_owned())
            .await
            .map_err(|error| AppError::Failed(error.into()))?;
        let view = self.0.pipeline.look(move |fold| fold.account(account)).await.map_err(failed)?;
        let balance = view.map(|view| view.balance()).unwrap_or_default();
        let as_of = self.0.clock.now();
        Ok(match applied.outcome {
            Outcome::RechargePosted { .. } => {
                RechargeOutcome::Posted { balance, as_of, position: applied.position }
            }
            Outcome::RechargeExists { position } => RechargeOutcome::Exists { balance, as_of, position },
            Outcome::RechargeDiffers { position, account: other, amount } => {
                RechargeOutcome::Differs { amount, same_account: other == account, position }
            }
            Outcome::UnknownAccount => RechargeOutcome::UnknownAccount,
            other => return Err(AppError::Failed(other.to_string().into())),
        })
    }
}

impl Pages {
    async fn days_in_sql(
        &self,
        account: AccountId,
        first: CivilDay,
    ) -> Result<BTreeMap<CivilDay, DayUsage>, AppError> {
        let statement = format!(
            "SELECT usage_date, CAST(sum(import_kwh) * 1000 AS BIGINT) AS import_wh, \
             CAST(sum(intervals_expected) AS BIGINT) AS expected, CAST(sum(intervals_present) AS BIGINT) AS present, \
             CAST(max(charge_rupees) * 100 AS BIGINT) AS charge_paise \
             FROM daily_usage WHERE account_id = {account} AND usage_date >= DATE '{first}' GROUP BY usage_date"
        );
        let rows = super::pins::rows(&self.0.engine, &statement)
            .await
            .map_err(|error| AppError::Failed(error.into()))?;
        let number = |row: &serde_json::Value, key: &str| row[key].as_i64().unwrap_or_default();
        let count = |value: i64| u32::try_from(value).unwrap_or_default();
        let mut days = BTreeMap::new();
        for row in rows {
            let Some(day) = row["usage_date"].as_str().and_then(|day| day.parse().ok()) else { continue };
            let (expected, present) = (number(&row, "expected"), number(&row, "present"));
            let usage = DayUsage {
                day,
                energy_wh: number(&row, "import_wh"),
                charge: Paise(number(&row, "charge_paise")),
                closed: row["charge_paise"].is_i64(),
                intervals_expected: count(expected),
                intervals_missing: count(expected - present),
            };
            days.insert(day, usage);
        }
        Ok(days)
    }
}

fn empty(day: CivilDay) -> DayUsage {
    DayUsage {
        day,
        energy_wh: 0,
        charge: Paise::ZERO,
        closed: false,
        intervals_expected: 0,
        intervals_missing: 0,
    }
}

#[async_trait]
impl Status for Pages {
    async fn status(&self) -> Result<StatusView, AppError> {
        let now = self.0.clock.now();
        let since = now.plus_seconds(-i64::from(RECENT_S));
        let looked = self.0.pipeline.study(move |fold| {
            let mut view = StatusView { now, tallies: fold.tallies(), ..StatusView::default() };
            view.meters.recent_s = RECENT_S;
            for meter in fold.meters() {
                view.meters.registered += 1;
                view.meters.heard += u64::from(meter.heard_at.is_some());
                view.meters.heard_recently += u64::from(meter.heard_at.is_some_and(|at| at >= since));
                view.meters.last_heard_at = view.meters.last_heard_at.max(meter.heard_at);
            }
            for account in fold.accounts() {
                view.ledger.accounts += 1;
                view.ledger.booked += account.booked;
                view.ledger.accrued += account.accrued;
            }
            let standing = fold.standing();
            view.ledger.closed_until = standing.closed_until;
            view.ledger.trial_balance = standing.trial_balance;
            view.positions.applied = standing.position;
            view.gap_ranges = fold.gaps(usize::MAX).len() as u64;
            view
        });
        let mut view = looked.await.map_err(failed)?;
        view.positions.durable =
            Position(self.0.pipeline.stats().durable_position).max(view.positions.applied);
        view.positions.committed = self.0.lake.committed();
        view.tables = self
            .0
            .lake
            .inspect()
            .iter()
            .map(|table| app::TableRows {
                name: table.table.name().to_owned(),
                rows: table.rows + table.hot_rows,
            })
            .collect();
        let waiting = self.0.registry.waiting_counts().await.map_err(failed)?;
        view.waiting_frames = waiting.frames;
        Ok(view)
    }
}
