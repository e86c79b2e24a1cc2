//! What lets a household draw: the relay of its meter and the limit of its load, and how they stood when.
//!
//! A meter that answers and the planner of its pushes share it, so that what is pushed, what is read and what the truth
//! tells are one. What was measured up to a moment is settled: a move that comes later is never dated before it. Moves
//! are at whole seconds, and are written into the truth file before they are answered, so that a fleet that is started
//! again finds its relays as they were.

mod limit;
mod relay;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use codec::apdu::ActionResult;
use codec::cosem::disconnect_control::{ControlMode, ControlState, Transition};
use model::{Calendar, CivilDay, Instant};

use crate::Truth;
use crate::household::{Household, STEP_S};
pub(crate) use limit::{Limit, RELAY_SCRIPTS};
pub use relay::Behaviour;
pub(crate) use relay::Relay;

/// A relay that has moved so often is worn out, and moves no more.
const MAX_MOVES: usize = 20_000;
/// After a cut for its load a household keeps below the limit for so long, seconds: something was switched off.
const SHED_S: i64 = 3600;
/// The end of what does not end.
const NEVER: Instant = Instant(i64::MAX);

/// The supply behind a meter. Clones tell of the same. It is nothing, and costs nothing, until a meter answers.
#[derive(Clone, Default)]
pub struct Supply(Arc<OnceLock<Box<Mutex<State>>>>);

/// A move of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// When, at a whole second.
    pub(crate) at: Instant,
    /// Where it stands from then on.
    pub(crate) state: ControlState,
    /// By whom.
    pub(crate) cause: Cause,
    /// The limit that was passed, W, where it was cut for that.
    pub(crate) limit_w: Option<i64>,
}

/// Who moved a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    Remote,
    Meter,
    Button,
}

/// A span in which a household draws no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restraint {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    pub(crate) most_w: i64,
    /// Whether the relay is open.
    pub(crate) open: bool,
}

impl Restraint {
    pub(crate) fn holds(&self, at: Instant) -> bool {
        self.from <= at && at < self.until
    }
}

#[derive(Debug, Default)]
struct State {
    moves: Vec<Move>,
    /// How many of them the truth has.
    told: usize,
    truth: Option<(Truth, u32)>,
    /// What was measured before is settled.
    settled: Option<Instant>,
    watch: Option<Watch>,
}

/// What a meter that answers looks after.
#[derive(Debug)]
pub(crate) struct Watch {
    relay: Relay,
    limit: Limit,
    household: Household,
    calendar: Calendar,
    /// The load of the day that is looked at, and its first moment.
    today: Option<(CivilDay, Instant, Vec<i64>)>,
    /// Everything before was looked at.
    seen: Instant,
    /// Since when the load is above the limit.
    over_since: Option<Instant>,
}

impl Watch {
    pub(crate) fn new(
        relay: Relay,
        limit: Limit,
        household: Household,
        calendar: Calendar,
        now: Instant,
    ) -> Watch {
        Watch { relay, limit, household, calendar, today: None, seen: now, over_since: None }
    }
}

impl Supply {
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.get().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begun(&self) -> MutexGuard<'_, State> {
        let state = self.0.get_or_init(Box::default);
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a relay ever moved, or may.
    pub(crate) fn is_live(&self) -> bool {
        self.0.get().is_some()
    }

    /// A meter answers from now on. Its relay stands as the last move left it.
    pub(crate) fn watch(&self, mut watch: Watch) {
        let mut state = self.begun();
        state.moves.last().into_iter().for_each(|last| watch.relay.stand(last));
        watch.seen = watch.seen.max(state.settled.unwrap_or(watch.seen));
        state.watch = Some(watch);
    }

    /// Moves that a truth file tells of.
    pub(crate) fn restore(&self, moves: Vec<Move>) {
        let mut state = self.begun();
        (state.told, state.moves) = (moves.len(), moves);
    }

