//! The JSON of the API. Times are RFC 3339 in UTC, days ISO 8601, money minor units with their currency.

use model::view::Tally;
use model::{CivilDay, Instant, Paise, Source};
use serde::{Deserialize, Serialize};

use crate::outlook::Outlook;
use crate::{AccountEntry, Card, DayUsage, StatusView};

#[derive(Serialize)]
pub(crate) struct Money {
    paise: i64,
    currency: &'static str,
}

impl From<Paise> for Money {
    fn from(amount: Paise) -> Money {
        Money { paise: amount.0, currency: "INR" }
    }
}

#[derive(Serialize)]
pub(crate) struct AccountList {
    accounts: Vec<AccountItem>,
}

#[derive(Serialize)]
struct AccountItem {
    account_number: String,
    meter_serial: Option<String>,
    category: String,
}

impl From<Vec<AccountEntry>> for AccountList {
    fn from(entries: Vec<AccountEntry>) -> AccountList {
        let item = |entry: AccountEntry| AccountItem {
            account_number: entry.number.to_string(),
            meter_serial: entry.meter_serial,
            category: entry.category,
        };
        AccountList { accounts: entries.into_iter().map(item).collect() }
    }
}

#[derive(Serialize)]
pub(crate) struct Account {
    account_number: String,
    meter_serial: Option<String>,
    category: String,
    sanctioned_w: u32,
    /// The time of the look: of the balance and all that follows from it.
    as_of: String,
    position: u64,
    balance: Money,
    booked: Money,
    booked_until: Option<String>,
    accrued: Money,
    lasts: Option<Lasts>,
    today: Option<DayItem>,
    yesterday: Option<DayItem>,
    month_energy_wh: i64,
    month_demand_w: i64,
    last_recharge: Option<LastRecharge>,
    heard_at: Option<String>,
    complete_until: Option<String>,
}

#[derive(Serialize)]
struct Lasts {
    days: i64,
    per_day: Money,
    over_days: usize,
}

#[derive(Serialize)]
struct LastRecharge {
    amount: Money,
    at: String,
}

impl Account {
    pub(crate) fn new(
        number: String,
        card: &Card,
        today: CivilDay,
        days: &[DayUsage],
        outlook: Option<Outlook>,
    ) -> Account {
        let view = &card.view;
        Account {
            account_number: number,
            meter_serial: card.meter_serial.clone(),
            category: view.tariff.clone(),
            sanctioned_w: view.sanctioned_w,
            as_of: card.now.to_string(),
            position: card.position.0,
            balance: view.balance().into(),
            booked: view.booked.into(),
            booked_until: view.booked_until.map(|day| day.to_string()),
            accrued: view.accrued.into(),
            lasts: outlook.map(|outlook| Lasts {
                days: outlook.days,
                per_day: outlook.per_day.into(),
                over_days: outlook.over_days,
            }),
            today: recent(card, today, days),
            yesterday: recent(card, today.previous(), days),
            month_energy_wh: view.month_energy_wh,
            month_demand_w: view.month_demand_w,
            last_recharge: view
                .last_recharge
                .map(|(amount, at)| LastRecharge { amount: amount.into(), at: at.to_string() }),
            heard_at: text(card.heard_at),
            complete_until: text(card.complete_until),
        }
    }
}

/// A day as the card's own look has it, so that it agrees with the balance; how complete it is, from the days.
fn recent(card: &Card, day: CivilDay, days: &[DayUsage]) -> Option<DayItem> {
    let counted = days.iter().find(|usage| usage.day == day);
    let energy = card.view.recent.iter().find(|energy| energy.day == day);
    match (energy, counted) {
        (Some(energy), counted) => Some(DayItem {
            date: day.to_string(),
            energy_wh: energy.energy_wh,
            charge: energy.charge.into(),
            closed: energy.closed,
            intervals_expected: counted.map_or(0, |usage| usage.intervals_expected),
            intervals_missing: counted.map_or(0, |usage| usage.intervals_missing),
        }),
        (None, Some(usage)) => Some(DayItem::from(*usage)),
        (None, None) => None,
    }
}

fn text(instant: Option<Instant>) -> Option<String> {
    instant.map(|instant| instant.to_string())
}

