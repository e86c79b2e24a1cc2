//! Numbers of the wire and their scaling, in integers throughout.
//!
//! A float becomes an integer once: the shortest decimal text that reads back to the same bits, parsed as an integer
//! and a power of ten, times the scaler, rounded half to even. No float is added, multiplied or compared.

use std::fmt::{self, Write};

use codec::axdr::Value;

/// A number as it stood on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Any integer type, boolean (0 or 1), enum or bcd. Wide enough for a sum of deltas.
    Integer(i128),
    /// A finite float, as `digits · 10^power`.
    Float { digits: i128, power: i32 },
}

impl Number {
    /// `None` where the value is no number, or a float that is none.
    pub(super) fn of(value: &Value<'_>) -> Option<Number> {
        let integer = match *value {
            Value::Bool(bit) => i128::from(bit),
            Value::I8(number) => i128::from(number),
            Value::I16(number) => i128::from(number),
            Value::I32(number) => i128::from(number),
            Value::I64(number) => i128::from(number),
            Value::U8(number) | Value::Enum(number) => i128::from(number),
            Value::U16(number) => i128::from(number),
            Value::U32(number) => i128::from(number),
            Value::U64(number) => i128::from(number),
            Value::Bcd(byte) => bcd(byte)?,
            Value::F32(bits) => return shortest(f32::from_bits(bits)),
            Value::F64(bits) => return shortest(f64::from_bits(bits)),
            _ => return None,
        };
        Some(Number::Integer(integer))
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Number::Float { .. })
    }

    /// This number moved by a delta; floats have none.
    pub(super) fn plus(self, delta: i64) -> Option<Number> {
        match self {
            Number::Integer(number) => number.checked_add(i128::from(delta)).map(Number::Integer),
            Number::Float { .. } => None,
        }
    }

    /// `self · 10^power`, rounded half to even; `None` where it does not fit.
    pub(super) fn times_power_of_ten(self, power: i32) -> Option<i64> {
        // Nearly every number of a meter is in the unit of its channel.
        if let (Number::Integer(number), 0) = (self, power) {
            return i64::try_from(number).ok();
        }
        let (digits, power) = match self {
            Number::Integer(number) => (number, power),
            Number::Float { digits, power: own } => (digits, own.checked_add(power)?),
        };
        let scaled = match u32::try_from(power) {
            Ok(_) if digits == 0 => 0,
            Ok(power) => digits.checked_mul(10_i128.checked_pow(power)?)?,
            Err(_) => divided_half_even(digits, power.unsigned_abs()),
        };
        i64::try_from(scaled).ok()
    }
}

fn bcd(byte: u8) -> Option<i128> {
    let (tens, ones) = (byte >> 4, byte & 0x0f);
    (tens <= 9 && ones <= 9).then(|| i128::from(tens * 10 + ones))
}

/// `digits / 10^power`, rounded half to even.
fn divided_half_even(digits: i128, power: u32) -> i128 {
    // Beyond 10^38 the quotient of any number here is far below one half.
    let Some(divisor) = 10_i128.checked_pow(power) else { return 0 };
    let (quotient, remainder) = (digits.div_euclid(divisor), digits.rem_euclid(divisor));
    let twice = remainder.checked_mul(2).unwrap_or(i128::MAX);
    let up = twice > divisor || (twice == divisor && quotient % 2 != 0);
    quotient + i128::from(up)
}

/// The shortest decimal that reads back, which is what the standard library prints.
fn shortest(number: impl fmt::LowerExp) -> Option<Number> {
    let mut text = Text::default();
    write!(text, "{number:e}").ok()?;
    let (mantissa, exponent) = text.as_str().split_once('e')?;
    let mut power: i32 = exponent.parse().ok()?;
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let mut digits: i128 = 0;
    let mut behind_point = false;
    for byte in mantissa.bytes() {
        match byte {
            b'.' => behind_point = true,
            b'0'..=b'9' => {
                digits = digits.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                power -= i32::from(behind_point);
            }
            _ => return None,
        }
    }
    let digits = if negative { -digits } else { digits };
    Some(Number::Float { digits, power })
}

