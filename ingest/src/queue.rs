//! The one queue before the journal: frames, and control facts that pass them.
//!
//! Bounds: frames by weight (a permit is held until the frame is answered), control facts by number. The journal
//! thread is the only reader.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Fact, Position};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::decode::Decoded;
use crate::pipeline::Applied;
use crate::received::Acked;

/// Decoded frames that came together, and who waits for all of them.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) decoded: Vec<Decoded>,
    /// Bytes of their records, at most.
    pub(crate) bytes: usize,
    /// Told what became of each, in their order, once that holds for all.
    pub(crate) reply: oneshot::Sender<Vec<Acked>>,
    /// Their share of the queue's bound, given back when they are answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A control fact, or the answer to a contested reading, and who waits for its outcome.
#[derive(Debug)]
pub(crate) struct ControlItem {
    pub(crate) received_at: model::Instant,
    pub(crate) fact: Fact,
    /// Bytes of its record.
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Applied>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the journal thread is to do next, besides the frames.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) control: Vec<ControlItem>,
    /// Up to where the journal may be let go.
    pub(crate) trim: Option<Position>,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

/// How much to take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// Whether frames are taken: not while the journal has no room for them.
    pub(crate) frames: bool,
    /// Stop after so many bytes of records.
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frames>,
    /// How many they are.
    frame_count: usize,
    /// Bytes of their records, at most.
    frame_bytes: usize,
    control: VecDeque<ControlItem>,
    trim: Option<Position>,
    closed: bool,
    ended: bool,
    /// The reader sleeps. Waking it is a call to the system, which nobody else needs to make.
    asleep: bool,
}

impl Queue {
    /// Queues frames; gives them back where the queue is closed.
    pub(crate) fn push_frames(&self, frames: Frames) -> Result<(), Frames> {
        let mut state = self.lock();
        if state.closed {
            return Err(frames);
        }
        state.frame_count += frames.decoded.len();
        state.frame_bytes += frames.bytes;
        state.frames.push_back(frames);
        self.wake(state);
        Ok(())
    }

    /// Queues a control fact; gives it back where the queue is closed.
    pub(crate) fn push_control(&self, item: ControlItem) -> Result<(), Box<ControlItem>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Box::new(item));
        }
        state.control.push_back(item);
        self.wake(state);
        Ok(())
    }

    /// Asks for the journal up to `upto` to be let go.
    pub(crate) fn trim(&self, upto: Position) {
        let mut state = self.lock();
        state.trim = Some(upto);
        self.wake(state);
    }

    /// Takes nothing more in; what is queued is still worked off.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Takes nothing more in and drops what is queued, unanswered.
    pub(crate) fn abandon(&self) {
        let (frames, control) = {
            let mut state = self.lock();
            state.closed = true;
            (state.frame_count, state.frame_bytes) = (0, 0);
            (mem::take(&mut state.frames), mem::take(&mut state.control))
        };
        drop((frames, control));
    }

    /// Lets [`Queue::wait_end`] return.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(state);
    }

    /// Waits until the reader may end.
    pub(crate) fn wait_end(&self) {
        let mut state = self.lock();
        while !state.ended {
            state.asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Frames that wait.
    pub(crate) fn frames(&self) -> usize {
        self.lock().frame_count
    }

    /// Waits for work, at most for `patience`; then there may be none. Frames come into `frames`, which is empty; where
    /// all are taken it changes places with the queue, so that nobody who brings one waits for that.
    pub(crate) fn wait(&self, take: Take, patience: Duration, frames: &mut VecDeque<Frames>) -> Work {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let work = state.take(take, frames);
            let left = until.saturating_duration_since(Instant::now());
            if !work.is_empty() || !frames.is_empty() || work.closed || left.is_zero() {
                return work;
            }
            state.asleep = true;
            let (guard, _) = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.asleep = false;
        }
    }

    /// Wakes the reader, if it sleeps.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, take: Take, frames: &mut VecDeque<Frames>) -> Work {
        let mut work = Work { trim: self.trim.take(), closed: self.closed, ..Work::default() };
        let mut bytes = 0;
        while bytes < take.bytes {
            let Some(item) = self.control.pop_front() else { break };
            bytes += item.bytes;
            work.control.push(item);
        }
        if take.frames && frames.is_empty() && bytes + self.frame_bytes < take.bytes {
            mem::swap(&mut self.frames, frames);
            (self.frame_count, self.frame_bytes) = (0, 0);
        }
        while take.frames && bytes < take.bytes {
            let Some(item) = self.frames.pop_front() else { break };
            bytes += item.bytes;
            self.frame_count -= item.decoded.len();
            self.frame_bytes -= item.bytes;
            frames.push_back(item);
        }
        // Closed only when nothing is left that could still be taken.
        let left = !self.control.is_empty() || (take.frames && !self.frames.is_empty());
        work.closed &= !left || take.bytes == 0;
        work
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.trim.is_none()
    }
}
