//! Credit control: what a prepaid consumer is told as the balance goes down, and whether supply may be cut.
//!
//! Both act on what is *posted*. That a balance came down is known from the postings, and kept by account: how far it
//! came, how far the consumer was told, and when they were told that it is used up. With that notice the emergency
//! credit begins, so late data never begins it in the past. Whether supply may be cut at a moment is a function of that,
//! of the policy and of what holds a cut from outside, [`Holds`]; [`decide`] gives every reason why not.
//!
//! Rules and where they come from: `ledger/credit/up-prepaid.toml`.

mod policy;
mod state;

use std::fmt;

use model::view::AccountView;
use model::{Calendar, CivilDay, ConnectionType, Instant, NoticeLevel, Paise};

pub use policy::{Alert, ArrearsShare, CreditPolicy, Hours, Longer, MAX_ALERTS};
pub(crate) use state::{Credit, CreditTable};

/// The policy that comes with Urja.
#[must_use]
pub fn builtin_policy() -> &'static str {
    include_str!("../credit/up-prepaid.toml")
}

/// Days that may have passed since the last one that was posted: yesterday is posted this morning, and a cut before that
/// acts on the day before.
const POSTED_WITHIN_DAYS: i32 = 2;

/// Longest time ahead for which the next permitted moment is looked for, days.
const LOOK_AHEAD_DAYS: i32 = 400;

/// What holds a cut besides the account's own state: asked where it is known, at the moment of deciding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own, asked of another place")]
pub struct Holds {
    /// Two persons have enabled cuts for the consumer's division.
    pub enabled: bool,
    /// The consumer is on the register of those who are never cut by balance.
    pub protected: bool,
    /// A complaint about bill, balance or meter is open, or a sum is deposited under protest.
    pub disputed: bool,
    /// A payment has begun whose outcome is not known.
    pub payment_in_flight: bool,
    /// The meter's data comes with an authentication tag.
    pub authenticated: bool,
}

/// A reason why supply may not be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// No policy is in force on that day.
    NoPolicy,
    /// Nobody has enabled cuts where the consumer lives.
    NotEnabled,
    /// The account is billed and not prepaid.
    NotPrepaid,
    /// What is posted is not below zero.
    NotBelowZero,
    /// The consumer was not told that the balance is used up.
    NotTold,
    /// Emergency credit lasts until then.
    EmergencyCredit(Instant),
    /// The grace after the account began as a prepaid one lasts until then.
    ConversionGrace(Instant),
    /// Days are not posted as they should be; the last one that is.
    NotPosted(Option<CivilDay>),
    /// The meter's last data is too old, or there is none.
    Stale(Option<Instant>),
    /// So many days are posted without knowing what was used on them.
    Awaited(u8),
    /// The meter's data is not authenticated.
    Unauthenticated,
    /// The consumer is protected.
    Protected,
    /// A dispute is open.
    Disputed,
    /// A payment is under way.
    PaymentInFlight,
    /// Not at this time of day.
    Hours,
    /// Not on a Sunday.
    Sunday,
    /// Not on a second Saturday.
    SecondSaturday,
    /// Not on a gazetted holiday.
    Holiday,
    /// The holidays of that year are not known.
    NoCalendar(i16),
}

