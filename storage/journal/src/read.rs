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
/// [`Error::MissingSegment`] when a segment is damaged or gone. Where there is an [`Error::Hole`] the iterator gives
/// it and ends; if that is before the first group, it is given here.
pub fn read(dir: &Path, after: Position) -> Result<Reader, Error> {
    let mut segments = segment::open_all(dir, &segment::list(dir)?.segments)?;
    // A segment is only as good as its first group; without one the walk begins before it and finds out why.
    let mut start = 0;
    for (index, segment) in segments.iter().enumerate() {
        match segment.group_at(segment::FIRST_GROUP)? {
            Ok(view) if view.header.first_position.0 <= after.0.saturating_add(1) => start = index,
            Ok(_) => break,
            Err(_) => {}
        }
    }
    segments.drain(..start);
    let walk = (!segments.is_empty()).then(|| Walk::new(segments));
    let mut reader = Reader { walk, after, ahead: None };
    reader.ahead = reader.advance().transpose()?;
    match reader.ahead.as_ref().map(|view| view.header.first_position) {
        Some(first) if first.0 > after.0.saturating_add(1) => Err(Error::Trimmed { after, first }),
        _ => Ok(reader),
    }
}

/// Iterator over the groups of a journal, see [`read`]. Ends after the first error.
#[derive(Debug)]
pub struct Reader {
    walk: Option<Walk>,
    after: Position,
    /// The first group, which [`read`] has looked at.
    ahead: Option<GroupView>,
}

impl Reader {
    /// The next group that reaches beyond `after`.
    fn advance(&mut self) -> Option<Result<GroupView, Error>> {
        loop {
            let step = self.walk.as_mut()?.step();
            match step {
                Ok(Step::Group(view)) if view.header.last_position() <= self.after => {}
                Ok(Step::Group(mut view)) => {
                    view.after = self.after;
                    return Some(Ok(view));
                }
                Ok(Step::End(_)) => self.walk = None,
                Ok(Step::Hole(hole)) => return Some(Err(self.walk.take()?.hole_error(&hole))),
                Err(error) => {
                    self.walk = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<GroupView, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ahead.take().map(Ok).or_else(|| self.advance())
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
