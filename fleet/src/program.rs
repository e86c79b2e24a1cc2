//! What a meter that answers was told to do by itself, and since when: push at the times of a schedule, push now, close
//! its billing cycle.
//!
//! A meter and the planner of its pushes share it, as they share its [`Supply`](crate::Supply): what is pushed and what is
//! read obey the same. What was pushed up to a moment is settled; what a head-end asks for later never changes it, and
//! everything behind is planned anew. It is lost when the fleet is started again.

mod times;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use model::{Calendar, CivilDay, Instant};
use profiles::PushKind;

pub(crate) use times::Times;

/// Most changes of one setting, and most pushes that are asked for; a meter that was told so often is told nothing more.
const MAX_CHANGES: usize = 1000;
/// Numbers of a first day, which has none before it, that no plan uses.
const BESIDE_FIRST: u32 = 3000;

/// The program of a meter. Clones tell of the same. It is nothing, and costs nothing, until a meter answers.
#[derive(Clone, Default)]
pub struct Program(Arc<OnceLock<Box<Mutex<State>>>>);

/// There is no room for another change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A push that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) kind: PushKind,
}

/// The number of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) at: Instant,
    pub(crate) key_epoch: u16,
    pub(crate) counter: u32,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that was due before was pushed.
    settled: Option<Instant>,
    /// Everything before was read, or may have been.
    seen: Option<Instant>,
    /// From when on what was planned does not hold any more.
    changed: Option<Instant>,
    schedules: Vec<(Instant, Times)>,
    delays: Vec<(Instant, u16)>,
    billing: Vec<(Instant, Times)>,
    resets: Vec<Instant>,
    filters: Vec<(Instant, [u8; 16])>,
    asked: Vec<Asked>,
    /// The start of the day that was planned last, and its numbers.
    today: Option<Instant>,
    numbered: Vec<Numbered>,
}

impl Program {
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.get().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A meter answers from now on.
    pub(crate) fn begin(&self) {
        self.0.get_or_init(Box::default);
    }

    /// Whether a meter answers.
    pub(crate) fn is_live(&self) -> bool {
        self.0.get().is_some()
    }

    /// What was due up to `until` goes out. Gives from when on what was planned does not hold any more, once.
    pub(crate) fn pass(&self, until: Instant) -> Option<Instant> {
        let mut state = self.state()?;
        state.settled = state.settled.max(Some(until));
        state.changed.take()
    }

    /// The meter answers at `now`.
    pub(crate) fn see(&self, now: Instant) {
        self.state().into_iter().for_each(|mut state| state.seen = state.seen.max(Some(now)));
    }

    /// Whether what was measured at the end of a day is known for good.
    pub(crate) fn is_settled(&self, end: Instant) -> bool {
        self.state().is_none_or(|state| state.settled.max(state.seen).is_some_and(|seen| end < seen))
    }

