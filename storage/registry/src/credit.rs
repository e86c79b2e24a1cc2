//! What holds cuts from outside of the ledger: divisions where they are enabled, protected and disputed accounts. Each
//! change names a person and stands in a log for ever.

use std::collections::{BTreeMap, BTreeSet};

use model::{AccountId, AccountNumber, Instant};
use sqlx::{Row, Sqlite, Transaction};

use crate::database::number;
use crate::{Error, Registry};

/// A division where cuts are enabled, or are asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutSwitch {
    /// The division.
    pub division: String,
    /// Who asked, and when.
    pub asked: (String, Instant),
    /// Who approved, and when; none yet: nothing is cut.
    pub approved: Option<(String, Instant)>,
}

/// Why cuts of an account are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldKind {
    /// The consumer is on the register of those who are never cut by balance.
    Protected,
    /// A complaint about bill, balance or meter is open, or a sum is deposited under protest.
    Disputed,
}

impl HoldKind {
    /// The word of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HoldKind::Protected => "protected",
            HoldKind::Disputed => "disputed",
        }
    }

    fn of(name: &str) -> Option<HoldKind> {
        [HoldKind::Protected, HoldKind::Disputed].into_iter().find(|kind| kind.name() == name)
    }
}

/// What came of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Cuts are enabled.
    Approved,
    /// They were before.
    Already,
    /// Nobody asked.
    NotAsked,
    /// Who asked cannot approve.
    SamePerson,
}

/// Who does something, and when.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The person.
    pub person: &'a str,
    /// The moment.
    pub at: Instant,
}

/// Everything that holds cuts, at one moment.
#[derive(Clone, Debug, Default)]
pub struct CutHolds {
    /// Divisions where two persons have enabled cuts.
    pub enabled: BTreeSet<String>,
    /// Held accounts and why.
    pub accounts: BTreeMap<AccountId, BTreeSet<HoldKind>>,
    /// Account numbers, as files have them, of payments that came and are not booked: they wait for a process or a person.
    pub waiting: BTreeSet<String>,
}

