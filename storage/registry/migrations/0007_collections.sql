-- Files of money that was taken elsewhere. Instants are microseconds since 1970, UTC.
CREATE TABLE collection_batch (
    number       INTEGER PRIMARY KEY,   -- in the order in which they came
    channel      TEXT NOT NULL CHECK (channel IN ('bbps', 'counter', 'agent', 'bank')),
    batch        TEXT NOT NULL,         -- its id at its source
    digest       BLOB NOT NULL CHECK (length(digest) = 16), -- of the file
    lines        INTEGER NOT NULL,
    amount_paise INTEGER NOT NULL,
    person       TEXT NOT NULL,
    at           INTEGER NOT NULL,
    UNIQUE (channel, batch)
) STRICT;

-- Their lines, and what came of each.
CREATE TABLE collection (
    number         INTEGER PRIMARY KEY,
    batch          INTEGER NOT NULL REFERENCES collection_batch (number),
    line           INTEGER NOT NULL,    -- of the file, from 1
    payment_id     TEXT NOT NULL,       -- channel, colon, id at its source: the ledger's key
    account_number TEXT NOT NULL,       -- as the file has it
    amount_paise   INTEGER NOT NULL CHECK (amount_paise > 0),
    paid_on        INTEGER NOT NULL,    -- civil day, days since 1970
    state          TEXT NOT NULL CHECK (state IN ('taken', 'booked', 'suspense', 'repeated', 'conflict', 'refused')),
    said           TEXT NOT NULL DEFAULT ''
) STRICT;
-- A payment is one line; another one that tells of it is a repetition or contradicts it.
CREATE UNIQUE INDEX collection_payment ON collection (payment_id) WHERE state NOT IN ('repeated', 'conflict');
CREATE INDEX collection_to_book ON collection (number) WHERE state = 'taken';
CREATE INDEX collection_batch_lines ON collection (batch, state);

-- Days of a channel that were held against its own statement and the bank's.
CREATE TABLE reconciliation (
    channel TEXT NOT NULL,
    day     INTEGER NOT NULL,           -- civil day, days since 1970
    person  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    report  TEXT NOT NULL,              -- JSON
    PRIMARY KEY (channel, day)
) STRICT, WITHOUT ROWID;

-- What a statement and the ledger both have: it is looked for no more.
CREATE TABLE reconciled (
    payment_id TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('payment', 'refund')),
    channel    TEXT NOT NULL,
    day        INTEGER NOT NULL,
    PRIMARY KEY (payment_id, kind),
    FOREIGN KEY (channel, day) REFERENCES reconciliation (channel, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX reconciled_day ON reconciled (channel, day);
