//! The one walk over untrusted bytes, and the skips that rely on it.

use super::{ELEMENTS_PER_BYTE, MAX_DEPTH, MAX_ELEMENTS, Shape as RowShape, tag};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};

/// Proves the value at the start of `bytes` sound and gives its encoded length.
///
/// # Errors
/// [`ErrorKind::Truncated`], [`ErrorKind::LengthForm`], [`ErrorKind::CountTooLarge`],
/// [`ErrorKind::TooDeep`], [`ErrorKind::TooManyElements`], [`ErrorKind::UnknownTag`],
/// [`ErrorKind::TypeDescription`], [`ErrorKind::EmptyRows`]; the offset is from the start of `bytes`.
pub fn check(bytes: &[u8]) -> Result<usize, Error> {
    check_with(bytes, MIN_ROWS)
}

/// As [`check`]; rows of an array of at least `min_rows` are compared as wholes, as long as they are alike.
#[inline]
fn check_with(bytes: &[u8], min_rows: usize) -> Result<usize, Error> {
    check_value(bytes, &mut { MAX_ELEMENTS - 1 }, min_rows)
}

/// As [`check`], for one of several values that share a `budget` of elements: a list of values costs no
/// more than one value of the same length.
#[inline(never)]
pub(crate) fn check_within(bytes: &[u8], budget: &mut usize) -> Result<usize, Error> {
    spend(budget, 1, Cursor::new(bytes))?;
    check_value(bytes, budget, MIN_ROWS)
}

