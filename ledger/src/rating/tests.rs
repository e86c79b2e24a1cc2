use model::CivilDay;

use super::*;

const FELT: &str = r#"
fixed_per_kw = "110"
demand_floor = "75 %"
demand_excess = "1"
duty = "5 %"
rebate = "2 %"
slab = [
  { upto_kwh = "150", gross = "5.50", subsidy = "0" },
  { upto_kwh = "300", gross = "6.00", subsidy = "0" },
  { gross = "6.50", subsidy = "0" },
]
"#;

fn tariff(body: &str) -> Tariff {
    Tariff::parse(&format!("name = \"t\"\ntitle = \"T\"\nfrom = \"2025-04-01\"\n{body}")).unwrap()
}

fn rural() -> Tariff {
    let slabs = FELT.split("slab").next().unwrap().replace("110", "90");
    tariff(&format!(
        "{slabs}slab = [ {{ upto_kwh = \"100\", gross = \"3.35\", subsidy = \"0\" }}, \
         {{ upto_kwh = \"150\", gross = \"3.85\", subsidy = \"0\" }}, {{ gross = \"5.00\", subsidy = \"0\" }} ]"
    ))
}

fn month(text: &str) -> CivilMonth {
    format!("{text}-01").parse::<CivilDay>().unwrap().month()
}

/// `[energy, fixed, subsidy, surcharge, duty, rebate]` in paise; the others are zero.
fn check(name: &str, charge: Charge, heads: [i64; 6], total: i64) {
    let [e, f, s, p, d, r] = heads;
    assert_eq!(charge.heads.map(|head| head.0), [e, f, s, p, d, r, 0, 0], "{name}");
    assert_eq!(charge.total().0, total, "{name}");
}

#[test]
fn the_ten_vectors_of_the_tariff_hold() {
    let urban = tariff(FELT);
    let june = month("2026-06");
    let july = month("2026-07");

    check("1", charge_to_date(&urban, june, 1, 6_250, 2_210, 4_000), [3438, 1100, 0, 0, 227, -91], 4674);

    let day = charge_to_date(&urban, june, 20, 152_000, 2_210, 4_000)
        .since(&charge_to_date(&urban, june, 19, 145_000, 2_210, 4_000));
    check("2", day, [3950, 1100, 0, 0, 252, -101], 5201);

    let whole = charge_to_date(&urban, june, 30, 172_000, 2_210, 4_000);
    check("3", whole, [95_700, 33_000, 0, 0, 6_435, -2_574], 132_561);

    let surcharged = tariff(&format!("{FELT}\n[surcharge]\n\"2026-07\" = \"-2.33 %\""));
    let whole = charge_to_date(&surcharged, july, 31, 172_000, 2_210, 4_000);
    check("4", whole, [95_700, 33_000, 0, -2_999, 6_285, -2_514], 129_472);

    let excess = charge_to_date(&urban, june, 30, 172_000, 2_600, 2_000);
    check("5", excess, [95_700, 28_600, 0, 0, 6_215, -2_486], 128_029);

    let floor = charge_to_date(&rural(), june, 30, 120_000, 1_200, 2_000);
    check("6", floor, [41_200, 13_500, 0, 0, 2_735, -1_094], 56_341);

    let lifeline = tariff(&FELT.replace("110", "50").replace("5.50", "3.00"));
    let low = charge_to_date(&lifeline, june, 30, 80_000, 600, 1_000);
    check("7", low, [24_000, 3_750, 0, 0, 1_388, -555], 28_583);

    let unread = charge_to_date(&urban, july, 15, 100_000, 2_210, 4_000)
        .since(&charge_to_date(&urban, july, 14, 100_000, 2_210, 4_000));
    check("8", unread, [0, 1065, 0, 0, 53, -21], 1097);

    let jump = charge_to_date(&urban, june, 16, 85_000, 3_600, 4_000)
        .since(&charge_to_date(&urban, june, 15, 80_000, 2_210, 4_000));
    check("9", jump, [2750, 4620, 0, 0, 369, -147], 7592);

    let subsidised = tariff(
        &FELT
            .replace("gross = \"5.50\", subsidy = \"0\"", "gross = \"6.85\", subsidy = \"1.35\"")
            .replace("gross = \"6.00\", subsidy = \"0\"", "gross = \"6.85\", subsidy = \"0.85\"")
            .replace("gross = \"6.50\", subsidy = \"0\"", "gross = \"6.85\", subsidy = \"0.35\""),
    );
    let whole = charge_to_date(&subsidised, june, 30, 172_000, 2_210, 4_000);
    check("10", whole, [117_820, 33_000, -22_120, 0, 6_435, -2_574], 132_561);
}

