//! Sections `credit`, `arrears` and `credit_policy`.

use model::{AccountId, CivilDay, CreditPolicyVersion, Digest, NoticeLevel, Paise};

use super::bytes::{Reader, Writer};
use crate::credit::{Credit, CreditTable};
use crate::dense::Dense;
use crate::{Fold, FoldError};

pub(super) const CREDIT: &str = "credit";
pub(super) const CREDIT_SIZE: u32 = 24;
pub(super) const ARREARS: &str = "arrears";
pub(super) const ARREARS_SIZE: u32 = 16;
pub(super) const POLICY: &str = "credit_policy";

pub(super) fn write(table: &CreditTable) -> Writer {
    let mut w = Writer::default();
    for (account, credit) in table.accounts.iter() {
        let Credit {
            round,
            reached,
            told,
            silent_days,
            caught_up,
            last_silent,
            used_up_told_s,
            emergency_until_s,
        } = *credit;
        w.u32(account);
        w.u32(used_up_told_s);
        w.u32(emergency_until_s);
        w.i32(last_silent.0);
        w.u16(round);
        [reached.0, told.0, silent_days, caught_up].into_iter().for_each(|byte| w.u8(byte));
        w.zeros(2);
    }
    w
}

pub(super) fn read(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    while !r.is_empty() {
        let account = AccountId(r.u32("account")?);
        let used_up_told_s = r.u32("used up told")?;
        let emergency_until_s = r.u32("emergency until")?;
        let last_silent = CivilDay(r.i32("last silent day")?);
        let round = r.u16("round")?;
        let credit = Credit {
            round,
            reached: NoticeLevel(r.u8("reached")?),
            told: NoticeLevel(r.u8("told")?),
            silent_days: r.u8("silent days")?,
            caught_up: r.u8("caught up")?,
            last_silent,
            used_up_told_s,
            emergency_until_s,
        };
        let _: [u8; 2] = r.array("padding")?;
        if fold.accounts.get(account.0).is_none() {
            return Err(r.malformed("account"));
        }
        fold.credit.keep(account, credit);
    }
    Ok(())
}

pub(super) fn write_arrears(arrears: &Dense<Paise>) -> Writer {
    let mut w = Writer::default();
    for (account, owed) in arrears.iter() {
        w.u32(account);
        w.zeros(4);
        w.i64(owed.0);
    }
    w
}

pub(super) fn read_arrears(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    while !r.is_empty() {
        let account = r.u32("account")?;
        let _: [u8; 4] = r.array("padding")?;
        let owed = Paise(r.i64("arrears")?);
        if fold.accounts.get(account).is_none() {
            return Err(r.malformed("account"));
        }
        fold.arrears.insert(account, owed);
    }
    Ok(())
}

pub(super) fn write_policies(table: &CreditTable) -> Writer {
    let mut w = Writer::default();
    for version in table.policies.values() {
        w.i32(version.fact.from.0);
        w.raw(&version.fact.digest.0);
        w.text(&version.fact.body);
    }
    w
}

pub(super) fn read_policies(fold: &mut Fold, mut r: Reader<'_>) -> Result<(), FoldError> {
    while !r.is_empty() {
        let fact = CreditPolicyVersion {
            from: CivilDay(r.i32("from")?),
            digest: Digest(r.array("digest")?),
            body: r.text("body")?.to_owned(),
        };
        fold.credit.restore(fact).ok_or_else(|| r.malformed("body"))?;
    }
    Ok(())
}
