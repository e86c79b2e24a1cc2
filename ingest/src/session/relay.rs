//! The relay of a meter (class 70): how it stands, what moves it, and what the meter's own log says of that.

use codec::apdu::{AttributeDescriptor, MethodDescriptor, SelectedAttribute, SelectiveAccess};
use codec::axdr::{Data, DateTime, Value};
use codec::cosem::disconnect_control::{self, ControlState};
use codec::cosem::india::control::RELAY;
use codec::cosem::india::events::EventLog;
use codec::cosem::profile_generic::{self, Buffer, EntryDescriptor, Selection, SortMethod};
use codec::cosem::{ClassId, LogicalName};
use codec::session::client::Error;

use model::{Calendar, Instant};

use super::{MeterSession, SessionError};
use crate::normalize::instant_of;

/// What is asked of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayMove {
    /// Opens it (method 1).
    Disconnect,
    /// Closes it, or lets the consumer close it (method 2).
    Connect,
}

impl RelayMove {
    const fn method(self) -> i8 {
        match self {
            RelayMove::Disconnect => 1,
            RelayMove::Connect => 2,
        }
    }

    /// Whether a relay that stands so has done what was asked, as far as it does by itself.
    #[must_use]
    pub fn is_done(self, state: RelayState) -> bool {
        match self {
            RelayMove::Disconnect => !state.supplied,
            RelayMove::Connect => state.is_ready() || state.control == ControlState::Connected,
        }
    }

    /// The code that Indian meters log it with.
    const fn code(self) -> i64 {
        match self {
            RelayMove::Disconnect => 301,
            RelayMove::Connect => 302,
        }
    }
}

/// How a relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayState {
    /// Position of its contacts (attribute 2).
    pub supplied: bool,
    /// What the meter's logic has come to (attribute 3).
    pub control: ControlState,
}

impl RelayState {
    /// Whether the consumer must press the button on the meter.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.control == ControlState::ReadyForReconnection
    }

    /// Whether the premises have their supply: by the contacts and by the logic.
    #[must_use]
    pub fn is_restored(self) -> bool {
        self.supplied && self.control == ControlState::Connected
    }

    /// The word used in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.control {
            ControlState::Disconnected => "disconnected",
            ControlState::Connected => "connected",
            ControlState::ReadyForReconnection => "ready",
            ControlState::Other(_) => "unknown",
        }
    }

    /// The same for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self.control {
            ControlState::Disconnected => "cut",
            ControlState::Connected => "supplied",
            ControlState::ReadyForReconnection => {
                "ready for reconnection: the consumer must press the button on the meter"
            }
            ControlState::Other(_) => "in a state that no standard has",
        }
    }
}

impl MeterSession {
    /// How the relay stands.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn relay(&mut self) -> Result<RelayState, SessionError> {
        let supplied = self.get(relay_attribute(2)).await?;
        let control = self.get(relay_attribute(3)).await?;
        let supplied = disconnect_control::output_state(supplied.data().value()).map_err(|_| Error::Kind)?;
        let control = disconnect_control::control_state(control.data().value()).map_err(|_| Error::Kind)?;
        Ok(RelayState { supplied, control })
    }

    /// Asks for a move of the relay. What came of it is to be read back.
    ///
    /// # Errors
    /// [`SessionError`]; its [`effect`](SessionError::effect) says whether it may have moved all the same.
    pub async fn move_relay(&mut self, what: RelayMove) -> Result<(), SessionError> {
        let method =
            MethodDescriptor { class: disconnect_control::CLASS, instance: RELAY, method: what.method() };
        // integer 0, as India writes it.
        self.action(method, Data::new(&[0x0f, 0]).ok()).await
    }

    /// When the relay last made that move, by the meter's log of control events; `None` where the newest entry is of
    /// something else, or the meter shows no such log.
    ///
    /// # Errors
    /// [`SessionError`] of the line; what the meter does not show is none.
    pub async fn relay_moved(
        &mut self,
        what: RelayMove,
        calendar: &Calendar,
    ) -> Result<Option<Instant>, SessionError> {
        let log = EventLog::Control.log();
        let entries = match self.newest_entries(log, 1).await {
            Ok(Some(entries)) => entries,
            Ok(None) | Err(SessionError::Meter { error: Error::Access(_) | Error::Kind, .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut buffer = Vec::new();
        let mut attribute = profile_attribute(log, 2);
        attribute.access = Some(SelectiveAccess::encode(&Selection::Entry(entries), &mut buffer));
        let Some(rows) = shown(self.get(attribute).await)? else { return Ok(None) };
        let moved = moved_at(rows.data().value(), what);
        Ok(moved.and_then(|time| instant_of(time, self.clock, calendar)))
    }

    /// The numbers of the newest entries of a profile; `None` where there are none. A meter that does not say how it sorts
    /// adds at the end.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn newest_entries(
        &mut self,
        profile: LogicalName,
        count: u32,
    ) -> Result<Option<EntryDescriptor>, SessionError> {
        let sorted = shown(self.get(profile_attribute(profile, 5)).await)?;
        let sorted = sorted.and_then(|sorted| profile_generic::sort_method(sorted.data().value()).ok());
        if sorted == Some(SortMethod::Lifo) {
            return Ok(Some(EntryDescriptor::rows(1, count)));
        }
        let there = self.get(profile_attribute(profile, 7)).await?;
        let there = profile_generic::entries_in_use(there.data().value()).map_err(|_| Error::Kind)?;
        Ok((there > 0).then(|| EntryDescriptor::rows(there.saturating_sub(count) + 1, there)))
    }
}

fn relay_attribute(attribute: i8) -> SelectedAttribute<'static> {
    let class = disconnect_control::CLASS;
    SelectedAttribute::whole(AttributeDescriptor { class, instance: RELAY, attribute })
}

