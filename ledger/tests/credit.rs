//! Credit control over time: who is told what when, when emergency credit begins, and what ends it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use ledger::Outcome;
use ledger::credit::{Holds, amount_to_keep, builtin_policy, decide};
use ledger::outcome::{NoticeRefusal, PolicyRefusal, TermsRefusal};
use model::view::NoticeDue;
use model::*;
use proptest::prelude::*;
use world::*;

const FREE: Holds =
    Holds { enabled: true, protected: false, disputed: false, payment_in_flight: false, authenticated: true };

fn policy_version(body: &str) -> CreditPolicyVersion {
    let policy = ledger::credit::CreditPolicy::parse(body).unwrap_or_else(|error| panic!("{error}"));
    CreditPolicyVersion { from: policy.from, digest: ledger::digest_of(body), body: body.to_owned() }
}

/// A household of 4 kW from 1 March 2026 on, with the built-in policy: some eleven rupees a day without any use.
fn household() -> World {
    let mut world = World::with_account("2026-03-01T00:00:00");
    let applied = world.apply(Fact::CreditPolicy(policy_version(builtin_policy())));
    assert_eq!(applied, Outcome::PolicyApplied);
    world
}

fn recharge(world: &mut World, id: &str, paise: i64) {
    let fact = Recharge { account: AccountId(1), amount: Paise(paise), payment_id: id.into() };
    assert!(world.apply(Fact::Recharge(fact)).is_success());
}

/// Days with a register each, closed.
fn days(world: &mut World, first: &str, last: &str, wh_a_day: i64) {
    let mut today = day(first);
    while today <= day(last) {
        let wh = (i64::from(today.0) - i64::from(day("2026-02-28").0)) * wh_a_day;
        world.now = world.now.max(Calendar::india().at(today.next(), 0, 20));
        world.push(1, vec![register(&today.to_string(), wh)]);
        world.close(&today.to_string());
        today = today.next();
    }
}

fn due(world: &World) -> Option<NoticeDue> {
    world.fold.notices_due(AccountId(0), 10).into_iter().next()
}

fn sent(notice: NoticeDue) -> Fact {
    let NoticeDue { account, level, round, .. } = notice;
    Fact::NoticeSent(NoticeSent { account, level, round })
}

fn names(world: &World, at: Instant) -> Vec<&'static str> {
    let view = world.view(1);
    let policy = world.fold.credit_policy_on(Calendar::india().day_of(at));
    let decision = decide(policy, &Calendar::india(), &view, &FREE, at, world.now);
    decision.hindrances.iter().map(ledger::credit::Hindrance::name).collect()
}

#[test]
fn each_level_is_told_once_and_again_after_a_recharge() {
    let mut world = household();
    recharge(&mut world, "p1", 10_000);
    assert_eq!(due(&world), None);
    // 100 rupees last until day 9; 30 left on day 7, 10 on day 9.
    let mut told = Vec::new();
    for offset in 0..12 {
        let today = day("2026-03-01").plus(offset).to_string();
        days(&mut world, &today, &today, 0);
        if let Some(notice) = due(&world) {
            told.push((world.view(1).booked.0, notice.level.0));
            assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
            assert_eq!(due(&world), None);
            assert_eq!(world.apply(sent(notice)), Outcome::NoticeRefused(NoticeRefusal::NotDue));
        }
    }
    let levels: Vec<u8> = told.iter().map(|(_, level)| *level).collect();
    assert_eq!(levels, [1, 2, 255], "{told:?}");
    recharge(&mut world, "p2", 20_000);
    assert_eq!(due(&world), None);
    days(&mut world, "2026-03-13", "2026-03-25", 0);
    assert!(due(&world).is_some(), "told again of the new recharge's 30 per cent");
}

