//! A file of money that was taken elsewhere: at a counter, by an agent, over BBPS, into the bank.

use std::collections::HashMap;
use std::io::Read;

use model::{CivilDay, Paise};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::decimal::scaled;
use super::table::{Column, Header, Line, Table};
use super::{BadLines, ImportError};
use crate::collections::{CollectionState, MoneyChannel};
use crate::credit::log;
use crate::{By, Error, Registry};

const COLUMNS: [Column; 5] = [
    required("account_number"),
    required("amount_rupees"),
    required("payment_id"),
    required("paid_on"),
    Column { name: "collector", header: Header::Optional },
];
const ACCOUNT: usize = 0;
const AMOUNT: usize = 1;
const PAYMENT: usize = 2;
const PAID_ON: usize = 3;
const COLLECTOR: usize = 4;

/// Longest id of a payment, a collector or a batch at its source, bytes.
const MAX_ID_BYTES: usize = 56;
/// Longest text in place of an account number, bytes.
const MAX_ACCOUNT_BYTES: usize = 64;
/// Largest payment, paise: a hundred crore rupees.
const MAX_AMOUNT_PAISE: i64 = 100_000_000_000;

const fn required(name: &'static str) -> Column {
    Column { name, header: Header::Required }
}

/// What whoever took the money says of a file.
#[derive(Clone, Copy, Debug)]
pub struct CollectionBatch<'a> {
    /// Where it was taken.
    pub channel: MoneyChannel,
    /// Id of the file at its source.
    pub id: &'a str,
    /// How many payments it has.
    pub lines: u64,
    /// What they add up to.
    pub amount: Paise,
    /// Digest of the file's bytes.
    pub digest: [u8; 16],
}

/// Why a file of collections was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// Its lines, or the database.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// It is not what was said of it.
    #[error(
        "nothing was taken: the file has {lines} payments of ₹{amount}, and is said to have {said_lines} of ₹{said_amount}"
    )]
    Totals {
        /// Payments in the file.
        lines: u64,
        /// What they add up to.
        amount: Paise,
        /// Payments that were said.
        said_lines: u64,
        /// Amount that was said.
        said_amount: Paise,
    },
    /// Another file came under the same id.
    #[error("nothing was taken: another file came as batch {0:?} before; give this one an id of its own")]
    OtherFile(String),
    /// Not an id.
    #[error("a batch has an id of 1 to {MAX_ID_BYTES} printed characters without spaces, not {0:?}")]
    BatchId(String),
}

impl From<Error> for CollectionError {
    fn from(error: Error) -> CollectionError {
        CollectionError::Import(ImportError::Registry(error))
    }
}

impl From<sqlx::Error> for CollectionError {
    fn from(error: sqlx::Error) -> CollectionError {
        CollectionError::from(Error::Database(error))
    }
}

/// A payment as a line says it.
struct Payment {
    line: u64,
    id: String,
    account: String,
    amount: i64,
    paid_on: CivilDay,
}

