"""A-XDR for meter.py: encoded by Gurux, parsed here."""
import datetime as dt
import struct

from gurux_dlms.GXArray import GXArray
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXStructure import GXStructure
from gurux_dlms.internal._GXCommon import _GXCommon

IST = dt.timezone(dt.timedelta(hours=5, minutes=30))


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
    """One value from the front of `octets`, and the rest. dlms-cosem would never come back from one that is cut off."""
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
