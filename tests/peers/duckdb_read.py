#!/usr/bin/env python3
"""Reads a Delta table with DuckDB and prints its rows as JSON lines: a reader that shares no code with ours.

usage: duckdb_read.py TABLE_DIRECTORY [SQL]

SQL is a statement over the relation t (default: SELECT * FROM t). Each line is one row as a JSON object with sorted
keys; the lines are sorted, so that equal tables print equal text. Instants are microseconds since 1970 (UTC), dates
ISO 8601, binary values hexadecimal.

Needs duckdb and duckdb-extension-delta of the same version, and pytz; nothing is downloaded.
"""

import datetime
import json
import pathlib
import sys

import duckdb
import duckdb_extension_delta

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


def plain(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("a naive timestamp")
        return (value - EPOCH) // MICROSECOND
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return value


def main():
    directory = sys.argv[1]
    statement = sys.argv[2] if len(sys.argv) > 2 else "SELECT * FROM t"
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    # The extension lies in its own package: loaded by its path, nothing is looked for on a network.
    folder = pathlib.Path(duckdb_extension_delta.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection.execute(f"LOAD '{folder / 'delta.duckdb_extension'}'")
    quoted = directory.replace("'", "''")
    connection.execute(f"CREATE VIEW t AS SELECT * FROM delta_scan('{quoted}')")
    result = connection.execute(statement)
    names = [column[0] for column in result.description]
    lines = []
    while rows := result.fetchmany(10_000):
        for row in rows:
            lines.append(json.dumps(dict(zip(names, map(plain, row))), sort_keys=True, ensure_ascii=False))
    lines.sort()
    sys.stdout.write("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
