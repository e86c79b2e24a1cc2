-- Numbers that only rise (last account, meter and outbox entry; what the waiting store dropped). Given out in the
-- transaction that uses them, so that ids are dense and never reused.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

-- The data key under the key-encryption key (RFC 3394). One row: a wrong key-encryption key fails here.
CREATE TABLE data_key (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    wrapped BLOB NOT NULL
) STRICT;

CREATE TABLE account (
    id                    INTEGER PRIMARY KEY,
    partition             INTEGER NOT NULL DEFAULT 0,
    number                TEXT NOT NULL UNIQUE,
    connection            TEXT NOT NULL CHECK (connection IN ('prepaid', 'postpaid')),
    tariff                TEXT NOT NULL,
    sanctioned_w          INTEGER NOT NULL,
    from_day              INTEGER NOT NULL, -- days since 1970-01-01
    opening_register_wh   INTEGER NOT NULL,
    opening_balance_paise INTEGER NOT NULL
) STRICT;

CREATE TABLE meter (
    id            INTEGER PRIMARY KEY,
    partition     INTEGER NOT NULL DEFAULT 0,
    title         BLOB NOT NULL UNIQUE CHECK (length(title) = 8),
    serial        TEXT NOT NULL UNIQUE,
    profile       TEXT NOT NULL,
    period_s      INTEGER NOT NULL,
    policy        TEXT NOT NULL CHECK (policy IN ('authenticated', 'transport')),
    policy_reason TEXT NOT NULL,
    account_id    INTEGER UNIQUE REFERENCES account (id),
    key_epoch     INTEGER NOT NULL,
    wrapped_keys  BLOB NOT NULL -- title, epoch, guek, gak under the data key (RFC 3394)
) STRICT;

-- A keyed digest of every key in use, so that a repeated key is refused without a key being stored.
CREATE TABLE meter_key (
    digest   BLOB PRIMARY KEY CHECK (length(digest) = 32),
    meter_id INTEGER NOT NULL REFERENCES meter (id),
    purpose  TEXT NOT NULL CHECK (purpose IN ('guek', 'gak'))
) STRICT, WITHOUT ROWID;

-- Facts of changes above, written in the transaction of the change and drained into the journal in order of id.
CREATE TABLE outbox (
    id   INTEGER PRIMARY KEY,
    fact BLOB NOT NULL -- a record's bytes as in the journal
) STRICT;

-- Frames whose system title is not registered yet.
CREATE TABLE waiting_frame (
    position    INTEGER PRIMARY KEY,
    title       BLOB NOT NULL CHECK (length(title) = 8),
    source      INTEGER NOT NULL,
    received_at INTEGER NOT NULL, -- microseconds since 1970, UTC
    raw         BLOB NOT NULL
) STRICT;
CREATE INDEX waiting_frame_title ON waiting_frame (title, position);

CREATE TABLE waiting_title (
    title  BLOB PRIMARY KEY,
    frames INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Positions that were dropped or taken in: a replay must not put them again.
CREATE TABLE waiting_done (
    position INTEGER PRIMARY KEY
) STRICT;
