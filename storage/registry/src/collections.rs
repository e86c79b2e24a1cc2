//! Money that was taken elsewhere and came as files, and what first came of each line.

use std::collections::BTreeMap;

use model::{CivilDay, Instant, Paise};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite};

use crate::credit::log;
use crate::database::{number, sql_limit};
use crate::{By, Error, Registry};

/// Payments that are looked up with one statement.
const CHUNK: usize = 1000;

/// Where money is taken that does not come through the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoneyChannel {
    /// Bharat BillPay: apps of banks and others.
    Bbps,
    /// The utility's own counters.
    Counter,
    /// Agents who collect for it.
    Agent,
    /// Its bank: transfers, mandates, cheques.
    Bank,
}

impl MoneyChannel {
    /// All of them.
    pub const ALL: [MoneyChannel; 4] =
        [MoneyChannel::Bbps, MoneyChannel::Counter, MoneyChannel::Agent, MoneyChannel::Bank];

    /// The word of it, with which its payment ids begin in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            MoneyChannel::Bbps => "bbps",
            MoneyChannel::Counter => "counter",
            MoneyChannel::Agent => "agent",
            MoneyChannel::Bank => "bank",
        }
    }

    /// The channel of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<MoneyChannel> {
        MoneyChannel::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// What first came of a line of a file: what a person does with the money afterwards the ledger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CollectionState {
    /// It waits to be booked.
    Taken,
    /// It was booked to its account.
    Booked,
    /// No account is known by its number: booked under suspense.
    Suspense,
    /// An earlier file has the same payment.
    Repeated,
    /// An earlier file has it for another account or amount: nothing was booked, a person has to look.
    Conflict,
    /// The ledger does not take it, or it was taken back before.
    Refused,
    /// A person has dealt with a conflict or a refusal.
    Settled,
}

impl CollectionState {
    /// All of them.
    pub const ALL: [CollectionState; 7] = [
        CollectionState::Taken,
        CollectionState::Booked,
        CollectionState::Suspense,
        CollectionState::Repeated,
        CollectionState::Conflict,
        CollectionState::Refused,
        CollectionState::Settled,
    ];

    /// The word of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CollectionState::Taken => "taken",
            CollectionState::Booked => "booked",
            CollectionState::Suspense => "suspense",
            CollectionState::Repeated => "repeated",
            CollectionState::Conflict => "conflict",
            CollectionState::Refused => "refused",
            CollectionState::Settled => "settled",
        }
    }

    fn of(name: &str) -> Result<CollectionState, Error> {
        let found = CollectionState::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| Error::Damaged(format!("state {name:?} of a collection")))
    }
}

/// One payment of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its number among all.
    pub number: i64,
    /// Id of its file.
    pub batch: String,
    /// Its line there, from 1.
    pub line: u64,
    /// The ledger's id of it: channel, colon, id at its source.
    pub payment_id: String,
    /// The account's number as the file has it.
    pub account_number: String,
    /// What was paid.
    pub amount: Paise,
    /// When, by the file.
    pub paid_on: CivilDay,
    /// What came of it.
    pub state: CollectionState,
    /// Why.
    pub said: String,
}

/// A file and what came of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// Where the money was taken.
    pub channel: String,
    /// Id of the file.
    pub batch: String,
    /// Who brought it, and when.
    pub taken: (String, Instant),
    /// Payments and their sum.
    pub total: (u64, Paise),
    /// The same by state, of states that have any.
    pub by_state: Vec<(CollectionState, u64, Paise)>,
}

const SELECT: &str = "SELECT collection.number, batch.batch, line, payment_id, account_number, \
     collection.amount_paise, paid_on, state, said FROM collection \
     JOIN collection_batch batch ON batch.number = collection.batch ";

