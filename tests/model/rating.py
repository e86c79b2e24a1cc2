"""What a month costs to date. Integers only: every head is one exact fraction, rounded once, half away from zero."""
import datetime
import pathlib
import tomllib

MILLION = 1_000_000
HEADS = ("energy", "fixed", "subsidy", "surcharge", "duty", "rebate")


def scaled(text, digits):
    """The decimal number in `text` times 10**digits; fails where digits would be lost."""
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    fraction = fraction.rstrip("0")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(fraction) > digits:
        raise ValueError(f"not a number with at most {digits} places: {text!r}")
    return sign * int(whole + fraction.ljust(digits, "0"))


def ppm(text):
    """A share in parts per million, written "0.75" or "75 %"."""
    return scaled(text[:-1].rstrip(), 4) if text.endswith("%") else scaled(text, 6)


class Tariff:
    """One version of a tariff: rates in millionths of a rupee, shares in parts per million."""

    def __init__(self, text):
        raw = tomllib.loads(text)
        self.name = raw["name"]
        self.first_day = datetime.date.fromisoformat(raw["from"])
        self.fixed_per_kw = scaled(raw["fixed_per_kw"], 6)
        self.demand_floor = ppm(raw["demand_floor"])
        self.demand_excess = ppm(raw["demand_excess"])
        self.duty = ppm(raw["duty"])
        self.rebate = ppm(raw["rebate"])
        self.surcharge = {month: ppm(share) for month, share in raw.get("surcharge", {}).items()}
        self.slabs = []
        for slab in raw["slab"]:
            upto_wh = scaled(slab["upto_kwh"], 3) if "upto_kwh" in slab else None
            self.slabs.append((upto_wh, scaled(slab["gross"], 6), scaled(slab["subsidy"], 6)))


class Tariffs:
    """All versions of all tariffs."""

    def __init__(self, texts):
        self.versions = [Tariff(text) for text in texts]

    @classmethod
    def in_directory(cls, directory):
        """Those of a directory's TOML files."""
        return cls(path.read_text(encoding="utf-8") for path in sorted(pathlib.Path(directory).glob("*.toml")))

    def in_force(self, name, first_of_month):
        """The version of a tariff that a month is charged under; None before the first."""
        begun = [v for v in self.versions if v.name == name and v.first_day <= first_of_month]
        return max(begun, key=lambda version: version.first_day, default=None)


def rounded(numerator, denominator):
    """A fraction as an integer, half away from zero."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def days_of_month(month):
    """Number of days of the month that begins on that day."""
    following = datetime.date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return (following - month).days


def charge_to_date(tariff, month, days, energy_wh, demand_w, sanctioned_w):
    """Paise by head for the first `days` charged days of the month that begins on the day `month`.

    E = energy at gross rates, S = what the state pays of it, F = fixed charge on the billable demand,
    P = share of (E + F - S), B = E + F - S + P; duty and rebate are shares of B.
    """
    gross = subsidy = 0                                             # millionths of a rupee, times 1000
    below = 0
    for upto_wh, gross_rate, subsidy_rate in tariff.slabs:
        end = max(energy_wh, 0) if upto_wh is None else min(max(energy_wh, 0), upto_wh)
        gross += max(end - below, 0) * gross_rate
        subsidy += max(end - below, 0) * subsidy_rate
        below = max(below, end)
    within = max(min(demand_w, sanctioned_w) * MILLION, sanctioned_w * tariff.demand_floor)
    billable = within + max(demand_w - sanctioned_w, 0) * tariff.demand_excess      # W, times a million
    length = days_of_month(month)
    # One denominator for all: rupees * 10**15 * days of the month.
    e = gross * MILLION * length
    s = subsidy * MILLION * length
    f = tariff.fixed_per_kw * billable * min(days, length)
    p = (e + f - s) * tariff.surcharge.get(f"{month:%Y-%m}", 0)                     # times a million
    b = (e + f - s) * MILLION + p
    paisa = 10 ** 13 * length
    return dict(zip(HEADS, (
        rounded(e, paisa),
        rounded(f, paisa),
        -rounded(s, paisa),
        rounded(p, paisa * MILLION),
        rounded(b * tariff.duty, paisa * MILLION * MILLION),
        -rounded(b * tariff.rebate, paisa * MILLION * MILLION),
    )))
