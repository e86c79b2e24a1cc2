//! Tickets to open relays and to close them again, how far each has come, and what stops all cuts.
//!
//! A ticket is sealed with a key derived from the data key: a row that was written or changed by who has the database alone is
//! not [genuine](SupplyCommand::is_genuine), and is not sent. An account has one open command at a time, which the
//! database itself holds, so a cut and its undoing never race each other. Years of commands lie in the table: what every
//! round and every recharge asks names the index that it goes by, and fails without it.

use model::{AccountId, Instant, MeterId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use uuid::Uuid;

use crate::credit::{is_same_person, log};
use crate::database::{number, sql_limit};
use crate::{Approval, By, Error, Registry};

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyKind {
    /// Opens the relay.
    Cut,
    /// Closes it again.
    Reconnect,
}

impl SupplyKind {
    /// The word used in SQL and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SupplyKind::Cut => "cut",
            SupplyKind::Reconnect => "reconnect",
        }
    }
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyState {
    /// Waits to be sent.
    Queued,
    /// Goes out, or went out and what it did is not known yet.
    Sent,
    /// The meter is ready to close its relay; the consumer must press its button.
    Ready,
    /// The relay was read back as it should be.
    Confirmed,
    /// Overtaken before it was sent.
    Cancelled,
    /// Not sent in its time.
    Expired,
    /// The meter refused it, or its seal is not genuine.
    Refused,
    /// It went out and the relay stands as before.
    Failed,
    /// Of a cut: the relay was open before, by somebody else.
    OpenAlready,
    /// Of a cut: a reconnection overtook it while it was under way.
    Overtaken,
}

impl SupplyState {
    const ALL: [SupplyState; 10] = [
        SupplyState::Queued,
        SupplyState::Sent,
        SupplyState::Ready,
        SupplyState::Confirmed,
        SupplyState::Cancelled,
        SupplyState::Expired,
        SupplyState::Refused,
        SupplyState::Failed,
        SupplyState::OpenAlready,
        SupplyState::Overtaken,
    ];

    /// The word used in SQL and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SupplyState::Queued => "queued",
            SupplyState::Sent => "sent",
            SupplyState::Ready => "ready",
            SupplyState::Confirmed => "confirmed",
            SupplyState::Cancelled => "cancelled",
            SupplyState::Expired => "expired",
            SupplyState::Refused => "refused",
            SupplyState::Failed => "failed",
            SupplyState::OpenAlready => "open_already",
            SupplyState::Overtaken => "overtaken",
        }
    }
}

/// What is to be done, and why: never changed once it is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplyTicket {
    /// Its id, version 7.
    pub id: Uuid,
    /// Whose supply.
    pub account: AccountId,
    /// Whose relay.
    pub meter: MeterId,
    /// What is done with it.
    pub kind: SupplyKind,
    /// A word: `balance` of a cut; of a reconnection what ended its cause.
    pub reason: String,
    /// What it was decided on, JSON.
    pub evidence: String,
    /// When its cause arose: of a reconnection, when the money was credited.
    pub since: Instant,
    /// When it was queued.
    pub queued_at: Instant,
    /// It is not sent after that.
    pub expires_at: Option<Instant>,
}

/// A ticket, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplyCommand {
    /// The ticket.
    pub ticket: SupplyTicket,
    /// Whether its seal is that of this registry.
    pub is_genuine: bool,
    /// How far it has come.
    pub state: SupplyState,
    /// How often the meter was asked.
    pub tries: u32,
    /// When it first went out; noted before.
    pub sent_at: Option<Instant>,
    /// When the meter first waited for its button.
    pub ready_at: Option<Instant>,
    /// When the relay was read back as it should be.
    pub confirmed_at: Option<Instant>,
    /// When the relay moved by the meter's own log.
    pub event_at: Option<Instant>,
    /// When it was over.
    pub ended_at: Option<Instant>,
    /// What was last said of it.
    pub said: String,
    /// Of a cut: when supply was back.
    pub restored_at: Option<Instant>,
}

