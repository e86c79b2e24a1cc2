//! Checkpoint files: the whole state at one position
