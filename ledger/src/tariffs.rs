//! The tariff versions in force: facts, effective from a day on, never changed and never removed.

use std::collections::BTreeMap;

use model::{CivilMonth, Digest, TariffVersion};

use crate::Limits;
use crate::outcome::TariffRefusal;
use crate::tariff::Tariff;

/// Number of a tariff's name; accounts hold it, also while no version of the name is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u16);

/// Number of a version, in the order in which they were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VersionId(u16);

/// A version: the fact and what its text says.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) fact: TariffVersion,
    pub(crate) tariff: Tariff,
}

/// What a new version of a tariff or a credit policy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Applied,
    Exists,
}

/// All names and versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tariffs {
    pub(crate) names: Vec<String>,
    pub(crate) versions: Vec<Version>,
    /// Versions of a name by the first month they are in force.
    by_name: BTreeMap<NameId, BTreeMap<CivilMonth, VersionId>>,
}

impl Tariffs {
    /// Takes a version in. `earliest` is the first month that is not closed; a name's first version may start before.
    pub(crate) fn add(
        &mut self,
        fact: &TariffVersion,
        earliest: Option<CivilMonth>,
        limits: &Limits,
    ) -> Result<Added, TariffRefusal> {
        let tariff = checked(fact)?;
        let month = tariff.from.month();
        if let Some(known) = self.find(&fact.name) {
            let versions = self.by_name.get(&known);
            if let Some(same) = versions.and_then(|versions| versions.get(&month)) {
                let digest = self.versions[usize::from(same.0)].fact.digest;
                return if digest == fact.digest {
                    Ok(Added::Exists)
                } else {
                    Err(TariffRefusal::OtherVersion(digest))
                };
            }
            let has_versions = versions.is_some_and(|versions| !versions.is_empty());
            if let Some(earliest) = earliest.filter(|earliest| has_versions && month < *earliest) {
                return Err(TariffRefusal::Closed(earliest.first_day()));
            }
        }
        let number = u16::try_from(self.versions.len())
            .ok()
            .filter(|number| usize::from(*number) < limits.max_tariffs);
        let number = VersionId(number.ok_or(TariffRefusal::Full)?);
        let name = self.name_id(&fact.name, limits).ok_or(TariffRefusal::Full)?;
        self.versions.push(Version { fact: fact.clone(), tariff });
        self.by_name.entry(name).or_default().insert(month, number);
        Ok(Added::Applied)
    }

    /// Puts back a version of a checkpoint; `None` when it cannot have been one.
    pub(crate) fn restore(&mut self, fact: TariffVersion) -> Option<()> {
        let tariff = Tariff::parse(&fact.body).ok()?;
        let name = self.find(&fact.name)?;
        let number = VersionId(u16::try_from(self.versions.len()).ok()?);
        self.by_name.entry(name).or_default().insert(tariff.from.month(), number);
        self.versions.push(Version { fact, tariff });
        Some(())
    }

    /// Number of a name, made when it is new; `None` when no more names can be kept.
    pub(crate) fn name_id(&mut self, name: &str, limits: &Limits) -> Option<NameId> {
        if let Some(known) = self.find(name) {
            return Some(known);
        }
        let number = u16::try_from(self.names.len())
            .ok()
            .filter(|number| usize::from(*number) < limits.max_tariffs)?;
        self.names.push(name.to_owned());
        Some(NameId(number))
    }

    pub(crate) fn name(&self, id: NameId) -> &str {
        self.names.get(usize::from(id.0)).map_or("", String::as_str)
    }

    /// The version of a name in force in a month. That of a closed month that was rated stays the same: a name that has
    /// versions takes none for months before the first that is open.
    pub(crate) fn in_force(&self, name: NameId, month: CivilMonth) -> Option<&Version> {
        let (_, number) = self.by_name.get(&name)?.range(..=month).next_back()?;
        self.versions.get(usize::from(number.0))
    }

    /// Digest of the version of a name in force in a month.
    pub(crate) fn digest_in_force(&self, name: NameId, month: CivilMonth) -> Option<Digest> {
        self.in_force(name, month).map(|version| version.fact.digest)
    }

    fn find(&self, name: &str) -> Option<NameId> {
        let place = self.names.iter().position(|known| known == name)?;
        u16::try_from(place).ok().map(NameId)
    }
}

/// The tariff of the fact's text, when name, day and digest are the text's own.
fn checked(fact: &TariffVersion) -> Result<Tariff, TariffRefusal> {
    let tariff = Tariff::parse(&fact.body)?;
    let digest = digest_of(&fact.body);
    if tariff.name != fact.name {
        return Err(TariffRefusal::OtherName(tariff.name));
    }
    if tariff.from != fact.from {
        return Err(TariffRefusal::OtherFrom(tariff.from));
    }
    if digest != fact.digest {
        return Err(TariffRefusal::OtherDigest(digest));
    }
    Ok(tariff)
}

/// First 16 bytes of the BLAKE3 hash of a tariff's text.
#[must_use]
pub fn digest_of(body: &str) -> Digest {
    let hash = blake3::hash(body.as_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    Digest(digest)
}
