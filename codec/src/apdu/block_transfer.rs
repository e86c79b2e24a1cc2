//! General-block-transfer: an APDU cut into numbered blocks.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | tag, 0xe0 |
//! | 1 | [`BlockControl`]: last block, streaming, window |
//! | 2 | number of the block, from 1 |
//! | 2 | number of the last block received from the other side |
//! | n | data of the block, with a length |
//!
//! Ciphering is inside: put the blocks together first, then open what comes out. [`Assembly`] does that for
//! blocks in any order and says which are missing; [`BlockSender`] cuts and repeats what was lost.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::{GENERAL_BLOCK_TRANSFER, finished};
use crate::cursor::{Cursor, write_length};
use crate::error::Error;

/// Largest window, in blocks.
pub const MAX_WINDOW: u8 = 63;
/// Blocks of one APDU, at most.
pub const MAX_BLOCKS: u16 = 4096;
/// Blocks kept behind one that is missing, at most.
pub const MAX_AHEAD: usize = MAX_WINDOW as usize;

const LAST: u8 = 0x80;
const STREAMING: u8 = 0x40;

/// The control byte of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockControl(pub u8);

impl BlockControl {
    /// A control byte; of the window the low 6 bits count.
    #[must_use]
    pub const fn new(last: bool, streaming: bool, window: u8) -> Self {
        let last = if last { LAST } else { 0 };
        let streaming = if streaming { STREAMING } else { 0 };
        Self(last | streaming | (window & MAX_WINDOW))
    }

    /// No block of this APDU has a higher number.
    #[must_use]
    pub const fn last(&self) -> bool {
        self.0 & LAST != 0
    }

    /// The sender goes on without an acknowledgement.
    #[must_use]
    pub const fn streaming(&self) -> bool {
        self.0 & STREAMING != 0
    }

    /// Blocks that the sender of this one takes without acknowledging.
    #[must_use]
    pub const fn window(&self) -> u8 {
        self.0 & MAX_WINDOW
    }
}

/// A borrowed view of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralBlockTransfer<'a> {
    control: BlockControl,
    number: u16,
    acknowledged: u16,
    data: &'a [u8],
    data_offset: usize,
}

impl<'a> GeneralBlockTransfer<'a> {
    pub(super) fn parse(mut cursor: Cursor<'a>) -> Result<Self, Error> {
        let control = BlockControl(cursor.u8()?);
        let number = cursor.u16()?;
        let acknowledged = cursor.u16()?;
        let length = cursor.length()?;
        let data_offset = cursor.position();
        let data = cursor.take(length)?;
        finished(&cursor)?;
        Ok(Self { control, number, acknowledged, data, data_offset })
    }

    /// Last block, streaming, window.
    #[must_use]
    pub const fn control(&self) -> BlockControl {
        self.control
    }

    /// Number of the block, from 1.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Number of the last block that its sender received in sequence; 0 for none.
    #[must_use]
    pub const fn acknowledged(&self) -> u16 {
        self.acknowledged
    }

    /// A part of the APDU.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Where the data starts in the APDU.
    #[must_use]
    pub const fn data_offset(&self) -> usize {
        self.data_offset
    }
}

impl fmt::Display for GeneralBlockTransfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "general-block-transfer block {}, {} bytes", self.number, self.data.len())?;
        if self.control.last() { f.write_str(", last") } else { Ok(()) }
    }
}

/// A block to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockTransferRepr {
    /// Last block, streaming, window.
    pub control: BlockControl,
    /// Number of the block, from 1.
    pub number: u16,
    /// Number of the last block received in sequence; 0 for none.
    pub acknowledged: u16,
}

impl BlockTransferRepr {
    /// What a parsed block says, without its data.
    #[must_use]
    pub const fn parse(block: &GeneralBlockTransfer<'_>) -> Self {
        Self { control: block.control, number: block.number, acknowledged: block.acknowledged }
    }

    /// Appends the block with `data` to `out`.
    pub fn emit(&self, data: &[u8], out: &mut Vec<u8>) {
        out.push(GENERAL_BLOCK_TRANSFER);
        out.push(self.control.0);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        write_length(data.len(), out);
        out.extend_from_slice(data);
    }
}

