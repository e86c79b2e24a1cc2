#!/usr/bin/env python3
"""Clients that share no code with Urja, against a DLMS meter over TCP, in the wrapper or in HDLC: Gurux, and dlms-cosem.

  client.py HOST PORT GUEK GAK [--stack both] [--mechanism 2] [--truth FILE] [CHECK ...]

Without a CHECK all of CHECKS below are run, in their order. Prints a JSON line `{"check", "stack", "pass", "detail"}`
each; `pass` is true, false, or "skipped" where the stack cannot do it, with the reason. Exit code 1 where one failed.

`key` transfers keys of its own making; they are in its line, and what is run after it uses them. See README.md.
"""
import argparse
import contextlib
import datetime as dt
import io
import json
import logging
import os
import re
import signal
import socket
import struct
import sys
import time
import types

import structlog
from dlms_cosem import cosem, dlms_data, utils
from dlms_cosem import enumerations as enums
from dlms_cosem import security as dlms_security
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.io import HdlcTransport
from dlms_cosem.time import datetime_from_bytes
from gurux_dlms import GXByteBuffer, GXEnum, GXInt8, GXUInt16, GXUInt32
from gurux_dlms.AesGcmParameter import AesGcmParameter
from gurux_dlms.GXArray import GXArray
from gurux_dlms.GXDLMSClient import GXDLMSClient
from gurux_dlms.GXReplyData import GXReplyData
from gurux_dlms.GXStructure import GXStructure
from gurux_dlms.enums import Authentication, Conformance, DataType, InterfaceType, ObjectType, Security
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.secure import GXDLMSSecureClient

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
# The library reads this attribute of its own and does not always set it.
AesGcmParameter.settings = None

DATA, REGISTER, PROFILE, CLOCK, ASSOCIATION, IMAGE, SECURITY, RELAY = 1, 3, 7, 8, 15, 18, 64, 70
CLIENT = {"public": 16, "reader": 32, "reader-plain": 32, "utility": 48, "firmware": 80}
COUNTER = {"reader": "0.0.43.1.2.255", "utility": "0.0.43.1.3.255", "firmware": "0.0.43.1.5.255"}
# Clients that prove themselves by a challenge.
HIGH = ("utility", "firmware")
CLOCK_NAME, BLOCK, DAILY, SCALERS = "0.0.1.0.0.255", "1.0.99.1.0.255", "1.0.99.2.0.255", "1.0.94.91.4.255"
BILLING, BILLING_DATE, BILLING_TIMES = "1.0.98.1.0.255", "0.0.0.1.2.255", "0.0.15.0.0.255"
SCRIPTS, SCHEDULE, RESET_NAME, MODE_NAME = 9, 22, "0.0.10.0.1.255", "0.0.94.96.20.255"
EVENTS, RELAY_NAME, IMAGE_NAME, SECURITY_NAME = "0.0.99.98.6.255", "0.0.96.3.10.255", "0.0.44.0.0.255", "0.0.43.0.3.255"
REGISTERS = {"1.0.1.8.0.255": ("import_wh", 30), "1.0.9.8.0.255": ("import_vah", 31),
             "1.0.2.8.0.255": ("export_wh", 30), "1.0.10.8.0.255": ("export_vah", 31)}
# What a column of a profile is called in the truth of meter.py, and what a unit on the wire is in it.
CHANNELS = {"1.0.12.27.0.255": ("voltage_dv", 1), "1.0.11.27.0.255": ("current_ma", 10),
            "1.0.91.27.0.255": ("neutral_current_ma", 10)}
CHANNELS |= {f"1.0.{c}.{d}.0.255": (name, 1) for d in (8, 29)
             for c, name in ((1, "import_wh"), (9, "import_vah"), (2, "export_wh"), (10, "export_vah"))}
MAX_PDU = 750
BUTTON_MODES = (1, 3, 5, 6)
# dlms-cosem never comes back from data that are cut off.
CHECK_SECONDS = 60


class Skipped(Exception):
    """The stack cannot do it."""


class Failed(Exception):
    """The meter did not do what was asked."""


def expect(condition, detail):
    if not condition:
        raise Failed(detail)


