#!/usr/bin/env python3
"""A single-phase Indian meter (profile is15959-d1) that shares no code with Urja, as a DLMS server over the TCP wrapper.

  meter.py PORT TITLE GUEK GAK [--state FILE] [--truth FILE] [--fault KIND@N ...]

PORT 0 takes any; the first line printed is `{"port": ...}`. `--truth` writes what the meter holds, for whoever reads it to
compare; `--state` gets a JSON line for whatever happens to the meter. TITLE, GUEK and GAK are hexadecimal.

ACSE, initiate, GCM and GMAC are those of dlms-cosem, A-XDR is encoded by Gurux, key wrap is that of `cryptography`. The
session is ours: Gurux' own server for Python does not run, dlms-cosem has none. See README.md.
"""
import argparse
import datetime as dt
import hashlib
import hmac
import json
import logging
import os
import random
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field

import structlog
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from dlms_cosem import enumerations, security
from dlms_cosem.exceptions import DecryptionError
from dlms_cosem.protocol import acse, xdlms
from dlms_cosem.protocol.xdlms.conformance import Conformance
from gurux_dlms import GXBitString, GXEnum, GXInt8, GXInt16, GXInt32, GXUInt8, GXUInt16, GXUInt32
from gurux_dlms.GXArray import GXArray
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXStructure import GXStructure
from gurux_dlms.internal._GXCommon import _GXCommon

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

IST = dt.timezone(dt.timedelta(hours=5, minutes=30))
EPOCH = dt.datetime(2024, 1, 1, tzinfo=IST)
OK, TEMPORARY, DENIED, UNDEFINED, INCONSISTENT, WRONG_TYPE, NO_LONG_GET, NO_LONG_SET, WRONG_BLOCK, OTHER = (
    0, 2, 3, 4, 9, 12, 16, 18, 19, 250)
NOT_POSSIBLE, NOT_SUPPORTED, OTHER_REASON, DECIPHERING, COUNTER = 1, 2, 3, 5, 6
PUBLIC, READER, UTILITY, PUSH, FIRMWARE = 16, 32, 48, 64, 80
COUNTERS = {READER: "0.0.43.1.2.255", UTILITY: "0.0.43.1.3.255", FIRMWARE: "0.0.43.1.5.255"}
ENERGIES = (("1.0.1", "import_wh", 30), ("1.0.9", "import_vah", 31), ("1.0.2", "export_wh", 30),
            ("1.0.10", "export_vah", 31))
# Modes of the disconnect control: in these a remote reconnection only makes the relay ready for the button.
BUTTON_MODES = (1, 3, 5, 6)
CONNECTED, READY, DISCONNECTED = 1, 2, 0
FAULTS = ("drop", "silent", "flip", "garbage", "stale", "push", "behind", "skip")
CURRENT = "0.0.40.0.0.255"


# ---- A-XDR --------------------------------------------------------------------------------------------------------
def array(elements):
    made = GXArray()
    made.extend(elements)
    return made


def structure(*elements):
    made = GXStructure()
    made.extend(elements)
    return made


def axdr(value):
    buffer = GXByteBuffer()
    _GXCommon.setData(None, buffer, _GXCommon.getDLMSDataType(value), value)
    return bytes(buffer.array())


class Malformed(Exception):
    """What came is no A-XDR."""


INTEGERS = {3: (1, False), 5: (4, True), 6: (4, False), 15: (1, True), 16: (2, True), 17: (1, False), 18: (2, False),
            20: (8, True), 21: (8, False), 22: (1, False)}


