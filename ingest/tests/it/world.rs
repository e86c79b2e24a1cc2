//! A partition in a directory of its own, with a driven clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ingest::{Acked, Clock, Disposition, Pipeline, PipelineOptions, StartError};
use ledger::{Fold, Outcome};
use model::view::Tally;
use model::{AccountId, Digest, Fact, Instant, Paise, Recharge, Row, Section, Source, TariffVersion};
use profiles::Profile;
use registry::{Kek, Known, Registry};
use tempfile::TempDir;

use crate::frames::{Meter, june, received};
use crate::lake::FakeLake;

const KEK: &str = "8f0c2b1e77aa49d3905fe6c4b1a3d20e5c6f7081922db4e5a6b7c8d9eafb0c1d";

pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn set(&self, now: Instant) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    dir: Arc<TempDir>,
    pub(crate) options: PipelineOptions,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) lake: Arc<FakeLake>,
    pub(crate) registry: Registry,
    pub(crate) pipeline: Pipeline,
}

impl World {
    /// An empty partition at 5 June 2026, noon.
    pub(crate) async fn new() -> World {
        World::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut PipelineOptions)) -> World {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let registry = open_registry(&dir).await;
        let mut options = PipelineOptions {
            data_dir: dir.path().to_owned(),
            journal: journal::Options {
                segment_bytes: 4 << 20,
                keep_bytes: 1 << 30,
                keep: Duration::from_secs(3600),
                reserve_bytes: 0,
            },
            commit_every: Duration::from_secs(3600),
            group_bytes: 512 << 10,
            idle_after: Duration::from_millis(1),
            close_check: Duration::from_secs(3600),
            ..PipelineOptions::default()
        };
        change(&mut options);
        let clock = Arc::new(TestClock(AtomicI64::new(june(5, 12, 0).0)));
        let lake = Arc::new(FakeLake::default());
        let pipeline = start(&options, &clock, &lake, &registry).await.unwrap();
        World { dir, options, clock, lake, registry, pipeline }
    }

    /// With these meters registered, without accounts.
    pub(crate) async fn of(meters: &[&Meter]) -> World {
        let world = World::new().await;
        world.register(meters).await;
        world
    }

    /// Stops without a checkpoint and starts again with what a crash leaves of the lake.
    pub(crate) async fn crash(self) -> World {
        let World { dir, options, clock, lake, registry, pipeline } = self;
        pipeline.halt().await;
        registry.close().await;
        let registry = open_registry(&dir).await;
        let lake = Arc::new(lake.after_crash());
        let pipeline = start(&options, &clock, &lake, &registry).await.unwrap();
        World { dir, options, clock, lake, registry, pipeline }
    }

    /// Stops in order; what starting again says.
    pub(crate) async fn stop_and_start(self, change: impl FnOnce(&TestClock)) -> Result<World, StartError> {
        let World { dir, options, clock, lake, registry, pipeline } = self;
        pipeline.shutdown().await.unwrap();
        change(&clock);
        let pipeline = start(&options, &clock, &lake, &registry).await?;
        Ok(World { dir, options, clock, lake, registry, pipeline })
    }

    pub(crate) async fn register(&self, meters: &[&Meter]) {
        let lines: Vec<String> = meters.iter().map(|meter| meter.csv("")).collect();
        self.import_meters(&lines).await;
    }

    /// Registers a meter with an account of the same number, charged from 1 June.
    pub(crate) async fn register_account(&self, meter: &Meter) {
        let account = format!("PUVVNL{:010}", meter.number);
        let csv = format!(
            "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection\n\
             {account},lmv1-urban,4,2026-06-01,1000,500,prepaid\n"
        );
        self.registry.import_accounts(csv.as_bytes(), &["lmv1-urban"]).await.unwrap();
        self.import_meters(&[meter.csv(&account)]).await;
    }

    async fn import_meters(&self, lines: &[String]) {
        let header = "system_title,serial,guek,gak,profile,policy,account_number,policy_reason";
        self.import_csv(&format!("{header}\n{}\n", lines.join("\n"))).await;
    }

    /// Registers the meters of a file.
    pub(crate) async fn import_csv(&self, csv: &str) {
        let profiles = profiles();
        let known: Vec<(&str, u32)> =
            profiles.iter().map(|profile| (profile.name.as_str(), profile.period_s)).collect();
        self.registry.import_meters(csv.as_bytes(), &Known { profiles: &known }).await.unwrap();
        self.pipeline.drain_outbox().await.unwrap();
    }

    pub(crate) async fn apply_tariff(&self) {
        let (_, body) = ledger::builtin_tariffs().iter().find(|(name, _)| *name == "lmv1-urban").unwrap();
        let tariff = ledger::Tariff::parse(body).unwrap();
        let version = TariffVersion {
            name: tariff.name.clone(),
            from: tariff.from,
            digest: ingest::digest(body.as_bytes()),
            body: (*body).to_owned(),
        };
        let applied = self.pipeline.append(Fact::TariffVersion(version)).await.unwrap();
        assert!(applied.outcome.is_success(), "{}", applied.outcome);
    }

    /// Replaces the keys of a meter; those before are taken until then once the new ones were used.
    pub(crate) async fn rekey(&self, meter: &Meter, taken_until: Instant) {
        let (guek, gak) = (hex::encode(meter.guek), hex::encode(meter.gak));
        let csv = format!("system_title,guek,gak\n{},{guek},{gak}\n", meter.title);
        self.registry.rekey_meters(csv.as_bytes(), taken_until).await.unwrap();
        assert_eq!(self.pipeline.drain_outbox().await.unwrap(), 1);
    }

    /// A payment for account 1.
    pub(crate) async fn recharge(&self, payment_id: &str) -> Outcome {
        let recharge =
            Recharge { account: AccountId(1), amount: Paise(100), payment_id: payment_id.to_owned() };
        self.pipeline.append(Fact::Recharge(recharge)).await.unwrap().outcome
    }

    /// From here on no frame is taken into the journal, until the lake says that it has fewer bytes.
    pub(crate) async fn hold_frames(&self) {
        self.lake.claim_hot_bytes(usize::MAX);
        // The journal thread looks at the lake each time before it waits for work, so it has to be woken: twice,
        // because the first answer may be given before it looks.
        self.recharge("wake up").await;
        self.recharge("wake up").await;
    }

    /// Gives a frame to the pipeline and waits for its answer.
    pub(crate) async fn send_by(&self, source: Source, frame: Vec<u8>) -> Acked {
        let ticket = self.pipeline.submit(received(source, self.clock.now(), frame)).await.unwrap();
        within(ticket).await.unwrap()
    }

    pub(crate) async fn send(&self, frame: Vec<u8>) -> Acked {
        self.send_by(Source::Tcp, frame).await
    }

    pub(crate) async fn disposition(&self, frame: Vec<u8>) -> Disposition {
        self.send(frame).await.disposition
    }

    pub(crate) async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Fold) -> T + Send + 'static) -> T {
        self.pipeline.look(look).await.unwrap()
    }

    /// Rows of everything that was answered so far.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        self.look(|_| ()).await;
        self.lake.rows()
    }

    pub(crate) async fn tally(&self, source: Source) -> Tally {
        self.look(move |fold| fold.tallies()[source.index()]).await
    }

    pub(crate) async fn sections(&self) -> Vec<Section> {
        self.look(Fold::sections).await
    }

    /// Waits until no contested reading is open.
    pub(crate) async fn settled(&self) {
        self.until("contested readings are answered", |fold| fold.contested_len() == 0).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Fold) -> bool + Clone + Send + 'static) {
        let wait = async {
            while !self.look(holds.clone()).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// Records of the journal on disk, by name.
    pub(crate) fn journaled(&self) -> Vec<(Fact, Digest)> {
        let groups = journal::read(&self.dir.path().join("journal"), model::Position(0)).unwrap();
        let mut facts = Vec::new();
        for group in groups {
            for (position, bytes) in group.unwrap().records() {
                let fact = model::Record::decode(position, bytes).unwrap().fact;
                facts.push((fact, ingest::digest(bytes)));
            }
        }
        facts
    }
}