/// Room for the longest text of a float64: sign, 17 digits, point, `e`, sign and 3 digits.
#[derive(Default)]
struct Text {
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len + part.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float32(number: f32, power: i32) -> Option<i64> {
        Number::of(&Value::F32(number.to_bits()))?.times_power_of_ten(power)
    }

    fn float64(number: f64, power: i32) -> Option<i64> {
        Number::of(&Value::F64(number.to_bits()))?.times_power_of_ten(power)
    }

    #[test]
    fn a_float_is_its_shortest_decimal_and_not_its_bits() {
        // As a double this float32 is 847.84881591796875; what the meter meant is 847.8488.
        assert_eq!(float32(847.8488, 3), Some(847_849));
        assert_eq!(float32(847.8488, 4), Some(8_478_488));
        assert_eq!(float32(0.1, 1), Some(1));
        assert_eq!(float64(13_679.920_001, 6), Some(13_679_920_001));
        assert_eq!(float32(-230.5, 1), Some(-2305));
        assert_eq!(float32(1e10, 0), Some(10_000_000_000));
    }

    #[test]
    fn halves_go_to_the_even_side() {
        for (number, rounded) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (2.500_000_1, 3)]
        {
            assert_eq!(float64(number, 0), Some(rounded), "{number}");
        }
        for (number, rounded) in [(5, 0), (15, 2), (25, 2), (26, 3), (24, 2), (-5, 0), (-15, -2), (-16, -2)] {
            assert_eq!(Number::Integer(number).times_power_of_ten(-1), Some(rounded), "{number}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(Number::of(&Value::U64(u64::MAX)).unwrap().times_power_of_ten(0), None);
        assert_eq!(Number::of(&Value::U64(i64::MAX as u64)).unwrap().times_power_of_ten(0), Some(i64::MAX));
        assert_eq!(Number::of(&Value::I64(i64::MIN)).unwrap().times_power_of_ten(0), Some(i64::MIN));
        assert_eq!(Number::Integer(1).times_power_of_ten(19), None);
        assert_eq!(Number::Integer(1).times_power_of_ten(400), None);
        assert_eq!(Number::Integer(0).times_power_of_ten(400), Some(0));
        assert_eq!(Number::Integer(i128::MAX).times_power_of_ten(-39), Some(0));
        assert_eq!(float64(1e300, 0), None);
        assert_eq!(float64(1e-300, 0), Some(0));
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Number::of(&Value::F64(none.to_bits())), None);
        }
        assert_eq!(Number::of(&Value::Bcd(0x42)), Some(Number::Integer(42)));
        assert_eq!(Number::of(&Value::Bcd(0x4a)), None);
    }

    proptest! {
        #[test]
        fn the_decimal_of_a_float_reads_back_to_its_bits(bits: u32) {
            let float = f32::from_bits(bits);
            prop_assume!(float.is_finite());
            let Some(Number::Float { digits, power }) = Number::of(&Value::F32(bits)) else { panic!("{float}") };
            let back: f32 = format!("{digits}e{power}").parse().unwrap();
            prop_assert!(back == float);
        }

        #[test]
        fn scaling_never_panics(bits: u64, power in -700..700_i32) {
            if let Some(number) = Number::of(&Value::F64(bits)) {
                let _ = number.times_power_of_ten(power);
            }
        }

        #[test]
        fn integers_scale_up_and_down_exactly(number in -1_000_000_000_i64..1_000_000_000, power in 0..9_i32) {
            let up = Number::Integer(i128::from(number)).times_power_of_ten(power).unwrap();
            prop_assert_eq!(Number::Integer(i128::from(up)).times_power_of_ten(-power), Some(number));
        }
    }
}