    /// Moves are written there from now on; those that were not are.
    pub(crate) fn keep(&self, truth: &Truth, meter: u32) {
        let Some(mut state) = self.state() else { return };
        state.truth = Some((truth.clone(), meter));
        state.tell();
    }

    /// Time passes: what the limit and the button do up to `until` is done, and what is measured before is settled.
    pub(crate) fn pass(&self, until: Instant) {
        self.state().into_iter().for_each(|mut state| state.pass(until));
    }

    /// What is measured before is settled.
    pub(crate) fn settled(&self) -> Option<Instant> {
        self.state()?.settled
    }

    /// What restrains the load in that span; `None` where nothing ever may.
    pub(crate) fn restraints(&self, from: Instant, until: Instant) -> Option<Vec<Restraint>> {
        self.state().map(|state| restraints(&state.moves, from, until))
    }

    /// The moves at which the premises were cut off or supplied again, and whether they are supplied from then on.
    pub(crate) fn switched(&self) -> Vec<(Instant, bool)> {
        let Some(state) = self.state() else { return Vec::new() };
        let mut supplied = true;
        let mut switched = Vec::new();
        for Move { at, state, .. } in &state.moves {
            let now = *state == ControlState::Connected;
            if now != supplied {
                switched.push((*at, now));
            }
            supplied = now;
        }
        switched
    }

    /// When the meter cut for its load, and when the premises were supplied again after that.
    pub(crate) fn overloads(&self) -> Vec<(Instant, Option<Instant>)> {
        let Some(state) = self.state() else { return Vec::new() };
        let mut overloads: Vec<(Instant, Option<Instant>)> = Vec::new();
        for Move { at, state, limit_w, .. } in &state.moves {
            match overloads.last_mut().filter(|(_, until)| until.is_none()) {
                Some((_, until)) if *state == ControlState::Connected => *until = Some(*at),
                None if limit_w.is_some() => overloads.push((*at, None)),
                _ => {}
            }
        }
        overloads
    }

    /// How the relay stands, and its mode.
    pub(crate) fn stands(&self) -> (ControlState, ControlMode) {
        let state = self.state();
        let relay = state.as_ref().and_then(|state| state.watch.as_ref()).map(|watch| &watch.relay);
        relay.map_or((ControlState::Connected, ControlMode::None), |relay| (relay.state(), relay.mode))
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stands().0 == ControlState::Connected
    }

    /// The mode is another from `now` on.
    pub(crate) fn set_mode(&self, mode: ControlMode, now: Instant) {
        self.change(now, |watch| watch.relay.mode = mode);
    }

    /// The limit is another from `now` on.
    pub(crate) fn set_limit(&self, limit: Limit, now: Instant) {
        self.change(now, |watch| watch.limit = limit);
    }

    fn change(&self, now: Instant, change: impl FnOnce(&mut Watch)) {
        let Some(mut state) = self.state() else { return };
        state.pass(now);
        state.watch.as_mut().map(change);
    }

    /// Does what the head-end asks for.
    pub(crate) fn switch(&self, transition: Transition, now: Instant) -> Result<(), ActionResult> {
        let Some(mut state) = self.state() else { return Err(ActionResult::ObjectUnavailable) };
        state.pass(now);
        let at = whole_second(now.max(state.settled.unwrap_or(now)));
        let worn_out = state.moves.len() >= MAX_MOVES;
        let Some(watch) = &mut state.watch else { return Err(ActionResult::ObjectUnavailable) };
        let Some(next) = watch.relay.asked(transition)? else { return Ok(()) };
        if worn_out {
            return Err(ActionResult::HardwareFault);
        }
        state.record(Move { at, state: next, cause: Cause::Remote, limit_w: None });
        state.pass(at);
        Ok(())
    }
}

impl State {
    fn pass(&mut self, until: Instant) {
        while self.moves.len() < MAX_MOVES
            && let Some(next) = self.next_move(until)
        {
            self.record(next);
        }
        self.settled = self.settled.max(Some(until));
    }

