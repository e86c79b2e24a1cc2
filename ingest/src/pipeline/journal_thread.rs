//! Thread `journal`: judges, appends, syncs, answers. The only writer of the journal.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use journal::{Durable, Group, Journal};
use metrics::{counter, gauge, histogram};
use model::{Fact, Position, Record, Source, SourceCounts};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fold::{FoldGroup, FoldJob};
use super::stats::{Readiness, publish};
use super::{Core, FOLD_BYTES, Failure, with_cause};
use crate::decode::Decoded;
use crate::judge::{Becomes, Judge, Judged};
use crate::queue::{ControlItem, Frames, Take, Work};
use crate::received::{Acked, Disposition};
use crate::telemetry::{self, FrameCounts};

/// How long the thread sleeps when nothing happens.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon it looks again whether there is room.
const RETRY: Duration = Duration::from_millis(50);

/// Frames whose places in memory are read before the first of them is judged.
const AHEAD: usize = 32;
/// Senders' shares of the queue that are given back at once.
const SHARES: usize = 64;

/// Who waits for frames that came together. Of one that has a record, the position says for now which of the pending
/// records it is.
struct Answer {
    reply: oneshot::Sender<Vec<Acked>>,
    acked: Vec<Acked>,
    permit: OwnedSemaphorePermit,
}

/// Frames none of which has a record of its own, copies among them: answered once that batch is durable.
struct Copies {
    batch: u64,
    answer: Answer,
}

/// Which records go into a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Everything that is pending, with the counts.
    Ordinary,
    /// Control facts alone, which may use the reserve.
    Urgent,
}

pub(super) struct JournalThread {
    core: Arc<Core>,
    journal: Journal,
    judge: Judge,
    group: Group,
    /// Number of the batch whose frames are pending; those below are durable.
    batch: u64,
    /// Frames that were taken from the queue and are not judged.
    inbox: VecDeque<Frames>,
    control: Vec<ControlItem>,
    /// Records of frames that are pending; they have no position yet.
    frames: Vec<Record>,
    /// Who waits for them.
    answers: Vec<Answer>,
    copies: Vec<Copies>,
    counts: [SourceCounts; Source::ALL.len()],
    told: FrameCounts,
    /// The last group has records and nothing vouches for it yet.
    unvouched: bool,
}

impl JournalThread {
    pub(super) fn new(core: Arc<Core>, journal: Journal, judge: Judge) -> JournalThread {
        JournalThread {
            core,
            journal,
            judge,
            group: Group::new(),
            batch: 1,
            inbox: VecDeque::new(),
            control: Vec::new(),
            frames: Vec::new(),
            answers: Vec::new(),
            copies: Vec::new(),
            counts: Default::default(),
            told: FrameCounts::default(),
            unvouched: false,
        }
    }

    pub(super) fn run(mut self) {
        let result = self.work();
        let core = Arc::clone(&self.core);
        // What is pending is dropped here unanswered, and the journal closed.
        drop(self);
        if let Err(failure) = result {
            core.fail(failure);
        }
        core.queue.abandon();
        core.drained.cancel();
        core.queue.wait_end();
        // Where the fold is gone it has stopped already.
        let _ = core.fold.blocking_send(FoldJob::Stop);
    }

    fn work(&mut self) -> Result<(), Failure> {
        loop {
            let full = self.is_held();
            // At the end, what was taken into the queue is made durable even where the lake is behind.
            let ending = self.core.stopping.is_cancelled();
            let unfolded = self.core.gauges.unfolded_bytes.load(Ordering::Relaxed);
            let ready = self.core.room() == Readiness::Ready && unfolded < FOLD_BYTES;
            let room = !full && (ending || ready);
            let pending: usize = self.control.iter().map(|item| item.bytes).sum();
            let take = Take { frames: room, bytes: self.core.options.group_bytes.saturating_sub(pending) };
            let patience = match (room, self.unvouched) {
                (false, _) => RETRY,
                (true, true) => self.core.options.idle_after,
                (true, false) => PATIENCE,
            };
            let Work { control, trim, closed } = self.core.queue.wait(take, patience, &mut self.inbox);
            gauge!(telemetry::QUEUE_FRAMES).set(self.core.queue.frames() as f64);
            if let Some(upto) = trim {
                self.journal.trim(upto).map_err(failure)?;
            }
            let idle = self.inbox.is_empty() && control.is_empty();
            self.control.extend(control);
            self.admit_all();
            self.write()?;
            if (idle || closed) && self.unvouched && !self.is_held() {
                self.vouch()?;
            }
            if closed && (room || self.is_held()) {
                return Ok(());
            }
        }
    }

    /// Whether the journal had no room for what is pending.
    fn is_held(&self) -> bool {
        !self.frames.is_empty() || !self.control.is_empty()
    }

