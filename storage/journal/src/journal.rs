//! The one writer of a journal.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use model::Position;

use crate::disk::{Disk, OsDisk};
use crate::error::{Error, Fault};
use crate::group::{ALIGN, Group};
use crate::segment::{self, FIRST_GROUP, Listing, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Segment};
use crate::walk::{Link, Step, Tail, Walk};

#[cfg(test)]
mod tests;

/// How a journal uses its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a new segment, bytes. Existing ones keep theirs.
    pub segment_bytes: u64,
    /// Trimmed segments go when all segments together take more than this, bytes.
    pub keep_bytes: u64,
    /// Trimmed segments go when the last write to them is older than this.
    pub keep: Duration,
    /// Space held back for [`Journal::append_urgent`], bytes; rounded up to whole segments.
    pub reserve_bytes: u64,
}

impl Default for Options {
    /// Segments of 64 MiB, kept for 7 days or 16 GiB, and one in reserve.
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            keep_bytes: 16 << 30,
            keep: Duration::from_secs(7 * 24 * 3600),
            reserve_bytes: 64 << 20,
        }
    }
}

impl Options {
    /// Number of blank files held back.
    fn reserve(&self) -> usize {
        usize::try_from(self.reserve_bytes.div_ceil(self.segment_bytes)).unwrap_or(usize::MAX)
    }
}

/// Proof that everything up to a position survives a power cut. Only [`Journal::sync`] makes one, and only with one
/// may anything be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable(Position);

impl Durable {
    /// Last position that is durable.
    #[must_use]
    pub fn upto(&self) -> Position {
        self.0
    }
}

/// What [`Journal::open`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// There was no journal in the directory. Alarming, if there is a checkpoint.
    pub created: bool,
    /// Last position; 0 when there is no record. All of it is durable now.
    pub last: Position,
    /// What the journal proves to have been synced; what lies above it was written and synced again.
    pub durable_upto: Position,
    /// The torn tail that was cut, if there was one; log it.
    pub cut: Option<Cut>,
}

/// A torn tail: bytes that never became a whole synced group, and are zeros now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: PathBuf,
    /// Where the journal ends now.
    pub offset: u64,
    /// Bytes from there to the end of the segment.
    pub bytes: u64,
    /// What was wrong.
    pub reason: Fault,
}

/// A segment and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub sequence: u64,
    /// Its file.
    pub path: PathBuf,
    /// Position of its first record.
    pub first: Position,
    /// Position of its last record; before `first` when there is none.
    pub last: Position,
    /// Size of the file.
    pub bytes: u64,
}

/// Appends groups and syncs them. The owner of the data directory has one of it, on one thread.
pub struct Journal {
    dir: PathBuf,
    options: Options,
    disk: Arc<dyn Disk>,
    /// The segment that is written to, where the next group goes, and its first position.
    current: Segment,
    offset: u64,
    current_first: Position,
    /// Whether a group of the current segment is synced, so that positions are known without older segments.
    anchored: bool,
    link: Link,
    durable: Position,
    unsynced: Unsynced,
    poisoned: bool,
    /// Older segments, oldest first.
    sealed: VecDeque<SegmentInfo>,
    /// Files for later segments: as many as the reserve needs, and perhaps one more.
    blanks: Vec<PathBuf>,
    /// Makes the next segment.
    maker: Option<JoinHandle<Result<Segment, Error>>>,
    /// What it made, once it has come to its end.
    made: Option<Result<Segment, Error>>,
}

/// What was appended since the last sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsynced {
    Nothing,
    Records,
    /// A group without records at the end, which has to be synced before anything follows it.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Ordinary,
    Urgent,
}

impl Journal {
    /// Opens the journal in `dir` and makes it when there is none: finds the end, cuts a torn tail, and writes and
    /// syncs again what nothing proves to have been synced. When it returns, everything up to [`Recovery::last`] is
    /// durable.
    ///
    /// # Errors
    /// [`Error::Hole`], [`Error::Segment`] and [`Error::MissingSegment`] when synced bytes are damaged or gone; then
    /// nothing was changed. [`Error::Full`] when there is no space for a first segment.
    pub fn open(dir: &Path, options: Options) -> Result<(Journal, Recovery), Error> {
        Journal::open_on(dir, options, Arc::new(OsDisk))
    }

