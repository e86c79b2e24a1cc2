//! A few meters as the fold would hand them over: records, and the rows made of them, group by group.

use std::collections::{HashMap, HashSet};

use model::reading::RankClass;
use model::row::{
    EventRow, FactRow, FrameRow, Head, PostingKind, PostingRow, QuarantineRow, ReadingRow, RevisionRow,
};
use model::{
    AcceptedFrame, AccountId, Calendar, Channel, Digest, EventWord, Fact, Instant, MeterId, Paise, Position,
    Quality, QuarantineReason, QuarantinedFrame, Rank, Reading, ReadingKind, Recharge, Record, RepeatedFrame,
    Resolution, Row, Source, SystemTitle, Values, Verdict,
};

/// Capture period of the meters, seconds.
pub(super) const PERIOD_S: u32 = 1800;

/// A journal group: its records and the rows of the fold.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) records: Vec<Record>,
    pub(super) rows: Vec<Row>,
    pub(super) upto: Position,
}

/// A market that goes on from a seed.
pub(super) struct Market {
    random: u64,
    position: u64,
    now: Instant,
    calendar: Calendar,
    meters: u32,
    known: HashSet<(MeterId, ReadingKind, Instant)>,
    words: HashMap<MeterId, EventWord>,
    counters: HashMap<MeterId, u32>,
    open: Vec<Contest>,
}

/// A contested reading without an answer.
struct Contest {
    frame: AcceptedFrame,
    position: Position,
    index: u16,
    first: bool,
}

impl Market {
    pub(super) fn new(seed: u64) -> Market {
        Market {
            random: seed.wrapping_mul(2).wrapping_add(1),
            position: 0,
            now: "2026-06-01T10:00:00+05:30".parse().unwrap(),
            calendar: Calendar::india(),
            meters: 7,
            known: HashSet::new(),
            words: HashMap::new(),
            counters: HashMap::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn groups(&mut self, count: usize) -> Vec<Group> {
        (0..count).map(|_| self.group()).collect()
    }

    pub(super) fn group(&mut self) -> Group {
        let mut group = Group { records: Vec::new(), rows: Vec::new(), upto: Position(0) };
        for _ in 0..1 + self.below(6) {
            self.record(&mut group);
        }
        group.upto = Position(self.position);
        group
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn signed(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).unwrap()
    }

    fn record(&mut self, group: &mut Group) {
        self.position += 1;
        self.now = Instant(self.now.0 + 1 + self.signed(600_000_000));
        match self.below(12) {
            0..5 => self.interval_frame(group),
            5 => self.daily_frame(group),
            6 => self.instant_frame(group),
            7 => self.event_frame(group),
            8 => self.repeated_frame(group),
            9 => self.quarantined_frame(group),
            10 => self.recharge(group),
            _ => self.resolution(group),
        }
    }

    fn meter(&mut self) -> MeterId {
        MeterId(1 + u32::try_from(self.below(u64::from(self.meters))).unwrap())
    }

    fn frame(&mut self, readings: Vec<Reading>) -> AcceptedFrame {
        let meter = self.meter();
        let counter = self.counters.entry(meter).or_default();
        *counter += 1;
        let counter = *counter;
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&self.position.to_le_bytes()).as_bytes()[..16]);
        AcceptedFrame {
            meter,
            source: Source::ALL[usize::try_from(self.below(4)).unwrap()],
            key_epoch: 1,
            counter: (self.below(5) > 0).then_some(counter),
            late: self.below(9) == 0,
            digest: Digest(digest),
            pushed_at: None,
            readings: readings.into(),
            event_word: None,
            raw: Vec::new().into(),
        }
    }

    fn interval_frame(&mut self, group: &mut Group) {
        let count = 1 + self.signed(4);
        let grid = self.now.0.div_euclid(1_800_000_000) - self.signed(96);
        let readings = (0..count).map(|slot| {
            let mut values: Values = [
                (Channel::ImportWh, self.signed(900)),
                (Channel::VoltageDv, 2200 + self.signed(200)),
                (Channel::CurrentMa, self.signed(20_000)),
            ]
            .into_iter()
            .collect();
            if self.below(4) == 0 {
                values.insert(Channel::PowerFactorRMilli, -self.signed(1000));
                values.insert(Channel::FrequencyMhz, 49_000 + self.signed(2000));
            }
            if self.below(6) == 0 {
                values.remove(Channel::ImportWh);
            }
            self.reading(ReadingKind::Interval, Instant((grid + slot) * 1_800_000_000), values)
        });
        let readings = readings.collect();
        self.readings_frame(group, readings);
    }

