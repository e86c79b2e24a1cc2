use super::*;
use crate::decimal::DecimalError;
use crate::rules::RuleFault;

const GOOD: &str = r#"name = "lmv1-test"
title = "Test"
from = "2026-04-01"
fixed_per_kw = "110"
demand_floor = "75 %"
demand_excess = "1"
duty = "5 %"
rebate = "0.02"
max_load_kw = "1"

[[slab]]
upto_kwh = "150"
gross = "6.85"
subsidy = "1.35"

[[slab]]
gross = "6.85"
subsidy = "0.85"

[surcharge]
"2026-01" = "-0.0233"
"2026-02" = "1.24 %"
"#;

fn check(from: &str, to: &str, key: &str, line: usize, fault: impl Fn(&RuleFault) -> bool) {
    assert!(GOOD.contains(from), "{from}");
    let error = Tariff::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
    assert_eq!((error.key.as_str(), error.line), (key, line), "{to}: {error}");
    assert!(fault(&error.fault), "{to}: {error}");
}

#[test]
fn a_tariff_is_read_exactly() {
    let tariff = Tariff::parse(GOOD).unwrap();
    assert_eq!(tariff.name, "lmv1-test");
    assert_eq!(tariff.from.to_string(), "2026-04-01");
    assert_eq!(tariff.fixed_per_kw, MicroRupees(110_000_000));
    assert_eq!((tariff.demand_floor, tariff.demand_excess), (Ppm(750_000), Ppm(1_000_000)));
    assert_eq!((tariff.duty, tariff.rebate), (Ppm(50_000), Ppm(20_000)));
    assert_eq!(tariff.max_load_w, Some(1000));
    assert_eq!(
        tariff.slabs,
        [
            Slab { upto_wh: Some(150_000), gross: MicroRupees(6_850_000), subsidy: MicroRupees(1_350_000) },
            Slab { upto_wh: None, gross: MicroRupees(6_850_000), subsidy: MicroRupees(850_000) },
        ]
    );
    let month = |text: &str| format!("{text}-01").parse::<CivilDay>().unwrap().month();
    assert_eq!(tariff.surcharge_of(month("2026-01")), Ppm(-23_300));
    assert_eq!(tariff.surcharge_of(month("2026-02")), Ppm(12_400));
    assert_eq!(tariff.surcharge_of(month("2026-03")), Ppm(0));
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_rate_schedule() {
    let tariff = Tariff::parse(GOOD).unwrap();
    assert_eq!(tariff.min_load_w, None);
    assert!(!tariff.whole_load);
    assert_eq!(tariff.demand_between, DemandBetween::Recorded);
    assert_eq!((tariff.slab_limits, tariff.surcharge_on), (SlabLimits::Month, SurchargeOn::Net));
    assert!(!tariff.base_with_minimum && !tariff.base_with_green);
    assert_eq!(tariff.green_per_kwh, MicroRupees(0));
    assert_eq!(tariff.minimum_per_kw, [MicroRupees(0); 12]);
}

#[test]
fn minimum_charges_are_by_month_of_the_year() {
    let minimum = "minimum = [{ months = [4, 9], per_kw = \"600\" }, { months = [1], per_kw = \"475.5\" }]";
    let tariff = Tariff::parse(&GOOD.replacen("max_load_kw = \"1\"", minimum, 1)).unwrap();
    let month = |text: &str| format!("{text}-01").parse::<CivilDay>().unwrap().month();
    for (name, rate) in
        [("2026-04", 600_000_000), ("2027-09", 600_000_000), ("2028-01", 475_500_000), ("2028-02", 0)]
    {
        assert_eq!(tariff.minimum_of(month(name)), MicroRupees(rate), "{name}");
    }
}

#[test]
fn every_fault_names_key_and_line() {
    let syntax = |fault: &RuleFault| matches!(fault, RuleFault::Syntax(_));
    check("duty = \"5 %\"", "duty = 5", "duty", 7, syntax);
    check("duty = \"5 %\"", "dutty = \"5 %\"", "dutty", 7, syntax);
    check("rebate = \"0.02\"\n", "", "rebate", 1, syntax);
    check("duty = \"5 %\"", "duty = ", "duty", 7, syntax);
    check("gross = \"6.85\"", "gros = \"6.85\"", "gros", 13, syntax);
    check("title = \"Test\"", "name = \"twice\"", "name", 2, syntax);
    check("2026-04-01", "2026-04-31", "from", 3, |fault| *fault == RuleFault::Date);
    check("2026-04-01", "2026-04-15", "from", 3, |fault| matches!(fault, RuleFault::NotFirstOfMonth(_)));
    check("lmv1-test", "LMV 1", "name", 1, |fault| *fault == RuleFault::Name);
    check("\"110\"", "\"110,00\"", "fixed_per_kw", 4, |fault| {
        *fault == RuleFault::Number(DecimalError::NotDecimal)
    });
    check("\"110\"", "\"-1\"", "fixed_per_kw", 4, |fault| matches!(fault, RuleFault::Range(..)));
    check("75 %", "101 %", "demand_floor", 5, |fault| matches!(fault, RuleFault::Range(..)));
    check("0.02", "0.0000001", "rebate", 8, |fault| *fault == RuleFault::Number(DecimalError::TooPrecise));
    check("\"150\"", "\"0\"", "upto_kwh", 12, |fault| matches!(fault, RuleFault::Range(..)));
    check("upto_kwh = \"150\"\n", "", "upto_kwh", 12, |fault| *fault == RuleFault::SlabEnd);
    check("[[slab]]\ngross", "[[slab]]\nupto_kwh = \"300\"\ngross", "upto_kwh", 17, |fault| {
        *fault == RuleFault::SlabEnd
    });
    check(
        "[[slab]]\ngross",
        "[[slab]]\nupto_kwh = \"150\"\ngross = \"1\"\nsubsidy = \"0\"\n[[slab]]\ngross",
        "upto_kwh",
        17,
        |fault| *fault == RuleFault::SlabOrder,
    );
    check("1.35", "6.86", "subsidy", 14, |fault| *fault == RuleFault::SubsidyAboveGross);
    let optional = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    let fails = |body: String, key: &str, line: usize| {
        let error = Tariff::parse(&body).unwrap_err();
        assert_eq!((error.key.as_str(), error.line), (key, line), "{error}");
        error.fault
    };
    let load = "max_load_kw = \"1\"";
    for (key, words) in [
        ("demand_between", "\"recorded\", \"sanctioned\""),
        ("slab_limits", "\"month\", \"days\""),
        ("surcharge_on", "\"net\", \"gross\""),
    ] {
        let fault = fails(optional(load, &format!("{key} = \"sometimes\"")), key, 9);
        assert_eq!(fault, RuleFault::Word(words.into()));
    }
    let fault = fails(optional(load, "base_with = [\"green\", \"duty\"]"), "base_with", 9);
    assert_eq!(fault, RuleFault::Word("\"minimum\", \"green\"".into()));
    let fault = fails(optional(load, "min_load_kw = \"1.001\"\nmax_load_kw = \"1\""), "max_load_kw", 10);
    assert_eq!(fault, RuleFault::Loads);
    for months in ["[0]", "[13]", "[4, 4]", "[-9223372036854775808]"] {
        let minimum = format!("minimum = [{{ months = {months}, per_kw = \"1\" }}]");
        assert_eq!(fails(optional(load, &minimum), "months", 9), RuleFault::MonthOfYear, "{months}");
    }
    check("\"2026-01\"", "\"2026-13\"", "2026-13", 21, |fault| *fault == RuleFault::Month);
    check("\"2026-01\"", "\"2026-1\"", "2026-1", 21, |fault| *fault == RuleFault::Month);
    check("-0.0233", "0.51", "2026-01", 21, |fault| matches!(fault, RuleFault::Range(..)));
}

#[test]
fn a_tariff_without_slabs_or_with_too_many_is_refused() {
    let head = GOOD.split("[[slab]]").next().unwrap();
    let error = Tariff::parse(&format!("{head}slab = []")).unwrap_err();
    assert_eq!((error.key.as_str(), error.fault), ("slab", RuleFault::Count(MAX_SLABS)));
    let slabs: String = (1..20)
        .map(|end| format!("[[slab]]\nupto_kwh = \"{end}\"\ngross = \"1\"\nsubsidy = \"0\"\n"))
        .collect();
    let error = Tariff::parse(&format!("{head}{slabs}[[slab]]\ngross = \"1\"\nsubsidy = \"0\"")).unwrap_err();
    assert_eq!(error.fault, RuleFault::Count(MAX_SLABS));
}

#[test]
fn the_tariffs_that_come_with_urja_are_good_and_named_as_their_files() {
    for (name, body) in builtin_tariffs() {
        let tariff = Tariff::parse(body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&tariff.name, name);
        assert!(tariff.from <= "2025-04-01".parse().unwrap());
    }
}
