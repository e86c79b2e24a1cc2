//! A small world around the fold: it numbers records, keeps what the lake would keep, and answers contested readings
//! from it. After every record it checks what must always hold.
#![allow(dead_code, reason = "each test target uses its part")]

use std::collections::{BTreeMap, HashMap};

use ledger::{Contested, Effects, Fold, Limits, Outcome};
use model::reading::RankClass;
use model::row::{Head, PostingRow};
use model::*;

/// 15, 30 minutes or whatever a test asks for.
pub(crate) const PERIOD_S: u32 = 1800;

pub(crate) fn day(text: &str) -> CivilDay {
    text.parse().unwrap()
}

pub(crate) fn month(text: &str) -> CivilMonth {
    day(&format!("{text}-01")).month()
}

pub(crate) fn at(text: &str) -> Instant {
    format!("{text}+05:30").parse().unwrap()
}

pub(crate) fn values(import_wh: i64) -> Values {
    [(Channel::ImportWh, import_wh)].into_iter().collect()
}

pub(crate) fn reading(kind: ReadingKind, end: Instant, values: Values) -> Reading {
    Reading { kind, end, deviation_min: None, clock_status: 0, quality: Quality::GOOD, values }
}

pub(crate) fn interval(end: &str, wh: i64) -> Reading {
    reading(ReadingKind::Interval, at(end), values(wh))
}

/// The register at the end of a day.
pub(crate) fn register(of: &str, wh: i64) -> Reading {
    reading(ReadingKind::Daily, Calendar::india().end_of(day(of)), values(wh))
}

pub(crate) fn tariff_version(body: &str) -> TariffVersion {
    let tariff = ledger::Tariff::parse(body).unwrap_or_else(|error| panic!("{error}"));
    TariffVersion {
        name: tariff.name,
        from: tariff.from,
        digest: ledger::digest_of(body),
        body: body.to_owned(),
    }
}

/// Flat 5.50 a kWh from the first of a month on, otherwise as the urban tariff.
pub(crate) fn flat(name: &str, from: &str, rate: &str) -> TariffVersion {
    tariff_version(&format!(
        "name = \"{name}\"\ntitle = \"Flat\"\nfrom = \"{from}\"\nfixed_per_kw = \"110\"\ndemand_floor = \"75 %\"\n\
         demand_excess = \"1\"\nduty = \"5 %\"\nrebate = \"2 %\"\n[[slab]]\ngross = \"{rate}\"\nsubsidy = \"0\"\n"
    ))
}

pub(crate) fn builtin(name: &str) -> TariffVersion {
    let (_, body) = ledger::builtin_tariffs().iter().find(|(known, _)| *known == name).unwrap();
    tariff_version(body)
}

/// All values of a key, with what decides between them.
pub(crate) type Versions = Vec<(Rank, Values)>;

/// What is in force: each channel by the highest rank that has it.
pub(crate) fn in_force(versions: &[(Rank, Values)]) -> Values {
    let mut rising = versions.to_vec();
    rising.sort_by_key(|(rank, _)| *rank);
    rising.iter().flat_map(|(_, values)| values.iter().collect::<Vec<_>>()).collect()
}

/// Whether a channel's value says nothing new: it is in force, and its rank is no higher than the one it has.
fn is_repeated(versions: &[(Rank, Values)], rank: Rank, channel: Channel, value: i64) -> bool {
    let of_channel = || versions.iter().filter_map(|(rank, values)| Some((*rank, values.get(channel)?)));
    let Some((highest, winner)) = of_channel().max() else { return false };
    winner == value && highest >= rank
}

pub(crate) struct World {
    pub(crate) fold: Fold,
    pub(crate) records: Vec<Record>,
    pub(crate) rows: Vec<Row>,
    pub(crate) keys: BTreeMap<(MeterId, ReadingKind, Instant), Versions>,
    pub(crate) waiting: Vec<Contested>,
    pub(crate) now: Instant,
    /// Answer contested readings as soon as they are handed out.
    pub(crate) answers_at_once: bool,
    /// Whether only [`World::answer`] answers, so that keys must come out right.
    pub(crate) answers_are_true: bool,
    ranks: HashMap<Position, Rank>,
    next_counter: u32,
    next_outbox: u64,
}

impl World {
    pub(crate) fn new(now: &str) -> World {
        World::with_limits(now, Limits::default())
    }

    pub(crate) fn with_limits(now: &str, limits: Limits) -> World {
        World {
            fold: Fold::new(Calendar::india(), limits),
            records: Vec::new(),
            rows: Vec::new(),
            keys: BTreeMap::new(),
            waiting: Vec::new(),
            now: at(now),
            answers_at_once: true,
            answers_are_true: true,
            ranks: HashMap::new(),
            next_counter: 0,
            next_outbox: 0,
        }
    }

