-- Distribution transformer that an account hangs on; empty: not known, and its division counts as one.
ALTER TABLE account ADD COLUMN transformer TEXT NOT NULL DEFAULT '';

-- Tickets to open a relay or to close it again, and how far each has come. Instants are microseconds since 1970, UTC.
CREATE TABLE supply_command (
    number       INTEGER PRIMARY KEY,   -- in the order in which they were queued
    id           BLOB NOT NULL UNIQUE CHECK (length(id) = 16), -- UUID, version 7
    account_id   INTEGER NOT NULL REFERENCES account (id),
    meter_id     INTEGER NOT NULL REFERENCES meter (id),
    kind         TEXT NOT NULL CHECK (kind IN ('cut', 'reconnect')),
    reason       TEXT NOT NULL,
    evidence     TEXT NOT NULL,         -- what it was decided on, JSON
    since        INTEGER NOT NULL,      -- when its cause arose: of a reconnection, when the money was credited
    queued_at    INTEGER NOT NULL,
    expires_at   INTEGER,               -- not sent after that; a reconnection has no end
    seal         BLOB NOT NULL,         -- keyed digest of all of the above
    state        TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'ready', 'confirmed', 'cancelled', 'expired',
                                                'refused', 'failed', 'open_already', 'overtaken')),
    tries        INTEGER NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 4000000000),
    sent_at      INTEGER,               -- noted before it goes out
    ready_at     INTEGER,               -- the meter waits for its button to be pressed
    confirmed_at INTEGER,               -- the relay was read back as it should be
    event_at     INTEGER,               -- by the meter's own log
    ended_at     INTEGER,
    said         TEXT NOT NULL DEFAULT '',
    restored_at  INTEGER,               -- of a cut: when supply was back
    by_hand      INTEGER NOT NULL DEFAULT 0 -- of a cut: whether somebody closed the relay without a command of ours
) STRICT;
CREATE UNIQUE INDEX supply_command_open ON supply_command (account_id) WHERE state IN ('queued', 'sent', 'ready');
CREATE INDEX supply_command_sent ON supply_command (kind, sent_at);
CREATE INDEX supply_command_account ON supply_command (account_id, queued_at);
-- Whatever was said of a cut that went out: until a relay is read back as closed it may be open.
CREATE INDEX supply_command_cut ON supply_command (account_id)
    WHERE kind = 'cut' AND sent_at IS NOT NULL AND restored_at IS NULL;
CREATE INDEX supply_command_meter ON supply_command (meter_id);
CREATE INDEX account_transformer ON account (division, transformer);

-- Nothing is cut while there is a row.
CREATE TABLE cut_freeze (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    at      INTEGER NOT NULL,
    person  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    thaw_by TEXT,                       -- who asked to end it; another person has to approve
    thaw_at INTEGER
) STRICT;
CREATE INDEX credit_log_thaw ON credit_log (at) WHERE action = 'thaw cuts';
