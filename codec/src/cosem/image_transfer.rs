//! Class 18, Image Transfer: new firmware in blocks, then verified, then activated.
//!
//! Enabled → initiate → every block → the blocks that are [`missing`] again → verify → activate, or a schedule that does.

use super::{List, LogicalName, NoData};
use crate::axdr::BitString;

class! {
    18
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// Bytes of a block; the last may be shorter.
        2 BlockSize image_block_size: u32,
        /// One bit a block: whether it arrived.
        3 TransferredBlocksStatus image_transferred_blocks_status: BitString<'a>,
        /// The first block that did not arrive; the number of blocks when all did.
        4 FirstNotTransferredBlock image_first_not_transferred_block_number: u32,
        /// Whether an image is taken at all.
        5 TransferEnabled image_transfer_enabled: bool,
        /// How far it is.
        6 TransferStatus image_transfer_status: TransferStatus,
        /// What would be activated.
        7 ToActivateInfo image_to_activate_info: List<'a, ImageToActivate<'a>>,
    }
    methods {
        /// Announces an image.
        1 Initiate image_transfer_initiate: Initiate<'a>,
        /// Sends a block.
        2 BlockTransfer image_block_transfer: Block<'a>,
        /// Has the image verified; a temporary failure means that the meter is still at it.
        3 Verify image_verify: NoData,
        /// Has the image activated.
        4 Activate image_activate: NoData,
    }
    calls Call<'a>
}

structure! {
    /// An image to come.
    pub struct Initiate<'a> {
        /// What identifies it.
        pub identifier: &'a [u8],
        /// Its bytes.
        pub size: u32,
    }

    /// A block of the image.
    pub struct Block<'a> {
        /// Its number, from 0.
        pub number: u32,
        /// Its bytes.
        pub value: &'a [u8],
    }

    /// An image that is ready.
    pub struct ImageToActivate<'a> {
        /// Its bytes.
        pub size: u32,
        /// What identifies it.
        pub identification: &'a [u8],
        /// Its signature, or empty.
        pub signature: &'a [u8],
    }
}

codes! {
    /// How far the transfer is.
    pub enum TransferStatus {
        /// Nothing was announced.
        NotInitiated = 0,
        /// Blocks are taken.
        Initiated = 1,
        /// It is being verified.
        VerificationInitiated = 2,
        /// It is sound.
        VerificationSuccessful = 3,
        /// It is not.
        VerificationFailed = 4,
        /// It is being activated.
        ActivationInitiated = 5,
        /// It runs.
        ActivationSuccessful = 6,
        /// It could not be activated.
        ActivationFailed = 7,
    }
}

/// Blocks of an image; `None` where the block size is 0.
#[must_use]
pub const fn block_count(image_size: u32, block_size: u32) -> Option<u32> {
    match block_size {
        0 => None,
        block_size => Some(image_size.div_ceil(block_size)),
    }
}

/// The numbers of the blocks that did not arrive, of `blocks`; one without a bit did not.
pub fn missing(transferred: BitString<'_>, blocks: u32) -> impl Iterator<Item = u32> {
    (0..blocks).filter(move |&block| {
        let bit = usize::try_from(block).ok().and_then(|index| transferred.bit(index));
        bit != Some(true)
    })
}
