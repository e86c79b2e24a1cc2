//! Cuts: spread over the permitted hours, within the budget, and asked for again right before one goes out.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use codec::session::client::Effect;

use ledger::Fold;
use ledger::credit::{amount_to_keep, permitted_until};
use metrics::gauge;
use model::view::AccountView;
use model::{AccountId, Instant};
use registry::{
    AccountInfo, SupplyCommand, SupplyGroup, SupplyKind, SupplyOfMeter, SupplyState, SupplyStep, SupplyTicket,
};
use tokio::sync::Semaphore;

use super::budget::is_surge;
use super::{Decided, Due, Ladder, Noted, Supply, Whom, due};
use crate::PipelineError;
use crate::session::{MeterSession, RelayMove, RelayState, SessionError};
use crate::telemetry::SUPPLY_FROZEN;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
const WEEK_S: i64 = 7 * DAY_S;

/// Tickets of a day that could not be sent, after which a meter is left alone: it would take the turns of those that can be reached.
const MAX_EXPIRED: u64 = 2;
/// How long it may take to note that a cut goes out: what was asked before is as old by then.
const ASKED_FOR: Duration = Duration::from_secs(2);
/// Looks at a relay whose contacts and logic differ, after which the contacts are believed.
const MAX_UNSETTLED: u32 = 8;
/// A relay that was told to open and did not is looked at once more after so long: its contacts may be slower than its answer.
const SETTLING: Duration = Duration::from_secs(3);

/// Cuts of the fleet that went out, and how many there may be.
#[derive(Clone, Copy, Debug)]
struct Spent {
    accounts: u64,
    an_hour: u64,
    a_day: u64,
}

impl Supply {
    /// Queues those who are due and whom the round may take.
    pub(super) async fn queue_cuts(&self) -> Result<(), PipelineError> {
        if !self.0.options.cuts || self.is_frozen().await? || !self.0.pipeline.readiness().is_ready() {
            return Ok(());
        }
        let now = self.now();
        let Some(until) = self.permitted_until(now).await? else { return Ok(()) };
        if self.is_surge(now).await? {
            tracing::error!("far more cuts than in the weeks before: all cuts are frozen");
            return self.freeze("far more cuts in an hour than in the same hour of the weeks before").await;
        }
        let silent = self.too_many_silent(now).await?;
        self.0.is_silent.store(silent.is_some(), Ordering::Relaxed);
        if let Some((heard, silent)) = silent {
            tracing::warn!(heard, silent, "too many meters have fallen silent: nobody is cut");
            return Ok(());
        }
        let whom = Whom::Due(self.taken().await?);
        let found = due(&self.0.pipeline, &self.0.registry, &self.0.calendar, now, whom).await?;
        let mut candidates: Vec<&Decided> =
            found.accounts.iter().filter(|one| one.decision.is_due()).collect();
        // Who was told first.
        candidates.sort_by_key(|one| (one.account.credit.used_up_told_at, one.account.account));
        let room = self.room(&candidates, now, until).await?;
        let mut groups = BTreeMap::new();
        let mut queued = 0;
        for one in candidates {
            if queued >= room {
                break;
            }
            queued += u64::from(self.queue_cut(&found, one, now, &mut groups).await?);
        }
        Ok(())
    }

    /// How many this round may take: those who are due spread over the rounds that are left, within the budget.
    async fn room(
        &self,
        candidates: &[&Decided],
        now: Instant,
        until: Instant,
    ) -> Result<u64, PipelineError> {
        let every_s = i64::try_from(self.0.options.every.as_secs()).unwrap_or(i64::MAX).max(1);
        let rounds = (until.seconds() - now.seconds()).div_euclid(every_s).max(1);
        let spread = (candidates.len() as u64).div_ceil(rounds.unsigned_abs());
        let Spent { accounts, an_hour, a_day } = self.spent(now).await?;
        let open = self.0.registry.open_supply(SupplyKind::Cut).await?;
        let waiting = open.iter().filter(|command| command.state == SupplyState::Queued).count() as u64;
        let left = self.0.options.budget.left(accounts, an_hour + waiting, a_day + waiting);
        Ok(spread.min(left))
    }

