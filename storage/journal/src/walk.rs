//! From group to group, and the decision what a bad one means.

use model::{Digest, Position};

use crate::error::{Error, Fault};
use crate::read::GroupView;
use crate::segment::{self, FIRST_GROUP, Segment};

/// What the next group has to say of the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its first position.
    pub(crate) next: Position,
    /// Hash of the group before it.
    pub(crate) hash: Digest,
}

/// Walks over the groups of consecutive segments.
#[derive(Debug)]
pub(crate) struct Walk {
    segments: Vec<Segment>,
    index: usize,
    offset: u64,
    /// Unknown before the first group of a journal whose beginning was trimmed.
    link: Option<Link>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A valid group.
    Group(GroupView),
    /// Nothing that was ever acknowledged.
    End(Tail),
    /// Something bad that a later group vouches for.
    Hole(Hole),
}

/// Where the journal ends.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Which of the segments walked.
    pub(crate) index: usize,
    /// Where the next group would begin.
    pub(crate) offset: u64,
    /// What it has to say; unknown only if there is no group and no telling where groups began.
    pub(crate) link: Option<Link>,
    /// Why what is there is no group, if something of this generation is.
    pub(crate) torn: Option<Fault>,
}

/// Bytes that once were a synced group.
#[derive(Debug)]
pub(crate) struct Hole {
    index: usize,
    pub(crate) offset: u64,
    pub(crate) fault: Fault,
    /// The first good group after it.
    later: Place,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    offset: u64,
}

impl Walk {
    /// Begins with the first group of the first segment. There is at least one segment.
    pub(crate) fn new(segments: Vec<Segment>) -> Walk {
        let link = segment::is_first(segments[0].sequence)
            .then(|| Link { next: segment::BEFORE_FIRST.next(), hash: Digest::default() });
        Walk { segments, index: 0, offset: FIRST_GROUP, link }
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    /// Goes on by one group.
    pub(crate) fn step(&mut self) -> Result<Step, Error> {
        loop {
            let fault = match self.linked_group(self.index, self.offset)? {
                Ok(view) => {
                    self.offset = view.end();
                    self.link = Some(Link { next: view.header.last_position().next(), hash: view.digest() });
                    return Ok(Step::Group(view));
                }
                Err(fault) => fault,
            };
            if self.goes_on_in_next_segment()? {
                self.index += 1;
                self.offset = FIRST_GROUP;
                continue;
            }
            if let Some(step) = self.judge(fault)? {
                return Ok(step);
            }
        }
    }

    /// Goes on with the first good group after a hole, wherever it is.
    pub(crate) fn skip(&mut self, hole: &Hole) {
        self.index = hole.later.index;
        self.offset = hole.later.offset;
        self.link = None;
    }

    pub(crate) fn hole_error(&self, hole: &Hole) -> Error {
        Error::Hole { path: self.segments[hole.index].path.clone(), offset: hole.offset, fault: hole.fault }
    }

    pub(crate) fn hole_path(&self, hole: &Hole) -> &std::path::Path {
        &self.segments[hole.index].path
    }

    /// The group at that place, if it follows the last one.
    fn linked_group(&self, index: usize, offset: u64) -> Result<Result<GroupView, Fault>, Error> {
        let view = match self.segments[index].group_at(offset)? {
            Ok(view) => view,
            Err(fault) => return Ok(Err(fault)),
        };
        let found = view.header.first_position;
        Ok(match self.link {
            Some(link) if link.next != found => Err(Fault::Gap { expected: link.next, found }),
            Some(link) if link.hash != view.header.previous => Err(Fault::Chain),
            _ => Ok(view),
        })
    }

    fn goes_on_in_next_segment(&self) -> Result<bool, Error> {
        let next = self.index + 1;
        Ok(self.link.is_some() && next < self.segments.len() && self.linked_group(next, FIRST_GROUP)?.is_ok())
    }

    /// Decides what a bad place means by what comes after it; `None` when it is not bad any more.
    fn judge(&self, fault: Fault) -> Result<Option<Step>, Error> {
        let shows = !fault.is_blank() || self.was_next(&self.segments[self.index], self.offset)?;
        let mut torn = shows.then_some(fault);
        let mut good = None;
        let mut place = Place { index: self.index, offset: self.offset };
        while let Some(segment) = self.segments.get(place.index) {
            if place.offset == FIRST_GROUP {
                let first = segment.group_at(FIRST_GROUP)?.err();
                let was_next = self.was_next(segment, FIRST_GROUP)?;
                torn = torn.or(first.filter(|fault| was_next || !fault.is_blank()));
            }
            let Some(later) = segment.find_group(place.offset)? else {
                place = Place { index: place.index + 1, offset: FIRST_GROUP };
                continue;
            };
            torn = torn.or(Some(fault));
            let good = *good.get_or_insert(Place { index: place.index, offset: later.offset });
            // A group vouches for what it says is durable, and for a group without records right before it.
            let vouches = self.link.is_none_or(|link| {
                later.header.durable_upto >= link.next || later.header.first_position == link.next
            });
            if vouches {
                return self.hole(self.place_of(fault)?, good);
            }
            place.offset = later.end();
        }
        Ok(Some(Step::End(Tail { index: self.index, offset: self.offset, link: self.link, torn })))
    }

    /// Where the group is that should follow: here, or first in the next segment where nothing was ever here.
    fn place_of(&self, fault: Fault) -> Result<(Place, Fault), Error> {
        let here = (Place { index: self.index, offset: self.offset }, fault);
        let Some(next) = self.segments.get(self.index + 1).filter(|_| fault.is_blank()) else {
            return Ok(here);
        };
        if self.was_next(&self.segments[self.index], self.offset)? {
            return Ok(here);
        }
        let there = next.group_at(FIRST_GROUP)?.err();
        let was_there = self.was_next(next, FIRST_GROUP)?;
        let place = Place { index: self.index + 1, offset: FIRST_GROUP };
        Ok(there.filter(|fault| was_there || !fault.is_blank()).map_or(here, |fault| (place, fault)))
    }

    /// Whether what is there follows the last group, whatever its magic and its generation say.
    fn was_next(&self, segment: &Segment, offset: u64) -> Result<bool, Error> {
        let Some(link) = self.link else { return Ok(false) };
        let claim = segment.claim_at(offset)?;
        Ok(claim.is_some_and(|claim| claim.first_position == link.next && claim.previous == link.hash))
    }

    fn hole(&self, (place, fault): (Place, Fault), later: Place) -> Result<Option<Step>, Error> {
        // Since it was looked at the owner may have finished the group, or recycled a segment it could be in.
        if self.linked_group(self.index, self.offset)?.is_ok() || self.goes_on_in_next_segment()? {
            return Ok(None);
        }
        for segment in self.segments.iter().skip(self.index).take(2) {
            if !segment.is_still_itself()? {
                return Err(Error::Recycled { path: segment.path.clone() });
            }
        }
        Ok(Some(Step::Hole(Hole { index: place.index, offset: place.offset, fault, later })))
    }
}
