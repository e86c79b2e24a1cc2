//! A partition put together: lock, registry, lake, pipeline, SQL. `serve`, `demo` and every command that finds no owner
//! open the same thing; listeners come on top.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::supply::Supply;
use ingest::{EvidenceOptions, Pipeline, PipelineOptions, Sessions};
use ledger::Outcome;
use model::view::TermsView;
use model::{
    AccountId, AccountTerms, Calendar, CivilDay, Digest, Fact, Instant, OutboxId, Paise, TariffVersion,
};
use profiles::Profile;
use registry::{Kek, Known, Registry};
use state::DirLock;
use tokio::sync::Mutex;

use crate::adapter::IngestLake;
use crate::clock::Clock;
use crate::config::Config;

/// An open partition; a clone is another handle to it.
#[derive(Clone)]
pub struct Node {
    /// What it was opened with.
    pub config: Arc<Config>,
    /// The utility's zone.
    pub calendar: Calendar,
    /// Its "now".
    pub clock: Arc<Clock>,
    /// The Delta tables and the hot buffer.
    pub lake: lake::Lake,
    /// Meters, keys, accounts.
    pub registry: Registry,
    /// Journal, fold and what turns around them.
    pub pipeline: Pipeline,
    /// Questions to meters.
    pub sessions: Sessions,
    /// Meter types.
    pub profiles: Arc<[Profile]>,
    /// SQL.
    #[cfg(feature = "query")]
    pub engine: Arc<query::Engine>,
    /// Cuts and reconnections.
    pub supply: Supply,
    /// Whoever books what files have brought, or holds statements against the ledger.
    pub booking: Arc<tokio::sync::Mutex<()>>,
    /// Registrations, tariffs and clock moves go one at a time.
    turn: Arc<Mutex<()>>,
    _lock: Arc<DirLock>,
}

impl Node {
    /// Takes the data directory and brings the fold to the end of the journal.
    ///
    /// # Errors
    /// When another process owns the directory, or a file in it is damaged: names which and where.
    pub async fn open(config: Config) -> Result<Node> {
        let dir = config.data.dir.clone();
        make_private(&dir)?;
        let lock = DirLock::acquire(&dir)?;
        let calendar = config.calendar()?;
        let clock = Arc::new(Clock::new(config.time.clock));
        let kek = if config.keys.kek.is_empty() {
            Kek::in_directory(&dir)
        } else {
            Kek::from_hex(&config.keys.kek)
        };
        let kek = kek.context("key-encryption key")?;
        let registry = Registry::open(&dir.join("registry.db"), kek).await.context("registry")?;
        let lake = open_lake(&config, &calendar).await?;
        let profiles: Arc<[Profile]> = config.profiles()?.into();
        let options = pipeline_options(&config, &calendar)?;
        let pipeline = Pipeline::start(
            options,
            clock.clone(),
            Arc::new(IngestLake(lake.clone())),
            registry.clone(),
            profiles.clone(),
        )
        .await
        .context("the partition cannot be opened")?;
        if clock.is_driven() {
            // Driven time goes on from where it was, and never before the last record.
            let last = pipeline.look(ledger::Fold::now).await?;
            clock.drive(last.max(driven_until(&dir)))?;
            // The pipeline closed what it missed while this clock still stood at 1970.
            pipeline.close_due_days().await.context("days that were missed")?;
        }
        #[cfg(feature = "query")]
        let engine = crate::adapter::engine(&config, &clock, &pipeline, &lake, &registry)?;
        let sessions = Sessions::new(registry.clone(), Some(pipeline.clone()), config.session_options());
        let supply = Supply::new(
            pipeline.clone(),
            registry.clone(),
            sessions.clone(),
            calendar.clone(),
            config.supply_options(),
        );
        Ok(Node {
            supply,
            config: Arc::new(config),
            calendar,
            clock,
            lake,
            sessions,
            registry,
            pipeline,
            profiles,
            #[cfg(feature = "query")]
            engine,
            booking: Arc::default(),
            turn: Arc::default(),
            _lock: Arc::new(lock),
        })
    }

    /// Imports meters from CSV, all lines or none; their facts are durable and folded when this returns.
    ///
    /// # Errors
    /// With the bad lines, or when the journal fails.
    pub async fn import_meters(&self, csv: &[u8]) -> Result<registry::Imported, ImportError> {
        let _turn = self.turn.lock().await;
        let known: Vec<(&str, u32)> =
            self.profiles.iter().map(|profile| (profile.name.as_str(), profile.period_s)).collect();
        let imported = self.registry.import_meters(csv, &Known { profiles: &known }).await?;
        self.pipeline.drain_outbox().await.map_err(|error| ImportError::Journal(error.to_string()))?;
        Ok(imported)
    }