    /// Queues one cut, unless its transformer or its meter has had enough.
    async fn queue_cut(
        &self,
        found: &Due,
        one: &Decided,
        now: Instant,
        groups: &mut BTreeMap<SupplyGroup, u64>,
    ) -> Result<bool, PipelineError> {
        let Some(meter) = one.meter else { return Ok(false) };
        let group = group_of(&one.info);
        if !groups.contains_key(&group) {
            groups.insert(group.clone(), self.left_of_group(&group, now).await?);
        }
        let Some(left) = groups.get_mut(&group).filter(|left| **left > 0) else { return Ok(false) };
        let SupplyOfMeter { sent, expired, by_hand } =
            self.0.registry.supply_of_meter(meter, now.plus_seconds(-DAY_S)).await?;
        if by_hand || expired >= MAX_EXPIRED || sent >= self.0.options.budget.meter_a_day {
            return Ok(false);
        }
        let ticket = SupplyTicket {
            id: self.new_id(),
            account: one.account.account,
            meter,
            kind: SupplyKind::Cut,
            reason: "balance".to_owned(),
            evidence: evidence(found, &one.account, &one.info),
            since: one.account.credit.used_up_told_at.unwrap_or(now),
            queued_at: now,
            expires_at: Some(now.plus_seconds(self.0.options.ticket_s)),
        };
        let is_queued = self.0.registry.queue_supply(&ticket).await?;
        *left -= u64::from(is_queued);
        Ok(is_queued)
    }

    /// Works on a cut until it is known what became of it.
    pub(super) async fn cut(&self, command: &SupplyCommand, turns: &Semaphore) {
        let ticket = &command.ticket;
        let mut ladder = Ladder(0);
        let mut is_sent = command.state == SupplyState::Sent;
        while !is_sent {
            if ticket.expires_at.is_none_or(|at| self.now() >= at) {
                self.note(ticket, &SupplyStep::Ended(SupplyState::Expired), "not sent in its time").await;
                return;
            }
            let Ok(turn) = turns.acquire().await else { return };
            let mut session = match self.open(ticket).await {
                Ok(session) => session,
                Err(error) => {
                    drop(turn);
                    if self.note(ticket, &SupplyStep::Tried, &error.to_string()).await == Noted::Over {
                        return;
                    }
                    ladder.wait().await;
                    continue;
                }
            };
            let sent = self.send(&mut session, ticket).await;
            session.close().await;
            match sent {
                Ok(Sent::Over) => {
                    // Whoever paid meanwhile is not to wait for a round.
                    self.wake(ticket.account);
                    return;
                }
                Ok(Sent::Unknown) => is_sent = true,
                Err(error) => {
                    drop(turn);
                    if self.note(ticket, &SupplyStep::Tried, &error.to_string()).await == Noted::Over {
                        return;
                    }
                    ladder.wait().await;
                }
            }
        }
        self.wake(ticket.account);
        self.find_out(ticket, turns).await;
    }

    /// Sends a cut, if it still may be, and reads back what it did.
    ///
    /// # Errors
    /// As long as nothing went out.
    async fn send(&self, session: &mut MeterSession, ticket: &SupplyTicket) -> Result<Sent, SessionError> {
        let before = session.relay().await?;
        if !before.supplied {
            let said = format!("the relay is {} already, by somebody else", before.words());
            self.note(ticket, &SupplyStep::Ended(SupplyState::OpenAlready), &said).await;
            return Ok(Sent::Over);
        }
        {
            let _one = self.0.sending.lock().await;
            let asked = std::time::Instant::now();
            if let Some(said) = self.hindered(ticket).await {
                self.note(ticket, &SupplyStep::Ended(SupplyState::Cancelled), &said).await;
                return Ok(Sent::Over);
            }
            if self.note(ticket, &SupplyStep::Sent, "").await != Noted::Done {
                return Ok(Sent::Over);
            }
            if asked.elapsed() > ASKED_FOR {
                let said = "it took too long to note that it goes out, so nothing went out";
                self.note(ticket, &SupplyStep::Ended(SupplyState::Failed), said).await;
                return Ok(Sent::Over);
            }
        }
        let failed = session.move_relay(RelayMove::Disconnect).await.err();
        let said = failed.as_ref().map(ToString::to_string);
        let is_refused = failed.is_some_and(|error| error.effect() == Effect::None);
        match self.settled(session).await {
            Some(state) if !state.supplied => {
                let event_at = self.event_of(session, RelayMove::Disconnect, ticket.queued_at).await;
                self.note(ticket, &SupplyStep::Confirmed(event_at), state.words()).await;
                Ok(Sent::Over)
            }
            Some(state) if state.is_restored() && (is_refused || said.is_none()) => {
                let ended = if is_refused { SupplyState::Refused } else { SupplyState::Failed };
                let said = said.unwrap_or_else(|| "it was taken, and the relay stands as before".to_owned());
                self.note(ticket, &SupplyStep::Ended(ended), &said).await;
                Ok(Sent::Over)
            }
            _ => {
                let said = said.unwrap_or_else(|| "not read back, or not settled".to_owned());
                self.note(ticket, &SupplyStep::Tried, &said).await;
                Ok(Sent::Unknown)
            }
        }
    }

