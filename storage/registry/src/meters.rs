//! Meters as they are registered.

use model::{AccountId, MeterId, SystemTitle};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::database::{fixed, number, sql_limit};
use crate::{Error, MeterKeys, Registry};

/// Number of the keys a meter is registered with; every change of keys raises it.
pub const FIRST_KEY_EPOCH: u16 = 1;

/// A meter with its keys: what is needed to take in its frames.
#[derive(Debug)]
pub struct MeterRecord {
    /// Its id.
    pub meter: MeterId,
    /// Its system title.
    pub title: SystemTitle,
    /// Its keys, unwrapped.
    pub keys: MeterKeys,
    /// Name of its profile.
    pub profile: String,
    /// Whether its frames need an authentication tag (policy `authenticated`).
    pub authenticated: bool,
    /// Number of these keys.
    pub key_epoch: u16,
    /// Capture period of its intervals, seconds.
    pub period_s: u32,
    /// The account it measures for.
    pub account: Option<AccountId>,
}

/// A meter without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterInfo {
    /// Its id.
    pub meter: MeterId,
    /// Its system title.
    pub title: SystemTitle,
    /// Serial number on its plate.
    pub serial: String,
    /// Name of its profile.
    pub profile: String,
    /// Whether its frames need an authentication tag (policy `authenticated`).
    pub authenticated: bool,
    /// The account it measures for.
    pub account: Option<AccountId>,
}

impl Registry {
    /// Up to `limit` meters with an id above `after`, by rising id, with their keys.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meter_keys(&self, after: MeterId, limit: usize) -> Result<Vec<MeterRecord>, Error> {
        let rows = sqlx::query("SELECT * FROM meter WHERE id > ? ORDER BY id LIMIT ?")
            .bind(i64::from(after.0))
            .bind(sql_limit(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| self.meter_record(row)).collect()
    }

    /// The meter with that system title, with its keys.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meter_by_title(&self, title: SystemTitle) -> Result<Option<MeterRecord>, Error> {
        let row = sqlx::query("SELECT * FROM meter WHERE title = ?")
            .bind(title.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| self.meter_record(&row)).transpose()
    }

    /// Up to `limit` meters with an id above `after`, by rising id, without their keys.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meters(&self, after: MeterId, limit: usize) -> Result<Vec<MeterInfo>, Error> {
        let rows = sqlx::query(
            "SELECT id, title, serial, profile, policy, account_id FROM meter WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(i64::from(after.0))
        .bind(sql_limit(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let serial = row.try_get("serial")?;
                let (meter, title, profile, authenticated, account) = common(row)?;
                Ok(MeterInfo { meter, title, serial, profile, authenticated, account })
            })
            .collect()
    }

    /// How many meters are registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meter_count(&self) -> Result<u64, Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM meter").fetch_one(&self.pool).await?;
        number(count, "meter count")
    }

    fn meter_record(&self, row: &SqliteRow) -> Result<MeterRecord, Error> {
        let (meter, title, profile, authenticated, account) = common(row)?;
        let key_epoch = number(row.try_get("key_epoch")?, "key epoch")?;
        let keys = self.vault.unwrap_keys(title, key_epoch, row.try_get("wrapped_keys")?)?;
        let period_s = number(row.try_get("period_s")?, "capture period")?;
        Ok(MeterRecord { meter, title, keys, profile, authenticated, key_epoch, period_s, account })
    }
}

type Common = (MeterId, SystemTitle, String, bool, Option<AccountId>);

fn common(row: &SqliteRow) -> Result<Common, Error> {
    let meter = MeterId(number(row.try_get("id")?, "meter id")?);
    let title = SystemTitle(fixed(row.try_get("title")?, "system title")?);
    let policy: &str = row.try_get("policy")?;
    let authenticated = policy_of(policy).ok_or_else(|| Error::Damaged(format!("policy {policy:?}")))?;
    let account: Option<i64> = row.try_get("account_id")?;
    let account = account.map(|id| number(id, "account id").map(AccountId)).transpose()?;
    Ok((meter, title, row.try_get("profile")?, authenticated, account))
}

pub(crate) fn policy_name(authenticated: bool) -> &'static str {
    if authenticated { "authenticated" } else { "transport" }
}

pub(crate) fn policy_of(name: &str) -> Option<bool> {
    [true, false].into_iter().find(|authenticated| policy_name(*authenticated) == name)
}
