//! Foreign programs in Python: run as processes of their own, never linked.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The interpreter with the packages of `tests/peers/requirements.txt`: `./test` makes it; else whatever is installed.
pub fn python() -> Command {
    let venv = root().join(".venv/bin/python3");
    Command::new(if venv.exists() { venv } else { PathBuf::from("python3") })
}

/// Runs a script of `tests/`; `None` where a package it needs is missing.
pub fn peer(script: &str, packages: &[&str], args: &[&str]) -> Option<Output> {
    run(script, packages, args, Stdio::piped())
}

/// As [`peer`], with what it prints in a file.
pub fn peer_into(script: &str, packages: &[&str], args: &[&str], file: &Path) -> Option<()> {
    run(script, packages, args, std::fs::File::create(file).unwrap().into()).map(drop)
}

fn run(script: &str, packages: &[&str], args: &[&str], stdout: Stdio) -> Option<Output> {
    for package in packages {
        let found = python().args(["-c", &format!("import {package}")]).output();
        if !found.is_ok_and(|out| out.status.success()) {
            super::skip(&format!("Python package {package}"));
            return None;
        }
    }
    let mut command = python();
    command.arg(root().join("tests").join(script)).args(args).stdout(stdout).stderr(Stdio::piped());
    let out = command.output().unwrap();
    assert!(out.status.success(), "{script} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(out)
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file beside the repository that only some machines have.
pub fn shared(path: &str) -> Option<PathBuf> {
    let file = root().join("../shared").join(path);
    if file.exists() {
        return Some(file);
    }
    super::skip(&format!("../shared/{path}"));
    None
}
