//! What a meter pushes because of one civil day: which pushes, when, with which counters, and what goes wrong.
//!
//! A day is planned whole, and the same whatever was sent before: counters are those of the day
//! (`1 + 4096 · days since the first day + place in the day`), so that a fleet that is started again goes on where
//! it was without using a counter twice.

use std::sync::Arc;

use model::{Calendar, CivilDay, EventWord, Instant};
use profiles::PushKind;

use crate::household::{DayUse, Household};
use crate::options::{Cadence, Faults};
use crate::program::{Asked, Numbered};
use crate::provision::SimulatedMeter;
use crate::rng::Rng;
use crate::spell::{self, Silence};
use crate::stats::Planned;
use crate::truth::Struck;
use crate::weather::key;

const PURPOSE_PLAN: u64 = 9;
const PURPOSE_PLACE: u64 = 10;
const PURPOSE_GARBAGE: u64 = 17;
const PURPOSE_TAMPER: u64 = 22;
/// Counters of one day; more pushes than any cadence makes.
const COUNTERS_A_DAY: u32 = 4096;
/// Number of a meter's first keys, and of those it may go over to.
const FIRST_KEYS: u16 = 1;
const SECOND_KEYS: u16 = 2;
/// Most rows of the buffer that brings intervals after an outage.
const RECOVERY_ROWS: usize = 48;

/// Bits of the event status word that the fleet uses (dlms.md 6.6).
pub(crate) mod bits {
    pub(crate) const LOW_VOLTAGE: u8 = 4;
    pub(crate) const OVER_CURRENT: u8 = 11;
    pub(crate) const LOW_POWER_FACTOR: u8 = 12;
    pub(crate) const EARTH_LOADING: u8 = 51;
    pub(crate) const MAGNET: u8 = 81;
    pub(crate) const NEUTRAL_DISTURBANCE: u8 = 82;
    pub(crate) const COVER_OPEN: u8 = 83;
    pub(crate) const LOAD_SWITCH: u8 = 84;
    pub(crate) const LAST_GASP: u8 = 85;
    pub(crate) const FIRST_BREATH: u8 = 86;
}

/// How far a push may keep away from the time of its schedule where nothing else was said, seconds.
pub(crate) const USUAL_DELAY_S: u16 = 60;
/// Seconds for which the word says that the supply is back.
const FIRST_BREATH_S: i64 = 590;
/// The current is over what it may be where the load is above so many hundredths of what is sanctioned.
const OVER_CURRENT_PERCENT: i64 = 105;

/// Plans the days of one meter, one after the other.
#[derive(Clone, Debug)]
pub struct Planner {
    seed: u64,
    meter: Arc<SimulatedMeter>,
    household: Household,
    calendar: Calendar,
    faults: Faults,
    cadence: Cadence,
    next_day: CivilDay,
    /// At the start of the day that was planned last.
    before: Carry,
    /// At its end.
    carry: Carry,
}

/// What a meter remembers from the days before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    /// Active energy imported, Wh.
    pub register_wh: i64,
    /// Apparent energy imported, VAh.
    pub register_vah: i64,
    /// Supply outages so far.
    pub power_fails: i64,
    /// Their length, minutes.
    pub power_fail_min: i64,
    /// Highest average power of an interval of the billing cycle so far, W.
    pub demand_w: i64,
    /// Billing cycles that are over since the first day; they are months where no head-end says otherwise.
    pub months: i64,
}

/// The pushes of one meter and day.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was measured.
    pub measured: Arc<Measured>,
    /// The pushes, by rising counter.
    pub frames: Vec<PlannedFrame>,
    /// What was measured on days of silence that end today, and the pushes that bring it.
    pub backlog: Vec<(Arc<Measured>, Vec<PlannedFrame>)>,
    /// Faults in it.
    pub faults: Planned,
    /// Those of them that the truth tells of one by one.
    pub struck: Vec<Struck>,
}

/// What a meter measured on one day, and what it makes of it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The day, interval by interval.
    pub used: DayUse,
    /// What it remembered at the start of the day.
    pub before: Carry,
    /// A value that it first gives wrong.
    pub wrong: Option<Wrong>,
    /// Power factor of the household, thousandths.
    pub power_factor_milli: i64,
    /// When billing cycles close on it, as far as it is known by now.
    pub closes: Vec<Instant>,
}

/// A value that is first pushed wrong, and revised by a later push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The energy of an interval.
    Interval {
        /// Its number in the day.
        slot: usize,
        /// What is pushed first, Wh.
        wh: i64,
    },
    /// The register at the end of the day.
    Register {
        /// What is pushed first, Wh.
        wh: i64,
    },
}

/// One push, before its bytes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFrame {
    /// Which of the meter's successive keys it is made with.
    pub key_epoch: u16,
    /// Invocation counter: it begins anew with each key.
    pub counter: u32,
    /// When the meter makes it.
    pub due: Instant,
    /// When it reaches the head-end: `due`, or later.
    pub sent: Instant,
    /// When the same bytes are sent once more.
    pub again: Option<Instant>,
    /// What it carries.
    pub content: Content,
}