# ---- the wire: one for both stacks --------------------------------------------------------------------------------
class Wire:
    """A connection of one client to server 1; frames for other clients (pushes) are put aside."""

    def __init__(self, options, client):
        self.socket = socket.create_connection((options.host, options.port), options.timeout)
        self.client, self.sent, self.got, self.answers, self.aside = client, b"", b"", 0, 0

    def ask(self, apdu):
        """What a whole APDU is answered with."""
        self.sent = bytes(apdu)
        self.socket.sendall(struct.pack(">HHHH", 1, self.client, 1, len(apdu)) + self.sent)
        while True:
            version, source, client, count = struct.unpack(">HHHH", self.receive(8))
            apdu = self.receive(count)
            if (version, source, client) == (1, 1, self.client):
                self.answers, self.got = self.answers + 1, apdu
                return apdu
            self.aside += 1

    def receive(self, count):
        octets = b""
        while len(octets) < count:
            more = self.socket.recv(count - len(octets))
            if not more:
                raise ConnectionError("the meter closed the connection")
            octets += more
        return octets

    def refused_counter(self):
        """The counter of an exception-response that says the one used is wrong."""
        expect(self.got[:3] == b"\xd8\x01\x06" and len(self.got) == 7, f"not D8 01 06 and a counter: {self.got.hex()}")
        return int.from_bytes(self.got[3:], "big")

    def close(self):
        self.socket.close()


class HdlcWire(Wire):
    """A connection in HDLC, which each stack frames itself: Gurux in `exchange`, dlms-cosem with its transport."""

    def __init__(self, options, client):
        super().__init__(options, client)
        self.pieces = []
        line = types.SimpleNamespace(connect=lambda: None, disconnect=lambda: None, send=self.socket.sendall,
                                     recv=self.receive, recv_until=self.until)
        self.transport = HdlcTransport(client_logical_address=client, server_logical_address=1, io=line)

    def until(self, end):
        """What a read of its transport gets: up to the next flag, which may be an octet of the frame.

        The transport tries what it has at each flag, once, and takes a flag by itself for one that opens a frame: where two
        follow each other (a check sequence that ends like a flag, before the flag) it would wait for another frame. So the
        second is given with the first, and nothing at the read after it.
        """
        if not self.pieces:
            first = self.receive(1)
            if first == end:
                return first
            head = first + self.receive(1)
            frame = head + self.receive((int.from_bytes(head, "big") & 0x7FF) - len(head) + 1)
            for piece in re.findall(rb"[^\x7e]*\x7e", frame):
                if piece == end:
                    self.pieces[-1] += end
                    piece = b""
                self.pieces.append(piece)
        return self.pieces.pop(0)

    def ask(self, apdu):
        self.sent = bytes(apdu)
        self.answers, self.got = self.answers + 1, bytes(self.transport.send_request(self.sent))
        return self.got

    def trade(self, frame, stack, reply):
        """A frame of Gurux, and all that answers it."""
        self.socket.sendall(frame)
        data, octets = GXByteBuffer(), b""
        while not stack.getData(data, reply, None):
            more = self.socket.recv(4096)
            if not more:
                raise ConnectionError("the meter closed the connection")
            octets += more
            information = octets[8:-3]
            if information[:3] == b"\xe6\xe7\x00":
                self.answers, self.got = self.answers + 1, information[3:]
            data.set(bytearray(more))


# System titles end in the client's number: each client has a counter of its own under the same key, and title and
# counter are the nonce.

