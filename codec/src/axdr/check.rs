//! The one walk over untrusted bytes, and the skips that rely on it.

use super::{MAX_DEPTH, MAX_ELEMENTS, tag};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Proves the value at the start of `bytes` sound and gives its encoded length.
///
/// # Errors
/// [`ErrorKind::Truncated`], [`ErrorKind::LengthForm`], [`ErrorKind::CountTooLarge`],
/// [`ErrorKind::TooDeep`], [`ErrorKind::TooManyElements`], [`ErrorKind::UnknownTag`],
/// [`ErrorKind::TypeDescription`], [`ErrorKind::EmptyRows`]; the offset is from the start of `bytes`.
pub fn check(bytes: &[u8]) -> Result<usize, Error> {
    let mut cursor = Cursor::new(bytes);
    let mut budget = MAX_ELEMENTS;
    let mut open = [0; MAX_DEPTH];
    let mut depth = 0_usize;
    let mut left = 1;
    loop {
        while left == 0 {
            let Some(outer) = depth.checked_sub(1) else {
                return Ok(cursor.position());
            };
            depth = outer;
            left = open.get(depth).copied().unwrap_or_default();
        }
        left -= 1;
        let at = cursor;
        spend(&mut budget, 1, &at)?;
        match cursor.u8()? {
            tag::ARRAY | tag::STRUCTURE => {
                let count = counted(&mut cursor, &at)?;
                let slot = open.get_mut(depth).ok_or(at.error(ErrorKind::TooDeep))?;
                *slot = left;
                depth += 1;
                left = count;
            }
            tag::COMPACT_ARRAY => {
                if depth == MAX_DEPTH {
                    return Err(at.error(ErrorKind::TooDeep));
                }
                check_compact_array(&mut cursor, depth + 1, &mut budget)?;
            }
            tag => skip_scalar(&mut cursor, tag, &at)?,
        }
    }
}

/// A declared number of elements, each of at least one byte.
#[inline]
fn counted(cursor: &mut Cursor<'_>, at: &Cursor<'_>) -> Result<usize, Error> {
    let count = cursor.length()?;
    if count > cursor.remaining() {
        return Err(at.error(ErrorKind::CountTooLarge(count)));
    }
    Ok(count)
}

#[inline]
fn spend(budget: &mut usize, elements: usize, at: &Cursor<'_>) -> Result<(), Error> {
    *budget = budget.checked_sub(elements).ok_or(at.error(ErrorKind::TooManyElements))?;
    Ok(())
}

#[inline]
fn skip_scalar(cursor: &mut Cursor<'_>, tag: u8, at: &Cursor<'_>) -> Result<(), Error> {
    let length = match scalar_width(tag) {
        Some(Width::Fixed(width)) => width,
        Some(Width::Bytes) => cursor.length()?,
        Some(Width::Bits) => cursor.length()?.div_ceil(8),
        None => return Err(at.error(ErrorKind::UnknownTag(tag))),
    };
    cursor.take(length).map(|_| ())
}

/// How the length of a scalar's body is known.
enum Width {
    Fixed(usize),
    Bytes,
    Bits,
}

#[inline]
const fn scalar_width(tag: u8) -> Option<Width> {
    Some(match tag {
        tag::NULL | tag::DONT_CARE => Width::Fixed(0),
        tag::BOOL | tag::BCD | tag::I8 | tag::U8 | tag::ENUM | tag::DELTA_I8 | tag::DELTA_U8 => {
            Width::Fixed(1)
        }
        tag::I16 | tag::U16 | tag::DELTA_I16 | tag::DELTA_U16 => Width::Fixed(2),
        tag::I32 | tag::U32 | tag::F32 | tag::TIME | tag::DELTA_I32 | tag::DELTA_U32 => Width::Fixed(4),
        tag::DATE => Width::Fixed(5),
        tag::I64 | tag::U64 | tag::F64 => Width::Fixed(8),
        tag::DATE_TIME => Width::Fixed(12),
        tag::OCTET_STRING | tag::VISIBLE_STRING | tag::UTF8_STRING => Width::Bytes,
        tag::BIT_STRING => Width::Bits,
        _ => return None,
    })
}

/// Moves behind `count` tagged values that were checked.
#[inline]
pub(super) fn skip_tagged(cursor: &mut Cursor<'_>, count: usize) -> Result<(), Error> {
    let mut pending = count;
    while pending > 0 {
        pending -= 1;
        let at = *cursor;
        match cursor.u8()? {
            tag::ARRAY | tag::STRUCTURE => pending += counted(cursor, &at)?,
            tag::COMPACT_ARRAY => {
                skip_type(cursor, &mut { MAX_ELEMENTS })?;
                let length = cursor.length()?;
                cursor.take(length)?;
            }
            tag => skip_scalar(cursor, tag, &at)?,
        }
    }
    Ok(())
}

