use model::NoticeLevel;
use model::view::{AccountView, CreditView};

use super::*;
use crate::rules::{RuleError, RuleFault};

fn policy() -> CreditPolicy {
    CreditPolicy::parse(builtin_policy()).unwrap()
}

fn india(text: &str) -> Instant {
    let (day, time) = text.split_once('T').unwrap();
    let (hour, minute) = time.split_once(':').unwrap();
    Calendar::india().at(day.parse().unwrap(), hour.parse().unwrap(), minute.parse().unwrap())
}

/// One whom nothing protects on Wednesday, 10 June 2026, at 11:00: told on Friday before, 3 kW.
fn due() -> AccountView {
    AccountView {
        account: model::AccountId(1),
        connection: ConnectionType::Prepaid,
        from: "2026-01-01".parse().unwrap(),
        booked: Paise(-1),
        accrued: Paise(450),
        uncorrected: Paise(0),
        arrears: Paise(0),
        month_energy_wh: 0,
        month_demand_w: 0,
        recent: Vec::new(),
        last_recharge: None,
        booked_until: Some("2026-06-09".parse().unwrap()),
        tariff: "lmv1-urban".into(),
        tariff_digest: None,
        sanctioned_w: 3000,
        heard_at: Some(india("2026-06-10T10:30")),
        credit: CreditView {
            reached: NoticeLevel::USED_UP,
            told: NoticeLevel::USED_UP,
            used_up_told_at: Some(india("2026-06-05T09:00")),
            emergency_until: None,
            silent_days: 0,
            left_after_recharge: None,
        },
    }
}

fn account_of(booked: i64, accrued: i64) -> AccountView {
    AccountView { booked: Paise(booked), accrued: Paise(accrued), ..due() }
}

const FREE: Holds =
    Holds { enabled: true, protected: false, disputed: false, payment_in_flight: false, authenticated: true };

fn decision(account: &AccountView, holds: &Holds, at: &str) -> Decision {
    decide(Some(&policy()), &Calendar::india(), account, holds, india(at), india(at))
}

#[track_caller]
fn held(account: &AccountView, holds: &Holds, at: &str, expected: &[Hindrance]) {
    assert_eq!(decision(account, holds, at).hindrances, expected, "at {at}");
}

const AT: &str = "2026-06-10T11:00";

#[test]
fn nothing_is_cut_on_a_fresh_install() {
    let decided = decide(None, &Calendar::india(), &due(), &FREE, india(AT), india(AT));
    assert_eq!(decided.hindrances, [Hindrance::NoPolicy]);
    assert_eq!(decision(&due(), &FREE, AT), Decision { hindrances: vec![], earliest: Some(india(AT)) });
    let nothing_said = Holds::default();
    held(&due(), &nothing_said, AT, &[Hindrance::NotEnabled, Hindrance::Unauthenticated]);
}

#[test]
fn each_hold_from_outside_holds_a_cut_by_itself_and_has_no_end_by_itself() {
    type Hold = fn(&mut Holds);
    let holds: [(Hold, Hindrance); 5] = [
        (|holds| holds.enabled = false, Hindrance::NotEnabled),
        (|holds| holds.authenticated = false, Hindrance::Unauthenticated),
        (|holds| holds.protected = true, Hindrance::Protected),
        (|holds| holds.disputed = true, Hindrance::Disputed),
        (|holds| holds.payment_in_flight = true, Hindrance::PaymentInFlight),
    ];
    for (hold, hindrance) in holds {
        let mut held = FREE;
        hold(&mut held);
        let decided = decision(&due(), &held, AT);
        assert_eq!(decided, Decision { hindrances: vec![hindrance], earliest: None });
    }
}

#[test]
fn only_a_posted_balance_below_zero_of_a_prepaid_account_is_acted_on() {
    let mut account = due();
    account.booked = Paise::ZERO;
    held(&account, &FREE, AT, &[Hindrance::NotBelowZero]);
    let mut account = due();
    account.connection = ConnectionType::Postpaid;
    held(&account, &FREE, AT, &[Hindrance::NotPrepaid]);
    let mut account = due();
    (account.booked, account.accrued) = (Paise(1), Paise(1_000_000));
    held(&account, &FREE, AT, &[Hindrance::NotBelowZero]);
}