impl Hindrance {
    /// The word used in SQL and JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Hindrance::NoPolicy => "no_policy",
            Hindrance::NotEnabled => "not_enabled",
            Hindrance::NotPrepaid => "not_prepaid",
            Hindrance::NotBelowZero => "not_below_zero",
            Hindrance::NotTold => "not_told",
            Hindrance::EmergencyCredit(_) => "emergency_credit",
            Hindrance::ConversionGrace(_) => "conversion_grace",
            Hindrance::NotPosted(_) => "not_posted",
            Hindrance::Stale(_) => "stale",
            Hindrance::Awaited(_) => "awaited",
            Hindrance::Unauthenticated => "unauthenticated",
            Hindrance::Protected => "protected",
            Hindrance::Disputed => "disputed",
            Hindrance::PaymentInFlight => "payment_in_flight",
            Hindrance::Hours => "hours",
            Hindrance::Sunday => "sunday",
            Hindrance::SecondSaturday => "second_saturday",
            Hindrance::Holiday => "holiday",
            Hindrance::NoCalendar(_) => "no_calendar",
        }
    }

    /// Whether it passes with time alone.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Hindrance::EmergencyCredit(_)
                | Hindrance::ConversionGrace(_)
                | Hindrance::Hours
                | Hindrance::Sunday
                | Hindrance::SecondSaturday
                | Hindrance::Holiday
        )
    }

    /// Until when, where that is a moment.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        match self {
            Hindrance::EmergencyCredit(until) | Hindrance::ConversionGrace(until) => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hindrance::NoPolicy => "no credit policy is in force",
            Hindrance::NotEnabled => "cuts are not enabled for the division",
            Hindrance::NotPrepaid => "the account is not prepaid",
            Hindrance::NotBelowZero => "the posted balance is not below zero",
            Hindrance::NotTold => "the consumer was not told that the balance is used up",
            Hindrance::EmergencyCredit(_) => "emergency credit",
            Hindrance::ConversionGrace(_) => "grace after the account became prepaid",
            Hindrance::NotPosted(Some(day)) => return write!(f, "days are posted until {day} only"),
            Hindrance::NotPosted(None) => "no day is posted",
            Hindrance::Stale(Some(_)) => "the meter's last data is too old",
            Hindrance::Stale(None) => "the meter has never been heard",
            Hindrance::Awaited(days) => return write!(f, "readings of {days} days are awaited"),
            Hindrance::Unauthenticated => "the meter's data is not authenticated",
            Hindrance::Protected => "the consumer is protected",
            Hindrance::Disputed => "a dispute is open",
            Hindrance::PaymentInFlight => "a payment is under way",
            Hindrance::Hours => "not at this time of day",
            Hindrance::Sunday => "not on a Sunday",
            Hindrance::SecondSaturday => "not on a second Saturday",
            Hindrance::Holiday => "not on a gazetted holiday",
            Hindrance::NoCalendar(year) => return write!(f, "the holidays of {year} are not known"),
        })
    }
}

/// Whether supply may be cut at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Every reason why not; none: it may be cut.
    pub hindrances: Vec<Hindrance>,
    /// When it may be cut if nothing changes but the time; none where something else has to.
    pub earliest: Option<Instant>,
}

impl Decision {
    /// Whether it may be cut.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.hindrances.is_empty()
    }
}

/// Whether an account's supply may be cut at `at`, as far as is known at `now`. For a moment ahead it is taken that the
/// meter goes on being heard and days go on being posted, and that nothing else changes.
#[must_use]
pub fn decide(
    policy: Option<&CreditPolicy>,
    calendar: &Calendar,
    account: &AccountView,
    holds: &Holds,
    at: Instant,
    now: Instant,
) -> Decision {
    let Some(policy) = policy else {
        return Decision { hindrances: vec![Hindrance::NoPolicy], earliest: None };
    };
    let mut hindrances = of_account(policy, calendar, account, at, at.min(now));
    hindrances.extend(of_holds(holds));
    hindrances.extend(of_time(policy, calendar, at));
    let earliest = earliest(policy, calendar, &hindrances, at);
    Decision { hindrances, earliest }
}

/// What it takes to keep supply on, or to have it back, in whole rupees: after it the balance is above zero, with
/// everything used so far and everything that came late, and with what of it pays old dues off. It is the least such amount.
#[must_use]
pub fn amount_to_keep(policy: Option<&CreditPolicy>, account: &AccountView) -> Paise {
    const PAISE_A_RUPEE: i64 = 100;
    let missing = left_of(account).0.saturating_neg();
    if missing < 0 {
        return Paise::ZERO;
    }
    let share =
        |paid: Paise| policy.map_or(Paise::ZERO, |policy| policy.arrears_share(paid, account.arrears));
    let is_enough = |rupees: i64| {
        let paid = Paise(rupees.saturating_mul(PAISE_A_RUPEE));
        (paid - share(paid)).0 > missing
    };
    // What is left of a payment rises with it, at a tenth of it at least: shares are 90 % at most.
    let (mut short, mut enough) = (missing / PAISE_A_RUPEE, (missing / PAISE_A_RUPEE + 2).saturating_mul(10));
    while enough - short > 1 {
        let middle = short + (enough - short) / 2;
        if is_enough(middle) { enough = middle } else { short = middle }
    }
    Paise(enough.saturating_mul(PAISE_A_RUPEE))
}

