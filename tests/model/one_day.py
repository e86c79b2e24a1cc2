#!/usr/bin/env python3
"""Compares one civil day of a large fleet with its truth: rows, usage and balances of every meter and account.

Everything that the fleet measured was delivered in the end, so what must be there follows from the truth's `meter` and
`used` lines alone. What is there comes as files that other programs wrote: the rows of each meter summed up by another
reader of the lake, the usage and the balances as SQL gives them.

    one_day.py --truth truth.jsonl --tariffs ledger/tariffs --meters meters.csv --rows rows.jsonl
               --usage usage.csv --balances balances.csv

meters.csv: meter_id, serial. rows.jsonl: meter_id, n (rows), ends (distinct ends), wh (sum), weighed (sum of energy
times the quarter hours from the day's start to the interval's end). usage.csv: meter_id, usage_date, import_kwh.
balances.csv: account_number, booked_paise, accrued_paise. All with a line of names. It prints one JSON object and
fails where anything differs.
"""
import argparse
import csv
import datetime
import json
import sys
from decimal import Decimal

import rating

QUARTER_S = 900
SHOWN = 5


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


class Expected:
    """What one meter and its account must show."""

    __slots__ = ("account", "booked_paise", "accrued_paise", "rows", "day", "wh", "weighed")

    def __init__(self, meter, used, tariffs):
        day = datetime.date.fromisoformat(used["day"])
        wh = used["wh"]
        period_s, first_end = used["period_s"], used["first_end"]
        start = first_end - period_s
        month = day.replace(day=1)
        if day != month or meter["from"] != used["day"]:
            raise ValueError(f"not the first charged day of a month: {used['day']}")
        if used["register_wh"] != meter["opening_register_wh"] + sum(wh):
            raise ValueError(f"register and intervals of meter {meter['meter']} differ")
        # The day is closed; the next has begun, and accrues its share of the fixed charge.
        booked, to_date = (
            sum(rating.charge_to_date(tariffs.in_force(meter["tariff"], month), month, days, sum(wh),
                                      max(wh) * 3600 // period_s, meter["sanctioned_w"]).values())
            for days in (1, 2))
        self.account = meter["account"]
        self.booked_paise = meter["opening_balance_paise"] - booked
        self.accrued_paise = to_date - booked
        self.day = used["day"]
        self.rows = len(wh)
        self.wh = sum(wh)
        self.weighed = sum(energy * ((first_end + slot * period_s - start) // QUARTER_S)
                           for slot, energy in enumerate(wh))


def expectations(path, tariffs):
    """By serial number, from the truth file. A line written twice counts once."""
    meters, expected = {}, {}
    with open(path, encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["line"] == "meter":
                meters[line["meter"]] = line
            elif line["line"] == "used":
                meter = meters[line["meter"]]
                expected[meter["serial"]] = Expected(meter, line, tariffs)
    if len(expected) != len(meters):
        raise ValueError(f"{len(meters)} meters, {len(expected)} of them with a day")
    return expected


class Differences:
    """Counts what differs, and keeps the first few."""

    def __init__(self):
        self.count, self.first = 0, []

    def compare(self, what, ours, expected):
        if ours != expected:
            self.count += 1
            if len(self.first) < SHOWN:
                self.first.append(f"{what}: {ours}, expected {expected}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("truth", "tariffs", "meters", "rows", "usage", "balances"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    expected = expectations(args.truth, rating.Tariffs.in_directory(args.tariffs))
    by_meter = {int(row["meter_id"]): expected[row["serial"]] for row in read_csv(args.meters)}
    by_account = {one.account: one for one in expected.values()}
    differences = Differences()
    differences.compare("meters", len(by_meter), len(expected))

    seen, rows = set(), 0
    with open(args.rows, encoding="utf-8") as file:
        for text in file:
            row = json.loads(text)
            one = by_meter[row["meter_id"]]
            rows += row["n"]
            seen.add(row["meter_id"])
            differences.compare(f"rows of meter {row['meter_id']}",
                                (row["n"], row["ends"], int(row["wh"]), int(row["weighed"])),
                                (one.rows, one.rows, one.wh, one.weighed))
    differences.compare("meters with rows", len(seen), len(by_meter))

    seen = set()
    for row in read_csv(args.usage):
        meter_id = int(row["meter_id"])
        one = by_meter[meter_id]
        differences.compare(f"another row of usage of meter {meter_id}", meter_id in seen, False)
        seen.add(meter_id)
        differences.compare(f"usage of meter {meter_id}",
                            (row["usage_date"], int(Decimal(row["import_kwh"]) * 1000)), (one.day, one.wh))
    differences.compare("meters with usage", len(seen), len(by_meter))

    seen = set()
    for row in read_csv(args.balances):
        differences.compare(f"another balance of {row['account_number']}", row["account_number"] in seen, False)
        seen.add(row["account_number"])
        one = by_account[row["account_number"]]
        differences.compare(f"booked and accrued of {row['account_number']}",
                            (int(row["booked_paise"]), int(row["accrued_paise"])),
                            (one.booked_paise, one.accrued_paise))
    differences.compare("accounts", len(seen), len(by_account))

    print(json.dumps({"meters": len(by_meter), "rows": rows, "rows_expected": sum(one.rows for one in expected.values()),
                      "differences": differences.count, "first": differences.first}))
    for difference in differences.first:
        print(difference, file=sys.stderr)
    return 1 if differences.count else 0


if __name__ == "__main__":
    sys.exit(main())