#[test]
fn emergency_credit_runs_in_days_from_the_notice_and_longer_for_small_loads() {
    let mut account = due();
    account.credit.used_up_told_at = None;
    held(&account, &FREE, AT, &[Hindrance::NotTold]);
    // Told on Sunday evening: Wednesday evening, after hours, is the end.
    let told = india("2026-06-07T20:15");
    account.credit.used_up_told_at = Some(told);
    let until = india("2026-06-10T20:15");
    let decided = decision(&account, &FREE, AT);
    assert_eq!(decided.hindrances, [Hindrance::EmergencyCredit(until)]);
    assert_eq!(decided.earliest, Some(india("2026-06-11T10:00")));
    account.credit.used_up_told_at = Some(india("2026-06-07T11:00"));
    held(&account, &FREE, AT, &[]);
    held(&account, &FREE, "2026-06-10T10:59", &[Hindrance::EmergencyCredit(india(AT))]);

    account.sanctioned_w = 2000;
    let until = india("2026-07-07T11:00");
    held(&account, &FREE, AT, &[Hindrance::EmergencyCredit(until)]);
    account.sanctioned_w = 2001;
    held(&account, &FREE, AT, &[]);
    account.credit.emergency_until = Some(until);
    held(&account, &FREE, AT, &[Hindrance::EmergencyCredit(until)]);
    account.credit.emergency_until = Some(india("2026-06-01T00:00"));
    held(&account, &FREE, AT, &[]);
    (account.sanctioned_w, account.tariff) = (1001, "lmv2-rural".into());
    held(&account, &FREE, AT, &[]);
    account.sanctioned_w = 1000;
    held(&account, &FREE, AT, &[Hindrance::EmergencyCredit(until)]);
}

#[test]
fn the_grace_of_a_new_prepaid_account_ends_at_a_midnight() {
    let mut account = due();
    account.from = "2026-05-12".parse().unwrap();
    let until = india("2026-06-11T00:00");
    let decided = decision(&account, &FREE, AT);
    assert_eq!(decided.hindrances, [Hindrance::ConversionGrace(until)]);
    assert_eq!(decided.earliest, Some(india("2026-06-11T10:00")));
    account.from = "2026-05-11".parse().unwrap();
    held(&account, &FREE, AT, &[]);
}

#[test]
fn nobody_is_cut_on_stale_data_or_days_that_are_not_posted() {
    let mut account = due();
    account.heard_at = Some(india("2026-06-09T11:00"));
    held(&account, &FREE, AT, &[]);
    account.heard_at = Some(india("2026-06-09T10:59"));
    held(&account, &FREE, AT, &[Hindrance::Stale(account.heard_at)]);
    account.heard_at = None;
    held(&account, &FREE, AT, &[Hindrance::Stale(None)]);
    let mut account = due();
    account.credit.silent_days = 1;
    held(&account, &FREE, AT, &[Hindrance::Awaited(1)]);
    let mut account = due();
    account.booked_until = Some("2026-06-08".parse().unwrap());
    held(&account, &FREE, AT, &[]);
    account.booked_until = Some("2026-06-07".parse().unwrap());
    held(&account, &FREE, AT, &[Hindrance::NotPosted(account.booked_until)]);
    account.booked_until = None;
    held(&account, &FREE, AT, &[Hindrance::NotPosted(None)]);
}

#[test]
fn a_moment_ahead_is_decided_as_if_the_meter_and_the_days_went_on() {
    let decided = |account: &AccountView| {
        decide(Some(&policy()), &Calendar::india(), account, &FREE, india("2026-06-22T10:00"), india(AT))
    };
    assert!(decided(&due()).is_due());
    let mut account = due();
    account.heard_at = Some(india("2026-06-01T00:00"));
    assert_eq!(decided(&account).hindrances, [Hindrance::Stale(account.heard_at)]);
}

