//! Header and table of a checkpoint, to bytes and back. Layout in the crate's documentation.

use model::{Position, Section};

use crate::error::{Error, Fault};

/// Sections a checkpoint can have.
pub const MAX_SECTIONS: usize = 256;
/// Longest name of a section, bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Bytes before the table.
pub(crate) const FIXED_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"URJASTA\0";
const VERSION: u16 = 1;
const CRC_AT: usize = 36;
const ENTRY_BYTES: usize = 20;
const MAX_TABLE_BYTES: usize = MAX_SECTIONS * (ENTRY_BYTES + MAX_NAME_BYTES);

/// The first 40 bytes.
pub(crate) struct Fixed {
    pub(crate) position: Position,
    pub(crate) file_bytes: u64,
    pub(crate) table_bytes: usize,
    sections: usize,
    crc: u32,
    before_crc: [u8; CRC_AT],
}

/// One line of the table.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: u16,
    pub(crate) record_size: u32,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

/// Header and table for these sections.
pub(crate) fn encode(position: Position, sections: &[Section]) -> Result<Vec<u8>, Error> {
    if sections.len() > MAX_SECTIONS {
        return Err(Error::Section { name: String::new(), reason: "too many sections" });
    }
    let mut table = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        check(section, &sections[..index])?;
        table.extend_from_slice(&(section.bytes.len() as u64).to_le_bytes());
        table.extend_from_slice(&crc32c::crc32c(&section.bytes).to_le_bytes());
        table.extend_from_slice(&section.record_size.to_le_bytes());
        table.extend_from_slice(&section.version.to_le_bytes());
        table.extend_from_slice(&(section.name.len() as u16).to_le_bytes());
        table.extend_from_slice(section.name.as_bytes());
    }
    let bodies: usize = sections.iter().map(|section| section.bytes.len()).sum();
    let file_bytes = (FIXED_BYTES + table.len() + bodies) as u64;
    let mut head = Vec::with_capacity(FIXED_BYTES + table.len());
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    head.extend_from_slice(&position.0.to_le_bytes());
    head.extend_from_slice(&file_bytes.to_le_bytes());
    head.extend_from_slice(&(table.len() as u32).to_le_bytes());
    head.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&head), &table).to_le_bytes());
    head.extend_from_slice(&table);
    Ok(head)
}

/// What can be written is what [`decode_table`] accepts.
fn check(section: &Section, before: &[Section]) -> Result<(), Error> {
    let refuse = |reason| Err(Error::Section { name: section.name.clone(), reason });
    if section.name.is_empty() || section.name.len() > MAX_NAME_BYTES {
        return refuse("a name has 1 to 64 bytes");
    }
    if before.iter().any(|other| other.name == section.name) {
        return refuse("the name is there twice");
    }
    if !whole_records(section.bytes.len() as u64, section.record_size) {
        return refuse("its bytes are not whole records");
    }
    Ok(())
}

/// Reads the first 40 bytes; their checksum is known only with the table.
pub(crate) fn decode_fixed(bytes: &[u8; FIXED_BYTES]) -> Result<Fixed, Fault> {
    if bytes[0..8] != MAGIC {
        return Err(Fault::NotACheckpoint);
    }
    let mut fields = &bytes[8..];
    let version = u16::from_le_bytes(take(&mut fields)?);
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let _zero: [u8; 2] = take(&mut fields)?;
    let sections = u32::from_le_bytes(take(&mut fields)?) as usize;
    let position = Position(u64::from_le_bytes(take(&mut fields)?));
    let file_bytes = u64::from_le_bytes(take(&mut fields)?);
    let table_bytes = u32::from_le_bytes(take(&mut fields)?) as usize;
    let crc = u32::from_le_bytes(take(&mut fields)?);
    if sections > MAX_SECTIONS || table_bytes > MAX_TABLE_BYTES {
        return Err(Fault::Header);
    }
    let mut before_crc = [0; CRC_AT];
    before_crc.copy_from_slice(&bytes[..CRC_AT]);
    Ok(Fixed { position, file_bytes, table_bytes, sections, crc, before_crc })
}

