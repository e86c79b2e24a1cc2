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
const PYTHON_ROUNDS: &str = "5";

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
        let before = ours(&some);
        let theirs = theirs(&python, stack, &some)?;
        // Theirs is a process of its own: ours is measured on both sides of it, and the slower one counts.
        let ours = before.median().max(ours(&some).median());
        println!("{}", figure(id, ours, &theirs, floor)?);
    }
    Ok(())
}

fn ours(fleet: &Fleet) -> Samples {
    let mut whole = fleet.whole(&AwsLc);
    let [samples] = in_turn(ROUNDS, fleet.0.len(), [&mut whole]);
    samples
}

fn figure(id: &'static str, ours: f64, theirs: &Json, floor: f64) -> Result<Figure, Void> {
    let number = |name: &str| theirs[name].as_f64().ok_or(Void(format!("no {name} in {theirs}")));
    let peer = number("ns_per_apdu")?;
    Ok(Figure {
        id,
        ours: format!("{ours:.0} ns"),
        peer: format!("{peer:.0} ns"),
        ratio: peer / ours,
        spread_percent: number("spread_percent")?,
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
        .args([stack, "--rounds", PYTHON_ROUNDS])
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
    if theirs["authenticates"] != json!(true) {
        println!("# {stack} takes a flipped tag");
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