#[test]
fn cuts_keep_to_the_hours_and_slide_past_days_that_are_barred() {
    held(&due(), &FREE, "2026-06-10T09:59", &[Hindrance::Hours]);
    held(&due(), &FREE, "2026-06-10T10:00", &[]);
    held(&due(), &FREE, "2026-06-10T12:59", &[]);
    held(&due(), &FREE, "2026-06-10T13:00", &[Hindrance::Hours]);
    let mut account = due();
    account.booked_until = Some("2026-06-14".parse().unwrap());
    account.heard_at = Some(india("2026-06-14T09:00"));
    // A second Saturday, then a Sunday.
    held(&account, &FREE, "2026-06-13T11:00", &[Hindrance::SecondSaturday]);
    held(&account, &FREE, "2026-06-14T11:00", &[Hindrance::Sunday]);
    let decided = decision(&account, &FREE, "2026-06-12T20:00");
    assert_eq!(decided.earliest, Some(india("2026-06-15T10:00")));
}

#[test]
fn emergency_credit_that_ends_before_a_second_saturday_a_sunday_and_a_holiday_slides_past_all_three() {
    // Friday before the second Saturday; Sunday is Diwali, then come Govardhan Puja on two days and Bhai Dooj.
    let mut account = due();
    account.credit.used_up_told_at = Some(india("2026-11-10T21:00"));
    (account.booked_until, account.heard_at) =
        (Some("2026-11-12".parse().unwrap()), Some(india("2026-11-13T17:00")));
    let decided = decision(&account, &FREE, "2026-11-13T18:00");
    assert_eq!(decided.hindrances, [Hindrance::EmergencyCredit(india("2026-11-13T21:00")), Hindrance::Hours]);
    // 14 November is the second Saturday, the 15th a Sunday.
    assert_eq!(decided.earliest, Some(india("2026-11-16T10:00")));
    account.credit.used_up_told_at = Some(india("2026-11-04T21:00"));
    (account.booked_until, account.heard_at) =
        (Some("2026-11-06".parse().unwrap()), Some(india("2026-11-07T17:00")));
    let decided = decision(&account, &FREE, "2026-11-07T18:00");
    assert_eq!(decided.earliest, Some(india("2026-11-12T10:00")), "Diwali to Bhai Dooj");
}

#[test]
fn a_year_without_a_list_of_holidays_cuts_nobody() {
    let mut account = due();
    account.booked_until = Some("2027-02-09".parse().unwrap());
    account.heard_at = Some(india("2027-02-10T10:00"));
    let decided = decision(&account, &FREE, "2027-02-10T11:00");
    assert_eq!(decided, Decision { hindrances: vec![Hindrance::NoCalendar(2027)], earliest: None });
    let decided = decision(&due(), &FREE, "2026-12-31T13:00");
    assert_eq!(decided.earliest, None, "what comes after is not known");
}

#[test]
fn the_amount_is_the_least_in_whole_rupees_that_lifts_the_balance_above_zero() {
    for (booked, accrued, amount) in [
        (-1, 0, 100),
        (-99, 0, 100),
        (-100, 0, 200),
        (-101, 0, 200),
        (0, 0, 100),
        (1, 0, 0),
        (50_000, 49_999, 0),
        (50_000, 50_000, 100),
        (50_000, 50_101, 200),
        (-50_000, 10_050, 60_100),
    ] {
        let account = account_of(booked, accrued);
        let paid = amount_to_keep(Some(&policy()), &account);
        assert_eq!(paid, Paise(amount), "{booked} {accrued}");
        let late = AccountView { accrued: Paise(0), uncorrected: Paise(accrued), ..account.clone() };
        assert_eq!(amount_to_keep(Some(&policy()), &late), paid, "late data costs as well");
        let back = AccountView { uncorrected: Paise(-7), ..account };
        assert_eq!(amount_to_keep(Some(&policy()), &back), paid, "what comes back is not counted on");
        assert!(booked + paid.0 - accrued > 0);
        let after = |paid: i64| AccountView {
            booked: Paise(booked + paid),
            last_recharge: Some((Paise(paid), india(AT))),
            ..account_of(booked, accrued)
        };
        assert_eq!(restored(&after(paid.0), false, india(AT)), Some(Restored::Paid));
        // Where what is posted is below zero; else nobody is cut.
        let short = restored(&after(paid.0 - 100), false, india(AT));
        assert_eq!(short, (booked >= 0).then_some(Restored::Corrected), "a rupee less is not enough");
        let account = AccountView { booked: Paise(booked), accrued: Paise(-9_999), ..due() };
        assert!(
            booked + amount_to_keep(Some(&policy()), &account).0 > 0,
            "an estimate that pays back is none"
        );
    }
}

