#!/usr/bin/env python3
"""Balances and charges as they must be, from the truth of a fleet and the tariffs. See README.md."""
import argparse
import datetime
import json
import zoneinfo

from rating import HEADS, Tariffs, charge_to_date

ONE_DAY = datetime.timedelta(days=1)
# A stamp further ahead of its frame than this is a wrong clock's, and moves nothing.
AHEAD_S = 15 * 60


class Truth:
    """The lines of a truth file, and when each frame counts as stored."""

    def __init__(self, lines, stored="sent"):
        self.stored = stored
        self.meters, self.frames, self.recharges, self.closed = {}, {}, {}, []
        self.last_close = self.end = -1
        for self.end, line in enumerate(lines):
            self._read(self.end, json.loads(line))

    def _read(self, number, line):
        kind = line["line"]
        assert number > 0 or (kind == "fleet" and line["format"] == 1), "not a truth file of format 1"
        if kind == "fleet":
            self.head, self.calendar = line, Calendar(line["zone"])
        elif kind == "meter":
            self.meters[line["meter"]] = line
        elif kind == "frame":
            known = self.frames.setdefault(line["digest"], {"frame": Frame(line), "stored_at": None})
            if self.stored == "sent" and known["stored_at"] is None:
                known["stored_at"] = number
        elif kind == "acknowledged":
            known = self.frames[line["digest"]]
            counts = self.stored == "acknowledged" or (self.stored == "confirmed" and line["how"] == "confirmed")
            if counts and known["stored_at"] is None:
                known["stored_at"] = number
        elif kind == "recharge" and line["outcome"] in ("posted", "exists"):
            self.recharges[line["payment_id"]] = (line["account"], line["paise"])
        elif kind == "day_closed":
            self.closed.append(datetime.date.fromisoformat(line["day"]))
            self.last_close = number

    @property
    def closed_until(self):
        """The last closed day; None before the first."""
        return max(self.closed, default=None)

    def today(self):
        """The day on which the last thing happened, as far as the truth tells."""
        days = [self.calendar.day_of(known["frame"].sent) for known in self.frames.values()]
        if self.closed:
            days.append(self.closed_until + ONE_DAY)
        return max(days, default=datetime.date.fromisoformat(self.head["from"]))


class Frame:
    """What the model needs of a frame."""

    def __init__(self, line):
        self.meter, self.kind, self.sent = line["meter"], line["kind"], line["sent"]
        self.rank = (line.get("key_epoch", 1), line["counter"] or 0, line["digest"])
        self.import_wh = []
        if self.kind in ("interval", "daily"):
            self.import_wh = list(zip(line["ends"], line["values"].get("import_wh", [])))


class Calendar:
    """Civil days of a zone."""

    def __init__(self, zone):
        self.zone = zoneinfo.ZoneInfo(zone)
        self.days = {}

    def day_of(self, instant):
        """The civil day that holds the instant."""
        if instant not in self.days:
            self.days[instant] = datetime.datetime.fromtimestamp(instant, self.zone).date()
        return self.days[instant]

    def usage_day(self, end):
        """The day that an interval or register is counted to: that of the instant just before its end."""
        return self.day_of(end - 1)

    def is_midnight(self, instant):
        """Whether a civil day begins at the instant."""
        return self.day_of(instant) != self.day_of(instant - 1)


class Known:
    """What is in force of one meter's intervals and registers, of the frames stored up to a line of the truth."""

    def __init__(self, truth, upto, late_days):
        self.calendar = truth.calendar
        self.values = {number: {"interval": {}, "daily": {}} for number in truth.meters}
        for known in truth.frames.values():
            if known["stored_at"] is not None and known["stored_at"] <= upto:
                self._take(known["frame"], late_days)

    def _take(self, frame, late_days):
        if not frame.import_wh:
            return
        values = self.values[frame.meter][frame.kind]
        oldest = self.calendar.day_of(frame.sent) - late_days * ONE_DAY
        for end, wh in frame.import_wh:
            too_late = self.calendar.usage_day(end) < oldest
            ahead = end > frame.sent + AHEAD_S
            if wh is not None and not too_late and not ahead and (end not in values or values[end][0] < frame.rank):
                values[end] = (frame.rank, wh)


