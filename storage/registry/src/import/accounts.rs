//! Import of accounts.

use std::collections::HashMap;
use std::io::Read;

use model::{
    AccountId, AccountNumber, AccountTerms, Arrears, CivilDay, ConnectionType, Fact, OutboxId, Paise,
};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::decimal::scaled;
use super::table::{Column, Header, Line, Table};
use super::{BadLines, ImportError, Imported, known_names};
use crate::accounts::connection_of;
use crate::database::{counter, set_counter};
use crate::outbox::write_outbox;
use crate::{Error, Registry};

const COLUMNS: [Column; 10] = [
    required("account_number"),
    required("category"),
    required("sanctioned_kw"),
    required("from"),
    required("opening_register_kwh"),
    required("opening_balance_rupees"),
    required("connection"),
    Column { name: "division", header: Header::Optional },
    Column { name: "opening_arrears_rupees", header: Header::Optional },
    Column { name: "transformer", header: Header::Optional },
];
const NUMBER: usize = 0;
const CATEGORY: usize = 1;
const SANCTIONED: usize = 2;
const FROM: usize = 3;
const REGISTER: usize = 4;
const BALANCE: usize = 5;
const CONNECTION: usize = 6;
const DIVISION: usize = 7;
const ARREARS: usize = 8;
const TRANSFORMER: usize = 9;

/// Largest sanctioned load, W: 100 MW.
const MAX_SANCTIONED_W: i64 = 100_000_000;
/// Largest register, Wh: a 9-digit register of kWh.
const MAX_REGISTER_WH: i64 = 1_000_000_000_000;
/// Largest opening balance of either sign, paise: a hundred crore rupees.
const MAX_BALANCE_PAISE: i64 = 100_000_000_000;
/// First and last day an account may be charged from: 2000-01-01 and 2099-12-31.
const DAYS: std::ops::RangeInclusive<i32> = 10_957..=47_481;

/// Longest name of a division or a transformer, bytes.
const MAX_NAME_BYTES: usize = 64;

const fn required(name: &'static str) -> Column {
    Column { name, header: Header::Required }
}

/// An account as a line says it.
#[derive(Debug)]
struct Account {
    line: u64,
    number: AccountNumber,
    connection: ConnectionType,
    tariff: String,
    sanctioned_w: u32,
    from: CivilDay,
    opening_register_wh: i64,
    opening_balance: Paise,
    division: String,
    arrears: Paise,
    transformer: String,
}

impl Registry {
    /// Registers the accounts of a CSV file, all or none. Columns, in any order: `account_number`, `category` (one of
    /// `tariffs`), `sanctioned_kw`, `from` (first civil day charged), `opening_register_kwh`,
    /// `opening_balance_rupees` (negative: the consumer owes), `connection` (`prepaid` or `postpaid`); and
    /// `division`, the part of the distribution company, `opening_arrears_rupees`, old dues beside the balance, and
    /// `transformer`, the distribution transformer it hangs on, which may be left out.
    ///
    /// `csv` is read on the caller's thread: give a file or bytes, not a pipe.
    ///
    /// # Errors
    /// [`ImportError::Lines`] with every fault by line and column; nothing is changed on any error.
    pub async fn import_accounts(
        &self,
        csv: impl Read + Send,
        tariffs: &[&str],
    ) -> Result<Imported, ImportError> {
        let mut faults = BadLines::default();
        let mut table = Table::open(csv, COLUMNS, &mut faults)?;
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        let mut tx = self.begin().await?;
        let mut next = Next::read(&mut tx).await?;
        let mut imported = Imported::default();
        let mut in_file = HashMap::new();
        loop {
            let lines = table.next_chunk(&mut faults)?;
            if lines.is_empty() {
                break;
            }
            let accounts: Vec<Account> = lines
                .iter()
                .filter_map(|line| {
                    let account = parse(line, tariffs, &mut faults)?;
                    first_in_file(&account, &mut in_file, &mut faults).then_some(account)
                })
                .collect();
            let fresh = without_registered(&mut tx, accounts, &mut imported, &mut faults).await?;
            if faults.is_empty() && !fresh.is_empty() {
                imported.added += fresh.len();
                imported.outbox = Some(insert(&mut tx, &fresh, &mut next).await?);
            }
        }
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        next.write(&mut tx).await?;
        tx.commit().await?;
        Ok(imported)
    }
}

/// Last numbers given out.
struct Next {
    account: u64,
    outbox: u64,
}

impl Next {
    async fn read(tx: &mut SqliteConnection) -> Result<Next, Error> {
        Ok(Next { account: counter(tx, "account").await?, outbox: counter(tx, "outbox").await? })
    }

    async fn write(&self, tx: &mut SqliteConnection) -> Result<(), Error> {
        set_counter(tx, "account", self.account).await?;
        set_counter(tx, "outbox", self.outbox).await
    }
}