def parse(octets, depth=8):
    """One value from the front of `octets`, and the rest. Ours: dlms-cosem never comes back from one that is cut off."""
    if not octets or not depth:
        raise Malformed
    tag, rest = octets[0], octets[1:]
    if tag == 0:
        return None, rest
    if tag in INTEGERS:
        size, signed = INTEGERS[tag]
        return int.from_bytes(take(rest, size), "big", signed=signed), rest[size:]
    if tag == 23:
        return struct.unpack(">f", take(rest, 4))[0], rest[4:]
    if tag == 25:
        return take(rest, 12), rest[12:]
    count, rest = take_length(rest)
    if tag in (1, 2):
        elements = []
        for _ in range(count):
            element, rest = parse(rest, depth - 1)
            elements.append(element)
        return elements, rest
    if tag == 4:
        count = -(-count // 8)
    elif tag not in (9, 10, 12):
        raise Malformed
    return take(rest, count), rest[count:]


def take(octets, count):
    if len(octets) < count:
        raise Malformed
    return octets[:count]


def take_length(octets):
    first, rest = take(octets, 1)[0], octets[1:]
    if first < 0x80:
        return first, rest
    size = first & 0x7F
    return int.from_bytes(take(rest, size), "big"), rest[size:]


def length(number):
    if number < 0x80:
        return bytes([number])
    return bytes([0x81, number]) if number < 0x100 else b"\x82" + struct.pack(">H", number)


def logical_name(text):
    return bytearray(int(part) for part in text.split("."))


def clock(at, deviation):
    """12 bytes; a deviation of None is not specified."""
    offset = 0x8000 if deviation is None else deviation & 0xFFFF
    return bytearray(struct.pack(">H7BHB", at.year, at.month, at.day, at.isoweekday(), at.hour, at.minute, at.second, 0,
                                 offset, 0))


def wall_clock(octets):
    """The time of day in India, whatever the deviation says."""
    year, month, day, _, hour, minute, second = struct.unpack(">H6B", take(octets, 12)[:8])
    if year == 0xFFFF:
        return None
    hour, minute, second = (0 if part == 0xFF else part for part in (hour, minute, second))
    return dt.datetime(year, month, day, hour, minute, second, tzinfo=IST)


# ---- what the meter measures --------------------------------------------------------------------------------------
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


# ---- objects ------------------------------------------------------------------------------------------------------
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
        columns = [Column(8, "0.0.1.0.0.255", None, None), Column(3, "1.0.12.27.0.255", "voltage_dv", GXUInt16, 1, (-1, 35))]
        columns += [Column(3, f"{place}.29.0.255", c, GXUInt32, 1, (0, unit)) for place, c, unit in ENERGIES]
        columns += [Column(3, "1.0.11.27.0.255", "current_ma", GXUInt16, 10, (-2, 33)),
                    Column(3, "1.0.91.27.0.255", "neutral_current_ma", GXUInt16, 10, (-2, 33))]
        self.block = Profile(self, columns, self.load.interval, self.load.period)
        columns = columns[:1] + [Column(3, f"{place}.8.0.255", c, GXUInt32, 1, (0, unit)) for place, c, unit in ENERGIES]
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


# ---- sessions -----------------------------------------------------------------------------------------------------
class Refused(Exception):
    """Ends in an exception-response."""

    def __init__(self, service, counter=None):
        self.apdu = bytes([0xD8, 1, service]) + (struct.pack(">I", counter) if counter is not None else b"")


class Session:
    """One client on one connection."""

    def __init__(self, meter, client):
        self.meter, self.client = meter, client
        self.close()

    def close(self):
        self.state, self.ciphered, self.mechanism, self.title, self.dedicated = "idle", False, 0, b"", None
        self.dedicated_seen = self.dedicated_counter = 0
        self.challenges, self.long_get, self.long_set, self.room = (b"", b""), None, None, 0
        self.held_counter = None

    def answer(self, apdu):
        """An APDU for an APDU."""
        try:
            tag = apdu[0]
            if tag == 0x60:
                return self.associate(apdu)
            if tag == 0x62:
                return self.release()
            if self.state == "idle":
                raise Refused(NOT_POSSIBLE)
            wrapping, plain = self.opened(apdu)
            return self.wrapped(wrapping, self.service(plain))
        except Refused as refused:
            return refused.apdu
        except (Malformed, IndexError, struct.error, ValueError) as error:
            self.meter.note("malformed", hex=apdu.hex(), error=repr(error))
            return Refused(OTHER_REASON).apdu

    # -- association
    def associate(self, apdu):
        meter = self.meter
        self.close()
        meter.take_keys()
        try:
            request = acse.ApplicationAssociationRequest.from_bytes(apdu)
        except Exception as error:      # a parser that raises whatever comes
            meter.note("refused", client=self.client, why=repr(error), hex=apdu.hex())
            return self.rejected(1)
        self.ciphered, self.title = request.ciphered, bytes(request.system_title or b"")
        self.mechanism = request.authentication.value if request.authentication else 0
        high = meter.options.hls
        wanted = {PUBLIC: (0, (False,)), READER: (1, (False, True)), UTILITY: (high, (True,)), FIRMWARE: (high, (True,))}
        if self.client not in wanted:
            return self.rejected(1)
        mechanism, contexts = wanted[self.client]
        if self.ciphered not in contexts:
            return self.rejected(2)
        if self.mechanism != mechanism:
            return self.rejected(11 if self.mechanism else 14)
        initiate = request.user_information.content
        if self.ciphered:
            if len(self.title) != 8 or not isinstance(initiate, xdlms.GlobalCipherInitiateRequest):
                return self.rejected(1)
            control = initiate.security_control.to_bytes()[0]
            plain = self.open(control, initiate.invocation_counter, initiate.ciphered_text)
            initiate = xdlms.InitiateRequest.from_bytes(plain)
        self.dedicated = initiate.dedicated_key
        proposed = int.from_bytes(initiate.proposed_conformance.to_bytes(), "big")
        self.conformance = proposed & self.offered()
        self.room = min(initiate.client_max_receive_pdu_size or 0xFFFF, meter.options.max_pdu)
        secret = request.authentication_value or b""
        if self.mechanism == 1 and not hmac.compare_digest(bytes(secret), meter.options.lls.encode()):
            return self.rejected(13)
        if self.mechanism < 2:
            self.opened_by()
            return self.accepted(0, None)
        if len(secret) < 8 or (self.mechanism == 2 and len(secret) % 16):
            return self.rejected(13)
        self.challenges = bytes(secret), os.urandom(16)
        self.state = "pending"
        return self.accepted(14, self.challenges[1])

    def offered(self):
        offered = Conformance(
            general_protection=True, block_transfer_with_get_or_read=True, get=True, selective_access=True,
            multiple_references=True)
        if self.client in (UTILITY, FIRMWARE):
            offered.set = offered.action = offered.block_transfer_with_set_or_write = True
        return int.from_bytes(offered.to_bytes(), "big")

    def opened_by(self):
        self.state = "open"
        self.meter.note("associated", client=self.client, mechanism=self.mechanism, ciphered=self.ciphered)

    def accepted(self, diagnostic, challenge):
        conformance = Conformance.from_bytes(self.conformance.to_bytes(4, "big"))
        initiate = xdlms.InitiateResponse(conformance, self.meter.options.max_pdu)
        if self.ciphered:
            counter = self.meter.next_counter()
            text = self.sealed(counter, self.meter.keys[0], initiate.to_bytes())
            initiate = xdlms.GlobalCipherInitiateResponse(control_field(0x30), counter, text)
        return self.aare(0, diagnostic, challenge, acse.UserInformation(initiate))

    def rejected(self, diagnostic):
        self.meter.note("refused", client=self.client, diagnostic=diagnostic)
        answer = self.aare(1, diagnostic, None, None)
        self.close()
        return answer

    def aare(self, result, diagnostic, challenge, information):
        return acse.ApplicationAssociationResponse(
            result=enumerations.AssociationResult(result),
            result_source_diagnostics=enumerations.AcseServiceUserDiagnostics(diagnostic),
            ciphered=self.ciphered,
            authentication=enumerations.AuthenticationMechanism(self.mechanism) if challenge else None,
            system_title=self.meter.title if self.ciphered else None,
            authentication_value=challenge, user_information=information).to_bytes()

    def release(self):
        self.meter.note("released", client=self.client, was=self.state)
        self.close()
        return acse.ReleaseResponse(reason=enumerations.ReleaseResponseReason.NORMAL).to_bytes()

    def proof(self, challenge, title, counter):
        """What the mechanism makes of a challenge."""
        meter = self.meter
        if self.mechanism == 2:
            stream = Cipher(algorithms.AES(meter.options.hls_secret.encode()), modes.ECB()).encryptor()
            return stream.update(challenge) + stream.finalize()
        tag = security.gmac(control_field(0x10), title, counter, meter.keys[0], meter.keys[2], challenge)
        return b"\x10" + struct.pack(">I", counter) + tag

    def reply_to_hls(self, proof):
        """Passes 3 and 4: a result and what goes back."""
        if self.state != "pending" or not isinstance(proof, bytes):
            return DENIED, None
        counter = int.from_bytes(proof[1:5], "big")
        if self.mechanism == 5 and counter == self.held_counter:
            self.meter.note("counter_used_twice", counter=counter)
        if not hmac.compare_digest(proof, self.proof(self.challenges[1], self.title, counter)):
            self.meter.note("refused", client=self.client, why="proof")
            self.state = "idle"
            return DENIED, None
        self.opened_by()
        own = self.meter.next_counter() if self.mechanism == 5 else 0
        return OK, bytearray(self.proof(self.challenges[0], self.meter.title, own))

    # -- protection
    def opened(self, apdu):
        """How an APDU was wrapped, and what is in it."""
        tag = apdu[0]
        if tag in (0xC0, 0xC1, 0xC3):
            if self.ciphered:
                raise Refused(NOT_POSSIBLE)
            return None, apdu
        if tag in (0xC8, 0xC9, 0xCB, 0xD0, 0xD1, 0xD3):
            content = sized(apdu[1:])
            wrapping = "glo" if tag < 0xD0 else "ded"
        elif tag in (0xDB, 0xDC):
            count, rest = take_length(apdu[1:])
            if take(rest, count) not in (b"", self.title):
                raise Refused(DECIPHERING)
            content = sized(rest[count:])
            wrapping = "general-glo" if tag == 0xDB else "general-ded"
        else:
            raise Refused(NOT_SUPPORTED)
        if wrapping.endswith("ded") and not self.dedicated:
            raise Refused(DECIPHERING)
        take(content, 17)
        counter = int.from_bytes(content[1:5], "big")
        return wrapping, self.open(content[0], counter, content[5:], wrapping.endswith("ded"))

    def open(self, control, counter, text, dedicated=False):
        """The plaintext, where control, tag and counter are as they must be; the counter is then used up."""
        meter = self.meter
        key = self.dedicated if dedicated else meter.keys[0]
        try:
            if control != 0x30:
                raise DecryptionError
            plain = security.decrypt(control_field(control), self.title, counter, bytes(key), text, meter.keys[2])
        except DecryptionError as error:
            meter.note("undecipherable", client=self.client, counter=counter, control=control)
            raise Refused(DECIPHERING) from error
        seen = self.dedicated_seen if dedicated else meter.seen[self.client]
        if self.due("behind"):
            seen += 1000 + counter
        if counter <= seen:
            meter.note("replay_refused", client=self.client, counter=counter, last=seen)
            if not dedicated:
                meter.seen[self.client] = seen
            raise Refused(COUNTER, seen + 1)
        if dedicated:
            self.dedicated_seen = counter
        else:
            meter.seen[self.client] = counter
        self.held_counter = counter
        return plain

    def due(self, kind):
        """Whether the answer that is being made has this fault."""
        number = self.meter.answers + 1
        due = any(k == kind and (number % n == 0 if every else number == n) for k, n, every in self.meter.faults)
        if due:
            self.meter.note("fault", kind=kind, answer=number)
        return due

    def wrapped(self, wrapping, plain):
        if wrapping is None:
            return plain
        meter = self.meter
        if wrapping.endswith("ded"):
            self.dedicated_counter += 1
            counter, key = self.dedicated_counter, bytes(self.dedicated)
        else:
            counter = meter.counter if self.due("stale") else meter.next_counter()
            key = meter.keys[0]
        content = b"\x30" + struct.pack(">I", counter) + self.sealed(counter, key, plain)
        if wrapping in ("glo", "ded"):
            return bytes([plain[0] + (8 if wrapping == "glo" else 16)]) + length(len(content)) + content
        tag = 0xDB if wrapping == "general-glo" else 0xDC
        return bytes([tag, 8]) + meter.title + length(len(content)) + content

    def sealed(self, counter, key, plain):
        meter = self.meter
        return security.encrypt(control_field(0x30), meter.title, counter, key, plain, meter.keys[2])

    # -- services
    def service(self, apdu):
        tag, kind, invoke = take(apdu, 3)
        hls = apdu[3:12] == b"\x00\x0f" + bytes(logical_name(CURRENT)) + b"\x01"
        if self.state == "pending" and not (tag == 0xC3 and hls):
            raise Refused(NOT_POSSIBLE)
        made = {(0xC0, 1): self.get, (0xC0, 2): self.get_next, (0xC0, 3): self.get_list, (0xC1, 1): self.set,
                (0xC1, 2): self.set_first, (0xC1, 3): self.set_next, (0xC3, 1): self.act}.get((tag, kind))
        if made is None:
            raise Refused(NOT_SUPPORTED)
        return made(invoke, apdu[3:])

    def body_room(self):
        """Octets for what is after the head of a block."""
        return self.room - 13 - (30 if self.ciphered else 0)

    def get(self, invoke, rest):
        result, octets, _ = self.value(rest)
        head = bytes([0xC4, 1, invoke])
        if result:
            return head + bytes([1, result])
        if len(octets) <= self.body_room():
            return head + b"\x00" + octets
        self.long_get = [octets, 0]
        return self.next_block(invoke)

    def get_next(self, invoke, rest):
        number = int.from_bytes(take(rest, 4), "big")
        failed = NO_LONG_GET if not self.long_get else WRONG_BLOCK if number != self.long_get[1] else 0
        if failed:
            self.long_get = None
            return bytes([0xC4, 2, invoke, 1]) + struct.pack(">I", number) + bytes([1, failed])
        return self.next_block(invoke)

    def next_block(self, invoke):
        octets, number = self.long_get
        if self.due("skip") and len(octets) > self.body_room():
            octets, number = octets[self.body_room():], number + 1
        block, left = octets[:self.body_room()], octets[self.body_room():]
        number += 1
        self.long_get = [left, number] if left else None
        head = bytes([0xC4, 2, invoke, not left]) + struct.pack(">I", number)
        return head + b"\x00" + length(len(block)) + block

    def get_list(self, invoke, rest):
        count, rest = take_length(rest)
        items = b""
        for _ in range(count):
            result, octets, rest = self.value(rest)
            items += bytes([1, result]) if result else b"\x00" + octets
        items = length(count) + items
        if len(items) <= self.body_room():
            return bytes([0xC4, 3, invoke]) + items
        self.long_get = [items, 0]
        return self.next_block(invoke)

    def value(self, rest):
        """Result, octets and what is behind the descriptor that `rest` begins with."""
        kind, name, index, rest = descriptor(rest)
        selection, present, rest = None, take(rest, 1)[0], rest[1:]
        if present:
            selector = take(rest, 1)[0]
            parameter, rest = parse(rest[1:])
            selection = selector, parameter
        try:
            found = self.find(kind, name)
            if isinstance(found, int):
                return found, b"", rest
            return OK, axdr(found.read(index, selection)), rest
        except LookupError:
            return UNDEFINED, b"", rest
        except (Malformed, TypeError, ValueError):
            return WRONG_TYPE, b"", rest

    def find(self, kind, name):
        """An object, or why there is none."""
        objects = self.meter.objects
        if (kind, name) == (15, CURRENT):
            return self.association()
        if (kind, name) not in objects:
            return INCONSISTENT if any(other == name for _, other in objects) else UNDEFINED
        if not self.may_see(kind, name):
            return DENIED
        return objects[kind, name]

    def may_see(self, kind, name):
        if self.client != PUBLIC:
            return True
        return kind == 8 or name in ("0.0.96.1.0.255", "0.0.96.1.2.255", "0.0.42.0.0.255", *COUNTERS.values())

    def association(self):
        objects = [o for o in self.meter.objects.values() if self.may_see(o.kind, o.name)]
        context = bytearray.fromhex("60857405080103" if self.ciphered else "60857405080101")
        made = Object(15, CURRENT, {
            3: structure(GXInt8(self.client), GXUInt16(1)), 4: context, 8: GXEnum(2),
            6: bytearray.fromhex("608574050802") + bytes([self.mechanism])}, {}, {1: None}, 1)
        made.reads[2] = array(self.listed(o) for o in [*objects, made])
        return made

    def listed(self, o):
        writes = self.client in (UTILITY, FIRMWARE)
        attributes = array(
            structure(GXInt8(i), GXEnum(3 if writes and i in o.writes else 1), None)
            for i in sorted({1, *o.reads, *o.writes}))
        methods = array(structure(GXInt8(i), GXEnum(int(writes))) for i in sorted(o.methods))
        return structure(GXUInt16(o.kind), GXUInt8(o.version), logical_name(o.name), structure(attributes, methods))

    def set(self, invoke, rest):
        kind, name, index, rest = descriptor(rest)
        if take(rest, 1)[0]:
            raise Refused(NOT_SUPPORTED)
        return bytes([0xC5, 1, invoke, self.write(kind, name, index, rest[1:])])

    def set_first(self, invoke, rest):
        kind, name, index, rest = descriptor(rest)
        if take(rest, 1)[0]:
            raise Refused(NOT_SUPPORTED)
        self.long_set = [(kind, name, index), b"", 0]
        return self.set_next(invoke, rest[1:])

    def set_next(self, invoke, rest):
        last, number, octets = take(rest, 5)[0], rest[1:5], sized(rest[5:])
        if not self.long_set or int.from_bytes(number, "big") != self.long_set[2] + 1:
            failed = WRONG_BLOCK if self.long_set else NO_LONG_SET
            self.long_set = None
            return bytes([0xC5, 3, invoke, failed]) + number
        self.long_set[1] += octets
        self.long_set[2] += 1
        if not last:
            return bytes([0xC5, 2, invoke]) + number
        where, octets, _ = self.long_set
        self.long_set = None
        return bytes([0xC5, 3, invoke, self.write(*where, octets)]) + number

    def write(self, kind, name, index, octets):
        found = self.find(kind, name)
        if isinstance(found, int):
            return found
        if self.client not in (UTILITY, FIRMWARE) or index not in found.writes:
            return DENIED
        tags, write = found.writes[index]
        try:
            value, rest = parse(octets)
            if rest or octets[0] not in tags:
                return WRONG_TYPE
            write(value, octets)
        except (Malformed, ValueError, TypeError):
            return WRONG_TYPE
        shown = value.hex() if isinstance(value, bytes) else value
        self.meter.note("write", name=name, attribute=index, value=shown, hex=octets.hex())
        return OK

    def act(self, invoke, rest):
        kind, name, index, rest = descriptor(rest)
        try:
            parameter = parse(rest[1:])[0] if take(rest, 1)[0] else None
            result, given = self.do(kind, name, index, parameter)
        except (Malformed, TypeError, ValueError):
            result, given = WRONG_TYPE, None
        tail = b"\x00" if given is None else b"\x01\x00" + axdr(given)
        return bytes([0xC7, 1, invoke, result]) + tail

    def do(self, kind, name, index, parameter):
        if (kind, name, index) == (15, CURRENT, 1):
            return self.reply_to_hls(parameter)
        found = self.find(kind, name)
        if isinstance(found, int):
            return found, None
        if self.client not in (UTILITY, FIRMWARE) or index not in found.methods:
            return DENIED, None
        return found.methods[index](parameter), None


def control_field(control):
    return security.SecurityControlField.from_bytes(bytes([control]))


def sized(octets):
    """An octet-string that must be all there is."""
    count, rest = take_length(octets)
    if count != len(rest):
        raise Malformed
    return rest


def descriptor(octets):
    kind, index = struct.unpack(">H6xb", take(octets, 9))
    return kind, ".".join(map(str, octets[2:8])), index, octets[9:]


# ---- connections --------------------------------------------------------------------------------------------------
def push(meter):
    """A status word that nobody asked for, as general-glo-ciphering in a wrapper to the push client."""
    body = structure(meter.title[:3] + meter.serial.encode(), logical_name("0.4.25.9.0.255"),
                     clock(meter.now(), meter.deviation), GXBitString("0" * 84 + "1" + "0" * 43))
    counter = meter.next_counter()
    plain = b"\x0f" + struct.pack(">I", 0x4000_0000 | counter & 0xFF_FFFF) + b"\x00" + axdr(body)
    text = security.encrypt(control_field(0x30), meter.title, counter, meter.keys[0], plain, meter.keys[2])
    content = b"\x30" + struct.pack(">I", counter) + text
    apdu = b"\xdb\x08" + meter.title + length(len(content)) + content
    meter.note("pushed", counter=counter)
    return struct.pack(">HHHH", 1, 1, PUSH, len(apdu)) + apdu


def receive(sock, count):
    octets = b""
    while len(octets) < count:
        more = sock.recv(count - len(octets))
        if not more:
            raise ConnectionError("closed")
        octets += more
    return octets


def serve(meter, sock):
    sessions = {}
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(meter.options.idle)
    try:
        with sock:
            while True:
                version, source, destination, count = struct.unpack(">HHHH", receive(sock, 8))
                apdu = receive(sock, count)
                if version != 1 or destination != 1 or not apdu:
                    meter.note("bad_frame", version=version, destination=destination)
                    return
                session = sessions.setdefault(source, Session(meter, source))
                if not respond(meter, sock, session, apdu):
                    return
    except OSError as error:
        meter.note("closed", why=str(error))


def respond(meter, sock, session, apdu):
    """Sends an answer, with what is wrong with it; false where the connection ends."""
    with meter.lock:
        answer = session.answer(apdu)
        ends, silent, pushes = (session.due(kind) for kind in ("drop", "silent", "push"))
        flips, garbage = session.due("flip"), session.due("garbage")
        before = push(meter) if pushes else b""
        meter.answers += 1
    if meter.options.delay_ms:
        time.sleep(meter.options.delay_ms / 1000)
    if garbage:
        answer = meter.rng.randbytes(len(answer))
    if flips:
        answer = answer[:-1] + bytes([answer[-1] ^ 1 << meter.rng.randrange(8)])
    if not silent and not ends:
        sock.sendall(before + struct.pack(">HHHH", 1, 1, session.client, len(answer)) + answer)
    return not ends


def fault(text):
    """KIND@N: the Nth answer of this process. KIND%N: every Nth."""
    every = "%" in text
    kind, number = text.split("%" if every else "@")
    if kind not in FAULTS:
        raise SystemExit(f"no fault {kind}; there are: {' '.join(FAULTS)}")
    return kind, number, every


def listen(meter, port):
    with socket.create_server(("127.0.0.1", port)) as server:
        print(json.dumps({"port": server.getsockname()[1], "system_title": meter.title.hex(), "serial": meter.serial}),
              flush=True)
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(meter, sock), daemon=True).start()