    fn open_on(dir: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<(Journal, Recovery), Error> {
        let bytes = options.segment_bytes;
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes)
            || !bytes.is_multiple_of(MIN_SEGMENT_BYTES)
        {
            return Err(Error::SegmentBytes { bytes });
        }
        create_dir(&*disk, dir)?;
        let mut listing = segment::list(dir)?;
        let created = listing.segments.is_empty();
        if created {
            // Before anything else, so that a full disk can be told from a journal without reserve.
            Segment::make(
                &*disk,
                dir,
                1,
                bytes,
                listing.blanks.pop().filter(|blank| has_size(blank, bytes)),
            )?;
            listing = segment::list(dir)?;
        }
        let end = End::find(segment::open_all(dir, &listing.segments)?)?;
        let blanks = clean_up(&*disk, dir, &options, &listing, &end)?;
        let (current, cut) = end.settle(&*disk, dir)?;
        let mut journal = Journal {
            dir: dir.to_owned(),
            offset: end.offset,
            current_first: end.current_first,
            anchored: !end.groups.is_empty(),
            link: end.link,
            durable: end.last(),
            unsynced: Unsynced::Nothing,
            poisoned: false,
            sealed: end.sealed.into(),
            blanks,
            maker: None,
            made: None,
            current,
            options,
            disk,
        };
        match journal.fill_reserve() {
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        journal.start_maker();
        let recovery = Recovery { created, last: journal.last(), durable_upto: end.durable_upto, cut };
        if recovery.last > recovery.durable_upto {
            journal.vouch()?;
        }
        Ok((journal, recovery))
    }

    /// Appends one group and gives the positions of its records. Nothing is durable before [`Journal::sync`]. On
    /// success `group` is empty again, on failure it is as it was. An empty group is written too (the range is then
    /// empty): do that when going idle, after the last sync, and sync it.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::GroupTooLarge`]: nothing was written and the journal is as it was; the rest is
    /// for ever.
    pub fn append(&mut self, group: &mut Group) -> Result<RangeInclusive<Position>, Error> {
        self.write(group, Lane::Ordinary)
    }

    /// [`Journal::append`] for what has to pass when the disk is full: it may use the reserve. Once it has,
    /// `append` is [`Error::Full`] until there is space for the reserve again.
    ///
    /// # Errors
    /// Those of [`Journal::append`]; [`Error::Full`] when the reserve is used up too.
    pub fn append_urgent(&mut self, group: &mut Group) -> Result<RangeInclusive<Position>, Error> {
        self.write(group, Lane::Urgent)
    }

    /// Makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// [`Error::Sync`] the first time, [`Error::Poisoned`] ever after: the caller stops the process.
    pub fn sync(&mut self) -> Result<Durable, Error> {
        self.check()?;
        if self.unsynced != Unsynced::Nothing {
            if let Err(source) = self.disk.sync(&self.current.file) {
                self.poisoned = true;
                return Err(Error::Sync { path: self.current.path.clone(), source });
            }
            self.unsynced = Unsynced::Nothing;
            self.anchored = true;
            self.durable = self.last();
        }
        Ok(Durable(self.durable))
    }

    /// Position of the next record.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.link.next
    }

    /// Last position that is durable.
    #[must_use]
    pub fn durable_upto(&self) -> Position {
        self.durable
    }

    /// Largest group that can be appended: header and records, see [`Group::byte_len`].
    #[must_use]
    pub fn max_group_bytes(&self) -> u64 {
        self.options.segment_bytes - FIRST_GROUP
    }

