//! D2: the stacks of PyPI on the same pushes, `peers/decode.py`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::{Figure, Floor, Samples, Void, in_turn, python, setting};
use codec_aws_lc::AwsLc;
use serde_json::{Value as Json, json};

use crate::{Fleet, Message, ROUNDS, VALUES};

/// How many of the pushes they are given: they take milliseconds for one.
const APDUS: (&str, usize) = ("URJA_BENCH_PYTHON_APDUS", 512);
/// How often they are run, with ours on both sides of each run.
const RUNS: usize = 5;

/// A stack, the id of its line, and how many times quicker ours has to be.
const STACKS: [(&str, &str, &str, f64); 2] =
    [("dlms-cosem", "dlms_cosem", "D2", 150.0), ("gurux", "gurux_dlms", "D2g", 4000.0)];

pub(crate) fn compare(fleet: &Fleet) -> Result<(), Void> {
    let some = Fleet(fleet.0.iter().take(setting(APDUS.0, APDUS.1)).cloned().collect());
    for (stack, package, id, floor) in STACKS {
        let Some(python) = python::with(package) else {
            println!("{id:<4} skipped: not there: Python package {package}");
            continue;
        };
        println!("{}", figure(id, &python, stack, &some, floor)?);
    }
    Ok(())
}

fn ours(fleet: &Fleet) -> Samples {
    let mut whole = fleet.whole(&AwsLc);
    // Long enough that what a core takes to be itself again, after it waited for the other process, does not count.
    let [samples] = in_turn(16 * ROUNDS, fleet.0.len(), [&mut whole]);
    samples
}

/// Theirs is a process of its own, so that the two cannot take turns within one: each run of theirs lies between two of
/// ours, and is compared with the mean of those.
fn figure(
    id: &'static str,
    python: &PathBuf,
    stack: &str,
    fleet: &Fleet,
    floor: f64,
) -> Result<Figure, Void> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    let mut before = ours(fleet).median();
    for run in 0..RUNS {
        let theirs = theirs(python, stack, fleet)?;
        if run == 0 && theirs["authenticates"] != json!(true) {
            println!("# {stack} takes a flipped tag");
        }
        let peer = theirs["ns_per_apdu"].as_f64();
        their_times.push(peer.ok_or_else(|| Void(format!("no ns_per_apdu in {theirs}")))?);
        let after = ours(fleet).median();
        our_times.push((before + after) / 2.0);
        before = after;
    }
    let (ours, theirs) = (Samples::of(our_times), Samples::of(their_times));
    let ratio = theirs.over(&ours);
    Ok(Figure {
        id,
        ours: format!("{:.0} ns", ours.median()),
        peer: format!("{:.0} ns", theirs.median()),
        ratio: ratio.median(),
        spread_percent: ratio.spread_percent(),
        floor: Floor::AtLeast(floor),
    })
}

/// What the script says of a stack; it ends with an error where the values do not add up to ours.
fn theirs(python: &PathBuf, stack: &str, fleet: &Fleet) -> Result<Json, Void> {
    let fault = |error: &dyn std::fmt::Display| Void(format!("{stack}: {error}"));
    let path = std::env::temp_dir().join(format!("urja-bench-{}-{stack}.jsonl", std::process::id()));
    write(&path, fleet).map_err(|error| fault(&error))?;
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/decode.py"));
    let out = Command::new(python)
        .arg(script)
        .arg(&path)
        .args([stack, "--rounds", "1"])
        .stderr(Stdio::inherit())
        .output();
    let _gone_anyhow = std::fs::remove_file(&path);
    let out = out.map_err(|error| fault(&error))?;
    if !out.status.success() {
        return Err(fault(&"does not read its input as we do"));
    }
    let theirs: Json = serde_json::from_slice(&out.stdout).map_err(|error| fault(&error))?;
    if theirs["values"] != json!(VALUES) {
        return Err(fault(&format!("{} values instead of {VALUES}", theirs["values"])));
    }
    Ok(theirs)
}

fn write(path: &Path, fleet: &Fleet) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for Message { guek, gak, iv, sealed, digest, .. } in &fleet.0 {
        let line = json!({
            "title": hex::encode(&iv[..8]),
            "guek": hex::encode(guek),
            "gak": hex::encode(gak),
            "hex": hex::encode(sealed),
            "digest": digest.to_string(),
        });
        writeln!(file, "{line}")?;
    }
    file.flush()
}