#[test]
fn a_notice_that_a_recharge_overtook_starts_no_emergency_credit() {
    let mut world = household();
    days(&mut world, "2026-03-01", "2026-03-02", 0);
    let notice = due(&world).unwrap();
    assert_eq!(notice.level, NoticeLevel::USED_UP);
    recharge(&mut world, "p1", 3_000);
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeRefused(NoticeRefusal::NotDue));
    days(&mut world, "2026-03-03", "2026-03-05", 0);
    let again = due(&world).unwrap();
    assert_eq!(again.level, NoticeLevel::USED_UP);
    assert_ne!(again.round, notice.round);
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeRefused(NoticeRefusal::NotDue));
    assert_eq!(world.view(1).credit.used_up_told_at, None);
    assert_eq!(world.apply(sent(again)), Outcome::NoticeTaken);
    assert_eq!(world.view(1).credit.used_up_told_at, Some(world.now));
}

#[test]
fn late_data_never_begins_emergency_credit_in_the_past() {
    let mut world = household();
    recharge(&mut world, "p1", 50_000);
    days(&mut world, "2026-03-01", "2026-03-04", 0);
    // The units of the first days come with the register of the fifth, and cost more than there is.
    world.now = Calendar::india().at(day("2026-03-06"), 0, 20);
    world.push(1, vec![register("2026-03-05", 200_000)]);
    world.close("2026-03-05");
    assert!(world.view(1).booked < Paise::ZERO);
    assert_eq!(world.view(1).credit.used_up_told_at, None);
    let notice = due(&world).unwrap();
    world.until("2026-03-07T11:00:00");
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
    assert_eq!(world.view(1).credit.used_up_told_at, Some(at("2026-03-07T11:00:00")));
    assert_eq!(names(&world, at("2026-03-10T10:59:00")), ["emergency_credit", "conversion_grace", "stale"]);
}

#[test]
fn more_than_two_days_posted_at_once_after_silence_are_told_and_begin_a_fresh_grace() {
    for (silent, expected) in [(1, None), (2, Some(3)), (3, Some(4))] {
        let mut world = household();
        days(&mut world, "2026-03-01", "2026-03-03", 1_000);
        let notice = due(&world).unwrap();
        assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
        for offset in 0..silent {
            world.close(&day("2026-03-04").plus(offset).to_string());
        }
        assert_eq!(world.view(1).credit.silent_days, u8::try_from(silent).unwrap());
        assert_eq!(due(&world), None);
        let back = day("2026-03-04").plus(silent).to_string();
        // That it is heard again on the morning after says nothing of the days before.
        world.now = Calendar::india().at(day(&back), 9, 0);
        world.push(
            1,
            vec![reading(ReadingKind::Interval, Calendar::india().at(day(&back), 8, 30), values(5))],
        );
        assert!(names(&world, world.now).contains(&"awaited"));
        days(&mut world, &back, &back, 5_000);
        assert!(!names(&world, world.now).contains(&"awaited"));
        let notice = due(&world);
        assert_eq!(notice.map(|notice| notice.caught_up_days), expected, "{silent} days");
        assert_eq!(world.view(1).credit.used_up_told_at.is_none(), expected.is_some());
        if let Some(notice) = notice {
            assert_eq!(notice.level, NoticeLevel::USED_UP);
            assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
            assert_eq!(world.view(1).credit.used_up_told_at, Some(world.now), "counted anew");
            assert_eq!(due(&world), None);
        }
    }
}

#[test]
fn days_are_awaited_until_they_are_known_whatever_came_since() {
    let mut world = household();
    days(&mut world, "2026-03-01", "2026-03-03", 1_000);
    let notice = due(&world).unwrap();
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
    world.close_until("2026-03-06");
    // Back with intervals alone, of days that use nothing; the days of silence stay unknown.
    for today in ["2026-03-07", "2026-03-08"] {
        world.now = Calendar::india().at(day(today), 12, 10);
        world.push(1, vec![interval(&format!("{today}T12:00:00"), 0)]);
        world.close(today);
        assert_eq!((world.view(1).credit.silent_days, due(&world)), (3, None));
    }
    days(&mut world, "2026-03-09", "2026-03-09", 1_000);
    let notice = due(&world).unwrap();
    assert_eq!((notice.caught_up_days, world.view(1).credit.silent_days), (4, 0));
}

