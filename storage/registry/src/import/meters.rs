//! Import of meters and their keys.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use model::{AccountId, AccountNumber, Fact, MeterId, MeterTerms, OutboxId, SystemTitle};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use zeroize::Zeroize as _;

use super::table::{Column, Header, Line, Table};
use super::{BadLines, ImportError, Imported, Known, known_names};
use crate::access::{MAX_PASSWORD, MAX_SECRET, said_of};
use crate::asking::{self, Asking, SAID, Said};
use crate::database::{counter, fixed, number, set_counter};
use crate::keys::check_strength;
use crate::meters::{FIRST_KEY_EPOCH, policy_name, policy_of};
use crate::outbox::write_outbox;
use crate::vault::Vault;
use crate::{Error, MeterKeys, MeterSecrets, Registry, WeakKey};

const COLUMNS: [Column; COLUMN_COUNT] = [
    column("system_title", Header::Required),
    column("serial", Header::Required),
    column("guek", Header::Required),
    column("gak", Header::Required),
    column("profile", Header::Required),
    column("policy", Header::Required),
    column("account_number", Header::Required),
    column("policy_reason", Header::Optional),
    column("address", Header::Optional),
    column("lls", Header::Optional),
    column("hls", Header::Optional),
    column("master_key", Header::Optional),
    column(asking::COLUMNS[0], Header::Optional),
    column(asking::COLUMNS[1], Header::Optional),
    column(asking::COLUMNS[2], Header::Optional),
    column(asking::COLUMNS[3], Header::Optional),
    column(asking::COLUMNS[4], Header::Optional),
    column(asking::COLUMNS[5], Header::Optional),
];
const COLUMN_COUNT: usize = ASKING + SAID;
const TITLE: usize = 0;
const SERIAL: usize = 1;
const GUEK: usize = 2;
const GAK: usize = 3;
const PROFILE: usize = 4;
const POLICY: usize = 5;
const ACCOUNT: usize = 6;
const REASON: usize = 7;
const ADDRESS: usize = 8;
const PASSWORD: usize = 9;
const SECRET: usize = 10;
const MASTER: usize = 11;
/// The first of those that say how a meter is asked.
const ASKING: usize = 12;

/// Longest serial number.
const MAX_SERIAL: usize = 32;
/// Longest address.
const MAX_ADDRESS: usize = 260;
/// Longest reason for the policy `transport`.
const MAX_REASON: usize = 200;

const fn column(name: &'static str, header: Header) -> Column {
    Column { name, header }
}

/// A meter as a line says it.
struct Meter {
    line: u64,
    title: SystemTitle,
    serial: String,
    keys: MeterKeys,
    digests: [[u8; 32]; 2],
    profile: String,
    period_s: u32,
    authenticated: bool,
    reason: String,
    number: Option<AccountNumber>,
    account: Option<AccountId>,
    access: Access,
}

/// What a line says of how the meter is asked; empty is nothing said.
#[derive(Default, PartialEq, Eq)]
struct Access {
    address: String,
    secrets: MeterSecrets,
    asking: Said,
}

impl Access {
    fn is_empty(&self) -> bool {
        self.address.is_empty()
            && self.secrets == MeterSecrets::default()
            && self.asking.iter().all(String::is_empty)
    }

    /// With what is known for all that is not said here.
    fn over(&self, known: &Access) -> Access {
        let said =
            |said: &Vec<u8>, known: &Vec<u8>| if said.is_empty() { known.clone() } else { said.clone() };
        let mut asking = self.asking.clone();
        for (said, known) in asking.iter_mut().zip(&known.asking).filter(|(said, _)| said.is_empty()) {
            said.clone_from(known);
        }
        Access {
            address: if self.address.is_empty() { known.address.clone() } else { self.address.clone() },
            secrets: MeterSecrets {
                password: said(&self.secrets.password, &known.secrets.password),
                hls: said(&self.secrets.hls, &known.secrets.hls),
                master: self.secrets.master.or(known.secrets.master),
            },
            asking,
        }
    }
}

