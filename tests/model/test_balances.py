"""Balances from small truths that can be checked by hand."""
import datetime
import json
import unittest

from balances import Truth, balances
from rating import Tariffs, charge_to_date

TARIFF = """
name = "flat"
title = "Test"
from = "2025-04-01"
fixed_per_kw = "0"
demand_floor = "0"
demand_excess = "1"
duty = "0"
rebate = "0"
[[slab]]
gross = "10"
subsidy = "0"
"""
ACCOUNT = "PUVVNL0000000001"
IST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


def at(text):
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=IST).timestamp())


def head(**changed):
    meter = {
        "line": "meter", "meter": 0, "title": "55524a0000000001", "serial": "1", "account": ACCOUNT, "tariff": "flat",
        "sanctioned_w": 1000, "from": "2026-06-29", "opening_register_wh": 1000, "opening_balance_paise": 5000,
        "period_s": 1800, "profile": "is15959-d1", "policy": "authenticated",
    }
    fleet = {"line": "fleet", "format": 1, "seed": 1, "meters": 1, "zone": "Asia/Kolkata", "from": "2026-06-29"}
    return [fleet, meter | changed]


def frame(digest, counter, kind, values, sent=None, key_epoch=1):
    ends = [at(end) for end in values]
    return {
        "line": "frame", "digest": digest, "meter": 0, "key_epoch": key_epoch, "counter": counter, "kind": kind, "transport": "tcp",
        "confirmed": True, "sent": at(sent) if sent else ends[-1], "ends": ends,
        "values": {"import_wh": list(values.values())},
    }


def acknowledged(digest, how="confirmed"):
    return {"line": "acknowledged", "digest": digest, "how": how}


def closed(day):
    return {"line": "day_closed", "day": day}


def result(lines, stored="sent", tariff=TARIFF, **options):
    truth = Truth((json.dumps(line) for line in lines), stored)
    return balances(truth, Tariffs([tariff]), **options)


def account(lines, **options):
    return result(lines, **options)["accounts"][ACCOUNT]


class Energy(unittest.TestCase):
    def test_the_register_wins_over_the_intervals(self):
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-29T10:00": 100, "2026-06-29T10:30": 200}),
            frame("b", 2, "daily", {"2026-06-30T00:00": 1350}),
            closed("2026-06-29"),
        ]
        self.assertEqual(account(lines)["booked_paise"], 5000 - 350)

    def test_without_a_register_the_intervals_count_and_the_gap_falls_to_the_later_side(self):
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-30T10:00": 100}),
            closed("2026-06-29"),
            closed("2026-06-30"),
            frame("b", 2, "daily", {"2026-07-02T00:00": 1500}),
            closed("2026-07-01"),
        ]
        charges = result(lines)["charges"][ACCOUNT]
        self.assertEqual({month: heads["energy"] for month, heads in charges.items()}, {"2026-06": 100, "2026-07": 400})

    def test_a_register_that_comes_later_moves_the_gap_back(self):
        late = frame("c", 3, "daily", {"2026-07-01T00:00": 1450}, sent="2026-07-03T00:10")
        lines = head() + [
            frame("b", 2, "daily", {"2026-07-02T00:00": 1500}), closed("2026-07-01"), late, closed("2026-07-02"),
        ]
        charges = result(lines)["charges"][ACCOUNT]
        self.assertEqual({month: heads["energy"] for month, heads in charges.items()}, {"2026-06": 450, "2026-07": 50})

    def test_an_interval_belongs_to_the_day_before_its_end(self):
        lines = head() + [frame("a", 1, "interval", {"2026-06-30T00:00": 100, "2026-06-30T00:30": 7}), closed("2026-06-29")]
        self.assertEqual(account(lines)["booked_paise"], 5000 - 100)
        self.assertEqual(account(lines)["accrued_paise"], 7)

    def test_the_higher_counter_is_in_force_and_the_digest_decides_where_there_is_none(self):
        values = {"2026-06-29T10:00": 100}
        revised = {"2026-06-29T10:00": 90}
        lines = head() + [frame("a", 2, "interval", revised), frame("b", 1, "interval", values), closed("2026-06-29")]
        self.assertEqual(account(lines)["booked_paise"], 5000 - 90)
        lines = head() + [frame("b", None, "interval", revised), frame("a", None, "interval", values), closed("2026-06-29")]
        self.assertEqual(account(lines)["booked_paise"], 5000 - 90)

    def test_new_keys_outrank_the_counters_of_the_old(self):
        old, new = {"2026-06-29T10:00": 100}, {"2026-06-29T10:00": 90}
        lines = head() + [
            frame("a", 1, "interval", new, key_epoch=2), frame("b", 900, "interval", old), closed("2026-06-29"),
        ]
        self.assertEqual(account(lines)["booked_paise"], 5000 - 90)

    def test_a_stamp_ahead_of_its_frame_moves_nothing_until_its_key_comes_again(self):
        garbled = frame("a", 1, "interval", {"2026-06-30T22:00": 700}, sent="2026-06-29T10:01")
        decades = frame("b", 2, "daily", {"2099-01-01T00:00": 9000}, sent="2026-06-29T10:31")
        nothing = frame("c", 3, "interval", {}, sent="2026-06-29T10:31")
        lines = head() + [garbled, decades, nothing, closed("2026-06-29")]
        self.assertEqual(account(lines)["balance_paise"], 5000)
        lines += [frame("d", 4, "interval", {"2026-06-30T22:00": 30}), closed("2026-06-30")]
        self.assertEqual(account(lines)["balance_paise"], 4970)

    def test_a_stamp_of_another_century_moves_nothing(self):
        lines = head() + [frame("a", 1, "interval", {"1999-01-01T10:00": 700}, sent="2026-06-29T10:01"), closed("2026-06-29")]
        self.assertEqual(account(lines)["balance_paise"], 5000)

    def test_readings_older_than_the_late_days_are_not_charged(self):
        values = {"2026-06-29T10:00": 100}
        for sent, booked in (("2026-08-13T12:00", 4900), ("2026-08-14T12:00", 5000)):
            lines = head() + [frame("a", 1, "interval", values, sent=sent), closed("2026-06-29")]
            self.assertEqual(account(lines)["booked_paise"], booked)


