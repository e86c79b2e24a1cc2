//! Segment files: their names and headers, how they are made, and how a group in one of them is found.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::Position;

use crate::disk::Disk;
use crate::error::{Error, Fault, is_full};
use crate::group::{self, ALIGN, Claim, GroupHeader, u16_at, u32_at, u64_at};
use crate::read::GroupView;

/// Smallest segment.
pub const MIN_SEGMENT_BYTES: u64 = 4096;
/// Largest segment.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Where the first group of a segment begins.
pub(crate) const FIRST_GROUP: u64 = 64;
const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"URJASEG\0";
const VERSION: u16 = 1;
/// Zeros are written, and groups looked for, in pieces of this size.
const PIECE: usize = 1 << 20;

/// A segment whose header is sound.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    /// Size of the file.
    pub(crate) bytes: u64,
}

impl Segment {
    /// Opens the segment of that number; `writable` for the one that is appended to.
    pub(crate) fn open(dir: &Path, sequence: u64, writable: bool) -> Result<Segment, Error> {
        let path = path(dir, sequence);
        let file =
            File::options().read(true).write(writable).open(&path).map_err(Error::io("open", &path))?;
        let size = file.metadata().map_err(Error::io("look at", &path))?.len();
        let mut header = [0; HEADER_BYTES];
        let sound = match file.read_exact_at(&mut header, 0) {
            Ok(()) => check_header(&header, sequence, size),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::TooShort),
            Err(source) => return Err(Error::io("read", &path)(source)),
        };
        match sound {
            Ok(generation) => Ok(Segment { path, file, sequence, generation, bytes: size }),
            Err(fault) => Err(Error::Segment { path, fault }),
        }
    }

    /// Makes segment `sequence` out of a blank file, or of nothing, and opens it for writing. Everything about it is
    /// synced when this returns. Where there is no space the blank file is given up.
    pub(crate) fn make(
        disk: &dyn Disk,
        dir: &Path,
        sequence: u64,
        bytes: u64,
        blank: Option<PathBuf>,
    ) -> Result<Segment, Error> {
        let blank = match blank {
            Some(blank) => blank,
            None => make_blank(disk, dir, bytes)?,
        };
        let made = Segment::make_of(disk, dir, sequence, bytes, &blank);
        if matches!(made, Err(Error::Full { .. })) {
            // Nobody knows of it any more; what is left goes at the next start.
            let _ = fs::remove_file(&blank);
        }
        made
    }

    fn make_of(
        disk: &dyn Disk,
        dir: &Path,
        sequence: u64,
        bytes: u64,
        blank: &Path,
    ) -> Result<Segment, Error> {
        let generation = draw();
        let path = path(dir, sequence);
        let file = File::options().read(true).write(true).open(blank).map_err(Error::io("open", blank))?;
        let mut page = [0; MIN_SEGMENT_BYTES as usize];
        page[..HEADER_BYTES].copy_from_slice(&header(sequence, generation, bytes));
        disk.write_at(&file, &page, 0).map_err(Error::space("write", blank))?;
        disk.sync(&file).map_err(Error::sync(blank))?;
        fs::rename(blank, &path).map_err(Error::space("rename", blank))?;
        sync_dir(disk, dir)?;
        Ok(Segment { path, file, sequence, generation, bytes })
    }

    /// The group at `offset`, if there is one of this generation; what comes before it is not compared.
    pub(crate) fn group_at(&self, offset: u64) -> Result<Result<GroupView, Fault>, Error> {
        let room = self.bytes.saturating_sub(offset);
        let mut fixed = [0; group::FIXED_BYTES];
        if room < fixed.len() as u64 {
            return Ok(Err(Fault::TooShort));
        }
        self.read(&mut fixed, offset)?;
        let claimed = GroupHeader::decode_fixed(&fixed).and_then(|header| match header.byte_len() {
            _ if header.generation != self.generation => Err(Fault::Generation),
            bytes if bytes > room => Err(Fault::Length),
            bytes => Ok(bytes),
        });
        let bytes = match claimed {
            Ok(bytes) => bytes,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut bytes = vec![0; bytes as usize];
        self.read(&mut bytes, offset)?;
        Ok(GroupView::parse(bytes, self.sequence, offset))
    }

    /// What would follow the group before, if a group were here: also where the magic or the generation says that there
    /// is none.
    pub(crate) fn claim_at(&self, offset: u64) -> Result<Option<Claim>, Error> {
        let mut fixed = [0; group::FIXED_BYTES];
        if self.bytes.saturating_sub(offset) < fixed.len() as u64 {
            return Ok(None);
        }
        self.read(&mut fixed, offset)?;
        Ok(Some(group::claim(&fixed)))
    }

    /// The first group of this generation at or after `from`, wherever it begins.
    pub(crate) fn find_group(&self, from: u64) -> Result<Option<GroupView>, Error> {
        let mut offset = from.next_multiple_of(ALIGN);
        if let Ok(view) = self.group_at(offset)? {
            return Ok(Some(view));
        }
        let mut piece = vec![0; PIECE];
        while offset + group::FIXED_BYTES as u64 <= self.bytes {
            let length = (self.bytes - offset).min(PIECE as u64) as usize;
            self.read(&mut piece[..length], offset)?;
            // Magic and generation are within the first 16 bytes; what is cut off is in the next piece.
            let places = (length - 15).div_ceil(ALIGN as usize);
            for place in (0..places).map(|place| place * ALIGN as usize) {
                let marked =
                    piece[place..place + 4] == group::MAGIC && u64_at(&piece, place + 8) == self.generation;
                if marked && let Ok(view) = self.group_at(offset + place as u64)? {
                    return Ok(Some(view));
                }
            }
            offset += (places * ALIGN as usize) as u64;
        }
        Ok(None)
    }

    /// Whether the file is still this segment and not already another one.
    pub(crate) fn is_still_itself(&self) -> Result<bool, Error> {
        let mut header = [0; HEADER_BYTES];
        self.read(&mut header, 0)?;
        Ok(check_header(&header, self.sequence, self.bytes) == Ok(self.generation))
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(bytes, offset).map_err(Error::io("read", &self.path))
    }
}