/// `depth` containers are open, the compact array included.
fn check_compact_array(cursor: &mut Cursor<'_>, depth: usize, budget: &mut usize) -> Result<(), Error> {
    let types = *cursor;
    check_type(cursor, depth, budget)?;
    let length = cursor.length()?;
    let mut contents = cursor.split(length)?;
    walk_rows(types, &mut contents, budget).map(|_| ())
}

/// Number of rows in the contents of a compact array that was checked.
pub(super) fn count_rows(types: &[u8], contents: &[u8]) -> Result<usize, Error> {
    walk_rows(Cursor::new(types), &mut Cursor::new(contents), &mut { MAX_ELEMENTS })
}

fn walk_rows(types: Cursor<'_>, contents: &mut Cursor<'_>, budget: &mut usize) -> Result<usize, Error> {
    let mut rows = 0;
    while contents.remaining() > 0 {
        let before = contents.position();
        walk_typed(&mut types.clone(), contents, budget)?;
        if contents.position() == before {
            return Err(contents.error(ErrorKind::EmptyRows));
        }
        rows += 1;
    }
    Ok(rows)
}

/// Checks a type description: known tags, nesting; moves behind it.
fn check_type(types: &mut Cursor<'_>, outer: usize, budget: &mut usize) -> Result<(), Error> {
    let mut open = [0; MAX_DEPTH];
    let mut depth = outer;
    let mut left = 1;
    loop {
        while left == 0 {
            if depth == outer {
                return Ok(());
            }
            depth -= 1;
            left = open.get(depth).copied().unwrap_or_default();
        }
        left -= 1;
        let at = *types;
        spend(budget, 1, &at)?;
        let inner = match types.u8()? {
            tag::STRUCTURE => counted(types, &at)?,
            tag::ARRAY => {
                types.u16()?;
                1
            }
            tag if scalar_width(tag).is_some() => continue,
            other => return Err(at.error(ErrorKind::TypeDescription(other))),
        };
        let slot = open.get_mut(depth).ok_or(at.error(ErrorKind::TooDeep))?;
        *slot = left;
        depth += 1;
        left = inner;
    }
}

/// Moves behind a type description that was checked, and charges for its types, so that rows cannot make
/// the same long description be skipped without end.
pub(super) fn skip_type(types: &mut Cursor<'_>, budget: &mut usize) -> Result<(), Error> {
    let mut pending = 1;
    while pending > 0 {
        pending -= 1;
        let at = *types;
        spend(budget, 1, &at)?;
        match types.u8()? {
            tag::STRUCTURE => pending += counted(types, &at)?,
            tag::ARRAY => {
                types.u16()?;
                pending += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A container of a type description that is being walked.
#[derive(Clone, Copy)]
struct Open<'a> {
    /// Elements to come after the one at hand.
    left: usize,
    /// Of an array: where the type of its element starts.
    element: Option<Cursor<'a>>,
}

/// Moves `contents` behind one element of the type at `types`, and `types` behind that type.
pub(super) fn walk_typed<'a>(
    types: &mut Cursor<'a>,
    contents: &mut Cursor<'_>,
    budget: &mut usize,
) -> Result<(), Error> {
    let mut open = [Open { left: 0, element: None }; MAX_DEPTH];
    let mut depth = 0_usize;
    loop {
        let at = *contents;
        spend(budget, 1, &at)?;
        let container = match types.u8()? {
            tag::STRUCTURE => Some(Open { left: types.length()?, element: None }),
            tag::ARRAY => {
                let left = usize::from(types.u16()?);
                let element = Some(*types);
                if left == 0 {
                    skip_type(types, budget)?;
                }
                Some(Open { left, element })
            }
            tag => {
                skip_scalar(contents, tag, &at)?;
                None
            }
        };
        if let Some(container) = container {
            let slot = open.get_mut(depth).ok_or(at.error(ErrorKind::TooDeep))?;
            *slot = container;
            depth += 1;
        }
        loop {
            let Some(innermost) = depth.checked_sub(1) else {
                return Ok(());
            };
            let Some(container) = open.get_mut(innermost) else {
                return Err(at.error(ErrorKind::TooDeep));
            };
            if let Some(left) = container.left.checked_sub(1) {
                container.left = left;
                *types = container.element.unwrap_or(*types);
                break;
            }
            depth = innermost;
        }
    }
}