    /// Replaces keys of meters by those of a CSV, all lines or none; they are in force when this returns.
    ///
    /// # Errors
    /// With the bad lines, or when the journal fails.
    pub async fn rekey_meters(&self, csv: &[u8]) -> Result<registry::Imported, ImportError> {
        let _turn = self.turn.lock().await;
        let late_s = i64::from(self.config.billing.late_days) * 86_400;
        let taken_until = self.pipeline.clock().now().plus_seconds(late_s);
        let imported = self.registry.rekey_meters(csv, taken_until).await?;
        self.pipeline.drain_outbox().await.map_err(|error| ImportError::Journal(error.to_string()))?;
        Ok(imported)
    }

    /// Imports accounts from CSV, all lines or none; their facts are durable and folded when this returns.
    ///
    /// # Errors
    /// With the bad lines, or when the journal fails.
    pub async fn import_accounts(&self, csv: &[u8]) -> Result<registry::Imported, ImportError> {
        let _turn = self.turn.lock().await;
        let tariffs = self
            .pipeline
            .look(|fold| fold.tariffs().into_iter().map(|tariff| tariff.name).collect::<Vec<_>>())
            .await
            .map_err(|error| ImportError::Journal(error.to_string()))?;
        let tariffs: Vec<&str> = tariffs.iter().map(String::as_str).collect();
        let imported = self.registry.import_accounts(csv, &tariffs).await?;
        self.pipeline.drain_outbox().await.map_err(|error| ImportError::Journal(error.to_string()))?;
        self.all_accounts_are_in_force().await?;
        Ok(imported)
    }

    /// Changes tariff or sanctioned load of a registered account from a day on; what is not said stays as it is on that day.
    /// The fact is durable and folded when this returns. An outcome other than applied changed nothing. Gives the terms, what
    /// came of them, and those that begin after them.
    ///
    /// # Errors
    /// When the ledger does not know the account, the registry or the journal fails.
    pub async fn change_account(
        &self,
        account: AccountId,
        from: CivilDay,
        change: TermsChange,
    ) -> Result<(TermsView, Outcome, Vec<TermsView>)> {
        let _turn = self.turn.lock().await;
        self.pipeline.drain_outbox().await?;
        let received_at = self.pipeline.clock().now();
        let look = move |fold: &ledger::Fold| {
            let known = fold.terms_on(account, from)?;
            let terms = AccountTerms {
                outbox: OutboxId(0),
                account,
                connection: known.connection,
                tariff: change.tariff.unwrap_or(known.tariff),
                sanctioned_w: change.sanctioned_w.unwrap_or(known.sanctioned_w),
                from,
                opening_register_wh: 0,
                opening_balance: Paise::ZERO,
            };
            let outcome = fold.would_take(&terms, received_at);
            let later = fold.later_terms(account).into_iter().filter(|later| later.from > from).collect();
            Some((terms, outcome, later))
        };
        let looked = self.pipeline.study(look).await?;
        let (terms, would, later) = looked.context("the ledger does not know the account")?;
        let view = TermsView {
            from,
            connection: terms.connection,
            tariff: terms.tariff.clone(),
            sanctioned_w: terms.sanctioned_w,
        };
        if !would.is_success() {
            return Ok((view, would, later));
        }
        let terms = self.registry.add_terms(terms).await?;
        let outbox = terms.outbox;
        let applied = self.pipeline.append(Fact::AccountTerms(terms)).await?;
        self.registry.outbox_drained(outbox).await?;
        Ok((view, applied.outcome, later))
    }

    /// The ledger has its own bounds on terms; what it did not take must not look registered.
    async fn all_accounts_are_in_force(&self) -> Result<(), ImportError> {
        let registered = self.registry.account_count().await.map_err(registry::ImportError::Registry)?;
        let in_force = self.pipeline.look(|fold| fold.accounts().count()).await;
        let in_force = in_force.map_err(|error| ImportError::Journal(error.to_string()))? as u64;
        if in_force < registered { Err(ImportError::Refused(registered - in_force)) } else { Ok(()) }
    }

    /// Puts a version of a tariff in force.
    ///
    /// # Errors
    /// When the text is no tariff (key and line), or the journal fails; a refusal by the ledger is an outcome.
    pub async fn apply_tariff(&self, body: String) -> Result<ingest::Applied> {
        let _turn = self.turn.lock().await;
        let tariff = ledger::tariff::Tariff::parse(&body)?;
        let digest = digest_of(body.as_bytes());
        let version = TariffVersion { name: tariff.name.clone(), from: tariff.from, digest, body };
        Ok(self.pipeline.append(Fact::TariffVersion(version)).await?)
    }

