//! The one binary: all wiring, commands, health, metrics and the admin socket
