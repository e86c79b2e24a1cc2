//! Reconnections: ahead of everything else, and until the relay is read back as closed.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::Fold;
use ledger::credit::{Restored, restored};
use model::view::AccountView;
use model::{AccountId, Instant};
use registry::{HoldKind, OpenCut, SupplyCommand, SupplyKind, SupplyState, SupplyStep, SupplyTicket};

use super::{Ladder, Noted, Supply, Turns, Unreached};
use crate::PipelineError;
use crate::session::{RelayMove, SessionError};

/// Tries of a reconnection that do not share their turns with later ones.
const FIRST_TRIES: usize = 3;

/// How long a session that goes on with the meter is waited for before it is asked again.
const BUSY: Duration = Duration::from_secs(1);

/// What a try came to.
enum Tried {
    /// The relay is closed; when, by the meter's log.
    Closed(Option<Instant>),
    /// The meter waits for its button.
    Ready,
    /// Not yet, and why.
    NotYet(String),
}

impl Supply {
    /// Queues a reconnection for every account that was cut and is to be supplied again; of these accounts alone where they
    /// are given. Says how many.
    pub(super) async fn queue_reconnections(
        &self,
        of: Option<&BTreeSet<AccountId>>,
    ) -> Result<usize, PipelineError> {
        let cuts = self.open_cuts(of).await?;
        if cuts.is_empty() {
            return Ok(0);
        }
        let holds = self.0.registry.cut_holds().await?;
        let protected: BTreeSet<AccountId> = holds
            .accounts
            .iter()
            .filter(|(_, kinds)| kinds.contains(&HoldKind::Protected))
            .map(|(account, _)| *account)
            .collect();
        let look = move |fold: &Fold| {
            let due = |cut: OpenCut| {
                let view = fold.account(cut.account)?;
                let why = restored(&view, protected.contains(&cut.account), cut.queued_at)?;
                Some((cut, view, why))
            };
            cuts.into_iter().filter_map(due).collect::<Vec<_>>()
        };
        let due = match of {
            Some(_) => self.0.pipeline.look(look).await?,
            None => self.0.pipeline.study(look).await?,
        };
        let mut queued = 0;
        for (cut, view, why) in due {
            let ticket = self.reconnection(&cut, &view, why);
            if self.0.registry.queue_supply(&ticket).await? {
                tracing::info!(command = %ticket.id, account = cut.account.0, reason = why.name(), "reconnection queued");
                queued += 1;
            }
        }
        Ok(queued)
    }

    async fn open_cuts(&self, of: Option<&BTreeSet<AccountId>>) -> Result<Vec<OpenCut>, PipelineError> {
        let Some(of) = of else { return Ok(self.0.registry.open_cuts(None).await?) };
        let mut cuts = Vec::new();
        for account in of {
            cuts.extend(self.0.registry.open_cuts(Some(*account)).await?);
        }
        Ok(cuts)
    }

    fn reconnection(&self, cut: &OpenCut, view: &AccountView, why: Restored) -> SupplyTicket {
        let now = self.now();
        let paid_at = view.last_recharge.map(|(_, at)| at).filter(|at| *at >= cut.queued_at);
        let paid_at = paid_at.filter(|_| why == Restored::Paid);
        let evidence = serde_json::json!({
            "booked_paise": view.booked.0,
            "balance_paise": view.balance().0,
            "last_recharge_paise": view.last_recharge.map(|(amount, _)| amount.0),
        });
        SupplyTicket {
            id: self.new_id(),
            account: cut.account,
            meter: cut.meter,
            kind: SupplyKind::Reconnect,
            reason: why.name().to_owned(),
            evidence: evidence.to_string(),
            since: paid_at.unwrap_or(now),
            queued_at: now,
            expires_at: None,
        }
    }

    /// Works on a reconnection until the relay is read back as closed.
    pub(super) async fn reconnect(&self, command: &SupplyCommand, turns: &Turns) {
        let ticket = &command.ticket;
        let (mut ladder, mut is_told) = (Ladder(0), false);
        let mut is_sent = command.state != SupplyState::Queued;
        loop {
            let tried = {
                // Who has just paid does not wait behind those whose meters are not reached.
                let turns = if ladder.0 < FIRST_TRIES { &turns.first } else { &turns.again };
                let Ok(_turn) = turns.acquire().await else { return };
                self.try_reconnection(ticket, &mut is_sent).await
            };
            let is_busy = matches!(tried, Err(Unreached::Session(SessionError::Busy(_))));
            let is_noted = match tried {
                Ok(Tried::Closed(event_at)) => {
                    self.note(ticket, &SupplyStep::Confirmed(event_at), "supplied").await;
                    return;
                }
                Ok(Tried::Ready) => {
                    let said = "the consumer must press the button on the meter";
                    self.note(ticket, &SupplyStep::Ready, said).await
                }
                Ok(Tried::NotYet(said)) => self.note(ticket, &SupplyStep::Tried, &said).await,
                Err(error) => self.note(ticket, &SupplyStep::Tried, &error.to_string()).await,
            };
            let waits_s = self.now().seconds() - ticket.since.seconds();
            if waits_s > self.0.options.late_s && !std::mem::replace(&mut is_told, true) {
                tracing::error!(
                    command = %ticket.id, account = ticket.account.0, meter = ticket.meter.0, waits_s,
                    "to be supplied, and still dark: somebody has to go there"
                );
            }
            if is_noted == Noted::Over {
                return;
            }
            // A session that goes on is over soon, and was no try.
            if is_busy { tokio::time::sleep(BUSY).await } else { ladder.wait().await }
        }
    }

    /// Asks the relay to close, at least once whatever it says of itself: what a cut before it did may not show yet.
    async fn try_reconnection(&self, ticket: &SupplyTicket, is_sent: &mut bool) -> Result<Tried, Unreached> {
        let mut session = self.open(ticket).await?;
        let tried = async {
            let mut state = session.relay().await?;
            let mut failed = None;
            let is_done = state.is_restored() && *is_sent;
            if !is_done && !state.is_ready() {
                // A database that fails holds no reconnection.
                if self.note(ticket, &SupplyStep::Sent, "").await == Noted::Over {
                    return Ok(Tried::NotYet("it is over".to_owned()));
                }
                failed = session.move_relay(RelayMove::Connect).await.err();
                *is_sent = true;
                state = session.relay().await?;
            }
            Ok(match failed {
                _ if state.is_restored() => {
                    Tried::Closed(self.event_of(&mut session, RelayMove::Connect, ticket.since).await)
                }
                _ if state.is_ready() => Tried::Ready,
                Some(error) => Tried::NotYet(format!("{error}; the relay is {}", state.words())),
                None => Tried::NotYet(format!("the relay is {}", state.words())),
            })
        };
        let tried = tried.await;
        session.close().await;
        tried
    }
}
