#!/usr/bin/env python3
"""Pushes of single-phase Indian meters (profile is15959-d1), made by a DLMS stack that shares no code with Urja.

  push.py gen --out DIR [--seed 1] [--meters 8] [--count 200] [--kinds ...] [--ciphers 30,10] [--flips 0]
  push.py send --to tcp://HOST:PORT | udp://HOST:PORT | mqtt://HOST:PORT --file DIR/pushes.jsonl

`gen` writes accounts.csv and meters.csv for the registry, and pushes.jsonl: one push a line with its bytes (`hex`, in a
wrapper), the meter's keys, and `expected`: the readings (`end`, `values` by channel), the event word or the cells of a
bill that went in, never what somebody decoded. Bills (`billing`, `nic_billing`) are made when asked for: no profile
takes them in yet. A line with `expected` null has one bit of its tag flipped and must be refused.
`send` prints how many were sent and how many were acknowledged, and fails when an acknowledgement is missing.

A-XDR is encoded by Gurux, GCM is that of `cryptography`, MQTT that of Paho; see README.md.
"""
import argparse
import datetime as dt
import json
import pathlib
import random
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gurux_dlms import GXBitString, GXFloat32, GXInt16, GXUInt16, GXUInt32
from gurux_dlms.enums import DataType
from gurux_dlms.GXArray import GXArray
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXStructure import GXStructure
from gurux_dlms.internal._GXCommon import _GXCommon

IST = dt.timezone(dt.timedelta(hours=5, minutes=30))
HALF_HOUR = dt.timedelta(minutes=30)
KINDS = ("block", "daily", "instant", "esw", "nic_block")
BILLS = ("billing", "nic_billing")
SETUP = {"block": "0.5", "nic_block": "0.5", "daily": "0.6", "instant": "0.0", "esw": "0.4", "billing": "0.103",
         "nic_billing": "0.103"}
ESW_BITS = (3, 4, 6, 11, 12, 51, 81, 82, 83, 84, 85, 86, 87)
U16, U32, I16, BOOL, TIME = GXUInt16, GXUInt32, GXInt16, bool, None
# Channel, type on the wire, and what a unit on the wire is in units of the channel. Energies may be floats in kWh.
BLOCK = (("voltage_dv", U16, 1), ("import_wh", U32, 1), ("import_vah", U32, 1), ("export_wh", U32, 1),
         ("export_vah", U32, 1), ("current_ma", U16, 10), ("neutral_current_ma", U16, 10))
DAILY = (("import_wh", U32, 1), ("import_vah", U32, 1), ("export_wh", U32, 1), ("export_vah", U32, 1))
INSTANT = (("voltage_dv", U16, 1), ("current_ma", U16, 10), ("neutral_current_ma", U16, 10),
           ("power_factor_milli", I16, 1), ("frequency_mhz", U16, 10), ("power_va", U32, 1), ("power_w", U32, 1),
           ("import_wh", U32, 1), ("import_vah", U32, 1), ("demand_w", U32, 1), (None, TIME, 1),
           ("demand_va", U32, 1), (None, TIME, 1), ("power_on_min", U32, 1), ("tamper_count", U32, 1),
           ("billing_count", U32, 1), ("programming_count", U32, 1), ("export_wh", U32, 1), ("export_vah", U32, 1),
           ("relay_state", BOOL, 1), ("load_limit_w", U32, 1), ("power_fail_count", U32, 1))
COLUMNS = {"block": BLOCK, "nic_block": BLOCK, "daily": DAILY, "instant": INSTANT}


