//! Control facts: each gets its answer, and a refused one changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use ledger::outcome::{DayRefusal, RechargeRefusal, TariffRefusal, TermsRefusal};
use ledger::{Limits, Outcome};
use model::row::{Head, PostingKind};
use model::*;
use world::*;

fn recharge(world: &mut World, account: u32, amount: i64, id: &str) -> Outcome {
    world.apply(Fact::Recharge(Recharge {
        account: AccountId(account),
        amount: Paise(amount),
        payment_id: id.into(),
    }))
}

fn fact_rows(world: &World) -> usize {
    world.rows.iter().filter(|row| matches!(row, Row::Fact(_))).count()
}

#[test]
fn a_recharge_is_booked_once_and_a_repeat_says_where() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let posted = recharge(&mut world, 1, 50_000, "pay-1");
    let accrued = world.view(1).accrued;
    assert_eq!(posted, Outcome::RechargePosted { balance: Paise(50_000) - accrued, arrears: Paise(0) });
    let position = world.fold.position();
    assert_eq!(recharge(&mut world, 1, 50_000, "pay-1"), Outcome::RechargeExists { position });
    let differs = Outcome::RechargeDiffers { position, account: AccountId(1), amount: Paise(50_000) };
    assert_eq!(recharge(&mut world, 1, 60_000, "pay-1"), differs);
    world.account(2, "lmv1-urban", "2026-06-01", 0);
    assert_eq!(recharge(&mut world, 2, 50_000, "pay-1"), differs);
    assert!(!differs.is_success());

    let lines: Vec<_> = world.postings().map(|line| (line.head, line.amount.0, line.kind)).collect();
    assert_eq!(
        lines,
        [(Head::Consumer, 50_000, PostingKind::Recharge), (Head::Cash, -50_000, PostingKind::Recharge)]
    );
    assert!(world.postings().all(|line| line.reference.as_deref() == Some("pay-1")));
    assert_eq!(world.view(1).last_recharge, Some((Paise(50_000), world.now)));
    assert_eq!(world.fold.has_payment("pay-1").unwrap().position, position);
    assert_eq!(world.fold.has_payment("pay-2"), None);
}

fn reverse(world: &mut World, id: &str) -> Outcome {
    let reversed = PaymentReversed { payment_id: id.to_owned(), reason: ReversalReason::Chargeback };
    world.apply(Fact::PaymentReversed(reversed))
}

#[test]
fn a_payment_that_is_taken_back_is_an_entry_of_its_own_once_and_is_never_booked_again() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    assert_eq!(reverse(&mut world, "pay-1"), Outcome::UnknownPayment);
    recharge(&mut world, 1, 50_000, "pay-1");
    let before = world.view(1);
    let taken = Outcome::PaymentReversed {
        account: AccountId(1),
        amount: Paise(50_000),
        balance: before.balance() - Paise(50_000),
    };
    assert_eq!(reverse(&mut world, "pay-1"), taken);
    let position = world.fold.position();
    assert_eq!(reverse(&mut world, "pay-1"), Outcome::ReversalExists { position });
    // What the gateway tells once more is not credited again.
    assert!(matches!(recharge(&mut world, 1, 50_000, "pay-1"), Outcome::RechargeExists { .. }));
    let view = world.view(1);
    assert_eq!((view.booked, view.last_recharge), (before.booked - Paise(50_000), None));
    // The last that stands is the last.
    recharge(&mut world, 1, 10_000, "pay-2");
    recharge(&mut world, 1, 20_000, "pay-3");
    assert!(reverse(&mut world, "pay-3").is_success());
    assert_eq!(world.view(1).last_recharge.map(|(amount, _)| amount), Some(Paise(10_000)));
    let lines: Vec<_> = world.postings().map(|line| (line.head, line.amount.0, line.kind)).collect();
    assert_eq!(
        lines[2..4],
        [(Head::Consumer, -50_000, PostingKind::Reversal), (Head::Cash, 50_000, PostingKind::Reversal)]
    );
    assert!(world.postings().take(4).all(|line| line.reference.as_deref() == Some("pay-1")));
    assert_eq!(world.postings().map(|line| line.amount.0).sum::<i64>(), 0);
}

