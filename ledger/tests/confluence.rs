//! Confluence: whatever the order and repetition in which the same readings come, the same rows are in force and the
//! same sums are charged per account, month and head; and they are those of a slow model that knows nothing of the
//! fold but the definition.
//!
//! What is varied: when each value of each reading arrives (up to 44 days late), how often, which rank it has, which
//! registers are missing (ends of months among them), which intervals, when the contested readings are looked up and
//! when their answers arrive, in which slices days are closed. What is not: registers rise, in every combination of
//! their values (one that goes back is held until it is resolved, so its effect depends on when it came), and nothing
//! comes from the future.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeMap;

use model::row::Head;
use model::*;
use proptest::prelude::*;
use world::*;

/// Intervals of six hours keep the cases small.
const PERIOD_S: u32 = 21_600;
const FIRST: &str = "2026-03-16";
const DAYS: i32 = 32;
const LATE_DAYS: i64 = 44;

/// One value of one reading, as a meter sent it.
#[derive(Clone, Debug)]
struct Sent {
    account: u32,
    kind: ReadingKind,
    end: Instant,
    values: Values,
    /// Unique for each value; the higher is in force.
    counter: u32,
}

/// When a value arrives.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    sent: usize,
    at: Instant,
}

/// What a schedule decides besides arrivals.
#[derive(Clone, Debug)]
struct Course {
    arrivals: Vec<Arrival>,
    /// For each record: whether a look-up is made now, whether an answer is appended now, and which.
    moves: Vec<(bool, bool, usize)>,
    splits: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Case {
    sent: Vec<Sent>,
    courses: [Course; 2],
}

fn slots() -> Vec<(u32, i32, i32)> {
    let of_account =
        |account| (0..DAYS).flat_map(move |day| (0..4).map(move |quarter| (account, day, quarter)));
    (1..=2).flat_map(of_account).collect()
}

/// Values of one interval: mostly one, sometimes two, sometimes one of them under two ranks, sometimes without energy
/// in one of them, sometimes off the grid.
fn interval_values() -> impl Strategy<Value = (Vec<Values>, bool)> {
    let one = (1_i64..3_000).prop_map(values);
    let voltage =
        (2_000_i64..2_500).prop_map(|dv| [(Channel::VoltageDv, dv)].into_iter().collect::<Values>());
    let several = prop_oneof![
        1 => Just(vec![]),
        6 => one.clone().prop_map(|value| vec![value]),
        1 => (one.clone(), one.clone()).prop_map(|(first, second)| vec![first, second]),
        1 => (one.clone(), voltage).prop_map(|(first, second)| vec![second, first]),
        1 => (one.clone(), one.clone()).prop_map(|(first, second)| vec![first.clone(), second, first]),
        1 => (one.clone(), one.clone(), one).prop_map(|(first, second, third)| vec![first, second, third]),
    ];
    (several, prop_oneof![20 => Just(false), 1 => Just(true)])
}

/// Values of one daily register, as steps below the highest of them; none where it is missing.
fn register_values() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        4 => Just(vec![]),
        5 => Just(vec![0]),
        1 => (1_i64..400).prop_map(|below| vec![0, below]),
        1 => (1_i64..400).prop_map(|below| vec![0, below, 0]),
    ]
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let intervals = proptest::collection::vec(interval_values(), slots().len());
    let registers = proptest::collection::vec((400_i64..9_000, register_values()), 2 * DAYS as usize);
    let ranks = Just((1..2_000).collect::<Vec<u32>>()).prop_shuffle();
    (intervals, registers, ranks).prop_map(|(intervals, registers, ranks)| {
        let mut sent = Vec::new();
        for ((account, offset, quarter), (several, off_grid)) in slots().into_iter().zip(intervals) {
            let end = Calendar::india()
                .start_of(day(FIRST).plus(offset))
                .plus_seconds(i64::from(quarter + 1) * 21_600);
            let end = if off_grid { end.plus_seconds(-420) } else { end };
            sent.extend(several.into_iter().map(|values| (account, ReadingKind::Interval, end, values)));
        }
        for account in 1..=2 {
            let mut register = 1_000_000;
            for (offset, (used, below)) in (0..DAYS).zip(&registers[(account as usize - 1) * DAYS as usize..])
            {
                register += used;
                let end = Calendar::india().end_of(day(FIRST).plus(offset));
                let values = below.iter().map(|below| values(register - below));
                sent.extend(values.map(|values| (account, ReadingKind::Daily, end, values)));
            }
        }
        let ranked = sent.into_iter().zip(ranks);
        ranked
            .map(|((account, kind, end, values), counter)| Sent { account, kind, end, values, counter })
            .collect::<Vec<_>>()
    })
}