    /// Books money received.
    ///
    /// # Errors
    /// When the journal fails; that the payment is there already is an outcome.
    pub async fn recharge(
        &self,
        account: AccountId,
        amount: Paise,
        payment_id: String,
    ) -> Result<ingest::Applied> {
        let recharge = model::Recharge { account, amount, payment_id };
        let applied = self.pipeline.append(Fact::Recharge(recharge)).await?;
        self.supply.wake(account);
        Ok(applied)
    }

    /// Moves driven time and closes the days that are due by then.
    ///
    /// # Errors
    /// When the clock is not driven or would move back, or the journal fails.
    pub async fn drive_clock(&self, now: Instant) -> Result<Vec<CivilDay>> {
        let _turn = self.turn.lock().await;
        self.clock.drive(now)?;
        if let Err(error) = remember_driven(&self.config.data.dir, now) {
            // The last record says as well where time stood; a full disk must not stop it.
            tracing::warn!(%error, "driven time is not remembered over a restart");
        }
        Ok(self.pipeline.close_due_days().await?)
    }

    /// Drains, takes a checkpoint and lets go of the directory.
    ///
    /// # Errors
    /// When the last checkpoint fails; nothing acknowledged is lost by it, the journal has it.
    pub async fn close(self) -> Result<()> {
        self.pipeline.shutdown().await?;
        Ok(())
    }
}

/// What is to change of an account's terms; the rest stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TermsChange {
    /// Name of the tariff.
    pub tariff: Option<String>,
    /// Sanctioned load, W.
    pub sanctioned_w: Option<u32>,
}

/// Why an import changed nothing, or could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is at fault.
    #[error(transparent)]
    Registry(#[from] registry::ImportError),
    /// Registered, but not taken by the ledger.
    #[error(
        "{0} accounts are registered but the ledger refused their terms: a first day more than 400 days ahead, or a \
         sanctioned load above the tariff's"
    )]
    Refused(u64),
    /// Registered, but the journal could not take the facts; they are drained on the next start.
    #[error("registered, but not yet in force: {0}")]
    Journal(String),
}

/// First 16 bytes of the BLAKE3 hash.
pub fn digest_of(bytes: &[u8]) -> Digest {
    ingest::digest(bytes)
}

async fn open_lake(config: &Config, calendar: &Calendar) -> Result<lake::Lake> {
    let dir = config.data.dir.join("lake");
    let calendar = calendar.clone();
    let opened =
        tokio::task::spawn_blocking(move || lake::Lake::open(&dir, calendar, lake::Options::default()));
    opened.await?.context("lake")
}

fn pipeline_options(config: &Config, calendar: &Calendar) -> Result<PipelineOptions> {
    Ok(PipelineOptions {
        data_dir: config.data.dir.clone(),
        journal: journal::Options {
            segment_bytes: config.journal.segment.as_u64(),
            keep_bytes: config.journal.keep_bytes.as_u64(),
            keep: config.journal.keep.0,
            reserve_bytes: config.journal.reserve.as_u64(),
        },
        commit_every: config.lake.commit_every.0,
        commit_bytes: usize::try_from(config.lake.commit_bytes.as_u64())?,
        group_bytes: usize::try_from(config.journal.group.as_u64())?,
        queue_frames: config.journal.queue_frames,
        evidence: EvidenceOptions {
            burst_bytes: config.quarantine.burst.as_u64(),
            bytes_per_day: config.quarantine.per_day.as_u64(),
            title_burst: config.quarantine.title_burst,
            title_per_hour: config.quarantine.title_per_hour,
        },
        close_at: config.close_at()?,
        late_days: config.billing.late_days,
        calendar: calendar.clone(),
        ..PipelineOptions::default()
    })
}

/// File in the data directory that keeps driven time over a restart.
const CLOCK_FILE: &str = "clock";

fn driven_until(dir: &Path) -> Instant {
    let text = std::fs::read_to_string(dir.join(CLOCK_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Durable when it returns: who drove the clock counts on it, and after a power cut no reading may be ahead of it.
fn remember_driven(dir: &Path, now: Instant) -> Result<()> {
    let fresh = dir.join("clock.tmp");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(now.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, dir.join(CLOCK_FILE))?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().context("driven clock")
}

/// Makes the data directory, for this user alone: it holds wrapped keys.
fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Its name must outlast a power cut as what is in it does.
            Some(parent) => std::fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        })
        .with_context(|| format!("cannot make the data directory {}", dir.display()))
}