impl Registry {
    /// Notes what a person did with money, for ever.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_money(
        &self,
        action: &str,
        subject: &str,
        detail: &str,
        by: By<'_>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        log(&mut tx, by, action, subject, detail).await?;
        Ok(tx.commit().await?)
    }

    /// Notes that a person asks for cuts in a division; gives what stands there now. Where somebody asked before, that
    /// stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ask_for_cuts(&self, division: &str, by: By<'_>) -> Result<CutSwitch, Error> {
        let mut tx = self.begin().await?;
        let before = switch(&mut tx, division).await?;
        if let Some(before) = before {
            return Ok(before);
        }
        sqlx::query("INSERT INTO cut_switch (division, asked_by, asked_at) VALUES (?, ?, ?)")
            .bind(division)
            .bind(by.person)
            .bind(by.at.0)
            .execute(&mut *tx)
            .await?;
        log(&mut tx, by, "ask for cuts", division, "").await?;
        tx.commit().await?;
        Ok(CutSwitch { division: division.to_owned(), asked: (by.person.to_owned(), by.at), approved: None })
    }

    /// Enables cuts in a division, where another person has asked for it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn approve_cuts(&self, division: &str, by: By<'_>) -> Result<Approval, Error> {
        let mut tx = self.begin().await?;
        let Some(before) = switch(&mut tx, division).await? else { return Ok(Approval::NotAsked) };
        if before.approved.is_some() {
            return Ok(Approval::Already);
        }
        if is_same_person(&before.asked.0, by.person) {
            return Ok(Approval::SamePerson);
        }
        sqlx::query("UPDATE cut_switch SET approved_by = ?, approved_at = ? WHERE division = ?")
            .bind(by.person)
            .bind(by.at.0)
            .bind(division)
            .execute(&mut *tx)
            .await?;
        log(&mut tx, by, "approve cuts", division, &format!("asked by {}", before.asked.0)).await?;
        tx.commit().await?;
        Ok(Approval::Approved)
    }

    /// Ends cuts in a division, at once and by one person. False where there was nothing to end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_cuts(&self, division: &str, by: By<'_>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let ended =
            sqlx::query("DELETE FROM cut_switch WHERE division = ?").bind(division).execute(&mut *tx).await?;
        log(&mut tx, by, "end cuts", division, "").await?;
        tx.commit().await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Where cuts are enabled or asked for, by division.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn cut_switches(&self) -> Result<Vec<CutSwitch>, Error> {
        let rows = sqlx::query(
            "SELECT division, asked_by, asked_at, approved_by, approved_at FROM cut_switch ORDER BY division",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(switch_of).collect()
    }

    /// Holds cuts of an account. A reason that was given before is replaced.
    ///
    /// # Errors
    /// When the database fails, or the account is not registered.
    pub async fn hold_cuts(
        &self,
        account: AccountId,
        number: &AccountNumber,
        kind: HoldKind,
        reason: &str,
        by: By<'_>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO cut_hold (account_id, kind, reason, person, at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (account_id, kind) DO UPDATE SET reason = excluded.reason, person = excluded.person, \
             at = excluded.at",
        )
        .bind(i64::from(account.0))
        .bind(kind.name())
        .bind(reason)
        .bind(by.person)
        .bind(by.at.0)
        .execute(&mut *tx)
        .await?;
        log(&mut tx, by, &format!("hold: {}", kind.name()), number.as_str(), reason).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends a hold of an account. False where there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_cuts(
        &self,
        account: AccountId,
        number: &AccountNumber,
        kind: HoldKind,
        by: By<'_>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let ended = sqlx::query("DELETE FROM cut_hold WHERE account_id = ? AND kind = ?")
            .bind(i64::from(account.0))
            .bind(kind.name())
            .execute(&mut *tx)
            .await?;
        log(&mut tx, by, &format!("release: {}", kind.name()), number.as_str(), "").await?;
        tx.commit().await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Everything that holds cuts, as of one moment.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn cut_holds(&self) -> Result<CutHolds, Error> {
        let mut tx = self.pool.begin().await?;
        let enabled = sqlx::query_scalar("SELECT division FROM cut_switch WHERE approved_by IS NOT NULL");
        let enabled: Vec<String> = enabled.fetch_all(&mut *tx).await?;
        let rows = sqlx::query("SELECT account_id, kind FROM cut_hold").fetch_all(&mut *tx).await?;
        let mut holds = CutHolds { enabled: enabled.into_iter().collect(), ..CutHolds::default() };
        for row in rows {
            let account = AccountId(number(row.try_get("account_id")?, "account id")?);
            let name: String = row.try_get("kind")?;
            let kind = HoldKind::of(&name).ok_or_else(|| Error::Damaged(format!("hold {name:?}")))?;
            holds.accounts.entry(account).or_default().insert(kind);
        }
        let waiting =
            sqlx::query_scalar("SELECT account_number FROM collection WHERE state IN ('taken', 'conflict')");
        let waiting: Vec<String> = waiting.fetch_all(&mut *tx).await?;
        holds.waiting = waiting.into_iter().collect();
        Ok(holds)
    }
}

/// Whether two names are one person's: as people write them.
pub(crate) fn is_same_person(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

async fn switch(tx: &mut Transaction<'_, Sqlite>, division: &str) -> Result<Option<CutSwitch>, Error> {
    let row = sqlx::query(
        "SELECT division, asked_by, asked_at, approved_by, approved_at FROM cut_switch WHERE division = ?",
    )
    .bind(division)
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(switch_of).transpose()
}

fn switch_of(row: &sqlx::sqlite::SqliteRow) -> Result<CutSwitch, Error> {
    let approved_by: Option<String> = row.try_get("approved_by")?;
    let approved_at: Option<i64> = row.try_get("approved_at")?;
    Ok(CutSwitch {
        division: row.try_get("division")?,
        asked: (row.try_get("asked_by")?, Instant(row.try_get("asked_at")?)),
        approved: approved_by.zip(approved_at.map(Instant)),
    })
}

pub(crate) async fn log(
    tx: &mut Transaction<'_, Sqlite>,
    by: By<'_>,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO credit_log (at, person, action, subject, detail) VALUES (?, ?, ?, ?, ?)")
        .bind(by.at.0)
        .bind(by.person)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::tests::open;

    const NOW: Instant = Instant(1_000_000);

    fn by(person: &str) -> By<'_> {
        By { person, at: NOW }
    }

    #[tokio::test]
    async fn cuts_take_two_persons_and_end_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path()).await;
        assert!(registry.cut_holds().await.unwrap().enabled.is_empty(), "off on a fresh install");
        assert_eq!(registry.approve_cuts("EUDD-IV", by("A. Singh")).await.unwrap(), Approval::NotAsked);
        let asked = registry.ask_for_cuts("EUDD-IV", by("A. Singh")).await.unwrap();
        assert_eq!((asked.asked.0.as_str(), &asked.approved), ("A. Singh", &None));
        assert!(registry.cut_holds().await.unwrap().enabled.is_empty());
        for same in ["A. Singh", " a. singh "] {
            assert_eq!(registry.approve_cuts("EUDD-IV", by(same)).await.unwrap(), Approval::SamePerson);
        }
        let again = registry.ask_for_cuts("EUDD-IV", by("B. Khan")).await.unwrap();
        assert_eq!(again, asked, "who asked first has asked");
        assert_eq!(registry.approve_cuts("EUDD-IV", by("B. Khan")).await.unwrap(), Approval::Approved);
        assert_eq!(registry.approve_cuts("EUDD-IV", by("C. Rao")).await.unwrap(), Approval::Already);
        let enabled = registry.cut_holds().await.unwrap().enabled;
        assert_eq!(enabled.into_iter().collect::<Vec<_>>(), ["EUDD-IV"]);
        assert!(registry.end_cuts("EUDD-IV", by("A. Singh")).await.unwrap());
        assert!(!registry.end_cuts("EUDD-IV", by("A. Singh")).await.unwrap());
        assert!(registry.cut_switches().await.unwrap().is_empty());
        let log: Vec<(String, String)> = sqlx::query_as("SELECT person, action FROM credit_log ORDER BY id")
            .fetch_all(&registry.pool)
            .await
            .unwrap();
        let log: Vec<_> = log.iter().map(|(person, action)| (person.as_str(), action.as_str())).collect();
        let ended = ("A. Singh", "end cuts");
        assert_eq!(log, [("A. Singh", "ask for cuts"), ("B. Khan", "approve cuts"), ended, ended]);
    }

    #[tokio::test]
    async fn holds_stand_until_they_are_released_each_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path()).await;
        let csv = "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,\
                   connection,division\nPUVVNL0000000001,lmv1-urban,4,2026-06-01,0,0,prepaid,EUDD-IV\n";
        registry.import_accounts(csv.as_bytes(), &["lmv1-urban"]).await.unwrap();
        let info = registry.accounts(AccountId(0), 1).await.unwrap().remove(0);
        assert_eq!((info.division.as_str(), info.place()), ("EUDD-IV", "EUDD-IV"));
        let (account, number) = (info.account, info.number);
        registry
            .hold_cuts(account, &number, HoldKind::Protected, "dialysis at home", by("A. Singh"))
            .await
            .unwrap();
        registry.hold_cuts(account, &number, HoldKind::Disputed, "complaint 7", by("B. Khan")).await.unwrap();
        registry.hold_cuts(account, &number, HoldKind::Disputed, "complaint 8", by("B. Khan")).await.unwrap();
        let kinds = |holds: CutHolds| holds.accounts.get(&account).cloned().unwrap_or_default();
        let held = kinds(registry.cut_holds().await.unwrap());
        assert_eq!(held.into_iter().collect::<Vec<_>>(), [HoldKind::Protected, HoldKind::Disputed]);
        assert!(registry.release_cuts(account, &number, HoldKind::Disputed, by("B. Khan")).await.unwrap());
        assert!(!registry.release_cuts(account, &number, HoldKind::Disputed, by("B. Khan")).await.unwrap());
        let held = kinds(registry.cut_holds().await.unwrap());
        assert_eq!(held.into_iter().collect::<Vec<_>>(), [HoldKind::Protected]);
        let unknown =
            registry.hold_cuts(AccountId(99), &number, HoldKind::Protected, "x", by("A. Singh")).await;
        assert!(matches!(unknown, Err(Error::Database(_))));
    }
}
