//! What an account pays: days add up to the month's bill, and the bill is the tariff's to the paisa.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeMap;

use ledger::rating::charge_to_date;
use ledger::{Outcome, Tariff};
use model::row::{Head, PostingKind};
use model::*;
use proptest::prelude::*;
use world::*;

/// The bill of a real urban account of 4 kW, 30 daily charges from 19 March to 18 April 2026 (12 in March, 18 in April):
/// energy 1177.24, fixed 325.74, subsidy 232.01, an unexplained 6.47 that is taken for surcharge here, duty 63.87,
/// rebate 25.55, total 1315.76. How the units split over the months is not on it; 68.77 and 103.09 kWh are taken, the
/// average of 5.73 kWh a day.
#[test]
fn a_real_bill_comes_out_to_the_paisa() {
    let body = ledger::builtin_tariffs()[0].1.split("[surcharge]").next().unwrap();
    let tariff = Tariff::parse(&format!(
        "{body}[surcharge]\n\"2026-03\" = \"0.5091 %\"\n\"2026-04\" = \"0.5091 %\"\n"
    ))
    .unwrap();
    let march = charge_to_date(&tariff, month("2026-03"), 12, 68_770, 2_210, 4_000);
    let april = charge_to_date(&tariff, month("2026-04"), 18, 103_090, 2_210, 4_000);
    let heads: Vec<i64> =
        march.heads.iter().zip(april.heads).map(|(march, april)| march.0 + april.0).collect();
    assert_eq!(heads, [117_724, 32_574, -23_201, 647, 6_387, -2_555, 0, 0]);
    assert_eq!(march.total().0 + april.total().0, 131_576);
}

#[test]
fn the_same_bill_comes_out_of_the_ledger_day_by_day() {
    let mut world = World::new("2026-03-20T06:00:00");
    let body = ledger::builtin_tariffs()[0].1.split("[surcharge]").next().unwrap();
    let body = format!("{body}[surcharge]\n\"2026-03\" = \"0.5091 %\"\n\"2026-04\" = \"0.5091 %\"\n");
    world.apply(Fact::TariffVersion(tariff_version(&body)));
    world.account(1, "lmv1-urban", "2026-03-20", 1_000_000);
    world.meter(1, Some(1));
    let mut wh = 1_000_000;
    for offset in 0..30 {
        let today = day("2026-03-20").plus(offset);
        wh += if today < day("2026-04-01") { 68_770 / 12 } else { 103_090 / 18 };
        let exact = match today.to_string().as_str() {
            "2026-03-31" => 1_068_770,
            "2026-04-18" => 1_171_860,
            _ => wh,
        };
        world.now = Calendar::india().at(today.next(), 0, 20);
        world.push(1, vec![register(&today.to_string(), exact)]);
        world.close(&today.to_string());
    }
    let sum = |head| world.postings().filter(|line| line.head == head).map(|line| line.amount.0).sum::<i64>();
    assert_eq!(Head::CHARGED.map(sum), [117_724, 32_574, -23_201, 647, 6_387, -2_555, 0, 0]);
    assert_eq!(sum(Head::Consumer), -131_576);
    assert_eq!(world.view(1).booked, Paise(-131_576));
}

#[test]
fn a_day_without_data_pays_the_fixed_charge_alone() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.close_until("2026-06-03");
    let charged = world.charged(1, month("2026-06"));
    assert_eq!(charged.keys().copied().collect::<Vec<_>>(), [Head::Fixed, Head::Duty, Head::Rebate]);
    assert_eq!(charged[&Head::Fixed], 3 * 1100);
    assert_eq!(world.charged_wh(1, month("2026-06")), 0);
}

#[test]
fn a_usage_entry_names_energy_and_tariff_on_the_consumers_line() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.until("2026-06-02T00:20:00").push(1, vec![register("2026-06-01", 6_250)]);
    let outcome = world.close("2026-06-01");
    assert_eq!(
        outcome,
        Outcome::DayClosed { day: day("2026-06-01"), charged: 1, unrated: 0, corrections: 0 }
    );
    let lines: Vec<_> = world.postings().collect();
    let consumer: Vec<_> = lines.iter().filter(|line| line.head == Head::Consumer).collect();
    assert_eq!(consumer.len(), 1);
    assert_eq!(consumer[0].energy_wh, Some(6_250));
    assert_eq!(consumer[0].tariff, Some(builtin("lmv1-urban").digest));
    assert_eq!(consumer[0].kind, PostingKind::Usage);
    assert_eq!(consumer[0].usage_date, day("2026-06-01"));
    assert!(lines.iter().filter(|line| line.head != Head::Consumer).all(|line| line.energy_wh.is_none()));
    assert_eq!(
        lines.iter().map(|line| line.line).collect::<Vec<_>>(),
        (0..lines.len() as u32).collect::<Vec<_>>()
    );
}