/// What a push carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The interval of that number.
    Interval(usize),
    /// Intervals that could not be pushed in time, or that are pushed together.
    Intervals(Vec<usize>),
    /// The interval of that number, under a stamp that is garbage.
    IntervalGarbled(usize, Garbage),
    /// The right value of an interval that was pushed wrong.
    IntervalRevised(usize),
    /// The registers at the end of the day.
    Daily,
    /// The registers at the end of the day, under a stamp that is garbage.
    DailyGarbled(Garbage),
    /// The right register at the end of the day.
    DailyRevised,
    /// Values of that moment.
    Moment(Instant),
    /// The event status word since that moment.
    Event(Instant, EventWord),
}

/// What is wrong with a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// On the first of January 1999, as after a battery that failed: older than anything that is charged.
    Past,
    /// A day and a half ahead of the true time, two days for registers: the true value of the key is still to come.
    Ahead,
    /// On the first of January 2099.
    FarAhead,
    /// No field is specified.
    Unspecified,
    /// The 30th of February.
    Impossible,
}

impl Garbage {
    /// All of them.
    pub const ALL: [Garbage; 5] =
        [Garbage::Past, Garbage::Ahead, Garbage::FarAhead, Garbage::Unspecified, Garbage::Impossible];

    /// The word in the truth file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Garbage::Past => "past",
            Garbage::Ahead => "ahead",
            Garbage::FarAhead => "far_ahead",
            Garbage::Unspecified => "unspecified",
            Garbage::Impossible => "impossible",
        }
    }
}

impl Content {
    /// What is wrong with its stamp.
    #[must_use]
    pub fn garbage(&self) -> Option<Garbage> {
        match self {
            Content::IntervalGarbled(_, garbage) | Content::DailyGarbled(garbage) => Some(*garbage),
            _ => None,
        }
    }
}

impl PlannedFrame {
    /// Whether this push may be put together with its neighbours: an interval to which nothing happens on the way.
    #[must_use]
    pub fn is_mergeable(&self) -> bool {
        matches!(self.content, Content::Interval(_)) && self.sent == self.due && self.again.is_none()
    }
}

impl Measured {
    /// Registers of active (Wh) and apparent (VAh) energy at the end of the day.
    #[must_use]
    pub fn registers_after(&self) -> (i64, i64) {
        (self.before.register_wh + self.used.wh(), self.before.register_vah + self.used.vah())
    }

    /// Billing cycles that are over at `at`, and the highest average power of an interval of the one that runs then, W.
    pub(crate) fn cycle(&self, at: Instant) -> (i64, i64) {
        let closed = self.closes.iter().filter(|close| self.used.start < **close && **close <= at);
        let after = self.before.after_part(&self.used, closed, at);
        (after.months, after.demand_w)
    }

    /// The highest average power of the cycle that closes at `at`, W.
    pub(crate) fn demand_until(&self, at: Instant) -> i64 {
        let closed = self.closes.iter().filter(|close| self.used.start < **close && **close < at);
        self.before.after_part(&self.used, closed, at).demand_w
    }
}

impl Planner {
    /// A planner that stands before the meter's first day.
    #[must_use]
    pub fn new(
        seed: u64,
        meter: Arc<SimulatedMeter>,
        calendar: Calendar,
        faults: Faults,
        cadence: Cadence,
    ) -> Planner {
        let carry = Carry::opening(&meter);
        let household = Household::new(seed, &meter, &faults);
        Planner {
            seed,
            household,
            calendar,
            faults,
            cadence,
            next_day: meter.from,
            before: carry,
            carry,
            meter,
        }
    }

    /// The meter.
    #[must_use]
    pub fn meter(&self) -> &Arc<SimulatedMeter> {
        &self.meter
    }

    /// Plans the day that was planned last anew, as the program of the meter has it by now.
    pub(crate) fn plan_again(&self) -> Plan {
        self.plan_of(self.next_day.previous(), self.before)
    }

    /// The day that [`Planner::plan`] plans next.
    #[must_use]
    pub fn next_day(&self) -> CivilDay {
        self.next_day
    }

    /// Plans the next day and moves on.
    pub fn plan(&mut self) -> Plan {
        let day = self.next_day;
        if self.meter.supply.is_live() && day > self.meter.from {
            // The day before is over, and with it what its relay and its program did.
            let closes = self.closes(day.previous());
            self.carry = self.before.after(&self.household.day(day.previous(), &self.calendar), &closes);
        }
        let closes = self.closes(day);
        let used = self.household.day(day, &self.calendar);
        self.before = self.carry.into_day(used.start, &closes);
        self.carry = self.before.after(&used, &closes);
        self.next_day = day.next();
        self.plan_of(day, self.before)
    }

