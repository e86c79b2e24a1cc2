//! Accounts as they are registered.

use std::collections::{BTreeSet, HashMap};

use model::{AccountId, AccountNumber, CivilDay, ConnectionType};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::database::{number, sql_limit};
use crate::{Error, Registry};

/// Ids that are asked for with one statement.
const IDS_AT_ONCE: usize = 500;

/// An account as registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its id.
    pub account: AccountId,
    /// The number on the bill.
    pub number: AccountNumber,
    /// Name of its tariff.
    pub category: String,
    /// How it pays.
    pub connection: ConnectionType,
    /// Sanctioned load, W.
    pub sanctioned_w: u32,
    /// First civil day that is charged.
    pub from: CivilDay,
    /// Part of the distribution company that supplies it; empty where none was said.
    pub division: String,
    /// Distribution transformer that it hangs on; empty where none was said.
    pub transformer: String,
}

impl AccountInfo {
    /// Letters of the distribution company: what the number begins with.
    #[must_use]
    pub fn discom(&self) -> &str {
        self.number.as_str().trim_end_matches(|letter: char| letter.is_ascii_digit())
    }

    /// The division; the distribution company where none was said.
    #[must_use]
    pub fn place(&self) -> &str {
        if self.division.is_empty() { self.discom() } else { &self.division }
    }
}

impl Registry {
    /// Up to `limit` accounts with an id above `after`, by rising id.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn accounts(&self, after: AccountId, limit: usize) -> Result<Vec<AccountInfo>, Error> {
        let rows = sqlx::query(
            "SELECT id, number, tariff, connection, sanctioned_w, from_day, division, transformer FROM account WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(i64::from(after.0))
        .bind(sql_limit(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(account_info).collect()
    }

    /// The accounts of these ids, as far as they are registered.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn accounts_by_id(&self, accounts: &[AccountId]) -> Result<Vec<AccountInfo>, Error> {
        let mut found = Vec::with_capacity(accounts.len());
        for some in accounts.chunks(IDS_AT_ONCE) {
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT id, number, tariff, connection, sanctioned_w, from_day, division, transformer FROM account \
                 WHERE id IN ",
            );
            query.push_tuples(some, |mut tuple, account| {
                tuple.push_bind(i64::from(account.0));
            });
            for row in query.build().fetch_all(&self.pool).await? {
                found.push(account_info(&row)?);
            }
        }
        Ok(found)
    }

    /// The id of the account with that number.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn account_by_number(&self, account: &AccountNumber) -> Result<Option<AccountId>, Error> {
        let id: Option<i64> = sqlx::query_scalar("SELECT id FROM account WHERE number = ?")
            .bind(account.as_str())
            .fetch_optional(&self.pool)
            .await?;
        id.map(|id| number(id, "account id").map(AccountId)).transpose()
    }

    /// The ids of the accounts with these numbers, as far as they are registered.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn accounts_by_number<'a>(
        &self,
        numbers: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashMap<String, AccountId>, Error> {
        let numbers: BTreeSet<&str> = numbers.into_iter().collect();
        let numbers: Vec<&str> = numbers.into_iter().collect();
        let mut found = HashMap::new();
        for some in numbers.chunks(IDS_AT_ONCE) {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT number, id FROM account WHERE number IN (");
            let mut values = query.separated(", ");
            some.iter().for_each(|number| {
                values.push_bind(*number);
            });
            for row in query.push(")").build().fetch_all(&self.pool).await? {
                found.insert(row.try_get(0)?, AccountId(number(row.try_get(1)?, "account id")?));
            }
        }
        Ok(found)
    }

    /// How many accounts are registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account_count(&self) -> Result<u64, Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM account").fetch_one(&self.pool).await?;
        number(count, "account count")
    }
}

fn account_info(row: &SqliteRow) -> Result<AccountInfo, Error> {
    let text: String = row.try_get("number")?;
    let connection: String = row.try_get("connection")?;
    Ok(AccountInfo {
        account: AccountId(number(row.try_get("id")?, "account id")?),
        number: text.parse().map_err(|_| Error::Damaged(format!("account number {text:?}")))?,
        category: row.try_get("tariff")?,
        connection: connection_of(&connection)
            .ok_or_else(|| Error::Damaged(format!("connection {connection:?}")))?,
        sanctioned_w: number(row.try_get("sanctioned_w")?, "sanctioned load")?,
        from: CivilDay(number(row.try_get("from_day")?, "first day")?),
        division: row.try_get("division")?,
        transformer: row.try_get("transformer")?,
    })
}

pub(crate) fn connection_of(name: &str) -> Option<ConnectionType> {
    [ConnectionType::Prepaid, ConnectionType::Postpaid]
        .into_iter()
        .find(|connection| connection.name() == name)
}