fn hold(world: &mut World, amount: i64, id: &str) -> Outcome {
    world.apply(Fact::SuspenseReceived(SuspenseReceived { payment_id: id.into(), amount: Paise(amount) }))
}

fn assign(world: &mut World, id: &str, account: u32) -> Outcome {
    let account = AccountId(account);
    world.apply(Fact::SuspenseAssigned(SuspenseAssigned { payment_id: id.into(), account }))
}

fn total(world: &World, head: Head) -> i64 {
    world.postings().filter(|line| line.head == head).map(|line| line.amount.0).sum()
}

#[test]
fn money_of_nobody_is_in_suspense_until_it_is_assigned_and_then_a_recharge() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let before = world.view(1);
    assert_eq!(assign(&mut world, "a", 1), Outcome::UnknownPayment);
    for (amount, id, refusal) in [
        (0, "a", RechargeRefusal::NotPositive),
        (i64::MAX, "a", RechargeRefusal::TooLarge),
        (5, "", RechargeRefusal::PaymentId),
    ] {
        assert_eq!(hold(&mut world, amount, id), Outcome::RechargeRefused(refusal));
    }
    assert_eq!(hold(&mut world, 30_000, "a"), Outcome::HeldInSuspense);
    let received = world.fold.position();
    assert_eq!(world.view(1).booked, before.booked);
    assert_eq!((total(&world, Head::Suspense), total(&world, Head::Cash)), (30_000, -30_000));
    assert!(world.postings().all(|line| line.account == AccountId::SUSPENSE));
    // The source tells it again, and with another amount.
    assert_eq!(hold(&mut world, 30_000, "a"), Outcome::RechargeExists { position: received });
    assert!(matches!(hold(&mut world, 40_000, "a"), Outcome::RechargeDiffers { .. }));
    assert_eq!(assign(&mut world, "a", 9), Outcome::UnknownAccount);
    assert!(matches!(assign(&mut world, "a", 1), Outcome::RechargePosted { .. }));
    let assigned = world.fold.position();
    assert_eq!(assign(&mut world, "a", 1), Outcome::RechargeExists { position: assigned });
    world.account(2, "lmv1-urban", "2026-06-01", 0);
    assert_eq!(assign(&mut world, "a", 2), Outcome::NotInSuspense { account: AccountId(1) });
    assert_eq!(hold(&mut world, 30_000, "a"), Outcome::RechargeExists { position: received });
    let view = world.view(1);
    assert_eq!(view.booked, before.booked + Paise(30_000));
    assert_eq!(view.last_recharge, Some((Paise(30_000), world.now)));
    assert_eq!((total(&world, Head::Suspense), total(&world, Head::Cash)), (0, -30_000));
    assert_eq!(world.postings().map(|line| line.amount.0).sum::<i64>(), 0);
}

#[test]
fn money_in_suspense_goes_back_once_and_is_assigned_to_nobody_then() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    hold(&mut world, 30_000, "a");
    let back = Outcome::PaymentReversed {
        account: AccountId::SUSPENSE,
        amount: Paise(30_000),
        balance: Paise::ZERO,
    };
    assert_eq!(reverse(&mut world, "a"), back);
    let position = world.fold.position();
    assert_eq!(reverse(&mut world, "a"), Outcome::ReversalExists { position });
    assert_eq!(assign(&mut world, "a", 1), Outcome::NotInSuspense { account: AccountId::SUSPENSE });
    assert_eq!((total(&world, Head::Suspense), total(&world, Head::Cash)), (0, 0));
}