/// What a block was to an [`Assembly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A new one; others are missing.
    Stored,
    /// One that is there already, with the same data.
    Duplicate,
    /// The one that made the APDU whole.
    Complete,
}

/// Why a block cannot belong to what is there. It is left out; what is there stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssemblyError {
    /// A block with a number that none has: 0, or more than [`MAX_BLOCKS`].
    Number(u16),
    /// Another block with this number is there.
    Conflict(u16),
    /// A block behind the last one, or a last one before others.
    BehindLast(u16),
    /// More bytes than the receiver allows.
    TooLong(usize),
    /// More than [`MAX_AHEAD`] blocks behind one that is missing.
    TooFarAhead(u16),
}

impl fmt::Display for AssemblyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "no block can have number {number}"),
            Self::Conflict(number) => write!(f, "another block {number} is there"),
            Self::BehindLast(number) => write!(f, "block {number} does not fit the last one"),
            Self::TooLong(length) => write!(f, "{length} bytes of blocks are over the limit"),
            Self::TooFarAhead(number) => write!(f, "block {number} is too far ahead"),
        }
    }
}

impl core::error::Error for AssemblyError {}

/// Puts the blocks of one APDU together, in whatever order and however often they come.
#[derive(Clone, Debug)]
pub struct Assembly {
    max_bytes: usize,
    /// The data in sequence.
    apdu: Vec<u8>,
    /// Where each block in sequence ends in it.
    ends: Vec<usize>,
    /// Blocks behind a missing one, by number.
    ahead: BTreeMap<u16, Vec<u8>>,
    ahead_bytes: usize,
    last: Option<u16>,
}

impl Assembly {
    /// Takes an APDU of up to `max_bytes`.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            apdu: Vec::new(),
            ends: Vec::new(),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            last: None,
        }
    }

    /// Forgets what is there.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_bytes);
    }

    /// Takes a block.
    ///
    /// # Errors
    /// [`AssemblyError`].
    pub fn push(&mut self, block: &GeneralBlockTransfer<'_>) -> Result<Taken, AssemblyError> {
        let (number, data) = (block.number(), block.data());
        if number == 0 || number > MAX_BLOCKS {
            return Err(AssemblyError::Number(number));
        }
        if let Some(known) = self.block(number) {
            let same = known == data && block.control().last() == (self.last == Some(number));
            return if same { Ok(Taken::Duplicate) } else { Err(AssemblyError::Conflict(number)) };
        }
        let highest = self.ahead.last_key_value().map_or(self.in_sequence(), |(number, _)| *number);
        let before_others = block.control().last() && number < highest;
        if before_others || self.last.is_some_and(|last| number > last || block.control().last()) {
            return Err(AssemblyError::BehindLast(number));
        }
        let length = (self.apdu.len() + self.ahead_bytes).saturating_add(data.len());
        if length > self.max_bytes {
            return Err(AssemblyError::TooLong(length));
        }
        if number != self.in_sequence() + 1 {
            if self.ahead.len() >= MAX_AHEAD {
                return Err(AssemblyError::TooFarAhead(number));
            }
            self.ahead_bytes += data.len();
            self.ahead.insert(number, data.to_vec());
        } else {
            self.append(data);
            while let Some(data) = self.ahead.remove(&(self.in_sequence() + 1)) {
                self.ahead_bytes -= data.len();
                self.append(&data);
            }
        }
        if block.control().last() {
            self.last = Some(number);
        }
        Ok(if self.is_complete() { Taken::Complete } else { Taken::Stored })
    }

    fn append(&mut self, data: &[u8]) {
        self.apdu.extend_from_slice(data);
        self.ends.push(self.apdu.len());
    }

    fn block(&self, number: u16) -> Option<&[u8]> {
        let index = usize::from(number.checked_sub(1)?);
        let Some(&end) = self.ends.get(index) else {
            return self.ahead.get(&number).map(Vec::as_slice);
        };
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.apdu.get(start..end)
    }

    /// Number of the last block up to which none is missing: what is to be acknowledged. 0 for none.
    #[must_use]
    pub fn in_sequence(&self) -> u16 {
        // As many as MAX_BLOCKS, which is a u16.
        self.ends.len() as u16
    }

    /// Numbers of the blocks that are known to be missing, lowest first: those before a block that is there, and
    /// the next one where the last is not there yet.
    pub fn missing(&self) -> impl Iterator<Item = u16> + '_ {
        let next = self.in_sequence() + 1;
        let highest = self.ahead.last_key_value().map_or(self.in_sequence(), |(number, _)| *number);
        let end = if self.last.is_some() { highest } else { highest + 1 };
        (next..=end).filter(|number| !self.ahead.contains_key(number))
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.last == Some(self.in_sequence())
    }

    /// Whether no block is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.ahead.is_empty()
    }

    /// Bytes that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.apdu.len() + self.ahead_bytes
    }

    /// The APDU, once it is whole.
    #[must_use]
    pub fn apdu(&self) -> Option<&[u8]> {
        self.is_complete().then_some(&self.apdu)
    }

    /// The APDU, once it is whole.
    #[must_use]
    pub fn into_apdu(self) -> Option<Vec<u8>> {
        if self.is_complete() { Some(self.apdu) } else { None }
    }

    /// The acknowledgement to send: `number` is that of our own block, `window` what we take.
    #[must_use]
    pub fn acknowledgement(&self, number: u16, window: u8) -> BlockTransferRepr {
        let control = BlockControl::new(true, false, window);
        BlockTransferRepr { control, number, acknowledged: self.in_sequence() }
    }
}

