//! What stands behind a meter: a household with its rooms, appliances and habits, drawn from the seed.
//!
//! The load is made in steps of five minutes, in whole watts: what is always on, a refrigerator that cycles, light
//! after dark, fans, coolers and air conditioning by the weather, a geyser on cold mornings, and runs of appliances at
//! the hours they are used. An interval's energy is the whole Wh of its steps; what is left over is carried into the
//! next interval, so that the intervals of a day add up to the day. While the relay of its meter is open it draws nothing,
//! and the voltage, which is measured before the relay, stays.

use model::{Calendar, CivilDay, Instant};

use crate::options::Faults;
use crate::provision::{Category, SimulatedMeter};
use crate::rng::Rng;
use crate::supply::{Restraint, Supply};
use crate::weather::{Weather, key};

/// Length of a step, seconds.
pub(crate) const STEP_S: i64 = 300;
const STEP_MIN: i64 = STEP_S / 60;
/// Watt-steps in a watt-hour.
const STEPS_IN_HOUR: i64 = 3600 / STEP_S;
/// Watt-seconds in a watt-hour.
const HOUR_S: i64 = 3600;

const PURPOSE_HOUSEHOLD: u64 = 4;
const PURPOSE_HABIT: u64 = 5;
const PURPOSE_ABSENCE: u64 = 6;
const PURPOSE_OUTAGE: u64 = 7;
const PURPOSE_GRID: u64 = 8;
const PURPOSE_SAG: u64 = 12;

/// A household and how it uses electricity.
#[derive(Clone, Debug)]
pub struct Household {
    seed: u64,
    meter: u64,
    period_s: i64,
    power_outage_ppm: u32,
    voltage_sag_ppm: u32,
    cap_w: i64,
    standby_w: i64,
    fridge_w: i64,
    fridge_phase: i64,
    light_w: i64,
    fan_w: i64,
    cooler_w: i64,
    air_w: i64,
    geyser_w: i64,
    pump_w: i64,
    television_w: i64,
    cooking_w: i64,
    washing_w: i64,
    iron_w: i64,
    gadgets: bool,
    wake_min: i64,
    sleep_min: i64,
    works_away: bool,
    locked: bool,
    power_factor_milli: i64,
    voltage_dv: i64,
    supply: Supply,
}

/// What one meter measured on one civil day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUse {
    /// The day.
    pub day: CivilDay,
    /// Its first moment.
    pub start: Instant,
    /// Capture period, seconds.
    pub period_s: i64,
    /// The intervals, in order.
    pub intervals: Vec<IntervalUse>,
    /// Spans without supply.
    pub outages: Vec<(Instant, Instant)>,
    /// Spans with low voltage.
    pub sags: Vec<(Instant, Instant)>,
    /// How it was measured, where a relay may have a say in it.
    pub(crate) course: Option<Box<Course>>,
}

/// The course of a day: the load step by step, and what held it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    start: Instant,
    /// What the household would draw, W.
    load: Vec<i64>,
    restraints: Vec<Restraint>,
    /// Of each interval, thousandths.
    power_factors: Vec<i64>,
}

/// What a meter measured in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalUse {
    /// Active energy, Wh.
    pub wh: i64,
    /// Apparent energy, VAh.
    pub vah: i64,
    /// Average voltage, tenths of a volt.
    pub voltage_dv: i64,
}

impl Course {
    /// The load at that moment, and until when it stays.
    fn load(&self, at: Instant) -> (i64, Instant) {
        let step = (at.seconds() - self.start.seconds()).div_euclid(STEP_S);
        let mut until = self.start.plus_seconds((step + 1) * STEP_S);
        let mut watts = usize::try_from(step).ok().and_then(|step| self.load.get(step)).copied().unwrap_or(0);
        for restraint in &self.restraints {
            if restraint.holds(at) {
                watts = watts.min(restraint.most_w);
            }
            let changes = [restraint.from, restraint.until].into_iter().filter(|change| *change > at);
            until = changes.fold(until, Instant::min);
        }
        (watts, until)
    }