    /// The segments, oldest first; the last one is being written to.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.sealed.iter().cloned().chain([self.current_info()]).collect()
    }

    /// Gives up segments, oldest first, that hold no record above `upto` and that the options do not ask to keep.
    /// Says how many.
    ///
    /// # Errors
    /// When a file cannot be renamed or removed, or its directory not synced; then the journal is poisoned.
    pub fn trim(&mut self, upto: Position) -> Result<usize, Error> {
        self.check()?;
        let mut trimmed = 0;
        while self.anchored && self.oldest_may_go(upto)? {
            let Some(oldest) = self.sealed.pop_front() else { break };
            self.recycle(&oldest).inspect_err(|_| self.poisoned = true)?;
            trimmed += 1;
        }
        Ok(trimmed)
    }

    fn write(&mut self, group: &mut Group, lane: Lane) -> Result<RangeInclusive<Position>, Error> {
        self.check()?;
        self.look_after_maker()?;
        let (bytes, limit) = (group.byte_len() as u64, self.max_group_bytes());
        if bytes > limit {
            return Err(Error::GroupTooLarge { bytes, limit });
        }
        if self.unsynced == Unsynced::Idle {
            self.sync()?;
        }
        if lane == Lane::Ordinary {
            self.fill_reserve()?;
        }
        if self.offset + bytes > self.current.bytes {
            self.roll(lane)?;
        }
        let header = group.seal(self.current.generation, self.link.next, self.durable, self.link.hash);
        let (disk, current, offset) = (&self.disk, &self.current, self.offset);
        let written = group.with_padded(offset, |image| disk.write_at(&current.file, image, offset));
        if let Err(source) = written {
            let error = Error::space("write", &self.current.path)(source);
            self.poisoned = !matches!(error, Error::Full { .. });
            return Err(error);
        }
        self.offset = (offset + bytes).next_multiple_of(ALIGN);
        self.link = Link { next: header.last_position().next(), hash: group.digest() };
        self.unsynced = if header.count == 0 { Unsynced::Idle } else { Unsynced::Records };
        group.written();
        Ok(header.first_position..=header.last_position())
    }

    /// Goes over to the next segment. The old one is synced first, so that only one segment can have a torn tail.
    fn roll(&mut self, lane: Lane) -> Result<(), Error> {
        let next = self.next_segment(lane).inspect_err(|error| self.poison_on_sync(error))?;
        self.sync()?;
        self.sealed.push_back(self.current_info());
        self.current = next;
        self.current_first = self.link.next;
        self.offset = FIRST_GROUP;
        self.anchored = false;
        self.start_maker();
        Ok(())
    }

    /// Takes note as soon as a sync of the next segment has failed, long before that segment is needed.
    fn look_after_maker(&mut self) -> Result<(), Error> {
        if let Some(maker) = self.maker.take_if(|maker| maker.is_finished()) {
            self.made = Some(join(maker)).filter(|made| !matches!(made, Err(Error::Full { .. })));
        }
        match self.made.take_if(|made| matches!(made, Err(Error::Sync { .. }))) {
            Some(Err(error)) => {
                self.poisoned = true;
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn poison_on_sync(&mut self, error: &Error) {
        self.poisoned |= matches!(error, Error::Sync { .. });
    }

    fn next_segment(&mut self, lane: Lane) -> Result<Segment, Error> {
        match self.made.take().or_else(|| self.maker.take().map(join)) {
            Some(Ok(segment)) => return Ok(segment),
            Some(Err(error @ Error::Sync { .. })) => return Err(error),
            // What failed ahead may succeed now, and its reason may be another one.
            Some(Err(_)) | None => {}
        }
        let blank = self.spare_blank();
        match self.make_segment(blank) {
            Err(Error::Full { source }) if lane == Lane::Urgent => match self.blanks.pop() {
                Some(blank) => self.make_segment(Some(blank)),
                None => Err(Error::Full { source }),
            },
            made => made,
        }
    }

    fn make_segment(&self, blank: Option<PathBuf>) -> Result<Segment, Error> {
        Segment::make(&*self.disk, &self.dir, self.current.sequence + 1, self.options.segment_bytes, blank)
    }

    /// Begins to make the segment after the current one.
    fn start_maker(&mut self) {
        let (disk, dir, bytes) = (Arc::clone(&self.disk), self.dir.clone(), self.options.segment_bytes);
        let (sequence, blank) = (self.current.sequence + 1, self.spare_blank());
        let maker = thread::Builder::new().name("journal-maker".to_owned());
        // Without a thread the segment is made when it is needed.
        self.maker = maker.spawn(move || Segment::make(&*disk, &dir, sequence, bytes, blank)).ok();
    }

    /// A blank file that the reserve does not need.
    fn spare_blank(&mut self) -> Option<PathBuf> {
        if self.blanks.len() > self.options.reserve() { self.blanks.pop() } else { None }
    }

    /// Makes blank files until the reserve is complete, which it nearly always is.
    fn fill_reserve(&mut self) -> Result<(), Error> {
        while self.blanks.len() < self.options.reserve() {
            let blank = segment::make_blank(&*self.disk, &self.dir, self.options.segment_bytes)
                .inspect_err(|error| self.poison_on_sync(error))?;
            self.blanks.push(blank);
        }
        Ok(())
    }

    fn oldest_may_go(&self, upto: Position) -> Result<bool, Error> {
        let Some(oldest) = self.sealed.front().filter(|oldest| oldest.last <= upto.min(self.durable)) else {
            return Ok(false);
        };
        let bytes: u64 = self.sealed.iter().map(|segment| segment.bytes).sum();
        if bytes + self.current.bytes > self.options.keep_bytes {
            return Ok(true);
        }
        let written = fs::metadata(&oldest.path)
            .and_then(|metadata| metadata.modified())
            .map_err(Error::io("look at", &oldest.path))?;
        // A file from the future, after the clock was set back, is young.
        let age = SystemTime::now().duration_since(written).unwrap_or_default();
        Ok(age > self.options.keep)
    }

    fn recycle(&mut self, segment: &SegmentInfo) -> Result<(), Error> {
        if segment.bytes == self.options.segment_bytes && self.blanks.len() <= self.options.reserve() {
            let blank = segment::make_blank_of(&*self.disk, &self.dir, &segment.path)?;
            self.blanks.push(blank);
            Ok(())
        } else {
            segment::remove(&*self.disk, &self.dir, &segment.path)
        }
    }

    /// Writes a group after the last records, so that they are vouched for.
    fn vouch(&mut self) -> Result<(), Error> {
        match self.append_urgent(&mut Group::new()) {
            Ok(_) => self.sync().map(|_| ()),
            // They are synced all the same; the next group says so.
            Err(Error::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    fn last(&self) -> Position {
        Position(self.link.next.0 - 1)
    }

    fn current_info(&self) -> SegmentInfo {
        SegmentInfo {
            sequence: self.current.sequence,
            path: self.current.path.clone(),
            first: self.current_first,
            last: self.last(),
            bytes: self.current.bytes,
        }
    }
}

impl Drop for Journal {
    /// Waits for the thread that makes the next segment, so that nothing touches the directory afterwards. Syncs
    /// nothing.
    fn drop(&mut self) {
        // A panic of that thread has been reported by itself.
        let _ = self.maker.take().map(JoinHandle::join);
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.dir)
            .field("next", &self.link.next)
            .field("durable", &self.durable)
            .field("segment", &self.current.sequence)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Where a journal on disk ends.
struct End {
    sealed: Vec<SegmentInfo>,
    current: Segment,
    current_first: Position,
    /// Numbers of the segments after it, which hold nothing.
    surplus: Vec<u64>,
    /// Where the next group goes and what it says.
    offset: u64,
    link: Link,
    torn: Option<Fault>,
    durable_upto: Position,
    /// Groups of the current segment: where they begin and their last position.
    groups: Vec<(u64, Position)>,
}

impl End {
    fn find(mut segments: Vec<Segment>) -> Result<End, Error> {
        // Each segment was synced before the next got its first group, so what is after the last but one decides.
        let mut start = 0;
        for (index, segment) in segments.iter().enumerate().rev() {
            if segment.find_group(FIRST_GROUP)?.is_some() {
                start = index.saturating_sub(1);
                break;
            }
        }
        let mut walk = Walk::new(segments.split_off(start));
        let mut groups = Vec::new();
        let mut durable_upto = segment::BEFORE_FIRST;
        let mut at = 0;
        let tail = loop {
            match walk.step()? {
                Step::Group(view) => {
                    if view.segment != at {
                        groups.clear();
                        at = view.segment;
                    }
                    groups.push((view.offset, view.header.last_position()));
                    durable_upto = durable_upto.max(view.header.durable_upto);
                }
                Step::Hole(hole) => return Err(walk.hole_error(&hole)),
                Step::End(tail) => break tail,
            }
        };
        segments.extend(walk.into_segments());
        End::assemble(segments, start, &tail, durable_upto, groups)
    }

    fn assemble(
        mut segments: Vec<Segment>,
        start: usize,
        tail: &Tail,
        durable_upto: Position,
        groups: Vec<(u64, Position)>,
    ) -> Result<End, Error> {
        let surplus =
            segments.split_off(start + tail.index + 1).iter().map(|segment| segment.sequence).collect();
        let current = segments.pop().expect("the walk ends in one of its segments");
        let Some(link) = tail.link else {
            return Err(Error::Hole { path: current.path, offset: FIRST_GROUP, fault: Fault::NoGroup });
        };
        let current_first = if groups.is_empty() { link.next } else { first_position(&current)? };
        let mut sealed = Vec::with_capacity(segments.len());
        let mut after = current_first;
        for segment in segments.iter().rev() {
            let first = first_position(segment)?;
            sealed.push(SegmentInfo {
                sequence: segment.sequence,
                path: segment.path.clone(),
                first,
                last: Position(after.0.saturating_sub(1)),
                bytes: segment.bytes,
            });
            after = first;
        }
        sealed.reverse();
        Ok(End {
            sealed,
            current,
            current_first,
            surplus,
            offset: tail.offset,
            link,
            torn: tail.torn,
            durable_upto,
            groups,
        })
    }

    fn last(&self) -> Position {
        Position(self.link.next.0 - 1)
    }

    /// Makes what is on disk what it was read as: no bytes of a torn tail, and everything else synced.
    fn settle(&self, disk: &dyn Disk, dir: &Path) -> Result<(Segment, Option<Cut>), Error> {
        let current = Segment::open(dir, self.current.sequence, true)?;
        let cut = self.torn.map(|reason| Cut {
            segment: current.path.clone(),
            offset: self.offset,
            bytes: current.bytes - self.offset,
            reason,
        });
        if cut.is_some() {
            segment::write_zeros(disk, &current.file, &current.path, self.offset, current.bytes)?;
        }
        // After a failed sync the system may hold pages for clean that never reached the disk. The last group is
        // written again in any case: without records, nothing tells whether it was synced.
        let proven = self.groups.partition_point(|(_, last)| *last <= self.durable_upto);
        let again = proven.min(self.groups.len().saturating_sub(1));
        if let Some(&(from, _)) = self.groups.get(again) {
            let mut bytes = vec![0; (self.offset - from) as usize];
            current
                .file
                .read_exact_at(&mut bytes, from)
                .and_then(|()| disk.write_at(&current.file, &bytes, from))
                .map_err(Error::io("write", &current.path))?;
        }
        disk.sync(&current.file).map_err(Error::sync(&current.path))?;
        Ok((current, cut))
    }
}

/// Position of the first group of a segment that has one.
fn first_position(segment: &Segment) -> Result<Position, Error> {
    match segment.group_at(FIRST_GROUP)? {
        Ok(view) => Ok(view.header.first_position),
        Err(fault) => Err(Error::Hole { path: segment.path.clone(), offset: FIRST_GROUP, fault }),
    }
}

fn join(maker: JoinHandle<Result<Segment, Error>>) -> Result<Segment, Error> {
    maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::space("create", dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => segment::sync_dir(disk, parent),
        None => Ok(()),
    }
}

/// Removes what nobody needs, and gives the files that can become segments.
fn clean_up(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
    listing: &Listing,
    end: &End,
) -> Result<Vec<PathBuf>, Error> {
    let mut blanks = listing.blanks.clone();
    // From the last, so that no number is ever missing in between.
    for &sequence in end.surplus.iter().rev() {
        blanks.push(segment::make_blank_of(disk, dir, &segment::path(dir, sequence))?);
    }
    let (mut keep, mut remove): (Vec<_>, Vec<_>) =
        blanks.into_iter().partition(|blank| has_size(blank, options.segment_bytes));
    remove.extend(keep.drain(keep.len().min(options.reserve().saturating_add(1))..));
    for file in remove.iter().chain(&listing.unfinished) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", file)(error));
            }
            _ => {}
        }
    }
    Ok(keep)
}

fn has_size(file: &Path, bytes: u64) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.len() == bytes)
}