/// Cuts an APDU into blocks and repeats what was lost.
#[derive(Clone, Debug)]
pub struct BlockSender<'a> {
    apdu: &'a [u8],
    block_len: usize,
    /// Blocks sent without an acknowledgement; `None`: all, as in a push that nobody acknowledges.
    window: Option<u8>,
    /// Blocks that the other side has.
    acknowledged: u16,
    /// Blocks sent, those included; it goes back where some are to be sent again.
    sent: u16,
    /// The most that `sent` was: the other side may have kept blocks behind a lost one.
    furthest: u16,
}

impl<'a> BlockSender<'a> {
    /// For an APDU that is acknowledged window by window; `None` where it needs more than [`MAX_BLOCKS`] blocks of
    /// `block_len` bytes.
    #[must_use]
    pub fn confirmed(apdu: &'a [u8], block_len: usize, window: u8) -> Option<Self> {
        let window = Some(window.clamp(1, MAX_WINDOW));
        Self { window, ..Self::unconfirmed(apdu, block_len)? }.into()
    }

    /// For a push that nobody acknowledges: all blocks one after the other.
    #[must_use]
    pub fn unconfirmed(apdu: &'a [u8], block_len: usize) -> Option<Self> {
        let sender =
            Self { apdu, block_len: block_len.max(1), window: None, acknowledged: 0, sent: 0, furthest: 0 };
        (sender.blocks() <= usize::from(MAX_BLOCKS)).then_some(sender)
    }

    fn blocks(&self) -> usize {
        self.apdu.len().div_ceil(self.block_len).max(1)
    }

    /// Appends the next block to `out`; false: there is none, or an acknowledgement is waited for.
    pub fn emit_next(&mut self, out: &mut Vec<u8>) -> bool {
        let index = usize::from(self.sent);
        let in_flight = self.sent - self.acknowledged;
        let closed = self.window.is_some_and(|window| in_flight >= u16::from(window));
        if index >= self.blocks() || closed {
            return false;
        }
        let last = index + 1 == self.blocks();
        let streaming = match self.window {
            // Real meters keep the bit on the last block of a push.
            None => true,
            Some(window) => !last && in_flight + 1 < u16::from(window),
        };
        let control = BlockControl::new(last, streaming, self.window.unwrap_or(0));
        let data = self.apdu.chunks(self.block_len).nth(index).unwrap_or_default();
        self.sent += 1;
        self.furthest = self.furthest.max(self.sent);
        BlockTransferRepr { control, number: self.sent, acknowledged: 0 }.emit(data, out);
        true
    }

    /// Takes an acknowledgement: what is behind it is sent again.
    pub fn acknowledge(&mut self, acknowledgement: &GeneralBlockTransfer<'_>) {
        let acknowledged = acknowledgement.acknowledged();
        if acknowledged < self.acknowledged || acknowledged > self.furthest {
            return;
        }
        self.acknowledged = acknowledged;
        self.sent = acknowledged;
        if let Some(window) = &mut self.window {
            *window = acknowledgement.control().window().clamp(1, MAX_WINDOW);
        }
    }

