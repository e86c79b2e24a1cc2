//! Where "now" comes from: the machine's clock, or one that is driven by requests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use model::Instant;

use crate::config::ClockSource;

/// A clock that can be driven, and let go.
#[derive(Debug)]
pub struct Clock {
    /// Microseconds of the driven time; [`FREE`] while the machine's clock holds.
    driven: AtomicI64,
}

const FREE: i64 = i64::MIN;

/// A request to set a clock back, or one that is not driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The configuration says `system`.
    #[error("the clock is not driven (key time.clock); it cannot be set")]
    NotDriven,
    /// Driven time only moves forward.
    #[error("driven time stands at {0} and does not move back")]
    Backwards(Instant),
}

impl Clock {
    /// The clock of that source; driven time stands at 1970 until it is set.
    #[must_use]
    pub fn new(source: ClockSource) -> Clock {
        let start = match source {
            ClockSource::System => FREE,
            ClockSource::Driven => 0,
        };
        Clock { driven: AtomicI64::new(start) }
    }

    /// Moves driven time to `now`.
    ///
    /// # Errors
    /// When the clock is not driven, or stands later already.
    pub fn drive(&self, now: Instant) -> Result<(), ClockError> {
        let before = self.driven.load(Ordering::Acquire);
        if before == FREE {
            return Err(ClockError::NotDriven);
        }
        if now.0 < before {
            return Err(ClockError::Backwards(Instant(before)));
        }
        self.driven.store(now.0, Ordering::Release);
        Ok(())
    }

    /// From here on the machine's clock holds: the demo goes live.
    #[cfg(any(feature = "query", test))]
    pub fn release(&self) {
        self.driven.store(FREE, Ordering::Release);
    }

    /// Whether time is driven.
    #[must_use]
    pub fn is_driven(&self) -> bool {
        self.driven.load(Ordering::Acquire) != FREE
    }
}

impl ingest::Clock for Clock {
    fn now(&self) -> Instant {
        match self.driven.load(Ordering::Acquire) {
            FREE => system_now(),
            micros => Instant(micros),
        }
    }

    fn is_driven(&self) -> bool {
        Clock::is_driven(self)
    }
}

/// The machine's clock; the only place that reads it for data.
#[must_use]
pub fn system_now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use ingest::Clock as _;

    use super::*;

    #[test]
    fn driven_time_moves_forward_only_and_can_be_let_go() {
        let clock = Clock::new(ClockSource::Driven);
        clock.drive(Instant(50)).unwrap();
        assert_eq!(clock.now(), Instant(50));
        assert_eq!(clock.drive(Instant(49)), Err(ClockError::Backwards(Instant(50))));
        clock.release();
        assert!(clock.now() > Instant(50));
        assert_eq!(clock.drive(Instant(60)), Err(ClockError::NotDriven));
    }
}