    fn admit_all(&mut self) {
        self.frames.reserve(self.inbox.iter().map(|frames| frames.decoded.len()).sum());
        self.answers.reserve(self.inbox.len());
        let mut looked_up = 0;
        while let Some(frames) = self.inbox.pop_front() {
            if looked_up < frames.decoded.len() {
                let ahead = self.inbox.iter().flat_map(|frames| &frames.decoded);
                let ahead = frames.decoded.iter().chain(ahead).take(AHEAD.max(frames.decoded.len()));
                looked_up = self.judge.touch(ahead);
            }
            looked_up -= frames.decoded.len();
            self.admit(frames);
        }
    }

    fn admit(&mut self, frames: Frames) {
        let Frames { decoded, reply, permit, .. } = frames;
        let records = self.frames.len();
        let mut copy_of = None;
        let acked = decoded.into_iter().map(|decoded| self.admit_one(decoded, &mut copy_of)).collect();
        let answer = Answer { reply, acked, permit };
        match copy_of {
            _ if self.frames.len() > records => self.answers.push(answer),
            Some(batch) => self.copies.push(Copies { batch, answer }),
            // Nothing is promised by what was refused, so nothing is waited for.
            None => drop(self.tell(answer)),
        }
    }

    /// Makes of a frame what it is judged to be. `copy_of` becomes the last batch that has the first copy of one.
    fn admit_one(&mut self, decoded: Decoded, copy_of: &mut Option<u64>) -> Acked {
        let (source, received_at) = (decoded.frame.source, decoded.frame.received_at);
        let Judged { disposition, confirm, becomes } = self.judge.judge(decoded, self.batch);
        self.told.add(source, disposition);
        let counts = &mut self.counts[source.index()];
        counts.received += 1;
        let mut position = None;
        match becomes {
            Becomes::Fact(fact) => {
                position = Some(Position(self.frames.len() as u64));
                self.frames.push(Record { position: Position(0), received_at, fact });
            }
            Becomes::CopyOf { batch } => {
                counts.redelivered += 1;
                *copy_of = (*copy_of).max(Some(batch));
            }
            Becomes::Refused => {
                counts.refused += 1;
                self.core.gauges.refused_evidence();
            }
        }
        Acked { position, disposition, confirm }
    }

    /// Appends what is pending. Where there is no room for all of it, control facts go alone and frames stay.
    fn write(&mut self) -> Result<(), Failure> {
        self.count_refused();
        if self.is_held() {
            let mut full = !self.append(Lane::Ordinary)?;
            if full && !self.control.is_empty() {
                self.append(Lane::Urgent)?;
            }
            full &= self.is_held();
            self.core.gauges.journal_full.store(full, Ordering::Relaxed);
            gauge!(telemetry::JOURNAL_FULL).set(f64::from(u8::from(full)));
        }
        self.answer_copies();
        self.told.emit();
        Ok(())
    }

    /// Refused frames were received too, and go into the counts of the next group.
    fn count_refused(&mut self) {
        for source in Source::ALL {
            let refused = self.core.gauges.take_refused(source);
            if refused > 0 {
                let counts = &mut self.counts[source.index()];
                counts.received += refused;
                counts.refused += refused;
                let labels = [("source", source.name())];
                counter!(telemetry::FRAMES_RECEIVED, &labels).increment(refused);
                counter!(telemetry::FRAMES_REFUSED, &labels).increment(refused);
            }
        }
    }

    /// Appends and syncs one group, hands it to the fold and answers. `false`: there is no room, nothing was changed.
    fn append(&mut self, lane: Lane) -> Result<bool, Failure> {
        self.encode(lane);
        let bytes = self.group.byte_len();
        let began = Instant::now();
        let appended = match lane {
            Lane::Ordinary => self.journal.append(&mut self.group),
            Lane::Urgent => self.journal.append_urgent(&mut self.group),
        };
        let first = match appended {
            Ok(positions) => *positions.start(),
            Err(journal::Error::Full { source }) => {
                if !self.core.gauges.journal_full.load(Ordering::Relaxed) {
                    tracing::error!(%source, "no room for the journal: frames are not taken until there is");
                }
                return Ok(false);
            }
            Err(error) => return Err(failure(error)),
        };
        let durable = self.journal.sync().map_err(failure)?;
        self.unvouched = true;
        let counts = match lane {
            Lane::Ordinary => mem::take(&mut self.counts),
            Lane::Urgent => Default::default(),
        };
        let records = self.pass_on(lane, first, counts, durable, bytes)?;
        histogram!(telemetry::SYNC_SECONDS).record(began.elapsed());
        histogram!(telemetry::GROUP_RECORDS).record(records as f64);
        histogram!(telemetry::GROUP_BYTES).record(bytes as f64);
        gauge!(telemetry::DURABLE_POSITION).set(durable.upto().0 as f64);
        Ok(true)
    }