#[test]
fn days_that_are_posted_at_once_are_told_of_a_good_balance_too() {
    let mut world = household();
    recharge(&mut world, "p1", 500_000);
    days(&mut world, "2026-03-01", "2026-03-02", 1_000);
    world.close_until("2026-03-05");
    days(&mut world, "2026-03-06", "2026-03-06", 1_000);
    let notice = due(&world).unwrap();
    assert_eq!((notice.level, notice.caught_up_days), (NoticeLevel::NONE, 4));
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
    assert_eq!(due(&world), None);
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeRefused(NoticeRefusal::NotDue));
    assert_eq!(world.view(1).credit.used_up_told_at, None);
}

#[test]
fn a_small_recharge_is_told_of_as_it_is_used_up_and_one_that_leaves_a_debt_begins_nothing_anew() {
    let mut world = household();
    days(&mut world, "2026-03-01", "2026-03-05", 0);
    let notice = due(&world).unwrap();
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
    let told_at = world.view(1).credit.used_up_told_at;
    recharge(&mut world, "p1", 1_000);
    assert!(world.view(1).booked < Paise::ZERO);
    assert_eq!((due(&world), world.view(1).credit.used_up_told_at), (None, told_at));
    let owed = -world.view(1).booked.0;
    recharge(&mut world, "p2", owed + 100);
    assert_eq!(
        due(&world).map(|notice| notice.level),
        Some(NoticeLevel(2)),
        "a rupee is less than a tenth of it"
    );
}

#[test]
fn what_is_late_for_a_closed_month_is_in_the_amount_that_keeps_supply() {
    let mut world = household();
    recharge(&mut world, "p1", 50_000);
    days(&mut world, "2026-03-01", "2026-03-30", 1_000);
    world.close("2026-03-31");
    world.now = at("2026-04-01T07:00:00");
    world.push(1, vec![register("2026-03-31", 300_000)]);
    let view = world.view(1);
    assert!(view.uncorrected > Paise(100_000), "{view:?}");
    let amount = amount_to_keep(world.fold.credit_policy_on(day("2026-04-01")), &view);
    recharge(&mut world, "exactly", amount.0);
    world.close("2026-04-01");
    assert!(world.view(1).booked > Paise::ZERO);
    assert_eq!(world.view(1).uncorrected, Paise::ZERO);
}

#[test]
fn a_payment_that_bounces_owes_its_share_of_old_dues_again_and_is_told_of() {
    let mut world = household();
    let outbox = world.outbox();
    let arrears = Arrears { outbox, account: AccountId(1), amount: Paise(100_000) };
    assert_eq!(world.apply(Fact::Arrears(arrears)), Outcome::TermsApplied);
    days(&mut world, "2026-03-01", "2026-03-05", 0);
    assert_eq!(due(&world).unwrap().level, NoticeLevel::USED_UP);
    let before = world.view(1);
    recharge(&mut world, "cheque", 50_000);
    assert_eq!(world.view(1).arrears, Paise(95_000));
    assert_eq!(due(&world), None);
    let reversed = PaymentReversed { payment_id: "cheque".into(), reason: ReversalReason::Bounced };
    assert!(world.apply(Fact::PaymentReversed(reversed)).is_success());
    let after = world.view(1);
    assert_eq!((after.booked, after.arrears), (before.booked, before.arrears));
    assert_eq!(
        due(&world).unwrap().level,
        NoticeLevel::USED_UP,
        "and has emergency credit from that notice on"
    );
}

