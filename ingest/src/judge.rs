//! What a checked frame becomes: a fact, or another copy of one. Run by the journal thread right before the journal,
//! in the order in which frames are appended, so that two copies on two connections cannot both be first.
//!
//! | counter | bytes or values | becomes |
//! |---|---|---|
//! | any | the same bytes were taken in | redelivered: counted, no record |
//! | above the highest, or unseen among the 64 below | | accepted |
//! | below those | | accepted as late |
//! | any, under keys that were replaced, once newer ones were used | | accepted as late, for a time |
//! | seen | the same values | repeated |
//! | seen | other values | quarantined: a security event |
//! | seen | no longer remembered | quarantined, and confirmed |
//! | | what proves nothing, or reuses a counter, beyond the bounds of [`crate::evidence`] | refused: counted, no record |
//!
//! The values behind a counter are remembered for a bounded number of recent frames. A counter that was seen so long
//! ago that neither bytes nor values are remembered is most likely a copy whose sender never had its answer. It cannot
//! be told from a reuse, so it is kept as evidence without effect; and it is confirmed, else it would come for ever.

use codec::apdu::LongInvokeId;
use ledger::{CounterVerdict, CounterWindow};
use model::{
    AcceptedFrame, Digest, Fact, MeterId, Quality, QuarantineReason, QuarantinedFrame, RepeatedFrame,
};

use crate::decode::{Content, Decoded, Evidence, Frame, Push, Unfit, Verified};
use crate::evidence::{EvidenceBudget, EvidenceOptions};
use crate::memory::{Class, Memory, Seen};
use crate::print::Keyed;
use crate::received::Disposition;
use crate::windows::Windows;

/// What a frame became.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) disposition: Disposition,
    /// The invoke id to confirm, once durable.
    pub(crate) confirm: Option<LongInvokeId>,
    pub(crate) becomes: Becomes,
}

/// A record, or nothing of its own.
#[derive(Debug)]
pub(crate) enum Becomes {
    /// To be appended.
    Fact(Fact),
    /// Nothing: the first copy was in that batch, and may be acknowledged once that is durable.
    CopyOf { batch: u64 },
    /// Nothing: it is counted as refused.
    Refused,
}

/// Memory of frames and counters.
#[derive(Debug)]
pub(crate) struct Judge {
    keyed: Keyed,
    memory: Memory,
    evidence: EvidenceBudget,
    windows: Windows,
}

impl Judge {
    /// `keyed` is what the values of pushes are hashed with that come to be judged.
    pub(crate) fn new(remembered: usize, evidence: EvidenceOptions, keyed: Keyed) -> Judge {
        Judge {
            keyed,
            memory: Memory::new(remembered),
            evidence: EvidenceBudget::new(evidence),
            windows: Windows::default(),
        }
    }

    /// Takes over the window that the fold has of a meter.
    pub(crate) fn seed_window(&mut self, meter: MeterId, window: CounterWindow) {
        self.windows.put(meter, window);
    }

    /// Remembers a record that is durable already.
    pub(crate) fn seed_record(&mut self, fact: &Fact) {
        let (digest, class) = match fact {
            Fact::Frame(frame) => {
                if let Some(counter) = frame.counter {
                    let values = self.keyed.print_of(&frame.readings, frame.event_word);
                    self.memory.remember_values((frame.meter, frame.key_epoch, counter), values);
                }
                (frame.digest, Class::Taken)
            }
            Fact::Repeated(frame) => (frame.digest, Class::Taken),
            Fact::Quarantined(frame) => (frame.digest, Class::Quarantined(frame.reason)),
            _ => return,
        };
        self.memory.remember_frame(digest, Seen { batch: 0, class });
    }

