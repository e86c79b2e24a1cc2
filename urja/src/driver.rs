//! Drives a head-end through simulated days: its clock moves, meters push and change their keys, consumers recharge,
//! days close.
//!
//! The head-end's clock is moved to each step first and the pushes that are due by then follow, so history is taken in
//! as if it happened. Requests are repeated while the head-end is away: all of them may be given twice.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::Method;
use fleet::{Fleet, Rng, Stats};
use model::{AccountNumber, Calendar, CivilDay, Instant, Paise};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::owner::{Answer, Owner};

/// Hours of a day to which the clock is moved: after the midnight registers, at the close of the day before, and on.
const STEPS: [(i8, i8); 5] = [(0, 45), (6, 0), (12, 0), (18, 0), (23, 59)];
/// How long a head-end may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// One account in so many recharges on a day.
const RECHARGE_EVERY: u64 = 9;

/// A head-end, a fleet, and what is known of the days.
pub struct Driver<'a> {
    owner: &'a Owner,
    fleet: &'a mut Fleet,
    calendar: Calendar,
    accounts: Vec<AccountNumber>,
    closed: Option<CivilDay>,
    /// The head-end's clock stands here already: earlier steps are passed over.
    after: Instant,
    stop: CancellationToken,
    /// Recharges posted.
    pub recharges: u64,
}

impl<'a> Driver<'a> {
    /// Nothing is sent yet. The head-end's clock stands at `after`; `stop` ends after the step under way.
    pub fn new(
        owner: &'a Owner,
        fleet: &'a mut Fleet,
        calendar: Calendar,
        after: Instant,
        stop: CancellationToken,
    ) -> Driver<'a> {
        let accounts = fleet.meters().iter().map(|meter| meter.account.clone()).collect();
        Driver { owner, fleet, calendar, accounts, closed: None, after, stop, recharges: 0 }
    }

    /// Whether to go on.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// One civil day up to `until` at most, which is its end or a moment of it.
    ///
    /// # Errors
    /// When the head-end refuses, or stays away.
    pub async fn day(
        &mut self,
        day: CivilDay,
        until: Instant,
        mut progress: impl FnMut(Stats),
    ) -> Result<()> {
        self.rekey(Some(day)).await?;
        for (hour, minute) in STEPS {
            let step = self.calendar.at(day, hour, minute);
            if step > until || self.is_stopped() {
                return Ok(());
            }
            if step <= self.after {
                continue;
            }
            self.step(step, &mut progress).await?;
            if hour == 12 {
                self.recharge(day).await?;
            }
        }
        Ok(())
    }

    /// Moves the clock to `now` and sends what is due by then.
    ///
    /// # Errors
    /// When the head-end refuses, or stays away.
    pub async fn step(&mut self, now: Instant, mut progress: impl FnMut(Stats)) -> Result<()> {
        self.drive(now).await?;
        self.fleet.push_until(now, &mut progress).await?;
        Ok(())
    }

    /// Tells the head-end the keys that meters go over to on a day, or on any. It may be told twice.
    ///
    /// # Errors
    /// When the head-end refuses, or stays away.
    pub async fn rekey(&self, day: Option<CivilDay>) -> Result<()> {
        let csv = self.fleet.new_keys(day);
        if !csv.is_empty() {
            self.ask("/admin/meters/keys", csv).await?.json()?;
        }
        Ok(())
    }

    async fn drive(&mut self, now: Instant) -> Result<()> {
        let body = json!({ "now": now.to_string() });
        let answer = self.ask("/admin/clock", body.to_string().into_bytes()).await?.json()?;
        let Some(upto) = answer["closed_until"].as_str() else { return Ok(()) };
        let upto: CivilDay = upto.parse()?;
        let mut day = self.closed.map_or(upto, CivilDay::next);
        while day <= upto {
            self.fleet.truth().day_closed(day)?;
            day = day.next();
        }
        self.closed = Some(upto);
        Ok(())
    }

    /// Some consumers pay; who and how much is drawn from the seed, the day and the account.
    async fn recharge(&mut self, day: CivilDay) -> Result<()> {
        let seed = self.fleet.options().seed;
        for (index, account) in self.accounts.clone().into_iter().enumerate() {
            let mut rng = Rng::keyed(seed, &[0x7061, u64::from(day.0.unsigned_abs()), index as u64]);
            if rng.below(RECHARGE_EVERY) != 0 {
                continue;
            }
            let rupees = 200 + 50 * rng.between(0, 16);
            let amount = Paise::from_rupees(rupees).context("an amount of a few hundred rupees fits")?;
            let id = format!("fleet-{seed}-{day}-{index}");
            let body = json!({ "account": account.as_str(), "amount_paise": amount.0, "payment_id": id });
            let answer = self.ask("/admin/recharges", body.to_string().into_bytes()).await?.json()?;
            let outcome = answer["outcome"].as_str().unwrap_or_default();
            self.fleet.truth().recharge(&account, amount, &id, outcome)?;
            self.recharges += 1;
        }
        Ok(())
    }

    /// A request, repeated while the head-end does not answer, or fails for reasons of its own.
    async fn ask(&self, path: &str, body: Vec<u8>) -> Result<Answer> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.owner.send(Method::POST, path, body.clone()).await {
                Ok(answer) if answer.status.is_server_error() && begun.elapsed() <= PATIENCE => {
                    if self.is_stopped() {
                        return Ok(answer);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error.context(format!("the head-end did not answer for {PATIENCE:?}")));
                }
                Err(_) if self.is_stopped() => bail!("stopped while the head-end was away"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