#[test]
fn a_payment_booked_to_the_wrong_account_goes_through_suspense_to_the_right_one() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.account(2, "lmv1-urban", "2026-06-01", 0);
    let before = (world.view(1).booked, world.view(2).booked);
    recharge(&mut world, 1, 10_000, "earlier");
    recharge(&mut world, 1, 50_000, "p");
    let misdirected = |world: &mut World, account: u32| {
        let (payment_id, account) = ("p".to_owned(), AccountId(account));
        world.apply(Fact::PaymentMisdirected(PaymentMisdirected { payment_id, account }))
    };
    assert_eq!(misdirected(&mut world, 2), Outcome::NotAtAccount { account: AccountId(1) });
    let taken = misdirected(&mut world, 1);
    assert!(matches!(taken, Outcome::PaymentReversed { account: AccountId(1), .. }), "{taken:?}");
    assert_eq!(misdirected(&mut world, 1), Outcome::NotAtAccount { account: AccountId::SUSPENSE });
    assert_eq!(world.view(1).booked, before.0 + Paise(10_000));
    assert_eq!(world.view(1).last_recharge.map(|(amount, _)| amount), Some(Paise(10_000)));
    assert_eq!((total(&world, Head::Suspense), total(&world, Head::Cash)), (50_000, -60_000));
    // Its source tells it as it did before: nothing is credited twice.
    assert!(matches!(recharge(&mut world, 1, 50_000, "p"), Outcome::RechargeExists { .. }));
    assert!(assign(&mut world, "p", 2).is_success());
    // Said once more by who did not hear the answer, it takes nothing from whom it is for.
    assert_eq!(misdirected(&mut world, 1), Outcome::NotAtAccount { account: AccountId(2) });
    assert_eq!(world.view(2).booked, before.1 + Paise(50_000));
    assert!(matches!(recharge(&mut world, 1, 50_000, "p"), Outcome::RechargeExists { .. }));
    world.account(3, "lmv1-urban", "2026-06-01", 0);
    assert!(matches!(recharge(&mut world, 3, 50_000, "p"), Outcome::RechargeDiffers { .. }));
    // An older payment that comes to an account is its newest.
    recharge(&mut world, 2, 70_000, "later");
    assert!(reverse(&mut world, "later").is_success());
    assert_eq!(world.view(2).last_recharge.map(|(amount, _)| amount), Some(Paise(50_000)));
    assert_eq!(total(&world, Head::Suspense), 0);
    assert_eq!(world.postings().map(|line| line.amount.0).sum::<i64>(), 0);
}

#[test]
fn a_refused_recharge_is_a_fact_without_postings() {
    let mut world =
        World::with_limits("2026-06-01T10:00:00", Limits { max_payments: 1, ..Limits::default() });
    world.account(1, "lmv1-urban", "2026-06-01", 0);
    let before = fact_rows(&world);
    for (account, amount, id, outcome) in [
        (1, 0, "a", Outcome::RechargeRefused(RechargeRefusal::NotPositive)),
        (1, -5, "a", Outcome::RechargeRefused(RechargeRefusal::NotPositive)),
        (1, i64::MAX, "a", Outcome::RechargeRefused(RechargeRefusal::TooLarge)),
        (1, 5, "", Outcome::RechargeRefused(RechargeRefusal::PaymentId)),
        (9, 5, "a", Outcome::UnknownAccount),
    ] {
        assert_eq!(recharge(&mut world, account, amount, id), outcome);
    }
    assert_eq!(world.postings().count(), 0);
    assert_eq!(fact_rows(&world), before + 5);
    assert!(recharge(&mut world, 1, 5, "a").is_success());
    assert_eq!(recharge(&mut world, 1, 5, "b"), Outcome::RechargeRefused(RechargeRefusal::Full));
}

