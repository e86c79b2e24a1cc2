//! Accounts that are made up, in memory: what the pages show without a head-end behind them.

use std::collections::HashMap;
use std::sync::Mutex;

use app::{
    AccountEntry, AppError, Card, Consumers, DayUsage, LedgerTotals, MeterCounts, Positions, RechargeOutcome,
    Status, StatusView, TableRows,
};
use async_trait::async_trait;
use model::view::{AccountView, DayEnergy, Tally};
use model::{AccountId, AccountNumber, Calendar, CivilDay, Instant, Paise, Position};

const INTERVALS_A_DAY: u32 = 48;
/// Days back of which nothing is known.
const SILENT: [i32; 2] = [11, 19];
/// Days back with intervals missing.
const HOLEY: i32 = 6;

/// A few households and what they paid.
pub(crate) struct Households {
    calendar: Calendar,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    paid: Mutex<HashMap<String, Payment>>,
}

#[derive(Clone)]
struct Payment {
    number: AccountNumber,
    amount: Paise,
    at: Instant,
    position: Position,
}

impl Households {
    /// Households of India whose time is told by `clock`.
    pub(crate) fn new(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Households {
        Households { calendar: Calendar::india(), clock: Box::new(clock), paid: Mutex::new(HashMap::new()) }
    }

    fn today(&self) -> CivilDay {
        self.calendar.day_of((self.clock)())
    }

    fn index(number: &AccountNumber) -> Option<i64> {
        let digits: i64 = number.as_str().strip_prefix("PUVVNL")?.parse().ok()?;
        (1..=4).contains(&digits).then_some(digits)
    }

    /// Opening balance: comfortable, low, owing, and large.
    fn opening(index: i64) -> Paise {
        Paise([51_230, 7_840, -12_050, 12_345_650][usize::try_from(index - 1).unwrap_or(0)])
    }

    fn usage(&self, index: i64, back: i32) -> Option<DayUsage> {
        if SILENT.contains(&back) {
            return None;
        }
        let share = if back == 0 { 21 } else { i64::from(INTERVALS_A_DAY) };
        let energy_wh = (3_200
            + (i64::from(back) * i64::from(back) * 911 + i64::from(back) * 2_371 + index * 3_571) % 4_300)
            * share
            / 48;
        let charge = Paise(energy_wh * 55 / 100 * 103 / 100 + 1_133);
        let intervals_expected = u32::try_from(share).unwrap_or(INTERVALS_A_DAY);
        let intervals_missing = if back == HOLEY { 5 } else { 0 };
        let day = self.today().plus(-back);
        Some(DayUsage { day, energy_wh, charge, closed: back > 0, intervals_expected, intervals_missing })
    }

    fn booked(&self, number: &AccountNumber, index: i64) -> Paise {
        let paid = self.paid.lock().expect("no holder of the lock panics");
        Households::opening(index)
            + paid.values().filter(|payment| payment.number == *number).map(|payment| payment.amount).sum()
    }

    fn balance(&self, number: &AccountNumber, index: i64) -> Paise {
        self.booked(number, index) - self.usage(index, 0).map_or(Paise::ZERO, |usage| usage.charge)
    }
}

#[async_trait]
impl Consumers for Households {
    async fn accounts(&self, limit: usize) -> Result<Vec<AccountEntry>, AppError> {
        let entry = |index: i64| AccountEntry {
            number: format!("PUVVNL{index:010}").parse().expect("letters and ten digits"),
            meter_serial: Some(format!("SA{:07}", 1_200_000 + index)),
            category: "lmv1-urban".to_owned(),
        };
        Ok((1..=4).take(limit).map(entry).collect())
    }

