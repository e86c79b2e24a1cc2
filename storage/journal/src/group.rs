//! One group: what is appended as a whole. Layout in the crate's documentation.

use model::{Digest, Position, Source, SourceCounts};

use crate::error::Fault;

/// Bytes of the header this version writes.
pub const GROUP_HEADER_BYTES: usize = FIXED_BYTES + COUNTS_BYTES * Source::ALL.len();

pub(crate) const FIXED_BYTES: usize = 64;
/// Groups begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;
pub(crate) const MAGIC: [u8; 4] = *b"UJGR";
const COUNTS_BYTES: usize = 24;
const CRC_AT: usize = 56;
const RECORD_LENGTH_BYTES: usize = 4;
const VERSION: u16 = 1;
/// A write ends with its page, so that the system need not read the rest of a page it does not have.
const PAGE: u64 = 4096;

/// Records on their way into the journal. [`crate::Journal::append`] empties it when it succeeds and leaves it alone
/// when it does not, so one `Group` serves for ever.
#[derive(Clone, Debug)]
pub struct Group {
    /// Room for the header, then the records as they will be on disk.
    image: Vec<u8>,
    count: u32,
    counts: [SourceCounts; Source::ALL.len()],
}

impl Default for Group {
    fn default() -> Self {
        Group::new()
    }
}

impl Group {
    /// No records, no counts.
    #[must_use]
    pub fn new() -> Group {
        Group { image: vec![0; GROUP_HEADER_BYTES], count: 0, counts: Default::default() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|image| image.extend_from_slice(record));
    }

    /// Adds the record that `write` appends to what it is given. It must not touch what is there already.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.image.len();
        self.image.extend_from_slice(&[0; RECORD_LENGTH_BYTES]);
        write(&mut self.image);
        let (start, bytes) = (at + RECORD_LENGTH_BYTES, self.image.len());
        assert!(bytes >= start, "a record is appended");
        // A length beyond 32 bits is cut here, but then the group fits into no segment and is refused as a whole.
        self.image[at..start].copy_from_slice(&((bytes - start) as u32).to_le_bytes());
        self.count += 1;
    }

    /// Frames of `source` to be counted with this group. They are written with records only: an empty group leaves
    /// them here for the next one, because a count without a position could not be counted exactly once in a replay.
    pub fn counts_mut(&mut self, source: Source) -> &mut SourceCounts {
        &mut self.counts[source.index()]
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Header and records, bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.image.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Drops records and counts.
    pub fn clear(&mut self) {
        self.image.truncate(GROUP_HEADER_BYTES);
        self.count = 0;
        self.counts = Default::default();
    }

    /// Drops what a group on disk holds now.
    pub(crate) fn written(&mut self) {
        if !self.is_empty() {
            self.clear();
        }
    }

    /// Puts the header in place.
    pub(crate) fn seal(
        &mut self,
        generation: u64,
        first_position: Position,
        durable_upto: Position,
        previous: Digest,
    ) -> GroupHeader {
        let header = GroupHeader {
            generation,
            first_position,
            durable_upto,
            count: self.count,
            length: u32::try_from(self.image.len() - GROUP_HEADER_BYTES)
                .expect("the group fits into a segment"),
            previous,
            counts: if self.is_empty() { Default::default() } else { self.counts },
            sources: Source::ALL.len() as u16,
        };
        self.image[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = checksum(&self.image);
        self.image[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Hash of the sealed group.
    pub(crate) fn digest(&self) -> Digest {
        digest(&self.image)
    }

    /// Hands out the sealed group with zeros up to the end of the page, for a write at `offset` of a segment, which
    /// ends with a page too.
    pub(crate) fn with_padded<T>(&mut self, offset: u64, write: impl FnOnce(&[u8]) -> T) -> T {
        let bytes = self.image.len();
        let page_end = (offset + bytes as u64).next_multiple_of(PAGE);
        self.image.resize((page_end - offset) as usize, 0);
        let result = write(&self.image);
        self.image.truncate(bytes);
        result
    }
}

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Life of the segment file it was written in.
    pub generation: u64,
    /// Position of the first record; of the next one when there is none.
    pub first_position: Position,
    /// Every record at or below it was synced before this group was written.
    pub durable_upto: Position,
    /// Number of records.
    pub count: u32,
    /// Bytes of the records with their lengths.
    pub length: u32,
    /// Hash of the group before: first 16 bytes of BLAKE3 of its header and records.
    pub previous: Digest,
    /// Frames by [`Source::index`].
    pub counts: [SourceCounts; Source::ALL.len()],
    /// Number of sources its writer knew.
    sources: u16,
}

impl GroupHeader {
    /// Position of the last record; of the one before when there is none.
    #[must_use]
    pub fn last_position(&self) -> Position {
        Position(self.first_position.0 - 1 + u64::from(self.count))
    }

    /// Header and records, bytes.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        (header_bytes(self.sources) as u64) + u64::from(self.length)
    }

    /// The bytes on disk, with zeros in the place of the checksum.
    fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let (fixed, counts) = bytes.split_at_mut(FIXED_BYTES);
        fixed[0..4].copy_from_slice(&MAGIC);
        fixed[4..6].copy_from_slice(&VERSION.to_le_bytes());
        fixed[6..8].copy_from_slice(&self.sources.to_le_bytes());
        fixed[8..16].copy_from_slice(&self.generation.to_le_bytes());
        fixed[16..24].copy_from_slice(&self.first_position.0.to_le_bytes());
        fixed[24..32].copy_from_slice(&self.durable_upto.0.to_le_bytes());
        fixed[32..36].copy_from_slice(&self.count.to_le_bytes());
        fixed[36..40].copy_from_slice(&self.length.to_le_bytes());
        fixed[40..56].copy_from_slice(&self.previous.0);
        for (place, source) in counts.chunks_exact_mut(COUNTS_BYTES).zip(&self.counts) {
            place[0..8].copy_from_slice(&source.received.to_le_bytes());
            place[8..16].copy_from_slice(&source.redelivered.to_le_bytes());
            place[16..24].copy_from_slice(&source.refused.to_le_bytes());
        }
        bytes
    }

    /// Reads the first 64 bytes of a header; `counts` stay zero. Says how long the group claims to be, no more.
    pub(crate) fn decode_fixed(bytes: &[u8]) -> Result<GroupHeader, Fault> {
        let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or(Fault::TooShort)?;
        if fixed[0..4] != MAGIC {
            return Err(Fault::NoGroup);
        }
        let version = u16_at(fixed, 4);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        let sources = u16_at(fixed, 6);
        if usize::from(sources) > Source::ALL.len() {
            return Err(Fault::Sources(sources));
        }
        let mut previous = [0; 16];
        previous.copy_from_slice(&fixed[40..56]);
        Ok(GroupHeader {
            generation: u64_at(fixed, 8),
            first_position: Position(u64_at(fixed, 16)),
            durable_upto: Position(u64_at(fixed, 24)),
            count: u32_at(fixed, 32),
            length: u32_at(fixed, 36),
            previous: Digest(previous),
            counts: Default::default(),
            sources,
        })
    }
}