class Meter:
    """One meter: its keys, its registers and the time it has come to."""

    def __init__(self, seed, number, cipher, start):
        self.rng = random.Random(f"{seed}/{number}")
        self.number, self.cipher, self.now = number, cipher, start
        self.registers_told = start
        self.serial = f"GX{seed % 1000:03}{number:05}"
        self.title = b"GXP" + struct.pack(">HHB", seed & 0xFFFF, number, 1)
        self.guek, self.gak = self.rng.randbytes(16), self.rng.randbytes(16)
        self.counter, self.invoke_id = self.rng.randrange(1, 1000), self.rng.randrange(1 << 20)
        self.deviation = self.rng.choice((330, 330, -330, None))
        self.floats = self.rng.random() < 0.4
        self.opening = self.rng.randrange(200_000, 5_000_000)
        self.wh, self.vah = self.opening, self.opening + self.opening // 16
        self.account = f"PUVVNL{seed % 10_000:04}{number:06}"

    def authenticated(self):
        return self.cipher in ("10", "30")

    def interval(self):
        """The next half-hour."""
        self.now += HALF_HOUR
        wh = self.rng.choice((0, self.rng.randrange(5, 120), self.rng.randrange(20, 900)))
        vah, current = wh + wh // 12, wh * 200 // 230
        self.wh, self.vah = self.wh + wh, self.vah + vah
        return self.now, {
            "voltage_dv": self.rng.randrange(2050, 2490), "import_wh": wh, "import_vah": vah, "export_wh": 0,
            "export_vah": 0, "current_ma": current * 10, "neutral_current_ma": current * 10 + 10}

    def registers(self):
        return self.now, {"import_wh": self.wh, "import_vah": self.vah, "export_wh": 0, "export_vah": 0}

    def moment(self):
        at, registers = self.registers()
        draw = self.rng.randrange
        return at + dt.timedelta(seconds=draw(1, 1700)), registers | {
            "voltage_dv": draw(2050, 2490), "current_ma": draw(900) * 10, "neutral_current_ma": draw(900) * 10,
            "power_factor_milli": draw(-999, 1001), "frequency_mhz": draw(4970, 5030) * 10, "power_va": draw(3000),
            "power_w": draw(3000), "demand_w": draw(3000), "demand_va": draw(3000), "power_on_min": draw(99999),
            "tamper_count": draw(9), "billing_count": draw(99), "programming_count": draw(9), "relay_state": draw(2),
            "load_limit_w": 5000, "power_fail_count": draw(99)}

    def bill(self):
        """The 32 columns of a billing cycle in the order of D1: wire type and value; energies may be floats in kWh."""
        at = self.now.replace(hour=0, minute=0)
        zones = [self.rng.randrange(1, 90_000) for _ in range(8)]
        demands = [self.rng.randrange(3000) for _ in range(4)]
        energy = GXFloat32 if self.floats else U32
        def energies(values):
            return [(energy, value / 1000 if self.floats else value) for value in values]
        def demand(number):
            return [(U32, demands[number]), (TIME, at - dt.timedelta(hours=number + 1))]
        return [(TIME, at), (I16, self.rng.randrange(-999, 1001)), *energies([self.wh, *zones]),
                *energies([self.vah, *(zone + zone // 12 for zone in zones)]), *demand(0), *demand(1),
                (U32, self.rng.randrange(99_999)), *energies([0, 0]), *demand(2), *demand(3),
                (U32, self.rng.randrange(9999))]


def structure(elements, kind=GXStructure):
    made = kind()
    made.extend(elements)
    return made


def clock(at, deviation):
    """12 bytes; a deviation of None is not specified."""
    offset = 0x8000 if deviation is None else deviation & 0xFFFF
    return bytearray(struct.pack(">H7BHB", at.year, at.month, at.day, at.isoweekday(), at.hour, at.minute, at.second,
                                 0, offset, 0))


def cells(meter, kind, at, values):
    for channel, wire, unit in COLUMNS[kind]:
        if wire is TIME:
            yield clock(at, meter.deviation)
        elif channel.endswith(("_wh", "_vah")) and meter.floats:
            yield GXFloat32(values[channel] / 1000)
        else:
            yield wire(values[channel] // unit)


def body(meter, kind, rows, word):
    """The data of the push, encoded by Gurux."""
    setup = bytearray(int(part) for part in f"{SETUP[kind]}.25.9.0.255".split("."))
    stamp = clock(rows[-1][0], meter.deviation)
    head = [bytearray(f"GXP{meter.serial}".encode()), setup, stamp]
    if kind in BILLS:
        row = [clock(value, meter.deviation) if wire is TIME else wire(value) for wire, value in rows[0][1]]
        tail = row if kind == "billing" else [structure([structure(row)], GXArray)]
    elif kind == "esw":
        bits = GXBitString("".join("1" if bit in word else "0" for bit in range(128)))
        tail = [bits]
    elif kind == "nic_block":
        tail = [structure([structure([clock(at, meter.deviation), *cells(meter, kind, at, values)])
                           for at, values in rows], GXArray)]
    else:
        tail = cells(meter, kind, *rows[0])
    buffer = GXByteBuffer()
    _GXCommon.setData(None, buffer, DataType.STRUCTURE, structure([*head, *tail]))
    return bytes(buffer.array())


def length(number):
    if number < 128:
        return bytes([number])
    return bytes([0x81, number]) if number < 256 else b"\x82" + struct.pack(">H", number)


def protect(meter, apdu):
    """The APDU as general-glo-ciphering, under the meter's security control."""
    if meter.cipher == "plain":
        return apdu
    meter.counter += 1
    control, iv = bytes.fromhex(meter.cipher), meter.title + struct.pack(">I", meter.counter)
    if meter.cipher == "20":        # counter mode: GCM's first block is for the tag, data begin with block 2
        stream = Cipher(algorithms.AES(meter.guek), modes.CTR(iv + struct.pack(">I", 2))).encryptor()
        content = stream.update(apdu) + stream.finalize()
    elif meter.cipher == "10":
        content = apdu + AESGCM(meter.guek).encrypt(iv, b"", control + meter.gak + apdu)[:12]
    else:
        content = AESGCM(meter.guek).encrypt(iv, apdu, control + meter.gak)[:-4]
    content = control + struct.pack(">I", meter.counter) + content
    return b"\xdb\x08" + meter.title + length(len(content)) + content


def push(meter, kind):
    """One push: its bytes, and what went in."""
    word = sorted(meter.rng.sample(ESW_BITS, meter.rng.randrange(5)))
    if kind in BILLS:
        rows = [(meter.now, meter.bill())]
    elif kind == "nic_block":
        rows = [meter.interval() for _ in range(meter.rng.randrange(2, 13))]
    elif kind == "block":
        rows = [meter.interval()]
    elif kind == "daily":
        rows = [meter.registers()]
    else:
        rows = [meter.moment()]
    meter.invoke_id += 1
    head = b"\x0f" + struct.pack(">I", meter.invoke_id | 0x4000_0000)
    stamp = meter.rng.choice((b"\x00", b"\x0c" + clock(rows[-1][0], meter.deviation)))
    apdu = protect(meter, head + stamp + body(meter, kind, rows, word))
    if kind in BILLS:
        cells_of = [clock(value, meter.deviation).hex() if wire is TIME else value for wire, value in rows[0][1]]
        expected = {"cells": cells_of}
    elif kind == "esw":
        expected = {"readings": [], "event_bits": word}
    else:
        expected = {"readings": [{"end": at.isoformat(), "values": values} for at, values in rows]}
    return struct.pack(">HHHH", 1, 1, 64, len(apdu)) + apdu, expected


def generate(options):
    kinds, ciphers = options.kinds.split(","), options.ciphers.split(",")
    start = dt.datetime.fromisoformat(options.start).replace(tzinfo=IST)
    meters = [Meter(options.seed, n, ciphers[n % len(ciphers)], start) for n in range(options.meters)]
    rng, made = random.Random(options.seed), 0
    while made < options.count:
        meter = rng.choice(meters)
        at_midnight = meter.now.time() == dt.time() and meter.now > meter.registers_told
        wanted = [kind for kind in kinds if kind != "daily"]
        kind = "daily" if at_midnight and "daily" in kinds else rng.choice(wanted or ["block"])
        if kind == "daily":
            meter.registers_told = meter.now
        frame, expected = push(meter, kind)
        counter = None if meter.cipher == "plain" else meter.counter
        line = {"id": f"{options.seed}-{made}", "kind": kind, "cipher": meter.cipher, "counter": counter,
                "system_title": meter.title.hex(), "serial": meter.serial, "invoke_id": meter.invoke_id,
                "guek": meter.guek.hex(), "gak": meter.gak.hex()}
        made += 1
        if options.flips and meter.authenticated() and made % options.flips == 0:
            forged = frame[:-1] + bytes([frame[-1] ^ 1 << rng.randrange(8)])
            yield meter, line | {"id": line["id"] + "f", "hex": forged.hex(), "expected": None}
        yield meter, line | {"hex": frame.hex(), "expected": expected}


def gen(options):
    out, meters = pathlib.Path(options.out), {}
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "pushes.jsonl", "w", encoding="utf-8") as file:
        for meter, line in generate(options):
            meters[meter.number] = meter
            file.write(json.dumps(line) + "\n")
    accounts = ["account_number,category,sanctioned_kw,from,opening_register_kwh,opening_balance_rupees,connection"]
    keys = ["system_title,serial,guek,gak,profile,policy,account_number,policy_reason"]
    for _, m in sorted(meters.items()):
        register = f"{m.opening // 1000}.{m.opening % 1000:03}"
        accounts.append(f"{m.account},lmv1-urban,5,{options.start[:10]},{register},100.00,prepaid")
        policy = "authenticated," if m.authenticated() else "transport,"
        reason = "" if m.authenticated() else "generator without authentication"
        keys.append(f"{m.title.hex()},{m.serial},{m.guek.hex()},{m.gak.hex()},is15959-d1,{policy}{m.account},{reason}")
    (out / "accounts.csv").write_text("\n".join(accounts) + "\n", encoding="utf-8")
    (out / "meters.csv").write_text("\n".join(keys) + "\n", encoding="utf-8")


def confirms(stream):
    """Takes whole wrapper frames off the front of `stream`; the invoke ids of the confirms among them."""
    found = []
    while len(stream) >= 8 and len(stream) >= 8 + int.from_bytes(stream[6:8], "big"):
        end = 8 + int.from_bytes(stream[6:8], "big")
        if stream[8] == 0x10:
            found.append(int.from_bytes(stream[9:13], "big") & 0xFF_FFFF)
        del stream[:end]
    return found


def send_wrapper(kind, address, lines, options):
    """Acknowledged lines: each waits for its confirm; a forged one is not waited for."""
    acknowledged, stream = 0, bytearray()
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.connect(address)
        sock.settimeout(options.timeout)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for line in lines:
            sock.sendall(bytes.fromhex(line["hex"]))
            waiting = line["expected"] is not None
            while waiting:
                stream += sock.recv(65536)
                waiting = line["invoke_id"] not in confirms(stream)
                acknowledged += not waiting
    return acknowledged


def send_mqtt(address, lines, options):
    """Acknowledged lines: the broker has taken them on."""
    import paho.mqtt.client as mqtt
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=options.client_id, protocol=mqtt.MQTTv5)
    client.connect(*address)
    client.loop_start()
    told = []
    for line in lines:
        topic = options.event_topic if line["kind"] == "esw" else options.topic
        told.append(client.publish(topic.replace("{node}", line["serial"]), bytes.fromhex(line["hex"]), qos=1))
    deadline = time.monotonic() + options.timeout
    for publish in told:
        publish.wait_for_publish(max(deadline - time.monotonic(), 0))
    acknowledged = sum(publish.is_published() for publish in told)
    client.disconnect()
    client.loop_stop()
    return acknowledged


def send(options):
    scheme, place = options.to.split("://")
    host, port = place.rsplit(":", 1)
    address = (host, int(port))
    with open(options.file, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    if scheme == "mqtt":
        acknowledged, wanted = send_mqtt(address, lines, options), len(lines)
    else:
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[scheme]
        acknowledged = send_wrapper(kind, address, lines, options)
        wanted = sum(line["expected"] is not None for line in lines)
    print(json.dumps({"sent": len(lines), "acknowledged": acknowledged}))
    return 0 if acknowledged == wanted else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes_of = parser.add_subparsers(dest="mode", required=True)
    one = modes_of.add_parser("gen")
    one.add_argument("--out", required=True, help="directory for pushes.jsonl, meters.csv and accounts.csv")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--meters", type=int, default=8)
    one.add_argument("--count", type=int, default=200)
    one.add_argument("--kinds", default=",".join(KINDS))
    one.add_argument("--ciphers", default="30,10", help="dealt out to the meters: plain, 10, 20, 30")
    one.add_argument("--start", default="2026-06-01T00:00:00", help="a midnight in India")
    one.add_argument("--flips", type=int, default=0, help="before every so many pushes, one with a flipped tag")
    two = modes_of.add_parser("send")
    two.add_argument("--to", required=True)
    two.add_argument("--file", required=True)
    two.add_argument("--topic", default="Normal_Push/{node}")
    two.add_argument("--event-topic", default="Event_push/{node}")
    two.add_argument("--client-id", default="gurux-push")
    two.add_argument("--timeout", type=float, default=20, help="seconds to wait for an acknowledgement")
    options = parser.parse_args()
    return send(options) if options.mode == "send" else gen(options)


if __name__ == "__main__":
    sys.exit(main())