    async fn card(&self, number: &AccountNumber) -> Result<Option<Card>, AppError> {
        let Some(index) = Households::index(number) else { return Ok(None) };
        let now = (self.clock)();
        let recent = [1, 0].into_iter().filter_map(|back| self.usage(index, back));
        let recent: Vec<DayEnergy> = recent
            .map(|usage| DayEnergy {
                day: usage.day,
                energy_wh: usage.energy_wh,
                charge: usage.charge,
                closed: usage.closed,
            })
            .collect();
        let paid = self.paid.lock().expect("no holder of the lock panics");
        let last =
            paid.values().filter(|payment| payment.number == *number).max_by_key(|payment| payment.position);
        let last_recharge = last.map(|payment| (payment.amount, payment.at));
        let position = Position(90_000 + paid.len() as u64);
        drop(paid);
        let view = AccountView {
            account: AccountId(u32::try_from(index).unwrap_or(0)),
            connection: model::ConnectionType::Prepaid,
            from: self.today().plus(-400),
            booked: self.booked(number, index),
            accrued: recent.last().map_or(Paise::ZERO, |day| day.charge),
            uncorrected: Paise::ZERO,
            arrears: Paise::ZERO,
            month_energy_wh: 98_000,
            month_demand_w: 2_210,
            recent,
            last_recharge,
            booked_until: Some(self.today().previous()),
            tariff: "lmv1-urban".to_owned(),
            tariff_digest: None,
            sanctioned_w: 4_000,
            heard_at: Some(now.plus_seconds(-180)),
            credit: model::view::CreditView::default(),
        };
        Ok(Some(Card {
            view,
            meter_serial: Some(format!("SA{:07}", 1_200_000 + index)),
            now,
            heard_at: Some(now.plus_seconds(-180)),
            complete_until: Some(now.plus_seconds(-720)),
            position,
        }))
    }

    async fn days(&self, number: &AccountNumber, count: usize) -> Result<Option<Vec<DayUsage>>, AppError> {
        let Some(index) = Households::index(number) else { return Ok(None) };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Some((0..count).rev().filter_map(|back| self.usage(index, back)).collect()))
    }

    async fn recharge(
        &self,
        number: &AccountNumber,
        amount: Paise,
        payment_id: &str,
    ) -> Result<RechargeOutcome, AppError> {
        let Some(index) = Households::index(number) else { return Ok(RechargeOutcome::UnknownAccount) };
        let as_of = (self.clock)();
        let mut paid = self.paid.lock().expect("no holder of the lock panics");
        let position = Position(90_001 + paid.len() as u64);
        let payment = Payment { number: number.clone(), amount, at: as_of, position };
        let (before, is_new) = match paid.get(payment_id) {
            Some(before) => (before.clone(), false),
            None => {
                paid.insert(payment_id.to_owned(), payment.clone());
                (payment, true)
            }
        };
        drop(paid);
        let (balance, position) = (self.balance(number, index), before.position);
        let same_account = before.number == *number;
        Ok(match (is_new, same_account && before.amount == amount) {
            (true, _) => RechargeOutcome::Posted { balance, as_of, position },
            (false, true) => RechargeOutcome::Exists { balance, as_of, position },
            (false, false) => RechargeOutcome::Differs { amount: before.amount, same_account, position },
        })
    }
}

#[async_trait]
impl Status for Households {
    async fn status(&self) -> Result<StatusView, AppError> {
        let now = (self.clock)();
        let since = u64::try_from(now.seconds().rem_euclid(86_400)).unwrap_or(0);
        let tally = |received: u64| Tally {
            received,
            stored: received - received / 50 - 3,
            repeated: received / 50,
            quarantined: 3,
            refused: 0,
            contested: 0,
        };
        let waiting = Tally { received: 4, stored: 4, ..Tally::default() };
        let table = |name: &str, rows: u64| TableRows { name: name.to_owned(), rows };
        let position = Position(500_000 + since * 12);
        Ok(StatusView {
            now,
            meters: MeterCounts {
                registered: 150,
                heard: 148,
                heard_recently: 146,
                recent_s: 2_700,
                last_heard_at: Some(now),
            },
            tallies: [tally(300_000 + since * 7), tally(150_000 + since * 3), tally(50_000 + since), waiting],
            waiting_frames: 2,
            gap_ranges: 3,
            tables: vec![
                table("frame", 500_000 + since * 11),
                table("interval_reading", 288_000 + since * 8),
                table("interval_revision", 41),
                table("daily_reading", 6_000),
                table("instant_reading", 120_000 + since * 2),
                table("event", 318),
                table("quarantine", 9),
                table("ledger_posting", 48_230),
                table("fact", 412),
            ],
            positions: Positions {
                durable: position,
                applied: position,
                committed: Position(position.0 - since % 300),
            },
            ledger: LedgerTotals {
                accounts: 150,
                booked: Paise(12_345_650),
                accrued: Paise(318_245),
                recharged: Some(Paise(45_000_000)),
                charged: Some(Paise(32_654_350)),
                closed_until: Some(self.today().previous()),
                trial_balance: Paise::ZERO,
            },
        })
    }
}