class Money(unittest.TestCase):
    def test_a_recharge_counts_once_and_only_when_it_was_booked(self):
        pay = {"line": "recharge", "account": ACCOUNT, "paise": 700, "payment_id": "p", "outcome": "posted"}
        again, answer_lost = pay | {"outcome": "exists"}, pay | {"payment_id": "q", "outcome": "exists"}
        refused = [pay | {"payment_id": "r", "outcome": outcome} for outcome in ("unknown_account", "differs")]
        self.assertEqual(account(head() + [pay, again, pay, *refused])["balance_paise"], 5700)
        self.assertEqual(account(head() + [pay, answer_lost])["balance_paise"], 6400)

    def test_what_comes_after_the_last_close_accrues(self):
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-29T10:00": 100}), closed("2026-06-29"),
            frame("b", 2, "interval", {"2026-06-29T10:30": 30, "2026-06-30T10:30": 5}),
        ]
        found = account(lines)
        self.assertEqual((found["booked_paise"], found["accrued_paise"], found["balance_paise"]), (4900, 35, 4865))

    def test_what_comes_late_for_a_closed_month_waits_for_the_next_close(self):
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-29T10:00": 100}), closed("2026-06-29"), closed("2026-06-30"),
            frame("b", 2, "interval", {"2026-06-29T10:30": 30}, sent="2026-07-01T12:00"),
        ]
        self.assertEqual((account(lines)["booked_paise"], account(lines)["accrued_paise"]), (4900, 0))
        lines.append(closed("2026-07-01"))
        self.assertEqual(account(lines)["booked_paise"], 4870)

    def test_only_acknowledged_frames_count_where_that_is_asked_for(self):
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-29T10:00": 100}), acknowledged("a"),
            frame("b", 2, "interval", {"2026-06-29T10:30": 30}), acknowledged("b", "published"),
            frame("c", 3, "interval", {"2026-06-29T11:00": 4}),
            closed("2026-06-29"),
        ]
        booked = {stored: account(lines, stored=stored)["booked_paise"] for stored in ("sent", "acknowledged", "confirmed")}
        self.assertEqual(booked, {"sent": 4866, "acknowledged": 4870, "confirmed": 4900})

    def test_the_first_month_is_charged_from_the_first_day_and_demand_is_that_of_the_month(self):
        priced = TARIFF.replace('fixed_per_kw = "0"', 'fixed_per_kw = "30"')
        lines = head() + [
            frame("a", 1, "interval", {"2026-06-29T10:00": 100, "2026-06-30T10:00": 800}),
            closed("2026-06-29"), closed("2026-06-30"),
        ]
        expected = charge_to_date(Tariffs([priced]).versions[0], datetime.date(2026, 6, 1), 2, 900, 1600, 1000)
        self.assertEqual(expected["fixed"], 320)
        self.assertEqual(result(lines, tariff=priced)["charges"][ACCOUNT]["2026-06"], expected)

    def test_charges_accrue_to_the_day_that_is_asked_for(self):
        priced = TARIFF.replace('fixed_per_kw = "0"', 'fixed_per_kw = "31"').replace('floor = "0"', 'floor = "1"')
        lines = head() + [closed("2026-06-29"), closed("2026-06-30")]
        accrued = lambda day: account(lines, tariff=priced, as_of=datetime.date.fromisoformat(day))["accrued_paise"]
        self.assertEqual([accrued(day) for day in ("2026-06-30", "2026-07-01", "2026-07-31", "2026-08-01")], [0, 100, 3100, 3200])


if __name__ == "__main__":
    unittest.main()