# ---- Gurux --------------------------------------------------------------------------------------------------------
class Gurux:
    name = "gurux"
    title = b"GXC\0\0\0\0"

    def __init__(self, wire, level, options, counter, **other):
        self.wire, self.level = wire, level
        secrets = vars(options) | other
        authentication, password = Authentication.NONE, None
        if level.startswith("reader"):
            authentication, password = Authentication.LOW, secrets["lls"]
        elif level in HIGH and options.mechanism == 2:
            authentication, password = Authentication.HIGH, secrets["hls_secret"]
        elif level in HIGH:
            authentication = Authentication.HIGH_GMAC
        self.hdlc = isinstance(wire, HdlcWire)
        interface = InterfaceType.HDLC if self.hdlc else InterfaceType.WRAPPER
        self.stack = GXDLMSSecureClient(True, wire.client, 1, authentication, password, interface)
        if self.hdlc:
            self.stack.hdlcSettings.maxInfoTX = self.stack.hdlcSettings.maxInfoRX = options.max_info
            self.stack.hdlcSettings.windowSizeTX = self.stack.hdlcSettings.windowSizeRX = options.window
        self.stack.maxReceivePDUSize = MAX_PDU
        if options.block_window and level == "utility":
            self.stack.proposedConformance |= Conformance.GENERAL_BLOCK_TRANSFER
            self.stack.setGbtWindowSize(options.block_window)
        self.stack.useUtc2NormalTime = True
        ciphering = self.stack.ciphering
        ciphering.systemTitle = bytearray(self.title) + bytes([wire.client])
        ciphering.blockCipherKey = bytearray.fromhex(secrets["guek"])
        ciphering.authenticationKey = bytearray.fromhex(secrets["gak"])
        ciphered = level in COUNTER
        ciphering.security = Security.AUTHENTICATION_ENCRYPTION if ciphered else Security.NONE
        ciphering.invocationCounter = counter

    def ask(self, requests):
        reply = GXReplyData()
        for request in flat(requests):
            reply.clear()
            self.exchange(request, reply)
            while reply.isMoreData():
                self.exchange(self.stack.receiverReady(reply), reply)
        return reply

    def exchange(self, frame, reply):
        frame = bytes(frame)
        if self.hdlc:
            self.wire.trade(frame, self.stack, reply)
            expect(not reply.error, f"error {int(reply.error)}")
            return
        apdu = self.wire.ask(frame[8:])
        head = struct.pack(">HHHH", 1, 1, self.wire.client, len(apdu))
        self.stack.getData(GXByteBuffer(bytearray(head + apdu)), reply, None)
        expect(not reply.error, f"error {int(reply.error)}")

    def associate(self):
        if self.hdlc:
            self.stack.parseUAResponse(self.ask(self.stack.snrmRequest()).data)
        self.stack.parseAareResponse(self.ask(self.stack.aarqRequest()).data)
        if self.level in HIGH:
            proof = self.ask(self.stack.getApplicationAssociationRequest())
            self.stack.parseApplicationAssociationResponse(proof.data)

    def read(self, kind, name, attribute):
        return plain(self.ask(self.stack.read(thing(kind, name), attribute)).value)

    def by_range(self, name, start, stop):
        return plain(self.ask(self.stack.readRowsByRange(thing(PROFILE, name), start, stop)).value)

    def by_entry(self, name, first, last):
        return plain(self.ask(self.stack.readRowsByEntry(thing(PROFILE, name), first, last - first + 1)).value)

    def write(self, kind, name, attribute, wire, value):
        kinds = {"octets": DataType.OCTET_STRING, "boolean": DataType.BOOLEAN, "array": DataType.ARRAY}
        item = types.SimpleNamespace(
            name=name, objectType=ObjectType(kind), getValue=lambda *_: self.value(wire, value),
            getDataType=lambda _: kinds[wire], getUIDataType=lambda _: kinds[wire])
        self.ask(self.stack.write(item, attribute))

    def act(self, kind, name, method, wire, value):
        kinds = {"integer": DataType.INT8, "structure": DataType.STRUCTURE, "array": DataType.ARRAY,
                 "u16": DataType.UINT16}
        self.ask(self.stack.method(thing(kind, name), method, self.value(wire, value), kinds[wire]))

    def value(self, wire, value):
        if wire in ("structure", "array"):
            made = GXStructure() if wire == "structure" else GXArray()
            made.extend(self.value(*element) for element in value)
            return made
        kinds = {"octets": bytearray, "boolean": bool, "integer": GXInt8, "enum": GXEnum, "u16": GXUInt16, "u32": GXUInt32}
        return kinds[wire](value)

    def wrap(self, kek, key):
        return bytes(GXDLMSSecureClient.encrypt(bytearray(kek), bytearray(key)))

    def when(self, octets):
        settings = self.stack.settings
        moment = _GXCommon.changeType(settings, bytearray(octets), DataType.DATETIME).value
        return moment.replace(tzinfo=None)

    def largest_block(self):
        return MAX_PDU

    def release(self):
        self.ask(self.stack.releaseRequest())
        expect(self.wire.got[:1] == b"\x63", f"no RLRE: {self.wire.got.hex()}")
        if self.hdlc:
            self.ask(self.stack.disconnectRequest())


def thing(kind, name):
    made = GXDLMSClient.createObject(ObjectType(kind))
    made.logicalName = name
    return made


def flat(requests):
    if isinstance(requests, list):
        return [each for part in requests for each in flat(part)]
    return [requests] if requests else []


def plain(value):
    """Lists, numbers and bytes out of what a stack gives for a value."""
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    if isinstance(value, str):
        return value.encode("latin1")
    return bytes(value) if isinstance(value, bytearray) else value


