//! What a statement is answered from: everything at one position, taken on the fold's thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use ingest::{Clock as _, Pipeline};
use lake::Frozen;
use ledger::Fold;
use model::view::{Standing, Tally};
use model::{AccountId, MeterId, Position};
use query::{AccountEntry, Engine, MeterEntry, Options, PinError, Pinned, Pins, SupplyEntry, Wants};
use registry::{Registry, SupplyCommand};

use crate::clock::Clock;
use crate::config::Config;

/// Commands to relays that a statement sees at most: the newest.
const MAX_SUPPLY: usize = 200_000;
/// Rows of the registry read at once.
const PAGE: usize = 10_000;

/// The engine over a node's parts.
///
/// # Errors
/// When the spill directory cannot be made.
pub fn engine(
    config: &Config,
    clock: &Arc<Clock>,
    pipeline: &Pipeline,
    lake: &lake::Lake,
    registry: &Registry,
) -> Result<Arc<Engine>> {
    let spill = config.data.dir.join("spill");
    std::fs::create_dir_all(&spill)?;
    let options = Options {
        memory_bytes: usize::try_from(config.query.memory.as_u64())?,
        timeout: config.query.timeout.0,
        max_rows: config.query.max_rows,
        max_statements: config.query.max_statements,
        zone: config.time.zone.clone(),
        spill_dir: Some(spill),
        ..Options::default()
    };
    let pins = NodePins {
        clock: clock.clone(),
        pipeline: pipeline.clone(),
        lake: lake.clone(),
        registry: registry.clone(),
    };
    Ok(Arc::new(Engine::new(Arc::new(pins), options)?))
}

/// The rows of a statement as JSON objects.
///
/// # Errors
/// When the statement fails.
pub async fn rows(engine: &Engine, statement: &str) -> Result<Vec<serde_json::Value>> {
    let answer = engine.query(statement).await?;
    let text = query::format::text(&answer, query::format::Format::Json)?;
    Ok(serde_json::from_str(&text)?)
}

struct NodePins {
    clock: Arc<Clock>,
    pipeline: Pipeline,
    lake: lake::Lake,
    registry: Registry,
}

#[async_trait]
impl Pins for NodePins {
    async fn pin(&self, wants: Wants, at_most: Duration) -> Result<Pinned, PinError> {
        let begun = Instant::now();
        let (lake, taken_at) = (self.lake.clone(), self.clock.now());
        // The closure runs when everything that was durable before it is folded; nothing moves while it runs. What takes
        // its time is made of the two afterwards, so that the fold goes on. A clone takes the longer the more gaps there
        // are, and a statement over the lake alone needs none.
        let is_cloned = wants.accounts || wants.gaps || wants.meters;
        let look = self.pipeline.look(move |fold| Looked {
            standing: fold.standing(),
            tallies: fold.tallies(),
            fold: is_cloned.then(|| fold.clone()),
            lake: lake.freeze(),
        });
        let durable = Position(self.pipeline.stats().durable_position);
        let looked = tokio::time::timeout(at_most, look).await;
        let looked = match looked {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => return Err(PinError::Unavailable(error.to_string())),
            Err(_) => {
                return Err(PinError::Behind {
                    reached: Position(self.pipeline.stats().folded_position),
                    durable,
                });
            }
        };
        let waited = begun.elapsed();
        let copied = tokio::task::spawn_blocking(move || pinned(looked, wants, taken_at, waited)).await;
        let mut pinned = copied.map_err(|panic| PinError::Unavailable(panic.to_string()))?;
        if wants.accounts {
            pinned.account_entries = self.account_entries().await.map_err(unavailable)?;
        }
        if wants.supply {
            pinned.supply = self.supply().await.map_err(unavailable)?;
        }
        if wants.meters {
            self.name_meters(&mut pinned.meters).await.map_err(unavailable)?;
        }
        Ok(pinned)
    }
}

impl NodePins {
    async fn account_entries(&self) -> Result<Vec<AccountEntry>, registry::Error> {
        let mut entries = Vec::new();
        let mut after = AccountId(0);
        loop {
            let page = self.registry.accounts(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(entries) };
            after = last.account;
            entries.extend(page.into_iter().map(|info| AccountEntry {
                account: info.account,
                number: info.number.to_string(),
                division: info.place().to_owned(),
                category: info.category,
            }));
        }
    }

    async fn supply(&self) -> Result<Vec<SupplyEntry>, registry::Error> {
        let mut commands = self.registry.supply_commands(None, MAX_SUPPLY).await?;
        commands.reverse();
        let entry = |command: SupplyCommand| {
            let ticket = command.ticket;
            SupplyEntry {
                id: ticket.id.to_string(),
                account: ticket.account,
                meter: ticket.meter,
                kind: ticket.kind.name(),
                reason: ticket.reason,
                state: command.state.name(),
                tries: command.tries,
                since: ticket.since,
                queued_at: ticket.queued_at,
                sent_at: command.sent_at,
                ready_at: command.ready_at,
                confirmed_at: command.confirmed_at,
                event_at: command.event_at,
                ended_at: command.ended_at,
                restored_at: command.restored_at,
                said: command.said,
                evidence: ticket.evidence,
            }
        };
        Ok(commands.into_iter().map(entry).collect())
    }

    /// Fills in what only the registry knows of the meters.
    async fn name_meters(&self, meters: &mut [MeterEntry]) -> Result<(), registry::Error> {
        let mut at: HashMap<MeterId, usize> =
            meters.iter().enumerate().map(|(index, entry)| (entry.view.meter, index)).collect();
        let mut after = MeterId(0);
        loop {
            let page = self.registry.meters(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.meter;
            for info in page {
                if let Some(entry) = at.remove(&info.meter).and_then(|index| meters.get_mut(index)) {
                    entry.title = info.title;
                    entry.serial = info.serial;
                    entry.profile = info.profile;
                    entry.account = info.account;
                }
            }
        }
    }
}

/// What is taken on the fold's thread, all at one position.
struct Looked {
    standing: Standing,
    tallies: [Tally; 4],
    /// Where the statement wants more of the state than the two.
    fold: Option<Fold>,
    lake: Frozen,
}

/// What the statement wants, copied out of a clone of the fold: beside the fold, not in its way.
fn pinned(looked: Looked, wants: Wants, taken_at: model::Instant, waited: Duration) -> Pinned {
    let Looked { standing, tallies, fold, lake } = looked;
    let fold = fold.as_ref();
    Pinned {
        position: standing.position,
        taken_at,
        lake: lake.snapshot(),
        accounts: fold.filter(|_| wants.accounts).map_or_else(Vec::new, |fold| fold.accounts().collect()),
        tallies: if wants.tallies { tallies } else { Default::default() },
        gaps: fold.filter(|_| wants.gaps).map_or_else(Vec::new, |fold| fold.gaps(usize::MAX)),
        meters: fold
            .filter(|_| wants.meters)
            .map_or_else(Vec::new, |fold| fold.meters().map(entry).collect()),
        account_entries: Vec::new(),
        supply: Vec::new(),
        standing,
        waited,
    }
}

fn entry(view: model::view::MeterView) -> MeterEntry {
    MeterEntry {
        account: view.account,
        title: model::SystemTitle::default(),
        serial: String::new(),
        profile: String::new(),
        view,
    }
}

fn unavailable(error: registry::Error) -> PinError {
    PinError::Unavailable(error.to_string())
}