class Account:
    """One account and what is known of the meter it pays for."""

    def __init__(self, meter, known, tariffs):
        self.meter, self.tariffs = meter, tariffs
        self.first_day = datetime.date.fromisoformat(meter["from"])
        calendar, values = known.calendar, known.values[meter["meter"]]
        self.registers = {self.first_day - ONE_DAY: meter["opening_register_wh"]}
        self.used = {}
        self.demand = {}
        for end, (_, wh) in values["daily"].items():
            day = calendar.usage_day(end)
            if calendar.is_midnight(end) and day >= self.first_day:
                self.registers[day] = wh
        for end, (_, wh) in values["interval"].items():
            day = calendar.usage_day(end)
            if day >= self.first_day:
                self.used[day] = self.used.get(day, 0) + wh
                month = day.replace(day=1)
                demand_w = max(wh, 0) * 3600 // meter["period_s"]
                self.demand[month] = max(self.demand.get(month, 0), demand_w)
        rising = [wh for _, wh in sorted(self.registers.items())]
        assert rising == sorted(rising), f"a register of {meter['account']} went back"

    def value_at_end_of(self, day):
        """The register at the end of a day: the last one known, and the intervals after it."""
        known = max(known for known in self.registers if known <= day)
        return self.registers[known] + sum(wh for used, wh in self.used.items() if known < used <= day)

    def energy(self, month, upto):
        """Energy of a month to the end of a day, Wh."""
        before = max(month, self.first_day) - ONE_DAY
        return self.value_at_end_of(upto) - self.value_at_end_of(before)

    def charge(self, month, upto):
        """The charge of a month to the end of a day, by head."""
        tariff = self.tariffs.in_force(self.meter["tariff"], month)
        if tariff is None:
            return dict.fromkeys(HEADS, 0)
        days = (upto - max(month, self.first_day)).days + 1
        demand_w = self.demand.get(month, 0)
        return charge_to_date(tariff, month, days, self.energy(month, upto), demand_w, self.meter["sanctioned_w"])

    def charges(self, upto):
        """The charges of every month from the first to that of a day, the last one to that day."""
        months, month = {}, self.first_day.replace(day=1)
        while month <= upto and upto >= self.first_day:
            months[month] = self.charge(month, min(last_day(month), upto))
            month = last_day(month) + ONE_DAY
        return months


def last_day(month):
    """Last day of the month that begins on that day."""
    return (month + 31 * ONE_DAY).replace(day=1) - ONE_DAY


def balances(truth, tariffs, as_of=None, late_days=45):
    """Booked and accrued paise and the charges of each account."""
    as_of = as_of or truth.today()
    at_close = Known(truth, truth.last_close, late_days)
    now = Known(truth, truth.end, late_days)
    closed_until = truth.closed_until and str(truth.closed_until)
    result = {"as_of": str(as_of), "closed_until": closed_until, "accounts": {}, "charges": {}}
    for meter in truth.meters.values():
        number = meter["account"]
        closed, open_now = Account(meter, at_close, tariffs), Account(meter, now, tariffs)
        booked_until = max(truth.closed_until or closed.first_day - ONE_DAY, closed.first_day - ONE_DAY)
        booked_charges = closed.charges(booked_until)
        open_month = (booked_until + ONE_DAY).replace(day=1)
        to_date = open_now.charges(as_of)
        accrued = sum(sum(charge.values()) for month, charge in to_date.items() if month >= open_month)
        accrued -= sum(booked_charges.get(open_month, {}).values()) if as_of >= open_month else 0
        recharged = sum(paise for account, paise in truth.recharges.values() if account == number)
        charged = sum(sum(charge.values()) for charge in booked_charges.values())
        booked = meter["opening_balance_paise"] + recharged - charged
        month = as_of.replace(day=1)
        result["accounts"][number] = {
            "booked_paise": booked,
            "accrued_paise": accrued,
            "balance_paise": booked - accrued,
            "month_energy_wh": open_now.energy(month, as_of) if as_of >= open_now.first_day else 0,
            "month_demand_w": open_now.demand.get(month, 0),
        }
        result["charges"][number] = {f"{month:%Y-%m}": charge for month, charge in booked_charges.items()}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", required=True, help="truth file of a fleet")
    parser.add_argument("--tariffs", required=True, help="directory of tariff files")
    parser.add_argument("--stored", choices=("sent", "acknowledged", "confirmed"), default="sent")
    parser.add_argument("--as-of", type=datetime.date.fromisoformat)
    parser.add_argument("--late-days", type=int, default=45)
    options = parser.parse_args()
    with open(options.truth, encoding="utf-8") as lines:
        truth = Truth(lines, options.stored)
    tariffs = Tariffs.in_directory(options.tariffs)
    print(json.dumps(balances(truth, tariffs, options.as_of, options.late_days), indent=1))


if __name__ == "__main__":
    main()