/// Whom a group says it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) first_position: Position,
    pub(crate) previous: Digest,
}

/// Reads from the first 64 bytes of what may have been a group whom it follows; nothing is checked.
pub(crate) fn claim(fixed: &[u8; FIXED_BYTES]) -> Claim {
    let mut previous = [0; 16];
    previous.copy_from_slice(&fixed[40..56]);
    Claim { first_position: Position(u64_at(fixed, 16)), previous: Digest(previous) }
}

/// Reads one group from the start of `bytes`, which may go on after it. Never panics, whatever the bytes are.
///
/// # Errors
/// Says what is wrong with the bytes. Whether the group *belongs* there (generation, hash of the one before) is not
/// looked at.
pub fn parse_group(bytes: &[u8]) -> Result<(GroupHeader, Records<'_>), Fault> {
    let mut header = GroupHeader::decode_fixed(bytes)?;
    let whole = usize::try_from(header.byte_len()).map_err(|_| Fault::Length)?;
    let group = bytes.get(..whole).ok_or(Fault::Length)?;
    if u32_at(group, CRC_AT) != checksum(group) {
        return Err(Fault::Checksum);
    }
    let (head, body) = group.split_at(header_bytes(header.sources));
    for (counts, bytes) in header.counts.iter_mut().zip(head[FIXED_BYTES..].chunks_exact(COUNTS_BYTES)) {
        *counts = SourceCounts {
            received: u64_at(bytes, 0),
            redelivered: u64_at(bytes, 8),
            refused: u64_at(bytes, 16),
        };
    }
    let (first, count) = (header.first_position.0, u64::from(header.count));
    if first == 0 || first.checked_add(count).is_none() || header.durable_upto.0 >= first {
        return Err(Fault::Positions);
    }
    if head[60..FIXED_BYTES] != [0; 4] || !records_fill(body, header.count) {
        return Err(Fault::Records);
    }
    Ok((header, Records::new(&header, body, Position(0))))
}