def dial(meter, address):
    """The meter opens the connection, says who it is with a push, and answers."""
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), meter.options.idle)
    print(json.dumps({"port": sock.getsockname()[1], "system_title": meter.title.hex(), "serial": meter.serial}), flush=True)
    sock.sendall(push(meter))
    serve(meter, sock)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("title")
    parser.add_argument("guek")
    parser.add_argument("gak")
    parser.add_argument("--kek", default="000102030405060708090a0b0c0d0e0f", help="wraps keys that are transferred")
    parser.add_argument("--lls", default="Urja1234", help="password of client 32")
    parser.add_argument("--hls", type=int, choices=(2, 5), default=2, help="mechanism of clients 48 and 80")
    parser.add_argument("--hls-secret", default="1234567890123456", help="16 characters, for mechanism 2")
    parser.add_argument("--serial", default="PX000001")
    parser.add_argument("--now", help="what its clock shows at the start; in India if no offset is said")
    parser.add_argument("--days", type=int, default=3, help="of profiles")
    parser.add_argument("--period", type=int, default=1800, help="seconds of a block")
    parser.add_argument("--deviation", default="330", help="330, -330 or none")
    parser.add_argument("--max-pdu", type=int, default=750)
    parser.add_argument("--counter", type=int, default=0, help="last invocation counter that the meter used")
    parser.add_argument("--seen", type=int, default=0, help="last invocation counter that it saw of its clients")
    parser.add_argument("--restart-counters", action="store_true", help="a new encryption key lets counters begin anew")
    parser.add_argument("--mode", type=int, choices=range(7), default=4, help="control mode of the relay")
    parser.add_argument("--relay", choices=("works", "fail", "stuck"), default="works")
    parser.add_argument("--button-ms", type=int, help="the button is pressed so long after the relay is ready for it")
    parser.add_argument("--image-block", type=int, default=200)
    parser.add_argument("--lose-image-block", type=int, help="accept this block once and keep nothing of it")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@N", help=f"of {' '.join(FAULTS)}; or KIND%%N")
    parser.add_argument("--delay-ms", type=int, default=0)
    parser.add_argument("--idle", type=float, default=180)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", help="file for a JSON line an event")
    parser.add_argument("--truth", help="file for what the meter holds at the start, JSON")
    parser.add_argument("--dial", metavar="HOST:PORT", help="open the connection instead of listening")
    options = parser.parse_args()
    meter = Meter(options)
    if options.truth:
        with open(options.truth, "w", encoding="utf-8") as file:
            json.dump(meter.truth(), file)
    return dial(meter, options.dial) if options.dial else listen(meter, options.port)


if __name__ == "__main__":
    sys.exit(main())