#[test]
fn emergency_credit_that_was_given_is_not_taken_back_by_a_later_policy() {
    let mut world = household();
    days(&mut world, "2026-03-01", "2026-03-05", 0);
    let shorter = builtin_policy().replacen("2026-01-01", "2026-03-07", 1).replacen(
        "emergency_days = 3",
        "emergency_days = 1",
        1,
    );
    assert_eq!(world.apply(Fact::CreditPolicy(policy_version(&shorter))), Outcome::PolicyApplied);
    let notice = due(&world).unwrap();
    assert_eq!(world.apply(sent(notice)), Outcome::NoticeTaken);
    let told = world.now;
    assert_eq!(world.view(1).credit.emergency_until, Some(told.plus_seconds(3 * 86_400)));
    assert!(names(&world, told.plus_seconds(2 * 86_400)).contains(&"emergency_credit"));
}

#[test]
fn a_postpaid_account_is_told_nothing_of_a_balance() {
    let mut world = household();
    let mut terms = world.account_terms(2, "lmv1-urban", "2026-03-01", 0);
    terms.connection = ConnectionType::Postpaid;
    assert_eq!(world.apply(Fact::AccountTerms(terms)), Outcome::TermsApplied);
    world.close_until("2026-03-10");
    assert!(world.view(2).booked < Paise::ZERO);
    let told = world.fold.notices_due(AccountId(0), 10);
    assert_eq!(told.iter().map(|notice| notice.account.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_share_of_each_recharge_pays_old_dues_off_until_they_are_gone() {
    let mut world = household();
    let outbox = world.outbox();
    let arrears = Arrears { outbox, account: AccountId(1), amount: Paise(10_000) };
    assert_eq!(world.apply(Fact::Arrears(arrears)), Outcome::TermsApplied);
    assert_eq!(world.apply(Fact::Arrears(arrears)), Outcome::TermsExists { last: outbox }, "once");
    assert_eq!(
        (world.view(1).booked, world.view(1).arrears),
        (Paise(0), Paise(10_000)),
        "beside the balance"
    );
    let fact = |id: &str, paise| {
        Fact::Recharge(Recharge { account: AccountId(1), amount: Paise(paise), payment_id: id.into() })
    };
    let accrued = world.view(1).accrued;
    let posted = Outcome::RechargePosted { balance: Paise(45_000) - accrued, arrears: Paise(5_000) };
    assert_eq!(world.apply(fact("p1", 50_000)), posted);
    let position = world.fold.position();
    assert_eq!(world.apply(fact("p1", 50_000)), Outcome::RechargeExists { position });
    recharge(&mut world, "p2", 90_000);
    assert_eq!(
        (world.view(1).booked, world.view(1).arrears),
        (Paise(130_000), Paise(0)),
        "no more than is owed"
    );
    recharge(&mut world, "p3", 50_000);
    assert_eq!(world.view(1).booked, Paise(180_000));
    let outbox = world.outbox();
    for (account, amount, refusal) in [(1, 0, TermsRefusal::Arrears), (9, 5, TermsRefusal::NoAccount)] {
        let fact = Arrears {
            outbox: OutboxId(outbox.0 + account),
            account: AccountId(u32::try_from(account).unwrap()),
            amount: Paise(amount),
        };
        assert_eq!(world.apply(Fact::Arrears(fact)), Outcome::TermsRefused(refusal));
    }
}

#[test]
fn without_a_policy_nobody_is_told_and_nobody_is_due() {
    let mut world = World::with_account("2026-03-01T00:00:00");
    days(&mut world, "2026-03-01", "2026-05-01", 1_000);
    assert_eq!(due(&world), None);
    assert_eq!(names(&world, at("2026-05-05T11:00:00")), ["no_policy"]);
}

#[test]
fn a_policy_is_taken_once_and_never_for_days_that_have_begun() {
    let mut world = World::with_account("2026-03-10T00:00:00");
    let first = policy_version(builtin_policy());
    let mut other = first.clone();
    other.digest = Digest([9; 16]);
    let refused = world.apply(Fact::CreditPolicy(other));
    assert_eq!(refused, Outcome::PolicyRefused(PolicyRefusal::OtherDigest(first.digest)));
    let mut other = first.clone();
    other.from = day("2026-02-01");
    let refused = world.apply(Fact::CreditPolicy(other));
    assert_eq!(refused, Outcome::PolicyRefused(PolicyRefusal::OtherFrom(first.from)));
    let refused = world.apply(Fact::CreditPolicy(CreditPolicyVersion { body: "x".into(), ..first.clone() }));
    assert!(matches!(refused, Outcome::PolicyRefused(PolicyRefusal::Body(_))));

    assert_eq!(world.apply(Fact::CreditPolicy(first.clone())), Outcome::PolicyApplied);
    assert_eq!(world.apply(Fact::CreditPolicy(first.clone())), Outcome::PolicyExists);
    let from = |from: &str| {
        policy_version(
            &builtin_policy()
                .replacen("2026-01-01", from, 1)
                .replace("emergency_days = 3", "emergency_days = 5"),
        )
    };
    let refused = world.apply(Fact::CreditPolicy(from("2026-01-01")));
    assert_eq!(refused, Outcome::PolicyRefused(PolicyRefusal::OtherVersion(first.digest)));
    let refused = world.apply(Fact::CreditPolicy(from("2026-03-10")));
    assert_eq!(refused, Outcome::PolicyRefused(PolicyRefusal::Begun(day("2026-03-11"))));
    assert_eq!(world.apply(Fact::CreditPolicy(from("2026-03-11"))), Outcome::PolicyApplied);
    let days_on = |text| world.fold.credit_policy_on(day(text)).map(|policy| policy.emergency_days);
    assert_eq!(
        [days_on("2025-12-31"), days_on("2026-03-10"), days_on("2026-03-11")],
        [None, Some(3), Some(5)]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn paying_the_amount_shown_exactly_always_keeps_or_restores_supply(
        uses in prop::collection::vec(0..12_000_i64, 4..20),
        opening in 0..20_000_i64,
        owed in prop::sample::select(&[0, 300, 900_000, 1_200_000, 5_000_000][..]),
    ) {
        let mut world = household();
        if owed > 0 {
            let outbox = world.outbox();
            world.apply(Fact::Arrears(Arrears { outbox, account: AccountId(1), amount: Paise(owed) }));
        }
        if opening > 0 {
            recharge(&mut world, "p0", opening);
        }
        let mut wh = 0;
        for (offset, used) in (0..).zip(&uses) {
            let today = day("2026-03-01").plus(offset);
            wh += used;
            world.now = world.now.max(Calendar::india().at(today.next(), 0, 20));
            world.push(1, vec![register(&today.to_string(), wh)]);
            world.close(&today.to_string());
            if let Some(notice) = due(&world) {
                world.apply(sent(notice));
            }
        }
        // Some is used today already.
        let today = day("2026-03-01").plus(i32::try_from(uses.len()).unwrap());
        world.now = Calendar::india().at(today, 9, 20);
        world.push(1, vec![reading(ReadingKind::Interval, Calendar::india().at(today, 9, 0), values(700))]);
        let policy = world.fold.credit_policy_on(today).cloned();
        let amount = amount_to_keep(policy.as_ref(), &world.view(1));
        prop_assert_eq!(amount.0 % 100, 0);
        if amount > Paise::ZERO {
            let less = Paise(amount.0 - 100);
            let share = policy.as_ref().unwrap().arrears_share(less, world.view(1).arrears);
            let left = (less - share + world.view(1).booked - world.view(1).accrued).0;
            prop_assert!(left <= 0, "a rupee less is not enough");
            recharge(&mut world, "exactly", amount.0);
        }
        let at = Calendar::india().at(today, 11, 0);
        prop_assert!(names(&world, at).contains(&"not_below_zero"));
        // Nothing more is used: what was shown covers the day when it is posted.
        world.close(&today.to_string());
        prop_assert!(world.view(1).booked > Paise::ZERO);
        prop_assert!(names(&world, Calendar::india().at(today.next(), 11, 0)).contains(&"not_below_zero"));
    }
}
