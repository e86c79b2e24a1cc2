//! Pushes whose frames come in separate datagrams or publishes: kept by sender or topic until they are whole.
//!
//! | bound | value | when reached |
//! |---|---|---|
//! | senders | 1024 | the one that waits longest is given up |
//! | bytes of all senders | 8 MiB | the same |
//! | datagrams of a push | 512 | the push is given up |
//! | wait for the next datagram | 60 s | the same |
//!
//! A datagram is answered when its push is durable. What is given up is handed out as it is: it becomes evidence, and
//! says what is missing.
//!
//! A publish is acknowledged by itself, in its turn, so it cannot wait for the others: [`Publishes`] lets each part be
//! evidence of its own, durable before its PUBACK, and gives the whole push in the place of its last part.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use codec::apdu::GENERAL_BLOCK_TRANSFER;
use codec::wrapper::HEADER_LEN;
use codec::{ErrorKind, hdlc, mbus};
use model::Digest;
use tokio::time::Instant;

use crate::received::Framing;
use crate::{digest, parts};

const SENDERS: usize = 1024;
const BYTES: usize = 8 << 20;
const DATAGRAMS: usize = 512;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is here of pushes that are not whole.
#[derive(Debug)]
pub(crate) struct Gather<S> {
    max_apdu: usize,
    open: HashMap<S, Open>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    raw: Vec<u8>,
    framing: Framing,
    datagrams: usize,
    last: Instant,
}

/// What can be submitted: a push, or what will not become one.
pub(crate) type Ready = (Bytes, Framing);

impl<S: Copy + Eq + Hash> Gather<S> {
    pub(crate) fn new(max_apdu: usize) -> Gather<S> {
        Gather { max_apdu, open: HashMap::new(), bytes: 0 }
    }

    /// Takes a datagram; gives what can be submitted, in order.
    pub(crate) fn take(&mut self, sender: S, bytes: Bytes, framing: Framing, now: Instant) -> Vec<Ready> {
        let is_alone = self.is_alone(&bytes, framing);
        if is_alone && !self.may_continue(sender, &bytes, framing) {
            return vec![(bytes, framing)];
        }
        let mut ready = Vec::new();
        if let Some(mut open) = self.remove(sender) {
            let before = open.raw.len();
            open.raw.extend_from_slice(&bytes);
            open.datagrams += 1;
            match self.waits(&open.raw, open.framing) {
                true if open.datagrams < DATAGRAMS => {
                    open.last = now;
                    self.insert(sender, open);
                    return ready;
                }
                // Whole, or as many as there may be.
                waits if waits || parts::apdu_of(&open.raw, open.framing, self.max_apdu).is_ok() => {
                    return vec![open.ready()];
                }
                // It does not continue what is there: another push has begun.
                _ => {
                    open.raw.truncate(before);
                    ready.push(open.ready());
                    if is_alone {
                        ready.push((bytes, framing));
                        return ready;
                    }
                }
            }
        }
        while self.open.len() >= SENDERS || self.bytes + bytes.len() > BYTES {
            let Some(oldest) = self.oldest() else { break };
            ready.extend(self.remove(oldest).map(Open::ready));
        }
        self.insert(sender, Open { raw: bytes.to_vec(), framing, datagrams: 1, last: now });
        ready
    }

    /// Whether a push of this sender is not whole.
    fn is_open(&self, sender: S) -> bool {
        self.open.contains_key(&sender)
    }

    /// Gives up what has waited too long of one sender.
    fn forget_late(&mut self, sender: S, now: Instant) {
        if self.open.get(&sender).is_some_and(|open| open.is_late(now)) {
            self.remove(sender);
        }
    }