/// What is left of a balance with everything used so far and everything that came late; what would bring money back is not
/// counted on.
pub(crate) fn left_of(account: &AccountView) -> Paise {
    let to_post = account.accrued.0.max(0).saturating_add(account.uncorrected.0.max(0));
    Paise(account.booked.0.saturating_sub(to_post))
}

/// What is posted, with what late data is known to bring back.
fn known_of(account: &AccountView) -> Paise {
    account.booked - account.uncorrected.min(Paise::ZERO)
}

/// Why supply that was cut for a balance is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The balance is above zero with everything used so far.
    Paid,
    /// Without a payment since the cut nothing is below zero any more: late data has shown what was really used.
    Corrected,
    /// The account is not prepaid any more.
    NotPrepaid,
    /// The consumer is protected.
    Protected,
}

impl Restored {
    /// The word used in SQL and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Restored::Paid => "paid",
            Restored::Corrected => "corrected",
            Restored::NotPrepaid => "not_prepaid",
            Restored::Protected => "protected",
        }
    }
}

/// Whether supply that was cut for a balance at `cut_at` is to be given back, and why: as soon as [`amount_to_keep`] is paid, or
/// the cut turns out to have been wrong.
#[must_use]
pub fn restored(account: &AccountView, is_protected: bool, cut_at: Instant) -> Option<Restored> {
    if account.connection != ConnectionType::Prepaid {
        return Some(Restored::NotPrepaid);
    }
    let paid_since = account.last_recharge.filter(|(_, at)| *at >= cut_at);
    // In the moment in which it was booked: who paid what was shown does not lose it to the midnight that follows.
    let sufficed = paid_since.and(account.credit.left_after_recharge).is_some_and(|left| left > Paise::ZERO);
    if sufficed || left_of(account) > Paise::ZERO {
        return Some(Restored::Paid);
    }
    // What was paid since does not make a cut right that was wrong.
    let paid = paid_since.map_or(Paise::ZERO, |(amount, _)| amount);
    if known_of(account) - paid >= Paise::ZERO {
        return Some(Restored::Corrected);
    }
    is_protected.then_some(Restored::Protected)
}

/// Until when supply may be cut, where `at` lies in the permitted hours of a permitted day.
#[must_use]
pub fn permitted_until(policy: &CreditPolicy, calendar: &Calendar, at: Instant) -> Option<Instant> {
    let (_, to) = permitted(policy, calendar, calendar.day_of(at));
    of_time(policy, calendar, at).next().is_none().then_some(to)
}

fn of_account(
    policy: &CreditPolicy,
    calendar: &Calendar,
    account: &AccountView,
    at: Instant,
    known_at: Instant,
) -> Vec<Hindrance> {
    let mut found = Vec::new();
    if account.connection != ConnectionType::Prepaid {
        found.push(Hindrance::NotPrepaid);
    }
    if known_of(account) >= Paise::ZERO {
        found.push(Hindrance::NotBelowZero);
    }
    match account.credit.used_up_told_at {
        None => found.push(Hindrance::NotTold),
        Some(told_at) => {
            // What was given stays, and a kinder rule since then holds too.
            let days = policy.emergency_days_of(&account.tariff, account.sanctioned_w);
            let until = told_at.plus_seconds(i64::from(days) * 86_400);
            let until = account.credit.emergency_until.map_or(until, |given| given.max(until));
            found.extend((at < until).then_some(Hindrance::EmergencyCredit(until)));
        }
    }
    let until = calendar.start_of(account.from.plus(i32::from(policy.conversion_grace_days)));
    found.extend((at < until).then_some(Hindrance::ConversionGrace(until)));

    let posted_from = calendar.day_of(known_at).plus(-POSTED_WITHIN_DAYS);
    if account.booked_until.is_none_or(|day| day < posted_from) {
        found.push(Hindrance::NotPosted(account.booked_until));
    }
    let fresh_from = known_at.plus_seconds(-i64::from(policy.fresh_hours) * 3600);
    if account.heard_at.is_none_or(|heard_at| heard_at < fresh_from) {
        found.push(Hindrance::Stale(account.heard_at));
    }
    if account.credit.silent_days > 0 {
        found.push(Hindrance::Awaited(account.credit.silent_days));
    }
    found
}

