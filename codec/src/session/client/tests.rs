//! Sessions against a meter of scripted answers.
