//! Frames of meters that are not registered: stored by a task beside the pipeline, taken in when they are.
//!
//! Such a frame is in the journal first, with its reason, and goes into the registry's store after the fold saw it and
//! before the next checkpoint is published; so a replay puts again what a crash kept from the store, and the store
//! knows what it had. When its title gets keys, its bytes go through [`Pipeline::submit`](super::Pipeline::submit) as
//! source `waiting`, and are forgotten once that is durable. Doing so twice does no harm: the second is a redelivery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, gauge};
use model::{Position, Source, SystemTitle};
use registry::{Put, WaitingFrame};
use tokio::sync::{mpsc, oneshot};

use super::{Core, Desk, PipelineError};

use crate::received::{Framing, Lost, Received, Ticket};
use crate::telemetry;

/// Titles looked up at a time.
const TITLES: usize = 1000;
/// Pause after the registry failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What the task is asked to do, in this order.
pub(super) enum WaitingJob {
    /// Store these.
    Put(Vec<WaitingFrame>),
    /// Answer when everything before is stored.
    Flush(oneshot::Sender<()>),
}

/// Stores frames until the pipeline has ended.
pub(super) async fn store(core: Arc<Core>, mut jobs: mpsc::Receiver<WaitingJob>) {
    loop {
        let job = tokio::select! {
            biased;
            job = jobs.recv() => job,
            () = core.ended.cancelled() => return,
        };
        match job {
            Some(WaitingJob::Put(frames)) => {
                if !put(&core, frames).await {
                    return;
                }
            }
            Some(WaitingJob::Flush(reply)) => {
                // The lake thread may have gone.
                let _ = reply.send(());
            }
            None => return,
        }
    }
}

/// Stores frames, however often that takes; `false` when the pipeline ended meanwhile.
async fn put(core: &Arc<Core>, frames: Vec<WaitingFrame>) -> bool {
    loop {
        match core.registry.put_waiting(frames.clone()).await {
            Ok(put) => {
                tell(core, put).await;
                break;
            }
            Err(error) => {
                tracing::error!(%error, "frames of unregistered meters cannot be stored; trying again")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = core.ended.cancelled() => return false,
        }
    }
    // Registered between the look-up of its key and now: nobody else will come for it.
    let is_known = {
        let keys = core.keys.read();
        frames.iter().any(|frame| keys.contains(frame.title))
    };
    if is_known {
        let core = Arc::clone(core);
        tokio::spawn(async move {
            if let Err(error) = core.take_waiting_in().await {
                tracing::warn!(%error, "waiting frames could not be taken in; they are at the next registration");
            }
        });
    }
    true
}

async fn tell(core: &Core, put: Put) {
    let dropped = put.dropped_title_full + put.dropped_titles + put.dropped_bytes;
    if dropped > 0 {
        counter!(telemetry::WAITING_DROPPED).increment(dropped);
        tracing::warn!(
            dropped,
            "frames of unregistered meters are past a bound: they stay in quarantine only"
        );
    }
    if let Ok(counts) = core.registry.waiting_counts().await {
        gauge!(telemetry::WAITING_FRAMES).set(counts.frames as f64);
    }
}

impl Core {
    /// Submits the waiting frames of all titles that have keys now. Says how many there were.
    pub(super) async fn take_waiting_in(self: &Arc<Self>) -> Result<usize, PipelineError> {
        let _turn = self.waiting_turn.lock().await;
        let mut taken = 0;
        loop {
            let titles = self.registry.waiting_registered(TITLES).await?;
            let ours: Vec<_> = {
                let keys = self.keys.read();
                titles.into_iter().filter(|title| keys.contains(*title)).collect()
            };
            let before = taken;
            for title in ours {
                taken += self.take_title_in(title).await?;
            }
            if taken == before {
                break;
            }
        }
        if let Ok(counts) = self.registry.waiting_counts().await {
            gauge!(telemetry::WAITING_FRAMES).set(counts.frames as f64);
        }
        Ok(taken)
    }

    async fn take_title_in(&self, title: SystemTitle) -> Result<usize, PipelineError> {
        let frames = self.registry.take_waiting(title).await?;
        let mut desk = Desk::new(usize::MAX);
        let mut tickets: Vec<(Position, Ticket)> = Vec::with_capacity(frames.len());
        for frame in frames {
            let received = Received {
                source: Source::Waiting,
                received_at: self.clock.now(),
                framing: Framing::of_stored(&frame.raw),
                bytes: Bytes::from(frame.raw),
                identity: None,
            };
            let ticket = self.submit(received, &mut desk).await.map_err(|_| PipelineError::Stopped)?;
            tickets.push((frame.position, ticket));
        }
        let mut positions = Vec::with_capacity(tickets.len());
        for (position, ticket) in tickets {
            ticket.await.map_err(|Lost| PipelineError::Stopped)?;
            positions.push(position);
        }
        self.registry.forget_waiting(&positions).await?;
        tracing::info!(%title, frames = positions.len(), "frames that waited for this meter are taken in");
        Ok(positions.len())
    }
}