    fn plan_of(&self, day: CivilDay, before: Carry) -> Plan {
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_PLAN, u64::from(self.meter.index), key(day)]);
        let used = self.household.day(day, &self.calendar);
        let silence = Silence::of(self.seed, &self.meter, &self.faults, &self.calendar);
        let mut day_plan = DayPlan::new(self, used, before, rng);
        day_plan.spells();
        if silence.is_some_and(|silence| silence.holds(day)) {
            return day_plan.finish();
        }
        day_plan.blocks();
        day_plan.daily();
        day_plan.moments();
        day_plan.events();
        day_plan.revision(rng);
        day_plan.asked();
        day_plan.garbage();
        day_plan.on_the_way(rng);
        if let Some(silence) = silence {
            day_plan.silence(&silence);
        }
        day_plan.finish()
    }

    /// When billing cycles close on that day. None closes as the meter begins.
    fn closes(&self, day: CivilDay) -> Vec<Instant> {
        self.meter.closes(day, &self.calendar)
    }

    /// What was measured on a day, as it is known by now: a relay that moved since it was planned had a say in it.
    #[must_use]
    pub fn measured(&self, planned: &Arc<Measured>) -> Arc<Measured> {
        if !self.meter.supply.is_live() {
            return Arc::clone(planned);
        }
        let used = self.household.day(planned.used.day, &self.calendar);
        let less = planned.used.wh() - used.wh();
        let wrong = planned.wrong.map(|wrong| match wrong {
            Wrong::Interval { slot, wh } => {
                let of = |used: &DayUse| used.intervals.get(slot).map_or(0, |interval| interval.wh);
                Wrong::Interval { slot, wh: (wh - of(&planned.used) + of(&used)).max(0) }
            }
            Wrong::Register { wh } => Wrong::Register { wh: (wh - less).max(planned.before.register_wh) },
        });
        let closes = self.closes(used.day);
        Arc::new(Measured { used, wrong, closes, ..(**planned).clone() })
    }

    /// What the meter measured on the days from `first` on, up to the day at whose start `before` was carried.
    fn measured_in(&self, first: CivilDay, end: CivilDay, before: Carry) -> Vec<Measured> {
        let days = (first.0..end.0).map(CivilDay);
        let used: Vec<DayUse> = days.map(|day| self.household.day(day, &self.calendar)).collect();
        let (wh, vah) = (used.iter().map(DayUse::wh).sum::<i64>(), used.iter().map(DayUse::vah).sum::<i64>());
        let first =
            Carry { register_wh: before.register_wh - wh, register_vah: before.register_vah - vah, ..before };
        let days = used.into_iter().scan(first, |carry, used| {
            let before = *carry;
            (carry.register_wh, carry.register_vah) =
                (before.register_wh + used.wh(), before.register_vah + used.vah());
            let power_factor_milli = self.household.power_factor_milli();
            let closes = self.closes(used.day);
            Some(Measured { used, before, wrong: None, power_factor_milli, closes })
        });
        days.collect()
    }
}

impl Carry {
    /// What a meter begins with.
    pub(crate) fn opening(meter: &SimulatedMeter) -> Carry {
        Carry {
            register_wh: meter.opening_register_wh,
            register_vah: meter.opening_register_vah,
            power_fails: 0,
            power_fail_min: 0,
            demand_w: 0,
            months: 0,
        }
    }

    /// At the start of a day on which cycles close then: with one that closes at once its demand begins anew.
    pub(crate) fn into_day(self, start: Instant, closes: &[Instant]) -> Carry {
        if closes.first() != Some(&start) {
            return self;
        }
        Carry { demand_w: 0, months: self.months + 1, ..self }
    }

    /// At the end of a day on which that was used and cycles closed then.
    pub(crate) fn after(self, used: &DayUse, closes: &[Instant]) -> Carry {
        let minutes = used.outages.iter().map(|(from, to)| (to.seconds() - from.seconds()) / 60).sum::<i64>();
        let closed = closes.iter().filter(|close| used.start < **close);
        Carry {
            register_wh: self.register_wh + used.wh(),
            register_vah: self.register_vah + used.vah(),
            power_fails: self.power_fails + used.outages.len() as i64,
            power_fail_min: self.power_fail_min + minutes,
            ..self.after_part(used, closed, used.end())
        }
    }

    /// With the cycles and the demand that it has at `at` in a day in which these cycles closed before.
    fn after_part<'c>(
        self,
        used: &DayUse,
        closed: impl Iterator<Item = &'c Instant> + Clone,
        at: Instant,
    ) -> Carry {
        let (over, last) = (closed.clone().count(), closed.last());
        let of_cycle = |slot: &usize| {
            let end = used.end_of(*slot);
            end <= at && last.is_none_or(|last| end > *last)
        };
        let slots = (0..used.intervals.len()).filter(of_cycle);
        let demand =
            slots.filter_map(|slot| used.intervals.get(slot)).map(|one| one.wh * 3600 / used.period_s);
        let before = if last.is_some() { 0 } else { self.demand_w };
        Carry { demand_w: demand.fold(before, i64::max), months: self.months + over as i64, ..self }
    }
}

/// A day while it is being planned.
struct DayPlan<'p> {
    planner: &'p Planner,
    used: DayUse,
    before: Carry,
    wrong: Option<Wrong>,
    /// Seconds after its time at which this meter pushes.
    place_s: i64,
    cut_off: Option<CutOff>,
    frames: Vec<PlannedFrame>,
    backlog: Vec<(Arc<Measured>, Vec<PlannedFrame>)>,
    /// How the event status word changes: when, which bit, up or down.
    changes: Vec<(Instant, u8, bool)>,
    faults: Planned,
    struck: Vec<Struck>,
}

/// A communication outage: intervals from the first slot up to, not including, the other are not pushed in time.
struct CutOff {
    from: usize,
    to: usize,
    /// Seconds after its end at which what was missed is pushed; `None`: never.
    delivered_after_s: Option<i64>,
}

