//! DELTA_BINARY_PACKED: integers as differences to the one before, each miniblock of them in as few bits as its largest
//! takes.
//!
//! The bytes are those the Parquet library makes. Its encoder takes a value at a time and asks for the type and for room
//! with each; this one takes a page, and has a loop of its own for each width, which the compiler unrolls.

/// Miniblocks of a block.
const MINIBLOCKS: usize = 4;
/// Values of a miniblock of a column of 64-bit integers, as the library has them.
const LONG: usize = 64;
/// The same for 32-bit integers.
const SHORT: usize = 32;

/// How wide the integers of a column are in Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// INT32: differences wrap at 32 bits. The values are given widened.
    Short,
    /// INT64.
    Long,
}

/// Appends the values of a page.
pub(crate) fn delta(width: Width, values: &[i64], out: &mut Vec<u8>) {
    match width {
        Width::Short => {
            encode::<SHORT, { SHORT * MINIBLOCKS }>(values, |difference| i64::from(difference as i32), out)
        }
        Width::Long => encode::<LONG, { LONG * MINIBLOCKS }>(values, |difference| difference, out),
    }
}

/// Appends the values with their first bytes together, then their second, and so on: BYTE_STREAM_SPLIT.
pub(crate) fn byte_streams(width: Width, values: &[i64], out: &mut Vec<u8>) {
    let bytes = if width == Width::Short { size_of::<i32>() } else { size_of::<i64>() };
    for byte in 0..bytes {
        out.extend(values.iter().map(|value| value.to_le_bytes()[byte]));
    }
}

fn encode<const MINI: usize, const BLOCK: usize>(
    values: &[i64],
    wrap: impl Fn(i64) -> i64,
    out: &mut Vec<u8>,
) {
    // What is over the bits of the type after `min` was taken off.
    let mask = if MINI == SHORT { u64::from(u32::MAX) } else { u64::MAX };
    put_varint(out, BLOCK as u64);
    put_varint(out, MINIBLOCKS as u64);
    put_varint(out, values.len() as u64);
    let first = values.first().copied().unwrap_or(0);
    put_zigzag(out, first);
    if values.iter().all(|value| *value == first) {
        // No differences: of each block there is the least of them and a width for each miniblock, all zero.
        let blocks = values.len().saturating_sub(1).div_ceil(BLOCK);
        out.resize(out.len() + blocks * (1 + MINIBLOCKS), 0);
        return;
    }
    let mut differences = [0; BLOCK];
    for block in (1..values.len()).step_by(BLOCK) {
        let count = BLOCK.min(values.len() - block);
        let (before, these) = (&values[block - 1..][..count], &values[block..][..count]);
        let differences = &mut differences[..count];
        let mut least = i64::MAX;
        for ((difference, value), before) in differences.iter_mut().zip(these).zip(before) {
            *difference = wrap(value.wrapping_sub(*before));
            least = least.min(*difference);
        }
        put_zigzag(out, least);
        let widths = out.len();
        out.extend([0; MINIBLOCKS]);
        for (mini, differences) in differences.chunks(MINI).enumerate() {
            let mut above = [0; MINI];
            let mut bits = 0;
            for (above, difference) in above.iter_mut().zip(differences) {
                *above = difference.wrapping_sub(least).cast_unsigned() & mask;
                bits |= *above;
            }
            let width = u64::BITS - bits.leading_zeros();
            out[widths + mini] = width as u8;
            pack(width, &above, out);
        }
    }
}

/// Appends the lowest `width` bits of each value, the first value lowest.
fn pack(width: u32, values: &[u64], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + values.len() / 8 * width as usize, 0);
    let out = &mut out[from..];
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => pack_width::<$width>(values, out),)*
                _ => {}
            }
        };
    }
    by_width!(
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    );
}

/// Eight values of `WIDTH` bits take `WIDTH` bytes.
fn pack_width<const WIDTH: usize>(values: &[u64], out: &mut [u8]) {
    for (values, out) in values.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<WIDTH>().0) {
        let mut words = [0; 8];
        for (index, value) in values.iter().enumerate() {
            let (word, bit) = (index * WIDTH / 64, index * WIDTH % 64);
            words[word] |= value << bit;
            if bit + WIDTH > 64 {
                words[word + 1] = value >> (64 - bit);
            }
        }
        for (bytes, word) in out.chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}