/// What lies in a journal's directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Numbers of the segments, rising.
    pub(crate) segments: Vec<u64>,
    /// Files that can become segments.
    pub(crate) blanks: Vec<PathBuf>,
    /// Files that were not finished.
    pub(crate) unfinished: Vec<PathBuf>,
}

/// Lists a journal's directory; files of other names are none of its business.
pub(crate) fn list(dir: &Path) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(sequence) = sequence_of(name) {
            listing.segments.push(sequence);
        } else if name.starts_with(BLANK) {
            listing.blanks.push(entry.path());
        } else if name.starts_with(MAKING) {
            listing.unfinished.push(entry.path());
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

/// Opens all segments of a directory for reading.
///
/// # Errors
/// When one is damaged or missing between others.
pub(crate) fn open_all(dir: &Path, sequences: &[u64]) -> Result<Vec<Segment>, Error> {
    let mut segments: Vec<Segment> = Vec::with_capacity(sequences.len());
    for &sequence in sequences {
        match Segment::open(dir, sequence, false) {
            Err(error) if was_trimmed(&error) => segments.clear(),
            other => segments.push(other?),
        }
    }
    match segments.windows(2).find(|pair| pair[0].sequence + 1 != pair[1].sequence) {
        Some(pair) => Err(Error::MissingSegment { dir: dir.to_owned(), sequence: pair[0].sequence + 1 }),
        None => Ok(segments),
    }
}

/// Whether a segment could not be opened because the owner has trimmed it since the listing, and with it all before
/// it. A file loses its name before it gets another header.
pub(crate) fn was_trimmed(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        Error::Segment { path, .. } => !path.exists(),
        _ => false,
    }
}

