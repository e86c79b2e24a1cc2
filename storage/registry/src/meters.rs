//! Meters as they are registered.

use model::{AccountId, Instant, MeterId, SystemTitle};
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
    /// Keys it had before, newest first.
    pub replaced: Vec<ReplacedKeys>,
}

/// Keys that were replaced, for frames still on their way under them.
#[derive(Debug)]
pub struct ReplacedKeys {
    /// The keys, unwrapped.
    pub keys: MeterKeys,
    /// Their number.
    pub key_epoch: u16,
    /// Up to when they are taken once the meter has used newer ones.
    pub taken_until: Instant,
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
        self.meter_records(&rows).await
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
        let rows: Vec<SqliteRow> = row.into_iter().collect();
        Ok(self.meter_records(&rows).await?.pop())
    }

    /// Up to `limit` meters with an id above `after`, by rising id, without their keys.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meters(&self, after: MeterId, limit: usize) -> Result<Vec<MeterInfo>, Error> {
        let rows = sqlx::query(
            "SELECT id, title, serial, profile, policy, account_id, key_epoch, period_s FROM meter WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(i64::from(after.0))
        .bind(sql_limit(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let serial = row.try_get("serial")?;
                let MeterTermsRow { meter, title, profile, authenticated, account, .. } = common(row)?;
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

    /// Reads meters and the keys that they had before, which lie beside them.
    async fn meter_records(&self, rows: &[SqliteRow]) -> Result<Vec<MeterRecord>, Error> {
        let mut records = rows.iter().map(|row| self.meter_record(row)).collect::<Result<Vec<_>, Error>>()?;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(records) };
        let replaced = sqlx::query(
            "SELECT meter_id, key_epoch, wrapped_keys, taken_until FROM replaced_key \
             WHERE meter_id BETWEEN ? AND ? ORDER BY meter_id, key_epoch DESC",
        )
        .bind(i64::from(first.meter.0))
        .bind(i64::from(last.meter.0))
        .fetch_all(&self.pool)
        .await?;
        for row in &replaced {
            let meter = MeterId(number(row.try_get("meter_id")?, "meter id")?);
            let Ok(place) = records.binary_search_by_key(&meter, |record| record.meter) else { continue };
            let record = &mut records[place];
            let key_epoch = number(row.try_get("key_epoch")?, "key epoch")?;
            let keys = self.vault.unwrap_keys(record.title, key_epoch, row.try_get("wrapped_keys")?)?;
            let taken_until = Instant(row.try_get("taken_until")?);
            record.replaced.push(ReplacedKeys { keys, key_epoch, taken_until });
        }
        Ok(records)
    }

    fn meter_record(&self, row: &SqliteRow) -> Result<MeterRecord, Error> {
        let MeterTermsRow { meter, title, profile, authenticated, account, key_epoch, period_s } =
            common(row)?;
        let keys = self.vault.unwrap_keys(title, key_epoch, row.try_get("wrapped_keys")?)?;
        let replaced = Vec::new();
        Ok(MeterRecord { meter, title, keys, profile, authenticated, key_epoch, period_s, account, replaced })
    }
}

/// What a meter's row says but for its keys.
pub(crate) struct MeterTermsRow {
    pub(crate) meter: MeterId,
    pub(crate) title: SystemTitle,
    pub(crate) profile: String,
    pub(crate) authenticated: bool,
    pub(crate) account: Option<AccountId>,
    pub(crate) key_epoch: u16,
    pub(crate) period_s: u32,
}

pub(crate) fn common(row: &SqliteRow) -> Result<MeterTermsRow, Error> {
    let policy: &str = row.try_get("policy")?;
    let account: Option<i64> = row.try_get("account_id")?;
    Ok(MeterTermsRow {
        meter: MeterId(number(row.try_get("id")?, "meter id")?),
        title: SystemTitle(fixed(row.try_get("title")?, "system title")?),
        profile: row.try_get("profile")?,
        authenticated: policy_of(policy).ok_or_else(|| Error::Damaged(format!("policy {policy:?}")))?,
        account: account.map(|id| number(id, "account id").map(AccountId)).transpose()?,
        key_epoch: number(row.try_get("key_epoch")?, "key epoch")?,
        period_s: number(row.try_get("period_s")?, "capture period")?,
    })
}

pub(crate) fn policy_name(authenticated: bool) -> &'static str {
    if authenticated { "authenticated" } else { "transport" }
}

pub(crate) fn policy_of(name: &str) -> Option<bool> {
    [true, false].into_iter().find(|authenticated| policy_name(*authenticated) == name)
}