    /// One account with one meter under the built-in urban tariff, from the day of `now` on.
    pub(crate) fn with_account(now: &str) -> World {
        let mut world = World::new(now);
        assert_eq!(world.apply(Fact::TariffVersion(builtin("lmv1-urban"))), Outcome::TariffApplied);
        let from = now.get(..10).unwrap();
        assert_eq!(world.account(1, "lmv1-urban", from, 0), Outcome::TermsApplied);
        assert_eq!(world.meter(1, Some(1)), Outcome::TermsApplied);
        world
    }

    pub(crate) fn until(&mut self, now: &str) -> &mut World {
        self.now = at(now);
        self
    }

    pub(crate) fn apply(&mut self, fact: Fact) -> Outcome {
        let record = Record { position: self.fold.position().next(), received_at: self.now, fact };
        let mut effects = Effects::default();
        if matches!(record.fact, Fact::Frame(_) | Fact::Repeated(_) | Fact::Quarantined(_)) {
            let mut counts = [SourceCounts::default(); 4];
            counts[source_of(&record.fact).index()].received = 1;
            self.fold.begin_group(&counts);
        }
        self.fold.apply(&record, &mut effects).unwrap();
        self.records.push(record);
        self.check(&effects);
        let Effects { rows, contested, outcome } = effects;
        rows.iter().for_each(|row| self.absorb(row));
        self.rows.extend(rows);
        self.waiting.extend(contested);
        if self.answers_at_once {
            while !self.waiting.is_empty() {
                self.answer(0);
            }
        }
        outcome.unwrap()
    }

    /// Looks a waiting reading up and appends the answer.
    pub(crate) fn answer(&mut self, index: usize) {
        let contested = self.waiting.remove(index);
        let resolution = self.look_up(&contested);
        self.apply(Fact::Resolved(resolution));
    }

    pub(crate) fn look_up(&self, contested: &Contested) -> Resolution {
        let Contested { position, index, meter, rank, ref reading, demand_after, demand_upto } = *contested;
        let versions = self.keys.get(&(meter, reading.kind, reading.end)).cloned().unwrap_or_default();
        let verdict = if versions.is_empty() {
            Verdict::Absent
        } else if reading.values.iter().all(|(channel, value)| is_repeated(&versions, rank, channel, value)) {
            Verdict::Repeated
        } else {
            let before = in_force(&versions);
            let after = in_force(&[versions, vec![(rank, reading.values.clone())]].concat());
            let demand = self.demand_w(meter, demand_after, demand_upto, reading.end);
            Verdict::Revised { before, after, demand_without_w: demand }
        };
        Resolution { contested: position, index, verdict }
    }

    fn demand_w(&self, meter: MeterId, after: Instant, upto: Instant, without: Instant) -> Option<i64> {
        let period_s = i64::from(self.fold.meter(meter).unwrap().period_s);
        self.keys
            .iter()
            .filter(|((of, kind, end), _)| {
                *of == meter
                    && *kind == ReadingKind::Interval
                    && *end > after
                    && *end <= upto
                    && *end != without
            })
            .filter_map(|(_, versions)| in_force(versions).get(Channel::ImportWh))
            .map(|wh| wh * 3600 / period_s)
            .max()
    }

    pub(crate) fn account(&mut self, id: u32, tariff: &str, from: &str, opening_wh: i64) -> Outcome {
        let terms = self.account_terms(id, tariff, from, opening_wh);
        self.apply(Fact::AccountTerms(terms))
    }

    pub(crate) fn account_terms(
        &mut self,
        id: u32,
        tariff: &str,
        from: &str,
        opening_wh: i64,
    ) -> AccountTerms {
        AccountTerms {
            outbox: self.outbox(),
            account: AccountId(id),
            connection: ConnectionType::Prepaid,
            tariff: tariff.to_owned(),
            sanctioned_w: 4000,
            from: day(from),
            opening_register_wh: opening_wh,
            opening_balance: Paise(0),
        }
    }

    pub(crate) fn meter(&mut self, id: u32, account: Option<u32>) -> Outcome {
        let terms = self.meter_terms(id, account);
        self.apply(Fact::MeterTerms(terms))
    }

    pub(crate) fn meter_terms(&mut self, id: u32, account: Option<u32>) -> MeterTerms {
        MeterTerms {
            outbox: self.outbox(),
            meter: MeterId(id),
            title: SystemTitle(u64::from(id).to_be_bytes()),
            account: account.map(AccountId),
            profile: "is15959-d1".into(),
            period_s: PERIOD_S,
            authenticated: true,
            key_epoch: 1,
        }
    }

    pub(crate) fn outbox(&mut self) -> OutboxId {
        self.next_outbox += 1;
        OutboxId(self.next_outbox)
    }

    /// A frame with the next counter.
    pub(crate) fn frame(&mut self, meter: u32, readings: Vec<Reading>) -> AcceptedFrame {
        self.next_counter += 1;
        frame(meter, self.next_counter, readings)
    }

