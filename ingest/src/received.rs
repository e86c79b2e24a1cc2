//! A frame on its way in, and the answer that lets it be acknowledged.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use codec::apdu::LongInvokeId;
use codec::security::Authentic;
use model::{Instant, MeterId, Position, QuarantineReason, Source, SystemTitle};
use tokio::sync::oneshot;

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The way it came.
    pub source: Source,
    /// When it was whole.
    pub received_at: Instant,
    /// What stands around the APDU in `bytes`.
    pub framing: Framing,
    /// The frame's bytes, header included; of a push that came in several frames, all of them one behind the other.
    pub bytes: Bytes,
    /// The meter that the connection or topic belongs to, where that is bound to one by its credentials.
    pub identity: Option<SystemTitle>,
}

/// A push that a session opened under the key of its association, which proves whose it is.
#[derive(Debug)]
pub(crate) struct OpenedPush {
    /// The way it came.
    pub(crate) source: Source,
    /// When it was whole.
    pub(crate) received_at: Instant,
    /// The meter that the association is with.
    pub(crate) title: SystemTitle,
    /// The APDU.
    pub(crate) apdu: Authentic<Vec<u8>>,
}

/// What stands around an APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The 8-byte header of IEC 62056-47.
    Wrapper,
    /// Frames of IEC 62056-46.
    Hdlc,
    /// Long frames of M-Bus (EN 13757).
    Mbus,
    /// Nothing.
    Apdu,
}

impl Framing {
    /// The framing of a frame that was stored as received: a wrapper begins with a zero, HDLC with its flag, M-Bus with
    /// its start, no APDU with any of them.
    pub(crate) fn of_stored(bytes: &[u8]) -> Framing {
        match bytes.first() {
            Some(0) => Framing::Wrapper,
            Some(&codec::hdlc::FLAG) => Framing::Hdlc,
            Some(&codec::mbus::START) => Framing::Mbus,
            _ => Framing::Apdu,
        }
    }

    /// The framing of a datagram or a publish that should have this one: where a wrapper is due, and the first byte is that
    /// of HDLC or of M-Bus, that.
    #[must_use]
    pub(crate) fn of_publish(self, bytes: &[u8]) -> Framing {
        match (self, bytes.first()) {
            (Framing::Wrapper, Some(&codec::hdlc::FLAG)) => Framing::Hdlc,
            (Framing::Wrapper, Some(&codec::mbus::START)) => Framing::Mbus,
            (configured, _) => configured,
        }
    }
}

/// Why a frame was not taken. It is not to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue before the journal is full. Counted.
    #[error("the queue before the journal is full")]
    Full,
    /// The pipeline takes nothing any more.
    #[error("the pipeline has stopped")]
    Stopped,
}

/// A frame that was taken but is not durable yet. Awaited, it says what may be acknowledged; dropped, the frame goes
/// its way all the same.
#[derive(Debug)]
pub struct Ticket(Tickets);

impl From<Tickets> for Ticket {
    /// Of the only frame.
    fn from(tickets: Tickets) -> Ticket {
        Ticket(tickets)
    }
}

impl Ticket {
    /// Whether the frame proved what its meter's policy asks for. One that did not has no effect, and may be kept as
    /// evidence or refused.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.meter().is_some()
    }

    /// The meter that it proved, under that meter's policy.
    pub(crate) fn meter(&self) -> Option<MeterId> {
        self.0.proven.first().copied().flatten()
    }
}

impl Future for Ticket {
    type Output = Result<Acked, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|acked| acked?.pop().ok_or(Lost))
    }
}

/// Frames that were taken together but are not all durable yet. Awaited, it says of each what may be acknowledged.
#[derive(Debug)]
pub(crate) struct Tickets {
    pub(crate) answer: oneshot::Receiver<Vec<Acked>>,
    /// The meter that each proved, under that meter's policy.
    pub(crate) proven: Vec<Option<MeterId>>,
}

impl Future for Tickets {
    type Output = Result<Vec<Acked>, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.map_err(|_| Lost))
    }
}

/// The pipeline stopped before the frame was durable: it must not be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline stopped before the frame was durable")]
pub struct Lost;

/// What became of a frame; everything it says is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its record; none for a redelivery or what was refused, which have no record of their own.
    pub position: Option<Position>,
    /// What it was found to be.
    pub disposition: Disposition,
    /// The invoke id of a push that asks for a data-notification-confirm and is to have one.
    pub confirm: Option<LongInvokeId>,
}

/// What a frame was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Taken in; what its readings are worth the fold decides.
    Accepted,
    /// Another copy of a frame taken in before, told by its bytes.
    Redelivered,
    /// Its counter was used before with the same values.
    Repeated,
    /// Kept as evidence, without effect.
    Quarantined(QuarantineReason),
    /// Evidence beyond the bounds of [`EvidenceOptions`](crate::EvidenceOptions): counted, not kept.
    Refused(QuarantineReason),
}
