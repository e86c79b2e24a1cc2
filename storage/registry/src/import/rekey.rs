//! New keys for registered meters.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use model::{Fact, Instant, MeterId, MeterTerms, OutboxId, SystemTitle};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::meters::{parse_keys, parse_title};
use super::table::{Column, Header, Line, Table};
use super::{BadLines, ImportError, Imported};
use crate::database::{counter, fixed, number, set_counter};
use crate::meters::{MeterTermsRow, common};
use crate::outbox::write_outbox;
use crate::vault::Vault;
use crate::{Error, MeterKeys, Registry};

const COLUMNS: [Column; 3] = [
    Column { name: "system_title", header: Header::Required },
    Column { name: "guek", header: Header::Required },
    Column { name: "gak", header: Header::Required },
];
const TITLE: usize = 0;
const GUEK: usize = 1;
const GAK: usize = 2;
const PURPOSES: [(usize, &str); 2] = [(GUEK, "guek"), (GAK, "gak")];

/// Replaced keys that are kept of a meter.
const MAX_REPLACED: u16 = 4;

/// New keys as a line says them.
struct NewKeys {
    line: u64,
    title: SystemTitle,
    keys: MeterKeys,
    digests: [[u8; 32]; 2],
}

/// A registered meter whose keys are to be replaced.
struct Rekeyed {
    new: NewKeys,
    terms: MeterTermsRow,
    wrapped: Vec<u8>,
}

impl Registry {
    /// Replaces the keys of registered meters by those of a CSV file, all or none. Columns, in any order:
    /// `system_title` (16 hexadecimal digits), `guek` and `gak` (32 hexadecimal digits each). Both keys change; weak
    /// ones, and any that is or was in use, are refused. The replaced keys stay beside the new ones: they are taken
    /// until the meter first uses the new ones, and after that up to `taken_until`. Of a meter the last
    /// four are kept.
    ///
    /// # Errors
    /// [`ImportError::Lines`] with every fault by line and column; nothing is changed on any error.
    pub async fn rekey_meters(
        &self,
        csv: impl Read + Send,
        taken_until: Instant,
    ) -> Result<Imported, ImportError> {
        let mut faults = BadLines::default();
        let mut table = Table::open(csv, COLUMNS, &mut faults)?;
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        let mut tx = self.begin().await?;
        let mut outbox = counter(&mut tx, "outbox").await?;
        let mut imported = Imported::default();
        let mut in_file = InFile::default();
        loop {
            let lines = table.next_chunk(&mut faults)?;
            if lines.is_empty() {
                break;
            }
            let parsed = lines.iter().filter_map(|line| parse(line, &self.vault, &mut faults));
            let parsed: Vec<NewKeys> = parsed.collect();
            let first: Vec<NewKeys> =
                parsed.into_iter().filter(|new| in_file.is_first(new, &mut faults)).collect();
            let changed = changed(&mut tx, first, &mut imported, &mut faults).await?;
            if faults.is_empty() && !changed.is_empty() {
                imported.added += changed.len();
                let facts = replace(&mut tx, &self.vault, &changed, &mut outbox, taken_until).await?;
                imported.outbox = Some(write_outbox(&mut tx, outbox, &facts).await?);
            }
        }
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        set_counter(&mut tx, "outbox", outbox).await?;
        tx.commit().await?;
        Ok(imported)
    }
}

fn parse(line: &Line<3>, vault: &Vault, faults: &mut BadLines) -> Option<NewKeys> {
    let title = parse_title(line, (TITLE, COLUMNS[TITLE].name), faults);
    let keys = parse_keys(line, [(GUEK, COLUMNS[GUEK].name), (GAK, COLUMNS[GAK].name)], faults)?;
    let digests = [vault.digest(&keys.guek), vault.digest(&keys.gak)];
    Some(NewKeys { line: line.number, title: title?, keys, digests })
}

/// What earlier lines of the file hold, each with its line.
#[derive(Default)]
struct InFile {
    titles: HashMap<SystemTitle, u64>,
    keys: HashMap<[u8; 32], u64>,
}

impl InFile {
    fn is_first(&mut self, new: &NewKeys, faults: &mut BadLines) -> bool {
        let before = [
            (TITLE, self.titles.insert(new.title, new.line)),
            (GUEK, self.keys.insert(new.digests[0], new.line)),
            (GAK, self.keys.insert(new.digests[1], new.line)),
        ];
        let mut first = true;
        for (column, line) in before.into_iter().filter_map(|(column, line)| Some((column, line?))) {
            faults.add(new.line, COLUMNS[column].name, format_args!("the same as in line {line}"));
            first = false;
        }
        first
    }
}

/// Who holds a key: meter, purpose and epoch.
type Holders = HashMap<[u8; 32], (MeterId, String, u16)>;