    /// What has waited too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Ready> {
        let late = self.open.iter().filter(|(_, open)| open.is_late(now));
        let senders: Vec<S> = late.map(|(sender, _)| *sender).collect();
        senders.into_iter().filter_map(|sender| self.remove(sender)).map(Open::ready).collect()
    }

    /// All that is here, when nothing more will come.
    pub(crate) fn end(&mut self) -> Vec<Ready> {
        self.bytes = 0;
        self.open.drain().map(|(_, open)| open.ready()).collect()
    }

    /// Whether a datagram is all there is: a push, or bytes that no others can make one.
    fn is_alone(&self, bytes: &[u8], framing: Framing) -> bool {
        !may_be_part(bytes, framing) || !self.waits(bytes, framing)
    }

    /// Whether bytes that look whole may be a later frame of what is open of their sender. A long frame of M-Bus has a
    /// number; one of HDLC behind the first segment or block has no LLC header, and of the last segment nothing else says
    /// that it is one.
    fn may_continue(&self, sender: S, bytes: &[u8], framing: Framing) -> bool {
        if self.open.get(&sender).is_none_or(|open| open.framing != framing) {
            return false;
        }
        match framing {
            Framing::Mbus => mbus::Frame::new_checked(bytes).is_ok_and(|frame| frame.head().number > 0),
            Framing::Hdlc => hdlc::Frame::new_checked(bytes).is_ok_and(|frame| {
                let information = frame.information();
                hdlc::strip_llc(information).len() == information.len()
            }),
            Framing::Wrapper | Framing::Apdu => false,
        }
    }

    /// Whether frames are missing, and nothing else is.
    fn waits(&self, bytes: &[u8], framing: Framing) -> bool {
        let fault = parts::apdu_of(bytes, framing, self.max_apdu).err();
        fault.is_some_and(|error| {
            matches!(error.kind, ErrorKind::MissingBlock(_) | ErrorKind::Segments)
                && error.offset == bytes.len()
        })
    }

    fn oldest(&self) -> Option<S> {
        self.open.iter().min_by_key(|(_, open)| open.last).map(|(sender, _)| *sender)
    }

    fn insert(&mut self, sender: S, open: Open) {
        self.bytes += open.raw.len();
        self.open.insert(sender, open);
    }

    fn remove(&mut self, sender: S) -> Option<Open> {
        let open = self.open.remove(&sender)?;
        self.bytes -= open.raw.len();
        Some(open)
    }
}

/// What is here of pushes that come in several publishes, by topic.
#[derive(Debug)]
pub struct Publishes {
    framing: Framing,
    gather: Mutex<Gather<Digest>>,
}

impl Publishes {
    /// Of publishes that should have this framing, with APDUs of so many bytes at most.
    #[must_use]
    pub fn new(framing: Framing, max_apdu: usize) -> Publishes {
        Publishes { framing, gather: Mutex::new(Gather::new(max_apdu)) }
    }

    /// What to submit for a publish: the push that it makes whole, else itself.
    #[must_use]
    pub fn take(&self, topic: &[u8], payload: &Bytes) -> (Bytes, Framing) {
        let framing = self.framing.of_publish(payload);
        if !may_be_part(payload, framing) {
            return (payload.clone(), framing);
        }
        let (sender, now) = (digest(topic), Instant::now());
        let mut gather = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        // Each part of what is given up here was submitted when it came.
        gather.forget_late(sender, now);
        let last = gather.take(sender, payload.clone(), framing, now).pop();
        last.filter(|_| !gather.is_open(sender)).unwrap_or_else(|| (payload.clone(), framing))
    }
}

/// Whether bytes may be a part of a push. Nearly all are not, and need no second look.
fn may_be_part(bytes: &[u8], framing: Framing) -> bool {
    let first = match framing {
        Framing::Hdlc | Framing::Mbus => return true,
        Framing::Wrapper => bytes.get(HEADER_LEN),
        Framing::Apdu => bytes.first(),
    };
    first == Some(&GENERAL_BLOCK_TRANSFER)
}

impl Open {
    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= PATIENCE
    }

    fn ready(self) -> Ready {
        (Bytes::from(self.raw), self.framing)
    }
}

