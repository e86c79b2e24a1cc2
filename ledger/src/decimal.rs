//! Decimal text to integers, exactly: no float on the way, and digits that do not fit are refused.

/// Why a text is not the number it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not digits with at most one point.
    #[error("not a decimal number such as \"5.50\"")]
    NotDecimal,
    /// Digits past what is kept.
    #[error("more digits after the point than are kept")]
    TooPrecise,
    /// Does not fit.
    #[error("too large")]
    TooLarge,
}

/// `text` × 10^`digits` as an integer.
///
/// # Errors
/// When it is no plain decimal number, has digits that would be lost, or does not fit.
pub fn scaled(text: &str, digits: u32) -> Result<i64, DecimalError> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalError::NotDecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = u32::try_from(fraction.len())
        .ok()
        .and_then(|length| digits.checked_sub(length))
        .ok_or(DecimalError::TooPrecise)?;
    let number: i64 = format!("{whole}{fraction}").parse().map_err(|_| DecimalError::TooLarge)?;
    let number = 10_i64.checked_pow(missing).and_then(|power| number.checked_mul(power));
    let number = number.ok_or(DecimalError::TooLarge)?;
    Ok(if negative { -number } else { number })
}

/// A share in parts per million, written `"0.75"` or `"75 %"`.
pub(crate) fn ppm(text: &str) -> Result<i64, DecimalError> {
    match text.strip_suffix('%') {
        Some(percent) => scaled(percent.trim_end(), 4),
        None => scaled(text, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        for (text, digits, number) in [
            ("5.50", 6, 5_500_000),
            ("0", 6, 0),
            ("-0.0233", 6, -23_300),
            ("110", 6, 110_000_000),
            ("1.5", 3, 1_500),
        ] {
            assert_eq!(scaled(text, digits), Ok(number), "{text}");
        }
        for text in ["", ".", "5.", ".5", "+5", "5,50", "1e3", " 5", "--5", "5.5.5", "५"] {
            assert_eq!(scaled(text, 6), Err(DecimalError::NotDecimal), "{text}");
        }
        assert_eq!(scaled("0.0000001", 6), Err(DecimalError::TooPrecise));
        assert_eq!(scaled("0.10000000", 6), Ok(100_000));
        assert_eq!(scaled("99999999999999999999", 6), Err(DecimalError::TooLarge));
    }

    #[test]
    fn shares_are_read_as_decimals_and_as_percent() {
        assert_eq!(ppm("75 %"), Ok(750_000));
        assert_eq!(ppm("75%"), Ok(750_000));
        assert_eq!(ppm("0.75"), Ok(750_000));
        assert_eq!(ppm("-2.33 %"), Ok(-23_300));
        assert_eq!(ppm("0.00001 %"), Err(DecimalError::TooPrecise));
    }
}
