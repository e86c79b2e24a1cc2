//! One APDU in each framing, as the tests of framing, parts and receipts have it.

use codec::hdlc::{self, Address};
use codec::mbus;
use codec::wrapper::WrapperRepr;

/// Between the ports of a meter and of its client.
pub(crate) const PORTS: WrapperRepr = WrapperRepr { source: 1, destination: 48 };
/// Head of the long frames of a meter.
pub(crate) const LONG_FRAME: mbus::FrameRepr =
    mbus::FrameRepr { control: 0x53, address: 0xff, number: 0, last: false, source: 1, destination: 103 };
/// Longest information of a segment.
const SEGMENT: u16 = 128;

/// In the wrapper.
pub(crate) fn in_wrapper(apdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PORTS.emit(apdu, &mut out);
    out
}

/// In segments of HDLC, from this station.
pub(crate) fn in_hdlc_from(source: Address, apdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    hdlc::emit_push(Address::PUBLIC_CLIENT, source, apdu, SEGMENT, &mut out);
    out
}

/// In segments of HDLC.
pub(crate) fn in_hdlc(apdu: &[u8]) -> Vec<u8> {
    in_hdlc_from(Address::MANAGEMENT, apdu)
}

/// In long frames of M-Bus.
pub(crate) fn in_mbus(apdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(mbus::emit_push(LONG_FRAME, apdu, &mut out));
    out
}
