//! A small lake, meters and accounts, and an engine over them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lake::Lake;
use model::reading::RankClass;
use model::row::{FrameRow, Head, PostingKind, PostingRow, ReadingRow, RevisionRow};
use model::view::{AccountView, Gap, MeterView, Standing, Tally};
use model::{
    AccountId, Calendar, CivilDay, Digest, Instant, MeterId, Paise, Position, Quality, Rank, ReadingKind,
    Row, Source, SystemTitle, Values,
};
use query::format::{self, Format};
use query::{AccountEntry, Answer, Engine, MeterEntry, Options, PinError, Pinned, Pins, QueryError, Wants};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The moment every answer of these tests is taken at.
pub(crate) const NOW: &str = "2026-06-10T12:00:00+05:30";

/// When rows leave the hot buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Never: all rows are hot.
    Hot,
    /// Before the first statement: all rows are in files.
    Files,
    /// After every second record, and some stay hot.
    Both,
}

impl Placement {
    pub(crate) const ALL: [Placement; 3] = [Placement::Hot, Placement::Files, Placement::Both];
}

/// A place where statements are asked.
pub(crate) struct World {
    pub(crate) calendar: Calendar,
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: Runtime,
    pub(crate) pins: Arc<Fake>,
    lake: Lake,
    at: u64,
    pub(crate) dir: TempDir,
}

/// What the binary would take from fold, lake and registry.
pub(crate) struct Fake {
    lake: Lake,
    pub(crate) state: Mutex<State>,
}

/// What a test sets.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) accounts: Vec<AccountView>,
    pub(crate) entries: Vec<AccountEntry>,
    pub(crate) meters: Vec<MeterEntry>,
    pub(crate) tallies: [Tally; 4],
    pub(crate) gaps: Vec<Gap>,
    pub(crate) standing: Standing,
    pub(crate) wants: Wants,
    pub(crate) behind: bool,
}