#[test]
fn an_account_without_tariff_is_not_charged_until_one_is_there() {
    let mut world = World::new("2026-06-01T10:00:00");
    world.account(1, "lmv1-urban", "2026-06-01", 0);
    world.meter(1, Some(1));
    world.until("2026-06-02T00:20:00").push(1, vec![register("2026-06-01", 6_250)]);
    let outcome = world.close("2026-06-01");
    assert_eq!(
        outcome,
        Outcome::DayClosed { day: day("2026-06-01"), charged: 0, unrated: 1, corrections: 0 }
    );
    assert_eq!(world.postings().count(), 0);
    assert_eq!(world.view(1).tariff_digest, None);
    assert_eq!(world.view(1).tariff, "lmv1-urban");

    world.apply(Fact::TariffVersion(builtin("lmv1-urban")));
    world.close("2026-06-02");
    assert_eq!(world.charged_wh(1, month("2026-06")), 6_250);
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Fixed], 2 * 1100);
}

#[test]
fn what_is_accrued_moves_with_every_reading_and_becomes_booked() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world.apply(Fact::Recharge(Recharge {
        account: AccountId(1),
        amount: Paise(50_000),
        payment_id: "p".into(),
    }));
    world.until("2026-06-01T10:31:00").push(1, vec![interval("2026-06-01T10:30:00", 1_000)]);
    let before = world.view(1);
    assert_eq!(before.booked, Paise(50_000));
    assert_eq!(before.month_energy_wh, 1_000);
    assert_eq!(before.month_demand_w, 2_000);
    world.until("2026-06-01T11:01:00").push(1, vec![interval("2026-06-01T11:00:00", 2_000)]);
    let after = world.view(1);
    assert!(after.accrued > before.accrued);
    assert_eq!(after.month_demand_w, 4_000);
    assert_eq!(after.recent.len(), 1);
    assert_eq!((after.recent[0].energy_wh, after.recent[0].closed), (3_000, false));
    assert_eq!(after.recent[0].charge, after.accrued);

    world.close("2026-06-01");
    let closed = world.view(1);
    assert_eq!(closed.booked, after.balance());
    assert_eq!(closed.booked_until, Some(day("2026-06-01")));
    assert_eq!(closed.recent.len(), 2);
    assert_eq!((closed.recent[0].energy_wh, closed.recent[0].charge), (3_000, after.accrued));
    assert!(closed.recent[0].closed && !closed.recent[1].closed);
}

#[test]
fn days_of_two_months_are_accrued_while_the_last_is_open() {
    let mut world = World::with_account("2026-06-30T10:00:00");
    world.until("2026-07-01T00:20:00").push(1, vec![register("2026-06-30", 5_000)]);
    world.until("2026-07-01T00:31:00").push(1, vec![interval("2026-07-01T00:30:00", 700)]);
    let view = world.view(1);
    let tariff = Tariff::parse(ledger::builtin_tariffs()[0].1).unwrap();
    let june = charge_to_date(&tariff, month("2026-06"), 1, 5_000, 0, 4_000);
    let july = charge_to_date(&tariff, month("2026-07"), 1, 700, 1_400, 4_000);
    assert_eq!(view.accrued, june.total() + july.total());
    assert_eq!(view.month_energy_wh, 700);
    assert_eq!(view.recent.iter().map(|day| day.energy_wh).collect::<Vec<_>>(), [5_000, 700]);
    world.close("2026-06-30");
    world.close("2026-07-01");
    assert_eq!(world.charged(1, month("2026-06")).values().sum::<i64>(), june.total().0);
    assert_eq!(world.charged(1, month("2026-07")).values().sum::<i64>(), july.total().0);
}

