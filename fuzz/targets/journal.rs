//! What must hold in `journal` for any bytes: shared by the fuzz target and by the test that replays its corpus.

use journal::parse_group;

/// A group is read whole, the same from any prefix that holds it, or it is refused.
pub(crate) fn group(bytes: &[u8]) {
    check(bytes);
    // Almost no bytes have a right checksum: give it to those that claim a length they have.
    let mut mended = bytes.to_vec();
    if let Some(head) = mended.first_chunk_mut::<64>() {
        head[0..6].copy_from_slice(b"UJGR\x01\0");
        head[60..64].fill(0);
        let length = u32::from_le_bytes([head[36], head[37], head[38], head[39]]) as usize;
        let whole = 64 + 24 * usize::from(u16::from_le_bytes([head[6], head[7]])) + length;
        if let Some(group) = mended.get_mut(..whole) {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&group[..56]), &group[60..]);
            group[56..60].copy_from_slice(&crc.to_le_bytes());
        }
        check(&mended);
    }
}

fn check(bytes: &[u8]) {
    let Ok((header, records)) = parse_group(bytes) else { return };
    let whole = header.byte_len() as usize;
    assert!(whole <= bytes.len());
    assert!(header.durable_upto < header.first_position);
    let (mut position, mut length) = (header.first_position.0, 0);
    for (at, record) in records {
        assert_eq!(at.0, position);
        position += 1;
        length += 4 + record.len();
    }
    assert_eq!(position - 1, header.last_position().0);
    assert_eq!(length, header.length as usize);
    assert_eq!(parse_group(&bytes[..whole]).map(|(header, _)| header), Ok(header));
    assert!(parse_group(&bytes[..whole - 1]).is_err());
}