    /// How the relay stands after it was told to open; looked at twice where it does not seem to have.
    async fn settled(&self, session: &mut MeterSession) -> Option<RelayState> {
        let state = session.relay().await.ok()?;
        if !state.supplied {
            return Some(state);
        }
        tokio::time::sleep(SETTLING).await;
        session.relay().await.ok()
    }

    /// What a cut did whose answer was lost: nothing else goes out until that is known, or a reconnection overtakes it.
    async fn find_out(&self, ticket: &SupplyTicket, turns: &Semaphore) {
        let (mut ladder, mut unsettled) = (Ladder(0), 0);
        loop {
            let looked = {
                let Ok(_turn) = turns.acquire().await else { return };
                self.look_at(ticket).await
            };
            let over = match &looked {
                Ok(Looked::Over(step)) => Some((step.clone(), "found out later, its answer was lost")),
                Ok(Looked::Unsettled) if unsettled >= MAX_UNSETTLED => {
                    let said = "the meter says that it is cut, and its contacts stay closed";
                    Some((SupplyStep::Ended(SupplyState::Failed), said))
                }
                _ => None,
            };
            if let Some((step, said)) = over {
                self.note(ticket, &step, said).await;
                self.wake(ticket.account);
                return;
            }
            let said = match looked {
                Err(said) => said,
                Ok(_) => {
                    unsettled += 1;
                    "the contacts are closed, and the meter says something else".to_owned()
                }
            };
            let noted = self.note(ticket, &SupplyStep::Tried, &said).await;
            if noted == Noted::Over {
                return;
            }
            ladder.wait().await;
        }
    }

    /// What became of a cut, by the relay as it stands now; else why that is not known.
    async fn look_at(&self, ticket: &SupplyTicket) -> Result<Looked, String> {
        let mut session = self.open(ticket).await.map_err(|error| error.to_string())?;
        let step = match session.relay().await {
            Ok(state) if !state.supplied => {
                let event_at = self.event_of(&mut session, RelayMove::Disconnect, ticket.queued_at).await;
                Ok(Looked::Over(SupplyStep::Confirmed(event_at)))
            }
            Ok(state) if state.is_restored() => Ok(Looked::Over(SupplyStep::Ended(SupplyState::Failed))),
            Ok(_) => Ok(Looked::Unsettled),
            Err(error) => Err(error.to_string()),
        };
        session.close().await;
        step
    }

    /// Why a cut may not go out now, if so: everything that was asked when it was queued is asked again, and whether money
    /// that comes can be booked.
    async fn hindered(&self, ticket: &SupplyTicket) -> Option<String> {
        match self.hindrances(ticket).await {
            Ok(found) if found.is_empty() => None,
            Ok(found) => Some(found.join(", ")),
            // What cannot be asked holds it.
            Err(error) => Some(format!("it cannot be asked whether it may be sent: {error}")),
        }
    }

    async fn hindrances(&self, ticket: &SupplyTicket) -> Result<Vec<String>, PipelineError> {
        let now = self.now();
        let whom = Whom::Account(ticket.account);
        let found = due(&self.0.pipeline, &self.0.registry, &self.0.calendar, now, whom).await?;
        let Some(one) = found.accounts.first() else { return Ok(vec!["no such account".to_owned()]) };
        let Spent { accounts, an_hour, a_day } = self.spent(now).await?;
        let of_meter = self.0.registry.supply_of_meter(ticket.meter, now.plus_seconds(-DAY_S)).await?;
        let budget = &self.0.options.budget;
        let own = [
            (!self.0.options.cuts, "cuts are switched off"),
            (self.is_frozen().await?, "all cuts are frozen"),
            (self.is_surge(now).await?, "there are far more cuts than in the weeks before"),
            (self.0.is_silent.load(Ordering::Relaxed), "too many meters have fallen silent"),
            (!self.0.pipeline.readiness().is_ready(), "what comes cannot be booked now"),
            (ticket.expires_at.is_none_or(|at| now >= at), "its ticket has expired"),
            (one.meter != Some(ticket.meter), "the account has another meter"),
            (budget.left(accounts, an_hour, a_day) == 0, "the fleet's budget is spent"),
            (self.left_of_group(&group_of(&one.info), now).await? == 0, "the transformer's budget is spent"),
            (of_meter.sent >= budget.meter_a_day, "the meter's budget is spent"),
            (of_meter.by_hand, "somebody switched the relay by hand"),
        ];
        let own = own.into_iter().filter(|(holds, _)| *holds).map(|(_, words)| words.to_owned());
        Ok(own.chain(one.decision.hindrances.iter().map(ToString::to_string)).collect())
    }

    async fn is_frozen(&self) -> Result<bool, PipelineError> {
        let is_frozen = self.0.registry.cut_freeze().await?.is_some();
        gauge!(SUPPLY_FROZEN).set(f64::from(u8::from(is_frozen)));
        Ok(is_frozen)
    }