#[test]
fn an_outbox_entry_is_drained_once() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    let mut terms = world.account_terms(2, "lmv1-urban", "2026-06-01", 0);
    terms.opening_balance = Paise(-12_345);
    assert_eq!(world.apply(Fact::AccountTerms(terms.clone())), Outcome::TermsApplied);
    let last = world.fold.last_outbox();
    assert_eq!(world.apply(Fact::AccountTerms(terms)), Outcome::TermsExists { last });
    let lines: Vec<_> =
        world.postings().map(|line| (line.head, line.amount.0, line.kind, line.usage_date)).collect();
    assert_eq!(
        lines,
        [
            (Head::Consumer, -12_345, PostingKind::Opening, day("2026-06-01")),
            (Head::Migration, 12_345, PostingKind::Opening, day("2026-06-01")),
        ]
    );
    assert_eq!(world.view(2).booked, Paise(-12_345));
}

#[test]
fn terms_that_can_not_be_are_refused_with_a_reason() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    let mut refused = |change: &dyn Fn(&mut AccountTerms), refusal: TermsRefusal| {
        let mut terms = world.account_terms(2, "lmv1-urban", "2026-06-01", 0);
        change(&mut terms);
        assert_eq!(world.apply(Fact::AccountTerms(terms)), Outcome::TermsRefused(refusal));
        assert_eq!(world.fold.account(AccountId(2)), None);
    };
    let max = Limits::default().max_accounts;
    refused(&|terms| terms.account = AccountId(0), TermsRefusal::Id(max));
    refused(&|terms| terms.account = AccountId(u32::MAX), TermsRefusal::Id(max));
    refused(&|terms| terms.tariff = String::new(), TermsRefusal::TariffName);
    refused(&|terms| terms.sanctioned_w = u32::MAX, TermsRefusal::Load);
    refused(&|terms| terms.sanctioned_w = 0, TermsRefusal::Load);
    refused(&|terms| terms.opening_register_wh = -1, TermsRefusal::OpeningRegister);
    refused(&|terms| terms.opening_balance = Paise(i64::MIN), TermsRefusal::OpeningBalance);
    let range = TermsRefusal::From { first: day("2025-04-01"), last: day("2026-06-15").plus(400) };
    refused(&|terms| terms.from = day("2025-03-31"), range);
    refused(&|terms| terms.from = CivilDay(i32::MAX), range);

    let mut refused = |change: &dyn Fn(&mut MeterTerms), refusal: TermsRefusal| {
        let mut terms = world.meter_terms(1, Some(1));
        change(&mut terms);
        assert_eq!(world.apply(Fact::MeterTerms(terms)), Outcome::TermsRefused(refusal));
    };
    refused(&|terms| terms.meter = MeterId(0), TermsRefusal::Id(Limits::default().max_meters));
    for period_s in [0, 59, 420, 100_000] {
        refused(&|terms| terms.period_s = period_s, TermsRefusal::Period);
    }
    refused(&|terms| terms.period_s = 900, TermsRefusal::PeriodChanged);
    refused(&|terms| terms.title = SystemTitle(*b"XXX00001"), TermsRefusal::TitleChanged);
    refused(&|terms| terms.account = Some(AccountId(2)), TermsRefusal::AccountChanged);
    refused(&|terms| terms.key_epoch = 0, TermsRefusal::KeyEpoch);
}

#[test]
fn a_lifeline_account_has_a_load_of_one_kilowatt_at_most() {
    let mut world = World::new("2026-06-15T10:00:00");
    world.apply(Fact::TariffVersion(builtin("lmv1-lifeline")));
    let refused = world.account(1, "lmv1-lifeline", "2026-06-15", 0);
    assert_eq!(refused, Outcome::TermsRefused(TermsRefusal::LoadAboveTariff(1000)));
    let mut terms = world.account_terms(1, "lmv1-lifeline", "2026-06-15", 0);
    terms.sanctioned_w = 1000;
    assert_eq!(world.apply(Fact::AccountTerms(terms)), Outcome::TermsApplied);
}