impl Registry {
    /// Takes a file of collections, whole or not at all. Columns, in any order: `account_number` (kept as it is written, whoever
    /// it is), `amount_rupees`, `payment_id` (at its source), `paid_on` (civil day); and `collector`, the
    /// counter or agent, where each numbers its payments by itself. Nothing is booked yet: its payments wait as
    /// [`CollectionState::Taken`]. One that an earlier file has is a repetition, or a conflict where the two differ in
    /// account, amount or day.
    ///
    /// Gives false where this very file was taken before.
    ///
    /// # Errors
    /// When lines are bad, the totals are not those that were said, or another file came under the same id; nothing is
    /// changed on any error.
    pub async fn take_collections(
        &self,
        csv: impl Read + Send,
        batch: &CollectionBatch<'_>,
        by: By<'_>,
    ) -> Result<bool, CollectionError> {
        if !is_id(batch.id) {
            return Err(CollectionError::BatchId(batch.id.to_owned()));
        }
        let mut faults = BadLines::default();
        let mut table = Table::open(csv, COLUMNS, &mut faults)?;
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults).into());
        }
        let mut tx = self.begin().await?;
        if let Some(digest) = digest_of(&mut tx, batch).await? {
            return match digest == batch.digest {
                true => Ok(false),
                false => Err(CollectionError::OtherFile(batch.id.to_owned())),
            };
        }
        let number = insert_batch(&mut tx, batch, by).await?;
        let (mut lines, mut amount) = (0_u64, 0_i64);
        let mut in_file = HashMap::new();
        loop {
            let chunk = table.next_chunk(&mut faults)?;
            if chunk.is_empty() {
                break;
            }
            let parsed = chunk.iter().filter_map(|line| {
                let payment = parse(line, batch.channel, &mut faults)?;
                let before = in_file.insert(payment.id.clone(), payment.line);
                if let Some(before) = before {
                    faults.add(payment.line, COLUMNS[PAYMENT].name, format_args!("is on line {before} too"));
                }
                Some(payment)
            });
            let payments: Vec<Payment> = parsed.collect();
            lines += payments.len() as u64;
            // 200,000 lines of the largest amount are far below the end of an i64.
            amount += payments.iter().map(|payment| payment.amount).sum::<i64>();
            if faults.is_empty() {
                insert(&mut tx, number, &payments).await?;
            }
        }
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults).into());
        }
        if (lines, amount) != (batch.lines, batch.amount.0) {
            return Err(CollectionError::Totals {
                lines,
                amount: Paise(amount),
                said_lines: batch.lines,
                said_amount: batch.amount,
            });
        }
        let subject = format!("{} {}", batch.channel.name(), batch.id);
        log(&mut tx, by, "take collections", &subject, &format!("{lines} payments of ₹{}", batch.amount))
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn parse(line: &Line<5>, channel: MoneyChannel, faults: &mut BadLines) -> Option<Payment> {
    let account = line.field(ACCOUNT);
    if account.len() > MAX_ACCOUNT_BYTES || account.chars().any(char::is_control) {
        let reason = format_args!("{MAX_ACCOUNT_BYTES} bytes at most, all of them printed");
        faults.add(line.number, COLUMNS[ACCOUNT].name, reason);
        return None;
    }
    let amount = rupees(line, AMOUNT, COLUMNS[AMOUNT].name, faults);
    let id = payment_id(line, [PAYMENT, COLLECTOR], &COLUMNS, channel, faults);
    let paid_on = line.field(PAID_ON).parse();
    let paid_on = paid_on.map_err(|error: model::time::TimeError| {
        faults.add(line.number, COLUMNS[PAID_ON].name, error);
    });
    Some(Payment {
        line: line.number,
        id: id?,
        account: account.to_owned(),
        amount: amount?,
        paid_on: paid_on.ok()?,
    })
}

/// A positive amount of money, paise.
pub(super) fn rupees<const N: usize>(
    line: &Line<N>,
    column: usize,
    name: &'static str,
    faults: &mut BadLines,
) -> Option<i64> {
    let amount = scaled(line.field(column), 2).map_err(|error| faults.add(line.number, name, error)).ok()?;
    if !(1..=MAX_AMOUNT_PAISE).contains(&amount) {
        faults.add(line.number, name, format_args!("{} is out of range", line.field(column)));
        return None;
    }
    Some(amount)
}

/// The ledger's id of a payment: the names of its channel and of who took it are part of it, for two of them may give the
/// same id. `places` are the columns of the id and of the collector.
pub(super) fn payment_id<const N: usize>(
    line: &Line<N>,
    places: [usize; 2],
    columns: &[Column; N],
    channel: MoneyChannel,
    faults: &mut BadLines,
) -> Option<String> {
    let [id, collector] = places.map(|place| line.field(place));
    let mut is_good = true;
    for (place, is_needed) in places.into_iter().zip([true, false]) {
        let text = line.field(place);
        // What separates them in the ledger's id cannot be part of who took it.
        let is_good_name = is_needed || !text.contains(['/', ':']);
        if !(is_id(text) && is_good_name) && (is_needed || !text.is_empty()) {
            let but = if is_needed { "" } else { ", / and :" };
            let reason =
                format_args!("1 to {MAX_ID_BYTES} printed characters without spaces{but}, not {text:?}");
            faults.add(line.number, columns[place].name, reason);
            is_good = false;
        }
    }
    let of = channel.name();
    is_good
        .then(|| if collector.is_empty() { format!("{of}:{id}") } else { format!("{of}/{collector}:{id}") })
}