    fn daily_frame(&mut self, group: &mut Group) {
        let back = i32::try_from(self.below(5)).unwrap();
        let midnight = self.calendar.start_of(self.calendar.day_of(self.now).plus(-back));
        let values = [(Channel::ImportWh, self.signed(1 << 40)), (Channel::PowerOnMin, self.signed(1000))];
        let reading = self.reading(ReadingKind::Daily, midnight, values.into_iter().collect());
        self.readings_frame(group, vec![reading]);
    }

    fn instant_frame(&mut self, group: &mut Group) {
        let values = Channel::ALL.into_iter().map(|channel| (channel, self.signed(1 << 20) - 1000)).collect();
        let reading = self.reading(ReadingKind::Instant, self.now, values);
        self.readings_frame(group, vec![reading]);
    }

    fn reading(&mut self, kind: ReadingKind, end: Instant, values: Values) -> Reading {
        let quality = [Quality::GOOD, Quality::CLOCK_DOUBTFUL.with(Quality::FUTURE), Quality::TOO_LATE];
        Reading {
            kind,
            end,
            deviation_min: (self.below(3) > 0).then_some(-330),
            clock_status: if self.below(2) == 0 { 0xFF } else { 0 },
            quality: quality[usize::try_from(self.below(3)).unwrap()],
            values,
        }
    }

    /// A frame with readings: new ones are rows, others make the frame a row of `fact` and wait for an answer.
    fn readings_frame(&mut self, group: &mut Group, readings: Vec<Reading>) {
        let mut frame = self.frame(readings);
        let pretend_seen = self.below(10) == 0;
        let position = Position(self.position);
        let mut contested = false;
        let mut rows = vec![Row::Frame(frame_row(position, self.now, &frame, false))];
        for (index, reading) in (0_u16..).zip(&frame.readings) {
            let key = (frame.meter, reading.kind, reading.end);
            let seen = self.known.contains(&key);
            if seen || (pretend_seen && reading.kind != ReadingKind::Instant) {
                contested = true;
                self.open.push(Contest { frame: frame.clone(), position, index, first: !seen });
                self.known.insert(key);
            } else {
                self.known.insert(key);
                rows.push(self.reading_row(position, frame.meter, reading));
            }
        }
        if contested {
            frame.raw = vec![0xDB, 8, 1].into();
        }
        let fact = Fact::Frame(frame);
        if contested {
            rows.push(fact_row(position, self.now, &fact));
        }
        self.put(group, fact, rows);
    }

    fn reading_row(&self, position: Position, meter: MeterId, reading: &Reading) -> Row {
        let row = ReadingRow {
            position,
            meter,
            end: reading.end,
            usage_date: self.calendar.usage_day(reading.end),
            deviation_min: reading.deviation_min,
            clock_status: reading.clock_status,
            quality: reading.quality,
            values: reading.values.clone(),
        };
        match reading.kind {
            ReadingKind::Interval => Row::Interval(row),
            ReadingKind::Daily => Row::Daily(row),
            ReadingKind::Instant => Row::Instant(row),
        }
    }

    fn resolution(&mut self, group: &mut Group) {
        if self.open.is_empty() {
            return self.recharge(group);
        }
        let contest = self.open.remove(0);
        let reading = &contest.frame.readings[usize::from(contest.index)];
        let position = Position(self.position);
        let mut rows = Vec::new();
        let verdict = if contest.first {
            rows.push(self.reading_row(contest.position, contest.frame.meter, reading));
            Verdict::Absent
        } else {
            rows.push(Row::Revision(RevisionRow {
                position,
                frame: contest.position,
                kind: reading.kind,
                meter: contest.frame.meter,
                end: reading.end,
                usage_date: self.calendar.usage_day(reading.end),
                deviation_min: reading.deviation_min,
                clock_status: reading.clock_status,
                quality: reading.quality,
                rank: rank_of(&contest.frame),
                values: reading.values.clone(),
            }));
            Verdict::Revised {
                before: Values::new(),
                after: reading.values.clone(),
                demand_without_w: Some(5),
            }
        };
        let fact = Fact::Resolved(Resolution { contested: contest.position, index: contest.index, verdict });
        rows.push(fact_row(position, self.now, &fact));
        self.put(group, fact, rows);
    }

