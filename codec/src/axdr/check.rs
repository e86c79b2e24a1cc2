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
    check_value(bytes, &mut { MAX_ELEMENTS - 1 })
}

/// As [`check`], for one of several values that share a `budget` of elements: a list of values costs no
/// more than one value of the same length.
#[inline(never)]
pub(crate) fn check_within(bytes: &[u8], budget: &mut usize) -> Result<usize, Error> {
    spend(budget, 1, Cursor::new(bytes))?;
    check_value(bytes, budget)
}

/// Inlined, so that the budget of the one value of a push stays in a register.
#[inline(always)]
fn check_value(bytes: &[u8], budget: &mut usize) -> Result<usize, Error> {
    let mut cursor = Cursor::new(bytes);
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
        let tag = cursor.u8()?;
        match Shape::of(tag) {
            Shape::Container => {
                let count = counted(&mut cursor, at)?;
                spend(budget, count, at)?;
                push(&mut open, &mut depth, left, at)?;
                left = count;
            }
            Shape::CompactArray => {
                if depth == MAX_DEPTH {
                    return Err(at.error(ErrorKind::TooDeep));
                }
                check_compact_array(&mut cursor, depth + 1, budget)?;
            }
            Shape::Unknown => return Err(at.error(ErrorKind::UnknownTag(tag))),
            scalar => skip_scalar(&mut cursor, scalar)?,
        }
    }
}

/// Opens a container at `depth`.
#[inline]
fn push<T>(open: &mut [T; MAX_DEPTH], depth: &mut usize, container: T, at: Cursor<'_>) -> Result<(), Error> {
    let Some(slot) = open.get_mut(*depth) else {
        return Err(at.error(ErrorKind::TooDeep));
    };
    *slot = container;
    *depth += 1;
    Ok(())
}

/// A declared number of elements, each of at least one byte.
#[inline]
fn counted(cursor: &mut Cursor<'_>, at: Cursor<'_>) -> Result<usize, Error> {
    let count = cursor.length()?;
    if count > cursor.remaining() {
        return Err(at.error(ErrorKind::CountTooLarge(count)));
    }
    Ok(count)
}

#[inline]
fn spend(budget: &mut usize, elements: usize, at: Cursor<'_>) -> Result<(), Error> {
    let Some(left) = budget.checked_sub(elements) else {
        return Err(at.error(ErrorKind::TooManyElements));
    };
    *budget = left;
    Ok(())
}

/// Moves behind the body of a scalar with this shape.
#[inline(always)]
fn skip_scalar(cursor: &mut Cursor<'_>, shape: Shape) -> Result<(), Error> {
    let length = match shape {
        Shape::Fixed(width) => usize::from(width),
        Shape::Bits => cursor.length()?.div_ceil(8),
        _ => cursor.length()?,
    };
    cursor.take(length).map(|_| ())
}

/// How the body of a value is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// So many bytes.
    Fixed(u8),
    /// A length in bytes, the bytes.
    Bytes,
    /// A length in bits, the bytes that hold them.
    Bits,
    /// A count, the elements.
    Container,
    /// A type description, a length in bytes, the rows.
    CompactArray,
    Unknown,
}

impl Shape {
    /// By branches, not by a table: meters of one kind push the same tags in the same order, so the branches
    /// are foreseen, while a table would make each element wait for two loads.
    #[inline(always)]
    const fn of(tag: u8) -> Self {
        match tag {
            tag::NULL | tag::DONT_CARE => Self::Fixed(0),
            tag::BOOL | tag::BCD | tag::I8 | tag::U8 | tag::ENUM | tag::DELTA_I8 | tag::DELTA_U8 => {
                Self::Fixed(1)
            }
            tag::I16 | tag::U16 | tag::DELTA_I16 | tag::DELTA_U16 => Self::Fixed(2),
            tag::I32 | tag::U32 | tag::F32 | tag::TIME | tag::DELTA_I32 | tag::DELTA_U32 => Self::Fixed(4),
            tag::DATE => Self::Fixed(5),
            tag::I64 | tag::U64 | tag::F64 => Self::Fixed(8),
            tag::DATE_TIME => Self::Fixed(12),
            tag::OCTET_STRING | tag::VISIBLE_STRING | tag::UTF8_STRING => Self::Bytes,
            tag::BIT_STRING => Self::Bits,
            tag::ARRAY | tag::STRUCTURE => Self::Container,
            tag::COMPACT_ARRAY => Self::CompactArray,
            _ => Self::Unknown,
        }
    }
}

/// Bytes of the `count` tagged values at the start of `bytes`, which were checked.
///
/// A container only adds to what is pending, so there is no stack. Arguments and result fit in registers,
/// which the loops that call this need more than the errors that cannot be.
#[inline(never)]
pub(super) fn tagged_len(bytes: &[u8], count: usize) -> Option<usize> {
    let mut cursor = Cursor::new(bytes);
    let mut pending = count;
    while pending > 0 {
        pending -= 1;
        match Shape::of(cursor.u8().ok()?) {
            Shape::Container => pending = pending.checked_add(cursor.length().ok()?)?,
            Shape::CompactArray => {
                skip_type(&mut cursor, &mut { MAX_ELEMENTS }).ok()?;
                skip_scalar(&mut cursor, Shape::Bytes).ok()?;
            }
            scalar => skip_scalar(&mut cursor, scalar).ok()?,
        }
    }
    Some(cursor.position())
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
        spend(budget, 1, at)?;
        let tag = types.u8()?;
        let inner = match Shape::of(tag) {
            Shape::Container if tag == tag::STRUCTURE => counted(types, at)?,
            Shape::Container => {
                types.u16()?;
                1
            }
            Shape::Fixed(_) | Shape::Bytes | Shape::Bits => continue,
            Shape::CompactArray | Shape::Unknown => {
                return Err(at.error(ErrorKind::TypeDescription(tag)));
            }
        };
        push(&mut open, &mut depth, left, at)?;
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
        spend(budget, 1, at)?;
        match types.u8()? {
            tag::STRUCTURE => pending += counted(types, at)?,
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
        spend(budget, 1, at)?;
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
                skip_scalar(contents, Shape::of(tag))?;
                None
            }
        };
        if let Some(container) = container {
            push(&mut open, &mut depth, container, at)?;
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
