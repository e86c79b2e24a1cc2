#!/usr/bin/env python3
"""A single-phase Indian meter (profile is15959-d1) that shares no code with Urja: a DLMS server over TCP, in the wrapper or in HDLC.

  meter.py PORT TITLE GUEK GAK [--state FILE] [--truth FILE] [--fault KIND@N ...]

PORT 0 takes any; the first line printed is `{"port": ...}`. `--truth` writes what the meter holds, for whoever reads it
to compare; `--state` gets a JSON line for whatever happens to the meter. TITLE, GUEK and GAK are hexadecimal.

ACSE, initiate, GCM and GMAC are those of dlms-cosem, A-XDR is encoded by Gurux, key wrap is that of `cryptography`. The
session is ours: Gurux' own server for Python does not run, dlms-cosem has none. See README.md.
"""
import argparse
import json
import logging
import socket
import struct
import sys
import threading
import time

import structlog
from dlms_cosem import security
from gurux_dlms import GXBitString

from meter_axdr import axdr, clock, length, logical_name, structure
from meter_hdlc import FLAG, Hdlc
from meter_objects import FAULTS, Meter
from meter_session import Session, control_field

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

PUSH = 64


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
    return apdu


def wrapped(client, apdu):
    return struct.pack(">HHHH", 1, 1, client, len(apdu)) + apdu


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
            if sock.recv(1, socket.MSG_PEEK) == bytes([FLAG]):
                hdlc = Hdlc(sock, meter.options.max_info, meter.options.window)
                while True:
                    client, apdu = hdlc.take()
                    session = sessions.setdefault(client, Session(meter, client))
                    if not respond(meter, session, apdu, lambda answer: hdlc.answer(client, answer),
                                   lambda apdu: hdlc.push(PUSH, apdu)):
                        return
            while True:
                version, source, destination, count = struct.unpack(">HHHH", receive(sock, 8))
                apdu = receive(sock, count)
                if version != 1 or destination != 1 or not apdu:
                    meter.note("bad_frame", version=version, destination=destination)
                    return
                session = sessions.setdefault(source, Session(meter, source))
                if not respond(meter, session, apdu, lambda answer: sock.sendall(wrapped(source, answer)),
                               lambda apdu: sock.sendall(wrapped(PUSH, apdu))):
                    return
    except OSError as error:
        meter.note("closed", why=str(error))


def respond(meter, session, apdu, send, send_push):
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
    if before and not silent and not ends:
        send_push(before)
    if not silent and not ends:
        send(answer)
    return not ends


def introduce(meter, sock):
    line = {"port": sock.getsockname()[1], "system_title": meter.title.hex(), "serial": meter.serial}
    print(json.dumps(line), flush=True)


def listen(meter, port):
    with socket.create_server(("127.0.0.1", port)) as server:
        introduce(meter, server)
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(meter, sock), daemon=True).start()


def dial(meter, address):
    """The meter opens the connection, says who it is with a push, and answers."""
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), meter.options.idle)
    introduce(meter, sock)
    sock.sendall(wrapped(PUSH, push(meter)))
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
    parser.add_argument("--max-info", type=int, default=128, help="in HDLC: bytes of information in a frame")
    parser.add_argument("--window", type=int, default=1, help="in HDLC: frames before an acknowledgement")
    parser.add_argument("--counter", type=int, default=0, help="last invocation counter that the meter used")
    parser.add_argument("--seen", type=int, default=0, help="last invocation counter that it saw of its clients")
    parser.add_argument("--restart-counters", action="store_true", help="a new encryption key lets counters begin anew")
    parser.add_argument("--mode", type=int, choices=range(7), default=4, help="control mode of the relay")
    parser.add_argument("--relay", choices=("works", "fail", "stuck"), default="works")
    parser.add_argument("--button-ms", type=int, help="the button is pressed so long after the relay is ready for it")
    parser.add_argument("--image-block", type=int, default=200)
    parser.add_argument("--lose-image-block", type=int, help="accept this block once and keep nothing of it")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@N",
                        help=f"of {' '.join(FAULTS)}; KIND%%N for every Nth answer")
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