fn parse(line: &Line<10>, tariffs: &[&str], faults: &mut BadLines) -> Option<Account> {
    let number = parse_number(line, faults);
    let tariff = parse_tariff(line, tariffs, faults);
    let sanctioned_w = quantity(line, SANCTIONED, 3, 1..=MAX_SANCTIONED_W, faults);
    let from = parse_from(line, faults);
    let opening_register_wh = quantity(line, REGISTER, 3, 0..=MAX_REGISTER_WH, faults);
    let opening_balance = quantity(line, BALANCE, 2, -MAX_BALANCE_PAISE..=MAX_BALANCE_PAISE, faults);
    let connection = parse_connection(line, faults);
    let division = parse_name(line, DIVISION, faults);
    let transformer = parse_name(line, TRANSFORMER, faults);
    let arrears = match line.field(ARREARS) {
        "" => Some(0),
        _ => quantity(line, ARREARS, 2, 0..=MAX_BALANCE_PAISE, faults),
    };
    Some(Account {
        line: line.number,
        number: number?,
        connection: connection?,
        tariff: tariff?,
        sanctioned_w: u32::try_from(sanctioned_w?).ok()?,
        from: from?,
        opening_register_wh: opening_register_wh?,
        opening_balance: Paise(opening_balance?),
        division: division?,
        arrears: Paise(arrears?),
        transformer: transformer?,
    })
}

fn parse_name(line: &Line<10>, column: usize, faults: &mut BadLines) -> Option<String> {
    let name = line.field(column);
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let what = COLUMNS[column].name;
        let reason = format_args!("a {what} has {MAX_NAME_BYTES} bytes at most, all of them printed");
        faults.add(line.number, what, reason);
        return None;
    }
    Some(name.to_owned())
}

fn parse_number(line: &Line<10>, faults: &mut BadLines) -> Option<AccountNumber> {
    let number = line.field(NUMBER).parse();
    number.map_err(|reason| faults.add(line.number, COLUMNS[NUMBER].name, reason)).ok()
}

fn parse_tariff(line: &Line<10>, tariffs: &[&str], faults: &mut BadLines) -> Option<String> {
    let name = line.field(CATEGORY);
    if !tariffs.contains(&name) {
        let known = known_names(tariffs.iter().copied(), tariffs.len());
        faults.add(line.number, COLUMNS[CATEGORY].name, format_args!("no tariff is named {name:?}; {known}"));
        return None;
    }
    Some(name.to_owned())
}

fn parse_from(line: &Line<10>, faults: &mut BadLines) -> Option<CivilDay> {
    let column = COLUMNS[FROM].name;
    let day: CivilDay =
        line.field(FROM).parse().map_err(|reason| faults.add(line.number, column, reason)).ok()?;
    if !DAYS.contains(&day.0) {
        faults.add(line.number, column, format_args!("{day} is not between 2000 and 2099"));
        return None;
    }
    Some(day)
}

fn parse_connection(line: &Line<10>, faults: &mut BadLines) -> Option<ConnectionType> {
    let connection = connection_of(line.field(CONNECTION));
    if connection.is_none() {
        faults.add(line.number, COLUMNS[CONNECTION].name, "neither prepaid nor postpaid");
    }
    connection
}

fn quantity(
    line: &Line<10>,
    column: usize,
    decimals: usize,
    range: std::ops::RangeInclusive<i64>,
    faults: &mut BadLines,
) -> Option<i64> {
    let name = COLUMNS[column].name;
    let value =
        scaled(line.field(column), decimals).map_err(|reason| faults.add(line.number, name, reason)).ok()?;
    if !range.contains(&value) {
        faults.add(line.number, name, format_args!("{} is out of range", line.field(column)));
        return None;
    }
    Some(value)
}

fn first_in_file(
    account: &Account,
    in_file: &mut HashMap<AccountNumber, u64>,
    faults: &mut BadLines,
) -> bool {
    match in_file.insert(account.number.clone(), account.line) {
        None => true,
        Some(before) => {
            faults.add(account.line, COLUMNS[NUMBER].name, format_args!("the same as in line {before}"));
            false
        }
    }
}

/// The accounts that are not registered; of the others, those that differ are faults.
async fn without_registered(
    tx: &mut SqliteConnection,
    accounts: Vec<Account>,
    imported: &mut Imported,
    faults: &mut BadLines,
) -> Result<Vec<Account>, Error> {
    let mut registered = registered(tx, &accounts).await?;
    let mut fresh = Vec::with_capacity(accounts.len());
    for account in accounts {
        let Some(before) = registered.remove(account.number.as_str()) else {
            fresh.push(account);
            continue;
        };
        let differences = differences(&before, &account);
        if differences.is_empty() && before.transformer != account.transformer {
            fill_transformer(tx, &account).await?;
            imported.updated += 1;
        } else if differences.is_empty() {
            imported.unchanged += 1;
        }
        for (column, reason) in differences {
            faults.add(account.line, column, reason);
        }
    }
    Ok(fresh)
}

