//! Replay: the same records give the same rows and the same bytes, through any number of checkpoints, and the rows of
//! the lake alone give the same balances and windows again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeMap;

use ledger::{Effects, Fold, FoldError, Limits};
use model::row::{Head, PostingKind};
use model::*;
use proptest::prelude::*;
use world::*;

/// Something that happens to a small utility.
#[derive(Clone, Debug)]
enum Step {
    Interval {
        meter: u32,
        back: i64,
        wh: i64,
    },
    Register {
        meter: u32,
        back: i32,
        wh: i64,
    },
    Several {
        meter: u32,
        back: i64,
        count: i64,
    },
    Ahead {
        meter: u32,
        by_min: i64,
    },
    OffGrid {
        meter: u32,
        back: i64,
    },
    Moment {
        meter: u32,
    },
    Word {
        meter: u32,
        byte: u8,
        late: bool,
    },
    Repeated,
    Quarantined,
    Stranger,
    Answer(usize),
    Recharge {
        account: u32,
        amount: i64,
        id: u8,
    },
    Close,
    HalfClose,
    Tariff(u8),
    Terms {
        account: u32,
        months: i32,
        days: i32,
    },
    Keys {
        meter: u32,
    },
    Policy(u8),
    /// The first notice that is due is sent, or one of another round.
    Told {
        is_due: bool,
    },
    Arrears {
        account: u32,
        amount: i64,
    },
    Reverse {
        id: u8,
    },
    Misdirected {
        account: u32,
        id: u8,
    },
    Hold {
        amount: i64,
        id: u8,
    },
    Assign {
        account: u32,
        id: u8,
    },
    Wait {
        minutes: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let meter = || 1_u32..4;
    prop_oneof![
        6 => (meter(), 0_i64..3_000, -5_i64..3_000).prop_map(|(meter, back, wh)| Step::Interval { meter, back, wh }),
        4 => (meter(), 0_i32..60, 0_i64..90_000).prop_map(|(meter, back, wh)| Step::Register { meter, back, wh }),
        2 => (meter(), 0_i64..200, 2_i64..6).prop_map(|(meter, back, count)| Step::Several { meter, back, count }),
        1 => (meter(), 0_i64..5_000).prop_map(|(meter, by_min)| Step::Ahead { meter, by_min }),
        1 => (meter(), 0_i64..100).prop_map(|(meter, back)| Step::OffGrid { meter, back }),
        1 => meter().prop_map(|meter| Step::Moment { meter }),
        2 => (meter(), any::<u8>(), any::<bool>()).prop_map(|(meter, byte, late)| Step::Word { meter, byte, late }),
        1 => Just(Step::Repeated),
        1 => Just(Step::Quarantined),
        1 => Just(Step::Stranger),
        5 => (0_usize..4).prop_map(Step::Answer),
        2 => (1_u32..5, -1_i64..90_000, 0_u8..6).prop_map(|(account, amount, id)| Step::Recharge { account, amount, id }),
        5 => Just(Step::Close),
        1 => Just(Step::HalfClose),
        1 => (0_u8..4).prop_map(Step::Tariff),
        1 => (1_u32..5, -2_i32..3, prop_oneof![Just(0), 0..40])
            .prop_map(|(account, months, days)| Step::Terms { account, months, days }),
        1 => meter().prop_map(|meter| Step::Keys { meter }),
        1 => (0_u8..3).prop_map(Step::Policy),
        2 => any::<bool>().prop_map(|is_due| Step::Told { is_due }),
        1 => (1_u32..4, -1_i64..3_000_000).prop_map(|(account, amount)| Step::Arrears { account, amount }),
        1 => (0_u8..6).prop_map(|id| Step::Reverse { id }),
        1 => (1_u32..5, 0_u8..6).prop_map(|(account, id)| Step::Misdirected { account, id }),
        1 => (1_i64..90_000, 0_u8..6).prop_map(|(amount, id)| Step::Hold { amount, id }),
        1 => (1_u32..5, 0_u8..6).prop_map(|(account, id)| Step::Assign { account, id }),
        4 => (1_i64..2_000).prop_map(|minutes| Step::Wait { minutes }),
    ]
}

fn played(steps: &[Step]) -> World {
    let mut world = World::with_account("2026-03-20T10:00:00");
    world.answers_at_once = false;
    assert!(world.account(2, "other", "2026-02-10", 500).is_success());
    world.meter(2, Some(2));
    // A meter of which the account comes later, and one without an account.
    world.meter(3, Some(3));
    world.meter(4, None);
    steps.iter().for_each(|step| play(&mut world, step));
    world
}

fn play(world: &mut World, step: &Step) {
    let calendar = Calendar::india();
    let now = world.now;
    let half_hours = |back: i64| Instant::from_seconds((now.seconds() / 1800 - back) * 1800);
    match step.clone() {
        Step::Interval { meter, back, wh } => {
            world.push(meter, vec![reading(ReadingKind::Interval, half_hours(back), values(wh))]);
        }
        Step::Register { meter, back, wh } => {
            let end = calendar.start_of(calendar.day_of(now).plus(-back));
            world.push(meter, vec![reading(ReadingKind::Daily, end, values(wh))]);
        }
        Step::Several { meter, back, count } => {
            let ends = (0..count).map(|more| half_hours(back + more));
            world.push(meter, ends.map(|end| reading(ReadingKind::Interval, end, values(7))).collect());
        }
        Step::Ahead { meter, by_min } => {
            let end = half_hours(0).plus_seconds(by_min / 30 * 1800);
            world.push(meter, vec![reading(ReadingKind::Interval, end, values(11))]);
        }
        Step::OffGrid { meter, back } => {
            let end = half_hours(back).plus_seconds(-61);
            world.push(meter, vec![reading(ReadingKind::Interval, end, values(13))]);
        }
        Step::Moment { meter } => {
            world.push(meter, vec![reading(ReadingKind::Instant, now, values(1))]);
        }
        Step::Word { meter, byte, late } => {
            let mut frame = world.frame(meter, vec![]);
            frame.event_word = Some(EventWord([byte; 16]));
            frame.late = late;
            frame.source = Source::Udp;
            world.apply(Fact::Frame(frame));
        }
        Step::Repeated => {
            let AcceptedFrame { meter, source, key_epoch, counter, digest, .. } = world.frame(1, vec![]);
            world.apply(Fact::Repeated(RepeatedFrame { meter, source, key_epoch, counter, digest }));
        }
        Step::Quarantined => {
            world.apply(Fact::Quarantined(QuarantinedFrame {
                source: Source::Mqtt,
                title: Some(SystemTitle(*b"XXX00001")),
                meter: None,
                reason: QuarantineReason::UnknownTitle,
                detail: "no such title".into(),
                digest: Digest([9; 16]),
                raw: vec![1, 2],
            }));
        }
        Step::Stranger => {
            world.push(77, vec![]);
        }
        Step::Answer(which) => {
            if which < world.waiting.len() {
                world.answer(which);
            }
        }
        Step::Recharge { account, amount, id } => {
            let recharge =
                Recharge { account: AccountId(account), amount: Paise(amount), payment_id: format!("p{id}") };
            world.apply(Fact::Recharge(recharge));
        }
        Step::Close => {
            let next = world.fold.next_close().to_string();
            world.close(&next);
        }
        Step::HalfClose => {
            let (day, Some(first)) = (world.fold.next_close(), world.fold.next_slice()) else { return };
            world.apply(Fact::DayClosed(DayClosed { day, first, last: first, complete: false }));
        }
        Step::Tariff(which) => {
            let version = match which {
                0 => flat("other", "2026-01-01", "4.10"),
                1 => flat("other", "2026-04-01", "4.70"),
                2 => flat("other", "2026-04-01", "4.80"),
                _ => TariffVersion {
                    name: "x".into(),
                    from: day("2026-04-01"),
                    digest: Digest([1; 16]),
                    body: "?".into(),
                },
            };
            world.apply(Fact::TariffVersion(version));
        }
        Step::Terms { account, months, days } => {
            let first = CivilMonth(world.fold.next_close().month().0 + months).first_day();
            let from = first.plus(days).to_string();
            let mut terms = world.account_terms(account, "other", &from, 0);
            terms.sanctioned_w = 2000;
            world.apply(Fact::AccountTerms(terms));
        }
        Step::Keys { meter } => {
            let mut terms = world.meter_terms(meter, Some(meter));
            terms.key_epoch = 2;
            world.apply(Fact::MeterTerms(terms));
        }
        Step::Policy(which) => {
            let from = ["2026-01-01", "2026-03-25", "2026-04-10"][usize::from(which)];
            let body = ledger::credit::builtin_policy().replacen("2026-01-01", from, 1);
            let digest = ledger::digest_of(&body);
            world.apply(Fact::CreditPolicy(CreditPolicyVersion { from: day(from), digest, body }));
        }
        Step::Told { is_due } => {
            let Some(notice) = world.fold.notices_due(AccountId(0), 1).pop() else { return };
            let round = if is_due { notice.round } else { notice.round.wrapping_add(1) };
            let sent = NoticeSent { account: notice.account, level: notice.level, round };
            world.apply(Fact::NoticeSent(sent));
        }
        Step::Arrears { account, amount } => {
            let outbox = world.outbox();
            let arrears = Arrears { outbox, account: AccountId(account), amount: Paise(amount) };
            world.apply(Fact::Arrears(arrears));
        }
        Step::Hold { amount, id } => {
            let (payment_id, amount) = (format!("p{id}"), Paise(amount));
            world.apply(Fact::SuspenseReceived(SuspenseReceived { payment_id, amount }));
        }
        Step::Assign { account, id } => {
            let (payment_id, account) = (format!("p{id}"), AccountId(account));
            world.apply(Fact::SuspenseAssigned(SuspenseAssigned { payment_id, account }));
        }
        Step::Reverse { id } => {
            let (payment_id, reason) = (format!("p{id}"), ReversalReason::Bounced);
            world.apply(Fact::PaymentReversed(PaymentReversed { payment_id, reason }));
        }
        Step::Misdirected { account, id } => {
            let (payment_id, account) = (format!("p{id}"), AccountId(account));
            world.apply(Fact::PaymentMisdirected(PaymentMisdirected { payment_id, account }));
        }
        Step::Wait { minutes } => world.now = now.plus_seconds(minutes * 60),
    }
}

fn fresh() -> Fold {
    Fold::new(Calendar::india(), Limits::default())
}

fn reloaded(fold: &Fold) -> Fold {
    Fold::from_sections(Calendar::india(), Limits::default(), &fold.sections()).unwrap()
}

/// Counts as the journal's groups would carry them, one group a record.
fn counts(record: &Record) -> [SourceCounts; 4] {
    let mut counts = [SourceCounts::default(); 4];
    if matches!(record.fact, Fact::Frame(_) | Fact::Repeated(_) | Fact::Quarantined(_)) {
        counts[source_of(&record.fact).index()].received = 1;
    }
    counts
}

fn fold_all(records: &[Record], each: impl Fn(Fold) -> Fold) -> (Fold, Effects) {
    let mut effects = Effects::default();
    let mut fold = fresh();
    for record in records {
        fold.begin_group(&counts(record));
        fold.apply(record, &mut effects).unwrap();
        fold = each(fold);
    }
    (fold, effects)
}

/// The records of a lake: facts as they stand, frames from their own row and their readings'.
fn rebuilt(rows: &[Row], upto: Position) -> Vec<Record> {
    let mut by_position: BTreeMap<Position, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_position.entry(row.position()).or_default().push(row));
    (1..=upto.0).map(Position).map(|position| record_of(position, &by_position[&position])).collect()
}

