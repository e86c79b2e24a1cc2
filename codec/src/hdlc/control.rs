//! The control field: what kind a frame is, and its sequence numbers.

use core::fmt;

/// The poll bit of a client, the final bit of a server.
const POLL: u8 = 0x10;

/// A control field. `poll` is the poll bit of a client's frame and the final bit of a server's: the other side
/// may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// I: information, numbered.
    Information {
        /// N(S), the number of this frame modulo 8.
        send: u8,
        /// N(R), the number expected next from the other side.
        receive: u8,
        /// The other side may send.
        poll: bool,
    },
    /// RR: ready for more.
    ReceiveReady {
        /// N(R), the number expected next from the other side.
        receive: u8,
        /// The other side may send.
        poll: bool,
    },
    /// RNR: not ready.
    ReceiveNotReady {
        /// N(R), the number expected next from the other side.
        receive: u8,
        /// The other side may send.
        poll: bool,
    },
    /// SNRM: a client asks for a link.
    SetNormalResponseMode {
        /// The other side may send.
        poll: bool,
    },
    /// UA: a server agrees.
    UnnumberedAcknowledge {
        /// The other side may send.
        poll: bool,
    },
    /// DISC: a client ends the link.
    Disconnect {
        /// The other side may send.
        poll: bool,
    },
    /// DM: a server says that there is no link.
    DisconnectedMode {
        /// The other side may send.
        poll: bool,
    },
    /// FRMR: a frame that cannot be set right by sending it again.
    FrameReject {
        /// The other side may send.
        poll: bool,
    },
    /// UI: information without a number, outside of any link; a push.
    UnnumberedInformation {
        /// The other side may send.
        poll: bool,
    },
}

impl Control {
    /// What a byte says, or nothing where no kind of frame has it.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        let poll = byte & POLL != 0;
        let receive = byte >> 5;
        if byte & 1 == 0 {
            return Some(Self::Information { send: (byte >> 1) & 7, receive, poll });
        }
        match byte & 0x0f {
            0x01 => return Some(Self::ReceiveReady { receive, poll }),
            0x05 => return Some(Self::ReceiveNotReady { receive, poll }),
            _ => {}
        }
        match byte & !POLL {
            0x83 => Some(Self::SetNormalResponseMode { poll }),
            0x63 => Some(Self::UnnumberedAcknowledge { poll }),
            0x43 => Some(Self::Disconnect { poll }),
            0x0f => Some(Self::DisconnectedMode { poll }),
            0x87 => Some(Self::FrameReject { poll }),
            0x03 => Some(Self::UnnumberedInformation { poll }),
            _ => None,
        }
    }

    /// The byte on the line; of the sequence numbers the low 3 bits count.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        let (base, poll) = match self {
            Self::Information { send, receive, poll } => ((receive & 7) << 5 | (send & 7) << 1, poll),
            Self::ReceiveReady { receive, poll } => ((receive & 7) << 5 | 0x01, poll),
            Self::ReceiveNotReady { receive, poll } => ((receive & 7) << 5 | 0x05, poll),
            Self::SetNormalResponseMode { poll } => (0x83, poll),
            Self::UnnumberedAcknowledge { poll } => (0x63, poll),
            Self::Disconnect { poll } => (0x43, poll),
            Self::DisconnectedMode { poll } => (0x0f, poll),
            Self::FrameReject { poll } => (0x87, poll),
            Self::UnnumberedInformation { poll } => (0x03, poll),
        };
        if poll { base | POLL } else { base }
    }

    /// The short name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Information { .. } => "I",
            Self::ReceiveReady { .. } => "RR",
            Self::ReceiveNotReady { .. } => "RNR",
            Self::SetNormalResponseMode { .. } => "SNRM",
            Self::UnnumberedAcknowledge { .. } => "UA",
            Self::Disconnect { .. } => "DISC",
            Self::DisconnectedMode { .. } => "DM",
            Self::FrameReject { .. } => "FRMR",
            Self::UnnumberedInformation { .. } => "UI",
        }
    }

    /// The other side may send.
    #[must_use]
    pub const fn poll(self) -> bool {
        self.to_byte() & POLL != 0
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Information { send, receive, .. } => write!(f, " send {send} receive {receive}")?,
            Self::ReceiveReady { receive, .. } | Self::ReceiveNotReady { receive, .. } => {
                write!(f, " receive {receive}")?;
            }
            _ => {}
        }
        if self.poll() { f.write_str(" poll") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_byte_that_is_a_control_field_is_written_as_it_is_read() {
        let known = (0..=0xff).filter_map(|byte| Control::from_byte(byte).map(|control| (byte, control)));
        let known: std::vec::Vec<_> = known.collect();
        assert!(known.iter().all(|(byte, control)| control.to_byte() == *byte));
        // 128 of I, 16 each of RR and RNR, 2 each of six unnumbered kinds.
        assert_eq!(known.len(), 128 + 32 + 12);
    }

    #[test]
    fn the_bytes_seen_on_lines_have_their_names() {
        for (byte, text) in [
            (0x93, "SNRM poll"),
            (0x73, "UA poll"),
            (0x53, "DISC poll"),
            (0x1f, "DM poll"),
            (0x97, "FRMR poll"),
            (0x13, "UI poll"),
            (0x03, "UI"),
            (0x10, "I send 0 receive 0 poll"),
            (0x54, "I send 2 receive 2 poll"),
            (0x51, "RR receive 2 poll"),
            (0x35, "RNR receive 1 poll"),
        ] {
            assert_eq!(Control::from_byte(byte).unwrap().to_string(), text);
        }
    }
}
