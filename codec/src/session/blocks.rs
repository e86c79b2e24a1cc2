//! A request and its answer in blocks of a general transfer, from either side.
//!
//! The blocks are beneath the protection: an APDU is sealed once, and what is lost of it on the way is sent again as it
//! was. Each block says how many the side that sends it takes at once, and up to which it has those of the other side; one
//! that is not streaming gives the other side its turn. The other side then sends what it has from the first block that
//! is not acknowledged on, or an empty block that asks for more.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::apdu::block_transfer::{
    Assembly, AssemblyError, BlockControl, BlockTransferRepr, GeneralBlockTransfer, MAX_BLOCKS, MAX_WINDOW,
    Taken,
};

/// Bytes of a block beside its data: tag, control, two numbers, length.
pub(super) const HEAD: usize = 1 + 1 + 2 + 2 + 3;
/// Shortest data of a block that makes sense.
const MIN_DATA: usize = 16;

/// One APDU in each direction.
pub(super) struct Exchange {
    /// Blocks that this side takes at once.
    takes: u8,
    outgoing: Outgoing,
    incoming: Assembly,
}

/// Without what is said: it need not be ciphered.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("takes", &self.takes).finish_non_exhaustive()
    }
}

/// What a block of the other side leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its APDU is whole.
    Whole,
    /// It is this side's turn.
    Turn,
    /// More will come by itself.
    Wait,
}

impl Exchange {
    /// With nothing to send yet; takes an APDU of up to `max_bytes`.
    pub(super) fn new(takes: u8, max_bytes: usize) -> Self {
        Self { takes, outgoing: Outgoing::nothing(), incoming: Assembly::new(max_bytes) }
    }

    /// What this side has to say, for a side that takes APDUs of `max_pdu` bytes, 0 for any; false: it needs more blocks
    /// than there can be.
    pub(super) fn say(&mut self, apdu: Vec<u8>, max_pdu: u16, window: u8) -> bool {
        let max_pdu = if max_pdu == 0 { u16::MAX } else { max_pdu };
        let room = usize::from(max_pdu).saturating_sub(HEAD).max(MIN_DATA);
        self.outgoing = Outgoing {
            apdu: Zeroizing::new(apdu),
            room,
            window: window.clamp(1, MAX_WINDOW),
            acknowledged: 0,
            sent: 0,
        };
        self.outgoing.count() <= usize::from(MAX_BLOCKS)
    }

    /// Whether all that this side has to say went out, once at least.
    pub(super) fn is_said(&self) -> bool {
        usize::from(self.outgoing.sent) == self.outgoing.count()
    }

    /// Whether the other side has begun to say something.
    pub(super) fn is_answered(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Rises with everything new that one side has of the other.
    pub(super) fn progress(&self) -> usize {
        self.incoming.len() + usize::from(self.outgoing.acknowledged)
    }

    /// Takes a block.
    pub(super) fn take(&mut self, block: &GeneralBlockTransfer<'_>) -> Result<Step, AssemblyError> {
        self.outgoing.acknowledge(block.acknowledged(), block.control().window());
        let turn = if block.control().streaming() { Step::Wait } else { Step::Turn };
        // An acknowledgement has no data and a number of its own.
        if block.data().is_empty() {
            return Ok(turn);
        }
        match self.incoming.push(block)? {
            Taken::Complete => Ok(Step::Whole),
            Taken::Stored | Taken::Duplicate => Ok(turn),
        }
    }

    /// The APDU of the other side, once it is whole.
    pub(super) fn heard(&self) -> Option<&[u8]> {
        self.incoming.apdu()
    }

    /// All that this side may send in its turn: its blocks up to its window, else what it has of the other side's.
    pub(super) fn turn(&mut self) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        while let Some(block) = self.outgoing.next(self.takes, self.incoming.in_sequence()) {
            blocks.push(block);
        }
        if blocks.is_empty() {
            let number = self.outgoing.sent.saturating_add(1);
            let mut block = Vec::new();
            self.incoming.acknowledgement(number, self.takes).emit(&[], &mut block);
            blocks.push(block);
        }
        blocks
    }

    /// What was heard is of no use, as where blocks of an earlier answer are among it: from the first one on again.
    pub(super) fn forget(&mut self) {
        self.incoming.clear();
    }

    /// Nothing was heard: the same turn again.
    pub(super) fn again(&mut self) -> Vec<Vec<u8>> {
        self.outgoing.sent = self.outgoing.acknowledged;
        self.turn()
    }
}

struct Outgoing {
    /// In an association in the clear it may hold a password that is to be written.
    apdu: Zeroizing<Vec<u8>>,
    room: usize,
    /// Blocks that the other side takes at once.
    window: u8,
    /// Blocks that it has.
    acknowledged: u16,
    /// Blocks that were sent, those included; it goes back where some are to be sent again.
    sent: u16,
}

