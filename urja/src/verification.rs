//! Reads every byte of a data directory and says what is not as it was written, where, and what to do about it. It knows
//! the crates of the storage and nothing else of this binary, changes nothing, and takes no lock.

use std::path::{Path, PathBuf};

use model::Position;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a data directory holds and what is wrong with it.
#[derive(Debug, Default)]
pub struct Verification {
    /// What is damaged, missing or at odds.
    pub faults: Vec<Finding>,
    /// What a crash may leave and the next start settles by itself.
    pub remarks: Vec<Finding>,
    /// Bytes read.
    pub bytes: u64,
    journal: journal::Report,
    checkpoint: Option<Position>,
    tables: Vec<TableAt>,
}

/// What was found in the lake, as its owner tells it too.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct LakeFiles {
    /// Bytes read.
    bytes: u64,
    /// How far the tables got.
    tables: Vec<TableAt>,
    /// Files that are not as they were written, and why.
    faults: Vec<(PathBuf, String)>,
    /// What a commit left that did not finish.
    unfinished: Vec<PathBuf>,
}

/// How far a table got, where that can be told.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct TableAt {
    table: String,
    position: Option<u64>,
}

impl From<lake::VerifyReport> for LakeFiles {
    fn from(report: lake::VerifyReport) -> LakeFiles {
        let table = |at: &lake::TablePosition| TableAt {
            table: at.table.name().to_owned(),
            position: at.position.map(|position| position.0),
        };
        LakeFiles {
            bytes: report.bytes,
            tables: report.tables.iter().map(table).collect(),
            faults: report.differences.into_iter().map(|it| (it.path, it.fault.to_string())).collect(),
            unfinished: report.unfinished,
        }
    }
}

/// Something found, and what to do about it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `journal`, `checkpoint`, `lake` or `positions`.
    pub part: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Where in it, bytes; unknown where a digest covers the whole file.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

const RESTORE_SEGMENT: &str =
    "restore the file from a copy; what lies up to the checkpoint is in the lake as well";
const RESTORE_LAKE: &str = "restore the file from a copy; nothing starts on less than what was committed";
const REBUILD: &str = "`urja rebuild` makes it again from the lake";
const REMOVE_OLDER: &str = "delete it: a newer checkpoint is whole";
const REMOVE_HINT: &str = "delete it: readers find the checkpoints of the log without it";
const BY_ITSELF: &str = "nothing: the next start does it";
const TOGETHER: &str = "restore journal, checkpoint and lake from one copy";