#[test]
fn a_shop_above_four_kilowatt_has_a_tariff_of_its_own() {
    let mut world = World::new("2026-06-15T10:00:00");
    for name in ["lmv2-urban-small", "lmv2-urban-large"] {
        world.apply(Fact::TariffVersion(builtin(name)));
    }
    let mut open = |account: u32, tariff: &str, sanctioned_w: u32| {
        let mut terms = world.account_terms(account, tariff, "2026-06-15", 0);
        terms.sanctioned_w = sanctioned_w;
        world.apply(Fact::AccountTerms(terms))
    };
    let refused = Outcome::TermsRefused(TermsRefusal::LoadBelowTariff(4001));
    assert_eq!(open(1, "lmv2-urban-large", 4000), refused);
    assert_eq!(open(1, "lmv2-urban-small", 4000), Outcome::TermsApplied);
    let refused = Outcome::TermsRefused(TermsRefusal::LoadAboveTariff(4000));
    assert_eq!(open(2, "lmv2-urban-small", 4001), refused);
    assert_eq!(open(2, "lmv2-urban-large", 4001), Outcome::TermsApplied);
}

#[test]
fn later_terms_begin_with_a_month_that_is_not_closed() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    world.close_until("2026-07-03");
    let mut later = |from: &str, change: &dyn Fn(&mut AccountTerms)| {
        let mut terms = world.account_terms(1, "lmv1-urban", from, 0);
        terms.sanctioned_w = 2000;
        change(&mut terms);
        world.apply(Fact::AccountTerms(terms))
    };
    let refused = Outcome::TermsRefused;
    let inside = TermsRefusal::InsideOfMonth(day("2026-07-05"));
    assert_eq!(later("2026-07-04", &|_| {}), refused(inside));
    let range = TermsRefusal::From { first: day("2026-07-01"), last: day("2026-07-04").plus(400) };
    assert_eq!(later("2027-08-09", &|_| {}), refused(range));
    assert_eq!(later("2026-06-01", &|_| {}), refused(TermsRefusal::Closed(day("2026-07-01"))));
    assert_eq!(
        later("2026-08-01", &|terms| terms.opening_balance = Paise(1)),
        refused(TermsRefusal::OpeningTwice)
    );
    let postpaid = |terms: &mut AccountTerms| terms.connection = ConnectionType::Postpaid;
    assert_eq!(later("2026-08-01", &postpaid), refused(TermsRefusal::ConnectionChanged));
    for from in ["2026-08-01", "2026-09-01", "2026-10-01", "2026-11-01"] {
        assert_eq!(later(from, &|_| {}), Outcome::TermsApplied);
    }
    assert_eq!(later("2026-12-01", &|_| {}), refused(TermsRefusal::Full));
    assert_eq!(later("2026-08-01", &|terms| terms.sanctioned_w = 3000), Outcome::TermsApplied);
    assert_eq!(later("2026-07-01", &|terms| terms.sanctioned_w = 5000), Outcome::TermsApplied);
    assert_eq!(world.view(1).sanctioned_w, 5000);
    world.close_until("2026-07-31");
    assert_eq!(world.view(1).sanctioned_w, 3000);
}

#[test]
fn nobody_comes_under_a_tariff_before_its_first_version_nor_while_a_look_up_is_under_way() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    world.apply(Fact::TariffVersion(flat("new", "2026-08-01", "5.00")));
    let refused = Outcome::TermsRefused;
    let none = refused(TermsRefusal::NoTariffVersion(month("2026-07")));
    assert_eq!(world.account(1, "new", "2026-07-15", 0), none);
    assert_eq!(world.account(1, "new", "2026-08-15", 0), Outcome::TermsApplied);

    world.answers_at_once = false;
    world.until("2026-06-15T11:00:00").push(1, vec![interval("2026-06-15T10:30:00", 500)]);
    world.push(1, vec![interval("2026-06-15T10:30:00", 700)]);
    assert_eq!(world.account(1, "lmv1-urban", "2026-06-20", 0), refused(TermsRefusal::LookUp));
    world.answer(0);
    assert_eq!(world.account(1, "lmv1-urban", "2026-06-20", 0), Outcome::TermsApplied);
}