impl Registry {
    /// Payments that wait to be booked, in the order in which they came.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn collections_to_book(&self, limit: usize) -> Result<Vec<Collection>, Error> {
        let statement = selected("WHERE state = 'taken' ORDER BY collection.number LIMIT ?");
        let rows = sqlx::query(statement).bind(sql_limit(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(collection_of).collect()
    }

    /// Notes what came of payments that waited.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn collections_booked(&self, done: &[(i64, CollectionState, String)]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        for (number, state, said) in done {
            sqlx::query("UPDATE collection SET state = ?, said = ? WHERE number = ? AND state = 'taken'")
                .bind(state.name())
                .bind(said)
                .bind(number)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// All lines of files that tell of these payments, by payment and in the order in which they came.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn collections_of(&self, payments: &[String]) -> Result<Vec<Collection>, Error> {
        let mut found = Vec::new();
        for chunk in payments.chunks(CHUNK) {
            let mut query = QueryBuilder::<Sqlite>::new(SELECT);
            query.push("WHERE payment_id IN (");
            let mut ids = query.separated(", ");
            chunk.iter().for_each(|id| {
                ids.push_bind(id);
            });
            query.push(") ORDER BY payment_id, collection.number");
            let rows = query.build().fetch_all(&self.pool).await?;
            found.extend(rows.iter().map(collection_of).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    /// Lines of one file in any of these states, at most `limit`.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn collections_in(
        &self,
        channel: MoneyChannel,
        batch: &str,
        states: &[CollectionState],
        limit: usize,
    ) -> Result<Vec<Collection>, Error> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push("WHERE batch.channel = ").push_bind(channel.name());
        query.push(" AND batch.batch = ").push_bind(batch).push(" AND state IN (");
        let mut names = query.separated(", ");
        states.iter().for_each(|state| {
            names.push_bind(state.name());
        });
        query.push(") ORDER BY line LIMIT ").push_bind(sql_limit(limit));
        let rows = query.build().fetch_all(&self.pool).await?;
        rows.iter().map(collection_of).collect()
    }

    /// The newest files, newest first, at most `limit`; of one channel, and one file, where they are said.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn collection_batches(
        &self,
        channel: Option<MoneyChannel>,
        batch: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BatchSummary>, Error> {
        let rows = sqlx::query(
            "SELECT channel, batch, person, at, lines, amount_paise, number FROM collection_batch \
             WHERE (?1 IS NULL OR channel = ?1) AND (?2 IS NULL OR batch = ?2) ORDER BY number DESC LIMIT ?3",
        )
        .bind(channel.map(MoneyChannel::name))
        .bind(batch)
        .bind(sql_limit(limit))
        .fetch_all(&self.pool)
        .await?;
        let mut batches = Vec::new();
        for row in rows {
            batches.push(BatchSummary {
                channel: row.try_get(0)?,
                batch: row.try_get(1)?,
                taken: (row.try_get(2)?, Instant(row.try_get(3)?)),
                total: (number(row.try_get(4)?, "a count")?, Paise(row.try_get(5)?)),
                by_state: self.by_state(row.try_get(6)?).await?,
            });
        }
        Ok(batches)
    }

    async fn by_state(&self, batch: i64) -> Result<Vec<(CollectionState, u64, Paise)>, Error> {
        let rows = sqlx::query(
            "SELECT state, count(*), sum(amount_paise) FROM collection WHERE batch = ? GROUP BY state ORDER BY state",
        )
        .bind(batch)
        .fetch_all(&self.pool)
        .await?;
        let of = |row: &SqliteRow| {
            let state: String = row.try_get(0)?;
            Ok((CollectionState::of(&state)?, number(row.try_get(1)?, "a count")?, Paise(row.try_get(2)?)))
        };
        rows.iter().map(of).collect()
    }

    /// Lines that wait for a process or a person, the oldest first, at most `limit`; and how many there are by state.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn open_collections(
        &self,
        limit: usize,
    ) -> Result<(Vec<Collection>, BTreeMap<CollectionState, u64>), Error> {
        let statement =
            selected("WHERE state IN ('taken', 'conflict', 'refused') ORDER BY collection.number LIMIT ?");
        let rows = sqlx::query(statement).bind(sql_limit(limit)).fetch_all(&self.pool).await?;
        let lines = rows.iter().map(collection_of).collect::<Result<_, _>>()?;
        let rows = sqlx::query(
            "SELECT state, count(*) FROM collection WHERE state IN ('taken', 'conflict', 'refused') GROUP BY state",
        )
        .fetch_all(&self.pool)
        .await?;
        let count = |row: &SqliteRow| {
            let state: String = row.try_get(0)?;
            Ok((CollectionState::of(&state)?, number(row.try_get(1)?, "a count")?))
        };
        Ok((lines, rows.iter().map(count).collect::<Result<_, Error>>()?))
    }

    /// Notes that a person has dealt with a line that is a conflict or was refused. False where there is no such line.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_collection(
        &self,
        channel: MoneyChannel,
        batch: &str,
        line: u64,
        reason: &str,
        by: By<'_>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let settled = sqlx::query(
            "UPDATE collection SET state = 'settled', said = ? WHERE line = ? AND state IN ('conflict', 'refused') \
             AND batch = (SELECT number FROM collection_batch WHERE channel = ? AND batch = ?)",
        )
        .bind(reason)
        .bind(line.cast_signed())
        .bind(channel.name())
        .bind(batch)
        .execute(&mut *tx)
        .await?;
        if settled.rows_affected() == 0 {
            return Ok(false);
        }
        let subject = format!("{} {batch} line {line}", channel.name());
        log(&mut tx, by, "settle collection", &subject, reason).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn selected(condition: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{SELECT}{condition}"))
}

fn collection_of(row: &SqliteRow) -> Result<Collection, Error> {
    let state: String = row.try_get(7)?;
    Ok(Collection {
        number: row.try_get(0)?,
        batch: row.try_get(1)?,
        line: number(row.try_get(2)?, "a line")?,
        payment_id: row.try_get(3)?,
        account_number: row.try_get(4)?,
        amount: Paise(row.try_get(5)?),
        paid_on: CivilDay(row.try_get(6)?),
        state: CollectionState::of(&state)?,
        said: row.try_get(8)?,
    })
}