#[test]
fn supply_is_given_back_to_who_is_protected_or_not_prepaid_any_more_whatever_the_balance() {
    assert_eq!(restored(&due(), false, india(AT)), None);
    assert_eq!(restored(&due(), true, india(AT)), Some(Restored::Protected));
    let postpaid = AccountView { connection: ConnectionType::Postpaid, ..due() };
    assert_eq!(restored(&postpaid, false, india(AT)), Some(Restored::NotPrepaid));
}

#[test]
fn a_cut_that_late_data_shows_to_have_been_wrong_is_undone_without_a_payment() {
    let before = Some((Paise(50_000), india("2026-06-01T08:00")));
    let corrected = AccountView { booked: Paise(3), last_recharge: before, ..due() };
    assert_eq!(restored(&corrected, false, india(AT)), Some(Restored::Corrected));
    let comes = AccountView { uncorrected: Paise(-1), last_recharge: before, ..due() };
    assert_eq!(restored(&comes, false, india(AT)), Some(Restored::Corrected), "it is posted tomorrow");
    assert_eq!(decision(&comes, &FREE, AT).hindrances, [Hindrance::NotBelowZero], "and nobody is cut for it");
    // Who paid too little has not the balance that shows, and loses nothing by having paid.
    let since = |paise| Some((Paise(paise), india("2026-06-10T12:00")));
    let of = |paise| AccountView { last_recharge: since(paise), ..corrected.clone() };
    assert_eq!(restored(&of(4), false, india(AT)), None);
    assert_eq!(restored(&of(3), false, india(AT)), Some(Restored::Corrected));
}

#[test]
fn who_paid_what_was_shown_does_not_lose_it_to_the_midnight_that_follows() {
    let of = |left, at| {
        let mut account =
            AccountView { last_recharge: Some((Paise(600), india(at))), ..account_of(100, 450) };
        account.credit.left_after_recharge = Some(Paise(left));
        restored(&account, false, india(AT))
    };
    assert_eq!(of(1, "2026-06-10T23:59"), Some(Restored::Paid));
    assert_eq!(of(0, "2026-06-10T23:59"), None);
    let before = of(1, "2026-06-10T10:59");
    assert_eq!(
        before,
        Some(Restored::Corrected),
        "not by a payment before the cut, but nothing is below zero"
    );
}

#[test]
fn the_hours_that_are_left_are_those_of_a_permitted_day() {
    let until = |at: &str| permitted_until(&policy(), &Calendar::india(), india(at));
    assert_eq!(until("2026-06-10T10:00"), Some(india("2026-06-10T13:00")));
    for barred in
        ["2026-06-10T09:59", "2026-06-10T13:00", "2026-06-14T11:00", "2026-06-13T11:00", "2027-01-04T11:00"]
    {
        assert_eq!(until(barred), None, "{barred}");
    }
}

#[test]
fn the_amount_has_in_it_what_pays_old_dues_off_and_is_the_least_that_suffices() {
    for (owed, missing, amount) in [
        (0, 100_000, 100_100),
        (1_000_000, 100_000, 111_200),
        (1_000_001, 100_000, 117_700),
        (2_000_000, 100_000, 125_100),
        (2_000_001, 100_000, 133_400),
        // No more than is owed is taken.
        (500, 100_000, 100_600),
        (500, 0, 100),
        (500, 90, 200),
    ] {
        let account =
            AccountView { booked: Paise(-missing), accrued: Paise(0), arrears: Paise(owed), ..due() };
        let paid = amount_to_keep(Some(&policy()), &account);
        assert_eq!(paid, Paise(amount), "{owed} owed, {missing} missing");
        let left = |paid: Paise| paid.0 - policy().arrears_share(paid, Paise(owed)).0 - missing;
        assert!(left(paid) > 0 && left(Paise(paid.0 - 100)) <= 0);
    }
    assert_eq!(policy().arrears_share(Paise(9_999), Paise(1_000_000)), Paise(999), "cut to whole paise");
    assert_eq!(policy().arrears_share(Paise(-5), Paise(1_000_000)), Paise(0));
    assert_eq!(policy().arrears_share(Paise(5_000), Paise(-3)), Paise(0));
}