    /// Values of the moment are pushed at these times from `now` on.
    pub(crate) fn push_at(&self, times: Times, now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.schedules, (at, times)))
    }

    /// What a schedule pushes goes out up to so many seconds after its time from `now` on.
    pub(crate) fn delay_by(&self, most_s: u16, now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.delays, (at, most_s)))
    }

    /// How many seconds after its time a push goes out at most that is due then: `usual` where nothing else was said, and
    /// none where no schedule says when.
    pub(crate) fn delay(&self, at: Instant, usual: u16) -> u16 {
        let Some(state) = self.state() else { return 0 };
        if state.schedules.first().is_none_or(|(since, _)| *since > at) {
            return 0;
        }
        state.delays.iter().rev().find(|(since, _)| *since <= at).map_or(usual, |(_, most_s)| *most_s)
    }

    /// Billing cycles close at these times from `now` on.
    pub(crate) fn bill_at(&self, times: Times, now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.billing, (at, times)))
    }

    /// The billing cycle closes now.
    pub(crate) fn close(&self, now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.resets, at))
    }

    /// Only changes of these bits of the event status word are pushed from `now` on.
    pub(crate) fn filter(&self, bits: [u8; 16], now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.filters, (at, bits)))
    }

    /// Whether a change of that bit at that moment is pushed.
    pub(crate) fn lets_through(&self, bit: u8, at: Instant) -> bool {
        let Some(state) = self.state() else { return true };
        let filter = state.filters.iter().rev().find(|(since, _)| *since < at);
        filter.is_none_or(|(_, bits)| bits[usize::from(bit / 8) % bits.len()] & (0x80 >> (bit % 8)) != 0)
    }

    /// A push of that kind is wanted at once.
    pub(crate) fn ask(&self, kind: PushKind, now: Instant) -> Result<(), Full> {
        self.change(now, |state, at| remember(&mut state.asked, Asked { at: at.plus_seconds(1), kind }))
    }

    fn change(
        &self,
        now: Instant,
        change: impl FnOnce(&mut State, Instant) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let Some(mut state) = self.state() else { return Ok(()) };
        let at = state.free(now);
        change(&mut state, at)?;
        state.changed = Some(state.changed.map_or(at, |before| before.min(at)));
        Ok(())
    }

    /// The number of a push that goes out now, beside those that are planned. `first` is the first of the day of a moment,
    /// at its start: where that day is not planned yet, it is one that the day before left over.
    pub(crate) fn beside(
        &self,
        now: Instant,
        first: impl FnOnce(Instant) -> Numbered,
    ) -> Result<Numbered, Full> {
        let Some(mut state) = self.state() else { return Err(Full) };
        let at = state.free(now);
        let first = first(at);
        let place = state.numbered.partition_point(|push| push.at <= at);
        let before = place.checked_sub(1).and_then(|before| state.numbered.get(before)).copied();
        let is_planned = state.today == Some(first.at);
        let left_over = u32::try_from(MAX_CHANGES - state.asked.len()).unwrap_or_default();
        let counter = match before.filter(|before| is_planned && before.key_epoch == first.key_epoch) {
            Some(before) => before.counter + 1,
            None if is_planned => first.counter,
            None if first.counter > left_over => first.counter - left_over,
            None => first.counter + BESIDE_FIRST - left_over,
        };
        let number = Numbered { at, counter, ..first };
        remember(&mut state.asked, Asked { at, kind: PushKind::Instant })?;
        if is_planned {
            let behind = state.numbered.iter_mut().skip(place);
            behind.filter(|push| push.key_epoch == number.key_epoch).for_each(|push| push.counter += 1);
            state.numbered.insert(place, number);
        }
        state.changed = Some(state.changed.map_or(at, |before| before.min(at)));
        Ok(number)
    }

    /// These are the numbers of the pushes of the day that was planned last, which begins at `today`.
    pub(crate) fn number(&self, today: Instant, mut numbered: Vec<Numbered>) {
        let Some(mut state) = self.state() else { return };
        numbered.sort_by_key(|push| push.at);
        (state.today, state.numbered) = (Some(today), numbered);
    }

    /// The number of the last push that went out, 0 before the first.
    pub(crate) fn last_counter(&self) -> u32 {
        let Some(state) = self.state() else { return 0 };
        let settled = state.settled.unwrap_or_default();
        state.numbered.iter().rev().find(|push| push.at <= settled).map_or(0, |push| push.counter)
    }

    /// When values of the moment are pushed on a day, which are at `usual` where nothing else was said.
    pub(crate) fn moments(&self, usual: Vec<Instant>, day: CivilDay, calendar: &Calendar) -> Vec<Instant> {
        let Some(state) = self.state() else { return usual };
        in_force(&state.schedules, usual, |times| times.on(day, calendar))
    }

    /// When billing cycles close on a day: with the first of a month, where nothing else was said.
    pub(crate) fn closes(&self, day: CivilDay, calendar: &Calendar) -> Vec<Instant> {
        let is_first = day == day.month().first_day();
        let usual = if is_first { vec![calendar.start_of(day)] } else { Vec::new() };
        let Some(state) = self.state() else { return usual };
        let mut closes = in_force(&state.billing, usual, |times| times.on(day, calendar));
        let (start, end) = (calendar.start_of(day), calendar.end_of(day));
        closes.extend(state.resets.iter().filter(|at| start <= **at && **at < end));
        closes.sort_unstable();
        closes.dedup();
        closes
    }

    /// What was asked for in that span.
    pub(crate) fn asked(&self, from: Instant, until: Instant) -> Vec<Asked> {
        let Some(state) = self.state() else { return Vec::new() };
        state.asked.iter().filter(|asked| from <= asked.at && asked.at < until).copied().collect()
    }
}

impl State {
    /// The first whole second about which nothing is settled.
    fn free(&self, now: Instant) -> Instant {
        let now = Instant::from_seconds(now.seconds());
        self.settled.map_or(now, |settled| now.max(Instant::from_seconds(settled.seconds()).plus_seconds(1)))
    }
}

fn remember<T>(all: &mut Vec<T>, one: T) -> Result<(), Full> {
    if all.len() >= MAX_CHANGES {
        return Err(Full);
    }
    all.push(one);
    Ok(())
}

