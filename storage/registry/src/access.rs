//! What is needed to ask a meter: address, secrets of its clients, and the counters that requests are sent with.

use std::fmt;

use model::{MeterId, SystemTitle};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::asking::{self, Asking, Said};
use crate::database::number;
use crate::meters::{MeterTermsRow, common};
use crate::{Error, MeterKeys, Registry};

/// Longest password of a meter reader.
pub(crate) const MAX_PASSWORD: usize = 32;
/// Longest secret of high-level authentication: it is an AES key.
pub(crate) const MAX_SECRET: usize = 16;

/// A meter with all that a session with it needs.
#[derive(Debug)]
pub struct MeterAccess {
    /// Its id.
    pub meter: MeterId,
    /// Its system title.
    pub title: SystemTitle,
    /// Serial number on its plate.
    pub serial: String,
    /// Name of its profile.
    pub profile: String,
    /// Its keys, unwrapped.
    pub keys: MeterKeys,
    /// Number of these keys.
    pub key_epoch: u16,
    /// Where it is dialled, `host:port` or `udp://host:port`, or asked over a broker, `mqtt://node`; `None` where it dials
    /// itself.
    pub address: Option<String>,
    /// As whom it is asked, and in which frames.
    pub asking: Asking,
    /// Secrets of its clients, unwrapped.
    pub secrets: MeterSecrets,
}

/// Secrets of a meter's clients. Wiped when dropped, never printed; empty where there is none.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MeterSecrets {
    /// Password of the meter reader (low-level authentication).
    pub password: Vec<u8>,
    /// Secret of the utility client (high-level authentication).
    pub hls: Vec<u8>,
    /// Master key, under which new keys travel.
    pub master: Option<[u8; 16]>,
}

impl fmt::Debug for MeterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeterSecrets(..)")
    }
}

impl Registry {
    /// The meter that goes by this name: its serial number, else its system title in hexadecimal, else its id.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meter_access(&self, name: &str) -> Result<Option<MeterAccess>, Error> {
        let title: Option<SystemTitle> = name.parse().ok();
        let id: Option<i64> = name.parse().ok();
        let row = sqlx::query(
            "SELECT meter.*, meter_access.* FROM meter LEFT JOIN meter_access ON meter_id = meter.id \
             WHERE serial = ?1 OR title = ?2 OR meter.id = ?3 ORDER BY serial = ?1 DESC, title = ?2 DESC LIMIT 1",
        )
        .bind(name)
        .bind(title.map(|title| title.0.to_vec()))
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| self.access_of(&row)).transpose()
    }

    /// The meter of this id.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn meter_access_by_id(&self, meter: MeterId) -> Result<Option<MeterAccess>, Error> {
        let row = sqlx::query(
            "SELECT meter.*, meter_access.* FROM meter LEFT JOIN meter_access ON meter_id = meter.id WHERE meter.id = ?",
        )
        .bind(i64::from(meter.0))
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| self.access_of(&row)).transpose()
    }

    fn access_of(&self, row: &SqliteRow) -> Result<MeterAccess, Error> {
        let MeterTermsRow { meter, title, profile, key_epoch, .. } = common(row)?;
        let keys = self.vault.unwrap_keys(title, key_epoch, row.try_get("wrapped_keys")?)?;
        let address: Option<String> = row.try_get("address")?;
        let wrapped: Option<&[u8]> = row.try_get("wrapped_secrets")?;
        let secrets = wrapped.map(|wrapped| self.vault.unwrap_secrets(title, wrapped)).transpose()?;
        let asking = said_of(row)?;
        let asking = Asking::of(&asking).map_err(|(column, _)| {
            Error::Damaged(format!("column {} of meter {title}", asking::COLUMNS[column]))
        })?;
        Ok(MeterAccess {
            meter,
            title,
            serial: row.try_get("serial")?,
            profile,
            keys,
            key_epoch,
            address: address.filter(|address| !address.is_empty()),
            asking,
            secrets: secrets.unwrap_or_default(),
        })
    }

    /// The bound below which counters of this client under these keys may have been used; 0 before the first.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn send_bound(&self, meter: MeterId, key_epoch: u16, client: u8) -> Result<u32, Error> {
        let bound: Option<i64> = sqlx::query_scalar(
            "SELECT bound FROM send_counter WHERE meter_id = ? AND key_epoch = ? AND client = ?",
        )
        .bind(i64::from(meter.0))
        .bind(i64::from(key_epoch))
        .bind(i64::from(client))
        .fetch_optional(&self.pool)
        .await?;
        number(bound.unwrap_or(0), "send counter")
    }

    /// The highest counter that was accepted from the meter for this client under these keys; `None`: none was kept.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn received(&self, meter: MeterId, key_epoch: u16, client: u8) -> Result<Option<u32>, Error> {
        let last: Option<Option<i64>> = sqlx::query_scalar(
            "SELECT received FROM send_counter WHERE meter_id = ? AND key_epoch = ? AND client = ?",
        )
        .bind(i64::from(meter.0))
        .bind(i64::from(key_epoch))
        .bind(i64::from(client))
        .fetch_optional(&self.pool)
        .await?;
        last.flatten().map(|last| number(last, "received counter")).transpose()
    }

    /// Stores, and syncs, that this counter was accepted from the meter. A lower one changes nothing.
    ///
    /// # Errors
    /// When the database fails: what came under it may not be used then.
    pub async fn keep_received(
        &self,
        meter: MeterId,
        key_epoch: u16,
        client: u8,
        last: u32,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO send_counter (meter_id, key_epoch, client, bound, received) VALUES (?, ?, ?, 0, ?) \
             ON CONFLICT (meter_id, key_epoch, client) \
             DO UPDATE SET received = max(ifnull(received, 0), excluded.received)",
        )
        .bind(i64::from(meter.0))
        .bind(i64::from(key_epoch))
        .bind(i64::from(client))
        .bind(i64::from(last))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Stores, and syncs, that counters below `bound` may have been used. A lower bound changes nothing.
    ///
    /// # Errors
    /// When the database fails: nothing may be sent then.
    pub async fn reserve_send(
        &self,
        meter: MeterId,
        key_epoch: u16,
        client: u8,
        bound: u32,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO send_counter (meter_id, key_epoch, client, bound) VALUES (?, ?, ?, ?) \
             ON CONFLICT (meter_id, key_epoch, client) DO UPDATE SET bound = max(bound, excluded.bound)",
        )
        .bind(i64::from(meter.0))
        .bind(i64::from(key_epoch))
        .bind(i64::from(client))
        .bind(i64::from(bound))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// What an import said of how a meter is asked; nothing where it has no row for that.