#[test]
fn alerts_are_shares_of_the_last_recharge_or_rupees_and_days_for_who_never_recharged() {
    let of = |booked: i64, recharge: Option<i64>, day: Option<i64>| {
        level_of(&policy(), Paise(booked), recharge.map(Paise), day.map(Paise)).0
    };
    for (booked, level) in [(15_001, 0), (15_000, 1), (5_001, 1), (5_000, 2), (1, 2), (0, 2), (-1, 255)] {
        assert_eq!(of(booked, Some(50_000), Some(100_000)), level, "{booked} of 50,000 paise");
    }
    for (booked, level) in [(20_001, 0), (20_000, 1), (5_000, 2), (0, 2), (-1, 255)] {
        assert_eq!(of(booked, None, None), level, "{booked}, nothing known of a day");
    }
    for (booked, level) in [(30_001, 0), (30_000, 1), (10_001, 1), (10_000, 2)] {
        assert_eq!(of(booked, None, Some(10_000)), level, "{booked} at 100 rupees a day");
    }
    assert_eq!(of(30_000, None, Some(-5)), 0, "a day that paid back says nothing");
    assert_eq!(of(i64::MAX, Some(i64::MAX), None), 0);
}

#[track_caller]
fn refused(change: (&str, &str), line: usize, key: &str, fault: RuleFault) {
    let body = builtin_policy();
    assert!(body.contains(change.0), "{change:?}");
    let error = CreditPolicy::parse(&body.replacen(change.0, change.1, 1)).unwrap_err();
    assert_eq!(error, RuleError { key: key.into(), line, fault }, "{change:?}");
}

#[test]
fn every_fault_of_a_policy_is_told_with_key_and_line() {
    refused(("name = \"up-prepaid\"", "name = \"UP\""), 3, "name", RuleFault::Name);
    refused(("from = \"2026-01-01\"", "from = \"2026-13-01\""), 5, "from", RuleFault::Date);
    let range = || RuleFault::Range("0", "400");
    refused(("emergency_days = 3", "emergency_days = -1"), 8, "emergency_days", range());
    refused(("silent_days = 2", "silent_days = 401"), 13, "silent_days", range());
    refused(("silent_days = 2", "silent_days = 201"), 13, "silent_days", RuleFault::Range("0", "200"));
    refused(("percent = \"10 %\"", "percent = \"30 %\""), 25, "percent", RuleFault::AlertOrder);
    refused(("rupees = \"50\"", "rupees = \"200\""), 25, "percent", RuleFault::AlertOrder);
    refused(("days_left = 1\n", "days_left = 3\n"), 25, "percent", RuleFault::AlertOrder);
    refused(
        ("upto_rupees = \"15000\"", "upto_rupees = \"10000\""),
        47,
        "upto_rupees",
        RuleFault::ArrearsOrder,
    );
    refused(("upto_rupees = \"20000\"\n", ""), 51, "upto_rupees", RuleFault::ArrearsEnd);
    refused(("percent = \"25 %\"", "percent = \"91 %\""), 55, "percent", RuleFault::Range("0 %", "90 %"));
    refused(("from = \"10:00\"", "from = \"13:00\""), 60, "to", RuleFault::Hours);
    for wrong in ["10:60", "24:01", "+5:00", "1:00", "10", "10:0a", "10:00:00"] {
        refused(("from = \"10:00\"", &format!("from = \"{wrong}\"")), 59, "from", RuleFault::TimeOfDay);
    }
    refused(("\"2026-12-25\"", "\"2027-12-25\""), 96, "days", RuleFault::OtherYear(2026));
    refused(("year = 2026", "year = 99999"), 67, "year", RuleFault::Range("1970", "9999"));
    let twice = format!("{}\n[[holidays]]\nyear = 2026\ndays = []\n", builtin_policy());
    assert_eq!(CreditPolicy::parse(&twice).unwrap_err().fault, RuleFault::YearTwice(2026));
    let unknown = builtin_policy().replace("fresh_hours", "fresh_days");
    assert_eq!(CreditPolicy::parse(&unknown).unwrap_err().key, "fresh_days");
    let alert = "[[alert]]\npercent = \"5 %\"\nrupees = \"1\"\ndays_left = 0\n";
    let many = format!("{}{}", builtin_policy(), alert.repeat(MAX_ALERTS));
    assert_eq!(CreditPolicy::parse(&many).unwrap_err().fault, RuleFault::Count(MAX_ALERTS));
}
