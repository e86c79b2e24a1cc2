//! The check sequence of HDLC: CRC-16/X.25, low byte first on the line.

/// The polynomial x^16 + x^12 + x^5 + 1, reflected.
const POLYNOMIAL: u16 = 0x8408;

static TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut value = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The check sequence over `bytes`.
#[must_use]
pub fn check_sequence(bytes: &[u8]) -> u16 {
    let step = |value: u16, &byte: &u8| (value >> 8) ^ TABLE[usize::from((value as u8) ^ byte)];
    !bytes.iter().fold(u16::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_x_25_comes_out() {
        assert_eq!(check_sequence(b"123456789"), 0x906e);
        assert_eq!(check_sequence(&[]), 0);
    }
}