    /// The relay moves, and the truth is told.
    fn record(&mut self, next: Move) {
        self.moves.push(next);
        self.watch.as_mut().into_iter().for_each(|watch| watch.relay.stand(&next));
        self.tell();
    }

    fn tell(&mut self) {
        let Some((truth, meter)) = &self.truth else { return };
        while let Some(next) = self.moves.get(self.told) {
            if let Err(error) = truth.relay(*meter, next) {
                tracing::error!(meter, %error, "a move of a relay is not in the truth");
                return;
            }
            self.told += 1;
        }
    }

    /// The next move that nobody asked for, up to `until`.
    fn next_move(&mut self, until: Instant) -> Option<Move> {
        let watch = self.watch.as_mut()?;
        let Limit { threshold_w, over_s, under_s } = watch.limit;
        while watch.seen < until {
            let now = watch.seen;
            if !watch.relay.is_connected() {
                watch.over_since = None;
                let Some((at, cause)) = watch.relay.closes_at(under_s).filter(|(at, _)| *at <= until) else {
                    watch.seen = until;
                    return None;
                };
                watch.seen = at.max(now);
                let at = whole_second(watch.seen);
                return Some(Move { at, state: ControlState::Connected, cause, limit_w: None });
            }
            let (load, changes) = watch.load(&self.moves);
            let changes = changes.min(until);
            let cut = over_s.zip(watch.relay.after(Transition::LocalDisconnect));
            let Some((over_s, state)) = cut.filter(|_| load > threshold_w) else {
                (watch.over_since, watch.seen) = (None, changes);
                continue;
            };
            let cut_at = watch.over_since.get_or_insert(now).plus_seconds(over_s).max(now);
            if cut_at > changes {
                watch.seen = changes;
                continue;
            }
            (watch.over_since, watch.seen) = (None, cut_at);
            let at = whole_second(cut_at);
            return Some(Move { at, state, cause: Cause::Meter, limit_w: Some(threshold_w) });
        }
        None
    }
}

impl Watch {
    /// The load at the moment that is looked at, while the relay is closed, and until when it stays.
    fn load(&mut self, moves: &[Move]) -> (i64, Instant) {
        let day = self.calendar.day_of(self.seen);
        if self.today.as_ref().is_none_or(|(of, ..)| *of != day) {
            let start = self.calendar.start_of(day);
            self.today = Some((day, start, self.household.load(day, &self.calendar)));
        }
        let end = self.calendar.end_of(day);
        let Some((_, start, load)) = &self.today else { return (0, end) };
        let step = (self.seen.seconds() - start.seconds()) / STEP_S;
        let over = start.plus_seconds((step + 1) * STEP_S).min(end);
        let watts = usize::try_from(step).ok().and_then(|step| load.get(step)).copied().unwrap_or(0);
        match moves.iter().rev().find_map(shed).filter(|shed| shed.holds(self.seen)) {
            Some(shed) => (watts.min(shed.most_w), over.min(shed.until)),
            None => (watts, over),
        }
    }
}

/// What a household keeps below after that move.
fn shed(last: &Move) -> Option<Restraint> {
    let most_w = last.limit_w?;
    Some(Restraint { from: last.at, until: last.at.plus_seconds(SHED_S), most_w, open: false })
}

fn restraints(moves: &[Move], from: Instant, until: Instant) -> Vec<Restraint> {
    let mut all: Vec<Restraint> = moves.iter().filter_map(shed).collect();
    let mut open_since = None;
    for Move { at, state, .. } in moves {
        match (open_since, state) {
            (Some(since), ControlState::Connected) => {
                all.push(Restraint { from: since, until: *at, most_w: 0, open: true });
                open_since = None;
            }
            (None, ControlState::Disconnected | ControlState::ReadyForReconnection) => open_since = Some(*at),
            _ => {}
        }
    }
    all.extend(open_since.map(|from| Restraint { from, until: NEVER, most_w: 0, open: true }));
    all.retain(|one| one.from < until && from < one.until);
    all
}

