//! Frames of system titles that are not registered yet: kept until they are, within bounds.
//!
//! A frame is known by its position in the journal, where it stands with its reason. Putting it again, as a replay
//! does, changes nothing: also not after it was dropped at a bound or taken in, for positions of such frames are
//! remembered (the newest [`WaitingBounds::remembered`] of them).

use std::collections::HashMap;

use model::{Instant, Position, Source, SystemTitle};
use sqlx::{Row, SqliteConnection};

use crate::database::{counter, fixed, number, set_counter};
use crate::{Error, Registry};

const DROPPED_TITLE_FULL: &str = "waiting_dropped_title_full";
const DROPPED_TITLES: &str = "waiting_dropped_titles";
const DROPPED_BYTES: &str = "waiting_dropped_bytes";
const TAKEN: &str = "waiting_taken";

/// Bounds of the frames that wait. A frame past a bound is dropped and counted; it stays in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingBounds {
    /// Frames of one title.
    pub frames_per_title: u64,
    /// Titles.
    pub titles: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Positions remembered of frames that were dropped or taken in.
    pub remembered: u64,
}

impl Default for WaitingBounds {
    fn default() -> Self {
        WaitingBounds {
            frames_per_title: 256,
            titles: 10_000,
            bytes: 256 * 1024 * 1024,
            remembered: 1_000_000,
        }
    }
}

/// A frame that waits for the registration of its title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingFrame {
    /// Its record in the journal.
    pub position: Position,
    /// The way it came.
    pub source: Source,
    /// The title it claims.
    pub title: SystemTitle,
    /// When it was received.
    pub received_at: Instant,
    /// Its bytes as received.
    pub raw: Vec<u8>,
}

/// What became of the frames of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// They wait now.
    pub kept: u64,
    /// They were put before.
    pub known: u64,
    /// Dropped: their title has as many frames as may wait.
    pub dropped_title_full: u64,
    /// Dropped: as many titles wait as may.
    pub dropped_titles: u64,
    /// Dropped: as many bytes wait as may.
    pub dropped_bytes: u64,
}

/// Gauges and counters of the frames that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingCounts {
    /// Frames that wait now.
    pub frames: u64,
    /// Their titles.
    pub titles: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that were taken in, ever.
    pub taken: u64,
    /// Frames dropped at the bound of a title, ever.
    pub dropped_title_full: u64,
    /// Frames dropped at the bound of titles, ever.
    pub dropped_titles: u64,
    /// Frames dropped at the bound of bytes, ever.
    pub dropped_bytes: u64,
}

impl Registry {
    /// Keeps frames, within the bounds. Durable when it returns.
    ///
    /// # Errors
    /// When the database fails; then nothing was kept.
    pub async fn put_waiting(&self, frames: Vec<WaitingFrame>) -> Result<Put, Error> {
        let mut put = Put::default();
        if frames.is_empty() {
            return Ok(put);
        }
        let mut tx = self.begin().await?;
        let mut store = Store::read(&mut tx, self.bounds).await?;
        for frame in &frames {
            *store.place(&mut tx, frame, &mut put).await? += 1;
        }
        store.write(&mut tx).await?;
        add(&mut tx, DROPPED_TITLE_FULL, put.dropped_title_full).await?;
        add(&mut tx, DROPPED_TITLES, put.dropped_titles).await?;
        add(&mut tx, DROPPED_BYTES, put.dropped_bytes).await?;
        forget_oldest_done(&mut tx, self.bounds.remembered).await?;
        tx.commit().await?;
        Ok(put)
    }

    /// The frames of a title, by rising position. They go on waiting until [`Registry::forget_waiting`] says that
    /// they are taken in.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn take_waiting(&self, title: SystemTitle) -> Result<Vec<WaitingFrame>, Error> {
        let rows = sqlx::query(
            "SELECT position, source, received_at, raw FROM waiting_frame WHERE title = ? ORDER BY position",
        )
        .bind(title.0.to_vec())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let source = number(row.try_get("source")?, "source")?;
                Ok(WaitingFrame {
                    position: Position(number(row.try_get("position")?, "position")?),
                    source: Source::from_index(source)
                        .ok_or_else(|| Error::Damaged(format!("source {source}")))?,
                    title,
                    received_at: Instant(row.try_get("received_at")?),
                    raw: row.try_get("raw")?,
                })
            })
            .collect()
    }

    /// Registered titles of which frames wait, at most `limit`: after a crash between a registration and the taking
    /// in, these are still to do.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn waiting_registered(&self, limit: usize) -> Result<Vec<SystemTitle>, Error> {
        let rows =
            sqlx::query("SELECT title FROM waiting_title JOIN meter USING (title) ORDER BY meter.id LIMIT ?")
                .bind(crate::database::sql_limit(limit))
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(|row| fixed(row.try_get("title")?, "system title").map(SystemTitle)).collect()
    }

    /// Drops frames that were taken in, and remembers that they were.
    ///
    /// # Errors
    /// When the database fails; then all of them go on waiting.
    pub async fn forget_waiting(&self, positions: &[Position]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let mut taken = 0;
        for position in positions {
            taken += u64::from(forget(&mut tx, *position).await?);
        }
        sqlx::query("DELETE FROM waiting_title WHERE frames = 0").execute(&mut *tx).await?;
        add(&mut tx, TAKEN, taken).await?;
        forget_oldest_done(&mut tx, self.bounds.remembered).await?;
        Ok(tx.commit().await?)
    }

    /// Gauges and counters.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn waiting_counts(&self) -> Result<WaitingCounts, Error> {
        let mut connection = self.pool.acquire().await?;
        let (titles, frames, bytes) = totals(&mut connection).await?;
        Ok(WaitingCounts {
            frames,
            titles,
            bytes,
            taken: counter(&mut connection, TAKEN).await?,
            dropped_title_full: counter(&mut connection, DROPPED_TITLE_FULL).await?,
            dropped_titles: counter(&mut connection, DROPPED_TITLES).await?,
            dropped_bytes: counter(&mut connection, DROPPED_BYTES).await?,
        })
    }
}