fn record_of(position: Position, rows: &[&Row]) -> Record {
    let fact = rows.iter().find_map(|row| match row {
        Row::Fact(fact) => Some(Record::decode(position, &fact.body).unwrap()),
        _ => None,
    });
    fact.unwrap_or_else(|| frame_of(position, rows))
}

fn frame_of(position: Position, rows: &[&Row]) -> Record {
    let of = |kind, row: &model::row::ReadingRow| Reading {
        kind,
        end: row.end,
        deviation_min: row.deviation_min,
        clock_status: row.clock_status,
        quality: row.quality,
        values: row.values.clone(),
    };
    let readings = rows.iter().filter_map(|row| match row {
        Row::Interval(row) => Some(of(ReadingKind::Interval, row)),
        Row::Daily(row) => Some(of(ReadingKind::Daily, row)),
        Row::Instant(row) => Some(of(ReadingKind::Instant, row)),
        _ => None,
    });
    let readings: Vec<Reading> = readings.collect();
    let record = rows.iter().find_map(|row| match row {
        Row::Frame(row) if row.repeated => Some((
            row.received_at,
            Fact::Repeated(RepeatedFrame {
                meter: row.meter,
                source: row.source,
                key_epoch: row.key_epoch,
                counter: row.counter,
                digest: row.digest,
            }),
        )),
        Row::Frame(row) => Some((
            row.received_at,
            Fact::Frame(AcceptedFrame {
                meter: row.meter,
                source: row.source,
                key_epoch: row.key_epoch,
                counter: row.counter,
                late: row.late,
                digest: row.digest,
                pushed_at: None,
                readings: readings.clone().into(),
                event_word: None,
                raw: vec![].into(),
            }),
        )),
        Row::Quarantine(row) => Some((
            row.received_at,
            Fact::Quarantined(QuarantinedFrame {
                source: row.source,
                title: row.title,
                meter: row.meter,
                reason: row.reason,
                detail: row.detail.clone(),
                digest: Digest::default(),
                raw: row.raw.clone(),
            }),
        )),
        _ => None,
    });
    let (received_at, fact) = record.expect("every record has a row");
    Record { position, received_at, fact }
}

