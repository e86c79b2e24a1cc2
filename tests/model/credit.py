#!/usr/bin/env python3
"""Who is told what, and whose supply may be cut when, by a table of rules. See README.md.

Reads the policy's text and what happened, a line of JSON each; prints a line of JSON for each `ask`. Written apart from Urja:
every rule is a row of a table, moments are local times of the zone, nothing is kept but what a clerk would note down.
"""
import argparse
import datetime
import fractions
import json
import tomllib
import zoneinfo

ZONE = zoneinfo.ZoneInfo("Asia/Kolkata")
DAY = datetime.timedelta(days=1)
USED_UP = 255
# Reasons that end by themselves.
PASSING = {"emergency_credit", "conversion_grace", "hours", "sunday", "second_saturday", "holiday"}


def moment(seconds):
    """Local time of a number of seconds since 1970."""
    return datetime.datetime.fromtimestamp(seconds, ZONE)


def clock(text):
    """Minutes from midnight."""
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


class Policy:
    """The text of a policy."""

    def __init__(self, text):
        self.rules = tomllib.loads(text)
        self.calendars = {entry["year"]: set(entry["days"]) for entry in self.rules.get("holidays", [])}

    def level(self, balance, recharge, last_charge):
        """How far a balance is down: the last alert it has come to."""
        if balance < 0:
            return USED_UP
        reached = 0
        for number, alert in enumerate(self.rules["alert"], start=1):
            if recharge is not None:
                percent = fractions.Fraction(alert["percent"].rstrip("% ")) / 100
                down = balance <= percent * recharge
            else:
                down = balance <= fractions.Fraction(alert["rupees"]) * 100
                down |= last_charge is not None and last_charge > 0 and balance <= last_charge * alert["days_left"]
            if down:
                reached = number
        return reached

    def emergency(self, account):
        """Days of emergency credit of an account."""
        days = self.rules["emergency_days"]
        for rule in self.rules.get("longer", []):
            small = account["sanctioned_w"] <= fractions.Fraction(rule["max_load_kw"]) * 1000
            if small and account["tariff"] in rule["tariffs"]:
                return max(days, rule["days"])
        return days

    def paid_off(self, amount, owed):
        """What of a payment goes to old dues, paise."""
        for row in self.rules.get("arrears", []):
            if "upto_rupees" not in row or owed <= fractions.Fraction(row["upto_rupees"]) * 100:
                return min(owed, int(amount * fractions.Fraction(row["percent"].rstrip("% ")) / 100))
        return 0

    def barred(self, date):
        """Why nobody is cut on a day at all."""
        if date.year not in self.calendars:
            return "no_calendar"
        if date.isoformat() in self.calendars[date.year]:
            return "holiday"
        hours = self.rules["hours"]
        if date.isoweekday() == 7 and not hours["sundays"]:
            return "sunday"
        if date.isoweekday() == 6 and (date.day + 6) // 7 == 2 and not hours["second_saturdays"]:
            return "second_saturday"
        return None

    def hours(self, date):
        """First moment of a day at which somebody may be cut, and the first at which no more."""
        midnight = datetime.datetime.combine(date, datetime.time(), ZONE)
        return [midnight + datetime.timedelta(minutes=clock(self.rules["hours"][end])) for end in ("from", "to")]


class Household:
    """What is noted down of an account."""

    def __init__(self, line):
        self.terms = line
        self.first_day = datetime.date.fromisoformat(line["from"])
        self.balance, self.recharge, self.last_charge = 0, None, None
        self.owed = 0
        self.level = self.told = 0
        self.told_used_up = None
        self.caught_up = 0
        self.known_until, self.known, self.unknown = self.first_day - DAY, set(), []
        self.generation = 0
        self.taken = None
        self.posted_until = None

    def levelled(self, level):
        """The balance moved: what was told of a deeper level is no longer true."""
        if level < self.level:
            self.untold(level)
        self.level = level

    def untold(self, level):
        self.generation += 1
        self.told = min(self.told, level)
        if level != USED_UP:
            self.told_used_up = None

    def learn(self, line):
        """What a meter said of a day: a register tells of all days before it, intervals of their own."""
        day = datetime.date.fromisoformat(line["day"])
        if line["by"] == "register":
            self.known_until = max(self.known_until, day)
        else:
            self.known.add(day)

    def is_known(self, day):
        return day <= self.known_until or day in self.known

    def day(self, policy, line):
        rose = line["booked"] > self.balance
        self.balance, self.last_charge = line["booked"], line["charge"]
        self.posted_until = datetime.date.fromisoformat(line["day"])
        if self.terms["connection"] != "prepaid":
            return
        at_once = 1
        if not self.is_known(self.posted_until):
            self.unknown.append(self.posted_until)
        elif self.unknown and self.is_known(self.unknown[-1]):
            at_once = len(self.unknown) + 1
            self.unknown = []
        if at_once > max(1, policy.rules["silent_days"]):
            self.untold(len(policy.rules["alert"]))
            self.caught_up = at_once
        level = policy.level(self.balance, self.recharge, self.last_charge)
        self.levelled(level if rose else max(level, self.level))

    def pay(self, policy, line):
        """A payment: what it pays off of old dues does not reach the balance."""
        off = policy.paid_off(line["amount"], self.owed)
        self.owed -= off
        self.balance += line["amount"] - off
        assert self.balance == line["booked"], f"{self.balance} by the table, {line}"
        self.recharge = line["amount"]
        if self.terms["connection"] != "prepaid":
            return
        level = policy.level(self.balance, self.recharge, self.last_charge)
        if level != USED_UP:
            self.untold(0)
        self.levelled(level)

    def sent(self, at):
        """What was taken to be sent is out, if it is still true."""
        level, generation, _ = self.taken
        explains = level == self.told and self.caught_up > 0
        if generation == self.generation and level <= self.level and (level > self.told or explains):
            if level == USED_UP and level > self.told:
                self.told_used_up = at
            self.told, self.caught_up = level, 0

    def due(self):
        """Notice that is due: level and days to explain."""
        return [self.level, self.caught_up] if self.level > self.told or self.caught_up else None