#[cfg(test)]
mod tests {
    use codec::apdu::block_transfer::BlockSender;
    use codec::wrapper::WrapperRepr;

    use super::*;

    fn blocks(apdu: &[u8]) -> Vec<Bytes> {
        let mut sender = BlockSender::unconfirmed(apdu, 3).unwrap();
        let mut frames = Vec::new();
        loop {
            let (mut block, mut frame) = (Vec::new(), Vec::new());
            if !sender.emit_next(&mut block) {
                return frames;
            }
            WrapperRepr { source: 1, destination: 48 }.emit(&block, &mut frame);
            frames.push(Bytes::from(frame));
        }
    }

    #[test]
    fn blocks_of_several_senders_become_one_push_each_in_any_order() {
        let (mut gather, now) = (Gather::new(100), Instant::now());
        let (one, two) = (blocks(b"abcdefg"), blocks(b"hijklmn"));
        for index in [1, 0] {
            assert_eq!(gather.take(1, one[index].clone(), Framing::Wrapper, now), []);
            assert_eq!(gather.take(2, two[index].clone(), Framing::Wrapper, now), []);
        }
        for (sender, frames) in [(1, &one), (2, &two)] {
            let ready = gather.take(sender, frames[2].clone(), Framing::Wrapper, now);
            let whole = [&frames[1][..], &frames[0], &frames[2]].concat();
            assert_eq!(ready, [(Bytes::from(whole), Framing::Wrapper)]);
        }
        assert_eq!((gather.bytes, gather.end()), (0, vec![]));
    }

    #[test]
    fn a_publish_that_is_a_part_is_submitted_alone_and_the_last_one_with_all_of_them() {
        let publishes = Publishes::new(Framing::Wrapper, 100);
        let (one, two) = (blocks(b"abcdefg"), blocks(b"hijklmn"));
        let whole = |parts: &[Bytes]| (Bytes::from(parts.concat()), Framing::Wrapper);
        for index in [0, 1] {
            assert_eq!(publishes.take(b"one", &one[index]), (one[index].clone(), Framing::Wrapper));
            assert_eq!(publishes.take(b"two", &two[index]), (two[index].clone(), Framing::Wrapper));
        }
        // A push that is whole by itself passes between.
        let alone = &blocks(b"xy")[0];
        assert_eq!(publishes.take(b"one", alone), (alone.clone(), Framing::Wrapper));
        assert_eq!(publishes.take(b"two", &two[2]), whole(&two));
        assert_eq!(publishes.take(b"one", &one[2]), whole(&one));
        // The first part again, as after a connection that was lost, is there twice.
        for part in [&one[0], &one[0], &one[1]] {
            assert_eq!(publishes.take(b"one", part), (part.clone(), Framing::Wrapper));
        }
        let twice = [one[0].clone(), one[0].clone(), one[1].clone(), one[2].clone()];
        assert_eq!(publishes.take(b"one", &one[2]), whole(&twice));
        assert_eq!(publishes.gather.lock().unwrap().bytes, 0);
    }

    #[test]
    fn segments_of_hdlc_become_one_push_though_the_last_one_does_not_say_that_it_is_a_segment() {
        let (mut gather, now) = (Gather::new(2000), Instant::now());
        let frames = |apdu: &[u8]| {
            let mut bytes = Vec::new();
            hdlc::emit_push(hdlc::Address::one(48), hdlc::Address::one(1), apdu, 128, &mut bytes);
            let mut frames = Vec::new();
            while !bytes.is_empty() {
                let length = hdlc::Frame::new_checked(&bytes).unwrap().total_len();
                frames.push(Bytes::from(bytes.drain(..length).collect::<Vec<_>>()));
            }
            frames
        };
        let (long, short) = (frames(&[0x0f; 500]), frames(&[0x0f; 50]));
        assert_eq!((long.len(), short.len()), (4, 1));
        for frame in &long[..2] {
            assert_eq!(gather.take(1, frame.clone(), Framing::Hdlc, now), []);
        }
        // One that is whole passes between; of another sender it has nothing to do with them.
        for sender in [1, 2] {
            assert_eq!(
                gather.take(sender, short[0].clone(), Framing::Hdlc, now),
                [(short[0].clone(), Framing::Hdlc)]
            );
        }
        assert_eq!(gather.take(1, long[2].clone(), Framing::Hdlc, now), []);
        assert_eq!(
            gather.take(1, long[3].clone(), Framing::Hdlc, now),
            [(Bytes::from(long.concat()), Framing::Hdlc)]
        );
        assert_eq!(gather.bytes, 0);
    }

