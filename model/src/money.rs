//! Money and rates as integers: paise for amounts, millionths of a rupee for rates, parts per million for shares.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// An amount in paise, a hundredth of a rupee. Credits of the consumer are positive where an account's balance is
/// meant; the sign of a posting line is told with the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Paise(pub i64);

impl Paise {
    /// Nothing.
    pub const ZERO: Paise = Paise(0);

    /// The amount of so many whole rupees; `None` when it does not fit.
    #[must_use]
    pub fn from_rupees(rupees: i64) -> Option<Paise> {
        rupees.checked_mul(100).map(Paise)
    }
}

impl Add for Paise {
    type Output = Paise;
    fn add(self, other: Paise) -> Paise {
        Paise(self.0 + other.0)
    }
}

impl Sub for Paise {
    type Output = Paise;
    fn sub(self, other: Paise) -> Paise {
        Paise(self.0 - other.0)
    }
}

impl Neg for Paise {
    type Output = Paise;
    fn neg(self) -> Paise {
        Paise(-self.0)
    }
}

impl AddAssign for Paise {
    fn add_assign(&mut self, other: Paise) {
        self.0 += other.0;
    }
}

impl SubAssign for Paise {
    fn sub_assign(&mut self, other: Paise) {
        self.0 -= other.0;
    }
}

impl Sum for Paise {
    fn sum<I: Iterator<Item = Paise>>(items: I) -> Paise {
        items.fold(Paise::ZERO, Add::add)
    }
}

/// Rupees with two decimals and Indian grouping, for example `-1,23,456.50`.
impl fmt::Display for Paise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", grouped(magnitude / 100), magnitude % 100)
    }
}

/// Digits in the Indian grouping: the last three, then pairs.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at(digits.len().saturating_sub(3));
    let mut out = String::with_capacity(digits.len() + digits.len() / 2);
    for (index, digit) in head.chars().enumerate() {
        out.push(digit);
        if (head.len() - index) % 2 == 1 {
            out.push(',');
        }
    }
    out + tail
}

/// A rate in millionths of a rupee, per kWh or per kW and month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroRupees(pub i64);

/// A share in parts per million; 50,000 are 5 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_with_indian_grouping() {
        for (paise, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (-5, "-0.05"),
            (99_999, "999.99"),
            (100_000, "1,000.00"),
            (12_345_650, "1,23,456.50"),
            (-1_234_567_890, "-1,23,45,678.90"),
        ] {
            assert_eq!(Paise(paise).to_string(), text);
        }
    }
}