    /// Energy of that span, watt-seconds.
    fn watt_seconds(&self, from: Instant, until: Instant) -> i64 {
        let (mut at, mut sum) = (from, 0);
        while at < until {
            let (watts, changes) = self.load(at);
            let end = changes.min(until);
            sum += watts * (end.seconds() - at.seconds());
            at = end;
        }
        sum
    }

    /// Active (Wh) and apparent (VAh) energy of an interval that begins at `from`, up to `at`.
    pub(crate) fn part(&self, slot: usize, from: Instant, at: Instant) -> (i64, i64) {
        let before = self.watt_seconds(self.start, from);
        let at = Instant::from_seconds(at.seconds()).max(from);
        let wh = (before % HOUR_S + self.watt_seconds(from, at)) / HOUR_S;
        (wh, apparent(wh, self.power_factor(slot)))
    }

    /// Active (W) and apparent (VA) power at that moment.
    pub(crate) fn power(&self, slot: usize, at: Instant) -> (i64, i64) {
        let (watts, _) = self.load(at);
        (watts, apparent(watts, self.power_factor(slot)))
    }

    /// The spans in which the load is above that, or would be if nothing held it down.
    fn above(&self, most_w: i64, held_down: bool) -> Vec<(Instant, Instant)> {
        let free = Course { restraints: Vec::new(), ..self.clone() };
        let course = if held_down { self } else { &free };
        let end = self.start.plus_seconds(self.load.len() as i64 * STEP_S);
        let (mut at, mut spans): (_, Vec<(Instant, Instant)>) = (self.start, Vec::new());
        while at < end {
            let (watts, until) = course.load(at);
            match spans.last_mut().filter(|(_, over)| *over == at) {
                _ if watts <= most_w => {}
                Some((_, over)) => *over = until,
                None => spans.push((at, until)),
            }
            at = until;
        }
        spans
    }

    /// Whether the relay is open then.
    pub(crate) fn is_open(&self, at: Instant) -> bool {
        self.restraints.iter().any(|restraint| restraint.open && restraint.holds(at))
    }

    fn power_factor(&self, slot: usize) -> i64 {
        self.power_factors.get(slot).copied().unwrap_or(1000)
    }
}

/// The apparent part of that active one.
fn apparent(active: i64, power_factor_milli: i64) -> i64 {
    (active * 1000 + power_factor_milli - 1) / power_factor_milli
}

impl DayUse {
    /// Whether the relay is open at that moment of the day.
    pub(crate) fn is_open(&self, at: Instant) -> bool {
        self.course.as_ref().is_some_and(|course| course.is_open(at))
    }

    /// The spans in which the load is above that, or would be if nothing held it down, where it is known step by step: of
    /// meters that answer.
    pub(crate) fn above(&self, most_w: i64, held_down: bool) -> Vec<(Instant, Instant)> {
        self.course.as_ref().map(|course| course.above(most_w, held_down)).unwrap_or_default()
    }

    /// End of the interval of that number.
    #[must_use]
    pub fn end_of(&self, slot: usize) -> Instant {
        self.start.plus_seconds((slot as i64 + 1) * self.period_s)
    }

    /// End of the day.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.start.plus_seconds(self.intervals.len() as i64 * self.period_s)
    }

    /// Active energy of the day, Wh.
    #[must_use]
    pub fn wh(&self) -> i64 {
        self.intervals.iter().map(|interval| interval.wh).sum()
    }

    /// Apparent energy of the day, VAh.
    #[must_use]
    pub fn vah(&self) -> i64 {
        self.intervals.iter().map(|interval| interval.vah).sum()
    }
}

