//! Thread `resolver`: answers contested readings.
//!
//! The fold hands out a meter's contested readings one after the other, each when the one before is answered, so the
//! look-up of one finds what the one before led to. It starts after the replay; what was open then is handed out first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ledger::Contested;
use metrics::gauge;
use model::{Fact, MeterId, ReadingKind, Resolution, Verdict};
use tokio::runtime::Handle;

use super::{Core, PipelineError};
use crate::lake::BoxError;
use crate::{resolve, telemetry};

/// Answers appended at a time: a share of the control facts that may wait.
const BATCH: usize = 256;
/// Pause after a look-up failed.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Resolver {
    pub(super) core: Arc<Core>,
    pub(super) contested: Receiver<Contested>,
    pub(super) runtime: Handle,
}

impl Resolver {
    pub(super) fn run(self) {
        let mut open: VecDeque<Contested> = VecDeque::new();
        let mut failing = false;
        loop {
            let patience = if failing { PAUSE } else { Duration::MAX };
            if open.is_empty() || failing {
                match self.contested.recv_timeout(patience) {
                    Ok(contested) => open.push_back(contested),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            open.extend(self.contested.try_iter());
            if self.core.stopping.is_cancelled() {
                return;
            }
            let batch: Vec<Contested> = open.drain(..open.len().min(BATCH)).collect();
            match self.runtime.block_on(self.answer(batch)) {
                Ok(unanswered) => {
                    failing = !unanswered.is_empty();
                    open.extend(unanswered);
                }
                // It ends; what is open is in the state.
                Err(_) => return,
            }
            gauge!(telemetry::CONTESTED_FAILING).set(f64::from(u8::from(failing)));
        }
    }

    /// Looks a batch up and appends the answers; gives back those that could not be looked up.
    async fn answer(&self, batch: Vec<Contested>) -> Result<Vec<Contested>, PipelineError> {
        let periods = self.periods(&batch).await?;
        let mut unanswered = Vec::new();
        let mut answers = Vec::new();
        for contested in batch {
            let period_s = periods.get(&contested.meter).copied().unwrap_or_default();
            match self.verdict(&contested, period_s) {
                Ok(verdict) => answers.push(Resolution {
                    contested: contested.position,
                    index: contested.index,
                    verdict,
                }),
                Err(error) => {
                    let position = contested.position.0;
                    tracing::error!(%error, position, "a contested reading cannot be looked up; trying again");
                    unanswered.push(contested);
                }
            }
        }
        let mut appended = Vec::with_capacity(answers.len());
        for answer in answers {
            appended.push(self.core.enqueue_fact(Fact::Resolved(answer)).await?);
        }
        for applied in appended {
            applied.await.map_err(|_| PipelineError::Stopped)?;
        }
        Ok(unanswered)
    }

    /// Capture periods of the meters of a batch.
    async fn periods(&self, batch: &[Contested]) -> Result<HashMap<MeterId, u32>, PipelineError> {
        let meters: HashSet<MeterId> = batch.iter().map(|contested| contested.meter).collect();
        let look = move |fold: &ledger::Fold| {
            let period = |meter: MeterId| fold.meter(meter).map(|view| (meter, view.period_s));
            meters.into_iter().filter_map(period).collect()
        };
        self.core.look(look).await
    }

    fn verdict(&self, contested: &Contested, period_s: u32) -> Result<Verdict, BoxError> {
        let Contested { meter, rank, reading, demand_after, demand_upto, .. } = contested;
        let lake = &self.core.lake;
        let versions = lake.versions(*meter, reading.kind, reading.end)?;
        let verdict = resolve::verdict(&versions, *rank, reading);
        match verdict {
            Verdict::Revised { before, after, .. } if reading.kind == ReadingKind::Interval => {
                let demand_without_w =
                    lake.demand_w(*meter, *demand_after, *demand_upto, period_s, reading.end)?;
                Ok(Verdict::Revised { before, after, demand_without_w })
            }
            other => Ok(other),
        }
    }
}
