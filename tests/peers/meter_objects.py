"""What meter.py is behind its sessions: load, objects, relay, image, keys."""
import datetime as dt
import hashlib
import json
import random
import threading
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import keywrap
from gurux_dlms import GXBitString, GXEnum, GXInt8, GXInt16, GXInt32, GXUInt8, GXUInt16, GXUInt32

from meter_axdr import IST, Malformed, array, clock, logical_name, structure, wall_clock

EPOCH = dt.datetime(2024, 1, 1, tzinfo=IST)
OK, TEMPORARY, DENIED, OTHER = 0, 2, 3, 250
READER, UTILITY, FIRMWARE = 32, 48, 80
COUNTERS = {READER: "0.0.43.1.2.255", UTILITY: "0.0.43.1.3.255", FIRMWARE: "0.0.43.1.5.255"}
ENERGIES = (("1.0.1", "import_wh", 30), ("1.0.9", "import_vah", 31), ("1.0.2", "export_wh", 30),
            ("1.0.10", "export_vah", 31))
# Modes of the disconnect control: in these a remote reconnection only makes the relay ready for the button.
BUTTON_MODES = (1, 3, 5, 6)
CONNECTED, READY, DISCONNECTED = 1, 2, 0
FAULTS = ("drop", "silent", "flip", "garbage", "stale", "push", "behind", "skip")