#[test]
fn terms_inside_of_a_month_begin_ahead_of_its_data_and_its_first_day_keeps_what_it_had() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    let later = |world: &mut World, from: &str, sanctioned_w: u32| {
        let mut terms = world.account_terms(1, "lmv1-urban", from, 0);
        terms.sanctioned_w = sanctioned_w;
        world.apply(Fact::AccountTerms(terms))
    };
    let refused = Outcome::TermsRefused;
    let inside = |from: &str| refused(TermsRefusal::InsideOfMonth(day(from)));
    world.close_until("2026-07-03");
    assert_eq!(later(&mut world, "2026-07-04", 2000), inside("2026-07-05"));
    // An interval that ends after midnight may have come already.
    world.until("2026-07-04T23:50:00");
    assert_eq!(later(&mut world, "2026-07-05", 2000), inside("2026-07-06"));
    assert_eq!(later(&mut world, "2026-07-06", 2000), Outcome::TermsApplied);
    assert_eq!(later(&mut world, "2026-07-09", 7000), Outcome::TermsApplied);
    assert_eq!(later(&mut world, "2026-07-06", 3000), Outcome::TermsApplied);
    assert_eq!(later(&mut world, "2026-07-01", 5000), Outcome::TermsApplied);
    assert_eq!(world.view(1).sanctioned_w, 5000);
    world.close_until("2026-07-06");
    assert_eq!(world.view(1).sanctioned_w, 3000);
    let parts = TermsRefusal::MonthHasParts { inside: day("2026-07-08"), month: day("2026-08-01") };
    assert_eq!(later(&mut world, "2026-07-01", 4000), refused(parts));
    world.close_until("2026-07-09");
    assert_eq!(world.view(1).sanctioned_w, 7000);
}

#[test]
fn a_tariff_version_is_taken_once_and_never_for_closed_days() {
    let mut world = World::new("2026-06-15T10:00:00");
    let first = flat("t", "2026-01-01", "5.00");
    assert_eq!(world.apply(Fact::TariffVersion(first.clone())), Outcome::TariffApplied);
    assert_eq!(world.apply(Fact::TariffVersion(first.clone())), Outcome::TariffExists);
    let other = flat("t", "2026-01-01", "5.10");
    let refused = world.apply(Fact::TariffVersion(other));
    assert_eq!(refused, Outcome::TariffRefused(TariffRefusal::OtherVersion(first.digest)));

    let mut refused = |change: &dyn Fn(&mut TariffVersion), refusal: TariffRefusal| {
        let mut version = flat("t", "2026-07-01", "6.00");
        change(&mut version);
        assert_eq!(world.apply(Fact::TariffVersion(version)), Outcome::TariffRefused(refusal));
    };
    let digest = flat("t", "2026-07-01", "6.00").digest;
    refused(&|version| version.name = "u".into(), TariffRefusal::OtherName("t".into()));
    refused(&|version| version.from = day("2026-08-01"), TariffRefusal::OtherFrom(day("2026-07-01")));
    refused(&|version| version.digest = Digest([0; 16]), TariffRefusal::OtherDigest(digest));
    let mut mid_month = flat("t", "2026-07-01", "6.00");
    mid_month.body = mid_month.body.replace("2026-07-01", "2026-07-02");
    assert!(matches!(
        world.apply(Fact::TariffVersion(mid_month)),
        Outcome::TariffRefused(TariffRefusal::Body(_))
    ));

    world.account(1, "t", "2026-06-15", 0);
    world.close_until("2026-07-02");
    let closed = world.apply(Fact::TariffVersion(flat("t", "2026-06-01", "6.00")));
    assert_eq!(closed, Outcome::TariffRefused(TariffRefusal::Closed(day("2026-07-01"))));
    assert_eq!(world.apply(Fact::TariffVersion(flat("t", "2026-07-01", "6.00"))), Outcome::TariffApplied);
    assert_eq!(world.apply(Fact::TariffVersion(flat("new", "2026-02-01", "6.00"))), Outcome::TariffApplied);
    let names: Vec<_> =
        world.fold.tariffs().into_iter().map(|version| (version.name, version.from)).collect();
    assert_eq!(
        names,
        [("t".into(), day("2026-01-01")), ("t".into(), day("2026-07-01")), ("new".into(), day("2026-02-01"))]
    );
}