    async fn permitted_until(&self, now: Instant) -> Result<Option<Instant>, PipelineError> {
        let (calendar, day) = (self.0.calendar.clone(), self.0.calendar.day_of(now));
        let look = move |fold: &Fold| {
            fold.credit_policy_on(day).and_then(|policy| permitted_until(policy, &calendar, now))
        };
        self.0.pipeline.look(look).await
    }

    /// Accounts that have a command, or are cut already.
    async fn taken(&self) -> Result<HashSet<AccountId>, PipelineError> {
        let mut taken = HashSet::new();
        for kind in [SupplyKind::Cut, SupplyKind::Reconnect] {
            let open = self.0.registry.open_supply(kind).await?;
            taken.extend(open.into_iter().map(|command| command.ticket.account));
        }
        let cuts = self.0.registry.open_cuts(None).await?;
        taken.extend(cuts.into_iter().filter(|cut| cut.is_dark).map(|cut| cut.account));
        Ok(taken)
    }

    async fn spent(&self, now: Instant) -> Result<Spent, PipelineError> {
        Ok(Spent {
            accounts: self.0.registry.account_count().await?,
            an_hour: self.0.registry.cuts_sent(now.plus_seconds(-HOUR_S), None).await?,
            a_day: self.0.registry.cuts_sent(now.plus_seconds(-DAY_S), None).await?,
        })
    }

    async fn left_of_group(&self, group: &SupplyGroup, now: Instant) -> Result<u64, PipelineError> {
        let (accounts, cut) = self.0.registry.supply_group(group, now.plus_seconds(-HOUR_S)).await?;
        Ok(self.0.options.budget.left_of_transformer(accounts, cut))
    }

    /// Whether far more went out in the last hour than in the same hour of the four weeks before: not before there are
    /// four such weeks.
    async fn is_surge(&self, now: Instant) -> Result<bool, PipelineError> {
        let first = self.0.registry.first_cut().await?;
        if first.is_none_or(|first| first > now.plus_seconds(-4 * WEEK_S)) {
            return Ok(false);
        }
        let mut weeks = [0; 4];
        for (back, sent) in (1..).zip(&mut weeks) {
            let end = now.plus_seconds(-back * WEEK_S);
            *sent = self.0.registry.cuts_sent(end.plus_seconds(-HOUR_S), Some(end)).await?;
        }
        // What two persons have seen and let go on is none any more.
        let from = now.plus_seconds(-HOUR_S).max(self.0.registry.thawed_at().await?.unwrap_or_default());
        let an_hour = self.0.registry.cuts_sent(from, None).await?;
        Ok(is_surge(an_hour, weeks))
    }

    /// Meters that were heard in the last week, and how many of them are silent for a day, where those are too many.
    async fn too_many_silent(&self, now: Instant) -> Result<Option<(u64, u64)>, PipelineError> {
        let (week, day) = (now.plus_seconds(-WEEK_S), now.plus_seconds(-DAY_S));
        let count = move |fold: &Fold| {
            fold.meters()
                .filter_map(|meter| meter.heard_at)
                .filter(|heard_at| *heard_at >= week)
                .fold((0, 0), |(heard, silent), heard_at| (heard + 1, silent + u64::from(heard_at < day)))
        };
        let (heard, silent) = self.0.pipeline.study(count).await?;
        let is_too_many = self.0.options.budget.are_too_many_silent(heard, silent);
        Ok(is_too_many.then_some((heard, silent)))
    }
}

/// What a relay shows of a cut whose answer was lost.
enum Looked {
    /// What became of it.
    Over(SupplyStep),
    /// The contacts are closed, and the logic of the meter says otherwise.
    Unsettled,
}

/// What became of a cut that a session was open for.
enum Sent {
    /// It is known.
    Over,
    /// It went out, and what it did is not.
    Unknown,
}

fn group_of(info: &AccountInfo) -> SupplyGroup {
    SupplyGroup { division: info.division.clone(), transformer: info.transformer.clone() }
}

/// What a cut was decided on.
fn evidence(found: &Due, account: &AccountView, info: &AccountInfo) -> String {
    let told = account.credit.used_up_told_at.map(|at| at.to_string());
    serde_json::json!({
        "policy": found.policy.as_ref().map(|policy| format!("{} from {}", policy.name, policy.from)),
        "division": info.place(),
        "booked_paise": account.booked.0,
        "balance_paise": account.balance().0,
        "amount_to_keep_paise": amount_to_keep(found.policy.as_ref(), account).0,
        "booked_until": account.booked_until.map(|day| day.to_string()),
        "heard_at": account.heard_at.map(|at| at.to_string()),
        "used_up_told_at": told,
        "emergency_until": account.credit.emergency_until.map(|at| at.to_string()),
    })
    .to_string()
}