# ---- dlms-cosem ---------------------------------------------------------------------------------------------------
class DlmsCosem:
    name = "dlms-cosem"
    title = b"DCS\0\0\0\0"

    def __init__(self, wire, level, options, counter, **other):
        self.wire = wire
        secrets = vars(options) | other
        authentication = dlms_security.NoSecurityAuthentication()
        if level.startswith("reader"):
            authentication = dlms_security.LowLevelSecurityAuthentication(secrets["lls"].encode())
        elif level in HIGH and options.mechanism == 2:
            secret = secrets["hls_secret"].encode()
            authentication = dlms_security.HighLevelSecurityCommonAuthentication(secret)
        elif level in HIGH:
            authentication = dlms_security.HighLevelSecurityGmacAuthentication(challenge_length=16)
        ciphered = level in COUNTER
        transport = types.SimpleNamespace(send_request=wire.ask)
        self.stack = DlmsClient(
            transport, authentication, bytes.fromhex(secrets["guek"]) if ciphered else None,
            bytes.fromhex(secrets["gak"]) if ciphered else None, max_pdu_size=MAX_PDU,
            client_system_title=self.title + bytes([wire.client]), client_initial_invocation_counter=counter)

    def associate(self):
        if isinstance(self.wire, HdlcWire):
            self.wire.transport.connect()
        self.stack.associate()

    def read(self, kind, name, attribute):
        return self.parsed(self.stack.get(self.attribute(kind, name, attribute)))

    def by_range(self, name, start, stop):
        restricting = CaptureObject(self.attribute(CLOCK, CLOCK_NAME, 2), 0)
        chosen = RangeDescriptor(restricting, start, stop)
        return self.parsed(self.stack.get(self.attribute(PROFILE, name, 2), chosen))

    def by_entry(self, name, first, last):
        raise Skipped("EntryDescriptor.to_bytes is not implemented")

    def write(self, kind, name, attribute, wire, value):
        answer = self.stack.set(self.attribute(kind, name, attribute), self.octets(wire, value))
        expect(answer.result == enums.DataAccessResult.SUCCESS, f"{answer.result}")

    def act(self, kind, name, method, wire, value):
        name = cosem.Obis.from_string(name)
        self.stack.action(cosem.CosemMethod(enums.CosemInterface(kind), name, method), self.octets(wire, value))

    def attribute(self, kind, name, attribute):
        return cosem.CosemAttribute(enums.CosemInterface(kind), cosem.Obis.from_string(name), attribute)

    def octets(self, wire, value):
        if wire in ("structure", "array"):
            elements = b"".join(self.octets(*element) for element in value)
            tag = dlms_data.DataStructure.TAG if wire == "structure" else dlms_data.DataArray.TAG
            return bytes([tag]) + dlms_data.encode_variable_integer(len(value)) + elements
        kinds = {"octets": dlms_data.OctetStringData, "integer": dlms_data.IntegerData, "enum": dlms_data.EnumData,
                 "u16": dlms_data.UnsignedLongData, "u32": dlms_data.DoubleLongUnsignedData}
        if wire == "boolean":       # BooleanData has no encoder
            return bytes([dlms_data.BooleanData.TAG, value])
        return kinds[wire](value).to_bytes()

    def parsed(self, octets):
        return plain(utils.parse_as_dlms_data(octets))

    def wrap(self, kek, key):
        return dlms_security.wrap_key(dlms_security.SecurityControlField(0, True, True), kek, key)

    def when(self, octets):
        return datetime_from_bytes(octets)[0].replace(tzinfo=None)

    def largest_block(self):
        """Lengths of 128 and more are written wrong by OctetStringData and GeneralGlobalCipher."""
        return 80

    def release(self):
        answer = self.stack.release_association()
        expect(type(answer).__name__ == "ReleaseResponse", f"no RLRE: {self.wire.got.hex()}")
        if isinstance(self.wire, HdlcWire):
            self.wire.transport.disconnect()


STACKS = {stack.name: stack for stack in (Gurux, DlmsCosem)}


# ---- associations -------------------------------------------------------------------------------------------------
class Peer:
    """A stack, and how to reach the meter with it."""

    def __init__(self, stack, options):
        self.stack, self.options = stack, options

    @contextlib.contextmanager
    def wired(self, level, counter=0, **other):
        wire = (HdlcWire if self.options.framing == "hdlc" else Wire)(self.options, CLIENT[level])
        try:
            yield self.stack(wire, level, self.options, counter, **other)
        finally:
            wire.close()

    @contextlib.contextmanager
    def associated(self, level, **other):
        """An open association, its counter read as the public client before; released at the end."""
        counter = self.counter(level) + 1 if level in COUNTER else 0
        with self.wired(level, counter, **other) as client:
            client.associate()
            yield client
            client.release()

    def counter(self, level):
        with self.associated("public") as client:
            return client.read(DATA, COUNTER[level], 2)

    def refused(self, level, **other):
        """That an association does not come about; what the meter said."""
        counter = self.counter(level) + 1 if level in COUNTER else 0
        with self.wired(level, other.pop("counter", counter), **other) as client:
            try:
                client.associate()
            except Exception as error:      # each stack has its own for this
                expect(client.wire.got, f"no answer: {error!r}")
                said = client.wire.got
            else:
                raise Failed("was associated")
            value = None
            with contextlib.suppress(Exception):
                value = client.read(CLOCK, CLOCK_NAME, 2)
            expect(value is None, f"refused with {said.hex()}, but the clock can be read")
            client.wire.got = said
            return client.wire