/// What is noted of a command that comes further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupplyStep {
    /// The meter was asked in vain, and will be again.
    Tried,
    /// It goes out now.
    Sent,
    /// The meter waits for its button.
    Ready,
    /// The relay was read back; when it moved, by the meter's own log.
    Confirmed(Option<Instant>),
    /// It is over without that.
    Ended(SupplyState),
}

/// A cut that went out and after which no relay was read back as closed: whatever was said of it, supply may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCut {
    /// Whose supply.
    pub account: AccountId,
    /// Whose relay.
    pub meter: MeterId,
    /// When the last such ticket was queued.
    pub queued_at: Instant,
    /// Whether supply is off as far as is known, or not known to be on.
    pub is_dark: bool,
}

/// What there is to know of a meter before it is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupplyOfMeter {
    /// Commands that went out to it.
    pub sent: u64,
    /// Tickets that were not sent in their time: it could not be reached.
    pub expired: u64,
    /// Somebody else opened its relay, or closed it again after a cut.
    pub by_hand: bool,
}

/// That nothing is cut, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Since when.
    pub at: Instant,
    /// By whom; `urja` for Urja itself.
    pub person: String,
    /// Why.
    pub reason: String,
    /// Who asked to end it, and when.
    pub thaw: Option<(String, Instant)>,
}

/// Accounts that are counted together in the budget of a transformer: of one division and transformer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SupplyGroup {
    /// The division; empty where none was said.
    pub division: String,
    /// The transformer; empty where none was said.
    pub transformer: String,
}

const COLUMNS: &str = "id, account_id, meter_id, kind, reason, evidence, since, queued_at, expires_at, seal, state, \
                       tries, sent_at, ready_at, confirmed_at, event_at, ended_at, said, restored_at";