    /// Nothing was heard: the blocks that are not acknowledged are sent again.
    pub const fn repeat(&mut self) {
        self.sent = self.acknowledged;
    }

    /// Whether all is sent, and acknowledged where that is waited for.
    #[must_use]
    pub fn is_through(&self) -> bool {
        let through = if self.window.is_some() { self.acknowledged } else { self.sent };
        usize::from(through) >= self.blocks()
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::apdu::{self, Apdu};
    use crate::error::ErrorKind;

    fn block(bytes: &[u8]) -> GeneralBlockTransfer<'_> {
        match apdu::parse(bytes) {
            Ok(Apdu::GeneralBlockTransfer(block)) => block,
            other => panic!("no block: {other:?}"),
        }
    }

    fn made(last: bool, number: u16, data: &[u8]) -> Vec<u8> {
        let control = BlockControl::new(last, true, 0);
        let mut out = vec![];
        BlockTransferRepr { control, number, acknowledged: 0 }.emit(data, &mut out);
        out
    }

    fn push(assembly: &mut Assembly, last: bool, number: u16, data: &[u8]) -> Result<Taken, AssemblyError> {
        assembly.push(&block(&made(last, number, data)))
    }

    #[test]
    fn a_block_is_written_as_it_is_read_and_every_cut_is_refused() {
        let mut bytes = made(true, 0x0102, &[7; 130]);
        assert_eq!(bytes[..9], [0xe0, 0xc0, 1, 2, 0, 0, 0x81, 130, 7]);
        let view = block(&bytes);
        assert_eq!((view.data(), view.data_offset()), (&[7; 130][..], 8));
        assert_eq!(view.to_string(), "general-block-transfer block 258, 130 bytes, last");
        for cut in 1..bytes.len() {
            assert_eq!(apdu::parse(&bytes[..cut]).unwrap_err().kind, ErrorKind::Truncated);
        }
        bytes.push(0);
        assert_eq!(apdu::parse(&bytes).unwrap_err().kind, ErrorKind::TrailingBytes);
    }

    #[test]
    fn blocks_in_any_order_and_twice_become_one_apdu() {
        let mut assembly = Assembly::new(100);
        assert!(assembly.missing().eq([1]));
        assert_eq!(push(&mut assembly, false, 2, b"two"), Ok(Taken::Stored));
        assert_eq!(push(&mut assembly, true, 4, b"four"), Ok(Taken::Stored));
        assert!(assembly.missing().eq([1, 3]));
        assert_eq!(push(&mut assembly, false, 2, b"two"), Ok(Taken::Duplicate));
        assert_eq!(push(&mut assembly, false, 1, b"one"), Ok(Taken::Stored));
        assert_eq!((assembly.in_sequence(), assembly.apdu()), (2, None));
        assert!(assembly.missing().eq([3]));
        assert_eq!(assembly.acknowledgement(1, 5).acknowledged, 2);
        assert_eq!(push(&mut assembly, false, 3, b"three"), Ok(Taken::Complete));
        assert_eq!(push(&mut assembly, true, 4, b"four"), Ok(Taken::Duplicate));
        assert_eq!(assembly.missing().count(), 0);
        assert_eq!(assembly.apdu(), Some(&b"onetwothreefour"[..]));
    }

