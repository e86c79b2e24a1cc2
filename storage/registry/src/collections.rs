//! Money that was taken elsewhere and came as files, what came of each line, and days that were held against statements.

use std::collections::BTreeSet;

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
pub enum Channel {
    /// Bharat BillPay: apps of banks and others.
    Bbps,
    /// The utility's own counters.
    Counter,
    /// Agents who collect for it.
    Agent,
    /// Its bank: transfers, mandates, cheques.
    Bank,
}

impl Channel {
    /// All of them.
    pub const ALL: [Channel; 4] = [Channel::Bbps, Channel::Counter, Channel::Agent, Channel::Bank];

    /// The word of it, with which its payment ids begin in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Channel::Bbps => "bbps",
            Channel::Counter => "counter",
            Channel::Agent => "agent",
            Channel::Bank => "bank",
        }
    }

    /// The channel of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// What came of a line of a file.
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
    /// The ledger does not take it.
    Refused,
}

impl CollectionState {
    /// All of them.
    pub const ALL: [CollectionState; 6] = [
        CollectionState::Taken,
        CollectionState::Booked,
        CollectionState::Suspense,
        CollectionState::Repeated,
        CollectionState::Conflict,
        CollectionState::Refused,
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

/// What of a payment a statement tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// It was paid.
    Payment,
    /// It went back.
    Refund,
}

impl Side {
    /// The word of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Payment => "payment",
            Side::Refund => "refund",
        }
    }
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
        channel: Channel,
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
        channel: Option<Channel>,
        batch: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BatchSummary>, Error> {
        let rows = sqlx::query(
            "SELECT channel, batch, person, at, lines, amount_paise, number FROM collection_batch \
             WHERE (?1 IS NULL OR channel = ?1) AND (?2 IS NULL OR batch = ?2) ORDER BY number DESC LIMIT ?3",
        )
        .bind(channel.map(Channel::name))
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

    /// What statements of a channel have told so far, but for that of one day: what is there was found on both sides.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn reconciled(
        &self,
        channel: Channel,
        but: CivilDay,
    ) -> Result<BTreeSet<(String, Side)>, Error> {
        let rows = sqlx::query("SELECT payment_id, kind FROM reconciled WHERE channel = ? AND day <> ?")
            .bind(channel.name())
            .bind(but.0)
            .fetch_all(&self.pool)
            .await?;
        let of = |row: &SqliteRow| {
            let kind: String = row.try_get(1)?;
            let side = [Side::Payment, Side::Refund].into_iter().find(|side| side.name() == kind);
            Ok((row.try_get(0)?, side.ok_or_else(|| Error::Damaged(format!("kind {kind:?}")))?))
        };
        rows.iter().map(of).collect()
    }

    /// Keeps the report on a day of a channel and what its statement and the ledger both have, in place of those before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_reconciliation(
        &self,
        channel: Channel,
        day: CivilDay,
        report: &str,
        found: &[(String, Side)],
        by: By<'_>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM reconciled WHERE channel = ? AND day = ?")
            .bind(channel.name())
            .bind(day.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO reconciliation (channel, day, person, at, report) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (channel, day) DO UPDATE SET person = excluded.person, at = excluded.at, \
             report = excluded.report",
        )
        .bind(channel.name())
        .bind(day.0)
        .bind(by.person)
        .bind(by.at.0)
        .bind(report)
        .execute(&mut *tx)
        .await?;
        for chunk in found.chunks(CHUNK) {
            let mut query =
                QueryBuilder::<Sqlite>::new("INSERT INTO reconciled (payment_id, kind, channel, day) ");
            query.push_values(chunk, |mut row, (id, side)| {
                row.push_bind(id).push_bind(side.name()).push_bind(channel.name()).push_bind(day.0);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(&mut *tx).await?;
        }
        let subject = format!("{} {day}", channel.name());
        log(&mut tx, by, "reconcile", &subject, "").await?;
        Ok(tx.commit().await?)
    }

    /// The report that was kept on a day of a channel, JSON.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconciliation(&self, channel: Channel, day: CivilDay) -> Result<Option<String>, Error> {
        let report = sqlx::query_scalar("SELECT report FROM reconciliation WHERE channel = ? AND day = ?")
            .bind(channel.name())
            .bind(day.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(report)
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
