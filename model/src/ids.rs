//! Identifiers. Dense ids are never reused; what people write down (account number, system title) is kept apart
//! from them.

use std::fmt::{self, Write};
use std::str::FromStr;

macro_rules! dense_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

dense_id! {
    /// A meter of the partition: dense, given at registration, never reused. The first is 1.
    MeterId, u32
}
dense_id! {
    /// An account of the partition: dense, given at registration, never reused. The first is 1.
    AccountId, u32
}
dense_id! {
    /// Number of a record in the journal: dense, the first is 1; 0 stands before it.
    Position, u64
}
dense_id! {
    /// Number of an entry of the registry's outbox: rising, the first is 1; 0 stands before it.
    OutboxId, u64
}

impl AccountId {
    /// Stands for no account: money that is in suspense.
    pub const SUSPENSE: AccountId = AccountId(0);
}

impl Position {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

/// DLMS system title: 3 letters of the manufacturer's FLAG id and 5 bytes of its own. It identifies the sender of
/// ciphered APDUs and is not secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemTitle(pub [u8; 8]);

impl fmt::Display for SystemTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for SystemTitle {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(SystemTitle).ok_or(IdError::SystemTitle)
    }
}

/// First 16 bytes of the BLAKE3 hash of some bytes: of a frame as received, or of a tariff's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Digest).ok_or(IdError::Digest)
    }
}

/// OBIS code (IEC 62056-61), written `1.0.99.1.0.255`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObisCode(pub [u8; 6]);

impl fmt::Display for ObisCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a}.{b}.{c}.{d}.{e}.{g}")
    }
}

impl FromStr for ObisCode {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut code = [0; 6];
        let mut parts = text.split('.');
        for byte in &mut code {
            *byte = parts.next().and_then(|part| part.parse().ok()).ok_or(IdError::ObisCode)?;
        }
        parts.next().is_none().then_some(ObisCode(code)).ok_or(IdError::ObisCode)
    }
}

/// Number on the consumer's bill: the discom's letters and ten digits, for example `PUVVNL1234567890`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountNumber(String);

impl AccountNumber {
    /// The number as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountNumber {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
        let digits = &text[letters..];
        let well_formed = (2..=8).contains(&letters)
            && digits.len() == 10
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        well_formed.then(|| AccountNumber(text.to_owned())).ok_or(IdError::AccountNumber)
    }
}

/// Text that is not the identifier it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 16 hexadecimal digits.
    #[error("a system title is 16 hexadecimal digits")]
    SystemTitle,
    /// Not 32 hexadecimal digits.
    #[error("a digest is 32 hexadecimal digits")]
    Digest,
    /// Not six numbers from 0 to 255 with dots between them.
    #[error("an OBIS code is six numbers from 0 to 255 with dots between them")]
    ObisCode,
    /// Not the letters of a discom and ten digits.
    #[error("an account number is 2 to 8 capital letters of the discom and 10 digits")]
    AccountNumber,
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    // Without the machinery of formats: a digest is written for each frame.
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0x0f)]];
    bytes.iter().flat_map(digits).try_for_each(|digit| f.write_char(digit))
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        for code in ["1.0.99.1.0.255", "0.4.25.9.0.255"] {
            assert_eq!(code.parse::<ObisCode>().unwrap().to_string(), code);
        }
        let title = "4d4d4d0000bc614e";
        assert_eq!(title.parse::<SystemTitle>().unwrap().to_string(), title);
        let number = "PUVVNL1234567890";
        assert_eq!(number.parse::<AccountNumber>().unwrap().to_string(), number);
    }

    #[test]
    fn malformed_ids_are_refused() {
        for bad in ["", "1.0.99.1.0", "1.0.99.1.0.255.1", "1.0.99.1.0.256", "a.b.c.d.e.f"] {
            assert_eq!(bad.parse::<ObisCode>(), Err(IdError::ObisCode), "{bad}");
        }
        for bad in ["", "4d4d4d0000bc61", "4d4d4d0000bc614g", "+d4d4d0000bc614e", "é4d4d0000bc614e"] {
            assert_eq!(bad.parse::<SystemTitle>(), Err(IdError::SystemTitle), "{bad}");
        }
        for bad in [
            "",
            "1234567890",
            "PUVVNL123456789",
            "puvvnl1234567890",
            "TOOLONGNAME1234567890",
            "PUVVNL12345678é",
        ] {
            assert_eq!(bad.parse::<AccountNumber>(), Err(IdError::AccountNumber), "{bad}");
        }
    }
}