/// Size of what will be read, about.
#[must_use]
pub fn size(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![dir.join("journal"), dir.join("checkpoint"), dir.join("lake")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Verifies a data directory; `lake` looks at the tables: by [`lake_files`] where nobody writes them, else it asks their
/// owner. `progress` is told of the bytes read.
///
/// # Errors
/// Those of `lake`; what is wrong with the files is in the verification.
pub fn verify<E>(
    dir: &Path,
    lake: impl FnOnce(&mut dyn FnMut(u64)) -> Result<LakeFiles, E>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, E> {
    let mut found = Verification::default();
    // In the order in which an owner moves on last: the lake is committed before the checkpoint is written, and the
    // journal synced before the lake is committed.
    found.checkpoint(&dir.join("checkpoint"), progress);
    found.lake(lake(progress)?);
    found.journal(&dir.join("journal"), progress);
    found.positions(dir);
    Ok(found)
}

/// Looks at the tables of a data directory that nobody writes.
#[must_use]
pub fn lake_files(dir: &Path, progress: &mut dyn FnMut(u64)) -> LakeFiles {
    lake::verify(&dir.join("lake"), progress).into()
}

impl Verification {
    /// Whether nothing is damaged, missing or at odds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let tables: serde_json::Map<String, Value> =
            self.tables.iter().map(|at| (at.table.clone(), json!(at.position))).collect();
        json!({
            "sound": self.is_sound(),
            "bytes": self.bytes,
            "journal": {
                "segments": self.journal.segments, "groups": self.journal.groups,
                "records": self.journal.records, "first": self.journal.first.0,
                "last": self.journal.last.0, "durable_upto": self.journal.durable_upto.0,
            },
            "checkpoint": self.checkpoint.map(|position| position.0),
            "lake": tables,
            "faults": self.faults.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "remarks": self.remarks.iter().map(Finding::to_json).collect::<Vec<_>>(),
        })
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let position = |position: Option<Position>| position.map_or("none".into(), |at| at.to_string());
        let lake = self.tables.iter().filter_map(|at| at.position).min().map(Position);
        let mut out = format!(
            "{} bytes read: journal from {} to {}, checkpoint at {}, lake at {}\n",
            self.bytes,
            self.journal.first,
            self.journal.last,
            position(self.checkpoint),
            position(lake)
        );
        out += &self.remarks.iter().map(|remark| format!("note: {}", remark.describe())).collect::<String>();
        out += &self.faults.iter().map(|fault| format!("FAULT: {}", fault.describe())).collect::<String>();
        out + &format!("{} faults\n", self.faults.len())
    }

    fn fault(&mut self, part: &'static str, path: &Path, what: String, advice: &'static str) {
        self.faults.push(Finding { part, path: path.to_owned(), offset: None, what, advice });
    }

    fn journal(&mut self, dir: &Path, progress: &mut dyn FnMut(u64)) {
        let report = match journal::verify_with(dir, progress) {
            Ok(report) => report,
            Err(error) => return self.fault("journal", dir, words(&error), RESTORE_SEGMENT),
        };
        let finding = |at: &journal::FaultAt, advice| Finding {
            part: "journal",
            path: at.path.clone(),
            offset: Some(at.offset),
            what: at.fault.to_string(),
            advice,
        };
        self.faults.extend(report.faults.iter().map(|at| finding(at, RESTORE_SEGMENT)));
        self.remarks.extend(report.torn.iter().map(|at| Finding {
            what: format!("torn tail: {}; a start cuts it", at.fault),
            ..finding(at, "nothing after a crash: it was never acknowledged; else restore the file")
        }));
        self.bytes += report.bytes;
        self.journal = report;
    }

    fn checkpoint(&mut self, dir: &Path, progress: &mut dyn FnMut(u64)) {
        let checked = match state::verify(dir) {
            Ok(checked) => checked,
            Err(state::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.fault("checkpoint", dir, words(&error), REBUILD),
        };
        let newest = checked.len().saturating_sub(1);
        for (index, file) in checked.into_iter().enumerate() {
            match file.result {
                Ok(summary) => {
                    self.bytes += summary.bytes;
                    progress(summary.bytes);
                    self.checkpoint = Some(summary.position);
                }
                // Its owner has removed it meanwhile.
                Err(state::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let advice = if index == newest { REBUILD } else { REMOVE_OLDER };
                    let (offset, what) = match &error {
                        state::Error::Damaged { offset, fault, .. } => (Some(*offset), fault.to_string()),
                        other => (None, words(other)),
                    };
                    self.faults.push(Finding { part: "checkpoint", path: file.path, offset, what, advice });
                }
            }
        }
    }

    fn lake(&mut self, found: LakeFiles) {
        self.bytes += found.bytes;
        self.tables = found.tables;
        for (path, what) in found.faults {
            let is_hint = path.ends_with("_last_checkpoint");
            let advice = if is_hint { REMOVE_HINT } else { RESTORE_LAKE };
            self.fault("lake", &path, what, advice);
        }
        self.remarks.extend(found.unfinished.into_iter().map(|path| Finding {
            part: "lake",
            path,
            offset: None,
            what: "of a commit or a checkpoint of the log that did not finish; a start sets it aside".into(),
            advice: BY_ITSELF,
        }));
    }

    /// What journal, checkpoint and lake say of each other.
    fn positions(&mut self, dir: &Path) {
        let checkpoint = self.checkpoint.unwrap_or_default();
        let (first, last) = (self.journal.first, self.journal.last);
        if checkpoint > last {
            let what = format!("the journal ends at {last}, before the checkpoint at {checkpoint}");
            self.fault("positions", &dir.join("journal"), what, TOGETHER);
        }
        // Records before the first that is there must be in the checkpoint; an empty journal is told above.
        if first.0 > checkpoint.0 + 1 {
            let what = format!("the journal begins at {first}, the checkpoint ends at {checkpoint}");
            self.fault("positions", &dir.join("checkpoint"), what, REBUILD);
        }
        let mut behind = None;
        for TableAt { table, position } in self.tables.clone() {
            let Some(at) = position.map(Position) else { continue };
            if at > last {
                let what = format!("table {table} holds position {at}, the journal ends at {last}");
                self.fault("positions", &dir.join("journal"), what, TOGETHER);
            }
            if at < checkpoint {
                let what = format!("table {table} ends at {at}, before the checkpoint at {checkpoint}");
                self.fault("positions", &dir.join("lake").join(&table), what, TOGETHER);
            }
            behind = behind.max(Some(at).filter(|at| *at > checkpoint));
        }
        if let Some(at) = behind {
            let what = format!(
                "the lake is committed up to {at}, the checkpoint stands at {checkpoint}; a start reads the \
                 journal from there"
            );
            let (part, path) = ("positions", dir.join("checkpoint"));
            self.remarks.push(Finding { part, path, offset: None, what, advice: BY_ITSELF });
        }
    }
}

impl Finding {
    fn to_json(&self) -> Value {
        json!({
            "part": self.part, "path": self.path, "offset": self.offset, "what": self.what, "do": self.advice,
        })
    }

    fn describe(&self) -> String {
        let at = self.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        format!("{}{at}: {}\n    {}\n", self.path.display(), self.what, self.advice)
    }
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out += &format!(": {error}");
        cause = error.source();
    }
    out
}