/// Says on which transformer a registered account hangs, where nobody had said so: that is no fact.
async fn fill_transformer(tx: &mut SqliteConnection, account: &Account) -> Result<(), Error> {
    sqlx::query("UPDATE account SET transformer = ? WHERE number = ?")
        .bind(&account.transformer)
        .bind(account.number.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

async fn registered(
    tx: &mut SqliteConnection,
    accounts: &[Account],
) -> Result<HashMap<String, Fields>, Error> {
    if accounts.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT number, tariff, sanctioned_w, from_day, opening_register_wh, opening_balance_paise, \
         opening_arrears_paise, connection, division, transformer FROM account WHERE number IN ",
    );
    query.push_tuples(accounts, |mut tuple, account| {
        tuple.push_bind(account.number.as_str());
    });
    let rows = query.build().fetch_all(tx).await?;
    rows.into_iter()
        .map(|row| {
            let fields = Fields {
                tariff: row.try_get(1)?,
                numbers: [
                    row.try_get(2)?,
                    row.try_get(3)?,
                    row.try_get(4)?,
                    row.try_get(5)?,
                    row.try_get(6)?,
                ],
                connection: row.try_get(7)?,
                division: row.try_get(8)?,
                transformer: row.try_get(9)?,
            };
            Ok((row.try_get(0)?, fields))
        })
        .collect()
}

/// An account's columns, for comparing.
struct Fields {
    tariff: String,
    /// Sanctioned load in W, first day, register in Wh, balance and arrears in paise.
    numbers: [i64; 5],
    connection: String,
    division: String,
    transformer: String,
}

fn numbers(account: &Account) -> [i64; 5] {
    [
        i64::from(account.sanctioned_w),
        i64::from(account.from.0),
        account.opening_register_wh,
        account.opening_balance.0,
        account.arrears.0,
    ]
}

fn differences(before: &Fields, account: &Account) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut differ = |column: usize, before: String, now: String| {
        if before != now {
            found.push((COLUMNS[column].name, format!("registered is {before}, here stands {now}")));
        }
    };
    differ(CATEGORY, before.tariff.clone(), account.tariff.clone());
    let units = [(SANCTIONED, " W"), (FROM, ""), (REGISTER, " Wh"), (BALANCE, " paise"), (ARREARS, " paise")];
    for ((column, unit), (before, now)) in
        units.into_iter().zip(before.numbers.into_iter().zip(numbers(account)))
    {
        let print = |value: i64| match i32::try_from(value) {
            Ok(day) if column == FROM => CivilDay(day).to_string(),
            _ => format!("{value}{unit}"),
        };
        differ(column, print(before), print(now));
    }
    differ(CONNECTION, before.connection.clone(), account.connection.name().to_owned());
    differ(DIVISION, before.division.clone(), account.division.clone());
    if !before.transformer.is_empty() {
        differ(TRANSFORMER, before.transformer.clone(), account.transformer.clone());
    }
    found
}

async fn insert(tx: &mut SqliteConnection, accounts: &[Account], next: &mut Next) -> Result<OutboxId, Error> {
    let mut facts = Vec::with_capacity(accounts.len());
    for account in accounts {
        next.account += 1;
        next.outbox += 1;
        let terms = terms(account, next)?;
        let id = terms.account;
        facts.push(Fact::AccountTerms(terms));
        if account.arrears > Paise::ZERO {
            next.outbox += 1;
            let outbox = OutboxId(next.outbox);
            facts.push(Fact::Arrears(Arrears { outbox, account: id, amount: account.arrears }));
        }
    }
    let first = next.account - accounts.len() as u64;
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO account (id, number, tariff, sanctioned_w, from_day, opening_register_wh, \
         opening_balance_paise, opening_arrears_paise, connection, division, transformer) ",
    );
    query.push_values((first + 1..).zip(accounts), |mut values, (id, account)| {
        values
            .push_bind(id.cast_signed())
            .push_bind(account.number.as_str())
            .push_bind(account.tariff.as_str());
        for number in numbers(account) {
            values.push_bind(number);
        }
        values
            .push_bind(account.connection.name())
            .push_bind(account.division.as_str())
            .push_bind(account.transformer.as_str());
    });
    query.build().execute(&mut *tx).await?;
    write_outbox(tx, next.outbox, &facts).await
}

fn terms(account: &Account, next: &Next) -> Result<AccountTerms, Error> {
    let id = u32::try_from(next.account)
        .map_err(|_| Error::Damaged("all account ids are given out".to_owned()))?;
    Ok(AccountTerms {
        outbox: OutboxId(next.outbox),
        account: AccountId(id),
        connection: account.connection,
        tariff: account.tariff.clone(),
        sanctioned_w: account.sanctioned_w,
        from: account.from,
        opening_register_wh: account.opening_register_wh,
        opening_balance: account.opening_balance,
    })
}