/// The moments of a day, each by the times that are in force then; `usual` before the first.
fn in_force(
    all: &[(Instant, Times)],
    mut usual: Vec<Instant>,
    on: impl Fn(&Times) -> Vec<Instant>,
) -> Vec<Instant> {
    let Some((first, _)) = all.first() else { return usual };
    // What is due in the second of a change is of before: its number may be given out.
    usual.retain(|at| at <= first);
    for (place, (since, times)) in all.iter().enumerate() {
        let until = all.get(place + 1).map(|(until, _)| *until);
        let holds = |at: &Instant| since < at && until.is_none_or(|until| *at <= until);
        usual.extend(on(times).into_iter().filter(holds));
    }
    usual
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Program(live)" } else { "Program(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i8, minute: i8) -> Instant {
        Calendar::india().at(day(), hour, minute)
    }

    fn day() -> CivilDay {
        "2026-06-12".parse().unwrap()
    }

    fn every_hour_at(minute: u8) -> Times {
        Times::new(vec![([0xff, minute, 0, 0], [0xff; 5])])
    }

    #[test]
    fn what_is_said_later_changes_nothing_that_was_pushed_before() {
        let calendar = Calendar::india();
        let program = Program::default();
        let usual = vec![at(1, 30), at(9, 0), at(20, 30)];
        assert_eq!(program.push_at(every_hour_at(10), at(8, 0)), Ok(()), "nobody answers: nothing is kept");
        assert_eq!(program.moments(usual.clone(), day(), &calendar), usual);
        program.begin();
        assert_eq!(program.pass(at(21, 15)), None);
        program.push_at(every_hour_at(10), at(20, 0)).unwrap();
        let moments = program.moments(usual.clone(), day(), &calendar);
        assert_eq!(moments, [at(1, 30), at(9, 0), at(20, 30), at(22, 10), at(23, 10)]);
        assert_eq!(program.pass(at(21, 16)), Some(at(21, 15).plus_seconds(1)));
        assert_eq!(program.pass(at(21, 17)), None, "it is told once");
        program.push_at(Times::default(), at(22, 30)).unwrap();
        let moments = program.moments(usual, day(), &calendar);
        assert_eq!(
            moments,
            [at(1, 30), at(9, 0), at(20, 30), at(22, 10)],
            "an empty schedule pushes nothing"
        );
    }

    #[test]
    fn a_cycle_closes_with_the_month_until_another_date_is_set_and_when_it_is_told_to() {
        let calendar = Calendar::india();
        let program = Program::default();
        program.begin();
        let first: CivilDay = "2026-07-01".parse().unwrap();
        assert_eq!(program.closes(first, &calendar), [calendar.start_of(first)]);
        program.bill_at(Times::new(vec![([6, 0, 0, 0], [0xff, 0xff, 0xff, 12, 0xff])]), at(5, 0)).unwrap();
        program.close(at(5, 30)).unwrap();
        assert_eq!(program.closes(day(), &calendar), [at(5, 30), at(6, 0)]);
        assert_eq!(program.closes(first, &calendar), []);
    }

    #[test]
    fn a_push_beside_the_plan_takes_the_next_number_and_the_others_make_room() {
        let program = Program::default();
        program.begin();
        let push = |hour, counter| Numbered { at: at(hour, 0), key_epoch: 1, counter };
        program.number(at(0, 0), vec![push(1, 4097), push(2, 4098), push(3, 4099)]);
        program.pass(at(2, 30));
        assert_eq!(program.last_counter(), 4098);
        let beside = program.beside(at(2, 0), |_| push(0, 4097)).unwrap();
        assert_eq!((beside.at, beside.counter), (at(2, 30).plus_seconds(1), 4099));
        assert_eq!(program.beside(at(2, 31), |_| push(0, 4097)).unwrap().counter, 4100);
        program.pass(at(3, 0));
        assert_eq!(program.last_counter(), 4101);
        // The next day is not planned yet: what is due in it before is not known.
        let next = Numbered { at: Calendar::india().end_of(day()), key_epoch: 1, counter: 8193 };
        let beside = program.beside(next.at.plus_seconds(5), |_| next).unwrap();
        assert!((4101..8193).contains(&beside.counter), "{beside:?}");
        assert_ne!(program.beside(next.at.plus_seconds(9), |_| next).unwrap().counter, beside.counter);
    }

    #[test]
    fn a_meter_that_was_told_too_often_is_told_nothing_more() {
        let program = Program::default();
        program.begin();
        (0..MAX_CHANGES).for_each(|_| program.ask(PushKind::Instant, at(1, 0)).unwrap());
        assert_eq!(program.ask(PushKind::Instant, at(1, 0)), Err(Full));
        let first = Numbered { at: at(1, 0), key_epoch: 1, counter: 1 };
        assert_eq!(program.beside(at(1, 0), |_| first), Err(Full));
    }
}
