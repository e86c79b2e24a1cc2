//! Class 70, Disconnect Control: the relay, and what each control mode lets happen to it.
//!
//! The table of [`next`] is the Blue Book's as it is generally told, not read in the book itself: unconfirmed. India
//! writes mode 4 to switch the function of the load limit on and mode 0 to switch it off (dlms.md 6.8); whether a
//! meter in mode 0 still obeys a remote disconnect is the meter's affair, and by this table it does not.

use super::{LogicalName, NoData};

class! {
    70
    attributes AttributeValue {
        /// The name of the object; 0.0.96.3.10.255 in India.
        1 LogicalName logical_name: LogicalName,
        /// Whether the premises are supplied: the position of the contacts.
        2 OutputState output_state: bool,
        /// What the logic of the meter has come to.
        3 ControlState control_state: ControlState,
        /// Which transitions there are.
        4 ControlMode control_mode: ControlMode,
    }
    methods {
        /// Cuts.
        1 RemoteDisconnect remote_disconnect: NoData,
        /// Reconnects, or lets the consumer reconnect.
        2 RemoteReconnect remote_reconnect: NoData,
    }
    calls Call
}

codes! {
    /// What the logic of the meter has come to.
    pub enum ControlState {
        /// Cut.
        Disconnected = 0,
        /// Supplied.
        Connected = 1,
        /// Cut; the consumer, or the meter itself, may reconnect.
        ReadyForReconnection = 2,
    }

    /// Which transitions there are; see [`next`].
    pub enum ControlMode {
        /// None: always connected.
        None = 0,
        /// Cut by all; reconnected remotely in two steps.
        Mode1 = 1,
        /// Cut by all; reconnected remotely in one step.
        Mode2 = 2,
        /// As 1, but never cut by hand.
        Mode3 = 3,
        /// As 2, but never cut by hand.
        Mode4 = 4,
        /// As 1, and reconnected by the meter itself.
        Mode5 = 5,
        /// As 3, and reconnected by the meter itself.
        Mode6 = 6,
    }
}

/// What can happen to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The head-end calls method 1.
    RemoteDisconnect,
    /// The head-end calls method 2.
    RemoteReconnect,
    /// Someone presses the button to cut.
    ManualDisconnect,
    /// Someone presses the button to reconnect.
    ManualReconnect,
    /// The meter cuts: a limit was passed, or the credit is spent.
    LocalDisconnect,
    /// The meter reconnects: the limit holds again.
    LocalReconnect,
}

impl Transition {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RemoteDisconnect,
        Self::RemoteReconnect,
        Self::ManualDisconnect,
        Self::ManualReconnect,
        Self::LocalDisconnect,
        Self::LocalReconnect,
    ];
}

/// Whether `transition` is one of `mode` from `state`.
#[must_use]
pub const fn allowed(mode: ControlMode, state: ControlState, transition: Transition) -> bool {
    next(mode, state, transition).is_some()
}

/// The state that `transition` leads to; `None` where the mode has no such transition from `state`.
///
/// | | from | to | modes |
/// |---|---|---|---|
/// | a | disconnected | connected, remotely | 2, 4 |
/// | b | connected | disconnected, remotely | 1 to 6 |
/// | c | ready | disconnected, remotely | 1 to 6 |
/// | d | disconnected | ready, remotely | 1, 3, 5, 6 |
/// | e | ready | connected, by hand | 1 to 6 |
/// | f | connected | ready, by hand | 1, 2, 5 |
/// | g | connected | ready, by the meter | 1 to 6 |
/// | h | ready | connected, by the meter | 5, 6 |
#[must_use]
pub const fn next(mode: ControlMode, state: ControlState, transition: Transition) -> Option<ControlState> {
    use ControlMode as M;
    use ControlState as S;
    use Transition as T;
    if matches!(mode, M::None | M::Other(_)) {
        return None;
    }
    match (transition, state) {
        (T::RemoteReconnect, S::Disconnected) => match mode {
            M::Mode2 | M::Mode4 => Some(S::Connected),
            _ => Some(S::ReadyForReconnection),
        },
        (T::RemoteDisconnect, S::Connected | S::ReadyForReconnection) => Some(S::Disconnected),
        (T::ManualReconnect, S::ReadyForReconnection) => Some(S::Connected),
        (T::ManualDisconnect, S::Connected) if matches!(mode, M::Mode1 | M::Mode2 | M::Mode5) => {
            Some(S::ReadyForReconnection)
        }
        (T::LocalDisconnect, S::Connected) => Some(S::ReadyForReconnection),
        (T::LocalReconnect, S::ReadyForReconnection) if matches!(mode, M::Mode5 | M::Mode6) => {
            Some(S::Connected)
        }
        _ => None,
    }
}