/// The meters whose keys these lines change; what cannot be changed is a fault.
async fn changed(
    tx: &mut SqliteConnection,
    lines: Vec<NewKeys>,
    imported: &mut Imported,
    faults: &mut BadLines,
) -> Result<Vec<Rekeyed>, Error> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut registered = registered(tx, &lines).await?;
    let holders = holders(tx, &lines).await?;
    let mut changed = Vec::with_capacity(lines.len());
    for new in lines {
        let Some((terms, wrapped)) = registered.remove(&new.title) else {
            faults.add(new.line, COLUMNS[TITLE].name, "no meter with this system title is registered");
            continue;
        };
        if is_in_force(&new, &terms, &holders) {
            imported.unchanged += 1;
            continue;
        }
        let mut is_new = true;
        for ((column, _), digest) in PURPOSES.into_iter().zip(&new.digests) {
            let Some((holder, ..)) = holders.get(digest) else { continue };
            let whose = if *holder == terms.meter {
                "this meter has or had the key"
            } else {
                "the key is in use by another meter"
            };
            faults.add(new.line, COLUMNS[column].name, whose);
            is_new = false;
        }
        if terms.key_epoch == u16::MAX {
            faults.add(
                new.line,
                COLUMNS[TITLE].name,
                "the meter's keys were changed as often as can be counted",
            );
            is_new = false;
        }
        if is_new {
            changed.push(Rekeyed { new, terms, wrapped });
        }
    }
    Ok(changed)
}

/// Whether the meter has exactly these keys.
fn is_in_force(new: &NewKeys, terms: &MeterTermsRow, holders: &Holders) -> bool {
    PURPOSES.into_iter().zip(&new.digests).all(|((_, purpose), digest)| {
        let held = holders.get(digest);
        held.is_some_and(|(meter, of, epoch)| {
            *meter == terms.meter && of == purpose && *epoch == terms.key_epoch
        })
    })
}

async fn registered(
    tx: &mut SqliteConnection,
    lines: &[NewKeys],
) -> Result<HashMap<SystemTitle, (MeterTermsRow, Vec<u8>)>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM meter WHERE title IN ");
    let titles: HashSet<SystemTitle> = lines.iter().map(|new| new.title).collect();
    query.push_tuples(titles, |mut tuple, title| {
        tuple.push_bind(title.0.to_vec());
    });
    let rows: Vec<SqliteRow> = query.build().fetch_all(tx).await?;
    let read = |row: &SqliteRow| -> Result<_, Error> {
        let terms = common(row)?;
        Ok((terms.title, (terms, row.try_get("wrapped_keys")?)))
    };
    rows.iter().map(read).collect()
}

async fn holders(tx: &mut SqliteConnection, lines: &[NewKeys]) -> Result<Holders, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT digest, meter_id, purpose, key_epoch FROM meter_key WHERE digest IN ",
    );
    query.push_tuples(lines.iter().flat_map(|new| new.digests), |mut tuple, digest| {
        tuple.push_bind(digest.to_vec());
    });
    let rows = query.build().fetch_all(tx).await?;
    let read = |row: &SqliteRow| -> Result<_, Error> {
        let meter = MeterId(number(row.try_get(1)?, "meter id")?);
        let holder = (meter, row.try_get(2)?, number(row.try_get(3)?, "key epoch")?);
        Ok((fixed(row.try_get(0)?, "key digest")?, holder))
    };
    rows.iter().map(read).collect()
}

/// Puts the new keys in the place of the old; gives the facts of it, the last of which has the number `outbox`.
async fn replace(
    tx: &mut SqliteConnection,
    vault: &Vault,
    meters: &[Rekeyed],
    outbox: &mut u64,
    taken_until: Instant,
) -> Result<Vec<Fact>, Error> {
    let mut facts = Vec::with_capacity(meters.len());
    for Rekeyed { new, terms, wrapped } in meters {
        let (meter, epoch) = (i64::from(terms.meter.0), terms.key_epoch + 1);
        sqlx::query(
            "INSERT INTO replaced_key (meter_id, key_epoch, wrapped_keys, taken_until) VALUES (?, ?, ?, ?)",
        )
        .bind(meter)
        .bind(i64::from(terms.key_epoch))
        .bind(wrapped.as_slice())
        .bind(taken_until.0)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM replaced_key WHERE meter_id = ? AND key_epoch < ?")
            .bind(meter)
            .bind(i64::from(epoch.saturating_sub(MAX_REPLACED)))
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE meter SET key_epoch = ?, wrapped_keys = ? WHERE id = ?")
            .bind(i64::from(epoch))
            .bind(vault.wrap_keys(new.title, epoch, &new.keys))
            .bind(meter)
            .execute(&mut *tx)
            .await?;
        for ((_, purpose), digest) in PURPOSES.into_iter().zip(&new.digests) {
            sqlx::query("INSERT INTO meter_key (meter_id, digest, purpose, key_epoch) VALUES (?, ?, ?, ?)")
                .bind(meter)
                .bind(digest.as_slice())
                .bind(purpose)
                .bind(i64::from(epoch))
                .execute(&mut *tx)
                .await?;
        }
        *outbox += 1;
        facts.push(Fact::MeterTerms(MeterTerms {
            outbox: OutboxId(*outbox),
            meter: terms.meter,
            title: terms.title,
            account: terms.account,
            profile: terms.profile.clone(),
            period_s: terms.period_s,
            authenticated: terms.authenticated,
            key_epoch: epoch,
        }));
    }
    Ok(facts)
}