impl Registry {
    /// Registers the meters of a CSV file, all or none. Columns, in any order: `system_title` (16 hexadecimal digits),
    /// `serial`, `guek` and `gak` (32 hexadecimal digits each), `profile` (one of `known`), `policy` (`authenticated`
    /// or `transport`), `account_number` (registered, without a meter; empty for none), and where a policy is
    /// `transport` its `policy_reason`. Weak keys and keys in use elsewhere are refused.
    ///
    /// How a meter is asked is optional: `address` (`host:port` or `udp://host:port` where it is dialled, `mqtt://node` where it is asked over a broker), `lls` (password of the reader),
    /// `hls` (secret of the utility client: 32 hexadecimal digits, or up to 16 characters), `master_key` (32
    /// hexadecimal digits); `client` (address), `mechanism` (`none`, `lls`, `hls2`, `hls5`), `reader` (`never`, `fallback`,
    /// `always`), `framing` (`wrapper`, `hdlc`), `hdlc_address` (`LOGICAL/PHYSICAL`), `block_window` (see [`Asking`]). It is no fact: said again of a registered meter it replaces what was there, and an empty
    /// column leaves it.
    ///
    /// `csv` is read on the caller's thread: give a file or bytes, not a pipe.
    ///
    /// # Errors
    /// [`ImportError::Lines`] with every fault by line and column; nothing is changed on any error.
    pub async fn import_meters(
        &self,
        csv: impl Read + Send,
        known: &Known<'_>,
    ) -> Result<Imported, ImportError> {
        let mut faults = BadLines::default();
        let mut table = Table::open(csv, COLUMNS, &mut faults)?;
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        let mut tx = self.begin().await?;
        let mut next =
            Next { meter: counter(&mut tx, "meter").await?, outbox: counter(&mut tx, "outbox").await? };
        let mut imported = Imported::default();
        let mut in_file = InFile::default();
        loop {
            let lines = table.next_chunk(&mut faults)?;
            if lines.is_empty() {
                break;
            }
            let mut meters: Vec<Meter> = lines
                .iter()
                .filter_map(|line| {
                    let meter = parse(line, known, &self.vault, &mut faults)?;
                    in_file.is_first(&meter, &mut faults).then_some(meter)
                })
                .collect();
            find_accounts(&mut tx, &mut meters, &mut faults).await?;
            let fresh = without_registered(&mut tx, &self.vault, meters, &mut imported, &mut faults).await?;
            if faults.is_empty() && !fresh.is_empty() {
                imported.added += fresh.len();
                imported.outbox = Some(insert(&mut tx, &self.vault, &fresh, &mut next).await?);
            }
        }
        if !faults.is_empty() {
            return Err(ImportError::Lines(faults));
        }
        set_counter(&mut tx, "meter", next.meter).await?;
        set_counter(&mut tx, "outbox", next.outbox).await?;
        tx.commit().await?;
        Ok(imported)
    }
}

/// Last numbers given out.
struct Next {
    meter: u64,
    outbox: u64,
}

fn parse(
    line: &Line<COLUMN_COUNT>,
    known: &Known<'_>,
    vault: &Vault,
    faults: &mut BadLines,
) -> Option<Meter> {
    let title = parse_title(line, (TITLE, COLUMNS[TITLE].name), faults);
    let serial = parse_serial(line, faults);
    let keys = parse_keys(line, [(GUEK, COLUMNS[GUEK].name), (GAK, COLUMNS[GAK].name)], faults);
    let profile = parse_profile(line, known, faults);
    let policy = parse_policy(line, faults);
    let number = parse_account(line, faults);
    let access = parse_access(line, faults);
    let (keys, (profile, period_s), (authenticated, reason)) = (keys?, profile?, policy?);
    Some(Meter {
        line: line.number,
        title: title?,
        serial: serial?,
        digests: [vault.digest(&keys.guek), vault.digest(&keys.gak)],
        keys,
        profile,
        period_s,
        authenticated,
        reason,
        number: number?,
        account: None,
        access: access?,
    })
}