    #[test]
    fn another_push_and_time_end_one_that_is_not_whole() {
        let (mut gather, now) = (Gather::new(100), Instant::now());
        let (one, two) = (blocks(b"abcdefg"), blocks(b"hijklmn"));
        assert_eq!(gather.take(1, one[0].clone(), Framing::Wrapper, now), []);
        let ready = gather.take(1, two[0].clone(), Framing::Wrapper, now);
        assert_eq!(ready, [(one[0].clone(), Framing::Wrapper)]);
        assert_eq!(gather.expired(now + PATIENCE / 2), []);
        assert_eq!(gather.expired(now + PATIENCE), [(two[0].clone(), Framing::Wrapper)]);
        assert_eq!(gather.bytes, 0);
    }

    #[test]
    fn what_others_cannot_make_whole_passes_at_once() {
        let (mut gather, now) = (Gather::new(100), Instant::now());
        for bytes in [&b"not a frame"[..], b"", b"~~~", &blocks(b"ab")[0], &blocks(b"abcd")[0][..9]] {
            let bytes = Bytes::copy_from_slice(bytes);
            let framing = Framing::Wrapper.of_publish(&bytes);
            let ready = gather.take(1, bytes.clone(), framing, now);
            assert_eq!(ready, [(bytes, framing)]);
        }
    }

    #[test]
    fn senders_are_bounded_and_the_oldest_is_given_up() {
        let (mut gather, now) = (Gather::new(100), Instant::now());
        let first = &blocks(b"abcd")[0];
        for sender in 0..SENDERS as u64 {
            let at = now + Duration::from_millis(sender);
            assert_eq!(gather.take(sender, first.clone(), Framing::Wrapper, at), []);
        }
        let ready = gather.take(u64::MAX, first.clone(), Framing::Wrapper, now + PATIENCE);
        assert_eq!(ready, [(first.clone(), Framing::Wrapper)]);
        assert!(!gather.open.contains_key(&0));
        assert_eq!((gather.open.len(), gather.bytes), (SENDERS, SENDERS * first.len()));
    }

    #[test]
    fn long_frames_are_put_together_in_their_row_and_handed_out_where_one_is_missing() {
        let mut gather = Gather::new(100);
        let now = Instant::now();
        let frames: Vec<Bytes> = (0..3)
            .map(|number| {
                let (last, mut out) = (number == 2, Vec::new());
                let (source, destination) = (1, 103);
                mbus::FrameRepr { control: 0x53, address: 0xff, number, last, source, destination }
                    .emit(&[0x0f; 9], &mut out);
                out.into()
            })
            .collect();
        let mut take = |number: usize| gather.take(1, frames[number].clone(), Framing::Mbus, now);
        assert_eq!((take(0), take(1)), (vec![], vec![]));
        assert_eq!(take(2), [(Bytes::from(frames.concat()), Framing::Mbus)]);
        // One that nothing comes before is alone; one that is out of its row ends what is open, and is alone too.
        assert_eq!(take(1), [(frames[1].clone(), Framing::Mbus)]);
        assert_eq!(take(0), []);
        assert_eq!(take(2), [(frames[0].clone(), Framing::Mbus), (frames[2].clone(), Framing::Mbus)]);
        assert_eq!(gather.end(), []);
    }
}
