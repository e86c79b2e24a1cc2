//! What statements of channels and of the bank have told, what of it is open, and what of the ledger none has told yet.
//!
//! Nothing here knows what the ledger holds: who compares brings that, and says what agrees.

use std::collections::HashMap;

use model::{CivilDay, Paise, Position};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, Transaction};

use crate::credit::log;
use crate::database::number;
use crate::{BankRow, By, Error, MoneyChannel, Registry, StatementRow};

/// Lines that are looked up or written with one statement.
const CHUNK: usize = 1000;

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

    fn of(name: &str) -> Result<Side, Error> {
        let found = [Side::Payment, Side::Refund].into_iter().find(|side| side.name() == name);
        found.ok_or_else(|| Error::Damaged(format!("kind {name:?} of a statement's line")))
    }
}

/// A line of a statement that is open: nobody has found the same in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLine {
    /// Its number among all.
    pub number: i64,
    /// The statement's day.
    pub day: CivilDay,
    /// What it says.
    pub row: StatementRow,
    /// Whether it is the first line that tells this.
    pub is_first: bool,
}

/// A transfer to the bank of which both statements do not say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransfer {
    /// Its reference (UTR).
    pub settlement: String,
    /// What the channel says it sent: payments less refunds and fees.
    pub sent: Option<Paise>,
    /// What came by the bank's statement.
    pub came: Option<Paise>,
    /// Earliest statement that tells of it.
    pub since: CivilDay,
}

/// Money that a channel says it took and that is part of no transfer yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotSent {
    /// Lines.
    pub lines: u64,
    /// Payments less refunds and fees.
    pub amount: Paise,
    /// Earliest statement with one.
    pub since: Option<CivilDay>,
}

