//! Where "now" comes from.

use model::Instant;

/// The wall clock of the head-end: the machine's, or one that is driven.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Instant;

    /// Whether it goes by requests and not by itself.
    fn is_driven(&self) -> bool {
        false
    }
}