# ---- checks -------------------------------------------------------------------------------------------------------
def associates(level):
    def check(peer):
        with peer.associated(level) as client:
            octets = client.read(CLOCK, CLOCK_NAME, 2)
            return f"clock {client.when(octets)}"
    return check


def limits(peer):
    with peer.associated("public") as client:
        try:
            value = client.read(REGISTER, "1.0.1.8.0.255", 2)
        except Exception as error:
            return f"energy register: {error}"
        raise Failed(f"energy register readable as public client: {value}")


def objects(peer):
    with peer.associated("utility") as client:
        listed = client.read(ASSOCIATION, "0.0.40.0.0.255", 2)
    found = {(kind, ".".join(map(str, name))) for kind, _, name, _ in listed}
    wanted = {(CLOCK, CLOCK_NAME), (PROFILE, BLOCK), (PROFILE, DAILY), (RELAY, RELAY_NAME)}
    expect(wanted <= found, f"not in the list of {len(found)}: {wanted - found}")
    return f"{len(found)} objects"


def registers(peer):
    detail = []
    with peer.associated("utility") as client:
        for name, (channel, unit) in REGISTERS.items():
            scaler, got_unit = client.read(REGISTER, name, 3)
            value = client.read(REGISTER, name, 2) * 10.0 ** scaler
            expect(got_unit == unit, f"{name}: unit {got_unit}")
            truth = peer.options.held and peer.options.held["registers"][channel]
            expect(truth is None or 0 <= value - truth < 10_000, f"{name}: {value}, not {truth}")
            detail.append(f"{channel} {value:.0f}")
    return ", ".join(detail)


def scalers(peer):
    with peer.associated("utility") as client:
        columns = names(client.read(PROFILE, BLOCK, 3))
        scaled = names(client.read(PROFILE, SCALERS, 3))
        rows = client.read(PROFILE, SCALERS, 2)
    expect(set(scaled) <= set(columns), f"scalers of no column: {set(scaled) - set(columns)}")
    expect(len(rows) == 1 and len(rows[0]) == len(scaled), f"{len(rows)} rows for {len(scaled)} columns")
    return f"{len(scaled)} of {len(columns)} columns"


def names(captured):
    return [".".join(map(str, name)) for _, name, _, _ in captured]


def by_range(peer):
    hours = peer.options.hours
    with peer.associated("utility") as client:
        columns, period = names(client.read(PROFILE, BLOCK, 3)), client.read(PROFILE, BLOCK, 4)
        now = client.when(client.read(CLOCK, CLOCK_NAME, 2))
        stop = now.replace(minute=0, second=0, microsecond=0)
        start = stop - dt.timedelta(hours=hours)
        before = client.wire.answers
        rows = client.by_range(BLOCK, start, stop)
        answers = client.wire.answers - before
        ends = [client.when(row[0]) for row in rows]
    expect(rows and all(len(row) == len(columns) for row in rows), f"{len(rows)} rows of {len(columns)} columns")
    expect(all(start <= end <= stop for end in ends), f"outside the range: {ends[0]} to {ends[-1]}")
    steps = {(b - a).total_seconds() for a, b in zip(ends, ends[1:])}
    expect(all(step > 0 and step % period == 0 for step in steps), f"steps {steps} at a period of {period}")
    expect(len(rows) < 40 or answers > 1, "no block transfer")
    compare(peer, "block", columns, ends, rows)
    missing = hours * 3600 // period + 1 - len(rows)
    return f"{len(rows)} rows in {answers} answers, {missing} missing"


def compare(peer, profile, columns, ends, rows):
    """Every cell with what the meter says it holds."""
    if not peer.options.held:
        return
    truth = {dt.datetime.fromisoformat(row["end"]).replace(tzinfo=None): row["values"]
             for row in peer.options.held[profile]}
    for end, row in zip(ends, rows):
        if end not in truth:        # captured since
            continue
        for name, cell in zip(columns[1:], row[1:]):
            channel, unit = CHANNELS[name]
            expect(cell * unit == truth[end][channel], f"{end} {channel}: {cell * unit}, not {truth[end][channel]}")
    expect(set(ends) & set(truth), "nothing of what the meter holds")


def by_entry(peer):
    with peer.associated("utility") as client:
        columns, period = names(client.read(PROFILE, BLOCK, 3)), client.read(PROFILE, BLOCK, 4)
        rows = client.by_entry(BLOCK, 2, 4)
        ends = [client.when(row[0]) for row in rows]
        expect(len(rows) == 3, f"{len(rows)} rows for entries 2 to 4")
        expect(all((b - a).total_seconds() % period == 0 for a, b in zip(ends, ends[1:])), f"{ends}")
        compare(peer, "block", columns, ends, rows)
        same = client.by_range(BLOCK, ends[0], ends[-1])
    expect(same == rows, "by range they are different")
    return f"entries 2 to 4 from {ends[0]}"


