"""A head-end as it is put together from what others offer: Paho takes pushes from an MQTT broker, dlms-cosem checks,
deciphers and decodes them, psycopg copies the intervals into PostgreSQL, and only a committed batch is acknowledged.

Best set-up that was found: one process a core on a shared subscription, large batches, binary-free COPY, the primary
key as its only index. It charges at one flat rate: one UPDATE of the accounts of a batch, in its transaction.

    head_end.py BROKER_PORT POSTGRES_SOCKET KEYS EXPECTED WORKERS

KEYS: a line a meter, hexadecimal: title, encryption key, authentication key. Prints `ready` when all are subscribed and
`done SECONDS` when EXPECTED rows are committed, counted from the first message.
"""

import multiprocessing
import sys
import time

import paho.mqtt.client as mqtt
import psycopg
from dlms_cosem import time as dlms_time
from dlms_cosem import utils
from dlms_cosem.protocol.xdlms import DataNotification, GeneralGlobalCipher
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TOPIC = "$share/head-end/Normal_Push/bench"
WRAPPER = 8
HEAD = 3
BATCH = 2000
IN_FLIGHT = 10_000
COPY = (
    "COPY interval_reading (meter, interval_end, voltage_dv, import_wh, import_vah, export_wh, export_vah,"
    " current, neutral_current) FROM STDIN"
)
CHARGE = (
    "UPDATE account SET energy_wh = account.energy_wh + used.wh, balance_paise = balance_paise - used.wh * 650 / 1000"
    " FROM unnest(%s::text[], %s::int8[]) AS used (meter, wh) WHERE account.meter = used.meter"
)
ENERGY = 3


def decode(frame, keys):
    cipher = GeneralGlobalCipher.from_bytes(frame[WRAPPER:])
    guek, gak = keys[bytes(cipher.system_title)]
    push = DataNotification.from_bytes(cipher.to_plain_apdu(guek, gak))
    body = utils.parse_as_dlms_data(push.body)
    title = bytes(cipher.system_title).hex()
    rows = body[HEAD] if len(body) == HEAD + 1 else [body[HEAD - 1 :]]
    for clock, *values in rows:
        end, _ = dlms_time.datetime_from_bytes(clock)
        yield (title, end, *values)


def work(port, socket, keys, committed, ready):
    database = psycopg.connect(host=socket, user="postgres", dbname="postgres")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, manual_ack=True)
    batch = []

    def flush():
        rows = 0
        used = {}
        with database.cursor() as cursor:
            with cursor.copy(COPY) as copy:
                for message in batch:
                    for row in decode(message.payload, keys):
                        copy.write_row(row)
                        used[row[0]] = used.get(row[0], 0) + row[ENERGY]
                        rows += 1
            # In one order everywhere: two workers that charge the same accounts wait for each other in turn.
            cursor.execute(CHARGE, tuple(map(list, zip(*sorted(used.items())))))
        database.commit()
        for message in batch:
            client.ack(message.mid, message.qos)
        batch.clear()
        committed.put((time.time(), rows))

    client.on_message = lambda _client, _data, message: batch.append(message)
    client.on_subscribe = lambda *_: ready.release()
    connect = Properties(PacketTypes.CONNECT)
    connect.ReceiveMaximum = IN_FLIGHT
    client.connect("127.0.0.1", port, properties=connect)
    client.subscribe(TOPIC, qos=1)
    while True:
        before = len(batch)
        client.loop(timeout=0.01)
        if batch and (len(batch) >= BATCH or len(batch) == before):
            flush()


def main():
    port, socket, keys_file, expected, workers = sys.argv[1:]
    with open(keys_file, encoding="ascii") as lines:
        keys = {bytes.fromhex(t): (bytes.fromhex(e), bytes.fromhex(a)) for t, e, a in map(str.split, lines)}
    committed, ready = multiprocessing.Queue(), multiprocessing.Semaphore(0)
    processes = [
        multiprocessing.Process(target=work, args=(int(port), socket, keys, committed, ready), daemon=True)
        for _ in range(int(workers))
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    print("ready", flush=True)
    left = int(expected)
    while left > 0:
        at, rows = committed.get()
        left -= rows
    print("done", at, flush=True)


if __name__ == "__main__":
    main()