/// The second that has begun: energy is measured by the second, and that of this one is not measured yet.
fn whole_second(at: Instant) -> Instant {
    Instant::from_seconds(at.seconds())
}

impl fmt::Debug for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_live() { "Supply(live)" } else { "Supply(none)" })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use model::Channel;
    use profiles::Profile;

    use super::*;
    use crate::meter::{Access, Meter, MeterOptions};
    use crate::{Faults, FleetOptions, Kind, Mix, Pace, Schedule, SimulatedMeter, provision};

    const DAY: &str = "2026-06-12";

    fn at(hour: i8, minute: i8) -> Instant {
        Calendar::india().at(DAY.parse().unwrap(), hour, minute)
    }

    /// A meter that answers from noon on, and what is pushed for it.
    struct World {
        options: FleetOptions,
        identity: Arc<SimulatedMeter>,
        meter: Meter,
        schedule: Schedule,
        /// What was pushed: energy, voltage and current of each interval by its end; daily registers.
        intervals: BTreeMap<Instant, [i64; 3]>,
        registers: Vec<i64>,
    }

    impl World {
        /// Begins to answer at `now`; what was due before was sent.
        fn new(dir: &Path, now: Instant, change: impl FnOnce(&mut MeterOptions)) -> World {
            let mix = Mix { three_phase_ppm: 0, quarter_hour_ppm: 0, float_ppm: 0, ..Mix::default() };
            let from = "2026-06-10".parse().unwrap();
            let options = FleetOptions { mix, faults: Faults::NONE, ..FleetOptions::new(5, 20, from) };
            let profiles: Vec<Arc<Profile>> = Profile::builtin().into_iter().map(Arc::new).collect();
            let meters = provision(options.seed, options.meters, options.from, &options.mix);
            let truth = Truth::open(&dir.join("truth.jsonl"), &options, &meters).unwrap();
            let always = |meter: &&SimulatedMeter| {
                let household = Household::new(options.seed, meter, &options.faults);
                household.load(DAY.parse().unwrap(), &options.calendar).iter().all(|watts| *watts >= 40)
            };
            let identity = Arc::new(meters.iter().find(always).unwrap().clone());
            let moves = truth.moves().unwrap().remove(&identity.index);
            moves.into_iter().for_each(|moves| identity.supply.restore(moves));
            let own = [Arc::clone(&identity)];
            let mut schedule =
                Schedule::with(&options, &own, &profiles, false, Arc::default(), truth.clone()).unwrap();
            schedule.skip(now).unwrap();
            let mut how = MeterOptions::new(Access::of(options.seed, identity.index));
            change(&mut how);
            let meter = Meter::new(&options, Arc::clone(&identity), &profiles, how, now).unwrap();
            identity.supply.keep(&truth, identity.index);
            let (intervals, registers) = (BTreeMap::new(), Vec::new());
            World { options, identity, meter, schedule, intervals, registers }
        }

        fn push(&mut self, until: Instant) {
            while let Some(due) = self.schedule.next(until, Pace::Live).unwrap() {
                for (end, values) in &due.frame.readings {
                    let value = |channel| values.get(channel).unwrap_or(0);
                    let interval = [Channel::ImportWh, Channel::VoltageDv, Channel::CurrentMa].map(value);
                    match due.frame.kind {
                        Kind::Interval if *end <= at(0, 0) => {}
                        Kind::Interval => _ = self.intervals.insert(*end, interval),
                        Kind::Daily => self.registers.push(value(Channel::ImportWh)),
                        Kind::Instant | Kind::Event => {}
                    }
                }
            }
        }

        fn switch(&self, transition: Transition, now: Instant) {
            self.identity.supply.switch(transition, now).unwrap();
        }

        /// What the household would use if no relay were in its way.
        fn free(&self, day: &str) -> crate::DayUse {
            let household = Household::new(self.options.seed, &self.identity, &self.options.faults);
            household.without_relay().day(day.parse().unwrap(), &self.options.calendar)
        }

        fn switched(&self) -> Vec<(Instant, bool)> {
            self.identity.supply.switched()
        }
    }

    fn lines(dir: &Path, kind: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.join("truth.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["line"] == kind).collect()
    }

    #[test]
    fn while_the_relay_is_open_nothing_is_used_and_the_supply_side_has_its_voltage() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), at(12, 0), |_| ());
        world.push(at(14, 7));
        world.switch(Transition::RemoteDisconnect, at(14, 7));
        world.push(at(16, 22));
        world.switch(Transition::RemoteReconnect, at(16, 22));
        world.push(at(0, 0).plus_seconds(49 * 1800));
        let free = world.free(DAY);
        for (slot, interval) in free.intervals.iter().enumerate().skip(25) {
            let [wh, voltage, current] = world.intervals[&free.end_of(slot)];
            match free.end_of(slot) {
                end if end <= at(14, 0) => assert_eq!((wh, voltage), (interval.wh, interval.voltage_dv)),
                end if end == at(14, 30) || end == at(16, 30) => assert!(0 < wh && wh < interval.wh, "{wh}"),
                end if end <= at(16, 0) => {
                    assert!(interval.wh > 0 && voltage > 2000, "{voltage}");
                    assert_eq!((wh, current), (0, 0));
                }
                _ => assert!((wh - interval.wh).abs() <= 1 && current > 0, "{wh} {}", interval.wh),
            }
        }
    }

    #[test]
    fn the_truth_the_pushed_intervals_and_the_registers_are_one_and_a_register_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), at(0, 0), |how| how.button_after_s = None);
        let mut last = 0;
        for minute in (0..26 * 60).step_by(7) {
            let now = at(0, 0).plus_seconds(minute * 60 + 13);
            // Each time another second of the interval.
            match minute % 5 {
                0 => world.switch(Transition::RemoteDisconnect, now),
                3 => world.switch(Transition::RemoteReconnect, now),
                _ => {}
            }
            world.push(now);
            let held = world.meter.held(now).unwrap();
            let register = held.registers.get(Channel::ImportWh).unwrap();
            assert!(register >= last, "{register} after {last}");
            last = register;
            for (end, [wh, ..]) in &world.intervals {
                let row = held.block.iter().find(|(row, _)| row == end).unwrap();
                assert_eq!(row.1.get(Channel::ImportWh), Some(*wh), "{end}");
            }
        }
        let used = lines(dir.path(), "used");
        let today: Vec<_> = used.iter().filter(|line| line["day"] == DAY).collect();
        assert_eq!(today.len(), 1, "told once, when the day is over");
        let wh: Vec<i64> = serde_json::from_value(today[0]["wh"].clone()).unwrap();
        let pushed: Vec<i64> = world.intervals.values().map(|[wh, ..]| *wh).take(48).collect();
        assert_eq!(wh, pushed);
        assert!(wh.iter().sum::<i64>() < world.free(DAY).wh(), "something was cut off");
        let yesterday = used.iter().find(|line| line["day"] == "2026-06-11");
        let before = match yesterday {
            Some(line) => line["register_wh"].as_i64().unwrap(),
            None => today[0]["register_wh"].as_i64().unwrap() - wh.iter().sum::<i64>(),
        };
        assert_eq!(today[0]["register_wh"].as_i64().unwrap(), before + wh.iter().sum::<i64>());
        assert_eq!(world.registers.last().copied(), today[0]["register_wh"].as_i64());
        assert!(lines(dir.path(), "relay").len() > 40);
    }

    #[test]
    fn a_move_is_never_dated_before_what_was_pushed() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), at(12, 0), |_| ());
        world.push(at(15, 10));
        let pushed = world.intervals.clone();
        world.switch(Transition::RemoteDisconnect, at(14, 7));
        assert_eq!(world.switched(), [(at(15, 10), false)]);
        let held = world.meter.held(at(15, 10)).unwrap();
        for (end, [wh, ..]) in pushed {
            let row = held.block.iter().find(|(row, _)| *row == end).unwrap();
            assert_eq!(row.1.get(Channel::ImportWh), Some(wh));
        }
    }

    #[test]
    fn a_meter_that_is_over_its_limit_for_long_enough_cuts_and_reconnects_as_its_mode_says() {
        // (mode, somebody presses the button, seconds after which it is closed again)
        for (mode, button, closed_after) in [
            (4, Some(40), Some(40)),
            (4, None, None),
            (5, Some(40), Some(25)),
            (6, None, Some(25)),
            (0, Some(40), None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let change = |how: &mut MeterOptions| (how.relay_mode, how.button_after_s) = (mode, button);
            let mut world = World::new(dir.path(), at(12, 0), change);
            let limit = Limit { threshold_w: 20, over_s: Some(90), under_s: Some(25) };
            world.identity.supply.set_limit(limit, at(12, 0));
            world.push(at(15, 0));
            let switched = world.switched();
            let cut = at(12, 1).plus_seconds(30);
            match (mode, closed_after) {
                (0, _) => assert_eq!(switched, []),
                (_, None) => assert_eq!(switched, [(cut, false)]),
                (_, Some(after)) => {
                    assert_eq!(switched[..2], [(cut, false), (cut.plus_seconds(after), true)]);
                    // It keeps below for an hour, and is over it again.
                    let again = cut.plus_seconds(SHED_S + 90);
                    assert_eq!(switched[2], (again, false), "mode {mode}");
                }
            }
            if let (4, Some(_)) = (mode, closed_after) {
                let [wh, ..] = world.intervals[&at(13, 0)];
                assert!(0 < wh && wh <= 10, "{wh} Wh in half an hour at 20 W");
            }
        }
    }

    #[test]
    fn a_limit_that_is_not_passed_for_long_enough_cuts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), at(0, 0), |_| ());
        let load =
            Household::new(5, &world.identity, &Faults::NONE).load(DAY.parse().unwrap(), &Calendar::india());
        let peak = *load.iter().max().unwrap();
        for (threshold_w, over_s) in [(peak, Some(0)), (0, None), (0, Some(200_000))] {
            world.identity.supply.set_limit(Limit { threshold_w, over_s, under_s: None }, at(0, 0));
            world.push(at(23, 59));
            assert_eq!(world.switched(), []);
        }
        let sum: i64 = world.intervals.values().map(|[wh, ..]| wh).sum();
        assert_eq!(sum, world.free(DAY).intervals[..47].iter().map(|interval| interval.wh).sum::<i64>());
    }

    #[test]
    fn a_fleet_that_is_started_again_finds_its_relays_and_pushes_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), at(12, 0), |_| ());
        world.switch(Transition::RemoteDisconnect, at(14, 7));
        world.push(at(16, 0));
        world.switch(Transition::RemoteReconnect, at(16, 40));
        world.switch(Transition::RemoteDisconnect, at(18, 1));
        world.push(at(20, 0));
        let once = world.intervals.clone();
        drop(world);
        let mut again = World::new(dir.path(), at(12, 0), |_| ());
        assert_eq!(again.switched(), [(at(14, 7), false), (at(16, 40), true), (at(18, 1), false)]);
        assert!(!again.meter.is_connected());
        again.push(at(20, 0));
        assert_eq!(again.intervals, once);
        again.switch(Transition::RemoteReconnect, at(20, 5));
        assert!(again.meter.is_connected());
        assert_eq!(lines(dir.path(), "relay").len(), 4, "none is told twice");
    }

    #[test]
    fn a_relay_that_is_worn_out_moves_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(dir.path(), at(12, 0), |_| ());
        let closed =
            Move { at: at(12, 0), state: ControlState::Connected, cause: Cause::Remote, limit_w: None };
        world.identity.supply.restore(vec![closed; MAX_MOVES]);
        let worn_out = world.identity.supply.switch(Transition::RemoteDisconnect, at(12, 1));
        assert_eq!(worn_out, Err(ActionResult::HardwareFault));
        assert!(world.meter.is_connected());
    }
}