    pub(crate) fn push(&mut self, meter: u32, readings: Vec<Reading>) -> Outcome {
        let frame = self.frame(meter, readings);
        self.apply(Fact::Frame(frame))
    }

    /// Closes a day at 06:00 of the next for all accounts.
    pub(crate) fn close(&mut self, text: &str) -> Outcome {
        let closed = day(text);
        let moment = Calendar::india().at(closed.next(), 6, 0);
        self.now = self.now.max(moment);
        let (first, last) = self.fold.account_range().unwrap();
        self.apply(Fact::DayClosed(DayClosed { day: closed, first, last, complete: true }))
    }

    pub(crate) fn close_until(&mut self, last: &str) {
        while self.fold.next_close() <= day(last) {
            let next = self.fold.next_close().to_string();
            assert!(self.close(&next).is_success());
        }
    }

    pub(crate) fn postings(&self) -> impl Iterator<Item = &PostingRow> {
        self.rows.iter().filter_map(|row| match row {
            Row::Posting(posting) => Some(posting),
            _ => None,
        })
    }

    /// Amounts by head that were charged for a month, whichever entries they came in.
    pub(crate) fn charged(&self, account: u32, month: CivilMonth) -> BTreeMap<Head, i64> {
        let mut sums = BTreeMap::new();
        let lines = self.postings().filter(|line| line.account == AccountId(account));
        for line in
            lines.filter(|line| line.usage_date.month() == month && Head::CHARGED.contains(&line.head))
        {
            *sums.entry(line.head).or_default() += line.amount.0;
        }
        sums.retain(|_, amount| *amount != 0);
        sums
    }

    pub(crate) fn charged_wh(&self, account: u32, month: CivilMonth) -> i64 {
        let lines = self.postings().filter(|line| line.account == AccountId(account));
        lines.filter(|line| line.usage_date.month() == month).filter_map(|line| line.energy_wh).sum()
    }

    pub(crate) fn view(&self, account: u32) -> model::view::AccountView {
        self.fold.account(AccountId(account)).unwrap()
    }

    fn absorb(&mut self, row: &Row) {
        match row {
            Row::Frame(row) => {
                let rank = Rank {
                    class: RankClass::Push,
                    key_epoch: row.key_epoch,
                    counter: row.counter.unwrap_or(0),
                    digest: row.digest,
                };
                self.ranks.insert(row.position, rank);
            }
            Row::Interval(row) => self.first(ReadingKind::Interval, row),
            Row::Daily(row) => self.first(ReadingKind::Daily, row),
            Row::Revision(row) => {
                let versions = self.keys.entry((row.meter, row.kind, row.end)).or_default();
                assert!(!versions.is_empty() || !self.answers_are_true, "a revision has a first value");
                versions.push((row.rank, row.values.clone()));
            }
            _ => {}
        }
    }

    fn first(&mut self, kind: ReadingKind, row: &model::row::ReadingRow) {
        let rank = self.ranks[&row.position];
        let before = self.keys.insert((row.meter, kind, row.end), vec![(rank, row.values.clone())]);
        assert!(before.is_none() || !self.answers_are_true, "a key has one first value: {row:?}");
    }

    /// What must hold after every record.
    fn check(&self, effects: &Effects) {
        assert_eq!(self.fold.standing().trial_balance, Paise::ZERO);
        let mut sums: BTreeMap<AccountId, i64> = BTreeMap::new();
        for row in &effects.rows {
            if let Row::Posting(line) = row {
                assert_eq!(line.position, self.fold.position());
                *sums.entry(line.account).or_default() += line.amount.0;
            }
        }
        assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
        for tally in self.fold.tallies() {
            let sum = tally.stored + tally.repeated + tally.quarantined + tally.refused + tally.contested;
            assert_eq!(tally.received, sum, "{tally:?}");
        }
    }
}

pub(crate) fn frame(meter: u32, counter: u32, readings: Vec<Reading>) -> AcceptedFrame {
    let mut digest = [0; 16];
    digest[..4].copy_from_slice(&counter.to_be_bytes());
    digest[4..8].copy_from_slice(&meter.to_be_bytes());
    AcceptedFrame {
        meter: MeterId(meter),
        source: Source::Tcp,
        key_epoch: 1,
        counter: Some(counter),
        late: false,
        digest: Digest(digest),
        pushed_at: None,
        readings: readings.into(),
        event_word: None,
        raw: vec![1, 2, 3].into(),
    }
}

pub(crate) fn source_of(fact: &Fact) -> Source {
    match fact {
        Fact::Frame(frame) => frame.source,
        Fact::Repeated(frame) => frame.source,
        Fact::Quarantined(frame) => frame.source,
        _ => Source::Tcp,
    }
}