fn course(sent: &[Sent]) -> impl Strategy<Value = Course> + use<> {
    let ends: Vec<Instant> = sent.iter().map(|sent| sent.end).collect();
    let delay = prop_oneof![3 => 60_i64..7_200, 1 => 60..LATE_DAYS * 86_400];
    let delays =
        proptest::collection::vec((delay.clone(), proptest::option::weighted(0.15, delay)), ends.len());
    let moves = proptest::collection::vec((any::<bool>(), proptest::bool::weighted(0.6), 0_usize..4), 500);
    let splits = proptest::collection::vec(any::<bool>(), 40);
    (delays, moves, splits).prop_map(move |(delays, moves, splits)| {
        let mut arrivals = Vec::new();
        for (sent, (end, (first, again))) in ends.iter().zip(delays).enumerate() {
            arrivals.push(Arrival { sent, at: end.plus_seconds(first) });
            arrivals.extend(again.map(|again| Arrival { sent, at: end.plus_seconds(first.max(again)) }));
        }
        arrivals.sort_by_key(|arrival| arrival.at);
        Course { arrivals, moves, splits }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    sent().prop_flat_map(|sent| {
        let courses = [course(&sent), course(&sent)];
        (Just(sent), courses).prop_map(|(sent, courses)| Case { sent, courses })
    })
}

/// Terms of the two accounts: account, tariff, first day, sanctioned load. The first account begins inside of a month,
/// changes its load with a month and again inside of it; the second changes load and tariff inside of both months.
const TERMS: [(u32, &str, &str, u32); 6] = [
    (1, "lmv1-urban", "2026-03-19", 400),
    (2, "other", FIRST, 400),
    (1, "lmv1-urban", "2026-04-01", 300),
    (1, "lmv1-urban", "2026-04-09", 500),
    (2, "other", "2026-03-24", 350),
    (2, "lmv1-urban", "2026-04-06", 350),
];

fn begin() -> World {
    let mut world = World::new(&format!("{FIRST}T00:00:00"));
    world.apply(Fact::TariffVersion(builtin("lmv1-urban")));
    world.apply(Fact::TariffVersion(flat("other", "2026-01-01", "4.10")));
    world.apply(Fact::TariffVersion(flat("other", "2026-04-01", "4.70")));
    for (account, tariff, from, sanctioned_w) in TERMS {
        let is_first = world.fold.account(AccountId(account)).is_none();
        let opening_wh = if is_first { 1_000_000 } else { 0 };
        let mut terms = world.account_terms(account, tariff, from, opening_wh);
        terms.sanctioned_w = sanctioned_w;
        assert!(world.apply(Fact::AccountTerms(terms)).is_success());
        let mut meter = world.meter_terms(account, Some(account));
        meter.period_s = PERIOD_S;
        assert!(world.apply(Fact::MeterTerms(meter)).is_success());
    }
    world.answers_at_once = false;
    world
}

/// The last day that is closed: every value has arrived and was corrected by then.
fn last_day() -> CivilDay {
    day(FIRST).plus(DAYS + LATE_DAYS as i32 + 1)
}

struct Player<'a> {
    world: World,
    course: &'a Course,
    step: usize,
    /// Answers looked up and not yet appended.
    answers: Vec<Resolution>,
}

impl Player<'_> {
    fn play(mut self, sent: &[Sent]) -> World {
        for arrival in self.course.arrivals.clone() {
            self.close_days_before(arrival.at);
            self.world.now = self.world.now.max(arrival.at);
            let Sent { account, kind, end, values, counter } = sent[arrival.sent].clone();
            let mut pushed = frame(account, counter, vec![reading(kind, end, values)]);
            pushed.late = true;
            self.world.apply(Fact::Frame(pushed));
            self.resolve_some();
        }
        self.close_days_before(Calendar::india().at(last_day(), 0, 0));
        while !self.world.waiting.is_empty() || !self.answers.is_empty() {
            self.look_up(0);
            self.append(0);
        }
        self.close_days_before(Calendar::india().at(last_day().next(), 7, 0));
        self.world
    }

    fn close_days_before(&mut self, moment: Instant) {
        let due = |day: CivilDay| Calendar::india().at(day.next(), 6, 0);
        while due(self.world.fold.next_close()) <= moment {
            let day = self.world.fold.next_close();
            self.world.now = self.world.now.max(due(day));
            let slices =
                if self.course.splits[day.0 as usize % 40] { vec![(1, 1), (2, 2)] } else { vec![(1, 2)] };
            for (first, last) in slices {
                let slice =
                    DayClosed { day, first: AccountId(first), last: AccountId(last), complete: last == 2 };
                assert!(self.world.apply(Fact::DayClosed(slice)).is_success());
                self.resolve_some();
            }
        }
    }

    fn resolve_some(&mut self) {
        self.step += 1;
        let (looks_up, appends, which) = self.course.moves[self.step % self.course.moves.len()];
        if looks_up {
            self.look_up(which);
        }
        if appends {
            self.append(which);
        }
    }

    fn look_up(&mut self, which: usize) {
        if let Some(index) = (0..self.world.waiting.len()).cycle().nth(which) {
            let contested = self.world.waiting.remove(index);
            self.answers.push(self.world.look_up(&contested));
        }
    }

    fn append(&mut self, which: usize) {
        if let Some(index) = (0..self.answers.len()).cycle().nth(which) {
            let answer = self.answers.remove(index);
            assert!(self.world.apply(Fact::Resolved(answer)).is_success());
        }
    }
}

