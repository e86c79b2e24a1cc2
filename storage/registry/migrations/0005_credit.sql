-- Part of the distribution company that an account is supplied by; empty: the company as a whole.
ALTER TABLE account ADD COLUMN division TEXT NOT NULL DEFAULT '';
-- Old dues taken over with it, beside its balance.
ALTER TABLE account ADD COLUMN opening_arrears_paise INTEGER NOT NULL DEFAULT 0;

-- Where supply may be cut for a balance below zero: where there is no row, nowhere.
CREATE TABLE cut_switch (
    division    TEXT PRIMARY KEY,
    asked_by    TEXT NOT NULL,
    asked_at    INTEGER NOT NULL, -- microseconds since 1970, UTC
    approved_by TEXT,             -- by another person; until then nothing is cut
    approved_at INTEGER
) STRICT, WITHOUT ROWID;

-- What holds a cut of one account.
CREATE TABLE cut_hold (
    account_id INTEGER NOT NULL REFERENCES account (id),
    kind       TEXT NOT NULL CHECK (kind IN ('protected', 'disputed')),
    reason     TEXT NOT NULL,
    person     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (account_id, kind)
) STRICT, WITHOUT ROWID;

-- Who changed any of the above, for ever.
CREATE TABLE credit_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    person  TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL, -- division or account number
    detail  TEXT NOT NULL
) STRICT;