    fn event_frame(&mut self, group: &mut Group) {
        let mut frame = self.frame(Vec::new());
        let before = self.words.get(&frame.meter).copied().unwrap_or_default();
        let mut word = before;
        for _ in 0..1 + self.below(3) {
            let bit = self.below(128);
            word.0[usize::try_from(bit / 8).unwrap()] ^= 0x80 >> (bit % 8);
        }
        if word == before {
            word.0[3] ^= 1;
        }
        if !frame.late {
            self.words.insert(frame.meter, word);
        }
        let pushed_at = Instant(self.now.0 - 7_000_000);
        let is_fresh = !frame.late;
        frame.pushed_at = Some(pushed_at);
        frame.event_word = Some(word);
        if is_fresh {
            frame.raw = vec![0xDB, 8, 2].into();
        }
        let position = Position(self.position);
        let mut rows = vec![Row::Frame(frame_row(position, self.now, &frame, false))];
        rows.extend(word.changes(before).map(|(bit, occurred)| {
            Row::Event(EventRow {
                position,
                meter: frame.meter,
                at: pushed_at,
                received_at: self.now,
                bit,
                occurred,
                late: !is_fresh,
            })
        }));
        let fact = Fact::Frame(frame);
        if is_fresh {
            rows.push(fact_row(position, self.now, &fact));
        }
        self.put(group, fact, rows);
    }

    fn repeated_frame(&mut self, group: &mut Group) {
        let frame = AcceptedFrame { late: false, ..self.frame(Vec::new()) };
        let row = Row::Frame(frame_row(Position(self.position), self.now, &frame, true));
        let AcceptedFrame { meter, source, key_epoch, counter, digest, .. } = frame;
        let fact = Fact::Repeated(RepeatedFrame { meter, source, key_epoch, counter, digest });
        self.put(group, fact, vec![row]);
    }

    fn quarantined_frame(&mut self, group: &mut Group) {
        let raw: Vec<u8> = (0..self.below(40)).map(|_| u8::try_from(self.below(256)).unwrap()).collect();
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&raw).as_bytes()[..16]);
        let frame = QuarantinedFrame {
            source: Source::Mqtt,
            title: (self.below(2) == 0).then_some(SystemTitle(*b"GXM00001")),
            meter: (self.below(2) == 0).then_some(MeterId(3)),
            reason: QuarantineReason::ALL[usize::try_from(self.below(12)).unwrap()],
            detail: "tag at byte 12, \"quoted\" ऊर्जा".to_owned(),
            digest: Digest(digest),
            raw: raw.clone(),
        };
        let row = Row::Quarantine(QuarantineRow {
            position: Position(self.position),
            received_at: self.now,
            source: frame.source,
            title: frame.title,
            meter: frame.meter,
            reason: frame.reason,
            detail: frame.detail.clone(),
            raw,
        });
        self.put(group, Fact::Quarantined(frame), vec![row]);
    }

    fn recharge(&mut self, group: &mut Group) {
        let recharge = Recharge {
            account: AccountId(1 + u32::try_from(self.below(3)).unwrap()),
            amount: Paise(100 * (1 + self.signed(5000))),
            payment_id: format!("pay-{}", self.position),
        };
        let position = Position(self.position);
        let line = |line, head, amount, energy_wh| {
            Row::Posting(PostingRow {
                position,
                line,
                booked_at: self.now,
                account: recharge.account,
                kind: PostingKind::Recharge,
                usage_date: self.calendar.day_of(self.now),
                head,
                amount,
                energy_wh,
                tariff: (line == 1).then_some(Digest([0xAB; 16])),
                reference: Some(recharge.payment_id.clone()),
            })
        };
        let mut rows = vec![
            line(0, Head::Consumer, recharge.amount, Some(0)),
            line(1, Head::Cash, -recharge.amount, None),
        ];
        let fact = Fact::Recharge(recharge);
        rows.push(fact_row(position, self.now, &fact));
        self.put(group, fact, rows);
    }

    fn put(&self, group: &mut Group, fact: Fact, rows: Vec<Row>) {
        group.records.push(Record { position: Position(self.position), received_at: self.now, fact });
        group.rows.extend(rows);
    }
}

/// What decides over a value that this frame brought.
pub(super) fn rank_of(frame: &AcceptedFrame) -> Rank {
    Rank {
        class: RankClass::Push,
        key_epoch: frame.key_epoch,
        counter: frame.counter.unwrap_or(0),
        digest: frame.digest,
    }
}

fn frame_row(position: Position, received_at: Instant, frame: &AcceptedFrame, repeated: bool) -> FrameRow {
    FrameRow {
        position,
        received_at,
        source: frame.source,
        meter: frame.meter,
        key_epoch: frame.key_epoch,
        counter: frame.counter,
        digest: frame.digest,
        repeated,
        late: frame.late,
        bytes: 130,
    }
}

fn fact_row(position: Position, received_at: Instant, fact: &Fact) -> Row {
    let mut body = Vec::new();
    fact.encode(received_at, &mut body);
    Row::Fact(FactRow { position, received_at, kind: fact.name(), body })
}
