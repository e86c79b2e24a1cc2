//! Opening the database: file, settings, migrations, data key.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, SqlSafeStr, Sqlite, Transaction};

use crate::vault::Vault;
use crate::{Error, Kek, Registry, WaitingBounds};

/// Connections: SQLite has one writer at a time; the others read.
const MAX_CONNECTIONS: u32 = 4;
/// How long a writer waits for another before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

impl Registry {
    /// Opens the database at `path`, makes it where it is not, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::WrongKek`] when the keys in it were wrapped under another key; else what the system or the database
    /// says.
    pub async fn open(path: &Path, kek: Kek) -> Result<Registry, Error> {
        Registry::open_with(path, kek, WaitingBounds::default()).await
    }

    /// As [`Registry::open`], with bounds of its own for the frames that wait.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub async fn open_with(path: &Path, kek: Kek, bounds: WaitingBounds) -> Result<Registry, Error> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(BUSY_TIMEOUT)
            // A commit that found the disk full was rolled back by SQLite, and the library still counts it as open: no
            // transaction could ever begin on that connection.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await?;
        migrations().run(&pool).await?;
        let vault = Arc::new(open_vault(&pool, &kek).await?);
        Ok(Registry { pool, vault, bounds })
    }

    /// Closes all connections; what was committed is on disk.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction that holds the write lock from the start, so that what it reads stays true.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Error> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// The database holds personal data: only its owner may read the file (SQLite gives its side files the same mode).
fn make_private(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn migrations() -> Migrator {
    let migration = |version, name, text: &'static str| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "registry", include_str!("../migrations/0001_registry.sql")),
        migration(2, "replaced_keys", include_str!("../migrations/0002_replaced_keys.sql")),
        migration(3, "access", include_str!("../migrations/0003_access.sql")),
        migration(4, "asking", include_str!("../migrations/0004_asking.sql")),
        migration(5, "credit", include_str!("../migrations/0005_credit.sql")),
        migration(6, "supply", include_str!("../migrations/0006_supply.sql")),
        migration(7, "collections", include_str!("../migrations/0007_collections.sql")),
    ])
}

/// Unwraps the data key, or makes it in a database that has none and holds no keys yet.
async fn open_vault(pool: &sqlx::SqlitePool, kek: &Kek) -> Result<Vault, Error> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let wrapped: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT wrapped FROM data_key").fetch_optional(&mut *tx).await?;
    if let Some(wrapped) = wrapped {
        return Vault::unwrap(kek, &wrapped).ok_or(Error::WrongKek);
    }
    let meters: i64 = sqlx::query_scalar("SELECT count(*) FROM meter").fetch_one(&mut *tx).await?;
    if meters > 0 {
        return Err(Error::Damaged(format!("{meters} meters, but no data key to read their keys with")));
    }
    let (vault, wrapped) = Vault::make(kek)?;
    sqlx::query("INSERT INTO data_key (id, wrapped) VALUES (1, ?)").bind(wrapped).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(vault)
}

/// The last number given out under this name; 0 before the first.
pub(crate) async fn counter(connection: &mut SqliteConnection, name: &str) -> Result<u64, Error> {
    let value: Option<i64> = sqlx::query_scalar("SELECT value FROM counter WHERE name = ?")
        .bind(name)
        .fetch_optional(connection)
        .await?;
    Ok(value.unwrap_or(0).cast_unsigned())
}

pub(crate) async fn set_counter(
    connection: &mut SqliteConnection,
    name: &str,
    value: u64,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
        .bind(name)
        .bind(value.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// A row limit for SQL.
pub(crate) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Bytes of a fixed length from a column.
pub(crate) fn fixed<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Damaged(format!("{what} of {} bytes", bytes.len())))
}

/// A non-negative number from a column.
pub(crate) fn number<T: TryFrom<i64>>(value: i64, what: &'static str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Damaged(format!("{what} {value}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const KEK: &str = "8f0c2b1e77aa49d3905fe6c4b1a3d20e5c6f7081922db4e5a6b7c8d9eafb0c1d";

    pub(crate) async fn open(directory: &Path) -> Registry {
        Registry::open(&directory.join("registry.db"), Kek::from_hex(KEK).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_wrong_kek_is_an_error_and_not_garbage_keys() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).await.close().await;
        let other = Kek::from_hex(&KEK.replace("8f", "8e")).unwrap();
        let refused = Registry::open(&directory.path().join("registry.db"), other).await.unwrap_err();
        assert!(matches!(refused, Error::WrongKek), "{refused}");
        open(directory.path()).await;
    }

    #[tokio::test]
    async fn the_database_syncs_every_commit_and_keeps_its_references() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let pragma = |name: &'static str| {
            let pool = registry.pool.clone();
            async move { sqlx::query_scalar::<_, i64>(name).fetch_one(&pool).await.unwrap() }
        };
        assert_eq!(pragma("PRAGMA synchronous").await, 2);
        assert_eq!(pragma("PRAGMA foreign_keys").await, 1);
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&registry.pool).await.unwrap();
        assert_eq!(mode, "wal");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_may_read_the_database() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).await;
        let mode = std::fs::metadata(directory.path().join("registry.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