/// The slow model: from all values at once, by the definition.
struct Model<'a> {
    keys: BTreeMap<(u32, ReadingKind, Instant), Vec<&'a Sent>>,
}

impl<'a> Model<'a> {
    fn new(sent: &'a [Sent]) -> Model<'a> {
        let mut keys: BTreeMap<_, Vec<&Sent>> = BTreeMap::new();
        for sent in sent {
            keys.entry((sent.account, sent.kind, sent.end)).or_default().push(sent);
        }
        keys.values_mut().for_each(|versions| versions.sort_by_key(|sent| sent.counter));
        Model { keys }
    }

    /// Energy in force of a key: the highest counter that has it.
    fn import(&self, account: u32, kind: ReadingKind) -> impl Iterator<Item = (CivilDay, i64)> {
        let keys = self.keys.iter().filter(move |((of, known, _), _)| *of == account && *known == kind);
        keys.filter_map(|((_, _, end), versions)| {
            let value = versions.iter().rev().find_map(|sent| sent.values.get(Channel::ImportWh))?;
            Some((Calendar::india().usage_day(*end), value))
        })
    }

    fn register_at(&self, account: u32, from: CivilDay, end: CivilDay) -> i64 {
        let registers: BTreeMap<CivilDay, i64> = self.import(account, ReadingKind::Daily).collect();
        let known = registers.range(from..).take_while(|(day, _)| **day <= end).last();
        let (anchor, wh) = known.map_or((from.previous(), 1_000_000), |(day, wh)| (*day, *wh));
        let since =
            self.import(account, ReadingKind::Interval).filter(|(day, _)| *day > anchor && *day <= end);
        wh + since.map(|(_, wh)| wh).sum::<i64>()
    }

    fn demand_w(&self, account: u32, first: CivilDay, last: CivilDay) -> i64 {
        let of_days =
            self.import(account, ReadingKind::Interval).filter(|(day, _)| *day >= first && *day <= last);
        of_days.map(|(_, wh)| wh * 3600 / i64::from(PERIOD_S)).max().unwrap_or(0)
    }

    fn charge(&self, account: u32, month: CivilMonth) -> (i64, BTreeMap<Head, i64>) {
        let mut terms: Vec<_> = TERMS.into_iter().filter(|terms| terms.0 == account).collect();
        terms.sort_by_key(|terms| day(terms.2));
        let from = day(terms[0].2);
        let end = month.last_day().min(last_day());
        let before = self.register_at(account, from, month.first_day().max(from).previous());
        let mut parts: Vec<Part> = Vec::new();
        for (place, (_, tariff, begins, sanctioned_w)) in terms.iter().enumerate() {
            let first = day(begins).max(month.first_day());
            let last = terms.get(place + 1).map_or(end, |later| day(later.2).previous()).min(end);
            if first <= last {
                parts.push(Part {
                    slabs: slabs_of(tariff, month),
                    upto_wh: self.register_at(account, from, last) - before,
                    demand_w: self.demand_w(account, first, last),
                    sanctioned_w: i64::from(*sanctioned_w),
                    days: i128::from(last.0 - first.0 + 1),
                });
            }
        }
        let energy_wh = parts.last().unwrap().upto_wh;
        // A part has no energy that is not there at the end of a later one.
        for place in (1..parts.len()).rev() {
            parts[place - 1].upto_wh = parts[place - 1].upto_wh.min(parts[place].upto_wh);
        }
        (energy_wh, naive_charge(&parts, i128::from(month.days())))
    }
}

/// Days of a month under the same terms.
struct Part {
    slabs: &'static [(i64, i64, i64)],
    /// Energy of the month to its end.
    upto_wh: i64,
    demand_w: i64,
    sanctioned_w: i64,
    days: i128,
}

/// Upper limit, gross rate and subsidy, Wh and paise.
fn slabs_of(tariff: &str, month: CivilMonth) -> &'static [(i64, i64, i64)] {
    match tariff {
        "lmv1-urban" => &[(150_000, 685, 135), (300_000, 685, 85), (i64::MAX, 685, 35)],
        _ if month >= world::month("2026-04") => &[(i64::MAX, 470, 0)],
        _ => &[(i64::MAX, 410, 0)],
    }
}

