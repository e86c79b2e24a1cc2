//! A partition for benchmarks: real registry, lake, journal and fold in a directory of its own, and the meters that
//! push into it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use codec::apdu::{DataNotificationRepr, LongInvokeId};
use codec::axdr::{DateTime, Writer};
use codec::security::{self, Keys, RustCrypto, SecurityControl};
use codec::wrapper::WrapperRepr;
use ingest::{BoxError, Clock, LakeVersion, Pipeline, PipelineOptions};
use model::{
    Calendar, CivilDay, Fact, Instant, MeterId, Position, ReadingKind, Row, SystemTitle, TariffVersion,
};
use profiles::Profile;
use registry::{Kek, Known, Registry};

use crate::Seeded;

/// Made once: a calendar reads the history of its zone.
static CALENDAR: LazyLock<Calendar> = LazyLock::new(Calendar::india);

/// Intervals of a civil day.
pub const INTERVALS: usize = 48;
/// Seconds of an interval.
pub const PERIOD_S: i64 = 1800;

const KEK: &str = "8f0c2b1e77aa49d3905fe6c4b1a3d20e5c6f7081922db4e5a6b7c8d9eafb0c1d";
const TARIFF: &str = "lmv1-urban";
const BLOCK_SETUP: [u8; 6] = [0, 5, 25, 9, 0, 255];
const PROFILE: &str = "is15959-d1";

/// A clock that stands where it was put.
#[derive(Debug)]
pub struct StandingClock(AtomicI64);

impl StandingClock {
    /// Moves it.
    pub fn set(&self, now: Instant) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::SeqCst))
    }
}

/// The lake as the pipeline wants it: what the binary's adapter does.
#[derive(Debug)]
pub struct RealLake(pub lake::Lake);

impl ingest::Lake for RealLake {
    fn absorb(&self, rows: Vec<Row>, upto: Position) {
        self.0.absorb(rows, upto);
    }

    fn hot_bytes(&self) -> usize {
        self.0.hot_bytes()
    }

    fn commit(&self, upto: Position) -> Result<(), BoxError> {
        self.0.commit(upto)?;
        Ok(())
    }

    fn commit_at_once(&self, upto: Position) -> Result<(), BoxError> {
        self.0.commit_at_once(upto)?;
        Ok(())
    }

    fn committed(&self) -> Position {
        self.0.committed()
    }

    fn versions(
        &self,
        meter: MeterId,
        kind: ReadingKind,
        end: Instant,
    ) -> Result<Vec<LakeVersion>, BoxError> {
        let versions = self.0.versions(meter, kind, end)?;
        let of = |version: lake::Version| LakeVersion { rank: version.rank, values: version.values };
        Ok(versions.into_iter().map(of).collect())
    }

    fn demand_w(
        &self,
        meter: MeterId,
        from: Instant,
        to: Instant,
        period_s: u32,
        without_end: Instant,
    ) -> Result<Option<i64>, BoxError> {
        Ok(self.0.demand_w(meter, from, to, period_s, without_end)?)
    }
}

/// First day that is charged and pushed.
#[must_use]
pub fn first_day() -> CivilDay {
    CivilDay::from_ymd(2026, 6, 4).expect("a date")
}

/// Early in the morning after a day, before that day is closed.
#[must_use]
pub fn morning_after(day: CivilDay) -> Instant {
    CALENDAR.at(day.next(), 3, 0)
}

/// The end of an interval of a day, counted from 0.
#[must_use]
pub fn end_of(day: CivilDay, interval: usize) -> Instant {
    CALENDAR.start_of(day).plus_seconds(PERIOD_S * (interval as i64 + 1))
}

/// An open partition.
#[derive(Debug)]
pub struct World {
    /// Its data directory.
    pub dir: PathBuf,
    /// What stamps what comes in.
    pub clock: Arc<StandingClock>,
    /// The tables.
    pub lake: lake::Lake,
    /// Meters, keys and accounts.
    pub registry: Registry,
    /// The path of a frame.
    pub pipeline: Pipeline,
}