    /// The pending records, in the order in which [`JournalThread::pass_on`] numbers them.
    fn encode(&mut self, lane: Lane) {
        self.group.clear();
        let mut push = |fact: &Fact, received_at| {
            self.group.push_with(|image| fact.encode(received_at, image));
        };
        for item in &self.control {
            push(&item.fact, item.received_at);
        }
        if lane == Lane::Urgent {
            return;
        }
        for record in &self.frames {
            push(&record.fact, record.received_at);
        }
        for source in Source::ALL {
            *self.group.counts_mut(source) = self.counts[source.index()];
        }
    }

    /// Hands durable records to the fold, then answers their senders: what is acknowledged is on its way to the state,
    /// so a look that is asked for afterwards sees it.
    fn pass_on(
        &mut self,
        lane: Lane,
        first: Position,
        counts: [SourceCounts; Source::ALL.len()],
        durable: Durable,
        bytes: usize,
    ) -> Result<usize, Failure> {
        let frames = if lane == Lane::Ordinary { mem::take(&mut self.frames) } else { Vec::new() };
        let control = mem::take(&mut self.control);
        let mut group =
            FoldGroup { counts, bytes, records: frames, replies: Vec::with_capacity(control.len()) };
        if !control.is_empty() {
            let frames = mem::replace(&mut group.records, Vec::with_capacity(control.len()));
            for ControlItem { received_at, fact, reply, permit, .. } in control {
                group.records.push(Record { position: first, received_at, fact });
                group.replies.push((reply, permit));
            }
            group.records.extend(frames);
        }
        let of_frames = Position(first.0 + group.replies.len() as u64);
        for (record, position) in group.records.iter_mut().zip(first.0..) {
            record.position = Position(position);
        }
        let records = group.records.len();
        publish(&self.core.gauges.durable, durable.upto());
        self.core.gauges.groups.fetch_add(1, Ordering::Relaxed);
        self.core.gauges.records.fetch_add(records as u64, Ordering::Relaxed);
        self.core.gauges.unfolded_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = self.core.fold.blocking_send(FoldJob::Group(group));
        sent.map_err(|_| Failure::Thread("fold"))?;
        if lane == Lane::Ordinary {
            self.answer(of_frames);
        }
        if lane == Lane::Ordinary {
            self.batch += 1;
        }
        Ok(records)
    }

    /// Answers the senders of frames whose records are durable; the first has that position.
    fn answer(&mut self, first: Position) {
        let mut share: Option<OwnedSemaphorePermit> = None;
        for (number, mut answer) in mem::take(&mut self.answers).into_iter().enumerate() {
            for position in answer.acked.iter_mut().filter_map(|acked| acked.position.as_mut()) {
                position.0 += first.0;
            }
            let permit = self.tell(answer);
            match &mut share {
                // Each giving back takes the lock for which senders wait.
                Some(share) if number % SHARES != 0 && fit_together(share, &permit) => share.merge(permit),
                _ => share = Some(permit),
            }
        }
    }

    /// Answers copies of frames that are durable.
    fn answer_copies(&mut self) {
        let pending = self.batch;
        for copies in mem::take(&mut self.copies) {
            if copies.batch >= pending {
                self.copies.push(copies);
            } else {
                drop(self.tell(copies.answer));
            }
        }
    }

    /// Tells a sender what became of its frames; gives their share of the queue.
    fn tell(&self, answer: Answer) -> OwnedSemaphorePermit {
        let Answer { reply, acked, permit } = answer;
        let copies = acked.iter().filter(|acked| acked.disposition == Disposition::Redelivered).count();
        if copies > 0 {
            self.core.gauges.redelivered.fetch_add(copies as u64, Ordering::Relaxed);
        }
        // The listener may have gone; what is durable is so all the same.
        let _ = reply.send(acked);
        permit
    }

    /// Writes a group without records, so that a later start knows the last one to have been synced.
    fn vouch(&mut self) -> Result<(), Failure> {
        self.unvouched = false;
        match self.journal.append(&mut Group::new()) {
            Ok(_) => self.journal.sync().map(|_| ()).map_err(failure),
            // The next group vouches for it, whenever there is room.
            Err(journal::Error::Full { .. }) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }
}

/// Whether two shares are one that can be counted.
fn fit_together(share: &OwnedSemaphorePermit, other: &OwnedSemaphorePermit) -> bool {
    u32::try_from(share.num_permits() + other.num_permits()).is_ok()
}

fn failure(error: journal::Error) -> Failure {
    Failure::Journal(with_cause(&error))
}