def reasons(policy, house, ask):
    """The table: name, whether it holds, and until when where it has an end."""
    at, now, holds = moment(ask["at"]), moment(ask["now"]), ask["holds"]
    known = min(at, now)
    told = house.told_used_up
    emergency = told and moment(told) + policy.emergency(house.terms) * DAY
    grace = datetime.datetime.combine(house.first_day, datetime.time(), ZONE)
    grace += policy.rules["conversion_grace_days"] * DAY
    heard = ask["heard_at"] and moment(ask["heard_at"])
    begin, end = policy.hours(at.date())
    yesterdays = known.date() - 2 * DAY
    barred = policy.barred(at.date())
    table = [
        ("not_prepaid", house.terms["connection"] != "prepaid", None),
        ("not_below_zero", house.balance + ask["comes_back"] >= 0, None),
        ("not_told", told is None, None),
        ("emergency_credit", told is not None and at < emergency, emergency),
        ("conversion_grace", at < grace, grace),
        ("not_posted", house.posted_until is None or house.posted_until < yesterdays, None),
        ("stale", heard is None or heard < known - datetime.timedelta(hours=policy.rules["fresh_hours"]), None),
        ("awaited", bool(house.unknown), None),
        ("not_enabled", not holds["enabled"], None),
        ("unauthenticated", not holds["authenticated"], None),
        ("protected", holds["protected"], None),
        ("disputed", holds["disputed"], None),
        ("payment_in_flight", holds["payment_in_flight"], None),
        ("hours", not begin <= at < end, None),
        (barred, barred is not None, None),
    ]
    return [(name, until) for name, holds_it, until in table if holds_it]


def earliest(policy, found, at):
    """First moment from `at` on at which only time has to pass."""
    if any(name not in PASSING for name, _ in found):
        return None
    start = max([at] + [until for _, until in found if until])
    date = start.date()
    for _ in range(401):
        why = policy.barred(date)
        if why == "no_calendar":
            return None
        begin, end = policy.hours(date)
        if why is None and start < end:
            return int(max(start, begin).timestamp())
        date += DAY
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", required=True, help="file of the policy")
    parser.add_argument("--events", required=True, help="file of what happened")
    options = parser.parse_args()
    with open(options.policy, encoding="utf-8") as text:
        policy = Policy(text.read())
    with open(options.events, encoding="utf-8") as lines:
        answer(policy, map(json.loads, lines))


def answer(policy, lines):
    """Notes down what happened and answers what is asked."""
    houses = {}
    for line in lines:
        kind, number = line["line"], line["account"]
        if kind == "account":
            houses[number] = Household(line)
            continue
        house = houses[number]
        if kind == "day":
            house.day(policy, line)
        elif kind == "told":
            house.learn(line)
        elif kind == "arrears":
            house.owed += line["amount"]
        elif kind == "recharge":
            house.pay(policy, line)
        elif kind == "take":
            house.taken = (house.level, house.generation, house.caught_up)
        elif kind == "sent":
            house.sent(line["at"])
        elif kind == "ask":
            found = reasons(policy, house, line)
            soonest = earliest(policy, found, moment(line["at"]))
            names = [name for name, _ in found]
            print(json.dumps({"reasons": names, "earliest": soonest, "arrears": house.owed, "notice": house.due()}))


if __name__ == "__main__":
    main()