    /// Reads what judging frames will read, for some of them at once. Nothing comes of it but that they are judged sooner:
    /// each asks for five places in memory that nobody has looked at for long. Says how many they are.
    pub(crate) fn touch<'a>(&self, frames: impl Iterator<Item = &'a Decoded>) -> usize {
        let (mut read, mut count) = (0, 0);
        for (ahead, decoded) in frames.enumerate() {
            let mut key = None;
            if let Content::Verified(verified) = &decoded.content {
                let window = self.windows.get(verified.meter);
                read ^= window.seen ^ u64::from(window.high);
                key = verified.counter.map(|counter| (verified.meter, verified.key_epoch, counter));
                if let Ok(Push { normalized, .. }) = &verified.push
                    && let Some(reading) = normalized.readings.first()
                {
                    // It lies on two lines of the cache.
                    read ^= u64::from(reading.quality.0) ^ reading.values.set();
                }
            }
            read ^= u64::from(decoded.frame.raw.first().copied().unwrap_or(0));
            read ^= self.memory.touch(&decoded.frame.digest, key.as_ref(), ahead);
            count += 1;
        }
        std::hint::black_box(read);
        count
    }

    /// Judges the next frame of this batch, and remembers it.
    pub(crate) fn judge(&mut self, decoded: Decoded, batch: u64) -> Judged {
        let Decoded { frame, content } = decoded;
        let digest = frame.digest;
        if let Some(copy) = self.copy(digest, &content) {
            return copy;
        }
        let judged = match content {
            Content::Evidence(evidence) => self.unproven(frame, evidence),
            Content::Verified(verified) => self.verified(frame, verified),
        };
        let class = match judged.disposition {
            // What is not kept is not remembered: another copy of it is judged anew.
            Disposition::Refused(_) => return judged,
            Disposition::Quarantined(reason) => Class::Quarantined(reason),
            Disposition::Accepted | Disposition::Redelivered | Disposition::Repeated => Class::Taken,
        };
        self.memory.remember_frame(digest, Seen { batch, class });
        judged
    }

    /// Whether the same bytes are remembered, and a new look at them would not find them better.
    fn copy(&self, digest: Digest, content: &Content) -> Option<Judged> {
        let seen = self.memory.frame(digest)?;
        let (reason, confirm) = match content {
            Content::Evidence(evidence) => (Some(evidence.reason), None),
            Content::Verified(Verified { push: Err(unfit), .. }) => (Some(unfit.reason), unfit.confirm),
            Content::Verified(Verified { push: Ok(push), .. }) => (None, push.confirm),
        };
        let (same, confirm) = match seen.class {
            Class::Taken => (true, confirm),
            // Its counter will not be unused by looking again, and what was reused is not confirmed.
            Class::Quarantined(QuarantineReason::CounterReused) => (true, None),
            Class::Quarantined(QuarantineReason::CounterForgotten) => (true, confirm),
            Class::Quarantined(before) => (reason == Some(before), confirm),
        };
        let becomes = Becomes::CopyOf { batch: seen.batch };
        same.then_some(Judged { disposition: Disposition::Redelivered, confirm, becomes })
    }

    fn unproven(&mut self, frame: Frame, evidence: Evidence) -> Judged {
        if self.evidence.takes_unproven(frame.title, frame.raw.len(), frame.received_at) {
            quarantined(frame, evidence, None)
        } else {
            refused(evidence.reason)
        }
    }

    fn verified(&mut self, frame: Frame, verified: Verified) -> Judged {
        let Verified { meter, key_epoch, taken_until, counter, push } = verified;
        let sender = Sender { meter, key_epoch, counter };
        let Some(counter) = counter else { return taken_or_unfit(frame, sender, push, false) };
        let mut window = self.windows.get(meter);
        if key_epoch < window.key_epoch {
            return if taken_until.is_some_and(|until| frame.received_at > until) {
                replaced_key(frame, sender)
            } else {
                taken_or_unfit(frame, sender, push, true)
            };
        }
        if window.key_epoch < key_epoch {
            window = CounterWindow::new(key_epoch);
        }
        let key = (meter, key_epoch, counter);
        let values = push.as_ref().ok().map(|push| push.values);
        let verdict = window.judge(counter);
        if verdict == CounterVerdict::Seen {
            return match (push, self.memory.values(key)) {
                (Ok(push), Some(known)) if known == push.values => repeated(frame, sender, push.confirm),
                (_, Some(_)) => self.replayed(frame, reused(meter, counter), None),
                (Ok(Push { confirm, .. }) | Err(Unfit { confirm, .. }), None) => {
                    self.replayed(frame, forgotten(meter, counter), confirm)
                }
            };
        }
        // A frame that cannot be used does not spend its counter: under a better profile it may be taken.
        if let Some(values) = values {
            window.accept(counter);
            self.windows.put(meter, window);
            self.memory.remember_values(key, values);
        }
        taken_or_unfit(frame, sender, push, verdict == CounterVerdict::Late)
    }

    /// What a meter once sent can be played back by anybody, so this evidence is bounded too.
    fn replayed(&mut self, frame: Frame, evidence: Evidence, confirm: Option<LongInvokeId>) -> Judged {
        if frame.title.is_none_or(|title| self.evidence.takes_proven(title, frame.received_at)) {
            quarantined(frame, evidence, confirm)
        } else {
            refused(evidence.reason)
        }
    }
}