/// How full the store is, as one call sees it.
struct Store {
    bounds: WaitingBounds,
    titles: u64,
    bytes: u64,
    /// Frames and bytes of the titles this call touches.
    touched: HashMap<SystemTitle, (u64, u64)>,
}

impl Store {
    async fn read(tx: &mut SqliteConnection, bounds: WaitingBounds) -> Result<Store, Error> {
        let (titles, _, bytes) = totals(tx).await?;
        Ok(Store { bounds, titles, bytes, touched: HashMap::new() })
    }

    /// Keeps or drops one frame; gives back the count it belongs to.
    async fn place<'p>(
        &mut self,
        tx: &mut SqliteConnection,
        frame: &WaitingFrame,
        put: &'p mut Put,
    ) -> Result<&'p mut u64, Error> {
        if is_known(tx, frame.position).await? {
            return Ok(&mut put.known);
        }
        let (frames, bytes) = self.of_title(tx, frame.title).await?;
        let length = frame.raw.len() as u64;
        let dropped = if frames >= self.bounds.frames_per_title {
            &mut put.dropped_title_full
        } else if frames == 0 && self.titles >= self.bounds.titles {
            &mut put.dropped_titles
        } else if self.bytes + length > self.bounds.bytes {
            &mut put.dropped_bytes
        } else {
            insert(tx, frame).await?;
            self.titles += u64::from(frames == 0);
            self.bytes += length;
            self.touched.insert(frame.title, (frames + 1, bytes + length));
            return Ok(&mut put.kept);
        };
        remember(tx, frame.position).await?;
        Ok(dropped)
    }

    async fn of_title(&mut self, tx: &mut SqliteConnection, title: SystemTitle) -> Result<(u64, u64), Error> {
        if let Some(found) = self.touched.get(&title) {
            return Ok(*found);
        }
        let row = sqlx::query("SELECT frames, bytes FROM waiting_title WHERE title = ?")
            .bind(title.0.to_vec())
            .fetch_optional(tx)
            .await?;
        let found = match row {
            Some(row) => (number(row.try_get(0)?, "frame count")?, number(row.try_get(1)?, "byte count")?),
            None => (0, 0),
        };
        if found.0 > 0 {
            self.touched.insert(title, found);
        }
        Ok(found)
    }

    async fn write(&self, tx: &mut SqliteConnection) -> Result<(), Error> {
        for (title, (frames, bytes)) in &self.touched {
            sqlx::query(
                "INSERT INTO waiting_title (title, frames, bytes) VALUES (?, ?, ?) \
                 ON CONFLICT (title) DO UPDATE SET frames = excluded.frames, bytes = excluded.bytes",
            )
            .bind(title.0.to_vec())
            .bind(frames.cast_signed())
            .bind(bytes.cast_signed())
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }
}

async fn totals(connection: &mut SqliteConnection) -> Result<(u64, u64, u64), Error> {
    let row =
        sqlx::query("SELECT count(*), coalesce(sum(frames), 0), coalesce(sum(bytes), 0) FROM waiting_title")
            .fetch_one(connection)
            .await?;
    let count = |column: usize| number(row.try_get(column)?, "waiting count");
    Ok((count(0)?, count(1)?, count(2)?))
}

async fn is_known(tx: &mut SqliteConnection, position: Position) -> Result<bool, Error> {
    let known: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM waiting_frame WHERE position = ?1) \
         OR EXISTS (SELECT 1 FROM waiting_done WHERE position = ?1)",
    )
    .bind(position.0.cast_signed())
    .fetch_one(tx)
    .await?;
    Ok(known != 0)
}

