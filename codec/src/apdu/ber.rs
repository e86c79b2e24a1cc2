//! The little of BER that association APDUs need: fields of one tag byte and a definite length.

use alloc::vec::Vec;

use crate::cursor::{Cursor, write_length};
use crate::error::{Error, ErrorKind};

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;

/// The low bits of a tag that goes on in further bytes; nothing here has one.
const LONG_TAG: u8 = 0x1f;

/// The next field: where it starts, its tag and its content.
pub(super) fn field<'a>(cursor: &mut Cursor<'a>) -> Result<(usize, u8, Cursor<'a>), Error> {
    let start = *cursor;
    let tag = cursor.u8()?;
    if tag & LONG_TAG == LONG_TAG {
        return Err(start.error(ErrorKind::BerTag(tag)));
    }
    let length = cursor.length()?;
    Ok((start.position(), tag, cursor.split(length)?))
}

/// The content of the one field that `cursor` holds, which must have this tag.
pub(super) fn only<'a>(mut cursor: Cursor<'a>, expected: u8) -> Result<Cursor<'a>, Error> {
    let start = cursor;
    let (_, tag, content) = field(&mut cursor)?;
    if tag != expected {
        return Err(start.error(ErrorKind::BerTag(tag)));
    }
    super::finished(&cursor)?;
    Ok(content)
}

/// A number that fits a byte; senders that put zeros before it are understood.
pub(super) fn small_number(content: &Cursor<'_>) -> Result<u8, Error> {
    match content.rest() {
        [zeros @ .., number] if zeros.iter().all(|&byte| byte == 0) => Ok(*number),
        _ => Err(content.error(ErrorKind::BerInteger)),
    }
}

/// What the object identifier `content` has behind `prefix`, which must be one byte.
pub(super) fn last_arc(content: &Cursor<'_>, prefix: &[u8]) -> Result<u8, Error> {
    match content.rest().strip_prefix(prefix) {
        Some(&[arc]) if arc < 0x80 => Ok(arc),
        _ => Err(content.error(ErrorKind::ObjectIdentifier)),
    }
}

/// Appends a field whose content is what `write` appends.
pub(super) fn write(tag: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    write_bytes(tag, &content, out);
}

/// Appends a field with this content.
pub(super) fn write_bytes(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    write_length(content.len(), out);
    out.extend_from_slice(content);
}