impl World {
    /// Opens the partition in `dir`, making it where it is not, at the morning after [`first_day`].
    ///
    /// # Errors
    /// What the registry, the lake or the pipeline says.
    pub async fn open(dir: &Path, change: impl FnOnce(&mut PipelineOptions)) -> Result<World, BoxError> {
        let kek = Kek::from_hex(KEK)?;
        let registry = Registry::open(&dir.join("registry.db"), kek).await?;
        let calendar = CALENDAR.clone();
        let lake = lake::Lake::open(&dir.join("lake"), calendar, lake::Options::default())?;
        let mut options = PipelineOptions { data_dir: dir.to_owned(), ..PipelineOptions::default() };
        change(&mut options);
        let clock = Arc::new(StandingClock(AtomicI64::new(morning_after(first_day()).0)));
        let pipeline = Pipeline::start(
            options,
            clock.clone(),
            Arc::new(RealLake(lake.clone())),
            registry.clone(),
            Profile::builtin().into(),
        )
        .await?;
        Ok(World { dir: dir.to_owned(), clock, lake, registry, pipeline })
    }

    /// Puts the tariff in force, if it is not.
    ///
    /// # Errors
    /// What the pipeline says.
    pub async fn apply_tariff(&self) -> Result<(), BoxError> {
        let body = builtin_tariff()?;
        let tariff = ledger::Tariff::parse(body)?;
        let version = TariffVersion {
            name: tariff.name.clone(),
            from: tariff.from,
            digest: ingest::digest(body.as_bytes()),
            body: body.to_owned(),
        };
        self.pipeline.append(Fact::TariffVersion(version)).await?;
        Ok(())
    }

    /// Registers meters of these numbers, each with an account of its own.
    ///
    /// # Errors
    /// What the registry or the pipeline says.
    pub async fn register(&self, numbers: Range<u32>) -> Result<(), BoxError> {
        self.apply_tariff().await?;
        self.register_accounts(numbers.clone()).await?;
        self.register_meters(numbers).await
    }

    /// Opens accounts of these numbers.
    ///
    /// # Errors
    /// What the registry or the pipeline says.
    pub async fn register_accounts(&self, numbers: Range<u32>) -> Result<(), BoxError> {
        let from = first_day();
        for part in parts(numbers) {
            let mut csv = String::from(
                "account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,\
                 connection\n",
            );
            for number in part {
                csv.push_str(&format!("{},{TARIFF},4,{from},1000,500,prepaid\n", account_number(number)));
            }
            self.registry.import_accounts(csv.as_bytes(), &[TARIFF]).await?;
            self.pipeline.drain_outbox().await?;
        }
        Ok(())
    }

    /// Registers meters of these numbers for the accounts of the same numbers, which have to be there.
    ///
    /// # Errors
    /// What the registry or the pipeline says.
    pub async fn register_meters(&self, numbers: Range<u32>) -> Result<(), BoxError> {
        let profiles = Profile::builtin();
        let known: Vec<(&str, u32)> =
            profiles.iter().map(|profile| (profile.name.as_str(), profile.period_s)).collect();
        for part in parts(numbers) {
            let mut csv =
                String::from("system_title,serial,guek,gak,profile,policy,account_number,policy_reason\n");
            for number in part {
                let meter = Meter::new(number);
                let (title, serial) = (meter.title, meter.serial());
                let (guek, gak) = (hex::encode(meter.guek), hex::encode(meter.gak));
                let account = account_number(number);
                csv.push_str(&format!("{title},{serial},{guek},{gak},{PROFILE},authenticated,{account},\n"));
            }
            self.registry.import_meters(csv.as_bytes(), &Known { profiles: &known }).await?;
            self.pipeline.drain_outbox().await?;
        }
        Ok(())
    }
}

/// Numbers in parts of which the texts fit into memory.
fn parts(numbers: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    const PART: u32 = 100_000;
    let end = numbers.end;
    numbers.step_by(PART as usize).map(move |first| first..(first + PART).min(end))
}

fn account_number(number: u32) -> String {
    format!("PUVVNL{number:010}")
}

fn builtin_tariff() -> Result<&'static str, BoxError> {
    let known = ledger::builtin_tariffs().iter().find(|(name, _)| *name == TARIFF);
    known.map(|(_, body)| *body).ok_or_else(|| format!("no tariff {TARIFF}").into())
}

/// A meter of the single-phase profile, with keys made from its number.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Its number, from 1.
    pub number: u32,
    /// Its system title.
    pub title: SystemTitle,
    /// Its encryption key.
    pub guek: [u8; 16],
    /// Its authentication key.
    pub gak: [u8; 16],
}