async fn digest_of(
    tx: &mut SqliteConnection,
    batch: &CollectionBatch<'_>,
) -> Result<Option<[u8; 16]>, CollectionError> {
    let found: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT digest FROM collection_batch WHERE channel = ? AND batch = ?")
            .bind(batch.channel.name())
            .bind(batch.id)
            .fetch_optional(tx)
            .await?;
    Ok(found.map(|bytes| crate::database::fixed(&bytes, "a digest")).transpose()?)
}

async fn insert_batch(
    tx: &mut SqliteConnection,
    batch: &CollectionBatch<'_>,
    by: By<'_>,
) -> Result<i64, CollectionError> {
    let statement = "INSERT INTO collection_batch (channel, batch, digest, lines, amount_paise, person, at) \
                     VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING number";
    Ok(sqlx::query_scalar(statement)
        .bind(batch.channel.name())
        .bind(batch.id)
        .bind(&batch.digest[..])
        .bind(batch.lines.cast_signed())
        .bind(batch.amount.0)
        .bind(by.person)
        .bind(by.at.0)
        .fetch_one(tx)
        .await?)
}

async fn insert(tx: &mut SqliteConnection, batch: i64, payments: &[Payment]) -> Result<(), CollectionError> {
    if payments.is_empty() {
        return Ok(());
    }
    let known = known(tx, payments).await?;
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO collection (batch, line, payment_id, account_number, amount_paise, paid_on, is_first, state, said) ",
    );
    query.push_values(payments, |mut row, payment| {
        let (state, said) = match known.get(&payment.id) {
            None => (CollectionState::Taken, String::new()),
            Some(before) => before.against(payment),
        };
        row.push_bind(batch)
            .push_bind(payment.line.cast_signed())
            .push_bind(&payment.id)
            .push_bind(&payment.account)
            .push_bind(payment.amount)
            .push_bind(payment.paid_on.0)
            .push_bind(i64::from(state == CollectionState::Taken))
            .push_bind(state.name())
            .push_bind(said);
    });
    query.build().execute(tx).await?;
    Ok(())
}

/// A payment that an earlier file has.
struct Before {
    account: String,
    amount: i64,
    batch: String,
    line: i64,
    paid_on: CivilDay,
}

impl Before {
    fn against(&self, payment: &Payment) -> (CollectionState, String) {
        let Before { account, amount, batch, line, paid_on } = self;
        if (account, *amount, *paid_on) == (&payment.account, payment.amount, payment.paid_on) {
            return (CollectionState::Repeated, format!("as on line {line} of batch {batch}"));
        }
        let said = format!("line {line} of batch {batch} has ₹{} for {account} on {paid_on}", Paise(*amount));
        (CollectionState::Conflict, said)
    }
}

