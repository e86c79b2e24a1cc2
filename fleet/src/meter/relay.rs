//! The relay: what each control mode lets happen to it, and the button.

use codec::apdu::ActionResult;
use codec::cosem::disconnect_control::{ControlMode, ControlState, Transition, next};
use model::Instant;

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

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) state: ControlState,
    pub(super) mode: ControlMode,
    behaviour: Behaviour,
    button_after_s: Option<i64>,
    ready_since: Option<Instant>,
}

impl Relay {
    pub(super) fn new(mode: u8, behaviour: Behaviour, button_after_s: Option<i64>) -> Relay {
        let mode = ControlMode::from_code(mode);
        Relay { state: ControlState::Connected, mode, behaviour, button_after_s, ready_since: None }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == ControlState::Connected
    }

    /// Somebody may have pressed the button meanwhile: when.
    pub(super) fn pass(&mut self, now: Instant) -> Option<Instant> {
        let pressed = self.ready_since?.plus_seconds(self.button_after_s?);
        if now < pressed {
            return None;
        }
        self.state = next(self.mode, self.state, Transition::ManualReconnect)?;
        self.ready_since = None;
        Some(pressed)
    }

    /// Does what the head-end asks; says whether the contacts moved.
    pub(super) fn switch(&mut self, transition: Transition, now: Instant) -> Result<bool, ActionResult> {
        if self.behaviour == Behaviour::Fails {
            return Err(ActionResult::TemporaryFailure);
        }
        if matches!(self.mode, ControlMode::None | ControlMode::Other(_)) {
            return Err(ActionResult::ReadWriteDenied);
        }
        let was = self.is_connected();
        // What is already so is no fault.
        if let Some(state) =
            next(self.mode, self.state, transition).filter(|_| self.behaviour == Behaviour::Works)
        {
            self.state = state;
            self.ready_since = (state == ControlState::ReadyForReconnection).then_some(now);
        }
        Ok(was != self.is_connected())
    }
}
