//! How a meter is asked: as whom, with which proof, in which frames. Each is a column of the import, and what an import
//! does not say is what Indian meters have.

use std::fmt;

/// Columns of an import, and of the table, in the order of [`Said`].
pub(crate) const COLUMNS: [&str; SAID] =
    ["client", "mechanism", "reader", "framing", "hdlc_address", "block_window"];
/// How many there are.
pub(crate) const SAID: usize = 6;

/// What was said of each, as it was written; empty where nothing was.
pub(crate) type Said = [String; SAID];

/// Largest address of a client: it has one byte in HDLC, and 7 bits of that.
const MAX_CLIENT: u8 = 0x7f;
/// Largest part of an address in HDLC.
const MAX_PART: u16 = 0x3fff;
/// Most blocks of a general block transfer at once.
const MAX_BLOCK_WINDOW: u8 = 63;

/// The address of the utility client, as whom Indian meters are asked.
const UTILITY: u8 = 48;

/// How a meter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Address of the client that the head-end is, for commands and, unless `reader` says otherwise, for reads.
    pub client: u8,
    /// How that client proves who it is.
    pub mechanism: Mechanism,
    /// When reads go as the meter reader instead.
    pub reader: Reader,
    /// What frames the meter speaks.
    pub framing: MeterFraming,
    /// Its address in HDLC.
    pub hdlc_address: HdlcAddress,
    /// Blocks of a general block transfer that are taken at once; 0: none is proposed.
    pub block_window: u8,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking {
            client: UTILITY,
            mechanism: Mechanism::Aes,
            reader: Reader::Never,
            framing: MeterFraming::Wrapper,
            hdlc_address: HdlcAddress { logical: 1, physical: None },
            block_window: 0,
        }
    }
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Not at all, in the clear: `none`.
    None,
    /// With the password of the reader: `lls`.
    Password,
    /// With AES under the secret, mechanism 2, as in India: `hls2`.
    Aes,
    /// With GMAC under the global keys, mechanism 5: `hls5`.
    Gmac,
}

/// When reads go as the meter reader, client 32 with its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Never: `never`.
    Never,
    /// When the meter refuses the client that it is asked as otherwise: `fallback`.
    Fallback,
    /// Always: `always`.
    Always,
}

/// What frames a meter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterFraming {
    /// The 8-byte header: `wrapper`.
    Wrapper,
    /// Frames of a data link: `hdlc`.
    Hdlc,
}

/// Where a meter is on a line of HDLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HdlcAddress {
    /// Its logical device.
    pub logical: u16,
    /// Its physical device, where the address has one.
    pub physical: Option<u16>,
}

impl fmt::Display for HdlcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.logical)?;
        self.physical.map_or(Ok(()), |physical| write!(f, "/{physical}"))
    }
}

impl Asking {
    /// What was said, over what Indian meters have; the column that makes no sense, with what it should be.
    pub(crate) fn of(said: &Said) -> Result<Asking, (usize, &'static str)> {
        let [client, mechanism, reader, framing, hdlc_address, block_window] =
            said.each_ref().map(String::as_str);
        let known = Asking::default();
        let client = match client {
            "" => known.client,
            text => text
                .parse()
                .ok()
                .filter(|client| (1..=MAX_CLIENT).contains(client))
                .ok_or((0, "a client is an address from 1 to 127"))?,
        };
        let mechanism = match mechanism {
            // The public client and the reader have one each.
            "" if client == 16 => Mechanism::None,
            "" if client == 32 => Mechanism::Password,
            "" | "hls2" => Mechanism::Aes,
            "none" => Mechanism::None,
            "lls" => Mechanism::Password,
            "hls5" => Mechanism::Gmac,
            _ => return Err((1, "a mechanism is none, lls, hls2 or hls5")),
        };
        let reader = match reader {
            "" | "never" => Reader::Never,
            "fallback" => Reader::Fallback,
            "always" => Reader::Always,
            _ => return Err((2, "reads go as the meter reader never, fallback or always")),
        };
        let framing = match framing {
            "" | "wrapper" => MeterFraming::Wrapper,
            "hdlc" => MeterFraming::Hdlc,
            _ => return Err((3, "a framing is wrapper or hdlc")),
        };
        let hdlc_address = match hdlc_address {
            "" => known.hdlc_address,
            text => hdlc(text)
                .ok_or((4, "an address in hdlc is LOGICAL or LOGICAL/PHYSICAL, each up to 16383"))?,
        };
        let block_window = match block_window {
            "" => known.block_window,
            text => text
                .parse()
                .ok()
                .filter(|window| *window <= MAX_BLOCK_WINDOW)
                .ok_or((5, "a window has 0 to 63 blocks"))?,
        };
        Ok(Asking { client, mechanism, reader, framing, hdlc_address, block_window })
    }
}

fn hdlc(text: &str) -> Option<HdlcAddress> {
    let part = |text: &str| text.parse().ok().filter(|part| *part <= MAX_PART);
    match text.split_once('/') {
        Some((logical, physical)) => {
            Some(HdlcAddress { logical: part(logical)?, physical: Some(part(physical)?) })
        }
        // A longer logical device has a form with a physical one only.
        None => part(text)
            .filter(|logical| *logical <= u16::from(MAX_CLIENT))
            .map(|logical| HdlcAddress { logical, physical: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Asking, (usize, &'static str)> {
        let mut fields = text.split(',').map(str::to_owned);
        Asking::of(&std::array::from_fn(|_| fields.next().unwrap_or_default()))
    }

    #[test]
    fn what_is_not_said_is_what_indian_meters_have() {
        assert_eq!(said(""), Ok(Asking::default()));
        assert_eq!(said("48,hls2,never,wrapper,1,0"), Ok(Asking::default()));
        assert_eq!(said("16").unwrap().mechanism, Mechanism::None);
        assert_eq!(said("32").unwrap().mechanism, Mechanism::Password);
        assert_eq!(said("80").unwrap().mechanism, Mechanism::Aes);
    }

    #[test]
    fn what_is_said_is_kept_and_what_makes_no_sense_is_named_by_column() {
        let asking = said("1,hls5,fallback,hdlc,1/17,63").unwrap();
        let hdlc_address = HdlcAddress { logical: 1, physical: Some(17) };
        assert_eq!((asking.client, asking.mechanism, asking.reader), (1, Mechanism::Gmac, Reader::Fallback));
        assert_eq!((asking.framing, asking.hdlc_address), (MeterFraming::Hdlc, hdlc_address));
        assert_eq!((asking.block_window, hdlc_address.to_string().as_str()), (63, "1/17"));
        for (text, column) in [
            ("0", 0),
            ("128", 0),
            ("US", 0),
            (",hls7", 1),
            (",,sometimes", 2),
            (",,,serial", 3),
            (",,,,128", 4),
            (",,,,1/16384", 4),
            (",,,,1/2/3", 4),
            (",,,,,64", 5),
        ] {
            assert_eq!(said(text).unwrap_err().0, column, "{text}");
        }
    }
}