impl Household {
    /// The household behind that meter.
    #[must_use]
    pub fn new(seed: u64, meter: &SimulatedMeter, faults: &Faults) -> Household {
        let index = u64::from(meter.index);
        let rng = &mut Rng::keyed(seed, &[PURPOSE_HOUSEHOLD, index]);
        let urban = meter.category == Category::Urban;
        let lifeline = meter.category == Category::Lifeline;
        let load_kw = i64::from(meter.sanctioned_w / 1000).max(1);
        let mut owns = |urban_ppm: u32, rural_ppm: u32, lifeline_ppm: u32| {
            rng.chance(match meter.category {
                Category::Urban => urban_ppm,
                Category::Rural => rural_ppm,
                Category::Lifeline => lifeline_ppm,
            })
        };
        let standby = owns(950_000, 800_000, 600_000);
        let fridge = owns(880_000, 450_000, 200_000);
        let cooler = owns(450_000, 350_000, 150_000);
        let air = load_kw >= 2 && owns(550_000, 120_000, 0);
        let geyser = load_kw >= 2 && owns(550_000, 120_000, 0);
        let pump = owns(550_000, 450_000, 50_000);
        let television = owns(950_000, 750_000, 500_000);
        let cooking = owns(350_000, 100_000, 20_000);
        let washing = owns(600_000, 200_000, 20_000);
        let iron = owns(850_000, 550_000, 150_000);
        let gadgets = owns(700_000, 350_000, 60_000);
        let rooms = if lifeline {
            rng.between(1, 2)
        } else {
            rng.between(1, 2) + load_kw.min(if urban { 4 } else { 2 })
        };
        let when = |has: bool, watts: i64| if has { watts } else { 0 };
        Household {
            seed,
            meter: index,
            period_s: i64::from(meter.period_s),
            power_outage_ppm: faults.power_outage_ppm,
            voltage_sag_ppm: faults.voltage_sag_ppm,
            cap_w: i64::from(meter.sanctioned_w) * rng.between(95, 125) / 100,
            standby_w: when(standby, rng.between(3, if urban { 45 } else { 15 })),
            fridge_w: when(fridge, rng.between(85, 150)),
            fridge_phase: rng.between(0, 6),
            light_w: rooms * rng.between(9, 22),
            fan_w: rooms.min(if lifeline { 2 } else { 4 }) * rng.between(48, 75),
            cooler_w: when(cooler, rng.between(140, 220)),
            air_w: when(air, rng.between(900, 1500) * if load_kw >= 5 { rng.between(1, 2) } else { 1 }),
            geyser_w: when(geyser, rng.between(1500, 2000)),
            pump_w: when(pump, *rng.pick(&[370, 370, 550, 750])),
            television_w: when(television, rng.between(45, 120)),
            cooking_w: when(cooking, rng.between(900, 1800)),
            washing_w: when(washing, rng.between(250, 420)),
            iron_w: when(iron, rng.between(650, 1000)),
            gadgets,
            wake_min: rng.between(5 * 60, 7 * 60),
            sleep_min: rng.between(21 * 60 + 30, 23 * 60 + 30),
            works_away: rng.chance(if urban { 450_000 } else { 200_000 }),
            locked: rng.chance(15_000),
            power_factor_milli: rng.between(880, 985),
            voltage_dv: rng.between(if urban { 2260 } else { 2120 }, if urban { 2370 } else { 2300 }),
            supply: meter.supply.clone(),
        }
    }

    /// The same household behind no relay.
    pub(crate) fn without_relay(self) -> Household {
        Household { supply: Supply::default(), ..self }
    }

    /// What it would draw on that day step by step, W, if no relay were in its way.
    pub(crate) fn load(&self, day: CivilDay, calendar: &Calendar) -> Vec<i64> {
        let steps = steps_of(day, calendar);
        self.load_of(day, steps, self.outage(day, steps))
    }

    fn load_of(&self, day: CivilDay, steps: usize, outage: Option<(usize, usize)>) -> Vec<i64> {
        let mut load = vec![0; steps];
        self.draw(day, weekday(day), &mut load);
        for watts in &mut load {
            *watts = (*watts).min(self.cap_w);
        }
        if let Some((from, to)) = outage {
            load[from..to].fill(0);
        }
        load
    }