/// Steps of money alone, over few payments and accounts, so that they meet.
fn money_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u32..4, 1_i64..90_000, 0_u8..9)
            .prop_map(|(account, amount, id)| Step::Recharge { account, amount, id }),
        1 => (0_u8..9).prop_map(|id| Step::Reverse { id }),
        3 => (1_u32..4, 0_u8..9).prop_map(|(account, id)| Step::Misdirected { account, id }),
        2 => (1_i64..90_000, 0_u8..9).prop_map(|(amount, id)| Step::Hold { amount, id }),
        3 => (1_u32..4, 0_u8..9).prop_map(|(account, id)| Step::Assign { account, id }),
        1 => (1_u32..4, 1_i64..900_000).prop_map(|(account, amount)| Step::Arrears { account, amount }),
        1 => Just(Step::Policy(0)),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_records_give_the_same_rows_and_bytes(steps in proptest::collection::vec(step(), 1..150)) {
        let world = played(&steps);
        let (fold, effects) = fold_all(&world.records, |fold| fold);
        prop_assert_eq!(fold.sections(), world.fold.sections());
        prop_assert_eq!(effects.rows, world.rows);
    }

    #[test]
    fn a_checkpoint_at_every_position_changes_nothing(steps in proptest::collection::vec(step(), 1..100)) {
        let world = played(&steps);
        let (fold, effects) = fold_all(&world.records, |fold| {
            let other = reloaded(&fold);
            assert_eq!(other.sections(), fold.sections());
            assert_eq!(other.accounts().collect::<Vec<_>>(), fold.accounts().collect::<Vec<_>>());
            assert_eq!(other.meters().collect::<Vec<_>>(), fold.meters().collect::<Vec<_>>());
            assert_eq!(other.gaps(100), fold.gaps(100));
            assert_eq!(other.open_contested(), fold.open_contested());
            other
        });
        prop_assert_eq!(fold.sections(), world.fold.sections());
        prop_assert_eq!(effects.rows, world.rows);
    }

    #[test]
    fn every_rupee_is_at_an_account_in_suspense_or_back_where_it_came_from(
        steps in proptest::collection::vec(money_step(), 1..120),
    ) {
        let world = played(&steps);
        let postings = || world.rows.iter().filter_map(|row| match row { Row::Posting(row) => Some(row), _ => None });
        let head = |head: Head| postings().filter(|row| row.head == head).map(|row| row.amount.0).sum::<i64>();
        let payments: Vec<&ledger::Payment> = world.fold.payments().collect();
        let sum = |of: &dyn Fn(&ledger::Payment) -> bool| -> i64 {
            payments.iter().filter(|payment| of(payment)).map(|payment| payment.amount.0).sum()
        };
        prop_assert_eq!(head(Head::Suspense), sum(&|payment| payment.is_in_suspense()));
        prop_assert_eq!(-head(Head::Cash), sum(&|payment| payment.reversed.is_none()));
        for view in world.fold.accounts() {
            let stands: Vec<&&ledger::Payment> = payments
                .iter()
                .filter(|payment| payment.account == view.account && payment.reversed.is_none())
                .collect();
            let credited: i64 = stands.iter().map(|payment| payment.amount.0 - payment.share.0).sum();
            let is_money = |kind| matches!(kind, PostingKind::Recharge | PostingKind::Reversal);
            let booked: i64 = postings()
                .filter(|row| row.account == view.account && row.head == Head::Consumer && is_money(row.kind))
                .map(|row| row.amount.0)
                .sum();
            prop_assert_eq!(booked, credited);
            let taken_over: i64 = postings()
                .filter(|row| row.account == view.account && row.kind == PostingKind::Arrears)
                .filter(|row| row.head == Head::Migration)
                .map(|row| row.amount.0)
                .sum();
            let paid_off: i64 = stands.iter().map(|payment| payment.share.0).sum();
            prop_assert_eq!(view.arrears.0, taken_over - paid_off);
            let newest = stands.iter().max_by_key(|payment| payment.moved.unwrap_or(payment.position));
            prop_assert_eq!(view.last_recharge.map(|(amount, _)| amount), newest.map(|payment| payment.amount));
        }
    }

    #[test]
    fn the_rows_of_the_lake_alone_give_the_same_state(steps in proptest::collection::vec(step(), 1..150)) {
        let world = played(&steps);
        let records = rebuilt(&world.rows, world.fold.position());
        let (fold, effects) = fold_all(&records, |fold| fold);
        prop_assert_eq!(fold.sections(), world.fold.sections());
        let postings = |rows: &[Row]| rows.iter().filter(|row| matches!(row, Row::Posting(_))).cloned().collect::<Vec<_>>();
        prop_assert_eq!(postings(&effects.rows), postings(&world.rows));
    }
}

