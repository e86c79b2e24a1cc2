//! Reading a journal, closed or live, from any position.

use std::path::Path;

use model::Position;

use crate::error::{Error, Fault};
use crate::group::{GroupHeader, Records, digest, parse_group};
use crate::segment;
use crate::walk::{Step, Walk};

/// Reads the groups that hold records after `after`, in order, up to the last valid one. It changes nothing and
/// needs no lock: on a live journal it ends where the owner was when it got there, which may be ahead of the last
/// sync.
///
/// # Errors
/// [`Error::Trimmed`] when the record after `after` is not there any more, [`Error::Segment`] or
/// [`Error::MissingSegment`] when a segment is damaged or gone. The iterator gives [`Error::Hole`] where it meets one
/// and ends.
pub fn read(dir: &Path, after: Position) -> Result<Reader, Error> {
    let mut segments = segment::open_all(dir, &segment::list(dir)?.segments)?;
    // A segment is only as good as its first group; without one the walk begins before it and finds out why.
    let mut start = 0;
    let mut first = None;
    for (index, segment) in segments.iter().enumerate() {
        let Ok(view) = segment.group_at(segment::FIRST_GROUP)? else { continue };
        let begins = view.header.first_position;
        if index == 0 {
            first = Some(begins);
        }
        if begins.0 > after.0.saturating_add(1) {
            break;
        }
        start = index;
    }
    if let Some(first) = first.filter(|first| first.0 > after.0.saturating_add(1)) {
        return Err(Error::Trimmed { after, first });
    }
    segments.drain(..start);
    Ok(Reader { walk: (!segments.is_empty()).then(|| Walk::new(segments)), after })
}

/// Iterator over the groups of a journal, see [`read`]. Ends after the first error.
#[derive(Debug)]
pub struct Reader {
    walk: Option<Walk>,
    after: Position,
}

impl Iterator for Reader {
    type Item = Result<GroupView, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walk.as_mut()?.step() {
                Ok(Step::Group(view)) if view.header.last_position() <= self.after => {}
                Ok(Step::Group(mut view)) => {
                    view.after = self.after;
                    return Some(Ok(view));
                }
                Ok(Step::End(_)) => {
                    self.walk = None;
                    return None;
                }
                Ok(Step::Hole(hole)) => {
                    let error = self.walk.take()?.hole_error(&hole);
                    return Some(Err(error));
                }
                Err(error) => {
                    self.walk = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// One valid group.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// What the group says of itself.
    pub header: GroupHeader,
    /// Number of the segment it is in.
    pub segment: u64,
    /// Where in the segment's file it begins.
    pub offset: u64,
    /// Header and records.
    pub(crate) bytes: Vec<u8>,
    after: Position,
}

impl GroupView {
    pub(crate) fn parse(bytes: Vec<u8>, segment: u64, offset: u64) -> Result<GroupView, Fault> {
        let header = parse_group(&bytes)?.0;
        Ok(GroupView { header, segment, offset, bytes, after: segment::BEFORE_FIRST })
    }

    /// The records with their positions. Of the first group that a [`Reader`] gives, those at or below `after` are
    /// left out; its counts were folded with them.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::of(&self.header, &self.bytes, self.after)
    }

    /// Where the next group begins.
    pub(crate) fn end(&self) -> u64 {
        (self.offset + self.bytes.len() as u64).next_multiple_of(crate::group::ALIGN)
    }

    pub(crate) fn digest(&self) -> model::Digest {
        digest(&self.bytes)
    }
}
