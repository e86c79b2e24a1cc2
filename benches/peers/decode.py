"""What D2 is measured against: PyPI's DLMS stacks take an encrypted push from bytes to typed values, another key each.

    decode.py FILE STACK [--rounds 5]

FILE: a JSON line an APDU: `title`, `guek`, `gak` and `hex` (general-glo-ciphering under control 0x30 with a
data-notification within), and if it is known `digest`, what its values add up to; one that does not is an error. STACK:
`dlms-cosem` or `gurux`. Prints a JSON line: `ns_per_apdu` in CPU time of the thread, the median of the rounds with half
the distance between quartiles in per cent, the number of `values` of the last APDU, a `checksum` over all values of all
APDUs, and whether the stack `authenticates`, that is, refuses a flipped tag.

Parsing JSON and hexadecimal, keys as the stack wants them, and adding up are not timed. The digest of an APDU is that
of `decode.rs`: over the values in order, those one level within included, `rotate_left(digest, 5) ^ value`, with
`len << 8 | last octet` for octets. The checksum folds the digests in the same way.
"""

import argparse
import importlib.metadata
import json
import logging
import statistics
import sys
import time

WORD = (1 << 64) - 1
WRAPPER = bytes.fromhex("0001000100400000")


class DlmsCosem:
    package = "dlms-cosem"

    def __init__(self):
        import structlog

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        from dlms_cosem import utils
        from dlms_cosem.protocol.xdlms import DataNotification, GeneralGlobalCipher

        self.cipher, self.push, self.parse = GeneralGlobalCipher, DataNotification, utils.parse_as_dlms_data

    def prepared(self, apdu, guek, gak):
        return apdu, guek, gak

    def decode(self, prepared):
        apdu, guek, gak = prepared
        plain = self.cipher.from_bytes(apdu).to_plain_apdu(guek, gak)
        return self.parse(self.push.from_bytes(plain).body)


class Gurux:
    package = "gurux-dlms"

    def __init__(self):
        import gurux_dlms.GXDLMSChippering
        import gurux_dlms.GXDLMSSettings
        from gurux_dlms import GXByteBuffer
        from gurux_dlms.AesGcmParameter import AesGcmParameter
        from gurux_dlms.enums import Authentication, InterfaceType
        from gurux_dlms.GXReplyData import GXReplyData
        from gurux_dlms.secure import GXDLMSSecureClient

        AesGcmParameter.settings = None     # read by the library, not always set by it
        for module in ("GXDLMSChippering", "GXDLMSSettings"):     # it prints a few lines on every packet
            sys.modules[f"gurux_dlms.{module}"].print = lambda *_: None
        self.buffer, self.reply = GXByteBuffer, GXReplyData
        self.client = GXDLMSSecureClient(True, 64, 1, Authentication.NONE, None, InterfaceType.WRAPPER)

    def prepared(self, apdu, guek, gak):
        frame = WRAPPER[:6] + len(apdu).to_bytes(2, "big") + apdu
        return bytearray(frame), bytearray(guek), bytearray(gak)

    def decode(self, prepared):
        frame, guek, gak = prepared
        ciphering = self.client.ciphering
        ciphering.blockCipherKey, ciphering.authenticationKey = guek, gak
        reply, push = self.reply(), self.reply()
        self.client.getData(self.buffer(frame), reply, push)
        return push.value


STACKS = {"dlms-cosem": DlmsCosem, "gurux": Gurux}


def add(digest, value):
    return ((digest << 5 | digest >> 59) & WORD) ^ (value & WORD)


def typed(digest, value):
    if isinstance(value, (bytes, bytearray)):
        return add(digest, len(value) << 8 | (value[-1] if value else 0))
    if isinstance(value, (list, tuple)):
        return add(digest, len(value))
    if value is None:
        return digest
    return add(digest, int(value))


def added_up(values):
    digest = 0
    for value in values:
        if isinstance(value, (list, tuple)):
            for inner in value:
                digest = typed(digest, inner)
        else:
            digest = typed(digest, value)
    return digest


def authenticates(stack, apdu, guek, gak):
    forged = apdu[:-1] + bytes([apdu[-1] ^ 1])
    try:
        stack.decode(stack.prepared(forged, guek, gak))
    except Exception:       # each stack has its own for this
        return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    stack = STACKS[options.stack]()
    with open(options.file, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    made = [tuple(bytes.fromhex(line[name]) for name in ("hex", "guek", "gak")) for line in lines]

    checksum, values = 0, []
    for number, (line, parts) in enumerate(zip(lines, made)):     # the warm-up, too
        values = stack.decode(stack.prepared(*parts))
        digest = added_up(values)
        if "digest" in line and digest != int(line["digest"]):
            sys.exit(f"APDU {number} adds up to {digest}, not to {line['digest']}")
        checksum = add(checksum, digest)

    rounds = []
    for _ in range(options.rounds):
        prepared = [stack.prepared(*parts) for parts in made]
        start = time.thread_time_ns()
        for each in prepared:
            stack.decode(each)
        rounds.append((time.thread_time_ns() - start) / len(prepared))
    median = statistics.median(rounds)
    quartiles = statistics.quantiles(rounds, n=4) if len(rounds) > 1 else [median] * 3
    print(json.dumps({
        "stack": options.stack, "version": importlib.metadata.version(stack.package), "apdus": len(made),
        "values": len(values), "ns_per_apdu": round(median), "rounds": options.rounds,
        "spread_percent": round(50 * (quartiles[2] - quartiles[0]) / median, 1), "checksum": checksum,
        "authenticates": authenticates(stack, *made[0])}))


if __name__ == "__main__":
    main()