#[async_trait]
impl Pins for Fake {
    async fn pin(&self, wants: Wants, _: Duration) -> Result<Pinned, PinError> {
        let mut state = self.state.lock().unwrap();
        state.wants = wants;
        let lake = self.lake.snapshot();
        if state.behind {
            return Err(PinError::Behind { reached: lake.position, durable: lake.position.next() });
        }
        Ok(Pinned {
            position: lake.position,
            taken_at: NOW.parse().unwrap(),
            lake,
            accounts: if wants.accounts { state.accounts.clone() } else { Vec::new() },
            tallies: if wants.tallies { state.tallies } else { Default::default() },
            gaps: if wants.gaps { state.gaps.clone() } else { Vec::new() },
            meters: if wants.meters { state.meters.clone() } else { Vec::new() },
            account_entries: if wants.accounts { state.entries.clone() } else { Vec::new() },
            supply: Vec::new(),
            standing: state.standing,
            waited: Duration::ZERO,
        })
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> World {
        World::in_folder("lake", options)
    }

    pub(crate) fn in_folder(folder: &str, options: Options) -> World {
        let dir = tempfile::tempdir().unwrap();
        let calendar = Calendar::india();
        let lake = Lake::open(&dir.path().join(folder), calendar.clone(), lake::Options::default()).unwrap();
        let pins = Arc::new(Fake { lake: lake.clone(), state: Mutex::default() });
        let engine = Engine::new(Arc::clone(&pins) as Arc<dyn Pins>, options).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        World { calendar, engine: Arc::new(engine), runtime, pins, lake, at: 0, dir }
    }

    /// Rows of the next record.
    pub(crate) fn record(&mut self, rows: impl FnOnce(Position) -> Vec<Row>) -> Position {
        self.at += 1;
        let position = Position(self.at);
        self.lake.absorb(rows(position), position);
        position
    }

    /// Everything so far goes into files.
    pub(crate) fn commit(&self) {
        self.lake.commit(Position(self.at)).unwrap();
    }

    pub(crate) fn meter(&self, meter: u32, account: Option<u32>, period_s: u32) {
        self.pins.state.lock().unwrap().meters.push(MeterEntry {
            view: MeterView {
                meter: MeterId(meter),
                account: account.map(AccountId),
                heard_at: None,
                counter: Some(7),
                complete_until: None,
                period_s,
                authenticated: true,
            },
            title: SystemTitle([b'U', b'R', b'J', 0, 0, 0, 0, u8::try_from(meter).unwrap()]),
            serial: format!("S{meter}"),
            profile: "is15959-d1".to_owned(),
            account: account.map(AccountId),
        });
    }

    pub(crate) fn account(&self, account: u32, booked: i64, accrued: i64) {
        let mut state = self.pins.state.lock().unwrap();
        let number = format!("PUVVNL{account:010}");
        state.entries.push(AccountEntry {
            account: AccountId(account),
            number,
            category: "lmv1-urban".to_owned(),
            division: "EUDD-IV".to_owned(),
        });
        state.accounts.push(AccountView {
            account: AccountId(account),
            connection: model::ConnectionType::Prepaid,
            from: "2026-01-01".parse().unwrap(),
            booked: Paise(booked),
            accrued: Paise(accrued),
            uncorrected: Paise(0),
            arrears: Paise(700),
            month_energy_wh: 12_345,
            month_demand_w: 900,
            recent: Vec::new(),
            last_recharge: Some((Paise(50_000), instant("2026-06-01T09:00"))),
            booked_until: Some("2026-06-09".parse().unwrap()),
            tariff: "lmv1-urban".to_owned(),
            tariff_digest: None,
            sanctioned_w: 2_000,
            heard_at: None,
            credit: model::view::CreditView {
                reached: model::NoticeLevel::USED_UP,
                told: model::NoticeLevel(2),
                used_up_told_at: None,
                emergency_until: None,
                silent_days: 1,
                left_after_recharge: None,
            },
        });
    }

    fn frame_row(&self, position: Position, meter: u32, counter: u32) -> FrameRow {
        FrameRow {
            position,
            received_at: NOW.parse().unwrap(),
            source: Source::Tcp,
            meter: MeterId(meter),
            key_epoch: 1,
            counter: Some(counter),
            digest: digest(position),
            repeated: false,
            late: false,
            bytes: 100,
        }
    }

    /// A frame with the first value of a key.
    pub(crate) fn reading(
        &mut self,
        kind: ReadingKind,
        meter: u32,
        end: Instant,
        counter: u32,
        quality: Quality,
        values: Values,
    ) {
        let usage_date = self.calendar.usage_day(end);
        let frame = self.frame_row(Position(self.at + 1), meter, counter);
        self.record(|position| {
            let (meter, clock_status) = (MeterId(meter), 0);
            let row = ReadingRow {
                position,
                meter,
                end,
                usage_date,
                deviation_min: Some(-330),
                clock_status,
                quality,
                values,
            };
            let row = match kind {
                ReadingKind::Interval => Row::Interval(row),
                ReadingKind::Daily => Row::Daily(row),
                ReadingKind::Instant => Row::Instant(row),
            };
            vec![Row::Frame(frame), row]
        });
    }

    /// A frame with a later value of a key, and the answer that makes it a revision.
    pub(crate) fn revision(
        &mut self,
        kind: ReadingKind,
        meter: u32,
        end: Instant,
        class: RankClass,
        counter: u32,
        values: Values,
    ) {
        let usage_date = self.calendar.usage_day(end);
        let row = self.frame_row(Position(self.at + 1), meter, counter);
        let frame = self.record(|_| vec![Row::Frame(row)]);
        self.record(|position| {
            vec![Row::Revision(RevisionRow {
                position,
                frame,
                kind,
                meter: MeterId(meter),
                end,
                usage_date,
                deviation_min: Some(-330),
                clock_status: 0,
                quality: Quality::GOOD,
                rank: Rank { class, key_epoch: 1, counter, digest: digest(frame) },
                values,
            })]
        });
    }

    /// A charge of a day: its consumer line and one other.
    pub(crate) fn charge(&mut self, account: u32, day: CivilDay, paise: i64, kind: PostingKind) {
        self.record(|position| {
            let line = |line, head, amount| {
                Row::Posting(PostingRow {
                    position,
                    line,
                    booked_at: NOW.parse().unwrap(),
                    account: AccountId(account),
                    kind,
                    usage_date: day,
                    head,
                    amount: Paise(amount),
                    energy_wh: None,
                    tariff: None,
                    reference: None,
                })
            };
            vec![line(0, Head::Consumer, -paise), line(1, Head::Energy, paise)]
        });
    }

    pub(crate) fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        self.runtime.block_on(self.engine.query(sql))
    }

    /// The rows as CSV without the header.
    pub(crate) fn rows(&self, sql: &str) -> String {
        let answer = self.ask(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        let csv = format::text(&answer, Format::Csv).unwrap().replace("\r\n", "\n");
        csv.split_once('\n').map(|(_, rows)| rows.trim_end().to_owned()).unwrap_or_default()
    }
}

/// A civil time of 2026 in India, `2026-06-01T00:30`.
pub(crate) fn instant(text: &str) -> Instant {
    format!("{text}:00+05:30").parse().unwrap_or_else(|_| panic!("no time: {text}"))
}

fn digest(position: Position) -> Digest {
    Digest(u128::from(position.0).to_be_bytes())
}
