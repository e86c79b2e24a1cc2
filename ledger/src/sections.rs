//! The state as sections of a checkpoint, and back.
//!
//! | section | record | holds |
//! |---|---|---|
//! | `meta` | blob | position, time, outbox, days, tallies, totals |
//! | `tariff` | blob | names of tariffs, versions with their text |
//! | `meter` | 96 B | one a meter |
//! | `gap` | 24 B | missing slots below a meter's frontiers |
//! | `account` | 144 B | one an account |
//! | `day_energy` | 24 B | days of an account whose energy can still matter |
//! | `closed_month` | 120 B | months of an account besides the open one, and that if terms ended in it |
//! | `ended_terms` | 24 B | terms of an account that ended inside of a month |
//! | `terms` | 24 B | terms of an account that begin later |
//! | `credit` | 24 B | how far an account's balance is down, and what its consumer was told |
//! | `arrears` | 16 B | old dues of an account beside its balance |
//! | `credit_policy` | blob | policies of credit control with their text |
//! | `payment` | blob | payments by id |
//! | `contested` | blob | readings without an answer and their frames |
//!
//! All integers are little-endian, all records in the order of their ids, so equal states have equal bytes.

mod account;
mod blobs;
mod bytes;
mod credit;
mod meter;

use model::{Calendar, Section};

use self::bytes::{Reader, Writer};
use crate::{Fold, FoldError, Limits};

const VERSION: u16 = 5;
/// Size of a record of a section that is one blob.
const BLOB: u32 = 1;

impl Fold {
    /// The whole state, as the arrays of a checkpoint.
    #[must_use]
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = vec![
            section(blobs::META, BLOB, blobs::write_meta(self)),
            section(blobs::TARIFF, BLOB, blobs::write_tariffs(&self.tariffs)),
        ];
        sections.extend(meter::write(self));
        sections.extend(account::write(self));
        sections.push(section(credit::CREDIT, credit::CREDIT_SIZE, credit::write(&self.credit)));
        sections.push(section(credit::ARREARS, credit::ARREARS_SIZE, credit::write_arrears(&self.arrears)));
        sections.push(section(credit::POLICY, BLOB, credit::write_policies(&self.credit)));
        sections.push(section(blobs::PAYMENT, BLOB, blobs::write_payments(&self.payments)));
        sections.push(section(blobs::CONTESTED, BLOB, blobs::write_contested(&self.open)));
        sections
    }

    /// The state that [`Fold::sections`] wrote.
    ///
    /// # Errors
    /// When a section is missing, unknown or not what it should be.
    pub fn from_sections(
        calendar: Calendar,
        limits: Limits,
        sections: &[Section],
    ) -> Result<Fold, FoldError> {
        let known = Known::new(sections)?;
        let mut fold = Fold::new(calendar, limits);
        blobs::read_meta(&mut fold, known.reader(blobs::META)?)?;
        blobs::read_tariffs(&mut fold, known.reader(blobs::TARIFF)?)?;
        meter::read(&mut fold, &known)?;
        account::read(&mut fold, &known)?;
        credit::read_policies(&mut fold, known.reader(credit::POLICY)?)?;
        credit::read(&mut fold, known.reader(credit::CREDIT)?)?;
        credit::read_arrears(&mut fold, known.reader(credit::ARREARS)?)?;
        blobs::read_payments(&mut fold, known.reader(blobs::PAYMENT)?)?;
        blobs::read_contested(&mut fold, known.reader(blobs::CONTESTED)?)?;
        fold.find_unclaimed();
        Ok(fold)
    }

    fn find_unclaimed(&mut self) {
        for (id, meter) in self.meters.iter() {
            let Some(account) = meter.account().filter(|account| self.accounts.get(account.0).is_none())
            else {
                continue;
            };
            self.unclaimed.entry(account).or_insert(model::MeterId(id));
        }
    }
}

/// Names and record sizes of all sections.
const LAYOUT: [(&str, u32); 14] = [
    (blobs::META, BLOB),
    (blobs::TARIFF, BLOB),
    (meter::METER, meter::METER_SIZE),
    (meter::GAP, meter::GAP_SIZE),
    (account::ACCOUNT, account::ACCOUNT_SIZE),
    (account::DAY_ENERGY, account::DAY_ENERGY_SIZE),
    (account::CLOSED_MONTH, account::CLOSED_MONTH_SIZE),
    (account::ENDED_TERMS, account::ENDED_TERMS_SIZE),
    (account::TERMS, account::TERMS_SIZE),
    (credit::CREDIT, credit::CREDIT_SIZE),
    (credit::ARREARS, credit::ARREARS_SIZE),
    (credit::POLICY, BLOB),
    (blobs::PAYMENT, BLOB),
    (blobs::CONTESTED, BLOB),
];

/// Sections of which name, version and record size are known.
struct Known<'a> {
    sections: &'a [Section],
}

impl<'a> Known<'a> {
    fn new(sections: &'a [Section]) -> Result<Known<'a>, FoldError> {
        for section in sections {
            let Some((_, size)) = LAYOUT.iter().find(|(name, _)| *name == section.name) else {
                return Err(FoldError::UnknownSection(section.name.clone()));
            };
            if section.version != VERSION || section.record_size != *size {
                return Err(FoldError::UnknownLayout {
                    section: section.name.clone(),
                    version: section.version,
                    record_size: section.record_size,
                });
            }
        }
        Ok(Known { sections })
    }

    fn reader(&self, name: &'static str) -> Result<Reader<'a>, FoldError> {
        let section = self.sections.iter().find(|section| section.name == name);
        let section = section.ok_or(FoldError::MissingSection(name))?;
        Ok(Reader { section: name, bytes: &section.bytes })
    }
}

fn section(name: &str, record_size: u32, writer: Writer) -> Section {
    debug_assert!(writer.0.len().is_multiple_of(record_size as usize), "{name} has whole records");
    Section { name: name.to_owned(), version: VERSION, record_size, bytes: writer.0 }
}