/// The formula of the tariff with fractions over one denominator: paise × 10⁵ × days of the month × 4.
fn naive_charge(parts: &[Part], of: i128) -> BTreeMap<Head, i64> {
    let denominator = 100_000 * of * 4;
    let (mut energy, mut subsidy, mut fixed) = (0_i128, 0_i128, 0_i128);
    let mut before_wh = 0;
    for part in parts {
        let mut below = 0_i64;
        for (upto, gross, paid) in part.slabs {
            let in_slab = |wh: i64| i128::from((wh.min(*upto) - below).max(0));
            let wh = in_slab(part.upto_wh) - in_slab(before_wh);
            energy += wh * i128::from(*gross) * 100 * of * 4;
            subsidy += wh * i128::from(*paid) * 100 * of * 4;
            below = *upto;
        }
        let quarters_of_w = i128::from((part.demand_w * 4).max(part.sanctioned_w * 3));
        fixed += 11_000 * quarters_of_w * 100 * part.days;
        before_wh = part.upto_wh;
    }
    let base = energy + fixed - subsidy;
    let rounded = |figure: i128, share: i128| {
        let denominator = denominator * 100;
        let figure = figure * share;
        i64::try_from((figure * 2 + denominator * figure.signum()) / (denominator * 2)).unwrap()
    };
    let heads = [
        (Head::Energy, rounded(energy, 100)),
        (Head::Fixed, rounded(fixed, 100)),
        (Head::Subsidy, -rounded(subsidy, 100)),
        (Head::Duty, rounded(base, 5)),
        (Head::Rebate, -rounded(base, 2)),
    ];
    heads.into_iter().filter(|(_, amount)| *amount != 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_readings_in_any_order_are_in_force_and_charged_the_same(case in cases()) {
        let model = Model::new(&case.sent);
        let worlds = [&case.courses[0], &case.courses[1]].map(|course| {
            Player { world: begin(), course, step: 0, answers: Vec::new() }.play(&case.sent)
        });
        let rows = [&worlds[0], &worlds[1]].map(|world| {
            world.keys.iter().map(|(key, versions)| (*key, in_force(versions))).collect::<Vec<_>>()
        });
        prop_assert_eq!(&rows[0], &rows[1]);
        for account in 1..=2 {
            for name in ["2026-03", "2026-04", "2026-05"] {
                let (energy_wh, heads) = model.charge(account, month(name));
                for world in &worlds {
                    prop_assert_eq!(world.charged_wh(account, month(name)), energy_wh, "{} of {}", account, name);
                    prop_assert_eq!(&world.charged(account, month(name)), &heads, "{} of {}", account, name);
                }
            }
            let total: i64 = worlds[0].postings().filter(|line| {
                line.account == AccountId(account) && line.head == Head::Consumer
            }).map(|line| line.amount.0).sum();
            prop_assert_eq!(worlds[0].view(account).booked, Paise(total));
        }
    }
}
