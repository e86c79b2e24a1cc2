//! A Python for the peers that are programs in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One that can import `packages`: that of `URJA_BENCH_PYTHON`, or else of `.venv` or of the system.
#[must_use]
pub fn with(packages: &str) -> Option<PathBuf> {
    let of_repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python3"));
    let candidates = match std::env::var_os("URJA_BENCH_PYTHON") {
        Some(named) => vec![named.into()],
        None => vec![of_repository.to_owned(), PathBuf::from("python3")],
    };
    candidates.into_iter().find(|python| {
        let import = format!("import {packages}");
        let found = Command::new(python).args(["-c", &import]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    })
}