    /// What the meter measures on that day.
    #[must_use]
    pub fn day(&self, day: CivilDay, calendar: &Calendar) -> DayUse {
        let start = calendar.start_of(day);
        let steps = steps_of(day, calendar);
        let outage = self.outage(day, steps);
        let sag = self.sag(day, steps).filter(|sag| outage.is_none_or(|outage| !sag.touches(outage)));
        let load = self.load_of(day, steps, outage);
        let at = |step: usize| start.plus_seconds(step as i64 * STEP_S);
        let restraints = self.supply.restraints(start, at(steps));
        let mut course = restraints.map(|restraints| Course {
            start,
            load: Vec::new(),
            restraints,
            power_factors: Vec::new(),
        });
        let intervals = self.intervals(day, load, outage, sag, course.as_mut());
        DayUse {
            day,
            start,
            period_s: self.period_s,
            intervals,
            course: course.map(Box::new),
            outages: outage.map(|(from, to)| (at(from), at(to))).into_iter().collect(),
            sags: sag.map(|sag| (at(sag.from), at(sag.to))).into_iter().collect(),
        }
    }

    /// First step without supply and first one with it again.
    fn outage(&self, day: CivilDay, steps: usize) -> Option<(usize, usize)> {
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_OUTAGE, self.meter, key(day)]);
        if !rng.chance(self.power_outage_ppm) {
            return None;
        }
        let length =
            1 + rng.below(24) as usize + if rng.chance(150_000) { rng.below(60) as usize } else { 0 };
        let from = 1 + rng.below(steps.saturating_sub(length + 2) as u64) as usize;
        Some((from, from + length))
    }

    /// Low voltage for 20 minutes to 2.5 hours, within the day.
    fn sag(&self, day: CivilDay, steps: usize) -> Option<Sag> {
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_SAG, self.meter, key(day)]);
        if !rng.chance(self.voltage_sag_ppm) {
            return None;
        }
        let length = 4 + rng.below(27) as usize;
        let from = 1 + rng.below(steps.saturating_sub(length + 2) as u64) as usize;
        Some(Sag { from, to: from + length, percent: rng.between(55, 80) })
    }

    fn draw(&self, day: CivilDay, weekday: i64, load: &mut [i64]) {
        let weather = Weather::of(self.seed, day);
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_HABIT, self.meter, key(day)]);
        for (step, watts) in load.iter_mut().enumerate() {
            *watts += self.always_on(step as i64, weather.temperature(step as i64 * STEP_MIN));
        }
        if self.absent(day) {
            return;
        }
        let habit = Habit {
            weekend: weekday >= 6,
            wake: self.wake_min + rng.around(15) + if weekday >= 6 { 35 } else { 0 },
            sleep: self.sleep_min + rng.around(25) + if weekday == 5 || weekday == 6 { 25 } else { 0 },
            away: (self.works_away && weekday < 6)
                .then(|| (9 * 60 + 15 + rng.around(15), 17 * 60 + 30 + rng.around(40))),
        };
        let mut air_on = false;
        for (step, watts) in load.iter_mut().enumerate() {
            let minute = step as i64 * STEP_MIN;
            air_on = self.air_is_on(air_on, &habit, &weather, minute, rng);
            let air = if air_on { self.air_w * rng.between(55, 100) / 100 } else { 0 };
            *watts += self.light(&habit, &weather, minute) + self.cooling(&habit, &weather, minute, air);
        }
        self.runs(&habit, &weather, load, rng);
    }

    /// Nobody is at home: a journey of some days, or a house that is locked up for good.
    fn absent(&self, day: CivilDay) -> bool {
        let spell = u64::from(day.0.div_euclid(4).cast_unsigned());
        self.locked || Rng::keyed(self.seed, &[PURPOSE_ABSENCE, self.meter, spell]).chance(30_000)
    }

    fn always_on(&self, step: i64, temperature: i64) -> i64 {
        let on = 2 + (temperature - 200).clamp(0, 180) / 60;
        let cycling = (step + self.fridge_phase).rem_euclid(7) < on;
        self.standby_w + if self.locked || !cycling { 0 } else { self.fridge_w }
    }

    fn light(&self, habit: &Habit, weather: &Weather, minute: i64) -> i64 {
        let dark = minute < weather.sunrise_min + 10 || minute > weather.sunset_min - 10;
        let share = match (dark, habit.awake(minute), habit.evening(minute)) {
            (true, true, true) => 100,
            (true, true, false) => 55,
            (false, true, _) if !habit.is_away(minute) => 8,
            _ => 6,
        };
        self.light_w * share / 100
    }

    /// Whether the air conditioning runs: somebody rests in the room, and looks at it twice an hour or so.
    fn air_is_on(&self, was_on: bool, habit: &Habit, weather: &Weather, minute: i64, rng: &mut Rng) -> bool {
        let resting =
            !habit.awake(minute) || habit.evening(minute) || (habit.weekend && (780..1020).contains(&minute));
        if self.air_w == 0 || !resting || habit.is_away(minute) {
            return false;
        }
        let duty = (weather.temperature(minute) - 285).clamp(0, 110) * 100 / 130;
        if rng.chance(160_000) { rng.chance(u32::try_from(duty).unwrap_or(0) * 10_000) } else { was_on }
    }

    /// Fans by day and night, and a cooler when it is hot and no air conditioning runs.
    fn cooling(&self, habit: &Habit, weather: &Weather, minute: i64, air: i64) -> i64 {
        if habit.is_away(minute) {
            return 0;
        }
        let temperature = weather.temperature(minute);
        let share = if habit.awake(minute) { 90 } else { 75 };
        let fans = self.fan_w * (temperature - 230).clamp(0, 90) / 90 * share / 100;
        let cooler = if temperature > 300 { self.cooler_w } else { 0 };
        fans + if air > 0 { air } else { cooler }
    }

    /// Appliances that run for a while.
    fn runs(&self, habit: &Habit, weather: &Weather, load: &mut [i64], rng: &mut Rng) {
        let mut run = |watts: i64, at: i64, minutes: i64| add_run(load, watts, at, minutes);
        let cold = weather.temperature(habit.wake) < 200;
        if cold {
            (0..rng.between(1, 3)).for_each(|nth| run(self.geyser_w, habit.wake + 10 + nth * 25, 15));
        }
        run(self.pump_w, habit.wake + rng.between(0, 40), rng.between(15, 35));
        if rng.chance(350_000) {
            run(self.pump_w, 17 * 60 + rng.between(0, 90), rng.between(10, 25));
        }
        let meals = [habit.wake + 60, 12 * 60 + 40, 19 * 60 + 45];
        for meal in meals {
            if !habit.is_away(meal) && rng.chance(700_000) {
                run(self.cooking_w, meal + rng.around(20), rng.between(10, 30));
            }
        }
        let evening = 18 * 60 + rng.between(0, 60);
        run(self.television_w, evening, habit.sleep - evening - rng.between(0, 40));
        if habit.weekend || (habit.away.is_none() && rng.chance(400_000)) {
            run(self.television_w, 11 * 60 + rng.around(60), rng.between(60, 240));
        }
        if rng.chance(if habit.weekend { 450_000 } else { 180_000 }) {
            run(self.washing_w, 9 * 60 + rng.around(60), rng.between(35, 70));
        }
        if rng.chance(300_000) {
            run(self.iron_w, habit.wake + 50 + rng.around(10), rng.between(5, 20));
        }
        // Chargers, a mixer, a light in another room: small and at any waking hour.
        for _ in 0..rng.between(1, 5) {
            let at = rng.between(habit.wake, habit.sleep);
            if !habit.is_away(at) {
                run(rng.between(10, self.light_w + 120), at, rng.between(5, 90));
            }
        }
        // A kettle, a toaster, a microwave oven: strong and short.
        let strong = if self.gadgets { rng.between(0, 5) } else { 0 };
        for _ in 0..strong {
            let at = rng.between(habit.wake, habit.sleep);
            if !habit.is_away(at) {
                run(rng.between(400, 1600), at, rng.between(4, 18));
            }
        }
    }

    fn intervals(
        &self,
        day: CivilDay,
        load: Vec<i64>,
        outage: Option<(usize, usize)>,
        low: Option<Sag>,
        mut course: Option<&mut Course>,
    ) -> Vec<IntervalUse> {
        let rng = &mut Rng::keyed(self.seed, &[PURPOSE_GRID, self.meter, key(day)]);
        let steps = usize::try_from(self.period_s / STEP_S).unwrap_or(1).max(1);
        let dark = |first: usize| outage.is_some_and(|(from, to)| from <= first && first + steps <= to);
        let mut left = 0;
        let mut sag = rng.around(15);
        let drawn: Vec<i64> = match &mut course {
            None => load.chunks(steps).map(|steps| steps.iter().sum::<i64>() * STEP_S).collect(),
            Some(course) => {
                let slots = load.len().div_ceil(steps);
                course.load = load;
                let at = |slot: usize| course.start.plus_seconds((slot * steps) as i64 * STEP_S);
                (0..slots).map(|slot| course.watt_seconds(at(slot), at(slot + 1))).collect()
            }
        };
        drawn
            .into_iter()
            .enumerate()
            .map(|(slot, watt_seconds)| {
                let wh = (watt_seconds + left) / HOUR_S;
                left = (watt_seconds + left) % HOUR_S;
                sag = sag * 4 / 5 + rng.around(12);
                let hour = (slot * steps) as i64 * STEP_MIN / 60;
                let peak = if (18..23).contains(&hour) { 60 } else { 0 };
                let drop = wh * STEPS_IN_HOUR / steps as i64 / 60;
                let power_factor = self.power_factor_milli + rng.between(-15, 15);
                let voltage_dv = self.voltage_dv - peak - drop + sag;
                course.iter_mut().for_each(|course| course.power_factors.push(power_factor));
                IntervalUse {
                    wh,
                    vah: apparent(wh, power_factor),
                    voltage_dv: if dark(slot * steps) {
                        0
                    } else {
                        low.map_or(voltage_dv, |low| low.mean(voltage_dv, slot * steps, steps))
                    },
                }
            })
            .collect()
    }

    /// Power factor of the whole household, thousandths.
    pub(crate) fn power_factor_milli(&self) -> i64 {
        self.power_factor_milli
    }
}