impl Registry {
    /// Queues a command. A reconnection ends a cut of the account that is open: it is not sent any more, or was overtaken.
    /// False where the account has another open command, and nothing was changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queue_supply(&self, ticket: &SupplyTicket) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if ticket.kind == SupplyKind::Reconnect {
            overtake(&mut tx, ticket).await?;
        }
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM supply_command WHERE account_id = ? AND state IN ('queued', 'sent', 'ready')",
        )
        .bind(i64::from(ticket.account.0))
        .fetch_one(&mut *tx)
        .await?;
        if open > 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO supply_command (id, account_id, meter_id, kind, reason, evidence, since, queued_at, expires_at, \
             seal, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')",
        )
        .bind(ticket.id.as_bytes().to_vec())
        .bind(i64::from(ticket.account.0))
        .bind(i64::from(ticket.meter.0))
        .bind(ticket.kind.name())
        .bind(&ticket.reason)
        .bind(&ticket.evidence)
        .bind(ticket.since.0)
        .bind(ticket.queued_at.0)
        .bind(ticket.expires_at.map(|at| at.0))
        .bind(self.vault.seal(&sealed(ticket)).as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes how far a command has come. False where it cannot come there from where it stands, and nothing was changed: a
    /// cut goes out once, in its time and not while cuts are frozen, and nothing goes out that is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_supply(
        &self,
        id: Uuid,
        step: &SupplyStep,
        at: Instant,
        said: &str,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let changed = match step {
            SupplyStep::Tried => {
                sqlx::query(
                    "UPDATE supply_command SET tries = tries + 1, said = ?2 \
                     WHERE id = ?3 AND state IN ('queued', 'sent', 'ready') AND ?1 > 0",
                )
                .bind(at.0)
            }
            SupplyStep::Sent => {
                sqlx::query(
                    "UPDATE supply_command SET tries = tries + 1, state = 'sent', sent_at = coalesce(sent_at, ?1), \
                     said = ?2 WHERE id = ?3 AND (kind = 'cut' AND state = 'queued' AND expires_at > ?1 \
                     AND NOT EXISTS (SELECT 1 FROM cut_freeze) \
                     OR kind = 'reconnect' AND state IN ('queued', 'sent', 'ready'))",
                )
                .bind(at.0)
            }
            SupplyStep::Ready => {
                sqlx::query(
                    "UPDATE supply_command SET state = 'ready', ready_at = coalesce(ready_at, ?1), said = ?2 \
                     WHERE id = ?3 AND kind = 'reconnect' AND state IN ('queued', 'sent', 'ready')",
                )
                .bind(at.0)
            }
            SupplyStep::Confirmed(_) => {
                sqlx::query(
                    "UPDATE supply_command SET state = CASE state WHEN 'overtaken' THEN state ELSE 'confirmed' END, \
                     confirmed_at = ?1, ended_at = coalesce(ended_at, ?1), said = ?2, event_at = ?4 \
                     WHERE id = ?3 AND (state IN ('queued', 'sent', 'ready') OR kind = 'cut' AND state = 'overtaken')",
                )
                .bind(at.0)
            }
            SupplyStep::Ended(_) => {
                sqlx::query(
                    "UPDATE supply_command SET state = ?4, ended_at = ?1, said = ?2 \
                     WHERE id = ?3 AND state IN ('queued', 'sent', 'ready')",
                )
                .bind(at.0)
            }
        };
        let changed = changed.bind(said).bind(id.as_bytes().to_vec());
        let changed = match step {
            SupplyStep::Confirmed(event_at) => changed.bind(event_at.map(|at| at.0)),
            SupplyStep::Ended(state) => changed.bind(state.name()),
            _ => changed,
        };
        let is_changed = changed.execute(&mut *tx).await?.rows_affected() > 0;
        if is_changed && matches!(step, SupplyStep::Confirmed(_)) {
            sqlx::query(
                "UPDATE supply_command SET restored_at = ? WHERE kind = 'cut' AND restored_at IS NULL \
                 AND sent_at IS NOT NULL \
                 AND account_id = (SELECT account_id FROM supply_command WHERE id = ? AND kind = 'reconnect')",
            )
            .bind(at.0)
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(is_changed)
    }

    /// Commands of that kind of which something is still to come, oldest first.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn open_supply(&self, kind: SupplyKind) -> Result<Vec<SupplyCommand>, Error> {
        let text = format!(
            "SELECT {COLUMNS} FROM supply_command INDEXED BY supply_command_open \
             WHERE state IN ('queued', 'sent', 'ready') AND kind = ? ORDER BY number"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(kind.name()).fetch_all(&self.pool).await?;
        rows.iter().map(|row| self.supply_command_of(row)).collect()
    }

    /// Up to `limit` commands, newest first; of one account alone where it is given.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn supply_commands(
        &self,
        account: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<SupplyCommand>, Error> {
        let one =
            if account.is_some() { "INDEXED BY supply_command_account WHERE account_id = ?" } else { "" };
        let text = format!("SELECT {COLUMNS} FROM supply_command {one} ORDER BY number DESC LIMIT ?");
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        let query = match account {
            Some(account) => query.bind(i64::from(account.0)),
            None => query,
        };
        let rows = query.bind(sql_limit(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| self.supply_command_of(row)).collect()
    }

    /// Cuts whose supply is not back; of one account alone where it is given.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn open_cuts(&self, of: Option<AccountId>) -> Result<Vec<OpenCut>, Error> {
        // Each with a plan of its own: a question after one account must not walk over all of them.
        let one = if of.is_some() { "AND account_id = ?" } else { "" };
        let text = format!(
            "SELECT account_id, meter_id, max(queued_at) AS queued_at, \
             max(state IN ('sent', 'confirmed', 'overtaken')) AS is_dark \
             FROM supply_command INDEXED BY supply_command_cut \
             WHERE kind = 'cut' AND sent_at IS NOT NULL AND restored_at IS NULL {one} GROUP BY account_id, meter_id"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        let query = match of {
            Some(account) => query.bind(i64::from(account.0)),
            None => query,
        };
        let cut = |row: &SqliteRow| {
            Ok(OpenCut {
                account: AccountId(number(row.try_get("account_id")?, "account id")?),
                meter: MeterId(number(row.try_get("meter_id")?, "meter id")?),
                queued_at: Instant(row.try_get("queued_at")?),
                is_dark: row.try_get::<i64, _>("is_dark")? != 0,
            })
        };
        query.fetch_all(&self.pool).await?.iter().map(cut).collect()
    }

    /// The relay of that meter was read as closed by hand, whoever closed it: cuts of it that went out are undone. Called while
    /// the meter is leased, so that none goes out meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn supply_restored(&self, meter: MeterId, at: Instant) -> Result<(), Error> {
        sqlx::query(
            "UPDATE supply_command SET restored_at = ?, by_hand = 1 WHERE kind = 'cut' AND meter_id = ? \
             AND restored_at IS NULL AND sent_at IS NOT NULL",
        )
        .bind(at.0)
        .bind(i64::from(meter.0))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How many cuts went out from one moment to another, the latter not counted; without one, to whatever a clock says.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn cuts_sent(&self, from: Instant, to: Option<Instant>) -> Result<u64, Error> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM supply_command INDEXED BY supply_command_sent \
             WHERE kind = 'cut' AND sent_at >= ? AND sent_at < ?",
        )
        .bind(from.0)
        .bind(to.map_or(i64::MAX, |to| to.0))
        .fetch_one(&self.pool)
        .await?;
        number(count, "cuts")
    }

    /// When the first cut went out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_cut(&self) -> Result<Option<Instant>, Error> {
        let first: Option<i64> =
            sqlx::query_scalar("SELECT min(sent_at) FROM supply_command WHERE kind = 'cut'")
                .fetch_one(&self.pool)
                .await?;
        Ok(first.map(Instant))
    }

    /// Accounts of a group, and how many of them were cut since then.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn supply_group(&self, group: &SupplyGroup, since: Instant) -> Result<(u64, u64), Error> {
        let accounts: i64 =
            sqlx::query_scalar("SELECT count(*) FROM account WHERE division = ? AND transformer = ?")
                .bind(&group.division)
                .bind(&group.transformer)
                .fetch_one(&self.pool)
                .await?;
        let cut: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM supply_command JOIN account ON account.id = account_id \
             WHERE kind = 'cut' AND sent_at >= ? AND division = ? AND transformer = ?",
        )
        .bind(since.0)
        .bind(&group.division)
        .bind(&group.transformer)
        .fetch_one(&self.pool)
        .await?;
        Ok((number(accounts, "accounts")?, number(cut, "cuts")?))
    }

    /// What happened to a meter since then.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn supply_of_meter(&self, meter: MeterId, since: Instant) -> Result<SupplyOfMeter, Error> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE sent_at >= ?1) AS sent, \
             count(*) FILTER (WHERE state = 'expired' AND ended_at >= ?1) AS expired, \
             count(*) FILTER (WHERE state = 'open_already' AND ended_at >= ?1 OR by_hand AND restored_at >= ?1) AS by_hand \
             FROM supply_command INDEXED BY supply_command_meter WHERE meter_id = ?2",
        )
        .bind(since.0)
        .bind(i64::from(meter.0))
        .fetch_one(&self.pool)
        .await?;
        Ok(SupplyOfMeter {
            sent: number(row.try_get("sent")?, "commands")?,
            expired: number(row.try_get("expired")?, "commands")?,
            by_hand: row.try_get::<i64, _>("by_hand")? > 0,
        })
    }

    /// Stops all cuts. Where they are stopped already the reason is added, and who had asked to end it has to ask again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn freeze_cuts(&self, reason: &str, by: By<'_>) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO cut_freeze (id, at, person, reason) VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             thaw_by = NULL, thaw_at = NULL, reason = CASE WHEN instr(reason, excluded.reason) > 0 \
             THEN reason ELSE substr(reason || '; ' || excluded.reason, 1, 1000) END",
        )
        .bind(by.at.0)
        .bind(by.person)
        .bind(reason)
        .execute(&mut *tx)
        .await?;
        log(&mut tx, by, "freeze cuts", "", reason).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whether all cuts are stopped, and why.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cut_freeze(&self) -> Result<Option<Freeze>, Error> {
        let row = sqlx::query("SELECT at, person, reason, thaw_by, thaw_at FROM cut_freeze")
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(freeze_of).transpose()
    }

    /// When two persons last ended a stop of all cuts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn thawed_at(&self) -> Result<Option<Instant>, Error> {
        let at: Option<i64> = sqlx::query_scalar("SELECT max(at) FROM credit_log WHERE action = 'thaw cuts'")
            .fetch_one(&self.pool)
            .await?;
        Ok(at.map(Instant))
    }

    /// Ends the stop of all cuts: by two persons, one after the other. `NotAsked` says that this one was the first of them.
    /// `None` where nothing is stopped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn thaw_cuts(&self, by: By<'_>) -> Result<Option<Approval>, Error> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT at, person, reason, thaw_by, thaw_at FROM cut_freeze")
            .fetch_optional(&mut *tx)
            .await?;
        let Some(freeze) = row.as_ref().map(freeze_of).transpose()? else { return Ok(None) };
        let approval = match &freeze.thaw {
            None => {
                sqlx::query("UPDATE cut_freeze SET thaw_by = ?, thaw_at = ?")
                    .bind(by.person)
                    .bind(by.at.0)
                    .execute(&mut *tx)
                    .await?;
                log(&mut tx, by, "ask to thaw cuts", "", &freeze.reason).await?;
                Approval::NotAsked
            }
            Some((asked, _)) if is_same_person(asked, by.person) => Approval::SamePerson,
            Some((asked, _)) => {
                sqlx::query("DELETE FROM cut_freeze").execute(&mut *tx).await?;
                log(&mut tx, by, "thaw cuts", "", &format!("asked by {asked}; {}", freeze.reason)).await?;
                Approval::Approved
            }
        };
        tx.commit().await?;
        Ok(Some(approval))
    }

    fn supply_command_of(&self, row: &SqliteRow) -> Result<SupplyCommand, Error> {
        let word = |column: &str| row.try_get::<String, _>(column);
        let instant = |column: &str| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(Instant));
        let damaged =
            |what: &str, found: &str| Error::Damaged(format!("{what} {found:?} of a supply command"));
        let id: Vec<u8> = row.try_get("id")?;
        let (kind, state) = (word("kind")?, word("state")?);
        let kinds = [SupplyKind::Cut, SupplyKind::Reconnect];
        let ticket = SupplyTicket {
            id: Uuid::from_slice(&id).map_err(|_| damaged("id", &hex::encode(&id)))?,
            account: AccountId(number(row.try_get("account_id")?, "account id")?),
            meter: MeterId(number(row.try_get("meter_id")?, "meter id")?),
            kind: kinds.into_iter().find(|of| of.name() == kind).ok_or_else(|| damaged("kind", &kind))?,
            reason: word("reason")?,
            evidence: word("evidence")?,
            since: Instant(row.try_get("since")?),
            queued_at: Instant(row.try_get("queued_at")?),
            expires_at: instant("expires_at")?,
        };
        let seal: Vec<u8> = row.try_get("seal")?;
        let seal: [u8; 32] = seal.try_into().unwrap_or_default();
        Ok(SupplyCommand {
            // A comparison of hashes takes the same time whatever they are.
            is_genuine: self.vault.seal(&sealed(&ticket)) == blake3::Hash::from_bytes(seal),
            ticket,
            state: SupplyState::ALL
                .into_iter()
                .find(|of| of.name() == state)
                .ok_or_else(|| damaged("state", &state))?,
            tries: number(row.try_get("tries")?, "tries")?,
            sent_at: instant("sent_at")?,
            ready_at: instant("ready_at")?,
            confirmed_at: instant("confirmed_at")?,
            event_at: instant("event_at")?,
            ended_at: instant("ended_at")?,
            said: word("said")?,
            restored_at: instant("restored_at")?,
        })
    }
}