impl Outgoing {
    fn nothing() -> Self {
        Self { apdu: Zeroizing::default(), room: 1, window: 1, acknowledged: 0, sent: 0 }
    }

    fn count(&self) -> usize {
        self.apdu.len().div_ceil(self.room)
    }

    fn acknowledge(&mut self, acknowledged: u16, window: u8) {
        self.window = window.clamp(1, MAX_WINDOW);
        // It may be less than before: what a side put together can turn out to be of no use.
        if usize::from(acknowledged) <= self.count() {
            self.acknowledged = acknowledged;
            self.sent = acknowledged;
        }
    }

    fn next(&mut self, takes: u8, acknowledged: u16) -> Option<Vec<u8>> {
        let index = usize::from(self.sent);
        let in_flight = self.sent - self.acknowledged;
        if index >= self.count() || in_flight >= u16::from(self.window) {
            return None;
        }
        let last = index + 1 == self.count();
        let streaming = !last && in_flight + 1 < u16::from(self.window);
        self.sent += 1;
        let control = BlockControl::new(last, streaming, takes);
        let mut block = Vec::new();
        BlockTransferRepr { control, number: self.sent, acknowledged }
            .emit(self.apdu.chunks(self.room).nth(index).unwrap_or_default(), &mut block);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::apdu::{self, Apdu};

    fn block(bytes: &[u8]) -> GeneralBlockTransfer<'_> {
        match apdu::parse(bytes) {
            Ok(Apdu::GeneralBlockTransfer(block)) => block,
            other => panic!("no block: {other:?}"),
        }
    }

    /// Both sides speak until the asking one has its answer; it speaks again where nothing comes. Turns that it took, or
    /// nothing when it gave up.
    fn talk(
        request: usize,
        answer: usize,
        windows: (u8, u8),
        mut lost: impl FnMut() -> bool,
    ) -> Option<(usize, Vec<u8>, Vec<u8>)> {
        let (question, reply) = (vec![0x51; request], vec![0xa5; answer]);
        let (mut asks, mut answers) = (Exchange::new(windows.0, 1 << 20), Exchange::new(windows.1, 1 << 20));
        assert!(asks.say(question, 64, 1));
        let mut there = asks.turn();
        for turn in 1..200 {
            let mut back = vec![];
            for bytes in there.drain(..).filter(|_| !lost()).collect::<Vec<_>>() {
                match answers.take(&block(&bytes)).unwrap() {
                    Step::Whole => assert!(answers.say(reply.clone(), 64, block(&bytes).control().window())),
                    Step::Turn => {}
                    Step::Wait => continue,
                }
                back = answers.turn();
            }
            let mut whole = false;
            for bytes in back.drain(..).filter(|_| !lost()).collect::<Vec<_>>() {
                match asks.take(&block(&bytes)).unwrap() {
                    Step::Whole => whole = true,
                    Step::Turn => there = asks.turn(),
                    Step::Wait => {}
                }
            }
            if whole {
                return Some((turn, answers.heard().unwrap().to_vec(), asks.heard().unwrap().to_vec()));
            }
            if there.is_empty() {
                there = asks.again();
            }
        }
        None
    }

    #[test]
    fn a_window_says_how_many_blocks_go_before_an_answer_is_waited_for() {
        let data = 64 - HEAD;
        for (answer, window, turns) in [(1, 1, 1), (data * 10, 1, 10), (data * 10, 5, 2), (data * 10, 63, 1)]
        {
            let (taken, ..) = talk(20, answer, (window, 1), || false).unwrap();
            assert_eq!(taken, turns, "{answer} bytes, window {window}");
        }
    }

    #[test]
    fn a_question_of_many_blocks_is_heard_whole_before_it_is_answered() {
        let (turns, heard, got) = talk(1000, 1000, (4, 8), || false).unwrap();
        assert_eq!((heard, got), (vec![0x51; 1000], vec![0xa5; 1000]));
        assert!(turns < 12, "{turns}");
    }

    proptest! {
        #[test]
        fn whatever_is_lost_both_sides_hear_what_was_said(
            request in 1..400_usize,
            answer in 1..3000_usize,
            windows in (1..=63_u8, 1..=63_u8),
            losses in prop::collection::vec(0..10_u8, 300),
        ) {
            let mut losses = losses.into_iter().chain(core::iter::repeat(9));
            let (_, heard, got) = talk(request, answer, windows, || losses.next() < Some(2)).unwrap();
            prop_assert_eq!((heard, got), (vec![0x51; request], vec![0xa5; answer]));
        }
    }
}
