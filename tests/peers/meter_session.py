"""Sessions of meter.py: one client on one connection, from association to release."""
import hmac
import os
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from dlms_cosem import enumerations, security
from dlms_cosem.exceptions import DecryptionError
from dlms_cosem.protocol import acse, xdlms
from dlms_cosem.protocol.xdlms.conformance import Conformance
from gurux_dlms import GXEnum, GXInt8, GXUInt8, GXUInt16

from meter_axdr import Malformed, array, axdr, length, logical_name, parse, structure, take, take_length
from meter_objects import COUNTERS, DENIED, FIRMWARE, OK, READER, UTILITY, Object

PUBLIC = 16
CURRENT = "0.0.40.0.0.255"
FIRMWARE_SECURITY = "0.0.43.0.5.255"
UNDEFINED, INCONSISTENT, WRONG_TYPE, NO_LONG_GET, NO_LONG_SET, WRONG_BLOCK = 4, 9, 12, 16, 18, 19
NOT_POSSIBLE, NOT_SUPPORTED, OTHER_REASON, DECIPHERING, COUNTER = 1, 2, 3, 5, 6


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
                return self.release(apdu)
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
        wanted = {PUBLIC: (0, (False,)), READER: (1, (False, True)), UTILITY: (high, (True,)),
                  FIRMWARE: (high, (True,))}
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
        return self.aare(0, diagnostic, challenge, self.initiate_response())

    def initiate_response(self):
        """User information, ciphered where the association is."""
        conformance = Conformance.from_bytes(self.conformance.to_bytes(4, "big"))
        initiate = xdlms.InitiateResponse(conformance, self.meter.options.max_pdu)
        if self.ciphered:
            counter = self.meter.next_counter()
            text = self.sealed(counter, self.meter.keys[0], initiate.to_bytes())
            initiate = xdlms.GlobalCipherInitiateResponse(control_field(0x30), counter, text)
        return acse.UserInformation(initiate)

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

    def release(self, apdu):
        """A ciphered initiate in it uses up a counter like any other, and is answered with one."""
        initiate, information = None, None
        if len(apdu) > 2:       # the parser wants at least one field
            request = acse.ReleaseRequest.from_bytes(apdu)
            initiate = request.user_information and request.user_information.content
        if self.ciphered and isinstance(initiate, xdlms.GlobalCipherInitiateRequest):
            control = initiate.security_control.to_bytes()[0]
            self.open(control, initiate.invocation_counter, initiate.ciphered_text)
            information = self.initiate_response()
        self.meter.note("released", client=self.client, was=self.state)
        self.close()
        reason = enumerations.ReleaseResponseReason.NORMAL
        return acse.ReleaseResponse(reason=reason, user_information=information).to_bytes()

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

    def may_change(self, o):
        """Client 80 is there for the image alone, and for its own keys."""
        return self.client == UTILITY or self.client == FIRMWARE and (o.kind == 18 or o.name == FIRMWARE_SECURITY)

    def association(self):
        objects = [o for o in self.meter.objects.values() if self.may_see(o.kind, o.name)]
        context = bytearray.fromhex("60857405080103" if self.ciphered else "60857405080101")
        made = Object(15, CURRENT, {
            3: structure(GXInt8(self.client), GXUInt16(1)), 4: context, 8: GXEnum(2),
            6: bytearray.fromhex("608574050802") + bytes([self.mechanism])}, {}, {1: None}, 1)
        made.reads[2] = array(self.listed(o) for o in [*objects, made])
        return made

    def listed(self, o):
        writes = self.may_change(o)
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
        if not self.may_change(found) or index not in found.writes:
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
        if not self.may_change(found) or index not in found.methods:
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