impl<'p> DayPlan<'p> {
    fn new(planner: &'p Planner, used: DayUse, before: Carry, rng: &mut Rng) -> DayPlan<'p> {
        let spread = u64::from(planner.cadence.spread_s) + 1;
        let mut place = Rng::keyed(planner.seed, &[PURPOSE_PLACE, u64::from(planner.meter.index)]);
        let cut_off = cut_off(&planner.faults, used.intervals.len(), rng);
        let mut faults = Planned { days: 1, power_outages: used.outages.len() as u64, ..Planned::default() };
        let struck: Vec<Struck> =
            used.sags.iter().map(|(from, until)| Struck::new("voltage_sag", *from, *until)).collect();
        faults.voltage_sags += struck.len() as u64;
        if let Some(cut_off) = &cut_off {
            faults.link_outages += 1;
            faults.never_delivered += u64::from(cut_off.delivered_after_s.is_none());
        }
        let wrong = if rng.chance(planner.faults.revision_ppm) {
            wrong(&used, before, cut_off.as_ref(), rng)
        } else {
            None
        };
        let place_s = place.below(spread) as i64;
        let (frames, backlog, changes) = (Vec::new(), Vec::new(), Vec::new());
        DayPlan { planner, used, before, wrong, place_s, cut_off, frames, backlog, changes, faults, struck }
    }

    fn push(&mut self, due: Instant, content: Content) {
        self.frames.push(planned(due, content));
    }

    /// The moment at which a meter that is to push at `at` does so: after a supply outage, not during it.
    fn with_supply(&self, at: Instant) -> Instant {
        let outage = self.used.outages.iter().find(|(from, to)| *from <= at && at < *to);
        outage.map_or(at, |(_, to)| to.plus_seconds(self.place_s))
    }

    fn is_cut_off(&self, at: Instant) -> bool {
        let begin = |slot: usize| self.used.start.plus_seconds(slot as i64 * self.used.period_s);
        self.cut_off.as_ref().is_some_and(|cut| begin(cut.from) <= at && at < begin(cut.to))
    }

    fn blocks(&mut self) {
        let (from, to) = self.cut_off.as_ref().map_or((0, 0), |cut| (cut.from, cut.to));
        for slot in (0..self.used.intervals.len()).filter(|slot| !(from..to).contains(slot)) {
            let due = self.with_supply(self.used.end_of(slot).plus_seconds(self.place_s));
            self.push(due, Content::Interval(slot));
        }
        if let Some(due) = self.recovered_at() {
            let missed: Vec<usize> = (from..to).collect();
            for rows in missed.chunks(RECOVERY_ROWS) {
                self.push(due, Content::Intervals(rows.to_vec()));
            }
        }
    }

    /// When what was missed in the communication outage is pushed.
    fn recovered_at(&self) -> Option<Instant> {
        let cut = self.cut_off.as_ref()?;
        let end = self.used.end_of(cut.to.checked_sub(1)?);
        Some(end.plus_seconds(cut.delivered_after_s? + self.place_s))
    }

    fn daily(&mut self) {
        let due = self.used.end().plus_seconds(self.place_s + 2);
        let missed = self.cut_off.as_ref().is_some_and(|cut| cut.to == self.used.intervals.len());
        let mut lost = Rng::keyed(
            self.planner.seed,
            &[PURPOSE_PLAN, 1, u64::from(self.planner.meter.index), key(self.used.day)],
        );
        if lost.chance(self.planner.faults.daily_lost_ppm) {
            self.faults.daily_lost += 1;
        } else if !missed {
            self.push(due, Content::Daily);
        } else if let Some(recovered) = self.recovered_at() {
            self.push(recovered.plus_seconds(2), Content::Daily);
        }
    }

    fn moments(&mut self) {
        let every = i64::from(self.planner.cadence.instant_s);
        if every == 0 {
            return self.push_moments(Vec::new());
        }
        let mut place =
            Rng::keyed(self.planner.seed, &[PURPOSE_PLACE, 1, u64::from(self.planner.meter.index)]);
        let phase = place.between(1, every - 1);
        let count = (self.used.end().seconds() - self.used.start.seconds()) / every;
        self.push_moments(
            (0..count).map(|number| self.used.start.plus_seconds(number * every + phase)).collect(),
        );
    }

    /// Pushes values of the moment at these times, or at those of the schedule that the meter was given, from which it keeps
    /// away as far as its push setup says.
    fn push_moments(&mut self, usual: Vec<Instant>) {
        let Planner { seed, meter, calendar, .. } = self.planner;
        for at in meter.program.moments(usual, self.used.day, calendar) {
            if self.is_cut_off(at) || self.with_supply(at) != at {
                continue;
            }
            let most_s = meter.program.delay(at, USUAL_DELAY_S);
            let path = [PURPOSE_PLACE, 2, u64::from(meter.index), at.seconds().unsigned_abs()];
            let delay_s = if most_s > 0 { Rng::keyed(*seed, &path).between(0, most_s.into()) } else { 0 };
            let sent = at.plus_seconds(delay_s);
            self.frames.push(PlannedFrame { sent, ..planned(at, Content::Moment(at)) });
        }
    }

    /// Pushes what a head-end asked for.
    fn asked(&mut self) {
        for Asked { at, kind } in self.planner.meter.program.asked(self.used.start, self.used.end()) {
            let ended = (0..self.used.intervals.len()).rfind(|slot| self.used.end_of(*slot) <= at);
            match (kind, ended) {
                (PushKind::Instant, _) => self.push(at, Content::Moment(at)),
                (PushKind::Event, _) => self.push(at, Content::Event(at, word_at(&self.changes, at))),
                (PushKind::Interval, Some(slot)) => self.push(at, Content::IntervalRevised(slot)),
                (PushKind::Interval, None) => {}
                (PushKind::Daily, _) => {
                    let yesterday = self.used.day.previous();
                    let measured = self.planner.measured_in(yesterday, self.used.day, self.before);
                    let frame = planned(at, Content::DailyRevised);
                    let measured = measured.into_iter().filter(|_| yesterday >= self.planner.meter.from);
                    self.backlog.extend(measured.map(|one| (Arc::new(one), vec![frame.clone()])));
                }
            }
        }
    }

    fn events(&mut self) {
        let Planner { seed, meter, faults, .. } = self.planner;
        self.changes = changes(*seed, meter, faults, &self.used, false);
        self.push_words();
    }

    /// One push for each moment at which the word changes in a bit that the filter lets through, with the word as it is
    /// then.
    fn push_words(&mut self) {
        let program = &self.planner.meter.program;
        let is_wanted = |group: &&[(Instant, u8, bool)]| {
            let lets_through = |&(at, bit, _): &(Instant, u8, bool)| program.lets_through(bit, at);
            group.iter().any(lets_through)
        };
        let groups = self.changes.chunk_by(|one, other| one.0 == other.0).filter(is_wanted);
        let moments: Vec<Instant> = groups.filter_map(|group| Some(group.first()?.0)).collect();
        for at in moments {
            if !self.is_cut_off(at) {
                self.push(at, Content::Event(at, word_at(&self.changes, at)));
            }
        }
    }

    fn revision(&mut self, rng: &mut Rng) {
        let after = rng.between(3600, 20 * 3600);
        let due = |end: Instant| end.plus_seconds(after);
        match self.wrong {
            Some(Wrong::Interval { slot, .. }) => {
                self.push(due(self.used.end_of(slot)), Content::IntervalRevised(slot))
            }
            Some(Wrong::Register { .. }) => self.push(due(self.used.end()), Content::DailyRevised),
            None => return,
        }
        self.faults.revisions += 1;
    }

    /// A reading under a stamp that is garbage, and the same with its right stamp hours later.
    fn garbage(&mut self) {
        let Planner { seed, meter, faults, .. } = self.planner;
        let rng = &mut Rng::keyed(*seed, &[PURPOSE_GARBAGE, u64::from(meter.index), key(self.used.day)]);
        let happens = rng.chance(faults.garbage_time_ppm) && self.wrong.is_none() && self.cut_off.is_none();
        let garbage = *rng.pick(&Garbage::ALL);
        let slot = rng.below(self.used.intervals.len() as u64) as usize;
        let (before, garbled, after) = if rng.below(6) == 0 {
            (Content::Daily, Content::DailyGarbled(garbage), Content::DailyRevised)
        } else {
            (Content::Interval(slot), Content::IntervalGarbled(slot, garbage), Content::Intervals(vec![slot]))
        };
        let right_after_s = rng.between(3600, 20 * 3600);
        let Some(frame) = self.frames.iter_mut().find(|frame| happens && frame.content == before) else {
            return;
        };
        frame.content = garbled;
        let (from, until) = (frame.due, frame.due.plus_seconds(right_after_s));
        self.push(until, after);
        self.faults.garbage_times += 1;
        self.struck.push(Struck::new("garbage_time", from, until));
    }

    /// Late, overtaken and doubled pushes. A stamp ahead of its time is not: it must be so when it arrives.
    fn on_the_way(&mut self, rng: &mut Rng) {
        let faults = &self.planner.faults;
        for frame in self.frames.iter_mut().filter(|frame| frame.content.garbage().is_none()) {
            let late = rng.chance(faults.late_ppm);
            let delay = rng.between(600, i64::from(faults.late_max_s));
            let overtaken = rng.chance(faults.reordered_ppm);
            let overtaken_by = rng.between(self.used.period_s + 60, 3 * self.used.period_s);
            if late {
                frame.sent = frame.due.plus_seconds(delay);
                self.faults.late += 1;
            } else if overtaken {
                frame.sent = frame.due.plus_seconds(overtaken_by);
                self.faults.reordered += 1;
            }
            let second = rng.between(1, 1800);
            if rng.chance(faults.duplicate_ppm) {
                frame.again = Some(frame.sent.plus_seconds(second));
                self.faults.duplicates += 1;
            }
        }
    }

    /// Nothing arrives while the meter is silent. What it measured meanwhile is pushed when it is back.
    fn silence(&mut self, silence: &Silence) {
        for frame in &mut self.frames {
            frame.sent = silence.heard(frame.sent);
            frame.again = frame.again.map(|at| silence.heard(at));
        }
        if self.used.day != silence.back {
            return;
        }
        for measured in self.planner.measured_in(silence.first, silence.back, self.before) {
            let slots: Vec<usize> = (0..measured.used.intervals.len()).collect();
            let blocks = slots.chunks(RECOVERY_ROWS).map(|rows| Content::Intervals(rows.to_vec()));
            let frames =
                blocks.chain([Content::Daily]).map(|content| planned(silence.until, content)).collect();
            self.backlog.push((Arc::new(measured), frames));
        }
        self.faults.silences += 1;
        self.struck.push(Struck::new("silence", silence.from, silence.until));
    }

    /// Tells of what befalls the meter once, on the day it begins.
    fn spells(&mut self) {
        let Planner { seed, meter, faults, calendar, .. } = self.planner;
        if let Some((_, at)) =
            spell::key_change(*seed, meter, faults, calendar).filter(|(_, at)| self.is_today(*at))
        {
            self.faults.key_changes += 1;
            self.struck.push(Struck::new("key_change", at, at));
        }
        if let Some(drift) = spell::Drift::of(*seed, meter, faults).filter(|drift| self.is_today(drift.from))
        {
            self.faults.clock_drifts += 1;
            self.struck.push(Struck::new("clock_drift", drift.from, drift.until));
        }
    }

    fn is_today(&self, at: Instant) -> bool {
        self.used.start <= at && at < self.used.end()
    }

    /// Numbers the pushes in the order in which the meter makes them.
    fn number(&mut self) {
        let Planner { seed, meter, faults, calendar, .. } = self.planner;
        let change = spell::key_change(*seed, meter, faults, calendar);
        let mut first_keys = first_counter(meter.from, self.used.day)..;
        let mut second_keys = change.map_or(0, |(day, _)| first_counter(day, self.used.day))..;
        self.frames.sort_by_key(|frame| frame.due);
        let backlog = self.backlog.iter_mut().flat_map(|(_, frames)| frames);
        let mut all: Vec<&mut PlannedFrame> = self.frames.iter_mut().chain(backlog).collect();
        all.sort_by_key(|frame| frame.due);
        for frame in all {
            let is_second = change.is_some_and(|(_, at)| at <= frame.due);
            let numbers = if is_second { &mut second_keys } else { &mut first_keys };
            frame.key_epoch = if is_second { SECOND_KEYS } else { FIRST_KEYS };
            frame.counter = numbers.next().unwrap_or(u32::MAX);
        }
    }

    fn finish(mut self) -> Plan {
        self.number();
        self.faults.frames += self.frames.len() as u64;
        self.faults.frames += self.backlog.iter().map(|(_, frames)| frames.len() as u64).sum::<u64>();
        let measured = Measured {
            closes: self.planner.closes(self.used.day),
            used: self.used,
            before: self.before,
            wrong: self.wrong,
            power_factor_milli: self.planner.household.power_factor_milli(),
        };
        Plan {
            measured: Arc::new(measured),
            frames: self.frames,
            backlog: self.backlog,
            faults: self.faults,
            struck: self.struck,
        }
    }
}

/// A push that goes its way as it should; it is numbered later.
fn planned(due: Instant, content: Content) -> PlannedFrame {
    PlannedFrame { key_epoch: FIRST_KEYS, counter: 0, due, sent: due, again: None, content }
}

/// The first counter of a day, where keys are in use since that one.
fn first_counter(since: CivilDay, day: CivilDay) -> u32 {
    u32::try_from(day.0 - since.0).unwrap_or(0).saturating_mul(COUNTERS_A_DAY) + 1
}

/// What the first push of the day of `at` is numbered with, by the keys that are in use at that moment.
pub(crate) fn first_number(
    seed: u64,
    meter: &SimulatedMeter,
    faults: &Faults,
    calendar: &Calendar,
    at: Instant,
) -> Numbered {
    let day = calendar.day_of(at);
    let second = spell::key_change(seed, meter, faults, calendar).filter(|(_, change)| *change <= at);
    let (key_epoch, since) = second.map_or((FIRST_KEYS, meter.from), |(since, _)| (SECOND_KEYS, since));
    Numbered { at: calendar.start_of(day), key_epoch, counter: first_counter(since, day) }
}

/// How the event status word changes on a day on which that was used, in order: when, which bit, up or down. What is planned
/// has it as if nothing held the load down: a relay that moves later must not take numbers back that were given out.
pub(crate) fn changes(
    seed: u64,
    meter: &SimulatedMeter,
    faults: &Faults,
    used: &DayUse,
    held_down: bool,
) -> Vec<(Instant, u8, bool)> {
    let mut changes: Vec<(Instant, u8, bool)> = Vec::new();
    let mut span = |bit, from, to| changes.extend([(from, bit, true), (to, bit, false)]);
    for (from, to) in &used.outages {
        span(bits::LAST_GASP, *from, *to);
        span(bits::FIRST_BREATH, *to, to.plus_seconds(FIRST_BREATH_S));
    }
    for (from, to) in &used.sags {
        span(bits::LOW_VOLTAGE, *from, *to);
    }
    for (from, to) in used.above(i64::from(meter.sanctioned_w) * OVER_CURRENT_PERCENT / 100, held_down) {
        span(bits::OVER_CURRENT, from, to);
    }
    if let Some((bit, from, to)) = tamper(seed, meter, faults, used) {
        span(bit, from, to);
    }
    changes.sort_unstable();
    changes
}

/// What somebody does to the meter on a day, from when to when.
fn tamper(
    seed: u64,
    meter: &SimulatedMeter,
    faults: &Faults,
    used: &DayUse,
) -> Option<(u8, Instant, Instant)> {
    const KINDS: [u8; 5] = [
        bits::NEUTRAL_DISTURBANCE,
        bits::MAGNET,
        bits::EARTH_LOADING,
        bits::LOW_POWER_FACTOR,
        bits::COVER_OPEN,
    ];
    let rng = &mut Rng::keyed(seed, &[PURPOSE_TAMPER, u64::from(meter.index), key(used.day)]);
    let happens = rng.chance(faults.tamper_ppm);
    let from = used.start.plus_seconds(rng.between(600, 20 * 3600));
    let to = from.plus_seconds(rng.between(600, 3 * 3600));
    let kind = *rng.pick(&KINDS);
    // A load between phase and earth is known of single-phase meters alone.
    let three_phase = meter.profile == "is15959-d2";
    let kind = if kind == bits::EARTH_LOADING && three_phase { bits::MAGNET } else { kind };
    happens.then_some((kind, from, to))
}

/// The event status word at a moment of a day on which it changes so.
pub(crate) fn word_at(changes: &[(Instant, u8, bool)], at: Instant) -> EventWord {
    let mut word = EventWord::default();
    for &(_, bit, up) in changes.iter().filter(|(when, ..)| *when <= at) {
        let mask = 0x80 >> (bit % 8);
        let byte = &mut word.0[usize::from(bit / 8)];
        *byte = if up { *byte | mask } else { *byte & !mask };
    }
    word
}

fn cut_off(faults: &Faults, slots: usize, rng: &mut Rng) -> Option<CutOff> {
    let happens = rng.chance(faults.link_outage_ppm);
    let length = (1 + rng.below(12) + if rng.chance(250_000) { rng.below(24) } else { 0 }) as usize;
    let from = rng.below(slots as u64) as usize;
    let never = rng.chance(faults.never_delivered_ppm);
    let after = rng.between(300, 3 * 3600);
    let to = (from + length).min(slots);
    happens.then_some(CutOff { from, to, delivered_after_s: (!never).then_some(after) })
}

/// A wrong value of an interval that is pushed in time, or, one time in eight, of the register.
fn wrong(used: &DayUse, before: Carry, cut_off: Option<&CutOff>, rng: &mut Rng) -> Option<Wrong> {
    let slot = rng.below(used.intervals.len() as u64) as usize;
    let of_register = rng.below(8) == 0;
    let amount = rng.between(1, 40);
    if of_register {
        let after = before.register_wh + used.wh();
        return (used.wh() > amount && cut_off.is_none()).then(|| Wrong::Register { wh: after - amount });
    }
    if cut_off.is_some_and(|cut| (cut.from..cut.to).contains(&slot)) {
        return None;
    }
    let right = used.intervals[slot].wh;
    let wh = if right > amount && amount % 2 == 0 { right - amount } else { right + amount };
    Some(Wrong::Interval { slot, wh })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::options::Mix;
    use crate::provision::provision;

    fn planners(meters: u32, faults: Faults) -> Vec<Planner> {
        let from = "2026-06-01".parse().unwrap();
        provision(5, meters, from, &Mix::default())
            .into_iter()
            .map(|meter| Planner::new(5, Arc::new(meter), Calendar::india(), faults, Cadence::default()))
            .collect()
    }

    fn plans(meters: u32, days: u32, faults: Faults) -> Vec<Plan> {
        planners(meters, faults)
            .into_iter()
            .flat_map(|mut planner| (0..days).map(move |_| planner.plan()))
            .collect()
    }

    #[test]
    fn registers_are_the_opening_and_every_interval_since() {
        for mut planner in planners(20, Faults::default()) {
            let meter = Arc::clone(planner.meter());
            let (mut wh, mut vah) = (meter.opening_register_wh, meter.opening_register_vah);
            for _ in 0..35 {
                let measured = planner.plan().measured;
                assert_eq!((measured.before.register_wh, measured.before.register_vah), (wh, vah));
                wh += measured.used.intervals.iter().map(|interval| interval.wh).sum::<i64>();
                vah += measured.used.intervals.iter().map(|interval| interval.vah).sum::<i64>();
                assert_eq!(measured.registers_after(), (wh, vah));
            }
        }
    }

    #[test]
    fn without_faults_every_interval_and_register_is_pushed_once_and_in_time() {
        for plan in plans(20, 3, Faults::NONE) {
            let used = &plan.measured.used;
            let slots: Vec<usize> = plan
                .frames
                .iter()
                .filter_map(
                    |frame| if let Content::Interval(slot) = frame.content { Some(slot) } else { None },
                )
                .collect();
            assert_eq!(slots, (0..used.intervals.len()).collect::<Vec<_>>());
            assert_eq!(plan.frames.iter().filter(|frame| frame.content == Content::Daily).count(), 1);
            assert!(plan.frames.iter().all(|frame| frame.sent == frame.due && frame.again.is_none()));
            assert_eq!(
                plan.faults,
                Planned { days: 1, frames: plan.frames.len() as u64, ..Planned::default() }
            );
        }
    }

    #[test]
    fn counters_rise_with_the_time_a_push_is_made_under_each_key_and_never_come_twice() {
        let mut second = 0;
        for mut planner in planners(20, Faults::STORM) {
            let frames: Vec<PlannedFrame> = (0..46)
                .flat_map(|_| {
                    let Plan { frames, backlog, .. } = planner.plan();
                    let mut all: Vec<_> = frames
                        .into_iter()
                        .chain(backlog.into_iter().flat_map(|(_, frames)| frames))
                        .collect();
                    all.sort_by_key(|frame| frame.due);
                    all
                })
                .collect();
            let counters: HashSet<(u16, u32)> =
                frames.iter().map(|frame| (frame.key_epoch, frame.counter)).collect();
            assert_eq!(counters.len(), frames.len());
            assert!(frames.is_sorted_by_key(|frame| (frame.key_epoch, frame.counter)));
            let of_second: Vec<_> = frames.iter().filter(|frame| frame.key_epoch == SECOND_KEYS).collect();
            second += usize::from(of_second.first().is_some_and(|frame| frame.counter == 1));
        }
        assert!(second > 0, "nobody changed keys and began anew");
    }

    #[test]
    fn after_weeks_of_silence_every_day_comes_at_once_and_none_twice() {
        let faults = Faults { silent_ppm: 1_000_000, ..Faults::NONE };
        for mut planner in planners(20, faults) {
            let days: Vec<Plan> = (0..46).map(|_| planner.plan()).collect();
            let silent = days.iter().filter(|plan| plan.frames.is_empty()).count();
            assert!((14..=35).contains(&silent), "{silent}");
            let back = days.iter().find(|plan| !plan.backlog.is_empty()).unwrap();
            assert_eq!((back.backlog.len(), back.faults.silences), (silent, 1));
            let registers = |measured: &Measured| (measured.before, measured.registers_after());
            for (brought, frames) in &back.backlog {
                let lived = days.iter().find(|plan| plan.measured.used.day == brought.used.day).unwrap();
                assert!(lived.frames.is_empty() && lived.measured.used == brought.used);
                assert_eq!(registers(brought).1, registers(&lived.measured).1);
                let until = back.struck.iter().find(|struck| struck.kind == "silence").unwrap().until;
                assert!(frames.iter().all(|frame| frame.sent == until));
            }
        }
    }

    #[test]
    fn a_reading_under_a_garbage_stamp_comes_again_with_its_own() {
        let faults = Faults { garbage_time_ppm: 1_000_000, ..Faults::NONE };
        let mut kinds = HashSet::new();
        for plan in plans(50, 4, faults) {
            let place =
                |content: &Content| plan.frames.iter().position(|frame| frame.content == *content).unwrap();
            let garbled = plan.frames.iter().find(|frame| frame.content.garbage().is_some()).unwrap();
            kinds.insert(garbled.content.garbage().unwrap().name());
            let right = match garbled.content {
                Content::IntervalGarbled(slot, _) => Content::Intervals(vec![slot]),
                _ => Content::DailyRevised,
            };
            assert!(place(&garbled.content) < place(&right));
            assert_eq!((plan.faults.garbage_times, plan.struck.len()), (1, 1));
        }
        assert_eq!(kinds.len(), Garbage::ALL.len());
    }

    #[test]
    fn faults_happen_at_their_rates() {
        let rate = 100_000;
        let faults = Faults {
            power_outage_ppm: rate,
            link_outage_ppm: rate,
            never_delivered_ppm: 500_000,
            daily_lost_ppm: rate,
            duplicate_ppm: rate,
            late_ppm: rate,
            late_max_s: 86_400,
            reordered_ppm: rate,
            revision_ppm: rate,
            voltage_sag_ppm: rate,
            garbage_time_ppm: rate,
            ..Faults::NONE
        };
        let mut all = Planned::default();
        for plan in plans(100, 40, faults) {
            all.add(&plan.faults);
        }
        let near = |happened: u64, of: u64, what: &str| {
            assert!(happened * 100 > of * 8 && happened * 100 < of * 12, "{what}: {happened} of {of}");
        };
        near(all.power_outages, all.days, "power outages");
        near(all.link_outages, all.days, "link outages");
        near(all.daily_lost, all.days, "lost registers");
        near(all.revisions, all.days, "revisions");
        near(all.voltage_sags, all.days, "voltage sags");
        near(all.duplicates, all.frames, "duplicates");
        near(all.late, all.frames, "late pushes");
        near(all.reordered, all.frames, "overtaken pushes");
        assert!(
            all.never_delivered * 100 > all.link_outages * 40
                && all.never_delivered * 100 < all.link_outages * 60
        );
    }

    #[test]
    fn a_wrong_value_is_followed_by_the_right_one_with_a_higher_counter() {
        let faults = Faults { revision_ppm: 1_000_000, ..Faults::NONE };
        let mut registers = 0;
        for plan in plans(50, 4, faults) {
            let Some(wrong) = plan.measured.wrong else { continue };
            let place =
                |content: &Content| plan.frames.iter().position(|frame| frame.content == *content).unwrap();
            match wrong {
                Wrong::Interval { slot, wh } => {
                    assert_ne!(wh, plan.measured.used.intervals[slot].wh);
                    assert!(
                        wh >= 0 && place(&Content::Interval(slot)) < place(&Content::IntervalRevised(slot))
                    );
                }
                Wrong::Register { wh } => {
                    registers += 1;
                    assert!(
                        (plan.measured.before.register_wh..plan.measured.registers_after().0).contains(&wh)
                    );
                    assert!(place(&Content::Daily) < place(&Content::DailyRevised));
                }
            }
        }
        assert!(registers > 0);
    }

    #[test]
    fn a_link_outage_leaves_out_its_intervals_or_brings_them_later() {
        let faults = Faults { link_outage_ppm: 1_000_000, never_delivered_ppm: 500_000, ..Faults::NONE };
        for plan in plans(50, 4, faults) {
            let mut slots: Vec<usize> = Vec::new();
            for frame in &plan.frames {
                match &frame.content {
                    Content::Interval(slot) => slots.push(*slot),
                    Content::Intervals(late) => slots.extend(late),
                    _ => {}
                }
            }
            slots.sort_unstable();
            let complete = slots == (0..plan.measured.used.intervals.len()).collect::<Vec<_>>();
            assert_eq!(complete, plan.faults.never_delivered == 0);
        }
    }
}
