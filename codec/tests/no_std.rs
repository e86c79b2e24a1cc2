//! What the crate and everything it is built with may take from the standard library: nothing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A target that has no standard library at all.
const BARE: &str = "thumbv7em-none-eabi";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(args: &[&str]) -> Output {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    Command::new(cargo).args(args).args(["--locked", "--offline"]).current_dir(root()).output().unwrap()
}

/// Whether the core library of [`BARE`] is installed.
fn is_installed() -> bool {
    let out = Command::new("rustc").args(["--print", "target-libdir", "--target", BARE]).output();
    let path = out.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    path.is_ok_and(|path| path.is_dir())
}

#[test]
fn nothing_that_it_is_built_with_has_the_standard_library_switched_on() {
    let out =
        cargo(&["tree", "-p", "codec", "-e", "normal,build,features", "--target", BARE, "--prefix", "none"]);
    let tree = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && tree.contains("aes-gcm"), "{}", String::from_utf8_lossy(&out.stderr));
    let with_std: Vec<&str> = tree.lines().filter(|line| line.contains("feature \"std\"")).collect();
    assert!(with_std.is_empty(), "{with_std:?}");
}

#[test]
fn it_builds_where_there_is_no_standard_library() {
    // A directory of its own: the one of the build that runs this test may be waited for.
    let directory = root().join("target/no_std");
    let directory = directory.to_str().unwrap();
    let mut args = vec!["check", "-p", "codec", "--lib", "--no-default-features", "--target-dir", directory];
    if is_installed() {
        args.extend(["--target", BARE]);
    } else {
        println!("skipped: not there: the target {BARE}; checked for this machine instead");
    }
    let out = cargo(&args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