/// Who sent a frame, as its keys prove.
#[derive(Clone, Copy)]
struct Sender {
    meter: MeterId,
    key_epoch: u16,
    counter: Option<u32>,
}

fn taken_or_unfit(frame: Frame, sender: Sender, push: Result<Push, Unfit>, late: bool) -> Judged {
    match push {
        Ok(push) => accepted(frame, sender, push, late),
        Err(Unfit { reason, detail, confirm }) => {
            quarantined(frame, Evidence { meter: Some(sender.meter), reason, detail }, confirm)
        }
    }
}

fn accepted(frame: Frame, sender: Sender, push: Push, late: bool) -> Judged {
    let mut readings = push.normalized.readings;
    if late {
        for reading in &mut readings {
            reading.quality = reading.quality.with(Quality::COUNTER_LATE);
        }
    }
    let fact = Fact::Frame(AcceptedFrame {
        meter: sender.meter,
        source: frame.source,
        key_epoch: sender.key_epoch,
        counter: sender.counter,
        late,
        digest: frame.digest,
        pushed_at: push.normalized.pushed_at,
        readings,
        event_word: push.normalized.event_word,
        raw: frame.raw,
    });
    Judged { disposition: Disposition::Accepted, confirm: push.confirm, becomes: Becomes::Fact(fact) }
}

fn repeated(frame: Frame, sender: Sender, confirm: Option<LongInvokeId>) -> Judged {
    let fact = Fact::Repeated(RepeatedFrame {
        meter: sender.meter,
        source: frame.source,
        key_epoch: sender.key_epoch,
        counter: sender.counter,
        digest: frame.digest,
    });
    Judged { disposition: Disposition::Repeated, confirm, becomes: Becomes::Fact(fact) }
}

fn reused(meter: MeterId, counter: u32) -> Evidence {
    let detail = format!("counter {counter} was used before with other bytes and other values");
    Evidence { meter: Some(meter), reason: QuarantineReason::CounterReused, detail }
}

fn forgotten(meter: MeterId, counter: u32) -> Evidence {
    let detail = format!("counter {counter} was used before; its bytes and values are no longer remembered");
    Evidence { meter: Some(meter), reason: QuarantineReason::CounterForgotten, detail }
}

fn refused(reason: QuarantineReason) -> Judged {
    Judged { disposition: Disposition::Refused(reason), confirm: None, becomes: Becomes::Refused }
}

fn replaced_key(frame: Frame, Sender { meter, key_epoch, .. }: Sender) -> Judged {
    let detail = format!("made with keys number {key_epoch}, which the meter has stopped using");
    let reason = QuarantineReason::ReplacedKey;
    quarantined(frame, Evidence { meter: Some(meter), reason, detail }, None)
}