#[test]
fn the_built_in_tariffs_charge_what_the_consumer_feels() {
    for (name, felt, load) in
        [("lmv1-urban", 132_561, 4_000), ("lmv1-rural", 86_149, 2_000), ("lmv1-lifeline", 84_203, 1_000)]
    {
        let body = crate::builtin_tariffs().iter().find(|(known, _)| *known == name).unwrap().1;
        let tariff = Tariff::parse(body).unwrap();
        let charge = charge_to_date(&tariff, month("2026-06"), 30, 172_000, 2_210, load);
        assert_eq!(charge.total().0, felt, "{name}");
    }
}

#[test]
fn absurd_energy_and_demand_are_capped_and_never_overflow() {
    let dearest = tariff(
        "fixed_per_kw = \"1000\"\ndemand_floor = \"1\"\ndemand_excess = \"10\"\nduty = \"1\"\nrebate = \"0\"\n\
         slab = [{ gross = \"100\", subsidy = \"0\" }]\n[surcharge]\n\"2026-07\" = \"0.5\"",
    );
    let charge = charge_to_date(&dearest, month("2026-07"), 31, i64::MAX, i64::MAX, u32::MAX);
    let capped = charge_to_date(&dearest, month("2026-07"), 31, MAX_ENERGY_WH, MAX_DEMAND_W, 100_000_000);
    assert_eq!(charge, capped);
    assert_eq!(charge.heads[0], Paise(100_000_000_000));
    let none = charge_to_date(&dearest, month("2026-07"), 0, i64::MIN, i64::MIN, 0);
    assert!(none.is_zero());
}

#[test]
fn the_dearest_month_in_parts_is_within_the_figures_that_it_is_counted_in() {
    let dear = |limits: &str, slabs: &str| {
        tariff(&format!(
            "fixed_per_kw = \"1000\"\ndemand_floor = \"1\"\ndemand_excess = \"10\"\nduty = \"1\"\nrebate = \"0\"\n\
             green_per_kwh = \"100\"\nbase_with = [\"green\", \"minimum\"]\n{limits}slab = [{slabs}]\n\
             [surcharge]\n\"2026-07\" = \"0.5\""
        ))
    };
    let flat = dear("", "{ gross = \"100\", subsidy = \"0\" }");
    // On its first day nearly all units are at the second rate, at its end all are at the first.
    let falling =
        "{ upto_kwh = \"10000000\", gross = \"100\", subsidy = \"0\" }, { gross = \"0\", subsidy = \"0\" }";
    let falling = dear("slab_limits = \"days\"\n", falling);
    let july = month("2026-07");
    let parts = [(&flat, 0, i64::MAX, 1, MAX_ENERGY_WH), (&falling, 0, i64::MAX, 30, 0)];
    let charge = in_parts(july, &parts);
    assert!(charge.heads.iter().all(|head| *head >= Paise::ZERO), "{charge:?}");
    // A part whose energy falls has none.
    let mut bill = Bill::of(july);
    for energy_wh in [(0, MAX_ENERGY_WH), (MAX_ENERGY_WH, 0)] {
        bill.add(&Part {
            tariff: &flat,
            connection: ConnectionType::Prepaid,
            sanctioned_w: 0,
            demand_w: 0,
            days: (0, 0),
            energy_wh,
        });
    }
    assert_eq!(bill.charge().heads[0], Paise(100_000_000_000));
}