/// Steps of a day.
fn steps_of(day: CivilDay, calendar: &Calendar) -> usize {
    let length_s = calendar.start_of(day.next()).seconds() - calendar.start_of(day).seconds();
    usize::try_from(length_s / STEP_S).unwrap_or(0)
}

/// Low voltage from one step up to, not including, another.
#[derive(Clone, Copy)]
struct Sag {
    from: usize,
    to: usize,
    /// What is left of the voltage.
    percent: i64,
}

impl Sag {
    fn touches(&self, (from, to): (usize, usize)) -> bool {
        self.from <= to && from <= self.to
    }

    /// The average voltage of so many steps from `first` on, which is `voltage_dv` outside of the sag.
    fn mean(&self, voltage_dv: i64, first: usize, steps: usize) -> i64 {
        let low = self.to.min(first + steps).saturating_sub(self.from.max(first));
        voltage_dv - voltage_dv * (100 - self.percent) * low as i64 / (100 * steps as i64)
    }
}

/// The hours of one day.
struct Habit {
    weekend: bool,
    wake: i64,
    sleep: i64,
    away: Option<(i64, i64)>,
}

impl Habit {
    fn awake(&self, minute: i64) -> bool {
        (self.wake..self.sleep).contains(&minute)
    }

    fn evening(&self, minute: i64) -> bool {
        minute >= 17 * 60 + 30 && self.awake(minute)
    }