pub(crate) fn said_of(row: &SqliteRow) -> Result<Said, sqlx::Error> {
    let mut said = Said::default();
    for (said, column) in said.iter_mut().zip(asking::COLUMNS) {
        *said = row.try_get::<Option<String>, _>(column)?.unwrap_or_default();
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::tests::open;
    use crate::{Known, Mechanism, MeterFraming, Reader};

    const HEAD: &str =
        "system_title,serial,guek,gak,profile,policy,account_number,address,lls,hls,master_key\n";
    const LINE: &str = "5058520000000001,PX000001,411a36e7fa67784cd3d2c52e656e5644,\
                        5f0017d36bcf9185daaad6cb7271d511,is15959-d1,authenticated,,";
    const KNOWN: Known<'_> = Known { profiles: &[("is15959-d1", 1800)] };

    async fn import(registry: &Registry, access: &str) -> Result<crate::Imported, crate::ImportError> {
        registry.import_meters(format!("{HEAD}{LINE}{access}\n").as_bytes(), &KNOWN).await
    }

    #[tokio::test]
    async fn a_meter_is_found_by_serial_title_and_id_with_its_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let secrets = "[::1]:4059,Urja1234,1234567890123456,8c1f5e0a7b3d92e64f50a1b2c3d4e5f7";
        assert_eq!(import(&registry, secrets).await.unwrap().added, 1);
        for name in ["PX000001", "5058520000000001", "1"] {
            let found = registry.meter_access(name).await.unwrap().unwrap();
            assert_eq!((found.meter, found.serial.as_str()), (MeterId(1), "PX000001"));
            assert_eq!(found.address.as_deref(), Some("[::1]:4059"));
            assert_eq!((&found.secrets.password[..], found.secrets.hls.len()), (&b"Urja1234"[..], 16));
            assert_eq!(found.secrets.master.unwrap()[0], 0x8c);
            assert!(format!("{found:?}").contains("MeterSecrets(..)"));
        }
        assert!(registry.meter_access("PX000002").await.unwrap().is_none());
        registry.close().await;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(8).any(|window| window == b"Urja1234"), "a password in the clear");
        }
    }

    #[tokio::test]
    async fn access_is_added_to_a_registered_meter_which_counts_as_updated_and_empty_columns_leave_it() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        import(&registry, ",,,").await.unwrap();
        let found = registry.meter_access("PX000001").await.unwrap().unwrap();
        assert_eq!((found.address, found.secrets), (None, MeterSecrets::default()));
        for (access, updated) in [
            ("10.0.0.7:4059,,3031323334353637e8f9a0b1c2d3e4f5,", true),
            (",secret,,", true),
            ("10.0.0.7:4059,secret,,", false),
            (",,,", false),
        ] {
            let done = import(&registry, access).await.unwrap();
            let (changed, same) = (usize::from(updated), usize::from(!updated));
            assert_eq!((done.added, done.updated, done.unchanged), (0, changed, same), "{access}");
        }
        let found = registry.meter_access("PX000001").await.unwrap().unwrap();
        assert_eq!(found.address.as_deref(), Some("10.0.0.7:4059"));
        assert_eq!((found.secrets.password.len(), found.secrets.hls.len()), (6, 16));
    }

    #[tokio::test]
    async fn addresses_and_secrets_that_cannot_be_are_refused_by_column() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        for (access, column) in [
            ("nowhere,,,", "address"),
            (":4059,,,", "address"),
            ("udp://:4059,,,", "address"),
            ("mqtt://,,,", "address"),
            ("mqtt://a/b,,,", "address"),
            ("mqtt://+,,,", "address"),
            ("host:99999,,,", "address"),
            (",pass\tword,,", "lls"),
            (",,12345678901234567,", "hls"),
            (",,00000000000000000000000000000000,", "hls"),
            (",,,000102030405060708090a0b0c0d0e0f", "master_key"),
            (",,,8c1f", "master_key"),
        ] {
            let refused = import(&registry, access).await.unwrap_err();
            let crate::ImportError::Lines(lines) = refused else { panic!("{refused}") };
            assert_eq!(lines.listed[0].column, column, "{access}: {lines}");
        }
        assert_eq!(registry.meter_count().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_bound_of_sent_counters_outlives_a_restart_and_never_falls() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        import(&registry, ",,,").await.unwrap();
        let meter = MeterId(1);
        assert_eq!(registry.send_bound(meter, 1, 48).await.unwrap(), 0);
        for bound in [1000, 3000, 2000] {
            registry.reserve_send(meter, 1, 48, bound).await.unwrap();
        }
        registry.reserve_send(meter, 2, 48, u32::MAX).await.unwrap();
        registry.close().await;
        let registry = open(directory.path()).await;
        assert_eq!(registry.send_bound(meter, 1, 48).await.unwrap(), 3000);
        assert_eq!(registry.send_bound(meter, 2, 48).await.unwrap(), u32::MAX);
        assert_eq!(registry.send_bound(meter, 1, 32).await.unwrap(), 0, "a client has a title of its own");
    }

    #[tokio::test]
    async fn the_highest_counter_of_a_meter_outlives_a_restart_and_never_falls() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        import(&registry, ",,,").await.unwrap();
        let meter = MeterId(1);
        assert_eq!(registry.received(meter, 1, 32).await.unwrap(), None);
        registry.keep_received(meter, 1, 32, 7).await.unwrap();
        registry.reserve_send(meter, 1, 32, 1000).await.unwrap();
        assert_eq!(registry.received(meter, 1, 48).await.unwrap(), None);
        for last in [u32::MAX, 9] {
            registry.keep_received(meter, 1, 32, last).await.unwrap();
        }
        registry.reserve_send(meter, 2, 32, 5).await.unwrap();
        registry.close().await;
        let registry = open(directory.path()).await;
        assert_eq!(registry.received(meter, 1, 32).await.unwrap(), Some(u32::MAX));
        assert_eq!(registry.send_bound(meter, 1, 32).await.unwrap(), 1000);
        assert_eq!(registry.received(meter, 2, 32).await.unwrap(), None, "a key has counters of its own");
    }

    #[tokio::test]
    async fn how_a_meter_is_asked_is_imported_changed_and_refused_by_column() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let import = async |columns: &str, fields: &str| {
            let head = HEAD.trim_end();
            let csv = format!("{head},{columns}\n{LINE},,,,{fields}\n");
            registry.import_meters(csv.as_bytes(), &KNOWN).await
        };
        assert_eq!(import("mechanism,framing", "hls5,hdlc").await.unwrap().added, 1);
        let asking = async || registry.meter_access("PX000001").await.unwrap().unwrap().asking;
        let expected =
            Asking { mechanism: Mechanism::Gmac, framing: MeterFraming::Hdlc, ..Asking::default() };
        assert_eq!(asking().await, expected);
        assert_eq!(import("client,framing", ",").await.unwrap().unchanged, 1);
        assert_eq!(import("reader,framing", "fallback,wrapper").await.unwrap().updated, 1);
        let changed = Asking { framing: MeterFraming::Wrapper, reader: Reader::Fallback, ..expected };
        assert_eq!(asking().await, changed);
        for column in asking::COLUMNS {
            let refused = import(column, "what").await.unwrap_err();
            let crate::ImportError::Lines(lines) = refused else { panic!("{refused}") };
            assert_eq!(lines.listed[0].column, column, "{lines}");
        }
    }
}
