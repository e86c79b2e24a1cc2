//! Decimal numbers as exact integers of a smaller unit.

/// Why a text is no number of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecimalError {
    #[error("not a number such as 12.5")]
    Malformed,
    #[error("more than {0} decimals")]
    TooFine(usize),
    #[error("too large")]
    TooLarge,
}

/// Reads `-12.5` as -12500 when `decimals` is 3: digits, at most one point, no exponent, no grouping, nothing rounded.
pub(super) fn scaled(text: &str, decimals: usize) -> Result<i64, DecimalError> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(DecimalError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals {
        return Err(DecimalError::TooFine(decimals));
    }
    let magnitude: i64 =
        format!("{whole}{fraction:0<decimals$}").parse().map_err(|_| DecimalError::TooLarge)?;
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_exact_integers() {
        for (text, decimals, expected) in [
            ("0", 3, 0),
            ("12", 3, 12_000),
            ("12.5", 3, 12_500),
            ("0.001", 3, 1),
            ("-1.05", 2, -105),
            ("500.00", 2, 50_000),
            ("1.500000", 1, 15),
            ("007", 0, 7),
            ("9223372036854775.807", 3, i64::MAX),
        ] {
            assert_eq!(scaled(text, decimals), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_exact_number_is_refused() {
        for bad in ["", "-", ".", "1.", ".5", "1,000", "+1", "1e3", "0x10", "1.2.3", "--1", "१", "1 0", "NaN"]
        {
            assert_eq!(scaled(bad, 3), Err(DecimalError::Malformed), "{bad}");
        }
        assert_eq!(scaled("1.0001", 3), Err(DecimalError::TooFine(3)));
        assert_eq!(scaled("9223372036854775.808", 3), Err(DecimalError::TooLarge));
    }
}
