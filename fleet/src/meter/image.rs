//! Image transfer: blocks that come, that get lost, and what is made of them.

use codec::apdu::ActionResult;
use codec::cosem::image_transfer::{Block, Initiate, TransferStatus};

/// Bytes of a block of Indian meters (dlms.md 5).
pub(super) const BLOCK_SIZE: u32 = 200;
/// Largest image that is taken.
const MAX_IMAGE: u32 = 4 * 1024 * 1024;

/// How far an image is.
#[derive(Debug, Default)]
pub(super) struct Image {
    pub(super) enabled: bool,
    pub(super) block_size: u32,
    /// A block that is accepted and not kept, once.
    pub(super) lose: Option<u32>,
    pub(super) status: Option<TransferStatus>,
    pub(super) identifier: Vec<u8>,
    bytes: Vec<u8>,
    arrived: Vec<bool>,
    asked: bool,
}

impl Image {
    pub(super) fn new(block_size: u32) -> Image {
        Image { block_size: block_size.max(1), ..Image::default() }
    }

    pub(super) fn status(&self) -> TransferStatus {
        self.status.unwrap_or(TransferStatus::NotInitiated)
    }

    pub(super) fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// The bytes, where all of them came.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.arrived.is_empty() && self.arrived.iter().all(|&arrived| arrived)).then_some(&self.bytes)
    }

    /// One bit a block, first bit first, and how many they are.
    pub(super) fn bits(&self) -> (usize, Vec<u8>) {
        let mut bytes = vec![0_u8; self.arrived.len().div_ceil(8)];
        for (block, _) in self.arrived.iter().enumerate().filter(|(_, arrived)| **arrived) {
            bytes[block / 8] |= 0x80 >> (block % 8);
        }
        (self.arrived.len(), bytes)
    }

    pub(super) fn first_missing(&self) -> u32 {
        self.arrived.iter().position(|&arrived| !arrived).unwrap_or(self.arrived.len()) as u32
    }

    pub(super) fn initiate(&mut self, image: &Initiate<'_>) -> Result<(), ActionResult> {
        if !self.enabled {
            return Err(ActionResult::ReadWriteDenied);
        }
        if image.size == 0 || image.size > MAX_IMAGE {
            return Err(ActionResult::OtherReason);
        }
        self.identifier = image.identifier.to_vec();
        self.bytes = vec![0; image.size as usize];
        self.arrived = vec![false; image.size.div_ceil(self.block_size) as usize];
        self.asked = false;
        self.status = Some(TransferStatus::Initiated);
        Ok(())
    }

    pub(super) fn block(&mut self, block: &Block<'_>) -> Result<(), ActionResult> {
        if self.status() == TransferStatus::NotInitiated {
            return Err(ActionResult::OtherReason);
        }
        let from = u64::from(block.number) * u64::from(self.block_size);
        let from = usize::try_from(from).map_err(|_| ActionResult::OtherReason)?;
        let to = self.bytes.len().min(from.saturating_add(self.block_size as usize));
        let (Some(place), Some(arrived)) =
            (self.bytes.get_mut(from..to), self.arrived.get_mut(block.number as usize))
        else {
            return Err(ActionResult::OtherReason);
        };
        if place.len() != block.value.len() {
            return Err(ActionResult::TypeUnmatched);
        }
        if self.lose == Some(block.number) {
            self.lose = None;
            return Ok(());
        }
        place.copy_from_slice(block.value);
        *arrived = true;
        Ok(())
    }

    /// As with real meters it takes a while: the first answer is a temporary failure.
    pub(super) fn verify(&mut self) -> Result<(), ActionResult> {
        if self.whole().is_none() {
            self.status = self.status.map(|_| TransferStatus::VerificationFailed);
            return Err(ActionResult::OtherReason);
        }
        if !self.asked {
            self.asked = true;
            self.status = Some(TransferStatus::VerificationInitiated);
            return Err(ActionResult::TemporaryFailure);
        }
        self.status = Some(TransferStatus::VerificationSuccessful);
        Ok(())
    }

    /// Makes the image the firmware.
    pub(super) fn activate(&mut self) -> Result<(), ActionResult> {
        if self.status() != TransferStatus::VerificationSuccessful {
            return Err(ActionResult::OtherReason);
        }
        self.status = Some(TransferStatus::ActivationSuccessful);
        Ok(())
    }
}