#[test]
fn a_tariff_and_a_load_change_with_the_month_and_leave_the_month_before_alone() {
    let mut world = World::new("2026-06-29T10:00:00");
    world.apply(Fact::TariffVersion(flat("t", "2026-01-01", "5.00")));
    world.account(1, "t", "2026-06-29", 0);
    world.meter(1, Some(1));
    assert_eq!(world.apply(Fact::TariffVersion(flat("t", "2026-07-01", "6.00"))), Outcome::TariffApplied);
    let mut later = world.account_terms(1, "t", "2026-07-01", 0);
    later.sanctioned_w = 2000;
    assert_eq!(world.apply(Fact::AccountTerms(later)), Outcome::TermsApplied);
    for (of, wh) in [("2026-06-29", 10_000), ("2026-06-30", 20_000), ("2026-07-01", 30_000)] {
        world.now = Calendar::india().at(day(of).next(), 0, 20);
        world.push(1, vec![register(of, wh)]);
        world.close(of);
    }
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Energy], 20 * 500);
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Fixed], 33_000 * 2 / 30);
    assert_eq!(world.charged(1, month("2026-07"))[&Head::Energy], 10 * 600);
    assert_eq!(world.charged(1, month("2026-07"))[&Head::Fixed], 532);
    assert_eq!(world.view(1).sanctioned_w, 2000);
}

/// June has 30 days: 10 of them at 5.00 and 3 kW, 15 at 6.00 and 3 kW, 5 at 6.00 and 6 kW; demand stays below the floor of
/// three quarters but in the second part.
#[test]
fn terms_that_change_inside_of_a_month_charge_the_days_that_they_are_in_force() {
    let mut world = World::new("2026-06-01T00:00:00");
    world.apply(Fact::TariffVersion(flat("low", "2026-01-01", "5.00")));
    world.apply(Fact::TariffVersion(flat("high", "2026-01-01", "6.00")));
    let mut terms = |tariff: &str, from: &str, sanctioned_w: u32| {
        let mut terms = world.account_terms(1, tariff, from, 0);
        terms.sanctioned_w = sanctioned_w;
        assert_eq!(world.apply(Fact::AccountTerms(terms)), Outcome::TermsApplied);
    };
    terms("low", "2026-06-01", 3000);
    terms("high", "2026-06-11", 3000);
    terms("high", "2026-06-26", 6000);
    world.meter(1, Some(1));
    for offset in 0..30 {
        let today = day("2026-06-01").plus(offset);
        world.now = Calendar::india().at(today.next(), 0, 20);
        let mut readings = vec![register(&today.to_string(), i64::from(offset + 1) * 2_000)];
        if offset == 20 {
            readings.push(interval("2026-06-21T20:00:00", 1_450));
        }
        world.push(1, readings);
        world.close(&today.to_string());
    }
    let charged = world.charged(1, month("2026-06"));
    assert_eq!(charged[&Head::Energy], 20 * 500 + 40 * 600);
    // 110 a kW and month: 2.25 kW for 10 days, 2.9 kW for 15, 4.5 kW for 5.
    assert_eq!(charged[&Head::Fixed], 8_250 + 15_950 + 8_250);
    let tariffs: Vec<_> = world.postings().filter(|line| line.head == Head::Consumer).collect();
    assert_eq!(tariffs.len(), 30);
    let digest_on = |day: usize| tariffs[day - 1].tariff;
    let [low, high] = ["5.00", "6.00"].map(|rate| {
        let name = if rate == "5.00" { "low" } else { "high" };
        Some(flat(name, "2026-01-01", rate).digest)
    });
    assert_eq!((digest_on(10), digest_on(11), digest_on(30)), (low, high, high));

    // A higher demand of the first part, which comes late, is charged for its ten days: 4 kW instead of 2.25.
    world.push(1, vec![interval("2026-06-05T20:00:00", 2_000)]);
    world.close("2026-07-01");
    let corrected = world.charged(1, month("2026-06"));
    assert_eq!(corrected[&Head::Fixed] - charged[&Head::Fixed], 14_667 - 8_250);
    assert_eq!(corrected[&Head::Energy], charged[&Head::Energy]);
    let correction =
        world.postings().find(|line| line.kind == PostingKind::Correction && line.tariff.is_some());
    let correction = correction.unwrap();
    assert_eq!((correction.usage_date, correction.tariff), (day("2026-06-05"), low));
}