/// The records of a group with their positions, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    next: u64,
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// `body` is what [`records_fill`] accepted; records at or below `after` are left out.
    fn new(header: &GroupHeader, body: &'a [u8], after: Position) -> Records<'a> {
        let mut records = Records { next: header.first_position.0, rest: body };
        while records.next <= after.0 && records.next().is_some() {}
        records
    }

    /// Of a group that [`parse_group`] accepted.
    pub(crate) fn of(header: &GroupHeader, group: &'a [u8], after: Position) -> Records<'a> {
        Records::new(header, &group[header_bytes(header.sources)..], after)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (Position, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (record, rest) = split_record(self.rest)?;
        let position = Position(self.next);
        self.next += 1;
        self.rest = rest;
        Some((position, record))
    }
}

/// Hash of a group: of its header and records.
pub(crate) fn digest(group: &[u8]) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(group).as_bytes()[..16]);
    Digest(digest)
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn records_fill(mut body: &[u8], count: u32) -> bool {
    for _ in 0..count {
        match split_record(body) {
            Some((_, rest)) => body = rest,
            None => return false,
        }
    }
    body.is_empty()
}

fn checksum(group: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&group[..CRC_AT]), &group[CRC_AT + 4..])
}

fn header_bytes(sources: u16) -> usize {
    FIXED_BYTES + COUNTS_BYTES * usize::from(sources)
}

/// Callers have checked the length.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | (u32::from(u16_at(bytes, at + 2)) << 16)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(records: &[&[u8]]) -> Vec<u8> {
        let mut group = Group::new();
        for record in records {
            group.push(record);
        }
        *group.counts_mut(Source::Mqtt) = SourceCounts { received: 3, redelivered: 1, refused: 0x0102 };
        group.seal(0x1122_3344_5566_7788, Position(7), Position(6), Digest([0xab; 16]));
        group.image
    }

    #[test]
    fn a_group_has_these_bytes() {
        let mut golden = Vec::new();
        golden.extend(b"UJGR");
        golden.extend([1, 0, 4, 0]);
        golden.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([2, 0, 0, 0]);
        golden.extend([13, 0, 0, 0]);
        golden.extend([0xab; 16]);
        golden.extend([0, 0, 0, 0]);
        golden.extend([0, 0, 0, 0]);
        golden.extend([0; 48]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        golden.extend([0; 24]);
        golden.extend([3, 0, 0, 0, b'o', b'n', b'e', 2, 0, 0, 0, b'2', b'!']);
        let crc = crc32c::crc32c(&[&golden[..56], &golden[60..]].concat());
        assert_eq!(crc, 3_956_473_546);
        golden[56..60].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(sealed(&[b"one", b"2!"]), golden);
    }

    #[test]
    fn a_group_reads_back() {
        let bytes = sealed(&[b"one", b"", b"2!"]);
        let (header, records) = parse_group(&bytes).unwrap();
        let records: Vec<_> = records.collect();
        assert_eq!(records, [(Position(7), &b"one"[..]), (Position(8), b""), (Position(9), b"2!")]);
        assert_eq!(header.last_position(), Position(9));
        assert_eq!(header.counts[Source::Mqtt.index()].refused, 0x0102);
        assert_eq!(header.counts[Source::Tcp.index()], SourceCounts::default());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sealed(&[b"one", b"2!"]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_group(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(parse_group(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn counts_wait_for_a_group_with_records() {
        let mut group = Group::new();
        group.counts_mut(Source::Tcp).refused = 5;
        let header = group.seal(1, Position(1), Position(0), Digest::default());
        assert_eq!(header.counts[Source::Tcp.index()].refused, 0);
        group.written();
        group.push(b"record");
        let header = group.seal(1, Position(1), Position(0), Digest::default());
        assert_eq!(header.counts[Source::Tcp.index()].refused, 5);
        group.written();
        assert_eq!(group.counts_mut(Source::Tcp).refused, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_with_a_right_checksum_parse_or_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 64..400), sources in 0..6_u16, count in 0..4_u32) {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
            bytes[6..8].copy_from_slice(&sources.to_le_bytes());
            bytes[32..36].copy_from_slice(&count.to_le_bytes());
            let length = bytes.len().saturating_sub(header_bytes(sources)) as u32;
            bytes[36..40].copy_from_slice(&length.to_le_bytes());
            let crc = checksum(&bytes);
            bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
            if let Ok((header, records)) = parse_group(&bytes) {
                prop_assert_eq!(records.count(), header.count as usize);
            }
        }
    }
}
