//! Where frames come from, and how many of them.

use std::fmt;

/// The way on which a frame reached the head-end. Conservation is kept for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// DLMS wrapper over TCP.
    Tcp = 0,
    /// DLMS wrapper over UDP.
    Udp = 1,
    /// MQTT publish.
    Mqtt = 2,
    /// Taken in after waiting for the meter's registration.
    Waiting = 3,
}

impl Source {
    /// All of them, by index.
    pub const ALL: [Source; 4] = [Source::Tcp, Source::Udp, Source::Mqtt, Source::Waiting];

    /// Place in arrays kept by source.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The source at that place.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Source> {
        Source::ALL.get(usize::from(index)).copied()
    }

    /// The word used in SQL, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Tcp => "tcp",
            Source::Udp => "udp",
            Source::Mqtt => "mqtt",
            Source::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Frames of one source in one journal group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// All frames that were received whole.
    pub received: u64,
    /// Of these, copies of a frame already taken in, told by digest before the journal; they have no record.
    pub redelivered: u64,
    /// Of these, frames turned away at a bound, with a reason to the sender; they have no record.
    pub refused: u64,
}