#[test]
fn a_multiple_above_one_charges_the_excess_more_than_once() {
    let double = tariff(&FELT.replace("demand_excess = \"1\"", "demand_excess = \"2\""));
    let charge = charge_to_date(&double, month("2026-06"), 30, 0, 2_600, 2_000);
    assert_eq!(charge.heads[1], Paise(110 * 100 * 32 / 10));
}

#[test]
fn a_minimum_charge_is_what_energy_and_fixed_fall_short_of_it_day_by_day() {
    let body = FELT.replace("slab =", "minimum = [{ months = [6], per_kw = \"600\" }]\nslab =");
    let shop = tariff(&body);
    // 3 kW: least 1,800.00; fixed 330.00 and energy 100 kWh at 5.50.
    let short = charge_to_date(&shop, month("2026-06"), 30, 100_000, 0, 3_000);
    assert_eq!(short.heads[6], Paise(180_000 - 24_750 - 55_000));
    let enough = charge_to_date(&shop, month("2026-06"), 30, 400_000, 0, 3_000);
    assert_eq!(enough.heads[6], Paise(0));
    let half = charge_to_date(&shop, month("2026-06"), 15, 0, 0, 3_000);
    assert_eq!(half.heads[6], Paise(90_000 - 12_375));
    let other_month = charge_to_date(&shop, month("2026-07"), 31, 100_000, 0, 3_000);
    assert_eq!(other_month.heads[6], Paise(0));
    assert_eq!(
        short.heads[4],
        charge_to_date(&tariff(FELT), month("2026-06"), 30, 100_000, 0, 3_000).heads[4]
    );
}

#[test]
fn duty_and_rebate_are_shares_of_minimum_and_green_adder_where_the_tariff_says_so() {
    let keys = "minimum = [{ months = [6], per_kw = \"200\" }]\ngreen_per_kwh = \"0.17\"\n";
    // 1 kW with 10 kWh: energy 55.00, fixed 82.50, minimum 62.50, green 1.70.
    for (with, base) in [
        ("[]", 13_750),
        ("[\"minimum\"]", 20_000),
        ("[\"green\"]", 13_920),
        ("[\"green\", \"minimum\"]", 20_170),
    ] {
        let tariff = tariff(&FELT.replace("slab =", &format!("{keys}base_with = {with}\nslab =")));
        let charge = charge_to_date(&tariff, month("2026-06"), 30, 10_000, 0, 1_000);
        let heads = charge.heads.map(|head| head.0);
        let share = |ppm: i64| (base * ppm + 500_000) / 1_000_000;
        assert_eq!(heads, [5500, 8250, 0, 0, share(50_000), -share(20_000), 6250, 170], "{with}");
    }
}

#[test]
fn between_floor_and_sanctioned_load_the_tariff_says_what_is_billed() {
    let sanctioned = tariff(&FELT.replace("slab =", "demand_between = \"sanctioned\"\nslab ="));
    let recorded = tariff(FELT);
    let fixed = |tariff: &Tariff, demand_w| {
        charge_to_date(tariff, month("2026-06"), 30, 0, demand_w, 4_000).heads[1].0
    };
    for (demand_w, as_recorded, as_sanctioned) in [
        (2_999, 33_000, 33_000),
        (3_000, 33_000, 33_000),
        (3_001, 33_011, 44_000),
        (4_000, 44_000, 44_000),
        (4_600, 50_600, 50_600),
    ] {
        assert_eq!(fixed(&recorded, demand_w), as_recorded, "{demand_w} W recorded");
        assert_eq!(fixed(&sanctioned, demand_w), as_sanctioned, "{demand_w} W sanctioned");
    }
}