#[derive(Serialize)]
pub(crate) struct Days {
    pub(crate) account_number: String,
    /// The last day is that of this moment's request.
    pub(crate) days: Vec<DayItem>,
}

#[derive(Serialize)]
pub(crate) struct DayItem {
    date: String,
    energy_wh: i64,
    charge: Money,
    closed: bool,
    intervals_expected: u32,
    intervals_missing: u32,
}

impl From<DayUsage> for DayItem {
    fn from(usage: DayUsage) -> DayItem {
        DayItem {
            date: usage.day.to_string(),
            energy_wh: usage.energy_wh,
            charge: usage.charge.into(),
            closed: usage.closed,
            intervals_expected: usage.intervals_expected,
            intervals_missing: usage.intervals_missing,
        }
    }
}

/// Body of a recharge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RechargeRequest {
    pub(crate) payment_id: String,
    pub(crate) amount_paise: i64,
}

#[derive(Serialize)]
pub(crate) struct RechargeReceipt {
    pub(crate) payment_id: String,
    pub(crate) amount: Money,
    pub(crate) balance: Money,
    pub(crate) as_of: String,
    pub(crate) position: u64,
}

#[derive(Serialize)]
pub(crate) struct StatusBody {
    as_of: String,
    meters: Meters,
    sources: Vec<SourceItem>,
    waiting_frames: u64,
    gap_ranges: u64,
    tables: Vec<TableItem>,
    positions: PositionsItem,
    ledger: Ledger,
}

#[derive(Serialize)]
struct Meters {
    registered: u64,
    heard: u64,
    heard_recently: u64,
    recent_s: u32,
    last_heard_at: Option<String>,
}

#[derive(Serialize)]
struct SourceItem {
    source: &'static str,
    received: u64,
    stored: u64,
    repeated: u64,
    quarantined: u64,
    refused: u64,
    contested: u64,
    conserved: bool,
}

#[derive(Serialize)]
struct TableItem {
    table: String,
    rows: u64,
}

#[derive(Serialize)]
struct PositionsItem {
    durable: u64,
    applied: u64,
    committed: u64,
}

#[derive(Serialize)]
struct Ledger {
    accounts: u64,
    booked: Money,
    accrued: Money,
    recharged: Option<Money>,
    charged: Option<Money>,
    closed_until: Option<String>,
    trial_balance: Money,
}

impl From<StatusView> for StatusBody {
    fn from(view: StatusView) -> StatusBody {
        StatusBody {
            as_of: view.now.to_string(),
            meters: Meters {
                registered: view.meters.registered,
                heard: view.meters.heard,
                heard_recently: view.meters.heard_recently,
                recent_s: view.meters.recent_s,
                last_heard_at: text(view.meters.last_heard_at),
            },
            sources: Source::ALL
                .iter()
                .zip(&view.tallies)
                .map(|(source, tally)| source_item(*source, tally))
                .collect(),
            waiting_frames: view.waiting_frames,
            gap_ranges: view.gap_ranges,
            tables: view
                .tables
                .into_iter()
                .map(|table| TableItem { table: table.name, rows: table.rows })
                .collect(),
            positions: PositionsItem {
                durable: view.positions.durable.0,
                applied: view.positions.applied.0,
                committed: view.positions.committed.0,
            },
            ledger: Ledger {
                accounts: view.ledger.accounts,
                booked: view.ledger.booked.into(),
                accrued: view.ledger.accrued.into(),
                recharged: view.ledger.recharged.map(Money::from),
                charged: view.ledger.charged.map(Money::from),
                closed_until: view.ledger.closed_until.map(|day| day.to_string()),
                trial_balance: view.ledger.trial_balance.into(),
            },
        }
    }
}

fn source_item(source: Source, tally: &Tally) -> SourceItem {
    let ends = tally.stored + tally.repeated + tally.quarantined + tally.refused + tally.contested;
    SourceItem {
        source: source.name(),
        received: tally.received,
        stored: tally.stored,
        repeated: tally.repeated,
        quarantined: tally.quarantined,
        refused: tally.refused,
        contested: tally.contested,
        conserved: tally.received == ends,
    }
}
