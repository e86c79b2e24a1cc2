//! What can go wrong in a fleet itself; what goes wrong on the way to the head-end is retried.

use std::path::PathBuf;

/// A fleet that cannot be made or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The truth file belongs to another fleet.
    #[error("{path} is the truth of another fleet: its first line is not {expected}")]
    OtherTruth {
        /// The file.
        path: PathBuf,
        /// The first line it must have.
        expected: String,
    },
    /// A meter's profile is not among the built-in ones.
    #[error("no profile named {0:?}")]
    UnknownProfile(String),
    /// A profile says nothing of a push that the fleet makes.
    #[error("profile {profile:?} has no push of kind {kind}")]
    UnknownPush {
        /// The profile.
        profile: String,
        /// The kind of push.
        kind: String,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// A meter cannot listen.
    #[error("no meter can listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The sender of a connection ended in a way it must not.
    #[error("a sender of pushes panicked")]
    SenderPanicked,
}