#[test]
fn slabs_that_grow_with_the_days_are_whole_at_the_end_of_the_month() {
    let by_day = tariff(&FELT.replace("slab =", "slab_limits = \"days\"\nslab ="));
    let whole = tariff(FELT);
    let june = month("2026-06");
    let energy = |tariff: &Tariff, days, wh| charge_to_date(tariff, june, days, wh, 0, 4_000).heads[0].0;
    // One day of thirty: 5 kWh at 5.50, 5 at 6.00, the rest at 6.50.
    assert_eq!(energy(&by_day, 1, 12_000), 2750 + 3000 + 1300);
    assert_eq!(energy(&whole, 1, 12_000), 6600);
    for wh in [0, 149_999, 150_001, 301_234, 999_999] {
        assert_eq!(energy(&by_day, 30, wh), energy(&whole, 30, wh), "{wh}");
    }
}

#[test]
fn a_surcharge_is_a_share_of_what_the_tariff_says() {
    let body = FELT
        .replace("gross = \"5.50\", subsidy = \"0\"", "gross = \"6.85\", subsidy = \"1.35\"")
        .replace("slab =", "surcharge_on = \"gross\"\nslab =");
    let gross = tariff(&format!("{body}\n[surcharge]\n\"2026-06\" = \"10 %\""));
    let net = tariff(&format!(
        "{}\n[surcharge]\n\"2026-06\" = \"10 %\"",
        body.replace("gross\"\nslab", "net\"\nslab")
    ));
    let surcharge =
        |tariff: &Tariff| charge_to_date(tariff, month("2026-06"), 30, 100_000, 0, 4_000).heads[3].0;
    assert_eq!(surcharge(&gross), 6850 + 3300);
    assert_eq!(surcharge(&net), 5500 + 3300);
}

#[test]
fn a_fraction_of_a_kilowatt_is_billed_as_a_whole_one_where_the_tariff_says_so() {
    let whole = tariff(&FELT.replace("slab =", "whole_load = true\nslab ="));
    let fixed = |sanctioned_w| charge_to_date(&whole, month("2026-06"), 30, 0, 0, sanctioned_w).heads[1].0;
    assert_eq!([fixed(1_001), fixed(2_000)], [16_500, 16_500]);
}

#[test]
fn halves_are_rounded_away_from_zero_on_both_sides() {
    let flat = tariff(
        "fixed_per_kw = \"0\"\ndemand_floor = \"0\"\ndemand_excess = \"1\"\nduty = \"0\"\nrebate = \"50 %\"\n\
         slab = [{ gross = \"1\", subsidy = \"1\" }, ]"
            .replace(", ]", "]")
            .as_str(),
    );
    let charge = charge_to_date(&flat, month("2026-06"), 1, 5, 0, 1_000);
    assert_eq!(charge.heads[0], Paise(1));
    assert_eq!(charge.heads[2], Paise(-1));
}

/// The charge of a month in parts of (tariff, sanctioned load, demand, days, energy).
fn in_parts(month: CivilMonth, parts: &[(&Tariff, u32, i64, u8, i64)]) -> Charge {
    let (mut bill, mut days, mut energy_wh) = (Bill::of(month), 0, 0);
    for &(tariff, sanctioned_w, demand_w, of_days, of_wh) in parts {
        let (before, wh_before) = (days, energy_wh);
        (days, energy_wh) = (days + of_days, energy_wh + of_wh);
        let (days, energy_wh) = ((before, days), (wh_before, energy_wh));
        bill.add(&Part {
            tariff,
            connection: ConnectionType::Prepaid,
            sanctioned_w,
            demand_w,
            days,
            energy_wh,
        });
    }
    bill.charge()
}

