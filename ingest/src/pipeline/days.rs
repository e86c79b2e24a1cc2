//! Closing days by facts, in order, as the clock passes their time; also those missed while down.

use std::sync::Arc;

use ledger::Outcome;
use ledger::outcome::DayRefusal;
use model::{AccountId, CivilDay, DayClosed, Fact};

use super::{Core, Pipeline, PipelineError};

/// Accounts of one slice: recharges pass between two.
const SLICE: u32 = 50_000;

impl Pipeline {
    /// Closes every day that is due by the clock, in order. Says which.
    ///
    /// # Errors
    /// When the pipeline has stopped, or the ledger refuses a slice; the next call goes on from there.
    pub async fn close_due_days(&self) -> Result<Vec<CivilDay>, PipelineError> {
        self.core.close_due_days().await
    }
}

impl Core {
    pub(super) async fn close_due_days(&self) -> Result<Vec<CivilDay>, PipelineError> {
        let _turn = self.days_turn.lock().await;
        let mut closed = Vec::new();
        while let Some(slice) = self.next_slice().await? {
            let DayClosed { day, complete, .. } = slice;
            let applied = self.append(Fact::DayClosed(slice)).await?;
            match applied.outcome {
                Outcome::DayClosed { charged, unrated, corrections, .. } => {
                    let day = day.to_string();
                    tracing::info!(day, complete, charged, unrated, corrections, "slice of a day closed");
                }
                // Accounts were added since the look: the next one sees them.
                Outcome::DayRefused(DayRefusal::NotComplete(_) | DayRefusal::NotNextSlice { .. }) => continue,
                other => return Err(PipelineError::DayRefused(other)),
            }
            if complete {
                closed.push(day);
            }
        }
        Ok(closed)
    }

    /// The next slice to close, if its day is due.
    async fn next_slice(&self) -> Result<Option<DayClosed>, PipelineError> {
        let state = self.look(|fold| (fold.next_close(), fold.next_slice(), fold.account_range())).await?;
        let (day, next, Some((_, last))) = state else { return Ok(None) };
        let (hour, minute) = self.options.close_at;
        if self.options.calendar.at(day.next(), hour, minute) > self.clock.now() {
            return Ok(None);
        }
        // All accounts are booked, and the day is not complete yet: an empty slice behind the last one.
        let Some(first) = next else {
            let first = AccountId(last.0.saturating_add(1));
            return Ok(Some(DayClosed { day, first, last, complete: true }));
        };
        let end = AccountId(first.0.saturating_add(SLICE - 1).min(last.0));
        Ok(Some(DayClosed { day, first, last: end, complete: end == last }))
    }
}

/// Closes days by the clock until the pipeline stops.
pub(super) async fn close_by_clock(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(core.options.close_check) => {}
            () = core.stopping.cancelled() => return,
        }
        match core.close_due_days().await {
            Ok(_) | Err(PipelineError::Stopped) => {}
            Err(error) => tracing::error!(%error, "a day that is due was not closed; trying again"),
        }
    }
}