/// Inlined, so that the budget of the one value of a push stays in a register.
#[inline(always)]
fn check_value(bytes: &[u8], budget: &mut usize, min_rows: usize) -> Result<usize, Error> {
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
                if tag == tag::ARRAY && count >= min_rows && depth < MAX_DEPTH {
                    left -= rows_alike(&mut cursor, count, budget);
                }
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

/// Rows from which on it is worth while to look for what they have in common.
const MIN_ROWS: usize = 3;

/// Moves behind the rows that have the shape of the first, up to one that has not, at most `count`, and gives their
/// number. What is not like the first is for the walk, and so is what is wrong.
fn rows_alike(cursor: &mut Cursor<'_>, count: usize, budget: &mut usize) -> usize {
    let Some(shape) = RowShape::of(cursor.rest()) else { return 0 };
    let mut rows = 0;
    while rows < count
        && let Some(row) = shape.row(cursor.rest())
        && let Some(left) = budget.checked_sub(shape.cells())
        && cursor.take(row.len()).is_ok()
    {
        *budget = left;
        rows += 1;
    }
    rows
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

/// Marks with 0xff where in `bytes`, one checked value, tags, lengths and counts stand, in `mask` of the same length.
/// `None`: there is a compact array, whose rows have lengths of their own.
pub(super) fn mark_structure(bytes: &[u8], mask: &mut [u8]) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let mut pending = 1_usize;
    while pending > 0 {
        pending -= 1;
        let begin = cursor.position();
        let content = match Shape::of(cursor.u8().ok()?) {
            Shape::Container => {
                pending = pending.checked_add(cursor.length().ok()?)?;
                0
            }
            Shape::Fixed(width) => usize::from(width),
            Shape::Bytes => cursor.length().ok()?,
            Shape::Bits => cursor.length().ok()?.div_ceil(8),
            Shape::CompactArray | Shape::Unknown => return None,
        };
        mask.get_mut(begin..cursor.position())?.fill(0xff);
        cursor.take(content).ok()?;
    }
    Some(())
}

/// `depth` containers are open, the compact array included.
fn check_compact_array(cursor: &mut Cursor<'_>, depth: usize, budget: &mut usize) -> Result<(), Error> {
    let types = *cursor;
    check_type(cursor, depth, budget)?;
    let length = cursor.length()?;
    let mut contents = cursor.split(length)?;
    // Only here can elements be had for nothing: they are held to the bytes that they came in.
    let encoded = cursor.position() - types.position();
    let most = encoded.saturating_mul(ELEMENTS_PER_BYTE).min(*budget);
    let mut left = most;
    walk_rows(types, &mut contents, &mut left)?;
    *budget -= most - left;
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::axdr::Writer;

    /// A cell of a row, and another of the same shape.
    fn cell(kind: u8, seed: u64, writer: &mut Writer<'_>) {
        match kind % 12 {
            0 => writer.null(),
            1 => writer.u16(seed as u16),
            2 => writer.u32(seed as u32),
            3 => writer.i64(seed.cast_signed()),
            4 => writer.octet_string(&seed.to_be_bytes()),
            5 => writer.octet_string(&[seed as u8; 12]),
            6 => writer.delta_i16(seed as i16),
            7 => writer.enum_(seed as u8),
            8 => writer.f32_bits(seed as u32),
            9 => writer.bit_string(12, &seed.to_be_bytes()[..2]),
            10 => writer.structure(1).null(),
            _ => writer.date_time(crate::axdr::DateTime([seed as u8; 12])),
        };
    }

    /// Arrays of rows of two shapes, inside so many other arrays.
    fn rows() -> impl Strategy<Value = Vec<u8>> {
        let kinds = || prop::collection::vec(any::<u8>(), 0..30);
        let shapes = prop::collection::vec((any::<u64>(), prop::bool::weighted(0.1)), 0..30);
        (kinds(), kinds(), shapes, 0..MAX_DEPTH).prop_map(|(first, second, rows, depth)| {
            let mut bytes = vec![];
            for _ in 1..depth {
                Writer::new(&mut bytes).array(1);
            }
            let mut writer = Writer::new(&mut bytes);
            writer.array(rows.len());
            for (seed, is_other) in rows {
                let kinds = if is_other { &second } else { &first };
                writer.structure(kinds.len());
                kinds.iter().for_each(|&kind| cell(kind, seed, &mut writer));
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn rows_compared_as_wholes_are_checked_as_those_that_are_walked(
            bytes in rows(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<prop::sample::Index>(),
            is_cut: bool,
        ) {
            let mut bytes = bytes;
            prop_assert_eq!(check_with(&bytes, 1), check_with(&bytes, usize::MAX));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            prop_assert_eq!(check_with(&bytes, 1), check_with(&bytes, usize::MAX));
        }

        #[test]
        fn rows_of_one_shape_come_out_by_it_as_without_it(bytes in rows()) {
            // It may be too deep.
            let Ok((value, _)) = crate::axdr::parse(&bytes) else { return Ok(()) };
            let mut open = vec![value];
            while let Some(value) = open.pop() {
                let crate::axdr::Value::Array(rows) = value else { continue };
                let (mut rows, mut walked) = (rows.iter(), rows.iter());
                while let Some(shape) = rows.shape() {
                    while let Some(row) = rows.next_of(&shape) {
                        let (value, rest) = crate::axdr::parse(row).unwrap();
                        prop_assert_eq!((Some(value), rest.len()), (walked.next(), 0));
                        let crate::axdr::Value::Structure(cells) = value else { panic!() };
                        prop_assert_eq!(cells.len(), shape.cells());
                        for (cell, content) in cells.iter().zip(shape.contents()) {
                            if let crate::axdr::Value::OctetString(bytes) = cell {
                                prop_assert_eq!(bytes, &row[content]);
                            }
                        }
                    }
                }
                for row in rows {
                    prop_assert_eq!(Some(row), walked.next());
                    open.push(row);
                }
                prop_assert_eq!(walked.next(), None);
            }
        }
    }

    #[test]
    fn rows_alike_cost_as_many_elements_as_others() {
        let mut bytes = vec![];
        let rows = MAX_ELEMENTS / 9 + 1;
        let mut writer = Writer::new(&mut bytes);
        writer.array(rows);
        for _ in 0..rows {
            writer.structure(8);
            (0..8).for_each(|_| _ = writer.u8(1));
        }
        let refused = check(&bytes);
        assert_eq!(refused, check_with(&bytes, usize::MAX));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::TooManyElements);
    }
}
