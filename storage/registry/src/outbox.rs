//! The outbox: facts on their way into the journal.

use model::{AccountTerms, Fact, Instant, OutboxId, Position, Record};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::database::{counter, number, set_counter, sql_limit};
use crate::{Error, Registry};

const DRAINED: &str = "outbox_drained";

impl Registry {
    /// Up to `limit` facts with an id above `after`, by rising id. Entries stay after they are drained, so that a
    /// journal put back from a backup can be given what it misses.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn outbox_after(&self, after: OutboxId, limit: usize) -> Result<Vec<(OutboxId, Fact)>, Error> {
        let rows = sqlx::query("SELECT id, fact FROM outbox WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.0.cast_signed())
            .bind(sql_limit(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let id: u64 = number(row.try_get("id")?, "outbox id")?;
                let bytes: Vec<u8> = row.try_get("fact")?;
                let record = Record::decode(Position::default(), &bytes)
                    .map_err(|reason| Error::Damaged(format!("outbox entry {id}: {reason}")))?;
                Ok((OutboxId(id), record.fact))
            })
            .collect()
    }

    /// The last entry written; 0 before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn outbox_last(&self) -> Result<OutboxId, Error> {
        let mut connection = self.pool.acquire().await?;
        counter(&mut connection, "outbox").await.map(OutboxId)
    }

    /// Puts later terms of an account under the next number; gives them with it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_terms(&self, terms: AccountTerms) -> Result<AccountTerms, Error> {
        let mut tx = self.begin().await?;
        let next = counter(&mut tx, "outbox").await? + 1;
        let terms = AccountTerms { outbox: OutboxId(next), ..terms };
        write_outbox(&mut tx, next, &[Fact::AccountTerms(terms.clone())]).await?;
        set_counter(&mut tx, "outbox", next).await?;
        tx.commit().await?;
        Ok(terms)
    }

    /// Notes that all entries up to `upto` are durable in the journal and applied. Never goes back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn outbox_drained(&self, upto: OutboxId) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        if counter(&mut tx, DRAINED).await? < upto.0 {
            set_counter(&mut tx, DRAINED, upto.0).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Entries that nobody has said to be drained.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn outbox_pending(&self) -> Result<u64, Error> {
        let mut connection = self.pool.acquire().await?;
        let last = counter(&mut connection, "outbox").await?;
        Ok(last.saturating_sub(counter(&mut connection, DRAINED).await?))
    }
}

/// Writes facts whose last one has the id `last`. The journal stamps its own time on them.
pub(crate) async fn write_outbox(
    tx: &mut SqliteConnection,
    last: u64,
    facts: &[Fact],
) -> Result<OutboxId, Error> {
    let first = last + 1 - facts.len() as u64;
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO outbox (id, fact) ");
    query.push_values((first..).zip(facts), |mut values, (id, fact)| {
        let mut bytes = Vec::new();
        fact.encode(Instant::default(), &mut bytes);
        values.push_bind(id.cast_signed()).push_bind(bytes);
    });
    query.build().execute(tx).await?;
    Ok(OutboxId(last))
}