/// The system title in a column, given by its place and name.
pub(super) fn parse_title<const N: usize>(
    line: &Line<N>,
    (column, name): (usize, &'static str),
    faults: &mut BadLines,
) -> Option<SystemTitle> {
    let title = line.field(column).parse();
    title.map_err(|reason| faults.add(line.number, name, reason)).ok()
}

fn parse_serial(line: &Line<COLUMN_COUNT>, faults: &mut BadLines) -> Option<String> {
    let serial = line.field(SERIAL);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if serial.is_empty() || serial.len() > MAX_SERIAL || !serial.bytes().all(allowed) {
        faults.add(
            line.number,
            COLUMNS[SERIAL].name,
            "a serial is 1 to 32 letters, digits, '-', '_', '.' or '/'",
        );
        return None;
    }
    Some(serial.to_owned())
}

/// The two keys in two columns, each given by its place and name: encryption, authentication.
pub(super) fn parse_keys<const N: usize>(
    line: &Line<N>,
    [guek_column, gak_column]: [(usize, &'static str); 2],
    faults: &mut BadLines,
) -> Option<MeterKeys> {
    let mut keys = MeterKeys { guek: [0; 16], gak: [0; 16] };
    let guek = parse_key(line, guek_column, &mut keys.guek, faults);
    let gak = parse_key(line, gak_column, &mut keys.gak, faults);
    if guek && gak && keys.guek == keys.gak {
        faults.add(line.number, gak_column.1, "the same key as guek");
        return None;
    }
    (guek && gak).then_some(keys)
}

fn parse_key<const N: usize>(
    line: &Line<N>,
    (column, name): (usize, &'static str),
    key: &mut [u8; 16],
    faults: &mut BadLines,
) -> bool {
    if hex::decode_to_slice(line.field(column), key).is_err() {
        faults.add(line.number, name, "a key is 32 hexadecimal digits");
        return false;
    }
    check_strength(key).map_err(|reason| faults.add(line.number, name, reason)).is_ok()
}

fn parse_profile(
    line: &Line<COLUMN_COUNT>,
    known: &Known<'_>,
    faults: &mut BadLines,
) -> Option<(String, u32)> {
    let name = line.field(PROFILE);
    let found = known.profiles.iter().find(|(profile, _)| *profile == name);
    if found.is_none() {
        let names = known_names(known.profiles.iter().map(|(name, _)| *name), known.profiles.len());
        faults.add(line.number, COLUMNS[PROFILE].name, format_args!("no profile is named {name:?}; {names}"));
    }
    found.map(|(name, period_s)| ((*name).to_owned(), *period_s))
}

fn parse_policy(line: &Line<COLUMN_COUNT>, faults: &mut BadLines) -> Option<(bool, String)> {
    let reason = line.field(REASON);
    let Some(authenticated) = policy_of(line.field(POLICY)) else {
        faults.add(line.number, COLUMNS[POLICY].name, "neither authenticated nor transport");
        return None;
    };
    let fault = match (authenticated, reason.len()) {
        (true, 1..) => "only the policy transport has a reason",
        (false, 0) => "the policy transport needs a reason",
        (false, length) if length > MAX_REASON => "longer than 200 bytes",
        _ => return Some((authenticated, reason.to_owned())),
    };
    faults.add(line.number, COLUMNS[REASON].name, fault);
    None
}

fn parse_account(line: &Line<COLUMN_COUNT>, faults: &mut BadLines) -> Option<Option<AccountNumber>> {
    match line.field(ACCOUNT) {
        "" => Some(None),
        number => {
            let number = number.parse().map(Some);
            number.map_err(|reason| faults.add(line.number, COLUMNS[ACCOUNT].name, reason)).ok()
        }
    }
}

fn parse_access(line: &Line<COLUMN_COUNT>, faults: &mut BadLines) -> Option<Access> {
    let before = faults.total;
    let mut fault = |column: usize, reason: &dyn std::fmt::Display| {
        faults.add(line.number, COLUMNS[column].name, reason);
    };
    let address = line.field(ADDRESS);
    if !address.is_empty() && !is_address(address) {
        fault(ADDRESS, &"an address is host:port, [IPv6]:port, udp://host:port or mqtt://node");
    }
    let password = line.field(PASSWORD);
    if password.len() > MAX_PASSWORD || !password.bytes().all(|byte| byte.is_ascii_graphic()) {
        fault(PASSWORD, &format_args!("a password is up to {MAX_PASSWORD} letters, digits and signs"));
    }
    let mut secrets = MeterSecrets { password: password.as_bytes().to_vec(), hls: Vec::new(), master: None };
    let secret = line.field(SECRET);
    let mut key = [0; 16];
    if hex::decode_to_slice(secret, &mut key).is_ok() {
        match check_strength(&key) {
            // Text is what other systems make of a secret; as digits it was meant to be random.
            Ok(()) | Err(WeakKey::Text) => secrets.hls = key.to_vec(),
            Err(reason) => fault(SECRET, &reason),
        }
    } else if secret.len() <= MAX_SECRET {
        secrets.hls = secret.as_bytes().to_vec();
    } else {
        fault(SECRET, &"a secret is 32 hexadecimal digits or up to 16 characters");
    }
    let master = line.field(MASTER);
    if !master.is_empty() {
        match hex::decode_to_slice(master, &mut key).map(|()| check_strength(&key)) {
            Ok(Ok(())) => secrets.master = Some(key),
            Ok(Err(reason)) => fault(MASTER, &reason),
            Err(_) => fault(MASTER, &"a key is 32 hexadecimal digits"),
        }
    }
    key.zeroize();
    let asking: Said = std::array::from_fn(|at| line.field(ASKING + at).to_owned());
    if let Err((column, reason)) = Asking::of(&asking) {
        faults.add(line.number, COLUMNS[ASKING + column].name, reason);
    }
    (faults.total == before).then(|| Access { address: address.to_owned(), secrets, asking })
}

/// Something before the last colon and a port behind it; or a node, which is one level of a topic.
fn is_address(text: &str) -> bool {
    if let Some(node) = text.strip_prefix("mqtt://") {
        let level = |c: char| c.is_ascii_graphic() && !"/+#".contains(c);
        return text.len() <= MAX_ADDRESS && !node.is_empty() && node.chars().all(level);
    }
    let text = text.strip_prefix("udp://").or(text.strip_prefix("tcp://")).unwrap_or(text);
    text.len() <= MAX_ADDRESS
        && text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Writes how a meter is asked, over what is there; whether that changed anything.
async fn write_access(
    tx: &mut SqliteConnection,
    vault: &Vault,
    id: MeterId,
    meter: &Meter,
) -> Result<bool, Error> {
    if meter.access.is_empty() {
        return Ok(false);
    }
    let row = sqlx::query("SELECT * FROM meter_access WHERE meter_id = ?")
        .bind(i64::from(id.0))
        .fetch_optional(&mut *tx)
        .await?;
    let known = match row {
        Some(row) => {
            let secrets = vault.unwrap_secrets(meter.title, row.try_get("wrapped_secrets")?)?;
            Access { address: row.try_get("address")?, secrets, asking: said_of(&row)? }
        }
        None => Access::default(),
    };
    let access = meter.access.over(&known);
    if access == known {
        return Ok(false);
    }
    let query = sqlx::query(
        "INSERT INTO meter_access (meter_id, address, wrapped_secrets, client, mechanism, reader, framing, \
         hdlc_address, block_window) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (meter_id) \
         DO UPDATE SET address = excluded.address, wrapped_secrets = excluded.wrapped_secrets, \
         client = excluded.client, mechanism = excluded.mechanism, reader = excluded.reader, \
         framing = excluded.framing, hdlc_address = excluded.hdlc_address, block_window = excluded.block_window",
    );
    let query = query.bind(i64::from(id.0)).bind(access.address.as_str());
    let query = query.bind(vault.wrap_secrets(meter.title, &access.secrets));
    access.asking.iter().fold(query, |query, said| query.bind(said.as_str())).execute(tx).await?;
    Ok(true)
}

/// What earlier lines of the file hold, each with its line.
#[derive(Default)]
struct InFile {
    titles: HashMap<SystemTitle, u64>,
    serials: HashMap<String, u64>,
    keys: HashMap<[u8; 32], u64>,
    accounts: HashMap<AccountNumber, u64>,
}

impl InFile {
    /// Notes what the line holds; a fault for each thing that an earlier line holds too.
    fn is_first(&mut self, meter: &Meter, faults: &mut BadLines) -> bool {
        let before = [
            (TITLE, self.titles.insert(meter.title, meter.line)),
            (SERIAL, self.serials.insert(meter.serial.clone(), meter.line)),
            (GUEK, self.keys.insert(meter.digests[0], meter.line)),
            (GAK, self.keys.insert(meter.digests[1], meter.line)),
            (ACCOUNT, meter.number.clone().and_then(|number| self.accounts.insert(number, meter.line))),
        ];
        let mut first = true;
        for (column, line) in before.into_iter().filter_map(|(column, line)| Some((column, line?))) {
            faults.add(meter.line, COLUMNS[column].name, format_args!("the same as in line {line}"));
            first = false;
        }
        first
    }
}

/// Finds the ids of the accounts; an account that is not registered is a fault.
async fn find_accounts(
    tx: &mut SqliteConnection,
    meters: &mut [Meter],
    faults: &mut BadLines,
) -> Result<(), Error> {
    let numbers: Vec<String> =
        meters.iter().filter_map(|meter| Some(meter.number.as_ref()?.to_string())).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("SELECT number, id FROM account WHERE number IN ");
    query.push_tuples(&numbers, |mut tuple, number| {
        tuple.push_bind(number.as_str());
    });
    let mut ids: HashMap<String, AccountId> = HashMap::new();
    for row in query.build().fetch_all(&mut *tx).await? {
        ids.insert(row.try_get(0)?, AccountId(number(row.try_get(1)?, "account id")?));
    }
    let mut names = None;
    for meter in meters {
        let Some(number) = &meter.number else { continue };
        meter.account = ids.get(number.as_str()).copied();
        if meter.account.is_none() {
            if names.is_none() {
                names = Some(registered_numbers(tx).await?);
            }
            let known = names.as_deref().unwrap_or_default();
            faults.add(
                meter.line,
                COLUMNS[ACCOUNT].name,
                format_args!("no account has the number {number}; {known}"),
            );
        }
    }
    Ok(())
}

async fn registered_numbers(tx: &mut SqliteConnection) -> Result<String, Error> {
    let total: i64 = sqlx::query_scalar("SELECT count(*) FROM account").fetch_one(&mut *tx).await?;
    let names: Vec<String> = sqlx::query_scalar("SELECT number FROM account ORDER BY id LIMIT ?")
        .bind(super::MAX_LISTED_NAMES as i64)
        .fetch_all(tx)
        .await?;
    Ok(known_names(names.iter().map(String::as_str), number(total, "account count")?))
}

/// The meters that are not registered; of the others, those that differ are faults.
async fn without_registered(
    tx: &mut SqliteConnection,
    vault: &Vault,
    meters: Vec<Meter>,
    imported: &mut Imported,
    faults: &mut BadLines,
) -> Result<Vec<Meter>, Error> {
    let registered = Registered::read(tx, &meters).await?;
    let mut fresh = Vec::with_capacity(meters.len());
    for meter in meters {
        let known = registered.meters.get(&meter.title);
        let found = match known {
            Some(before) => differences(before, &meter, &registered),
            None => conflicts(&meter, &registered),
        };
        for (column, reason) in &found {
            faults.add(meter.line, COLUMNS[*column].name, reason);
        }
        match known {
            None => fresh.push(meter),
            Some(before) => {
                if found.is_empty() {
                    let updated = write_access(tx, vault, before.meter, &meter).await?;
                    imported.updated += usize::from(updated);
                    imported.unchanged += usize::from(!updated);
                }
            }
        }
    }
    Ok(fresh)
}

/// What is registered of the things a chunk of lines names.
struct Registered {
    meters: HashMap<SystemTitle, Fields>,
    serials: HashMap<String, SystemTitle>,
    accounts: HashMap<AccountId, SystemTitle>,
    /// Meter, purpose and epoch of keys that are or were in use.
    keys: HashMap<[u8; 32], (MeterId, String, u16)>,
}

/// A meter's columns, for comparing.
struct Fields {
    meter: MeterId,
    serial: String,
    profile: String,
    policy: String,
    reason: String,
    account: Option<AccountId>,
    number: Option<String>,
    key_epoch: u16,
}

impl Registered {
    async fn read(tx: &mut SqliteConnection, meters: &[Meter]) -> Result<Registered, Error> {
        let mut registered = Registered {
            meters: HashMap::new(),
            serials: HashMap::new(),
            accounts: HashMap::new(),
            keys: HashMap::new(),
        };
        if !meters.is_empty() {
            registered.read_meters(tx, meters).await?;
            registered.read_keys(tx, meters).await?;
        }
        Ok(registered)
    }

    async fn read_meters(&mut self, tx: &mut SqliteConnection, meters: &[Meter]) -> Result<(), Error> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT meter.id, title, serial, profile, policy, policy_reason, account_id, account.number, key_epoch \
             FROM meter LEFT JOIN account ON account.id = account_id WHERE title IN ",
        );
        query.push_tuples(meters, |mut tuple, meter| {
            tuple.push_bind(meter.title.0.to_vec());
        });
        query.push(" OR serial IN ");
        query.push_tuples(meters, |mut tuple, meter| {
            tuple.push_bind(meter.serial.as_str());
        });
        let accounts: HashSet<i64> =
            meters.iter().filter_map(|meter| Some(i64::from(meter.account?.0))).collect();
        if !accounts.is_empty() {
            query.push(" OR account_id IN ");
            query.push_tuples(accounts, |mut tuple, account| {
                tuple.push_bind(account);
            });
        }
        for row in query.build().fetch_all(tx).await? {
            let title = SystemTitle(fixed(row.try_get(1)?, "system title")?);
            let account: Option<i64> = row.try_get(6)?;
            let fields = Fields {
                meter: MeterId(number(row.try_get(0)?, "meter id")?),
                serial: row.try_get(2)?,
                profile: row.try_get(3)?,
                policy: row.try_get(4)?,
                reason: row.try_get(5)?,
                account: account.map(|id| number(id, "account id").map(AccountId)).transpose()?,
                number: row.try_get(7)?,
                key_epoch: number(row.try_get(8)?, "key epoch")?,
            };
            self.serials.insert(fields.serial.clone(), title);
            self.accounts.extend(fields.account.map(|account| (account, title)));
            self.meters.insert(title, fields);
        }
        Ok(())
    }

    async fn read_keys(&mut self, tx: &mut SqliteConnection, meters: &[Meter]) -> Result<(), Error> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT digest, meter_id, purpose, key_epoch FROM meter_key WHERE digest IN ",
        );
        query.push_tuples(meters.iter().flat_map(|meter| meter.digests), |mut tuple, digest| {
            tuple.push_bind(digest.to_vec());
        });
        for row in query.build().fetch_all(tx).await? {
            let meter = MeterId(number(row.try_get(1)?, "meter id")?);
            let holder = (meter, row.try_get(2)?, number(row.try_get(3)?, "key epoch")?);
            self.keys.insert(fixed(row.try_get(0)?, "key digest")?, holder);
        }
        Ok(())
    }
}

/// What a line says otherwise of a registered meter.
fn differences(before: &Fields, meter: &Meter, registered: &Registered) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let number = meter.number.as_ref().map(AccountNumber::as_str);
    for (column, before, now) in [
        (SERIAL, before.serial.as_str(), meter.serial.as_str()),
        (PROFILE, before.profile.as_str(), meter.profile.as_str()),
        (POLICY, before.policy.as_str(), policy_name(meter.authenticated)),
        (REASON, before.reason.as_str(), meter.reason.as_str()),
        (ACCOUNT, before.number.as_deref().unwrap_or_default(), number.unwrap_or_default()),
    ] {
        if before != now {
            found.push((column, format!("registered is {before:?}, here stands {now:?}")));
        }
    }
    for (column, digest, purpose) in [(GUEK, &meter.digests[0], "guek"), (GAK, &meter.digests[1], "gak")] {
        let held = registered.keys.get(digest);
        let same = held.is_some_and(|(holder, of, epoch)| {
            *holder == before.meter && of == purpose && *epoch == before.key_epoch
        });
        if !same {
            found.push((column, "differs from the registered key".to_owned()));
        }
    }
    found
}