/// Intervals say 30 kWh by the day on which the tariff changes, the register five days later 20 kWh: no more than what is
/// there at the later end is charged to either side.
#[test]
fn energy_that_a_later_register_does_not_know_is_charged_on_neither_side_of_a_change() {
    let mut world = World::new("2026-06-01T00:00:00");
    world.apply(Fact::TariffVersion(flat("low", "2026-01-01", "5.00")));
    world.apply(Fact::TariffVersion(flat("high", "2026-01-01", "6.00")));
    world.account(1, "low", "2026-06-01", 0);
    world.meter(1, Some(1));
    assert_eq!(world.account(1, "high", "2026-06-11", 0), Outcome::TermsApplied);
    world.until("2026-06-10T21:00:00").push(1, vec![interval("2026-06-10T20:00:00", 30_000)]);
    world.close_until("2026-06-12");
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Energy], 30 * 500);
    world.until("2026-06-16T00:20:00").push(1, vec![register("2026-06-15", 20_000)]);
    world.until("2026-06-17T00:20:00").push(1, vec![register("2026-06-16", 27_000)]);
    world.close_until("2026-06-15");
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Energy], 20 * 500);
    world.until("2026-06-18T00:20:00").push(1, vec![register("2026-06-17", 34_000)]);
    world.close_until("2026-06-16");
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Energy], 27 * 500);
    world.close_until("2026-06-17");
    assert_eq!(world.charged(1, month("2026-06"))[&Head::Energy], 30 * 500 + 4 * 600);
}

#[test]
fn an_account_that_comes_late_is_charged_from_its_first_day() {
    let mut world = World::with_account("2026-05-10T10:00:00");
    world.close_until("2026-06-04");
    assert_eq!(world.account(2, "lmv1-urban", "2026-05-20", 0), Outcome::TermsApplied);
    world.close("2026-06-05");
    assert_eq!(world.charged(2, month("2026-05"))[&Head::Fixed], 12_774);
    assert_eq!(world.charged(2, month("2026-06"))[&Head::Fixed], 5 * 1100);
    let kinds: Vec<_> =
        world.postings().filter(|line| line.account == AccountId(2) && line.head == Head::Consumer).collect();
    assert_eq!(kinds.len(), 2);
    assert_eq!((kinds[0].kind, kinds[0].usage_date), (PostingKind::Correction, day("2026-05-31")));
    assert_eq!((kinds[1].kind, kinds[1].usage_date), (PostingKind::Usage, day("2026-06-05")));
}

#[test]
fn absurd_values_are_stored_and_charged_up_to_the_cap_without_a_panic() {
    let mut world = World::with_account("2026-06-01T10:00:00");
    world
        .until("2026-06-01T23:00:00")
        .push(1, vec![interval("2026-06-01T10:30:00", i64::MAX), interval("2026-06-01T11:00:00", i64::MIN)]);
    world.until("2026-06-02T00:20:00").push(1, vec![register("2026-06-01", i64::MAX)]);
    world.close("2026-06-01");
    assert!(world.charged(1, month("2026-06"))[&Head::Energy] <= 6_850_000_000);
    assert_eq!(world.view(1).month_demand_w, ledger::rating::MAX_DEMAND_W);
}

proptest! {
    #[test]
    fn days_of_a_month_add_up_to_its_bill_for_any_split(
        days in proptest::collection::vec((0_i64..40_000, 0_i64..6_000, any::<bool>()), 30..31),
        (name, body) in proptest::sample::select(ledger::builtin_tariffs()),
    ) {
        let tariff = Tariff::parse(body).unwrap();
        let load_w = tariff.min_load_w.unwrap_or(1000);
        let mut world = World::new("2026-06-01T00:00:00");
        world.apply(Fact::TariffVersion(builtin(name)));
        let mut terms = world.account_terms(1, name, "2026-06-01", 0);
        terms.sanctioned_w = load_w;
        world.apply(Fact::AccountTerms(terms));
        world.meter(1, Some(1));
        let (mut wh, mut highest) = (0, 0);
        for (offset, (used, demand_w, is_read)) in (0..).zip(days) {
            let today = day("2026-06-01").plus(offset);
            wh += used;
            highest = highest.max(demand_w / 2 * 2);
            world.now = Calendar::india().at(today.next(), 0, 20);
            let peak = reading(ReadingKind::Interval, Calendar::india().at(today, 20, 0), values(demand_w / 2));
            world.push(1, vec![peak]);
            if is_read || offset == 29 {
                world.push(1, vec![register(&today.to_string(), wh)]);
            }
            world.close(&today.to_string());
        }
        let bill = charge_to_date(&tariff, month("2026-06"), 30, wh, highest, load_w);
        let expected: BTreeMap<Head, i64> =
            Head::CHARGED.into_iter().zip(bill.heads.map(|head| head.0)).filter(|(_, amount)| *amount != 0).collect();
        prop_assert_eq!(world.charged(1, month("2026-06")), expected);
        prop_assert_eq!(world.charged_wh(1, month("2026-06")), wh);
        prop_assert_eq!(world.view(1).booked, -bill.total());
    }
}