fn quarantined(frame: Frame, evidence: Evidence, confirm: Option<LongInvokeId>) -> Judged {
    let fact = Fact::Quarantined(QuarantinedFrame {
        source: frame.source,
        title: frame.title,
        meter: evidence.meter,
        reason: evidence.reason,
        detail: evidence.detail,
        digest: frame.digest,
        raw: frame.raw.into(),
    });
    let disposition = Disposition::Quarantined(evidence.reason);
    Judged { disposition, confirm, becomes: Becomes::Fact(fact) }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use model::{EventWord, Instant, Source, SystemTitle};

    use super::*;
    use crate::normalize::Normalized;

    const METER: MeterId = MeterId(3);
    static KEYED: LazyLock<Keyed> = LazyLock::new(Keyed::new);

    fn frame(bytes: u8) -> Frame {
        Frame {
            source: Source::Tcp,
            received_at: Instant(0),
            digest: Digest([bytes; 16]),
            raw: vec![bytes].into(),
            title: Some(SystemTitle([7; 8])),
        }
    }

    /// A frame of these bytes under this counter whose values are `values`.
    fn push(bytes: u8, counter: u32, values: u8) -> Decoded {
        let normalized = Normalized { event_word: Some(EventWord([values; 16])), ..Normalized::default() };
        let values = KEYED.print_of(&[], normalized.event_word);
        let push = Push { normalized, values, confirm: Some(LongInvokeId(1 << 30)) };
        let verified = Verified {
            meter: METER,
            key_epoch: 1,
            taken_until: None,
            counter: Some(counter),
            push: Ok(push),
        };
        Decoded { frame: frame(bytes), content: Content::Verified(verified) }
    }

    fn evidence(bytes: u8, reason: QuarantineReason) -> Decoded {
        let evidence = Evidence { meter: None, reason, detail: String::new() };
        Decoded { frame: frame(bytes), content: Content::Evidence(evidence) }
    }

    fn unfit(bytes: u8, counter: u32) -> Decoded {
        let unfit = Unfit { reason: QuarantineReason::ProfileMismatch, detail: String::new(), confirm: None };
        let verified = Verified {
            meter: METER,
            key_epoch: 1,
            taken_until: None,
            counter: Some(counter),
            push: Err(unfit),
        };
        Decoded { frame: frame(bytes), content: Content::Verified(verified) }
    }

    fn is_late(judged: &Judged) -> bool {
        matches!(&judged.becomes, Becomes::Fact(Fact::Frame(frame)) if frame.late)
    }

    #[test]
    fn a_frame_is_accepted_once_and_its_copies_wait_for_the_first() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        assert_eq!(judge.judge(push(1, 10, 1), 5).disposition, Disposition::Accepted);
        let copy = judge.judge(push(1, 10, 1), 6);
        assert_eq!((copy.disposition, copy.confirm.is_some()), (Disposition::Redelivered, true));
        assert!(matches!(copy.becomes, Becomes::CopyOf { batch: 5 }));
    }

    #[test]
    fn the_same_values_in_other_bytes_are_repeated_and_other_values_are_a_security_event() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        judge.judge(push(1, 10, 1), 1);
        let again = judge.judge(push(2, 10, 1), 1);
        assert_eq!((again.disposition, again.confirm.is_some()), (Disposition::Repeated, true));
        let reused = judge.judge(push(3, 10, 2), 1);
        let reason = Disposition::Quarantined(QuarantineReason::CounterReused);
        assert_eq!((reused.disposition, reused.confirm), (reason, None));
        let reused = judge.judge(push(3, 10, 2), 1);
        assert_eq!((reused.disposition, reused.confirm), (Disposition::Redelivered, None));
    }

    #[test]
    fn a_copy_that_comes_after_its_frame_is_forgotten_is_evidence_and_is_confirmed_each_time() {
        let mut judge = Judge::new(3, EvidenceOptions::default(), *KEYED);
        for (bytes, counter) in [(1, 10), (2, 11), (3, 12), (4, 13)] {
            assert_eq!(judge.judge(push(bytes, counter, bytes), 1).disposition, Disposition::Accepted);
        }
        let late = judge.judge(push(1, 10, 1), 2);
        let reason = QuarantineReason::CounterForgotten;
        assert_eq!((late.disposition, late.confirm.is_some()), (Disposition::Quarantined(reason), true));
        let later = judge.judge(push(1, 10, 1), 3);
        assert_eq!((later.disposition, later.confirm.is_some()), (Disposition::Redelivered, true));
    }

    #[test]
    fn overtaken_frames_are_accepted_within_the_window_and_late_below_it() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        for (bytes, counter, late) in [(1, 1000, false), (2, 936, false), (3, 935, true), (4, 1, true)] {
            let judged = judge.judge(push(bytes, counter, bytes), 1);
            assert_eq!((judged.disposition, is_late(&judged)), (Disposition::Accepted, late), "{counter}");
        }
        let reused = judge.judge(push(5, 936, 5), 1);
        assert_eq!(reused.disposition, Disposition::Quarantined(QuarantineReason::CounterReused));
    }

    #[test]
    fn evidence_moves_no_counter_and_is_kept_once() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        for reason in [QuarantineReason::TagMismatch, QuarantineReason::PolicyRefused] {
            let bytes = reason as u8;
            assert_eq!(judge.judge(evidence(bytes, reason), 1).disposition, Disposition::Quarantined(reason));
            assert_eq!(judge.judge(evidence(bytes, reason), 1).disposition, Disposition::Redelivered);
        }
        let unfit = judge.judge(unfit(100, 4_000_000), 1);
        assert_eq!(unfit.disposition, Disposition::Quarantined(QuarantineReason::ProfileMismatch));
        let judged = judge.judge(push(101, 1, 1), 1);
        assert_eq!(
            (judged.disposition, is_late(&judged)),
            (Disposition::Accepted, false),
            "the mark did not move"
        );
    }

    #[test]
    fn a_frame_of_an_unknown_title_is_looked_at_again_once_it_is_registered() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        judge.judge(evidence(1, QuarantineReason::UnknownTitle), 1);
        assert_eq!(judge.judge(push(1, 10, 1), 2).disposition, Disposition::Accepted);
        assert_eq!(judge.judge(push(1, 10, 1), 3).disposition, Disposition::Redelivered);
    }

    #[test]
    fn new_keys_begin_a_new_window() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        judge.judge(push(1, 1000, 1), 1);
        let mut next = push(2, 1, 2);
        if let Content::Verified(verified) = &mut next.content {
            verified.key_epoch = 2;
        }
        let judged = judge.judge(next, 1);
        assert_eq!((judged.disposition, is_late(&judged)), (Disposition::Accepted, false));
    }

    #[test]
    fn frames_under_replaced_keys_are_late_for_a_time_and_leave_the_new_window_alone() {
        let under = |bytes: u8, counter: u32, epoch: u16, received_at: i64| {
            let mut decoded = push(bytes, counter, bytes);
            decoded.frame.received_at = Instant(received_at);
            if let Content::Verified(verified) = &mut decoded.content {
                verified.key_epoch = epoch;
                verified.taken_until = (epoch == 1).then_some(Instant(100));
            }
            decoded
        };
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        // Nothing came under the new keys yet: however late, the old ones are the meter's.
        let before = judge.judge(under(1, 500, 1, 200), 1);
        assert_eq!((before.disposition, is_late(&before)), (Disposition::Accepted, false));
        assert_eq!(judge.judge(under(2, 1, 2, 50), 1).disposition, Disposition::Accepted);
        let in_flight = judge.judge(under(3, 501, 1, 60), 1);
        assert_eq!((in_flight.disposition, is_late(&in_flight)), (Disposition::Accepted, true));
        let reused = judge.judge(under(4, 1, 2, 60), 1);
        assert_eq!(reused.disposition, Disposition::Quarantined(QuarantineReason::CounterReused));
        let too_old = judge.judge(under(5, 502, 1, 101), 1);
        assert_eq!(
            (too_old.disposition, too_old.confirm),
            (Disposition::Quarantined(QuarantineReason::ReplacedKey), None)
        );
    }

    #[test]
    fn what_the_journal_holds_is_remembered_after_a_restart() {
        let mut before = Judge::new(100, EvidenceOptions::default(), *KEYED);
        let Becomes::Fact(fact) = before.judge(push(1, 10, 1), 1).becomes else { panic!() };
        let mut after = Judge::new(100, EvidenceOptions::default(), *KEYED);
        let mut window = CounterWindow::new(1);
        window.accept(10);
        after.seed_window(METER, window);
        after.seed_record(&fact);
        assert_eq!(after.judge(push(1, 10, 1), 1).disposition, Disposition::Redelivered);
        let other = after.judge(push(2, 10, 2), 1);
        assert_eq!(other.disposition, Disposition::Quarantined(QuarantineReason::CounterReused));
    }

    #[test]
    fn a_push_in_the_clear_has_no_counter_to_judge() {
        let mut judge = Judge::new(100, EvidenceOptions::default(), *KEYED);
        for (bytes, values) in [(1, 1), (2, 1)] {
            let mut clear = push(bytes, 0, values);
            if let Content::Verified(verified) = &mut clear.content {
                verified.counter = None;
            }
            assert_eq!(judge.judge(clear, 1).disposition, Disposition::Accepted);
        }
    }
}