    fn is_away(&self, minute: i64) -> bool {
        self.away.is_some_and(|(from, to)| (from..to).contains(&minute))
    }
}

/// Adds a run of so many minutes; steps it covers in part get that part.
fn add_run(load: &mut [i64], watts: i64, at: i64, minutes: i64) {
    let (from, to) = (at, at + minutes.max(0));
    let first = from.div_euclid(STEP_MIN).max(0) as usize;
    for (step, slot) in load.iter_mut().enumerate().skip(first) {
        let (begin, end) = (step as i64 * STEP_MIN, (step as i64 + 1) * STEP_MIN);
        if begin >= to {
            break;
        }
        *slot += watts * (end.min(to) - begin.max(from)).max(0) / STEP_MIN;
    }
}

/// Day of the week, 1 is Monday; 1970-01-01 was a Thursday.
fn weekday(day: CivilDay) -> i64 {
    i64::from((day.0 + 3).rem_euclid(7) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mix;
    use crate::provision::provision;

    fn households(count: u32, faults: &Faults) -> Vec<(SimulatedMeter, Household)> {
        let from = "2026-06-01".parse().unwrap();
        let meters = provision(11, count, from, &Mix { quarter_hour_ppm: 0, ..Mix::default() });
        meters.into_iter().map(|meter| (meter.clone(), Household::new(11, &meter, faults))).collect()
    }

    fn series(household: &Household, from: &str, days: i32) -> Vec<i64> {
        let first: CivilDay = from.parse().unwrap();
        let day = |ahead| household.day(first.plus(ahead), &Calendar::india());
        (0..days).flat_map(|ahead| day(ahead).intervals).map(|interval| interval.wh).collect()
    }

    /// Correlation of neighbours, thousandths; `None` for a flat line.
    fn lag_one_milli(series: &[i64]) -> Option<i64> {
        let count = series.len() as i128;
        let sum: i128 = series.iter().map(|&v| i128::from(v)).sum();
        let off = |v: i64| i128::from(v) * count - sum;
        let variance: i128 = series.iter().map(|&v| off(v) * off(v)).sum();
        let covariance: i128 = series.windows(2).map(|w| off(w[0]) * off(w[1])).sum();
        (variance > 0).then(|| (covariance * 1000 / variance) as i64)
    }

    #[test]
    fn a_day_is_determined_by_seed_meter_and_date() {
        let (_, one) = &households(3, &Faults::default())[2];
        let day = "2026-07-03".parse().unwrap();
        assert_eq!(one.day(day, &Calendar::india()), one.day(day, &Calendar::india()));
        assert_ne!(
            one.day(day, &Calendar::india()).intervals,
            one.day(day.next(), &Calendar::india()).intervals
        );
    }

    /// Single households of the SimBench data set have, over a year of half-hours, a lag-1 correlation of
    /// 0.63 to 0.75 and a load factor of 0.08 to 0.15.
    #[test]
    fn neighbouring_half_hours_are_alike_and_load_factors_are_those_of_homes() {
        let fleet = households(60, &Faults::default());
        let (mut lags, mut factors, mut zeros, mut all) = (Vec::new(), Vec::new(), 0, 0);
        for (_, household) in &fleet {
            let series = series(household, "2026-01-01", 365);
            lags.extend(lag_one_milli(&series));
            let peak = *series.iter().max().unwrap();
            if peak > 0 {
                factors.push(series.iter().sum::<i64>() * 1000 / peak / series.len() as i64);
            }
            zeros += series.iter().filter(|&&wh| wh == 0).count();
            all += series.len();
        }
        lags.sort_unstable();
        factors.sort_unstable();
        let (lag, factor) = (lags[lags.len() / 2], factors[factors.len() / 2]);
        let zero_share = zeros * 1000 / all;
        println!("lag-1 {lag} load factor {factor} zero share {zero_share} (medians, thousandths)");
        assert!((550..800).contains(&lag), "{lag}");
        assert!((80..250).contains(&factor), "{factor}");
        assert!((2..80).contains(&zero_share), "{zero_share}");
    }

    #[test]
    fn a_month_costs_what_its_category_uses() {
        let fleet = households(300, &Faults::NONE);
        let mean = |category: Category| {
            let all: Vec<i64> = fleet
                .iter()
                .filter(|(meter, _)| meter.category == category)
                .map(|(_, household)| series(household, "2026-06-01", 30).iter().sum::<i64>())
                .collect();
            all.iter().sum::<i64>() / all.len() as i64
        };
        let (urban, rural, lifeline) =
            (mean(Category::Urban), mean(Category::Rural), mean(Category::Lifeline));
        println!("urban {urban} rural {rural} lifeline {lifeline} Wh a month");
        assert!((150_000..450_000).contains(&urban), "{urban}");
        assert!((70_000..200_000).contains(&rural), "{rural}");
        assert!((25_000..100_000).contains(&lifeline), "{lifeline}");
    }

    #[test]
    fn evenings_are_above_the_small_hours_and_summer_above_spring() {
        let fleet = households(100, &Faults::NONE);
        let sum = |from: &str, slots: std::ops::Range<usize>| -> i64 {
            fleet
                .iter()
                .map(|(_, household)| {
                    let series = series(household, from, 14);
                    series.chunks(48).map(|day| day[slots.clone()].iter().sum::<i64>()).sum::<i64>()
                })
                .sum()
        };
        assert!(sum("2026-03-01", 38..42) > 2 * sum("2026-03-01", 4..8));
        assert!(sum("2026-06-01", 0..48) * 10 > sum("2026-03-01", 0..48) * 13);
    }

    #[test]
    fn a_supply_outage_uses_nothing() {
        let faults = Faults { power_outage_ppm: 1_000_000, ..Faults::NONE };
        for (_, household) in households(50, &faults) {
            let day = household.day("2026-06-05".parse().unwrap(), &Calendar::india());
            let (from, to) = day.outages[0];
            assert!(day.start < from && from < to && to < day.end());
            for (slot, interval) in day.intervals.iter().enumerate() {
                let begin = day.end_of(slot).plus_seconds(-day.period_s);
                if from <= begin && day.end_of(slot) <= to {
                    assert_eq!((interval.wh, interval.voltage_dv), (0, 0));
                }
            }
        }
    }

    #[test]
    fn a_sag_lowers_the_voltage_and_nothing_else() {
        let faults = Faults { voltage_sag_ppm: 1_000_000, ..Faults::NONE };
        let (low, level) = (households(50, &faults), households(50, &Faults::NONE));
        for ((_, low), (_, level)) in low.iter().zip(&level) {
            let day = "2026-06-05".parse().unwrap();
            let (low, level) = (low.day(day, &Calendar::india()), level.day(day, &Calendar::india()));
            let (from, to) = low.sags[0];
            assert!(low.start < from && from < to && to < low.end() && level.sags.is_empty());
            for (slot, (low_use, level_use)) in low.intervals.iter().zip(&level.intervals).enumerate() {
                let (begin, end) = (low.end_of(slot).plus_seconds(-low.period_s), low.end_of(slot));
                assert_eq!((low_use.wh, low_use.vah), (level_use.wh, level_use.vah));
                let percent = low_use.voltage_dv * 100 / level_use.voltage_dv;
                match (from <= begin && end <= to, begin < to && from < end) {
                    (true, _) => assert!((54..=80).contains(&percent), "{percent}"),
                    (false, true) => assert!((54..100).contains(&percent), "{percent}"),
                    (false, false) => assert_eq!(low_use.voltage_dv, level_use.voltage_dv),
                }
            }
        }
    }

    #[test]
    fn days_of_a_zone_with_summer_time_have_46_or_50_intervals() {
        let (_, household) = &households(1, &Faults::NONE)[0];
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let intervals = |day: &str| household.day(day.parse().unwrap(), &berlin).intervals.len();
        assert_eq!([intervals("2026-03-29"), intervals("2026-10-25"), intervals("2026-06-01")], [46, 50, 48]);
    }

    #[test]
    fn the_first_of_june_2026_is_a_monday() {
        assert_eq!(weekday("2026-06-01".parse().unwrap()), 1);
        assert_eq!(weekday("1969-12-31".parse().unwrap()), 3);
    }
}