impl Meter {
    /// The meter of that number.
    #[must_use]
    pub fn new(number: u32) -> Meter {
        let mut seeded = Seeded::new(u64::from(number) << 20);
        let mut title = *b"HXE\0\0\0\0\0";
        title[4..].copy_from_slice(&number.to_be_bytes());
        Meter { number, title: SystemTitle(title), guek: seeded.bytes(), gak: seeded.bytes() }
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> String {
        format!("SN{:07}", self.number)
    }

    /// Energy of an interval of a day, Wh: of the size a household uses.
    #[must_use]
    pub fn energy_wh(&self, day: CivilDay, interval: usize) -> u32 {
        let seed = (u64::from(self.number) << 32) ^ ((day.0 as u64) << 8) ^ interval as u64;
        (Seeded::new(seed).number() % 700) as u32
    }

    /// Voltage of an interval, tenths of a volt.
    #[must_use]
    pub fn voltage_dv(&self, day: CivilDay, interval: usize) -> u16 {
        let seed = (u64::from(self.number) << 32) ^ ((day.0 as u64) << 8) ^ interval as u64;
        2200 + (Seeded::new(!seed).number() % 200) as u16
    }

    /// A push of one interval, whole frame, authenticated and encrypted.
    #[must_use]
    pub fn push_of_interval(&self, counter: u32, day: CivilDay, interval: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        self.head(&mut writer, 10, end_of(day, interval));
        self.values(&mut writer, day, interval);
        self.frame(counter, &body)
    }

    /// A push of a whole day: an array of 48 rows, each with its clock and all channels.
    #[must_use]
    pub fn push_of_day(&self, counter: u32, day: CivilDay) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        self.head(&mut writer, 4, end_of(day, INTERVALS - 1));
        writer.array(INTERVALS);
        for interval in 0..INTERVALS {
            writer.structure(8).octet_string(&date_time(end_of(day, interval)).0);
            self.values(&mut writer, day, interval);
        }
        self.frame(counter, &body)
    }

    fn head(&self, writer: &mut Writer<'_>, elements: usize, at: Instant) {
        writer.structure(elements).octet_string(format!("HXE{}", self.serial()).as_bytes());
        writer.octet_string(&BLOCK_SETUP).octet_string(&date_time(at).0);
    }

    fn values(&self, writer: &mut Writer<'_>, day: CivilDay, interval: usize) {
        let energy = self.energy_wh(day, interval);
        writer.u16(self.voltage_dv(day, interval)).u32(energy).u32(energy + energy / 20);
        writer.u32(0).u32(0).u16((energy / 2) as u16).u16((energy / 2 + 1) as u16);
    }

    fn frame(&self, counter: u32, body: &[u8]) -> Vec<u8> {
        let mut apdu = Vec::new();
        let invoke_id = LongInvokeId::new(counter, true, false);
        DataNotificationRepr { invoke_id, date_time: None }.emit(body, &mut apdu);
        let keys = Keys::new(self.guek, self.gak);
        let control = SecurityControl::AUTHENTICATED_ENCRYPTED;
        let mut sealed = Vec::new();
        security::seal(&RustCrypto, control, &self.title.0, counter, &keys, &apdu, &mut sealed);
        let mut frame = Vec::new();
        WrapperRepr { source: 1, destination: 64 }.emit(&sealed, &mut frame);
        frame
    }
}

/// Length of the answer to a confirmed push, wrapper included.
#[must_use]
pub fn receipt_len() -> usize {
    let (mut apdu, mut frame) = (Vec::new(), Vec::new());
    codec::apdu::emit_data_notification_confirm(LongInvokeId::new(1, true, false), &mut apdu);
    WrapperRepr { source: 64, destination: 1 }.emit(&apdu, &mut frame);
    frame.len()
}

/// A meter's clock, which tells the deviation as Indian meters do.
fn date_time(at: Instant) -> DateTime {
    let wall = CALENDAR.wall_clock(at);
    let small = i8::unsigned_abs;
    let (month, day, weekday) = (small(wall.month), small(wall.day), small(wall.weekday));
    let (hour, minute, second) = (small(wall.hour), small(wall.minute), small(wall.second));
    DateTime::new(wall.year.unsigned_abs(), month, day, weekday, hour, minute, second, 0, 330, 0)
}

/// Every number from 0 to `count`, each once, in an order without pattern.
pub fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    // A prime far above any count, so that steps of it visit every number.
    const STEP: usize = 2_147_483_647;
    (0..count).map(move |index| (index * STEP + 12_345) % count.max(1))
}
