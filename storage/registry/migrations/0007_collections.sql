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
    is_first       INTEGER NOT NULL,    -- 1: no earlier line tells of this payment
    state          TEXT NOT NULL CHECK (state IN ('taken', 'booked', 'suspense', 'repeated', 'conflict', 'refused', 'settled')),
    said           TEXT NOT NULL DEFAULT ''
) STRICT;
-- A payment is one line; another one that tells of it is a repetition or contradicts it.
CREATE UNIQUE INDEX collection_payment ON collection (payment_id) WHERE is_first = 1;
CREATE INDEX collection_told ON collection (payment_id, number);
CREATE INDEX collection_to_book ON collection (number) WHERE state = 'taken';
-- Whose money waits for a process or a person.
CREATE INDEX collection_unsettled ON collection (account_number) WHERE state IN ('taken', 'conflict');
CREATE INDEX collection_open ON collection (number) WHERE state IN ('taken', 'conflict', 'refused');
CREATE INDEX collection_batch_lines ON collection (batch, state);

-- Payments and refunds by the statements of a channel.
CREATE TABLE statement_line (
    number         INTEGER PRIMARY KEY,
    channel        TEXT NOT NULL,
    day            INTEGER NOT NULL,    -- the statement's, days since 1970
    line           INTEGER NOT NULL,
    payment_id     TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('payment', 'refund')),
    amount_paise   INTEGER NOT NULL,
    fee_paise      INTEGER NOT NULL,
    account_number TEXT NOT NULL,       -- empty where it does not tell
    settlement     TEXT NOT NULL,       -- transfer to the bank; empty where it is part of none yet
    is_first       INTEGER NOT NULL,    -- 1: no line before it tells of this payment or refund
    adds_transfer  INTEGER NOT NULL,    -- 1: not first, and says the same with its transfer, or without
    state          TEXT NOT NULL CHECK (state IN ('open', 'agreed', 'closed')),
    is_settled     INTEGER NOT NULL DEFAULT 0 -- its transfer came as it was said
) STRICT;
CREATE UNIQUE INDEX statement_payment ON statement_line (payment_id, kind) WHERE is_first = 1;
CREATE INDEX statement_told ON statement_line (payment_id, kind, number);
CREATE INDEX statement_again ON statement_line (channel) WHERE is_first = 0;
CREATE INDEX statement_day ON statement_line (channel, day);
CREATE INDEX statement_open ON statement_line (channel) WHERE state = 'open';
CREATE INDEX statement_settlement ON statement_line (channel, settlement) WHERE settlement <> '';
CREATE INDEX statement_unsettled ON statement_line (channel) WHERE is_settled = 0;

-- Transfers by the bank's statements.
CREATE TABLE bank_line (
    number       INTEGER PRIMARY KEY,
    channel      TEXT NOT NULL,
    day          INTEGER NOT NULL,      -- the statement's of the channel with which it came
    settlement   TEXT NOT NULL,
    amount_paise INTEGER NOT NULL,
    is_settled   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX bank_day ON bank_line (channel, day);
CREATE INDEX bank_settlement ON bank_line (channel, settlement);
CREATE INDEX bank_unsettled ON bank_line (channel) WHERE is_settled = 0;

-- Payments and reversals of the ledger that no statement has told yet.
CREATE TABLE untold (
    payment_id TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('payment', 'refund')),
    channel    TEXT NOT NULL,
    PRIMARY KEY (payment_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX untold_channel ON untold (channel);

-- Up to where the ledger was looked through for each channel, and the newest report on it.
CREATE TABLE reconciliation (
    channel  TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    day      INTEGER NOT NULL,          -- the latest statement's
    report   TEXT NOT NULL              -- JSON
) STRICT, WITHOUT ROWID;