fn of_holds(holds: &Holds) -> impl Iterator<Item = Hindrance> {
    let Holds { enabled, protected, disputed, payment_in_flight, authenticated } = *holds;
    [
        (!enabled, Hindrance::NotEnabled),
        (!authenticated, Hindrance::Unauthenticated),
        (protected, Hindrance::Protected),
        (disputed, Hindrance::Disputed),
        (payment_in_flight, Hindrance::PaymentInFlight),
    ]
    .into_iter()
    .filter_map(|(holds, hindrance)| holds.then_some(hindrance))
}

fn of_time(policy: &CreditPolicy, calendar: &Calendar, at: Instant) -> impl Iterator<Item = Hindrance> {
    let day = calendar.day_of(at);
    let (from, to) = permitted(policy, calendar, day);
    let hours = (at < from || at >= to).then_some(Hindrance::Hours);
    hours.into_iter().chain(barred(policy, day))
}

/// Why nothing is cut on a day at all.
fn barred(policy: &CreditPolicy, day: CivilDay) -> Option<Hindrance> {
    const SATURDAY: i8 = 6;
    const SUNDAY: i8 = 7;
    let date = day.date();
    let weekday = date.weekday().to_monday_one_offset();
    let is_second = (8..=14).contains(&date.day());
    match policy.holidays.get(&date.year()) {
        None => Some(Hindrance::NoCalendar(date.year())),
        Some(holidays) if holidays.contains(&day) => Some(Hindrance::Holiday),
        _ if weekday == SUNDAY && !policy.hours.sundays => Some(Hindrance::Sunday),
        _ if weekday == SATURDAY && is_second && !policy.hours.second_saturdays => {
            Some(Hindrance::SecondSaturday)
        }
        _ => None,
    }
}

/// The permitted hours of a day that is not barred, the end not counted.
fn permitted(policy: &CreditPolicy, calendar: &Calendar, day: CivilDay) -> (Instant, Instant) {
    let at = |minutes: u16| {
        let [hour, minute] = [minutes / 60, minutes % 60].map(|part| i8::try_from(part).unwrap_or(0));
        if hour == 24 { calendar.end_of(day) } else { calendar.at(day, hour, minute) }
    };
    (at(policy.hours.from_min), at(policy.hours.to_min))
}

fn earliest(
    policy: &CreditPolicy,
    calendar: &Calendar,
    hindrances: &[Hindrance],
    at: Instant,
) -> Option<Instant> {
    if !hindrances.iter().all(Hindrance::passes) {
        return None;
    }
    let start = hindrances.iter().filter_map(Hindrance::until).fold(at, Instant::max);
    let first = calendar.day_of(start);
    for day in (0..=LOOK_AHEAD_DAYS).map(|days| first.plus(days)) {
        match barred(policy, day) {
            None => {
                let (from, to) = permitted(policy, calendar, day);
                if start < to {
                    return Some(start.max(from));
                }
            }
            Some(hindrance) if !hindrance.passes() => return None,
            Some(_) => {}
        }
    }
    None
}

/// How far a posted balance has come down.
fn level_of(
    policy: &CreditPolicy,
    booked: Paise,
    last_recharge: Option<Paise>,
    last_day: Option<Paise>,
) -> NoticeLevel {
    if booked < Paise::ZERO {
        return NoticeLevel::USED_UP;
    }
    let is_reached = |alert: &Alert| match last_recharge {
        Some(recharge) => {
            i128::from(booked.0) * 1_000_000 <= i128::from(recharge.0) * i128::from(alert.share.0)
        }
        None => {
            let lasts = last_day.filter(|charge| *charge > Paise::ZERO);
            let price = lasts.map(|charge| i128::from(charge.0) * i128::from(alert.days_left));
            booked <= alert.balance || price.is_some_and(|price| i128::from(booked.0) <= price)
        }
    };
    let reached = policy.alerts.iter().rposition(is_reached);
    reached.map_or(NoticeLevel::NONE, |place| NoticeLevel(u8::try_from(place + 1).unwrap_or(u8::MAX)))
}

#[cfg(test)]
mod tests;
