//! What the workspace promises about itself: layers, licences, one version of what must be one.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate and all it may depend on, in normal and build dependencies. Nothing else, nothing upward.
const LAYERS: &[(&str, &[&str])] = &[
    ("codec", &[]),
    ("codec-aws-lc", &["codec"]),
    ("model", &[]),
    ("profiles", &["model"]),
    ("ledger", &["model"]),
    ("journal", &["model"]),
    ("state", &["model"]),
    ("lake", &["model"]),
    ("registry", &["model"]),
    ("ingest", &["codec", "codec-aws-lc", "model", "profiles", "ledger", "journal", "state", "registry"]),
    ("query", &["model", "lake"]),
    ("app", &["model", "query", "registry"]),
    ("fleet", &["codec", "model", "profiles"]),
];

/// Crates whose closure must not hold these.
const NEVER: &[(&[&str], &[&str])] = &[
    (&["ingest", "fleet"], &["arrow", "arrow-array", "datafusion", "axum"]),
    (&["codec", "codec-aws-lc", "model", "ledger", "profiles"], &["tokio"]),
    (&["codec"], &["aws-lc-sys"]),
    (&["fleet"], &["codec-aws-lc"]),
    (&["journal", "state"], &["arrow", "arrow-array", "codec", "tokio"]),
    (&["lake"], &["datafusion", "codec"]),
    (&["fleet", "query", "app"], &["ledger"]),
    (&["query", "app", "registry"], &["codec"]),
];

/// One type universe each.
const SINGLE: &[&str] = &[
    "aws-lc-sys",
    "arrow",
    "arrow-array",
    "arrow-schema",
    "parquet",
    "datafusion",
    "object_store",
    "tokio",
    "axum",
    "rustls",
    "hyper",
];

const DIRECT: &[&str] = &[
    "tokio",
    "tokio-util",
    "bytes",
    "mqtt5",
    "rumqttc-v5-next",
    "arrow",
    "parquet",
    "datafusion",
    "metrics",
];

const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

struct Workspace {
    /// Package id -> package.
    packages: BTreeMap<String, Value>,
    members: BTreeSet<String>,
    /// Package id -> ids of its normal and build dependencies.
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Workspace {
    fn read() -> Workspace {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let out = Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let packages =
            array(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
        let members = array(&metadata["workspace_members"]).iter().map(text).collect();
        let runs =
            |dependency: &Value| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let edges = array(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let to = array(&node["deps"])
                    .iter()
                    .filter(|dep| runs(dep))
                    .map(|dep| text(&dep["pkg"]))
                    .collect();
                (text(&node["id"]), to)
            })
            .collect();
        Workspace { packages, members, edges }
    }

    fn name(&self, id: &str) -> String {
        self.packages[id]["name"].as_str().unwrap_or_default().to_owned()
    }

    fn member(&self, name: &str) -> &String {
        self.members.iter().find(|id| self.name(id) == name).unwrap_or_else(|| panic!("no crate {name}"))
    }

    fn closure(&self, name: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.member(name).clone()];
        while let Some(id) = open.pop() {
            for next in &self.edges[&id] {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen.iter().map(|id| self.name(id)).collect()
    }

    /// Everything that the binary links.
    fn linked(&self) -> BTreeSet<String> {
        self.closure("urja")
    }
}

#[test]
fn crates_depend_on_nothing_but_what_their_layer_allows() {
    let workspace = Workspace::read();
    let ours: BTreeSet<String> = workspace.members.iter().map(|id| workspace.name(id)).collect();
    for (name, allowed) in LAYERS {
        let found: BTreeSet<String> = workspace.edges[workspace.member(name)]
            .iter()
            .map(|id| workspace.name(id))
            .filter(|name| ours.contains(name))
            .collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let upward: Vec<_> = found.difference(&allowed).collect();
        assert!(upward.is_empty(), "{name} must not depend on {upward:?}");
    }
    let listed: BTreeSet<String> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unlisted: Vec<_> =
        ours.difference(&listed).filter(|name| !["urja", "benches"].contains(&name.as_str())).collect();
    assert!(unlisted.is_empty(), "no layer for {unlisted:?}");
}

#[test]
fn closures_hold_nothing_their_crates_must_not_know() {
    let workspace = Workspace::read();
    for (crates, never) in NEVER {
        for name in *crates {
            let closure = workspace.closure(name);
            for other in *never {
                assert!(!closure.contains(*other), "{name} reaches {other}");
            }
        }
    }
}

#[test]
fn there_is_one_version_of_what_must_be_one() {
    let workspace = Workspace::read();
    for name in SINGLE {
        let versions: BTreeSet<&str> = workspace
            .packages
            .values()
            .filter(|package| package["name"] == *name)
            .filter_map(|package| package["version"].as_str())
            .collect();
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn the_stack_is_used_directly() {
    let workspace = Workspace::read();
    let direct: BTreeSet<String> =
        workspace.members.iter().flat_map(|id| &workspace.edges[id]).map(|id| workspace.name(id)).collect();
    for name in DIRECT {
        assert!(direct.contains(*name), "no crate of ours depends on {name} itself");
    }
}

#[test]
fn every_licence_is_on_the_list() {
    let workspace = Workspace::read();
    let linked = workspace.linked();
    for package in workspace.packages.values() {
        let name = package["name"].as_str().unwrap_or_default();
        if !linked.contains(name) {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(allowed(licence), "{name} {}: licence {licence:?} is not on the list", package["version"]);
    }
}

/// Whether an SPDX expression can be met from the list: every part joined by AND, one of those joined by OR.
fn allowed(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let known = |term: &str| LICENCES.contains(&term.trim());
    if expression.contains('(') {
        // Nested expressions: accept when every licence named is known.
        return flat.split(" AND ").flat_map(|part| part.split(" OR ")).any(known)
            && flat.split(" AND ").all(|part| part.split(" OR ").any(known));
    }
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(known))
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    assert!(allowed("MIT") && allowed("MIT OR GPL-3.0") && allowed("MIT/Apache-2.0"));
    assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(
        !allowed("GPL-3.0")
            && !allowed("MIT AND GPL-3.0")
            && !allowed("")
            && !allowed("(MIT OR ISC) AND GPL-3.0")
    );
}

/// The one crate that calls C, and what its manifest and its module say instead of forbidding it (ADR 26).
const UNSAFE: &str = "codec-aws-lc";

#[test]
fn no_crate_of_ours_may_use_unsafe_code_but_one_that_says_why() {
    let workspace = Workspace::read();
    for id in &workspace.members {
        let manifest = workspace.packages[id]["manifest_path"].as_str().unwrap_or_default();
        let text = std::fs::read_to_string(manifest).unwrap();
        let is_safe = text.contains("[lints]\nworkspace = true");
        if workspace.name(id) != UNSAFE {
            assert!(is_safe, "{manifest} does not take the workspace's lints");
            continue;
        }
        assert!(text.contains("unsafe_code = \"deny\""), "{manifest} does not deny unsafe code by default");
        let sources = std::path::Path::new(manifest).with_file_name("src");
        for entry in std::fs::read_dir(sources).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let is_allowed = path.ends_with("aead.rs") && text.contains("#![expect(unsafe_code, reason = ");
            assert!(is_allowed || !text.contains("(unsafe_code"), "{} allows unsafe code", path.display());
        }
    }
}
