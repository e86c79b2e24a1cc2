"""What a household is charged day by day, by the slow way: every day is the month to date less the day before's."""
import argparse
import csv
import datetime
import json

from itertools import groupby

from rating import HEADS, Tariff, Tariffs, charge_in_parts, scaled


def charges(tariffs, days, prepaid=True):
    """Rows of date and paise by head, for days (date, Wh, W, load W, tariff) that follow one another."""
    first = days[0][0]
    for index, (day, *_) in enumerate(days):
        month = day.replace(day=1)
        start = max(month, first)
        of_month = days[index - (day - start).days:index + 1]

        def to_date(part):
            parts = []
            for (load_w, name), same in groupby(part, key=lambda day: day[3:]):
                same = list(same)
                energy_wh, demand_w = sum(day[1] for day in same), max(day[2] for day in same)
                parts.append((tariffs.in_force(name, month), load_w, len(same), energy_wh, demand_w))
            return charge_in_parts(month, parts, prepaid)

        today, before = to_date(of_month), to_date(of_month[:-1])
        yield [str(day), *(today[head] - before[head] for head in HEADS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", required=True, help="CSV: date, kwh, demand_kw, and where they change load_kw, tariff")
    parser.add_argument("--load-w", type=int, required=True)
    parser.add_argument("--postpaid", action="store_true")
    parser.add_argument("files", nargs="+", help="versions of tariffs; the first one's is that of days that name none")
    args = parser.parse_args()
    texts = [open(file, encoding="utf-8").read() for file in args.files]
    first_name = Tariff(texts[0]).name
    with open(args.days, encoding="utf-8") as file:
        days = [(datetime.date.fromisoformat(row["date"]), scaled(row["kwh"], 3), scaled(row["demand_kw"], 3),
                 scaled(row["load_kw"], 3) if "load_kw" in row else args.load_w, row.get("tariff", first_name))
                for row in csv.DictReader(file)]
    print(json.dumps(list(charges(Tariffs(texts), days, not args.postpaid))))


if __name__ == "__main__":
    main()
