//! Requests that come in blocks of a general transfer, and their answers, which go as they came.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Association, MAX_LONG_VALUE, Objects, Outcome, ServerSession, malformed, not_allowed, not_supported,
    other_reason, too_long,
};
use crate::apdu::acse::{AARQ, RLRQ};
use crate::apdu::block_transfer::GeneralBlockTransfer;
use crate::apdu::initiate::Conformance;
use crate::apdu::{self, Apdu, ExceptionResponse, GENERAL_BLOCK_TRANSFER};
use crate::security::CryptoProvider;
use crate::session::blocks::{Exchange, Step};

/// Blocks that are taken at once.
const TAKES: u8 = 8;
/// Longest request in blocks, as it comes.
const MAX_REQUEST: usize = MAX_LONG_VALUE + 1024;

impl<P: CryptoProvider> ServerSession<P> {
    pub(super) fn block(
        &mut self,
        client: u16,
        bytes: &[u8],
        now: Duration,
        meter: &mut impl Objects,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ExceptionResponse> {
        let block = match apdu::parse(bytes).map_err(|error| malformed(&error))? {
            Apdu::GeneralBlockTransfer(block) => block,
            _ => return Err(not_supported()),
        };
        let association = self.find(client)?;
        association.needs(Conformance::GENERAL_BLOCK_TRANSFER)?;
        association.used = now;
        let (exchange, step) = association.took(&block)?;
        let request = (step == Step::Whole).then(|| exchange.heard().unwrap_or_default().to_vec());
        let outcome = match request {
            Some(request)
                if [AARQ, RLRQ, GENERAL_BLOCK_TRANSFER].iter().any(|tag| request.first() == Some(tag)) =>
            {
                return Err(not_allowed());
            }
            Some(request) => {
                let mut answer = Vec::new();
                self.find(client)?.in_blocks = true;
                let served = self.serve(client, &request, now, meter, &mut answer);
                // It may be over with it.
                let association = self.find(client)?;
                association.in_blocks = false;
                let outcome = served?;
                if answer.is_empty() {
                    return Ok(outcome);
                }
                let max_pdu = association.caller.client_pdu;
                let exchange = association.exchange.as_mut().ok_or(other_reason())?;
                if !exchange.say(answer, max_pdu, block.control().window()) {
                    return Err(too_long());
                }
                outcome
            }
            None if step == Step::Wait => return Ok(Outcome::Served),
            None => Outcome::Served,
        };
        let exchange = self.find(client)?.exchange.as_mut().ok_or(other_reason())?;
        self.more = exchange.turn().into();
        out.extend(self.more.pop_front().unwrap_or_default());
        Ok(outcome)
    }
}

impl Association {
    /// Takes a block of the request that is under way, or the first of the next; a copy of what was answered already is
    /// not another request.
    fn took(&mut self, block: &GeneralBlockTransfer<'_>) -> Result<(&Exchange, Step), ExceptionResponse> {
        let known = self.exchange.as_mut().and_then(|exchange| exchange.take(block).ok());
        let (step, exchange) = match known {
            Some(step) => (step, None),
            None => {
                let mut next = Exchange::new(TAKES, MAX_REQUEST);
                let step = next.take(block).map_err(|_| other_reason())?;
                (step, Some(next))
            }
        };
        if exchange.is_some() {
            self.exchange = exchange;
        }
        Ok((self.exchange.as_ref().ok_or(other_reason())?, step))
    }
}
