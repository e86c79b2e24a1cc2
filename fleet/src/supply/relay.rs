//! The relay: what each control mode lets happen to it, and the button.

use codec::apdu::ActionResult;
use codec::cosem::disconnect_control::{ControlMode, ControlState, Transition, next};
use model::Instant;

use super::{Cause, Move};

/// What a relay does when it is told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// It moves.
    #[default]
    Works,
    /// It says that it cannot now.
    Fails,
    /// It says that it did, and nothing moves.
    Stuck,
}

/// A relay, as it stands.
#[derive(Debug)]
pub(crate) struct Relay {
    state: ControlState,
    pub(super) mode: ControlMode,
    behaviour: Behaviour,
    button_after_s: Option<i64>,
    ready_since: Option<Instant>,
    /// Whether the meter cut by itself: only then it reconnects by itself.
    cut_itself: bool,
}

impl Relay {
    /// One that is closed.
    pub(crate) fn new(mode: u8, behaviour: Behaviour, button_after_s: Option<i64>) -> Relay {
        let mode = ControlMode::from_code(mode);
        let state = ControlState::Connected;
        Relay { state, mode, behaviour, button_after_s, ready_since: None, cut_itself: false }
    }

    pub(super) fn state(&self) -> ControlState {
        self.state
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == ControlState::Connected
    }

    /// It stands as the last move left it.
    pub(super) fn stand(&mut self, last: &Move) {
        self.state = last.state;
        self.ready_since = (last.state == ControlState::ReadyForReconnection).then_some(last.at);
        self.cut_itself = last.limit_w.is_some();
    }

    /// Where this leads from here; `None` where the mode does not have it, or nothing moves.
    pub(super) fn after(&self, transition: Transition) -> Option<ControlState> {
        next(self.mode, self.state, transition).filter(|_| self.behaviour == Behaviour::Works)
    }

    /// When it is closed again without the head-end's doing: by whoever presses the button, or by the meter itself,
    /// where the load has been under the limit for so long.
    pub(super) fn closes_at(&self, under_s: Option<i64>) -> Option<(Instant, Cause)> {
        let since = self.ready_since?;
        let at = |after_s: Option<i64>, transition, cause| {
            self.after(transition)?;
            Some((since.plus_seconds(after_s?), cause))
        };
        let button = at(self.button_after_s, Transition::ManualReconnect, Cause::Button);
        let itself = at(under_s.filter(|_| self.cut_itself), Transition::LocalReconnect, Cause::Meter);
        button.into_iter().chain(itself).min_by_key(|(at, _)| *at)
    }

    /// Where what the head-end asks for leads; `None` where nothing moves, which is no fault if it is so already.
    pub(super) fn asked(&self, transition: Transition) -> Result<Option<ControlState>, ActionResult> {
        if self.behaviour == Behaviour::Fails {
            return Err(ActionResult::TemporaryFailure);
        }
        if matches!(self.mode, ControlMode::None | ControlMode::Other(_)) {
            return Err(ActionResult::ReadWriteDenied);
        }
        Ok(self.after(transition))
    }
}