async fn insert(tx: &mut SqliteConnection, frame: &WaitingFrame) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO waiting_frame (position, title, source, received_at, raw) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(frame.position.0.cast_signed())
    .bind(frame.title.0.to_vec())
    .bind(i64::from(frame.source as u8))
    .bind(frame.received_at.0)
    .bind(frame.raw.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether the frame was waiting until now.
async fn forget(tx: &mut SqliteConnection, position: Position) -> Result<bool, Error> {
    let gone =
        sqlx::query("DELETE FROM waiting_frame WHERE position = ? RETURNING title, length(raw) AS bytes")
            .bind(position.0.cast_signed())
            .fetch_optional(&mut *tx)
            .await?;
    let Some(row) = gone else { return Ok(false) };
    let (title, bytes): (Vec<u8>, i64) = (row.try_get("title")?, row.try_get("bytes")?);
    sqlx::query("UPDATE waiting_title SET frames = frames - 1, bytes = bytes - ? WHERE title = ?")
        .bind(bytes)
        .bind(title)
        .execute(&mut *tx)
        .await?;
    remember(tx, position).await?;
    Ok(true)
}

async fn remember(tx: &mut SqliteConnection, position: Position) -> Result<(), Error> {
    sqlx::query("INSERT INTO waiting_done (position) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(position.0.cast_signed())
        .execute(tx)
        .await?;
    Ok(())
}

async fn forget_oldest_done(tx: &mut SqliteConnection, remembered: u64) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM waiting_done WHERE position <= \
         (SELECT position FROM waiting_done ORDER BY position DESC LIMIT 1 OFFSET ?)",
    )
    .bind(remembered.cast_signed())
    .execute(tx)
    .await?;
    Ok(())
}

async fn add(tx: &mut SqliteConnection, name: &str, count: u64) -> Result<(), Error> {
    if count > 0 {
        let before = counter(tx, name).await?;
        set_counter(tx, name, before + count).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Kek;
    use crate::database::tests::KEK;

    const BOUNDS: WaitingBounds = WaitingBounds { frames_per_title: 3, titles: 2, bytes: 100, remembered: 4 };

    async fn open(directory: &Path) -> Registry {
        let kek = Kek::from_hex(KEK).unwrap();
        Registry::open_with(&directory.join("registry.db"), kek, BOUNDS).await.unwrap()
    }

    fn title(number: u8) -> SystemTitle {
        SystemTitle([b'H', b'X', b'E', 0, 0, 0, 0, number])
    }

    fn frame(position: u64, of: u8, length: usize) -> WaitingFrame {
        WaitingFrame {
            position: Position(position),
            source: Source::Udp,
            title: title(of),
            received_at: Instant::from_seconds(1_780_000_000),
            raw: vec![0x0f; length],
        }
    }

    #[tokio::test]
    async fn frames_wait_across_a_restart_until_they_are_taken_in() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let put =
            registry.put_waiting(vec![frame(9, 1, 10), frame(5, 1, 20), frame(7, 2, 30)]).await.unwrap();
        assert_eq!(put, Put { kept: 3, ..Put::default() });
        registry.close().await;

        let registry = open(directory.path()).await;
        assert_eq!(registry.take_waiting(title(1)).await.unwrap(), [frame(5, 1, 20), frame(9, 1, 10)]);
        registry.forget_waiting(&[Position(5), Position(9), Position(11)]).await.unwrap();
        assert_eq!(registry.take_waiting(title(1)).await.unwrap(), []);
        let expected =
            WaitingCounts { frames: 1, titles: 1, bytes: 30, taken: 2, ..WaitingCounts::default() };
        assert_eq!(registry.waiting_counts().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_replay_puts_nothing_twice_and_wakes_nothing_that_was_taken_in_or_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let frames = vec![frame(1, 1, 10), frame(2, 1, 10), frame(3, 1, 10), frame(4, 1, 10)];
        let put = registry.put_waiting(frames.clone()).await.unwrap();
        assert_eq!(put, Put { kept: 3, dropped_title_full: 1, ..Put::default() });
        registry.forget_waiting(&[Position(1)]).await.unwrap();
        let before = registry.waiting_counts().await.unwrap();
        assert_eq!(registry.put_waiting(frames).await.unwrap(), Put { known: 4, ..Put::default() });
        assert_eq!(registry.waiting_counts().await.unwrap(), before);
    }

    #[tokio::test]
    async fn every_bound_drops_and_counts() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let frames = vec![
            frame(1, 1, 40),
            frame(2, 2, 40),
            frame(3, 3, 1),  // a third title
            frame(4, 1, 21), // more than 100 bytes
            frame(5, 1, 10),
            frame(6, 1, 10),
            frame(7, 1, 0), // a fourth of its title
        ];
        let put = registry.put_waiting(frames).await.unwrap();
        assert_eq!(
            put,
            Put { kept: 4, dropped_title_full: 1, dropped_titles: 1, dropped_bytes: 1, known: 0 }
        );
        let expected = WaitingCounts {
            frames: 4,
            titles: 2,
            bytes: 100,
            dropped_title_full: 1,
            dropped_titles: 1,
            dropped_bytes: 1,
            taken: 0,
        };
        assert_eq!(registry.waiting_counts().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_remembered_of_the_past_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        for position in 1..=10 {
            registry.put_waiting(vec![frame(position, 1, 1)]).await.unwrap();
            registry.forget_waiting(&[Position(position)]).await.unwrap();
        }
        let done: Vec<i64> = sqlx::query_scalar("SELECT position FROM waiting_done ORDER BY position")
            .fetch_all(&registry.pool)
            .await
            .unwrap();
        assert_eq!(done, [7, 8, 9, 10]);
    }
}