#[test]
fn records_are_folded_in_order_and_once() {
    let mut fold = fresh();
    let record = |position| Record {
        position: Position(position),
        received_at: Instant(0),
        fact: Fact::Recharge(Recharge { account: AccountId(1), amount: Paise(1), payment_id: "p".into() }),
    };
    let mut effects = Effects::default();
    let refused = fold.apply(&record(2), &mut effects);
    assert_eq!(refused, Err(FoldError::OutOfOrder { last: Position(0), found: Position(2) }));
    assert_eq!(effects, Effects::default());
    fold.apply(&record(1), &mut effects).unwrap();
    assert!(fold.apply(&record(1), &mut effects).is_err());
    assert_eq!(fold.position(), Position(1));
}

#[test]
fn records_of_accounts_and_meters_have_their_written_size() {
    let world = played(&[]);
    let size = |name: &str| {
        let section = world.fold.sections().into_iter().find(|section| section.name == name).unwrap();
        (section.record_size, section.bytes.len())
    };
    assert_eq!(size("account"), (144, 2 * 144));
    assert_eq!(size("meter"), (96, 4 * 96));
}

#[test]
fn parts_of_a_closed_month_of_the_open_one_and_of_days_to_come_are_in_a_checkpoint() {
    let mut world = World::with_account("2026-03-20T10:00:00");
    let change = |world: &mut World, from: &str, sanctioned_w: u32| {
        let mut terms = world.account_terms(1, "lmv1-urban", from, 0);
        terms.sanctioned_w = sanctioned_w;
        assert!(world.apply(Fact::AccountTerms(terms)).is_success());
    };
    change(&mut world, "2026-03-25", 2000);
    world.until("2026-03-22T21:00:00").push(1, vec![interval("2026-03-22T20:00:00", 900)]);
    world.close_until("2026-04-02");
    change(&mut world, "2026-04-05", 3000);
    change(&mut world, "2026-04-08", 5000);
    world.close_until("2026-04-05");
    world.until("2026-04-08T12:00:00").push(1, vec![interval("2026-04-08T11:00:00", 1_100)]);

    let sections = world.fold.sections();
    let of = |name: &str| sections.iter().find(|section| section.name == name).unwrap().bytes.clone();
    let demand = |bytes: &[u8]| i64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let (ended, later) = (of("ended_terms"), of("terms"));
    assert_eq!(ended.chunks(24).map(demand).collect::<Vec<_>>(), [1_800, 0]);
    assert_eq!(later.chunks(24).map(demand).collect::<Vec<_>>(), [2_200]);
    let mut again = reloaded(&world.fold);
    assert_eq!(again.sections(), sections);

    let records = world.records.len();
    world.close_until("2026-05-02");
    for record in &world.records[records..] {
        again.apply(record, &mut Effects::default()).unwrap();
    }
    assert_eq!(again.sections(), world.fold.sections());
}

#[test]
fn a_checkpoint_that_is_none_is_refused_by_name() {
    let steps = [
        Step::Policy(0),
        Step::Arrears { account: 1, amount: 500 },
        Step::Several { meter: 1, back: 100, count: 4 },
        Step::Close,
    ];
    let good = played(&steps).fold.sections();
    let load = |sections: &[Section]| {
        Fold::from_sections(Calendar::india(), Limits::default(), sections).unwrap_err()
    };
    for index in 0..good.len() {
        let mut without = good.clone();
        let name = without.remove(index).name;
        assert!(matches!(load(&without), FoldError::MissingSection(missing) if missing == name));

        let mut newer = good.clone();
        newer[index].version = u16::MAX;
        assert!(
            matches!(load(&newer), FoldError::UnknownLayout { section, version: u16::MAX, .. } if section == name)
        );

        let mut cut = good.clone();
        if cut[index].bytes.pop().is_some() {
            assert!(matches!(load(&cut), FoldError::Malformed { section, .. } if section == name), "{name}");
        }
    }
    let mut strange = good.clone();
    strange.push(Section { name: "strange".into(), version: 1, record_size: 1, bytes: vec![] });
    assert_eq!(load(&strange), FoldError::UnknownSection("strange".into()));
}
