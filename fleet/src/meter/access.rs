//! What a head-end needs besides the keys of the pushes to speak with a meter.

use std::fmt;

use codec::apdu::acse::Mechanism;

use crate::rng::Rng;

const PURPOSE_ACCESS: u64 = 19;
/// Letters of passwords and secrets.
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

/// Master key, password and secret of one meter.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Under which new keys travel.
    pub kek: [u8; 16],
    /// Password of the meter reader, client 32.
    pub lls: String,
    /// Secret of the clients 48 and 80, 16 characters; of no use to mechanism 5.
    pub hls_secret: String,
    /// How these two prove who they are: [`Mechanism::Manufacturer`] or [`Mechanism::Gmac`].
    pub mechanism: Mechanism,
}

impl Access {
    /// That of meter number `index`: one in eight uses GMAC.
    #[must_use]
    pub fn of(seed: u64, index: u32) -> Access {
        let rng = &mut Rng::keyed(seed, &[PURPOSE_ACCESS, u64::from(index)]);
        let kek = rng.bytes();
        let mut word = |letters: usize| (0..letters).map(|_| char::from(*rng.pick(LETTERS))).collect();
        let (lls, hls_secret) = (word(8), word(16));
        let mechanism = if index % 8 == 7 { Mechanism::Gmac } else { Mechanism::Manufacturer };
        Access { kek, lls, hls_secret, mechanism }
    }
}

/// Without secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}