def daily(peer):
    with peer.associated("utility") as client:
        columns = names(client.read(PROFILE, DAILY, 3))
        rows = client.read(PROFILE, DAILY, 2)
        ends = [client.when(row[0]) for row in rows]
    expect(rows and all(end.time() == dt.time() for end in ends), f"not at midnight: {ends}")
    compare(peer, "daily", columns, ends, rows)
    return f"{len(rows)} rows"


def relay(peer):
    def state():
        """Both attributes, of one moment: somebody may press the button between them."""
        while True:
            control = client.read(RELAY, RELAY_NAME, 3)
            output = bool(client.read(RELAY, RELAY_NAME, 2))
            if control == client.read(RELAY, RELAY_NAME, 3):
                return output, control
    with peer.associated("utility") as client:
        mode = client.read(RELAY, RELAY_NAME, 4)
        client.act(RELAY, RELAY_NAME, 1, "integer", 0)
        off = state()
        client.act(RELAY, RELAY_NAME, 2, "integer", 0)
        on = state()
    expect(off == (False, 0), f"after disconnect {off}")
    wanted = ((False, 2), (True, 1)) if mode in BUTTON_MODES else ((True, 1),)
    expect(on in wanted, f"after reconnect {on}, mode {mode}")
    return f"mode {mode}: {off}, {on}"


def events(peer):
    """What the relay did stands in the control log."""
    with peer.associated("utility") as client:
        for method in (1, 2):
            client.act(RELAY, RELAY_NAME, method, "integer", 0)
        rows = client.read(PROFILE, EVENTS, 2)
    codes = [code for _, code, *_ in rows[-2:]]
    expect(codes in ([301, 302], [302, 301]), f"last codes {codes}")
    return f"{len(rows)} events, the last {codes}"


def clock(peer):
    with peer.associated("utility") as client:
        octets = client.read(CLOCK, CLOCK_NAME, 2)
        was = client.when(octets)
        moved = with_time(octets, was + dt.timedelta(seconds=90))
        client.write(CLOCK, CLOCK_NAME, 2, "octets", moved)
        now = client.when(client.read(CLOCK, CLOCK_NAME, 2))
        client.write(CLOCK, CLOCK_NAME, 2, "octets", with_time(octets, now - dt.timedelta(seconds=90)))
    ahead = (now - was).total_seconds()
    expect(89 <= ahead <= 100, f"set to 90 s ahead, read {ahead} s ahead")
    return f"90 s ahead and back, deviation {octets[9:11].hex()}"


def with_time(octets, at):
    """The meter's own clock octets with another time, so that deviation and status stay what they were."""
    date = struct.pack(">HBBB", at.year, at.month, at.day, at.isoweekday())
    return date + bytes([at.hour, at.minute, at.second, 0]) + octets[9:]


def wrong_password(peer):
    return refusal(peer.refused("reader-plain", lls="not-it-at-all"))


def wrong_secret(peer):
    if peer.options.mechanism == 2:
        return refusal(peer.refused("utility", hls_secret="6543210987654321"))
    return refusal(peer.refused("utility", gak=os.urandom(16).hex()))


def refusal(wire):
    """How the meter said no."""
    result = wire.got.find(b"\xa2\x03\x02\x01")
    accepted = wire.got[0] == 0x61 and wire.got[result + 4] == 0
    expect(wire.got[0] in (0x61, 0xC7, 0xCF, 0xD8, 0xDB) and not accepted, f"answer {wire.got.hex()}")
    return f"answer {wire.got[:16].hex()}"


def wrong_counter(peer):
    seen = peer.counter("utility")
    wire = peer.refused("utility", counter=seen)
    return f"{seen} again: told to use {wire.refused_counter()}"


def replay(peer):
    with peer.associated("utility") as client:
        client.read(CLOCK, CLOCK_NAME, 2)
        client.wire.ask(client.wire.sent)
        told = client.wire.refused_counter()
        client.read(CLOCK, CLOCK_NAME, 2)
    return f"told to use {told}; the association goes on"


def key(peer):
    options, fresh = peer.options, {"guek": os.urandom(16).hex(), "gak": os.urandom(16).hex()}
    kek = bytes.fromhex(options.kek)
    with peer.associated("utility") as client:
        wrapped = [("structure", [("enum", number), ("octets", client.wrap(kek, bytes.fromhex(fresh[name])))])
                   for number, name in ((0, "guek"), (2, "gak"))]
        client.act(SECURITY, SECURITY_NAME, 2, "array", wrapped)
        client.read(CLOCK, CLOCK_NAME, 2)       # the old keys hold until the association ends
    old = {name: getattr(options, name) for name in fresh}
    vars(options).update(fresh)
    with peer.associated("utility") as client:
        client.read(CLOCK, CLOCK_NAME, 2)
    said = refusal(peer.refused("utility", **old))
    return {"detail": f"associated under the new keys; under the old ones {said}"} | fresh