impl Registry {
    /// Keeps the statement of a channel on a day, and the bank's that belongs to it if there is one, in place of those before.
    /// A line that says what another one says, and alone of the two in which transfer it is, is no repetition of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_statement(
        &self,
        channel: MoneyChannel,
        day: CivilDay,
        statement: &[StatementRow],
        bank: Option<&[BankRow]>,
        by: By<'_>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        forget_statement(&mut tx, channel, day).await?;
        for rows in statement.chunks(CHUNK) {
            let told = told(&mut tx, rows).await?;
            insert_lines(&mut tx, channel, day, rows, told).await?;
        }
        if let Some(bank) = bank {
            replace_bank(&mut tx, channel, day, bank).await?;
        }
        let subject = format!("{} {day}", channel.name());
        log(&mut tx, by, "reconcile", &subject, &format!("{} lines", statement.len())).await?;
        Ok(tx.commit().await?)
    }

    /// Up to which record the ledger was looked through for a channel.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconciled_upto(&self, channel: MoneyChannel) -> Result<Position, Error> {
        let found: Option<i64> = sqlx::query_scalar("SELECT position FROM reconciliation WHERE channel = ?")
            .bind(channel.name())
            .fetch_optional(&self.pool)
            .await?;
        Ok(Position(found.unwrap_or(0).cast_unsigned()))
    }

    /// Takes in what the ledger has since that record, up to `upto`; gives what of the channel no statement has told, and the
    /// day of its latest statement.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn untold(
        &self,
        channel: MoneyChannel,
        day: CivilDay,
        since: &[(String, Side)],
        upto: Position,
    ) -> Result<(Vec<(String, Side)>, CivilDay), Error> {
        let mut tx = self.begin().await?;
        for events in since.chunks(CHUNK) {
            add_untold(&mut tx, channel, events).await?;
        }
        // What was closed because the ledger had nothing of it is looked at again where it has.
        for (id, side) in since {
            sqlx::query(
                "UPDATE statement_line SET state = 'open' WHERE payment_id = ? AND kind = ? AND state = 'closed'",
            )
            .bind(id)
            .bind(side.name())
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "DELETE FROM untold WHERE channel = ? AND EXISTS (SELECT 1 FROM statement_line told WHERE \
             told.payment_id = untold.payment_id AND told.kind = untold.kind AND told.is_first = 1)",
        )
        .bind(channel.name())
        .execute(&mut *tx)
        .await?;
        let latest: i32 = sqlx::query_scalar(
            "INSERT INTO reconciliation (channel, position, day, report) VALUES (?, ?, ?, '') ON CONFLICT (channel) \
             DO UPDATE SET position = excluded.position, day = max(day, excluded.day) RETURNING day",
        )
        .bind(channel.name())
        .bind(upto.0.cast_signed())
        .bind(day.0)
        .fetch_one(&mut *tx)
        .await?;
        let rows =
            sqlx::query("SELECT payment_id, kind FROM untold WHERE channel = ? ORDER BY payment_id, kind")
                .bind(channel.name())
                .fetch_all(&mut *tx)
                .await?;
        tx.commit().await?;
        let of = |row: &SqliteRow| {
            let kind: String = row.try_get(1)?;
            Ok((row.try_get(0)?, Side::of(&kind)?))
        };
        Ok((rows.iter().map(of).collect::<Result<_, Error>>()?, CivilDay(latest)))
    }

    /// Lines of a channel's statements that are open, in the order in which they came.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn open_lines(&self, channel: MoneyChannel) -> Result<Vec<OpenLine>, Error> {
        let rows = sqlx::query(
            "SELECT number, day, line, payment_id, kind, amount_paise, fee_paise, account_number, settlement, \
             is_first FROM statement_line WHERE channel = ? AND state = 'open' ORDER BY number",
        )
        .bind(channel.name())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(open_line).collect()
    }

    /// Notes that the ledger has what these lines say.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lines_agree(&self, numbers: &[i64]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        for some in numbers.chunks(CHUNK) {
            let mut query =
                QueryBuilder::<Sqlite>::new("UPDATE statement_line SET state = 'agreed' WHERE number IN (");
            let mut values = query.separated(", ");
            some.iter().for_each(|number| {
                values.push_bind(*number);
            });
            query.push(")").build().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Lines of one day's statement and their sum, by payment or refund and by whether they agree; and all fees.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn statement_sums(
        &self,
        channel: MoneyChannel,
        day: CivilDay,
    ) -> Result<(Vec<(Side, bool, u64, Paise)>, Paise), Error> {
        let rows = sqlx::query(
            "SELECT kind, state = 'agreed', count(*), sum(amount_paise), sum(fee_paise) FROM statement_line \
             WHERE channel = ? AND day = ? GROUP BY 1, 2",
        )
        .bind(channel.name())
        .bind(day.0)
        .fetch_all(&self.pool)
        .await?;
        let (mut sums, mut fees) = (Vec::new(), Paise::ZERO);
        for row in rows {
            let kind: String = row.try_get(0)?;
            let agrees: i64 = row.try_get(1)?;
            let lines = number(row.try_get(2)?, "a count")?;
            sums.push((Side::of(&kind)?, agrees != 0, lines, Paise(row.try_get(3)?)));
            fees += Paise(row.try_get(4)?);
        }
        Ok((sums, fees))
    }

    /// Transfers of a channel of which both statements do not say the same, and what is in none; those that agree are looked at
    /// no more.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn open_transfers(&self, channel: MoneyChannel) -> Result<(Vec<OpenTransfer>, NotSent), Error> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(TRANSFERS).bind(channel.name()).fetch_all(&mut *tx).await?;
        let mut open = Vec::new();
        for row in rows {
            let transfer = OpenTransfer {
                settlement: row.try_get(0)?,
                sent: row.try_get::<Option<i64>, _>(1)?.map(Paise),
                came: row.try_get::<Option<i64>, _>(2)?.map(Paise),
                since: CivilDay(row.try_get(3)?),
            };
            if transfer.sent.unwrap_or_default() == transfer.came.unwrap_or_default() {
                settle(&mut tx, channel, &transfer.settlement).await?;
            } else {
                open.push(transfer);
            }
        }
        let row = sqlx::query(
            "SELECT count(*), coalesce(sum(CASE kind WHEN 'payment' THEN amount_paise ELSE -amount_paise END \
             - fee_paise), 0), min(day) FROM statement_line \
             WHERE channel = ? AND is_settled = 0 AND settlement = '' AND is_first = 1 AND state <> 'closed' \
             AND NOT EXISTS (SELECT 1 FROM statement_line added WHERE added.payment_id = statement_line.payment_id \
             AND added.kind = statement_line.kind AND added.adds_transfer = 1 AND added.settlement <> '')",
        )
        .bind(channel.name())
        .fetch_one(&mut *tx)
        .await?;
        let not_sent = NotSent {
            lines: number(row.try_get(0)?, "a count")?,
            amount: Paise(row.try_get(1)?),
            since: row.try_get::<Option<i32>, _>(2)?.map(CivilDay),
        };
        tx.commit().await?;
        Ok((open, not_sent))
    }

    /// Whether the channel's statements or the bank's have ever told a transfer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_transfers(&self, channel: MoneyChannel) -> Result<bool, Error> {
        let found: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM bank_line WHERE channel = ?1) OR EXISTS \
             (SELECT 1 FROM statement_line WHERE channel = ?1 AND settlement <> '')",
        )
        .bind(channel.name())
        .fetch_one(&self.pool)
        .await?;
        Ok(found != 0)
    }

    /// Closes a transfer, by a person who has dealt with it. False where none of that reference is open.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_transfer(
        &self,
        channel: MoneyChannel,
        settlement: &str,
        reason: &str,
        by: By<'_>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if settle(&mut tx, channel, settlement).await? == 0 {
            return Ok(false);
        }
        let subject = format!("{} {settlement}", channel.name());
        log(&mut tx, by, "close transfer", &subject, reason).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Closes what is open of a payment, by a person who has dealt with it. False where nothing is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_difference(&self, payment: &str, reason: &str, by: By<'_>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let lines =
            sqlx::query("UPDATE statement_line SET state = 'closed' WHERE payment_id = ? AND state = 'open'")
                .bind(payment)
                .execute(&mut *tx)
                .await?;
        let untold =
            sqlx::query("DELETE FROM untold WHERE payment_id = ?").bind(payment).execute(&mut *tx).await?;
        if lines.rows_affected() + untold.rows_affected() == 0 {
            return Ok(false);
        }
        log(&mut tx, by, "close difference", payment, reason).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Keeps the newest report on a channel.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_reconciliation(&self, channel: MoneyChannel, report: &str) -> Result<(), Error> {
        sqlx::query("UPDATE reconciliation SET report = ? WHERE channel = ?")
            .bind(report)
            .bind(channel.name())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The newest report on a channel, JSON.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconciliation(&self, channel: MoneyChannel) -> Result<Option<String>, Error> {
        let report =
            sqlx::query_scalar("SELECT report FROM reconciliation WHERE channel = ? AND report <> ''")
                .bind(channel.name())
                .fetch_optional(&self.pool)
                .await?;
        Ok(report)
    }
}

/// Of transfers that a line tells which is not settled: what all lines say, and what the bank says.
const TRANSFERS: &str = "
WITH name AS (
    SELECT settlement FROM statement_line WHERE channel = ?1 AND is_settled = 0 AND settlement <> ''
    UNION
    SELECT settlement FROM bank_line WHERE channel = ?1 AND is_settled = 0
),
sent AS (
    SELECT settlement, min(day) AS day,
           sum(CASE kind WHEN 'payment' THEN amount_paise ELSE -amount_paise END - fee_paise) AS paise
    FROM statement_line WHERE channel = ?1 AND settlement <> '' AND settlement IN (SELECT settlement FROM name)
    GROUP BY settlement
),
came AS (
    SELECT settlement, min(day) AS day, sum(amount_paise) AS paise
    FROM bank_line WHERE channel = ?1 AND settlement IN (SELECT settlement FROM name) GROUP BY settlement
)
SELECT name.settlement, sent.paise, came.paise, min(coalesce(sent.day, came.day), coalesce(came.day, sent.day))
FROM name LEFT JOIN sent USING (settlement) LEFT JOIN came USING (settlement)
ORDER BY name.settlement";

/// Takes a day's statement away. What it alone told is untold again; a repetition of it elsewhere is the first then.
async fn forget_statement(
    tx: &mut Transaction<'_, Sqlite>,
    channel: MoneyChannel,
    day: CivilDay,
) -> Result<(), Error> {
    for statement in [
        "INSERT INTO untold (payment_id, kind, channel) SELECT payment_id, kind, channel FROM statement_line \
         WHERE channel = ?1 AND day = ?2 AND is_first = 1 ON CONFLICT DO NOTHING",
        // A transfer that agreed with it is looked at again.
        "UPDATE bank_line SET is_settled = 0 WHERE channel = ?1 AND settlement IN (SELECT settlement FROM \
         statement_line WHERE channel = ?1 AND day = ?2 AND settlement <> '')",
        "UPDATE statement_line SET is_settled = 0 WHERE channel = ?1 AND settlement <> '' AND settlement IN \
         (SELECT settlement FROM statement_line WHERE channel = ?1 AND day = ?2 AND settlement <> '')",
        "DELETE FROM statement_line WHERE channel = ?1 AND day = ?2",
    ] {
        sqlx::query(statement).bind(channel.name()).bind(day.0).execute(&mut **tx).await?;
    }
    sqlx::query(
        "UPDATE statement_line SET is_first = 1, adds_transfer = 0, state = 'open' WHERE number IN (SELECT min(number) FROM statement_line again \
         WHERE again.channel = ? AND again.is_first = 0 AND NOT EXISTS (SELECT 1 FROM statement_line told WHERE \
         told.payment_id = again.payment_id AND told.kind = again.kind AND told.is_first = 1) \
         GROUP BY payment_id, kind)",
    )
    .bind(channel.name())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What other lines tell of a payment or refund.
struct Told {
    amount: Paise,
    account_number: String,
    first_day: CivilDay,
    has_transfer: bool,
}

impl Told {
    /// Whether this line says the same, and alone of all of them in which transfer it is, or was told before that.
    fn is_completed_by(&self, row: &StatementRow, day: CivilDay) -> bool {
        let (ours, theirs) = (&self.account_number, &row.account_number);
        let is_same = self.amount == row.amount && (ours == theirs || ours.is_empty() || theirs.is_empty());
        let is_earlier = self.has_transfer && row.settlement.is_empty() && day < self.first_day;
        is_same && (is_earlier || (!self.has_transfer && !row.settlement.is_empty()))
    }
}

type ToldBefore = HashMap<(String, Side), Told>;

async fn told(tx: &mut Transaction<'_, Sqlite>, rows: &[StatementRow]) -> Result<ToldBefore, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT payment_id, kind, amount_paise, account_number, day, settlement <> '' FROM statement_line \
         WHERE payment_id IN (",
    );
    let mut ids = query.separated(", ");
    rows.iter().for_each(|row| {
        ids.push_bind(&row.payment_id);
    });
    let found = query.push(") ORDER BY is_first DESC, number").build().fetch_all(&mut **tx).await?;
    let mut told = ToldBefore::new();
    for row in found {
        let (kind, has_transfer): (String, i64) = (row.try_get(1)?, row.try_get(5)?);
        let known = Told {
            amount: Paise(row.try_get(2)?),
            account_number: row.try_get(3)?,
            first_day: CivilDay(row.try_get(4)?),
            has_transfer: false,
        };
        let known = told.entry((row.try_get(0)?, Side::of(&kind)?)).or_insert(known);
        known.has_transfer |= has_transfer != 0;
    }
    Ok(told)
}

async fn insert_lines(
    tx: &mut Transaction<'_, Sqlite>,
    channel: MoneyChannel,
    day: CivilDay,
    rows: &[StatementRow],
    mut told: ToldBefore,
) -> Result<(), Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO statement_line (channel, day, line, payment_id, kind, amount_paise, fee_paise, \
         account_number, settlement, is_first, adds_transfer, state) ",
    );
    query.push_values(rows, |mut values, row| {
        let key = (row.payment_id.clone(), row.side);
        let (is_first, adds_transfer) = match told.get(&key) {
            None => (true, false),
            Some(told) => (false, told.is_completed_by(row, day)),
        };
        let known = told.entry(key).or_insert_with(|| Told {
            amount: row.amount,
            account_number: row.account_number.clone(),
            first_day: day,
            has_transfer: false,
        });
        known.has_transfer |= !row.settlement.is_empty();
        values
            .push_bind(channel.name())
            .push_bind(day.0)
            .push_bind(row.line.cast_signed())
            .push_bind(&row.payment_id)
            .push_bind(row.side.name())
            .push_bind(row.amount.0)
            .push_bind(row.fee.0)
            .push_bind(&row.account_number)
            .push_bind(&row.settlement)
            .push_bind(i64::from(is_first))
            .push_bind(i64::from(adds_transfer))
            .push_bind(if adds_transfer { "agreed" } else { "open" });
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Notes that a transfer is to be looked at no more; gives how many lines were open of it.
async fn settle(
    tx: &mut Transaction<'_, Sqlite>,
    channel: MoneyChannel,
    settlement: &str,
) -> Result<u64, Error> {
    let mut lines = 0;
    for statement in [
        "UPDATE statement_line SET is_settled = 1 WHERE channel = ? AND settlement = ? AND settlement <> '' \
         AND is_settled = 0",
        "UPDATE bank_line SET is_settled = 1 WHERE channel = ? AND settlement = ? AND is_settled = 0",
    ] {
        let done = sqlx::query(statement).bind(channel.name()).bind(settlement).execute(&mut **tx).await?;
        lines += done.rows_affected();
    }
    Ok(lines)
}

async fn replace_bank(
    tx: &mut Transaction<'_, Sqlite>,
    channel: MoneyChannel,
    day: CivilDay,
    bank: &[BankRow],
) -> Result<(), Error> {
    // What was settled by what goes away is looked at again.
    for statement in [
        "UPDATE statement_line SET is_settled = 0 WHERE channel = ?1 AND settlement IN \
         (SELECT settlement FROM bank_line WHERE channel = ?1 AND day = ?2)",
        "DELETE FROM bank_line WHERE channel = ?1 AND day = ?2",
    ] {
        sqlx::query(statement).bind(channel.name()).bind(day.0).execute(&mut **tx).await?;
    }
    for row in bank {
        // A transfer has one reference: a line that came with another day's statement is the same one.
        sqlx::query(
            "INSERT INTO bank_line (channel, day, settlement, amount_paise) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS \
             (SELECT 1 FROM bank_line WHERE channel = ?1 AND settlement = ?3 AND amount_paise = ?4 AND day <> ?2)",
        )
        .bind(channel.name())
        .bind(day.0)
        .bind(&row.settlement)
        .bind(row.amount.0)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn add_untold(
    tx: &mut SqliteConnection,
    channel: MoneyChannel,
    events: &[(String, Side)],
) -> Result<(), Error> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO untold (payment_id, kind, channel) ");
    query.push_values(events, |mut values, (id, side)| {
        values.push_bind(id).push_bind(side.name()).push_bind(channel.name());
    });
    query.push(" ON CONFLICT DO NOTHING").build().execute(tx).await?;
    Ok(())
}

fn open_line(row: &SqliteRow) -> Result<OpenLine, Error> {
    let (kind, is_first): (String, i64) = (row.try_get(4)?, row.try_get(9)?);
    Ok(OpenLine {
        number: row.try_get(0)?,
        day: CivilDay(row.try_get(1)?),
        row: StatementRow {
            line: number(row.try_get(2)?, "a line")?,
            payment_id: row.try_get(3)?,
            side: Side::of(&kind)?,
            amount: Paise(row.try_get(5)?),
            fee: Paise(row.try_get(6)?),
            account_number: row.try_get(7)?,
            settlement: row.try_get(8)?,
        },
        is_first: is_first != 0,
    })
}

#[cfg(test)]
mod tests {
    use model::Instant;

    use super::*;
    use crate::database::tests::open;

    const BY: By<'static> = By { person: "A. Singh", at: Instant(5) };
    const CHANNEL: MoneyChannel = MoneyChannel::Bbps;

    fn row(id: &str, side: Side, paise: i64, settlement: &str) -> StatementRow {
        StatementRow {
            line: 2,
            payment_id: id.into(),
            side,
            amount: Paise(paise),
            account_number: String::new(),
            fee: Paise(1),
            settlement: settlement.into(),
        }
    }

    fn paid(id: &str) -> (String, Side) {
        (id.to_owned(), Side::Payment)
    }

    async fn take(registry: &Registry, day: i32, rows: &[StatementRow], bank: Option<&[BankRow]>) {
        registry.take_statement(CHANNEL, CivilDay(day), rows, bank, BY).await.unwrap();
    }

    async fn open_ids(registry: &Registry) -> Vec<(String, bool)> {
        let lines = registry.open_lines(CHANNEL).await.unwrap();
        lines.into_iter().map(|line| (line.row.payment_id, line.is_first)).collect()
    }

    #[tokio::test]
    async fn what_is_told_is_open_until_it_agrees_and_what_is_not_told_stays_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        take(&registry, 10, &[row("a", Side::Payment, 5, ""), row("b", Side::Payment, 6, "")], None).await;
        let ledger = [paid("a"), paid("c"), ("a".to_owned(), Side::Refund)];
        let (untold, latest) = registry.untold(CHANNEL, CivilDay(10), &ledger, Position(7)).await.unwrap();
        assert_eq!((untold, latest), (vec![("a".to_owned(), Side::Refund), paid("c")], CivilDay(10)));
        assert_eq!(registry.reconciled_upto(CHANNEL).await.unwrap(), Position(7));
        assert_eq!(registry.reconciled_upto(MoneyChannel::Agent).await.unwrap(), Position(0));
        let agreed = registry.open_lines(CHANNEL).await.unwrap()[0].number;
        registry.lines_agree(&[agreed]).await.unwrap();
        assert_eq!(open_ids(&registry).await, [("b".to_owned(), true)]);
        // The next day tells c, and a once more.
        take(&registry, 11, &[row("c", Side::Payment, 5, ""), row("a", Side::Payment, 5, "")], None).await;
        let (untold, _) = registry.untold(CHANNEL, CivilDay(11), &[], Position(9)).await.unwrap();
        assert_eq!(untold, [("a".to_owned(), Side::Refund)]);
        let told = [("b".to_owned(), true), ("c".to_owned(), true), ("a".to_owned(), false)];
        assert_eq!(open_ids(&registry).await, told);
        // The first day again, without a: the other line is the first of it now. And b is closed by hand.
        take(&registry, 10, &[row("b", Side::Payment, 6, "")], None).await;
        let told = [("c".to_owned(), true), ("a".to_owned(), true), ("b".to_owned(), true)];
        assert_eq!(open_ids(&registry).await, told);
        assert!(registry.close_difference("b", "asked", BY).await.unwrap());
        assert!(!registry.close_difference("b", "asked", BY).await.unwrap());
        assert_eq!(open_ids(&registry).await, told[..2]);
        // A statement that is taken away leaves what it told untold.
        take(&registry, 11, &[], None).await;
        let (untold, latest) = registry.untold(CHANNEL, CivilDay(9), &[], Position(9)).await.unwrap();
        assert_eq!(untold, [paid("a"), ("a".to_owned(), Side::Refund), paid("c")]);
        assert_eq!(latest, CivilDay(11));
        // What was closed is looked at again when the ledger has it after all.
        registry.untold(CHANNEL, CivilDay(11), &[paid("b")], Position(12)).await.unwrap();
        assert_eq!(open_ids(&registry).await, [("b".to_owned(), true)]);
    }

    #[tokio::test]
    async fn transfers_are_open_until_the_bank_says_the_same_and_a_payment_may_tell_its_own_later() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let first = [
            row("a", Side::Payment, 101, "U1"),
            row("b", Side::Payment, 50, ""),
            row("c", Side::Refund, 20, "U1"),
        ];
        take(&registry, 10, &first, None).await;
        let (open, not_sent) = registry.open_transfers(CHANNEL).await.unwrap();
        let transfer = |settlement: &str, sent: Option<i64>, came: Option<i64>, since| OpenTransfer {
            settlement: settlement.into(),
            sent: sent.map(Paise),
            came: came.map(Paise),
            since: CivilDay(since),
        };
        assert_eq!(open, [transfer("U1", Some(79), None, 10)]);
        let waits = NotSent { lines: 1, amount: Paise(49), since: Some(CivilDay(10)) };
        assert_eq!(not_sent, waits);
        let bank = |settlement: &str, paise| BankRow { settlement: settlement.into(), amount: Paise(paise) };
        take(&registry, 11, &[row("b", Side::Payment, 50, "U2")], Some(&[bank("U1", 79), bank("U2", 48)]))
            .await;
        let (open, not_sent) = registry.open_transfers(CHANNEL).await.unwrap();
        assert_eq!(open, [transfer("U2", Some(49), Some(48), 11)]);
        assert_eq!(not_sent, NotSent::default());
        assert_eq!(open_ids(&registry).await.len(), 3, "telling its transfer is no repetition");
        // Brought again, it is the same; brought first, the earlier day is no repetition either.
        let later = [row("b", Side::Payment, 50, "U2")];
        take(&registry, 11, &later, Some(&[bank("U1", 79), bank("U2", 48)])).await;
        assert_eq!(
            registry.open_transfers(CHANNEL).await.unwrap().0,
            [transfer("U2", Some(49), Some(48), 11)]
        );
        take(&registry, 10, &first, None).await;
        assert_eq!(
            registry.open_transfers(CHANNEL).await.unwrap().0,
            [transfer("U2", Some(49), Some(48), 11)]
        );
        assert!(registry.open_lines(CHANNEL).await.unwrap().iter().all(|line| line.is_first));
        // Told in two transfers it is one too many.
        let twice = [row("b", Side::Payment, 50, "U2"), row("b", Side::Payment, 50, "U3")];
        take(&registry, 11, &twice, Some(&[bank("U2", 48)])).await;
        let repeated = registry.open_lines(CHANNEL).await.unwrap();
        assert_eq!(repeated.iter().filter(|line| !line.is_first).count(), 1);
        // The bank's line with another day's statement is the same line.
        take(&registry, 12, &[], Some(&[bank("U1", 79), bank("U2", 48)])).await;
        take(&registry, 11, &later, Some(&[bank("U1", 79), bank("U2", 48)])).await;
        let (open, _) = registry.open_transfers(CHANNEL).await.unwrap();
        assert_eq!(open, [transfer("U2", Some(49), Some(48), 11)]);
        take(&registry, 12, &[], Some(&[])).await;
        // The bank's statement again: what it settled is looked at anew.
        take(&registry, 11, &later, Some(&[bank("U1", 78), bank("U2", 49)])).await;
        let (open, _) = registry.open_transfers(CHANNEL).await.unwrap();
        assert_eq!(open, [transfer("U1", Some(79), Some(78), 10)]);
        // So is a transfer that agreed, where the statement that told it is corrected.
        take(&registry, 11, &[], None).await;
        let (open, not_sent) = registry.open_transfers(CHANNEL).await.unwrap();
        assert_eq!(open, [transfer("U1", Some(79), Some(78), 10), transfer("U2", None, Some(49), 11)]);
        assert_eq!(not_sent.lines, 1);
        assert!(registry.close_transfer(CHANNEL, "U2", "a charge of the bank", BY).await.unwrap());
        assert!(!registry.close_transfer(CHANNEL, "U2", "a charge of the bank", BY).await.unwrap());
        assert!(registry.has_transfers(CHANNEL).await.unwrap());
        assert!(!registry.has_transfers(MoneyChannel::Agent).await.unwrap());
    }
}
