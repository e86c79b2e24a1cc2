"""What a month costs to date. Integers only: every head is one exact fraction, rounded once, half away from zero."""
import datetime
import pathlib
import tomllib

MILLION = 1_000_000
HEADS = ("energy", "fixed", "subsidy", "surcharge", "duty", "rebate", "minimum", "green")


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
        self.sanctioned_between = raw.get("demand_between", "recorded") == "sanctioned"
        self.slabs_by_day = raw.get("slab_limits", "month") == "days"
        self.surcharge_on_gross = raw.get("surcharge_on", "net") == "gross"
        self.whole_load = raw.get("whole_load", False)
        self.base_with = raw.get("base_with", [])
        self.green_per_kwh = scaled(raw.get("green_per_kwh", "0"), 6)
        self.minimum_per_kw = {
            month: scaled(minimum["per_kw"], 6) for minimum in raw.get("minimum", []) for month in minimum["months"]
        }
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
    """Paise by head for the first `days` charged days of the month that begins on the day `month`, under the same terms."""
    return charge_in_parts(month, [(tariff, sanctioned_w, days, energy_wh, demand_w)])


def charge_in_parts(month, parts, prepaid=True):
    """Paise by head where terms change inside of a month: parts of (tariff, load W, days, energy Wh, highest demand W).

    E = energy at gross rates, S = what the state pays of it, F = fixed charge on the billable demand,
    G = green adder, P = share of (E + F - S) or of (E + F), B = E + F - S + P, with G where the tariff says so; duty and
    rebate are shares of B. Units go on through the slabs: a part's E is that of all units to its end less that of those
    before it, both at its rates. M = what E + F of the month fall short of the minimum; in B as the last tariff says.
    """
    length = days_of_month(month)
    paisa = 10 ** 13 * length                                       # one denominator: rupees * 10**15 * days of the month
    e = s = f = g = p = duty = rebate = least = m_duty = m_rebate = 0
    days_before = units_before = 0
    for tariff, sanctioned_w, days, energy_wh, demand_w in parts:
        days_upto = min(days_before + days, length)
        days = days_upto - days_before
        units_upto = units_before + energy_wh
        load_w = -(-sanctioned_w // 1000) * 1000 if tariff.whole_load else sanctioned_w
        e_upto, s_upto = energy_and_subsidy(tariff, max(units_upto, 0), days_upto, length)
        e_before, s_before = energy_and_subsidy(tariff, max(units_before, 0), days_before, length)
        part_e, part_s = e_upto - e_before, s_upto - s_before
        part_f = tariff.fixed_per_kw * billable(tariff, demand_w, load_w) * days
        part_g = tariff.green_per_kwh * (max(units_upto, 0) - max(units_before, 0)) * MILLION * length
        shared = part_e + part_f if tariff.surcharge_on_gross else part_e + part_f - part_s
        part_p = shared * tariff.surcharge.get(f"{month:%Y-%m}", 0)
        b = part_e + part_f - part_s + ("green" in tariff.base_with) * part_g
        b = b * MILLION + part_p                                    # p, and so b, are a million times larger
        e, s, f, g, p = e + part_e, s + part_s, f + part_f, g + part_g, p + part_p
        duty += b * tariff.duty
        rebate_share = tariff.rebate if prepaid else 0              # it is for who pays ahead
        rebate += b * rebate_share
        least += tariff.minimum_per_kw.get(month.month, 0) * load_w * MILLION * days
        m_duty, m_rebate = (("minimum" in tariff.base_with) * share for share in (tariff.duty, rebate_share))
        days_before, units_before = days_upto, units_upto
    m = max(least - e - f, 0)
    return dict(zip(HEADS, (
        rounded(e, paisa),
        rounded(f, paisa),
        -rounded(s, paisa),
        rounded(p, paisa * MILLION),
        rounded(duty + m * MILLION * m_duty, paisa * MILLION * MILLION),
        -rounded(rebate + m * MILLION * m_rebate, paisa * MILLION * MILLION),
        rounded(m, paisa),
        rounded(g, paisa),
    )))


def energy_and_subsidy(tariff, units, days, length):
    """Energy at gross rates and the state's part of it, rupees * 10**15 * days of the month."""
    energy = subsidy = below = 0                                    # `below`: Wh * days of the month
    for upto_wh, gross_rate, subsidy_rate in tariff.slabs:
        limit = units * length if upto_wh is None else upto_wh * (days if tariff.slabs_by_day else length)
        part = max(min(units * length, limit) - below, 0)
        energy += part * gross_rate * MILLION
        subsidy += part * subsidy_rate * MILLION
        below += part
    return energy, subsidy


def billable(tariff, demand_w, load_w):
    """Demand that is billed, W * 10**6."""
    floor = load_w * tariff.demand_floor
    within = min(demand_w, load_w) * MILLION
    if tariff.sanctioned_between and within > floor:
        within = load_w * MILLION
    return max(within, floor) + max(demand_w - load_w, 0) * tariff.demand_excess