/// Makes a file full of zeros that can become a segment; synced, but for its name.
pub(crate) fn make_blank(disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<PathBuf, Error> {
    let number = draw();
    let making = dir.join(format!("{MAKING}{number:016x}"));
    let made = fill(disk, &making, bytes).and_then(|()| {
        let blank = dir.join(format!("{BLANK}{number:016x}"));
        fs::rename(&making, &blank).map_err(Error::space("rename", &making))?;
        Ok(blank)
    });
    if made.is_err() {
        // It may not even be there; what is left goes at the next start.
        let _ = fs::remove_file(&making);
    }
    made
}

/// Takes a segment out of the journal and keeps the file for a later one.
pub(crate) fn make_blank_of(disk: &dyn Disk, dir: &Path, segment: &Path) -> Result<PathBuf, Error> {
    let blank = dir.join(format!("{BLANK}{:016x}", draw()));
    fs::rename(segment, &blank).map_err(Error::io("rename", segment))?;
    sync_dir(disk, dir)?;
    Ok(blank)
}

/// Removes a file and makes sure that it stays removed.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path, file: &Path) -> Result<(), Error> {
    fs::remove_file(file).map_err(Error::io("remove", file))?;
    sync_dir(disk, dir)
}

/// Makes names in a directory survive a power cut.
pub(crate) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let file = File::open(dir).map_err(Error::io("open", dir))?;
    disk.sync(&file).map_err(Error::sync(dir))
}

/// Writes zeros from `from` to `end` and syncs them, piece by piece: one large sync would hold up those of the
/// groups that are being appended meanwhile.
pub(crate) fn write_zeros(
    disk: &dyn Disk,
    file: &File,
    path: &Path,
    from: u64,
    end: u64,
) -> Result<(), Error> {
    let zeros = vec![0; PIECE];
    let mut offset = from;
    while offset < end {
        let length = (end - offset).min(PIECE as u64);
        disk.write_at(file, &zeros[..length as usize], offset).map_err(Error::space("write", path))?;
        disk.sync(file).map_err(Error::sync(path))?;
        offset += length;
    }
    Ok(())
}

/// Whether a first group at this position may be the first of all.
pub(crate) fn is_first(sequence: u64) -> bool {
    sequence == 1
}

/// Position before the first.
pub(crate) const BEFORE_FIRST: Position = Position(0);

/// Where the segment of that number is.
pub(crate) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(name(sequence))
}

const SUFFIX: &str = ".segment";
const BLANK: &str = "blank-";
const MAKING: &str = "making-";

fn name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let sequence = digits.parse().ok()?;
    (sequence > 0 && self::name(sequence) == name).then_some(sequence)
}

fn fill(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::space("create", path))?;
    disk.allocate(&file, bytes).map_err(Error::space("allocate", path))?;
    match write_zeros(disk, &file, path, 0, bytes) {
        // Some file systems find out only now; the file is given up and never synced again.
        Err(Error::Sync { source, .. }) if is_full(&source) => Err(Error::Full { source }),
        other => other,
    }
}

/// A number that nobody can guess and that does not come twice.
fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn header(sequence: u64, generation: u64, bytes: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&sequence.to_le_bytes());
    header[24..32].copy_from_slice(&generation.to_le_bytes());
    header[32..40].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The generation, when the header is that of segment `sequence` in a file of `size` bytes.
fn check_header(header: &[u8; HEADER_BYTES], sequence: u64, size: u64) -> Result<u64, Fault> {
    if header[0..8] != MAGIC {
        return Err(Fault::NotASegment);
    }
    if u32_at(header, 60) != crc32c::crc32c(&header[..60]) {
        return Err(Fault::Checksum);
    }
    if u16_at(header, 8) != VERSION {
        return Err(Fault::Version(u16_at(header, 8)));
    }
    if u64_at(header, 16) != sequence {
        return Err(Fault::Sequence(u64_at(header, 16)));
    }
    if u64_at(header, 32) != size {
        return Err(Fault::Size(u64_at(header, 32)));
    }
    Ok(u64_at(header, 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_begins_with_these_bytes() {
        let mut golden = Vec::new();
        golden.extend(b"URJASEG\0");
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        golden.extend([0, 0, 16, 0, 0, 0, 0, 0]);
        golden.extend([0; 20]);
        golden.extend([189, 123, 229, 62]);
        assert_eq!(header(9, 0x0102_0304_0506_0708, 1 << 20), golden[..]);
    }

    #[test]
    fn only_a_segments_own_name_is_one() {
        assert_eq!(sequence_of("00000000000000000012.segment"), Some(12));
        for other in
            ["12.segment", "00000000000000000012.segment~", "+0000000000000000012.segment", "blank-12"]
        {
            assert_eq!(sequence_of(other), None, "{other}");
        }
    }
}
