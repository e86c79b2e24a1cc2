"""The ten test vectors of the daily deduction, and the rules around them."""
import datetime
import unittest

from rating import HEADS, Tariff, Tariffs, charge_to_date, ppm, rounded, scaled

BASE = """
name = "{name}"
title = "Test"
from = "2025-04-01"
fixed_per_kw = "{fixed}"
demand_floor = "75 %"
demand_excess = "1"
duty = "5 %"
rebate = "2 %"
{slabs}
[surcharge]
"2026-07" = "-2.33 %"
"""


def tariff(fixed, slabs):
    text = "".join(
        "[[slab]]\n" + (f'upto_kwh = "{upto}"\n' if upto else "") + f'gross = "{gross}"\nsubsidy = "{subsidy}"\n'
        for upto, gross, subsidy in slabs
    )
    return Tariff(BASE.format(name="test", fixed=fixed, slabs=text))


URBAN = tariff("110", [("150", "5.50", "0"), ("300", "6.00", "0"), (None, "6.50", "0")])
RURAL = tariff("90", [("100", "3.35", "0"), ("150", "3.85", "0"), ("300", "5.00", "0"), (None, "5.50", "0")])
LIFELINE = tariff("50", [("100", "3.00", "0"), (None, "5.50", "0")])
SUBSIDISED = tariff("110", [("150", "6.85", "1.35"), ("300", "6.85", "0.85"), (None, "6.85", "0.35")])
JUNE, JULY, AUGUST = (datetime.date(2026, month, 1) for month in (6, 7, 8))


def to_date(which, month, days, energy_wh, demand_w, load_w):
    return charge_to_date(which, month, days, energy_wh, demand_w, load_w)


def step(before, after):
    return {head: after[head] - before[head] for head in HEADS}


class TenVectors(unittest.TestCase):
    def check(self, charge, energy, fixed, surcharge, duty, rebate, total, subsidy=0):
        expected = dict(zip(HEADS, (energy, fixed, -subsidy, surcharge, duty, -rebate, 0, 0)))
        self.assertEqual(charge, expected)
        self.assertEqual(sum(charge.values()), total)

    def test_1_first_day_of_a_month(self):
        self.check(to_date(URBAN, JUNE, 1, 6_250, 2_210, 4_000), 3438, 1100, 0, 227, 91, 4674)

    def test_2_a_day_that_crosses_a_slab(self):
        before = to_date(URBAN, JUNE, 19, 145_000, 2_210, 4_000)
        after = to_date(URBAN, JUNE, 20, 152_000, 2_210, 4_000)
        self.check(step(before, after), 3950, 1100, 0, 252, 101, 5201)

    def test_3_a_whole_month(self):
        self.check(to_date(URBAN, JUNE, 30, 172_000, 2_210, 4_000), 95700, 33000, 0, 6435, 2574, 132561)

    def test_4_a_month_with_a_negative_surcharge(self):
        self.check(to_date(URBAN, JULY, 31, 172_000, 2_210, 4_000), 95700, 33000, -2999, 6285, 2514, 129472)

    def test_5_demand_above_the_sanctioned_load(self):
        self.check(to_date(URBAN, JUNE, 30, 172_000, 2_600, 2_000), 95700, 28600, 0, 6215, 2486, 128029)

    def test_6_rural_at_the_demand_floor(self):
        self.check(to_date(RURAL, JUNE, 30, 120_000, 1_200, 2_000), 41200, 13500, 0, 2735, 1094, 56341)

    def test_7_lifeline(self):
        self.check(to_date(LIFELINE, JUNE, 30, 80_000, 600, 1_000), 24000, 3750, 0, 1388, 555, 28583)

    def test_8_a_day_without_a_reading(self):
        before = to_date(URBAN, AUGUST, 14, 100_000, 2_210, 4_000)
        after = to_date(URBAN, AUGUST, 15, 100_000, 2_210, 4_000)
        self.check(step(before, after), 0, 1065, 0, 53, 21, 1097)

    def test_9_a_day_on_which_the_demand_jumps(self):
        before = to_date(URBAN, JUNE, 15, 80_000, 2_210, 4_000)
        after = to_date(URBAN, JUNE, 16, 85_000, 3_600, 4_000)
        self.check(step(before, after), 2750, 4620, 0, 369, 147, 7592)

    def test_10_a_subsidy_beside_the_gross_rate(self):
        charge = to_date(SUBSIDISED, JUNE, 30, 172_000, 2_210, 4_000)
        self.check(charge, 117820, 33000, 0, 6435, 2574, 132561, subsidy=22120)


class Rules(unittest.TestCase):
    def test_days_add_up_to_the_month(self):
        figures = [(day, 9_137 * day, 1_900 + 53 * day) for day in range(0, 32)]
        charges = [to_date(SUBSIDISED, JULY, day, wh, demand, 2_000) for day, wh, demand in figures]
        days = [step(before, after) for before, after in zip(charges, charges[1:])]
        self.assertEqual({head: sum(day[head] for day in days) for head in HEADS}, step(charges[0], charges[-1]))

    def test_halves_are_rounded_away_from_zero(self):
        halves = [(1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (1, 3, 0), (-2, 3, -1), (0, 7, 0)]
        for numerator, denominator, expected in halves:
            self.assertEqual(rounded(numerator, denominator), expected)

    def test_numbers_are_read_exactly_or_refused(self):
        self.assertEqual([scaled("5.50", 6), scaled("-0.5", 3), scaled("110", 6)], [5_500_000, -500, 110_000_000])
        self.assertEqual([ppm("75 %"), ppm("-2.33 %"), ppm("0.05"), ppm("1")], [750_000, -23_300, 50_000, MILLION])
        for bad in ("", "1e3", "1.2345678", "x", ".5"):
            with self.assertRaises(ValueError):
                scaled(bad, 6)

    def test_the_latest_version_that_has_begun_is_in_force(self):
        text = BASE.format(name="t", fixed="{fixed}", slabs='[[slab]]\ngross = "1"\nsubsidy = "0"')
        newer = text.replace("2025-04-01", "2026-06-01").replace("{fixed}", "2")
        tariffs = Tariffs([newer, text.replace("{fixed}", "1")])
        in_force = [tariffs.in_force("t", day) for day in (datetime.date(2025, 3, 1), datetime.date(2026, 5, 1), JUNE)]
        self.assertEqual([version and version.fixed_per_kw for version in in_force], [None, 1_000_000, 2_000_000])


MILLION = 1_000_000

if __name__ == "__main__":
    unittest.main()