/// Those that come with the program, and the first of them with each particularity of sessions.
fn profiles() -> Vec<Profile> {
    let particular = [
        ("dedicated", "dedicated_key = true"),
        ("general", "dedicated_key = true\ngeneral = true"),
        ("release", "release = \"ciphered\"\nmax_pdu = 300"),
        ("authenticated", "protection = \"authenticated\""),
    ];
    let variants = particular.map(|(name, keys)| {
        Profile::parse(&format!("name = \"{name}\"\nbase = \"is15959-d1\"\n[session]\n{keys}\n")).unwrap()
    });
    Profile::builtin().into_iter().chain(variants).collect()
}

async fn open_registry(dir: &TempDir) -> Registry {
    Registry::open(&dir.path().join("registry.db"), Kek::from_hex(KEK).unwrap()).await.unwrap()
}

async fn start(
    options: &PipelineOptions,
    clock: &Arc<TestClock>,
    lake: &Arc<FakeLake>,
    registry: &Registry,
) -> Result<Pipeline, StartError> {
    let profiles = profiles().into();
    Pipeline::start(options.clone(), clock.clone(), lake.clone(), registry.clone(), profiles).await
}

/// The future's value, or a panic when it takes too long.
pub(crate) async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// Every frame that was received is accounted for.
pub(crate) fn assert_conserved(tally: &Tally) {
    let ends = tally.stored + tally.repeated + tally.quarantined + tally.refused + tally.contested;
    assert_eq!(tally.received, ends, "{tally:?}");
}
