//! The receipt of a confirmed push.

use codec::apdu::{self, LongInvokeId};
use codec::wrapper::{Wrapper, WrapperRepr};

/// Ports of the sender and the receiver of a frame, which its receipt swaps.
pub(crate) fn ports_of(frame: &[u8]) -> Option<WrapperRepr> {
    Wrapper::new_checked(frame).ok().map(|frame| WrapperRepr::parse(&frame))
}

/// Appends the data-notification-confirm of a push that came between these ports.
pub(crate) fn write_confirm(invoke_id: LongInvokeId, ports: WrapperRepr, out: &mut Vec<u8>) {
    let mut confirm = Vec::new();
    apdu::emit_data_notification_confirm(invoke_id, &mut confirm);
    WrapperRepr { source: ports.destination, destination: ports.source }.emit(&confirm, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_goes_back_to_where_the_push_came_from() {
        let ports = WrapperRepr { source: 1, destination: 64 };
        let mut push = Vec::new();
        ports.emit(&[0x0f], &mut push);
        let mut receipt = Vec::new();
        write_confirm(LongInvokeId(0x4000_0007), ports_of(&push).unwrap(), &mut receipt);
        assert_eq!(receipt, [0, 1, 0, 64, 0, 1, 0, 6, 0x10, 0x40, 0, 0, 7, 0]);
    }
}