def firmware(peer):
    """The same as the client for that alone, who may do nothing else."""
    detail = image(peer, "firmware")
    with peer.associated("firmware") as client:
        try:
            client.act(RELAY, RELAY_NAME, 1, "integer", 0)
        except Exception as error:
            refused = str(error) or type(error).__name__
        else:
            # dlms-cosem gives the result of an action in the clear instead of raising it.
            refused = f"answer {client.wire.got[:16].hex()}"
        client.read(CLOCK, CLOCK_NAME, 2)
    with peer.associated("utility") as client:
        expect(bool(client.read(RELAY, RELAY_NAME, 2)), "client 80 switched the relay")
    return f"{detail}; relay: {refused}"


def image(peer, level="utility"):
    octets = bytes(i * 7 & 0xFF for i in range(2345))
    with peer.associated(level) as client:
        size = client.read(IMAGE, IMAGE_NAME, 2)
        if size > client.largest_block():
            raise Skipped(f"cannot send blocks of {size}: lengths above 127 are written wrong")
        client.write(IMAGE, IMAGE_NAME, 5, "boolean", True)
        client.act(IMAGE, IMAGE_NAME, 1, "structure", [("octets", b"PEER-2"), ("u32", len(octets))])
        blocks = [octets[i:i + size] for i in range(0, len(octets), size)]
        for number, block in enumerate(blocks):
            if number != 2:
                send_block(client, number, block)
        first = client.read(IMAGE, IMAGE_NAME, 4)
        expect(first <= 2, f"block 2 was not sent, first not transferred {first}")
        resent = 0
        while first < len(blocks):
            expect(resent < len(blocks), f"block {first} still not transferred")
            send_block(client, first, blocks[first])
            resent, first = resent + 1, client.read(IMAGE, IMAGE_NAME, 4)
        tries = verified(client)
        client.act(IMAGE, IMAGE_NAME, 4, "integer", 0)
        status = client.read(IMAGE, IMAGE_NAME, 6)
    expect(status in (5, 6), f"status {status} after activation")
    return f"{len(blocks)} blocks of {size}, {resent} sent again, verified at the {tries}. time of asking"


def send_block(client, number, block):
    client.act(IMAGE, IMAGE_NAME, 2, "structure", [("u32", number), ("octets", block)])


def verified(client):
    """How often it had to be asked: a temporary failure says that it is not done yet."""
    for tries in range(1, 10):
        try:
            client.act(IMAGE, IMAGE_NAME, 3, "integer", 0)
            return tries
        except Exception as error:
            status = client.read(IMAGE, IMAGE_NAME, 6)
            expect(status in (1, 2, 3), f"status {status} after {error}")
    raise Failed("never verified")


def release(peer):
    """After it, what belonged to the association is refused."""
    with peer.wired("public") as client:
        client.associate()
        client.read(CLOCK, CLOCK_NAME, 2)
        asked = client.wire.sent
        client.release()
        answer = client.wire.ask(asked)
    expect(answer[0] == 0xD8, f"a read after the release was answered with {answer.hex()}")
    return f"then {answer.hex()}"


def billing(peer):
    """A cycle is closed by the script of the demand, and a date that is written is the meter's."""
    with peer.associated("utility") as client:
        before = client.read(PROFILE, BILLING, 7)
        time.sleep(1.1)             # what is closed twice within a second is closed once
        client.act(SCRIPTS, RESET_NAME, 1, "u16", 1)
        after, closed = client.read(PROFILE, BILLING, 7), client.when(client.read(DATA, BILLING_DATE, 2))
        shown = client.when(client.read(CLOCK, CLOCK_NAME, 2))
        tenth = bytes([255, 255, 255, 10, 255])
        client.write(SCHEDULE, BILLING_TIMES, 4, "array", [("structure", [("octets", bytes(4)), ("octets", tenth)])])
        (at, date), = client.read(SCHEDULE, BILLING_TIMES, 4)
    expect(after == before + 1, f"{before} cycles before, {after} after")
    expect(abs((shown - closed).total_seconds()) < 120, f"closed at {closed}, the clock shows {shown}")
    expect((bytes(at), bytes(date)) == (bytes(4), tenth), f"{at} {date}")
    return f"{after} cycles, the last closed at {closed}"


