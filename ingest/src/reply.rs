//! The receipt of a confirmed push.

use codec::apdu::{self, LongInvokeId};
use codec::hdlc::{self, Address, Control, LLC_REQUEST};
use codec::mbus;
use codec::wrapper::{Wrapper, WrapperRepr};

/// Where the receipt of a frame goes, and how it is framed: as the frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnPath {
    /// To the port that a frame in the wrapper came from.
    Wrapper(WrapperRepr),
    /// To the station that a frame of HDLC came from.
    Hdlc {
        /// Of the frame: us.
        destination: Address,
        /// Of the frame: the meter.
        source: Address,
    },
    /// To the access point that a long frame of M-Bus came from.
    Mbus(mbus::FrameRepr),
}

impl ReturnPath {
    /// The way back of a frame, or of the first of several.
    pub(crate) fn of(frame: &[u8]) -> Option<ReturnPath> {
        if frame.first() == Some(&hdlc::FLAG) {
            let frame = hdlc::Frame::new_checked(frame).ok()?;
            return Some(ReturnPath::Hdlc { destination: frame.destination(), source: frame.source() });
        }
        if frame.first() == Some(&mbus::START) {
            return mbus::Frame::new_checked(frame).ok().map(|frame| ReturnPath::Mbus(frame.head()));
        }
        Wrapper::new_checked(frame).ok().map(|frame| ReturnPath::Wrapper(WrapperRepr::parse(&frame)))
    }

    /// Appends the data-notification-confirm of a push that came this way.
    pub(crate) fn write_confirm(self, invoke_id: LongInvokeId, out: &mut Vec<u8>) {
        let mut confirm = Vec::new();
        match self {
            ReturnPath::Wrapper(WrapperRepr { source, destination }) => {
                apdu::emit_data_notification_confirm(invoke_id, &mut confirm);
                WrapperRepr { source: destination, destination: source }.emit(&confirm, out);
            }
            ReturnPath::Hdlc { destination, source } => {
                confirm.extend_from_slice(&LLC_REQUEST);
                apdu::emit_data_notification_confirm(invoke_id, &mut confirm);
                let control = Control::UnnumberedInformation { poll: false };
                let (destination, source) = (source, destination);
                hdlc::FrameRepr { segmented: false, destination, source, control }.emit(&confirm, out);
            }
            ReturnPath::Mbus(head) => {
                apdu::emit_data_notification_confirm(invoke_id, &mut confirm);
                let (destination, source) = (head.source, head.destination);
                mbus::FrameRepr { number: 0, last: true, destination, source, ..head }.emit(&confirm, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framed::{LONG_FRAME, in_hdlc_from, in_mbus};

    #[test]
    fn a_receipt_goes_back_to_where_the_push_came_from() {
        let ports = WrapperRepr { source: 1, destination: 64 };
        let mut push = Vec::new();
        ports.emit(&[0x0f], &mut push);
        let mut receipt = Vec::new();
        ReturnPath::of(&push).unwrap().write_confirm(LongInvokeId(0x4000_0007), &mut receipt);
        assert_eq!(receipt, [0, 1, 0, 64, 0, 1, 0, 6, 0x10, 0x40, 0, 0, 7, 0]);
    }

    #[test]
    fn a_receipt_of_a_push_in_hdlc_goes_back_in_hdlc() {
        let push = in_hdlc_from(Address::two(1, 17), &[0x0f; 300]);
        let mut receipt = Vec::new();
        ReturnPath::of(&push).unwrap().write_confirm(LongInvokeId(0x4000_0007), &mut receipt);
        let frame = hdlc::Frame::new_checked(&receipt).unwrap();
        assert_eq!((frame.destination(), frame.source()), (Address::two(1, 17), Address::PUBLIC_CLIENT));
        assert_eq!(frame.information(), [0xe6, 0xe6, 0, 0x10, 0x40, 0, 0, 7, 0]);
    }

    #[test]
    fn a_receipt_of_a_push_in_long_frames_goes_back_in_one() {
        let push = in_mbus(&[0x0f; 300]);
        let mut receipt = Vec::new();
        ReturnPath::of(&push).unwrap().write_confirm(LongInvokeId(0x4000_0007), &mut receipt);
        let frame = mbus::Frame::new_checked(&receipt).unwrap();
        assert_eq!(frame.head(), mbus::FrameRepr { source: 103, destination: 1, last: true, ..LONG_FRAME });
        assert_eq!(frame.data(), [0x10, 0x40, 0, 0, 7, 0]);
    }
}