#[test]
fn who_is_billed_afterwards_has_no_rebate_and_else_pays_the_same() {
    let urban = tariff(FELT);
    let of = |connection| {
        let mut bill = Bill::of(month("2026-06"));
        let (days, energy_wh) = ((0, 30), (0, 172_000));
        bill.add(&Part { tariff: &urban, connection, sanctioned_w: 4_000, demand_w: 2_210, days, energy_wh });
        bill.charge()
    };
    let (prepaid, postpaid) = (of(ConnectionType::Prepaid), of(ConnectionType::Postpaid));
    assert!(prepaid.heads[5] < Paise::ZERO && postpaid.heads[5] == Paise::ZERO);
    assert_eq!(postpaid.total(), prepaid.total() - prepaid.heads[5]);
}

#[test]
fn a_change_of_load_or_category_inside_of_a_month_charges_each_day_under_its_terms() {
    let (urban, rural, june) = (tariff(FELT), rural(), month("2026-06"));
    // Half a month each on the floor of 1.5 kW and of 3 kW; units go on through the slabs.
    let load = in_parts(june, &[(&urban, 2_000, 0, 15, 90_000), (&urban, 4_000, 0, 15, 82_000)]);
    check("load", load, [95_700, 24_750, 0, 0, 6_023, -2_409], 124_064);
    // 90 units at the first rural rate, and what 172 cost in town above what 90 do.
    let category = in_parts(june, &[(&rural, 2_000, 0, 15, 90_000), (&urban, 2_000, 0, 15, 82_000)]);
    check("category", category, [76_350, 15_000, 0, 0, 4_568, -1_827], 94_091);
    // Demand above the sanctioned load is that of the days under it.
    let demand = in_parts(june, &[(&urban, 2_000, 2_600, 15, 0), (&urban, 4_000, 2_600, 15, 0)]);
    check("demand", demand, [0, 14_300 + 16_500, 0, 0, 1_540, -616], 31_724);
}

#[test]
fn the_minimum_of_a_month_in_parts_is_held_against_all_of_it() {
    let seasonal = tariff(&format!("{FELT}\n[[minimum]]\nmonths = [6]\nper_kw = \"400\"\n"));
    let june = month("2026-06");
    // 1,200 of 3 kW: the first half is short of its 600, the second is not, and so the month is not.
    let (low, high) = ((&seasonal, 3_000, 0, 15, 10_000), (&seasonal, 3_000, 0, 15, 190_000));
    let whole = charge_to_date(&seasonal, june, 30, 200_000, 0, 3_000);
    assert_eq!(in_parts(june, &[low, high]), whole);
    assert_eq!(whole.heads[6], Paise::ZERO);
    assert!(in_parts(june, &[low]).heads[6] > Paise::ZERO);
}

proptest::proptest! {
    #[test]
    fn a_month_cut_into_parts_of_the_same_terms_costs_what_it_costs_in_one(
        cuts in proptest::collection::vec((1_u8..8, 0_i64..200_000), 1..4),
        sanctioned_w in 100_u32..9_000,
        demand_w in 0_i64..12_000,
        by_day: bool,
        with_minimum: bool,
    ) {
        let limits = if by_day { "slab_limits = \"days\"\n" } else { "" };
        let base = if with_minimum { "base_with = [\"minimum\", \"green\"]\n" } else { "" };
        let tariff = tariff(&format!(
            "{limits}{base}green_per_kwh = \"0.17\"\n{FELT}\n[[minimum]]\nmonths = [6]\nper_kw = \"500\"\n\
             [surcharge]\n\"2026-06\" = \"-3.217 %\"\n"
        ));
        let june = month("2026-06");
        let parts: Vec<_> =
            cuts.iter().map(|&(days, wh)| (&tariff, sanctioned_w, demand_w, days, wh)).collect();
        let (days, energy_wh) = cuts.iter().fold((0, 0), |(days, all), (of, wh)| (days + of, all + wh));
        let whole = charge_to_date(&tariff, june, days, energy_wh, demand_w, sanctioned_w);
        proptest::prop_assert_eq!(in_parts(june, &parts), whole);
    }
}
