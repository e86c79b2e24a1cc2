//! Reading everything to find every fault.

use std::path::{Path, PathBuf};

use model::Position;

use crate::error::{Error, Fault};
use crate::segment::{self, Segment};
use crate::walk::{Step, Walk};

/// Faults listed in a [`Report`]; further ones are counted.
const MAX_FAULTS: usize = 1000;

/// What a journal holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments with a sound header.
    pub segments: u64,
    /// Valid groups.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the groups.
    pub bytes: u64,
    /// First position that is there; 0 when there is none.
    pub first: Position,
    /// Last position that is there; 0 when there is none.
    pub last: Position,
    /// The highest position that some group says is durable.
    pub durable_upto: Position,
    /// What is damaged, in order; at most 1000 are listed.
    pub faults: Vec<FaultAt>,
    /// How many faults there are.
    pub fault_count: u64,
    /// A torn tail, which the next start cuts: no fault.
    pub torn: Option<FaultAt>,
}

impl Report {
    /// Whether nothing that was acknowledged is damaged, as far as the journal can tell.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    fn fault(&mut self, path: &Path, offset: u64, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(FaultAt { path: path.to_owned(), offset, fault });
        }
    }
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAt {
    /// The segment.
    pub path: PathBuf,
    /// Where in it, bytes.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// Reads all of a journal and names file and offset of every fault. Changes nothing.
///
/// # Errors
/// When a file cannot be read at all, or its owner recycles it meanwhile; damage is part of the report.
pub fn verify(dir: &Path) -> Result<Report, Error> {
    verify_with(dir, &mut |_| ())
}

/// As [`verify`]; `progress` is told of the bytes of each group read.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut run: Vec<Segment> = Vec::new();
    let mut expected = None;
    for sequence in segment::list(dir)?.segments {
        if let Some(missing) = expected.filter(|&expected| expected != sequence) {
            interrupted(&mut run, &mut report, progress)?;
            report.fault(&segment::path(dir, missing), 0, Fault::Missing);
        }
        expected = Some(sequence + 1);
        match Segment::open(dir, sequence, false) {
            Ok(segment) => run.push(segment),
            Err(error) if segment::was_trimmed(&error) => run.clear(),
            Err(Error::Segment { path, fault }) => {
                interrupted(&mut run, &mut report, progress)?;
                report.fault(&path, 0, fault);
            }
            Err(error) => return Err(error),
        }
    }
    report.torn = walk(run, &mut report, progress)?;
    Ok(report)
}

/// Goes through segments after which another one should follow; what is torn at their end is a fault.
fn interrupted(
    run: &mut Vec<Segment>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    if let Some(torn) = walk(std::mem::take(run), report, progress)? {
        report.fault(&torn.path, torn.offset, torn.fault);
    }
    Ok(())
}

/// Goes through segments that follow each other.
fn walk(
    segments: Vec<Segment>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<FaultAt>, Error> {
    report.segments += segments.len() as u64;
    if segments.is_empty() {
        return Ok(None);
    }
    let mut walk = Walk::new(segments);
    loop {
        match walk.step()? {
            Step::Group(view) => {
                let header = view.header;
                report.groups += 1;
                report.records += u64::from(header.count);
                report.bytes += header.byte_len();
                progress(header.byte_len());
                report.durable_upto = report.durable_upto.max(header.durable_upto);
                if header.count > 0 && report.first == segment::BEFORE_FIRST {
                    report.first = header.first_position;
                }
                report.last = report.last.max(header.last_position());
            }
            Step::Hole(hole) => {
                report.fault(walk.hole_path(&hole), hole.offset, hole.fault);
                walk.skip(&hole);
            }
            Step::End(tail) => {
                let path = walk.segments()[tail.index].path.clone();
                return Ok(tail.torn.map(|fault| FaultAt { path, offset: tail.offset, fault }));
            }
        }
    }
}