/// Reads the table.
pub(crate) fn decode_table(fixed: &Fixed, mut table: &[u8]) -> Result<Vec<Entry>, Fault> {
    if crc32c::crc32c_append(crc32c::crc32c(&fixed.before_crc), table) != fixed.crc {
        return Err(Fault::Header);
    }
    let mut end = (FIXED_BYTES + fixed.table_bytes) as u64;
    let mut entries = Vec::with_capacity(fixed.sections);
    for _ in 0..fixed.sections {
        let entry = decode_entry(&mut table)?;
        end = end.checked_add(entry.bytes).ok_or(Fault::Table)?;
        entries.push(entry);
    }
    if table.is_empty() && end == fixed.file_bytes { Ok(entries) } else { Err(Fault::Table) }
}

fn decode_entry(table: &mut &[u8]) -> Result<Entry, Fault> {
    let bytes = u64::from_le_bytes(take(table)?);
    let crc = u32::from_le_bytes(take(table)?);
    let record_size = u32::from_le_bytes(take(table)?);
    let version = u16::from_le_bytes(take(table)?);
    let name_bytes = usize::from(u16::from_le_bytes(take(table)?));
    let (name, rest) = table.split_at_checked(name_bytes).ok_or(Fault::Table)?;
    *table = rest;
    let name = str::from_utf8(name).map_err(|_| Fault::Table)?.to_owned();
    if whole_records(bytes, record_size) {
        Ok(Entry { name, version, record_size, bytes, crc })
    } else {
        Err(Fault::Table)
    }
}

fn whole_records(bytes: u64, record_size: u32) -> bool {
    record_size > 0 && bytes.is_multiple_of(u64::from(record_size))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (head, tail) = bytes.split_first_chunk().ok_or(Fault::Table)?;
    *bytes = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn section(name: &str, record_size: u32, bytes: &[u8]) -> Section {
        Section { name: name.to_owned(), version: 3, record_size, bytes: bytes.to_owned() }
    }

    #[test]
    fn a_checkpoint_begins_with_these_bytes() {
        let mut golden = Vec::new();
        golden.extend(b"URJASTA\0");
        golden.extend([1, 0, 0, 0, 1, 0, 0, 0]);
        golden.extend([42, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([69, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([25, 0, 0, 0]);
        golden.extend([33, 167, 72, 211]);
        golden.extend([4, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0x31, 0x0a, 0xc8, 0x92]);
        golden.extend([2, 0, 0, 0, 3, 0, 5, 0]);
        golden.extend(b"meter");
        assert_eq!(encode(Position(42), &[section("meter", 2, b"abcd")]).unwrap(), golden);
    }

    #[test]
    fn sections_that_could_not_be_read_back_are_not_written() {
        let twice = [section("meter", 1, b""), section("meter", 1, b"")];
        let many: Vec<_> = (0..=MAX_SECTIONS).map(|number| section(&number.to_string(), 1, b"")).collect();
        for sections in [
            &[section("", 1, b"")][..],
            &[section(&"x".repeat(MAX_NAME_BYTES + 1), 1, b"")],
            &[section("meter", 0, b"")],
            &[section("meter", 3, b"four")],
            &twice,
            &many,
        ] {
            assert!(matches!(encode(Position(1), sections), Err(Error::Section { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_header_and_table_with_a_right_checksum_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), FIXED_BYTES..200),
            sections in 0..4_u32,
            file_bytes in 0..300_u64,
        ) {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
            bytes[12..16].copy_from_slice(&sections.to_le_bytes());
            bytes[24..32].copy_from_slice(&file_bytes.to_le_bytes());
            let table = bytes.len() - FIXED_BYTES;
            bytes[32..36].copy_from_slice(&(table as u32).to_le_bytes());
            let crc = crc32c::crc32c(&[&bytes[..36], &bytes[40..]].concat());
            bytes[36..40].copy_from_slice(&crc.to_le_bytes());
            let fixed = decode_fixed(bytes.first_chunk().unwrap()).unwrap();
            if let Ok(entries) = decode_table(&fixed, &bytes[FIXED_BYTES..]) {
                let bodies: u64 = entries.iter().map(|entry| entry.bytes).sum();
                prop_assert_eq!(bodies + bytes.len() as u64, file_bytes);
            }
        }
    }
}