/// What a new meter may not share with the registered ones.
fn conflicts(meter: &Meter, registered: &Registered) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if let Some(title) = registered.serials.get(&meter.serial) {
        found.push((SERIAL, format!("registered with the system title {title}")));
    }
    if let Some(title) = meter.account.and_then(|account| registered.accounts.get(&account)) {
        found.push((ACCOUNT, format!("the account has the meter {title}")));
    }
    for (column, digest) in [(GUEK, &meter.digests[0]), (GAK, &meter.digests[1])] {
        if registered.keys.contains_key(digest) {
            found.push((column, "the key is in use by another meter".to_owned()));
        }
    }
    found
}

async fn insert(
    tx: &mut SqliteConnection,
    vault: &Vault,
    meters: &[Meter],
    next: &mut Next,
) -> Result<OutboxId, Error> {
    let first = next.meter + 1;
    let mut facts = Vec::with_capacity(meters.len());
    for meter in meters {
        next.meter += 1;
        next.outbox += 1;
        facts.push(Fact::MeterTerms(terms(meter, next)?));
    }
    insert_meters(tx, vault, meters, first).await?;
    insert_keys(tx, meters, first).await?;
    for (id, meter) in (first..).zip(meters).filter(|(_, meter)| !meter.access.is_empty()) {
        let id = u32::try_from(id).map_err(|_| Error::Damaged("all meter ids are given out".to_owned()))?;
        write_access(tx, vault, MeterId(id), meter).await?;
    }
    write_outbox(tx, next.outbox, &facts).await
}