async fn known(
    tx: &mut SqliteConnection,
    payments: &[Payment],
) -> Result<HashMap<String, Before>, CollectionError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT payment_id, account_number, collection.amount_paise, batch.batch, line, paid_on FROM collection \
         JOIN collection_batch batch ON batch.number = collection.batch \
         WHERE is_first = 1 AND payment_id IN (",
    );
    let mut ids = query.separated(", ");
    payments.iter().for_each(|payment| {
        ids.push_bind(&payment.id);
    });
    query.push(")");
    let rows = query.build().fetch_all(tx).await?;
    let before = |row: &sqlx::sqlite::SqliteRow| -> Result<(String, Before), sqlx::Error> {
        Ok((
            row.try_get(0)?,
            Before {
                account: row.try_get(1)?,
                amount: row.try_get(2)?,
                batch: row.try_get(3)?,
                line: row.try_get(4)?,
                paid_on: CivilDay(row.try_get(5)?),
            },
        ))
    };
    Ok(rows.iter().map(before).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use model::Instant;

    use super::*;
    use crate::database::tests::open;
    use crate::{Collection, Side, read_bank, read_statement};

    const BY: By<'static> = By { person: "A. Singh", at: Instant(5) };
    const HEADER: &str = "payment_id,account_number,amount_rupees,paid_on";

    fn batch(id: &str, lines: u64, amount: i64, digest: u8) -> CollectionBatch<'_> {
        CollectionBatch {
            channel: MoneyChannel::Bbps,
            id,
            lines,
            amount: Paise(amount),
            digest: [digest; 16],
        }
    }

    async fn take(
        registry: &Registry,
        lines: &[&str],
        batch: &CollectionBatch<'_>,
    ) -> Result<bool, CollectionError> {
        let csv = format!("{HEADER}\n{}\n", lines.join("\n"));
        registry.take_collections(csv.as_bytes(), batch, BY).await
    }

    async fn waiting(registry: &Registry) -> Vec<Collection> {
        registry.collections_to_book(100).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_taken_whole_and_once_if_it_is_what_was_said() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let lines = ["p1,PUVVNL0000000001,100.50,2026-06-01", "p2,whoever it is,1,2026-05-31"];
        for wrong in [batch("b1", 2, 10_151, 1), batch("b1", 3, 10_150, 1)] {
            let refused = take(&registry, &lines, &wrong).await.unwrap_err();
            assert!(matches!(refused, CollectionError::Totals { lines: 2, amount: Paise(10_150), .. }));
        }
        let unnamed = take(&registry, &lines, &batch("b 1", 2, 10_150, 1)).await;
        assert!(matches!(unnamed, Err(CollectionError::BatchId(_))));
        assert_eq!(waiting(&registry).await, []);
        assert!(take(&registry, &lines, &batch("b1", 2, 10_150, 1)).await.unwrap());
        assert!(!take(&registry, &lines, &batch("b1", 2, 10_150, 1)).await.unwrap());
        let other = take(&registry, &lines, &batch("b1", 2, 10_150, 2)).await.unwrap_err();
        assert!(matches!(other, CollectionError::OtherFile(_)), "{other}");
        let told: Vec<_> = waiting(&registry)
            .await
            .into_iter()
            .map(|it| (it.payment_id, it.account_number, it.amount.0, it.paid_on.to_string(), it.line))
            .collect();
        assert_eq!(
            told,
            [
                ("bbps:p1".into(), "PUVVNL0000000001".into(), 10_050, "2026-06-01".into(), 2),
                ("bbps:p2".into(), "whoever it is".into(), 100, "2026-05-31".into(), 3),
            ]
        );
    }

    #[tokio::test]
    async fn every_fault_of_a_file_is_told_and_none_of_it_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let lines = [
            "p1,A,0,2026-06-01",
            "p2,A,-5,2026-06-01",
            "p3,A,1.005,2026-06-01",
            ",A,1,2026-06-01",
            "p 5,A,1,2026-06-01",
            "p6,A,1,01.06.2026",
            "p7,A,1,2026-06-01",
            "p7,A,1,2026-06-01",
        ];
        let refused = take(&registry, &lines, &batch("b1", 8, 800, 1)).await.unwrap_err();
        let CollectionError::Import(ImportError::Lines(bad)) = refused else { panic!("{refused}") };
        let told: Vec<String> = bad.listed.iter().map(ToString::to_string).collect();
        let id = "1 to 56 printed characters without spaces, not";
        assert_eq!(
            told,
            [
                "line 2, amount_rupees: 0 is out of range".to_owned(),
                "line 3, amount_rupees: -5 is out of range".to_owned(),
                "line 4, amount_rupees: more than 2 decimals".to_owned(),
                format!("line 5, payment_id: {id} \"\""),
                format!("line 6, payment_id: {id} \"p 5\""),
                "line 7, paid_on: not a date such as 2026-06-01: \"01.06.2026\"".to_owned(),
                "line 9, payment_id: is on line 8 too".to_owned(),
            ]
        );
        assert_eq!(waiting(&registry).await, []);
        assert_eq!(registry.collection_batches(None, None, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_payment_of_two_files_is_a_repetition_or_a_conflict_and_waits_once() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        take(&registry, &["p1,A,1,2026-06-01", "p2,A,2,2026-06-01"], &batch("b1", 2, 300, 1)).await.unwrap();
        let number = waiting(&registry).await[0].number;
        registry.collections_booked(&[(number, CollectionState::Booked, String::new())]).await.unwrap();
        let lines = ["p1,A,1,2026-06-01", "p2,B,2,2026-06-01", "p3,A,5,2026-06-01"];
        take(&registry, &lines, &batch("b2", 3, 800, 2)).await.unwrap();
        let counter = CollectionBatch { channel: MoneyChannel::Counter, ..batch("b2", 1, 100, 3) };
        take(&registry, &["p1,A,1,2026-06-02"], &counter).await.unwrap();
        let ids: Vec<_> = waiting(&registry).await.into_iter().map(|it| it.payment_id).collect();
        assert_eq!(ids, ["bbps:p2", "bbps:p3", "counter:p1"]);
        let told = registry.collections_of(&["bbps:p1".into(), "bbps:p2".into()]).await.unwrap();
        let told: Vec<_> = told.into_iter().map(|it| (it.batch, it.state, it.said)).collect();
        assert_eq!(
            told,
            [
                ("b1".into(), CollectionState::Booked, String::new()),
                ("b2".into(), CollectionState::Repeated, "as on line 2 of batch b1".into()),
                ("b1".into(), CollectionState::Taken, String::new()),
                (
                    "b2".into(),
                    CollectionState::Conflict,
                    "line 3 of batch b1 has ₹2.00 for A on 2026-06-01".into()
                ),
            ]
        );
        let batches = registry.collection_batches(Some(MoneyChannel::Bbps), Some("b2"), 10).await.unwrap();
        let states = [
            (CollectionState::Conflict, 1, Paise(200)),
            (CollectionState::Repeated, 1, Paise(100)),
            (CollectionState::Taken, 1, Paise(500)),
        ];
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].total, &batches[0].by_state[..]), ((3, Paise(800)), &states[..]));
    }

    #[tokio::test]
    async fn money_that_waits_holds_a_cut_until_it_is_booked_or_dealt_with() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        take(&registry, &["p1,A,1,2026-06-01"], &batch("b1", 1, 100, 1)).await.unwrap();
        take(&registry, &["p1,B,1,2026-06-01"], &batch("b2", 1, 100, 2)).await.unwrap();
        let held = || async { registry.cut_holds().await.unwrap().waiting };
        assert_eq!(held().await, ["A".to_owned(), "B".to_owned()].into());
        let number = waiting(&registry).await[0].number;
        registry.collections_booked(&[(number, CollectionState::Booked, String::new())]).await.unwrap();
        assert_eq!(held().await, ["B".to_owned()].into());
        let (open, counts) = registry.open_collections(10).await.unwrap();
        assert_eq!((open.len(), counts), (1, [(CollectionState::Conflict, 1)].into()));
        assert!(!registry.settle_collection(MoneyChannel::Bbps, "b1", 2, "asked", BY).await.unwrap());
        assert!(registry.settle_collection(MoneyChannel::Bbps, "b2", 2, "asked", BY).await.unwrap());
        assert_eq!(held().await, [].into());
    }

    #[tokio::test]
    async fn who_numbers_payments_by_itself_is_part_of_their_ids() {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(directory.path()).await;
        let csv = "payment_id,account_number,amount_rupees,paid_on,collector\nR1,A,1,2026-06-01,K7\nR1,B,1,2026-06-01,K8\n";
        registry.take_collections(csv.as_bytes(), &batch("b1", 2, 200, 1), BY).await.unwrap();
        let ids: Vec<_> = waiting(&registry).await.into_iter().map(|it| it.payment_id).collect();
        assert_eq!(ids, ["bbps/K7:R1", "bbps/K8:R1"]);
    }

    #[test]
    fn statements_are_read_with_their_own_words_and_every_fault() {
        let csv = "amount_rupees,payment_id,kind,fee_rupees,settlement\n10,p1,,0.50,U1\n4.25,p1,refund,,\n";
        let rows = read_statement(csv.as_bytes(), MoneyChannel::Agent).unwrap();
        let told: Vec<_> =
            rows.iter().map(|row| (row.payment_id.as_str(), row.side, row.amount.0, row.fee.0)).collect();
        assert_eq!(told, [("agent:p1", Side::Payment, 1000, 50), ("agent:p1", Side::Refund, 425, 0)]);
        let csv = "payment_id,amount_rupees,kind\np1,1,gift\np2,x,\n";
        let refused = read_statement(csv.as_bytes(), MoneyChannel::Agent).unwrap_err();
        let ImportError::Lines(bad) = refused else { panic!("{refused}") };
        let told: Vec<String> = bad.listed.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["line 2, kind: neither payment nor refund", "line 3, amount_rupees: not a number such as 12.5"]
        );
        let bank = read_bank("settlement,amount_rupees\nU1,-3.20\n".as_bytes()).unwrap();
        assert_eq!((bank[0].settlement.as_str(), bank[0].amount), ("U1", Paise(-320)));
        assert!(read_bank("settlement,amount_rupees\n,1\n".as_bytes()).is_err());
    }
}
