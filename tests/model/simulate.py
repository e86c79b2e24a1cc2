"""What a household is charged day by day, by the slow way: every day is the month to date less the day before's."""
import argparse
import csv
import datetime
import json

from rating import HEADS, Tariff, Tariffs, charge_to_date, scaled


def charges(tariffs, name, days, load_w):
    """Rows of date and paise by head, for days (date, Wh, W) that follow one another."""
    first = days[0][0]
    for index, (day, _, _) in enumerate(days):
        month = day.replace(day=1)
        tariff = tariffs.in_force(name, month)
        start = max(month, first)
        of_month = days[index - (day - start).days:index + 1]

        def to_date(part):
            energy_wh = sum(wh for _, wh, _ in part)
            demand_w = max((w for _, _, w in part), default=0)
            return charge_to_date(tariff, month, len(part), energy_wh, demand_w, load_w)

        today, before = to_date(of_month), to_date(of_month[:-1])
        yield [str(day), *(today[head] - before[head] if len(of_month) > 1 else today[head] for head in HEADS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", required=True, help="CSV: date, kwh, demand_kw")
    parser.add_argument("--load-w", type=int, required=True)
    parser.add_argument("files", nargs="+", help="versions of one tariff")
    args = parser.parse_args()
    texts = [open(file, encoding="utf-8").read() for file in args.files]
    tariffs = Tariffs(texts)
    with open(args.days, encoding="utf-8") as file:
        days = [(datetime.date.fromisoformat(row["date"]), scaled(row["kwh"], 3), scaled(row["demand_kw"], 3))
                for row in csv.DictReader(file)]
    print(json.dumps(list(charges(tariffs, Tariff(texts[0]).name, days, args.load_w))))


if __name__ == "__main__":
    main()