class Load:
    """Energy as a function of time alone: registers at the ends of intervals, intervals as their differences."""

    def __init__(self, serial, period):
        self.period = dt.timedelta(seconds=period)
        self.seed = int.from_bytes(hashlib.sha256(serial.encode()).digest()[:2], "big")

    def registers(self, at):
        slots = (at - EPOCH) // self.period
        wh = 1_000_000 + 250 * slots + (slots * slots + self.seed) % 200
        exported = 1_000 + 3 * slots + (slots + self.seed) % 3
        return {"import_wh": wh, "import_vah": wh + wh // 20, "export_wh": exported, "export_vah": exported + slots}

    def interval(self, end):
        now, before = self.registers(end), self.registers(end - self.period)
        slot = (end - EPOCH) // self.period + self.seed
        energies = {name: now[name] - before[name] for name in now}
        return {"voltage_dv": 2250 + slot % 200} | energies | {
            "current_ma": 10 * (100 + slot % 700), "neutral_current_ma": 10 * (101 + slot % 700)}

    def ends(self, start, stop, step=None):
        """Ends of intervals in [start, stop]."""
        step = step or self.period
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        at = midnight + -((midnight - start) // step) * step
        while at <= stop:
            yield at
            at += step


@dataclass
class Object:
    """Of a class: what can be read, written and done, by attribute and method."""
    kind: int
    name: str
    reads: dict = field(default_factory=dict)
    writes: dict = field(default_factory=dict)
    methods: dict = field(default_factory=dict)
    version: int = 0

    def read(self, attribute, selection):
        """A value for Gurux to encode; `LookupError` for no such attribute."""
        if attribute == 1:
            return logical_name(self.name)
        value = self.reads[attribute]
        if isinstance(value, Profile):
            return value.rows(selection)
        return value() if callable(value) else value


@dataclass
class Column:
    kind: int
    name: str
    channel: str
    wire: type
    scale: int = 1
    scaler: tuple = None

    def cell(self, meter, at, values):
        if self.channel is None:
            return clock(at, meter.deviation)
        return self.wire(values[self.channel] // self.scale)

    def captured(self, attribute=2):
        return structure(GXUInt16(self.kind), logical_name(self.name), GXInt8(attribute), GXUInt16(0))


@dataclass
class Profile:
    """The buffer of a profile: whole, by range or by entry."""
    meter: object
    columns: list
    values: object
    step: dt.timedelta

    def entries(self):
        now = self.meter.now()
        start = (now - dt.timedelta(days=self.meter.options.days)).replace(hour=0, minute=0, second=0, microsecond=0)
        return [(end, self.values(end)) for end in self.meter.load.ends(start, now, self.step)]

    def rows(self, selection):
        entries, columns = self.entries(), self.columns
        if selection and selection[0] == 1:
            entries, columns = self.by_range(entries, *selection[1])
        elif selection and selection[0] == 2:
            first, last, first_column, last_column = selection[1]
            entries = entries[max(first, 1) - 1:last or None]
            columns = columns[max(first_column, 1) - 1:last_column or None]
        elif selection:
            raise Malformed
        return array(structure(*(c.cell(self.meter, at, values) for c in columns)) for at, values in entries)

    def by_range(self, entries, restricting, start, stop, wanted):
        if bytes(restricting[1]) != bytes(logical_name(self.columns[0].name)):
            raise Malformed
        start, stop = wall_clock(start), wall_clock(stop)
        entries = [e for e in entries if (start is None or e[0] >= start) and (stop is None or e[0] <= stop)]
        names = [(w[0], bytes(w[1])) for w in wanted]
        columns = [c for c in self.columns if not names or (c.kind, bytes(logical_name(c.name))) in names]
        return entries, columns


class EventLog(Profile):
    """Rows of what happened instead of what time it was."""

    def entries(self):
        return list(self.meter.events)


class Meter:
    """What is behind all sessions: keys, counters, objects, relay, image."""

    def __init__(self, options):
        self.options, self.lock = options, threading.RLock()
        self.title, self.serial = bytes.fromhex(options.title), options.serial
        self.keys = {0: bytes.fromhex(options.guek), 2: bytes.fromhex(options.gak), 3: bytes.fromhex(options.kek)}
        self.next_keys = {}
        self.deviation = None if options.deviation == "none" else int(options.deviation)
        self.counter, self.seen = options.counter, dict.fromkeys(COUNTERS, options.seen)
        self.rng, self.answers = random.Random(options.seed), 0
        self.faults = [(kind, int(n), every) for kind, n, every in map(fault, options.fault)]
        now = dt.datetime.fromisoformat(options.now) if options.now else dt.datetime.now(IST)
        self.offset = (now if now.tzinfo else now.replace(tzinfo=IST)) - dt.datetime.now(IST)
        self.load = Load(options.serial, options.period)
        self.control_state, self.control_mode, self.limit_w = CONNECTED, options.mode, 5000
        self.image, self.image_status, self.image_enabled = None, 0, False
        self.events = []
        self.objects = {(o.kind, o.name): o for o in self.build()}

    def now(self):
        return dt.datetime.now(IST) + self.offset

    def note(self, event, **more):
        if self.options.state:
            line = json.dumps({"event": event} | more | {"at": self.now().isoformat(timespec="milliseconds")})
            with self.lock, open(self.options.state, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def next_counter(self):
        with self.lock:
            self.counter += 1
            return self.counter

    def relay(self):
        return self.control_state == CONNECTED

    # -- what there is
    def build(self):
        load, period = self.load, self.options.period
        device_id = self.title[:3] + self.serial.encode()
        name = self.title[:3] + self.serial.encode().rjust(13, b"0")
        for text, value in (("0.0.96.1.0.255", self.serial.encode()), ("0.0.96.1.2.255", device_id),
                            ("0.0.42.0.0.255", name), ("0.0.96.1.1.255", b"PEER"), ("1.0.0.2.0.255", b"1.0"),
                            ("0.0.94.91.11.255", b"D1")):
            yield Object(1, text, {2: bytearray(value)})
        for client, text in COUNTERS.items():
            yield Object(1, text, {2: lambda client=client: GXUInt32(self.seen[client])})
        yield Object(8, "0.0.1.0.0.255", {
            2: lambda: clock(self.now(), self.deviation), 3: GXInt16(self.deviation or 330), 4: GXUInt8(0),
            8: False, 9: GXEnum(1)}, {2: ((9, 25), self.set_clock)})
        yield Object(1, "1.0.0.8.4.255", {2: GXUInt32(period)})
        for place, channel, unit in ENERGIES:
            yield Object(3, f"{place}.8.0.255", {
                2: lambda c=channel: GXUInt32(load.registers(self.now())[c]), 3: structure(GXInt8(0), GXEnum(unit))})
        yield Object(3, "1.0.12.7.0.255", {2: lambda: GXUInt16(2301), 3: structure(GXInt8(-1), GXEnum(35))})
        yield from self.profiles()
        yield Object(70, "0.0.96.3.10.255", {
            2: self.relay, 3: lambda: GXEnum(self.control_state), 4: lambda: GXEnum(self.control_mode),
        }, {4: ((22,), self.set_mode)}, {1: self.disconnect, 2: self.reconnect})
        yield Object(71, "0.0.17.0.0.255", {
            3: lambda: GXUInt32(self.limit_w), 4: lambda: GXUInt32(self.limit_w), 6: GXUInt32(60)},
            {4: ((6,), self.set_limit)})
        yield from self.prepaid()
        yield Object(18, "0.0.44.0.0.255", {
            2: GXUInt32(self.options.image_block), 3: lambda: GXBitString(self.image_bits()),
            4: lambda: GXUInt32((self.image_bits() + "0").index("0")), 5: lambda: self.image_enabled,
            6: lambda: GXEnum(self.image_status), 7: self.image_to_activate,
        }, {5: ((3,), self.enable_image)}, {
            1: self.image_initiate, 2: self.image_block, 3: self.image_verify, 4: self.image_activate})
        for text in ("0.0.43.0.2.255", "0.0.43.0.3.255", "0.0.43.0.5.255"):
            yield Object(64, text, {2: GXEnum(3), 3: GXEnum(0), 5: bytearray(self.title)}, {}, {2: self.transfer_keys})

    def profiles(self):
        columns = [Column(8, "0.0.1.0.0.255", None, None),
                   Column(3, "1.0.12.27.0.255", "voltage_dv", GXUInt16, 1, (-1, 35))]
        columns += [Column(3, f"{place}.29.0.255", c, GXUInt32, 1, (0, unit)) for place, c, unit in ENERGIES]
        columns += [Column(3, "1.0.11.27.0.255", "current_ma", GXUInt16, 10, (-2, 33)),
                    Column(3, "1.0.91.27.0.255", "neutral_current_ma", GXUInt16, 10, (-2, 33))]
        self.block = Profile(self, columns, self.load.interval, self.load.period)
        columns = columns[:1]
        columns += [Column(3, f"{place}.8.0.255", c, GXUInt32, 1, (0, unit)) for place, c, unit in ENERGIES]
        self.daily = Profile(self, columns, self.load.registers, dt.timedelta(days=1))
        for text, scalers, profile in (("1.0.99.1.0.255", "1.0.94.91.4.255", self.block),
                                       ("1.0.99.2.0.255", "1.0.94.91.5.255", self.daily)):
            scaled = [c for c in profile.columns if c.scaler]
            yield Object(7, text, {
                2: profile, 3: array(c.captured() for c in profile.columns),
                4: GXUInt32(int(profile.step.total_seconds())), 5: GXEnum(1),
                7: lambda p=profile: GXUInt32(len(p.entries())), 8: GXUInt32(4320)}, version=1)
            yield Object(7, scalers, {
                2: array([structure(*(structure(GXInt8(c.scaler[0]), GXEnum(c.scaler[1])) for c in scaled))]),
                3: array(c.captured(3) for c in scaled), 4: GXUInt32(0), 7: GXUInt32(1), 8: GXUInt32(1)}, version=1)

        event = Column(1, "0.0.96.11.6.255", "code", GXUInt16)
        events = EventLog(self, [columns[0], event], None, dt.timedelta(0))
        yield Object(7, "0.0.99.98.6.255", {
            2: events, 3: array(c.captured() for c in events.columns), 4: GXUInt32(0),
            7: lambda: GXUInt32(len(self.events)), 8: GXUInt32(50)}, version=1)

    def prepaid(self):
        """Objects that a head-end writes and the meter only shows."""
        stamp = clock(EPOCH, self.deviation)
        for number, value, tag in ((20, GXUInt8(1), 17), (21, GXInt32(0), 5), (22, stamp, 9), (23, GXInt32(0), 5),
                                   (24, GXInt32(0), 5), (25, stamp, 9)):
            made = Object(1, f"0.0.94.96.{number}.255", {2: value})
            made.writes[2] = ((tag,), lambda new, raw, o=made, wire=type(value): o.reads.update({2: wire(new)}))
            yield made

    def truth(self):
        def rows(profile):
            return [{"end": end.isoformat(), "values": values} for end, values in profile.entries()]
        return {"serial": self.serial, "system_title": self.title.hex(), "clock": self.now().isoformat(),
                "registers": self.load.registers(self.now()), "block": rows(self.block), "daily": rows(self.daily)}

    # -- what can be written
    def set_clock(self, value, raw):
        self.offset += wall_clock(value) - self.now()

    def set_mode(self, value, raw):
        if value > 6:
            raise Malformed
        self.control_mode = value

    def set_limit(self, value, raw):
        self.limit_w = value

    def enable_image(self, value, raw):
        self.image_enabled = bool(value)

    # -- what can be done: a result
    def disconnect(self, parameter):
        return self.switch(DISCONNECTED, 1)

    def reconnect(self, parameter):
        if self.control_state == CONNECTED:
            return self.switch(CONNECTED, 2)
        if self.control_mode not in BUTTON_MODES:
            return self.switch(CONNECTED, 2)
        result = self.switch(READY, 2)
        if result == OK and self.options.button_ms is not None:
            threading.Timer(self.options.button_ms / 1000, self.button).start()
        return result

    def button(self):
        """Somebody presses it."""
        with self.lock:
            if self.control_state == READY:
                self.set_relay(CONNECTED)
                self.note("relay", connected=True, control_state=CONNECTED, by="button")

    def switch(self, state, method):
        if self.options.relay == "fail" or self.control_mode == 0:
            self.note("relay_refused", method=method)
            return TEMPORARY if self.options.relay == "fail" else DENIED
        if self.options.relay != "stuck":
            self.set_relay(state)
        self.note("relay", connected=self.relay(), control_state=self.control_state, method=method)
        return OK

    def set_relay(self, state):
        """With the event that says so: 301 disconnected, 302 connected."""
        if (state == CONNECTED) != self.relay():
            self.events.append((self.now(), {"code": 302 if state == CONNECTED else 301}))
        self.control_state = state

    def transfer_keys(self, parameter):
        """All of them or none; they hold from the next association on."""
        fresh = {}
        for number, wrapped in parameter:
            if number not in self.keys:
                return OTHER
            try:
                fresh[number] = keywrap.aes_key_unwrap(self.keys[3], bytes(wrapped))
            except (keywrap.InvalidUnwrap, ValueError):
                self.note("key_refused", key=number)
                return OTHER
        self.next_keys.update(fresh)
        self.note("key", keys=sorted(fresh))
        return OK

    def take_keys(self):
        if self.next_keys:
            self.keys.update(self.next_keys)
            if 0 in self.next_keys and self.options.restart_counters:
                self.seen, self.counter = dict.fromkeys(self.seen, 0), 0
            self.note("key_in_use", keys=sorted(self.next_keys))
            self.next_keys = {}

    def image_bits(self):
        return "".join("0" if block is None else "1" for block in self.image["blocks"]) if self.image else ""

    def image_to_activate(self):
        if self.image_status != 3:
            return array([])
        digest = hashlib.sha256(self.image_bytes()).digest()
        return array([structure(GXUInt32(self.image["size"]), bytearray(self.image["name"]), bytearray(digest))])

    def image_bytes(self):
        return b"".join(self.image["blocks"])

    def image_initiate(self, parameter):
        name, size = parameter
        if not self.image_enabled or not 0 < size <= 1 << 24:
            return DENIED
        self.image = {"name": bytes(name), "size": size, "blocks": [None] * -(-size // self.options.image_block),
                      "lose": self.options.lose_image_block, "asked": False}
        self.image_status = 1
        self.note("image_initiated", name=name.decode("latin1"), size=size)
        return OK

    def image_block(self, parameter):
        number, octets = parameter
        if not self.image or number >= len(self.image["blocks"]):
            return OTHER
        if self.image["lose"] == number:
            self.image["lose"] = None
            self.note("image_block_lost", block=number)
            return OK
        last = number + 1 == len(self.image["blocks"])
        want = self.image["size"] - number * self.options.image_block if last else self.options.image_block
        if len(octets) != want:
            return OTHER
        self.image["blocks"][number] = bytes(octets)
        return OK

    def image_verify(self, parameter):
        """As real ones do, it takes a while: the first answer is a temporary failure."""
        if not self.image or None in self.image["blocks"]:
            self.image_status = 4 if self.image else 0
            self.note("image_incomplete")
            return OTHER
        if not self.image["asked"]:
            self.image["asked"], self.image_status = True, 2
            return TEMPORARY
        self.image_status = 3
        self.note("image_verified", size=self.image["size"], sha256=hashlib.sha256(self.image_bytes()).hexdigest())
        return OK

    def image_activate(self, parameter):
        if self.image_status != 3:
            return OTHER
        self.image_status = 6
        self.note("image_activated", name=self.image["name"].decode("latin1"))
        return OK


def fault(text):
    """KIND@N: the Nth answer of this process. KIND%N: every Nth."""
    every = "%" in text
    kind, number = text.split("%" if every else "@")
    if kind not in FAULTS:
        raise SystemExit(f"no fault {kind}; there are: {' '.join(FAULTS)}")
    return kind, number, every