/// A reconnection comes: a cut that waits is not sent, and one that is under way was overtaken.
async fn overtake(tx: &mut Transaction<'_, Sqlite>, ticket: &SupplyTicket) -> Result<(), Error> {
    sqlx::query(
        "UPDATE supply_command SET state = CASE state WHEN 'queued' THEN 'cancelled' ELSE 'overtaken' END, \
         ended_at = ?, said = ? WHERE account_id = ? AND kind = 'cut' AND state IN ('queued', 'sent')",
    )
    .bind(ticket.queued_at.0)
    .bind(format!("overtaken by a reconnection: {}", ticket.reason))
    .bind(i64::from(ticket.account.0))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a seal is over: every field of a ticket, texts with their length.
fn sealed(ticket: &SupplyTicket) -> Vec<u8> {
    let SupplyTicket { id, account, meter, kind, reason, evidence, since, queued_at, expires_at } = ticket;
    let mut said = id.as_bytes().to_vec();
    said.extend(account.0.to_be_bytes());
    said.extend(meter.0.to_be_bytes());
    for text in [kind.name(), reason, evidence] {
        said.extend((text.len() as u64).to_be_bytes());
        said.extend(text.as_bytes());
    }
    for at in [Some(*since), Some(*queued_at), *expires_at] {
        said.extend(at.map_or(i64::MIN, |at| at.0).to_be_bytes());
    }
    said
}

fn freeze_of(row: &SqliteRow) -> Result<Freeze, Error> {
    let by: Option<String> = row.try_get("thaw_by")?;
    let at: Option<i64> = row.try_get("thaw_at")?;
    Ok(Freeze {
        at: Instant(row.try_get("at")?),
        person: row.try_get("person")?,
        reason: row.try_get("reason")?,
        thaw: by.zip(at.map(Instant)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::tests::open;

    const NOW: Instant = Instant(1_000_000);
    const ACCOUNT: AccountId = AccountId(1);

    async fn registered(dir: &std::path::Path) -> Registry {
        let registry = open(dir).await;
        let accounts = "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection,\
                        division,transformer\n\
                        PUVVNL0000000001,lmv1-urban,4,2026-06-01,0,0,prepaid,EUDD-IV,DT-7\n\
                        PUVVNL0000000002,lmv1-urban,4,2026-06-01,0,0,prepaid,EUDD-IV,DT-7\n";
        registry.import_accounts(accounts.as_bytes(), &["lmv1-urban"]).await.unwrap();
        for id in [1, 2] {
            sqlx::query(
                "INSERT INTO meter (id, title, serial, profile, policy, policy_reason, period_s, key_epoch, wrapped_keys, \
                 account_id) VALUES (?1, ?2, ?3, 'p', 'authenticated', '', 1800, 1, x'00', ?1)",
            )
            .bind(id)
            .bind(vec![u8::try_from(id).unwrap(); 8])
            .bind(format!("S{id}"))
            .execute(&registry.pool)
            .await
            .unwrap();
        }
        registry
    }

    fn ticket(kind: SupplyKind, number: u128) -> SupplyTicket {
        SupplyTicket {
            id: Uuid::from_u128(number),
            account: ACCOUNT,
            meter: MeterId(1),
            kind,
            reason: "balance".to_owned(),
            evidence: "{}".to_owned(),
            since: NOW,
            queued_at: NOW,
            expires_at: (kind == SupplyKind::Cut).then(|| NOW.plus_seconds(900)),
        }
    }

    async fn note(registry: &Registry, id: u128, step: SupplyStep) -> bool {
        registry.note_supply(Uuid::from_u128(id), &step, NOW.plus_seconds(1), "x").await.unwrap()
    }

    async fn command(registry: &Registry, id: u128) -> SupplyCommand {
        let all = registry.supply_commands(None, 100).await.unwrap();
        all.into_iter().find(|command| command.ticket.id == Uuid::from_u128(id)).unwrap()
    }

    #[tokio::test]
    async fn a_cut_goes_out_once_and_its_reconnection_restores_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registered(dir.path()).await;
        assert!(registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap());
        assert!(!registry.queue_supply(&ticket(SupplyKind::Cut, 2)).await.unwrap(), "one at a time");
        assert!(registry.open_cuts(None).await.unwrap().is_empty(), "nothing went out yet");
        assert!(note(&registry, 1, SupplyStep::Sent).await);
        assert!(!note(&registry, 1, SupplyStep::Sent).await, "a cut goes out once");
        let open = [OpenCut { account: ACCOUNT, meter: MeterId(1), queued_at: NOW, is_dark: true }];
        assert_eq!(registry.open_cuts(None).await.unwrap(), open, "what it did is not known");
        assert!(note(&registry, 1, SupplyStep::Confirmed(Some(NOW))).await);
        assert_eq!(registry.open_cuts(None).await.unwrap(), open);
        assert_eq!(registry.cuts_sent(NOW, None).await.unwrap(), 1);
        assert_eq!(registry.cuts_sent(NOW, Some(NOW.plus_seconds(1))).await.unwrap(), 0);
        let group = SupplyGroup { division: "EUDD-IV".to_owned(), transformer: "DT-7".to_owned() };
        assert_eq!(registry.supply_group(&group, NOW).await.unwrap(), (2, 1));
        let of_meter = registry.supply_of_meter(MeterId(1), NOW).await.unwrap();
        assert_eq!(of_meter, SupplyOfMeter { sent: 1, expired: 0, by_hand: false });

        assert!(registry.queue_supply(&ticket(SupplyKind::Reconnect, 3)).await.unwrap());
        for step in [SupplyStep::Sent, SupplyStep::Ready, SupplyStep::Sent, SupplyStep::Confirmed(None)] {
            assert!(note(&registry, 3, step.clone()).await, "{step:?}");
        }
        assert!(registry.open_cuts(None).await.unwrap().is_empty());
        assert_eq!(command(&registry, 1).await.restored_at, Some(NOW.plus_seconds(1)));
        let back = command(&registry, 3).await;
        assert_eq!((back.state, back.tries), (SupplyState::Confirmed, 2));
        assert_eq!(back.ready_at, Some(NOW.plus_seconds(1)));
        assert!(!note(&registry, 3, SupplyStep::Sent).await, "nothing goes out that is over");
    }

    #[tokio::test]
    async fn a_reconnection_keeps_a_waiting_cut_from_going_out_and_overtakes_one_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registered(dir.path()).await;
        registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap();
        assert!(registry.queue_supply(&ticket(SupplyKind::Reconnect, 2)).await.unwrap());
        assert_eq!(command(&registry, 1).await.state, SupplyState::Cancelled);
        assert!(!note(&registry, 1, SupplyStep::Sent).await);
        assert!(note(&registry, 2, SupplyStep::Confirmed(None)).await);

        registry.queue_supply(&ticket(SupplyKind::Cut, 3)).await.unwrap();
        note(&registry, 3, SupplyStep::Sent).await;
        assert!(registry.queue_supply(&ticket(SupplyKind::Reconnect, 4)).await.unwrap());
        assert!(note(&registry, 3, SupplyStep::Confirmed(None)).await, "it is still noted what it did");
        assert_eq!(command(&registry, 3).await.state, SupplyState::Overtaken);
        assert_eq!(registry.open_cuts(None).await.unwrap().len(), 1);
        note(&registry, 4, SupplyStep::Confirmed(None)).await;
        assert!(registry.open_cuts(None).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_row_that_was_written_or_changed_in_the_database_is_not_genuine() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registered(dir.path()).await;
        registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap();
        assert!(registry.open_supply(SupplyKind::Cut).await.unwrap()[0].is_genuine);
        let changes = [
            "account_id = 2",
            "meter_id = 2",
            "kind = 'reconnect'",
            "reason = 'x'",
            "evidence = '[]'",
            "since = since + 1",
            "queued_at = queued_at + 1",
            "expires_at = expires_at + 1",
            "expires_at = NULL",
            "seal = x'00'",
            "id = x'00000000000000000000000000000009'",
        ];
        let all = "SELECT * FROM supply_command";
        for change in changes {
            let mut tx = registry.pool.begin().await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE supply_command SET {change}")))
                .execute(&mut *tx)
                .await
                .unwrap();
            let row = sqlx::query(all).fetch_one(&mut *tx).await.unwrap();
            assert!(!registry.supply_command_of(&row).unwrap().is_genuine, "{change}");
        }
        assert!(
            registry.open_supply(SupplyKind::Cut).await.unwrap()[0].is_genuine,
            "all of that was rolled back"
        );
    }

    #[tokio::test]
    async fn whatever_was_said_of_a_cut_that_went_out_it_is_open_until_a_relay_is_read_back_as_closed() {
        for said in [SupplyState::Failed, SupplyState::Refused, SupplyState::Cancelled] {
            let dir = tempfile::tempdir().unwrap();
            let registry = registered(dir.path()).await;
            registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap();
            note(&registry, 1, SupplyStep::Sent).await;
            assert!(note(&registry, 1, SupplyStep::Ended(said)).await);
            let open = registry.open_cuts(Some(ACCOUNT)).await.unwrap();
            assert_eq!((open.len(), open[0].is_dark), (1, false), "{said:?}");
            assert!(registry.open_cuts(Some(AccountId(2))).await.unwrap().is_empty());
            registry.queue_supply(&ticket(SupplyKind::Reconnect, 2)).await.unwrap();
            note(&registry, 2, SupplyStep::Confirmed(None)).await;
            assert!(registry.open_cuts(None).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn no_cut_goes_out_late_or_while_cuts_are_frozen_and_every_reconnection_does() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registered(dir.path()).await;
        registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap();
        let by = By { person: "A. Singh", at: NOW };
        registry.freeze_cuts("a test", by).await.unwrap();
        assert!(!note(&registry, 1, SupplyStep::Sent).await);
        registry.thaw_cuts(by).await.unwrap();
        registry.thaw_cuts(By { person: "B. Khan", at: NOW }).await.unwrap();
        let late = NOW.plus_seconds(900);
        assert!(!registry.note_supply(Uuid::from_u128(1), &SupplyStep::Sent, late, "").await.unwrap());
        registry.freeze_cuts("a test", by).await.unwrap();
        registry.queue_supply(&ticket(SupplyKind::Reconnect, 2)).await.unwrap();
        assert!(note(&registry, 2, SupplyStep::Sent).await);
    }

    #[tokio::test]
    async fn who_closes_a_relay_by_hand_keeps_it_from_being_cut_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registered(dir.path()).await;
        registry.queue_supply(&ticket(SupplyKind::Cut, 1)).await.unwrap();
        note(&registry, 1, SupplyStep::Sent).await;
        note(&registry, 1, SupplyStep::Confirmed(None)).await;
        registry.supply_restored(MeterId(1), NOW.plus_seconds(5)).await.unwrap();
        assert!(registry.open_cuts(None).await.unwrap().is_empty());
        assert!(registry.supply_of_meter(MeterId(1), NOW).await.unwrap().by_hand);
        assert!(!registry.supply_of_meter(MeterId(1), NOW.plus_seconds(6)).await.unwrap().by_hand);
    }

    #[tokio::test]
    async fn a_freeze_takes_one_person_and_its_end_two() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path()).await;
        let by = |person| By { person, at: NOW };
        assert_eq!(registry.thaw_cuts(by("A. Singh")).await.unwrap(), None);
        registry.freeze_cuts("a test", by("A. Singh")).await.unwrap();
        registry.freeze_cuts("another", by("B. Khan")).await.unwrap();
        let frozen = registry.cut_freeze().await.unwrap().unwrap();
        assert_eq!((frozen.reason.as_str(), frozen.person.as_str()), ("a test; another", "A. Singh"));
        assert_eq!(registry.thaw_cuts(by("A. Singh")).await.unwrap(), Some(Approval::NotAsked));
        assert_eq!(registry.thaw_cuts(by("a. singh")).await.unwrap(), Some(Approval::SamePerson));
        // What comes meanwhile neither of the two has seen.
        registry.freeze_cuts("an anomaly", by("urja")).await.unwrap();
        let frozen = registry.cut_freeze().await.unwrap().unwrap();
        assert_eq!((frozen.reason.as_str(), frozen.thaw), ("a test; another; an anomaly", None));
        assert_eq!(registry.thaw_cuts(by("C. Rao")).await.unwrap(), Some(Approval::NotAsked));
        assert_eq!(registry.thaw_cuts(by("B. Khan")).await.unwrap(), Some(Approval::Approved));
        assert_eq!(registry.cut_freeze().await.unwrap(), None);
        assert_eq!(registry.thawed_at().await.unwrap(), Some(NOW));
    }
}
