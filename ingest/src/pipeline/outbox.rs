//! From the registry's outbox into the journal, and keys into memory once their meter's terms are folded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use codec::security::{Keys, Policy};
use model::{Fact, MeterId, OutboxId};

use super::{Core, Pipeline, PipelineError};
use crate::keys::{InForce, ReplacedKeys};

/// Entries drained, and keys read, at a time.
const BATCH: usize = 1000;

impl Pipeline {
    /// Drains the registry's outbox: when this returns, what was in it is durable and folded, the meters registered by
    /// it are taken from, and their frames that waited are taken in. Says how many entries there were.
    ///
    /// # Errors
    /// When the registry fails or the pipeline has stopped. What was drained stays so; the rest is drained next time.
    pub async fn drain_outbox(&self) -> Result<usize, PipelineError> {
        let drained = self.core.drain_outbox().await?;
        if drained > 0 {
            self.core.take_waiting_in().await?;
        }
        Ok(drained)
    }

    /// Reads all keys of the registry again.
    ///
    /// # Errors
    /// When the registry fails.
    pub async fn reload_keys(&self) -> Result<usize, PipelineError> {
        self.core.load_keys(None).await
    }
}

impl Core {
    pub(super) async fn drain_outbox(self: &Arc<Self>) -> Result<usize, PipelineError> {
        let _turn = self.outbox_turn.lock().await;
        let mut last = self.look(|fold| fold.last_outbox()).await?;
        let mut drained = 0;
        loop {
            let entries = self.registry.outbox_after(last, BATCH).await?;
            let Some((end, _)) = entries.last() else { break };
            last = *end;
            drained += entries.len();
            self.drain(entries).await?;
            self.registry.outbox_drained(last).await?;
        }
        Ok(drained)
    }

    async fn drain(self: &Arc<Self>, entries: Vec<(OutboxId, Fact)>) -> Result<(), PipelineError> {
        let meters: HashSet<MeterId> = entries.iter().filter_map(|(_, fact)| meter_of(fact)).collect();
        let ids: Vec<OutboxId> = entries.iter().map(|(id, _)| *id).collect();
        let mut queued = Vec::with_capacity(entries.len());
        for (_, fact) in entries {
            queued.push(self.enqueue_fact(fact).await?);
        }
        for (id, applied) in ids.into_iter().zip(queued) {
            let applied = applied.await.map_err(|_| PipelineError::Stopped)?;
            if !applied.outcome.is_success() {
                let (outbox, position) = (id.0, applied.position.0);
                tracing::warn!(outbox, position, outcome = %applied.outcome, "a registration is without effect");
            }
        }
        if !meters.is_empty() {
            self.load_keys(Some(&meters)).await?;
        }
        Ok(())
    }

    /// Reads keys into memory: of these meters, or of all.
    pub(super) async fn load_keys(&self, only: Option<&HashSet<MeterId>>) -> Result<usize, PipelineError> {
        let lowest = only.and_then(|meters| meters.iter().min().copied());
        let highest = only.and_then(|meters| meters.iter().max().copied());
        let mut after = MeterId(lowest.map_or(0, |meter| meter.0.saturating_sub(1)));
        let mut loaded = 0;
        loop {
            let records = self.registry.meter_keys(after, BATCH).await?;
            let infos = self.registry.meters(after, BATCH).await?;
            let Some(last) = records.last() else { return Ok(loaded) };
            after = last.meter;
            let serials: HashMap<MeterId, String> =
                infos.into_iter().map(|info| (info.meter, info.serial)).collect();
            for record in records {
                if only.is_none_or(|meters| meters.contains(&record.meter)) {
                    let serial = serials.get(&record.meter).map(String::as_str).unwrap_or_default();
                    loaded += usize::from(self.load(&record, serial));
                }
            }
            if highest.is_some_and(|highest| after >= highest) {
                return Ok(loaded);
            }
        }
    }

    /// Puts one meter's keys in force; a meter of an unknown profile has none.
    fn load(&self, record: &registry::MeterRecord, serial: &str) -> bool {
        let known = self.profiles.iter().position(|profile| profile.name == record.profile);
        let Some(profile) = known.and_then(|index| u8::try_from(index).ok()) else {
            tracing::error!(
                meter = record.meter.0,
                profile = record.profile,
                "no such meter profile: its frames wait"
            );
            return false;
        };
        let replaced = record.replaced.iter().map(|replaced| ReplacedKeys {
            keys: Keys::new(replaced.keys.guek, replaced.keys.gak),
            key_epoch: replaced.key_epoch,
            taken_until: replaced.taken_until,
        });
        let policy = if record.authenticated { Policy::Authenticated } else { Policy::Transport };
        let in_force = InForce {
            keys: Keys::new(record.keys.guek, record.keys.gak),
            key_epoch: record.key_epoch,
            policy,
            profile,
            replaced: replaced.collect(),
        };
        self.keys.insert(record.meter, record.title, serial, in_force)
    }
}

fn meter_of(fact: &Fact) -> Option<MeterId> {
    match fact {
        Fact::MeterTerms(terms) => Some(terms.meter),
        _ => None,
    }
}