    #[test]
    fn an_acknowledgement_may_pass_what_is_being_sent_again() {
        let mut sender = BlockSender::confirmed(b"onetwo!", 3, 3).unwrap();
        let mut assembly = Assembly::new(100);
        let mut sent = vec![];
        for number in 1..=3 {
            sent.clear();
            assert!(sender.emit_next(&mut sent));
            if number > 1 {
                assembly.push(&block(&sent)).unwrap();
            }
        }
        // Block 1 was lost; from now on one at a time.
        let acknowledge = |assembly: &Assembly, sender: &mut BlockSender<'_>| {
            let mut answer = vec![];
            assembly.acknowledgement(1, 1).emit(&[], &mut answer);
            sender.acknowledge(&block(&answer));
        };
        acknowledge(&assembly, &mut sender);
        sent.clear();
        assert!(sender.emit_next(&mut sent));
        assert_eq!(assembly.push(&block(&sent)), Ok(Taken::Complete));
        acknowledge(&assembly, &mut sender);
        assert!(sender.is_through());
    }

    #[test]
    fn what_cannot_belong_to_the_apdu_changes_nothing() {
        let mut assembly = Assembly::new(10);
        assert_eq!(push(&mut assembly, false, 1, b"abc"), Ok(Taken::Stored));
        for (last, number, data, error) in [
            (false, 0, &b"x"[..], AssemblyError::Number(0)),
            (false, MAX_BLOCKS + 1, b"x", AssemblyError::Number(MAX_BLOCKS + 1)),
            (false, 1, b"abd", AssemblyError::Conflict(1)),
            (true, 1, b"abc", AssemblyError::Conflict(1)),
            (false, 2, b"abcdefgh", AssemblyError::TooLong(11)),
        ] {
            assert_eq!(push(&mut assembly, last, number, data), Err(error));
        }
        assert_eq!(push(&mut assembly, true, 3, b"ghi"), Ok(Taken::Stored));
        assert_eq!(push(&mut assembly, false, 4, b"j"), Err(AssemblyError::BehindLast(4)));
        assert_eq!(push(&mut assembly, true, 2, b"j"), Err(AssemblyError::BehindLast(2)));
        assert_eq!(push(&mut assembly, false, 2, b"def"), Ok(Taken::Complete));
        assert_eq!(assembly.into_apdu(), Some(b"abcdefghi".to_vec()));
    }

    #[test]
    fn blocks_behind_a_missing_one_are_bounded() {
        let mut assembly = Assembly::new(10_000);
        for number in 2..=MAX_AHEAD as u16 + 1 {
            assert_eq!(push(&mut assembly, false, number, &[]), Ok(Taken::Stored));
        }
        let over = MAX_AHEAD as u16 + 2;
        assert_eq!(push(&mut assembly, false, over, &[]), Err(AssemblyError::TooFarAhead(over)));
    }

    #[test]
    fn a_push_goes_out_as_meters_send_it() {
        let mut sender = BlockSender::unconfirmed(b"abcdefg", 3).unwrap();
        let mut blocks = vec![];
        loop {
            let mut out = vec![];
            if !sender.emit_next(&mut out) {
                break;
            }
            blocks.push(out);
        }
        let expected: [&[u8]; 3] =
            [b"\xe0\x40\0\x01\0\0\x03abc", b"\xe0\x40\0\x02\0\0\x03def", b"\xe0\xc0\0\x03\0\0\x01g"];
        assert_eq!(blocks, expected);
        assert!(sender.is_through());
        assert!(BlockSender::unconfirmed(&[0; 4097], 1).is_none());
    }

    proptest! {
        #[test]
        fn with_blocks_lost_the_apdu_arrives_all_the_same(
            apdu in prop::collection::vec(any::<u8>(), 0..400),
            block_len in 1..40_usize,
            window in 1..=MAX_WINDOW,
            losses in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut sender = BlockSender::confirmed(&apdu, block_len, window).unwrap();
            let mut assembly = Assembly::new(apdu.len());
            let mut losses = losses.into_iter();
            while !sender.is_through() {
                let mut out = vec![];
                while sender.emit_next(&mut out) {
                    if losses.next() != Some(true) {
                        assembly.push(&block(&out)).unwrap();
                    }
                    out.clear();
                }
                assembly.acknowledgement(1, window).emit(&[], &mut out);
                if losses.next() == Some(true) {
                    sender.repeat();
                } else {
                    sender.acknowledge(&block(&out));
                }
            }
            prop_assert_eq!(assembly.into_apdu(), Some(apdu));
        }

        #[test]
        fn random_blocks_never_panic_and_keep_to_the_cap(
            blocks in prop::collection::vec((0..8_u16, any::<bool>(), 0..9_usize), 0..40),
        ) {
            let mut assembly = Assembly::new(30);
            for (number, last, length) in blocks {
                let _ = push(&mut assembly, last, number, &vec![1; length]);
                prop_assert!(assembly.len() <= 30);
                prop_assert_eq!(assembly.is_complete(), assembly.last.is_some() && assembly.missing().count() == 0);
            }
        }
    }
}