#[test]
fn days_close_in_order_and_slices_leave_no_account_out() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    for account in [2, 5] {
        world.account(account, "lmv1-urban", "2026-06-15", 0);
    }
    let mut close = |text: &str, first, last, complete| {
        world.now = at("2026-06-20T10:00:00");
        let day = day(text);
        world.apply(Fact::DayClosed(DayClosed {
            day,
            first: AccountId(first),
            last: AccountId(last),
            complete,
        }))
    };
    let refused = Outcome::DayRefused;
    let expected = day("2026-06-15");
    assert_eq!(close("2026-06-16", 1, 5, true), refused(DayRefusal::NotNextDay { expected }));
    assert_eq!(close("2026-06-15", 2, 5, true), refused(DayRefusal::NotNextSlice { expected: AccountId(1) }));
    assert_eq!(close("2026-06-15", 3, 1, false), refused(DayRefusal::Empty));
    assert_eq!(close("2026-06-15", 1, 4, true), refused(DayRefusal::NotComplete(AccountId(5))));
    assert!(close("2026-06-15", 1, 1, false).is_success());
    assert_eq!(close("2026-06-15", 1, 5, true), refused(DayRefusal::NotNextSlice { expected: AccountId(2) }));
    assert_eq!(close("2026-06-15", 5, 5, true), refused(DayRefusal::NotNextSlice { expected: AccountId(2) }));
    assert!(close("2026-06-15", 2, 4, false).is_success());
    let done = Outcome::DayClosed { day: expected, charged: 1, unrated: 0, corrections: 0 };
    assert_eq!(close("2026-06-15", 5, 9, true), done);
    assert!(close("2026-06-16", 1, u32::MAX - 1, true).is_success());
    assert_eq!(world.fold.next_close(), day("2026-06-17"));
    assert_eq!(world.fold.standing().closed_until, Some(day("2026-06-16")));
    let usage = world.postings().filter(|line| line.head == Head::Consumer).count();
    assert_eq!(usage, 6);
}

#[test]
fn an_account_pays_nothing_before_its_first_day() {
    let mut world = World::with_account("2026-06-15T10:00:00");
    world.account(2, "lmv1-urban", "2026-06-17", 0);
    world.close_until("2026-06-17");
    let days: Vec<_> = world
        .postings()
        .filter(|line| line.account == AccountId(2) && line.head == Head::Consumer)
        .map(|line| line.usage_date.to_string())
        .collect();
    assert_eq!(days, ["2026-06-17"]);
    assert_eq!(world.charged(2, month("2026-06"))[&Head::Fixed], 1100);
}

#[test]
fn the_first_day_to_close_is_that_of_the_earliest_account() {
    let mut world = World::new("2026-06-15T10:00:00");
    world.meter(7, Some(1));
    assert_eq!(world.fold.next_close(), day("2026-06-15"));
    assert_eq!(world.fold.account_range(), None);
    world.account(1, "lmv1-urban", "2026-06-10", 0);
    world.account(2, "lmv1-urban", "2026-06-05", 0);
    assert_eq!(world.fold.next_close(), day("2026-06-05"));
    assert_eq!(world.fold.account_range(), Some((AccountId(1), AccountId(2))));
}

#[test]
fn every_outcome_says_something_and_only_some_are_worth_a_retry() {
    let refused = Outcome::DayRefused(DayRefusal::NotNextDay { expected: day("2026-06-15") });
    assert_eq!(refused.to_string(), "the next day to close is 2026-06-15");
    assert!(refused.retry_helps() && !refused.is_success());
    let posted = Outcome::RechargePosted { balance: Paise(12_345), arrears: Paise(0) };
    assert_eq!(posted.to_string(), "recharge posted, balance 123.45");
    assert!(!posted.retry_helps());
}