async fn insert_meters(
    tx: &mut SqliteConnection,
    vault: &Vault,
    meters: &[Meter],
    first: u64,
) -> Result<(), Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO meter (id, title, serial, profile, period_s, policy, policy_reason, account_id, key_epoch, \
         wrapped_keys) ",
    );
    query.push_values((first..).zip(meters), |mut values, (id, meter)| {
        values
            .push_bind(id.cast_signed())
            .push_bind(meter.title.0.to_vec())
            .push_bind(meter.serial.as_str())
            .push_bind(meter.profile.as_str())
            .push_bind(i64::from(meter.period_s))
            .push_bind(policy_name(meter.authenticated))
            .push_bind(meter.reason.as_str())
            .push_bind(meter.account.map(|account| i64::from(account.0)))
            .push_bind(i64::from(FIRST_KEY_EPOCH))
            .push_bind(vault.wrap_keys(meter.title, FIRST_KEY_EPOCH, &meter.keys));
    });
    query.build().execute(tx).await?;
    Ok(())
}

async fn insert_keys(tx: &mut SqliteConnection, meters: &[Meter], first: u64) -> Result<(), Error> {
    let keys = (first..)
        .zip(meters)
        .flat_map(|(id, meter)| [(id, meter.digests[0], "guek"), (id, meter.digests[1], "gak")]);
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO meter_key (meter_id, digest, purpose) ");
    query.push_values(keys, |mut values, (id, digest, purpose)| {
        values.push_bind(id.cast_signed()).push_bind(digest.to_vec()).push_bind(purpose);
    });
    query.build().execute(tx).await?;
    Ok(())
}

fn terms(meter: &Meter, next: &Next) -> Result<MeterTerms, Error> {
    let id =
        u32::try_from(next.meter).map_err(|_| Error::Damaged("all meter ids are given out".to_owned()))?;
    Ok(MeterTerms {
        outbox: OutboxId(next.outbox),
        meter: MeterId(id),
        title: meter.title,
        account: meter.account,
        profile: meter.profile.clone(),
        period_s: meter.period_s,
        authenticated: meter.authenticated,
        key_epoch: FIRST_KEY_EPOCH,
    })
}
