//! What goes wrong with answers, on demand.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Something that goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// What was asked is done, and the connection ends without an answer.
    Drop,
    /// What was asked is done, there is no answer, the connection stays.
    Silent,
    /// One bit of the last byte, the tag's where there is one, is another.
    Flip,
    /// Random bytes of the same length.
    Garbage,
    /// The answer before once more: its counter was used.
    Stale,
    /// It takes ten seconds.
    Slow,
    /// Values of the moment are pushed before it, on the same connection.
    Push,
    /// There is no memory for long values: they are a temporary failure.
    LowMemory,
    /// Everything is a temporary failure.
    Busy,
    /// It has seen higher counters of the client: what is asked under its key is refused, with the counter that is due.
    Behind,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 10] = [
        Trouble::Drop,
        Trouble::Silent,
        Trouble::Flip,
        Trouble::Garbage,
        Trouble::Stale,
        Trouble::Slow,
        Trouble::Push,
        Trouble::LowMemory,
        Trouble::Busy,
        Trouble::Behind,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Drop => "drop",
            Trouble::Silent => "silent",
            Trouble::Flip => "flip",
            Trouble::Garbage => "garbage",
            Trouble::Stale => "stale",
            Trouble::Behind => "behind",
            Trouble::Slow => "slow",
            Trouble::Push => "push",
            Trouble::LowMemory => "low-memory",
            Trouble::Busy => "busy",
        }
    }
}

/// When it goes wrong, counted in answers of the meter, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// With this answer.
    At(u32),
    /// With every answer of this many.
    Every(u32),
    /// With so many in a million, by the seed.
    Chance(u32),
}

/// A trouble and when it comes: `KIND@N`, `KIND%N`, or `KIND~PPM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What goes wrong.
    pub trouble: Trouble,
    /// When.
    pub when: When,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.trouble.name();
        match self.when {
            When::At(answer) => write!(f, "{name}@{answer}"),
            When::Every(answers) => write!(f, "{name}%{answers}"),
            When::Chance(ppm) => write!(f, "{name}~{ppm}"),
        }
    }
}

/// The text is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fault is KIND@N, KIND%N or KIND~PPM; kinds are drop, silent, flip, garbage, stale, slow, push, low-memory, busy, behind"
)]
pub struct FaultError;

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        let at = text.find(['@', '%', '~']).ok_or(FaultError)?;
        let (name, rest) = text.split_at(at);
        let trouble = Trouble::ALL.into_iter().find(|trouble| trouble.name() == name).ok_or(FaultError)?;
        let (sign, number) = rest.split_at(1);
        let number = number.parse().map_err(|_| FaultError)?;
        let when = match sign {
            "@" => When::At(number),
            "%" if number > 0 => When::Every(number),
            "~" => When::Chance(number),
            _ => return Err(FaultError),
        };
        Ok(Fault { trouble, when })
    }
}

/// What a meter says to an APDU, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The answer; empty where there is none.
    pub apdu: Vec<u8>,
    /// What is pushed before it.
    pub pushed: Option<Vec<u8>>,
    /// What goes out behind it without being asked for: blocks of a general transfer.
    pub more: Vec<Vec<u8>>,
    /// How long it takes.
    pub delay: Duration,
    /// Whether the connection ends, after the answer if there is one.
    pub ends: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_back_as_it_is_written() {
        for trouble in Trouble::ALL {
            for when in [When::At(3), When::Every(2), When::Chance(10_000)] {
                let fault = Fault { trouble, when };
                assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
        for wrong in ["", "drop", "drop@", "drop@x", "drop%0", "drip@1", "@1", "drop~-1"] {
            assert_eq!(wrong.parse::<Fault>(), Err(FaultError), "{wrong}");
        }
    }
}