fn profile_attribute(instance: LogicalName, attribute: i8) -> SelectedAttribute<'static> {
    let class: ClassId = profile_generic::CLASS;
    SelectedAttribute::whole(AttributeDescriptor { class, instance, attribute })
}

/// What was read; `None` of what this meter does not show, which ends no session.
///
/// # Errors
/// [`SessionError`] of anything else.
pub fn shown<T>(read: Result<T, SessionError>) -> Result<Option<T>, SessionError> {
    match read {
        Err(SessionError::Meter { error: Error::Access(_), .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// The time in the one row of a log of control events, where its code is that move.
fn moved_at(rows: Value<'_>, what: RelayMove) -> Option<DateTime> {
    let rows = Buffer::of(rows).ok()?;
    let Value::Structure(cells) = rows.raw().iter().last()? else { return None };
    let has_code = cells.iter().any(|cell| match cell {
        Value::U16(code) => i64::from(code) == what.code(),
        Value::U32(code) => i64::from(code) == what.code(),
        _ => false,
    });
    let time = cells.iter().find_map(|cell| match cell {
        Value::OctetString(bytes) => DateTime::from_octets(bytes),
        Value::DateTime(time) => Some(time),
        _ => None,
    });
    time.filter(|_| has_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of a clock and a code.
    fn log(code: u16) -> Vec<u8> {
        let mut bytes = hex::decode("01010202090c07ea0604040c05000000fe0012").unwrap();
        // deviation 330 as it is told, status 0
        bytes.truncate(4 + 14);
        bytes.extend([0x12]);
        bytes.extend(code.to_be_bytes());
        bytes
    }

    #[test]
    fn the_newest_control_event_tells_when_the_relay_made_that_move_and_no_other() {
        let cut = log(301);
        let value = Data::new(&cut).unwrap();
        let at = moved_at(value.value(), RelayMove::Disconnect).unwrap();
        assert_eq!((at.year(), at.month(), at.day(), at.hour()), (Some(2026), Some(6), Some(4), Some(12)));
        assert_eq!(moved_at(value.value(), RelayMove::Connect), None);
        let empty = Data::new(&[0x01, 0x00]).unwrap();
        assert_eq!(moved_at(empty.value(), RelayMove::Connect), None);
    }

    #[test]
    fn a_relay_that_is_ready_has_done_its_part_and_supplies_nobody() {
        let ready = RelayState { supplied: false, control: ControlState::ReadyForReconnection };
        assert!(RelayMove::Connect.is_done(ready) && ready.is_ready() && !ready.is_restored());
        let stuck = RelayState { supplied: false, control: ControlState::Connected };
        assert!(!stuck.is_restored(), "the contacts say otherwise");
    }
}
