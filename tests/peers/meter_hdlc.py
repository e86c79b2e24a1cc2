"""The data link of meter.py in HDLC: frames out of a socket, and whole APDUs of clients for its sessions.

A link for each client, one-byte addresses or longer, no negotiation beyond saying what the meter takes. The check is that
of dlms-cosem; the rest is ours, for that library has the client's side alone. See README.md.
"""
from dlms_cosem.crc import CRCCCITT

FLAG, RESPONSE = 0x7E, b"\xe6\xe7\x00"
SNRM, UA, DISC, DM, FRMR, UI = 0x93, 0x73, 0x53, 0x1F, 0x97, 0x13
CHECK = CRCCCITT()


class Link:
    """Numbers of one client's link, and what is on its way."""

    def __init__(self):
        self.sent, self.received, self.request, self.waiting, self.unacknowledged = 0, 0, b"", [], []


class Hdlc:
    """The meter's end of a connection; `take` gives (client, APDU) as requests become whole."""

    def __init__(self, sock, max_info, window):
        self.sock, self.max_info, self.window, self.links, self.buffer = sock, max_info, window, {}, b""
        self.limit, self.burst = max_info, window

    def take(self):
        while True:
            frame = self.frame()
            client, control = frame["source"], frame["control"]
            link = self.links.get(client)
            if control == SNRM:
                self.limit, self.burst = self.agreed(frame["information"])
                self.links[client] = Link()
                takes = bytes([5, 2, *self.limit.to_bytes(2, "big"), 6, 2, *self.max_info.to_bytes(2, "big"),
                               7, 4, 0, 0, 0, self.burst, 8, 4, 0, 0, 0, self.window])
                self.put(frame, UA, bytes([0x81, 0x80, len(takes)]) + takes)
            elif control == DISC:
                self.put(frame, UA if self.links.pop(client, None) else DM)
            elif control == UI:
                continue
            elif link is None:
                self.put(frame, DM)
            elif control & 1 == 0:
                if (control >> 1) & 7 == link.received:
                    link.received = (link.received + 1) & 7
                    link.request += frame["information"]
                    self.acknowledged(link, control >> 5)
                    if not frame["segmented"]:
                        request, link.request = link.request, b""
                        self.asking = frame
                        return client, request[3:]
                if control & 0x10:
                    self.put(frame, 0x11 | link.received << 5)
            elif control & 0x0F == 1:
                self.acknowledged(link, control >> 5)
                self.go_on(frame, link)

    def agreed(self, information):
        """What the client takes, of what this side has."""
        limit, burst, at = 128, 1, 3
        while at + 1 < len(information):
            kind, count = information[at], information[at + 1]
            value = int.from_bytes(information[at + 2:at + 2 + count], "big")
            limit, burst = (value if kind == 6 else limit), (value if kind == 8 else burst)
            at += 2 + count
        return min(limit, self.max_info), min(burst, self.window)

    def answer(self, client, apdu):
        link, octets = self.links[client], RESPONSE + apdu
        link.waiting = [octets[at:at + self.limit] for at in range(0, len(octets), self.limit)]
        self.go_on(self.asking, link)

    def go_on(self, frame, link):
        """Frames of a window, those without an acknowledgement again."""
        link.waiting = [part for _, part in link.unacknowledged] + link.waiting
        link.sent, link.unacknowledged = (link.sent - len(link.unacknowledged)) & 7, []
        count = min(self.burst, len(link.waiting))
        for at in range(count):
            part = link.waiting.pop(0)
            final = 0x10 if at + 1 == count else 0
            self.put(frame, link.received << 5 | final | link.sent << 1, part, bool(link.waiting))
            link.unacknowledged.append((link.sent, part))
            link.sent = (link.sent + 1) & 7
        if not count:
            self.put(frame, 0x11 | link.received << 5)

    def acknowledged(self, link, number):
        while link.unacknowledged and link.unacknowledged[0][0] != number:
            link.unacknowledged.pop(0)

    def put(self, asked, control, information=b"", segmented=False):
        addresses = asked["from"] + asked["to"]
        count = 2 + len(addresses) + 1 + 2 + (len(information) + 2 if information else 0)
        head = (0xA000 | segmented << 11 | count).to_bytes(2, "big") + addresses + bytes([control])
        if information:
            head += CHECK.calculate_for(head) + information
        self.sock.sendall(bytes([FLAG]) + head + CHECK.calculate_for(head) + bytes([FLAG]))

    def push(self, client, apdu):
        asked = {"from": bytes([client << 1 | 1]), "to": b"\x03"}
        octets = RESPONSE + apdu
        for at in range(0, len(octets), self.limit):
            self.put(asked, UI, octets[at:at + self.limit], at + self.limit < len(octets))

    def frame(self):
        """The next frame that is right; others are passed over."""
        while True:
            while self.buffer[:1] == b"\x7e" and self.buffer[1:2] == b"\x7e":
                self.buffer = self.buffer[1:]
            if len(self.buffer) >= 3:
                count = int.from_bytes(self.buffer[1:3], "big") & 0x07FF
                if self.buffer[0] != FLAG or self.buffer[1] >> 4 != 0xA:
                    raise ConnectionError("no frame of HDLC")
                if len(self.buffer) >= count + 2:
                    frame, self.buffer = self.buffer[1:count + 1], self.buffer[count + 1:]
                    if CHECK.calculate_for(frame[:-2]) == frame[-2:]:
                        return self.parsed(frame)
                    continue
            more = self.sock.recv(4096)
            if not more:
                raise ConnectionError("closed")
            self.buffer += more

    def parsed(self, frame):
        at = 2
        ends = []
        for _ in range(2):
            start = at
            while frame[at] & 1 == 0:
                at += 1
            at += 1
            ends.append(frame[start:at])
        return {"segmented": frame[0] & 8, "to": ends[0], "from": ends[1], "source": ends[1][0] >> 1,
                "control": frame[at], "information": frame[at + 3:-2]}