def broadcast(peer):
    """A set for many meters under a broadcast key that was transferred, sealed by dlms-cosem; it is not answered."""
    if peer.stack is Gurux:
        raise Skipped("its ciphering has no broadcast key")
    options, gbek = peer.options, os.urandom(16)
    with peer.associated("utility") as client:
        wrapped = client.wrap(bytes.fromhex(options.kek), gbek)
        client.act(SECURITY, SECURITY_NAME, 2, "array", [("structure", [("enum", 1), ("octets", wrapped)])])
    control = dlms_security.SecurityControlField(0, True, True, broadcast_key=True)
    with peer.associated("utility") as client:
        was = client.read(DATA, MODE_NAME, 2)
        # Set, not confirmed, of the payment mode.
        name = bytes(int(part) for part in MODE_NAME.split("."))
        request = bytes([0xC1, 1, 2, 0, DATA]) + name + bytes([2, 0, 0x11, 1 - was])
        title = client.title + bytes([client.wire.client])
        sealed = dlms_security.encrypt(control, title, 7, gbek, request, bytes.fromhex(options.gak))
        content = control.to_bytes() + struct.pack(">I", 7) + sealed
        frame = struct.pack(">HHHHBB", 1, client.wire.client, 1, len(content) + 2, 0xC9, len(content)) + content
        client.wire.socket.sendall(frame)
        now = client.read(DATA, MODE_NAME, 2)
        expect(now == 1 - was, f"{was} before, {now} after")
        # The same once more is a counter that was used.
        client.wire.socket.sendall(frame)
        said = client.wire.receive(struct.unpack(">HHHH", client.wire.receive(8))[3])
        expect(said == bytes.fromhex("d8010600000008"), f"a copy was answered with {said.hex()}")
    return f"payment mode {was} to {1 - was}"


CHECKS = {
    "public": associates("public"), "reader-plain": associates("reader-plain"), "reader": associates("reader"),
    "utility": associates("utility"), "limits": limits, "objects": objects, "registers": registers, "scalers": scalers,
    "range": by_range, "entry": by_entry, "daily": daily, "relay": relay, "events": events, "clock": clock,
    "image": image, "firmware": firmware,
    "wrong-password": wrong_password, "wrong-secret": wrong_secret, "wrong-counter": wrong_counter, "replay": replay,
    "release": release, "key": key}
# What not every meter has; only those that are named are run.
MORE = {"billing": billing, "broadcast": broadcast}


def run(name, peer):
    """The line of one check."""
    line = {"check": name, "stack": peer.stack.name}
    signal.alarm(CHECK_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):     # Gurux prints packets
            found = (CHECKS | MORE)[name](peer)
        return line | {"pass": True} | (found if isinstance(found, dict) else {"detail": found})
    except Skipped as why:
        return line | {"pass": "skipped", "detail": str(why)}
    except Exception as error:
        return line | {"pass": False, "detail": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)


def too_long(*_):
    raise Failed(f"took more than {CHECK_SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("guek")
    parser.add_argument("gak")
    parser.add_argument("check", nargs="*", metavar="CHECK", help=f"of {' '.join(CHECKS | MORE)}")
    parser.add_argument("--stack", choices=("both", *STACKS), default="both")
    parser.add_argument("--mechanism", type=int, choices=(2, 5), default=2, help="of client 48")
    parser.add_argument("--kek", default="000102030405060708090a0b0c0d0e0f")
    parser.add_argument("--lls", default="Urja1234")
    parser.add_argument("--hls-secret", default="1234567890123456")
    parser.add_argument("--hours", type=int, default=36, help="of the block load by range")
    parser.add_argument("--without", default="", help="checks left out, with commas")
    parser.add_argument("--truth", help="what meter.py wrote with --truth")
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--framing", choices=("wrapper", "hdlc"), default="wrapper")
    parser.add_argument("--block-window", type=int, default=0, help="of Gurux: general block transfer with such a window")
    parser.add_argument("--window", type=int, default=1, help="of Gurux in HDLC: frames that it asks for at once")
    parser.add_argument("--max-info", type=int, default=128, help="of Gurux in HDLC: bytes of information in a frame")
    options = parser.parse_intermixed_args()
    unknown = [name for name in options.check if name not in CHECKS | MORE]
    if unknown:
        parser.error(f"no check {' '.join(unknown)}")
    options.held = None
    if options.truth:
        with open(options.truth, encoding="utf-8") as file:
            options.held = json.load(file)
    wanted = [name for name in options.check or CHECKS if name not in options.without.split(",")]
    stacks = STACKS.values() if options.stack == "both" else [STACKS[options.stack]]
    failed = False
    signal.signal(signal.SIGALRM, too_long)
    for stack in stacks:
        for name in wanted:
            line = run(name, Peer(stack, options))
            failed |= line["pass"] is False
            print(json.dumps(line), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
